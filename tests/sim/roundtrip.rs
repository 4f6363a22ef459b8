//! A message that bytes describe, written by the library and read twice: what was meant comes back, no byte of it was
//! in the buffer before, and whoever changes a signed bit is found out. Body of the fuzz target `stun_roundtrip`.

use super::chance::{Bytes, Choice};
use super::message::{self as m, Build, Class, Seal};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use turnpike::wire::attribute;
use turnpike::wire::integrity::{Key, MacKind};
use turnpike::wire::stun::{self, Message, Method, Overflow, TransactionId, Writer};

/// Most attributes of one message.
const PARTS_MAX: usize = 40;
/// Longest value, in bytes.
const VALUE_LEN_MAX: u32 = 800;
/// Room for any message described here.
const ROOM: u32 = 40_000;
/// Attributes that hold an address under the mask.
const MASKED: [u16; 3] = [m::XOR_PEER_ADDRESS, m::XOR_RELAYED_ADDRESS, m::XOR_MAPPED_ADDRESS];

/// One attribute as it is meant.
enum Part {
    Plain(u16, Vec<u8>),
    /// Written in two pieces that meet here.
    Pieces(u16, Vec<u8>, usize),
    Address(u16, SocketAddr),
    Error(u16),
}

/// A message as it is meant.
struct Draft {
    class: Class,
    method: u16,
    tid: [u8; 12],
    parts: Vec<Part>,
    key: Vec<u8>,
    seals: Vec<Seal>,
    fingerprint: bool,
    /// Bytes there is room for.
    room: usize,
    /// The bit to turn, from the front.
    turned: usize,
}

/// A description: class, method, transaction id, seals, room, the bit to turn, then attributes until it ends.
pub fn stun_roundtrip(input: &[u8]) {
    let draft = Draft::read(&mut Bytes::new(input));
    let [dark, bright] = [0xAA, 0x55].map(|stale| {
        let mut out = vec![stale; draft.room];
        let written = draft.write(&mut out);
        (out, written)
    });
    assert_eq!(dark.1, bright.1);
    let expected = draft.expected();
    let Ok((body, len)) = dark.1 else {
        return assert!(draft.room < expected.len(), "{} bytes fit into {}", expected.len(), draft.room);
    };
    assert_eq!(dark.0[..len], bright.0[..len], "no byte of a message was in the buffer before");
    assert!(dark.0[len..].iter().all(|byte| *byte == 0xAA), "nothing is written behind a message");
    assert_eq!(dark.0[..len], expected);
    draft.read_back(&expected);
    draft.turn_a_bit(&expected, body);
}

impl Draft {
    fn read(choice: &mut Bytes<'_>) -> Self {
        let class = choice.pick(&[Class::Request, Class::Indication, Class::Success, Class::Error]);
        let method = choice.below(0x1000) as u16;
        let tid = std::array::from_fn(|_| choice.below(0x100) as u8);
        let seals = choice.pick(&[&[][..], &[Seal::Sha1], &[Seal::Sha256], &[Seal::Sha1, Seal::Sha256]]).to_vec();
        let fingerprint = choice.below(2) == 1;
        let room = if choice.one_in(4) { choice.below(ROOM) } else { ROOM } as usize;
        let turned = choice.below(0x1_0000) as usize;
        let key = (0..choice.below(33)).map(|_| choice.below(0x100) as u8).collect();
        let mut parts = Vec::new();
        while !choice.is_over() && parts.len() < PARTS_MAX {
            parts.push(Part::read(choice));
        }
        Draft { class, method, tid, parts, key, seals, fingerprint, room, turned }
    }

    /// Length without and with what proves it.
    fn write(&self, out: &mut [u8]) -> Result<(usize, usize), Overflow> {
        let class = match self.class {
            Class::Request => stun::Class::Request,
            Class::Indication => stun::Class::Indication,
            Class::Success => stun::Class::Success,
            Class::Error => stun::Class::Error,
        };
        let mut writer = Writer::new(out, class, Method::from_bits(self.method), TransactionId(self.tid));
        for part in &self.parts {
            match part {
                Part::Plain(kind, value) => writer.push(*kind, value),
                Part::Pieces(kind, value, at) => writer.push_parts(*kind, &[&value[..*at], &value[*at..]]),
                Part::Address(kind, addr) if MASKED.contains(kind) => writer.push_xor_address(*kind, *addr),
                Part::Address(kind, addr) => {
                    let mut value = [0xEE; attribute::ADDRESS_LEN_MAX];
                    let len = attribute::encode_address(*addr, &mut value);
                    writer.push(*kind, &value[..len])
                }
                Part::Error(code) => writer.push_error(*code),
            };
        }
        let body = writer.finish();
        for seal in &self.seals {
            let kind = if *seal == Seal::Sha1 { MacKind::Sha1 } else { MacKind::Sha256 };
            writer.push_integrity(kind, &Key::from_bytes(&self.key));
        }
        if self.fingerprint {
            writer.push_fingerprint();
        }
        let len = writer.finish()?;
        Ok((body?, len))
    }

    /// The same message, written the plain way, padded with zeros.
    fn expected(&self) -> Vec<u8> {
        let mut bytes = Build::new(self.class, self.method, self.tid).done();
        for (kind, value) in self.parts.iter().map(|part| part.expected(&self.tid)) {
            bytes.extend([kind.to_be_bytes(), (value.len() as u16).to_be_bytes()].concat());
            bytes.extend(value);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
        let body = (bytes.len() - 20) as u16;
        bytes[2..4].copy_from_slice(&body.to_be_bytes());
        let mut build = Build::resume(bytes);
        self.seals.iter().for_each(|seal| build.sign(*seal, &self.key));
        if self.fingerprint {
            build.push_fingerprint();
        }
        build.done()
    }

    fn read_back(&self, bytes: &[u8]) {
        let (message, plain) = (Message::parse(bytes), m::read(bytes));
        let (message, plain) = (message.expect("what was written is read"), plain.expect("and read the plain way"));
        let meant: Vec<_> = self.parts.iter().map(|part| part.expected(&self.tid)).collect();
        assert_eq!(plain.attributes, meant);
        assert!(message.attributes().map(|a| (a.kind, a.value.to_vec())).eq(meant));
        assert_eq!((message.method().bits(), message.transaction_id().0), (self.method, self.tid));
        assert_eq!((plain.method, plain.tid, plain.class), (self.method, self.tid, self.class));
        assert_eq!(message.has_fingerprint(), self.fingerprint);
        let key = Key::from_bytes(&self.key);
        assert_eq!(
            (message.has_integrity(), message.verify_integrity(&key)),
            (!self.seals.is_empty(), plain.is_signed())
        );
        assert_eq!(plain.is_sealed_by(&self.key), !self.seals.is_empty());
        for (a, part) in message.attributes().zip(&self.parts) {
            match part {
                Part::Address(kind, addr) if MASKED.contains(kind) => {
                    assert_eq!(attribute::xor_address(a.value, &message.transaction_id()), Some(*addr));
                }
                Part::Address(_, addr) => assert_eq!(attribute::address(a.value), Some(*addr)),
                Part::Error(code) => assert_eq!(attribute::error_code(a.value), Some(*code)),
                Part::Plain(..) | Part::Pieces(..) => {}
            }
        }
    }

    /// A bit of what is signed does not change unseen; a fingerprint notices any bit before it.
    fn turn_a_bit(&self, bytes: &[u8], body: usize) {
        let end = match (self.seals.is_empty(), self.fingerprint) {
            (false, _) => body,
            (true, true) => bytes.len() - 8,
            (true, false) => return,
        };
        let at = self.turned / 8 % end;
        let mut turned = bytes.to_vec();
        turned[at] ^= 1 << (self.turned % 8);
        let read = Message::parse(&turned);
        match self.seals.is_empty() {
            false => {
                let verifies = read.is_ok_and(|message| message.verify_integrity(&Key::from_bytes(&self.key)));
                assert!(!verifies, "byte {at} is signed");
            }
            // A turned bit may make what is before it a fingerprint of its own, which is then wrong.
            true => assert!(read.is_err() || read.is_ok_and(|message| !message.has_fingerprint()), "byte {at}"),
        }
    }
}

impl Part {
    fn read(choice: &mut Bytes<'_>) -> Self {
        match choice.below(6) {
            0 => Part::Error(300 + choice.below(400) as u16),
            1 => Part::Address(choice.pick(&MASKED), address(choice)),
            2 => Part::Address(choice.pick(&[m::ALTERNATE_SERVER, 0x0001]), address(choice)),
            3 => {
                let value = value(choice);
                let at = choice.below(value.len() as u32 + 1) as usize;
                Part::Pieces(kind(choice), value, at)
            }
            _ => Part::Plain(kind(choice), value(choice)),
        }
    }

    fn expected(&self, tid: &[u8; 12]) -> (u16, Vec<u8>) {
        match self {
            Part::Plain(kind, value) | Part::Pieces(kind, value, _) => (*kind, value.clone()),
            Part::Address(kind, addr) if MASKED.contains(kind) => (*kind, m::encode_address(*addr, tid)),
            Part::Address(kind, addr) => (*kind, m::plain_address(*addr)),
            Part::Error(code) => (m::ERROR_CODE, vec![0, 0, (code / 100) as u8, (code % 100) as u8]),
        }
    }
}

/// Any attribute but those that end what may be seen.
fn kind(choice: &mut Bytes<'_>) -> u16 {
    match choice.below(0x1_0000) as u16 {
        m::MESSAGE_INTEGRITY | m::MESSAGE_INTEGRITY_SHA256 | m::FINGERPRINT => m::DATA,
        kind => kind,
    }
}

fn value(choice: &mut Bytes<'_>) -> Vec<u8> {
    let len = choice.below(VALUE_LEN_MAX);
    (0..len).map(|_| choice.below(0x100) as u8).collect()
}

fn address(choice: &mut Bytes<'_>) -> SocketAddr {
    let mut bits = || choice.below(u32::MAX);
    let port = bits() as u16;
    match bits() & 1 {
        0 => SocketAddr::new(IpAddr::V4(Ipv4Addr::from_bits(bits())), port),
        _ => {
            let ip = (0..4).fold(0, |ip: u128, _| ip << 32 | u128::from(bits()));
            SocketAddr::new(IpAddr::V6(Ipv6Addr::from_bits(ip)), port)
        }
    }
}
