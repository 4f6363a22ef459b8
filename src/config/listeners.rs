//! Which sockets to open: wildcards become the host's own addresses, one by one.

use super::address::Endpoint;
use super::fault::Fault;
use super::file::{File, Listen as Keys};
use super::host::Host;
use super::layers::Origins;
use crate::engine::{Listen, Protocol};
use std::net::{IpAddr, SocketAddr};

/// The lists of `[listen]` with their keys.
fn lists(keys: &Keys) -> [(&'static str, Protocol, &[Endpoint]); 3] {
    [
        ("listen.udp", Protocol::Udp, &keys.udp),
        ("listen.tcp", Protocol::Tcp, &keys.tcp),
        ("listen.tls", Protocol::Tls, &keys.tls),
    ]
}

/// Every socket to open, each once.
pub fn listeners(file: &File, origins: &Origins, host: &Host) -> Result<Vec<Listen>, Fault> {
    if !file.listen.dtls.is_empty() {
        return Err(origins.fault("listen.dtls", "DTLS is not available yet: leave listen.dtls empty"));
    }
    if !file.listen.tls.is_empty() && file.tls.cert.is_empty() && file.tls.key.is_empty() {
        return Err(origins
            .fault("listen.tls", "listen.tls needs a certificate")
            .hint("name it with cert and key under [tls], or leave listen.tls empty"));
    }
    let mut listeners = Vec::new();
    for (key, protocol, endpoints) in lists(&file.listen) {
        for (element, endpoint) in endpoints.iter().enumerate() {
            let before = listeners.len();
            add(&mut listeners, endpoint.0, protocol, &host.addresses);
            if let Some(addr) = listeners[before..].iter().find_map(|added| shared(added, &listeners[..before])) {
                let what = format!("`{key}`: {addr} is in listen.tcp too");
                let fault = origins.fault_in(key, element, what);
                return Err(fault.hint("one list is enough: a port of listen.tls serves clients without TLS as well"));
            }
            if listeners.len() == before {
                tracing::debug!("{key}: {endpoint} adds no listener");
            }
        }
    }
    match listeners.is_empty() {
        true => Err(Fault::new("there is nothing to listen on")
            .hint("name an address with udp, tcp or tls under [listen], like \"0.0.0.0:3478\"")),
        false => Ok(listeners),
    }
}

fn add(listeners: &mut Vec<Listen>, endpoint: SocketAddr, protocol: Protocol, local: &[IpAddr]) {
    let (addresses, required) = match endpoint.ip().is_unspecified() {
        true => (expand(endpoint, local), false),
        false => (vec![endpoint], true),
    };
    for addr in addresses {
        match listeners.iter_mut().find(|listen| listen.addr == addr && listen.protocol == protocol) {
            Some(listen) => listen.required |= required,
            None => listeners.push(Listen { addr, protocol, required }),
        }
    }
}

/// The address, if a listener of the other stream protocol has it already.
fn shared(added: &Listen, before: &[Listen]) -> Option<SocketAddr> {
    let is_stream = |listen: &Listen| listen.protocol != Protocol::Udp && listen.addr.port() != 0;
    before.iter().any(|listen| is_stream(added) && is_stream(listen) && listen.addr == added.addr).then_some(added.addr)
}

/// A wildcard's addresses. Link-local IPv6 addresses are left out: nobody can name them without
/// a zone, which a relay's clients do not have.
fn expand(wildcard: SocketAddr, local: &[IpAddr]) -> Vec<SocketAddr> {
    let fits = |ip: &&IpAddr| match ip {
        IpAddr::V4(_) => wildcard.is_ipv4(),
        IpAddr::V6(ip) => wildcard.is_ipv6() && !ip.is_unicast_link_local(),
    };
    local.iter().filter(fits).map(|&ip| SocketAddr::new(ip, wildcard.port())).collect()
}

/// An address that is configured by name and is not one of this host's.
pub struct Foreign {
    /// The key that lists it.
    pub key: &'static str,
    /// Its place in the list.
    pub element: usize,
    /// The address.
    pub ip: IpAddr,
}

/// The first of them.
pub fn foreign(file: &File, host: &Host) -> Option<Foreign> {
    let listen = lists(&file.listen).into_iter().flat_map(|(key, _, endpoints)| {
        endpoints.iter().enumerate().map(move |(at, endpoint)| (key, at, endpoint.0.ip()))
    });
    let relay = file.relay.addresses.iter().enumerate().map(|(at, address)| ("relay.addresses", at, address.0));
    let (key, element, ip) = listen.chain(relay).find(|&(_, _, ip)| !host.has(ip))?;
    Some(Foreign { key, element, ip })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host() -> Host {
        let addresses = ["192.0.2.7", "127.0.0.1", "2001:db8::7", "fe80::7", "::1"];
        Host {
            name: "host".into(),
            addresses: addresses.map(|ip| ip.parse().unwrap()).to_vec(),
            cores: 2,
            ephemeral: None,
            reserved: Vec::new(),
        }
    }

    fn udp(endpoints: &[&str]) -> File {
        let mut file = File::default();
        file.listen.udp = endpoints.iter().map(|text| text.parse().unwrap()).collect();
        file.listen.tcp = Vec::new();
        file
    }

    fn shown(file: &File, host: &Host) -> Vec<String> {
        let listeners = listeners(file, &Origins::default(), host).unwrap();
        listeners.iter().map(|l| format!("{}{}", l.addr, if l.required { "!" } else { "" })).collect()
    }

    #[test]
    fn a_wildcard_is_every_address_of_its_family_but_link_local() {
        assert_eq!(shown(&udp(&["0.0.0.0:3478"]), &host()), ["192.0.2.7:3478", "127.0.0.1:3478"]);
        assert_eq!(shown(&udp(&["[::]:0"]), &host()), ["[2001:db8::7]:0", "[::1]:0"]);
    }

    #[test]
    fn an_address_named_twice_is_opened_once_and_is_required() {
        let file = udp(&["0.0.0.0:3478", "127.0.0.1:3478", "127.0.0.1:3478", "127.0.0.1:443"]);
        assert_eq!(shown(&file, &host()), ["192.0.2.7:3478", "127.0.0.1:3478!", "127.0.0.1:443!"]);
    }

    #[test]
    fn a_family_the_host_lacks_is_silent_but_nothing_at_all_is_not() {
        let mut host = host();
        host.addresses.retain(IpAddr::is_ipv4);
        assert_eq!(shown(&File::default(), &host).len(), 4);
        assert!(listeners(&udp(&["[::]:3478"]), &Origins::default(), &host).is_err());
        assert!(listeners(&udp(&[]), &Origins::default(), &host).is_err());
    }

    #[test]
    fn an_address_is_not_for_tcp_and_tls_both() {
        let mut file = udp(&["127.0.0.1:443"]);
        file.listen.tcp = vec!["0.0.0.0:443".parse().unwrap()];
        file.listen.tls = vec!["[::]:443".parse().unwrap(), "127.0.0.1:443".parse().unwrap()];
        file.tls.cert = "cert.pem".into();
        let fault = listeners(&file, &Origins::default(), &host()).unwrap_err().to_string();
        assert!(fault.starts_with("`listen.tls`: 127.0.0.1:443 is in listen.tcp too"), "{fault}");
        file.listen.tls.truncate(1);
        assert!(listeners(&file, &Origins::default(), &host()).is_ok());
    }

    #[test]
    fn a_foreign_address_is_named() {
        let found = foreign(&udp(&["127.0.0.9:1", "0.0.0.0:1", "192.0.2.8:3478"]), &host()).unwrap();
        assert_eq!((found.key, found.element, found.ip.to_string()), ("listen.udp", 2, "192.0.2.8".into()));
        assert!(foreign(&File::default(), &host()).is_none());
    }
}
