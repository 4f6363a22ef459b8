//! A relay and its side plane together, and what may be asked of them while they run.

use super::Failure;
use super::drain::{Board, By, Drain, in_words};
use super::revocations::Book;
use super::service::{self, Watchdog};
use super::signals::Signals;
use super::watch::Watch;
use crate::bus::{Command, Reply, Workers};
use crate::config::{DrainPlan, Identity, Plan};
use crate::engine::{self, Engine, Inheritance, Listen};
use crate::http::{self, Bind, Control, Live, Part, Plane, Reloaded};
use crate::turn;
use arc_swap::ArcSwap;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How often a draining server looks whether its last allocation is gone.
const DRAIN_CHECK: Duration = Duration::from_millis(100);
/// How often watched files are looked at.
const WATCH_CHECK: Duration = Duration::from_secs(1);
/// How long a worker may take to obey.
const WORKER_PATIENCE: Duration = Duration::from_secs(2);
/// How long whoever asks for a reload or a drain waits for it.
const PATIENCE: Duration = Duration::from_secs(10);

/// Reloads that were refused.
static REFUSED: AtomicU64 = AtomicU64::new(0);

/// What the main thread is asked.
pub enum Wish {
    /// End now; why.
    Stop(&'static str),
    /// Drain as configured and end.
    Terminate,
    /// Take no new allocations, and end with the last one or after so many seconds; or take them
    /// again. Who asked is told whether it is so.
    Drain(Option<Draining>, Option<Sender<bool>>),
    /// Read the configuration again. Who asked is told what came of it.
    Reload(Option<Sender<Outcome>>),
}

/// How an operator wants it drained.
#[derive(Clone, Copy, Debug, Default)]
pub struct Draining {
    /// Seconds until the server ends whatever is left; `None`: it waits.
    pub timeout_s: Option<u64>,
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
    book: Arc<Book>,
    board: Board,
    wishes: Receiver<Wish>,
    /// What a drain does, as configured now.
    draining: RefCell<DrainPlan>,
    watch: RefCell<Watch>,
    /// When the watched files were looked at.
    looked: Cell<Instant>,
    /// Only kept, until the server ends.
    watchdog: Option<Watchdog>,
}

impl Service {
    /// Binds everything and starts. Signals are heard from here on.
    pub fn start(plan: Plan, more: Vec<Bind>, open: bool, inheritance: Inheritance) -> Result<Service, Unstarted> {
        let (ask, wishes) = crossbeam_channel::unbounded();
        Signals::hear(ask.clone()).map_err(Unstarted::Relay)?;
        let mut engine = engine::spawn_with(plan.engine, inheritance).map_err(Unstarted::Relay)?;
        let live = Live { open, ..plan.plane.live(engine.listening()) };
        let live = Arc::new(ArcSwap::from_pointee(live));
        let board = Board::default();
        let binds: Vec<Bind> = plan.plane.binds.iter().cloned().chain(more).collect();
        let has_plane = !binds.is_empty() || plan.plane.admin_socket.is_some();
        if !has_plane {
            engine.ignore_notices();
        }
        let workers = engine.workers();
        let book = Arc::new(Book::open(workers.clone(), plan.revocations));
        let plane = match has_plane {
            false => None,
            true => {
                let config = http::Config {
                    binds,
                    admin_socket: plan.plane.admin_socket.clone(),
                    workers: workers.clone(),
                    live: live.clone(),
                    control: control(ask, board.clone(), book.clone()),
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
        let watchdog = Watchdog::start(&workers.mailboxes).map_err(Unstarted::Relay)?;
        Ok(Service {
            engine,
            workers,
            plane,
            live,
            identity: plan.identity,
            book,
            board,
            wishes,
            draining: RefCell::new(plan.drain),
            watch: RefCell::new(Watch::new(plan.files)),
            looked: Cell::new(Instant::now()),
            watchdog,
        })
    }

    /// Where clients are served.
    pub fn listening(&self) -> &[Listen] {
        self.engine.listening()
    }

    /// Listening sockets for whoever is to keep them, once.
    pub fn take_kept(&mut self) -> Vec<OwnedFd> {
        self.engine.take_kept()
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
        let mut reload = |service: &Service| {
            // A file that is replaced while it is read is to be read again.
            service.watch.borrow_mut().catch_up();
            let outcome = reload(service);
            tell(&outcome);
            outcome
        };
        let why = loop {
            match self.next_wish() {
                Ok(Wish::Stop(why)) => break why,
                Ok(Wish::Terminate) => self.terminate(),
                Ok(Wish::Drain(wanted, asked_by)) => {
                    let is_so = match wanted {
                        Some(Draining { timeout_s }) => self.drain(timeout_s),
                        None => self.resume(),
                    };
                    // Whoever asked may have lost patience.
                    asked_by.map(|asked_by| asked_by.send(is_so));
                }
                Ok(Wish::Reload(asked_by)) => {
                    let outcome = reload(&self);
                    if let Some(asked_by) = asked_by {
                        // Whoever asked may have lost patience.
                        let _ = asked_by.send(outcome);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                // The signals' thread does not end before this one.
                Err(RecvTimeoutError::Disconnected) => break "none",
            }
            if let Some(why) = self.drained() {
                break why;
            }
            if self.have_files_changed() {
                tracing::info!("a certificate, key or secret file has changed");
                // What came of it is in the log.
                let _ = reload(&self);
            }
        };
        tracing::info!(reason = why, allocations = self.allocations(), "stopping");
        service::stopping(Duration::ZERO);
        drop(self.watchdog);
        if let Some(plane) = self.plane {
            plane.stop();
        }
        self.engine.stop();
        tracing::info!("stopped");
        why
    }

    /// Waits for what is asked next, but no longer than something else may be due.
    fn next_wish(&self) -> Result<Wish, RecvTimeoutError> {
        self.wishes.recv_timeout(if self.board.get().is_some() { DRAIN_CHECK } else { WATCH_CHECK })
    }

    /// Whether the certificate that is presented is over.
    pub fn has_expired(&self) -> bool {
        super::run::has_expired(self.identity.as_ref())
    }

    /// Puts another plan in force, as far as that goes without a restart.
    pub fn follow(&self, plan: Plan) {
        self.engine.configure(plan.engine.turn, &plan.engine.limits, plan.engine.log);
        self.book.follow(plan.revocations);
        settle(&self.workers);
        if let (Some(current), Some(new)) = (&self.identity, &plan.identity) {
            current.follow(new);
        }
        self.watch.borrow_mut().follow(plan.files);
        let open = self.live.load().open;
        self.live.store(Arc::new(Live { open, ..plan.plane.live(self.engine.listening()) }));
        let before = self.draining.replace(plan.drain);
        if let Some(mut drain) = self.board.get()
            && before != *self.draining.borrow()
        {
            if drain.by == By::Term {
                drain.change(self.draining.borrow().timeout_s);
                service::stopping(drain.left(Instant::now()).unwrap_or_default());
            }
            self.put(Some(drain));
            tracing::info!(deadline = in_words(drain.left(Instant::now())), "drains by the new configuration");
        }
    }

    /// Drains, if that is not to take any time, and ends.
    fn terminate(&self) {
        let drain = Drain::begin(By::Term, Some(self.draining.borrow().timeout_s), Instant::now());
        service::stopping(drain.left(Instant::now()).unwrap_or_default());
        self.begin(drain);
    }

    /// Drains as an operator wants it. One that TERM began goes on as it is.
    fn drain(&self, timeout_s: Option<u64>) -> bool {
        if self.board.get().is_none_or(|drain| drain.by == By::Operator) {
            self.begin(Drain::begin(By::Operator, timeout_s, Instant::now()));
        }
        true
    }

    /// Takes new allocations again, unless the server was told to end.
    fn resume(&self) -> bool {
        match self.board.get() {
            Some(Drain { by: By::Term, .. }) => false,
            Some(_) => {
                self.put(None);
                service::status("serving again");
                tracing::info!("serving again");
                true
            }
            None => true,
        }
    }

    fn begin(&self, drain: Drain) {
        self.put(Some(drain));
        service::status(&format!("draining: {} allocations left", self.allocations()));
        tracing::info!(
            allocations = self.allocations(),
            deadline = in_words(drain.left(Instant::now())),
            "draining: no new allocations, ends with the last"
        );
    }

    /// Puts a drain in force, or ends one: first what anyone sees, then what the workers do.
    fn put(&self, drain: Option<Drain>) {
        self.board.set(drain);
        let alternates = self.draining.borrow().alternates.clone();
        let told = drain.map(|drain| {
            let left = drain.left(Instant::now());
            let left_ms = left.map_or(u64::MAX, |left| u64::try_from(left.as_millis()).unwrap_or(u64::MAX));
            turn::Drain { alternates, left_ms }
        });
        if !self.workers.tell_all(|| Command::Drain(told.clone())) {
            tracing::error!("a worker could not be told to drain");
        }
        settle(&self.workers);
    }

    /// Why a drain is over, if it is. Says now and then how far it is.
    fn drained(&self) -> Option<&'static str> {
        let mut drain = self.board.get()?;
        let (allocations, now) = (self.allocations(), Instant::now());
        if drain.is_news(now) {
            self.board.set(Some(drain));
            service::status(&format!("draining: {allocations} allocations left"));
            tracing::info!(allocations, left = in_words(drain.left(now)), "draining");
        }
        drain.end(allocations, now)
    }

    /// Whether watched files have changed; looks at them now and then.
    fn have_files_changed(&self) -> bool {
        if self.looked.get().elapsed() < WATCH_CHECK {
            return false;
        }
        self.looked.set(Instant::now());
        self.book.look();
        self.watch.borrow_mut().look()
    }

    fn allocations(&self) -> u64 {
        self.workers.stats.iter().map(|stats| stats.allocations.get()).sum()
    }
}

/// Waits until every worker has obeyed what it was told: commands are obeyed in order, and this
/// one is answered. False when one has not.
pub(super) fn settle(workers: &Workers) -> bool {
    let (give, answers) = crossbeam_channel::unbounded();
    let told = workers.tell_all(|| {
        let give = give.clone();
        // Whoever waited may have lost patience.
        Command::Settled(Reply::new(move |()| give.send(()).unwrap_or_default()))
    });
    let end = Instant::now() + WORKER_PATIENCE;
    let obeyed = told && workers.mailboxes.iter().all(|_| answers.recv_deadline(end).is_ok());
    if !obeyed {
        tracing::error!("a worker does not answer");
    }
    obeyed
}

fn control(ask: Sender<Wish>, board: Board, book: Arc<Book>) -> Control {
    let ask_reload = ask.clone();
    let drain = move |wanted: Option<Draining>| {
        let (told, done) = crossbeam_channel::bounded(1);
        // Nobody listens once the server ends, and then nothing is left to steer.
        let asked = ask.send(Wish::Drain(wanted, Some(told))).is_ok();
        asked && done.recv_timeout(PATIENCE).unwrap_or_default()
    };
    let resume = drain.clone();
    Control {
        drain: Arc::new(move |timeout_s| {
            drain(Some(Draining { timeout_s }));
        }),
        resume: Arc::new(move || resume(None)),
        draining: Arc::new(move || board.picture()),
        reload: Arc::new(move || {
            let (told, outcome) = crossbeam_channel::bounded(1);
            let asked = ask_reload.send(Wish::Reload(Some(told))).is_ok();
            match asked.then(|| outcome.recv_timeout(PATIENCE)) {
                Some(Ok(outcome)) => outcome,
                _ => Err("the server did not answer in time".into()),
            }
        }),
        revocations: book,
        log_lines_lost: Arc::new(super::log::lines_lost),
        reloads_refused: Arc::new(|| REFUSED.load(Ordering::Relaxed)),
    }
}

fn tell(outcome: &Outcome) {
    match outcome {
        Err(fault) => {
            REFUSED.fetch_add(1, Ordering::Relaxed);
            tracing::error!("reload refused, the old configuration stays: {fault}");
        }
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
