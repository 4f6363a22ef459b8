//! Strangers by the hundred thousand, each from an address of its own: they get short answers and leave nothing
//! behind, and a client among them notices nothing.
//!
//! The flood waits for the last answer of every batch, so that the kernel has room for all of it and every
//! datagram can be counted.

use super::client::{Caller, Delivery, Peer, pattern};
use super::link::{PATIENCE, Via};
use super::ports::LOOPBACK;
use super::server::Server;
use crate::wire_client::{ALICE, Client, allocate, binding, refresh};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use turnpike::turn::Transport;

/// Sources of the flood in the ordinary run.
const SOURCES: u32 = 5_000;
/// Sources of the long one.
const SOURCES_LONG: u32 = 100_000;
/// Sources that make the server touch what it needs anyway.
const WARM_UP: u32 = 1_000;
/// Sources of one batch.
const BATCH: u32 = 64;
/// Sources that a flood has in a second at most: their answers are within what all strangers together are answered.
const SOURCES_PER_SECOND: f64 = 5_000.0;
/// What a flood may cost the server, in KiB.
const GROWTH_MAX_KIB: u64 = 4_096;
const CHANNEL: u16 = 0x4000;

/// A stranger's socket; all of 127/8 is this host.
fn stranger(number: u32) -> UdpSocket {
    let ip = Ipv4Addr::from_bits(Ipv4Addr::new(127, 16, 0, 0).to_bits() + number);
    let socket = UdpSocket::bind((ip, 0)).expect("the kernel has a port");
    socket.set_read_timeout(Some(PATIENCE)).expect("a socket takes a timeout");
    socket
}

/// What a stranger sends.
struct Salvo {
    garbage: Vec<u8>,
    challenged: Vec<u8>,
    forged: Vec<u8>,
    ping: Vec<u8>,
}

impl Salvo {
    fn new(server: SocketAddr) -> Salvo {
        let nobody = Client::sender("127.16.0.1:9".parse().expect("an address"), server, Transport::Udp);
        let forger = Client { nonce: b"obMatJos2gAAA and nothing of ours".to_vec(), ..Client::new(nobody, ALICE) };
        let forger = Client { password: b"a guess".to_vec(), ..forger };
        Salvo {
            garbage: b"\x7fgarbage of no meaning".to_vec(),
            challenged: allocate().encode(),
            forged: forger.sign(allocate()),
            ping: binding().encode(),
        }
    }

    fn fire(&self, from: &UdpSocket, server: SocketAddr) {
        for datagram in [&self.garbage, &self.challenged, &self.forged, &self.ping] {
            from.send_to(datagram, server).expect("loopback takes a datagram");
        }
    }
}

/// Waits for the answer to what was sent last.
fn wait_for(socket: &UdpSocket, question: &[u8]) {
    let mut room = [0; 1500];
    loop {
        let len = socket.recv(&mut room).expect("a stranger is answered");
        if len >= 20 && room[8..20] == question[8..20] {
            return;
        }
    }
}

/// Every source in turn sends a salvo.
fn flood(server: SocketAddr, sources: std::ops::Range<u32>) {
    let (salvo, began) = (Salvo::new(server), Instant::now());
    let mut number = sources.start;
    while number < sources.end {
        let due = Duration::from_secs_f64(f64::from(number - sources.start) / SOURCES_PER_SECOND);
        std::thread::sleep(due.saturating_sub(began.elapsed()));
        let batch = number..sources.end.min(number + BATCH);
        number = batch.end;
        let sockets: Vec<UdpSocket> = batch.map(stranger).collect();
        sockets.iter().for_each(|socket| salvo.fire(socket, server));
        wait_for(sockets.last().expect("a batch is not empty"), &salvo.ping);
    }
}

/// A client goes on with all that it does until the flood is over; how many rounds that were.
fn carry_on(server: SocketAddr, is_over: &AtomicBool) -> usize {
    let peer = Peer::new(LOOPBACK[0]);
    let mut caller = Caller::new(Via::Udp, server);
    let mut rounds = 0;
    while !is_over.load(Ordering::Relaxed) {
        let relayed = caller.allocate(allocate());
        caller.bind(CHANNEL, peer.addr());
        for seed in 0..5 {
            caller.send_on(CHANNEL, &pattern(seed, 200));
            assert_eq!(peer.receive(), (pattern(seed, 200), relayed));
            peer.send(relayed, &pattern(seed + 1, 200));
            assert_eq!(caller.receive(), Delivery::Channel(CHANNEL, pattern(seed + 1, 200)));
        }
        caller.succeed(refresh(600));
        caller.end();
        rounds += 1;
    }
    rounds
}

fn requests(server: &Server, method: &str, code: &str) -> u64 {
    server.metric(&format!("turnpike_requests_total{{method=\"{method}\",code=\"{code}\"}}"))
}

#[test]
fn thousands_of_strangers_leave_no_byte_and_a_client_among_them_goes_on() {
    leave_no_byte(SOURCES);
}

#[test]
#[ignore = "takes minutes in a debug build"]
fn a_hundred_thousand_strangers_leave_no_byte_and_a_client_among_them_goes_on() {
    leave_no_byte(SOURCES_LONG);
}

/// Lets so many strangers send what they like, and a client go on meanwhile.
fn leave_no_byte(sources: u32) {
    let server = Server::start(&["limits.unverified_per_second=50", "http.admin_listen=127.0.0.1:0"]);
    let udp = server.addr("udp", LOOPBACK[0]);
    flood(udp, 0..WARM_UP);
    let (mut witness, _) = Caller::allocated(Via::Udp, udp);
    let figures = || {
        let malformed = server.metric("turnpike_dropped_packets_total{reason=\"malformed\"}");
        [malformed, requests(&server, "binding", "success"), requests(&server, "allocate", "401")]
    };
    let (files, before_kib, before) = (server.files(), server.status_kib("VmRSS"), figures());

    let is_over = AtomicBool::new(false);
    let began = Instant::now();
    let rounds = std::thread::scope(|scope| {
        let client = scope.spawn(|| carry_on(udp, &is_over));
        flood(udp, WARM_UP..WARM_UP + sources);
        is_over.store(true, Ordering::Relaxed);
        client.join().expect("the client is served throughout")
    });
    let took = began.elapsed();

    let grown_kib = server.status_kib("VmRSS").saturating_sub(before_kib);
    eprintln!("{sources} sources in {took:?}: {before_kib} KiB and {grown_kib} more; {rounds} rounds of a client");
    assert!(grown_kib <= GROWTH_MAX_KIB, "{grown_kib} KiB more than {before_kib}");
    assert!(rounds > 0 && server.files() == files);
    // Each datagram was answered or dropped, once; the client was challenged once.
    let sources = u64::from(sources);
    let counted: Vec<u64> = figures().iter().zip(before).map(|(after, before)| after - before).collect();
    assert_eq!(counted, [sources, sources, 2 * sources + 1]);
    assert_eq!(server.metric("turnpike_unverified_suppressed_total"), 0, "nobody sent more than he may");
    assert_eq!(server.metric("turnpike_connections"), 0);
    let allocations = server.metric("turnpike_allocations{transport=\"udp\",family=\"ipv4\"}");
    assert_eq!(allocations, 1, "the witness's");
    witness.succeed(refresh(600));
    server.stop();
}

// The long one: a machine that is asked by more than 40,000 strangers a second, which no debug build on a busy one is.
#[test]
#[ignore = "for a release build on a machine with nothing else to do"]
fn newcomers_get_their_challenge_while_strangers_use_up_the_total() {
    /// Whoever has asked so often is kept out: of ten who ask one is answered at least.
    const TRIES_MAX: u32 = 50;
    /// How long one who hears nothing waits: a source has no more than five tries a second in a crowd.
    const PAUSE: Duration = Duration::from_millis(250);
    /// Answers a second to all strangers: the total, and what a crowd gets beyond it.
    const ANSWERS_MAX: u64 = 40_000;
    let server = Server::start(&["limits.unverified_per_second=50", "http.admin_listen=127.0.0.1:0"]);
    let udp = server.addr("udp", LOOPBACK[0]);
    let (mut witness, _) = Caller::allocated(Via::Udp, udp);
    let question = allocate().encode();
    let (began, mut rounds, mut at_once, mut number, mut sent, mut most) = (Instant::now(), 0_u64, 0_u64, 0, 0_u64, 0);
    let mut fresh = || {
        number += 1;
        stranger(number)
    };
    let mut waiting: Vec<(UdpSocket, u32, Instant)> = Vec::new();
    // Each newcomer asks somewhere among the crowd, and elsewhere the next time.
    let place_of = |number: u32| (number.wrapping_mul(2_654_435_761) >> 8) % BATCH;
    while began.elapsed() < Duration::from_secs(20) {
        let crowd: Vec<UdpSocket> = (0..BATCH).map(|_| fresh()).collect();
        let now = Instant::now();
        waiting.push((fresh(), 0, now));
        let mut asked = 0;
        for (place, socket) in (0_u32..).zip(&crowd) {
            (0..8).for_each(|_| drop(socket.send_to(&question, udp)));
            for (asking, (newcomer, tries, due)) in (0_u32..).zip(&mut waiting) {
                if now >= *due && place_of(asking + rounds as u32) == place {
                    let _ = newcomer.send_to(&question, udp);
                    (*tries, *due, asked) = (*tries + 1, now + PAUSE, asked + 1);
                }
            }
        }
        sent += u64::from(BATCH) * 8 + asked;
        // What it is answered comes after all of the others.
        witness.succeed(refresh(600));
        waiting.retain_mut(|(newcomer, tries, _)| {
            newcomer.set_nonblocking(true).expect("a socket takes its options");
            let is_answered = newcomer.recv(&mut [0; 1500]).is_ok();
            assert!(is_answered || *tries < TRIES_MAX, "a newcomer asked {tries} times and heard nothing");
            at_once += u64::from(is_answered && *tries == 1);
            most = most.max(*tries);
            !is_answered
        });
        rounds += 1;
    }
    let seconds = began.elapsed().as_secs() + 1;
    let answered = requests(&server, "allocate", "401");
    let suppressed = server.metric("turnpike_unverified_suppressed_total");
    eprintln!(
        "{sent} requests from {number} sources in {seconds} s: {answered} answers, {suppressed} suppressed; \
         {at_once} of {rounds} newcomers were answered at their first try, and nobody asked more than {most} times"
    );
    let [of_all, of_newcomers] = [answered as f64 / sent as f64, at_once as f64 / rounds as f64];
    assert!(
        of_newcomers > of_all / 2.0,
        "who is new is kept out: {of_newcomers} of them, {of_all} of all are answered"
    );
    assert!(suppressed * 10 > sent, "the total was not used up: {suppressed} of {sent} were suppressed");
    assert!(answered <= ANSWERS_MAX * (seconds + 1), "{answered} answers in {seconds} s");
    assert_eq!(answered + suppressed, sent + 1, "each is answered or counted; the witness was challenged once");
    server.stop();
}
