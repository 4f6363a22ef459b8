//! One TCP or TLS connection: bytes in, bytes out, both bounded.
//!
//! A connection holds no input but a frame that is not whole yet, and no output buffer while
//! there is nothing to send. What must be dropped when the client does not read is relayed
//! data; answers are kept, up to a second limit at which the connection is given up.

use super::batch;
use crate::turn::{FiveTuple, Transport};
use crate::wire::channel::ChannelRange;
use crate::wire::stream::{Next, next_frame};
use mio::net::TcpStream;
use rustls::{ServerConfig, ServerConnection};
use std::io::{self, ErrorKind, Read, Write};
use std::sync::Arc;

/// Output beyond which relayed data is dropped, in bytes.
pub const RELAYED_QUEUE_MAX: usize = 256 << 10;
/// Output beyond which the connection is given up, in bytes.
pub const QUEUE_MAX: usize = 1 << 20;
/// Plaintext handed to TLS before it is written out, in bytes; the last frame may go beyond.
const TLS_ROUND: usize = 32 << 10;
/// What TLS may buffer, in bytes: a round, a longest frame, and their records' overhead.
const TLS_BUFFER_MAX: usize = 256 << 10;
/// From accepting to the end of the TLS handshake, in milliseconds.
pub const HANDSHAKE_MS: u64 = 5_000;
/// From accepting or the handshake's end to the first whole message, in milliseconds.
pub const FIRST_MESSAGE_MS: u64 = 5_000;
/// From a frame's first byte to its last, in milliseconds.
pub const FRAME_MS: u64 = 10_000;
/// How long a connection may stay without an allocation, in milliseconds.
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
    /// So many bytes of plaintext.
    Bytes(usize),
    /// Nothing more for now.
    Blocked,
    /// The end, clean or not.
    Closed,
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

/// The output has no room for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// One connection.
pub struct Connection {
    stream: TcpStream,
    tls: Option<Box<ServerConnection>>,
    /// The path; its transport is known once the first byte is.
    pub tuple: FiveTuple,
    /// What is spoken.
    pub speech: Speech,
    decided: bool,
    /// The start of a frame that is not whole.
    pub partial: Vec<u8>,
    out: Vec<u8>,
    sent: usize,
    /// When it was accepted.
    pub opened_ms: u64,
    /// When it was known what is spoken, and a TLS handshake done.
    pub ready_ms: Option<u64>,
    /// When the last whole message came.
    pub heard_ms: Option<u64>,
    /// When the frame in `partial` began.
    pub partial_since_ms: u64,
    /// It is closed when its output is out.
    pub closing: bool,
    /// It stands on the list of connections with output.
    pub dirty: bool,
}

impl Connection {
    /// A connection that was just accepted.
    pub fn new(stream: TcpStream, tuple: FiveTuple, now_ms: u64) -> Self {
        Connection {
            stream,
            tls: None,
            tuple,
            speech: Speech::Unknown,
            decided: false,
            partial: Vec::new(),
            out: Vec::new(),
            sent: 0,
            opened_ms: now_ms,
            heard_ms: None,
            ready_ms: None,
            partial_since_ms: now_ms,
            closing: false,
            dirty: false,
        }
    }

    /// The socket, to register it.
    pub fn stream_mut(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    /// Whether a TLS handshake is under way.
    pub fn is_handshaking(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.is_handshaking())
    }

    /// Whether it is not known yet if TLS is spoken, or the handshake is not done.
    pub fn is_unready(&self) -> bool {
        !self.decided || self.is_handshaking()
    }

    /// Whether a read is of use: it is not when the other side is only waited for to go.
    pub fn wants_input(&self) -> bool {
        !self.closing
    }

    /// Reads plaintext into `room`. The first byte decides about TLS, whatever the port.
    pub fn fill(&mut self, room: &mut [u8], tls: Option<&Arc<ServerConfig>>) -> Filled {
        if !self.decided {
            match self.decide(tls) {
                Some(filled) => return filled,
                None => self.decided = true,
            }
        }
        match &mut self.tls {
            None => filled(self.stream.read(room)),
            Some(tls) => fill_tls(tls, &mut self.stream, room),
        }
    }

    fn decide(&mut self, config: Option<&Arc<ServerConfig>>) -> Option<Filled> {
        /// A TLS record of the handshake (RFC 8446 §5.1).
        const HANDSHAKE: u8 = 0x16;
        let mut first = [0];
        match self.stream.peek(&mut first) {
            Ok(0) => Some(Filled::Closed),
            Ok(_) if first[0] != HANDSHAKE => None,
            Ok(_) => {
                let Some(mut tls) = config.and_then(|config| ServerConnection::new(config.clone()).ok()) else {
                    return Some(Filled::Closed);
                };
                tls.set_buffer_limit(Some(TLS_BUFFER_MAX));
                self.tls = Some(Box::new(tls));
                self.tuple.transport = Transport::Tls;
                None
            }
            Err(error) => Some(filled(Err(error))),
        }
    }

    /// Queues a frame of several parts. Relayed data is refused before answers are.
    pub fn queue(&mut self, parts: &[&[u8]], relayed: bool, spare: &mut Vec<Vec<u8>>) -> Result<(), Full> {
        let len: usize = parts.iter().map(|part| part.len()).sum();
        let max = if relayed { RELAYED_QUEUE_MAX } else { QUEUE_MAX };
        if self.out.len() - self.sent + len > max {
            return Err(Full);
        }
        if self.out.capacity() == 0 {
            self.out = spare.pop().unwrap_or_default();
        }
        for part in parts {
            self.out.extend_from_slice(part);
        }
        Ok(())
    }

    /// Sends what is queued, many frames a write.
    pub fn flush(&mut self, spare: &mut Vec<Vec<u8>>) -> Flushed {
        let result = match &mut self.tls {
            None => flush_plain(&mut self.stream, &self.out, &mut self.sent),
            Some(tls) => flush_tls(tls, &mut self.stream, &self.out, &mut self.sent),
        };
        match result {
            Ok(()) => {
                self.sent = 0;
                self.out.clear();
                let out = std::mem::take(&mut self.out);
                if out.capacity() > 0 && spare.len() < SPARES_MAX {
                    spare.push(out);
                }
                Flushed::Done
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.compact();
                Flushed::Blocked
            }
            Err(_) => Flushed::Broken,
        }
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
        if let Some(tls) = &mut self.tls {
            tls.send_close_notify();
            let _ = tls.write_tls(&mut self.stream);
        }
        let _ = self.stream.shutdown(std::net::Shutdown::Write);
    }
}

/// Output buffers that wait for their next connection.
const SPARES_MAX: usize = 64;

fn filled(result: io::Result<usize>) -> Filled {
    match result {
        Ok(0) => Filled::Closed,
        Ok(len) => Filled::Bytes(len),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Filled::Blocked,
        Err(_) => Filled::Closed,
    }
}

fn fill_tls(tls: &mut ServerConnection, stream: &mut TcpStream, room: &mut [u8]) -> Filled {
    loop {
        match tls.reader().read(room) {
            Ok(0) => return Filled::Closed,
            Ok(len) => return Filled::Bytes(len),
            Err(error) if error.kind() != ErrorKind::WouldBlock => return Filled::Closed,
            Err(_) => {}
        }
        match filled(tls.read_tls(stream)) {
            Filled::Bytes(_) => {}
            other => return other,
        }
        if tls.process_new_packets().is_err() {
            let _ = tls.write_tls(stream); // the alert that says why
            return Filled::Closed;
        }
    }
}

fn flush_plain(stream: &mut TcpStream, out: &[u8], sent: &mut usize) -> io::Result<()> {
    while *sent < out.len() {
        match stream.write(&out[*sent..])? {
            0 => return Err(ErrorKind::WriteZero.into()),
            len => *sent += len,
        }
    }
    Ok(())
}

/// One frame a record: some clients take what one read of TLS gives for one message.
fn flush_tls(tls: &mut ServerConnection, stream: &mut TcpStream, out: &[u8], sent: &mut usize) -> io::Result<()> {
    loop {
        while tls.wants_write() {
            tls.write_tls(stream)?;
        }
        if *sent == out.len() || tls.is_handshaking() {
            return Ok(());
        }
        let round_end = out.len().min(*sent + TLS_ROUND);
        while *sent < round_end {
            let record = match next_frame(&out[*sent..], ChannelRange::Rfc5766) {
                Next::Frame { frame, .. } => frame,
                _ => out.len() - *sent, // the page
            };
            tls.writer().write_all(&out[*sent..*sent + record])?;
            *sent += record;
        }
    }
}

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
    use super::*;

    #[test]
    fn the_page_is_as_long_as_it_says() {
        let text = std::str::from_utf8(HTTP_PAGE).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{}", body.len());
    }
}
