//! An engine inside the test, for those that must see its counters: who is served by which worker, and why
//! something was dropped.

use super::certificate;
use super::client::Caller;
use super::link::Via;
use super::ports::{LOOPBACK, Stretch};
use crate::wire_client::{ALICE, BOB, REALM, SECRET};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};
use turnpike::bus::Workers;
use turnpike::engine::{self, Engine, External, Limits, Listen, Protocol, RelayConfig};
use turnpike::stats::WorkerStats;
use turnpike::turn;
use turnpike::turn::auth::{Credentials, Secret};
use turnpike::turn::policy::PeerPolicy;

/// Clients that are tried until each worker serves the number that is wanted.
const CALLERS_MAX: usize = 200;

/// How long what has to happen may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Waits, busy clients being what makes a worker's clock go on, until the counters say so.
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < end, "{what}");
        std::thread::yield_now();
    }
}

/// A running engine, stopped when the test is over.
pub struct Inside {
    engine: Option<Engine>,
    /// The ports it relays from, and those beside them.
    pub ports: Stretch,
}

/// What a test may want otherwise: everything else is as in the configuration of the real binary's tests.
pub struct Wish {
    /// Threads.
    pub workers: usize,
    /// 1:1 NAT before the relayed addresses.
    pub external: Vec<External>,
    /// Whether loopback may be reached.
    pub allow_loopback: bool,
}

impl Inside {
    /// Starts one of so many threads that reaches peers on loopback.
    pub fn of(workers: usize) -> Inside {
        Inside::start(Wish { workers, external: Vec::new(), allow_loopback: true })
    }

    /// Starts an engine on both loopback addresses.
    pub fn start(wish: Wish) -> Inside {
        let protocols = [Protocol::Udp, Protocol::Tcp, Protocol::Tls];
        let listen = LOOPBACK
            .into_iter()
            .flat_map(|ip| protocols.map(|protocol| Listen { addr: SocketAddr::new(ip, 0), protocol, required: true }));
        let mut auth = Credentials::new(REALM);
        for (name, password) in [ALICE, BOB] {
            auth.add_user(name, password);
        }
        auth.secrets = vec![Secret::new(SECRET)];
        let ports = Stretch::next();
        let engine = engine::spawn(engine::Config {
            workers: wish.workers,
            listen: listen.collect(),
            tls: Some(certificate::server()),
            relay: RelayConfig { ports: ports.relay(), addresses: Vec::new(), external: wish.external },
            moderation_max: std::time::Duration::ZERO,
            limits: Limits::default(),
            log: turnpike::bus::LogChoice::default(),
            turn: turn::Config {
                realm: REALM.into(),
                auth,
                policy: PeerPolicy { allow_loopback: wish.allow_loopback, ..PeerPolicy::default() },
                limits: turn::Limits { unverified_per_second: 0, ..turn::Limits::default() },
                ..turn::Config::default()
            },
        });
        Inside { engine: Some(engine.expect("the engine starts")), ports }
    }

    fn engine(&self) -> &Engine {
        self.engine.as_ref().expect("it runs until it is dropped")
    }

    /// Where clients that come this way are served on an address.
    pub fn addr(&self, via: Via, ip: IpAddr) -> SocketAddr {
        let protocol = match via {
            Via::Udp => Protocol::Udp,
            Via::Tcp => Protocol::Tcp,
            Via::Tls12 | Via::Tls13 => Protocol::Tls,
        };
        let mut listening = self.engine().listening().iter();
        let found = listening.find(|listen| listen.protocol == protocol && listen.addr.ip() == ip);
        found.expect("every protocol is served on both addresses").addr
    }

    /// The engine's workers, to steer and watch.
    pub fn workers(&self) -> Workers {
        self.engine().workers()
    }

    /// Puts another configuration in force.
    pub fn configure(&self, config: turn::Config) {
        self.engine().configure(config, &Limits::default(), turnpike::bus::LogChoice::default());
    }

    /// The sum of a counter over the workers.
    pub fn total(&self, counter: impl Fn(&WorkerStats) -> u64) -> u64 {
        self.engine().stats().iter().map(|stats| counter(stats)).sum()
    }

    /// Allocates for clients until each worker serves `count` of them, and returns these with their relayed
    /// addresses, worker by worker. Which worker serves a client is the kernel's choice.
    pub fn callers(&self, via: Via, ip: IpAddr, count: usize) -> Vec<(Caller, SocketAddr)> {
        let stats = self.engine().stats();
        let created = || stats.iter().map(|stats| stats.created.get()).collect::<Vec<_>>();
        let mut served: Vec<Vec<(Caller, SocketAddr)>> = stats.iter().map(|_| Vec::new()).collect();
        for _ in 0..CALLERS_MAX {
            let before = created();
            let caller = Caller::allocated(via, self.addr(via, ip));
            let after = created();
            let worker = (0..before.len()).find(|&worker| before[worker] != after[worker]);
            served[worker.expect("some worker made the allocation")].push(caller);
            if served.iter().all(|callers| callers.len() >= count) {
                return served.into_iter().flat_map(|callers| callers.into_iter().take(count)).collect();
            }
        }
        panic!("one worker serves them all");
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        if let Some(engine) = self.engine.take() {
            engine.stop();
        }
    }
}
