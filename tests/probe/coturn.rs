//! Against coturn, as Debian has it.

use super::foreign::{LOOPBACK, ask, free_ports, require};
use super::runs::{Scratch, probe};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

const ALICE: [&str; 4] = ["--user", "alice", "--password", "wonderland"];
const ALICE_THERE: [&str; 3] = ["--lt-cred-mech", "--user=alice:wonderland", "--allow-loopback-peers"];

/// A `turnserver` on loopback; ended when it is dropped.
struct Coturn {
    child: Child,
    port: u16,
    tls_port: u16,
    _scratch: Scratch,
}

impl Coturn {
    /// Starts it and waits until it answers STUN, or, without STUN, takes connections.
    fn start(flags: &[&str]) -> Coturn {
        require("turnserver");
        let scratch = Scratch::new();
        let port = free_ports(2);
        let tls_port = port + 1;
        let state = |name: &str| scratch.file(name, "");
        let child = Command::new("turnserver")
            .args([
                "-n",
                "--no-cli",
                "--no-dtls",
                "--realm=example.org",
                "--listening-ip=127.0.0.1",
                "--log-file=stdout",
            ])
            .args(["--relay-ip=127.0.0.1", "--min-port=49152", "--max-port=65535"])
            .arg(format!("--listening-port={port}"))
            .arg(format!("--tls-listening-port={tls_port}"))
            .arg(format!("--pidfile={}", state("pid")))
            .arg(format!("--userdb={}", state("userdb")))
            .args(flags)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("turnserver starts");
        let mut coturn = Coturn { child, port, tls_port, _scratch: scratch };
        // An Allocate where there is no Binding: type, length 0, magic cookie, transaction id (RFC 8489 §5).
        let method = if flags.contains(&"--no-stun") { b'\x03' } else { b'\x01' };
        let mut question = *b"\x00\x01\x00\x00\x21\x12\xa4\x42turnserver-?";
        question[1] = method;
        let server = SocketAddr::new(LOOPBACK[0], port);
        assert!(ask(server, &question, || matches!(coturn.child.try_wait(), Ok(None))), "turnserver does not answer");
        coturn
    }

    fn uri(&self, transport: &str) -> String {
        format!("turn:127.0.0.1:{}?transport={transport}", self.port)
    }
}

impl Drop for Coturn {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn every_transport() {
    let scratch = Scratch::new();
    let (cert, key) = scratch.certificate();
    let (cert_flag, key_flag) = (format!("--cert={cert}"), format!("--pkey={key}"));
    let coturn = Coturn::start(&[&ALICE_THERE[..], &[&cert_flag, &key_flag]].concat());
    let (udp, tcp, tls) = (coturn.uri("udp"), coturn.uri("tcp"), format!("turns:127.0.0.1:{}", coturn.tls_port));
    let run = probe(&[&[udp.as_str(), &tcp, &tls, "--ca", &cert], &ALICE[..]].concat());
    assert_eq!(run.code, Some(0), "{}\n{}", run.printed, run.said);
    for (at, mtu) in ["pass", "skip", "skip"].into_iter().enumerate() {
        let steps = run.steps(at);
        assert_eq!(steps["relay"]["received"], 10, "{steps:#}");
        assert_eq!((steps["relay"]["outcome"].as_str(), steps["mtu"]["outcome"].as_str()), (Some("pass"), Some(mtu)));
    }
}

#[test]
fn a_secret_and_the_clock() {
    let coturn = Coturn::start(&["--use-auth-secret", "--static-auth-secret=topsecret", "--allow-loopback-peers"]);
    let right = probe(&[&coturn.uri("udp"), "--secret", "topsecret"]);
    assert_eq!(right.code, Some(0), "{}", right.printed);
    let ahead_s = right.steps(0)["clock"]["ahead_s"].as_i64().unwrap();
    assert!(ahead_s.abs() <= 2, "{ahead_s} s ahead of itself");
    let wrong = probe(&[&coturn.uri("udp"), "--secret", "other"]);
    wrong.expect("allocation", "fail", &["(401)", "the secret is not the server's"]);
}

#[test]
fn what_it_refuses_is_told_in_its_own_words() {
    let wrong = Coturn::start(&ALICE_THERE);
    let run = probe(&[&wrong.uri("tcp"), "--user", "alice", "--password", "hodcarrier"]);
    run.expect("allocation", "fail", &["(401)", "the password is wrong"]);

    let denies = Coturn::start(&ALICE_THERE[..2]);
    let run = probe(&[&[denies.uri("udp").as_str()], &ALICE[..]].concat());
    run.expect("relay", "fail", &["(403)", "allow-loopback-peers"]);

    let narrow = Coturn::start(&[&ALICE_THERE[..], &["--user-quota=1"]].concat());
    let run = probe(&[&[narrow.uri("udp").as_str()], &ALICE[..]].concat());
    assert_eq!(run.code, Some(0), "{}", run.printed);
    run.expect("relay", "warn", &["(486)", "user-quota"]);
    assert_eq!(run.steps(0)["relay"]["between"], "socket");
}

#[test]
fn one_that_serves_only_stun_only_turn_or_everybody() {
    let stun = Coturn::start(&["--stun-only"]);
    let run = probe(&[&stun.uri("udp").replace("turn:", "stun:")]);
    assert_eq!(run.code, Some(0), "{}", run.printed);
    let run = probe(&[&[stun.uri("udp").as_str(), "--timeout", "1s"], &ALICE[..]].concat());
    run.expect("allocation", "fail", &["no answer to Allocate", "it may serve STUN alone"]);

    let turn = Coturn::start(&[&ALICE_THERE[..], &["--no-stun"]].concat());
    let run = probe(&[&[turn.uri("udp").as_str(), "--timeout", "1s"], &ALICE[..]].concat());
    assert_eq!(run.code, Some(0), "{}", run.printed);
    run.expect("binding", "warn", &["no answer to Binding"]);
    run.expect("relay", "pass", &[]);

    for flags in [&["--no-auth", "--allow-loopback-peers"][..], &["--no-auth", "--allow-loopback-peers", "--no-stun"]] {
        let open = Coturn::start(flags);
        let run = probe(&[&open.uri("udp"), "--timeout", "1s"]);
        assert_eq!(run.code, Some(0), "{}", run.printed);
        run.expect("allocation", "warn", &["without credentials: anybody may relay"]);
        run.expect("relay", "pass", &[]);
    }
}
