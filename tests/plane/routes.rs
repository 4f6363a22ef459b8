//! Every route that asks who one is: what it says to those who may not.
//!
//! The tables are held to the sources and to the OpenAPI document, so that a new route without
//! its line here is a failing test.

use super::credentials::{now_s, room_token};
use super::fixture::{API_KEY, Answer, Fixture, TOKEN_KEY, Wire, digest, request};
use serde_json::Value;
use std::collections::BTreeSet;
use std::net::IpAddr;

/// A route of the public part that gives something only to some.
struct Guarded {
    route: &'static str,
    methods: &'static [&'static str],
    body: &'static str,
    /// Whether it takes a room token, in `key=` or as Bearer.
    takes_tokens: bool,
    /// The status for those who may not.
    refusal: u16,
}

const GUARDED: [Guarded; 4] = [
    Guarded { route: "/turn", methods: &["GET", "POST"], body: "", takes_tokens: true, refusal: 403 },
    Guarded { route: "/v1alpha/iceconfig", methods: &["GET", "POST"], body: "", takes_tokens: true, refusal: 403 },
    Guarded { route: "/v1/test", methods: &["GET"], body: "", takes_tokens: true, refusal: 403 },
    Guarded {
        route: "/v1/credentials",
        methods: &["POST"],
        body: r#"{"user":"alice"}"#,
        takes_tokens: false,
        refusal: 401,
    },
];

/// Routes of the public part that anyone may use, as AppRTC and Collider have it.
pub const ANONYMOUS: &[&str] = &[
    "/",
    "/r/{room}",
    "/assets/{name}",
    "/favicon.ico",
    "/robots.txt",
    "/test",
    "/join/{room}",
    "/message/{room}/{client}",
    "/leave/{room}/{client}",
    "/bye/{room}/{client}",
    "/params",
    "/a/",
    "/ws",
    "/status",
    "/collider/{*path}",
    "/{room}/{client}",
];

/// The token of the admin part.
const ADMIN_TOKEN: &str = "a-token-of-more-than-128-bits";

/// Bytes of a token that is longer than any.
const LONG: usize = (8 << 10) + 1;

/// A source that no other request of the test has: a lock on one is not one on the next.
struct Sources(u16);

impl Sources {
    fn next(&mut self) -> IpAddr {
        self.0 += 1;
        let [high, low] = self.0.to_be_bytes();
        IpAddr::from([127, 3, high, low])
    }
}

impl Guarded {
    fn ask(&self, fixture: &Fixture, from: IpAddr, method: &str, query: &str, headers: &[(&str, &str)]) -> Answer {
        let target = format!("{}{query}", self.route);
        let body = if method == "POST" { self.body } else { "" };
        Wire::connect_from(from, fixture.public).ask(method, &target, headers, body)
    }
}

/// Tokens that are none.
fn wrong_tokens() -> Vec<(&'static str, String)> {
    let good = room_token("room", now_s() + 60, &TOKEN_KEY);
    let other = room_token("other", now_s() + 60, &TOKEN_KEY);
    // The other room's name with this room's signature.
    let mixed = format!("{}{}", &other[..16], &good[16..]);
    vec![
        ("wrong", "not-the-key".into()),
        ("a key cut short", API_KEY[..API_KEY.len() - 1].into()),
        ("a key and more", format!("{API_KEY}x")),
        ("the digest of a key", digest(API_KEY).map(|byte| format!("{byte:02x}")).concat()),
        ("a token cut short", good[..good.len() - 4].into()),
        ("a token and more", format!("{good}AAAA")),
        ("an expired token", room_token("room", now_s() - 1, &TOKEN_KEY)),
        ("a token of another key", room_token("room", now_s() + 60, &[0; 32])),
        ("a token changed to another room", mixed),
        ("no text at all", "%00%ff".into()),
    ]
}

#[test]
fn those_who_may_not_are_refused_everywhere() {
    let fixture = Fixture::start();
    let mut sources = Sources(0);
    for guarded in &GUARDED {
        for method in guarded.methods {
            let mut ask =
                |query: &str, headers: &[(&str, &str)]| guarded.ask(&fixture, sources.next(), method, query, headers);
            let mut refused = |why: &str, query: &str, headers: &[(&str, &str)]| {
                let answer = ask(query, headers);
                assert_eq!(answer.status, guarded.refusal, "{method} {}: {why}", guarded.route);
                assert_eq!(answer.header("content-type"), Some("application/problem+json"));
                assert_eq!(answer.header("cache-control"), Some("no-store"));
                assert_eq!(answer.header("www-authenticate"), (guarded.refusal == 401).then_some("Bearer"));
                assert!(!answer.text().contains("iceServers") && !answer.text().contains("password"));
            };
            refused("nothing", "", &[]);
            refused("an empty key", "?key=", &[]);
            refused("another scheme", "", &[("Authorization", &format!("Basic {API_KEY}"))]);
            refused("no scheme", "", &[("Authorization", API_KEY)]);
            refused("an empty token", "", &[("Authorization", "Bearer ")]);
            refused("8 KiB and a byte", "", &[("Authorization", &format!("Bearer {}", "a".repeat(LONG)))]);
            refused("a token of the admin part", "", &[("Authorization", &format!("Bearer {ADMIN_TOKEN}"))]);
            for name in ["token", "access_token", "api_key", "authorization"] {
                refused("a key under another name", &format!("?{name}={API_KEY}"), &[]);
            }
            for (why, token) in wrong_tokens() {
                refused(why, &format!("?key={token}"), &[]);
                refused(why, "", &[("Authorization", &format!("Bearer {token}"))]);
            }
            let token = room_token("room", now_s() + 60, &TOKEN_KEY);
            if guarded.takes_tokens {
                for origin in ["https://evil.example", "null", "http://localhost.evil.example"] {
                    refused("a page elsewhere", &format!("?key={token}"), &[("Origin", origin)]);
                }
                assert_eq!(ask(&format!("?key={token}"), &[]).status, 200, "{method} {}", guarded.route);
            } else {
                refused("a room's token", "", &[("Authorization", &format!("Bearer {token}"))]);
                refused("a key in the address", &format!("?key={API_KEY}"), &[]);
            }
            assert_eq!(ask(&format!("?key={}", "a".repeat(LONG)), &[]).status, 414, "{method} {}", guarded.route);
            let bearer = format!("Bearer {API_KEY}");
            assert_eq!(ask("", &[("Authorization", &bearer)]).status, 200, "{method} {}", guarded.route);
        }
    }
}

#[test]
fn other_methods_are_refused_before_anything_else() {
    let fixture = Fixture::start();
    let bearer = format!("Bearer {API_KEY}");
    for guarded in &GUARDED {
        let others = ["GET", "POST", "PUT", "PATCH", "DELETE", "TRACE", "PROPFIND"];
        for method in others.iter().filter(|method| !guarded.methods.contains(method)) {
            let headers = [("Authorization", &*bearer), ("Content-Length", "0")];
            let answer = request(fixture.public, method, guarded.route, &headers, "");
            assert_eq!((answer.status, &*answer.code()), (405, "method_not_allowed"), "{method} {}", guarded.route);
            let allow = answer.header("allow").expect("it says what it takes");
            assert!(guarded.methods.iter().all(|method| allow.contains(method)) && !allow.contains(*method), "{allow}");
        }
    }
}

/// The routes that a source file names.
fn routes_in(source: &str) -> BTreeSet<String> {
    let code = source.split("#[cfg(test)]").next().unwrap_or_default();
    let named = code.split(".route(").skip(1).map(|rest| rest.split('"').nth(1).expect("a route is a literal"));
    named.map(String::from).collect()
}

#[test]
fn every_route_of_the_public_part_is_in_a_table() {
    let guarded: BTreeSet<String> = GUARDED.iter().map(|guarded| guarded.route.to_owned()).collect();
    assert_eq!(routes_in(include_str!("../../src/http/credentials.rs")), guarded);
    let pages = include_str!("../../src/http/pages.rs");
    let pages = pages.split("pub fn admin").next().unwrap_or_default();
    let named: BTreeSet<String> = &routes_in(include_str!("../../src/http/signalling.rs")) | &routes_in(pages);
    for route in &named {
        assert!(ANONYMOUS.contains(&&**route), "{route} is in no table: may anyone use it?");
    }
    for route in ANONYMOUS {
        assert!(named.contains(*route), "{route} is not there any more");
    }
}

#[test]
fn every_route_of_the_admin_api_asks_for_the_token() {
    let fixture = Fixture::with(|live| live.admin_token = Some(digest(ADMIN_TOKEN)));
    let bearer = format!("Bearer {ADMIN_TOKEN}");
    let document = request(fixture.admin, "GET", "/api/v1/openapi.json", &[("Authorization", &bearer)], "").json();
    let paths = document["paths"].as_object().expect("the document has paths");
    let of_path = |(path, methods): (&String, &Value)| {
        let methods = methods.as_object().expect("a path has methods");
        let routes = methods.keys().map(|method| (method.to_uppercase(), path.replace("{id}", "0-0-0")));
        routes.collect::<Vec<_>>()
    };
    let mut routes: Vec<(String, String)> = paths.iter().flat_map(of_path).collect();
    assert!(routes.len() > 5, "the document names the routes");
    routes.extend(["/metrics", "/api/v1/openapi.json"].map(|path| ("GET".into(), path.into())));
    let mut sources = Sources(0);
    for (method, path) in routes {
        let mut refused = |target: &str, headers: &[(&str, &str)]| {
            let answer = Wire::connect_from(sources.next(), fixture.admin).ask(&method, target, headers, "");
            assert_eq!((answer.status, &*answer.code()), (401, "unauthorized"), "{method} {target} with {headers:?}");
            assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
        };
        refused(&path, &[]);
        let room = room_token("", now_s() + 60, &TOKEN_KEY);
        for token in ["", "wrong", API_KEY, &ADMIN_TOKEN[1..], &room, &"a".repeat(LONG), &format!("{ADMIN_TOKEN}, x")] {
            refused(&path, &[("Authorization", &format!("Bearer {token}"))]);
        }
        for query in ["token", "key", "access_token", "authorization"] {
            refused(&format!("{path}?user=nobody&{query}={ADMIN_TOKEN}"), &[]);
        }
        for name in ["X-Api-Key", "Cookie", "Proxy-Authorization", "Sec-WebSocket-Protocol"] {
            refused(&path, &[(name, &bearer), ("X-Forwarded-For", "127.0.0.1")]);
        }
        let answer =
            Wire::connect_from(sources.next(), fixture.admin).ask("PUT", &path, &[("Authorization", &bearer)], "");
        assert_eq!(answer.status, 405, "PUT {path}");
    }
}
