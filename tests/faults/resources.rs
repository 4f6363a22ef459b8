//! Files, sockets and memory that are not there when they are asked for.

use super::call::{Call, WATCHED, allocations, live, metric_becomes};
use super::client::Caller;
use super::injection::Injection;
use super::link::{PATIENCE, Stream, Via};
use super::namespace::run;
use super::ports::LOOPBACK;
use super::server::Server;
use crate::wire_client::{Reply, allocate, binding};
use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};

/// Ports that a server of these tests has, on both addresses: those of a stretch.
const PORTS: u64 = 2 * 420;
/// SIGABRT.
const ABORTED: i32 = 6;

/// Sets a limit of a running server; one like `20:` only the soft one.
fn limit(server: &Server, resource: &str, value: &str) {
    run(&["prlimit", "--pid", &server.pid().to_string(), &format!("--{resource}={value}")]);
}

// FI-01. The limit comes while the server runs, so it is the kernel that refuses and not the server's own budget.
#[test]
fn out_of_files_new_clients_are_refused_and_calls_lose_nothing() {
    const ROOM: usize = 10;
    const CLIENTS: usize = 30;
    let server = Server::start(&["workers=2", WATCHED]);
    let (udp, tcp) = (server.addr("udp", LOOPBACK[0]), server.addr("tcp", LOOPBACK[0]));
    let mut calls = [Via::Udp, Via::Tcp].map(|via| Call::begin(&server, via));
    let files = server.files();
    metric_becomes(&server, "turnpike_ports_free", PORTS - 2);
    // The connection that asked for it is closed a moment later.
    let end = Instant::now() + PATIENCE;
    while server.files() != files {
        assert!(Instant::now() < end, "the connection stays open");
    }
    // Numbers of files are given out from the lowest free one, so this many are left.
    limit(&server, "nofile", &format!("{}:", files + ROOM));
    let mut clients: Vec<Caller> = (0..CLIENTS).map(|_| Caller::new(Via::Udp, udp)).collect();
    let mut codes = Vec::new();
    for client in &mut clients {
        codes.push(client.code(allocate()));
        calls.iter_mut().for_each(|call| call.exchange(10));
    }
    // A file or two of the server's own may have come or gone.
    let served = codes.iter().take_while(|code| **code == 0).count();
    assert!((ROOM - 2..=ROOM + 2).contains(&served), "{codes:?}");
    assert!(codes[served..].iter().all(|code| *code == 508), "{codes:?}");
    // One more connection waits where the kernel holds it.
    let mut waiting = Stream::plain(tcp);
    let question = binding();
    waiting.send(&question.encode());
    waiting.tcp().set_read_timeout(Some(Duration::from_millis(300))).expect("TCP takes its options");
    assert!(waiting.read(&mut [0; 1500]).is_err(), "there is no file for it");
    calls.iter_mut().for_each(|call| call.exchange(10));

    limit(&server, "nofile", "10000:");
    waiting.tcp().set_read_timeout(Some(Duration::from_secs(10))).expect("TCP takes its options");
    let mut room = [0; 1500];
    let len = waiting.read(&mut room).expect("it is accepted after all");
    assert_eq!(Reply::decode(&room[..len]).id, question.id);
    for client in &mut clients[served..] {
        assert_eq!(client.code(allocate()), 0, "who was refused is served now");
    }
    calls.iter_mut().for_each(Call::goes_on);
    clients.iter_mut().for_each(Caller::end);
    metric_becomes(&server, &live("udp"), 1);
    metric_becomes(&server, "turnpike_ports_free", PORTS - 2);
    server.stop();
}

// FI-02.
#[test]
fn a_socket_that_can_not_be_opened_costs_its_own_request_alone() {
    const CLIENTS: usize = 30;
    let most = format!("limits.allocations={}", CLIENTS + 1);
    let server = Server::start(&["workers=1", WATCHED, &most]);
    let mut call = Call::begin(&server, Via::Udp);
    for (what, error) in [("socket", "ENOBUFS"), ("socket", "ENOMEM"), ("bind", "EACCES"), ("bind", "ENOBUFS")] {
        // On streams, where no request is sent twice.
        let tcp = server.addr("tcp", LOOPBACK[0]);
        let mut clients: Vec<Caller> = Vec::new();
        let how = format!("error={error}:when=1+3");
        let Some(injection) = Injection::attach(&server, "relay-", what, &how) else { return };
        let mut refused = 0;
        for number in 0..CLIENTS {
            let mut client = Caller::new(Via::Tcp, tcp);
            match client.code(allocate()) {
                0 => {}
                508 => refused += 1,
                other => panic!("client {number} is answered {other}"),
            }
            clients.push(client);
            call.exchange(2);
        }
        assert_eq!((refused, injection.injected()), (CLIENTS / 3, CLIENTS / 3), "{what}: {error}");
        // Neither a port nor a share of the quota went with them: all that were refused fit now.
        for client in &mut clients {
            if client.code(allocate()) == 437 {
                continue; // it has one
            }
        }
        assert_eq!(allocations(&server), CLIENTS as u64 + 1, "{what}: {error}");
        assert_eq!(Caller::new(Via::Udp, server.addr("udp", LOOPBACK[0])).code(allocate()), 508, "and not one more");
        clients.iter_mut().for_each(Caller::end);
        metric_becomes(&server, "turnpike_ports_free", PORTS - 1);
    }
    call.goes_on();
    server.signal("INT");
    assert!(server.last_words().0.success());
}

// FI-28. The kernel's own end of it (MemoryMax) is a SIGKILL; this is what the process itself does.
#[test]
fn out_of_memory_it_aborts_and_does_not_hang() {
    const CLIENTS: usize = 60;
    let server = Server::start(&["workers=1"]);
    let tcp = server.addr("tcp", LOOPBACK[0]);
    let mut callers: Vec<Caller> = (0..CLIENTS).map(|_| Caller::allocated(Via::Tcp, tcp).0).collect();
    limit(&server, "data", &((server.status_kib("VmData") + 512) << 10).to_string());
    // Most of the longest frame, which has to be kept until its end comes: 60 KiB a client.
    let frame = [&[0x40, 0, 0xFF, 0xFF][..], &[0; 60_000]].concat();
    for caller in &mut callers {
        let super::link::Link::Stream(stream, _) = caller.link() else { unreachable!("TCP is a stream") };
        let _ = stream.try_send(&frame);
    }
    let (status, said) = server.last_words();
    assert_eq!(status.signal(), Some(ABORTED), "{status}: {said}");
    assert!(said.contains("memory allocation of"), "{said}");
}
