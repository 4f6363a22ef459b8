//! What each method does, once the pipeline in `request` has let it through.

use super::allocation::{Account, Allocation, Relay, Traffic};
use super::auth::{Caps, source_account};
use super::channel::Channels;
use super::permission::Permissions;
use super::policy::Reach;
use super::quota::Bucket;
use super::request::{
    BAD_REQUEST, Granted, MISMATCH, PEER_FAMILY, Refusal, Request, TRY_ALTERNATE, families, is_retransmission,
};
use super::{
    AllocationId, Budget, EndReason, Event, LIFETIME_DEFAULT_S, Limit, Opened, Payer, PeerAddr, PortAsk, PortError,
    PortKind, Ports, Server,
};
use crate::wire::attribute::{self, Family};
use crate::wire::channel::ChannelNumber;
use crate::wire::stun::Writer;
use std::net::IpAddr;

/// IP protocol number of UDP, the one transport relayed (RFC 8656 §18.8).
const PROTOCOL_UDP: u8 = 17;

/// 403 to a client that sits behind this server's own relay: the start of a loop.
const BEHIND_RELAY: Refusal = Refusal::by(403, "the client is a relayed address of this server");
/// 508 while new clients are to go elsewhere and there is no other server to name.
const DRAINING: Refusal = Refusal::by(508, "draining");

/// Which relayed addresses an Allocate asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    /// One of this family.
    One(Family, PortKind),
    /// One of each (RFC 8656 §7.2 step 9).
    Both(PortKind),
}

/// The relayed addresses an Allocate got.
struct OpenedPorts {
    /// IPv4, IPv6.
    pair: [Option<Opened>; 2],
    /// The family a dual request did not get, and the error code.
    missing: Option<(Family, u16)>,
}

impl Server {
    /// RFC 8489 §6.3.1.1.
    pub(super) fn binding(
        &mut self,
        request: &Request<'_>,
        _: &Granted,
        _: &mut dyn Ports,
        writer: &mut Writer<'_>,
    ) -> Result<(), Refusal> {
        writer.push_xor_address(attribute::XOR_MAPPED_ADDRESS, request.from.tuple.client.0);
        Ok(())
    }

    /// An Allocate on a 5-tuple in use: the same transaction of the same user is answered as
    /// it was, anything else is 437 (RFC 8656 §7.2).
    pub(super) fn again(
        &self,
        request: &Request<'_>,
        granted: &Granted,
        id: AllocationId,
        writer: &mut Writer<'_>,
    ) -> Result<(), Refusal> {
        match self.table.get(id) {
            Some(allocation) if granted.is_owner && is_retransmission(request, Some(allocation)) => {
                write_allocated(allocation, request, writer);
                Ok(())
            }
            _ => Err(MISMATCH),
        }
    }

    /// RFC 8656 §7.2.
    pub(super) fn allocate(
        &mut self,
        request: &Request<'_>,
        granted: &Granted,
        ports: &mut dyn Ports,
        writer: &mut Writer<'_>,
    ) -> Result<(), Refusal> {
        let wanted = wanted(request)?;
        let asked_s = asked_lifetime(request)?;
        let tuple = request.from.tuple;
        if ports.is_relayed(tuple.client.0) {
            return Err(BEHIND_RELAY);
        }
        // What is left on the 5-tuple is over; its end must not wait for the wheel.
        if let Some(dead) = self.table.find(&tuple) {
            self.delete(request.now, dead, EndReason::Expired);
        }
        if self.finished.holds(request.now, &tuple, request.message.transaction_id()) {
            return Err(MISMATCH);
        }
        if let Some(draining) = &self.draining {
            let elsewhere = draining.has_alternate(tuple.client.family());
            return Err(if elsewhere { TRY_ALTERNATE } else { DRAINING });
        }
        let account = self.account(request, granted);
        let payer = payer(&account, tuple.client.ip(), granted);
        let OpenedPorts { pair, missing } = self.open_ports(request, wanted, payer, ports)?;
        let caps = granted.proof.as_ref().map_or(Caps::default(), |proof| proof.caps);
        let relayed = pair.map(|opened| opened.map(|opened| opened.relayed));
        let session_end_ms = self.session_end_ms(request, granted);
        let until_ms = self.end_ms(request, asked_s, session_end_ms);
        let allocation = Allocation {
            tuple,
            link: request.from.link,
            key: granted.proof.as_ref().map(|proof| (granted.algorithm, proof.key.clone())),
            account,
            transaction: request.message.transaction_id(),
            relays: relayed.map(|relayed| relayed.map(|relayed| Relay { relayed, until_ms })),
            relayed,
            token: pair.iter().flatten().find_map(|o| o.token),
            missing,
            created_ms: request.now.mono_ms,
            session_end_ms,
            permissions: Permissions::default(),
            channels: Channels::default(),
            traffic: Traffic::default(),
            caps,
            bytes_left: Allocation::bytes_granted(&caps),
            rates: [Bucket::default(); 2],
            icmp_rate: Bucket::default(),
        };
        write_allocated(&allocation, request, writer);
        let id = self.table.insert(allocation);
        self.wheel.arm(id.index, until_ms);
        self.emit(Event::Created { id, tuple, relayed, until_ms });
        Ok(())
    }

    fn account(&self, request: &Request<'_>, granted: &Granted) -> Account {
        let source = request.from.tuple.client.ip();
        match &granted.proof {
            Some(proof) => Account { username: proof.username.clone(), payer: self.config.auth.account(proof, source) },
            None => Account { username: Box::default(), payer: source_account(source) },
        }
    }

    /// Opens one port or two. A dual request that gets one of them succeeds and says which is
    /// missing and why (RFC 8656 §7.2 step 9).
    fn open_ports(
        &self,
        request: &Request<'_>,
        wanted: Wanted,
        payer: Payer<'_>,
        ports: &mut dyn Ports,
    ) -> Result<OpenedPorts, Refusal> {
        let mut open = |family, kind, charged: bool| {
            let ask = PortAsk {
                owner: self.table.vacant(),
                server: request.from.tuple.server.ip(),
                family,
                kind,
                charge: (!charged).then_some(payer),
            };
            ports.open(request.now, &ask).map_err(|error| port_refusal(error, kind))
        };
        match wanted {
            Wanted::One(family, kind) => {
                let opened = open(family, kind, false)?;
                let mut pair = [None; 2];
                pair[opened.relayed.family().index()] = Some(opened);
                Ok(OpenedPorts { pair, missing: None })
            }
            Wanted::Both(kind) => {
                let v4 = open(Family::V4, kind, false);
                if let Err(refusal) = v4
                    && refusal.code == 486
                {
                    return Err(refusal);
                }
                let v6 = open(Family::V6, kind, v4.is_ok());
                let missing = match (v4, v6) {
                    // A server without IPv4 has no more to say of it than that.
                    (Err(v4), Err(v6)) => return Err(if v4.code == 440 { v6 } else { v4 }),
                    (Err(refusal), Ok(_)) => Some((Family::V4, refusal.code)),
                    (Ok(_), Err(refusal)) => Some((Family::V6, refusal.code)),
                    (Ok(_), Ok(_)) => None,
                };
                Ok(OpenedPorts { pair: [v4.ok(), v6.ok()], missing })
            }
        }
    }

    /// When an allocation made now ends however often it is refreshed.
    fn session_end_ms(&self, request: &Request<'_>, granted: &Granted) -> u64 {
        let now_ms = request.now.mono_ms;
        let session_max_s = self.config.limits.session_max_s;
        let longest = if session_max_s == 0 { u64::MAX } else { now_ms.saturating_add(session_max_s * 1000) };
        let expires = granted.proof.as_ref().and_then(|proof| proof.expires_unix_s);
        match expires.filter(|_| self.config.auth.strict_expiry) {
            Some(unix_s) => {
                let left_s = unix_s.saturating_sub(request.now.unix_s);
                longest.min(now_ms.saturating_add(left_s.saturating_mul(1000)))
            }
            None => longest,
        }
    }

    /// The end of a relayed address that is made or refreshed now: the asked lifetime, not
    /// below the default, not above the maximum (RFC 8656 §7.2), and within the server's own.
    fn end_ms(&self, request: &Request<'_>, asked_s: Option<u32>, session_end_ms: u64) -> u64 {
        let limit_s = self.config.limits.lifetime_max_s.max(LIFETIME_DEFAULT_S);
        let granted_s = asked_s.unwrap_or(0).clamp(LIFETIME_DEFAULT_S, limit_s);
        let until_ms = session_end_ms.min(request.now.mono_ms + u64::from(granted_s) * 1000);
        self.draining.as_ref().map_or(until_ms, |draining| until_ms.min(draining.end_ms(request.now)))
    }

    /// RFC 8656 §8.2.
    pub(super) fn refresh(
        &mut self,
        request: &Request<'_>,
        _: &Granted,
        _: &mut dyn Ports,
        writer: &mut Writer<'_>,
    ) -> Result<(), Refusal> {
        let id = request.held.ok_or(MISMATCH)?;
        let asked_s = asked_lifetime(request)?;
        let family = match request.message.get(attribute::REQUESTED_ADDRESS_FAMILY) {
            None => None,
            Some(value) => Some(attribute::address_family(value).ok_or(BAD_REQUEST)?.ok_or(PEER_FAMILY)?),
        };
        let now_ms = request.now.mono_ms;
        let allocation = self.table.get(id).ok_or(MISMATCH)?;
        if family.is_some_and(|family| allocation.relay(family, now_ms).is_none()) {
            return Err(PEER_FAMILY);
        }
        if asked_s == Some(0) {
            for family in families(family) {
                self.end_family_if(request.now, id, family, |_| true);
            }
            self.settle(request, id);
            writer.push(attribute::LIFETIME, &0u32.to_be_bytes());
            return Ok(());
        }
        let until_ms = self.end_ms(request, asked_s, allocation.session_end_ms);
        for family in families(family) {
            let relay = self.table.get_mut(id).and_then(|a| a.relays[family.index()].as_mut());
            if let Some(relay) = relay.filter(|relay| now_ms < relay.until_ms) {
                relay.until_ms = until_ms;
                self.emit(Event::Refreshed { id, family, until_ms });
            }
        }
        self.settle(request, id);
        let lifetime_s = (until_ms - now_ms).div_ceil(1000) as u32;
        writer.push(attribute::LIFETIME, &lifetime_s.to_be_bytes());
        Ok(())
    }

    /// After relayed addresses were changed: the allocation is gone with the last of them,
    /// else looked at when the first ends.
    fn settle(&mut self, request: &Request<'_>, id: AllocationId) {
        match self.table.get(id).and_then(Allocation::next_end_ms) {
            Some(end_ms) => self.wheel.arm(id.index, end_ms),
            None => {
                self.delete(request.now, id, EndReason::Deleted);
            }
        }
    }

    /// RFC 8656 §10.2: all of the peers, or none.
    pub(super) fn create_permission(
        &mut self,
        request: &Request<'_>,
        _: &Granted,
        _: &mut dyn Ports,
        _: &mut Writer<'_>,
    ) -> Result<(), Refusal> {
        let id = request.held.ok_or(MISMATCH)?;
        self.reserve_permissions(request, id, request.peers().flatten().map(PeerAddr::ip))?;
        for peer in request.peers().flatten() {
            self.permit(request, id, peer.ip());
        }
        Ok(())
    }

    /// Makes sure that permissions for these peers fit under the limit together.
    fn reserve_permissions(
        &mut self,
        request: &Request<'_>,
        id: AllocationId,
        peers: impl Iterator<Item = IpAddr>,
    ) -> Result<(), Refusal> {
        let now_ms = request.now.mono_ms;
        let max = self.config.limits.permissions_per_allocation;
        let allocation = self.table.get_mut(id).ok_or(MISMATCH)?;
        let missing = allocation.permissions.missing(peers, now_ms);
        if max != 0 && missing > 0 && allocation.permissions.len() + missing > max {
            allocation.permissions.retain(now_ms, |_| true);
            if allocation.permissions.len() + missing > max {
                return Err(Refusal::limit(Limit::PermissionsPerAllocation));
            }
        }
        Ok(())
    }

    fn permit(&mut self, request: &Request<'_>, id: AllocationId, peer: IpAddr) {
        let Some(allocation) = self.table.get_mut(id) else { return };
        let now_ms = request.now.mono_ms;
        let is_new = !allocation.permissions.allows(peer, now_ms);
        let until_ms = allocation.permissions.install(peer, now_ms);
        self.emit(Event::Permitted { id, peer, is_new, until_ms });
    }

    /// RFC 8656 §12.2.
    pub(super) fn channel_bind(
        &mut self,
        request: &Request<'_>,
        _: &Granted,
        _: &mut dyn Ports,
        _: &mut Writer<'_>,
    ) -> Result<(), Refusal> {
        let id = request.held.ok_or(MISMATCH)?;
        let number = request.message.get(attribute::CHANNEL_NUMBER).and_then(attribute::channel_number);
        let number = number.and_then(|n| ChannelNumber::new(n, self.config.channels)).ok_or(BAD_REQUEST)?;
        let peer = request.peers().next().flatten().ok_or(BAD_REQUEST)?;
        let own = matches!(self.config.policy.judge_peer(peer.0), Ok(Reach::Own));
        let now_ms = request.now.mono_ms;
        let max = self.config.limits.channels_per_allocation;
        let allocation = self.table.get_mut(id).ok_or(MISMATCH)?;
        let is_new = allocation.channels.check(number, peer, now_ms).map_err(|_| BAD_REQUEST)?;
        if is_new && max != 0 && allocation.channels.len() >= max {
            allocation.channels.retain(now_ms, |_| true);
            if allocation.channels.len() >= max {
                return Err(Refusal::limit(Limit::ChannelsPerAllocation));
            }
        }
        self.reserve_permissions(request, id, std::iter::once(peer.ip()))?;
        let Some(allocation) = self.table.get_mut(id) else { return Err(MISMATCH) };
        let until_ms = allocation.channels.bind(number, peer, own, now_ms);
        self.emit(Event::Bound { id, number, peer, is_new, until_ms });
        self.permit(request, id, peer.ip());
        Ok(())
    }
}

/// Reads what an Allocate wants, in the order of RFC 8656 §7.2.
fn wanted(request: &Request<'_>) -> Result<Wanted, Refusal> {
    let get = |kind| request.message.get(kind);
    let transport = get(attribute::REQUESTED_TRANSPORT).and_then(attribute::requested_transport);
    if transport.ok_or(BAD_REQUEST)? != PROTOCOL_UDP {
        return Err(Refusal::new(442));
    }
    let decode = |kind| get(kind).map(|value| attribute::address_family(value).ok_or(BAD_REQUEST)).transpose();
    let requested = decode(attribute::REQUESTED_ADDRESS_FAMILY)?;
    let additional = decode(attribute::ADDITIONAL_ADDRESS_FAMILY)?;
    let even = get(attribute::EVEN_PORT).map(|value| attribute::even_port(value).ok_or(BAD_REQUEST)).transpose()?;
    if let Some(value) = get(attribute::RESERVATION_TOKEN) {
        let token = attribute::reservation_token(value).ok_or(BAD_REQUEST)?;
        if even.is_some() || requested.is_some() || additional.is_some() {
            return Err(BAD_REQUEST);
        }
        return Ok(Wanted::One(Family::V4, PortKind::Reserved(token)));
    }
    if requested.is_some() && additional.is_some() {
        return Err(BAD_REQUEST);
    }
    let kind = match even {
        None => PortKind::Any,
        Some(false) => PortKind::Even,
        Some(true) => PortKind::EvenAndReserve,
    };
    match (requested, additional) {
        (_, Some(Some(Family::V6))) if kind == PortKind::EvenAndReserve => Err(BAD_REQUEST),
        (_, Some(Some(Family::V6))) => Ok(Wanted::Both(kind)),
        (_, Some(_)) => Err(BAD_REQUEST),
        (Some(Some(family)), None) => Ok(Wanted::One(family, kind)),
        (Some(None), None) => Err(Refusal::new(440)),
        (None, None) => Ok(Wanted::One(Family::V4, kind)),
    }
}

fn asked_lifetime(request: &Request<'_>) -> Result<Option<u32>, Refusal> {
    let value = request.message.get(attribute::LIFETIME);
    value.map(|value| attribute::lifetime(value).ok_or(BAD_REQUEST)).transpose()
}

/// Who pays for an allocation, and what the credential has to say about that.
fn payer<'a>(account: &'a Account, source: IpAddr, granted: &'a Granted) -> Payer<'a> {
    let proof = granted.proof.as_ref();
    let budget = proof.and_then(|proof| {
        let (bytes, expires_unix_s) = (proof.caps.bytes?, proof.expires_unix_s?);
        Some(Budget { username: &proof.username, bytes, expires_unix_s })
    });
    let allocations_max = proof.and_then(|proof| proof.caps.allocations);
    Payer { account: &account.payer, source, allocations_max, budget }
}

fn port_refusal(error: PortError, kind: PortKind) -> Refusal {
    match error {
        PortError::Family => Refusal::by(440, "relay.addresses"),
        PortError::Quota => Refusal::limit(Limit::AllocationsPerUser),
        PortError::Source => Refusal::limit(Limit::AllocationsPerSource),
        PortError::Cap => Refusal::limit(Limit::CredentialAllocations),
        PortError::UsedUp => Refusal::limit(Limit::CredentialBytes),
        PortError::Exhausted if matches!(kind, PortKind::Reserved(_)) => Refusal::by(508, "no such reservation"),
        PortError::Exhausted => Refusal::limit(Limit::Ports),
        PortError::Capacity => Refusal::limit(Limit::Allocations),
        PortError::Budgets => Refusal::limit(Limit::CredentialsRemembered),
    }
}

fn write_allocated(allocation: &Allocation, request: &Request<'_>, writer: &mut Writer<'_>) {
    for relay in families(None).filter_map(|family| allocation.relay(family, request.now.mono_ms)) {
        writer.push_xor_address(attribute::XOR_RELAYED_ADDRESS, relay.relayed.0);
    }
    let lifetime_s = allocation.lifetime_s(request.now.mono_ms);
    writer.push(attribute::LIFETIME, &lifetime_s.to_be_bytes());
    writer.push_xor_address(attribute::XOR_MAPPED_ADDRESS, request.from.tuple.client.0);
    if let Some(token) = &allocation.token {
        writer.push(attribute::RESERVATION_TOKEN, token);
    }
    if let Some((family, code)) = allocation.missing {
        let [_, _, class, number] = attribute::encode_error_code(code);
        writer.push(attribute::ADDRESS_ERROR_CODE, &[family.code(), 0, class, number]);
    }
}
