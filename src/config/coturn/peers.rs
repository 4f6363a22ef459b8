//! Which peers may be reached. coturn's allowed ranges win over its denied ones, and it reaches
//! private networks unless told otherwise; here the denied win, and private networks are denied
//! until they are named. So allowed ranges are cut out of the denied ones, and what names a
//! private network outright is allowed.

use super::{Conf, End, Value};
use crate::turn::policy::{Cidr, DefaultRule, Firmness, default_rules};
use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr};

/// Addresses of one family, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Range {
    v4: bool,
    first: u128,
    last: u128,
}

/// One range of peers that the file or the database names.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub range: Range,
    /// The line, that of the database if it is there.
    pub at: usize,
    /// It is in the database.
    pub is_stored: bool,
}

/// Private networks that coturn relays to.
const PRIVATE: [&str; 5] = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7"];

fn bits(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => u128::from(ip.to_bits()),
        IpAddr::V6(ip) => ip.to_bits(),
    }
}

impl Range {
    fn new(first: IpAddr, last: IpAddr) -> Result<Self, String> {
        match first.is_ipv4() == last.is_ipv4() {
            true => Ok(Range { v4: first.is_ipv4(), first: bits(first), last: bits(last) }),
            false => Err("the range mixes IPv4 and IPv6".into()),
        }
    }

    fn block(ip: IpAddr, prefix_len: u8) -> Self {
        let host_bits = if ip.is_ipv4() { 32 } else { 128 } - u32::from(prefix_len);
        let mask = 1_u128.checked_shl(host_bits).map_or(u128::MAX, |size| size - 1);
        Range { v4: ip.is_ipv4(), first: bits(ip) & !mask, last: bits(ip) | mask }
    }

    /// Whether it ends before it begins.
    pub(super) fn is_backward(&self) -> bool {
        self.first > self.last
    }

    fn holds(&self, other: &Range) -> bool {
        self.v4 == other.v4 && self.first <= other.first && other.last <= self.last
    }

    fn meets(&self, other: &Range) -> bool {
        self.v4 == other.v4 && self.first <= other.last && other.first <= self.last
    }

    /// What is left without another range.
    fn without(self, other: &Range) -> Vec<Range> {
        if !self.meets(other) {
            return vec![self];
        }
        let mut left = Vec::new();
        if self.first < other.first {
            left.push(Range { last: other.first - 1, ..self });
        }
        if self.last > other.last {
            left.push(Range { first: other.last + 1, ..self });
        }
        left
    }

    /// The fewest blocks that are the range.
    fn blocks(&self) -> Vec<String> {
        let width: u32 = if self.v4 { 32 } else { 128 };
        let (mut first, mut blocks) = (self.first, Vec::new());
        loop {
            // As large as the alignment of its first address lets it be, and not beyond the end.
            let mut host_bits = first.trailing_zeros().min(width);
            let last = |host_bits: u32| 1_u128.checked_shl(host_bits).map_or(u128::MAX, |size| first + (size - 1));
            while last(host_bits) > self.last {
                host_bits -= 1;
            }
            let ip = match self.v4 {
                true => IpAddr::V4(Ipv4Addr::from_bits(first as u32)),
                false => IpAddr::V6(first.into()),
            };
            blocks.push(format!("{ip}/{}", width - host_bits));
            match last(host_bits) {
                end if end >= self.last => return blocks,
                end => first = end + 1,
            }
        }
    }
}

impl From<&Cidr> for Range {
    fn from(block: &Cidr) -> Self {
        Range::block(block.address(), block.prefix_len())
    }
}

/// Reads an address, `FIRST-LAST`, or a network, whose host bits do not count.
pub(super) fn range(text: &str) -> Result<Range, String> {
    let ip = |text: &str| text.trim().parse::<IpAddr>().map_err(|_| format!("`{}` is not an address", text.trim()));
    if let Some((first, last)) = text.split_once('-') {
        return Range::new(ip(first)?, ip(last)?);
    }
    let Some((network, prefix)) = text.split_once('/') else { return Range::new(ip(text)?, ip(text)?) };
    let (network, prefix) = (ip(network)?, prefix.trim());
    let width = if network.is_ipv4() { 32 } else { 128 };
    match prefix.parse::<u8>() {
        Ok(prefix_len) if prefix_len <= width => Ok(Range::block(network, prefix_len)),
        _ => Err(format!("`/{prefix}` is not a prefix of 0 to {width} bits")),
    }
}

impl Conf<'_> {
    /// `relay.allow_peers`, `relay.deny_peers` and `relay.allow_loopback_peers`.
    pub(super) fn peers(&mut self) {
        if let Some(at) = self.on("allow-loopback-peers") {
            self.set("relay.allow_loopback_peers", Value::Flag(true), &[at]);
            self.note(at, End::Carried, "relay.allow_loopback_peers");
        }
        let allowed = [self.ranges("allowed-peer-ip", false), self.stored_ranges(false)].concat();
        let denied = [self.ranges("denied-peer-ip", true), self.stored_ranges(true)].concat();
        let (mut allow, mut deny) = (Vec::new(), Vec::new());
        for &entry in &allowed {
            let (opens, end, text) = judge_allowed(entry.range);
            let to = if opens { "relay.allow_peers" } else { "cut out of relay.deny_peers" };
            self.say_entry(entry, end, text, to);
            if opens {
                allow.extend(entry.range.blocks().into_iter().map(|block| (block, entry.at)));
            }
        }
        // The private half of an external address is coturn's own.
        let own = self.lines.iter().filter(|line| line.key == "external-ip");
        let own = own.filter_map(|line| self.external(&line.value).ok()?.0.private);
        let own: Vec<Range> = own.map(|ip| Range { v4: ip.is_ipv4(), first: bits(ip), last: bits(ip) }).collect();
        let mut known = HashSet::new();
        for &entry in &denied {
            let mut left = vec![entry.range];
            for hole in allowed.iter().map(|entry| &entry.range).chain(&own) {
                left = left.into_iter().flat_map(|range| range.without(hole)).collect();
            }
            let (end, text) = match (left.is_empty(), left == [entry.range]) {
                (true, _) => (End::Nothing, "allowed-peer-ip allows all of it, which wins in coturn"),
                (_, true) => (End::Carried, "relay.deny_peers"),
                _ => (End::Carried, "relay.deny_peers, without what allowed-peer-ip or external-ip names"),
            };
            self.say_entry(entry, end, text, "relay.deny_peers");
            let blocks = left.iter().flat_map(Range::blocks).filter(|block| known.insert(block.clone()));
            deny.extend(blocks.map(|block| (block, entry.at)));
        }
        let is_lan_denied = PRIVATE[..3].iter().all(|block| {
            let block = block.parse::<Cidr>().map(|block| Range::from(&block));
            block.is_ok_and(|block| denied.iter().any(|entry| entry.range.holds(&block)))
        });
        if allow.is_empty() && !is_lan_denied && !self.lines.is_empty() {
            self.say_private();
        }
        self.set_list("relay.allow_peers", allow);
        self.set_list("relay.deny_peers", deny);
    }

    fn say_private(&mut self) {
        let text = format!(
            "peers in private networks ({}) are refused now, coturn relays to them; for clients of a LAN write \
             allowed-peer-ip=192.168.0.0-192.168.255.255 in a coturn file, or relay.allow_peers = [\"192.168.0.0/16\"]",
            PRIVATE.join(", ")
        );
        self.general("private-peers", End::Safer, text);
    }

    fn ranges(&mut self, key: &str, denies: bool) -> Vec<Entry> {
        let mut ranges = Vec::new();
        for at in self.all(key) {
            match range(self.value(at)) {
                Ok(range) if range.is_backward() && denies => {
                    let what = "the range ends before it begins, and coturn denies nothing by it";
                    self.refuse(at, what, "write the lower address first");
                }
                Ok(range) if range.is_backward() => {
                    self.note(at, End::NeedsYou, "the range ends before it begins: it allows nothing");
                }
                Ok(range) => ranges.push(Entry { range, at, is_stored: false }),
                Err(what) => self.refuse(at, what, "write an address, FIRST-LAST, or a network like 10.0.0.0/8"),
            }
        }
        ranges
    }

    /// Says what became of a range: of a line's in its note, of the database's in that of the database.
    fn say_entry(&mut self, entry: Entry, end: End, text: &str, to: &'static str) {
        match &mut self.database {
            Some(database) if entry.is_stored => database.tell_range(end, text, to),
            _ => self.note(entry.at, end, text),
        }
    }
}

/// Whether an allowed range goes into `allow_peers`, and what becomes of it.
fn judge_allowed(range: Range) -> (bool, End, &'static str) {
    let of = |firmness: Firmness| {
        let rules = default_rules().iter().filter(move |rule| rule.firmness == firmness);
        rules.map(|rule: &DefaultRule| Range::from(&rule.block))
    };
    if of(Firmness::Soft).any(|block| block.holds(&range)) {
        return (true, End::Carried, "relay.allow_peers");
    }
    if of(Firmness::Hard).any(|block| block.holds(&range)) {
        let text = "loopback, link-local, multicast, documentation and reserved addresses are never relayed to; \
                    allow-loopback-peers opens loopback";
        return (false, End::Safer, text);
    }
    match of(Firmness::Soft).chain(of(Firmness::Hard)).any(|block| block.meets(&range)) {
        true => {
            let text = "cut out of denied-peer-ip, but the private networks in it stay denied: name one that is meant \
                        in a line of its own, like allowed-peer-ip=10.0.0.0-10.255.255.255";
            (false, End::Safer, text)
        }
        false => (false, End::Carried, "reachable as every public address; cut out of denied-peer-ip"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_in_every_form() {
        for (text, blocks) in [
            ("10.0.0.0-10.255.255.255", &["10.0.0.0/8"][..]),
            ("10.0.0.1", &["10.0.0.1/32"]),
            ("10.0.0.5/8", &["10.0.0.0/8"]),
            ("10.0.0.1-10.0.0.4", &["10.0.0.1/32", "10.0.0.2/31", "10.0.0.4/32"]),
            ("0.0.0.0-255.255.255.255", &["0.0.0.0/0"]),
            ("255.255.255.254 - 255.255.255.255", &["255.255.255.254/31"]),
            ("::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", &["::/0"]),
            ("fc00::-fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", &["fc00::/7"]),
            ("::/0", &["::/0"]),
            ("2001:db8::1", &["2001:db8::1/128"]),
        ] {
            assert_eq!(range(text).unwrap().blocks(), blocks, "{text}");
        }
        for text in ["", "10.0.0.0-", "-", "10.0.0.0/33", "10.0.0.0/", "10.0.0.1-::1", "10.0.0", "a", "1.2.3.4-5"] {
            assert!(range(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_cut_out_is_exactly_that() {
        let ten = range("10.0.0.0/8").unwrap();
        let left = ten.without(&range("10.0.0.5").unwrap());
        let blocks: Vec<String> = left.iter().flat_map(Range::blocks).collect();
        assert_eq!(blocks.len(), 24);
        let size = |range: &Range| range.last - range.first + 1;
        assert_eq!(left.iter().map(size).sum::<u128>(), (1 << 24) - 1);
        assert_eq!(ten.without(&range("11.0.0.0/8").unwrap()), [ten]);
        assert!(ten.without(&range("0.0.0.0/0").unwrap()).is_empty());
    }
}
