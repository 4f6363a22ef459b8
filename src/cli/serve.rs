//! A relay and its side plane together, and what may be asked of them while they run.

use super::Failure;
use super::signals::Signals;
use super::watch::Watch;
use crate::bus::{Command, Reply, Workers};
use crate::config::{Identity, Plan};
use crate::engine::{self, Engine, Listen};
use crate::http::{self, Bind, Control, Live, Part, Plane, Reloaded};
use crate::turn::AllocationId;
use arc_swap::ArcSwap;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How often a draining server looks whether its last allocation is gone.
const DRAIN_CHECK: Duration = Duration::from_millis(100);
/// How often watched files are looked at.
const WATCH_CHECK: Duration = Duration::from_secs(1);
/// How long a worker may take to obey.
const WORKER_PATIENCE: Duration = Duration::from_secs(2);
/// How long whoever asks for a reload or a drain waits for it.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the main thread is asked.
pub enum Wish {
    /// End now; the signal's name.
    Stop(&'static str),
    /// Take no new allocations, and end with the last one; or take them again. Who asked is told
    /// when it is so.
    Drain(bool, Option<Sender<()>>),
    /// Read the configuration again. Who asked is told what came of it.
    Reload(Option<Sender<Outcome>>),
}

/// What came of a reload; an error is text for the operator.
pub type Outcome = Result<Reloaded, String>;

/// Why a service did not start.
pub enum Unstarted {
    /// The relay's part of it.
    Relay(io::Error),
    /// The side plane's.
    Plane(io::Error),
}

/// A running relay and its side plane.
pub struct Service {
    engine: Engine,
    workers: Workers,
    plane: Option<Plane>,
    live: Arc<ArcSwap<Live>>,
    identity: Option<Identity>,
    draining: Arc<AtomicBool>,
    wishes: Receiver<Wish>,
    watch: RefCell<Watch>,
}

impl Service {
    /// Binds everything and starts. Signals are heard from here on.
    pub fn start(plan: Plan, more: Vec<Bind>, open: bool) -> Result<Service, Unstarted> {
        let (ask, wishes) = crossbeam_channel::unbounded();
        Signals::hear(ask.clone()).map_err(Unstarted::Relay)?;
        let mut engine = engine::spawn(plan.engine).map_err(Unstarted::Relay)?;
        let live = Live { open, ..plan.plane.live(engine.listening()) };
        let live = Arc::new(ArcSwap::from_pointee(live));
        let draining = Arc::new(AtomicBool::new(false));
        let binds: Vec<Bind> = plan.plane.binds.iter().cloned().chain(more).collect();
        let has_plane = !binds.is_empty() || plan.plane.admin_socket.is_some();
        if !has_plane {
            engine.ignore_notices();
        }
        let workers = engine.workers();
        let plane = match has_plane {
            false => None,
            true => {
                let config = http::Config {
                    binds,
                    admin_socket: plan.plane.admin_socket.clone(),
                    workers: workers.clone(),
                    live: live.clone(),
                    control: control(ask, draining.clone()),
                };
                match http::spawn(config) {
                    Ok(plane) => Some(plane),
                    Err(error) => {
                        engine.stop();
                        return Err(Unstarted::Plane(error));
                    }
                }
            }
        };
        let watch = RefCell::new(Watch::new(plan.files));
        Ok(Service { engine, workers, plane, live, identity: plan.identity, draining, wishes, watch })
    }

    /// Where clients are served.
    pub fn listening(&self) -> &[Listen] {
        self.engine.listening()
    }

    /// What a reload can change, as it is now.
    pub fn live(&self) -> Arc<Live> {
        self.live.load_full()
    }

    /// Where the side plane listens, and whether by TLS.
    pub fn plane(&self) -> &[(Part, SocketAddr, bool)] {
        self.plane.as_ref().map_or(&[], Plane::listening)
    }

    /// Serves until asked to end; returns why. `reload` reads the configuration anew.
    pub fn serve(self, mut reload: impl FnMut(&Service) -> Outcome) -> &'static str {
        let why = loop {
            let draining = self.draining.load(Ordering::Relaxed);
            let wish = match (draining, self.watch.borrow().is_empty()) {
                (true, _) => self.wishes.recv_timeout(DRAIN_CHECK),
                (false, false) => self.wishes.recv_timeout(WATCH_CHECK),
                (false, true) => self.wishes.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            match wish {
                Ok(Wish::Stop(signal)) => break signal,
                Ok(Wish::Drain(on, asked_by)) => {
                    self.drain(on);
                    // Whoever asked may have lost patience.
                    asked_by.map(|asked_by| asked_by.send(()));
                }
                Ok(Wish::Reload(asked_by)) => {
                    let outcome = reload(&self);
                    tell(&outcome);
                    if let Some(asked_by) = asked_by {
                        // Whoever asked may have lost patience.
                        let _ = asked_by.send(outcome);
                    }
                }
                Err(RecvTimeoutError::Timeout) if draining && self.allocations() == 0 => break "drained",
                Err(RecvTimeoutError::Timeout) if draining => {}
                Err(RecvTimeoutError::Timeout) => {
                    let has_changed = self.watch.borrow_mut().look();
                    if has_changed {
                        tracing::info!("a certificate, key or secret file has changed");
                        tell(&reload(&self));
                    }
                }
                // The signals' thread does not end before this one.
                Err(RecvTimeoutError::Disconnected) => break "none",
            }
        };
        tracing::info!(reason = why, "stopping");
        if let Some(plane) = self.plane {
            plane.stop();
        }
        self.engine.stop();
        tracing::info!("stopped");
        why
    }

    /// Puts another plan in force, as far as that goes without a restart.
    pub fn follow(&self, plan: Plan) {
        self.engine.configure(plan.engine.turn, &plan.engine.limits);
        self.settle();
        if let (Some(current), Some(new)) = (&self.identity, &plan.identity) {
            current.follow(new);
        }
        self.watch.replace(Watch::new(plan.files));
        let open = self.live.load().open;
        self.live.store(Arc::new(Live { open, ..plan.plane.live(self.engine.listening()) }));
    }

    fn drain(&self, on: bool) {
        self.draining.store(on, Ordering::Relaxed);
        if !self.workers.tell_all(|| Command::Drain(on)) {
            tracing::error!("a worker could not be told to drain");
        }
        self.settle();
        match on {
            true => {
                tracing::info!(allocations = self.allocations(), "draining: no new allocations, ends with the last")
            }
            false => tracing::info!("serving again"),
        }
    }

    /// Waits until every worker has obeyed what it was told: commands are obeyed in order, and
    /// this one is answered.
    fn settle(&self) {
        let (give, answers) = crossbeam_channel::unbounded();
        let none = AllocationId { index: u32::MAX, generation: 0 };
        let told = self.workers.tell_all(|| {
            let give = give.clone();
            // Whoever waited may have lost patience.
            let tell = move |_| give.send(()).unwrap_or_default();
            Command::Session { id: none, reply: Reply::new(tell) }
        });
        let end = Instant::now() + WORKER_PATIENCE;
        let obeyed = self.workers.mailboxes.iter().all(|_| answers.recv_deadline(end).is_ok());
        if !told || !obeyed {
            tracing::error!("a worker does not answer");
        }
    }

    fn allocations(&self) -> u64 {
        self.workers.stats.iter().map(|stats| stats.allocations.get()).sum()
    }
}

fn control(ask: Sender<Wish>, draining: Arc<AtomicBool>) -> Control {
    let (ask_drain, ask_reload) = (ask.clone(), ask);
    Control {
        drain: Arc::new(move |on| {
            let (told, done) = crossbeam_channel::bounded(1);
            // Nobody listens once the server ends, and then nothing is left to steer.
            if ask_drain.send(Wish::Drain(on, Some(told))).is_ok() {
                let _ = done.recv_timeout(PATIENCE);
            }
        }),
        is_draining: Arc::new(move || draining.load(Ordering::Relaxed)),
        reload: Arc::new(move || {
            let (told, outcome) = crossbeam_channel::bounded(1);
            let asked = ask_reload.send(Wish::Reload(Some(told))).is_ok();
            match asked.then(|| outcome.recv_timeout(PATIENCE)) {
                Some(Ok(outcome)) => outcome,
                _ => Err("the server did not answer in time".into()),
            }
        }),
    }
}

fn tell(outcome: &Outcome) {
    match outcome {
        Err(fault) => tracing::error!("reload refused, the old configuration stays: {fault}"),
        Ok(Reloaded { applied, needs_restart }) => {
            tracing::info!(applied = applied.join(", "), "reloaded");
            if !needs_restart.is_empty() {
                tracing::warn!(keys = needs_restart.join(", "), "changed, but a restart is needed for these");
            }
        }
    }
}

/// A plane that can not be bound, and what to do about it.
pub fn plane_failure(error: &io::Error, change: &str) -> Failure {
    Failure::Other(format!("the side plane can not start: {error}; {change}"))
}
