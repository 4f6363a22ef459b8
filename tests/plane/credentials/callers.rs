//! Who may have credentials by which token, and how often.

use super::{API_KEY, Answer, Fixture, TOKEN_KEY, Wire, check, good_token, now_s, request, room_token, turn};
use std::net::IpAddr;
use turnpike::http::Network;

fn ask_from(fixture: &Fixture, last: u8, path: &str) -> Answer {
    Wire::connect_from(IpAddr::from([127, 0, 2, last]), fixture.public).ask("GET", path, &[], "")
}

fn ask_by(fixture: &Fixture, token: &str, origin: Option<&str>) -> Answer {
    let headers: Vec<(&str, &str)> = origin.map(|origin| ("Origin", origin)).into_iter().collect();
    request(fixture.public, "GET", &format!("/v1alpha/iceconfig?key={token}"), &headers, "")
}

fn wait_s(answer: &Answer) -> u64 {
    assert_eq!((answer.status, &*answer.code()), (429, "too_many_requests"), "{answer:?}");
    answer.header("retry-after").expect("a time").parse().expect("seconds")
}

#[test]
fn a_room_token_is_good_for_its_room_and_its_time() {
    let fixture = Fixture::start();
    for (room, user) in [("lobby", "room-lobby"), ("", "page")] {
        let answer = ask_by(&fixture, &good_token(room), None);
        assert_eq!(answer.status, 200, "{answer:?}");
        let server = &answer.json()["iceServers"][0];
        check(&server["username"], &server["credential"], Some(user), 3600);
    }
    let answer = fixture.get(&format!("/turn?username=someone&key={}", good_token("lobby"))).json();
    check(&answer["username"], &answer["password"], Some("room-lobby"), 3600);
    let token = good_token("lobby");
    let wrong =
        [room_token("lobby", now_s(), &TOKEN_KEY), room_token("lobby", now_s() + 60, &[8; 32]), token[1..].into()];
    for wrong in wrong {
        let answer = ask_by(&fixture, &wrong, None);
        assert_eq!((answer.status, &*answer.code()), (403, "forbidden"), "{wrong}");
    }
}

#[test]
fn a_joined_client_is_told_where_to_ask() {
    let fixture = Fixture::start();
    let params = fixture.post("/join/lobby", "").json()["params"].clone();
    let url = params["ice_server_url"].as_str().expect("a URL");
    let path = url.strip_prefix(&format!("http://{}", fixture.public)).expect("it is this server's");
    let server = fixture.post(path, "").json()["iceServers"][0].clone();
    check(&server["username"], &server["credential"], Some("room-lobby"), 3600);
}

#[test]
fn a_page_elsewhere_has_no_use_for_a_room_token() {
    let fixture = Fixture::with(|live| live.cors_origins = vec!["https://app.example.org".into()]);
    let own = format!("http://{}", fixture.public);
    // Behind a proxy that nobody declared, the page's scheme is not ours.
    let own_by_tls = format!("https://{}", fixture.public);
    let good = [&own, &own_by_tls, "https://app.example.org"];
    let bad = [
        "null",
        "",
        "https://evil.example",
        "https://app.example.org:444",
        "http://app.example.org",
        "app.example.org",
    ];
    for (origins, status) in [(&good[..], 200), (&bad[..], 403)] {
        for origin in origins {
            assert_eq!(ask_by(&fixture, &good_token("a"), Some(origin)).status, status, "{origin}");
        }
    }
    let two = [("Origin", &*own), ("Origin", "https://evil.example")];
    let path = format!("/v1alpha/iceconfig?key={}", good_token("a"));
    assert_eq!(request(fixture.public, "GET", &path, &two, "").status, 403);
    assert_eq!(ask_by(&fixture, API_KEY, Some("https://evil.example")).status, 200, "a key is a key");
}

#[test]
fn a_page_at_the_public_url_is_ours() {
    let fixture = Fixture::with(|live| live.public_url = Some("https://call.example.org".into()));
    let ask = |host, origin| {
        let headers = [("Host", host), ("Origin", origin)];
        let path = format!("/v1alpha/iceconfig?key={}", good_token("a"));
        request(fixture.public, "GET", &path, &headers, "").status
    };
    assert_eq!(ask("call.example.org", "https://call.example.org"), 200);
    assert_eq!(ask("127.0.0.1:8080", "https://call.example.org"), 200, "the proxy did not pass the name on");
    assert_eq!(ask("127.0.0.1:8080", "http://127.0.0.1:8080"), 200);
    assert_eq!(ask("call.example.org", "https://evil.example"), 403);
}

#[test]
fn a_user_has_ten_a_minute_of_a_key() {
    let fixture = Fixture::start();
    for number in 0..10 {
        assert_eq!(turn(&fixture, "username=alice").status, 200, "{number}");
    }
    assert!((1..=6).contains(&wait_s(&turn(&fixture, "username=alice"))));
    assert_eq!(turn(&fixture, "username=bob").status, 200, "a backend asks for many users");
}

#[test]
fn a_source_without_a_key_has_thirty_a_minute() {
    let fixture = Fixture::start();
    let path = |number: u8| format!("/v1alpha/iceconfig?key={}", good_token(&format!("room{number}")));
    for number in 0..30 {
        assert_eq!(ask_from(&fixture, 1, &path(number)).status, 200, "{number}");
    }
    wait_s(&ask_from(&fixture, 1, &path(30)));
    assert_eq!(ask_from(&fixture, 2, &path(30)).status, 200, "another source is another");
    assert_eq!(ask_from(&fixture, 1, &format!("/turn?key={API_KEY}")).status, 200, "a key has a limit of its own");
}

#[test]
fn behind_a_trusted_proxy_each_client_is_a_source() {
    let fixture = Fixture::with(|live| {
        live.trusted_proxies = vec![
            Network { ip: IpAddr::from([127, 0, 0, 0]), prefix_len: 8 },
            Network { ip: IpAddr::from([192, 0, 2, 0]), prefix_len: 24 },
        ];
    });
    let ask = |forwarded: &str| {
        let path = format!("/v1alpha/iceconfig?key={}", good_token("a"));
        request(fixture.public, "GET", &path, &[("X-Forwarded-For", forwarded)], "")
    };
    for number in 0..30 {
        // What the client wrote itself stands left.
        assert_eq!(ask(&format!("10.9.8.{number}, 203.0.113.1, 192.0.2.{number}")).status, 200, "{number}");
    }
    wait_s(&ask("203.0.113.1"));
    wait_s(&ask("203.0.113.1:55555"));
    assert_eq!(ask("203.0.113.2").status, 200);
    for number in 0..30 {
        assert_eq!(ask(&format!("2001:db8:0:12{number:02x}::1")).status, 200);
    }
    wait_s(&ask("[2001:db8:0:12ff::9]:443"));
    assert_eq!(ask("2001:db8:0:1300::1").status, 200);
}

#[test]
fn five_wrong_keys_lock_a_source_out() {
    let fixture = Fixture::start();
    let good = format!("/turn?key={API_KEY}");
    let room = format!("/turn?key={}", good_token("lobby"));
    let wrong = ["x", &API_KEY[1..], &API_KEY[..5], &good_token("a")[1..], "an-api-key-of-the-fixture-"];
    for key in wrong {
        assert_eq!(ask_from(&fixture, 1, &format!("/turn?key={key}")).status, 403, "{key}");
        // Neither to say nothing nor to be right between two guesses changes anything.
        assert_eq!(ask_from(&fixture, 1, "/turn").status, 403);
        assert_eq!(ask_from(&fixture, 1, &room).status, 200);
        if key != wrong[4] {
            assert_eq!(ask_from(&fixture, 1, &good).status, 200);
        }
    }
    assert!((25..=30).contains(&wait_s(&ask_from(&fixture, 1, &good))));
    assert_eq!(ask_from(&fixture, 1, &room).status, 200, "those in rooms behind the same address are not locked out");
    assert_eq!(ask_from(&fixture, 1, "/nothing").status, 404, "and anyone may look");
    assert_eq!(ask_from(&fixture, 2, &good).status, 200, "another source is another");
}

#[test]
fn a_page_that_stayed_open_is_refused_and_not_locked_out() {
    let fixture = Fixture::start();
    let old = room_token("lobby", now_s() - 3600, &TOKEN_KEY);
    let from_before_a_restart = room_token("lobby", now_s() + 3600, &[8; 32]);
    for token in [old, from_before_a_restart].iter().cycle().take(20) {
        assert_eq!(ask_by(&fixture, token, None).status, 403);
    }
    assert_eq!(ask_by(&fixture, &good_token("lobby"), None).status, 200, "loaded again, it is in");
}

#[test]
fn in_development_anyone_may() {
    let fixture = Fixture::with(|live| live.open = true);
    for number in 0..30 {
        let answer = fixture.get("/turn?username=alice").json();
        check(&answer["username"], &answer["password"], Some("alice"), 3600);
        assert_eq!(fixture.post("/v1alpha/iceconfig?key=whatever", "").status, 200, "{number}");
        assert_eq!(fixture.get(&format!("/v1/test?key={}", good_token(""))).status, 200);
    }
    assert_eq!(fixture.post("/v1/credentials", r#"{"user": "alice"}"#).status, 200);
}
