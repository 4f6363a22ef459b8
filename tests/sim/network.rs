//! The network between everyone: it loses, repeats, delays and reorders what is not a stream.

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
}

/// Datagrams under way, by the time they arrive.
#[derive(Debug)]
pub struct Network {
    flights: BTreeMap<(u64, u64), Leg>,
    count: u64,
    /// Of 100 datagrams, how many are lost, and how many come twice.
    loss: u32,
    twice: u32,
    delay_max_ms: u32,
    chance: Seeded,
}

impl Network {
    /// A network of some quality.
    pub fn choose(mut chance: Seeded) -> Self {
        let (loss, twice, delay_max_ms) = chance.pick(&[(0, 0, 1), (2, 2, 40), (10, 10, 200), (30, 20, 500)]);
        Network { loss, twice, delay_max_ms, ..Network::perfect(chance) }
    }

    /// A network without faults.
    pub fn perfect(chance: Seeded) -> Self {
        Network { flights: BTreeMap::new(), count: 0, loss: 0, twice: 0, delay_max_ms: 1, chance }
    }

    /// Sends; a stream loses nothing and keeps its order.
    pub fn send(&mut self, now_ms: u64, leg: Leg, is_stream: bool) {
        if is_stream {
            return self.launch(now_ms + 1, leg);
        }
        if self.chance.below(100) < self.loss {
            return;
        }
        let copies = 1 + u32::from(self.chance.below(100) < self.twice);
        for _ in 0..copies {
            let delay_ms = self.chance.below(self.delay_max_ms + 1);
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
