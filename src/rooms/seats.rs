//! All rooms, what is due, and what is to be sent.

use super::member::{Member, Standing};
use super::room::{Gone, Room};
use super::{ClientId, Limits, Refusal, RoomId};
use serde::Serialize;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

/// A WebSocket's close code: all is well.
pub(super) const CLOSE_NORMAL: u16 = 1000;

/// Names a socket that the plane holds; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SocketId(pub u64);

/// What the plane has to do, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outgoing {
    /// Write a message to a socket.
    Deliver {
        /// The socket.
        socket: SocketId,
        /// The message, as it was said.
        text: Arc<str>,
        /// It waited for this socket, and the queues it waited in have bounded it already.
        waited: bool,
    },
    /// Close a socket, after all that was delivered to it.
    Close {
        /// The socket.
        socket: SocketId,
        /// The code to close with.
        code: u16,
    },
    /// Find out whether a socket is still alive: its client knocks by another.
    Probe {
        /// The socket.
        socket: SocketId,
    },
}

/// What there is, and has been since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Rooms with someone in them.
    pub rooms: usize,
    /// Clients with a seat.
    pub clients: usize,
    /// Sockets that registered and are open.
    pub sockets: usize,
    /// Bytes of messages that wait.
    pub queued_bytes: usize,
    /// Successful registers, ever.
    pub registrations_total: u64,
    /// Messages that were said, ever.
    pub messages_total: u64,
}

/// A room as an operator sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RoomPicture {
    /// The room.
    pub room: String,
    /// Who is in it, in the order in which they came.
    pub clients: Vec<ClientPicture>,
    /// Messages that wait in it.
    pub queued: usize,
}

/// A client as an operator sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ClientPicture {
    /// The client.
    pub id: String,
    /// Whether it is the one who offers.
    pub initiator: bool,
    /// Whether it has a socket.
    pub registered: bool,
    /// For how many seconds it has been here.
    pub age_s: u64,
}

/// What all rooms share.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    pub limits: Limits,
    pub sockets: HashMap<SocketId, (RoomId, ClientId)>,
    /// Who goes when, and after whom at the same moment.
    pub due: BTreeMap<(u64, u64), (RoomId, ClientId)>,
    pub queued: usize,
    pub queued_bytes: usize,
    pub registrations: u64,
    pub messages: u64,
    pub outgoing: VecDeque<Outgoing>,
    serial: u64,
}

impl Ledger {
    pub fn next_serial(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    pub fn unschedule(&mut self, member: &Member) {
        if let Some(until_ms) = member.until_ms {
            self.due.remove(&(until_ms, member.serial));
        }
    }
}

/// Every room of this server. Plain values: it can be rebuilt elsewhere.
#[derive(Debug, Default)]
pub struct Rooms {
    pub(super) rooms: HashMap<RoomId, Room>,
    pub(super) ledger: Ledger,
}

impl Rooms {
    /// No rooms yet.
    pub fn new(limits: Limits) -> Self {
        Rooms { rooms: HashMap::new(), ledger: Ledger { limits, ..Ledger::default() } }
    }

    /// The limits in force.
    pub fn limits(&self) -> &Limits {
        &self.ledger.limits
    }

    /// Puts other limits in force for what comes; nobody is thrown out.
    pub fn set_limits(&mut self, limits: Limits) {
        self.ledger.limits = limits;
    }

    /// The next thing to do.
    pub fn poll_outgoing(&mut self) -> Option<Outgoing> {
        self.ledger.outgoing.pop_front()
    }

    /// When [`expire`](Self::expire) has something to do next.
    pub fn next_deadline(&self) -> Option<u64> {
        self.ledger.due.first_key_value().map(|((at_ms, _), _)| *at_ms)
    }

    /// Removes everyone whose time is over.
    pub fn expire(&mut self, now_ms: u64) {
        while let Some(entry) = self.ledger.due.first_entry()
            && entry.key().0 <= now_ms
        {
            let (room, client) = entry.remove();
            self.remove(&room, &client, |standing| match standing {
                Standing::Left => Gone::ForSure,
                Standing::Seated | Standing::SaidBye => Gone::Perhaps,
            });
        }
    }

    /// What there is now.
    pub fn counts(&self) -> Counts {
        let seated = self.rooms.values().map(Room::seated).filter(|seated| *seated > 0);
        let (rooms, clients) = seated.fold((0, 0), |(rooms, clients), seated| (rooms + 1, clients + seated));
        Counts {
            rooms,
            clients,
            sockets: self.ledger.sockets.len(),
            queued_bytes: self.ledger.queued_bytes,
            registrations_total: self.ledger.registrations,
            messages_total: self.ledger.messages,
        }
    }

    /// Every room with someone in it, by name.
    pub fn picture(&self, now_ms: u64) -> Vec<RoomPicture> {
        let mut rooms: Vec<_> = self.rooms.values().filter(|room| room.seated() > 0).collect();
        rooms.sort_by(|a, b| a.id.cmp(&b.id));
        rooms.into_iter().map(|room| picture(room, now_ms)).collect()
    }

    /// The room of this name, made if need be. The caller seats someone in it at once: no empty
    /// room is kept.
    pub(super) fn open(&mut self, id: &RoomId) -> Result<(&mut Room, &mut Ledger), Refusal> {
        if !self.rooms.contains_key(id) && self.rooms.len() >= self.ledger.limits.rooms {
            return Err(Refusal::TooManyRooms);
        }
        let room = self.rooms.entry(id.clone()).or_insert_with(|| Room::new(id.clone()));
        Ok((room, &mut self.ledger))
    }

    /// Removes a client, if there is one, and its room with the last.
    pub(super) fn remove(&mut self, room: &RoomId, client: &ClientId, gone: impl Fn(Standing) -> Gone) {
        let Some(state) = self.rooms.get_mut(room) else { return };
        if let Some(at) = state.find(client) {
            let gone = gone(state.members[at].standing);
            state.remove(&mut self.ledger, at, gone);
        }
        self.drop_if_empty(room);
    }

    pub(super) fn drop_if_empty(&mut self, room: &RoomId) {
        if self.rooms.get(room).is_some_and(|room| room.members.is_empty()) {
            self.rooms.remove(room);
        }
    }
}

fn picture(room: &Room, now_ms: u64) -> RoomPicture {
    let seated = room.members.iter().filter(|member| member.standing == Standing::Seated);
    let clients = seated.map(|member| ClientPicture {
        id: member.id.to_string(),
        initiator: member.is_initiator,
        registered: member.socket.is_some(),
        age_s: now_ms.saturating_sub(member.since_ms) / 1000,
    });
    RoomPicture {
        room: room.id.to_string(),
        clients: clients.collect(),
        queued: room.members.iter().map(|member| member.queue.len()).sum(),
    }
}
