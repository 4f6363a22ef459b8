//! Connections that have no allocation yet: how many there may be, of one source and in all.
//!
//! A source is counted over all workers, because the kernel spreads its connections over them.
//! Where there are too many the oldest makes room, of the source or of all: whoever means to
//! allocate has done so long before, and nobody can keep those out who share an address with him.

use crate::stats::CloseReason;
use crate::turn::quota::{Bucket, Unverified, source_prefix};
use foldhash::fast::RandomState;
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

/// Connections of one worker that have not shown what they speak or finished their handshake.
pub(super) const UNREADY_MAX: usize = 200;
/// Those of one source (/32, /56), over all workers.
const UNREADY_PER_SOURCE_MAX: u32 = 20;
/// Connections of one source without an allocation, ready or not, over all workers.
const GUESTS_PER_SOURCE_MAX: u32 = 200;
/// Those of all sources that are ready, shared evenly by the workers, where there are files enough;
/// else a quarter of the files, if that is not below the minimum.
const GUESTS_MAX: usize = 4_096;
const GUESTS_MAX_LEAST: usize = 256;
/// TLS handshakes that one worker begins in a second whoever asks, and again as many, of which
/// each source only gets [`HANDSHAKES_PER_SOURCE`].
const HANDSHAKES_PER_SECOND: u64 = 1_000;
/// TLS handshakes of one source in a second, once the first half is used up.
const HANDSHAKES_PER_SOURCE: u32 = 50;

/// How many guests each of so many workers has room for; `files` is what the process may have open.
pub(super) fn guests_max(files: u64, workers: usize) -> usize {
    let share = usize::try_from(files / 4).unwrap_or(GUESTS_MAX);
    share.clamp(GUESTS_MAX_LEAST, GUESTS_MAX).div_ceil(workers.max(1))
}

#[derive(Clone, Copy, Debug, Default)]
struct Held {
    unready: u32,
    guests: u32,
}

/// What all workers' lobbies hold together, by [`source_prefix`].
#[derive(Debug, Default)]
pub(super) struct Sources(Mutex<HashMap<u128, Held, RandomState>>);

impl Sources {
    fn admit(&self, source: u128) -> Result<(), CloseReason> {
        let mut by_source = self.0.lock();
        let held = by_source.entry(source).or_default();
        // An entry that was made now is below both limits.
        if held.unready >= UNREADY_PER_SOURCE_MAX {
            return Err(CloseReason::UnreadySource);
        }
        if held.guests >= GUESTS_PER_SOURCE_MAX {
            return Err(CloseReason::GuestsSource);
        }
        (held.unready, held.guests) = (held.unready + 1, held.guests + 1);
        Ok(())
    }

    fn count(&self, source: u128, unready: i32, guests: i32) {
        let mut by_source = self.0.lock();
        let held = by_source.entry(source).or_default();
        debug_assert!(held.unready.checked_add_signed(unready).is_some(), "nobody leaves twice");
        held.unready = held.unready.saturating_add_signed(unready);
        held.guests = held.guests.saturating_add_signed(guests);
        if held.guests == 0 {
            by_source.remove(&source);
        }
    }
}

/// How far a connection has come.
///
/// ```text
/// Unready --speaks, or has its keys--> Guest --allocates--> Resident
///                                        ^---allocation ends---'
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It is not known what it speaks, or its handshake is not done.
    Unready,
    /// It has no allocation.
    Guest,
    /// It has an allocation, or had one when it was last looked at.
    Resident,
}

/// Whose connection is counted, and since when in relation to others.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    number: u64,
    source: u128,
    pub standing: Standing,
}

impl Place {
    fn seat(&self, index: u32) -> Seat {
        Seat { index, source: self.source }
    }
}

/// Where a connection without an allocation is found.
#[derive(Clone, Copy, Debug)]
struct Seat {
    index: u32,
    source: u128,
}

/// One worker's connections without an allocation, oldest first.
#[derive(Debug)]
pub(super) struct Lobby {
    sources: Arc<Sources>,
    /// By order of arrival.
    unready: BTreeMap<u64, Seat>,
    guests: BTreeMap<u64, Seat>,
    guests_max: usize,
    next: u64,
    handshakes: [Bucket; 2],
    /// Made when the first half was used up for the first time; of a fixed size.
    crowd: Option<Unverified>,
}

impl Lobby {
    /// An empty one with room for so many guests.
    pub fn new(sources: Arc<Sources>, guests_max: usize) -> Self {
        Lobby {
            sources,
            unready: BTreeMap::new(),
            guests: BTreeMap::new(),
            guests_max,
            next: 0,
            handshakes: Default::default(),
            crowd: None,
        }
    }

    /// Takes in a connection, or says which limit of its source is reached.
    pub fn admit(&mut self, source: IpAddr) -> Result<Place, CloseReason> {
        let source = source_prefix(source);
        self.sources.admit(source)?;
        self.next += 1;
        Ok(Place { number: self.next, source, standing: Standing::Unready })
    }

    /// The index of the source's oldest connection here that counts toward the limit it has
    /// reached.
    pub fn oldest_of(&self, source: IpAddr, reached: CloseReason) -> Option<u32> {
        let source = source_prefix(source);
        let oldest =
            |line: &BTreeMap<u64, Seat>| line.values().find(|seat| seat.source == source).map(|seat| seat.index);
        match reached {
            CloseReason::UnreadySource => oldest(&self.unready),
            _ => oldest(&self.guests).or_else(|| oldest(&self.unready)),
        }
    }

    /// Remembers the index of a connection that was taken in.
    pub fn seat(&mut self, place: &Place, index: u32) {
        self.unready.insert(place.number, place.seat(index));
    }

    /// A connection has come further, or fallen back to be a guest.
    pub fn advance(&mut self, place: &mut Place, to: Standing, index: u32) {
        let from = std::mem::replace(&mut place.standing, to);
        match (from, to) {
            (Standing::Unready, Standing::Guest) => {
                self.unready.remove(&place.number);
                self.guests.insert(place.number, place.seat(index));
                self.sources.count(place.source, -1, 0);
            }
            (Standing::Guest, Standing::Resident) => {
                self.guests.remove(&place.number);
                self.sources.count(place.source, 0, -1);
            }
            (Standing::Resident, Standing::Guest) => {
                // It was let in once and is not refused now.
                self.guests.insert(place.number, place.seat(index));
                self.sources.count(place.source, 0, 1);
            }
            _ => debug_assert!(from == to, "one step at a time"),
        }
    }

    /// A connection is gone.
    pub fn leave(&mut self, place: &Place) {
        match place.standing {
            Standing::Unready => {
                self.unready.remove(&place.number);
                self.sources.count(place.source, -1, -1);
            }
            Standing::Guest => {
                self.guests.remove(&place.number);
                self.sources.count(place.source, 0, -1);
            }
            Standing::Resident => {}
        }
    }

    /// The index of the connection that has to make room, if there are too many.
    pub fn surplus(&self) -> Option<u32> {
        let lines = [(&self.unready, UNREADY_MAX), (&self.guests, self.guests_max)];
        let (line, _) = lines.into_iter().find(|(line, max)| line.len() > *max)?;
        line.first_key_value().map(|(_, seat)| seat.index)
    }

    /// Whether a TLS handshake may begin. A source that begins many leaves half of them to others.
    pub fn admit_handshake(&mut self, now_ms: u64, source: IpAddr) -> bool {
        let rate = HANDSHAKES_PER_SECOND;
        let [first, rest] = &mut self.handshakes;
        if first.take(now_ms, rate, rate, 1) {
            return true;
        }
        // The seed need not be hidden: two sources in one slot put each other's count back.
        let crowd = self.crowd.get_or_insert_with(|| Unverified::new(self.next));
        crowd.admit(now_ms, source, HANDSHAKES_PER_SOURCE) && rest.take(now_ms, rate, rate, 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(n: u32) -> IpAddr {
        IpAddr::from((0x0A00_0000 + n).to_be_bytes())
    }

    fn seated(lobby: &mut Lobby, source: IpAddr, index: u32) -> Place {
        let place = lobby.admit(source).unwrap();
        lobby.seat(&place, index);
        place
    }

    #[test]
    fn one_source_has_twenty_unready_connections_over_all_workers() {
        let sources = Arc::new(Sources::default());
        let mut workers = [0, 1].map(|_| Lobby::new(sources.clone(), 1_000));
        let mut places: Vec<Place> = (0..20).map(|n| seated(&mut workers[n % 2], ip(1), n as u32)).collect();
        for (first, lobby) in workers.iter_mut().enumerate() {
            assert_eq!(lobby.admit(ip(1)).map(drop), Err(CloseReason::UnreadySource));
            assert_eq!(lobby.oldest_of(ip(1), CloseReason::UnreadySource), Some(first as u32), "its own here");
            assert_eq!(lobby.oldest_of(ip(2), CloseReason::UnreadySource), None);
        }
        let neighbour = seated(&mut workers[0], ip(2), 99);
        workers[1].advance(&mut places[1], Standing::Guest, 1);
        let again = seated(&mut workers[0], ip(1), 100);
        for (n, place) in places.iter().enumerate() {
            workers[n % 2].leave(place);
        }
        workers[0].leave(&neighbour);
        workers[0].leave(&again);
        assert!(sources.0.lock().is_empty());
    }

    #[test]
    fn one_source_has_two_hundred_connections_without_an_allocation() {
        let mut lobby = Lobby::new(Arc::default(), 4_096);
        let mut places: Vec<Place> = Vec::new();
        for index in 0..200 {
            let mut place = seated(&mut lobby, ip(1), index);
            lobby.advance(&mut place, Standing::Guest, index);
            places.push(place);
        }
        assert_eq!(lobby.admit(ip(1)).map(drop), Err(CloseReason::GuestsSource));
        assert_eq!(lobby.oldest_of(ip(1), CloseReason::GuestsSource), Some(0));
        lobby.admit(ip(2)).unwrap();
        lobby.advance(&mut places[7], Standing::Resident, 7);
        lobby.admit(ip(1)).unwrap();
        assert_eq!(lobby.admit(ip(1)).map(drop), Err(CloseReason::GuestsSource));
        lobby.advance(&mut places[7], Standing::Guest, 7);
        lobby.leave(&places[7]);
        lobby.leave(&places[8]);
        lobby.admit(ip(1)).unwrap();
    }

    #[test]
    fn of_too_many_unready_connections_the_oldest_makes_room() {
        let mut lobby = Lobby::new(Arc::default(), 4_096);
        let mut places: Vec<Place> =
            (0..UNREADY_MAX as u32).map(|index| seated(&mut lobby, ip(index), index)).collect();
        assert_eq!(lobby.surplus(), None);
        places.push(seated(&mut lobby, ip(1_000), 1_000));
        assert_eq!(lobby.surplus(), Some(0));
        lobby.advance(&mut places[0], Standing::Guest, 0);
        assert_eq!(lobby.surplus(), None);
        places.push(seated(&mut lobby, ip(1_001), 1_001));
        assert_eq!(lobby.surplus(), Some(1));
        lobby.leave(&places[1]);
        assert_eq!(lobby.surplus(), None);
    }

    #[test]
    fn of_too_many_guests_the_oldest_makes_room_and_neither_residents_nor_the_unready_count() {
        let mut lobby = Lobby::new(Arc::default(), 300);
        let mut unready: Vec<Place> = (1_000..1_150).map(|index| seated(&mut lobby, ip(index), index)).collect();
        let mut places = Vec::new();
        for index in 0..=300 {
            assert_eq!(lobby.surplus(), None);
            let mut place = seated(&mut lobby, ip(index), index);
            lobby.advance(&mut place, Standing::Guest, index);
            places.push(place);
        }
        assert_eq!(lobby.surplus(), Some(0));
        lobby.advance(&mut places[5], Standing::Resident, 5);
        assert_eq!(lobby.surplus(), None);
        lobby.advance(&mut places[5], Standing::Guest, 5);
        lobby.leave(&places[0]);
        assert_eq!(lobby.surplus(), None);
        lobby.advance(&mut unready[0], Standing::Guest, 1_000);
        assert_eq!(lobby.surplus(), Some(1_000));
    }

    #[test]
    fn guests_are_as_many_as_the_files_allow_and_each_worker_has_its_share() {
        for (files, workers, each) in
            [(60, 1, 256), (1_200, 1, 300), (20_000, 1, 4_096), (1_024, 4, 64), (20_000, 3, 1_366)]
        {
            assert_eq!(guests_max(files, workers), each, "{files} files, {workers} workers");
        }
    }

    #[test]
    fn a_source_that_begins_many_handshakes_leaves_half_to_others() {
        let mut lobby = Lobby::new(Arc::default(), 4_096);
        let mut begun =
            |now_ms, source, tries: u32| (0..tries).filter(|_| lobby.admit_handshake(now_ms, source)).count();
        // A burst is four seconds' worth of a source's rate.
        assert_eq!(begun(0, ip(1), 5_000), 1_000 + 200);
        assert_eq!(begun(0, ip(2), 5_000), 200);
        let others: usize = (3..100).map(|n| begun(0, ip(n), 50)).sum();
        assert_eq!(others, 600, "all together, twice the half");
        assert_eq!(begun(1_000, ip(1), 5_000), 1_000 + 50);
    }
}
