//! The control plane under load: allocation cycles, Binding requests, memory.

use crate::client::{Client, PATIENCE_NS, Step};
use crate::report::Sample;
use crate::stage::Stage;
use mio::{Events, Token};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};

/// Time before a window opens, in nanoseconds.
const WARM_UP_NS: u64 = 500_000_000;

/// A peer that is named and never spoken to.
fn silent_peer() -> SocketAddr {
    SocketAddr::new(Ipv4Addr::new(127, 0, 0, 2).into(), 40_000)
}

/// Memory of the server without and with `count` allocations that have a permission and a
/// channel each.
pub fn rss(stage: &mut Stage<'_>, count: usize) -> io::Result<Sample> {
    let empty_kib = stage.server.rss_kib()?;
    let mut clients = stage.allocate(count, silent_peer())?;
    stage.walk(&mut clients, &[Step::Permit, Step::Bind])?;
    let full_kib = stage.server.rss_kib()?;
    let bytes = (full_kib as f64 - empty_kib as f64) * 1024.0;
    Ok(Sample {
        cost: Some(bytes / count as f64),
        empty_kib: Some(empty_kib as f64),
        full_kib: Some(full_kib as f64),
        ..Sample::default()
    })
}

/// Whole lives of allocations, `under_way` at a time, each on a 5-tuple never used before.
pub fn cycle(stage: &mut Stage<'_>, under_way: usize, seconds: f64) -> io::Result<Sample> {
    const LIFE: &[Step] = &[Step::Challenge, Step::Allocate, Step::Permit, Step::Bind, Step::Free];
    Churn::new(stage, under_way, LIFE, true)?.measure(stage, seconds, 1e3)
}

/// Binding requests as fast as they are answered, one under way on each of `sockets` sockets.
pub fn binding(stage: &mut Stage<'_>, sockets: usize, seconds: f64) -> io::Result<Sample> {
    Churn::new(stage, sockets, &[Step::Binding], false)?.measure(stage, seconds, 1.0)
}

/// Clients that walk the same steps over and over.
struct Churn {
    slots: Vec<Slot>,
    steps: &'static [Step],
    /// Whether a walk begins with a new client.
    renew: bool,
    /// When overdue answers were last looked for.
    hurried_ns: u64,
    /// Walks ended in the present run.
    ended: u64,
    /// Requests sent again in the present run.
    again: u64,
}

/// A client and the steps of its walk that are done.
struct Slot {
    client: Client,
    done: usize,
}

impl Churn {
    fn new(stage: &mut Stage<'_>, size: usize, steps: &'static [Step], renew: bool) -> io::Result<Self> {
        let mut slots = Vec::with_capacity(size);
        for token in 0..size {
            let mut client = stage.client(token, silent_peer())?;
            client.ask(steps[0], stage.now_ns(), &stage.key, &mut stage.rng)?;
            slots.push(Slot { client, done: 0 });
        }
        Ok(Churn { slots, steps, renew, hurried_ns: stage.now_ns(), ended: 0, again: 0 })
    }

    /// Warms up, then measures; a walk's cost is reported in units of `unit_ns`.
    fn measure(mut self, stage: &mut Stage<'_>, seconds: f64, unit_ns: f64) -> io::Result<Sample> {
        self.run(stage, WARM_UP_NS)?;
        let mark = stage.mark()?;
        self.run(stage, (seconds * 1e9) as u64)?;
        let window = stage.since(mark)?;
        let asked = self.again + self.ended * self.steps.len() as u64;
        let loss = self.again as f64 / asked.max(1) as f64;
        Ok(Sample { loss: Some(loss), ..Sample::of(&window, self.ended, unit_ns) })
    }

    fn run(&mut self, stage: &mut Stage<'_>, span_ns: u64) -> io::Result<()> {
        (self.ended, self.again) = (0, 0);
        let mut events = Events::with_capacity(1024);
        let end_ns = stage.now_ns() + span_ns;
        loop {
            let now = stage.now_ns();
            if now > end_ns {
                return Ok(());
            }
            self.hurry(stage, now)?;
            stage.look(&mut events)?;
            for Token(i) in events.iter().map(|event| event.token()) {
                self.hear(i, stage, now)?;
            }
            if events.is_empty() {
                stage.idle(now);
            }
        }
    }

    fn hear(&mut self, i: usize, stage: &mut Stage<'_>, now_ns: u64) -> io::Result<()> {
        let Slot { client, done } = &mut self.slots[i];
        if !client.hear(self.steps[*done], now_ns, &stage.key, &mut stage.rng)? {
            return Ok(());
        }
        *done += 1;
        if *done == self.steps.len() {
            self.ended += 1;
            *done = 0;
            if self.renew {
                *client = stage.client(i, silent_peer())?;
            }
        }
        client.ask(self.steps[*done], now_ns, &stage.key, &mut stage.rng)
    }

    fn hurry(&mut self, stage: &Stage<'_>, now_ns: u64) -> io::Result<()> {
        if now_ns - self.hurried_ns > PATIENCE_NS / 4 {
            self.hurried_ns = now_ns;
            for slot in &mut self.slots {
                self.again += u64::from(slot.client.hurry(self.steps[slot.done], now_ns, &stage.key)?);
            }
        }
        Ok(())
    }
}
