//! Connections that stall before they have proved anything, and the users that come beside them.

use super::call::{Call, allow_many_files};
use super::certificate;
use super::client::Caller;
use super::link::Via;
use super::ports::LOOPBACK;
use super::server::Server;
use rustls::ClientConnection;
use socket2::{Domain, Socket, Type};
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};

/// As many connections as one source may have that have not shown what they speak.
const PER_SOURCE: u8 = 20;
/// Sources that stall all of theirs: together 1,000 connections.
const SOURCES: u8 = 50;
/// Users that come while they do.
const USERS: usize = 40;

/// The beginning of a TLS handshake, from another address of this host, and then nothing.
fn stalled(server: SocketAddr, source: Ipv4Addr, hello: &[u8]) -> Option<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::new(source.into(), 0).into()).expect("all of 127/8 is this host");
    socket.connect(&server.into()).expect("the kernel takes the connection");
    let mut stream = TcpStream::from(socket);
    // One that was closed at once may say so here.
    stream.write_all(hello).ok().map(|()| stream)
}

// FI-12. Two workers have room for 400 such connections, which a few dozen sources fill.
#[test]
fn a_thousand_stalled_handshakes_keep_no_user_out() {
    allow_many_files();
    let server = Server::start(&["workers=2"]);
    let tls = server.addr("tls", LOOPBACK[0]);
    let mut there = Call::begin(&server, Via::Tls13);
    let mut hello = Vec::new();
    let config = certificate::client(&[&rustls::version::TLS13], &[]);
    let mut connection = ClientConnection::new(config, certificate::NAME.try_into().expect("it is a name"));
    connection.as_mut().expect("the configuration is complete").write_tls(&mut hello).expect("a vector takes it");
    let sources = (1..=SOURCES).map(|last| Ipv4Addr::new(127, 0, 1, last));
    let mut held: Vec<TcpStream> = sources
        .clone()
        .flat_map(|source| (0..PER_SOURCE).map(move |_| source))
        .filter_map(|source| stalled(tls, source, &hello[..hello.len() / 2]))
        .collect();
    for (number, source) in (0..USERS).zip(sources.cycle()) {
        let via = if number % 2 == 0 { Via::Tls13 } else { Via::Tls12 };
        let (mut user, _) = Caller::allocated(via, tls);
        user.end();
        there.exchange(2);
        // Whoever was put out comes again.
        held.extend(stalled(tls, source, &hello[..hello.len() / 2]));
    }
    server.stop();
}
