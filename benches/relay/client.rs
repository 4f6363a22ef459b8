//! A TURN client: one socket, one allocation, one request under way.

use crate::server::{PASSWORD, REALM, USER};
use mio::net::UdpSocket;
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use turnpike::load::pace::Rng;
use turnpike::wire::attribute::{self, PasswordAlgorithm};
use turnpike::wire::channel::{ChannelNumber, ChannelRange};
use turnpike::wire::integrity::{Key, MacKind};
use turnpike::wire::stun::{Class, Message, Method, TransactionId, Writer};

/// Receive buffer of every socket, in bytes; the kernel cuts it to `net.core.rmem_max`.
const RECEIVE_BUFFER: usize = 4 << 20;
/// After this time without an answer a request is sent again, in nanoseconds.
pub const PATIENCE_NS: u64 = 250_000_000;
/// How often a request is sent before the client gives up.
const TRIES_MAX: u32 = 12;
/// IP protocol number of UDP, as REQUESTED-TRANSPORT carries it.
const UDP: [u8; 4] = [17, 0, 0, 0];

/// One exchange with the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Binding.
    Binding,
    /// Allocate without credentials; 401 is the answer wanted.
    Challenge,
    /// Allocate.
    Allocate,
    /// CreatePermission for the peer.
    Permit,
    /// ChannelBind for the peer.
    Bind,
    /// Refresh with lifetime 0.
    Free,
}

/// A client and how far it is.
#[derive(Debug)]
pub struct Client {
    /// Connected to the server, never blocking.
    pub socket: UdpSocket,
    local: SocketAddr,
    /// Whom it talks to through the relay.
    pub peer: SocketAddr,
    /// Its relayed address; `0.0.0.0:0` before there is one.
    pub relayed: SocketAddr,
    nonce: Vec<u8>,
    id: TransactionId,
    asked_ns: u64,
    tries: u32,
}

/// Source addresses that are never used twice: a server may hold a 5-tuple for a while after
/// its allocation is gone and refuse it (437). Every client gets an address of its own.
#[derive(Debug)]
pub struct Sources(u32);

impl Sources {
    /// Begins at 127.16.0.1, far from the servers' and the peers' addresses.
    pub fn new() -> Self {
        Sources(u32::from(Ipv4Addr::new(127, 16, 0, 0)))
    }

    /// A fresh address and a port of the kernel's choice.
    pub fn fresh(&mut self) -> SocketAddr {
        self.0 += 1;
        SocketAddr::new(Ipv4Addr::from_bits(self.0).into(), 0)
    }
}

/// The channel every client binds.
pub fn channel() -> ChannelNumber {
    ChannelNumber::new(ChannelRange::FIRST, ChannelRange::Rfc8656).expect("the first number is in the range")
}

/// The key of the one user.
pub fn key() -> Key {
    Key::derive(PasswordAlgorithm::Md5, USER.as_bytes(), REALM.as_bytes(), PASSWORD.as_bytes())
}

/// A UDP socket that never blocks and has a large receive buffer.
pub fn socket(local: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
    socket.bind(&local.into())?;
    socket.set_nonblocking(true)?;
    Ok(UdpSocket::from_std(socket.into()))
}

impl Client {
    /// Makes a client with a socket of its own.
    pub fn new(local: SocketAddr, server: SocketAddr, peer: SocketAddr) -> io::Result<Self> {
        let socket = socket(local)?;
        socket.connect(server)?;
        let local = socket.local_addr()?;
        let nobody = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0);
        let id = TransactionId::default();
        Ok(Client { socket, local, peer, relayed: nobody, nonce: Vec::new(), id, asked_ns: 0, tries: 0 })
    }

    /// Sends the request of a step under a new transaction id.
    pub fn ask(&mut self, step: Step, now_ns: u64, key: &Key, rng: &mut Rng) -> io::Result<()> {
        self.id = transaction_id(rng);
        self.tries = 0;
        self.repeat(step, now_ns, key)
    }

    /// Sends the request again when its answer is overdue; whether it did.
    pub fn hurry(&mut self, step: Step, now_ns: u64, key: &Key) -> io::Result<bool> {
        let overdue = now_ns.saturating_sub(self.asked_ns) > PATIENCE_NS;
        if overdue {
            self.repeat(step, now_ns, key)?;
        }
        Ok(overdue)
    }

    fn repeat(&mut self, step: Step, now_ns: u64, key: &Key) -> io::Result<()> {
        self.tries += 1;
        if self.tries > TRIES_MAX {
            return Err(io::Error::other(format!("no answer to {step:?} from {}", self.socket.peer_addr()?)));
        }
        self.asked_ns = now_ns;
        let mut out = [0; 512];
        let len = self.write(step, key, &mut out).ok_or_else(|| io::Error::other("a request did not fit"))?;
        self.socket.send(&out[..len])?;
        Ok(())
    }

    fn write(&self, step: Step, key: &Key, out: &mut [u8]) -> Option<usize> {
        let mut w = Writer::new(out, Class::Request, step.method(), self.id);
        match step {
            Step::Binding => return w.finish().ok(),
            Step::Challenge => return w.push(attribute::REQUESTED_TRANSPORT, &UDP).finish().ok(),
            Step::Allocate => w.push(attribute::REQUESTED_TRANSPORT, &UDP),
            Step::Permit => w.push_xor_address(attribute::XOR_PEER_ADDRESS, self.peer),
            Step::Bind => {
                let [n0, n1] = channel().get().to_be_bytes();
                w.push(attribute::CHANNEL_NUMBER, &[n0, n1, 0, 0]);
                w.push_xor_address(attribute::XOR_PEER_ADDRESS, self.peer)
            }
            Step::Free => w.push(attribute::LIFETIME, &[0; 4]),
        };
        w.push(attribute::USERNAME, USER.as_bytes());
        w.push(attribute::REALM, REALM.as_bytes());
        w.push(attribute::NONCE, &self.nonce);
        w.push_integrity(MacKind::Sha1, key);
        w.finish().ok()
    }

    /// Reads what has come. True when the step is done, false when nothing that matters has
    /// come yet; an error is any answer but the one wanted.
    pub fn hear(&mut self, step: Step, now_ns: u64, key: &Key, rng: &mut Rng) -> io::Result<bool> {
        let mut datagram = [0; 1024];
        loop {
            let len = match self.socket.recv(&mut datagram) {
                Ok(len) => len,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            };
            let answer = Message::parse(&datagram[..len])
                .map_err(|error| io::Error::other(format!("{step:?} met an answer that is none: {error:?}")))?;
            if answer.transaction_id() != self.id {
                continue; // the answer to a request that was sent twice
            }
            match self.judge(step, &answer, key) {
                Ok(true) => return Ok(true),
                Ok(false) => self.ask(step, now_ns, key, rng)?,
                Err(what) => return Err(io::Error::other(format!("{step:?} {what}"))),
            }
        }
    }

    /// True when the step is done, false when it must be asked again with the nonce just learned.
    fn judge(&mut self, step: Step, answer: &Message<'_>, key: &Key) -> Result<bool, String> {
        let code = answer.get(attribute::ERROR_CODE).and_then(attribute::error_code);
        match (step, answer.class(), code) {
            (Step::Challenge, Class::Error, Some(401)) => self.learn(answer).map(|()| true),
            (_, Class::Error, Some(438)) => self.learn(answer).map(|()| false),
            (Step::Challenge, _, code) => Err(format!("wants 401 and got {:?} {code:?}", answer.class())),
            (Step::Binding, Class::Success, _) => {
                let value = answer.get(attribute::XOR_MAPPED_ADDRESS);
                let mapped = value.and_then(|value| attribute::xor_address(value, &self.id));
                if mapped == Some(self.local) { Ok(true) } else { Err(format!("got {mapped:?} for {}", self.local)) }
            }
            (_, Class::Success, _) if !answer.verify_integrity(key) => Err("got an answer of a wrong key".into()),
            (Step::Allocate, Class::Success, _) => {
                let value = answer.get(attribute::XOR_RELAYED_ADDRESS);
                let relayed = value.and_then(|value| attribute::xor_address(value, &self.id));
                self.relayed = relayed.ok_or("got no relayed address")?;
                Ok(true)
            }
            (_, Class::Success, _) => Ok(true),
            (_, class, code) => Err(format!("got {class:?} {code:?}")),
        }
    }

    fn learn(&mut self, answer: &Message<'_>) -> Result<(), String> {
        if answer.get(attribute::REALM) != Some(REALM.as_bytes()) {
            return Err("got a challenge for another realm".into());
        }
        self.nonce = answer.get(attribute::NONCE).ok_or("got a challenge without a nonce")?.to_vec();
        Ok(())
    }
}

impl Step {
    fn method(self) -> Method {
        match self {
            Step::Binding => Method::BINDING,
            Step::Challenge | Step::Allocate => Method::ALLOCATE,
            Step::Permit => Method::CREATE_PERMISSION,
            Step::Bind => Method::CHANNEL_BIND,
            Step::Free => Method::REFRESH,
        }
    }
}

/// A random transaction id.
pub fn transaction_id(rng: &mut Rng) -> TransactionId {
    let mut id = [0; 12];
    id[..8].copy_from_slice(&rng.next_u64().to_be_bytes());
    id[8..].copy_from_slice(&rng.next_u64().to_be_bytes()[..4]);
    TransactionId(id)
}
