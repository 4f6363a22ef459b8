//! What a running engine tells those who watch it, and what it does for those who steer it.

use super::client::{Caller, Peer, pattern};
use super::inside::{Inside, until};
use super::link::Via;
use super::ports::LOOPBACK;
use crate::wire_client::{ALICE, BOB, REALM, allocate, binding, permit, refresh};
use std::net::SocketAddr;
use std::time::Duration;
use turnpike::bus::{Command, Notice, Reply, SessionDetail, SessionId, SessionPage, Workers};
use turnpike::turn::auth::{Credentials, Refused};
use turnpike::turn::policy::PeerPolicy;
use turnpike::turn::{self, EndReason, Transport};
use turnpike::wire::attribute::Family;
use turnpike::wire::stun::Method;

const PATIENCE: Duration = Duration::from_secs(10);

/// Sends a command to one worker and waits for the answer.
fn ask<T: Send + 'static>(workers: &Workers, worker: usize, command: impl FnOnce(Reply<T>) -> Command) -> T {
    let (give, answer) = std::sync::mpsc::channel();
    let reply = Reply::new(move |value| give.send(value).expect("the test waits"));
    workers.mailboxes[worker].send(command(reply)).expect("the worker takes commands");
    answer.recv_timeout(PATIENCE).expect("the worker answers")
}

fn page(workers: &Workers, worker: usize, from: u32) -> SessionPage {
    ask(workers, worker, |reply| Command::Sessions { from, reply })
}

fn notice(workers: &Workers) -> Notice {
    workers.notices.recv_timeout(PATIENCE).expect("a notice comes")
}

#[test]
fn a_session_is_shown_with_all_that_belongs_to_it() {
    let inside = Inside::of(1);
    let workers = inside.workers();
    assert_eq!(page(&workers, 0, 0), SessionPage { sessions: Vec::new(), next: None });
    let peer = Peer::new(LOOPBACK[0]);
    let (mut caller, relayed) = Caller::allocated(Via::Tcp, inside.addr(Via::Tcp, LOOPBACK[0]));
    caller.permit(&[peer.addr()]);
    caller.bind(0x4001, peer.addr());
    caller.send_on(0x4001, &pattern(1, 100));
    peer.receive();
    peer.send(relayed, &pattern(2, 60));
    caller.receive();

    let session = page(&workers, 0, 0).sessions.remove(0);
    assert_eq!((&*session.account.username, &*session.account.payer), (ALICE.0.as_bytes(), ALICE.0));
    assert_eq!((session.tuple.client.0, session.tuple.transport), (caller.local_addr(), Transport::Tcp));
    assert_eq!(session.relayed.map(|relayed| relayed.map(|r| r.0)), [Some(relayed), None]);
    assert_eq!((session.permissions, session.channels), (1, 1));
    assert_eq!((session.traffic.to_peer_packets, session.traffic.to_peer_bytes), (1, 100));
    assert_eq!((session.traffic.to_client_packets, session.traffic.to_client_bytes), (1, 60));
    assert!((590_000..=600_000).contains(&session.left_ms) && session.age_ms < 10_000, "{session:?}");

    let id = session.id.allocation;
    let detail: SessionDetail = ask(&workers, 0, |reply| Command::Session { id, reply }).expect("it is there");
    assert_eq!(detail.permissions.iter().map(|(ip, _)| *ip).collect::<Vec<_>>(), [peer.addr().ip()]);
    assert_eq!(detail.channels.iter().map(|c| (c.0.get(), c.1.0)).collect::<Vec<_>>(), [(0x4001, peer.addr())]);

    let gone = turn::AllocationId { generation: id.generation + 1, ..id };
    assert_eq!(ask(&workers, 0, |reply| Command::Session { id: gone, reply }), None);
    until("permissions and channels are counted", || {
        inside.total(|stats| stats.permissions.get()) == 1 && inside.total(|stats| stats.channels.get()) == 1
    });
    assert_eq!(inside.total(|stats| stats.relayed_addresses(Transport::Tcp, Family::V4).1), 1);
    caller.end();
    until("what ended is no longer counted", || {
        inside.total(|stats| stats.permissions.get()) == 0 && inside.total(|stats| stats.channels.get()) == 0
    });
    assert_eq!(inside.total(|stats| stats.relayed_addresses(Transport::Tcp, Family::V4).0), 1);
    assert_eq!(inside.total(|stats| stats.relayed_addresses(Transport::Tcp, Family::V4).1), 0);
}

#[test]
fn sessions_come_in_pages() {
    let inside = Inside::of(1);
    let workers = inside.workers();
    let server = inside.addr(Via::Udp, LOOPBACK[0]);
    let callers: Vec<(Caller, SocketAddr)> = (0..258).map(|_| Caller::allocated(Via::Udp, server)).collect();
    let first = page(&workers, 0, 0);
    assert_eq!((first.sessions.len(), first.next), (256, Some(256)));
    let second = page(&workers, 0, 256);
    assert_eq!((second.sessions.len(), second.next), (2, None));
    let mut shown: Vec<SocketAddr> =
        first.sessions.iter().chain(&second.sessions).map(|session| session.tuple.client.0).collect();
    let mut clients: Vec<SocketAddr> = callers.iter().map(|(caller, _)| caller.local_addr()).collect();
    shown.sort_unstable();
    clients.sort_unstable();
    assert_eq!(shown, clients);
    assert_eq!(page(&workers, 0, u32::MAX), SessionPage { sessions: Vec::new(), next: None });
}

#[test]
fn a_session_is_ended_and_its_beginning_and_end_are_told() {
    let inside = Inside::of(1);
    let workers = inside.workers();
    let (mut caller, relayed) = Caller::allocated(Via::Udp, inside.addr(Via::Udp, LOOPBACK[0]));
    let Notice::Created { id, account, relayed: told, tuple } = notice(&workers) else { panic!("a session began") };
    assert_eq!((&*account.payer, told[0].map(|r| r.0)), (ALICE.0, Some(relayed)));
    assert_eq!(tuple.client.0, caller.local_addr());
    let close = |id: SessionId| ask(&workers, 0, |reply| Command::Close { id: id.allocation, reply });
    assert!(close(id));
    assert!(!close(id), "it is gone");
    assert_eq!(caller.code(refresh(600)), 437);
    let Notice::Ended { id: ended, reason, .. } = notice(&workers) else { panic!("the session ended") };
    assert_eq!((ended, reason), (id, EndReason::Closed));
    let Notice::Refused { answer, username, .. } = notice(&workers) else { panic!("the refresh was refused") };
    assert_eq!((answer.method, answer.code, answer.credential), (Method::REFRESH, 437, None));
    assert_eq!(username.as_deref(), Some(ALICE.0));
}

#[test]
fn a_wrong_password_is_told_and_a_first_request_is_not() {
    let inside = Inside::of(1);
    let workers = inside.workers();
    let mut caller = Caller::as_user((ALICE.0, "guess"), Via::Udp, inside.addr(Via::Udp, LOOPBACK[0]));
    assert_eq!(caller.ask(allocate()).code(), 401);
    let Notice::Refused { tuple, username, answer } = notice(&workers) else { panic!("only refusals") };
    assert_eq!((tuple.client.0, username.as_deref()), (caller.local_addr(), Some(ALICE.0)));
    assert_eq!((answer.code, answer.credential), (401, Some(Refused::Password)));
}

#[test]
fn refusals_are_told_at_a_bounded_rate_and_the_rest_is_counted() {
    let inside = Inside::of(1);
    let workers = inside.workers();
    let (mut caller, _) = Caller::allocated(Via::Udp, inside.addr(Via::Udp, LOOPBACK[0]));
    let refused: SocketAddr = "10.0.0.1:7".parse().expect("an address");
    for _ in 0..100 {
        assert_eq!(caller.code(permit(&[refused])), 403);
    }
    caller.exchange(&binding().encode());
    let told = workers.notices.try_iter().filter(|notice| matches!(notice, Notice::Refused { .. })).count() as u64;
    let lost = inside.total(|stats| stats.notices_lost.get());
    assert_eq!(told + lost, 100);
    assert!((20..100).contains(&told), "{told} were told");
}

#[test]
fn a_draining_worker_keeps_what_it_has_and_takes_nothing_new() {
    let inside = Inside::of(2);
    let workers = inside.workers();
    let server = inside.addr(Via::Udp, LOOPBACK[0]);
    let (mut old, _) = Caller::allocated(Via::Udp, server);
    let drain = turn::Drain { alternates: [].into(), left_ms: u64::MAX };
    assert!(workers.tell_all(|| Command::Drain(Some(drain.clone()))));
    // A command that is answered comes after those before it.
    (0..2).for_each(|worker| drop(page(&workers, worker, 0)));
    let mut new = Caller::new(Via::Udp, server);
    assert_eq!(new.code(allocate()), 508);
    assert_eq!(old.code(refresh(600)), 0);
    old.permit(&[server]);
    assert!(workers.tell_all(|| Command::Drain(None)));
    (0..2).for_each(|worker| drop(page(&workers, worker, 0)));
    assert_eq!(new.code(allocate()), 0);
}

#[test]
fn another_configuration_is_in_force_at_once_and_ends_what_it_forbids() {
    let inside = Inside::of(2);
    let workers = inside.workers();
    let server = inside.addr(Via::Udp, LOOPBACK[0]);
    let peer = Peer::new(LOOPBACK[0]);
    let (mut alice, relayed) = Caller::allocated(Via::Udp, server);
    alice.permit(&[peer.addr()]);
    let mut auth = Credentials::new(REALM);
    auth.add_user(BOB.0, BOB.1);
    inside.configure(turn::Config {
        realm: REALM.into(),
        auth,
        policy: PeerPolicy::default(),
        limits: turn::Limits { unverified_per_second: 0, ..turn::Limits::default() },
        ..turn::Config::default()
    });
    (0..2).for_each(|worker| drop(page(&workers, worker, 0)));
    peer.send(relayed, b"no more");
    assert_eq!(alice.delivered(), [], "loopback is forbidden now");
    assert_eq!(alice.code(permit(&[peer.addr()])), 403);
    assert_eq!(alice.code(refresh(600)), 0, "an allocation keeps its key, and its nonce is good");
    let mut again = Caller::new(Via::Udp, server);
    assert_eq!(again.ask(allocate()).code(), 401, "alice is gone");
    let mut bob = Caller::as_user(BOB, Via::Udp, server);
    assert_eq!(bob.code(allocate()), 0);
}
