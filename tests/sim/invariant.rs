//! What must hold whatever happens, INV-1 to INV-12: after every act, and of the tables after every step. Judged from
//! the server's own tables, not from the model's, so that a fault in the model hides nothing.

use super::act::Act;
use super::message::{self as m, Algorithm, Class, Reading};
use super::policy::{self, Peer};
use super::pool::{Asked, Port};
use super::setting::{PASSWORDS_EVER, REALM, SECRETS_EVER};
use super::world::World;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use turnpike::turn::{DropReason, EndReason, Event, PortError, Verdict};
use turnpike::wire::attribute::Family;

/// How late the wheel may free what is over.
const LATENESS_MAX_MS: u64 = 1000;
/// Finished transactions that a server remembers, and how long.
const FINISHED_MAX: usize = 16_384;
const FINISHED_MS: u64 = 40_000;

/// Checks an act.
pub fn check_act(world: &World, act: &Act<'_>) {
    inv_1_a_peer_is_reached_only_by_permission_or_channel_and_policy(world, act);
    inv_2_a_client_hears_only_permitted_peers(world, act);
    inv_4_a_quota_refuses_at_its_limit_and_not_before(world, act);
    inv_5_strangers_leave_no_trace(world, act);
    inv_6_nothing_but_a_request_is_answered(act);
    inv_7_answers_are_sealed_or_say_nothing_secret(act);
    inv_12_a_client_is_reached_where_it_allocated_from(world, act);
}

/// Checks the tables.
pub fn check_state(world: &World) {
    inv_3_every_port_is_one_thing(world);
    inv_4_every_account_pays_for_what_it_holds(world);
    inv_8_what_is_over_is_not_found(world);
    inv_9_counters_only_rise(world);
    inv_10_memory_is_that_of_live_things(world);
}

/// INV-1. A permission or a live channel, and the policy of this moment.
fn inv_1_a_peer_is_reached_only_by_permission_or_channel_and_policy(world: &World, act: &Act<'_>) {
    let (via, peer, own) = match act.verdict {
        Verdict::ToPeer { via, peer, .. } => (via, peer, false),
        Verdict::ToRelay { via, to, .. } => (via, turnpike::turn::PeerAddr(to.0), true),
        _ => return,
    };
    let allocation = world.servers[act.worker].allocation(via).expect("INV-1: it leaves through an allocation");
    let now_ms = world.now.mono_ms;
    let permitted = allocation.permissions.allows(peer.ip(), now_ms);
    let bound = allocation.channels.by_peer(peer, now_ms).is_some();
    assert!(permitted || bound, "INV-1: {peer} is neither permitted nor bound");
    let wanted = if own { Peer::Own } else { Peer::Network };
    assert_eq!(policy::judge_peer(&world.setting, peer.0), wanted, "INV-1: what the policy says of {peer}");
}

/// INV-2. Data and ICMP errors alike.
fn inv_2_a_client_hears_only_permitted_peers(world: &World, act: &Act<'_>) {
    let client = match act.verdict {
        Verdict::ToClient { client, .. } | Verdict::Indicate { client, .. } => client,
        _ => return,
    };
    let peer = act.peer.expect("INV-2: only a peer's packet is told");
    let mut allocations = world.servers[act.worker].allocations();
    let permits = allocations.any(|(_, a)| a.client() == client && a.permissions.allows(peer.ip(), world.now.mono_ms));
    assert!(permits, "INV-2: {peer} is not permitted");
}

/// INV-3. Free, held, reserved or resting by construction of the pool; here: those held are
/// exactly those of the tables, by the same worker and allocation.
fn inv_3_every_port_is_one_thing(world: &World) {
    let mut in_tables = BTreeMap::new();
    for (worker, server) in world.servers.iter().enumerate() {
        for (id, allocation) in server.allocations() {
            for relay in allocation.relays.iter().flatten() {
                let before = in_tables.insert(relay.relayed.0, (worker, id));
                assert_eq!(before, None, "INV-3: {} belongs to two", relay.relayed);
            }
        }
    }
    let held = world.pool.ports.iter().filter_map(|(addr, port)| match *port {
        Port::Held { worker, id } => Some((*addr, (worker, id))),
        _ => None,
    });
    assert_eq!(held.collect::<BTreeMap<_, _>>(), in_tables, "INV-3: ports held (left) and in the tables (right)");
    let tokens: Vec<_> = world.pool.ports.values().filter(|port| matches!(port, Port::Reserved { .. })).collect();
    let distinct: BTreeSet<_> = tokens.iter().map(|port| format!("{port:?}")).collect();
    assert_eq!(tokens.len(), distinct.len(), "INV-3: one token, one port");
}

/// INV-4. Over all workers, from the allocation's first moment to its event's last.
fn inv_4_every_account_pays_for_what_it_holds(world: &World) {
    let mut held: BTreeMap<&str, usize> = BTreeMap::new();
    let mut beside: BTreeMap<Vec<u8>, (IpAddr, usize)> = BTreeMap::new();
    for allocation in world.servers.iter().flat_map(|server| server.allocations()) {
        *held.entry(&allocation.1.account.payer).or_default() += 1;
        let client = allocation.1.tuple.client.ip();
        beside.entry(source(client)).or_insert((client, 0)).1 += 1;
    }
    for (client, count) in beside.values() {
        assert_eq!(world.pool.ledger.held_by_source(*client), *count, "INV-4: what the source of {client} holds");
    }
    for (payer, count) in &held {
        assert_eq!(world.pool.ledger.held(payer), *count, "INV-4: what {payer} pays for");
    }
    assert_eq!(world.pool.ledger.total(), held.values().sum::<usize>(), "INV-4: allocations of all accounts");
}

/// INV-4, its other half: who is let in was below every limit, and who is refused for one was at it.
fn inv_4_a_quota_refuses_at_its_limit_and_not_before(world: &World, act: &Act<'_>) {
    if act.from.is_none() {
        return; // the log is of the last request
    }
    let allocations = || world.servers.iter().flat_map(|server| server.allocations());
    // What the request itself has found to be over was still paid for when it asked.
    let over = |payer: &str| {
        let is_over = |event: &&Event| matches!(event, Event::Deleted { account, .. } if *account.payer == *payer);
        act.events.iter().filter(is_over).count()
    };
    for Asked { charge, outcome, .. } in &world.pool.log {
        let Some(payer) = charge else { continue };
        let (total, held) =
            (allocations().count(), allocations().filter(|(_, a)| *a.account.payer == *payer.account).count());
        let beside = allocations().filter(|(_, a)| source(a.tuple.client.ip()) == source(payer.source)).count();
        let (total_over, held_over) =
            (act.events.iter().filter(|event| matches!(event, Event::Deleted { .. })).count(), over(&payer.account));
        let limited = world.setting.allocations;
        let limits = [
            (PortError::Capacity, total, total_over, limited.total, world.setting.draining),
            (PortError::Source, beside, total_over, limited.per_source, false),
            (PortError::Quota, held, held_over, limited.per_account, false),
            (PortError::Cap, held, held_over, payer.allocations_max.map_or(0, |max| max as usize), false),
        ];
        for (error, used, over, max, closed) in limits {
            match outcome {
                Ok(_) => assert!(max == 0 || used <= max, "INV-4: {used} of {max} for {payer:?}, {error:?}"),
                Err(named) if *named == error => {
                    let is_reached = max != 0 && used + over >= max;
                    assert!(closed || is_reached, "INV-4: {error:?} at {used} of {max} for {payer:?}");
                }
                Err(_) => {}
            }
        }
    }
}

/// Who comes from there is one source: an IPv4 address, or the first 56 bits of an IPv6 one.
fn source(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets()[..7].to_vec(),
    }
}

/// INV-5. No event, and every table as it was.
fn inv_5_strangers_leave_no_trace(world: &World, act: &Act<'_>) {
    let proved_nothing = match act.verdict {
        Verdict::Drop(DropReason::CredentialUsedUp) => {
            let is_end = |event: &Event| match event {
                Event::Deleted { reason, .. } => *reason == EndReason::Quota,
                event => matches!(event, Event::Released { .. }),
            };
            assert!(act.events.iter().all(is_end), "INV-5: {:?}", act.events);
            false
        }
        Verdict::Drop(_) => true,
        Verdict::Reply { answer, .. } => matches!(answer.code, 401 | 438) || answer.method.bits() == m::BINDING,
        _ => false,
    };
    assert!(!proved_nothing || act.events.is_empty(), "INV-5: {:?}", act.events);
    if let Some(before) = act.before.filter(|_| proved_nothing) {
        let after = world.servers[act.worker].state();
        assert_eq!(before.allocations, after.allocations, "INV-5: a stranger's datagram changes no allocation");
        assert!(after.finished.len() <= before.finished.len(), "INV-5: a stranger's datagram is remembered");
    }
    let refused = matches!(act.verdict, Verdict::Reply { answer, .. } if answer.code != 0);
    assert!(!refused || act.is_without_effect(), "INV-5: a refusal changes nothing: {:?}", act.events);
    let changed_by_relaying = matches!(act.verdict, Verdict::ToPeer { .. } | Verdict::ToRelay { .. });
    assert!(!changed_by_relaying || act.events.is_empty(), "INV-5: a relayed packet changes no table");
}

/// INV-6. No answer to an answer or an indication, and none to what is not STUN.
fn inv_6_nothing_but_a_request_is_answered(act: &Act<'_>) {
    if matches!(act.verdict, Verdict::Reply { .. }) {
        let class = m::read(act.bytes).map(|r| r.class);
        assert!(matches!(class, Ok(Class::Request)), "INV-6: answered a {class:?}");
    }
}

/// INV-7. An answer is sealed with the key that the request proved, a success always, a challenge never.
fn inv_7_answers_are_sealed_or_say_nothing_secret(act: &Act<'_>) {
    let Verdict::Reply { len, answer } = act.verdict else { return };
    let (request, reply) = (m::read(act.bytes).expect("a request"), m::read(&act.out[..len]).expect("an answer"));
    match answer.code {
        0 if answer.method.bits() != m::BINDING => {
            assert_eq!(reply.is_signed(), request.is_signed(), "INV-7: a success and its request");
        }
        401 | 438 => assert!(!reply.is_signed(), "INV-7: a challenge bears no seal"),
        _ => {}
    }
    if reply.is_signed() {
        let proved = keys_ever(&request).find(|key| request.is_sealed_by(key));
        let proved = proved.expect("INV-7: sealed for somebody who has proved nothing");
        assert!(reply.is_sealed_by(&proved), "INV-7: sealed with another key than the request's");
    }
}

/// All keys by which a request could ever have been signed.
fn keys_ever(request: &Reading) -> impl Iterator<Item = Vec<u8>> + '_ {
    let hashed = request.get(m::USERHASH);
    let known = [&b"alice"[..], b"bob", b"old"].into_iter().find(|name| hashed == Some(&m::userhash(name, REALM)));
    let name = request.get(m::USERNAME).or(known).unwrap_or_default();
    let limited = SECRETS_EVER.iter().map(move |secret| m::rest_password(secret, name));
    let passwords = PASSWORDS_EVER.iter().map(|password| password.to_vec()).chain(limited);
    passwords.flat_map(move |password| {
        let key = move |algorithm| m::long_term_key(algorithm, name, REALM, &password);
        [Algorithm::Md5, Algorithm::Sha256].into_iter().map(key)
    })
}

/// INV-8. Nothing stays longer than the wheel needs, unless the worker was starved.
fn inv_8_what_is_over_is_not_found(world: &World) {
    if world.is_lagging() {
        return;
    }
    for allocation in world.servers.iter().flat_map(|server| server.allocations()) {
        let end_ms = allocation.1.next_end_ms().expect("INV-8: an allocation has a relayed address");
        let due_ms = end_ms.max(world.restarted_ms()) + LATENESS_MAX_MS;
        assert!(world.now.mono_ms < due_ms, "INV-8: over since {end_ms} ms");
    }
}

/// INV-9. Against the step before.
fn inv_9_counters_only_rise(world: &World) {
    for (worker, server) in world.servers.iter().enumerate() {
        for (id, allocation) in server.allocations() {
            let (now, before) = (allocation.traffic, world.traffic.get(&(worker, id)).copied().unwrap_or_default());
            let rose = now.to_peer_packets >= before.to_peer_packets
                && now.to_peer_bytes >= before.to_peer_bytes
                && now.to_client_packets >= before.to_client_packets
                && now.to_client_bytes >= before.to_client_bytes;
            assert!(rose, "INV-9: {before:?} became {now:?}");
        }
    }
}

/// INV-10. There are as many slots as there were ever allocations at once; what they hold beyond their live entries,
/// and what is remembered of those that are over, has its limits.
fn inv_10_memory_is_that_of_live_things(world: &World) {
    for (worker, server) in world.servers.iter().enumerate() {
        let state = server.state();
        assert_eq!(state.allocations.len(), server.allocation_count(), "INV-10: the state is the table");
        assert_eq!(server.slot_count() as usize, world.most_at_once[worker], "INV-10: slots of worker {worker}");
        let until_max_ms = world.now.mono_ms + FINISHED_MS;
        let is_bounded = state.finished.iter().all(|(until_ms, _)| *until_ms <= until_max_ms);
        assert!(is_bounded && state.finished.len() <= FINISHED_MAX, "INV-10: {:?}", state.finished);
        for (_, allocation) in server.allocations() {
            let live = [Family::V4, Family::V6].iter().filter(|f| allocation.relays[f.index()].is_some()).count();
            assert!(live > 0, "INV-10: an allocation without a relayed address");
            let (permissions, channels) = world.crowd_max;
            assert!(
                allocation.permissions.len() <= permissions,
                "INV-10: {} permissions",
                allocation.permissions.len()
            );
            assert!(allocation.channels.len() <= channels, "INV-10: {} channels", allocation.channels.len());
        }
    }
}

/// INV-11. Two worlds of one seed, after the same step.
#[cfg(test)]
pub fn inv_11_the_same_again(one: &World, other: &World) {
    assert_eq!(one.trace.hash(), other.trace.hash(), "INV-11: what happened");
    for (one, other) in one.servers.iter().zip(&other.servers) {
        assert_eq!(one.state(), other.state(), "INV-11: the tables");
    }
}

/// INV-12. An answer goes to the request's source because it has no address of its own; all
/// else goes to the path and the link the allocation was made on.
fn inv_12_a_client_is_reached_where_it_allocated_from(world: &World, act: &Act<'_>) {
    let client = match act.verdict {
        Verdict::ToClient { client, .. } | Verdict::Indicate { client, .. } => client,
        _ => return,
    };
    let mut allocations = world.servers[act.worker].allocations();
    let made_there = allocations.any(|(_, a)| a.tuple.client == client.addr && a.link == client.link);
    assert!(made_there, "INV-12: {client:?}");
}
