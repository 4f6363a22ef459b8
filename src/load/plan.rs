//! A load as it is asked for, and each thread's share of it. Pure.

use super::client::Account;
use super::link::Transport;
use super::pace::{Pace, Rng};
use super::payload::PAYLOAD_LEN_MIN;
use super::sources::Network;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// The largest payload, in bytes: a Send indication around it still fits a datagram.
pub const SIZE_MAX: usize = 65_000;
/// Packets of a burst, at most.
pub const BURST_MAX: u32 = 10_000;
/// Clients, at most.
pub const ALLOCATIONS_MAX: usize = 1_000_000;
/// Threads, at most.
pub const THREADS_MAX: usize = 256;
/// Files that a thread has open besides its clients: its poll, its peer, and what it looks into meanwhile.
const FILES_PER_THREAD: u64 = 8;
/// Files that the program has open besides.
const FILES_SPARE: u64 = 32;

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
    /// Allocations are made, given a permission and a channel and given back, as many at a time as --allocations says
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
    pub const fn name(self) -> &'static str {
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
    pub const fn unit(self) -> &'static str {
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

/// Whether bursts leave as super-packets (UDP_SEGMENT).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Gso {
    /// Where the kernel takes them; one by one else
    #[default]
    Auto,
    /// Always one by one, though with one system call
    Off,
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
    /// Clients; 1 to [`ALLOCATIONS_MAX`], even for [`Mode::Pair`].
    pub allocations: usize,
    /// Packets or requests a second, of all clients together; 0 is flat-out.
    pub rate: f64,
    /// How departures follow each other.
    pub pace: Pace,
    /// Packets that leave at once on one allocation: 1 to [`BURST_MAX`].
    pub burst: u32,
    /// How those of a burst leave over UDP.
    pub gso: Gso,
    /// Packets under way when flat-out; at least 1. A burst may go beyond it.
    pub window: usize,
    /// How long it goes on before anything is counted.
    pub warm_up: Duration,
    /// How long it is counted.
    pub duration: Duration,
    /// Payload of a packet, in bytes: [`PAYLOAD_LEN_MIN`] to [`SIZE_MAX`].
    pub size: usize,
    /// Threads; each has its share of clients and rate. 1 to [`THREADS_MAX`].
    pub threads: usize,
    /// Whether a thread never sleeps, so that nobody pays for waking it.
    pub spin: bool,
    /// Where clients come from, each from an address of its own; without it from where the system likes.
    pub sources: Option<Network>,
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

impl Config {
    /// Says what can not be done.
    pub fn check(&self) -> Result<(), String> {
        let sizes = PAYLOAD_LEN_MIN..=SIZE_MAX;
        match () {
            () if !(1..=ALLOCATIONS_MAX).contains(&self.allocations) => {
                Err(format!("--allocations is between 1 and {ALLOCATIONS_MAX}"))
            }
            () if self.mode == Mode::Pair && !self.allocations.is_multiple_of(2) => {
                Err("--allocations is even for --mode pair".into())
            }
            () if !sizes.contains(&self.size) => {
                Err(format!("--size is between {} and {}", sizes.start(), sizes.end()))
            }
            () if !(self.rate >= 0.0 && self.rate.is_finite()) => Err("--rate is 0 or more".into()),
            () if !(1..=BURST_MAX).contains(&self.burst) => Err(format!("--burst is between 1 and {BURST_MAX}")),
            () if self.window == 0 => Err("--window is at least 1".into()),
            () if !(1..=THREADS_MAX).contains(&self.threads) => {
                Err(format!("--threads is between 1 and {THREADS_MAX}"))
            }
            () if self.sources.is_some_and(|sources| sources.is_ipv4() != self.server.is_ipv4()) => {
                Err(format!("--sources is of another family than the server's address {}", self.server))
            }
            () if self.duration.is_zero() => Err("--duration is above 0".into()),
            () => Ok(()),
        }
    }

    /// Says whether so many open files are enough.
    pub fn check_files(&self, files: u64) -> Result<(), String> {
        let others = self.shares().len() as u64 * FILES_PER_THREAD + FILES_SPARE;
        if self.allocations as u64 + others <= files {
            return Ok(());
        }
        let most = files.saturating_sub(others);
        Err(format!(
            "--allocations {} needs more open files than this program may have ({files}): {most} is the most, or raise \
             the hard limit (ulimit -H -n, LimitNOFILE=)",
            self.allocations
        ))
    }

    /// Divides the load by threads, no more of them than clients or pairs.
    pub fn shares(&self) -> Vec<Share> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::client::Account;

    fn config(allocations: usize, threads: usize) -> Config {
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 9));
        Config {
            server: nowhere,
            transport: Transport::Udp,
            account: Account { user: String::new(), password: Default::default() },
            mode: Mode::Pair,
            via: Via::Channel,
            allocations,
            rate: 300.0,
            pace: Pace::Poisson,
            burst: 1,
            gso: Gso::Auto,
            window: 7,
            warm_up: Duration::ZERO,
            duration: Duration::from_secs(1),
            size: 160,
            threads,
            spin: false,
            sources: None,
            peer: nowhere.ip(),
            pid: None,
            seed: 1,
        }
    }

    #[test]
    fn the_shares_are_the_whole() {
        for threads in 1..9 {
            let shares = config(12, threads).shares();
            assert_eq!(shares.len(), threads.min(6));
            assert_eq!(shares.iter().map(|share| share.flows).sum::<usize>(), 12);
            assert!(shares.iter().all(|share| share.flows.is_multiple_of(2) && share.flows > 0));
            assert!((shares.iter().map(|share| share.rate).sum::<f64>() - 300.0).abs() < 1e-9);
            assert!(shares.iter().map(|share| share.window).sum::<usize>() >= 7);
        }
    }

    #[test]
    fn limits_are_taken_and_what_is_beyond_is_refused() {
        let load = config(ALLOCATIONS_MAX, THREADS_MAX);
        assert_eq!(load.check(), Ok(()));
        assert_eq!(load.shares().len(), THREADS_MAX);
        for wrong in [config(ALLOCATIONS_MAX + 1, 1), config(2, THREADS_MAX + 1), config(0, 1), config(2, 0)] {
            assert!(Config { mode: Mode::Both, ..wrong }.check().is_err());
        }
        for (size, is_right) in
            [(PAYLOAD_LEN_MIN - 1, false), (PAYLOAD_LEN_MIN, true), (SIZE_MAX, true), (SIZE_MAX + 1, false)]
        {
            assert_eq!(Config { size, ..config(2, 1) }.check().is_ok(), is_right, "{size}");
        }
    }

    #[test]
    fn clients_come_from_the_servers_family() {
        for (network, is_right) in [("127.16.0.0/12", true), ("2001:db8::/64", false)] {
            let sources = Some(network.parse().unwrap());
            assert_eq!(Config { sources, ..config(2, 1) }.check().is_ok(), is_right, "{network}");
        }
    }

    #[test]
    fn files_are_enough_or_it_says_how_many_allocations_are() {
        let load = config(1000, 2);
        let needed = 1000 + 2 * FILES_PER_THREAD + FILES_SPARE;
        assert_eq!(load.check_files(needed), Ok(()));
        let error = load.check_files(needed - 1).unwrap_err();
        assert!(error.contains("999 is the most"), "{error}");
    }
}
