//! One TCP or TLS connection: bytes in, bytes out, both bounded.
//!
//! A connection holds no input but a frame and a record that are not whole yet, and no output
//! buffer while there is nothing to send. What must be dropped when the client does not read is
//! relayed data; answers are kept, up to a second limit at which the connection is given up.

mod tls;

use super::batch;
use super::lobby::{Place, Standing};
use crate::stats::CloseReason;
use crate::turn::{FiveTuple, Transport};
use mio::net::TcpStream;
use rustls::ServerConfig;
use std::io::{self, ErrorKind, Read, Write};
use std::sync::Arc;
use tls::{Session, Unsealed};

/// Output beyond which relayed data is dropped, in bytes.
pub const RELAYED_QUEUE_MAX: usize = 256 << 10;
/// Output beyond which the connection is given up, in bytes.
pub const QUEUE_MAX: usize = 1 << 20;
/// Bytes taken from a socket by one read.
const READ_MAX: usize = 64 << 10;
/// From accepting to the end of the TLS handshake, in milliseconds.
pub const HANDSHAKE_MS: u64 = 5_000;
/// From accepting or the handshake's end to the first whole message, in milliseconds.
pub const FIRST_MESSAGE_MS: u64 = 5_000;
/// From a frame's first byte to its last, in milliseconds.
pub const FRAME_MS: u64 = 10_000;
/// How long a connection may stay without an allocation, whatever it asks, in milliseconds.
pub const IDLE_MS: u64 = 30_000;
/// Longest frame, in bytes: what a slot takes.
pub const INPUT_MAX: usize = batch::CAPACITY;
/// Longest HTTP request head that is waited for, in bytes.
pub const HTTP_HEAD_MAX: usize = 8 << 10;

/// What is spoken on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speech {
    /// Nothing yet.
    Unknown,
    /// STUN and ChannelData.
    Stun,
    /// HTTP, by someone who came to the wrong door.
    Http,
}

/// What a read gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filled {
    /// Plaintext.
    Bytes {
        /// Bytes of it at the front of the scratch, with those kept from earlier reads.
        len: usize,
        /// Whether another read is of use now. If not, there will be an event before it is.
        more: bool,
    },
    /// Nothing more for now.
    Blocked,
    /// The end, clean or not.
    Closed,
}

/// Where a worker's connections are read to, one after the other.
#[derive(Default)]
pub struct Scratch {
    /// Plaintext: a partial frame and what follows it.
    pub plain: Vec<u8>,
    /// What is to be opened first, where TLS is spoken.
    records: Vec<u8>,
}

impl Scratch {
    /// Room for the longest frame and whatever one read may bring.
    pub fn new() -> Self {
        Scratch { plain: vec![0; INPUT_MAX + READ_MAX + tls::RECORD_MAX], records: vec![0; READ_MAX] }
    }
}

/// How sending went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flushed {
    /// Everything is out.
    Done,
    /// The socket takes no more for now.
    Blocked,
    /// The connection is broken.
    Broken,
}

/// Whether TLS may begin.
#[derive(Clone, Copy, Debug)]
pub enum Door<'a> {
    /// With this configuration.
    Open(&'a Arc<ServerConfig>),
    /// Not now: too many begin.
    Busy,
    /// There is no certificate.
    Closed,
}

/// The output has no room for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// One connection.
pub struct Connection {
    stream: TcpStream,
    tls: Option<Box<Session>>,
    /// The path; its transport is known once the first byte is.
    pub tuple: FiveTuple,
    /// How it is counted.
    pub place: Place,
    /// What is spoken.
    pub speech: Speech,
    /// Whether TLS is spoken is known.
    decided: bool,
    /// TLS is over; what it carried before that may have to be handled.
    over: bool,
    /// The start of a frame that is not whole.
    partial: Vec<u8>,
    /// What is to be sent, sealed where TLS is spoken.
    out: Vec<u8>,
    sent: usize,
    /// When it was accepted.
    pub opened_ms: u64,
    /// When it was known what is spoken, and a TLS handshake done.
    pub ready_ms: Option<u64>,
    /// When the first whole message came, or the last one while there was an allocation.
    heard_ms: Option<u64>,
    /// When the frame in `partial` began.
    partial_since_ms: u64,
    /// The other side sends no more, or the connection is broken: reading goes on to the end.
    pub ended: bool,
    /// The socket took no more, and no event has come since.
    pub blocked: bool,
    /// It is closed when its output is out.
    pub closing: bool,
    /// Why it will be, or is.
    close_reason: CloseReason,
    /// It stands on the list of connections with output.
    pub dirty: bool,
}

impl Connection {
    /// A connection that was just accepted.
    pub fn new(stream: TcpStream, tuple: FiveTuple, place: Place, now_ms: u64) -> Self {
        Connection {
            stream,
            tls: None,
            tuple,
            place,
            speech: Speech::Unknown,
            decided: false,
            over: false,
            partial: Vec::new(),
            out: Vec::new(),
            sent: 0,
            opened_ms: now_ms,
            heard_ms: None,
            ready_ms: None,
            partial_since_ms: now_ms,
            ended: false,
            blocked: false,
            closing: false,
            close_reason: CloseReason::Client,
            dirty: false,
        }
    }

    /// The socket, to register it.
    pub fn stream_mut(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    /// Whether it is not known yet if TLS is spoken, or the handshake is not done.
    pub fn is_unready(&self) -> bool {
        !self.decided || self.tls.as_ref().is_some_and(|session| session.is_handshaking())
    }

    /// Whether something waits to be sent.
    pub fn has_output(&self) -> bool {
        self.out.len() > self.sent
    }

    /// Bytes of memory for input that is not whole and for output that is not sent.
    pub fn held(&self) -> usize {
        self.partial.capacity() + self.out.capacity()
    }

    /// Whether a read is of use: it is not when the other side is only waited for to go.
    pub fn wants_input(&self) -> bool {
        !self.closing
    }

    /// Has it closed when its output is out. The first reason is the one that counts.
    pub fn close(&mut self, reason: CloseReason) {
        self.closing = true;
        if self.close_reason == CloseReason::Client {
            self.close_reason = reason;
        }
    }

    /// Why it is closed.
    pub fn close_reason(&self) -> CloseReason {
        self.close_reason
    }

    /// A whole message came. It gains a connection time only where there is an allocation:
    /// whoever has none can not stay by asking.
    pub fn hear(&mut self, now_ms: u64) {
        if self.heard_ms.is_none() || self.place.standing == Standing::Resident {
            self.heard_ms = Some(now_ms);
        }
    }

    /// Reads once and puts the plaintext behind what was kept, at the front of the scratch. The
    /// first byte decides about TLS, whatever the port; `door` is asked then.
    pub fn fill<'a>(&mut self, scratch: &mut Scratch, door: impl FnOnce() -> Door<'a>) -> Filled {
        if self.over {
            return Filled::Closed;
        }
        let Scratch { plain, records } = scratch;
        let kept = self.partial.len();
        plain[..kept].copy_from_slice(&self.partial);
        let room = match &self.tls {
            None => &mut plain[kept..kept + READ_MAX],
            Some(_) => &mut records[..],
        };
        let new = match self.stream.read(room) {
            Ok(0) => return Filled::Closed,
            Ok(new) => new,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                return Filled::Blocked;
            }
            Err(_) => return Filled::Closed,
        };
        if !std::mem::replace(&mut self.decided, true) && plain[0] == HANDSHAKE {
            records[..new].copy_from_slice(&plain[..new]);
            if !self.begin_tls(door()) {
                return Filled::Closed;
            }
        }
        let len = match &mut self.tls {
            None => kept + new,
            Some(session) => {
                let opened = session.open(&records[..new], &mut plain[kept..], &mut self.out);
                let unread = self.out.len() - self.sent > QUEUE_MAX;
                self.over = opened.over || unread;
                match (opened.broken, unread) {
                    (true, _) => self.close_reason = CloseReason::Tls,
                    (_, true) => self.close_reason = CloseReason::Unread,
                    _ => {}
                }
                kept + opened.len
            }
        };
        if self.speech == Speech::Unknown && len > 0 {
            self.speech = if plain[0].is_ascii_uppercase() { Speech::Http } else { Speech::Stun };
        }
        // A read that comes back short has emptied the socket, and what comes later makes an
        // event (epoll(7)). The end is no data: where it has been told of, it is read too.
        Filled::Bytes { len, more: new == READ_MAX || self.ended || self.over }
    }

    /// False when there is no certificate to begin with, or too many begin.
    fn begin_tls(&mut self, door: Door<'_>) -> bool {
        self.tuple.transport = Transport::Tls;
        self.tls = match door {
            Door::Open(config) => Session::new(config.clone()).ok().map(Box::new),
            Door::Busy | Door::Closed => None,
        };
        self.close_reason = match (&self.tls, door) {
            (Some(_), _) => return true,
            (None, Door::Busy) => CloseReason::HandshakeRate,
            (None, _) => CloseReason::Tls,
        };
        false
    }

    /// Keeps the start of a frame that is not whole until there is more of it. `moved_on` says
    /// that whole ones came before it.
    pub fn keep(&mut self, rest: &[u8], moved_on: bool, now_ms: u64) {
        if rest.is_empty() {
            // Not cleared: an idle connection holds no memory for it.
            self.partial = Vec::new();
            return;
        }
        if moved_on || self.partial.is_empty() {
            self.partial_since_ms = now_ms;
        }
        self.partial.clear();
        // Never twice as much as there is: strangers may have many of these.
        self.partial.reserve_exact(rest.len());
        self.partial.extend_from_slice(rest);
    }

    /// When it has to be looked at next; the error is what it took too long for.
    pub fn deadline(&self, has_allocation: bool, now_ms: u64) -> Result<u64, CloseReason> {
        let frame = (!self.partial.is_empty()).then_some((self.partial_since_ms + FRAME_MS, CloseReason::Slow));
        let patience = match (self.ready_ms, self.heard_ms) {
            (None, _) => (self.opened_ms + HANDSHAKE_MS, CloseReason::Unready),
            (Some(ready_ms), None) => (ready_ms + FIRST_MESSAGE_MS, CloseReason::Silent),
            // With an allocation the connection lives as long as that; the deadline only says
            // when to look again.
            (Some(_), Some(_)) if has_allocation => (now_ms + IDLE_MS, CloseReason::Idle),
            (Some(_), Some(heard_ms)) => (heard_ms + IDLE_MS, CloseReason::Idle),
        };
        let (next_ms, reason) = frame.into_iter().chain([patience]).min_by_key(|(at_ms, _)| *at_ms).unwrap_or(patience);
        if now_ms < next_ms { Ok(next_ms) } else { Err(reason) }
    }

    /// Queues a frame of several parts. Relayed data is refused before answers are. TLS carries
    /// one frame a record: some clients take what one read of TLS gives for one message.
    pub fn queue(&mut self, parts: &[&[u8]], relayed: bool, spare: &mut Vec<Vec<u8>>) -> Result<(), Full> {
        let len: usize = parts.iter().map(|part| part.len()).sum();
        let max = if relayed { RELAYED_QUEUE_MAX } else { QUEUE_MAX };
        if self.out.len() - self.sent + len > max {
            return Err(Full);
        }
        if self.out.capacity() == 0 {
            self.out = spare.pop().unwrap_or_default();
        }
        let at = self.out.len();
        for part in parts {
            self.out.extend_from_slice(part);
        }
        let Some(session) = &mut self.tls else { return Ok(()) };
        session.seal(&mut self.out, at).map_err(|Unsealed| {
            self.close(CloseReason::Tls);
            Full
        })
    }

    /// Sends what is queued, many frames a write.
    pub fn flush(&mut self, spare: &mut Vec<Vec<u8>>) -> Flushed {
        match self.send() {
            Ok(()) => {
                self.sent = 0;
                self.out.clear();
                let out = std::mem::take(&mut self.out);
                if (1..=SPARE_LEN_MAX).contains(&out.capacity()) && spare.len() < SPARES_MAX {
                    spare.push(out);
                }
                Flushed::Done
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.blocked = true;
                self.compact();
                Flushed::Blocked
            }
            Err(_) => Flushed::Broken,
        }
    }

    fn send(&mut self) -> io::Result<()> {
        while self.has_output() {
            match self.stream.write(&self.out[self.sent..])? {
                0 => return Err(ErrorKind::WriteZero.into()),
                len => self.sent += len,
            }
        }
        Ok(())
    }

    /// Forgets what was sent, when it is worth a copy.
    fn compact(&mut self) {
        if self.sent > self.out.len() / 2 {
            self.out.drain(..self.sent);
            self.sent = 0;
        }
    }

    /// Says goodbye: `close_notify` and FIN, as far as the socket takes them now.
    pub fn shut_down(&mut self) {
        if let Some(session) = &mut self.tls {
            session.close(&mut self.out);
            let _ = self.send();
        }
        let _ = self.stream.shutdown(std::net::Shutdown::Write);
    }
}

/// A TLS record of the handshake (RFC 8446 §5.1).
const HANDSHAKE: u8 = 0x16;
/// Output buffers that wait for their next connection.
const SPARES_MAX: usize = 64;
/// The longest of them, in bytes.
const SPARE_LEN_MAX: usize = 128 << 10;

/// The page for those who point a browser at the TURN port.
pub const HTTP_PAGE: &[u8] = b"HTTP/1.1 200 OK\r\n\
Content-Type: text/html; charset=utf-8\r\n\
Content-Length: 243\r\n\
Cache-Control: no-store\r\n\
Content-Security-Policy: default-src 'none'\r\n\
X-Content-Type-Options: nosniff\r\n\
Connection: close\r\n\r\n\
<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>TURN server</title></head>\n\
<body><h1>TURN server</h1>\n<p>This port speaks STUN and TURN, not HTTP. \
Put it into the ICE configuration of a WebRTC application.</p></body></html>\n";

#[cfg(test)]
mod tests {
    use super::super::lobby::Lobby;
    use super::*;
    use crate::turn::ClientAddr;
    use std::net::{Shutdown, TcpListener as StdListener, TcpStream as StdStream};

    /// A connection and the client's end of it.
    fn pair() -> (Connection, StdStream) {
        let listener = StdListener::bind("127.0.0.1:0").unwrap();
        let client = StdStream::connect(listener.local_addr().unwrap()).unwrap();
        let (stream, from) = listener.accept().unwrap();
        stream.set_nonblocking(true).unwrap();
        let server = stream.local_addr().unwrap();
        let tuple = FiveTuple { client: ClientAddr(from), server, transport: Transport::Tcp };
        let place = Lobby::new(Arc::default(), 1).admit(from.ip()).unwrap();
        (Connection::new(TcpStream::from_std(stream), tuple, place, 0), client)
    }

    /// What is read once there is something to read.
    fn fill(connection: &mut Connection, scratch: &mut Scratch) -> Filled {
        loop {
            match connection.fill(scratch, || Door::Closed) {
                Filled::Blocked => std::thread::yield_now(),
                filled => return filled,
            }
        }
    }

    #[test]
    fn the_page_is_as_long_as_it_says() {
        let text = std::str::from_utf8(HTTP_PAGE).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{}", body.len());
    }

    #[test]
    fn a_short_read_is_the_last_unless_the_end_is_known_of() {
        let ((mut connection, mut client), mut scratch) = (pair(), Scratch::new());
        client.write_all(b"abc").unwrap();
        assert_eq!(fill(&mut connection, &mut scratch), Filled::Bytes { len: 3, more: false });
        connection.keep(b"bc", true, 0);
        client.write_all(b"de").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        connection.ended = true;
        assert_eq!(fill(&mut connection, &mut scratch), Filled::Bytes { len: 4, more: true });
        assert_eq!(&scratch.plain[..4], b"bcde");
        assert_eq!(fill(&mut connection, &mut scratch), Filled::Closed);
    }

    #[test]
    fn a_full_read_is_not_the_last() {
        let ((mut connection, mut client), mut scratch) = (pair(), Scratch::new());
        let sender = std::thread::spawn(move || {
            client.write_all(&vec![7; 4 * READ_MAX]).unwrap();
            client
        });
        let mut taken = 0;
        while taken < 4 * READ_MAX {
            let Filled::Bytes { len, more } = fill(&mut connection, &mut scratch) else { panic!("it has ended") };
            assert_eq!(more, len == READ_MAX);
            taken += len;
        }
        sender.join().unwrap();
    }

    #[test]
    fn relayed_data_is_refused_before_answers_are() {
        let ((mut connection, _client), mut spare) = (pair(), Vec::new());
        let kib = [0; 1 << 10];
        let mut queue = |relayed, len: usize| connection.queue(&[&kib[..len]], relayed, &mut spare);
        for _ in 0..RELAYED_QUEUE_MAX / kib.len() {
            assert_eq!(queue(true, kib.len()), Ok(()));
        }
        assert_eq!(queue(true, 1), Err(Full));
        for _ in 0..(QUEUE_MAX - RELAYED_QUEUE_MAX) / kib.len() {
            assert_eq!(queue(false, kib.len()), Ok(()));
        }
        assert_eq!(queue(false, 1), Err(Full));
    }

    #[test]
    fn an_output_buffer_waits_for_its_next_use_if_it_is_short() {
        for (len, spares) in [(1, 1), (SPARE_LEN_MAX + 1, 0)] {
            let ((mut connection, mut client), mut spare) = (pair(), Vec::new());
            let reader = std::thread::spawn(move || client.read_exact(&mut vec![0; len]).unwrap());
            connection.queue(&[&vec![0; len]], false, &mut spare).unwrap();
            while connection.flush(&mut spare) == Flushed::Blocked {
                std::thread::yield_now();
            }
            reader.join().unwrap();
            assert_eq!((spare.len(), connection.out.capacity()), (spares, 0));
        }
    }

    #[test]
    fn a_frame_has_its_time_from_its_first_byte() {
        let (mut connection, _client) = pair();
        connection.ready_ms = Some(0);
        connection.hear(0);
        connection.keep(b"a", true, 1_000);
        connection.keep(b"ab", false, 9_000);
        assert_eq!(connection.deadline(true, 9_000), Ok(1_000 + FRAME_MS));
        assert_eq!(connection.deadline(true, 999 + FRAME_MS), Ok(1_000 + FRAME_MS));
        assert_eq!(connection.deadline(true, 1_000 + FRAME_MS), Err(CloseReason::Slow));
        connection.keep(b"c", true, 10_000);
        assert_eq!(connection.deadline(true, 10_000), Ok(10_000 + FRAME_MS));
        connection.keep(b"", true, 10_000);
        assert_eq!(connection.deadline(true, 10_000), Ok(10_000 + IDLE_MS));
        assert_eq!(connection.deadline(false, 10_000), Ok(IDLE_MS));
        assert_eq!(connection.deadline(false, IDLE_MS), Err(CloseReason::Idle));
    }

    #[test]
    fn each_step_has_its_time() {
        let (mut connection, _client) = pair();
        assert_eq!(connection.deadline(false, HANDSHAKE_MS - 1), Ok(HANDSHAKE_MS));
        assert_eq!(connection.deadline(false, HANDSHAKE_MS), Err(CloseReason::Unready));
        connection.ready_ms = Some(4_000);
        assert_eq!(connection.deadline(false, 4_000), Ok(4_000 + FIRST_MESSAGE_MS));
        assert_eq!(connection.deadline(false, 4_000 + FIRST_MESSAGE_MS), Err(CloseReason::Silent));
    }

    #[test]
    fn without_an_allocation_nobody_stays_by_asking() {
        let (mut connection, _client) = pair();
        connection.ready_ms = Some(0);
        for now_ms in (1_000..20_000).step_by(1_000) {
            connection.hear(now_ms);
        }
        assert_eq!(connection.deadline(false, 20_000), Ok(1_000 + IDLE_MS));
        connection.place.standing = Standing::Resident;
        connection.hear(25_000);
        assert_eq!(connection.deadline(true, 30_000), Ok(30_000 + IDLE_MS));
        assert_eq!(connection.deadline(false, 30_000), Ok(25_000 + IDLE_MS), "its allocation has ended");
    }
}
