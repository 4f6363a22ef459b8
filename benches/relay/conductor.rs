//! The order of things: rounds, in each every scenario, in each every server.

use crate::Args;
use crate::client::Sources;
use crate::machine::{self, Machine, Rooms};
use crate::report::{self, Entry, Sample};
use crate::scenario::{self, Scenario};
use crate::server::{Candidate, Flavour};
use crate::stage::Stage;
use std::time::Duration;
use std::{fs, io};
use turnpike::load::pace::Rng;

/// The share of a core others may take before a measurement counts as disturbed.
const OTHERS_MAX: f64 = 0.1;

/// A run over all rounds.
struct Run<'a> {
    args: &'a Args,
    scenarios: Vec<&'static Scenario>,
    candidates: Vec<Candidate>,
    rooms: Rooms,
    sources: Sources,
    entries: Vec<Entry>,
    failures: Vec<String>,
}

/// Measures everything and prints the table; false when a measurement failed.
pub fn run(args: &Args) -> io::Result<bool> {
    let mut run = Run {
        args,
        scenarios: scenario::ALL.iter().filter(|scenario| args.wants(scenario)).collect(),
        candidates: args.servers.iter().map(|name| candidate(args, name)).collect::<io::Result<_>>()?,
        rooms: Rooms::new()?,
        sources: Sources::new(),
        entries: Vec::new(),
        failures: Vec::new(),
    };
    let machine = Machine::look();
    println!("{machine}");
    for candidate in &run.candidates {
        println!("{}: {} ({})", candidate.name, candidate.program.display(), candidate.version());
    }
    let mut rng = Rng::new(args.seed);
    for round in 1..=args.rounds {
        run.round(round, &mut rng);
    }
    run.print();
    run.write_json(&machine)?;
    Ok(run.failures.is_empty())
}

fn candidate(args: &Args, name: &str) -> io::Result<Candidate> {
    let (flavour, program) = match name {
        "coturn" => (Flavour::Coturn, Some(&args.coturn)),
        "base" => (Flavour::Turnpike, args.base.as_ref()),
        _ => (Flavour::Turnpike, Some(&args.turnpike)),
    };
    let program = program.ok_or_else(|| io::Error::other("the server `base` needs --base PATH"))?.clone();
    Ok(Candidate { name: name.to_owned(), flavour, program })
}

impl Run<'_> {
    /// One round. The servers take turns within a scenario, so that a ratio compares
    /// neighbours in time.
    fn round(&mut self, round: u32, rng: &mut Rng) {
        let mut scenarios = self.scenarios.clone();
        rng.shuffle(&mut scenarios);
        for scenario in scenarios {
            let mut candidates = self.candidates.clone();
            rng.shuffle(&mut candidates);
            let seed = rng.next_u64();
            for candidate in candidates {
                self.measure(round, scenario, &candidate, seed);
            }
        }
    }

    /// One measurement, entered into the books whatever becomes of it.
    fn measure(&mut self, round: u32, scenario: &'static Scenario, candidate: &Candidate, seed: u64) {
        eprint!("round {round}/{} {:18} {:8} ", self.args.rounds, scenario.name, candidate.name);
        match self.undisturbed(scenario, candidate, seed) {
            Ok(sample) => {
                let cost = sample.cost.map(|cost| format!("{cost:.0} {}", scenario.cost_unit));
                let rate = sample.rate.map(|rate| format!(", {rate:.0} {}", scenario.rate_unit));
                eprintln!("{}{}", cost.unwrap_or_default(), rate.unwrap_or_default());
                let server = candidate.name.clone();
                self.entries.push(Entry { round, scenario: scenario.name, server, sample });
            }
            Err(error) => {
                eprintln!("FAILED: {error}");
                let place = format!("round {round}, {} on {}", scenario.name, candidate.name);
                self.failures.push(format!("{place}: {error}"));
            }
        }
    }

    /// Measures until nobody else wanted the cores, at most `tries` times, and keeps the least
    /// disturbed.
    fn undisturbed(&mut self, scenario: &Scenario, candidate: &Candidate, seed: u64) -> io::Result<Sample> {
        let others = |sample: &Sample| sample.others.unwrap_or_default();
        let mut best = self.sample(scenario, candidate, seed)?;
        for _ in 1..self.args.tries {
            if others(&best) <= OTHERS_MAX {
                break;
            }
            eprint!("(disturbed, again) ");
            let next = self.sample(scenario, candidate, seed)?;
            if others(&next) < others(&best) {
                best = next;
            }
        }
        Ok(best)
    }

    fn sample(&mut self, scenario: &Scenario, candidate: &Candidate, seed: u64) -> io::Result<Sample> {
        let cores = [self.args.server_core, self.args.generator_core];
        machine::wait_until_quiet(cores, Duration::from_secs(self.args.patience))?;
        let server = candidate.start(self.args.server_core, self.rooms.path())?;
        let mut stage = Stage::new(&server, &mut self.sources, seed, cores)?;
        scenario.run(&mut stage, self.args.seconds)
    }

    /// The server that ratios are taken to.
    fn base(&self) -> &str {
        self.args.servers.last().map_or("", String::as_str)
    }

    fn print(&self) {
        println!("\n{}", report::table(&self.entries, &self.scenarios, &self.args.servers, self.base()));
        println!("Median (min-max) of {} rounds of {} s.", self.args.rounds, self.args.seconds);
        if self.candidates.len() > 1 {
            println!("x: median of the ratios to {} within a round.", self.base());
        }
        for failure in &self.failures {
            println!("FAILED {failure}");
        }
    }

    fn write_json(&self, machine: &Machine) -> io::Result<()> {
        let Some(path) = &self.args.json else { return Ok(()) };
        let servers: Vec<_> = self.candidates.iter().map(|c| (&c.name, c.version())).collect();
        let text = serde_json::json!({
            "machine": machine,
            "servers": servers,
            "base": self.base(),
            "rounds": self.args.rounds,
            "seconds": self.args.seconds,
            "seed": self.args.seed,
            "summary": report::summaries(&self.entries, &self.scenarios, &self.args.servers, self.base()),
            "samples": self.entries,
            "failures": self.failures,
        });
        fs::write(path, format!("{text:#}\n"))
    }
}
