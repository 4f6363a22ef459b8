//! The server: data in, a verdict out.
//!
//! Here are the two paths a relayed packet takes and the life of allocations; requests are in
//! `request`. Validity is judged at look-up; the wheel only frees what is over.

use super::allocation::{Allocation, STATE_VERSION, State, Table, UNMETERED};
use super::auth::Revocations;
use super::drain::{Drain, Draining};
use super::expiry::Wheel;
use super::finished::Finished;
use super::nonce::Mint;
use super::policy::{self, Reach};
use super::quota::Unverified;
use super::sweep::Sweep;
use super::{
    AllocationId, ClientId, Config, DropReason, EndReason, Event, FiveTuple, Framing, Now, PeerAddr, Ports, Sender,
    Transport, Verdict,
};
use crate::wire::attribute::{self, Family, IcmpError};
use crate::wire::channel::{self, ChannelData};
use crate::wire::stun::{self, Class, Message, Method, TransactionId, Writer};
use crate::wire::{self, DATAGRAM_LEN_MAX, Kind};
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

/// Allocations looked at in one [`Server::handle_timeout`].
const EXPIRIES_PER_TURN: usize = 1024;
/// ICMP errors reported to one client a second.
pub const ICMP_PER_SECOND: u64 = 10;
/// Direction indices of [`Allocation::rates`].
const TO_PEER: usize = 0;
const TO_CLIENT: usize = 1;

/// One worker's server.
#[derive(Debug)]
pub struct Server {
    pub(super) config: Arc<Config>,
    pub(super) table: Table,
    pub(super) wheel: Wheel,
    pub(super) unverified: Unverified,
    pub(super) nonces: Mint,
    pub(super) finished: Finished,
    pub(super) events: VecDeque<Event>,
    next_transaction: u128,
    pub(super) draining: Option<Draining>,
    pub(super) revoked: Arc<Revocations>,
    pub(super) sweep: Sweep,
}

impl Server {
    /// A server without allocations. `seed` keys its hashes and transaction ids; a random one
    /// in production, a chosen one in tests.
    pub fn new(config: Arc<Config>, now: Now, seed: u64) -> Self {
        let (nonces, finished) = (Mint::new(&config.nonce), Finished::new(&config.nonce.key));
        Server {
            config,
            table: Table::new(seed),
            wheel: Wheel::new(now.mono_ms),
            unverified: Unverified::new(seed.rotate_left(17) ^ 0x9E37_79B9_7F4A_7C15),
            nonces,
            finished,
            events: VecDeque::new(),
            next_transaction: u128::from(seed) << 32,
            draining: None,
            revoked: Arc::default(),
            sweep: Sweep::default(),
        }
    }

    /// The configuration in force.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Replaces the configuration. Permissions and channels that its policy forbids end, a bounded
    /// number a call: the rest in [`Server::handle_timeout`].
    pub fn configure(&mut self, now: Now, config: Arc<Config>) {
        self.nonces = Mint::new(&config.nonce);
        let tells_otherwise = config.policy != self.config.policy;
        self.config = config;
        if tells_otherwise {
            self.judge_all(now);
        }
    }

    /// Refuses these from now on, and no others that were refused before. Their allocations end,
    /// a bounded number a call: the rest in [`Server::handle_timeout`].
    pub fn revoke(&mut self, now: Now, revoked: Arc<Revocations>) {
        self.revoked = revoked;
        if !self.revoked.is_empty() {
            self.judge_all(now);
        }
    }

    /// Judges a datagram from a client. A control answer is written into `out`.
    pub fn handle_client(
        &mut self,
        now: Now,
        from: &Sender,
        datagram: &[u8],
        ports: &mut dyn Ports,
        out: &mut [u8],
    ) -> Verdict {
        match wire::classify(datagram, self.config.channels) {
            Kind::ChannelData => self.handle_channel_data(now, from, datagram),
            Kind::Stun => self.handle_stun(now, from, datagram, ports, out),
            Kind::Other => Verdict::Drop(DropReason::Malformed),
        }
    }

    /// RFC 8656 §12.6. A permission is not asked for: the binding is one.
    #[inline]
    fn handle_channel_data(&mut self, now: Now, from: &Sender, datagram: &[u8]) -> Verdict {
        let data = match ChannelData::parse(datagram, self.config.channels) {
            Ok(data) => data,
            Err(error) => return Verdict::Drop(error.into()),
        };
        let Some(id) = self.table.find(&from.tuple) else { return Verdict::Drop(DropReason::NoAllocation) };
        let Some(channel) = self.table.get(id).and_then(|a| a.channels.by_number(data.number, now.mono_ms)) else {
            return Verdict::Drop(DropReason::NoChannel);
        };
        let (peer, own) = (channel.peer, channel.own);
        self.relay_to_peer(now, id, peer, own, data.payload, false)
    }

    fn handle_stun(
        &mut self,
        now: Now,
        from: &Sender,
        datagram: &[u8],
        ports: &mut dyn Ports,
        out: &mut [u8],
    ) -> Verdict {
        let message = match Message::parse(datagram) {
            Ok(message) => message,
            Err(error) => return Verdict::Drop(error.into()),
        };
        match (message.class(), message.method()) {
            (Class::Indication, Method::SEND) => self.handle_send(now, from, &message),
            (Class::Request, _) if from.tuple.client.0.port() == 0 => Verdict::Drop(DropReason::Source),
            (Class::Request, _) if policy::is_refused_source(from.tuple.client.ip()) => {
                Verdict::Drop(DropReason::Source)
            }
            (Class::Request, _) => self.handle_request(now, from, &message, ports, out),
            _ => Verdict::Drop(DropReason::Unexpected),
        }
    }

    /// RFC 8656 §11.2.
    fn handle_send(&mut self, now: Now, from: &Sender, message: &Message<'_>) -> Verdict {
        let Some(id) = self.table.find(&from.tuple) else { return Verdict::Drop(DropReason::NoAllocation) };
        let Some(send) = Send::read(message) else { return Verdict::Drop(DropReason::BadIndication) };
        let permitted = self.table.get(id).is_some_and(|a| a.permissions.allows(send.peer.ip(), now.mono_ms));
        if !permitted {
            return Verdict::Drop(DropReason::NoPermission);
        }
        // The address was judged when the permission was installed; here it is the port's turn.
        let policy = &self.config.policy;
        let reach = if policy.is_own(send.peer.ip()) { Reach::Own } else { Reach::Network };
        let dont_fragment = send.dont_fragment && honours_dont_fragment(from, send.peer);
        match policy.judge_port(reach, send.peer.0.port()) {
            Ok(reach) => self.relay_to_peer(now, id, send.peer, reach == Reach::Own, send.payload, dont_fragment),
            Err(policy::Denial::SelfPort) => Verdict::Drop(DropReason::SelfPortRefused),
            Err(_) => Verdict::Drop(DropReason::PeerDenied),
        }
    }

    #[inline]
    fn relay_to_peer(
        &mut self,
        now: Now,
        via: AllocationId,
        peer: PeerAddr,
        own: bool,
        payload: Range<usize>,
        dont_fragment: bool,
    ) -> Verdict {
        let rate = self.config.limits.bytes_per_second;
        let Some(allocation) = self.table.get_mut(via) else { return Verdict::Drop(DropReason::NoAllocation) };
        let Some(relay) = allocation.relay(peer.family(), now.mono_ms) else {
            return Verdict::Drop(DropReason::NoAllocation);
        };
        let from = relay.relayed;
        let bytes = payload.len() as u64;
        if (rate != 0) | allocation.is_metered()
            && let Err(reason) = allocation.meter(now.mono_ms, TO_PEER, rate, bytes)
        {
            return self.drop_metered(now, via, reason);
        }
        allocation.traffic.count_to_peer(bytes);
        if own {
            Verdict::ToRelay { via, from, to: super::RelayedAddr(peer.0), payload }
        } else {
            Verdict::ToPeer { via, peer, payload, dont_fragment }
        }
    }

    /// Judges `len` bytes from a peer that arrived at a relayed address of `via`
    /// (RFC 8656 §11.3). The payload is the whole datagram.
    #[inline]
    pub fn handle_peer(&mut self, now: Now, via: AllocationId, from: PeerAddr, len: usize) -> Verdict {
        let rate = self.config.limits.bytes_per_second;
        let Some(allocation) = self.table.get_mut(via) else { return Verdict::Drop(DropReason::NoAllocation) };
        if allocation.relay(from.family(), now.mono_ms).is_none() {
            return Verdict::Drop(DropReason::NoAllocation);
        }
        if !allocation.permissions.allows(from.ip(), now.mono_ms) {
            return Verdict::Drop(DropReason::NoPermission);
        }
        let (framing, framed_len) = match allocation.channels.by_peer(from, now.mono_ms) {
            Some(channel) => (Framing::ChannelData(channel.number), channel::HEADER_LEN + len),
            None => {
                let header_len = stun::data_indication_header_len(from.0);
                (Framing::DataIndication(from), header_len + wire::padded(len))
            }
        };
        if framed_len > framed_len_max(&framing, allocation.tuple.transport) {
            return Verdict::Drop(DropReason::Oversize);
        }
        if (rate != 0) | allocation.is_metered()
            && let Err(reason) = allocation.meter(now.mono_ms, TO_CLIENT, rate, len as u64)
        {
            return self.drop_metered(now, via, reason);
        }
        allocation.traffic.count_to_client(len as u64);
        Verdict::ToClient { via, client: allocation.client(), payload: 0..len, framing }
    }

    /// A datagram goes beyond what its allocation may relay. One for which the credential has no
    /// bytes left ends the allocation: [`Event::Deleted`] waits to be polled then.
    #[cold]
    fn drop_metered(&mut self, now: Now, id: AllocationId, reason: DropReason) -> Verdict {
        if reason == DropReason::CredentialUsedUp {
            self.delete(now, id, EndReason::Quota);
        }
        Verdict::Drop(reason)
    }

    /// Says how many bytes an allocation may still relay, where its credential caps them: other
    /// allocations of the same credential use them too. At 0 the allocation ends.
    pub fn set_bytes_left(&mut self, now: Now, id: AllocationId, bytes_left: u64) {
        let Some(allocation) = self.table.get_mut(id).filter(|a| a.caps.bytes.is_some()) else { return };
        allocation.bytes_left = bytes_left.min(UNMETERED - 1);
        if bytes_left == 0 {
            self.delete(now, id, EndReason::Quota);
        }
    }

    /// Judges an ICMP error that a packet to `peer` provoked (RFC 8656 §11.5). The permission
    /// asked for is that of the packet's destination, whoever sent the error.
    pub fn handle_icmp(
        &mut self,
        now: Now,
        via: AllocationId,
        peer: PeerAddr,
        error: IcmpError,
        out: &mut [u8],
    ) -> Verdict {
        let relevant = match peer.family() {
            Family::V4 => matches!(error.kind, 3 | 11),
            Family::V6 => matches!(error.kind, 1..=3),
        };
        if !relevant {
            return Verdict::Drop(DropReason::Unexpected);
        }
        let id = self.transaction_id();
        let Some(allocation) = self.table.get_mut(via) else { return Verdict::Drop(DropReason::NoAllocation) };
        let is_live = allocation.relay(peer.family(), now.mono_ms).is_some();
        if !is_live || !allocation.permissions.allows(peer.ip(), now.mono_ms) {
            return Verdict::Drop(DropReason::NoPermission);
        }
        if !allocation.icmp_rate.take(now.mono_ms, ICMP_PER_SECOND, ICMP_PER_SECOND, 1) {
            return Verdict::Drop(DropReason::IcmpRate);
        }
        let client: ClientId = allocation.client();
        let mut writer = Writer::new(out, Class::Indication, Method::DATA, id);
        writer.push_xor_address(attribute::XOR_PEER_ADDRESS, peer.0).push(attribute::ICMP, &error.encode());
        match writer.finish() {
            Ok(len) => Verdict::Indicate { client, len },
            Err(stun::Overflow) => Verdict::Drop(DropReason::Overflow),
        }
    }

    /// A transaction id for an indication of the server's own making.
    #[inline]
    pub fn transaction_id(&mut self) -> TransactionId {
        // Nobody answers an indication; the id only has to differ from the last one.
        self.next_transaction = self.next_transaction.wrapping_add(0x9E37_79B9_7F4A_7C15_F39C_0C21);
        let mut id = [0; 12];
        id.copy_from_slice(&self.next_transaction.to_le_bytes()[..12]);
        TransactionId(id)
    }

    /// The client's connection is gone, and its allocation with it.
    pub fn handle_disconnect(&mut self, now: Now, tuple: &FiveTuple) {
        if let Some(id) = self.table.find(tuple) {
            self.delete(now, id, EndReason::Disconnected);
        }
    }

    /// Ends an allocation from outside. False when there is none of this id.
    pub fn close(&mut self, now: Now, id: AllocationId) -> bool {
        self.delete(now, id, EndReason::Closed)
    }

    /// Frees what is over, a bounded number of allocations a call; call again while
    /// [`Server::next_deadline`] lies in the past.
    pub fn handle_timeout(&mut self, now: Now) {
        self.sweep(now);
        for _ in 0..EXPIRIES_PER_TURN {
            let Some(index) = self.wheel.pop(now.mono_ms) else { return };
            let Some(id) = self.table.id_at(index) else { continue };
            self.end_families_over(now, id);
            match self.table.get_mut(id).map(|a| (a.next_end_ms(), a)) {
                Some((Some(end_ms), allocation)) => {
                    allocation.permissions.retain(now.mono_ms, |_| true);
                    allocation.channels.retain(now.mono_ms, |_| true);
                    self.wheel.arm(index, end_ms);
                }
                _ => {
                    self.delete(now, id, EndReason::Expired);
                }
            }
        }
    }

    /// When [`Server::handle_timeout`] has something to do; 0 is now.
    pub fn next_deadline(&self) -> Option<u64> {
        if self.sweep.is_under_way() {
            return Some(0);
        }
        self.wheel.next_deadline_ms()
    }

    /// The next event, in order.
    #[inline]
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// The allocations, for snapshots and tests.
    pub fn allocations(&self) -> impl Iterator<Item = (AllocationId, &Allocation)> {
        self.table.iter()
    }

    /// Slots there are for allocations, used or not; those of ids lie below it.
    pub fn slot_count(&self) -> u32 {
        self.table.slot_count()
    }

    /// The allocation in a slot, if there is one.
    pub fn in_slot(&self, index: u32) -> Option<(AllocationId, &Allocation)> {
        let id = self.table.id_at(index)?;
        Some((id, self.table.get(id)?))
    }

    /// Sends new clients elsewhere from now on, or takes them again.
    pub fn drain(&mut self, now: Now, drain: Option<Drain>) {
        self.draining = drain.map(|drain| Draining::new(now, drain));
    }

    /// One allocation.
    pub fn allocation(&self, id: AllocationId) -> Option<&Allocation> {
        self.table.get(id)
    }

    /// Whether there is an allocation on a 5-tuple.
    pub fn has_allocation(&self, tuple: &FiveTuple) -> bool {
        self.table.find(tuple).is_some()
    }

    /// How many allocations there are.
    pub fn allocation_count(&self) -> usize {
        self.table.len()
    }

    /// Writes the allocations down.
    pub fn state(&self) -> State {
        State {
            version: STATE_VERSION,
            allocations: self.table.iter().map(|(_, a)| a.clone()).collect(),
            finished: self.finished.order.iter().copied().collect(),
        }
    }

    /// Takes over allocations that another server wrote down; those on a 5-tuple in use are
    /// left out. No event tells of them: whoever restores starts from the tables. `None` for a
    /// version this code does not know; nothing is taken then.
    pub fn restore(&mut self, state: State) -> Option<Vec<AllocationId>> {
        if state.version != STATE_VERSION {
            return None;
        }
        state.finished.into_iter().for_each(|(until_ms, key)| self.finished.insert(until_ms, key));
        let mut ids = Vec::with_capacity(state.allocations.len());
        for allocation in state.allocations {
            if self.table.find(&allocation.tuple).is_none() {
                let end_ms = allocation.next_end_ms().unwrap_or(0);
                let id = self.table.insert(allocation);
                self.wheel.arm(id.index, end_ms);
                ids.push(id);
            }
        }
        Some(ids)
    }

    pub(super) fn emit(&mut self, event: Event) {
        self.events.push_back(event);
    }

    /// Ends the relayed addresses whose time is over.
    pub(super) fn end_families_over(&mut self, now: Now, id: AllocationId) {
        for family in [Family::V4, Family::V6] {
            self.end_family_if(now, id, family, |relay_end| relay_end <= now.mono_ms);
        }
    }

    /// Ends one relayed address with its permissions and channels, and leaves the other
    /// family's alone (RFC 8656 §8.1).
    pub(super) fn end_family_if(&mut self, now: Now, id: AllocationId, family: Family, ends: impl Fn(u64) -> bool) {
        let Some(allocation) = self.table.get_mut(id) else { return };
        let Some(relay) = allocation.relays[family.index()].take_if(|relay| ends(relay.until_ms)) else { return };
        let transport = allocation.tuple.transport;
        allocation.permissions.retain(now.mono_ms, |ip| Family::of(ip) != family);
        allocation.channels.retain(now.mono_ms, |peer| peer.family() != family);
        self.emit(Event::Released { id, relayed: relay.relayed, transport });
    }

    /// Ends an allocation with all that belongs to it.
    pub(super) fn delete(&mut self, now: Now, id: AllocationId, reason: EndReason) -> bool {
        let Some(allocation) = self.table.remove(id) else { return false };
        self.wheel.disarm(id.index);
        self.finished.add(now, &allocation.tuple, allocation.transaction);
        for relay in allocation.relays.iter().flatten() {
            self.emit(Event::Released { id, relayed: relay.relayed, transport: allocation.tuple.transport });
        }
        self.emit(Event::Deleted {
            id,
            tuple: allocation.tuple,
            account: allocation.account,
            relayed: allocation.relayed,
            reason,
            traffic: allocation.traffic,
            age_ms: now.mono_ms.saturating_sub(allocation.created_ms),
        });
        true
    }
}

/// Longest frame toward a client: a datagram on UDP; on a stream what the 16 bits of a length say.
fn framed_len_max(framing: &Framing, transport: Transport) -> usize {
    match framing {
        _ if !transport.is_stream() => DATAGRAM_LEN_MAX,
        Framing::ChannelData(_) => channel::HEADER_LEN + 0xFFFF,
        Framing::DataIndication(_) => stun::HEADER_LEN + 0xFFFC,
    }
}

/// What a Send indication asks for.
struct Send {
    peer: PeerAddr,
    payload: Range<usize>,
    dont_fragment: bool,
}

impl Send {
    /// One pass over the attributes; the first of each kind counts. `None` when one is missing
    /// or malformed, the port is 0, or an unknown one must be understood (RFC 8489 §6.3.2).
    fn read(message: &Message<'_>) -> Option<Send> {
        let (mut peer, mut payload, mut dont_fragment) = (None, None, false);
        for a in message.attributes() {
            match a.kind {
                attribute::XOR_PEER_ADDRESS if peer.is_none() => {
                    peer = Some(attribute::xor_address(a.value, &message.transaction_id())?);
                }
                attribute::DATA if payload.is_none() => payload = Some(a.range),
                attribute::DONT_FRAGMENT => dont_fragment = true,
                kind if super::request::is_unknown_required(kind) => return None,
                _ => {}
            }
        }
        let peer = peer.filter(|peer| peer.port() != 0)?;
        Some(Send { peer: PeerAddr(peer), payload: payload?, dont_fragment })
    }
}

/// DONT-FRAGMENT counts where the server makes the outgoing header from nothing (stream
/// clients, RFC 8656 §15) and between IPv4 and IPv4 (§14); translations ignore it (§13).
fn honours_dont_fragment(from: &Sender, peer: PeerAddr) -> bool {
    from.tuple.transport.is_stream() || (from.tuple.client.family() == Family::V4 && peer.family() == Family::V4)
}
