//! Metric families built at the scrape from numbers that others keep.

use super::totals::Distribution;
use prometheus::TextEncoder;
use prometheus::proto::{Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType};

/// The families of one scrape, in the order they were added.
#[derive(Debug, Default)]
pub struct Exposition(Vec<MetricFamily>);

/// Names and values that tell the series of a family apart.
pub type Labels<'a> = &'a [(&'a str, &'a str)];

impl Exposition {
    /// Adds a counter without labels.
    pub fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.counters(name, help).add(&[], value);
    }

    /// Adds a gauge without labels.
    pub fn gauge(&mut self, name: &str, help: &str, value: f64) {
        self.gauges(name, help).add(&[], value);
    }

    /// Adds a family of counters.
    pub fn counters(&mut self, name: &str, help: &str) -> Counters<'_> {
        Counters(self.family(name, help, MetricType::COUNTER))
    }

    /// Adds a family of gauges.
    pub fn gauges(&mut self, name: &str, help: &str) -> Gauges<'_> {
        Gauges(self.family(name, help, MetricType::GAUGE))
    }

    /// Adds a histogram whose values are told in units of so many: 1000 for milliseconds as seconds.
    pub fn histogram(&mut self, name: &str, help: &str, values: &Distribution, unit: f64) {
        let mut cumulative = 0;
        let mut buckets = Vec::with_capacity(values.bounds.len());
        for (bound, count) in values.bounds.iter().zip(&values.counts) {
            cumulative += count;
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(*bound as f64 / unit);
            bucket.set_cumulative_count(cumulative);
            buckets.push(bucket);
        }
        let mut histogram = Histogram::default();
        histogram.set_bucket(buckets);
        histogram.set_sample_count(values.counts.iter().sum());
        histogram.set_sample_sum(values.sum as f64 / unit);
        let mut metric = Metric::default();
        metric.set_histogram(histogram);
        self.family(name, help, MetricType::HISTOGRAM).mut_metric().push(metric);
    }

    /// The families as Prometheus reads them. One without a series is left out.
    pub fn encode(self) -> prometheus::Result<String> {
        let families: Vec<MetricFamily> = self.0.into_iter().filter(|f| !f.get_metric().is_empty()).collect();
        TextEncoder::new().encode_to_string(&families)
    }

    fn family(&mut self, name: &str, help: &str, kind: MetricType) -> &mut MetricFamily {
        let mut family = MetricFamily::default();
        family.set_name(name.into());
        family.set_help(help.into());
        family.set_field_type(kind);
        self.0.push(family);
        let last = self.0.len() - 1;
        &mut self.0[last]
    }
}

/// A family that counts up.
pub struct Counters<'a>(&'a mut MetricFamily);

impl Counters<'_> {
    /// Adds a series.
    pub fn add(&mut self, labels: Labels<'_>, value: u64) {
        self.push(labels, value as f64);
    }

    /// Adds a series without labels that counts seconds and parts of them.
    pub fn add_seconds(&mut self, seconds: f64) {
        self.push(&[], seconds);
    }

    fn push(&mut self, labels: Labels<'_>, value: f64) {
        let mut counter = Counter::default();
        counter.set_value(value);
        let mut metric = Metric::from_label(pairs(labels));
        metric.set_counter(counter);
        self.0.mut_metric().push(metric);
    }
}

/// A family that goes up and down.
pub struct Gauges<'a>(&'a mut MetricFamily);

impl Gauges<'_> {
    /// Adds a series.
    pub fn add(&mut self, labels: Labels<'_>, value: f64) {
        let mut gauge = Gauge::default();
        gauge.set_value(value);
        let mut metric = Metric::from_label(pairs(labels));
        metric.set_gauge(gauge);
        self.0.mut_metric().push(metric);
    }
}

fn pairs(labels: Labels<'_>) -> Vec<LabelPair> {
    let pair = |(name, value): &(&str, &str)| {
        let mut pair = LabelPair::default();
        pair.set_name((*name).into());
        pair.set_value((*value).into());
        pair
    };
    labels.iter().map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_written_in_order() {
        let mut exposition = Exposition::default();
        exposition.counter("a_total", "Counts a.", 1 << 53);
        exposition.gauges("b", "Says \"b\".").add(&[("who", "x\"y\n")], -0.5);
        exposition.counters("none_total", "Has no series.");
        let values = Distribution { bounds: &[10, 100], counts: vec![1, 2, 3], sum: 1_500 };
        exposition.histogram("c_seconds", "Measures c.", &values, 1_000.0);
        let expected = "# HELP a_total Counts a.\n# TYPE a_total counter\na_total 9007199254740992\n\
            # HELP b Says \"b\".\n# TYPE b gauge\nb{who=\"x\\\"y\\n\"} -0.5\n\
            # HELP c_seconds Measures c.\n# TYPE c_seconds histogram\n\
            c_seconds_bucket{le=\"0.01\"} 1\nc_seconds_bucket{le=\"0.1\"} 3\nc_seconds_bucket{le=\"+Inf\"} 6\n\
            c_seconds_sum 1.5\nc_seconds_count 6\n";
        assert_eq!(exposition.encode().expect("it is written"), expected);
    }
}
