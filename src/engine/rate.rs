//! The byte rate of the whole server: shared by the workers, and fairly by their allocations.
//!
//! Without a limit one number is looked at and nothing else. With one, each direction has a pot that
//! fills at the limit's rate and holds two floors. A packet within its allocation's fair share may
//! take all but the last quarter, and a small one that too; what goes beyond the share may take the
//! upper half only. So whoever uses more than the others meets the first floor, and those who do not
//! never notice. See [`share`] for what is fair.
//!
//! Each worker draws its bytes in portions, so that the shared lock is taken once for many packets.

mod share;

use crate::stats::Direction;
use crate::turn::AllocationId;
use crate::turn::allocation::BURST_MIN;
use crate::turn::quota::Bucket;
use parking_lot::Mutex;
use share::{Class, Shares, Terms, Window};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Portions a second into which a rate is cut.
const PORTIONS_PER_SECOND: u64 = 1_000;

/// The rate that all workers draw from.
#[derive(Debug)]
pub(super) struct TotalRate {
    bytes_per_second: AtomicU64,
    pots: [Mutex<Pot>; 2],
}

impl TotalRate {
    /// A rate in each direction; 0 = no limit.
    pub fn new(bytes_per_second: u64) -> Arc<Self> {
        Arc::new(TotalRate { bytes_per_second: AtomicU64::new(bytes_per_second), pots: Default::default() })
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

/// What flows in one direction, of all workers.
#[derive(Debug, Default)]
struct Pot {
    bucket: Bucket,
    window: Window,
}

impl Pot {
    /// Draws a whole portion, or what a packet lacks, or nothing.
    fn draw(&mut self, now_ms: u64, rate: u64, class: Class, lacking: u64) -> Option<u64> {
        let burst = burst(rate);
        let floor = match class {
            Class::Small => 0,
            Class::Within => burst / 4,
            Class::Beyond => burst / 2,
        };
        let portion = (rate / PORTIONS_PER_SECOND).max(lacking);
        let mut amounts = [portion, lacking].into_iter();
        let got = amounts.find(|&amount| self.bucket.take_above(now_ms, rate, burst, floor, amount));
        self.window.count(class, got);
        got
    }
}

/// Bytes that go at once: those of a second, and at least so many that the longest datagram goes
/// although it is beyond its share.
fn burst(rate: u64) -> u64 {
    rate.max(2 * BURST_MIN)
}

/// One worker's end of one direction.
#[derive(Debug, Default)]
struct Side {
    /// Bytes drawn and not used yet, by class: what was drawn for one is not for another.
    drawn: [u64; Class::COUNT],
    shares: Shares,
    terms: Terms,
    /// Allocations that were met in this window and that the pot has not been told of.
    untold: u64,
    /// What the pot did not have, by class.
    refused: [Refused; Class::COUNT],
}

/// So many bytes were not there at this time: neither are more before the clock moves on. So those
/// who send more than the rate do not keep the lock busy for the others.
#[derive(Clone, Copy, Debug)]
struct Refused {
    at_ms: u64,
    lacking: u64,
}

impl Default for Refused {
    fn default() -> Self {
        Refused { at_ms: 0, lacking: u64::MAX }
    }
}

/// One worker's share of the rate.
#[derive(Debug)]
pub(super) struct RateShare {
    total: Arc<TotalRate>,
    sides: [Side; 2],
}

impl RateShare {
    /// A share without a byte.
    pub fn new(total: Arc<TotalRate>) -> Self {
        RateShare { total, sides: Default::default() }
    }

    /// Uses `bytes` of an allocation in a direction; false when the rate is used up, or this
    /// allocation's share of it while others want theirs.
    #[inline]
    pub fn take(&mut self, now_ms: u64, direction: Direction, id: AllocationId, bytes: usize) -> bool {
        self.total.get() == 0 || self.take_limited(now_ms, direction, id, bytes as u64)
    }

    #[inline(never)]
    fn take_limited(&mut self, now_ms: u64, direction: Direction, id: AllocationId, bytes: u64) -> bool {
        let rate = self.total.get();
        let pot = &self.total.pots[direction as usize];
        let Side { drawn, shares, terms, untold, refused } = &mut self.sides[direction as usize];
        if terms.is_unknown() {
            *terms = pot.lock().window.tell(now_ms, rate, 0);
        }
        let share = shares.of(id, terms);
        if share.is_new_in(terms) {
            *untold += 1;
        }
        let class = share.judge(now_ms, terms, bytes);
        let (pool, refused) = (&mut drawn[class as usize], &mut refused[class as usize]);
        let lacking = bytes.saturating_sub(*pool);
        if lacking > 0 {
            if refused.at_ms == now_ms && refused.lacking <= lacking {
                return false;
            }
            let mut pot = pot.lock();
            *terms = pot.window.tell(now_ms, rate, std::mem::take(untold));
            let Some(got) = pot.draw(now_ms, rate, class, lacking) else {
                *refused = Refused { at_ms: now_ms, lacking };
                return false;
            };
            *pool += got;
        }
        *pool -= bytes;
        share.spend(class, bytes);
        true
    }
}

#[cfg(test)]
mod tests;
