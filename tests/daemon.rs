//! The daemon on loopback, over real sockets: what clients and peers see of it, and what it costs the host.
//!
//! Most tests run the real binary; those that must know which worker serves whom run the engine inside.
//! Nothing here sleeps: a test waits for an answer, with an end.

mod wire_client;

#[path = "daemon/admin.rs"]
mod admin;
#[path = "daemon/caps.rs"]
mod caps;
#[path = "daemon/certificate.rs"]
mod certificate;
#[path = "daemon/client.rs"]
mod client;
#[path = "daemon/drain.rs"]
mod drain;
#[path = "daemon/flood.rs"]
mod flood;
#[path = "daemon/headers.rs"]
mod headers;
#[path = "daemon/icmp.rs"]
mod icmp;
#[path = "daemon/inside.rs"]
mod inside;
#[path = "daemon/lifecycle.rs"]
mod lifecycle;
#[path = "daemon/limits.rs"]
mod limits;
#[path = "daemon/link.rs"]
mod link;
#[path = "daemon/load.rs"]
mod load;
#[path = "daemon/log.rs"]
mod log;
#[path = "daemon/pairs.rs"]
mod pairs;
#[path = "daemon/ports.rs"]
mod ports;
#[allow(dead_code, reason = "shared with the tests of secrets")]
#[path = "secrets/program.rs"]
mod program;
#[path = "daemon/ranges.rs"]
mod ranges;
#[path = "daemon/refusals.rs"]
mod refusals;
#[path = "daemon/relaying.rs"]
mod relaying;
#[path = "daemon/reload.rs"]
mod reload;
#[path = "daemon/resources.rs"]
mod resources;
#[path = "daemon/revocation.rs"]
mod revocation;
#[path = "daemon/server.rs"]
mod server;
#[path = "daemon/steering.rs"]
mod steering;
#[path = "daemon/streams.rs"]
mod streams;
#[path = "daemon/top.rs"]
mod top;
#[path = "faults/untried.rs"]
mod untried;
