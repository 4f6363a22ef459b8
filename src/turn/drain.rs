//! Drain: new clients are sent elsewhere, those that are there stay until their time is over.

use super::{FiveTuple, Now, Transport};
use crate::wire::attribute::{self, Family};
use crate::wire::stun::Writer;
use foldhash::fast::FixedState;
use std::hash::BuildHasher;
use std::net::SocketAddr;
use std::sync::Arc;

/// How a server drains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drain {
    /// Where new clients are sent; without one of their address family they get 508.
    pub alternates: Arc<[Alternate]>,
    /// Milliseconds until the server ends; `u64::MAX` = it goes on.
    pub left_ms: u64,
}

/// Another server that new clients are sent to (RFC 8489 §10).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alternate {
    /// Its address, for whatever transport the client used here.
    pub addr: SocketAddr,
    /// The name in its certificate, where that is another than this server's.
    pub domain: Option<Box<str>>,
}

/// A drain under way.
#[derive(Debug)]
pub(super) struct Draining {
    alternates: Arc<[Alternate]>,
    end_ms: u64,
}

impl Draining {
    pub fn new(now: Now, drain: Drain) -> Self {
        Draining { alternates: drain.alternates, end_ms: now.mono_ms.saturating_add(drain.left_ms) }
    }

    /// The latest end that an allocation may be given now. A second is left even after the end:
    /// a lifetime of 0 would say that the allocation is gone.
    pub fn end_ms(&self, now: Now) -> u64 {
        self.end_ms.max(now.mono_ms.saturating_add(1000))
    }

    /// Whether there is another server for a client of this family.
    pub fn has_alternate(&self, family: Family) -> bool {
        self.alternates.iter().any(|alternate| alternate.is_of(family))
    }

    /// Writes where this client finds another server: ALTERNATE-SERVER of its own family, then
    /// the same server's address of the other family, if it has one (RFC 8489 §10). Clients are
    /// spread over the alternates by a hash, so that one that asks again is told the same.
    pub fn write_alternate(&self, tuple: &FiveTuple, writer: &mut Writer<'_>) {
        let hash = FixedState::default().hash_one(tuple.client);
        let family = tuple.client.family();
        let Some(first) = pick(hash, || self.alternates.iter().filter(|a| a.is_of(family))) else { return };
        first.write(writer);
        let alike = |a: &&Alternate| a.is_of(family.other()) && a.domain == first.domain;
        if let Some(second) = pick(hash, || self.alternates.iter().filter(alike)) {
            second.write(writer);
        }
        // RFC 8489 §14.16: only a certificate is checked against it.
        if let Some(domain) = first.domain.as_deref().filter(|_| tuple.transport == Transport::Tls) {
            writer.push(attribute::ALTERNATE_DOMAIN, domain.as_bytes());
        }
    }
}

impl Alternate {
    fn is_of(&self, family: Family) -> bool {
        Family::of(self.addr.ip()) == family
    }

    fn write(&self, writer: &mut Writer<'_>) {
        let mut value = [0; attribute::ADDRESS_LEN_MAX];
        let len = attribute::encode_address(self.addr, &mut value);
        writer.push(attribute::ALTERNATE_SERVER, &value[..len]);
    }
}

fn pick<'a, I: Iterator<Item = &'a Alternate>>(hash: u64, choice: impl Fn() -> I) -> Option<&'a Alternate> {
    let place = hash.checked_rem(choice().count() as u64)?;
    choice().nth(place as usize)
}
