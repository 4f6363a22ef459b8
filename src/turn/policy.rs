//! Which peers may be reached: one function, called at every door.
//!
//! Deny by default what is not the public internet. Hard denials can not be configured away;
//! soft ones (private networks) are lifted by `allow_peers`. Ranges are compared as whole
//! numbers of one family; every form of IPv4 inside IPv6 is refused outright, never decoded.
//!
//! Order: hard denial, `deny_peers`, this server's own addresses, `allow_peers`, soft denial,
//! allow.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::sync::LazyLock;

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

/// Whether `allow_peers` can lift a default denial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Firmness {
    /// No.
    Hard,
    /// Yes, by naming a block that holds the address.
    Soft,
}

/// One default denial.
#[derive(Clone, Copy, Debug)]
pub struct DefaultRule {
    /// The block.
    pub block: Cidr,
    /// Whether it can be lifted.
    pub firmness: Firmness,
    /// What lives there.
    pub reason: &'static str,
}

#[rustfmt::skip]
const DEFAULTS: &[(&str, Firmness, &str)] = {
    use Firmness::{Hard, Soft};
    &[
        ("0.0.0.0/8", Hard, "this host; reaches loopback"),
        ("127.0.0.0/8", Hard, "loopback"),
        ("169.254.0.0/16", Hard, "link-local and cloud metadata"),
        ("168.63.129.16/32", Hard, "cloud platform endpoint"),
        ("100.100.100.200/32", Hard, "cloud metadata"),
        ("192.0.0.0/24", Hard, "IETF protocol assignments"),
        ("192.0.2.0/24", Hard, "documentation"),
        ("198.51.100.0/24", Hard, "documentation"),
        ("203.0.113.0/24", Hard, "documentation"),
        ("192.88.99.0/24", Hard, "6to4 relay anycast"),
        ("224.0.0.0/4", Hard, "multicast"),
        ("240.0.0.0/4", Hard, "reserved and broadcast"),
        ("::/96", Hard, "unspecified, loopback, IPv4-compatible"),
        ("::ffff:0:0/96", Hard, "IPv4-mapped"),
        ("::ffff:0:0:0/96", Hard, "IPv4-translated"),
        ("64:ff9b::/96", Hard, "NAT64"),
        ("64:ff9b:1::/48", Hard, "NAT64, local use"),
        ("100::/64", Hard, "discard"),
        ("100:0:0:1::/64", Hard, "dummy prefix"),
        ("2001::/23", Hard, "IETF protocol assignments, Teredo"),
        ("2002::/16", Hard, "6to4"),
        ("2001:db8::/32", Hard, "documentation"),
        ("3fff::/20", Hard, "documentation"),
        ("5f00::/16", Hard, "segment routing"),
        ("fd00:ec2::/32", Hard, "cloud metadata"),
        ("fe80::/10", Hard, "link-local"),
        ("fec0::/10", Hard, "site-local"),
        ("ff00::/8", Hard, "multicast"),
        ("10.0.0.0/8", Soft, "private network"),
        ("172.16.0.0/12", Soft, "private network"),
        ("192.168.0.0/16", Soft, "private network"),
        ("100.64.0.0/10", Soft, "carrier-grade NAT"),
        ("198.18.0.0/15", Soft, "benchmarking"),
        ("192.31.196.0/24", Soft, "AS112"),
        ("192.52.193.0/24", Soft, "AMT"),
        ("192.175.48.0/24", Soft, "AS112"),
        ("2620:4f:8000::/48", Soft, "AS112"),
        ("fc00::/7", Soft, "unique local addresses"),
    ]
};

static RULES: LazyLock<Vec<DefaultRule>> = LazyLock::new(|| {
    DEFAULTS
        .iter()
        .map(|&(block, firmness, reason)| {
            let block = block.parse().expect("the table of default denials is well formed");
            DefaultRule { block, firmness, reason }
        })
        .collect()
});

/// The default denials, hard ones first.
pub fn default_rules() -> &'static [DefaultRule] {
    &RULES
}

/// Ports of services that answer a small packet with a large one; no media ever goes there.
pub const REFLECTOR_PORTS: &[u16] = &[19, 53, 123, 161, 389, 1900, 5353, 11211];

/// This server's own addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Own {
    /// Relay and external addresses: other clients of this server live there.
    pub relay: Vec<IpAddr>,
    /// All other addresses of this host.
    pub local: Vec<IpAddr>,
    /// The relay range.
    pub ports: RangeInclusive<u16>,
}

impl Default for Own {
    fn default() -> Self {
        Own { relay: Vec::new(), local: Vec::new(), ports: 49152..=65535 }
    }
}

/// Where a permitted peer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// On the network.
    Network,
    /// On an address this server relays from: delivered in process.
    Own,
}

/// The rule that refused a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denial {
    /// A default denial.
    Default(&'static str, Firmness),
    /// `deny_peers`.
    Configured(Cidr),
    /// An address of this host that relays nothing.
    Local,
    /// This server, on a port outside the relay range.
    SelfPort,
    /// A tunnel interface address that holds a denied IPv4 address (RFC 5214).
    Tunnel,
    /// A port of a known reflector.
    Port,
}

/// What the operator allows and denies, and where this server itself lives.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerPolicy {
    /// Lifts soft denials.
    pub allow: Vec<Cidr>,
    /// Wins over `allow`.
    pub deny: Vec<Cidr>,
    /// Development only: loopback and this host's own addresses are ordinary peers.
    pub allow_loopback: bool,
    /// This server.
    pub own: Own,
}

impl PeerPolicy {
    /// Judges a peer's IP address: what a permission is about.
    pub fn judge(&self, ip: IpAddr) -> Result<Reach, Denial> {
        let loopback = self.allow_loopback && ip.is_loopback();
        // What this server relays from is itself, whatever the address: it is never sent to, only
        // handed over inside.
        let own = self.own.relay.contains(&ip) && !ip.is_loopback();
        let rule = RULES.iter().find(|rule| rule.block.contains(ip));
        match rule {
            Some(rule) if rule.firmness == Firmness::Hard && !loopback && !own => {
                return Err(Denial::Default(rule.reason, Firmness::Hard));
            }
            _ => {}
        }
        if let Some(block) = self.deny.iter().find(|block| block.contains(ip)) {
            return Err(Denial::Configured(*block));
        }
        if let Some(inner) = isatap(ip) {
            self.judge(IpAddr::V4(inner)).map_err(|_| Denial::Tunnel)?;
        }
        if self.own.relay.contains(&ip) {
            return Ok(Reach::Own);
        }
        if self.own.local.contains(&ip) {
            return if self.allow_loopback { Ok(Reach::Network) } else { Err(Denial::Local) };
        }
        match rule {
            Some(rule) if !loopback && !self.allow.iter().any(|block| block.contains(ip)) => {
                Err(Denial::Default(rule.reason, rule.firmness))
            }
            _ => Ok(Reach::Network),
        }
    }

    /// Judges a peer's transport address: what a channel is bound to and data is sent to.
    pub fn judge_peer(&self, peer: SocketAddr) -> Result<Reach, Denial> {
        let reach = self.judge(peer.ip())?;
        self.judge_port(reach, peer.port())
    }

    /// Judges the port of a peer whose address was judged before.
    pub fn judge_port(&self, reach: Reach, port: u16) -> Result<Reach, Denial> {
        match reach {
            Reach::Own if self.own.ports.contains(&port) => Ok(Reach::Own),
            Reach::Own if self.allow_loopback => Ok(Reach::Network),
            Reach::Own => Err(Denial::SelfPort),
            Reach::Network if REFLECTOR_PORTS.contains(&port) => Err(Denial::Port),
            Reach::Network => Ok(Reach::Network),
        }
    }

    /// Whether an address is one this server relays from.
    #[inline]
    pub fn is_own(&self, ip: IpAddr) -> bool {
        self.own.relay.contains(&ip)
    }
}

/// Whether no client may come from here: Teredo and 6to4 (RFC 8656 §21.4).
pub fn is_refused_source(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(_) => false,
        IpAddr::V6(ip) => {
            let [a, b, ..] = ip.segments();
            a == 0x2002 || (a == 0x2001 && b == 0)
        }
    }
}

/// The IPv4 address inside an ISATAP interface identifier (RFC 5214 §6.1).
fn isatap(ip: IpAddr) -> Option<Ipv4Addr> {
    let IpAddr::V6(ip) = ip else { return None };
    let low = ip.to_bits() as u64;
    matches!((low >> 32) as u32, 0x0000_5EFE | 0x0200_5EFE).then(|| Ipv4Addr::from_bits(low as u32))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn with_own() -> PeerPolicy {
        PeerPolicy {
            own: Own { relay: vec![ip("10.9.0.1"), ip("8.8.4.4")], local: vec![ip("8.8.4.5")], ports: 50000..=50010 },
            ..PeerPolicy::default()
        }
    }

    const HARD: &[&str] = &[
        "0.0.0.0",
        "0.1.2.3",
        "127.0.0.1",
        "127.255.255.254",
        "169.254.169.254",
        "168.63.129.16",
        "100.100.100.200",
        "192.0.0.192",
        "192.0.2.1",
        "198.51.100.9",
        "203.0.113.255",
        "192.88.99.1",
        "224.0.0.1",
        "239.255.255.250",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "::ffff:8.8.8.8",
        "::127.0.0.1",
        "::ffff:0:127.0.0.1",
        "64:ff9b::7f00:1",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::1",
        "2002:7f00:1::1",
        "2002:808:808::1",
        "2001:0:4136:e378:8000:63bf:3fff:fdd2",
        "fe80::1",
        "fec0::1",
        "ff02::1",
        "fd00:ec2::254",
        "2001:db8::1",
        "3fff::1",
        "5f00::1",
        "100::1",
        "100:0:0:1::5",
        "2001:2::1",
        "2001:1ff:ffff::1",
    ];
    const SOFT: &[&str] = &[
        "10.0.0.1",
        "10.255.255.255",
        "172.16.0.1",
        "172.31.255.255",
        "192.168.1.1",
        "100.64.0.1",
        "198.18.0.1",
        "198.19.255.255",
        "192.31.196.1",
        "192.52.193.1",
        "192.175.48.1",
        "fd12::1",
        "fc00::1",
        "2620:4f:8000::1",
    ];
    const OPEN: &[&str] = &[
        "1.0.0.1",
        "11.0.0.1",
        "9.255.255.255",
        "172.32.0.1",
        "172.15.255.255",
        "100.128.0.1",
        "100.63.255.255",
        "192.167.255.255",
        "192.0.1.1",
        "198.20.0.1",
        "128.0.0.1",
        "2001:200::1",
        "2003::1",
        "2400::1",
        "fbff::1",
        "2620:4f:8001::1",
        "168.63.129.17",
    ];

    #[test]
    fn its_own_relay_address_is_itself_whatever_the_range() {
        let own = Own { relay: vec![ip("192.0.2.7"), ip("127.0.0.1")], local: Vec::new(), ports: 50_000..=50_010 };
        let policy = PeerPolicy { own, ..PeerPolicy::default() };
        let judge = |peer: &str| policy.judge_peer(peer.parse().unwrap());
        assert_eq!(judge("192.0.2.7:50000"), Ok(Reach::Own));
        assert_eq!(judge("192.0.2.7:3478"), Err(Denial::SelfPort));
        assert!(judge("192.0.2.8:50000").is_err(), "its neighbours are not");
        assert!(judge("127.0.0.1:50000").is_err(), "loopback needs its switch");
    }

    #[test]
    fn the_default_denials_are_the_documented_ones() {
        let everything = ["0.0.0.0/0", "::/0"].map(|c| c.parse().unwrap()).to_vec();
        let closed = PeerPolicy::default();
        let opened = PeerPolicy { allow: everything, ..PeerPolicy::default() };
        for text in HARD {
            assert!(closed.judge(ip(text)).is_err(), "{text}");
            assert!(matches!(opened.judge(ip(text)), Err(Denial::Default(_, Firmness::Hard))), "{text}");
        }
        for text in SOFT {
            assert!(matches!(closed.judge(ip(text)), Err(Denial::Default(_, Firmness::Soft))), "{text}");
            assert_eq!(opened.judge(ip(text)), Ok(Reach::Network), "{text}");
        }
        for text in OPEN {
            assert_eq!(closed.judge(ip(text)), Ok(Reach::Network), "{text}");
        }
    }

    #[test]
    fn deny_wins_over_allow_and_loopback_is_its_own_switch() {
        let mut policy = PeerPolicy {
            allow: vec!["10.0.0.0/8".parse().unwrap()],
            deny: vec!["10.1.0.0/16".parse().unwrap()],
            ..PeerPolicy::default()
        };
        assert_eq!(policy.judge(ip("10.2.0.1")), Ok(Reach::Network));
        assert!(matches!(policy.judge(ip("10.1.0.1")), Err(Denial::Configured(_))));
        policy.allow_loopback = true;
        assert_eq!(policy.judge(ip("127.0.0.1")), Ok(Reach::Network));
        assert_eq!(policy.judge(ip("::1")), Ok(Reach::Network));
        assert!(policy.judge(ip("::")).is_err());
        assert!(policy.judge(ip("::ffff:127.0.0.1")).is_err());
        assert!(policy.judge(ip("192.168.0.1")).is_err());
    }

    #[test]
    fn this_servers_relay_addresses_are_reached_in_process_and_only_on_relay_ports() {
        let policy = with_own();
        assert_eq!(policy.judge(ip("10.9.0.1")), Ok(Reach::Own));
        assert_eq!(policy.judge_peer("10.9.0.1:50010".parse().unwrap()), Ok(Reach::Own));
        for port in [22, 3478, 49999, 50011] {
            assert_eq!(policy.judge_peer(SocketAddr::new(ip("8.8.4.4"), port)), Err(Denial::SelfPort));
        }
        assert_eq!(policy.judge(ip("8.8.4.5")), Err(Denial::Local));
    }

    #[test]
    fn reflectors_and_tunnels_are_refused() {
        let policy = PeerPolicy::default();
        assert_eq!(policy.judge_peer("8.8.8.8:53".parse().unwrap()), Err(Denial::Port));
        assert_eq!(policy.judge_peer("8.8.8.8:5000".parse().unwrap()), Ok(Reach::Network));
        assert_eq!(policy.judge(ip("2400::5efe:10.0.0.1")), Err(Denial::Tunnel));
        assert_eq!(policy.judge(ip("2400::200:5efe:127.0.0.1")), Err(Denial::Tunnel));
        assert_eq!(policy.judge(ip("2400::5efe:8.8.8.8")), Ok(Reach::Network));
    }

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
            assert!(!block.contains(ip("1.2.3.4")));
        }
    }
}
