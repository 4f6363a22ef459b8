//! The real binary on loopback: its configuration, its log, its files, its end.

use super::certificate::{CERTIFICATE, KEY};
use super::ports::Stretch;
use crate::wire_client::{ALICE, BOB};
use serde_json::Value;
use std::cell::RefCell;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// How long a server may take for one line of its log, or to end.
const PATIENCE: Duration = Duration::from_secs(20);

/// What no server may ever say: passwords, secrets and the private key of tests.
const SECRETS: [&str; 6] = [
    ALICE.1,
    BOB.1,
    "bricklayer",
    "sixteen bytes or more",
    "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg",
    "6V80YnTh57ALoic+0MY/sRTa0Als5AbnzfuKxvo4cz6PkIeWqw+Eb2Cc",
];
/// The environment variable that has servers log so much: `TURNPIKE_TEST_LOG=trace`.
const LEVEL: &str = "TURNPIKE_TEST_LOG";

/// Ends the tests at once when a line of a log holds a secret.
fn keeps_secrets(line: &str) {
    if let Some(secret) = SECRETS.iter().find(|secret| line.contains(**secret)) {
        eprintln!("FAILED: `{secret}` is in the log: {line}");
        std::process::abort();
    }
}

/// A directory of one test, gone with it.
pub struct Scratch(PathBuf);

impl Scratch {
    /// An empty one.
    pub fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("daemon-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&path).expect("the scratch directory is made");
        Scratch(path)
    }

    /// The path of a file there.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A running `turnpike run`, killed if the test ends before it does.
pub struct Server {
    child: Child,
    lines: Receiver<String>,
    log: RefCell<Vec<String>>,
    /// Held by whoever reads a line of the log.
    ear: Arc<Mutex<()>>,
    listening: Vec<(String, SocketAddr)>,
    /// The ports it relays from, and those beside them.
    pub ports: Stretch,
    scratch: Scratch,
}

/// Starts the binary with a configuration for tests, and settings that win over it. `by` is what it is started by:
/// a program and its arguments, or nothing.
fn spawn(scratch: &Scratch, by: &[&str], settings: &[&str]) -> Child {
    let configuration = r#"
realm = "example.org"
workers = 1
[listen]
udp = ["127.0.0.1:0", "[::1]:0"]
tcp = ["127.0.0.1:0", "[::1]:0"]
tls = ["127.0.0.1:0", "[::1]:0"]
[tls]
cert = "cert.pem"
key = "key.pem"
[relay]
allow_loopback_peers = true
[auth]
users = { alice = "wonderland", bob = "hodcarrier" }
[limits]
unverified_per_second = 0
[http]
listen = ""
admin_listen = ""
admin_socket = ""
[log]
format = "json"
"#;
    for (name, text) in [("turnpike.toml", configuration), ("cert.pem", CERTIFICATE), ("key.pem", KEY)] {
        fs::write(scratch.path(name), text).expect("the scratch directory takes files");
    }
    let mut line = by.iter().chain([&env!("CARGO_BIN_EXE_turnpike")]);
    let mut command = Command::new(line.next().expect("the binary is its last word"));
    command.args(line).arg("run").arg("-c").arg(scratch.path("turnpike.toml"));
    let level = std::env::var(LEVEL).map(|level| format!("log.level={level}"));
    for setting in level.iter().map(String::as_str).chain(settings.iter().copied()) {
        command.args(["--set", setting]);
    }
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("TURNPIKE__")) {
        command.env_remove(name);
    }
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the server starts")
}

/// What a server that must not start says, and how it ends.
pub fn refused(settings: &[&str]) -> (ExitStatus, String) {
    refused_by(&[], settings)
}

/// The same of one that is started by another program.
pub fn refused_by(by: &[&str], settings: &[&str]) -> (ExitStatus, String) {
    Server::launch(Stretch::next(), by, settings).last_words()
}

impl Server {
    /// Starts a server that relays from a stretch of its own.
    pub fn start(settings: &[&str]) -> Server {
        Server::by(&[], settings)
    }

    /// The same by another program, which becomes the server.
    pub fn by(program: &[&str], settings: &[&str]) -> Server {
        let ports = Stretch::next();
        let range = ports.relay();
        Server::serving(ports, &range, program, settings)
    }

    /// Starts a server that relays from a part of a stretch.
    pub fn on(ports: Stretch, range: &RangeInclusive<u16>, settings: &[&str]) -> Server {
        Server::serving(ports, range, &[], settings)
    }

    /// Starts a server that may have so many files open.
    pub fn with_files(files_max: u32) -> Server {
        Server::by(&["sh", "-c", &format!("ulimit -n {files_max} && exec \"$0\" \"$@\"")], &[])
    }

    fn serving(ports: Stretch, range: &RangeInclusive<u16>, by: &[&str], settings: &[&str]) -> Server {
        let relay = format!("relay.ports={}-{}", range.start(), range.end());
        let mut server = Server::launch(ports, by, &[&[relay.as_str()], settings].concat());
        server.listening = server.wait_until_serving();
        server
    }

    fn launch(ports: Stretch, by: &[&str], settings: &[&str]) -> Server {
        let scratch = Scratch::new();
        let mut child = spawn(&scratch, by, settings);
        let pipe = child.stderr.take().expect("the log is a pipe");
        let (sender, lines) = channel();
        let ear = Arc::<Mutex<()>>::default();
        let listening = ear.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                drop(listening.lock());
                keeps_secrets(&line);
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Server { child, lines, log: RefCell::default(), ear, listening: Vec::new(), ports, scratch }
    }

    fn wait_until_serving(&self) -> Vec<(String, SocketAddr)> {
        let line = self.log_until("\"serving\"");
        let line: Value = serde_json::from_str(&line).expect("a line of the log is JSON");
        let listening = line["listen"].as_str().expect("it says where it listens").split(", ");
        let parse = |text: &str| {
            let (protocol, addr) = text.split_once(' ').expect("a protocol and an address");
            (protocol.to_owned(), addr.parse().expect("an address and a port"))
        };
        listening.map(parse).collect()
    }

    /// How many of the lines read so far hold this text.
    pub fn log_count(&self, text: &str) -> usize {
        self.log.borrow().iter().filter(|line| line.contains(text)).count()
    }

    /// Waits for a line of the log that contains `text`.
    pub fn log_until(&self, text: &str) -> String {
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => self.log.borrow_mut().push(line.clone()),
                Err(error) => panic!("no `{text}` in the log: {error}"),
            }
            if let Some(line) = self.log.borrow().last().filter(|line| line.contains(text)) {
                return line.clone();
            }
        }
    }

    /// Waits for a line of the log that contains `text`, and returns those that came before it.
    pub fn log_before(&self, text: &str) -> Vec<String> {
        let already = self.log.borrow().len();
        self.log_until(text);
        self.log.borrow()[already..].to_vec()
    }

    /// Whether the process has ended, whoever reads its log.
    pub fn has_ended(&self) -> bool {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid())).expect("nobody has waited for it");
        // It stays a zombie until it is waited for.
        stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('Z'))
    }

    /// Waits until it has.
    pub fn wait_until_gone(&self) {
        let end = Instant::now() + PATIENCE;
        while !self.has_ended() {
            assert!(Instant::now() < end, "the server does not end");
            std::thread::yield_now();
        }
    }

    /// Reads no more of the log until what this returns is dropped.
    pub fn deafen(&self) -> MutexGuard<'_, ()> {
        self.ear.lock().expect("nobody panics with it")
    }

    /// A field of the line that says that it serves.
    pub fn told(&self, field: &str) -> String {
        let log = self.log.borrow();
        let line = log.iter().find(|line| line.contains("\"serving\"")).expect("it serves");
        let line: Value = serde_json::from_str(line).expect("a line of the log is JSON");
        line[field].as_str().expect("the field is text").to_owned()
    }

    /// Writes a file beside the configuration, `turnpike.toml`.
    pub fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).expect("the scratch directory takes files");
    }

    /// The path of a file beside the configuration.
    pub fn path(&self, name: &str) -> PathBuf {
        self.scratch.path(name)
    }

    /// Where `udp`, `tcp` or `tls` is served on an address.
    pub fn addr(&self, protocol: &str, ip: IpAddr) -> SocketAddr {
        let mut listening = self.listening.iter();
        let found = listening.find(|(name, addr)| name == protocol && addr.ip() == ip);
        found.unwrap_or_else(|| panic!("{protocol} {ip} is not served: {:?}", self.listening)).1
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Open files.
    pub fn files(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.pid())).expect("the server runs").count()
    }

    /// Resident memory of its own, in KiB.
    pub fn memory_kib(&self) -> u64 {
        self.status_kib("RssAnon")
    }

    /// What the kernel counts of its memory under this name (proc_pid_status(5)), in KiB.
    pub fn status_kib(&self, field: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("the server runs");
        let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        let number = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok());
        number.unwrap_or_else(|| panic!("no {field} in {status}"))
    }

    /// Sends a signal by name.
    pub fn signal(&self, name: &str) {
        let told = Command::new("kill").args([format!("-{name}"), self.pid().to_string()]).status();
        assert!(told.expect("kill runs").success(), "the server takes no signal");
    }

    /// Waits for the end and returns how it ended and how long that took.
    pub fn wait(mut self) -> (ExitStatus, Duration) {
        let began = Instant::now();
        (self.end(), began.elapsed())
    }

    /// Waits for the end and returns how it ended and all that it has said.
    pub fn last_words(mut self) -> (ExitStatus, String) {
        let status = self.end();
        (status, self.log.take().join("\n"))
    }

    /// The value of a metric, which has to be there. Needs `http.admin_listen`.
    pub fn metric(&self, name: &str) -> u64 {
        let admin = self.told("admin");
        let mut stream = TcpStream::connect(admin.strip_prefix("http://").expect("an address")).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("TCP takes its options");
        let request = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        stream.write_all(request).expect("it is taken");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it is answered with text");
        let line = answer.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {name} in {answer}"))
    }

    /// Ends the server and fails unless it was alive and well and has had nothing to complain of.
    pub fn stop(mut self) {
        let early = self.child.try_wait().expect("the server can be waited for");
        assert!(early.is_none(), "the server ended by itself: {early:?}");
        self.signal("INT");
        let status = self.end();
        assert!(status.success(), "the server ended with {status}");
        let complaint = |line: &&String| line.contains("\"ERROR\"") || line.contains("panicked");
        let complaint = self.log.borrow().iter().find(complaint).cloned();
        assert_eq!(complaint, None);
    }

    fn end(&mut self) -> ExitStatus {
        loop {
            // A program that has ended has closed what it wrote to.
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => self.log.borrow_mut().push(line),
                Err(RecvTimeoutError::Disconnected) => return self.child.wait().expect("it can be waited for"),
                Err(RecvTimeoutError::Timeout) => panic!("the server does not end"),
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            self.log.borrow_mut().extend(self.lines.try_iter());
            eprintln!("the server's log:\n{}", self.log.borrow().join("\n"));
        }
    }
}
