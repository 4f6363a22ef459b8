//! Messages as a client writes and reads them (RFC 8489 §5, §14).

use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use sha2::Sha256;
use std::cell::Cell;
use std::net::{IpAddr, SocketAddr};
use turnpike::wire::attribute;
use turnpike::wire::integrity::MacKind;
use turnpike::wire::stun::{Class, Method};

const COOKIE: [u8; 4] = [0x21, 0x12, 0xA4, 0x42];
const HEADER: usize = 20;

/// The value of an attribute before it is encoded.
#[derive(Clone, Debug)]
pub enum Value {
    /// As it stands.
    Bytes(Vec<u8>),
    /// An address, to be XORed with the cookie and the transaction id.
    Xor(SocketAddr),
}

impl From<&[u8]> for Value {
    fn from(bytes: &[u8]) -> Self {
        Value::Bytes(bytes.to_vec())
    }
}

impl<const N: usize> From<[u8; N]> for Value {
    fn from(bytes: [u8; N]) -> Self {
        Value::Bytes(bytes.to_vec())
    }
}

impl From<u32> for Value {
    fn from(number: u32) -> Self {
        number.to_be_bytes().into()
    }
}

impl From<SocketAddr> for Value {
    fn from(address: SocketAddr) -> Self {
        Value::Xor(address)
    }
}

/// A message to be: attributes can be added, moved and doubled until it is encoded.
#[derive(Clone, Debug)]
pub struct Draft {
    /// Class.
    pub class: Class,
    /// Method.
    pub method: Method,
    /// Transaction id.
    pub id: [u8; 12],
    /// Type and value of each attribute, in order.
    pub attributes: Vec<(u16, Value)>,
    /// The byte that padding is made of; zero in a message of good manners.
    pub padding: u8,
}

impl Draft {
    /// An empty message with a transaction id of its own.
    pub fn new(class: Class, method: Method) -> Self {
        thread_local!(static NEXT: Cell<u64> = const { Cell::new(1) });
        let number = NEXT.replace(NEXT.get() + 1);
        let mut id = *b"test00000000";
        id[4..].copy_from_slice(&number.to_be_bytes());
        Draft { class, method, id, attributes: Vec::new(), padding: 0 }
    }

    /// Appends an attribute.
    pub fn with(mut self, kind: u16, value: impl Into<Value>) -> Self {
        self.attributes.push((kind, value.into()));
        self
    }

    /// Takes all attributes of a type out.
    pub fn without(mut self, kind: u16) -> Self {
        self.attributes.retain(|&(k, _)| k != kind);
        self
    }

    /// Replaces all attributes of a type by one at the end.
    pub fn instead(self, kind: u16, value: impl Into<Value>) -> Self {
        self.without(kind).with(kind, value)
    }

    /// Takes another transaction's id.
    pub fn under(mut self, id: [u8; 12]) -> Self {
        self.id = id;
        self
    }

    /// The bytes, without integrity and fingerprint.
    pub fn encode(&self) -> Vec<u8> {
        let mut message = message_type(self.class, self.method).to_be_bytes().to_vec();
        message.extend_from_slice(&[0, 0]);
        message.extend_from_slice(&COOKIE);
        message.extend_from_slice(&self.id);
        for (kind, value) in &self.attributes {
            match value {
                Value::Bytes(bytes) => push_padded(&mut message, *kind, bytes, self.padding),
                Value::Xor(address) => push_padded(&mut message, *kind, &xor(*address, &self.id), self.padding),
            }
        }
        message
    }
}

/// A request without attributes.
pub fn request(method: Method) -> Draft {
    Draft::new(Class::Request, method)
}

/// An indication without attributes.
pub fn indication(method: Method) -> Draft {
    Draft::new(Class::Indication, method)
}

/// A Binding request.
pub fn binding() -> Draft {
    request(Method::BINDING)
}

/// An Allocate request for UDP.
pub fn allocate() -> Draft {
    request(Method::ALLOCATE).with(attribute::REQUESTED_TRANSPORT, [17, 0, 0, 0])
}

/// A Refresh request.
pub fn refresh(lifetime_s: u32) -> Draft {
    request(Method::REFRESH).with(attribute::LIFETIME, lifetime_s)
}

/// A CreatePermission request for these peers.
pub fn permit(peers: &[SocketAddr]) -> Draft {
    let draft = request(Method::CREATE_PERMISSION);
    peers.iter().fold(draft, |draft, &peer| draft.with(attribute::XOR_PEER_ADDRESS, peer))
}

/// A ChannelBind request.
pub fn bind(number: u16, peer: SocketAddr) -> Draft {
    let [high, low] = number.to_be_bytes();
    request(Method::CHANNEL_BIND)
        .with(attribute::CHANNEL_NUMBER, [high, low, 0, 0])
        .with(attribute::XOR_PEER_ADDRESS, peer)
}

/// A Send indication.
pub fn send(peer: SocketAddr, payload: &[u8]) -> Draft {
    indication(Method::SEND).with(attribute::XOR_PEER_ADDRESS, peer).with(attribute::DATA, payload)
}

/// A ChannelData message without padding.
pub fn channel(number: u16, payload: &[u8]) -> Vec<u8> {
    let len = u16::try_from(payload.len()).expect("a datagram's length fits 16 bits");
    [&number.to_be_bytes(), &len.to_be_bytes(), payload].concat()
}

/// Appends an attribute to an encoded message and corrects the header's length.
pub fn push(message: &mut Vec<u8>, kind: u16, value: &[u8]) {
    push_padded(message, kind, value, 0);
}

fn push_padded(message: &mut Vec<u8>, kind: u16, value: &[u8], padding: u8) {
    let len = u16::try_from(value.len()).expect("an attribute's length fits 16 bits");
    message.extend_from_slice(&kind.to_be_bytes());
    message.extend_from_slice(&len.to_be_bytes());
    message.extend_from_slice(value);
    message.resize(message.len().next_multiple_of(4), padding);
    let len = u16::try_from(message.len() - HEADER).expect("a message's length fits 16 bits");
    message[2..4].copy_from_slice(&len.to_be_bytes());
}

/// Appends the integrity attribute of this kind (RFC 8489 §14.5, §14.6).
pub fn push_mac(message: &mut Vec<u8>, kind: MacKind, key: &[u8]) {
    let at = message.len();
    push(message, kind.attribute(), &vec![0; kind.len()]);
    let mac = mac(&message[..at], kind, key);
    message[at + 4..].copy_from_slice(&mac);
}

/// Appends FINGERPRINT (RFC 8489 §14.7).
pub fn push_fingerprint(message: &mut Vec<u8>) {
    let at = message.len();
    push(message, attribute::FINGERPRINT, &[0; 4]);
    let crc = crc32fast::hash(&message[..at]) ^ 0x5354_554E;
    message[at + 4..].copy_from_slice(&crc.to_be_bytes());
}

/// The MAC over bytes whose header already counts the integrity attribute.
fn mac(covered: &[u8], kind: MacKind, key: &[u8]) -> Vec<u8> {
    match kind {
        MacKind::Sha1 => {
            let mac = Hmac::<Sha1>::new_from_slice(key).expect("HMAC takes a key of any length");
            mac.chain_update(covered).finalize().into_bytes().to_vec()
        }
        MacKind::Sha256 => {
            let mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
            mac.chain_update(covered).finalize().into_bytes().to_vec()
        }
    }
}

/// The two class bits stand at 4 and 8 of the type, the method's bits around them (RFC 8489 §5).
fn message_type(class: Class, method: Method) -> u16 {
    let m = method.bits();
    let class = match class {
        Class::Request => 0b00,
        Class::Indication => 0b01,
        Class::Success => 0b10,
        Class::Error => 0b11,
    };
    (m >> 7) << 9 | (class >> 1) << 8 | (m >> 4 & 7) << 5 | (class & 1) << 4 | m & 0xF
}

fn xor(address: SocketAddr, id: &[u8; 12]) -> Vec<u8> {
    let (family, ip) = match address.ip() {
        IpAddr::V4(ip) => (1, ip.octets().to_vec()),
        IpAddr::V6(ip) => (2, ip.octets().to_vec()),
    };
    let mut value = vec![0, family];
    value.extend(address.port().to_be_bytes().iter().zip(COOKIE).map(|(byte, mask)| byte ^ mask));
    value.extend(ip.iter().zip(COOKIE.iter().chain(id)).map(|(byte, mask)| byte ^ mask));
    value
}

/// A message of the server, taken apart by a strict reader: one that a real client could not use panics.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    /// All of it.
    pub bytes: Vec<u8>,
    /// Class.
    pub class: Class,
    /// Method.
    pub method: Method,
    /// Transaction id.
    pub id: [u8; 12],
    /// Type, offset and value of each attribute.
    pub attributes: Vec<(u16, usize, Vec<u8>)>,
}

impl Reply {
    /// Reads a message; panics on any that breaks RFC 8489 §5 or §14, padding that is not zero included.
    pub fn decode(bytes: &[u8]) -> Reply {
        let word = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
        assert!(bytes.len() >= HEADER && bytes[0] & 0xC0 == 0 && bytes[4..8] == COOKIE, "no STUN message: {bytes:?}");
        assert_eq!(HEADER + usize::from(word(2)), bytes.len(), "the length is that of the message");
        let kind = word(0);
        let class = match (kind >> 8 & 1, kind >> 4 & 1) {
            (0, 0) => Class::Request,
            (0, _) => Class::Indication,
            (_, 0) => Class::Success,
            _ => Class::Error,
        };
        let method = Method::from_bits(kind & 0xF | kind >> 1 & 0x70 | kind >> 2 & 0xF80);
        let (mut attributes, mut at) = (Vec::new(), HEADER);
        while at < bytes.len() {
            let end = at + 4 + usize::from(word(at + 2));
            let next = end.next_multiple_of(4);
            assert!(bytes[end..next].iter().all(|&byte| byte == 0), "padding is zero");
            attributes.push((word(at), at, bytes[at + 4..end].to_vec()));
            at = next;
        }
        let reply = Reply { bytes: bytes.to_vec(), class, method, id: bytes[8..20].try_into().unwrap(), attributes };
        reply.check_fingerprint();
        reply
    }

    fn check_fingerprint(&self) {
        let Some((at, value)) = self.find(attribute::FINGERPRINT) else { return };
        assert_eq!(at + 8, self.bytes.len(), "FINGERPRINT is last");
        assert_eq!(value, (crc32fast::hash(&self.bytes[..at]) ^ 0x5354_554E).to_be_bytes(), "FINGERPRINT is right");
    }

    fn find(&self, kind: u16) -> Option<(usize, &[u8])> {
        self.attributes.iter().find(|(k, ..)| *k == kind).map(|(_, at, value)| (*at, &value[..]))
    }

    /// The value of the first attribute of a type.
    pub fn get(&self, kind: u16) -> Option<&[u8]> {
        self.find(kind).map(|(_, value)| value)
    }

    /// Whether there is an attribute of a type.
    pub fn has(&self, kind: u16) -> bool {
        self.find(kind).is_some()
    }

    /// The types of all attributes, in order.
    pub fn kinds(&self) -> Vec<u16> {
        self.attributes.iter().map(|(kind, ..)| *kind).collect()
    }

    /// The error code, 0 for success.
    pub fn code(&self) -> u16 {
        match self.get(attribute::ERROR_CODE) {
            Some(&[0, 0, class @ 3..=6, number @ 0..=99, ..]) => u16::from(class) * 100 + u16::from(number),
            Some(other) => panic!("no error code: {other:?}"),
            None => 0,
        }
    }

    /// A value of four bytes as a number, such as LIFETIME.
    pub fn number(&self, kind: u16) -> Option<u32> {
        self.get(kind).map(|value| u32::from_be_bytes(value.try_into().expect("the value has four bytes")))
    }

    /// All XORed addresses of a type.
    pub fn addresses(&self, kind: u16) -> Vec<SocketAddr> {
        let all = self.attributes.iter().filter(|(k, ..)| *k == kind);
        all.map(|(_, _, value)| self.address_in(value)).collect()
    }

    /// The one XORed address of a type.
    pub fn address(&self, kind: u16) -> SocketAddr {
        match self.addresses(kind)[..] {
            [only] => only,
            ref all => panic!("one address of type {kind:#06x} expected: {all:?}"),
        }
    }

    fn address_in(&self, value: &[u8]) -> SocketAddr {
        let plain: Vec<u8> = value[4..].iter().zip(COOKIE.iter().chain(&self.id)).map(|(a, b)| a ^ b).collect();
        let port = u16::from_be_bytes([value[2] ^ COOKIE[0], value[3] ^ COOKIE[1]]);
        let ip: IpAddr = match (value[0], value[1]) {
            (0, 1) => <[u8; 4]>::try_from(plain).expect("an IPv4 address has four bytes").into(),
            (0, 2) => <[u8; 16]>::try_from(plain).expect("an IPv6 address has sixteen bytes").into(),
            other => panic!("neither IPv4 nor IPv6: {other:?}"),
        };
        SocketAddr::new(ip, port)
    }

    /// Which integrity attribute it bears; never both.
    pub fn integrity(&self) -> Option<MacKind> {
        match (self.has(attribute::MESSAGE_INTEGRITY), self.has(attribute::MESSAGE_INTEGRITY_SHA256)) {
            (true, true) => panic!("two integrity attributes in an answer"),
            (true, false) => Some(MacKind::Sha1),
            (false, true) => Some(MacKind::Sha256),
            (false, false) => None,
        }
    }

    /// Whether its integrity attribute is right for this key; false without one.
    pub fn is_signed_by(&self, key: &[u8]) -> bool {
        let Some(kind) = self.integrity() else { return false };
        let (at, value) = self.find(kind.attribute()).expect("it was there");
        let mut covered = self.bytes[..at].to_vec();
        let len = u16::try_from(at + 4 + kind.len() - HEADER).expect("it fitted before");
        covered[2..4].copy_from_slice(&len.to_be_bytes());
        value == mac(&covered, kind, key)
    }
}
