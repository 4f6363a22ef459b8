//! `turnpike import` and `turnpike coturn` as programs: what they print, how they end, and that they serve.

use super::databases::database;
use super::{Scratch, imported};
use crate::wire_client::{Client, Draft, Reply, allocate};
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, UdpSocket};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};
use turnpike::config::coturn::End;
use turnpike::turn::Transport;

/// How long the server may take for anything.
const PATIENCE: Duration = Duration::from_secs(20);

fn turnpike(scratch: &Scratch, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_turnpike"));
    command.args(arguments).current_dir(&scratch.0).stdin(Stdio::null());
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        if name.starts_with("TURNPIKE__") || name == "XDG_RUNTIME_DIR" || name == "RUNTIME_DIRECTORY" {
            command.env_remove(name);
        }
    }
    command
}

pub fn output(scratch: &Scratch, arguments: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = turnpike(scratch, arguments).output().unwrap();
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

/// A server that ends with its test.
struct Server {
    child: Child,
    lines: Receiver<String>,
}

impl Server {
    fn start(scratch: &Scratch, arguments: &[&str]) -> Server {
        let mut child = turnpike(scratch, arguments).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let stderr = child.stderr.take().unwrap();
        let (give, lines) = channel();
        std::thread::spawn(move || BufReader::new(stderr).lines().map_while(Result::ok).try_for_each(|l| give.send(l)));
        Server { child, lines }
    }

    /// Where it serves by UDP, and what it said before.
    fn udp(&self) -> (SocketAddr, Vec<String>) {
        let mut said = Vec::new();
        loop {
            let line = self.lines.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("the server serves: {said:#?}"));
            if let Some(rest) = line.split("udp ").nth(1).filter(|_| line.contains("serving")) {
                let address = rest.split([',', '"']).next().unwrap().trim();
                return (address.parse().unwrap_or_else(|_| panic!("{line}")), said);
            }
            said.push(line);
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Asks for an allocation, answers the challenge, and returns the last answer.
fn allocated(server: SocketAddr, user: (&str, &str), realm: &str) -> Reply {
    let socket = UdpSocket::bind((server.ip(), 0)).unwrap();
    socket.connect(server).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut client = Client::new(Client::sender(socket.local_addr().unwrap(), server, Transport::Udp), user);
    client.realm = realm.into();
    let mut buffer = [0; 2048];
    let mut exchange = |message: &[u8]| {
        socket.send(message).unwrap();
        let len = socket.recv(&mut buffer).unwrap();
        Reply::decode(&buffer[..len])
    };
    let first = exchange(&allocate().encode());
    assert_eq!(first.code(), 401);
    client.learn(&first);
    let draft: Draft = allocate();
    exchange(&client.sign(draft))
}

#[test]
fn import_prints_toml_and_a_line_a_key() {
    let scratch = Scratch::new();
    scratch.file("turnserver.conf", "realm=x\nuser=alice:hunter2\nno-tlsv1\nmobility\nsecure-stun=0\n");
    let (code, toml, said) = output(&scratch, &["import", "turnserver.conf"]);
    assert_eq!(code, Some(0), "{said}");
    toml::from_str::<toml::Table>(&toml).unwrap();
    assert!(toml.contains("# turnserver.conf:1 realm\nrealm = \"x\"") && toml.contains("chmod 600"), "{toml}");
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines[0], "carried   turnserver.conf:1 realm: realm");
    assert!(lines[2].starts_with("dropped   turnserver.conf:3 no-tlsv1: (nothing to do: "), "{said}");
    assert!(lines[3].starts_with("dropped   turnserver.conf:4 mobility: (MOBILITY-TICKET"), "{said}");
    assert!(lines[5].starts_with("safer now (default) private-peers: ") && lines.len() == 6, "{said}");
    assert!(!said.contains("hunter2"));

    scratch.file("open.conf", "no-auth\n");
    let (code, toml, said) = output(&scratch, &["import", "open.conf"]);
    assert_eq!(code, Some(78));
    assert!(toml.contains("anonymous = true") && said.contains("turnpike: anonymous = true lets anyone"), "{said}");
    scratch.file("bad.conf", "no-udp-relay\nno-tls=perhaps\n");
    let (code, _, said) = output(&scratch, &["import", "bad.conf"]);
    assert_eq!(code, Some(78));
    assert!(said.contains("(bad.conf:1:1)") && said.contains("(bad.conf:2:8)"), "{said}");
    let (code, _, said) = output(&scratch, &["import", "x.toml"]);
    assert_eq!(code, Some(78), "{said}");
    let (code, _, said) = output(&scratch, &["import", "--from-version", "four", "open.conf"]);
    assert!(code == Some(2) && said.contains("write 4.6.1"), "{said}");
}

#[test]
fn check_shows_lines_of_a_coturn_file() {
    let scratch = Scratch::new();
    scratch.file("turnserver.conf", "realm=x\nuser=alice:hunter2\nlistening-ip=127.0.0.1\n");
    let (code, shown, said) = output(&scratch, &["check", "-c", "turnserver.conf"]);
    assert_eq!(code, Some(0), "{said}");
    let realm = shown.lines().find(|line| line.starts_with("realm = ")).unwrap();
    assert!(realm.ends_with("# turnserver.conf:1") && !shown.contains("hunter2"), "{shown}");
}

#[test]
fn a_coturn_file_serves() {
    let scratch = Scratch::new();
    let text = "listening-ip=127.0.0.1\nlistening-port=0\nrealm=example.org\nlt-cred-mech\nuser=alice:wonderland\n\
                no-tls\nno-cli\nfingerprint\nserver-relay\n";
    scratch.file("turnserver.conf", text);
    let server = Server::start(&scratch, &["run", "-c", "turnserver.conf"]);
    let (udp, said) = server.udp();
    let once = |what: &str| said.iter().filter(|line| line.contains(what)).count();
    assert_eq!(once("turnserver.conf:9: server-relay: safer now"), 1, "{said:#?}");
    assert_eq!(once("nothing to do for coturn's no-cli, fingerprint;"), 1, "{said:#?}");
    let reply = allocated(udp, ("alice", "wonderland"), "example.org");
    assert_eq!(reply.code(), 0, "{reply:?}");
}

#[test]
fn coturns_command_line_serves_and_wins_over_its_file() {
    let scratch = Scratch::new();
    scratch.file("t.conf", "realm=wrong\nuser=alice:wrong\nlistening-port=1\nlistening-ip=127.0.0.1\n");
    let line = ["coturn", "-c", "t.conf", "-p", "0", "-a", "-u", "alice:wonderland", "-r", "example.org", "-f", "-v"];
    let server = Server::start(&scratch, &[&line[..], &["--no-tls", "--no-cli", "stray"]].concat());
    let (udp, said) = server.udp();
    assert!(said.iter().any(|line| line.contains("command line: stray: needs you")), "{said:#?}");
    let reply = allocated(udp, ("alice", "wonderland"), "example.org");
    assert_eq!(reply.code(), 0, "{reply:?}");
    drop(server);
    let (code, _, said) = output(&scratch, &["coturn", "-n", "--no-tls=maybe"]);
    assert!(code == Some(78) && said.contains("(command line)"), "{said}");
    let (code, _, said) = output(&scratch, &["coturn", "-c", "gone.conf"]);
    assert!(code == Some(78) && said.contains("the file can not be found (gone.conf)"), "{said}");
    let (code, shown, _) = output(&scratch, &["coturn", "--version"]);
    assert!(code == Some(0) && shown.starts_with("turnpike "), "{shown}");
}

/// As a unit file has it: no file, everything in the command, one word changed.
#[test]
fn coturns_command_line_needs_no_file() {
    let scratch = Scratch::new();
    let secret = "a secret of 24 bytes ...";
    let option = format!("--static-auth-secret={secret}");
    let line = ["coturn", "-n", "-L", "127.0.0.1", "--listening-port=0", &option, "--realm=example.org", "--no-tls"];
    let server = Server::start(&scratch, &line);
    let (udp, _) = server.udp();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let name = format!("{}:alice", now + 3600);
    let password = turnpike::wire::integrity::rest_password(secret.as_bytes(), name.as_bytes());
    let reply = allocated(udp, (&name, std::str::from_utf8(&password).unwrap()), "example.org");
    assert_eq!(reply.code(), 0, "{reply:?}");
    drop(server);
    let line = ["coturn", "-n", "-a", "-L127.0.0.1", "-p0", "--user=alice:wonderland", "-fvr", "example.org"];
    let server = Server::start(&scratch, &line);
    let reply = allocated(server.udp().0, ("alice", "wonderland"), "example.org");
    assert_eq!(reply.code(), 0, "{reply:?}");
}

/// What `check` says of a file: every value in force and every listener, without where they come from.
fn in_force(scratch: &Scratch, file: &str) -> (Value, Value) {
    let (code, shown, said) = output(scratch, &["check", "-c", file, "--format", "json"]);
    assert_eq!(code, Some(0), "{said}");
    let checked: Value = serde_json::from_str(&shown).unwrap();
    let values = checked["values"].as_object().unwrap().iter();
    (values.map(|(key, entry)| (key.clone(), entry["value"].clone())).collect(), checked["listening"].clone())
}

/// What there is to know of a guide's file can be seen from outside, before it is imported and after.
#[test]
fn an_imported_file_checks_as_the_file_it_was_made_from() {
    for (name, text) in super::guides::FILES {
        let scratch = Scratch::new();
        scratch.certificate();
        // Of this machine none of the guides' addresses is one.
        let text = text.replace("192.0.2.7", "127.0.0.1").replace("10.0.0.7", "127.0.0.1");
        scratch.file("turnserver.conf", &text);
        let (code, toml, said) = output(&scratch, &["import", "turnserver.conf"]);
        assert_eq!(code, Some(0), "{name}: {said}");
        assert_eq!(said.lines().filter(|line| !line.contains("(default)")).count(), says_something(&text), "{name}");
        scratch.file("turnpike.toml", toml);
        assert_eq!(in_force(&scratch, "turnserver.conf"), in_force(&scratch, "turnpike.toml"), "{name}");
    }
}

fn says_something(text: &str) -> usize {
    text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#')).count()
}

/// coturn's own example, as its package installs it, with each of its keys uncommented alone: each line is spoken of.
#[test]
fn every_key_of_coturns_example_is_spoken_of() {
    let example = std::fs::read_to_string("/usr/share/doc/coturn/examples/etc/turnserver.conf")
        .expect("coturn is installed with its examples, as `tests/run.sh --install` does it");
    let scratch = Scratch::new();
    let is_key = |word: &str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase() || b == b'-');
    let is_commented = |line: &&str| {
        let bare = line.strip_prefix('#').unwrap_or_default();
        is_key(bare.split(['=', ' ']).next().unwrap_or_default()) && !bare.contains(' ')
    };
    let mut tried = 0;
    for line in example.lines().filter(is_commented) {
        let bare = &line[1..];
        let text = example.replacen(line, bare, 1);
        let number = text.lines().position(|line| line == bare).unwrap() + 1;
        let import = imported(&scratch, &text, "4.6.1");
        let place = format!(":{number}");
        let of_line: Vec<_> = import.notes.iter().filter(|note| note.place.ends_with(&place)).collect();
        assert_eq!(of_line.len(), 1, "{bare}: {:?}", import.notes);
        assert!(!of_line[0].text.is_empty(), "{bare}");
        // It runs, or it is said why it does not.
        let is_refused = of_line[0].end == End::Refused;
        assert_eq!(is_refused, !import.refusals.is_empty(), "{bare}: {:?}", import.refusals);
        tried += 1;
    }
    assert!(tried > 90, "the example has more than {tried} keys");
}

/// As with coturn, whoever is added with turnadmin may come in, and whoever is taken out may not; and a database that is
/// cut off under the server changes nothing.
#[test]
fn users_of_a_database_come_and_go_while_it_serves() {
    let scratch = Scratch::new();
    let path = database(&scratch, "turndb", "");
    let text = "listening-ip=127.0.0.1\nlistening-port=0\nrealm=example.org\nlt-cred-mech\nuserdb=turndb\n";
    scratch.file("turnserver.conf", text);
    let server = Server::start(&scratch, &["run", "-c", "turnserver.conf"]);
    let (udp, _) = server.udp();
    let allocate = || allocated(udp, ("alice", "wonderland"), "example.org").code();
    assert_eq!(allocate(), 401);
    let execute = |sql: &str| rusqlite::Connection::open(&path).unwrap().execute_batch(sql).unwrap();
    let comes_to = |code: u16| {
        let started = Instant::now();
        while allocate() != code {
            assert!(started.elapsed() < PATIENCE, "{code} is never answered");
            std::thread::sleep(Duration::from_millis(100));
        }
    };
    // The key of alice:example.org:wonderland.
    execute("insert into turnusers_lt values ('example.org', 'alice', '72f86f2053703faa0f521ce71cfe6f59')");
    comes_to(0);
    let whole = std::fs::read(&path).unwrap();
    scratch.file("turndb", &whole[..whole.len() / 2]);
    let deadline = Instant::now() + PATIENCE;
    let refused = loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let line = server.lines.recv_timeout(left).expect("the reload is refused");
        if line.contains("damaged") {
            break line;
        }
    };
    assert!(refused.contains("userdb"), "{refused}");
    assert_eq!(allocate(), 0, "who was known before still is");
    scratch.file("turndb", &whole);
    execute("delete from turnusers_lt");
    comes_to(401);
}
