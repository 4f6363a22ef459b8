//! Loads that a server has to hold, each with what must come of it: `benches/figures`, and an hour and more of all of
//! them together: `benches/soak`.
//!
//! The conductor: it starts a fresh server for each load, makes the load with `turnpike load` and with what that can not
//! do, reads the server's own counters and the kernel's, and says what holds. What is measured: `benches/README.md`.

#[path = "loads/certificate.rs"]
mod certificate;
#[path = "relay/daemon.rs"]
mod daemon;
#[path = "loads/figures.rs"]
mod figures;
#[path = "loads/flood.rs"]
mod flood;
#[path = "loads/gauges.rs"]
mod gauges;
#[path = "loads/generator.rs"]
mod generator;
#[path = "loads/handshakes.rs"]
mod handshakes;
#[path = "loads/logbook.rs"]
mod logbook;
#[allow(dead_code, reason = "shared with the benchmark `relay`")]
#[path = "relay/machine.rs"]
mod machine;
#[path = "loads/relaying.rs"]
mod relaying;
#[allow(dead_code, reason = "shared with the benchmark `relay`")]
#[path = "relay/scenario.rs"]
mod scenario;
#[allow(dead_code, reason = "shared with the benchmark `relay`")]
#[path = "relay/server.rs"]
mod server;
#[path = "loads/site.rs"]
mod site;
#[path = "loads/slope.rs"]
mod slope;
#[path = "loads/soak.rs"]
mod soak;
#[path = "loads/strangers.rs"]
mod strangers;
#[path = "loads/verdict.rs"]
mod verdict;
#[path = "loads/visitors.rs"]
mod visitors;
#[path = "loads/web.rs"]
mod web;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Loads that a server has to hold.
#[derive(Debug, Parser)]
#[command(name = "cargo bench --bench loads --")]
struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    /// Given by `cargo bench`
    #[arg(long, hide = true, global = true)]
    bench: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// One load after the other, and what holds
    Figures(figures::Options),
    /// An hour and more of calls, churn, rooms, strangers, scrapes, reloads and new certificates
    Soak(soak::Options),
    /// Datagrams of strangers, each from another address of this host
    #[command(hide = true)]
    Flood(flood::Options),
    /// New TLS connections, one after the other
    #[command(hide = true)]
    Handshakes(handshakes::Options),
    /// Credentials, and seats in rooms
    #[command(hide = true)]
    Visitors(visitors::Options),
}

fn main() -> ExitCode {
    let done = match &Args::parse().command {
        Some(Command::Figures(options)) => figures::run(options),
        Some(Command::Soak(options)) => soak::run(options),
        Some(Command::Flood(options)) => flood::run(options).map(|()| true),
        Some(Command::Handshakes(options)) => handshakes::run(options).map(|()| true),
        Some(Command::Visitors(options)) => visitors::run(options).map(|()| true),
        None => {
            println!("nothing measured: run benches/figures or benches/soak");
            Ok(true)
        }
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("loads: {error}");
            ExitCode::FAILURE
        }
    }
}
