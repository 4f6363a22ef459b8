//! Collider on the wire: what each frame and each request is answered.

#[path = "collider_client.rs"]
pub mod client;
#[path = "collider_limits.rs"]
pub mod limits;

use super::fixture::{Answer, Fixture, request, wait_until};
use client::{Talker, UNEXPECTED};
use serde_json::{Value, json};
use tungstenite::Message;

fn status(fixture: &Fixture) -> Value {
    let answer = fixture.get("/status");
    serde_json::from_slice(&answer.body).expect("the status is JSON")
}

fn is_plain_with_cors(answer: &Answer, methods: &str) {
    assert_eq!(answer.header("content-type"), Some("text/plain; charset=utf-8"));
    assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
    assert_eq!(answer.header("access-control-allow-methods"), Some(methods));
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
}

// --- The WebSocket

#[test]
fn two_sockets_in_a_room_hear_each_other() {
    let fixture = Fixture::start();
    let mut a = Talker::registered(fixture.public, "abc", "123");
    let mut b = Talker::registered(fixture.public, "abc", "456");
    for text in ["hello", "ünïcode 你好 🎥", "<b>&amp;\"'\\ \n\t", r#"{"type":"offer","sdp":"v=0\r\n"}"#, " "] {
        a.send(text);
        assert_eq!(b.hear().as_deref(), Ok(text));
        b.send(text);
        assert_eq!(a.hear().as_deref(), Ok(text));
    }
    assert_eq!((a.drain(), b.drain()), (vec![], vec![]), "nobody hears itself");
}

#[test]
fn every_kind_of_message_body_goes_both_ways_unchanged() {
    let fixture = Fixture::start();
    let mut a = Talker::registered(fixture.public, "abc", "1");
    let mut b = Talker::registered(fixture.public, "abc", "2");
    let bodies = [
        json!({ "type": "offer", "sdp": "v=0\r\n" }),
        json!({ "type": "answer", "sdp": "v=0\r\n" }),
        json!({ "type": "candidate", "label": 0, "id": "audio", "candidate": "candidate:1 1 udp 1 192.0.2.1 9 typ host" }),
        json!({ "type": "remove-candidates", "candidates": [{ "label": 0, "id": "audio", "candidate": "candidate:1" }] }),
        json!({ "type": "bye" }),
    ];
    for body in bodies {
        let text = body.to_string();
        a.send(&text);
        assert_eq!(b.hear().as_ref(), Ok(&text));
        b.send(&text);
        assert_eq!(a.hear().as_ref(), Ok(&text));
    }
}

#[test]
fn frames_may_be_binary_pretty_printed_and_with_more_in_them() {
    let fixture = Fixture::start();
    let mut a = Talker::open(fixture.public);
    let pretty = "{\n  \"cmd\" : \"register\",\n  \"roomid\" : \"abc\",\n  \"clientid\" : \"1\"\n}";
    a.write(Message::text(pretty));
    let mut b = Talker::open(fixture.public);
    b.write(Message::binary(br#"{"cmd":"register","roomid":"abc","clientid":"2","more":{"a":[1]}}"#.to_vec()));
    assert_eq!((a.drain(), b.drain()), (vec![], vec![]));
    b.write(Message::binary(r#"{"cmd":"send","msg":"ä"}"#.as_bytes().to_vec()));
    assert_eq!(a.hear().as_deref(), Ok("ä"));
}

#[test]
fn each_mistake_is_told_in_colliders_words_and_ends_the_socket() {
    let fixture = Fixture::with(|live| live.rooms.as_mut().unwrap().clients_per_room = 2);
    let register = |room: &str, client: &str| json!({ "cmd": "register", "roomid": room, "clientid": client });
    let missing = "Invalid register request: missing 'clientid' or 'roomid'";
    let names = "Invalid register request: 'clientid' and 'roomid' are 1 to 64 letters, digits, '-' or '_'";
    let cases: Vec<(Value, &str)> = vec![
        (register("", "1"), missing),
        (register("abc", ""), missing),
        (json!({ "cmd": "register" }), missing),
        (json!({ "cmd": "register", "roomid": null, "clientid": "1" }), missing),
        (register("a b", "1"), names),
        (register("abc", "<b>"), names),
        (register("abc", &"x".repeat(65)), names),
        (json!({ "cmd": "send", "msg": "x" }), "Client not registered"),
        (json!({ "cmd": "send" }), "Client not registered"),
    ];
    let before = status(&fixture)["wserrors"].as_u64().unwrap();
    let count = cases.len() as u64;
    for (frame, error) in cases {
        let mut talker = Talker::open(fixture.public);
        talker.say(&frame);
        assert_eq!(talker.refused(), (error.into(), Some(1000)), "{frame}");
    }
    assert_eq!(status(&fixture)["wserrors"], before + count);
    for frame in ["", "x", "[]", "5", r#"["register","abc","1"]"#, r#"{"cmd":5}"#, r#"{"cmd":"send","msg":{}}"#, "{"] {
        let mut talker = Talker::open(fixture.public);
        talker.write(Message::text(frame));
        let (error, code) = talker.refused();
        assert!(error.starts_with("websocket.JSON.Receive error: "), "{frame}: {error}");
        assert_eq!(code, Some(1000));
    }
}

#[test]
fn a_socket_registers_once_and_sends_something() {
    let fixture = Fixture::start();
    for again in ["1", "2"] {
        let mut talker = Talker::registered(fixture.public, "abc", "1");
        talker.say(&json!({ "cmd": "register", "roomid": "abc", "clientid": again }));
        assert_eq!(talker.refused(), ("Duplicated register request".into(), Some(1000)));
        request(fixture.public, "DELETE", "/abc/1", &[], "");
    }
    for nothing in
        [json!({ "cmd": "send" }), json!({ "cmd": "send", "msg": "" }), json!({ "cmd": "send", "msg": null })]
    {
        let mut a = Talker::registered(fixture.public, "room", "1");
        let mut b = Talker::registered(fixture.public, "room", "2");
        a.send("x");
        assert_eq!(b.hear().as_deref(), Ok("x"));
        a.say(&nothing);
        assert_eq!(a.refused(), ("Invalid send request: missing 'msg'".into(), Some(1000)));
        assert_eq!(b.drain(), Vec::<String>::new(), "no field keeps its value from the frame before");
        request(fixture.public, "DELETE", "/room/1", &[], "");
        request(fixture.public, "DELETE", "/room/2", &[], "");
    }
}

#[test]
fn a_second_socket_of_a_client_and_a_third_client_are_refused_and_the_others_stay() {
    let fixture = Fixture::start();
    let mut a = Talker::registered(fixture.public, "abc", "1");
    let mut b = Talker::registered(fixture.public, "abc", "2");
    for (client, error) in [("1", "Duplicated registration"), ("3", "Max room capacity reached")] {
        let mut talker = Talker::open(fixture.public);
        talker.say(&json!({ "cmd": "register", "roomid": "abc", "clientid": client }));
        assert_eq!(talker.refused(), (error.into(), Some(1000)));
    }
    a.send("still here");
    assert_eq!(b.hear().as_deref(), Ok("still here"));
    b.send("me too");
    assert_eq!(a.hear().as_deref(), Ok("me too"));
}

#[test]
fn an_unknown_command_is_told_and_the_socket_stays() {
    let fixture = Fixture::start();
    let mut talker = Talker::open(fixture.public);
    for frame in [json!({}), json!({ "cmd": "" }), json!({ "cmd": "Register" }), json!({ "cmd": null, "x": 1 })] {
        talker.say(&frame);
        assert_eq!(talker.hear(), Err(UNEXPECTED.into()), "{frame}");
    }
    talker.register("abc", "1");
    assert!(talker.ping(b"payload"), "pings are answered");
}

#[test]
fn what_is_not_a_handshake_is_told_so() {
    let fixture = Fixture::start();
    let upgrade =
        [("Connection", "Upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")];
    let old = [upgrade.as_slice(), &[("Sec-WebSocket-Version", "8")]].concat();
    for (headers, status, version) in [(&[][..], 400, None), (&old, 426, Some("13"))] {
        let answer = request(fixture.public, "GET", "/ws", headers, "");
        assert_eq!((answer.status, answer.text()), (status, "not websocket protocol\n"), "{headers:?}");
        assert_eq!(answer.header("sec-websocket-version"), version);
        assert_eq!(answer.header("upgrade"), version.map(|_| "websocket"));
    }
    assert_eq!(request(fixture.public, "POST", "/ws", &[], "").status, 400);
}

#[test]
fn pages_of_other_origins_get_no_socket() {
    let fixture = Fixture::with(|live| live.cors_origins = vec!["https://app.example.org".into()]);
    let own = format!("http://{}", fixture.public);
    let by_tls = format!("https://{}", fixture.public);
    for good in [own.as_str(), &by_tls, "https://app.example.org"] {
        let mut talker = Talker::open_with(fixture.public, &[("Origin", good)]).expect(good);
        talker.register("abc", "1");
        talker.close(1001);
    }
    let other_port = format!("http://{}:1", fixture.public.ip());
    for bad in ["https://evil.example", "null", "", "https://app.example.org.evil.example", "file://", &other_port] {
        assert_eq!(Talker::open_with(fixture.public, &[("Origin", bad)]).err(), Some(403), "{bad}");
    }
    let two = [("Origin", own.as_str()), ("Origin", "https://evil.example")];
    assert_eq!(Talker::open_with(fixture.public, &two).err(), Some(403));
}

#[test]
fn what_is_said_to_nobody_waits_for_the_next_to_register_in_order() {
    let fixture = Fixture::start();
    let mut a = Talker::registered(fixture.public, "abc", "1");
    let texts: Vec<String> = (0..90).map(|n| format!("message {n}")).collect();
    texts.iter().for_each(|text| a.send(text));
    assert_eq!(a.drain(), Vec::<String>::new());
    let mut b = Talker::open(fixture.public);
    b.say(&json!({ "cmd": "register", "roomid": "abc", "clientid": "2" }));
    assert_eq!(b.drain(), texts);
    assert_eq!(b.drain(), Vec::<String>::new());
}

#[test]
fn a_client_that_comes_back_within_the_grace_hears_what_it_missed() {
    let fixture = Fixture::start();
    let mut a = Talker::registered(fixture.public, "abc", "1");
    let b = Talker::registered(fixture.public, "abc", "2");
    b.close(1000);
    wait_until("the socket is gone", || status(&fixture)["openws"] == 1);
    a.send("while away");
    assert_eq!(a.drain(), Vec::<String>::new());
    let mut again = Talker::open(fixture.public);
    again.say(&json!({ "cmd": "register", "roomid": "abc", "clientid": "2" }));
    assert_eq!(again.hear().as_deref(), Ok("while away"));
}

// --- HTTP

#[test]
fn a_post_is_heard_by_the_other_at_either_path() {
    let fixture = Fixture::start();
    let mut a = Talker::registered(fixture.public, "abc", "123");
    for path in ["/abc/456", "/collider/abc/456"] {
        let answer = fixture.post(path, "hello!");
        assert_eq!((answer.status, answer.text()), (200, "OK\n"), "{path}");
        is_plain_with_cors(&answer, "POST, DELETE");
        assert_eq!(a.hear().as_deref(), Ok("hello!"));
    }
}

#[test]
fn a_post_makes_the_room_and_waits_for_its_peer() {
    let fixture = Fixture::start();
    assert_eq!(fixture.post("/collider/abc/1", "first").status, 200);
    let mut b = Talker::open(fixture.public);
    b.say(&json!({ "cmd": "register", "roomid": "abc", "clientid": "2" }));
    assert_eq!(b.drain(), ["first"]);
}

#[test]
fn each_refused_post_has_its_words() {
    let fixture = Fixture::with(|live| live.rooms.as_mut().unwrap().queue_len = 3);
    let failed = |answer: Answer, text: &str| {
        assert_eq!((answer.status, answer.text()), (500, text));
        is_plain_with_cors(&answer, "POST, DELETE");
    };
    failed(fixture.post("/collider/abc/1", ""), "Empty request body\n");
    for _ in 0..3 {
        assert_eq!(fixture.post("/collider/abc/1", "x").status, 200);
    }
    failed(
        fixture.post("/collider/abc/1", "x"),
        "Failed to send the message: Too many messages queued for the client\n",
    );
    assert_eq!(fixture.post("/collider/abc/2", "x").status, 200);
    failed(fixture.post("/collider/abc/3", "x"), "Failed to send the message: Max room capacity reached\n");
    let answer = request(fixture.public, "POST", "/collider/abc/1", &[], b"\xff");
    failed(answer, "Failed to send the message: Message is not UTF-8\n");
    assert_eq!(status(&fixture)["httperrors"], 4);
}

#[test]
fn the_thousand_and_twenty_fifth_message_does_not_wait() {
    let fixture = Fixture::start();
    let mut wire = super::fixture::Wire::connect(fixture.public);
    let mut other = super::fixture::Wire::connect(fixture.public);
    for n in 0..1024 {
        // A connection answers a thousand requests.
        let wire = if n < 900 { &mut wire } else { &mut other };
        assert_eq!(wire.ask("POST", "/collider/abc/1", &[], "x").status, 200);
    }
    let answer = other.ask("POST", "/collider/abc/1", &[], "x");
    assert_eq!(answer.text(), "Failed to send the message: Too many messages queued for the client\n");
    let mut b = Talker::open(fixture.public);
    b.say(&json!({ "cmd": "register", "roomid": "abc", "clientid": "2" }));
    assert_eq!(b.drain().len(), 1024, "what waited is not a flood");
}

#[test]
fn other_methods_are_answered_with_nothing() {
    let fixture = Fixture::start();
    for path in ["/abc/1", "/collider/abc/1"] {
        for method in ["GET", "PUT", "OPTIONS", "PATCH"] {
            let answer = request(fixture.public, method, path, &[("Origin", "https://any.example")], "");
            assert_eq!((answer.status, answer.text()), (200, ""), "{method} {path}");
            is_plain_with_cors(&answer, "POST, DELETE");
        }
        let preflight = [("Origin", "https://any.example"), ("Access-Control-Request-Method", "DELETE")];
        let answer = request(fixture.public, "OPTIONS", path, &preflight, "");
        assert_eq!(answer.status, 200);
        is_plain_with_cors(&answer, "POST, DELETE");
    }
    assert_eq!(status(&fixture)["openws"], 0);
}

#[test]
fn a_path_is_two_names() {
    let fixture = Fixture::start();
    let cases = [
        ("/collider/a", "/a"),
        ("/collider/a/", "/a/"),
        ("/collider/a/b/c", "/a/b/c"),
        ("/collider/a/b/", "/a/b/"),
        ("/collider/a%2Fb/c", "/a/b/c"),
        ("/collider/%3Cb%3E/c", "/&lt;b&gt;/c"),
    ];
    for (path, shown) in cases {
        for method in ["POST", "DELETE", "GET"] {
            let answer = request(fixture.public, method, path, &[], "");
            assert_eq!((answer.status, answer.text()), (500, &*format!("Invalid path: {shown}\n")), "{method} {path}");
            is_plain_with_cors(&answer, "POST, DELETE");
        }
    }
    for (path, _) in [("/collider/a%2Fb", ()), ("/collider/%61/b", ())] {
        assert_eq!(fixture.post(path, "x").status, 200, "{path} is two names once it is decoded");
    }
}

#[test]
fn fixed_routes_are_no_rooms() {
    let fixture = Fixture::start();
    for word in [
        "join", "message", "leave", "bye", "r", "a", "ws", "status", "params", "turn", "v1", "v1alpha", "assets",
        "test", "api", "metrics", "healthz", "readyz",
    ] {
        // Where two segments are a fixed route, that one answers.
        if ["join", "r", "v1", "assets"].contains(&word) {
            continue;
        }
        let answer = request(fixture.public, "DELETE", &format!("/{word}/1"), &[], "");
        assert_eq!((answer.status, answer.code()), (404, "not_found".into()), "/{word}/1");
    }
    for path in ["/a%20b/1", "/abc/%3Cb%3E", "/one/two/three"] {
        assert_eq!(fixture.post(path, "x").status, 404, "{path}");
    }
}

#[test]
fn a_delete_closes_the_socket_and_removes_the_client() {
    let fixture = Fixture::start();
    for path in ["/abc/1", "/collider/abc/1"] {
        let mut talker = Talker::registered(fixture.public, "abc", "1");
        talker.send("queued");
        assert_eq!(talker.drain(), Vec::<String>::new());
        let answer = request(fixture.public, "DELETE", path, &[], "");
        assert_eq!((answer.status, answer.text()), (200, "OK\n"));
        is_plain_with_cors(&answer, "POST, DELETE");
        assert_eq!(talker.ended(), Some(1000));
        let mut other = Talker::registered(fixture.public, "abc", "2");
        assert_eq!(other.drain(), Vec::<String>::new(), "its queue went with it");
        request(fixture.public, "DELETE", "/abc/2", &[], "");
    }
    let answer = request(fixture.public, "DELETE", "/nobody/here", &[], "");
    assert_eq!((answer.status, answer.text()), (200, "OK\n"));
}

#[test]
fn a_client_that_only_posts_is_gone_after_the_grace() {
    let fixture = Fixture::with(|live| live.rooms.as_mut().unwrap().grace_ms = 1);
    assert_eq!(fixture.post("/abc/1", "x").status, 200);
    assert_eq!(fixture.post("/abc/2", "x").status, 200);
    wait_until("the seats are free again", || fixture.post("/abc/3", "x").status == 200);
}

#[test]
fn the_status_counts() {
    let fixture = Fixture::start();
    for method in ["GET", "POST", "PUT", "DELETE"] {
        let answer = request(fixture.public, method, "/status", &[], "");
        assert_eq!(answer.status, 200);
        is_plain_with_cors(&answer, "GET");
        assert!(answer.text().ends_with("}\n") && answer.text().lines().count() == 1);
    }
    let first = status(&fixture);
    assert!(first["upsec"].is_f64(), "{first}");
    assert_eq!(first.as_object().unwrap().len(), 5);
    for key in ["openws", "totalws", "wserrors", "httperrors"] {
        assert_eq!(first[key], 0, "{key}");
    }
    let mut a = Talker::registered(fixture.public, "abc", "1");
    let b = Talker::registered(fixture.public, "abc", "2");
    // Each asks once whether all is said, which is an unknown command.
    let now = status(&fixture);
    assert_eq!((&now["openws"], &now["totalws"], &now["wserrors"]), (&2.into(), &2.into(), &2.into()));
    b.close(1000);
    wait_until("the socket is gone", || status(&fixture)["openws"] == 1);
    assert_eq!(status(&fixture)["totalws"], 2);
    a.say(&json!({ "cmd": "send" }));
    assert_eq!(a.refused().0, "Invalid send request: missing 'msg'");
    assert_eq!(status(&fixture)["wserrors"], 3);
    fixture.post("/abc/1", "");
    assert_eq!(status(&fixture)["httperrors"], 1);
    assert!(status(&fixture)["upsec"].as_f64() > first["upsec"].as_f64());
}
