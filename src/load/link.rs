//! The way from a client to the server: whole messages over UDP, TCP or TLS, on a socket that never blocks.

use crate::wire::channel::ChannelRange;
use crate::wire::padded;
use crate::wire::stream::{Next, next_frame};
use mio::net::{TcpStream, UdpSocket};
use mio::{Interest, Registry, Token};
use rustls::ClientConnection;
use rustls::pki_types::ServerName;
use socket2::{Domain, Protocol, Socket, Type};
use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

/// Receive buffer of a UDP socket, in bytes; the kernel cuts it to `net.core.rmem_max`.
const RECEIVE_BUFFER: usize = 4 << 20;
/// Bytes that wait for a stream to take them before no more are accepted.
const BACKLOG_MAX: usize = 64 << 10;
/// Room for what is read from a stream: the longest message and more. Memory is used as far as bytes reach.
const READ_LEN: usize = 128 << 10;

/// How clients come to the server.
#[derive(Clone, Debug)]
pub enum Transport {
    /// Datagrams.
    Udp,
    /// A byte stream.
    Tcp,
    /// TLS over TCP, to a server of this name.
    Tls(Arc<rustls::ClientConfig>, ServerName<'static>),
}

impl Transport {
    /// Its name in reports.
    pub const fn name(&self) -> &'static str {
        match self {
            Transport::Udp => "udp",
            Transport::Tcp => "tcp",
            Transport::Tls(..) => "tls",
        }
    }
}

/// The way to the server.
#[derive(Debug)]
pub enum Link {
    /// A connected UDP socket.
    Datagrams(UdpSocket),
    /// A byte stream.
    Stream(Box<Stream>),
}

/// A TCP connection, with or without TLS.
#[derive(Debug)]
pub struct Stream {
    tcp: TcpStream,
    tls: Option<ClientConnection>,
    /// What the connection has not taken yet. With TLS the session holds that, and this is the last message.
    unsent: Vec<u8>,
    /// What was read and not taken yet, from `taken` to `filled`.
    read: Box<[u8]>,
    taken: usize,
    filled: usize,
}

/// Why a TLS session failed; in an [`io::Error`] it reads as what a load is to do about it.
#[derive(Clone, Debug)]
pub struct TlsFault(pub rustls::Error);

impl fmt::Display for TlsFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TLS: {}; --insecure takes any certificate, --ca FILE trusts another", self.0)
    }
}

impl std::error::Error for TlsFault {}

/// A UDP socket that never blocks and has a large receive buffer.
pub fn udp_socket(local: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(local), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
    socket.bind(&local.into())?;
    socket.set_nonblocking(true)?;
    Ok(UdpSocket::from_std(socket.into()))
}

/// Any address of the family of another.
pub fn anywhere(like: SocketAddr) -> IpAddr {
    match like {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    }
}

/// A connection that is being made.
fn tcp_stream(server: SocketAddr, source: IpAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(server), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    if !source.is_unspecified() {
        socket.bind(&SocketAddr::new(source, 0).into())?;
    }
    match socket.connect(&server.into()) {
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => return Err(error),
        _ => {}
    }
    socket.set_tcp_nodelay(true)?;
    Ok(TcpStream::from_std(socket.into()))
}

impl Link {
    /// Begins a way to the server from an address of this host, which may be unspecified; a stream may be sent to at
    /// once and connects meanwhile.
    pub fn open(transport: &Transport, server: SocketAddr, source: IpAddr) -> io::Result<Self> {
        let tls = match transport {
            Transport::Udp => {
                let socket = udp_socket(SocketAddr::new(source, 0))?;
                socket.connect(server)?;
                return Ok(Link::Datagrams(socket));
            }
            Transport::Tcp => None,
            Transport::Tls(config, name) => {
                let mut session = ClientConnection::new(Arc::clone(config), name.clone()).map_err(io::Error::other)?;
                // The backlog is limited here; the session's own limit would tear a frame apart.
                session.set_buffer_limit(None);
                Some(session)
            }
        };
        let tcp = tcp_stream(server, source)?;
        let read = vec![0; READ_LEN].into_boxed_slice();
        Ok(Link::Stream(Box::new(Stream { tcp, tls, unsent: Vec::new(), read, taken: 0, filled: 0 })))
    }

    /// Has its readiness reported under `token`.
    pub fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        match self {
            Link::Datagrams(socket) => registry.register(socket, token, Interest::READABLE),
            Link::Stream(stream) => registry.register(&mut stream.tcp, token, Interest::READABLE | Interest::WRITABLE),
        }
    }

    /// Has its readiness reported under another token, also what it is ready for already.
    pub fn reregister(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        match self {
            Link::Datagrams(socket) => registry.reregister(socket, token, Interest::READABLE),
            Link::Stream(stream) => {
                registry.reregister(&mut stream.tcp, token, Interest::READABLE | Interest::WRITABLE)
            }
        }
    }

    /// Whether a message may be lost, so that a request must be sent again.
    pub fn is_lossy(&self) -> bool {
        matches!(self, Link::Datagrams(_))
    }

    /// Where the client's packets come from.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        match self {
            Link::Datagrams(socket) => socket.local_addr(),
            Link::Stream(stream) => stream.tcp.local_addr(),
        }
    }

    /// Sends a request; false when there is no room for a datagram now. A stream takes it always: it would not be sent
    /// again, and a client has one under way.
    pub fn send(&mut self, message: &[u8]) -> io::Result<bool> {
        match self {
            Link::Datagrams(socket) => match socket.send(message) {
                Ok(_) => Ok(true),
                Err(error) if has_no_room(&error) => Ok(false),
                Err(error) => Err(error),
            },
            Link::Stream(stream) => {
                stream.push(message)?;
                stream.flush()?;
                Ok(true)
            }
        }
    }

    /// Goes on with the connection and the TLS session as far as they go now, and says whether both stand. To wait for
    /// that is left to those who want to know when it was; a request may be sent before.
    pub fn stands(&mut self) -> io::Result<bool> {
        match self {
            Link::Datagrams(_) => Ok(true),
            Link::Stream(stream) => stream.stands(),
        }
    }

    /// The TLS session, where there is one.
    pub fn session(&self) -> Option<&ClientConnection> {
        match self {
            Link::Datagrams(_) => None,
            Link::Stream(stream) => stream.tls.as_ref(),
        }
    }

    /// Sends on what waits for the stream to be writable.
    pub fn flush(&mut self) -> io::Result<()> {
        match self {
            Link::Datagrams(_) => Ok(()),
            Link::Stream(stream) => stream.flush(),
        }
    }

    /// Puts the next message at the front of `room`, without the padding of ChannelData, and returns its length;
    /// `None` when no whole one has come. Call it until then: readiness is reported once.
    #[inline]
    pub fn receive(&mut self, room: &mut [u8]) -> io::Result<Option<usize>> {
        match self {
            Link::Datagrams(socket) => match socket.recv(room) {
                Ok(len) => Ok(Some(len)),
                Err(error) if is_later(&error) => Ok(None),
                Err(error) => Err(error),
            },
            Link::Stream(stream) => stream.receive(room),
        }
    }
}

/// Whether there is nothing to do now.
pub fn is_later(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

/// Whether a socket or the machine has no buffer for it: a datagram that does not leave is none that was lost.
pub fn has_no_room(error: &io::Error) -> bool {
    is_later(error) || error.raw_os_error() == Some(libc::ENOBUFS)
}

/// Whether a stream can not be used yet.
fn is_not_yet(error: &io::Error) -> bool {
    is_later(error) || error.kind() == ErrorKind::NotConnected
}

impl Stream {
    /// Has a message sent by the next flush; false when there is no room for it now.
    pub fn queue(&mut self, message: &[u8]) -> io::Result<bool> {
        if self.is_full() {
            self.flush()?;
            if self.is_full() {
                return Ok(false);
            }
        }
        self.push(message)?;
        Ok(true)
    }

    /// Has a message sent by the next flush, however much waits.
    fn push(&mut self, message: &[u8]) -> io::Result<()> {
        const PADDING: [u8; 3] = [0; 3];
        let padding = &PADDING[..padded(message.len()) - message.len()];
        match &mut self.tls {
            Some(session) => {
                // In one piece, or the padding would travel in a record of its own.
                self.unsent.clear();
                self.unsent.extend_from_slice(message);
                self.unsent.extend_from_slice(padding);
                session.writer().write_all(&self.unsent)?;
            }
            None => {
                self.unsent.extend_from_slice(message);
                self.unsent.extend_from_slice(padding);
            }
        }
        Ok(())
    }

    /// Whether so much waits that no more is taken. What a session holds can not be asked: it is full once a flush has
    /// left something, except in the handshake, when there are only a few requests to hold.
    fn is_full(&self) -> bool {
        match &self.tls {
            Some(session) => session.wants_write() && !session.is_handshaking(),
            None => self.unsent.len() > BACKLOG_MAX,
        }
    }

    /// Sends what waits, as far as the connection takes it.
    pub fn flush(&mut self) -> io::Result<()> {
        let flushed = match &mut self.tls {
            Some(session) => flush_session(session, &mut self.tcp),
            None => flush_bytes(&mut self.unsent, &mut self.tcp),
        };
        match flushed {
            Err(error) if is_not_yet(&error) => Ok(()),
            result => result,
        }
    }

    /// As [`Link::stands`].
    fn stands(&mut self) -> io::Result<bool> {
        if let Some(error) = self.tcp.take_error()? {
            return Err(error);
        }
        match self.tcp.peer_addr() {
            Err(error) if is_not_yet(&error) => return Ok(false),
            result => _ = result?,
        }
        let is_handshaking = |tls: &Option<ClientConnection>| tls.as_ref().is_some_and(|tls| tls.is_handshaking());
        if is_handshaking(&self.tls) {
            self.flush()?;
            match self.read_more() {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(len) => self.filled += len,
                Err(error) if is_not_yet(&error) => {}
                Err(error) => return Err(error),
            }
            self.flush()?;
        }
        Ok(!is_handshaking(&self.tls))
    }

    /// As [`Link::receive`].
    pub fn receive(&mut self, room: &mut [u8]) -> io::Result<Option<usize>> {
        loop {
            let rest = &self.read[self.taken..self.filled];
            match next_frame(rest, ChannelRange::Rfc8656) {
                Next::Frame { message, frame, .. } => {
                    let room = room.get_mut(..message).ok_or_else(|| io::Error::other("a message is too long"))?;
                    room.copy_from_slice(&rest[..message]);
                    self.taken += frame;
                    return Ok(Some(message));
                }
                Next::Incomplete => {}
                Next::Desync => return Err(io::Error::other("the server sent what is no STUN and no ChannelData")),
            }
            self.read.copy_within(self.taken..self.filled, 0);
            (self.taken, self.filled) = (0, self.filled - self.taken);
            match self.read_more() {
                Ok(0) => {
                    return Err(io::Error::new(
                        ErrorKind::UnexpectedEof,
                        "the server closed the connection (many have a limit of those without an allocation \
                         from one address: lower --threads, or give clients addresses of their own with --sources)",
                    ));
                }
                Ok(len) => self.filled += len,
                Err(error) if is_not_yet(&error) => return Ok(None),
                Err(error) => return Err(error),
            }
        }
    }

    /// Reads once behind what there is; 0 is the end of the stream.
    fn read_more(&mut self) -> io::Result<usize> {
        let room = &mut self.read[self.filled..];
        let Some(session) = &mut self.tls else { return self.tcp.read(room) };
        loop {
            match session.reader().read(room) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                result => return result,
            }
            if session.read_tls(&mut self.tcp)? == 0 {
                return Ok(0);
            }
            let state = match session.process_new_packets() {
                Ok(state) => state,
                Err(error) => {
                    // The server is told why, as far as the connection takes it.
                    let _ = flush_session(session, &mut self.tcp);
                    return Err(io::Error::other(TlsFault(error)));
                }
            };
            if state.tls_bytes_to_write() > 0 {
                match flush_session(session, &mut self.tcp) {
                    Err(error) if is_not_yet(&error) => {}
                    result => result?,
                }
            }
        }
    }
}

fn flush_session(session: &mut ClientConnection, tcp: &mut TcpStream) -> io::Result<()> {
    while session.wants_write() {
        session.write_tls(tcp)?;
    }
    Ok(())
}

fn flush_bytes(unsent: &mut Vec<u8>, tcp: &mut TcpStream) -> io::Result<()> {
    let mut sent = 0;
    let result = loop {
        if sent == unsent.len() {
            break Ok(());
        }
        match tcp.write(&unsent[sent..]) {
            Ok(len) => sent += len,
            Err(error) => break Err(error),
        }
    };
    unsent.drain(..sent);
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_stream_takes_a_request_and_no_packet() {
        // Nobody accepts or reads: what waits stays.
        let server = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let addr = server.local_addr().unwrap();
        let mut link = Link::open(&Transport::Tcp, addr, anywhere(addr)).unwrap();
        let Link::Stream(stream) = &mut link else { panic!("it is a stream") };
        let packet = [0x40; 1 << 15];
        while stream.queue(&packet).unwrap() {
            stream.flush().unwrap();
        }
        let waiting = stream.unsent.len();
        assert!(link.send(&packet[..20]).unwrap());
        let Link::Stream(stream) = &mut link else { panic!("it is a stream") };
        assert!(stream.unsent.len() <= waiting + 20 && !stream.unsent.is_empty());
    }
}
