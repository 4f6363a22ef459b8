//! Sessions as the workers show them, page by page, and their rates.
//!
//! A picture of all sessions is taken at most once a second, and only while someone looks;
//! however many look, they see the same one. Taking it never makes a worker wait.

use super::Shared;
use super::events::Audience;
use super::notices::Told;
use super::totals::{Totals, Volume};
use crate::bus::{self, Command, Mailbox, Reply, Session, SessionId, SessionPage};
use crate::stats::{Direction, WorkerStats};
use parking_lot::Mutex;
use std::cmp::Reverse;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;
use tokio::sync::{Notify, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior, timeout};

/// How often rates are worked out, and pictures taken while someone looks.
pub const PERIOD: Duration = Duration::from_secs(1);
/// How long one who asked for a picture counts as looking.
const LOOKS_FOR: Duration = Duration::from_secs(10);
/// The oldest picture that is shown to one who asks.
const AGE_MAX: Duration = Duration::from_millis(1_500);
/// The oldest picture that rates are worked out from.
const BASE_AGE_MAX: Duration = Duration::from_secs(15);
/// The shortest time that rates are worked out over.
const RATE_TIME_MIN: Duration = Duration::from_millis(500);
/// How long one worker may take to show all its sessions; what it showed by then is what counts.
const PICTURE_PATIENCE: Duration = Duration::from_secs(2);
/// How long a picture is waited for.
const WAIT_MAX: Duration = Duration::from_secs(4);

/// Packets and bytes a second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rate {
    /// Packets a second.
    pub packets_per_s: f64,
    /// Bytes a second.
    pub bytes_per_s: f64,
}

impl Rate {
    /// From two volumes and the time between them.
    fn between(before: Volume, after: Volume, time: Duration) -> Self {
        let per_s = |before: u64, after: u64| after.saturating_sub(before) as f64 / time.as_secs_f64().max(0.001);
        Rate {
            packets_per_s: per_s(before.packets, after.packets),
            bytes_per_s: per_s(before.bytes, after.bytes),
        }
    }
}

/// Rates toward peers and toward clients.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rates {
    /// To peers.
    pub to_peer: Rate,
    /// To clients.
    pub to_client: Rate,
}

impl Rates {
    /// Bytes a second, both ways.
    pub fn bytes_per_s(&self) -> f64 {
        self.to_peer.bytes_per_s + self.to_client.bytes_per_s
    }
}

/// A session, and how fast it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    /// As its worker saw it.
    pub session: Session,
    /// `None` until it was seen twice.
    pub rates: Option<Rates>,
}

impl Seen {
    /// What it has carried: to peers, to the client.
    pub fn volumes(&self) -> [Volume; 2] {
        volumes(&self.session)
    }
}

fn volumes(session: &Session) -> [Volume; 2] {
    let traffic = session.traffic;
    [
        Volume { packets: traffic.to_peer_packets, bytes: traffic.to_peer_bytes },
        Volume { packets: traffic.to_client_packets, bytes: traffic.to_client_bytes },
    ]
}

/// All sessions at one moment.
#[derive(Clone, Debug)]
pub struct Picture {
    /// When it was complete.
    pub taken: Instant,
    /// The sessions, by name.
    pub sessions: Vec<Seen>,
    /// Whether a worker did not show all of its own in time.
    pub is_partial: bool,
}

impl Picture {
    /// The fastest sessions, so many of them.
    pub fn fastest(&self, count: usize) -> Vec<&Seen> {
        let mut sessions: Vec<&Seen> = self.sessions.iter().collect();
        // Whole bytes: an order that is total. Equal ones stay in the order of their names.
        sessions.sort_by_key(|seen| Reverse(seen.rates.map_or(0, |rates| rates.bytes_per_s() as u64)));
        sessions.truncate(count);
        sessions
    }

    /// The session of a name.
    pub fn find(&self, id: SessionId) -> Option<&Seen> {
        let at = self.sessions.binary_search_by_key(&id, |seen| seen.session.id).ok()?;
        self.sessions.get(at)
    }
}

/// What was seen of the sessions lately, and those who look on.
#[derive(Default)]
pub struct Watch {
    is_tended: AtomicBool,
    latest: watch::Sender<Option<Arc<Picture>>>,
    looked: Mutex<Option<Instant>>,
    wanted: Notify,
    rates: Mutex<Option<Rates>>,
    /// Those who follow the events.
    pub audience: Audience,
    /// The last notices.
    pub notices: Mutex<VecDeque<Arc<Told>>>,
    /// The last check whether the workers answer.
    pub health: super::health::Health,
}

impl Watch {
    /// A picture that is not older than [`AGE_MAX`]; `None` if there is none in time.
    pub async fn picture(&self) -> Option<Arc<Picture>> {
        *self.looked.lock() = Some(Instant::now());
        let mut latest = self.latest.subscribe();
        self.wanted.notify_one();
        let is_fresh = |latest: &Option<Arc<Picture>>| latest.as_ref().is_some_and(|p| p.taken.elapsed() < AGE_MAX);
        let found = timeout(WAIT_MAX, latest.wait_for(is_fresh)).await;
        found.ok()?.ok()?.clone()
    }

    /// The latest picture there is.
    pub fn latest(&self) -> Option<Arc<Picture>> {
        self.latest.borrow().clone()
    }

    /// Has a picture taken soon, for one who begins to look on.
    pub fn hurry(&self) {
        self.wanted.notify_one();
    }

    /// Rates over all sessions; `None` in the first second.
    pub fn rates(&self) -> Option<Rates> {
        *self.rates.lock()
    }

    fn is_watched(&self) -> bool {
        !self.audience.is_empty() || self.looked.lock().is_some_and(|at| at.elapsed() < LOOKS_FOR)
    }

    fn is_stale(&self) -> bool {
        self.latest.borrow().as_ref().is_none_or(|picture| picture.taken.elapsed() >= PERIOD)
    }
}

/// Begins to watch the workers, in tasks of this runtime; a second call does nothing.
pub fn start(shared: &Arc<Shared>) {
    if !shared.watch.is_tended.swap(true, Relaxed) {
        tokio::spawn(tend(shared.clone()));
        tokio::spawn(super::notices::tend(shared.clone()));
    }
}

async fn tend(shared: Arc<Shared>) {
    let watch = &shared.watch;
    let mut tick = tokio::time::interval(PERIOD);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut before: Option<(Instant, [Volume; 2])> = None;
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            _ = watch.wanted.notified(), if watch.is_stale() => tick.reset(),
        }
        let (now, total) = (Instant::now(), relayed(&shared.workers.stats));
        if before.is_none_or(|(at, _)| now - at >= RATE_TIME_MIN) {
            *watch.rates.lock() = before.map(|(at, before)| rates(before, total, now - at));
            before = Some((now, total));
        }
        if watch.is_watched() {
            let picture = take_picture(&shared.workers, watch.latest()).await;
            watch.latest.send_replace(Some(Arc::new(picture)));
            super::events::tell_figures(&shared);
        }
    }
}

fn relayed(stats: &[Arc<WorkerStats>]) -> [Volume; 2] {
    [Direction::ToPeer, Direction::ToClient].map(|direction| Totals(stats).relayed(direction))
}

fn rates(before: [Volume; 2], after: [Volume; 2], time: Duration) -> Rates {
    Rates {
        to_peer: Rate::between(before[0], after[0], time),
        to_client: Rate::between(before[1], after[1], time),
    }
}

async fn take_picture(workers: &bus::Workers, before: Option<Arc<Picture>>) -> Picture {
    let (sessions, is_partial) = collect(workers).await;
    let taken = Instant::now();
    let before = before.filter(|before| taken - before.taken < BASE_AGE_MAX);
    let sessions = sessions.into_iter().map(|session| {
        let rates = before.as_deref().and_then(|before| session_rates(before, &session, taken));
        Seen { session, rates }
    });
    Picture { taken, sessions: sessions.collect(), is_partial }
}

fn session_rates(before: &Picture, session: &Session, taken: Instant) -> Option<Rates> {
    let time = taken - before.taken;
    let seen = before.find(session.id).map(Seen::volumes);
    // One that was not there began since.
    let is_new = u128::from(session.age_ms) <= time.as_millis();
    Some(rates(seen.or(is_new.then(Default::default))?, volumes(session), time))
}

/// All sessions now, by name, and whether some are missing: a worker did not answer in time.
pub async fn collect(workers: &bus::Workers) -> (Vec<Session>, bool) {
    let each = workers.mailboxes.iter().map(|mailbox| collect_worker(mailbox));
    let mut all = Vec::new();
    let mut is_partial = false;
    for (sessions, complete) in futures_util::future::join_all(each).await {
        all.extend(sessions);
        is_partial |= !complete;
    }
    all.sort_unstable_by_key(|session| session.id);
    (all, is_partial)
}

async fn collect_worker(mailbox: &Mailbox) -> (Vec<Session>, bool) {
    let mut sessions = Vec::new();
    let end = Instant::now() + PICTURE_PATIENCE;
    let mut from = Some(0);
    while let Some(slot) = from {
        let page = ask(mailbox, |reply| Command::Sessions { from: slot, reply });
        let Ok(Ok(SessionPage { sessions: page, next })) = tokio::time::timeout_at(end, page).await else {
            return (sessions, false);
        };
        sessions.extend(page);
        from = next;
    }
    (sessions, true)
}

/// Asks a worker and waits for its answer. The caller bounds the wait.
pub async fn ask<T: Send + 'static>(
    mailbox: &Mailbox,
    command: impl FnOnce(Reply<T>) -> Command,
) -> Result<T, bus::Unreachable> {
    let (give, take) = oneshot::channel();
    let reply = Reply::new(move |answer| {
        // Nobody waits any more when the receiver is gone.
        let _ = give.send(answer);
    });
    mailbox.send(command(reply))?;
    take.await.map_err(|_| bus::Unreachable)
}
