//! What a connection and a request may cost: each limit is reached and passed by one.
//!
//! Deadlines are shortened, because nobody waits half a minute for a test; the real ones are pinned.

#[path = "limits/framing.rs"]
pub mod framing;
#[path = "limits/names.rs"]
mod names;

use super::fixture::{Answer, Fixture, PATIENCE, Wire, Wish, request, wait_until};
use super::link::Via;
use std::io;
use std::net::TcpStream;
use std::time::{Duration, Instant};
use turnpike::http::{Config, Plane};

/// A deadline that tests can wait for.
const SHORT: Duration = Duration::from_millis(300);

/// A time of idleness that tests can wait for, and that a busy machine does not reach by itself.
const IDLE: Duration = Duration::from_millis(1500);

/// A path that nothing is at. The guard reads the whole request before it says so.
pub const NOWHERE: &str = "/nothing/is/here";

fn spawn_with(spawn: impl FnOnce(Config) -> io::Result<Plane>) -> Fixture {
    Fixture::spawn(Wish::default(), |_| (), spawn)
}

/// A head of one header, padded to a length in the part that counts.
fn padded(line_len: usize, headers_len: usize) -> String {
    let line = format!("GET {NOWHERE}?{}", "a".repeat(line_len - NOWHERE.len() - 14));
    let host = "Host: localhost\r\n";
    let pad = "Pad: ".len() + "\r\n".len() + host.len();
    format!("{line} HTTP/1.1\r\n{host}Pad: {}\r\n\r\n", "a".repeat(headers_len - pad))
}

fn tell(fixture: &Fixture, bytes: impl AsRef<[u8]>) -> (Answer, Wire) {
    let mut wire = Wire::connect(fixture.public);
    wire.send(bytes);
    (wire.answer(false), wire)
}

#[test]
fn the_limits_are_these() {
    let fixture = spawn_with(|config| {
        Plane::spawn_limited(config, |limits| {
            let seconds = Duration::from_secs;
            assert_eq!(limits.deadlines.head, seconds(5));
            assert_eq!(limits.deadlines.body, seconds(10));
            assert_eq!(limits.deadlines.body_grace, seconds(5));
            assert_eq!(limits.deadlines.idle, seconds(30));
            assert_eq!(limits.deadlines.handshake, seconds(5));
            assert_eq!(limits.deadlines.stalled, seconds(10));
            assert_eq!(limits.requests_per_connection, 1000);
            assert_eq!(limits.connections.total, 4096);
            assert_eq!(limits.connections.per_source, 64);
        })
    });
    assert_eq!(fixture.get(NOWHERE).status, 404);
}

#[test]
fn a_request_line_is_8_kib_at_most() {
    let fixture = Fixture::start();
    assert_eq!(tell(&fixture, padded(8192, 100)).0.status, 404);
    let (answer, mut wire) = tell(&fixture, padded(8193, 100));
    assert_eq!((answer.status, &*answer.code()), (414, "uri_too_long"));
    assert!(wire.is_closed());
    let (answer, _) = tell(&fixture, "GET /".to_owned() + &"a".repeat(100_000));
    assert_eq!(answer.status, 414, "nothing waits for the end of the line");
}

#[test]
fn headers_are_16_kib_at_most_and_64() {
    let fixture = Fixture::start();
    assert_eq!(tell(&fixture, padded(100, 16_384)).0.status, 404);
    let (answer, mut wire) = tell(&fixture, padded(100, 16_385));
    assert_eq!((answer.status, &*answer.code()), (431, "headers_too_large"));
    assert!(wire.is_closed());

    let many =
        |count: usize| format!("GET {NOWHERE} HTTP/1.1\r\nHost: localhost\r\n{}\r\n", "A: b\r\n".repeat(count - 1));
    assert_eq!(tell(&fixture, many(64)).0.status, 404);
    assert_eq!(tell(&fixture, many(65)).0.status, 431);
    assert_eq!(tell(&fixture, padded(8192, 16_384)).0.status, 404, "both at once");
}

#[test]
fn a_body_is_64_kib_at_most_and_4_kib_where_credentials_are_asked_for() {
    let fixture = Fixture::start();
    let addr = fixture.public;
    for (path, max, taken) in [(NOWHERE, 65_536, 404), ("/turn", 4096, 403), ("/v1alpha/iceconfig", 4096, 403)] {
        assert_eq!(request(addr, "POST", path, &[], vec![b'a'; max]).status, taken, "{path}");
        let mut wire = Wire::connect(addr);
        let answer = wire.ask("POST", path, &[], vec![b'a'; max + 1]);
        assert_eq!((answer.status, &*answer.code()), (413, "payload_too_large"), "{path}");
        assert_eq!(answer.header("connection"), Some("close"));
        assert!(wire.is_closed());

        let chunked = |len: usize| format!("{len:x}\r\n{}\r\n0\r\n\r\n", "a".repeat(len));
        let headers = [("Transfer-Encoding", "chunked")];
        assert_eq!(request(addr, "POST", path, &headers, chunked(max)).status, taken, "{path} in chunks");
        assert_eq!(request(addr, "POST", path, &headers, chunked(max + 1)).status, 413, "{path} in chunks");
    }
    let headers = [("Content-Length", "1000000000000")];
    assert_eq!(request(addr, "POST", NOWHERE, &headers, "").status, 413, "a length alone is enough to refuse it");
}

/// Sends bytes one at a time until there is an answer.
fn drip(wire: &TcpStream, bytes: &str) -> (Duration, Vec<u8>) {
    use std::io::{Read, Write};
    let mut stream = wire;
    // The wait between two bytes is that for the answer.
    stream.set_read_timeout(Some(SHORT / 10)).expect("TCP takes its options");
    let start = Instant::now();
    let mut room = [0; 4096];
    for byte in bytes.bytes().cycle() {
        assert!(start.elapsed() < PATIENCE, "the server has all the time in the world");
        if stream.write_all(&[byte]).is_err() {
            break;
        }
        match stream.read(&mut room) {
            Ok(len) => return (start.elapsed(), room[..len].to_vec()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => break,
        }
    }
    (start.elapsed(), Vec::new())
}

#[test]
fn a_head_has_one_deadline_however_many_bytes_come() {
    let fixture = spawn_with(|config| Plane::spawn_limited(config, |limits| limits.deadlines.head = SHORT));
    let wire = TcpStream::connect(fixture.public).expect("the plane accepts");
    let (took, answer) =
        drip(&wire, "GET / HTTP/1.1\r\nHost: localhost\r\nSlow: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa");
    assert!(answer.starts_with(b"HTTP/1.1 408 "), "{}", answer.escape_ascii());
    assert!(took >= SHORT && took < PATIENCE / 2, "{took:?}");
}

#[test]
fn a_body_has_one_deadline_however_many_bytes_come() {
    let fixture = spawn_with(|config| Plane::spawn_limited(config, |limits| limits.deadlines.body = SHORT));
    let mut wire = TcpStream::connect(fixture.public).expect("the plane accepts");
    let head = format!("POST {NOWHERE} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 60000\r\n\r\n");
    io::Write::write_all(&mut wire, head.as_bytes()).expect("the plane reads");
    let (took, answer) = drip(&wire, "a");
    assert!(answer.starts_with(b"HTTP/1.1 408 "), "{}", answer.escape_ascii());
    assert!(took < PATIENCE / 2, "{took:?}");
}

/// A plane that waits for ever for a body that is quick enough.
fn spawn_with_short_grace(config: Config) -> io::Result<Plane> {
    Plane::spawn_limited(config, |limits| {
        (limits.deadlines.body_grace, limits.deadlines.body) = (SHORT, Duration::from_secs(3600));
    })
}

#[test]
fn a_body_comes_with_a_kibibyte_a_second_once_its_grace_is_over() {
    let fixture = spawn_with(spawn_with_short_grace);
    let begin = |len: usize| {
        let mut wire = TcpStream::connect(fixture.public).expect("the plane accepts");
        let head = format!("POST {NOWHERE} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len}\r\n\r\n");
        io::Write::write_all(&mut wire, head.as_bytes()).expect("the plane reads");
        wire
    };
    let (took, answer) = drip(&begin(60_000), "a");
    assert!(answer.starts_with(b"HTTP/1.1 408 "), "{}", answer.escape_ascii());
    assert!(took >= SHORT, "{took:?}");
    // The same bytes are in time when enough came before them.
    let mut wire = begin(40_000);
    io::Write::write_all(&mut wire, &[b'a'; 39_990]).expect("the plane reads");
    let start = Instant::now();
    let (took, answer) = drip(&wire, "a");
    assert!(answer.starts_with(b"HTTP/1.1 404 "), "{} after {took:?}", answer.escape_ascii());
    assert!(took <= start.elapsed());
}

#[test]
fn whoever_is_told_to_go_on_and_does_not_is_closed() {
    let fixture = spawn_with(spawn_with_short_grace);
    for addr in [fixture.public, fixture.admin] {
        let mut wire = Wire::connect(addr);
        let head = format!("POST {NOWHERE} HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n");
        wire.send(format!("{head}Content-Length: 10\r\n\r\n"));
        assert_eq!((wire.line(), wire.line()), ("HTTP/1.1 100 Continue".into(), String::new()));
        let answer = wire.answer(false);
        assert_eq!((answer.status, answer.header("connection")), (408, Some("close")));
        assert_eq!(wire.try_answer(false), None);
    }
}

#[test]
fn a_connection_that_says_nothing_is_closed() {
    let fixture = spawn_with(|config| Plane::spawn_limited(config, |limits| limits.deadlines.idle = IDLE));
    let mut silent = Wire::connect(fixture.public);
    let mut used = Wire::connect(fixture.public);
    assert_eq!(used.ask("GET", NOWHERE, &[], "").status, 404);
    assert_eq!(used.ask("GET", NOWHERE, &[], "").status, 404);
    assert_eq!(used.try_answer(false), None, "nothing is said about it");
    assert_eq!(silent.try_answer(false), None);
}

#[test]
fn a_connection_has_so_many_requests() {
    let fixture = spawn_with(|config| Plane::spawn_limited(config, |limits| limits.requests_per_connection = 3));
    let mut wire = Wire::connect(fixture.public);
    for _ in 0..2 {
        assert_eq!(wire.ask("GET", NOWHERE, &[], "").header("connection"), None);
    }
    assert_eq!(wire.ask("GET", NOWHERE, &[], "").header("connection"), Some("close"));
    assert!(wire.is_closed());
}

#[test]
fn idle_connections_make_room_and_busy_ones_stay() {
    let total = 20;
    let fixture = spawn_with(|config| Plane::spawn_limited(config, |limits| limits.connections.total = total));
    let mut busy = Wire::connect(fixture.public);
    busy.send(format!("POST {NOWHERE} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\nab"));
    // A second part has a limit of its own.
    let mut admin = Wire::connect(fixture.admin);
    assert_eq!(admin.ask("GET", "/healthz", &[], "").status, 200);
    // Accepted in their order, so that the busy one is busy before the flood.
    assert_eq!(fixture.get(NOWHERE).status, 404);
    let mut flood: Vec<Wire> = (0..300).map(|_| Wire::connect(fixture.public)).collect();
    let start = Instant::now();
    assert_eq!(fixture.get(NOWHERE).status, 404);
    assert!(start.elapsed() < PATIENCE / 2, "{:?}", start.elapsed());
    busy.send("cd");
    assert_eq!(busy.answer(false).status, 404);
    assert_eq!(admin.ask("GET", "/healthz", &[], "").status, 200);
    let alive = flood.iter_mut().rev().filter_map(|wire| {
        let sent = wire.send(format!("GET {NOWHERE} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"));
        sent.then(|| wire.try_answer(false)).flatten()
    });
    let alive = alive.count();
    assert!((1..total).contains(&alive), "{alive} of the flood are left");
}

#[test]
fn every_connection_busy_turns_new_ones_away_until_one_is_not() {
    let fixture = spawn_with(|config| Plane::spawn_limited(config, |limits| limits.connections.total = 3));
    let mut busy: Vec<Wire> = (0..3)
        .map(|_| {
            let mut wire = Wire::connect(fixture.public);
            // The answer to the first request says that the second has been begun.
            let get = format!("GET {NOWHERE} HTTP/1.1\r\nHost: localhost\r\n\r\n");
            let post = format!(
                "POST {NOWHERE} HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n"
            );
            wire.send(get + &post);
            assert_eq!(wire.answer(false).status, 404);
            assert_eq!(wire.line(), "HTTP/1.1 100 Continue");
            assert_eq!(wire.line(), "");
            wire
        })
        .collect();
    let mut refused = Wire::connect(fixture.public);
    assert!(refused.is_closed());
    busy[0].send("a");
    assert_eq!(busy[0].answer(false).status, 404);
    assert_eq!(fixture.get(NOWHERE).status, 404);
}

#[test]
fn loopback_is_where_proxies_are_and_has_no_limit_of_its_own() {
    let fixture = Fixture::start();
    let mut wires: Vec<Wire> = (0..100).map(|_| Wire::connect(fixture.public)).collect();
    assert!(wires.iter_mut().all(|wire| wire.ask("GET", NOWHERE, &[], "").status == 404));
}

#[test]
fn one_who_takes_nothing_is_closed() {
    let fixture = spawn_with(|config| {
        Plane::spawn_limited(config, |limits| {
            limits.deadlines.stalled = SHORT;
            limits.requests_per_connection = u32::MAX;
        })
    });
    let mut wire = Wire::connect(fixture.public);
    let requests = format!("GET {NOWHERE} HTTP/1.1\r\nHost: localhost\r\n\r\n").repeat(200);
    let start = Instant::now();
    // Sends are taken until all buffers are full, both ways; then it ends.
    while wire.send(&requests) {
        assert!(start.elapsed() < PATIENCE * 3, "it is never closed");
    }
}

#[test]
fn tls_offers_http_1_1_alone_and_has_a_deadline() {
    let wish = || Wish { tls: true, ..Wish::default() };
    let fixture = Fixture::wish(wish(), |_| ());
    let (mut wire, agreed) = Wire::tls(fixture.public, &[b"h2", b"http/1.1"]).expect("a handshake");
    assert_eq!(agreed.as_deref(), Some(&b"http/1.1"[..]));
    assert_eq!(wire.ask("GET", NOWHERE, &[], "").status, 404);
    assert!(Wire::tls(fixture.public, &[b"h2"]).is_err());
    let (mut wire, agreed) = Wire::tls(fixture.admin, &[]).expect("a handshake");
    assert_eq!(agreed, None);
    assert_eq!(wire.ask("GET", "/healthz", &[], "").status, 200);
    assert!(fixture.plane().listening().iter().all(|(_, _, tls)| *tls));

    let spawn = |config| Plane::spawn_limited(config, |limits| limits.deadlines.handshake = SHORT);
    let fixture = Fixture::spawn(wish(), |_| (), spawn);
    let mut silent = Wire::connect(fixture.public);
    assert!(silent.is_closed());
}

#[test]
fn requests_sent_ahead_are_answered_in_their_order() {
    let fixture = Fixture::start();
    let mut wire = Wire::connect(fixture.public);
    wire.send(
        "POST /turn?service=stun HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nabcdeGET /nothing/is/here HTTP/1.1\r\nHost: \
         localhost\r\n\r\nDELETE /turn HTTP/1.1\r\nHost: localhost\r\n\r\n",
    );
    assert_eq!([(); 3].map(|()| wire.answer(false).status), [400, 404, 405]);
}

#[test]
fn stopping_ends_what_is_idle_at_once_and_what_is_busy_soon() {
    let mut fixture = Fixture::start();
    let mut idle = Wire::connect(fixture.public);
    assert_eq!(idle.ask("GET", NOWHERE, &[], "").status, 404);
    let mut busy = Wire::connect(fixture.public);
    busy.send(format!("POST {NOWHERE} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\nab"));
    assert_eq!(fixture.get(NOWHERE).status, 404);
    let start = Instant::now();
    fixture.stop_plane();
    assert!(start.elapsed() < PATIENCE / 2, "{:?}", start.elapsed());
    assert!(idle.is_closed() && busy.is_closed());
    assert!(TcpStream::connect(fixture.public).is_err(), "nobody listens any more");
    // The relay goes on.
    let mut caller = super::client::Caller::new(Via::Udp, fixture.udp);
    caller.echo();
}

#[test]
fn streams_and_sockets_end_with_the_plane() {
    let mut fixture = Fixture::wish(Wish { admin_socket: true, ..Wish::default() }, |_| ());
    let mut stream = Wire::connect(fixture.admin);
    stream.send("GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(stream.line(), "HTTP/1.1 200 OK");
    let (mut socket, _) = tungstenite::connect(format!("ws://{}/ws", fixture.public)).expect("a socket opens");
    let path = fixture.socket.clone().expect("it was wished for");
    assert_eq!(Wire::unix(&path).ask("GET", "/healthz", &[], "").status, 200);
    let start = Instant::now();
    fixture.stop_plane();
    assert!(start.elapsed() < PATIENCE / 2, "{:?}", start.elapsed());
    assert!(stream.is_closed() && socket.read().is_err());
    assert!(!path.exists());
}

#[test]
fn an_open_stream_is_not_idle() {
    let fixture = spawn_with(|config| Plane::spawn_limited(config, |limits| limits.deadlines.idle = IDLE));
    let mut stream = Wire::connect(fixture.admin);
    stream.send("GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(stream.line(), "HTTP/1.1 200 OK");
    let (mut socket, _) = tungstenite::connect(format!("ws://{}/ws", fixture.public)).expect("a socket opens");
    let mut idle = Wire::connect(fixture.public);
    assert!(idle.is_closed(), "their time would be over now");
    // One figure a second: three come after the time of an idle connection.
    let mut figures = 0;
    while figures < 3 {
        figures += usize::from(stream.line().starts_with("data:"));
    }
    let said = r#"{"cmd":"register","roomid":"room","clientid":"1"}"#;
    socket.send(tungstenite::Message::text(said)).expect("the socket is open");
    socket.send(tungstenite::Message::text("?")).expect("the socket is open");
    assert!(socket.read().expect("it answers").is_text());
}

#[test]
fn a_closed_connection_gives_its_place_back() {
    let fixture = spawn_with(|config| Plane::spawn_limited(config, |limits| limits.connections.total = 2));
    for _ in 0..20 {
        let mut wire = Wire::connect(fixture.public);
        assert_eq!(wire.ask("GET", NOWHERE, &[("Connection", "close")], "").status, 404);
        assert!(wire.is_closed());
    }
    wait_until("places are free", || fixture.get(NOWHERE).status == 404);
}
