//! What a world is like: one plain description, from which the server's configuration is made
//! and which the model reads as it stands.

use super::chance::{Choice, Seeded};
use super::message::{self, Algorithm};
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::Arc;
use turnpike::turn::auth::{Credentials, Secret};
use turnpike::turn::policy::{Own, PeerPolicy};
use turnpike::turn::quota::AllocationLimits;
use turnpike::turn::{Config, Limits, nonce};
use turnpike::wire::channel::ChannelRange;

pub const REALM: &[u8] = b"example.org";
/// Where clients reach the server, by family.
pub const SERVER: [&str; 2] = ["11.0.0.9:3478", "[2400:9::9]:3478"];
/// What the server relays from, by family.
pub const RELAY: [&str; 2] = ["11.0.0.1", "2400:9::1"];
/// Another address of the server's host.
pub const LOCAL: &str = "11.0.0.2";
/// Seconds since 1970 when a world begins.
pub const UNIX_START_S: u64 = 1_800_000_000;
/// Peers that are reached by default come first.
pub const OPEN_PEERS: usize = 6;
/// Where peers are, the impossible ones included.
#[rustfmt::skip]
pub const PEERS: &[&str] = &[
    "8.8.8.8:5000", "8.8.8.8:5001", "8.8.4.4:5000", "9.9.9.9:50002", "[2400::1]:5000", "[2400::2]:5000",
    "10.0.0.5:5000", "10.1.0.5:5000", "[fd12::1]:5000", "127.0.0.1:5000", "[::1]:5000", "11.0.0.2:5000",
    "8.8.8.8:53", "8.8.8.8:0", "0.0.0.0:5000", "169.254.169.254:80", "[::ffff:8.8.8.8]:5000",
    "[2002:808:808::1]:5000", "[64:ff9b::808:808]:5000", "[2400::5efe:10.0.0.5]:5000", "224.0.0.1:5000",
    "11.0.0.1:22", "[2400:9::1]:3478", "[2001:0:1::1]:5000", "[ff02::1]:5000",
];

/// Every password a user ever has in any world, and every secret.
pub const PASSWORDS_EVER: &[&[u8]] = &[b"wonder", b"hodcarrier", b"demolisher", b"school"];
pub const SECRETS_EVER: &[&[u8]] = &[b"the south secret", b"the north secret"];

/// One long-term user.
#[derive(Clone, Debug)]
pub struct User {
    pub name: &'static [u8],
    pub password: &'static [u8],
    /// Known by the MD5 key alone.
    pub md5_only: bool,
}

/// What a world is like now; a reload changes it.
#[derive(Clone, Debug)]
pub struct Setting {
    pub users: Vec<User>,
    pub secrets: Vec<&'static [u8]>,
    pub max_ttl_s: u64,
    pub strict_expiry: bool,
    pub anonymous: bool,
    pub nonce_lifetime_s: u32,
    pub rfc8489: bool,
    pub anonymity: bool,
    pub allow: Vec<&'static str>,
    pub deny: Vec<&'static str>,
    pub allow_loopback: bool,
    pub relay: Vec<IpAddr>,
    pub local: Vec<IpAddr>,
    pub ports: RangeInclusive<u16>,
    pub families: [bool; 2],
    pub limits: Limits,
    pub wide_channels: bool,
    /// Allocations of one account, of one source, and of all.
    pub allocations: AllocationLimits,
    pub draining: bool,
}

/// What a reload changes. Most turn a switch, so that twice is as before.
#[derive(Clone, Copy, Debug)]
pub enum Change {
    DenyOne,
    DenyV6,
    AllowPrivate,
    Loopback,
    Local,
    Permissions,
    Channels,
    Lifetime,
    Bandwidth,
    Anonymous,
    Strict,
    Password,
    Secrets,
    NonceForm,
    Quota,
    SourceQuota,
    Drain,
    Session,
    Nothing,
    /// A peer's address becomes one of this server's own, or is one no longer.
    Relay,
}

impl Change {
    #[rustfmt::skip]
    pub const ALL: &[Change] = &[
        Change::Nothing, Change::DenyOne, Change::DenyV6, Change::AllowPrivate, Change::Loopback, Change::Local,
        Change::Permissions, Change::Channels, Change::Lifetime, Change::Bandwidth, Change::Anonymous,
        Change::Strict, Change::Password, Change::Secrets, Change::NonceForm, Change::Quota, Change::Drain,
        Change::Session, Change::Relay, Change::SourceQuota,
    ];
}

impl Setting {
    /// A world's first setting.
    pub fn choose(chance: &mut Seeded) -> Setting {
        let limits = Limits {
            permissions_per_allocation: chance.pick(&[0, 2, 4, 256]),
            channels_per_allocation: chance.pick(&[0, 1, 3, 64]),
            lifetime_max_s: chance.pick(&[3600, 3600, 600, 1200, 0]),
            bytes_per_second: chance.pick(&[0, 0, 0, 2000]),
            unverified_per_second: chance.pick(&[0, 0, 0, 2]),
            session_max_s: chance.pick(&[0, 0, 0, 30, 700, 7200]),
        };
        let plain = Setting::plain();
        Setting {
            secrets: if chance.one_in(4) { vec![] } else { plain.secrets },
            strict_expiry: chance.one_in(4),
            anonymous: chance.one_in(12),
            nonce_lifetime_s: chance.pick(&[600, 600, 60, 3600]),
            rfc8489: !chance.one_in(4),
            anonymity: chance.one_in(4),
            allow: if chance.one_in(3) { vec!["10.0.0.0/16", "fd12::/16"] } else { vec![] },
            deny: if chance.one_in(4) { vec!["9.9.9.0/24", "2400::2/128"] } else { vec![] },
            allow_loopback: chance.one_in(8),
            ports: 50_000..=50_000 + chance.pick(&[3, 15, 63, 63]),
            families: [!chance.one_in(16), !chance.one_in(8)],
            limits,
            wide_channels: chance.one_in(4),
            allocations: AllocationLimits {
                per_account: chance.pick(&[0, 0, 0, 1, 3]),
                per_source: chance.pick(&[0, 0, 0, 1, 2]),
                total: chance.pick(&[0, 0, 0, 4]),
            },
            ..plain
        }
    }

    /// Both families, room for all, every limit at its default, and nobody kept waiting.
    pub fn plain() -> Setting {
        let user = |name, password, md5_only| User { name, password, md5_only };
        Setting {
            users: vec![
                user(b"alice", b"wonder", false),
                user(b"bob", b"hodcarrier", false),
                user(b"old", b"school", true),
            ],
            secrets: vec![b"the south secret", b"the north secret"],
            max_ttl_s: 86_400,
            strict_expiry: false,
            anonymous: false,
            nonce_lifetime_s: 600,
            rfc8489: true,
            anonymity: false,
            allow: vec![],
            deny: vec![],
            allow_loopback: false,
            relay: RELAY.map(ip).to_vec(),
            local: vec![ip(LOCAL)],
            ports: 50_000..=50_063,
            families: [true, true],
            limits: Limits { unverified_per_second: 0, ..Limits::default() },
            wide_channels: false,
            allocations: AllocationLimits::default(),
            draining: false,
        }
    }

    /// Applies a reload.
    pub fn change(&mut self, change: Change) {
        match change {
            Change::Nothing => {}
            Change::DenyOne => toggle(&mut self.deny, "8.8.8.8/32"),
            Change::DenyV6 => toggle(&mut self.deny, "2400::/64"),
            Change::AllowPrivate => toggle(&mut self.allow, "10.1.0.0/16"),
            Change::Loopback => self.allow_loopback ^= true,
            Change::Local => toggle(&mut self.local, ip("8.8.4.4")),
            Change::Permissions => self.limits.permissions_per_allocation ^= 3,
            Change::Channels => self.limits.channels_per_allocation ^= 2,
            Change::Lifetime => self.limits.lifetime_max_s ^= 1800,
            Change::Bandwidth => self.limits.bytes_per_second ^= 2000,
            Change::Anonymous => self.anonymous ^= true,
            Change::Strict => self.strict_expiry ^= true,
            Change::Password => self.users[1].password = flip(self.users[1].password, b"hodcarrier", b"demolisher"),
            Change::Secrets if self.secrets.is_empty() => self.secrets.push(b"the north secret"),
            Change::Secrets => drop(self.secrets.remove(0)),
            Change::NonceForm => self.rfc8489 ^= true,
            Change::Quota => self.allocations.per_account ^= 2,
            Change::SourceQuota => self.allocations.per_source ^= 1,
            Change::Drain => self.draining ^= true,
            Change::Relay => toggle(&mut self.relay, ip("9.9.9.9")),
            Change::Session => self.limits.session_max_s ^= 700,
        }
    }

    /// The configuration this setting means. `nonce_key` is the world's.
    pub fn config(&self, nonce_key: [u8; 32]) -> Arc<Config> {
        let mut auth = Credentials::new(text(REALM));
        auth.secrets = self.secrets.iter().map(|secret| Secret::new(secret)).collect();
        auth.max_ttl_s = self.max_ttl_s;
        auth.strict_expiry = self.strict_expiry;
        auth.anonymous = self.anonymous;
        for user in &self.users {
            if user.md5_only {
                let key = message::long_term_key(Algorithm::Md5, user.name, REALM, user.password);
                auth.add_user_md5_key(text(user.name), key.try_into().expect("sixteen bytes"));
            } else {
                auth.add_user(text(user.name), text(user.password));
            }
        }
        let blocks = |list: &[&str]| list.iter().map(|block| block.parse().expect("a block")).collect();
        let own = Own { relay: self.relay.clone(), local: self.local.clone(), ports: self.ports.clone() };
        let (allow, deny) = (blocks(&self.allow), blocks(&self.deny));
        Arc::new(Config {
            realm: text(REALM).into(),
            auth,
            nonce: nonce::Config {
                lifetime_s: self.nonce_lifetime_s,
                rfc8489: self.rfc8489,
                anonymity: self.anonymity,
                key: nonce_key,
            },
            policy: PeerPolicy { allow, deny, allow_loopback: self.allow_loopback, own },
            limits: self.limits.clone(),
            channels: if self.wide_channels { ChannelRange::Rfc5766 } else { ChannelRange::Rfc8656 },
        })
    }

    /// The highest channel number taken.
    pub fn last_channel(&self) -> u16 {
        if self.wide_channels { 0x7FFF } else { 0x4FFF }
    }
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("names are text")
}

pub fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

pub fn addr(text: &str) -> SocketAddr {
    text.parse().expect("an address with a port")
}

fn toggle<T: PartialEq>(list: &mut Vec<T>, item: T) {
    match list.iter().position(|held| *held == item) {
        Some(at) => drop(list.remove(at)),
        None => list.push(item),
    }
}

fn flip(now: &'static [u8], one: &'static [u8], other: &'static [u8]) -> &'static [u8] {
    if now == one { other } else { one }
}
