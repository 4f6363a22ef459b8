//! Packets from one worker's client to another worker's: bounded queues whose buffers go back
//! to their sender, so that a steady flow allocates nothing.

use crate::turn::{AllocationId, PeerAddr};
use crossbeam_channel::{Receiver, Sender};
use mio::Waker;
use std::sync::Arc;

/// Parcels that wait for one worker; one more is dropped.
const PARCELS_MAX: usize = 1024;

/// One packet on its way to an allocation of another worker.
pub(super) struct Parcel {
    pub to: AllocationId,
    /// The sender's relayed address.
    pub from: PeerAddr,
    pub bytes: Vec<u8>,
    /// The worker that sent it and owns the buffer.
    pub sender: u8,
}

/// The other worker's queue is full.
#[derive(Debug)]
pub(super) struct Full;

/// One worker's ends of all queues.
pub(super) struct Post {
    number: u8,
    inbox: Receiver<Parcel>,
    empties: Receiver<Vec<u8>>,
    outboxes: Vec<Sender<Parcel>>,
    returns: Vec<Sender<Vec<u8>>>,
    wakers: Vec<Arc<Waker>>,
    /// Workers that got something since the last wake-up.
    to_wake: Vec<bool>,
}

impl Post {
    /// The posts of workers with these wakers, in their order.
    pub fn network(wakers: &[Arc<Waker>]) -> Vec<Post> {
        let (outboxes, inboxes): (Vec<_>, Vec<_>) =
            wakers.iter().map(|_| crossbeam_channel::bounded(PARCELS_MAX)).unzip();
        let (returns, empties): (Vec<_>, Vec<_>) =
            wakers.iter().map(|_| crossbeam_channel::bounded(PARCELS_MAX)).unzip();
        let ends = inboxes.into_iter().zip(empties).enumerate();
        ends.map(|(number, (inbox, empties))| Post {
            number: number as u8,
            inbox,
            empties,
            outboxes: outboxes.clone(),
            returns: returns.clone(),
            wakers: wakers.to_vec(),
            to_wake: vec![false; wakers.len()],
        })
        .collect()
    }

    /// Hands bytes over. The other worker is woken by [`Post::wake`].
    pub fn send(&mut self, worker: u8, to: AllocationId, from: PeerAddr, bytes: &[u8]) -> Result<(), Full> {
        let mut buffer = self.empties.try_recv().unwrap_or_default();
        buffer.clear();
        buffer.extend_from_slice(bytes);
        let outbox = self.outboxes.get(usize::from(worker)).ok_or(Full)?;
        let parcel = Parcel { to, from, bytes: buffer, sender: self.number };
        outbox.try_send(parcel).map_err(|_| Full)?;
        self.to_wake[usize::from(worker)] = true;
        Ok(())
    }

    /// Wakes those that got something, once each.
    pub fn wake(&mut self) {
        for (waker, wake) in self.wakers.iter().zip(&mut self.to_wake) {
            if std::mem::take(wake) {
                // It fails only when the other worker is gone.
                let _ = waker.wake();
            }
        }
    }

    /// The next parcel for this worker.
    pub fn receive(&mut self) -> Option<Parcel> {
        self.inbox.try_recv().ok()
    }

    /// Returns a buffer to the worker that filled it.
    pub fn give_back(&mut self, sender: u8, bytes: Vec<u8>) {
        if let Some(returns) = self.returns.get(usize::from(sender)) {
            let _ = returns.try_send(bytes); // full: the buffer is simply freed
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mio::{Poll, Token};

    #[test]
    fn a_full_queue_takes_no_parcel_until_one_is_taken_out() {
        let poll = Poll::new().unwrap();
        let waker = Arc::new(Waker::new(poll.registry(), Token(0)).unwrap());
        let mut posts = Post::network(&[waker.clone(), waker]);
        let (to, from) = (AllocationId { index: 1, generation: 1 }, PeerAddr("192.0.2.1:9".parse().unwrap()));
        for _ in 0..PARCELS_MAX {
            assert!(posts[0].send(1, to, from, b"x").is_ok());
        }
        assert!(posts[0].send(1, to, from, b"x").is_err());
        assert!(posts[1].send(0, to, from, b"x").is_ok(), "the way back is another queue");
        assert_eq!(posts[1].receive().map(|parcel| parcel.bytes), Some(b"x".to_vec()));
        assert!(posts[0].send(1, to, from, b"x").is_ok());
        assert!(posts[0].send(1, to, from, b"x").is_err());
        assert!(posts[0].send(2, to, from, b"x").is_err(), "there is no such worker");
    }
}
