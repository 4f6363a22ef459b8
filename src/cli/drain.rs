//! A drain: who asked for it, how long it may take, and whether it is over.
//!
//! Two may ask. An operator, with a deadline or without one, who may think better of it; and
//! TERM, whose deadline is `drain_timeout` and which is final.

use crate::http;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often the log says how many allocations are left.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// Who asked for a drain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// An operator or USR1: it can be taken back.
    Operator,
    /// TERM: the server ends.
    Term,
}

/// A drain under way.
#[derive(Clone, Copy, Debug)]
pub struct Drain {
    /// Who asked.
    pub by: By,
    since: Instant,
    timeout: Option<Duration>,
    told: Instant,
}

impl Drain {
    /// Begins now; `None` is no deadline.
    pub fn begin(by: By, timeout_s: Option<u64>, now: Instant) -> Drain {
        Drain { by, since: now, timeout: timeout_s.map(Duration::from_secs), told: now }
    }

    /// The time left; `None` without a deadline.
    pub fn left(&self, now: Instant) -> Option<Duration> {
        self.timeout.map(|timeout| timeout.saturating_sub(now.saturating_duration_since(self.since)))
    }

    /// Another deadline, counted from when it began.
    pub fn change(&mut self, timeout_s: u64) {
        self.timeout = Some(Duration::from_secs(timeout_s));
    }

    /// Why it is over, if it is.
    pub fn end(&self, allocations: u64, now: Instant) -> Option<&'static str> {
        match (allocations, self.left(now)) {
            (0, _) => Some("drained"),
            (_, Some(Duration::ZERO)) => Some("drain timeout"),
            _ => None,
        }
    }

    /// Whether it is time to say how many are left.
    pub fn is_news(&mut self, now: Instant) -> bool {
        let is_news = now.saturating_duration_since(self.told) >= TELL_EVERY;
        if is_news {
            self.told = now;
        }
        is_news
    }
}

/// The drain under way, for whoever wants to know. Cheap to copy.
#[derive(Clone, Debug, Default)]
pub struct Board(Arc<Mutex<Option<Drain>>>);

impl Board {
    /// The drain under way.
    pub fn get(&self) -> Option<Drain> {
        *self.0.lock()
    }

    /// Another one, or none.
    pub fn set(&self, drain: Option<Drain>) {
        *self.0.lock() = drain;
    }

    /// The same for the plane.
    pub fn picture(&self) -> Option<http::Drain> {
        let drain = self.get()?;
        // Up to the next whole second: 0 is the end.
        let left_s = drain.left(Instant::now()).map(|left| left.as_secs() + u64::from(left.subsec_nanos() > 0));
        Some(http::Drain { left_s, is_final: drain.by == By::Term })
    }
}

/// A deadline in words.
pub fn in_words(left: Option<Duration>) -> String {
    left.map_or_else(|| "none".into(), |left| format!("{} s", left.as_secs_f32().ceil()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    #[test]
    fn a_drain_ends_with_the_last_allocation_or_at_its_deadline() {
        let now = Instant::now();
        let drain = Drain::begin(By::Term, Some(60), now);
        assert_eq!(drain.end(1, now + 59 * S), None);
        assert_eq!(drain.end(0, now), Some("drained"));
        assert_eq!((drain.end(1, now + 60 * S), drain.end(0, now + 60 * S)), (Some("drain timeout"), Some("drained")));
        assert_eq!(drain.left(now + 70 * S), Some(Duration::ZERO));
        assert_eq!(Drain::begin(By::Term, Some(0), now).end(7, now), Some("drain timeout"), "not at all");
        let open = Drain::begin(By::Operator, None, now);
        assert_eq!((open.end(1, now + 86_400 * S), open.left(now)), (None, None));
    }

    #[test]
    fn another_deadline_counts_from_the_beginning() {
        let now = Instant::now();
        let mut drain = Drain::begin(By::Term, Some(60), now);
        drain.change(90);
        assert_eq!(drain.left(now + 30 * S), Some(60 * S));
        drain.change(20);
        assert_eq!(drain.end(1, now + 30 * S), Some("drain timeout"));
    }

    #[test]
    fn what_is_left_is_told_every_ten_seconds() {
        let now = Instant::now();
        let mut drain = Drain::begin(By::Operator, None, now);
        let told: Vec<u32> = (0..35).filter(|&at| drain.is_news(now + at * S)).collect();
        assert_eq!(told, [10, 20, 30]);
    }
}
