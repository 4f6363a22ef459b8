//! turnpike carries real-time media between people who cannot reach each other: a STUN and
//! TURN server (RFC 8489, RFC 8656).
//!
//! The floors, from the roof down; each may use those below it:
//!
//! - [`cli`] and [`config`] read what the user typed and build the rest from it.
//! - [`engine`] relays: one thread a core, its listeners, its sockets.
//! - [`load`] makes load for a server, as its clients do; [`probe`] tries servers, with the same client.
//! - [`bus`] and [`stats`] are what the engine and those who steer or watch it share.
//! - [`turn`] is the server as a pure machine: datagrams in, verdicts out.
//! - [`wire`] is bytes and values.
//! - `sys` is the system calls that no crate wraps, and the only file with `unsafe` code; `engine`
//!   and [`load`] stand on it.
//!
//! `ARCHITECTURE.md` walks a packet through them.

pub mod bus;
pub mod cli;
pub mod config;
pub mod engine;
pub mod http;
pub mod load;
pub mod probe;
pub mod rooms;
pub mod stats;
mod sys;
pub mod turn;
pub mod wire;
