//! Which peers may be reached, under any lists, judged a second time with whole numbers: every form of an address, every
//! edge of a block. Body of the fuzz target `peer_policy`.

use super::chance::{Bytes, Choice};
use super::policy::{NEVER, PRIVATE, REFLECTORS};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::LazyLock;
use turnpike::http;
use turnpike::turn::policy::{self, Cidr, CidrError, Denial, Firmness, Ground, Own, PeerPolicy, Reach};

/// Most blocks of one list.
const BLOCKS_MAX: u32 = 6;
/// Most addresses judged in one run.
const ADDRESSES_MAX: usize = 48;
/// Relay and local addresses to choose from: public, private and hard ones.
#[rustfmt::skip]
const OWN: &[&str] = &[
    "8.8.4.4", "10.9.0.1", "192.0.2.7", "127.0.0.1", "2400:9::1", "fd12::1", "::1", "2001:db8::7", "2400::5efe:a00:1",
];

/// A block as its first and its last address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    v4: bool,
    first: u128,
    last: u128,
}

/// An address as a number.
fn number(ip: IpAddr) -> (bool, u128) {
    match ip {
        IpAddr::V4(ip) => (true, ip.octets().iter().fold(0, |n, byte| n * 256 + u128::from(*byte))),
        IpAddr::V6(ip) => (false, ip.octets().iter().fold(0, |n, byte| n * 256 + u128::from(*byte))),
    }
}

fn ip(v4: bool, number: u128) -> IpAddr {
    if v4 { Ipv4Addr::from_bits(number as u32).into() } else { Ipv6Addr::from_bits(number).into() }
}

impl Span {
    /// The block of this length around a number.
    fn around(v4: bool, number: u128, prefix: u32) -> Self {
        let width = if v4 { 32 } else { 128 };
        // The whole of IPv6 has a size that no number holds.
        let Some(size) = 2_u128.checked_pow(width - prefix) else { return Span { v4, first: 0, last: u128::MAX } };
        let first = number / size * size;
        Span { v4, first, last: first + (size - 1) }
    }

    fn read(block: &str) -> Self {
        let (network, prefix) = block.split_once('/').expect("a block has a length");
        let (v4, first) = number(network.parse().expect("a block has an address"));
        Span::around(v4, first, prefix.parse().expect("a length is a number"))
    }

    fn holds(&self, addr: IpAddr) -> bool {
        let (v4, number) = number(addr);
        v4 == self.v4 && self.first <= number && number <= self.last
    }
}

static NEVER_SPANS: LazyLock<Vec<Span>> = LazyLock::new(|| NEVER.iter().map(|block| Span::read(block)).collect());
static PRIVATE_SPANS: LazyLock<Vec<Span>> = LazyLock::new(|| PRIVATE.iter().map(|block| Span::read(block)).collect());

/// What decides about a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    Never,
    Denied(Span),
    Tunnel(Ipv4Addr),
    Relay,
    Local,
    /// Loopback, or an address of this host, where `allow_loopback` says so.
    Trial,
    Private,
    Allowed(Span),
    Public,
}

/// The policy as it is meant.
struct Draft {
    allow: Vec<(Span, Cidr)>,
    deny: Vec<(Span, Cidr)>,
    allow_loopback: bool,
    own: Own,
}

/// A description: switches, own addresses, two lists, then addresses until it ends.
pub fn peer_policy(input: &[u8]) {
    let mut choice = Bytes::new(input);
    let draft = Draft::read(&mut choice);
    let policy = PeerPolicy {
        allow: draft.allow.iter().map(|block| block.1).collect(),
        deny: draft.deny.iter().map(|block| block.1).collect(),
        allow_loopback: draft.allow_loopback,
        own: draft.own.clone(),
    };
    let mut judged = 0;
    while !choice.is_over() && judged < ADDRESSES_MAX {
        for addr in draft.addresses(&mut choice) {
            draft.judge(&policy, addr, choice.below(0x1_0000) as u16);
            judged += 1;
        }
    }
}

impl Draft {
    fn read(choice: &mut Bytes<'_>) -> Self {
        let allow_loopback = choice.one_in(4);
        let some = |choice: &mut Bytes<'_>| {
            (0..choice.below(4)).map(|_| choice.pick(OWN).parse().expect("an address")).collect::<Vec<IpAddr>>()
        };
        let (relay, local) = (some(choice), some(choice));
        let first = choice.below(0x1_0000) as u16;
        let ports = first..=first.saturating_add(choice.below(0x1_0000) as u16);
        let list = |choice: &mut Bytes<'_>| (0..choice.below(BLOCKS_MAX)).map(|_| block(choice)).collect();
        let (allow, deny) = (list(choice), list(choice));
        Draft { allow, deny, allow_loopback, own: Own { relay, local, ports } }
    }

    /// An address, or every form of one.
    fn addresses(&self, choice: &mut Bytes<'_>) -> Vec<IpAddr> {
        let at = choice.below(0x100) as usize;
        match choice.below(6) {
            0 => forms(Ipv4Addr::from_bits(choice.below(u32::MAX))),
            1 => forms(choice.pick(&INSIDE)),
            2 => edges(NEVER_SPANS[at % NEVER_SPANS.len()]),
            3 => edges(PRIVATE_SPANS[at % PRIVATE_SPANS.len()]),
            4 => {
                let lists: Vec<Span> = self.allow.iter().chain(&self.deny).map(|block| block.0).collect();
                lists.get(at % lists.len().max(1)).map_or(Vec::new(), |span| edges(*span))
            }
            _ => vec![OWN[at % OWN.len()].parse().expect("an address"), any(choice)],
        }
    }

    /// The same rules, asked one after the other.
    fn decide(&self, addr: IpAddr) -> Rule {
        let is_loopback = is_loopback(addr);
        let loopback = self.allow_loopback && is_loopback;
        let relay = self.own.relay.iter().any(|own| number(*own) == number(addr));
        if is_never(addr) && !loopback && (!relay || is_loopback) {
            return Rule::Never;
        }
        if let Some((span, _)) = self.deny.iter().find(|block| block.0.holds(addr)) {
            return Rule::Denied(*span);
        }
        let is_open = |rule| matches!(rule, Rule::Relay | Rule::Trial | Rule::Allowed(_) | Rule::Public);
        if let Some(inner) = tunnelled(addr)
            && !is_open(self.decide(inner.into()))
        {
            return Rule::Tunnel(inner);
        }
        if relay {
            return Rule::Relay;
        }
        match self.own.local.iter().any(|own| number(*own) == number(addr)) {
            true if self.allow_loopback => return Rule::Trial,
            true => return Rule::Local,
            false if loopback => return Rule::Trial,
            false => {}
        }
        let is_private = PRIVATE_SPANS.iter().any(|span| span.holds(addr));
        match self.allow.iter().find(|block| block.0.holds(addr)) {
            _ if !is_private => Rule::Public,
            Some((span, _)) => Rule::Allowed(*span),
            None => Rule::Private,
        }
    }

    fn judge(&self, policy: &PeerPolicy, addr: IpAddr, port: u16) {
        let expected = self.decide(addr);
        assert_eq!(Self::rule(policy.weigh(addr)), expected, "{addr}");
        let reach = policy.judge(addr);
        let is_own = expected == Rule::Relay;
        match reach {
            Ok(reach) => assert_eq!(reach == Reach::Own, is_own, "{addr}"),
            Err(denial) => assert!(!denial.to_string().contains('\n'), "a denial is one line"),
        }
        let in_range = *self.own.ports.start() <= port && port <= *self.own.ports.end();
        let port_is_good = match (is_own, in_range) {
            (true, in_range) => in_range || self.allow_loopback,
            (false, _) => !REFLECTORS.contains(&port),
        };
        let peer = policy.judge_peer(SocketAddr::new(addr, port));
        assert_eq!(peer.is_ok(), reach.is_ok() && port_is_good, "{addr} port {port}");
        // No list lifts these; the switch for trials opens loopback, and the server's own address is no peer.
        if is_never(addr) && !is_loopback(addr) && !policy.is_own(addr) || is_loopback(addr) && !self.allow_loopback {
            assert!(peer.is_err() && reach.is_err(), "{addr} is never reached");
        }
        let refused = ["2001::/32", "2002::/16"].iter().any(|block| Span::read(block).holds(addr));
        assert_eq!(policy::is_refused_source(addr), refused, "{addr}");
        for (span, block) in self.allow.iter().chain(&self.deny) {
            assert_eq!(block.contains(addr), span.holds(addr), "{addr} in {block}");
            let network = http::Network { ip: block.address(), prefix_len: block.prefix_len() };
            // The plane takes a mapped address for what it stands for.
            if addr.to_canonical() == addr && block.address().to_canonical() == block.address() {
                assert_eq!(network.contains(addr), span.holds(addr), "{addr} in {block}");
            }
        }
    }

    /// What the library says, in the words of this file.
    fn rule(said: Result<(Reach, Ground), Denial>) -> Rule {
        let span = |block: Cidr| {
            let (v4, number) = number(block.address());
            Span::around(v4, number, block.prefix_len().into())
        };
        match said {
            Ok((_, Ground::Public)) => Rule::Public,
            Ok((_, Ground::Allowed(block, _))) => Rule::Allowed(span(block)),
            Ok((_, Ground::Relay)) => Rule::Relay,
            Ok((_, Ground::Loopback)) => Rule::Trial,
            Err(Denial::Default(rule)) if rule.firmness == Firmness::Hard => Rule::Never,
            Err(Denial::Default(_)) => Rule::Private,
            Err(Denial::Configured(block)) => Rule::Denied(span(block)),
            Err(Denial::Local) => Rule::Local,
            Err(Denial::Tunnel(inner)) => Rule::Tunnel(inner),
            Err(Denial::SelfPort | Denial::Port(_)) => panic!("an address alone has no port"),
        }
    }
}

fn is_never(addr: IpAddr) -> bool {
    NEVER_SPANS.iter().any(|span| span.holds(addr))
}

fn is_loopback(addr: IpAddr) -> bool {
    ["127.0.0.0/8", "::1/128"].iter().any(|block| Span::read(block).holds(addr))
}

/// IPv4 addresses that must not be reached inside another form.
const INSIDE: [Ipv4Addr; 7] = [
    Ipv4Addr::LOCALHOST,
    Ipv4Addr::UNSPECIFIED,
    Ipv4Addr::BROADCAST,
    Ipv4Addr::new(169, 254, 169, 254),
    Ipv4Addr::new(10, 0, 0, 1),
    Ipv4Addr::new(8, 8, 8, 8),
    Ipv4Addr::new(8, 8, 4, 4),
];

/// An IPv4 address and all that stands for it inside IPv6: mapped, compatible, translated, NAT64, 6to4, Teredo, ISATAP.
fn forms(inner: Ipv4Addr) -> Vec<IpAddr> {
    let low = u128::from(inner.to_bits());
    let v6 = |high: [u16; 6]| high.iter().fold(0, |n: u128, part| n << 16 | u128::from(*part)) << 32 | low;
    let mut forms = vec![IpAddr::V4(inner)];
    let prefixes = [
        [0; 6],
        [0, 0, 0, 0, 0, 0xFFFF],
        [0, 0, 0, 0, 0xFFFF, 0],
        [0x64, 0xFF9B, 0, 0, 0, 0],
        [0x64, 0xFF9B, 1, 0, 0, 0],
        [0x2001, 0, 0x4136, 0xE378, 0x8000, 0x63BF],
        [0xFE80, 0, 0, 0, 0, 0x5EFE],
        [0x2400, 1, 2, 3, 0, 0x5EFE],
        [0x2400, 1, 2, 3, 0x200, 0x5EFE],
        [0x2400, 1, 2, 3, 0x201, 0x5EFE],
    ];
    forms.extend(prefixes.map(|high| IpAddr::V6(Ipv6Addr::from_bits(v6(high)))));
    forms.push(Ipv6Addr::from_bits(0x2002 << 112 | low << 80 | 1).into());
    forms.push(Ipv6Addr::from_bits(0x2001_u128 << 112 | 0x4136_E378 << 64 | (low ^ 0xFFFF_FFFF)).into());
    forms
}

/// The first and the last address of a block, and their neighbours.
fn edges(span: Span) -> Vec<IpAddr> {
    let max = if span.v4 { u128::from(u32::MAX) } else { u128::MAX };
    let mut numbers = vec![span.first, span.last, span.first / 2 + span.last / 2];
    numbers.extend(span.first.checked_sub(1));
    numbers.extend(span.last.checked_add(1).filter(|number| *number <= max));
    numbers.into_iter().map(|number| ip(span.v4, number)).collect()
}

fn any(choice: &mut Bytes<'_>) -> IpAddr {
    let v4 = choice.one_in(2);
    let number = (0..4).fold(0, |n: u128, _| n << 32 | u128::from(choice.below(u32::MAX)));
    ip(v4, if v4 { number & u128::from(u32::MAX) } else { number })
}

/// A block as text, read by the library: strictly, and as it is meant.
fn block(choice: &mut Bytes<'_>) -> (Span, Cidr) {
    let at = choice.below(0x100) as usize;
    let (v4, around) = match choice.below(3) {
        0 => number(any(choice)),
        1 => (NEVER_SPANS[at % NEVER_SPANS.len()].v4, NEVER_SPANS[at % NEVER_SPANS.len()].last),
        _ => (PRIVATE_SPANS[at % PRIVATE_SPANS.len()].v4, PRIVATE_SPANS[at % PRIVATE_SPANS.len()].first),
    };
    let width = if v4 { 32 } else { 128 };
    let prefix = choice.below(width + 1);
    let span = Span::around(v4, around, prefix);
    let read = |number, prefix: u32| format!("{}/{prefix}", ip(v4, number)).parse::<Cidr>();
    let block = read(span.first, prefix).expect("a block is read");
    assert_eq!((block.address(), u32::from(block.prefix_len())), (ip(v4, span.first), prefix));
    assert_eq!(block.to_string().parse(), Ok(block));
    match around == span.first {
        true => assert_eq!(read(around, prefix), Ok(block)),
        false => assert_eq!(read(around, prefix), Err(CidrError::HostBits(block))),
    }
    assert_eq!(read(span.first, width + 1 + prefix), Err(CidrError::Prefix));
    (span, block)
}

/// The IPv4 address in an interface identifier of ISATAP (RFC 5214 §6.1).
fn tunnelled(addr: IpAddr) -> Option<Ipv4Addr> {
    let IpAddr::V6(addr) = addr else { return None };
    let text = format!("{:032x}", addr.to_bits());
    let inner = text[16..].strip_prefix("00005efe").or_else(|| text[16..].strip_prefix("02005efe"))?;
    u32::from_str_radix(inner, 16).ok().map(Ipv4Addr::from_bits)
}
