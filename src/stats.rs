//! Counters: one set a worker, written by its thread alone, read by any.
//!
//! A write is a load and a store of the worker's own cache line, never a locked instruction.

mod connections;

use crate::turn::request::METHODS;
use crate::turn::{Answer, DropReason, EndReason, Limit, Transport};
use crate::wire::attribute::Family;
pub use connections::{CloseReason, Closed};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A number that one thread counts up and others read.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds; only the owning thread may.
    #[inline]
    pub fn add(&self, amount: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(amount), Relaxed);
    }

    /// Sets; only the owning thread may.
    #[inline]
    pub fn set(&self, value: u64) {
        self.0.store(value, Relaxed);
    }

    /// The number now.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// How often values came, by size: a value counts in the first bucket whose bound it does not
/// exceed.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [u64],
    /// One a bound, and one for what exceeds them all.
    counts: [Counter; BOUNDS_MAX + 1],
    sum: Counter,
}

/// Most bounds of a histogram.
const BOUNDS_MAX: usize = 10;

impl Histogram {
    const fn new(bounds: &'static [u64]) -> Self {
        assert!(bounds.len() <= BOUNDS_MAX);
        Histogram {
            bounds,
            counts: [const { Counter(AtomicU64::new(0)) }; BOUNDS_MAX + 1],
            sum: Counter(AtomicU64::new(0)),
        }
    }

    /// Counts a value; only the owning thread may.
    #[inline]
    pub fn observe(&self, value: u64) {
        self.counts[self.bounds.iter().take_while(|&&bound| value > bound).count()].add(1);
        self.sum.add(value);
    }

    /// The upper bounds.
    pub fn bounds(&self) -> &'static [u64] {
        self.bounds
    }

    /// How many values each bucket holds, the one above all bounds last; not cumulative.
    pub fn counts(&self) -> impl Iterator<Item = u64> + '_ {
        self.counts[..=self.bounds.len()].iter().map(Counter::get)
    }

    /// The sum of all values.
    pub fn sum(&self) -> u64 {
        self.sum.get()
    }
}

/// Packets in one batch.
const BATCH_BOUNDS: &[u64] = &[1, 2, 4, 8, 16, 32, 64];
/// Milliseconds of a session: 1 s, 10 s, 1 min, 5 min, 10 min, 30 min, 1 h, 4 h, 24 h.
const DURATION_BOUNDS: &[u64] =
    &[1_000, 10_000, 60_000, 300_000, 600_000, 1_800_000, 3_600_000, 14_400_000, 86_400_000];
/// Bytes of a session, both ways: 1 kB to 10 GB.
const BYTES_BOUNDS: &[u64] =
    &[1_000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000, 1_000_000_000, 10_000_000_000];

/// Which way relayed packets go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From a client to a peer.
    ToPeer,
    /// From a peer to a client.
    ToClient,
}

/// Answer codes that are counted one by one: 0 is success.
pub const CODES: [u16; 12] = [0, 300, 400, 401, 403, 420, 437, 438, 440, 441, 486, 508];

/// What one worker has done.
#[derive(Debug)]
#[repr(align(128))]
pub struct WorkerStats {
    relayed_packets: [Counter; 2],
    relayed_bytes: [Counter; 2],
    dropped: [Counter; DropReason::ALL.len()],
    /// By row of [`METHODS`] and place in [`CODES`]; the last place is any other code.
    requests: [[Counter; CODES.len() + 1]; METHODS.len()],
    reached: [Counter; Limit::ALL.len()],
    ended: [Counter; EndReason::ALL.len()],
    /// Relayed addresses that began and that ended, by transport of the client and family.
    opened: [[Counter; 2]; 3],
    closed: [[Counter; 2]; 3],
    /// Allocations created.
    pub created: Counter,
    /// Allocations there are.
    pub allocations: Counter,
    /// Connections there are.
    pub connections: Counter,
    /// Connections that ended, by reason.
    pub closed_connections: Closed,
    /// Live permissions, as counted within the last second or so.
    pub permissions: Counter,
    /// Live channels, as counted within the last second or so.
    pub channels: Counter,
    /// Relay ports that are free, on all addresses; told among the first worker's counters, by whichever changes it.
    pub ports_free: Counter,
    /// Notices that nobody had room for.
    pub notices_lost: Counter,
    /// Packets received at a time.
    pub batches: Histogram,
    /// How long allocations lived that ended, in milliseconds.
    pub session_ms: Histogram,
    /// What they carried, in bytes, both ways.
    pub session_bytes: Histogram,
    /// Turns of the loop: a worker that stands still is wedged.
    pub rounds: Counter,
}

impl Default for WorkerStats {
    fn default() -> Self {
        WorkerStats {
            relayed_packets: Default::default(),
            relayed_bytes: Default::default(),
            dropped: Default::default(),
            requests: Default::default(),
            reached: Default::default(),
            ended: Default::default(),
            opened: Default::default(),
            closed: Default::default(),
            created: Counter::default(),
            allocations: Counter::default(),
            connections: Counter::default(),
            closed_connections: Closed::default(),
            permissions: Counter::default(),
            channels: Counter::default(),
            ports_free: Counter::default(),
            notices_lost: Counter::default(),
            batches: Histogram::new(BATCH_BOUNDS),
            session_ms: Histogram::new(DURATION_BOUNDS),
            session_bytes: Histogram::new(BYTES_BOUNDS),
            rounds: Counter::default(),
        }
    }
}

impl WorkerStats {
    /// Counts a relayed address that begins.
    pub fn opened(&self, transport: Transport, family: Family) {
        self.opened[transport as usize][family.index()].add(1);
    }

    /// Counts a relayed address that ends.
    pub fn closed(&self, transport: Transport, family: Family) {
        self.closed[transport as usize][family.index()].add(1);
    }

    /// Relayed addresses that began, and that are there now.
    pub fn relayed_addresses(&self, transport: Transport, family: Family) -> (u64, u64) {
        // What ended is read first: it can not exceed what began after it.
        let closed = self.closed[transport as usize][family.index()].get();
        let opened = self.opened[transport as usize][family.index()].get();
        (opened, opened.saturating_sub(closed))
    }

    /// Counts a relayed packet.
    #[inline]
    pub fn relayed(&self, direction: Direction, bytes: usize) {
        self.relayed_packets[direction as usize].add(1);
        self.relayed_bytes[direction as usize].add(bytes as u64);
    }

    /// Counts a drop.
    #[inline]
    pub fn dropped(&self, reason: DropReason) {
        self.dropped[reason as usize].add(1);
    }

    /// Counts an answer, and the limit that decided it.
    pub fn answered(&self, answer: Answer) {
        if let Some(rule) = answer.rule
            && let Some(&limit) = Limit::ALL.iter().find(|limit| limit.rule() == rule)
        {
            self.reached[limit as usize].add(1);
        }
        let Some(row) = METHODS.iter().position(|row| row.method == answer.method) else { return };
        let column = CODES.iter().position(|&code| code == answer.code).unwrap_or(CODES.len());
        self.requests[row][column].add(1);
    }

    /// Counts the end of an allocation.
    pub fn ended(&self, reason: EndReason) {
        self.ended[reason as usize].add(1);
    }

    /// Packets and bytes relayed in a direction.
    pub fn relayed_total(&self, direction: Direction) -> (u64, u64) {
        (self.relayed_packets[direction as usize].get(), self.relayed_bytes[direction as usize].get())
    }

    /// Drops for a reason.
    pub fn dropped_total(&self, reason: DropReason) -> u64 {
        self.dropped[reason as usize].get()
    }

    /// Answers to the method of a row with the code of a place in [`CODES`].
    pub fn answered_total(&self, row: usize, column: usize) -> u64 {
        self.requests[row][column].get()
    }

    /// Requests that a limit refused.
    pub fn reached_total(&self, limit: Limit) -> u64 {
        self.reached[limit as usize].get()
    }

    /// Allocations that ended for a reason.
    pub fn ended_total(&self, reason: EndReason) -> u64 {
        self.ended[reason as usize].get()
    }
}
