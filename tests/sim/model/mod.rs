//! What a server must do, in plain maps: written from RFC 8489, RFC 8656 and the project's
//! stated readings of them, without a look at how the library does it.
//!
//! The model is asked after the server has acted. It says what the act must have been and
//! changes its own maps; where an RFC leaves a choice (which of several errors is named, which
//! port is given) the server's choice is taken, if it is one of the lawful ones.

mod auth;
mod relay;
mod request;

use super::message::{Algorithm, Class, Seal};
use super::operator::Order;
use super::policy::{self, Peer};
use super::pool::Pool;
use super::setting::Setting;
use super::world::worker_of;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use turnpike::turn::{CHANNEL_MS, DropReason, FiveTuple, LinkId, Now, PERMISSION_MS, Sender, Server, Transport};

/// How long the transaction of a finished allocation is remembered.
const TOMBSTONE_MS: u64 = 40_000;

/// A 5-tuple as a key of maps.
pub type Path = (SocketAddr, SocketAddr, Transport);

pub fn path(tuple: &FiveTuple) -> Path {
    (tuple.client.0, tuple.server, tuple.transport)
}

/// 0 for IPv4, 1 for IPv6.
pub fn family(ip: IpAddr) -> usize {
    usize::from(ip.is_ipv6())
}

/// What the server must have done with a datagram.
#[derive(Clone, Debug)]
pub enum Expected {
    /// Silence, for one of these reasons.
    Silence(&'static [DropReason]),
    ToPeer {
        from: SocketAddr,
        peer: SocketAddr,
        payload: Vec<u8>,
        dont_fragment: bool,
        own: bool,
    },
    ToClient {
        to: Path,
        link: LinkId,
        peer: SocketAddr,
        channel: Option<u16>,
    },
    Reply(Reply),
    /// A Data indication about an ICMP error.
    Icmp {
        to: Path,
        link: LinkId,
        peer: SocketAddr,
        value: [u8; 8],
    },
}

/// What an answer must say.
#[derive(Clone, Debug)]
pub struct Reply {
    pub class: Class,
    /// The codes that are lawful; 0 for success.
    pub codes: Vec<u16>,
    /// All its attributes but ERROR-CODE and NONCE, in any order.
    pub attributes: Vec<(u16, Vec<u8>)>,
    /// A new nonce must be there.
    pub challenge: bool,
    pub seal: Option<(Seal, Vec<u8>)>,
    pub fingerprint: bool,
    /// What the request may have changed: nothing, unless this is set.
    pub may_change: bool,
}

/// A token bucket as the definition has it, in thousandths.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tokens(Option<(u64, u64)>);

impl Tokens {
    fn take(&mut self, now: Now, per_second: u64, room: u64, amount: u64) -> bool {
        let full = room * 1000;
        let (had, at_ms) = self.0.unwrap_or((full, now.mono_ms));
        let has = full.min(had + (now.mono_ms - at_ms) * per_second);
        let enough = has >= amount * 1000;
        self.0 = Some((if enough { has - amount * 1000 } else { has }, now.mono_ms));
        enough
    }
}

/// What goes at once however low a rate is: a datagram as long as there are any.
const LONGEST: u64 = 0xFFFF;

/// What a credential may use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Caps {
    pub allocations: Option<u32>,
    pub rate: Option<u64>,
    pub bytes: Option<u64>,
}

/// One allocation.
#[derive(Clone, Debug)]
pub struct Allocation {
    pub link: LinkId,
    /// `None` for one made without credentials.
    pub user: Option<Vec<u8>>,
    pub key: Option<(Algorithm, Vec<u8>)>,
    pub payer: String,
    pub tid: [u8; 12],
    /// Address and end, by family.
    pub relays: [Option<(SocketAddr, u64)>; 2],
    pub token: Option<[u8; 8]>,
    /// Family and code of what a dual request did not get.
    pub missing: Option<(u8, u16)>,
    pub session_end_ms: u64,
    pub permissions: BTreeMap<IpAddr, u64>,
    pub channels: BTreeMap<u16, (SocketAddr, u64)>,
    /// Packets and bytes to peers, packets and bytes to the client.
    pub traffic: [u64; 4],
    caps: Caps,
    /// Bytes it may still carry; `None` where nothing is said of them.
    bytes_left: Option<u64>,
    rates: [Tokens; 2],
    icmp: Tokens,
}

impl Allocation {
    /// What keeps `bytes` in a direction from being relayed, if anything does.
    fn meter(&mut self, now: Now, direction: usize, server_rate: u64, bytes: u64) -> Option<DropReason> {
        let rates = [self.caps.rate, Some(server_rate).filter(|rate| *rate != 0)];
        if let Some(rate) = rates.into_iter().flatten().min()
            && !self.rates[direction].take(now, rate, rate.max(LONGEST), bytes)
        {
            return Some(DropReason::Bandwidth);
        }
        let is_too_much = self.bytes_left.is_some_and(|left| bytes > left);
        self.bytes_left = self.bytes_left.map(|left| left.saturating_sub(bytes));
        is_too_much.then_some(DropReason::CredentialUsedUp)
    }

    /// Counts a packet in a direction; a counter that is at its end stays there.
    fn count(&mut self, direction: usize, bytes: usize) {
        for (at, amount) in [(2 * direction, 1), (2 * direction + 1, bytes as u64)] {
            self.traffic[at] = self.traffic[at].saturating_add(amount);
        }
    }

    fn lifetime_s(&self, now: Now) -> u32 {
        let first_end = self.relays.iter().flatten().map(|relay| relay.1).min().unwrap_or(0);
        first_end.saturating_sub(now.mono_ms).div_ceil(1000) as u32
    }

    fn permits(&self, ip: IpAddr) -> bool {
        self.permissions.contains_key(&ip)
    }

    fn permit(&mut self, now: Now, ip: IpAddr) {
        self.permissions.insert(ip, now.mono_ms + PERMISSION_MS);
    }

    fn bind(&mut self, now: Now, number: u16, peer: SocketAddr) {
        self.channels.insert(number, (peer, now.mono_ms + CHANNEL_MS));
        self.permit(now, peer.ip());
    }

    /// Takes one relayed address with all that leads through it.
    fn end_family(&mut self, family: usize) {
        self.relays[family] = None;
        self.permissions.retain(|ip, _| self::family(*ip) != family);
        self.channels.retain(|_, (peer, _)| self::family(peer.ip()) != family);
    }
}

/// An allocation that is over, and the transaction that must not bring it back.
#[derive(Clone, Debug)]
struct Ended {
    path: Path,
    tid: [u8; 12],
    at_ms: u64,
    /// When the server said so; validity is judged at look-up, so that may be later.
    noticed_ms: Option<u64>,
}

/// The model of all workers: a path belongs to one of them, so one map is enough.
#[derive(Debug)]
pub struct Model {
    pub setting: Setting,
    /// The drain under way.
    pub order: Option<Order>,
    revoked: Vec<String>,
    pub allocations: BTreeMap<Path, Allocation>,
    ended: Vec<Ended>,
    /// Nonces given out: to whom, in which second, and in which form.
    nonces: BTreeMap<Vec<u8>, (Path, u64, Vec<u8>)>,
    /// Answers left to each unverified source, by worker.
    strangers: BTreeMap<(usize, u128), Tokens>,
    /// Whether what is judged was answered, and how often a stranger was whom the model would have kept waiting: the
    /// server's table has a fixed size, and two sources may share a place in it.
    was_answered: bool,
    pub forgotten: u64,
}

impl Model {
    pub fn new(setting: Setting) -> Self {
        let (allocations, nonces, strangers) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let (order, revoked, ended) = (None, Vec::new(), Vec::new());
        let (was_answered, forgotten) = (false, 0);
        Model { setting, order, revoked, allocations, ended, nonces, strangers, was_answered, forgotten }
    }

    /// Takes away all that has ended by now.
    pub fn advance(&mut self, now: Now) {
        let mut over = Vec::new();
        for (path, allocation) in &mut self.allocations {
            let end_ms = allocation.relays.iter().flatten().map(|relay| relay.1).max().unwrap_or(0);
            for family in [0, 1] {
                if allocation.relays[family].is_some_and(|(_, end_ms)| end_ms <= now.mono_ms) {
                    allocation.end_family(family);
                }
            }
            allocation.permissions.retain(|_, end_ms| now.mono_ms < *end_ms);
            allocation.channels.retain(|_, (_, end_ms)| now.mono_ms < *end_ms);
            if allocation.relays == [None, None] {
                over.push((*path, end_ms));
            }
        }
        for (path, at_ms) in over {
            self.end(path, at_ms);
        }
    }

    /// Ends an allocation, if there is one.
    pub fn end(&mut self, path: Path, at_ms: u64) {
        if let Some(allocation) = self.allocations.remove(&path) {
            self.ended.push(Ended { path, tid: allocation.tid, at_ms, noticed_ms: None });
        }
    }

    /// The server has said that the allocation on this path is gone.
    pub fn notice(&mut self, now: Now, path: Path) {
        self.ended.retain(|e| e.noticed_ms.is_none_or(|at_ms| now.mono_ms < at_ms + TOMBSTONE_MS));
        let ended = self.ended.iter_mut().find(|e| e.path == path && e.noticed_ms.is_none());
        ended.expect("only what is over is deleted").noticed_ms = Some(now.mono_ms);
    }

    /// A reload: what its policy forbids ends with it.
    pub fn configure(&mut self, setting: Setting) {
        self.setting = setting;
        let setting = &self.setting;
        for allocation in self.allocations.values_mut() {
            allocation.permissions.retain(|ip, _| policy::judge(setting, *ip) != Peer::Denied);
            allocation.channels.retain(|_, (peer, _)| policy::judge_peer(setting, *peer) != Peer::Denied);
        }
    }

    /// Other ids are revoked; whose they are ends.
    pub fn revoke(&mut self, now: Now, ids: Vec<String>) {
        self.revoked = ids;
        let is_over = |a: &Allocation| {
            a.user.as_ref().is_some_and(|user| self.is_revoked(user)) || self.revoked.contains(&a.payer)
        };
        let over: Vec<Path> = self.allocations.iter().filter(|(_, a)| is_over(a)).map(|(path, _)| *path).collect();
        over.into_iter().for_each(|path| self.end(path, now.mono_ms));
    }

    /// So many bytes are left of a credential.
    pub fn settle(&mut self, now: Now, path: Path, bytes_left: u64) {
        let capped = self.allocations.get_mut(&path).and_then(|a| a.bytes_left.as_mut());
        let Some(left) = capped else { return };
        *left = bytes_left;
        if bytes_left == 0 {
            self.end(path, now.mono_ms);
        }
    }

    /// Another server goes on in place of a worker; it has answered no stranger yet.
    pub fn restart(&mut self, worker: usize) {
        self.strangers.retain(|key, _| key.0 != worker);
    }

    /// What a worker's allocations have carried is counted from here on.
    pub fn preset(&mut self, now: Now, worker: usize, count: u64) {
        self.advance(now);
        let of_worker = self.allocations.iter_mut().filter(|(path, _)| worker_of(path.0) == worker);
        of_worker.for_each(|(_, allocation)| allocation.traffic = [count; 4]);
    }

    /// Remembers the nonce of an answer.
    pub fn learn_nonce(&mut self, now: Now, to: Path, nonce: &[u8]) {
        self.nonces.insert(nonce.to_vec(), (to, now.mono_ms / 1000, self.nonce_prefix()));
    }

    /// What a datagram from a client must have led to. `pool` knows what was asked of it.
    pub fn client(
        &mut self,
        now: Now,
        worker: usize,
        from: &Sender,
        bytes: &[u8],
        pool: &Pool,
        was_answered: bool,
    ) -> Expected {
        self.was_answered = was_answered;
        self.advance(now);
        let last = (self.setting.last_channel() >> 8) as u8;
        match bytes.first() {
            Some(0..=3) => self.stun(now, worker, from, bytes, pool),
            Some(first) if (0x40..=last).contains(first) => self.channel_data(now, path(&from.tuple), bytes),
            _ => Expected::Silence(&[DropReason::Malformed]),
        }
    }

    /// When something of an allocation ends, and of which; the first ends first.
    pub fn ends(&self) -> Vec<(u64, Path)> {
        let ends = |(path, a): (&Path, &Allocation)| {
            let relays = a.relays.iter().flatten().map(|relay| relay.1);
            let ends = relays.chain(a.permissions.values().copied()).chain(a.channels.values().map(|c| c.1));
            ends.map(|end_ms| (end_ms, *path)).collect::<Vec<_>>()
        };
        let mut ends: Vec<_> = self.allocations.iter().flat_map(ends).collect();
        ends.sort_unstable();
        ends.dedup();
        ends
    }

    /// Whether a client may come from here.
    pub fn is_home(&self, client: SocketAddr) -> bool {
        let refused = client.port() == 0 || policy::is_refused_source(client.ip());
        !refused && !self.setting.relay.contains(&client.ip())
    }

    /// Compares what is live with the servers' tables.
    pub fn assert_equals(&self, servers: &[Server], now: Now) {
        let tables = servers.iter().flat_map(|server| server.allocations());
        let mut live = 0;
        for (id, table) in tables.filter(|(_, allocation)| allocation.is_live(now.mono_ms)) {
            live += 1;
            let own = self.allocations.get(&path(&table.tuple));
            let own = own.unwrap_or_else(|| panic!("{id:?} on {:?} is over, says the model", table.tuple));
            let relays =
                table.relays.map(|r| r.filter(|r| now.mono_ms < r.until_ms).map(|r| (r.relayed.0, r.until_ms)));
            assert_eq!(relays, own.relays, "relayed addresses of {id:?}");
            // What leads through a family that is over is of no use, whether freed yet or not.
            let of_use = |ip: &IpAddr| relays[family(*ip)].is_some();
            let permissions = table.permissions.live(now.mono_ms).filter(|(ip, _)| of_use(ip));
            assert_eq!(permissions.collect::<BTreeMap<_, _>>(), own.permissions, "permissions of {id:?}");
            let channels = table.channels.live(now.mono_ms).filter(|c| of_use(&c.peer.ip()));
            let channels = channels.map(|c| (c.number.get(), (c.peer.0, c.until_ms)));
            assert_eq!(channels.collect::<BTreeMap<_, _>>(), own.channels, "channels of {id:?}");
            let t = table.traffic;
            let traffic = [t.to_peer_packets, t.to_peer_bytes, t.to_client_packets, t.to_client_bytes];
            assert_eq!(traffic, own.traffic, "traffic of {id:?}");
            assert_eq!(table.account.payer.as_ref(), own.payer, "who pays for {id:?}");
            assert_eq!(table.caps.bytes.map(|_| table.bytes_left), own.bytes_left, "bytes left of {id:?}");
            assert_eq!(table.session_end_ms, own.session_end_ms, "the longest life of {id:?}");
        }
        assert_eq!(live, self.allocations.len(), "live allocations");
    }
}
