//! Under which names the plane answers, which pages may call it, and what every answer bears.

use super::NOWHERE;
use crate::fixture::{API_KEY, Fixture, Wire, Wish, request};
use std::net::SocketAddr;
use turnpike::http::Network;

fn status(addr: SocketAddr, host: &str) -> u16 {
    request(addr, "GET", NOWHERE, &[("Host", host)], "").status
}

#[test]
fn a_host_that_is_not_ours_is_told_how_to_become_it() {
    let fixture = Fixture::with(|live| {
        live.allowed_hosts = vec!["turn.example.org".into()];
        live.public_url = Some("https://call.example.org:8443".into());
    });
    for (host, public, admin) in [
        ("localhost", 404, 404),
        ("LOCALHOST:80", 404, 404),
        ("127.0.0.1", 404, 404),
        ("192.0.2.7:8080", 404, 404),
        ("[::1]:8080", 404, 404),
        ("turn.example.org", 404, 404),
        ("Turn.Example.Org:1", 404, 404),
        ("call.example.org", 404, 421),
        ("call.example.org:8443", 404, 421),
        ("example.org", 421, 421),
        ("turn.example.org.evil.example", 421, 421),
        ("evil-turn.example.org", 421, 421),
        ("localhost.evil.example", 421, 421),
        ("127.0.0.1.evil.example", 421, 421),
        ("127.0.0.1:x", 400, 400),
        ("localhost@evil.example", 400, 400),
        ("a b", 400, 400),
        ("", 400, 400),
    ] {
        assert_eq!(status(fixture.public, host), public, "public part as {host}");
        assert_eq!(status(fixture.admin, host), admin, "admin part as {host}");
    }
    let answer = request(fixture.public, "GET", "/", &[("Host", "example.org")], "");
    let problem = answer.json();
    assert_eq!(problem["code"], "misdirected_request");
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("http.allowed_hosts")), "{problem}");
}

#[test]
fn health_is_told_under_any_name() {
    let fixture = Fixture::start();
    let ask = |path: &str| request(fixture.admin, "GET", path, &[("Host", "turnpike.pod.local:9641")], "").status;
    assert_eq!(["/healthz", "/readyz", "/metrics", "/api/v1/status"].map(ask), [200, 200, 421, 421]);
}

#[test]
fn old_clients_without_a_host_are_answered() {
    let fixture = Fixture::start();
    let mut wire = Wire::connect(fixture.admin);
    wire.send("GET /healthz HTTP/1.0\r\n\r\n");
    assert!(wire.line().ends_with(" 200 OK"));
}

#[test]
fn only_a_trusted_proxy_says_which_host_was_asked_for() {
    let fixture = Fixture::start();
    let headers = [("Host", "localhost"), ("X-Forwarded-Host", "evil.example")];
    let ask = || request(fixture.public, "GET", NOWHERE, &headers, "").status;
    assert_eq!(ask(), 404, "it is not believed");
    fixture.change(|live| live.trusted_proxies = vec![Network { ip: "127.0.0.0".parse().unwrap(), prefix_len: 8 }]);
    assert_eq!(ask(), 421, "it is");
}

#[test]
fn links_are_made_of_what_the_browser_typed() {
    let fixture = Fixture::with(|live| live.allowed_hosts = vec!["call.example.org".into()]);
    let url = |headers: &[(&str, &str)]| {
        let params = request(fixture.public, "GET", "/params", headers, "").json();
        let url = params["ice_server_url"].as_str().expect("a URL");
        url.split_once("/v1alpha/").expect("it is the plane's").0.to_owned()
    };
    let here = format!("http://{}", fixture.public);
    let forwarded = [("X-Forwarded-Proto", "https"), ("X-Forwarded-Host", "call.example.org")];
    assert_eq!(url(&[]), here);
    assert_eq!(url(&[("Host", "Call.Example.Org:8080")]), "http://call.example.org:8080");
    assert_eq!(url(&forwarded), here, "anyone can say that");
    fixture.change(|live| live.trusted_proxies = vec![Network { ip: "127.0.0.1".parse().unwrap(), prefix_len: 32 }]);
    assert_eq!(url(&forwarded), "https://call.example.org");
    assert_eq!(url(&forwarded[..1]), here.replace("http:", "https:"));
    // Of several proxies the nearest one has the last word.
    let chain = [("X-Forwarded-Proto", "http, https"), ("X-Forwarded-Host", "evil.example, call.example.org")];
    assert_eq!(url(&chain), "https://call.example.org");
    assert_eq!(url(&[("X-Forwarded-Proto", "javascript")]), here);
    fixture.change(|live| live.public_url = Some("https://public.example.org".into()));
    assert_eq!(url(&forwarded), "https://public.example.org");
}

#[test]
fn the_unix_socket_has_no_name_to_check() {
    let fixture = Fixture::wish(Wish { admin_socket: true, ..Wish::default() }, |_| ());
    let mut wire = Wire::unix(fixture.socket.as_deref().expect("it was wished for"));
    assert_eq!(wire.ask("GET", "/healthz", &[("Host", "whatever.example")], "").status, 200);
}

#[test]
fn listed_origins_read_answers_and_no_others() {
    const LISTED: &str = "https://app.example.org";
    let fixture = Fixture::with(|live| live.cors_origins = vec![LISTED.into(), "null".into()]);
    let key = format!("?key={API_KEY}");
    let paths = [format!("/turn{key}"), format!("/v1alpha/iceconfig{key}"), "/params".into()];
    for path in &paths {
        for (origin, allowed) in [
            (LISTED, Some(LISTED)),
            ("https://app.example.org:443", None),
            ("http://app.example.org", None),
            ("https://APP.example.org", None),
            ("https://app.example.org.evil.example", None),
            ("https://evil.example", None),
            ("null", None),
        ] {
            let answer = request(fixture.public, "GET", path, &[("Origin", origin)], "");
            assert_eq!(answer.header("access-control-allow-origin"), allowed, "{path} from {origin}");
            assert_eq!(answer.header("vary"), Some("Origin"), "{path} from {origin}");
            assert_eq!(answer.header("access-control-allow-credentials"), None);
        }
        assert_eq!(fixture.get(path).header("access-control-allow-origin"), None);
        assert_eq!(fixture.get(path).header("vary"), Some("Origin"), "a cache may not mix them");
    }
}

#[test]
fn a_preflight_is_answered_for_ten_minutes() {
    const LISTED: &str = "https://app.example.org";
    let fixture = Fixture::with(|live| live.cors_origins = vec![LISTED.into()]);
    for path in ["/turn", "/v1alpha/iceconfig", "/v1/credentials", "/join/room", "/message/room/1", "/leave/room/1"] {
        let ask = |origin| {
            let headers = [("Origin", origin), ("Access-Control-Request-Method", "POST")];
            request(fixture.public, "OPTIONS", path, &headers, "")
        };
        let answer = ask(LISTED);
        assert_eq!(answer.status, 204, "{path}");
        assert_eq!(answer.header("access-control-allow-origin"), Some(LISTED), "{path}");
        assert_eq!(answer.header("access-control-max-age"), Some("600"));
        assert_eq!(answer.header("access-control-allow-methods"), Some("GET, POST, OPTIONS"));
        assert_eq!(answer.header("access-control-allow-headers"), Some("authorization, content-type"));
        assert_eq!(ask("https://evil.example").header("access-control-allow-origin"), None, "{path}");
    }
    let headers = [("Origin", LISTED), ("Access-Control-Request-Method", "POST")];
    let answer = request(fixture.admin, "OPTIONS", "/api/v1/drain", &headers, "");
    assert_eq!(answer.header("access-control-allow-origin"), None, "the admin part has no CORS");
}

#[test]
fn every_answer_bears_the_security_headers_and_no_version() {
    let fixture = Fixture::start();
    let answers = [
        fixture.get("/"),
        fixture.get(NOWHERE),
        fixture.get("/turn"),
        request(fixture.public, "PUT", "/turn", &[], ""),
        request(fixture.public, "GET", "/", &[("Host", "evil.example")], ""),
        request(fixture.public, "GET", "/", &[("Content-Length", "x")], ""),
        request(fixture.public, "POST", "/turn", &[], vec![b'a'; 5000]),
        request(fixture.admin, "GET", "/", &[], ""),
        request(fixture.admin, "GET", "/metrics", &[], ""),
        request(fixture.admin, "GET", "/api/v1/status", &[], ""),
    ];
    for answer in answers {
        let policy = answer.header("content-security-policy").unwrap_or_else(|| panic!("{answer:?}"));
        for part in ["default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "base-uri 'none'"] {
            assert!(policy.contains(part), "{policy}");
        }
        assert!(!policy.contains("unsafe"), "{policy}");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(answer.header("referrer-policy"), Some("no-referrer"));
        assert_eq!(answer.header("cross-origin-opener-policy"), Some("same-origin"));
        assert_eq!(answer.header("cross-origin-resource-policy"), Some("same-origin"));
        assert!(answer.header("permissions-policy").is_some_and(|policy| policy.contains("camera=(self)")));
        assert_eq!(answer.header("server"), None);
        assert_eq!(answer.header("x-powered-by"), None);
    }
}

#[test]
fn errors_are_problems_and_say_what_is_allowed() {
    let fixture = Fixture::start();
    let answer = fixture.get(NOWHERE);
    assert_eq!((answer.status, &*answer.code()), (404, "not_found"));
    assert_eq!(answer.header("content-type"), Some("application/problem+json"));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    let answer = request(fixture.public, "DELETE", "/turn", &[], "");
    assert_eq!((answer.status, &*answer.code()), (405, "method_not_allowed"));
    assert_eq!(answer.header("allow"), Some("GET,HEAD,POST"));
    let answer = request(fixture.public, "HEAD", &format!("/turn?key={API_KEY}"), &[], "");
    assert_eq!(answer.status, 200);
}
