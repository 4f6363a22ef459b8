//! Datagrams in batches: many a system call in both directions, and super-packets where the kernel makes them.

use super::link::{has_no_room, is_later};
use crate::sys::{self, Datagram, Receiver, Transmitter};
use mio::net::UdpSocket;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;

/// Messages read at once, at most.
pub const SLOTS: usize = 64;
/// The longest message: a super-packet is no longer than a datagram may be.
const MESSAGE_LEN_MAX: usize = 1 << 16;
/// From one slot to the next: not a power of two, or all would want the same lines of the cache.
const STRIDE: usize = MESSAGE_LEN_MAX + 320;

/// What has come, until the next is read.
pub struct Inbox(Receiver);

impl Default for Inbox {
    /// Room for [`SLOTS`] messages; memory is used as far as they reach.
    fn default() -> Self {
        Inbox(Receiver::new(SLOTS, STRIDE, 0, MESSAGE_LEN_MAX))
    }
}

impl Inbox {
    /// Reads up to `count` messages and says how many came; fewer mean that the socket is empty.
    #[inline]
    pub fn read(&mut self, socket: &UdpSocket, count: usize) -> io::Result<usize> {
        match self.0.recv(socket.as_fd(), 0, count.min(SLOTS)) {
            Err(error) if is_later(&error) => Ok(0),
            result => result,
        }
    }

    /// The bytes of a message.
    #[inline]
    pub fn bytes(&self, slot: usize) -> &[u8] {
        &self.0.slot(slot)[..self.0.datagram_len(slot).unwrap_or(0)]
    }

    /// The datagrams of a message: several of one sender where the kernel has put them together.
    #[inline]
    pub fn datagrams(&self, slot: usize) -> impl Iterator<Item = &[u8]> {
        self.bytes(slot).chunks(self.0.segment_len(slot).max(1))
    }

    /// Where a message came from.
    #[inline]
    pub fn source(&self, slot: usize) -> Option<SocketAddr> {
        self.0.source(slot)
    }
}

/// The way out of a thread's datagrams.
pub struct Outbox {
    transmitter: Transmitter,
    segmented: bool,
    is_refused: bool,
}

impl Outbox {
    /// With `segmented`, datagrams of one length to one place leave as super-packets until the kernel refuses one.
    pub fn new(segmented: bool) -> Self {
        Outbox { transmitter: Transmitter::new(), segmented, is_refused: false }
    }

    /// Whether the kernel has refused a super-packet.
    pub fn refuses_segments(&self) -> bool {
        self.is_refused
    }

    /// Sends datagrams and says how many left before there was no more room.
    #[inline]
    pub fn send<'a>(
        &mut self,
        socket: &UdpSocket,
        datagrams: impl Iterator<Item = Datagram<'a>> + Clone,
    ) -> io::Result<usize> {
        let mut sent = 0;
        loop {
            match self.transmitter.send(socket.as_fd(), self.segmented, datagrams.clone().skip(sent)) {
                Ok(0) => return Ok(sent),
                Ok(count) => sent += count,
                Err(error) if has_no_room(&error) => return Ok(sent),
                Err(error) if self.segmented && sys::refuses_segments(&error) => {
                    (self.segmented, self.is_refused) = (false, true);
                }
                Err(error) => return Err(error),
            }
        }
    }
}

/// Has the kernel put datagrams of one sender together before they are read; one that can not goes on as before.
pub fn receive_together(socket: &UdpSocket) {
    let _ = sys::enable_gro(socket.as_fd());
}

/// A datagram of one piece.
#[inline]
pub fn datagram(to: Option<SocketAddr>, bytes: &[u8]) -> Datagram<'_> {
    Datagram { to, parts: [bytes, &[], &[]] }
}
