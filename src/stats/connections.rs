//! Why clients' connections end: one counter a reason.

use super::Counter;
use crate::turn::reasons;

reasons! {
    /// Why a client's connection over TCP or TLS ended.
    CloseReason:
    /// The client closed it, or it broke.
    Client = "client",
    /// Its source has too many that have not shown what they speak; it was never served.
    UnreadySource = "unready_source",
    /// Its source has too many without an allocation; it was never served.
    GuestsSource = "guests_source",
    /// It made room for a newer one: there were too many like it in all.
    Crowded = "crowded",
    /// Too many TLS handshakes begin, at this worker or from its source.
    HandshakeRate = "handshake_rate",
    /// TLS without a certificate, a failed handshake, or a broken record.
    Tls = "tls",
    /// Its bytes are neither STUN nor ChannelData.
    Malformed = "malformed",
    /// It spoke HTTP and got the page.
    Http = "http",
    /// It did not show in time what it speaks, or did not finish its handshake.
    Unready = "unready",
    /// Its first message did not come in time.
    Silent = "silent",
    /// A message began and did not end in time.
    Slow = "slow",
    /// It had no allocation for too long.
    Idle = "idle",
    /// It asked without proof, or with a wrong one, more often than its source is answered.
    Unverified = "unverified",
    /// The client did not read its answers.
    Unread = "unread",
}

/// One worker's connections that ended.
#[derive(Debug, Default)]
pub struct Closed([Counter; CloseReason::ALL.len()]);

impl Closed {
    /// Counts one; only the owning thread may.
    pub fn add(&self, reason: CloseReason) {
        self.0[reason as usize].add(1);
    }

    /// Those that ended for a reason.
    pub fn total(&self, reason: CloseReason) -> u64 {
        self.0[reason as usize].get()
    }
}
