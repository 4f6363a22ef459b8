//! The loads by name, one after the other, and a table of what came of them.

use crate::machine::{self, Machine, Rooms};
use crate::site::{Site, Wish};
use crate::verdict::Verdict;
use crate::{relaying, strangers, visitors};
use serde_json::json;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// `benches/figures`.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// The loads, by name [default: all but the soak]
    #[arg(value_name = "ID", value_parser = clap::builder::PossibleValuesParser::new(ALL.iter().map(|load| load.id)))]
    ids: Vec<String>,
    /// Counted time of each load, in minutes [default: what the load is meant to last]
    #[arg(long, conflicts_with_all = ["short", "smoke"])]
    minutes: Option<f64>,
    /// Counted time of 10 seconds each
    #[arg(long)]
    pub short: bool,
    /// A second each and few clients, to see that it works at all; nothing is judged
    #[arg(long)]
    pub smoke: bool,
    /// Longest wait for other programs to leave the cores alone before a load, in seconds
    #[arg(long, default_value_t = 10)]
    patience: u64,
    /// A line of JSON for each load is added to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// The server's binary, which also makes the load
    #[arg(long, value_name = "PATH", default_value = env!("CARGO_BIN_EXE_turnpike"), hide_default_value = true)]
    pub turnpike: PathBuf,
    /// The binary of coturn, which LD-01 is compared with
    #[arg(long, value_name = "PATH", default_value = "/usr/bin/turnserver")]
    pub coturn: PathBuf,
    /// Core of the server
    #[arg(long, default_value_t = 0)]
    server_core: usize,
    /// Core of the generators
    #[arg(long, default_value_t = 1)]
    generator_core: usize,
}

/// A load by name.
struct Load {
    id: &'static str,
    /// How long it is meant to last, in seconds.
    seconds: u64,
    run: fn(&Bench<'_>) -> io::Result<Verdict>,
}

const ALL: &[Load] = &[
    Load { id: "LD-01", seconds: 600, run: relaying::small_packets },
    Load { id: "LD-02", seconds: 60, run: relaying::video },
    Load { id: "LD-03", seconds: 1800, run: relaying::held },
    Load { id: "LD-04", seconds: 600, run: relaying::churn },
    Load { id: "LD-05", seconds: 60, run: strangers::allocate },
    Load { id: "LD-06", seconds: 60, run: strangers::binding },
    Load { id: "LD-07", seconds: 60, run: strangers::garbage },
    Load { id: "LD-08", seconds: 60, run: relaying::tls },
    Load { id: "LD-10", seconds: 60, run: visitors::beside_relaying },
    Load { id: "LD-12", seconds: 60, run: relaying::abuser },
];

/// What every load works with.
pub struct Bench<'a> {
    /// As they were given.
    pub options: &'a Options,
    /// Where servers get their directories.
    pub rooms: &'a Rooms,
    /// Counted time, in seconds.
    pub seconds: u64,
    /// The server's core, as `taskset` takes it.
    pub server: String,
    /// The generators' core.
    pub generator: String,
}

impl Bench<'_> {
    /// A fresh server with one worker on its core.
    pub fn site(&self, limits: &'static str, rooms: &'static str) -> io::Result<Site> {
        let wish = Wish { cores: self.server.clone(), workers: 1, limits, rooms };
        Site::start(&self.options.turnpike, self.rooms.path(), wish)
    }

    /// Both cores, for loads whose parts would otherwise share one.
    pub fn all_cores(&self) -> String {
        format!("{},{}", self.server, self.generator)
    }

    /// How long a load goes on before it is counted, in seconds.
    pub fn warm_up(&self) -> u32 {
        self.count(1, 0)
    }

    /// So many, or few for a smoke test.
    pub fn count(&self, whole: u32, few: u32) -> u32 {
        if self.options.smoke { few } else { whole }
    }
}

/// Runs the loads and says whether all of them hold; a smoke test says whether they ran.
pub fn run(options: &Options) -> io::Result<bool> {
    let rooms = Rooms::new()?;
    let machine = Machine::look();
    println!("{machine}");
    let (mut is_fine, mut verdicts) = (true, Vec::new());
    for load in ALL.iter().filter(|load| options.ids.is_empty() || options.ids.iter().any(|id| id == load.id)) {
        let seconds = match options.minutes {
            _ if options.smoke => 1,
            _ if options.short => 10,
            Some(minutes) => ((minutes * 60.0) as u64).max(1),
            None => load.seconds,
        };
        let bench = Bench {
            options,
            rooms: &rooms,
            seconds,
            server: machine::core_list(&[options.server_core]),
            generator: machine::core_list(&[options.generator_core]),
        };
        let patience = Duration::from_secs(if options.smoke { 0 } else { options.patience });
        machine::wait_until_quiet(&[options.server_core, options.generator_core], patience)?;
        let began = Instant::now();
        match (load.run)(&bench) {
            Ok(mut verdict) => {
                (verdict.id, verdict.seconds) = (load.id.to_owned(), began.elapsed().as_secs_f64());
                println!("{verdict}");
                is_fine &= options.smoke || verdict.holds();
                append(options, &machine, &verdict)?;
                verdicts.push(verdict);
            }
            Err(error) => {
                println!("{}: FAILED: {error}\n", load.id);
                is_fine = false;
            }
        }
    }
    if options.ids.is_empty() {
        println!("LD-09 is benches/soak. LD-11 is about allocations of TCP (RFC 6062), which there are none of.");
    }
    if options.smoke {
        println!("{} loads ran for a moment; nothing was judged", verdicts.len());
    }
    Ok(is_fine)
}

fn append(options: &Options, machine: &Machine, verdict: &Verdict) -> io::Result<()> {
    let Some(path) = &options.json else { return Ok(()) };
    let mut file = OpenOptions::new().create(true).append(true).open(path)?;
    writeln!(file, "{}", json!({ "machine": machine, "holds": verdict.holds(), "figure": verdict }))
}
