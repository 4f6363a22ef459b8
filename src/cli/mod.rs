//! The command line: one file a command, and what they share.
//!
//! A command returns a [`Failure`] instead of ending the program; only `main` exits.

mod access;
pub mod admin;
pub mod check;
pub mod completions;
pub mod coturn;
pub mod credentials;
pub mod dev;
mod drain;
pub mod explain;
pub mod import;
pub mod load;
mod log;
pub mod man;
pub mod probe;
mod revocations;
pub mod revoke;
pub mod run;
mod serve;
mod service;
mod signals;
pub mod top;
mod watch;

use crate::config::{self, Fault, Host, Inputs, Loaded};
use clap::{Parser, Subcommand};
use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Longest file read of a password, a secret or a token, in bytes.
const SECRET_FILE_LEN_MAX: u64 = 65_536;

/// A fast and safe STUN/TURN relay in one binary.
#[derive(Parser)]
#[command(
    name = "turnpike",
    version,
    arg_required_else_help = true,
    after_help = "Example:\n  turnpike dev                           try it on this machine\n  \
                  turnpike run -c /etc/turnpike.toml     serve"
)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Subcommand)]
pub enum Command {
    /// Serve on this machine with throw-away credentials, to try things out
    Dev(dev::Options),
    /// Serve as configured
    Run(run::Options),
    /// Print the configuration in force, where each value comes from, and every warning
    Check(check::Options),
    /// Print a coturn turnserver.conf as turnpike's TOML, and what became of each line
    Import(import::Options),
    /// Serve as coturn's turnserver would with these options
    Coturn(coturn::Options),
    /// Say which rule decides about a peer, a credential or a client, and what would change it
    Explain(explain::Options),
    /// Mint a time-limited credential and print it as an iceServers JSON
    Credentials(credentials::Options),
    /// Try STUN and TURN servers as their clients do, and say what works and why not
    Probe(probe::Options),
    /// Make relay load for a server and report what came through
    Load(load::Options),
    /// Print what the running server does
    Status(admin::Status),
    /// List the running server's sessions
    Sessions(admin::Sessions),
    /// End a session of the running server
    Kick(admin::Kick),
    /// Refuse a user of the running server from now on and end its sessions
    Revoke(revoke::Options),
    /// Have the running server take no new allocations and end with the last one
    Drain(admin::Drain),
    /// Have the running server read its configuration again
    Reload(admin::Reload),
    /// Show the running server live
    Top(top::Options),
    /// Print what a shell needs to complete turnpike's command line
    Completions(completions::Options),
    /// Print the manual page, or write all of them into a directory
    Man(man::Options),
}

/// Where the configuration is; the same for every command that reads one.
#[derive(Default, clap::Args)]
pub struct Configuration {
    /// A .toml file, a directory of them, or coturn's turnserver.conf; later ones win key by key
    #[arg(short = 'c', long = "config", value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Set one key; wins over TURNPIKE__KEY__PATH variables, which win over files
    #[arg(long = "set", value_name = "KEY.PATH=VALUE")]
    pub set: Vec<String>,
    /// coturn's command line in place of all that.
    #[arg(skip)]
    pub coturn: Option<Vec<String>>,
}

impl Configuration {
    /// Reads it, the environment included. To configure nothing at all is refused.
    fn load(&self) -> Result<Loaded, Fault> {
        let inputs = self.inputs();
        if let Some(arguments) = &self.coturn {
            return config::load_coturn(arguments, &inputs.env);
        }
        if inputs.is_empty() {
            return Err(Fault::new("no configuration is given")
                .hint("name a file with -c FILE, or try `turnpike dev` for a server with throw-away credentials"));
        }
        config::load(&inputs)
    }

    fn inputs(&self) -> Inputs {
        Inputs { files: self.files.clone(), env: std::env::vars_os().collect(), set: self.set.clone() }
    }
}

/// Why a command did not do what it was asked.
#[derive(Debug)]
pub enum Failure {
    /// The configuration is wrong.
    Configuration(Fault),
    /// Something else is.
    Other(String),
}

impl Failure {
    /// The exit code: 78 (`EX_CONFIG`) says that a restart would not help.
    pub const fn exit_code(&self) -> u8 {
        match self {
            Failure::Configuration(_) => 78,
            Failure::Other(_) => 1,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Configuration(fault) => fault.fmt(f),
            Failure::Other(what) => f.write_str(what),
        }
    }
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Failure::Configuration(fault)
    }
}

/// Does what keeps secrets out of files before any is read: no core is dumped.
pub fn keep_secrets() {
    // Where that is not allowed, whoever forbade it has set the limit.
    let _ = crate::sys::forbid_core_dumps();
}

/// The beginning of a file with a password, a secret or a token, which may be a pipe.
fn secret_text(file: &Path) -> Result<Zeroizing<String>, String> {
    let failed = |error: io::Error| format!("{} can not be read: {error}", file.display());
    // Room for all of it: growing would leave parts of it behind where nobody wipes them.
    let mut text = Zeroizing::new(String::with_capacity(SECRET_FILE_LEN_MAX as usize));
    File::open(file).map_err(failed)?.take(SECRET_FILE_LEN_MAX).read_to_string(&mut text).map_err(failed)?;
    Ok(text)
}

/// Looks at this machine.
fn host() -> Result<Host, Failure> {
    Host::look().map_err(|error| Failure::Other(format!("the addresses of this host can not be listed: {error}")))
}

/// Prints to stdout. A reader that went away, as `head` does, is no failure.
fn print(text: &str) {
    let mut stdout = std::io::stdout().lock();
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn every_command_shows_an_example() {
        for command in Arguments::command().get_subcommands() {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.starts_with("Example"), "{}", command.get_name());
        }
    }
}
