//! The world: two workers with one pool, clients, peers, a network, and the model that is asked
//! after everything that happens.

mod deeds;

use super::act::Act;
use super::agreement::{agree, frame};
use super::chance::{Choice, Seeded};
use super::client::{Client, Credential};
use super::message::{self as m, Algorithm};
use super::mirror::Mirror;
use super::model::{Model, path};
#[cfg(test)]
use super::network::Quality;
use super::network::{Leg, Network};
use super::op::{Op, Outlook, Pace};
use super::operator::Order;
use super::pool::{Door, Pool};
use super::setting::{Setting, UNIX_START_S};
use super::trace::Trace;
use super::{invariant, message};

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use turnpike::turn::allocation::{State, Traffic};
use turnpike::turn::{AllocationId, Config, Event, FiveTuple, Now, PeerAddr, PortError, Sender, Server, Verdict};

/// Bytes an answer may have.
const OUT_LEN: usize = 1500;
/// Refusals after which a client takes a credential that works.
const REFUSALS_MAX: usize = 3;
/// How long an operation of a script takes.
const SCRIPT_PAUSE_MS: u64 = 10;
/// How long a starved worker starves.
const LAG_MS: u64 = 90_000;
/// When a script begins.
const BEGIN_MS: u64 = 1_000_000;
/// Where a number of 32 bits has no more room for milliseconds (or, times a thousand, for seconds), and how long
/// before that a world begins.
const WRAP_MS: u64 = 1 << 32;
const NEAR_MS: u64 = 400_000;
/// Longer than any allocation lives.
const EVERYTHING_ENDS_MS: u64 = 20_000_000;

/// All there is.
#[derive(Debug)]
pub struct World {
    pub now: Now,
    pub setting: Setting,
    pub servers: Vec<Server>,
    pub pool: Pool,
    /// Traffic of each allocation when it was last looked at.
    pub traffic: BTreeMap<(usize, AllocationId), Traffic>,
    /// Most permissions and channels any setting so far allowed an allocation.
    pub crowd_max: (usize, usize),
    /// Most allocations each worker's server had at once.
    pub most_at_once: [usize; 2],
    pub trace: Trace,
    mirrors: Vec<Mirror>,
    model: Model,
    network: Network,
    clients: Vec<Client>,
    tokens: Vec<[u8; 8]>,
    nonce_key: [u8; 32],
    /// The drain under way, and who is revoked.
    order: Option<Order>,
    revoked: Vec<String>,
    config: Arc<Config>,
    pace: Pace,
    wall_offset_s: i64,
    /// Clients meet a challenge at once, as real ones do; those of a script wait for their cue.
    is_eager: bool,
    lag_until_ms: u64,
    restarted_ms: u64,
    servers_made: u64,
    chance: Seeded,
}

/// The worker that serves a path: a hash of it, as the kernel would do.
pub fn worker_of(client: SocketAddr) -> usize {
    usize::from(client.port()) % 2
}

impl World {
    /// A world that depends on `seed` only; `replay` says how to see it again.
    pub fn new(seed: u64, replay: String) -> World {
        let mut chance = Seeded::new(seed);
        let setting = Setting::choose(&mut chance);
        let pace = chance.pick(&[Pace::Calls, Pace::Minutes, Pace::Days]);
        let network = Network::choose(Seeded::new(chance.any()));
        let begin_ms = match chance.below(16) {
            0 => WRAP_MS - NEAR_MS,
            1 => WRAP_MS * 1000 - NEAR_MS,
            _ => 1_000_000 + chance.any() % 200_000_000,
        };
        let mut world = World::build(setting, network, pace, chance, begin_ms, replay);
        world.is_eager = true;
        let kinds = world.setting.users.len() as u32 + Credential::LIMITED_KINDS;
        // In some worlds all are one person, so that what a person may hold is reached.
        let shared = world.chance.one_in(5).then(|| world.chance.below(kinds) as usize);
        for client in &mut world.clients {
            let chance = &mut world.chance;
            client.kind = if let Some(kind) = shared {
                kind
            } else if chance.one_in(3) {
                chance.below(kinds) as usize
            } else {
                chance.below(2) as usize
            };
            let ttl_s = i64::from(chance.pick(&[30, 600, 3600, 86_400]));
            client.algorithm = chance.pick(&[None, Some(Algorithm::Md5), Some(Algorithm::Sha256)]);
            client.credential = Credential::mint(&world.setting, client.kind, world.now.unix_s, ttl_s);
        }
        world
    }

    /// A world for a script: the plain setting with a change, and a network without faults.
    pub fn calm(change: impl FnOnce(&mut Setting)) -> World {
        let mut setting = Setting::plain();
        change(&mut setting);
        let network = Network::perfect(Seeded::new(1));
        World::build(setting, network, Pace::Calls, Seeded::new(2), BEGIN_MS, String::from("this test"))
    }

    /// A calm world over another network, whose chances `seed` decides.
    #[cfg(test)]
    pub fn over(quality: Quality, seed: u64) -> World {
        let network = Network::new(quality, Seeded::new(seed));
        let replay = format!("this test, seed {seed}");
        World::build(Setting::plain(), network, Pace::Calls, Seeded::new(!seed), BEGIN_MS, replay)
    }

    /// A calm world that begins shortly before the clock reaches `ms`.
    #[cfg(test)]
    pub fn shortly_before(ms: u64) -> World {
        let network = Network::perfect(Seeded::new(1));
        let replay = format!("this test, before {ms} ms");
        World::build(Setting::plain(), network, Pace::Calls, Seeded::new(2), ms - NEAR_MS, replay)
    }

    /// A client takes the credential of a sort, which expires after `ttl_s` if it ever does.
    #[cfg(test)]
    pub fn give(&mut self, client: usize, kind: usize, ttl_s: i64) {
        let credential = Credential::mint(&self.setting, kind, self.now.unix_s, ttl_s);
        (self.clients[client].kind, self.clients[client].credential) = (kind, credential);
    }

    /// The clients as they are.
    #[cfg(test)]
    pub fn clients(&self) -> &[Client] {
        &self.clients
    }

    /// How often an outcome came up.
    #[cfg(test)]
    pub fn times(&self, name: &'static str, code: u16) -> u64 {
        self.trace.tally.get(&(name, code)).copied().unwrap_or(0)
    }

    fn build(
        setting: Setting,
        network: Network,
        pace: Pace,
        mut chance: Seeded,
        begin_ms: u64,
        replay: String,
    ) -> World {
        let mut nonce_key = [0; 32];
        nonce_key.fill_with(|| chance.below(256) as u8);
        let now = Now { mono_ms: begin_ms, unix_s: UNIX_START_S };
        let config = setting.config(nonce_key);
        let servers: Vec<_> = (0..2).map(|_| Server::new(config.clone(), now, chance.any())).collect();
        let mut world = World {
            now,
            servers,
            pool: Pool::new(&setting, Seeded::new(chance.any())),
            traffic: BTreeMap::new(),
            crowd_max: (0, 0),
            most_at_once: [0; 2],
            trace: Trace::new(replay),
            mirrors: vec![Mirror::default(); 2],
            model: Model::new(setting.clone()),
            network,
            clients: Client::all(&Credential::mint(&setting, 0, now.unix_s, 0)),
            tokens: Vec::new(),
            nonce_key,
            order: None,
            revoked: Vec::new(),
            config,
            pace,
            wall_offset_s: 0,
            is_eager: false,
            lag_until_ms: 0,
            restarted_ms: 0,
            servers_made: 2,
            chance,
            setting,
        };
        world.note_limits();
        world
    }

    /// Whether the workers are starved: nobody turns their wheels.
    pub fn is_lagging(&self) -> bool {
        self.now.mono_ms < self.lag_until_ms
    }

    /// When a server last took allocations over: its wheel looks at what was over then within
    /// a tick.
    pub fn restarted_ms(&self) -> u64 {
        self.restarted_ms
    }

    /// Chooses and carries out one operation, and checks everything.
    pub fn step(&mut self, choice: &mut impl Choice) {
        let (is_draining, is_revoking) = (self.order.is_some(), !self.revoked.is_empty());
        let outlook = Outlook { clients: &self.clients, pace: self.pace, is_draining, is_revoking };
        let op = Op::choose(choice, outlook);
        let pause_ms = if let Op::Clock { ms } = op { ms } else { u64::from(self.chance.below(3)) };
        self.happen(op, pause_ms);
    }

    /// Carries out one operation after the other; each is over when the next begins.
    pub fn play(&mut self, script: impl IntoIterator<Item = Op>) {
        for op in script {
            let pause_ms = if let Op::Clock { ms } = op { ms } else { SCRIPT_PAUSE_MS };
            self.happen(op, pause_ms);
        }
    }

    fn happen(&mut self, op: Op, pause_ms: u64) {
        self.trace.step += 1;
        self.trace.line(self.now.mono_ms, "", &op);
        self.carry_out(op);
        self.advance(pause_ms);
        self.check();
    }

    /// Lets everything end: no allocation, no port and no debt may remain.
    pub fn finish(&mut self) {
        self.trace.line(self.now.mono_ms, "", &"the end");
        if self.model.forgotten > 0 {
            self.trace.count("forgotten", 0);
        }
        self.lag_until_ms = 0;
        self.advance(EVERYTHING_ENDS_MS);
        self.check();
        assert!(self.network.is_empty());
        assert_eq!(self.servers.iter().map(Server::allocation_count).sum::<usize>(), 0, "allocations remain");
        assert_eq!((self.pool.ledger.total(), self.pool.held()), (0, vec![]), "debts or ports remain");
        assert!(self.servers.iter().all(|server| server.next_deadline().is_none()), "a wheel still turns");
    }

    fn note_limits(&mut self) {
        let most = |limit: usize| if limit == 0 { usize::MAX } else { limit };
        let limits = &self.setting.limits;
        self.crowd_max.0 = self.crowd_max.0.max(most(limits.permissions_per_allocation));
        self.crowd_max.1 = self.crowd_max.1.max(most(limits.channels_per_allocation));
    }

    /// Time passes; whatever is due on the way happens when it is due.
    fn advance(&mut self, ms: u64) {
        let target_ms = self.now.mono_ms + ms;
        loop {
            self.turn_wheels();
            while let Some(leg) = self.network.arrive(self.now.mono_ms) {
                self.arrive(leg);
            }
            if self.now.mono_ms >= target_ms {
                return;
            }
            let wheels = if self.is_lagging() { Some(self.lag_until_ms) } else { self.next_deadline_ms() };
            let next_ms = [self.network.next_ms(), wheels].into_iter().flatten().min().unwrap_or(target_ms);
            self.set_clock(next_ms.clamp(self.now.mono_ms, target_ms));
        }
    }

    fn set_clock(&mut self, mono_ms: u64) {
        let passed_s = mono_ms / 1000 - self.now.mono_ms / 1000;
        let unix_s = (self.now.unix_s + passed_s).saturating_add_signed(std::mem::take(&mut self.wall_offset_s));
        self.now = Now { mono_ms, unix_s };
    }

    fn next_deadline_ms(&self) -> Option<u64> {
        self.servers.iter().filter_map(Server::next_deadline).min()
    }

    fn turn_wheels(&mut self) {
        if self.is_lagging() {
            return;
        }
        self.model.advance(self.now);
        for worker in 0..2 {
            let mut turns = 0;
            while self.servers[worker].next_deadline().is_some_and(|at_ms| at_ms <= self.now.mono_ms) {
                self.servers[worker].handle_timeout(self.now);
                self.drain(worker);
                turns += 1;
                assert!(turns < 1000, "the wheel of worker {worker} does not stop");
            }
        }
    }

    fn arrive(&mut self, leg: Leg) {
        match leg {
            Leg::Server { from, bytes } => self.client_says(&from, &bytes),
            Leg::Client { to, bytes } => self.tell_client(to, &bytes),
            Leg::Relay { from, to, bytes } | Leg::Parcel { from, to, bytes } => self.peer_says(from, to, &bytes),
        }
    }

    fn client_says(&mut self, from: &Sender, bytes: &[u8]) {
        let worker = worker_of(from.tuple.client.0);
        self.pool.log.clear();
        let crossed = self.pool.crossed;
        let before = (!self.servers[worker].has_allocation(&from.tuple)).then(|| self.servers[worker].state());
        let mut out = [0xA5; OUT_LEN];
        let mut door = Door { pool: &mut self.pool, worker };
        let verdict = self.servers[worker].handle_client(self.now, from, bytes, &mut door, &mut out);
        self.trace.line(self.now.mono_ms, "   ", &verdict);
        self.count_ports(crossed);
        let expected = {
            let was_answered = matches!(verdict, Verdict::Reply { .. });
            self.model.client(self.now, worker, from, bytes, &self.pool, was_answered)
        };
        self.conclude(worker, Some(from), None, bytes, before.as_ref(), verdict, &out, &expected);
    }

    fn peer_says(&mut self, from: SocketAddr, at: SocketAddr, bytes: &[u8]) {
        let Some((worker, id)) = self.pool.holder(at) else { return };
        let verdict = self.servers[worker].handle_peer(self.now, id, PeerAddr(from), bytes.len());
        self.trace.line(self.now.mono_ms, "   ", &verdict);
        let expected = self.model.peer(self.now, at, from, bytes.len());
        self.conclude(worker, None, Some(from), bytes, None, verdict, &[], &expected);
    }

    /// What came of asking for ports; `crossed` tokens had been used elsewhere before.
    fn count_ports(&mut self, crossed: u64) {
        if self.pool.crossed > crossed {
            self.trace.count("token_elsewhere", 0);
        }
        for asked in &self.pool.log {
            match asked.outcome {
                Err(PortError::Quota) => self.trace.count("quota_user", 0),
                Err(PortError::Source) => self.trace.count("quota_source", 0),
                Err(PortError::Cap) => self.trace.count("quota_credential", 0),
                Err(PortError::Capacity) => self.trace.count("quota_total", 0),
                _ => {}
            }
        }
    }

    /// Compares an act with the model, checks it, and sees to its consequences.
    #[allow(clippy::too_many_arguments)]
    fn conclude(
        &mut self,
        worker: usize,
        from: Option<&Sender>,
        peer: Option<SocketAddr>,
        bytes: &[u8],
        before: Option<&State>,
        verdict: Verdict,
        out: &[u8],
        expected: &super::model::Expected,
    ) {
        let events = self.drain(worker);
        let act = Act { worker, from, peer, before, bytes, verdict, out, events: &events };
        agree(&self.servers[worker], &mut self.model, self.now, &act, expected);
        invariant::check_act(self, &act);
        self.count(&act.verdict);
        self.follow(act);
    }

    fn count(&mut self, verdict: &Verdict) {
        match verdict {
            Verdict::Drop(reason) => self.trace.count(reason.name(), 0),
            Verdict::ToPeer { .. } => self.trace.count("to_peer", 0),
            Verdict::ToRelay { .. } => self.trace.count("to_relay", 0),
            Verdict::ToClient { .. } => self.trace.count("to_client", 0),
            Verdict::Indicate { .. } => self.trace.count("indicate", 0),
            Verdict::Reply { answer, .. } => {
                self.trace.count(turnpike::turn::request::method_name(answer.method), answer.code);
            }
        }
    }

    /// Puts on the network what the engine would.
    fn follow(&mut self, act: Act<'_>) {
        let now_ms = self.now.mono_ms;
        match act.verdict {
            Verdict::Drop(_) => {}
            Verdict::ToPeer { via, peer, payload, .. } => {
                let allocation = self.servers[act.worker].allocation(via).expect("it was there");
                let relay = allocation.relay(peer.family(), now_ms).expect("it was live");
                let (to, bytes) = (relay.relayed.0, act.bytes[payload].to_vec());
                if self.chance.one_in(2) {
                    self.network.send(now_ms, Leg::Relay { from: peer.0, to, bytes }, false); // an echo
                }
            }
            Verdict::ToRelay { from, to, payload, .. } => {
                let bytes = act.bytes[payload].to_vec();
                match self.pool.holder(to.0) {
                    Some((worker, _)) if worker != act.worker => {
                        self.trace.count("parcel", 0);
                        self.network.send(now_ms, Leg::Parcel { from: from.0, to: to.0, bytes }, true);
                    }
                    _ => self.peer_says(from.0, to.0, &bytes),
                }
            }
            Verdict::ToClient { via, framing, .. } => {
                let to = self.servers[act.worker].allocation(via).expect("it was there").tuple;
                let is_stream = to.transport.is_stream();
                self.network.send(now_ms, Leg::Client { to, bytes: frame(framing, act.bytes, is_stream) }, is_stream);
            }
            Verdict::Reply { len, .. } => {
                self.trace.bytes(&act.out[..len]);
                if let Some(from) = act.from {
                    let leg = Leg::Client { to: from.tuple, bytes: act.out[..len].to_vec() };
                    self.network.send(now_ms, leg, from.tuple.transport.is_stream());
                }
            }
            Verdict::Indicate { len, .. } => self.trace.bytes(&act.out[..len]),
        }
    }

    fn tell_client(&mut self, to: FiveTuple, bytes: &[u8]) {
        let Some(number) = self.clients.iter().position(|client| client.tuple == to) else { return };
        let client = &mut self.clients[number];
        let Ok(answer) = m::read(bytes) else { return };
        client.learn(&answer);
        if client.refused > REFUSALS_MAX {
            client.credential = Credential::mint(&self.setting, 0, self.now.unix_s, 0);
            client.algorithm = None;
        }
        if let Some(token) = answer.get(message::RESERVATION_TOKEN) {
            self.tokens.push(token.try_into().expect("a token has eight bytes"));
        }
        if self.is_eager {
            self.meet_challenge(number, &answer);
            self.use_grant(number, &answer);
        }
    }

    /// Takes a server's events to those who live by them.
    fn drain(&mut self, worker: usize) -> Vec<Event> {
        let mut events = Vec::new();
        while let Some(event) = self.servers[worker].poll_event() {
            self.mirrors[worker].apply(&event);
            match &event {
                Event::Released { id, relayed, .. } => self.pool.give_back(self.now, worker, *id, relayed.0),
                Event::Deleted { tuple, account, .. } => {
                    self.pool.ledger.release(&account.payer, tuple.client.ip());
                    self.model.advance(self.now);
                    self.model.notice(self.now, path(tuple));
                }
                _ => {}
            }
            events.push(event);
        }
        self.most_at_once[worker] = self.most_at_once[worker].max(self.servers[worker].allocation_count());
        events
    }

    /// Compares tables, mirror and model, and checks what must always hold.
    fn check(&mut self) {
        self.model.advance(self.now);
        for (server, mirror) in self.servers.iter().zip(&self.mirrors) {
            mirror.assert_equals(server, self.now);
        }
        self.model.assert_equals(&self.servers, self.now);
        invariant::check_state(self);
        for (worker, server) in self.servers.iter().enumerate() {
            for (id, allocation) in server.allocations() {
                self.traffic.insert((worker, id), allocation.traffic);
            }
        }
    }
}
