//! How the daemon ends, and what it does not start over.

use super::client::{Caller, Peer};
use super::link::{Stream, Via};
use super::ports::LOOPBACK;
use super::server::{Server, refused};
use crate::wire_client::{Reply, binding};
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

/// The most that ending may take; nothing has to be waited for.
const PROMPT: Duration = Duration::from_secs(2);

#[test]
fn a_signal_ends_it_promptly_whoever_is_connected() {
    for signal in ["TERM", "INT"] {
        let server = Server::start(&["workers=2"]);
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

/// Sends requests without waiting, and counts the answers until no more come.
fn answers(server: SocketAddr, requests: usize) -> usize {
    let socket = UdpSocket::bind((LOOPBACK[0], 0)).expect("the kernel has a port");
    // No burst that the client's own socket could not hold.
    socket.set_read_timeout(Some(Duration::from_millis(300))).expect("a socket takes a timeout");
    let (mut room, mut answers) = ([0; 1500], 0);
    let mut take = |socket: &UdpSocket| match socket.recv(&mut room) {
        Ok(len) => {
            assert_eq!(Reply::decode(&room[..len]).code(), 0);
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
    answers
}

#[test]
fn strangers_get_so_many_answers_and_no_more() {
    let server = Server::start(&["limits.unverified_per_second=50"]);
    let udp = server.addr("udp", LOOPBACK[0]);
    // Four seconds' worth at once, and 50 for each second it takes.
    let answers = answers(udp, 1_000);
    assert!((200..=260).contains(&answers), "{answers} answers");
    // Those who have proved where they are do not pay for it: a stream does, and so does an allocation.
    let (mut caller, relayed) = Caller::allocated(Via::Tcp, server.addr("tcp", LOOPBACK[0]));
    (0..100).for_each(|_| drop(caller.echo()));
    let peer = Peer::new(LOOPBACK[0]);
    caller.permit(&[peer.addr()]);
    caller.send_to(peer.addr(), b"through");
    assert_eq!(peer.receive(), (b"through".into(), relayed));
    server.stop();
}
