//! Who is revoked: refused from now on, with their sessions ended.
//!
//! The plane shows and changes the list; whoever runs the server keeps it and tells the workers.

use crate::turn::auth::REVOKED_LEN_MAX;
use serde::Serialize;
use std::fmt;
use std::str::FromStr;
use utoipa::ToSchema;

/// Bytes of all ids together, at most.
pub const IDS_LEN_MAX: usize = 6 << 20;

/// Names who is revoked: a static user, the user id of time-limited credentials, or one whole
/// username. One line of text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RevokedId(Box<str>);

impl RevokedId {
    /// The id.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::borrow::Borrow<str> for RevokedId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl FromStr for RevokedId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.is_empty() || text.len() > REVOKED_LEN_MAX {
            return Err(format!("an id has 1 to {REVOKED_LEN_MAX} bytes, not {}", text.len()));
        }
        if text.contains(char::is_control) || text.trim() != text || text.starts_with('#') {
            return Err("an id is one line of text, without white space at its ends or a # in front".into());
        }
        Ok(RevokedId(text.into()))
    }
}

impl fmt::Display for RevokedId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where the list is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Kept {
    /// In `auth.revocations_file`: it outlives the server.
    File,
    /// Until the server ends.
    Memory,
}

/// What became of a revocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Revoked {
    /// Whether it was not there before.
    pub is_new: bool,
    /// Sessions that it ended.
    pub sessions_ended: u64,
    /// A worker has not answered in time: it may have ended more.
    pub partial: bool,
    /// Where it is kept.
    pub kept: Kept,
}

/// Why a change of the list was not made, or not kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unkept {
    /// There are as many as there may be; nothing has changed.
    Full,
    /// It holds, but the file could not be written; so many sessions were ended.
    Unwritten(u64),
}

/// Keeps the list.
pub trait Revocations: Send + Sync {
    /// Whether this id is on it. Never waits.
    fn is_revoked(&self, id: &str) -> bool;
    /// All of it, in the order of the ids, and where it is kept. Never waits.
    fn list(&self) -> (Vec<RevokedId>, Kept);
    /// Adds an id, tells the workers and waits until they have obeyed. Called on a thread that
    /// may wait.
    fn revoke(&self, id: RevokedId) -> Result<Revoked, Unkept>;
    /// Takes an id off; false if it was not there. Called on a thread that may wait.
    fn restore(&self, id: &RevokedId) -> Result<bool, Unkept>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_one_line_that_a_file_can_hold() {
        let longest = "x".repeat(REVOKED_LEN_MAX);
        for good in ["alice", "room-7", "1893456000:alice", "ö b", "a#b", &longest] {
            assert_eq!(good.parse::<RevokedId>().expect(good).as_str(), good);
        }
        let longer = "x".repeat(REVOKED_LEN_MAX + 1);
        for bad in ["", " a", "a ", "a\nb", "a\0", "\u{85}", "#a", "\u{2003}a", &longer] {
            assert!(bad.parse::<RevokedId>().is_err(), "{bad:?}");
        }
    }
}
