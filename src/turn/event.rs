//! What happens to allocations, told in order, and why they end.

use super::allocation::{Account, Traffic};
use super::{AllocationId, FiveTuple, PeerAddr, RelayedAddr, Transport};
use crate::wire::attribute::Family;
use crate::wire::channel::ChannelNumber;
use std::net::IpAddr;

/// What happened, in order. Feeds statistics, logs, quotas and the offload mirror.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// An allocation exists.
    Created {
        /// Its id.
        id: AllocationId,
        /// Its client.
        tuple: FiveTuple,
        /// Its relayed addresses, IPv4 then IPv6.
        relayed: [Option<RelayedAddr>; 2],
        /// When it ends unless refreshed.
        until_ms: u64,
    },
    /// An allocation's end moved.
    Refreshed {
        /// Its id.
        id: AllocationId,
        /// The family it concerns.
        family: Family,
        /// The new end.
        until_ms: u64,
    },
    /// A permission was installed or refreshed.
    Permitted {
        /// The allocation.
        id: AllocationId,
        /// The peer's IP address.
        peer: IpAddr,
        /// There was none before.
        is_new: bool,
        /// When it ends unless refreshed.
        until_ms: u64,
    },
    /// A channel was bound or refreshed.
    Bound {
        /// The allocation.
        id: AllocationId,
        /// The channel.
        number: ChannelNumber,
        /// The peer.
        peer: PeerAddr,
        /// It was not bound before.
        is_new: bool,
        /// When it ends unless refreshed.
        until_ms: u64,
    },
    /// A new policy ended a permission.
    Forbidden {
        /// The allocation.
        id: AllocationId,
        /// The peer's IP address.
        peer: IpAddr,
    },
    /// A new policy ended a channel.
    Unbound {
        /// The allocation.
        id: AllocationId,
        /// The channel.
        number: ChannelNumber,
        /// The peer it was bound to.
        peer: PeerAddr,
    },
    /// A relayed address is no longer used: its port goes back, and permissions and channels of
    /// its family are gone with it.
    Released {
        /// The allocation that had it.
        id: AllocationId,
        /// The address.
        relayed: RelayedAddr,
        /// How its client reached the server.
        transport: Transport,
    },
    /// An allocation is gone; its relayed addresses were released before.
    Deleted {
        /// Its id.
        id: AllocationId,
        /// Its client.
        tuple: FiveTuple,
        /// Who paid for it.
        account: Account,
        /// Every relayed address it was given, IPv4 then IPv6.
        relayed: [Option<RelayedAddr>; 2],
        /// Why it ended.
        reason: EndReason,
        /// What it carried.
        traffic: Traffic,
        /// How long it lived, in milliseconds.
        age_ms: u64,
    },
}

/// Why an allocation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EndReason {
    /// Not refreshed in time.
    Expired,
    /// Refresh with lifetime 0.
    Deleted,
    /// The client's connection is gone.
    Disconnected,
    /// The operator or the server itself ended it.
    Closed,
    /// Its credential was revoked.
    Revoked,
    /// The bytes of its credential were used up.
    Quota,
}

impl EndReason {
    /// Every reason, in the order of their numbers.
    pub const ALL: [EndReason; 6] = [
        EndReason::Expired,
        EndReason::Deleted,
        EndReason::Disconnected,
        EndReason::Closed,
        EndReason::Revoked,
        EndReason::Quota,
    ];

    /// The reason as logs and metrics name it.
    pub const fn name(self) -> &'static str {
        match self {
            EndReason::Expired => "expired",
            EndReason::Deleted => "deleted",
            EndReason::Disconnected => "disconnected",
            EndReason::Closed => "closed",
            EndReason::Revoked => "revoked",
            EndReason::Quota => "quota",
        }
    }
}
