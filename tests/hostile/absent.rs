//! IN-092 to IN-106: DTLS, TCP allocations, mobility. None of them is there, and who asks for them gets as little
//! as anybody.

use crate::OnStream::{Closed, Never, Same};
use crate::client::Caller;
use crate::link::Via;
use crate::live::Live;
use crate::ports::LOOPBACK;
use crate::wire_client::*;
use crate::{Case, Cast, Expect, Scene};
use std::io::ErrorKind;
use std::net::TcpStream;
use turnpike::turn::DropReason::{self, *};
use turnpike::wire::attribute;
use turnpike::wire::stun::Method;

/// A DTLS 1.2 record (RFC 6347 §4.1).
fn record(kind: u8, fragment: &[u8]) -> Vec<u8> {
    let len = u16::try_from(fragment.len()).expect("a record's length fits 16 bits");
    [&[kind, 0xFE, 0xFD, 0, 0, 0, 0, 0, 0, 0, 0][..], &len.to_be_bytes(), fragment].concat()
}

/// A piece of a handshake message (RFC 6347 §4.2.2): what it is, how long all of it is, and where the piece stands.
fn handshake(kind: u8, whole: u32, offset: u32, piece: &[u8]) -> Vec<u8> {
    let three = |number: u32| number.to_be_bytes()[1..].to_vec();
    let piece_len = u32::try_from(piece.len()).expect("a piece is short");
    record(22, &[&[kind][..], &three(whole), &[0, 0], &three(offset), &three(piece_len), piece].concat())
}

/// A ClientHello with a cookie, whole.
fn hello(cookie: &[u8]) -> Vec<u8> {
    let cookie_len = u8::try_from(cookie.len()).expect("a cookie is short");
    [&[0xFE, 0xFD][..], &[7; 32], &[0, cookie_len], cookie, &[0, 2, 0xC0, 0x2B, 1, 0]].concat()
}

pub fn cases(scene: &Cast) -> Vec<Case> {
    let mut all = dtls(scene);
    all.extend(tcp_allocations(scene));
    all.extend(mobility(scene));
    all
}

fn dtls(scene: &Cast) -> Vec<Case> {
    let case = |number, what: &str, bytes: Vec<u8>| {
        // On a stream the first byte of a handshake begins TLS, and is no message of anybody's.
        let stream = if bytes[0] == 22 { Never } else { Closed(&[Malformed]) };
        Case::new(number, what, scene.stranger, bytes, Expect::Silence(Malformed)).but(stream)
    };
    let whole = |cookie: &[u8]| {
        let hello = hello(cookie);
        handshake(1, hello.len() as u32, 0, &hello)
    };
    let mut all = vec![
        case(92, "a ClientHello without a cookie", whole(b"")),
        case(93, "a ClientHello with somebody's cookie", whole(&[9; 32])),
        case(95, "the first piece of a ClientHello", handshake(1, 2_000, 0, &[7; 100])),
        case(95, "the last piece of a ClientHello", handshake(1, 2_000, 1_900, &[7; 100])),
        case(96, "a piece of no bytes", handshake(1, 2_000, 0, &[])),
        case(97, "a piece of 16 MiB, far ahead", handshake(1, 0xFF_FFFF, 0xFF_FF00, &[7; 255])),
    ];
    for kind in [20, 21, 23, 24, 25, 26] {
        all.push(case(94, &format!("a record of type {kind}"), record(kind, &[7; 40])));
    }
    all
}

fn tcp_allocations(scene: &Cast) -> Vec<Case> {
    let (alice, good) = (&scene.alice, peer("8.8.8.8:7000"));
    let silence = |number, what: &str, from, bytes| Case::new(number, what, from, bytes, Expect::Silence(Unexpected));
    let connect = |to| request(Method::CONNECT).with(attribute::XOR_PEER_ADDRESS, to);
    let bound = || request(Method::CONNECTION_BIND).with(CONNECTION_ID, 1);
    let (fresh, v4) = (&scene.fresh, attribute::REQUESTED_TRANSPORT);
    let mut all = vec![
        silence(98, "Connect without an allocation", fresh.sender, fresh.sign(connect(good))),
        silence(98, "Connect to a good peer", alice.sender, alice.sign(connect(good))),
        silence(98, "Connect to a denied peer", alice.sender, alice.sign(connect(peer("127.0.0.1:22")))),
        silence(99, "Connect, once more", alice.sender, alice.sign(connect(good))),
        silence(100, "ConnectionBind of an unknown id", fresh.sender, fresh.sign(bound())),
        silence(100, "ConnectionBind on a connection with an allocation", alice.sender, alice.sign(bound())),
        silence(100, "a stranger's ConnectionBind", scene.stranger, bound().encode()),
    ];
    let attempt = indication(Method::CONNECTION_ATTEMPT).with(CONNECTION_ID, 1).encode();
    all.push(silence(101, "a ConnectionAttempt from a client", alice.sender, attempt));
    for (what, protocol) in [("TCP", 6), ("SCTP", 132), ("none", 0)] {
        let asked = fresh.sign(allocate().instead(v4, [protocol, 0, 0, 0]));
        let what = format!("an Allocate for {what}");
        all.push(Case::new(98, &what, fresh.sender, asked, Expect::Code(442)).but(Same));
    }
    all
}

/// CONNECTION-ID (RFC 6062 §6.2.1).
const CONNECTION_ID: u16 = 0x002A;

fn mobility(scene: &Cast) -> Vec<Case> {
    let fresh = &scene.fresh;
    let case = |number, what, draft, code| Case::new(number, what, fresh.sender, fresh.sign(draft), Expect::Code(code));
    let ticket = attribute::MOBILITY_TICKET;
    vec![
        case(104, "an Allocate with an empty ticket", allocate().with(ticket, []), 0),
        case(104, "an Allocate with a ticket", allocate().with(ticket, *b"a ticket of mine"), 0),
        case(105, "a Refresh with somebody's ticket", refresh(600).with(ticket, *b"a ticket of theirs"), 437),
        case(105, "the end of somebody's allocation by ticket", refresh(0).with(ticket, [0xFF; 64]), 437),
    ]
}

#[test]
fn in_104_an_allocation_bears_no_ticket() {
    let mut scene = Scene::new();
    let reply = scene.world.succeed(&scene.fresh, allocate().with(attribute::MOBILITY_TICKET, []));
    assert!(!reply.has(attribute::MOBILITY_TICKET));
}

#[test]
fn in_106_a_thousand_resumes_leave_nothing() {
    let mut world = World::with(|config| config.limits.unverified_per_second = 0);
    world.allocated();
    let state = world.state();
    for number in 0..1_000 {
        let moved = world.login(udp(&format!("192.0.2.9:{}", 1_000 + number)), ALICE);
        let resume = refresh(600).with(attribute::MOBILITY_TICKET, [number as u8; 32]);
        assert_eq!(world.code(&moved, resume), 437);
    }
    assert_eq!(world.state(), state);
}

#[test]
fn in_092_ten_thousand_hellos_from_as_many_sources_meet_silence_and_cost_nothing() {
    const SOURCES: u32 = 10_000;
    let live = Live::start(&[]);
    let to = live.addr(Via::Udp, LOOPBACK[0]);
    let bytes = {
        let hello = hello(b"");
        handshake(1, hello.len() as u32, 0, &hello)
    };
    let mut witness = live.witness();
    let hello_from = |number: u32| {
        let ip = std::net::Ipv4Addr::from(0x7F01_0000 + number);
        let socket = std::net::UdpSocket::bind((ip, 0)).expect("all of 127/8 is this host");
        socket.send_to(&bytes, to).expect("loopback takes a datagram");
        socket
    };
    // What a worker needs for a burst it keeps; only what comes on top of that is the sources'.
    (0..100).for_each(|number| drop(hello_from(number)));
    witness.echo();
    let before = (live.meters(), live.server.memory_kib());
    for number in 0..SOURCES {
        let socket = hello_from(100 + number);
        if number % 50 == 0 {
            witness.echo(); // no more than a socket's buffer holds
            socket.set_nonblocking(true).expect("a socket takes its options");
            let heard = socket.recv_from(&mut [0; 1500]);
            assert!(matches!(heard, Err(error) if error.kind() == ErrorKind::WouldBlock), "silence");
        }
    }
    witness.echo();
    let after = live.meters();
    assert_eq!(after.drops_since(&before.0), [(DropReason::Malformed.name().to_owned(), u64::from(SOURCES))]);
    let grown = live.server.memory_kib().saturating_sub(before.1);
    assert!(grown <= 1_024, "{grown} KiB for {SOURCES} sources");
    live.finish();
}

#[test]
fn in_101_in_102_in_103_nobody_listens_for_tcp_on_a_relayed_address() {
    let live = Live::start(&["relay.allow_loopback_peers=true"]);
    let (mut caller, relayed) = Caller::allocated(Via::Tcp, live.addr(Via::Tcp, LOOPBACK[0]));
    caller.permit(&[relayed]);
    let refused = TcpStream::connect(relayed).expect_err("a relayed address is UDP's alone");
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    caller.end();
    drop(caller);
    live.finish();
}
