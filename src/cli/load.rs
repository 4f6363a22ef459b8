//! `turnpike load`: makes relay load for a server and reports what came through.

use super::check::Format;
use super::signals::stop_on_interrupt;
use super::{Failure, print};
use crate::config::value::Seconds;
use crate::load::client::Account;
use crate::load::link::Transport;
use crate::load::pace::Pace;
use crate::load::sources::Network;
use crate::load::trust;
use crate::load::uri::{Scheme, Uri};
use crate::load::{self, Config, Gso, Mode, Progress, Via};
use crate::wire::integrity;
use rustls::pki_types::ServerName;
use std::io::{IsTerminal, Write};
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use zeroize::Zeroizing;

/// How much longer than the load a minted credential is good, in seconds.
const CREDENTIAL_SPARE_S: u64 = 3600;

/// `turnpike load`.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  \
    turnpike load turn:127.0.0.1:3478 --user alice --password wonderland \\\n      \
    --allocations 1000 --rate 20000 --size 160 --duration 30s --pid \"$(pidof turnpike)\"\n  \
    turnpike load turns:relay.example.org --secret S --mode pair --rate 0 --duration 10s\n\n\
    A thread that sends often keeps a core busy, to send in time. Latency (p50, p99) counts from a packet's \
    departure, not from the time it was due: what left over 1 ms late is told beside it. Load only what is yours.")]
pub struct Options {
    /// turn:HOST:PORT, turn:HOST:PORT?transport=tcp or turns:HOST:PORT
    #[arg(value_name = "URI")]
    pub uri: Uri,
    /// How long it lasts: 10s, 1m30s or seconds; there is no load without an end
    #[arg(long, value_name = "DURATION")]
    pub duration: Seconds,
    /// The user; goes before a secret
    #[arg(long, value_name = "NAME", requires = "password")]
    pub user: Option<String>,
    /// The user's password
    #[arg(long, env = "TURNPIKE_LOAD_PASSWORD", hide_env_values = true, value_name = "PASSWORD")]
    pub password: Option<String>,
    /// The server's shared secret, to mint a credential for `load` with
    #[arg(long, env = "TURNPIKE_LOAD_SECRET", hide_env_values = true, value_name = "SECRET")]
    pub secret: Option<String>,
    /// What is done
    #[arg(long, value_enum, default_value_t)]
    pub mode: Mode,
    /// How packets travel between client and server
    #[arg(long, value_enum, default_value_t)]
    pub via: Via,
    /// Clients, each with a socket and an allocation of its own
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub allocations: usize,
    /// Packets or requests a second, of all allocations together; 0 sends flat-out with a window
    #[arg(long, value_name = "PPS", default_value_t = 1000.0)]
    pub rate: f64,
    /// How departures follow each other
    #[arg(long, value_enum, default_value_t)]
    pub pace: Pace,
    /// Packets that leave at once on one allocation
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub burst: u32,
    /// Whether those of a burst leave over UDP as super-packets (UDP_SEGMENT)
    #[arg(long, value_enum, default_value_t)]
    pub gso: Gso,
    /// How long the load goes on before it is counted: latency, rates and CPU time are those of --duration
    #[arg(long, value_name = "DURATION", default_value = "0")]
    pub warm_up: Seconds,
    /// Packets under way with --rate 0
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub window: usize,
    /// Payload of a packet, 32 to 65000 bytes
    #[arg(long, value_name = "BYTES", default_value_t = 160)]
    pub size: usize,
    /// Threads that make the load
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub threads: usize,
    /// Never sleep: takes a core a thread, and the server does not pay for waking it
    #[arg(long)]
    pub spin: bool,
    /// Each client comes from another address of this network, all of which are this host's (as 127.16.0.0/12 is)
    #[arg(long, value_name = "CIDR")]
    pub sources: Option<Network>,
    /// The address of this host at which peers are; that from which the server is reached without it
    #[arg(long, value_name = "IP")]
    pub peer: Option<IpAddr>,
    /// A server on this machine whose CPU time and memory are reported
    #[arg(long, value_name = "PID")]
    pub pid: Option<u32>,
    /// The share of lost packets above which the exit code is 1, 0 to 1
    #[arg(long, value_name = "SHARE", default_value_t = 0.01)]
    pub max_loss: f64,
    /// Take any certificate
    #[arg(long)]
    pub insecure: bool,
    /// Trust the certificates of this PEM file in place of the system's
    #[arg(long, value_name = "FILE", conflicts_with = "insecure")]
    pub ca: Option<PathBuf>,
    /// Seed of times, payloads and the choice of allocations
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// How to print the result
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

/// Loads and prints.
pub fn load(options: &Options) -> Result<(), Failure> {
    let config = config(options).map_err(Failure::Other)?;
    let stop = stop_on_interrupt()?;
    let is_seen = std::io::stderr().is_terminal();
    let report = load::run(&config, &stop, &mut |progress| {
        if is_seen {
            show(progress);
        }
    });
    if is_seen {
        eprint!("\r\x1b[K");
    }
    let report = report.map_err(|error| Failure::Other(format!("{error} ({})", options.uri)))?;
    print(&match options.format {
        Format::Text => report.text(),
        Format::Json => format!("{:#}\n", serde_json::json!(report)),
    });
    if let Some(fault) = report.fault {
        return Err(Failure::Other(format!("a part of the load ended early: {fault}")));
    }
    if report.corrupted > 0 {
        return Err(Failure::Other(format!("{} packets were corrupted", report.corrupted)));
    }
    if report.sent == 0 && !report.interrupted {
        return Err(Failure::Other("nothing was sent: lengthen --duration or raise --rate".into()));
    }
    if report.loss > options.max_loss {
        let (loss, max) = (report.loss * 100.0, options.max_loss * 100.0);
        return Err(Failure::Other(format!("{loss:.3} % were lost, more than --max-loss has it ({max} %)")));
    }
    Ok(())
}

/// One line, over the one before.
fn show(progress: Progress) {
    let line = match progress {
        Progress::SettingUp(ready, all) => format!("{ready} of {all} allocations"),
        Progress::WarmingUp => "warming up".to_owned(),
        Progress::GivingBack => "giving the allocations back".to_owned(),
        Progress::Running { seconds, sent, delivered } => {
            let rate = delivered as f64 / seconds.max(0.001);
            format!("{seconds:.0} s: {sent} sent, {delivered} delivered, {rate:.0} a second")
        }
    };
    let mut stderr = std::io::stderr().lock();
    // Progress that nobody can see is no failure.
    let _ = write!(stderr, "\r\x1b[K{line}").and_then(|()| stderr.flush());
}

fn config(options: &Options) -> Result<Config, String> {
    if !(0.0..=1.0).contains(&options.max_loss) {
        return Err("--max-loss is between 0 and 1".into());
    }
    let server = options.uri.resolve()?;
    let local = || load::local_address(server).map_err(|error| format!("{server} can not be reached: {error}"));
    Ok(Config {
        server,
        transport: transport(options)?,
        account: account(options)?,
        mode: options.mode,
        via: options.via,
        allocations: options.allocations,
        rate: options.rate,
        pace: options.pace,
        burst: options.burst,
        gso: options.gso,
        window: options.window,
        warm_up: Duration::from_secs(options.warm_up.0),
        duration: Duration::from_secs(options.duration.0),
        size: options.size,
        threads: options.threads,
        spin: options.spin,
        sources: options.sources,
        peer: options.peer.map_or_else(local, Ok)?,
        pid: options.pid,
        seed: options.seed,
    })
}

fn account(options: &Options) -> Result<Account, String> {
    if let (Some(user), Some(password)) = (&options.user, &options.password) {
        return Ok(Account { user: user.clone(), password: Zeroizing::new(password.clone()) });
    }
    if let Some(secret) = &options.secret {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let user = format!("{}:load", now + options.warm_up.0 + options.duration.0 + CREDENTIAL_SPARE_S);
        let password = integrity::rest_password(secret.as_bytes(), user.as_bytes());
        return Ok(Account { user, password: Zeroizing::new(String::from_utf8_lossy(&password).into_owned()) });
    }
    match options.mode {
        Mode::Binding => Ok(Account { user: String::new(), password: Zeroizing::default() }),
        _ => Err("there are no credentials: give --user and --password, or --secret".into()),
    }
}

fn transport(options: &Options) -> Result<Transport, String> {
    match options.uri.scheme {
        Scheme::Udp => return Ok(Transport::Udp),
        Scheme::Tcp => return Ok(Transport::Tcp),
        Scheme::Tls => {}
    }
    let name = ServerName::try_from(options.uri.host.clone())
        .map_err(|_| format!("{} is no name that a certificate can have", options.uri.host))?;
    let config = if options.insecure { trust::anybody() } else { trust::only(trust::roots(options.ca.as_deref())?) };
    Ok(Transport::Tls(config?, name))
}
