//! The connections of one part of the plane: how many there may be, and which one makes room.
//!
//! At a limit the connection that was idle longest is closed, so that one who only holds
//! connections open never keeps others out.

use super::caller::Source;
use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::task::Waker;
use std::time::Instant;
use tokio::task::AbortHandle;

/// How many connections there may be.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Of all.
    pub total: usize,
    /// Of one source (/32, /56) that is neither loopback nor a trusted proxy.
    pub per_source: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { total: 4096, per_source: 64 }
    }
}

/// The connections of one part.
pub struct Connections {
    limits: Limits,
    seated: Mutex<Seated>,
}

#[derive(Default)]
struct Seated {
    next: u64,
    seats: HashMap<u64, Arc<Occupant>>,
}

/// One connection, as the others see it.
struct Occupant {
    source: Option<Source>,
    state: Mutex<Use>,
    /// Its task, which ends it.
    task: OnceLock<AbortHandle>,
    /// Who waits for the request under way to end.
    waiting: AtomicWaker,
}

/// What a connection is used for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    /// No request is under way since then.
    Idle(Instant),
    /// One is.
    Request,
    /// It was upgraded: it is another protocol's, which has its own limits.
    Upgraded,
}

/// A connection's place; given back when dropped.
pub struct Seat {
    connections: Arc<Connections>,
    number: u64,
    occupant: Arc<Occupant>,
}

impl Connections {
    /// None yet.
    pub fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Connections { limits, seated: Mutex::default() })
    }

    /// How many there are.
    #[cfg(test)]
    fn len(&self) -> usize {
        self.seated.lock().seats.len()
    }

    /// On how many a request is under way.
    pub fn requests(&self) -> usize {
        let seated = self.seated.lock();
        seated.seats.values().filter(|occupant| *occupant.state.lock() == Use::Request).count()
    }

    /// A place for a connection of `source` (`None`: one that its source does not limit).
    /// `None` when all that could make room are busy.
    pub fn admit(self: &Arc<Self>, source: Option<Source>, now: Instant) -> Option<Seat> {
        let mut seated = self.seated.lock();
        let of_source = |occupant: &Occupant| source.is_some() && occupant.source == source;
        let from_source = seated.seats.values().filter(|occupant| of_source(occupant)).count();
        if from_source >= self.limits.per_source && !seated.close_oldest(of_source) {
            return None;
        }
        if seated.seats.len() >= self.limits.total && !seated.close_oldest(|_| true) {
            return None;
        }
        let number = seated.next;
        seated.next += 1;
        let occupant = Arc::new(Occupant {
            source,
            state: Mutex::new(Use::Idle(now)),
            task: OnceLock::new(),
            waiting: AtomicWaker::new(),
        });
        seated.seats.insert(number, occupant.clone());
        Some(Seat { connections: self.clone(), number, occupant })
    }

    /// Closes the connection that was idle longest; false when none is idle.
    pub fn close_oldest(&self) -> bool {
        self.seated.lock().close_oldest(|_| true)
    }
}

impl Occupant {
    fn idle_since(&self) -> Option<Instant> {
        match *self.state.lock() {
            Use::Idle(since) => Some(since),
            Use::Request | Use::Upgraded => None,
        }
    }
}

impl Seated {
    fn close_oldest(&mut self, may_go: impl Fn(&Occupant) -> bool) -> bool {
        let idle = self.seats.iter().filter(|(_, occupant)| may_go(occupant) && occupant.task.get().is_some());
        let idle = idle.filter_map(|(number, occupant)| Some((occupant.idle_since()?, *number)));
        let Some((_, oldest)) = idle.min() else { return false };
        // Its place is free at once; its socket when its task is next looked at.
        if let Some(occupant) = self.seats.remove(&oldest)
            && let Some(task) = occupant.task.get()
        {
            task.abort();
        }
        true
    }
}

impl Seat {
    /// Says which task ends the connection.
    pub fn served_by(&self) -> impl FnOnce(AbortHandle) + use<> {
        let occupant = self.occupant.clone();
        move |task| {
            // Set once, right after the task was made.
            let _ = occupant.task.set(task);
        }
    }

    /// How requests on this connection are told.
    pub fn bell(&self) -> Bell {
        Bell(self.occupant.clone())
    }

    /// Since when the connection is idle, if it is.
    pub fn idle_since(&self) -> Option<Instant> {
        self.occupant.idle_since()
    }

    /// Whether the connection is another protocol's.
    pub fn is_upgraded(&self) -> bool {
        *self.occupant.state.lock() == Use::Upgraded
    }

    /// Wakes when the request under way has ended.
    pub fn wake_when_idle(&self, waker: &Waker) {
        self.occupant.waiting.register(waker);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.connections.seated.lock().seats.remove(&self.number);
    }
}

/// Tells a connection's place what happens on it.
#[derive(Clone)]
pub struct Bell(Arc<Occupant>);

impl Bell {
    /// A request is under way until the result is dropped.
    pub fn busy(&self) -> Busy {
        *self.0.state.lock() = Use::Request;
        Busy(Some(self.0.clone()))
    }
}

/// A request is under way.
pub struct Busy(Option<Arc<Occupant>>);

impl Busy {
    /// The connection is another protocol's from now on.
    pub fn upgraded(mut self) {
        if let Some(occupant) = self.0.take() {
            *occupant.state.lock() = Use::Upgraded;
        }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        if let Some(occupant) = self.0.take() {
            *occupant.state.lock() = Use::Idle(Instant::now());
            occupant.waiting.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    /// A runtime whose tasks wait for ever.
    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().build().unwrap()
    }

    fn sit(connections: &Arc<Connections>, source: Option<Source>, now: Instant) -> Option<Seat> {
        let seat = connections.admit(source, now)?;
        seat.served_by()(tokio::spawn(std::future::pending::<()>()).abort_handle());
        Some(seat)
    }

    fn is_open(seat: &Seat) -> bool {
        seat.connections.seated.lock().seats.contains_key(&seat.number)
    }

    #[test]
    fn the_oldest_idle_makes_room_and_the_busy_stay() {
        let runtime = runtime();
        let _inside = runtime.enter();
        let connections = Connections::new(Limits { total: 3, per_source: 9 });
        let start = Instant::now();
        let seats: Vec<Seat> =
            (0..3).map(|age| sit(&connections, None, start + Duration::from_secs(age)).unwrap()).collect();
        let busy = seats[0].bell().busy();
        let fourth = sit(&connections, None, start + Duration::from_secs(9)).unwrap();
        assert_eq!(connections.len(), 3);
        assert_eq!(seats.iter().map(is_open).collect::<Vec<_>>(), [true, false, true]);
        assert_eq!(connections.requests(), 1);
        drop(busy);
        assert_eq!(connections.requests(), 0);
        assert!(seats[0].idle_since().is_some());
        seats[2].bell().busy().upgraded();
        seats[0].bell().busy().upgraded();
        fourth.bell().busy().upgraded();
        assert!(connections.admit(None, start).is_none(), "nobody can make room");
        drop(seats);
        assert_eq!(connections.len(), 1);
    }

    #[test]
    fn a_source_has_so_many_and_the_next_costs_its_own_oldest() {
        let runtime = runtime();
        let _inside = runtime.enter();
        let connections = Connections::new(Limits { total: 9, per_source: 2 });
        let source = |last| Some(Source::of(std::net::Ipv4Addr::new(192, 0, 2, last).into()));
        let start = Instant::now();
        let other = sit(&connections, source(2), start).unwrap();
        let first = sit(&connections, source(1), start + Duration::from_secs(1)).unwrap();
        let second = sit(&connections, source(1), start + Duration::from_secs(2)).unwrap();
        let third = sit(&connections, source(1), start + Duration::from_secs(3)).unwrap();
        assert_eq!([&other, &first, &second, &third].map(is_open), [true, false, true, true]);
        assert!((0..6).all(|_| sit(&connections, None, start).is_some()), "those without a source have no such limit");
    }
}
