//! What tests with foreign clients share: a scratch directory, free ports and the daemon itself, on loopback.
//!
//! Nothing here waits for a time: readiness is an answer on the wire, or a line of the log, looked for a bounded number
//! of times.

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

/// The long-term user every daemon here knows.
pub const USER: &str = "alice";
/// That user's password.
pub const PASSWORD: &str = "wonderland";
/// Both loopback addresses; every daemon here listens on them and relays from them.
pub const LOOPBACK: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];

/// How many answers of one port are waited for, [`ANSWER_WAIT`] each: ten seconds in all.
const ANSWER_TRIES: u32 = 100;
const ANSWER_WAIT: Duration = Duration::from_millis(100);
/// The first port the daemon relays from; ports given to listeners stay below it.
const RELAY_PORT_MIN: u16 = 49152;
const PORT_TRIES: u32 = 200;

/// A directory of one test, gone with it.
pub struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("turnpike-test-{}-{count}", std::process::id()));
        fs::create_dir_all(&path).expect("the scratch directory is made");
        Self(path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Fails the test, naming the command that installs the tools, where the program is missing.
pub fn require(program: &str) {
    let found = std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(program).is_file()));
    assert!(found, "{program} is not installed: tests/run.sh --install installs what the tests need");
}

/// The first of `count` consecutive ports that are free for UDP and TCP on both loopback addresses.
///
/// A port is handed out once a test program, so that tests side by side never share one.
pub fn free_ports(count: u16) -> u16 {
    static TAKEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    for _ in 0..PORT_TRIES {
        let probe = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("the kernel has a free port");
        let first = probe.local_addr().expect("a bound listener has an address").port();
        drop(probe);
        let run = first..first.saturating_add(count);
        let mut taken = TAKEN.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if run.end <= RELAY_PORT_MIN && run.clone().all(|port| !taken.contains(&port) && is_free(port)) {
            taken.extend(run);
            return first;
        }
    }
    panic!("no {count} consecutive free ports in {PORT_TRIES} tries");
}

fn is_free(port: u16) -> bool {
    LOOPBACK.into_iter().all(|ip| UdpSocket::bind((ip, port)).is_ok() && TcpListener::bind((ip, port)).is_ok())
}

/// Sends the question until an answer of at least as many bytes comes back, or `alive` says that none will.
pub fn ask(server: SocketAddr, question: &[u8], mut alive: impl FnMut() -> bool) -> bool {
    let any: IpAddr = if server.is_ipv4() { LOOPBACK[0] } else { LOOPBACK[1] };
    let socket = UdpSocket::bind((any, 0)).expect("the kernel has a free port");
    socket.set_read_timeout(Some(ANSWER_WAIT)).expect("a read timeout can be set");
    let mut answer = [0; 1500];
    for _ in 0..ANSWER_TRIES {
        if !alive() {
            return false;
        }
        // The socket is not connected: a port that is not open yet costs one wait, never an error.
        socket.send_to(question, server).expect("loopback takes a datagram");
        if let Ok((len, from)) = socket.recv_from(&mut answer) {
            return from == server && len >= question.len();
        }
    }
    false
}

/// A `turnpike run` of this package, on ports of its own; ended when it is dropped.
pub struct Daemon {
    child: Child,
    scratch: Scratch,
    /// TURN over UDP and over TCP, on both loopback addresses.
    pub port: u16,
    /// TURN over TLS, on both loopback addresses.
    pub tls_port: u16,
}

impl Daemon {
    /// Starts the daemon and waits until it answers on every listener.
    ///
    /// `secret` is the shared secret of its time-limited credentials, which it takes beside [`USER`].
    pub fn start(secret: &str) -> Self {
        Self::start_beside(secret, None)
    }

    /// The same, beside another one that clients are sent to while this one drains.
    pub fn start_beside(secret: &str, other: Option<&Daemon>) -> Self {
        require("openssl");
        let scratch = Scratch::new();
        make_certificate(&scratch, "");
        let port = free_ports(2);
        let tls_port = port + 1;
        write_configuration(&scratch, secret, port, tls_port, other.map(|other| other.port));
        let log = fs::File::create(scratch.path("log")).expect("the log is created");
        let child = Command::new(env!("CARGO_BIN_EXE_turnpike"))
            .arg("run")
            .arg("-c")
            .arg(scratch.path("turnpike.toml"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("the log is opened twice"))
            .stderr(log)
            .spawn()
            .expect("the daemon starts");
        let mut daemon = Self { child, scratch, port, tls_port };
        daemon.wait_until_ready();
        daemon
    }

    fn wait_until_ready(&mut self) {
        // A Binding request: type, length 0, magic cookie, transaction id (RFC 8489 §5).
        let binding = *b"\x00\x01\x00\x00\x21\x12\xa4\x42turnpike-up?";
        for ip in LOOPBACK {
            let server = SocketAddr::new(ip, self.port);
            let answered = ask(server, &binding, || matches!(self.child.try_wait(), Ok(None)));
            assert!(answered, "the daemon does not answer on {server}\n{}", self.log());
            for port in [self.port, self.tls_port] {
                TcpStream::connect((ip, port))
                    .unwrap_or_else(|error| panic!("TCP {ip} port {port}: {error}\n{}", self.log()));
            }
        }
    }

    /// What a program needs that steers the daemon from outside: its process, log and configuration, and its
    /// certificate and key beside others that may take their place.
    #[allow(dead_code, reason = "not every test steers")]
    pub fn told(&self) -> Value {
        make_certificate(&self.scratch, "other-");
        let pair = |name: &str| [self.scratch.path(name), self.scratch.path(&format!("other-{name}"))];
        json!({
            "pid": self.child.id(),
            "log": self.scratch.path("log"),
            "configuration": self.scratch.path("turnpike.toml"),
            "certificate": [pair("key.pem"), pair("cert.pem")],
        })
    }

    /// Fails unless the daemon, told to end before, has done so well by itself and never panicked.
    #[allow(dead_code, reason = "not every test has it end by itself")]
    pub fn ended(mut self) {
        let status = self.child.wait().expect("the daemon can be waited for");
        let log = self.log();
        assert!(status.success() && !log.contains("panicked"), "the daemon ended with {status}\n{log}");
    }

    /// Name and password of a time-limited credential for that user, as `turnpike credentials` mints it.
    pub fn mint(&self, user: &str) -> (String, String) {
        let output = Command::new(env!("CARGO_BIN_EXE_turnpike"))
            .args(["credentials", "--user", user, "-c"])
            .arg(self.scratch.path("turnpike.toml"))
            .output()
            .expect("turnpike credentials runs");
        assert!(output.status.success(), "turnpike credentials: {}", String::from_utf8_lossy(&output.stderr));
        let printed: Value = serde_json::from_slice(&output.stdout).expect("turnpike credentials prints JSON");
        let field = |name: &str| printed["iceServers"][0][name].as_str().expect("a string").to_owned();
        (field("username"), field("credential"))
    }

    /// Tells it to take no new allocations, and waits until it has been understood.
    #[allow(dead_code, reason = "not every test drains")]
    pub fn drain(&self) {
        self.signal("-USR1");
        for _ in 0..ANSWER_TRIES {
            if self.log().contains("draining") {
                return;
            }
            std::thread::sleep(ANSWER_WAIT);
        }
        panic!("the daemon does not drain\n{}", self.log());
    }

    /// What it has written so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.scratch.path("log")).unwrap_or_default()
    }

    /// Asks it to end as an operator would, and fails unless it was alive, ends well and never panicked.
    pub fn stop(mut self) {
        let early = self.child.try_wait().expect("the daemon can be waited for");
        assert!(early.is_none(), "the daemon ended by itself, {early:?}\n{}", self.log());
        let status = self.interrupt();
        let log = self.log();
        assert!(status.success(), "the daemon ended with {status}\n{log}");
        assert!(!log.contains("panicked"), "the daemon panicked\n{log}");
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let told = Command::new("kill").args([name, &pid]).status().expect("kill runs");
        assert!(told.success(), "the daemon {pid} takes no signal");
    }

    fn interrupt(&mut self) -> ExitStatus {
        let pid = self.child.id().to_string();
        // INT ends it now; `timeout` bounds the wait for a daemon that does not listen.
        self.signal("-INT");
        let gone =
            Command::new("timeout").args(["10", "tail", "--pid", &pid, "-s", "0.05", "-f", "/dev/null"]).status();
        assert!(gone.is_ok(), "tail runs");
        self.child.try_wait().expect("the daemon can be waited for").expect("the daemon ends within 10 s of INT")
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("the daemon's log:\n{}", self.log());
        }
    }
}

/// Makes a self-signed certificate and its key, in files whose names begin so.
fn make_certificate(scratch: &Scratch, begin: &str) {
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"])
        .args(["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1,IP:::1"])
        .arg("-keyout")
        .arg(scratch.path(&format!("{begin}key.pem")))
        .arg("-out")
        .arg(scratch.path(&format!("{begin}cert.pem")))
        .output()
        .expect("openssl runs");
    assert!(made.status.success(), "openssl: {}", String::from_utf8_lossy(&made.stderr));
}

fn write_configuration(scratch: &Scratch, secret: &str, port: u16, tls_port: u16, other: Option<u16>) {
    let path = scratch.path("turnpike.toml");
    let alternates: Vec<String> = other.iter().flat_map(|&port| addresses(port)).collect();
    let text = format!("alternate_servers = {alternates:?}\n{}", configuration(scratch, secret, port, tls_port));
    fs::write(&path, text).expect("the configuration is written");
    fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("the configuration is made private");
}

/// A port of both loopback addresses.
fn addresses(port: u16) -> [String; 2] {
    LOOPBACK.map(|ip| SocketAddr::new(ip, port).to_string())
}

fn configuration(scratch: &Scratch, secret: &str, port: u16, tls_port: u16) -> String {
    let (plain, tls) = (addresses(port), addresses(tls_port));
    let quoted = |path: &Path| path.display().to_string();
    format!(
        r#"realm = "example.org"
workers = 2
[listen]
udp = {plain:?}
tcp = {plain:?}
tls = {tls:?}
[tls]
cert = {cert:?}
key = {key:?}
[relay]
ports = "{RELAY_PORT_MIN}-65535"
addresses = ["127.0.0.1", "::1"]
allow_loopback_peers = true
# Clients written against RFC 5766 take channel numbers up to 0x7fff.
wide_channels = true
[http]
listen = ""
admin_listen = ""
admin_socket = ""
[auth]
secrets = [{secret:?}]
users = {{ {USER} = {PASSWORD:?} }}
[limits]
unverified_per_second = 0
[log]
level = "info"
"#,
        cert = quoted(&scratch.path("cert.pem")),
        key = quoted(&scratch.path("key.pem")),
    )
}
