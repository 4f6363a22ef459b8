//! The TCP and TLS clients of one worker: accepting, framing, deadlines.

use super::lobby::{Lobby, Place, Standing};
use super::socket;
use super::stream::{
    Connection, Door, FRAME_MS, Filled, Flushed, HANDSHAKE_MS, HTTP_HEAD_MAX, HTTP_PAGE, Scratch, Speech,
};
use super::token::{self, GENERATION_MASK, Kind};
use super::worker::Worker;
use crate::stats::CloseReason;
use crate::turn::expiry::Wheel;
use crate::turn::{ClientAddr, DropReason, FiveTuple, LinkId, Now, Sender, Transport};
use crate::wire::channel::ChannelRange;
use crate::wire::stream::{Next, next_frame};
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use rustls::ServerConfig;
use socket2::Socket;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// Connections accepted from one listener in one round.
const ACCEPTS_PER_ROUND: usize = 64;
/// How often that is logged, in milliseconds.
const COMPLAINT_MS: u64 = 10_000;
/// How long accepting rests after the process ran out of files, in milliseconds.
const ACCEPT_REST_MS: u64 = 100;

/// A TCP listener and the address it stands for.
pub(super) struct TcpListener {
    pub socket: Socket,
    pub addr: SocketAddr,
}

#[derive(Default)]
struct Slot {
    generation: u32,
    connection: Option<Connection>,
    /// When the wheel comes to it.
    look_ms: Option<u64>,
}

/// The connections of one worker.
pub(super) struct Clients {
    pub listeners: Vec<TcpListener>,
    pub tls: Option<Arc<ServerConfig>>,
    slots: Vec<Slot>,
    free: Vec<u32>,
    wheel: Wheel,
    /// Connections with output, by slot.
    dirty: Vec<u32>,
    /// Output buffers that wait for a connection.
    spare: Vec<Vec<u8>>,
    /// Where a connection's input is read to.
    scratch: Scratch,
    lobby: Lobby,
    /// Until when nothing is accepted.
    rest_until_ms: u64,
    /// When that was last logged.
    complained_ms: u64,
}

/// The link of a connection: never that of a UDP listener, which is a small number.
fn link_of(index: u32, generation: u32) -> LinkId {
    LinkId(token::token(Kind::Connection, index, generation).0 as u64)
}

/// The connection of a slot, if it is still the one that is meant.
fn connection_in(slots: &mut [Slot], index: u32, generation: u32) -> Option<&mut Connection> {
    let slot = slots.get_mut(index as usize)?;
    if slot.generation == generation { slot.connection.as_mut() } else { None }
}

/// Has a connection flushed at the round's end.
fn mark(dirty: &mut Vec<u32>, connection: &mut Connection, index: u32) {
    if !std::mem::replace(&mut connection.dirty, true) {
        dirty.push(index);
    }
}

impl Clients {
    pub fn new(listeners: Vec<TcpListener>, tls: Option<Arc<ServerConfig>>, lobby: Lobby, now: Now) -> Self {
        Clients {
            listeners,
            tls,
            slots: Vec::new(),
            free: Vec::new(),
            wheel: Wheel::new(now.mono_ms),
            dirty: Vec::new(),
            spare: Vec::new(),
            scratch: Scratch::new(),
            lobby,
            rest_until_ms: 0,
            complained_ms: 0,
        }
    }

    /// When the first connection has to be looked at, or accepting goes on.
    pub fn next_deadline(&self) -> Option<u64> {
        let rest = (self.rest_until_ms > 0).then_some(self.rest_until_ms);
        self.wheel.next_deadline_ms().into_iter().chain(rest).min()
    }

    /// Connections there are.
    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    fn get_mut(&mut self, index: u32, generation: u32) -> Option<&mut Connection> {
        connection_in(&mut self.slots, index, generation)
    }

    /// Queues a frame for a connection. False if it has no room for relayed data, or is gone;
    /// one that has no room for answers is given up.
    pub fn queue(&mut self, link: LinkId, parts: &[&[u8]], relayed: bool) -> bool {
        let (_, index, generation) = token::split(Token(link.0 as usize));
        let Clients { slots, spare, dirty, .. } = self;
        let Some(connection) = connection_in(slots, index, generation) else { return false };
        let queued = connection.queue(parts, relayed, spare).is_ok();
        if !queued && !relayed {
            connection.close(CloseReason::Unread);
        }
        mark(dirty, connection, index);
        queued
    }

    /// Has a connection ended at the round's end. Nobody asks twice on a stream (RFC 8489 §6.2.2):
    /// to a request that is not answered its end is the answer.
    pub fn close(&mut self, link: LinkId, reason: CloseReason) {
        let (_, index, generation) = token::split(Token(link.0 as usize));
        let Clients { slots, dirty, .. } = self;
        let Some(connection) = connection_in(slots, index, generation) else { return };
        connection.close(reason);
        mark(dirty, connection, index);
    }

    /// Has a connection flushed at the round's end, if it has something to send.
    fn mark_dirty(&mut self, index: u32, generation: u32) {
        let Clients { slots, dirty, .. } = self;
        if let Some(connection) = connection_in(slots, index, generation).filter(|connection| connection.has_output()) {
            mark(dirty, connection, index);
        }
    }

    /// Has a connection looked at when its next deadline may have come. One that the wheel comes
    /// to earlier anyway stays where it is: deadlines move with every frame, the wheel does not.
    fn watch(&mut self, index: u32, at_ms: u64) {
        let Some(slot) = self.slots.get_mut(index as usize) else { return };
        if slot.look_ms.is_none_or(|look_ms| at_ms < look_ms) {
            slot.look_ms = Some(at_ms);
            self.wheel.arm(index, at_ms);
        }
    }

    /// The next connection whose time to be looked at has come.
    fn next_look(&mut self, now_ms: u64) -> Option<u32> {
        let index = self.wheel.pop(now_ms)?;
        if let Some(slot) = self.slots.get_mut(index as usize) {
            slot.look_ms = None;
        }
        Some(index)
    }

    fn insert(&mut self, stream: TcpStream, tuple: FiveTuple, place: Place, now: Now, to: &Registry) -> io::Result<()> {
        let index = self.free.last().copied().unwrap_or(self.slots.len() as u32);
        let generation = self.slots.get(index as usize).map_or(0, |slot| slot.generation);
        let mut connection = Connection::new(stream, tuple, place, now.mono_ms);
        let token = token::token(Kind::Connection, index, generation);
        to.register(connection.stream_mut(), token, Interest::READABLE | Interest::WRITABLE)?;
        if self.free.pop().is_none() {
            self.slots.push(Slot::default());
        }
        self.slots[index as usize].connection = Some(connection);
        self.lobby.seat(&place, index);
        self.watch(index, now.mono_ms + HANDSHAKE_MS);
        Ok(())
    }

    /// Reads once from a connection, and counts it as ready once it speaks in the clear or its
    /// handshake is done.
    fn fill(&mut self, scratch: &mut Scratch, index: u32, generation: u32, now: Now) -> Filled {
        let Clients { slots, tls, lobby, .. } = self;
        let Some(connection) = connection_in(slots, index, generation) else { return Filled::Closed };
        if !connection.wants_input() {
            return Filled::Blocked;
        }
        let source = connection.tuple.client.ip();
        let tls = tls.as_ref();
        let door = || match tls {
            Some(config) if lobby.admit_handshake(now.mono_ms, source) => Door::Open(config),
            Some(_) => Door::Busy,
            None => Door::Closed,
        };
        let filled = connection.fill(scratch, door);
        if connection.ready_ms.is_none() && !connection.is_unready() {
            connection.ready_ms = Some(now.mono_ms);
            lobby.advance(&mut connection.place, Standing::Guest, index);
        }
        filled
    }

    /// Moves a connection between guests and residents, as it has an allocation or has none any more.
    fn set_standing(&mut self, index: u32, generation: u32, to: Standing) {
        let Clients { slots, lobby, .. } = self;
        if let Some(connection) = connection_in(slots, index, generation) {
            lobby.advance(&mut connection.place, to, index);
        }
    }

    fn flush(&mut self, index: u32) {
        let Clients { slots, spare, .. } = self;
        if let Some(connection) = slots.get_mut(index as usize).and_then(|slot| slot.connection.as_mut()) {
            connection.flush(spare);
        }
    }

    fn remove(&mut self, index: u32, registry: &Registry) -> Option<Connection> {
        let slot = self.slots.get_mut(index as usize)?;
        let mut connection = slot.connection.take()?;
        slot.generation = (slot.generation + 1) & GENERATION_MASK;
        slot.look_ms = None;
        self.free.push(index);
        self.wheel.disarm(index);
        self.lobby.leave(&connection.place);
        let _ = registry.deregister(connection.stream_mut());
        connection.shut_down();
        Some(connection)
    }

    /// Says goodbye to all.
    pub fn shut_down(&mut self) {
        for connection in self.slots.iter_mut().filter_map(|slot| slot.connection.as_mut()) {
            connection.flush(&mut self.spare);
            connection.shut_down();
        }
    }
}

impl Worker {
    pub(super) fn accept(&mut self, token: Token, index: usize) {
        if self.now.mono_ms < self.clients.rest_until_ms {
            return; // gone on with when the rest is over
        }
        for _ in 0..ACCEPTS_PER_ROUND {
            let Some(listener) = self.tcp_listener(index) else { return };
            match listener.socket.accept() {
                Ok((socket, _)) => {
                    if let Err(error) = self.welcome(socket) {
                        tracing::debug!(%error, "a connection could not be taken");
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if is_exhausted(&error) => {
                    if self.now.mono_ms >= self.clients.complained_ms + COMPLAINT_MS {
                        tracing::warn!(%error, listener = %listener.addr, "accepting rests; raise LimitNOFILE or the memory");
                        self.clients.complained_ms = self.now.mono_ms;
                    }
                    self.clients.rest_until_ms = self.now.mono_ms + ACCEPT_REST_MS;
                    return;
                }
                // The connection that was to be accepted is gone already.
                Err(error) => tracing::debug!(%error, "accepting failed"),
            }
        }
        self.again.push(token);
    }

    fn welcome(&mut self, socket: Socket) -> io::Result<()> {
        let peer = socket.peer_addr()?.as_socket().ok_or(ErrorKind::InvalidInput)?;
        let client = SocketAddr::new(peer.ip(), peer.port());
        let server = socket::local_addr(&socket)?;
        let place = match self.admit(client.ip()) {
            Ok(place) => place,
            Err(reason) => {
                self.stats.closed_connections.add(reason);
                return Ok(()); // closed by being dropped
            }
        };
        let taken = socket::prepare_connection(&socket).and_then(|()| {
            let tuple = FiveTuple { client: ClientAddr(client), server, transport: Transport::Tcp };
            let stream = TcpStream::from_std(socket.into());
            self.clients.insert(stream, tuple, place, self.now, self.poll.registry())
        });
        if taken.is_err() {
            self.clients.lobby.leave(&place);
        }
        if let Some(index) = self.clients.lobby.surplus() {
            self.make_way(index, CloseReason::Crowded);
        }
        self.stats.connections.set(self.clients.len() as u64);
        taken
    }

    /// Finds a place for a connection; where its source has too many, its oldest one here goes.
    fn admit(&mut self, source: IpAddr) -> Result<Place, CloseReason> {
        let reason = match self.clients.lobby.admit(source) {
            Ok(place) => return Ok(place),
            Err(reason) => reason,
        };
        let index = self.clients.lobby.oldest_of(source, reason).ok_or(reason)?;
        self.make_way(index, reason);
        self.clients.lobby.admit(source)
    }

    /// Ends a connection without an allocation for one that is newer.
    fn make_way(&mut self, index: u32, reason: CloseReason) {
        if let Some(generation) = self.clients.slots.get(index as usize).map(|slot| slot.generation) {
            self.give_up(index, generation, reason);
        }
    }

    /// Reads once from a connection and handles what came. `ended` says that the poll has told
    /// of its end.
    pub(super) fn handle_connection(&mut self, token: Token, index: u32, generation: u32, ended: bool) {
        let Some(connection) = self.clients.get_mut(index, generation) else { return };
        connection.ended |= ended;
        connection.blocked = false; // the event may be one of writing
        let mut scratch = std::mem::take(&mut self.clients.scratch);
        let filled = self.read_connection(&mut scratch, index, generation);
        self.clients.scratch = scratch;
        match filled {
            Filled::Bytes { more: true, .. } => self.again.push(token),
            Filled::Bytes { .. } | Filled::Blocked => {}
            Filled::Closed => return self.disconnect(index, generation),
        }
        self.clients.mark_dirty(index, generation);
    }

    /// One read and the frames it completes.
    fn read_connection(&mut self, scratch: &mut Scratch, index: u32, generation: u32) -> Filled {
        let filled = self.clients.fill(scratch, index, generation, self.now);
        let Filled::Bytes { len, .. } = filled else { return filled };
        let bytes = &scratch.plain[..len];
        let used = match self.clients.get_mut(index, generation).map(|connection| connection.speech) {
            Some(Speech::Http) => self.answer_http(bytes, index, generation),
            Some(_) => self.handle_frames(bytes, index, generation),
            None => None,
        };
        let Some(used) = used else { return Filled::Closed };
        self.keep_partial(&bytes[used..], used > 0, index, generation);
        filled
    }

    /// Handles the whole frames at the front of `bytes` and returns how many bytes they take;
    /// `None` when the stream has lost its place.
    fn handle_frames(&mut self, bytes: &[u8], index: u32, generation: u32) -> Option<usize> {
        let range: ChannelRange = self.server.config().channels;
        let mut at = 0;
        loop {
            match next_frame(&bytes[at..], range) {
                Next::Frame { message, frame, .. } => {
                    self.handle_frame(&bytes[at..at + message], index, generation)?;
                    at += frame;
                }
                Next::Incomplete => return Some(at),
                Next::Desync => {
                    self.stats.dropped(DropReason::Malformed);
                    if let Some(connection) = self.clients.get_mut(index, generation) {
                        connection.close(CloseReason::Malformed);
                    }
                    return None;
                }
            }
        }
    }

    fn handle_frame(&mut self, message: &[u8], index: u32, generation: u32) -> Option<()> {
        // First, because making room sends, and that may end this very connection.
        self.make_room(1);
        let now_ms = self.now.mono_ms;
        let connection = self.clients.get_mut(index, generation)?;
        connection.hear(now_ms);
        let (tuple, standing) = (connection.tuple, connection.place.standing);
        self.received += 1;
        let cell = self.batch.place(message)?;
        self.handle_message(&cell, &Sender { tuple, link: link_of(index, generation) });
        if standing != Standing::Resident && self.server.has_allocation(&tuple) {
            self.clients.set_standing(index, generation, Standing::Resident);
        }
        Some(())
    }

    fn keep_partial(&mut self, rest: &[u8], moved_on: bool, index: u32, generation: u32) {
        let now_ms = self.now.mono_ms;
        let Some(connection) = self.clients.get_mut(index, generation) else { return };
        connection.keep(rest, moved_on, now_ms);
        if !rest.is_empty() {
            self.clients.watch(index, now_ms + FRAME_MS);
        }
    }

    /// Answers whoever speaks HTTP with a page, whatever they asked for.
    fn answer_http(&mut self, bytes: &[u8], index: u32, generation: u32) -> Option<usize> {
        let ended = bytes.windows(4).any(|window| window == b"\r\n\r\n");
        if !ended && bytes.len() < HTTP_HEAD_MAX {
            return Some(0);
        }
        self.clients.queue(link_of(index, generation), &[HTTP_PAGE], false);
        self.clients.get_mut(index, generation)?.close(CloseReason::Http);
        Some(bytes.len())
    }

    pub(super) fn flush_connections(&mut self) {
        while let Some(index) = self.clients.dirty.pop() {
            let Clients { slots, spare, .. } = &mut self.clients;
            let Some(slot) = slots.get_mut(index as usize) else { continue };
            let generation = slot.generation;
            let Some(connection) = &mut slot.connection else { continue };
            connection.dirty = false;
            if connection.blocked && !connection.closing {
                continue;
            }
            match connection.flush(spare) {
                Flushed::Done | Flushed::Blocked if !connection.closing => {}
                // Closing: what the socket took is enough; a reader that stands still does
                // not hold the connection.
                _ => self.disconnect(index, generation),
            }
        }
    }

    /// Ends a connection for a reason of the server's.
    fn give_up(&mut self, index: u32, generation: u32, reason: CloseReason) {
        if let Some(connection) = self.clients.get_mut(index, generation) {
            connection.close(reason);
        }
        self.disconnect(index, generation);
    }

    /// Ends a connection and the allocation on it.
    fn disconnect(&mut self, index: u32, generation: u32) {
        let Some(connection) = self.clients.get_mut(index, generation) else { return };
        // Before the client can see it.
        self.stats.closed_connections.add(connection.close_reason());
        // Whoever closed their own side only still waits for the answer.
        self.clients.flush(index);
        let Some(connection) = self.clients.remove(index, self.poll.registry()) else { return };
        self.stats.connections.set(self.clients.len() as u64);
        self.server.handle_disconnect(self.now, &connection.tuple);
        self.drain_events();
    }

    pub(super) fn expire_connections(&mut self) {
        let now_ms = self.now.mono_ms;
        if self.clients.rest_until_ms > 0 && self.clients.rest_until_ms <= now_ms {
            self.clients.rest_until_ms = 0;
            for index in 0..self.clients.listeners.len() {
                self.accept(token::token(Kind::Tcp, index as u32, 0), index);
            }
        }
        while let Some(index) = self.clients.next_look(now_ms) {
            let Some(slot) = self.clients.slots.get(index as usize) else { continue };
            let (generation, Some(connection)) = (slot.generation, &slot.connection) else { continue };
            let has_allocation = self.server.has_allocation(&connection.tuple);
            match connection.deadline(has_allocation, now_ms) {
                Ok(at_ms) => {
                    if !has_allocation && connection.place.standing == Standing::Resident {
                        self.clients.set_standing(index, generation, Standing::Guest);
                    }
                    self.clients.watch(index, at_ms);
                }
                Err(reason) => self.give_up(index, generation, reason),
            }
        }
    }
}

/// Whether files or memory ran out, so that trying again at once is of no use.
fn is_exhausted(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::ENOBUFS))
}

#[cfg(test)]
mod tests {
    use super::*;
    use mio::Poll;
    use std::net::TcpListener as StdListener;

    fn at(mono_ms: u64) -> Now {
        Now { mono_ms, unix_s: 0 }
    }

    #[test]
    fn a_connection_is_looked_at_in_time_however_its_deadlines_move() {
        let poll = Poll::new().unwrap();
        let listener = StdListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let server = listener.local_addr().unwrap();
        let tuple = FiveTuple { client: ClientAddr(server), server, transport: Transport::Tcp };
        let mut clients = Clients::new(Vec::new(), None, Lobby::new(Arc::default(), 1), at(0));
        let place = clients.lobby.admit(server.ip()).unwrap();
        clients.insert(stream, tuple, place, at(0), poll.registry()).unwrap();
        assert_eq!(clients.next_deadline(), Some(HANDSHAKE_MS));
        // A frame that comes byte by byte asks again and again for a later look.
        for now_ms in (0..5_000).step_by(500) {
            clients.watch(0, now_ms + FRAME_MS);
            assert_eq!(clients.next_deadline(), Some(HANDSHAKE_MS));
        }
        clients.watch(0, 2_000);
        assert_eq!(clients.next_deadline(), Some(2_000));
        assert_eq!(clients.next_look(1_999), None);
        assert_eq!(clients.next_look(2_000), Some(0));
        clients.watch(0, 9_000);
        assert_eq!(clients.next_deadline(), Some(9_000));
        clients.remove(0, poll.registry()).unwrap();
        assert_eq!((clients.next_deadline(), clients.len()), (None, 0));
    }
}
