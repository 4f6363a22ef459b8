//! The real binary under attack: its counters, and that it has everything back in the end.

use crate::client::Caller;
use crate::link::{PATIENCE, Via};
use crate::ports::LOOPBACK;
use crate::server::Server;
use crate::wire::request;
use crate::wire_client::allocate;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

/// All that `/metrics` says, by name and labels.
#[derive(Clone, Debug)]
pub struct Meters(BTreeMap<String, f64>);

impl Meters {
    /// The value of a metric without labels, or of one with its labels as they stand there.
    pub fn get(&self, name: &str) -> u64 {
        *self.0.get(name).unwrap_or_else(|| panic!("{name} is exported: {self:?}")) as u64
    }

    /// The sum of a metric over its labels.
    pub fn sum(&self, name: &str) -> u64 {
        let named = |key: &&String| key.strip_prefix(name).is_some_and(|rest| rest.starts_with('{'));
        self.0.iter().filter(|(key, _)| named(key)).map(|(_, value)| *value as u64).sum()
    }

    /// What was counted since, by the only label of a metric.
    fn since(&self, before: &Meters, metric: &str) -> Vec<(String, u64)> {
        let label = |key: &str| {
            let labels = key.strip_prefix(metric)?.strip_prefix("{reason=\"")?;
            labels.strip_suffix("\"}").map(str::to_owned)
        };
        let grown = self.0.iter().filter_map(|(key, value)| {
            let label = label(key)?;
            let more = *value as u64 - before.get(key);
            (more > 0).then_some((label, more))
        });
        grown.collect()
    }

    /// Drops since then, by reason.
    pub fn drops_since(&self, before: &Meters) -> Vec<(String, u64)> {
        self.since(before, "turnpike_dropped_packets_total")
    }

    /// Connections that ended since then, by reason.
    pub fn closed_since(&self, before: &Meters) -> Vec<(String, u64)> {
        self.since(before, "turnpike_connections_closed_total")
    }
}

/// What a server holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Holdings {
    files: usize,
    ports_free: u64,
    allocations: u64,
    connections: u64,
}

/// A running server and what it held before anybody came.
pub struct Live {
    pub server: Server,
    admin: SocketAddr,
    before: Holdings,
}

impl Live {
    /// Starts one of one worker, so that what is sent first is handled first. Strangers are answered as often as
    /// they ask; loopback is no peer.
    pub fn start(settings: &[&str]) -> Live {
        let base = [
            "http.admin_listen=127.0.0.1:0",
            "auth.secrets=[\"sixteen bytes or more\"]",
            "relay.allow_loopback_peers=false",
            "relay.addresses=[\"127.0.0.77\", \"::1\"]",
        ];
        let server = Server::start(&[&base, settings].concat());
        let admin = server.told("admin");
        let admin = admin.strip_prefix("http://").and_then(|addr| addr.parse().ok()).expect("an address");
        let mut live = Live { server, admin, before: Holdings::default() };
        live.before = live.holdings();
        // One of each, so that what is opened once for all is open.
        for via in Via::ALL {
            let mut caller = Caller::new(via, live.addr(via, LOOPBACK[0]));
            caller.succeed(allocate());
            caller.end();
        }
        // The scrape itself holds a file for a moment, and free ports are told once a second.
        let mut last = live.holdings();
        live.before = live.until("it comes to rest", || {
            let now = live.holdings();
            let is_same = std::mem::replace(&mut last, now.clone()) == now;
            (is_same && Holdings { files: now.files, ..live.before } == now).then_some(now)
        });
        live
    }

    /// Where clients that come this way are served.
    pub fn addr(&self, via: Via, ip: IpAddr) -> SocketAddr {
        self.server.addr(via.listener(), ip)
    }

    /// A client on UDP: what was sent before it asks, the server has handled when it is answered.
    pub fn witness(&self) -> Caller {
        Caller::new(Via::Udp, self.addr(Via::Udp, LOOPBACK[0]))
    }

    /// The counters now.
    pub fn meters(&self) -> Meters {
        let answer = request(self.admin, "GET", "/metrics", &[("Connection", "close")], "");
        let lines = answer.text().lines().filter(|line| !line.starts_with('#'));
        let parse = |line: &str| {
            let (name, value) = line.rsplit_once(' ').expect("a name and a value");
            (name.to_owned(), value.parse().expect("a value is a number"))
        };
        Meters(lines.map(parse).collect())
    }

    fn holdings(&self) -> Holdings {
        let meters = self.meters();
        Holdings {
            files: self.server.files(),
            ports_free: meters.get("turnpike_ports_free"),
            allocations: meters.sum("turnpike_allocations"),
            connections: meters.get("turnpike_connections"),
        }
    }

    /// Waits, with an end, until there is something.
    pub fn until<T>(&self, what: &str, mut there: impl FnMut() -> Option<T>) -> T {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = there() {
                return found;
            }
            assert!(Instant::now() < end, "it is not so that {what}");
            std::thread::yield_now();
        }
    }

    /// Waits until nobody is connected and nothing allocated.
    pub fn wait_until_deserted(&self) {
        self.until("nothing is left", || {
            let now = self.holdings();
            ((now.allocations, now.connections) == (0, 0)).then_some(())
        });
    }

    /// Fails unless it is alive, still serves everybody, and holds no more than in the beginning.
    pub fn finish(self) {
        for ip in LOOPBACK {
            for via in Via::ALL {
                let mut caller = Caller::new(via, self.addr(via, ip));
                caller.echo();
                caller.succeed(allocate());
                caller.end();
            }
        }
        let mut now = self.holdings();
        let end = Instant::now() + PATIENCE;
        while now != self.before {
            assert!(Instant::now() < end, "it holds {now:?}, and in the beginning {:?}", self.before);
            now = self.holdings();
        }
        self.server.stop();
    }
}
