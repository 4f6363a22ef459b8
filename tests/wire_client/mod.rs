//! A TURN client of few words, and a world without sockets, threads or clocks to put it in.
//!
//! [`message`] encodes and decodes by itself and shares with the server only the numbers of methods and
//! attributes, so that a mistake there is not mirrored here. [`world`] holds one server, the ports it may relay
//! from and the time, and checks after every datagram what must always be true.
//!
//! A test of few lines: `let mut world = World::new(); let alice = world.alice(); world.ask(&alice, allocate())`.

#![allow(dead_code, unused_imports, reason = "every test uses a part")]

pub mod client;
pub mod message;
pub mod ports;
pub mod world;

pub use client::{ALICE, BOB, Client, REALM, SECRET, Scheme, peer, rest_password};
pub use message::{
    Draft, Reply, Value, allocate, bind, binding, channel, indication, permit, push, push_fingerprint, push_mac,
    refresh, request, send,
};
pub use ports::FakePorts;
pub use world::{LOCAL, Outcome, RELAY, SERVER, START, World, moved, over, udp};
