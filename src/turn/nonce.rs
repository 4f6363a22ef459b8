//! Nonces that need no memory (RFC 8489 §9.2): a cookie with the feature bits, the time, and a
//! truncated MAC over both and the 5-tuple. A nonce is good for one source only.
//!
//! The key is random, never a credential's; the key in use changes with every day of the clock,
//! and since a nonce names its time, the one it was made with is known.

use super::{FiveTuple, Now};
use crate::wire::integrity::{self, MacKind, Signer};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

const COOKIE: &[u8; 9] = b"obMatJos2";
/// The cookie and four base64 characters of feature bits.
const PREFIX_LEN: usize = COOKIE.len() + 4;
const TIME_LEN: usize = 4;
/// 88 bits: whoever guesses gets one try a request, and the answer to a stranger stays short.
const TAG_LEN: usize = 11;
/// Base64 of time and tag, without padding.
const BODY_LEN: usize = (TIME_LEN + TAG_LEN) / 3 * 4;
/// Longest nonce this server makes, in bytes.
pub const NONCE_LEN_MAX: usize = PREFIX_LEN + BODY_LEN;
/// Longest lifetime, in seconds (RFC 8656 §5: expire it at least once an hour).
pub const LIFETIME_MAX_S: u32 = 3600;
/// How long one key makes nonces, in seconds.
const KEY_LIFETIME_S: u64 = 86_400;

/// How nonces are made.
#[derive(Clone, PartialEq, Eq)]
pub struct Config {
    /// How long a nonce is good, in seconds; at most [`LIFETIME_MAX_S`].
    pub lifetime_s: u32,
    /// Offer RFC 8489's password algorithms. Off: a plain nonce of 20 bytes, as RFC 5389 has it.
    pub rfc8489: bool,
    /// Offer username anonymity; clients then send USERHASH, which only static users can meet.
    pub anonymity: bool,
    /// Random; shared by the workers.
    pub key: [u8; 32],
}

impl Default for Config {
    fn default() -> Self {
        Config { lifetime_s: 600, rfc8489: true, anonymity: false, key: [0; 32] }
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The key is never printed.
        let shown = (self.lifetime_s, self.rfc8489, self.anonymity);
        write!(f, "nonce::Config{shown:?}")
    }
}

impl Config {
    /// The first byte of the feature bits: bit 0 is the most significant (RFC 8489 §18.1).
    fn features(&self) -> u8 {
        u8::from(self.rfc8489) << 7 | u8::from(self.anonymity) << 6
    }

    fn has_prefix(&self) -> bool {
        self.features() != 0
    }
}

/// What a nonce is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// Ours, for this source, and in time.
    Valid,
    /// Anything else: 438.
    Stale,
}

/// A nonce as bytes.
#[derive(Clone, Copy, Debug)]
pub struct Nonce {
    bytes: [u8; NONCE_LEN_MAX],
    len: usize,
}

impl Nonce {
    /// The nonce as NONCE carries it.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// Makes and judges the nonces of one server, and keeps the day's key at hand.
#[derive(Clone, Debug)]
pub struct Mint {
    config: Config,
    day: u64,
    key: Signer,
}

impl Mint {
    /// A mint that works by this configuration.
    pub fn new(config: &Config) -> Self {
        Mint { config: config.clone(), day: 0, key: key_of_day(config, 0) }
    }

    /// Makes a nonce for this source.
    pub fn mint(&mut self, now: Now, tuple: &FiveTuple) -> Nonce {
        let mut nonce = Nonce { bytes: [0; NONCE_LEN_MAX], len: 0 };
        if self.config.has_prefix() {
            nonce.bytes[..COOKIE.len()].copy_from_slice(COOKIE);
            let features = [self.config.features(), 0, 0];
            encode(&features, &mut nonce.bytes[COOKIE.len()..PREFIX_LEN]);
            nonce.len = PREFIX_LEN;
        }
        let time_s = (now.mono_ms / 1000) as u32;
        let mut body = [0; TIME_LEN + TAG_LEN];
        body[..TIME_LEN].copy_from_slice(&time_s.to_be_bytes());
        body[TIME_LEN..].copy_from_slice(&self.tag(time_s, tuple));
        encode(&body, &mut nonce.bytes[nonce.len..nonce.len + BODY_LEN]);
        nonce.len += BODY_LEN;
        nonce
    }

    /// Judges a nonce that came from this source. A nonce whose cookie or feature bits were
    /// edited is one we never made (RFC 8489 §9.2.1).
    pub fn judge(&mut self, now: Now, tuple: &FiveTuple, nonce: &[u8]) -> Judgement {
        // The time is no secret, and one that is over is not worth a key.
        let claim = read(&self.config, nonce).filter(|&(time_s, _)| in_time(&self.config, now, time_s));
        match claim {
            Some((time_s, claimed)) if integrity::same(&self.tag(time_s, tuple), &claimed) => Judgement::Valid,
            _ => Judgement::Stale,
        }
    }

    fn tag(&mut self, time_s: u32, tuple: &FiveTuple) -> [u8; TAG_LEN] {
        let day = u64::from(time_s) / KEY_LIFETIME_S;
        if day != self.day {
            (self.day, self.key) = (day, key_of_day(&self.config, day));
        }
        let (client, server) = (address(tuple.client.0), address(tuple.server));
        let rest = [self.config.features(), tuple.transport as u8];
        let mac = self.key.mac(&[&time_s.to_be_bytes(), &client, &server, &rest]);
        let mut tag = [0; TAG_LEN];
        tag.copy_from_slice(&mac[..TAG_LEN]);
        tag
    }
}

/// Makes a nonce for this source, from the key up.
pub fn mint(config: &Config, now: Now, tuple: &FiveTuple) -> Nonce {
    Mint::new(config).mint(now, tuple)
}

/// Whether the nonce announces password algorithms: its cookie's first feature bit
/// (RFC 8489 §9.2.4 makes the check depend on the nonce the client sent).
pub fn announces_algorithms(nonce: &[u8]) -> bool {
    let Some(features) = nonce.strip_prefix(COOKIE).and_then(|rest| rest.first_chunk::<4>()) else {
        return false;
    };
    let mut bits = [0; 3];
    matches!(STANDARD.decode_slice(features, &mut bits), Ok(3)) && bits[0] & 0x80 != 0
}

fn in_time(config: &Config, now: Now, time_s: u32) -> bool {
    let now_s = (now.mono_ms / 1000) as u32;
    // The seconds wrap with the nonce's 32 bits; one that is ahead is older than any lifetime.
    now_s.wrapping_sub(time_s) <= config.lifetime_s.min(LIFETIME_MAX_S)
}

/// The time a nonce names, and its tag; `None` for one of another form.
fn read(config: &Config, nonce: &[u8]) -> Option<(u32, [u8; TAG_LEN])> {
    let body = if config.has_prefix() {
        let mut features = [0; 4];
        encode(&[config.features(), 0, 0], &mut features);
        nonce.strip_prefix(COOKIE)?.strip_prefix(&features)?
    } else {
        nonce
    };
    let mut raw = [0; TIME_LEN + TAG_LEN];
    if body.len() != BODY_LEN || STANDARD.decode_slice(body, &mut raw).ok()? != raw.len() {
        return None;
    }
    let (time, claimed) = raw.split_first_chunk::<TIME_LEN>()?;
    Some((u32::from_be_bytes(*time), claimed.try_into().ok()?))
}

fn key_of_day(config: &Config, day: u64) -> Signer {
    let key = integrity::hmac_sha256(&config.key, &[b"turnpike nonce", &day.to_be_bytes()]);
    Signer::new(MacKind::Sha256, &key)
}

fn address(addr: SocketAddr) -> [u8; 18] {
    let mut out = [0; 18];
    let ip = match addr.ip() {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    };
    out[..16].copy_from_slice(&ip.octets());
    out[16..].copy_from_slice(&addr.port().to_be_bytes());
    out
}

/// Base64 of a multiple of three bytes into exactly the room it needs.
fn encode(bytes: &[u8], out: &mut [u8]) {
    let len = STANDARD.encode_slice(bytes, out).expect("four characters for every three bytes");
    debug_assert_eq!(len, bytes.len() / 3 * 4);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::turn::{ClientAddr, Transport};

    fn tuple(port: u16) -> FiveTuple {
        FiveTuple {
            client: ClientAddr(SocketAddr::from(([192, 0, 2, 1], port))),
            server: SocketAddr::from(([192, 0, 2, 2], 3478)),
            transport: Transport::Udp,
        }
    }

    fn at(s: u64) -> Now {
        Now { mono_ms: s * 1000, unix_s: 0 }
    }

    fn judge(config: &Config, now: Now, tuple: &FiveTuple, nonce: &[u8]) -> Judgement {
        Mint::new(config).judge(now, tuple, nonce)
    }

    #[test]
    fn the_cookie_names_the_features() {
        for (rfc8489, anonymity, features) in [(true, false, "gAAA"), (false, true, "QAAA"), (true, true, "wAAA")] {
            let config = Config { rfc8489, anonymity, ..Config::default() };
            let nonce = mint(&config, at(9), &tuple(1));
            assert_eq!(&nonce.as_bytes()[9..13], features.as_bytes());
            assert_eq!(announces_algorithms(nonce.as_bytes()), rfc8489);
            assert_eq!(judge(&config, at(9), &tuple(1), nonce.as_bytes()), Judgement::Valid);
        }
        let plain = Config { rfc8489: false, ..Config::default() };
        assert_eq!(mint(&plain, at(9), &tuple(1)).as_bytes().len(), 20);
    }

    #[test]
    fn the_longest_nonce_is_as_long_as_is_said() {
        assert_eq!(mint(&Config::default(), at(9), &tuple(1)).as_bytes().len(), NONCE_LEN_MAX);
        assert_eq!(NONCE_LEN_MAX, 33);
    }

    #[test]
    fn a_nonce_outlives_the_wrap_of_its_seconds_and_none_is_good_ahead_of_its_time() {
        let (config, wrap_s) = (Config::default(), 1 << 32);
        let before = mint(&config, at(wrap_s - 100), &tuple(1));
        assert_eq!(judge(&config, at(wrap_s + 500), &tuple(1), before.as_bytes()), Judgement::Valid);
        assert_eq!(judge(&config, at(wrap_s + 501), &tuple(1), before.as_bytes()), Judgement::Stale);
        let after = mint(&config, at(wrap_s + 1), &tuple(1));
        assert_eq!(judge(&config, at(wrap_s - 1), &tuple(1), after.as_bytes()), Judgement::Stale);
    }

    #[test]
    fn good_for_one_source_one_time_and_one_key() {
        let config = Config::default();
        let nonce = mint(&config, at(100_000), &tuple(1));
        let judge_at = |s, t| judge(&config, at(s), &t, nonce.as_bytes());
        assert_eq!(judge_at(100_600, tuple(1)), Judgement::Valid);
        assert_eq!(judge_at(100_601, tuple(1)), Judgement::Stale);
        assert_eq!(judge_at(99_999, tuple(1)), Judgement::Stale);
        assert_eq!(judge_at(100_000, tuple(2)), Judgement::Stale);
        let other = Config { key: [1; 32], ..Config::default() };
        assert_eq!(judge(&other, at(100_000), &tuple(1), nonce.as_bytes()), Judgement::Stale);
    }

    #[test]
    fn any_edit_makes_it_stale() {
        let config = Config::default();
        let nonce = mint(&config, at(5), &tuple(1));
        for i in 0..nonce.as_bytes().len() {
            let mut edited = nonce.as_bytes().to_vec();
            edited[i] ^= 0x02;
            assert_eq!(judge(&config, at(5), &tuple(1), &edited), Judgement::Stale, "byte {i}");
        }
        for cut in [0, 1, 12, 13, 32] {
            assert_eq!(judge(&config, at(5), &tuple(1), &nonce.as_bytes()[..cut]), Judgement::Stale);
        }
        assert_eq!(judge(&config, at(5), &tuple(1), &[b'A'; 763]), Judgement::Stale);
    }

    #[test]
    fn a_nonce_made_before_the_key_changed_still_counts() {
        let config = Config::default();
        let nonce = mint(&config, at(86_399), &tuple(1));
        assert_eq!(judge(&config, at(86_401), &tuple(1), nonce.as_bytes()), Judgement::Valid);
    }

    #[test]
    fn a_day_has_one_key_and_the_next_another() {
        let config = Config::default();
        let mut one = Mint::new(&config);
        for (s, day) in [(0, 0), (86_399, 0), (86_400, 1), (172_799, 1), (7, 0), (300_000, 3)] {
            let nonce = one.mint(at(s), &tuple(1));
            let (time_s, tag) = read(&config, nonce.as_bytes()).unwrap();
            let (client, server) = (address(tuple(1).client.0), address(tuple(1).server));
            let rest = [config.features(), Transport::Udp as u8];
            let mac = key_of_day(&config, day).mac(&[&time_s.to_be_bytes(), &client, &server, &rest]);
            assert_eq!((u64::from(time_s), &tag[..]), (s, &mac[..TAG_LEN]), "second {s}");
        }
    }

    #[test]
    fn a_mint_judges_on_either_side_of_midnight_whatever_it_did_before() {
        let config = Config::default();
        let mut one = Mint::new(&config);
        let (late, early) = (one.mint(at(86_399), &tuple(1)), one.mint(at(86_400), &tuple(2)));
        assert_eq!(late.as_bytes(), mint(&config, at(86_399), &tuple(1)).as_bytes());
        assert_eq!(early.as_bytes(), mint(&config, at(86_400), &tuple(2)).as_bytes());
        for _ in 0..2 {
            assert_eq!(one.judge(at(86_401), &tuple(1), late.as_bytes()), Judgement::Valid);
            assert_eq!(one.judge(at(86_401), &tuple(2), early.as_bytes()), Judgement::Valid);
        }
        assert_eq!(one.judge(at(86_401), &tuple(1), early.as_bytes()), Judgement::Stale);
    }

    #[test]
    fn what_is_printed_is_all_but_the_key() {
        let config = Config { key: [7; 32], ..Config::default() };
        assert_eq!(format!("{config:?}"), "nonce::Config(600, true, false)");
    }
}
