//! The words between the workers and those who steer or watch them.
//!
//! A [`Command`] goes to one worker and never waits; a [`Notice`] comes back if there is room
//! for it. Neither side knows the other.

use crate::stats::WorkerStats;
use crate::turn::allocation::{Account, Traffic};
use crate::turn::auth::Revocations;
use crate::turn::{self, AllocationId, Answer, EndReason, FiveTuple, PeerAddr, RelayedAddr};
use crate::wire::channel::ChannelNumber;
use crossbeam_channel::{Receiver, Sender, TrySendError};
use mio::Waker;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;

/// Commands that wait for one worker; one more is refused.
const COMMANDS_MAX: usize = 1024;
/// Notices that wait for whoever watches; one more is lost, and counted.
const NOTICES_MAX: usize = 4096;
/// Slots a worker looks at for one [`SessionPage`]: some microseconds of its time.
pub const SLOTS_PER_PAGE: u32 = 256;

/// What a worker is told.
#[derive(Debug)]
pub enum Command {
    /// Stop serving and end the thread.
    Stop,
    /// Show the sessions in the slots from `from` on, [`SLOTS_PER_PAGE`] of them.
    Sessions {
        /// The first slot; 0, then [`SessionPage::next`].
        from: u32,
        /// Whom to show.
        reply: Reply<SessionPage>,
    },
    /// Show one session with all that belongs to it.
    Session {
        /// Its allocation on this worker.
        id: AllocationId,
        /// Whom to show; `None` when there is no such session.
        reply: Reply<Option<SessionDetail>>,
    },
    /// Answer, and nothing else: all that was told before has been obeyed then.
    Settled(Reply<()>),
    /// End a session.
    Close {
        /// Its allocation on this worker.
        id: AllocationId,
        /// Whether there was one.
        reply: Reply<bool>,
    },
    /// Send new clients elsewhere, or take them again with `None`.
    Drain(Option<turn::Drain>),
    /// Refuse these from now on and end their sessions; replaces those of before.
    Revoke(Arc<Revocations>),
    /// Serve by another configuration from now on.
    Configure(Arc<turn::Config>, LogChoice),
}

/// What is logged of sessions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogChoice {
    /// A line when an allocation ends.
    pub allocations: bool,
    /// A line for every permission and channel that is installed, or ended by a new policy.
    pub permissions: bool,
}

/// Where an answer goes: called once, on the worker's thread, so it must not wait. Dropped
/// unused when the worker ends first.
pub struct Reply<T>(Box<dyn FnOnce(T) + Send>);

impl<T> Reply<T> {
    /// An answer goes to `take`.
    pub fn new(take: impl FnOnce(T) + Send + 'static) -> Self {
        Reply(Box::new(take))
    }

    /// Answers.
    pub fn give(self, answer: T) {
        (self.0)(answer);
    }
}

impl<T> fmt::Debug for Reply<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reply")
    }
}

/// Names a session on the whole server: `WORKER-SLOT-GENERATION`, as in `0-12-3`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId {
    /// The worker that serves it.
    pub worker: u8,
    /// Its allocation there.
    pub allocation: AllocationId,
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.worker, self.allocation.index, self.allocation.generation)
    }
}

/// The text names no session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoSessionId;

impl FromStr for SessionId {
    type Err = NoSessionId;

    fn from_str(text: &str) -> Result<Self, NoSessionId> {
        let mut parts = text.split('-');
        let mut part = || parts.next().filter(|part| part.bytes().all(|b| b.is_ascii_digit())).ok_or(NoSessionId);
        let worker = part()?.parse().map_err(|_| NoSessionId)?;
        let index = part()?.parse().map_err(|_| NoSessionId)?;
        let generation = part()?.parse().map_err(|_| NoSessionId)?;
        match parts.next() {
            None => Ok(SessionId { worker, allocation: AllocationId { index, generation } }),
            Some(_) => Err(NoSessionId),
        }
    }
}

/// A session as its worker saw it at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Its name.
    pub id: SessionId,
    /// Who it belongs to.
    pub account: Account,
    /// Its client.
    pub tuple: FiveTuple,
    /// Its relayed addresses, IPv4 then IPv6.
    pub relayed: [Option<RelayedAddr>; 2],
    /// How long it has lived, in milliseconds.
    pub age_ms: u64,
    /// When it ends unless refreshed, in milliseconds from now.
    pub left_ms: u64,
    /// Live permissions.
    pub permissions: usize,
    /// Live channels.
    pub channels: usize,
    /// What it has carried.
    pub traffic: Traffic,
}

/// Some of a worker's sessions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionPage {
    /// Those in the slots looked at, in the slots' order.
    pub sessions: Vec<Session>,
    /// Where to go on; `None` after the last slot.
    pub next: Option<u32>,
}

/// A session with all that belongs to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionDetail {
    /// The session.
    pub session: Session,
    /// Each permitted peer, and for how many milliseconds yet.
    pub permissions: Vec<(IpAddr, u64)>,
    /// Each channel, its peer, and for how many milliseconds yet.
    pub channels: Vec<(ChannelNumber, PeerAddr, u64)>,
}

/// What a worker tells whoever watches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A session began.
    Created {
        /// Its name.
        id: SessionId,
        /// Who it belongs to.
        account: Account,
        /// Its client.
        tuple: FiveTuple,
        /// Its relayed addresses, IPv4 then IPv6.
        relayed: [Option<RelayedAddr>; 2],
    },
    /// A session ended.
    Ended {
        /// Its name.
        id: SessionId,
        /// Who it belonged to.
        account: Account,
        /// Its client.
        tuple: FiveTuple,
        /// Why.
        reason: EndReason,
        /// What it carried.
        traffic: Traffic,
        /// How long it lived, in milliseconds.
        age_ms: u64,
    },
    /// A request was refused. Not every one is told: a flood of them is counted only.
    Refused {
        /// Who asked, and where.
        tuple: FiveTuple,
        /// The name given, if any; text from the network.
        username: Option<Box<str>>,
        /// The method, the code, and why a credential was not taken.
        answer: Answer,
    },
}

/// The worker does not take commands: its queue is full, or it is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unreachable;

/// The way to one worker, for any thread.
#[derive(Clone, Debug)]
pub struct Mailbox {
    commands: Sender<Command>,
    waker: Arc<Waker>,
}

impl Mailbox {
    /// A mailbox and its worker's end.
    pub fn new(waker: Arc<Waker>) -> (Self, Receiver<Command>) {
        let (sender, receiver) = crossbeam_channel::bounded(COMMANDS_MAX);
        (Mailbox { commands: sender, waker }, receiver)
    }

    /// Hands a command over and wakes the worker. Never waits.
    pub fn send(&self, command: Command) -> Result<(), Unreachable> {
        self.commands.try_send(command).map_err(|error| match error {
            TrySendError::Full(_) | TrySendError::Disconnected(_) => Unreachable,
        })?;
        self.waker.wake().map_err(|_| Unreachable)
    }
}

/// A queue of notices, and its reader's end.
pub fn notices() -> (Sender<Notice>, Receiver<Notice>) {
    crossbeam_channel::bounded(NOTICES_MAX)
}

/// The workers, to those who steer or watch them; cheap to copy.
#[derive(Clone, Debug)]
pub struct Workers {
    /// The way to each.
    pub mailboxes: Vec<Mailbox>,
    /// The counters of each.
    pub stats: Vec<Arc<WorkerStats>>,
    /// What they tell; each notice is read once.
    pub notices: Receiver<Notice>,
    /// Where clients are served: `udp`, `tcp` or `tls`, and the address.
    pub listening: Vec<(&'static str, SocketAddr)>,
}

impl Workers {
    /// Tells every worker; false when one could not be told.
    pub fn tell_all(&self, command: impl Fn() -> Command) -> bool {
        // Each is told, whatever became of the one before.
        self.mailboxes.iter().map(|mailbox| mailbox.send(command())).fold(true, |all, sent| all & sent.is_ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_id_is_read_as_it_is_written() {
        let id = SessionId { worker: 7, allocation: AllocationId { index: 12, generation: 3 } };
        assert_eq!(id.to_string(), "7-12-3");
        assert_eq!("7-12-3".parse(), Ok(id));
        for text in ["", "7", "7-12", "7-12-3-4", "256-0-0", "7-12-x", "+7-12-3", "7--3", "7-4294967296-0"] {
            assert_eq!(text.parse::<SessionId>(), Err(NoSessionId), "{text}");
        }
    }
}
