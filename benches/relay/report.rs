//! What came out: samples, medians, ratios within a round, tables and JSON.

use crate::machine::has_cores_for_workers;
use crate::scenario::{Bar, Contest, Scenario};
use serde::Serialize;
use std::fmt::Write as _;

/// The share of a core others may take before a measurement counts as disturbed.
pub const OTHERS_MAX: f64 = 0.1;
/// The share of packets lost, or of requests sent again, above which a cost is that of other work.
const LOSS_MAX: f64 = 0.001;
/// The share of its core below which a server is not what limits a rate.
const SERVER_LOAD_MIN: f64 = 0.9;
/// The server that bars are promised against.
const RIVAL: &str = "coturn";

/// What one scenario took on one server in one round. A quantity the scenario does not have
/// is `None`.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Sample {
    /// Server CPU time (for memory: bytes) per unit, in the scenario's cost unit.
    pub cost: Option<f64>,
    /// Units a second.
    pub rate: Option<f64>,
    /// Half of the packets took at most this long, in microseconds.
    pub p50_us: Option<f64>,
    /// 99 of 100 packets took at most this long, in microseconds.
    pub p99_us: Option<f64>,
    /// The share of packets that never arrived; 0–1.
    pub loss: Option<f64>,
    /// Departures that found no room, for each that did.
    pub unsent: Option<f64>,
    /// Requests that were sent again, for each.
    pub again: Option<f64>,
    /// The share of packets the generator sent more than 1 ms after their time; 0–1.
    pub late: Option<f64>,
    /// The share of the window the server had the core; 0–1.
    pub server_load: Option<f64>,
    /// The share of the window the generator had something to do; 0–1.
    pub generator_load: Option<f64>,
    /// The share of a core that other programs took from the two in use; 0–2.
    pub others: Option<f64>,
    /// Times the server was put on its core per unit.
    pub wakeups: Option<f64>,
    /// The busiest thread's share of the server's CPU time; 0–1.
    pub busiest: Option<f64>,
    /// Memory of the idle server, in KiB.
    pub empty_kib: Option<f64>,
    /// Memory of the loaded server, in KiB.
    pub full_kib: Option<f64>,
}

/// A sample and where it comes from.
#[derive(Clone, Debug, Serialize)]
pub struct Entry {
    /// Counted from 1.
    pub round: u32,
    /// Name of the scenario.
    pub scenario: &'static str,
    /// Name of the server.
    pub server: String,
    /// What was measured.
    pub sample: Sample,
}

/// One quantity of one scenario and server over all rounds.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    scenario: &'static str,
    server: String,
    quantity: &'static str,
    median: f64,
    min: f64,
    max: f64,
    /// Median, min and max of the per-round ratios to the base; `None` for the base itself.
    ratio: Option<[f64; 3]>,
}

/// A quantity and how the table shows it.
struct Column {
    name: &'static str,
    title: &'static str,
    /// What it is multiplied with for the table.
    scale: f64,
    decimals: usize,
    /// Whether min, max and the ratio are shown.
    whole: bool,
    of: fn(&Sample) -> Option<f64>,
}

const fn column(
    name: &'static str,
    title: &'static str,
    scale: f64,
    decimals: usize,
    whole: bool,
    of: fn(&Sample) -> Option<f64>,
) -> Column {
    Column { name, title, scale, decimals, whole, of }
}

const COLUMNS: &[Column] = &[
    column("cost", "CPU (rss: memory)", 1.0, 0, true, |s| s.cost),
    column("rate", "rate", 1.0, 0, true, |s| s.rate),
    column("p50_us", "p50 us", 1.0, 0, true, |s| s.p50_us),
    column("p99_us", "p99 us", 1.0, 0, true, |s| s.p99_us),
    column("loss", "loss %", 100.0, 2, false, |s| s.loss),
    column("unsent", "unsent %", 100.0, 2, false, |s| s.unsent),
    column("again", "again %", 100.0, 2, false, |s| s.again),
    column("late", "late %", 100.0, 2, false, |s| s.late),
    column("server_load", "server %", 100.0, 0, false, |s| s.server_load),
    column("generator_load", "generator %", 100.0, 0, false, |s| s.generator_load),
    column("others", "others %", 100.0, 0, false, |s| s.others),
    column("wakeups", "wake-ups", 1.0, 2, false, |s| s.wakeups),
    column("busiest", "busiest %", 100.0, 0, false, |s| s.busiest),
    column("empty_kib", "idle KiB", 1.0, 0, false, |s| s.empty_kib),
    column("full_kib", "full KiB", 1.0, 0, false, |s| s.full_kib),
];

/// Median, min and max; `None` of nothing.
fn spread(mut values: Vec<f64>) -> Option<[f64; 3]> {
    values.sort_unstable_by(f64::total_cmp);
    let (min, max) = (*values.first()?, *values.last()?);
    let (low, high) = (values[(values.len() - 1) / 2], values[values.len() / 2]);
    Some([(low + high) / 2.0, min, max])
}

/// One quantity of one server in one scenario, by round.
fn rounds<'a>(
    entries: &'a [Entry],
    scenario: &'a str,
    server: &'a str,
    column: &'a Column,
) -> impl Iterator<Item = (u32, f64)> + 'a {
    let wanted = move |entry: &&Entry| entry.scenario == scenario && entry.server == server;
    entries.iter().filter(wanted).filter_map(|entry| Some((entry.round, (column.of)(&entry.sample)?)))
}

/// Sums up one quantity. The ratio is taken within each round, for only there the machine was
/// in one mood, and then its median.
fn summary(entries: &[Entry], scenario: &Scenario, server: &str, base: &str, column: &Column) -> Option<Summary> {
    let [median, min, max] = spread(rounds(entries, scenario.name, server, column).map(|(_, value)| value).collect())?;
    let ratios = rounds(entries, scenario.name, server, column).filter_map(|(round, value)| {
        let (_, other) = rounds(entries, scenario.name, base, column).find(|(other, _)| *other == round)?;
        (other > 0.0).then_some(value / other)
    });
    let ratio = if server == base { None } else { spread(ratios.collect()) };
    Some(Summary { scenario: scenario.name, server: server.to_owned(), quantity: column.name, median, min, max, ratio })
}

/// A scenario and the names of those compared in it; ratios are taken to the last one.
pub type Row<'a> = (&'a Scenario, Vec<String>);

fn base(servers: &[String]) -> &str {
    servers.last().map_or("", String::as_str)
}

/// Everything summed up, for JSON.
pub fn summaries(entries: &[Entry], rows: &[Row<'_>]) -> Vec<Summary> {
    let mut all = Vec::new();
    for (scenario, servers) in rows {
        for server in servers {
            all.extend(COLUMNS.iter().filter_map(|c| summary(entries, scenario, server, base(servers), c)));
        }
    }
    all
}

/// The table, in Markdown: median (min-max) and the ratio to the last server.
pub fn table(entries: &[Entry], rows: &[Row<'_>]) -> String {
    let titles = ["scenario", "server"].into_iter().chain(COLUMNS.iter().map(|column| column.title));
    let mut lines: Vec<Vec<String>> = vec![titles.map(str::to_owned).collect()];
    for (scenario, servers) in rows {
        for server in servers {
            let mut line = vec![scenario.name.to_owned(), server.clone()];
            line.extend(COLUMNS.iter().map(|column| {
                let summary = summary(entries, scenario, server, base(servers), column);
                summary.map_or_else(|| "-".to_owned(), |summary| cell(&summary, scenario, column))
            }));
            lines.push(line);
        }
    }
    drop_empty_columns(&mut lines);
    lay_out(&lines)
}

/// What was promised and whether it holds, in Markdown: the first server of each row against the last; `None` where
/// nothing was promised of what was measured. Promises are against coturn, and of two workers against one.
pub fn verdicts(entries: &[Entry], rows: &[Row<'_>]) -> Option<String> {
    let titles = ["scenario", "quantity", "first", "last", "ratio", "must", "aim", "holds"];
    let mut lines = vec![titles.map(str::to_owned).to_vec()];
    for (scenario, servers) in rows {
        let is_promised = scenario.contest == Contest::Workers || base(servers) == RIVAL;
        for bar in scenario.bars.iter().filter(|_| is_promised) {
            lines.extend(verdict(entries, scenario, servers, bar));
        }
    }
    (lines.len() > 1).then(|| lay_out(&lines))
}

fn verdict(entries: &[Entry], scenario: &Scenario, servers: &[String], bar: &Bar) -> Option<Vec<String>> {
    let column = COLUMNS.iter().find(|column| column.name == bar.quantity)?;
    let base = base(servers);
    let first = summary(entries, scenario, servers.first()?, base, column)?;
    let last = summary(entries, scenario, base, base, column)?;
    let [ratio, min, max] = first.ratio?;
    let sign = if bar.is_floor() { ">=" } else { "<=" };
    let holds = match (bar.holds(ratio, bar.must), bar.holds(ratio, bar.aim)) {
        _ if scenario.contest == Contest::Workers && !has_cores_for_workers() => "too few cores",
        (false, _) => "NO",
        (true, is_aim) => {
            let plain = if is_aim { "aim" } else { "must" };
            doubt(entries, scenario, servers, bar).unwrap_or(plain)
        }
    };
    let unit = match column.name {
        "cost" => scenario.unit.cost(),
        "rate" => scenario.unit.rate(),
        _ => "us",
    };
    Some(vec![
        scenario.name.to_owned(),
        unit.to_owned(),
        format!("{} {}", number(first.median * column.scale, column.decimals), first.server),
        format!("{} {}", number(last.median * column.scale, column.decimals), last.server),
        format!("{ratio:.2} ({min:.2}-{max:.2})"),
        format!("{sign} {:.2}", bar.must),
        format!("{sign} {:.2}", bar.aim),
        holds.to_owned(),
    ])
}

/// Why a bar that is kept proves nothing, in a word.
fn doubt(entries: &[Entry], scenario: &Scenario, servers: &[String], bar: &Bar) -> Option<&'static str> {
    let (first, base) = (servers.first()?, base(servers));
    let median = |server: &str, of: fn(&Sample) -> Option<f64>| {
        let wanted = |entry: &&Entry| entry.scenario == scenario.name && entry.server == server;
        spread(entries.iter().filter(wanted).filter_map(|entry| of(&entry.sample)).collect()).map(|[median, ..]| median)
    };
    let is_above = |of: fn(&Sample) -> Option<f64>, max: f64| {
        [first, base].into_iter().filter_map(|server| median(server, of)).any(|value| value > max)
    };
    match () {
        () if is_above(|s| s.loss, LOSS_MAX) || is_above(|s| s.again, LOSS_MAX) => Some("lossy"),
        () if is_above(|s| s.others, OTHERS_MAX) => Some("disturbed"),
        () if bar.is_floor() && median(base, |s| s.server_load).is_some_and(|load| load < SERVER_LOAD_MIN) => {
            Some("generator")
        }
        () => None,
    }
}

fn cell(summary: &Summary, scenario: &Scenario, column: &Column) -> String {
    let text = |value: f64| number(value * column.scale, column.decimals);
    let mut cell = text(summary.median);
    match column.name {
        "cost" => _ = write!(cell, " {}", scenario.unit.cost()),
        "rate" => _ = write!(cell, " {}", scenario.unit.rate()),
        _ => {}
    }
    if column.whole && summary.min < summary.max {
        _ = write!(cell, " ({}-{})", text(summary.min), text(summary.max));
    }
    if let (true, Some([ratio, ..])) = (column.whole, summary.ratio) {
        _ = write!(cell, " x{ratio:.2}");
    }
    cell
}

/// Drops quantities that no scenario of the run has.
fn drop_empty_columns(rows: &mut [Vec<String>]) {
    let width = rows[0].len();
    for at in (0..width).rev() {
        if rows[1..].iter().all(|row| row[at] == "-") {
            rows.iter_mut().for_each(|row| _ = row.remove(at));
        }
    }
}

fn lay_out(rows: &[Vec<String>]) -> String {
    let width = |at: usize| rows.iter().map(|row| row[at].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..rows[0].len()).map(width).collect();
    let mut out = String::new();
    for (i, row) in rows.iter().enumerate() {
        for (cell, &width) in row.iter().zip(&widths) {
            _ = write!(out, "| {cell:width$} ");
        }
        out.push_str("|\n");
        if i == 0 {
            widths.iter().for_each(|&width| _ = write!(out, "|{:-<1$}", "", width + 2));
            out.push_str("|\n");
        }
    }
    out
}

/// A number with separators between thousands.
fn number(value: f64, decimals: usize) -> String {
    let plain = format!("{value:.decimals$}");
    let (whole, fraction) = plain.split_at(plain.find('.').unwrap_or(plain.len()));
    let digits = whole.trim_start_matches('-').len();
    let mut out = whole[..whole.len() - digits].to_owned();
    for (i, digit) in whole[whole.len() - digits..].chars().enumerate() {
        if i > 0 && (digits - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out + fraction
}
