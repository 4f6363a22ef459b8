//! What the internet sends to an HTTP port, row by row: the status or the close it gets, what becomes of its
//! connection, that it is counted, and that both parts serve on.
//!
//! Rows bear the ids of `docs/reliability.md`. What other files of this suite show already is not said again here.

#[path = "hostile/answers.rs"]
mod answers;
#[path = "hostile/crowds.rs"]
mod crowds;
#[path = "hostile/mutations.rs"]
mod mutations;
#[path = "hostile/sockets.rs"]
mod sockets;
#[path = "hostile/stalls.rs"]
mod stalls;

use super::fixture::{Answer, Fixture, Wire, Wish};
use super::limits::NOWHERE;
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

/// What must come of a connection's bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Outcome {
    /// This status; another request is answered on the same connection.
    Kept(u16),
    /// This status, and the end.
    Closed(u16),
    /// The end, perhaps with this status before: the parser behind gave up inside of a body.
    Ended(u16),
}
use Outcome::{Closed, Ended, Kept};

/// One row.
struct Row {
    id: &'static str,
    bytes: Vec<u8>,
    outcome: Outcome,
}

/// A request of this line and these headers, `Host` among them, and what follows them.
fn rows_of(id: &'static str, outcome: Outcome, rest: &[impl AsRef<[u8]>]) -> impl Iterator<Item = Row> {
    rest.iter().map(move |rest| {
        let head = format!("POST {NOWHERE} HTTP/1.1\r\nHost: localhost\r\n");
        Row { id, bytes: [head.as_bytes(), rest.as_ref()].concat(), outcome }
    })
}

/// A GET of these targets.
fn gets_of(id: &'static str, outcome: Outcome, targets: &[String]) -> impl Iterator<Item = Row> {
    targets.iter().map(move |target| {
        let bytes = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n").into_bytes();
        Row { id, bytes, outcome }
    })
}

/// Requests of these lines and headers, to the last byte.
fn whole(id: &'static str, outcome: Outcome, heads: &[&str]) -> impl Iterator<Item = Row> {
    heads.iter().map(move |head| Row { id, bytes: head.as_bytes().to_vec(), outcome })
}

fn rows() -> Vec<Row> {
    let chunked = |body: &str| format!("Transfer-Encoding: chunked\r\n\r\n{body}");
    let five = |headers: &str| format!("{headers}\r\nabcde");
    let long = |len: usize| format!("/.well-known/acme-challenge/{}", "a".repeat(len));
    let mut rows: Vec<Row> = Vec::new();
    rows.extend(gets_of("IN-112", Kept(404), &[long(500), long(0) + "-1", long(0) + "../../../etc/passwd"]));
    rows.extend(rows_of(
        "IN-113",
        Closed(400),
        &["Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n"]
            .map(five),
    ));
    rows.extend(rows_of(
        "IN-114",
        Closed(400),
        &[
            "Content-Length: 5\r\nContent-Length: 6\r\n",
            "Content-Length: 5\r\nContent-Length: 5\r\n",
            "Content-Length: +5\r\n",
            "Content-Length: 0x5\r\n",
            "Content-Length: 5 5\r\n",
            "Content-Length: 00000000000000000005x\r\n",
            "Content-Length: 99999999999999999999\r\n",
            "Content-Length: 18446744073709551615\r\n",
            "Content-Length: 9223372036854775808\r\n",
        ]
        .map(five),
    ));
    // White space around a value is no part of it (RFC 9110 §5.5).
    rows.extend(rows_of("IN-114", Kept(404), &[five("Content-Length: 5 \r\n"), five("Content-Length: 005\r\n")]));
    rows.extend(rows_of("IN-115", Kept(404), &[five("Content-Length: \t 5\r\n")]));
    let coded = |value: &str| format!("Transfer-Encoding:{value}\r\n\r\n0\r\n\r\n");
    rows.extend(rows_of(
        "IN-115",
        Closed(400),
        &[" xchunked", " chunked, identity", " identity", "\x0bchunked", " gzip", " chunked\r\nUpgrade: websocket"]
            .map(coded),
    ));
    rows.extend(rows_of("IN-115", Closed(404), &[" chunked", "  chunked", "\tCHUNKED \t"].map(coded)));
    let extended = format!("1;{}\r\na\r\n0\r\n\r\n", "e".repeat(1 << 20));
    rows.extend(rows_of(
        "IN-116",
        Ended(400),
        &["10000000000000000\r\na", "-1\r\n", "\r\n", "1;\0\nx\r\n"].map(chunked),
    ));
    rows.extend(rows_of("IN-116", Ended(400), &[chunked(&extended)]));
    // A length alone is not too long: what comes of it is.
    let declared = [chunked("10001\r\n"), chunked("FFFFFFFFFFFFFFFF\r\n")].map(|head| head + &"a".repeat(70_000));
    rows.extend(rows_of("IN-116", Closed(413), &declared));
    let headers: [&[u8]; 9] = [
        b"X: a\r\n folded\r\n\r\n",
        b"X: a\r\n\tfolded\r\n\r\n",
        b"X : a\r\n\r\n",
        b"X: a\nY: b\r\n\r\n",
        b"X: a\rY: b\r\n\r\n",
        b"X: a\0\r\n\r\n",
        b"X\x80: a\r\n\r\n",
        b"X\xc3\xa4: a\r\n\r\n",
        b"X\r\n\r\n",
    ];
    rows.extend(rows_of("IN-117", Closed(400), &headers));
    let many = "A: b\r\n".repeat(64) + "\r\n";
    rows.extend(rows_of("IN-118", Closed(431), &[many, format!("A: {}\r\n\r\n", "b".repeat(17 << 10))]));
    rows.extend(gets_of("IN-118", Closed(414), &[format!("/{}", "a".repeat(9 << 10))]));
    rows.extend(whole(
        "IN-120",
        Kept(421),
        &[
            "GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: localhost.evil.example:9641\r\n\r\n",
            "GET http://evil.example/metrics HTTP/1.1\r\nHost: evil.example\r\n\r\n",
        ],
    ));
    // Two names in one request are not one that is wrong, but none at all.
    rows.extend(whole("IN-120", Kept(400), &["GET http://evil.example/ HTTP/1.1\r\nHost: localhost\r\n\r\n"]));
    rows.extend(whole(
        "IN-120",
        Closed(400),
        &["GET / HTTP/1.1\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"],
    ));
    let paths = [
        "/..%2f..%2fetc/passwd",
        "/static/%00",
        "/%2e%2e/%2e%2e/etc/passwd",
        "//etc/passwd",
        "/./.",
        "/assets/..%5c..%5cCargo.toml",
        "/assets/%252e%252e/x",
        "/assets/style.css%00.html",
        "/%c0%ae%c0%ae/etc/passwd",
    ];
    rows.extend(gets_of("IN-123", Kept(404), &paths.map(String::from)));
    let declared = ["Content-Length: 65537\r\n\r\n", "Content-Length: 9223372036854775807\r\n\r\n"];
    rows.extend(rows_of("IN-124", Closed(413), &declared));
    rows.extend(rows_of("IN-124", Closed(413), &[format!("Content-Length: 65537\r\n\r\n{}", "a".repeat(65_537))]));
    rows.extend(rows_of("IN-124", Kept(404), &[format!("Content-Length: 65536\r\n\r\n{}", "a".repeat(65_536))]));
    rows
}

/// A connection to a part, by TLS or not.
fn connect(addr: SocketAddr, tls: bool) -> Wire {
    match tls {
        true => Wire::tls(addr, &[b"http/1.1"]).expect("the handshake succeeds").0,
        false => Wire::connect(addr),
    }
}

/// Asks for what anyone may have.
fn is_alive(wire: &mut Wire, part: &str) -> bool {
    let path = if part == "admin" { "/healthz" } else { "/robots.txt" };
    wire.ask("GET", path, &[], "").status == 200
}

/// How often this status was answered, by any route.
fn counted(fixture: &Fixture, tls: bool, status: u16) -> u64 {
    let scrape = connect(fixture.admin, tls).ask("GET", "/metrics", &[("Host", "localhost")], "");
    let code = format!("code=\"{status}\"");
    let lines = scrape.text().lines().filter(|line| line.starts_with("turnpike_http_requests_total{"));
    let figures =
        lines.filter(|line| line.contains(&code)).filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok());
    figures.sum()
}

fn check(row: &Row, wire: &mut Wire, part: &str) {
    let bytes = &row.bytes[..row.bytes.len().min(200)];
    let what = format!("{} at the {part} part: {}", row.id, bytes.escape_ascii());
    // The other side may have heard enough before the end.
    wire.send(&row.bytes);
    let answer: Option<Answer> = wire.try_answer(false);
    let status = answer.as_ref().map(|answer| answer.status);
    match row.outcome {
        Kept(wanted) => {
            assert_eq!(status, Some(wanted), "{what}");
            assert!(is_alive(wire, part), "{what}: the connection is kept");
        }
        Closed(wanted) => {
            assert_eq!(status, Some(wanted), "{what}");
            assert_eq!(
                answer.and_then(|answer| answer.header("connection").map(String::from)).as_deref(),
                Some("close"),
                "{what}"
            );
            assert_eq!(wire.try_answer(false), None, "{what}: the connection ends");
        }
        Ended(wanted) => {
            assert!(status.is_none_or(|status| status == wanted), "{what}: {status:?}");
            assert!(wire.is_closed(), "{what}: the connection ends");
        }
    }
}

#[test]
fn each_hostile_request_gets_its_answer_is_counted_and_changes_nothing() {
    let rows = rows();
    for tls in [false, true] {
        let fixture = Fixture::wish(Wish { tls, ..Wish::default() }, |_| ());
        for (part, addr) in [("public", fixture.public), ("admin", fixture.admin)] {
            for row in &rows {
                check(row, &mut connect(addr, tls), part);
            }
        }
        for status in [400, 404, 413, 414, 421, 431] {
            let is = |row: &&Row| matches!(row.outcome, Kept(wanted) | Closed(wanted) if wanted == status);
            let may = |row: &&Row| matches!(row.outcome, Ended(wanted) if wanted == status);
            let (sure, perhaps) = (rows.iter().filter(is).count() as u64, rows.iter().filter(may).count() as u64);
            let counted = counted(&fixture, tls, status);
            assert!(sure > 0 && (2 * sure..=2 * (sure + perhaps)).contains(&counted), "{status}: {counted} of {sure}");
        }
        for (part, addr) in [("public", fixture.public), ("admin", fixture.admin)] {
            assert!(is_alive(&mut connect(addr, tls), part), "the {part} part serves on");
        }
    }
}

#[test]
fn every_row_of_the_list_is_here_or_is_shown_elsewhere() {
    let elsewhere = [
        ("IN-119", include_str!("hostile/answers.rs"), "nothing_of_a_request_reaches_a_header_of_its_answer"),
        ("IN-121", include_str!("limits/names.rs"), "listed_origins_read_answers_and_no_others"),
        ("IN-122", include_str!("sessions.rs"), "a_username_is_text_whatever_it_looks_like"),
        ("IN-125", include_str!("hostile/crowds.rs"), "a_thousand_idle_connections_make_room_and_both_parts_answer"),
        ("IN-126", include_str!("admin.rs"), "a_source_that_guesses_tokens_is_locked_out_alone"),
        ("IN-127", include_str!("collider_limits.rs"), "frames_that_no_client_may_send_end_the_socket"),
        ("IN-128", include_str!("rooms.rs"), "a_source_joins_sixty_times_a_minute"),
        ("IN-129", include_str!("routes.rs"), "those_who_may_not_are_refused_everywhere"),
    ];
    let is_test = |text: &str, name: &str| text.contains(&format!("#[test]\nfn {name}()"));
    let shown = elsewhere.iter().filter(|(_, text, name)| is_test(text, name)).map(|(id, ..)| *id);
    let shown: BTreeSet<&str> = rows().iter().map(|row| row.id).chain(shown).collect();
    let all: Vec<String> = (112..=129).map(|number| format!("IN-{number}")).collect();
    assert_eq!(shown.into_iter().collect::<Vec<_>>(), all);
}

// IN-112, at the relay's own port.
#[test]
fn a_certificate_challenge_at_the_relays_port_gets_the_page_and_nothing_of_its_own_back() {
    let fixture = Fixture::start();
    for path in ["a".repeat(500), format!("{}%00-1", "../".repeat(100)), "-1".into()] {
        let mut stream = TcpStream::connect(fixture.tcp).expect("the relay accepts");
        let request = format!("GET /.well-known/acme-challenge/{path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("the relay reads");
        let mut page = String::new();
        stream.read_to_string(&mut page).expect("the page is text, and ends");
        assert!(page.starts_with("HTTP/1.1 200 OK\r\n") && page.contains("TURN server"), "{page}");
        assert!(!page.contains("Location") && !page.contains("acme") && !page.contains(&path), "{page}");
    }
    super::client::Caller::new(super::link::Via::Udp, fixture.udp).echo();
}
