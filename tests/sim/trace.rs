//! The record of a run: a hash of all of it, and its last lines, shown if it fails.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Debug;

/// Lines kept.
const LINES: usize = 60;

/// What happened so far.
#[derive(Debug)]
pub struct Trace {
    /// How to run it again.
    replay: String,
    lines: VecDeque<String>,
    hash: u64,
    /// Steps so far.
    pub step: usize,
    /// How often each outcome came up.
    pub tally: BTreeMap<(&'static str, u16), u64>,
}

impl Trace {
    pub fn new(replay: String) -> Self {
        Trace { replay, lines: VecDeque::new(), hash: 0xCBF2_9CE4_8422_2325, step: 0, tally: BTreeMap::new() }
    }

    /// Adds a line; it counts for the hash.
    pub fn line(&mut self, now_ms: u64, what: &str, value: &impl Debug) {
        let line = format!("{:>4} {now_ms:>10} ms  {what}{value:?}", self.step);
        self.bytes(line.as_bytes());
        if self.lines.len() == LINES {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }

    /// Adds bytes to the hash (FNV-1a).
    pub fn bytes(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.hash = (self.hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01B3);
        }
    }

    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// Counts an outcome.
    pub fn count(&mut self, name: &'static str, code: u16) {
        *self.tally.entry((name, code)).or_default() += 1;
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let lines = self.lines.make_contiguous().join("\n");
            eprintln!("{lines}\n\nfailed at step {}; again: {}\n", self.step, self.replay);
        }
    }
}
