//! Bytes and values: the STUN and TURN formats, read through checked views and
//! written into borrowed slices.
//!
//! No clock, no socket, no map, no log, and nothing here allocates. A view that
//! exists has been checked; nobody checks it again.

pub mod attribute;
pub mod channel;
pub mod integrity;
pub mod stream;
pub mod stun;

use channel::ChannelRange;

/// Largest UDP payload over IPv4, in bytes; no datagram of ours or a peer's is longer.
pub const DATAGRAM_LEN_MAX: usize = 65_507;

/// Why bytes are not a message. Each one becomes a counted, silent drop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParseError {
    /// Fewer bytes than the fixed header.
    Truncated,
    /// The first two bits or the magic cookie are not STUN's (RFC 8489 §5).
    NotStun,
    /// The length field disagrees with the bytes that are there, or is not a multiple of 4.
    Length,
    /// An attribute runs past the end of the message.
    Attribute,
    /// FINGERPRINT is present and wrong (RFC 8489 §14.7).
    Fingerprint,
    /// A channel number outside the range in use (RFC 8656 §12).
    ChannelNumber,
}

/// What the first byte says a datagram is (RFC 7983 §7, RFC 8656 §12).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// 0–3: a STUN message, still to be parsed.
    Stun,
    /// 64–79 (up to 127 with [`ChannelRange::Rfc5766`]): ChannelData.
    ChannelData,
    /// Anything else; the server drops it.
    Other,
}

/// Tells a datagram's kind by its first byte alone. An empty datagram is [`Kind::Other`].
#[inline]
pub fn classify(datagram: &[u8], range: ChannelRange) -> Kind {
    match datagram.first() {
        Some(0..=3) => Kind::Stun,
        Some(&first) if range.first_bytes().contains(&first) => Kind::ChannelData,
        _ => Kind::Other,
    }
}

/// Rounds a length up to the 32-bit boundary that STUN attributes and ChannelData
/// over TCP end on. In usize, so that no length from the wire can wrap.
#[inline]
pub const fn padded(len: usize) -> usize {
    (len + 3) & !3
}
