//! What one credential may use: caps that ride in a time-limited username.
//!
//! The password signs the whole username, so its bearer can not change them. A server that
//! knows nothing of caps reads the expiry and ignores the rest.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::num::{IntErrorKind, ParseIntError};
use std::str::FromStr;

/// Limits of one credential; `None` where it has none of its own.
///
/// Written behind the expiry as `+a2+r125000+b1000000000`: each part optional, in this order,
/// a number of 1 to 20 digits that is at least 1 and has no leading zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Caps {
    /// Allocations that its user id, or a credential without one, may hold at once, on the whole
    /// server.
    pub allocations: Option<u32>,
    /// Bytes a second of each of its allocations in each direction; however few, 65 535 may go at
    /// once.
    pub bytes_per_second: Option<u64>,
    /// Bytes of the whole credential over its life, both ways together. What is accepted counts, also
    /// where a later limit or a full queue keeps it from being sent.
    pub bytes: Option<u64>,
}

/// What stands before each part.
const MARK: char = '+';

/// Why a text holds no caps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CapsError {
    /// Not parts like `+a2`, each once and in the order `a`, `r`, `b`.
    Syntax,
    /// A number is 0, has a leading zero, or is too large.
    Number,
}

impl fmt::Display for CapsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            CapsError::Syntax => "caps are written as in +a2+r125000+b1000000000: each part once, in this order",
            CapsError::Number => "a cap is a whole number of at least 1, without leading zeros",
        })
    }
}

impl std::error::Error for CapsError {}

impl Caps {
    /// Whether nothing is capped.
    pub fn is_none(&self) -> bool {
        *self == Caps::default()
    }

    /// Whether a name that holds these can be split at this separator.
    pub fn can_stand_before(&self, separator: char) -> bool {
        self.is_none() || ![MARK, 'a', 'r', 'b'].contains(&separator)
    }
}

impl fmt::Display for Caps {
    /// Writes nothing where nothing is capped.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [('a', self.allocations.map(u64::from)), ('r', self.bytes_per_second), ('b', self.bytes)];
        parts.iter().try_for_each(|(letter, cap)| match cap {
            Some(cap) => write!(f, "{MARK}{letter}{cap}"),
            None => Ok(()),
        })
    }
}

impl FromStr for Caps {
    type Err = CapsError;

    fn from_str(text: &str) -> Result<Self, CapsError> {
        let mut rest = text;
        let caps = Caps {
            allocations: take(&mut rest, "+a")?,
            bytes_per_second: take(&mut rest, "+r")?,
            bytes: take(&mut rest, "+b")?,
        };
        if rest.is_empty() { Ok(caps) } else { Err(CapsError::Syntax) }
    }
}

/// Takes one part off the front of a text, if it is there.
fn take<N: FromStr<Err = ParseIntError>>(rest: &mut &str, mark: &str) -> Result<Option<N>, CapsError> {
    let Some(part) = rest.strip_prefix(mark) else { return Ok(None) };
    let (digits, behind) = part.split_at(part.bytes().take_while(u8::is_ascii_digit).count());
    *rest = behind;
    if digits.starts_with('0') {
        return Err(CapsError::Number);
    }
    digits.parse().map(Some).map_err(|error: ParseIntError| match error.kind() {
        IntErrorKind::Empty => CapsError::Syntax,
        _ => CapsError::Number,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caps(allocations: Option<u32>, bytes_per_second: Option<u64>, bytes: Option<u64>) -> Caps {
        Caps { allocations, bytes_per_second, bytes }
    }

    #[test]
    fn caps_are_read_as_they_are_written() {
        for (text, expected) in [
            ("", caps(None, None, None)),
            ("+a2", caps(Some(2), None, None)),
            ("+r125000", caps(None, Some(125_000), None)),
            ("+b1", caps(None, None, Some(1))),
            ("+a4294967295+b18446744073709551615", caps(Some(u32::MAX), None, Some(u64::MAX))),
            ("+a2+r125000+b1000000000", caps(Some(2), Some(125_000), Some(1_000_000_000))),
        ] {
            assert_eq!(text.parse(), Ok(expected), "{text}");
            assert_eq!(expected.to_string(), text);
        }
    }

    #[test]
    fn a_separator_that_caps_are_written_with_can_not_follow_them() {
        let (none, some) = (Caps::default(), caps(None, Some(1), None));
        assert!(none.is_none() && !some.is_none());
        for separator in ['+', 'a', 'r', 'b'] {
            assert!(none.can_stand_before(separator) && !some.can_stand_before(separator), "{separator}");
        }
        assert!(none.can_stand_before(':') && some.can_stand_before(':'));
    }

    #[test]
    fn who_writes_caps_wrongly_is_told_how() {
        assert!(CapsError::Syntax.to_string().contains("+a2+r125000+b1000000000"));
        assert!(CapsError::Number.to_string().contains("at least 1"));
    }

    #[test]
    fn other_forms_hold_no_caps() {
        use CapsError::{Number, Syntax};
        for (text, error) in [
            ("a2", Syntax),
            ("+", Syntax),
            ("+a", Syntax),
            ("++a2", Syntax),
            ("+a2+", Syntax),
            ("+a2+a3", Syntax),
            ("+r1+a2", Syntax),
            ("+b1+r1", Syntax),
            ("+A2", Syntax),
            ("+x2", Syntax),
            ("+a-2", Syntax),
            ("+a+2", Syntax),
            ("+a 2", Syntax),
            ("+a2 ", Syntax),
            ("+a2.5", Syntax),
            ("+a2k", Syntax),
            ("+a２", Syntax),
            ("+a0", Number),
            ("+r00", Number),
            ("+b01", Number),
            ("+a4294967296", Number),
            ("+r18446744073709551616", Number),
            ("+b99999999999999999999", Number),
            ("+b100000000000000000000", Number),
            ("+b999999999999999999999999999999999999999999", Number),
        ] {
            assert_eq!(text.parse::<Caps>(), Err(error), "{text}");
        }
    }
}
