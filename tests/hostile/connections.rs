//! IN-087, IN-088, IN-107, and the limits of connections, at each and one beyond.

use crate::client::{Caller, Delivery, Peer};
use crate::link::{PATIENCE, Stream, Via};
use crate::live::Live;
use crate::ports::LOOPBACK;
use crate::sockets::{is_quiet, read_to_its_end};
use crate::wire_client::*;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::time::{Duration, Instant};

/// Connections of one source that have not shown what they speak, over all workers.
const UNREADY_PER_SOURCE_MAX: usize = 20;
/// Connections of one source without an allocation.
const GUESTS_PER_SOURCE_MAX: usize = 200;

/// Connects from another address of this host.
fn connect_from(source: Ipv4Addr, server: SocketAddr) -> Stream {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::from((source, 0)).into()).expect("all of 127/8 is this host");
    socket.connect(&server.into()).expect("the server accepts");
    socket.set_read_timeout(Some(PATIENCE)).expect("a socket takes a timeout");
    Stream::Plain(socket.into())
}

/// Has this program open so many files, if it may.
fn raise_file_limit(files: usize) {
    let pid = std::process::id().to_string();
    let raised = Command::new("prlimit").args(["--pid", &pid, &format!("--nofile={files}:")]).status();
    assert!(raised.is_ok_and(|status| status.success()), "the test may open {files} files");
}

/// So many connections that send nothing, from as many sources as it takes.
fn silent_connections(count: usize) {
    raise_file_limit(count + 2_000);
    let live = Live::start(&[]);
    let tcp = live.addr(Via::Tcp, LOOPBACK[0]);
    let before = live.meters();
    let silent: Vec<Stream> = (0..count)
        .map(|number| {
            if number % 50 == 0 {
                let mut newcomer = Caller::new(Via::Tcp, tcp);
                newcomer.succeed(allocate());
                newcomer.end();
            }
            let source = Ipv4Addr::from(0x7F02_0000 + (number / UNREADY_PER_SOURCE_MAX) as u32);
            connect_from(source, tcp)
        })
        .collect();
    live.until("those who say nothing are gone", || (live.meters().get("turnpike_connections") == 0).then_some(()));
    for mut stream in silent {
        assert_eq!(read_to_its_end(&mut stream), b"");
    }
    let closed = live.meters().closed_since(&before);
    let by = |reason: &str| closed.iter().find(|(name, _)| name == reason).map_or(0, |(_, count)| *count);
    assert_eq!(by("crowded") + by("unready"), count as u64, "{closed:?}");
    assert_eq!(by("client"), count.div_ceil(50) as u64, "newcomers go by themselves: {closed:?}");
    live.finish();
}

#[test]
fn in_087_a_thousand_connections_that_say_nothing_are_gone_in_time_and_newcomers_are_served() {
    silent_connections(1_000);
}

/// `cargo test --test hostile -- --ignored in_087`
#[test]
#[ignore = "needs 12,000 files"]
fn in_087_ten_thousand_connections_that_say_nothing_are_gone_in_time_and_newcomers_are_served() {
    silent_connections(10_000);
}

#[test]
fn one_source_has_twenty_unready_connections_however_many_workers_there_are() {
    let live = Live::start(&["workers=2"]);
    for (via, source) in [(Via::Tcp, 9), (Via::Tls13, 10)] {
        let (server, source) = (live.addr(via, LOOPBACK[0]), Ipv4Addr::new(127, 0, 0, source));
        // A machine so busy that the silent ones run out of time meanwhile has shown nothing.
        let is_shown = (0..5).any(|_| five_more_make_room(&live, server, source));
        assert!(is_shown, "{via:?}: five were never seen to make room in time");
    }
    live.finish();
}

/// Twenty connections say nothing, and five more: five of them make room. False when that took too long to be seen.
fn five_more_make_room(live: &Live, server: SocketAddr, source: Ipv4Addr) -> bool {
    /// Less than a connection has that says nothing.
    const QUICK: Duration = Duration::from_secs(4);
    let (began, before) = (Instant::now(), live.meters());
    let is_late = || began.elapsed() > QUICK;
    let closed = || live.meters().closed_since(&before);
    let mut silent: Vec<Stream> = (0..UNREADY_PER_SOURCE_MAX).map(|_| connect_from(source, server)).collect();
    let are_there = || live.meters().get("turnpike_connections") == UNREADY_PER_SOURCE_MAX as u64;
    live.until("they are accepted", || (are_there() || is_late()).then_some(()));
    // For each one more an older one goes: the oldest of that worker, whichever it is.
    silent.extend((0..5).map(|_| connect_from(source, server)));
    let have_made_room = || closed() == [("unready_source".to_owned(), 5)];
    live.until("five have made room", || (have_made_room() || is_late()).then_some(()));
    silent.retain(is_quiet);
    let left = silent.len();
    if !is_late() {
        assert_eq!(left, UNREADY_PER_SOURCE_MAX, "the others are left alone");
        // A neighbour comes in, and so does whoever shares the address: as soon as he speaks he is none of the twenty.
        ask(&mut connect_from(Ipv4Addr::new(127, 0, 0, 99), server));
        ask(&mut connect_from(source, server));
        silent.retain(is_quiet);
    }
    let is_shown = !is_late();
    if is_shown {
        silent.iter_mut().for_each(ask);
    }
    drop(silent);
    live.wait_until_deserted();
    is_shown
}

/// A Binding request, which has to be answered.
fn ask(stream: &mut Stream) {
    let question = binding();
    stream.send(&question.encode());
    let mut room = [0; 100];
    let len = stream.read(&mut room).expect("the server answers");
    assert_eq!(Reply::decode(&room[..len]).id, question.id);
}

#[test]
fn one_source_has_two_hundred_connections_without_an_allocation() {
    let live = Live::start(&["workers=1"]);
    let tcp = live.addr(Via::Tcp, LOOPBACK[0]);
    let source = Ipv4Addr::new(127, 0, 0, 9);
    let before = live.meters();
    let connected = || {
        let mut stream = connect_from(source, tcp);
        ask(&mut stream);
        stream
    };
    let mut guests: Vec<Stream> = (0..GUESTS_PER_SOURCE_MAX).map(|_| connected()).collect();
    let closed = || live.meters().closed_since(&before);
    guests.push(connected());
    live.until("one has made room", || (closed() == [("guests_source".to_owned(), 1)]).then_some(()));
    assert_eq!(read_to_its_end(&mut guests.remove(0)), b"", "the oldest");
    // An allocation makes room, and its end takes it back some time later.
    let mut client = Client::new(Client::sender(source_of(&guests[0]), tcp, turnpike::turn::Transport::Tcp), ALICE);
    client.learn(&exchange(&mut guests[0], &allocate().encode()));
    let signed = client.sign(allocate());
    assert_eq!(exchange(&mut guests[0], &signed).code(), 0);
    guests.push(connected());
    assert_eq!(closed(), [("guests_source".to_owned(), 1)]);
    guests.push(connected());
    live.until("again one has made room", || (closed() == [("guests_source".to_owned(), 2)]).then_some(()));
    assert_eq!(read_to_its_end(&mut guests.remove(1)), b"", "the oldest without an allocation");
    // Others are served all the while, and those who are here go on.
    Caller::new(Via::Tcp, tcp).succeed(allocate());
    guests.iter_mut().for_each(ask);
    drop(guests);
    live.wait_until_deserted();
    live.finish();
}

fn source_of(stream: &Stream) -> SocketAddr {
    stream.tcp().local_addr().expect("it is bound")
}

fn exchange(stream: &mut Stream, message: &[u8]) -> Reply {
    stream.send(message);
    let mut room = [0; 500];
    let len = stream.read(&mut room).expect("the server answers");
    Reply::decode(&room[..len])
}

// A quota that follows the connection while the port stays taken ends in 508 for all.
#[test]
fn in_107_allocating_and_hanging_up_gives_port_and_quota_back_every_time() {
    for via in [Via::Tcp, Via::Tls12, Via::Tls13] {
        let live = Live::start(&["limits.allocations_per_user=1"]);
        let server = live.addr(via, LOOPBACK[0]);
        for round in 0..50 {
            let mut caller = Caller::new(via, server);
            assert_eq!(caller.code(allocate()), 0, "{via:?} round {round}");
            // As long as it is there nobody else has one, on whatever transport.
            let mut second = Caller::new(Via::Udp, live.addr(Via::Udp, LOOPBACK[1]));
            assert_eq!(second.code(allocate()), 486, "{via:?} round {round}");
            drop(caller);
            live.wait_until_deserted();
        }
        let meters = live.meters();
        assert_eq!(meters.sum("turnpike_allocations_ended_total"), 50 + 4, "and the four that warmed it up");
        live.finish();
    }
}

#[test]
fn in_088_a_client_that_does_not_read_is_dropped_for_and_others_are_not() {
    /// Datagrams of 8,000 bytes: 50 MB.
    const PACKETS: usize = 6_250;
    let live = Live::start(&["relay.allow_loopback_peers=true"]);
    for via in [Via::Tcp, Via::Tls13] {
        let mut deaf = Caller::new(via, live.addr(via, LOOPBACK[0]));
        let deaf_relayed = deaf.allocate(allocate());
        let mut neighbour = Caller::new(via, live.addr(via, LOOPBACK[0]));
        let relayed = neighbour.allocate(allocate());
        let (flooder, peer) = (Peer::new(LOOPBACK[0]), Peer::new(LOOPBACK[0]));
        deaf.bind(0x4000, flooder.addr());
        neighbour.bind(0x4000, peer.addr());
        let payload = vec![7; 8_000];
        // What the server needs for a burst it keeps; only what comes on top of that is the deaf client's.
        (0..100).for_each(|_| flooder.send(deaf_relayed, &payload));
        while deaf.poll(Duration::from_millis(200)).is_some() {}
        let mut memory_kib = vec![live.server.memory_kib()];
        let before = live.meters();
        for packet in 0..PACKETS {
            flooder.send(deaf_relayed, &payload);
            if packet % 5 == 0 {
                peer.send(relayed, &packet.to_be_bytes());
                assert_eq!(neighbour.receive(), Delivery::Channel(0x4000, (&packet.to_be_bytes()).into()));
                memory_kib.push(live.server.memory_kib());
            }
        }
        neighbour.echo();
        let dropped = live.meters().drops_since(&before);
        assert!(matches!(&dropped[..], [(reason, count)] if reason == "backpressure" && *count > 1_000), "{dropped:?}");
        // A queue of 256 KiB, whose room grows by doubling, and what the packets of the neighbour need.
        let [first, half, last] = [0, memory_kib.len() / 2, memory_kib.len() - 1].map(|at| memory_kib[at]);
        assert!(last.saturating_sub(first) < 3 * 256, "{via:?}: {first} KiB before it, {last} in the end");
        assert!(last.saturating_sub(half) < 256, "{via:?}: {half} KiB after half of it, {last} in the end");
        assert_eq!(live.meters().closed_since(&before), []);
    }
    live.wait_until_deserted();
    live.finish();
}
