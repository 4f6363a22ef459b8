//! IN-081 to IN-086, IN-089: where messages begin and end on a stream, over the real sockets.

use crate::client::{Caller, Delivery, Peer, pattern};
use crate::link::{Link, Stream, Via};
use crate::live::Live;
use crate::ports::LOOPBACK;
use crate::sockets::{is_quiet, read_to_its_end};
use crate::wire_client::*;
use std::io::Read;
use std::time::{Duration, Instant};

/// The longest message that a STUN header can claim, in bytes.
const STUN_MAX: usize = 20 + 0xFFFC;
/// ChannelData of 65,535 bytes with its padding.
const CHANNEL_DATA_MAX: usize = 65_540;
const CHANNEL: u16 = 0x4000;
const STREAMS: [Via; 3] = [Via::Tcp, Via::Tls12, Via::Tls13];

fn stream(caller: &mut Caller) -> &mut Stream {
    match caller.link() {
        Link::Stream(stream, _) => stream,
        Link::Udp(..) => panic!("a stream is needed"),
    }
}

/// A Binding request whose body has so many bytes.
fn binding_of(body: usize) -> Draft {
    binding().with(0x8022, &vec![0; body - 4][..])
}

#[test]
fn in_081_a_length_of_0xfffc_is_waited_for_and_no_longer_buffered_than_that() {
    /// As many as one source may have.
    const STREAMS: usize = 20;
    let live = Live::start(&[]);
    let tcp = live.addr(Via::Tcp, LOOPBACK[0]);
    let mut witness = live.witness();
    let mut whole = binding_of(0xFFFC).encode();
    assert_eq!(whole.len(), STUN_MAX);
    let last = whole.pop().expect("it is long");
    let mut callers: Vec<Caller> = (0..STREAMS).map(|_| Caller::new(Via::Tcp, tcp)).collect();
    callers.iter_mut().for_each(|caller| drop(caller.echo()));
    let before = live.server.memory_kib();
    for piece in [&whole[..20], &whole[20..40_000], &whole[40_000..]] {
        for caller in &mut callers {
            stream(caller).send(piece);
        }
        witness.echo();
    }
    let grown = live.server.memory_kib().saturating_sub(before) as usize;
    // And a quarter for what the allocator rounds up.
    let max = STREAMS * STUN_MAX / 1024 * 5 / 4;
    assert!(grown <= max, "{grown} KiB for {STREAMS} frames that are not whole, {max} at most");
    for caller in &mut callers {
        assert!(is_quiet(stream(caller)), "it is waited for");
        stream(caller).send(&[last]);
        let reply = caller.answer(&whole[8..20], Instant::now() + Duration::from_secs(10));
        assert_eq!(reply.map(|reply| reply.code()), Some(0));
        caller.echo();
    }
    drop(callers);
    live.wait_until_deserted();
    live.finish();
}

// A length that wraps in 16 bits would have the end of one message taken for the start of the next.
#[test]
fn in_082_the_longest_messages_are_framed_and_what_follows_is_too() {
    let live = Live::start(&[]);
    for via in STREAMS {
        let mut caller = Caller::new(via, live.addr(via, LOOPBACK[0]));
        let drafts: Vec<Draft> =
            [65_520, 65_524, 65_528, 65_532].into_iter().flat_map(|body| [binding_of(body), binding()]).collect();
        let bytes: Vec<u8> = drafts.iter().flat_map(Draft::encode).collect();
        std::thread::scope(|scope| {
            let until = Instant::now() + Duration::from_secs(10);
            let mut twin = stream(&mut caller).tcp().try_clone().expect("a socket has a second handle");
            if via == Via::Tcp {
                scope.spawn(move || std::io::Write::write_all(&mut twin, &bytes).expect("the server takes it"));
            } else {
                stream(&mut caller).send(&bytes);
            }
            for draft in &drafts {
                assert_eq!(caller.answer(&draft.id, until).map(|reply| reply.code()), Some(0), "{via:?}");
            }
        });
        assert_eq!(caller.delivered(), []);
    }
    live.wait_until_deserted();
    live.finish();
}

#[test]
fn in_083_channel_data_of_0xffff_bytes_is_waited_for_to_its_last() {
    let live = Live::start(&[]);
    let mut witness = live.witness();
    for via in STREAMS {
        let mut caller = Caller::new(via, live.addr(via, LOOPBACK[0]));
        caller.succeed(allocate());
        let mut bytes = channel(CHANNEL, &[7; 0xFFFF]);
        bytes.resize(CHANNEL_DATA_MAX, 0);
        let before = live.meters();
        // Three bytes are what a length that wraps would wait for.
        for piece in [&bytes[..7], &bytes[7..8], &bytes[8..CHANNEL_DATA_MAX - 1]] {
            stream(&mut caller).send(piece);
            witness.echo();
            assert_eq!(live.meters().drops_since(&before), []);
        }
        assert!(is_quiet(stream(&mut caller)));
        stream(&mut caller).send(&bytes[CHANNEL_DATA_MAX - 1..]);
        caller.echo();
        assert_eq!(live.meters().drops_since(&before), [("no_channel".to_owned(), 1)], "{via:?}");
    }
    live.wait_until_deserted();
    live.finish();
}

#[test]
fn in_084_a_message_in_single_bytes_is_the_same_message() {
    let live = Live::start(&[]);
    let mut witness = live.witness();
    for via in STREAMS {
        let mut caller = Caller::new(via, live.addr(via, LOOPBACK[0]));
        caller.succeed(allocate());
        let drafts = [refresh(600), permit(&[peer("8.8.8.8:1")]), refresh(600)];
        let bytes: Vec<u8> = drafts.iter().flat_map(|draft| caller.sign(draft.clone())).collect();
        for byte in bytes {
            stream(&mut caller).send(&[byte]);
            witness.echo();
        }
        for draft in &drafts {
            let reply = caller.answer(&draft.id, Instant::now() + Duration::from_secs(10));
            assert_eq!(reply.map(|reply| reply.code()), Some(0), "{via:?}");
        }
    }
    live.wait_until_deserted();
    live.finish();
}

#[test]
fn in_085_without_its_padding_the_stream_has_lost_its_place_and_ends() {
    let live = Live::start(&["relay.allow_loopback_peers=true"]);
    for via in STREAMS {
        let mut caller = Caller::new(via, live.addr(via, LOOPBACK[0]));
        let relayed = caller.allocate(allocate());
        let peer = Peer::new(LOOPBACK[0]);
        caller.bind(CHANNEL, peer.addr());
        let before = live.meters();
        let unpadded = channel(CHANNEL, b"hello");
        let again = channel(CHANNEL, b"never relayed");
        stream(&mut caller).send(&[unpadded, send(peer.addr(), b"nor this").encode(), again].concat());
        assert_eq!(read_to_its_end(stream(&mut caller)), b"", "{via:?}");
        assert_eq!(peer.receive(), (b"hello".into(), relayed), "its own five bytes are what the header says");
        live.wait_until_deserted();
        assert!(peer.is_idle(), "and nothing from another place");
        let after = live.meters();
        assert_eq!(after.drops_since(&before), [("malformed".to_owned(), 1)]);
        assert_eq!(after.closed_since(&before), [("malformed".to_owned(), 1)]);
    }
    live.finish();
}

#[test]
fn in_086_every_first_byte_of_another_protocol_ends_the_connection_without_a_word() {
    let live = Live::start(&[]);
    let tcp = live.addr(Via::Tcp, LOOPBACK[0]);
    let before = live.meters();
    let is_foreign = |byte: &u8| !matches!(byte, 0..=3 | 0x16 | 0x40..=0x4F | b'A'..=b'Z');
    let foreign: Vec<u8> = (0..=255).filter(is_foreign).collect();
    for byte in &foreign {
        let mut stream = Stream::plain(tcp);
        stream.send(&[*byte, 1, 0]);
        assert_eq!(read_to_its_end(&mut stream), b"", "{byte:#04x}");
    }
    live.wait_until_deserted();
    let count = foreign.len() as u64;
    let after = live.meters();
    assert_eq!(after.drops_since(&before), [("malformed".to_owned(), count)]);
    assert_eq!(after.closed_since(&before), [("malformed".to_owned(), count)]);
    // HTTP is told where it is, and no more: on purpose.
    for request in ["GET / HTTP/1.1\r\n\r\n", "CONNECT 10.0.0.1:22 HTTP/1.1\r\n\r\n", "PROXY TCP4 1 2 3 4\r\n\r\n"] {
        let mut stream = Stream::plain(tcp);
        stream.send(request.as_bytes());
        let page = read_to_its_end(&mut stream);
        assert!(page.starts_with(b"HTTP/1.1 200 OK\r\n") && page.len() < 600, "{request}");
    }
    live.wait_until_deserted();
    assert_eq!(live.meters().closed_since(&after), [("http".to_owned(), 3)]);
    live.finish();
}

/// How a client goes without a word.
#[derive(Clone, Copy, Debug)]
enum Exit {
    /// By a reset.
    Reset,
    /// By closing its side.
    Fin,
    /// By closing its side and reading on.
    HalfClose,
}

#[test]
fn in_089_whoever_goes_in_the_middle_of_a_frame_is_gone_at_once_with_all_they_had() {
    /// Long before a deadline would end it.
    const AT_ONCE: Duration = Duration::from_secs(5);
    let live = Live::start(&[]);
    for via in STREAMS {
        for exit in [Exit::Reset, Exit::Fin, Exit::HalfClose] {
            let mut caller = Caller::new(via, live.addr(via, LOOPBACK[0]));
            caller.succeed(allocate());
            let half = &refresh(600).encode()[..11];
            stream(&mut caller).send(half);
            let before = live.meters();
            let began = Instant::now();
            let tcp = stream(&mut caller).tcp().try_clone().expect("a socket has a second handle");
            match exit {
                Exit::Reset => {
                    let linger = socket2::SockRef::from(&tcp).set_linger(Some(Duration::ZERO));
                    linger.expect("TCP takes its options");
                }
                Exit::Fin => {}
                Exit::HalfClose => {
                    tcp.shutdown(std::net::Shutdown::Write).expect("it is open");
                    let mut rest = Vec::new();
                    let ended = (&tcp).read_to_end(&mut rest);
                    assert!(ended.is_ok() && (via != Via::Tcp || rest.is_empty()), "half a question has no answer");
                }
            }
            drop((tcp, caller));
            live.wait_until_deserted();
            assert!(began.elapsed() < AT_ONCE, "{via:?} {exit:?}: after {:?}", began.elapsed());
            assert_eq!(live.meters().closed_since(&before), [("client".to_owned(), 1)], "{via:?} {exit:?}");
        }
    }
    live.finish();
}

// What lay in a buffer before must not leave with what is sent.
#[test]
fn the_padding_of_channel_data_and_indications_is_zero_whatever_was_sent_before() {
    let live = Live::start(&["relay.allow_loopback_peers=true"]);
    for via in STREAMS {
        let mut caller = Caller::new(via, live.addr(via, LOOPBACK[0]));
        let relayed = caller.allocate(allocate());
        let (bound, permitted) = (Peer::new(LOOPBACK[0]), Peer::new(LOOPBACK[0]));
        caller.bind(CHANNEL, bound.addr());
        for len in 0..=9 {
            for _ in 0..70 {
                // As many as there are places in a worker's buffer, and as long as they are.
                bound.send(relayed, &[0xFF; 1_400]);
                assert_eq!(caller.receive(), Delivery::Channel(CHANNEL, (&[0xFF; 1_400]).into()));
            }
            bound.send(relayed, &pattern(len, len));
            let mut raw = vec![0xAA; (4 + len).next_multiple_of(4)];
            let mut at = 0;
            while at < raw.len() {
                at += stream(&mut caller).read(&mut raw[at..]).expect("it is delivered");
            }
            assert_eq!(raw[4..4 + len], *pattern(len, len));
            assert!(raw[4 + len..].iter().all(|byte| *byte == 0), "{via:?}: {raw:?}");
            // Indications are read by a reader that checks every padding.
            permitted.send(relayed, &pattern(len, len));
            assert_eq!(caller.receive(), Delivery::Indication(permitted.addr(), pattern(len, len)));
        }
    }
    live.wait_until_deserted();
    live.finish();
}

#[test]
fn answers_do_not_depend_on_what_lay_in_the_buffer_before() {
    let cases = crate::all_cases(&crate::Scene::new().cast());
    let answers = |filling: u8| {
        let mut all = Vec::new();
        for case in &cases {
            let mut scene = crate::Scene::new();
            let mut out = [filling; 1_500];
            let world = &mut scene.world;
            let (now, server) = (world.now(), &mut world.server);
            let verdict = server.handle_client(now, &case.from, &case.bytes, &mut world.ports, &mut out);
            if let turnpike::turn::Verdict::Reply { len, .. } = verdict {
                assert!(out[len..].iter().all(|byte| *byte == filling), "{}: no byte behind the end", case.title());
                all.push((case.title(), out[..len].to_vec()));
            }
        }
        all
    };
    let (first, second) = (answers(0xAA), answers(0x55));
    assert!(first.len() > 100 && first == second);
    assert!(first.iter().any(|(_, answer)| answer.len() > 70), "successes are among them");
}
