//! Flows over the server's rate, by a clock of their own: who gets what, and that nobody gets more.

use super::*;

const RATE: u64 = 1_000_000;
const TO_PEER: Direction = Direction::ToPeer;

fn id(index: u32) -> AllocationId {
    AllocationId { index, generation: 0 }
}

/// Packets of one size that an allocation offers, and how many were let go.
#[derive(Clone)]
struct Stream {
    bytes: u64,
    per_second: u64,
    /// How many at once.
    burst: u64,
    due: u64,
    offered: u64,
    got: u64,
}

impl Stream {
    fn of(bytes: u64, per_second: u64) -> Stream {
        Stream { bytes, per_second, burst: 1, due: 0, offered: 0, got: 0 }
    }

    fn lost(&self) -> u64 {
        self.offered - self.got
    }
}

/// An allocation on a worker.
struct Flow {
    worker: usize,
    id: AllocationId,
    streams: Vec<Stream>,
}

impl Flow {
    fn got(&self) -> u64 {
        self.streams.iter().map(|stream| stream.got * stream.bytes).sum()
    }
}

struct World {
    workers: Vec<RateShare>,
    flows: Vec<Flow>,
    now_ms: u64,
    /// How far each worker's clock is behind that of the one before it: each reads it once a round.
    late_ms: u64,
}

impl World {
    fn of(workers: usize) -> World {
        let total = TotalRate::new(RATE);
        let workers = (0..workers).map(|_| RateShare::new(total.clone())).collect();
        World { workers, flows: Vec::new(), now_ms: 0, late_ms: 0 }
    }

    fn add(&mut self, worker: usize, streams: &[Stream]) -> usize {
        let id = id(self.flows.len() as u32);
        self.flows.push(Flow { worker, id, streams: streams.to_vec() });
        self.flows.len() - 1
    }

    /// A call of 50 kbit/s: audio, and video whose frames are three packets at once.
    fn add_calls(&mut self, count: usize) {
        for number in 0..count {
            let worker = number % self.workers.len();
            self.add(worker, &[Stream::of(60, 50), Stream { burst: 3, ..Stream::of(1_083, 3) }]);
        }
    }

    /// Somebody who offers so many percent of the rate.
    fn add_hog(&mut self, worker: usize, percent: u64) -> usize {
        self.add(worker, &[Stream::of(1_200, RATE * percent / 100 / 1_200)])
    }

    /// Lets a time pass. What the clock's first millisecond finds is in the order of the flows, so that the first
    /// one always has the best of it.
    fn run_s(&mut self, seconds: u64) {
        let before = self.got();
        let began_ms = self.now_ms;
        while self.now_ms < began_ms + seconds * 1_000 {
            self.now_ms += 1;
            for flow in &mut self.flows {
                for stream in &mut flow.streams {
                    stream.due += stream.per_second;
                    while stream.due >= 1_000 * stream.burst {
                        stream.due -= 1_000 * stream.burst;
                        for _ in 0..stream.burst {
                            let worker = &mut self.workers[flow.worker];
                            stream.offered += 1;
                            let now_ms = self.now_ms.saturating_sub(self.late_ms * flow.worker as u64);
                            let goes = worker.take(now_ms, TO_PEER, flow.id, stream.bytes as usize);
                            stream.got += u64::from(goes);
                        }
                    }
                }
            }
            let most = burst(RATE) + RATE * (self.now_ms - began_ms) / 1_000;
            assert!(self.got() - before <= most, "more than the rate and its burst");
        }
    }

    fn got(&self) -> u64 {
        self.flows.iter().map(Flow::got).sum()
    }

    fn calls(&self) -> impl Iterator<Item = &Flow> {
        self.flows.iter().filter(|flow| flow.streams.len() == 2)
    }

    /// Packets of audio and of video that calls have offered and lost.
    fn calls_lost(&self) -> [(u64, u64); 2] {
        [0, 1].map(|at| {
            let streams = || self.calls().map(|flow| &flow.streams[at]);
            (streams().map(|stream| stream.offered).sum(), streams().map(Stream::lost).sum())
        })
    }

    fn forget(&mut self) {
        for stream in self.flows.iter_mut().flat_map(|flow| &mut flow.streams) {
            (stream.offered, stream.got) = (0, 0);
        }
    }
}

/// Whether two are within so many percent of each other.
fn alike(a: u64, b: u64, percent: u64) -> bool {
    a.abs_diff(b) * 100 <= percent * a.max(b)
}

#[test]
fn calls_lose_nothing_to_an_abuser_who_gets_what_they_leave() {
    for (workers, bytes, hog_first) in [(1, 1_200, true), (1, 300, false), (2, 300, true), (4, 1_200, false)] {
        let abuse = [Stream::of(bytes, 10 * RATE / bytes)];
        let mut world = World::of(workers);
        if hog_first {
            world.add(0, &abuse);
        }
        world.add_calls(50);
        if !hog_first {
            world.add(0, &abuse);
        }
        world.run_s(30);
        let [(audio, audio_lost), (video, video_lost)] = world.calls_lost();
        assert!(audio >= 74_500 && video >= 4_450, "{audio} and {video} packets offered");
        assert_eq!(audio_lost, 0, "{workers} workers");
        assert!(video_lost * 1_000 <= video, "{workers} workers: {video_lost} of {video} packets of video lost");
        let calls = world.calls().map(Flow::got).sum::<u64>();
        let (got, left) = (world.got() - calls, 30 * RATE - calls);
        assert!(alike(got, left, 5), "{workers} workers: the abuser gets {got} of {left}");
    }
}

#[test]
fn those_who_want_too_much_get_equal_shares_however_much_they_want() {
    for workers in [1, 2] {
        for offers in [[1_000, 1_000], [1_000, 200], [100, 60]] {
            for calls in [0, 50] {
                let mut world = World::of(workers);
                let hogs = [world.add_hog(0, offers[0]), world.add_hog(workers - 1, offers[1])];
                world.add_calls(calls);
                // What there was at once, and the time until the shares are found.
                world.run_s(5);
                world.forget();
                world.run_s(30);
                let [a, b] = hogs.map(|hog| world.flows[hog].got());
                assert!(alike(a, b, 5), "{workers} workers, {offers:?} %, {calls} calls: {a} and {b}");
                assert!(alike(world.got(), 30 * RATE, 2), "{} is not all of the rate", world.got());
                assert_eq!(world.calls_lost().map(|(_, lost)| lost), [0, 0]);
            }
        }
    }
}

#[test]
fn at_the_rate_nothing_is_dropped_and_above_it_something_is() {
    for shares in [&[1_000][..], &[500, 500], &[900, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10]] {
        for more in [0, 1] {
            let mut world = World::of(2);
            for (number, packets) in shares.iter().enumerate() {
                world.add(number % 2, &[Stream::of(1_000, packets + more * packets / 50)]);
            }
            world.run_s(40);
            let lost: u64 = world.flows.iter().flat_map(|flow| &flow.streams).map(Stream::lost).sum();
            assert_eq!(lost > 0, more > 0, "{shares:?}: {lost} lost");
        }
    }
}

#[test]
fn where_there_is_not_enough_for_all_calls_their_audio_goes() {
    let mut world = World::of(2);
    for number in 0..50 {
        // Audio, four at once after a jitter, is most of what each is entitled to; with video it is twice that.
        world.add(number % 2, &[Stream { burst: 4, ..Stream::of(250, 64) }, Stream::of(1_200, 30)]);
    }
    world.run_s(5);
    assert_eq!(world.calls_lost()[0].1, 0, "packets of audio, in the beginning");
    world.forget();
    world.run_s(30);
    let [(audio, audio_lost), (_, video_lost)] = world.calls_lost();
    assert_eq!(audio_lost, 0, "of {audio}");
    assert!(video_lost > 0 && alike(world.got(), 30 * RATE, 3), "{}", world.got());
    let got: Vec<u64> = world.flows.iter().map(|flow| flow.streams[1].got).collect();
    let (least, most) = (got.iter().min().unwrap(), got.iter().max().unwrap());
    assert!(alike(*least, *most, 20), "{least} to {most} packets of video each");
}

#[test]
fn small_packets_in_bulk_are_no_way_around_the_share() {
    let mut world = World::of(1);
    world.add(0, &[Stream::of(SMALL, 50 * RATE / 1_000)]);
    world.add_calls(50);
    world.run_s(30);
    assert_eq!(world.calls_lost().map(|(_, lost)| lost), [0, 0]);
}

const SMALL: u64 = share::SMALL_MAX;

#[test]
fn a_call_that_begins_while_the_rate_is_used_up_loses_nothing() {
    let mut world = World::of(2);
    world.add_hog(0, 1_000);
    world.add_hog(1, 300);
    world.run_s(20);
    for calls in [1, 10, 30] {
        world.add_calls(calls);
        world.run_s(3);
        assert_eq!(world.calls_lost().map(|(_, lost)| lost), [0, 0], "{calls} more");
    }
}

#[test]
fn the_next_allocation_of_a_slot_begins_with_a_whole_share() {
    let mut worker = RateShare::new(TotalRate::new(RATE));
    let other = AllocationId { index: 1, generation: 7 };
    assert!(worker.take(0, TO_PEER, id(1), 1_200));
    while worker.take(0, TO_PEER, id(0), 1_200) {}
    // One that was here before has its own left, and so has whoever comes into the slot of the one that has not.
    let within = |worker: &mut RateShare, id| worker.take(0, TO_PEER, id, SMALL as usize);
    assert!(within(&mut worker, id(1)) && within(&mut worker, AllocationId { generation: 1, ..id(0) }));
    assert!(within(&mut worker, other));
}

#[test]
fn workers_share_one_rate_to_the_byte() {
    let total = TotalRate::new(RATE);
    let mut workers = [RateShare::new(total.clone()), RateShare::new(total)];
    let mut count = |now_ms, bytes| {
        let goes = |i: &usize| workers[i % 2].take(now_ms, TO_PEER, id(0), bytes);
        (0..5_000).filter(goes).count()
    };
    // A quarter is kept for what is small.
    assert_eq!((count(0, 1_000), count(0, 200)), (750, 1_250));
    assert_eq!((count(500, 1_000), count(500, 200)), (250, 1_250));
    assert!(workers[0].take(500, Direction::ToClient, id(0), 1_000), "the other direction has its own");
}

#[test]
fn a_worker_whose_clock_is_late_makes_the_rate_no_higher() {
    let mut world = World::of(4);
    world.late_ms = 5;
    for number in 0..20 {
        world.add_hog(number % 4, 100);
    }
    world.run_s(5); // asserts that no more goes than the rate and its burst
    assert!(world.got() >= 5 * RATE, "nor lower");
}

#[test]
fn a_datagram_longer_than_a_seconds_rate_goes_in_its_time() {
    let mut worker = RateShare::new(TotalRate::new(10_000));
    for second in [0, 60, 120] {
        assert!(worker.take(second * 1_000, TO_PEER, id(0), BURST_MIN as usize), "in second {second}");
    }
    assert!(!worker.take(121_000, TO_PEER, id(0), BURST_MIN as usize));
}

#[test]
fn another_rate_counts_from_now_on() {
    let total = TotalRate::new(RATE);
    let mut worker = RateShare::new(total.clone());
    let mut sent = |now_ms| (0..1_000_000).take_while(|_| worker.take(now_ms, TO_PEER, id(0), 1_000)).count();
    assert_eq!(sent(0), 750);
    total.set(4 * RATE);
    assert_eq!(sent(1_000), 2_000, "half of what four times the rate has room for");
    total.set(0);
    assert_eq!(sent(1_000), 1_000_000, "without a limit nothing is counted");
}

#[test]
fn what_was_refused_is_not_asked_for_again_before_the_clock_moves() {
    let total = TotalRate::new(RATE);
    let mut worker = RateShare::new(total.clone());
    while worker.take(5, TO_PEER, id(1), 1_200) {}
    let asked = |mut worker: RateShare, bytes| {
        let (told, heard) = std::sync::mpsc::channel();
        std::thread::spawn(move || drop(told.send((worker.take(5, TO_PEER, id(1), bytes), worker))));
        heard
    };
    // Whoever asks the pot now has to wait.
    let pot = total.pots[TO_PEER as usize].lock();
    let patience = std::time::Duration::from_secs(20);
    let (is_let, worker) = asked(worker, 1_200).recv_timeout(patience).expect("the lock is not waited for");
    assert!(!is_let);
    let smaller = asked(worker, 300);
    drop(pot);
    let (_, mut worker) = smaller.recv_timeout(patience).expect("the lock is free");
    assert!(worker.take(500, TO_PEER, id(1), 1_200), "and what has come since is there");
}
