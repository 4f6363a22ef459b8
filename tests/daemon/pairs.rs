//! Two clients of one server that reach each other through their relayed addresses: in process, whichever
//! workers serve them, and not without the permission of both.

use super::client::{Caller, Delivery, Peer, pattern};
use super::inside::{Inside, Wish};
use super::link::Via;
use super::ports::LOOPBACK;
use super::server::Server;
use crate::wire_client::{ALICE, Client, Reply, allocate, bind, binding, permit};
use std::net::{IpAddr, SocketAddr};
use turnpike::engine::External;
use turnpike::stats::Direction;
use turnpike::turn::{DropReason, Transport};
use turnpike::wire::attribute;

/// Payloads that are tried between any two clients.
const SIZES: [usize; 5] = [0, 1, 160, 1200, 9000];
/// The channel to the first client; the others follow.
const CHANNEL: u16 = 0x4000;
/// Turns of waiting for a counter, each as long as an answer takes.
const TURNS_MAX: usize = 10_000;

fn loopback(workers: usize) -> Wish {
    Wish { workers, external: Vec::new(), allow_loopback: true }
}

/// A server behind a 1:1 NAT, whose clients are told these public addresses. Loopback may not be reached.
fn behind_nat(workers: usize) -> Wish {
    let external = ["8.8.8.8", "2400::8"].into_iter().zip(LOOPBACK);
    let external = external.map(|(public, local)| External {
        public: public.parse().expect("the test names an address"),
        private: Some(local),
    });
    Wish { workers, external: external.collect(), allow_loopback: false }
}

/// Each of the clients sends to each, itself included, in indications and then on channels.
fn everyone_to_everyone(inside: &Inside, callers: &mut [(Caller, SocketAddr)]) {
    let relayed: Vec<SocketAddr> = callers.iter().map(|(_, relayed)| *relayed).collect();
    let pairs = || (0..relayed.len()).flat_map(|from| (0..relayed.len()).map(move |to| (from, to)));
    for (caller, _) in callers.iter_mut() {
        caller.permit(&relayed[..1]); // permissions are by IP address, and all have the same
    }
    for (from, to) in pairs() {
        let payload = pattern(from, SIZES[to % SIZES.len()]);
        callers[from].0.send_to(relayed[to], &payload);
        assert_eq!(callers[to].0.receive(), Delivery::Indication(relayed[from], payload), "from {from} to {to}");
    }
    for (caller, _) in callers.iter_mut() {
        (CHANNEL..).zip(&relayed).for_each(|(number, peer)| caller.bind(number, *peer));
    }
    for (from, to) in pairs() {
        let payload = pattern(to, SIZES[from % SIZES.len()]);
        callers[from].0.send_on(CHANNEL + to as u16, &payload);
        let number = CHANNEL + from as u16;
        assert_eq!(callers[to].0.receive(), Delivery::Channel(number, payload), "from {from} to {to}");
    }
    for (caller, _) in callers.iter_mut() {
        assert_eq!(caller.delivered(), [], "nothing comes twice");
    }
    let packets = |direction| inside.total(|stats| stats.relayed_total(direction).0);
    assert_eq!(packets(Direction::ToPeer), packets(Direction::ToClient), "each packet is counted on both sides");
}

/// Two clients of each kind on each worker, on one address of the server.
fn meet(wish: Wish, ip: IpAddr) {
    let inside = Inside::start(wish);
    let vias = [Via::Udp, Via::Tcp, Via::Tls13];
    let mut callers: Vec<_> = vias.into_iter().flat_map(|via| inside.callers(via, ip, 2)).collect();
    everyone_to_everyone(&inside, &mut callers);
    assert_eq!(inside.total(|stats| DropReason::ALL.iter().map(|reason| stats.dropped_total(*reason)).sum()), 0);
}

#[test]
fn clients_of_one_worker_reach_each_other() {
    LOOPBACK.into_iter().for_each(|ip| meet(loopback(1), ip));
}

#[test]
fn clients_of_two_workers_reach_each_other() {
    LOOPBACK.into_iter().for_each(|ip| meet(loopback(2), ip));
}

// The public addresses are not this host's: had a packet left it, it would not have come back.
#[test]
fn clients_behind_a_nat_reach_each_other_without_leaving_the_host() {
    LOOPBACK.into_iter().for_each(|ip| meet(behind_nat(2), ip));
}

/// Waits until so many packets were dropped for a reason.
fn wait_for_drops(inside: &Inside, reason: DropReason, count: u64, caller: &mut Caller) {
    let dropped = || inside.total(|stats| stats.dropped_total(reason));
    for _ in 0..TURNS_MAX {
        if dropped() >= count {
            assert_eq!(dropped(), count, "{reason:?}");
            return;
        }
        caller.echo();
    }
    panic!("{} packets were dropped for {reason:?}, {count} expected", dropped());
}

// The rule of the in-process path: the receiver's permission is asked for as on the network.
#[test]
fn nothing_is_delivered_without_the_permission_of_both() {
    for workers in [1, 2] {
        let inside = Inside::start(behind_nat(workers));
        let mut callers = inside.callers(Via::Udp, LOOPBACK[0], 2);
        let (mut receiver, to) = callers.remove(callers.len() - 1); // on the last worker
        let (mut sender, from) = callers.remove(0); // on the first
        sender.send_to(to, b"the sender has no permission");
        wait_for_drops(&inside, DropReason::NoPermission, 1, &mut sender);
        sender.permit(&[to]);
        sender.bind(CHANNEL, to);
        sender.send_to(to, b"the receiver has none");
        sender.send_on(CHANNEL, b"nor for a channel");
        wait_for_drops(&inside, DropReason::NoPermission, 3, &mut receiver);
        receiver.permit(&[from]);
        sender.send_on(CHANNEL, b"both have one");
        assert_eq!(receiver.receive(), Delivery::Indication(from, b"both have one".into()));
        assert_eq!(receiver.delivered(), []);
    }
}

// What is sent to an address of this server that belongs to nobody is not sent at all.
#[test]
fn a_relayed_address_without_an_owner_is_a_dead_end() {
    let inside = Inside::start(behind_nat(2));
    let mut callers = inside.callers(Via::Udp, LOOPBACK[0], 1);
    let (mut other, gone) = callers.remove(1);
    let (mut caller, relayed) = callers.remove(0);
    caller.permit(&[gone]);
    caller.bind(CHANNEL, gone);
    caller.send_on(CHANNEL, b"to no permission of theirs");
    wait_for_drops(&inside, DropReason::NoPermission, 1, &mut other);
    other.end();
    caller.send_on(CHANNEL, b"to where they were");
    caller.send_to(gone, b"once more");
    wait_for_drops(&inside, DropReason::SelfPortRefused, 2, &mut caller);
    // Ports below the range are services of this host, never a client.
    let service = SocketAddr::new(relayed.ip(), inside.ports.dead(0));
    assert_eq!(caller.code(bind(CHANNEL + 1, service)), 403);
    caller.send_to(service, b"a service");
    wait_for_drops(&inside, DropReason::SelfPortRefused, 3, &mut caller);
}

// Where loopback is allowed, a relayed address can reach the server's own port; an allocation from there would be
// the start of a loop.
#[test]
fn a_relayed_address_is_no_client() {
    let inside = Inside::start(loopback(2));
    let server = inside.addr(Via::Udp, LOOPBACK[0]);
    let (mut caller, relayed) = Caller::allocated(Via::Udp, server);
    caller.bind(CHANNEL, server);
    let mut through = |request: Vec<u8>| {
        caller.send_on(CHANNEL, &request);
        match caller.receive() {
            Delivery::Channel(CHANNEL, answer) => Reply::decode(&answer),
            other => panic!("the server's answer comes as a peer's data: {other:?}"),
        }
    };
    let mapped = through(binding().encode()).address(attribute::XOR_MAPPED_ADDRESS);
    assert_eq!(mapped, relayed);
    let mut account = Client::new(Client::sender(relayed, server, Transport::Udp), ALICE);
    account.learn(&through(allocate().encode()));
    assert_eq!(through(account.sign(allocate())).code(), 403);
}

#[test]
fn loopback_is_refused_unless_it_is_allowed() {
    let server = Server::start(&["workers=2", "relay.allow_loopback_peers=false"]);
    for (ip, public) in LOOPBACK.into_iter().zip(["8.8.8.8:9", "[2400::8]:9"]) {
        let public: SocketAddr = public.parse().expect("the test names an address");
        let (mut caller, relayed) = Caller::allocated(Via::Udp, server.addr("udp", ip));
        let (_other, other_relayed) = Caller::allocated(Via::Udp, server.addr("udp", ip));
        let peer = Peer::new(ip);
        for forbidden in [peer.addr(), relayed, other_relayed] {
            assert_eq!(caller.code(permit(&[forbidden])), 403, "{forbidden}");
            assert_eq!(caller.code(permit(&[public, forbidden])), 403, "{forbidden} beside one that is allowed");
            assert_eq!(caller.code(bind(CHANNEL, forbidden)), 403, "{forbidden}");
            caller.send_to(forbidden, b"without asking");
            caller.send_on(CHANNEL, b"without asking");
        }
        assert_eq!(caller.delivered(), []);
        assert!(peer.is_idle());
        // Nor does the peer get through the other way.
        peer.send(relayed, b"knock");
        assert_eq!(caller.delivered(), []);
    }
    server.stop();
}
