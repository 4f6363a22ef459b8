//! The side plane over its real sockets: HTTP, WebSocket, rooms, credentials, admin.

#[path = "plane/admin.rs"]
mod admin;
#[path = "plane/collider.rs"]
mod collider;
#[path = "plane/credentials.rs"]
mod credentials;
#[path = "plane/fixture.rs"]
mod fixture;
#[path = "plane/limits.rs"]
mod limits;
#[path = "plane/metrics.rs"]
mod metrics;
#[path = "plane/rooms.rs"]
mod rooms;
#[path = "plane/routes.rs"]
mod routes;
