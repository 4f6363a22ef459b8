//! Peers that are not there: the client is told, a little, and nobody else is harmed (RFC 8656 §11.5).

use super::client::{Caller, Delivery, Peer, pattern};
use super::link::{Link, Via};
use super::ports::LOOPBACK;
use super::server::Server;
use crate::wire_client::channel;
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

const CHANNEL: u16 = 0x4000;
/// Indications a second that are sent for one allocation, and as many in a burst.
const INDICATIONS_PER_SECOND: u64 = 10;

/// What a client hears of a dead peer on this address.
fn unreachable(peer: SocketAddr) -> Delivery {
    match peer.ip() {
        IpAddr::V4(_) => Delivery::Icmp(peer, 3, 3), // destination unreachable, port
        IpAddr::V6(_) => Delivery::Icmp(peer, 1, 4),
    }
}

#[test]
fn a_client_is_told_that_its_peer_is_not_there() {
    let server = Server::start(&["workers=2"]);
    for ip in LOOPBACK {
        for via in Via::ALL {
            let (mut caller, _) = Caller::allocated(via, server.addr(via.listener(), ip));
            let [dead, other] = [0, 1].map(|number| SocketAddr::new(ip, server.ports.dead(number)));
            caller.permit(&[dead]);
            caller.send_to(dead, b"hello?");
            assert_eq!(caller.receive(), unreachable(dead), "{via:?}");
            caller.bind(CHANNEL, dead);
            caller.send_on(CHANNEL, b"");
            assert_eq!(caller.receive(), unreachable(dead), "ICMP is indicated, channel or not");
            caller.send_to(other, b"to another port of the same host");
            assert_eq!(caller.receive(), unreachable(other));
            assert_eq!(caller.delivered(), []);
        }
    }
    server.stop();
}

/// Sends packets to each of two peers in turn, one of whom is dead, in one write: more than the server handles at
/// a time, so that one of its rounds ends with an error and the next begins with the healthy peer.
fn interleave_in_one_write(caller: &mut Caller, alive: &Peer, relayed: SocketAddr) {
    /// As many as the healthy peer's socket holds.
    const PACKETS: usize = 150;
    let Link::Stream(stream, _) = caller.link() else { return };
    let pair = [channel(CHANNEL + 1, b"good"), channel(CHANNEL, b"lost")].concat();
    stream.send(&pair.repeat(PACKETS));
    for number in 0..PACKETS {
        assert_eq!(alive.receive(), (b"good".into(), relayed), "packet {number} to the healthy peer");
    }
}

/// Sends as many packets to each of two peers in turn, one of whom is dead, and takes what the other gets.
fn interleave(caller: &mut Caller, alive: &Peer, relayed: SocketAddr, packets: usize, on_channels: bool) {
    /// Packets to each that are under way.
    const WINDOW: usize = 20;
    for first in (0..packets).step_by(WINDOW) {
        for seed in first..first + WINDOW {
            // The dead one by channel, so that the healthy one's may be either.
            caller.send_on(CHANNEL, &pattern(seed, 30));
            match on_channels {
                true => caller.send_on(CHANNEL + 1, &pattern(seed, 100)),
                false => caller.send_to(alive.addr(), &pattern(seed, 100)),
            }
        }
        for seed in first..first + WINDOW {
            assert_eq!(alive.receive(), (pattern(seed, 100), relayed), "packet {seed} to the healthy peer");
        }
    }
}

// An error that one peer provoked is reported by the kernel at the next send to any other.
#[test]
fn a_dead_peer_costs_a_healthy_one_nothing() {
    let server = Server::start(&[]);
    for (ip, via) in [(LOOPBACK[0], Via::Udp), (LOOPBACK[1], Via::Udp), (LOOPBACK[0], Via::Tcp)] {
        let (mut caller, relayed) = Caller::allocated(via, server.addr(via.listener(), ip));
        let (dead, alive) = (SocketAddr::new(ip, server.ports.dead(0)), Peer::new(ip));
        caller.bind(CHANNEL, dead);
        caller.bind(CHANNEL + 1, alive.addr());
        let began = Instant::now();
        interleave(&mut caller, &alive, relayed, 1000, true);
        interleave(&mut caller, &alive, relayed, 1000, false);
        (0..5).for_each(|_| interleave_in_one_write(&mut caller, &alive, relayed));
        assert!(alive.is_idle());
        // The other way is as healthy.
        for seed in 0..100 {
            caller.send_on(CHANNEL, b"to nobody");
            alive.send(relayed, &pattern(seed, 50));
        }
        let mut told = 0;
        for seed in 0..100 {
            let expected = Delivery::Channel(CHANNEL + 1, pattern(seed, 50));
            let heard = std::iter::repeat_with(|| caller.receive()).find(|got| {
                *got != unreachable(dead) || {
                    told += 1;
                    false
                }
            });
            assert_eq!(heard, Some(expected));
        }
        let elapsed_s = began.elapsed().as_secs() + 1;
        let most = INDICATIONS_PER_SECOND * (elapsed_s + 1);
        assert!((1..=most).contains(&told), "{told} indications in {elapsed_s} s");
    }
    server.stop();
}

// ChannelData on a stream can hold more than a datagram: the client is told as if a router had refused it.
#[test]
fn a_payload_that_no_datagram_holds_is_reported_once() {
    let server = Server::start(&[]);
    for (ip, too_long, kind, code) in [(LOOPBACK[0], 65_508, 3, 4), (LOOPBACK[1], 65_528, 2, 0)] {
        let (mut caller, relayed) = Caller::allocated(Via::Tcp, server.addr("tcp", ip));
        let peer = Peer::new(ip);
        caller.bind(CHANNEL, peer.addr());
        caller.send_on(CHANNEL, &pattern(0, too_long - 1));
        assert_eq!(peer.receive(), (pattern(0, too_long - 1), relayed));
        caller.send_on(CHANNEL, &pattern(0, too_long));
        assert_eq!(caller.receive(), Delivery::Icmp(peer.addr(), kind, code), "the peer is named with its port");
        caller.send_on(CHANNEL, b"next");
        assert_eq!(peer.receive(), (b"next".into(), relayed));
        peer.send(relayed, b"and back");
        assert_eq!(caller.receive(), Delivery::Channel(CHANNEL, b"and back".into()), "and nothing before it");
    }
    server.stop();
}

#[test]
fn a_client_without_permission_is_told_nothing() {
    let server = Server::start(&[]);
    let (mut caller, relayed) = Caller::allocated(Via::Udp, server.addr("udp", LOOPBACK[0]));
    caller.send_to(SocketAddr::new(LOOPBACK[0], server.ports.dead(0)), b"hello?");
    Peer::new(LOOPBACK[0]).send(relayed, b"from nobody");
    assert_eq!(caller.delivered(), []);
    server.stop();
}
