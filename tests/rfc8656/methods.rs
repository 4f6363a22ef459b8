//! The table of requests, row by row: what a row says is what the server does, so a method cannot be added with
//! a check left out. A new row fails here until it has a sample.

use crate::wire_client::*;
use std::collections::HashSet;
use std::net::SocketAddr;
use turnpike::turn::request::{Access, Charge, METHODS, MethodRow, Ownership, PeerCheck, method_name};
use turnpike::wire::attribute;
use turnpike::wire::stun::Method;

/// The `nth` good request of a method, each for another peer and channel.
fn sample(row: &MethodRow, nth: u16) -> Draft {
    let [high, low] = nth.to_be_bytes();
    let peer = SocketAddr::from(([1, 1, high, low], 7000));
    match row.method {
        Method::BINDING => binding(),
        Method::ALLOCATE => allocate(),
        Method::REFRESH => refresh(600),
        Method::CREATE_PERMISSION => permit(&[peer]),
        Method::CHANNEL_BIND => bind(0x4000 + nth, peer),
        other => panic!("method {other:?} is in the table and has no sample here"),
    }
}

/// A good request for this peer.
fn sample_to(row: &MethodRow, to: &str) -> Draft {
    sample(row, 0).instead(attribute::XOR_PEER_ADDRESS, peer(to))
}

/// A world in which a request of this row can succeed, and who sends it.
fn ready(row: &MethodRow) -> (World, Client) {
    let mut world = World::new();
    let alice = match row.ownership {
        Ownership::Owner => world.allocated(),
        Ownership::Vacant | Ownership::Any => world.alice(),
    };
    (world, alice)
}

/// Alice on one more 5-tuple, as ready as the row needs.
fn another(world: &mut World, row: &MethodRow, port: u16) -> Client {
    let client = world.login(udp(&format!("192.0.2.9:{port}")), ALICE);
    if row.ownership == Ownership::Owner {
        world.succeed(&client, allocate());
    }
    client
}

#[test]
fn every_row_has_a_sample_that_succeeds() {
    for row in METHODS {
        let (mut world, alice) = ready(row);
        assert_eq!(world.code(&alice, sample(row, 0)), 0, "{}", row.name);
    }
}

#[test]
fn rows_are_unique_and_named() {
    let methods: HashSet<Method> = METHODS.iter().map(|row| row.method).collect();
    let names: HashSet<&str> = METHODS.iter().map(|row| row.name).collect();
    assert_eq!((methods.len(), names.len()), (METHODS.len(), METHODS.len()));
    for row in METHODS {
        assert_eq!(method_name(row.method), row.name);
    }
    assert_eq!(method_name(Method::from_bits(0xFFF)), "other");
}

#[test]
fn rows_do_not_contradict_themselves() {
    for row in METHODS {
        let name = row.name;
        if row.access == Access::Anyone {
            let harmless = (row.ownership, row.peers, row.charge) == (Ownership::Any, PeerCheck::None, Charge::None);
            assert!(harmless, "{name}: whoever anyone may ask changes nothing");
        } else {
            assert_ne!(row.ownership, Ownership::Any, "{name}: a credential is for an allocation");
        }
        if row.peers != PeerCheck::None {
            assert_eq!(row.ownership, Ownership::Owner, "{name}: a peer is a peer of an allocation");
            assert!(matches!(row.charge, Charge::Permissions | Charge::Channel), "{name}: what lasts is counted");
        }
        assert_eq!(row.ownership == Ownership::Vacant, row.charge == Charge::Allocation, "{name}");
    }
}

#[test]
fn access_is_what_the_row_says() {
    for row in METHODS {
        let (mut world, alice) = ready(row);
        let state = world.state();
        let unsigned = world.answer(&alice.sender, &sample(row, 0).encode());
        let wrong = Client { password: b"wrong".to_vec(), ..alice.clone() };
        let forged = world.code(&wrong, sample(row, 0));
        let elsewhere = Client { nonce: world.bob().nonce, ..alice.clone() };
        let stale = world.code(&elsewhere, sample(row, 0));
        let expected = match row.access {
            Access::Anyone => [0, 0, 0],
            Access::Credential => [401, 401, 438],
        };
        assert_eq!([unsigned.code(), forged, stale], expected, "{}", row.name);
        assert_eq!(world.state(), state, "{}: nothing has happened yet", row.name);
    }
}

#[test]
fn ownership_is_what_the_row_says() {
    for row in METHODS {
        let mut world = World::new();
        let alice = world.alice();
        let without = world.code(&alice, sample(row, 0));
        let mut world = World::new();
        let alice = world.allocated();
        let with = world.code(&alice, sample(row, 0));
        let mut world = World::new();
        let alice = world.allocated();
        let bob = world.login(alice.sender, BOB);
        let state = world.state();
        let anothers = world.code(&bob, sample(row, 0));
        let expected = match row.ownership {
            Ownership::Any => [0, 0, 0],
            Ownership::Vacant => [0, 437, 437],
            Ownership::Owner => [437, 0, 441],
        };
        assert_eq!([without, with, anothers], expected, "{}", row.name);
        assert_eq!(world.state(), state, "{}: another's allocation is untouched", row.name);
    }
}

#[test]
fn peers_are_judged_as_the_row_says() {
    let denied = ["127.0.0.1:7000", "10.0.0.1:7000", "169.254.169.254:80", "45.0.0.2:7000"];
    for row in METHODS {
        let (mut world, alice) = ready(row);
        let state = world.state();
        if row.peers == PeerCheck::None {
            assert_eq!(world.code(&alice, sample_to(row, denied[0])), 0, "{}: no peer is looked at", row.name);
            continue;
        }
        for address in denied {
            assert_eq!(world.code(&alice, sample_to(row, address)), 403, "{}: {address}", row.name);
        }
        assert_eq!(world.code(&alice, sample_to(row, "[2400::1]:7000")), 443, "{}", row.name);
        assert_eq!(world.code(&alice, sample(row, 0).without(attribute::XOR_PEER_ADDRESS)), 400, "{}", row.name);
        let malformed = sample(row, 0).instead(attribute::XOR_PEER_ADDRESS, [0, 1, 0, 0]);
        assert_eq!(world.code(&alice, malformed), 400, "{}", row.name);
        assert_eq!(world.state(), state, "{}", row.name);
        let by_port = [("1.1.0.0:0", 400), ("1.1.0.0:53", 403), ("45.0.0.1:3478", 403)];
        for (address, code) in by_port {
            let code = if row.peers == PeerCheck::Transport { code } else { 0 };
            assert_eq!(world.code(&alice, sample_to(row, address)), code, "{}: {address}", row.name);
        }
    }
}

#[test]
fn every_charge_has_a_limit_and_one_more_is_refused() {
    const LIMIT: u16 = 3;
    let limited = || {
        let mut world = World::new();
        world.reconfigure(|config| {
            config.limits.permissions_per_allocation = usize::from(LIMIT);
            config.limits.channels_per_allocation = usize::from(LIMIT);
        });
        world
    };
    for row in METHODS {
        let mut world = limited();
        match row.charge {
            Charge::None => {
                let client = another(&mut world, row, 1);
                let codes: HashSet<u16> = (0..100).map(|nth| world.code(&client, sample(row, nth))).collect();
                assert_eq!(codes, HashSet::from([0]), "{}: nothing is used up", row.name);
            }
            Charge::Allocation => {
                for (code, users_max, total_max) in [(486, LIMIT, 0), (508, 0, LIMIT)] {
                    let mut world = limited();
                    (world.ports.per_account_max, world.ports.total_max) = (users_max.into(), total_max.into());
                    for nth in 1..=LIMIT {
                        let client = another(&mut world, row, nth);
                        assert_eq!(world.code(&client, sample(row, nth)), 0, "{}", row.name);
                    }
                    let client = another(&mut world, row, LIMIT + 1);
                    assert_eq!(world.code(&client, sample(row, 0)), code, "{}", row.name);
                }
            }
            Charge::Permissions | Charge::Channel => {
                let client = another(&mut world, row, 1);
                for nth in 0..LIMIT {
                    assert_eq!(world.code(&client, sample(row, nth)), 0, "{}", row.name);
                }
                assert_eq!(world.code(&client, sample(row, LIMIT)), 508, "{}", row.name);
                assert_eq!(world.code(&client, sample(row, 0)), 0, "{}: what is there goes on", row.name);
            }
        }
    }
}

#[test]
fn a_channel_is_charged_as_a_permission_too() {
    for row in METHODS.iter().filter(|row| row.charge == Charge::Channel) {
        let mut world = World::with(|config| config.limits.permissions_per_allocation = 1);
        let alice = world.allocated();
        assert_eq!(world.code(&alice, sample(row, 0)), 0, "{}", row.name);
        let state = world.state();
        assert_eq!(world.code(&alice, sample(row, 1)), 508, "{}", row.name);
        assert_eq!(world.state(), state, "{}: no channel without its permission", row.name);
    }
}
