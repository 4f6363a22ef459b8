//! How often a source may be wrong, and how often it may ask.

use super::caller::Source;
use governor::clock::{Clock, DefaultClock};
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::hash::Hash;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

/// Wrong tokens or keys, none of them long after the one before, that lock a source out.
pub const FAILURES_MAX: u32 = 5;
/// How long a source is locked out, and how long its failures are remembered.
pub const LOCK: Duration = Duration::from_secs(30);
/// Sources or identities remembered in one table.
const ENTRIES_MAX: usize = 4096;
/// As many may be in a table that nobody has tidied up.
const ENTRIES_UNTIDY: usize = 64;

/// Sources that gave a wrong token or key lately.
#[derive(Default)]
pub struct Lockouts(Mutex<HashMap<Source, Failures>>);

struct Failures {
    count: u32,
    last: Instant,
}

impl Lockouts {
    /// Whether the source may try; the error is how long it may not.
    pub fn check(&self, source: Source, now: Instant) -> Result<(), Duration> {
        let table = self.0.lock();
        let Some(failures) = table.get(&source).filter(|failures| failures.count >= FAILURES_MAX) else {
            return Ok(());
        };
        let until = failures.last + LOCK;
        if now < until { Err(until - now) } else { Ok(()) }
    }

    /// The source was wrong. The one that was wrong longest ago makes room.
    pub fn fail(&self, source: Source, now: Instant) {
        let mut table = self.0.lock();
        if table.len() >= ENTRIES_MAX && !table.contains_key(&source) {
            table.retain(|_, failures| now < failures.last + LOCK);
            let oldest = table.iter().min_by_key(|(_, failures)| failures.last).map(|(source, _)| *source);
            if let Some(oldest) = oldest.filter(|_| table.len() >= ENTRIES_MAX) {
                table.remove(&oldest);
            }
        }
        let failures = table.entry(source).or_insert(Failures { count: 0, last: now });
        if now >= failures.last + LOCK {
            failures.count = 0;
        }
        failures.count += 1;
        failures.last = now;
    }
}

/// So many a minute for each key, all of them at once if it likes.
pub struct PerMinute<K: Hash + Eq + Clone> {
    asked: Mutex<Asked<K>>,
    quota: Quota,
}

/// Who has asked lately.
struct Asked<K: Hash + Eq + Clone> {
    limiter: Limiter<K>,
    /// With so many those who may ask as often as ever again are forgotten.
    tidy_at: usize,
}

type Limiter<K> = RateLimiter<K, HashMapStateStore<K>, DefaultClock>;

impl<K: Hash + Eq + Clone> PerMinute<K> {
    /// At most `count` a minute.
    pub fn new(count: NonZeroU32) -> Self {
        let quota = Quota::per_minute(count);
        let asked = Asked { limiter: RateLimiter::hashmap(quota), tidy_at: ENTRIES_UNTIDY };
        PerMinute { asked: Mutex::new(asked), quota }
    }

    /// Takes one; the error is how long until there is one again.
    pub fn take(&self, key: &K) -> Result<(), Duration> {
        let mut asked = self.asked.lock();
        let Asked { limiter, tidy_at } = &mut *asked;
        if limiter.len() >= *tidy_at {
            limiter.retain_recent();
            // So many at once is a flood from everywhere, which this limit is not against. To
            // forget it costs less than to turn away all who are new.
            if limiter.len() >= ENTRIES_MAX {
                *limiter = RateLimiter::hashmap(self.quota);
            }
            *tidy_at = (2 * limiter.len()).clamp(ENTRIES_UNTIDY, ENTRIES_MAX);
        }
        let now = DefaultClock::default().now();
        limiter.check_key(key).map_err(|until| until.wait_time_from(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(number: u32) -> Source {
        Source::of(std::net::Ipv4Addr::from_bits(0x0a00_0000 + number).into())
    }

    #[test]
    fn the_fifth_failure_locks_for_thirty_seconds() {
        let lockouts = Lockouts::default();
        let start = Instant::now();
        for _ in 0..FAILURES_MAX {
            assert_eq!(lockouts.check(source(1), start), Ok(()));
            lockouts.fail(source(1), start);
        }
        assert_eq!(lockouts.check(source(1), start), Err(LOCK));
        assert_eq!(lockouts.check(source(1), start + LOCK - Duration::from_millis(1)), Err(Duration::from_millis(1)));
        assert_eq!(lockouts.check(source(2), start), Ok(()), "another source is not locked");
        assert_eq!(lockouts.check(source(1), start + LOCK), Ok(()));
        lockouts.fail(source(1), start + LOCK);
        assert_eq!(lockouts.check(source(1), start + LOCK), Ok(()), "old failures are forgotten");
    }

    #[test]
    fn the_table_does_not_grow_past_its_limit() {
        let lockouts = Lockouts::default();
        let start = Instant::now();
        for number in 0..ENTRIES_MAX as u32 + 1 {
            for _ in 0..FAILURES_MAX {
                lockouts.fail(source(number), start + Duration::from_micros(number.into()));
            }
        }
        assert_eq!(lockouts.0.lock().len(), ENTRIES_MAX);
        let now = start + Duration::from_secs(1);
        assert_eq!(lockouts.check(source(0), now), Ok(()), "the oldest made room");
        assert!(lockouts.check(source(ENTRIES_MAX as u32), now).is_err());
    }

    #[test]
    fn so_many_a_minute_and_not_one_more() {
        let per_minute = PerMinute::new(NonZeroU32::new(10).unwrap());
        for _ in 0..10 {
            assert_eq!(per_minute.take(&1), Ok(()));
        }
        let wait = per_minute.take(&1).unwrap_err();
        assert!(wait > Duration::ZERO && wait <= Duration::from_secs(6), "{wait:?}");
        assert_eq!(per_minute.take(&2), Ok(()));
    }

    #[test]
    fn a_flood_of_keys_does_not_grow_the_table() {
        let per_minute = PerMinute::new(NonZeroU32::new(10).unwrap());
        for key in 0..ENTRIES_MAX + 10 {
            assert_eq!(per_minute.take(&key), Ok(()));
            assert!(per_minute.asked.lock().limiter.len() <= ENTRIES_MAX);
        }
    }

    #[test]
    fn whoever_may_ask_as_often_as_ever_again_is_forgotten() {
        // Back within nanoseconds.
        let per_minute = PerMinute::new(NonZeroU32::MAX);
        for key in 0..ENTRIES_MAX {
            assert_eq!(per_minute.take(&key), Ok(()));
        }
        let len = per_minute.asked.lock().limiter.len();
        assert!(len <= 2 * ENTRIES_UNTIDY, "{len} are remembered");
    }
}
