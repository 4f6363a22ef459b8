//! Single values of a configuration and of names: read, written and read again; some a second time, the plain way.

use std::fmt::{Debug, Display};
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use turnpike::bus::SessionId;
use turnpike::config::address::{AlternateServer, Endpoint, External, Network, RelayAddress};
use turnpike::config::coturn::Version;
use turnpike::config::secret::{Password, Secret, UserName};
use turnpike::config::value::{Format, Level, Micros, PortRange, Realm, SECONDS_MAX, Seconds, Separator};
use turnpike::config::web::{HostName, HttpAddress, Origin, PublicUrl, TurnUri};
use turnpike::http::revocations::RevokedId;
use turnpike::turn::auth::Caps;
use turnpike::turn::policy::Cidr;

/// Reads a text as every kind of value there is.
pub fn read(text: &str) {
    same_again::<Realm>(text);
    same_again::<Micros>(text);
    same_again::<PortRange>(text);
    same_again::<Separator>(text);
    same_again::<Level>(text);
    same_again::<Format>(text);
    same_again::<RelayAddress>(text);
    same_again::<External>(text);
    same_again::<AlternateServer>(text);
    same_again::<HttpAddress>(text);
    same_again::<Origin>(text);
    same_again::<PublicUrl>(text);
    same_again::<HostName>(text);
    same_again::<TurnUri>(text);
    same_again::<UserName>(text);
    same_again::<RevokedId>(text);
    same_again::<SessionId>(text);
    same_again::<Version>(text);
    assert_eq!(same_again::<Endpoint>(text).map(|endpoint| endpoint.0), text.parse::<SocketAddr>().ok());
    assert_eq!(same_again::<Network>(text).map(|network| network.0), same_again::<Cidr>(text));
    assert_eq!(same_again::<Cidr>(text).map(|block| (block.address(), block.prefix_len())), block(text));
    assert_eq!(same_again::<Seconds>(text).map(|seconds| seconds.0), seconds(text));
    assert_eq!(same_again::<Caps>(text).map(|caps| (caps.allocations, caps.bytes_per_second, caps.bytes)), caps(text));
    concealed::<Secret>(text);
    concealed::<Password>(text);
}

/// What is taken is the same when it is written and read again.
fn same_again<T: FromStr<Err: Debug> + Display + Debug + PartialEq>(text: &str) -> Option<T> {
    let value: T = text.parse().ok()?;
    let written = value.to_string();
    let again = written.parse::<T>().unwrap_or_else(|error| panic!("{text:?} is written {written:?}: {error:?}"));
    assert_eq!(again, value, "{text:?} is written {written:?}");
    Some(value)
}

/// Neither what is taken nor why it is not shows the text.
fn concealed<T: FromStr<Err = String> + Display + Debug>(text: &str) {
    let said = match text.parse::<T>() {
        Ok(value) => format!("{value} {value:?}"),
        Err(what) => what,
    };
    let stands_for = |c: char| if c.is_ascii_alphanumeric() { 'Q' } else { c };
    let other: String = text.chars().map(stands_for).collect();
    let said_of_other = match other.parse::<T>() {
        Ok(value) => format!("{value} {value:?}"),
        Err(what) => what,
    };
    assert_eq!(said, said_of_other, "what is said depends on a secret");
}

/// `ADDRESS` or `ADDRESS/PREFIX` without a bit behind the prefix.
fn block(text: &str) -> Option<(IpAddr, u8)> {
    let (address, prefix) = text.split_once('/').unwrap_or((text, ""));
    let ip: IpAddr = address.parse().ok()?;
    let bits: Vec<bool> = match ip {
        IpAddr::V4(ip) => {
            ip.octets().iter().flat_map(|byte| (0..8).map(move |bit| byte >> (7 - bit) & 1 == 1)).collect()
        }
        IpAddr::V6(ip) => {
            ip.octets().iter().flat_map(|byte| (0..8).map(move |bit| byte >> (7 - bit) & 1 == 1)).collect()
        }
    };
    let len = match text.contains('/') {
        true if prefix.bytes().all(|b| b.is_ascii_digit()) => prefix.parse::<usize>().ok()?,
        true => return None,
        false => bits.len(),
    };
    (len <= bits.len() && !bits[len..].contains(&true)).then_some((ip, len as u8))
}

/// Digits alone, or numbers with units from the largest to the smallest.
fn seconds(text: &str) -> Option<u64> {
    let mut total: u128 = 0;
    let mut left = "dhms";
    let mut number = String::new();
    for c in text.chars() {
        if c.is_ascii_digit() {
            number.push(c);
            continue;
        }
        let at = left.find(c)?;
        left = &left[at + 1..];
        // A longer number is longer than a hundred years in any unit, unless it begins with zeros.
        let count: u128 = number.parse::<u64>().ok()?.into();
        total += count
            * match c {
                'd' => 86_400,
                'h' => 3_600,
                'm' => 60,
                _ => 1,
            };
        number.clear();
    }
    match (left, &*number) {
        ("dhms", "") => return None,
        ("dhms", digits) => total = digits.parse::<u64>().ok()?.into(),
        (_, "") => {}
        _ => return None,
    }
    u64::try_from(total).ok().filter(|total| *total <= SECONDS_MAX)
}

/// `+aN+rN+bN`, each part optional.
#[allow(clippy::type_complexity)]
fn caps(text: &str) -> Option<(Option<u32>, Option<u64>, Option<u64>)> {
    let mut parts = text.split('+');
    if parts.next() != Some("") {
        return None;
    }
    let mut found = [None; 3];
    let mut last = 0;
    for part in parts {
        let place = 1 + ["a", "r", "b"].iter().position(|mark| part.starts_with(mark))?;
        let digits = &part[1..];
        if place <= last || digits.starts_with('0') || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        last = place;
        found[place - 1] = Some(digits.parse::<u64>().ok()?);
    }
    let allocations = found[0].map(u32::try_from).transpose().ok()?;
    Some((allocations, found[1], found[2]))
}
