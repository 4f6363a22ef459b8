//! What Collider asks of a room.

use super::member::Standing;
use super::room::Gone;
use super::seats::{Outgoing, Rooms, SocketId};
use super::{ClientId, Refusal, RoomId};

impl Rooms {
    /// Binds a socket to a client, which gets a seat if it has none, and delivers what waits
    /// for it.
    pub fn register(&mut self, now_ms: u64, socket: SocketId, room: &RoomId, client: &ClientId) -> Result<(), Refusal> {
        if self.ledger.sockets.contains_key(&socket) {
            return Err(Refusal::RegisteredTwice);
        }
        let (room, ledger) = self.open(room)?;
        let at = match room.find(client) {
            Some(at) => {
                if let Some(bound) = room.members[at].socket {
                    ledger.outgoing.push_back(Outgoing::Probe { socket: bound });
                    return Err(Refusal::ClientBound);
                }
                if !room.welcome_back(ledger, now_ms, at) {
                    return Err(Refusal::RoomFull);
                }
                at
            }
            None if room.is_full(ledger) => return Err(Refusal::RoomFull),
            None => room.seat(ledger, now_ms, client.clone(), false, false),
        };
        room.bind(ledger, now_ms, at, socket);
        Ok(())
    }

    /// A registered socket says something.
    pub fn send(&mut self, now_ms: u64, socket: SocketId, text: &str) -> Result<(), Refusal> {
        let (room, client) = self.ledger.sockets.get(&socket).ok_or(Refusal::NotRegistered)?;
        let room = self.rooms.get_mut(room).ok_or(Refusal::NotRegistered)?;
        let at = room.find(client).ok_or(Refusal::NotRegistered)?;
        room.say(&mut self.ledger, now_ms, at, text)
    }

    /// A client says something by Collider's HTTP; one that is not there gets a seat, for the
    /// grace unless it registers.
    pub fn post(&mut self, now_ms: u64, room: &RoomId, client: &ClientId, text: &str) -> Result<(), Refusal> {
        if text.len() > self.ledger.limits.message_bytes {
            return Err(Refusal::MessageTooLong);
        }
        let (room, ledger) = self.open(room)?;
        let at = match room.find(client) {
            Some(at) => at,
            None if room.is_full(ledger) => return Err(Refusal::RoomFull),
            None => room.seat(ledger, now_ms, client.clone(), false, false),
        };
        room.say(ledger, now_ms, at, text)
    }

    /// Removes a client with its queue, and closes its socket.
    pub fn delete(&mut self, room: &RoomId, client: &ClientId) {
        self.remove(room, client, |_| Gone::ForSure);
    }

    /// A socket is closed. Its client has the grace to come back with another, unless it said
    /// bye or left before, or `is_gone` for sure: its page was closed.
    pub fn closed(&mut self, now_ms: u64, socket: SocketId, is_gone: bool) {
        let Some((room, client)) = self.ledger.sockets.remove(&socket) else { return };
        let Some(state) = self.rooms.get_mut(&room) else { return };
        let Some(at) = state.find(&client) else { return };
        state.members[at].socket = None;
        if is_gone || state.members[at].standing != Standing::Seated {
            state.remove(&mut self.ledger, at, Gone::ForSure);
            self.drop_if_empty(&room);
        } else {
            state.schedule(&mut self.ledger, now_ms, at);
        }
    }
}
