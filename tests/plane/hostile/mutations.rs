//! Valid requests and valid frames with a few bytes changed: whatever comes of them is an answer that can be read, or
//! a close; never a hang, never an error of the server's own.
//!
//! A failing round prints its number and its bytes; every round is the same each time.

use crate::admin::{ROUTES, target};
use crate::collider::limits::frame;
use crate::fixture::{API_KEY, Answer, Fixture, PATIENCE, Wire, Wish};
use crate::limits::framing::draw;
use crate::routes::ANONYMOUS;
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use std::{io::Write, thread};
use tungstenite::protocol::{Role, WebSocket};
use turnpike::http::Plane;

const ROUNDS: usize = 2000;
/// Rounds that are of WebSockets' frames.
const FRAME_ROUNDS: usize = 600;
/// Threads that do the rounds: most of a round is waiting.
const THREADS: usize = 16;
/// What requests are made of.
const WORDS: &[&str] = &[
    "\r\n",
    "\r\n\r\n",
    "\0",
    " ",
    "\t",
    ":",
    ";",
    ",",
    "/",
    "//",
    "..",
    "%00",
    "%2e",
    "%",
    "?",
    "#",
    "&",
    "=",
    "\"",
    "{",
    "}",
    "[",
    "\\",
    "\x7f",
    "\u{80}",
    "\u{ffff}",
    "0",
    "-1",
    "99999999999999999999",
    "HTTP/1.0",
    "HTTP/2",
    "HEAD",
    "POST",
    "chunked",
    "Content-Length: 3\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Connection: close\r\n",
    "Upgrade: websocket\r\n",
    "Host: evil.example\r\n",
    "Authorization: Bearer x\r\n",
    "Expect: 100-continue\r\n",
    "ffffffffffffffff\r\n",
];

/// Every route of both parts, asked as it should be.
fn requests() -> Vec<(bool, String)> {
    let bearer = format!("Host: localhost\r\nAuthorization: Bearer {API_KEY}\r\n");
    let with = |line: &str, body: &str| {
        format!(
            "{line} HTTP/1.1\r\n{bearer}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    let mut all = Vec::new();
    for route in ANONYMOUS {
        let path = route
            .replace("{name}", "style.css")
            .replace("{room}", "abc")
            .replace("{client}", "1")
            .replace("{*path}", "abc/1");
        all.push((false, with(&format!("GET {path}?debug=loopback&lang=de"), "")));
        all.push((false, with(&format!("POST {path}"), "a message of some words")));
    }
    let body = r#"{"user":"alice","ttl":60,"allocations":2}"#;
    all.push((false, with("POST /v1/credentials", body)));
    all.push((
        false,
        format!("POST /v1/credentials HTTP/1.1\r\n{bearer}Transfer-Encoding: chunked\r\n\r\n29\r\n{body}\r\n0\r\n\r\n"),
    ));
    all.extend(
        ["/turn?service=turn&username=bob&ttl=60", "/v1alpha/iceconfig", "/v1/test"]
            .map(|path| (false, with(&format!("GET {path}"), ""))),
    );
    let handshake = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    all.push((false, format!("GET /ws HTTP/1.1\r\n{bearer}{handshake}\r\n")));
    // A stream of events does not end by itself.
    for (method, route) in ROUTES.iter().filter(|(_, route)| !route.ends_with("/events")) {
        let body = if (*method, *route) == ("POST", "/api/v1/revocations") { r#"{"id":"mallory"}"# } else { "" };
        all.push((true, with(&format!("{method} {}", target(method, route)), body)));
    }
    all.extend(["/", "/healthz", "/readyz", "/assets/console.js"].map(|path| (true, with(&format!("GET {path}"), ""))));
    all
}

/// Changes a few places: a bit, a byte, a word, a piece that is cut out, doubled, or moved.
fn mutate(bytes: &mut Vec<u8>, seed: &mut u64) {
    for _ in 0..1 + draw(seed) % 4 {
        if bytes.is_empty() {
            return;
        }
        // As often in the first line, or the first frames, as anywhere.
        let within = if draw(seed).is_multiple_of(2) { bytes.len() } else { bytes.len().min(48) };
        let at = draw(seed) % within;
        let piece = at..(at + 1 + draw(seed) % 24).min(bytes.len());
        let word = WORDS[draw(seed) % WORDS.len()].as_bytes();
        match draw(seed) % 8 {
            0 => bytes[at] ^= 1 << (draw(seed) % 8),
            1 => bytes[at] = draw(seed) as u8,
            2 => drop(bytes.splice(at..at, word.iter().copied())),
            3 => drop(bytes.splice(piece, word.iter().copied())),
            4 => drop(bytes.drain(piece)),
            5 => {
                let doubled = bytes[piece].to_vec();
                drop(bytes.splice(at..at, doubled));
            }
            6 => {
                let moved: Vec<u8> = bytes.drain(piece).collect();
                let to = draw(seed) % (bytes.len() + 1);
                drop(bytes.splice(to..to, moved));
            }
            _ => bytes.truncate(at),
        }
    }
}

/// A fault of the server, but for what Collider and a server that drains say with such a status.
fn is_own_fault(answer: &Answer) -> bool {
    let said = String::from_utf8_lossy(&answer.body);
    let in_order =
        ["Failed to send the message", "Empty request body", "Invalid path: ", "Failed to read request body"];
    answer.status >= 500 && !in_order.iter().any(|words| said.starts_with(words)) && !said.contains("draining")
}

/// Sends the bytes and reads to the end; false when nothing was answered.
fn try_request(addr: SocketAddr, from: IpAddr, bytes: &[u8], ends: bool, what: &str) -> bool {
    let mut wire = Wire::connect_from(from, addr);
    wire.send(bytes);
    if ends {
        wire.finish();
    }
    let mut is_answered = false;
    // The end of an answer to HEAD is not told by its headers.
    if bytes.windows(4).any(|word| word == b"HEAD") {
        assert!(wire.is_closed(), "{what}");
        return false;
    }
    while let Some(answer) = wire.try_answer(false) {
        is_answered = true;
        if answer.status == 100 {
            continue;
        }
        assert!(!is_own_fault(&answer), "{what}: {answer:?}");
        if answer.status == 101 {
            assert!(wire.is_closed(), "{what}");
            break;
        }
        assert!(answer.header("content-security-policy").is_some(), "{what}: {answer:?}");
    }
    is_answered
}

/// Frames of a client that joins and talks.
fn frames() -> Vec<u8> {
    let said = [
        frame(0x81, br#"{"cmd":"register","roomid":"abc","clientid":"1"}"#),
        frame(0x01, br#"{"cmd":"send","#),
        frame(0x89, b"ping"),
        frame(0x80, br#""msg":"hello"}"#),
        frame(0x82, &[br#"{"cmd":"send","msg":""#.as_slice(), &[b'a'; 300], b"\"}"].concat()),
        frame(0x88, &[0x03, 0xe8]),
    ];
    said.concat()
}

/// Opens a socket, sends the bytes, and reads what the server says of them: frames that can be read, and an end.
fn try_frames(addr: SocketAddr, bytes: &[u8], what: &str) {
    let mut stream = TcpStream::connect(addr).expect("the plane accepts");
    stream.set_read_timeout(Some(PATIENCE)).expect("TCP takes its options");
    let client = tungstenite::client(format!("ws://{addr}/ws"), stream.try_clone().expect("one more file"));
    drop(client.expect("the handshake succeeds"));
    // The other side may have heard enough before the end.
    let _ = stream.write_all(bytes).and_then(|()| stream.shutdown(Shutdown::Write));
    let mut socket = WebSocket::from_raw_socket(stream, Role::Client, None);
    loop {
        match socket.read() {
            Ok(_) => {}
            Err(tungstenite::Error::Io(error)) => {
                let waits = [std::io::ErrorKind::WouldBlock, std::io::ErrorKind::TimedOut].contains(&error.kind());
                break assert!(!waits, "{what}: it hangs");
            }
            Err(tungstenite::Error::ConnectionClosed | tungstenite::Error::AlreadyClosed) => break,
            Err(tungstenite::Error::Protocol(error)) => {
                break assert!(error.to_string().contains("closing handshake"), "{what}: {error}");
            }
            Err(error) => panic!("{what}: the server's frame can not be read: {error}"),
        }
    }
}

/// Counts the panics of planes: a connection that ends by one looks like any other that ends.
fn count_panics() -> &'static AtomicUsize {
    static PANICS: AtomicUsize = AtomicUsize::new(0);
    let others = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if thread::current().name() == Some("http") {
            PANICS.fetch_add(1, Ordering::SeqCst);
        }
        others(panic);
    }));
    &PANICS
}

#[test]
fn two_thousand_changed_requests_and_frames_get_an_answer_or_an_end() {
    let short = Duration::from_millis(100);
    let fixture = Fixture::spawn(
        Wish::default(),
        |_| (),
        |config| {
            Plane::spawn_limited(config, |limits| {
                (limits.deadlines.head, limits.deadlines.body, limits.deadlines.idle) = (short, short, short);
            })
        },
    );
    let panics = count_panics();
    let (requests, frames) = (requests(), frames());
    assert!(requests.len() > 50, "{} requests", requests.len());
    let (public, admin) = (fixture.public, fixture.admin);
    let round = |number: usize| {
        let mut seed = 0x9e37_79b9_7f4a_7c15 ^ (number as u64 + 1).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        if number < FRAME_ROUNDS {
            let mut bytes = frames.clone();
            mutate(&mut bytes, &mut seed);
            try_frames(public, &bytes, &format!("round {number}: {}", bytes.escape_ascii()));
            return false;
        }
        let (is_admin, request) = &requests[number % requests.len()];
        let mut bytes = request.clone().into_bytes();
        mutate(&mut bytes, &mut seed);
        // Each comes from a source of its own: one is not locked out for the guesses of another.
        let from = IpAddr::from([127, 9, (number >> 8) as u8, number as u8]);
        let what = format!("round {number}: {}", bytes.escape_ascii());
        try_request(if *is_admin { admin } else { public }, from, &bytes, number.is_multiple_of(2), &what)
    };
    let answered: usize = thread::scope(|scope| {
        let work = |thread| move || (thread..ROUNDS).step_by(THREADS).filter(|number| round(*number)).count();
        let threads: Vec<_> = (0..THREADS).map(|thread| scope.spawn(work(thread))).collect();
        threads.into_iter().map(|thread| thread.join().expect("no round fails")).sum()
    });
    assert_eq!(panics.load(Ordering::SeqCst), 0);
    assert!(answered > (ROUNDS - FRAME_ROUNDS) / 2, "{answered} were answered");
    for (addr, path) in [(public, "/robots.txt"), (public, "/r/room"), (admin, "/healthz"), (admin, "/metrics")] {
        assert_eq!(crate::fixture::request(addr, "GET", path, &[], "").status, 200, "{path}");
    }
}
