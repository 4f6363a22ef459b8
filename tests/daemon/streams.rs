//! What a TCP or TLS port does with bytes: finds messages however they are cut, speaks TLS or not whatever the
//! port is for, and tells a lost browser where it is.

use super::certificate;
use super::client::{Caller, Delivery, Peer, pattern};
use super::link::{Link, PATIENCE, Stream, Via};
use super::ports::LOOPBACK;
use super::server::Server;
use crate::wire_client::{Draft, Reply, binding, channel, refresh, send};
use rustls::version::{TLS12, TLS13};
use std::net::SocketAddr;
use std::time::Instant;

const CHANNEL: u16 = 0x4001;
const STREAMS: [Via; 3] = [Via::Tcp, Via::Tls12, Via::Tls13];

/// A client on a stream with a peer it has a channel to, and a client on UDP by which a test knows that the one
/// worker has read all that was sent before.
struct Scene {
    caller: Caller,
    relayed: SocketAddr,
    peer: Peer,
    witness: Caller,
}

impl Scene {
    fn new(server: &Server, via: Via) -> Scene {
        let (mut caller, relayed) = Caller::allocated(via, server.addr(via.listener(), LOOPBACK[0]));
        let peer = Peer::new(LOOPBACK[0]);
        caller.bind(CHANNEL, peer.addr());
        let witness = Caller::new(Via::Udp, server.addr("udp", LOOPBACK[0]));
        Scene { caller, relayed, peer, witness }
    }

    /// A message of each kind, each of a length that needs padding, and the transaction of the one to be answered.
    fn messages(&self, seed: usize) -> (Vec<u8>, Draft) {
        let question = binding();
        let mut bytes = channel(CHANNEL, &pattern(seed, 5));
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes.extend(question.encode());
        bytes.extend(send(self.peer.addr(), &pattern(seed + 1, 7)).encode());
        bytes.extend(channel(CHANNEL, b""));
        (bytes, question)
    }

    /// Writes bytes as they are: no message is looked for in them, and none is padded.
    fn write(&mut self, bytes: &[u8]) {
        match self.caller.link() {
            Link::Stream(stream, _) => stream.send(bytes),
            Link::Udp(..) => panic!("a stream is needed"),
        }
    }

    /// What [`Scene::messages`] wrote has had its effect.
    fn check(&mut self, seed: usize, question: &Draft) {
        for payload in [pattern(seed, 5), pattern(seed + 1, 7), pattern(0, 0)] {
            assert_eq!(self.peer.receive(), (payload, self.relayed));
        }
        let reply = self.caller.answer(&question.id, Instant::now() + PATIENCE);
        assert_eq!(reply.expect("the question in between is answered").code(), 0);
    }
}

#[test]
fn messages_are_found_wherever_the_stream_is_cut() {
    let server = Server::start(&[]);
    for via in STREAMS {
        let mut scene = Scene::new(&server, via);
        let len = scene.messages(0).0.len();
        for cut in 1..len {
            let (bytes, question) = scene.messages(cut);
            scene.write(&bytes[..cut]);
            scene.witness.echo();
            scene.write(&bytes[cut..]);
            scene.check(cut, &question);
        }
        assert_eq!(scene.caller.delivered(), []);
    }
    server.stop();
}

#[test]
fn messages_are_found_when_every_byte_comes_alone() {
    let server = Server::start(&[]);
    for via in STREAMS {
        let mut scene = Scene::new(&server, via);
        let (bytes, question) = scene.messages(0);
        for byte in &bytes {
            scene.write(&[*byte]);
            scene.witness.echo();
        }
        scene.check(0, &question);
    }
    server.stop();
}

#[test]
fn many_messages_in_one_write_are_all_obeyed_in_order() {
    /// As many as a peer's socket holds.
    const MESSAGES: usize = 40;
    let server = Server::start(&[]);
    for via in STREAMS {
        let mut scene = Scene::new(&server, via);
        let (mut bytes, mut questions) = (Vec::new(), Vec::new());
        for seed in 0..MESSAGES {
            let (some, question) = scene.messages(seed);
            bytes.extend(some);
            questions.push(question);
        }
        scene.write(&bytes);
        for (seed, question) in questions.iter().enumerate() {
            scene.check(seed, question);
        }
        // And the other way: what the peer sends in a row arrives in a row.
        for seed in 0..MESSAGES {
            scene.peer.send(scene.relayed, &pattern(seed, seed));
        }
        for seed in 0..MESSAGES {
            assert_eq!(scene.caller.receive(), Delivery::Channel(CHANNEL, pattern(seed, seed)));
        }
    }
    server.stop();
}

// An Allocate that is cut in two is one Allocate, and answers come in the order of the questions.
#[test]
fn requests_may_be_sent_without_waiting_for_answers() {
    let server = Server::start(&[]);
    for via in STREAMS {
        let mut scene = Scene::new(&server, via);
        let drafts: Vec<Draft> = (0..20).map(|_| refresh(600)).collect();
        let bytes: Vec<u8> = drafts.iter().flat_map(|draft| scene.caller.sign(draft.clone())).collect();
        scene.write(&bytes);
        for draft in &drafts {
            // The first answer that comes is this one, or it would be thrown away and never come.
            let reply = scene.caller.answer(&draft.id, Instant::now() + PATIENCE);
            assert_eq!(reply.map(|reply| reply.code()), Some(0));
        }
    }
    server.stop();
}

/// The answer to a Binding request that is sent on a fresh stream.
fn ask(stream: &mut Stream) -> Reply {
    let question = binding();
    stream.send(&question.encode());
    let mut room = [0; 1500];
    let len = stream.read(&mut room).expect("the server answers");
    let reply = Reply::decode(&room[..len]);
    assert_eq!((reply.id, reply.code()), (question.id, 0));
    reply
}

#[test]
fn a_port_speaks_tls_to_those_who_do_and_not_to_others() {
    let server = Server::start(&["workers=2"]);
    for ip in LOOPBACK {
        for listener in ["tcp", "tls"] {
            let addr = server.addr(listener, ip);
            ask(&mut Stream::plain(addr));
            for version in [&TLS12, &TLS13] {
                let config = certificate::client(&[version], &[]);
                ask(&mut Stream::tls(addr, config).expect("the handshake succeeds"));
            }
        }
    }
    server.stop();
}

#[test]
fn without_a_certificate_tls_is_hung_up_on() {
    let server = Server::start(&["listen.tls=[]", "tls.cert=", "tls.key="]);
    let addr = server.addr("tcp", LOOPBACK[0]);
    ask(&mut Stream::plain(addr));
    assert!(Stream::tls(addr, certificate::client(&[&TLS13], &[])).is_err());
    server.stop();
}

#[test]
fn alpn_names_what_both_speak() {
    let server = Server::start(&[]);
    let addr = server.addr("tls", LOOPBACK[0]);
    let negotiated = |versions: &[&'static _], offer: &[&[u8]]| {
        let stream = Stream::tls(addr, certificate::client(versions, offer));
        stream.map(|mut stream| {
            ask(&mut stream);
            stream.session().alpn_protocol().map(<[u8]>::to_vec)
        })
    };
    for versions in [[&TLS12], [&TLS13]] {
        for name in [&b"stun.turn"[..], b"stun.nat-discovery", b"http/1.1"] {
            assert_eq!(negotiated(&versions, &[name]).expect("it is known"), Some(name.to_vec()));
            assert_eq!(negotiated(&versions, &[b"h2", name]).expect("one is known"), Some(name.to_vec()));
        }
        assert_eq!(negotiated(&versions, &[]).expect("none is needed"), None);
        // RFC 7301 §3.2: without a name in common there is no connection.
        assert!(negotiated(&versions, &[b"h2"]).is_err());
    }
    server.stop();
}

#[test]
fn a_browser_gets_a_page_and_the_connection_ends() {
    let server = Server::start(&[]);
    let requests = [
        "GET / HTTP/1.1\r\nHost: turn.example.org\r\n\r\n",
        "GET /favicon.ico HTTP/1.0\r\n\r\n",
        "POST /rooms HTTP/1.1\r\nHost: turn.example.org\r\nContent-Length: 2\r\n\r\n{}",
    ];
    for listener in ["tcp", "tls"] {
        let addr = server.addr(listener, LOOPBACK[0]);
        for request in requests {
            let secure = certificate::client(&[&TLS13, &TLS12], &[b"http/1.1"]);
            for mut stream in [Stream::plain(addr), Stream::tls(addr, secure).expect("the handshake succeeds")] {
                // Cut at an odd place: the end of the head has to be waited for.
                stream.send(&request.as_bytes()[..9]);
                Caller::new(Via::Udp, server.addr("udp", LOOPBACK[0])).echo();
                stream.send(&request.as_bytes()[9..]);
                let page = String::from_utf8(stream.read_to_end()).expect("the page is text");
                let (head, body) = page.split_once("\r\n\r\n").expect("head and body");
                assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
                assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{head}");
                assert!(head.contains("Connection: close"), "{head}");
                assert!(body.contains("<title>TURN server</title>"), "{body}");
            }
        }
    }
    server.stop();
}

#[test]
fn a_stream_that_is_no_stun_is_closed_at_once() {
    let server = Server::start(&[]);
    let garbage: [&[u8]; 4] = [
        b"\x05\x01\x00",                             // SOCKS
        b"\x00\x01\x00\x00\x21\x12\xa4\x43",         // the wrong cookie
        b"\x00\x01\x00\x03\x21\x12\xa4\x42",         // a length that is no multiple of four
        b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\xff", // TLS of a kind
    ];
    for bytes in garbage {
        let mut stream = Stream::plain(server.addr("tcp", LOOPBACK[0]));
        stream.send(bytes);
        let began = Instant::now();
        // Closed, or reset: it is all the same to a stranger.
        let mut room = [0; 64];
        while matches!(stream.read(&mut room), Ok(1..)) {}
        assert!(began.elapsed().as_secs() < 4, "{bytes:?}: closed at once, not after a deadline");
    }
    server.stop();
}

// Some clients close their own side with the last request, and still wait for its answer.
#[test]
fn a_half_closed_stream_still_gets_its_answer() {
    let server = Server::start(&[]);
    let mut stream = Stream::plain(server.addr("tcp", LOOPBACK[0]));
    let question = binding();
    stream.send(&question.encode());
    stream.tcp().shutdown(std::net::Shutdown::Write).expect("the stream is open");
    assert_eq!(Reply::decode(&stream.read_to_end()).id, question.id);
    server.stop();
}
