//! How each operation is carried out.

use super::super::client::{Surroundings, payload};
use super::super::message::{self as m, Class};
use super::super::mirror::Mirror;
use super::super::model::{Allocation, path};
use super::super::network::{Leg, Side};
use super::super::op::{Op, Part, Place, Refuge, Severed, Twist, Whom};
use super::super::operator::{self, Order};
use super::super::setting::{Change, PEERS, addr};
use super::{LAG_MS, OUT_LEN, World, worker_of};
use std::net::SocketAddr;
use turnpike::turn::allocation::{State, Traffic};
use turnpike::turn::{ClientAddr, FiveTuple, PeerAddr, Sender, Server};
use turnpike::wire::attribute::IcmpError;

/// How long a client waits for an answer here, be it lost or not.
const ANSWER_MS: u64 = 20;

impl World {
    pub(super) fn carry_out(&mut self, op: Op) {
        match op {
            Op::Message { client, class, method, parts, twist, fingerprint } => {
                self.message(client, class, method, &parts, twist, fingerprint);
            }
            Op::Channel { client, number, claimed, len } => {
                let [n0, n1] = number.to_be_bytes();
                let [l0, l1] = (claimed as u16).to_be_bytes();
                self.send(client, [&[n0, n1, l0, l1], &payload(len)[..]].concat());
            }
            Op::Repeat { client, back, times } => {
                for bytes in self.clients[client].sent.get(back).cloned().into_iter().cycle().take(times) {
                    self.fly(client, bytes);
                }
            }
            Op::Mangle { client, back, flips, cut } => self.mangle(client, back, &flips, cut as usize),
            Op::Raw { client, bytes } => self.fly(client, bytes),
            Op::Peer { from, to, len } => self.peer_sends(from, to, len),
            Op::Icmp { peer, to, kind, code, times } => (0..times).for_each(|_| self.icmp(peer, to, kind, code)),
            Op::Clock { .. } => {}
            Op::Nap { ms } => self.nap(ms),
            Op::Brink { nth, side } => self.brink(nth, side),
            Op::Wall { s } => self.wall_offset_s += s,
            Op::Lag => self.lag_until_ms = self.now.mono_ms + LAG_MS,
            Op::Suspend { ms } => self.suspend(ms),
            Op::Cut { side, ms } => self.cut(side, ms),
            Op::Disconnect { client } => self.disconnect(client),
            Op::Rebind { client, to } => self.rebind(client, to),
            Op::Close { nth } => self.close(nth),
            Op::Configure { change } => self.configure(change),
            Op::Restart { worker, counters } => self.restart(worker, counters),
            Op::Drain { order } => self.drain_off(order.map(|(list, left_ms)| Order::new(self.now, list, left_ms))),
            Op::Revoke { whom } => self.revoke(whom),
            Op::Settle { nth, bytes_left } => self.settle(nth, bytes_left),
        }
    }

    fn message(&mut self, client: usize, class: Class, method: u16, parts: &[Part], twist: Twist, fingerprint: bool) {
        let mut writer = self.clients[client].clone();
        let held = self.pool.held();
        let bytes = writer.write(&self.surroundings(client, &held), class, method, parts, twist, fingerprint);
        let is_good = self.is_eager && class == Class::Request && twist == Twist::None;
        writer.pending = is_good.then(|| (bytes[8..20].try_into().expect("twelve bytes"), method, parts.to_vec()));
        self.clients[client] = writer;
        self.send(client, bytes);
    }

    /// A request that was challenged is asked again, once.
    pub(super) fn meet_challenge(&mut self, client: usize, answer: &m::Reading) {
        let challenged = self.clients[client].pending.take_if(|pending| pending.0 == answer.tid);
        if let Some((_, method, parts)) = challenged.filter(|_| matches!(answer.code(), 401 | 438)) {
            self.message(client, Class::Request, method, &parts, Twist::None, false);
            self.clients[client].pending = None;
        }
    }

    /// What was granted is made use of, both ways, while it lasts.
    pub(super) fn use_grant(&mut self, client: usize, answer: &m::Reading) {
        let is_grant = answer.code() == 0 && matches!(answer.method, m::CREATE_PERMISSION | m::CHANNEL_BIND);
        let known = &self.clients[client];
        let Some(&peer) = known.peers.last().filter(|_| is_grant) else { return };
        match known.channels.last() {
            Some(number) if answer.method == m::CHANNEL_BIND => {
                self.send(client, [&number.to_be_bytes()[..], &[0, 60], &payload(60)].concat());
            }
            _ => {
                let parts = [Part::Peer(peer), Part::Payload(60)];
                self.message(client, Class::Indication, m::SEND, &parts, Twist::None, false);
            }
        }
        self.peer_sends(peer, Place::Client(client), 160);
    }

    fn surroundings<'a>(&'a self, client: usize, held: &'a [SocketAddr]) -> Surroundings<'a> {
        let neighbour = &self.clients[(client + 1) % self.clients.len()];
        let nonce = neighbour.nonces.last().cloned().unwrap_or_default();
        Surroundings {
            held,
            tokens: &self.tokens,
            neighbour: (neighbour.credential.clone(), nonce),
            setting: &self.setting,
            unix_s: self.now.unix_s,
        }
    }

    fn send(&mut self, client: usize, bytes: Vec<u8>) {
        self.clients[client].remember(bytes.clone());
        self.fly(client, bytes);
    }

    fn fly(&mut self, client: usize, bytes: Vec<u8>) {
        let client = &self.clients[client];
        let leg = Leg::Server { from: client.sender(), bytes };
        self.network.send(self.now.mono_ms, leg, client.is_stream());
    }

    fn mangle(&mut self, client: usize, back: usize, flips: &[u32], cut: usize) {
        let Some(mut bytes) = self.clients[client].sent.get(back).cloned() else { return };
        for flip in flips {
            let at = (*flip as usize / 8) % bytes.len().max(1);
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << (flip % 8);
            }
        }
        bytes.truncate(bytes.len().saturating_sub(cut));
        self.fly(client, bytes);
    }

    /// A peer's address, and the relayed address of its family at a place.
    fn relation(&self, peer: usize, place: Place) -> Option<(SocketAddr, SocketAddr)> {
        let held = self.pool.held();
        let peer = self.surroundings(0, &held).peer(peer);
        let list = match place {
            Place::Held(nth) => vec![*held.get(nth % held.len().max(1))?],
            Place::Client(client) => self.clients[client].relayed.clone(),
        };
        list.into_iter().find(|at| at.is_ipv4() == peer.is_ipv4()).map(|at| (peer, at))
    }

    fn peer_sends(&mut self, from: usize, to: Place, len: usize) {
        if let Some((from, to)) = self.relation(from, to) {
            self.network.send(self.now.mono_ms, Leg::Relay { from, to, bytes: payload(len) }, false);
        }
    }

    fn nap(&mut self, ms: u64) {
        let lifetime = [Part::Raw(m::LIFETIME, 3600u32.to_be_bytes().to_vec())];
        for client in 0..self.clients.len() {
            if self.clients[client].holds {
                self.message(client, Class::Request, m::REFRESH, &lifetime, Twist::None, false);
            }
        }
        self.advance(ms);
    }

    /// Goes to where something of an allocation ends, and tries all that the allocation allows.
    fn brink(&mut self, nth: usize, side: u64) {
        if nth % 2 == 1 {
            self.nap(ANSWER_MS); // so that what is in an allocation ends before it
        }
        self.model.advance(self.now);
        let ends = self.model.ends();
        let Some(&(end_ms, path)) = ends.get(nth % ends.len().max(1)) else { return };
        let before = self.model.allocations[&path].clone();
        let tuple = FiveTuple { client: ClientAddr(path.0), server: path.1, transport: path.2 };
        self.advance((end_ms + side).saturating_sub(self.now.mono_ms + 1));
        for (number, (peer, _)) in &before.channels {
            let [n0, n1] = number.to_be_bytes();
            self.client_says(&Sender { tuple, link: before.link }, &[n0, n1, 0, 1, 0xC0]);
            self.peer_tries(&before, *peer);
        }
        for ip in before.permissions.keys() {
            self.peer_tries(&before, SocketAddr::new(*ip, 7777));
        }
        if let Some(client) = self.clients.iter().position(|client| client.tuple == tuple) {
            self.bind_anew(client, &before);
        }
    }

    /// What was bound to one channel is bound to its neighbour, which a live binding forbids.
    fn bind_anew(&mut self, client: usize, before: &Allocation) {
        for (number, (peer, _)) in &before.channels {
            let Some(known) = PEERS.iter().position(|text| addr(text) == *peer) else { continue };
            let [n0, n1] = (number ^ 1).to_be_bytes();
            let parts = [Part::Raw(m::CHANNEL_NUMBER, vec![n0, n1, 0, 0]), Part::Peer(known)];
            self.message(client, Class::Request, m::CHANNEL_BIND, &parts, Twist::None, false);
            self.advance(ANSWER_MS);
            self.peer_tries(before, *peer);
        }
    }

    /// A peer's datagram that arrives at once.
    fn peer_tries(&mut self, allocation: &Allocation, peer: SocketAddr) {
        if let Some((at, _)) = allocation.relays[usize::from(peer.is_ipv6())] {
            self.peer_says(peer, at, b"?");
        }
    }

    /// An ICMP error about a packet that left a relayed address.
    fn icmp(&mut self, peer: usize, to: Place, kind: u8, code: u8) {
        let Some((peer, at)) = self.relation(peer, to) else { return };
        let Some((worker, id)) = self.pool.holder(at) else { return };
        let error = IcmpError { kind, code, error_value: 1280 };
        let mut out = [0xA5; OUT_LEN];
        let verdict = self.servers[worker].handle_icmp(self.now, id, PeerAddr(peer), error, &mut out);
        self.trace.line(self.now.mono_ms, "   ", &verdict);
        let expected = self.model.icmp(self.now, at, peer, kind, code, 1280);
        self.conclude(worker, None, Some(peer), &[], None, verdict, &out, &expected);
    }

    fn disconnect(&mut self, client: usize) {
        let tuple = self.clients[client].tuple;
        if tuple.transport.is_stream() {
            let worker = worker_of(tuple.client.0);
            self.model.advance(self.now);
            self.model.end(path(&tuple), self.now.mono_ms);
            self.servers[worker].handle_disconnect(self.now, &tuple);
            self.drain(worker);
            self.rebind(client, Refuge::NextPort);
        }
    }

    /// Nobody runs, and what arrives waits; then everyone runs at once.
    fn suspend(&mut self, ms: u64) {
        self.set_clock(self.now.mono_ms + ms);
        self.advance(0);
    }

    fn cut(&mut self, side: Severed, ms: u64) {
        let side = match side {
            Severed::Client(client) => Side::Client(self.clients[client].tuple.client.0),
            Severed::Clients => Side::Clients,
            Severed::Peers => Side::Peers,
        };
        self.network.cut(side, self.now.mono_ms + ms);
    }

    fn rebind(&mut self, client: usize, to: Refuge) {
        let old = self.clients[client].tuple.client.0;
        // A connection has one port as long as it lasts.
        let drifts = matches!(to, Refuge::Unnoticed | Refuge::Back) && !self.clients[client].is_stream();
        let next = if old.port() > 60_000 { 2000 } else { old.port().max(1000) + 1 };
        let held = self.pool.held();
        let address = match to {
            Refuge::PortZero => SocketAddr::new(old.ip(), 0),
            Refuge::Teredo => addr("[2001:0:1::2]:4001"),
            Refuge::SixToFour => addr("[2002:808:808::2]:4001"),
            Refuge::Relayed(nth) if !held.is_empty() => held[nth % held.len()],
            Refuge::Back if drifts && self.clients[client].former.is_some() => {
                self.clients[client].former.take().expect("looked up before")
            }
            _ if self.model.is_home(old) => SocketAddr::new(old.ip(), next),
            _ => SocketAddr::new(addr("5.5.9.1:1").ip(), next),
        };
        if self.clients.iter().all(|client| client.tuple.client.0 != address) {
            if drifts {
                self.clients[client].drift_to(address);
            } else {
                self.clients[client].move_to(address);
            }
            self.clients[client].is_astray = !self.model.is_home(address);
        }
    }

    /// The operator ends an allocation.
    fn close(&mut self, nth: usize) {
        let all: Vec<_> =
            (0..2).flat_map(|w| self.servers[w].allocations().map(move |(id, a)| (w, id, a.tuple))).collect();
        let Some(&(worker, id, tuple)) = all.get(nth % all.len().max(1)) else { return };
        self.model.advance(self.now);
        self.model.end(path(&tuple), self.now.mono_ms);
        assert!(self.servers[worker].close(self.now, id), "what is there can be closed");
        assert!(!self.servers[worker].close(self.now, id), "and only once");
        self.drain(worker);
    }

    fn configure(&mut self, change: Change) {
        self.setting.draining = false; // unless that is the change, it is over
        self.setting.change(change);
        self.config = self.setting.config(self.nonce_key);
        self.model.advance(self.now);
        self.model.configure(self.setting.clone());
        self.pool.configure(&self.setting);
        self.note_limits();
        for worker in 0..2 {
            self.servers[worker].configure(self.now, self.config.clone());
            self.drain(worker);
        }
    }

    /// Named for what the operator does: [`World::drain`] is about events.
    fn drain_off(&mut self, order: Option<Order>) {
        self.order = order;
        self.model.order = order;
        for server in &mut self.servers {
            server.drain(self.now, order.map(|order| order.told(self.now)));
        }
    }

    fn revoke(&mut self, whom: Whom) {
        let whole = |client: usize| String::from_utf8(self.clients[client].credential.name.clone());
        self.revoked = match whom {
            Whom::Nobody => Vec::new(),
            Whom::Named(ids) => ids.iter().map(|id| String::from(*id)).collect(),
            Whom::Client(client) => whole(client).into_iter().collect(),
        };
        self.model.advance(self.now);
        self.model.revoke(self.now, self.revoked.clone());
        for worker in 0..2 {
            self.servers[worker].revoke(self.now, operator::revocations(&self.revoked));
            self.drain(worker);
        }
    }

    /// The ledger of all workers has told what a credential has left.
    fn settle(&mut self, nth: usize, bytes_left: u64) {
        let all: Vec<_> =
            (0..2).flat_map(|w| self.servers[w].allocations().map(move |(id, a)| (w, id, a.tuple))).collect();
        let Some(&(worker, id, tuple)) = all.get(nth % all.len().max(1)) else { return };
        self.model.advance(self.now);
        self.model.settle(self.now, path(&tuple), bytes_left);
        self.servers[worker].set_bytes_left(self.now, id, bytes_left);
        self.drain(worker);
    }

    /// Another server takes a worker's allocations over, as after a live upgrade.
    fn restart(&mut self, worker: usize, counters: Option<u64>) {
        let old = &self.servers[worker];
        let written = serde_json::to_string(&old.state()).expect("a state can be written");
        let mut state: State = serde_json::from_str(&written).expect("and read");
        assert_eq!(state, old.state(), "the state is read as it was written");
        if let Some(value) = counters {
            self.model.preset(self.now, worker, value);
            for allocation in &mut state.allocations {
                allocation.traffic = Traffic {
                    to_peer_packets: value,
                    to_peer_bytes: value,
                    to_client_packets: value,
                    to_client_bytes: value,
                };
            }
        }
        self.servers_made += 1;
        let mut new = Server::new(self.config.clone(), self.now, self.servers_made);
        new.drain(self.now, self.order.map(|order| order.told(self.now)));
        new.revoke(self.now, operator::revocations(&self.revoked));
        let ids = new.restore(state).expect("the version is known");
        assert_eq!(ids.len(), old.allocation_count(), "all are taken over");
        for id in ids {
            for relay in new.allocation(id).expect("taken over").relays.iter().flatten() {
                self.pool.rename(relay.relayed.0, worker, id);
            }
        }
        let mirror = Mirror::of(&new, self.now);
        assert_eq!(mirror.nameless(self.now), self.mirrors[worker].nameless(self.now), "what goes on");
        self.traffic.retain(|key, _| key.0 != worker);
        self.restarted_ms = self.now.mono_ms;
        self.most_at_once[worker] = new.allocation_count();
        self.model.restart(worker);
        self.mirrors[worker] = mirror;
        self.servers[worker] = new;
    }
}
