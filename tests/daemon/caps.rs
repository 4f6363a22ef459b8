//! What a credential may use, on a running engine: exactly on one allocation, and on all workers together.

use super::client::{Caller, Delivery, Peer, pattern};
use super::inside::{Inside, until};
use super::link::Via;
use super::ports::LOOPBACK;
use crate::wire_client::{allocate, refresh, rest_password};
use std::time::{SystemTime, UNIX_EPOCH};
use turnpike::turn::{DropReason, EndReason};

/// A time-limited username with these caps, good for an hour and another one every time.
fn username(caps: &str, id: &str) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is right").as_secs();
    format!("{}{caps}:{id}", now + 3600)
}

fn caller(inside: &Inside, name: &str) -> Caller {
    Caller::as_user((name, &rest_password(name)), Via::Udp, inside.addr(Via::Udp, LOOPBACK[0]))
}

/// Callers of this name, one on each of two workers; all others have left again.
fn on_both_workers(inside: &Inside, name: &str, peer: &Peer) -> [Caller; 2] {
    let held = || inside.workers().stats.iter().map(|stats| stats.allocations.get()).collect::<Vec<_>>();
    let allocated = || {
        let mut caller = caller(inside, name);
        caller.allocate(allocate());
        caller.permit(&[peer.addr()]);
        caller
    };
    let first = allocated();
    for _ in 0..100 {
        let mut second = allocated();
        if held() == [1, 1] {
            return [first, second];
        }
        second.end();
    }
    panic!("one worker serves them all");
}

fn ended(inside: &Inside, reason: EndReason) -> u64 {
    inside.total(|stats| stats.ended_total(reason))
}

#[test]
fn one_allocation_carries_its_credentials_bytes_exactly() {
    let inside = Inside::of(1);
    let peer = Peer::new(LOOPBACK[0]);
    let name = username("+b10000", "carol");
    let mut carol = caller(&inside, &name);
    let relayed = carol.allocate(allocate());
    carol.bind(0x4000, peer.addr());
    for round in 0..5 {
        carol.send_on(0x4000, &pattern(round, 1_500));
        peer.receive();
        peer.send(relayed, &pattern(round, 500));
        assert_eq!(carol.receive(), Delivery::Channel(0x4000, pattern(round, 500)));
    }
    // Nothing is left, and nothing is what this one needs.
    carol.send_on(0x4000, b"");
    peer.receive();
    peer.send(relayed, b"!");
    until("the byte too many ends it", || ended(&inside, EndReason::Quota) == 1);
    assert_eq!(carol.delivered(), []);
    assert_eq!(inside.total(|stats| stats.dropped_total(DropReason::CredentialUsedUp)), 1);
    assert_eq!(carol.code(refresh(600)), 437, "the allocation is gone");
    assert_eq!(carol.code(allocate()), 486, "and there will be no other");
    let mut fresh = caller(&inside, &username("+b10001", "carol"));
    fresh.allocate(allocate());
}

#[test]
fn a_credentials_allocations_share_its_bytes_on_all_workers() {
    let inside = Inside::of(2);
    let peer = Peer::new(LOOPBACK[0]);
    let name = username("+b100000", "carol");
    let mut callers = on_both_workers(&inside, &name, &peer);
    // Together more than they have, each less.
    for round in 0..60 {
        for caller in &mut callers {
            caller.send_to(peer.addr(), &pattern(round, 1_000));
            peer.receive();
        }
    }
    until("the ledger ends both, without a packet", || ended(&inside, EndReason::Quota) == 2);
    for caller in &mut callers {
        assert_eq!(caller.code(allocate()), 486);
    }
}

#[test]
fn what_an_allocation_has_used_is_gone_for_the_next_one() {
    let inside = Inside::of(2);
    let peer = Peer::new(LOOPBACK[0]);
    let name = username("+b10000", "carol");
    for used in [3_000, 4_000] {
        let mut carol = caller(&inside, &name);
        carol.allocate(allocate());
        carol.permit(&[peer.addr()]);
        carol.send_to(peer.addr(), &pattern(used, used));
        peer.receive();
        carol.end();
    }
    let mut carol = caller(&inside, &name);
    carol.allocate(allocate());
    carol.permit(&[peer.addr()]);
    carol.send_to(peer.addr(), &pattern(1, 3_001));
    until("3000 are left", || ended(&inside, EndReason::Quota) == 1);
    assert!(peer.is_idle());
    assert_eq!(carol.code(allocate()), 486, "a rest that is too small is forfeit");
}

#[test]
fn allocations_are_capped_on_all_workers_together() {
    let inside = Inside::of(2);
    let name = username("+a3", "carol");
    let mut held: Vec<Caller> = Vec::new();
    for _ in 0..3 {
        let mut carol = caller(&inside, &name);
        carol.allocate(allocate());
        held.push(carol);
    }
    for _ in 0..8 {
        assert_eq!(caller(&inside, &name).code(allocate()), 486);
    }
    held[1].end();
    caller(&inside, &name).allocate(allocate());
    assert_eq!(caller(&inside, &name).code(allocate()), 486);
}
