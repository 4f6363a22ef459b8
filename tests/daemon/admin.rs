//! The commands that talk to a running server, over its admin address and its socket.

use super::certificate;
use super::client::{Caller, Peer, pattern};
use super::link::{Stream, Via};
use super::ports::LOOPBACK;
use super::server::{Scratch, Server};
use crate::wire_client::{BOB, allocate, refresh};
use rustls::version::TLS13;
use serde_json::Value;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output};

/// Runs a command of the binary against a server.
fn turnpike(admin: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_turnpike"));
    command.args(arguments).args(["--admin", admin]).env_remove("TURNPIKE_ADMIN_TOKEN_FILE");
    command.output().expect("the command runs")
}

/// What a command prints that must succeed.
fn says(admin: &str, arguments: &[&str]) -> String {
    let output = turnpike(admin, arguments);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {stderr}");
    String::from_utf8(output.stdout).expect("it prints text")
}

/// What a command complains of that must fail.
fn complains(admin: &str, arguments: &[&str]) -> String {
    let output = turnpike(admin, arguments);
    assert_eq!(output.status.code(), Some(1), "{arguments:?}");
    String::from_utf8(output.stderr).expect("it prints text")
}

fn server(settings: &[&str]) -> (Server, String) {
    let server = Server::start(&[&["http.admin_listen=127.0.0.1:0"], settings].concat());
    let admin = server.told("admin");
    (server, admin)
}

#[test]
fn status_and_sessions_show_what_goes_on() {
    let (server, admin) = server(&[]);
    assert_eq!(says(&admin, &["sessions"]), "no sessions\n");
    let (mut caller, relayed) = Caller::allocated(Via::Tcp, server.addr("tcp", LOOPBACK[0]));
    let peer = Peer::new(LOOPBACK[0]);
    caller.permit(&[peer.addr()]);
    caller.send_to(peer.addr(), &pattern(1, 1500));
    peer.receive();
    let status = says(&admin, &["status"]);
    for line in ["state         serving", "realm         example.org", "allocations   1 now, 1 since the start"] {
        assert!(status.contains(line), "{line}\n{status}");
    }
    assert!(status.contains("to peers      1 packets, 1.5 kB"), "{status}");
    let sessions = says(&admin, &["sessions", "--user", "alice"]);
    let mut rows = sessions.lines().map(|line| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
    assert_eq!(rows.next().expect("a header")[..3], ["ID", "USER", "VIA"]);
    let row = rows.next().expect("a session");
    assert_eq!(row[1..5], ["alice", "tcp", &caller.local_addr().to_string(), &relayed.to_string()]);
    assert_eq!(says(&admin, &["sessions", "--user", "bob"]), "no sessions\n");
    let json: Value = serde_json::from_str(&says(&admin, &["sessions", "--format", "json"])).expect("it is JSON");
    assert_eq!((json[0]["id"].as_str(), json[0]["to_peer"]["bytes"].as_u64()), (Some(&*row[0]), Some(1500)));
    server.stop();
}

#[test]
fn kick_ends_one_session_or_all_of_a_user() {
    let (server, admin) = server(&["workers=2"]);
    let udp = server.addr("udp", LOOPBACK[0]);
    let mut callers: Vec<Caller> = (0..3).map(|_| Caller::allocated(Via::Udp, udp).0).collect();
    let mut bob = Caller::as_user(crate::wire_client::BOB, Via::Udp, udp);
    bob.allocate(allocate());
    let json: Value = serde_json::from_str(&says(&admin, &["sessions", "--format", "json"])).expect("it is JSON");
    let first = callers[0].local_addr().to_string();
    let session = json.as_array().into_iter().flatten().find(|session| session["client"] == first.as_str());
    let id = session.and_then(|session| session["id"].as_str()).expect("it is listed").to_owned();
    assert_eq!(says(&admin, &["kick", &id]), "ended\n");
    assert!(complains(&admin, &["kick", &id]).contains("session"), "it is gone");
    assert!(complains(&admin, &["kick", "nonsense"]).starts_with("turnpike: "));
    assert_eq!(callers[0].code(refresh(600)), 437);
    assert_eq!(callers[1].code(refresh(600)), 0);
    assert_eq!(says(&admin, &["kick", "--user", "alice"]), "2 sessions ended\n");
    assert_eq!([1, 2].map(|at| callers[at].code(refresh(600))), [437, 437]);
    assert_eq!(bob.code(refresh(600)), 0);
    server.stop();
}

#[test]
fn drain_reload_and_a_drain_that_is_cancelled() {
    let (server, admin) = server(&[]);
    let udp = server.addr("udp", LOOPBACK[0]);
    let (mut caller, _) = Caller::allocated(Via::Udp, udp);
    assert_eq!(says(&admin, &["reload"]), "reloaded, nothing changed\n");
    server.write("turnpike.toml", "nonsense = 1\n");
    let refused = complains(&admin, &["reload"]);
    assert!(refused.contains("nonsense") && refused.contains("turnpike.toml:1"), "{refused}");
    assert!(says(&admin, &["drain"]).starts_with("draining"));
    assert!(says(&admin, &["status"]).contains("state         draining"));
    assert_eq!(Caller::new(Via::Udp, udp).code(allocate()), 508);
    assert!(says(&admin, &["drain", "--cancel"]).starts_with("serving"));
    Caller::allocated(Via::Udp, udp).0.end();
    assert!(says(&admin, &["drain"]).starts_with("draining"));
    caller.end();
    let (status, _) = server.wait();
    assert_eq!(status.code(), Some(0));
}

#[test]
fn https_is_served_with_the_relays_certificate() {
    let server = Server::start(&["http.listen=127.0.0.1:0", "http.tls=true"]);
    let address = server.told("http").strip_prefix("https://").expect("it says so").to_owned();
    let config = certificate::client(&[&TLS13], &[b"http/1.1"]);
    let mut stream = Stream::tls(address.parse().expect("an address"), config).expect("the handshake succeeds");
    assert_eq!(stream.session().alpn_protocol(), Some(&b"http/1.1"[..]));
    stream.send(b"GET /params HTTP/1.1\r\nHost: turn.example.org\r\nConnection: close\r\n\r\n");
    let answer = String::from_utf8(stream.read_to_end()).expect("it is text");
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(
        answer.contains("https://turn.example.org/v1alpha/iceconfig?key="),
        "the certificate's name is its own: {answer}"
    );
    server.stop();
}

#[test]
fn the_socket_is_private_and_needs_no_token_and_the_address_does() {
    let scratch = Scratch::new();
    let (socket, token) = (scratch.path("admin.sock"), scratch.path("token"));
    std::fs::write(&token, "a-token-of-some-length\n").expect("the folder takes files");
    let (socket_path, token_path) = (socket.display().to_string(), token.display().to_string());
    let settings = [format!("http.admin_socket={socket_path}"), format!("http.admin_token_file={token_path}")];
    let (server, admin) = server(&settings.each_ref().map(String::as_str));
    assert!(says(&socket_path, &["status"]).contains("serving"));
    let mode = socket.metadata().expect("the socket is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(complains(&admin, &["status"]).contains("--token-file"));
    assert!(says(&admin, &["status", "--token-file", &token_path]).contains("serving"));
    server.stop();
    assert!(!socket.exists(), "it takes its socket with it");
    assert!(complains(&socket_path, &["status"]).contains("no server answers at"));
    assert!(complains("ftp://x", &["status"]).contains("http://HOST:PORT"));
}

/// A list of revocations in a folder of its own.
struct List(PathBuf);

impl List {
    fn new(name: &str) -> List {
        let folder = std::env::temp_dir().join(format!("turnpike-revoked-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("the folder is made");
        List(folder.join("list"))
    }

    fn setting(&self) -> String {
        format!("auth.revocations_file={}", self.0.display())
    }

    fn folder(&self) -> &std::path::Path {
        self.0.parent().expect("it is in a folder")
    }

    /// The ids in the file.
    fn ids(&self) -> Vec<String> {
        let text = std::fs::read_to_string(&self.0).expect("the file is there");
        text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
    }
}

impl Drop for List {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(self.folder());
    }
}

#[test]
fn a_revoked_user_is_out_now_and_after_a_restart() {
    let list = List::new("restart");
    let (first, admin) = server(&["workers=2", &list.setting()]);
    let udp = first.addr("udp", LOOPBACK[0]);
    let mut callers: Vec<Caller> = (0..3).map(|_| Caller::allocated(Via::Udp, udp).0).collect();
    let mut bob = Caller::as_user(BOB, Via::Udp, udp);
    bob.allocate(allocate());
    assert_eq!(says(&admin, &["revoke", "--list"]), "nobody is revoked\n");
    let said = says(&admin, &["revoke", "alice"]);
    assert_eq!(said, "alice is revoked: 3 sessions ended; kept across restarts\n");
    for caller in &mut callers {
        assert_eq!(caller.ask(refresh(600)).code(), 401);
    }
    assert_eq!(Caller::new(Via::Udp, udp).ask(allocate()).code(), 401);
    assert_eq!(bob.code(refresh(600)), 0, "nobody else has noticed");
    assert!(says(&admin, &["revoke", "alice"]).contains("0 sessions ended"), "once more changes nothing");
    assert_eq!((says(&admin, &["revoke", "--list"]), list.ids()), ("alice\n".into(), vec!["alice".to_owned()]));
    assert_eq!(list.0.metadata().expect("the file is there").permissions().mode() & 0o777, 0o600);
    first.stop();

    let (second, admin) = server(&[&list.setting()]);
    let udp = second.addr("udp", LOOPBACK[0]);
    assert_eq!(Caller::new(Via::Udp, udp).ask(allocate()).code(), 401);
    assert_eq!(says(&admin, &["revoke", "--undo", "alice"]), "alice is not revoked any more\n");
    assert!(complains(&admin, &["revoke", "--undo", "alice"]).contains("not revoked"));
    Caller::allocated(Via::Udp, udp).0.end();
    assert_eq!(list.ids(), Vec::<String>::new());
    second.stop();
}

#[test]
fn every_session_of_a_revoked_user_is_ended_and_counted_however_many_there_are() {
    // More than a worker ends at a time.
    const SESSIONS: usize = 300;
    let (server, admin) = server(&["auth.revocations_file="]);
    let udp = server.addr("udp", LOOPBACK[0]);
    let mut bob = Caller::as_user(BOB, Via::Udp, udp);
    bob.allocate(allocate());
    let _callers: Vec<Caller> = (0..SESSIONS).map(|_| Caller::allocated(Via::Udp, udp).0).collect();
    let said = says(&admin, &["revoke", "alice"]);
    assert!(said.starts_with(&format!("alice is revoked: {SESSIONS} sessions ended; ")), "{said}");
    assert_eq!(says(&admin, &["sessions", "--user", "alice"]), "no sessions\n");
    assert_eq!(bob.code(refresh(600)), 0);
    server.stop();
}

#[test]
fn a_list_that_somebody_else_writes_is_read_and_a_faulty_one_is_left_alone() {
    let list = List::new("edited");
    let (server, admin) = server(&[&list.setting()]);
    let udp = server.addr("udp", LOOPBACK[0]);
    let mut bob = Caller::as_user(BOB, Via::Udp, udp);
    bob.allocate(allocate());
    std::fs::write(&list.0, "# by hand\nbob\n").expect("the file is written");
    server.log_until("was read again");
    assert_eq!(bob.ask(refresh(600)).code(), 401);
    assert!(says(&admin, &["revoke", "alice"]).contains("kept across restarts"));
    assert_eq!(list.ids(), ["alice", "bob"], "nothing is written over");

    let faulty = format!("alice\n{}\n", "x".repeat(1000));
    std::fs::write(&list.0, &faulty).expect("the file is written");
    let refused = complains(&admin, &["revoke", "carol"]);
    assert!(refused.contains("carol is revoked") && refused.contains("could not be written"), "{refused}");
    assert_eq!(std::fs::read_to_string(&list.0).expect("it is there"), faulty);
    assert_eq!(says(&admin, &["revoke", "--list"]), "alice\nbob\ncarol\n", "it holds all the same");
    let refused = complains(&admin, &["reload"]);
    assert!(refused.contains("list:2:1") && refused.contains("auth.revocations_file"), "{refused}");
    std::fs::write(&list.0, "alice\n").expect("the file is written");
    server.log_until("was read again");
    assert_eq!(list.ids(), ["alice", "carol"], "bob was taken off by hand; what could not be written is now");
    server.signal("INT");
    assert_eq!(server.wait().0.code(), Some(0));
}

#[test]
fn a_list_that_can_not_be_written_is_kept_in_memory_and_written_later() {
    let list = List::new("unwritten");
    let (server, admin) = server(&[&list.setting()]);
    let (mut alice, _) = Caller::allocated(Via::Udp, server.addr("udp", LOOPBACK[0]));
    std::fs::remove_dir_all(list.folder()).expect("the folder goes");
    let refused = complains(&admin, &["revoke", "alice"]);
    assert!(refused.contains("alice is revoked (sessions ended: 1)") && refused.contains("memory"), "{refused}");
    assert_eq!(alice.ask(refresh(600)).code(), 401);
    std::fs::create_dir_all(list.folder()).expect("the folder comes back");
    server.log_until("is written again");
    assert_eq!(list.ids(), ["alice"]);
    server.signal("INT");
    assert_eq!(server.wait().0.code(), Some(0));
}

#[test]
fn revocations_without_a_file_hold_until_the_end() {
    let (server, admin) = server(&["auth.revocations_file="]);
    let (mut alice, _) = Caller::allocated(Via::Tcp, server.addr("tcp", LOOPBACK[0]));
    assert!(says(&admin, &["revoke", "alice"]).contains("1 session ended; kept in memory only"));
    assert_eq!(alice.ask(refresh(600)).code(), 401);
    assert!(says(&admin, &["revoke", "carol", "--format", "json"]).contains("\"kept\": \"memory\""));
    server.write("turnpike.toml", "nonsense = 1\n");
    complains(&admin, &["reload"]);
    assert_eq!(says(&admin, &["revoke", "--list"]), "alice\ncarol\n", "a reload changes nothing");
    server.signal("INT");
    assert_eq!(server.wait().0.code(), Some(0));
}

#[test]
fn a_drain_of_an_idle_server_is_answered_before_it_ends() {
    let (server, admin) = server(&[]);
    assert_eq!(says(&admin, &["drain"]), "draining: no new allocations; the server ends with the last one\n");
    assert_eq!(server.wait().0.code(), Some(0));
}

#[test]
fn a_drain_that_term_began_is_shown_and_not_taken_back() {
    let (server, admin) = server(&["drain_timeout=1h"]);
    let (mut alice, _) = Caller::allocated(Via::Udp, server.addr("udp", LOOPBACK[0]));
    server.signal("TERM");
    server.log_until("draining");
    let status = says(&admin, &["status"]);
    assert!(status.starts_with("state         draining, the server ends with the last one, or in "), "{status}");
    assert!(complains(&admin, &["drain", "--cancel"]).contains("can not be taken back"));
    assert!(says(&admin, &["drain"]).contains("or in "), "it goes on as it is");
    assert_eq!(alice.code(refresh(600)), 0);
    alice.end();
    assert_eq!(server.wait().0.code(), Some(0));
}
