//! Packets through the relay: paced or flat-out, every one checked where it comes out.

use super::client::{Client, Step, channel, transaction_id};
use super::ledger::{Arrival, Ledger};
use super::link::{has_no_room, udp_socket};
use super::pace::Schedule;
use super::payload::{self, Stamp};
use super::report::Tally;
use super::stage::{HURRY_NS, Stage};
use super::upkeep::{Errand, Upkeep};
use super::{Config, Mode, Share, Via};
use crate::wire::attribute;
use crate::wire::channel::{self as channel_frame, ChannelData, ChannelRange};
use crate::wire::stun::{Class, Message, Method, Writer};
use mio::net::UdpSocket;
use mio::{Events, Interest, Token};
use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::atomic::Ordering;

/// The peer's token; no client has it.
const PEER: Token = Token(usize::MAX);
/// How long packets under way are waited for at the end, in nanoseconds.
const DRAIN_NS: u64 = 500_000_000;
/// After this time, or twice it, a closed loop sends another packet for one that has not come.
const PATIENCE_NS: u64 = 100_000_000;
/// A packet sent so long after its time counts as late, in nanoseconds.
const LATE_NS: u64 = 1_000_000;
/// Packets sent, and packets the peer takes, before the other sockets get their turn.
const TURN_MAX: usize = 64;
/// Room for all that precedes a payload in a Send indication, and its padding.
const HEAD_LEN_MAX: usize = 64;

/// A client with an allocation.
struct Flow {
    client: Client,
    /// The frame on its way out: what precedes the payload never changes, nor what follows.
    frame: Vec<u8>,
    payload: Range<usize>,
    /// Why its connection ended; what is sent on it afterwards is lost.
    ended: Option<String>,
}

/// The load of one thread.
pub struct Relay<'a> {
    config: &'a Config,
    share: Share,
    stage: Stage<'a>,
    flows: Vec<Flow>,
    /// The peer of every client of the thread, where there is one.
    peer: UdpSocket,
    peer_ready: bool,
    upkeep: Upkeep,
    ledger: Ledger,
    tally: Tally,
    /// The flow of the burst that is under way.
    burst_flow: usize,
    /// A packet that is given up at this time, with all before it.
    checkpoint: (u64, u64),
}

impl<'a> Relay<'a> {
    /// Makes allocations with all that the packets need. `None` when somebody wants an early end.
    pub fn set_up(mut stage: Stage<'a>, config: &'a Config, share: Share) -> io::Result<Option<Self>> {
        let mut peer = udp_socket(SocketAddr::new(config.peer, 0))
            .map_err(|error| io::Error::other(format!("no peer at {} (--peer): {error}", config.peer)))?;
        stage.poll.registry().register(&mut peer, PEER, Interest::READABLE)?;
        let peer_addr = peer.local_addr()?;
        let mut clients = Vec::with_capacity(share.flows);
        for token in 0..share.flows {
            clients.push(stage.client(token, peer_addr)?);
        }
        if !stage.walk(&mut clients, &[Step::Challenge, Step::Allocate])? {
            return Ok(None);
        }
        stage.gauges.ready.store(clients.len() as u64, Ordering::Relaxed);
        if config.mode == Mode::Pair {
            let relayed: Vec<_> = clients.iter().map(|client| client.relayed).collect();
            for (i, client) in clients.iter_mut().enumerate() {
                client.peer = relayed[partner(i)];
            }
        }
        let steps: &[Step] = match config.via {
            Via::Channel => &[Step::Bind],
            Via::Indication => &[Step::Permit],
        };
        if !stage.walk(&mut clients, steps)? {
            return Ok(None);
        }
        let mut flows = Vec::with_capacity(clients.len());
        for client in clients {
            let (frame, payload) = match (config.mode, config.via) {
                (Mode::ToClient, _) => (vec![0; config.size], 0..config.size),
                (_, Via::Channel) => channel_data(config.size),
                (_, Via::Indication) => send_indication(&mut stage, client.peer, config.size)?,
            };
            flows.push(Flow { client, frame, payload, ended: None });
        }
        let upkeep = Upkeep::new(steps[0], flows.len(), stage.now_ns());
        Ok(Some(Relay {
            config,
            share,
            stage,
            flows,
            peer,
            peer_ready: false,
            upkeep,
            ledger: Ledger::default(),
            tally: Tally::default(),
            burst_flow: 0,
            checkpoint: (0, 0),
        }))
    }

    /// Sends for the configured time, then waits for what is under way.
    pub fn run(&mut self) -> io::Result<Tally> {
        let began_ns = self.stage.now_ns();
        let end_ns = began_ns + self.config.duration.as_nanos() as u64;
        let mut schedule = (self.share.rate > 0.0).then(|| {
            Schedule::new(self.config.pace, self.share.rate, self.config.burst, began_ns, self.stage.rng.next_u64())
        });
        self.drive(end_ns, schedule.as_mut(), true)?;
        self.tally.seconds = (self.stage.now_ns() - began_ns) as f64 / 1e9;
        self.tally.in_time = self.tally.delivered;
        let end_ns = self.stage.now_ns() + DRAIN_NS;
        self.drive(end_ns, None, false)?;
        let mut tally = std::mem::take(&mut self.tally);
        (tally.sent, tally.arrived) = (self.ledger.departed(), self.ledger.arrived());
        tally.repeated = self.flows.iter().map(|flow| flow.client.repeated).sum();
        tally.failed = self.flows.iter().filter(|flow| flow.ended.is_some()).count() as u64;
        if let Some(why) = self.flows.iter().find_map(|flow| flow.ended.as_ref()) {
            tally.notes.push(format!("{} allocations were lost; the first: {why}", tally.failed));
        }
        Ok(tally)
    }

    /// Gives the allocations back, as far as the server lets it.
    pub fn finish(mut self) {
        for flow in &mut self.flows {
            // An allocation that can not be given back expires by itself.
            let _ = self.stage.ask(&mut flow.client, Step::Free);
            let _ = flow.client.link.flush();
        }
    }

    /// Relays until `end_ns`; without `sending` only until nothing is under way.
    fn drive(&mut self, end_ns: u64, mut schedule: Option<&mut Schedule>, sending: bool) -> io::Result<()> {
        let mut events = Events::with_capacity(1024);
        loop {
            let now = self.stage.now_ns();
            if now >= end_ns || if sending { self.stage.is_stopped() } else { self.ledger.under_way() == 0 } {
                return Ok(());
            }
            let mut wait_ns = HURRY_NS.min(end_ns - now);
            if sending {
                wait_ns = wait_ns.min(self.send_due(schedule.as_deref_mut(), now)?);
            }
            if self.peer_ready {
                wait_ns = 0;
            }
            self.stage.look(&mut events, wait_ns)?;
            for token in events.iter().map(|event| event.token()) {
                match token {
                    PEER => self.peer_ready = true,
                    Token(flow) => self.receive(flow),
                }
            }
            if self.peer_ready {
                self.receive_as_peer()?;
            }
            self.upkeep();
            self.stage.gauges.sent.store(self.ledger.departed(), Ordering::Relaxed);
            self.stage.gauges.delivered.store(self.tally.delivered, Ordering::Relaxed);
        }
    }

    /// Sends what is due and says how long nothing will be.
    fn send_due(&mut self, schedule: Option<&mut Schedule>, now: u64) -> io::Result<u64> {
        let Some(schedule) = schedule else { return self.fill_window(now) };
        let mut sent = 0;
        while sent < TURN_MAX
            && let Some(departure) = schedule.take(now)
        {
            sent += 1;
            if departure.is_first {
                self.burst_flow = self.stage.rng.below(self.flows.len());
            }
            self.tally.late += u64::from(departure.late_ns > LATE_NS);
            if !self.send(self.burst_flow)? {
                self.tally.unsent += 1;
            }
        }
        Ok(schedule.wait_ns(now))
    }

    /// Keeps the window full. What has not come for a while is no longer waited for.
    fn fill_window(&mut self, now: u64) -> io::Result<u64> {
        if now >= self.checkpoint.1 {
            self.ledger.give_up(self.checkpoint.0);
            self.checkpoint = (self.ledger.departed(), now + PATIENCE_NS);
        }
        let mut sent = 0;
        while self.ledger.under_way() < self.share.window && sent < TURN_MAX {
            sent += 1;
            let flow = self.stage.rng.below(self.flows.len());
            if !self.send(flow)? {
                // The window is what limits it: the next turn tries again.
                break;
            }
        }
        Ok(if sent == TURN_MAX { 0 } else { (self.checkpoint.1 - now).min(PATIENCE_NS) })
    }

    /// Sends one packet on a flow; false when there is no room for it now.
    #[inline]
    fn send(&mut self, from: usize) -> io::Result<bool> {
        let sent_ns = self.stage.now_ns();
        let stamp = Stamp { flow: from as u32, seq: self.ledger.next_seq(), sent_ns };
        let flow = &mut self.flows[from];
        payload::fill(&mut flow.frame[flow.payload.clone()], self.share.tag, stamp);
        let sent = match &flow.ended {
            Some(_) => true,
            None if self.config.mode == Mode::ToClient => match self.peer.send_to(&flow.frame, flow.client.relayed) {
                Ok(_) => true,
                Err(error) if has_no_room(&error) => false,
                Err(error) => return Err(error),
            },
            None => flow.client.link.send(&flow.frame).unwrap_or_else(|error| {
                flow.ended = Some(in_words(&error));
                true
            }),
        };
        if sent {
            self.ledger.depart();
        }
        Ok(sent)
    }

    /// The flow on which a packet sent on `from` comes out.
    fn destination(&self, from: usize) -> usize {
        if self.config.mode == Mode::Pair { partner(from) } else { from }
    }

    /// Reads what has come to a client.
    fn receive(&mut self, at: usize) {
        if let Err(error) = self.try_receive(at) {
            self.flows[at].ended.get_or_insert_with(|| in_words(&error));
        }
    }

    fn try_receive(&mut self, at: usize) -> io::Result<()> {
        self.flows[at].client.link.flush()?;
        while let Some(len) = self.flows[at].client.link.receive(&mut self.stage.room)? {
            let message = &self.stage.room[..len];
            // Indications and ChannelData, which are all but answers, are told by the first byte.
            if message.first() == Some(&0x01) {
                self.hear(at, len)?;
                continue;
            }
            let payload = unframe(message, self.config.via).map(|range| &message[range]);
            let stamp = payload.and_then(|payload| payload::check(payload, self.config.size, self.share.tag));
            let now = self.stage.now_ns();
            match stamp {
                Some(stamp) if self.destination(stamp.flow as usize) == at && self.config.mode != Mode::ToPeer => {
                    self.tally.delivered += 1;
                    self.arrive(stamp, now);
                }
                Some(stamp) => self.refuse(|| format!("client {at} got packet {} of flow {}", stamp.seq, stamp.flow)),
                None => self.refuse(|| format!("client {at} got {len} bytes that nobody sent")),
            }
        }
        Ok(())
    }

    /// Takes what has come to the peer, a bounded number of packets.
    fn receive_as_peer(&mut self) -> io::Result<()> {
        for _ in 0..TURN_MAX {
            let (len, from) = match self.peer.recv_from(&mut self.stage.room) {
                Ok(received) => received,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.peer_ready = false;
                    return Ok(());
                }
                Err(error) => return Err(error),
            };
            let payload = &self.stage.room[..len];
            let stamp = payload::check(payload, self.config.size, self.share.tag);
            let Some(stamp) = stamp.filter(|stamp| (stamp.flow as usize) < self.flows.len()) else {
                // What strangers send to the peer's address is not the relay's doing.
                if self.flows.iter().any(|flow| flow.client.relayed == from) {
                    self.refuse(|| format!("the peer got {len} bytes from {from} that no client sent"));
                }
                continue;
            };
            self.tally.delivered += 1;
            match self.config.mode {
                // One that finds no room is as one lost on the way back.
                Mode::Both => _ = self.peer.send_to(payload, from),
                _ => self.arrive(stamp, self.stage.now_ns()),
            }
        }
        Ok(())
    }

    fn arrive(&mut self, stamp: Stamp, now: u64) {
        match self.ledger.arrive(stamp.seq) {
            Arrival::First => self.tally.latency.add(now.saturating_sub(stamp.sent_ns)),
            Arrival::Again => self.tally.duplicates += 1,
            Arrival::Forgotten => {}
            Arrival::Unknown => self.refuse(|| format!("packet {} came and never left", stamp.seq)),
        }
    }

    fn refuse(&mut self, what: impl FnOnce() -> String) {
        self.tally.corrupted += 1;
        self.tally.first_corrupted.get_or_insert_with(what);
    }

    /// Keeps the allocations alive.
    fn upkeep(&mut self) {
        let now = self.stage.now_ns();
        while let Some((at, errand)) = self.upkeep.due(now) {
            let Flow { client, ended, .. } = &mut self.flows[at];
            let done = match errand {
                _ if ended.is_some() => Err(None),
                Errand::Ask(step) => client.ask(step, now, self.stage.account, &mut self.stage.rng).map_err(Some),
                Errand::Hurry(step) => client.hurry(step, now, self.stage.account).map_err(Some),
            };
            if let Err(error) = done {
                self.upkeep.abandon(at);
                *ended = ended.take().or_else(|| error.as_ref().map(in_words));
            }
        }
    }

    /// Takes an answer from the server.
    fn hear(&mut self, at: usize, len: usize) -> io::Result<()> {
        let (Some(step), now) = (self.upkeep.step(at), self.stage.now_ns()) else { return Ok(()) };
        let (client, stage) = (&mut self.flows[at].client, &mut self.stage);
        if client.hear(step, &stage.room[..len], now, stage.account, &mut stage.rng)?
            && let Some(step) = self.upkeep.advance(at)
        {
            client.ask(step, now, stage.account, &mut stage.rng)?;
        }
        Ok(())
    }
}

/// The other one of a pair.
const fn partner(flow: usize) -> usize {
    flow ^ 1
}

/// An error of a client's socket, as the report has it.
pub fn in_words(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::ECONNREFUSED) => "nothing listens at the server's address and port".to_owned(),
        Some(libc::EMFILE) => "too many open files: lower --allocations, or raise the limit with ulimit -n".to_owned(),
        _ => error.to_string(),
    }
}

fn channel_data(payload_len: usize) -> (Vec<u8>, Range<usize>) {
    let mut frame = channel_frame::header(channel(), payload_len).to_vec();
    let at = frame.len();
    frame.resize(at + payload_len, 0);
    (frame, at..at + payload_len)
}

/// A Send indication; DATA comes last.
fn send_indication(stage: &mut Stage<'_>, peer: SocketAddr, payload_len: usize) -> io::Result<(Vec<u8>, Range<usize>)> {
    let mut out = vec![0; HEAD_LEN_MAX + payload_len];
    let len = Writer::new(&mut out, Class::Indication, Method::SEND, transaction_id(&mut stage.rng))
        .push_xor_address(attribute::XOR_PEER_ADDRESS, peer)
        .push(attribute::DATA, &vec![0; payload_len])
        .finish()
        .map_err(|_| io::Error::other("an indication did not fit"))?;
    out.truncate(len);
    let at = len - crate::wire::padded(payload_len);
    Ok((out, at..at + payload_len))
}

/// Where the payload lies in what a server sent to a client, if it is framed as it was asked to be.
#[inline]
fn unframe(message: &[u8], via: Via) -> Option<Range<usize>> {
    match via {
        Via::Channel => {
            let frame = ChannelData::parse(message, ChannelRange::Rfc8656).ok()?;
            (frame.number == channel()).then_some(frame.payload)
        }
        Via::Indication => {
            let message = Message::parse(message).ok()?;
            let wanted = message.class() == Class::Indication && message.method() == Method::DATA;
            let body = message.attributes().find(|attribute| attribute.kind == attribute::DATA)?;
            wanted.then_some(body.range)
        }
    }
}
