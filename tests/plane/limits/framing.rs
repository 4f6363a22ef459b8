//! Requests that two parsers could read differently, and files where there are none.

use super::NOWHERE;
use crate::fixture::{Fixture, Wire, request};

/// A request that must never be carried out.
const SMUGGLED: &str = "GET /status HTTP/1.1\r\nHost: localhost\r\n\r\n";

#[test]
fn what_can_be_read_in_two_ways_is_refused_and_nothing_after_it_is_read() {
    let fixture = Fixture::start();
    for headers in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "Content-Length: 5\r\nContent-Length: 0\r\n",
        "Content-Length: 5\r\nContent-Length: 5\r\n",
        "Content-Length: 5, 5\r\n",
        "Content-Length: +5\r\n",
        "Content-Length: -5\r\n",
        "Content-Length: 5 5\r\n",
        "Content-Length: 0x5\r\n",
        "Content-Length: \r\n",
        "Content-Length: 5\x0b\r\n",
        "Content-Length : 5\r\n",
        "Content-Length: 18446744073709551616\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding : chunked\r\n",
        "Transfer-Encoding:\x0bchunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "X: a\r\n folded\r\n",
        "X: a\r\n\tfolded\r\n",
        "X: a\0b\r\n",
        "X: a\rb\r\n",
        "X: a\nContent-Length: 5\r\n",
        "X\r\n",
        ": x\r\n",
        "X y: z\r\n",
        "Host: other\r\n",
    ] {
        let mut wire = Wire::connect(fixture.public);
        wire.send(format!("POST {NOWHERE} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n0\r\n\r\n{SMUGGLED}"));
        let answer = wire.answer(false);
        assert_eq!((answer.status, &*answer.code()), (400, "bad_request"), "{}", headers.escape_debug());
        assert_eq!(answer.header("connection"), Some("close"));
        assert_eq!(wire.try_answer(false), None, "one answer: {}", headers.escape_debug());
    }
}

#[test]
fn what_is_no_request_is_refused() {
    let fixture = Fixture::start();
    for bytes in [
        "GET / HTTP/1.1\n\n",
        "\r\n\r\n",
        "\0",
        "GET /\r\n\r\n",
        "GET / HTTP/0.9\r\n\r\n",
        "GET / HTTP/2.0\r\nHost: localhost\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "GET  / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "GET /a b HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "GET /\u{fc} HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "GET /< HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "GET http:///a HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "CONNECT localhost:22 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "GET http://elsewhere.example/ HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "\x16\x03\x01\x02\0\x01\0\x01\u{fc}\x03\x03",
    ] {
        let mut wire = Wire::connect(fixture.public);
        wire.send(bytes);
        let answer = wire.answer(false);
        assert_eq!((answer.status, &*answer.code()), (400, "bad_request"), "{}", bytes.escape_debug());
    }
}

#[test]
fn what_never_reached_a_route_is_counted_too() {
    let fixture = Fixture::start();
    let counted = |code: u16| {
        let scrape = request(fixture.admin, "GET", "/metrics", &[], "");
        let name = format!("turnpike_http_requests_total{{route=\"other\",code=\"{code}\"}} ");
        let found = scrape.text().lines().find_map(|line| line.strip_prefix(&name)?.parse::<u64>().ok());
        found.unwrap_or_default()
    };
    assert_eq!((counted(400), counted(414)), (0, 0));
    let mut wire = Wire::connect(fixture.public);
    wire.send("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n");
    assert_eq!(wire.answer(false).status, 400);
    let mut wire = Wire::connect(fixture.public);
    wire.send("G".repeat(9000));
    assert_eq!(wire.answer(false).status, 414);
    assert_eq!((counted(400), counted(414)), (1, 1));
}

/// Numbers that look random and are the same each time.
pub fn draw(seed: &mut u64) -> usize {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    (*seed >> 16) as usize
}

#[test]
fn both_parsers_read_what_is_not_refused_in_the_same_way() {
    const BYTES: &[u8] = b"\r\n\0\t :;,/?#%*ahx09HTP<\"\\\x7f\x80\xff";
    let bases = [
        format!("GET {NOWHERE}?a=b HTTP/1.1\r\nHost: localhost\r\nA: b\r\n\r\n"),
        format!("POST {NOWHERE} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc"),
        format!("POST {NOWHERE} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n"),
    ];
    let fixture = Fixture::start();
    let mut seed = 0x5eed_5eed_5eed_5eed;
    let mut answered = 0;
    for round in 0..600 {
        let mut bytes = bases[round % bases.len()].clone().into_bytes();
        for _ in 0..1 + draw(&mut seed) % 3 {
            let (at, byte) = (draw(&mut seed) % bytes.len(), BYTES[draw(&mut seed) % BYTES.len()]);
            match draw(&mut seed) % 3 {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                _ => drop(bytes.remove(at)),
            }
        }
        let mut wire = Wire::connect(fixture.public);
        wire.send(&bytes);
        wire.finish();
        // An answer without our headers is one of the parser behind, which saw what it should not have.
        while let Some(answer) = wire.try_answer(false) {
            answered += 1;
            let is_ours = answer.header("content-security-policy").is_some();
            assert!(is_ours, "{} was answered {answer:?}", bytes.escape_ascii());
        }
    }
    assert!(answered > 300, "{answered} of 600 were answered");
}

#[test]
fn nothing_follows_chunks_or_an_upgrade_that_was_not_made() {
    let fixture = Fixture::start();
    for headers in ["Transfer-Encoding: chunked\r\n", "Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 5\r\n"] {
        let mut wire = Wire::connect(fixture.public);
        wire.send(format!("POST {NOWHERE} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n0\r\n\r\n{SMUGGLED}"));
        let answer = wire.answer(false);
        assert_eq!((answer.status, answer.header("connection")), (404, Some("close")), "{headers}");
        assert_eq!(wire.try_answer(false), None, "one answer: {headers}");
    }
}

#[test]
fn chunks_that_are_none_are_no_body() {
    let fixture = Fixture::start();
    for body in
        ["x\r\n", "-1\r\n", "5\r\nab", "2\r\nabc\r\n0\r\n\r\n", "fffffffffffffffff\r\n", "1;a\nb\r\nx\r\n0\r\n\r\n"]
    {
        let mut wire = Wire::connect(fixture.public);
        wire.send(format!("POST {NOWHERE} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n{body}"));
        // A body that only has not ended yet ends with the connection.
        wire.finish();
        let answer = wire.try_answer(false);
        assert!(answer.is_none_or(|answer| answer.status == 400), "{}", body.escape_debug());
    }
}

#[test]
fn there_is_no_way_out_of_the_table_of_files() {
    let fixture = Fixture::start();
    for path in [
        "/..",
        "/../Cargo.toml",
        "/%2e%2e/Cargo.toml",
        "/%2e%2e%2fCargo.toml",
        "/assets/../../Cargo.toml",
        "/assets/%2e%2e/%2e%2e/Cargo.toml",
        "/assets/..%2f..%2fmod.rs",
        "//etc/passwd",
        "//",
        "/%00",
        "/assets/%00",
        "/r/%00",
        "/r/..",
        "/r/%2e%2e",
        "/r/a%2fb",
    ] {
        for addr in [fixture.public, fixture.admin] {
            assert_eq!(request(addr, "GET", path, &[], "").status, 404, "{path}");
        }
    }
}
