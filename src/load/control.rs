//! Requests in place of packets: whole lives of allocations, or Binding.

use super::client::{Client, Step};
use super::pace::Schedule;
use super::relay::in_words;
use super::report::Tally;
use super::stage::{HURRY_NS, Stage};
use super::{Config, Mode, Share, Via};
use mio::{Events, Token};
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;

/// The longest wait for answers at the end, in nanoseconds.
const DRAIN_NS: u64 = 2_000_000_000;
/// Failures without a success in between after which the rest would fail as well.
const FAILURES_MAX: u32 = 100;
/// A walk begun so long after its time counts as late, in nanoseconds.
const LATE_NS: u64 = 1_000_000;
/// The port of the peer that allocations name and never speak to.
const DISCARD: u16 = 9;

const CHANNEL_LIFE: &[Step] = &[Step::Challenge, Step::Allocate, Step::Bind, Step::Free];
const PERMISSION_LIFE: &[Step] = &[Step::Challenge, Step::Allocate, Step::Permit, Step::Free];

/// A client and its walk.
struct Slot {
    client: Client,
    done: usize,
    began_ns: u64,
    is_walking: bool,
}

/// The requests of one thread: clients that walk the same steps over and over.
pub struct Control<'a> {
    config: &'a Config,
    share: Share,
    stage: Stage<'a>,
    slots: Vec<Slot>,
    idle: VecDeque<usize>,
    steps: &'static [Step],
    /// Whether a walk begins with a new client: a server may hold a 5-tuple for a while after its allocation is gone.
    renew: bool,
    failures: u32,
    tally: Tally,
}

impl<'a> Control<'a> {
    /// Opens the clients; nothing is asked yet.
    pub fn set_up(mut stage: Stage<'a>, config: &'a Config, share: Share) -> io::Result<Self> {
        let (steps, renew): (&[Step], _) = match (config.mode, config.via) {
            (Mode::Binding, _) => (&[Step::Binding], false),
            (_, Via::Channel) => (CHANNEL_LIFE, true),
            (_, Via::Indication) => (PERMISSION_LIFE, true),
        };
        let peer = SocketAddr::new(config.peer, DISCARD);
        let mut slots = Vec::with_capacity(share.flows);
        for token in 0..share.flows {
            slots.push(Slot { client: stage.client(token, peer)?, done: 0, began_ns: 0, is_walking: false });
        }
        let idle = (0..slots.len()).collect();
        Ok(Control { config, share, stage, slots, idle, steps, renew, failures: 0, tally: Tally::default() })
    }

    /// Walks for the configured time, then waits for the walks under way.
    pub fn run(&mut self) -> io::Result<Tally> {
        let began_ns = self.stage.now_ns();
        let end_ns = began_ns + self.config.duration.as_nanos() as u64;
        let mut schedule = (self.share.rate > 0.0).then(|| {
            let seed = self.stage.rng.next_u64();
            Schedule::new(self.config.pace, self.share.rate, self.config.burst, began_ns, seed)
        });
        self.drive(end_ns, schedule.as_mut(), true)?;
        self.tally.seconds = (self.stage.now_ns() - began_ns) as f64 / 1e9;
        self.tally.in_time = self.tally.delivered;
        let end_ns = self.stage.now_ns() + DRAIN_NS;
        self.drive(end_ns, None, false)?;
        for slot in &self.slots {
            self.tally.repeated += slot.client.repeated;
        }
        self.tally.arrived = self.tally.delivered;
        Ok(std::mem::take(&mut self.tally))
    }

    fn drive(&mut self, end_ns: u64, mut schedule: Option<&mut Schedule>, sending: bool) -> io::Result<()> {
        let mut events = Events::with_capacity(1024);
        let mut hurried_ns = self.stage.now_ns();
        loop {
            let now = self.stage.now_ns();
            let is_over = if sending { self.stage.is_stopped() } else { self.idle.len() == self.slots.len() };
            if now >= end_ns || is_over {
                return Ok(());
            }
            let mut wait_ns = HURRY_NS.min(end_ns - now);
            if sending {
                wait_ns = wait_ns.min(self.begin_due(schedule.as_deref_mut(), now)?);
            }
            if now - hurried_ns > HURRY_NS {
                hurried_ns = now;
                self.hurry(now)?;
            }
            self.stage.look(&mut events, wait_ns)?;
            for Token(at) in events.iter().map(|event| event.token()) {
                self.hear(at)?;
            }
            self.stage.gauges.sent.store(self.tally.sent, Ordering::Relaxed);
            self.stage.gauges.delivered.store(self.tally.delivered, Ordering::Relaxed);
        }
    }

    /// Begins the walks that are due and says how long none will be.
    fn begin_due(&mut self, schedule: Option<&mut Schedule>, now: u64) -> io::Result<u64> {
        let Some(schedule) = schedule else {
            // As many at a time as there are clients: the next begins when one ends. Failures go back to the end of
            // the line, so every client is tried once.
            for _ in 0..self.idle.len() {
                self.begin()?;
            }
            return Ok(if self.idle.is_empty() { HURRY_NS } else { 0 });
        };
        while !self.idle.is_empty()
            && let Some(departure) = schedule.take(now)
        {
            self.tally.late += u64::from(departure.late_ns > LATE_NS);
            self.begin()?;
        }
        Ok(if self.idle.is_empty() { HURRY_NS } else { schedule.wait_ns(now) })
    }

    fn begin(&mut self) -> io::Result<()> {
        let Some(at) = self.idle.pop_front() else { return Ok(()) };
        let slot = &mut self.slots[at];
        (slot.done, slot.began_ns, slot.is_walking) = (0, self.stage.now_ns(), true);
        self.tally.sent += 1;
        match self.stage.ask(&mut slot.client, self.steps[0]) {
            Ok(()) => Ok(()),
            Err(error) => self.fail(at, &error),
        }
    }

    fn hear(&mut self, at: usize) -> io::Result<()> {
        loop {
            let slot = &mut self.slots[at];
            if !slot.is_walking {
                return Ok(());
            }
            match self.stage.hear(&mut slot.client, self.steps[slot.done]) {
                Ok(true) => slot.done += 1,
                Ok(false) => return Ok(()),
                Err(error) => return self.fail(at, &error),
            }
            let Some(&step) = self.steps.get(slot.done) else { return self.end(at) };
            if let Err(error) = self.stage.ask(&mut slot.client, step) {
                return self.fail(at, &error);
            }
        }
    }

    fn hurry(&mut self, now: u64) -> io::Result<()> {
        for at in 0..self.slots.len() {
            let slot = &mut self.slots[at];
            if slot.is_walking
                && let Err(error) = slot.client.hurry(self.steps[slot.done], now, self.stage.account)
            {
                self.fail(at, &error)?;
            }
        }
        Ok(())
    }

    /// Ends a walk at its goal.
    fn end(&mut self, at: usize) -> io::Result<()> {
        let now = self.stage.now_ns();
        self.tally.latency.add(now - self.slots[at].began_ns);
        self.tally.delivered += 1;
        self.failures = 0;
        self.rest(at, self.renew)
    }

    /// Ends a walk on the way. When every walk ends so, the reason is that of the whole load.
    fn fail(&mut self, at: usize, error: &io::Error) -> io::Result<()> {
        self.failures += 1;
        self.tally.failed += 1;
        let why = in_words(error);
        if self.failures >= FAILURES_MAX || (self.tally.delivered == 0 && self.failures as usize >= self.slots.len()) {
            return Err(io::Error::other(why));
        }
        if self.tally.notes.is_empty() {
            self.tally.notes.push(format!("the first failure: {why}"));
        }
        self.rest(at, true)
    }

    fn rest(&mut self, at: usize, renew: bool) -> io::Result<()> {
        let slot = &mut self.slots[at];
        slot.is_walking = false;
        if renew {
            self.tally.repeated += slot.client.repeated;
            slot.client = self.stage.client(at, slot.client.peer)?;
        }
        self.idle.push_back(at);
        Ok(())
    }
}
