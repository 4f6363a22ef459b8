//! What a worker writes into the log about sessions: a line at an allocation's end, one for every
//! permission and channel when that is asked for, and refused requests, so many a second.
//!
//! No packet makes a line. Whoever reads the log may be slow: the writer behind it never waits.

use super::worker::Worker;
use crate::bus::SessionId;
use crate::turn::allocation::{Account, Traffic};
use crate::turn::request::method_name;
use crate::turn::{AllocationId, Answer, EndReason, FiveTuple, RelayedAddr};
use std::fmt;
use std::net::IpAddr;

/// Target of the lines about permissions and channels.
const AUDIT: &str = "audit";

/// What became of a permission or channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Installed,
    Refreshed,
    /// A new policy ended it.
    Forbidden,
}

impl Fate {
    pub const fn of(is_new: bool) -> Self {
        if is_new { Fate::Installed } else { Fate::Refreshed }
    }
}

/// An allocation that is over.
pub(super) struct Ended<'a> {
    pub id: SessionId,
    pub account: &'a Account,
    pub tuple: &'a FiveTuple,
    pub relayed: &'a [Option<RelayedAddr>; 2],
    pub reason: EndReason,
    pub traffic: &'a Traffic,
    pub age_ms: u64,
}

impl Ended<'_> {
    /// Logs it.
    pub fn log(&self) {
        let Ended { id, account, tuple, relayed, reason, traffic, age_ms } = self;
        tracing::info!(
            session = %id,
            user = &*account.payer,
            client = %tuple.client,
            server = %tuple.server,
            transport = tuple.transport.name(),
            relayed = %Addresses(relayed),
            to_peer_packets = traffic.to_peer_packets,
            to_peer_bytes = traffic.to_peer_bytes,
            to_client_packets = traffic.to_client_packets,
            to_client_bytes = traffic.to_client_bytes,
            duration_ms = age_ms,
            reason = reason.name(),
            "allocation ended"
        );
    }
}

impl Worker {
    /// Logs what became of a permission, when that is asked for.
    pub(super) fn log_permission(&self, id: AllocationId, peer: IpAddr, fate: Fate) {
        let Some((session, user)) = self.audited(id) else { return };
        match fate {
            Fate::Installed => tracing::info!(target: AUDIT, %session, user, %peer, "permission installed"),
            Fate::Refreshed => tracing::debug!(target: AUDIT, %session, user, %peer, "permission refreshed"),
            Fate::Forbidden => {
                tracing::info!(target: AUDIT, %session, user, %peer, "permission ended: the new policy forbids the peer");
            }
        }
    }

    /// Logs what became of a channel, when that is asked for.
    pub(super) fn log_channel(&self, id: AllocationId, number: u16, peer: impl fmt::Display, fate: Fate) {
        let Some((session, user)) = self.audited(id) else { return };
        match fate {
            Fate::Installed => tracing::info!(target: AUDIT, %session, user, %peer, number, "channel bound"),
            Fate::Refreshed => tracing::debug!(target: AUDIT, %session, user, %peer, number, "channel refreshed"),
            Fate::Forbidden => {
                tracing::info!(target: AUDIT, %session, user, %peer, number, "channel ended: the new policy forbids the peer");
            }
        }
    }

    fn audited(&self, id: AllocationId) -> Option<(SessionId, &str)> {
        if !self.log.permissions {
            return None;
        }
        let allocation = self.server.allocation(id)?;
        Some((SessionId { worker: self.number, allocation: id }, &*allocation.account.payer))
    }
}

/// Logs a refused request; `user` is the name given, text from the network.
pub(super) fn log_refused(tuple: &FiveTuple, user: Option<&str>, answer: &Answer) {
    tracing::info!(
        user,
        client = %tuple.client,
        method = method_name(answer.method),
        code = answer.code,
        rule = %Rule(answer),
        "request refused"
    );
}

/// Logs how many refused requests were passed over since that was logged last.
pub(super) fn log_untold(requests: u64) {
    tracing::info!(requests, "more requests were refused than are told one by one");
}

/// What decided, in words.
struct Rule<'a>(&'a Answer);

impl fmt::Display for Rule<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Answer { code, credential, denied, rule, .. } = self.0;
        match (credential, denied, rule) {
            (Some(refused), _, _) => refused.fmt(f),
            (_, Some(denial), _) => denial.fmt(f),
            (_, _, Some(rule)) => f.write_str(rule),
            _ => f.write_str(match code {
                400 => "malformed request",
                420 => "unknown attribute",
                437 => "allocation mismatch",
                441 => "the allocation is another user's",
                442 => "transport to peers not supported",
                443 => "peer address family mismatch",
                _ => "none",
            }),
        }
    }
}

/// Relayed addresses, with a comma between two.
struct Addresses<'a>(&'a [Option<RelayedAddr>; 2]);

impl fmt::Display for Addresses<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for relayed in self.0.iter().flatten() {
            write!(f, "{separator}{relayed}")?;
            separator = ",";
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::turn::auth::Refused;
    use crate::wire::stun::Method;

    #[test]
    fn what_decided_is_said_in_words() {
        let said = |answer: Answer| Rule(&answer).to_string();
        let refused = |code| Answer::new(Method::ALLOCATE, code);
        assert_eq!(
            said(Answer { credential: Some(Refused::Expired(12)), ..refused(401) }),
            "credential expired 12 s ago"
        );
        assert_eq!(said(Answer { rule: Some("relay.ports"), ..refused(508) }), "relay.ports");
        assert_eq!(said(refused(437)), "allocation mismatch");
    }

    #[test]
    fn relayed_addresses_are_listed() {
        let [v4, v6] = ["192.0.2.1:5000", "[2001:db8::1]:5001"].map(|text| Some(RelayedAddr(text.parse().unwrap())));
        assert_eq!(Addresses(&[v4, v6]).to_string(), "192.0.2.1:5000,[2001:db8::1]:5001");
        assert_eq!(Addresses(&[None, v6]).to_string(), "[2001:db8::1]:5001");
        assert_eq!(Addresses(&[None, None]).to_string(), "");
    }
}
