//! The watchdog: the service manager hears that this process is alive only while every worker
//! answers.
//!
//! The side plane is not asked: calls go on without it, and ending the process would end them.

use crate::bus::{Command, Mailbox, Reply};
use crate::engine;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError};
use sd_notify::NotifyState;
use std::convert::Infallible;
use std::io;
use std::time::{Duration, Instant};

/// Questions in the time after which the service manager gives up.
const QUESTIONS: u32 = 3;

/// Feeds the service manager's watchdog until it is dropped.
#[derive(Debug)]
pub struct Watchdog {
    /// Nothing is sent; the thread ends when this is gone.
    _alive: Sender<Infallible>,
}

impl Watchdog {
    /// Begins, if the service manager asked for it (`WATCHDOG_USEC`).
    pub fn start(mailboxes: &[Mailbox]) -> io::Result<Option<Watchdog>> {
        let Some(patience) = sd_notify::watchdog_enabled().filter(|patience| !patience.is_zero()) else {
            return Ok(None);
        };
        let (alive, ended) = crossbeam_channel::bounded(0);
        let mut questions = Questions::new(mailboxes);
        let feed = || super::tell(&[NotifyState::Watchdog]);
        let watch = move || watch(&mut questions, patience / QUESTIONS, &ended, feed);
        std::thread::Builder::new().name("watchdog".into()).spawn(watch)?;
        tracing::info!(?patience, "the service manager is told that every worker answers");
        Ok(Some(Watchdog { _alive: alive }))
    }
}

/// Asks in every period, and feeds when all have answered within it.
fn watch(questions: &mut Questions, period: Duration, ended: &Receiver<Infallible>, mut feed: impl FnMut()) {
    let mut told = Vec::new();
    loop {
        let end = Instant::now() + period;
        questions.ask();
        let silent = questions.silent(end);
        if ended.try_recv() == Err(TryRecvError::Disconnected) {
            return;
        }
        match silent.is_empty() {
            true => feed(),
            // Said once, not in every period.
            false if silent != told => {
                let threads = whereabouts(&silent);
                tracing::error!(workers = ?silent, threads, "workers do not answer: the watchdog is not fed")
            }
            false => {}
        }
        told = silent;
        match ended.recv_deadline(end) {
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// What the kernel says of the threads of these workers: `R` runs, `S` and `D` wait in a system call, of which
/// this is the number. No more can be said without stopping them.
fn whereabouts(workers: &[usize]) -> String {
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten().map(|task| task.path());
    let said = tasks.filter_map(|task| {
        let stat = std::fs::read_to_string(task.join("stat")).ok()?;
        let (name, rest) = stat.split_once('(')?.1.rsplit_once(") ")?;
        let is_meant = workers.iter().any(|worker| name == engine::thread_name(*worker));
        let syscall = std::fs::read_to_string(task.join("syscall")).unwrap_or_default();
        let syscall = syscall.split_whitespace().next().unwrap_or("unknown");
        is_meant.then(|| format!("{name}: {}, system call {syscall}", rest.get(..1).unwrap_or_default()))
    });
    said.collect::<Vec<_>>().join("; ")
}

/// A question to each worker, of which each has at most one before it.
struct Questions(Vec<(Mailbox, Option<Receiver<()>>)>);

impl Questions {
    fn new(mailboxes: &[Mailbox]) -> Self {
        Questions(mailboxes.iter().map(|mailbox| (mailbox.clone(), None)).collect())
    }

    /// Asks all that have answered what they were asked before.
    fn ask(&mut self) {
        for (mailbox, waiting) in self.0.iter_mut().filter(|(_, waiting)| waiting.is_none()) {
            let (give, answer) = crossbeam_channel::bounded(1);
            // There is room for the only answer.
            let reply = Reply::new(move |()| give.try_send(()).unwrap_or_default());
            // One that can not be asked does not answer.
            let asked = mailbox.send(Command::Settled(reply)).is_ok();
            *waiting = asked.then_some(answer);
        }
    }

    /// Waits for the answers until `end`; the workers that have not given theirs.
    fn silent(&mut self, end: Instant) -> Vec<usize> {
        let mut silent = Vec::new();
        for (number, (_, waiting)) in self.0.iter_mut().enumerate() {
            match waiting.as_ref().map(|answer| answer.recv_deadline(end)) {
                Some(Ok(())) => *waiting = None,
                Some(Err(RecvTimeoutError::Timeout)) => silent.push(number),
                // The question is gone with its worker, or could not be asked.
                Some(Err(RecvTimeoutError::Disconnected)) | None => {
                    *waiting = None;
                    silent.push(number);
                }
            }
        }
        silent
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mio::{Poll, Token, Waker};
    use std::sync::Arc;

    const SOON: Duration = Duration::from_millis(50);
    const PATIENCE: Duration = Duration::from_secs(20);

    fn mailbox(poll: &Poll) -> (Mailbox, Receiver<Command>) {
        Mailbox::new(Arc::new(Waker::new(poll.registry(), Token(0)).unwrap()))
    }

    /// Answers questions, as a worker does, until nobody can ask any more.
    fn obey(commands: &Receiver<Command>) {
        for command in commands {
            match command {
                Command::Settled(reply) => reply.give(()),
                other => panic!("{other:?} is no question"),
            }
        }
    }

    #[test]
    fn all_that_answer_are_asked_again_and_one_that_does_not_is_named() {
        let polls = [Poll::new().unwrap(), Poll::new().unwrap()];
        let [(first, answers), (second, wedged)] = polls.each_ref().map(mailbox);
        std::thread::spawn(move || obey(&answers));
        let mut questions = Questions::new(&[first, second]);
        for _ in 0..5 {
            questions.ask();
            assert!(questions.silent(Instant::now() + SOON).contains(&1));
        }
        assert_eq!(wedged.len(), 1, "it is not asked again before it has answered");
        // It comes to itself: the old answer is good.
        std::thread::spawn(move || obey(&wedged));
        questions.ask();
        assert!(questions.silent(Instant::now() + PATIENCE).is_empty());
        questions.ask();
        assert!(questions.silent(Instant::now() + PATIENCE).is_empty());
    }

    #[test]
    fn the_thread_of_a_silent_worker_is_found_by_its_name() {
        let (stop, stopped) = crossbeam_channel::bounded::<Infallible>(0);
        let thread = std::thread::Builder::new().name(engine::thread_name(77));
        let thread = thread.spawn(move || stopped.recv().unwrap_err()).unwrap();
        let end = Instant::now() + PATIENCE;
        // The kernel learns the name when the thread runs.
        while !whereabouts(&[77, 78]).starts_with("relay-77: ") {
            assert!(Instant::now() < end, "{}", whereabouts(&[77, 78]));
        }
        assert!(!whereabouts(&[77, 78]).contains("relay-78"));
        drop(stop);
        thread.join().unwrap();
        assert_eq!(whereabouts(&[78]), "");
    }

    #[test]
    fn a_worker_that_is_gone_is_silent() {
        let poll = Poll::new().unwrap();
        let (mailbox, commands) = mailbox(&poll);
        let mut questions = Questions::new(&[mailbox]);
        questions.ask();
        drop(commands);
        for _ in 0..2 {
            assert_eq!(questions.silent(Instant::now() + SOON), [0]);
            questions.ask();
        }
    }

    #[test]
    fn it_is_fed_while_all_answer_and_never_after() {
        let poll = Poll::new().unwrap();
        let (mailbox, commands) = mailbox(&poll);
        let (alive, ended) = crossbeam_channel::bounded::<Infallible>(0);
        let (fed, meals) = crossbeam_channel::unbounded();
        let mut questions = Questions::new(&[mailbox]);
        let watch = std::thread::spawn(move || watch(&mut questions, SOON, &ended, || fed.send(()).unwrap()));
        let answer = |times| {
            for command in commands.iter().take(times) {
                match command {
                    Command::Settled(reply) => reply.give(()),
                    other => panic!("{other:?} is no question"),
                }
            }
        };
        answer(3);
        for _ in 0..3 {
            meals.recv_timeout(PATIENCE).expect("it is fed");
        }
        // The fourth question is not answered, whatever time passes.
        let fourth = commands.recv_timeout(PATIENCE).expect("it is asked");
        assert_eq!(meals.recv_timeout(10 * SOON), Err(RecvTimeoutError::Timeout));
        let Command::Settled(reply) = fourth else { panic!("{fourth:?} is no question") };
        reply.give(());
        meals.recv_timeout(PATIENCE).expect("it is fed again");
        drop(alive);
        answer(usize::MAX);
        watch.join().unwrap();
    }
}
