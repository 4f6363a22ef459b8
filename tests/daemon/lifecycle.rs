//! How the daemon ends, and what it does not start over.

use super::client::{Caller, Delivery, Peer};
use super::link::{Stream, Via};
use super::ports::LOOPBACK;
use super::server::{Server, refused};
use crate::wire_client::{Reply, allocate, binding, refresh};
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};
use turnpike::wire::attribute;

/// The most that ending may take; nothing has to be waited for.
const PROMPT: Duration = Duration::from_secs(2);

#[test]
fn a_signal_ends_it_promptly_whoever_is_connected() {
    for signal in ["TERM", "INT"] {
        // Nobody is waited for.
        let server = Server::start(&["workers=2", "drain_timeout=0"]);
        let addr = |via: Via| server.addr(via.listener(), LOOPBACK[0]);
        let callers = Via::ALL.map(|via| Caller::allocated(via, addr(via)));
        let mut silent = Stream::plain(addr(Via::Tcp));
        let config = super::certificate::client(&[&rustls::version::TLS13], &[]);
        let mut secure = Stream::tls(addr(Via::Tls13), config).expect("the handshake succeeds");
        server.signal(signal);
        assert_eq!(silent.read_to_end(), b"", "connections are ended as they should");
        assert_eq!(secure.read_to_end(), b"", "those with TLS too");
        let (status, took) = server.wait();
        assert_eq!(status.code(), Some(0), "{signal}");
        assert!(took < PROMPT, "{signal}: it took {took:?}");
        drop(callers);
    }
}

/// Where a server answers that can be asked.
fn admin(server: &Server) -> SocketAddr {
    server.told("admin").strip_prefix("http://").and_then(|addr| addr.parse().ok()).expect("an address")
}

/// The status of a path of the admin part.
fn status(admin: SocketAddr, path: &str) -> u16 {
    let mut stream = Stream::plain(admin);
    stream.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").as_bytes());
    let answer = String::from_utf8(stream.read_to_end()).expect("it is text");
    answer[9..12].parse().expect("a status")
}

/// The value of ALTERNATE-SERVER (RFC 8489 §14.15) for an IPv4 address.
fn alternate_v4(addr: &str) -> Vec<u8> {
    let addr: std::net::SocketAddrV4 = addr.parse().expect("an address and a port");
    [&[0, 1][..], &addr.port().to_be_bytes(), &addr.ip().octets()].concat()
}

const ALTERNATES: &str = "alternate_servers=[\"turn2.example.org=203.0.113.9:3478\"]";

#[test]
fn term_keeps_the_calls_there_are_and_sends_new_clients_away() {
    let server = Server::start(&["workers=2", "http.admin_listen=127.0.0.1:0", ALTERNATES]);
    let (udp, admin) = (server.addr("udp", LOOPBACK[0]), admin(&server));
    let (mut alice, relayed) = Caller::allocated(Via::Udp, udp);
    let (mut tls, _) = Caller::allocated(Via::Tls13, server.addr("tls", LOOPBACK[0]));
    let peer = Peer::new(LOOPBACK[0]);
    alice.permit(&[peer.addr()]);
    assert_eq!(status(admin, "/readyz"), 200);
    server.signal("TERM");
    let line = server.log_until("draining");
    assert!(line.contains("\"allocations\":2") && line.contains("\"deadline\":\"60 s\""), "{line}");
    assert_eq!((status(admin, "/readyz"), status(admin, "/healthz"), status(admin, "/metrics")), (503, 200, 200));

    let reply = Caller::new(Via::Udp, udp).ask(allocate());
    assert_eq!((reply.code(), reply.get(attribute::ALTERNATE_DOMAIN)), (300, None));
    assert_eq!(reply.get(attribute::ALTERNATE_SERVER), Some(&alternate_v4("203.0.113.9:3478")[..]));
    let reply = Caller::new(Via::Tls13, server.addr("tls", LOOPBACK[0])).ask(allocate());
    assert_eq!((reply.code(), reply.get(attribute::ALTERNATE_DOMAIN)), (300, Some(&b"turn2.example.org"[..])));
    let reply = Caller::new(Via::Udp, server.addr("udp", LOOPBACK[1])).ask(allocate());
    assert_eq!(reply.code(), 508, "there is no other server of its family");

    alice.send_to(peer.addr(), b"to the peer");
    assert_eq!(peer.receive(), (b"to the peer".into(), relayed));
    peer.send(relayed, b"to the client");
    assert_eq!(alice.receive(), Delivery::Indication(peer.addr(), b"to the client".into()));
    let lifetime_s = alice.succeed(refresh(600)).number(attribute::LIFETIME).expect("a lifetime");
    assert!((1..=60).contains(&lifetime_s), "{lifetime_s}: not beyond the end of the server");
    alice.end();
    assert_eq!(tls.code(refresh(600)), 0);
    tls.end();
    server.log_until("\"reason\":\"drained\"");
    assert_eq!(server.wait().0.code(), Some(0));
}

#[test]
fn term_without_a_call_ends_at_once() {
    let server = Server::start(&["workers=2", "drain_timeout=1h"]);
    Caller::allocated(Via::Udp, server.addr("udp", LOOPBACK[0])).0.end();
    server.signal("TERM");
    let (status, took) = server.wait();
    assert_eq!(status.code(), Some(0));
    assert!(took < PROMPT, "it took {took:?}");
}

#[test]
fn a_drain_ends_at_its_deadline_and_streams_end_cleanly() {
    let server = Server::start(&["drain_timeout=1"]);
    let allocated = |via: Via| Caller::allocated(via, server.addr(via.listener(), LOOPBACK[0])).0;
    let _datagrams = allocated(Via::Udp);
    let mut streams = [Via::Tcp, Via::Tls12, Via::Tls13].map(allocated);
    let began = Instant::now();
    server.signal("TERM");
    for stream in &mut streams {
        stream.link().read_to_end();
    }
    assert!(began.elapsed() >= Duration::from_secs(1), "not before its time");
    server.log_until("\"reason\":\"drain timeout\"");
    assert_eq!(server.wait().0.code(), Some(0));
}

#[test]
fn a_second_signal_ends_a_drain_now() {
    for second in ["TERM", "INT"] {
        let server = Server::start(&["drain_timeout=1h"]);
        let (mut tls, _) = Caller::allocated(Via::Tls13, server.addr("tls", LOOPBACK[0]));
        server.signal("TERM");
        server.log_until("draining");
        assert_eq!(tls.code(refresh(600)), 0);
        server.signal(second);
        tls.link().read_to_end();
        let (status, took) = server.wait();
        assert_eq!(status.code(), Some(0), "{second}");
        assert!(took < PROMPT, "{second}: it took {took:?}");
    }
}

#[test]
fn another_drain_timeout_counts_for_a_drain_under_way() {
    let server = Server::start(&[]);
    let (mut alice, _) = Caller::allocated(Via::Tcp, server.addr("tcp", LOOPBACK[0]));
    server.signal("TERM");
    server.log_until("draining");
    server.write(
        "turnpike.toml",
        "realm = \"example.org\"\ndrain_timeout = \"1s\"\n[auth]\nusers = { alice = \"wonderland\" }\n\
         [http]\nlisten = \"\"\nadmin_listen = \"\"\nadmin_socket = \"\"\n[log]\nformat = \"json\"\n",
    );
    server.signal("HUP");
    server.log_until("drains by the new configuration");
    alice.link().read_to_end();
    assert_eq!(server.wait().0.code(), Some(0));
}

#[test]
fn a_second_server_on_the_same_port_is_refused() {
    let server = Server::start(&["workers=2"]);
    for (protocol, others) in [("udp", ["tcp", "tls"]), ("tcp", ["udp", "tls"]), ("tls", ["udp", "tcp"])] {
        let taken = server.addr(protocol, LOOPBACK[0]);
        let settings = [
            format!("listen.{protocol}=[\"{taken}\"]"),
            format!("listen.{}=[\"127.0.0.1:0\"]", others[0]),
            format!("listen.{}=[]", others[1]),
        ];
        let (status, said) = refused(&settings.each_ref().map(String::as_str));
        assert_eq!(status.code(), Some(1), "{said}");
        let line = said.lines().last().expect("it says why");
        assert!(line.starts_with("turnpike: ") && line.contains(&taken.to_string()), "{line}");
        assert!(line.contains("another server has the port"), "{line}");
    }
    // The first one has noticed nothing: every new client still comes to it.
    for _ in 0..20 {
        Caller::new(Via::Udp, server.addr("udp", LOOPBACK[0])).echo();
        Caller::new(Via::Tcp, server.addr("tcp", LOOPBACK[0])).echo();
    }
    server.stop();
}

#[test]
fn a_port_is_free_again_at_once_for_the_next_server() {
    let first = Server::start(&[]);
    let (udp, tcp) = (first.addr("udp", LOOPBACK[0]), first.addr("tcp", LOOPBACK[0]));
    // A connection that the server ends leaves its address waiting for a minute.
    let (_caller, _) = Caller::allocated(Via::Tcp, tcp);
    first.stop();
    let settings = [format!("listen.udp=[\"{udp}\"]"), format!("listen.tcp=[\"{tcp}\"]")];
    let second = Server::start(&settings.each_ref().map(String::as_str));
    Caller::new(Via::Udp, udp).echo();
    Caller::new(Via::Tcp, tcp).echo();
    second.stop();
}

/// Sends requests without waiting, and counts the answers until no more come; also the time until the last of them.
fn answers(server: SocketAddr, requests: usize) -> (usize, Duration) {
    let (began, mut took) = (Instant::now(), Duration::ZERO);
    let socket = UdpSocket::bind((LOOPBACK[0], 0)).expect("the kernel has a port");
    // No burst that the client's own socket could not hold.
    socket.set_read_timeout(Some(Duration::from_secs(1))).expect("a socket takes a timeout");
    let (mut room, mut answers) = ([0; 1500], 0);
    let mut take = |socket: &UdpSocket| match socket.recv(&mut room) {
        Ok(len) => {
            assert_eq!(Reply::decode(&room[..len]).code(), 0);
            took = began.elapsed();
            true
        }
        Err(_) => false,
    };
    for _ in 0..requests {
        socket.send_to(&binding().encode(), server).expect("loopback takes a datagram");
        socket.set_nonblocking(true).expect("a socket takes its options");
        answers += usize::from(take(&socket));
    }
    socket.set_nonblocking(false).expect("a socket takes its options");
    while take(&socket) {
        answers += 1;
    }
    (answers, took)
}

#[test]
fn strangers_get_so_many_answers_and_no_more() {
    let server = Server::start(&["limits.unverified_per_second=50"]);
    let udp = server.addr("udp", LOOPBACK[0]);
    // Four seconds' worth at once, and 50 for each second it takes.
    let (answers, took) = answers(udp, 1_000);
    let most = 200 + 50 * (took.as_secs() as usize + 1);
    assert!((200..=most).contains(&answers), "{answers} answers, {most} at most in {took:?}");
    // Those who have proved where they are do not pay for it: a stream does, and so does an allocation.
    let (mut caller, relayed) = Caller::allocated(Via::Tcp, server.addr("tcp", LOOPBACK[0]));
    (0..100).for_each(|_| drop(caller.echo()));
    let peer = Peer::new(LOOPBACK[0]);
    caller.permit(&[peer.addr()]);
    caller.send_to(peer.addr(), b"through");
    assert_eq!(peer.receive(), (b"through".into(), relayed));
    server.stop();
}
