//! HTTP and WebSocket under any bytes: heads, frames and JSON against plain readers, then a whole part of the plane, in
//! process, whose answers are read byte by byte. Body of the fuzz target `http_ws_step`.

use super::cut;
use super::plane::{self, Conversation};
use turnpike::http::frames::{FRAGMENTS_MAX, Frames};
use turnpike::http::head::{Framing, HEAD_MAX, HEADER_COUNT_MAX, Head, REQUEST_LINE_MAX, Scan};
use turnpike::http::{Part, json};

/// Longest part of a JSON text that an error about it may repeat, in bytes.
const ECHO_LEN_MAX: usize = 64;

/// A request that makes the connection a WebSocket.
pub const UPGRADE: &[u8] = b"GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// A byte of flags, a byte `n`, `n` lengths of pieces, then bytes. The flags' lower three bits say what they are: heads
/// (0), frames (1), JSON (2), requests to the public part (3), to the admin part (4), what follows an upgrade (5); with
/// 8 they come from a proxy that is believed, with 16 from this host.
pub fn http_ws_step(input: &[u8]) {
    let [flags, count, rest @ ..] = input else { return };
    let (lens, bytes) = rest.split_at(rest.len().min(usize::from(*count)));
    let pieces = cut(bytes, lens);
    match flags & 7 {
        0 => heads(bytes, &pieces),
        1 => frames(bytes, &pieces),
        2 => values(bytes),
        4 => converse(Part::Admin, *flags, bytes, &pieces),
        5 => {
            let all = [UPGRADE, bytes].concat();
            let pieces: Vec<&[u8]> = std::iter::once(UPGRADE).chain(pieces).collect();
            converse(Part::Public, *flags, &all, &pieces);
        }
        _ => converse(Part::Public, *flags, bytes, &pieces),
    }
}

/// One head after the other, as requests come.
fn heads(bytes: &[u8], pieces: &[&[u8]]) {
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        let found = Scan::default().go_on(rest);
        if at == 0 {
            let (mut scan, mut len, mut last) = (Scan::default(), 0, Ok(None));
            for piece in pieces {
                len += piece.len();
                last = scan.go_on(&bytes[..len]);
                if last != Ok(None) {
                    break;
                }
            }
            assert_eq!(last, found, "a head is the same however it comes");
        }
        if is_plain_request(rest) {
            assert!(matches!(found, Ok(Some(_))), "a plain request is refused: {found:?}");
        }
        match found {
            Ok(Some(head)) => {
                check_head(&rest[..head.len], head);
                let body = if let Framing::Length(len) = head.body { len } else { u64::MAX };
                at = usize::try_from(body).map_or(bytes.len(), |body| at.saturating_add(head.len).saturating_add(body));
            }
            Ok(None) => {
                assert!(rest.len() <= HEAD_MAX, "a head has an end");
                assert!(!rest.windows(4).any(|end| end == b"\r\n\r\n"), "the end was passed over");
                return;
            }
            Err(fault) => return assert!(fault.status().is_client_error()),
        }
    }
}

/// What was taken, read the plain way: by whole lines.
fn check_head(bytes: &[u8], head: Head) {
    assert!(head.len <= HEAD_MAX && !bytes.contains(&0));
    let text = String::from_utf8_lossy(bytes);
    let text = text.strip_suffix("\r\n\r\n").expect("a head ends with an empty line");
    let lines: Vec<&str> = text.split("\r\n").collect();
    assert!(lines.iter().all(|line| !line.is_empty() && !line.contains(['\r', '\n'])), "a line is a line");
    assert!(lines[0].len() <= REQUEST_LINE_MAX && lines.len() <= 1 + HEADER_COUNT_MAX);
    let is_old = lines[0].ends_with(" HTTP/1.0");
    assert!(is_old || lines[0].ends_with(" HTTP/1.1"));
    let fields: Vec<(String, &str)> = lines[1..]
        .iter()
        .map(|line| line.split_once(':').expect("a header has a colon"))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim_matches([' ', '\t'])))
        .collect();
    assert!(fields.iter().all(|(name, _)| !name.is_empty() && !name.contains([' ', '\t', '"', '(', ',', '/'])));
    let all =
        |wanted: &str| fields.iter().filter(|(name, _)| name == wanted).map(|(_, value)| *value).collect::<Vec<_>>();
    let (lengths, codings) = (all("content-length"), all("transfer-encoding"));
    assert!(all("host").len() == 1 || is_old && all("host").is_empty());
    let length = || lengths.first().map_or(Some(0), |length| length.parse().ok());
    assert!(lengths.len() <= 1 && lengths.iter().all(|length| length.bytes().all(|b| b.is_ascii_digit())));
    let words = |value: &str| value.split(',').any(|word| word.trim().eq_ignore_ascii_case("websocket"));
    let is_upgrade = all("upgrade").into_iter().any(words);
    match head.body {
        Framing::Chunks => {
            assert!(codings.len() == 1 && codings[0].eq_ignore_ascii_case("chunked"));
            assert!(lengths.is_empty() && !is_upgrade && !is_old);
        }
        Framing::Length(len) => assert!(codings.is_empty() && Some(len) == length() && !is_upgrade),
        Framing::Upgrade(len) => assert!(codings.is_empty() && Some(len) == length() && is_upgrade),
    }
}

/// Whether bytes begin with a request that nobody could take offence at.
fn is_plain_request(bytes: &[u8]) -> bool {
    let Some(end) = bytes.windows(4).position(|end| end == b"\r\n\r\n").filter(|end| *end < 2_000) else {
        return false;
    };
    let Ok(text) = std::str::from_utf8(&bytes[..end]) else { return false };
    let mut lines = text.split("\r\n");
    let first = lines.next().unwrap_or_default();
    let path = first.strip_prefix("GET ").and_then(|rest| rest.strip_suffix(" HTTP/1.1"));
    let is_name = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    let is_path = path.is_some_and(|path| path.starts_with('/') && path[1..].split('/').all(is_name));
    let rest: Vec<&str> = lines.collect();
    is_path
        && rest.len() <= 10
        && rest.iter().filter(|line| **line == "Host: a").count() == 1
        && rest.iter().filter(|line| **line != "Host: a").all(|line| {
            line.split_once(": ").is_some_and(|(name, value)| is_name(name) && name.starts_with("X-") && is_name(value))
        })
}

/// Frames counted by hand.
fn frames(bytes: &[u8], pieces: &[&[u8]]) {
    let expected = surplus(bytes);
    assert_eq!(Frames::after(0).go_on(bytes).err(), expected);
    let (mut frames, mut at) = (Frames::after(0), 0);
    for piece in pieces {
        if let Err(good) = frames.go_on(piece) {
            assert!(good <= piece.len());
            let start = expected.expect("in pieces there are not more frames than in one");
            // A head that began in an earlier piece is refused when it is whole.
            assert!(at + good == start || good == 0 && start < at, "{} is not {start}", at + good);
            return;
        }
        at += piece.len();
    }
    assert_eq!(expected, None, "in pieces there are not fewer frames than in one");
}

/// Where the frame begins that is one too many for its message.
fn surplus(bytes: &[u8]) -> Option<usize> {
    let (mut at, mut of_message) = (0_u64, 0);
    loop {
        let start = usize::try_from(at).ok().filter(|start| *start < bytes.len())?;
        let rest = &bytes[start..];
        let (first, second) = (rest[0], *rest.get(1)?);
        let (head, len) = match second % 128 {
            126 => (4, rest.get(2..4)?.iter().fold(0, |len, byte| len * 256 + u64::from(*byte))),
            127 => (10, rest.get(2..10)?.iter().fold(0, |len, byte| len * 256 + u64::from(*byte))),
            len => (2, u64::from(len)),
        };
        match first % 16 {
            0 => of_message += 1,
            1..=7 => of_message = 1,
            _ => {}
        }
        if of_message > FRAGMENTS_MAX && first % 16 < 8 {
            return Some(start);
        }
        let mask = if second >= 128 { 4 } else { 0 };
        at = at.checked_add(head)?.checked_add(mask)?.checked_add(len)?;
    }
}

/// JSON that is taken is JSON, no deeper than allowed, and loses nothing when it is read.
fn values(bytes: &[u8]) {
    let read = serde_json::from_slice::<serde_json::Value>(bytes);
    match json::check(bytes) {
        Ok(()) => {
            let value = read.expect("what is taken is JSON");
            assert!(depth(&value) <= json::DEPTH_MAX);
            let again = value.to_string();
            // A key that was there twice would be there once.
            assert_eq!(colons(&again), colons(&String::from_utf8_lossy(bytes)), "no key is lost");
            json::check(again.as_bytes()).expect("what was taken is taken again");
        }
        Err(error) => {
            assert!(json::read::<serde_json::Value>(bytes).is_err());
            let said = error.to_string();
            for echo in bytes.windows(ECHO_LEN_MAX).filter_map(|part| std::str::from_utf8(part).ok()) {
                assert!(!said.contains(echo), "the error repeats the text");
            }
            if let Ok(value) = read {
                assert!(depth(&value) > json::DEPTH_MAX || said.starts_with("a key is there twice"), "{said}");
            }
        }
    }
}

fn depth(value: &serde_json::Value) -> usize {
    match value {
        serde_json::Value::Array(values) => 1 + values.iter().map(depth).max().unwrap_or(0),
        serde_json::Value::Object(values) => 1 + values.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

/// Colons outside strings.
fn colons(text: &str) -> usize {
    let (mut inside, mut escaped, mut colons) = (false, false, 0);
    for c in text.chars() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = inside,
            '"' => inside = !inside,
            ':' if !inside => colons += 1,
            _ => {}
        }
    }
    colons
}

/// A part of the plane answers the same however the bytes come, and says nothing that it should not.
fn converse(part: Part, flags: u8, bytes: &[u8], pieces: &[&[u8]]) {
    let from = match flags & 24 {
        8 => plane::PROXY,
        16 => plane::LOCAL,
        _ => plane::STRANGER,
    };
    let whole = Conversation::hold(part, from, &[bytes]);
    let answers = whole.answers(bytes);
    let is_fault = |answer: &plane::Answer| answer.code == 500 && answer.is_problem || answer.code >= 600;
    assert!(!answers.iter().any(is_fault), "{answers:?}");
    // The admin part asks threads, which take their time.
    if part == Part::Public {
        whole.check_count(bytes, &answers);
        let again = Conversation::hold(part, from, pieces).answers(bytes);
        let codes = |answers: &[plane::Answer]| answers.iter().map(|answer| answer.code).collect::<Vec<_>>();
        let (again, answers) = (codes(&again), codes(&answers));
        // A body that was refused unread may end the connection, or be passed over if all of it has come.
        let shorter = again.len().min(answers.len());
        let is_cut = shorter > 0 && answers[shorter - 1] >= 400;
        assert!(again[..shorter] == answers[..shorter] && (again == answers || is_cut), "{again:?} is not {answers:?}");
    }
}
