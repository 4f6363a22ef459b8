//! The worker's buffers: datagrams lie in slots from the moment they arrive until they leave.
//!
//! A slot has room before the datagram, where a longer header is written in place. Several
//! datagrams of one sender may lie in one slot, one behind the other (UDP_GRO): a header that
//! has no room there is kept aside and gathered when the datagram is sent. So nothing is copied
//! and nothing is allocated for a relayed packet, however it arrived and however it is framed.

use crate::sys::{Datagram, Receiver, Transmitter};
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
/// Bytes behind the longest datagram: padding.
const TAILROOM: usize = 64;
/// Bytes of a slot: an odd number of cache lines, so that the headers of neighbouring slots do
/// not compete for the same lines.
const STRIDE: usize = HEADROOM + CAPACITY + TAILROOM;
const _: () = assert!(STRIDE.is_multiple_of(64) && (STRIDE / 64) % 2 == 1);
const _: () = assert!(HEADROOM >= stun::DATA_INDICATION_HEADER_MAX);

/// Longest control answer, in bytes.
const ANSWER_MAX: usize = 1_080;
/// Bytes for the control answers of a round: hundreds of usual ones.
const ANSWERS: usize = 128 << 10;
/// The slot number of what lies among the answers.
const NO_SLOT: u32 = u32::MAX;

/// A datagram where it lies: a slot, its bytes in it, and what around them is its own to write.
#[derive(Clone, Debug)]
pub struct Cell {
    slot: usize,
    message: Range<usize>,
    own: Range<usize>,
}

impl Cell {
    /// Bytes of the datagram.
    #[inline]
    pub fn len(&self) -> usize {
        self.message.len()
    }

    #[inline]
    fn place(&self, part: Range<usize>) -> Range<usize> {
        self.message.start + part.start..self.message.start + part.end
    }
}

/// Datagrams of a slot.
#[derive(Clone, Debug)]
pub struct Cells {
    slot: usize,
    len: usize,
    segment: usize,
    next: usize,
}

impl Iterator for Cells {
    type Item = Cell;

    #[inline]
    fn next(&mut self) -> Option<Cell> {
        let start = self.next;
        if start > self.len || (start == self.len && start > 0) {
            return None; // one datagram may be empty; of several none is
        }
        let end = self.len.min(start + self.segment);
        self.next = end.max(start + 1);
        let message = HEADROOM + start..HEADROOM + end;
        let own = if end - start == self.len { 0..STRIDE } else { message.clone() };
        Some(Cell { slot: self.slot, message, own })
    }
}

/// How much to ask of a socket at a time: one datagram, and more when it is ready again in the
/// very next round. To ask for what has not come yet costs a part of a system call, and the first
/// packet waits for it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Appetite {
    round: u64,
    wanted: usize,
}

impl Appetite {
    /// Slots to ask for in this round, `max` at most.
    #[inline]
    pub fn ask(&mut self, round: u64, max: usize) -> usize {
        self.wanted = if self.round + 1 == round { (self.wanted * 4).clamp(1, max) } else { 1 };
        self.round = round;
        self.wanted
    }

    /// Asks for less again: each slot brought many datagrams.
    pub fn curb(&mut self) {
        self.wanted = 2;
    }
}

/// Something that waits to be sent.
#[derive(Clone, Copy, Debug)]
pub struct Outgoing {
    slot: u32,
    start: u32,
    end: u32,
    /// Place of its header among those kept aside, plus one; 0 for none.
    head: u32,
    /// Where it goes.
    pub to: SocketAddr,
    /// Application bytes in it; `None` for an answer of the server.
    pub relayed: Option<u32>,
}

/// A header that has no room before its payload.
#[derive(Clone, Copy)]
struct Head {
    bytes: [u8; stun::DATA_INDICATION_HEADER_MAX],
    len: u8,
    /// Zero bytes behind the payload.
    padding: u8,
}

/// The slots, used in order within a round.
pub struct Batch {
    receiver: Receiver,
    transmitter: Transmitter,
    next: usize,
    heads: Vec<Head>,
    answers: Box<[u8]>,
    answered: usize,
}

impl Batch {
    /// Empty slots.
    pub fn new() -> Self {
        Batch {
            receiver: Receiver::new(SLOTS, STRIDE, HEADROOM, CAPACITY),
            transmitter: Transmitter::new(),
            next: 0,
            heads: Vec::new(),
            answers: vec![0; ANSWERS].into_boxed_slice(),
            answered: 0,
        }
    }

    /// Slots not used in this round.
    pub fn room(&self) -> usize {
        SLOTS - self.next
    }

    /// Whether one more answer has room.
    #[inline]
    pub fn has_answer_room(&self) -> bool {
        ANSWERS - self.answered >= ANSWER_MAX
    }

    /// Begins a new round. What was in the slots has been sent.
    pub fn reset(&mut self) {
        self.next = 0;
        self.forget_sent();
    }

    /// Forgets answers and headers: nothing that waits is made of them any more.
    pub fn forget_sent(&mut self) {
        self.heads.clear();
        self.answered = 0;
    }

    /// Receives up to `count` slots full into unused ones; there must be room. Returns the
    /// slots that were filled.
    pub fn recv(&mut self, socket: BorrowedFd<'_>, count: usize) -> io::Result<Range<usize>> {
        let first = self.next;
        let received = self.receiver.recv(socket, first, count)?;
        self.next = first + received;
        Ok(first..first + received)
    }

    /// Copies a message into an unused slot; there must be room. `None` if it is too long.
    pub fn place(&mut self, message: &[u8]) -> Option<Cell> {
        let slot = self.next;
        if message.len() > CAPACITY {
            return None;
        }
        self.receiver.slot_mut(slot)[HEADROOM..HEADROOM + message.len()].copy_from_slice(message);
        self.next += 1;
        Some(Cell { slot, message: HEADROOM..HEADROOM + message.len(), own: 0..STRIDE })
    }

    /// The datagrams received into a slot; `None` when the last was cut off.
    #[inline]
    pub fn cells(&self, slot: usize) -> Option<Cells> {
        let len = self.receiver.datagram_len(slot)?;
        Some(Cells { slot, len, segment: self.receiver.segment_len(slot), next: 0 })
    }

    /// Where a slot's datagrams came from.
    #[inline]
    pub fn source(&self, slot: usize) -> Option<SocketAddr> {
        self.receiver.source(slot)
    }

    /// A message, and room for an answer to it.
    #[inline]
    pub fn message_and_answer(&mut self, cell: &Cell) -> (&[u8], &mut [u8]) {
        let answer = &mut self.answers[self.answered..];
        let len = answer.len().min(ANSWER_MAX);
        (&self.receiver.slot(cell.slot)[cell.message.clone()], &mut answer[..len])
    }

    /// Keeps the `len` bytes just written as an answer, ready to go.
    #[inline]
    pub fn answer(&mut self, len: usize, to: SocketAddr) -> Outgoing {
        let range = self.answered..self.answered + len;
        self.answered = range.end;
        Outgoing { slot: NO_SLOT, start: range.start as u32, end: range.end as u32, head: 0, to, relayed: None }
    }

    /// A part of a message, ready to go.
    #[inline]
    pub fn payload(&self, cell: &Cell, payload: Range<usize>, to: SocketAddr) -> Outgoing {
        let len = payload.len();
        outgoing(cell, cell.place(payload), len, to)
    }

    /// The bytes of a part of a message.
    #[inline]
    pub fn message(&self, cell: &Cell, part: Range<usize>) -> &[u8] {
        &self.receiver.slot(cell.slot)[cell.place(part)]
    }

    /// Frames a payload for a client on UDP.
    #[inline]
    pub fn frame(
        &mut self,
        cell: &Cell,
        payload: Range<usize>,
        framing: Framing,
        id: TransactionId,
        to: SocketAddr,
    ) -> Outgoing {
        let len = payload.len();
        let Range { start, end } = cell.place(payload);
        let (header_len, padded_end) = match framing {
            Framing::ChannelData(_) => (channel::HEADER_LEN, end),
            Framing::DataIndication(peer) => (stun::data_indication_header_len(peer.0), start + padded(len)),
        };
        if start < cell.own.start + header_len || padded_end > cell.own.end {
            let head = self.keep_head(framing, id, len, padded_end - end);
            return Outgoing { head, ..outgoing(cell, start..end, len, to) };
        }
        let bytes = self.receiver.slot_mut(cell.slot);
        write_head(&mut bytes[start - header_len..start], framing, id, len);
        bytes[end..padded_end].fill(0);
        outgoing(cell, start - header_len..padded_end, len, to)
    }

    fn keep_head(&mut self, framing: Framing, id: TransactionId, len: usize, padding: usize) -> u32 {
        let mut head = Head { bytes: [0; stun::DATA_INDICATION_HEADER_MAX], len: 0, padding: padding as u8 };
        let header_len = match framing {
            Framing::ChannelData(_) => channel::HEADER_LEN,
            Framing::DataIndication(peer) => stun::data_indication_header_len(peer.0),
        };
        write_head(&mut head.bytes[..header_len], framing, id, len);
        head.len = header_len as u8;
        self.heads.push(head);
        self.heads.len() as u32
    }

    /// The bytes of what waits, in up to three pieces.
    #[inline]
    pub fn pieces(&self, outgoing: &Outgoing) -> [&[u8]; 3] {
        pieces(&self.receiver, &self.heads, &self.answers, outgoing)
    }

    /// Sends what waits through one socket and returns how many went, `segmented` or not
    /// (see [`Transmitter::send`]). An error is that of the first message.
    #[inline]
    pub fn send(&mut self, socket: BorrowedFd<'_>, waiting: &[Outgoing], segmented: bool) -> io::Result<usize> {
        let Batch { receiver, transmitter, heads, answers, .. } = self;
        let datagrams =
            waiting.iter().map(|out| Datagram { to: Some(out.to), parts: pieces(receiver, heads, answers, out) });
        transmitter.send(socket, segmented, datagrams)
    }
}

#[inline]
fn outgoing(cell: &Cell, range: Range<usize>, relayed: usize, to: SocketAddr) -> Outgoing {
    let (start, end) = (range.start as u32, range.end as u32);
    Outgoing { slot: cell.slot as u32, start, end, head: 0, to, relayed: Some(relayed as u32) }
}

#[inline]
fn pieces<'a>(receiver: &'a Receiver, heads: &'a [Head], answers: &'a [u8], out: &Outgoing) -> [&'a [u8]; 3] {
    const ZEROS: [u8; 3] = [0; 3];
    let range = out.start as usize..out.end as usize;
    if out.slot == NO_SLOT {
        return [&answers[range], &[], &[]];
    }
    let body = &receiver.slot(out.slot as usize)[range];
    match (out.head as usize).checked_sub(1) {
        None => [body, &[], &[]],
        Some(head) => {
            let head = &heads[head];
            [&head.bytes[..usize::from(head.len)], body, &ZEROS[..usize::from(head.padding)]]
        }
    }
}

/// Writes the header that `out` is just long enough for.
fn write_head(out: &mut [u8], framing: Framing, id: TransactionId, len: usize) {
    match framing {
        Framing::ChannelData(number) => out.copy_from_slice(&channel::header(number, len)),
        Framing::DataIndication(peer) => {
            let mut header = [0; stun::DATA_INDICATION_HEADER_MAX];
            stun::data_indication_header(&mut header, peer.0, len, id);
            out.copy_from_slice(&header[stun::DATA_INDICATION_HEADER_MAX - out.len()..]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::turn::PeerAddr;
    use crate::wire::channel::{ChannelNumber, ChannelRange};

    const TO: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9);

    fn ranges(len: usize, segment: usize) -> Vec<(usize, usize)> {
        let cells = Cells { slot: 0, len, segment, next: 0 };
        cells.map(|cell| (cell.message.start - HEADROOM, cell.message.end - HEADROOM)).collect()
    }

    #[test]
    fn a_slot_comes_apart_into_its_datagrams() {
        assert_eq!(ranges(0, 0), [(0, 0)], "an empty datagram is one");
        assert_eq!(ranges(5, 5), [(0, 5)]);
        assert_eq!(ranges(10, 5), [(0, 5), (5, 10)]);
        assert_eq!(ranges(11, 5), [(0, 5), (5, 10), (10, 11)]);
    }

    #[test]
    fn more_is_asked_of_a_socket_that_is_ready_again_at_once() {
        let mut appetite = Appetite::default();
        assert_eq!(Appetite::default().ask(1, 64), 1, "also in the first round of all");
        let asked: Vec<_> = [5, 6, 7, 8, 9, 11].map(|round| appetite.ask(round, 64)).into();
        assert_eq!(asked, [1, 4, 16, 64, 64, 1]);
        assert_eq!((appetite.ask(12, 64), appetite.ask(13, 64)), (4, 16));
        appetite.curb();
        assert_eq!(appetite.ask(14, 64), 8);
    }

    #[test]
    fn headers_go_where_they_overwrite_no_neighbour() {
        let mut batch = Batch::new();
        let peer = Framing::DataIndication(PeerAddr(TO));
        let channel = Framing::ChannelData(ChannelNumber::new(0x4001, ChannelRange::Rfc8656).unwrap());
        let alone = batch.place(b"abcde").unwrap();
        let neighbours = Cells { slot: alone.slot, len: 5, segment: 3, next: 0 };
        let id = TransactionId([7; 12]);
        for framing in [channel, peer] {
            let [first, second] = neighbours.clone().collect::<Vec<_>>().try_into().unwrap();
            let framed = [batch.frame(&first, 0..3, framing, id, TO), batch.frame(&second, 0..2, framing, id, TO)];
            let aside = framed.map(|out| batch.pieces(&out).concat());
            assert_eq!(batch.message(&alone, 0..5), b"abcde", "nothing in the slot was touched");
            let places = [batch.place(b"abc").unwrap(), batch.place(b"de").unwrap()];
            let in_place =
                [batch.frame(&places[0], 0..3, framing, id, TO), batch.frame(&places[1], 0..2, framing, id, TO)];
            assert!(in_place.iter().all(|out| out.head == 0) && framed.iter().all(|out| out.head > 0));
            assert_eq!(aside, in_place.map(|out| batch.pieces(&out).concat()));
        }
    }

    #[test]
    fn a_channel_header_takes_the_place_of_the_one_that_came() {
        let mut batch = Batch::new();
        let came = batch.place(b"\x40\x00\x00\x03abc!\x40\x00\x00\x03def!").unwrap();
        let channel = Framing::ChannelData(ChannelNumber::new(0x4001, ChannelRange::Rfc8656).unwrap());
        let cells = Cells { slot: came.slot, len: 16, segment: 8, next: 0 };
        let framed =
            cells.map(|cell| batch.frame(&cell, 4..7, channel, TransactionId([0; 12]), TO)).collect::<Vec<_>>();
        assert!(framed.iter().all(|out| out.head == 0));
        assert_eq!(batch.pieces(&framed[1]).concat(), b"\x40\x01\x00\x03def");
        assert_eq!(batch.pieces(&framed[0]).concat(), b"\x40\x01\x00\x03abc");
    }
}
