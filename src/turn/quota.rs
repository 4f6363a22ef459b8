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
        let room = burst.saturating_mul(1000);
        if self.filled {
            let earned = now_ms.saturating_sub(self.last_ms).saturating_mul(rate);
            self.milli = self.milli.saturating_add(earned).min(room);
        } else {
            (self.milli, self.filled) = (room, true);
        }
        self.last_ms = now_ms;
        let price = amount.saturating_mul(1000);
        if self.milli < price {
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
/// [`CROWDED_PER_SECOND`].
pub const UNVERIFIED_TOTAL_PER_SECOND: u64 = 20_000;
/// Answers a second to one source while the total is used up.
const CROWDED_PER_SECOND: u64 = 5;

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
    hash: FixedState,
}

impl Unverified {
    /// An empty table; `seed` makes the slots unpredictable.
    pub fn new(seed: u64) -> Self {
        Unverified {
            slots: vec![SourceSlot::default(); SOURCES].into_boxed_slice(),
            total: Bucket::default(),
            hash: FixedState::with_seed(seed),
        }
    }

    /// Whether one more answer may go to this source at `rate` a second; 0 = no limit.
    pub fn admit(&mut self, now_ms: u64, source: IpAddr, rate: u32) -> bool {
        if rate == 0 {
            return true;
        }
        let room = UNVERIFIED_TOTAL_PER_SECOND;
        let rate = match self.total.take(now_ms, room, room, 1) {
            true => u64::from(rate),
            false => u64::from(rate).min(CROWDED_PER_SECOND),
        };
        let key = self.hash.hash_one(source_prefix(source)) | 1;
        let slot = &mut self.slots[(key >> 32) as usize % SOURCES];
        if slot.key != key {
            *slot = SourceSlot { key, bucket: Bucket::default() };
        }
        slot.bucket.take(now_ms, rate, rate * BURST_S, 1)
    }
}

/// What counts as one source: an IPv4 address, or the /56 of an IPv6 one.
pub fn source_prefix(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => u128::from(ip.to_bits()),
        IpAddr::V6(ip) => ip.to_bits() >> 72 << 72,
    }
}

/// Allocations by account and in total. One ledger serves all workers; it is asked when a
/// port is opened and told when the allocation's ports are back.
#[derive(Debug, Default)]
pub struct Ledger {
    by_account: HashMap<Box<str>, usize, RandomState>,
    total: usize,
}

impl Ledger {
    /// Charges one allocation, or says which limit is reached; 0 = no limit. The credential's own
    /// limit counts too, for all that its account holds.
    pub fn charge(&mut self, payer: &Payer<'_>, per_account_max: usize, total_max: usize) -> Result<(), PortError> {
        let account = payer.account;
        if total_max != 0 && self.total >= total_max {
            return Err(PortError::Capacity);
        }
        let held = self.by_account.get(account).copied().unwrap_or(0);
        if per_account_max != 0 && held >= per_account_max {
            return Err(PortError::Quota);
        }
        if payer.allocations_max.is_some_and(|max| held >= max as usize) {
            return Err(PortError::Cap);
        }
        match self.by_account.get_mut(account) {
            Some(held) => *held += 1,
            None => drop(self.by_account.insert(account.into(), 1)),
        }
        self.total += 1;
        Ok(())
    }

    /// Gives one allocation back.
    pub fn release(&mut self, account: &str) {
        let Some(held) = self.by_account.get_mut(account) else {
            debug_assert!(false, "released what was never charged");
            return;
        };
        *held -= 1;
        if *held == 0 {
            self.by_account.remove(account);
        }
        self.total -= 1;
    }

    /// Allocations an account holds.
    pub fn held(&self, account: &str) -> usize {
        self.by_account.get(account).copied().unwrap_or(0)
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
        assert_eq!((0..1000).filter(|_| unverified.admit(0, late, 50)).count(), 20);
    }

    #[test]
    fn the_ledger_stops_at_each_limit_and_forgets_what_is_given_back() {
        let mut ledger = Ledger::default();
        let payer = |account, allocations_max| Payer { account, allocations_max, budget: None };
        assert_eq!(ledger.charge(&payer("a", None), 2, 3), Ok(()));
        assert_eq!(ledger.charge(&payer("a", None), 2, 3), Ok(()));
        assert_eq!(ledger.charge(&payer("a", None), 2, 3), Err(PortError::Quota));
        assert_eq!(ledger.charge(&payer("b", None), 2, 3), Ok(()));
        assert_eq!(ledger.charge(&payer("c", None), 2, 3), Err(PortError::Capacity));
        ledger.release("a");
        assert_eq!(ledger.charge(&payer("a", None), 2, 3), Ok(()));
        for account in ["a", "a", "b"] {
            ledger.release(account);
        }
        assert_eq!((ledger.total(), ledger.held("a"), ledger.by_account.len()), (0, 0, 0));
    }

    #[test]
    fn a_credentials_own_limit_counts_all_that_its_account_holds() {
        let mut ledger = Ledger::default();
        let payer = |allocations_max| Payer { account: "a", allocations_max, budget: None };
        assert_eq!(ledger.charge(&payer(Some(1)), 0, 0), Ok(()));
        assert_eq!(ledger.charge(&payer(Some(1)), 0, 0), Err(PortError::Cap));
        assert_eq!(ledger.charge(&payer(None), 0, 0), Ok(()));
        assert_eq!(ledger.charge(&payer(Some(2)), 0, 0), Err(PortError::Cap));
        assert_eq!(ledger.charge(&payer(Some(3)), 2, 0), Err(PortError::Quota), "the server's limit is the lower one");
        assert_eq!(ledger.charge(&payer(Some(3)), 0, 0), Ok(()));
        assert_eq!((ledger.held("a"), ledger.total()), (3, 3), "who is refused is not charged");
    }
}
