//! What the API steers: drains and revocations.

use super::get;
use crate::client::Caller;
use crate::fixture::{API_KEY, Answer, Fixture, Wish, request};
use crate::link::Via;
use crate::wire_client::allocate;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use turnpike::bus::Command;
use turnpike::http::{self, Drain};
use turnpike::turn;

fn post(fixture: &Fixture, path: &str, body: &str) -> Answer {
    request(fixture.admin, "POST", path, &[("Content-Type", "application/json")], body)
}

fn revoke(fixture: &Fixture, id: &str) -> Answer {
    post(fixture, "/api/v1/revocations", &json!({ "id": id }).to_string())
}

fn restore(fixture: &Fixture, id: &str) -> Answer {
    request(fixture.admin, "DELETE", &format!("/api/v1/revocations/{id}"), &[], "")
}

fn revoked(fixture: &Fixture) -> Value {
    get(fixture, "/api/v1/revocations").json()["revocations"].clone()
}

#[test]
fn draining_takes_no_new_allocation_and_can_be_ended() {
    let fixture = Fixture::spawn(
        Wish::default(),
        |_| (),
        |mut config| {
            let (workers, drain, resume) =
                (config.workers.clone(), config.control.drain.clone(), config.control.resume.clone());
            let ending = workers.clone();
            config.control.drain = Arc::new(move |left_s| {
                drain(left_s);
                let drain = turn::Drain { alternates: Arc::new([]), left_ms: u64::MAX };
                assert!(workers.tell_all(|| Command::Drain(Some(drain.clone()))), "the workers take commands");
            });
            config.control.resume = Arc::new(move || {
                assert!(ending.tell_all(|| Command::Drain(None)), "the workers take commands");
                resume()
            });
            http::spawn(config)
        },
    );
    let (mut there, _) = Caller::allocated(Via::Udp, fixture.udp);
    let answer = request(fixture.admin, "POST", "/api/v1/drain", &[], "");
    assert_eq!((answer.status, &answer.json()["draining"]), (202, &Value::Bool(true)));
    assert_eq!((get(&fixture, "/readyz").status, &*get(&fixture, "/readyz").code()), (503, "draining"));
    assert_eq!(get(&fixture, "/healthz").json()["status"], "ok", "it is healthy all the same");
    assert_eq!(get(&fixture, "/api/v1/status").json()["draining"], true);
    // The worker obeys before it shows its sessions, which were asked for after.
    assert_eq!(get(&fixture, "/api/v1/sessions").json()["total"], 1);
    let mut late = Caller::new(Via::Udp, fixture.udp);
    assert_eq!(late.code(allocate()), 508);
    there.permit(&[fixture.udp]);
    let answer = request(fixture.admin, "DELETE", "/api/v1/drain", &[], "");
    assert_eq!((answer.status, &answer.json()["draining"]), (200, &Value::Bool(false)));
    assert_eq!(get(&fixture, "/readyz").json()["status"], "ready");
    assert_eq!(get(&fixture, "/api/v1/sessions").json()["total"], 1);
    assert_eq!(late.code(allocate()), 0);
}

#[test]
fn a_drain_may_have_a_deadline_and_says_it() {
    let fixture = Fixture::start();
    let answer = post(&fixture, "/api/v1/drain", "{\"timeout\": 300}");
    let drain = json!({ "left_s": 300, "final": false });
    assert_eq!((answer.status, answer.json()), (202, json!({ "draining": true, "drain": drain })));
    assert_eq!(get(&fixture, "/api/v1/status").json()["drain"], drain);
    let answer = post(&fixture, "/api/v1/drain", "");
    assert_eq!(answer.json()["drain"], json!({ "left_s": null, "final": false }), "the latest wish counts");
    for (body, code) in [
        ("{\"timeout\": 0}", "bad_timeout"),
        ("{\"timeout\": 604801}", "bad_timeout"),
        ("{\"timeout\": \"5m\"}", "bad_request"),
        ("{\"timeout\": -1}", "bad_request"),
        ("{\"timeuot\": 5}", "bad_request"),
        ("[]", "bad_request"),
        ("{", "bad_request"),
    ] {
        let answer = post(&fixture, "/api/v1/drain", body);
        assert_eq!((answer.status, &*answer.code()), (400, code), "{body}");
    }
    assert_eq!(post(&fixture, "/api/v1/drain", "{\"timeout\": 604800}").status, 202);
}

#[test]
fn a_drain_that_a_signal_began_is_not_taken_back() {
    let fixture = Fixture::start();
    *fixture.draining.lock() = Some(Drain { left_s: Some(42), is_final: true });
    let answer = request(fixture.admin, "DELETE", "/api/v1/drain", &[], "");
    assert_eq!((answer.status, &*answer.code()), (409, "terminating"));
    assert_eq!(get(&fixture, "/api/v1/status").json()["drain"], json!({ "left_s": 42, "final": true }));
    assert_eq!(get(&fixture, "/readyz").status, 503);
    assert!(get(&fixture, "/metrics").text().contains("\nturnpike_draining 1\n"));
}

#[test]
fn revocations_come_and_go() {
    let fixture = Fixture::start();
    assert_eq!(get(&fixture, "/api/v1/revocations").json(), json!({ "revocations": [], "kept": "memory" }));
    let said = json!({ "id": "alice", "sessions_ended": 2, "partial": false, "kept": "memory" });
    let first = revoke(&fixture, "alice");
    assert_eq!((first.status, first.json()), (201, said.clone()));
    let again = revoke(&fixture, "alice");
    assert_eq!((again.status, again.json()), (200, said));
    for id in ["bob/../x", "ö b", "1893456000:carol"] {
        assert_eq!(revoke(&fixture, id).status, 201, "{id}");
    }
    assert_eq!(revoked(&fixture), json!(["1893456000:carol", "alice", "bob/../x", "ö b"]));
    for (id, status) in [("alice", 204), ("alice", 404), ("%C3%B6%20b", 204), ("bob%2F..%2Fx", 204), ("%0A", 404)] {
        assert_eq!(restore(&fixture, id).status, status, "{id}");
    }
    assert_eq!(revoked(&fixture), json!(["1893456000:carol"]));
}

#[test]
fn a_revocation_that_can_not_be_taken_says_why() {
    let fixture = Fixture::start();
    for (body, code) in [
        ("", "bad_request"),
        ("{}", "bad_request"),
        ("{\"id\": 7}", "bad_request"),
        ("{\"id\": \"a\", \"for\": \"1h\"}", "bad_request"),
        ("{\"id\": \"\"}", "bad_id"),
        ("{\"id\": \"a\\nb\"}", "bad_id"),
        ("{\"id\": \"#a\"}", "bad_id"),
        (&json!({ "id": "x".repeat(764) }).to_string(), "bad_id"),
    ] {
        let answer = post(&fixture, "/api/v1/revocations", body);
        assert_eq!((answer.status, &*answer.code()), (400, code), "{body}");
    }
    assert_eq!(revoke(&fixture, &"x".repeat(763)).status, 201);
    *fixture.revoked.max.lock() = Some(1);
    let full = revoke(&fixture, "one more");
    assert_eq!((full.status, &*full.code()), (409, "too_many_revocations"));
    *fixture.revoked.max.lock() = None;
    fixture.revoked.unwritten.store(true, Ordering::SeqCst);
    let unkept = revoke(&fixture, "alice");
    assert_eq!((unkept.status, &*unkept.code()), (500, "not_kept"));
    let detail = unkept.json()["detail"].as_str().expect("a sentence").to_owned();
    assert!(detail.starts_with("alice is revoked (sessions ended: 3)") && detail.contains("memory"), "{detail}");
    assert_eq!(restore(&fixture, "alice").status, 500);
}

#[test]
fn a_revoked_user_gets_no_credential_at_any_door() {
    let fixture = Fixture::start();
    assert_eq!(revoke(&fixture, "alice").status, 201);
    let bearer = [("Authorization", &*format!("Bearer {API_KEY}"))];
    let own =
        |user: &str| request(fixture.public, "POST", "/v1/credentials", &bearer, json!({ "user": user }).to_string());
    let of = |path: &str| fixture.get(&format!("{path}?key={API_KEY}&username=alice"));
    for answer in [own("alice"), of("/turn"), of("/v1alpha/iceconfig")] {
        assert_eq!((answer.status, &*answer.code()), (403, "revoked"), "{answer:?}");
    }
    assert_eq!(own("bob").status, 200);
    // Whoever is in a room is revoked by the room's name.
    let joined = fixture.post("/join/tearoom", "").json();
    let url = joined["params"]["ice_server_url"].as_str().expect("where to ask").to_owned();
    let path = &url[url.find("/v1alpha").expect("the path")..];
    assert_eq!(fixture.post(path, "").status, 200);
    assert_eq!(revoke(&fixture, "room-tearoom").status, 201);
    assert_eq!((fixture.post(path, "").status, &*fixture.post(path, "").code()), (403, "revoked"));
    assert_eq!(restore(&fixture, "alice").status, 204);
    assert_eq!(own("alice").status, 200);
}
