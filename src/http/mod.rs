//! The side plane: what browsers, applications, operators and Prometheus talk to.
//!
//! One thread with its own runtime. It talks to the workers through [`crate::bus`] alone and
//! reads their counters: a stuck plane never delays a packet.

mod admin;
mod api;
mod body;
mod caller;
mod connections;
mod cors;
mod coturn_metrics;
mod credentials;
mod events;
mod exposition;
pub mod frames;
mod guard;
pub mod head;
mod health;
mod intake;
pub mod json;
mod lockout;
mod metrics;
mod notices;
mod pages;
mod public;
#[doc(hidden)]
pub mod rehearsal;
pub mod revocations;
mod server;
mod sessions;
mod signalling;
mod token;
mod totals;
mod unix;
mod usage;

use crate::bus;
use crate::rooms;
use crate::turn::auth::Secret;
use arc_swap::ArcSwap;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

pub use server::{Plane, spawn};

/// What a listener serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Credentials, rooms, pages.
    Public,
    /// Metrics, health, the admin API, the console.
    Admin,
}

/// One address of the plane.
#[derive(Clone, Debug)]
pub struct Bind {
    /// The address; port 0 lets the kernel choose.
    pub addr: SocketAddr,
    /// What is served there.
    pub part: Part,
    /// HTTPS with this; its ALPN offers `http/1.1` alone. `None`: HTTP.
    pub tls: Option<Arc<rustls::ServerConfig>>,
}

/// All a plane needs to know.
pub struct Config {
    /// Where it listens. None at all is a plane with nothing but its socket.
    pub binds: Vec<Bind>,
    /// The admin part's unix socket; a stale one is replaced, a live one is an error.
    pub admin_socket: Option<PathBuf>,
    /// The relay.
    pub workers: bus::Workers,
    /// What can change while it runs. Whoever keeps the other end replaces it as a whole.
    pub live: Arc<ArcSwap<Live>>,
    /// What the plane can ask of the process.
    pub control: Control,
}

/// What the plane asks of the process around it.
#[derive(Clone)]
pub struct Control {
    /// Reads the configuration again and puts it in force. Called on a thread that may wait.
    /// An error is text for the operator, and then nothing has changed.
    pub reload: Arc<dyn Fn() -> Result<Reloaded, String> + Send + Sync>,
    /// Takes no new allocation, and ends with the last one or after so many seconds. Called on a
    /// thread that may wait.
    pub drain: Arc<dyn Fn(Option<u64>) + Send + Sync>,
    /// Takes new allocations again; false when the process was told to end. Called on a thread
    /// that may wait.
    pub resume: Arc<dyn Fn() -> bool + Send + Sync>,
    /// The drain under way, if there is one. Never waits.
    pub draining: Arc<dyn Fn() -> Option<Drain> + Send + Sync>,
    /// Keeps who is revoked.
    pub revocations: Arc<dyn revocations::Revocations>,
    /// Lines of the log that nobody read in time. Never waits.
    pub log_lines_lost: Arc<dyn Fn() -> u64 + Send + Sync>,
    /// Reloads that were refused. Never waits.
    pub reloads_refused: Arc<dyn Fn() -> u64 + Send + Sync>,
}

/// A drain under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drain {
    /// Seconds until the process ends whatever is left; `None`: it waits for the last allocation.
    pub left_s: Option<u64>,
    /// The process was told to end, and the drain can not be taken back.
    pub is_final: bool,
}

/// What a reload did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reloaded {
    /// Keys whose new values are in force.
    pub applied: Vec<String>,
    /// Keys whose new values need a restart.
    pub needs_restart: Vec<String>,
}

/// What a reload can change.
#[derive(Clone)]
pub struct Live {
    /// The realm, for the console.
    pub realm: String,
    /// The address that links are made of (`https://call.example.org`), without a slash at the
    /// end; `None`: that of the request.
    pub public_url: Option<String>,
    /// Names that `Host` may bear, in lower case, without a port; `localhost`, the addresses
    /// listened on and the name in `public_url` are always good.
    pub allowed_hosts: Vec<String>,
    /// Origins whose scripts may call the public part; matched exactly.
    pub cors_origins: Vec<String>,
    /// Networks of proxies whose `X-Forwarded-For`, `-Proto` and `-Host` are believed.
    pub trusted_proxies: Vec<Network>,
    /// SHA-256 of each key that may ask for credentials.
    pub api_keys: Vec<[u8; 32]>,
    /// `/turn` needs `username`.
    pub username_required: bool,
    /// Anyone gets credentials: development.
    pub open: bool,
    /// How credentials are made; `None`: there is no shared secret.
    pub mint: Option<Mint>,
    /// The server's URIs as clients are told them.
    pub uris: Vec<String>,
    /// Every URI there is, of both families, for the self-test.
    pub test_uris: Vec<String>,
    /// Signs room tokens.
    pub token_key: [u8; 32],
    /// Rooms; `None`: there are none.
    pub rooms: Option<rooms::Limits>,
    /// What room clients are told in place of this server's own URIs; empty: its own.
    pub ice_servers: Vec<serde_json::Value>,
    /// SHA-256 of the admin token; `None`: only loopback and the unix socket are answered.
    pub admin_token: Option<[u8; 32]>,
    /// Each key in force, its value with secrets hidden, and where it was set.
    pub settings: Vec<Setting>,
    /// The certificate of TLS listeners.
    pub certificate: Option<Certificate>,
    /// Export coturn's metric names too.
    pub coturn_names: bool,
}

/// How credentials are made.
#[derive(Clone, Debug)]
pub struct Mint {
    /// Signs them.
    pub secret: Secret,
    /// Between expiry and user id.
    pub separator: char,
    /// How long a credential is good when nothing else is asked for, in seconds.
    pub ttl_s: u64,
    /// Longest that may be asked for, in seconds.
    pub ttl_max_s: u64,
}

/// A network in CIDR form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    /// An address in it.
    pub ip: IpAddr,
    /// Bits that count.
    pub prefix_len: u8,
}

/// One key of the configuration in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// `auth.max_ttl`.
    pub key: String,
    /// As `turnpike check` prints it.
    pub value: String,
    /// Where it was set; `default` if nowhere.
    pub origin: String,
}

/// The certificate in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// The names it is for.
    pub names: Vec<String>,
    /// Who issued it.
    pub issuer: String,
    /// When it ends, in seconds since 1970.
    pub not_after_unix_s: u64,
}

/// What every handler of the plane shares.
struct Shared {
    live: Arc<ArcSwap<Live>>,
    workers: bus::Workers,
    control: Control,
    started: std::time::Instant,
    signalling: signalling::Hub,
    credentials: credentials::Desk,
    watch: sessions::Watch,
    counts: metrics::HttpCounts,
}

impl Shared {
    /// What a plane shares that nobody has asked yet.
    fn new(live: Arc<ArcSwap<Live>>, workers: bus::Workers, control: Control) -> Self {
        Shared {
            live,
            workers,
            control,
            started: std::time::Instant::now(),
            signalling: signalling::Hub::default(),
            credentials: credentials::Desk::default(),
            watch: sessions::Watch::default(),
            counts: metrics::HttpCounts::default(),
        }
    }
}

/// The routes of one part of the plane, before its guards are put around them.
type Routes = axum::Router<Arc<Shared>>;
