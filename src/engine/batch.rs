//! The worker's buffers: datagrams lie in slots from the moment they arrive until they leave.
//!
//! A slot has room before the datagram, where a longer header is written in place, and room
//! behind it, where a control answer is. So nothing is copied and nothing is allocated for a
//! relayed packet, however it is framed on either side.

use super::sys::{Receiver, SEND_MAX, Transmitter};
use crate::turn::Framing;
use crate::wire::channel;
use crate::wire::padded;
use crate::wire::stun::{self, TransactionId};
use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::os::fd::BorrowedFd;

/// Slots of a worker: what one round receives before it sends.
pub const SLOTS: usize = 256;
/// Bytes before a datagram: the longest header that is put there, rounded up.
pub const HEADROOM: usize = 64;
/// Longest datagram or stream frame a slot takes, in bytes.
pub const CAPACITY: usize = 65_600;
/// Bytes behind the longest datagram: padding, and the longest control answer.
const TAILROOM: usize = 1_088;
/// Bytes of a slot: an odd number of cache lines, so that the headers of neighbouring slots do
/// not compete for the same lines.
const STRIDE: usize = HEADROOM + CAPACITY + TAILROOM;
const _: () = assert!(STRIDE.is_multiple_of(64) && (STRIDE / 64) % 2 == 1);
const _: () = assert!(HEADROOM >= stun::DATA_INDICATION_HEADER_MAX);

/// A part of a slot that waits to be sent.
#[derive(Clone, Copy, Debug)]
pub struct Outgoing {
    slot: u32,
    start: u32,
    end: u32,
    /// Where it goes.
    pub to: SocketAddr,
    /// Application bytes in it; `None` for an answer of the server.
    pub relayed: Option<u32>,
}

/// The slots, used in order within a round.
pub struct Batch {
    receiver: Receiver,
    transmitter: Transmitter,
    next: usize,
}

impl Batch {
    /// Empty slots.
    pub fn new() -> Self {
        Batch { receiver: Receiver::new(SLOTS, STRIDE, HEADROOM, CAPACITY), transmitter: Transmitter::new(), next: 0 }
    }

    /// Slots not used in this round.
    pub fn room(&self) -> usize {
        SLOTS - self.next
    }

    /// Begins a new round. What was in the slots has been sent.
    pub fn reset(&mut self) {
        self.next = 0;
    }

    /// Receives up to `count` datagrams into unused slots; there must be room. Returns the
    /// slots that were filled.
    pub fn recv(&mut self, socket: BorrowedFd<'_>, count: usize) -> io::Result<Range<usize>> {
        let first = self.next;
        let received = self.receiver.recv(socket, first, count)?;
        self.next = first + received;
        Ok(first..first + received)
    }

    /// Copies a message into an unused slot; there must be room. `None` if it is too long.
    pub fn place(&mut self, message: &[u8]) -> Option<usize> {
        let slot = self.next;
        let room = self.receiver.slot_mut(slot).get_mut(HEADROOM..HEADROOM + message.len().min(CAPACITY + 1))?;
        if message.len() > CAPACITY {
            return None;
        }
        room.copy_from_slice(message);
        self.next += 1;
        Some(slot)
    }

    /// Bytes received into a slot; `None` when the datagram was cut off.
    #[inline]
    pub fn datagram_len(&self, slot: usize) -> Option<usize> {
        self.receiver.datagram_len(slot)
    }

    /// Where a slot's datagram came from.
    #[inline]
    pub fn source(&self, slot: usize) -> Option<SocketAddr> {
        self.receiver.source(slot)
    }

    /// The message of `len` bytes in a slot, and the room behind it for an answer.
    #[inline]
    pub fn message_and_answer(&mut self, slot: usize, len: usize) -> (&[u8], &mut [u8]) {
        let (message, rest) = self.receiver.slot_mut(slot)[HEADROOM..].split_at_mut(len);
        // A little apart: the padding of a relayed payload may be written right behind it.
        (message, &mut rest[8..])
    }

    /// An answer of `answer_len` bytes behind a message of `len` bytes, ready to go.
    #[inline]
    pub fn answer(&self, slot: usize, len: usize, answer_len: usize, to: SocketAddr) -> Outgoing {
        self.outgoing(slot, HEADROOM + len + 8..HEADROOM + len + 8 + answer_len, to, None)
    }

    /// A part of a slot's message, ready to go. `payload` counts from the message's start.
    #[inline]
    pub fn payload(&self, slot: usize, payload: Range<usize>, to: SocketAddr) -> Outgoing {
        let len = payload.len();
        self.outgoing(slot, HEADROOM + payload.start..HEADROOM + payload.end, to, Some(len))
    }

    /// The bytes of a slot's message.
    #[inline]
    pub fn message(&self, slot: usize, range: Range<usize>) -> &[u8] {
        &self.receiver.slot(slot)[HEADROOM + range.start..HEADROOM + range.end]
    }

    /// Frames a payload in place for a client on UDP.
    #[inline]
    pub fn frame(
        &mut self,
        slot: usize,
        payload: Range<usize>,
        framing: Framing,
        id: TransactionId,
        to: SocketAddr,
    ) -> Outgoing {
        let bytes = self.receiver.slot_mut(slot);
        let (start, end) = (HEADROOM + payload.start, HEADROOM + payload.end);
        match framing {
            Framing::ChannelData(number) => {
                let header = channel::header(number, payload.len());
                bytes[start - header.len()..start].copy_from_slice(&header);
                self.outgoing(slot, start - header.len()..end, to, Some(payload.len()))
            }
            Framing::DataIndication(peer) => {
                let header_len = write_indication(bytes, start, payload.len(), peer.0, id);
                let padded_end = start + padded(payload.len());
                bytes[end..padded_end].fill(0);
                self.outgoing(slot, start - header_len..padded_end, to, Some(payload.len()))
            }
        }
    }

    #[inline]
    fn outgoing(&self, slot: usize, range: Range<usize>, to: SocketAddr, relayed: Option<usize>) -> Outgoing {
        let relayed = relayed.map(|len| len as u32);
        Outgoing { slot: slot as u32, start: range.start as u32, end: range.end as u32, to, relayed }
    }

    /// The bytes of a part.
    #[inline]
    pub fn bytes(&self, outgoing: &Outgoing) -> &[u8] {
        &self.receiver.slot(outgoing.slot as usize)[outgoing.start as usize..outgoing.end as usize]
    }

    /// Sends parts through one socket and returns how many went; at most [`SEND_MAX`] a call.
    /// An error is that of the first.
    pub fn send(&mut self, socket: BorrowedFd<'_>, parts: &[Outgoing]) -> io::Result<usize> {
        let parts = &parts[..parts.len().min(SEND_MAX)];
        let receiver = &self.receiver;
        let messages = parts.iter().map(|part| {
            let bytes = &receiver.slot(part.slot as usize)[part.start as usize..part.end as usize];
            (bytes, part.to)
        });
        self.transmitter.send(socket, messages)
    }
}

fn write_indication(bytes: &mut [u8], start: usize, len: usize, peer: SocketAddr, id: TransactionId) -> usize {
    let at = start - stun::DATA_INDICATION_HEADER_MAX;
    if let Some(headroom) = bytes[at..].first_chunk_mut() {
        stun::data_indication_header(headroom, peer, len, id);
    }
    stun::data_indication_header_len(peer)
}
