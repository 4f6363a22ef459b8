//! A client and its peers on real sockets: blocking, patient, and strict about what they are sent.

use super::link::{Link, PATIENCE, Via};
use crate::wire_client::{ALICE, Client, Draft, Reply, allocate, bind, binding, channel, permit, refresh, send};
use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};
use turnpike::turn::Transport;
use turnpike::wire::attribute;
use turnpike::wire::stun::{Class, Method};

/// How long an answer over UDP is waited for before the request is sent again.
const RETRANSMIT: Duration = Duration::from_secs(1);
/// Challenges taken for one request: one for the first nonce, one for a stale one.
const CHALLENGES_MAX: usize = 2;

/// Bytes that are relayed. They are shown by their number and the first of them.
#[derive(Clone, PartialEq, Eq)]
pub struct Payload(Vec<u8>);

impl std::ops::Deref for Payload {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl From<&[u8]> for Payload {
    fn from(bytes: &[u8]) -> Self {
        Payload(bytes.to_vec())
    }
}

impl<const N: usize> From<&[u8; N]> for Payload {
    fn from(bytes: &[u8; N]) -> Self {
        Payload(bytes.to_vec())
    }
}

impl std::fmt::Debug for Payload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let start = &self[..self.len().min(16)];
        write!(f, "{} bytes \"{}\"", self.len(), start.escape_ascii())
    }
}

/// Bytes that differ from place to place and from `seed` to seed.
pub fn pattern(seed: usize, len: usize) -> Payload {
    Payload((0..len).map(|at| (at * 7 + at / 251 + seed * 13 + 1) as u8).collect())
}

/// What the server sends unasked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// ChannelData: number and payload.
    Channel(u16, Payload),
    /// A Data indication: peer and payload.
    Indication(SocketAddr, Payload),
    /// An ICMP error: the packet's destination, type and code.
    Icmp(SocketAddr, u8, u8),
}

/// One client.
pub struct Caller {
    link: Link,
    account: Client,
    waiting: VecDeque<Delivery>,
}

impl Caller {
    /// Comes to the server as alice.
    pub fn new(via: Via, server: SocketAddr) -> Caller {
        Caller::as_user(ALICE, via, server)
    }

    /// Comes to the server as this user.
    pub fn as_user(user: (&str, &str), via: Via, server: SocketAddr) -> Caller {
        let link = Link::open(via, server);
        let transport = match via {
            Via::Udp => Transport::Udp,
            Via::Tcp => Transport::Tcp,
            Via::Tls12 | Via::Tls13 => Transport::Tls,
        };
        let account = Client::new(Client::sender(link.local_addr(), server, transport), user);
        Caller { link, account, waiting: VecDeque::new() }
    }

    /// Comes to the server as alice and allocates; also returns the relayed address.
    pub fn allocated(via: Via, server: SocketAddr) -> (Caller, SocketAddr) {
        let mut caller = Caller::new(via, server);
        let family = if server.is_ipv4() { 1 } else { 2 };
        let relayed = caller.allocate(allocate().with(attribute::REQUESTED_ADDRESS_FAMILY, [family, 0, 0, 0]));
        (caller, relayed)
    }

    /// Where its packets come from.
    pub fn local_addr(&self) -> SocketAddr {
        self.link.local_addr()
    }

    /// The way to the server.
    pub fn link(&mut self) -> &mut Link {
        &mut self.link
    }

    /// Sends a message as it is.
    pub fn send(&mut self, message: &[u8]) {
        self.link.send(message);
    }

    /// Sends bytes on a channel.
    pub fn send_on(&mut self, number: u16, payload: &[u8]) {
        self.link.send(&channel(number, payload));
    }

    /// Sends bytes to a peer in a Send indication.
    pub fn send_to(&mut self, peer: SocketAddr, payload: &[u8]) {
        self.link.send(&send(peer, payload).encode());
    }

    /// Encodes a request and signs it with what it knows.
    pub fn sign(&self, draft: Draft) -> Vec<u8> {
        self.account.sign(draft)
    }

    /// Sends a request, answers challenges, and returns the last answer, whose signature must be right.
    pub fn ask(&mut self, draft: Draft) -> Reply {
        for _ in 0..CHALLENGES_MAX {
            let draft = draft.clone().under(Draft::new(draft.class, draft.method).id);
            let signed = !self.account.nonce.is_empty();
            let request = if signed { self.account.sign(draft) } else { draft.encode() };
            let reply = self.exchange(&request);
            if !matches!(reply.code(), 401 | 438) {
                let signed = reply.is_signed_by(&self.account.key());
                assert!(signed, "the answer bears the client's signature: {reply:?}");
                return reply;
            }
            self.account.learn(&reply);
        }
        let draft = draft.clone().under(Draft::new(draft.class, draft.method).id);
        self.exchange(&self.account.sign(draft))
    }

    /// The error code of a request's answer, 0 for success.
    pub fn code(&mut self, draft: Draft) -> u16 {
        self.ask(draft).code()
    }

    /// Sends a request that must succeed.
    pub fn succeed(&mut self, draft: Draft) -> Reply {
        let reply = self.ask(draft);
        assert_eq!(reply.code(), 0, "success expected");
        reply
    }

    /// Allocates one relayed address and returns it.
    pub fn allocate(&mut self, draft: Draft) -> SocketAddr {
        let reply = self.succeed(draft);
        assert_eq!(reply.address(attribute::XOR_MAPPED_ADDRESS), self.local_addr());
        reply.address(attribute::XOR_RELAYED_ADDRESS)
    }

    /// Installs permissions.
    pub fn permit(&mut self, peers: &[SocketAddr]) {
        self.succeed(permit(peers));
    }

    /// Binds a channel.
    pub fn bind(&mut self, number: u16, peer: SocketAddr) {
        self.succeed(bind(number, peer));
    }

    /// Ends the allocation.
    pub fn end(&mut self) {
        assert_eq!(self.succeed(refresh(0)).number(attribute::LIFETIME), Some(0));
    }

    /// A Binding request's answer. What the server sent before, the client has by then.
    pub fn echo(&mut self) -> Reply {
        let reply = self.exchange(&binding().encode());
        assert_eq!(reply.code(), 0);
        assert_eq!(reply.address(attribute::XOR_MAPPED_ADDRESS), self.local_addr());
        reply
    }

    /// Sends a request, over UDP again and again, until its answer comes.
    pub fn exchange(&mut self, request: &[u8]) -> Reply {
        let end = Instant::now() + PATIENCE;
        self.link.send(request);
        while Instant::now() < end {
            let until = if self.link.is_lossy() { end.min(Instant::now() + RETRANSMIT) } else { end };
            match self.answer(&request[8..20], until) {
                Some(reply) => return reply,
                None if self.link.is_lossy() => self.link.send(request),
                None => {}
            }
        }
        panic!("no answer to {request:?}");
    }

    /// The answer of a transaction, once it is there.
    pub fn answer(&mut self, id: &[u8], until: Instant) -> Option<Reply> {
        loop {
            let message = self.link.next(until)?;
            match read(&message) {
                Ok(delivery) => self.waiting.push_back(delivery),
                Err(reply) if reply.id == *id => return Some(reply),
                // The answer to a request that was sent twice.
                Err(_) => {}
            }
        }
    }

    /// What the server sent unasked; `None` if nothing comes in this time.
    pub fn poll(&mut self, patience: Duration) -> Option<Delivery> {
        let until = Instant::now() + patience;
        loop {
            if let Some(delivery) = self.waiting.pop_front() {
                return Some(delivery);
            }
            if let Ok(delivery) = read(&self.link.next(until)?) {
                self.waiting.push_back(delivery);
            }
        }
    }

    /// What the server sends unasked, which must come.
    pub fn receive(&mut self) -> Delivery {
        self.poll(PATIENCE).expect("something is delivered")
    }

    /// All that was delivered before the answer to a request that is sent now.
    pub fn delivered(&mut self) -> Vec<Delivery> {
        self.echo();
        self.waiting.drain(..).collect()
    }
}

/// Reads a message of the server: what it sends unasked, or an answer.
fn read(message: &[u8]) -> Result<Delivery, Reply> {
    if message.first().is_some_and(|first| *first >= 0x40) {
        let len = usize::from(u16::from_be_bytes([message[2], message[3]]));
        assert_eq!(message.len(), 4 + len, "ChannelData is as long as it says");
        return Ok(Delivery::Channel(u16::from_be_bytes([message[0], message[1]]), message[4..].into()));
    }
    let reply = Reply::decode(message);
    if reply.class != Class::Indication {
        return Err(reply);
    }
    assert_eq!(reply.method, Method::DATA, "a client is sent no other indication");
    let peer = reply.address(attribute::XOR_PEER_ADDRESS);
    match (reply.get(attribute::DATA), reply.get(attribute::ICMP)) {
        (Some(payload), None) => Ok(Delivery::Indication(peer, payload.into())),
        (None, Some(&[0, 0, kind, code, ref value @ ..])) => {
            // RFC 8656 §18.13: the MTU, where there is one to tell.
            let is_too_big = if peer.is_ipv4() { (kind, code) == (3, 4) } else { kind == 2 };
            assert_eq!(value != [0; 4], is_too_big, "type {kind} code {code}: {value:?}");
            Ok(Delivery::Icmp(peer, kind, code))
        }
        other => panic!("a Data indication bears either DATA or ICMP: {other:?}"),
    }
}

/// One peer.
pub struct Peer(UdpSocket);

impl Peer {
    /// A peer on this address.
    pub fn new(ip: IpAddr) -> Peer {
        let socket = UdpSocket::bind((ip, 0)).expect("the kernel has a port");
        socket.set_read_timeout(Some(PATIENCE)).expect("a socket takes a timeout");
        Peer(socket)
    }

    /// Where it is.
    pub fn addr(&self) -> SocketAddr {
        self.0.local_addr().expect("the socket is bound")
    }

    /// Sends bytes to a relayed address.
    pub fn send(&self, to: SocketAddr, payload: &[u8]) {
        assert_eq!(self.0.send_to(payload, to).expect("loopback takes a datagram"), payload.len());
    }

    /// What is sent to it, which must come, and from where.
    pub fn receive(&self) -> (Payload, SocketAddr) {
        let mut room = vec![0; 65_536];
        let (len, from) = self.0.recv_from(&mut room).expect("the peer is sent something");
        (room[..len].into(), from)
    }

    /// Whether nothing has arrived that was not received.
    pub fn is_idle(&self) -> bool {
        self.0.set_nonblocking(true).expect("a socket takes its options");
        let idle = self.0.recv_from(&mut [0; 1]).is_err();
        self.0.set_nonblocking(false).expect("a socket takes its options");
        idle
    }
}
