//! Drain: new clients are sent elsewhere (RFC 8489 §10), those that are there are served on.

use crate::wire_client::*;
use crate::{peer4, peer6};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use turnpike::turn::{Alternate, Drain, Sender, Transport, Verdict};
use turnpike::wire::attribute;

/// A drain without an end that sends clients to these servers.
fn elsewhere(alternates: &[(&str, Option<&str>)]) -> Drain {
    let alternate =
        |&(addr, domain): &(&str, Option<&str>)| Alternate { addr: peer(addr), domain: domain.map(Box::from) };
    Drain { alternates: alternates.iter().map(alternate).collect(), left_ms: u64::MAX }
}

/// The addresses of ALTERNATE-SERVER, which are written as they are (RFC 8489 §14.15).
fn alternates(reply: &Reply) -> Vec<SocketAddr> {
    let values = reply.attributes.iter().filter(|(kind, ..)| *kind == attribute::ALTERNATE_SERVER);
    let address = |value: &[u8]| -> SocketAddr {
        let port = u16::from_be_bytes([value[2], value[3]]);
        let ip: IpAddr = match (value[0], value[1], value.len()) {
            (0, 1, 8) => <[u8; 4]>::try_from(&value[4..]).expect("four bytes").into(),
            (0, 2, 20) => <[u8; 16]>::try_from(&value[4..]).expect("sixteen bytes").into(),
            _ => panic!("no address: {value:?}"),
        };
        SocketAddr::new(ip, port)
    };
    values.map(|(_, _, value)| address(value)).collect()
}

/// A client that asks for an allocation while the server drains: the answer.
fn refused(world: &mut World, from: Sender) -> Reply {
    let alice = world.login(from, ALICE);
    let before = world.state();
    let reply = world.ask(&alice, allocate());
    assert!(reply.integrity().is_some(), "whoever has a credential gets a signed answer");
    assert_eq!(world.state(), before, "and leaves nothing behind");
    reply
}

#[test]
fn cf_27_s10_a_redirect_is_signed_and_names_a_server_of_the_clients_family() {
    let mut world = World::new();
    let (v4, v6) = ("45.0.0.9:3478", "[2a00::9]:3478");
    world.server.drain(world.now(), Some(elsewhere(&[(v4, None), (v6, None)])));
    for (client, expected) in [("192.0.2.1:4000", [v4, v6]), ("[2400::1]:4000", [v6, v4])] {
        let reply = refused(&mut world, udp(client));
        assert_eq!((reply.code(), alternates(&reply)), (300, expected.map(peer).to_vec()), "the client's family first");
    }
    let mut alice = world.alice();
    let unsigned = world.answer(&alice.sender, &allocate().encode());
    alice.password = b"a guess".to_vec();
    let guessed = world.ask(&alice, allocate());
    for reply in [unsigned, guessed] {
        assert_eq!((reply.code(), alternates(&reply)), (401, vec![]), "strangers are told nothing");
    }
    world.server.drain(world.now(), Some(elsewhere(&[(v6, None)])));
    let reply = refused(&mut world, udp("192.0.2.1:4000"));
    assert_eq!((reply.code(), alternates(&reply)), (508, vec![]), "another family is of no use");
    assert_eq!(world.told.and_then(|answer| answer.rule), Some("draining"));
    world.server.drain(world.now(), Some(elsewhere(&[])));
    assert_eq!(refused(&mut world, udp("192.0.2.1:4000")).code(), 508);
}

#[test]
fn cf_27_s10_a_domain_is_told_where_a_certificate_is_checked_against_it() {
    let mut world = World::new();
    let (a, b) = (Some("a.example.org"), Some("b.example.org"));
    let servers = [("45.0.0.9:3478", a), ("[2a00::8]:3478", b), ("[2a00::9]:3478", a)];
    world.server.drain(world.now(), Some(elsewhere(&servers)));
    for (transport, domain) in [(Transport::Udp, None), (Transport::Tcp, None), (Transport::Tls, a)] {
        let reply = refused(&mut world, over(transport, udp("192.0.2.1:4000")));
        assert_eq!(reply.get(attribute::ALTERNATE_DOMAIN), domain.map(str::as_bytes), "{transport:?}");
        let expected = ["45.0.0.9:3478", "[2a00::9]:3478"].map(peer);
        assert_eq!(alternates(&reply), expected, "the other family's address is one of the same server");
    }
    world.server.drain(world.now(), Some(elsewhere(&[("45.0.0.9:3478", None)])));
    let reply = refused(&mut world, over(Transport::Tls, udp("192.0.2.1:4000")));
    assert!(!reply.has(attribute::ALTERNATE_DOMAIN), "without one this server's own name is meant");
}

#[test]
fn cf_56_s7_2_while_clients_are_sent_elsewhere_those_that_are_there_are_served_on() {
    let mut world = World::new();
    let alice = world.alice();
    let first = alice.sign(allocate());
    assert_eq!(world.answer(&alice.sender, &first).code(), 0);
    world.server.drain(world.now(), Some(elsewhere(&[("45.0.0.9:3478", None)])));
    assert_eq!(world.answer(&alice.sender, &first).code(), 0, "a retransmission is answered as before");
    for draft in [refresh(600), permit(&[peer4()]), bind(0x4000, peer4()), refresh(1200)] {
        world.succeed(&alice, draft);
    }
    assert!(matches!(world.relayed(&alice.sender, &channel(0x4000, b"x")), Verdict::ToPeer { .. }));
    assert!(matches!(world.hear(&alice, peer4(), 9), Verdict::ToClient { .. }));
    assert_eq!(world.code(&alice, permit(&[peer6()])), 443);
    let bob = world.bob();
    assert_eq!(world.answer(&bob.sender, &binding().encode()).code(), 0, "Binding goes on");
    let asked = bob.sign(allocate());
    assert_eq!(world.answer(&bob.sender, &asked).code(), 300);
    for (draft, code) in [(allocate().with(0x7FFF, []), 420), (allocate().without(attribute::REQUESTED_TRANSPORT), 400)]
    {
        assert_eq!(world.code(&bob, draft), code, "what is wrong with a request is said first");
    }
    world.succeed(&alice, refresh(0));
    assert_eq!(world.code(&alice, allocate()), 300, "who has left is new");
    world.server.drain(world.now(), None);
    assert_eq!(world.answer(&bob.sender, &asked).code(), 0, "the drain is over");
    world.succeed(&alice, allocate());
}

#[test]
fn lifetimes_end_with_the_server() {
    let mut world = World::new();
    let alice = world.dual();
    let granted = |world: &mut World, s| world.succeed(&alice, refresh(s)).number(attribute::LIFETIME);
    world.server.drain(world.now(), Some(elsewhere(&[])));
    assert_eq!(granted(&mut world, 1200), Some(1200), "a drain may have no end");
    world.server.drain(world.now(), Some(Drain { left_ms: 90_000, ..elsewhere(&[]) }));
    assert_eq!(granted(&mut world, 1200), Some(90));
    world.pass_ms(30_500);
    assert_eq!(granted(&mut world, 600), Some(60), "59.5 s are left");
    world.pass_ms(59_000);
    assert_eq!(granted(&mut world, 3600), Some(1));
    world.sleep_ms(900);
    assert_eq!(granted(&mut world, 3600), Some(1), "0 would say that the allocation is deleted");
    world.server.drain(world.now(), None);
    assert_eq!(granted(&mut world, 3600), Some(3600));
    world.server.drain(world.now(), Some(Drain { left_ms: 90_000, ..elsewhere(&[]) }));
    assert_eq!(granted(&mut world, 3600), Some(90));
    world.pass_s(91);
    assert!(world.find(&alice).is_none());
}

#[test]
fn clients_are_spread_and_each_is_told_the_same_again() {
    let mut world = World::with(|config| config.limits.unverified_per_second = 0);
    let servers = ["45.0.0.7:3478", "45.0.0.8:3478", "45.0.0.9:5349"];
    let known = servers.map(|addr| (addr, None));
    world.server.drain(world.now(), Some(elsewhere(&known)));
    let mut clients: BTreeMap<SocketAddr, u32> = BTreeMap::new();
    for last in 0..=255 {
        let from = udp(&format!("192.0.2.{last}:4000"));
        let told = [refused(&mut world, from), refused(&mut world, from)].map(|reply| alternates(&reply));
        assert_eq!((told[0].len(), &told[0]), (1, &told[1]));
        *clients.entry(told[0][0]).or_default() += 1;
    }
    // A third of 256 each, and six standard deviations for chance.
    assert_eq!(clients.keys().copied().collect::<Vec<_>>(), servers.map(peer));
    assert!(clients.values().all(|&count| (40..=131).contains(&count)), "{clients:?}");
}
