//! Sends that the kernel refuses, for a moment or for good, and a log that nobody takes.

use super::call::{CHANNEL, Call, WATCHED, drops};
use super::client::{Peer, pattern};
use super::injection::Injection;
use super::link::{PATIENCE, Via};
use super::namespace::{is_alone, run};
use super::ports::LOOPBACK;
use super::server::{Scratch, Server};
use crate::wire_client::refresh;
use std::fs;
use std::process::{Command, Stdio};
use std::time::Instant;

/// Packets to a peer while sends fail.
const PACKETS: u64 = 300;
/// Packets that leave without waiting for each other.
const BURST: u64 = 20;

/// The metric that counts packets relayed to peers.
const TO_PEERS: &str = "turnpike_relay_packets_total{direction=\"to_peer\",path=\"user\"}";

/// Waits until so many packets were relayed or dropped since, and returns how many of each.
fn settled(server: &Server, reason: &str, wanted: u64) -> (u64, u64) {
    let end = Instant::now() + PATIENCE;
    loop {
        let found = (server.metric(TO_PEERS), server.metric(&drops(reason)));
        if found.0 + found.1 >= wanted {
            return found;
        }
        assert!(Instant::now() < end, "{found:?} of {wanted} packets are accounted for");
    }
}

// FI-05. Nothing waits in the server for a socket that is full; what a client asks is asked again.
#[test]
fn packets_that_a_full_socket_refuses_are_dropped_and_counted_to_the_last() {
    for error in ["EAGAIN", "ENOBUFS"] {
        let server = Server::start(&["workers=1", WATCHED]);
        let mut call = Call::begin(&server, Via::Udp);
        // One goes, the next does not.
        let how = format!("error={error}:when=2+2");
        let injection = Injection::attach(&server, "relay-", "sendto,sendmmsg", &how);
        let Some(injection) = injection else { return };
        for first in (0..PACKETS).step_by(BURST as usize) {
            for number in first..first + BURST {
                call.caller.send_on(CHANNEL, &number.to_be_bytes());
            }
            settled(&server, "backpressure", first + BURST);
        }
        let (relayed, dropped) = settled(&server, "backpressure", PACKETS);
        assert_eq!(relayed + dropped, PACKETS, "{error}");
        assert!(dropped > 0 && relayed > 0, "{error}: {relayed} relayed, {dropped} dropped");
        // Those that were counted as relayed are there, in order, and no other.
        let mut last = None;
        for _ in 0..relayed {
            let (payload, from) = call.peer.receive();
            let number = u64::from_be_bytes(payload[..].try_into().expect("it is a number"));
            assert!(from == call.relayed && last < Some(number), "{last:?}, then {number}");
            last = Some(number);
        }
        assert!(call.peer.is_idle());
        for _ in 0..2 {
            assert_eq!(call.caller.code(refresh(600)), 0, "asked again, it is answered");
        }
        injection.injected();
        call.goes_on();
        server.stop();
    }
}

// FI-07. A packet filter that drops on the way out has the send fail with EPERM.
#[test]
fn a_peer_that_a_packet_filter_forbids_costs_its_own_packets_alone() {
    if !is_alone("sending::a_peer_that_a_packet_filter_forbids_costs_its_own_packets_alone", &["ip", "nft"]) {
        return;
    }
    let server = Server::start(&["workers=1", WATCHED, "log.level=debug"]);
    let mut call = Call::begin(&server, Via::Udp);
    let forbidden = Peer::new(LOOPBACK[0]);
    call.caller.bind(CHANNEL + 1, forbidden.addr());
    let port = forbidden.addr().port();
    run(&["nft", "add table inet filter"]);
    run(&["nft", "add chain inet filter out { type filter hook output priority 0; }"]);
    run(&["nft", &format!("add rule inet filter out udp dport {port} counter drop")]);
    for seed in 0..PACKETS as usize {
        call.caller.send_on(CHANNEL + 1, &pattern(seed, 50));
        call.exchange(1);
    }
    assert_eq!(server.metric(&drops("send_failed")), PACKETS);
    assert_eq!(server.metric(TO_PEERS), PACKETS);
    assert!(forbidden.is_idle());
    run(&["nft", "delete table inet filter"]);
    call.caller.send_on(CHANNEL + 1, b"at last");
    assert_eq!(forbidden.receive(), (b"at last".into(), call.relayed));
    call.goes_on();
    server.signal("INT");
    // One for the allocation, one for its end, none for a packet.
    let lines = server.log_before("\"stopped\"");
    let of_packets = lines.iter().filter(|line| line.contains("failed") || line.contains("refused"));
    assert_eq!(of_packets.count(), 0, "{lines:?}");
    assert!(server.last_words().0.success());
}

/// A file system with little room, gone with the test.
struct Disk(Scratch);

impl Disk {
    fn mount() -> Disk {
        let disk = Disk(Scratch::new());
        run(&["mount", "-t", "tmpfs", "-o", "size=256k", "turnpike-full", &disk.place()]);
        disk
    }

    fn place(&self) -> String {
        self.0.path("").to_str().expect("it is text").to_owned()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // One that was never mounted has nothing to let go of.
        let _ = Command::new("umount").args(["-l", &self.place()]).stderr(Stdio::null()).status();
    }
}

// FI-19: the file system that the log is written to is full, and has room again.
#[test]
fn a_full_disk_costs_lines_of_the_log_and_nothing_else() {
    if !is_alone("sending::a_full_disk_costs_lines_of_the_log_and_nothing_else", &["ip", "mount"]) {
        return;
    }
    let disk = Disk::mount();
    let (filler, log) = (disk.0.path("filler"), disk.0.path("log"));
    fs::write(&filler, vec![0; 64 << 10]).expect("there is room");
    // The log goes to the disk, and the test reads it there.
    let follow = format!("tail -n +1 --pid=$$ -F {} >&2 2>/dev/null &", log.display());
    let direct = format!("{follow} exec \"$0\" \"$@\" 2>>{}", log.display());
    let server = Server::by(&["sh", "-c", &direct], &["workers=1", WATCHED, "log.level=trace"]);
    let mut call = Call::begin(&server, Via::Udp);
    let lost = || server.metric("turnpike_log_lines_lost_total");
    // Each answer is a line, until there is no room.
    while lost() == 0 {
        (0..100).for_each(|_| drop(call.caller.echo()));
    }
    call.exchange(200);
    let before = lost();
    call.caller.echo();
    call.goes_on();
    let end = Instant::now() + PATIENCE;
    while lost() <= before {
        assert!(Instant::now() < end, "lines are lost, and not counted");
    }
    fs::remove_file(&filler).expect("it is there");
    call.goes_on();
    server.log_until("lines of the log were lost");
    server.signal("INT");
    server.wait_until_gone();
    assert!(fs::read_to_string(&log).expect("it is text").trim_end().ends_with("\"message\":\"stopped\"}"));
}
