//! The admin part: who may use it, what its API says, and what its handles do.

mod events;
mod sessions;
mod steering;

use crate::client::Caller;
use crate::fixture::{Answer, Fixture, Wire, Wish, digest, request};
use crate::link::Via;
use crate::wire_client::refresh;
use serde_json::Value;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use turnpike::http::{self, Network};

/// The admin token of these tests.
const TOKEN: &str = "a-token-of-more-than-128-bits";

/// Every route of the API.
pub const ROUTES: [(&str, &str); 17] = [
    ("GET", "/api/v1/status"),
    ("GET", "/api/v1/sessions"),
    ("DELETE", "/api/v1/sessions"),
    ("GET", "/api/v1/sessions/{id}"),
    ("DELETE", "/api/v1/sessions/{id}"),
    ("POST", "/api/v1/drain"),
    ("DELETE", "/api/v1/drain"),
    ("POST", "/api/v1/reload"),
    ("GET", "/api/v1/revocations"),
    ("POST", "/api/v1/revocations"),
    ("DELETE", "/api/v1/revocations/{id}"),
    ("GET", "/api/v1/rooms"),
    ("GET", "/api/v1/config"),
    ("GET", "/api/v1/notices"),
    ("GET", "/api/v1/events"),
    ("GET", "/api/v1/openapi.json"),
    ("GET", "/metrics"),
];

/// What a route answers at an empty server to one who may ask.
fn expected(method: &str, route: &str) -> u16 {
    match (method, route) {
        (_, "/api/v1/sessions/{id}" | "/api/v1/revocations/{id}") => 404,
        // There is no body that says whom.
        ("POST", "/api/v1/revocations") => 400,
        ("POST", "/api/v1/drain") => 202,
        _ => 200,
    }
}

/// A request for a route.
pub fn target(method: &str, route: &str) -> String {
    let query = if (method, route) == ("DELETE", "/api/v1/sessions") { "?user=nobody" } else { "" };
    route.replace("{id}", "0-0-0") + query
}

/// The status of an answer, whose body may never end.
fn status(wire: &mut Wire, method: &str, target: &str, headers: &[(&str, &str)]) -> u16 {
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    wire.send(format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n"));
    let line = wire.line();
    line.strip_prefix("HTTP/1.1 ").and_then(|line| line[..3].parse().ok()).unwrap_or_else(|| panic!("{line}"))
}

/// A source of its own: a lock on one never touches another.
fn source(number: u16) -> IpAddr {
    let [high, low] = number.to_be_bytes();
    Ipv4Addr::new(127, 0, 1 + high, low).into()
}

fn get(fixture: &Fixture, path: &str) -> Answer {
    request(fixture.admin, "GET", path, &[], "")
}

#[test]
fn without_a_token_this_machine_may_do_everything() {
    let fixture = Fixture::start();
    for (method, route) in ROUTES {
        let mut wire = Wire::connect(fixture.admin);
        assert_eq!(status(&mut wire, method, &target(method, route), &[]), expected(method, route), "{method} {route}");
    }
}

#[test]
fn without_a_token_nobody_else_may_do_anything() {
    let trusted = Network { ip: IpAddr::V4(Ipv4Addr::LOCALHOST), prefix_len: 8 };
    for (trusts_the_proxy, client) in [(true, "192.0.2.1"), (true, "127.0.0.1"), (false, "192.0.2.1")] {
        let fixture = Fixture::with(|live| live.trusted_proxies.extend(trusts_the_proxy.then_some(trusted)));
        for (method, route) in ROUTES {
            let proxied = [("X-Forwarded-For", client)];
            let answer = request(fixture.admin, method, &target(method, route), &proxied, "");
            assert_eq!((answer.status, &*answer.code()), (403, "not_local"), "{method} {route} for {client}");
        }
        for open in ["/healthz", "/readyz"] {
            assert_eq!(request(fixture.admin, "GET", open, &[("X-Forwarded-For", client)], "").status, 200, "{open}");
        }
    }
}

#[test]
fn with_a_token_every_route_asks_for_it() {
    let fixture = Fixture::with(|live| live.admin_token = Some(digest(TOKEN)));
    let right = format!("Bearer {TOKEN}");
    let wrong = [
        String::new(),
        "Bearer".into(),
        "Bearer ".into(),
        format!("Bearer {}", &TOKEN[1..]),
        format!("Bearer {}", &TOKEN[..TOKEN.len() - 1]),
        format!("Bearer {TOKEN}x"),
        format!("Basic {TOKEN}"),
        TOKEN.to_owned(),
        format!("Bearer {}", digest(TOKEN).map(|byte| format!("{byte:02x}")).concat()),
    ];
    for (at, (method, route)) in (0..).zip(ROUTES) {
        let target = target(method, route);
        // Fewer failures than lock a source.
        for (number, wrong) in (0..).zip(&wrong) {
            let headers: &[(&str, &str)] = if wrong.is_empty() { &[] } else { &[("Authorization", wrong)] };
            let answer = Wire::connect_from(source(at * 16 + number), fixture.admin).ask(method, &target, headers, "");
            assert_eq!((answer.status, &*answer.code()), (401, "unauthorized"), "{method} {route} with {wrong:?}");
            assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
        }
        let mut wire = Wire::connect_from(source(at), fixture.admin);
        let found = status(&mut wire, method, &target, &[("Authorization", &right)]);
        assert_eq!(found, expected(method, route), "{method} {route}");
    }
    assert_eq!(*fixture.draining.lock(), None, "the last of those who might had it ended");
    for open in ["/healthz", "/readyz"] {
        assert_eq!(get(&fixture, open).status, 200, "{open} is for anyone");
    }
}

#[test]
fn a_source_that_guesses_tokens_is_locked_out_alone() {
    let fixture = Fixture::with(|live| live.admin_token = Some(digest(TOKEN)));
    let ask = |number: u16, token: &str| {
        let headers = [("Authorization", &*format!("Bearer {token}"))];
        Wire::connect_from(source(number), fixture.admin).ask("GET", "/api/v1/status", &headers, "")
    };
    for _ in 0..5 {
        assert_eq!(ask(1, "guessed").status, 401);
    }
    let locked = ask(1, TOKEN);
    assert_eq!(locked.status, 429, "the right one comes too late");
    let wait: u64 = locked.header("retry-after").and_then(|wait| wait.parse().ok()).expect("it says how long");
    assert!((1..=30).contains(&wait), "{wait}");
    assert_eq!(ask(2, TOKEN).status, 200);
}

#[test]
fn the_token_lets_in_from_anywhere_and_the_unix_socket_needs_none() {
    let wish = Wish { admin_socket: true, ..Wish::default() };
    let fixture = Fixture::wish(wish, |live| live.admin_token = Some(digest(TOKEN)));
    let headers = [("Authorization", &*format!("bearer {TOKEN}")), ("X-Forwarded-For", "192.0.2.1")];
    assert_eq!(request(fixture.admin, "GET", "/api/v1/status", &headers, "").status, 200);
    let foreign = [("Authorization", &*format!("Bearer {TOKEN}")), ("Origin", "https://dashboards.example")];
    assert_eq!(request(fixture.admin, "GET", "/api/v1/status", &foreign, "").status, 200);
    let socket = fixture.socket.clone().expect("it was wished for");
    for (method, route) in ROUTES {
        let mut wire = Wire::unix(&socket);
        assert_eq!(status(&mut wire, method, &target(method, route), &[]), expected(method, route), "{method} {route}");
    }
}

#[test]
fn a_foreign_page_steers_nothing() {
    let fixture = Fixture::start();
    let own = format!("http://{}", fixture.admin);
    for (method, route) in ROUTES.into_iter().filter(|(method, _)| *method != "GET") {
        let target = target(method, route);
        for foreign in [("Origin", "https://evil.example"), ("Origin", "null"), ("Sec-Fetch-Site", "cross-site")] {
            let answer = request(fixture.admin, method, &target, &[foreign], "");
            assert_eq!((answer.status, &*answer.code()), (403, "cross_site"), "{method} {route} {foreign:?}");
        }
        let form = [("Content-Type", "application/x-www-form-urlencoded")];
        assert_eq!(request(fixture.admin, method, &target, &form, "a=b").status, 415, "{method} {route}");
        let page = [("Origin", &*own), ("Sec-Fetch-Site", "same-origin"), ("Content-Type", "application/json")];
        assert_eq!(request(fixture.admin, method, &target, &page, "{}").status, expected(method, route));
    }
    assert_eq!(fixture.reloads.load(std::sync::atomic::Ordering::SeqCst), 1, "one of them was the operator's");
}

#[test]
fn looking_changes_nothing() {
    let fixture = Fixture::start();
    let (mut alice, _) = Caller::allocated(Via::Udp, fixture.udp);
    for (_, route) in ROUTES {
        for method in ["GET", "HEAD", "OPTIONS"] {
            let found = status(&mut Wire::connect(fixture.admin), method, &target("DELETE", route), &[]);
            assert!(found < 500, "{method} {route}: {found}");
        }
    }
    assert_eq!(fixture.reloads.load(std::sync::atomic::Ordering::SeqCst), 0);
    assert_eq!(*fixture.draining.lock(), None);
    alice.succeed(refresh(600));
}

#[test]
fn the_document_names_every_route_and_the_router_no_other() {
    let fixture = Fixture::start();
    let document = get(&fixture, "/api/v1/openapi.json").json();
    assert!(document["openapi"].as_str().is_some_and(|version| version.starts_with("3.1")), "{document}");
    assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
    let paths = document["paths"].as_object().expect("paths");
    let named: BTreeSet<(String, &str)> = paths
        .iter()
        .flat_map(|(path, methods)| {
            methods.as_object().expect("methods").keys().map(|method| (method.to_uppercase(), path.as_str()))
        })
        .collect();
    let outside = ["/api/v1/openapi.json", "/metrics"];
    let expected = ROUTES.iter().filter(|(_, path)| !outside.contains(path));
    assert_eq!(named, expected.map(|(method, path)| ((*method).to_owned(), *path)).collect());
    for path in paths.keys() {
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE"] {
            if !named.contains(&(method.to_owned(), path)) {
                assert_eq!(
                    request(fixture.admin, method, &target(method, path), &[], "").status,
                    405,
                    "{method} {path}"
                );
            }
        }
    }
    let operations = paths.values().flat_map(|methods| methods.as_object().expect("methods").values());
    let ids: Vec<&str> = operations.map(|operation| operation["operationId"].as_str().expect("an id")).collect();
    assert_eq!(
        ids.iter().collect::<BTreeSet<_>>().len(),
        named.len(),
        "every operation has a name of its own: {ids:?}"
    );
    let schemas = document["components"]["schemas"].as_object().expect("schemas");
    for (at, reference) in references(&document) {
        let name = reference.strip_prefix("#/components/schemas/").unwrap_or_else(|| panic!("{reference}"));
        assert!(schemas.contains_key(name), "{at} refers to {name}, which is not there");
    }
}

/// Every `$ref` of a document and where it is.
fn references(value: &Value) -> Vec<(String, String)> {
    match value {
        Value::Object(fields) => fields
            .iter()
            .flat_map(|(key, value)| match (key.as_str(), value) {
                ("$ref", Value::String(text)) => vec![(key.clone(), text.clone())],
                _ => references(value).into_iter().map(|(at, text)| (format!("{key}/{at}"), text)).collect(),
            })
            .collect(),
        Value::Array(items) => items.iter().flat_map(references).collect(),
        _ => Vec::new(),
    }
}

#[test]
fn a_reload_says_what_it_did_or_why_not() {
    let fixture = Fixture::start();
    let answer = request(fixture.admin, "POST", "/api/v1/reload", &[], "");
    assert_eq!(answer.status, 200);
    assert_eq!(answer.json()["applied"][0], "limits.allocations");
    assert_eq!(answer.json()["needs_restart"].as_array().map(Vec::len), Some(0));
    let text = "turnpike.toml:3:9: `auth.secret` is not a key; did you mean `auth.secrets`?";
    let fixture = Fixture::spawn(
        Wish::default(),
        |_| (),
        |mut config| {
            config.control.reload = Arc::new(|| Err(text.into()));
            http::spawn(config)
        },
    );
    let answer = request(fixture.admin, "POST", "/api/v1/reload", &[], "");
    assert_eq!((answer.status, &*answer.code()), (422, "bad_configuration"));
    assert_eq!(answer.json()["detail"], text);
}

#[test]
fn the_status_has_every_figure_from_the_start() {
    let fixture = Fixture::start();
    let answer = get(&fixture, "/api/v1/status");
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    let status = answer.json();
    assert_eq!((&status["version"], &status["realm"]), (&env!("CARGO_PKG_VERSION").into(), &"example.org".into()));
    assert_eq!((&status["workers"], &status["draining"]), (&1.into(), &false.into()));
    assert_eq!(status["drain"], Value::Null);
    let listening: BTreeSet<String> = status["listening"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|listen| format!("{}/{}", listen["protocol"].as_str().unwrap(), listen["address"].as_str().unwrap()))
        .collect();
    assert_eq!(listening, [format!("tcp/{}", fixture.tcp), format!("udp/{}", fixture.udp)].into());
    assert_eq!(status["allocations_by"].as_array().map(Vec::len), Some(6));
    let reasons: Vec<&String> = status["ended"].as_object().expect("reasons").keys().collect();
    assert_eq!(reasons, ["closed", "deleted", "disconnected", "expired", "quota", "revoked"]);
    assert_eq!(status["dropped"].as_object().map(|reasons| reasons.len()), Some(turnpike::turn::DropReason::ALL.len()));
    for way in ["to_peer", "to_client"] {
        assert_eq!((&status["relay"][way]["packets"], &status["relay"][way]["bytes"]), (&0.into(), &0.into()));
    }
    assert_eq!(status["requests"].as_array().map(Vec::len), Some(0));
    assert!(status["certificate"].is_null());
    for figure in ["allocations", "allocations_created_total", "permissions", "channels", "notices_lost"] {
        assert_eq!(status[figure], 0, "{figure}");
    }
    for figure in ["rooms", "clients", "sockets"] {
        assert_eq!(status["rooms"][figure], 0, "{figure}");
    }
    assert!(status["process"]["rss_bytes"].as_u64().is_some_and(|bytes| bytes > 1 << 20));
    assert!(status["process"]["open_fds"].as_u64().is_some_and(|files| files > 3));
    let started = status["started_unix_s"].as_u64().expect("a time");
    assert!(started > 1_600_000_000 && status["uptime_s"].as_u64().is_some_and(|uptime| uptime < 600));
}

#[test]
fn the_configuration_in_force_is_shown() {
    let fixture = Fixture::start();
    let settings = get(&fixture, "/api/v1/config").json();
    let first = &settings[0];
    assert_eq!((&first["key"], &first["value"]), (&"realm".into(), &"example.org".into()));
    assert_eq!(first["origin"], "turnpike.toml:1");
    fixture.change(|live| live.settings.truncate(1));
    assert_eq!(get(&fixture, "/api/v1/config").json().as_array().map(Vec::len), Some(1), "a reload changes it");
}

#[test]
fn rooms_are_shown_with_those_who_are_in_them() {
    let fixture = Fixture::start();
    assert_eq!(get(&fixture, "/api/v1/rooms").json().as_array().map(Vec::len), Some(0));
    let joined = fixture.post("/join/tearoom", "").json();
    let client = joined["params"]["client_id"].as_str().expect("a client id").to_owned();
    let said = fixture.post(&format!("/message/tearoom/{client}"), "an offer");
    assert_eq!(said.status, 200);
    let rooms = get(&fixture, "/api/v1/rooms").json();
    assert_eq!((&rooms[0]["room"], &rooms[0]["queued"]), (&"tearoom".into(), &1.into()));
    let seat = &rooms[0]["clients"][0];
    assert_eq!((&seat["id"], &seat["initiator"], &seat["registered"]), (&client.into(), &true.into(), &false.into()));
    let status = get(&fixture, "/api/v1/status").json();
    assert_eq!((&status["rooms"]["rooms"], &status["rooms"]["clients"]), (&1.into(), &1.into()));
    let metrics = get(&fixture, "/metrics");
    assert!(metrics.text().contains("\nturnpike_rooms 1\n") && metrics.text().contains("\nturnpike_room_clients 1\n"));
}
