//! STUN and TURN as a server sees them: datagrams in, verdicts out (RFC 8489, RFC 8656).
//!
//! Pure: no clock, no socket, no thread, no async. Time is [`Now`], randomness is a seed,
//! relayed ports come from [`Ports`]; the same input, seed and clock give the same output.
//! Nothing is allocated and nothing is copied for a relayed packet, and a source that has
//! proved nothing costs no retained byte.

pub mod allocation;
pub mod auth;
pub mod channel;
mod drain;
mod event;
pub mod expiry;
mod finished;
mod methods;
pub mod nonce;
pub mod permission;
pub mod policy;
pub mod quota;
pub mod request;
pub mod server;
mod sweep;

use crate::wire::ParseError;
use crate::wire::attribute::Family;
use crate::wire::channel::{ChannelNumber, ChannelRange};
use crate::wire::stun::Method;
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;

pub use drain::{Alternate, Drain};
pub use event::{EndReason, Event};
pub use server::Server;

/// The time of a batch: sampled once by the engine, invented by tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Now {
    /// Milliseconds of a clock that never jumps (boot time). All timers use it.
    pub mono_ms: u64,
    /// Seconds since 1970. Only the expiry of time-limited credentials is judged by it.
    pub unix_s: u64,
}

/// How a client reaches the server; the transport of the 5-tuple.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Transport {
    /// UDP.
    Udp,
    /// TCP.
    Tcp,
    /// TLS over TCP.
    Tls,
}

impl Transport {
    /// Every transport.
    pub const ALL: [Transport; 3] = [Transport::Udp, Transport::Tcp, Transport::Tls];

    /// Whether the transport is a byte stream that proves its source and pads ChannelData.
    #[inline]
    pub const fn is_stream(self) -> bool {
        !matches!(self, Transport::Udp)
    }

    /// `udp`, `tcp` or `tls`.
    pub const fn name(self) -> &'static str {
        match self {
            Transport::Udp => "udp",
            Transport::Tcp => "tcp",
            Transport::Tls => "tls",
        }
    }
}

macro_rules! address_newtype {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub struct $name(pub SocketAddr);

        impl $name {
            /// The IP address.
            #[inline]
            pub const fn ip(self) -> IpAddr {
                self.0.ip()
            }

            /// The address family.
            #[inline]
            pub const fn family(self) -> Family {
                Family::of(self.0.ip())
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

address_newtype!(
    /// A client's transport address as the server sees it.
    ClientAddr
);
address_newtype!(
    /// A peer's transport address as the server sees it.
    PeerAddr
);
address_newtype!(
    /// A relayed transport address as the client is told it: behind a 1:1 NAT the public one.
    RelayedAddr
);

/// The path between a client and the server (RFC 8656 §2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FiveTuple {
    /// Where the client's packets come from.
    pub client: ClientAddr,
    /// The server's address they came to.
    pub server: SocketAddr,
    /// By which transport.
    pub transport: Transport,
}

/// The engine's name for the way back to a client: a listener or a connection. The core
/// stores it and hands it back; it means nothing here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct LinkId(pub u64);

/// Who sent a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sender {
    /// The path.
    pub tuple: FiveTuple,
    /// The way back.
    pub link: LinkId,
}

/// Where a datagram to a client goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientId {
    /// The way back, as the engine gave it.
    pub link: LinkId,
    /// The client's address.
    pub addr: ClientAddr,
}

/// Names an allocation: a slab index and the generation of the slot, so that a late use of
/// an id never reaches the slot's next tenant. Generations are 24 bits wide.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AllocationId {
    /// Slot; small and dense, so an engine can index tables by it.
    pub index: u32,
    /// Generation of the slot.
    pub generation: u32,
}

impl AllocationId {
    /// Bits of a generation that are kept.
    pub const GENERATION_MASK: u32 = 0x00FF_FFFF;
}

/// What to do with a datagram.
#[must_use]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing; count the reason.
    Drop(DropReason),
    /// Relay a part of the datagram to a peer, from the relayed address of the peer's family.
    ToPeer {
        /// The allocation it leaves through.
        via: AllocationId,
        /// Its destination.
        peer: PeerAddr,
        /// The peer's bytes inside the datagram.
        payload: Range<usize>,
        /// Set DF on this datagram (RFC 8656 §14).
        dont_fragment: bool,
    },
    /// Deliver a part of the datagram to another allocation of this server without touching
    /// the network: hand it to [`Server::handle_peer`] of the worker that owns `to`, with
    /// `from` as the peer.
    ToRelay {
        /// The allocation it leaves through.
        via: AllocationId,
        /// The sender's relayed address, which the receiver sees as its peer.
        from: RelayedAddr,
        /// The receiver's relayed address.
        to: RelayedAddr,
        /// The bytes inside the datagram.
        payload: Range<usize>,
    },
    /// Relay a peer's bytes to a client.
    ToClient {
        /// The allocation it came through.
        via: AllocationId,
        /// Its destination.
        client: ClientId,
        /// The bytes inside the datagram.
        payload: Range<usize>,
        /// How they are framed.
        framing: Framing,
    },
    /// Send a control answer of `len` bytes, written into the caller's `out`, to the sender.
    Reply {
        /// Bytes in `out`.
        len: usize,
        /// What was answered, for the counters.
        answer: Answer,
    },
    /// Send a server-made indication of `len` bytes in `out` to a client.
    Indicate {
        /// Its destination.
        client: ClientId,
        /// Bytes in `out`.
        len: usize,
    },
}

/// How a peer's bytes are framed toward the client (RFC 8656 §11.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// A channel is bound to the peer.
    ChannelData(ChannelNumber),
    /// None is: a Data indication that names the peer.
    DataIndication(PeerAddr),
}

/// What a control answer said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The request's method.
    pub method: Method,
    /// 0 for success, else the error code.
    pub code: u16,
    /// Why the credential was not taken, if it was that. For the operator: the wire tells no one.
    pub credential: Option<auth::Refused>,
    /// The rule of the peer policy that decided, for 403.
    pub denied: Option<policy::Denial>,
    /// What else decided: a key of the configuration, or words.
    pub rule: Option<&'static str>,
}

impl Answer {
    /// An answer of which no more is known than this.
    pub const fn new(method: Method, code: u16) -> Self {
        Answer { method, code, credential: None, denied: None, rule: None }
    }
}

/// Reasons that are counted: an enum whose values have names.
macro_rules! reasons {
    ($(#[$about:meta])* $reason:ident: $($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum $reason { $($(#[$doc])* $name,)* }

        impl $reason {
            /// Every reason, in the order of their numbers.
            pub const ALL: &[$reason] = &[$($reason::$name,)*];

            /// The reason as metrics and logs name it.
            pub const fn name(self) -> &'static str {
                match self { $($reason::$name => $text,)* }
            }
        }
    };
}
pub(crate) use reasons;

reasons! {
    /// Why a datagram met silence. Each has a counter.
    DropReason:
    /// Neither STUN nor ChannelData, or damaged beyond an answer.
    Malformed = "malformed",
    /// FINGERPRINT is wrong.
    Fingerprint = "fingerprint",
    /// A STUN message a server has no business with: a response, an unknown method, a Data indication.
    Unexpected = "unexpected",
    /// The source can not be answered: port 0, or an address no client may have (RFC 8656 §21.4).
    Source = "source",
    /// An indication or ChannelData on a 5-tuple without an allocation.
    NoAllocation = "no_allocation",
    /// A channel that is not bound.
    NoChannel = "no_channel",
    /// No permission for the peer.
    NoPermission = "no_permission",
    /// The peer policy forbids the address or port.
    PeerDenied = "peer_denied",
    /// The peer is this server, on a port that relays nothing.
    SelfPortRefused = "self_port_refused",
    /// A Send indication lacks an attribute or has an unknown required one.
    BadIndication = "bad_indication",
    /// The allocation's byte rate is used up.
    Bandwidth = "bandwidth",
    /// The bytes that the credential may use are used up.
    CredentialUsedUp = "credential_used_up",
    /// The server's byte rate is used up.
    BandwidthTotal = "bandwidth_total",
    /// Answers to unverified sources are over their budget.
    Unverified = "unverified",
    /// More ICMP errors than are reported.
    IcmpRate = "icmp_rate",
    /// The answer did not fit; a limit is set wrong.
    Overflow = "overflow",
    /// The datagram was longer than the receive buffer.
    Truncated = "truncated",
    /// The kernel refused the send.
    SendFailed = "send_failed",
    /// A socket's or connection's output is full.
    Backpressure = "backpressure",
    /// The way to the client is gone.
    ClientGone = "client_gone",
    /// Too long for the frame it needs.
    Oversize = "oversize",
}

impl std::convert::From<ParseError> for DropReason {
    fn from(error: ParseError) -> Self {
        match error {
            ParseError::Fingerprint => DropReason::Fingerprint,
            ParseError::ChannelNumber => DropReason::NoChannel,
            ParseError::Truncated | ParseError::NotStun | ParseError::Length | ParseError::Attribute => {
                DropReason::Malformed
            }
        }
    }
}

macro_rules! limits {
    ($($(#[$doc:meta])* $name:ident = $code:literal $text:literal $rule:literal,)*) => {
        /// A limit that refuses a request. Each has a counter.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Limit { $($(#[$doc])* $name,)* }

        impl Limit {
            /// Every limit, in the order of their numbers.
            pub const ALL: &[Limit] = &[$(Limit::$name,)*];

            /// The limit as metrics name it.
            pub const fn name(self) -> &'static str {
                match self { $(Limit::$name => $text,)* }
            }

            /// The error code of who exceeds it.
            pub const fn code(self) -> u16 {
                match self { $(Limit::$name => $code,)* }
            }

            /// The limit as the operator is told it: a key of the configuration, or words.
            pub const fn rule(self) -> &'static str {
                match self { $(Limit::$name => $rule,)* }
            }
        }
    };
}

limits! {
    /// Allocations of the server.
    Allocations = 508 "allocations" "limits.allocations",
    /// Allocations of one account.
    AllocationsPerUser = 486 "allocations_per_user" "limits.allocations_per_user",
    /// Allocations of one source.
    AllocationsPerSource = 486 "allocations_per_source" "limits.allocations_per_source",
    /// Ports that are left, with the property that is asked for.
    Ports = 508 "ports" "relay.ports",
    /// Permissions of one allocation.
    PermissionsPerAllocation = 508 "permissions_per_allocation" "limits.permissions_per_allocation",
    /// Channels of one allocation.
    ChannelsPerAllocation = 508 "channels_per_allocation" "limits.channels_per_allocation",
    /// Allocations that a credential allows.
    CredentialAllocations = 486 "credential_allocations" "allocations of the credential",
    /// Bytes that a credential allows.
    CredentialBytes = 486 "credential_bytes" "bytes of the credential",
    /// Credentials whose bytes are remembered.
    CredentialsRemembered = 508 "credentials_remembered" "credentials with capped bytes",
}

/// Which port an allocation needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortKind {
    /// Any free one.
    Any,
    /// An even one (RFC 8656 §7.2, EVEN-PORT with R = 0).
    Even,
    /// An even one whose successor is free too and is held for [`RESERVATION_MS`] under a
    /// token (EVEN-PORT with R = 1).
    EvenAndReserve,
    /// The one held under this token; the family asked for is ignored.
    Reserved([u8; 8]),
}

/// A request for one relayed address.
#[derive(Clone, Copy, Debug)]
pub struct PortAsk<'a> {
    /// The allocation that will own it.
    pub owner: AllocationId,
    /// The server's address the client reached: what to relay from unless configured.
    pub server: IpAddr,
    /// The address family.
    pub family: Family,
    /// Which port.
    pub kind: PortKind,
    /// Whom to charge one allocation: given with the first port of an allocation only, and
    /// given back when [`Event::Deleted`] is drained.
    pub charge: Option<Payer<'a>>,
}

/// Who pays for an allocation, and what its credential may use.
#[derive(Clone, Copy, Debug)]
pub struct Payer<'a> {
    /// The account that pays.
    pub account: &'a str,
    /// Where the client comes from: its source pays too.
    pub source: IpAddr,
    /// Allocations that the credential lets the account hold at once.
    pub allocations_max: Option<u32>,
    /// The bytes of the credential, if they are capped.
    pub budget: Option<Budget<'a>>,
}

/// Bytes that all allocations of one credential share.
#[derive(Clone, Copy, Debug)]
pub struct Budget<'a> {
    /// The credential's whole username.
    pub username: &'a [u8],
    /// Bytes over its life, both ways together.
    pub bytes: u64,
    /// When the credential expires, in seconds since 1970.
    pub expires_unix_s: u64,
}

/// A relayed address that is bound and ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opened {
    /// As the client is told it.
    pub relayed: RelayedAddr,
    /// The token of the reserved next port, for [`PortKind::EvenAndReserve`].
    pub token: Option<[u8; 8]>,
}

/// Why no port was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortError {
    /// No relay address of this family: 440.
    Family,
    /// No port left, or none with the wanted property, or the kernel refused: 508.
    Exhausted,
    /// The account is at its limit: 486.
    Quota,
    /// The client's source is at its limit: 486.
    Source,
    /// The credential is at its own limit of allocations: 486.
    Cap,
    /// The bytes of the credential are used up: 486.
    UsedUp,
    /// The server is at its limit of allocations: 508.
    Capacity,
    /// The server keeps the bytes of as many credentials as it can: 508.
    Budgets,
}

/// The one effect a request needs answered before it can be: binding a relayed port.
pub trait Ports {
    /// Binds a port, holds it for `ask.owner`, and charges `ask.charge`; or changes nothing.
    fn open(&mut self, now: Now, ask: &PortAsk<'_>) -> Result<Opened, PortError>;

    /// Whether an address is a live relayed address of this server, on whatever worker. No
    /// client may come from there: it would be this server talking to itself.
    fn is_relayed(&self, addr: SocketAddr) -> bool;
}

/// How long a reserved port is held, in milliseconds (RFC 8656 §7.2: at least 30 s).
pub const RESERVATION_MS: u64 = 30_000;
/// Lifetime of an allocation that asks for none, in seconds (RFC 8656 §7.2).
pub const LIFETIME_DEFAULT_S: u32 = 600;
/// Lifetime of a permission, in milliseconds; not configurable (RFC 8656 §9).
pub const PERMISSION_MS: u64 = 300_000;
/// Lifetime of a channel binding, in milliseconds (RFC 8656 §12).
pub const CHANNEL_MS: u64 = 600_000;

/// Limits a server applies itself. 0 means none where a zero would be useless.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Live permissions of one allocation; one more is 508.
    pub permissions_per_allocation: usize,
    /// Live channels of one allocation; one more is 508.
    pub channels_per_allocation: usize,
    /// Longest lifetime granted, in seconds (RFC 8656 §7.2 recommends at most 3600).
    pub lifetime_max_s: u32,
    /// Bytes a second of one allocation in each direction; 0 = none. However low, it lets
    /// [`allocation::BURST_MIN`] bytes go at once.
    pub bytes_per_second: u64,
    /// Answers a second to one unverified source address; 0 = none.
    pub unverified_per_second: u32,
    /// How long an allocation may live however often it is refreshed, in seconds; 0 = for ever.
    pub session_max_s: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            permissions_per_allocation: 256,
            channels_per_allocation: 64,
            lifetime_max_s: 3600,
            bytes_per_second: 0,
            unverified_per_second: 50,
            session_max_s: 0,
        }
    }
}

/// All a server needs to know, read-mostly: one snapshot, replaced as a whole.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// REALM of challenges; part of every long-term key.
    pub realm: Box<str>,
    /// Who may allocate.
    pub auth: auth::Credentials,
    /// Lifetime and form of nonces.
    pub nonce: nonce::Config,
    /// Which peers may be reached.
    pub policy: policy::PeerPolicy,
    /// Limits.
    pub limits: Limits,
    /// Channel numbers taken.
    pub channels: ChannelRange,
}
