//! One connection of the engine without a worker around it: bytes in as they come, frames out. For tests and fuzzers; the
//! server has no use for it.

use super::lobby::Lobby;
use super::stream::{Connection, Door, Filled, Flushed, Full, Scratch, Speech};
use crate::turn::{ClientAddr, FiveTuple, Transport};
use crate::wire::channel::ChannelRange;
use crate::wire::stream::{Next, next_frame};
use mio::net::TcpStream;
use rustls::ServerConfig;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

pub use super::stream::{HTTP_HEAD_MAX, QUEUE_MAX, RELAYED_QUEUE_MAX};

/// A connection and the client's end of it.
pub struct Rehearsal {
    connection: Connection,
    client: UnixStream,
    config: Option<Arc<ServerConfig>>,
    range: ChannelRange,
    scratch: Scratch,
    spare: Vec<Vec<u8>>,
    /// Reads that the last [`Rehearsal::hear`] took.
    pub reads: usize,
}

/// What a client was heard to say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// Whole frames, without their padding.
    pub frames: Vec<Vec<u8>>,
    /// Bytes of HTTP, by someone who came to the wrong door; the same ones again, and more, until there is an answer.
    pub http: Vec<u8>,
    /// The connection is to be closed.
    pub closed: bool,
}

impl Rehearsal {
    /// A connection that was just accepted. TLS begins with `config`, where there is one.
    pub fn new(config: Option<Arc<ServerConfig>>, range: ChannelRange) -> io::Result<Self> {
        let (server, client) = UnixStream::pair()?;
        server.set_nonblocking(true)?;
        client.set_nonblocking(true)?;
        let anywhere = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 1);
        let tuple = FiveTuple { client: ClientAddr(anywhere), server: anywhere, transport: Transport::Tcp };
        let place = Lobby::new(Arc::default(), 1).admit(anywhere.ip());
        let place = place.map_err(|_| ErrorKind::QuotaExceeded)?;
        let stream = TcpStream::from_std(std::net::TcpStream::from(OwnedFd::from(server)));
        let connection = Connection::new(stream, tuple, place, 0);
        let (scratch, spare) = (Scratch::new(), Vec::new());
        Ok(Rehearsal { connection, client, config, range, scratch, spare, reads: 0 })
    }

    /// Takes what a client sends and handles all of it, as a worker does.
    pub fn hear(&mut self, mut bytes: &[u8]) -> io::Result<Heard> {
        let mut heard = Heard::default();
        self.reads = 0;
        while !bytes.is_empty() && !heard.closed {
            let sent = self.client.write(bytes)?;
            bytes = &bytes[sent..];
            self.read_on(&mut heard);
        }
        Ok(heard)
    }

    fn read_on(&mut self, heard: &mut Heard) {
        loop {
            self.reads += 1;
            let door = || self.config.as_ref().map_or(Door::Closed, Door::Open);
            let len = match self.connection.fill(&mut self.scratch, door) {
                Filled::Bytes { len, .. } => len,
                Filled::Blocked => return,
                Filled::Closed => return heard.closed = true,
            };
            let bytes = &self.scratch.plain[..len];
            let mut used = 0;
            if self.connection.speech == Speech::Http {
                heard.http = bytes.to_vec();
                heard.closed = len > HTTP_HEAD_MAX;
            } else {
                loop {
                    match next_frame(&bytes[used..], self.range) {
                        Next::Frame { message, frame, .. } => {
                            heard.frames.push(bytes[used..used + message].to_vec());
                            used += frame;
                        }
                        Next::Incomplete => break,
                        Next::Desync => return heard.closed = true,
                    }
                }
            }
            self.connection.keep(&bytes[used..], used > 0, 0);
        }
    }

    /// Has the connection say something, in so many parts.
    pub fn say(&mut self, parts: &[&[u8]], relayed: bool) -> Result<(), Full> {
        self.connection.queue(parts, relayed, &mut self.spare)
    }

    /// Sends what waits, and hands over what the client gets. False when the connection is broken.
    pub fn flush(&mut self, received: &mut Vec<u8>) -> bool {
        loop {
            let flushed = self.connection.flush(&mut self.spare);
            let before = received.len();
            // The end of a read is that there is no more for now.
            let _ = self.client.read_to_end(received);
            match flushed {
                Flushed::Done => return true,
                Flushed::Broken => return false,
                Flushed::Blocked if received.len() == before => return false,
                Flushed::Blocked => {}
            }
        }
    }

    /// Whether TLS or its handshake is not decided yet.
    pub fn is_unready(&self) -> bool {
        self.connection.is_unready()
    }

    /// Bytes that wait to be sent or to become a frame.
    pub fn held(&self) -> usize {
        self.connection.held()
    }
}
