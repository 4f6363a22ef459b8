//! `turnpike probe`: tries STUN and TURN servers as their clients do, and says what works, how well, and why not.

use super::check::Format;
use super::signals::stop_on_interrupt;
use super::{Failure, print, secret_text};
use crate::config::value::Seconds;
use crate::load::client::Account;
use crate::load::trust;
use crate::load::uri::Scheme;
use crate::probe::ask::{self, Asked, Service};
use crate::probe::report::Stage;
use crate::probe::table::{self, Colours};
use crate::probe::{self, Config, Identity, PACKETS_MAX, Progress, TIMEOUT_MAX};
use crate::wire::attribute::Family;
use rustls::RootCertStore;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use zeroize::Zeroizing;

/// The user id of credentials minted here, unless --user names another.
const USER: &str = "probe";
/// Trials that are shown line by line; more are counted.
const LINES_MAX: usize = 20;
/// Characters of a line of progress: one that wraps could not be drawn over.
const LINE_LEN: usize = 79;

/// `turnpike probe`.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  \
    turnpike probe relay.example.org --user alice --password-file pw\n  \
    turnpike probe turn:relay.example.org turns:relay.example.org:443 --secret-file secret\n  \
    turnpike probe stun:stun.example.org --format json\n\n\
    A host stands for UDP and TCP at 3478 (or HOST:PORT) and TLS at 5349. Every address of a host is tried. Exits with \
    1 when something fails.")]
pub struct Options {
    /// turn:HOST:PORT?transport=udp|tcp, turns:HOST:PORT, stun:HOST:PORT, stuns:HOST:PORT, or HOST for all transports
    #[arg(value_name = "URI", required = true, value_parser = ask::parse)]
    pub uris: Vec<Vec<Asked>>,
    /// The user; with a secret, the user id that a credential is minted for
    #[arg(long, value_name = "NAME")]
    pub user: Option<String>,
    /// The user's password; others on this machine can see it in the list of processes
    #[arg(long, env = "TURNPIKE_PROBE_PASSWORD", hide_env_values = true, value_name = "PASSWORD")]
    pub password: Option<String>,
    /// A file whose first line is the user's password
    #[arg(long, value_name = "FILE", requires = "user", conflicts_with = "secret_file")]
    pub password_file: Option<PathBuf>,
    /// The server's shared secret, to mint a credential with, which also measures the server's clock
    #[arg(long, env = "TURNPIKE_PROBE_SECRET", hide_env_values = true, value_name = "SECRET")]
    pub secret: Option<String>,
    /// A file whose first line is the secret
    #[arg(long, value_name = "FILE")]
    pub secret_file: Option<PathBuf>,
    /// Only IPv4 addresses
    #[arg(short = '4', long = "ipv4", conflicts_with = "v6")]
    pub v4: bool,
    /// Only IPv6 addresses
    #[arg(short = '6', long = "ipv6")]
    pub v6: bool,
    /// Packets through each relay; 0 measures neither loss nor MTU
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(..=i64::from(PACKETS_MAX)))]
    pub packets: u32,
    /// How long each step waits for an answer: 1s to 7s
    #[arg(long, value_name = "DURATION", default_value = "5s")]
    pub timeout: Seconds,
    /// The share of lost packets above which a relay fails, 0 to 1
    #[arg(long, value_name = "SHARE", default_value_t = 0.05)]
    pub max_loss: f64,
    /// Go on behind a certificate that is not to be trusted
    #[arg(long)]
    pub insecure: bool,
    /// Trust the certificates of this PEM file in place of the system's
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// How to print the result
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

/// Probes and prints.
pub fn probe(options: &Options) -> Result<(), Failure> {
    let config = config(options).map_err(Failure::Other)?;
    let stop = stop_on_interrupt()?;
    let mut board = Board::new(options.format);
    let report = probe::run(&config, &stop, &mut |progress| board.show(progress));
    board.clear();
    let report = report.map_err(|error| Failure::Other(error.to_string()))?;
    print(&match options.format {
        Format::Text => table::text(&report, colours()),
        // In the order of the steps, which a value would lose.
        Format::Json => {
            serde_json::to_string_pretty(&report).map_err(|error| Failure::Other(error.to_string()))? + "\n"
        }
    });
    if stop.load(Ordering::Relaxed) {
        return Err(Failure::Other("ended early: not everything was tried".into()));
    }
    match (report.passed, report.failed()) {
        (true, _) => Ok(()),
        (false, 0) => Err(Failure::Other("nothing could be tried".into())),
        (false, failed) => Err(Failure::Other(format!("{failed} of {} failed", report.targets.len()))),
    }
}

fn colours() -> Colours {
    let is_refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    if std::io::stdout().is_terminal() && !is_refused { Colours::On } else { Colours::Off }
}

fn config(options: &Options) -> Result<Config, String> {
    if !(0.0..=1.0).contains(&options.max_loss) {
        return Err("--max-loss is between 0 and 1".into());
    }
    let timeout = Duration::from_secs(options.timeout.0);
    if timeout.is_zero() || timeout > TIMEOUT_MAX {
        return Err(format!("--timeout is 1 s to {} s", TIMEOUT_MAX.as_secs()));
    }
    let asked: Vec<Asked> = options.uris.iter().flatten().cloned().collect();
    let wants_relay = asked.iter().any(|asked| matches!(asked, Asked::Ask(ask) if ask.service != Service::Stun));
    let by_tls = |asked: &Asked| matches!(asked, Asked::Ask(ask) if ask.uri.scheme == Scheme::Tls);
    let roots = match trust::roots(options.ca.as_deref()) {
        Ok(roots) => roots,
        Err(reason) if !options.insecure && asked.iter().any(by_tls) => return Err(reason),
        Err(_) => RootCertStore::empty(),
    };
    Ok(Config {
        asked,
        identity: if wants_relay { identity(options)? } else { None },
        family: match (options.v4, options.v6) {
            (true, _) => Some(Family::V4),
            (_, true) => Some(Family::V6),
            _ => None,
        },
        packets: options.packets,
        timeout,
        max_loss: options.max_loss,
        roots: Arc::new(roots),
        insecure: options.insecure,
    })
}

/// Who asks: a file goes before an argument or the environment, a user's password before a secret.
fn identity(options: &Options) -> Result<Option<Identity>, String> {
    let given = |file: &Option<PathBuf>, value: &Option<String>| match (file, value) {
        (Some(file), _) => first_line(file).map(Some),
        (None, Some(value)) => Ok(Some(Zeroizing::new(value.clone()))),
        (None, None) => Ok(None),
    };
    let password = given(&options.password_file, &options.password)?;
    let secret = given(&options.secret_file, &options.secret)?;
    match (options.user.clone(), password, secret) {
        (Some(user), Some(password), _) => Ok(Some(Identity::Known(Account { user, password }))),
        (user, _, Some(secret)) => Ok(Some(Identity::Minted { user: user.unwrap_or_else(|| USER.to_owned()), secret })),
        (Some(user), None, None) => {
            Err(format!("{user} has no password: give --password-file or --password, or --secret-file or --secret"))
        }
        (None, Some(_), None) => Err("a password needs its --user".to_owned()),
        (None, None, None) => Ok(None),
    }
}

fn first_line(file: &Path) -> Result<Zeroizing<String>, String> {
    let text = secret_text(file)?;
    match text.lines().next().filter(|line| !line.is_empty()) {
        Some(line) => Ok(Zeroizing::new(line.to_owned())),
        None => Err(format!("the first line of {} is empty: it must be the password or the secret", file.display())),
    }
}

/// Progress on stderr: a line a trial, drawn over, where somebody looks; else a line a step.
struct Board {
    is_seen: bool,
    is_told: bool,
    names: Vec<String>,
    lines: Vec<String>,
    drawn: usize,
}

impl Board {
    fn new(format: Format) -> Self {
        let is_seen = std::io::stderr().is_terminal();
        let is_told = !is_seen && format == Format::Text;
        Board { is_seen, is_told, names: Vec::new(), lines: Vec::new(), drawn: 0 }
    }

    fn show(&mut self, progress: Progress) {
        match progress {
            Progress::Targets(names) => {
                self.lines = names.iter().map(|name| format!("{name}: waiting")).collect();
                self.names = names;
            }
            Progress::Began(at, stage) => self.set(at, format!("{} …", stage.name())),
            Progress::Ended(at, stage, outcome, words) => {
                let said = said(stage, table::word(outcome), &words);
                if self.is_told {
                    // Progress that nobody can read is no failure.
                    let _ = writeln!(std::io::stderr().lock(), "{}: {said}", self.names[at]);
                }
                self.set(at, said);
            }
            Progress::Tick => {}
        }
        if self.is_seen {
            self.draw();
        }
    }

    fn set(&mut self, at: usize, what: String) {
        self.lines[at] = format!("{}: {what}", self.names[at]);
    }

    fn draw(&mut self) {
        let shown = &self.lines[..self.lines.len().min(LINES_MAX)];
        let mut text = self.back();
        for line in shown {
            text.extend(line.chars().take(LINE_LEN));
            text.push('\n');
        }
        self.drawn = shown.len();
        let mut stderr = std::io::stderr().lock();
        let _ = stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush());
    }

    /// To the first line, and nothing below.
    fn back(&self) -> String {
        if self.drawn > 0 { format!("\x1b[{}A\x1b[J", self.drawn) } else { String::new() }
    }

    fn clear(&mut self) {
        if self.is_seen {
            let _ = write!(std::io::stderr().lock(), "{}", self.back());
            self.drawn = 0;
        }
    }
}

fn said(stage: Stage, word: &str, words: &str) -> String {
    if words.is_empty() { format!("{} {word}", stage.name()) } else { format!("{} {word}: {words}", stage.name()) }
}
