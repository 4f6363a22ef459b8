//! Packets through a relay and back to this host: round trips, loss, and the longest payload.

use super::desk::{Desk, MESSAGES_AT_ONCE};
use super::report::{Between, Mtu, Percentiles, RoundTrips, millis};
use super::words::Fault;
use crate::load::client::Client;
use crate::load::histogram::Histogram;
use crate::load::link::{Link, has_no_room, is_later};
use crate::load::payload::{Leg, Pattern, Stamp};
use crate::load::{Via, frame};
use crate::sys::{self, Fragmentation};
use mio::net::UdpSocket;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

/// Payload of a packet, in bytes: as long as voice.
const PAYLOAD_LEN: usize = 160;
/// From one packet to the next, as with voice.
const GAP: Duration = Duration::from_millis(20);
/// How long the last packets are waited for.
const TAIL: Duration = Duration::from_secs(1);
/// Payloads between which the longest is looked for, in bytes.
const PAYLOAD_BOUNDS: (usize, usize) = (500, 1500);
/// How often a payload is sent before it is taken for too long.
const PAYLOAD_TRIES: u32 = 3;
/// How long each is waited for at least and at most.
const PAYLOAD_WAIT: (Duration, Duration) = (Duration::from_millis(100), Duration::from_millis(600));

/// An end of the way through the relay.
pub enum End {
    /// A client that sends to its peer through its allocation.
    Client(Box<Client>, Via),
    /// A socket that sends to a relayed address.
    Socket(UdpSocket, SocketAddr),
}

impl End {
    /// Sends a payload to the other end; false when there is no room for it now.
    fn send(&mut self, payload: &[u8], desk: &mut Desk<'_>) -> io::Result<bool> {
        match self {
            End::Client(client, via) => {
                let mut message = frame::head(*via, client.peer, payload.len(), &mut desk.rng)?;
                let head_len = message.len();
                message.extend_from_slice(payload);
                message.resize(head_len + frame::body_len(*via, payload.len()), 0);
                client.link.send(&message)
            }
            End::Socket(socket, relayed) => match socket.send_to(payload, *relayed) {
                Ok(_) => Ok(true),
                Err(error) if has_no_room(&error) => Ok(false),
                Err(error) => Err(error),
            },
        }
    }

    /// The next payload that has come and where it is in the desk's room; `None` when none is among the messages that
    /// may still be read.
    fn receive(&mut self, desk: &mut Desk<'_>, left: &mut usize) -> io::Result<Option<std::ops::Range<usize>>> {
        while *left > 0 {
            *left -= 1;
            match self {
                End::Client(client, via) => {
                    let Some(len) = client.link.receive(&mut desk.room)? else { return Ok(None) };
                    if let Some(range) = frame::unframe(&desk.room[..len], *via, client.peer) {
                        return Ok(Some(range));
                    }
                }
                End::Socket(socket, relayed) => match socket.recv_from(&mut desk.room) {
                    Ok((len, from)) if from == *relayed => return Ok(Some(0..len)),
                    Ok(_) => {}
                    Err(error) if is_later(&error) => return Ok(None),
                    Err(error) => return Err(error),
                },
            }
        }
        Ok(None)
    }

    /// Its client, if it has one.
    pub fn into_client(self) -> Option<Client> {
        match self {
            End::Client(client, _) => Some(*client),
            End::Socket(..) => None,
        }
    }
}

/// The two ends of a way through the relay.
pub struct Course {
    ends: [End; 2],
    pattern: Pattern,
    seq: u64,
}

impl Course {
    /// A way between two ends that can send to each other.
    pub fn new(ends: [End; 2], desk: &mut Desk<'_>) -> Self {
        Course { ends, pattern: Pattern::new(desk.rng.next_u64() as u32), seq: 0 }
    }

    /// Its ends.
    pub fn into_ends(self) -> [End; 2] {
        self.ends
    }

    fn between(&self) -> Between {
        if self.ends.iter().any(|end| matches!(end, End::Socket(..))) { Between::Socket } else { Between::Allocations }
    }

    /// Sends the next packet from an end; false when it could not leave.
    fn send(&mut self, from: usize, len: usize, desk: &mut Desk<'_>) -> io::Result<bool> {
        let mut payload = vec![0; len];
        let stamp = Stamp { flow: from as u32, seq: self.seq, sent_ns: desk.now_ns(), leg: Leg::Out };
        self.pattern.fill(&mut payload, stamp);
        self.seq += 1;
        self.ends[from].send(&payload, desk)
    }

    /// The next packet that came whole at the end it was sent to, of this length, among the messages that may still be
    /// read at each end.
    fn receive(&mut self, len: usize, desk: &mut Desk<'_>, left: &mut [usize; 2]) -> io::Result<Option<Stamp>> {
        for (at, left) in left.iter_mut().enumerate() {
            while let Some(range) = self.ends[at].receive(desk, left)? {
                let stamp = self.pattern.check(&desk.room[range], len);
                if let Some(stamp) = stamp.filter(|stamp| stamp.flow as usize == 1 - at) {
                    return Ok(Some(stamp));
                }
            }
        }
        Ok(None)
    }

    /// Sends packets from both ends by turns and counts those that come to the other.
    pub fn round_trips(&mut self, packets: u32, desk: &mut Desk<'_>) -> Result<RoundTrips, Fault> {
        let (first, began) = (self.seq, Instant::now());
        let mut came = vec![false; packets as usize];
        let (mut took, mut received, mut sent) = (Histogram::default(), 0, 0);
        let end = GAP * packets + TAIL.min(desk.timeout);
        while received < packets && began.elapsed() < end {
            desk.go_on()?;
            while sent < packets && began.elapsed() >= GAP * sent {
                self.send(sent as usize % 2, PAYLOAD_LEN, desk)?;
                sent += 1;
            }
            let mut left = [MESSAGES_AT_ONCE; 2];
            while let Some(stamp) = self.receive(PAYLOAD_LEN, desk, &mut left)? {
                let seen = stamp.seq.checked_sub(first).and_then(|at| came.get_mut(at as usize));
                if seen.is_some_and(|seen| !std::mem::replace(seen, true)) {
                    received += 1;
                    took.add(desk.now_ns().saturating_sub(stamp.sent_ns));
                }
            }
            let next = if sent < packets { GAP * sent } else { end };
            desk.rest(next.saturating_sub(began.elapsed()).min(GAP))?;
        }
        let ms = |ns| millis(Duration::from_nanos(ns));
        let percentile = |share| took.percentile(share).map(ms);
        let rtt_ms = (|| {
            let (p50, p95, p99) = (percentile(0.5)?, percentile(0.95)?, percentile(0.99)?);
            Some(Percentiles { p50, p95, p99, max: ms(took.max()) })
        })();
        let loss = f64::from(packets - received) / f64::from(packets);
        let rtt_ms = rtt_ms.filter(|_| received > 0);
        Ok(RoundTrips { between: self.between(), sent: packets, received, loss, rtt_ms })
    }

    /// The longest payload that comes from the first end to the second, where packets take so long; `None` when not
    /// even the shortest does.
    pub fn longest(&mut self, rtt: Duration, desk: &mut Desk<'_>) -> Result<Option<Mtu>, Fault> {
        let unfragmented = self.forbid_fragments();
        let wait = (rtt * 3).clamp(PAYLOAD_WAIT.0, PAYLOAD_WAIT.1);
        let found = longest(PAYLOAD_BOUNDS, |len| self.comes(len, wait, desk))?;
        let at_least = found == Some(PAYLOAD_BOUNDS.1);
        Ok(found.map(|payload_bytes| Mtu { payload_bytes, at_least, unfragmented }))
    }

    /// Has the first end's datagrams stay whole on their way to the server; whether this host can.
    fn forbid_fragments(&mut self) -> bool {
        let End::Client(client, _) = &self.ends[0] else { return false };
        let Link::Datagrams(socket) = &client.link else { return false };
        let is_v6 = socket.local_addr().is_ok_and(|addr| addr.is_ipv6());
        sys::set_fragmentation(socket.as_fd(), is_v6, Fragmentation::Forbidden).is_ok()
    }

    fn comes(&mut self, len: usize, wait: Duration, desk: &mut Desk<'_>) -> Result<bool, Fault> {
        for _ in 0..PAYLOAD_TRIES {
            match self.send(0, len, desk) {
                Err(error) if error.raw_os_error() == Some(libc::EMSGSIZE) => return Ok(false),
                sent => _ = sent?,
            }
            let sent = Instant::now();
            while sent.elapsed() < wait {
                desk.go_on()?;
                if self.receive(len, desk, &mut [MESSAGES_AT_ONCE; 2])?.is_some() {
                    return Ok(true);
                }
                desk.rest(wait.saturating_sub(sent.elapsed()).min(GAP))?;
            }
        }
        Ok(false)
    }
}

/// The longest length within bounds that comes through, if the shortest does. Pure but for `comes`.
fn longest<E>(bounds: (usize, usize), mut comes: impl FnMut(usize) -> Result<bool, E>) -> Result<Option<usize>, E> {
    let (mut good, mut bad) = bounds;
    if comes(bad)? {
        return Ok(Some(bad));
    }
    if !comes(good)? {
        return Ok(None);
    }
    while bad - good > 1 {
        let middle = good + (bad - good) / 2;
        if comes(middle)? {
            good = middle;
        } else {
            bad = middle;
        }
    }
    Ok(Some(good))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_payload_is_found_to_a_byte() {
        for limit in [500, 501, 1199, 1200, 1468, 1499] {
            let mut asked = 0;
            let found = longest(PAYLOAD_BOUNDS, |len| {
                asked += 1;
                Ok::<_, ()>(len <= limit)
            });
            assert_eq!(found, Ok(Some(limit)));
            assert!(asked <= 12, "{asked}");
        }
        assert_eq!(longest(PAYLOAD_BOUNDS, |len| Ok::<_, ()>(len <= 499)), Ok(None));
        assert_eq!(longest(PAYLOAD_BOUNDS, |_| Ok::<_, ()>(true)), Ok(Some(1500)));
        assert_eq!(longest(PAYLOAD_BOUNDS, |_| Err::<bool, _>("gone")), Err("gone"));
    }
}
