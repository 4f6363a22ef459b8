//! The ledger: which packets are under way, which came back, and how long they took.

use std::ops::Range;

/// A flight that has ended in arrival; no clock reads this.
const ARRIVED: u64 = u64::MAX;

/// One line a packet, from the first of a run to the last. A line takes 8 bytes.
#[derive(Debug, Default)]
pub struct Ledger {
    /// When each packet left, or [`ARRIVED`].
    left_ns: Vec<u64>,
    /// Packets before this one have arrived or are given up.
    oldest: usize,
    /// Packets under way and not given up.
    under_way: usize,
    /// The packets that count: those sent inside the measured window.
    window: Range<usize>,
    /// How long the window's packets took, in nanoseconds, in order of arrival.
    latencies_ns: Vec<u64>,
}

impl Ledger {
    /// Enters a packet that leaves now, and returns its number.
    #[inline]
    pub fn depart(&mut self, now_ns: u64) -> u64 {
        self.left_ns.push(now_ns);
        self.under_way += 1;
        self.left_ns.len() as u64 - 1
    }

    /// Enters an arrival. False for a packet that never left or has arrived before.
    #[inline]
    pub fn arrive(&mut self, seq: u64, now_ns: u64) -> bool {
        let at = seq as usize;
        let Some(left_ns) = self.left_ns.get_mut(at) else { return false };
        if *left_ns == ARRIVED {
            return false;
        }
        if self.window.contains(&at) {
            self.latencies_ns.push(now_ns.saturating_sub(*left_ns));
        }
        *left_ns = ARRIVED;
        if at >= self.oldest {
            self.under_way -= 1;
        }
        true
    }

    /// Gives up packets that left before `before_ns`, so that a closed loop does not wait for
    /// a lost one. One that arrives later after all is not lost.
    #[inline]
    pub fn give_up(&mut self, before_ns: u64) {
        while let Some(&left_ns) = self.left_ns.get(self.oldest) {
            match left_ns {
                ARRIVED => {}
                _ if left_ns < before_ns => self.under_way -= 1,
                _ => break,
            }
            self.oldest += 1;
        }
    }

    /// Packets under way and not given up.
    #[inline]
    pub fn under_way(&self) -> usize {
        self.under_way
    }

    /// Begins the window: packets that leave from now on count.
    pub fn open_window(&mut self) {
        self.window = self.left_ns.len()..usize::MAX;
    }

    /// Ends the window: packets that leave from now on do not count.
    pub fn close_window(&mut self) {
        self.window.end = self.left_ns.len();
    }

    /// The share of the window's packets that never arrived; 0 for an empty window.
    pub fn loss(&self) -> f64 {
        let lines = &self.left_ns[self.window.clone()];
        let lost = lines.iter().filter(|&&left_ns| left_ns != ARRIVED).count();
        if lines.is_empty() { 0.0 } else { lost as f64 / lines.len() as f64 }
    }

    /// The times by which the given shares (0–1, rising) of the arrived packets had come.
    pub fn percentiles_ns<const N: usize>(&mut self, shares: [f64; N]) -> Option<[u64; N]> {
        self.latencies_ns.sort_unstable();
        let last = self.latencies_ns.len().checked_sub(1)?;
        Some(shares.map(|share| self.latencies_ns[(share * last as f64).round() as usize]))
    }
}
