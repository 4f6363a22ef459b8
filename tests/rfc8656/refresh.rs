//! RFC 8656 §8: refreshing and deleting an allocation.

use crate::wire_client::*;
use crate::{peer4, peer6};
use turnpike::turn::{DropReason, EndReason, Event, Framing, Verdict};
use turnpike::wire::attribute::{self, Family};
use turnpike::wire::stun::Method;

/// A Refresh of one family.
fn refresh_family(lifetime_s: u32, family: u8) -> Draft {
    refresh(lifetime_s).with(attribute::REQUESTED_ADDRESS_FAMILY, [family, 0, 0, 0])
}

/// Whether a peer's datagram reaches the client, and as channel data.
fn arrives(verdict: &Verdict) -> (bool, bool) {
    match verdict {
        Verdict::ToClient { framing, .. } => (true, matches!(framing, Framing::ChannelData(_))),
        _ => (false, false),
    }
}

#[test]
fn cf_63_s8_1_one_family_is_deleted_and_the_other_untouched() {
    for (gone, kept) in [((1, peer4()), (2, peer6())), ((2, peer6()), (1, peer4()))] {
        let mut world = World::new();
        let alice = world.dual();
        world.succeed(&alice, bind(0x4000, gone.1));
        world.succeed(&alice, bind(0x4001, kept.1));
        let reply = world.succeed(&alice, refresh_family(0, gone.0));
        assert_eq!(reply.number(attribute::LIFETIME), Some(0));
        assert_eq!(arrives(&world.hear(&alice, gone.1, 1)), (false, false));
        assert_eq!(arrives(&world.hear(&alice, kept.1, 1)), (true, true));
        let left = world.find(&alice).unwrap().1.permissions.live(world.mono_ms).map(|(ip, _)| ip).collect::<Vec<_>>();
        assert_eq!(left, [kept.1.ip()]);
        assert_eq!(world.silence(&alice.sender, &channel(0x4000, b"x")), DropReason::NoChannel);
        assert!(matches!(world.relayed(&alice.sender, &channel(0x4001, b"x")), Verdict::ToPeer { .. }));
        assert_eq!(world.code(&alice, refresh_family(600, gone.0)), 443);
        assert_eq!(world.code(&alice, permit(&[gone.1])), 443);
        world.succeed(&alice, permit(&[kept.1]));
        world.succeed(&alice, refresh_family(0, kept.0));
        assert_eq!(world.code(&alice, refresh(600)), 437, "the last address takes the allocation along");
    }
}

#[test]
fn cf_63_s8_1_without_a_family_a_refresh_is_for_both() {
    let mut world = World::new();
    let alice = world.dual();
    world.succeed(&alice, refresh_family(1200, 2));
    world.pass_s(599);
    let ends = |world: &World| world.find(&alice).unwrap().1.relays.map(|relay| relay.map(|r| r.until_ms));
    let now_ms = world.mono_ms;
    assert_eq!(ends(&world), [Some(now_ms + 1_000), Some(now_ms + 601_000)]);
    world.succeed(&alice, refresh(900));
    assert_eq!(ends(&world), [Some(now_ms + 900_000); 2]);
    world.succeed(&alice, refresh_family(1200, 1));
    world.pass_s(900);
    assert_eq!(ends(&world), [Some(now_ms + 1_200_000), None], "each address has its own end");
    world.pass_s(300);
    assert!(world.find(&alice).is_none());
}

#[test]
fn cf_63_s8_1_an_address_that_is_over_is_not_brought_back_by_the_other() {
    let mut world = World::new();
    let alice = world.dual();
    world.succeed(&alice, refresh_family(1200, 2));
    world.sleep_ms(600_000);
    assert_eq!(world.code(&alice, refresh_family(600, 1)), 443);
    world.succeed(&alice, refresh(900));
    let (_, allocation) = world.find(&alice).unwrap();
    assert!(allocation.relay(Family::V4, world.mono_ms).is_none());
    assert!(allocation.relay(Family::V6, world.mono_ms + 899_999).is_some());
}

#[test]
fn cf_65_s8_2_an_allocation_that_is_over_is_none_even_before_it_is_freed() {
    let mut world = World::new();
    let alice = world.allocated();
    world.succeed(&alice, bind(0x4000, peer4()));
    world.sleep_ms(600_000);
    for draft in [refresh(600), permit(&[peer4()]), bind(0x4000, peer4())] {
        assert_eq!(world.code(&alice, draft), 437);
    }
    world.succeed(&alice, allocate());
    assert_eq!(world.server.allocation_count(), 1, "the new one has replaced it");
    assert_eq!(arrives(&world.hear(&alice, peer4(), 1)), (false, false), "and inherits nothing");
    let ended = world.events.iter().any(|event| matches!(event, Event::Deleted { reason: EndReason::Expired, .. }));
    assert!(ended);
}

#[test]
fn cf_64_s8_2_a_family_not_held_is_443() {
    let mut world = World::new();
    let alice = world.allocated();
    for (family, code) in [(1, 0), (2, 443), (3, 443), (0, 443)] {
        assert_eq!(world.code(&alice, refresh_family(600, family)), code, "family {family}");
    }
    assert_eq!(world.code(&alice, refresh_family(0, 2)), 443, "nothing is deleted in its stead");
    assert_eq!(world.code(&alice, refresh(600).with(attribute::REQUESTED_ADDRESS_FAMILY, [1])), 400);
    assert!(world.find(&alice).is_some());
}

#[test]
fn a_session_ends_in_its_time_however_often_it_is_refreshed() {
    let mut world = World::with(|config| (config.limits.session_max_s, config.nonce.lifetime_s) = (1000, 3600));
    let alice = world.allocated();
    world.pass_s(500);
    assert_eq!(world.succeed(&alice, refresh(600)).number(attribute::LIFETIME), Some(500));
    world.pass_ms(499_999);
    assert_eq!(world.succeed(&alice, refresh(600)).number(attribute::LIFETIME), Some(1));
    world.pass_ms(1);
    assert_eq!(world.code(&alice, refresh(600)), 437);
    world.succeed(&alice, allocate());
}

#[test]
fn cf_65_s8_2_lifetime_0_deletes_and_says_so() {
    let mut world = World::new();
    let alice = world.allocated();
    world.succeed(&alice, bind(0x4000, peer4()));
    let reply = world.succeed(&alice, refresh(0));
    assert_eq!(reply.number(attribute::LIFETIME), Some(0));
    assert_eq!(world.code(&alice, refresh(0)), 437);
    assert_eq!(world.silence(&alice.sender, &channel(0x4000, b"x")), DropReason::NoAllocation);
    let ended = world.events.iter().any(|event| matches!(event, Event::Deleted { reason: EndReason::Deleted, .. }));
    assert!(ended);
    world.succeed(&alice, allocate());
    assert_eq!(world.code(&alice, permit(&[peer4()])), 0);
    assert!(!arrives(&world.hear(&alice, peer4(), 1)).1, "no channel is inherited");
}

#[test]
fn cf_65_s8_2_other_lifetimes_are_granted_as_by_allocate() {
    let mut world = World::new();
    let alice = world.allocated();
    assert_eq!(world.succeed(&alice, request(Method::REFRESH)).number(attribute::LIFETIME), Some(600));
    for (asked, granted) in [(1, 600), (600, 600), (1800, 1800), (u32::MAX, 3600)] {
        assert_eq!(world.succeed(&alice, refresh(asked)).number(attribute::LIFETIME), Some(granted));
    }
    assert_eq!(world.code(&alice, request(Method::REFRESH).with(attribute::LIFETIME, [0; 5])), 400);
}

#[test]
fn cf_66_s8_2_data_never_refreshes_an_allocation() {
    let mut world = World::new();
    let alice = world.allocated();
    let until_ms = world.mono_ms + 600_000;
    for _ in 0..5 {
        world.succeed(&alice, bind(0x4000, peer4()));
        for message in [send(peer4(), b"x").encode(), channel(0x4000, b"x")] {
            assert!(matches!(world.relayed(&alice.sender, &message), Verdict::ToPeer { .. }));
        }
        assert!(arrives(&world.hear(&alice, peer4(), 1)).0);
        world.pass_s(100);
    }
    world.pass_ms(until_ms - world.mono_ms - 1);
    assert!(matches!(world.relayed(&alice.sender, &channel(0x4000, b"x")), Verdict::ToPeer { .. }));
    world.sleep_ms(1);
    assert_eq!(world.silence(&alice.sender, &channel(0x4000, b"x")), DropReason::NoAllocation);
    assert_eq!(world.silence(&alice.sender, &send(peer4(), b"x").encode()), DropReason::NoAllocation);
    assert_eq!(arrives(&world.hear(&alice, peer4(), 1)), (false, false));
}

#[test]
fn cf_95_s19_the_error_codes_of_turn_say_what_they_mean() {
    let mut world = World::with(|config| config.limits.permissions_per_allocation = 1);
    world.ports.per_account_max = 1;
    let alice = world.alice();
    let bob = world.login(alice.sender, BOB);
    assert_eq!(world.code(&alice, refresh(600)), 437, "an allocation is needed");
    assert_eq!(world.code(&alice, allocate().instead(attribute::REQUESTED_TRANSPORT, [6, 0, 0, 0])), 442);
    assert_eq!(world.code(&alice, allocate().with(attribute::REQUESTED_ADDRESS_FAMILY, [9, 0, 0, 0])), 440);
    world.succeed(&alice, allocate());
    assert_eq!(world.code(&alice, allocate()), 437, "none may be there");
    assert_eq!(world.code(&bob, refresh(600)), 441);
    assert_eq!(world.code(&alice, permit(&[peer6()])), 443);
    assert_eq!(world.code(&alice, permit(&[peer("127.0.0.1:1")])), 403);
    assert_eq!(world.code(&alice, permit(&[peer4(), peer("9.9.9.9:1")])), 508, "a limit of the server");
    let second = world.login(udp("192.0.2.1:4001"), ALICE);
    assert_eq!(world.code(&second, allocate()), 486, "a limit of the user");
    world.ports.total_max = 1;
    let bob = world.bob();
    assert_eq!(world.code(&bob, allocate()), 508);
}
