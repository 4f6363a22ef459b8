//! Permissions of one allocation: which peer IP addresses may be reached and heard
//! (RFC 8656 §9). Ports do not matter.

use super::PERMISSION_MS;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::net::IpAddr;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Permission {
    peer: IpAddr,
    until_ms: u64,
}

/// A small sorted list: found by bisection, so that even a full one costs little a packet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Permissions(Vec<Permission>);

impl Permissions {
    /// Whether the peer's address is permitted now.
    #[inline]
    pub fn allows(&self, peer: IpAddr, now_ms: u64) -> bool {
        match self.0.as_slice() {
            [only] => only.peer == peer && now_ms < only.until_ms,
            list => match list.binary_search_by_key(&peer, |p| p.peer) {
                Ok(at) => now_ms < list[at].until_ms,
                Err(_) => false,
            },
        }
    }

    /// How many different addresses of these have no live permission yet.
    pub fn missing(&self, peers: impl Iterator<Item = IpAddr>, now_ms: u64) -> usize {
        let mut missing = peers.filter(|&peer| !self.allows(peer, now_ms));
        match (missing.next(), missing.next()) {
            (None, _) => 0,
            (Some(_), None) => 1,
            (Some(a), Some(b)) => [a, b].into_iter().chain(missing).collect::<BTreeSet<IpAddr>>().len(),
        }
    }

    /// Installs or refreshes a permission and returns its end.
    pub fn install(&mut self, peer: IpAddr, now_ms: u64) -> u64 {
        let until_ms = now_ms + PERMISSION_MS;
        match self.0.binary_search_by_key(&peer, |p| p.peer) {
            Ok(at) => self.0[at].until_ms = until_ms,
            Err(at) => {
                if self.0.is_empty() {
                    self.0.reserve_exact(1); // most allocations have one, and a list grows by fours
                }
                self.0.insert(at, Permission { peer, until_ms });
            }
        }
        until_ms
    }

    /// Forgets all that are over, and all that `keep` refuses.
    pub fn retain(&mut self, now_ms: u64, keep: impl Fn(IpAddr) -> bool) {
        self.0.retain(|p| now_ms < p.until_ms && keep(p.peer));
    }

    /// Permissions held, those that are over but not yet forgotten included.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether none is held.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Peer and end of each that is live now.
    pub fn live(&self, now_ms: u64) -> impl Iterator<Item = (IpAddr, u64)> + '_ {
        self.0.iter().filter(move |p| now_ms < p.until_ms).map(|p| (p.peer, p.until_ms))
    }
}
