//! Networks that break: clients that vanish, an address that goes and comes, routers that lie.

use super::call::{Call, FROM_ONE_SOURCE, WATCHED, allow_many_files, drops, live, metric_becomes};
use super::client::{Caller, Delivery, Peer, pattern};
use super::injection::Injection;
use super::link::{PATIENCE, Via};
use super::namespace::{FIGURE, is_alone, run};
use super::ports::{LOOPBACK, Stretch};
use super::server::Server;
use super::untried::not_tried;
use crate::wire_client::{allocate, refresh, send};
use socket2::{Domain, Protocol, Socket, Type};
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use turnpike::wire::attribute;

// FI-10: what frees clients that vanish is the kernel, once it is told to.
#[test]
fn a_connection_that_vanishes_is_noticed_by_the_kernel() {
    let server = Server::start(&[]);
    let Some(trace) = Injection::attach(&server, "relay-", "setsockopt", "") else { return };
    let mut callers = [Via::Tcp, Via::Tls13].map(|via| Caller::new(via, server.addr(via.listener(), LOOPBACK[0])));
    callers.iter_mut().for_each(|caller| drop(caller.echo()));
    let calls = trace.end();
    for (option, value) in [
        ("SO_KEEPALIVE", 1),
        ("TCP_KEEPIDLE", 30),
        ("TCP_KEEPINTVL", 10),
        ("TCP_KEEPCNT", 3),
        ("TCP_USER_TIMEOUT", 30_000),
    ] {
        let wanted = format!("{option}, [{value}]");
        let told = calls.iter().filter(|call| call.contains(&wanted) && call.ends_with("= 0")).count();
        assert_eq!(told, 2, "{wanted} of each connection: {calls:?}");
    }
    server.stop();
}

// FI-10, whole: keepalive and user timeout together are 65 s at most.
#[test]
#[ignore = "a minute, most of it waiting; tests/full runs it"]
fn clients_that_vanish_without_a_word_are_all_freed() {
    const CLIENTS: usize = 5_000;
    const FREED_AFTER: Duration = Duration::from_secs(65);
    let test = "network::clients_that_vanish_without_a_word_are_all_freed";
    if !is_alone(test, &["ip", "nft"]) {
        return;
    }
    allow_many_files();
    let server = Server::on(Stretch::next(), &(20_000..=29_999), &["workers=2", WATCHED, FROM_ONE_SOURCE]);
    let tcp = server.addr("tcp", LOOPBACK[0]);
    let files_before = server.files();
    let callers: Vec<Caller> = (0..CLIENTS).map(|_| Caller::allocated(Via::Tcp, tcp).0).collect();
    assert_eq!(server.metric(&live("tcp")), CLIENTS as u64);
    run(&["nft", "add table inet filter"]);
    run(&["nft", "add chain inet filter in { type filter hook input priority 0; }"]);
    for side in ["sport", "dport"] {
        run(&["nft", &format!("add rule inet filter in tcp {side} {} drop", tcp.port())]);
    }
    let vanished = Instant::now();
    drop(callers);
    while server.metric(&live("tcp")) > 0 || server.metric("turnpike_connections") > 0 {
        assert!(vanished.elapsed() < FREED_AFTER, "{} are left", server.metric(&live("tcp")));
        // Nothing else is going on, and there is time.
        std::thread::sleep(Duration::from_millis(250));
    }
    eprintln!("{FIGURE}{CLIENTS} clients that vanished were freed within {:?}", vanished.elapsed());
    assert!(server.files() <= files_before + 1);
    server.stop();
}

// FI-24.
#[test]
fn a_relay_address_that_goes_and_comes_back_needs_no_restart() {
    let test = "network::a_relay_address_that_goes_and_comes_back_needs_no_restart";
    if !is_alone(test, &["ip"]) {
        return;
    }
    const ADDRESS: &str = "10.77.0.1";
    run(&["ip", "addr", "add", ADDRESS, "dev", "lo"]);
    let server = Server::start(&["workers=2", WATCHED, "relay.addresses=[\"10.77.0.1\"]"]);
    let udp = server.addr("udp", LOOPBACK[0]);
    let ports_free = server.metric("turnpike_ports_free");
    let mut calls = [Via::Udp, Via::Tcp].map(|via| Call::begin(&server, via));
    assert_eq!(calls[0].relayed.ip().to_string(), ADDRESS);
    calls.iter_mut().for_each(|call| call.exchange(10));

    run(&["ip", "addr", "del", &format!("{ADDRESS}/32"), "dev", "lo"]);
    for _ in 0..5 {
        assert_eq!(Caller::new(Via::Udp, udp).code(allocate()), 508, "there is no address to relay from");
    }
    for (number, call) in calls.iter_mut().enumerate() {
        for _ in 0..20 {
            call.caller.send_on(super::call::CHANNEL, b"nowhere to leave from");
        }
        assert_eq!(call.caller.code(refresh(600)), 0, "the allocation is there");
        assert_eq!(server.metric(&drops("send_failed")), 20 * (number as u64 + 1));
        assert!(call.peer.is_idle());
    }
    run(&["ip", "addr", "add", ADDRESS, "dev", "lo"]);
    calls.iter_mut().for_each(Call::goes_on);
    let mut late = Caller::new(Via::Udp, udp);
    assert_eq!(late.code(allocate()), 0);
    // No port was lost on the way.
    metric_becomes(&server, "turnpike_ports_free", ports_free - 3);
    server.stop();
}

/// The addresses of the two ends of a cable, and the port that is listened on behind it.
const NEAR: Ipv4Addr = Ipv4Addr::new(10, 78, 0, 1);
const FAR: Ipv4Addr = Ipv4Addr::new(10, 78, 0, 2);
const FAR_PORT: u16 = 9_000;

/// The far end of a cable, in a network of its own: a process of this program that answers to lines.
struct FarEnd(Child, BufReader<std::process::ChildStdout>);

impl FarEnd {
    fn open() -> FarEnd {
        let mut command = Command::new("unshare");
        command.arg("--net").arg(std::env::current_exe().expect("it has a path"));
        command.args(["--exact", "network::the_far_end_of_the_cable", "--nocapture", "--ignored"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts");
        let said = BufReader::new(child.stdout.take().expect("it is a pipe"));
        let mut far = FarEnd(child, said);
        far.hears("far end:");
        run(&["ip", "link", "add", "near", "mtu", "1280", "type", "veth", "peer", "name", "far", "mtu", "1280"]);
        run(&["ip", "link", "set", "far", "netns", &far.0.id().to_string()]);
        run(&["ip", "addr", "add", &format!("{NEAR}/24"), "dev", "near"]);
        run(&["ip", "link", "set", "near", "up"]);
        far.asks("cable", "ready");
        far
    }

    fn hears(&mut self, wanted: &str) -> String {
        let mut line = String::new();
        while !line.contains(wanted) {
            line.clear();
            assert!(self.1.read_line(&mut line).expect("it is text") > 0, "the far end is gone");
        }
        line
    }

    /// Where it listens.
    fn peer(&self) -> SocketAddr {
        SocketAddrV4::new(FAR, FAR_PORT).into()
    }

    /// The next datagram that arrives there is this long, and came in so many fragments.
    fn gets(&mut self, len: usize, fragments: u64) {
        assert_eq!(self.hears("far end: ").trim(), format!("far end: {len} of {fragments}"));
    }

    fn asks(&mut self, line: &str, answer: &str) -> String {
        writeln!(self.0.stdin.as_mut().expect("it is a pipe"), "{line}").expect("it is read");
        self.hears(answer)
    }
}

impl Drop for FarEnd {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A plea of a router that packets from the near end be shorter, as anybody could forge it (RFC 792, type 3 code 4).
fn too_long(from_port: u16, mtu: u16) -> Vec<u8> {
    let mut inner = vec![0x45, 0, 5, 0, 0, 0, 0, 0, 64, 17, 0, 0];
    inner.extend([NEAR.octets(), FAR.octets()].concat());
    inner.extend([from_port.to_be_bytes(), FAR_PORT.to_be_bytes(), 1_260_u16.to_be_bytes(), [0, 0]].concat());
    let mut message = [&[3, 4, 0, 0, 0, 0][..], &mtu.to_be_bytes(), &inner].concat();
    let sum: u32 = message.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let folded = (sum & 0xFFFF) + (sum >> 16);
    message[2..4].copy_from_slice(&(!((folded & 0xFFFF) + (folded >> 16)) as u16).to_be_bytes());
    message
}

/// The far end's own process: prints `LEN of FRAGMENTS` for each datagram that arrives.
#[test]
#[ignore = "a part of another test"]
fn the_far_end_of_the_cable() {
    let mut lines = std::io::stdin().lines().map_while(Result::ok);
    println!("far end: waits");
    assert_eq!(lines.next().as_deref(), Some("cable"));
    run(&["ip", "addr", "add", &format!("{FAR}/24"), "dev", "far"]);
    run(&["ip", "link", "set", "far", "up"]);
    let socket = UdpSocket::bind((FAR, FAR_PORT)).expect("the address is there");
    let router = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4)).expect("root may");
    let near: SocketAddr = SocketAddrV4::new(NEAR, 0).into();
    let fragments = || -> u64 {
        let table = std::fs::read_to_string("/proc/self/net/snmp").expect("the kernel counts");
        let mut ip = table.lines().filter(|line| line.starts_with("Ip: ")).map(|line| line.split_whitespace());
        let (names, values) = (ip.next().expect("names"), ip.next().expect("values"));
        names
            .zip(values)
            .find(|(name, _)| *name == "ReasmReqds")
            .and_then(|(_, value)| value.parse().ok())
            .expect("it is")
    };
    std::thread::spawn(move || {
        let (mut room, mut before) = ([0; 65_536], fragments());
        while let Ok((len, from)) = socket.recv_from(&mut room) {
            let now = fragments();
            println!("far end: {len} of {}", (now - before).max(1));
            before = now;
            let _ = socket.send_to(b"thanks", from);
        }
    });
    println!("far end: ready");
    for line in lines {
        let mut words = line.split_whitespace().map(|word| word.parse::<u16>().expect("it is a number"));
        let (port, mtu) = (words.next().expect("a port"), words.next().expect("an MTU"));
        for _ in 0..5 {
            router.send_to(&too_long(port, mtu), &near.into()).expect("the cable takes it");
        }
        println!("far end: forged");
    }
}

/// The far end, and a server that relays to it.
fn across_the_cable() -> (FarEnd, Server) {
    let far = FarEnd::open();
    let relay = format!("relay.addresses=[\"{NEAR}\"]");
    let server = Server::start(&["workers=1", WATCHED, &relay, "relay.allow_peers=[\"10.78.0.0/24\"]"]);
    (far, server)
}

// IN-109. The cable takes 1,280 bytes, 28 of which are headers.
#[test]
fn in_109_what_is_too_long_and_must_not_be_cut_is_dropped_and_told() {
    const LEN_MAX: usize = 1_280 - 28;
    if !is_alone("network::in_109_what_is_too_long_and_must_not_be_cut_is_dropped_and_told", &["ip"]) {
        return;
    }
    let (mut far, server) = across_the_cable();
    let peer = far.peer();
    let mut dropped = 0;
    for via in [Via::Udp, Via::Tcp] {
        let (mut caller, _) = Caller::allocated(via, server.addr(via.listener(), LOOPBACK[0]));
        caller.permit(&[peer]);
        let thanks = Delivery::Indication(peer, b"thanks".into());
        let whole = |len| send(peer, &pattern(len, len)).with(attribute::DONT_FRAGMENT, []).encode();
        for len in [1_600, LEN_MAX + 1] {
            caller.send(&whole(len));
            assert_eq!(caller.receive(), Delivery::Icmp(peer, 3, 4), "{via:?}: {len} bytes");
            dropped += 1;
            assert_eq!(server.metric(&drops("send_failed")), dropped, "{via:?}: {len} bytes");
            // The next that arrives is the next that may: the same, cut.
            caller.send_to(peer, &pattern(len, len));
            far.gets(len, 2);
            assert_eq!(caller.receive(), thanks);
        }
        caller.send(&whole(LEN_MAX));
        far.gets(LEN_MAX, 1);
        assert_eq!(caller.receive(), thanks);
        assert_eq!(caller.delivered(), []);
    }
    server.stop();
}

// FI-25. The kernel believes the forged message, which the test makes sure of; the relay's sockets do not.
#[test]
fn a_forged_plea_for_shorter_packets_changes_nothing() {
    let test = "network::a_forged_plea_for_shorter_packets_changes_nothing";
    if !is_alone(test, &["ip"]) {
        return;
    }
    let (mut far, server) = across_the_cable();
    let (mut caller, relayed) = Caller::allocated(Via::Udp, server.addr("udp", LOOPBACK[0]));
    let peer = far.peer();
    caller.bind(super::call::CHANNEL, peer);
    let send = |caller: &mut Caller, far: &mut FarEnd, len: usize, fragments: u64| {
        caller.send_on(super::call::CHANNEL, &pattern(len, len));
        far.gets(len, fragments);
    };
    for len in [100, 1_200] {
        send(&mut caller, &mut far, len, 1);
    }
    send(&mut caller, &mut far, 4_000, 4);
    // The kernel believes it of a socket that listens to such messages, and shortens the way for all.
    let believer = UdpSocket::bind((NEAR, 0)).expect("the address is there");
    believer.connect(peer).expect("there is a way");
    let its_port = believer.local_addr().expect("it is bound").port();
    for port in [relayed.port(), its_port] {
        far.asks(&format!("{port} 576"), "far end: forged");
    }
    let end = Instant::now() + PATIENCE;
    while !run(&["ip", "route", "get", &FAR.to_string()]).contains("mtu 576") {
        if Instant::now() > end {
            return not_tried(test, "the kernel does not believe the forged message");
        }
    }
    for _ in 0..20 {
        send(&mut caller, &mut far, 1_200, 1);
    }
    send(&mut caller, &mut far, 4_000, 4);
    assert_eq!(server.metric(&drops("send_failed")), 0);
    let other = Peer::new(LOOPBACK[0]);
    caller.bind(super::call::CHANNEL + 1, other.addr());
    caller.send_on(super::call::CHANNEL + 1, b"elsewhere");
    assert_eq!(other.receive(), (b"elsewhere".into(), relayed));
    server.stop();
}
