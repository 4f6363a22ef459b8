//! Configurations and certificates that are replaced under a running server, well and badly.

use super::call::{Call, WATCHED};
use super::certificate;
use super::client::Caller;
use super::injection::times;
use super::link::{Stream, Via};
use super::ports::LOOPBACK;
use super::server::Server;
use crate::wire_client::{BOB, allocate};
use rustls::version::{TLS12, TLS13};
use std::fs;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// The metric that counts reloads that were refused.
const REFUSED: &str = "turnpike_reloads_refused_total";

/// A configuration of the tests; `bob` may differ.
fn valid(password: &str) -> String {
    format!(
        "realm = \"example.org\"\nworkers = 2\n[tls]\ncert = \"cert.pem\"\nkey = \"key.pem\"\n\
         [relay]\nallow_loopback_peers = true\n\
         [auth]\nusers = {{ alice = \"wonderland\", bob = \"{password}\" }}\n\
         [limits]\nunverified_per_second = 0\n[log]\nformat = \"json\"\n"
    )
}

/// Stops those who go on until it is dropped, also by a panic.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

// FI-17.
#[test]
fn whatever_a_configuration_turns_into_the_last_good_one_holds_and_calls_go_on() {
    let rounds = times(5, 125);
    let mut refusals = 0;
    let server = Server::start(&["workers=2", WATCHED]);
    let udp = server.addr("udp", LOOPBACK[0]);
    let stop = AtomicBool::new(false);
    let file = server.path("turnpike.toml");
    let whole = valid("bricklayer");
    // Cut within a value, so that it can not be read as a shorter one.
    let half = &whole[..whole.find("wonderland").expect("alice has a password") + 4];
    let is_bob = |password: &str| Caller::as_user((BOB.0, password), Via::Udp, udp).ask(allocate()).code();
    std::thread::scope(|scope| {
        let calls = [Via::Udp, Via::Tcp].map(|via| Call::begin(&server, via));
        let calls = calls.map(|mut call| {
            let stop = &stop;
            scope.spawn(move || {
                let mut packets = 0;
                while !stop.load(Ordering::SeqCst) {
                    call.exchange(10);
                    packets += 10;
                }
                call.goes_on();
                packets
            })
        });
        let ended = Stop(&stop);
        let mut refused = || {
            refusals += 1;
            server.signal("HUP");
            let line = server.log_until("reload");
            assert!(line.contains("the old configuration stays"), "{line}");
        };
        for round in 0..rounds {
            let passwords = [format!("one-{round}"), format!("two-{round}")];
            for password in &passwords {
                server.write("turnpike.toml", &valid(password));
                server.signal("HUP");
                assert!(server.log_until("reload").contains("\"reloaded\""));
            }
            for wrong in ["[auth]\nusers = 7\n", "nonsense", half, ""] {
                server.write("turnpike.toml", wrong);
                refused();
            }
            fs::remove_file(&file).expect("it is there");
            refused();
            fs::create_dir(&file).expect("the name is free");
            fs::write(file.join("part.toml"), "x = ").expect("the directory takes files");
            refused();
            fs::remove_dir_all(&file).expect("it is there");
            assert_eq!(is_bob(&passwords[1]), 0, "the last good one holds");
            assert_eq!(is_bob(&passwords[0]), 401, "and not the one before");
        }
        drop(ended);
        let packets = calls.map(|call| call.join().expect("no packet is lost"));
        assert!(packets.iter().all(|&packets| packets > 10), "{packets:?} packets are no load");
    });
    assert_eq!(server.metric(REFUSED), refusals);
    server.signal("INT");
    assert!(server.last_words().0.success());
}

/// A certificate of its own with its key, as files have them, and as clients trust it.
fn renewed(not_after: Option<i32>) -> (String, String, rustls::pki_types::CertificateDer<'static>) {
    let mut wanted = rcgen::CertificateParams::new(vec![certificate::NAME.to_owned()]).expect("the name is one");
    wanted.not_before = rcgen::date_time_ymd(2020, 1, 1);
    wanted.not_after = rcgen::date_time_ymd(not_after.unwrap_or(2120), 1, 1);
    let key = rcgen::KeyPair::generate().expect("the kernel gives random bytes");
    let cert = wanted.self_signed(&key).expect("it is made");
    (cert.pem(), key.serialize_pem(), cert.der().clone())
}

// FI-18.
#[test]
fn a_certificate_that_changes_all_the_time_fails_no_handshake_and_a_bad_one_never_shows() {
    let rounds = times(10, 500);
    let server = Server::start(&["workers=2", WATCHED]);
    let tls = server.addr("tls", LOOPBACK[0]);
    // Good pairs that take turns; a client trusts any of them.
    let good: Vec<_> = (0..4).map(|_| renewed(None)).collect();
    let own = rustls::pki_types::pem::PemObject::from_pem_slice(certificate::CERTIFICATE.as_bytes());
    let trusted = good.iter().map(|(.., der)| der.clone()).chain([own.expect("it is PEM")]);
    let client = certificate::client_of(trusted.collect(), &[&TLS13, &TLS12], &[b"stun.turn"]);
    let (stop, handshakes) = (AtomicBool::new(false), AtomicUsize::new(0));
    let mut call = Call::begin(&server, Via::Tls13);
    let bad = bad_pairs(&good);
    std::thread::scope(|scope| {
        let ended = Stop(&stop);
        for _ in 0..2 {
            scope.spawn(|| {
                while !stop.load(Ordering::SeqCst) {
                    let mut stream = Stream::tls(tls, client.clone()).expect("the handshake succeeds");
                    stream.send(&crate::wire_client::binding().encode());
                    assert!(stream.read(&mut [0; 1500]).expect("the server answers") > 0);
                    handshakes.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        for round in 0..rounds {
            let (cert, key, _) = &good[round % good.len()];
            replace(&server, Some(cert), Some(key));
            server.signal("HUP");
            assert!(server.log_until("reload").contains("\"reloaded\""), "round {round}");
            let (what, cert, key) = &bad[round % bad.len()];
            replace(&server, cert.as_deref(), key.as_deref());
            server.signal("HUP");
            let line = server.log_until("reload");
            assert!(line.contains("the old configuration stays"), "{what}: {line}");
            call.exchange(5);
        }
        drop(ended);
    });
    let handshakes = handshakes.load(Ordering::SeqCst);
    assert!(handshakes > rounds, "{handshakes} handshakes are no load");
    assert_eq!(server.metric(REFUSED), rounds as u64);
    call.goes_on();
    server.signal("INT");
    assert!(server.last_words().0.success());
}

/// What an operator's hand or tool may leave, and what is wrong with it.
fn bad_pairs(
    good: &[(String, String, rustls::pki_types::CertificateDer<'static>)],
) -> Vec<(&'static str, Option<String>, Option<String>)> {
    let (expired_cert, expired_key, _) = renewed(Some(2021));
    let [(cert, key, _), (_, other_key, _), ..] = good else { unreachable!("there are several") };
    vec![
        ("the key of another", Some(cert.clone()), Some(other_key.clone())),
        ("expired", Some(expired_cert), Some(expired_key)),
        ("no certificate", None, Some(key.clone())),
        ("no key", Some(cert.clone()), None),
        ("half a certificate", Some(cert[..cert.len() / 2].to_owned()), Some(key.clone())),
        ("nothing in it", Some(String::new()), Some(key.clone())),
        ("the key where the certificate should be", Some(key.clone()), Some(key.clone())),
    ]
}

/// Puts these in the place of certificate and key, or nothing.
fn replace(server: &Server, cert: Option<&str>, key: Option<&str>) {
    for (name, text) in [("cert.pem", cert), ("key.pem", key)] {
        match text {
            Some(text) => server.write(name, text),
            None => drop(fs::remove_file(server.path(name))),
        }
    }
}

// FI-21. The group of sockets that clients are spread over by their addresses is never made larger or smaller while it
// serves: another number of workers waits for the next start, and nobody else may join.
#[test]
fn another_number_of_workers_moves_no_client_that_is_there() {
    let server = Server::start(&["workers=3", WATCHED]);
    let mut calls: Vec<Call> = (0..24).map(|_| Call::begin(&server, Via::Udp)).collect();
    for workers in [1, 8, 2] {
        server.write("turnpike.toml", &valid("hodcarrier").replace("workers = 2", &format!("workers = {workers}")));
        server.signal("HUP");
        assert!(server.log_until("reload").contains("\"reloaded\""));
        calls.iter_mut().for_each(Call::goes_on);
    }
    assert_eq!(server.metric("turnpike_workers"), 3);
    let addr: SocketAddr = server.addr("udp", LOOPBACK[0]);
    assert!(std::net::UdpSocket::bind(addr).is_err(), "nobody joins");
    server.stop();
}
