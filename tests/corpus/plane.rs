//! A part of the plane without sockets, one conversation with it, and a plain reader of what it says.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, LazyLock};
#[cfg(test)]
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, duplex};
use turnpike::bus;
use turnpike::http::head::{Framing, Scan};
use turnpike::http::rehearsal::Rehearsal;
use turnpike::http::revocations::{Kept, Revocations, Revoked, RevokedId, Unkept};
use turnpike::http::{Config, Control, Live, Mint, Network, Part, Reloaded};
use turnpike::rooms;
use turnpike::turn::auth::Secret;

/// A client from anywhere.
pub const STRANGER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(198, 51, 100, 9)), 40_000);
/// A proxy that is believed.
pub const PROXY: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(203, 0, 113, 7)), 40_000);
/// Someone on this host.
pub const LOCAL: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 40_000);
/// An origin whose pages may call.
const ORIGIN: &str = "https://call.example.org";
/// What no answer may hold.
const SECRET: &str = "a-secret-that-nobody-is-told";
/// The key that may ask for credentials.
const API_KEY: &str = "an-api-key-of-the-corpus";
/// Bytes between the two ends.
const DUPLEX_LEN: usize = 64 << 10;
/// How often nothing new must have come before the client closes.
const QUIET: usize = 24;
/// How often the client looks for more before it gives up.
const LOOKS_MAX: usize = 200_000;

/// One runtime a thread: nothing in it outlives a conversation but what waits for the clock.
fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// All that a part said on one connection.
pub struct Conversation {
    said: Vec<u8>,
}

/// One answer as a client reads it.
#[derive(Debug)]
pub struct Answer {
    pub code: u16,
    /// It is an error as the plane says it, not as Collider's clients know it.
    pub is_problem: bool,
    /// The connection ends with it.
    is_last: bool,
}

impl Conversation {
    /// Sends pieces to a part where nobody is, one after the other, and hears all that it says.
    pub fn hold(part: Part, from: SocketAddr, pieces: &[&[u8]]) -> Self {
        let runtime = runtime();
        let said = runtime.block_on(async {
            let (client, server) = duplex(DUPLEX_LEN);
            let (mut reader, mut writer) = tokio::io::split(client);
            let rehearsal = Rehearsal::new(config(), part, |_| ());
            let serving = rehearsal.serve(server, from, SocketAddr::new(LOCAL.ip(), 8080));
            // What it owns is gone when it ends: then the server sees the end, too.
            let asking = async move {
                let mut said = Vec::new();
                for piece in pieces {
                    // A server that has closed takes no more.
                    let mut rest = *piece;
                    while !rest.is_empty() {
                        tokio::select! {
                            biased;
                            read = reader.read_buf(&mut said) => if matches!(read, Ok(0) | Err(_)) { return said },
                            sent = writer.write(rest) => match sent {
                                Ok(sent) => rest = &rest[sent..],
                                Err(_) => break,
                            },
                        }
                    }
                    tokio::task::yield_now().await;
                }
                if hear_until_quiet(&mut reader, &mut said).await {
                    // Nothing is lost by what can not be sent any more.
                    let _ = writer.shutdown().await;
                    let _ = reader.read_to_end(&mut said).await;
                }
                said
            };
            tokio::join!(serving, asking).1
        });
        // Threads that wait for something are left behind.
        runtime.shutdown_background();
        Conversation { said }
    }

    /// The answers, each whole and well formed, and then the frames of a WebSocket if it became one.
    pub fn answers(&self, asked: &[u8]) -> Vec<Answer> {
        let said = String::from_utf8_lossy(&self.said);
        assert!(!said.contains(SECRET), "a secret is told");
        let heads: Vec<bool> = requests(asked).into_iter().map(|request| request.is_head).collect();
        let (mut answers, mut rest) = (Vec::new(), &self.said[..]);
        while !rest.is_empty() {
            let (answer, after) = read_answer(rest, heads.get(answers.len()) == Some(&true));
            rest = after;
            match answer.code {
                100 => continue,
                101 => {
                    read_frames(rest);
                    rest = &[];
                }
                _ => {}
            }
            assert!(!answer.is_last || rest.is_empty(), "something is said after the last answer");
            answers.push(answer);
        }
        answers
    }

    /// There is an answer to each whole request, up to one after which the connection may end, and at most one more.
    pub fn check_count(&self, asked: &[u8], answers: &[Answer]) {
        let requests = requests(asked);
        let whole = requests.iter().filter(|request| request.is_whole).count();
        assert!(answers.len() <= whole + 1, "{} answers to {whole} requests", answers.len());
        let is_over = answers.last().is_some_and(|answer| answer.is_last || answer.code == 101);
        // Whoever speaks HTTP/1.0 expects the end, and a body that was refused unread is not always waited for.
        let may_end = |(request, answer): (&Request, &Answer)| request.is_old || request.has_body && answer.code >= 400;
        let may_be_over = is_over || requests.iter().zip(answers).any(may_end);
        assert!(may_be_over || answers.len() >= whole, "{} answers to {whole} requests", answers.len());
    }
}

/// Whether a part ends a connection whose client reads the last answer and goes on as if there were more to come.
#[cfg(test)]
pub fn leaves_who_never_closes(request: &[u8], linger: Duration, patience: Duration) -> bool {
    runtime().block_on(async {
        let (mut client, server) = duplex(DUPLEX_LEN);
        let rehearsal = Rehearsal::new(config(), Part::Public, |limits| limits.deadlines.linger = linger);
        client.write_all(request).await.expect("there is room");
        let served = rehearsal.serve(server, STRANGER, SocketAddr::new(LOCAL.ip(), 8080));
        let is_left = tokio::time::timeout(patience, served).await.is_ok();
        let mut said = Vec::new();
        client.read_buf(&mut said).await.expect("an answer");
        is_left && said.starts_with(b"HTTP/1.1 ")
    })
}

/// Reads until nothing new comes; false when the other side has closed.
async fn hear_until_quiet(reader: &mut (impl AsyncRead + Unpin), said: &mut Vec<u8>) -> bool {
    let mut quiet = 0;
    for _ in 0..LOOKS_MAX {
        tokio::select! {
            biased;
            read = reader.read_buf(said) => match read {
                Ok(0) | Err(_) => return false,
                Ok(_) => quiet = 0,
            },
            () = tokio::task::yield_now() => quiet += 1,
        }
        if quiet >= QUIET {
            return true;
        }
    }
    panic!("the server has no end of things to say");
}

/// A request as it lies in the stream.
struct Request {
    is_head: bool,
    /// It is HTTP/1.0.
    is_old: bool,
    has_body: bool,
    /// Its body is there too.
    is_whole: bool,
}

/// The requests of a stream, as far as they can be told apart.
fn requests(stream: &[u8]) -> Vec<Request> {
    let (mut requests, mut rest) = (Vec::new(), stream);
    while let Ok(Some(head)) = Scan::default().go_on(rest) {
        let is_head = rest.starts_with(b"HEAD ");
        let line = rest.split(|byte| *byte == b'\r').next().unwrap_or_default();
        let (is_old, has_body) = (line.ends_with(b"HTTP/1.0"), !matches!(head.body, Framing::Length(0)));
        let Framing::Length(body) = head.body else {
            requests.push(Request { is_head, is_old, has_body, is_whole: matches!(head.body, Framing::Upgrade(0)) });
            break;
        };
        let end =
            usize::try_from(body).ok().and_then(|body| head.len.checked_add(body)).filter(|end| *end <= rest.len());
        requests.push(Request { is_head, is_old, has_body, is_whole: end.is_some() });
        let Some(end) = end else { break };
        rest = &rest[end..];
    }
    requests
}

/// One answer at the front, and what follows it.
fn read_answer(bytes: &[u8], to_head: bool) -> (Answer, &[u8]) {
    let end = bytes.windows(4).position(|end| end == b"\r\n\r\n").expect("an answer has a whole head");
    let (head, mut rest) = (std::str::from_utf8(&bytes[..end]).expect("a head is text"), &bytes[end + 4..]);
    let mut lines = head.split("\r\n");
    let first = lines.next().expect("there is a first line");
    let code = first.strip_prefix("HTTP/1.1 ").or_else(|| first.strip_prefix("HTTP/1.0 "));
    let code: u16 = code.and_then(|code| code.get(..3)?.parse().ok()).unwrap_or_else(|| panic!("{first:?}"));
    let fields: Vec<(&str, &str)> = lines.map(|line| line.split_once(": ").unwrap_or((line, ""))).collect();
    let is_token = |name: &str| name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    assert!(fields.iter().all(|(name, value)| is_token(name) && !value.contains(['\r', '\n', '\0'])), "{head:?}");
    let all = |wanted: &str| -> Vec<&str> {
        fields.iter().filter(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| *value).collect()
    };
    let is_last = all("connection").iter().any(|value| value.eq_ignore_ascii_case("close"));
    let is_problem = all("content-type").first() == Some(&"application/problem+json");
    if code == 100 {
        return (Answer { code, is_problem, is_last }, rest);
    }
    // What the parser behind says by itself has none of these: nothing may come through to it that it refuses.
    for name in ["content-security-policy", "x-content-type-options", "referrer-policy"] {
        assert_eq!(all(name).len(), 1, "{name} is missing: {head:?}");
    }
    for origin in all("access-control-allow-origin") {
        assert!(origin == ORIGIN || origin == "*", "{origin:?} is not listed");
    }
    let lengths = all("content-length");
    assert!(lengths.len() <= 1, "{head:?}");
    if to_head || code == 204 || code == 304 || code == 101 {
        return (Answer { code, is_problem, is_last }, rest);
    }
    match (lengths.first(), all("transfer-encoding").first()) {
        (Some(len), None) => {
            let len: usize = len.parse().expect("a length is a number");
            assert!(len <= rest.len(), "a body is whole: {head:?}");
            rest = &rest[len..];
        }
        (None, Some(&"chunked")) => rest = read_chunks(rest),
        // To the end of the connection.
        (None, None) => rest = &[],
        _ => panic!("{head:?}"),
    }
    (Answer { code, is_problem, is_last }, rest)
}

/// What follows the last chunk; nothing if a stream was cut off by its reader.
fn read_chunks(mut rest: &[u8]) -> &[u8] {
    loop {
        let Some(end) = rest.windows(2).position(|end| end == b"\r\n") else { return &[] };
        let digits = std::str::from_utf8(&rest[..end]).expect("a chunk's length is text");
        let len = usize::from_str_radix(digits, 16).expect("a chunk's length is hexadecimal");
        let Some(after) = rest.get(end + 2 + len..) else { return &[] };
        let Some(after) = after.strip_prefix(b"\r\n") else { return &[] };
        rest = after;
        if len == 0 {
            return rest;
        }
    }
}

/// Frames of a server: whole messages in the clear, text that is JSON, and a reason to close that exists.
fn read_frames(mut bytes: &[u8]) {
    while let [first, second, rest @ ..] = bytes {
        let (len, rest) = match second {
            0..126 => (usize::from(*second), rest),
            126 => (usize::from(u16::from_be_bytes([rest[0], rest[1]])), &rest[2..]),
            127 => (u64::from_be_bytes(rest[..8].try_into().expect("eight bytes")) as usize, &rest[8..]),
            _ => panic!("a server masks nothing"),
        };
        let (payload, rest) = rest.split_at_checked(len).expect("a frame is whole");
        match first {
            0x81 => drop(serde_json::from_slice::<serde_json::Value>(payload).expect("a message is JSON")),
            0x88 => {
                let code = payload.first_chunk().map(|code| u16::from_be_bytes(*code));
                assert!(
                    code.is_none_or(|code| (1000..=1014).contains(&code) || (3000..5000).contains(&code)),
                    "{code:?}"
                );
            }
            0x89 | 0x8A => assert!(len <= 125),
            _ => panic!("a frame of kind {first:#x}"),
        }
        bytes = rest;
    }
    assert!(bytes.is_empty(), "a frame is whole");
}

fn config() -> Config {
    Config {
        binds: Vec::new(),
        admin_socket: None,
        workers: bus::Workers {
            mailboxes: Vec::new(),
            stats: Vec::new(),
            notices: bus::notices().1,
            listening: vec![("udp", SocketAddr::new(LOCAL.ip(), 3478))],
        },
        live: LIVE.clone(),
        control: Control {
            reload: Arc::new(|| Ok(Reloaded::default())),
            drain: Arc::new(|_| ()),
            resume: Arc::new(|| true),
            draining: Arc::new(|| None),
            revocations: Arc::new(Nobody),
            log_lines_lost: Arc::new(|| 0),
            reloads_refused: Arc::new(|| 0),
        },
    }
}

static LIVE: LazyLock<Arc<arc_swap::ArcSwap<Live>>> = LazyLock::new(|| {
    use sha2::Digest;
    Arc::new(arc_swap::ArcSwap::from_pointee(Live {
        realm: "example.org".into(),
        public_url: None,
        allowed_hosts: vec!["turn.example.org".into()],
        cors_origins: vec![ORIGIN.into()],
        trusted_proxies: vec![Network { ip: PROXY.ip(), prefix_len: 24 }],
        api_keys: vec![sha2::Sha256::digest(API_KEY).into()],
        username_required: false,
        open: false,
        mint: Some(Mint { secret: Secret::new(SECRET.as_bytes()), separator: ':', ttl_s: 3600, ttl_max_s: 86_400 }),
        uris: vec!["turn:192.0.2.7:3478?transport=udp".into()],
        test_uris: vec!["turn:192.0.2.7:3478?transport=udp".into()],
        token_key: [7; 32],
        rooms: Some(rooms::Limits::default()),
        ice_servers: Vec::new(),
        admin_token: None,
        settings: Vec::new(),
        certificate: None,
        coturn_names: true,
    }))
});

/// A list of the revoked that stays empty.
struct Nobody;

impl Revocations for Nobody {
    fn is_revoked(&self, _: &str) -> bool {
        false
    }

    fn list(&self) -> (Vec<RevokedId>, Kept) {
        (Vec::new(), Kept::Memory)
    }

    fn revoke(&self, _: RevokedId) -> Result<Revoked, Unkept> {
        Ok(Revoked { is_new: true, sessions_ended: 0, partial: false, kept: Kept::Memory })
    }

    fn restore(&self, _: &RevokedId) -> Result<bool, Unkept> {
        Ok(false)
    }
}
