//! Someone in a room: what is known of it, and the queue of what it said to those who were not
//! there.

use super::seats::{Ledger, SocketId};
use super::{ClientId, Refusal};
use std::collections::VecDeque;
use std::sync::Arc;

/// What keeping a message costs beside its text, towards the total.
const WAITING_BYTES: usize = 64;

/// Whether a member holds a seat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It does.
    Seated,
    /// It said bye; saying anything else seats it again if there is room.
    SaidBye,
    /// It left by AppRTC's `/leave`, and its socket is still open to say bye.
    Left,
}

/// A message that waits at its sender.
#[derive(Debug)]
pub(super) struct Waiting {
    pub serial: u64,
    /// Whom it waits for; `None`: whoever comes next.
    pub to: Option<ClientId>,
    pub text: Arc<str>,
}

/// Someone in a room.
#[derive(Debug)]
pub(super) struct Member {
    pub id: ClientId,
    /// Grows with every member that ever was: older members have smaller ones.
    pub serial: u64,
    pub is_initiator: bool,
    /// Came by `/join`; only those know AppRTC's `bye`.
    pub joined: bool,
    pub is_loopback: bool,
    pub socket: Option<SocketId>,
    pub had_socket: bool,
    pub talked: bool,
    pub said_bye: bool,
    pub standing: Standing,
    /// The serial of the next member to come when this one gave up its seat.
    pub left_at: u64,
    pub queue: VecDeque<Waiting>,
    pub queue_bytes: usize,
    pub since_ms: u64,
    pub until_ms: Option<u64>,
}

impl Member {
    /// How long it stays from now on unless something happens; `None`: as long as it likes.
    pub fn stay_ms(&self, ledger: &Ledger) -> Option<u64> {
        let limits = &ledger.limits;
        if self.standing != Standing::Seated {
            Some(limits.grace_ms)
        } else if self.is_loopback || self.socket.is_some() {
            None
        } else if self.had_socket || !self.joined {
            Some(limits.grace_ms)
        } else if self.talked {
            Some(limits.socketless_ms)
        } else {
            Some(limits.silent_ms)
        }
    }

    /// Whether it holds a seat.
    pub fn is_seated(&self) -> bool {
        self.standing == Standing::Seated
    }

    /// Whether the two ever were in the room together: a newcomer does not hear the last words
    /// of one that left before.
    pub fn meets(&self, other: &Member) -> bool {
        self.serial != other.serial && self.serial < other.left_at && other.serial < self.left_at
    }

    /// Whether AppRTC's `bye` can reach it and means something to it.
    pub fn knows_bye(&self) -> bool {
        self.joined && self.had_socket && self.is_seated()
    }

    /// Keeps a message; refused when it is one too many.
    pub fn enqueue(&mut self, ledger: &mut Ledger, to: Option<ClientId>, text: &Arc<str>) -> Result<(), Refusal> {
        let limits = &ledger.limits;
        let kept_bytes = ledger.queued_bytes + (ledger.queued + 1) * WAITING_BYTES;
        if self.queue.len() >= limits.queue_len
            || self.queue_bytes + text.len() > limits.queue_bytes
            || kept_bytes + text.len() > limits.queue_bytes_total
        {
            return Err(Refusal::QueueFull);
        }
        self.queue_bytes += text.len();
        ledger.queued_bytes += text.len();
        ledger.queued += 1;
        self.queue.push_back(Waiting { serial: ledger.next_serial(), to, text: text.clone() });
        Ok(())
    }

    /// Takes the messages that `wanted` picks out of the queue, in order.
    pub fn dequeue(&mut self, ledger: &mut Ledger, wanted: impl Fn(&Waiting) -> bool) -> Vec<Waiting> {
        let (taken, kept): (Vec<_>, Vec<_>) = self.queue.drain(..).partition(wanted);
        self.queue = kept.into();
        let bytes: usize = taken.iter().map(|waiting| waiting.text.len()).sum();
        self.queue_bytes -= bytes;
        ledger.queued_bytes -= bytes;
        ledger.queued -= taken.len();
        taken
    }
}
