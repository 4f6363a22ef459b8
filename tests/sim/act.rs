//! One thing a server did, and what came of it.

use std::net::SocketAddr;
use turnpike::turn::allocation::State;
use turnpike::turn::{EndReason, Event, Sender, Verdict};

/// A call of one of the server's four ways in.
#[derive(Debug)]
pub struct Act<'a> {
    pub worker: usize,
    /// The client it came from; `None` for a peer's datagram and an ICMP error.
    pub from: Option<&'a Sender>,
    /// The peer it came from or was about.
    pub peer: Option<SocketAddr>,
    /// The state before a datagram from where no allocation is.
    pub before: Option<&'a State>,
    /// The datagram.
    pub bytes: &'a [u8],
    pub verdict: Verdict,
    /// The answer, if there is one.
    pub out: &'a [u8],
    /// The events it caused.
    pub events: &'a [Event],
}

impl Act<'_> {
    /// Whether it changed nothing but to free what was over already.
    pub fn is_without_effect(&self) -> bool {
        let frees = |event: &Event| match event {
            Event::Released { .. } => true,
            Event::Deleted { reason, .. } => *reason == EndReason::Expired,
            _ => false,
        };
        self.events.iter().all(frees)
    }
}
