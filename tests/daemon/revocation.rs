//! Who is revoked and what a new policy forbids ends on a running engine, whatever goes on meanwhile.

use super::client::{Caller, Delivery, Payload, Peer, pattern};
use super::inside::{Inside, until};
use super::link::Via;
use super::ports::LOOPBACK;
use crate::wire_client::{ALICE, BOB, REALM, allocate, permit, refresh};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};
use turnpike::bus::{Command, Notice};
use turnpike::turn::auth::{Credentials, Refused, Revocations};
use turnpike::turn::policy::PeerPolicy;
use turnpike::turn::{self, EndReason};

/// What an operator is promised.
const PROMISED: Duration = Duration::from_secs(1);

fn revoke(inside: &Inside, ids: &[&str]) {
    let mut revoked = Revocations::default();
    ids.iter().for_each(|id| assert_eq!(revoked.insert(id), Ok(true)));
    let revoked = Arc::new(revoked);
    assert!(inside.workers().tell_all(|| Command::Revoke(revoked.clone())));
}

#[test]
fn the_revoked_are_cut_off_within_a_second_on_every_worker_and_nobody_else() {
    let inside = Inside::of(2);
    let peer = Peer::new(LOOPBACK[0]);
    let mut callers = inside.callers(Via::Udp, LOOPBACK[0], 3);
    let mut bob = Caller::as_user(BOB, Via::Udp, inside.addr(Via::Udp, LOOPBACK[0]));
    let bobs = bob.allocate(allocate());
    bob.permit(&[peer.addr()]);
    callers.iter_mut().for_each(|(caller, _)| caller.permit(&[peer.addr()]));
    let before = inside.total(|stats| stats.allocations.get());
    let began = Instant::now();
    revoke(&inside, &["alice"]);
    until("hers are over", || inside.total(|stats| stats.allocations.get()) == 1);
    assert!(began.elapsed() < PROMISED, "it took {:?}", began.elapsed());
    assert_eq!(inside.total(|stats| stats.ended_total(EndReason::Revoked)), before - 1);
    for (caller, relayed) in &mut callers {
        peer.send(*relayed, b"no more");
        assert_eq!(caller.delivered(), []);
        caller.send_to(peer.addr(), b"no more");
        for draft in [refresh(600), allocate()] {
            assert_eq!(caller.code(draft), 401);
        }
    }
    let refused = |notice: &Notice| match notice {
        Notice::Refused { answer, .. } => answer.credential == Some(Refused::Revoked),
        _ => false,
    };
    assert!(inside.workers().notices.try_iter().any(|notice| refused(&notice)), "whoever watches is told why");
    bob.send_to(peer.addr(), b"undisturbed");
    assert_eq!(peer.receive(), (b"undisturbed".into(), bobs), "and nothing of the others has come through");
    revoke(&inside, &["bob"]);
    until("his is over too", || inside.total(|stats| stats.allocations.get()) == 0);
    assert_eq!(callers[0].0.code(allocate()), 0, "she is let in again");
}

/// Who may allocate, and a policy that forbids some peers.
fn forbidding(deny: &[&str]) -> turn::Config {
    let mut auth = Credentials::new(REALM);
    auth.add_user(ALICE.0, ALICE.1);
    let deny = deny.iter().map(|block| block.parse().expect("a block")).collect();
    turn::Config {
        realm: REALM.into(),
        auth,
        policy: PeerPolicy { allow_loopback: true, deny, ..PeerPolicy::default() },
        limits: turn::Limits { unverified_per_second: 0, ..turn::Limits::default() },
        ..turn::Config::default()
    }
}

/// Receives what the allowed peer sent, and says whether something of the other came before it.
fn hear(caller: &mut Caller, allowed: SocketAddr, payload: &Payload) -> bool {
    let mut is_heard = false;
    loop {
        match caller.receive() {
            Delivery::Indication(peer, said) => {
                assert_eq!((peer, &said), (allowed, payload));
                return is_heard;
            }
            Delivery::Channel(0x4000, _) => is_heard = true,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_tightened_policy_ends_what_it_forbids_within_a_second_and_loses_nothing_else() {
    let inside = Inside::of(2);
    let [forbidden, allowed] = [1, 2].map(|last| Peer::new(Ipv4Addr::new(127, 0, 0, last).into()));
    let peers: [SocketAddr; 2] = [forbidden.addr(), allowed.addr()];
    let mut callers = inside.callers(Via::Udp, LOOPBACK[0], 2);
    for (caller, _) in &mut callers {
        caller.bind(0x4000, peers[0]);
        caller.permit(&peers);
    }
    let mut told = None;
    let mut last_heard = Instant::now();
    for round in 0.. {
        if round == 50 {
            inside.configure(forbidding(&["127.0.0.1/32"]));
            told = Some(Instant::now());
        }
        let payload = pattern(round, 100);
        let mut is_heard = false;
        for (caller, relayed) in &mut callers {
            caller.send_on(0x4000, &payload);
            forbidden.send(*relayed, &payload);
            allowed.send(*relayed, &payload);
            caller.send_to(peers[1], &payload);
            assert_eq!(allowed.receive(), (payload.clone(), *relayed));
            is_heard |= hear(caller, peers[1], &payload);
        }
        match told {
            None => assert!(is_heard, "round {round}"),
            Some(_) if is_heard => last_heard = Instant::now(),
            // Nothing has come for a while, on any worker.
            Some(told) if last_heard.max(told).elapsed() > PROMISED => {
                assert!(last_heard.saturating_duration_since(told) < PROMISED);
                break;
            }
            Some(_) => {}
        }
    }
    let (caller, _) = &mut callers[0];
    assert_eq!(caller.code(permit(&peers[..1])), 403);
    caller.permit(&peers[1..]);
    // What left before the policy came is all that ever arrived, and by now it has stopped.
    while !forbidden.is_idle() {} // looking takes a datagram
    caller.send_on(0x4000, b"forbidden");
    caller.send_to(peers[1], b"allowed");
    allowed.receive();
    assert!(forbidden.is_idle());
}
