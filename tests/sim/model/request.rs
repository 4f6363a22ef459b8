//! What each request does (RFC 8656 §7 to §12).

use super::super::message::{self as m, Class, Reading};
use super::super::policy::{self, Peer};
use super::super::pool::{Asked, Charged, Pool};
use super::auth::Grant;
use super::{Allocation, Expected, Model, Path, Reply, TOMBSTONE_MS, Tokens, family, path};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use turnpike::turn::{DropReason, Now, PortError, PortKind, Sender, Transport};

/// Attributes below 0x8000 that RFC 8489 and RFC 8656 define.
#[rustfmt::skip]
const KNOWN: &[u16] = &[
    0x0001, 0x0006, 0x0008, 0x0009, 0x000A, 0x000C, 0x000D, 0x0012, 0x0013, 0x0014, 0x0015, 0x0016, 0x0017,
    0x0018, 0x0019, 0x001A, 0x001C, 0x001D, 0x001E, 0x0020, 0x0022,
];
/// Unknown attributes an answer names at most.
const NAMED_MAX: usize = 30;
/// Answers to a stranger in a burst, in seconds of the rate.
const BURST_S: u64 = 4;

/// The attributes of a message that must be understood and are not.
pub(super) fn unknown(r: &Reading) -> Vec<u16> {
    r.attributes.iter().map(|a| a.0).filter(|kind| *kind < 0x8000 && !KNOWN.contains(kind)).collect()
}

impl Reply {
    pub(super) fn error(r: &Reading, codes: &[u16]) -> Reply {
        Reply { class: Class::Error, codes: codes.to_vec(), ..Reply::success(r) }
    }

    pub(super) fn success(r: &Reading) -> Reply {
        Reply {
            class: Class::Success,
            codes: vec![0],
            attributes: Vec::new(),
            challenge: false,
            seal: None,
            fingerprint: r.fingerprint,
            may_change: false,
        }
    }

    fn change(attributes: Vec<(u16, Vec<u8>)>, r: &Reading) -> Reply {
        Reply { attributes, may_change: true, ..Reply::success(r) }
    }
}

impl Model {
    pub(super) fn request(&mut self, now: Now, worker: usize, from: &Sender, r: &Reading, pool: &Pool) -> Expected {
        let known = [m::BINDING, m::ALLOCATE, m::REFRESH, m::CREATE_PERMISSION, m::CHANNEL_BIND];
        if !known.contains(&r.method) {
            return Expected::Silence(&[DropReason::Unexpected]);
        }
        let path = path(&from.tuple);
        let held = self.allocations.contains_key(&path);
        let grant = if r.method == m::BINDING { None } else { Some(self.authenticate(now, path, r)) };
        let is_proved = matches!(&grant, Some(Ok(grant)) if grant.key.is_some());
        let verified = held || is_proved || from.tuple.transport.is_stream() && !r.is_signed();
        if !verified && !self.admit(now, worker, from.tuple.client.ip()) {
            return Expected::Silence(&[DropReason::Unverified]);
        }
        let (grant, mut reply) = match grant {
            None => (None, self.binding(from, r)),
            Some(Err(refusal)) => (None, refusal),
            Some(Ok(grant)) => {
                let reply = self.obey(now, from, r, &grant, pool);
                (Some(grant), reply)
            }
        };
        reply.seal = grant.and_then(|grant| Some((grant.seal?, grant.key?.1)));
        Expected::Reply(reply)
    }

    /// Whether a stranger is answered once more: by address, or by /56.
    fn admit(&mut self, now: Now, worker: usize, source: IpAddr) -> bool {
        let per_second = u64::from(self.setting.limits.unverified_per_second);
        let source = match source {
            IpAddr::V4(ip) => u128::from(ip.to_bits()),
            IpAddr::V6(ip) => ip.to_bits() >> 72 << 72,
        };
        let tokens = self.strangers.entry((worker, source)).or_default();
        let take = |tokens: &mut Tokens| tokens.take(now, per_second, per_second * BURST_S, 1);
        if per_second == 0 || take(tokens) {
            return true;
        }
        if self.was_answered {
            self.forgotten += 1;
            *tokens = Tokens::default();
            return take(tokens);
        }
        false
    }

    fn binding(&self, from: &Sender, r: &Reading) -> Reply {
        let mapped = m::encode_address(from.tuple.client.0, &r.tid);
        refuse_unknown(r).unwrap_or(Reply { attributes: vec![(m::XOR_MAPPED_ADDRESS, mapped)], ..Reply::success(r) })
    }

    /// Ownership, then unknown attributes, then the method.
    fn obey(&mut self, now: Now, from: &Sender, r: &Reading, grant: &Grant, pool: &Pool) -> Reply {
        let path = path(&from.tuple);
        match (r.method, self.allocations.get(&path)) {
            (m::ALLOCATE, Some(held)) if grant.is_owner && held.tid == r.tid => {
                let attributes = allocated(now, from, r, held);
                return Reply { attributes, ..Reply::success(r) };
            }
            (m::ALLOCATE, Some(_)) => return Reply::error(r, &[437]),
            (m::ALLOCATE, None) => {}
            (_, None) => return Reply::error(r, &[437]),
            (_, Some(_)) if !grant.is_owner => return Reply::error(r, &[441]),
            (_, Some(_)) => {}
        }
        if let Some(refusal) = refuse_unknown(r) {
            return refusal;
        }
        match r.method {
            m::ALLOCATE => self.allocate(now, from, r, grant, pool),
            m::REFRESH => self.refresh(now, path, r),
            m::CREATE_PERMISSION => self.create_permission(now, path, r),
            _ => self.channel_bind(now, path, r),
        }
    }

    /// RFC 8656 §7.2.
    fn allocate(&mut self, now: Now, from: &Sender, r: &Reading, grant: &Grant, pool: &Pool) -> Reply {
        let mut wrong = allocate_faults(r);
        let client = from.tuple.client.0;
        let is_just_opened = |asked: &Asked| asked.outcome.is_ok_and(|opened| opened.relayed.0 == client);
        if pool.holder(client).is_some() && !pool.log.iter().any(is_just_opened) {
            wrong.push(403); // a client behind this server's own relay
        }
        let path = path(&from.tuple);
        let ended = self.ended.iter().find(|e| e.path == path && e.tid == r.tid);
        if let Some(ended) = ended.filter(|_| self.order.is_none()) {
            // A server that was late to notice remembers longer.
            if now.mono_ms < ended.at_ms + TOMBSTONE_MS || pool.log.is_empty() {
                wrong.push(437);
            }
        }
        if !wrong.is_empty() {
            assert!(pool.log.is_empty(), "a port was opened for a request that must be refused: {wrong:?}");
            return Reply::error(r, &wrong);
        }
        if let Some(refusal) = self.elsewhere(now, from, r) {
            assert!(pool.log.is_empty(), "a port was opened while clients are sent elsewhere");
            return refusal;
        }
        let payer = self.payer(grant, client.ip());
        let (relays, missing, token) = match opened(r, &charged(grant, &payer, client.ip()), &pool.log) {
            Ok(outcome) => outcome,
            Err(code) => return Reply { may_change: true, ..Reply::error(r, &[code]) },
        };
        let others = self.allocations.values().filter(|other| other.payer == payer).count();
        assert!(grant.caps.allocations.is_none_or(|max| others < max as usize), "{payer} has {others} already");
        let session_end_ms = self.session_end_ms(now, grant);
        let until_ms = self.end_ms(now, r, session_end_ms);
        let allocation = Allocation {
            link: from.link,
            user: grant.name.clone(),
            key: grant.key.clone(),
            payer,
            tid: r.tid,
            relays: relays.map(|relay| relay.map(|addr| (addr, until_ms))),
            token,
            missing,
            session_end_ms,
            permissions: BTreeMap::new(),
            channels: BTreeMap::new(),
            traffic: [0; 4],
            caps: grant.caps,
            bytes_left: grant.caps.bytes,
            rates: [Tokens::default(); 2],
            icmp: Tokens::default(),
        };
        let attributes = allocated(now, from, r, &allocation);
        self.allocations.insert(path, allocation);
        Reply::change(attributes, r)
    }

    /// While the server drains: the answer to whoever wants an allocation.
    fn elsewhere(&self, now: Now, from: &Sender, r: &Reading) -> Option<Reply> {
        let order = self.order?;
        // A late duplicate of what is over is that first, as long as the server remembers.
        let path = path(&from.tuple);
        let is_remembered = |at_ms: u64| now.mono_ms < at_ms + TOMBSTONE_MS;
        let mut over = self.ended.iter().filter(|e| e.path == path && e.tid == r.tid);
        if over.any(|e| e.noticed_ms.is_none_or(is_remembered)) {
            return Some(Reply::error(r, &[437]));
        }
        let client = from.tuple.client.0;
        let of = |v4: bool| order.servers().find(|(addr, _)| addr.is_ipv4() == v4);
        let Some((first, domain)) = of(client.is_ipv4()) else {
            return Some(Reply::error(r, &[508]));
        };
        let second = of(!client.is_ipv4()).filter(|second| second.1 == domain).map(|second| second.0);
        let servers = [Some(first), second].into_iter().flatten();
        let mut attributes: Vec<_> = servers.map(|addr| (m::ALTERNATE_SERVER, m::plain_address(addr))).collect();
        if let Some(domain) = domain.filter(|_| from.tuple.transport == Transport::Tls) {
            attributes.push((m::ALTERNATE_DOMAIN, domain.as_bytes().to_vec()));
        }
        Some(Reply { attributes, ..Reply::error(r, &[300]) })
    }

    fn session_end_ms(&self, now: Now, grant: &Grant) -> u64 {
        let session = match self.setting.limits.session_max_s {
            0 => u64::MAX,
            longest_s => now.mono_ms + longest_s * 1000,
        };
        match grant.expires_s {
            Some(expires_s) if self.setting.strict_expiry => session.min(now.mono_ms + (expires_s - now.unix_s) * 1000),
            _ => session,
        }
    }

    /// max(default, min(asked, maximum)), and never past the session's end.
    fn end_ms(&self, now: Now, r: &Reading, session_end_ms: u64) -> u64 {
        let asked_s = r.get(m::LIFETIME).map_or(0, |value| u32::from_be_bytes(value.try_into().expect("checked")));
        let granted_s = asked_s.min(self.setting.limits.lifetime_max_s).max(600);
        // A server that is about to end promises nothing beyond, and never quite nothing.
        let server_end_ms = self.order.map_or(u64::MAX, |order| order.end_ms.max(now.mono_ms + 1000));
        session_end_ms.min(now.mono_ms + u64::from(granted_s) * 1000).min(server_end_ms)
    }

    /// RFC 8656 §8.2.
    fn refresh(&mut self, now: Now, path: Path, r: &Reading) -> Reply {
        let held = &self.allocations[&path];
        let asked = match r.get(m::REQUESTED_ADDRESS_FAMILY) {
            None => vec![0, 1],
            Some([1, _, _, _]) => vec![0],
            Some([2, _, _, _]) => vec![1],
            Some(_) => vec![],
        };
        let mut wrong = Vec::new();
        if r.get(m::REQUESTED_ADDRESS_FAMILY).is_some_and(|value| value.len() != 4)
            || r.get(m::LIFETIME).is_some_and(|value| value.len() != 4)
        {
            wrong.push(400);
        }
        if !asked.iter().any(|family| held.relays[*family].is_some()) {
            wrong.push(443);
        }
        if !wrong.is_empty() {
            return Reply::error(r, &wrong);
        }
        let end_ms = self.end_ms(now, r, held.session_end_ms);
        let held = self.allocations.get_mut(&path).expect("looked up before");
        if r.get(m::LIFETIME) == Some(&[0; 4]) {
            asked.iter().for_each(|family| held.end_family(*family));
            if held.relays == [None, None] {
                self.end(path, now.mono_ms);
            }
            return Reply::change(vec![(m::LIFETIME, vec![0; 4])], r);
        }
        for family in asked {
            if let Some(relay) = &mut held.relays[family] {
                relay.1 = end_ms;
            }
        }
        let lifetime_s = ((end_ms - now.mono_ms).div_ceil(1000)) as u32;
        Reply::change(vec![(m::LIFETIME, lifetime_s.to_be_bytes().to_vec())], r)
    }

    /// RFC 8656 §10.2: all or none.
    fn create_permission(&mut self, now: Now, path: Path, r: &Reading) -> Reply {
        let named: Vec<_> = r.all(m::XOR_PEER_ADDRESS).map(|value| r.address(value)).collect();
        let peers: Vec<_> = named.iter().flatten().copied().collect();
        let held = &self.allocations[&path];
        let mut wrong = Vec::new();
        if named.is_empty() || named.contains(&None) {
            wrong.push(400);
        }
        if peers.iter().any(|peer| held.relays[family(peer.ip())].is_none()) {
            wrong.push(443);
        }
        if peers.iter().any(|peer| policy::judge(&self.setting, peer.ip()) == Peer::Denied) {
            wrong.push(403);
        }
        if self.is_crowded(path, peers.iter().map(SocketAddr::ip)) {
            wrong.push(508);
        }
        if !wrong.is_empty() {
            return Reply::error(r, &wrong);
        }
        let held = self.allocations.get_mut(&path).expect("looked up before");
        peers.iter().for_each(|peer| held.permit(now, peer.ip()));
        Reply::change(vec![], r)
    }

    /// Whether permissions for these addresses would be too many.
    fn is_crowded(&self, path: Path, ips: impl Iterator<Item = IpAddr>) -> bool {
        let held = &self.allocations[&path];
        let new = ips.filter(|ip| !held.permits(*ip)).collect::<BTreeSet<_>>().len();
        let max = self.setting.limits.permissions_per_allocation;
        max != 0 && new > 0 && held.permissions.len() + new > max
    }

    /// RFC 8656 §12.2.
    fn channel_bind(&mut self, now: Now, path: Path, r: &Reading) -> Reply {
        let held = &self.allocations[&path];
        let number = r.get(m::CHANNEL_NUMBER).and_then(|value| match value {
            [n0, n1, _, _] => Some(u16::from_be_bytes([*n0, *n1])),
            _ => None,
        });
        let number = number.filter(|number| (0x4000..=self.setting.last_channel()).contains(number));
        let peer = r.get(m::XOR_PEER_ADDRESS).and_then(|value| r.address(value));
        let Some(peer) = peer.filter(|peer| peer.port() != 0) else { return Reply::error(r, &[400]) };
        let mut wrong = Vec::new();
        let on_number = number.and_then(|number| held.channels.get(&number)).map(|channel| channel.0);
        let on_peer = held.channels.iter().find(|(_, channel)| channel.0 == peer).map(|(number, _)| *number);
        let is_bound = on_number == Some(peer);
        if number.is_none() || !is_bound && (on_number.is_some() || on_peer.is_some()) {
            wrong.push(400);
        }
        if held.relays[family(peer.ip())].is_none() {
            wrong.push(443);
        }
        if policy::judge_peer(&self.setting, peer) == Peer::Denied {
            wrong.push(403);
        }
        let max = self.setting.limits.channels_per_allocation;
        let is_full = !is_bound && max != 0 && held.channels.len() >= max;
        if is_full || self.is_crowded(path, [peer.ip()].into_iter()) {
            wrong.push(508);
        }
        match number {
            Some(number) if wrong.is_empty() => {
                let held = self.allocations.get_mut(&path).expect("looked up before");
                held.bind(now, number, peer);
                Reply::change(vec![], r)
            }
            _ => Reply::error(r, &wrong),
        }
    }
}

fn refuse_unknown(r: &Reading) -> Option<Reply> {
    let unknown = unknown(r);
    let list = unknown.iter().take(NAMED_MAX).flat_map(|kind| kind.to_be_bytes()).collect();
    let refusal = Reply { attributes: vec![(m::UNKNOWN_ATTRIBUTES, list)], ..Reply::error(r, &[420]) };
    (!unknown.is_empty()).then_some(refusal)
}

/// What is wrong with an Allocate before a port is looked for; any of it may be answered.
fn allocate_faults(r: &Reading) -> Vec<u16> {
    let (requested, additional) = (r.get(m::REQUESTED_ADDRESS_FAMILY), r.get(m::ADDITIONAL_ADDRESS_FAMILY));
    let (even, token) = (r.get(m::EVEN_PORT), r.get(m::RESERVATION_TOKEN));
    let is_bad_len = |value: Option<&[u8]>, len| value.is_some_and(|value| value.len() != len);
    let mut wrong = Vec::new();
    match r.get(m::REQUESTED_TRANSPORT) {
        Some([17, _, _, _]) => {}
        Some([_, _, _, _]) => wrong.push(442),
        _ => wrong.push(400),
    }
    let misfit = is_bad_len(requested, 4)
        || is_bad_len(additional, 4)
        || is_bad_len(even, 1)
        || is_bad_len(token, 8)
        || is_bad_len(r.get(m::LIFETIME), 4);
    let with_token = token.is_some() && (even.is_some() || requested.is_some() || additional.is_some());
    let reserves = even.is_some_and(|value| value.first().is_some_and(|byte| byte & 0x80 != 0));
    let not_v6 = additional.is_some_and(|value| value.first() != Some(&2));
    if misfit || with_token || not_v6 || additional.is_some() && (requested.is_some() || reserves) {
        wrong.push(400);
    }
    if requested.is_some_and(|value| !matches!(value.first(), Some(1 | 2))) {
        wrong.push(440);
    }
    wrong
}

type Outcome = ([Option<SocketAddr>; 2], Option<(u8, u16)>, Option<[u8; 8]>);

/// What came of asking for ports, after a look at whether the right ones were asked for and
/// the right account was charged, once.
fn opened(r: &Reading, payer: &Charged, log: &[Asked]) -> Result<Outcome, u16> {
    let kind = match (r.get(m::RESERVATION_TOKEN), r.get(m::EVEN_PORT)) {
        (Some(token), _) => PortKind::Reserved(token.try_into().expect("checked")),
        (None, Some([byte])) if byte & 0x80 != 0 => PortKind::EvenAndReserve,
        (None, Some(_)) => PortKind::Even,
        (None, None) => PortKind::Any,
    };
    let families = match (r.get(m::REQUESTED_ADDRESS_FAMILY), r.get(m::ADDITIONAL_ADDRESS_FAMILY)) {
        (Some([2, ..]), _) => vec![1],
        (_, Some(_)) => vec![0, 1],
        _ => vec![0],
    };
    let (mut relays, mut token, mut refused) = ([None; 2], None, Vec::new());
    for (at, asked) in log.iter().enumerate() {
        assert_eq!(asked.kind, kind, "the kind of port");
        assert_eq!(asked.family.index(), families[at], "the family of port {at}");
        let is_charged = relays != [None, None];
        assert_eq!(asked.charge.as_ref(), (!is_charged).then_some(payer), "who pays");
        match asked.outcome {
            Ok(opened) => {
                relays[family(opened.relayed.ip())] = Some(opened.relayed.0);
                token = token.or(opened.token);
            }
            Err(error) => refused.push((families[at], code_of(error))),
        }
    }
    let stopped = refused.last().is_some_and(|refusal| refusal.1 == 486);
    assert!(log.len() == families.len() || stopped, "ports asked for: {log:?}");
    match (relays, refused.first()) {
        // That there is no IPv4 at all says less than why there is no IPv6 either.
        ([None, None], Some(&(_, 440))) => Err(refused.last().expect("one at least").1),
        ([None, None], _) => Err(refused.first().expect("one at least").1),
        (_, Some(&(family, code))) => Ok((relays, Some((family as u8 + 1, code)), token)),
        (_, None) => Ok((relays, None, token)),
    }
}

/// What an allocation's first port must be charged to.
fn charged(grant: &Grant, payer: &str, source: IpAddr) -> Charged {
    let name = grant.name.clone().unwrap_or_default();
    let budget = grant.caps.bytes.zip(grant.expires_s).map(|(bytes, expires_s)| (name, bytes, expires_s));
    Charged { account: payer.to_owned(), source, allocations_max: grant.caps.allocations, budget }
}

fn code_of(error: PortError) -> u16 {
    match error {
        PortError::Family => 440,
        PortError::Quota | PortError::Source | PortError::Cap | PortError::UsedUp => 486,
        PortError::Exhausted | PortError::Capacity | PortError::Budgets => 508,
    }
}

/// What a successful Allocate says, the first time and again.
fn allocated(now: Now, from: &Sender, r: &Reading, allocation: &Allocation) -> Vec<(u16, Vec<u8>)> {
    let address = |addr| m::encode_address(addr, &r.tid);
    let relays = allocation.relays.iter().flatten();
    let mut attributes: Vec<_> = relays.map(|relay| (m::XOR_RELAYED_ADDRESS, address(relay.0))).collect();
    attributes.push((m::LIFETIME, allocation.lifetime_s(now).to_be_bytes().to_vec()));
    attributes.push((m::XOR_MAPPED_ADDRESS, address(from.tuple.client.0)));
    if let Some(token) = allocation.token {
        attributes.push((m::RESERVATION_TOKEN, token.to_vec()));
    }
    if let Some((family, code)) = allocation.missing {
        attributes.push((m::ADDRESS_ERROR_CODE, vec![family, 0, (code / 100) as u8, (code % 100) as u8]));
    }
    attributes
}
