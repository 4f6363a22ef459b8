//! The side plane over its real sockets: HTTP, WebSocket, rooms, credentials, admin.
//!
//! A [`fixture::Fixture`] is a relay and a plane in this process. Nothing here sleeps: a test waits for an
//! answer or for a state that can be seen, with an end.

mod wire_client;

#[path = "plane/admin.rs"]
mod admin;
#[allow(dead_code, reason = "shared with the tests of the daemon")]
#[path = "daemon/certificate.rs"]
mod certificate;
#[allow(dead_code, reason = "shared with the tests of the daemon")]
#[path = "daemon/client.rs"]
mod client;
#[path = "plane/collider.rs"]
mod collider;
#[path = "plane/credentials.rs"]
mod credentials;
#[allow(dead_code, reason = "every test uses a part")]
#[path = "plane/fixture.rs"]
mod fixture;
#[path = "plane/hostile.rs"]
mod hostile;
#[path = "plane/limits.rs"]
mod limits;
#[allow(dead_code, reason = "shared with the tests of the daemon")]
#[path = "daemon/link.rs"]
mod link;
#[path = "plane/metrics.rs"]
mod metrics;
#[allow(dead_code, reason = "shared with the tests of faults")]
#[path = "faults/namespace.rs"]
mod namespace;
#[allow(dead_code, reason = "shared with the tests of the daemon")]
#[path = "daemon/ports.rs"]
mod ports;
#[path = "plane/rooms.rs"]
mod rooms;
#[path = "plane/routes.rs"]
mod routes;
#[path = "faults/untried.rs"]
mod untried;
#[allow(dead_code, reason = "every test uses a part")]
#[path = "plane/wire.rs"]
mod wire;
