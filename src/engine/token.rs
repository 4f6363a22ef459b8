//! What a poll token names: a kind of source, its place, and the generation of the place, so
//! that an event for a source that is gone is told from one for its successor.

use mio::Token;

/// Bits of a generation that fit.
pub const GENERATION_MASK: u32 = 0x00FF_FFFF;

/// What is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// The mailbox.
    Wake,
    /// A UDP listener.
    Udp,
    /// A TCP listener.
    Tcp,
    /// A relayed address.
    Relay,
    /// A connection.
    Connection,
}

/// Makes a token.
#[inline]
pub const fn token(kind: Kind, index: u32, generation: u32) -> Token {
    Token((kind as usize) << 56 | ((generation & GENERATION_MASK) as usize) << 32 | index as usize)
}

/// Takes a token apart.
#[inline]
pub const fn split(token: Token) -> (Kind, u32, u32) {
    let kind = match token.0 >> 56 {
        0 => Kind::Wake,
        1 => Kind::Udp,
        2 => Kind::Tcp,
        3 => Kind::Relay,
        _ => Kind::Connection,
    };
    (kind, token.0 as u32, (token.0 >> 32) as u32 & GENERATION_MASK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_come_apart_as_they_were_made() {
        for kind in [Kind::Wake, Kind::Udp, Kind::Tcp, Kind::Relay, Kind::Connection] {
            for (index, generation) in [(0, 0), (u32::MAX, GENERATION_MASK), (7, 9)] {
                assert_eq!(split(token(kind, index, generation)), (kind, index, generation));
            }
        }
    }
}
