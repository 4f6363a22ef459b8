//! A day of the daemon, at trace, in each form of the log.

use super::client::{Caller, Peer};
use super::heard::Heard;
use super::link::Via;
use super::marker::Marker;
use super::ports::{LOOPBACK, Stretch};
use super::program::{Folder, Program, said, turnpike};
use super::wire::{Answer, Wire};
use super::{certificate, wire_client};
use serde_json::Value;
use std::net::{IpAddr, SocketAddr};
use wire_client::{allocate, refresh};

const SECRET: &str = "mark/shared+secret=Kq7vX2pL";
const SECOND_SECRET: &str = "mark/second+secret=Wz4tB9mN";
const API_KEY: &str = "mark/api+key=Jd3hY8rQ5cV";
const ADMIN_TOKEN: &str = "mark/admin+token=Fg6nS1wE0xU";
const WRONG_TOKEN: &str = "mark/wrong+token=Ab2kM7zT4yH";
const ALICE: (&str, &str) = ("alice", "mark/alice+password=Pv5jC8dR");
const BOB: (&str, &str) = ("bob", "mark/bob+password=Lx9gZ3sA6uI");
const DAVE: (&str, &str) = ("dave", "mark/dave+password=Oe1iG4fD7qB");
const WRONG: &str = "mark/wrong+password=Nm8bV5cX2zQ";
const ICE: &str = "mark/ice+credential=Rt7yU4iO1pW";
const TALK: &str = "a=ice-pwd:mark/talk+Gh3jK6lZ9xC";
const RELAYED: &str = "mark/relayed+payload=Sd2fG5hJ8kL";
/// The key of `carol:example.org:…`, as coturn stores it.
const CAROL_KEY: [u8; 16] =
    [0x9c, 0x41, 0xe7, 0x2b, 0xd8, 0x50, 0x13, 0xaf, 0x6e, 0xc2, 0x94, 0x77, 0x08, 0xbd, 0x35, 0xf1];

/// Files that hold secrets because they were given them.
const GIVEN: [&str; 7] =
    ["turnpike.toml", "cert.pem", "key.pem", "secrets.txt", "users.txt", "token.txt", "password.txt"];

fn configuration(format: &str, ports: &Stretch) -> String {
    let (relay, key) = (ports.relay(), CAROL_KEY.map(|byte| format!("{byte:02x}")).concat());
    format!(
        r#"realm = "example.org"
workers = 2
[listen]
udp = ["127.0.0.1:0"]
tcp = ["127.0.0.1:0"]
tls = ["127.0.0.1:0"]
[tls]
cert = "cert.pem"
key = "key.pem"
[relay]
ports = "{}-{}"
allow_loopback_peers = true
[auth]
secrets = ["{SECRET}"]
secret_file = "secrets.txt"
users = {{ {} = "{}", carol = "0x{key}" }}
users_file = "users.txt"
revocations_file = "revoked.txt"
[limits]
unverified_per_second = 0
[http]
listen = "127.0.0.1:0"
admin_listen = "127.0.0.1:0"
admin_socket = "admin.sock"
admin_token_file = "token.txt"
api_keys = ["{API_KEY}"]
[rooms]
ice_servers = [{{ urls = ["turn:relay.example.org"], username = "guest", credential = "{ICE}" }}]
[log]
level = "trace"
format = "{format}"
permissions = true
"#,
        relay.start(),
        relay.end(),
        ALICE.0,
        ALICE.1,
    )
}

/// Percent-encoded, for a query.
fn encoded(text: &str) -> String {
    text.bytes()
        .map(|b| if b.is_ascii_alphanumeric() { char::from(b).to_string() } else { format!("%{b:02X}") })
        .collect()
}

/// A running server, and what is heard of it.
struct Day {
    folder: Folder,
    server: Program,
    heard: Heard,
    http: SocketAddr,
    admin: SocketAddr,
    _ports: Stretch,
}

impl Day {
    fn begin(format: &str) -> Day {
        let (folder, ports) = (Folder::new(), Stretch::next());
        folder.write("turnpike.toml", configuration(format, &ports));
        folder.write("cert.pem", certificate::CERTIFICATE);
        folder.write("key.pem", certificate::KEY);
        folder.write("secrets.txt", format!("# the next one\n{SECOND_SECRET}\n"));
        folder.write("users.txt", format!("{}:{}\n", BOB.0, BOB.1));
        folder.write("token.txt", format!("{ADMIN_TOKEN}\n"));
        let mut heard = Heard::default();
        for (name, secret) in [
            ("the shared secret", SECRET),
            ("the second secret", SECOND_SECRET),
            ("the API key", API_KEY),
            ("the admin token", ADMIN_TOKEN),
            ("a wrong token", WRONG_TOKEN),
            ("a wrong password", WRONG),
            ("the ICE credential", ICE),
            ("what clients say to each other", TALK),
            ("what is relayed", RELAYED),
        ] {
            heard.knows(Marker::text(name, secret));
        }
        for (name, password) in [ALICE, BOB, DAVE] {
            heard.knows_user(name, password);
        }
        heard.knows(Marker::bytes("the key of carol", &CAROL_KEY));
        for (at, line) in certificate::KEY.lines().filter(|line| !line.starts_with("---")).enumerate() {
            heard.knows(Marker::text(&format!("line {at} of the private key"), line));
        }
        // The environment and the command line are ways to give a secret too.
        let mut command = turnpike(&folder, &["run", "-c", "turnpike.toml"]);
        command.env("TURNPIKE__AUTH__USERS__DAVE", DAVE.1);
        let server = Program::start(&mut command);
        server.wait_for("serving", 1);
        let (http, admin) = (server.address("http"), server.address("admin"));
        Day { folder, server, heard, http, admin, _ports: ports }
    }

    /// What a request is answered, which is heard; the markers it asks for are its own.
    fn ask(
        &mut self,
        part: IpAddr,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &str,
        asked: &[&str],
    ) -> Answer {
        let addr = if target.starts_with("/api/") || ADMIN_PAGES.contains(&target) { self.admin } else { self.http };
        let answer = Wire::connect_from(part, addr).ask(method, target, headers, body);
        self.heard.answered(format!("the answer to {method} {target}"), format!("{answer:?}"), asked);
        self.heard.answered(format!("the body for {method} {target}"), &answer.body, asked);
        answer
    }

    /// A minted password, known from now on.
    fn learn(&mut self, what: &str, name: &Value, password: &Value) -> (String, String) {
        let (name, password) =
            (name.as_str().expect("a name").to_owned(), password.as_str().expect("a password").to_owned());
        self.heard.knows(Marker::text(what, &password));
        let text = format!("{name}:{}:{password}", wire_client::REALM);
        self.heard.knows(Marker::bytes(
            &format!("{what}, as MD5"),
            &<[u8; 16]>::from(<md5::Md5 as md5::Digest>::digest(text)),
        ));
        (name, password)
    }

    /// Runs a command that knows the configuration or the server.
    fn command(&mut self, arguments: &[&str], code: i32, asked: &[&str]) -> String {
        let mut command = turnpike(&self.folder, arguments);
        let (ended, text) = said(command.env("TURNPIKE__AUTH__USERS__DAVE", DAVE.1));
        assert_eq!(ended, Some(code), "{arguments:?}: {text}");
        self.heard.answered(format!("`turnpike {}`", arguments.join(" ")), &text, asked);
        text
    }
}

/// What the admin part answers to beside its API.
const ADMIN_PAGES: [&str; 4] = ["/", "/metrics", "/healthz", "/readyz"];

/// Clients that are let in, and clients that are not, by every transport.
fn allocations(day: &mut Day, minted: &(String, String)) {
    let peer = Peer::new(LOOPBACK[0]);
    for via in Via::ALL {
        let server = day.server.address(via.listener());
        for user in [ALICE, BOB, DAVE, (&*minted.0, &*minted.1)] {
            let mut caller = Caller::as_user(user, via, server);
            let relayed = caller.allocate(allocate());
            caller.permit(&[peer.addr()]);
            caller.bind(0x4000, peer.addr());
            caller.send_on(0x4000, RELAYED.as_bytes());
            assert_eq!(&*peer.receive().0, RELAYED.as_bytes());
            peer.send(relayed, RELAYED.as_bytes());
            caller.receive();
            assert_eq!(caller.code(refresh(600)), 0);
        }
        for user in
            [(ALICE.0, WRONG), ("carol", WRONG), ("nobody", WRONG), (&*minted.0, WRONG), ("1893456000:x", WRONG)]
        {
            assert_eq!(Caller::as_user(user, via, server).ask(allocate()).code(), 401, "{user:?}");
        }
    }
}

/// Credentials for those who may have them, and none for others.
fn minting(day: &mut Day) -> (String, String) {
    let (home, stranger): (IpAddr, IpAddr) = (LOOPBACK[0], "127.0.0.9".parse().expect("an address"));
    let (right, wrong) = (encoded(API_KEY), encoded(WRONG_TOKEN));
    let bearer = format!("Bearer {API_KEY}");
    let mut minted = Vec::new();
    for (at, (method, target, headers, body)) in [
        ("GET", format!("/turn?service=turn&username=guest&key={right}"), vec![], ""),
        ("POST", format!("/turn?service=turn&username=visitor&key={right}"), vec![], ""),
        (
            "POST",
            "/v1/credentials".into(),
            vec![("Authorization", &*bearer), ("Content-Type", "application/json")],
            r#"{"user":"guest","bytes":1000000000}"#,
        ),
        ("GET", format!("/v1alpha/iceconfig?key={right}"), vec![], ""),
    ]
    .into_iter()
    .enumerate()
    {
        let what = format!("minted password {at}");
        // Heard once it is known what it is.
        let answer = Wire::connect_from(home, day.http).ask(method, &target, &headers, body);
        assert_eq!(answer.status, 200, "{}", answer.text());
        let json = answer.json();
        let server = json.pointer("/iceServers/0").unwrap_or(&json);
        let password = server.get("password").or(server.get("credential")).expect("a password");
        minted.push(day.learn(&what, &server["username"], password));
        day.heard.answered(format!("the answer to {target}"), answer.text(), &[&what]);
    }
    for (target, headers) in [
        (format!("/turn?service=turn&username=guest&key={wrong}"), vec![]),
        ("/v1/credentials".to_owned(), vec![("Authorization", format!("Bearer {WRONG_TOKEN}"))]),
        ("/v1/credentials".to_owned(), vec![("Authorization", format!("Basic {WRONG_TOKEN}"))]),
    ] {
        let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, &**value)).collect();
        let answer = day.ask(stranger, "POST", &target, &headers, "", &[]);
        assert!(answer.status >= 400, "{answer:?}");
    }
    minted.swap_remove(2)
}

/// A room in which two talk.
fn talking(day: &mut Day) {
    let home = LOOPBACK[0];
    let joined = Wire::connect(day.http).ask("POST", "/join/kitchen", &[], "");
    let json = joined.json();
    let params = &json["params"];
    let url = params["ice_server_url"].as_str().expect("it says where credentials are");
    let token = url.split_once("key=").expect("by a token").1.to_owned();
    day.heard.knows(Marker::text("the token of the room", &token));
    day.heard.answered("the answer to /join", joined.text(), &["the token of the room", "the ICE credential"]);
    let client = params["client_id"].as_str().expect("an id").to_owned();
    let answer = day.ask(home, "GET", &format!("/v1alpha/iceconfig?key={token}"), &[], "", &["the ICE credential"]);
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(day.ask(home, "POST", &format!("/message/kitchen/{client}"), &[], TALK, &[]).status, 200);
    let bad = format!("{}x", &token[..token.len() - 1]);
    assert!(day.ask(home, "GET", &format!("/v1alpha/iceconfig?key={bad}"), &[], "", &[]).status >= 400);
}

/// Everything the admin part shows, to who may see it and who may not.
fn watching(day: &mut Day) {
    let (home, stranger): (IpAddr, IpAddr) = (LOOPBACK[0], "127.0.0.10".parse().expect("an address"));
    let right = format!("Bearer {ADMIN_TOKEN}");
    let wrong = format!("Bearer {WRONG_TOKEN}");
    let api = ["status", "sessions", "revocations", "rooms", "config", "notices", "openapi.json"];
    let api = api.map(|name| format!("/api/v1/{name}"));
    for target in api.iter().map(String::as_str).chain(ADMIN_PAGES) {
        let answer = day.ask(home, "GET", target, &[("Authorization", &right)], "", &[]);
        assert_eq!(answer.status, 200, "{target}");
    }
    assert_eq!(day.ask(home, "GET", "/test", &[], "", &[]).status, 200);
    let mut events = Wire::connect(day.admin);
    events.send(format!("GET /api/v1/events HTTP/1.1\r\nHost: {}\r\nAuthorization: {right}\r\n\r\n", day.admin));
    let server = day.server.address("udp");
    let _client = Caller::as_user(ALICE, Via::Udp, server).allocate(allocate());
    let mut stream = String::new();
    while !stream.contains("alice") {
        stream += &events.line();
        stream.push('\n');
    }
    day.heard.said("the events", stream);
    for headers in [vec![], vec![("Authorization", &*wrong)]] {
        for target in ["/api/v1/status", "/api/v1/config", "/metrics"] {
            assert_eq!(day.ask(stranger, "GET", target, &headers, "", &[]).status, 401, "{target}");
        }
    }
}

/// The commands that ask the server, and those that read its configuration.
fn asking(day: &mut Day) {
    let configured = ["-c", "turnpike.toml"];
    for format in ["text", "json"] {
        day.command(&[&["check", "--format", format][..], &configured].concat(), 0, &[]);
        day.command(
            &[&["explain", "peer", "10.0.0.1", "--user", "alice", "--format", format][..], &configured].concat(),
            0,
            &[],
        );
        day.command(
            &[&["explain", "credential", "bob", "--password", WRONG, "--format", format][..], &configured].concat(),
            0,
            &[],
        );
        for arguments in [&["status"][..], &["sessions"], &["top", "--once"], &["reload"]] {
            let admin = ["--admin", "./admin.sock", "--format", format];
            day.command(&[arguments, &admin[..]].concat(), 0, &[]);
        }
    }
    let taken =
        day.command(&[&["explain", "credential", ALICE.0, "--password", ALICE.1][..], &configured].concat(), 0, &[]);
    assert!(taken.contains("the password is right"), "{taken}");
    let url = format!("http://{}", day.admin);
    day.command(&["status", "--admin", &url, "--token-file", "token.txt"], 0, &[]);
    day.command(&["status", "--admin", &url, "--token-file", "secrets.txt"], 1, &[]);
    day.command(&["revoke", "eve", "--admin", "./admin.sock"], 0, &[]);
    day.command(&["kick", "--user", "alice", "--admin", "./admin.sock"], 0, &[]);
}

/// Reloads that are refused, whose errors point at lines with secrets, and one that is not.
fn reloading(day: &mut Day) {
    let read = |name: &str| std::fs::read_to_string(day.folder.0.join(name)).expect("it is there");
    let (good, secrets, users) = (read("turnpike.toml"), read("secrets.txt"), read("users.txt"));
    let mut refused = day.server.said().matches("reload refused").count();
    let broken = super::mistakes::broken(&good, ALICE.1, SECRET, API_KEY, ICE);
    let files = [
        ("secrets.txt", format!("short\n{SECOND_SECRET}\n")),
        ("users.txt", format!("{}:{}\n{}\n", BOB.0, BOB.1, BOB.1)),
        ("users.txt", format!("{0}:{1}\n{0}:{1}\n", BOB.0, BOB.1)),
        ("key.pem", certificate::KEY.replace("PRIVATE KEY", "PRIVATE HAT")),
        ("key.pem", certificate::KEY.replace("MIGH", "mIGH")),
    ];
    let all = broken.into_iter().map(|text| ("turnpike.toml", text)).chain(files);
    for (name, text) in all {
        day.folder.write(name, &text);
        day.server.signal("HUP");
        refused += 1;
        day.server.wait_for("reload refused", refused);
        for (name, text) in [("turnpike.toml", &good), ("secrets.txt", &secrets), ("users.txt", &users)] {
            day.folder.write(name, text);
        }
        day.folder.write("key.pem", certificate::KEY);
    }
    let reloaded = day.server.said().matches("reloaded").count();
    day.folder.write("turnpike.toml", good.replace("permissions = true", "permissions = false"));
    day.server.signal("HUP");
    day.server.wait_for("reloaded", reloaded + 1);
}

fn a_day(format: &str) {
    let mut day = Day::begin(format);
    let minted = minting(&mut day);
    allocations(&mut day, &minted);
    talking(&mut day);
    watching(&mut day);
    asking(&mut day);
    reloading(&mut day);
    let Day { folder, server, mut heard, .. } = day;
    server.signal("TERM");
    server.wait_for("drain", 1);
    server.signal("INT");
    let (status, log) = server.end();
    assert!(status.success(), "{log}");
    assert!(log.contains("TRACE") || log.contains("<7>"), "the log is talkative: {log}");
    heard.said(format!("the log as {format}"), log);
    heard.written(&folder.0, &GIVEN);
    heard.judge();
}

#[test]
fn a_day_at_trace_tells_no_secret_as_text() {
    a_day("text");
}

#[test]
fn a_day_at_trace_tells_no_secret_as_json() {
    a_day("json");
}

#[test]
fn a_day_at_trace_tells_no_secret_to_the_journal() {
    a_day("journald");
}
