//! Relayed ports: all of the range and nothing else, reserved ones for who has the token, so many for each user.

use super::client::{Caller, Delivery, Peer, pattern};
use super::link::Via;
use super::ports::{LOOPBACK, Stretch};
use super::server::Server;
use crate::wire_client::{ALICE, BOB, allocate, refresh};
use std::collections::BTreeSet;
use std::net::{SocketAddr, UdpSocket};
use turnpike::wire::attribute;

/// A relayed address that works in both directions.
fn assert_relays(caller: &mut Caller, relayed: SocketAddr) {
    let peer = Peer::new(relayed.ip());
    caller.permit(&[peer.addr()]);
    caller.send_to(peer.addr(), &pattern(1, 20));
    assert_eq!(peer.receive(), (pattern(1, 20), relayed));
    peer.send(relayed, &pattern(2, 20));
    assert_eq!(caller.receive(), Delivery::Indication(peer.addr(), pattern(2, 20)));
}

#[test]
fn ten_ports_serve_ten_of_thirty_clients() {
    let ports = Stretch::next();
    let range = ports.free(10);
    let server = Server::on(ports, &range, &["workers=2"]);
    let mut clients: Vec<Caller> = (0..30)
        .map(|number| {
            let via = Via::ALL[number % Via::ALL.len()];
            Caller::new(via, server.addr(via.listener(), LOOPBACK[0]))
        })
        .collect();
    let (mut served, mut ports, mut refused) = (Vec::new(), BTreeSet::new(), 0);
    for (number, client) in clients.iter_mut().enumerate() {
        let reply = client.ask(allocate());
        match reply.code() {
            0 => {
                let relayed = reply.address(attribute::XOR_RELAYED_ADDRESS);
                assert!(range.contains(&relayed.port()), "{relayed}");
                assert!(ports.insert(relayed.port()), "{relayed} is given twice");
                served.push((number, relayed));
            }
            508 => refused += 1,
            other => panic!("{other} is no answer to that"),
        }
    }
    assert_eq!((served.len(), refused), (10, 20));
    for (number, relayed) in &served {
        assert_relays(&mut clients[*number], *relayed);
    }
    // What one gives back, the next one gets, at once when there is no other; a retry is as good as a first try.
    for (number, relayed) in &served {
        clients[*number].end();
        let next = clients.iter_mut().rev().find_map(|client| {
            let reply = client.ask(allocate());
            (reply.code() == 0).then(|| reply.address(attribute::XOR_RELAYED_ADDRESS))
        });
        assert_eq!(next, Some(*relayed));
    }
    server.stop();
}

#[test]
fn ports_that_others_hold_are_passed_over() {
    let ports = Stretch::next();
    let range = ports.free(40);
    let held: Vec<UdpSocket> = range
        .clone()
        .filter(|port| port % 10 < 3)
        .map(|port| UdpSocket::bind((LOOPBACK[0], port)).expect("the port is free"))
        .collect();
    assert_eq!(held.len(), 12);
    let server = Server::on(ports, &range, &["workers=2"]);
    let udp = server.addr("udp", LOOPBACK[0]);
    let mut served: Vec<_> = (0..28).map(|_| Caller::allocated(Via::Udp, udp)).collect();
    for (caller, relayed) in &mut served {
        assert_relays(caller, *relayed);
    }
    assert_eq!(Caller::new(Via::Udp, udp).code(allocate()), 508, "now they are all in use");
    // On the other address all ports are free.
    let all: Vec<_> = (0..40).map(|_| Caller::allocated(Via::Udp, server.addr("udp", LOOPBACK[1]))).collect();
    assert_eq!(all.len(), 40);
    server.stop();
}

/// Allocates an even port and its successor for later; returns the relayed address and the token.
fn reserve(caller: &mut Caller) -> (SocketAddr, [u8; 8]) {
    let reply = caller.succeed(allocate().with(attribute::EVEN_PORT, [0x80]));
    let relayed = reply.address(attribute::XOR_RELAYED_ADDRESS);
    assert!(relayed.port().is_multiple_of(2), "{relayed}");
    let token = reply.get(attribute::RESERVATION_TOKEN).expect("the next port is reserved");
    (relayed, token.try_into().expect("a token has eight bytes"))
}

// RFC 8656 §7.2, steps 5 and 6: for RTP and RTCP.
#[test]
fn a_reserved_port_is_for_whoever_has_the_token() {
    let server = Server::start(&["workers=2"]);
    for (number, via) in Via::ALL.into_iter().cycle().take(12).enumerate() {
        let ip = LOOPBACK[number % 2];
        let mut first = Caller::new(Via::ALL[number / 4], server.addr(Via::ALL[number / 4].listener(), LOOPBACK[0]));
        let (relayed, token) = reserve(&mut first);
        assert_relays(&mut first, relayed);
        // From another 5-tuple, by another transport, on another address of the server.
        let mut second = Caller::new(via, server.addr(via.listener(), ip));
        let next = second.allocate(allocate().with(attribute::RESERVATION_TOKEN, token));
        assert_eq!(next, SocketAddr::new(relayed.ip(), relayed.port() + 1));
        assert_relays(&mut second, next);
        assert_relays(&mut first, relayed);
        // Once.
        let mut third = Caller::new(via, server.addr(via.listener(), ip));
        assert_eq!(third.code(allocate().with(attribute::RESERVATION_TOKEN, token)), 508);
    }
    server.stop();
}

#[test]
fn a_pair_of_ports_needs_an_even_one_and_the_next() {
    let ports = Stretch::next();
    let range = ports.free(4);
    // 0 and 1 are free, 2 is not: there is one pair, and 3 is left over.
    let _held = UdpSocket::bind((LOOPBACK[0], range.start() + 2)).expect("the port is free");
    let server = Server::on(ports, &range, &[]);
    let udp = server.addr("udp", LOOPBACK[0]);
    let mut first = Caller::new(Via::Udp, udp);
    assert_eq!(reserve(&mut first).0.port(), *range.start());
    let mut second = Caller::new(Via::Udp, udp);
    assert_eq!(second.code(allocate().with(attribute::EVEN_PORT, [0x80])), 508);
    assert_eq!(second.code(allocate().with(attribute::EVEN_PORT, [0x00])), 508);
    let relayed = second.allocate(allocate());
    assert_eq!(relayed.port(), range.start() + 3, "an odd port is as good as any for who does not care");
    assert_eq!(Caller::new(Via::Udp, udp).code(allocate()), 508, "a reserved port is not free");
    server.stop();
}

#[test]
fn a_user_has_so_many_allocations_and_no_more() {
    let server = Server::start(&["workers=2", "limits.allocations_per_user=2", "limits.allocations=3"]);
    let client = |user, via: Via| Caller::as_user(user, via, server.addr(via.listener(), LOOPBACK[0]));
    let mut alices = Via::ALL.map(|via| client(ALICE, via));
    let codes = alices.each_mut().map(|alice| alice.code(allocate()));
    assert_eq!(codes, [0, 0, 486, 486]);
    let mut bobs = [Via::Udp, Via::Tcp].map(|via| client(BOB, via));
    let codes = bobs.each_mut().map(|bob| bob.code(allocate()));
    assert_eq!(codes, [0, 508], "bob has his own, until the server has no more for anybody");
    bobs[0].end();
    assert_eq!(alices[2].code(allocate()), 486, "what bob gives back is not alice's");
    alices[0].end();
    assert_eq!(alices[2].code(allocate()), 0);
    assert_eq!(alices[3].code(allocate()), 486);
    assert_eq!(alices[1].code(refresh(600)), 0, "to refresh costs nothing");
    // A connection that ends gives back what it held.
    let [_, _, alice, mut last] = alices;
    drop(alice);
    let again = (0..1000).find(|_| last.code(allocate()) == 0);
    assert!(again.is_some(), "the allocation of a closed connection is still charged");
    server.stop();
}
