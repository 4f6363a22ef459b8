//! One room: its members, their queues, and what one's words and going mean for the others.

use super::member::{Member, Standing, Waiting};
use super::seats::{Ledger, Outgoing, SocketId};
use super::{ClientId, Refusal, RoomId};
use std::collections::VecDeque;
use std::sync::Arc;

/// What an AppRTC client says last.
const BYE: &str = r#"{"type":"bye"}"#;

/// How sure it is that a member that goes without a word will not be back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gone {
    /// It asked to go, or its page was closed.
    ForSure,
    /// It fell silent; a call without signalling may go on.
    Perhaps,
}

/// A room and who is in it; it is dropped when the last one leaves.
#[derive(Debug)]
pub(super) struct Room {
    pub id: RoomId,
    /// In the order in which they came.
    pub members: Vec<Member>,
    /// Who went without a word that the one left behind could hear.
    pub lost: Option<ClientId>,
}

impl Room {
    pub fn new(id: RoomId) -> Self {
        Room { id, members: Vec::new(), lost: None }
    }

    /// Members that hold a seat.
    pub fn seated(&self) -> usize {
        self.members.iter().filter(|member| member.is_seated()).count()
    }

    /// Whether one more finds no seat. A loopback room is full whatever its size.
    pub fn is_full(&self, ledger: &Ledger) -> bool {
        self.seated() >= ledger.limits.clients_per_room.max(1) || self.members.iter().any(|member| member.is_loopback)
    }

    /// The member of this name.
    pub fn find(&self, client: &ClientId) -> Option<usize> {
        let is_alias = client.is_loopback();
        self.members
            .iter()
            .position(|member| member.id == *client)
            .or_else(|| self.members.iter().position(|member| is_alias && member.is_loopback))
    }

    /// Seats a newcomer; the caller knows that there is a seat. Returns its place.
    pub fn seat(&mut self, ledger: &mut Ledger, now_ms: u64, id: ClientId, joined: bool, is_loopback: bool) -> usize {
        self.members.push(Member {
            id,
            serial: ledger.next_serial(),
            is_initiator: self.seated() == 0,
            joined,
            is_loopback,
            socket: None,
            had_socket: false,
            talked: false,
            said_bye: false,
            standing: Standing::Seated,
            left_at: u64::MAX,
            queue: VecDeque::new(),
            queue_bytes: 0,
            since_ms: now_ms,
            until_ms: None,
        });
        let at = self.members.len() - 1;
        self.schedule(ledger, now_ms, at);
        at
    }

    /// Binds a socket to a member that has none, and flushes what waits for it.
    pub fn bind(&mut self, ledger: &mut Ledger, now_ms: u64, at: usize, socket: SocketId) {
        let member = &mut self.members[at];
        member.socket = Some(socket);
        member.had_socket = true;
        let id = member.id.clone();
        if self.lost.as_ref() == Some(&id) {
            self.lost = None;
        }
        ledger.sockets.insert(socket, (self.id.clone(), id.clone()));
        ledger.registrations += 1;
        self.schedule(ledger, now_ms, at);
        for text in self.take_from_others(ledger, at, |waiting| waiting.to.as_ref().is_none_or(|to| *to == id)) {
            ledger.outgoing.push_back(Outgoing::Deliver { socket, text, waited: true });
        }
    }

    /// Takes what waits at the others for whoever comes next, in the order in which it was said.
    pub fn take_open(&mut self, ledger: &mut Ledger, at: usize) -> Vec<Arc<str>> {
        self.take_from_others(ledger, at, |waiting| waiting.to.is_none())
    }

    fn take_from_others(&mut self, ledger: &mut Ledger, at: usize, wanted: impl Fn(&Waiting) -> bool) -> Vec<Arc<str>> {
        let mut taken = Vec::new();
        for other in 0..self.members.len() {
            if self.members[other].meets(&self.members[at]) {
                taken.extend(self.members[other].dequeue(ledger, &wanted));
            }
        }
        taken.sort_by_key(|waiting| waiting.serial);
        taken.into_iter().map(|waiting| waiting.text).collect()
    }

    /// A member speaks to every other; what cannot be delivered waits at the speaker. An error
    /// means that someone will not hear it.
    pub fn say(&mut self, ledger: &mut Ledger, now_ms: u64, at: usize, text: &str) -> Result<(), Refusal> {
        if text.len() > ledger.limits.message_bytes {
            return Err(Refusal::MessageTooLong);
        }
        let bye = is_bye(text);
        if !bye {
            self.sit_again(ledger, now_ms, at);
        }
        ledger.messages += 1;
        let text: Arc<str> = text.into();
        let speaker = &self.members[at];
        let mut owed = Vec::new();
        let mut is_heard = false;
        for other in self.members.iter().filter(|other| other.meets(speaker)) {
            is_heard |= other.is_seated();
            match other.socket {
                Some(socket) => {
                    ledger.outgoing.push_back(Outgoing::Deliver { socket, text: text.clone(), waited: false })
                }
                None if other.is_seated() => owed.push(Some(other.id.clone())),
                None => {}
            }
        }
        if !is_heard && !bye && speaker.is_seated() {
            owed.push(None);
        }
        let speaker = &mut self.members[at];
        let mut outcome = Ok(());
        for to in owed {
            outcome = outcome.and(speaker.enqueue(ledger, to, &text));
        }
        speaker.talked = true;
        if bye {
            speaker.said_bye = true;
            self.rise(ledger, now_ms, at, Standing::SaidBye);
        } else if self.members[at].joined && !self.members[at].had_socket {
            self.schedule(ledger, now_ms, at);
        }
        outcome
    }

    /// Says bye in a newcomer's name to those who were left behind without a word: they offer
    /// again, and the newcomer gets that offer.
    pub fn announce(&mut self, ledger: &mut Ledger, at: usize) {
        let bye: Arc<str> = BYE.into();
        let mut owed = Vec::new();
        for other in self.members.iter().filter(|other| other.meets(&self.members[at]) && other.knows_bye()) {
            match other.socket {
                Some(socket) => {
                    ledger.outgoing.push_back(Outgoing::Deliver { socket, text: bye.clone(), waited: false })
                }
                None => owed.push(other.id.clone()),
            }
        }
        for to in owed {
            // A newcomer's queue is empty; only the total can be full, and then all is refused.
            let _ = self.members[at].enqueue(ledger, Some(to), &bye);
        }
    }

    /// A member gives up its seat, and keeps its socket for its last words.
    pub fn rise(&mut self, ledger: &mut Ledger, now_ms: u64, at: usize, standing: Standing) {
        let member = &mut self.members[at];
        if member.standing == Standing::Seated {
            member.left_at = ledger.next_serial();
            member.is_initiator = false;
            member.standing = standing;
            member.dequeue(ledger, |waiting| waiting.to.is_none());
            self.schedule(ledger, now_ms, at);
            if !self.members[at].is_loopback {
                self.remove_loopback(ledger);
            }
            self.choose_initiator();
            self.bound_leaving(ledger);
        } else if standing == Standing::Left {
            member.standing = standing;
        }
    }

    /// Whoever said bye and talks again did not leave after all, if its seat is still free.
    fn sit_again(&mut self, ledger: &mut Ledger, now_ms: u64, at: usize) {
        if self.members[at].standing != Standing::SaidBye || self.is_full(ledger) {
            return;
        }
        let is_initiator = self.seated() == 0;
        let member = &mut self.members[at];
        member.standing = Standing::Seated;
        member.left_at = u64::MAX;
        member.said_bye = false;
        member.is_initiator = is_initiator;
        self.schedule(ledger, now_ms, at);
    }

    /// A registering member that said bye sits again; false when its seat is taken.
    pub fn welcome_back(&mut self, ledger: &mut Ledger, now_ms: u64, at: usize) -> bool {
        self.sit_again(ledger, now_ms, at);
        self.members[at].is_seated()
    }

    /// Removes a member with all that waits at it or for it, and closes its socket if it still
    /// has one.
    pub fn remove(&mut self, ledger: &mut Ledger, at: usize, gone: Gone) {
        let mut member = self.members.remove(at);
        ledger.unschedule(&member);
        member.dequeue(ledger, |_| true);
        if let Some(socket) = member.socket {
            ledger.sockets.remove(&socket);
            ledger.outgoing.push_back(Outgoing::Close { socket, code: super::seats::CLOSE_NORMAL });
        }
        for other in &mut self.members {
            if member.joined {
                // They were for a call that is over.
                other.dequeue(ledger, |waiting| waiting.to.as_ref() == Some(&member.id));
            } else {
                other
                    .queue
                    .iter_mut()
                    .filter(|waiting| waiting.to.as_ref() == Some(&member.id))
                    .for_each(|waiting| waiting.to = None);
            }
        }
        self.tell_of(ledger, &member, gone);
        if !member.is_loopback {
            self.remove_loopback(ledger);
        }
        self.choose_initiator();
    }

    /// Says bye for a member that did not. Of more than two seats no message tells whose it is.
    fn tell_of(&mut self, ledger: &mut Ledger, member: &Member, gone: Gone) {
        if member.said_bye || !member.joined || ledger.limits.clients_per_room > 2 {
            return;
        }
        for other in self.members.iter().filter(|other| other.meets(member) && other.knows_bye()) {
            match other.socket {
                Some(socket) if gone == Gone::ForSure => {
                    ledger.outgoing.push_back(Outgoing::Deliver { socket, text: BYE.into(), waited: false });
                }
                _ => self.lost = Some(member.id.clone()),
            }
        }
    }

    fn remove_loopback(&mut self, ledger: &mut Ledger) {
        if let Some(at) = self.members.iter().position(|member| member.is_loopback) {
            self.remove(ledger, at, Gone::ForSure);
        }
    }

    fn choose_initiator(&mut self) {
        if !self.members.iter().any(|member| member.is_initiator) {
            let next = self.members.iter_mut().find(|member| member.is_seated() && !member.is_loopback);
            if let Some(next) = next {
                next.is_initiator = true;
            }
        }
    }

    /// Those who left hold no seat but a socket: as many of them as there are seats, not more.
    fn bound_leaving(&mut self, ledger: &mut Ledger) {
        let leaving = self.members.iter().filter(|member| !member.is_seated()).count();
        if leaving > ledger.limits.clients_per_room.max(1) {
            let oldest = self.members.iter().enumerate().filter(|(_, member)| !member.is_seated());
            if let Some((at, _)) = oldest.min_by_key(|(_, member)| member.left_at) {
                self.remove(ledger, at, Gone::ForSure);
            }
        }
    }

    /// Sets when a member goes unless something happens.
    pub fn schedule(&mut self, ledger: &mut Ledger, now_ms: u64, at: usize) {
        let member = &mut self.members[at];
        ledger.unschedule(member);
        member.until_ms = member.stay_ms(ledger).map(|stay_ms| now_ms.saturating_add(stay_ms));
        if let Some(until_ms) = member.until_ms {
            ledger.due.insert((until_ms, member.serial), (self.id.clone(), member.id.clone()));
        }
    }
}

/// Whether a message is AppRTC's `bye`, however its writer spaces it.
pub(super) fn is_bye(text: &str) -> bool {
    text.len() <= 64 && text.chars().filter(|c| !c.is_ascii_whitespace()).eq(BYE.chars())
}
