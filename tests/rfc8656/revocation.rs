//! Revocation: who is revoked is refused whatever credential is shown, and what is there ends.

use crate::peer4;
use crate::wire_client::*;
use std::sync::Arc;
use turnpike::turn::auth::{Refused, Revocations, Secret};
use turnpike::turn::{DropReason, EndReason, Event, Transport};
use turnpike::wire::attribute;

fn revoke(world: &mut World, ids: &[&str]) {
    let mut revoked = Revocations::default();
    ids.iter().for_each(|id| assert_eq!(revoked.insert(id), Ok(true)));
    world.server.revoke(world.now(), Arc::new(revoked));
    world.pass_ms(0);
}

/// A client with a time-limited credential, on a port of its own.
fn limited(world: &mut World, port: u16, name: &str) -> Client {
    world.login(udp(&format!("192.0.2.3:{port}")), (name, &rest_password(name)))
}

fn ended(world: &World, reason: EndReason) -> usize {
    let is = |event: &&Event| matches!(event, Event::Deleted { reason: r, .. } if *r == reason);
    world.events.iter().filter(is).count()
}

/// A revoked client's request: refused like any other that does not prove itself.
fn is_revoked(world: &mut World, client: &Client, draft: Draft) -> bool {
    let reply = world.ask(client, draft);
    let is_challenge = reply.code() == 401 && reply.has(attribute::NONCE) && reply.integrity().is_none();
    is_challenge && world.told.and_then(|answer| answer.credential) == Some(Refused::Revoked)
}

#[test]
fn an_id_is_a_static_user_or_every_credential_of_a_user_id_or_one_username() {
    let carols = ["1893456000:carol", "carol:1893456001", "1893456000+a9+b100000:carol", "carol:1893456002+r1000"];
    let others = ["1893456000:caro", "1893456000:carol:2", "1893456000", "carolin:1893456000", "1893456000:alice"];
    let mut world = World::new();
    let mut clients: Vec<(&str, Client)> = vec![("alice", world.alice()), ("bob", world.bob())];
    for (at, name) in carols.into_iter().chain(others).enumerate() {
        clients.push((name, limited(&mut world, 4100 + at as u16, name)));
    }
    for (ids, gone) in [
        (&["carol"][..], &carols[..]),
        (&["1893456000:carol"], &carols[..1]),
        (&["1893456000"], &["1893456000"]),
        (&["alice"], &["alice", "1893456000:alice"]),
        (&["bob", "carol:1893456001"], &["bob", "carol:1893456001"]),
        (&["192.0.2.3", "ip 192.0.2.0/24", "mallory"], &[]),
    ] {
        for (_, client) in &clients {
            world.succeed(client, allocate());
        }
        let before = ended(&world, EndReason::Revoked);
        revoke(&mut world, ids);
        assert_eq!(ended(&world, EndReason::Revoked) - before, gone.len(), "{ids:?}");
        for (name, client) in &clients {
            assert_eq!(world.find(client).is_none(), gone.contains(name), "{name}, {ids:?} are revoked");
            assert_eq!(is_revoked(&mut world, client, allocate()), gone.contains(name), "{name}");
        }
        revoke(&mut world, &[]);
        for (name, client) in &clients {
            let code = if gone.contains(name) { 437 } else { 0 };
            assert_eq!(world.code(client, refresh(0)), code, "{name}");
        }
    }
}

#[test]
fn the_revoked_are_refused_at_every_door_and_nobody_else_hears_of_it() {
    let mut world = World::new();
    let (alice, bob) = (world.allocated_by(ALICE, 4000), world.allocated_by(BOB, 5000));
    world.succeed(&alice, bind(0x4000, peer4()));
    world.reconfigure(|config| config.auth.anonymous = true);
    let nobody = over(Transport::Tcp, udp("192.0.2.9:1"));
    assert_eq!(world.answer(&nobody, &allocate().encode()).code(), 0);
    revoke(&mut world, &["alice"]);
    for draft in [allocate(), refresh(600), refresh(0), permit(&[peer4()]), bind(0x4000, peer4())] {
        assert!(is_revoked(&mut world, &alice, draft));
    }
    assert_eq!(world.silence(&alice.sender, &channel(0x4000, b"x")), DropReason::NoAllocation);
    let guess = Client { password: b"a guess".to_vec(), ..alice.clone() };
    assert_eq!(world.code(&guess, allocate()), 401);
    assert_eq!(world.told.and_then(|answer| answer.credential), Some(Refused::Password), "a guess tells nobody");
    assert_eq!(world.answer(&nobody, &refresh(600).encode()).code(), 0);
    world.succeed(&bob, refresh(600));
    world.reconfigure(|config| config.limits.lifetime_max_s = 1200);
    assert!(is_revoked(&mut world, &alice, allocate()), "another configuration changes nothing");
    revoke(&mut world, &["bob"]);
    world.succeed(&alice, allocate());
    assert!(is_revoked(&mut world, &bob, refresh(600)));
}

#[test]
fn a_crowd_is_refused_at_once_and_ends_some_at_a_time() {
    const CROWD: usize = 400;
    let mut world = World::with(|config| config.limits.unverified_per_second = 0);
    let clients: Vec<Client> = (0..CROWD).map(|at| world.allocated_by(ALICE, 10_000 + at as u16)).collect();
    let bob = world.allocated_by(BOB, 5000);
    let mut revoked = Revocations::default();
    assert_eq!(revoked.insert("alice"), Ok(true));
    world.server.revoke(world.now(), Arc::new(revoked));
    let left = world.server.allocation_count();
    assert!((CROWD / 2..CROWD).contains(&left), "{left} are left after one turn");
    for client in &clients {
        assert!(is_revoked(&mut world, client, refresh(600)));
    }
    let mut turns = 0;
    while world.server.next_deadline().is_some_and(|at_ms| at_ms <= world.mono_ms) {
        world.server.handle_timeout(world.now());
        turns += 1;
    }
    world.pass_ms(0);
    assert!((2..10).contains(&turns), "{turns} turns");
    assert_eq!((world.server.allocation_count(), ended(&world, EndReason::Revoked)), (1, CROWD));
    world.succeed(&bob, refresh(600));
}

#[test]
fn a_session_is_cut_off_by_its_user_id_however_usernames_are_split_now() {
    const CROWD: usize = 200;
    let mut world = World::with(|config| config.limits.unverified_per_second = 0);
    let clients: Vec<Client> = (0..CROWD)
        .map(|at| {
            let client = limited(&mut world, 10_000 + at as u16, "1893456000:carol");
            world.succeed(&client, allocate());
            client
        })
        .collect();
    let nobody = limited(&mut world, 4000, "1893456000");
    world.succeed(&nobody, allocate());
    world.reconfigure(|config| config.auth.separator = '|');
    let mut revoked = Revocations::default();
    ["carol", "ip 192.0.2.0/24"].iter().for_each(|id| assert_eq!(revoked.insert(id), Ok(true)));
    world.server.revoke(world.now(), Arc::new(revoked));
    let (over, left): (Vec<_>, Vec<_>) = clients.iter().partition(|client| world.find(client).is_none());
    assert!(!over.is_empty() && !left.is_empty(), "some at a time");
    for client in left {
        assert!(is_revoked(&mut world, client, refresh(600)), "whom the walk has not reached");
    }
    world.pass_ms(0);
    assert_eq!((world.server.allocation_count(), ended(&world, EndReason::Revoked)), (1, CROWD));
    world.succeed(&nobody, refresh(600));
}

#[test]
fn an_id_that_is_no_text_is_revoked_as_it_is_shown() {
    let mut world = World::new();
    let name = b"1893456000:car\xE9l";
    let password = Secret::new(SECRET).password(name).to_vec();
    let client = Client { name: name.to_vec(), password, ..limited(&mut world, 4000, "1893456000:x") };
    world.succeed(&client, allocate());
    let shown = world.find(&client).unwrap().1.account.payer.clone();
    assert_eq!(&*shown, "car\u{fffd}l");
    revoke(&mut world, &[&shown]);
    assert_eq!(ended(&world, EndReason::Revoked), 1);
    assert!(is_revoked(&mut world, &client, allocate()), "nor does it come back");
}
