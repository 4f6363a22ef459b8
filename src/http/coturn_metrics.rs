//! The workers' counters under coturn's names, so that dashboards made for it go on working.
//!
//! What differs from coturn: traffic counts while it flows and not when a session ends, it is
//! application bytes without framing, and there is one realm and no user label. Left out, because
//! nothing here corresponds: `turn_ratelimit_*` (the buckets of coturn's limiter),
//! `turn_udp_sendmmsg_*`, and the transports this server does not have.

use super::exposition::Exposition;
use super::totals::{TRANSPORTS, Totals, Volume};
use crate::stats::Direction;
use crate::turn::request::METHODS;
use crate::turn::{DropReason, Transport};
use crate::wire::stun::Method;

/// Adds the families.
pub fn add(out: &mut Exposition, totals: &Totals<'_>, realm: &str) {
    binding(out, totals);
    unauthenticated(out, totals);
    let (from_client, from_peer) = (totals.relayed(Direction::ToPeer), totals.relayed(Direction::ToClient));
    let sides = [("", "client", from_client, from_peer), ("_peer", "peer", from_peer, from_client)];
    for (side, whom, received, sent) in sides {
        for (way, volume) in [("rcv", received), ("sent", sent)] {
            traffic(out, &format!("{side}_{way}"), &format!("{} the {whom}s", word(way)), volume, realm);
        }
    }
    let mut allocations = out.gauges(
        "turn_total_allocations",
        "Allocations there are, by the client's transport; one with addresses of both families counts twice.",
    );
    for transport in TRANSPORTS {
        let now = super::totals::FAMILIES.map(|family| totals.relayed_addresses(transport, family).1);
        allocations.add(&[("type", type_name(transport))], now.into_iter().sum::<u64>() as f64);
    }
    let answered: u64 = totals.answered().map(|(.., count)| count).sum();
    let processed = from_client.packets + from_peer.packets + answered;
    out.counter("turn_packet_processed", "Packets relayed and requests answered.", processed);
    let dropped = totals.dropped().map(|(_, count)| count).sum();
    out.counter("turn_packet_dropped", "Packets dropped for any reason.", dropped);
    let batches = totals.distribution(|stats| &stats.batches);
    let calls = batches.counts.iter().sum();
    out.counter("turn_udp_recvmmsg_calls", "Calls of the kernel that received packets.", calls);
    out.counter("turn_udp_recvmmsg_packets", "Packets received by them.", batches.sum);
}

fn binding(out: &mut Exposition, totals: &Totals<'_>) {
    let name = METHODS.iter().find(|row| row.method == Method::BINDING).map_or("binding", |row| row.name);
    let answered = || totals.answered().filter(|(method, ..)| *method == name);
    let all: u64 = answered().map(|(.., count)| count).sum();
    let good: u64 = answered().filter(|(_, code, _)| code == "success").map(|(.., count)| count).sum();
    out.counter("stun_binding_request", "Binding requests that were answered.", all);
    out.counter("stun_binding_response", "Binding requests answered with success.", good);
    out.counter("stun_binding_error", "Binding requests answered with an error.", all.saturating_sub(good));
}

fn unauthenticated(out: &mut Exposition, totals: &Totals<'_>) {
    let sent: u64 = totals.answered().filter(|(_, code, _)| code == "401").map(|(.., count)| count).sum();
    let suppressed = totals.sum(|stats| stats.dropped_total(DropReason::Unverified));
    let named = |what: &str| format!("turn_unauthenticated_401_{what}");
    out.counter(&named("requests"), "Requests answered with 401, and answers suppressed.", sent + suppressed);
    out.counter(&named("responses"), "401 answers sent.", sent);
    let help = "Answers of any kind to unverified sources that were not sent, to stay within their rate.";
    out.counter(&named("dropped_responses"), help, suppressed);
}

fn traffic(out: &mut Exposition, name: &str, what: &str, volume: Volume, realm: &str) {
    for (unit, letter, value) in [("Packets", 'p', volume.packets), ("Bytes", 'b', volume.bytes)] {
        let help = format!("{unit} {what}, as they are relayed.");
        out.counters(&format!("turn_traffic{name}{letter}"), &help).add(&[("realm", realm)], value);
        out.counter(&format!("turn_total_traffic{name}{letter}"), &help, value);
    }
}

fn word(way: &str) -> &'static str {
    match way {
        "rcv" => "received from",
        _ => "sent to",
    }
}

/// coturn's word for a client's transport.
fn type_name(transport: Transport) -> &'static str {
    match transport {
        Transport::Udp => "UDP",
        Transport::Tcp => "TCP",
        Transport::Tls => "TLS/TCP",
    }
}
