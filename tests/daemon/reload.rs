//! What an operator changes under a running server, and how one that drains ends.

use super::certificate;
use super::client::{Caller, Delivery, Peer, pattern};
use super::link::{Stream, Via};
use super::ports::LOOPBACK;
use super::server::{Scratch, Server};
use crate::wire_client::{BOB, allocate, permit, refresh};
use rustls::version::TLS13;
use serde_json::Value;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};
use turnpike::wire::integrity;

const CHANNEL: u16 = 0x4000;

/// Has the configuration read again; the line of the log that says what came of it.
fn reload(server: &Server, outcome: &str) -> Value {
    server.signal("HUP");
    serde_json::from_str(&server.log_until(outcome)).expect("a line of the log is JSON")
}

#[test]
fn a_reload_takes_new_users_and_keeps_the_sessions_of_old_ones() {
    let server = Server::start(&["workers=2"]);
    let udp = server.addr("udp", LOOPBACK[0]);
    let (mut alice, relayed) = Caller::allocated(Via::Udp, udp);
    let peer = Peer::new(LOOPBACK[0]);
    alice.permit(&[peer.addr()]);
    let mut dave = Caller::as_user(("dave", "denim"), Via::Udp, udp);
    assert_eq!(dave.ask(allocate()).code(), 401);

    server.write(
        "turnpike.toml",
        "realm = \"example.org\"\nworkers = 1\n[relay]\nallow_loopback_peers = true\nports = \"50000-50001\"\n\
         [tls]\ncert = \"cert.pem\"\nkey = \"key.pem\"\n\
         [http]\nlisten = \"\"\nadmin_listen = \"\"\nadmin_socket = \"\"\n\
         [auth]\nusers = { dave = \"denim\" }\n[limits]\nunverified_per_second = 0\n[log]\nformat = \"json\"\n",
    );
    let line = reload(&server, "\"reloaded\"");
    assert_eq!(line["applied"], "auth.users.alice, auth.users.bob, auth.users.dave");
    let line: Value = serde_json::from_str(&server.log_until("a restart is needed")).expect("it is JSON");
    let keys = line["keys"].as_str().expect("it names them");
    assert!(keys.contains("listen.udp") && !keys.contains("auth"), "{keys}");

    let mut dave = Caller::as_user(("dave", "denim"), Via::Udp, udp);
    assert_eq!(dave.code(allocate()), 0);
    assert_eq!(alice.code(refresh(600)), 0, "her session goes on");
    peer.send(relayed, &pattern(1, 100));
    alice.receive();
    assert_eq!(Caller::new(Via::Udp, udp).ask(allocate()).code(), 401, "she does not get another");
    server.stop();
}

#[test]
fn a_reload_warns_of_what_is_new_only() {
    let server = Server::start(&[]);
    let warned = || server.log_count("allow_loopback_peers = true lets every user");
    assert_eq!(warned(), 1, "at the start");
    for _ in 0..2 {
        reload(&server, "\"reloaded\"");
    }
    assert_eq!(warned(), 1, "not again");
    server.stop();
}

#[test]
fn a_faulty_configuration_is_refused_whole_and_the_old_one_stays() {
    let server = Server::start(&[]);
    let udp = server.addr("udp", LOOPBACK[0]);
    server.write("turnpike.toml", "[auth]\nusers = { eve = \"x\" }\nsecret = \"0123456789abcdef\"\n");
    server.signal("HUP");
    let line = server.log_until("reload refused");
    assert!(line.contains("the old configuration stays") && line.contains("turnpike.toml:3"), "{line}");
    assert_eq!(Caller::new(Via::Udp, udp).code(allocate()), 0);
    assert_eq!(Caller::as_user(("eve", "x"), Via::Udp, udp).ask(allocate()).code(), 401);
    server.signal("INT");
    assert_eq!(server.wait().0.code(), Some(0));
}

#[test]
fn a_tightened_policy_ends_permissions_that_it_forbids() {
    let server = Server::start(&[]);
    let (mut alice, relayed) = Caller::allocated(Via::Udp, server.addr("udp", LOOPBACK[0]));
    let peer = Peer::new(LOOPBACK[0]);
    alice.permit(&[peer.addr()]);
    server.write(
        "turnpike.toml",
        "realm = \"example.org\"\nworkers = 1\n[http]\nlisten = \"\"\nadmin_listen = \"\"\nadmin_socket = \"\"\n\
         [auth]\nusers = { alice = \"wonderland\" }\n[limits]\nunverified_per_second = 0\n[log]\nformat = \"json\"\n",
    );
    reload(&server, "\"reloaded\"");
    peer.send(relayed, b"no more");
    assert_eq!(alice.delivered(), []);
    assert_eq!(alice.code(permit(&[peer.addr()])), 403);
    server.stop();
}

#[test]
fn a_renewed_certificate_is_presented_to_new_connections() {
    let server = Server::start(&[]);
    let tls = server.addr("tls", LOOPBACK[0]);
    let (mut old, _) = Caller::allocated(Via::Tls13, tls);
    let renewed = rcgen::generate_simple_self_signed([certificate::NAME.to_owned()]).expect("it is made");
    server.write("cert.pem", &renewed.cert.pem());
    server.write("key.pem", &renewed.signing_key.serialize_pem());
    let line = reload(&server, "\"reloaded\"");
    assert_eq!(line["applied"], "tls.cert, tls.key");
    let trusting = |chain| Stream::tls(tls, certificate::client_of(chain, &[&TLS13], &[]));
    assert!(trusting(vec![renewed.cert.der().clone()]).is_ok());
    assert!(Stream::tls(tls, certificate::client(&[&TLS13], &[])).is_err(), "the old one is gone");
    assert_eq!(old.code(refresh(600)), 0, "who was there before has noticed nothing");
    server.stop();
}

#[test]
fn limits_and_how_much_is_logged_change_too() {
    let server = Server::start(&[]);
    let udp = server.addr("udp", LOOPBACK[0]);
    let _first = Caller::allocated(Via::Udp, udp);
    let configuration = |limits: &str, level: &str| {
        format!(
            "realm = \"example.org\"\nworkers = 1\n[http]\nlisten = \"\"\nadmin_listen = \"\"\nadmin_socket = \"\"\n\
             [auth]\nusers = {{ alice = \"wonderland\", bob = \"hodcarrier\" }}\n\
             [limits]\nunverified_per_second = 0\n{limits}\n[log]\nformat = \"json\"\nlevel = \"{level}\"\n"
        )
    };
    server.write("turnpike.toml", &configuration("allocations_per_user = 1", "debug"));
    let line = reload(&server, "\"reloaded\"");
    let applied = line["applied"].as_str().expect("it names them");
    assert!(applied.contains("limits.allocations_per_user") && applied.contains("log.level"), "{applied}");
    assert_eq!(Caller::new(Via::Udp, udp).code(allocate()), 486);
    let mut bob = Caller::as_user(BOB, Via::Udp, udp);
    assert_eq!(bob.code(allocate()), 0);
    server.log_until("\"allocated\"");
    server.write("turnpike.toml", &configuration("allocations = 2", "info"));
    reload(&server, "\"reloaded\"");
    assert_eq!(Caller::as_user(BOB, Via::Udp, udp).code(allocate()), 508);
    bob.end();
    assert_eq!(Caller::new(Via::Udp, udp).code(allocate()), 0);
    server.stop();
}

#[test]
fn a_certificate_that_is_renewed_needs_no_signal() {
    let server = Server::start(&[]);
    let tls = server.addr("tls", LOOPBACK[0]);
    let renewed = rcgen::generate_simple_self_signed([certificate::NAME.to_owned()]).expect("it is made");
    server.write("cert.pem", &renewed.cert.pem());
    server.write("key.pem", &renewed.signing_key.serialize_pem());
    server.log_until("\"reloaded\"");
    let chain = vec![renewed.cert.der().clone()];
    assert!(Stream::tls(tls, certificate::client_of(chain, &[&TLS13], &[])).is_ok());
    server.stop();
}

#[test]
fn a_draining_server_refuses_the_new_and_ends_with_the_last_of_the_old() {
    let server = Server::start(&["workers=2"]);
    let udp = server.addr("udp", LOOPBACK[0]);
    let (mut first, _) = Caller::allocated(Via::Udp, udp);
    let (mut second, _) = Caller::allocated(Via::Tcp, server.addr("tcp", LOOPBACK[0]));
    server.signal("USR1");
    server.log_until("draining");
    assert_eq!(Caller::new(Via::Udp, udp).code(allocate()), 508);
    assert_eq!(first.code(refresh(600)), 0);
    first.end();
    assert_eq!(second.code(refresh(600)), 0);
    second.end();
    let (status, _) = server.wait();
    assert_eq!(status.code(), Some(0));
}

#[test]
fn who_may_ask_for_credentials_and_from_where_changes_too() {
    let server = Server::start(&["http.listen=127.0.0.1:0"]);
    let public = server.told("http").strip_prefix("http://").expect("an address").parse().expect("an address");
    let ask = |key: &str, origin: &str| {
        let mut stream = Stream::plain(public);
        let head = format!("GET /turn?username=a&key={key} HTTP/1.1\r\nHost: localhost\r\nOrigin: {origin}");
        stream.send(format!("{head}\r\nConnection: close\r\n\r\n").as_bytes());
        let answer = String::from_utf8(stream.read_to_end()).expect("it is text").to_ascii_lowercase();
        let status: u16 = answer[9..12].parse().expect("a status");
        (status, answer.contains(&format!("access-control-allow-origin: {origin}\r\n")))
    };
    let (old, new) =
        (("an-api-key-of-old", "https://old.example.org"), ("an-api-key-of-new", "https://new.example.org"));
    for (now, then) in [(old, new), (new, old)] {
        server.write(
            "turnpike.toml",
            &format!(
                "realm = \"example.org\"\n[tls]\ncert = \"cert.pem\"\nkey = \"key.pem\"\n\
                 [auth]\nsecrets = [\"a secret of 24 bytes ...\"]\n\
                 [http]\nadmin_listen = \"\"\nadmin_socket = \"\"\napi_keys = [\"{}\"]\ncors_origins = [\"{}\"]\n\
                 [log]\nformat = \"json\"\n",
                now.0, now.1
            ),
        );
        let line = reload(&server, "\"reloaded\"");
        let applied = line["applied"].as_str().expect("it names them");
        assert!(applied.contains("http.api_keys, http.cors_origins"), "{applied}");
        assert_eq!(ask(now.0, now.1), (200, true));
        assert_eq!(ask(then.0, then.1), (403, false));
    }
    server.stop();
}

/// A configuration that alternates.
fn turned(turn: usize) -> String {
    let (password, limit, deny) = [("hodcarrier", 0, ""), ("bricklayer", 10_000, "\"198.51.100.0/24\"")][turn % 2];
    format!(
        "realm = \"example.org\"\nworkers = 2\n[tls]\ncert = \"cert.pem\"\nkey = \"key.pem\"\n\
         [relay]\nallow_loopback_peers = true\ndeny_peers = [{deny}]\n\
         [auth]\nusers = {{ alice = \"wonderland\", bob = \"{password}\" }}\n\
         [limits]\nunverified_per_second = 0\nallocations = {limit}\n[log]\nformat = \"json\"\n"
    )
}

/// Relays bursts both ways until it is told to stop; returns how many packets made the whole way. A lost one is a panic.
fn relay_until(mut client: Caller, relayed: SocketAddr, stop: &AtomicBool) -> u64 {
    const BURST: u64 = 16;
    let peer = Peer::new(LOOPBACK[0]);
    client.permit(&[peer.addr()]);
    client.bind(CHANNEL, peer.addr());
    let mut sent = 0;
    while !stop.load(Ordering::SeqCst) {
        let burst = sent..sent + BURST;
        burst.clone().for_each(|number| client.send_on(CHANNEL, &number.to_be_bytes()));
        for number in burst.clone() {
            let (payload, from) = peer.receive();
            assert_eq!((&payload, from), (&(&number.to_be_bytes()).into(), relayed));
            peer.send(relayed, &payload);
        }
        for number in burst.clone() {
            assert_eq!(client.receive(), Delivery::Channel(CHANNEL, (&number.to_be_bytes()).into()));
        }
        sent = burst.end;
    }
    sent
}

#[test]
fn a_thousand_reloads_under_load_lose_no_packet_and_no_memory() {
    let server = Server::start(&["workers=2", "http.admin_listen=127.0.0.1:0"]);
    let admin = server.told("admin").strip_prefix("http://").expect("an address").parse().expect("an address");
    let stop = AtomicBool::new(false);
    let reload = |turn: usize| {
        server.write("turnpike.toml", &turned(turn));
        let mut stream = Stream::plain(admin);
        stream.send(b"POST /api/v1/reload HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        let answer = String::from_utf8(stream.read_to_end()).expect("it is text");
        assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.contains("auth.users.bob"), "{answer}");
    };
    std::thread::scope(|scope| {
        // However this ends, the others end too.
        struct Stop<'a>(&'a AtomicBool);
        impl Drop for Stop<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::SeqCst);
            }
        }
        let load = [Via::Udp, Via::Tls13].map(|via| {
            let (client, relayed) = Caller::allocated(via, server.addr(via.listener(), LOOPBACK[0]));
            let stop = &stop;
            scope.spawn(move || relay_until(client, relayed, stop))
        });
        let ended = Stop(&stop);
        // What is kept for good is there after the first of them.
        (1..=200).for_each(reload);
        let before_kib = server.memory_kib();
        (201..=1000).for_each(reload);
        let grown_kib = server.memory_kib().saturating_sub(before_kib);
        drop(ended);
        let relayed = load.map(|thread| thread.join().expect("no packet is lost"));
        assert!(relayed.iter().all(|&packets| packets > 1_000), "{relayed:?} packets are no load");
        assert!(grown_kib < 4_096, "800 reloads took {grown_kib} KiB");
    });
    server.stop();
}

#[test]
fn a_secret_that_is_rotated_in_its_file_needs_no_signal_and_ends_no_session() {
    let scratch = Scratch::new();
    let file = scratch.path("secret");
    let (old, new) = ("the old secret of 24 byte", "the new secret of 24 byte");
    std::fs::write(&file, old).expect("the file is written");
    let server = Server::start(&[&format!("auth.secret_file={}", file.display())]);
    let tcp = server.addr("tcp", LOOPBACK[0]);
    let allocate_by = |secret: &str| {
        let now_s = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is later than 1970").as_secs();
        let name = format!("{}:carol", now_s + 600);
        let password = integrity::rest_password(secret.as_bytes(), name.as_bytes());
        let mut caller = Caller::as_user((&name, str::from_utf8(&password).expect("it is base64")), Via::Tcp, tcp);
        let code = caller.ask(allocate()).code();
        (caller, code)
    };
    let (mut there, code) = allocate_by(old);
    assert_eq!((code, allocate_by(new).1), (0, 401));
    // As a careful hand does it: the new file is complete when it gets the name.
    std::fs::write(scratch.path("next"), new).expect("the file is written");
    std::fs::rename(scratch.path("next"), &file).expect("the file is renamed");
    server.log_until("\"reloaded\"");
    assert_eq!((allocate_by(new).1, allocate_by(old).1), (0, 401));
    assert_eq!(there.code(refresh(600)), 0, "who was there before has noticed nothing");
    server.stop();
}

// FI-20
#[test]
fn a_users_file_that_is_cut_or_is_no_file_any_more_leaves_the_old_users() {
    let scratch = Scratch::new();
    let file = scratch.path("users");
    std::fs::write(&file, "carol:chorus\n").expect("the file is written");
    let server = Server::start(&[&format!("auth.users_file={}", file.display())]);
    let udp = server.addr("udp", LOOPBACK[0]);
    let allocates = |user| {
        let mut caller = Caller::as_user(user, Via::Udp, udp);
        let code = caller.ask(allocate()).code();
        if code == 0 {
            caller.end();
        }
        code
    };
    let (carol, dave) = (("carol", "chorus"), ("dave", "denim"));
    assert_eq!((allocates(carol), allocates(dave)), (0, 401));
    let pipe = || {
        let made = std::process::Command::new("mkfifo").arg(&file).status();
        assert!(made.expect("mkfifo is there").success());
    };
    let long = || std::fs::File::create(&file).and_then(|file| file.set_len(100 << 20)).expect("it takes no room");
    let puts: [(&str, &dyn Fn()); 6] = [
        ("the file holds no user", &|| std::fs::write(&file, "").expect("the file is written")),
        ("a user is written", &|| std::fs::write(&file, "dave:denim\ncar").expect("the file is written")),
        ("larger than 1 MiB", &long),
        ("no file", &pipe),
        ("is a directory", &|| std::fs::create_dir(&file).expect("it is made")),
        ("No such file", &|| ()),
    ];
    for (why, put) in puts {
        // What was there may be of another kind.
        let _ = std::fs::remove_file(&file).or_else(|_| std::fs::remove_dir(&file));
        put();
        server.signal("HUP");
        let line = server.log_until("reload refused").to_lowercase();
        assert!(line.contains(&why.to_lowercase()) && !line.contains("denim"), "{why}: {line}");
        assert_eq!((allocates(carol), allocates(dave)), (0, 401), "{why}");
    }
    std::fs::write(&file, "carol:chorus\ndave:denim\n").expect("the file is written");
    reload(&server, "\"reloaded\"");
    assert_eq!((allocates(carol), allocates(dave)), (0, 0));
    server.signal("INT");
    assert_eq!(server.wait().0.code(), Some(0));
}
