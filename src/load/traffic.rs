//! Packets on their way: paced or flat-out, singly or in bursts, and the upkeep of what they go through.

use super::books::Books;
use super::client::Client;
use super::datagrams::{Inbox, Outbox, SLOTS, datagram};
use super::frame::{self, is_answer};
use super::link::Link;
use super::pace::Schedule;
use super::payload::{PAYLOAD_LEN_MIN, Pattern, SEAL_LEN, STAMP_LEN, Stamp};
use super::relay::{Flow, PEER, in_words, renewal};
use super::report::Tally;
use super::stage::{HURRY_NS, Phase, Stage, Window};
use super::upkeep::{Errand, Upkeep};
use super::{Config, Gso, Mode, Share};
use crate::sys::Datagram;
use mio::net::UdpSocket;
use mio::{Events, Token};
use std::io;
use std::ops::Range;

/// How long packets under way are waited for at the end, in nanoseconds.
const DRAIN_NS: u64 = 500_000_000;
/// After this time, or twice it, a closed loop sends another packet for one that has not come.
const PATIENCE_NS: u64 = 100_000_000;
/// A packet sent so long after its time counts as late, in nanoseconds.
const LATE_NS: u64 = 1_000_000;
/// Packets sent before the other sockets get their turn; a burst is not interrupted.
const TURN_MAX: usize = 64;
/// Frames that leave with one system call.
const FRAMES_MAX: usize = 64;

/// What one thread sends and receives.
pub struct Traffic<'r, 'a> {
    config: &'a Config,
    share: Share,
    stage: &'r mut Stage<'a>,
    flows: &'r mut [Flow],
    peer: &'r UdpSocket,
    peer_ready: bool,
    upkeep: Upkeep,
    books: Books,
    inbox: Inbox,
    outbox: Outbox,
    /// Frames on their way out, one behind the other.
    frames: Vec<u8>,
    frame_len: usize,
    /// Room for a stream's message.
    room: Vec<u8>,
    /// What the peer returns: a slot of the inbox, a part of it and the seal of its way back.
    echoes: Vec<(usize, Range<usize>, [u8; SEAL_LEN])>,
    /// Messages read from a client's socket at once: one more than come together, to learn that it is empty.
    batch: usize,
    /// A packet that is given up at this time, with all before it.
    checkpoint: (u64, u64),
}

impl<'r, 'a> Traffic<'r, 'a> {
    /// Prepares for packets on these flows, of which there is at least one.
    pub fn new(
        config: &'a Config,
        share: Share,
        stage: &'r mut Stage<'a>,
        flows: &'r mut [Flow],
        peer: &'r UdpSocket,
    ) -> Self {
        let body_len =
            if config.mode == Mode::ToClient { config.size } else { frame::body_len(config.via, config.size) };
        let (frame_len, burst) = (flows[0].head.len() + body_len, config.burst as usize);
        Traffic {
            config,
            share,
            upkeep: Upkeep::new(renewal(config.via), flows.len(), stage.now_ns()),
            books: Books::new(config.mode, config.via, config.size, share.tag),
            inbox: Inbox::default(),
            outbox: Outbox::new(config.gso == Gso::Auto),
            frames: vec![0; FRAMES_MAX.min(burst) * frame_len],
            frame_len,
            room: vec![0; stage.room.len()],
            echoes: Vec::new(),
            batch: burst.saturating_add(1).min(SLOTS),
            checkpoint: (0, 0),
            stage,
            flows,
            peer,
            peer_ready: false,
        }
    }

    /// Sends until the window closes, then waits for what is under way. What stops it before is in the tally.
    pub fn run(mut self, window: Window) -> Tally {
        let fault = self.run_through(window).err();
        let mut tally = self.books.tally;
        (tally.sent, tally.arrived) = (self.books.ledger.departed(), self.books.ledger.arrived());
        tally.repeated = self.flows.iter().map(|flow| flow.client.repeated).sum();
        tally.failed = self.flows.iter().filter(|flow| flow.ended.is_some()).count() as u64;
        if let Some(why) = self.flows.iter().find_map(|flow| flow.ended.as_ref()) {
            tally.notes.push(format!("{} allocations were lost; the first: {why}", tally.failed));
        }
        tally.refuses_segments = self.outbox.refuses_segments();
        tally.fault = fault.map(|error| in_words(&error));
        tally
    }

    fn run_through(&mut self, window: Window) -> io::Result<()> {
        let (config, rate) = (self.config, self.share.rate);
        let (now, seed) = (self.stage.now_ns(), self.stage.rng.next_u64());
        let mut schedule = (rate > 0.0).then(|| Schedule::new(config.pace, rate, config.burst, now, seed));
        self.drive(window.open_ns, schedule.as_mut(), Phase::WarmUp)?;
        self.books.open();
        let open = self.stage.mark();
        let ended = self.drive(window.close_ns, schedule.as_mut(), Phase::Counted);
        let close = self.stage.mark();
        self.stage.account_for(open, close, &mut self.books.tally);
        self.books.tally.in_time = self.books.tally.handed_on;
        ended?;
        let end_ns = self.stage.now_ns() + DRAIN_NS;
        self.drive(end_ns, None, Phase::Drain)
    }

    /// Relays until `end_ns`, in the drain only until nothing is under way.
    fn drive(&mut self, end_ns: u64, mut schedule: Option<&mut Schedule>, phase: Phase) -> io::Result<()> {
        let mut events = Events::with_capacity(1024);
        let sending = phase != Phase::Drain;
        loop {
            let now = self.stage.now_ns();
            if now >= end_ns || if sending { self.stage.is_stopped() } else { self.books.ledger.under_way() == 0 } {
                return Ok(());
            }
            let (mut sent, mut wait_ns) = (0, HURRY_NS.min(end_ns - now));
            if sending {
                let (count, next_ns) = match schedule.as_deref_mut() {
                    Some(schedule) => self.send_due(schedule, now)?,
                    None => self.fill_window(now)?,
                };
                (sent, wait_ns) = (count, wait_ns.min(next_ns));
            }
            if self.peer_ready {
                wait_ns = 0;
            }
            self.stage.look(&mut events, now, wait_ns, sent > 0)?;
            for token in events.iter().map(|event| event.token()) {
                match token {
                    PEER => self.peer_ready = true,
                    Token(flow) => self.receive(flow),
                }
            }
            if self.peer_ready {
                self.receive_as_peer()?;
            }
            self.upkeep(now);
            self.stage.show(phase, self.books.ledger.departed(), self.books.tally.delivered);
        }
    }

    /// Sends what is due and says how many packets that were, and how long nothing will be.
    fn send_due(&mut self, schedule: &mut Schedule, now: u64) -> io::Result<(usize, u64)> {
        let (mut due, burst) = (0, self.config.burst as usize);
        while due < TURN_MAX
            && let Some(late_ns) = schedule.take(now)
        {
            due += burst;
            let flow = self.stage.rng.below(self.flows.len());
            let sent = self.send(flow, burst)?;
            self.books.tally.late += if late_ns > LATE_NS { burst as u64 } else { 0 };
            self.books.tally.unsent += (burst - sent) as u64;
        }
        Ok((due, schedule.wait_ns(now)))
    }

    /// Keeps the window full. What has not come for a while is no longer waited for.
    fn fill_window(&mut self, now: u64) -> io::Result<(usize, u64)> {
        let ledger = &mut self.books.ledger;
        if now >= self.checkpoint.1 {
            ledger.give_up(self.checkpoint.0);
            self.checkpoint = (ledger.next_seq(), now + PATIENCE_NS);
        }
        let (mut sent, burst) = (0, self.config.burst as usize);
        while self.books.ledger.under_way() < self.share.window && sent < TURN_MAX {
            let flow = self.stage.rng.below(self.flows.len());
            let count = self.send(flow, burst)?;
            sent += count;
            if count < burst {
                // The window is what limits it: the next turn tries again.
                break;
            }
        }
        Ok((sent, if sent >= TURN_MAX { 0 } else { (self.checkpoint.1 - now).min(PATIENCE_NS) }))
    }

    /// Sends a burst on a flow and says how much of it left before there was no more room.
    fn send(&mut self, from: usize, burst: usize) -> io::Result<usize> {
        let mut sent = 0;
        while sent < burst {
            let count = FRAMES_MAX.min(burst - sent);
            self.fill_frames(from, count);
            let flow = &mut self.flows[from];
            let frames = self.frames.chunks_exact(self.frame_len).take(count);
            let gone = match (&flow.ended, self.config.mode) {
                (Some(_), _) => count,
                (None, Mode::ToClient) => {
                    let to = Some(flow.client.relayed);
                    self.outbox.send(self.peer, frames.map(|frame| datagram(to, frame)))?
                }
                (None, _) => send_frames(&mut flow.client.link, &mut self.outbox, frames).unwrap_or_else(|error| {
                    flow.ended = Some(in_words(&error));
                    count
                }),
            };
            (0..gone).for_each(|_| self.books.depart());
            sent += gone;
            if gone < count {
                break;
            }
        }
        Ok(sent)
    }

    fn fill_frames(&mut self, from: usize, count: usize) {
        let (head, sent_ns) = (&self.flows[from].head, self.stage.now_ns());
        let (next_seq, leg) = (self.books.ledger.next_seq(), self.books.leg());
        for (frame, seq) in self.frames.chunks_exact_mut(self.frame_len).zip(next_seq..).take(count) {
            frame[..head.len()].copy_from_slice(head);
            let payload = &mut frame[head.len()..head.len() + self.config.size];
            self.books.pattern.fill(payload, Stamp { flow: from as u32, seq, sent_ns, leg });
        }
    }

    /// Reads what has come to a client.
    fn receive(&mut self, at: usize) {
        if let Err(error) = self.try_receive(at) {
            self.flows[at].ended.get_or_insert_with(|| in_words(&error));
        }
    }

    fn try_receive(&mut self, at: usize) -> io::Result<()> {
        let Traffic { flows, stage, books, upkeep, inbox, room, batch, .. } = self;
        let client = &mut flows[at].client;
        if !matches!(client.link, Link::Datagrams(_)) {
            client.link.flush()?;
            while let Some(len) = client.link.receive(room)? {
                take(at, client, &room[..len], stage.now_ns(), books, upkeep, stage)?;
            }
            return Ok(());
        }
        while let Link::Datagrams(socket) = &client.link {
            let came = inbox.read(socket, *batch)?;
            let now = stage.now_ns();
            for message in (0..came).flat_map(|slot| inbox.datagrams(slot)) {
                take(at, client, message, now, books, upkeep, stage)?;
            }
            if came < *batch {
                break;
            }
        }
        Ok(())
    }

    /// Takes what has come to the peer, a bounded number of messages, and returns what is to be returned.
    fn receive_as_peer(&mut self) -> io::Result<()> {
        let came = self.inbox.read(self.peer, SLOTS)?;
        self.peer_ready = came == SLOTS;
        let now = self.stage.now_ns();
        self.echoes.clear();
        for slot in 0..came {
            let (Some(from), mut at) = (self.inbox.source(slot), 0) else { continue };
            for payload in self.inbox.datagrams(slot) {
                if self.books.at_peer(payload, from, self.flows, now) {
                    self.echoes.push((slot, at..at + payload.len(), Pattern::seal_back(payload)));
                }
                at += payload.len();
            }
        }
        let inbox = &self.inbox;
        let back = self.echoes.iter().map(|(slot, part, seal)| {
            let payload = &inbox.bytes(*slot)[part.clone()];
            let parts = [&payload[..STAMP_LEN], seal, &payload[PAYLOAD_LEN_MIN..]];
            Datagram { to: inbox.source(*slot), parts }
        });
        // One that does not leave is as one lost on the way back.
        let _ = self.outbox.send(self.peer, back);
        Ok(())
    }

    /// Keeps the allocations alive.
    fn upkeep(&mut self, now: u64) {
        while let Some((at, errand)) = self.upkeep.due(now) {
            let Flow { client, ended, .. } = &mut self.flows[at];
            let done = match errand {
                _ if ended.is_some() => Err(None),
                Errand::Ask(step) => client.ask(step, now, self.stage.account, &mut self.stage.ids).map_err(Some),
                Errand::Hurry(step) => client.hurry(step, now, self.stage.account).map_err(Some),
            };
            if let Err(error) = done {
                self.upkeep.abandon(at);
                *ended = ended.take().or_else(|| error.as_ref().map(in_words));
            }
        }
    }
}

/// Sends frames to the server and says how many left before there was no more room.
fn send_frames<'a>(
    link: &mut Link,
    outbox: &mut Outbox,
    frames: impl Iterator<Item = &'a [u8]> + Clone,
) -> io::Result<usize> {
    match link {
        Link::Datagrams(socket) => outbox.send(socket, frames.map(|frame| datagram(None, frame))),
        Link::Stream(stream) => {
            let mut queued = 0;
            for frame in frames {
                if !stream.queue(frame)? {
                    break;
                }
                queued += 1;
            }
            stream.flush()?;
            Ok(queued)
        }
    }
}

/// Takes a message that has come to the client `at`: a packet, or the server's answer.
#[inline]
fn take(
    at: usize,
    client: &mut Client,
    message: &[u8],
    now: u64,
    books: &mut Books,
    upkeep: &mut Upkeep,
    stage: &mut Stage<'_>,
) -> io::Result<()> {
    if !is_answer(message) {
        books.at_client(at, client.peer, message, now);
        return Ok(());
    }
    let Some(step) = upkeep.step(at) else { return Ok(()) };
    if client.hear(step, message, now, stage.account, &mut stage.ids)?
        && let Some(step) = upkeep.advance(at)
    {
        client.ask(step, now, stage.account, &mut stage.ids)?;
    }
    Ok(())
}
