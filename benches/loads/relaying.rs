//! Loads of clients with a credential: packets, allocations held and given back, TLS, and one who wants it all.

use crate::figures::Bench;
use crate::gauges::wait_until;
use crate::generator::{Generator, number};
use crate::handshakes;
use crate::scenario;
use crate::server::{Candidate, Flavour, Premises};
use crate::verdict::{Check, Verdict};
use serde_json::Value;
use std::io;
use std::time::Duration;

/// Every client has an address of its own.
const SOURCES: &str = "--sources 127.16.0.0/12";
/// How often the two servers are compared.
const ROUNDS: usize = 3;
/// How long a server may take to close what is gone.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the reports of some loads add up to.
#[derive(Default)]
struct Run {
    verdict: Verdict,
}

impl Run {
    /// Loads a server on the generator's core and waits for the report.
    fn load(&mut self, bench: &Bench<'_>, pid: u32, uri: &str, arguments: &str) -> io::Result<Value> {
        let generator = Generator::load(&bench.options.turnpike, &bench.generator, pid, uri, arguments)?;
        self.verdict.commands.push(generator.command.clone());
        generator.finish()
    }

    /// Enters what both sides of a load used.
    fn used(&mut self, when: &str, report: &Value) {
        let server = number(report, "/usage/cpu_s") / number(report, "/seconds").max(1e-9);
        let mut see = |what: &str, value: f64| self.verdict.seen.push((format!("{what} {when}"), value));
        see("server's CPU, % of a core,", server * 100.0);
        see("generator's CPU, % of a core,", number(report, "/generator_busy") * 100.0);
        see("departures over 1 ms late, %,", number(report, "/late") / number(report, "/sent").max(1.0) * 100.0);
    }

    fn check(&mut self, check: Check) {
        self.verdict.checks.push(check);
    }

    fn done(mut self, load: &str) -> Verdict {
        self.verdict.load = load.to_owned();
        self.verdict
    }
}

/// LD-01: small packets both ways, at the peak, beside coturn's peak, and at four fifths of it.
pub fn small_packets(bench: &Bench<'_>) -> io::Result<Verdict> {
    let mut run = Run::default();
    let peak_s = (bench.seconds / 20).clamp(1, 10);
    let flows = format!("--mode both --size 160 --allocations 200 {SOURCES} --spin");
    let flat_out = format!("{flows} --rate 0 --window 64 --warm-up {} --duration {peak_s}", bench.warm_up());
    let has_coturn = bench.options.coturn.exists();
    let (mut peaks, mut ratios, mut last) = (Vec::new(), Vec::new(), Value::Null);
    for _ in 0..bench.count(ROUNDS as u32, 1) {
        let site = bench.site("", "")?;
        last = run.load(bench, site.pid(), &format!("turn:{}", site.addr), &flat_out)?;
        drop(site);
        peaks.push(number(&last, "/delivered_per_second"));
        if has_coturn {
            ratios.push(number(&last, "/delivered_per_second") / coturn(bench, &mut run, &flat_out)?);
        }
    }
    let peak = median(&mut peaks);
    run.used("at the peak", &last);
    run.check(Check::least("relayed packets a second at the peak", peak, 100_000.0));
    if has_coturn {
        run.check(Check::least("ratio to coturn's peak in the same round", median(&mut ratios), 1.3));
    } else {
        run.verdict.notes.push(format!("there is no coturn at {}", bench.options.coturn.display()));
    }
    // An echo is two relayed packets.
    let rate = (peak * 0.8 / 2.0).max(100.0) as u64;
    let site = bench.site("", "")?;
    let arguments = format!("{flows} --rate {rate} --warm-up {} --duration {}", bench.warm_up(), bench.seconds);
    let report = run.load(bench, site.pid(), &format!("turn:{}", site.addr), &arguments)?;
    run.check(Check::most("share lost at 80 % of the peak", number(&report, "/loss"), 0.0001));
    run.used("at 80 %", &report);
    run.verdict.seen.push(("relayed packets a second at 80 %".into(), number(&report, "/delivered_per_second")));
    run.verdict.seen.push(("p99 there and back at 80 %, us".into(), number(&report, "/latency/p99_us")));
    Ok(run.done("ChannelData over UDP, 160 bytes, 200 allocations, both ways"))
}

/// coturn's peak under the same load.
fn coturn(bench: &Bench<'_>, run: &mut Run, arguments: &str) -> io::Result<f64> {
    let rooms = bench.rooms.path();
    let candidate = Candidate::new("coturn", Flavour::Coturn, bench.options.coturn.clone(), rooms)?;
    // No scenario of it has TLS: the certificate is not looked for.
    let premises = Premises { rooms, certificate: rooms, key: rooms };
    let server = candidate.start(&bench.server, &scenario::ALL[0], &premises)?;
    let report = run.load(bench, server.pid(), &format!("turn:{}", server.addr), arguments)?;
    run.verdict.seen.push(("coturn's relayed packets a second".into(), number(&report, "/delivered_per_second")));
    Ok(number(&report, "/delivered_per_second").max(1.0))
}

/// LD-02: long packets in bursts, at the peak and at half of it.
pub fn video(bench: &Bench<'_>) -> io::Result<Verdict> {
    let mut run = Run::default();
    let site = bench.site("", "")?;
    let (uri, peak_s) = (format!("turn:{}", site.addr), (bench.seconds / 4).clamp(1, 10));
    let flows =
        format!("--mode both --size 1200 --burst 4 --allocations 50 {SOURCES} --spin --warm-up {}", bench.warm_up());
    let peak = run.load(bench, site.pid(), &uri, &format!("{flows} --rate 0 --window 128 --duration {peak_s}"))?;
    run.check(Check::least("Gb/s relayed at the peak", number(&peak, "/delivered_mbit_per_second") / 1e3, 1.0));
    run.used("at the peak", &peak);
    let rate = (number(&peak, "/delivered_per_second") / 4.0).max(100.0) as u64;
    let half = run.load(bench, site.pid(), &uri, &format!("{flows} --rate {rate} --duration {}", bench.seconds))?;
    run.check(Check::most("p99 there and back at half of it, us", number(&half, "/latency/p99_us"), 1000.0));
    run.check(Check::most("p99.9 there and back at half of it, us", number(&half, "/latency/p999_us"), 5000.0));
    run.used("at half of it", &half);
    run.verdict.seen.push(("share lost at half of it".into(), number(&half, "/loss")));
    run.verdict.seen.push(("p50 there and back at half of it, us".into(), number(&half, "/latency/p50_us")));
    Ok(run.done("1200 bytes in bursts of four, 50 flows, both ways"))
}

/// LD-03: allocations that are held and refreshed, with hardly a packet.
pub fn held(bench: &Bench<'_>) -> io::Result<Verdict> {
    let mut run = Run::default();
    let site = bench.site("", "")?;
    let (before, allocations) = (site.reading()?, bench.count(16_000, 100));
    let arguments = format!("--mode both --rate 50 --allocations {allocations} {SOURCES} --duration {}", bench.seconds);
    let report = run.load(bench, site.pid(), &format!("turn:{}", site.addr), &arguments)?;
    let rss_max = 40.0 * 1024.0 + 6.0 * f64::from(allocations);
    let rss = number(&report, "/usage/rss_made_kib").max(number(&report, "/usage/rss_after_kib"));
    run.check(Check::most("allocations lost", number(&report, "/failed"), 0.0));
    run.check(Check::most("share of the packets lost", number(&report, "/loss"), 0.0));
    run.check(Check::most("resident memory, KiB", rss, rss_max));
    let cpu = number(&report, "/usage/cpu_s") / number(&report, "/seconds").max(1e-9);
    run.check(Check::most("server's CPU, % of a core", cpu * 100.0, 5.0));
    run.verdict.seen.push(("resident memory before, KiB".into(), before.rss_kib as f64));
    run.verdict.seen.push(("bytes an allocation".into(), number(&report, "/usage/rss_bytes_per_allocation")));
    run.verdict.seen.push(("allocations a second while they were made".into(), number(&report, "/set_up_per_second")));
    Ok(run.done("allocations held: refreshed every 120 s with channel and permission, 50 echoes a second in sum"))
}

/// LD-04: allocations that come and go.
pub fn churn(bench: &Bench<'_>) -> io::Result<Verdict> {
    let mut run = Run::default();
    let site = bench.site("", "")?;
    let uri = format!("turn:{}", site.addr);
    let ports = || site.metrics().map(|metrics| metrics.sum("turnpike_ports_free"));
    let all = ports()?;
    // One life before the files are counted: what is made once is made.
    let one = "--mode allocate --allocations 1 --rate 10 --duration 1 --sources 127.16.0.0/12";
    run.load(bench, site.pid(), &uri, one)?;
    let files = site.reading()?.files;
    let rate = bench.count(6000, 500);
    let sources = "--sources 127.128.0.0/9";
    let arguments = format!("--mode allocate --allocations 256 --rate {rate} {sources} --duration {}", bench.seconds);
    let report = run.load(bench, site.pid(), &uri, &arguments)?;
    // The gauge of ports is a second old.
    let mut after = (0, 0.0);
    wait_until(PATIENCE, || {
        after = (site.reading()?.files, ports()?);
        Ok(after == (files, all))
    })?;
    run.check(Check::least("lives a second", number(&report, "/delivered_per_second"), 5000.0));
    run.check(Check::most("lives that failed", number(&report, "/failed"), 0.0));
    run.check(Check::equal("free ports afterwards", after.1, all));
    run.check(Check::equal("open files afterwards", after.0 as f64, files as f64));
    run.check(Check::most("p99 of a whole life, us", number(&report, "/latency/p99_us"), 20_000.0));
    run.verdict.seen.push(("requests sent again".into(), number(&report, "/repeated")));
    run.used("meanwhile", &report);
    Ok(run
        .done("401, Allocate, CreatePermission, ChannelBind, Refresh 0, each on a new 5-tuple, 6000 a second offered"))
}

/// LD-08: handshakes, then clients that stay.
pub fn tls(bench: &Bench<'_>) -> io::Result<Verdict> {
    let mut run = Run::default();
    let site = bench.site("", "")?;
    let (shaken, command) = handshakes::measure(&bench.generator, site.tls, bench.seconds.min(30))?;
    let rate = number(&shaken, "/handshakes_per_second");
    run.check(Check::least("handshakes a second (ECDSA P-256, no resumption, a Binding answered)", rate, 1500.0));
    run.verdict.seen.push((
        "connections refused or failed (beyond what the server takes at once)".into(),
        number(&shaken, "/failed"),
    ));
    run.verdict.commands.push(command);
    drop(site);
    let (site, clients) = (bench.site("", "")?, bench.count(2000, 20));
    let arguments = format!(
        "--mode both --allocations {clients} --rate {} {SOURCES} --warm-up {} --duration {}",
        bench.count(10_000, 100),
        bench.warm_up(),
        bench.seconds
    );
    let report = run.load(bench, site.pid(), &format!("turns:{}", site.tls), &arguments)?;
    run.check(Check::least(
        "relayed packets a second of 2000 clients",
        number(&report, "/delivered_per_second"),
        19_800.0,
    ));
    run.check(Check::most("allocations lost", number(&report, "/failed"), 0.0));
    run.check(Check::most("share of the packets lost", number(&report, "/loss"), 0.0001));
    run.used("with clients that stay", &report);
    run.verdict.seen.push(("p99 there and back, us".into(), number(&report, "/latency/p99_us")));
    run.verdict.seen.push(("clients made a second".into(), number(&report, "/set_up_per_second")));
    Ok(run.done("new TLS 1.3 connections; 2000 clients over TLS, 20,000 packets a second"))
}

/// LD-12: one client who offers a gigabit beside calls that keep to their share.
pub fn abuser(bench: &Bench<'_>) -> io::Result<Verdict> {
    let mut run = Run::default();
    let site = bench.site("bytes_per_second = 1000000", "")?;
    let (uri, calls) = (format!("turn:{}", site.addr), bench.count(500, 20));
    let load = |sources: &str, arguments: &str| {
        let arguments = format!("--sources {sources} {arguments}");
        Generator::load(&bench.options.turnpike, &bench.generator, site.pid(), &uri, &arguments)
    };
    // The abuser begins first and ends last.
    let seconds = bench.seconds + u64::from(bench.count(4, 1));
    let greedy = load(
        "127.40.0.0/16",
        &format!("--mode to-peer --allocations 1 --size 1200 --burst 16 --rate 104000 --duration {seconds}"),
    )?;
    wait_until(PATIENCE, || Ok(site.metrics()?.sum("turnpike_allocations") >= 1.0))?;
    let normal = load(
        "127.16.0.0/12",
        &format!(
            "--mode both --allocations {calls} --rate {} --warm-up {} --duration {}",
            calls * 20,
            bench.warm_up(),
            bench.seconds
        ),
    )?;
    run.verdict.commands.extend([greedy.command.clone(), normal.command.clone()]);
    let (normal, greedy) = (normal.finish()?, greedy.finish()?);
    run.check(Check::most("share of the calls' packets lost", number(&normal, "/loss"), 0.001));
    let offered = number(&greedy, "/sent") * 1200.0 * 8.0 / number(&greedy, "/seconds").max(1e-9);
    run.verdict.seen.push(("offered by the abuser, Mb/s".into(), offered / 1e6));
    let got = number(&greedy, "/delivered_mbit_per_second");
    run.check(Check::most("relayed for the abuser, Mb/s (8 and a burst)", got, 8.0 * 1.25 + 8.0 / seconds as f64));
    run.verdict.seen.push(("relayed packets of the calls a second".into(), number(&normal, "/delivered_per_second")));
    run.verdict.seen.push(("p99 of the calls there and back, us".into(), number(&normal, "/latency/p99_us")));
    run.used("of the calls", &normal);
    Ok(run.done("one client with limits.bytes_per_second = 1 MB offers 1 Gb/s beside 500 calls"))
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}
