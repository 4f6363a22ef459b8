//! The relay's engine: one thread a core, each with its share of the listeners, its
//! allocations and their sockets.
//!
//! [`spawn`] binds every listener of every worker before the first packet is served, so that
//! the kernel's spreading of flows over them never changes.

mod batch;
mod budgets;
mod clients;
mod inherited;
mod journal;
mod listeners;
mod lobby;
mod moderation;
mod parcel;
mod ports;
mod rate;
#[doc(hidden)]
pub mod rehearsal;
mod relays;
mod sending;
mod socket;
mod steering;
mod stream;
mod token;
mod worker;

use crate::bus::{self, Command, LogChoice, Mailbox, Notice, Workers};
use crate::stats::WorkerStats;
use crate::sys;
use crate::turn;
use crate::turn::quota::AllocationLimits;
use batch::Batch;
use budgets::Meters;
use clients::Clients;
use crossbeam_channel::{Receiver, Sender};
pub use inherited::{Inheritance, Inherited};
use listeners::Share;
use lobby::Lobby;
use mio::unix::SourceFd;
use mio::{Interest, Poll, Waker};
use moderation::Moderation;
use parcel::Post;
use ports::PortPool;
use rate::{RateShare, TotalRate};
use relays::Relays;
use sending::Outbox;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use steering::{Census, Notices};
use token::Kind;
use worker::{Options, PortsFree, Worker};

/// Files the process needs besides relay sockets.
const FILES_RESERVED: u64 = 512;
/// Most workers there can be.
pub const WORKERS_MAX: usize = 128;

/// What a client port speaks; on TCP and TLS ports the first byte decides anyway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// UDP.
    Udp,
    /// TCP.
    Tcp,
    /// TLS over TCP.
    Tls,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("listening", &self.listening).finish_non_exhaustive()
    }
}

impl Protocol {
    /// `udp`, `tcp` or `tls`.
    pub const fn name(self) -> &'static str {
        match self {
            Protocol::Udp => "udp",
            Protocol::Tcp => "tcp",
            Protocol::Tls => "tls",
        }
    }
}

/// One address clients come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Listen {
    /// A local address, never a wildcard; port 0 lets the kernel choose.
    pub addr: SocketAddr,
    /// What is spoken there.
    pub protocol: Protocol,
    /// Whether the server must not start without it. An address that came from a wildcard may
    /// be gone by now and is passed over with a warning.
    pub required: bool,
}

/// A public address that stands before a local one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct External {
    /// The address clients and peers see.
    pub public: IpAddr,
    /// The local address behind it; `None` for all of the family.
    pub private: Option<IpAddr>,
}

/// Where and what to relay from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelayConfig {
    /// Ports of relayed addresses.
    pub ports: RangeInclusive<u16>,
    /// Local addresses to relay from; empty: the listeners'.
    pub addresses: Vec<IpAddr>,
    /// 1:1 NAT before them.
    pub external: Vec<External>,
}

/// Limits over all workers; 0 = none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Allocations there may be.
    pub allocations: usize,
    /// Allocations one account may hold.
    pub allocations_per_user: usize,
    /// Allocations of clients from one address, or one /56 of IPv6.
    pub allocations_per_source: usize,
    /// Relayed bytes a second in each direction.
    pub bytes_per_second_total: u64,
}

/// All an engine needs to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// Threads, 1 to [`WORKERS_MAX`].
    pub workers: usize,
    /// Where clients come to.
    pub listen: Vec<Listen>,
    /// Certificates, for TLS on any TCP port.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// Where to relay from.
    pub relay: RelayConfig,
    /// The longest a worker rests between rounds of thin traffic; zero: never.
    pub moderation_max: Duration,
    /// Limits.
    pub limits: Limits,
    /// What is logged of sessions.
    pub log: LogChoice,
    /// The protocol's configuration; its nonce key and this host's own addresses are filled
    /// in by [`spawn`].
    pub turn: turn::Config,
}

/// A running engine.
pub struct Engine {
    listening: Vec<Listen>,
    mailboxes: Vec<Mailbox>,
    threads: Vec<JoinHandle<()>>,
    stats: Vec<Arc<WorkerStats>>,
    /// `None` when nobody will read them.
    notices: Option<Receiver<Notice>>,
    /// What the workers were given, of which every later configuration keeps a part.
    base: Shared,
    /// Files the process may have open.
    files: u64,
    kept: Vec<OwnedFd>,
}

impl Engine {
    /// Where clients are served, with the ports that the kernel chose.
    pub fn listening(&self) -> &[Listen] {
        &self.listening
    }

    /// The counters of each worker.
    pub fn stats(&self) -> &[Arc<WorkerStats>] {
        &self.stats
    }

    /// Gives up what the workers tell: without a reader it would only fill its queue.
    pub fn ignore_notices(&mut self) {
        self.notices = None;
    }

    /// A second handle on each listening socket that was bound here, for whoever is to keep them
    /// while this process restarts: first one of each listener. Empty the second time, and
    /// without [`Inheritance::keep`].
    pub fn take_kept(&mut self) -> Vec<OwnedFd> {
        std::mem::take(&mut self.kept)
    }

    /// The workers, for those who steer or watch them.
    pub fn workers(&self) -> Workers {
        let listening = self.listening.iter().map(|listen| (listen.protocol.name(), listen.addr));
        Workers {
            mailboxes: self.mailboxes.clone(),
            stats: self.stats.clone(),
            notices: self.notices.clone().unwrap_or_else(crossbeam_channel::never),
            listening: listening.collect(),
        }
    }

    /// Serves by another configuration from now on. Nonces stay good; permissions that its
    /// policy forbids end.
    pub fn configure(&self, mut config: turn::Config, limits: &Limits, log: LogChoice) {
        config.nonce.key = self.base.turn.nonce.key;
        config.policy.own = self.base.turn.policy.own.clone();
        self.base.pool.set_limits(allocation_limits(limits, self.files));
        self.base.rate.set(limits.bytes_per_second_total);
        let config = Arc::new(config);
        if !self.workers().tell_all(|| Command::Configure(config.clone(), log)) {
            tracing::error!("a worker could not be told its new configuration");
        }
    }

    /// Prepares a seat for each share of the listeners.
    fn set_out(&mut self, shares: Vec<Share>) -> io::Result<Vec<Seat>> {
        let polls = shares.iter().map(|_| Poll::new()).collect::<io::Result<Vec<_>>>()?;
        let wake = token::token(Kind::Wake, 0, 0);
        let wakers = polls.iter().map(|poll| Waker::new(poll.registry(), wake).map(Arc::new));
        let wakers = wakers.collect::<io::Result<Vec<_>>>()?;
        let mut seats = Vec::with_capacity(shares.len());
        let (notices, read) = bus::notices();
        self.notices = Some(read);
        for ((poll, share), post) in polls.into_iter().zip(shares).zip(Post::network(&wakers)) {
            register(&poll, &share)?;
            let number = seats.len();
            let (mailbox, commands) = Mailbox::new(wakers[number].clone());
            let stats = Arc::new(WorkerStats::default());
            self.mailboxes.push(mailbox);
            self.stats.push(stats.clone());
            let ports_free = match seats.first() {
                Some(Seat { ports_free, .. }) => ports_free.clone(),
                None => PortsFree::told_by(stats.clone(), &self.base.pool, ports::now()),
            };
            let (number, notices) = (number as u8, notices.clone());
            seats.push(Seat { number, poll, share, post, commands, notices, stats, ports_free });
        }
        Ok(seats)
    }

    /// Stops the workers and waits for them: allocations end, connections are closed.
    pub fn stop(self) {
        for mailbox in &self.mailboxes {
            // A worker that can not be told is gone already.
            let _ = mailbox.send(Command::Stop);
        }
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("a worker ended by a panic");
            }
        }
    }
}

/// The addresses of this host's interfaces.
pub fn local_addresses() -> io::Result<Vec<IpAddr>> {
    sys::interface_addresses()
}

/// What all workers are given.
#[derive(Clone)]
struct Shared {
    turn: Arc<turn::Config>,
    tls: Option<Arc<rustls::ServerConfig>>,
    pool: Arc<PortPool>,
    rate: Arc<TotalRate>,
    sources: Arc<lobby::Sources>,
    guests_max: usize,
    moderation_max: Duration,
    log: LogChoice,
}

/// What one worker alone is given.
struct Seat {
    number: u8,
    poll: Poll,
    share: Share,
    post: Post,
    commands: Receiver<Command>,
    notices: Sender<Notice>,
    stats: Arc<WorkerStats>,
    ports_free: PortsFree,
}

impl Seat {
    /// Takes the seat; called on the worker's own thread, where its buffers belong.
    fn worker(self, shared: Shared) -> Worker {
        let now = ports::now();
        let mut seed = [0; 8];
        ports::random(&mut seed);
        let options = Options { loopback_peers: shared.turn.policy.allow_loopback };
        let lobby = Lobby::new(shared.sources, shared.guests_max);
        Worker {
            number: self.number,
            poll: self.poll,
            server: turn::Server::new(shared.turn, now, u64::from_ne_bytes(seed)),
            pool: shared.pool,
            ports_free: self.ports_free,
            stats: self.stats,
            outbox: Outbox::new(self.share.udp.len()),
            clients: Clients::new(self.share.tcp, shared.tls, lobby, now),
            udp: self.share.udp,
            relays: Relays::default(),
            post: self.post,
            rate: RateShare::new(shared.rate),
            commands: self.commands,
            notices: Notices::new(self.notices),
            census: Census::default(),
            meters: Meters::default(),
            options,
            log: shared.log,
            batch: Batch::new(),
            moderation: Moderation::new(shared.moderation_max),
            round: 0,
            received: 0,
            again: Vec::new(),
            now,
            stopping: false,
        }
    }
}

/// Binds everything and starts the workers. An error names the address it is about.
pub fn spawn(config: Config) -> io::Result<Engine> {
    spawn_with(config, Inheritance::default())
}

/// The same with listening sockets that this process was started with.
pub fn spawn_with(mut config: Config, inheritance: Inheritance) -> io::Result<Engine> {
    let workers = config.workers.clamp(1, WORKERS_MAX);
    let files = sys::raise_file_limit()?;
    let bound = listeners::bind(&config.listen, workers, inheritance)?;
    let relays = relay_addresses(&config.relay, &bound.listening);
    if relays.is_empty() {
        return Err(io::Error::other("there is no address to relay from: set relay.addresses"));
    }
    config.turn.policy.own = own_addresses(&relays, config.relay.ports.clone())?;
    ports::random(&mut config.turn.nonce.key);
    let limits = allocation_limits(&config.limits, files);
    let shared = Shared {
        turn: Arc::new(config.turn),
        tls: config.tls,
        pool: Arc::new(PortPool::new(config.relay.ports, &relays, limits)),
        rate: TotalRate::new(config.limits.bytes_per_second_total),
        sources: Arc::default(),
        guests_max: lobby::guests_max(files, workers),
        moderation_max: config.moderation_max,
        log: config.log,
    };
    let mut engine = Engine {
        listening: bound.listening,
        mailboxes: Vec::new(),
        threads: Vec::new(),
        stats: Vec::new(),
        notices: None,
        base: shared.clone(),
        files,
        kept: bound.kept,
    };
    let seats = engine.set_out(bound.shares)?;
    for seat in seats {
        let shared = shared.clone();
        let thread = std::thread::Builder::new().name(thread_name(seat.number.into()));
        match thread.spawn(move || worker::or_abort(|| seat.worker(shared).run())) {
            Ok(thread) => engine.threads.push(thread),
            Err(error) => {
                engine.stop();
                return Err(error);
            }
        }
    }
    Ok(engine)
}

/// The name of a worker's thread.
pub fn thread_name(worker: usize) -> String {
    format!("relay-{worker}")
}

fn register(poll: &Poll, share: &Share) -> io::Result<()> {
    for (index, listener) in share.udp.iter().enumerate() {
        let token = token::token(Kind::Udp, index as u32, 0);
        sys::watch_level(poll, listener.socket.as_fd(), token.0 as u64)?;
    }
    for (index, listener) in share.tcp.iter().enumerate() {
        let token = token::token(Kind::Tcp, index as u32, 0);
        poll.registry().register(&mut SourceFd(&listener.socket.as_raw_fd()), token, Interest::READABLE)?;
    }
    Ok(())
}

/// Local addresses to relay from, and as clients are told them.
fn relay_addresses(relay: &RelayConfig, listening: &[Listen]) -> Vec<(IpAddr, IpAddr)> {
    let mut local: Vec<IpAddr> = match relay.addresses.is_empty() {
        true => listening.iter().map(|listen| listen.addr.ip()).collect(),
        false => relay.addresses.clone(),
    };
    local.sort_by_key(|ip| ip.is_loopback());
    let mut seen = Vec::new();
    local.retain(|ip| {
        !seen.contains(ip) && {
            seen.push(*ip);
            true
        }
    });
    let told = |ip: IpAddr| {
        let of_family = || relay.external.iter().filter(|e| e.public.is_ipv4() == ip.is_ipv4());
        let exact = of_family().find(|e| e.private == Some(ip));
        let general = || of_family().find(|e| e.private.is_none() && !ip.is_loopback());
        exact.or_else(general).map_or(ip, |e| e.public)
    };
    local.into_iter().map(|ip| (ip, told(ip))).collect()
}

/// Where a server of this configuration will itself live, as its peer policy sees it. Opens nothing.
pub fn own(config: &Config) -> io::Result<turn::policy::Own> {
    own_addresses(&relay_addresses(&config.relay, &config.listen), config.relay.ports.clone())
}

fn own_addresses(relays: &[(IpAddr, IpAddr)], ports: RangeInclusive<u16>) -> io::Result<turn::policy::Own> {
    let mut relay: Vec<IpAddr> = relays.iter().flat_map(|&(local, told)| [local, told]).collect();
    relay.sort_unstable();
    relay.dedup();
    let mut local = local_addresses()?;
    local.retain(|ip| !relay.contains(ip));
    Ok(turn::policy::Own { relay, local, ports })
}

/// The configured limits, and no more allocations than there are files for.
fn allocation_limits(limits: &Limits, files: u64) -> AllocationLimits {
    let room = usize::try_from(files.saturating_sub(FILES_RESERVED)).unwrap_or(usize::MAX).max(1);
    let total = match limits.allocations {
        0 => room,
        wanted => wanted.min(room),
    };
    tracing::info!(allocations_max = total, files, "limits");
    AllocationLimits { total, per_account: limits.allocations_per_user, per_source: limits.allocations_per_source }
}
