//! Message boundaries on TCP and TLS (RFC 8656 §12.5, RFC 8489 §6.2.2).
//!
//! STUN carries its own length; ChannelData does too and is padded to four bytes.
//! All arithmetic is in usize: a length of 0xFFFF never wraps.

use super::channel::{self, ChannelRange};
use super::stun;
use super::{Kind, padded};

/// The longest frame a stream can carry: ChannelData with 65,535 bytes, padded. A STUN
/// message is at most 20 + 65,532 bytes.
pub const FRAME_LEN_MAX: usize = padded(channel::HEADER_LEN + 65_535);

/// What stands at the front of the bytes received so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// A whole frame: the first `message` bytes are the message, `frame` bytes are consumed.
    Frame {
        /// STUN or ChannelData, never [`Kind::Other`].
        kind: Kind,
        /// Bytes of the message without the stream's padding.
        message: usize,
        /// Bytes it takes in the stream.
        frame: usize,
    },
    /// More bytes are needed.
    Incomplete,
    /// These bytes can not begin a frame; the stream has lost its place and must be closed.
    Desync,
}

/// Looks for one frame at the front of `bytes`.
pub fn next_frame(bytes: &[u8], range: ChannelRange) -> Next {
    match super::classify(bytes, range) {
        Kind::Stun => stun_frame(bytes),
        Kind::ChannelData => channel_frame(bytes),
        Kind::Other if bytes.is_empty() => Next::Incomplete,
        Kind::Other => Next::Desync,
    }
}

fn stun_frame(bytes: &[u8]) -> Next {
    // The cookie is checked as soon as it is there, so that a stray protocol is
    // recognised before a length of its making is waited for.
    let cookie = stun::MAGIC_COOKIE.to_be_bytes();
    let seen = bytes.get(4..).map_or(0, |rest| rest.len().min(4));
    if seen > 0 && bytes[4..4 + seen] != cookie[..seen] {
        return Next::Desync;
    }
    let Some(len) = length_field(bytes) else { return Next::Incomplete };
    if !len.is_multiple_of(4) {
        return Next::Desync;
    }
    whole(bytes, Kind::Stun, stun::HEADER_LEN + len, stun::HEADER_LEN + len)
}

fn channel_frame(bytes: &[u8]) -> Next {
    let Some(len) = length_field(bytes) else { return Next::Incomplete };
    let message = channel::HEADER_LEN + len;
    whole(bytes, Kind::ChannelData, message, padded(message))
}

/// Both formats keep their length in bytes 2 and 3.
fn length_field(bytes: &[u8]) -> Option<usize> {
    let field = bytes.get(2..4)?;
    Some(usize::from(u16::from_be_bytes([field[0], field[1]])))
}

fn whole(bytes: &[u8], kind: Kind, message: usize, frame: usize) -> Next {
    if bytes.len() < frame { Next::Incomplete } else { Next::Frame { kind, message, frame } }
}

#[cfg(test)]
mod tests {
    use super::*;

    const R: ChannelRange = ChannelRange::Rfc8656;

    #[test]
    fn channel_data_is_padded_and_its_length_never_wraps() {
        let bytes = [0x40, 1, 0, 5, 1, 2, 3, 4, 5, 0, 0, 0, 9];
        assert_eq!(next_frame(&bytes, R), Next::Frame { kind: Kind::ChannelData, message: 9, frame: 12 });
        assert_eq!(next_frame(&bytes[..11], R), Next::Incomplete);
        let mut long = vec![0u8; FRAME_LEN_MAX];
        long[..4].copy_from_slice(&[0x40, 1, 0xFF, 0xFF]);
        assert_eq!(next_frame(&long[..7], R), Next::Incomplete);
        assert_eq!(next_frame(&long, R), Next::Frame { kind: Kind::ChannelData, message: 65_539, frame: 65_540 });
    }

    #[test]
    fn a_foreign_protocol_is_recognised_at_its_first_wrong_byte() {
        assert_eq!(next_frame(&[0x05, 1, 0], R), Next::Desync);
        assert_eq!(next_frame(b"POST / HTTP/1.1", R), Next::Desync);
        assert_eq!(next_frame(&[0x00, 0x01, 0, 0, 0x21, 0x12, 0xA4], R), Next::Incomplete);
        assert_eq!(next_frame(&[0x00, 0x01, 0, 0, 0x21, 0x12, 0xA5], R), Next::Desync);
        assert_eq!(next_frame(&[0x58, 0x21, 0x12, 0xA4], R), Next::Desync);
        assert_eq!(next_frame(&[0x00, 0x01, 0, 3, 0x21, 0x12, 0xA4, 0x42], R), Next::Desync);
    }

    #[test]
    fn every_split_of_two_frames_gives_the_same_frames() {
        let mut bytes = Vec::new();
        bytes.extend_from_slice(&[0x00, 0x01, 0, 0, 0x21, 0x12, 0xA4, 0x42]);
        bytes.extend_from_slice(&[7; 12]);
        bytes.extend_from_slice(&[0x40, 0, 0, 2, 1, 2, 0, 0]);
        for split in 0..bytes.len() {
            let (mut buffer, mut frames) = (Vec::new(), Vec::new());
            for part in [&bytes[..split], &bytes[split..]] {
                buffer.extend_from_slice(part);
                while let Next::Frame { kind, frame, .. } = next_frame(&buffer, R) {
                    frames.push((kind, frame));
                    buffer.drain(..frame);
                }
            }
            assert_eq!(frames, [(Kind::Stun, 20), (Kind::ChannelData, 8)], "split at {split}");
        }
    }
}
