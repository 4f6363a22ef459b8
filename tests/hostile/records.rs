//! IN-090, IN-091: TLS in raw bytes, by clients that have read the standard to break it.

use crate::certificate;
use crate::client::Caller;
use crate::link::{Link, PATIENCE, Stream, Via};
use crate::live::Live;
use crate::ports::LOOPBACK;
use crate::sockets::read_to_its_end;
use crate::wire_client::{Reply, binding};
use rustls::ClientConnection;
use rustls::version::{TLS12, TLS13};
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;

/// Content types of records (RFC 8446 §5.1).
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const APPLICATION: u8 = 23;
/// Longest plaintext of a record, in bytes (RFC 8446 §5.1).
const PLAINTEXT_MAX: usize = 1 << 14;

/// A record that claims the length it has.
fn record(kind: u8, fragment: &[u8]) -> Vec<u8> {
    let len = u16::try_from(fragment.len()).expect("a record's length fits 16 bits");
    [&[kind, 3, 3][..], &len.to_be_bytes(), fragment].concat()
}

/// A handshake message in as many records as it takes.
fn handshake(kind: u8, body: &[u8]) -> Vec<u8> {
    let len = u32::try_from(body.len()).expect("a message is short").to_be_bytes();
    let message = [&[kind][..], &len[1..], body].concat();
    message.chunks(PLAINTEXT_MAX).flat_map(|piece| record(HANDSHAKE, piece)).collect()
}

/// A list with its length before it, in 16 bits.
fn long(bytes: &[u8]) -> Vec<u8> {
    [&u16::try_from(bytes.len()).expect("a list's length fits 16 bits").to_be_bytes(), bytes].concat()
}

fn extension(kind: u16, body: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &long(body)].concat()
}

/// A ClientHello of TLS 1.2 with one more extension (RFC 5246 §7.4.1.2).
fn hello(more: &[u8]) -> Vec<u8> {
    let groups = extension(10, &long(&[0, 23]));
    let signatures = extension(13, &long(&[4, 3]));
    let extensions = long(&[&groups[..], &signatures, more].concat());
    handshake(1, &[&[3, 3][..], &[7; 32], &[0], &long(&[0xC0, 0x2B]), &[1, 0], &extensions].concat())
}

/// The first flight of a real client.
fn real_hello() -> Vec<u8> {
    let mut bytes = Vec::new();
    client(&[&TLS13], &[]).write_tls(&mut bytes).expect("a vector takes it");
    bytes
}

fn client(versions: &[&'static rustls::SupportedProtocolVersion], alpn: &[&[u8]]) -> ClientConnection {
    let name = certificate::NAME.try_into().expect("it is a DNS name");
    ClientConnection::new(certificate::client(versions, alpn), name).expect("the configuration is complete")
}

/// Sends raw bytes, which have to end the connection, and returns what came before the end.
fn ended_by(server: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = Stream::plain(server);
    // The server may have hung up before it has read them all.
    let _ = stream.try_send(bytes);
    read_to_its_end(&mut stream)
}

#[test]
fn in_090_tls_and_stun_are_told_apart_on_both_ports_and_neither_is_taken_for_the_other() {
    let live = Live::start(&[]);
    for listener in [Via::Tcp, Via::Tls13] {
        for ip in LOOPBACK {
            let server = live.addr(listener, ip);
            for via in [Via::Tcp, Via::Tls12, Via::Tls13] {
                Caller::new(via, server).echo();
            }
        }
    }
    live.wait_until_deserted();
    // STUN in a record of TLS that never began, and TLS in the middle of STUN.
    let tcp = live.addr(Via::Tcp, LOOPBACK[0]);
    let before = live.meters();
    let alert = ended_by(tcp, &record(HANDSHAKE, &binding().encode()));
    assert_eq!(alert.first(), Some(&ALERT));
    let mut both = Stream::plain(tcp);
    both.send(&[binding().encode(), real_hello()].concat());
    assert_eq!(Reply::decode(&read_to_its_end(&mut both)).code(), 0, "the first is answered, the second ends it");
    live.wait_until_deserted();
    let closed = [("malformed".to_owned(), 1), ("tls".to_owned(), 1)];
    assert_eq!(live.meters().closed_since(&before), closed);
    live.finish();
}

#[test]
fn in_091_records_that_no_client_would_send_end_the_connection_with_an_alert() {
    let live = Live::start(&[]);
    let tls = live.addr(Via::Tls13, LOOPBACK[0]);
    let host = |name: &[u8]| extension(0, &long(&[&[0][..], &long(name)].concat()));
    let alpn = |inner: &[u8]| extension(16, inner);
    let oversize = |len: u16| [&[HANDSHAKE, 3, 3][..], &len.to_be_bytes(), &vec![1; usize::from(len)]].concat();
    let hello_then = |more: &[u8]| [&real_hello()[..], more].concat();
    let rows: Vec<(&str, Vec<u8>)> = vec![
        ("a server name of 60,000 bytes", hello(&host(&[b'a'; 60_000]))),
        ("a hello of more than 64 KiB", handshake(1, &[7; 70_000])),
        ("a hello that claims 16 MiB", record(HANDSHAKE, &[&[1, 0xFF, 0xFF, 0xFF][..], &[7; 16_000]].concat())),
        ("a server name that is longer than its list", hello(&extension(0, &[0, 200, 0, 0, 3, b'a', b'b', b'c']))),
        ("ALPN that is longer than its list", hello(&alpn(&[0, 200, 2, b'h', b'2']))),
        ("ALPN of empty names", hello(&alpn(&long(&[0, 0, 0, 0])))),
        ("ALPN of nothing", hello(&alpn(&[]))),
        ("ALPN of bytes that are no name", hello(&alpn(&long(&[0xFF; 300])))),
        ("an extension twice", hello(&[alpn(&long(b"\x02h2")), alpn(&long(b"\x02h2"))].concat())),
        ("a record of 16,385 bytes", oversize(16_385)),
        ("a record of 18,433 bytes", oversize(18_433)),
        ("a record of 65,535 bytes", oversize(65_535)),
        ("no hello at all", handshake(2, &[7; 50])),
        ("application data before the handshake", record(APPLICATION, &[7; 100])),
        ("after a hello, early data nobody agreed to", hello_then(&record(APPLICATION, &[7; 100]).repeat(200))),
        ("empty records", [&record(HANDSHAKE, b"\x01")[..], &record(HANDSHAKE, b"").repeat(200)].concat()),
        ("after a hello, a thousand warnings", hello_then(&record(ALERT, &[1, 90]).repeat(1_000))),
        ("after a hello, an alert of three bytes", hello_then(&record(ALERT, &[1, 90, 0]))),
        ("after a hello, a type of record that there is none of", hello_then(&record(99, &[7; 100]))),
        ("after a hello, a change of cipher where none belongs", hello_then(&record(20, &[1]).repeat(200))),
    ];
    for (what, bytes) in rows {
        let is_tls = bytes[0] == HANDSHAKE;
        let before = live.meters();
        let said = ended_by(tls, &bytes);
        live.wait_until_deserted();
        let after = live.meters();
        let reason = if is_tls { "tls" } else { "malformed" };
        assert_eq!(after.closed_since(&before), [(reason.to_owned(), 1)], "{what}");
        // The reason is told, sealed where the server had keys by then; a reset may overtake it where the server
        // has not read all there was.
        let may_begin = if what.starts_with("after a hello") { HANDSHAKE } else { ALERT };
        assert!(said.first().is_none_or(|first| is_tls && *first == may_begin), "{what}: {said:?}");
        assert_eq!((after.sum("turnpike_allocations"), after.get("turnpike_connections")), (0, 0), "{what}");
    }
    live.finish();
}

#[test]
fn in_091_a_handshake_of_single_bytes_succeeds_if_it_is_quick() {
    let live = Live::start(&[]);
    let mut witness = live.witness();
    for version in [&TLS12, &TLS13] {
        let mut connection = client(&[version], &[]);
        let mut stream = Stream::plain(live.addr(Via::Tls13, LOOPBACK[0]));
        while connection.is_handshaking() {
            let mut bytes = Vec::new();
            while connection.wants_write() {
                connection.write_tls(&mut bytes).expect("a vector takes it");
            }
            for byte in bytes {
                stream.send(&[byte]);
                witness.echo();
            }
            let mut room = [0; 16_384];
            let len = if connection.is_handshaking() { stream.read(&mut room).expect("the server goes on") } else { 0 };
            let mut came = &room[..len];
            while !came.is_empty() {
                connection.read_tls(&mut came).expect("it is taken");
                connection.process_new_packets().expect("it is what it should be");
            }
        }
    }
    live.wait_until_deserted();
    live.finish();
}

#[test]
fn in_091_no_ticket_offers_early_data() {
    let live = Live::start(&[]);
    let tls = live.addr(Via::Tls13, LOOPBACK[0]);
    let mut config = (*certificate::client(&[&TLS13], &[])).clone();
    config.enable_early_data = true;
    let config = std::sync::Arc::new(config);
    let mut resumed = 0;
    for _ in 0..3 {
        let mut stream = Stream::tls(tls, config.clone()).expect("the handshake succeeds");
        assert!(!stream.session().is_early_data_accepted());
        resumed += usize::from(stream.session().handshake_kind() == Some(rustls::HandshakeKind::Resumed));
        stream.send(&binding().encode());
        let mut room = [0; 100];
        let len = stream.read(&mut room).expect("the server answers");
        assert_eq!(Reply::decode(&room[..len]).code(), 0);
    }
    let name = certificate::NAME.try_into().expect("it is a DNS name");
    let mut next = ClientConnection::new(config, name).expect("the configuration is complete");
    assert!(next.early_data().is_none(), "its ticket does not allow it");
    assert_eq!(resumed, 2, "there are tickets");
    live.wait_until_deserted();
    live.finish();
}

#[test]
fn in_091_a_flood_of_new_keys_ends_the_connection_or_is_borne() {
    let live = Live::start(&[]);
    let mut link = Link::open(Via::Tls13, live.addr(Via::Tls13, LOOPBACK[0]));
    let Link::Stream(Stream::Tls(stream), _) = &mut link else { unreachable!("TLS is a stream") };
    // One change is as it should be (RFC 8446 §4.6.3).
    stream.conn.refresh_traffic_keys().expect("there is a session");
    let (question, mut room) = (binding(), [0; 100]);
    stream.write_all(&question.encode()).expect("the server takes it");
    let len = stream.read(&mut room).expect("the server answers");
    assert_eq!(Reply::decode(&room[..len]).id, question.id);
    let before = live.server.memory_kib();
    let mut sent = 0;
    while sent < 10_000 {
        let asked = stream.conn.refresh_traffic_keys().is_ok() && stream.flush().is_ok();
        if !asked {
            break;
        }
        sent += 1;
    }
    drop(link);
    live.wait_until_deserted();
    let grown = live.server.memory_kib().saturating_sub(before);
    assert!(sent > 0, "there is no flood");
    assert!(grown < 1_024, "{grown} KiB after {sent} changes of keys");
    live.finish();
}

#[test]
fn in_091_who_asks_to_negotiate_anew_gets_no_second_handshake() {
    let live = Live::start(&[]);
    let tls = live.addr(Via::Tls12, LOOPBACK[0]);
    let before = live.meters();
    let mut openssl = Command::new("openssl");
    openssl.args(["s_client", "-connect", &tls.to_string(), "-tls1_2", "-legacy_renegotiation", "-msg"]);
    let spawned = openssl.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = spawned.expect("openssl is installed, as for the foreign clients");
    // A line that begins with R has it ask.
    let mut stdin = child.stdin.take().expect("it is a pipe");
    stdin.write_all(b"R\n").expect("openssl reads");
    let pid = child.id().to_string();
    let (ended, has_ended) = channel();
    std::thread::spawn(move || ended.send(child.wait_with_output()));
    let output = has_ended.recv_timeout(PATIENCE).unwrap_or_else(|_| {
        let _ = Command::new("kill").args(["-KILL", &pid]).status();
        has_ended.recv().expect("nobody outlives that")
    });
    let output = output.expect("openssl is waited for");
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("RENEGOTIATING"), "it has asked: {said}");
    assert_eq!(said.matches(", ClientHello\n").count(), 2, "it has asked: {said}");
    assert_eq!(said.matches(", ServerHello\n").count(), 1, "one handshake: {said}");
    assert!(said.contains("<<< TLS 1.2, Alert [length 0002], warning no_renegotiation\n"), "refused: {said}");
    drop(stdin);
    live.wait_until_deserted();
    // openssl takes the refusal for a failure, and says so as the last of its one connection.
    assert_eq!(live.meters().closed_since(&before), [("tls".to_owned(), 1)]);
    live.finish();
}
