//! Counters: one set a worker, written by its thread alone, read by any.
//!
//! A write is a load and a store of the worker's own cache line, never a locked instruction.

use crate::turn::request::METHODS;
use crate::turn::{Answer, DropReason, EndReason};
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
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct WorkerStats {
    relayed_packets: [Counter; 2],
    relayed_bytes: [Counter; 2],
    dropped: [Counter; DropReason::ALL.len()],
    /// By row of [`METHODS`] and place in [`CODES`]; the last place is any other code.
    requests: [[Counter; CODES.len() + 1]; METHODS.len()],
    ended: [Counter; 4],
    /// Allocations created.
    pub created: Counter,
    /// Allocations there are.
    pub allocations: Counter,
    /// Connections there are.
    pub connections: Counter,
    /// Turns of the loop: a worker that stands still is wedged.
    pub rounds: Counter,
}

impl WorkerStats {
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

    /// Counts an answer.
    pub fn answered(&self, answer: Answer) {
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

    /// Allocations that ended for a reason.
    pub fn ended_total(&self, reason: EndReason) -> u64 {
        self.ended[reason as usize].get()
    }
}
