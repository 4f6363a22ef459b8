//! Whether a peer is reached: the core's policy, and where its rules were written.

use super::{Bench, Finding};
use crate::cli::Failure;
use crate::engine;
use crate::turn::policy::{Denial, Firmness, Ground, ORDER, PeerPolicy, REFLECTOR_PORTS, Reach};
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

/// A peer as it is asked about.
#[derive(Clone, Debug)]
pub struct Peer {
    ip: IpAddr,
    port: Option<u16>,
}

impl FromStr for Peer {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(ip) = text.parse() {
            return Ok(Peer { ip, port: None });
        }
        let peer: SocketAddr = text
            .parse()
            .map_err(|_| format!("`{text}` is not a peer: write 10.0.0.1, 10.0.0.1:5000 or [2001:db8::1]:5000"))?;
        Ok(Peer { ip: peer.ip(), port: Some(peer.port()) })
    }
}

/// Explains what a client that asks for this peer is told.
pub fn explain(bench: &Bench<'_>, peer: &Peer) -> Result<Finding, Failure> {
    let own = engine::own(&bench.plan.engine)
        .map_err(|error| Failure::Other(format!("the addresses of this host can not be listed: {error}")))?;
    let policy = PeerPolicy { own, ..bench.plan.engine.turn.policy.clone() };
    let subject = match peer.port {
        Some(port) => format!("peer {}", SocketAddr::new(peer.ip, port)),
        None => format!("peer {}", peer.ip),
    };
    let mut finding = match judge(&policy, peer) {
        Ok((reach, ground)) => allowed(bench, subject, peer, reach, ground),
        Err(denial) => denied(bench, subject, peer, &policy, denial),
    };
    // Asked before the policy: there is no address that such a peer could be reached from.
    if !policy.own.relay.iter().any(|own| own.is_ipv4() == peer.ip.is_ipv4()) {
        let family = if peer.ip.is_ipv4() { "IPv4" } else { "IPv6" };
        finding.facts.push(("also", format!("this server relays from no {family} address: clients get 443")));
    }
    Ok(finding)
}

fn judge(policy: &PeerPolicy, peer: &Peer) -> Result<(Reach, Ground), Denial> {
    let (reach, ground) = policy.weigh(peer.ip)?;
    match peer.port {
        Some(port) => policy.judge_port(reach, port).map(|reach| (reach, ground)),
        None => Ok((reach, ground)),
    }
}

fn allowed(bench: &Bench<'_>, subject: String, peer: &Peer, reach: Reach, ground: Ground) -> Finding {
    let host_block = format!("{}/{}", peer.ip, if peer.ip.is_ipv4() { 32 } else { 128 });
    let deny = format!("relay.deny_peers = [\"{host_block}\"] denies it");
    let (rule, place, change) = match ground {
        Ground::Public => ("no rule denies it".to_owned(), "default".to_owned(), deny),
        Ground::Allowed(block, lifted) => {
            let at = bench.loaded.file.relay.allow_peers.iter().position(|network| network.0 == block);
            let place = at.map_or_else(|| bench.key("relay.allow_peers"), |at| bench.place_in("relay.allow_peers", at));
            let rule = format!("{block} of relay.allow_peers, over {} {}", lifted.reason, lifted.block);
            (rule, place, format!("without that entry it is denied; {deny}, and wins"))
        }
        Ground::Relay => {
            let rule = "this server relays from it: handed to its other clients inside, never sent".to_owned();
            (rule, bench.key("relay.addresses"), "relay.addresses says what is relayed from".into())
        }
        Ground::Loopback => {
            let key = "relay.allow_loopback_peers";
            (format!("{key} = true"), bench.origins().of(key), format!("{key} = false denies it"))
        }
    };
    let ports = match (peer.port, reach) {
        (Some(_), _) => String::new(),
        (None, Reach::Own) => {
            let ports = &bench.plan.engine.relay.ports;
            format!("{}-{} alone, relay.ports", ports.start(), ports.end())
        }
        (None, Reach::Network) => {
            let reflectors: Vec<String> = REFLECTOR_PORTS.iter().map(u16::to_string).collect();
            format!("all but {}, of services that reflect traffic", reflectors.join(", "))
        }
    };
    Finding {
        subject,
        is_allowed: true,
        decision: "allowed",
        unless: "",
        rule,
        place,
        change,
        facts: vec![("ports", ports)],
        order: &ORDER,
    }
}

fn denied(bench: &Bench<'_>, subject: String, peer: &Peer, policy: &PeerPolicy, denial: Denial) -> Finding {
    let (place, change) = match denial {
        Denial::Default(rule) if rule.firmness == Firmness::Soft => {
            let host_block = format!("{}/{}", peer.ip, if peer.ip.is_ipv4() { 32 } else { 128 });
            let text = format!(
                "relay.allow_peers = [\"{}\"] allows all of it, [\"{host_block}\"] this address alone",
                rule.block
            );
            ("default".to_owned(), text)
        }
        Denial::Default(_) if peer.ip.is_loopback() => {
            ("default".into(), "relay.allow_loopback_peers = true, which is for development".into())
        }
        Denial::Default(_) => ("default".into(), "nothing: this can not be configured away".into()),
        Denial::Configured(block) => {
            let at = bench.loaded.file.relay.deny_peers.iter().position(|network| network.0 == block);
            let place = at.map_or_else(|| bench.key("relay.deny_peers"), |at| bench.place_in("relay.deny_peers", at));
            (place, "without that entry the other rules decide; relay.allow_peers does not win over it".into())
        }
        Denial::Local => {
            let text = "nothing but relay.addresses, if clients should be relayed from it, and \
                        relay.allow_loopback_peers, for development";
            ("default".into(), text.into())
        }
        Denial::SelfPort => (bench.key("relay.ports"), "a port of that range, if it is one of its clients".into()),
        Denial::Tunnel(inner) => {
            let inner = Peer { ip: inner.into(), port: None };
            let why = judge(policy, &inner).err().map(|denial| denied(bench, String::new(), &inner, policy, denial));
            let (place, change) = why.map_or_else(Default::default, |why| {
                (why.place, format!("what changes it for {}: {} ({})", inner.ip, why.change, why.rule))
            });
            (place, change)
        }
        Denial::Port(_) => ("default".into(), "nothing: no media goes there".into()),
    };
    let facts = vec![("answer", "403 to CreatePermission and ChannelBind; what is sent there is dropped".into())];
    Finding {
        subject,
        is_allowed: false,
        decision: "denied",
        unless: "",
        rule: denial.to_string(),
        place,
        change,
        facts,
        order: &ORDER,
    }
}
