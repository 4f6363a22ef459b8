//! A worker that panics, that can not poll, and that stands still; and a kernel without random bytes.

use super::call::{Call, allow_many_files};
use super::client::Caller;
use super::injection::Injection;
use super::link::{PATIENCE, Via};
use super::ports::LOOPBACK;
use super::server::{Scratch, Server, refused_by};
use super::untried::not_tried;
use crate::wire_client::{ALICE, BOB, Reply, allocate, binding, refresh};
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::time::{Duration, Instant};

/// SIGABRT.
const ABORTED: i32 = 6;
/// The service manager's patience; the watchdog is fed three times in it.
const WATCHDOG: Duration = Duration::from_millis(900);

/// More than one worker has random numbers for from a single call.
const CLIENTS: usize = 160;
/// How long an answer is waited for that may never come.
const SHORTLY: Duration = Duration::from_millis(300);

/// Sends a request once.
fn try_ask(caller: &mut Caller, request: &[u8]) -> Option<Reply> {
    caller.send(request);
    caller.answer(&request[8..20], Instant::now() + SHORTLY)
}

/// The end of a server that can not go on: by an abort, and without a word that is secret.
fn is_aborted(server: Server) -> String {
    let (status, said) = server.last_words();
    assert_eq!(status.signal(), Some(ABORTED), "{status}: {said}");
    for secret in [ALICE.1, BOB.1, "PRIVATE KEY"] {
        assert!(!said.contains(secret), "{said}");
    }
    said
}

// FI-13, FI-31: the worker needs random bytes for the port, and goes on without them never. The panic is a real one, in
// a worker's own code.
#[test]
fn a_panic_in_a_worker_ends_the_whole_process_at_once() {
    allow_many_files();
    let server = Server::start(&["workers=2"]);
    let udp = server.addr("udp", LOOPBACK[0]);
    let challenged = |_| {
        let mut caller = Caller::new(Via::Udp, udp);
        assert_eq!(caller.code(refresh(600)), 437, "it has no allocation, but a nonce");
        caller
    };
    let mut callers: Vec<Caller> = (0..CLIENTS).map(challenged).collect();
    let fails = Injection::attach(&server, "relay-", "getrandom", "error=EIO");
    let Some(fails) = fails else { return };
    for caller in &mut callers {
        let request = caller.sign(allocate());
        try_ask(caller, &request);
        if server.has_ended() {
            break;
        }
    }
    server.wait_until_gone();
    let said = is_aborted(server);
    assert!(said.contains("panicked") && said.contains("the kernel gives random bytes"), "{said}");
    drop(fails);
}

// FI-31. The first numbers are for the standard library's tables, which refuses by itself; from one call on it is us.
#[test]
fn without_random_bytes_it_does_not_start() {
    /// Calls of the first thread before the last that is ours.
    const CALLS: usize = 4;
    if !is_traceable() {
        return;
    }
    for error in ["EIO", "EINVAL"] {
        let mut ours = 0;
        for first in 1..=CALLS {
            let inject = format!("inject=getrandom:error={error}:when={first}+");
            let (status, said) = refused_by(&["strace", "-f", "-qq", "-o", "/dev/null", "-e", &inject], &[]);
            assert!(!status.success() && !said.contains("\"serving\""), "{error} from {first} on: {status}: {said}");
            let is_ours = said.contains("the kernel gives random bytes");
            assert!(is_ours || said.contains("failed to generate random data"), "{error} from {first} on: {said}");
            ours += usize::from(is_ours);
        }
        assert!(ours > 0, "{error}: none of the refusals is the server's own");
    }
}

/// Whether programs can be traced here.
fn is_traceable() -> bool {
    let tried = Command::new("strace").args(["-f", "-qq", "-o", "/dev/null", "true"]).output();
    let works = tried.as_ref().is_ok_and(|output| output.status.success());
    if !works {
        not_tried("a start without random bytes", &format!("strace: {tried:?}"));
    }
    works
}

#[test]
fn a_worker_that_can_not_poll_ends_the_whole_process() {
    let server = Server::start(&["workers=2"]);
    let fails = Injection::attach(&server, "relay-1", "epoll_wait", "error=EBADF");
    let Some(fails) = fails else { return };
    // Somebody has to wake it up.
    let end = Instant::now() + PATIENCE;
    while !server.has_ended() {
        assert!(Instant::now() < end, "a server of which a worker is gone goes on");
        try_ask(&mut Caller::new(Via::Udp, server.addr("udp", LOOPBACK[0])), &binding().encode());
    }
    drop(fails);
    let said = is_aborted(server);
    assert!(said.contains("polling failed"), "{said}");
}

// FI-14. What systemd does when it is not fed any more is tried in tests/packages.
#[test]
fn a_worker_that_stands_still_is_named_and_the_watchdog_is_not_fed() {
    let scratch = Scratch::new();
    let manager = UnixDatagram::bind(scratch.path("notify")).expect("the socket is made");
    let notify = format!("NOTIFY_SOCKET={}", scratch.path("notify").display());
    let patience = format!("WATCHDOG_USEC={}", WATCHDOG.as_micros());
    let server = Server::by(&["env", &notify, &patience, "FDSTORE=0"], &["workers=2"]);
    let hears = |patience: Duration| {
        manager.set_read_timeout(Some(patience)).expect("a socket takes a timeout");
        let end = Instant::now() + patience;
        let mut room = [0; 4096];
        while let Ok(len) = manager.recv(&mut room) {
            if room[..len].starts_with(b"WATCHDOG=1") {
                return true;
            }
            if Instant::now() > end {
                break;
            }
        }
        false
    };
    assert!(hears(PATIENCE), "it is fed while all answer");
    // Long enough to be no end of its own: strace lets it go.
    let still = Injection::attach(&server, "relay-1", "epoll_wait", "delay_enter=600000000");
    let Some(still) = still else { return };
    let line = server.log_until("workers do not answer");
    assert!(line.contains("[1]") && line.contains("relay-1"), "it says which one, and where: {line}");
    while hears(Duration::from_millis(10)) {}
    assert!(!hears(WATCHDOG), "it is not fed");
    // The other worker serves: of many clients the kernel gives some to each.
    let udp = server.addr("udp", LOOPBACK[0]);
    let mut clients: Vec<Caller> = (0..20).map(|_| Caller::new(Via::Udp, udp)).collect();
    assert!(clients.iter_mut().any(|client| try_ask(client, &binding().encode()).is_some()));
    drop(still.end());
    assert!(hears(PATIENCE), "it is fed again when the worker has come to itself");
    Call::begin(&server, Via::Udp).exchange(10);
    server.signal("INT");
    assert!(server.last_words().0.success());
}
