//! The table over the real sockets of the real binary: each row is answered as in the core, or meets silence that
//! one counter tells of, and leaves nothing.

use crate::client::Caller;
use crate::link::{Link, PATIENCE, Stream, Via};
use crate::live::{Live, Meters};
use crate::ports::LOOPBACK;
use crate::wire_client::*;
use crate::{Case, Cast, Expect, OnStream, all_cases};
use std::io::ErrorKind;
use std::net::IpAddr;
use std::time::{Instant, SystemTime, UNIX_EPOCH};
use turnpike::turn::{DropReason, Sender, Transport};
use turnpike::wire::attribute;

/// Rows that one cast is used for: connections without an allocation end after half a minute.
const ROWS_PER_CAST: usize = 40;
/// How long a row has to stay what it is, in seconds.
const LASTING_S: u64 = 3_600;

/// One who sends, and who that is in the table.
struct Actor {
    sender: Sender,
    link: Link,
}

/// The cast on real sockets.
struct Stage {
    cast: Cast,
    actors: Vec<Actor>,
}

/// The next message from the server.
fn next(link: &mut Link) -> Reply {
    Reply::decode(&link.next(Instant::now() + PATIENCE).expect("the server answers"))
}

/// The answer to a message, which is the next thing that comes.
fn answer(link: &mut Link, message: &[u8]) -> Reply {
    link.send(message);
    let reply = next(link);
    assert_eq!(reply.id, message[8..20], "it answers what was sent last");
    reply
}

impl Stage {
    fn set(live: &Live, via: Via, ip: IpAddr) -> Stage {
        let server = live.addr(via, ip);
        let transport = match via {
            Via::Udp => Transport::Udp,
            Via::Tcp => Transport::Tcp,
            Via::Tls12 | Via::Tls13 => Transport::Tls,
        };
        let open = || {
            let mut link = Link::open(via, server);
            // A stream has to say something soon, and of TLS what comes after the handshake has to be read.
            assert_eq!(answer(&mut link, &binding().encode()).code(), 0);
            Actor { sender: Client::sender(link.local_addr(), server, transport), link }
        };
        let login = |actor: &mut Actor| {
            let mut client = Client::new(actor.sender, ALICE);
            client.learn(&answer(&mut actor.link, &refresh(600).encode()));
            client
        };
        let [mut first, mut second, stranger, elsewhere] = [open(), open(), open(), open()];
        let (alice, fresh) = (login(&mut first), login(&mut second));
        let both = allocate().with(attribute::ADDITIONAL_ADDRESS_FAMILY, [2, 0, 0, 0]);
        let reply = answer(&mut first.link, &alice.sign(both));
        let relays = reply.addresses(attribute::XOR_RELAYED_ADDRESS).iter().map(|addr| addr.ip()).collect();
        let bound = answer(&mut first.link, &alice.sign(bind(0x4000, peer("8.8.8.8:7000"))));
        assert_eq!((reply.code(), bound.code()), (0, 0));
        let cast = Cast {
            alice,
            fresh,
            stranger: stranger.sender,
            elsewhere: elsewhere.sender,
            port_zero: None,
            forged_nonce: None,
            unix_s: SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is right").as_secs(),
            lasting_s: LASTING_S,
            relays,
        };
        Stage { cast, actors: vec![first, second, stranger, elsewhere] }
    }

    fn link(&mut self, from: &Sender) -> &mut Link {
        let actor = self.actors.iter_mut().find(|actor| actor.sender == *from);
        &mut actor.expect("the table names nobody else").link
    }

    /// Has everybody leave.
    fn clear(mut self, live: &Live) {
        for client in [self.cast.alice.clone(), self.cast.fresh.clone()] {
            let link = self.link(&client.sender);
            if link.is_lossy() {
                link.send(&client.sign(refresh(0)));
                next(link);
            }
        }
        drop(self);
        live.wait_until_deserted();
    }
}

/// What a row was met with.
#[derive(Clone, Debug, PartialEq)]
struct Met {
    /// Error codes of answers, 0 for success.
    answers: Vec<u16>,
    /// Drops by reason.
    drops: Vec<(String, u64)>,
    /// Connections that ended, by reason.
    closed: Vec<(String, u64)>,
}

impl Met {
    /// What it has to be met with.
    fn expected(case: &Case, is_stream: bool) -> Met {
        let drops = |reasons: &[DropReason]| reasons.iter().map(|reason| (reason.name().to_owned(), 1)).collect();
        let malformed = vec![("malformed".to_owned(), 1)];
        let (answers, drops, closed) = match (case.stream, case.expect) {
            (OnStream::Same, Expect::Silence(reason)) => (vec![], drops(&[reason]), vec![]),
            (OnStream::Same, Expect::Code(code)) => (vec![code], vec![], vec![]),
            (_, Expect::Silence(reason)) if !is_stream => (vec![], drops(&[reason]), vec![]),
            (OnStream::Closed(reasons), _) => (vec![], drops(reasons), malformed),
            (OnStream::AnsweredThenClosed, _) => (vec![0], drops(&[DropReason::Malformed]), malformed),
            (OnStream::AnsweredThenWaits, _) => (vec![0], vec![], vec![]),
            (OnStream::Waits, _) => (vec![], vec![], vec![]),
            (other, expect) => panic!("{}: {other:?} and {expect:?}", case.title()),
        };
        let mut met = Met { answers, drops, closed };
        met.drops.sort();
        met
    }
}

/// Sends a row and whatever shows that nothing comes, and returns the codes of what came.
fn play(link: &mut Link, witness: &mut Caller, case: &Case) -> Vec<u16> {
    let mut codes = Vec::new();
    let is_stream = !link.is_lossy();
    if !is_stream || case.stream == OnStream::Same {
        link.send(&case.bytes);
        if let Expect::Code(_) = case.expect {
            let reply = next(link);
            assert_eq!(reply.id, case.bytes[8..20], "{}", case.title());
            codes.push(reply.code());
        }
        // The answer to this is the next thing that comes, so there was nothing else.
        assert_eq!(answer(link, &binding().encode()).code(), 0, "{}", case.title());
        return codes;
    }
    let Link::Stream(stream, _) = link else { unreachable!("it is a stream") };
    stream.send(&case.bytes);
    match case.stream {
        OnStream::Closed(_) | OnStream::AnsweredThenClosed => {
            let rest = read_to_its_end(stream);
            codes.extend((!rest.is_empty()).then(|| Reply::decode(&rest).code()));
        }
        _ => {
            witness.echo();
            if case.stream == OnStream::AnsweredThenWaits {
                codes.push(next(link).code());
            }
            let Link::Stream(stream, _) = link else { unreachable!("it is a stream") };
            assert!(is_quiet(stream), "{}: neither bytes nor the end", case.title());
        }
    }
    codes
}

/// What comes until the connection ends, as it has to, cleanly or not.
pub fn read_to_its_end(stream: &mut Stream) -> Vec<u8> {
    let (mut bytes, mut room) = (Vec::new(), [0; 4_096]);
    loop {
        match stream.read(&mut room) {
            Ok(0) => return bytes,
            Ok(len) => bytes.extend_from_slice(&room[..len]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                panic!("the connection goes on: {error}")
            }
            Err(_) => return bytes,
        }
    }
}

/// Whether nothing has come that was not read, not even the end.
pub fn is_quiet(stream: &Stream) -> bool {
    let tcp = stream.tcp();
    tcp.set_nonblocking(true).expect("TCP takes its options");
    let peeked = tcp.peek(&mut [0]);
    tcp.set_nonblocking(false).expect("TCP takes its options");
    matches!(peeked, Err(error) if error.kind() == ErrorKind::WouldBlock)
}

/// Plays the whole table one way.
fn play_all(via: Via, ip: IpAddr) {
    let live = Live::start(&[]);
    let mut witness = live.witness();
    let mut stage = Stage::set(&live, via, ip);
    let is_stream = via != Via::Udp;
    let (mut played, mut at, mut rows) = (0, 0, 0);
    let mut cases = all_cases(&stage.cast);
    while at < cases.len() {
        let case = &cases[at];
        at += 1;
        if is_stream && case.stream == OnStream::Never {
            continue;
        }
        let before = live.meters();
        let answers = play(stage.link(&case.from), &mut witness, case);
        let after = live.meters();
        let met = Met { answers, drops: after.drops_since(&before), closed: after.closed_since(&before) };
        assert_eq!(met, Met::expected(case, is_stream), "{} by {via:?}", case.title());
        played += 1;
        rows += 1;
        // An answer that is no success, and silence, change nothing; the others have had their effect.
        let changed = met.answers.contains(&0) || is_stream && case.stream != OnStream::Same;
        if !changed {
            check_nothing_changed(&before, &after, case);
        }
        if changed || rows == ROWS_PER_CAST {
            stage.clear(&live);
            stage = Stage::set(&live, via, ip);
            cases = all_cases(&stage.cast);
            rows = 0;
        }
    }
    assert!(played > 250, "only {played} rows");
    stage.clear(&live);
    live.finish();
}

fn check_nothing_changed(before: &Meters, after: &Meters, case: &Case) {
    let metric = "turnpike_connections";
    assert_eq!(after.get(metric), before.get(metric), "{}: {metric}", case.title());
    for metric in ["turnpike_allocations", "turnpike_allocations_created_total", "turnpike_allocations_ended_total"] {
        assert_eq!(after.sum(metric), before.sum(metric), "{}: {metric}", case.title());
    }
}

#[test]
fn every_case_is_met_over_udp_as_in_the_core() {
    play_all(Via::Udp, LOOPBACK[0]);
}

#[test]
fn every_case_is_met_over_udp_on_ipv6_as_in_the_core() {
    play_all(Via::Udp, LOOPBACK[1]);
}

#[test]
fn every_case_is_met_over_tcp_as_in_the_core() {
    play_all(Via::Tcp, LOOPBACK[0]);
}

#[test]
fn every_case_is_met_over_tls_1_2_as_in_the_core() {
    play_all(Via::Tls12, LOOPBACK[1]);
}

#[test]
fn every_case_is_met_over_tls_1_3_as_in_the_core() {
    play_all(Via::Tls13, LOOPBACK[0]);
}

/// A Binding request of as many bytes as there may be, each attribute an unknown one of this type.
fn longest(kind: u16) -> Vec<u8> {
    (0..16_371).fold(binding(), |draft, _| draft.with(kind, [])).encode()
}

#[test]
fn in_009_the_longest_messages_are_answered_over_sockets_and_cost_nothing() {
    let live = Live::start(&[]);
    let (optional, required) = (longest(0xFFFF), longest(0x7FFF));
    for via in Via::ALL {
        let mut link = Link::open(via, live.addr(via, LOOPBACK[0]));
        assert_eq!(answer(&mut link, &binding().encode()).code(), 0);
        assert_eq!(answer(&mut link, &optional).code(), 0);
        let reply = answer(&mut link, &required);
        assert_eq!((reply.code(), reply.bytes.len() <= 100), (420, true), "{via:?}");
        // The longest datagram there is: not of whole attributes, so no message.
        if via == Via::Udp {
            let before = live.meters();
            link.send(&[&optional[..], &[0; 3]].concat());
            assert_eq!(answer(&mut link, &binding().encode()).code(), 0);
            assert_eq!(live.meters().drops_since(&before), [("malformed".to_owned(), 1)]);
        }
        let before = live.server.memory_kib();
        for _ in 0..200 {
            assert_eq!(answer(&mut link, &optional).code(), 0);
        }
        let grown = live.server.memory_kib().saturating_sub(before);
        assert!(grown <= 256, "{via:?}: {grown} KiB for 200 of them");
    }
    live.wait_until_deserted();
    live.finish();
}
