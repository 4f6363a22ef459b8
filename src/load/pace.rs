//! When packets leave: evenly or as a Poisson process, singly or in bursts. Pure: the time is an argument.

/// A seeded xorshift64* generator: the same seed gives the same run. Not for secrets.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// Begins a sequence; every seed is a good one.
    pub fn new(seed: u64) -> Self {
        // SplitMix64's finish: near seeds give unrelated states, and 0 is no fixed point.
        let mut z = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        Rng((z ^ (z >> 31)) | 1)
    }

    /// The next 64 bits.
    #[inline]
    pub fn next_u64(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// A number in `0..n`; 0 for an empty range.
    #[inline]
    pub fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.next_u64()) * n as u128) >> 64) as usize
    }

    /// The wait for the next of Poisson arrivals that come `mean_ns` apart on average.
    #[inline]
    pub fn gap_ns(&mut self, mean_ns: f64) -> f64 {
        let unit = ((self.next_u64() >> 11) + 1) as f64 / (1u64 << 53) as f64;
        -unit.ln() * mean_ns
    }

    /// Puts a list into random order.
    pub fn shuffle<T>(&mut self, list: &mut [T]) {
        for i in (1..list.len()).rev() {
            list.swap(i, self.below(i + 1));
        }
    }
}

/// How departures follow each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Pace {
    /// Independent of each other, as those of many callers are
    #[default]
    Poisson,
    /// Always the same time apart
    Even,
}

/// Departures at a rate, in bursts of one or more.
#[derive(Clone, Debug)]
pub struct Schedule {
    pace: Pace,
    /// Mean time from one burst to the next, in nanoseconds.
    gap_ns: f64,
    /// When the next burst is due; a fraction, so that no rounding adds up.
    due_ns: f64,
    rng: Rng,
}

impl Schedule {
    /// Departures that begin at `now_ns`, `per_second` of them on average, `burst` at a time; both are above 0.
    pub fn new(pace: Pace, per_second: f64, burst: u32, now_ns: u64, seed: u64) -> Self {
        debug_assert!(per_second > 0.0 && burst > 0);
        let (gap_ns, mut rng) = (1e9 * f64::from(burst) / per_second, Rng::new(seed));
        // The first is anywhere within a gap: threads of even pace do not march in step.
        let first = match pace {
            Pace::Poisson => rng.gap_ns(gap_ns),
            Pace::Even => gap_ns * (rng.below(1 << 20) as f64 / f64::from(1 << 20)),
        };
        Schedule { pace, gap_ns, due_ns: now_ns as f64 + first, rng }
    }

    /// Takes one burst that is due and says how long ago it was, in nanoseconds.
    #[inline]
    pub fn take(&mut self, now_ns: u64) -> Option<u64> {
        let late_ns = now_ns as f64 - self.due_ns;
        if late_ns < 0.0 {
            return None;
        }
        self.due_ns += match self.pace {
            Pace::Poisson => self.rng.gap_ns(self.gap_ns),
            Pace::Even => self.gap_ns,
        };
        Some(late_ns as u64)
    }

    /// Time until the next burst, in nanoseconds; 0 when one is due.
    #[inline]
    pub fn wait_ns(&self, now_ns: u64) -> u64 {
        // A negative number becomes 0.
        (self.due_ns - now_ns as f64).ceil() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn departures(pace: Pace, per_second: f64, seconds: u64) -> Vec<u64> {
        let mut schedule = Schedule::new(pace, per_second, 1, 0, 11);
        let mut all = Vec::new();
        let mut now = 0;
        while now < seconds * 1_000_000_000 {
            now += schedule.wait_ns(now).max(1);
            while schedule.take(now).is_some() {
                all.push(now);
            }
        }
        all
    }

    #[test]
    fn an_even_pace_keeps_its_distance_and_its_rate() {
        let all = departures(Pace::Even, 1000.0, 10);
        assert!((9_999..=10_001).contains(&all.len()), "{}", all.len());
        assert!(all.windows(2).all(|pair| pair[1].abs_diff(pair[0] + 1_000_000) <= 1));
    }

    #[test]
    fn a_poisson_pace_keeps_its_rate_and_varies_as_much_as_its_mean() {
        let all = departures(Pace::Poisson, 1000.0, 20);
        assert!((19_400..=20_600).contains(&all.len()), "{}", all.len());
        let gaps: Vec<f64> = all.windows(2).map(|pair| (pair[1] - pair[0]) as f64).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        assert!((0.95..1.05).contains(&(variance.sqrt() / mean)), "{}", variance.sqrt() / mean);
    }

    #[test]
    fn what_was_missed_is_made_up_for_and_called_late() {
        let mut schedule = Schedule::new(Pace::Even, 1000.0, 1, 0, 3);
        let late: Vec<u64> = std::iter::from_fn(|| schedule.take(10_000_000)).collect();
        assert!((10..=11).contains(&late.len()), "{late:?}");
        assert!(late.windows(2).all(|pair| pair[0] > pair[1]), "{late:?}");
        assert!(schedule.wait_ns(10_000_000) > 0);
    }

    #[test]
    fn a_burst_is_due_once_and_keeps_the_rate() {
        let mut schedule = Schedule::new(Pace::Even, 1000.0, 4, 0, 3);
        let now = schedule.wait_ns(0);
        assert!(schedule.take(now).is_some());
        assert_eq!(schedule.take(now), None);
        assert!((3_999_998..=4_000_000).contains(&schedule.wait_ns(now)), "{}", schedule.wait_ns(now));
    }

    #[test]
    fn a_seed_replays() {
        assert_eq!(departures(Pace::Poisson, 500.0, 1), departures(Pace::Poisson, 500.0, 1));
    }
}
