//! Processes that are killed, stopped and told to end, with calls under way.

use super::call::{Call, FROM_ONE_SOURCE, WATCHED, allocations, allow_many_files};
use super::client::Caller;
use super::injection::{is_long, times};
use super::link::{PATIENCE, Stream, Via};
use super::namespace::FIGURE;
use super::ports::{LOOPBACK, Stretch};
use super::server::Server;
use crate::wire_client::{allocate, binding};
use std::fs;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// The sockets of the machine that are bound to a port, by the kernel's own list.
fn sockets_on(ports: &[u16]) -> usize {
    let tables = ["udp", "udp6", "tcp", "tcp6"].map(|table| fs::read_to_string(format!("/proc/net/{table}")));
    let lines = tables.iter().flatten().flat_map(|table| table.lines().skip(1));
    // Connections whose end the client has not confirmed belong to nobody (inode 0).
    let taken = lines.filter(|line| line.split_whitespace().nth(9) != Some("0"));
    let port = |line: &str| u16::from_str_radix(line.split_whitespace().nth(1)?.rsplit(':').next()?, 16).ok();
    taken.filter_map(port).filter(|port| ports.contains(port)).count()
}

// FI-15. The address is the same each time, so that whatever stayed of the last one would be in the way.
#[test]
fn killed_under_calls_it_starts_again_at_once_and_leaves_no_socket() {
    allow_many_files();
    let (rounds, calls) = (times(10, 100), times(20, 150));
    let listen = Stretch::next();
    let [udp, tcp] = [0, 1].map(|number| SocketAddr::new(LOOPBACK[0], listen.dead(number)));
    let settings = [format!("listen.udp=[\"{udp}\"]"), format!("listen.tcp=[\"{tcp}\"]")];
    let settings = [settings[0].as_str(), &settings[1], "listen.tls=[]", "workers=2"];
    let mut slowest = Duration::ZERO;
    for round in 0..rounds {
        // A range of ports that the one before has relayed from.
        let ports = Stretch::next();
        let range = ports.relay();
        let began = Instant::now();
        let server = Server::on(ports, &range, &settings);
        assert_eq!(Caller::new(Via::Udp, udp).code(allocate()), 0, "round {round}: it serves");
        slowest = slowest.max(began.elapsed());
        let vias = [Via::Udp, Via::Udp, Via::Tcp];
        let mut there: Vec<Call> = (0..calls).map(|number| Call::begin(&server, vias[number % 3])).collect();
        there[0].exchange(10);
        let mut ports: Vec<u16> = there.iter().map(|call| call.relayed.port()).collect();
        ports.extend([udp.port(), tcp.port()]);
        server.signal("KILL");
        let (status, _) = server.wait();
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9));
        // The clients' own ends of connections are elsewhere.
        assert_eq!(sockets_on(&ports), 0, "round {round}: what it had is closed");
    }
    eprintln!(
        "{FIGURE}killed {rounds} times with {calls} calls; from the start to the first allocation {slowest:?} at most"
    );
}

// FI-16.
#[test]
fn told_to_end_it_keeps_every_call_and_takes_no_other() {
    allow_many_files();
    let calls = times(100, 400);
    let server = Server::start(&["workers=2", WATCHED, FROM_ONE_SOURCE]);
    let udp = server.addr("udp", LOOPBACK[0]);
    let vias = [Via::Udp, Via::Udp, Via::Tcp, Via::Tls13];
    let mut there: Vec<Call> = (0..calls).map(|number| Call::begin(&server, vias[number % 4])).collect();
    let admin: SocketAddr = server.told("admin").strip_prefix("http://").and_then(|a| a.parse().ok()).expect("it is");
    server.signal("TERM");
    server.log_until("draining");
    let mut stream = Stream::plain(admin);
    stream.send(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    assert!(stream.read_to_end().starts_with(b"HTTP/1.1 503 "));
    for call in &mut there {
        call.goes_on();
        assert_eq!(Caller::new(Via::Udp, udp).code(allocate()), 508);
    }
    assert_eq!(allocations(&server) + server.metric(&super::call::live("tls")), calls as u64);
    there.iter_mut().for_each(|call| call.caller.end());
    let (status, said) = server.last_words();
    assert_eq!(status.code(), Some(0), "{said}");
    assert!(said.contains("\"reason\":\"drained\""), "{said}");
}

/// Whether every thread of a server is stopped.
fn is_stopped(server: &Server) -> bool {
    let tasks = fs::read_dir(format!("/proc/{}/task", server.pid())).expect("the server runs").flatten();
    let stats = tasks.map(|task| fs::read_to_string(task.path().join("stat")).expect("no thread ends"));
    stats.into_iter().all(|stat| stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T')))
}

// FI-29. Longer than the watchdog, a keepalive or a TCP user timeout would bear, in the long run.
#[test]
fn stopped_and_continued_it_has_lost_nobody() {
    let pause = Duration::from_secs(if is_long() { 60 } else { 3 });
    let server = Server::start(&["workers=2", WATCHED]);
    let mut calls: Vec<Call> =
        [Via::Udp, Via::Tcp, Via::Udp, Via::Tls13, Via::Udp].map(|via| Call::begin(&server, via)).into();
    calls.iter_mut().for_each(|call| call.exchange(10));
    let mut asking = Caller::new(Via::Udp, server.addr("udp", LOOPBACK[0]));
    server.signal("STOP");
    let end = Instant::now() + PATIENCE;
    while !is_stopped(&server) {
        assert!(Instant::now() < end, "it does not stop");
    }
    // What is sent meanwhile waits in the kernel.
    let questions: Vec<_> = (0..10).map(|_| binding()).collect();
    questions.iter().for_each(|question| asking.send(&question.encode()));
    let until = Instant::now() + pause;
    assert!(asking.answer(&questions[0].id, until).is_none(), "it is stopped");
    let continued = Instant::now();
    server.signal("CONT");
    for question in &questions {
        assert!(asking.answer(&question.id, Instant::now() + PATIENCE).is_some(), "what has waited is answered");
    }
    calls.iter_mut().for_each(Call::goes_on);
    eprintln!("{FIGURE}stopped for {pause:?}; {:?} later every call relays", continued.elapsed());
    server.stop();
}
