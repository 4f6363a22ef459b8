//! Calls as AppRTC's clients set them up and end them, and those that end without a word.

use super::super::collider::client::Talker;
use super::super::fixture::{Fixture, Wire, request, wait_until};
use super::{client, is_json, join, result};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const BYE: &str = r#"{"type":"bye"}"#;

fn openws(fixture: &Fixture) -> Value {
    let status: Value = serde_json::from_slice(&fixture.get("/status").body).expect("the status is JSON");
    status["openws"].clone()
}

/// A client that joined and registered.
struct Guest {
    id: String,
    talker: Talker,
    messages: Value,
    is_initiator: bool,
}

impl Guest {
    fn arrive(fixture: &Fixture) -> Guest {
        // The page opens its socket while it joins.
        let mut talker = Talker::open(fixture.public);
        let params = join(fixture, "/join/abc");
        let id = client(&params).to_string();
        talker.say(&json!({ "cmd": "register", "roomid": "abc", "clientid": id }));
        let is_initiator = params["is_initiator"] == "true";
        Guest { id, talker, messages: params["messages"].clone(), is_initiator }
    }

    /// The initiator says everything by HTTP.
    fn post(&self, fixture: &Fixture, text: &str) {
        let answer = fixture.post(&format!("/message/abc/{}", self.id), text);
        assert_eq!(result(&answer), "SUCCESS");
    }

    fn leave(&self, fixture: &Fixture) {
        let answer = fixture.post(&format!("/leave/abc/{}", self.id), "");
        assert_eq!((answer.status, answer.body.len()), (200, 0));
    }

    fn delete(&self, fixture: &Fixture) {
        let answer = request(fixture.public, "DELETE", &format!("/collider/abc/{}", self.id), &[], "");
        assert_eq!(answer.status, 200);
    }
}

/// Two in a call: offer, candidates and answer are exchanged.
fn call(fixture: &Fixture) -> (Guest, Guest) {
    let mut a = Guest::arrive(fixture);
    assert!(a.is_initiator);
    a.post(fixture, "offer");
    a.post(fixture, "candidate 1");
    let mut b = Guest::arrive(fixture);
    assert_eq!((b.is_initiator, &b.messages), (false, &json!(["offer", "candidate 1"])));
    a.post(fixture, "candidate 2");
    assert_eq!(b.talker.hear().as_deref(), Ok("candidate 2"));
    b.talker.send("answer");
    assert_eq!(a.talker.hear().as_deref(), Ok("answer"));
    (a, b)
}

#[test]
fn a_browser_calls_hangs_up_and_the_other_calls_again() {
    let fixture = Fixture::start();
    let (mut a, mut b) = call(&fixture);
    a.leave(&fixture);
    a.talker.send(BYE);
    assert_eq!(b.talker.hear().as_deref(), Ok(BYE));
    // On bye the page becomes the initiator and offers again, maybe before the other is gone.
    b.post(&fixture, "fresh offer");
    a.talker.close(1000);
    assert_eq!(request(fixture.public, "DELETE", &format!("/collider/abc/{}", a.id), &[], "").status, 200);
    let mut c = Guest::arrive(&fixture);
    assert_eq!((c.is_initiator, &c.messages), (false, &json!(["fresh offer"])));
    c.talker.send("answer");
    assert_eq!(b.talker.hear().as_deref(), Ok("answer"));
    assert_eq!(b.talker.drain(), Vec::<String>::new(), "bye was said once");
}

#[test]
fn an_android_application_hangs_up_in_its_own_order() {
    let fixture = Fixture::start();
    let headers = [("Content-Type", "text/plain; charset=utf-8"), ("origin", "https://appr.tc")];
    let answer = request(fixture.public, "POST", "/join/abc", &headers, "");
    let params = is_json(&answer)["params"].clone();
    // Its JSON library reads the text as a boolean, and asks for no server that is not there.
    assert!(params["is_initiator"].is_string() && params["pc_config"].is_string());
    let own = client(&params).to_string();
    let mut android = Talker::registered(fixture.public, "abc", &own);
    assert_eq!(request(fixture.public, "POST", &format!("/message/abc/{own}"), &headers, "offer").status, 200);
    let mut page = Guest::arrive(&fixture);
    assert_eq!(page.messages, json!(["offer"]));
    // It says bye, deletes, and leaves on another thread: last, here.
    android.send("{\"type\": \"bye\"}");
    assert_eq!(page.talker.hear().as_deref(), Ok("{\"type\": \"bye\"}"));
    page.post(&fixture, "fresh offer");
    request(fixture.public, "DELETE", &format!("/collider/abc/{own}"), &headers, "");
    assert_eq!(android.ended(), Some(1000));
    assert_eq!(request(fixture.public, "POST", &format!("/leave/abc/{own}"), &headers, "").status, 200);
    assert_eq!(Guest::arrive(&fixture).messages, json!(["fresh offer"]));
    assert_eq!(page.talker.drain(), Vec::<String>::new());
}

#[test]
fn an_ios_application_reads_params_first_and_calls_itself() {
    let fixture = Fixture::start();
    let params = is_json(&fixture.get("/params"));
    assert!(params["ice_server_url"].is_string());
    let params = join(&fixture, "/join/abc?debug=loopback");
    let own = client(&params);
    let mut socket = Talker::open(fixture.public);
    let pretty = format!("{{\n  \"cmd\" : \"register\",\n  \"roomid\" : \"abc\",\n  \"clientid\" : \"{own}\"\n}}");
    socket.write(tungstenite::Message::text(pretty));
    let mut pseudo = Talker::registered(fixture.public, "abc", "LOOPBACK_CLIENT_ID");
    fixture.post(&format!("/message/abc/{own}?debug=loopback"), "offer");
    assert_eq!(pseudo.hear().as_deref(), Ok("offer"));
    let post_url = params["wss_post_url"].as_str().unwrap();
    let path = post_url.replace(&format!("http://{}", fixture.public), "");
    assert_eq!(request(fixture.public, "DELETE", &format!("{path}/abc/{own}"), &[], "").status, 200);
    assert_eq!(socket.ended(), Some(1000));
    assert_eq!(fixture.post(&format!("/leave/abc/{own}?debug=loopback"), "").status, 200);
    assert_eq!(join(&fixture, "/join/abc")["is_initiator"], "true");
}

#[test]
fn a_tab_that_dies_leaves_no_ghost_and_no_stale_offer() {
    let fixture = Fixture::with(|live| live.rooms.as_mut().unwrap().grace_ms = 1_500);
    let (mut a, b) = call(&fixture);
    let died = Instant::now();
    drop(b);
    wait_until("the socket is gone", || openws(&fixture) == 1);
    if died.elapsed() < Duration::from_millis(700) {
        assert_eq!(result(&fixture.post("/join/abc", "")), "FULL", "it may come back");
    }
    let mut params = Value::Null;
    wait_until("the seat is free", || {
        params = is_json(&fixture.post("/join/abc", ""));
        params["result"] == "SUCCESS"
    });
    assert!(died.elapsed() >= Duration::from_millis(1_400), "not before the grace is over");
    let params = &params["params"];
    assert_eq!((&params["is_initiator"], &params["messages"]), (&"false".into(), &json!([])));
    assert_eq!(a.talker.hear().as_deref(), Ok(BYE), "whoever stayed offers again");
    a.post(&fixture, "fresh offer");
    let mut c = Talker::open(fixture.public);
    c.say(&json!({ "cmd": "register", "roomid": "abc", "clientid": client(params) }));
    assert_eq!(c.hear().as_deref(), Ok("fresh offer"));
}

#[test]
fn a_tab_that_is_closed_or_loaded_again_frees_its_seat_at_once() {
    let fixture = Fixture::start();
    let (mut a, b) = call(&fixture);
    b.talker.close(1001);
    assert_eq!(a.talker.hear().as_deref(), Ok(BYE));
    a.post(&fixture, "fresh offer");
    assert_eq!(Guest::arrive(&fixture).messages, json!(["fresh offer"]));
}

#[test]
fn a_tab_that_could_only_send_its_leave_is_gone_as_well() {
    let fixture = Fixture::start();
    let (mut a, b) = call(&fixture);
    b.leave(&fixture);
    drop(b);
    assert_eq!(a.talker.hear().as_deref(), Ok(BYE));
    a.post(&fixture, "fresh offer");
    assert_eq!(Guest::arrive(&fixture).messages, json!(["fresh offer"]));
}

#[test]
fn bye_and_gone_frees_the_seat_without_waiting() {
    let fixture = Fixture::start();
    let (mut a, mut b) = call(&fixture);
    b.talker.send(BYE);
    assert_eq!(a.talker.hear().as_deref(), Ok(BYE));
    drop(b);
    wait_until("the socket is gone", || openws(&fixture) == 1);
    assert_eq!(join(&fixture, "/join/abc")["is_initiator"], "false");
    a.delete(&fixture);
    assert_eq!(a.talker.ended(), Some(1000));
}

#[test]
fn a_page_that_comes_back_within_the_grace_resumes_its_call() {
    let fixture = Fixture::start();
    let (mut a, b) = call(&fixture);
    let id = b.id.clone();
    drop(b);
    wait_until("the socket is gone", || openws(&fixture) == 1);
    a.post(&fixture, "while away");
    let mut again = Talker::open(fixture.public);
    again.say(&json!({ "cmd": "register", "roomid": "abc", "clientid": id }));
    assert_eq!(again.hear().as_deref(), Ok("while away"));
    again.send("back");
    assert_eq!(a.talker.hear().as_deref(), Ok("back"));
}

#[test]
fn whoever_joined_and_vanished_before_its_socket_opened_holds_no_seat_for_long() {
    let fixture = Fixture::with(|live| live.rooms.as_mut().unwrap().silent_ms = 300);
    join(&fixture, "/join/abc");
    let mut is_empty = || join_outcome(&fixture) == "true";
    wait_until("nobody is in the room", &mut is_empty);
}

/// Joins, leaves at once if there was a seat, and tells whether the room was empty.
fn join_outcome(fixture: &Fixture) -> String {
    let params = is_json(&fixture.post("/join/abc", ""))["params"].clone();
    if let Some(id) = params["client_id"].as_str() {
        fixture.post(&format!("/leave/abc/{id}"), "");
    }
    params["is_initiator"].as_str().unwrap_or("full").into()
}

#[test]
fn two_hundred_calls_come_and_go_and_nothing_is_left() {
    const ROOMS: usize = 200;
    let fixture = Fixture::start();
    let start = Instant::now();
    let mut calls = Vec::new();
    let mut wire = Wire::connect(fixture.public);
    let mut ask = |path: &str, body: &str| {
        let answer = wire.ask("POST", path, &[], body);
        // A connection answers a thousand requests.
        if answer.header("connection") == Some("close") {
            wire = Wire::connect(fixture.public);
        }
        assert_eq!(answer.status, 200, "{path}");
        answer
    };
    for room in 0..ROOMS {
        let room = format!("room{room}");
        let mut seats = Vec::new();
        for _ in 0..2 {
            let params = is_json(&ask(&format!("/join/{room}"), ""))["params"].clone();
            let id = client(&params).to_string();
            let mut talker = Talker::open(fixture.public);
            talker.say(&json!({ "cmd": "register", "roomid": room, "clientid": id }));
            seats.push((id, talker));
        }
        calls.push((room, seats));
    }
    for (room, seats) in &mut calls {
        let [(a, first), (_, second)] = &mut seats[..] else { panic!("a call has two ends") };
        ask(&format!("/message/{room}/{a}"), "offer");
        assert_eq!(second.hear().as_deref(), Ok("offer"));
        second.send("answer");
        assert_eq!(first.hear().as_deref(), Ok("answer"));
    }
    assert_eq!(openws(&fixture), 2 * ROOMS);
    for (number, (room, seats)) in calls.into_iter().enumerate() {
        for (id, mut talker) in seats {
            match number % 4 {
                0 => {
                    ask(&format!("/leave/{room}/{id}"), "");
                    talker.send(BYE);
                }
                1 => talker.send(BYE),
                2 => {
                    talker.close(1001);
                    continue;
                }
                _ => {
                    assert_eq!(request(fixture.public, "DELETE", &format!("/{room}/{id}"), &[], "").status, 200);
                }
            }
            drop(talker);
        }
    }
    wait_until("every socket is gone", || openws(&fixture) == 0);
    for room in 0..ROOMS {
        let params = is_json(&ask(&format!("/join/room{room}"), ""));
        assert_eq!(params["params"]["is_initiator"], "true", "room{room} is empty");
        assert_eq!(params["params"]["messages"], json!([]));
    }
    assert!(start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());
}
