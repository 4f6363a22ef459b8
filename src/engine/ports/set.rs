//! Which ports of one address are free: each is free, taken, or kept back.
//!
//! No socket, no clock and no randomness of its own: time and numbers are arguments.

use std::collections::VecDeque;
use std::ops::RangeInclusive;

/// How long a freed port is kept back while more than a quarter of the range is free, in
/// milliseconds. Its last owner's peers may still send to it, and permissions are by address.
const QUARANTINE_MS: u64 = 60_000;
/// The same while more than a twentieth is free.
const QUARANTINE_SHORT_MS: u64 = 10_000;
/// How long a port that a foreign socket holds is left alone, in milliseconds.
const BUSY_MS: u64 = 60_000;
/// Random picks before the rest of the range is searched in order.
const PICKS: usize = 16;

/// Which port is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// Any.
    Any,
    /// An even one.
    Even,
    /// An even one whose successor is free too; both are taken.
    Pair,
}

/// The ports of one address: each is free, taken, or kept back.
#[derive(Debug)]
pub struct PortSet {
    first: u16,
    len: usize,
    free: Vec<u64>,
    free_count: usize,
    /// Ports kept back, oldest first, and since when.
    quarantine: VecDeque<(u64, u16)>,
    /// Ports held by others, and until when they are left alone.
    busy: VecDeque<(u64, u16)>,
}

impl PortSet {
    /// All ports of a range, free.
    pub fn new(range: &RangeInclusive<u16>) -> Self {
        let len = usize::from(*range.end() - *range.start()) + 1;
        let mut set = PortSet {
            first: *range.start(),
            len,
            free: vec![0; len.div_ceil(64)],
            free_count: 0,
            quarantine: VecDeque::new(),
            busy: VecDeque::new(),
        };
        for index in 0..len {
            set.mark_free(index);
        }
        set
    }

    /// Takes a port; `random` gives numbers for the picks.
    pub fn take(&mut self, now_ms: u64, want: Want, random: impl FnMut() -> u32) -> Option<u16> {
        self.release_due(now_ms);
        let index = self.pick(want, random).or_else(|| self.take_back(want))?;
        self.mark_taken(index);
        if want == Want::Pair {
            self.mark_taken(index + 1);
        }
        Some(self.first + index as u16)
    }

    /// A free one that fits: at random, or the next in order when the free ones are few.
    fn pick(&self, want: Want, mut random: impl FnMut() -> u32) -> Option<usize> {
        if self.free_count == 0 {
            return None;
        }
        let mut start = 0;
        for _ in 0..PICKS {
            start = random() as usize % self.len;
            if self.fits(start, want) {
                return Some(start);
            }
        }
        self.search(start, want)
    }

    /// The first that fits from `start` on, around the range.
    fn search(&self, start: usize, want: Want) -> Option<usize> {
        let words = self.free.len();
        let (first, below) = (start / 64, (1u64 << (start % 64)) - 1);
        (0..=words).find_map(|step| {
            let word = (first + step) % words;
            let mut bits = match step {
                0 => self.free[word] & !below,
                step if step == words => self.free[word] & below,
                _ => self.free[word],
            };
            while bits != 0 {
                let index = word * 64 + bits.trailing_zeros() as usize;
                if self.fits(index, want) {
                    return Some(index);
                }
                bits &= bits - 1;
            }
            None
        })
    }

    /// Frees what is kept back, oldest first, until one fits.
    fn take_back(&mut self, want: Want) -> Option<usize> {
        loop {
            let (_, port) = self.quarantine.pop_front()?;
            let index = self.index(port);
            self.mark_free(index);
            // Nothing fitted before, so one that does now is this one, or begins right before it.
            let fitting = [Some(index), index.checked_sub(1)].into_iter().flatten();
            if let Some(index) = fitting.into_iter().find(|&index| self.fits(index, want)) {
                return Some(index);
            }
        }
    }

    fn fits(&self, index: usize, want: Want) -> bool {
        let even = (usize::from(self.first) + index).is_multiple_of(2);
        self.is_free(index)
            && match want {
                Want::Any => true,
                Want::Even => even,
                Want::Pair => even && index + 1 < self.len && self.is_free(index + 1),
            }
    }

    /// Gives a port back; it is kept back for a while.
    pub fn release(&mut self, now_ms: u64, port: u16) {
        debug_assert!(!self.is_free(self.index(port)));
        self.quarantine.push_back((now_ms, port));
    }

    /// Ports that could be taken, those kept back included.
    pub fn free(&mut self, now_ms: u64) -> usize {
        self.release_due(now_ms);
        self.free_count + self.quarantine.len()
    }

    /// Gives a port back that was never used.
    pub fn put_back(&mut self, port: u16) {
        self.mark_free(self.index(port));
    }

    /// A port that was taken turned out to be held by someone else on this host. Returns when it is free again.
    pub fn busy(&mut self, now_ms: u64, port: u16) -> u64 {
        let until_ms = now_ms + BUSY_MS;
        self.busy.push_back((until_ms, port));
        until_ms
    }

    fn release_due(&mut self, now_ms: u64) {
        while let Some(&(until_ms, port)) = self.busy.front() {
            if now_ms < until_ms {
                break;
            }
            self.busy.pop_front();
            self.mark_free(self.index(port));
        }
        while let Some(&(since_ms, port)) = self.quarantine.front() {
            let keep_ms = if self.free_count * 4 > self.len {
                QUARANTINE_MS
            } else if self.free_count * 20 > self.len {
                QUARANTINE_SHORT_MS
            } else {
                return; // the last ones go one by one, as they are needed
            };
            if now_ms.saturating_sub(since_ms) < keep_ms {
                return;
            }
            self.quarantine.pop_front();
            self.mark_free(self.index(port));
        }
    }

    fn index(&self, port: u16) -> usize {
        usize::from(port - self.first)
    }

    fn is_free(&self, index: usize) -> bool {
        self.free[index / 64] & 1 << (index % 64) != 0
    }

    fn mark_free(&mut self, index: usize) {
        debug_assert!(!self.is_free(index));
        self.free[index / 64] |= 1 << (index % 64);
        self.free_count += 1;
    }

    fn mark_taken(&mut self, index: usize) {
        debug_assert!(self.is_free(index));
        self.free[index / 64] &= !(1 << (index % 64));
        self.free_count -= 1;
    }

    /// Ports that could be taken: free or kept back.
    #[cfg(test)]
    fn available(&self) -> usize {
        self.free_count + self.quarantine.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counter() -> impl FnMut() -> u32 {
        let mut n = 0u32;
        move || {
            n = n.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            n >> 8
        }
    }

    #[test]
    fn every_port_is_given_once_and_comes_back() {
        let mut set = PortSet::new(&(50_000..=50_129));
        let mut random = counter();
        let mut taken: Vec<u16> = std::iter::from_fn(|| set.take(0, Want::Any, &mut random)).collect();
        taken.sort_unstable();
        assert_eq!(taken, (50_000..=50_129).collect::<Vec<_>>());
        for port in taken {
            set.release(0, port);
        }
        assert_eq!(set.available(), 130);
        assert!(set.take(1, Want::Any, &mut random).is_some(), "when nothing else is left, the oldest goes");
    }

    #[test]
    fn a_freed_port_is_kept_back_while_there_are_others() {
        let mut set = PortSet::new(&(50_000..=50_009));
        let mut random = counter();
        let port = set.take(0, Want::Any, &mut random).unwrap();
        set.release(0, port);
        for _ in 0..6 {
            assert_ne!(set.take(QUARANTINE_MS - 1, Want::Any, &mut random), Some(port));
        }
        let left: Vec<_> = std::iter::from_fn(|| set.take(QUARANTINE_MS, Want::Any, &mut random)).collect();
        assert!(left.contains(&port));
    }

    #[test]
    fn pairs_are_even_and_both_are_taken() {
        let mut set = PortSet::new(&(50_001..=50_006));
        let mut random = counter();
        let mut pairs: Vec<u16> = std::iter::from_fn(|| set.take(0, Want::Pair, &mut random)).collect();
        pairs.sort_unstable();
        assert_eq!(pairs, [50_002, 50_004]);
        assert_eq!(set.take(0, Want::Even, &mut random), Some(50_006));
        assert_eq!(set.take(0, Want::Even, &mut random), None);
        assert_eq!(set.take(0, Want::Any, &mut random), Some(50_001));
    }

    #[test]
    fn a_port_held_by_others_is_tried_again_later() {
        let mut set = PortSet::new(&(50_000..=50_001));
        let mut random = counter();
        let port = set.take(0, Want::Any, &mut random).unwrap();
        set.busy(0, port);
        let other = set.take(0, Want::Any, &mut random).unwrap();
        assert_eq!(set.take(BUSY_MS - 1, Want::Any, &mut random), None);
        assert_eq!(set.take(BUSY_MS, Want::Any, &mut random), Some(port));
        assert_ne!(port, other);
    }

    #[test]
    fn the_last_free_port_is_found_wherever_the_picks_fall() {
        for last in [49_152, 49_153, 49_215, 49_216, 60_000, 65_535] {
            for pick in [0, 63, 64, 10_848, 16_383] {
                let mut set = PortSet::new(&(49_152..=65_535));
                let others = (49_152..=65_535).filter(|&port| port != last);
                others.for_each(|port| set.mark_taken(set.index(port)));
                assert_eq!(set.take(0, Want::Any, || pick), Some(last), "picked {pick}");
                assert_eq!(set.take(0, Want::Any, || pick), None);
            }
        }
    }

    /// INV-3, whatever happens in whatever order.
    #[test]
    fn every_port_is_free_held_kept_back_or_left_alone_and_only_one_of_these() {
        let mut random = counter();
        for run in 0..80 {
            let (first, len) = (50_000 + run % 2, 1 + random() as u16 % 80);
            let mut set = PortSet::new(&(first..=first + len - 1));
            let (mut held, mut now_ms) = (Vec::new(), 0);
            for _ in 0..300 {
                now_ms += [0, 1, 5_000, QUARANTINE_SHORT_MS, QUARANTINE_MS][random() as usize % 5];
                let chosen = (!held.is_empty()).then(|| random() as usize % held.len());
                match (random() % 8, chosen) {
                    (0, Some(at)) => set.put_back(held.swap_remove(at)),
                    (1, Some(at)) => {
                        set.busy(now_ms, held.swap_remove(at));
                    }
                    (2..=4, Some(at)) => set.release(now_ms, held.swap_remove(at)),
                    (draw, _) => take_and_look(&mut set, now_ms, draw, &mut random, &mut held),
                }
                for index in 0..set.len {
                    let port = set.first + index as u16;
                    let kept_back = set.quarantine.iter().filter(|entry| entry.1 == port).count();
                    let left_alone = set.busy.iter().filter(|entry| entry.1 == port).count();
                    let holders = held.iter().filter(|&&other| other == port).count();
                    let places = usize::from(set.is_free(index)) + kept_back + left_alone + holders;
                    assert_eq!(places, 1, "port {port} of run {run}");
                }
                assert_eq!((0..set.len).filter(|&index| set.is_free(index)).count(), set.free_count);
            }
        }
    }

    /// What is kept back is given only where nothing else fits.
    fn take_and_look(set: &mut PortSet, now_ms: u64, draw: u32, random: &mut impl FnMut() -> u32, held: &mut Vec<u16>) {
        let want = [Want::Any, Want::Any, Want::Even, Want::Pair][draw as usize % 4];
        set.release_due(now_ms);
        let fitting: Vec<usize> = (0..set.len).filter(|&index| set.fits(index, want)).collect();
        let Some(port) = set.take(now_ms, want, random) else {
            return assert!(fitting.is_empty(), "there was one for {want:?}");
        };
        assert!(fitting.is_empty() || fitting.contains(&set.index(port)), "{port} was to be kept back");
        assert!(want == Want::Any || port.is_multiple_of(2));
        held.push(port);
        held.extend((want == Want::Pair).then_some(port + 1));
    }

    #[test]
    fn a_port_that_comes_back_completes_a_pair_from_either_side() {
        for released in [[50_063, 50_064], [50_064, 50_063]] {
            let mut set = PortSet::new(&(50_001..=50_128));
            let mut random = counter();
            while set.take(0, Want::Any, &mut random).is_some() {}
            // 50063 and 50064 are no pair: it would be odd.
            released.into_iter().for_each(|port| set.release(0, port));
            assert_eq!(set.take(0, Want::Pair, &mut random), None);
            assert_eq!(set.available(), 2);
            set.release(0, 50_065);
            assert_eq!(set.take(0, Want::Pair, &mut random), Some(50_064));
            assert_eq!(set.take(0, Want::Even, &mut random), None);
            assert_eq!(set.take(0, Want::Any, &mut random), Some(50_063));
        }
    }
}
