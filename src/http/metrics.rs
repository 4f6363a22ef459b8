//! `/metrics`: the workers' counters and the plane's own, for Prometheus.
//!
//! Every family is built at the scrape from counters that are kept anyway, so a scrape costs the
//! workers nothing and its size does not depend on how many sessions there are. No label holds
//! text from the network.

use super::admin::Admitted;
use super::exposition::Exposition;
use super::guard::Problem;
use super::totals::{FAMILIES, TRANSPORTS, Totals, family_name};
use super::usage::Usage;
use super::{Live, Routes, Shared, coturn_metrics};
use crate::stats::Direction;
use crate::turn::DropReason;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Pairs of route and code that are told apart. There are some dozens of routes and a dozen codes.
const HTTP_SERIES_MAX: usize = 1024;
/// Stands for the routes beyond that.
const OTHER: &str = "other";
/// Milliseconds in a second.
const MS_PER_S: f64 = 1_000.0;

/// Requests the plane answered, by route and code.
#[derive(Default)]
pub struct HttpCounts(Mutex<BTreeMap<(String, u16), u64>>);

impl HttpCounts {
    /// Counts an answer. The route is a template (`/r/{room}`), or `other`; never a path as it came.
    pub fn count(&self, route: &str, code: u16) {
        let mut counts = self.0.lock();
        let is_known = |key: &(String, u16)| counts.contains_key(key);
        let mut key = (route.to_owned(), code);
        if counts.len() >= HTTP_SERIES_MAX && !is_known(&key) {
            key = (OTHER.to_owned(), 0);
        }
        *counts.entry(key).or_default() += 1;
    }

    /// Each route and code that was met, and how often.
    pub fn snapshot(&self) -> Vec<(String, u16, u64)> {
        self.0.lock().iter().map(|((route, code), count)| (route.clone(), *code, *count)).collect()
    }
}

/// `/metrics`.
pub fn routes() -> Routes {
    Routes::new().route("/metrics", get(scrape))
}

async fn scrape(_: Admitted, State(shared): State<Arc<Shared>>) -> Result<Response, Problem> {
    let text = expose(&shared).encode().map_err(|error| {
        tracing::error!(%error, "metrics could not be written");
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "metrics", "the metrics could not be written; see the log")
    })?;
    let head = [(header::CONTENT_TYPE, prometheus::TEXT_FORMAT), (header::CACHE_CONTROL, "no-store")];
    Ok((head, text).into_response())
}

fn expose(shared: &Shared) -> Exposition {
    let mut out = Exposition::default();
    let live = shared.live.load();
    let totals = Totals(&shared.workers.stats);
    server(&mut out, shared, &live);
    allocations(&mut out, &totals);
    traffic(&mut out, &totals);
    requests(&mut out, &totals);
    plane(&mut out, shared);
    usage(&mut out, &Usage::now());
    if live.coturn_names {
        coturn_metrics::add(&mut out, &totals, &live.realm);
    }
    out
}

fn server(out: &mut Exposition, shared: &Shared, live: &Live) {
    let version = env!("CARGO_PKG_VERSION");
    out.gauges("turnpike_build_info", "Always 1; the version is a label.").add(&[("version", version)], 1.0);
    out.gauge("turnpike_workers", "Relay threads.", shared.workers.stats.len() as f64);
    let draining = f64::from(u8::from((shared.control.draining)().is_some()));
    out.gauge("turnpike_draining", "1 while no new allocation is taken, else 0.", draining);
    // Without a certificate there is no series: a time of 0 would look like one that has expired.
    let mut expiry =
        out.gauges("turnpike_certificate_expiry_timestamp_seconds", "When the TLS certificate ends, in Unix time.");
    if let Some(certificate) = &live.certificate {
        expiry.add(&[], certificate.not_after_unix_s as f64);
    }
}

fn allocations(out: &mut Exposition, totals: &Totals<'_>) {
    let kinds = || TRANSPORTS.into_iter().flat_map(|transport| FAMILIES.map(|family| (transport, family)));
    let labels =
        |transport: crate::turn::Transport, family| [("transport", transport.name()), ("family", family_name(family))];
    let mut now = out.gauges(
        "turnpike_allocations",
        "Allocations there are, by the client's transport and the family of the relayed address; \
         one with addresses of both families counts in both.",
    );
    for (transport, family) in kinds() {
        now.add(&labels(transport, family), totals.relayed_addresses(transport, family).1 as f64);
    }
    let mut created = out.counters(
        "turnpike_allocations_created_total",
        "Allocations that began, by the client's transport and the family of the relayed address; \
         one with addresses of both families counts in both.",
    );
    for (transport, family) in kinds() {
        created.add(&labels(transport, family), totals.relayed_addresses(transport, family).0);
    }
    let mut ended = out.counters("turnpike_allocations_ended_total", "Allocations that ended, by reason.");
    for (reason, count) in totals.ended() {
        ended.add(&[("reason", reason.name())], count);
    }
    let gauges: [(&str, &str, u64); 4] = [
        ("turnpike_permissions", "Live permissions, about a second old.", totals.sum(|s| s.permissions.get())),
        ("turnpike_channels", "Live channel bindings, about a second old.", totals.sum(|s| s.channels.get())),
        ("turnpike_ports_free", "Free relay ports on all relay addresses.", totals.sum(|s| s.ports_free.get())),
        ("turnpike_connections", "Client connections over TCP and TLS.", totals.sum(|s| s.connections.get())),
    ];
    for (name, help, value) in gauges {
        out.gauge(name, help, value as f64);
    }
    let mut closed = out.counters("turnpike_connections_closed_total", "Client connections that ended, by reason.");
    for (reason, count) in totals.closed() {
        closed.add(&[("reason", reason.name())], count);
    }
    let durations = totals.distribution(|stats| &stats.session_ms);
    let help = "How long allocations lived that ended, in seconds.";
    out.histogram("turnpike_session_duration_seconds", help, &durations, MS_PER_S);
    let volumes = totals.distribution(|stats| &stats.session_bytes);
    let help = "What allocations carried that ended, both ways, in bytes without framing.";
    out.histogram("turnpike_session_bytes", help, &volumes, 1.0);
}

fn traffic(out: &mut Exposition, totals: &Totals<'_>) {
    let ways = [("to_peer", Direction::ToPeer), ("to_client", Direction::ToClient)];
    let volumes = ways.map(|(name, direction)| (name, totals.relayed(direction)));
    let mut packets = out.counters(
        "turnpike_relay_packets_total",
        "Packets relayed, as they are relayed, by direction and by what relayed them.",
    );
    for (direction, volume) in volumes {
        packets.add(&[("direction", direction), ("path", "user")], volume.packets);
    }
    let mut bytes = out.counters(
        "turnpike_relay_bytes_total",
        "Bytes relayed without framing, as they are relayed, by direction and by what relayed them.",
    );
    for (direction, volume) in volumes {
        bytes.add(&[("direction", direction), ("path", "user")], volume.bytes);
    }
    let mut dropped = out.counters("turnpike_dropped_packets_total", "Packets dropped, by reason.");
    for (reason, count) in totals.dropped() {
        dropped.add(&[("reason", reason.name())], count);
    }
    let batches = totals.distribution(|stats| &stats.batches);
    out.histogram("turnpike_batch_packets", "Packets received by one call of the kernel.", &batches, 1.0);
}

fn requests(out: &mut Exposition, totals: &Totals<'_>) {
    let mut requests =
        out.counters("turnpike_requests_total", "STUN and TURN requests answered, by method and error code.");
    for (method, code, count) in totals.answered() {
        requests.add(&[("method", method), ("code", &code)], count);
    }
    let mut reached = out.counters("turnpike_limits_reached_total", "Requests refused by a limit, by limit.");
    for (limit, count) in totals.reached() {
        reached.add(&[("limit", limit.name())], count);
    }
    out.counter(
        "turnpike_unverified_suppressed_total",
        "Answers to unverified sources that were not sent, to stay within their rate.",
        totals.sum(|stats| stats.dropped_total(DropReason::Unverified)),
    );
    out.counter(
        "turnpike_notices_lost_total",
        "Notices about sessions that nobody had room for.",
        totals.sum(|stats| stats.notices_lost.get()),
    );
}

fn plane(out: &mut Exposition, shared: &Shared) {
    out.counter(
        "turnpike_log_lines_lost_total",
        "Lines of the log that nobody read in time or that could not be written.",
        (shared.control.log_lines_lost)(),
    );
    out.counter(
        "turnpike_reloads_refused_total",
        "Reloads that were refused: what is on disk is not what is in force.",
        (shared.control.reloads_refused)(),
    );
    let rooms = shared.signalling.counts();
    out.gauge("turnpike_rooms", "Rooms with someone in them.", rooms.rooms as f64);
    out.gauge("turnpike_room_clients", "Clients in rooms.", rooms.clients as f64);
    let mut requests = out.counters("turnpike_http_requests_total", "HTTP requests answered, by route and status.");
    let counts = shared.counts.snapshot();
    if counts.is_empty() {
        requests.add(&[("route", "/metrics"), ("code", "200")], 0);
    }
    for (route, code, count) in counts {
        requests.add(&[("route", &route), ("code", &code.to_string())], count);
    }
}

/// The process's own, under the names that every Prometheus client library gives them.
fn usage(out: &mut Exposition, usage: &Usage) {
    out.counters("process_cpu_seconds_total", "Processor time used, user and system, in seconds.")
        .add_seconds(usage.cpu_s);
    let gauges = [
        ("process_resident_memory_bytes", "Memory in RAM, in bytes.", usage.resident_bytes as f64),
        ("process_virtual_memory_bytes", "Address space, in bytes.", usage.virtual_bytes as f64),
        ("process_open_fds", "Open files.", usage.open_fds as f64),
        ("process_max_fds", "Files that may be open.", usage.max_fds as f64),
        ("process_threads", "Threads.", usage.threads as f64),
        ("process_start_time_seconds", "When the process started, in Unix time.", usage.started_unix_s),
    ];
    for (name, help, value) in gauges {
        out.gauge(name, help, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn http_series_are_bounded() {
        let counts = HttpCounts::default();
        for number in 0..HTTP_SERIES_MAX {
            counts.count(&format!("/{number}"), 200);
        }
        counts.count("/7", 200);
        counts.count("/one-more", 200);
        counts.count("/one-more", 404);
        let snapshot = counts.snapshot();
        assert_eq!(snapshot.len(), HTTP_SERIES_MAX + 1);
        let of = |wanted: &str| snapshot.iter().find(|(route, ..)| route == wanted).map(|(.., count)| *count);
        assert_eq!((of("/7"), of("/one-more"), of(OTHER)), (Some(2), None, Some(2)));
    }
}
