//! The log of a running server: what it says of sessions, and that nobody waits for it.

use super::client::{Caller, Peer};
use super::link::{Stream, Via};
use super::ports::{LOOPBACK, Stretch};
use super::program::{Folder, Program, turnpike};
use super::server::Server;
use crate::wire_client::{Client, REALM, SECRET, allocate, rest_password};
use serde_json::Value;
use std::net::SocketAddr;
use std::time::{SystemTime, UNIX_EPOCH};
use turnpike::turn::Transport;

/// More lines than wait in the pipe, in the queue and in the reader.
const LINES: usize = 14_000;

#[test]
fn a_reader_that_is_stuck_stops_neither_the_relay_nor_the_end() {
    let server = Server::start(&["log.level=trace", "http.admin_listen=127.0.0.1:0"]);
    let (mut alice, relayed) = Caller::allocated(Via::Udp, server.addr("udp", LOOPBACK[0]));
    let peer = Peer::new(LOOPBACK[0]);
    alice.permit(&[peer.addr()]);
    let ear = server.deafen();
    // Each of these answers is a line.
    for _ in 0..LINES {
        alice.echo();
    }
    assert!(server.metric("turnpike_log_lines_lost_total") > 0);
    for number in 0..100_u32 {
        alice.send_to(peer.addr(), &number.to_be_bytes());
        assert_eq!(peer.receive(), ((&number.to_be_bytes()).into(), relayed));
    }
    drop(ear);
    server.log_until("lines of the log were lost");
    server.stop();
}

#[test]
fn a_server_that_nobody_listens_to_ends_when_it_is_told_to() {
    let server = Server::start(&["log.level=trace"]);
    let mut alice = Caller::new(Via::Udp, server.addr("udp", LOOPBACK[0]));
    let mut stream = Stream::plain(server.addr("tcp", LOOPBACK[0]));
    let ear = server.deafen();
    for _ in 0..LINES {
        alice.echo();
    }
    server.signal("INT");
    assert_eq!(stream.read_to_end(), b"", "connections are ended as they should");
    // The process is gone before anyone has read what it had to say.
    server.wait_until_gone();
    drop(ear);
    assert_eq!(server.wait().0.code(), Some(0));
}

#[test]
fn the_end_of_an_allocation_is_one_line_unless_nobody_wants_it() {
    let server = Server::start(&[]);
    let (mut alice, relayed) = Caller::allocated(Via::Tcp, server.addr("tcp", LOOPBACK[0]));
    let peer = Peer::new(LOOPBACK[0]);
    alice.permit(&[peer.addr()]);
    alice.send_to(peer.addr(), b"0123456789");
    peer.receive();
    alice.end();
    let line: Value = serde_json::from_str(&server.log_until("allocation ended")).expect("it is JSON");
    assert_eq!(
        (&line["user"], &line["reason"], &line["transport"]),
        (&"alice".into(), &"deleted".into(), &"tcp".into())
    );
    assert_eq!(
        (&line["client"], &line["relayed"]),
        (&alice.local_addr().to_string().into(), &relayed.to_string().into())
    );
    assert_eq!((&line["to_peer_packets"], &line["to_peer_bytes"]), (&1.into(), &10.into()));
    server.write("turnpike.toml", &configuration("allocations = false\npermissions = true"));
    server.signal("HUP");
    let line: Value = serde_json::from_str(&server.log_until("\"reloaded\"")).expect("it is JSON");
    assert_eq!(line["applied"], "log.allocations, log.permissions");
    let (mut alice, _) = Caller::allocated(Via::Udp, server.addr("udp", LOOPBACK[0]));
    alice.permit(&[peer.addr()]);
    let line: Value = serde_json::from_str(&server.log_until("permission installed")).expect("it is JSON");
    assert_eq!((&line["user"], &line["peer"]), (&"alice".into(), &peer.addr().ip().to_string().into()));
    alice.end();
    server.signal("INT");
    // Whatever stands between is of other things.
    assert!(!server.log_before("\"stopped\"").iter().any(|line| line.contains("allocation ended")));
    assert_eq!(server.wait().0.code(), Some(0));
}

/// A name that would be a line of its own, and turns the rest of it around.
const FORGED: &str = "alice\r\nFAKE\u{202E}";

/// Asks for an allocation with a wrong password, once.
fn guess(tcp: SocketAddr) {
    let mut caller = Caller::new(Via::Tcp, tcp);
    let mut client = Client::new(Client::sender(caller.local_addr(), tcp, Transport::Tcp), (FORGED, "a guess"));
    client.learn(&caller.exchange(&allocate().encode()));
    assert_eq!(caller.exchange(&client.sign(allocate())).code(), 401);
}

/// Everything that is logged of one who bears that name.
fn come_and_go(tcp: SocketAddr) {
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is later than 1970").as_secs();
    let name = format!("{}:{FORGED}", now_s + 600);
    let mut caller = Caller::as_user((&name, &rest_password(&name)), Via::Tcp, tcp);
    caller.allocate(allocate());
    caller.permit(&[SocketAddr::new(LOOPBACK[0], 9)]);
    caller.end();
}

#[test]
fn in_043_a_name_of_two_lines_is_one_line_of_the_log() {
    // What a stranger says is cleaned before it is logged; who is let in is called what the credential says.
    let stranger = "user=\"alice\u{FFFD}\u{FFFD}FAKE\\u{202e}\"";
    let guest = r#"user="alice\r\nFAKE\u{202e}""#;
    let events = [("request refused", stranger), ("permission installed", guest), ("allocation ended", guest)];
    for format in ["text", "journald"] {
        let (folder, ports) = (Folder::new(), Stretch::next());
        folder.write("turnpike.toml", configuration_of(format, &ports));
        let server = Program::start(&mut turnpike(&folder, &["run", "-c", "turnpike.toml"]));
        server.wait_for("serving", 1);
        let tcp = server.address("tcp");
        guess(tcp);
        come_and_go(tcp);
        server.wait_for("allocation ended", 1);
        server.signal("INT");
        let (status, log) = server.end();
        assert!(status.success(), "{log}");
        for (event, user) in events {
            let lines: Vec<&str> = log.lines().filter(|line| line.contains(event)).collect();
            assert!(lines.len() == 1 && lines[0].contains(user), "{format}: {event}: {lines:?}");
        }
        assert_eq!(log.lines().filter(|line| line.contains("FAKE")).count(), events.len(), "{format}: {log}");
        assert!(!log.contains(['\r', '\u{202E}']), "{format}: {log}");
    }
}

/// A relay for time-limited credentials, whose log has this format.
fn configuration_of(format: &str, ports: &Stretch) -> String {
    let (relay, secret) = (ports.relay(), str::from_utf8(SECRET).expect("it is text"));
    format!(
        "realm = \"{REALM}\"\nworkers = 1\n[listen]\nudp = []\ntcp = [\"127.0.0.1:0\"]\n\
         [relay]\nports = \"{}-{}\"\nallow_loopback_peers = true\n[auth]\nsecrets = [\"{secret}\"]\n\
         [http]\nlisten = \"\"\nadmin_listen = \"\"\nadmin_socket = \"\"\n\
         [log]\nformat = \"{format}\"\npermissions = true\n",
        relay.start(),
        relay.end()
    )
}

/// The configuration of the tests with other keys under `[log]`.
fn configuration(log: &str) -> String {
    format!(
        "realm = \"example.org\"\nworkers = 1\n\
         [listen]\nudp = [\"127.0.0.1:0\", \"[::1]:0\"]\ntcp = [\"127.0.0.1:0\", \"[::1]:0\"]\n\
         tls = [\"127.0.0.1:0\", \"[::1]:0\"]\n\
         [tls]\ncert = \"cert.pem\"\nkey = \"key.pem\"\n[relay]\nallow_loopback_peers = true\n\
         [auth]\nusers = {{ alice = \"wonderland\", bob = \"hodcarrier\" }}\n[limits]\nunverified_per_second = 0\n\
         [http]\nlisten = \"\"\nadmin_listen = \"\"\nadmin_socket = \"\"\n[log]\nformat = \"json\"\n{log}\n"
    )
}
