//! Bytes that credentials have left: one ledger for all workers, and each worker's list of the
//! allocations that draw on it.
//!
//! An allocation is told at its beginning what its credential has left, and draws on that
//! without asking anyone. Once a second, and at its end, what it used is entered in the ledger
//! and it is told anew. So one allocation alone stays within its credential's bytes exactly;
//! several at a time may together go beyond them by what flows in that second.

use super::worker::Worker;
use crate::turn::allocation::Traffic;
use crate::turn::{AllocationId, Budget, EndReason, PortError};
use parking_lot::Mutex;
use std::cmp::Reverse;
use std::collections::binary_heap::PeekMut;
use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Credentials whose bytes are remembered, until they have expired; one more is refused.
const BUDGETS_MAX: usize = 262_144;
/// Expired credentials forgotten when one is asked for.
const FORGOTTEN_PER_CALL: usize = 16;
/// How long an expired credential is remembered, in seconds. Each worker reads the clock once a
/// round: one that is late could still take a credential that another has seen expire.
const FORGET_AFTER_S: u64 = 60;
/// How often what allocations used is entered in the ledger, in milliseconds.
const SETTLE_MS: u64 = 1_000;
/// Allocations settled in one round.
const SETTLED_PER_ROUND: usize = 1_024;

/// What one credential may use and has used.
#[derive(Debug)]
struct Entry {
    bytes: u64,
    used: AtomicU64,
}

impl Entry {
    fn left(&self) -> u64 {
        self.bytes.saturating_sub(self.used.load(Relaxed))
    }

    fn spend(&self, bytes: u64) {
        // What is used can not be more than was relayed: 64 bits do not overflow.
        self.used.fetch_add(bytes, Relaxed);
    }
}

/// The ledger. An entry lasts until its credential has expired for every worker: until then it
/// could come back.
#[derive(Debug, Default)]
pub struct Budgets {
    book: Mutex<Book>,
}

#[derive(Debug, Default)]
struct Book {
    entries: HashMap<Arc<[u8]>, Arc<Entry>>,
    /// By expiry, the first one on top.
    order: BinaryHeap<Reverse<(u64, Arc<[u8]>)>>,
}

impl Book {
    fn forget_expired(&mut self, unix_s: u64) {
        for _ in 0..FORGOTTEN_PER_CALL {
            let first = self.order.peek_mut().filter(|first| first.0.0.saturating_add(FORGET_AFTER_S) <= unix_s);
            let Some(Reverse((_, username))) = first.map(PeekMut::pop) else { return };
            self.entries.remove(&username);
        }
    }
}

impl Budgets {
    /// Whether a credential has bytes left for one more allocation; enters it if it is new.
    pub fn admit(&self, unix_s: u64, budget: &Budget<'_>) -> Result<(), PortError> {
        self.admit_within(BUDGETS_MAX, unix_s, budget)
    }

    fn admit_within(&self, entries_max: usize, unix_s: u64, budget: &Budget<'_>) -> Result<(), PortError> {
        let book = &mut *self.book.lock();
        book.forget_expired(unix_s);
        if let Some(entry) = book.entries.get(budget.username) {
            return if entry.left() > 0 { Ok(()) } else { Err(PortError::UsedUp) };
        }
        if book.entries.len() >= entries_max {
            return Err(PortError::Budgets);
        }
        let username: Arc<[u8]> = budget.username.into();
        book.order.push(Reverse((budget.expires_unix_s, username.clone())));
        book.entries.insert(username, Arc::new(Entry { bytes: budget.bytes, used: AtomicU64::new(0) }));
        Ok(())
    }

    fn entry(&self, username: &[u8]) -> Option<Arc<Entry>> {
        self.book.lock().entries.get(username).cloned()
    }
}

/// An allocation that draws on an entry.
struct Meter {
    id: AllocationId,
    entry: Arc<Entry>,
    /// What it had used when it was settled last.
    settled: u64,
}

impl Meter {
    /// Enters what it has used by now and returns what is left.
    fn settle(&mut self, traffic: &Traffic) -> u64 {
        let used = traffic.bytes();
        self.entry.spend(used - self.settled);
        self.settled = used;
        self.entry.left()
    }
}

/// One worker's allocations whose credential caps their bytes.
#[derive(Default)]
pub struct Meters {
    list: Vec<Meter>,
    /// Where in the list the allocation of a slot is.
    places: HashMap<u32, usize>,
    next_ms: u64,
    /// Those before this place are still to be settled in this turn. It goes down: what takes the
    /// place of one that is removed comes from behind it, and has been settled.
    unsettled: usize,
}

impl Meters {
    /// When there is something to settle.
    pub fn next_ms(&self) -> Option<u64> {
        match (self.list.is_empty(), self.unsettled) {
            (true, _) => None,
            (false, 0) => Some(self.next_ms),
            (false, _) => Some(0),
        }
    }

    /// Takes a new allocation in and returns the bytes it may use: none where its credential has no
    /// entry, which would let it go unmetered.
    fn begin(&mut self, now_ms: u64, id: AllocationId, entry: Option<Arc<Entry>>) -> u64 {
        let Some(entry) = entry else { return 0 };
        if self.list.is_empty() {
            self.next_ms = now_ms + SETTLE_MS;
        }
        let left = entry.left();
        self.insert(id, entry);
        left
    }

    fn insert(&mut self, id: AllocationId, entry: Arc<Entry>) {
        self.places.insert(id.index, self.list.len());
        self.list.push(Meter { id, entry, settled: 0 });
    }

    fn remove(&mut self, id: AllocationId) -> Option<Meter> {
        let place = self.places.remove(&id.index)?;
        let meter = self.list.swap_remove(place);
        debug_assert!(meter.id == id, "an allocation has ended before the next one takes its slot");
        if let Some(moved) = self.list.get(place) {
            self.places.insert(moved.id.index, place);
        }
        Some(meter)
    }

    /// The next one to be settled in this turn; `None` when it is through.
    fn next(&mut self) -> Option<&mut Meter> {
        self.unsettled = self.unsettled.min(self.list.len()).checked_sub(1)?;
        self.list.get_mut(self.unsettled)
    }
}

impl Worker {
    /// An allocation exists: if its credential caps its bytes, it draws on what is left of them.
    pub(super) fn begin_metering(&mut self, id: AllocationId) {
        let Some(allocation) = self.server.allocation(id).filter(|a| a.caps.bytes.is_some()) else { return };
        let entry = self.pool.budgets.entry(&allocation.account.username);
        let left = self.meters.begin(self.now.mono_ms, id, entry);
        self.server.set_bytes_left(self.now, id, left);
    }

    /// An allocation is over. One that met a datagram it had no bytes for has used up its
    /// credential, and a rest that is too small for anything is forfeit.
    pub(super) fn end_metering(&mut self, id: AllocationId, traffic: &Traffic, reason: EndReason) {
        let Some(mut meter) = self.meters.remove(id) else { return };
        let left = meter.settle(traffic);
        if reason == EndReason::Quota {
            meter.entry.spend(left);
        }
    }

    /// Settles allocations whose time has come, a bounded number.
    pub(super) fn settle_meters(&mut self) {
        let now = self.now;
        if self.meters.next_ms().is_none_or(|at_ms| now.mono_ms < at_ms) {
            return;
        }
        if self.meters.unsettled == 0 {
            self.meters.unsettled = self.meters.list.len();
            self.meters.next_ms = now.mono_ms + SETTLE_MS;
        }
        for _ in 0..SETTLED_PER_ROUND {
            let Some(meter) = self.meters.next() else { break };
            let Some(allocation) = self.server.allocation(meter.id) else { continue };
            let left = meter.settle(&allocation.traffic);
            let id = meter.id;
            self.server.set_bytes_left(now, id, left);
        }
        self.drain_events();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(username: &str, bytes: u64, expires_unix_s: u64) -> Budget<'_> {
        Budget { username: username.as_bytes(), bytes, expires_unix_s }
    }

    fn traffic(to_peer_bytes: u64, to_client_bytes: u64) -> Traffic {
        Traffic { to_peer_bytes, to_client_bytes, ..Traffic::default() }
    }

    fn id(index: u32) -> AllocationId {
        AllocationId { index, generation: 0 }
    }

    #[test]
    fn allocations_of_one_credential_draw_on_the_same_bytes() {
        let budgets = Budgets::default();
        let asked = budget("100+b1000:a", 1000, 100);
        assert_eq!(budgets.admit(1, &asked), Ok(()));
        let entry = || budgets.entry(asked.username).unwrap();
        let [mut first, mut second] = [0, 1].map(|index| Meter { id: id(index), entry: entry(), settled: 0 });
        assert_eq!(first.settle(&traffic(100, 200)), 700);
        assert_eq!(second.settle(&traffic(0, 300)), 400);
        assert_eq!(first.settle(&traffic(100, 200)), 400, "the same bytes are entered once");
        assert_eq!(budgets.admit(2, &asked), Ok(()));
        assert_eq!(first.settle(&traffic(900, 200)), 0, "they went beyond it together");
        assert_eq!(budgets.admit(3, &asked), Err(PortError::UsedUp));
        assert_eq!(budgets.admit(3, &budget("100+b1000:b", 1000, 100)), Ok(()), "another has its own");
    }

    #[test]
    fn credentials_are_remembered_until_they_have_expired_and_no_more_than_fit() {
        let budgets = Budgets::default();
        assert_eq!(budgets.admit_within(2, 1, &budget("a", 1, 50)), Ok(()));
        assert_eq!(budgets.admit_within(2, 1, &budget("b", 1, 60)), Ok(()));
        assert_eq!(budgets.admit_within(2, 49, &budget("c", 1, 100)), Err(PortError::Budgets));
        assert_eq!(budgets.admit_within(2, 49, &budget("a", 1, 50)), Ok(()), "who is in stays in");
        let forgotten_s = 50 + FORGET_AFTER_S;
        assert_eq!(budgets.admit_within(2, forgotten_s - 1, &budget("c", 1, 500)), Err(PortError::Budgets));
        assert_eq!(budgets.admit_within(2, forgotten_s, &budget("c", 1, 500)), Ok(()));
        assert!(budgets.entry(b"a").is_none() && budgets.entry(b"b").is_some());
        let book = budgets.book.lock();
        assert_eq!((book.entries.len(), book.order.len()), (2, 2));
    }

    #[test]
    fn a_worker_whose_clock_is_behind_finds_what_is_used_up() {
        let budgets = Budgets::default();
        let spent = budget("100+b1000:a", 1000, 100);
        assert_eq!(budgets.admit(50, &spent), Ok(()));
        budgets.entry(spent.username).unwrap().spend(1000);
        assert_eq!(budgets.admit(100, &budget("200+b1:b", 1, 200)), Ok(()), "its clock has come to the end");
        assert_eq!(budgets.admit(99, &spent), Err(PortError::UsedUp), "this one's has not");
    }

    #[test]
    fn an_allocation_without_an_entry_has_nothing_left() {
        let mut meters = Meters::default();
        assert_eq!(meters.begin(7, id(0), None), 0);
        assert!(meters.next_ms().is_none() && meters.places.is_empty());
        let entry = Arc::new(Entry { bytes: 9, used: AtomicU64::new(2) });
        assert_eq!(meters.begin(7, id(0), Some(entry)), 7);
        assert_eq!(meters.next_ms(), Some(7 + SETTLE_MS));
    }

    #[test]
    fn what_ends_while_others_are_settled_keeps_nobody_from_being_settled() {
        let entry = Arc::new(Entry { bytes: 1, used: AtomicU64::new(0) });
        let mut meters = Meters::default();
        (0..5).for_each(|index| meters.insert(id(index), entry.clone()));
        meters.unsettled = meters.list.len();
        let mut seen = vec![meters.next().unwrap().id.index, meters.next().unwrap().id.index];
        for ended in [1, 4] {
            assert_eq!(meters.remove(id(ended)).map(|meter| meter.id.index), Some(ended));
        }
        meters.insert(id(9), entry.clone());
        while let Some(meter) = meters.next() {
            seen.push(meter.id.index);
        }
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.iter().filter(|index| [0, 2, 3].contains(index)).count(), 3, "{seen:?}");
        for left in [0, 2, 3, 9] {
            assert!(meters.remove(id(left)).is_some());
        }
        assert!(meters.list.is_empty() && meters.places.is_empty() && meters.remove(id(9)).is_none());
    }
}
