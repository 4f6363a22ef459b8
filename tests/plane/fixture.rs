//! A relay and a plane on loopback, in this process.
//!
//! [`Fixture::start`] is what most tests want. It relays to loopback, mints by [`SECRET`], knows [`API_KEY`],
//! and asks for no admin token. [`request`] asks one thing on a connection of its own; [`Wire`] is a
//! connection that is told every byte.

use super::certificate;
use super::ports::{LOOPBACK, Stretch};
use crate::wire_client::{ALICE, REALM, SECRET};
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};
use turnpike::engine::{self, Engine, Limits, Listen, Protocol, RelayConfig};
use turnpike::http::revocations::{self, Kept, Revocations, RevokedId, Unkept};
use turnpike::http::{self, Bind, Config, Control, Drain, Live, Mint, Part, Plane, Reloaded, Setting};
use turnpike::rooms;
use turnpike::turn;
use turnpike::turn::auth::{Credentials, Secret};
use turnpike::turn::policy::PeerPolicy;

pub use super::wire::{Answer, Wire, request};

/// How long a test waits for what must come.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// The key that may ask for credentials.
pub const API_KEY: &str = "an-api-key-of-the-fixture";
/// The key of room tokens.
pub const TOKEN_KEY: [u8; 32] = [7; 32];
/// The longest credential, in seconds.
pub const TTL_MAX_S: u64 = 86_400;

/// SHA-256 of a token or a key, as [`Live`] keeps it.
pub fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token).into()
}

/// Asks until it is so; panics with the question when it never is.
pub fn wait_until(question: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < end, "it never happened: {question}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// What a test may want otherwise.
#[derive(Default)]
pub struct Wish {
    /// Also the admin part on a unix socket.
    pub admin_socket: bool,
    /// Both parts by TLS, with the certificate of the tests.
    pub tls: bool,
    /// More addresses of the public part.
    pub public: Vec<SocketAddr>,
}

/// A relay and a plane, stopped when the test is over.
pub struct Fixture {
    /// Where the public part is.
    pub public: SocketAddr,
    /// Where the admin part is.
    pub admin: SocketAddr,
    /// Where it relays, by UDP.
    pub udp: SocketAddr,
    /// Where it relays, by TCP.
    pub tcp: SocketAddr,
    /// The admin part's unix socket, if it was wished for.
    pub socket: Option<PathBuf>,
    /// What a reload would change.
    pub live: Arc<ArcSwap<Live>>,
    /// How the process drains, if it does; the plane reads and writes it.
    pub draining: Arc<Mutex<Option<Drain>>>,
    /// Who is revoked.
    pub revoked: Arc<Revoked>,
    /// How often the plane asked for a reload.
    pub reloads: Arc<AtomicU32>,
    engine: Option<Engine>,
    plane: Option<Plane>,
    _ports: Stretch,
    _folder: Option<Folder>,
}

impl Fixture {
    /// A relay and a plane as most tests want them.
    pub fn start() -> Fixture {
        Fixture::with(|_| ())
    }

    /// The same with another configuration.
    pub fn with(change: impl FnOnce(&mut Live)) -> Fixture {
        Fixture::wish(Wish::default(), change)
    }

    /// The same with other listeners.
    pub fn wish(wish: Wish, change: impl FnOnce(&mut Live)) -> Fixture {
        Fixture::spawn(wish, change, http::spawn)
    }

    /// The same, started by `spawn`.
    pub fn spawn(
        wish: Wish,
        change: impl FnOnce(&mut Live),
        spawn: impl FnOnce(Config) -> io::Result<Plane>,
    ) -> Fixture {
        let ports = Stretch::next();
        let engine = relay(&ports);
        let at = |protocol| {
            let listening = engine.listening();
            listening.iter().find(|listen| listen.protocol == protocol).expect("it listens").addr
        };
        let (udp, tcp) = (at(Protocol::Udp), at(Protocol::Tcp));
        let mut live = live(udp, tcp);
        change(&mut live);
        let live = Arc::new(ArcSwap::from_pointee(live));
        let folder = wish.admin_socket.then(Folder::new);
        let socket = folder.as_ref().map(|folder| folder.0.join("admin.sock"));
        let draining = Arc::new(Mutex::new(None));
        let revoked = Arc::new(Revoked::default());
        let reloads = Arc::new(AtomicU32::new(0));
        let tls = wish.tls.then(http_certificate);
        let home = SocketAddr::new(LOOPBACK[0], 0);
        let mut binds = vec![(home, Part::Public), (home, Part::Admin)];
        binds.extend(wish.public.iter().map(|addr| (*addr, Part::Public)));
        let config = Config {
            binds: binds.into_iter().map(|(addr, part)| Bind { addr, part, tls: tls.clone() }).collect(),
            admin_socket: socket.clone(),
            workers: engine.workers(),
            live: live.clone(),
            control: control(draining.clone(), reloads.clone(), revoked.clone()),
        };
        let plane = spawn(config).expect("the plane starts");
        let of = |part| plane.listening().iter().find(|listening| listening.0 == part).expect("it listens").1;
        Fixture {
            public: of(Part::Public),
            admin: of(Part::Admin),
            udp,
            tcp,
            socket,
            live,
            draining,
            revoked,
            reloads,
            engine: Some(engine),
            plane: Some(plane),
            _ports: ports,
            _folder: folder,
        }
    }

    /// The relay.
    pub fn relay(&self) -> &Engine {
        self.engine.as_ref().expect("it runs until it is dropped")
    }

    /// The plane.
    pub fn plane(&self) -> &Plane {
        self.plane.as_ref().expect("it runs until it is dropped")
    }

    /// Stops the plane and leaves the relay.
    pub fn stop_plane(&mut self) {
        self.plane.take().expect("it is stopped once").stop();
    }

    /// Puts another configuration in force, as a reload does.
    pub fn change(&self, change: impl FnOnce(&mut Live)) {
        let mut live = Live::clone(&self.live.load());
        change(&mut live);
        self.live.store(Arc::new(live));
    }

    /// Asks the public part.
    pub fn get(&self, path: &str) -> Answer {
        request(self.public, "GET", path, &[], "")
    }

    /// Asks the public part.
    pub fn post(&self, path: &str, body: &str) -> Answer {
        request(self.public, "POST", path, &[], body)
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        if let Some(plane) = self.plane.take() {
            plane.stop();
        }
        if let Some(engine) = self.engine.take() {
            engine.stop();
        }
    }
}

fn relay(ports: &Stretch) -> Engine {
    let listen = [Protocol::Udp, Protocol::Tcp];
    let mut auth = Credentials::new(REALM);
    auth.secrets = vec![Secret::new(SECRET)];
    auth.add_user(ALICE.0, ALICE.1);
    engine::spawn(engine::Config {
        workers: 1,
        listen: listen
            .map(|protocol| Listen { addr: SocketAddr::new(LOOPBACK[0], 0), protocol, required: true })
            .into(),
        tls: None,
        relay: RelayConfig { ports: ports.relay(), addresses: Vec::new(), external: Vec::new() },
        moderation_max: std::time::Duration::ZERO,
        limits: Limits::default(),
        log: turnpike::bus::LogChoice::default(),
        turn: turn::Config {
            realm: REALM.into(),
            auth,
            policy: PeerPolicy { allow_loopback: true, ..PeerPolicy::default() },
            limits: turn::Limits { unverified_per_second: 0, ..turn::Limits::default() },
            ..turn::Config::default()
        },
    })
    .expect("the engine starts")
}

fn live(udp: SocketAddr, tcp: SocketAddr) -> Live {
    let uris = vec![format!("turn:{udp}?transport=udp"), format!("turn:{tcp}?transport=tcp")];
    let setting =
        |key: &str, value: &str, origin: &str| Setting { key: key.into(), value: value.into(), origin: origin.into() };
    Live {
        realm: REALM.into(),
        public_url: None,
        allowed_hosts: Vec::new(),
        cors_origins: Vec::new(),
        trusted_proxies: Vec::new(),
        api_keys: vec![digest(API_KEY)],
        username_required: false,
        open: false,
        mint: Some(Mint { secret: Secret::new(SECRET), separator: ':', ttl_s: 3600, ttl_max_s: TTL_MAX_S }),
        test_uris: uris.clone(),
        uris,
        token_key: TOKEN_KEY,
        rooms: Some(rooms::Limits::default()),
        ice_servers: Vec::new(),
        admin_token: None,
        settings: vec![
            setting("realm", REALM, "turnpike.toml:1"),
            setting("auth.secrets", "(1 secret, hidden)", "turnpike.toml:4"),
            setting("auth.max_ttl", "24h", "default"),
        ],
        certificate: None,
        coturn_names: false,
    }
}

fn control(draining: Arc<Mutex<Option<Drain>>>, reloads: Arc<AtomicU32>, revoked: Arc<Revoked>) -> Control {
    let (reader, ender) = (draining.clone(), draining.clone());
    Control {
        reload: Arc::new(move || {
            reloads.fetch_add(1, Ordering::SeqCst);
            Ok(Reloaded { applied: vec!["limits.allocations".into()], needs_restart: Vec::new() })
        }),
        drain: Arc::new(move |left_s| *draining.lock() = Some(Drain { left_s, is_final: false })),
        resume: Arc::new(move || {
            let mut draining = ender.lock();
            let is_final = draining.is_some_and(|drain| drain.is_final);
            if !is_final {
                *draining = None;
            }
            !is_final
        }),
        draining: Arc::new(move || *reader.lock()),
        revocations: revoked,
        log_lines_lost: Arc::new(|| 0),
        reloads_refused: Arc::new(|| 0),
    }
}

/// A list of the revoked that is kept nowhere and that no worker knows.
#[derive(Default)]
pub struct Revoked {
    ids: Mutex<BTreeSet<RevokedId>>,
    /// How many it takes; `None`: any.
    pub max: Mutex<Option<usize>>,
    /// Whether it can not be written.
    pub unwritten: AtomicBool,
}

impl Revoked {
    fn written<T>(&self, done: T) -> Result<T, Unkept> {
        if self.unwritten.load(Ordering::SeqCst) { Err(Unkept::Unwritten(3)) } else { Ok(done) }
    }
}

impl Revocations for Revoked {
    fn is_revoked(&self, id: &str) -> bool {
        self.ids.lock().contains(id)
    }

    fn list(&self) -> (Vec<RevokedId>, Kept) {
        (self.ids.lock().iter().cloned().collect(), Kept::Memory)
    }

    fn revoke(&self, id: RevokedId) -> Result<revocations::Revoked, Unkept> {
        let mut ids = self.ids.lock();
        if !ids.contains(&id) && self.max.lock().is_some_and(|max| ids.len() >= max) {
            return Err(Unkept::Full);
        }
        let is_new = ids.insert(id);
        self.written(revocations::Revoked { is_new, sessions_ended: 2, partial: false, kept: Kept::Memory })
    }

    fn restore(&self, id: &RevokedId) -> Result<bool, Unkept> {
        let was_there = self.ids.lock().remove(id);
        self.written(was_there)
    }
}

/// The tests' certificate, for `http/1.1` alone.
fn http_certificate() -> Arc<rustls::ServerConfig> {
    let mut config = rustls::ServerConfig::clone(&certificate::server());
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Arc::new(config)
}

/// A folder of its own, gone with the test.
pub struct Folder(pub PathBuf);

impl Folder {
    /// An empty folder.
    pub fn new() -> Folder {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("turnpike-plane-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).expect("the folder is new");
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Nothing depends on it being gone.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
