//! STUN messages (RFC 8489 §5, §14): a checked view in, a writer into a borrowed slice out.

use super::attribute::{self, ADDRESS_LEN_MAX};
use super::integrity::{self, Key, MacKind, Signer};
use super::{ParseError, padded};
use std::net::SocketAddr;
use std::ops::Range;

/// The fixed value of bytes 4–7.
pub const MAGIC_COOKIE: u32 = 0x2112_A442;
/// Bytes of the fixed header.
pub const HEADER_LEN: usize = 20;
/// Type and length of an attribute.
pub const ATTRIBUTE_HEADER_LEN: usize = 4;

/// The 96 bits by which a response finds its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default, serde::Serialize, serde::Deserialize)]
pub struct TransactionId(pub [u8; 12]);

/// The two class bits of the message type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// 0b00.
    Request,
    /// 0b01.
    Indication,
    /// 0b10.
    Success,
    /// 0b11.
    Error,
}

/// The twelve method bits of the message type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Method(u16);

impl Method {
    /// RFC 8489 §18.2.
    pub const BINDING: Method = Method(0x001);
    /// RFC 8656 §17.
    pub const ALLOCATE: Method = Method(0x003);
    /// RFC 8656 §17.
    pub const REFRESH: Method = Method(0x004);
    /// RFC 8656 §17; indications only.
    pub const SEND: Method = Method(0x006);
    /// RFC 8656 §17; indications only.
    pub const DATA: Method = Method(0x007);
    /// RFC 8656 §17.
    pub const CREATE_PERMISSION: Method = Method(0x008);
    /// RFC 8656 §17.
    pub const CHANNEL_BIND: Method = Method(0x009);
    /// RFC 6062 §6.1.
    pub const CONNECT: Method = Method(0x00A);
    /// RFC 6062 §6.1.
    pub const CONNECTION_BIND: Method = Method(0x00B);
    /// RFC 6062 §6.1; indications only.
    pub const CONNECTION_ATTEMPT: Method = Method(0x00C);

    /// Any twelve-bit number; bits above are cut.
    pub const fn from_bits(bits: u16) -> Self {
        Method(bits & 0x0FFF)
    }

    /// The number, 0–0xFFF.
    pub const fn bits(self) -> u16 {
        self.0
    }
}

/// Message type from class and method: the class bits sit at 4 and 8 (RFC 8489 §5).
pub const fn message_type(class: Class, method: Method) -> u16 {
    let m = method.0;
    let class = match class {
        Class::Request => 0x000,
        Class::Indication => 0x010,
        Class::Success => 0x100,
        Class::Error => 0x110,
    };
    (m & 0x000F) | (m & 0x0070) << 1 | (m & 0x0F80) << 2 | class
}

const fn split_type(kind: u16) -> (Class, Method) {
    let class = match (kind & 0x100 != 0, kind & 0x010 != 0) {
        (false, false) => Class::Request,
        (false, true) => Class::Indication,
        (true, false) => Class::Success,
        (true, true) => Class::Error,
    };
    (class, Method(kind & 0x000F | (kind & 0x00E0) >> 1 | (kind & 0x3E00) >> 2))
}

/// A checked STUN message.
///
/// What comes after the integrity attributes is invisible here, except FINGERPRINT
/// (RFC 8489 §9): an attribute an attacker appends is never seen by anyone.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    bytes: &'a [u8],
    /// Where the visible attributes end.
    visible_end: usize,
    /// Offset of MESSAGE-INTEGRITY.
    sha1_at: Option<usize>,
    /// Offset of MESSAGE-INTEGRITY-SHA256.
    sha256_at: Option<usize>,
    has_fingerprint: bool,
}

impl<'a> Message<'a> {
    /// Checks a whole message: header, length, the walk over all attributes, FINGERPRINT.
    /// The slice must be exactly the message; trailing bytes are [`ParseError::Length`].
    pub fn parse(bytes: &'a [u8]) -> Result<Self, ParseError> {
        let Some(header) = bytes.first_chunk::<HEADER_LEN>() else {
            return Err(ParseError::Truncated);
        };
        if header[0] & 0xC0 != 0 || header[4..8] != MAGIC_COOKIE.to_be_bytes() {
            return Err(ParseError::NotStun);
        }
        let len = usize::from(u16::from_be_bytes([header[2], header[3]]));
        if !len.is_multiple_of(4) || HEADER_LEN + len != bytes.len() {
            return Err(ParseError::Length);
        }
        let mut message =
            Message { bytes, visible_end: bytes.len(), sha1_at: None, sha256_at: None, has_fingerprint: false };
        message.walk()?;
        Ok(message)
    }

    fn walk(&mut self) -> Result<(), ParseError> {
        let end = self.bytes.len();
        let mut at = HEADER_LEN;
        while at < end {
            let Some(&[t0, t1, l0, l1]) = self.bytes[at..].first_chunk() else {
                return Err(ParseError::Attribute);
            };
            let len = usize::from(u16::from_be_bytes([l0, l1]));
            let next = at + ATTRIBUTE_HEADER_LEN + padded(len);
            if next > end {
                return Err(ParseError::Attribute);
            }
            match u16::from_be_bytes([t0, t1]) {
                attribute::MESSAGE_INTEGRITY if self.sha1_at.is_none() && self.sha256_at.is_none() => {
                    self.sha1_at = Some(at);
                    self.visible_end = at;
                }
                attribute::MESSAGE_INTEGRITY_SHA256 if self.sha256_at.is_none() => {
                    self.sha256_at = Some(at);
                    self.visible_end = self.visible_end.min(at);
                }
                attribute::FINGERPRINT => {
                    let value = &self.bytes[at + ATTRIBUTE_HEADER_LEN..][..len];
                    if value != integrity::fingerprint(self.bytes, at) {
                        return Err(ParseError::Fingerprint);
                    }
                    self.has_fingerprint = true;
                    self.visible_end = self.visible_end.min(at);
                    return Ok(()); // the last attribute by definition; what follows is not read
                }
                _ => {}
            }
            at = next;
        }
        Ok(())
    }

    /// Class of the message.
    #[inline]
    pub fn class(&self) -> Class {
        split_type(u16::from_be_bytes([self.bytes[0], self.bytes[1]])).0
    }

    /// Method of the message; may be one nobody knows.
    #[inline]
    pub fn method(&self) -> Method {
        split_type(u16::from_be_bytes([self.bytes[0], self.bytes[1]])).1
    }

    /// Transaction id.
    #[inline]
    pub fn transaction_id(&self) -> TransactionId {
        let mut id = [0; 12];
        id.copy_from_slice(&self.bytes[8..HEADER_LEN]);
        TransactionId(id)
    }

    /// The visible attributes in order, duplicates included.
    #[inline]
    pub fn attributes(&self) -> Attributes<'a> {
        Attributes { bytes: &self.bytes[..self.visible_end], at: HEADER_LEN }
    }

    /// The first occurrence of an attribute, the one that counts (RFC 8489 §14).
    #[inline]
    pub fn get(&self, kind: u16) -> Option<&'a [u8]> {
        self.attributes().find(|a| a.kind == kind).map(|a| a.value)
    }

    /// Whether an integrity attribute of either kind is there.
    pub fn has_integrity(&self) -> bool {
        self.sha1_at.is_some() || self.sha256_at.is_some()
    }

    /// The integrity attribute that decides: SHA-256 when present (RFC 8489 §9.2.4).
    pub fn integrity_kind(&self) -> Option<MacKind> {
        match (self.sha256_at, self.sha1_at) {
            (Some(_), _) => Some(MacKind::Sha256),
            (None, Some(_)) => Some(MacKind::Sha1),
            (None, None) => None,
        }
    }

    /// Whether the deciding integrity attribute is right for this key, in constant time.
    /// False without one, and for a truncated MESSAGE-INTEGRITY-SHA256, which TURN does not
    /// allow (RFC 8489 §14.6).
    pub fn verify_integrity(&self, key: &Key) -> bool {
        self.verified_by(key).is_some()
    }

    /// As [`Message::verify_integrity`]; gives the key made ready to sign an answer.
    pub fn verified_by(&self, key: &Key) -> Option<Signer> {
        let (at, kind) = match (self.sha256_at, self.sha1_at) {
            (Some(at), _) => (at, MacKind::Sha256),
            (None, Some(at)) => (at, MacKind::Sha1),
            (None, None) => return None,
        };
        let signer = Signer::new(kind, key.as_bytes());
        signer.verify(self.bytes, at).then_some(signer)
    }

    /// Whether the message carried a (correct) FINGERPRINT.
    pub fn has_fingerprint(&self) -> bool {
        self.has_fingerprint
    }
}

/// One attribute of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attribute<'a> {
    /// Its type.
    pub kind: u16,
    /// Its value, without padding.
    pub value: &'a [u8],
    /// Where the value lies in the message.
    pub range: Range<usize>,
}

/// Iterator over attributes that a parse has already checked.
#[derive(Clone, Debug)]
pub struct Attributes<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Iterator for Attributes<'a> {
    type Item = Attribute<'a>;

    #[inline]
    fn next(&mut self) -> Option<Attribute<'a>> {
        let &[t0, t1, l0, l1] = self.bytes.get(self.at..)?.first_chunk()?;
        let len = usize::from(u16::from_be_bytes([l0, l1]));
        let start = self.at + ATTRIBUTE_HEADER_LEN;
        let range = start..start + len;
        let value = self.bytes.get(range.clone())?;
        self.at = start + padded(len);
        Some(Attribute { kind: u16::from_be_bytes([t0, t1]), value, range })
    }
}

/// The message did not fit the slice the writer was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overflow;

/// Writes one message. Every byte up to the returned length is the writer's, padding
/// included: nothing that lay in the buffer before leaves with it.
#[derive(Debug)]
pub struct Writer<'a> {
    out: &'a mut [u8],
    len: usize,
    overflow: bool,
}

impl<'a> Writer<'a> {
    /// Begins a message.
    pub fn new(out: &'a mut [u8], class: Class, method: Method, id: TransactionId) -> Self {
        let mut writer = Writer { out, len: 0, overflow: false };
        if let Some(header) = writer.out.first_chunk_mut::<HEADER_LEN>() {
            header[..2].copy_from_slice(&message_type(class, method).to_be_bytes());
            header[2..4].fill(0);
            header[4..8].copy_from_slice(&MAGIC_COOKIE.to_be_bytes());
            header[8..].copy_from_slice(&id.0);
            writer.len = HEADER_LEN;
        } else {
            writer.overflow = true;
        }
        writer
    }

    /// Goes on with a message of `len` bytes that an earlier writer finished in `out`.
    pub fn resume(out: &'a mut [u8], len: usize) -> Self {
        let overflow = len < HEADER_LEN || len > out.len();
        Writer { out, len, overflow }
    }

    /// Appends an attribute with zeroed padding.
    pub fn push(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        self.push_parts(kind, &[value])
    }

    /// Appends an attribute whose value lies in several pieces.
    pub fn push_parts(&mut self, kind: u16, parts: &[&[u8]]) -> &mut Self {
        let len: usize = parts.iter().map(|part| part.len()).sum();
        let next = self.len + ATTRIBUTE_HEADER_LEN + padded(len);
        if self.overflow || next > self.out.len() || next - HEADER_LEN > usize::from(u16::MAX) {
            self.overflow = true;
            return self;
        }
        self.out[self.len..self.len + 2].copy_from_slice(&kind.to_be_bytes());
        self.out[self.len + 2..self.len + 4].copy_from_slice(&(len as u16).to_be_bytes());
        let mut at = self.len + ATTRIBUTE_HEADER_LEN;
        for part in parts {
            self.out[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        }
        self.out[at..next].fill(0);
        self.len = next;
        self.set_length(next);
        self
    }

    /// Appends an XOR-encoded address.
    pub fn push_xor_address(&mut self, kind: u16, addr: SocketAddr) -> &mut Self {
        let mut value = [0; ADDRESS_LEN_MAX];
        let id = self.transaction_id();
        let len = attribute::encode_xor_address(addr, &id, &mut value);
        self.push(kind, &value[..len])
    }

    /// Appends ERROR-CODE without a reason phrase: the shortest legal form (RFC 8489 §14.8),
    /// so that an answer to a stranger stays small.
    pub fn push_error(&mut self, code: u16) -> &mut Self {
        self.push(attribute::ERROR_CODE, &attribute::encode_error_code(code))
    }

    /// Appends the integrity attribute of this kind over all that was written.
    pub fn push_integrity(&mut self, kind: MacKind, key: &Key) -> &mut Self {
        self.sign(&Signer::new(kind, key.as_bytes()))
    }

    /// As [`Writer::push_integrity`], by a key that is ready.
    pub fn sign(&mut self, signer: &Signer) -> &mut Self {
        let at = self.len;
        let (attr, len) = (signer.kind().attribute(), signer.kind().len());
        self.push(attr, &[0; 32][..len]);
        if !self.overflow {
            let mac = signer.mac_of_message(self.out, at);
            self.out[at + ATTRIBUTE_HEADER_LEN..][..len].copy_from_slice(&mac[..len]);
        }
        self
    }

    /// Appends FINGERPRINT; must come last.
    pub fn push_fingerprint(&mut self) -> &mut Self {
        let at = self.len;
        self.push(attribute::FINGERPRINT, &[0; 4]);
        if !self.overflow {
            let crc = integrity::fingerprint(&self.out[..self.len], at);
            self.out[at + ATTRIBUTE_HEADER_LEN..][..4].copy_from_slice(&crc);
        }
        self
    }

    /// Ends the message and returns its length in bytes.
    pub fn finish(&self) -> Result<usize, Overflow> {
        if self.overflow { Err(Overflow) } else { Ok(self.len) }
    }

    fn set_length(&mut self, end: usize) {
        self.out[2..4].copy_from_slice(&((end - HEADER_LEN) as u16).to_be_bytes());
    }

    fn transaction_id(&self) -> TransactionId {
        let mut id = [0; 12];
        if let Some(bytes) = self.out.get(8..HEADER_LEN) {
            id.copy_from_slice(bytes);
        }
        TransactionId(id)
    }
}

/// Longest header that [`data_indication_header`] writes: STUN header, XOR-PEER-ADDRESS
/// for IPv6, DATA's type and length.
pub const DATA_INDICATION_HEADER_MAX: usize = HEADER_LEN + ATTRIBUTE_HEADER_LEN + 20 + ATTRIBUTE_HEADER_LEN;

/// Bytes [`data_indication_header`] writes for a peer of this family.
#[inline]
pub fn data_indication_header_len(peer: SocketAddr) -> usize {
    if peer.is_ipv4() { DATA_INDICATION_HEADER_MAX - 12 } else { DATA_INDICATION_HEADER_MAX }
}

/// Writes what precedes `len` bytes of payload in a Data indication (RFC 8656 §11.3) to the
/// end of `headroom`, so that payload already in place needs no copy. The caller zeroes the
/// `padded(len) - len` bytes after the payload and sends them too.
#[inline]
pub fn data_indication_header(
    headroom: &mut [u8; DATA_INDICATION_HEADER_MAX],
    peer: SocketAddr,
    len: usize,
    id: TransactionId,
) {
    let header_len = data_indication_header_len(peer);
    let out = &mut headroom[DATA_INDICATION_HEADER_MAX - header_len..];
    let body = header_len - HEADER_LEN + padded(len);
    out[..2].copy_from_slice(&message_type(Class::Indication, Method::DATA).to_be_bytes());
    out[2..4].copy_from_slice(&(body as u16).to_be_bytes());
    out[4..8].copy_from_slice(&MAGIC_COOKIE.to_be_bytes());
    out[8..20].copy_from_slice(&id.0);
    let mut address = [0; ADDRESS_LEN_MAX];
    let address_len = attribute::encode_xor_address(peer, &id, &mut address);
    out[20..22].copy_from_slice(&attribute::XOR_PEER_ADDRESS.to_be_bytes());
    out[22..24].copy_from_slice(&(address_len as u16).to_be_bytes());
    out[24..24 + address_len].copy_from_slice(&address[..address_len]);
    let at = 24 + address_len;
    out[at..at + 2].copy_from_slice(&attribute::DATA.to_be_bytes());
    out[at + 2..at + 4].copy_from_slice(&(len as u16).to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binding(out: &mut [u8]) -> Writer<'_> {
        Writer::new(out, Class::Request, Method::BINDING, TransactionId([9; 12]))
    }

    #[test]
    fn types_round_trip() {
        for method in 0..0x1000 {
            for class in [Class::Request, Class::Indication, Class::Success, Class::Error] {
                let kind = message_type(class, Method(method));
                assert_eq!(kind & 0xC000, 0);
                assert_eq!(split_type(kind), (class, Method(method)));
            }
        }
        assert_eq!(message_type(Class::Error, Method::ALLOCATE), 0x0113);
    }

    #[test]
    fn what_lay_in_the_buffer_never_leaves_with_a_message() {
        let key = Key::from_bytes(b"0123456789abcdef");
        let write = |fill: u8| {
            let mut out = [fill; 256];
            let mut w = binding(&mut out);
            w.push(attribute::SOFTWARE, b"abcde").push_integrity(MacKind::Sha1, &key).push_fingerprint();
            let len = w.finish().unwrap();
            out[..len].to_vec()
        };
        assert_eq!(write(0xAA), write(0x55));
        let mut headroom = [[0xAA; DATA_INDICATION_HEADER_MAX], [0x55; DATA_INDICATION_HEADER_MAX]];
        let peer: SocketAddr = "[2001:db8::1]:9".parse().unwrap();
        for h in &mut headroom {
            data_indication_header(h, peer, 5, TransactionId([1; 12]));
        }
        assert_eq!(headroom[0], headroom[1]);
    }

    #[test]
    fn attributes_after_the_integrity_are_invisible() {
        let key = Key::from_bytes(b"0123456789abcdef");
        let mut out = [0; 256];
        let mut w = binding(&mut out);
        w.push(attribute::USERNAME, b"u").push_integrity(MacKind::Sha1, &key);
        w.push(attribute::LIFETIME, &[0; 4]).push_fingerprint();
        let len = w.finish().unwrap();
        let message = Message::parse(&out[..len]).unwrap();
        assert!(message.verify_integrity(&key));
        assert!(message.has_fingerprint());
        assert_eq!(message.attributes().map(|a| a.kind).collect::<Vec<_>>(), [attribute::USERNAME]);
    }

    #[test]
    fn sha256_decides_when_both_are_there() {
        let (right, wrong) = (Key::from_bytes(b"right"), Key::from_bytes(b"wrong"));
        let mut out = [0; 256];
        let mut w = binding(&mut out);
        w.push_integrity(MacKind::Sha1, &right).push_integrity(MacKind::Sha256, &wrong);
        let len = w.finish().unwrap();
        let message = Message::parse(&out[..len]).unwrap();
        assert!(!message.verify_integrity(&right));
        assert!(message.verify_integrity(&wrong));
    }

    #[test]
    fn lengths_are_strict() {
        let mut out = [0; 64];
        let len = binding(&mut out).finish().unwrap();
        assert!(Message::parse(&out[..len]).is_ok());
        assert_eq!(Message::parse(&out[..len + 1]).unwrap_err(), ParseError::Length);
        assert_eq!(Message::parse(&out[..len - 1]).unwrap_err(), ParseError::Truncated);
        out[3] = 3;
        assert_eq!(Message::parse(&out[..23]).unwrap_err(), ParseError::Length);
        out[3] = 4;
        out[20..24].copy_from_slice(&[0, 6, 0xFF, 0xFF]);
        assert_eq!(Message::parse(&out[..24]).unwrap_err(), ParseError::Attribute);
    }

    #[test]
    fn a_slice_too_small_is_an_overflow_and_not_a_panic() {
        for size in 0..60 {
            let mut out = vec![0; size];
            let mut w = binding(&mut out);
            w.push(attribute::USERNAME, b"someone").push_integrity(MacKind::Sha1, &Key::from_bytes(b"k"));
            assert_eq!(w.finish().is_ok(), size >= 20 + 12 + 24, "{size}");
        }
    }

    #[test]
    fn a_data_indication_parses_and_its_payload_is_in_place() {
        let peer: SocketAddr = "192.0.2.7:4000".parse().unwrap();
        let mut bytes = [0u8; DATA_INDICATION_HEADER_MAX + 8];
        let (head, tail) = bytes.split_first_chunk_mut::<DATA_INDICATION_HEADER_MAX>().unwrap();
        data_indication_header(head, peer, 5, TransactionId([3; 12]));
        tail[..5].copy_from_slice(b"hello");
        let message = Message::parse(&bytes[DATA_INDICATION_HEADER_MAX - data_indication_header_len(peer)..]).unwrap();
        assert_eq!((message.class(), message.method()), (Class::Indication, Method::DATA));
        assert_eq!(message.get(attribute::DATA), Some(&b"hello"[..]));
        let value = message.get(attribute::XOR_PEER_ADDRESS).unwrap();
        assert_eq!(attribute::xor_address(value, &message.transaction_id()), Some(peer));
    }
}
