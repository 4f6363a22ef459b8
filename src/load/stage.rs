//! What a thread of the load stands on: its poll, its clock, its randomness, and how clients are led through requests.

use super::client::{Account, Client, Step};
use super::link::Transport;
use super::pace::Rng;
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

/// What a thread works with.
#[derive(Debug)]
pub struct Stage<'a> {
    /// How clients come to the server.
    pub transport: &'a Transport,
    /// The server.
    pub server: SocketAddr,
    /// Whom the clients are known as.
    pub account: &'a Account,
    /// Randomness of the thread.
    pub rng: Rng,
    /// Readiness of all its sockets.
    pub poll: Poll,
    /// Room for one message.
    pub room: Vec<u8>,
    /// What others may see of it.
    pub gauges: &'a Gauges,
    began: Instant,
    stop: &'a AtomicBool,
}

impl<'a> Stage<'a> {
    /// Prepares a thread. `began` is the zero of the run's clock.
    pub fn new(
        (server, transport, account): (SocketAddr, &'a Transport, &'a Account),
        seed: u64,
        began: Instant,
        gauges: &'a Gauges,
        stop: &'a AtomicBool,
    ) -> io::Result<Self> {
        let (rng, poll) = (Rng::new(seed), Poll::new()?);
        let room = vec![0; MESSAGE_LEN_MAX];
        Ok(Stage { transport, server, account, rng, poll, room, gauges, began, stop })
    }

    /// The run's clock, in nanoseconds.
    #[inline]
    pub fn now_ns(&self) -> u64 {
        self.began.elapsed().as_nanos() as u64
    }

    /// Whether somebody wants an early end.
    #[inline]
    pub fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Looks for ready sockets, for at most `wait_ns`. Waits too short to be slept through exactly are not slept at
    /// all: the core stays busy and the departures stay on time.
    #[inline]
    pub fn look(&mut self, events: &mut Events, wait_ns: u64) -> io::Result<()> {
        let sleep_ms = wait_ns.saturating_sub(SLEEP_SLACK_NS) / 1_000_000;
        match self.poll.poll(events, Some(Duration::from_millis(sleep_ms))) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => events.clear(),
            result => result?,
        }
        if events.is_empty() && sleep_ms == 0 && wait_ns > 0 {
            std::thread::yield_now();
        }
        Ok(())
    }

    /// Makes a client that is polled under `token`.
    pub fn client(&mut self, token: usize, peer: SocketAddr) -> io::Result<Client> {
        let mut client = Client::new(self.transport, self.server, peer)?;
        client.link.register(self.poll.registry(), Token(token))?;
        Ok(client)
    }

    /// Begins a step of a client.
    pub fn ask(&mut self, client: &mut Client, step: Step) -> io::Result<()> {
        client.ask(step, self.now_ns(), self.account, &mut self.rng)
    }

    /// Reads what has come for a client until its step is done; whether it is.
    pub fn hear(&mut self, client: &mut Client, step: Step) -> io::Result<bool> {
        client.link.flush()?;
        while let Some(len) = client.link.receive(&mut self.room)? {
            let now = self.now_ns();
            if client.hear(step, &self.room[..len], now, self.account, &mut self.rng)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Leads every client through the same steps, a bounded number at a time. The first that can not go on ends it, and
    /// so does a wish to stop, which is `false`.
    pub fn walk(&mut self, clients: &mut [Client], steps: &[Step]) -> io::Result<bool> {
        let mut events = Events::with_capacity(1024);
        let mut done = vec![0; clients.len()];
        let (mut begun, mut finished) = (0, 0);
        let mut hurried_ns = self.now_ns();
        while finished < clients.len() {
            if self.is_stopped() {
                return Ok(false);
            }
            while begun < clients.len() && begun - finished < UNDER_WAY_MAX {
                self.ask(&mut clients[begun], steps[0])?;
                begun += 1;
            }
            let now = self.now_ns();
            if now - hurried_ns > HURRY_NS {
                hurried_ns = now;
                for i in (0..begun).filter(|&i| done[i] < steps.len()) {
                    clients[i].hurry(steps[done[i]], now, self.account)?;
                }
            }
            self.look(&mut events, HURRY_NS)?;
            for Token(i) in events.iter().map(|event| event.token()) {
                // Readiness is told once: a client whose step is done goes on reading for the next.
                while i < clients.len() && done[i] < steps.len() && self.hear(&mut clients[i], steps[done[i]])? {
                    done[i] += 1;
                    match steps.get(done[i]) {
                        Some(&step) => self.ask(&mut clients[i], step)?,
                        None => finished += 1,
                    }
                }
            }
        }
        Ok(true)
    }
}
