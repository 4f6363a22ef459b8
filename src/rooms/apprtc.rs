//! What AppRTC's room server asks of a room.

use super::member::Standing;
use super::room::Gone;
use super::seats::Rooms;
use super::{ClientId, LOOPBACK_CLIENT, Refusal, RoomId};
use std::sync::Arc;

/// What a client learns when it joins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    /// Whether it is the first, and offers.
    pub is_initiator: bool,
    /// What the others said before it came, in order.
    pub messages: Vec<Arc<str>>,
}

/// How many are in a room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Occupancy {
    /// Clients with a seat, a loopback room's pseudo-client among them.
    pub clients: usize,
    /// Whether one more finds no seat.
    pub is_full: bool,
}

impl Rooms {
    /// Seats a client of this fresh name. In an empty room, `loopback` fills the second seat
    /// with [`LOOPBACK_CLIENT`].
    pub fn join(&mut self, now_ms: u64, room: &RoomId, client: ClientId, loopback: bool) -> Result<Joined, Refusal> {
        if client.is_loopback() {
            return Err(Refusal::ClientTaken);
        }
        let (room, ledger) = self.open(room)?;
        if room.find(&client).is_some() {
            return Err(Refusal::ClientTaken);
        }
        if room.is_full(ledger) {
            return Err(Refusal::RoomFull);
        }
        let is_initiator = room.seated() == 0;
        let at = room.seat(ledger, now_ms, client, true, false);
        let mut messages = room.take_open(ledger, at);
        if room.lost.take().is_some() {
            // They were said to one who is gone.
            messages.clear();
            room.announce(ledger, at);
        }
        if let (true, true, Some(pseudo)) = (is_initiator, loopback, ClientId::parse(LOOPBACK_CLIENT)) {
            if let Some(leaving) = room.find(&pseudo) {
                room.remove(ledger, leaving, Gone::ForSure);
            }
            room.seat(ledger, now_ms, pseudo, false, true);
        }
        Ok(Joined { is_initiator, messages })
    }

    /// A client says something by HTTP.
    pub fn message(&mut self, now_ms: u64, room: &RoomId, client: &ClientId, text: &str) -> Result<(), Refusal> {
        let room = self.rooms.get_mut(room).ok_or(Refusal::UnknownRoom)?;
        if room.members.iter().all(|member| member.standing == Standing::Left) {
            return Err(Refusal::UnknownRoom);
        }
        let at = room.find(client).filter(|at| room.members[*at].standing != Standing::Left);
        room.say(&mut self.ledger, now_ms, at.ok_or(Refusal::UnknownClient)?, text)
    }

    /// A client leaves. Its seat is free at once; an open socket stays for its last words.
    pub fn leave(&mut self, now_ms: u64, room: &RoomId, client: &ClientId) {
        let Some(state) = self.rooms.get_mut(room) else { return };
        let Some(at) = state.find(client) else { return };
        if state.members[at].socket.is_some() && !state.members[at].is_loopback {
            state.rise(&mut self.ledger, now_ms, at, Standing::Left);
        } else {
            state.remove(&mut self.ledger, at, Gone::ForSure);
        }
        self.drop_if_empty(room);
    }

    /// Whether a client of this name is in the room.
    pub fn is_member(&self, room: &RoomId, client: &ClientId) -> bool {
        self.rooms.get(room).is_some_and(|room| room.find(client).is_some())
    }

    /// How many are in a room; nobody in one that is not there.
    pub fn occupancy(&self, room: &RoomId) -> Occupancy {
        let Some(room) = self.rooms.get(room) else { return Occupancy::default() };
        Occupancy { clients: room.seated(), is_full: room.is_full(&self.ledger) }
    }
}
