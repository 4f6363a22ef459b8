//! The JSON of the API, as OpenAPI describes it.
//!
//! Fields are only ever added. Counts are since the start; times of day are Unix seconds.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::{IntoParams, ToSchema};

/// What the server does, in figures.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Status {
    /// The server's version.
    pub version: &'static str,
    /// The realm of its credentials.
    pub realm: String,
    /// When the side plane started.
    pub started_unix_s: u64,
    /// How long ago that is.
    pub uptime_s: u64,
    /// Whether it takes no new allocation.
    pub draining: bool,
    /// How it ends; null unless it drains.
    pub drain: Option<DrainShape>,
    /// Relay threads.
    pub workers: usize,
    /// Where clients come to.
    pub listening: Vec<Listening>,
    /// Allocations there are.
    pub allocations: u64,
    /// Them by kind; one with addresses of both families counts in both.
    pub allocations_by: Vec<AllocationsBy>,
    /// Allocations that began.
    pub allocations_created_total: u64,
    /// Allocations that ended, by reason; every reason is there.
    pub ended: BTreeMap<&'static str, u64>,
    /// Live permissions, about a second old.
    pub permissions: u64,
    /// Live channel bindings, about a second old.
    pub channels: u64,
    /// Client connections over TCP and TLS.
    pub connections: u64,
    /// Free relay ports on all relay addresses.
    pub ports_free: u64,
    /// What was relayed.
    pub relay: Relayed,
    /// How fast it is relayed; null in the first second.
    pub rates: Option<RelayRates>,
    /// Packets dropped, by reason; every reason is there.
    pub dropped: BTreeMap<&'static str, u64>,
    /// Requests answered; those that never happened are left out.
    pub requests: Vec<Requests>,
    /// Rooms.
    pub rooms: RoomCounts,
    /// The TLS certificate, if there is one.
    pub certificate: Option<CertificateShape>,
    /// Notices that nobody had room for.
    pub notices_lost: u64,
    /// What the process uses.
    pub process: UsageShape,
}

/// One address clients come to.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Listening {
    /// `udp`, `tcp` or `tls`.
    pub protocol: &'static str,
    /// Address and port.
    pub address: String,
}

/// Allocations of a kind.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct AllocationsBy {
    /// The client's transport.
    pub transport: &'static str,
    /// `ipv4` or `ipv6`: the relayed address's.
    pub family: &'static str,
    /// How many there are.
    pub count: u64,
}

/// Packets and application bytes each way.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Relayed {
    /// From clients to peers.
    pub to_peer: VolumeShape,
    /// From peers to clients.
    pub to_client: VolumeShape,
}

/// Packets and application bytes.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[schema(as = Volume)]
pub struct VolumeShape {
    /// Packets.
    pub packets: u64,
    /// Bytes without framing.
    pub bytes: u64,
}

/// Rates each way.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub struct RelayRates {
    /// From clients to peers.
    pub to_peer: RateShape,
    /// From peers to clients.
    pub to_client: RateShape,
}

/// Packets and application bytes a second, over the last second or so.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[schema(as = Rate)]
pub struct RateShape {
    /// Packets a second.
    pub packets_per_s: f64,
    /// Bytes a second.
    pub bytes_per_s: f64,
}

/// Answers to one method with one code.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Requests {
    /// `binding`, `allocate`, `refresh`, `create_permission` or `channel_bind`.
    pub method: &'static str,
    /// `success`, an error code, or `other`.
    pub code: String,
    /// How many.
    pub count: u64,
}

/// How busy the rooms are.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub struct RoomCounts {
    /// Rooms with someone in them.
    pub rooms: usize,
    /// Clients in rooms.
    pub clients: usize,
    /// Open WebSockets.
    pub sockets: usize,
}

/// The TLS certificate.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Certificate)]
pub struct CertificateShape {
    /// The names it is for.
    pub names: Vec<String>,
    /// Who issued it.
    pub issuer: String,
    /// When it ends.
    pub not_after_unix_s: u64,
}

/// What the process uses.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[schema(as = Usage)]
pub struct UsageShape {
    /// Memory in RAM.
    pub rss_bytes: u64,
    /// Processor time used, user and system.
    pub cpu_s: f64,
    /// Open files.
    pub open_fds: u64,
}

/// What to list.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct SessionsQuery {
    /// Only those of this account, or with this whole username.
    pub user: Option<String>,
    /// Only those of this client: an address, or address and port.
    pub client: Option<String>,
    /// Only those over `udp`, `tcp` or `tls`.
    pub transport: Option<String>,
    /// Only the one with this relayed address: an address, or address and port.
    pub relayed: Option<String>,
    /// How many at most: 200 unless given, 1000 at most.
    pub limit: Option<usize>,
    /// Go on behind this session; only in the order of ids.
    pub after: Option<String>,
    /// The order: by id unless given; the largest come first.
    #[param(inline)]
    pub sort: Option<Sort>,
}

/// An order of sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Sort {
    /// What they carried, both ways.
    Bytes,
    /// How long they have lived.
    Age,
    /// Bytes a second, both ways.
    Rate,
}

/// Whose sessions to end.
#[derive(Clone, Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct KickQuery {
    /// The account, as `user` of a session says it.
    pub user: String,
}

/// Some sessions, at most some seconds old.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Sessions {
    /// The sessions.
    pub sessions: Vec<SessionShape>,
    /// How many match, listed or not.
    pub total: usize,
    /// `after` of the next page; null on the last one, and in an order other than that of ids.
    pub next: Option<String>,
    /// Whether some are missing, because a worker did not show all of its own in time.
    pub partial: bool,
}

/// A session: an allocation and its client.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Session)]
pub struct SessionShape {
    /// What it is.
    #[serde(flatten)]
    pub identity: Identity,
    /// Live permissions.
    pub permissions: usize,
    /// Live channel bindings.
    pub channels: usize,
    /// From the client to peers.
    pub to_peer: Flow,
    /// From peers to the client.
    pub to_client: Flow,
}

/// A session with all that belongs to it.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct SessionDetail {
    /// What it is.
    #[serde(flatten)]
    pub identity: Identity,
    /// Live permissions.
    pub permissions: Vec<PermissionShape>,
    /// Live channel bindings.
    pub channels: Vec<ChannelShape>,
    /// From the client to peers.
    pub to_peer: Flow,
    /// From peers to the client.
    pub to_client: Flow,
}

/// Which session it is, whose, and where.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Identity {
    /// Its name on this server.
    #[schema(example = "0-12-3")]
    pub id: String,
    /// The account that pays for it.
    pub user: String,
    /// The username the client sent. What is not UTF-8 in it is replaced.
    pub username: String,
    /// `udp`, `tcp` or `tls`.
    pub transport: &'static str,
    /// The client's address and port.
    pub client: String,
    /// The server's address and port the client came to.
    pub server: String,
    /// The relayed addresses and ports, IPv4 before IPv6.
    pub relayed: Vec<String>,
    /// How long it has lived.
    pub age_s: u64,
    /// When it ends unless refreshed.
    pub expires_in_s: u64,
}

/// What went one way.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub struct Flow {
    /// Packets.
    pub packets: u64,
    /// Bytes without framing.
    pub bytes: u64,
    /// Packets a second; missing until the session was looked at twice.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub packets_per_s: Option<f64>,
    /// Bytes a second; missing until the session was looked at twice.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_per_s: Option<f64>,
}

/// A permission.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Permission)]
pub struct PermissionShape {
    /// The peer's address.
    pub peer: String,
    /// When it ends unless refreshed.
    pub expires_in_s: u64,
}

/// A channel binding.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Channel)]
pub struct ChannelShape {
    /// The number, in hexadecimal.
    #[schema(example = "0x4000")]
    pub number: String,
    /// The peer's address and port.
    pub peer: String,
    /// When it ends unless refreshed.
    pub expires_in_s: u64,
}

/// How many sessions were ended.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub struct Closed {
    /// How many.
    pub closed: usize,
    /// Whether some may be left, because a worker did not answer in time.
    pub partial: bool,
}

/// Whether new allocations are refused.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub struct Draining {
    /// Whether they are.
    pub draining: bool,
    /// How that ends; null unless they are.
    pub drain: Option<DrainShape>,
}

/// A drain under way.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[schema(as = Drain)]
pub struct DrainShape {
    /// Seconds until the server ends whatever is left; null: it waits for the last allocation.
    pub left_s: Option<u64>,
    /// Whether the server was told to end by a signal: then it can not be taken back.
    #[serde(rename = "final")]
    pub is_final: bool,
}

/// How to drain.
#[derive(Clone, Copy, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DrainWanted {
    /// Seconds until the server ends whatever is left, 1 to 604800; without it the server waits
    /// for the last allocation.
    pub timeout: Option<u64>,
}

/// What a reload did.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Reloaded)]
pub struct ReloadedShape {
    /// Keys whose new values are in force.
    pub applied: Vec<String>,
    /// Keys whose new values need a restart.
    pub needs_restart: Vec<String>,
}

/// A room.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Room)]
pub struct RoomShape {
    /// Its name.
    pub room: String,
    /// Who is in it.
    pub clients: Vec<RoomClient>,
    /// Messages that wait in it.
    pub queued: usize,
}

/// Someone in a room.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct RoomClient {
    /// The client's id.
    pub id: String,
    /// Whether it makes the offer.
    pub initiator: bool,
    /// Whether its WebSocket is open.
    pub registered: bool,
    /// How long it has been there.
    pub age_s: u64,
}

/// One key of the configuration in force.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Setting)]
pub struct SettingShape {
    /// The key.
    #[schema(example = "auth.max_ttl")]
    pub key: String,
    /// Its value; secrets are hidden.
    pub value: String,
    /// Where it was set; `default` if nowhere.
    pub origin: String,
}

/// The data of a `sessions` event.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Fastest {
    /// The fastest sessions.
    pub sessions: Vec<SessionShape>,
    /// How many there are, listed or not.
    pub total: usize,
    /// Whether some are missing, because a worker did not show all of its own in time.
    pub partial: bool,
}

/// An error (RFC 9457).
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Problem)]
pub struct ProblemShape {
    /// The HTTP status.
    pub status: u16,
    /// A stable word for programs.
    #[schema(example = "not_found")]
    pub code: String,
    /// What is wrong and what to do.
    pub detail: String,
}
