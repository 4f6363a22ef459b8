//! Who gets credentials, in which shape, how often; and that the relay takes them.

#[path = "credentials/callers.rs"]
mod callers;

use super::client::Caller;
use super::fixture::{API_KEY, Answer, Fixture, PATIENCE, TOKEN_KEY, TTL_MAX_S, Wire, request};
use super::link::Via;
use super::wire_client::{allocate, rest_password};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use std::time::{SystemTime, UNIX_EPOCH};

/// Seconds since 1970.
pub fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("it is later than 1970").as_secs()
}

/// A room token, made as the plane makes them but by other code.
pub fn room_token(room: &str, expires_unix_s: u64, key: &[u8]) -> String {
    let said = [&expires_unix_s.to_be_bytes()[..], room.as_bytes()].concat();
    let mac = Hmac::<sha2::Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
    let mac = mac.chain_update("turnpike room token v1").chain_update(&said).finalize().into_bytes();
    URL_SAFE_NO_PAD.encode([&said[..], &mac].concat())
}

fn good_token(room: &str) -> String {
    room_token(room, now_s() + 60, &TOKEN_KEY)
}

fn turn(fixture: &Fixture, query: &str) -> Answer {
    fixture.get(&format!("/turn?key={API_KEY}&{query}"))
}

/// Asserts that this is a credential of the user that ends in `ttl_s` from now.
fn check(username: &Value, password: &Value, user: Option<&str>, ttl_s: u64) {
    let (username, password) = (username.as_str().expect("a name"), password.as_str().expect("a password"));
    let (expiry, id) = username.split_once(':').map_or((username, None), |(expiry, id)| (expiry, Some(id)));
    assert_eq!(id, user, "{username}");
    let left_s = expiry.parse::<u64>().expect("an expiry") - now_s();
    assert!((ttl_s.saturating_sub(PATIENCE.as_secs())..=ttl_s).contains(&left_s), "{left_s} of {ttl_s} s");
    assert_eq!(password, rest_password(username));
}

#[test]
fn the_draft_is_answered_as_it_says() {
    let fixture = Fixture::start();
    let addr = fixture.public;
    let query = format!("service=turn&username=alice&key={API_KEY}");
    let form = [("Content-Type", "application/x-www-form-urlencoded; charset=UTF-8")];
    for answer in [
        fixture.get(&format!("/turn?{query}")),
        fixture.get(&format!("/turn?username=alice&key={API_KEY}&unknown=1&unknown=2")),
        fixture.post(&format!("/turn?{query}"), ""),
        request(addr, "POST", "/turn", &form, &query),
        request(addr, "POST", "/turn?service=turn&username=alice", &form, format!("key={API_KEY}")),
        request(addr, "GET", "/turn?username=alice", &[("Authorization", &format!("Bearer {API_KEY}"))], ""),
        request(addr, "POST", &format!("/turn?{query}"), &[("Content-Type", "text/plain")], "username=mallory"),
    ] {
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        let answer = answer.json();
        check(&answer["username"], &answer["password"], Some("alice"), 3600);
        assert_eq!(answer["ttl"], 3600);
        assert_eq!(answer["uris"], json!(fixture.live.load().uris));
        assert_eq!(answer.as_object().expect("an object").len(), 4);
    }
}

#[test]
fn a_name_may_be_missing_unless_it_is_required() {
    let fixture = Fixture::start();
    for query in ["", "username="] {
        let answer = turn(&fixture, query).json();
        check(&answer["username"], &answer["password"], None, 3600);
    }
    fixture.change(|live| live.username_required = true);
    let answer = turn(&fixture, "");
    assert_eq!(answer.status, 200, "clients of the first such service look for the words");
    assert_eq!(answer.json(), json!({ "error": "AppError", "message": "Must provide username." }));
    assert_eq!(turn(&fixture, "username=alice").json()["ttl"], 3600);
}

#[test]
fn a_time_is_as_long_as_asked_for_up_to_the_longest() {
    let fixture = Fixture::start();
    for ttl_s in [1, 600, TTL_MAX_S] {
        let answer = turn(&fixture, &format!("username=alice&ttl={ttl_s}")).json();
        assert_eq!(answer["ttl"], ttl_s);
        check(&answer["username"], &answer["password"], Some("alice"), ttl_s);
    }
    for ttl in [&*(TTL_MAX_S + 1).to_string(), "0", "18446744073709551615"] {
        let answer = turn(&fixture, &format!("ttl={ttl}"));
        assert_eq!(answer.status, 400, "{ttl}");
        assert!(answer.text().contains(&TTL_MAX_S.to_string()), "{}", answer.text());
    }
    for ttl in ["18446744073709551616", "-1", "1h", "1.5", "x"] {
        assert_eq!(turn(&fixture, &format!("ttl={ttl}")).status, 400, "{ttl}");
    }
}

#[test]
fn a_user_id_is_plain_and_128_bytes_at_most() {
    let fixture = Fixture::start();
    let longest = "a".repeat(128);
    for user in ["a", "Alice.B_c-1@example.org", "392938130", &longest] {
        let answer = turn(&fixture, &format!("username={user}")).json();
        check(&answer["username"], &answer["password"], Some(user), 3600);
    }
    let longer = "a".repeat(129);
    for user in ["a:b", "a%20b", "a%00", "a%0d%0ab", "%3Cimg%3E", "a'b", "a%22b", "%C3%BC", "a/b", "a%5Cb", &longer] {
        assert_eq!(turn(&fixture, &format!("username={user}")).status, 400, "{user}");
        let body = format!("{{\"user\": {:?}}}", user.replace('%', " "));
        let headers = [("Authorization", &*format!("Bearer {API_KEY}"))];
        assert_eq!(request(fixture.public, "POST", "/v1/credentials", &headers, body).status, 400, "{user}");
    }
}

#[test]
fn what_is_asked_twice_or_of_another_service_is_refused() {
    let fixture = Fixture::start();
    for query in [
        "username=a&username=b",
        "username=&username=b",
        "ttl=1&ttl=1",
        "key=x",
        "service=stun",
        "service=turn&service=turn",
    ] {
        assert_eq!(turn(&fixture, query).status, 400, "{query}");
    }
    let form = [("Content-Type", "application/x-www-form-urlencoded")];
    let answer = request(fixture.public, "POST", &format!("/turn?key={API_KEY}"), &form, format!("key={API_KEY}"));
    assert_eq!(answer.status, 400);
    assert_eq!(request(fixture.public, "POST", "/turn", &form, "a b\u{1}").status, 400);
}

#[test]
fn apprtc_is_answered_whatever_it_sends() {
    let fixture = Fixture::start();
    let addr = fixture.public;
    let path = format!("/v1alpha/iceconfig?key={API_KEY}");
    for answer in [
        fixture.get(&path),
        fixture.post(&path, ""),
        request(
            addr,
            "POST",
            &path,
            &[("Content-Type", "text/plain;charset=UTF-8"), ("Referer", "https://appr.tc")],
            "",
        ),
        request(addr, "POST", &path, &[("Content-Type", "application/json")], "{"),
        request(addr, "POST", &path, &[("Content-Type", "application/x-www-form-urlencoded")], "key=other"),
        request(addr, "GET", "/v1alpha/iceconfig", &[("Authorization", &format!("Bearer {API_KEY}"))], ""),
    ] {
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        assert_eq!(answer.header("content-type"), Some("application/json"));
        let answer = answer.json();
        assert_eq!(answer["lifetimeDuration"], "3600s");
        let servers = answer["iceServers"].as_array().expect("a list");
        assert!(!servers.is_empty() && servers.iter().all(|server| server["urls"].is_array()), "{answer}");
        assert_eq!(servers[0]["urls"], json!(fixture.live.load().uris));
        check(&servers[0]["username"], &servers[0]["credential"], None, 3600);
    }
    let answer = request(addr, "OPTIONS", &path, &[], "");
    assert_eq!((answer.status, answer.header("allow")), (204, Some("GET, HEAD, POST, OPTIONS")));
}

#[test]
fn a_backend_is_answered_in_json() {
    let fixture = Fixture::start();
    let bearer = format!("Bearer {API_KEY}");
    let ask = |body: &str| request(fixture.public, "POST", "/v1/credentials", &[("Authorization", &bearer)], body);
    let answer = ask(r#"{"user": "alice", "ttl": 60}"#);
    assert_eq!((answer.status, answer.header("cache-control")), (200, Some("no-store")));
    let answer = answer.json();
    let server = &answer["iceServers"][0];
    check(&server["username"], &server["credential"], Some("alice"), 60);
    assert_eq!(server["urls"], json!(fixture.live.load().uris));
    assert_eq!(answer["ttl"], 60);
    let name = server["username"].as_str().expect("a name");
    assert_eq!(name, format!("{}:alice", answer["expires"]));
    assert_eq!(ask(r#"{"user": "alice"}"#).json()["ttl"], 3600);
    for body in [
        "",
        "{",
        "[]",
        "{}",
        r#"{"user": ""}"#,
        r#"{"user": 1}"#,
        r#"{"user": "a", "user": "b"}"#,
        r#"{"user": "a", "tll": 1}"#,
        r#"{"user": "a", "ttl": "1h"}"#,
        r#"{"user": "a", "ttl": -1}"#,
        r#"{"user": "a", "ttl": 86401}"#,
    ] {
        assert_eq!(ask(body).status, 400, "{body}");
    }
}

#[test]
fn a_page_learns_every_way_to_this_server() {
    let fixture = Fixture::with(|live| {
        live.test_uris = [
            "turn:192.0.2.1:3478?transport=udp",
            "turn:[2001:db8::1]:3478?transport=tcp",
            "turns:turn.example.org:5349?transport=tcp",
            "turn:192.0.2.1:3478",
            "stun:192.0.2.1:3478",
        ]
        .map(String::from)
        .into();
    });
    let answer = fixture.get(&format!("/v1/test?key={}", good_token("")));
    assert_eq!((answer.status, answer.header("cache-control")), (200, Some("no-store")));
    let answer = answer.json();
    check(&answer["username"], &answer["credential"], Some("page"), 600);
    assert_eq!(answer["ttl"], 600);
    let servers = json!([
        { "uri": "turn:192.0.2.1:3478?transport=udp", "transport": "udp", "family": 4 },
        { "uri": "turn:[2001:db8::1]:3478?transport=tcp", "transport": "tcp", "family": 6 },
        { "uri": "turns:turn.example.org:5349?transport=tcp", "transport": "tls", "family": null },
        { "uri": "turn:192.0.2.1:3478", "transport": "udp", "family": 4 },
    ]);
    assert_eq!(answer["servers"], servers);
}

#[test]
fn without_a_secret_the_key_to_set_is_named() {
    let fixture = Fixture::with(|live| live.mint = None);
    let headers = [("Authorization", &*format!("Bearer {API_KEY}"))];
    for answer in [
        turn(&fixture, ""),
        fixture.get(&format!("/v1alpha/iceconfig?key={}", good_token("room"))),
        fixture.get(&format!("/v1/test?key={}", good_token(""))),
        request(fixture.public, "POST", "/v1/credentials", &headers, r#"{"user": "alice"}"#),
    ] {
        assert_eq!((answer.status, &*answer.code()), (503, "no_secret"));
        assert!(answer.text().contains("auth.secrets"), "{}", answer.text());
    }
    assert_eq!(fixture.get("/turn").status, 403, "strangers learn nothing");
}

#[test]
fn rooms_can_be_told_of_other_servers() {
    let other = json!({ "urls": ["turn:other.example.org"], "username": "u", "credential": "p" });
    let fixture = Fixture::with(|live| {
        live.ice_servers = vec![other.clone()];
        live.mint = None;
    });
    let answer = fixture.get(&format!("/v1alpha/iceconfig?key={}", good_token("room")));
    assert_eq!(answer.json()["iceServers"], json!([other]));
    assert_eq!(turn(&fixture, "").status, 503, "who has a key asks for this server's own");
}

#[test]
fn the_separator_is_the_configured_one() {
    let fixture = Fixture::with(|live| {
        if let Some(mint) = &mut live.mint {
            mint.separator = '_';
        }
    });
    let answer = turn(&fixture, "username=alice").json();
    let name = answer["username"].as_str().expect("a name");
    assert!(name.ends_with("_alice"), "{name}");
    assert_eq!(answer["password"], rest_password(name));
}

#[test]
fn the_relay_takes_what_was_given() {
    let fixture = Fixture::start();
    let answer = turn(&fixture, "username=alice").json();
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    let (username, password) = (text(&answer["username"]), text(&answer["password"]));
    for (via, server) in [(Via::Udp, fixture.udp), (Via::Tcp, fixture.tcp)] {
        let mut caller = Caller::as_user((&username, &password), via, server);
        assert!(caller.allocate(allocate()).ip().is_loopback());
        caller.end();
    }
    let url = fixture.get("/params").json()["ice_server_url"].as_str().expect("a URL").to_owned();
    let path = url.split_once(&fixture.public.to_string()).expect("it is this server's").1;
    let server = fixture.post(path, "").json()["iceServers"][0].clone();
    let mut caller = Caller::as_user((&text(&server["username"]), &text(&server["credential"])), Via::Udp, fixture.udp);
    caller.allocate(allocate());
    caller.end();
    let mut stranger = Caller::as_user((&username, &password[1..]), Via::Udp, fixture.udp);
    assert_eq!(stranger.code(allocate()), 401);
}

#[test]
fn caps_ride_in_the_name_and_are_told() {
    let fixture = Fixture::start();
    let headers = [("Authorization", &*format!("Bearer {API_KEY}"))];
    let ask = |body: Value| request(fixture.public, "POST", "/v1/credentials", &headers, body.to_string());
    for (caps, suffix) in [
        (json!({}), ""),
        (json!({ "allocations": 2 }), "+a2"),
        (
            json!({ "bytes": 1_000_000_000_u64, "bytes_per_second": 125_000, "allocations": 2 }),
            "+a2+r125000+b1000000000",
        ),
        (json!({ "allocations": 1_000_000, "bytes": (1_u64 << 53) - 1 }), "+a1000000+b9007199254740991"),
    ] {
        let mut body = caps.clone();
        body["user"] = "alice".into();
        let answer = ask(body);
        assert_eq!(answer.status, 200, "{caps}");
        let answer = answer.json();
        for name in ["allocations", "bytes_per_second", "bytes"] {
            assert_eq!(answer.get(name), caps.get(name), "{name}");
        }
        let server = &answer["iceServers"][0];
        let username = server["username"].as_str().expect("a name");
        assert!(username.ends_with(&format!("{suffix}:alice")), "{username}");
        assert_eq!(server["credential"], rest_password(username), "it is the whole name that is signed");
        let mut caller = Caller::as_user((username, &rest_password(username)), Via::Udp, fixture.udp);
        assert_eq!(caller.code(allocate()), 0, "{username}");
        caller.end();
    }
    for body in [
        json!({ "user": "alice", "allocations": 0 }),
        json!({ "user": "alice", "allocations": 1_000_001 }),
        json!({ "user": "alice", "allocations": -1 }),
        json!({ "user": "alice", "bytes": 0 }),
        json!({ "user": "alice", "bytes": 1_u64 << 53 }),
        json!({ "user": "alice", "bytes": "1 GB" }),
        json!({ "user": "alice", "bytes_per_second": 0.5 }),
        json!({ "user": "alice", "bits": 1 }),
    ] {
        assert_eq!(ask(body.clone()).status, 400, "{body}");
    }
    fixture.change(|live| live.mint.as_mut().expect("there is a secret").separator = '+');
    let answer = ask(json!({ "user": "alice", "allocations": 1 }));
    assert!(answer.status == 400 && answer.text().contains("auth.separator"), "{answer:?}");
    assert_eq!(ask(json!({ "user": "alice" })).status, 200);
}
