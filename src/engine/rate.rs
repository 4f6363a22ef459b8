//! The byte rate of the whole server, shared by the workers.
//!
//! Each worker draws its bytes in portions, so that the shared lock is taken once for many
//! packets; without a limit it is never taken.

use crate::turn::quota::Bucket;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Smallest portion, in bytes: above the longest datagram.
const PORTION_MIN: u64 = 66_000;
/// Portions a second into which a rate is cut, when they are not smaller than that.
const PORTIONS_PER_SECOND: u64 = 1_000;

/// The rate that all workers draw from.
#[derive(Debug)]
pub(super) struct TotalRate {
    bytes_per_second: AtomicU64,
    buckets: [Mutex<Bucket>; 2],
}

impl TotalRate {
    /// A rate in each direction; 0 = no limit.
    pub fn new(bytes_per_second: u64) -> Arc<Self> {
        Arc::new(TotalRate { bytes_per_second: AtomicU64::new(bytes_per_second), buckets: Default::default() })
    }

    /// Sets another rate; 0 = no limit.
    pub fn set(&self, bytes_per_second: u64) {
        self.bytes_per_second.store(bytes_per_second, Ordering::Relaxed);
    }

    /// The rate now. Written on a reload alone, so every worker's cache keeps it.
    #[inline]
    fn get(&self) -> u64 {
        self.bytes_per_second.load(Ordering::Relaxed)
    }
}

/// One worker's share of the rate.
#[derive(Debug)]
pub(super) struct RateShare {
    total: Arc<TotalRate>,
    /// Bytes drawn and not used yet, by direction.
    drawn: [u64; 2],
}

impl RateShare {
    /// A share without a byte.
    pub fn new(total: Arc<TotalRate>) -> Self {
        RateShare { total, drawn: [0; 2] }
    }

    /// Uses `bytes` in a direction; false when the rate is used up.
    #[inline]
    pub fn take(&mut self, now_ms: u64, direction: usize, bytes: usize) -> bool {
        self.total.get() == 0 || self.take_limited(now_ms, direction, bytes as u64)
    }

    fn take_limited(&mut self, now_ms: u64, direction: usize, bytes: u64) -> bool {
        let rate = self.total.get();
        if self.drawn[direction] < bytes {
            let portion = (rate / PORTIONS_PER_SECOND).max(PORTION_MIN);
            let mut bucket = self.total.buckets[direction].lock();
            let burst = rate.max(portion);
            // A whole portion, or what this packet lacks.
            let lacking = bytes - self.drawn[direction];
            let got = [portion, lacking].into_iter().find(|&amount| bucket.take(now_ms, rate, burst, amount));
            self.drawn[direction] += got.unwrap_or(0);
        }
        match self.drawn[direction].checked_sub(bytes) {
            Some(left) => {
                self.drawn[direction] = left;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_share_one_rate() {
        let total = TotalRate::new(1_000_000);
        let mut shares = [RateShare::new(total.clone()), RateShare::new(total)];
        let mut sent = 0;
        for i in 0..5_000 {
            sent += usize::from(shares[i % 2].take(0, 0, 1_000)) * 1_000;
        }
        assert_eq!(sent, 1_000_000);
        assert!(shares[0].take(0, 1, 1_000), "the other direction has its own");
        let later = (0..5_000).filter(|i| shares[i % 2].take(500, 0, 1_000)).count();
        assert_eq!(later, 500);
    }

    #[test]
    fn without_a_limit_nothing_is_counted() {
        let mut share = RateShare::new(TotalRate::new(0));
        assert!((0..10).all(|_| share.take(0, 0, usize::MAX >> 1)));
    }
}
