//! Addresses as a configuration writes them. An error names the form that is meant.

use super::value::written_as_text;
use super::web::HostName;
use crate::turn::policy::{Cidr, CidrError};
use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

written_as_text! {
    Endpoint: "an address and port like \"0.0.0.0:3478\"";
    RelayAddress: "an IP address in quotes";
    Network: "a network like \"10.0.0.0/8\"";
    External: "\"PUBLIC\" or \"PUBLIC/PRIVATE\" addresses";
    AlternateServer: "an address and port like \"203.0.113.9:3478\", or \"NAME=ADDRESS:PORT\"";
}

/// An address and port to listen on; port 0 lets the kernel choose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoint(pub SocketAddr);

impl FromStr for Endpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(address) = text.parse() {
            return Ok(Endpoint(address));
        }
        if let Ok(ip) = text.parse::<IpAddr>() {
            return Err(format!("`{text}` has no port: write \"{}\"", SocketAddr::new(ip, 3478)));
        }
        match text.rsplit_once(':').map(|(host, port)| (host, port.parse::<u64>())) {
            Some((_, Ok(port))) if port > 65_535 => Err(format!("{port} is not a port: ports are 1 to 65535")),
            Some((host, Ok(port))) if host.parse::<Ipv6Addr>().is_ok() => {
                Err(format!("an IPv6 address needs brackets: write \"[{host}]:{port}\""))
            }
            _ => Err(format!("`{text}` is not an address and port: write \"0.0.0.0:3478\" or \"[::]:3478\"")),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A local address to relay from; never a wildcard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RelayAddress(pub IpAddr);

impl FromStr for RelayAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        unicast(text).map(RelayAddress)
    }
}

impl fmt::Display for RelayAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

fn unicast(text: &str) -> Result<IpAddr, String> {
    let text = text.trim();
    let ip: IpAddr = text.parse().map_err(|_| format!("`{text}` is not an IP address"))?;
    if ip.is_unspecified() || ip.is_multicast() {
        return Err(format!("`{text}` is not the address of one host"));
    }
    Ok(ip)
}

/// A network of peers. The bits behind the prefix are zero, so that what is meant is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network(pub Cidr);

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse().map(Network).map_err(|error| match error {
            CidrError::Syntax => format!("`{text}` is not a network: write \"10.0.0.0/8\" or \"10.1.2.3\""),
            CidrError::Prefix => format!("the prefix of `{text}` is longer than the address"),
            CidrError::HostBits(meant) => {
                format!("`{text}` has bits set behind its prefix: write \"{meant}\", or the address alone")
            }
        })
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The public address peers see, and the local one it is mapped to when there are several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct External {
    /// What clients are told.
    pub public: IpAddr,
    /// The local address behind it; `None`: every local address of its family.
    pub private: Option<IpAddr>,
}

impl FromStr for External {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (public, private) = match text.split_once('/') {
            Some((public, private)) => (unicast(public)?, Some(unicast(private)?)),
            None => (unicast(text)?, None),
        };
        if private.is_some_and(|private| private.is_ipv4() != public.is_ipv4()) {
            return Err(format!("`{text}` mixes IPv4 and IPv6"));
        }
        Ok(External { public, private })
    }
}

impl fmt::Display for External {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.private {
            Some(private) => write!(f, "{}/{private}", self.public),
            None => self.public.fmt(f),
        }
    }
}

/// Another server for clients to go to, with the name that its certificate is for, if it is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlternateServer {
    /// Where it is.
    pub addr: SocketAddr,
    /// Its name, for clients that come by TLS.
    pub domain: Option<Box<str>>,
}

impl FromStr for AlternateServer {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (domain, place) = match text.split_once('=') {
            Some((name, place)) => (Some(name.trim().parse::<HostName>()?.0.into_boxed_str()), place.trim()),
            None => (None, text.trim()),
        };
        let Endpoint(addr) = place.parse()?;
        if addr.port() == 0 {
            return Err(format!("`{place}` has no port that a client could go to: ports are 1 to 65535"));
        }
        unicast(&addr.ip().to_string())?;
        Ok(AlternateServer { addr, domain })
    }
}

impl fmt::Display for AlternateServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.domain {
            Some(domain) => write!(f, "{domain}={}", self.addr),
            None => self.addr.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal<T: FromStr<Err = String> + fmt::Debug>(text: &str) -> String {
        text.parse::<T>().expect_err(text)
    }

    #[test]
    fn an_endpoint_has_an_address_and_a_port() {
        assert_eq!("[::]:0".parse::<Endpoint>().unwrap().to_string(), "[::]:0");
        assert!(refusal::<Endpoint>("10.0.0.1").contains("write \"10.0.0.1:3478\""));
        assert!(refusal::<Endpoint>("::1").contains("write \"[::1]:3478\""));
        assert!(refusal::<Endpoint>("fe80::g:1").contains("not an address and port"));
        assert!(refusal::<Endpoint>("0.0.0.0:65536").contains("65536 is not a port"));
        assert!(refusal::<Endpoint>("localhost:3478").contains("not an address and port"));
        assert!(refusal::<Endpoint>("").contains("not an address and port"));
    }

    #[test]
    fn a_network_is_written_as_it_is_meant() {
        assert_eq!("10.0.0.1".parse::<Network>().unwrap().to_string(), "10.0.0.1/32");
        assert_eq!("2001:db8::/32".parse::<Network>().unwrap().to_string(), "2001:db8::/32");
        assert_eq!("0.0.0.0/0".parse::<Network>().unwrap().to_string(), "0.0.0.0/0");
        assert!(refusal::<Network>("10.0.0.1/8").contains("write \"10.0.0.0/8\""));
        assert!(refusal::<Network>("2001:db8::1/32").contains("\"2001:db8::/32\""));
        assert!(refusal::<Network>("10.0.0.0/33").contains("longer than the address"));
        assert!(refusal::<Network>("::/129").contains("longer than the address"));
        for text in ["", "/", "10.0.0.0/", "10.0.0.0/+8", "10.0.0/8", "10.0.0.0/8/8", "10.0.0.0-10.0.0.9", "*"] {
            assert!(text.parse::<Network>().is_err(), "{text}");
        }
    }

    #[test]
    fn an_alternate_server_is_one_place_and_may_have_a_name() {
        let plain: AlternateServer = "203.0.113.9:3478".parse().unwrap();
        assert_eq!((plain.domain.as_deref(), plain.to_string().as_str()), (None, "203.0.113.9:3478"));
        let named: AlternateServer = "Turn2.example.org=[2001:db8::9]:5349".parse().unwrap();
        assert_eq!(named.addr, "[2001:db8::9]:5349".parse().unwrap());
        assert_eq!(named.to_string(), "turn2.example.org=[2001:db8::9]:5349");
        assert!(refusal::<AlternateServer>("203.0.113.9").contains("write \"203.0.113.9:3478\""));
        assert!(refusal::<AlternateServer>("203.0.113.9:0").contains("ports are 1 to 65535"));
        assert!(refusal::<AlternateServer>("0.0.0.0:3478").contains("not the address of one host"));
        assert!(refusal::<AlternateServer>("turn2.example.org:3478").contains("not an address and port"));
        assert!(refusal::<AlternateServer>("a b=203.0.113.9:3478").contains("not a host name"));
        for text in ["", "=", "=203.0.113.9:3478", "a=", "a=b=203.0.113.9:3478", "[ff02::1]:3478"] {
            assert!(text.parse::<AlternateServer>().is_err(), "{text}");
        }
    }

    #[test]
    fn an_external_address_may_name_the_private_one() {
        let both: External = "203.0.113.7/10.0.0.7".parse().unwrap();
        assert_eq!(both.private, Some("10.0.0.7".parse().unwrap()));
        assert_eq!(both.to_string(), "203.0.113.7/10.0.0.7");
        assert_eq!("2001:db8::7".parse::<External>().unwrap().private, None);
        assert!(refusal::<External>("203.0.113.7/fd00::1").contains("mixes IPv4 and IPv6"));
        assert!(refusal::<External>("203.0.113.7/24").contains("`24` is not an IP address"));
        assert!(refusal::<External>("0.0.0.0").contains("not the address of one host"));
    }
}
