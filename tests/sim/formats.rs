//! The formats under any bytes: what the library reads must be what the plain reader reads,
//! what it writes must come back, and nothing may panic. Bodies of the fuzz targets.

use super::message::{self as m, Class};
use turnpike::turn::DropReason;
use turnpike::wire::attribute::{self, PasswordAlgorithm};
use turnpike::wire::channel::{self, ChannelData, ChannelRange};
use turnpike::wire::integrity::{Key, MacKind};
use turnpike::wire::stream::{FRAME_LEN_MAX, Next, next_frame};
use turnpike::wire::stun::{self, Message, Writer};
use turnpike::wire::{DATAGRAM_LEN_MAX, Kind, classify, padded};

/// The key messages are sealed and verified with.
const KEY: &[u8; 16] = b"sixteen-byte-key";
/// Room for a message of any length, and the integrity it is given.
const ROOM: usize = DATAGRAM_LEN_MAX + 4096;

fn range_of(flags: u8) -> ChannelRange {
    if flags & 1 == 0 { ChannelRange::Rfc8656 } else { ChannelRange::Rfc5766 }
}

/// A message after a byte of flags: 1 puts the header right, 2 and 4 append integrity, 8
/// appends FINGERPRINT, so that chance need not find an HMAC or a CRC.
pub fn stun_parse(input: &[u8]) {
    let Some((&flags, rest)) = input.split_first() else { return };
    let bytes = mend(flags, rest);
    let (message, plain) = match (Message::parse(&bytes), m::read(&bytes)) {
        (Ok(message), Ok(plain)) => (message, plain),
        (Err(error), Err(reason)) => return assert_eq!(DropReason::from(error), reason),
        (ours, plain) => panic!("read differently: {ours:?}, {plain:?}"),
    };
    assert_eq!(stun::message_type(message.class(), message.method()), u16::from_be_bytes([bytes[0], bytes[1]]));
    assert_eq!((message.method().bits(), message.transaction_id().0), (plain.method, plain.tid));
    assert_eq!(message.class() == stun::Class::Request, plain.class == Class::Request);
    let seen: Vec<_> = message.attributes().map(|a| (a.kind, a.value.to_vec())).collect();
    assert_eq!(seen, plain.attributes);
    for a in message.attributes() {
        assert_eq!(bytes[a.range.clone()], *a.value);
        assert_eq!(message.get(a.kind), plain.get(a.kind));
        decode(&message, a.kind, a.value);
    }
    assert_eq!((message.has_integrity(), message.has_fingerprint()), (plain.is_signed(), plain.fingerprint));
    assert_eq!(message.verify_integrity(&Key::from_bytes(KEY)), plain.is_sealed_by(KEY));
    write_again(&bytes, &message);
}

fn mend(flags: u8, rest: &[u8]) -> Vec<u8> {
    let mut bytes = rest.to_vec();
    if flags & 1 != 0 && bytes.len() >= 20 {
        bytes.truncate(bytes.len() / 4 * 4);
        let body = ((bytes.len() - 20) as u16).to_be_bytes();
        bytes[0] &= 0x3F;
        bytes[2..4].copy_from_slice(&body);
        bytes[4..8].copy_from_slice(&m::COOKIE);
    }
    let mut build = m::Build::resume(bytes);
    for (flag, seal) in [(2, m::Seal::Sha1), (4, m::Seal::Sha256)] {
        if flags & flag != 0 && build.has_header() {
            build.sign(seal, KEY);
        }
    }
    if flags & 8 != 0 && build.has_header() {
        build.push_fingerprint();
    }
    build.done()
}

/// Every decoder on every value: none panics, and an address comes back as it was.
fn decode(message: &Message<'_>, kind: u16, value: &[u8]) {
    let id = message.transaction_id();
    let addr = attribute::xor_address(value, &id);
    assert_eq!(addr, m::decode_address(value, &id.0));
    if let Some(addr) = addr {
        let mut out = [0; attribute::ADDRESS_LEN_MAX];
        let len = attribute::encode_xor_address(addr, &id, &mut out);
        assert_eq!(out[1..len], value[1..], "all but the reserved byte");
    }
    let _ = attribute::is_comprehension_required(kind);
    let _ = (attribute::lifetime(value), attribute::channel_number(value), attribute::requested_transport(value));
    let _ = (attribute::address_family(value), attribute::even_port(value), attribute::reservation_token(value));
    if let Some(code) = attribute::error_code(value) {
        let [_, _, class, number] = attribute::encode_error_code(code);
        assert_eq!((class, number), (value[2] & 7, value[3]));
    }
    if let Some(algorithm) = PasswordAlgorithm::decode(value) {
        assert_eq!(algorithm.encode(), value);
    }
}

/// Writes what was seen and reads it again; sealed and fingerprinted it must verify.
fn write_again(bytes: &[u8], message: &Message<'_>) {
    let key = Key::from_bytes(KEY);
    let mut out = vec![0xA5; ROOM];
    let mut writer = Writer::new(&mut out, message.class(), message.method(), message.transaction_id());
    for a in message.attributes() {
        writer.push(a.kind, a.value);
    }
    let len = writer.finish().expect("what fitted before fits again");
    if !message.has_integrity() && !message.has_fingerprint() {
        assert_eq!(out[..len], without_padding(bytes, message), "what is read is what is written");
    }
    let mut writer = Writer::resume(&mut out, len);
    writer.push_integrity(MacKind::Sha1, &key).push_integrity(MacKind::Sha256, &key).push_fingerprint();
    let Ok(len) = writer.finish() else {
        assert!(len > 65_000, "only the longest have no room for integrity");
        return;
    };
    let again = Message::parse(&out[..len]).expect("what was written can be read");
    assert!(again.verify_integrity(&key) && again.has_fingerprint());
    assert!(again.attributes().map(|a| (a.kind, a.value)).eq(message.attributes().map(|a| (a.kind, a.value))));
    assert!(!again.verify_integrity(&Key::from_bytes(b"another")));
}

/// A message with its padding zeroed: that is how it would have been written.
fn without_padding(bytes: &[u8], message: &Message<'_>) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for a in message.attributes() {
        let end = a.range.end;
        bytes[end..end.next_multiple_of(4)].fill(0);
    }
    bytes
}

/// A byte of flags, a byte `n`, `n` lengths of pieces, then a stream that arrives in them: the
/// frames are those of the stream that arrives at once.
pub fn stream_deframe(input: &[u8]) {
    let [flags, count, rest @ ..] = input else { return };
    let (pieces, stream) = rest.split_at(rest.len().min(usize::from(*count)));
    let range = range_of(*flags);
    let whole = deframe(&[stream], range);
    let mut parts = Vec::new();
    let (mut at, mut lens) = (0, pieces.iter().cycle());
    while at < stream.len() {
        let len = lens.next().map_or(1, |len| usize::from(*len)).clamp(1, stream.len() - at);
        parts.push(&stream[at..at + len]);
        at += len;
    }
    assert_eq!(deframe(&parts, range), whole);
}

/// The frames, and whether the stream lost its place.
type Frames = (Vec<(Kind, Vec<u8>)>, bool);

fn deframe(parts: &[&[u8]], range: ChannelRange) -> Frames {
    let (mut buffer, mut frames) = (Vec::new(), Vec::new());
    for part in parts {
        buffer.extend_from_slice(part);
        let mut at = 0;
        loop {
            match next_frame(&buffer[at..], range) {
                Next::Frame { kind, message, frame } => {
                    assert!(0 < message && message <= frame && frame <= FRAME_LEN_MAX && at + frame <= buffer.len());
                    assert_eq!((padded(message), classify(&buffer[at..], range)), (frame, kind));
                    frames.push((kind, buffer[at..at + message].to_vec()));
                    at += frame;
                }
                Next::Incomplete => break assert!(buffer.len() - at < FRAME_LEN_MAX, "a frame has an end"),
                Next::Desync => return (frames, true),
            }
        }
        buffer.drain(..at);
    }
    (frames, false)
}

/// A byte of flags, then a datagram read as ChannelData.
pub fn channel_data(input: &[u8]) {
    let Some((&flags, bytes)) = input.split_first() else { return };
    let range = range_of(flags);
    let number = bytes.first_chunk().map(|head| u16::from_be_bytes(*head));
    let len = bytes.get(2..4).map(|len| usize::from(u16::from_be_bytes([len[0], len[1]])));
    let fits = len.is_some_and(|len| bytes.len() >= 4 + len);
    let in_range = number.is_some_and(|number| (0x4000..=range.last()).contains(&number));
    let Ok(read) = ChannelData::parse(bytes, range) else {
        return assert!(!fits || !in_range, "refused without a reason");
    };
    assert!(fits && in_range, "taken without a reason");
    assert_eq!(classify(bytes, range), Kind::ChannelData);
    assert_eq!((Some(read.number.get()), Some(read.payload.len()), read.payload.start), (number, len, 4));
    assert_eq!(channel::header(read.number, read.payload.len()), bytes[..4]);
    let mut stream = bytes[..read.payload.end].to_vec();
    stream.resize(padded(stream.len()), 0);
    let next = Next::Frame { kind: Kind::ChannelData, message: read.payload.end, frame: stream.len() };
    assert_eq!(next_frame(&stream, range), next);
}
