//! IN-127: WebSockets in more pieces than one needs, and JSON in more depths. Masks, reserved bits, opcodes, pings and
//! lengths are in `collider_limits`.

use crate::collider::client::Talker;
use crate::collider::limits::frame;
use crate::fixture::{Fixture, Wire};
use crate::limits::NOWHERE;
use std::io::Write;
use tungstenite::Message;

/// A message in so many frames, the first of which has all the text.
fn pieces(text: &str, count: usize) -> Vec<u8> {
    let middle = frame(0x00, b"").repeat(count - 2);
    [frame(0x01, text.as_bytes()), middle, frame(0x80, b"")].concat()
}

const SEND: &str = r#"{"cmd":"send","msg":"in pieces"}"#;

#[test]
fn a_message_has_sixteen_frames_at_most() {
    let fixture = Fixture::start();
    let mut quiet = Talker::registered(fixture.public, "abc", "1");
    let mut talker = Talker::registered(fixture.public, "abc", "2");
    // Pings between the pieces are none of them, and each message has its own.
    let pinged = [frame(0x01, b"{\"cmd\":\"send\","), frame(0x89, b"?"), frame(0x80, b"\"msg\":\"pinged\"}")].concat();
    talker.raw().write_all(&[pieces(SEND, 16), pinged, pieces(SEND, 16)].concat()).expect("the socket is open");
    for heard in ["in pieces", "pinged", "in pieces"] {
        assert_eq!(quiet.hear().as_deref(), Ok(heard));
    }
    // What came whole before it is still heard.
    talker.raw().write_all(&[pieces(SEND, 2), pieces(SEND, 17)].concat()).expect("the socket is open");
    assert_eq!(talker.ended(), Some(1009));
    assert_eq!(quiet.drain(), ["in pieces"]);
}

#[test]
fn pieces_that_never_end_are_not_waited_for() {
    let fixture = Fixture::start();
    let mut talker = Talker::open(fixture.public);
    // One byte at a time, as it may come over the wire.
    for byte in [frame(0x01, b"{"), frame(0x00, b"").repeat(16)].concat() {
        if talker.raw().write_all(&[byte]).is_err() {
            break;
        }
    }
    assert_eq!(talker.ended(), Some(1009));
}

#[test]
fn pieces_are_counted_behind_the_body_of_a_handshake_and_by_tls_too() {
    let fixture = Fixture::wish(crate::fixture::Wish { tls: true, ..Default::default() }, |_| ());
    let (mut wire, _) = Wire::tls(fixture.public, &[b"http/1.1"]).expect("the handshake succeeds");
    wire.send(format!("{HANDSHAKE}Content-Length: 4\r\n\r\nbody"));
    assert_eq!(wire.answer(false).status, 101);
    wire.send(pieces(SEND, 17));
    // The frame that closes: 1009, no words.
    assert_eq!(wire.take(4), [0x88, 2, 0x03, 0xf1]);
    assert!(wire.is_closed());
}

/// A handshake, up to its last header.
pub const HANDSHAKE: &str = "GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

#[test]
fn what_only_looks_like_pieces_is_the_body_of_a_request() {
    let fixture = Fixture::start();
    let body = frame(0x00, b"").repeat(40);
    let head = format!("POST {NOWHERE} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n");
    let mut wire = Wire::connect(fixture.public);
    wire.send([format!("{head}Content-Length: {}\r\n\r\n", body.len()).as_bytes(), &body, &body].concat());
    let answer = wire.answer(false);
    assert_eq!((answer.status, answer.header("connection")), (404, Some("close")));
    assert_eq!(wire.try_answer(false), None);
}

#[test]
fn frames_sent_ahead_of_the_handshakes_answer_are_frames() {
    let fixture = Fixture::start();
    let mut wire = Wire::connect(fixture.public);
    wire.send([format!("{HANDSHAKE}\r\n").as_bytes(), &pieces(SEND, 200)].concat());
    assert_eq!(wire.answer(false).status, 101);
    assert!(wire.is_closed());
}

#[test]
fn json_on_a_socket_is_sixteen_deep_has_each_key_once_and_finite_numbers() {
    let fixture = Fixture::start();
    let deep = |depth: usize| format!(r#"{{"cmd":"?","x":{}1{}}}"#, "[".repeat(depth), "]".repeat(depth));
    let mut good = Talker::open(fixture.public);
    good.write(Message::text(deep(15)));
    assert_eq!(good.hear(), Err(crate::collider::client::UNEXPECTED.into()), "sixteen with the object around it");
    for (text, why) in [
        (deep(16), "values are nested 16 deep at most"),
        (deep(30_000), "values are nested 16 deep at most"),
        (r#"{"cmd":"send","cmd":"register"}"#.into(), "a key is there twice"),
        (r#"{"cmd":"?","x":{"a":1,"\u0061":1}}"#.into(), "a key is there twice"),
        (r#"{"cmd":"?","x":1e400}"#.into(), "number out of range"),
    ] {
        let mut talker = Talker::open(fixture.public);
        talker.write(Message::text(text));
        let (error, code) = talker.refused();
        assert!(error.starts_with(&format!("websocket.JSON.Receive error: {why}")), "{error}");
        assert_eq!(code, Some(1000));
    }
    good.register("abc", "1");
}
