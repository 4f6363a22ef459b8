//! Values of a request on their way into an answer: none reaches a header, and what is told to a page is data.

use crate::collider::client::Talker;
use crate::fixture::{API_KEY, Fixture, Wire, request};
use crate::routes::ANONYMOUS;
use serde_json::{Value, json};
use std::net::IpAddr;
use turnpike::http::Network;

/// Part of every hostile value.
const MARK: &str = "injected";

/// Ways to write an end of line and a header behind it.
fn injections() -> [String; 7] {
    ["%0d%0a", "%0D%0A", "%0a", "%E5%98%8D%E5%98%8A", "%u000d%u000a", "%250d%250a", "\\r\\n"]
        .map(|end| format!("a{end}X-{MARK}:%20{MARK}"))
}

fn is_clean(answer: &crate::fixture::Answer, what: &str) {
    for (name, value) in &answer.headers {
        assert!(!name.contains(MARK) && !value.contains(MARK), "{what}: {name}: {value}");
    }
}

// IN-119
#[test]
fn nothing_of_a_request_reaches_a_header_of_its_answer() {
    let trusted = Network { ip: IpAddr::from([127, 0, 0, 0]), prefix_len: 8 };
    let fixture = Fixture::with(|live| live.trusted_proxies = vec![trusted]);
    let (mut public, mut admin) = (Wire::connect(fixture.public), Wire::connect(fixture.admin));
    for value in injections() {
        for route in ANONYMOUS.iter().chain(&["/turn", "/v1alpha/iceconfig", "/v1/test"]) {
            let mut path = (*route).to_owned();
            while let Some((before, rest)) = path.split_once('{') {
                let (_, after) = rest.split_once('}').expect("a parameter ends");
                path = format!("{before}{value}{after}");
            }
            let target =
                format!("{path}?username={value}&ts={value}&wshpp={value}&key={API_KEY}&apikey={value}&ttl={value}");
            for method in ["GET", "POST", "DELETE", "OPTIONS"] {
                let answer = public.ask(method, &target, &[("Content-Length", "0")], "");
                is_clean(&answer, &format!("{method} {target}"));
            }
        }
        for path in ["/api/v1/sessions/", "/api/v1/revocations/", "/api/v1/sessions?user=", "/assets/"] {
            for method in ["GET", "DELETE"] {
                is_clean(&admin.ask(method, &format!("{path}{value}"), &[("Content-Length", "0")], ""), path);
            }
        }
    }
    for name in [
        "Origin",
        "X-Forwarded-Host",
        "X-Forwarded-Proto",
        "X-Forwarded-For",
        "If-None-Match",
        "Access-Control-Request-Method",
        "Access-Control-Request-Headers",
        "User-Agent",
        "Cookie",
        "Sec-WebSocket-Protocol",
        "Accept-Language",
    ] {
        for path in ["/", "/r/room", "/params", "/join/room", "/turn", "/assets/style.css", "/ws", "/status", "/abc/1"]
        {
            for method in ["GET", "OPTIONS"] {
                is_clean(
                    &public.ask(method, path, &[(name, &format!("a{MARK}"))], ""),
                    &format!("{method} {path} {name}"),
                );
            }
            // As bytes they end the request there and then.
            let mut wire = Wire::connect(fixture.public);
            wire.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{name}: a\rX-{MARK}: b\r\n\r\n"));
            let answer = wire.answer(false);
            assert_eq!(answer.status, 400, "{name}");
            is_clean(&answer, name);
        }
    }
}

// IN-122; that the console shows it as text, the tests in a browser say.
#[test]
fn what_a_page_is_told_can_not_end_the_place_where_it_is_told() {
    let fixture = Fixture::start();
    let hostile = "%22%3E%3C/script%3E%3Cscript%3Ealert(1)%3C/script%3E%3Cimg%20src=x%20onerror=alert(1)%3E";
    for target in [format!("/r/room?{hostile}={hostile}"), format!("/r/room?video={hostile}&ts={hostile}&tt={hostile}")]
    {
        let answer = fixture.get(&target);
        assert_eq!(answer.status, 200);
        assert!(!answer.text().contains("<script>alert") && !answer.text().contains("<img src=x"), "{}", answer.text());
        let policy = answer.header("content-security-policy").expect("every page has one");
        assert!(!policy.contains("unsafe") && policy.contains("script-src 'self'"), "{policy}");
    }
}

// IN-128
#[test]
fn whoever_is_not_in_a_room_delivers_nothing_there_and_learns_nothing_of_it() {
    let fixture = Fixture::start();
    let mut first = Talker::registered(fixture.public, "abc", "1");
    let mut second = Talker::registered(fixture.public, "abc", "2");
    let _other = Talker::registered(fixture.public, "other", "9");
    assert_eq!(fixture.post("/join/abc", "").json()["result"], "FULL");
    let result = |path: &str| fixture.post(path, "from a stranger").json();
    assert_eq!(result("/message/abc/9"), json!({ "result": "UNKNOWN_CLIENT" }), "a member of another room");
    assert_eq!(result("/message/abc/3"), json!({ "result": "UNKNOWN_CLIENT" }), "a member of none");
    assert_eq!(result("/message/nowhere/1"), json!({ "result": "UNKNOWN_ROOM" }));
    let posted = fixture.post("/collider/abc/3", "from a stranger");
    assert_eq!((posted.status, posted.text()), (500, "Failed to send the message: Max room capacity reached\n"));
    let mut third = Talker::open(fixture.public);
    third.say(&json!({ "cmd": "register", "roomid": "abc", "clientid": "3" }));
    assert_eq!(third.refused(), ("Max room capacity reached".into(), Some(1000)));
    let mut silent = Talker::open(fixture.public);
    silent.send("from a stranger");
    assert_eq!(silent.refused(), ("Client not registered".into(), Some(1000)));
    assert_eq!((first.drain(), second.drain()), (Vec::new(), Vec::new()), "nobody in the room heard any of it");
    first.send("among us");
    assert_eq!(second.hear().as_deref(), Ok("among us"));
}

// IN-129; tokens, rates and lifetimes are in `credentials`.
#[test]
fn a_user_id_of_ten_kibibytes_or_more_than_one_line_is_no_user_id() {
    let fixture = Fixture::start();
    let bearer = format!("Bearer {API_KEY}");
    let ask = |body: String| request(fixture.public, "POST", "/v1/credentials", &[("Authorization", &bearer)], body);
    for (user, status) in
        [("a\r\nb", 400), ("a:b", 400), ("a\0", 400), ("\u{202e}a", 400), ("", 400), ("a".repeat(129).as_str(), 400)]
    {
        assert_eq!(ask(json!({ "user": user }).to_string()).status, status, "{user:?}");
    }
    assert_eq!(ask(json!({ "user": "a".repeat(10 << 10) }).to_string()).status, 413);
    let form = [("Content-Type", "application/x-www-form-urlencoded"), ("Authorization", &*bearer)];
    let body = format!("username={}", "a".repeat(10 << 10));
    assert_eq!(request(fixture.public, "POST", "/turn", &form, body).status, 413);
}

/// A value inside so many lists.
fn nested(depth: usize) -> String {
    format!("{}1{}", "[".repeat(depth), "]".repeat(depth))
}

// IN-127, for JSON over HTTP.
#[test]
fn json_is_sixteen_deep_has_each_key_once_and_finite_numbers_at_every_route() {
    let fixture = Fixture::start();
    let bearer = format!("Bearer {API_KEY}");
    let headers = [("Authorization", &*bearer), ("Content-Type", "application/json")];
    let bad = |wanted: &str| {
        [
            format!("{{{wanted}, \"x\": {}}}", nested(16)),
            format!("{{{wanted}, \"x\": {}}}", nested(1000)),
            format!("{{{wanted}, \"x\": {{\"y\": 1, \"\\u0079\": 2}}}}"),
            format!("{{{wanted}, \"x\": 1e400}}"),
        ]
    };
    let (credentials, revoke, drain) = (bad("\"user\": \"alice\""), bad("\"id\": \"alice\""), bad("\"timeout\": 5"));
    for (addr, path, bodies) in [
        (fixture.public, "/v1/credentials", credentials),
        (fixture.admin, "/api/v1/revocations", revoke),
        (fixture.admin, "/api/v1/drain", drain),
    ] {
        for body in bodies {
            let answer = request(addr, "POST", path, &headers, &body);
            assert_eq!(
                (answer.status, &*answer.code()),
                (400, "bad_request"),
                "{path}: {}",
                &body[..body.len().min(60)]
            );
            assert!(answer.text().len() < 512, "{path}: {}", answer.text());
        }
    }
    assert_eq!(*fixture.draining.lock(), None);
    let event = |more: &str| format!(r#"{{"type":"event","request_time_ms":1,"event":{{"event_type":1}}{more}}}"#);
    let said = |more: &str| fixture.post("/a/", &event(more)).json()["result"].clone();
    assert_eq!(said(""), Value::from("SUCCESS"));
    for more in [format!(",\"x\":{}", nested(16)), ",\"type\":\"event\"".into(), ",\"x\":-1e400".into()] {
        assert_eq!(said(&more), Value::from("INVALID_REQUEST"), "{more}");
    }
    assert_eq!(said(&format!(",\"x\":{}", nested(15))), Value::from("SUCCESS"));
}
