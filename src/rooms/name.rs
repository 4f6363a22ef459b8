//! Names of rooms and clients, which cannot be wrong once they exist.

use super::LOOPBACK_CLIENT;
use std::fmt;

/// Characters of the longest name.
const NAME_LEN_MAX: usize = 64;

fn is_name(text: &str) -> bool {
    let good = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    (1..=NAME_LEN_MAX).contains(&text.len()) && text.bytes().all(good)
}

/// Names a room: 1 to 64 letters, digits, `-` or `_`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RoomId(Box<str>);

/// Names a client within its room: 1 to 64 letters, digits, `-` or `_`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientId(Box<str>);

impl RoomId {
    /// The name, if it is one.
    pub fn parse(text: &str) -> Option<Self> {
        is_name(text).then(|| RoomId(text.into()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl ClientId {
    /// The name, if it is one.
    pub fn parse(text: &str) -> Option<Self> {
        is_name(text).then(|| ClientId(text.into()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl ClientId {
    /// Whether it is the pseudo-client's, which browsers write in lower case.
    pub(super) fn is_loopback(&self) -> bool {
        self.0.eq_ignore_ascii_case(LOOPBACK_CLIENT)
    }
}

impl fmt::Display for RoomId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_1_to_64_letters_digits_dashes_and_underscores() {
        let longest = "x".repeat(64);
        for good in ["a", "0", "my-room_42", "LOOPBACK_CLIENT_ID", &longest] {
            assert!(RoomId::parse(good).is_some() && ClientId::parse(good).is_some(), "{good}");
        }
        let too_long = "x".repeat(65);
        for bad in ["", " ", "a b", "a/b", "a.b", "ä", "a\0", "<b>", "..", &too_long] {
            assert!(RoomId::parse(bad).is_none() && ClientId::parse(bad).is_none(), "{bad}");
        }
    }
}
