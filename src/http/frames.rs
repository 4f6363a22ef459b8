//! The frames of a WebSocket as they come: in how many pieces a message may be sent.
//!
//! The library behind puts pieces together without a word about how many there were, and a piece may be empty. It
//! judges everything else about frames.

use std::error::Error;
use std::fmt;

/// Frames of one message.
pub const FRAGMENTS_MAX: u32 = 16;

/// A message came in more than [`FRAGMENTS_MAX`] frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManyFragments;

impl fmt::Display for TooManyFragments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a message has at most {FRAGMENTS_MAX} frames")
    }
}

impl Error for TooManyFragments {}

/// How far the frames of a client were read (RFC 6455 §5.2).
#[derive(Clone, Debug)]
pub struct Frames {
    /// Bytes to pass over before the next head.
    skip: u64,
    head: [u8; HEAD_MAX],
    head_len: usize,
    /// Frames of the message under way.
    fragments: u32,
}

/// Bytes of the longest head without its mask, which is passed over.
const HEAD_MAX: usize = 10;

impl Frames {
    /// Nothing was read yet; the first frame comes after so many bytes.
    pub fn after(skip: u64) -> Self {
        Frames { skip, head: [0; HEAD_MAX], head_len: 0, fragments: 0 }
    }

    /// Reads on. The error is how many of these bytes come before the frame that is one too many; whatever comes
    /// after it is not to be read.
    pub fn go_on(&mut self, bytes: &[u8]) -> Result<(), usize> {
        let (mut at, mut frame_start) = (0, 0);
        while at < bytes.len() {
            if self.skip > 0 {
                let rest = bytes.len() - at;
                let skipped = usize::try_from(self.skip).map_or(rest, |skip| skip.min(rest));
                self.skip -= skipped as u64;
                at += skipped;
                continue;
            }
            if self.head_len == 0 {
                frame_start = at;
            }
            self.head[self.head_len] = bytes[at];
            self.head_len += 1;
            at += 1;
            if self.head_len == self.head_len_whole() {
                self.end_head().map_err(|TooManyFragments| frame_start)?;
            }
        }
        Ok(())
    }

    /// Bytes of this head without its mask, as far as it is known.
    fn head_len_whole(&self) -> usize {
        match self.head[1] & 0x7f {
            _ if self.head_len < 2 => 2,
            126 => 4,
            127 => 10,
            _ => 2,
        }
    }

    fn end_head(&mut self) -> Result<(), TooManyFragments> {
        let [first, second, rest @ ..] = self.head;
        let len = match second & 0x7f {
            126 => u64::from(u16::from_be_bytes([rest[0], rest[1]])),
            127 => u64::from_be_bytes(rest),
            short => short.into(),
        };
        let mask_len = if second & 0x80 == 0 { 0 } else { 4 };
        self.skip = len.saturating_add(mask_len);
        self.head_len = 0;
        match first & 0x0f {
            // Control frames may come between the pieces of a message, and are whole.
            8.. => return Ok(()),
            0 => self.fragments = self.fragments.saturating_add(1),
            _ => self.fragments = 1,
        }
        if self.fragments > FRAGMENTS_MAX { Err(TooManyFragments) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A masked frame.
    fn frame(first: u8, len: usize) -> Vec<u8> {
        let mut bytes = vec![first];
        match len {
            0..126 => bytes.push(0x80 | len as u8),
            126..0x1_0000 => {
                bytes.push(0x80 | 126);
                bytes.extend((len as u16).to_be_bytes());
            }
            _ => {
                bytes.push(0x80 | 127);
                bytes.extend((len as u64).to_be_bytes());
            }
        }
        // A payload that looks like continuations.
        bytes.extend(vec![0; 4 + len]);
        bytes
    }

    /// What is found in one piece, and that it is the same byte by byte.
    fn scan(bytes: &[u8]) -> Result<(), usize> {
        let whole = Frames::after(0).go_on(bytes);
        let mut frames = Frames::after(0);
        let at = bytes.iter().position(|byte| frames.go_on(&[*byte]).is_err());
        // The head that is refused has two bytes here.
        assert_eq!(at, whole.err().map(|start| start + 1));
        whole
    }

    #[test]
    fn sixteen_pieces_are_a_message_and_seventeen_are_not() {
        for len in [0, 1, 125, 126, 300, 70_000] {
            let start = frame(0x01, len);
            let pieces = |count: usize| [start.clone(), frame(0x00, 0).repeat(count)].concat();
            assert_eq!(scan(&pieces(15)), Ok(()), "{len}");
            assert_eq!(scan(&pieces(16)), Err(start.len() + 15 * 6), "{len}");
        }
    }

    #[test]
    fn each_message_has_its_own_pieces_and_pings_are_none() {
        let message = [frame(0x02, 9), frame(0x00, 3).repeat(14), frame(0x80, 1)].concat();
        assert_eq!(scan(&message.repeat(5)), Ok(()));
        let pinged = [frame(0x01, 0), [frame(0x00, 0), frame(0x89, 5)].concat().repeat(15), frame(0x8a, 0)].concat();
        assert_eq!(scan(&pinged), Ok(()));
        assert!(scan(&[pinged, frame(0x80, 0)].concat()).is_err());
    }

    #[test]
    fn what_comes_before_the_first_frame_is_passed_over() {
        let body = [0; 200];
        let mut frames = Frames::after(200);
        assert_eq!(frames.go_on(&body), Ok(()));
        assert_eq!(frames.go_on(&[frame(0x01, 0), frame(0x00, 0).repeat(16)].concat()), Err(16 * 6));
    }

    #[test]
    fn no_length_overflows() {
        let mut frames = Frames::after(0);
        let longest = [&[0x81, 0xff][..], &[0xff; 8]].concat();
        assert_eq!(frames.go_on(&longest), Ok(()));
        assert_eq!(frames.skip, u64::MAX);
        assert_eq!(frames.go_on(&[0; 1000]), Ok(()));
    }
}
