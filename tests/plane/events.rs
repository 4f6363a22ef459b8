//! Events of the admin API, as they come over the wire.

use super::get;
use crate::client::{Caller, Peer};
use crate::fixture::{Fixture, Wire, wait_until};
use crate::link::Via;
use crate::wire_client::{ALICE, allocate, permit, rest_password};
use serde_json::Value;

/// Most events read while one is waited for: those of half a minute.
const EVENTS_MAX: usize = 100;
/// How many may listen.
const LISTENERS_MAX: usize = 32;

/// One who listens.
struct Listener(Wire);

impl Listener {
    /// Begins to listen; the status of the answer.
    fn open(fixture: &Fixture) -> (Listener, u16) {
        let mut wire = Wire::connect(fixture.admin);
        wire.send("GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let line = wire.line();
        let mut kind = String::new();
        loop {
            match wire.line().to_ascii_lowercase() {
                end if end.is_empty() => break,
                header => kind.extend(header.strip_prefix("content-type: ")),
            }
        }
        let status = line["HTTP/1.1 ".len()..][..3].parse().expect("a status is a number");
        assert_eq!(kind == "text/event-stream", status == 200, "{line} {kind}");
        (Listener(wire), status)
    }

    /// The next event that fits. Lines between events are those of the chunks.
    fn next(&mut self, name: &str, fits: impl Fn(&Value) -> bool) -> Value {
        for _ in 0..EVENTS_MAX {
            let event = loop {
                if let Some(event) = self.0.line().strip_prefix("event: ") {
                    break event.to_owned();
                }
            };
            let line = self.0.line();
            let data = line.strip_prefix("data: ").unwrap_or_else(|| panic!("{event} has its data: {line}"));
            let data: Value = serde_json::from_str(data).expect("the data is JSON");
            assert_eq!(self.0.line(), "", "an event ends with an empty line");
            if event == name && fits(&data) {
                return data;
            }
        }
        panic!("{EVENTS_MAX} events and no such `{name}`");
    }

    fn notice(&mut self, kind: &str, client: &Caller) -> Value {
        let client = client.local_addr().to_string();
        self.next("notice", |notice| notice["kind"] == kind && notice["client"] == client)
    }
}

#[test]
fn figures_come_every_second() {
    let fixture = Fixture::start();
    let (mut alice, relayed) = Caller::allocated(Via::Udp, fixture.udp);
    let peer = Peer::new(relayed.ip());
    alice.bind(0x4000, peer.addr());
    let (mut listener, status) = Listener::open(&fixture);
    assert_eq!(status, 200);
    alice.send_on(0x4000, b"five!");
    peer.receive();
    let figures = listener.next("status", |status| status["relay"]["to_peer"]["bytes"] == 5);
    assert_eq!(figures["allocations"], 1);
    let sessions = listener.next("sessions", |sessions| sessions["sessions"][0]["to_peer"]["bytes"] == 5);
    assert_eq!((&sessions["total"], &sessions["partial"]), (&1.into(), &false.into()));
    assert_eq!(sessions["sessions"][0]["client"], alice.local_addr().to_string());
    alice.send_on(0x4000, b"seven!!");
    peer.receive();
    let fast = |sessions: &Value| {
        let way = &sessions["sessions"][0]["to_peer"];
        way["bytes"] == 12 && way["bytes_per_s"].as_f64().is_some_and(|rate| rate > 0.0)
    };
    listener.next("sessions", fast);
}

#[test]
fn what_begins_ends_and_is_refused_is_told_in_words() {
    let fixture = Fixture::start();
    let (mut listener, _) = Listener::open(&fixture);
    let (mut alice, relayed) = Caller::allocated(Via::Tcp, fixture.tcp);
    let created = listener.notice("created", &alice);
    assert_eq!(created["text"], format!("created over TCP: {relayed}"));
    assert_eq!(created["user"], ALICE.0);
    assert!(created["at_unix_s"].as_u64().is_some_and(|at| at > 1_600_000_000));

    let forbidden = "169.254.169.254:80".parse().expect("an address and a port");
    assert_eq!(alice.code(permit(&[forbidden])), 403);
    let refused = listener.notice("refused", &alice);
    let text = refused["text"].as_str().expect("it is text");
    assert!(text.starts_with("403: peer denied by policy [") && text.ends_with("] (create_permission)"), "{text}");
    assert!(text.contains("169.254.0.0/16"), "the rule that decided: {text}");
    assert_eq!(alice.code(allocate()), 437);
    assert_eq!(listener.notice("refused", &alice)["text"], "437: there is an allocation already (allocate)");

    alice.end();
    let ended = listener.notice("ended", &alice);
    assert_eq!(ended["id"], created["id"]);
    let text = ended["text"].as_str().expect("text");
    assert!(text.starts_with("ended: deleted by the client after "), "{text}");
    assert!(text.ends_with(" s, 0 bytes to peers, 0 bytes to the client"), "{text}");

    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs();
    let name = |expiry: u64| format!("{expiry}:<script>alert(1)</script>");
    for (name, password, text) in [
        (name(now - 7_200), None, "401: credential expired 2 h 0 m ago (allocate)"),
        (name(now + 10 * 86_400), None, "401: expiry too far ahead (allocate)"),
        (name(now + 3600), Some("wrong"), "401: wrong password (allocate)"),
        ("mallory".to_owned(), Some("wrong"), "401: unknown user (allocate)"),
    ] {
        let password = password.map_or_else(|| rest_password(&name), str::to_owned);
        let mut stranger = Caller::as_user((&name, &password), Via::Udp, fixture.udp);
        assert_eq!(stranger.code(allocate()), 401);
        let refused = listener.notice("refused", &stranger);
        assert_eq!((&refused["text"], &refused["user"]), (&text.into(), &name.into()));
        assert!(refused["id"].is_null());
    }

    let kept = get(&fixture, "/api/v1/notices").json();
    let kinds: Vec<&str> =
        kept.as_array().expect("a list").iter().filter_map(|notice| notice["kind"].as_str()).collect();
    assert_eq!(kinds[..4], ["created", "refused", "refused", "ended"]);
}

#[test]
fn the_last_256_notices_are_kept() {
    let fixture = Fixture::start();
    let (mut alice, _) = Caller::allocated(Via::Udp, fixture.udp);
    for _ in 0..130 {
        alice.end();
        alice.allocate(allocate());
    }
    let mut last = Value::Null;
    wait_until("the last allocation is told", || {
        let kept = get(&fixture, "/api/v1/notices").json();
        last = kept;
        let count = last.as_array().map_or(0, Vec::len);
        count == 256 && last[255]["kind"] == "created"
    });
    assert_eq!(last[254]["kind"], "ended");
}

#[test]
fn listeners_are_limited_and_make_room_when_they_go() {
    let fixture = Fixture::start();
    let mut listeners: Vec<Listener> = (0..LISTENERS_MAX)
        .map(|_| Listener::open(&fixture))
        .map(|(listener, status)| {
            assert_eq!(status, 200);
            listener
        })
        .collect();
    assert_eq!(Listener::open(&fixture).1, 503);
    listeners.pop();
    wait_until("there is room again", || Listener::open(&fixture).1 == 200);
    listeners[0].next("status", |_| true);
}
