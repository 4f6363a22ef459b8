//! The rooms and the sockets of those who are in them, and the one task that ends what is over.

use super::super::Shared;
use super::super::guard::Problem;
use crate::rooms::{Counts, Limits, Occupancy, Outgoing, RoomId, RoomPicture, Rooms, SocketId};
use axum::extract::ws::Utf8Bytes;
use axum::http::StatusCode;
use governor::clock::DefaultClock;
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};
use parking_lot::Mutex;
use serde_json::json;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::{Notify, mpsc};

/// Messages that wait for one socket to take them; one more closes it.
pub const BACKLOG_LEN_MAX: usize = 256;
/// Bytes of those messages.
pub const BACKLOG_BYTES_MAX: usize = 1 << 20;
/// Sockets one source may have open; loopback may have any number.
pub const SOCKETS_PER_SOURCE_MAX: usize = 20;
/// Sockets there may be.
pub const SOCKETS_MAX: usize = 10_000;
/// Joins one source may ask for in a minute; loopback may ask for any number.
pub const JOINS_PER_MINUTE: NonZeroU32 = NonZeroU32::new(60).unwrap();
/// Sources remembered before those that joined long ago are forgotten.
const SOURCES_REMEMBERED: usize = 4096;

/// What is asked of a socket's task.
#[derive(Debug, PartialEq, Eq)]
pub enum Line {
    /// Write this.
    Text(Utf8Bytes),
    /// Find out whether its client is still there.
    Probe,
    /// Close with this code.
    Close(u16),
}

/// What waits for a socket.
#[derive(Debug, Default)]
pub struct Backlog {
    len: AtomicUsize,
    bytes: AtomicUsize,
    /// Told once when more than the limit would wait.
    pub overflown: Notify,
}

impl Backlog {
    /// A message was taken.
    pub fn took(&self, text: &Utf8Bytes) {
        self.len.fetch_sub(1, Ordering::Relaxed);
        self.bytes.fetch_sub(text.len(), Ordering::Relaxed);
    }
}

struct Outlet {
    lines: mpsc::UnboundedSender<Line>,
    backlog: Arc<Backlog>,
}

impl Outlet {
    /// False when the socket does not take what is said to it.
    fn say(&self, text: Utf8Bytes, is_bounded: bool) -> bool {
        // Only this side adds, and under the hub's lock.
        let len = self.backlog.len.load(Ordering::Relaxed) + 1;
        let bytes = self.backlog.bytes.load(Ordering::Relaxed) + text.len();
        if is_bounded && (len > BACKLOG_LEN_MAX || bytes > BACKLOG_BYTES_MAX) {
            self.backlog.overflown.notify_one();
            return false;
        }
        self.backlog.len.store(len, Ordering::Relaxed);
        self.backlog.bytes.store(bytes, Ordering::Relaxed);
        self.lines.send(Line::Text(text)).is_ok()
    }
}

#[derive(Default)]
struct State {
    rooms: Rooms,
    outlets: HashMap<SocketId, Outlet>,
    sources: HashMap<IpAddr, usize>,
    sockets: usize,
    next_socket: u64,
    /// When the tending task wakes; `None`: there is no such task.
    wakes_at_ms: Option<u64>,
}

/// The rooms, and the sockets of those who are in them.
pub struct Hub {
    state: Mutex<State>,
    wake: Notify,
    joins: RateLimiter<IpAddr, HashMapStateStore<IpAddr>, DefaultClock>,
    /// Errors told to sockets.
    pub ws_errors: AtomicU64,
    /// Errors told to Collider's HTTP clients.
    pub http_errors: AtomicU64,
}

impl Default for Hub {
    fn default() -> Self {
        Hub {
            state: Mutex::default(),
            wake: Notify::new(),
            joins: RateLimiter::hashmap(Quota::per_minute(JOINS_PER_MINUTE)),
            ws_errors: AtomicU64::new(0),
            http_errors: AtomicU64::new(0),
        }
    }
}

impl Hub {
    /// Every room with someone in it, by name, and the counts.
    pub fn picture(&self, shared: &Shared) -> (Vec<RoomPicture>, Counts) {
        let state = self.state.lock();
        (state.rooms.picture(now_ms(shared)), state.rooms.counts())
    }

    /// The counts alone.
    pub fn counts(&self) -> Counts {
        self.state.lock().rooms.counts()
    }

    pub(super) fn occupancy(&self, shared: &Shared, room: &RoomId) -> Occupancy {
        let mut state = self.state.lock();
        let Some(limits) = &shared.live.load().rooms else { return Occupancy::default() };
        state.obey(limits);
        state.rooms.occupancy(room)
    }

    /// Whether this source has not joined too often.
    pub(super) fn may_join(&self, ip: Option<IpAddr>) -> bool {
        let Some(ip) = ip else { return true };
        if self.joins.len() > SOURCES_REMEMBERED {
            self.joins.retain_recent();
        }
        self.joins.check_key(&source(ip)).is_ok()
    }
}

impl State {
    fn obey(&mut self, limits: &Limits) {
        if self.rooms.limits() != limits {
            self.rooms.set_limits(limits.clone());
        }
    }

    /// Hands out all that the rooms want sent.
    fn send_all(&mut self, now_ms: u64) {
        while let Some(outgoing) = self.rooms.poll_outgoing() {
            match outgoing {
                Outgoing::Deliver { socket, text, waited } => {
                    let is_taken = self.outlets.get(&socket).is_some_and(|outlet| outlet.say(heard(&text), !waited));
                    if !is_taken {
                        // It closes by itself; from here on, what is said to its client waits.
                        self.outlets.remove(&socket);
                        self.rooms.closed(now_ms, socket, false);
                    }
                }
                Outgoing::Close { socket, code } => self.tell(socket, Line::Close(code)),
                Outgoing::Probe { socket } => self.tell(socket, Line::Probe),
            }
        }
    }

    fn tell(&self, socket: SocketId, line: Line) {
        if let Some(outlet) = self.outlets.get(&socket) {
            // A task that is gone has nothing left to do.
            let _ = outlet.lines.send(line);
        }
    }
}

/// Does something with the rooms, sends what follows, and sees to it that someone wakes when
/// the next thing is due.
pub fn act<T>(shared: &Arc<Shared>, work: impl FnOnce(&mut Rooms, u64) -> T) -> T {
    let hub = &shared.signalling;
    let now_ms = now_ms(shared);
    let mut state = hub.state.lock();
    if let Some(limits) = &shared.live.load().rooms {
        state.obey(limits);
    }
    state.rooms.expire(now_ms);
    let outcome = work(&mut state.rooms, now_ms);
    state.send_all(now_ms);
    match (state.rooms.next_deadline(), state.wakes_at_ms) {
        (Some(due_ms), None) => {
            if let Ok(runtime) = tokio::runtime::Handle::try_current() {
                state.wakes_at_ms = Some(due_ms);
                runtime.spawn(tend(shared.clone()));
            }
        }
        (Some(due_ms), Some(wakes_at_ms)) if due_ms < wakes_at_ms => hub.wake.notify_one(),
        _ => {}
    }
    outcome
}

/// Wakes when something is due; ends when nothing will be.
async fn tend(shared: Arc<Shared>) {
    loop {
        let due_ms = {
            let mut state = shared.signalling.state.lock();
            state.wakes_at_ms = state.rooms.next_deadline();
            state.wakes_at_ms
        };
        let Some(due_ms) = due_ms else { return };
        let due = shared.started + Duration::from_millis(due_ms);
        tokio::select! {
            () = tokio::time::sleep_until(due.into()) => act(&shared, |_, _| ()),
            () = shared.signalling.wake.notified() => {}
        }
    }
}

fn now_ms(shared: &Shared) -> u64 {
    u64::try_from(shared.started.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// One household: an IPv4 address, or the /56 of an IPv6 one.
fn source(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() & (u128::MAX << 72))),
        ip => ip,
    }
}

/// A message as Collider writes it: both keys always, and a new line.
fn heard(text: &str) -> Utf8Bytes {
    format!("{}\n", json!({ "msg": text, "error": "" })).into()
}

/// A socket's place among all: taken before its handshake is answered, given back when dropped.
pub struct Place {
    shared: Arc<Shared>,
    /// Its name.
    pub id: SocketId,
    source: Option<IpAddr>,
    /// What is asked of it.
    pub lines: mpsc::UnboundedReceiver<Line>,
    /// What waits for it.
    pub backlog: Arc<Backlog>,
}

impl Place {
    /// A place for one more socket from there.
    pub fn take(shared: &Arc<Shared>, ip: Option<IpAddr>) -> Result<Self, Problem> {
        let source = ip.filter(|_| !super::is_loopback(ip)).map(source);
        let mut state = shared.signalling.state.lock();
        if state.sockets >= SOCKETS_MAX {
            let detail = "too many sockets are open; try again later";
            return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "too_many_sockets", detail));
        }
        if let Some(source) = source {
            let open = state.sources.entry(source).or_default();
            if *open >= SOCKETS_PER_SOURCE_MAX {
                let detail = "too many sockets are open from this address";
                return Err(Problem::new(StatusCode::TOO_MANY_REQUESTS, "rate_limited", detail));
            }
            *open += 1;
        }
        state.sockets += 1;
        state.next_socket += 1;
        let id = SocketId(state.next_socket);
        let (sender, lines) = mpsc::unbounded_channel();
        let backlog = Arc::new(Backlog::default());
        state.outlets.insert(id, Outlet { lines: sender, backlog: backlog.clone() });
        Ok(Place { shared: shared.clone(), id, source, lines, backlog })
    }

    /// The plane.
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Tells its own socket, after all that others said to it.
    pub fn tell(&self, line: Line) {
        let state = self.shared.signalling.state.lock();
        match line {
            Line::Text(text) => {
                // When it does not take even this, it is told by `overflown`.
                let _ = state.outlets.get(&self.id).is_some_and(|outlet| outlet.say(text, true));
            }
            line => state.tell(self.id, line),
        }
    }

    /// The socket is closed for its client; telling it twice changes nothing.
    pub fn closed(&self, is_gone: bool) {
        act(&self.shared, |rooms, now_ms| rooms.closed(now_ms, self.id, is_gone));
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.closed(false);
        let mut state = self.shared.signalling.state.lock();
        state.outlets.remove(&self.id);
        state.sockets -= 1;
        if let Some(source) = self.source
            && let Some(open) = state.sources.get_mut(&source)
        {
            *open -= 1;
            if *open == 0 {
                state.sources.remove(&source);
            }
        }
    }
}
