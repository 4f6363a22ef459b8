//! The words between a worker and those who steer it.

use crossbeam_channel::{Receiver, Sender, TrySendError};
use mio::Waker;
use std::sync::Arc;

/// Commands that wait for one worker; one more is refused.
const COMMANDS_MAX: usize = 1024;

/// What a worker is told.
#[derive(Clone, Debug)]
pub enum Command {
    /// Stop serving and end the thread.
    Stop,
}

/// The worker does not take commands: its queue is full, or it is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unreachable;

/// The way to one worker, for any thread.
#[derive(Clone, Debug)]
pub struct Mailbox {
    commands: Sender<Command>,
    waker: Arc<Waker>,
}

impl Mailbox {
    /// A mailbox and its worker's end.
    pub fn new(waker: Arc<Waker>) -> (Self, Receiver<Command>) {
        let (sender, receiver) = crossbeam_channel::bounded(COMMANDS_MAX);
        (Mailbox { commands: sender, waker }, receiver)
    }

    /// Hands a command over and wakes the worker. Never waits.
    pub fn send(&self, command: Command) -> Result<(), Unreachable> {
        self.commands.try_send(command).map_err(|error| match error {
            TrySendError::Full(_) | TrySendError::Disconnected(_) => Unreachable,
        })?;
        self.waker.wake().map_err(|_| Unreachable)
    }
}
