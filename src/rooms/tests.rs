//! What is asked of the rooms: AppRTC's and Collider's rules, those who vanish, limits at their
//! brink, and invariants under random operations.

mod chance;
mod ghosts;
mod rules;

use super::member::Standing;
use super::{ClientId, Joined, Limits, Outgoing, Refusal, RoomId, Rooms, SocketId};

const BYE: &str = r#"{"type":"bye"}"#;

fn room(name: &str) -> RoomId {
    RoomId::parse(name).unwrap()
}

fn client(name: &str) -> ClientId {
    ClientId::parse(name).unwrap()
}

/// Rooms in which everything is `abc` unless it says otherwise, at a time that stands still.
struct World {
    rooms: Rooms,
    now_ms: u64,
}

impl World {
    fn new() -> Self {
        World::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut Limits)) -> Self {
        let mut limits = Limits::default();
        change(&mut limits);
        World { rooms: Rooms::new(limits), now_ms: 1_000 }
    }

    fn join(&mut self, name: &str) -> Result<Joined, Refusal> {
        self.rooms.join(self.now_ms, &room("abc"), client(name), false)
    }

    /// Whether it is the initiator, and what waited for it.
    fn joined(&mut self, name: &str) -> (bool, Vec<String>) {
        let joined = self.join(name).unwrap();
        (joined.is_initiator, joined.messages.iter().map(ToString::to_string).collect())
    }

    fn message(&mut self, name: &str, text: &str) -> Result<(), Refusal> {
        self.rooms.message(self.now_ms, &room("abc"), &client(name), text)
    }

    fn leave(&mut self, name: &str) {
        self.rooms.leave(self.now_ms, &room("abc"), &client(name));
    }

    fn register(&mut self, socket: u64, name: &str) -> Result<(), Refusal> {
        self.rooms.register(self.now_ms, SocketId(socket), &room("abc"), &client(name))
    }

    fn send(&mut self, socket: u64, text: &str) -> Result<(), Refusal> {
        self.rooms.send(self.now_ms, SocketId(socket), text)
    }

    fn post(&mut self, name: &str, text: &str) -> Result<(), Refusal> {
        self.rooms.post(self.now_ms, &room("abc"), &client(name), text)
    }

    fn delete(&mut self, name: &str) {
        self.rooms.delete(&room("abc"), &client(name));
    }

    fn close(&mut self, socket: u64) {
        self.rooms.closed(self.now_ms, SocketId(socket), false);
    }

    fn pass(&mut self, ms: u64) {
        self.now_ms += ms;
        self.rooms.expire(self.now_ms);
    }

    /// What is to be sent: `socket<text`, `socket!code`, `socket?`.
    fn sent(&mut self) -> Vec<String> {
        let mut sent = Vec::new();
        while let Some(outgoing) = self.rooms.poll_outgoing() {
            sent.push(match outgoing {
                Outgoing::Deliver { socket, text, .. } => format!("{}<{text}", socket.0),
                Outgoing::Close { socket, code } => format!("{}!{code}", socket.0),
                Outgoing::Probe { socket } => format!("{}?", socket.0),
            });
        }
        sent
    }

    /// Who has a seat; `*` marks the initiator, `+` a socket.
    fn seats(&self) -> Vec<String> {
        let pictures = self.rooms.picture(self.now_ms);
        let clients = pictures.iter().filter(|picture| picture.room == "abc").flat_map(|picture| &picture.clients);
        clients
            .map(|client| {
                let star = if client.initiator { "*" } else { "" };
                let plus = if client.registered { "+" } else { "" };
                format!("{}{star}{plus}", client.id)
            })
            .collect()
    }

    fn queued(&self) -> usize {
        self.rooms.picture(self.now_ms).iter().map(|picture| picture.queued).sum()
    }

    fn is_empty(&self) -> bool {
        self.rooms.rooms.is_empty()
    }

    /// What must hold after every step.
    fn check(&self) {
        let (rooms, ledger) = (&self.rooms.rooms, &self.rooms.ledger);
        let limits = &ledger.limits;
        assert!(rooms.len() <= limits.rooms);
        let (mut queued, mut bytes, mut sockets, mut due) = (0, 0, 0, 0);
        for (id, room) in rooms {
            assert!(!room.members.is_empty(), "no empty room is kept");
            assert!(room.seated() <= limits.clients_per_room.max(2), "a seat a client");
            assert!(room.members.len() <= 2 * limits.clients_per_room.max(2));
            let of_people =
                |standing| room.members.iter().filter(move |member| member.standing == standing && !member.is_loopback);
            let initiators = room.members.iter().filter(|member| member.is_initiator).count();
            assert_eq!(
                initiators,
                of_people(Standing::Seated).count().min(1),
                "one initiator where someone is: {room:?}"
            );
            for member in &room.members {
                let same = room.members.iter().filter(|other| other.id == member.id).count();
                assert_eq!(same, 1, "a client has one seat");
                assert!(member.queue.len() <= limits.queue_len && member.queue_bytes <= limits.queue_bytes);
                queued += member.queue.len();
                bytes += member.queue_bytes;
                if let Some(socket) = member.socket {
                    sockets += 1;
                    assert_eq!(ledger.sockets.get(&socket), Some(&(id.clone(), member.id.clone())));
                }
                if let Some(until_ms) = member.until_ms {
                    due += 1;
                    assert!(until_ms > self.now_ms, "every deadline is honoured");
                    assert_eq!(ledger.due.get(&(until_ms, member.serial)), Some(&(id.clone(), member.id.clone())));
                } else {
                    assert!(member.socket.is_some() || member.is_loopback, "nobody stays for ever without a socket");
                }
            }
        }
        assert_eq!(queued, ledger.queued);
        assert_eq!(bytes, ledger.queued_bytes, "every queued byte is accounted for");
        assert_eq!(sockets, ledger.sockets.len());
        assert_eq!(due, ledger.due.len());
    }
}
