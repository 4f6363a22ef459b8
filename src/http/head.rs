//! The head of a request as it comes, byte by byte: its limits, and the forms that two parsers
//! could read differently, which are refused (RFC 9112 §11.2).

use axum::http::{StatusCode, Uri};

/// Bytes of a request line.
pub const REQUEST_LINE_MAX: usize = 8 * 1024;
/// Bytes of all header lines together, their line ends counted.
pub const HEADERS_MAX: usize = 16 * 1024;
/// Header lines.
pub const HEADER_COUNT_MAX: usize = 64;
/// Largest length of a body that may be told: what every parser holds. The one behind keeps larger ones for itself.
const LENGTH_MAX: u64 = i64::MAX as u64;
/// Bytes of a whole head at most.
pub const HEAD_MAX: usize = REQUEST_LINE_MAX + HEADERS_MAX + 4;

/// Why a head is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is no HTTP/1.1, or could be read in two ways.
    Malformed(&'static str),
    /// The request line is too long.
    LineTooLong,
    /// There are too many headers, or too long ones.
    HeadersTooLarge,
    /// It did not come in time.
    TooSlow,
}

impl Fault {
    /// How it is answered.
    pub fn status(self) -> StatusCode {
        match self {
            Fault::Malformed(_) => StatusCode::BAD_REQUEST,
            Fault::LineTooLong => StatusCode::URI_TOO_LONG,
            Fault::HeadersTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Fault::TooSlow => StatusCode::REQUEST_TIMEOUT,
        }
    }
}

/// A head that may go to the parser.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Its bytes, with the empty line.
    pub len: usize,
    /// What follows it.
    pub body: Framing,
}

/// What follows a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// So many bytes, then another head.
    Length(u64),
    /// Chunks: the end is not ours to find, and nothing may follow it.
    Chunks,
    /// So many bytes, then perhaps another protocol; nothing else may follow.
    Upgrade(u64),
}

/// How far a head was read.
#[derive(Debug, Default)]
pub struct Scan {
    at: usize,
    line_start: usize,
    first_line_end: usize,
    lines: usize,
}

impl Scan {
    /// Reads on in a head that begins with `bytes`; the same as last time and more. `None`: it is not complete.
    pub fn go_on(&mut self, bytes: &[u8]) -> Result<Option<Head>, Fault> {
        while let Some(&byte) = bytes.get(self.at) {
            let after_cr = self.at > 0 && bytes[self.at - 1] == b'\r';
            match byte {
                0 => return Err(Fault::Malformed("a head has no zero bytes")),
                b'\n' if !after_cr => return Err(Fault::Malformed("a line ends with CR LF")),
                b'\n' => {
                    let line = &bytes[self.line_start..self.at - 1];
                    self.at += 1;
                    self.line_start = self.at;
                    if line.is_empty() && self.lines > 0 {
                        return Ok(Some(Head { len: self.at, body: framing(&bytes[..self.at])? }));
                    }
                    self.end_line(line)?;
                    continue;
                }
                _ if after_cr => return Err(Fault::Malformed("a CR is followed by LF")),
                _ => {}
            }
            self.at += 1;
            self.check_sizes(byte == b'\r')?;
        }
        Ok(None)
    }

    fn end_line(&mut self, line: &[u8]) -> Result<(), Fault> {
        if self.lines == 0 {
            self.first_line_end = self.at;
            check_request_line(line)?;
        } else if self.lines > HEADER_COUNT_MAX {
            return Err(Fault::HeadersTooLarge);
        }
        self.lines += 1;
        Ok(())
    }

    fn check_sizes(&self, at_end: bool) -> Result<(), Fault> {
        let line_len = self.at - self.line_start - usize::from(at_end);
        if self.lines == 0 && line_len > REQUEST_LINE_MAX {
            return Err(Fault::LineTooLong);
        }
        // The last line's own LF and the empty line are yet to come, and are not headers.
        if self.lines > 0 && self.at - self.first_line_end > HEADERS_MAX + usize::from(line_len == 0) {
            return Err(Fault::HeadersTooLarge);
        }
        Ok(())
    }
}

fn check_request_line(line: &[u8]) -> Result<(), Fault> {
    let bad = Err(Fault::Malformed("the first line is METHOD TARGET HTTP/1.1"));
    let mut parts = line.split(|b| *b == b' ');
    let (Some(method), Some(target), Some(version), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return bad;
    };
    let is_method = !method.is_empty() && method.iter().all(|b| is_token(*b));
    // A path, or the whole URL as to a proxy; never `host:port`, which is CONNECT's.
    let is_form = [&b"/"[..], b"http://", b"https://"].iter().any(|form| target.starts_with(form)) || target == b"*";
    let is_target = is_form && target.iter().all(u8::is_ascii_graphic) && Uri::try_from(target).is_ok();
    if is_method && is_target && matches!(version, b"HTTP/1.1" | b"HTTP/1.0") { Ok(()) } else { bad }
}

/// Reads the headers that say where the request ends.
fn framing(head: &[u8]) -> Result<Framing, Fault> {
    let mut lines = head.split(|b| *b == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let is_old = lines.next().is_some_and(|line| line.ends_with(b"HTTP/1.0"));
    let (mut hosts, mut length, mut chunked, mut upgrade) = (0, None, false, false);
    for line in lines.filter(|line| !line.is_empty()) {
        let (name, value) = field(line)?;
        if name.eq_ignore_ascii_case(b"host") {
            hosts += 1;
        } else if name.eq_ignore_ascii_case(b"content-length") {
            let len = parse_length(value).filter(|_| length.is_none());
            length = Some(len.ok_or(Fault::Malformed("Content-Length is one number, given once"))?);
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            if chunked || is_old || !value.eq_ignore_ascii_case(b"chunked") {
                return Err(Fault::Malformed("Transfer-Encoding is chunked, given once"));
            }
            chunked = true;
        } else if name.eq_ignore_ascii_case(b"upgrade") {
            // Others are offered by ordinary clients (`h2c`) and not taken up.
            upgrade |= value.split(|b| *b == b',').any(|word| word.trim_ascii().eq_ignore_ascii_case(b"websocket"));
        }
    }
    match (hosts, length) {
        (0, _) if !is_old => Err(Fault::Malformed("there is no Host")),
        (2.., _) => Err(Fault::Malformed("Host is given once")),
        (_, Some(_)) if chunked => Err(Fault::Malformed("Content-Length and Transfer-Encoding exclude each other")),
        (_, length) => match (chunked, upgrade) {
            (true, true) => Err(Fault::Malformed("chunks are not followed by another protocol")),
            (true, false) => Ok(Framing::Chunks),
            (false, true) => Ok(Framing::Upgrade(length.unwrap_or(0))),
            (false, false) => Ok(Framing::Length(length.unwrap_or(0))),
        },
    }
}

/// Name and value of a header line.
fn field(line: &[u8]) -> Result<(&[u8], &[u8]), Fault> {
    if line.starts_with(b" ") || line.starts_with(b"\t") {
        return Err(Fault::Malformed("a header stands on one line"));
    }
    let colon = line.iter().position(|b| *b == b':').ok_or(Fault::Malformed("a header has a colon"))?;
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    let is_value = value.iter().all(|b| *b == b'\t' || !b.is_ascii_control());
    if name.is_empty() || !name.iter().all(|b| is_token(*b)) || !is_value {
        return Err(Fault::Malformed("a header is NAME: VALUE"));
    }
    let is_space = |b: &u8| *b == b' ' || *b == b'\t';
    let start = value.iter().position(|b| !is_space(b)).unwrap_or(value.len());
    let end = value.iter().rposition(|b| !is_space(b)).map_or(start, |last| last + 1);
    Ok((name, &value[start..end]))
}

fn parse_length(value: &[u8]) -> Option<u64> {
    let digits = str::from_utf8(value).ok().filter(|text| text.bytes().all(|b| b.is_ascii_digit()))?;
    digits.parse().ok().filter(|len| *len <= LENGTH_MAX)
}

/// RFC 9110 §5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan(bytes: &[u8]) -> Result<Option<Head>, Fault> {
        let whole = Scan::default().go_on(bytes);
        let mut scan = Scan::default();
        let mut found = Ok(None);
        for len in 1..=bytes.len() {
            found = scan.go_on(&bytes[..len]);
            if found != Ok(None) {
                break;
            }
        }
        assert_eq!(found, whole, "byte by byte it is the same");
        whole
    }

    fn with(headers: &str) -> Result<Option<Framing>, Fault> {
        let head = format!("POST /a HTTP/1.1\r\nHost: a\r\n{headers}\r\n");
        scan(format!("{head}rest").as_bytes()).map(|found| {
            found.map(|found| {
                assert_eq!(found.len, head.len());
                found.body
            })
        })
    }

    #[test]
    fn what_follows_a_head_is_told_by_it() {
        assert_eq!(with(""), Ok(Some(Framing::Length(0))));
        assert_eq!(with("Content-Length: 5\r\n"), Ok(Some(Framing::Length(5))));
        assert_eq!(with("content-length:\t5 \r\n"), Ok(Some(Framing::Length(5))));
        assert_eq!(with("Transfer-Encoding: Chunked\r\n"), Ok(Some(Framing::Chunks)));
        assert_eq!(with("Upgrade: websocket\r\n"), Ok(Some(Framing::Upgrade(0))));
        assert_eq!(with("Upgrade: websocket\r\nContent-Length: 5\r\n"), Ok(Some(Framing::Upgrade(5))));
        assert_eq!(with("Upgrade: h2c,WebSocket\r\n"), Ok(Some(Framing::Upgrade(0))));
        assert_eq!(with("Upgrade: h2c\r\nContent-Length: 5\r\n"), Ok(Some(Framing::Length(5))));
        assert_eq!(with("Upgrade: h2c\r\nTransfer-Encoding: chunked\r\n"), Ok(Some(Framing::Chunks)));
        assert_eq!(scan(b"GET / HTTP/1.1\r\nHost: a\r\n"), Ok(None));
        assert_eq!(scan(b"GET / HTTP/1.0\r\n\r\n"), Ok(Some(Head { len: 18, body: Framing::Length(0) })));
    }

    #[test]
    fn what_two_parsers_could_read_differently_is_refused() {
        for headers in [
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
            "Content-Length: 5\r\nContent-Length: 6\r\n",
            "Content-Length: 5\r\nContent-Length: 5\r\n",
            "Content-Length: +5\r\n",
            "Content-Length: -5\r\n",
            "Content-Length: 0x5\r\n",
            "Content-Length: 5 5\r\n",
            "Content-Length: 5, 5\r\n",
            "Content-Length:\r\n",
            "Content-Length: 9223372036854775808\r\n",
            "Content-Length: 18446744073709551615\r\n",
            "Content-Length: 99999999999999999999\r\n",
            "Content-Length : 5\r\n",
            "Transfer-Encoding: chunked\r\nUpgrade: websocket\r\n",
            "Transfer-Encoding: gzip, chunked\r\n",
            "Transfer-Encoding: identity\r\n",
            "Transfer-Encoding: \x0bchunked\r\n",
            "Transfer-Encoding : chunked\r\n",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            "A: b\r\n c\r\n",
            " A: b\r\n",
            "A: b\0\r\n",
            "A: b\rc\r\n",
            "A: b\nC: d\r\n",
            "A\r\n",
            ": a\r\n",
            "A b: c\r\n",
            "A: \x7f\r\n",
            "Host: b\r\n",
        ] {
            assert!(matches!(with(headers), Err(Fault::Malformed(_))), "{}", headers.escape_debug());
        }
        for head in [
            "GET / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\nHost: a\n\n",
            "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET / HTTP/2.0\r\nHost: a\r\n\r\n",
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            "GET /\r\nHost: a\r\n\r\n",
            "GET a HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET h HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /< HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET http:///a HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n",
            "CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n",
            "G\x01T / HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /\x7f HTTP/1.1\r\nHost: a\r\n\r\n",
            "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
            "\x16\x03\x01\x02\x00",
        ] {
            assert!(matches!(scan(head.as_bytes()), Err(Fault::Malformed(_))), "{}", head.escape_debug());
        }
    }

    #[test]
    fn each_size_is_taken_and_one_more_is_not() {
        let line = |len: usize| format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(len - 14));
        assert!(scan(line(REQUEST_LINE_MAX).as_bytes()).is_ok_and(|head| head.is_some()));
        assert_eq!(scan(line(REQUEST_LINE_MAX + 1).as_bytes()), Err(Fault::LineTooLong));

        let headers = |len: usize| format!("GET / HTTP/1.1\r\nHost: a\r\nA: {}\r\n\r\n", "a".repeat(len - 14));
        let longest = headers(HEADERS_MAX);
        assert_eq!(longest.len(), "GET / HTTP/1.1\r\n".len() + HEADERS_MAX + 2);
        assert!(scan(longest.as_bytes()).is_ok_and(|head| head.is_some()));
        assert_eq!(scan(headers(HEADERS_MAX + 1).as_bytes()), Err(Fault::HeadersTooLarge));

        let count = |count: usize| format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "A: b\r\n".repeat(count - 1));
        assert!(scan(count(HEADER_COUNT_MAX).as_bytes()).is_ok_and(|head| head.is_some()));
        assert_eq!(scan(count(HEADER_COUNT_MAX + 1).as_bytes()), Err(Fault::HeadersTooLarge));
    }

    #[test]
    fn the_longest_head_fits_the_room_for_it() {
        let line = format!("GET /{} HTTP/1.1\r\n", "a".repeat(REQUEST_LINE_MAX - 14));
        let head = format!("{line}Host: a\r\nA: {}\r\n\r\n", "a".repeat(HEADERS_MAX - 14));
        assert_eq!(head.len(), HEAD_MAX);
        assert!(scan(head.as_bytes()).is_ok_and(|head| head.is_some()));
    }
}
