//! What breaks under a server, done to the real binary: each fault is injected, and what must come of it is counted.
//!
//!     cargo test --test faults                                       all of them, within a minute or two
//!     TURNPIKE_FAULTS=long cargo test --release --test faults -- --include-ignored --skip the_far_end
//!                                                                    as many and as long as docs/reliability.md says
//!
//! Errors of system calls come from strace, lost packets from a hop of the test's own, a broken network from namespaces
//! that end with the test. Where the machine refuses one of these (no ptrace, no namespaces, a missing program), the
//! test says NOT TRIED and why on stderr; with CI=true it fails, unless TURNPIKE_FAULTS_MAY_SKIP=1. Nothing here is
//! timed: who loses nothing is counted packet by packet, each sent when the one before has come.

mod wire_client;

#[allow(dead_code, reason = "shared with the tests of the daemon")]
#[path = "daemon/certificate.rs"]
mod certificate;
#[allow(dead_code, reason = "shared with the tests of the daemon")]
#[path = "daemon/client.rs"]
mod client;
#[allow(dead_code, reason = "shared with the tests of the daemon")]
#[path = "daemon/link.rs"]
mod link;
#[allow(dead_code, reason = "shared with the tests of the daemon")]
#[path = "daemon/ports.rs"]
mod ports;
#[allow(dead_code, reason = "shared with the tests of the daemon")]
#[path = "daemon/server.rs"]
mod server;

#[path = "faults/call.rs"]
mod call;
#[path = "faults/clocks.rs"]
mod clocks;
#[path = "faults/injection.rs"]
mod injection;
#[path = "faults/life.rs"]
mod life;
#[path = "faults/lossy.rs"]
mod lossy;
#[path = "faults/namespace.rs"]
mod namespace;
#[path = "faults/network.rs"]
mod network;
#[path = "faults/reload.rs"]
mod reload;
#[path = "faults/resources.rs"]
mod resources;
#[path = "faults/sending.rs"]
mod sending;
#[path = "faults/strangers.rs"]
mod strangers;
#[path = "faults/untried.rs"]
mod untried;
#[path = "faults/workers.rs"]
mod workers;
