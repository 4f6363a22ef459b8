//! What is measured, by name.

use crate::report::Sample;
use crate::stage::Stage;
use crate::{control, load};
use std::io;

/// The way a packet takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    /// Client, relay, peer, relay, client.
    Echo,
    /// Client, relay, relay, client: both ends are clients of the server.
    Pair,
}

/// How packets are framed between client and server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// ChannelData.
    Channel,
    /// Send and Data indications.
    Indication,
}

/// When packets are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// Poisson arrivals that make so many relayed packets a second.
    PerSecond(u32),
    /// As fast as they come back, so many at a time.
    InFlight(usize),
}

/// A scenario in which packets are relayed.
#[derive(Clone, Copy, Debug)]
pub struct Relay {
    /// The way of the packets.
    pub path: Path,
    /// Their framing.
    pub framing: Framing,
    /// Bytes of each, a multiple of 4.
    pub payload_len: usize,
    /// Allocations, each with a client socket of its own; even for pairs.
    pub allocations: usize,
    /// Their rate.
    pub pace: Pace,
}

/// What a scenario does.
#[derive(Clone, Copy, Debug)]
pub enum Work {
    /// Relays packets; the unit is one packet the relay delivered.
    Relay(Relay),
    /// Holds so many allocations; the unit is one of them.
    Memory(usize),
    /// Makes and ends allocations, so many at a time; the unit is one life.
    Cycle(usize),
    /// Answers Binding requests, so many at a time; the unit is one of them.
    Binding(usize),
}

/// A named scenario.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// Its name on the command line and in tables.
    pub name: &'static str,
    /// What it does.
    pub work: Work,
    /// What its cost is counted in: CPU time of the server per unit, or memory.
    pub cost_unit: &'static str,
    /// What its rate is counted in.
    pub rate_unit: &'static str,
}

const ECHO: Relay = Relay {
    path: Path::Echo,
    framing: Framing::Channel,
    payload_len: 160,
    allocations: 1000,
    pace: Pace::PerSecond(50_000),
};

/// Every scenario, in the order of the table.
pub const ALL: &[Scenario] = &[
    relay("both-160-1000-20k", Relay { pace: Pace::PerSecond(20_000), ..ECHO }),
    relay("both-160-1000-50k", ECHO),
    relay("flat-both-160-1000", Relay { pace: Pace::InFlight(64), ..ECHO }),
    relay("ind-160-1000-50k", Relay { framing: Framing::Indication, ..ECHO }),
    relay("pair-160-1000-20k", Relay { path: Path::Pair, pace: Pace::PerSecond(20_000), ..ECHO }),
    relay("flat-pair", Relay { path: Path::Pair, pace: Pace::InFlight(64), ..ECHO }),
    relay("rtt", Relay { allocations: 100, pace: Pace::PerSecond(10_000), ..ECHO }),
    Scenario { name: "cycle", work: Work::Cycle(64), cost_unit: "us/cycle", rate_unit: "cycles/s" },
    Scenario { name: "binding", work: Work::Binding(64), cost_unit: "ns/req", rate_unit: "req/s" },
    Scenario { name: "rss", work: Work::Memory(5000), cost_unit: "B/alloc", rate_unit: "" },
];

const fn relay(name: &'static str, relay: Relay) -> Scenario {
    assert!(relay.payload_len.is_multiple_of(4) && relay.payload_len >= turnpike::load::payload::PAYLOAD_LEN_MIN);
    assert!(relay.allocations.is_multiple_of(2));
    Scenario { name, work: Work::Relay(relay), cost_unit: "ns/pkt", rate_unit: "pkt/s" }
}

impl Path {
    /// Relayed packets that one sent packet makes.
    pub const fn relayed_per_packet(self) -> u32 {
        match self {
            Path::Echo => 2,
            Path::Pair => 1,
        }
    }
}

impl Scenario {
    /// Runs it on a fresh server, with a window of `seconds` where it has one.
    pub fn run(&self, stage: &mut Stage<'_>, seconds: f64) -> io::Result<Sample> {
        match &self.work {
            Work::Relay(relay) => load::run(stage, relay, seconds),
            Work::Memory(allocations) => control::rss(stage, *allocations),
            Work::Cycle(under_way) => control::cycle(stage, *under_way, seconds),
            Work::Binding(under_way) => control::binding(stage, *under_way, seconds),
        }
    }
}
