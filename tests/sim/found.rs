//! What the simulator has found: for each fault the shortest run that shows it, named for its
//! symptom. The model says what must happen; a test says what did.

use super::message as m;
use super::op::{Op, Part, Place};
use super::script::{allocate, channel, dual, lifetime, request};
use super::setting::Change;
use super::world::World;

/// A dual allocation whose IPv4 half is over and not yet freed, while IPv6 lives on.
fn half_over(world: &mut World) {
    let family = Part::Raw(m::REQUESTED_ADDRESS_FAMILY, vec![2, 0, 0, 0]);
    world.play(allocate(0, dual()));
    world.play([Op::Clock { ms: 550_000 }, request(0, m::REFRESH, vec![family, lifetime(3600)])]);
    world.play([request(0, m::CREATE_PERMISSION, vec![Part::Peer(0)]), Op::Lag, Op::Clock { ms: 60_000 }]);
}

#[test]
fn a_second_peer_in_a_channel_bind_counts_for_nothing() {
    let mut world = World::calm(|setting| setting.limits.permissions_per_allocation = 1);
    world.play(allocate(0, vec![]));
    world.play([request(0, m::CHANNEL_BIND, vec![channel(0x4000), Part::Peer(0), Part::Peer(3)])]);
    assert_eq!(world.trace.tally.get(&("channel_bind", 0)), Some(&1));
}

#[test]
fn a_duplicate_of_an_allocate_makes_nothing_while_the_wheel_is_late() {
    let mut world = World::calm(|setting| setting.limits.session_max_s = 30);
    world.play(allocate(0, vec![]));
    world.play([Op::Lag, Op::Clock { ms: 31_000 }, Op::Repeat { client: 0, back: 0, times: 1 }]);
    assert_eq!(world.trace.tally.get(&("allocate", 437)), Some(&1));
}

#[test]
fn a_retransmitted_allocate_is_not_told_of_a_relayed_address_that_is_over() {
    let mut world = World::calm(|_| {});
    half_over(&mut world);
    // The two requests after the Allocate lie between.
    world.play([Op::Repeat { client: 0, back: 2, times: 1 }]);
    assert_eq!(world.trace.tally.get(&("allocate", 0)), Some(&2));
}

#[test]
fn an_icmp_error_about_a_family_that_is_over_is_not_told() {
    let mut world = World::calm(|_| {});
    half_over(&mut world);
    world.play([Op::Icmp { peer: 0, to: Place::Client(0), kind: 3, code: 3, times: 1 }]);
    assert_eq!(world.trace.tally.get(&("indicate", 0)), None);
}

#[test]
fn a_channel_number_of_a_family_that_is_over_can_be_bound_anew() {
    let mut world = World::calm(|_| {});
    world.play(allocate(0, dual()));
    let family = Part::Raw(m::REQUESTED_ADDRESS_FAMILY, vec![2, 0, 0, 0]);
    world.play([Op::Clock { ms: 550_000 }, request(0, m::REFRESH, vec![family, lifetime(3600)])]);
    world.play([request(0, m::CHANNEL_BIND, vec![channel(0x4000), Part::Peer(0)]), Op::Lag, Op::Clock { ms: 60_000 }]);
    // Its nonce is over too: the first is challenged.
    world.play([(); 2].map(|()| request(0, m::CHANNEL_BIND, vec![channel(0x4000), Part::Peer(4)])));
    assert_eq!(world.times("channel_bind", 0), 2);
}

#[test]
fn permissions_of_a_family_that_is_over_do_not_count() {
    let mut world = World::calm(|setting| setting.limits.permissions_per_allocation = 1);
    half_over(&mut world);
    world.play([(); 2].map(|()| request(0, m::CREATE_PERMISSION, vec![Part::Peer(4)])));
    assert_eq!(world.times("create_permission", 0), 2);
}

#[test]
fn a_channel_to_what_became_an_own_address_is_delivered_in_process() {
    let mut world = World::calm(|_| {});
    world.play(allocate(0, vec![]));
    world.play([request(0, m::CHANNEL_BIND, vec![channel(0x4000), Part::Peer(3)])]);
    world
        .play([Op::Configure { change: Change::Relay }, Op::Channel { client: 0, number: 0x4000, claimed: 5, len: 5 }]);
    assert_eq!(world.trace.tally.get(&("to_relay", 0)), Some(&1));
}

#[test]
fn a_duplicate_of_a_finished_allocate_is_known_after_a_restart() {
    let mut world = World::calm(|_| {});
    world.play(allocate(0, vec![]));
    world.play([request(0, m::REFRESH, vec![lifetime(0)]), Op::Restart { worker: 1, counters: None }]);
    world.play([Op::Repeat { client: 0, back: 1, times: 1 }]);
    assert_eq!(world.trace.tally.get(&("allocate", 437)), Some(&1));
}

#[test]
fn the_longest_datagram_of_a_peer_does_not_wrap_the_length_of_a_message() {
    let mut world = World::calm(|_| {});
    // A client on a stream, where no datagram sets a limit, and a peer whose address is long.
    world.play(allocate(2, dual()));
    world.play([request(2, m::CREATE_PERMISSION, vec![Part::Peer(4)])]);
    world.play([65_504, 65_505, 65_527].map(|len| Op::Peer { from: 4, to: Place::Client(2), len }));
    assert_eq!(world.trace.tally.get(&("to_client", 0)), Some(&1));
    assert_eq!(world.trace.tally.get(&("oversize", 0)), Some(&2));
}
