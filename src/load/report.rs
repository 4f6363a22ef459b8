//! What came out: added up over the threads, as a table and as JSON. Pure.

use super::histogram::Histogram;
use super::link::Transport;
use super::usage::Usage;
use super::{Config, Gso, Mode, Via};
use crate::load::pace::Pace;
use serde::Serialize;
use std::fmt::Write;

/// What a thread counted.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// How long it was counted, in seconds.
    pub seconds: f64,
    /// The share of that time in which the thread had something to do, 0–1.
    pub busy: f64,
    /// Packets sent, or requests begun.
    pub sent: u64,
    /// Packets that came out at the far end once, or requests that reached their goal.
    pub arrived: u64,
    /// Packets the relay handed on: two for one that a peer returns.
    pub delivered: u64,
    /// Packets the relay handed on, whenever they were sent.
    pub handed_on: u64,
    /// Those before the window closed.
    pub in_time: u64,
    /// Packets that came again.
    pub duplicates: u64,
    /// What came and was not what anybody sent there.
    pub corrupted: u64,
    /// The first of them.
    pub first_corrupted: Option<String>,
    /// Departures over a millisecond late.
    pub late: u64,
    /// Departures that found no room: in this machine's buffers, in a stream, or for want of an idle client.
    pub unsent: u64,
    /// Whether the kernel has refused super-packets.
    pub refuses_segments: bool,
    /// Requests sent again.
    pub repeated: u64,
    /// Allocations lost on the way, or requests that did not reach their goal.
    pub failed: u64,
    /// What else the reader should know.
    pub notes: Vec<String>,
    /// What stopped it before its time.
    pub fault: Option<String>,
    /// What the watched program had used when the window opened and when it closed, from the thread that watches.
    pub watched: Option<(Usage, Usage)>,
    /// From departure to the far end.
    pub latency: Histogram,
}

impl Tally {
    /// Adds another thread's.
    pub fn merge(&mut self, other: Tally) {
        self.seconds = self.seconds.max(other.seconds);
        self.busy = self.busy.max(other.busy);
        self.sent += other.sent;
        self.arrived += other.arrived;
        self.delivered += other.delivered;
        self.handed_on += other.handed_on;
        self.in_time += other.in_time;
        self.duplicates += other.duplicates;
        self.corrupted += other.corrupted;
        self.first_corrupted = self.first_corrupted.take().or(other.first_corrupted);
        self.late += other.late;
        self.unsent += other.unsent;
        self.refuses_segments |= other.refuses_segments;
        self.repeated += other.repeated;
        self.failed += other.failed;
        self.notes.extend(other.notes);
        self.fault = self.fault.take().or(other.fault);
        self.watched = self.watched.take().or(other.watched);
        self.latency.merge(&other.latency);
    }
}

/// What the server had used, if it was watched.
#[derive(Clone, Debug)]
pub struct Watched {
    /// Before anything was asked of it.
    pub idle: Usage,
    /// With all allocations made.
    pub made: Usage,
    /// When the load began to be counted and when that ended.
    pub window: (Usage, Usage),
    /// At the end, the allocations still there.
    pub ended: Usage,
}

/// Times in microseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Latency {
    /// Half took at most this long.
    pub p50_us: f64,
    /// 99 of 100 took at most this long.
    pub p99_us: f64,
    /// 999 of 1000 took at most this long.
    pub p999_us: f64,
    /// The longest.
    pub max_us: f64,
}

/// What a thread of the server used.
#[derive(Clone, Debug, Serialize)]
pub struct ServerThread {
    /// Its name.
    pub name: String,
    /// CPU time, in seconds.
    pub cpu_s: f64,
}

/// What the server used.
#[derive(Clone, Debug, Serialize)]
pub struct Server {
    /// CPU time for one delivered packet or one request, in microseconds; `None` when there was none.
    pub cpu_us_per_unit: Option<f64>,
    /// CPU time while the load was counted, in seconds.
    pub cpu_s: f64,
    /// How often one of its threads was put on a core, for one packet or request.
    pub wakeups_per_unit: Option<f64>,
    /// Memory before the first allocation, in KiB.
    pub rss_before_kib: u64,
    /// Memory with all allocations made, in KiB.
    pub rss_made_kib: u64,
    /// Memory at the end of the load, in KiB.
    pub rss_after_kib: u64,
    /// Memory that an allocation took, in bytes; `None` where none is held.
    pub rss_bytes_per_allocation: Option<f64>,
    /// Its threads that did anything, the busiest first.
    pub threads: Vec<ServerThread>,
}

/// The result of a load.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The server's address.
    pub server: String,
    /// `udp`, `tcp` or `tls`.
    pub transport: &'static str,
    /// What was done.
    pub mode: Mode,
    /// How packets were framed, or what an allocation was made with.
    pub via: Via,
    /// Clients, each with a socket and an allocation of its own.
    pub allocations: usize,
    /// Payload of a packet, in bytes.
    pub size: usize,
    /// Departures a second that were asked for; 0 is flat-out.
    pub rate: f64,
    /// How they followed each other.
    pub pace: Pace,
    /// Packets that left at once.
    pub burst: u32,
    /// How those of a burst were to leave.
    pub gso: Gso,
    /// Whether they left as super-packets throughout.
    pub super_packets: bool,
    /// How long it went on before it was counted, in seconds.
    pub warm_up_seconds: f64,
    /// Whether somebody ended it early.
    pub interrupted: bool,
    /// How long it took to set up, in seconds.
    pub set_up_seconds: f64,
    /// Allocations a second meanwhile, with channel or permission; `None` where there is no set-up.
    pub set_up_per_second: Option<f64>,
    /// How long it was counted, in seconds.
    pub seconds: f64,
    /// The share of that time in which the busiest thread of the generator had something to do, 0–1: near 1, the
    /// generator is what is measured.
    pub generator_busy: f64,
    /// Packets sent, or requests begun.
    pub sent: u64,
    /// Packets that arrived, each counted once, or requests that reached their goal.
    pub arrived: u64,
    /// Packets the relay handed on, or requests that reached their goal.
    pub delivered: u64,
    /// The same in a second.
    pub delivered_per_second: f64,
    /// Payload in them, in millions of bits a second; `None` without packets.
    pub delivered_mbit_per_second: Option<f64>,
    /// The share that did not arrive of `sent`, over a stream of `sent` and `unsent`, 0–1: there it is the server that
    /// makes no room.
    pub loss: f64,
    /// Packets that arrived again.
    pub duplicates: u64,
    /// Packets that arrived damaged, or where they should not have.
    pub corrupted: u64,
    /// Departures over a millisecond late: above a few per cent, the generator is what is measured.
    pub late: u64,
    /// Departures that found no room: in this machine's buffers, in a stream, or for want of an idle client.
    pub unsent: u64,
    /// Requests sent again.
    pub repeated: u64,
    /// Allocations lost on the way, or requests that did not reach their goal.
    pub failed: u64,
    /// From departure to the far end; for a returned packet there and back, for a request until its goal.
    pub latency: Option<Latency>,
    /// What the server used.
    pub usage: Option<Server>,
    /// What stopped a thread before its time.
    pub fault: Option<String>,
    /// What else the reader should know.
    pub notes: Vec<String>,
}

impl Report {
    /// Sums a load up.
    pub fn new(config: &Config, set_up_seconds: f64, tally: Tally, watched: Option<Watched>, stopped: bool) -> Self {
        let is_relayed = config.mode.is_relayed();
        let per_second = |count: u64| if tally.seconds > 0.0 { count as f64 / tally.seconds } else { 0.0 };
        let delivered_per_second = per_second(tally.in_time);
        let set_up = is_relayed && set_up_seconds > 0.0;
        let mut notes = tally.notes;
        notes.extend(tally.first_corrupted.map(|what| format!("the first corruption: {what}")));
        let at = |share| tally.latency.percentile(share).map_or(0.0, |ns| ns as f64 / 1e3);
        let max_us = tally.latency.max() as f64 / 1e3;
        let is_burst = config.burst > 1 && config.gso == Gso::Auto && matches!(config.transport, Transport::Udp);
        let is_segmented = is_relayed && is_burst && !tally.refuses_segments;
        if tally.refuses_segments {
            notes.push("the kernel took no super-packets: packets of a burst left one by one".to_owned());
        }
        let latency = Latency { p50_us: at(0.5), p99_us: at(0.99), p999_us: at(0.999), max_us };
        Report {
            server: config.server.to_string(),
            transport: config.transport.name(),
            mode: config.mode,
            via: config.via,
            allocations: config.allocations,
            size: config.size,
            rate: config.rate,
            pace: config.pace,
            burst: config.burst,
            gso: config.gso,
            super_packets: is_segmented,
            warm_up_seconds: config.warm_up.as_secs_f64(),
            interrupted: stopped,
            set_up_seconds,
            set_up_per_second: set_up.then(|| config.allocations as f64 / set_up_seconds),
            seconds: tally.seconds,
            generator_busy: tally.busy,
            sent: tally.sent,
            arrived: tally.arrived,
            delivered: tally.delivered,
            delivered_per_second,
            delivered_mbit_per_second: is_relayed.then(|| delivered_per_second * config.size as f64 * 8.0 / 1e6),
            loss: share_lost(due(config.transport.name(), tally.sent, tally.unsent), tally.arrived),
            duplicates: tally.duplicates,
            corrupted: tally.corrupted,
            late: tally.late,
            unsent: tally.unsent,
            repeated: tally.repeated,
            failed: tally.failed,
            latency: (tally.latency.count() > 0).then_some(latency),
            usage: watched.map(|watched| server(&watched, tally.in_time, is_relayed.then_some(config.allocations))),
            fault: tally.fault,
            notes,
        }
    }

    /// The table.
    pub fn text(&self) -> String {
        let unit = self.mode.unit();
        let mut out = String::new();
        let mut row = |name: &str, value: String| _ = writeln!(out, "{name:<14} {value}");
        row("server", format!("{} by {}", self.server, self.transport));
        let early = if self.interrupted { ", ended early" } else { "" };
        row("load", format!("{} for {:.1} s{early}", self.mode.name(), self.seconds));
        if let Some(rate) = self.set_up_per_second {
            let (count, seconds) = (self.allocations, self.set_up_seconds);
            row("allocations", format!("{count} in {seconds:.2} s, {rate:.0} a second"));
        }
        row("sent", format!("{} {unit}", self.sent));
        let mbit = self.delivered_mbit_per_second.map_or_else(String::new, |mbit| format!(", {mbit:.1} Mbit/s"));
        row("delivered", format!("{} {unit}, {:.0} a second{mbit}", self.delivered, self.delivered_per_second));
        let due = due(self.transport, self.sent, self.unsent);
        let lost = due - self.arrived.min(due);
        row("loss", format!("{:.3} % ({lost} of {due})", self.loss * 100.0));
        if self.mode.is_relayed() {
            row("corrupted", self.corrupted.to_string());
            row("duplicates", self.duplicates.to_string());
        }
        if let Some(Latency { p50_us, p99_us, p999_us, max_us }) = self.latency {
            let text = format!("p50 {p50_us:.0} us, p99 {p99_us:.0} us, p99.9 {p999_us:.0} us, max {max_us:.0} us");
            row("latency", text);
        }
        row("generator", format!("{:.0} % busy", self.generator_busy * 100.0));
        if let Some(server) = &self.usage {
            let one = unit.strip_suffix('s').unwrap_or(unit);
            let per_unit = server.cpu_us_per_unit.map_or_else(|| "-".to_owned(), |us| format!("{us:.2} us a {one}"));
            let wakeups = server.wakeups_per_unit.map_or_else(String::new, |count| format!(", {count:.2} wake-ups"));
            row("server's CPU", format!("{per_unit}{wakeups}, {:.2} s in all", server.cpu_s));
            if server.threads.len() > 1 {
                let share = |thread: &ServerThread| {
                    format!("{} {:.0} %", thread.name, thread.cpu_s / server.cpu_s.max(1e-9) * 100.0)
                };
                row("its threads", server.threads.iter().map(share).collect::<Vec<_>>().join(", "));
            }
            let each = server.rss_bytes_per_allocation;
            let each = each.map_or_else(String::new, |bytes| format!(", {bytes:.0} bytes an allocation"));
            let (before, after) = (server.rss_before_kib, server.rss_after_kib);
            row("server's RSS", format!("{before} KiB before, {after} KiB after{each}"));
        }
        let counts = [
            ("failed", self.failed, "did not reach their goal"),
            ("sent again", self.repeated, "requests, for want of an answer"),
            ("unsent", self.unsent, "were due and found no room"),
            ("late", self.late, "left over 1 ms after their time"),
        ];
        for (name, count, what) in counts.into_iter().filter(|(_, count, _)| *count > 0) {
            row(name, format!("{count} {what}"));
        }
        for note in &self.notes {
            row("note", note.clone());
        }
        if let Some(fault) = &self.fault {
            row("fault", fault.clone());
        }
        out
    }
}

/// Packets or requests that count as lost when they do not arrive.
fn due(transport: &str, sent: u64, unsent: u64) -> u64 {
    if transport == Transport::Udp.name() { sent } else { sent + unsent }
}

fn share_lost(due: u64, arrived: u64) -> f64 {
    if due == 0 { 0.0 } else { (1.0 - arrived as f64 / due as f64).max(0.0) }
}

fn server(watched: &Watched, units: u64, allocations: Option<usize>) -> Server {
    let (open, close) = &watched.window;
    let mut used = close.since(open);
    used.sort_by_key(|thread| std::cmp::Reverse(thread.cpu_ns));
    let (cpu_ns, turns) = used.iter().fold((0, 0), |sum, thread| (sum.0 + thread.cpu_ns, sum.1 + thread.turns));
    let per_unit = |total: f64| (units > 0).then(|| total / units as f64);
    let grown = watched.made.rss_kib as f64 - watched.idle.rss_kib as f64;
    let threads = used.into_iter().filter(|thread| thread.turns > 0 || thread.cpu_ns > 0);
    Server {
        cpu_us_per_unit: per_unit(cpu_ns as f64 / 1e3),
        cpu_s: cpu_ns as f64 / 1e9,
        wakeups_per_unit: per_unit(turns as f64),
        rss_before_kib: watched.idle.rss_kib,
        rss_made_kib: watched.made.rss_kib,
        rss_after_kib: watched.ended.rss_kib,
        rss_bytes_per_allocation: allocations.map(|count| grown * 1024.0 / count as f64),
        threads: threads.map(|thread| ServerThread { name: thread.name, cpu_s: thread.cpu_ns as f64 / 1e9 }).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_stream_had_no_room_for_is_lost() {
        assert_eq!(share_lost(due("udp", 50, 50), 50), 0.0);
        assert_eq!(share_lost(due("tcp", 50, 50), 50), 0.5);
        assert_eq!(share_lost(due("tls", 0, 0), 0), 0.0);
    }

    #[test]
    fn what_others_counted_outlives_a_fault() {
        let mut tally = Tally { delivered: 5, busy: 0.5, ..Tally::default() };
        tally.merge(Tally { delivered: 2, busy: 0.2, fault: Some("first".into()), ..Tally::default() });
        tally.merge(Tally { delivered: 1, fault: Some("second".into()), ..Tally::default() });
        assert_eq!((tally.delivered, tally.busy, tally.fault.as_deref()), (8, 0.5, Some("first")));
    }
}
