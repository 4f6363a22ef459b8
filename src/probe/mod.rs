//! A look at STUN and TURN servers from outside, as their clients see them.
//!
//! It asks only the servers it is pointed at, each step for a bounded time, sends some packets through each relay, and
//! gives back what it allocated. Credentials travel only as STUN has it, and over TLS only to whom the certificate was
//! made for. Pure are [`ask`], [`certificate`], [`clock`]'s search, [`report`], [`table`] and [`words`]; sockets are in
//! [`desk`], [`packets`], `relayed` and [`trial`]. The TURN client is the one of [`crate::load`].

pub mod ask;
pub mod certificate;
pub mod clock;
pub mod desk;
pub mod packets;
mod relayed;
pub mod report;
pub mod table;
pub mod trial;
pub mod words;

use crate::load::client::Account;
use crate::load::uri::Uri;
use crate::wire::attribute::Family;
use crate::wire::integrity;
use ask::{Ask, Asked};
use crossbeam_channel::RecvTimeoutError;
use report::{Outcome, Report, Step, Steps, Target};
use rustls::RootCertStore;
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use trial::{Ran, Trial};
use zeroize::Zeroizing;

/// Packets sent through each relay, at most.
pub const PACKETS_MAX: u32 = 1000;
/// Longest wait for an answer: a client gives up on a request after 8 s.
pub const TIMEOUT_MAX: Duration = Duration::from_secs(7);
/// Addresses of one name that are tried.
pub const ADDRESSES_MAX: usize = 8;
/// Servers, by each transport and address, that are tried side by side.
pub const TARGETS_MAX: usize = 64;

/// How long a minted credential is good, in seconds: longer than a probe takes, and within what servers accept.
const CREDENTIAL_TTL_S: u64 = 600;
/// How often progress is told at least, so that what moves moves.
const TICK: Duration = Duration::from_millis(100);

/// Who the probe is to the servers.
#[derive(Clone)]
pub enum Identity {
    /// A user of theirs.
    Known(Account),
    /// One for whom a credential is minted with their shared secret.
    Minted {
        /// User id.
        user: String,
        /// The secret.
        secret: Zeroizing<String>,
    },
}

impl Identity {
    /// What it logs in with at a time, in seconds since 1970.
    pub fn account(&self, unix_s: u64) -> Account {
        match self {
            Identity::Known(account) => account.clone(),
            Identity::Minted { .. } => self.expiring(unix_s + CREDENTIAL_TTL_S).unwrap_or_else(nobody),
        }
    }

    /// A credential that ends at a time; `None` of a user whose password is known.
    pub fn expiring(&self, unix_s: u64) -> Option<Account> {
        let Identity::Minted { user, secret } = self else { return None };
        let user = format!("{unix_s}:{user}");
        let password = integrity::rest_password(secret.as_bytes(), user.as_bytes());
        Some(Account { user, password: Zeroizing::new(String::from_utf8_lossy(&password).into_owned()) })
    }
}

/// Whom requests without credentials come from.
pub fn nobody() -> Account {
    Account { user: String::new(), password: Zeroizing::default() }
}

/// What is tried and how.
pub struct Config {
    /// What the user asked for.
    pub asked: Vec<Asked>,
    /// Who the probe is; without it only what needs no credentials is tried.
    pub identity: Option<Identity>,
    /// The family of addresses to which it is limited.
    pub family: Option<Family>,
    /// Packets through each relay, up to [`PACKETS_MAX`]; with 0 neither loss nor MTU is measured.
    pub packets: u32,
    /// How long each step waits for the server, up to [`TIMEOUT_MAX`].
    pub timeout: Duration,
    /// The share of lost packets above which a relay fails, 0 to 1.
    pub max_loss: f64,
    /// Whose certificates are trusted.
    pub roots: Arc<RootCertStore>,
    /// Whether it goes on behind a certificate that is not.
    pub insecure: bool,
}

/// What is known of a target while it is tried.
#[derive(Clone, Debug)]
pub enum Progress {
    /// Trials begin: the name of each.
    Targets(Vec<String>),
    /// A step of a target began.
    Began(usize, report::Stage),
    /// A step of a target ended.
    Ended(usize, report::Stage, Outcome, String),
    /// Nothing new.
    Tick,
}

/// Where a target is, or why it is nowhere.
struct Place {
    ask: Ask,
    server: Result<SocketAddr, String>,
}

/// Tries every target at the same time and says what came of it. With `stop` set it ends early: what was not tried is
/// skipped, and what was allocated is given back.
///
/// # Errors
/// Too many targets, or what the host lacks, in words for the user. What a server lacks is in the report.
pub fn run(config: &Config, stop: &AtomicBool, progress: &mut dyn FnMut(Progress)) -> io::Result<Report> {
    let (places, mut untried) = places(config)?;
    progress(Progress::Targets(places.iter().map(Place::name).collect()));
    let began = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let account = config.identity.as_ref().map(|identity| identity.account(began));
    let try_at = |at: usize, tell: &dyn Fn(Progress)| try_place(config, account.as_ref(), stop, at, &places[at], tell);
    let mut trials = in_threads((0..places.len()).collect(), progress, &try_at)?;
    // Side by side they may have taken each other's allocations; alone, each has what the server gives one user.
    let crowded = (0..trials.len()).filter(|at| trials.len() > 1 && trials[*at].was_full).collect::<Vec<_>>();
    for at in crowded {
        trials[at] = in_threads(vec![at], progress, &try_at)?.remove(0);
    }
    let clocks = clocks(config, stop, &trials, progress)?;
    for trial in &mut trials {
        let Some(ip) = trial.target.server.map(|server| server.ip()) else { continue };
        if let Some(clock) = clocks.get(&ip) {
            trial.target.steps.heed(clock, trial.was_refused);
        }
    }
    let mut targets: Vec<_> = trials.into_iter().map(|ran| ran.target.judged()).collect();
    targets.append(&mut untried);
    Ok(Report::new(targets))
}

impl Place {
    fn name(&self) -> String {
        let server = self.server.as_ref().map_or_else(|_| self.ask.uri.host.clone(), ToString::to_string);
        format!("{} {server}", words::transport(self.ask.uri.scheme))
    }
}

/// Every address of every server that was asked for, and what is not tried.
fn places(config: &Config) -> io::Result<(Vec<Place>, Vec<Target>)> {
    let mut known: BTreeMap<&str, Result<Vec<SocketAddr>, String>> = BTreeMap::new();
    let (mut places, mut untried) = (Vec::new(), Vec::new());
    for asked in &config.asked {
        let ask = match asked {
            Asked::Ask(ask) => ask,
            Asked::Untried { text, transport, reason } => {
                untried.push(Target::untried(text, transport, reason));
                continue;
            }
        };
        let place = |server| Place { ask: ask.clone(), server };
        match known.entry(&ask.uri.host).or_insert_with(|| addresses(&ask.uri, config)) {
            Err(reason) => places.push(place(Err(reason.clone()))),
            Ok(found) => {
                let servers = found.iter().map(|addr| {
                    // A link-local address keeps its interface.
                    let mut server = *addr;
                    server.set_port(ask.uri.port);
                    server
                });
                places.extend(servers.clone().take(ADDRESSES_MAX).map(|server| place(Ok(server))));
                let left = servers.skip(ADDRESSES_MAX).map(|server| format!("{server} (of {})", ask.text()));
                let reason = format!("not tried: only {ADDRESSES_MAX} addresses of a name are");
                untried.extend(left.map(|text| Target::untried(&text, words::transport(ask.uri.scheme), &reason)));
            }
        }
    }
    if places.len() > TARGETS_MAX {
        let count = places.len();
        let what = format!("{count} servers, transports and addresses are more than {TARGETS_MAX}: ask for fewer");
        return Err(io::Error::other(what));
    }
    Ok((places, untried))
}

/// The addresses of a host, of the family that is wanted. The system's resolver has no limit of time, so one that
/// does not answer is left behind.
fn addresses(uri: &Uri, config: &Config) -> Result<Vec<SocketAddr>, String> {
    let (found, answer) = crossbeam_channel::bounded(1);
    let asked = uri.clone();
    std::thread::spawn(move || _ = found.send(asked.resolve_all()));
    let found = answer.recv_timeout(config.timeout).map_err(|_| words::name_is_slow(&uri.host, config.timeout))??;
    let mut wanted: Vec<SocketAddr> = Vec::new();
    for addr in found {
        if config.family.is_none_or(|family| family == Family::of(addr.ip())) && !wanted.contains(&addr) {
            wanted.push(addr);
        }
    }
    match config.family {
        Some(family) if wanted.is_empty() => Err(words::no_address_of(&uri.host, family)),
        _ => Ok(wanted),
    }
}

fn try_place(
    config: &Config,
    account: Option<&Account>,
    stop: &AtomicBool,
    at: usize,
    place: &Place,
    tell: &dyn Fn(Progress),
) -> io::Result<Ran> {
    match &place.server {
        Ok(server) => Trial::new(config, account, stop, at, &place.ask, *server, tell)?.run(),
        Err(reason) => {
            let steps = Steps { connect: Step::fail(reason.clone()), ..Steps::default() };
            tell(Progress::Ended(at, report::Stage::Connect, Outcome::Fail, reason.clone()));
            let target = Target::new(&place.ask, None, steps);
            Ok(Ran { target, was_challenged: false, was_refused: false, was_full: false })
        }
    }
}

/// The clock of each server that a credential can tell about: asked once an address, behind the trials.
fn clocks(
    config: &Config,
    stop: &AtomicBool,
    trials: &[Ran],
    progress: &mut dyn FnMut(Progress),
) -> io::Result<BTreeMap<IpAddr, clock::Reading>> {
    let Some(identity @ Identity::Minted { .. }) = &config.identity else { return Ok(BTreeMap::new()) };
    let mut asked: BTreeMap<IpAddr, usize> = BTreeMap::new();
    for (at, ran) in trials.iter().enumerate().filter(|(_, ran)| ran.was_challenged) {
        asked.extend(
            ran.target.server.map(|server| server.ip()).filter(|ip| !asked.contains_key(ip)).map(|ip| (ip, at)),
        );
    }
    let readings = in_threads(asked.into_iter().collect(), progress, &|(ip, at), tell: &dyn Fn(Progress)| {
        tell(Progress::Began(at, report::Stage::Clock));
        let reading = clock::read(config, identity, stop, &trials[at].target)?;
        tell(Progress::Ended(at, report::Stage::Clock, reading.step.outcome, reading.step.in_words()));
        Ok((ip, reading))
    })?;
    Ok(readings.into_iter().collect())
}

/// Does each piece of work in a thread of its own and hands on what they tell until all have ended.
fn in_threads<T: Send, R: Send, W>(items: Vec<T>, progress: &mut dyn FnMut(Progress), work: &W) -> io::Result<Vec<R>>
where
    W: Fn(T, &dyn Fn(Progress)) -> io::Result<R> + Sync,
{
    let (told, telling) = crossbeam_channel::unbounded();
    std::thread::scope(|scope| {
        let start = |item| {
            let told = told.clone();
            scope.spawn(move || work(item, &|progress| _ = told.send(progress)))
        };
        let threads: Vec<_> = items.into_iter().map(start).collect();
        drop(told);
        loop {
            match telling.recv_timeout(TICK) {
                Ok(news) => progress(news),
                Err(RecvTimeoutError::Timeout) => progress(Progress::Tick),
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        let join = |thread: std::thread::ScopedJoinHandle<'_, io::Result<R>>| {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        threads.into_iter().map(join).collect()
    })
}
