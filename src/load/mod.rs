//! Load for a STUN or TURN server, as its clients make it: relayed packets, allocations, Binding.
//!
//! It loads only the server it is pointed at and ends after the time it is given. Every packet carries a stamp and bytes
//! that follow from it, so that a lost, doubled, damaged or misled one is seen. Pure are [`pace`], [`payload`],
//! [`histogram`], [`ledger`], [`upkeep`] and [`report`]; sockets are in [`link`] and [`relay`].

pub mod client;
pub mod control;
pub mod histogram;
pub mod ledger;
pub mod link;
pub mod pace;
pub mod payload;
pub mod relay;
pub mod report;
pub mod stage;
pub mod upkeep;
pub mod uri;
pub mod usage;

use client::Account;
use control::Control;
use link::Transport;
use pace::{Pace, Rng};
use relay::Relay;
use report::{Report, Tally, Watched};
use stage::{Gauges, Stage};
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use usage::Usage;

/// How often progress is told.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);
/// The largest payload, in bytes: a Send indication around it still fits a datagram.
pub const SIZE_MAX: usize = 65_000;

/// What is done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Clients send, peers check
    ToPeer,
    /// Peers send, clients check
    ToClient,
    /// Clients send, peers return, clients check: two packets for the relay, the latency is there and back
    #[default]
    Both,
    /// Clients send to each other in pairs, through both relayed addresses; packets are counted once
    Pair,
    /// Allocations are made and given back, as many at a time as --allocations says
    Allocate,
    /// STUN Binding, as many requests at a time as --allocations says; needs no credentials
    Binding,
}

impl Mode {
    /// Whether packets are relayed.
    pub const fn is_relayed(self) -> bool {
        !matches!(self, Mode::Allocate | Mode::Binding)
    }

    /// Its name in reports.
    const fn name(self) -> &'static str {
        match self {
            Mode::ToPeer => "client to peer",
            Mode::ToClient => "peer to client",
            Mode::Both => "both ways",
            Mode::Pair => "pairs of clients",
            Mode::Allocate => "allocation cycles",
            Mode::Binding => "Binding requests",
        }
    }

    /// What is counted.
    const fn unit(self) -> &'static str {
        match self {
            Mode::Allocate => "cycles",
            Mode::Binding => "requests",
            _ => "packets",
        }
    }
}

/// How packets travel between client and server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Via {
    /// ChannelData on a bound channel
    #[default]
    Channel,
    /// Send and Data indications under a permission
    Indication,
}

/// A load.
#[derive(Clone, Debug)]
pub struct Config {
    /// The server.
    pub server: SocketAddr,
    /// How clients come to it.
    pub transport: Transport,
    /// Whom the clients are known as; unused by [`Mode::Binding`].
    pub account: Account,
    /// What is done.
    pub mode: Mode,
    /// How packets travel.
    pub via: Via,
    /// Clients; at least 1, even for [`Mode::Pair`].
    pub allocations: usize,
    /// Packets or requests a second, of all clients together; 0 is flat-out.
    pub rate: f64,
    /// How departures follow each other.
    pub pace: Pace,
    /// Packets that leave at once on one allocation; at least 1.
    pub burst: u32,
    /// Packets under way when flat-out; at least 1.
    pub window: usize,
    /// How long it lasts.
    pub duration: Duration,
    /// Payload of a packet, in bytes: [`payload::PAYLOAD_LEN_MIN`] to [`SIZE_MAX`].
    pub size: usize,
    /// Threads; each has its share of clients and rate. At least 1.
    pub threads: usize,
    /// The address of this host at which peers are.
    pub peer: IpAddr,
    /// A program of this machine whose CPU time and memory are watched.
    pub pid: Option<u32>,
    /// Of everything random.
    pub seed: u64,
}

/// What a thread has to do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Share {
    /// Clients.
    pub flows: usize,
    /// Departures a second.
    pub rate: f64,
    /// Packets under way when flat-out.
    pub window: usize,
    /// What tells its packets from any others.
    pub tag: u32,
}

/// How far a load is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Progress {
    /// So many clients of so many are ready.
    SettingUp(u64, u64),
    /// What has been done in so many seconds.
    Running {
        /// Since the load began.
        seconds: f64,
        /// Packets sent or requests begun.
        sent: u64,
        /// Packets handed on or requests ended.
        delivered: u64,
    },
}

/// The work of a thread.
enum Work<'a> {
    Relay(Box<Relay<'a>>),
    Control(Box<Control<'a>>),
}

impl Config {
    /// Says what can not be done.
    fn check(&self) -> Result<(), String> {
        let sizes = payload::PAYLOAD_LEN_MIN..=SIZE_MAX;
        match () {
            () if self.allocations == 0 => Err("--allocations is at least 1".into()),
            () if self.mode == Mode::Pair && !self.allocations.is_multiple_of(2) => {
                Err("--allocations is even for --mode pair".into())
            }
            () if !sizes.contains(&self.size) => {
                Err(format!("--size is between {} and {}", sizes.start(), sizes.end()))
            }
            () if !(self.rate >= 0.0 && self.rate.is_finite()) => Err("--rate is 0 or more".into()),
            () if self.burst == 0 => Err("--burst is at least 1".into()),
            () if self.window == 0 => Err("--window is at least 1".into()),
            () if self.threads == 0 => Err("--threads is at least 1".into()),
            () if self.duration.is_zero() => Err("--duration is above 0".into()),
            () => Ok(()),
        }
    }

    /// Divides the load by threads, no more of them than clients or pairs.
    fn shares(&self) -> Vec<Share> {
        let step = if self.mode == Mode::Pair { 2 } else { 1 };
        let units = self.allocations / step;
        let threads = self.threads.min(units).max(1);
        let mut rng = Rng::new(self.seed);
        let share = |at: usize| {
            let flows = (units * (at + 1) / threads - units * at / threads) * step;
            let part = flows as f64 / self.allocations as f64;
            let window = (self.window / threads + usize::from(at < self.window % threads)).max(1);
            Share { flows, rate: self.rate * part, window, tag: rng.next_u64() as u32 }
        };
        (0..threads).map(share).collect()
    }
}

/// The address of this host from which it reaches another, which is where its peers are unless told otherwise.
pub fn local_address(server: SocketAddr) -> io::Result<IpAddr> {
    let any: SocketAddr = if server.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
    let socket = UdpSocket::bind(any)?;
    socket.connect(server)?;
    Ok(socket.local_addr()?.ip())
}

/// Loads a server until the time is over or `stop` is set, telling progress once a second.
///
/// # Errors
/// What can not be done, what the server refuses, and a program that can not be watched; all in words for the user.
pub fn run(config: &Config, stop: &AtomicBool, progress: &mut dyn FnMut(Progress)) -> io::Result<Report> {
    config.check().map_err(io::Error::other)?;
    let began = Instant::now();
    let watch = || config.pid.map(Usage::of).transpose();
    let idle = watch()?;
    let shares = config.shares();
    let gauges: Vec<Gauges> = shares.iter().map(|_| Gauges::default()).collect();
    let sum =
        |of: fn(&Gauges) -> &std::sync::atomic::AtomicU64| gauges.iter().map(|g| of(g).load(Ordering::Relaxed)).sum();

    let all: u64 = config.allocations as u64;
    let set_up = |(at, share): (usize, Share)| Work::set_up(config, share, at as u64, began, &gauges[at], stop);
    let work = in_threads(shares.into_iter().enumerate().collect(), set_up, &mut || {
        progress(Progress::SettingUp(sum(|g| &g.ready), all));
    });
    let work: Option<Vec<Work<'_>>> = work.into_iter().collect::<io::Result<_>>()?;
    let set_up_seconds = began.elapsed().as_secs_f64();
    let Some(work) = work else {
        return Err(io::Error::new(io::ErrorKind::Interrupted, "ended before the allocations were made"));
    };

    let (start, usage) = (Instant::now(), watch()?);
    let done = in_threads(work, Work::run, &mut || {
        let seconds = start.elapsed().as_secs_f64();
        progress(Progress::Running { seconds, sent: sum(|g| &g.sent), delivered: sum(|g| &g.delivered) });
    });
    let ended = watch();
    let mut tally = Tally::default();
    let mut fault = None;
    for (work, result) in done {
        match result {
            Ok(more) => tally.merge(more),
            Err(error) => fault = fault.or(Some(error)),
        }
        work.finish();
    }
    if let Some(error) = fault {
        return Err(error);
    }
    let watched = match (idle, usage, ended) {
        (Some(idle), Some(began), Ok(Some(ended))) => Some(Watched { idle, began, ended }),
        (_, _, Err(error)) => {
            tally.notes.push(error.to_string());
            None
        }
        _ => None,
    };
    Ok(Report::new(config, set_up_seconds, tally, watched, stop.load(Ordering::Relaxed)))
}

impl<'a> Work<'a> {
    /// Prepares the work of the thread `at`; `None` when somebody wants an early end.
    fn set_up(
        config: &'a Config,
        share: Share,
        at: u64,
        began: Instant,
        gauges: &'a Gauges,
        stop: &'a AtomicBool,
    ) -> io::Result<Option<Self>> {
        let server = (config.server, &config.transport, &config.account);
        let stage = Stage::new(server, config.seed.wrapping_add(at + 1), began, gauges, stop)?;
        let failed = |error| io::Error::other(relay::in_words(&error));
        if config.mode.is_relayed() {
            let relay = Relay::set_up(stage, config, share).map_err(failed)?;
            return Ok(relay.map(|relay| Work::Relay(Box::new(relay))));
        }
        Ok(Some(Work::Control(Box::new(Control::set_up(stage, config, share).map_err(failed)?))))
    }

    fn run(mut self) -> (Self, io::Result<Tally>) {
        let tally = match &mut self {
            Work::Relay(relay) => relay.run(),
            Work::Control(control) => control.run(),
        };
        (self, tally)
    }

    fn finish(self) {
        if let Work::Relay(relay) = self {
            relay.finish();
        }
    }
}

/// Does each piece of work in a thread of its own and calls `tick` once a second until all have ended.
fn in_threads<T: Send, R: Send>(items: Vec<T>, work: impl Fn(T) -> R + Sync, tick: &mut dyn FnMut()) -> Vec<R> {
    let (done, all_done) = crossbeam_channel::bounded::<()>(0);
    std::thread::scope(|scope| {
        let start = |item| {
            // Dropped when the thread ends, also in a panic: the last one ends the wait.
            let done = done.clone();
            let work = &work;
            scope.spawn(move || {
                let _done = done;
                work(item)
            })
        };
        let threads: Vec<_> = items.into_iter().map(start).collect();
        drop(done);
        while let Err(crossbeam_channel::RecvTimeoutError::Timeout) = all_done.recv_timeout(PROGRESS_EVERY) {
            tick();
        }
        let join = |thread: std::thread::ScopedJoinHandle<'_, R>| {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        threads.into_iter().map(join).collect()
    })
}
