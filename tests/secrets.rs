//! Nothing secret is ever told to anybody but who asked for it: a day of the real binary with the log at its
//! most talkative, and every secret there is a marker that is looked for in all that was said and written.
//!
//! [`marker`] knows the forms a secret can leak in, [`heard`] keeps what was said and judges it, [`program`] runs
//! the binary. A text that is the answer to who asked may hold the marker it is about, and then must: so every
//! run also shows that markers are found.

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
#[allow(dead_code, reason = "shared with the tests of the plane")]
#[path = "plane/wire.rs"]
mod wire;

#[path = "secrets/commands.rs"]
mod commands;
#[path = "secrets/coturn.rs"]
mod coturn;
#[path = "secrets/day.rs"]
mod day;
#[path = "secrets/heard.rs"]
mod heard;
#[path = "secrets/marker.rs"]
mod marker;
#[path = "secrets/memory.rs"]
mod memory;
#[path = "secrets/mistakes.rs"]
mod mistakes;
#[path = "secrets/program.rs"]
mod program;
#[path = "faults/untried.rs"]
mod untried;
#[path = "secrets/values.rs"]
mod values;

/// What the client of HTTP that is shared with the tests of the plane expects beside itself.
mod fixture {
    /// How long an answer may take.
    pub const PATIENCE: std::time::Duration = std::time::Duration::from_secs(20);
}
