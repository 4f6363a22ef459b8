//! The rooms and the sockets of those who are in them, and the one task that ends what is over.

use super::super::caller::{self, Source};
use super::super::guard::Problem;
use super::super::lockout::PerMinute;
use super::super::{Live, Shared};
use crate::rooms::{ClientId, Counts, Limits, Occupancy, Outgoing, RoomId, RoomPicture, Rooms, SocketId};
use axum::extract::ws::Utf8Bytes;
use axum::http::StatusCode;
use parking_lot::Mutex;
use serde_json::json;
use std::collections::HashMap;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::{Notify, mpsc};

/// Messages that wait for one socket to take them; one more closes it.
pub const BACKLOG_LEN_MAX: usize = 256;
/// Bytes of those messages.
pub const BACKLOG_BYTES_MAX: usize = 1 << 20;
/// Sockets one source may have open; this host may have any number.
pub const SOCKETS_PER_SOURCE_MAX: usize = 20;
/// Sockets there may be.
pub const SOCKETS_MAX: usize = 10_000;
/// Seats one source may ask for in a minute, by whatever protocol; this host may ask for any number.
pub const SEATS_PER_MINUTE: NonZeroU32 = NonZeroU32::new(60).unwrap();

/// Longest time that the tending task sleeps: no limit is too long to be counted.
const NAP_MS_MAX: u64 = 3_600_000;

/// What is asked of a socket's task.
#[derive(Debug, PartialEq, Eq)]
pub enum Line {
    /// Write this.
    Text(Utf8Bytes),
    /// Write this, which waited in a queue that has bounded it already.
    Late(Utf8Bytes),
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
    fn say(&self, text: Utf8Bytes) -> bool {
        let len = self.backlog.len.fetch_add(1, Ordering::Relaxed) + 1;
        let bytes = self.backlog.bytes.fetch_add(text.len(), Ordering::Relaxed) + text.len();
        if len > BACKLOG_LEN_MAX || bytes > BACKLOG_BYTES_MAX {
            self.backlog.overflown.notify_one();
            return false;
        }
        self.lines.send(Line::Text(text)).is_ok()
    }
}

#[derive(Default)]
struct State {
    rooms: Rooms,
    outlets: HashMap<SocketId, Outlet>,
    sources: HashMap<Source, usize>,
    sockets: usize,
    next_socket: u64,
    /// When the tending task wakes; `None`: there is no such task.
    wakes_at_ms: Option<u64>,
}

/// The rooms, and the sockets of those who are in them.
pub struct Hub {
    state: Mutex<State>,
    wake: Notify,
    seats: PerMinute<Source>,
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
            seats: PerMinute::new(SEATS_PER_MINUTE),
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

    /// Counts a seat that this source asks for; the error is how long until it may again.
    pub(super) fn admit(&self, source: Option<Source>) -> Result<(), Duration> {
        source.map_or(Ok(()), |source| self.seats.take(&source))
    }

    /// The same, unless the client has its seat already.
    pub(super) fn admit_as(&self, source: Option<Source>, room: &RoomId, client: &ClientId) -> Result<(), Duration> {
        let is_member = self.state.lock().rooms.is_member(room, client);
        if is_member { Ok(()) } else { self.admit(source) }
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
                    let text = heard(&text);
                    let is_taken = self.outlets.get(&socket).is_some_and(|outlet| match waited {
                        true => outlet.lines.send(Line::Late(text)).is_ok(),
                        false => outlet.say(text),
                    });
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
        let wait_ms = due_ms.saturating_sub(now_ms(&shared)).min(NAP_MS_MAX);
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(wait_ms)) => act(&shared, |_, _| ()),
            () = shared.signalling.wake.notified() => {}
        }
    }
}

fn now_ms(shared: &Shared) -> u64 {
    u64::try_from(shared.started.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// Whose limit this caller counts towards: this host and its trusted proxies have none.
pub fn limited(live: &Live, ip: Option<IpAddr>) -> Option<Source> {
    ip.filter(|ip| !ip.to_canonical().is_loopback() && !caller::is_trusted(live, *ip)).map(Source::of)
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
    /// Whose limits it counts towards.
    pub source: Option<Source>,
    /// What is asked of it.
    pub lines: mpsc::UnboundedReceiver<Line>,
    /// What waits for it.
    pub backlog: Arc<Backlog>,
}

impl Place {
    /// A place for one more socket from there.
    pub fn take(shared: &Arc<Shared>, ip: Option<IpAddr>) -> Result<Self, Problem> {
        let source = limited(&shared.live.load(), ip);
        let mut state = shared.signalling.state.lock();
        if state.sockets >= SOCKETS_MAX {
            let detail = "too many sockets are open; try again later";
            return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "too_many_sockets", detail));
        }
        if let Some(source) = source {
            let open = state.sources.entry(source).or_default();
            if *open >= SOCKETS_PER_SOURCE_MAX {
                let detail = "too many sockets are open from this address";
                return Err(Problem::new(StatusCode::TOO_MANY_REQUESTS, "too_many_sockets", detail));
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
                let _ = state.outlets.get(&self.id).is_some_and(|outlet| outlet.say(text));
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

#[cfg(test)]
mod tests {
    use super::*;

    fn outlet() -> (Outlet, mpsc::UnboundedReceiver<Line>) {
        let (lines, receiver) = mpsc::unbounded_channel();
        (Outlet { lines, backlog: Arc::default() }, receiver)
    }

    #[test]
    fn two_hundred_and_fifty_six_messages_wait_for_a_socket_and_one_more_ends_it() {
        let (outlet, mut lines) = outlet();
        for _ in 0..BACKLOG_LEN_MAX {
            assert!(outlet.say("x".into()));
        }
        let Ok(Line::Text(text)) = lines.try_recv() else { panic!("a message waits") };
        outlet.backlog.took(&text);
        assert!(outlet.say("x".into()), "what was taken makes room");
        assert!(!outlet.say("x".into()));
    }

    #[test]
    fn a_mebibyte_waits_for_a_socket_and_one_byte_more_ends_it() {
        let (outlet, _lines) = outlet();
        let half = "x".repeat(BACKLOG_BYTES_MAX / 2);
        assert!(outlet.say(half.as_str().into()) && outlet.say(half.as_str().into()));
        assert!(!outlet.say("x".into()));
    }

    #[test]
    fn a_message_has_both_keys_and_a_new_line() {
        assert_eq!(heard("a\"\n").as_str(), "{\"error\":\"\",\"msg\":\"a\\\"\\n\"}\n");
    }
}
