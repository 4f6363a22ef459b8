//! RFC 8656 §5–§7: making an allocation.

use crate::peer4;
use crate::wire_client::*;
use turnpike::turn::{DropReason, Framing, RESERVATION_MS, Transport, Verdict};
use turnpike::wire::attribute::{self, Family};
use turnpike::wire::stun::Method;

const V4: [u8; 4] = [1, 0, 0, 0];
const V6: [u8; 4] = [2, 0, 0, 0];

/// An Allocate for one family by name.
fn requested(family: [u8; 4]) -> Draft {
    allocate().with(attribute::REQUESTED_ADDRESS_FAMILY, family)
}

/// An Allocate for both families.
fn both() -> Draft {
    allocate().with(attribute::ADDITIONAL_ADDRESS_FAMILY, V6)
}

/// An Allocate for an even port, with or without a reservation of the next one.
fn even(reserve: bool) -> Draft {
    allocate().with(attribute::EVEN_PORT, [u8::from(reserve) << 7])
}

/// An Allocate for a reserved port.
fn with_token(token: &[u8]) -> Draft {
    allocate().with(attribute::RESERVATION_TOKEN, token)
}

fn relayed(reply: &Reply) -> Vec<std::net::SocketAddr> {
    reply.addresses(attribute::XOR_RELAYED_ADDRESS)
}

fn token(reply: &Reply) -> Vec<u8> {
    reply.get(attribute::RESERVATION_TOKEN).expect("a token").to_vec()
}

#[test]
fn cf_38_s5_another_name_on_an_allocation_is_441() {
    let mut world = World::new();
    let alice = world.allocated();
    let bob = world.login(alice.sender, BOB);
    let state = world.state();
    for draft in [refresh(0), refresh(600), permit(&[peer4()]), bind(0x4000, peer4())] {
        assert_eq!(world.code(&bob, draft), 441);
    }
    assert_eq!(world.state(), state, "the allocation is untouched");
}

#[test]
fn cf_39_s5_without_an_allocation_437_or_silence() {
    let mut world = World::new();
    let alice = world.alice();
    for draft in [refresh(600), refresh(0), permit(&[peer4()]), bind(0x4000, peer4())] {
        assert_eq!(world.code(&alice, draft), 437);
    }
    assert_eq!(world.silence(&alice.sender, &send(peer4(), b"x").encode()), DropReason::NoAllocation);
    assert_eq!(world.silence(&alice.sender, &channel(0x4000, b"x")), DropReason::NoAllocation);
    world.succeed(&alice, allocate());
    for elsewhere in [moved("192.0.2.1:4001", alice.sender), over(Transport::Tcp, alice.sender)] {
        let other = world.login(elsewhere, ALICE);
        assert_eq!(world.code(&other, refresh(600)), 437, "every part of the 5-tuple counts");
    }
}

#[test]
fn cf_43_s5_allocations_and_bytes_of_a_user_have_limits() {
    let mut world = World::with(|config| config.limits.bytes_per_second = 70_000);
    world.ports.per_account_max = 1;
    let alice = world.allocated();
    let second = world.login(udp("192.0.2.1:4001"), ALICE);
    assert_eq!(world.code(&second, allocate()), 486);
    world.succeed(&alice, bind(0x4000, peer4()));
    let message = channel(0x4000, &[0; 35_000]);
    for _ in 0..2 {
        assert!(matches!(world.relayed(&alice.sender, &message), Verdict::ToPeer { .. }));
        assert!(matches!(world.hear(&alice, peer4(), 35_000), Verdict::ToClient { .. }));
    }
    assert_eq!(world.silence(&alice.sender, &message), DropReason::Bandwidth);
    assert_eq!(world.hear(&alice, peer4(), 1), Verdict::Drop(DropReason::Bandwidth));
    world.pass_ms(500);
    assert!(matches!(world.relayed(&alice.sender, &message), Verdict::ToPeer { .. }));
}

#[test]
fn cf_44_s5_no_compatibility_with_rfc_3489() {
    let mut world = World::new();
    let mut message = allocate().encode();
    message[4..8].copy_from_slice(&[9; 4]);
    assert_eq!(world.silence(&udp("192.0.2.1:4000"), &message), DropReason::Malformed);
    let reply = world.answer(&udp("192.0.2.1:4000"), &binding().encode());
    assert!(!reply.has(attribute::MAPPED_ADDRESS));
}

#[test]
fn cf_47_s7_2_same_transaction_is_answered_again() {
    let mut world = World::new();
    let alice = world.alice();
    let message = alice.sign(even(true).with(attribute::LIFETIME, 900));
    let first = world.answer(&alice.sender, &message);
    let state = world.state();
    world.pass_s(300);
    let again = world.answer(&alice.sender, &message);
    assert_eq!((relayed(&again), token(&again)), (relayed(&first), token(&first)));
    assert_eq!(first.number(attribute::LIFETIME), Some(900));
    assert_eq!(again.number(attribute::LIFETIME), Some(600), "what is left of it");
    world.pass_s(301);
    let again = world.answer(&alice.sender, &message);
    assert_eq!(relayed(&again), relayed(&first), "even when its nonce has gone stale meanwhile");
    assert_eq!(world.state(), state);
    let mut alice = alice;
    alice.learn(&world.answer(&alice.sender, &allocate().encode()));
    let reply = world.ask(&alice, allocate());
    assert_eq!((reply.code(), relayed(&reply).len()), (437, 0), "another transaction is refused");
    let id = message[8..20].try_into().unwrap();
    let bob = world.login(alice.sender, BOB);
    assert_eq!(world.code(&bob, allocate().under(id)), 437, "and so is another user");
    assert_eq!(world.state(), state);
}

#[test]
fn cf_48_s7_2_requested_transport_is_udp_or_refused() {
    let mut world = World::new();
    let alice = world.alice();
    let bare = request(Method::ALLOCATE);
    assert_eq!(world.code(&alice, bare.clone()), 400);
    for malformed in [&[][..], &[17], &[17, 0, 0], &[17, 0, 0, 0, 0]] {
        assert_eq!(world.code(&alice, bare.clone().with(attribute::REQUESTED_TRANSPORT, malformed)), 400);
    }
    for protocol in [0, 1, 6, 132, 255] {
        let asked = bare.clone().with(attribute::REQUESTED_TRANSPORT, [protocol, 0, 0, 0]);
        assert_eq!(world.code(&alice, asked), 442, "protocol {protocol}");
    }
    assert_eq!(world.server.allocation_count(), 0);
}

#[test]
fn cf_49_s7_2_dont_fragment_is_understood() {
    let mut world = World::new();
    let alice = world.alice();
    world.succeed(&alice, allocate().with(attribute::DONT_FRAGMENT, []));
}

#[test]
fn cf_50_s7_2_a_token_stands_alone_and_must_be_known() {
    let mut world = World::new();
    let (alice, bob) = (world.alice(), world.bob());
    let known = token(&world.succeed(&alice, even(true)));
    for (kind, value) in [
        (attribute::EVEN_PORT, &[0][..]),
        (attribute::REQUESTED_ADDRESS_FAMILY, &V4),
        (attribute::ADDITIONAL_ADDRESS_FAMILY, &V6),
    ] {
        assert_eq!(world.code(&bob, with_token(&known).with(kind, value)), 400);
    }
    assert_eq!(world.code(&bob, with_token(&known[..7])), 400, "a token has eight bytes");
    assert_eq!(world.code(&bob, with_token(b"no token")), 508);
    let reply = world.succeed(&bob, with_token(&known));
    assert_eq!(relayed(&reply)[0].port(), world.relay_of(&alice).port() + 1);
    let third = world.login(udp("192.0.2.3:4000"), BOB);
    assert_eq!(world.code(&third, with_token(&known)), 508, "it is good for one allocation");
}

#[test]
fn cf_51_s7_2_requested_and_additional_family_exclude_each_other() {
    let mut world = World::new();
    let alice = world.alice();
    for family in [V4, V6] {
        let asked = requested(family).with(attribute::ADDITIONAL_ADDRESS_FAMILY, V6);
        assert_eq!(world.code(&alice, asked), 400);
    }
}

#[test]
fn cf_52_s7_2_the_family_asked_for_or_440_and_ipv4_by_default() {
    let mut world = World::new();
    let alice = world.alice();
    for (draft, ipv4) in [(allocate(), true), (requested(V4), true), (requested(V6), false)] {
        let relayed = relayed(&world.succeed(&alice, draft));
        assert_eq!((relayed.len(), relayed[0].is_ipv4()), (1, ipv4));
        world.succeed(&alice, refresh(0));
    }
    assert_eq!(world.code(&alice, requested([7, 0, 0, 0])), 440);
    assert_eq!(world.code(&alice, allocate().with(attribute::REQUESTED_ADDRESS_FAMILY, [1])), 400);
    world.ports.addresses[Family::V6.index()] = None;
    assert_eq!(world.code(&alice, requested(V6)), 440);
    world.ports.addresses.swap(0, 1);
    assert_eq!(world.code(&alice, requested(V4)), 440);
    assert_eq!(world.code(&alice, allocate()), 440, "IPv4 is what absence means");
}

#[test]
fn cf_53_s7_2_a_reservation_is_of_one_family_and_may_be_unsatisfiable() {
    let mut world = World::new();
    let alice = world.alice();
    assert_eq!(world.code(&alice, even(true).with(attribute::ADDITIONAL_ADDRESS_FAMILY, V6)), 400);
    world.ports.ranges[0] = 50_001..50_003;
    assert_eq!(world.code(&alice, even(true)), 508, "no even port has a free successor");
    let reply = world.succeed(&alice, even(false));
    assert_eq!(relayed(&reply)[0].port(), 50_002);
    let bob = world.bob();
    assert_eq!(world.code(&bob, even(false)), 508, "no even port is left");
    world.succeed(&bob, allocate());
}

#[test]
fn cf_54_s7_2_additional_family_gives_two_addresses_or_one_and_the_reason() {
    let mut world = World::new();
    let alice = world.alice();
    for wrong in [V4, [0; 4], [3, 0, 0, 0]] {
        assert_eq!(world.code(&alice, allocate().with(attribute::ADDITIONAL_ADDRESS_FAMILY, wrong)), 400);
    }
    let reply = world.succeed(&alice, both());
    let families: Vec<bool> = relayed(&reply).iter().map(|address| address.is_ipv4()).collect();
    assert_eq!((families, reply.has(attribute::ADDRESS_ERROR_CODE)), (vec![true, false], false));
    world.succeed(&alice, refresh(0));

    let full = world.ports.ranges[1].clone();
    world.ports.ranges[1] = 0..0;
    let message = alice.sign(both());
    for reply in [world.answer(&alice.sender, &message), world.answer(&alice.sender, &message)] {
        assert!(relayed(&reply)[..].iter().all(|address| address.is_ipv4()) && relayed(&reply).len() == 1);
        assert_eq!(reply.get(attribute::ADDRESS_ERROR_CODE), Some(&[2, 0, 5, 8][..]), "no IPv6 port left: 508");
    }
    world.succeed(&alice, refresh(0));
    world.ports.ranges = [0..0, full];
    let reply = world.succeed(&alice, both());
    assert_eq!(reply.get(attribute::ADDRESS_ERROR_CODE), Some(&[1, 0, 5, 8][..]), "no IPv4 port left: 508");
    world.succeed(&alice, refresh(0));
    world.ports.addresses[0] = None;
    let reply = world.succeed(&alice, both());
    assert_eq!(reply.get(attribute::ADDRESS_ERROR_CODE), Some(&[1, 0, 4, 40][..]), "no IPv4 at all: 440");
    world.succeed(&alice, refresh(0));
    (world.ports.addresses[0], world.ports.ranges) = (Some([45, 0, 0, 1].into()), [0..0, 0..0]);
    assert_eq!(world.code(&alice, both()), 508, "nothing at all");
}

#[test]
fn cf_55_s7_2_the_quota_is_the_users_and_not_the_addresss() {
    let mut world = World::new();
    world.ports.per_account_max = 2;
    for client in ["192.0.2.1:1", "192.0.2.77:1"] {
        let alice = world.login(udp(client), ALICE);
        world.succeed(&alice, both());
    }
    let third = world.login(udp("[2001:db8::9]:1"), ALICE);
    assert_eq!(world.code(&third, allocate()), 486);
    let bob = world.login(udp("192.0.2.1:2"), BOB);
    world.succeed(&bob, allocate());
    // Two time-limited names of one person share an account, whatever their expiry and source.
    for (at, code) in [(1, 0), (2, 0), (3, 486)] {
        let name = format!("{}:carol", 1_893_456_000 + at);
        let carol = world.login(udp(&format!("198.51.{at}.3:1")), (&name, &rest_password(&name)));
        assert_eq!(world.code(&carol, allocate()), code);
    }
    let name = "1893456003:dave";
    let dave = world.login(udp("198.51.3.3:2"), (name, &rest_password(name)));
    world.succeed(&dave, allocate());
    let first = world.login(udp("192.0.2.1:1"), ALICE);
    world.succeed(&first, refresh(0));
    world.succeed(&third, allocate());
}

#[test]
fn cf_57_s7_2_even_ports_and_the_reservation_of_the_next() {
    const { assert!(RESERVATION_MS >= 30_000) };
    let mut world = World::new();
    let taken = world.allocated();
    assert_eq!(world.relay_of(&taken).port(), 50_000);
    let bob = world.bob();
    let reply = world.succeed(&bob, even(false));
    assert_eq!((relayed(&reply)[0].port(), reply.has(attribute::RESERVATION_TOKEN)), (50_002, false));
    let third = world.login(udp("192.0.2.3:4000"), BOB);
    let reply = world.succeed(&third, even(true));
    assert_eq!(relayed(&reply)[0].port(), 50_004);
    let reserved = token(&reply);
    world.pass_ms(RESERVATION_MS - 1);
    let fourth = world.login(udp("192.0.2.4:4000"), BOB);
    assert_eq!(relayed(&world.succeed(&fourth, with_token(&reserved)))[0].port(), 50_005);
    world.succeed(&fourth, refresh(0));
    let reserved = token(&world.succeed(&fourth, even(true)));
    world.pass_ms(RESERVATION_MS);
    let fifth = world.login(udp("192.0.2.5:4000"), BOB);
    assert_eq!(world.code(&fifth, with_token(&reserved)), 508, "the time of the reservation is over");
}

#[test]
fn cf_58_s7_2_a_reservation_is_good_from_any_5_tuple() {
    let mut world = World::new();
    let alice = world.alice();
    let reserved = token(&world.succeed(&alice, even(true)));
    let server = peer("[2a00::1]:5349");
    let elsewhere = Client::sender(peer("[2001:db8::5]:99"), server, Transport::Tls);
    let bob = world.login(elsewhere, BOB);
    let reply = world.succeed(&bob, with_token(&reserved));
    assert_eq!(relayed(&reply), [peer("45.0.0.1:50001")]);
}

#[test]
fn cf_61_s7_2_the_lifetime_is_asked_for_and_bounded_by_default_and_maximum() {
    for (maximum_s, asked, granted) in [
        (3600, None, 600),
        (3600, Some(0), 600),
        (3600, Some(1), 600),
        (3600, Some(600), 600),
        (3600, Some(601), 601),
        (3600, Some(3600), 3600),
        (3600, Some(3601), 3600),
        (3600, Some(u32::MAX), 3600),
        (900, Some(1000), 900),
    ] {
        let mut world = World::with(|config| config.limits.lifetime_max_s = maximum_s);
        let alice = world.alice();
        let draft = asked.map_or(allocate(), |asked: u32| allocate().with(attribute::LIFETIME, asked));
        assert_eq!(world.succeed(&alice, draft).number(attribute::LIFETIME), Some(granted), "{asked:?}");
        world.sleep_ms(u64::from(granted) * 1000 - 1);
        assert!(world.find(&alice).unwrap().1.is_live(world.mono_ms));
        world.sleep_ms(1);
        assert!(!world.find(&alice).unwrap().1.is_live(world.mono_ms));
    }
    let mut world = World::new();
    let alice = world.alice();
    assert_eq!(world.code(&alice, allocate().with(attribute::LIFETIME, [0, 0, 9])), 400);
}

#[test]
fn cf_62_s7_2_what_a_success_contains() {
    let mut world = World::new();
    let alice = world.alice();
    let reply = world.succeed(&alice, even(true));
    let mut kinds = reply.kinds();
    assert_eq!(kinds.pop(), Some(attribute::MESSAGE_INTEGRITY));
    kinds.sort_unstable();
    let mut expected = [
        attribute::XOR_RELAYED_ADDRESS,
        attribute::LIFETIME,
        attribute::RESERVATION_TOKEN,
        attribute::XOR_MAPPED_ADDRESS,
    ];
    expected.sort_unstable();
    assert_eq!(kinds, expected);
    assert_eq!(reply.address(attribute::XOR_MAPPED_ADDRESS), peer("192.0.2.1:4000"));
    assert_eq!(reply.address(attribute::XOR_RELAYED_ADDRESS), world.relay_of(&alice));
    let bob = world.bob();
    assert!(!world.succeed(&bob, both()).has(attribute::RESERVATION_TOKEN));
}

#[test]
fn cf_76_s11_2_data_leaves_through_the_allocation_of_its_5_tuple() {
    let mut world = World::new();
    let alice = world.allocated();
    let bob = world.bob();
    world.succeed(&bob, allocate());
    for client in [&alice, &bob] {
        world.succeed(client, bind(0x4000, peer4()));
        for message in [send(peer4(), b"x").encode(), channel(0x4000, b"x")] {
            let Verdict::ToPeer { via, peer, .. } = world.relayed(&client.sender, &message) else { panic!() };
            assert_eq!((via, peer.0), (world.id(client), peer4()));
            assert_eq!(world.ports.owner(world.relay_of(client)), Some(via));
        }
        let verdict = world.hear(client, peer4(), 1);
        let Verdict::ToClient { client: to, framing: Framing::ChannelData(_), .. } = verdict else { panic!() };
        assert_eq!((to.addr, to.link), (client.sender.tuple.client, client.sender.link));
    }
}
