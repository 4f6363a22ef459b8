//! Sessions as the workers show them, page by page, and their rates.
//!
//! A picture of all sessions is taken once a second while someone looks on, and for one who asks;
//! however many ask at once, they see the same one. Taking it never makes a worker wait.

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
/// The shortest time between two pictures, however many ask.
const SPACING: Duration = Duration::from_millis(50);
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
        Rate { packets_per_s: per_s(before.packets, after.packets), bytes_per_s: per_s(before.bytes, after.bytes) }
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
    /// When the workers were asked.
    pub begun: Instant,
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
    /// A picture that was begun after it was asked for; `None` if there is none in time.
    pub async fn picture(&self) -> Option<Arc<Picture>> {
        let asked = Instant::now();
        *self.looked.lock() = Some(asked);
        let mut latest = self.latest.subscribe();
        self.wanted.notify_one();
        let is_fresh = |latest: &Option<Arc<Picture>>| latest.as_ref().is_some_and(|p| p.begun >= asked);
        let found = timeout(WAIT_MAX, latest.wait_for(is_fresh)).await;
        found.ok()?.ok()?.clone()
    }

    /// The latest picture, if pictures are taken now.
    pub fn latest(&self) -> Option<Arc<Picture>> {
        self.latest.borrow().clone().filter(|picture| picture.taken.elapsed() < 2 * PERIOD)
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

    /// Someone asked, and the last picture is long enough ago.
    async fn asked(&self) {
        self.wanted.notified().await;
        let last = self.latest.borrow().as_ref().map(|picture| picture.taken);
        if let Some(last) = last {
            tokio::time::sleep_until(last + SPACING).await;
        }
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
    let mut counted: Option<(Instant, [Volume; 2])> = None;
    let mut base: Option<Arc<Picture>> = None;
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            () = watch.asked() => tick.reset(),
        }
        let (now, total) = (Instant::now(), relayed(&shared.workers.stats));
        if counted.is_none_or(|(at, _)| now - at >= RATE_TIME_MIN) {
            *watch.rates.lock() = counted.map(|(at, before)| rates(before, total, now - at));
            counted = Some((now, total));
        }
        if watch.is_watched() {
            let last = watch.latest.borrow().clone();
            let picture = Arc::new(take_picture(&shared.workers, base.as_deref(), last.as_deref()).await);
            if base.as_ref().is_none_or(|base| picture.taken - base.taken >= RATE_TIME_MIN) {
                base = Some(picture.clone());
            }
            watch.latest.send_replace(Some(picture));
            super::events::tell_figures(&shared);
        }
    }
}

fn relayed(stats: &[Arc<WorkerStats>]) -> [Volume; 2] {
    [Direction::ToPeer, Direction::ToClient].map(|direction| Totals(stats).relayed(direction))
}

fn rates(before: [Volume; 2], after: [Volume; 2], time: Duration) -> Rates {
    Rates { to_peer: Rate::between(before[0], after[0], time), to_client: Rate::between(before[1], after[1], time) }
}

/// Rates are worked out from `base`; over too short a time they are those of the last picture.
async fn take_picture(workers: &bus::Workers, base: Option<&Picture>, last: Option<&Picture>) -> Picture {
    let begun = Instant::now();
    let (sessions, is_partial) = collect(workers).await;
    let taken = Instant::now();
    let base = base.filter(|base| taken - base.taken < BASE_AGE_MAX);
    let sessions = sessions.into_iter().map(|session| {
        let rates = match base {
            Some(base) if taken - base.taken >= RATE_TIME_MIN => session_rates(base, &session, taken),
            _ => last.and_then(|last| last.find(session.id)?.rates),
        };
        Seen { session, rates }
    });
    Picture { begun, taken, sessions: sessions.collect(), is_partial }
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
    let each = workers.mailboxes.iter().map(collect_worker);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::turn::allocation::{Account, Traffic};
    use crate::turn::{AllocationId, ClientAddr, FiveTuple, Transport};

    fn session(index: u32, age_ms: u64, to_peer_bytes: u64) -> Session {
        let client = ClientAddr(([192, 0, 2, 1], 4000).into());
        Session {
            id: SessionId { worker: 0, allocation: AllocationId { index, generation: 0 } },
            account: Account { username: (*b"alice").into(), payer: "alice".into() },
            tuple: FiveTuple { client, server: ([192, 0, 2, 9], 3478).into(), transport: Transport::Udp },
            relayed: [None, None],
            age_ms,
            left_ms: 600_000,
            permissions: 0,
            channels: 0,
            traffic: Traffic { to_peer_packets: to_peer_bytes / 100, to_peer_bytes, ..Traffic::default() },
        }
    }

    fn picture(taken: Instant, sessions: Vec<Session>) -> Picture {
        let sessions = sessions.into_iter().map(|session| Seen { session, rates: None }).collect();
        Picture { begun: taken, taken, sessions, is_partial: false }
    }

    #[tokio::test]
    async fn rates_come_from_two_pictures() {
        let taken = Instant::now();
        let before = picture(taken, vec![session(1, 5_000, 1_000), session(4, 5_000, 9_000)]);
        let later = taken + Duration::from_secs(2);
        let to_peer = |session: &Session| session_rates(&before, session, later).map(|rates| rates.to_peer);
        let grown = Rate { packets_per_s: 20.0, bytes_per_s: 2_000.0 };
        assert_eq!(to_peer(&session(1, 7_000, 5_000)), Some(grown));
        assert_eq!(to_peer(&session(4, 7_000, 9_000)), Some(Rate::default()));
        assert_eq!(to_peer(&session(2, 1_500, 4_000)), Some(grown), "one that began since began at 0");
        assert_eq!(to_peer(&session(2, 7_000, 4_000)), None, "one that was overlooked is not that fast");
    }

    #[tokio::test]
    async fn the_fastest_come_first() {
        let mut picture = picture(Instant::now(), (0..5).map(|index| session(index, 0, 0)).collect());
        for (seen, bytes_per_s) in picture.sessions.iter_mut().zip([5.0, 70.0, 5.0, 900.0]) {
            let to_client = Rate { packets_per_s: 1.0, bytes_per_s };
            seen.rates = Some(Rates { to_peer: Rate::default(), to_client });
        }
        let order =
            |count| picture.fastest(count).iter().map(|seen| seen.session.id.allocation.index).collect::<Vec<_>>();
        assert_eq!(order(9), [3, 1, 0, 2, 4]);
        assert_eq!(order(2), [3, 1]);
    }

    /// A worker that shows pages of one session, so many of them, and ends when asked for another.
    fn worker(pages: u32, shown: u32) -> Mailbox {
        let poll = mio::Poll::new().expect("a poll");
        let waker = mio::Waker::new(poll.registry(), mio::Token(0)).expect("a waker");
        let (mailbox, commands) = Mailbox::new(Arc::new(waker));
        std::thread::spawn(move || {
            for (_, command) in (0..shown).zip(commands.iter()) {
                let Command::Sessions { from, reply } = command else { panic!("pages are asked for") };
                let next = (from + 1 < pages).then_some(from + 1);
                reply.give(SessionPage { sessions: vec![session(from, 0, 0)], next });
            }
            drop(commands.recv());
        });
        mailbox
    }

    #[tokio::test]
    async fn a_picture_lacks_what_a_worker_did_not_show() {
        for (shown, count, is_partial) in [(3, 5, false), (2, 4, true), (0, 2, true)] {
            let mailboxes = vec![worker(3, shown), worker(2, 2)];
            let (notices, stats, listening) = (bus::notices().1, Vec::new(), Vec::new());
            let (sessions, partial) = collect(&bus::Workers { mailboxes, stats, notices, listening }).await;
            assert_eq!((sessions.len(), partial), (count, is_partial), "{shown} pages of 3");
            assert!(sessions.is_sorted_by_key(|session| session.id));
        }
    }
}
