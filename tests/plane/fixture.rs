//! A relay and a plane on loopback, in this process, and a client that says exactly what it is told.
//!
//! [`Fixture::start`] is what most tests want. It relays to loopback, mints by [`SECRET`], knows [`API_KEY`],
//! and asks for no admin token. [`request`] asks one thing on a connection of its own; [`Wire`] is a
//! connection that is told every byte.

use super::certificate;
use super::ports::{LOOPBACK, Stretch};
use crate::wire_client::{ALICE, REALM, SECRET};
use arc_swap::ArcSwap;
use rustls::{ClientConnection, StreamOwned};
use sha2::{Digest, Sha256};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};
use turnpike::engine::{self, Engine, Limits, Listen, Protocol, RelayConfig};
use turnpike::http::{self, Bind, Config, Control, Live, Mint, Part, Plane, Reloaded, Setting};
use turnpike::rooms;
use turnpike::turn;
use turnpike::turn::auth::{Credentials, Secret};
use turnpike::turn::policy::PeerPolicy;

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
    /// Whether the process drains; the plane reads and writes it.
    pub draining: Arc<AtomicBool>,
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
        let draining = Arc::new(AtomicBool::new(false));
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
            control: control(draining.clone(), reloads.clone()),
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
        limits: Limits::default(),
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

fn control(draining: Arc<AtomicBool>, reloads: Arc<AtomicU32>) -> Control {
    let reader = draining.clone();
    Control {
        reload: Arc::new(move || {
            reloads.fetch_add(1, Ordering::SeqCst);
            Ok(Reloaded { applied: vec!["limits.allocations".into()], needs_restart: Vec::new() })
        }),
        drain: Arc::new(move |drain| draining.store(drain, Ordering::SeqCst)),
        is_draining: Arc::new(move || reader.load(Ordering::SeqCst)),
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

/// What was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The headers in their order, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body, chunks joined.
    pub body: Vec<u8>,
}

impl Answer {
    /// A header that is there once at most.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(key, _)| key == name).map(|(_, value)| &**value);
        let value = found.next();
        assert_eq!(found.next(), None, "{name} is there once");
        value
    }

    /// The body as text.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("the body is text")
    }

    /// The body as JSON, which its type must say.
    pub fn json(&self) -> serde_json::Value {
        let kind = self.header("content-type").unwrap_or_default();
        assert!(kind.starts_with("application/") && kind.contains("json"), "{kind} is JSON: {self:?}");
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// The stable word of an error.
    pub fn code(&self) -> String {
        let problem = self.json();
        assert_eq!(problem["status"], self.status, "{problem}");
        problem["code"].as_str().expect("an error has a code").into()
    }
}

/// Asks one thing on a connection of its own.
pub fn request(
    addr: SocketAddr,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: impl AsRef<[u8]>,
) -> Answer {
    Wire::connect(addr).ask(method, target, headers, body)
}

/// A byte stream of any kind.
trait Stream: Read + Write + Send {
    /// Ends the way there.
    fn finish(&mut self);
}

impl Stream for TcpStream {
    fn finish(&mut self) {
        self.shutdown(Shutdown::Write).expect("the connection is open");
    }
}

impl Stream for UnixStream {
    fn finish(&mut self) {
        self.shutdown(Shutdown::Write).expect("the connection is open");
    }
}

impl Stream for StreamOwned<ClientConnection, TcpStream> {
    fn finish(&mut self) {
        self.conn.send_close_notify();
        self.flush().expect("the connection is open");
    }
}

/// A connection that is told every byte.
pub struct Wire {
    stream: Box<dyn Stream>,
    host: String,
    unread: Vec<u8>,
}

impl Wire {
    /// By TCP.
    pub fn connect(addr: SocketAddr) -> Wire {
        let stream = TcpStream::connect(addr).expect("the plane accepts");
        Wire::over(stream, addr)
    }

    /// By TCP from another address of this host, such as 127.0.0.9.
    pub fn connect_from(ip: IpAddr, addr: SocketAddr) -> Wire {
        let domain = socket2::Domain::for_address(addr);
        let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None).expect("there is a socket");
        socket.bind(&SocketAddr::new(ip, 0).into()).expect("the address is this host's");
        socket.connect(&addr.into()).expect("the plane accepts");
        Wire::over(socket.into(), addr)
    }

    fn over(stream: TcpStream, addr: SocketAddr) -> Wire {
        stream.set_nodelay(true).expect("TCP takes its options");
        stream.set_read_timeout(Some(PATIENCE)).expect("TCP takes its options");
        Wire { stream: Box::new(stream), host: addr.to_string(), unread: Vec::new() }
    }

    /// By TLS; the protocol that was agreed on by ALPN, too.
    pub fn tls(addr: SocketAddr, alpn: &[&[u8]]) -> io::Result<(Wire, Option<Vec<u8>>)> {
        let mut stream = TcpStream::connect(addr).expect("the plane accepts");
        stream.set_read_timeout(Some(PATIENCE)).expect("TCP takes its options");
        let name = certificate::NAME.try_into().expect("it is a DNS name");
        let config = certificate::client(rustls::ALL_VERSIONS, alpn);
        let mut connection = ClientConnection::new(config, name).expect("the configuration is complete");
        while connection.is_handshaking() {
            connection.complete_io(&mut stream)?;
        }
        let agreed = connection.alpn_protocol().map(<[u8]>::to_vec);
        let stream = Box::new(StreamOwned::new(connection, stream));
        Ok((Wire { stream, host: addr.to_string(), unread: Vec::new() }, agreed))
    }

    /// By a unix socket.
    pub fn unix(path: &Path) -> Wire {
        let stream = UnixStream::connect(path).expect("the plane accepts");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket takes its options");
        Wire { stream: Box::new(stream), host: "localhost".into(), unread: Vec::new() }
    }

    /// Sends bytes; false when the other side is gone.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).and_then(|()| self.stream.flush()).is_ok()
    }

    /// Sends no more; answers still come.
    pub fn finish(&mut self) {
        self.stream.finish();
    }

    /// Sends a request and returns its answer. `Host` and `Content-Length` are added where they are missing.
    pub fn ask(&mut self, method: &str, target: &str, headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> Answer {
        let body = body.as_ref();
        let has = |name: &str| headers.iter().any(|(key, _)| key.eq_ignore_ascii_case(name));
        let mut head = format!("{method} {target} HTTP/1.1\r\n");
        if !has("host") {
            head += &format!("Host: {}\r\n", self.host);
        }
        if !has("content-length") && !has("transfer-encoding") && (!body.is_empty() || method == "POST") {
            head += &format!("Content-Length: {}\r\n", body.len());
        }
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        head += "\r\n";
        self.send([head.as_bytes(), body].concat());
        self.answer(method == "HEAD")
    }

    /// The next answer, which must come.
    pub fn answer(&mut self, is_head: bool) -> Answer {
        self.try_answer(is_head).expect("an answer comes")
    }

    /// The next answer; `None` when the connection ends before its first byte.
    pub fn try_answer(&mut self, is_head: bool) -> Option<Answer> {
        let end = self.fill_until(|bytes| find(bytes, b"\r\n\r\n"))?;
        let head: Vec<u8> = self.unread.drain(..end + 4).collect();
        let head = String::from_utf8(head).expect("a head is text");
        let mut lines = head.trim_end().split("\r\n");
        let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1.1 ")).expect("an answer has its line");
        let status: u16 = status[..3].parse().expect("a status is a number");
        let headers: Vec<(String, String)> = lines
            .map(|line| line.split_once(':').expect("a header has its colon"))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        let mut answer = Answer { status, headers, body: Vec::new() };
        if is_head || matches!(status, 101 | 204 | 304) {
            return Some(answer);
        }
        answer.body = match (answer.header("transfer-encoding"), answer.header("content-length")) {
            (Some("chunked"), None) => self.chunks(),
            (None, Some(len)) => self.take(len.parse().expect("a length is a number")),
            other => panic!("the end of the body is told: {other:?}"),
        };
        Some(answer)
    }

    /// The bytes up to the end of the line, without it.
    pub fn line(&mut self) -> String {
        let end = self.fill_until(|bytes| find(bytes, b"\n")).expect("a line comes");
        let line: Vec<u8> = self.unread.drain(..=end).collect();
        String::from_utf8(line).expect("a line is text").trim_end_matches(['\r', '\n']).to_owned()
    }

    /// Whether the other side closes within the patience of tests; bytes before that are dropped.
    pub fn is_closed(&mut self) -> bool {
        loop {
            self.unread.clear();
            match self.read() {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) => return !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
            }
        }
    }

    fn chunks(&mut self) -> Vec<u8> {
        let mut body = Vec::new();
        loop {
            let len = usize::from_str_radix(&self.line(), 16).expect("a chunk has its length");
            body.extend(self.take(len));
            assert_eq!(self.line(), "", "a chunk ends with a line");
            if len == 0 {
                return body;
            }
        }
    }

    fn take(&mut self, len: usize) -> Vec<u8> {
        self.fill_until(|bytes| (bytes.len() >= len).then_some(len)).expect("the body is complete");
        self.unread.drain(..len).collect()
    }

    /// Reads until something is there; `None` when the connection ends with nothing unread.
    fn fill_until(&mut self, is_there: impl Fn(&[u8]) -> Option<usize>) -> Option<usize> {
        loop {
            if let Some(at) = is_there(&self.unread) {
                return Some(at);
            }
            match self.read() {
                Ok(0) if self.unread.is_empty() => return None,
                Ok(0) => panic!("it ends in the middle: {}", self.unread.escape_ascii()),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::ConnectionReset && self.unread.is_empty() => return None,
                Err(error) => panic!("{error} after {}", self.unread.escape_ascii()),
            }
        }
    }

    fn read(&mut self) -> io::Result<usize> {
        let mut room = [0; 16_384];
        let len = self.stream.read(&mut room)?;
        self.unread.extend_from_slice(&room[..len]);
        Ok(len)
    }
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}
