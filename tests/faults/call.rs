//! A call through the server, counted packet by packet: the next leaves when the last has come, so what is missing was
//! lost and not late.

use super::client::{Caller, Delivery, Peer, pattern};
use super::link::Via;
use super::ports::LOOPBACK;
use super::server::Server;
use crate::wire_client::refresh;
use std::net::SocketAddr;

/// The channel of every call.
pub const CHANNEL: u16 = 0x4000;
/// Settings of a server whose metrics are asked for.
pub const WATCHED: &str = "http.admin_listen=127.0.0.1:0";

/// Lets one address have more allocations than it usually may: all clients of these tests come from one.
pub const FROM_ONE_SOURCE: &str = "limits.allocations_per_source=0";

/// A client with an allocation, and its peer.
pub struct Call {
    /// The client.
    pub caller: Caller,
    /// Its relayed address.
    pub relayed: SocketAddr,
    /// Whom it talks to.
    pub peer: Peer,
    seed: usize,
}

impl Call {
    /// Begins one on IPv4.
    pub fn begin(server: &Server, via: Via) -> Call {
        let (mut caller, relayed) = Caller::allocated(via, server.addr(via.listener(), LOOPBACK[0]));
        let peer = Peer::new(LOOPBACK[0]);
        caller.bind(CHANNEL, peer.addr());
        Call { caller, relayed, peer, seed: 0 }
    }

    /// So many packets there and as many back; one that does not come is a panic.
    pub fn exchange(&mut self, packets: usize) {
        for _ in 0..packets {
            self.seed += 1;
            self.caller.send_on(CHANNEL, &pattern(self.seed, 160));
            assert_eq!(self.peer.receive(), (pattern(self.seed, 160), self.relayed));
            self.peer.send(self.relayed, &pattern(self.seed, 170));
            assert_eq!(self.caller.receive(), Delivery::Channel(CHANNEL, pattern(self.seed, 170)));
        }
    }

    /// It is still the allocation it was, and relays.
    pub fn goes_on(&mut self) {
        assert_eq!(self.caller.code(refresh(600)), 0, "the allocation is there");
        self.exchange(3);
    }
}

/// Lets this process have as many files open as it may: clients over UDP keep theirs, so that no address comes twice.
pub fn allow_many_files() {
    let limits = std::fs::read_to_string("/proc/self/limits").expect("the kernel has limits");
    let line = limits.lines().find(|line| line.starts_with("Max open files")).expect("of files too");
    let hard = line.split_whitespace().nth(4).expect("soft, then hard");
    let pid = std::process::id().to_string();
    super::namespace::run(&["prlimit", "--pid", &pid, &format!("--nofile={hard}:")]);
}

/// Waits until a metric has a value. Each look is a request to the server.
pub fn metric_becomes(server: &Server, name: &str, wanted: u64) {
    let end = std::time::Instant::now() + super::link::PATIENCE;
    loop {
        let found = server.metric(name);
        if found == wanted {
            return;
        }
        assert!(std::time::Instant::now() < end, "{name} is {found} and not {wanted}");
    }
}

/// Allocations there are on IPv4 for clients on UDP or TCP.
pub fn allocations(server: &Server) -> u64 {
    ["udp", "tcp"].into_iter().map(|transport| server.metric(&live(transport))).sum()
}

/// The metric that counts the allocations there are of a transport.
pub fn live(transport: &str) -> String {
    format!("turnpike_allocations{{transport=\"{transport}\",family=\"ipv4\"}}")
}

/// The metric that counts drops for a reason.
pub fn drops(reason: &str) -> String {
    format!("turnpike_dropped_packets_total{{reason=\"{reason}\"}}")
}
