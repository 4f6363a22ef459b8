//! Every limit that lives in the engine, on the real binary: what is at the limit goes, what is beyond it is
//! answered or dropped as it is told, and counted.

use super::client::{Caller, Delivery, Peer, pattern};
use super::link::{Link, Via};
use super::ports::{LOOPBACK, Stretch};
use super::resources::wait_until;
use super::server::Server;
use crate::wire_client::{ALICE, BOB, allocate, bind, permit, refresh};
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use turnpike::wire::attribute;

/// What an allocation, or what is beyond an allocation's share of the total, may send at once however low a rate is.
const BURST: usize = 65_535;
/// Bytes that an allocation may send at once within its share of however low a total.
const SHARE: usize = 3_000;
const CHANNEL: u16 = 0x4000;

/// Starts a server that tells its figures.
fn start(settings: &[&str]) -> Server {
    Server::start(&[&["http.admin_listen=127.0.0.1:0"], settings].concat())
}

fn reached(server: &Server, limit: &str) -> u64 {
    server.metric(&format!("turnpike_limits_reached_total{{limit=\"{limit}\"}}"))
}

fn dropped(server: &Server, reason: &str) -> u64 {
    server.metric(&format!("turnpike_dropped_packets_total{{reason=\"{reason}\"}}"))
}

#[test]
fn a_source_has_so_many_allocations_whoever_pays_and_no_more() {
    let server = start(&["workers=2", "limits.allocations_per_source=3"]);
    let client = |user, via: Via, ip| Caller::as_user(user, via, server.addr(via.listener(), ip));
    let mut here = [(ALICE, Via::Udp), (BOB, Via::Tcp), (ALICE, Via::Tls13), (BOB, Via::Udp)]
        .map(|(user, via)| client(user, via, LOOPBACK[0]));
    let codes = here.each_mut().map(|caller| caller.code(allocate()));
    assert_eq!(codes, [0, 0, 0, 486]);
    assert!(server.log_until("\"request refused\"").contains("limits.allocations_per_source"));
    assert_eq!((reached(&server, "allocations_per_source"), reached(&server, "allocations_per_user")), (1, 0));
    let v6 = allocate().with(attribute::REQUESTED_ADDRESS_FAMILY, [2, 0, 0, 0]);
    let mut elsewhere = client(ALICE, Via::Udp, LOOPBACK[1]);
    assert_eq!(elsewhere.code(v6), 0, "another source has its own");
    here[1].end();
    assert_eq!(here[3].code(allocate()), 0);
    assert_eq!(here[1].code(allocate()), 486);
    server.stop();
}

#[test]
fn each_limit_of_an_allocation_and_of_all_is_counted_under_its_name() {
    let settings = [
        "limits.permissions_per_allocation=2",
        "limits.channels_per_allocation=1",
        "limits.allocations_per_user=1",
        "limits.allocations=2",
    ];
    let server = start(&settings);
    let udp = server.addr("udp", LOOPBACK[0]);
    let peers: Vec<SocketAddr> = (1..=4).map(|n| SocketAddr::new([127, 0, 0, n].into(), 9_000)).collect();
    let (mut alice, _) = Caller::allocated(Via::Udp, udp);
    assert_eq!(alice.code(bind(CHANNEL, peers[0])), 0);
    assert_eq!(alice.code(bind(CHANNEL + 1, peers[0])), 400, "a peer has one channel");
    assert_eq!(alice.code(bind(CHANNEL + 1, peers[1])), 508);
    assert_eq!(reached(&server, "channels_per_allocation"), 1);
    assert_eq!(alice.code(permit(&peers[1..2])), 0);
    assert_eq!(alice.code(permit(&peers[2..3])), 508);
    assert_eq!(alice.code(permit(&peers[0..2])), 0, "those that are there may be refreshed");
    assert_eq!(reached(&server, "permissions_per_allocation"), 1);
    assert_eq!(Caller::new(Via::Udp, udp).code(allocate()), 486);
    assert_eq!(reached(&server, "allocations_per_user"), 1);
    let mut bob = Caller::as_user(BOB, Via::Udp, udp);
    bob.allocate(allocate());
    let carol = Caller::as_user(BOB, Via::Tcp, server.addr("tcp", LOOPBACK[0])).code(allocate());
    assert_eq!((carol, reached(&server, "allocations")), (508, 1), "the server's own limit comes first");
    server.stop();
}

#[test]
fn an_allocation_carries_its_rate_in_each_direction_and_what_is_over_is_counted() {
    // A byte a second: what goes is what goes at once.
    let server = start(&["limits.bytes_per_second=1"]);
    let udp = server.addr("udp", LOOPBACK[0]);
    let (mut caller, relayed) = Caller::allocated(Via::Udp, udp);
    let (mut neighbour, beside) = Caller::allocated(Via::Udp, udp);
    let peer = Peer::new(LOOPBACK[0]);
    caller.bind(CHANNEL, peer.addr());
    neighbour.bind(CHANNEL, peer.addr());
    for seed in 0..65 {
        caller.send_on(CHANNEL, &pattern(seed, 1_000));
        assert_eq!(peer.receive().0, pattern(seed, 1_000));
    }
    caller.send_on(CHANNEL, &pattern(1, BURST - 65_000));
    assert_eq!(peer.receive().0.len(), BURST - 65_000, "the last one that fits");
    (0..10).for_each(|seed| caller.send_on(CHANNEL, &pattern(seed, 1_000)));
    caller.echo();
    assert!(peer.is_idle());
    assert_eq!(dropped(&server, "bandwidth"), 10);
    // A peer that sends a hundred times as much reaches its client with no more, and nobody else pays.
    for seed in 0..65 {
        peer.send(relayed, &pattern(seed, 1_000));
        assert_eq!(caller.receive(), Delivery::Channel(CHANNEL, pattern(seed, 1_000)));
    }
    // A few at a time, so that none is lost before the server has read it.
    for total in (10..10 + 135).step_by(15) {
        (0..15).for_each(|seed| peer.send(relayed, &pattern(seed, 1_000)));
        wait_until(&mut neighbour, || dropped(&server, "bandwidth") == total + 15, "they are dropped");
    }
    assert!(caller.delivered().is_empty());
    peer.send(beside, b"still here");
    assert_eq!(neighbour.receive(), Delivery::Channel(CHANNEL, b"still here".into()));
    server.stop();
}

#[test]
fn who_takes_all_of_the_total_leaves_the_others_their_share() {
    let server = start(&["limits.bytes_per_second_total=1", "workers=2"]);
    let udp = server.addr("udp", LOOPBACK[0]);
    let peer = Peer::new(LOOPBACK[0]);
    let mut callers: Vec<Caller> = (0..6).map(|_| Caller::allocated(Via::Udp, udp).0).collect();
    callers.iter_mut().for_each(|caller| caller.bind(CHANNEL, peer.addr()));
    let hear = |count: usize| (0..count).map(|_| peer.receive().0.len()).sum::<usize>();
    let (hog, calls) = callers.split_first_mut().expect("there are several");
    // Ten times what there is.
    for seed in 0..1_200 {
        hog.send_on(CHANNEL, &pattern(seed, 1_000));
        if seed % 50 == 0 {
            hog.echo();
        }
    }
    hog.echo();
    assert_eq!(hear(65), 65_000, "its share, and what nobody wanted");
    assert!(peer.is_idle());
    assert_eq!(dropped(&server, "bandwidth_total"), 1_135);
    for call in calls {
        // All of its share; audio goes on when that is used up, as much again.
        (0..2).for_each(|seed| call.send_on(CHANNEL, &pattern(seed, SHARE / 2)));
        assert_eq!(hear(2), SHARE);
        (0..SHARE / 200).for_each(|seed| call.send_on(CHANNEL, &pattern(seed, 200)));
        assert_eq!(hear(SHARE / 200), SHARE);
        call.send_on(CHANNEL, &pattern(0, 200));
        call.echo();
        assert!(peer.is_idle(), "and no more than that");
        hog.send_on(CHANNEL, &pattern(1, 1_000));
        hog.echo();
        assert!(peer.is_idle(), "what is the others' is not the hog's");
    }
    assert_eq!(dropped(&server, "bandwidth_total"), 1_135 + 10);
    assert_eq!(dropped(&server, "bandwidth"), 0);
    server.stop();
}

// Else a client that closes and comes again takes port after port from all the others.
#[test]
fn a_closed_connection_gives_back_its_quota_and_its_port_together() {
    let stretch = Stretch::next();
    let range = stretch.free(2);
    let range = *range.start()..=*range.start();
    let settings =
        ["http.admin_listen=127.0.0.1:0", "limits.allocations_per_user=1", "limits.allocations_per_source=2"];
    let server = Server::on(stretch, &range, &settings);
    let tcp = server.addr("tcp", LOOPBACK[0]);
    let mut witness = Caller::new(Via::Udp, server.addr("udp", LOOPBACK[0]));
    let mut bob = Caller::as_user(BOB, Via::Udp, server.addr("udp", LOOPBACK[0]));
    for round in 0..20 {
        let (holder, _) = Caller::allocated(Via::Tcp, tcp);
        let mut next = Caller::new(Via::Tcp, tcp);
        assert_eq!(next.code(allocate()), 486, "the quota is charged as long as the port is taken");
        assert_eq!(bob.code(allocate()), 508, "it is the only one");
        drop(holder);
        let end = Instant::now() + Duration::from_secs(10);
        let code = loop {
            match next.code(allocate()) {
                486 => assert!(Instant::now() < end, "the quota does not come back"),
                code => break code,
            }
        };
        assert_eq!(code, 0, "in round {round} the quota is back and the port is not");
        next.end();
    }
    wait_until(&mut witness, || server.metric("turnpike_connections") == 0, "the connections are closed");
    wait_until(&mut witness, || server.metric("turnpike_ports_free") == 2, "the ports are free");
    assert_eq!(reached(&server, "ports"), 20, "bob's requests");
    server.stop();
}

// A second socket on a port would take its packets.
#[test]
fn a_relayed_port_is_shared_with_nobody() {
    let server = start(&[]);
    let (_caller, relayed) = Caller::allocated(Via::Udp, server.addr("udp", LOOPBACK[0]));
    let thief = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None).expect("a socket");
    thief.set_reuse_address(true).expect("UDP takes its options");
    thief.set_reuse_port(true).expect("UDP takes its options");
    let error = thief.bind(&relayed.into()).expect_err("the port is taken");
    assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
    server.stop();
}

#[test]
fn wrong_passwords_are_few_for_each_source_on_every_transport() {
    /// Four seconds' worth.
    const ANSWERS: usize = 8;
    let server = start(&["limits.unverified_per_second=2"]);
    let addr = |via: Via, ip| server.addr(via.listener(), ip);
    let (mut alice, _) = Caller::allocated(Via::Tcp, addr(Via::Tcp, LOOPBACK[0]));
    let mut closed = 0;
    for via in [Via::Tcp, Via::Tls13] {
        let began = Instant::now();
        let mut answers = 0;
        for _ in 0..50 {
            let mut guess = Caller::as_user((BOB.0, "a guess"), via, addr(via, LOOPBACK[0]));
            // On a stream the challenge costs nothing.
            let challenge = guess.exchange(&allocate().encode());
            let forged = allocate()
                .with(attribute::USERNAME, BOB.0.as_bytes())
                .with(attribute::REALM, &b"example.org"[..])
                .with(attribute::NONCE, challenge.get(attribute::NONCE).expect("a challenge has one"))
                .with(attribute::MESSAGE_INTEGRITY, [7; 20]);
            guess.send(&forged.encode());
            let Link::Stream(stream, _) = guess.link() else { panic!("{via:?} is a stream") };
            match stream.read(&mut [0; 1024]).expect("it is answered or closed") {
                0 => closed += 1,
                _ => answers += 1,
            }
        }
        let most = ANSWERS + 2 * (began.elapsed().as_secs() as usize + 1);
        assert!(answers <= most, "{via:?}: {answers} answers, {most} at most");
        assert_eq!(alice.code(refresh(600)), 0, "who has proved himself does not pay for his neighbour");
    }
    assert!(closed > 50, "most of them are not left to wait for an answer: {closed}");
    assert_eq!(dropped(&server, "unverified"), closed);
    assert_eq!(server.metric("turnpike_connections_closed_total{reason=\"unverified\"}"), closed);
    let mut elsewhere = Caller::as_user(BOB, Via::Udp, addr(Via::Udp, LOOPBACK[1]));
    assert_eq!(elsewhere.code(allocate().with(attribute::REQUESTED_ADDRESS_FAMILY, [2, 0, 0, 0])), 0);
    server.stop();
}
