//! Requests in place of packets: whole lives of allocations, or Binding.

use super::client::{Client, Step};
use super::pace::Schedule;
use super::relay::in_words;
use super::report::Tally;
use super::stage::{HURRY_NS, Phase, Stage, Window};
use super::{Config, Mode, Share, Via};
use mio::{Events, Token};
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;

/// The longest wait for answers at the end, in nanoseconds.
const DRAIN_NS: u64 = 2_000_000_000;
/// Failures without a success in between after which the rest would fail as well.
const FAILURES_MAX: u32 = 100;
/// A walk begun so long after its time counts as late, in nanoseconds.
const LATE_NS: u64 = 1_000_000;
/// Clients that failed with an allocation and are kept until the end; those of others expire.
const LEFT_MAX: usize = 1000;
/// The port of the peer that allocations name and never speak to.
const DISCARD: u16 = 9;

const CHANNEL_LIFE: &[Step] = &[Step::Challenge, Step::Allocate, Step::Permit, Step::Bind, Step::Free];
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
    /// Clients that failed with an allocation; it is given back at the end.
    left: Vec<Client>,
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
        Ok(Control {
            config,
            share,
            stage,
            slots,
            idle,
            steps,
            renew,
            left: Vec::new(),
            failures: 0,
            tally: Tally::default(),
        })
    }

    /// Walks until the window closes, then waits for the walks under way. What stops it before is in the tally.
    pub fn run(&mut self, window: Window) -> Tally {
        let fault = self.run_through(window).err();
        for slot in &self.slots {
            self.tally.repeated += slot.client.repeated;
        }
        self.tally.arrived = self.tally.delivered;
        self.tally.fault = fault.map(|error| in_words(&error));
        std::mem::take(&mut self.tally)
    }

    fn run_through(&mut self, window: Window) -> io::Result<()> {
        let (config, rate) = (self.config, self.share.rate);
        let (now, seed) = (self.stage.now_ns(), self.stage.rng.next_u64());
        let mut schedule = (rate > 0.0).then(|| Schedule::new(config.pace, rate, config.burst, now, seed));
        self.drive(window.open_ns, schedule.as_mut(), Phase::WarmUp)?;
        // Walks under way end in the window as others do that begin in it and end behind it.
        let under_way = (self.slots.len() - self.idle.len()) as u64;
        self.tally = Tally { sent: under_way, notes: std::mem::take(&mut self.tally.notes), ..Tally::default() };
        let open = self.stage.mark();
        let ended = self.drive(window.close_ns, schedule.as_mut(), Phase::Counted);
        let close = self.stage.mark();
        self.stage.account_for(open, close, &mut self.tally);
        self.tally.in_time = self.tally.delivered;
        ended?;
        let end_ns = self.stage.now_ns() + DRAIN_NS;
        self.drive(end_ns, None, Phase::Drain)
    }

    /// Gives back what walks that did not end have allocated.
    pub fn finish(mut self) {
        let walking = self.slots.into_iter().filter(|slot| slot.is_walking).map(|slot| slot.client);
        self.left.extend(walking);
        self.stage.give_back(self.left);
    }

    fn drive(&mut self, end_ns: u64, mut schedule: Option<&mut Schedule>, phase: Phase) -> io::Result<()> {
        let mut events = Events::with_capacity(1024);
        let sending = phase != Phase::Drain;
        let mut hurried_ns = self.stage.now_ns();
        loop {
            let now = self.stage.now_ns();
            let is_over = if sending { self.stage.is_stopped() } else { self.idle.len() == self.slots.len() };
            if now >= end_ns || is_over {
                return Ok(());
            }
            let (mut wait_ns, sent) = (HURRY_NS.min(end_ns - now), self.tally.sent);
            if sending {
                wait_ns = wait_ns.min(self.begin_due(schedule.as_deref_mut(), now)?);
            }
            if now - hurried_ns > HURRY_NS {
                hurried_ns = now;
                self.hurry(now)?;
            }
            self.stage.look(&mut events, now, wait_ns, self.tally.sent > sent)?;
            for Token(at) in events.iter().map(|event| event.token()) {
                self.hear(at)?;
            }
            self.stage.show(phase, self.tally.sent, self.tally.delivered);
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
            && let Some(late_ns) = schedule.take(now)
        {
            let count = self.idle.len().min(self.config.burst as usize);
            self.tally.late += if late_ns > LATE_NS { count as u64 } else { 0 };
            self.tally.unsent += self.config.burst as u64 - count as u64;
            for _ in 0..count {
                self.begin()?;
            }
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
            let client = self.stage.client(at, slot.client.peer)?;
            let old = std::mem::replace(&mut slot.client, client);
            if old.is_allocated() && self.left.len() < LEFT_MAX {
                self.left.push(old);
            }
        }
        self.idle.push_back(at);
        Ok(())
    }
}
