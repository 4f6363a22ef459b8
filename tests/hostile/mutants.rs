//! Valid messages with a few bytes of them changed: whatever they have become, the server lives and keeps nothing.

use crate::client::{Caller, Peer};
use crate::link::{Link, Stream, Via};
use crate::live::Live;
use crate::ports::LOOPBACK;
use crate::sockets::is_quiet;
use crate::wire_client::*;
use std::net::SocketAddr;
use turnpike::wire::attribute;

/// Messages tried over UDP, and over TCP.
const UDP_MUTANTS: u64 = 1_000;
const TCP_MUTANTS: u64 = 300;

/// A generator of numbers (SplitMix64): the same seed, the same messages.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ mixed >> 31
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }
}

/// One of everything a client may send.
fn valid(caller: &Caller, peer: SocketAddr, which: usize) -> Vec<u8> {
    let both = allocate().with(attribute::ADDITIONAL_ADDRESS_FAMILY, [2, 0, 0, 0]);
    let mut fingerprinted = binding().with(attribute::USERNAME, &b"alice"[..]).encode();
    push_fingerprint(&mut fingerprinted);
    match which % 8 {
        0 => fingerprinted,
        1 => caller.sign(allocate()),
        2 => caller.sign(both.with(attribute::LIFETIME, 600)),
        3 => caller.sign(refresh(600)),
        4 => caller.sign(permit(&[peer])),
        5 => caller.sign(bind(0x4000, peer)),
        6 => send(peer, b"payload").encode(),
        _ => channel(0x4000, b"pay!"),
    }
}

/// Changes a message: bits turned, bytes set to what hurts, cut out, doubled, or cut off.
fn mutate(bytes: &mut Vec<u8>, numbers: &mut Numbers) {
    for _ in 0..=numbers.below(4) {
        let at = numbers.below(bytes.len());
        match numbers.below(7) {
            0 | 1 if !bytes.is_empty() => bytes[at] ^= 1 << numbers.below(8),
            2 | 3 if !bytes.is_empty() => bytes[at] = [0, 1, 3, 4, 0x40, 0x7F, 0x80, 0xFF][numbers.below(8)],
            4 => drop(bytes.drain(at..(at + numbers.below(8)).min(bytes.len()))),
            5 => {
                let piece = bytes[at..(at + numbers.below(24)).min(bytes.len())].to_vec();
                bytes.splice(at..at, piece);
            }
            _ => bytes.truncate(at.max(1)),
        }
    }
}

#[test]
fn a_thousand_mutated_datagrams_leave_a_server_that_serves() {
    let live = Live::start(&["relay.allow_loopback_peers=true"]);
    let peer = Peer::new(LOOPBACK[0]);
    let mut caller = Caller::new(Via::Udp, live.addr(Via::Udp, LOOPBACK[0]));
    caller.succeed(allocate());
    caller.bind(0x4000, peer.addr());
    for seed in 0..UDP_MUTANTS {
        let mut numbers = Numbers(seed);
        let mut bytes = valid(&caller, peer.addr(), seed as usize);
        mutate(&mut bytes, &mut numbers);
        caller.send(&bytes);
        // Every answer that comes before this one's is read strictly.
        caller.echo();
    }
    // A mutant may have ended what was allocated, and none has made more of it.
    let allocations = live.meters().sum("turnpike_allocations");
    assert!(allocations <= 2, "{allocations} relayed addresses of one client");
    assert!(matches!(caller.code(refresh(0)), 0 | 437));
    live.wait_until_deserted();
    live.finish();
}

#[test]
fn three_hundred_mutated_streams_leave_a_server_that_serves() {
    let live = Live::start(&["relay.allow_loopback_peers=true"]);
    let peer = Peer::new(LOOPBACK[0]);
    let mut witness = live.witness();
    let (mut answered, mut ended, mut waited) = (0, 0, 0);
    for seed in 0..TCP_MUTANTS {
        let mut numbers = Numbers(seed ^ 0x7C);
        let mut caller = Caller::new(Via::Tcp, live.addr(Via::Tcp, LOOPBACK[0]));
        caller.succeed(allocate());
        let mut bytes = valid(&caller, peer.addr(), seed as usize);
        mutate(&mut bytes, &mut numbers);
        let Link::Stream(stream, _) = caller.link() else { unreachable!("TCP is a stream") };
        stream.send(&bytes);
        witness.echo();
        // Whatever it has become, it was answered, has ended the connection, or is waited for.
        match fate(stream) {
            Fate::Answered => answered += 1,
            Fate::Ended => ended += 1,
            Fate::Waits => waited += 1,
        }
    }
    assert!(answered > 10 && ended > 10 && waited > 10, "{answered} answered, {ended} ended, {waited} wait");
    live.wait_until_deserted();
    live.finish();
}

/// What became of a stream.
enum Fate {
    Answered,
    Ended,
    Waits,
}

/// Reads what came. Nothing of it may be anything but whole messages.
fn fate(stream: &mut Stream) -> Fate {
    if is_quiet(stream) {
        return Fate::Waits;
    }
    let mut room = [0; 4_096];
    match stream.read(&mut room) {
        Ok(0) | Err(_) => Fate::Ended,
        Ok(len) => {
            let mut rest = &room[..len];
            while let [_, _, high, low, ..] = *rest {
                let (message, after) = rest.split_at(20 + usize::from(u16::from_be_bytes([high, low])));
                Reply::decode(message);
                rest = after;
            }
            assert!(rest.is_empty(), "only whole messages come");
            Fate::Answered
        }
    }
}

#[test]
fn a_mutant_differs_from_seed_to_seed_and_not_from_run_to_run() {
    let made = |seed| {
        let mut bytes = send(peer("192.0.2.1:1"), b"payload").under([7; 12]).encode();
        mutate(&mut bytes, &mut Numbers(seed));
        bytes
    };
    let all: Vec<_> = (0..50).map(made).collect();
    assert!(all.iter().enumerate().all(|(seed, bytes)| *bytes == made(seed as u64)));
    let distinct: std::collections::BTreeSet<_> = all.iter().collect();
    assert!(distinct.len() > 40, "{} of 50 differ", distinct.len());
}
