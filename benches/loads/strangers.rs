//! Floods of strangers beside calls that were there before them.

use crate::figures::Bench;
use crate::gauges::{Metrics, kernel_drops, wait_until};
use crate::generator::{Generator, number};
use crate::site::Site;
use crate::verdict::{Check, Verdict};
use serde_json::Value;
use std::io;
use std::thread;
use std::time::{Duration, Instant};
use turnpike::turn::quota::{CROWD_TOTAL_PER_SECOND, UNVERIFIED_TOTAL_PER_SECOND};

/// Echoes a second of the calls: two relayed packets each.
const CALLS_RATE: u32 = 2_500;
/// Addresses that a flood comes from.
const SOURCES: u32 = 100_000;
/// Addresses of a flood in which each asks for far more than it may get.
const SOURCES_FEW: u32 = 100;
/// What each of them gets: `limits.unverified_per_second`, and a burst.
const ANSWERS_EACH: (f64, f64) = (50.0, 200.0);
/// What all addresses together get, a second and at once, of the one worker that there is.
const ANSWERS_ALL: f64 = (UNVERIFIED_TOTAL_PER_SECOND + CROWD_TOTAL_PER_SECOND) as f64;
/// Bytes of an answer for a byte of its request, at most.
const GAIN_MAX: f64 = 3.6;
/// Memory that may be gained, in KiB.
const RSS_GROWTH_MAX: f64 = 4096.0;
/// How long is looked for the server to be at rest again.
const REST_PATIENCE: Duration = Duration::from_secs(10);
/// One look at the server's CPU time.
const LOOK: Duration = Duration::from_millis(200);
/// The calls go on for so long before and after a flood together, in seconds.
const AROUND_S: u32 = 6;

/// A flood at one rate, and what it did.
struct Flooded {
    /// Datagrams a second that were to be sent; 0 is as many as leave.
    rate: f64,
    flood: Value,
    calls: Value,
    commands: [String; 2],
    /// Datagrams that the server read.
    absorbed_per_second: f64,
    /// The share of the calls' packets that were lost; all losses are held against the flood's time.
    loss: f64,
    rss_growth_kib: f64,
    /// Answers that the server did not send, by its own account.
    suppressed: f64,
    /// From the flood's end until the server used what it had used before it, in seconds.
    rest_s: f64,
    cpu: f64,
}

/// LD-05: Allocate without credentials.
pub fn allocate(bench: &Bench<'_>) -> io::Result<Verdict> {
    requests(bench, "allocate")
}

/// LD-06: Binding.
pub fn binding(bench: &Bench<'_>) -> io::Result<Verdict> {
    requests(bench, "binding")
}

/// LD-07: what is no request.
pub fn garbage(bench: &Bench<'_>) -> io::Result<Verdict> {
    let bar = f64::from(bench.count(300_000, 3_000));
    let at_bar = flooded(bench, "garbage", bar, SOURCES)?;
    let mut verdict = Verdict { load: "garbage from 100,000 addresses beside 100 calls".into(), ..Verdict::default() };
    verdict.checks.push(Check::most("share of the calls' packets lost", at_bar.loss, 0.005));
    verdict.checks.push(Check::most("seconds until the server was at rest again", at_bar.rest_s, 1.0));
    verdict.checks.push(Check::most("memory gained, KiB", at_bar.rss_growth_kib, RSS_GROWTH_MAX));
    see(&mut verdict, "at 300,000 a second", &at_bar);
    Ok(verdict)
}

fn requests(bench: &Bench<'_>, kind: &str) -> io::Result<Verdict> {
    let bar = f64::from(bench.count(150_000, 3_000));
    let at_bar = flooded(bench, kind, bar, SOURCES)?;
    let load = format!("{kind} without credentials from 100,000 addresses beside 100 calls");
    let mut verdict = Verdict { load, ..Verdict::default() };
    let absorbed = at_bar.absorbed_per_second;
    verdict.checks.push(Check::least("absorbed a second by one worker", absorbed, 150_000.0 * 0.99));
    verdict.checks.push(Check::most("memory gained, KiB", at_bar.rss_growth_kib, RSS_GROWTH_MAX));
    verdict.checks.push(Check::most("share of the calls' packets lost", at_bar.loss, 0.001));
    let request_len = number(&at_bar.flood, "/sent_bytes") / number(&at_bar.flood, "/sent").max(1.0);
    let gain = number(&at_bar.flood, "/answer_len_max") / request_len.max(1.0);
    verdict.checks.push(Check::most("bytes of the longest answer for a byte of its request", gain, GAIN_MAX));
    verdict.checks.push(answers_of_all("answers to 100,000 addresses", &at_bar));
    see(&mut verdict, "at 150,000 a second", &at_bar);
    let few = flooded(bench, kind, bar, SOURCES_FEW)?;
    let (each, burst) = ANSWERS_EACH;
    let budget = f64::from(SOURCES_FEW) * (each * number(&few.flood, "/seconds") + burst);
    verdict.checks.push(Check::most(
        "answers to 100 addresses that ask as much",
        number(&few.flood, "/answers"),
        budget,
    ));
    see(&mut verdict, "from 100 addresses", &few);
    if !bench.options.smoke {
        let at_most = flooded(bench, kind, 0.0, SOURCES)?;
        verdict.checks.push(answers_of_all("answers to 100,000 addresses as fast as it leaves", &at_most));
        see(&mut verdict, "as fast as it leaves", &at_most);
    }
    Ok(verdict)
}

/// That all together got what all may get in that time, and what they may get at once.
fn answers_of_all(what: &str, flooded: &Flooded) -> Check {
    let budget = ANSWERS_ALL * (number(&flooded.flood, "/seconds") + 1.0);
    Check::most(what, number(&flooded.flood, "/answers"), budget)
}

fn see(verdict: &mut Verdict, when: &str, flooded: &Flooded) {
    let mut see = |what: &str, value: f64| verdict.seen.push((format!("{what} {when}"), value));
    see("sent a second", number(&flooded.flood, "/sent_per_second"));
    see("absorbed a second", flooded.absorbed_per_second);
    see("answers a second", number(&flooded.flood, "/answers_per_second"));
    see("longest answer, bytes,", number(&flooded.flood, "/answer_len_max"));
    see("answers held back a second", flooded.suppressed / number(&flooded.flood, "/seconds").max(1e-9));
    see("share of the calls' packets lost", flooded.loss);
    see("p99 of the calls there and back, us,", number(&flooded.calls, "/latency/p99_us"));
    see("memory gained, KiB,", flooded.rss_growth_kib);
    see("seconds until the server was at rest again", flooded.rest_s);
    see("server's CPU, % of a core,", flooded.cpu * 100.0);
    see("flood's CPU, % of a core,", number(&flooded.flood, "/generator_busy") * 100.0);
    see("calls' CPU, % of a core,", number(&flooded.calls, "/generator_busy") * 100.0);
    let (sent, wanted) = (number(&flooded.flood, "/sent_per_second"), flooded.rate);
    if sent < wanted * 0.95 {
        verdict.notes.push(format!("the flood was the limit {when}: it sent {sent:.0} of {wanted:.0} a second"));
    }
    verdict.commands.extend(flooded.commands.clone());
}

/// Floods a fresh server with the limits it has by default; its calls are there before and after.
fn flooded(bench: &Bench<'_>, kind: &str, rate: f64, sources: u32) -> io::Result<Flooded> {
    let site = bench.site("", "")?;
    let (calls, calls_rate) = (bench.count(100, 4), bench.count(CALLS_RATE, 100));
    let arguments = format!(
        "--mode both --allocations {calls} --rate {calls_rate} --sources 127.16.0.0/12 --warm-up {} --duration {}",
        bench.warm_up(),
        bench.seconds + u64::from(bench.count(AROUND_S, 2))
    );
    let uri = format!("turn:{}", site.addr);
    let running = Generator::load(&bench.options.turnpike, &bench.generator, site.pid(), &uri, &arguments)?;
    wait_until(REST_PATIENCE, || Ok(site.metrics()?.sum("turnpike_channels") >= f64::from(calls)))?;
    thread::sleep(Duration::from_millis(bench.count(1500, 300).into()));
    let (quiet, drops) = (cpu_share(&site)?, kernel_drops(site.addr.port())?);
    let (metrics, reading, began) = (site.metrics()?, site.reading()?, Instant::now());
    let arguments = format!(
        "flood --server {} --kind {kind} --rate {rate} --sources {sources} --seconds {}",
        site.addr, bench.seconds
    );
    let stranger = Generator::own(&bench.generator, &arguments)?;
    let commands = [running.command.clone(), stranger.command.clone()];
    let flood = stranger.finish()?;
    let ended = Instant::now();
    let cpu = (site.reading()?.cpu_ns - reading.cpu_ns) as f64 / began.elapsed().as_nanos() as f64;
    // Half as much again as before counts as rest: one look is short.
    wait_until(REST_PATIENCE, || Ok(cpu_share(&site)? <= quiet * 1.5 + 0.02))?;
    let rest_s = ended.elapsed().as_secs_f64();
    let (dropped, now) = (kernel_drops(site.addr.port())? - drops, site.metrics()?);
    let rss_growth_kib = site.reading()?.rss_kib as f64 - reading.rss_kib as f64;
    let calls = running.finish()?;
    let seconds = number(&flood, "/seconds");
    Ok(Flooded {
        rate,
        absorbed_per_second: (number(&flood, "/sent") - dropped as f64) / seconds.max(1e-9),
        loss: (number(&calls, "/sent") - number(&calls, "/arrived")) / (f64::from(calls_rate) * seconds).max(1.0),
        rss_growth_kib,
        suppressed: suppressed(&now) - suppressed(&metrics),
        rest_s,
        cpu,
        flood,
        calls,
        commands,
    })
}

fn suppressed(metrics: &Metrics) -> f64 {
    metrics.sum("turnpike_unverified_suppressed_total")
}

/// The share of a core that the server uses now.
fn cpu_share(site: &Site) -> io::Result<f64> {
    let (before, began) = (site.reading()?.cpu_ns, Instant::now());
    thread::sleep(LOOK);
    Ok((site.reading()?.cpu_ns - before) as f64 / began.elapsed().as_nanos() as f64)
}
