//! What an operator does beside a reload: sends clients elsewhere, and revokes.

use std::net::SocketAddr;
use std::sync::Arc;
use turnpike::turn::auth::Revocations;
use turnpike::turn::{Alternate, Drain, Now};

/// Servers that clients may be sent to, by list: one at most of each family, so that it is clear
/// which of them a client is told.
const ELSEWHERE: [&[(&str, Option<&str>)]; 5] = [
    &[],
    &[("11.0.9.1:3478", None)],
    &[("[2400:9:9::1]:3478", Some("six.example.org"))],
    &[("11.0.9.1:3478", Some("two.example.org")), ("[2400:9:9::1]:3478", Some("two.example.org"))],
    &[("11.0.9.1:3478", Some("four.example.org")), ("[2400:9:9::1]:3478", None)],
];
/// How many lists there are.
pub const LISTS: u32 = ELSEWHERE.len() as u32;

/// A drain as an operator asks for it.
#[derive(Clone, Copy, Debug)]
pub struct Order {
    /// The list of servers.
    pub list: usize,
    /// When this one ends, by the world's clock; `u64::MAX` = it goes on.
    pub end_ms: u64,
}

impl Order {
    pub fn new(now: Now, list: usize, left_ms: u64) -> Order {
        Order { list, end_ms: now.mono_ms.saturating_add(left_ms) }
    }

    /// What the server is told now.
    pub fn told(&self, now: Now) -> Drain {
        let alternate = |(addr, domain): (SocketAddr, Option<&str>)| Alternate { addr, domain: domain.map(Box::from) };
        let left_ms = if self.end_ms == u64::MAX { u64::MAX } else { self.end_ms.saturating_sub(now.mono_ms) };
        Drain { alternates: self.servers().map(alternate).collect(), left_ms }
    }

    /// Where clients are sent.
    pub fn servers(&self) -> impl Iterator<Item = (SocketAddr, Option<&'static str>)> {
        ELSEWHERE[self.list].iter().map(|(addr, domain)| (addr.parse().expect("an address and a port"), *domain))
    }
}

/// The revoked as a server is told them.
pub fn revocations(ids: &[String]) -> Arc<Revocations> {
    let mut revoked = Revocations::default();
    ids.iter().for_each(|id| assert!(revoked.insert(id).is_ok(), "{id} can be revoked"));
    Arc::new(revoked)
}
