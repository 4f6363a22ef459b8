//! Runs that are told step by step: what happens to clients whose NAT forgets them, to clocks that jump, and to
//! counters that come to their end. The model judges each step; a test says what must have come of it.

use super::message as m;
use super::op::{Op, Part, Place, Refuge, Severed};
use super::script::{allocate, channel, channel_data, refresh, request, send};
use super::world::World;

/// The sort of a time-limited credential `<expiry>:carol`, behind three static users.
const LIMITED: usize = 3;

/// A client with nobody at the next port.
const NOMAD: usize = 5;

/// An allocation with a permission and a channel, both to peer 0.
fn settle_in(world: &mut World, client: usize) {
    world.play(allocate(client, vec![]));
    world.play([request(client, m::CREATE_PERMISSION, vec![Part::Peer(0)])]);
    world.play([request(client, m::CHANNEL_BIND, vec![channel(0x4000), Part::Peer(0)])]);
}

/// What a client can do with them.
fn make_use(world: &mut World, client: usize) {
    world.play([
        send(client, 0),
        channel_data(client, 0x4000),
        Op::Peer { from: 0, to: Place::Client(client), len: 160 },
    ]);
}

fn allocations(world: &World) -> usize {
    world.servers.iter().map(|server| server.allocation_count()).sum()
}

/// The old allocation lives to its end, and is paid for as long.
#[test]
fn a_client_whose_port_changed_is_told_437_and_what_it_had_counts_until_it_ends() {
    let mut world = World::calm(|setting| setting.allocations.per_account = 1);
    settle_in(&mut world, NOMAD);
    world.play([Op::Rebind { client: NOMAD, to: Refuge::Unnoticed }]);
    make_use(&mut world, NOMAD);
    assert_eq!(world.times("no_allocation", 0), 2, "nobody speaks for another's 5-tuple");
    world.play([refresh(NOMAD, 600), refresh(NOMAD, 600)]);
    assert_eq!((world.times("refresh", 438), world.times("refresh", 437)), (1, 1), "its nonce was for another place");
    world.play(allocate(NOMAD, vec![]));
    assert_eq!((world.times("allocate", 486), allocations(&world)), (2, 1), "what it had counts");
    world.play([Op::Clock { ms: 601_000 }]);
    world.play(allocate(NOMAD, vec![]));
    assert_eq!(allocations(&world), 1);
    assert_eq!(world.times("allocate", 0), 2);
}

#[test]
fn a_client_whose_port_comes_back_finds_its_allocation_again() {
    let mut world = World::calm(|_| {});
    settle_in(&mut world, NOMAD);
    world.play([Op::Rebind { client: NOMAD, to: Refuge::Unnoticed }, channel_data(NOMAD, 0x4000)]);
    world.play([Op::Rebind { client: NOMAD, to: Refuge::Back }, channel_data(NOMAD, 0x4000)]);
    assert_eq!((world.times("no_allocation", 0), world.times("to_peer", 0)), (1, 1));
}

#[test]
fn a_partition_ends_nothing_before_its_time() {
    let mut world = World::calm(|_| {});
    settle_in(&mut world, 0);
    world.play([Op::Cut { side: Severed::Clients, ms: 290_000 }, channel_data(0, 0x4000), Op::Clock { ms: 290_000 }]);
    assert_eq!(world.times("to_peer", 0), 0, "nothing gets through");
    make_use(&mut world, 0);
    assert_eq!(world.times("to_peer", 0), 2, "and then all of it");
    assert!(world.times("to_client", 0) > 0);
}

#[test]
fn what_is_sent_twice_is_done_once() {
    let mut world = World::calm(|_| {});
    world.play(allocate(0, vec![]));
    let twice = |world: &mut World, op: Op| world.play([op, Op::Repeat { client: 0, back: 0, times: 1 }]);
    twice(&mut world, request(0, m::CREATE_PERMISSION, vec![Part::Peer(0)]));
    twice(&mut world, request(0, m::CHANNEL_BIND, vec![channel(0x4000), Part::Peer(0)]));
    assert_eq!((world.times("create_permission", 0), world.times("channel_bind", 0)), (2, 2));
    twice(&mut world, refresh(0, 0));
    assert_eq!((world.times("refresh", 0), world.times("refresh", 437)), (1, 1), "the second finds nothing");
    assert_eq!(allocations(&world), 0);
}

#[test]
fn a_reservation_token_is_good_at_the_other_worker_once() {
    let mut world = World::calm(|_| {});
    // Clients 0 and 1 differ in their port, hence in their worker.
    world.play(allocate(0, vec![Part::Raw(m::EVEN_PORT, vec![0x80])]));
    world.play(allocate(1, vec![Part::Token(0)]));
    assert_eq!((world.times("token_elsewhere", 0), world.times("allocate", 0)), (1, 2));
    let [first, second] = [0, 1].map(|client| world.clients()[client].relayed[0]);
    assert_eq!((first.ip(), first.port() + 1), (second.ip(), second.port()), "the pair");
    world.play(allocate(5, vec![Part::Token(0)]));
    assert_eq!(world.times("allocate", 508), 1, "a token is used up");
}

#[test]
fn two_clients_of_two_workers_reach_each_other_in_process() {
    let mut world = World::calm(|_| {});
    for client in [0, 1] {
        world.play(allocate(client, vec![]));
    }
    // Peers past the list are the relayed addresses that are held, in order.
    let held = world.pool.held();
    let number = |client: usize| {
        let relayed = world.clients()[client].relayed[0];
        super::setting::PEERS.len() + held.iter().position(|addr| *addr == relayed).expect("it is held")
    };
    let numbers = [number(0), number(1)];
    world.play([0, 1].map(|client| request(client, m::CREATE_PERMISSION, vec![Part::Peer(numbers[1 - client])])));
    world.play([0, 1].map(|client| send(client, numbers[1 - client])));
    assert_eq!((world.times("to_relay", 0), world.times("parcel", 0), world.times("to_client", 0)), (2, 2, 2));
}

/// Only the expiry of time-limited credentials heeds the wall clock.
#[test]
fn fi_09_wall_clock_jumps_touch_nothing_but_the_expiry_of_credentials() {
    for jump_s in [-86_400, 86_400, 315_576_000] {
        let mut world = World::calm(|_| {});
        world.give(1, LIMITED, 3600);
        [0, 1].into_iter().for_each(|client| settle_in(&mut world, client));
        world.play([Op::Wall { s: jump_s }]);
        for client in [0, 1] {
            make_use(&mut world, client);
            world.play([refresh(client, 600), request(client, m::CREATE_PERMISSION, vec![Part::Peer(1)])]);
        }
        assert_eq!(world.times("to_peer", 0), 4, "{jump_s} s: relayed");
        assert!(world.times("to_client", 0) >= 2, "{jump_s} s: relayed back");
        assert_eq!(world.times("refresh", 0), 2, "{jump_s} s: no nonce and no allocation is over");
        // A client that comes with the same credentials now: hers are for ever, his are over or not yet due.
        world.play([refresh(1, 0), refresh(0, 0)]);
        let let_in = world.times("allocate", 0);
        world.play([allocate(0, vec![])[0].clone(), allocate(1, vec![])[0].clone()]);
        assert_eq!((world.times("allocate", 0) - let_in, world.times("allocate", 401)), (1, 3), "{jump_s} s: expiry");
        world.play([Op::Wall { s: -jump_s }]);
        world.play([Op::Clock { ms: 20 }, allocate(1, vec![])[0].clone()]);
        assert_eq!(world.times("allocate", 0) - let_in, 2, "{jump_s} s: back in time, and good again");
    }
}

#[test]
fn fi_30_traffic_that_comes_to_the_end_of_its_counters_is_relayed_on() {
    for counters in [u64::from(u32::MAX) - 1, u64::MAX - 1, u64::MAX] {
        let mut world = World::calm(|_| {});
        settle_in(&mut world, 0);
        world.play([0, 1].map(|worker| Op::Restart { worker, counters: Some(counters) }));
        for _ in 0..3 {
            make_use(&mut world, 0);
        }
        assert_eq!(world.times("to_peer", 0), 6);
        assert!(world.times("to_client", 0) >= 3);
        let (_, allocation) = world.servers.iter().flat_map(|server| server.allocations()).next().expect("it is there");
        assert_eq!(allocation.traffic.to_peer_packets, counters.saturating_add(6), "a counter stays at its end");
    }
}

#[test]
fn fi_30_a_clock_that_outgrows_32_bits_changes_nothing() {
    for end_ms in [1 << 32, 1000 << 32] {
        let mut world = World::shortly_before(end_ms);
        settle_in(&mut world, 0);
        let before_ms = end_ms - world.now.mono_ms;
        world.play([Op::Clock { ms: before_ms - 10 }, refresh(0, 600), refresh(0, 600)]);
        world.play([request(0, m::CREATE_PERMISSION, vec![Part::Peer(0)])]);
        assert!(world.now.mono_ms > end_ms);
        make_use(&mut world, 0);
        assert_eq!((world.times("refresh", 0), world.times("refresh", 438)), (2, 0), "nonces from before are good");
        assert_eq!(world.times("to_peer", 0), 2);
        assert!(world.times("to_client", 0) > 0);
        world.play([Op::Clock { ms: 599_000 }]);
        assert_eq!(allocations(&world), 1);
        world.play([Op::Clock { ms: 2000 }]);
        assert_eq!(allocations(&world), 0, "and it ends when its time is over");
    }
}

/// The machine slept for two days: all that was overdue is gone when it goes on, and new clients are served at once.
#[test]
fn after_a_suspend_what_is_overdue_ends_and_clients_are_served() {
    let mut world = World::calm(|_| {});
    (0..4).for_each(|client| settle_in(&mut world, client));
    assert_eq!(allocations(&world), 4);
    world.play([Op::Suspend { ms: 172_800_000 }]);
    assert_eq!((allocations(&world), world.pool.held()), (0, vec![]));
    world.play(allocate(0, vec![]));
    assert_eq!(allocations(&world), 1);
}
