//! Who is refused whatever credential is shown: user ids that the operator has revoked.

use std::collections::HashSet;
use std::fmt;

/// Ids there may be; one more is refused.
pub const REVOCATIONS_MAX: usize = 100_000;
/// Longest id, in bytes: as long as a USERNAME may be (RFC 8489 §14.3).
pub const REVOKED_LEN_MAX: usize = 763;

/// Ids that are refused. An id is a static user's name, the user id of time-limited
/// credentials, or one whole username.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Revocations(HashSet<Box<[u8]>>);

/// Why an id is not taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotRevoked {
    /// It has no characters.
    Empty,
    /// It is longer than [`REVOKED_LEN_MAX`].
    TooLong,
    /// There are [`REVOCATIONS_MAX`] already.
    Full,
}

impl fmt::Display for NotRevoked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NotRevoked::Empty => f.write_str("an id has at least one character"),
            NotRevoked::TooLong => write!(f, "an id has at most {REVOKED_LEN_MAX} bytes"),
            NotRevoked::Full => {
                write!(f, "there are {REVOCATIONS_MAX} revoked ids already; remove those that are over")
            }
        }
    }
}

impl std::error::Error for NotRevoked {}

impl Revocations {
    /// Takes an id in; false when it was there before.
    pub fn insert(&mut self, id: &str) -> Result<bool, NotRevoked> {
        if id.is_empty() {
            return Err(NotRevoked::Empty);
        }
        if id.len() > REVOKED_LEN_MAX {
            return Err(NotRevoked::TooLong);
        }
        if self.contains(id.as_bytes()) {
            return Ok(false);
        }
        if self.0.len() >= REVOCATIONS_MAX {
            return Err(NotRevoked::Full);
        }
        Ok(self.0.insert(id.as_bytes().into()))
    }

    /// Takes an id out; false when it was not there.
    pub fn remove(&mut self, id: &str) -> bool {
        self.0.remove(id.as_bytes())
    }

    /// Whether this very id is revoked.
    pub fn contains(&self, id: &[u8]) -> bool {
        self.0.contains(id)
    }

    /// How many ids there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nobody is revoked.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The ids, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|id| std::str::from_utf8(id).ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_come_and_go_and_are_bounded_in_length_and_number() {
        let mut revoked = Revocations::default();
        assert!(revoked.is_empty() && revoked.iter().next().is_none());
        assert_eq!(revoked.insert("bob"), Ok(true));
        assert!(!revoked.is_empty());
        assert_eq!(revoked.iter().collect::<Vec<_>>(), ["bob"]);
        assert_eq!(revoked.insert("bob"), Ok(false));
        assert_eq!(revoked.insert(""), Err(NotRevoked::Empty));
        assert_eq!(revoked.insert(&"x".repeat(REVOKED_LEN_MAX)), Ok(true));
        assert_eq!(revoked.insert(&"x".repeat(REVOKED_LEN_MAX + 1)), Err(NotRevoked::TooLong));
        for id in revoked.len()..REVOCATIONS_MAX {
            assert_eq!(revoked.insert(&id.to_string()), Ok(true));
        }
        assert_eq!(revoked.insert("one more"), Err(NotRevoked::Full));
        assert_eq!(revoked.insert("bob"), Ok(false), "who is in stays in");
        assert!(revoked.remove("bob") && !revoked.remove("bob"));
        assert_eq!(revoked.insert("one more"), Ok(true));
        assert!(revoked.contains(b"one more") && !revoked.contains(b"bob"));
        assert_eq!(revoked.iter().count(), REVOCATIONS_MAX);
    }

    #[test]
    fn an_id_that_is_not_taken_in_is_told_which_limit_it_met() {
        assert!(NotRevoked::Empty.to_string().contains("at least one"));
        assert!(NotRevoked::TooLong.to_string().contains(&REVOKED_LEN_MAX.to_string()));
        assert!(NotRevoked::Full.to_string().contains(&REVOCATIONS_MAX.to_string()));
    }
}
