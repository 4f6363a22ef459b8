//! What every measurement stands on: a server, a poll, a clock, a seed.

use crate::client::{Client, Sources, Step, key};
use crate::machine;
use crate::server::{Server, Usage};
use mio::{Events, Interest, Poll, Token};
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use turnpike::load::pace::Rng;
use turnpike::wire::integrity::Key;

/// Clients that are set up at a time.
const UNDER_WAY_MAX: usize = 64;
/// Longest time to set up all clients of a measurement.
const SET_UP_MAX: Duration = Duration::from_secs(60);

/// One server and all it takes to load it, for one measurement.
#[derive(Debug)]
pub struct Stage<'a> {
    /// The server under test, fresh.
    pub server: &'a Server,
    /// Sources of the clients.
    pub sources: &'a mut Sources,
    /// Randomness of the measurement.
    pub rng: Rng,
    /// The user's key.
    pub key: Key,
    /// Readiness of all sockets.
    pub poll: Poll,
    cores: [usize; 2],
    began: Instant,
    idle_ns: u64,
}

/// The moment a window begins.
#[derive(Clone, Copy, Debug)]
pub struct Mark {
    at_ns: u64,
    idle_ns: u64,
    usage: Usage,
    /// CPU time of everything on both cores but the server and the generator, in nanoseconds.
    others_ns: i64,
}

/// What lies between two marks.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    /// Its length, in seconds.
    pub seconds: f64,
    /// CPU time of the server, in nanoseconds.
    pub cpu_ns: u64,
    /// Times a thread of the server was put on its core.
    pub wakeups: u64,
    /// The share of its time the generator had something to do, 0–1.
    pub generator_load: f64,
    /// The share of a core that others took from the server's and the generator's, 0–2.
    pub others: f64,
}

impl<'a> Stage<'a> {
    /// Prepares a measurement on the cores of the server and the generator.
    pub fn new(server: &'a Server, sources: &'a mut Sources, seed: u64, cores: [usize; 2]) -> io::Result<Self> {
        let (rng, began) = (Rng::new(seed), Instant::now());
        Ok(Stage { server, sources, rng, key: key(), poll: Poll::new()?, cores, began, idle_ns: 0 })
    }

    /// The measurement's clock, in nanoseconds.
    #[inline]
    pub fn now_ns(&self) -> u64 {
        self.began.elapsed().as_nanos() as u64
    }

    /// Looks for ready sockets without ever sleeping: a generator that sleeps would make the
    /// server pay for waking it, and could not keep time to less than a millisecond.
    #[inline]
    pub fn look(&mut self, events: &mut Events) -> io::Result<()> {
        match self.poll.poll(events, Some(Duration::ZERO)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                events.clear();
                Ok(())
            }
            result => result,
        }
    }

    /// Counts a turn that began at `since_ns` as idle.
    #[inline]
    pub fn idle(&mut self, since_ns: u64) {
        self.idle_ns += self.now_ns().saturating_sub(since_ns);
    }

    /// Begins a window.
    pub fn mark(&self) -> io::Result<Mark> {
        let usage = self.server.usage()?;
        let own_ns = Usage::of(std::process::id())?.cpu_ns;
        let others_ns = machine::busy_ns(self.cores)? as i64 - (usage.cpu_ns + own_ns) as i64;
        Ok(Mark { usage, others_ns, at_ns: self.now_ns(), idle_ns: self.idle_ns })
    }

    /// Ends a window.
    pub fn since(&self, mark: Mark) -> io::Result<Window> {
        let end = self.mark()?;
        let ns = (end.at_ns - mark.at_ns) as f64;
        Ok(Window {
            seconds: ns / 1e9,
            cpu_ns: end.usage.cpu_ns - mark.usage.cpu_ns,
            wakeups: end.usage.wakeups - mark.usage.wakeups,
            // Below 0 by rounding only: the kernel counts a core's time in hundredths of a second.
            others: ((end.others_ns - mark.others_ns) as f64 / ns).max(0.0),
            generator_load: 1.0 - (end.idle_ns - mark.idle_ns) as f64 / ns,
        })
    }

    /// Makes a client that is polled under `token`.
    pub fn client(&mut self, token: usize, peer: SocketAddr) -> io::Result<Client> {
        let mut client = Client::new(self.sources.fresh(), self.server.addr, peer)?;
        self.poll.registry().register(&mut client.socket, Token(token), Interest::READABLE)?;
        Ok(client)
    }

    /// Makes clients that share a peer and have an allocation each.
    pub fn allocate(&mut self, count: usize, peer: SocketAddr) -> io::Result<Vec<Client>> {
        let mut clients = (0..count).map(|token| self.client(token, peer)).collect::<io::Result<Vec<_>>>()?;
        self.walk(&mut clients, &[Step::Challenge, Step::Allocate])?;
        Ok(clients)
    }

    /// Leads every client through the same steps, a bounded number at a time.
    pub fn walk(&mut self, clients: &mut [Client], steps: &[Step]) -> io::Result<()> {
        let mut events = Events::with_capacity(1024);
        let mut done = vec![0; clients.len()];
        let (mut begun, mut finished) = (0, 0);
        let mut hurried_ns = self.now_ns();
        let end_ns = hurried_ns + SET_UP_MAX.as_nanos() as u64;
        while finished < clients.len() {
            let now = self.now_ns();
            if now > end_ns {
                return Err(io::Error::other(format!("only {finished} of {} clients are ready", clients.len())));
            }
            while begun < clients.len() && begun - finished < UNDER_WAY_MAX {
                clients[begun].ask(steps[0], now, &self.key, &mut self.rng)?;
                begun += 1;
            }
            if now - hurried_ns > crate::client::PATIENCE_NS / 4 {
                hurried_ns = now;
                for i in (0..begun).filter(|&i| done[i] < steps.len()) {
                    clients[i].hurry(steps[done[i]], now, &self.key)?;
                }
            }
            self.look(&mut events)?;
            for Token(i) in events.iter().map(|event| event.token()) {
                if done[i] == steps.len() || !clients[i].hear(steps[done[i]], now, &self.key, &mut self.rng)? {
                    continue;
                }
                done[i] += 1;
                match steps.get(done[i]) {
                    Some(&step) => clients[i].ask(step, now, &self.key, &mut self.rng)?,
                    None => finished += 1,
                }
            }
        }
        Ok(())
    }
}
