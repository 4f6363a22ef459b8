//! `/metrics`: the workers' counters and the plane's own, for Prometheus.

/// Requests the plane answered, by route and code.
#[derive(Default)]
pub struct HttpCounts {}
