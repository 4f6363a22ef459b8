//! `turnpike top` against a running server: what a frame shows, and what it says without one.

use super::client::{Caller, Peer, pattern};
use super::link::Via;
use super::ports::LOOPBACK;
use super::server::Server;
use serde_json::Value;
use std::io::{Read, Write};
use std::process::{Child, Command, Output, Stdio};

fn top(admin: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_turnpike"));
    command.arg("top").args(arguments).args(["--admin", admin]).env_remove("TURNPIKE_ADMIN_TOKEN_FILE");
    command.output().expect("the command runs")
}

#[test]
fn a_frame_shows_the_server_and_its_sessions() {
    let server = Server::start(&["http.admin_listen=127.0.0.1:0"]);
    let admin = server.told("admin");
    let (mut caller, relayed) = Caller::allocated(Via::Udp, server.addr("udp", LOOPBACK[0]));
    let peer = Peer::new(LOOPBACK[0]);
    caller.permit(&[peer.addr()]);
    caller.send_to(peer.addr(), &pattern(1, 1000));
    peer.receive();
    let output = top(&admin, &["--once"]);
    let frame = String::from_utf8(output.stdout).expect("it prints text");
    assert!(output.status.success() && output.stderr.is_empty(), "{frame}");
    assert!(!frame.contains('\u{1b}'), "a plain frame steers no terminal");
    let lines: Vec<&str> = frame.lines().collect();
    assert!(lines[0].starts_with(concat!("turnpike ", env!("CARGO_PKG_VERSION"), "  example.org  serving  up ")));
    assert!(lines[1].starts_with("allocations  1 now   0/s begin   0/s end   1 permissions"), "{frame}");
    assert_eq!(lines[2], "to peers     0/s packets   0 bit/s   1 packets, 1.0 kB in all");
    let heading = lines.iter().position(|line| line.starts_with("SESSION  USER")).expect("a heading");
    let row: Vec<&str> = lines[heading + 1].split_whitespace().collect();
    assert_eq!(row[1], "alice");
    assert_eq!(row[row.len() - 3..], ["udp", &caller.local_addr().to_string(), &relayed.to_string()]);
    let json = top(&admin, &["--format", "json"]).stdout;
    let json: Value = serde_json::from_slice(&json).expect("it is JSON");
    assert_eq!(json.pointer("/sessions/sessions/0/user"), Some(&Value::from("alice")));
    assert_eq!(json.pointer("/status/allocations"), Some(&Value::from(1)));
    server.stop();
}

#[test]
fn a_server_that_is_not_there_and_a_wrong_interval_are_told() {
    let output = top("http://127.0.0.1:1", &[]);
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(complaint.starts_with("turnpike: no server answers at http://127.0.0.1:1 ("), "{complaint}");
    for interval in ["0", "61m"] {
        let output = top("http://127.0.0.1:1", &["--interval", interval]);
        assert_eq!(String::from_utf8_lossy(&output.stderr), "turnpike: --interval is 1s to 1h\n");
        assert_eq!(output.status.code(), Some(1));
    }
}

/// `turnpike top` on a terminal of its own.
struct Screen {
    child: Child,
    shown: String,
}

impl Screen {
    fn open(admin: &str) -> Screen {
        let top = format!("exec {} top --admin {admin}", env!("CARGO_BIN_EXE_turnpike"));
        let mut command = Command::new("script");
        command.args(["--quiet", "--return", "--command", &top, "/dev/null"]).env("SHELL", "/bin/sh");
        command.env("COLUMNS", "60").env("LINES", "12").stdin(Stdio::piped()).stdout(Stdio::piped());
        Screen { child: command.spawn().expect("a terminal is made"), shown: String::new() }
    }

    /// Reads until `text` is shown; the end of the output ends the test.
    fn until(&mut self, text: &str) {
        let mut bytes = [0; 4096];
        while !self.shown.contains(text) {
            let count = self.child.stdout.as_mut().expect("it is a pipe").read(&mut bytes).expect("it shows something");
            assert!(count > 0, "it ended without `{text}`: {:?}", self.shown);
            self.shown.push_str(&String::from_utf8_lossy(&bytes[..count]));
        }
    }

    /// Presses a key.
    fn press(&mut self, key: &str) {
        self.child.stdin.as_mut().expect("it is a pipe").write_all(key.as_bytes()).expect("it takes keys");
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_screen_outlives_its_server_and_is_put_back_at_its_end() {
    let server = Server::start(&["http.admin_listen=127.0.0.1:0"]);
    let mut screen = Screen::open(&server.told("admin"));
    screen.until("no sessions");
    assert!(screen.shown.contains("\u{1b}[?1049h\u{1b}[?25l"), "{:?}", screen.shown);
    server.stop();
    screen.until("no answer, trying again: ");
    screen.press("\u{3}");
    screen.until("\u{1b}[?7h\u{1b}[?25h\u{1b}[?1049l");
    assert!(screen.child.wait().expect("it ends").success());
}
