//! Addresses that clients come from, each used once. Pure.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};

/// A network, as its first address and the length of its prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    first: IpAddr,
    prefix_len: u8,
}

impl Network {
    /// Whether its addresses are of IPv4.
    pub fn is_ipv4(self) -> bool {
        self.first.is_ipv4()
    }

    /// The family's bits that are not of the prefix.
    fn host_bits(self) -> u32 {
        let bits = if self.first.is_ipv4() { 32 } else { 128 };
        bits - u32::from(self.prefix_len)
    }
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no network: write 127.16.0.0/12");
        let (ip, len) = text.split_once('/').ok_or_else(wrong)?;
        let first: IpAddr = ip.parse().map_err(|_| wrong())?;
        let bits = if first.is_ipv4() { 32 } else { 128 };
        let prefix_len: u8 = len.parse().ok().filter(|len| *len <= bits).ok_or_else(wrong)?;
        let network = Network { first, prefix_len };
        let value = match first {
            IpAddr::V4(ip) => ip.to_bits().into(),
            IpAddr::V6(ip) => ip.to_bits(),
        };
        let mask = 1_u128.checked_shl(network.host_bits()).map_or(u128::MAX, |size| size - 1);
        if value & mask != 0 {
            return Err(format!("`{text}` has bits behind its prefix"));
        }
        Ok(network)
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.prefix_len)
    }
}

/// The addresses of a network, handed out once each; the first, which names the network, is left out.
#[derive(Debug)]
pub struct Sources {
    network: Network,
    used: AtomicU64,
}

impl Sources {
    /// Begins behind the network's first address.
    pub fn new(network: Network) -> Self {
        Sources { network, used: AtomicU64::new(0) }
    }

    /// An address that nobody has had.
    pub fn fresh(&self) -> io::Result<IpAddr> {
        let number = self.used.fetch_add(1, Ordering::Relaxed) + 1;
        if number.checked_shr(self.network.host_bits()).is_some_and(|above| above > 0) {
            return Err(io::Error::other(format!("--sources {} has no address left", self.network)));
        }
        Ok(match self.network.first {
            IpAddr::V4(first) => Ipv4Addr::from_bits(first.to_bits() + number as u32).into(),
            IpAddr::V6(first) => Ipv6Addr::from_bits(first.to_bits() + u128::from(number)).into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_but_the_first_is_handed_out_once() {
        for (network, first, count) in [("127.16.0.0/30", "127.16.0.1", 3), ("2001:db8::/125", "2001:db8::1", 7)] {
            let sources = Sources::new(network.parse().unwrap());
            let all: Vec<IpAddr> = std::iter::from_fn(|| sources.fresh().ok()).collect();
            assert_eq!((all[0], all.len()), (first.parse().unwrap(), count));
            assert!(all.windows(2).all(|pair| pair[0] < pair[1]), "{all:?}");
        }
    }

    #[test]
    fn the_largest_and_the_smallest_network() {
        assert!(Sources::new("::/0".parse().unwrap()).fresh().is_ok());
        assert!(Sources::new("0.0.0.0/0".parse().unwrap()).fresh().is_ok());
        assert!(Sources::new("10.0.0.1/32".parse().unwrap()).fresh().is_err());
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for text in ["", "127.16.0.0", "127.16.0.0/33", "127.16.0.1/12", "::/129", "x/8", "127.16.0.0/-1"] {
            assert!(text.parse::<Network>().is_err(), "{text}");
        }
        assert_eq!("127.16.0.0/12".parse::<Network>().unwrap().to_string(), "127.16.0.0/12");
    }
}
