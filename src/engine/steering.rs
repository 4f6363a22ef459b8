//! What a worker does for those who steer or watch it: commands, pictures of its sessions,
//! notices, and counts of what it holds.

use super::batch::Cell;
use super::journal;
use super::token::{self, Kind};
use super::worker::Worker;
use crate::bus::{Command, Notice, SLOTS_PER_PAGE, Session, SessionDetail, SessionId, SessionPage};
use crate::turn::allocation::Allocation;
use crate::turn::quota::Bucket;
use crate::turn::request::TEXT_LEN_MAX;
use crate::turn::{AllocationId, Answer, FiveTuple, RelayedAddr, Sender, Server};
use crate::wire::attribute;
use crate::wire::stun::{Message, Method};
use crossbeam_channel::{Sender as Queue, TrySendError};

/// Commands obeyed in one round.
const COMMANDS_PER_ROUND: usize = 16;
/// Refused requests told and logged a second; the rest are counted only.
const REFUSALS_PER_SECOND: u64 = 20;
/// Characters of a refused username that are told and logged: any stranger can send one.
const SHOWN_LEN_MAX: usize = 256;
/// How often permissions and channels are counted, in milliseconds.
const CENSUS_MS: u64 = 1_000;
/// Slots looked at in one round of the census: tens of microseconds.
const SLOTS_PER_CENSUS: u32 = 2_048;

/// The worker's end of the notices.
pub(super) struct Notices {
    queue: Queue<Notice>,
    refusals: Bucket,
    /// Refused requests that were not told, since that was told last.
    untold: u64,
}

impl Notices {
    pub fn new(queue: Queue<Notice>) -> Self {
        Notices { queue, refusals: Bucket::default(), untold: 0 }
    }
}

/// Counts permissions and channels, some slots at a time, and starts anew when it is through.
#[derive(Default)]
pub(super) struct Census {
    next_ms: u64,
    next_slot: u32,
    permissions: usize,
    channels: usize,
    /// What was published last: an empty server with nothing to take back needs no counting.
    published: bool,
}

impl Census {
    /// When it goes on; `None` while there is nothing to count.
    pub fn next_ms(&self, server: &Server, notices: &Notices) -> Option<u64> {
        (self.published || server.allocation_count() > 0 || notices.untold > 0).then_some(self.next_ms)
    }
}

impl Worker {
    /// Obeys what waits in the mailbox, a bounded number of commands.
    pub(super) fn handle_mailbox(&mut self) {
        for _ in 0..COMMANDS_PER_ROUND {
            match self.commands.try_recv() {
                Ok(command) => self.obey(command),
                Err(_) => return,
            }
        }
        self.again.push(token::token(Kind::Wake, 0, 0));
    }

    /// Ends every allocation and connection.
    pub(super) fn close_all(&mut self) {
        let ids: Vec<AllocationId> = self.server.allocations().map(|(id, _)| id).collect();
        for id in ids {
            self.server.close(self.now, id);
        }
        self.drain_events();
        self.clients.shut_down();
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Stop => self.stopping = true,
            Command::Sessions { from, reply } => reply.give(self.sessions(from)),
            Command::Settled(reply) => reply.give(()),
            Command::Session { id, reply } => reply.give(self.session_detail(id)),
            Command::Close { id, reply } => {
                let closed = self.server.close(self.now, id);
                self.drain_events();
                reply.give(closed);
            }
            Command::Drain(drain) => self.server.drain(self.now, drain),
            Command::Revoke(revoked) => {
                self.server.revoke(self.now, revoked);
                self.drain_events();
            }
            Command::Configure(config, log) => {
                self.log = log;
                self.options.loopback_peers = config.policy.allow_loopback;
                self.server.configure(self.now, config);
                self.drain_events();
            }
        }
    }

    /// Goes on with the census when it is time.
    pub(super) fn count(&mut self) {
        let now_ms = self.now.mono_ms;
        if self.census.next_ms(&self.server, &self.notices).is_none_or(|next_ms| now_ms < next_ms) {
            return;
        }
        self.census.next_ms = now_ms + CENSUS_MS;
        let slots = self.census.next_slot..self.census.next_slot.saturating_add(SLOTS_PER_CENSUS);
        self.census.next_slot = slots.end;
        for (_, allocation) in slots.filter_map(|index| self.server.in_slot(index)) {
            self.census.permissions += allocation.permissions.live(now_ms).count();
            self.census.channels += allocation.channels.live(now_ms).count();
        }
        if self.census.next_slot >= self.server.slot_count() {
            self.stats.permissions.set(self.census.permissions as u64);
            self.stats.channels.set(self.census.channels as u64);
            let published = self.server.allocation_count() > 0;
            self.census = Census { next_ms: self.census.next_ms, published, ..Census::default() };
        }
        if self.notices.untold > 0 {
            journal::log_untold(std::mem::take(&mut self.notices.untold));
        }
        if self.number == 0 {
            self.ports_free.tell(&self.pool, self.now);
        }
    }

    /// Tells whoever watches, if there is room.
    pub(super) fn notify(&self, notice: Notice) {
        if let Err(TrySendError::Full(_)) = self.notices.queue.try_send(notice) {
            self.stats.notices_lost.add(1);
        }
    }

    /// Tells that an allocation exists.
    pub(super) fn notify_created(&self, id: AllocationId, tuple: FiveTuple, relayed: [Option<RelayedAddr>; 2]) {
        let Some(account) = self.server.allocation(id).map(|allocation| allocation.account.clone()) else { return };
        self.notify(Notice::Created { id: SessionId { worker: self.number, allocation: id }, account, tuple, relayed });
    }

    /// Tells that the request in a slot was refused. The first request of every client is, for
    /// want of a nonce: that is not told.
    pub(super) fn notify_refused(&mut self, cell: &Cell, from: &Sender, answer: Answer) {
        let is_challenge = matches!(answer.code, 401 | 438) && answer.credential.is_none();
        if is_challenge || answer.method == Method::BINDING {
            return;
        }
        if !self.notices.refusals.take(self.now.mono_ms, REFUSALS_PER_SECOND, REFUSALS_PER_SECOND, 1) {
            self.notices.untold += 1;
            return self.stats.notices_lost.add(1);
        }
        let message = Message::parse(self.batch.message(cell, 0..cell.len())).ok();
        let username = message.and_then(|message| message.get(attribute::USERNAME)).and_then(shown);
        journal::log_refused(&from.tuple, username.as_deref(), &answer);
        let tuple = from.tuple;
        self.notify(Notice::Refused { tuple, username, answer });
    }

    fn sessions(&self, from: u32) -> SessionPage {
        let slots = from..from.saturating_add(SLOTS_PER_PAGE);
        let next = (slots.end < self.server.slot_count()).then_some(slots.end);
        let in_slot = |index| self.server.in_slot(index).map(|(id, allocation)| self.session(id, allocation));
        SessionPage { sessions: slots.filter_map(in_slot).collect(), next }
    }

    fn session(&self, id: AllocationId, allocation: &Allocation) -> Session {
        let now_ms = self.now.mono_ms;
        Session {
            id: SessionId { worker: self.number, allocation: id },
            account: allocation.account.clone(),
            tuple: allocation.tuple,
            relayed: allocation.relays.map(|relay| relay.map(|relay| relay.relayed)),
            age_ms: now_ms.saturating_sub(allocation.created_ms),
            left_ms: allocation.next_end_ms().unwrap_or(0).saturating_sub(now_ms),
            permissions: allocation.permissions.live(now_ms).count(),
            channels: allocation.channels.live(now_ms).count(),
            traffic: allocation.traffic,
        }
    }

    fn session_detail(&self, id: AllocationId) -> Option<SessionDetail> {
        let allocation = self.server.allocation(id)?;
        let left = |until_ms: u64| until_ms.saturating_sub(self.now.mono_ms);
        let permissions = allocation.permissions.live(self.now.mono_ms);
        let channels = allocation.channels.live(self.now.mono_ms);
        Some(SessionDetail {
            session: self.session(id, allocation),
            permissions: permissions.map(|(peer, until_ms)| (peer, left(until_ms))).collect(),
            channels: channels.map(|c| (c.number, c.peer, left(c.until_ms))).collect(),
        })
    }
}

/// A username as it is told and logged: `None` where it is longer than one may be, cut where it is
/// long, and without control characters, which a log would write as several.
fn shown(username: &[u8]) -> Option<Box<str>> {
    if username.len() > TEXT_LEN_MAX {
        return None;
    }
    let text = String::from_utf8_lossy(username);
    let plain = |c: char| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c };
    let mut shown: String = text.chars().take(SHOWN_LEN_MAX).map(plain).collect();
    if text.chars().nth(SHOWN_LEN_MAX).is_some() {
        shown.push('…');
    }
    Some(shown.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_strangers_long_username_is_not_told_at_length() {
        let told = |username: &[u8]| shown(username).map(String::from);
        assert_eq!(told(b"1893456000:alice").as_deref(), Some("1893456000:alice"));
        assert_eq!(told(b"a\0b\nc\x1b[1m\xffd").as_deref(), Some("a\u{fffd}b\u{fffd}c\u{fffd}[1m\u{fffd}d"));
        let longest = [b'x'; SHOWN_LEN_MAX];
        assert_eq!(told(&longest).map(|shown| shown.len()), Some(SHOWN_LEN_MAX));
        for long in [SHOWN_LEN_MAX + 1, TEXT_LEN_MAX] {
            let expected = "\u{fffd}".repeat(SHOWN_LEN_MAX) + "…";
            assert_eq!(told(&vec![0x1B; long]), Some(expected), "{long}");
        }
        assert_eq!(told(&vec![b'x'; TEXT_LEN_MAX + 1]), None);
        assert_eq!(told(&vec![b'x'; 60_000]), None);
    }
}
