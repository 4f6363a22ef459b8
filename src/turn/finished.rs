//! Transactions that are over: what a server remembers of allocations that have ended.

use super::{FiveTuple, Now};
use crate::wire::stun::TransactionId;
use foldhash::fast::FixedState;
use std::collections::{HashSet, VecDeque};
use std::hash::BuildHasher;

/// How long the transaction of a finished allocation is remembered, in milliseconds: as long
/// as its retransmissions may be under way (RFC 8489 §6.3.1).
const FINISHED_MS: u64 = 40_000;
/// Finished allocations remembered; the oldest makes room.
const FINISHED_MAX: usize = 16_384;

/// Transactions of allocations that are over: a late duplicate of the Allocate that made one
/// must not make another, which nobody would know of. Bounded in time and number.
#[derive(Debug)]
pub(super) struct Finished {
    /// Until when each key is remembered, oldest first.
    pub order: VecDeque<(u64, u64)>,
    keys: HashSet<u64, FixedState>,
    hash: FixedState,
}

impl Finished {
    /// Keyed by the nonce key, which the process that takes over has too.
    pub fn new(key: &[u8; 32]) -> Self {
        let seed = key.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        let hash = FixedState::with_seed(seed);
        Finished { order: VecDeque::new(), keys: HashSet::with_hasher(hash.clone()), hash }
    }

    pub fn add(&mut self, now: Now, tuple: &FiveTuple, transaction: TransactionId) {
        self.sweep(now);
        self.insert(now.mono_ms + FINISHED_MS, self.hash.hash_one((tuple, transaction)));
    }

    pub fn insert(&mut self, until_ms: u64, key: u64) {
        if self.order.len() >= FINISHED_MAX {
            self.forget_oldest();
        }
        if self.keys.insert(key) {
            self.order.push_back((until_ms, key));
        }
    }

    /// Whether this transaction made an allocation that is over.
    pub fn holds(&mut self, now: Now, tuple: &FiveTuple, transaction: TransactionId) -> bool {
        self.sweep(now);
        self.keys.contains(&self.hash.hash_one((tuple, transaction)))
    }

    fn sweep(&mut self, now: Now) {
        while self.order.front().is_some_and(|&(until_ms, _)| until_ms <= now.mono_ms) {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some((_, key)) = self.order.pop_front() {
            self.keys.remove(&key);
        }
    }
}
