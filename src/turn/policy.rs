//! Which peers may be reached: one function, called at every door.
//!
//! Deny by default what is not the public internet. Hard denials can not be configured away;
//! soft ones (private networks) are lifted by `allow_peers`. Ranges are compared as whole
//! numbers of one family; every form of IPv4 inside IPv6 is refused outright, never decoded.
//!
//! One function decides and tells what for, so that what is explained is what happens.
//!
//! [`ORDER`] is the order of the rules.

mod cidr;

pub use cidr::{Cidr, CidrError};

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::LazyLock;

/// Whether `allow_peers` can lift a default denial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Firmness {
    /// No.
    Hard,
    /// Yes, by naming a block that holds the address.
    Soft,
}

/// One default denial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

/// The rules in the order in which they are asked; the first that speaks decides.
pub const ORDER: [&str; 6] = [
    "hard default denials",
    "deny_peers",
    "this server's own addresses",
    "allow_peers",
    "soft default denials",
    "allow",
];

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
    Default(&'static DefaultRule),
    /// `deny_peers`.
    Configured(Cidr),
    /// An address of this host that relays nothing.
    Local,
    /// This server, on a port outside the relay range.
    SelfPort,
    /// A tunnel interface address that holds this denied IPv4 address (RFC 5214).
    Tunnel(Ipv4Addr),
    /// A port of a known reflector.
    Port(u16),
}

impl fmt::Display for Denial {
    /// Says which rule it was, on one line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Denial::Default(rule) => write!(f, "{} {}, a default", rule.reason, rule.block),
            Denial::Configured(block) => write!(f, "{block} of relay.deny_peers"),
            Denial::Local => f.write_str("an address of this host that relays nothing"),
            Denial::SelfPort => f.write_str("this server itself, on a port outside relay.ports"),
            Denial::Tunnel(inner) => write!(f, "a tunnel (ISATAP) to {inner}, which is denied"),
            Denial::Port(port) => write!(f, "port {port}, of services that reflect traffic"),
        }
    }
}

/// What lets a peer be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ground {
    /// No rule denies it.
    Public,
    /// An entry of `allow_peers` lifts the default denial.
    Allowed(Cidr, &'static DefaultRule),
    /// This server relays from it.
    Relay,
    /// `allow_loopback`.
    Loopback,
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
        self.weigh(ip).map(|(reach, _)| reach)
    }

    /// Judges a peer's IP address, and says what for.
    pub fn weigh(&self, ip: IpAddr) -> Result<(Reach, Ground), Denial> {
        let loopback = self.allow_loopback && ip.is_loopback();
        // What this server relays from is itself, whatever the address: it is never sent to, only
        // handed over inside.
        let own = self.own.relay.contains(&ip) && !ip.is_loopback();
        let rule = RULES.iter().find(|rule| rule.block.contains(ip));
        match rule {
            Some(rule) if rule.firmness == Firmness::Hard && !loopback && !own => return Err(Denial::Default(rule)),
            _ => {}
        }
        if let Some(block) = self.deny.iter().find(|block| block.contains(ip)) {
            return Err(Denial::Configured(*block));
        }
        if let Some(inner) = isatap(ip) {
            self.weigh(IpAddr::V4(inner)).map_err(|_| Denial::Tunnel(inner))?;
        }
        if self.own.relay.contains(&ip) {
            return Ok((Reach::Own, Ground::Relay));
        }
        if self.own.local.contains(&ip) {
            return if self.allow_loopback { Ok((Reach::Network, Ground::Loopback)) } else { Err(Denial::Local) };
        }
        let Some(rule) = rule else { return Ok((Reach::Network, Ground::Public)) };
        if loopback {
            return Ok((Reach::Network, Ground::Loopback));
        }
        match self.allow.iter().find(|block| block.contains(ip)) {
            Some(block) => Ok((Reach::Network, Ground::Allowed(*block, rule))),
            None => Err(Denial::Default(rule)),
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
            Reach::Network if REFLECTOR_PORTS.contains(&port) => Err(Denial::Port(port)),
            Reach::Network => Ok(Reach::Network),
        }
    }

    /// Whether an address is one this server relays from.
    #[inline]
    pub fn is_own(&self, ip: IpAddr) -> bool {
        self.own.relay.contains(&ip)
    }
}

/// Whether no client may come from here.
pub fn is_refused_source(ip: IpAddr) -> bool {
    refused_source(ip).is_some()
}

/// What no client may come from, by its name: Teredo and 6to4 (RFC 8656 §21.4).
pub fn refused_source(ip: IpAddr) -> Option<&'static str> {
    let IpAddr::V6(ip) = ip else { return None };
    match ip.segments() {
        [0x2002, ..] => Some("6to4 2002::/16"),
        [0x2001, 0, ..] => Some("Teredo 2001::/32"),
        _ => None,
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
            let hard = |denial| matches!(denial, Denial::Default(rule) if rule.firmness == Firmness::Hard);
            assert!(opened.judge(ip(text)).is_err_and(hard), "{text}");
        }
        for text in SOFT {
            let soft = |denial| matches!(denial, Denial::Default(rule) if rule.firmness == Firmness::Soft);
            assert!(closed.judge(ip(text)).is_err_and(soft), "{text}");
            assert_eq!(opened.judge(ip(text)), Ok(Reach::Network), "{text}");
        }
        for text in OPEN {
            assert_eq!(closed.judge(ip(text)), Ok(Reach::Network), "{text}");
        }
        assert_eq!(default_rules().len(), DEFAULTS.len());
        assert!(default_rules().is_sorted_by_key(|rule| rule.firmness == Firmness::Soft), "hard ones come first");
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
        let own = ["10.9.0.1", "8.8.4.4", "8.8.4.5", "10.9.0.2"].map(|text| policy.is_own(ip(text)));
        assert_eq!(own, [true, true, false, false]);
    }

    #[test]
    fn reflectors_and_tunnels_are_refused() {
        let policy = PeerPolicy::default();
        assert_eq!(policy.judge_peer("8.8.8.8:53".parse().unwrap()), Err(Denial::Port(53)));
        assert_eq!(policy.judge_peer("8.8.8.8:5000".parse().unwrap()), Ok(Reach::Network));
        assert_eq!(policy.judge(ip("2400::5efe:10.0.0.1")), Err(Denial::Tunnel(Ipv4Addr::new(10, 0, 0, 1))));
        assert_eq!(policy.judge(ip("2400::200:5efe:127.0.0.1")), Err(Denial::Tunnel(Ipv4Addr::LOCALHOST)));
        assert_eq!(policy.judge(ip("2400::5efe:8.8.8.8")), Ok(Reach::Network));
    }

    #[test]
    fn a_denial_says_which_rule_it_was_and_a_ground_what_lets_a_peer_be_reached() {
        let mut policy = with_own();
        policy.deny = vec!["10.1.0.0/16".parse().unwrap()];
        policy.allow = vec!["10.2.0.0/16".parse().unwrap()];
        let said = |peer: &str| policy.judge_peer(peer.parse().unwrap()).unwrap_err().to_string();
        for (peer, rule) in [
            ("192.168.0.1:5000", "private network 192.168.0.0/16, a default"),
            ("[fe80::1]:5000", "link-local fe80::/10, a default"),
            ("10.1.2.3:5000", "10.1.0.0/16 of relay.deny_peers"),
            ("8.8.4.5:5000", "an address of this host that relays nothing"),
            ("10.9.0.1:22", "this server itself, on a port outside relay.ports"),
            ("[2400::5efe:10.1.0.1]:5000", "a tunnel (ISATAP) to 10.1.0.1, which is denied"),
            ("8.8.8.8:53", "port 53, of services that reflect traffic"),
        ] {
            assert_eq!(said(peer), rule);
        }
        let ground = |policy: &PeerPolicy, text: &str| policy.weigh(ip(text)).unwrap().1;
        assert_eq!(ground(&policy, "8.8.8.8"), Ground::Public);
        assert_eq!(ground(&policy, "10.9.0.1"), Ground::Relay);
        let Ground::Allowed(block, rule) = ground(&policy, "10.2.0.1") else { panic!("10.2.0.1 is allowed") };
        assert_eq!((block.to_string().as_str(), rule.block.to_string().as_str()), ("10.2.0.0/16", "10.0.0.0/8"));
        policy.allow_loopback = true;
        assert_eq!(ground(&policy, "127.0.0.1"), Ground::Loopback);
        assert_eq!(ground(&policy, "8.8.4.5"), Ground::Loopback);
    }

    #[test]
    fn no_client_comes_from_a_tunnel() {
        assert_eq!(refused_source(ip("2001:0:4136:e378::1")), Some("Teredo 2001::/32"));
        assert_eq!(refused_source(ip("2002:808:808::1")), Some("6to4 2002::/16"));
        for text in ["2001:200::1", "2001:1::1", "2003::1", "8.8.8.8", "::"] {
            assert!(!is_refused_source(ip(text)), "{text}");
        }
    }
}
