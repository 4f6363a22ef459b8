//! When a worker may rest a moment before it looks again: wake-ups, not packets, are what thin
//! traffic costs.
//!
//! Waking a thread for every packet costs as much as relaying it. Where packets come one at a
//! time but often, a rest of a few tens of microseconds lets several gather for one wake-up.
//! It is of no use, and not taken, when traffic is sparse (nothing would gather), when packets
//! come in batches anyway, and when the worker is busy (they gather by themselves).

use std::time::{Duration, Instant};

/// Packets that are worth one wake-up: a rest is not made longer for more, and a round that
/// had twice as many needs none.
const ENOUGH: f64 = 16.0;
/// Packets that must be expected in a rest for it to be taken: in a virtual machine a timer costs
/// as much as two or three wake-ups by packets.
const WORTHWHILE: f64 = 5.0;
/// The share of its time that a worker may be at work and still rest.
const BUSY: f64 = 0.7;
/// How late the kernel lets a usual thread's timers go off, so that several go off together. A
/// rest is asked for so much shorter.
const TIMER_SLACK: Duration = Duration::from_micros(50);
/// The shortest rest that is asked for.
const REST_MIN: Duration = Duration::from_micros(1);
/// The weight of a round in the averages grows with its length, up to this time.
const MEMORY_NS: f64 = 2_000_000.0;

/// What the last rounds were like, and the rests that follow from it.
#[derive(Clone, Debug)]
pub struct Moderation {
    max_ns: f64,
    /// Packets a nanosecond.
    rate: f64,
    /// The share of its time that the worker was at work.
    load: f64,
    /// When the last round was over.
    ended: Option<Instant>,
}

impl Moderation {
    /// Rests of at most `max`; zero turns them off.
    pub fn new(max: Duration) -> Self {
        Moderation { max_ns: max.as_nanos() as f64, rate: 0.0, load: 0.0, ended: None }
    }

    /// Whether there are rests at all.
    #[inline]
    pub fn is_on(&self) -> bool {
        self.max_ns > 0.0
    }

    /// The rest to ask for after a round of `packets` from `began` to `ended`; `None` for none.
    pub fn rest(&mut self, began: Instant, ended: Instant, packets: u64) -> Option<Duration> {
        let last = self.ended.replace(ended).unwrap_or(began);
        let since = (ended.duration_since(last).as_nanos() as f64).max(1.0);
        let weight = (since / MEMORY_NS).min(1.0);
        self.rate += (packets as f64 / since - self.rate) * weight;
        self.load += (ended.duration_since(began).as_nanos() as f64 / since - self.load) * weight;
        let is_batch = packets as f64 >= 2.0 * ENOUGH;
        if is_batch || self.load > BUSY || self.rate * self.max_ns < WORTHWHILE {
            return None;
        }
        let rest = Duration::from_nanos((ENOUGH / self.rate).min(self.max_ns) as u64);
        Some(rest.saturating_sub(TIMER_SLACK).max(REST_MIN))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rounds that begin so long after the end of the last, each of some packets that cost some
    /// work.
    fn rests(max_us: u64, gap_ns: u64, packets: u64, work_ns: u64, rounds: usize) -> Vec<Option<Duration>> {
        let mut moderation = Moderation::new(Duration::from_micros(max_us));
        let mut now = Instant::now();
        let mut round = || {
            let began = now + Duration::from_nanos(gap_ns);
            now = began + Duration::from_nanos(work_ns * packets);
            moderation.rest(began, now, packets)
        };
        (0..rounds).map(|_| round()).collect()
    }

    #[test]
    fn thin_and_frequent_traffic_is_gathered() {
        // One packet every 25 µs: 40,000 a second.
        let rest = *rests(300, 20_000, 1, 5_000, 1_000).last().unwrap();
        assert_eq!(rest, Some(Duration::from_micros(250)));
        // One every 8 µs: sixteen have come after 128 µs.
        let rest = rests(300, 5_000, 1, 3_000, 1_000).pop().unwrap().unwrap();
        assert!((74..=82).contains(&rest.as_micros()), "{rest:?}");
        assert_eq!(rests(40, 1_000, 1, 900, 5_000).pop().unwrap(), Some(REST_MIN));
    }

    #[test]
    fn sparse_traffic_waits_for_nothing() {
        // One packet every 100 µs: two or three others would come meanwhile.
        assert!(rests(300, 95_000, 1, 5_000, 1_000).iter().all(Option::is_none));
    }

    #[test]
    fn batches_and_a_busy_worker_wait_for_nothing() {
        assert!(rests(300, 1_000_000, 50, 5_000, 200).iter().all(Option::is_none), "ticks of 50");
        assert_eq!(rests(300, 1_000, 1, 5_000, 2_000).last(), Some(&None), "at work five sixths of the time");
    }

    #[test]
    fn the_first_packet_after_a_silence_waits_for_nothing() {
        let mut moderation = Moderation::new(Duration::from_micros(300));
        let (mut now, work) = (Instant::now(), Duration::from_micros(5));
        for _ in 0..1_000 {
            now += Duration::from_micros(25);
            moderation.rest(now, now + work, 1);
        }
        assert!(moderation.rest(now, now + work, 1).is_some());
        now += Duration::from_secs(1);
        assert_eq!(moderation.rest(now, now + work, 1), None);
    }

    #[test]
    fn zero_turns_it_off() {
        assert!(!Moderation::new(Duration::ZERO).is_on());
    }
}
