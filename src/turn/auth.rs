//! Who may allocate: static users and time-limited credentials, side by side
//! (RFC 8489 §9.2, the TURN REST draft).
//!
//! Passwords are turned into keys when they are configured and then forgotten. All
//! comparisons are in constant time, and an unknown name costs what a known one does.

use crate::wire::attribute::PasswordAlgorithm;
use crate::wire::integrity::{self, Key};
use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use zeroize::Zeroizing;

use super::quota::source_prefix;

mod caps;
mod revocations;

pub use caps::{Caps, CapsError};
pub use revocations::{NotRevoked, REVOCATIONS_MAX, REVOKED_LEN_MAX, Revocations};

/// A shared secret of the TURN REST API; wiped when dropped, never printed.
#[derive(Clone)]
pub struct Secret(Zeroizing<Box<[u8]>>);

impl Secret {
    /// A secret of these bytes.
    pub fn new(bytes: &[u8]) -> Self {
        Secret(Zeroizing::new(bytes.into()))
    }

    /// Its length in bytes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The password this secret gives a time-limited username.
    pub fn password(&self, username: &[u8]) -> [u8; integrity::REST_PASSWORD_LEN] {
        integrity::rest_password(&self.0, username)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({} bytes)", self.0.len())
    }
}

#[derive(Clone, Debug)]
struct UserKeys {
    md5: Key,
    /// Absent for a user configured by MD5 key alone.
    sha256: Option<Key>,
}

/// Who may allocate.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// Shared secrets, tried in turn; the first mints.
    pub secrets: Vec<Secret>,
    /// Between expiry and id of a time-limited username.
    pub separator: char,
    /// Longest time ahead an expiry may lie, in seconds.
    pub max_ttl_s: u64,
    /// End an allocation when its credential expires.
    pub strict_expiry: bool,
    /// Let anyone in without credentials.
    pub anonymous: bool,
    realm: Box<str>,
    users: HashMap<Box<[u8]>, UserKeys>,
    hashes: HashMap<[u8; 32], Box<[u8]>>,
}

impl Default for Credentials {
    fn default() -> Self {
        Credentials::new("")
    }
}

/// What proves itself by a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Name<'a> {
    /// USERNAME.
    Plain(&'a [u8]),
    /// USERHASH.
    Hash(&'a [u8; 32]),
}

/// A name that proved itself.
#[derive(Clone, Debug)]
pub struct Proof {
    /// The name, as USERNAME would carry it.
    pub username: Box<[u8]>,
    /// The key that fits.
    pub key: Key,
    /// When the credential expires, in seconds since 1970; `None` for static users.
    pub expires_unix_s: Option<u64>,
    /// What the credential may use.
    pub caps: Caps,
}

/// Why a name did not prove itself. On the wire all are 401.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// No such user, and not a time-limited name.
    Unknown,
    /// The password is wrong.
    Password,
    /// The credential expired this many seconds ago.
    Expired(u64),
    /// The expiry lies further ahead than allowed.
    TooFar,
    /// The operator has revoked it.
    Revoked,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refused::Unknown => f.write_str("unknown user"),
            Refused::Password => f.write_str("wrong password"),
            Refused::Expired(ago_s) => write!(f, "credential expired {ago_s} s ago"),
            Refused::TooFar => f.write_str("expiry too far ahead"),
            Refused::Revoked => f.write_str("revoked"),
        }
    }
}

impl Credentials {
    /// Nobody, in this realm.
    pub fn new(realm: &str) -> Self {
        Credentials {
            secrets: Vec::new(),
            separator: ':',
            max_ttl_s: 86_400,
            strict_expiry: false,
            anonymous: false,
            realm: realm.into(),
            users: HashMap::new(),
            hashes: HashMap::new(),
        }
    }

    /// Adds a user by password, which is not kept (RFC 8656 §6).
    pub fn add_user(&mut self, name: &str, password: &str) {
        let derive = |algorithm| Key::derive(algorithm, name.as_bytes(), self.realm.as_bytes(), password.as_bytes());
        let keys = UserKeys { md5: derive(PasswordAlgorithm::Md5), sha256: Some(derive(PasswordAlgorithm::Sha256)) };
        self.insert(name, keys);
    }

    /// Adds a user by the MD5 key of `name:realm:password`; such a user has no SHA-256 key.
    pub fn add_user_md5_key(&mut self, name: &str, key: [u8; 16]) {
        self.insert(name, UserKeys { md5: Key::from_bytes(&key), sha256: None });
    }

    fn insert(&mut self, name: &str, keys: UserKeys) {
        let hash = integrity::userhash(name.as_bytes(), self.realm.as_bytes());
        self.hashes.insert(hash, name.as_bytes().into());
        self.users.insert(name.as_bytes().into(), keys);
    }

    /// Static users.
    pub fn user_count(&self) -> usize {
        self.users.len()
    }

    /// The plain form of a name; a hash is known only for static users.
    pub fn plain<'a>(&'a self, name: Name<'a>) -> Option<&'a [u8]> {
        match name {
            Name::Plain(name) => Some(name),
            Name::Hash(hash) => self.hashes.get(hash).map(|name| &**name),
        }
    }

    /// Finds the key by which `verify` accepts the message of this name, and hands on what that
    /// gave.
    pub fn prove<T>(
        &self,
        unix_s: u64,
        name: Name<'_>,
        algorithm: PasswordAlgorithm,
        verify: impl Fn(&Key) -> Option<T>,
    ) -> Result<(Proof, T), Refused> {
        let found = self.plain(name);
        let refused = match found.map(|name| (name, self.users.get(name))) {
            Some((name, Some(keys))) => match self.user_key(keys, algorithm) {
                Some(key) => {
                    let verified = verify(key).ok_or(Refused::Password)?;
                    let (username, key) = (name.into(), key.clone());
                    return Ok((Proof { username, key, expires_unix_s: None, caps: Caps::default() }, verified));
                }
                None => Refused::Password,
            },
            Some((name, None)) => match self.timely(name, unix_s) {
                Ok(stamp) => return self.prove_limited(name, stamp, algorithm, verify),
                Err(refused) => refused,
            },
            None => Refused::Unknown,
        };
        // The work a known name would have cost, so that time does not tell one from the other.
        let _ = verify(&Key::from_bytes(&[0; 16]));
        Err(refused)
    }

    fn user_key<'a>(&self, keys: &'a UserKeys, algorithm: PasswordAlgorithm) -> Option<&'a Key> {
        match algorithm {
            PasswordAlgorithm::Md5 => Some(&keys.md5),
            PasswordAlgorithm::Sha256 => keys.sha256.as_ref(),
        }
    }

    fn prove_limited<T>(
        &self,
        name: &[u8],
        stamp: Stamp<'_>,
        algorithm: PasswordAlgorithm,
        verify: impl Fn(&Key) -> Option<T>,
    ) -> Result<(Proof, T), Refused> {
        for secret in &self.secrets {
            let key = Key::derive(algorithm, name, self.realm.as_bytes(), &secret.password(name));
            if let Some(verified) = verify(&key) {
                let expires_unix_s = Some(stamp.expires_unix_s);
                return Ok((Proof { username: name.into(), key, expires_unix_s, caps: stamp.caps }, verified));
            }
        }
        Err(Refused::Password)
    }

    /// Reads a time-limited username whose time is not over, and within `max_ttl_s` from now.
    fn timely<'a>(&self, name: &'a [u8], unix_s: u64) -> Result<Stamp<'a>, Refused> {
        if self.secrets.is_empty() {
            return Err(Refused::Unknown);
        }
        let stamp = self.stamp(name).ok_or(Refused::Unknown)?;
        let left_s = stamp.expires_unix_s.checked_sub(unix_s).filter(|&left_s| left_s > 0);
        match left_s {
            None => Err(Refused::Expired(unix_s - stamp.expires_unix_s)),
            Some(left_s) if left_s > self.max_ttl_s => Err(Refused::TooFar),
            Some(_) => Ok(stamp),
        }
    }

    /// Reads a time-limited username: `expiry`, `expiry:id` or `id:expiry`, with caps behind the
    /// expiry if there are any. The expiry is digits only, at most ten.
    fn stamp<'a>(&self, name: &'a [u8]) -> Option<Stamp<'a>> {
        let (head, tail) = self.split(name);
        if is_expiry_with_faulty_caps(head) {
            return None;
        }
        let (id, expiry) = match (expiry(head), tail.and_then(expiry)) {
            // Two places for caps: which of them counts must not be a matter of taste.
            (Some(_), Some((_, caps))) if !caps.is_none() => return None,
            (Some(first), _) => (tail, first),
            (None, Some(second)) => (Some(head), second),
            (None, None) => return None,
        };
        let (expires_unix_s, caps) = expiry;
        Some(Stamp { expires_unix_s, caps, id: id.filter(|id| !id.is_empty()) })
    }

    /// Whether the operator has revoked this username, or the user id that it is for.
    pub fn is_revoked(&self, revoked: &Revocations, username: &[u8]) -> bool {
        // Of a static user there is no more to say than the name, whatever it looks like.
        let id = || self.stamp(username).filter(|_| !self.users.contains_key(username)).and_then(|stamp| stamp.id);
        // Revoked ids are text: what is not is known to the operator as it is shown.
        let is_listed = |name| revoked.contains(String::from_utf8_lossy(name).as_bytes());
        !revoked.is_empty() && (is_listed(username) || id().is_some_and(is_listed))
    }

    /// Splits at the first separator; the rest may hold more of them.
    fn split<'a>(&self, name: &'a [u8]) -> (&'a [u8], Option<&'a [u8]>) {
        let mut buffer = [0; 4];
        let separator = self.separator.encode_utf8(&mut buffer).as_bytes();
        match name.windows(separator.len()).position(|window| window == separator) {
            Some(at) => (&name[..at], Some(&name[at + separator.len()..])),
            None => (name, None),
        }
    }

    /// Whom allocations of this name are charged to. Two time-limited names of one person
    /// differ in their expiry only, so the id pays. A bare expiry pays by its source, or, where it
    /// caps allocations, for itself: strangers behind one source do not count.
    pub fn account(&self, proof: &Proof, source: IpAddr) -> Box<str> {
        let text = |bytes: &[u8]| Box::from(String::from_utf8_lossy(bytes));
        if proof.expires_unix_s.is_none() {
            return text(&proof.username);
        }
        match self.stamp(&proof.username).and_then(|stamp| stamp.id) {
            Some(id) => text(id),
            None if proof.caps.allocations.is_some() => text(&proof.username),
            None => source_account(source),
        }
    }
}

/// What a time-limited username says.
#[derive(Clone, Copy, Debug)]
struct Stamp<'a> {
    expires_unix_s: u64,
    caps: Caps,
    /// Whom it was made for; `None` when it does not say.
    id: Option<&'a [u8]>,
}

/// The account of a client that gave no id.
pub fn source_account(source: IpAddr) -> Box<str> {
    let prefix = source_prefix(source);
    match source {
        IpAddr::V4(_) => format!("ip {}/24", std::net::Ipv4Addr::from_bits(prefix as u32 & !0xFF)).into(),
        IpAddr::V6(_) => format!("ip {}/56", std::net::Ipv6Addr::from_bits(prefix)).into(),
    }
}

/// Reads an expiry and the caps behind it.
fn expiry(text: &[u8]) -> Option<(u64, Caps)> {
    let end = text.iter().position(|&byte| byte == b'+').unwrap_or(text.len());
    let (expiry, caps) = text.split_at(end);
    Some((digits(expiry)?, std::str::from_utf8(caps).ok()?.parse().ok()?))
}

/// Whether a text begins as an expiry with caps does and is none: whoever made it meant caps, so
/// it is nobody's id.
fn is_expiry_with_faulty_caps(text: &[u8]) -> bool {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    digits > 0 && text.get(digits) == Some(&b'+') && expiry(text).is_none()
}

fn digits(text: &[u8]) -> Option<u64> {
    if text.is_empty() || text.len() > 10 || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_893_400_000;

    fn north() -> Credentials {
        let mut credentials = Credentials::new("example.org");
        credentials.secrets = vec![Secret::new(b"south"), Secret::new(b"north")];
        credentials.add_user("alice", "wonder");
        credentials
    }

    /// Proves a name against the key that `password` would give.
    fn prove(credentials: &Credentials, name: &str, password: &[u8]) -> Result<Proof, Refused> {
        let right = Key::derive(PasswordAlgorithm::Md5, name.as_bytes(), b"example.org", password);
        let verify = |key: &Key| (*key == right).then_some(());
        credentials.prove(NOW, Name::Plain(name.as_bytes()), PasswordAlgorithm::Md5, verify).map(|(proof, ())| proof)
    }

    #[test]
    fn users_and_secrets_work_side_by_side_and_any_secret_verifies() {
        let credentials = north();
        assert!(prove(&credentials, "alice", b"wonder").is_ok());
        assert_eq!(prove(&credentials, "alice", b"x").unwrap_err(), Refused::Password);
        assert_eq!(prove(&credentials, "bob", b"x").unwrap_err(), Refused::Unknown);
        let name = "1893456000:alice";
        for secret in [&b"south"[..], b"north"] {
            assert!(prove(&credentials, name, &integrity::rest_password(secret, name.as_bytes())).is_ok());
        }
        assert_eq!(prove(&credentials, name, b"east").unwrap_err(), Refused::Password);
    }

    #[test]
    fn an_expiry_is_digits_in_the_future_and_not_too_far() {
        let credentials = north();
        let try_name =
            |name: &str| prove(&credentials, name, &integrity::rest_password(b"north", name.as_bytes())).map(|_| ());
        for name in ["1893456000", "1893456000:a", "1893456000:a:b", "a:1893456000", "1893456000:"] {
            assert_eq!(try_name(name), Ok(()), "{name}");
        }
        for name in ["+1893456000:a", " 1893456000:a", "0x70dbd880:a", "18934560001893456000:a", ":a", "a", ""] {
            assert_eq!(try_name(name), Err(Refused::Unknown), "{name}");
        }
        assert_eq!(try_name(&format!("{NOW}:a")), Err(Refused::Expired(0)));
        assert_eq!(try_name(&format!("{}:a", NOW - 12)), Err(Refused::Expired(12)));
        assert_eq!(try_name(&format!("{}:a", NOW + 86_400)), Ok(()));
        assert_eq!(try_name(&format!("{}:a", NOW + 86_401)), Err(Refused::TooFar));
        assert_eq!(try_name("9999999999:a"), Err(Refused::TooFar));
    }

    #[test]
    fn an_expiry_whose_caps_can_not_be_read_is_no_id() {
        let credentials = north();
        let try_name =
            |name: &str| prove(&credentials, name, &integrity::rest_password(b"north", name.as_bytes())).map(|_| ());
        for faulty in ["+a0", "+", "+a1+", "+b1+a1", "+x"] {
            for expiry in ["1893400100", "189340010000"] {
                let name = format!("{expiry}{faulty}:{}", NOW + 80_000);
                assert_eq!(try_name(&name), Err(Refused::Unknown), "{name}");
            }
        }
        for id in ["a+a0", "1893400100x+a0", "1893400100", "189340010000"] {
            assert_eq!(try_name(&format!("{}:{id}", NOW + 80_000)), Ok(()), "{id}");
        }
        for id in ["a+a0", "+a0", "+"] {
            assert_eq!(try_name(&format!("{id}:{}", NOW + 80_000)), Ok(()), "{id}");
        }
        assert_eq!(try_name(&format!("189340010000:{}", NOW + 80_000)), Ok(()));
    }

    #[test]
    fn a_user_without_a_key_for_the_algorithm_costs_what_others_do() {
        let mut credentials = north();
        credentials.add_user_md5_key("old", [7; 16]);
        for name in ["old", "alice", "nobody"] {
            let verified = std::cell::Cell::new(0);
            let verify = |_: &Key| {
                verified.set(verified.get() + 1);
                None::<()>
            };
            let name = Name::Plain(name.as_bytes());
            assert!(credentials.prove(NOW, name, PasswordAlgorithm::Sha256, verify).is_err());
            assert_eq!(verified.get(), 1, "{name:?}");
        }
    }

    #[test]
    fn a_persons_names_share_an_account() {
        let credentials = north();
        let account = |name: &str| {
            let proof = prove(&credentials, name, &integrity::rest_password(b"north", name.as_bytes())).unwrap();
            credentials.account(&proof, "192.0.2.77".parse().unwrap())
        };
        assert_eq!(&*account("1893456000:bob"), "bob");
        assert_eq!(&*account("1893456001:bob"), "bob");
        assert_eq!(&*account("bob:1893456001"), "bob");
        assert_eq!(&*account("1893456000"), "ip 192.0.2.0/24");
        assert_eq!(&*account("1893456000:"), "ip 192.0.2.0/24");
    }

    #[test]
    fn a_userhash_finds_its_user_and_an_md5_key_has_no_sha256() {
        let mut credentials = north();
        credentials.add_user_md5_key("old", [7; 16]);
        let hash = integrity::userhash(b"alice", b"example.org");
        assert_eq!(credentials.plain(Name::Hash(&hash)), Some(&b"alice"[..]));
        assert_eq!(credentials.plain(Name::Hash(&[0; 32])), None);
        let proved = credentials.prove(NOW, Name::Plain(b"old"), PasswordAlgorithm::Sha256, |_| Some(()));
        assert_eq!(proved.unwrap_err(), Refused::Password);
    }

    #[test]
    fn users_and_the_bytes_of_a_secret_are_counted() {
        let mut credentials = north();
        assert_eq!((credentials.user_count(), Credentials::default().user_count()), (1, 0));
        credentials.add_user("bob", "builder");
        assert_eq!(credentials.user_count(), 2);
        let secrets = [&b""[..], b"x", b"south"].map(Secret::new);
        assert_eq!(secrets.each_ref().map(Secret::len), [0, 1, 5]);
        assert_eq!(secrets.each_ref().map(Secret::is_empty), [true, false, false]);
    }

    #[test]
    fn a_refusal_says_why() {
        use Refused::{Expired, Password, Revoked, TooFar, Unknown};
        let said = [Unknown, Password, Expired(12), TooFar, Revoked].map(|refused| refused.to_string());
        let expected =
            ["unknown user", "wrong password", "credential expired 12 s ago", "expiry too far ahead", "revoked"];
        assert_eq!(said, expected);
    }

    #[test]
    fn a_secret_is_not_printed() {
        assert_eq!(format!("{:?}", Secret::new(b"hidden")), "Secret(6 bytes)");
    }
}
