//! What clients cost the host, and that it gets it back: files, ports, memory, connections that say nothing.

use super::certificate;
use super::client::{Caller, Delivery, Peer, pattern};
use super::inside::Inside;
use super::link::{Link, Stream, Via};
use super::ports::LOOPBACK;
use super::server::Server;
use crate::wire_client::{Reply, allocate, binding, refresh};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};
use turnpike::wire::attribute;

const CHANNEL: u16 = 0x4000;
/// Turns of waiting for something, each as long as an answer takes.
const TURNS_MAX: usize = 5_000;

/// Waits for what happens by itself.
pub fn wait_until(witness: &mut Caller, is_so: impl Fn() -> bool, what: &str) {
    for _ in 0..TURNS_MAX {
        if is_so() {
            return;
        }
        witness.echo();
    }
    panic!("it is not so that {what}");
}

#[test]
fn files_and_ports_come_back() {
    let server = Server::start(&["workers=2"]);
    let addr = |via: Via, ip| server.addr(via.listener(), ip);
    let mut witness = Caller::new(Via::Udp, addr(Via::Udp, LOOPBACK[0]));
    witness.echo();
    let before = server.files();
    let mut relayed = Vec::new();
    let mut callers: Vec<Caller> = (0..300)
        .map(|number| {
            let (via, ip) = (Via::ALL[number % 4], LOOPBACK[number / 4 % 2]);
            let mut caller = Caller::new(via, addr(via, ip));
            let reply = match number % 3 {
                0 => caller.succeed(allocate().with(attribute::ADDITIONAL_ADDRESS_FAMILY, [2, 0, 0, 0])),
                _ => caller.succeed(allocate()),
            };
            relayed.extend(reply.addresses(attribute::XOR_RELAYED_ADDRESS));
            caller
        })
        .collect();
    // A file for each relayed address and for each connection.
    assert_eq!(server.files(), before + 300 + 100 + 225);
    // UDP clients and every other one on a stream say goodbye, the rest just go.
    for (number, caller) in callers.iter_mut().enumerate() {
        if number % 4 == 0 || number % 8 > 4 {
            caller.end();
        }
    }
    drop(callers);
    wait_until(&mut witness, || server.files() == before, "the files are closed");
    let is_free = || relayed.iter().all(|addr| UdpSocket::bind(addr).is_ok());
    wait_until(&mut witness, is_free, "the ports are free");
    server.stop();
}

// A worker that serves nobody sleeps, and would not tell.
#[test]
fn free_ports_are_told_whichever_worker_gives_them_out() {
    let server = Server::start(&["workers=4", "http.admin_listen=127.0.0.1:0"]);
    let udp = server.addr("udp", LOOPBACK[0]);
    let mut witness = Caller::new(Via::Udp, udp);
    let all = server.metric("turnpike_ports_free");
    for _ in 0..10 {
        let (mut caller, _) = Caller::allocated(Via::Udp, udp);
        let told = |ports| server.metric("turnpike_ports_free") == ports;
        wait_until(&mut witness, || told(all - 1), "one is taken");
        caller.end();
        wait_until(&mut witness, || told(all), "it is given back");
    }
    server.stop();
}

// Else whoever looks early is told that there are none.
#[test]
fn free_ports_are_told_before_any_worker_has_begun() {
    // Mostly a thread is quicker than whoever looks.
    for _ in 0..30 {
        let inside = Inside::of(2);
        let told = inside.total(|stats| stats.ports_free.get());
        assert_eq!(told, 2 * inside.ports.relay().count() as u64, "those of both addresses");
    }
}

/// Asks on a stream that may have to wait until it is accepted.
fn is_answered(stream: &mut Stream, patience: Duration) -> bool {
    stream.tcp().set_read_timeout(Some(patience)).expect("TCP takes its options");
    match stream.read(&mut [0; 1500]) {
        Ok(len) => len > 0,
        Err(_) => false,
    }
}

#[test]
fn out_of_files_it_serves_on_and_recovers() {
    let server = Server::with_files(60);
    let (udp, tcp) = (server.addr("udp", LOOPBACK[0]), server.addr("tcp", LOOPBACK[0]));
    let ask = || {
        let mut stream = Stream::plain(tcp);
        stream.send(&binding().encode());
        stream
    };
    let (mut served, mut waiting) = (Vec::new(), Vec::new());
    while waiting.is_empty() {
        let mut stream = ask();
        match is_answered(&mut stream, Duration::from_millis(500)) {
            true => served.push(stream),
            false => waiting.push(stream),
        }
        assert!(served.len() < 60, "a connection takes a file");
    }
    waiting.extend((0..10).map(|_| ask()));
    // No file for a relayed address either, and the client is told so.
    let mut caller = Caller::new(Via::Udp, udp);
    assert_eq!(caller.code(allocate()), 508);
    assert!(served.iter_mut().all(|stream| {
        stream.send(&binding().encode());
        is_answered(stream, Duration::from_secs(5))
    }));
    drop(served);
    assert!(waiting.iter_mut().all(|stream| is_answered(stream, Duration::from_secs(5))));
    assert_eq!(caller.code(allocate()), 0);
    server.stop();
}

/// Longer than any connection of these tests may stay open.
const OPEN_MAX: Duration = Duration::from_secs(30);

/// How long the server lets a connection be after `begin` has done its part, in milliseconds.
fn closed_after(server: SocketAddr, begin: impl FnOnce(TcpStream) -> TcpStream) -> u128 {
    let Stream::Plain(stream) = Stream::plain(server) else { unreachable!("it is plain") };
    let mut stream = begin(stream);
    let began = Instant::now();
    stream.set_read_timeout(Some(OPEN_MAX)).expect("TCP takes its options");
    let mut room = [0; 1024];
    // Its end, clean or not; what it still has to say does not count.
    while matches!(stream.read(&mut room), Ok(1..)) {}
    began.elapsed().as_millis()
}

fn write(bytes: Vec<u8>) -> impl FnOnce(TcpStream) -> TcpStream {
    move |mut stream| {
        stream.write_all(&bytes).expect("the server takes it");
        stream
    }
}

/// A whole message, answered, and then half a one.
fn one_and_a_half(mut stream: TcpStream) -> TcpStream {
    let message = binding().encode();
    stream.write_all(&message).expect("the server takes it");
    let mut room = [0; 1024];
    let len = stream.read(&mut room).expect("the server answers");
    assert_eq!(Reply::decode(&room[..len]).code(), 0);
    stream.write_all(&message[..10]).expect("the server takes it");
    stream
}

/// The first flight of a TLS handshake, or the start of it.
fn hello(cut: usize) -> Vec<u8> {
    let name = certificate::NAME.try_into().expect("it is a DNS name");
    let config = certificate::client(&[&rustls::version::TLS13], &[]);
    let mut connection = rustls::ClientConnection::new(config, name).expect("the configuration is complete");
    let mut bytes = Vec::new();
    connection.write_tls(&mut bytes).expect("a vector takes it");
    bytes.truncate(cut);
    bytes
}

// One test for all, because each of them is time that passes.
#[test]
fn connections_that_say_nothing_are_closed_in_time() {
    let server = Server::start(&[]);
    let (tcp, tls) = (server.addr("tcp", LOOPBACK[0]), server.addr("tls", LOOPBACK[0]));
    // Deadlines of 5 s and 10 s, looked at once a second by a machine that may be busy.
    let (soon, later) = (4_900..9_900, 9_900..20_000);
    type Case = (&'static str, std::ops::Range<u128>, Box<dyn FnOnce() -> u128 + Send>);
    let cases: Vec<Case> = vec![
        ("nothing", soon.clone(), Box::new(move || closed_after(tcp, write(Vec::new())))),
        (
            "half a first message",
            soon.clone(),
            Box::new(move || closed_after(tcp, write(binding().encode()[..10].into()))),
        ),
        ("half a line of HTTP", soon.clone(), Box::new(move || closed_after(tcp, write(b"GET / HT".to_vec())))),
        ("no handshake", soon.clone(), Box::new(move || closed_after(tls, write(Vec::new())))),
        ("half a client hello", soon.clone(), Box::new(move || closed_after(tls, write(hello(50))))),
        ("half a handshake", soon.clone(), Box::new(move || closed_after(tls, write(hello(5_000))))),
        ("a handshake and no more", soon, Box::new(move || silent_after_handshake(tls))),
        ("half a second message", later.clone(), Box::new(move || closed_after(tcp, one_and_a_half))),
        ("half a message after an allocation", later, Box::new(move || half_after_allocation(tcp))),
    ];
    std::thread::scope(|scope| {
        let idle = scope.spawn(move || stays_open(tls));
        let cases: Vec<_> = cases.into_iter().map(|(name, range, run)| (name, range, scope.spawn(run))).collect();
        for (name, range, run) in cases {
            let after_ms = run.join().expect("the case is run");
            assert!(range.contains(&after_ms), "{name}: closed after {after_ms} ms, {range:?} expected");
        }
        idle.join().expect("a client with an allocation may be silent");
    });
    server.stop();
}

fn silent_after_handshake(server: SocketAddr) -> u128 {
    let config = certificate::client(&[&rustls::version::TLS13], &[]);
    let mut stream = Stream::tls(server, config).expect("the handshake succeeds");
    let began = Instant::now();
    stream.tcp().set_read_timeout(Some(OPEN_MAX)).expect("TCP takes its options");
    assert_eq!(stream.read_to_end(), b"", "it ends with a goodbye");
    began.elapsed().as_millis()
}

fn half_after_allocation(server: SocketAddr) -> u128 {
    let (mut caller, _) = Caller::allocated(Via::Tcp, server);
    let Link::Stream(stream, _) = caller.link() else { unreachable!("TCP is a stream") };
    stream.send(&binding().encode()[..10]);
    let began = Instant::now();
    stream.tcp().set_read_timeout(Some(OPEN_MAX)).expect("TCP takes its options");
    assert_eq!(stream.read_to_end(), b"");
    began.elapsed().as_millis()
}

/// A client that holds an allocation and is silent for longer than any deadline of the others.
fn stays_open(server: SocketAddr) {
    let (mut caller, _) = Caller::allocated(Via::Tls13, server);
    assert_eq!(caller.poll(Duration::from_secs(11)), None);
    assert_eq!(caller.code(refresh(600)), 0);
}

// An attacker on one address may not use up what all need to come in.
#[test]
fn connections_that_say_nothing_are_few_for_each_source() {
    /// As many as one address may have that have not shown what they speak.
    const SILENT_MAX: usize = 20;
    let server = Server::start(&[]);
    let tcp = server.addr("tcp", LOOPBACK[0]);
    let mut witness = Caller::new(Via::Udp, server.addr("udp", LOOPBACK[0]));
    let mut silent: Vec<Stream> = (0..SILENT_MAX).map(|_| Stream::plain(tcp)).collect();
    witness.echo(); // by now they are accepted
    silent.push(Stream::plain(tcp));
    assert_eq!(silent.remove(0).read_to_end(), b"", "the oldest makes room");
    // Others are served: those from elsewhere, and those who came before and now say something.
    let elsewhere = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    let source: SocketAddr = "127.0.0.2:0".parse().expect("an address");
    elsewhere.bind(&source.into()).expect("all of 127/8 is this host");
    elsewhere.connect(&tcp.into()).expect("the server accepts");
    for stream in silent.iter_mut().chain([&mut Stream::Plain(elsewhere.into())]) {
        let question = binding();
        stream.send(&question.encode());
        let mut room = [0; 1500];
        let len = stream.read(&mut room).expect("the server answers");
        assert_eq!(Reply::decode(&room[..len]).id, question.id);
    }
    // Those who have spoken do not count any more.
    let (_caller, _) = Caller::allocated(Via::Tcp, tcp);
    server.stop();
}

/// A peer sends so many datagrams to a relayed address, as fast as it can.
fn flood(relayed: SocketAddr, packets: usize) {
    let peer = Peer::new(relayed.ip());
    let payload = pattern(0, 8_000);
    (0..packets).for_each(|_| peer.send(relayed, &payload));
}

/// Bytes go there and back, one at a time; how many came back.
fn echo(caller: &mut Caller, peer: &Peer, relayed: SocketAddr, rounds: usize) {
    for seed in 0..rounds {
        caller.send_on(CHANNEL, &pattern(seed, 100));
        assert_eq!(peer.receive(), (pattern(seed, 100), relayed));
        peer.send(relayed, &pattern(seed + 1, 100));
        assert_eq!(caller.receive(), Delivery::Channel(CHANNEL, pattern(seed + 1, 100)));
    }
}

#[test]
fn a_client_that_does_not_read_costs_little_and_nobody_else() {
    /// Together 24 MB: more than any socket buffer holds.
    const PACKETS: usize = 3_000;
    let server = Server::start(&[]);
    for via in [Via::Tcp, Via::Tls13] {
        let (mut neighbour, neighbour_relayed) = Caller::allocated(Via::Udp, server.addr("udp", LOOPBACK[0]));
        let peer = Peer::new(LOOPBACK[0]);
        neighbour.bind(CHANNEL, peer.addr());
        let (mut deaf, relayed) = Caller::allocated(via, server.addr(via.listener(), LOOPBACK[0]));
        deaf.permit(&[relayed]);
        // What the server needs for a burst it keeps; only what comes on top of that is the deaf client's.
        flood(relayed, 100);
        while deaf.poll(Duration::from_millis(200)).is_some() {}
        let before = server.memory_kib();

        flood(relayed, PACKETS);
        // Their answers need more room than one packet that was dropped would have left.
        let questions: Vec<_> = (0..250).map(|_| refresh(600)).collect();
        for question in &questions {
            let request = deaf.sign(question.clone());
            deaf.send(&request);
        }
        std::thread::scope(|scope| {
            scope.spawn(|| flood(relayed, PACKETS));
            echo(&mut neighbour, &peer, neighbour_relayed, 500);
        });
        let grown = server.memory_kib().saturating_sub(before);
        assert!(grown < 2_048, "{via:?}: {grown} KiB for one client that does not read");

        // It reads again: the answers are all there, and between them only whole packets.
        for question in &questions {
            let reply = deaf.answer(&question.id, Instant::now() + Duration::from_secs(10));
            assert_eq!(reply.map(|reply| reply.code()), Some(0));
        }
        let delivered = deaf.delivered();
        assert!(
            delivered.iter().all(|got| matches!(got, Delivery::Indication(_, bytes) if *bytes == pattern(0, 8_000)))
        );
        assert!((10..2 * PACKETS).contains(&delivered.len()), "{} of {} packets", delivered.len(), 2 * PACKETS);
        let peer = Peer::new(LOOPBACK[0]);
        peer.send(relayed, b"still there?");
        assert_eq!(deaf.receive(), Delivery::Indication(peer.addr(), b"still there?".into()));
    }
    server.stop();
}

#[test]
fn a_worker_with_nothing_to_do_sleeps() {
    let inside = Inside::of(2);
    let rounds = || inside.total(|stats| stats.rounds.get());
    let mut callers: Vec<_> = Via::ALL.into_iter().flat_map(|via| inside.callers(via, LOOPBACK[0], 1)).collect();
    // One with an error to report, one whose output is stuck, one that has half a message to say.
    let dead = SocketAddr::new(LOOPBACK[0], inside.ports.dead(0));
    let (caller, _) = &mut callers[0];
    caller.permit(&[dead]);
    (0..100).for_each(|_| caller.send_to(dead, b"hello?"));
    let (deaf, relayed) = &mut callers[2]; // after one of UDP for each worker, the first of TCP
    deaf.permit(&[*relayed]);
    flood(*relayed, 2_000);
    let mut half = Stream::plain(inside.addr(Via::Tcp, LOOPBACK[0]));
    half.send(b"\x00\x01\x00");
    callers[0].0.echo();
    let (mut last, _) = callers.pop().expect("there are several");
    assert_eq!(last.poll(Duration::from_millis(300)), None, "whatever was under way has arrived");
    let before = rounds();
    assert_eq!(last.poll(Duration::from_secs(2)), None);
    let turns = rounds() - before;
    // Each worker may look at a deadline now and then.
    assert!(turns < 20, "{turns} turns of the loop in two seconds of silence");
}
