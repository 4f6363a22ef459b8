//! Where a trial's clients are led from: one poll, one clock, and a limit of time for everything.

use super::words::Fault;
use crate::load::client::{Account, Client, Step};
use crate::load::link::{Transport, anywhere};
use crate::load::pace::Rng;
use mio::net::UdpSocket;
use mio::{Events, Interest, Poll, Token};
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Longest message read, in bytes.
pub const MESSAGE_LEN_MAX: usize = 66_000;
/// Messages read from one socket before the clock and the user's wish to stop are looked at again, however many wait.
pub const MESSAGES_AT_ONCE: usize = 1024;
/// How long the answer is waited for that an allocation has been given back.
const FREE_TIMEOUT: Duration = Duration::from_secs(1);
/// How often it is looked whether an answer is overdue or the user has had enough.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What a trial stands on.
pub struct Desk<'a> {
    /// Room for one message.
    pub room: Vec<u8>,
    /// Randomness of transactions.
    pub rng: Rng,
    /// How long a step waits for the server.
    pub timeout: Duration,
    poll: Poll,
    events: Events,
    began: Instant,
    stop: &'a AtomicBool,
    sockets: usize,
}

impl<'a> Desk<'a> {
    /// A desk for one thread.
    pub fn new(timeout: Duration, stop: &'a AtomicBool) -> io::Result<Self> {
        let mut seed = [0; 8];
        getrandom::fill(&mut seed).map_err(|error| io::Error::other(format!("there is no randomness: {error}")))?;
        Ok(Desk {
            room: vec![0; MESSAGE_LEN_MAX],
            rng: Rng::new(u64::from_ne_bytes(seed)),
            timeout,
            poll: Poll::new()?,
            events: Events::with_capacity(16),
            began: Instant::now(),
            stop,
            sockets: 0,
        })
    }

    /// Its clock, in nanoseconds.
    pub fn now_ns(&self) -> u64 {
        self.began.elapsed().as_nanos() as u64
    }

    /// A fault when the user wants an early end.
    pub fn go_on(&self) -> Result<(), Fault> {
        if self.stop.load(Ordering::Relaxed) { Err(Fault::Stopped) } else { Ok(()) }
    }

    /// A client that begins to connect to a server and asks for relayed addresses of its family.
    pub fn client(&mut self, transport: &Transport, server: SocketAddr) -> Result<Client, Fault> {
        let anywhere = anywhere(server);
        let mut client = Client::new(transport, server, anywhere, SocketAddr::new(anywhere, 0))?;
        client.link.register(self.poll.registry(), Token(self.sockets))?;
        self.sockets += 1;
        Ok(client)
    }

    /// Has a socket wake it.
    pub fn watch(&mut self, socket: &mut UdpSocket) -> io::Result<()> {
        self.poll.registry().register(socket, Token(self.sockets), Interest::READABLE)?;
        self.sockets += 1;
        Ok(())
    }

    /// Waits until a client's connection and TLS session stand.
    pub fn connect(&mut self, client: &mut Client) -> Result<(), Fault> {
        let began = Instant::now();
        while !client.link.stands()? {
            self.go_on()?;
            if began.elapsed() >= self.timeout {
                return Err(Fault::Silence { tries: 1 });
            }
            self.rest(LOOK_EVERY)?;
        }
        Ok(())
    }

    /// Leads a client through one exchange and says how long the answer took.
    pub fn ask(&mut self, client: &mut Client, step: Step, account: &Account) -> Result<Duration, Fault> {
        let began = Instant::now();
        client.ask(step, self.now_ns(), account, &mut self.rng)?;
        loop {
            client.link.flush()?;
            for _ in 0..MESSAGES_AT_ONCE {
                let Some(len) = client.link.receive(&mut self.room)? else { break };
                let now_ns = self.now_ns();
                if client.hear(step, &self.room[..len], now_ns, account, &mut self.rng)? {
                    return Ok(began.elapsed());
                }
            }
            if step != Step::Free {
                self.go_on()?;
            }
            if began.elapsed() >= self.timeout {
                let tries = if client.link.is_lossy() { client.tries() } else { 1 };
                return Err(Fault::Silence { tries });
            }
            client.hurry(step, self.now_ns(), account)?;
            self.rest(LOOK_EVERY.min(self.timeout.saturating_sub(began.elapsed())))?;
        }
    }

    /// Gives an allocation back, as far as the server lets it in some time: one that stays expires by itself.
    pub fn free(&mut self, client: &mut Client, account: &Account) {
        if client.is_allocated() {
            let timeout = std::mem::replace(&mut self.timeout, FREE_TIMEOUT);
            let _ = self.ask(client, Step::Free, account);
            self.timeout = timeout;
        }
    }

    /// Sleeps until a socket is ready, for at most so long. What woke it is for the caller to find out by reading.
    pub fn rest(&mut self, wait: Duration) -> io::Result<()> {
        match self.poll.poll(&mut self.events, Some(wait)) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => Err(error),
            _ => Ok(()),
        }
    }
}
