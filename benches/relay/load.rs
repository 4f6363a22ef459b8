//! Packets through the relay: paced or flat-out, every one checked at every end.

use crate::client::{self, Client, Step, channel, transaction_id};
use crate::ledger::Ledger;
use crate::report::Sample;
use crate::scenario::{Framing, Pace, Path, Relay};
use crate::stage::Stage;
use mio::net::UdpSocket;
use mio::{Events, Interest, Token};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Range;
use turnpike::load::payload::{self, Stamp};
use turnpike::wire::attribute;
use turnpike::wire::channel::{self as channel_frame, ChannelData, ChannelRange};
use turnpike::wire::stun::{Class, Message, Method, TransactionId, Writer};

/// The echo's token; no client has it.
const ECHO: Token = Token(usize::MAX);
/// Time before the window opens, in nanoseconds.
const WARM_UP_NS: u64 = 500_000_000;
/// How long packets under way are waited for at the end, in nanoseconds.
const DRAIN_NS: u64 = 500_000_000;
/// After this time a closed loop sends another packet for one that has not come back.
const PATIENCE_NS: u64 = 100_000_000;
/// A packet sent so long after its time counts as late, in nanoseconds.
const LATE_NS: u64 = 1_000_000;
/// Most packets sent, and most echoed, before the other sockets get their turn.
const BURST_MAX: usize = 64;

/// Runs a scenario on a fresh server and says what it took.
pub fn run(stage: &mut Stage<'_>, relay: &Relay, seconds: f64) -> io::Result<Sample> {
    let mut load = Load::set_up(stage, relay)?;
    load.drive(stage, WARM_UP_NS, true)?;
    load.ledger.open_window();
    (load.delivered, load.sent, load.late) = (0, 0, 0);
    let mark = stage.mark()?;
    load.drive(stage, (seconds * 1e9) as u64, true)?;
    let window = stage.since(mark)?;
    let (delivered, late) = (load.delivered, load.late as f64 / load.sent.max(1) as f64);
    load.ledger.close_window();
    load.drive(stage, DRAIN_NS, false)?;
    if load.wrong > 0 {
        let what = load.first_wrong.unwrap_or_default();
        return Err(io::Error::other(format!("{} corrupted packets; the first: {what}", load.wrong)));
    }
    if delivered == 0 {
        return Err(io::Error::other("nothing was delivered"));
    }
    let percentiles = load.ledger.percentiles_ns([0.5, 0.99]);
    Ok(Sample {
        loss: Some(load.ledger.loss()),
        late: matches!(relay.pace, Pace::PerSecond(_)).then_some(late),
        p50_us: percentiles.map(|[p50, _]| p50 as f64 / 1e3),
        p99_us: percentiles.map(|[_, p99]| p99 as f64 / 1e3),
        ..Sample::of(&window, delivered, 1.0)
    })
}

/// A client with an allocation.
struct Flow {
    client: Client,
    /// Packets sent toward this client and not read yet, lost ones included: at 0 there is
    /// nothing in its socket, and the read that would say so is saved.
    expected: i64,
}

struct Load<'a> {
    relay: &'a Relay,
    flows: Vec<Flow>,
    /// The peer of every client: returns what it gets to where it came from.
    echo: Option<UdpSocket>,
    echo_ready: bool,
    /// The frame on its way out: the framing never changes, the payload does.
    frame: Vec<u8>,
    payload_at: usize,
    buffer: Vec<u8>,
    /// What tells this run's packets from any other's.
    tag: u32,
    ledger: Ledger,
    /// When the next packet is due, in nanoseconds; a fraction, so that no rounding adds up.
    due_ns: f64,
    /// Packets the relay has handed on: a round trip through the echo is two.
    delivered: u64,
    sent: u64,
    late: u64,
    wrong: u64,
    first_wrong: Option<String>,
}

impl<'a> Load<'a> {
    fn set_up(stage: &mut Stage<'_>, relay: &'a Relay) -> io::Result<Self> {
        let mut echo = client::socket(SocketAddr::new(Ipv4Addr::new(127, 0, 0, 2).into(), 0))?;
        let peer = echo.local_addr()?;
        let mut clients = stage.allocate(relay.allocations, peer)?;
        if relay.path == Path::Pair {
            let relayed: Vec<_> = clients.iter().map(|client| client.relayed).collect();
            for (i, client) in clients.iter_mut().enumerate() {
                client.peer = relayed[partner(i)];
            }
        }
        let (steps, head): (&[Step], _) = match relay.framing {
            Framing::Channel => {
                (&[Step::Permit, Step::Bind], channel_frame::header(channel(), relay.payload_len).to_vec())
            }
            Framing::Indication => (&[Step::Permit], send_indication(peer, relay.payload_len)?),
        };
        stage.walk(&mut clients, steps)?;
        let echo = match relay.path {
            Path::Echo => {
                stage.poll.registry().register(&mut echo, ECHO, Interest::READABLE)?;
                Some(echo)
            }
            Path::Pair => None,
        };
        let mut frame = head.clone();
        frame.resize(head.len() + relay.payload_len, 0);
        Ok(Load {
            relay,
            flows: clients.into_iter().map(|client| Flow { client, expected: 0 }).collect(),
            echo,
            echo_ready: false,
            frame,
            payload_at: head.len(),
            buffer: vec![0; 2048],
            tag: stage.rng.next_u64() as u32,
            ledger: Ledger::default(),
            due_ns: stage.now_ns() as f64,
            delivered: 0,
            sent: 0,
            late: 0,
            wrong: 0,
            first_wrong: None,
        })
    }

    /// Relays for `span_ns`; without `sending` only until nothing is under way.
    fn drive(&mut self, stage: &mut Stage<'_>, span_ns: u64, sending: bool) -> io::Result<()> {
        let mut events = Events::with_capacity(1024);
        let end_ns = stage.now_ns() + span_ns;
        loop {
            let now = stage.now_ns();
            if now > end_ns || (!sending && self.ledger.under_way() == 0) {
                return Ok(());
            }
            let sent = sending && self.send_due(stage, now)?;
            stage.look(&mut events)?;
            for token in events.iter().map(|event| event.token()) {
                match token {
                    ECHO => self.echo_ready = true,
                    Token(flow) => self.receive(stage, flow)?,
                }
            }
            if !sent && events.is_empty() && !self.echo_ready {
                stage.idle(now);
            }
            if self.echo_ready {
                self.return_echoes()?;
            }
        }
    }

    /// Sends what is due; whether anything was.
    fn send_due(&mut self, stage: &mut Stage<'_>, now: u64) -> io::Result<bool> {
        let before = self.sent;
        match self.relay.pace {
            Pace::PerSecond(relayed) => {
                let mean_ns = 1e9 * f64::from(self.relay.path.relayed_per_packet()) / f64::from(relayed);
                while self.due_ns <= now as f64 && self.sent - before < BURST_MAX as u64 {
                    self.late += u64::from(now as f64 - self.due_ns > LATE_NS as f64);
                    self.due_ns += stage.rng.gap_ns(mean_ns);
                    self.send(stage)?;
                }
            }
            Pace::InFlight(limit) => {
                self.ledger.give_up(now.saturating_sub(PATIENCE_NS));
                while self.ledger.under_way() < limit {
                    self.send(stage)?;
                }
            }
        }
        Ok(self.sent > before)
    }

    /// Sends one packet on a random flow.
    fn send(&mut self, stage: &mut Stage<'_>) -> io::Result<()> {
        let from = stage.rng.below(self.flows.len());
        let sent_ns = stage.now_ns();
        let stamp = Stamp { flow: from as u32, seq: self.ledger.depart(sent_ns), sent_ns };
        payload::fill(&mut self.frame[self.payload_at..], self.tag, stamp);
        if self.relay.framing == Framing::Indication {
            self.frame[8..20].copy_from_slice(&transaction_id(&mut stage.rng).0);
        }
        self.sent += 1;
        let to = self.destination(from);
        self.flows[to].expected += 1;
        self.flows[from].client.socket.send(&self.frame)?;
        Ok(())
    }

    /// The flow on which a packet sent on `from` comes out.
    fn destination(&self, from: usize) -> usize {
        match self.relay.path {
            Path::Echo => from,
            Path::Pair => partner(from),
        }
    }

    /// Reads what the relay has brought to a client.
    fn receive(&mut self, stage: &Stage<'_>, at: usize) -> io::Result<()> {
        loop {
            let len = match self.flows[at].client.socket.recv(&mut self.buffer) {
                Ok(len) => len,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            if is_answer(&self.buffer[..len]) {
                continue;
            }
            let flow = &mut self.flows[at];
            flow.expected -= 1;
            let drained = flow.expected <= 0;
            let payload = unframe(&self.buffer[..len], self.relay.framing, flow.client.peer);
            let stamp = payload.and_then(|range| payload::check(&self.buffer[range], self.relay.payload_len, self.tag));
            match stamp {
                Some(stamp) if self.destination(stamp.flow as usize) != at => {
                    self.refuse(|| format!("client {at} got packet {} of flow {}", stamp.seq, stamp.flow));
                }
                Some(stamp) if self.ledger.arrive(stamp.seq, stage.now_ns()) => self.delivered += 1,
                Some(stamp) => self.refuse(|| format!("packet {} came twice", stamp.seq)),
                None => self.refuse(|| format!("client {at} got {len} bytes that nobody sent")),
            }
            if drained {
                return Ok(());
            }
        }
    }

    /// Returns what has come to the peer, a bounded number of packets.
    fn return_echoes(&mut self) -> io::Result<()> {
        let Some(echo) = &self.echo else { return Ok(()) };
        for _ in 0..BURST_MAX {
            let (len, from) = match echo.recv_from(&mut self.buffer) {
                Ok(received) => received,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.echo_ready = false;
                    return Ok(());
                }
                Err(error) => return Err(error),
            };
            let payload = &self.buffer[..len];
            let stamp = payload::check(payload, self.relay.payload_len, self.tag);
            let flow = stamp.and_then(|stamp| self.flows.get(stamp.flow as usize));
            if flow.is_some_and(|flow| flow.client.relayed == from) {
                self.delivered += 1;
                echo.send_to(payload, from)?;
            } else {
                let what = || format!("the peer got {len} bytes from {from} that no client sent there");
                self.wrong += 1;
                self.first_wrong.get_or_insert_with(what);
            }
        }
        Ok(())
    }

    fn refuse(&mut self, what: impl FnOnce() -> String) {
        self.wrong += 1;
        self.first_wrong.get_or_insert_with(what);
    }
}

/// The other one of a pair.
fn partner(flow: usize) -> usize {
    flow ^ 1
}

/// Whether this answers a request: on a busy machine one may have been sent twice while the
/// clients were set up, and its second answer come only now.
#[inline]
fn is_answer(datagram: &[u8]) -> bool {
    // Indications and ChannelData, which are all but these, are told by the first byte.
    datagram.first() == Some(&0x01) && Message::parse(datagram).is_ok()
}

/// All of a Send indication that precedes its payload; DATA comes last and needs no padding.
fn send_indication(peer: SocketAddr, payload_len: usize) -> io::Result<Vec<u8>> {
    let mut out = vec![0; 64 + payload_len];
    let len = Writer::new(&mut out, Class::Indication, Method::SEND, TransactionId::default())
        .push_xor_address(attribute::XOR_PEER_ADDRESS, peer)
        .push(attribute::DATA, &vec![0; payload_len])
        .finish()
        .map_err(|_| io::Error::other("an indication did not fit"))?;
    debug_assert!(payload_len.is_multiple_of(4));
    out.truncate(len - payload_len);
    Ok(out)
}

/// Where the payload lies in what a server sent to a client, if it is framed as it must be.
#[inline]
fn unframe(datagram: &[u8], framing: Framing, peer: SocketAddr) -> Option<Range<usize>> {
    match framing {
        Framing::Channel => {
            let frame = ChannelData::parse(datagram, ChannelRange::Rfc8656).ok()?;
            (frame.number == channel()).then_some(frame.payload)
        }
        Framing::Indication => {
            let message = Message::parse(datagram).ok()?;
            let from = attribute::xor_address(message.get(attribute::XOR_PEER_ADDRESS)?, &message.transaction_id());
            let wanted = message.class() == Class::Indication && message.method() == Method::DATA && from == Some(peer);
            let body = message.attributes().find(|attribute| attribute.kind == attribute::DATA)?;
            wanted.then_some(body.range)
        }
    }
}
