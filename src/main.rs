//! The `turnpike` binary: a command line handed to one function a command.

use clap::Parser;
use std::process::ExitCode;
use turnpike::cli::{self, Arguments, Command};

fn main() -> ExitCode {
    cli::keep_secrets();
    let done = match Arguments::parse().command {
        Command::Dev(options) => cli::dev::dev(&options),
        Command::Run(options) => cli::run::run(&options),
        Command::Check(options) => cli::check::check(&options),
        Command::Import(options) => cli::import::import(&options),
        Command::Coturn(options) => cli::coturn::coturn(&options),
        Command::Explain(options) => cli::explain::explain(&options),
        Command::Credentials(options) => cli::credentials::credentials(&options),
        Command::Load(options) => cli::load::load(&options),
        Command::Probe(options) => cli::probe::probe(&options),
        Command::Status(options) => cli::admin::status(&options),
        Command::Sessions(options) => cli::admin::sessions(&options),
        Command::Kick(options) => cli::admin::kick(&options),
        Command::Revoke(options) => cli::revoke::revoke(&options),
        Command::Drain(options) => cli::admin::drain(&options),
        Command::Reload(options) => cli::admin::reload(&options),
        Command::Top(options) => cli::top::top(&options),
        Command::Completions(options) => cli::completions::completions(&options),
        Command::Man(options) => cli::man::man(&options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("turnpike: {failure}");
            ExitCode::from(failure.exit_code())
        }
    }
}
