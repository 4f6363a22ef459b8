//! Which peers may be reached, as a table and nothing else: every form a hostile address takes
//! falls into one row, and the rows are compared bit by bit.

use super::setting::Setting;
use std::net::{IpAddr, SocketAddr};
use std::sync::LazyLock;

/// Denied whatever the operator writes.
#[rustfmt::skip]
pub(super) const NEVER: &[&str] = &[
    "0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "168.63.129.16/32", "100.100.100.200/32", "192.0.0.0/24",
    "192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "192.88.99.0/24", "224.0.0.0/4", "240.0.0.0/4",
    "::/96", "::ffff:0:0/96", "::ffff:0:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48", "100::/64", "100:0:0:1::/64",
    "2001::/23", "2002::/16", "2001:db8::/32", "3fff::/20", "5f00::/16", "fd00:ec2::/32", "fe80::/10",
    "fec0::/10", "ff00::/8",
];
/// Denied unless allowed by name.
#[rustfmt::skip]
pub(super) const PRIVATE: &[&str] = &[
    "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "198.18.0.0/15", "192.31.196.0/24",
    "192.52.193.0/24", "192.175.48.0/24", "2620:4f:8000::/48", "fc00::/7",
];
/// Services that answer a little with a lot.
pub(super) const REFLECTORS: &[u16] = &[19, 53, 123, 161, 389, 1900, 5353, 11211];

/// What the policy says about a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// Reached over the network.
    Network,
    /// Another client of this server, if the port is right.
    Own,
    Denied,
}

/// Family and bits as text: a block holds what begins like it.
fn binary(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => format!("4{:032b}", ip.to_bits()),
        IpAddr::V6(ip) => format!("6{:0128b}", ip.to_bits()),
    }
}

fn beginning(block: &&str) -> String {
    let (network, len) = block.split_once('/').expect("a block has a length");
    let mut text = binary(network.parse().expect("a block has an address"));
    text.truncate(1 + len.parse::<usize>().expect("a length is a number"));
    text
}

fn is_in(text: &str, beginnings: &[String]) -> bool {
    beginnings.iter().any(|beginning| text.starts_with(beginning))
}

fn is_listed(text: &str, blocks: &[&str]) -> bool {
    blocks.iter().any(|block| text.starts_with(&beginning(block)))
}

/// The IPv4 address a tunnel interface identifier carries (RFC 5214 §6.1).
fn tunnelled(ip: IpAddr) -> Option<IpAddr> {
    let IpAddr::V6(ip) = ip else { return None };
    let [_, _, _, _, a, b, c, d] = ip.segments();
    let [c, d] = [c, d].map(u16::to_be_bytes);
    (matches!(a, 0x0000 | 0x0200) && b == 0x5EFE).then(|| IpAddr::from([c[0], c[1], d[0], d[1]]))
}

/// Judges an IP address, as a permission needs it.
pub fn judge(setting: &Setting, ip: IpAddr) -> Peer {
    static NEVER_BITS: LazyLock<Vec<String>> = LazyLock::new(|| NEVER.iter().map(beginning).collect());
    static PRIVATE_BITS: LazyLock<Vec<String>> = LazyLock::new(|| PRIVATE.iter().map(beginning).collect());
    let text = binary(ip);
    let loopback = setting.allow_loopback && ip.is_loopback();
    let own = setting.relay.contains(&ip) && !ip.is_loopback();
    let private = is_in(&text, &PRIVATE_BITS) && !is_listed(&text, &setting.allow);
    match ip {
        _ if is_in(&text, &NEVER_BITS) && !loopback && !own => Peer::Denied,
        _ if is_listed(&text, &setting.deny) => Peer::Denied,
        _ if tunnelled(ip).is_some_and(|inner| judge(setting, inner) == Peer::Denied) => Peer::Denied,
        _ if setting.relay.contains(&ip) => Peer::Own,
        _ if setting.local.contains(&ip) && setting.allow_loopback => Peer::Network,
        _ if setting.local.contains(&ip) || private => Peer::Denied,
        _ => Peer::Network,
    }
}

/// Judges the port of a peer whose address is judged.
pub fn judge_port(setting: &Setting, reach: Peer, port: u16) -> Peer {
    match reach {
        Peer::Own if setting.ports.contains(&port) => Peer::Own,
        Peer::Own if setting.allow_loopback => Peer::Network,
        Peer::Network if !REFLECTORS.contains(&port) => Peer::Network,
        _ => Peer::Denied,
    }
}

/// Judges a transport address, as a channel needs it.
pub fn judge_peer(setting: &Setting, peer: SocketAddr) -> Peer {
    judge_port(setting, judge(setting, peer.ip()), peer.port())
}

/// RFC 8656 §21.4: no client comes from Teredo or 6to4.
pub fn is_refused_source(ip: IpAddr) -> bool {
    is_listed(&binary(ip), &["2001::/32", "2002::/16"])
}
