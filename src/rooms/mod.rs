//! Rooms and who is in them: AppRTC's room server and Collider as one piece of state.
//!
//! Pure: no clock, no socket, no thread, no async. Time is an argument; what is to be sent
//! comes back as a value.
//!
//! A member has one seat, whether it came by AppRTC's `/join` or by Collider's `register`; the
//! same client id is the same member. What it says reaches the others' sockets, or waits in its
//! own queue. How long it stays:
//!
//! ```text
//! has a socket                            as long as the socket
//! lost its socket                         the grace, then it leaves room and all
//! said bye                                its seat is free at once; it goes with its socket,
//!                                         after the grace at the latest
//! joined, never opened a socket, silent   `silent_ms`: a tab closed while it joined
//! joined, never opened a socket, talks    `socketless_ms` after its last word
//! was made by a Collider POST             the grace, unless it registers
//! ```
//!
//! With two seats, whoever stays behind hears `bye` in the name of a member that left without a
//! word: at once if it is known to be gone, else when its seat is taken. AppRTC clients answer
//! by offering again, so that the next to join finds a live offer, never a stale one.

mod apprtc;
mod collider;
mod member;
mod name;
mod room;
mod seats;
#[cfg(test)]
mod tests;

pub use apprtc::{Joined, Occupancy};
pub use name::{ClientId, RoomId};
pub use seats::{ClientPicture, Counts, Outgoing, RoomPicture, Rooms, SocketId};

use std::fmt;

/// The pseudo-client that holds the second seat of a loopback room.
pub const LOOPBACK_CLIENT: &str = "LOOPBACK_CLIENT_ID";

/// Limits of the rooms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Clients in one room; one more finds it full.
    pub clients_per_room: usize,
    /// Rooms there may be.
    pub rooms: usize,
    /// Messages that wait for one client's peers.
    pub queue_len: usize,
    /// Bytes of those messages.
    pub queue_bytes: usize,
    /// Bytes of all messages that wait in all rooms.
    pub queue_bytes_total: usize,
    /// Bytes of one message.
    pub message_bytes: usize,
    /// How long a client stays whose socket closed without a word, and how long one has to
    /// register, in milliseconds.
    pub grace_ms: u64,
    /// How long a client stays that joined, never opened a socket and never said a word, in
    /// milliseconds.
    pub silent_ms: u64,
    /// How long a client that joined and never opened a socket stays after its last word, in
    /// milliseconds.
    pub socketless_ms: u64,
    /// How often whoever holds the sockets pings them, in milliseconds.
    pub ping_ms: u64,
    /// How long a socket may be silent, its pongs included, in milliseconds.
    pub silence_ms: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            clients_per_room: 2,
            rooms: 10_000,
            queue_len: 1024,
            queue_bytes: 1 << 20,
            queue_bytes_total: 64 << 20,
            message_bytes: 64 << 10,
            grace_ms: 10_000,
            silent_ms: 60_000,
            socketless_ms: 24 * 3600 * 1000,
            ping_ms: 25_000,
            silence_ms: 60_000,
        }
    }
}

/// Why something was refused; displayed in Collider's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Every seat is taken.
    RoomFull,
    /// There are as many rooms as there may be.
    TooManyRooms,
    /// This socket has registered before.
    RegisteredTwice,
    /// Another live socket is bound to this client.
    ClientBound,
    /// This socket has not registered, or its client is gone.
    NotRegistered,
    /// The client's queue is full, by messages or by bytes, or all queues together are.
    QueueFull,
    /// The message is longer than one may be.
    MessageTooLong,
    /// There is no such room.
    UnknownRoom,
    /// There is no such client in that room.
    UnknownClient,
    /// The client id is taken in this room.
    ClientTaken,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Refusal::RoomFull => "Max room capacity reached",
            Refusal::TooManyRooms => "Max room count reached",
            Refusal::RegisteredTwice => "Duplicated register request",
            Refusal::ClientBound => "Duplicated registration",
            Refusal::NotRegistered => "Client not registered",
            Refusal::QueueFull => "Too many messages queued for the client",
            Refusal::MessageTooLong => "Message too long",
            Refusal::UnknownRoom => "Unknown room",
            Refusal::UnknownClient => "Unknown client",
            Refusal::ClientTaken => "Client id taken",
        })
    }
}
