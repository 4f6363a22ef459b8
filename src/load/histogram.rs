//! How long things took: counts in buckets that grow with the value, of fixed size however long a run is. Pure.

/// Buckets of every doubling: a value is known to 1/64 of itself.
const STEPS: usize = 64;
/// Values below this have a bucket each; also log2 of [`STEPS`].
const STEP_BITS: u32 = STEPS.trailing_zeros();
/// Values at or above 2 to this power share the last bucket: 18 minutes in nanoseconds.
const BITS_MAX: u32 = 40;

/// Counts of durations in nanoseconds; a percentile is at most 1.6 % above the truth, never below it.
#[derive(Clone, Debug)]
pub struct Histogram {
    counts: Vec<u64>,
    count: u64,
    max: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Histogram { counts: vec![0; bucket((1 << BITS_MAX) - 1) + 1], count: 0, max: 0 }
    }
}

impl Histogram {
    /// Enters a value.
    #[inline]
    pub fn add(&mut self, value: u64) {
        let last = self.counts.len() - 1;
        self.counts[bucket(value).min(last)] += 1;
        self.count += 1;
        self.max = self.max.max(value);
    }

    /// Enters all values of another.
    pub fn merge(&mut self, other: &Histogram) {
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
        self.count += other.count;
        self.max = self.max.max(other.max);
    }

    /// Values entered.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The largest value, exactly; 0 of nothing.
    pub fn max(&self) -> u64 {
        self.max
    }

    /// A value that `share` (0–1) of all do not exceed; `None` of nothing.
    pub fn percentile(&self, share: f64) -> Option<u64> {
        let rank = ((share * self.count as f64).ceil() as u64).clamp(1, self.count.max(1));
        let mut seen = 0;
        let at = self.counts.iter().position(|count| {
            seen += count;
            seen >= rank
        })?;
        Some(if at + 1 == self.counts.len() { self.max } else { upper(at).min(self.max) })
    }
}

/// The bucket of a value.
#[inline]
fn bucket(value: u64) -> usize {
    // Values below 2 * STEPS stand for themselves; above, the leading bits choose.
    let shift = (u64::BITS - value.leading_zeros()).saturating_sub(STEP_BITS + 1);
    (value >> shift) as usize + shift as usize * STEPS
}

/// The largest value of a bucket.
fn upper(bucket: usize) -> u64 {
    let shift = (bucket / STEPS).saturating_sub(1);
    let leading = (bucket - shift * STEPS) as u64;
    ((leading + 1) << shift) - 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::pace::Rng;

    #[test]
    fn buckets_follow_each_other_without_gap_or_overlap() {
        let mut last = 0;
        for value in 0..1_000_000u64 {
            let at = bucket(value);
            assert!(at == last || at == last + 1, "{value}");
            assert!(value <= upper(at) && (at == 0 || value > upper(at - 1)), "{value}");
            last = at;
        }
    }

    #[test]
    fn a_percentile_is_that_of_the_sorted_list_within_the_bucket() {
        let mut rng = Rng::new(5);
        let mut all: Vec<u64> = (0..50_000).map(|_| rng.next_u64() >> (24 + rng.below(40) as u32)).collect();
        let mut histogram = Histogram::default();
        all.iter().for_each(|&value| histogram.add(value));
        all.sort_unstable();
        for share in [0.5, 0.9, 0.99, 0.999, 1.0] {
            let truth = all[((share * all.len() as f64).ceil() as usize) - 1];
            let told = histogram.percentile(share).unwrap();
            assert!(truth <= told && told as f64 <= truth as f64 * 1.016 + 1.0, "{share}: {truth} {told}");
        }
        assert_eq!(histogram.percentile(1.0), all.last().copied());
    }

    #[test]
    fn nothing_has_no_percentile_and_the_longest_is_exact() {
        let mut histogram = Histogram::default();
        assert_eq!((histogram.percentile(0.5), histogram.max()), (None, 0));
        histogram.add(u64::MAX);
        assert_eq!(histogram.percentile(0.5), Some(u64::MAX));
    }

    #[test]
    fn parts_add_up() {
        let (mut one, mut other, mut both) = (Histogram::default(), Histogram::default(), Histogram::default());
        for value in 0..1000 {
            if value % 3 == 0 {
                one.add(value)
            } else {
                other.add(value)
            }
            both.add(value);
        }
        one.merge(&other);
        assert_eq!((one.count(), one.max()), (both.count(), both.max()));
        assert_eq!(one.percentile(0.9), both.percentile(0.9));
    }
}
