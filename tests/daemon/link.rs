//! The way from a client to the server: a datagram socket, or a byte stream with or without TLS.

use super::certificate;
use rustls::{ClientConnection, StreamOwned};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a test waits for what must come.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// The least a wait on a socket may be: zero would be for ever.
const WAIT_MIN: Duration = Duration::from_millis(1);

/// How a client comes to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    /// UDP.
    Udp,
    /// TCP.
    Tcp,
    /// TLS 1.2.
    Tls12,
    /// TLS 1.3.
    Tls13,
}

impl Via {
    /// All of them.
    pub const ALL: [Via; 4] = [Via::Udp, Via::Tcp, Via::Tls12, Via::Tls13];

    /// The listener that is made for it, as the configuration names it.
    pub fn listener(self) -> &'static str {
        match self {
            Via::Udp => "udp",
            Via::Tcp => "tcp",
            Via::Tls12 | Via::Tls13 => "tls",
        }
    }
}

/// A byte stream to the server.
pub enum Stream {
    /// TCP.
    Plain(TcpStream),
    /// TLS over TCP.
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Stream {
    /// Connects without TLS.
    pub fn plain(server: SocketAddr) -> Stream {
        let stream = TcpStream::connect(server).expect("the server accepts");
        stream.set_nodelay(true).expect("TCP takes its options");
        stream.set_read_timeout(Some(PATIENCE)).expect("TCP takes its options");
        Stream::Plain(stream)
    }

    /// Connects with TLS; the error is that of the handshake.
    pub fn tls(server: SocketAddr, config: Arc<rustls::ClientConfig>) -> io::Result<Stream> {
        let Stream::Plain(mut stream) = Stream::plain(server) else { unreachable!("it is plain") };
        let name = certificate::NAME.try_into().expect("it is a DNS name");
        let mut connection = ClientConnection::new(config, name).expect("the configuration is complete");
        while connection.is_handshaking() {
            connection.complete_io(&mut stream)?;
        }
        Ok(Stream::Tls(Box::new(StreamOwned::new(connection, stream))))
    }

    /// The TLS connection; a panic without one.
    pub fn session(&self) -> &ClientConnection {
        match self {
            Stream::Plain(_) => panic!("there is no TLS here"),
            Stream::Tls(stream) => &stream.conn,
        }
    }

    /// The TCP connection.
    pub fn tcp(&self) -> &TcpStream {
        match self {
            Stream::Plain(stream) => stream,
            Stream::Tls(stream) => &stream.sock,
        }
    }

    /// Writes all of it, in one TLS record if it fits.
    pub fn send(&mut self, bytes: &[u8]) {
        self.try_send(bytes).expect("the server takes what is sent");
    }

    /// The same; the error is the server's that has closed the connection.
    pub fn try_send(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Stream::Plain(stream) => stream.write_all(bytes),
            Stream::Tls(stream) => stream.write_all(bytes).and_then(|()| stream.flush()),
        }
    }

    /// Reads what has come; `Ok(0)` is the end.
    pub fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Plain(stream) => stream.read(room),
            Stream::Tls(stream) => stream.read(room),
        }
    }

    /// Reads to the end, which must come within the patience of each read, and be a clean one.
    pub fn read_to_end(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let read = match self {
            Stream::Plain(stream) => stream.read_to_end(&mut bytes),
            Stream::Tls(stream) => stream.read_to_end(&mut bytes),
        };
        read.expect("the server ends the connection as it should");
        bytes
    }
}

/// The way to the server.
pub enum Link {
    /// Datagrams from an unconnected socket: an answer from elsewhere would arrive and be noticed. It is never
    /// closed, or the kernel could give its port to the next client, on a 5-tuple that the server still knows.
    Udp(&'static UdpSocket, SocketAddr),
    /// A byte stream, and what was read of it and not taken yet.
    Stream(Stream, Vec<u8>),
}

/// The unspecified port on the loopback address of the server's family.
fn local(server: SocketAddr) -> SocketAddr {
    let ip: IpAddr = if server.is_ipv4() { [127, 0, 0, 1].into() } else { std::net::Ipv6Addr::LOCALHOST.into() };
    SocketAddr::new(ip, 0)
}

impl Link {
    /// Opens the way.
    pub fn open(via: Via, server: SocketAddr) -> Link {
        let tls = |version| {
            let config = certificate::client(&[version], &[b"stun.turn"]);
            Stream::tls(server, config).expect("the handshake succeeds")
        };
        match via {
            Via::Udp => {
                let socket = UdpSocket::bind(local(server)).expect("the kernel has a port");
                Link::Udp(Box::leak(Box::new(socket)), server)
            }
            Via::Tcp => Link::Stream(Stream::plain(server), Vec::new()),
            Via::Tls12 => Link::Stream(tls(&rustls::version::TLS12), Vec::new()),
            Via::Tls13 => Link::Stream(tls(&rustls::version::TLS13), Vec::new()),
        }
    }

    /// Where the client's packets come from.
    pub fn local_addr(&self) -> SocketAddr {
        let addr = match self {
            Link::Udp(socket, _) => socket.local_addr(),
            Link::Stream(stream, _) => stream.tcp().local_addr(),
        };
        addr.expect("the socket is bound")
    }

    /// Whether what is sent may be lost.
    pub fn is_lossy(&self) -> bool {
        matches!(self, Link::Udp(..))
    }

    /// Sends one message; ChannelData is padded on a stream.
    pub fn send(&mut self, message: &[u8]) {
        match self {
            Link::Udp(socket, server) => {
                let sent = socket.send_to(message, *server).expect("loopback takes a datagram");
                assert_eq!(sent, message.len());
            }
            Link::Stream(stream, _) => {
                let mut padded = message.to_vec();
                padded.resize(message.len().next_multiple_of(4), 0);
                stream.send(&padded);
            }
        }
    }

    /// Reads a stream to its end, which must be a clean one. What comes before is passed over.
    pub fn read_to_end(&mut self) {
        match self {
            Link::Udp(..) => panic!("datagrams have no end"),
            Link::Stream(stream, _) => {
                stream.tcp().set_read_timeout(Some(PATIENCE)).expect("a socket takes a timeout");
                stream.read_to_end();
            }
        }
    }

    /// The next message from the server, without the padding of ChannelData; `None` when none is whole until then.
    pub fn next(&mut self, until: Instant) -> Option<Vec<u8>> {
        match self {
            Link::Udp(socket, server) => next_datagram(socket, *server, until),
            Link::Stream(stream, read) => next_frame(stream, read, until),
        }
    }
}

fn left(until: Instant) -> Duration {
    until.saturating_duration_since(Instant::now()).max(WAIT_MIN)
}

fn is_late(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

fn next_datagram(socket: &UdpSocket, server: SocketAddr, until: Instant) -> Option<Vec<u8>> {
    socket.set_read_timeout(Some(left(until))).expect("a socket takes a timeout");
    let mut room = vec![0; 65_536];
    match socket.recv_from(&mut room) {
        Ok((len, from)) => {
            assert_eq!(from, server, "the server answers from where it was asked");
            room.truncate(len);
            Some(room)
        }
        Err(error) if is_late(&error) => None,
        Err(error) => panic!("receiving failed: {error}"),
    }
}

/// Message and padding at the front of a stream, once their length is there.
fn frame_len(bytes: &[u8]) -> Option<(usize, usize)> {
    let [first, _, high, low, ..] = *bytes else { return None };
    let len = usize::from(u16::from_be_bytes([high, low]));
    match first {
        0..=3 => Some((20 + len, 20 + len)),
        0x40..=0x4F => Some((4 + len, (4 + len).next_multiple_of(4))),
        other => panic!("neither STUN nor ChannelData: {other:#04x}"),
    }
}

fn next_frame(stream: &mut Stream, read: &mut Vec<u8>, until: Instant) -> Option<Vec<u8>> {
    loop {
        if let Some((message, frame)) = frame_len(read).filter(|(_, frame)| *frame <= read.len()) {
            let bytes = read[..message].to_vec();
            read.drain(..frame);
            return Some(bytes);
        }
        stream.tcp().set_read_timeout(Some(left(until))).expect("a socket takes a timeout");
        let before = read.len();
        read.resize(before + 65_536, 0);
        let result = stream.read(&mut read[before..]);
        read.truncate(before + *result.as_ref().unwrap_or(&0));
        match result {
            Ok(0) => panic!("the server closed the connection"),
            Ok(_) => {}
            Err(error) if is_late(&error) => return None,
            Err(error) => panic!("reading failed: {error}"),
        }
    }
}
