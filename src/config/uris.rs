//! What clients are told: the URIs of this server (RFC 7065) and an `iceServers` value.

use super::address::External;
use crate::engine::{Listen, Protocol};
use serde_json::{Value, json};
use std::net::IpAddr;

/// The server's URIs, UDP first. Each transport is named once a port, at the external address
/// of the listener's family if there is one, else at its first address that is not loopback.
pub fn uris(listening: &[Listen], external: &[External], realm: &str) -> Vec<String> {
    let mut uris = Vec::new();
    for protocol in [Protocol::Udp, Protocol::Tcp, Protocol::Tls] {
        // Port 0 is a port the kernel has yet to choose.
        let of_protocol = |listen: &&Listen| listen.protocol == protocol && listen.addr.port() != 0;
        let Some(home) = home(listening.iter().filter(of_protocol), external) else { continue };
        let host = match protocol {
            Protocol::Tls if is_dns_name(realm) => realm.to_owned(),
            _ => bracketed(public(home, external)),
        };
        let (scheme, transport) = match protocol {
            Protocol::Udp => ("turn", "udp"),
            Protocol::Tcp => ("turn", "tcp"),
            Protocol::Tls => ("turns", "tcp"),
        };
        for listen in listening.iter().filter(of_protocol).filter(|listen| listen.addr.ip() == home) {
            uris.push(format!("{scheme}:{host}:{}?transport={transport}", listen.addr.port()));
        }
    }
    uris
}

/// The same, with each transport at its first address of each family.
pub fn of_every_family(listening: &[Listen], external: &[External], realm: &str) -> Vec<String> {
    let families = [true, false].map(|v4| {
        let of_family = listening.iter().filter(|listen| listen.addr.is_ipv4() == v4);
        uris(&of_family.copied().collect::<Vec<_>>(), external, realm)
    });
    let mut all = families.concat();
    // A name is the same for both.
    let mut seen = std::collections::HashSet::new();
    all.retain(|uri| seen.insert(uri.clone()));
    all
}

/// The JSON that a browser's `RTCPeerConnection` takes.
pub fn ice_servers(uris: &[String], username: &str, credential: &str) -> Value {
    json!({ "iceServers": [{ "urls": uris, "username": username, "credential": credential }] })
}

/// The address that stands for all others.
fn home<'a>(listening: impl Iterator<Item = &'a Listen>, external: &[External]) -> Option<IpAddr> {
    let rank = |ip: &IpAddr| (ip.is_loopback(), public(*ip, external) == *ip && !external.is_empty());
    // The first of the best: `min_by_key` keeps the order of the configuration.
    listening.map(|listen| listen.addr.ip()).min_by_key(rank)
}

/// The address clients reach `ip` at.
fn public(ip: IpAddr, external: &[External]) -> IpAddr {
    let exact = external.iter().find(|external| external.private == Some(ip));
    let family = || external.iter().find(|e| e.private.is_none() && e.public.is_ipv4() == ip.is_ipv4());
    exact.or_else(family).map_or(ip, |external| external.public)
}

fn bracketed(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    }
}

/// Whether a client could resolve this: labels of letters, digits and hyphens, at least two,
/// the last not a number.
fn is_dns_name(text: &str) -> bool {
    let is_label = |label: &str| {
        !label.is_empty() && label.len() <= 63 && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    let last = text.rsplit('.').next().unwrap_or_default();
    text.contains('.') && text.split('.').all(is_label) && !last.bytes().all(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listen(protocol: Protocol, addr: &str) -> Listen {
        Listen { addr: addr.parse().unwrap(), protocol, required: true }
    }

    fn all() -> [Listen; 7] {
        [
            listen(Protocol::Udp, "127.0.0.1:3478"),
            listen(Protocol::Udp, "10.0.0.7:3478"),
            listen(Protocol::Udp, "10.0.0.7:443"),
            listen(Protocol::Udp, "[2001:db8::7]:3478"),
            listen(Protocol::Tcp, "127.0.0.1:3478"),
            listen(Protocol::Tcp, "[2001:db8::7]:3478"),
            listen(Protocol::Tls, "10.0.0.7:5349"),
        ]
    }

    #[test]
    fn each_transport_is_named_at_its_first_public_listener() {
        let expected = [
            "turn:10.0.0.7:3478?transport=udp",
            "turn:10.0.0.7:443?transport=udp",
            "turn:[2001:db8::7]:3478?transport=tcp",
            "turns:10.0.0.7:5349?transport=tcp",
        ];
        assert_eq!(uris(&all(), &[], "vm"), expected);
        assert_eq!(uris(&all()[..1], &[], "vm"), ["turn:127.0.0.1:3478?transport=udp"]);
        assert!(uris(&[], &[], "vm").is_empty());
        assert!(uris(&[listen(Protocol::Udp, "10.0.0.7:0")], &[], "vm").is_empty());
    }

    #[test]
    fn the_external_address_is_the_one_to_name() {
        let external = ["203.0.113.7/10.0.0.7".parse().unwrap()];
        assert_eq!(
            uris(&all(), &external, "turn.example.org")[..2],
            ["turn:203.0.113.7:3478?transport=udp", "turn:203.0.113.7:443?transport=udp"]
        );
        assert_eq!(uris(&all(), &external, "turn.example.org")[3], "turns:turn.example.org:5349?transport=tcp");
        let external = ["203.0.113.9".parse().unwrap()];
        assert_eq!(uris(&all(), &external, "x")[0], "turn:203.0.113.9:3478?transport=udp");
    }

    #[test]
    fn a_realm_is_a_host_only_if_it_can_be_resolved() {
        for name in ["turn.example.org", "a.b", "xn--bcher-kva.example"] {
            assert!(is_dns_name(name), "{name}");
        }
        for name in ["localhost", "192.0.2.1", "my realm.org", "a..b", ".org", "bücher.example", "", "example.org."] {
            assert!(!is_dns_name(name), "{name}");
        }
    }
}
