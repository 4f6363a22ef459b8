//! Headless Chromium as a client: calls between two of its peers that may only meet through the daemon, and the
//! pages that the server itself serves.
//!
//! Both peers are clients of the same server, so the traffic also goes from one relayed address to another.

mod foreign;
mod wire_client;

#[allow(dead_code, reason = "shared with the tests of the daemon")]
#[path = "daemon/certificate.rs"]
mod certificate;
#[allow(dead_code, unused_imports, reason = "shared with the tests of the plane")]
#[path = "plane/fixture.rs"]
mod fixture;
#[path = "browser/house.rs"]
mod house;
#[allow(dead_code, reason = "shared with the tests of the daemon")]
#[path = "daemon/ports.rs"]
mod ports;
#[path = "browser/served.rs"]
mod served;
#[allow(dead_code, reason = "shared with the tests of the plane")]
#[path = "plane/wire.rs"]
mod wire;

use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use foreign::{Daemon, LOOPBACK, PASSWORD, USER, require};
use house::House;
use serde_json::{Value, json};
use wire_client::{SECRET as SECRET_OF_THE_HOUSE, rest_password};

/// The shared secret that the browser's time-limited credential is minted from.
const SECRET: &str = "a-secret-for-browsers";
/// Seconds for all calls of one browser; each needs two.
const BROWSER_LIMIT_S: &str = "400";
const TRANSPORTS: [&str; 3] = ["udp", "tcp", "tls"];

/// A case of `relay_call.mjs`: one call over one transport to one loopback address.
fn call(daemon: &Daemon, transport: &str, host: &str, credential: &(String, String)) -> Value {
    let url = match transport {
        "tls" => format!("turns:{host}:{}?transport=tcp", daemon.tls_port),
        plain => format!("turn:{host}:{}?transport={plain}", daemon.port),
    };
    json!({
        "name": format!("{transport} {host}"),
        "relayProtocol": transport,
        "iceServers": [{ "urls": url, "username": credential.0, "credential": credential.1 }],
    })
}

/// Runs a program of `tests/browser` with one argument; returns whether it succeeded and its lines of JSON.
fn drive(program: &str, told: &Value) -> (bool, Vec<Value>) {
    // One browser at a time: several at once are late for everything on a small machine.
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    require("node");
    require("chromium");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser");
    assert!(
        folder.join("node_modules/playwright-core").is_dir(),
        "playwright-core is not installed: tests/run.sh --install installs what the tests need"
    );
    let output = Command::new("timeout")
        .args([BROWSER_LIMIT_S, "node"])
        .arg(folder.join(program))
        .arg(told.to_string())
        .output()
        .expect("timeout runs");
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    // Shown with `cargo test -- --nocapture`, and when the test fails.
    println!("{stdout}{stderr}");
    assert!(matches!(output.status.code(), Some(0 | 1)), "the browser could not be driven: {}", output.status);
    let seen = stdout.lines().map(|line| serde_json::from_str(line).expect("a JSON line a step")).collect();
    (output.status.success(), seen)
}

/// Makes the calls in one browser; returns whether all succeeded and what was seen of each.
fn make_calls(calls: Vec<Value>) -> (bool, Vec<Value>) {
    drive("relay_call.mjs", &Value::from(calls))
}

/// Visits the pages as a program of `tests/browser` says; pictures are kept in the target directory.
fn visit(house: &House, program: &str) -> Vec<Value> {
    visit_knowing(house, program, &json!({}))
}

/// The same, for a program that is told more than where to go.
fn visit_knowing(house: &House, program: &str, more: &Value) -> Vec<Value> {
    let mut told = house.address();
    told["shots"] = json!(Path::new(env!("CARGO_TARGET_TMPDIR")).join("pages"));
    for (key, value) in more.as_object().expect("names and values") {
        told[key] = value.clone();
    }
    let (all, seen) = drive(program, &told);
    assert!(all, "a step of {program} failed; see the lines above");
    seen
}

/// Fails unless everything sent over the call's data channel came back, and its video moved.
fn assert_whole(seen: &Value) {
    assert_eq!(seen["echoed"]["messages"], 200, "{seen}");
    assert!(seen["watched"]["framesDecoded"].as_u64() > seen["watched"]["framesFirst"].as_u64(), "{seen}");
    for pair in seen["pairs"].as_array().expect("both peers' pairs") {
        let relayed = pair["relayedAddress"].as_str().expect("a relayed address");
        assert!(LOOPBACK.iter().any(|ip| relayed.contains(&ip.to_string())), "{seen}");
    }
}

#[test]
fn calls_over_every_transport() {
    let daemon = Daemon::start(SECRET);
    let minted = daemon.mint("carol");
    let user = (USER.to_owned(), PASSWORD.to_owned());
    let mut calls: Vec<Value> =
        TRANSPORTS.iter().map(|transport| call(&daemon, transport, "127.0.0.1", &minted)).collect();
    // Chromium reaches the server over IPv6 but never asks for an IPv6 relayed address: what is relayed stays IPv4.
    calls.extend(TRANSPORTS.iter().map(|transport| call(&daemon, transport, "[::1]", &user)));
    let wanted = calls.len();
    let (all, seen) = make_calls(calls);
    assert!(all, "a call failed; see the lines above");
    assert_eq!(seen.len(), wanted);
    seen.iter().for_each(assert_whole);
    daemon.stop();
}

#[test]
fn a_wrong_password_makes_no_call() {
    let daemon = Daemon::start(SECRET);
    let wrong = (USER.to_owned(), "Wonderland".to_owned());
    let (all, seen) = make_calls(vec![call(&daemon, "udp", "127.0.0.1", &wrong)]);
    assert!(!all, "a wrong password was accepted");
    assert_eq!(seen[0]["failed"], "connecting: no relayed candidate", "{}", seen[0]);
    let errors = seen[0]["iceErrors"].as_array().expect("the browser's errors");
    assert!(errors.iter().any(|error| error.as_str().is_some_and(|text| text.starts_with("401"))), "{errors:?}");
    daemon.stop();
}

#[test]
fn a_call_goes_on_through_reloads_a_new_certificate_and_a_drain() {
    let daemon = Daemon::start(SECRET);
    let mut told = daemon.told();
    told["iceServers"] = call(&daemon, "tls", "127.0.0.1", &daemon.mint("carol"))["iceServers"].clone();
    let (all, seen) = drive("operator.mjs", &told);
    assert!(all, "a step failed; see the lines above");
    let named = |name: &str| seen.iter().find(|step| step["name"] == name).expect("the step was taken");
    assert_eq!(named("call")["candidate"], "relay");
    assert_eq!((&named("drain")["candidates"], &named("drain")["codes"][0]), (&json!(0), &json!(508)), "{seen:?}");
    named("end");
    daemon.ended();
}

#[test]
fn a_call_from_the_first_look_to_the_last_word() {
    let house = House::open();
    let seen = visit(&house, "call.mjs");
    assert!(seen.len() > 10, "every step was taken: {seen:?}");
}

#[test]
fn a_call_goes_on_after_what_happens_to_calls() {
    visit(&House::open(), "mishaps.mjs");
}

#[test]
fn every_way_to_the_relay_passes_the_self_test() {
    let house = House::open();
    let seen = visit(&house, "selftest.mjs");
    assert_eq!(seen[0]["rows"].as_array().map(Vec::len), Some(8), "STUN and TURN over all transports: {seen:?}");
}

#[test]
fn the_pages_under_other_conditions() {
    // Short-lived credentials, to see them renewed.
    let house = House::with(|live| {
        live.open = true;
        live.allowed_hosts = vec!["turnpike.test".into()];
        live.mint.as_mut().expect("the fixture mints").ttl_s = 6;
    });
    visit(&house, "pages.mjs");
}

#[test]
fn both_languages_have_the_same_words() {
    let (all, seen) = drive("i18n.mjs", &json!({}));
    assert!(all, "{seen:?}");
    assert!(seen[0]["words"].as_u64() > Some(100), "{seen:?}");
}

#[test]
fn the_parts_of_the_pages_keep_their_promises() {
    let (all, seen) = drive("parts.mjs", &json!({}));
    assert!(all, "{seen:?}");
    assert!(seen.len() >= 10, "{seen:?}");
}

#[test]
fn the_console_shows_calls_and_steers_the_relay() {
    let house = House::open();
    // Whoever allocates by hand may have any name; one that would like to be markup, for example.
    let user = "<img src=x onerror=alert(1)>";
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    let username = format!("{}:{user}", now + 3600);
    let stranger = json!({
        "user": user,
        "urls": format!("turn:{}?transport=udp", house.plane.udp),
        "credential": rest_password(&username),
        "username": username,
    });
    let secret = str::from_utf8(SECRET_OF_THE_HOUSE).expect("text");
    visit_knowing(&house, "console.mjs", &json!({ "stranger": stranger, "secret": secret }));
}

#[test]
fn the_console_asks_for_its_token() {
    let token = "a-token-for-the-console";
    let house = House::with(|live| live.admin_token = Some(fixture::digest(token)));
    visit_knowing(&house, "console.mjs", &json!({ "token": token }));
}
