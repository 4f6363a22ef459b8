//! Load for a STUN or TURN server, as its clients make it: relayed packets, allocations, Binding.
//!
//! It loads only the server it is pointed at and ends after the time it is given. Every packet carries a stamp and bytes
//! that follow from it, so that a lost, doubled, damaged or misled one is seen. Pure are [`plan`], [`pace`],
//! [`sources`], [`payload`], [`frame`], [`histogram`], [`ledger`], [`books`], [`upkeep`] and [`report`]; sockets are in
//! [`link`], [`datagrams`], [`stage`], [`relay`], [`traffic`] and [`control`]; [`trust`] is about certificates.

pub mod books;
pub mod client;
pub mod control;
pub mod datagrams;
pub mod frame;
pub mod histogram;
pub mod ledger;
pub mod link;
pub mod pace;
pub mod payload;
pub mod plan;
pub mod relay;
pub mod report;
pub mod sources;
pub mod stage;
pub mod traffic;
pub mod trust;
pub mod upkeep;
pub mod uri;
pub mod usage;

use crate::sys;
use control::Control;
pub use plan::{ALLOCATIONS_MAX, BURST_MAX, Config, Gso, Mode, SIZE_MAX, Share, THREADS_MAX, Via};
use relay::Relay;
use report::{Report, Tally, Watched};
use sources::Sources;
use stage::{Gauges, Stage, Window};
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use usage::Usage;

/// How often progress is told.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);

/// How far a load is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Progress {
    /// So many clients of so many are ready.
    SettingUp(u64, u64),
    /// It goes on and is not counted yet.
    WarmingUp,
    /// What has been done in so many seconds.
    Running {
        /// Since it is counted.
        seconds: f64,
        /// Packets sent or requests begun.
        sent: u64,
        /// Packets handed on or requests ended.
        delivered: u64,
    },
    /// What was allocated is given back.
    GivingBack,
}

/// The work of a thread.
enum Work<'a> {
    Relay(Box<Relay<'a>>),
    Control(Box<Control<'a>>),
}

/// The address of this host from which it reaches another, which is where its peers are unless told otherwise.
pub fn local_address(server: SocketAddr) -> io::Result<IpAddr> {
    let socket = UdpSocket::bind(SocketAddr::new(link::anywhere(server), 0))?;
    socket.connect(server)?;
    Ok(socket.local_addr()?.ip())
}

/// Loads a server until the time is over or `stop` is set, telling progress once a second. What was allocated is given
/// back whatever happens.
///
/// # Errors
/// What can not be done, what the server refuses, and a program that can not be watched; all in words for the user. Once
/// anything was delivered, a fault is in the report, beside what was counted.
pub fn run(config: &Config, stop: &AtomicBool, progress: &mut dyn FnMut(Progress)) -> io::Result<Report> {
    config
        .check()
        .and_then(|()| config.check_files(sys::raise_file_limit().unwrap_or(u64::MAX)))
        .map_err(io::Error::other)?;
    let began = Instant::now();
    let watch = || config.pid.map(Usage::of).transpose();
    let idle = watch()?;
    let sources = config.sources.map(Sources::new);
    let shares = config.shares();
    let gauges: Vec<Gauges> = shares.iter().map(|_| Gauges::default()).collect();
    let sum = |of: fn(&Gauges) -> &AtomicU64| gauges.iter().map(|g| of(g).load(Ordering::Relaxed)).sum();

    let all: u64 = config.allocations as u64;
    let set_up = |(at, share): (usize, Share)| {
        let stage = Stage::new(config, sources.as_ref(), at, began, &gauges[at], stop)?;
        Work::set_up(stage, config, share)
    };
    let work = in_threads(shares.into_iter().enumerate().collect(), set_up, &mut || {
        progress(Progress::SettingUp(sum(|g| &g.ready), all));
    });
    let work = all_or_none(work, progress)?;
    let set_up_seconds = began.elapsed().as_secs_f64();

    let made = watch();
    let window = Window::new(began.elapsed(), config.warm_up, config.duration);
    let start = Instant::now();
    let done = in_threads(work, |work| work.run(window), &mut || {
        let told = match start.elapsed().checked_sub(config.warm_up) {
            None => Progress::WarmingUp,
            Some(elapsed) => {
                let (sent, delivered) = (sum(|g| &g.sent), sum(|g| &g.delivered));
                Progress::Running { seconds: elapsed.as_secs_f64(), sent, delivered }
            }
        };
        progress(told);
    });
    let ended = watch();
    let mut tally = Tally::default();
    let mut left = Vec::new();
    for (work, more) in done {
        tally.merge(more);
        left.push(work);
    }
    in_threads(left, Work::finish, &mut || progress(Progress::GivingBack));
    if let (0, Some(fault)) = (tally.delivered, &tally.fault) {
        return Err(io::Error::other(fault.clone()));
    }
    let watched = match (idle, made, ended, tally.watched.take()) {
        (Some(idle), Ok(Some(made)), Ok(Some(ended)), Some(window)) => Some(Watched { idle, made, window, ended }),
        (None, ..) => None,
        (_, made, ended, _) => {
            let why = [made.err(), ended.err()].into_iter().flatten().next();
            tally.notes.extend(why.map(|error| error.to_string()));
            None
        }
    };
    Ok(Report::new(config, set_up_seconds, tally, watched, stop.load(Ordering::Relaxed)))
}

/// The work of all threads; when one could not be set up, the others give back what they have.
fn all_or_none<'a>(
    work: Vec<io::Result<Option<Work<'a>>>>,
    progress: &mut dyn FnMut(Progress),
) -> io::Result<Vec<Work<'a>>> {
    let count = work.len();
    let mut fault = None;
    let mut ready = Vec::new();
    for work in work {
        match work {
            Ok(work) => ready.extend(work),
            Err(error) => fault = fault.or(Some(error)),
        }
    }
    if fault.is_none() && ready.len() == count {
        return Ok(ready);
    }
    in_threads(ready, Work::finish, &mut || progress(Progress::GivingBack));
    let stopped = || io::Error::new(io::ErrorKind::Interrupted, "ended before the allocations were made");
    Err(fault.unwrap_or_else(stopped))
}

impl<'a> Work<'a> {
    /// Prepares the work of a thread; `None` when somebody wants an early end.
    fn set_up(stage: Stage<'a>, config: &'a Config, share: Share) -> io::Result<Option<Self>> {
        let failed = |error| io::Error::other(relay::in_words(&error));
        if config.mode.is_relayed() {
            let relay = Relay::set_up(stage, config, share).map_err(failed)?;
            return Ok(relay.map(|relay| Work::Relay(Box::new(relay))));
        }
        Ok(Some(Work::Control(Box::new(Control::set_up(stage, config, share).map_err(failed)?))))
    }

    fn run(mut self, window: Window) -> (Self, Tally) {
        let tally = match &mut self {
            Work::Relay(relay) => relay.run(window),
            Work::Control(control) => control.run(window),
        };
        (self, tally)
    }

    fn finish(self) {
        match self {
            Work::Relay(relay) => relay.finish(),
            Work::Control(control) => control.finish(),
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
