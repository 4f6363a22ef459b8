//! Which packets are under way and which came back, in memory that does not grow with the run. Pure.

/// The newest packets whose arrival is remembered one by one; a power of two, a multiple of 64.
const REMEMBERED: u64 = 1 << 20;

/// What an arrival is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// The first of this packet.
    First,
    /// This packet has come before.
    Again,
    /// Over a million packets have left since: nobody knows any more whether it came before. It stays lost.
    Forgotten,
    /// No such packet has left.
    Unknown,
}

/// Departures and arrivals, by sequence number.
#[derive(Clone, Debug)]
pub struct Ledger {
    /// One bit a packet: whether it has come.
    come: Vec<u64>,
    departed: u64,
    /// Packets before this one are not counted.
    first: u64,
    arrived: u64,
    /// Packets before this one are no longer waited for.
    given_up: u64,
    /// Packets from there on that have not come.
    under_way: usize,
}

impl Default for Ledger {
    fn default() -> Self {
        let come = vec![0; (REMEMBERED / 64) as usize];
        Ledger { come, departed: 0, first: 0, arrived: 0, given_up: 0, under_way: 0 }
    }
}

/// Word and bit of a packet.
#[inline]
fn place(seq: u64) -> (usize, u64) {
    let at = seq % REMEMBERED;
    ((at / 64) as usize, 1 << (at % 64))
}

impl Ledger {
    /// Counts only what departs from now on.
    pub fn open(&mut self) {
        (self.first, self.arrived) = (self.departed, 0);
    }

    /// Whether a packet is one of those that are counted.
    #[inline]
    pub fn counts(&self, seq: u64) -> bool {
        seq >= self.first
    }

    /// The number that the next departure gets.
    #[inline]
    pub fn next_seq(&self) -> u64 {
        self.departed
    }

    /// Enters the departure of the packet with the number [`Ledger::next_seq`].
    #[inline]
    pub fn depart(&mut self) {
        if self.departed - self.given_up >= REMEMBERED {
            self.give_up(self.departed - REMEMBERED + 1);
        }
        let (word, bit) = place(self.departed);
        self.come[word] &= !bit;
        self.departed += 1;
        self.under_way += 1;
    }

    /// Enters an arrival.
    #[inline]
    pub fn arrive(&mut self, seq: u64) -> Arrival {
        if seq >= self.departed {
            return Arrival::Unknown;
        }
        if self.departed - seq > REMEMBERED {
            return Arrival::Forgotten;
        }
        let (word, bit) = place(seq);
        if self.come[word] & bit != 0 {
            return Arrival::Again;
        }
        self.come[word] |= bit;
        self.arrived += u64::from(self.counts(seq));
        if seq >= self.given_up {
            self.under_way -= 1;
        }
        Arrival::First
    }

    /// Stops waiting for packets before this number, so that a closed loop does not stop at a lost one. One that comes
    /// after all is not lost.
    pub fn give_up(&mut self, before: u64) {
        for seq in self.given_up..before.min(self.departed) {
            let (word, bit) = place(seq);
            self.under_way -= usize::from(self.come[word] & bit == 0);
        }
        self.given_up = self.given_up.max(before.min(self.departed));
    }

    /// Packets that are waited for.
    #[inline]
    pub fn under_way(&self) -> usize {
        self.under_way
    }

    /// Packets that left and are counted.
    #[inline]
    pub fn departed(&self) -> u64 {
        self.departed - self.first
    }

    /// Those of them that came, each once.
    #[inline]
    pub fn arrived(&self) -> u64 {
        self.arrived
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::pace::Rng;

    fn ledger(departed: u64) -> Ledger {
        let mut ledger = Ledger::default();
        (0..departed).for_each(|_| ledger.depart());
        ledger
    }

    #[test]
    fn a_packet_arrives_once_and_only_if_it_left() {
        let mut ledger = ledger(3);
        assert_eq!(ledger.arrive(1), Arrival::First);
        assert_eq!(ledger.arrive(1), Arrival::Again);
        assert_eq!(ledger.arrive(3), Arrival::Unknown);
        assert_eq!((ledger.departed(), ledger.arrived(), ledger.under_way()), (3, 1, 2));
    }

    #[test]
    fn one_given_up_is_not_waited_for_and_may_still_come() {
        let mut ledger = ledger(4);
        ledger.arrive(0);
        ledger.give_up(2);
        assert_eq!(ledger.under_way(), 2);
        assert_eq!(ledger.arrive(1), Arrival::First);
        assert_eq!((ledger.under_way(), ledger.arrived()), (2, 2));
        ledger.give_up(u64::MAX);
        assert_eq!(ledger.under_way(), 0);
    }

    #[test]
    fn what_left_before_is_not_counted_and_still_waited_for() {
        let mut ledger = ledger(3);
        ledger.arrive(0);
        ledger.open();
        assert_eq!((ledger.departed(), ledger.arrived(), ledger.under_way()), (0, 0, 2));
        assert_eq!((ledger.arrive(1), ledger.counts(1)), (Arrival::First, false));
        ledger.depart();
        assert_eq!((ledger.arrive(3), ledger.counts(3)), (Arrival::First, true));
        assert_eq!((ledger.departed(), ledger.arrived(), ledger.under_way()), (1, 1, 1));
    }

    #[test]
    fn memory_ends_where_it_says() {
        let mut ledger = ledger(REMEMBERED + 1);
        assert_eq!(ledger.arrive(0), Arrival::Forgotten);
        assert_eq!(ledger.arrive(1), Arrival::First);
        assert_eq!(ledger.under_way() as u64, REMEMBERED - 1);
        ledger.depart();
        assert_eq!(ledger.arrive(1), Arrival::Forgotten);
    }

    #[test]
    fn it_agrees_with_a_list() {
        let (mut ledger, mut rng) = (Ledger::default(), Rng::new(9));
        let mut come: Vec<bool> = Vec::new();
        for _ in 0..20_000 {
            match rng.below(3) {
                0 => {
                    ledger.depart();
                    come.push(false);
                }
                _ if come.is_empty() => {}
                _ => {
                    let seq = rng.below(come.len());
                    let wanted = if come[seq] { Arrival::Again } else { Arrival::First };
                    assert_eq!(ledger.arrive(seq as u64), wanted);
                    come[seq] = true;
                }
            }
        }
        assert_eq!(ledger.arrived(), come.iter().filter(|come| **come).count() as u64);
        assert_eq!(ledger.under_way() as u64, ledger.departed() - ledger.arrived());
    }
}
