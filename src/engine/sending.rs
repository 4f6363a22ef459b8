//! The end of a round: what was judged leaves, by the socket it leaves through.
//!
//! Neighbours that share a socket leave in one system call, and those that share a destination
//! too and are of one length as one message (UDP_SEGMENT).

use super::batch::{Outgoing, SLOTS};
use super::relays::RelayKey;
use super::worker::Worker;
use crate::stats::Direction;
use crate::sys;
use crate::turn::DropReason;
use crate::wire::attribute::IcmpError;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::fd::AsFd;

/// How often a send is tried again at once: errors that earlier ones met may still come in.
const SEND_RETRIES: usize = 2;

/// What this round sends, by the socket it leaves through.
#[derive(Default)]
pub(super) struct Outbox {
    /// By UDP listener.
    pub to_clients: Vec<Vec<Outgoing>>,
    to_peers: Vec<Outgoing>,
    /// The socket of each of `to_peers`.
    peers_via: Vec<RelayKey>,
}

impl Outbox {
    pub fn new(listeners: usize) -> Self {
        Outbox {
            to_clients: (0..listeners).map(|_| Vec::with_capacity(SLOTS)).collect(),
            to_peers: Vec::with_capacity(SLOTS),
            peers_via: Vec::with_capacity(SLOTS),
        }
    }

    /// Queues a datagram that leaves through a relayed address.
    #[inline]
    pub fn push_to_peer(&mut self, via: RelayKey, outgoing: Outgoing) {
        self.to_peers.push(outgoing);
        self.peers_via.push(via);
    }
}

impl Worker {
    /// Makes sure that so many slots can be filled.
    pub(super) fn make_room(&mut self, slots: usize) {
        if self.batch.room() < slots {
            self.flush();
        }
    }

    /// Makes sure that an answer can be written; the slots stay as they are.
    #[inline]
    pub(super) fn make_answer_room(&mut self) {
        if !self.batch.has_answer_room() {
            self.flush_datagrams();
            self.batch.forget_sent();
        }
    }

    /// Sends all that waits; the slots are free afterwards.
    pub(super) fn flush(&mut self) {
        self.flush_datagrams();
        self.flush_connections();
        self.post.wake();
        self.batch.reset();
    }

    fn flush_datagrams(&mut self) {
        self.flush_to_peers();
        for index in 0..self.udp.len() {
            self.flush_to_clients(index);
        }
    }

    pub(super) fn flush_to_peers(&mut self) {
        let outgoing = std::mem::take(&mut self.outbox.to_peers);
        let via = std::mem::take(&mut self.outbox.peers_via);
        let mut at = 0;
        while at < outgoing.len() {
            let run = via[at..].iter().take_while(|key| **key == via[at]).count();
            self.send_run(via[at], &outgoing[at..at + run]);
            at += run;
        }
        (self.outbox.to_peers, self.outbox.peers_via) = (outgoing, via);
        self.outbox.to_peers.clear();
        self.outbox.peers_via.clear();
    }

    /// Sends datagrams that leave through one relayed address.
    pub(super) fn send_run(&mut self, key: RelayKey, mut run: &[Outgoing]) {
        let mut retries = SEND_RETRIES;
        let mut one_by_one = false;
        while let Some(first) = run.first() {
            let Some(relay) = self.relays.get(key) else {
                return run.iter().for_each(|_| self.stats.dropped(DropReason::NoAllocation));
            };
            let segmented = relay.segmented && !one_by_one;
            match self.batch.send(relay.socket.as_fd(), run, segmented) {
                Ok(sent) => {
                    let (gone, rest) = run.split_at(sent);
                    gone.iter().for_each(|out| self.count_sent(Direction::ToPeer, out));
                    (run, retries, one_by_one) = (rest, SEND_RETRIES, false);
                }
                Err(error) if is_full(&error) => {
                    return run.iter().for_each(|_| self.stats.dropped(DropReason::Backpressure));
                }
                Err(error) if segmented && sys::refuses_segments(&error) => {
                    one_by_one = true;
                    if let Some(relay) = self.relays.get_mut(key) {
                        relay.segmented = can_segment(&error);
                    }
                }
                // The error may be that of an earlier datagram to another peer. The failed call
                // has taken it off the socket, so this one is tried again at once: to drain the
                // error queue before that would put the next error in its place.
                Err(_) if retries > 0 => retries -= 1,
                Err(error) => {
                    tracing::trace!(%error, peer = %first.to, "sending failed");
                    self.stats.dropped(DropReason::SendFailed);
                    let refused = first.to;
                    (run, retries) = (&run[1..], SEND_RETRIES);
                    let mtu = self.drain_errors(key);
                    if error.raw_os_error() == Some(libc::EMSGSIZE) {
                        self.report(key, refused, too_big(refused, mtu));
                    }
                }
            }
        }
    }

    fn flush_to_clients(&mut self, index: usize) {
        let queue = std::mem::take(&mut self.outbox.to_clients[index]);
        let mut rest = queue.as_slice();
        let mut one_by_one = false;
        while !rest.is_empty() {
            let listener = &mut self.udp[index];
            let segmented = listener.segmented && !one_by_one;
            match self.batch.send(listener.socket.as_fd(), rest, segmented) {
                Ok(sent) => {
                    let (gone, left) = rest.split_at(sent);
                    gone.iter().for_each(|out| self.count_sent(Direction::ToClient, out));
                    (rest, one_by_one) = (left, false);
                }
                Err(error) if is_full(&error) => {
                    rest.iter().for_each(|_| self.stats.dropped(DropReason::Backpressure));
                    break;
                }
                Err(error) if segmented && sys::refuses_segments(&error) => {
                    one_by_one = true;
                    listener.segmented = can_segment(&error);
                }
                Err(_) => {
                    self.stats.dropped(DropReason::SendFailed);
                    rest = &rest[1..];
                }
            }
        }
        self.outbox.to_clients[index] = queue;
        self.outbox.to_clients[index].clear();
    }

    #[inline]
    fn count_sent(&self, direction: Direction, out: &Outgoing) {
        if let Some(bytes) = out.relayed {
            self.stats.relayed(direction, bytes as usize);
        }
    }
}

fn is_full(error: &io::Error) -> bool {
    error.kind() == ErrorKind::WouldBlock || matches!(error.raw_os_error(), Some(libc::ENOBUFS | libc::ENOMEM))
}

/// Whether a socket whose message of several datagrams was refused may try another: they did
/// not fit the link's MTU, or the error is an earlier datagram's. Without a checksum offload none
/// is ever taken apart.
fn can_segment(error: &io::Error) -> bool {
    error.raw_os_error() != Some(libc::EIO)
}

/// What a router would say about a datagram that this host refused to send.
fn too_big(peer: SocketAddr, mtu: u32) -> IcmpError {
    let (kind, code) = if peer.is_ipv4() { (3, 4) } else { (2, 0) };
    IcmpError { kind, code, error_value: mtu }
}
