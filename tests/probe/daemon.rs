//! Against turnpike itself.

use super::certificate;
use super::ports::LOOPBACK;
use super::runs::{Scratch, command, probe, run};
use super::server::Server;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read};
use std::net::{IpAddr, SocketAddr};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::{Duration, Instant};

const ALICE: [&str; 4] = ["--user", "alice", "--password", "wonderland"];
const SECRET: &str = "north wind and sun";
/// How long a server may take to give back what was returned to it.
const PATIENCE: Duration = Duration::from_secs(10);

fn uri(server: &Server, protocol: &str, ip: IpAddr) -> String {
    let addr = server.addr(protocol, ip);
    match protocol {
        "tls" => format!("turns:{addr}"),
        _ => format!("turn:{addr}?transport={protocol}"),
    }
}

/// Waits until the server holds no more files than before: every relay socket and connection is gone.
fn wait_until_empty(server: &Server, files: usize) {
    let began = Instant::now();
    while server.files() > files {
        assert!(began.elapsed() < PATIENCE, "{} files are open, {files} were before", server.files());
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn socket(value: &Value) -> SocketAddr {
    value.as_str().and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("{value} is no address"))
}

/// A probe that has allocated and goes on for long, and what it says.
fn under_way(uri: &str) -> (Child, BufReader<ChildStderr>) {
    let mut child = command(&[&[uri, "--packets", "1000"], &ALICE[..]].concat())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("turnpike starts");
    let mut said = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains(": peer ") {
        line.clear();
        assert!(said.read_line(&mut line).unwrap() > 0, "it ended before it allocated");
    }
    (child, said)
}

#[test]
fn every_transport_and_family_works_and_nothing_is_left() {
    let scratch = Scratch::new();
    let (cert, key) = scratch.certificate();
    let server = Server::start(&[&format!("tls.cert={cert}"), &format!("tls.key={key}")]);
    let files = server.files();
    let uris: Vec<String> =
        LOOPBACK.iter().flat_map(|ip| ["udp", "tcp", "tls"].map(|protocol| uri(&server, protocol, *ip))).collect();
    let mut arguments: Vec<&str> = uris.iter().map(String::as_str).collect();
    arguments.extend(ALICE);
    arguments.extend(["--ca", &cert]);
    let run = probe(&arguments);
    assert_eq!(run.code, Some(0), "{}\n{}", run.printed, run.said);
    let report = run.report();
    assert_eq!((&report["format"], &report["passed"]), (&json!(1), &json!(true)));
    let targets = report["targets"].as_array().unwrap();
    assert_eq!(targets.len(), 6);
    for (target, text) in targets.iter().zip(&uris) {
        let steps = &target["steps"];
        assert_eq!(target["outcome"], "pass", "{text}: {target:#}");
        let ip = socket(&target["server"]).ip();
        assert_eq!(socket(&steps["binding"]["mapped"]).ip(), ip, "{text}");
        let relayed = socket(&steps["allocation"]["relayed"]);
        assert!(relayed.ip() == ip && server.ports.relay().contains(&relayed.port()), "{text}: {relayed}");
        assert_eq!(
            (&steps["allocation"]["realm"], &steps["allocation"]["lifetime_s"]),
            (&json!("example.org"), &json!(600))
        );
        assert_eq!((&steps["peer"]["outcome"], socket(&steps["peer"]["address"]).ip()), (&json!("pass"), ip));
        let relay = &steps["relay"];
        assert_eq!(
            (&relay["between"], &relay["sent"], &relay["received"]),
            (&json!("allocations"), &json!(10), &json!(10))
        );
        assert!(relay["rtt_ms"]["p50"].as_f64().unwrap() > 0.0, "{relay}");
        let is_udp = text.ends_with("udp");
        assert_eq!(steps["mtu"]["outcome"], if is_udp { "pass" } else { "skip" }, "{text}");
        if is_udp {
            assert_eq!(steps["mtu"]["payload_bytes"], 1500, "loopback takes more");
        }
        let has_certificate = steps["certificate"]["outcome"] == "pass";
        assert_eq!(has_certificate, text.starts_with("turns:"), "{text}");
    }
    let names = &targets[2]["steps"]["certificate"]["names"];
    assert_eq!(names, &json!(["localhost", "127.0.0.1", "::1"]));
    wait_until_empty(&server, files);
    server.stop();
}

#[test]
fn a_host_stands_for_all_transports() {
    let server = Server::start(&[]);
    let udp = server.addr("udp", LOOPBACK[0]);
    // Nothing is behind TCP at this port, and nothing at 5349: what works is told beside what does not.
    let run = probe(&[&[udp.to_string().as_str(), "--timeout", "2s"], &ALICE[..]].concat());
    let report = run.report();
    let transports: Vec<_> = report["targets"].as_array().unwrap().iter().map(|target| &target["transport"]).collect();
    assert_eq!(transports, ["udp", "tcp", "tls", "dtls"]);
    assert_eq!(report["targets"][0]["outcome"], "pass", "{}", run.printed);
    assert_eq!(report["targets"][3]["outcome"], "skip");
    let why = report["targets"][3]["steps"]["connect"]["reason"].as_str().unwrap();
    assert_eq!(why, "not tried: turnpike's client has no DTLS");
    server.stop();
}

#[test]
fn a_wrong_password_and_an_unknown_user() {
    let server = Server::start(&[]);
    let uri = uri(&server, "udp", LOOPBACK[0]);
    for (user, password) in [("alice", "hodcarrier"), ("mallory", "wonderland")] {
        let run = probe(&[&uri, "--user", user, "--password", password]);
        assert_eq!(run.code, Some(1));
        let words = ["(401)", "the password is wrong", &format!("the user {user} is unknown")];
        run.expect("allocation", "fail", &words);
        run.expect("binding", "pass", &[]);
        assert!(run.said.ends_with("turnpike: 1 of 1 failed\n"), "{}", run.said);
    }
    server.stop();
}

#[test]
fn a_secret_shows_the_servers_clock() {
    let server = Server::start(&[&format!("auth.secrets=[{SECRET:?}]")]);
    let scratch = Scratch::new();
    let file = scratch.file("secret", &format!("{SECRET}\n"));
    let uri = uri(&server, "udp", LOOPBACK[0]);
    let right = probe(&[&uri, "--secret-file", &file]);
    assert_eq!(right.code, Some(0), "{}", right.printed);
    right.expect("clock", "pass", &[]);
    let ahead_s = right.steps(0)["clock"]["ahead_s"].as_i64().unwrap();
    assert!(ahead_s.abs() <= 2, "{ahead_s} s ahead of itself");

    let wrong = probe(&[&uri, "--secret", "south wind and rain"]);
    assert_eq!(wrong.code, Some(1));
    wrong.expect("allocation", "fail", &["(401)", "the secret is not the server's", "it is not its clock"]);
    wrong.expect("clock", "skip", &["no credential is taken"]);
    server.stop();
}

#[test]
fn without_credentials_the_relay_is_found_and_not_tried() {
    let server = Server::start(&[]);
    let run = probe(&[&uri(&server, "tcp", LOOPBACK[0])]);
    assert_eq!(run.code, Some(0), "{}", run.printed);
    run.expect("allocation", "skip", &["a relay is there (realm example.org)", "--secret"]);
    server.stop();
}

#[test]
fn a_certificate_that_is_not_to_be_trusted_gets_no_credentials() {
    let server = Server::start(&[]);
    let scratch = Scratch::new();
    let ca = scratch.file("ca.pem", certificate::CERTIFICATE);
    let uri = uri(&server, "tls", LOOPBACK[0]);
    for (trust, words) in [
        (["--ca", &ca], ["not for 127.0.0.1 but for turn.example.org", "--insecure goes on"]),
        (["--timeout", "3s"], ["signed by itself", "--ca FILE"]),
    ] {
        let run = probe(&[&[uri.as_str()], &ALICE[..], &trust[..]].concat());
        assert_eq!(run.code, Some(1));
        run.expect("certificate", "fail", &words);
        for step in ["binding", "allocation", "relay"] {
            run.expect(step, "skip", &[]);
        }
    }
    let on = probe(&[&[uri.as_str(), "--insecure"], &ALICE[..]].concat());
    assert_eq!(on.code, Some(0), "{}", on.printed);
    on.expect("certificate", "warn", &["signed by itself"]);
    on.expect("relay", "pass", &[]);
    server.stop();
}

#[test]
fn one_allocation_a_user_is_enough_to_measure() {
    let server = Server::start(&["limits.allocations_per_user=1"]);
    let run = probe(&[&[uri(&server, "udp", LOOPBACK[0]).as_str()], &ALICE[..]].concat());
    assert_eq!(run.code, Some(0), "{}", run.printed);
    run.expect("relay", "warn", &["second allocation", "(486)", "limits.allocations_per_user"]);
    let steps = run.steps(0);
    assert_eq!((&steps["relay"]["between"], &steps["relay"]["received"]), (&json!("socket"), &json!(10)));
    assert_eq!(steps["mtu"]["outcome"], "pass");
    server.stop();
}

#[test]
fn trials_side_by_side_do_not_fail_for_the_allocations_of_each_other() {
    let server = Server::start(&["limits.allocations_per_user=2"]);
    let uris = LOOPBACK.map(|ip| ["udp", "tcp"].map(|protocol| uri(&server, protocol, ip))).concat();
    let arguments: Vec<&str> = uris.iter().map(String::as_str).chain(ALICE).collect();
    let run = probe(&arguments);
    assert_eq!(run.code, Some(0), "{}", run.printed);
    for at in 0..uris.len() {
        let relay = &run.steps(at)["relay"];
        assert_eq!((&relay["outcome"], &relay["between"]), (&json!("pass"), &json!("allocations")), "{}", run.printed);
    }
    server.stop();
}

#[test]
fn a_wrong_external_address_shows_though_the_relay_works() {
    let server = Server::start(&["relay.external=[\"127.0.0.9/127.0.0.1\"]"]);
    let run = probe(&[&[uri(&server, "udp", LOOPBACK[0]).as_str()], &ALICE[..]].concat());
    assert_eq!(run.code, Some(0), "{}", run.printed);
    let relayed = socket(&run.steps(0)["allocation"]["relayed"]);
    assert_eq!(relayed.ip().to_string(), "127.0.0.9");
    run.expect("peer", "warn", &[&relayed.to_string(), "relay.external"]);
    run.expect("relay", "pass", &[]);
    server.stop();
}

#[test]
fn a_server_that_drains_names_the_next() {
    let server = Server::start(&["alternate_servers=[\"127.0.0.7:3478\"]", "drain_timeout=60s"]);
    let uri = uri(&server, "udp", LOOPBACK[0]);
    // An allocation that is held keeps the server there.
    let (mut holder, _said) = under_way(&uri);
    server.signal("USR1");
    server.log_until("draining");
    let run = probe(&[&[uri.as_str()], &ALICE[..]].concat());
    assert_eq!(run.code, Some(1));
    run.expect("allocation", "fail", &["(300)", "127.0.0.7:3478: probe that one"]);
    holder.kill().unwrap();
    holder.wait().unwrap();
}

#[test]
fn a_peer_that_the_server_denies_is_told_with_the_key_that_allows_it() {
    let server = Server::start(&["relay.allow_loopback_peers=false"]);
    let run = probe(&[&[uri(&server, "udp", LOOPBACK[0]).as_str()], &ALICE[..]].concat());
    assert_eq!(run.code, Some(1));
    run.expect("peer", "skip", &["does not relay to this host's address, 127.0.0.1 (403)"]);
    run.expect("relay", "fail", &["(403)", "relay.allow_loopback_peers = true"]);
    server.stop();
}

#[test]
fn a_table_is_for_people_and_holds_no_secret() {
    let server = Server::start(&[]);
    let (udp, tls) = (uri(&server, "udp", LOOPBACK[0]), uri(&server, "tls", LOOPBACK[0]));
    let shown = run(&[&[udp.as_str(), &tls, "--packets", "4"], &ALICE[..]].concat());
    assert_eq!(shown.code, Some(1), "{}", shown.said);
    let mut lines = shown.printed.lines();
    assert!(lines.next().unwrap().starts_with("RESULT   SERVER"), "{}", shown.printed);
    assert!(lines.next().unwrap().starts_with("pass     udp 127.0.0.1:"), "{}", shown.printed);
    assert!(lines.next().unwrap().starts_with("FAIL     tls 127.0.0.1:"), "{}", shown.printed);
    assert!(shown.printed.ends_with("1 of 2 work\n"), "{}", shown.printed);
    let name = format!("udp {}", server.addr("udp", LOOPBACK[0]));
    assert!(
        shown.said.lines().any(|line| line.starts_with(&format!("{name}: relay pass: 0 of 4 lost"))),
        "{}",
        shown.said
    );
    for text in [&shown.printed, &shown.said] {
        assert!(!text.contains("wonderland") && !text.contains('\x1b'), "{text}");
    }
    server.stop();
}

#[test]
fn an_interrupt_gives_back_what_was_allocated() {
    let server = Server::start(&[]);
    let files = server.files();
    let (child, mut said) = under_way(&uri(&server, "tcp", LOOPBACK[0]));
    let told = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(told.unwrap().success());
    let mut rest = String::new();
    said.read_to_string(&mut rest).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{rest}");
    assert!(rest.ends_with("turnpike: ended early: not everything was tried\n"), "{rest}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("skip relay: not tried: ended early"), "{rest}");
    wait_until_empty(&server, files);
    server.stop();
}
