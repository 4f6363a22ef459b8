//! Sessions through the admin API: listed, filtered, in detail, ended.

use super::{get, request};
use crate::client::{Caller, Peer};
use crate::fixture::{Fixture, wait_until};
use crate::link::Via;
use crate::wire_client::{ALICE, allocate, refresh, rest_password};
use serde_json::Value;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// An hour from now, as time-limited usernames say it.
fn in_an_hour() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    now.as_secs() + 3600
}

/// A client with a time-limited credential and an allocation.
fn guest(fixture: &Fixture, via: Via, user: &str) -> Caller {
    let name = format!("{}:{user}", in_an_hour());
    let password = rest_password(&name);
    let server = if matches!(via, Via::Udp) { fixture.udp } else { fixture.tcp };
    let mut guest = Caller::as_user((&name, &password), via, server);
    guest.allocate(allocate());
    guest
}

/// The sessions of a query, once there are so many.
fn listed(fixture: &Fixture, query: &str, count: usize) -> Value {
    let mut answer = Value::Null;
    wait_until(&format!("{count} sessions with `{query}`"), || {
        answer = get(fixture, &format!("/api/v1/sessions{query}")).json();
        answer["total"] == count
    });
    answer
}

#[test]
fn a_session_is_shown_as_it_is() {
    let fixture = Fixture::start();
    let (mut alice, relayed) = Caller::allocated(Via::Udp, fixture.udp);
    let peer = Peer::new(HERE);
    alice.bind(0x4000, peer.addr());
    alice.permit(&["127.0.0.2:1".parse().expect("an address and a port")]);
    for _ in 0..3 {
        alice.send_on(0x4000, b"twelve bytes");
        peer.receive();
    }
    peer.send(relayed, b"seven b");
    alice.receive();
    let sessions = listed(&fixture, "", 1);
    assert_eq!((&sessions["next"], &sessions["partial"]), (&Value::Null, &false.into()));
    let session = &sessions["sessions"][0];
    for (key, value) in [
        ("user", ALICE.0.to_owned()),
        ("username", ALICE.0.to_owned()),
        ("transport", "udp".to_owned()),
        ("client", alice.local_addr().to_string()),
        ("server", fixture.udp.to_string()),
    ] {
        assert_eq!(session[key], value, "{key}");
    }
    assert_eq!(session["relayed"], serde_json::json!([relayed.to_string()]));
    assert_eq!((&session["permissions"], &session["channels"]), (&2.into(), &1.into()));
    assert!(session["age_s"].as_u64().is_some_and(|age| age < 60));
    assert!(session["expires_in_s"].as_u64().is_some_and(|left| (540..=600).contains(&left)), "{session}");

    let id = session["id"].as_str().expect("a name");
    let detail = get(&fixture, &format!("/api/v1/sessions/{id}")).json();
    assert_eq!((&detail["id"], &detail["client"]), (&session["id"], &session["client"]));
    // The detail is of now; the list may be from before the packets.
    assert_eq!((&detail["to_peer"]["packets"], &detail["to_peer"]["bytes"]), (&3.into(), &36.into()));
    assert_eq!((&detail["to_client"]["packets"], &detail["to_client"]["bytes"]), (&1.into(), &7.into()));
    let channel = &detail["channels"][0];
    assert_eq!((&channel["number"], &channel["peer"]), (&"0x4000".into(), &peer.addr().to_string().into()));
    assert!(channel["expires_in_s"].as_u64().is_some_and(|left| (540..=600).contains(&left)), "{channel}");
    let permitted = detail["permissions"].as_array().expect("a list").iter();
    let permitted: BTreeSet<&str> = permitted.map(|permission| permission["peer"].as_str().expect("text")).collect();
    assert_eq!(permitted, ["127.0.0.1", "127.0.0.2"].into());
    assert!(detail["permissions"][0]["expires_in_s"].as_u64().is_some_and(|left| (240..=300).contains(&left)));
}

#[test]
fn rates_are_shown_once_a_session_was_seen_twice() {
    let fixture = Fixture::start();
    let (mut alice, _) = Caller::allocated(Via::Udp, fixture.udp);
    let peer = Peer::new(HERE);
    alice.bind(0x4000, peer.addr());
    let mut found = Value::Null;
    wait_until("the rates of the session and of all", || {
        alice.send_on(0x4000, &[7; 1000]);
        peer.receive();
        let session = &get(&fixture, "/api/v1/sessions?sort=rate").json()["sessions"][0];
        let status = get(&fixture, "/api/v1/status").json();
        found = serde_json::json!([session["to_peer"], status["rates"]["to_peer"]]);
        let moves = |way: &Value| way["bytes_per_s"].as_f64().is_some_and(|rate| rate > 0.0);
        moves(&found[0]) && moves(&found[1])
    });
    for way in [&found[0], &found[1]] {
        let (packets, bytes) = (way["packets_per_s"].as_f64(), way["bytes_per_s"].as_f64());
        let bytes_a_packet = bytes.expect("bytes a second") / packets.expect("packets a second");
        assert!((bytes_a_packet - 1000.0).abs() < 60.0, "every packet has 1000 bytes: {found}");
    }
}

#[test]
fn a_username_is_text_whatever_it_looks_like() {
    const NAME: &str = "<img src=x onerror=alert(1)>\"'&\u{202e}\\u0000";
    let fixture = Fixture::start();
    let _guest = guest(&fixture, Via::Udp, NAME);
    let answer = get(&fixture, "/api/v1/sessions");
    assert!(answer.header("content-type").is_some_and(|kind| kind.starts_with("application/json")));
    let session = &listed(&fixture, "", 1)["sessions"][0];
    assert_eq!(session["user"], NAME);
    assert!(session["username"].as_str().is_some_and(|name| name.ends_with(&format!(":{NAME}"))));
}

#[test]
fn an_ended_session_is_ended() {
    let fixture = Fixture::start();
    let (mut alice, relayed) = Caller::allocated(Via::Udp, fixture.udp);
    let (mut other, _) = Caller::allocated(Via::Tcp, fixture.tcp);
    let sessions = listed(&fixture, "?transport=udp", 1);
    let path = format!("/api/v1/sessions/{}", sessions["sessions"][0]["id"].as_str().expect("a name"));
    let kick = || request(fixture.admin, "DELETE", &path, &[], "");
    let answer = kick();
    assert_eq!((answer.status, answer.body.len()), (204, 0));
    assert_eq!((kick().status, &*kick().code()), (404, "no_session"));
    assert_eq!(get(&fixture, &path).status, 404);
    assert_eq!(alice.code(refresh(600)), 437, "the allocation is gone");
    std::net::UdpSocket::bind(relayed).expect("and its port is free");
    other.succeed(refresh(600));
    assert_eq!(get(&fixture, "/api/v1/status").json()["ended"]["closed"], 1);
    listed(&fixture, "", 1);
    for absent in ["0-0-99", "1-0-0", "255-0-0", "0-4294967295-0", "x", "0-0", "%2e%2e", "0-0-0-0", "%ff", "%00"] {
        for method in ["GET", "DELETE"] {
            let answer = request(fixture.admin, method, &format!("/api/v1/sessions/{absent}"), &[], "");
            assert_eq!((answer.status, &*answer.code()), (404, "no_session"), "{method} {absent}");
        }
    }
}

#[test]
fn all_sessions_of_a_user_end_at_once_and_no_other() {
    let fixture = Fixture::start();
    let mut eves: Vec<Caller> = (0..5).map(|_| guest(&fixture, Via::Udp, "eve")).collect();
    let mut adam = guest(&fixture, Via::Udp, "adam");
    let mut like = guest(&fixture, Via::Tcp, "eve2");
    let kick = |query: &str| request(fixture.admin, "DELETE", &format!("/api/v1/sessions{query}"), &[], "");
    let answer = kick("?user=eve");
    assert_eq!((answer.status, &answer.json()["closed"], &answer.json()["partial"]), (200, &5.into(), &false.into()));
    assert_eq!(kick("?user=eve").json()["closed"], 0);
    for eve in &mut eves {
        assert_eq!(eve.code(refresh(600)), 437);
    }
    adam.succeed(refresh(600));
    like.succeed(refresh(600));
    for wrong in ["", "?", "?id=0-0-0", "?user=adam&limit=1"] {
        assert_eq!((kick(wrong).status, &*kick(wrong).code()), (400, "bad_query"), "nobody is meant by `{wrong}`");
    }
    listed(&fixture, "", 2);
}

#[test]
fn many_sessions_are_listed_page_by_page() {
    const COUNT: usize = 300;
    let fixture = Fixture::start();
    let _callers: Vec<Caller> = (0..COUNT).map(|_| Caller::allocated(Via::Udp, fixture.udp).0).collect();
    assert_eq!(listed(&fixture, "?limit=1000", COUNT)["sessions"].as_array().map(Vec::len), Some(COUNT));
    let mut ids = Vec::new();
    let mut next = String::new();
    for _ in 0..10 {
        let page = get(&fixture, &format!("/api/v1/sessions?limit=70{next}")).json();
        assert_eq!(page["total"], COUNT);
        let sessions = page["sessions"].as_array().expect("a list");
        assert!(sessions.len() <= 70);
        ids.extend(sessions.iter().map(|session| session["id"].as_str().expect("a name").to_owned()));
        match page["next"].as_str() {
            Some(after) => next = format!("&after={after}"),
            None => break,
        }
    }
    assert_eq!((ids.len(), ids.iter().collect::<BTreeSet<_>>().len()), (COUNT, COUNT), "each is listed once");
    let list = |query: &str| get(&fixture, &format!("/api/v1/sessions?{query}"));
    assert_eq!(list("").json()["sessions"].as_array().map(Vec::len), Some(200), "200 unless more are asked for");
    assert_eq!(list("limit=100000").json()["sessions"].as_array().map(Vec::len), Some(COUNT));
    assert_eq!(list("limit=0").json()["sessions"].as_array().map(Vec::len), Some(0));
    assert_eq!(list("limit=300").json()["next"], Value::Null, "the last page is full, and the last");
    for sort in ["bytes", "age", "rate"] {
        let sorted = list(&format!("sort={sort}&limit=5")).json();
        assert_eq!((sorted["sessions"].as_array().map(Vec::len), &sorted["next"]), (Some(5), &Value::Null), "{sort}");
    }
    for wrong in ["sort=name", "limit=-1", "limit=x", "what=ever", "after=0-0-0&sort=age", "client=localhost"] {
        assert_eq!(list(wrong).status, 400, "{wrong}");
    }
    assert_eq!(list("after=x").status, 404);
}

#[test]
fn sessions_are_found_by_what_they_are() {
    let fixture = Fixture::start();
    let ann = guest(&fixture, Via::Udp, "ann");
    let ben = guest(&fixture, Via::Tcp, "ben");
    let mut busy = guest(&fixture, Via::Udp, "ann");
    let peer = Peer::new(HERE);
    busy.bind(0x4000, peer.addr());
    busy.send_on(0x4000, &[1; 100]);
    peer.receive();
    listed(&fixture, "", 3);
    listed(&fixture, "?user=ann", 2);
    listed(&fixture, "?user=an", 0);
    listed(&fixture, "?transport=tcp", 1);
    listed(&fixture, "?client=127.0.0.1", 3);
    listed(&fixture, "?user=ann&transport=tcp", 0);
    for one in [&ann, &ben, &busy] {
        let found = &listed(&fixture, &format!("?client={}", one.local_addr()), 1)["sessions"][0];
        assert_eq!(found["client"], one.local_addr().to_string());
        let relayed = found["relayed"][0].as_str().expect("an address");
        assert_eq!(listed(&fixture, &format!("?relayed={relayed}"), 1)["sessions"][0]["id"], found["id"]);
    }
    wait_until("the busy one comes first", || {
        let first = &get(&fixture, "/api/v1/sessions?sort=bytes&limit=1").json()["sessions"][0];
        first["client"] == busy.local_addr().to_string()
    });
    let by_age = get(&fixture, "/api/v1/sessions?sort=age").json();
    let ages: Vec<u64> =
        by_age["sessions"].as_array().expect("a list").iter().filter_map(|s| s["age_s"].as_u64()).collect();
    assert!(ages.len() == 3 && ages.is_sorted_by(|a, b| a >= b), "{ages:?}");
}
