//! All loads at once, for long, at rates that leave room: does anything grow, leak, or speak up?

use crate::gauges::{Reading, wait_until};
use crate::generator::{Generator, number};
use crate::logbook::Logbook;
use crate::site::{Site, Wish};
use crate::slope::{Slope, slope};
use crate::verdict::{Check, Verdict};
use crate::{certificate, web};
use serde_json::{Value, json};
use std::fs::{self, File};
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

/// Memory that may be gained, in KiB an hour.
const RSS_SLOPE_MAX: f64 = 1024.0;
/// The share of relayed packets that may be lost.
const LOSS_MAX: f64 = 0.001;
/// The longest part of the churn by one transport, and of a flood, in seconds: each begins with fresh addresses.
const PART_S: f64 = 60.0;
/// How long what was held may take to be given back at the end.
const GIVE_BACK: Duration = Duration::from_secs(90);
/// How long the server is stopped once before memory is judged.
const PAUSE: Duration = Duration::from_secs(2);
/// Meetings a second, and credentials.
const VISITS_PER_SECOND: f64 = 1.0;
/// Time kept back for the calls to be made, and to be given back, in seconds.
const CALLS_SPARE_S: f64 = 5.0;

/// `benches/soak`.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// How long it goes on, in minutes
    #[arg(long, default_value_t = 65.0)]
    minutes: f64,
    /// What is left out of the slope at the beginning, in minutes
    #[arg(long, default_value_t = 10.0)]
    settle: f64,
    /// Calls that are held throughout, over UDP, TCP and TLS in equal parts
    #[arg(long, default_value_t = 150)]
    calls: u32,
    /// Packets relayed a second, of all calls
    #[arg(long, default_value_t = 2000.0)]
    rate: f64,
    /// Whole lives of allocations a second, beside them
    #[arg(long, default_value_t = 20.0)]
    churn: f64,
    /// Datagrams of strangers a second
    #[arg(long, default_value_t = 200.0)]
    strangers: f64,
    /// Seconds from one reload to the next
    #[arg(long, default_value_t = 60.0)]
    reload: f64,
    /// Seconds from one certificate to the next
    #[arg(long, default_value_t = 300.0)]
    certificate: f64,
    /// Where its files go: samples.csv, report.json, the server's configuration and log
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// The server's binary, which also makes the load
    #[arg(long, value_name = "PATH", default_value = env!("CARGO_BIN_EXE_turnpike"), hide_default_value = true)]
    turnpike: PathBuf,
    /// Ten seconds, to see that it works; all but the slope is judged
    #[arg(long)]
    smoke: bool,
}

impl Options {
    /// How long it goes on, in seconds.
    fn seconds(&self) -> f64 {
        if self.smoke { 10.0 } else { self.minutes * 60.0 }
    }

    /// What is left out of the slope, in seconds.
    fn settle_s(&self) -> f64 {
        if self.smoke { f64::INFINITY } else { self.settle * 60.0 }
    }
}

/// A soak that goes on.
struct Soak<'a> {
    options: &'a Options,
    site: Site,
    cores: String,
    end: Instant,
    troubles: Mutex<Vec<String>>,
}

/// What the loads counted.
#[derive(Debug, Default)]
struct Outcome {
    calls: Vec<Value>,
    churned: f64,
    churn_failed: f64,
    meetings: u64,
    credentials: u64,
    flooded: f64,
    reloads: u64,
    certificates: u64,
}

/// Soaks and says whether all holds.
pub fn run(options: &Options) -> io::Result<bool> {
    let out = options.out.clone().unwrap_or_else(|| std::env::temp_dir().join(format!("soak-{}", std::process::id())));
    fs::create_dir_all(&out)?;
    let seconds = options.seconds();
    let cores = crate::machine::core_list(&(0..thread::available_parallelism()?.get()).collect::<Vec<_>>());
    let wish = Wish { cores: cores.clone(), workers: 2, limits: "", rooms: "" };
    let site = Site::start(&options.turnpike, &out, wish)?;
    let began = Instant::now();
    let end = began + Duration::from_secs_f64(seconds);
    let soak = Soak { options, site, cores, end, troubles: Mutex::default() };
    println!("the server is {}, its files are in {}", soak.site.pid(), soak.site.room.display());
    soak.site.metrics()?;
    thread::sleep(Duration::from_secs(1));
    let (files, ports) = (soak.site.reading()?.files, soak.site.metrics()?.sum("turnpike_ports_free"));
    let mut samples = Samples::new(&out)?;
    let outcome = soak.all_at_once(began, &mut samples)?;
    let wanted = [0.0, 0.0, ports, files as f64];
    let (mut left, patience) = ([f64::NAN; 4], if options.smoke { GIVE_BACK.div_f64(5.0) } else { GIVE_BACK });
    wait_until(patience, || {
        // A server that is gone holds nothing that could be counted.
        left = soak.held().unwrap_or([f64::NAN; 4]);
        Ok(left == wanted)
    })?;
    soak.noted("the last sample", samples.take(&soak.site, began));
    let mut verdict = soak.judge(&outcome, &samples, left, wanted)?;
    verdict.seconds = began.elapsed().as_secs_f64();
    fs::write(out.join("report.json"), format!("{:#}\n", soak.report(&outcome, &samples, &verdict)))?;
    println!("{verdict}");
    if options.smoke && options.out.is_none() {
        drop(soak);
        fs::remove_dir_all(out)?;
    }
    Ok(verdict.holds())
}

impl Soak<'_> {
    /// What the server holds: allocations, connections, free ports, open files.
    fn held(&self) -> io::Result<[f64; 4]> {
        // The scrape before has had time to close its connection; the one after would count as an open file.
        let (reading, metrics) = (self.site.reading()?, self.site.metrics()?);
        let of = |name| metrics.sum(name);
        Ok([of("turnpike_allocations"), of("turnpike_connections"), of("turnpike_ports_free"), reading.files as f64])
    }

    /// Runs everything until the end.
    fn all_at_once(&self, began: Instant, samples: &mut Samples) -> io::Result<Outcome> {
        let mut outcome = Outcome::default();
        thread::scope(|scope| {
            let calls: Vec<_> = [0, 1, 2].map(|at| scope.spawn(move || self.calls(at))).into();
            let churn = scope.spawn(|| self.churn());
            let strangers = scope.spawn(|| self.strangers());
            let visitors = scope.spawn(|| self.visitors());
            let steward = scope.spawn(|| self.steward());
            self.watch(began, samples);
            for thread in calls {
                outcome.calls.extend(self.joined(thread.join()));
            }
            (outcome.churned, outcome.churn_failed) = churn.join().unwrap_or_default();
            outcome.flooded = strangers.join().unwrap_or_default();
            (outcome.meetings, outcome.credentials) = visitors.join().unwrap_or_default();
            (outcome.reloads, outcome.certificates) = steward.join().unwrap_or_default();
        });
        Ok(outcome)
    }

    fn joined(&self, done: thread::Result<io::Result<Value>>) -> Option<Value> {
        match done {
            Ok(result) => self.noted("calls", result),
            Err(_) => self.noted("calls", Err(io::Error::other("a thread panicked"))),
        }
    }

    /// Notes what went wrong and goes on.
    fn noted<T>(&self, what: &str, result: io::Result<T>) -> Option<T> {
        result
            .map_err(|error| self.troubles.lock().expect("nobody panics with it").push(format!("{what}: {error}")))
            .ok()
    }

    fn left_s(&self) -> f64 {
        self.end.saturating_duration_since(Instant::now()).as_secs_f64()
    }

    fn uri(&self, transport: usize) -> String {
        let Site { addr, tls, .. } = &self.site;
        [format!("turn:{addr}"), format!("turn:{addr}?transport=tcp"), format!("turns:{tls}")][transport].clone()
    }

    /// Calls of one transport, from the beginning to the end.
    fn calls(&self, transport: usize) -> io::Result<Value> {
        let seconds = (self.left_s() - CALLS_SPARE_S).max(1.0) as u64;
        // An echo is two relayed packets, and there are three transports. In bursts, the generator sleeps more.
        let (calls, rate) = ((self.options.calls / 3).max(1), self.options.rate / 6.0);
        let sources = 16 + transport;
        let arguments = format!(
            "--mode both --burst 4 --allocations {calls} --rate {rate} --duration {seconds} --sources 127.{sources}.0.0/16"
        );
        Generator::load(&self.options.turnpike, &self.cores, self.site.pid(), &self.uri(transport), &arguments)?
            .finish()
    }

    /// Allocations that come and go, over one transport after the other.
    fn churn(&self) -> (f64, f64) {
        let (mut whole, mut failed, mut part) = (0.0, 0.0, 0);
        while self.left_s() > CALLS_SPARE_S {
            let seconds = (self.left_s() - CALLS_SPARE_S).clamp(1.0, PART_S) as u64;
            let arguments = format!(
                "--mode allocate --allocations 8 --rate {} --duration {seconds} --sources 127.{}.0.0/16",
                self.options.churn,
                24 + part % 3
            );
            let uri = self.uri(part % 3);
            let run = Generator::load(&self.options.turnpike, &self.cores, self.site.pid(), &uri, &arguments);
            if let Some(report) = self.noted("churn", run.and_then(Generator::finish)) {
                whole += number(&report, "/arrived");
                failed += number(&report, "/failed");
            }
            part += 1;
        }
        (whole, failed)
    }

    /// Strangers: datagrams of every kind, and a connection a second that says nothing or nonsense.
    fn strangers(&self) -> f64 {
        thread::scope(|scope| {
            let floods = scope.spawn(|| {
                let (mut sent, mut seed) = (0.0, 1);
                while self.left_s() > 1.0 {
                    let arguments = format!(
                        "flood --server {} --kind mixed --rate {} --seconds {} --seed {seed}",
                        self.site.addr,
                        self.options.strangers,
                        self.left_s().min(PART_S)
                    );
                    let run = Generator::own(&self.cores, &arguments).and_then(Generator::finish);
                    sent += self.noted("strangers", run).map_or(0.0, |report| number(&report, "/sent"));
                    seed += 1;
                }
                sent
            });
            let words = [&b""[..], b"GET / HTTP/1.0\r\n\r\n", b"\x16\x03\x01\x00\x05nonsense", &[0xFF; 64]];
            let mut words = words.into_iter().cycle();
            let mut silent = Vec::new();
            while self.left_s() > 1.0 {
                for addr in [self.site.addr, self.site.tls] {
                    if let Some(mut stream) = self.noted("a stranger", TcpStream::connect(addr))
                        && let Some(word) = words.next()
                    {
                        // The server may close first.
                        let _ = stream.write_all(word);
                        silent.push(stream);
                    }
                }
                if silent.len() > 8 {
                    silent.clear();
                }
                thread::sleep(Duration::from_secs(1));
            }
            floods.join().unwrap_or_default()
        })
    }

    /// Meetings in rooms, and credentials, one of each a second.
    fn visitors(&self) -> (u64, u64) {
        let (mut meetings, mut credentials) = (0, 0);
        let from = IpAddr::V4(Ipv4Addr::LOCALHOST);
        for number in 0.. {
            if self.left_s() < 1.0 {
                break;
            }
            let met = web::meet(self.site.public, from, &format!("room-{number}"));
            meetings += u64::from(self.noted("a meeting", met).is_some());
            let minted = web::credential(self.site.public, &format!("user-{number}"));
            credentials += u64::from(self.noted("a credential", minted).is_some());
            thread::sleep(Duration::from_secs_f64(1.0 / VISITS_PER_SECOND));
        }
        (meetings, credentials)
    }

    /// Reloads, each with another configuration, and new certificates; and a pause before memory is judged.
    fn steward(&self) -> (u64, u64) {
        let (mut reloads, mut certificates, began) = (0_u64, 0_u64, Instant::now());
        let mut pause_s = (!self.options.smoke).then_some(self.options.settle_s() / 2.0);
        while self.left_s() > 1.0 {
            let elapsed = began.elapsed().as_secs_f64();
            if pause_s.take_if(|pause_s| elapsed >= *pause_s).is_some() {
                self.noted("a pause", self.pause());
            }
            if elapsed >= (certificates + 1) as f64 * self.options.certificate {
                certificates += u64::from(self.noted("a certificate", certificate::write(&self.site.room)).is_some());
            }
            if elapsed >= (reloads + 1) as f64 * self.options.reload {
                reloads += 1;
                self.noted("a reload", self.reload(1_000_000 + (reloads % 2) as u32));
            }
            thread::sleep(Duration::from_millis(500));
        }
        (reloads, certificates)
    }

    fn reload(&self, allocations_per_user: u32) -> io::Result<()> {
        self.site.reconfigure(allocations_per_user)?;
        self.signal("HUP")
    }

    /// Leaves the server without a core for a moment, as a busy machine does. What has waited comes at once and fills
    /// the receive buffers, whose pages count from then on: else they would look like growth whenever that happens.
    fn pause(&self) -> io::Result<()> {
        self.signal("STOP")?;
        thread::sleep(PAUSE);
        self.signal("CONT")
    }

    fn signal(&self, name: &str) -> io::Result<()> {
        let status = Command::new("kill").args(["-s", name, &self.site.pid().to_string()]).status()?;
        if status.success() { Ok(()) } else { Err(io::Error::other("the server is gone")) }
    }

    /// Scrapes every second and takes a sample every ten.
    fn watch(&self, began: Instant, samples: &mut Samples) {
        let (mut next, every) = (Instant::now(), if self.options.smoke { 1 } else { 10 });
        for number in 0_u64.. {
            if self.left_s() <= 0.0 {
                break;
            }
            if number % every == 0 {
                self.noted("a sample", samples.take(&self.site, began));
            } else {
                self.noted("a scrape", self.site.metrics().map(|_| ()));
            }
            next += Duration::from_secs(1);
            thread::sleep(next.saturating_duration_since(Instant::now()));
        }
    }

    fn judge(&self, outcome: &Outcome, samples: &Samples, left: [f64; 4], wanted: [f64; 4]) -> io::Result<Verdict> {
        let sum = |pointer| outcome.calls.iter().map(|report| number(report, pointer)).sum::<f64>();
        let loss = 1.0 - sum("/arrived") / sum("/sent").max(1.0);
        let lines_lost = self.site.metrics().map_or(f64::NAN, |metrics| metrics.sum("turnpike_log_lines_lost_total"));
        let log = Logbook::read(&self.site.room.join("log"))?;
        for line in log.unexpected.iter().take(20) {
            println!("unexpected in the log: {line}");
        }
        println!("the log, by level: {:?}", log.levels);
        println!("the log, by text: {:?}", log.texts);
        let troubles = self.troubles.lock().expect("nobody panics with it");
        for trouble in troubles.iter().take(20) {
            println!("trouble: {trouble}");
        }
        let mut checks = self.was_loaded(outcome);
        checks.extend([
            Check::most("share of the calls' packets lost", loss, LOSS_MAX),
            Check::most("packets damaged or doubled", sum("/corrupted") + sum("/duplicates"), 0.0),
            Check::most("calls lost", sum("/failed") + (3 - outcome.calls.len()) as f64, 0.0),
            Check::most("allocations of the churn that failed", outcome.churn_failed, 0.0),
            Check::equal("allocations at the end", left[0], wanted[0]),
            Check::equal("connections at the end", left[1], wanted[1]),
            Check::equal("free ports at the end", left[2], wanted[2]),
            Check::equal("open files at the end", left[3], wanted[3]),
            Check::most("lines of the log that nobody expects", log.unexpected.len() as f64, 0.0),
            Check::most("lines of the log that were lost", lines_lost, 0.0),
            Check::most("troubles of the loads", troubles.len() as f64, 0.0),
        ]);
        if !self.options.smoke {
            // What is no number does not hold either: there were too few samples.
            let slope = samples.rss_slope(self.options.settle_s()).map_or(f64::NAN, |slope| slope.per_unit);
            checks.push(Check::most("memory gained, KiB an hour", slope, RSS_SLOPE_MAX));
        }
        let what = "calls, churn, rooms, credentials, strangers, scrapes, reloads, certificates, all at once";
        Ok(Verdict { id: "LD-09".into(), load: what.into(), checks, ..Verdict::default() })
    }

    /// That each load was there: a third of what it was to be, and every reload and certificate but one that is due at the end.
    fn was_loaded(&self, outcome: &Outcome) -> Vec<Check> {
        let options = self.options;
        let third = |per_second: f64| (per_second * (options.seconds() - CALLS_SPARE_S) / 3.0).floor();
        let due = |every: f64| ((options.seconds() / every).floor() - 1.0).max(0.0);
        let echoes = outcome.calls.iter().map(|report| number(report, "/sent")).sum();
        vec![
            // An echo is two relayed packets.
            Check::least("echoes of the calls", echoes, third(options.rate / 2.0)),
            Check::least("lives of allocations", outcome.churned, third(options.churn)),
            Check::least("datagrams of strangers", outcome.flooded, third(options.strangers)),
            Check::least("meetings", outcome.meetings as f64, third(VISITS_PER_SECOND)),
            Check::least("credentials", outcome.credentials as f64, third(VISITS_PER_SECOND)),
            Check::least("reloads", outcome.reloads as f64, due(options.reload)),
            Check::least("certificates", outcome.certificates as f64, due(options.certificate)),
        ]
    }

    fn report(&self, outcome: &Outcome, samples: &Samples, verdict: &Verdict) -> Value {
        let slope = |slope: Option<Slope>| slope.map(|slope| json!([slope.per_unit, slope.error]));
        let settle = self.options.settle_s();
        json!({
            "verdict": verdict,
            "rss_kib_per_hour_and_error": slope(samples.rss_slope(settle)),
            "rss_anon_kib_per_hour_and_error": slope(samples.anon_slope(settle)),
            "samples": samples.points.len(),
            "churned": outcome.churned,
            "meetings": outcome.meetings,
            "credentials": outcome.credentials,
            "strangers": outcome.flooded,
            "reloads": outcome.reloads,
            "certificates": outcome.certificates,
            "calls": outcome.calls,
            "troubles": *self.troubles.lock().expect("nobody panics with it"),
        })
    }
}

/// What was seen over time, which is written as it comes.
struct Samples {
    file: File,
    /// Hours since the beginning, and what the program held then.
    points: Vec<(f64, Reading)>,
}

impl Samples {
    fn new(out: &std::path::Path) -> io::Result<Samples> {
        let mut file = File::create(out.join("samples.csv"))?;
        writeln!(
            file,
            "seconds,rss_kib,rss_anon_kib,files,ports_free,allocations,connections,permissions,rooms,relayed_packets,\
             dropped_packets,suppressed,cpu_seconds"
        )?;
        Ok(Samples { file, points: Vec::new() })
    }

    fn take(&mut self, site: &Site, began: Instant) -> io::Result<()> {
        let (metrics, reading, seconds) = (site.metrics()?, site.reading()?, began.elapsed().as_secs_f64());
        let of = |name| metrics.sum(name);
        writeln!(
            self.file,
            "{seconds:.1},{},{},{},{},{},{},{},{},{},{},{},{:.2}",
            reading.rss_kib,
            reading.rss_anon_kib,
            reading.files,
            of("turnpike_ports_free"),
            of("turnpike_allocations"),
            of("turnpike_connections"),
            of("turnpike_permissions"),
            of("turnpike_rooms"),
            of("turnpike_relay_packets_total"),
            of("turnpike_dropped_packets_total"),
            of("turnpike_unverified_suppressed_total"),
            reading.cpu_ns as f64 / 1e9,
        )?;
        self.points.push((seconds / 3600.0, reading));
        Ok(())
    }

    /// Of all memory, in KiB an hour.
    fn rss_slope(&self, settle_s: f64) -> Option<Slope> {
        self.slope(settle_s, |reading| reading.rss_kib)
    }

    /// Of memory that no file backs.
    fn anon_slope(&self, settle_s: f64) -> Option<Slope> {
        self.slope(settle_s, |reading| reading.rss_anon_kib)
    }

    fn slope(&self, settle_s: f64, of: fn(&Reading) -> u64) -> Option<Slope> {
        let late = self.points.iter().filter(|(hours, _)| hours * 3600.0 >= settle_s);
        slope(&late.map(|(hours, reading)| (*hours, of(reading) as f64)).collect::<Vec<_>>())
    }
}
