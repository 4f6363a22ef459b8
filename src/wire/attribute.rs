//! Attribute types and the values a server reads and writes in them.
//!
//! Types below 0x8000 are comprehension-required (RFC 8489 §14). A decoder takes the
//! attribute's value and returns `None` when its length or content is not the one the
//! RFC gives; reserved bits are ignored.

use super::stun::{MAGIC_COOKIE, TransactionId};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// MAPPED-ADDRESS, RFC 8489 §14.1.
pub const MAPPED_ADDRESS: u16 = 0x0001;
/// CHANGE-REQUEST, RFC 5780 §7.2.
pub const CHANGE_REQUEST: u16 = 0x0003;
/// USERNAME, RFC 8489 §14.3.
pub const USERNAME: u16 = 0x0006;
/// MESSAGE-INTEGRITY, RFC 8489 §14.5.
pub const MESSAGE_INTEGRITY: u16 = 0x0008;
/// ERROR-CODE, RFC 8489 §14.8.
pub const ERROR_CODE: u16 = 0x0009;
/// UNKNOWN-ATTRIBUTES, RFC 8489 §14.13.
pub const UNKNOWN_ATTRIBUTES: u16 = 0x000A;
/// CHANNEL-NUMBER, RFC 8656 §18.1.
pub const CHANNEL_NUMBER: u16 = 0x000C;
/// LIFETIME, RFC 8656 §18.2.
pub const LIFETIME: u16 = 0x000D;
/// XOR-PEER-ADDRESS, RFC 8656 §18.3.
pub const XOR_PEER_ADDRESS: u16 = 0x0012;
/// DATA, RFC 8656 §18.4.
pub const DATA: u16 = 0x0013;
/// REALM, RFC 8489 §14.9.
pub const REALM: u16 = 0x0014;
/// NONCE, RFC 8489 §14.10.
pub const NONCE: u16 = 0x0015;
/// XOR-RELAYED-ADDRESS, RFC 8656 §18.5.
pub const XOR_RELAYED_ADDRESS: u16 = 0x0016;
/// REQUESTED-ADDRESS-FAMILY, RFC 8656 §18.6.
pub const REQUESTED_ADDRESS_FAMILY: u16 = 0x0017;
/// EVEN-PORT, RFC 8656 §18.7.
pub const EVEN_PORT: u16 = 0x0018;
/// REQUESTED-TRANSPORT, RFC 8656 §18.8.
pub const REQUESTED_TRANSPORT: u16 = 0x0019;
/// DONT-FRAGMENT, RFC 8656 §18.9.
pub const DONT_FRAGMENT: u16 = 0x001A;
/// MESSAGE-INTEGRITY-SHA256, RFC 8489 §14.6.
pub const MESSAGE_INTEGRITY_SHA256: u16 = 0x001C;
/// PASSWORD-ALGORITHM, RFC 8489 §14.12.
pub const PASSWORD_ALGORITHM: u16 = 0x001D;
/// USERHASH, RFC 8489 §14.4.
pub const USERHASH: u16 = 0x001E;
/// XOR-MAPPED-ADDRESS, RFC 8489 §14.2.
pub const XOR_MAPPED_ADDRESS: u16 = 0x0020;
/// RESERVATION-TOKEN, RFC 8656 §18.10.
pub const RESERVATION_TOKEN: u16 = 0x0022;
/// PADDING, RFC 5780 §7.6.
pub const PADDING: u16 = 0x0026;
/// RESPONSE-PORT, RFC 5780 §7.5.
pub const RESPONSE_PORT: u16 = 0x0027;
/// CONNECTION-ID, RFC 6062 §6.2.1.
pub const CONNECTION_ID: u16 = 0x002A;
/// ADDITIONAL-ADDRESS-FAMILY, RFC 8656 §18.11.
pub const ADDITIONAL_ADDRESS_FAMILY: u16 = 0x8000;
/// ADDRESS-ERROR-CODE, RFC 8656 §18.12.
pub const ADDRESS_ERROR_CODE: u16 = 0x8001;
/// PASSWORD-ALGORITHMS, RFC 8489 §14.11.
pub const PASSWORD_ALGORITHMS: u16 = 0x8002;
/// ALTERNATE-DOMAIN, RFC 8489 §14.16.
pub const ALTERNATE_DOMAIN: u16 = 0x8003;
/// ICMP, RFC 8656 §18.13.
pub const ICMP: u16 = 0x8004;
/// SOFTWARE, RFC 8489 §14.14.
pub const SOFTWARE: u16 = 0x8022;
/// ALTERNATE-SERVER, RFC 8489 §14.15.
pub const ALTERNATE_SERVER: u16 = 0x8023;
/// FINGERPRINT, RFC 8489 §14.7.
pub const FINGERPRINT: u16 = 0x8028;
/// RESPONSE-ORIGIN, RFC 5780 §7.3.
pub const RESPONSE_ORIGIN: u16 = 0x802B;
/// OTHER-ADDRESS, RFC 5780 §7.4.
pub const OTHER_ADDRESS: u16 = 0x802C;
/// MOBILITY-TICKET, RFC 8016 §4.2.
pub const MOBILITY_TICKET: u16 = 0x8030;

/// Whether the attribute must be understood for the message to be processed.
pub const fn is_comprehension_required(kind: u16) -> bool {
    kind < 0x8000
}

/// IANA address family of the STUN formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub enum Family {
    /// 0x01.
    V4,
    /// 0x02.
    V6,
}

impl Family {
    /// The family of an address.
    #[inline]
    pub const fn of(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(_) => Family::V4,
            IpAddr::V6(_) => Family::V6,
        }
    }

    /// The code on the wire.
    pub const fn code(self) -> u8 {
        match self {
            Family::V4 => 0x01,
            Family::V6 => 0x02,
        }
    }

    /// The other family.
    pub const fn other(self) -> Self {
        match self {
            Family::V4 => Family::V6,
            Family::V6 => Family::V4,
        }
    }

    /// 0 for IPv4, 1 for IPv6: an index into pairs.
    #[inline]
    pub const fn index(self) -> usize {
        match self {
            Family::V4 => 0,
            Family::V6 => 1,
        }
    }
}

/// An ICMP error as the ICMP attribute reports it (RFC 8656 §18.13).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IcmpError {
    /// ICMP or ICMPv6 type, by the peer's family.
    pub kind: u8,
    /// ICMP or ICMPv6 code.
    pub code: u8,
    /// MTU in bytes for "packet too big" and "fragmentation needed", else 0.
    pub error_value: u32,
}

impl IcmpError {
    /// The attribute's value: two reserved bytes, type, code, error data.
    pub fn encode(self) -> [u8; 8] {
        let [a, b, c, d] = self.error_value.to_be_bytes();
        [0, 0, self.kind, self.code, a, b, c, d]
    }
}

/// How a long-term key is derived from a password (RFC 8489 §18.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum PasswordAlgorithm {
    /// 0x0001, key of 16 bytes.
    Md5,
    /// 0x0002, key of 32 bytes.
    Sha256,
}

impl PasswordAlgorithm {
    /// The list this server offers, in order of preference, as PASSWORD-ALGORITHMS carries it.
    pub const OFFER: [u8; 8] = [0x00, 0x02, 0, 0, 0x00, 0x01, 0, 0];

    /// Reads PASSWORD-ALGORITHM: a known number with empty parameters, which is the only
    /// form either algorithm has.
    pub fn decode(value: &[u8]) -> Option<Self> {
        match value {
            [0x00, 0x01, 0, 0] => Some(PasswordAlgorithm::Md5),
            [0x00, 0x02, 0, 0] => Some(PasswordAlgorithm::Sha256),
            _ => None,
        }
    }

    /// The value of PASSWORD-ALGORITHM.
    pub const fn encode(self) -> [u8; 4] {
        match self {
            PasswordAlgorithm::Md5 => [0x00, 0x01, 0, 0],
            PasswordAlgorithm::Sha256 => [0x00, 0x02, 0, 0],
        }
    }
}

/// Longest value of an address attribute, in bytes (IPv6).
pub const ADDRESS_LEN_MAX: usize = 20;

/// Reads an XOR-encoded address (RFC 8489 §14.2). `None` for an unknown family or a length
/// that is not the family's.
#[inline]
pub fn xor_address(value: &[u8], id: &TransactionId) -> Option<SocketAddr> {
    address(value).map(|masked| masked_address(masked, id))
}

/// Reads a plain address (MAPPED-ADDRESS, ALTERNATE-SERVER…). `None` as for [`xor_address`].
#[inline]
pub fn address(value: &[u8]) -> Option<SocketAddr> {
    let (head, ip) = value.split_first_chunk::<4>()?;
    let ip = match head[1] {
        0x01 => IpAddr::V4(Ipv4Addr::from_bits(u32::from_be_bytes(ip.try_into().ok()?))),
        0x02 => IpAddr::V6(Ipv6Addr::from_bits(u128::from_be_bytes(ip.try_into().ok()?))),
        _ => return None,
    };
    Some(SocketAddr::new(ip, u16::from_be_bytes([head[2], head[3]])))
}

/// Writes an XOR-encoded address and returns its length: 8 bytes for IPv4, 20 for IPv6.
#[inline]
pub fn encode_xor_address(addr: SocketAddr, id: &TransactionId, out: &mut [u8; ADDRESS_LEN_MAX]) -> usize {
    encode_address(masked_address(addr, id), out)
}

/// Puts the mask of XOR-encoded addresses on, or takes it off.
#[inline]
fn masked_address(addr: SocketAddr, id: &TransactionId) -> SocketAddr {
    let port = addr.port() ^ (MAGIC_COOKIE >> 16) as u16;
    match addr.ip() {
        IpAddr::V4(ip) => SocketAddr::new(Ipv4Addr::from_bits(ip.to_bits() ^ MAGIC_COOKIE).into(), port),
        IpAddr::V6(ip) => SocketAddr::new(Ipv6Addr::from_bits(ip.to_bits() ^ xor_mask(id)).into(), port),
    }
}

/// Writes a plain address (MAPPED-ADDRESS, ALTERNATE-SERVER…) and returns its length.
#[inline]
pub fn encode_address(addr: SocketAddr, out: &mut [u8; ADDRESS_LEN_MAX]) -> usize {
    out[0] = 0;
    out[1] = Family::of(addr.ip()).code();
    out[2..4].copy_from_slice(&addr.port().to_be_bytes());
    match addr.ip() {
        IpAddr::V4(ip) => {
            out[4..8].copy_from_slice(&ip.octets());
            8
        }
        IpAddr::V6(ip) => {
            out[4..20].copy_from_slice(&ip.octets());
            20
        }
    }
}

/// Cookie and transaction id, the mask of IPv6 addresses.
#[inline]
fn xor_mask(id: &TransactionId) -> u128 {
    let mut mask = [0u8; 16];
    mask[..4].copy_from_slice(&MAGIC_COOKIE.to_be_bytes());
    mask[4..].copy_from_slice(&id.0);
    u128::from_be_bytes(mask)
}

/// Reads LIFETIME: four bytes, seconds.
pub fn lifetime(value: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(value.try_into().ok()?))
}

/// Reads CHANNEL-NUMBER; the two reserved bytes are ignored. The range is checked by the caller.
pub fn channel_number(value: &[u8]) -> Option<u16> {
    let value: [u8; 4] = value.try_into().ok()?;
    Some(u16::from_be_bytes([value[0], value[1]]))
}

/// Reads REQUESTED-TRANSPORT: an IP protocol number; reserved bytes are ignored.
pub fn requested_transport(value: &[u8]) -> Option<u8> {
    let value: [u8; 4] = value.try_into().ok()?;
    Some(value[0])
}

/// Reads REQUESTED- or ADDITIONAL-ADDRESS-FAMILY. The outer `None` is a wrong length, the
/// inner one a family that nobody knows.
pub fn address_family(value: &[u8]) -> Option<Option<Family>> {
    let value: [u8; 4] = value.try_into().ok()?;
    Some(match value[0] {
        0x01 => Some(Family::V4),
        0x02 => Some(Family::V6),
        _ => None,
    })
}

/// Reads EVEN-PORT: whether the next port is to be reserved; reserved bits are ignored.
pub fn even_port(value: &[u8]) -> Option<bool> {
    let value: [u8; 1] = value.try_into().ok()?;
    Some(value[0] & 0x80 != 0)
}

/// Reads RESERVATION-TOKEN.
pub fn reservation_token(value: &[u8]) -> Option<[u8; 8]> {
    value.try_into().ok()
}

/// Reads ERROR-CODE into its number, 300–699; the reason phrase follows in the value's
/// bytes from 4 on.
pub fn error_code(value: &[u8]) -> Option<u16> {
    let head = value.first_chunk::<4>()?;
    let (class, number) = (u16::from(head[2] & 0x07), u16::from(head[3]));
    ((3..=6).contains(&class) && number < 100).then_some(class * 100 + number)
}

/// The fixed part of ERROR-CODE for a code of 300–699, without a reason phrase.
pub fn encode_error_code(code: u16) -> [u8; 4] {
    debug_assert!((300..700).contains(&code));
    [0, 0, (code / 100) as u8, (code % 100) as u8]
}
