//! Much of it: traffic without loss, and nonsense without harm.

use super::client::{Caller, Delivery, Payload, Peer, pattern};
use super::link::{Stream, Via};
use super::ports::LOOPBACK;
use super::resources::wait_until;
use super::server::Server;
use crate::wire_client::{allocate, bind, binding, channel, permit, refresh, send};
use std::net::{SocketAddr, UdpSocket};

const CHANNEL: u16 = 0x4000;
/// Packets under way.
const WINDOW: usize = 64;

/// Sends packets through the relay to a peer that returns each, and takes them back.
fn echo(via: Via, server: SocketAddr, packets: usize) {
    let (mut caller, relayed) = Caller::allocated(via, server);
    let peer = Peer::new(LOOPBACK[0]);
    caller.bind(CHANNEL, peer.addr());
    for first in (0..packets).step_by(WINDOW) {
        let window = first..packets.min(first + WINDOW);
        let payload = |seed: usize| pattern(seed, 200 + seed % 800);
        window.clone().for_each(|seed| caller.send_on(CHANNEL, &payload(seed)));
        for seed in window.clone() {
            let (bytes, from) = peer.receive();
            assert_eq!((&bytes, from), (&payload(seed), relayed), "packet {seed} of {packets}");
            peer.send(relayed, &bytes);
        }
        for seed in window {
            assert_eq!(caller.receive(), Delivery::Channel(CHANNEL, payload(seed)), "packet {seed} of {packets}");
        }
    }
}

#[test]
fn twenty_thousand_packets_come_back_and_none_is_lost() {
    let server = Server::start(&["workers=2"]);
    std::thread::scope(|scope| {
        for via in [Via::Udp, Via::Udp, Via::Udp, Via::Tcp] {
            let addr = server.addr(via.listener(), LOOPBACK[0]);
            scope.spawn(move || echo(via, addr, 5_000));
        }
    });
    server.stop();
}

/// A generator whose numbers depend on the seed alone (xorshift64*).
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 16
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    fn bytes(&mut self, len_max: usize) -> Vec<u8> {
        (0..self.below(len_max + 1)).map(|_| self.next() as u8).collect()
    }

    /// A message with a few bits turned over, cut short or made longer, or nothing that ever was a message.
    fn spoil(&mut self, messages: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = match self.below(4) {
            0 => self.bytes(200),
            _ => messages[self.below(messages.len())].clone(),
        };
        for _ in 0..=self.below(4) {
            match (self.below(8), bytes.len()) {
                (_, 0) => {}
                (0, len) => bytes.truncate(self.below(len)),
                (1, _) => bytes.extend(self.bytes(20)),
                (_, len) => bytes[self.below(len)] ^= 1 << self.below(8),
            }
        }
        bytes
    }
}

/// One message of each kind, signed by a client.
fn messages(caller: &Caller, peer: &Peer) -> Vec<Vec<u8>> {
    let drafts = [binding(), allocate(), refresh(600), permit(&[peer.addr()]), bind(CHANNEL, peer.addr())];
    let mut messages: Vec<_> = drafts.into_iter().map(|draft| caller.sign(draft)).collect();
    messages.push(send(peer.addr(), &pattern(0, 50)).encode());
    messages.push(channel(CHANNEL, &pattern(0, 50)));
    messages.push(binding().encode());
    messages
}

/// A client that comes now is served as ever.
fn assert_serves(server: &Server) {
    for via in Via::ALL {
        let (mut caller, relayed) = Caller::allocated(via, server.addr(via.listener(), LOOPBACK[0]));
        let peer = Peer::new(LOOPBACK[0]);
        caller.bind(CHANNEL, peer.addr());
        caller.send_on(CHANNEL, b"as ever");
        assert_eq!(peer.receive(), (Payload::from(b"as ever"), relayed));
    }
}

#[test]
fn datagrams_that_make_no_sense_do_no_harm() {
    let server = Server::start(&["workers=2"]);
    let udp = server.addr("udp", LOOPBACK[0]);
    let (mut caller, _) = Caller::allocated(Via::Udp, udp);
    let peer = Peer::new(LOOPBACK[0]);
    caller.bind(CHANNEL, peer.addr());
    let messages = messages(&caller, &peer);
    let stranger = UdpSocket::bind((LOOPBACK[0], 0)).expect("the kernel has a port");
    let mut chance = Chance(0x5EED);
    for number in 0..10_000 {
        let bytes = chance.spoil(&messages);
        // From a stranger, and on the 5-tuple of an allocation.
        match number % 2 {
            0 => drop(stranger.send_to(&bytes, udp).expect("loopback takes a datagram")),
            _ => caller.send(&bytes),
        }
        if number % 100 == 0 {
            // Not faster than the server reads. A spoiled Refresh can not have ended the allocation.
            caller.echo();
        }
    }
    assert_eq!(caller.code(refresh(600)), 0, "the allocation has survived");
    assert_serves(&server);
    server.stop();
}

#[test]
fn streams_that_make_no_sense_do_no_harm() {
    let server = Server::start(&["workers=2"]);
    let addr = |listener: &str| server.addr(listener, LOOPBACK[0]);
    let (caller, _) = Caller::allocated(Via::Udp, addr("udp"));
    let messages = messages(&caller, &Peer::new(LOOPBACK[0]));
    let mut witness = Caller::new(Via::Udp, addr("udp"));
    let before = server.files();
    let mut chance = Chance(0x0BAD_5EED);
    for number in 0..400 {
        let config = super::certificate::client(&[&rustls::version::TLS13], &[]);
        let mut stream = match number % 4 {
            0 => Stream::tls(addr("tls"), config).expect("the handshake succeeds"),
            _ => Stream::plain(addr(["tcp", "tls"][number % 2])),
        };
        let start: &[u8] = match number % 8 {
            1 => b"\x16\x03\x01", // as TLS begins
            2 => b"GET ",
            _ => b"",
        };
        let nonsense = (0..25).flat_map(|_| chance.spoil(&messages));
        let bytes: Vec<u8> = start.iter().copied().chain(nonsense).collect();
        // The server may hang up in the middle.
        let _ = stream.try_send(&bytes);
    }
    wait_until(&mut witness, || server.files() == before, "all connections are closed");
    assert_serves(&server);
    server.stop();
}

// A peer is a stranger too: whatever it sends is only bytes to the client.
#[test]
fn what_a_peer_sends_is_never_taken_for_a_message() {
    let server = Server::start(&[]);
    for via in [Via::Udp, Via::Tcp] {
        let (mut caller, relayed) = Caller::allocated(via, server.addr(via.listener(), LOOPBACK[0]));
        let peer = Peer::new(LOOPBACK[0]);
        caller.bind(CHANNEL, peer.addr());
        for message in messages(&caller, &peer) {
            peer.send(relayed, &message);
            assert_eq!(caller.receive(), Delivery::Channel(CHANNEL, message.as_slice().into()));
        }
        assert_eq!(caller.delivered(), []);
        assert!(peer.is_idle(), "nobody answers a peer");
    }
    server.stop();
}
