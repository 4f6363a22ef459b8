//! Measures turnpike against coturn, side by side on loopback: `cargo bench --bench relay`.
//!
//! The conductor: it starts servers on one core and `turnpike load` on another, in rounds, and adds up what that
//! reports. What is measured and how to read it: `benches/README.md`.

#[path = "relay/conductor.rs"]
mod conductor;
#[path = "relay/daemon.rs"]
mod daemon;
#[path = "relay/generator.rs"]
mod generator;
#[path = "relay/machine.rs"]
mod machine;
#[path = "relay/report.rs"]
mod report;
#[path = "relay/scenario.rs"]
mod scenario;
#[path = "relay/server.rs"]
mod server;

use clap::Parser;
use clap::builder::PossibleValuesParser;
use scenario::Scenario;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Measures turnpike against coturn, side by side on loopback.
#[derive(Debug, Parser)]
#[command(name = "cargo bench --bench relay --")]
pub struct Args {
    /// Rounds; every server runs every scenario once a round
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Length of a measured window, in seconds
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=600))]
    seconds: u32,
    /// Longest wait for other programs to leave the cores alone before a measurement, in seconds
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(..=3600))]
    patience: u64,
    /// Measurements of which the least disturbed counts, when other programs wanted the cores
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    tries: u32,
    /// Scenarios to run [default: all]
    #[arg(long, num_args = 1.., value_parser = scenario_names())]
    scenario: Vec<String>,
    /// Servers to measure, each in every round; ratios are taken to the last one
    #[arg(long, value_delimiter = ',', default_value = "turnpike,coturn",
          value_parser = PossibleValuesParser::new(["turnpike", "base", "coturn"]))]
    servers: Vec<String>,
    /// Binary of the server `turnpike`
    #[arg(long, value_name = "PATH", default_value = env!("CARGO_BIN_EXE_turnpike"), hide_default_value = true)]
    turnpike: PathBuf,
    /// Binary of the server `base`: another build of turnpike, to compare before and after
    #[arg(long, value_name = "PATH")]
    base: Option<PathBuf>,
    /// Binary of the server `coturn`
    #[arg(long, value_name = "PATH", default_value = "/usr/bin/turnserver")]
    coturn: PathBuf,
    /// Binary whose `load` is the generator [default: that of this build]
    #[arg(long, value_name = "PATH")]
    generator: Option<PathBuf>,
    /// Seed of order and traffic
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Core of the server
    #[arg(long, default_value_t = 0)]
    server_core: usize,
    /// Core of the generator
    #[arg(long, default_value_t = 1)]
    generator_core: usize,
    /// Also write every sample and the summary as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Given by `cargo bench`; without it nothing is measured
    #[arg(long, hide = true)]
    bench: bool,
}

impl Args {
    /// Whether a scenario is to be run.
    fn wants(&self, scenario: &Scenario) -> bool {
        self.scenario.is_empty() || self.scenario.iter().any(|name| name == scenario.name)
    }

    /// The program that makes the load.
    fn generator(&self) -> &Path {
        self.generator.as_deref().unwrap_or(Path::new(env!("CARGO_BIN_EXE_turnpike")))
    }
}

fn scenario_names() -> PossibleValuesParser {
    PossibleValuesParser::new(scenario::ALL.iter().map(|scenario| scenario.name))
}

fn main() -> ExitCode {
    let args = Args::parse();
    if !args.bench {
        println!("nothing measured: this is a benchmark, run it with `cargo bench --bench relay`");
        return ExitCode::SUCCESS;
    }
    match conductor::run(&args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("relay: {error}");
            ExitCode::FAILURE
        }
    }
}
