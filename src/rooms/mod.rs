//! Rooms and who is in them: AppRTC's room server and Collider as one piece of state.
//!
//! Pure: no clock, no socket, no thread, no async. Time is an argument; what is to be sent
//! comes back as a value.

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
    /// Bytes of one message.
    pub message_bytes: usize,
    /// How long a client stays whose socket closed without a word, and how long one has to
    /// register, in milliseconds.
    pub grace_ms: u64,
    /// How long a client stays that joined and never opened a socket, in milliseconds.
    pub socketless_ms: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            clients_per_room: 2,
            rooms: 10_000,
            queue_len: 1024,
            queue_bytes: 1 << 20,
            message_bytes: 64 << 10,
            grace_ms: 10_000,
            socketless_ms: 24 * 3600 * 1000,
        }
    }
}
