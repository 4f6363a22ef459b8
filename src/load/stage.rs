//! What a thread of the load stands on: its poll, its clock, its randomness, and how clients are led through requests.

use super::Config;
use super::client::{Account, Client, Step};
use super::link::anywhere;
use super::pace::Rng;
use super::report::Tally;
use super::sources::Sources;
use super::usage::Usage;
use mio::{Events, Poll, Token};
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Clients of a thread that are set up at a time.
const UNDER_WAY_MAX: usize = 64;
/// How often overdue answers are looked for, in nanoseconds.
pub const HURRY_NS: u64 = 50_000_000;
/// Longest message read, in bytes.
const MESSAGE_LEN_MAX: usize = 66_000;
/// How long allocations are given back at the end, in nanoseconds.
const GIVE_BACK_NS: u64 = 3_000_000_000;
/// A sleep may take a millisecond longer than it was asked to.
const SLEEP_SLACK_NS: u64 = 1_000_000;

/// What a thread has done so far; written by it, read by whoever shows progress.
#[derive(Debug, Default)]
pub struct Gauges {
    /// Clients that are ready.
    pub ready: AtomicU64,
    /// Packets sent, or requests begun.
    pub sent: AtomicU64,
    /// Packets the relay handed on, or requests ended.
    pub delivered: AtomicU64,
}

/// When a load begins to be counted and when it ends, in nanoseconds of the run's clock.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    /// Begins to be counted.
    pub open_ns: u64,
    /// Ends.
    pub close_ns: u64,
}

impl Window {
    /// A window of a load that begins at `now`.
    pub fn new(now: Duration, warm_up: Duration, duration: Duration) -> Self {
        let open_ns = (now + warm_up).as_nanos() as u64;
        Window { open_ns, close_ns: open_ns.saturating_add(duration.as_nanos() as u64) }
    }
}

/// How far a thread's load is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It goes on and is not counted.
    WarmUp,
    /// It is counted.
    Counted,
    /// Nothing new begins; what is under way is waited for.
    Drain,
}

/// A moment of a thread.
#[derive(Debug)]
pub struct Mark {
    at_ns: u64,
    idle_ns: u64,
    /// What the watched program had used; `None` where it is not this thread that watches.
    watched: Option<io::Result<Usage>>,
}

/// What a thread works with.
#[derive(Debug)]
pub struct Stage<'a> {
    /// Whom the clients are known as.
    pub account: &'a Account,
    /// Randomness of times and choices, from the load's seed.
    pub rng: Rng,
    /// Randomness of transactions: a server remembers them longer than a run, and the next one has the same seed.
    pub ids: Rng,
    /// Readiness of all its sockets.
    pub poll: Poll,
    /// Room for one message.
    pub room: Vec<u8>,
    /// What others may see of it.
    pub gauges: &'a Gauges,
    config: &'a Config,
    sources: Option<&'a Sources>,
    /// The program this thread watches.
    pid: Option<u32>,
    began: Instant,
    stop: &'a AtomicBool,
    idle_ns: u64,
}

impl<'a> Stage<'a> {
    /// Prepares the thread with the number `at`. `began` is the zero of the run's clock.
    pub fn new(
        config: &'a Config,
        sources: Option<&'a Sources>,
        at: usize,
        began: Instant,
        gauges: &'a Gauges,
        stop: &'a AtomicBool,
    ) -> io::Result<Self> {
        let mut seed = [0; 8];
        getrandom::fill(&mut seed).map_err(|error| io::Error::other(format!("there is no randomness: {error}")))?;
        Ok(Stage {
            account: &config.account,
            ids: Rng::new(u64::from_ne_bytes(seed)),
            rng: Rng::new(config.seed.wrapping_add(at as u64 + 1)),
            poll: Poll::new()?,
            room: vec![0; MESSAGE_LEN_MAX],
            gauges,
            config,
            sources,
            pid: config.pid.filter(|_| at == 0),
            began,
            stop,
            idle_ns: 0,
        })
    }

    /// The run's clock, in nanoseconds.
    #[inline]
    pub fn now_ns(&self) -> u64 {
        self.began.elapsed().as_nanos() as u64
    }

    /// Lets others see what has been counted.
    #[inline]
    pub fn show(&self, phase: Phase, sent: u64, delivered: u64) {
        if phase != Phase::WarmUp {
            self.gauges.sent.store(sent, Ordering::Relaxed);
            self.gauges.delivered.store(delivered, Ordering::Relaxed);
        }
    }

    /// Whether somebody wants an early end.
    #[inline]
    pub fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Marks this moment.
    pub fn mark(&self) -> Mark {
        let watched = self.pid.map(Usage::of);
        Mark { at_ns: self.now_ns(), idle_ns: self.idle_ns, watched }
    }

    /// Enters what lies between two marks.
    pub fn account_for(&self, from: Mark, to: Mark, tally: &mut Tally) {
        let ns = (to.at_ns - from.at_ns) as f64;
        tally.seconds = ns / 1e9;
        tally.busy = if ns > 0.0 { 1.0 - (to.idle_ns - from.idle_ns) as f64 / ns } else { 0.0 };
        match (from.watched, to.watched) {
            (Some(Ok(from)), Some(Ok(to))) => tally.watched = Some((from, to)),
            (Some(Err(error)), _) | (_, Some(Err(error))) => tally.notes.push(error.to_string()),
            _ => {}
        }
    }

    /// Looks for ready sockets, for at most `wait_ns` of a turn that began at `turn_ns` and in which something was done
    /// already or was not. Waits too short to be slept through exactly are not slept at all: the core stays busy and the
    /// departures stay on time.
    #[inline]
    pub fn look(&mut self, events: &mut Events, turn_ns: u64, wait_ns: u64, has_acted: bool) -> io::Result<()> {
        let sleep_ms = if self.config.spin { 0 } else { wait_ns.saturating_sub(SLEEP_SLACK_NS) / 1_000_000 };
        let asleep_ns = if sleep_ms > 0 { self.now_ns() } else { turn_ns };
        match self.poll.poll(events, Some(Duration::from_millis(sleep_ms))) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => events.clear(),
            result => result?,
        }
        let is_idle = events.is_empty() && !has_acted && wait_ns > 0;
        if is_idle && sleep_ms == 0 && !self.config.spin {
            std::thread::yield_now();
        }
        if is_idle || sleep_ms > 0 {
            self.idle_ns += self.now_ns() - asleep_ns;
        }
        Ok(())
    }

    /// Makes a client that is polled under `token`.
    pub fn client(&mut self, token: usize, peer: SocketAddr) -> io::Result<Client> {
        let server = self.config.server;
        let source = self.sources.map_or_else(|| Ok(anywhere(server)), Sources::fresh)?;
        let mut client =
            Client::new(&self.config.transport, server, source, peer).map_err(|error| match error.raw_os_error() {
                Some(libc::EADDRNOTAVAIL) if self.sources.is_some() => {
                    io::Error::other(format!("{source} is no address of this host (--sources)"))
                }
                _ => error,
            })?;
        client.link.register(self.poll.registry(), Token(token))?;
        Ok(client)
    }

    /// Begins a step of a client.
    pub fn ask(&mut self, client: &mut Client, step: Step) -> io::Result<()> {
        client.ask(step, self.now_ns(), self.account, &mut self.ids)
    }

    /// Reads what has come for a client until its step is done; whether it is.
    pub fn hear(&mut self, client: &mut Client, step: Step) -> io::Result<bool> {
        client.link.flush()?;
        while let Some(len) = client.link.receive(&mut self.room)? {
            let now = self.now_ns();
            if client.hear(step, &self.room[..len], now, self.account, &mut self.ids)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Leads every client through the same steps, a bounded number at a time; they are polled under tokens from `first`
    /// on. The first that can not go on ends it, and so does a wish to stop, which is `false`.
    pub fn walk(&mut self, clients: &mut [Client], first: usize, steps: &[Step]) -> io::Result<bool> {
        self.lead(clients, first, steps, None)
    }

    /// Gives allocations back, as far as the server lets it within some seconds: one that stays expires by itself.
    pub fn give_back(&mut self, mut clients: Vec<Client>) {
        clients.retain(Client::is_allocated);
        for (token, client) in clients.iter_mut().enumerate() {
            // One that can not be polled is hurried, and given up.
            let _ = client.link.reregister(self.poll.registry(), Token(token));
        }
        let end_ns = self.now_ns() + GIVE_BACK_NS;
        let _ = self.lead(&mut clients, 0, &[Step::Free], Some(end_ns));
    }

    /// With an end, clients that can not go on are passed over, and nothing ends it before.
    fn lead(&mut self, clients: &mut [Client], first: usize, steps: &[Step], end_ns: Option<u64>) -> io::Result<bool> {
        let mut events = Events::with_capacity(1024);
        let mut walk = Walk { steps, done: vec![0; clients.len()], finished: 0, is_strict: end_ns.is_none() };
        let mut begun = 0;
        let mut hurried_ns = self.now_ns();
        while walk.finished < clients.len() {
            let now = self.now_ns();
            if end_ns.map_or_else(|| self.is_stopped(), |end_ns| now > end_ns) {
                return Ok(false);
            }
            while begun < clients.len() && begun - walk.finished < UNDER_WAY_MAX {
                let asked = self.ask(&mut clients[begun], steps[0]);
                walk.settle(begun, asked.map(|()| false))?;
                begun += 1;
            }
            if now - hurried_ns > HURRY_NS {
                hurried_ns = now;
                for (i, client) in clients[..begun].iter_mut().enumerate() {
                    let Some(step) = walk.step(i) else { continue };
                    walk.settle(i, client.hurry(step, now, self.account).map(|()| false))?;
                }
            }
            self.look(&mut events, now, HURRY_NS, true)?;
            for Token(token) in events.iter().map(|event| event.token()) {
                let i = token.wrapping_sub(first);
                // Readiness is told once: a client whose step is done goes on reading for the next.
                while i < begun
                    && let Some(step) = walk.step(i)
                {
                    let heard = self.hear(&mut clients[i], step);
                    if !walk.settle(i, heard)? {
                        break;
                    }
                    if let Some(step) = walk.step(i) {
                        let asked = self.ask(&mut clients[i], step);
                        walk.settle(i, asked.map(|()| false))?;
                    }
                }
            }
        }
        Ok(true)
    }
}

/// How far clients are that walk the same steps.
struct Walk<'a> {
    steps: &'a [Step],
    /// Steps that each has done.
    done: Vec<usize>,
    finished: usize,
    /// Whether one that can not go on ends it for all.
    is_strict: bool,
}

impl Walk<'_> {
    /// The step a client is at; `None` at the end.
    fn step(&self, at: usize) -> Option<Step> {
        self.steps.get(self.done[at]).copied()
    }

    /// Enters what became of a client's step: whether it is done.
    fn settle(&mut self, at: usize, result: io::Result<bool>) -> io::Result<bool> {
        match result {
            Ok(true) => self.done[at] += 1,
            Ok(false) => return Ok(false),
            Err(error) if self.is_strict => return Err(error),
            Err(_) => self.done[at] = self.steps.len(),
        }
        self.finished += usize::from(self.done[at] == self.steps.len());
        Ok(true)
    }
}
