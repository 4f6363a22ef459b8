//! One test for each requirement of RFC 8489 and RFC 8656 that needs no socket to be shown.
//!
//! A test is named `cf_<row>_s<section>_<what>`; `docs/conformance.md` lists every row, those without a test
//! here too, and `document` compares the two. `methods` walks the table of requests.

mod wire_client;

#[path = "rfc8656/allocations.rs"]
mod allocations;
#[path = "rfc8656/caps.rs"]
mod caps;
#[path = "rfc8656/channels.rs"]
mod channels;
#[path = "rfc8656/credentials.rs"]
mod credentials;
#[path = "rfc8656/document.rs"]
mod document;
#[path = "rfc8656/drain.rs"]
mod drain;
#[path = "rfc8656/methods.rs"]
mod methods;
#[path = "rfc8656/permissions.rs"]
mod permissions;
#[path = "rfc8656/refresh.rs"]
mod refresh;
#[path = "rfc8656/revocation.rs"]
mod revocation;
#[path = "rfc8656/stun.rs"]
mod stun;
#[path = "rfc8656/unverified.rs"]
mod unverified;

use std::net::SocketAddr;

/// An IPv4 peer that the policy allows.
fn peer4() -> SocketAddr {
    wire_client::peer("8.8.8.8:7000")
}

/// An IPv6 peer that the policy allows.
fn peer6() -> SocketAddr {
    wire_client::peer("[2400::1]:7000")
}
