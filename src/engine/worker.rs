//! The loop of one worker, whole: poll, sample the time, for each ready socket receive a batch
//! and judge each datagram, send, time-outs, mailbox, sleep.
//!
//! Everything a worker touches for a packet is its own; what it shares with others it reads
//! without a lock, and writes only when allocations come and go.

use super::batch::{Appetite, Batch, Cell, Outgoing};
use super::budgets::Meters;
use super::clients::{Clients, TcpListener};
use super::journal::{Ended, Fate};
use super::moderation::Moderation;
use super::parcel::{Parcel, Post};
use super::ports::{self, Owner, PortPool};
use super::rate::RateShare;
use super::relays::{RelayKey, Relays, WorkerPorts};
use super::sending::Outbox;
use super::steering::{Census, Notices};
use super::token::{self, Kind};
use crate::bus::{Command, LogChoice, Notice, SessionId};
use crate::stats::{CloseReason, Direction, WorkerStats};
use crate::sys::{self, ErrorOrigin, Fragmentation, QueuedError};
use crate::turn::request::method_name;
use crate::turn::{
    AllocationId, ClientAddr, ClientId, DropReason, Event, FiveTuple, Framing, LinkId, Now, PeerAddr, RelayedAddr,
    Sender, Server, Transport, Verdict,
};
use crate::wire::attribute::IcmpError;
use crossbeam_channel::Receiver;
use mio::{Events, Poll, Token};
use parking_lot::Mutex;
use socket2::Socket;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::ops::Range;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Most datagrams received from a listener at a time.
const LISTENER_BATCH: usize = 64;
/// Datagrams after which a listener is asked for fewer super-packets.
const DATAGRAMS_PER_READ: u64 = 256;
/// Most datagrams received from a relayed address at a time.
const RELAY_BATCH: usize = 4;
/// Events taken from one poll.
const EVENTS: usize = 1024;
/// Parcels taken in one round.
const PARCELS_PER_ROUND: usize = 256;
/// Errors taken from one socket's error queue at a time.
const ERRORS_PER_DRAIN: usize = 256;
/// The longest a worker sleeps while it has something to look after, in milliseconds.
const NAP_MAX_MS: u64 = 1_000;

/// A UDP listener and the address it stands for.
pub(super) struct UdpListener {
    pub socket: Socket,
    pub addr: SocketAddr,
    /// Whether bursts leave as one message; false once the kernel has refused.
    pub segmented: bool,
    /// Datagrams to ask for.
    pub appetite: Appetite,
}

/// Two clients' relayed addresses may also be reached through the network: development.
#[derive(Clone, Copy, Debug)]
pub(super) struct Options {
    pub loopback_peers: bool,
}

/// One worker.
pub(super) struct Worker {
    pub number: u8,
    pub poll: Poll,
    pub server: Server,
    pub pool: Arc<PortPool>,
    pub ports_free: PortsFree,
    pub stats: Arc<WorkerStats>,
    pub udp: Vec<UdpListener>,
    pub clients: Clients,
    pub relays: Relays,
    pub post: Post,
    pub rate: RateShare,
    pub commands: Receiver<Command>,
    pub notices: Notices,
    pub census: Census,
    /// Allocations whose credential caps their bytes.
    pub meters: Meters,
    pub options: Options,
    /// What is logged of sessions.
    pub log: LogChoice,
    pub batch: Batch,
    pub outbox: Outbox,
    pub moderation: Moderation,
    /// Rounds so far.
    pub round: u64,
    /// Datagrams and frames of this round.
    pub received: u64,
    /// Sources that may hold more than was read.
    pub again: Vec<Token>,
    pub now: Now,
    pub stopping: bool,
}

/// Where the number of free ports is told, by whichever worker has changed it.
#[derive(Clone)]
pub(super) struct PortsFree(Arc<Mutex<Arc<WorkerStats>>>);

impl PortsFree {
    /// Tells it among the counters of one worker, from now on.
    pub fn told_by(stats: Arc<WorkerStats>, pool: &PortPool, now: Now) -> Self {
        let told = PortsFree(Arc::new(Mutex::new(stats)));
        told.tell(pool, now);
        told
    }

    /// Looks and tells in one go, so that the last to tell has seen what all others did.
    pub fn tell(&self, pool: &PortPool, now: Now) {
        self.0.lock().ports_free.set(pool.free(now));
    }
}

/// Does a worker's work. A panic in it ends the process, however it was built: what it leaves
/// behind is not to be trusted, and whoever supervises the process starts another.
pub(super) fn or_abort(work: impl FnOnce()) {
    struct Whole;
    impl Drop for Whole {
        fn drop(&mut self) {
            if std::thread::panicking() {
                std::process::abort();
            }
        }
    }
    let _whole = Whole;
    work();
}

impl Worker {
    /// Serves until told to stop.
    pub fn run(mut self) {
        let mut events = Events::with_capacity(EVENTS);
        let mut ready = Vec::with_capacity(EVENTS);
        while !self.stopping {
            match self.poll.poll(&mut events, self.sleep()) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // Its clients would be served by nobody, and new ones sent to it all the same.
                Err(error) => panic!("polling failed on worker {}: {error}", self.number),
            }
            let woken = self.moderation.is_on().then(Instant::now);
            self.now = ports::now();
            self.round += 1;
            // Those left over come after those that are new, so that one busy source can not
            // keep the others waiting.
            std::mem::swap(&mut self.again, &mut ready);
            // One that was ready by an event too has asked twice.
            ready.sort_unstable();
            ready.dedup();
            for event in &events {
                self.handle_ready(event.token(), event.is_error(), event.is_read_closed());
            }
            for token in ready.drain(..) {
                self.handle_ready(token, false, false);
            }
            self.flush();
            self.handle_timeouts();
            self.handle_mailbox();
            self.flush();
            self.stats.rounds.add(1);
            if let Some(woken) = woken {
                self.rest(woken);
            }
        }
        self.close_all();
    }

    /// Lets thin traffic gather before the next round.
    fn rest(&mut self, woken: Instant) {
        let packets = std::mem::take(&mut self.received);
        let rest = self.moderation.rest(woken, Instant::now(), packets);
        if let Some(rest) = rest.filter(|_| self.again.is_empty()) {
            std::thread::sleep(rest);
        }
    }

    fn sleep(&self) -> Option<Duration> {
        if !self.again.is_empty() {
            return Some(Duration::ZERO);
        }
        let now_ms = self.now.mono_ms;
        let deadlines = [self.server.next_deadline(), self.clients.next_deadline()];
        let reservations = (self.number == 0 && self.pool.reserved() > 0).then_some(now_ms + NAP_MAX_MS);
        let census = self.census.next_ms(&self.server, &self.notices);
        let (settling, ports) = (self.meters.next_ms(), self.pool.next_free_ms());
        let others = [reservations, census, settling, ports];
        let next = deadlines.into_iter().chain(others).flatten().min()?;
        // One more, because the clock's milliseconds are cut off and poll's are too.
        Some(Duration::from_millis(next.saturating_sub(now_ms) + 1))
    }

    fn handle_ready(&mut self, token: Token, is_error: bool, is_end: bool) {
        let (kind, index, generation) = token::split(token);
        match kind {
            Kind::Wake => self.handle_parcels(),
            Kind::Udp => self.read_listener(index as usize),
            Kind::Relay => {
                let key = RelayKey { index, generation };
                if is_error {
                    self.drain_errors(key);
                }
                self.read_relay(key);
            }
            Kind::Tcp => self.accept(token, index as usize),
            Kind::Connection => self.handle_connection(token, index, generation, is_end),
        }
    }

    // --- From clients ---------------------------------------------------------------------

    fn read_listener(&mut self, index: usize) {
        self.make_room(LISTENER_BATCH);
        let Some(listener) = self.udp.get_mut(index) else { return };
        let (server, link) = (listener.addr, LinkId(index as u64));
        let wanted = listener.appetite.ask(self.round, LISTENER_BATCH);
        match self.batch.recv(listener.socket.as_fd(), wanted) {
            Ok(slots) => {
                let before = self.received;
                for slot in slots {
                    let Some(client) = self.batch.source(slot) else { continue };
                    let Some(cells) = self.batch.cells(slot) else {
                        self.stats.dropped(DropReason::Truncated);
                        continue;
                    };
                    let tuple = FiveTuple { client: ClientAddr(client), server, transport: Transport::Udp };
                    for cell in cells {
                        self.received += 1;
                        self.handle_message(&cell, &Sender { tuple, link });
                    }
                }
                let datagrams = self.received - before;
                self.stats.batches.observe(datagrams);
                if datagrams > DATAGRAMS_PER_READ {
                    // The other sockets must not have to wait for so many.
                    self.udp[index].appetite.curb();
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => tracing::debug!(%error, listener = %server, "receiving failed"),
        }
    }

    /// Judges a message that lies in a slot and does what the verdict says.
    pub(super) fn handle_message(&mut self, cell: &Cell, from: &Sender) {
        self.make_answer_room();
        let (message, answer_room) = self.batch.message_and_answer(cell);
        let mut ports = WorkerPorts {
            worker: self.number,
            pool: &self.pool,
            relays: &mut self.relays,
            registry: self.poll.registry(),
        };
        match self.server.handle_client(self.now, from, message, &mut ports, answer_room) {
            Verdict::Drop(reason) => {
                self.dropped(reason);
                if reason == DropReason::Unverified && from.tuple.transport.is_stream() {
                    self.clients.close(from.link, CloseReason::Unverified);
                }
            }
            Verdict::ToPeer { via, peer, payload, dont_fragment } => {
                self.relay_to_peer(cell, via, peer, payload, dont_fragment);
            }
            Verdict::ToRelay { via, from, to, payload } => self.relay_in_process(cell, via, from, to, payload),
            Verdict::Reply { len, answer } => {
                self.stats.answered(answer);
                if answer.code >= 400 {
                    self.notify_refused(cell, from, answer);
                }
                tracing::trace!(method = method_name(answer.method), code = answer.code, client = %from.tuple.client, "answered");
                let answer = self.batch.answer(len, from.tuple.client.0);
                self.reply(from.link, answer);
                self.drain_events();
            }
            Verdict::ToClient { .. } | Verdict::Indicate { .. } => {
                debug_assert!(false, "a client's message goes to a peer or is answered");
            }
        }
    }

    /// Counts a datagram that met silence, and ends the allocation that it was one too many for.
    fn dropped(&mut self, reason: DropReason) {
        self.stats.dropped(reason);
        if reason == DropReason::CredentialUsedUp {
            self.drain_events();
        }
    }

    fn reply(&mut self, link: LinkId, answer: Outgoing) {
        match self.outbox.to_clients.get_mut(link.0 as usize) {
            Some(queue) => queue.push(answer),
            None => {
                let Worker { clients, batch, .. } = self;
                clients.queue(link, &batch.pieces(&answer), false);
            }
        }
    }

    fn relay_to_peer(
        &mut self,
        cell: &Cell,
        via: AllocationId,
        peer: PeerAddr,
        payload: Range<usize>,
        dont_fragment: bool,
    ) {
        let Some(key) = self.relays.of(via, peer.0) else {
            return self.stats.dropped(DropReason::NoAllocation);
        };
        if !self.rate.take(self.now.mono_ms, Direction::ToPeer, via, payload.len()) {
            return self.stats.dropped(DropReason::BandwidthTotal);
        }
        let outgoing = self.batch.payload(cell, payload, peer.0);
        match dont_fragment {
            true => self.send_unfragmented(key, outgoing),
            false => self.outbox.push_to_peer(key, outgoing),
        }
    }

    /// Sends one datagram with DF, after those that wait.
    fn send_unfragmented(&mut self, key: RelayKey, outgoing: Outgoing) {
        self.flush_to_peers();
        let v6 = outgoing.to.is_ipv6();
        let set = |worker: &Worker, fragmentation| {
            let relay = worker.relays.get(key)?;
            sys::set_fragmentation(relay.socket.as_fd(), v6, fragmentation).ok()
        };
        if set(self, Fragmentation::Forbidden).is_none() {
            return self.stats.dropped(DropReason::SendFailed);
        }
        self.send_run(key, &[outgoing]);
        if set(self, Fragmentation::Allowed).is_none() {
            tracing::warn!("a relayed port stays with DF set");
        }
    }

    // --- Between two clients of this server --------------------------------------------------

    fn relay_in_process(
        &mut self,
        cell: &Cell,
        via: AllocationId,
        from: RelayedAddr,
        to: RelayedAddr,
        payload: Range<usize>,
    ) {
        match self.pool.owner(to.0) {
            Some(Owner { worker, id }) if worker == self.number => {
                self.stats.relayed(Direction::ToPeer, payload.len());
                self.relay_from_peer(cell, id, PeerAddr(from.0), payload);
            }
            Some(Owner { worker, id }) => {
                let bytes = self.batch.message(cell, payload);
                let len = bytes.len();
                match self.post.send(worker, id, PeerAddr(from.0), bytes) {
                    Ok(()) => self.stats.relayed(Direction::ToPeer, len),
                    Err(_) => self.stats.dropped(DropReason::Backpressure),
                }
            }
            None if self.options.loopback_peers => self.relay_to_peer(cell, via, PeerAddr(to.0), payload, false),
            None => self.stats.dropped(DropReason::SelfPortRefused),
        }
    }

    fn handle_parcels(&mut self) {
        for _ in 0..PARCELS_PER_ROUND {
            let Some(Parcel { to, from, bytes, sender }) = self.post.receive() else { return };
            self.make_room(1);
            if let Some(cell) = self.batch.place(&bytes) {
                self.relay_from_peer(&cell, to, from, 0..bytes.len());
            }
            self.post.give_back(sender, bytes);
        }
        self.again.push(token::token(Kind::Wake, 0, 0));
    }

    // --- From peers ---------------------------------------------------------------------------

    fn read_relay(&mut self, key: RelayKey) {
        self.make_room(RELAY_BATCH);
        // An error that an earlier datagram met is reported once in place of data.
        for _ in 0..2 {
            let Some(relay) = self.relays.get_mut(key) else { return };
            let owner = relay.owner;
            let wanted = relay.appetite.ask(self.round, RELAY_BATCH);
            match self.batch.recv(relay.socket.as_fd(), wanted) {
                Ok(slots) => {
                    let is_burst = slots.len() > 1;
                    let before = self.received;
                    for slot in slots {
                        let Some(peer) = self.batch.source(slot) else { continue };
                        let Some(cells) = self.batch.cells(slot) else {
                            self.stats.dropped(DropReason::Truncated);
                            continue;
                        };
                        for cell in cells {
                            self.received += 1;
                            self.relay_from_peer(&cell, owner, PeerAddr(peer), 0..cell.len());
                        }
                    }
                    if is_burst {
                        self.relays.take_bursts(key);
                    }
                    self.stats.batches.observe(self.received - before);
                    return;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => {
                    self.drain_errors(key);
                }
            }
        }
    }

    /// Judges a peer's bytes that lie in a slot and frames them for the client in place.
    fn relay_from_peer(&mut self, cell: &Cell, via: AllocationId, peer: PeerAddr, payload: Range<usize>) {
        match self.server.handle_peer(self.now, via, peer, payload.len()) {
            Verdict::ToClient { via, client, framing, .. } => self.relay_to_client(cell, payload, via, client, framing),
            Verdict::Drop(reason) => self.dropped(reason),
            _ => debug_assert!(false, "a peer's datagram goes to its client or nowhere"),
        }
    }

    #[inline]
    fn relay_to_client(
        &mut self,
        cell: &Cell,
        payload: Range<usize>,
        via: AllocationId,
        client: ClientId,
        framing: Framing,
    ) {
        let len = payload.len();
        if !self.rate.take(self.now.mono_ms, Direction::ToClient, via, len) {
            return self.stats.dropped(DropReason::BandwidthTotal);
        }
        let id = self.server.transaction_id();
        let framed = self.batch.frame(cell, payload, framing, id, client.addr.0);
        match self.outbox.to_clients.get_mut(client.link.0 as usize) {
            Some(queue) => queue.push(framed),
            None => {
                let [head, body, tail] = self.batch.pieces(&framed);
                // ChannelData is padded on a stream; an indication is padded already.
                let framed_len = head.len() + body.len() + tail.len();
                let padding = &[0; 3][..crate::wire::padded(framed_len) - framed_len];
                match self.clients.queue(client.link, &[head, body, tail, padding], true) {
                    true => self.stats.relayed(Direction::ToClient, len),
                    false => self.stats.dropped(DropReason::Backpressure),
                }
            }
        }
    }

    /// Takes what ICMP said about earlier datagrams and tells the client. Returns the MTU that
    /// the kernel itself refused one for: it does not say to which port that went.
    pub(super) fn drain_errors(&mut self, key: RelayKey) -> u32 {
        let mut mtu = 0;
        for _ in 0..ERRORS_PER_DRAIN {
            let Some(relay) = self.relays.get(key) else { break };
            let Some(error) = sys::next_queued_error(relay.socket.as_fd()) else { break };
            match error.origin {
                ErrorOrigin::Local => mtu = error.mtu,
                ErrorOrigin::Icmp => self.report(key, error.peer, icmp_error(&error)),
            }
        }
        mtu
    }

    pub(super) fn report(&mut self, key: RelayKey, peer: SocketAddr, error: IcmpError) {
        let Some(relay) = self.relays.get(key) else { return };
        let mut room = [0; 128];
        match self.server.handle_icmp(self.now, relay.owner, PeerAddr(peer), error, &mut room) {
            Verdict::Indicate { client, len } => self.indicate(client, &room[..len]),
            Verdict::Drop(reason) => self.stats.dropped(reason),
            _ => debug_assert!(false, "an ICMP error is indicated or dropped"),
        }
    }

    /// Sends an indication at once: it is rare and must not wait in a slot.
    fn indicate(&mut self, client: ClientId, bytes: &[u8]) {
        match self.udp.get(client.link.0 as usize) {
            Some(listener) => {
                if listener.socket.send_to(bytes, &client.addr.0.into()).is_err() {
                    self.stats.dropped(DropReason::SendFailed);
                }
            }
            None => {
                self.clients.queue(client.link, &[bytes], false);
            }
        }
    }

    // --- Time, events, mailbox ---------------------------------------------------------------

    fn handle_timeouts(&mut self) {
        if self.server.next_deadline().is_some_and(|at_ms| at_ms <= self.now.mono_ms) {
            self.server.handle_timeout(self.now);
            self.drain_events();
        }
        self.expire_connections();
        self.count();
        self.settle_meters();
        let is_unclaimed = self.number == 0 && self.pool.sweep_reservations(self.now);
        if is_unclaimed || self.pool.comes_free(self.now) {
            self.ports_free.tell(&self.pool, self.now);
        }
    }

    /// Gives effect to what happened to allocations, in order.
    pub(super) fn drain_events(&mut self) {
        let mut has_ports_changed = false;
        while let Some(event) = self.server.poll_event() {
            match event {
                Event::Created { id, tuple, relayed, .. } => {
                    has_ports_changed = true;
                    self.stats.created.add(1);
                    relayed.iter().flatten().for_each(|r| self.stats.opened(tuple.transport, r.family()));
                    self.notify_created(id, tuple, relayed);
                    self.begin_metering(id);
                    tracing::debug!(?id, client = %tuple.client, transport = tuple.transport.name(), ?relayed, "allocated");
                }
                Event::Released { id, relayed, transport } => {
                    has_ports_changed = true;
                    self.stats.closed(transport, relayed.family());
                    self.release(id, relayed);
                }
                Event::Deleted { id, tuple, account, relayed, reason, traffic, age_ms } => {
                    self.pool.give_back(&account.payer, tuple.client.ip());
                    self.end_metering(id, &traffic, reason);
                    self.stats.ended(reason);
                    self.stats.session_ms.observe(age_ms);
                    self.stats.session_bytes.observe(traffic.bytes());
                    let id = SessionId { worker: self.number, allocation: id };
                    if self.log.allocations {
                        let (account, tuple, relayed, traffic) = (&account, &tuple, &relayed, &traffic);
                        Ended { id, account, tuple, relayed, reason, traffic, age_ms }.log();
                    }
                    self.notify(Notice::Ended { id, account, tuple, reason, traffic, age_ms });
                }
                Event::Permitted { id, peer, is_new, .. } => self.log_permission(id, peer, Fate::of(is_new)),
                Event::Forbidden { id, peer } => self.log_permission(id, peer, Fate::Forbidden),
                Event::Bound { id, number, peer, is_new, .. } => {
                    self.log_channel(id, number.get(), peer, Fate::of(is_new));
                }
                Event::Unbound { id, number, peer } => self.log_channel(id, number.get(), peer, Fate::Forbidden),
                Event::Refreshed { .. } => {}
            }
        }
        if has_ports_changed {
            self.ports_free.tell(&self.pool, self.now);
        }
        self.stats.allocations.set(self.server.allocation_count() as u64);
    }

    fn release(&mut self, id: AllocationId, relayed: RelayedAddr) {
        // What was accepted before the end still leaves.
        self.flush_to_peers();
        if let Some(local) = self.relays.close(id, relayed) {
            self.pool.release(self.now, local);
        }
    }

    /// The TCP listener at an index.
    pub(super) fn tcp_listener(&self, index: usize) -> Option<&TcpListener> {
        self.clients.listeners.get(index)
    }
}

/// The error as ICMP told it (RFC 8656 §18.13).
fn icmp_error(error: &QueuedError) -> IcmpError {
    let (kind, code) = error.icmp;
    let is_too_big = if error.peer.is_ipv4() { (kind, code) == (3, 4) } else { kind == 2 };
    IcmpError { kind, code, error_value: if is_too_big { error.mtu } else { 0 } }
}
