//! What is relayed, and what is not (RFC 8656 §11, §12.6).

use super::super::message::{self as m, Class, Reading};
use super::super::policy::{self, Peer};
use super::{Expected, Model, Path, family, path};
use std::net::SocketAddr;
use turnpike::turn::server::ICMP_PER_SECOND;
use turnpike::turn::{DropReason, Now, Sender, Transport};
use turnpike::wire::DATAGRAM_LEN_MAX;

/// On a path whose allocation is over, a server may see first what else would be wrong.
const NOTHING_THERE: &[DropReason] = &[
    DropReason::NoAllocation,
    DropReason::NoChannel,
    DropReason::NoPermission,
    DropReason::BadIndication,
    DropReason::PeerDenied,
    DropReason::SelfPortRefused,
];

impl Model {
    /// RFC 8656 §12.6.
    pub(super) fn channel_data(&mut self, now: Now, path: Path, bytes: &[u8]) -> Expected {
        let Some(head) = bytes.first_chunk::<4>() else { return Expected::Silence(&[DropReason::Malformed]) };
        let [number, len] = [[head[0], head[1]], [head[2], head[3]]].map(u16::from_be_bytes);
        let Some(payload) = bytes[4..].get(..usize::from(len)) else {
            return Expected::Silence(&[DropReason::Malformed]);
        };
        let Some(allocation) = self.allocations.get(&path) else { return Expected::Silence(NOTHING_THERE) };
        match allocation.channels.get(&number) {
            Some(&(peer, _)) => self.relay_to_peer(now, path, peer, payload, false),
            // A channel of a family that is over may not be freed yet.
            None if allocation.relays.contains(&None) => Expected::Silence(NOTHING_THERE),
            None => Expected::Silence(&[DropReason::NoChannel]),
        }
    }

    /// RFC 8656 §11.2.
    pub(super) fn send(&mut self, now: Now, from: &Sender, r: &Reading) -> Expected {
        let Some(allocation) = self.allocations.get(&path(&from.tuple)) else {
            return Expected::Silence(NOTHING_THERE);
        };
        let peer = r.get(m::XOR_PEER_ADDRESS).and_then(|value| r.address(value)).filter(|peer| peer.port() != 0);
        let (Some(peer), Some(payload)) = (peer, r.get(m::DATA)) else {
            return Expected::Silence(&[DropReason::BadIndication]);
        };
        if !super::request::unknown(r).is_empty() {
            return Expected::Silence(&[DropReason::BadIndication]);
        }
        if allocation.relays[family(peer.ip())].is_none() {
            return Expected::Silence(NOTHING_THERE);
        }
        if !allocation.permits(peer.ip()) {
            return Expected::Silence(&[DropReason::NoPermission]);
        }
        if policy::judge_peer(&self.setting, peer) == Peer::Denied {
            return Expected::Silence(if self.setting.relay.contains(&peer.ip()) {
                &[DropReason::SelfPortRefused]
            } else {
                &[DropReason::PeerDenied]
            });
        }
        // RFC 8656 §13 to §15: DF is asked for where no address family is translated, and
        // wherever the client's side is a stream.
        let heeded = from.tuple.transport != Transport::Udp || (peer.is_ipv4() && from.tuple.client.0.is_ipv4());
        let dont_fragment = heeded && r.get(m::DONT_FRAGMENT).is_some();
        self.relay_to_peer(now, path(&from.tuple), peer, payload, dont_fragment)
    }

    fn relay_to_peer(
        &mut self,
        now: Now,
        path: Path,
        peer: SocketAddr,
        payload: &[u8],
        dont_fragment: bool,
    ) -> Expected {
        let rate = self.setting.limits.bytes_per_second;
        let own = policy::judge_peer(&self.setting, peer) == Peer::Own;
        let allocation = self.allocations.get_mut(&path).expect("the caller has found it");
        let Some((from, _)) = allocation.relays[family(peer.ip())] else { return Expected::Silence(NOTHING_THERE) };
        if let Some(reason) = allocation.meter(now, 0, rate, payload.len() as u64) {
            return self.too_much(now, path, reason);
        }
        allocation.count(0, payload.len());
        Expected::ToPeer { from, peer, payload: payload.to_vec(), dont_fragment, own }
    }

    /// A datagram that an allocation may not carry; one that its credential has no bytes for ends it.
    fn too_much(&mut self, now: Now, path: Path, reason: DropReason) -> Expected {
        if reason == DropReason::Bandwidth {
            return Expected::Silence(&[DropReason::Bandwidth]);
        }
        self.end(path, now.mono_ms);
        Expected::Silence(&[DropReason::CredentialUsedUp])
    }

    /// A datagram of `len` bytes from a peer at a relayed address (RFC 8656 §11.3).
    pub fn peer(&mut self, now: Now, at: SocketAddr, from: SocketAddr, len: usize) -> Expected {
        self.advance(now);
        let rate = self.setting.limits.bytes_per_second;
        let holds = |relay: &Option<(SocketAddr, u64)>| relay.is_some_and(|(addr, _)| addr == at);
        let found = self.allocations.iter_mut().find(|(_, a)| a.relays.iter().any(holds));
        let Some((to, allocation)) = found else { return Expected::Silence(NOTHING_THERE) };
        if !allocation.permits(from.ip()) {
            return Expected::Silence(&[DropReason::NoPermission]);
        }
        let channel = allocation.channels.iter().find(|(_, (peer, _))| *peer == from).map(|(number, _)| *number);
        let framed = match (channel, from.is_ipv4()) {
            (Some(_), _) => 4 + len,
            (None, true) => 20 + 12 + 4 + len.div_ceil(4) * 4,
            (None, false) => 20 + 24 + 4 + len.div_ceil(4) * 4,
        };
        // A stream has no datagrams to fit in, but a message still has a length of 16 bits.
        let framed_max = match (to.2, channel) {
            (Transport::Udp, _) => DATAGRAM_LEN_MAX,
            (_, Some(_)) => 4 + 0xFFFF,
            (_, None) => 20 + 0xFFFC,
        };
        if framed > framed_max {
            return Expected::Silence(&[DropReason::Oversize]);
        }
        if let Some(reason) = allocation.meter(now, 1, rate, len as u64) {
            let path = *to;
            return self.too_much(now, path, reason);
        }
        allocation.count(1, len);
        Expected::ToClient { to: *to, link: allocation.link, peer: from, channel }
    }

    /// An ICMP error about a datagram from `at` to `peer` (RFC 8656 §11.5).
    pub fn icmp(&mut self, now: Now, at: SocketAddr, peer: SocketAddr, kind: u8, code: u8, value: u32) -> Expected {
        self.advance(now);
        if !(if peer.is_ipv4() { matches!(kind, 3 | 11) } else { matches!(kind, 1..=3) }) {
            return Expected::Silence(&[DropReason::Unexpected]);
        }
        let holds = |relay: &Option<(SocketAddr, u64)>| relay.is_some_and(|(addr, _)| addr == at);
        let found = self.allocations.iter_mut().find(|(_, a)| a.relays.iter().any(holds));
        let Some((to, allocation)) = found else { return Expected::Silence(NOTHING_THERE) };
        if !allocation.permits(peer.ip()) {
            return Expected::Silence(&[DropReason::NoPermission]);
        }
        if !allocation.icmp.take(now, ICMP_PER_SECOND, ICMP_PER_SECOND, 1) {
            return Expected::Silence(&[DropReason::IcmpRate]);
        }
        let [a, b, c, d] = value.to_be_bytes();
        Expected::Icmp { to: *to, link: allocation.link, peer, value: [0, 0, kind, code, a, b, c, d] }
    }

    /// Classes and methods before anything else is looked at (RFC 8489 §6.3).
    pub(super) fn stun(
        &mut self,
        now: Now,
        worker: usize,
        from: &Sender,
        bytes: &[u8],
        pool: &super::super::pool::Pool,
    ) -> Expected {
        let r = match m::read(bytes) {
            Ok(reading) => reading,
            Err(DropReason::Fingerprint) => {
                return Expected::Silence(&[DropReason::Fingerprint]);
            }
            Err(_) => return Expected::Silence(&[DropReason::Malformed]),
        };
        let source = from.tuple.client.0;
        match r.class {
            Class::Indication if r.method == m::SEND => self.send(now, from, &r),
            Class::Request if source.port() == 0 || policy::is_refused_source(source.ip()) => {
                Expected::Silence(&[DropReason::Source])
            }
            Class::Request => self.request(now, worker, from, &r, pool),
            _ => Expected::Silence(&[DropReason::Unexpected]),
        }
    }
}
