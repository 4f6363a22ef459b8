//! ChannelData (RFC 8656 §12.4): a four-byte header, then the peer's bytes.

use super::ParseError;
use std::ops::{Range, RangeInclusive};

/// Bytes before the payload: channel number and length.
pub const HEADER_LEN: usize = 4;

/// The channel numbers a server takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ChannelRange {
    /// 0x4000–0x4FFF (RFC 8656 §12).
    #[default]
    Rfc8656,
    /// 0x4000–0x7FFF, for clients of RFC 5766 §11 that pick above 0x4FFF.
    Rfc5766,
}

impl ChannelRange {
    /// The lowest channel number of either range.
    pub const FIRST: u16 = 0x4000;

    /// The highest channel number of this range.
    pub const fn last(self) -> u16 {
        match self {
            ChannelRange::Rfc8656 => 0x4FFF,
            ChannelRange::Rfc5766 => 0x7FFF,
        }
    }

    /// The first bytes by which this range's ChannelData is recognised.
    #[inline]
    pub const fn first_bytes(self) -> RangeInclusive<u8> {
        match self {
            ChannelRange::Rfc8656 => 0x40..=0x4F,
            ChannelRange::Rfc5766 => 0x40..=0x7F,
        }
    }
}

/// A channel number inside a [`ChannelRange`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChannelNumber(u16);

impl ChannelNumber {
    /// Checks a number from the wire; `None` outside the range (RFC 8656 §12).
    #[inline]
    pub fn new(number: u16, range: ChannelRange) -> Option<Self> {
        (ChannelRange::FIRST..=range.last()).contains(&number).then_some(ChannelNumber(number))
    }

    /// The number as it stands on the wire.
    #[inline]
    pub const fn get(self) -> u16 {
        self.0
    }

    /// Its distance from 0x4000: an index for tables.
    #[inline]
    pub const fn index(self) -> usize {
        (self.0 - ChannelRange::FIRST) as usize
    }
}

/// A checked ChannelData datagram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelData {
    /// The channel it travels on.
    pub number: ChannelNumber,
    /// Where the payload lies in the datagram; may be empty (RFC 8656 §12.6).
    pub payload: Range<usize>,
}

impl ChannelData {
    /// Reads a datagram. Bytes after the claimed length are padding and are ignored;
    /// fewer bytes than claimed is [`ParseError::Length`] (RFC 8656 §12.6).
    #[inline]
    pub fn parse(datagram: &[u8], range: ChannelRange) -> Result<Self, ParseError> {
        let Some(&[n0, n1, l0, l1]) = datagram.first_chunk() else {
            return Err(ParseError::Truncated);
        };
        let number = ChannelNumber::new(u16::from_be_bytes([n0, n1]), range).ok_or(ParseError::ChannelNumber)?;
        let len = usize::from(u16::from_be_bytes([l0, l1]));
        if datagram.len() - HEADER_LEN < len {
            return Err(ParseError::Length);
        }
        Ok(ChannelData { number, payload: HEADER_LEN..HEADER_LEN + len })
    }
}

/// The header that precedes `len` bytes of payload on a channel. `len` is a datagram's,
/// so it fits 16 bits.
#[inline]
pub fn header(number: ChannelNumber, len: usize) -> [u8; HEADER_LEN] {
    debug_assert!(len <= usize::from(u16::MAX));
    let [n0, n1] = number.0.to_be_bytes();
    let [l0, l1] = (len as u16).to_be_bytes();
    [n0, n1, l0, l1]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shorter_than_claimed_is_refused_and_longer_is_padding() {
        let r = ChannelRange::Rfc8656;
        assert_eq!(ChannelData::parse(&[0x40, 0, 0, 3, 1, 2], r), Err(ParseError::Length));
        assert_eq!(ChannelData::parse(&[0x40, 0, 0, 3, 1, 2, 3, 0], r).unwrap().payload, 4..7);
        assert_eq!(ChannelData::parse(&[0x40, 0, 0, 0], r).unwrap().payload, 4..4);
        assert_eq!(ChannelData::parse(&[0x40, 0, 0], r), Err(ParseError::Truncated));
    }

    #[test]
    fn the_range_has_an_end() {
        assert!(ChannelNumber::new(0x3FFF, ChannelRange::Rfc8656).is_none());
        assert!(ChannelNumber::new(0x4FFF, ChannelRange::Rfc8656).is_some());
        assert!(ChannelNumber::new(0x5000, ChannelRange::Rfc8656).is_none());
        assert!(ChannelNumber::new(0x7FFF, ChannelRange::Rfc5766).is_some());
        assert!(ChannelNumber::new(0x8000, ChannelRange::Rfc5766).is_none());
    }
}
