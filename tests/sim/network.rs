//! The network between everyone: it loses, repeats, delays and reorders what is not a stream, swallows what is long,
//! and falls apart for a while.

use super::chance::{Choice, Seeded};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use turnpike::turn::{FiveTuple, Sender};

/// What is under way.
#[derive(Clone, Debug)]
pub enum Leg {
    Server {
        from: Sender,
        bytes: Vec<u8>,
    },
    Client {
        to: FiveTuple,
        bytes: Vec<u8>,
    },
    /// From a peer to a relayed address.
    Relay {
        from: SocketAddr,
        to: SocketAddr,
        bytes: Vec<u8>,
    },
    /// Between two clients of this server that different workers serve: in process, in order and without loss.
    Parcel {
        from: SocketAddr,
        to: SocketAddr,
        bytes: Vec<u8>,
    },
}

impl Leg {
    fn len(&self) -> usize {
        let (Leg::Server { bytes, .. }
        | Leg::Client { bytes, .. }
        | Leg::Relay { bytes, .. }
        | Leg::Parcel { bytes, .. }) = self;
        bytes.len()
    }

    /// Whether it is lost while the network is cut there.
    fn crosses(&self, side: Side) -> bool {
        match (self, side) {
            (Leg::Server { from, .. }, Side::Client(client)) => from.tuple.client.0 == client,
            (Leg::Client { to, .. }, Side::Client(client)) => to.client.0 == client,
            (Leg::Server { .. } | Leg::Client { .. }, Side::Clients) | (Leg::Relay { .. }, Side::Peers) => true,
            _ => false,
        }
    }
}

/// Who is cut off from the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Client(SocketAddr),
    Clients,
    Peers,
}

/// How good a network is.
#[derive(Clone, Copy, Debug)]
pub struct Quality {
    /// Of 100 datagrams, how many are lost, and how many come twice.
    pub loss: u32,
    pub twice: u32,
    /// Shortest and longest delay, in milliseconds; what overtakes what is up to them.
    pub delay_ms: (u32, u32),
    /// Longest datagram that arrives.
    pub len_max: usize,
}

/// A network without faults.
const PERFECT: Quality = Quality { loss: 0, twice: 0, delay_ms: (0, 1), len_max: usize::MAX };
#[rustfmt::skip]
const QUALITIES: [Quality; 6] = [
    PERFECT,
    Quality { loss: 2, twice: 2, delay_ms: (0, 40), ..PERFECT },
    Quality { loss: 10, twice: 10, delay_ms: (0, 200), ..PERFECT },
    Quality { loss: 30, twice: 20, delay_ms: (0, 500), ..PERFECT },
    Quality { loss: 30, twice: 20, delay_ms: (50, 350), ..PERFECT },
    Quality { loss: 5, twice: 0, delay_ms: (20, 60), len_max: 1452 },
];
/// The worst but one: 200 ms there and back on average, three of ten lost.
#[cfg(test)]
pub const BAD: Quality = QUALITIES[4];

/// Datagrams under way, by the time they arrive.
#[derive(Debug)]
pub struct Network {
    flights: BTreeMap<(u64, u64), Leg>,
    count: u64,
    quality: Quality,
    /// Who is cut off, and until when.
    cut: Option<(Side, u64)>,
    chance: Seeded,
}

impl Network {
    /// A network of some quality.
    pub fn choose(mut chance: Seeded) -> Self {
        let quality = chance.pick(&QUALITIES);
        Network::new(quality, chance)
    }

    /// A network without faults.
    pub fn perfect(chance: Seeded) -> Self {
        Network::new(PERFECT, chance)
    }

    /// A network of this quality.
    pub fn new(quality: Quality, chance: Seeded) -> Self {
        Network { flights: BTreeMap::new(), count: 0, quality, cut: None, chance }
    }

    /// Cuts a side off until then.
    pub fn cut(&mut self, side: Side, until_ms: u64) {
        self.cut = Some((side, until_ms));
    }

    /// Sends; a stream loses nothing, keeps its order, and waits until a cut is over.
    pub fn send(&mut self, now_ms: u64, leg: Leg, is_stream: bool) {
        let cut = self.cut.filter(|(side, until_ms)| now_ms < *until_ms && leg.crosses(*side));
        if is_stream || matches!(leg, Leg::Parcel { .. }) {
            return self.launch(cut.map_or(now_ms, |(_, until_ms)| until_ms) + 1, leg);
        }
        let Quality { loss, twice, delay_ms: (shortest_ms, longest_ms), len_max } = self.quality;
        if self.chance.below(100) < loss || cut.is_some() || leg.len() > len_max {
            return;
        }
        let copies = 1 + u32::from(self.chance.below(100) < twice);
        for _ in 0..copies {
            let delay_ms = shortest_ms + self.chance.below(longest_ms - shortest_ms + 1);
            self.launch(now_ms + u64::from(delay_ms), leg.clone());
        }
    }

    fn launch(&mut self, at_ms: u64, leg: Leg) {
        self.count += 1;
        self.flights.insert((at_ms, self.count), leg);
    }

    /// When the next datagram arrives.
    pub fn next_ms(&self) -> Option<u64> {
        self.flights.first_key_value().map(|(key, _)| key.0)
    }

    /// Takes one that has arrived.
    pub fn arrive(&mut self, now_ms: u64) -> Option<Leg> {
        let entry = self.flights.first_entry().filter(|entry| entry.key().0 <= now_ms)?;
        Some(entry.remove())
    }

    /// Whether nothing is under way.
    pub fn is_empty(&self) -> bool {
        self.flights.is_empty()
    }
}
