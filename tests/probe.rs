//! `turnpike probe` against the real daemon, Debian's coturn, and servers that do less than they should.
//!
//! Nothing here is timed: what counts is what is found, the words for what is not, and that nothing is left behind.

#[allow(dead_code, reason = "shared with the tests of foreign clients")]
mod foreign;
mod wire_client;

#[allow(dead_code, reason = "shared with the tests of the daemon")]
#[path = "daemon/certificate.rs"]
mod certificate;
#[allow(dead_code, reason = "shared with the tests of the daemon")]
#[path = "daemon/ports.rs"]
mod ports;
#[allow(dead_code, reason = "shared with the tests of the daemon")]
#[path = "daemon/server.rs"]
mod server;

#[path = "probe/coturn.rs"]
mod coturn;
#[path = "probe/daemon.rs"]
mod daemon;
#[path = "probe/narrow.rs"]
mod narrow;
#[path = "probe/runs.rs"]
mod runs;
#[path = "probe/strange.rs"]
mod strange;
