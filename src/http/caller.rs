//! Who asks: the address of a connection, and what trusted proxies say about it.
//!
//! A header counts only when the connection comes from a trusted proxy: anyone can write one.

use super::{Live, Network};
use axum::http::HeaderMap;
use axum::http::header::HOST;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// Who asks; an extension of every request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The client's address: the connection's, or what a trusted proxy says. `None` on the
    /// unix socket.
    pub ip: Option<IpAddr>,
    /// `scheme://host[:port]` as the client typed it, or [`super::Live::public_url`].
    pub origin: String,
}

/// Where a connection came from, as its listener saw it.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    /// The other end; `None` on the unix socket.
    pub ip: Option<IpAddr>,
    /// This end; `None` on the unix socket.
    pub local: Option<SocketAddr>,
    /// Whether it is by TLS.
    pub tls: bool,
}

/// Those who share one limit: an IPv4 address, or an IPv6 site (/56).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Source(IpAddr);

impl Source {
    /// Whom this address counts with.
    pub fn of(ip: IpAddr) -> Self {
        match ip.to_canonical() {
            IpAddr::V4(ip) => Source(ip.into()),
            IpAddr::V6(ip) => Source(Ipv6Addr::from_bits(ip.to_bits() & (u128::MAX << 72)).into()),
        }
    }
}

impl Network {
    /// Whether the address lies in it; never for the other family.
    pub fn contains(&self, ip: IpAddr) -> bool {
        let (network, ip, width) = match (self.ip.to_canonical(), ip.to_canonical()) {
            (IpAddr::V4(network), IpAddr::V4(ip)) => (network.to_bits().into(), ip.to_bits().into(), 32),
            (IpAddr::V6(network), IpAddr::V6(ip)) => (network.to_bits(), ip.to_bits(), 128),
            _ => return false,
        };
        let host_bits = u32::from(width - self.prefix_len.min(width));
        u128::checked_shr(network ^ ip, host_bits).unwrap_or(0) == 0
    }
}

/// Whether what this address says of others is believed.
pub fn is_trusted(live: &Live, ip: IpAddr) -> bool {
    live.trusted_proxies.iter().any(|network| network.contains(ip))
}

impl Caller {
    /// Who asks by this connection with these headers, and `host[:port]` as the client typed it,
    /// in lower case and not checked yet.
    pub fn new(live: &Live, arrival: &Arrival, headers: &HeaderMap) -> (Self, String) {
        let proxy = arrival.ip.filter(|ip| is_trusted(live, *ip));
        let told = |name| proxy.and_then(|_| last(headers, name));
        let host = told("x-forwarded-host").or_else(|| headers.get(HOST)?.to_str().ok()).map(str::to_ascii_lowercase);
        let host = host.unwrap_or_else(|| arrival.local.map_or_else(|| "localhost".into(), |addr| addr.to_string()));
        let scheme = match told("x-forwarded-proto") {
            Some(proto) if proto.eq_ignore_ascii_case("https") => "https",
            Some(proto) if proto.eq_ignore_ascii_case("http") => "http",
            _ if arrival.tls => "https",
            _ => "http",
        };
        let origin = live.public_url.clone().unwrap_or_else(|| format!("{scheme}://{host}"));
        let ip = match proxy {
            Some(proxy) => Some(client(live, proxy, headers)),
            None => arrival.ip,
        };
        (Caller { ip: ip.map(|ip| ip.to_canonical()), origin }, host)
    }
}

/// The last value of a list that may stand in several headers: the one that the nearest proxy wrote.
fn last<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let value = headers.get_all(name).iter().next_back()?.to_str().ok()?;
    value.rsplit(',').next().map(str::trim).filter(|value| !value.is_empty())
}

/// The right-most address of `X-Forwarded-For` that is no trusted proxy: what stands left of it,
/// the client could have written itself.
fn client(live: &Live, proxy: IpAddr, headers: &HeaderMap) -> IpAddr {
    let mut client = proxy;
    for value in headers.get_all("x-forwarded-for").iter().rev() {
        for entry in value.to_str().unwrap_or_default().rsplit(',') {
            let Some(ip) = address(entry.trim()) else { return client };
            client = ip;
            if !is_trusted(live, ip) {
                return client;
            }
        }
    }
    client
}

/// An address with or without a port, in brackets or not.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    bare.parse().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|addr| addr.ip()))
}

/// The host of `host[:port]`, without brackets; `None` if it is not written like one.
pub fn host_name(authority: &str) -> Option<&str> {
    let (name, port) = match authority.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?,
        None => authority.find(':').map_or((authority, ""), |colon| authority.split_at(colon)),
    };
    let is_port = port.is_empty() || port.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok());
    let is_name = name.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_:%".contains(&b));
    (is_port && is_name && !name.is_empty()).then_some(name)
}

/// `host[:port]` of a URL, without the port that its scheme has anyway.
pub fn authority(url: &str) -> Option<&str> {
    let (scheme, rest) = url.split_once("://")?;
    let authority = rest.split('/').next()?;
    let default = if scheme.eq_ignore_ascii_case("https") { ":443" } else { ":80" };
    Some(authority.strip_suffix(default).unwrap_or(authority))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_holds_its_addresses() {
        let network = |ip: &str, prefix_len| Network { ip: ip.parse().unwrap(), prefix_len };
        let contains = |network: Network, ip: &str| network.contains(ip.parse().unwrap());
        assert!(contains(network("10.0.0.0", 8), "10.255.0.1"));
        assert!(contains(network("10.0.0.0", 8), "::ffff:10.1.2.3"));
        assert!(!contains(network("10.0.0.0", 8), "11.0.0.1"));
        assert!(contains(network("0.0.0.0", 0), "203.0.113.7"));
        assert!(!contains(network("0.0.0.0", 0), "2001:db8::1"));
        assert!(contains(network("::", 0), "2001:db8::1"));
        assert!(contains(network("192.0.2.1", 32), "192.0.2.1"));
        assert!(!contains(network("192.0.2.1", 32), "192.0.2.2"));
        assert!(contains(network("2001:db8::", 32), "2001:db8:ffff::1"));
    }

    #[test]
    fn an_ipv6_site_is_one_source() {
        let of = |ip: &str| Source::of(ip.parse().unwrap());
        assert_eq!(of("2001:db8:0:12ff::1"), of("2001:db8:0:1200:ffff::"));
        assert_ne!(of("2001:db8:0:1200::1"), of("2001:db8:0:1300::1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
    }

    #[test]
    fn hosts_are_read_with_and_without_a_port() {
        for (text, name) in [
            ("example.org", "example.org"),
            ("example.org:8080", "example.org"),
            ("127.0.0.1:1", "127.0.0.1"),
            ("[::1]:80", "::1"),
            ("[::1]", "::1"),
        ] {
            assert_eq!(host_name(text), Some(name), "{text}");
        }
        for text in ["", ":80", "a:b", "a:", "a:80:80", "[::1", "[::1]x", "a b", "a/b", "a@b", "ex\"ample", "a:99999"] {
            assert_eq!(host_name(text), None, "{text}");
        }
    }

    #[test]
    fn a_port_that_goes_without_saying_is_left_out() {
        assert_eq!(authority("https://a.example:443"), Some("a.example"));
        assert_eq!(authority("http://a.example:443/x"), Some("a.example:443"));
        assert_eq!(authority("http://a.example:80"), Some("a.example"));
        assert_eq!(authority("null"), None);
    }
}
