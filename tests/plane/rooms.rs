//! AppRTC's room server on the wire: what each request is answered, field by field.

#[path = "calls.rs"]
mod calls;

use super::collider::client::Talker;
use super::fixture::{Answer, Fixture, Wire, request};
use serde_json::{Value, json};

const CHROME: &str =
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Safari/537.36";
const ANDROID: &str = "Mozilla/5.0 (Linux; Android 14; Pixel) AppleWebKit/537.36 Chrome/130.0.0.0 Mobile Safari/537.36";

fn is_json(answer: &Answer) -> Value {
    assert_eq!(answer.header("content-type"), Some("application/json; charset=utf-8"));
    assert_eq!(answer.header("cache-control"), Some("no-cache"));
    answer.json()
}

fn join(fixture: &Fixture, path: &str) -> Value {
    let answer = fixture.post(path, "");
    assert_eq!(answer.status, 200, "{path}");
    let value = is_json(&answer);
    assert_eq!(value["result"], "SUCCESS", "{path}: {value}");
    value["params"].clone()
}

fn client(params: &Value) -> &str {
    params["client_id"].as_str().expect("a client has an id")
}

fn result(answer: &Answer) -> String {
    assert_eq!(answer.status, 200);
    is_json(answer)["result"].as_str().expect("there is a result").into()
}

fn params_of(fixture: &Fixture, query: &str, agent: &str) -> Value {
    let headers = [("User-Agent", agent)];
    is_json(&request(fixture.public, "GET", &format!("/params{query}"), &headers, ""))
}

/// A parameter that is a text of JSON.
fn inner(params: &Value, name: &str) -> Value {
    serde_json::from_str(params[name].as_str().expect("it is a text")).expect("it is JSON")
}

#[test]
fn a_join_answers_every_field_in_its_type() {
    let fixture = Fixture::start();
    let params = join(&fixture, "/join/my-room_1");
    let here = fixture.public;
    let texts = [
        ("room_id", "my-room_1".to_string()),
        ("is_initiator", "true".into()),
        ("room_link", format!("http://{here}/r/my-room_1")),
        ("wss_url", format!("ws://{here}/ws")),
        ("wss_post_url", format!("http://{here}/collider")),
        ("pc_constraints", r#"{"optional":[]}"#.into()),
        ("offer_options", "{}".into()),
        ("media_constraints", r#"{"audio":true,"video":true}"#.into()),
        ("ice_server_transports", "".into()),
        ("turn_transports", "".into()),
        ("include_loopback_js", "".into()),
        ("is_loopback", "false".into()),
        ("bypass_join_confirmation", "false".into()),
        ("version_info", "null".into()),
        ("header_message", "".into()),
    ];
    for (name, text) in &texts {
        assert_eq!(params[name], **text, "{name}");
    }
    for name in ["messages", "error_messages", "warning_messages"] {
        assert_eq!(params[name], json!([]), "{name}");
    }
    let config = inner(&params, "pc_config");
    assert_eq!(config, json!({ "iceServers": [], "bundlePolicy": "max-bundle", "rtcpMuxPolicy": "require" }));
    let id = client(&params);
    assert!(id.len() == 8 && id.bytes().all(|b| b.is_ascii_digit()), "{id}");
    let ice = params["ice_server_url"].as_str().unwrap();
    assert!(ice.starts_with(&format!("http://{here}/v1alpha/iceconfig?key=")), "{ice}");
    let turn = params["turn_url"].as_str().unwrap();
    assert!(turn.starts_with(&format!("http://{here}/turn?service=turn&username=my-room_1&key=")), "{turn}");
    assert_eq!(params.as_object().unwrap().len(), texts.len() + 3 + 4, "{params}");
}

#[test]
fn the_ice_server_url_gives_credentials_of_the_room_to_whoever_was_told_it() {
    let fixture = Fixture::start();
    let params = [join(&fixture, "/join/abc"), params_of(&fixture, "", "")];
    for (params, user) in params.iter().zip([":room-abc", ":"]) {
        let path = params["ice_server_url"].as_str().unwrap().replace(&format!("http://{}", fixture.public), "");
        // As the Android application asks.
        let headers = [("Content-Type", "text/plain"), ("Referer", "https://appr.tc")];
        let answer = request(fixture.public, "POST", &path, &headers, "");
        assert_eq!(answer.status, 200, "{}", answer.text());
        let server = &answer.json()["iceServers"][0];
        assert!(server["urls"].is_array() && server["credential"].is_string(), "{server}");
        assert!(server["username"].as_str().unwrap().contains(user), "{server}");
        // As applications of 2015 ask.
        let path = params["turn_url"].as_str().unwrap().replace(&format!("http://{}", fixture.public), "");
        let answer = fixture.get(&path);
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert!(answer.json()["username"].as_str().unwrap().contains(user) && answer.json()["uris"].is_array());
    }
}

#[test]
fn the_second_is_no_initiator_and_gets_the_messages_and_the_third_finds_it_full() {
    let fixture = Fixture::start();
    let first = join(&fixture, "/join/abc");
    let messages = [r#"{"type":"offer","sdp":"ü"}"#, r#"{"type":"candidate"}"#, "你好"];
    for message in messages {
        let answer = fixture.post(&format!("/message/abc/{}", client(&first)), message);
        assert_eq!(result(&answer), "SUCCESS");
    }
    let second = join(&fixture, "/join/abc");
    assert_eq!(second["is_initiator"], "false");
    assert_eq!(second["messages"], json!(messages), "texts, in order");
    assert_ne!(client(&first), client(&second));
    let full = fixture.post("/join/abc", "");
    assert_eq!((full.status, is_json(&full)), (200, json!({ "result": "FULL", "params": { "messages": [] } })));
    let page = fixture.get("/r/abc");
    assert!(page.text().to_lowercase().contains("full"), "the page says so too");
    assert_eq!(join(&fixture, "/join/other")["is_initiator"], "true");
}

#[test]
fn more_than_two_may_be_in_a_room() {
    let fixture = Fixture::with(|live| live.rooms.as_mut().unwrap().clients_per_room = 3);
    for initiator in ["true", "false", "false"] {
        assert_eq!(join(&fixture, "/join/abc")["is_initiator"], initiator);
    }
    assert_eq!(result(&fixture.post("/join/abc", "")), "FULL");
}

#[test]
fn messages_of_strangers_and_of_no_text_are_refused() {
    let fixture = Fixture::start();
    assert_eq!(result(&fixture.post("/message/abc/1", "x")), "UNKNOWN_ROOM");
    let first = join(&fixture, "/join/abc");
    assert_eq!(result(&fixture.post("/message/abc/1", "x")), "UNKNOWN_CLIENT");
    let path = format!("/message/abc/{}?wshpp=127.0.0.1:1&wstls=false", client(&first));
    assert_eq!(result(&request(fixture.public, "POST", &path, &[], b"\xff\xfe")), "ERROR");
    assert_eq!(result(&fixture.post(&path, "")), "ERROR");
    assert_eq!(result(&fixture.post(&path, "x")), "SUCCESS");
    assert_eq!(join(&fixture, "/join/abc")["messages"], json!(["x"]));
    assert_eq!(result(&fixture.post(&path, "y")), "SUCCESS", "no other host is asked to deliver it");
}

#[test]
fn a_message_that_cannot_wait_is_an_error() {
    let fixture = Fixture::with(|live| {
        let limits = live.rooms.as_mut().unwrap();
        limits.queue_len = 2;
        limits.message_bytes = 4;
    });
    let first = join(&fixture, "/join/abc");
    let path = format!("/message/abc/{}", client(&first));
    assert_eq!(result(&fixture.post(&path, "1234")), "SUCCESS");
    let answer = fixture.post(&path, "12345");
    assert_eq!((answer.status, answer.json()["result"].as_str()), (413, Some("ERROR")));
    assert_eq!(result(&fixture.post(&path, "1234")), "SUCCESS");
    let answer = fixture.post(&path, "1234");
    assert_eq!((answer.status, answer.json()["result"].as_str()), (500, Some("ERROR")));
}

#[test]
fn a_body_is_64_kib_and_not_a_byte_more() {
    let fixture = Fixture::start();
    let path = format!("/message/abc/{}", client(&join(&fixture, "/join/abc")));
    assert_eq!(result(&fixture.post(&path, &"x".repeat(65_536))), "SUCCESS");
    assert_eq!(fixture.post(&path, &"x".repeat(65_537)).status, 413);
    assert_eq!(fixture.post("/collider/abc/other", &"x".repeat(65_537)).status, 413);
}

#[test]
fn a_leave_is_empty_whatever_it_was_and_frees_the_seat() {
    let fixture = Fixture::start();
    for verb in ["leave", "bye"] {
        let room = format!("room-{verb}");
        let first = join(&fixture, &format!("/join/{room}"));
        join(&fixture, &format!("/join/{room}"));
        assert_eq!(result(&fixture.post(&format!("/join/{room}"), "")), "FULL");
        let left = format!("/{verb}/{room}/{}?wstls=true", client(&first));
        for path in [&left, &left, &format!("/{verb}/nowhere/1")] {
            let answer = fixture.post(path, "");
            assert_eq!((answer.status, answer.body.len()), (200, 0), "{path}");
        }
        assert_eq!(join(&fixture, &format!("/join/{room}"))["is_initiator"], "false", "somebody stayed");
    }
}

#[test]
fn names_are_letters_digits_dashes_and_underscores() {
    let fixture = Fixture::start();
    let longest = "x".repeat(64);
    join(&fixture, &format!("/join/{longest}"));
    join(&fixture, "/join/%61bc");
    for bad in ["a.b", "a%20b", "%3Cb%3E", "a%2Fb", "%E4%BD%A0", &"x".repeat(65), "a+b", "%00"] {
        assert_eq!(fixture.post(&format!("/join/{bad}"), "").status, 404, "{bad}");
        assert_eq!(fixture.post(&format!("/message/{bad}/1"), "x").status, 404, "{bad}");
        assert_eq!(fixture.post(&format!("/message/abc/{bad}"), "x").status, 404, "{bad}");
        assert_eq!(fixture.post(&format!("/leave/{bad}/1"), "").status, 404, "{bad}");
    }
    assert!([400, 404].contains(&fixture.post("/join/%FF", "").status));
}

#[test]
fn wrong_methods_are_told_the_right_ones() {
    let fixture = Fixture::start();
    for (path, allow) in [("/join/abc", "POST"), ("/message/abc/1", "POST"), ("/leave/abc/1", "POST"), ("/a/", "POST")]
    {
        let answer = request(fixture.public, "GET", path, &[], "");
        assert_eq!((answer.status, answer.header("allow")), (405, Some(allow)), "{path}");
    }
    let answer = request(fixture.public, "POST", "/params", &[], "");
    assert_eq!((answer.status, answer.header("allow")), (405, Some("GET,HEAD")));
    assert_eq!(request(fixture.public, "HEAD", "/params", &[], "").status, 200);
}

#[test]
fn params_are_those_of_a_join_without_what_is_of_a_room() {
    let fixture = Fixture::start();
    let joined = join(&fixture, "/join/abc");
    let alone = params_of(&fixture, "", "");
    for name in joined.as_object().unwrap().keys() {
        let of_room = ["room_id", "client_id", "room_link", "is_initiator", "messages"].contains(&name.as_str());
        assert_eq!(alone.get(name).is_none(), of_room, "{name}");
    }
    assert!(alone.get("result").is_none());
}

#[test]
fn media_parameters_become_constraints() {
    let fixture = Fixture::start();
    let hd = |kind: &str| match kind {
        "mandatory" => json!({ "mandatory": { "minWidth": "1280", "minHeight": "720" }, "optional": [] }),
        _ => json!({ "mandatory": {}, "optional": [{ "minWidth": "1280" }, { "minHeight": "720" }] }),
    };
    let mixed = json!({ "mandatory": { "minWidth": "640", "googNoise": "true" },
        "optional": [{ "googEcho": "false" }, { "maxHeight": "480" }] });
    let cases = [
        ("", "", json!({ "audio": true, "video": true })),
        ("?audio=true&video=TRUE", "", json!({ "audio": true, "video": true })),
        ("?audio=false", "", json!({ "audio": false, "video": true })),
        ("?video=False", CHROME, json!({ "audio": true, "video": false })),
        ("", CHROME, json!({ "audio": true, "video": hd("optional") })),
        ("", ANDROID, json!({ "audio": true, "video": true })),
        ("?hd=false", CHROME, json!({ "audio": true, "video": true })),
        ("?hd=true", "", json!({ "audio": true, "video": hd("mandatory") })),
        ("?hd=TRUE&video=false", CHROME, json!({ "audio": true, "video": hd("mandatory") })),
        (
            "?video=minWidth=640,googEcho=false,optional:maxHeight=480,mandatory:googNoise=true,malformed,a=b=c",
            "",
            json!({ "audio": true, "video": mixed }),
        ),
        ("?firefox_fake_device=1", "", json!({ "audio": true, "video": true, "fake": true })),
        ("?firefox_fake_device=", "", json!({ "audio": true, "video": true })),
    ];
    for (query, agent, expected) in cases {
        let params = params_of(&fixture, query, agent);
        assert_eq!(inner(&params, "media_constraints"), expected, "{query} {agent}");
    }
}

#[test]
fn network_parameters_become_constraints_and_configuration() {
    let fixture = Fixture::start();
    let cases = [
        (
            "?dtls=true&dscp=false&ipv6=TRUE",
            json!([{ "DtlsSrtpKeyAgreement": true }, { "googDscp": false }, { "googIPv6": true }]),
        ),
        ("?dtls=false", json!([{ "DtlsSrtpKeyAgreement": false }])),
        ("?dtls=maybe&dscp=", json!([])),
        ("?debug=loopback", json!([{ "DtlsSrtpKeyAgreement": false }])),
        ("?debug=loopback&dtls=true", json!([{ "DtlsSrtpKeyAgreement": false }])),
    ];
    for (query, expected) in cases {
        assert_eq!(
            inner(&params_of(&fixture, query, ""), "pc_constraints"),
            json!({ "optional": expected }),
            "{query}"
        );
    }
    let params = params_of(&fixture, "?it=relay&tt=tcp", "");
    let config = inner(&params, "pc_config");
    assert_eq!((&config["iceTransports"], &config["iceTransportPolicy"]), (&"relay".into(), &"relay".into()));
    assert_eq!(params["ice_server_transports"], "tcp");
    let loopback = params_of(&fixture, "?debug=loopback", "");
    assert_eq!(loopback["is_loopback"], "true");
    assert_eq!(loopback["include_loopback_js"], r#"<script src="/js/loopback.js"></script>"#);
}

#[test]
fn ice_servers_that_the_operator_names_are_told() {
    let server = json!({ "urls": ["turn:turn.example.org"], "username": "u", "credential": "c" });
    let told = server.clone();
    let fixture = Fixture::with(move |live| live.ice_servers = vec![told]);
    assert_eq!(inner(&params_of(&fixture, "", ""), "pc_config")["iceServers"], json!([server]));
}

#[test]
fn overridden_and_outdated_parameters_warn() {
    let fixture = Fixture::start();
    let outdated = r#"The "minre" and "maxre" parameters are no longer supported. Use "video" instead."#;
    let overridden = r#"The "hd" parameter has overridden video=minWidth=1"#;
    let cases = [
        ("?minre=1", json!([outdated])),
        ("?maxre=720", json!([outdated])),
        ("?hd=true&video=minWidth=1", json!([overridden])),
        ("?hd=false&video=minWidth=1&maxre=1", json!([overridden, outdated])),
    ];
    for (query, expected) in cases {
        assert_eq!(params_of(&fixture, query, "")["warning_messages"], expected, "{query}");
    }
}

#[test]
fn named_hosts_are_reflected() {
    let fixture = Fixture::start();
    let here = fixture.public;
    let cases = [
        ("?wshpp=host:8089", "wss://host:8089/ws".to_string(), "https://host:8089".to_string()),
        ("?wshpp=host:8089&wstls=true", "wss://host:8089/ws".into(), "https://host:8089".into()),
        ("?wshpp=host:8089&wstls=false", "ws://host:8089/ws".into(), "http://host:8089".into()),
        ("?wstls=true", format!("wss://{here}/ws"), format!("https://{here}/collider")),
        ("?wshpp=&wstls=false", format!("ws://{here}/ws"), format!("http://{here}/collider")),
    ];
    for (query, wss_url, wss_post_url) in cases {
        let params = params_of(&fixture, query, "");
        assert_eq!((&params["wss_url"], &params["wss_post_url"]), (&wss_url.into(), &wss_post_url.into()), "{query}");
    }
    let own = format!("http://{here}/v1alpha/iceconfig?key=K");
    let cases = [
        ("?ts=", ""),
        ("?ts=https://ice.example", "https://ice.example/v1alpha/iceconfig?key="),
        ("?ts=https://ice.example&apikey=K%26x", "https://ice.example/v1alpha/iceconfig?key=K%26x"),
        ("?apikey=K", &own),
    ];
    for (query, url) in cases {
        let params = params_of(&fixture, query, "");
        assert_eq!(params["ice_server_url"], url, "{query}");
        assert_eq!(params["turn_url"] == "", url.is_empty(), "{query}");
    }
}

#[test]
fn the_link_bears_all_that_was_asked_with_and_nothing_that_breaks_a_page() {
    let fixture = Fixture::start();
    let here = fixture.public;
    let cases = [
        ("?it=relay&tt=tcp", "http", "?it=relay&tt=tcp"),
        ("?wshpp=host:8089&wstls=true", "https", "?wshpp=host:8089&wstls=true"),
        ("?a=1&a=2&b", "http", "?a=1&b="),
        ("?x=%3Cscript%3E%22%27%26", "http", "?x=&lt;script&gt;&quot;&#x27;&amp;"),
        ("?%3Cb%3E=a%20b%23%25%0A", "http", "?&lt;b&gt;=a%20b%23%25%0A"),
        ("?name=%E4%BD%A0", "http", "?name=%E4%BD%A0"),
    ];
    for (number, (query, scheme, expected)) in cases.into_iter().enumerate() {
        let params = join(&fixture, &format!("/join/room{number}{query}"));
        assert_eq!(params["room_link"], format!("{scheme}://{here}/r/room{number}{expected}"));
    }
}

#[test]
fn links_are_those_of_the_public_url() {
    let fixture = Fixture::with(|live| live.public_url = Some("https://call.example.org".into()));
    let params = join(&fixture, "/join/abc");
    assert_eq!(params["room_link"], "https://call.example.org/r/abc");
    assert_eq!(params["wss_url"], "wss://call.example.org/ws");
    assert_eq!(params["wss_post_url"], "https://call.example.org/collider");
    assert!(params["ice_server_url"].as_str().unwrap().starts_with("https://call.example.org/v1alpha/iceconfig?key="));
}

#[test]
fn a_loopback_room_is_full_at_once() {
    let fixture = Fixture::start();
    let params = join(&fixture, "/join/abc?debug=loopback");
    assert_eq!((&params["is_initiator"], &params["is_loopback"]), (&"true".into(), &"true".into()));
    assert_eq!(result(&fixture.post("/join/abc", "")), "FULL");
    let mut own = Talker::registered(fixture.public, "abc", client(&params));
    let mut pseudo = Talker::registered(fixture.public, "abc", "loopback_client_id");
    own.send("around");
    assert_eq!(pseudo.hear().as_deref(), Ok("around"));
    pseudo.send("and back");
    assert_eq!(own.hear().as_deref(), Ok("and back"));
    fixture.post(&format!("/leave/abc/{}", client(&params)), "");
    assert_eq!(join(&fixture, "/join/abc")["is_initiator"], "true");
}

#[test]
fn analytics_are_checked_and_dropped() {
    let fixture = Fixture::start();
    let good = [
        json!({ "type": "event", "request_time_ms": 1, "event": { "event_type": 2, "event_time_ms": 1, "room_id": "abc", "flow_id": 1 } }),
        json!({ "type": "event", "request_time_ms": 1.5, "event": { "event_type": "ROOM_SIZE_2", "event_time_ms": 2 }, "client_type": "js" }),
    ];
    for report in good {
        assert_eq!(result(&fixture.post("/a/", &report.to_string())), "SUCCESS", "{report}");
    }
    let bad = [
        "",
        "{",
        "[]",
        r#"{"type":"other","request_time_ms":1,"event":{"event_type":2}}"#,
        r#"{"request_time_ms":1,"event":{"event_type":2,"event_time_ms":1}}"#,
        r#"{"type":"event","event":{"event_type":2,"event_time_ms":1}}"#,
        r#"{"type":"event","request_time_ms":"1","event":{"event_type":2,"event_time_ms":1}}"#,
        r#"{"type":"event","request_time_ms":1,"event":{"event_time_ms":1}}"#,
        r#"{"type":"event","request_time_ms":1,"event":{"event_type":2,"event_time_ms":"now"}}"#,
        r#"{"type":"event","request_time_ms":1}"#,
    ];
    for report in bad {
        assert_eq!(result(&fixture.post("/a/", report)), "INVALID_REQUEST", "{report}");
    }
}

#[test]
fn where_rooms_are_off_nothing_of_them_exists() {
    let fixture = Fixture::with(|live| live.rooms = None);
    for path in [
        "/join/abc",
        "/message/abc/1",
        "/leave/abc/1",
        "/bye/abc/1",
        "/a/",
        "/collider/abc/1",
        "/abc/1",
        "/ws",
        "/status",
    ] {
        let answer = fixture.post(path, "x");
        assert_eq!((answer.status, answer.code()), (404, "rooms_off".into()), "{path}");
    }
    assert_eq!(fixture.get("/params").status, 404);
    fixture.change(|live| live.rooms = Some(turnpike::rooms::Limits::default()));
    join(&fixture, "/join/abc");
    let mut talker = Talker::registered(fixture.public, "abc", "1");
    fixture.change(|live| live.rooms = None);
    talker.send("x");
    assert_eq!(talker.refused(), ("rooms are off".into(), Some(1001)));
}

#[test]
fn too_many_rooms_are_an_error_that_says_so() {
    let fixture = Fixture::with(|live| live.rooms.as_mut().unwrap().rooms = 2);
    join(&fixture, "/join/a");
    join(&fixture, "/join/b");
    let answer = fixture.post("/join/c", "");
    assert_eq!((answer.status, answer.json()["result"].as_str()), (503, Some("ERROR")));
    join(&fixture, "/join/a");
}

#[test]
fn a_source_joins_sixty_times_a_minute() {
    let proxy = turnpike::http::Network { ip: [127, 0, 0, 1].into(), prefix_len: 32 };
    let fixture = Fixture::with(|live| live.trusted_proxies = vec![proxy]);
    let mut wire = Wire::connect(fixture.public);
    let mut join_from = |room: usize, source: &str| {
        wire.ask("POST", &format!("/join/room{room}"), &[("X-Forwarded-For", source)], "").status
    };
    for room in 0..60 {
        assert_eq!(join_from(room, "192.0.2.1"), 200, "{room}");
    }
    // A second gives one back.
    let refused = (0..10).map(|room| join_from(100 + room, "192.0.2.1")).filter(|status| *status == 429).count();
    assert!(refused >= 5, "{refused} of ten");
    assert_eq!(join_from(200, "192.0.2.2"), 200, "others are not concerned");
}
