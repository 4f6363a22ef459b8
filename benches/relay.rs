//! Measures turnpike against coturn, side by side on loopback: `cargo bench --bench relay`.
//!
//! Conductor and load generator in one program, on a core of its own; the server under test
//! has another. What is measured and how to read it: `benches/README.md`.

#[path = "relay/client.rs"]
mod client;
#[path = "relay/conductor.rs"]
mod conductor;
#[path = "relay/control.rs"]
mod control;
#[path = "relay/ledger.rs"]
mod ledger;
#[path = "relay/load.rs"]
mod load;
#[path = "relay/machine.rs"]
mod machine;
#[path = "relay/report.rs"]
mod report;
#[path = "relay/scenario.rs"]
mod scenario;
#[path = "relay/server.rs"]
mod server;
#[path = "relay/stage.rs"]
mod stage;

use clap::Parser;
use clap::builder::PossibleValuesParser;
use scenario::Scenario;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::{env, io};

/// Says that this process is already pinned and may open its files.
const PINNED: &str = "TURNPIKE_BENCH_PINNED";
/// Raises the limit of open files and pins to a core.
const PIN: &str = "ulimit -n \"$(ulimit -H -n)\"; exec taskset -c \"$0\" \"$@\"";

/// Measures turnpike against coturn, side by side on loopback.
#[derive(Debug, Parser)]
#[command(name = "cargo bench --bench relay --")]
pub struct Args {
    /// Rounds; every server runs every scenario once a round
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Length of a measured window, in seconds (0.1-600)
    #[arg(long, default_value_t = 4.0, value_parser = window_seconds)]
    seconds: f64,
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
}

fn window_seconds(text: &str) -> Result<f64, String> {
    let seconds = text.parse().ok().filter(|seconds| (0.1..=600.0).contains(seconds));
    seconds.ok_or_else(|| "not between 0.1 and 600".to_owned())
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
    let result = match env::var_os(PINNED) {
        None => Err(pin(args.generator_core)),
        Some(_) => conductor::run(&args),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("relay: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Replaces this process by itself on the generator's core. Returns only if that fails.
fn pin(core: usize) -> io::Error {
    let program = match env::current_exe() {
        Ok(program) => program,
        Err(error) => return error,
    };
    let mut command = Command::new("sh");
    command.args(["-c", PIN, &core.to_string()]).arg(program).args(env::args_os().skip(1));
    command.env(PINNED, "1").exec()
}
