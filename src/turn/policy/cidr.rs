//! A block of addresses, read strictly and compared as whole numbers of one family.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

/// A block of addresses of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    network: IpAddr,
    prefix: u8,
}

impl Cidr {
    /// Its first address.
    pub const fn address(&self) -> IpAddr {
        self.network
    }

    /// Bits that all its addresses share.
    pub const fn prefix_len(&self) -> u8 {
        self.prefix
    }
}

/// Why a text is not a block of addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CidrError {
    /// Not an address, or not a number after the slash.
    Syntax,
    /// The prefix is longer than an address of the family.
    Prefix,
    /// Bits are set beyond the prefix; the block that was probably meant.
    HostBits(Cidr),
}

impl fmt::Display for CidrError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CidrError::Syntax => f.write_str("not an address or a block like 10.0.0.0/8"),
            CidrError::Prefix => f.write_str("the prefix is longer than the address"),
            CidrError::HostBits(meant) => write!(f, "bits are set beyond the prefix; did you mean {meant}?"),
        }
    }
}

impl std::error::Error for CidrError {}

fn bits(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => u128::from(ip.to_bits()),
        IpAddr::V6(ip) => ip.to_bits(),
    }
}

const fn width(ip: IpAddr) -> u8 {
    match ip {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

impl Cidr {
    /// The block of `ip` with a prefix of `prefix` bits, host bits cleared.
    fn around(ip: IpAddr, prefix: u8) -> Self {
        let host_bits = u32::from(width(ip) - prefix);
        let network = bits(ip).checked_shr(host_bits).unwrap_or(0).checked_shl(host_bits).unwrap_or(0);
        let network = match ip {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::from_bits(network as u32)),
            IpAddr::V6(_) => IpAddr::V6(network.into()),
        };
        Cidr { network, prefix }
    }

    /// Whether the address lies in the block; never for the other family.
    pub fn contains(&self, ip: IpAddr) -> bool {
        self.network.is_ipv4() == ip.is_ipv4() && Cidr::around(ip, self.prefix).network == self.network
    }
}

impl FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, CidrError> {
        let (ip, prefix) = match text.split_once('/') {
            Some((ip, prefix)) => {
                let digits = !prefix.is_empty() && prefix.bytes().all(|b| b.is_ascii_digit());
                let prefix =
                    if digits { prefix.parse().map_err(|_| CidrError::Prefix) } else { Err(CidrError::Syntax) };
                (ip, Some(prefix?))
            }
            None => (text, None),
        };
        let ip: IpAddr = ip.parse().map_err(|_| CidrError::Syntax)?;
        let prefix: u8 = prefix.unwrap_or(width(ip));
        if prefix > width(ip) {
            return Err(CidrError::Prefix);
        }
        let block = Cidr::around(ip, prefix);
        if block.network == ip { Ok(block) } else { Err(CidrError::HostBits(block)) }
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_read_strictly() {
        let read = |text: &str| text.parse::<Cidr>();
        assert_eq!(read("10.0.0.0/8").unwrap().to_string(), "10.0.0.0/8");
        assert_eq!(read("8.8.8.8").unwrap().to_string(), "8.8.8.8/32");
        assert_eq!(read("::/0").unwrap().to_string(), "::/0");
        for text in ["", "10.0.0.0/", "10.0.0.0/+8", "10.0.0/8", "x/8", "10.0.0.0/8 "] {
            assert_eq!(read(text), Err(CidrError::Syntax), "{text:?}");
        }
        for text in ["10.0.0.0/33", "::/129", "10.0.0.0/999"] {
            assert_eq!(read(text), Err(CidrError::Prefix), "{text}");
        }
        assert_eq!(
            read("10.0.0.1/8").unwrap_err().to_string(),
            "bits are set beyond the prefix; did you mean 10.0.0.0/8?"
        );
    }

    #[test]
    fn a_block_is_its_first_address_and_its_prefix() {
        for (text, address, prefix_len) in [("10.0.0.0/8", "10.0.0.0", 8), ("2400::/12", "2400::", 12)] {
            let block: Cidr = text.parse().unwrap();
            assert_eq!((block.address(), block.prefix_len()), (address.parse().unwrap(), prefix_len));
        }
        assert!(CidrError::Syntax.to_string().contains("10.0.0.0/8"));
        assert!(CidrError::Prefix.to_string().contains("longer than the address"));
    }

    #[test]
    fn blocks_hold_what_their_numbers_say() {
        // Against the plain definition, on blocks and neighbours of every prefix length.
        let mut seed = 0x9E37_79B9_7F4A_7C15_u64;
        let mut next = || {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed
        };
        for prefix in 0..=128u8 {
            let raw = u128::from(next()) << 64 | u128::from(next());
            let size_minus_1 = if prefix == 0 { u128::MAX } else { (1u128 << (128 - prefix)).wrapping_sub(1) };
            let (first, last) = (raw & !size_minus_1, raw | size_minus_1);
            let block: Cidr = format!("{}/{prefix}", std::net::Ipv6Addr::from_bits(first)).parse().unwrap();
            let holds = |n: u128| block.contains(IpAddr::V6(n.into()));
            assert!(holds(first) && holds(last) && holds(raw));
            assert!(first == 0 || !holds(first - 1));
            assert!(last == u128::MAX || !holds(last + 1));
            assert!(!block.contains("1.2.3.4".parse().unwrap()));
        }
    }
}
