//! What may be used up: byte rates, answers to strangers, allocations.
//!
//! Everything here has a fixed size or the size of the live things it counts.

use super::{Payer, PortError};
use foldhash::fast::{FixedState, RandomState};
use std::collections::HashMap;
use std::hash::BuildHasher;
use std::net::IpAddr;

/// A token bucket of bytes (or answers); holds at most one second's worth, or `burst`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Bucket {
    /// Tokens times 1000, so that a slow rate loses nothing to rounding.
    milli: u64,
    last_ms: u64,
    filled: bool,
}

impl Bucket {
    /// Takes `amount` at `rate` a second with room for `burst`, or nothing.
    #[inline]
    pub fn take(&mut self, now_ms: u64, rate: u64, burst: u64, amount: u64) -> bool {
        self.take_above(now_ms, rate, burst, 0, amount)
    }

    /// The same, and nothing where less than `floor` would be left.
    #[inline]
    pub fn take_above(&mut self, now_ms: u64, rate: u64, burst: u64, floor: u64, amount: u64) -> bool {
        let room = burst.saturating_mul(1000);
        if self.filled {
            let earned = now_ms.saturating_sub(self.last_ms).saturating_mul(rate);
            self.milli = self.milli.saturating_add(earned).min(room);
        } else {
            (self.milli, self.filled) = (room, true);
        }
        // Workers that share a bucket read the clock once a round each: one that is late must not
        // have the others earn the same time again.
        self.last_ms = self.last_ms.max(now_ms);
        let price = amount.saturating_mul(1000);
        if self.milli < price.saturating_add(floor.saturating_mul(1000)) {
            return false;
        }
        self.milli -= price;
        true
    }
}

/// Sources of unverified requests that are remembered; a slot is 32 bytes.
const SOURCES: usize = 16_384;
/// Answers in a burst, in seconds of the source's rate.
const BURST_S: u64 = 4;
/// Answers a second to all unverified sources of a worker; above it each source falls to
/// [`CROWDED_PER_SECOND`] and all of them together get [`CROWD_TOTAL_PER_SECOND`] more.
pub const UNVERIFIED_TOTAL_PER_SECOND: u64 = 20_000;
/// Answers a second, and at once, to one source while the total is used up. In a flood from more
/// sources than there are slots one may be forgotten and begin anew, with as many at once.
const CROWDED_PER_SECOND: u64 = 5;
/// Answers a second to all sources of a worker while the total is used up. An answer costs several
/// times what its request does to drop: without an end to them a flood from very many sources
/// keeps a worker from its calls.
pub const CROWD_TOTAL_PER_SECOND: u64 = 20_000;

#[derive(Clone, Copy, Debug, Default)]
struct SourceSlot {
    key: u64,
    bucket: Bucket,
}

/// Bounds the answers to sources that have proved nothing, so that the server is no reflector:
/// by source (/32, /56) and in total. A table of fixed size under a keyed hash.
#[derive(Debug)]
pub struct Unverified {
    slots: Box<[SourceSlot]>,
    total: Bucket,
    crowd: Bucket,
    hash: FixedState,
}

impl Unverified {
    /// An empty table; `seed` makes the slots unpredictable.
    pub fn new(seed: u64) -> Self {
        Unverified {
            slots: vec![SourceSlot::default(); SOURCES].into_boxed_slice(),
            total: Bucket::default(),
            crowd: Bucket::default(),
            hash: FixedState::with_seed(seed),
        }
    }

    /// Whether one more answer may go to this source at `rate` a second; 0 = no limit.
    pub fn admit(&mut self, now_ms: u64, source: IpAddr, rate: u32) -> bool {
        if rate == 0 {
            return true;
        }
        let (rate, total) = (u64::from(rate), UNVERIFIED_TOTAL_PER_SECOND);
        let is_crowded = !self.total.take_above(now_ms, total, total, 1, 0);
        let (rate, burst) = match is_crowded {
            false => (rate, rate * BURST_S),
            true => (rate.min(CROWDED_PER_SECOND), CROWDED_PER_SECOND),
        };
        let key = self.hash.hash_one(source_prefix(source)) | 1;
        let slot = &mut self.slots[(key >> 32) as usize % SOURCES];
        if slot.key != key {
            *slot = SourceSlot { key, bucket: Bucket::default() };
        }
        // What a source may not have is not taken from the others.
        slot.bucket.take(now_ms, rate, burst, 1)
            && match is_crowded {
                false => self.total.take(now_ms, total, total, 1),
                true => self.crowd.take(now_ms, CROWD_TOTAL_PER_SECOND, CROWD_TOTAL_PER_SECOND, 1),
            }
    }
}

/// What counts as one source: an IPv4 address, or the /56 of an IPv6 one.
pub fn source_prefix(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => u128::from(ip.to_bits()),
        IpAddr::V6(ip) => ip.to_bits() >> 72 << 72,
    }
}

/// Limits on allocations of all workers; 0 = none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AllocationLimits {
    /// In total.
    pub total: usize,
    /// Of one account.
    pub per_account: usize,
    /// Of one source: an IPv4 address, or the /56 of an IPv6 one.
    pub per_source: usize,
}

/// Allocations by account, by source and in total. One ledger serves all workers; it is asked when
/// a port is opened and told when the allocation's ports are back.
#[derive(Debug, Default)]
pub struct Ledger {
    by_account: HashMap<Box<str>, usize, RandomState>,
    by_source: HashMap<u128, usize, RandomState>,
    total: usize,
}

impl Ledger {
    /// Charges one allocation, or says which limit is reached. The credential's own limit counts
    /// too, for all that its account holds.
    pub fn charge(&mut self, payer: &Payer<'_>, limits: &AllocationLimits) -> Result<(), PortError> {
        let is_reached = |limit: usize, held: usize| limit != 0 && held >= limit;
        if is_reached(limits.total, self.total) {
            return Err(PortError::Capacity);
        }
        if is_reached(limits.per_source, self.held_by_source(payer.source)) {
            return Err(PortError::Source);
        }
        let held = self.held(payer.account);
        if is_reached(limits.per_account, held) {
            return Err(PortError::Quota);
        }
        if payer.allocations_max.is_some_and(|max| held >= max as usize) {
            return Err(PortError::Cap);
        }
        match self.by_account.get_mut(payer.account) {
            Some(held) => *held += 1,
            None => drop(self.by_account.insert(payer.account.into(), 1)),
        }
        *self.by_source.entry(source_prefix(payer.source)).or_default() += 1;
        self.total += 1;
        Ok(())
    }

    /// Gives one allocation back to whom it was charged.
    pub fn release(&mut self, account: &str, source: IpAddr) {
        let source = source_prefix(source);
        let (Some(of_account), Some(of_source)) = (self.by_account.get_mut(account), self.by_source.get_mut(&source))
        else {
            debug_assert!(false, "released what was never charged");
            return;
        };
        *of_account -= 1;
        *of_source -= 1;
        let (account_ends, source_ends) = (*of_account == 0, *of_source == 0);
        if account_ends {
            self.by_account.remove(account);
        }
        if source_ends {
            self.by_source.remove(&source);
        }
        self.total -= 1;
    }

    /// Allocations an account holds.
    pub fn held(&self, account: &str) -> usize {
        self.by_account.get(account).copied().unwrap_or(0)
    }

    /// Allocations of clients that come from a source.
    pub fn held_by_source(&self, source: IpAddr) -> usize {
        self.by_source.get(&source_prefix(source)).copied().unwrap_or(0)
    }

    /// Allocations of all accounts.
    pub fn total(&self) -> usize {
        self.total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_gives_its_burst_then_its_rate() {
        let mut bucket = Bucket::default();
        assert!((0..200).all(|_| bucket.take(0, 50, 200, 1)));
        assert!(!bucket.take(0, 50, 200, 1));
        assert!(!bucket.take(19, 50, 200, 1));
        assert!(bucket.take(20, 50, 200, 1));
        assert!(!bucket.take(20, 50, 200, 1));
        assert_eq!((0..100).filter(|_| bucket.take(1020, 50, 200, 1)).count(), 50);
    }

    #[test]
    fn strangers_share_a_rate_by_source_and_neighbours_keep_theirs() {
        let mut unverified = Unverified::new(7);
        let a: IpAddr = "192.0.2.1".parse().unwrap();
        let b: IpAddr = "192.0.2.2".parse().unwrap();
        assert_eq!((0..1000).filter(|_| unverified.admit(0, a, 50)).count(), 200);
        assert!(unverified.admit(0, b, 50));
        assert_eq!((0..1000).filter(|_| unverified.admit(1000, a, 50)).count(), 50);
        assert!((0..1000).all(|_| unverified.admit(0, a, 0)));
        let v6 = |s: &str| source_prefix(s.parse().unwrap());
        assert_eq!(v6("2001:db8:0:1::1"), v6("2001:db8:0:fe::2"));
        assert_ne!(v6("2001:db8:0:100::1"), v6("2001:db8:0:200::1"));
    }

    #[test]
    fn a_crowd_lowers_everyones_rate() {
        let mut unverified = Unverified::new(7);
        for i in 0..UNVERIFIED_TOTAL_PER_SECOND as u32 {
            assert!(unverified.admit(0, IpAddr::from((i + 0x0B00_0000).to_be_bytes()), 50));
        }
        let late: IpAddr = "192.0.2.1".parse().unwrap();
        assert_eq!((0..1000).filter(|_| unverified.admit(0, late, 50)).count(), 5);
        // The total is there again, and takes from the one as many as it gives.
        assert_eq!((0..1000).filter(|_| unverified.admit(1000, late, 50)).count(), 50);
        assert_eq!((0..1000).filter(|_| unverified.admit(1000, late, 2)).count(), 0);
    }

    #[test]
    fn a_crowd_has_an_end_however_many_it_is() {
        let mut unverified = Unverified::new(7);
        let mut admitted = |now_ms: u64| {
            let sources = (0..100_000u32).map(|i| IpAddr::from((i + 0x0B00_0000).to_be_bytes()));
            sources.filter(|&source| unverified.admit(now_ms, source, 50)).count() as u64
        };
        let a_second = UNVERIFIED_TOTAL_PER_SECOND + CROWD_TOTAL_PER_SECOND;
        assert_eq!(admitted(0), a_second);
        assert_eq!(admitted(0), 0);
        assert_eq!(admitted(1), a_second / 1000);
        assert_eq!(admitted(1001), a_second);
    }

    #[test]
    fn what_one_source_may_not_have_is_not_taken_from_the_others() {
        let mut unverified = Unverified::new(7);
        let (loud, late): (IpAddr, IpAddr) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        assert_eq!((0..100_000).filter(|_| unverified.admit(0, loud, 50)).count(), 200);
        assert_eq!((0..1000).filter(|_| unverified.admit(0, late, 50)).count(), 200);
    }

    #[test]
    fn a_newcomer_is_answered_whoever_had_its_place_before() {
        let mut unverified = Unverified::new(7);
        let source = |i: u32| IpAddr::from((i + 0x0B00_0000).to_be_bytes());
        // More sources than places, one after the other, each to its limit.
        for i in 0..25_000 {
            assert!((0..BURST_S).all(|_| unverified.admit(u64::from(i / 5), source(i), 1)), "source {i}");
        }
    }

    #[test]
    fn a_rate_below_that_of_a_crowd_is_not_raised_by_one() {
        let mut unverified = Unverified::new(7);
        let source: IpAddr = "192.0.2.1".parse().unwrap();
        for (now_ms, admitted) in [(0, 5), (1000, 2), (2000, 2)] {
            for i in 0..UNVERIFIED_TOTAL_PER_SECOND as u32 {
                unverified.admit(now_ms, IpAddr::from((i / 100 + 0x0B00_0000).to_be_bytes()), 50);
            }
            assert_eq!((0..100).filter(|_| unverified.admit(now_ms, source, 2)).count(), admitted);
        }
    }

    #[test]
    fn a_clock_that_is_late_earns_no_time_twice() {
        let mut bucket = Bucket::default();
        assert!(bucket.take(1_000, 100, 100, 100));
        for now_ms in 1_000..2_000 {
            assert!(!bucket.take(now_ms - 500, 100, 100, 100), "at {now_ms} and half a second before");
            assert!(!bucket.take(now_ms, 100, 100, 100));
        }
        assert!(bucket.take(2_000, 100, 100, 100));
    }

    #[test]
    fn a_bucket_keeps_what_is_below_the_floor() {
        let mut bucket = Bucket::default();
        assert!(!bucket.take_above(0, 10, 100, 60, 41));
        assert!(bucket.take_above(0, 10, 100, 60, 40));
        assert!(!bucket.take_above(0, 10, 100, 60, 1) && bucket.take(0, 10, 100, 60));
        assert!(!bucket.take_above(6_000, 10, 100, 60, 1), "it has come to the floor");
        assert!(bucket.take_above(6_100, 10, 100, 60, 1));
    }

    fn payer<'a>(account: &'a str, source: &str, allocations_max: Option<u32>) -> Payer<'a> {
        Payer { account, source: source.parse().unwrap(), allocations_max, budget: None }
    }

    const A: &str = "192.0.2.1";

    #[test]
    fn the_ledger_stops_at_each_limit_and_forgets_what_is_given_back() {
        let mut ledger = Ledger::default();
        let limits = AllocationLimits { per_account: 2, total: 3, per_source: 0 };
        assert_eq!(ledger.charge(&payer("a", A, None), &limits), Ok(()));
        assert_eq!(ledger.charge(&payer("a", A, None), &limits), Ok(()));
        assert_eq!(ledger.charge(&payer("a", A, None), &limits), Err(PortError::Quota));
        assert_eq!(ledger.charge(&payer("b", A, None), &limits), Ok(()));
        assert_eq!(ledger.charge(&payer("c", A, None), &limits), Err(PortError::Capacity));
        ledger.release("a", A.parse().unwrap());
        assert_eq!(ledger.charge(&payer("a", A, None), &limits), Ok(()));
        for account in ["a", "a", "b"] {
            ledger.release(account, A.parse().unwrap());
        }
        assert_eq!((ledger.total(), ledger.held("a"), ledger.held_by_source(A.parse().unwrap())), (0, 0, 0));
        assert!(ledger.by_account.is_empty() && ledger.by_source.is_empty());
    }

    #[test]
    fn a_source_is_an_address_or_a_56_and_its_allocations_count_whoever_pays() {
        let limits = AllocationLimits { per_source: 2, ..AllocationLimits::default() };
        for (source, same, other) in [(A, A, "192.0.2.2"), ("2001:db8:0:1::1", "2001:db8:0:fe::2", "2001:db8:0:100::1")]
        {
            let mut ledger = Ledger::default();
            assert_eq!(ledger.charge(&payer("a", source, None), &limits), Ok(()));
            assert_eq!(ledger.charge(&payer("b", same, None), &limits), Ok(()));
            assert_eq!(ledger.charge(&payer("c", source, None), &limits), Err(PortError::Source));
            assert_eq!(ledger.held("c"), 0, "who is refused is not charged");
            assert_eq!(ledger.charge(&payer("c", other, None), &limits), Ok(()));
            assert_eq!(ledger.charge(&payer("c", same, None), &AllocationLimits::default()), Ok(()), "0 is none");
            for (account, source) in [("a", source), ("c", source)] {
                ledger.release(account, source.parse().unwrap());
            }
            assert_eq!(ledger.held_by_source(same.parse().unwrap()), 1);
            assert_eq!(ledger.charge(&payer("a", source, None), &limits), Ok(()));
            assert_eq!(ledger.charge(&payer("a", source, None), &limits), Err(PortError::Source));
        }
    }

    #[test]
    fn a_credentials_own_limit_counts_all_that_its_account_holds() {
        let mut ledger = Ledger::default();
        let mut charge = |allocations_max, per_account| {
            let limits = AllocationLimits { per_account, ..AllocationLimits::default() };
            ledger.charge(&payer("a", A, allocations_max), &limits)
        };
        assert_eq!(charge(Some(1), 0), Ok(()));
        assert_eq!(charge(Some(1), 0), Err(PortError::Cap));
        assert_eq!(charge(None, 0), Ok(()));
        assert_eq!(charge(Some(2), 0), Err(PortError::Cap));
        assert_eq!(charge(Some(3), 2), Err(PortError::Quota), "the server's limit is the lower one");
        assert_eq!(charge(Some(3), 0), Ok(()));
        assert_eq!((ledger.held("a"), ledger.total()), (3, 3), "who is refused is not charged");
    }
}
