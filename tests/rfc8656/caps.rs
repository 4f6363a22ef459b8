//! What a credential may use: the caps in a time-limited username, and its expiry.

use crate::peer4;
use crate::wire_client::*;
use turnpike::turn::allocation::STATE_VERSION;
use turnpike::turn::auth::{Caps, Refused};
use turnpike::turn::{DropReason, EndReason, Event, Server, Verdict};
use turnpike::wire::attribute;

fn limited(world: &mut World, port: u16, name: &str) -> Client {
    world.login(udp(&format!("192.0.2.3:{port}")), (name, &rest_password(name)))
}

/// A client with an allocation and a channel to a peer.
fn connected(world: &mut World, name: &str) -> Client {
    let client = limited(world, 4000, name);
    world.succeed(&client, allocate());
    world.succeed(&client, bind(0x4000, peer4()));
    client
}

/// Sends so many bytes to the peer: the reason when they are dropped.
fn send_bytes(world: &mut World, client: &Client, len: usize) -> Option<DropReason> {
    match world.deliver(&client.sender, &channel(0x4000, &vec![b'x'; len])) {
        Outcome::Relayed(Verdict::ToPeer { .. }) => None,
        Outcome::Silence(reason) => Some(reason),
        other => panic!("relayed or dropped: {other:?}"),
    }
}

/// Receives so many bytes from the peer: the reason when they are dropped.
fn hear_bytes(world: &mut World, client: &Client, len: usize) -> Option<DropReason> {
    match world.hear(client, peer4(), len) {
        Verdict::ToClient { .. } => None,
        Verdict::Drop(reason) => Some(reason),
        other => panic!("relayed or dropped: {other:?}"),
    }
}

fn end_of(world: &World) -> Option<EndReason> {
    match world.events.last() {
        Some(Event::Deleted { reason, .. }) => Some(*reason),
        _ => None,
    }
}

#[test]
fn caps_ride_behind_the_expiry_wherever_that_stands() {
    let all = Caps { allocations: Some(2), bytes_per_second: Some(125_000), bytes: Some(1_000_000_000) };
    for (name, payer, caps) in [
        ("1893456000+a2+r125000+b1000000000:carol", "carol", all),
        ("carol:1893456000+a2+r125000+b1000000000", "carol", all),
        ("1893456000+a2+r125000+b1000000000", "1893456000+a2+r125000+b1000000000", all),
        ("1893456000+a2+r125000+b1000000000:", "1893456000+a2+r125000+b1000000000:", all),
        ("1893456000+b7", "ip 192.0.2.0/24", Caps { bytes: Some(7), ..Caps::default() }),
        ("1893456000+b7:1234567890", "1234567890", Caps { bytes: Some(7), ..Caps::default() }),
        ("1893456000:carol+a2", "carol+a2", Caps::default()),
        ("carol+a2:1893456000", "carol+a2", Caps::default()),
        ("1893456000", "ip 192.0.2.0/24", Caps::default()),
    ] {
        let mut world = World::new();
        let carol = limited(&mut world, 4000, name);
        world.succeed(&carol, allocate());
        let allocation = world.find(&carol).unwrap().1;
        assert_eq!((&*allocation.account.payer, allocation.caps), (payer, caps), "{name}");
    }
}

#[test]
fn a_name_with_caps_of_another_form_is_unknown() {
    let mut world = World::with(|config| config.limits.unverified_per_second = 0);
    for name in [
        "1893456000+:carol",
        "1893456000+a:carol",
        "1893456000+a0:carol",
        "1893456000+a01:carol",
        "1893456000+a4294967296:carol",
        "1893456000+b18446744073709551616:carol",
        "1893456000+b99999999999999999999999:carol",
        "1893456000+b1+a1:carol",
        "1893456000+a1+a1:carol",
        "1893456000+a1 :carol",
        "1893456000+a1+:carol",
        "1893456000+A1:carol",
        "1893456000+c1:carol",
        "1893456000+a-1:carol",
        "1893456000 +a1:carol",
        "+a1:carol",
        "+a1",
        "carol:1893456000+a0",
        "carol:+a1",
        "1893456000+a1:1893456000+a2",
        "1893456000:1893456000+a2",
        "1893456000+a0:1893456000",
        "1893456000+:1893456000",
        "123+a1+a1:1893456000+a1",
        "1893456000+a\u{665}:carol",
        "1893456000+a1\0:carol",
    ] {
        let carol = limited(&mut world, 4000, name);
        assert_eq!(world.code(&carol, allocate()), 401, "{name}");
        assert_eq!(world.told.and_then(|answer| answer.credential), Some(Refused::Unknown), "{name}");
    }
}

#[test]
fn caps_can_not_be_changed_by_their_bearer() {
    let mut world = World::new();
    let granted = "1893456000+a1+b1000:carol";
    let carol = limited(&mut world, 4000, granted);
    for forged in ["1893456000+a9+b1000:carol", "1893456000+a1:carol", "1893456000:carol"] {
        let forger = Client { name: forged.into(), ..carol.clone() };
        assert_eq!(world.code(&forger, allocate()), 401, "{forged}");
        assert_eq!(world.told.and_then(|answer| answer.credential), Some(Refused::Password), "{forged}");
    }
    world.succeed(&carol, allocate());
    let forger = Client { name: "1893456000+a1+b9000:carol".into(), ..carol.clone() };
    assert_eq!(world.code(&forger, refresh(600)), 401, "nor on an allocation that is there");
}

#[test]
fn allocations_of_a_user_id_are_capped_on_the_whole_server() {
    let mut world = World::new();
    let name = "1893456000+a2:carol";
    let carols: Vec<Client> = (0..3).map(|at| limited(&mut world, 4000 + at, name)).collect();
    world.succeed(&carols[0], allocate());
    world.succeed(&carols[1], allocate().with(attribute::ADDITIONAL_ADDRESS_FAMILY, [2, 0, 0, 0]));
    for draft in [allocate(), allocate().with(attribute::ADDITIONAL_ADDRESS_FAMILY, [2, 0, 0, 0])] {
        assert_eq!(world.code(&carols[2], draft), 486);
        assert_eq!(world.told.and_then(|answer| answer.rule), Some("allocations of the credential"));
    }
    let uncapped = limited(&mut world, 4010, "1893456001:carol");
    world.succeed(&uncapped, allocate());
    world.succeed(&carols[0], refresh(0));
    assert_eq!(world.code(&carols[2], allocate()), 486, "all that the user id holds counts");
    world.succeed(&carols[1], refresh(0));
    world.succeed(&carols[2], allocate());
    world.ports.per_account_max = 1;
    let generous = limited(&mut world, 4011, "1893456000+a9:dave");
    world.succeed(&generous, allocate());
    let again = limited(&mut world, 4012, "1893456000+a9:dave");
    assert_eq!(world.code(&again, allocate()), 486, "a credential never allows more than the server");
    assert_eq!(world.told.and_then(|answer| answer.rule), Some("limits.allocations_per_user"));
}

#[test]
fn a_credential_without_an_id_shares_its_allocations_with_no_neighbour() {
    let mut world = World::new();
    for name in ["1893456000+a1", "1893456001+a1", "1893456002"] {
        let at = world.server.allocation_count() as u16 * 2;
        let [one, two] = [0, 1].map(|second| limited(&mut world, 4000 + at + second, name));
        world.succeed(&one, allocate());
        let code = if name.contains('+') { 486 } else { 0 };
        assert_eq!(world.code(&two, allocate()), code, "{name}");
    }
}

#[test]
fn a_rate_caps_each_direction_and_the_lower_of_two_rates_counts() {
    for (name, server_rate, rate) in [
        ("1893456000+r100000:carol", 0, 100_000),
        ("1893456000+r100000:carol", 70_000, 70_000),
        ("1893456000+r100000:carol", 500_000, 100_000),
        ("1893456000+a1:carol", 70_000, 70_000),
    ] {
        let mut world = World::with(|config| config.limits.bytes_per_second = server_rate);
        let carol = connected(&mut world, name);
        let half = rate / 2;
        assert_eq!(send_bytes(&mut world, &carol, half), None);
        assert_eq!(send_bytes(&mut world, &carol, half - 1), None);
        assert_eq!(send_bytes(&mut world, &carol, 1), None, "{name} {server_rate}");
        assert_eq!(send_bytes(&mut world, &carol, 1), Some(DropReason::Bandwidth), "{name} {server_rate}");
        for _ in 0..2 {
            assert_eq!(hear_bytes(&mut world, &carol, half), None, "the other direction has its own");
        }
        assert_eq!(hear_bytes(&mut world, &carol, 1), Some(DropReason::Bandwidth));
        world.pass_ms(500);
        assert_eq!(send_bytes(&mut world, &carol, half), None);
        assert_eq!(send_bytes(&mut world, &carol, 1), Some(DropReason::Bandwidth));
        assert!(world.find(&carol).is_some(), "who is too fast is slowed, not ended");
    }
}

#[test]
fn a_datagram_longer_than_a_seconds_rate_goes_and_is_made_up_for() {
    for (name, server_rate) in [("1893456000+r1000:carol", 0), ("1893456000:carol", 1000)] {
        let mut world = World::with(|config| config.limits.bytes_per_second = server_rate);
        let carol = connected(&mut world, name);
        world.pass_s(60);
        for _ in 0..2 {
            assert_eq!(send_bytes(&mut world, &carol, 65_000), None, "{name}");
            assert_eq!(hear_bytes(&mut world, &carol, 65_000), None, "{name}");
            assert_eq!(send_bytes(&mut world, &carol, 535), None);
            assert_eq!(send_bytes(&mut world, &carol, 1), Some(DropReason::Bandwidth));
            world.pass_s(10);
            assert_eq!(send_bytes(&mut world, &carol, 10_001), Some(DropReason::Bandwidth), "no more than the rate");
            world.pass_s(60);
        }
    }
}

#[test]
fn bytes_are_capped_to_the_byte_both_ways_together() {
    let mut world = World::new();
    let carol = connected(&mut world, "1893456000+b100:carol");
    assert_eq!(send_bytes(&mut world, &carol, 60), None);
    assert_eq!(hear_bytes(&mut world, &carol, 39), None);
    assert_eq!(send_bytes(&mut world, &carol, 0), None);
    assert_eq!(send_bytes(&mut world, &carol, 1), None, "the hundredth byte");
    assert_eq!(send_bytes(&mut world, &carol, 0), None, "what has no bytes needs none");
    world.succeed(&carol, refresh(600));
    assert_eq!(hear_bytes(&mut world, &carol, 1), Some(DropReason::CredentialUsedUp), "and the one after it");
    assert_eq!(end_of(&world), Some(EndReason::Quota));
    assert!(world.find(&carol).is_none());
    assert_eq!(send_bytes(&mut world, &carol, 1), Some(DropReason::NoAllocation));
}

#[test]
fn a_datagram_that_does_not_fit_into_what_is_left_ends_the_allocation() {
    for to_peer in [true, false] {
        let mut world = World::new();
        let carol = connected(&mut world, "1893456000+b100:carol");
        assert_eq!(send_bytes(&mut world, &carol, 60), None);
        let dropped = if to_peer { send_bytes(&mut world, &carol, 41) } else { hear_bytes(&mut world, &carol, 41) };
        assert_eq!((dropped, end_of(&world)), (Some(DropReason::CredentialUsedUp), Some(EndReason::Quota)));
    }
}

#[test]
fn what_other_allocations_used_is_told_and_at_nothing_left_the_allocation_ends() {
    let mut world = World::new();
    let carol = connected(&mut world, "1893456000+b1000:carol");
    let id = world.id(&carol);
    world.server.set_bytes_left(world.now(), id, 10);
    assert_eq!(send_bytes(&mut world, &carol, 10), None);
    world.server.set_bytes_left(world.now(), id, 0);
    world.pass_ms(0);
    assert_eq!(end_of(&world), Some(EndReason::Quota));
    let alice = world.allocated();
    world.server.set_bytes_left(world.now(), world.id(&alice), 0);
    assert!(world.find(&alice).is_some(), "who has no cap has nothing to use up");
}

#[test]
fn caps_go_on_in_the_next_process() {
    let mut world = World::new();
    let carol = connected(&mut world, "1893456000+a3+r100000+b200000:carol");
    for _ in 0..2 {
        assert_eq!(send_bytes(&mut world, &carol, 40_000), None);
    }
    let (state, ..) = world.state();
    assert_eq!(state.version, STATE_VERSION);
    let written = serde_json::to_string(&state).unwrap();
    world.server = Server::new(std::sync::Arc::new(world.config.clone()), world.now(), 43);
    assert!(world.server.restore(serde_json::from_str(&written).unwrap()).is_some());
    assert_eq!(world.find(&carol).map(|(_, a)| a.bytes_left), Some(120_000));
    assert_eq!(send_bytes(&mut world, &carol, 20_001), Some(DropReason::Bandwidth));
    world.pass_s(1);
    for _ in 0..2 {
        assert_eq!(send_bytes(&mut world, &carol, 50_000), None);
    }
    assert_eq!(send_bytes(&mut world, &carol, 20_001), Some(DropReason::Bandwidth));
    world.pass_s(1);
    assert_eq!(send_bytes(&mut world, &carol, 20_001), Some(DropReason::CredentialUsedUp));
}

#[test]
fn a_strict_expiry_ends_the_allocation_and_no_refresh_moves_it() {
    let mut world = World::with(|config| config.auth.strict_expiry = true);
    let expires_s = START.unix_s + 1000;
    let carol = connected(&mut world, &format!("{expires_s}+r9000:carol"));
    assert_eq!(world.succeed(&carol, refresh(3600)).number(attribute::LIFETIME), Some(1000));
    world.pass_s(400);
    assert_eq!(world.succeed(&carol, refresh(3600)).number(attribute::LIFETIME), Some(600));
    world.pass_s(100);
    world.succeed(&carol, bind(0x4000, peer4()));
    world.pass_ms(499_999);
    assert_eq!(send_bytes(&mut world, &carol, 1), None);
    world.sleep_ms(1);
    assert_eq!(send_bytes(&mut world, &carol, 1), Some(DropReason::NoAllocation), "over before it is freed");
    world.pass_s(1);
    assert_eq!(end_of(&world), Some(EndReason::Expired));
    let later = limited(&mut world, 4001, std::str::from_utf8(&carol.name).unwrap());
    assert_eq!(world.code(&later, allocate()), 401);
    assert_eq!(world.told.and_then(|answer| answer.credential), Some(Refused::Expired(1)));
}
