//! Who a request comes from (RFC 8489 §9.2.4, the TURN REST draft).

use super::super::message::{self as m, Algorithm, Reading, Seal};
use super::super::setting::REALM;
use super::{Caps, Model, Path, Reply};
use turnpike::turn::Now;

/// Longest USERNAME, REALM or NONCE that is read (RFC 8489 §14.3).
const TEXT_LEN_MAX: usize = 763;

/// Whom a request is from.
#[derive(Clone, Debug)]
pub(super) struct Grant {
    /// `None` for the anonymous.
    pub name: Option<Vec<u8>>,
    pub key: Option<(Algorithm, Vec<u8>)>,
    pub seal: Option<Seal>,
    /// When a time-limited name expires; known only when it was judged.
    pub expires_s: Option<u64>,
    pub caps: Caps,
    /// It is the user of the allocation on its path.
    pub is_owner: bool,
}

impl Model {
    /// Checks credentials in the RFC's order; the error is the answer.
    pub(super) fn authenticate(&self, now: Now, path: Path, r: &Reading) -> Result<Grant, Reply> {
        let held = self.allocations.get(&path);
        let challenge = |code| Err(self.challenge(r, code));
        if !r.is_signed() {
            let is_owner = held.is_some_and(|allocation| allocation.key.is_none());
            let caps = Caps::default();
            let nobody = Grant { name: None, key: None, seal: None, expires_s: None, caps, is_owner };
            return if self.setting.anonymous { Ok(nobody) } else { challenge(401) };
        }
        let bad = || Err(Reply::error(r, &[400]));
        let text = |kind| r.get(kind).filter(|value| value.len() <= TEXT_LEN_MAX);
        let hash = if text(m::USERNAME).is_none() { r.get(m::USERHASH) } else { None };
        if hash.is_some_and(|hash| hash.len() != 32) || text(m::USERNAME).is_none() && hash.is_none() {
            return bad();
        }
        let (Some(realm), Some(nonce)) = (text(m::REALM), text(m::NONCE)) else { return bad() };
        let Some((algorithm, seal)) = algorithm(r, nonce) else { return bad() };
        if realm != REALM {
            return challenge(401);
        }
        let name = match text(m::USERNAME) {
            Some(name) => Some(name.to_vec()),
            None => self.name_of(hash.expect("one of the two is there")),
        };
        let Some(name) = name else { return challenge(401) };
        let owned = held.filter(|allocation| allocation.user.as_ref() == Some(&name));
        // The key an allocation was made with goes on to serve it, whatever became of the user.
        let kept = owned.and_then(|allocation| allocation.key.clone()).filter(|key| key.0 == algorithm);
        let (keys, expires_s) = match kept {
            Some((_, key)) => (vec![key], None),
            None => self.keys(now, &name, algorithm),
        };
        let Some(key) = keys.into_iter().find(|key| r.is_sealed_by(key)) else { return challenge(401) };
        if self.is_revoked(&name) || owned.is_some_and(|allocation| self.revoked.contains(&allocation.payer)) {
            return challenge(401);
        }
        let again = r.method == m::ALLOCATE && owned.is_some_and(|allocation| allocation.tid == r.tid);
        if !again && !self.is_fresh(now, path, nonce) {
            return challenge(438);
        }
        let (key, seal) = (Some((algorithm, key)), Some(seal));
        let caps = expires_s.and_then(|_| limited(&name)).map_or(Caps::default(), |limited| limited.caps);
        Ok(Grant { name: Some(name), key, seal, expires_s, caps, is_owner: owned.is_some() })
    }

    /// An answer that says how to authenticate.
    fn challenge(&self, r: &Reading, code: u16) -> Reply {
        let mut reply = Reply::error(r, &[code]);
        reply.challenge = true;
        reply.attributes.push((m::REALM, REALM.to_vec()));
        if self.setting.rfc8489 {
            reply.attributes.push((m::PASSWORD_ALGORITHMS, m::ALGORITHMS.to_vec()));
        }
        reply
    }

    fn name_of(&self, hash: &[u8]) -> Option<Vec<u8>> {
        let user = self.setting.users.iter().find(|user| m::userhash(user.name, REALM) == hash)?;
        Some(user.name.to_vec())
    }

    /// The keys a name may prove itself by, and when it expires.
    fn keys(&self, now: Now, name: &[u8], algorithm: Algorithm) -> (Vec<Vec<u8>>, Option<u64>) {
        let key = |password: &[u8]| m::long_term_key(algorithm, name, REALM, password);
        if let Some(user) = self.setting.users.iter().find(|user| user.name == name) {
            let unknown = user.md5_only && algorithm == Algorithm::Sha256;
            return (if unknown { vec![] } else { vec![key(user.password)] }, None);
        }
        match limited(name).map(|limited| limited.expires_s) {
            Some(expires_s) if expires_s > now.unix_s && expires_s <= now.unix_s + self.setting.max_ttl_s => {
                let passwords = self.setting.secrets.iter().map(|secret| m::rest_password(secret, name));
                (passwords.map(|password| key(&password)).collect(), Some(expires_s))
            }
            _ => (vec![], None),
        }
    }

    /// Whether the nonce is one this source was given, in time and in the form now in use.
    fn is_fresh(&self, now: Now, path: Path, nonce: &[u8]) -> bool {
        let Some((to, second, form)) = self.nonces.get(nonce) else { return false };
        let age_s = now.mono_ms / 1000 - second;
        *to == path && age_s <= u64::from(self.setting.nonce_lifetime_s) && *form == self.nonce_prefix()
    }

    /// What every nonce of the form now in use begins with (RFC 8489 §9.2).
    pub fn nonce_prefix(&self) -> Vec<u8> {
        match (self.setting.rfc8489, self.setting.anonymity) {
            (true, true) => b"obMatJos2wAAA".to_vec(),
            (true, false) => b"obMatJos2gAAA".to_vec(),
            (false, true) => b"obMatJos2QAAA".to_vec(),
            (false, false) => vec![],
        }
    }

    /// Whom an allocation is charged to.
    pub(super) fn payer(&self, grant: &Grant, source: std::net::IpAddr) -> String {
        let by_source = || String::from(turnpike::turn::auth::source_account(source));
        let Some(name) = &grant.name else { return by_source() };
        if grant.expires_s.is_none() {
            return String::from_utf8_lossy(name).into_owned();
        }
        let id = limited(name).map_or(String::new(), |limited| limited.id);
        match (id.is_empty(), grant.caps.allocations) {
            (false, _) => id,
            (true, Some(_)) => String::from_utf8_lossy(name).into_owned(),
            (true, None) => by_source(),
        }
    }

    /// Whether a name is revoked: the whole of it, or the user id in it.
    pub(super) fn is_revoked(&self, name: &[u8]) -> bool {
        let is_static = self.setting.users.iter().any(|user| user.name == name);
        let id = limited(name).filter(|_| !is_static).map_or(Vec::new(), |limited| limited.id.into_bytes());
        self.revoked.iter().any(|revoked| revoked.as_bytes() == name || revoked.as_bytes() == id)
    }
}

/// The key's algorithm and the seal of the answer; `None` where the RFC asks for a 400.
fn algorithm(r: &Reading, nonce: &[u8]) -> Option<(Algorithm, Seal)> {
    let is_base64 = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/');
    // The first feature bit is the first of six in the first character: g to z, digits, + and /.
    let offered = nonce
        .strip_prefix(b"obMatJos2")
        .and_then(|rest| rest.first_chunk::<4>())
        .is_some_and(|bits| bits.iter().all(is_base64) && !matches!(bits[0], b'A'..=b'Z' | b'a'..=b'f'));
    match (r.get(m::PASSWORD_ALGORITHMS), r.get(m::PASSWORD_ALGORITHM)) {
        _ if !offered => Some((Algorithm::Md5, Seal::Sha1)),
        (None, None) => Some((Algorithm::Md5, Seal::Sha1)),
        (Some(list), Some([0, 1, 0, 0])) if list == m::ALGORITHMS => Some((Algorithm::Md5, Seal::Sha256)),
        (Some(list), Some([0, 2, 0, 0])) if list == m::ALGORITHMS => Some((Algorithm::Sha256, Seal::Sha256)),
        _ => None,
    }
}

fn is_expiry(text: &str) -> bool {
    (1..=10).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit())
}

/// A time-limited name, taken apart.
struct Limited {
    expires_s: u64,
    caps: Caps,
    /// Empty when it names nobody.
    id: String,
}

/// Reads `expiry`, `expiry:id` or `id:expiry`, with caps behind the expiry.
fn limited(name: &[u8]) -> Option<Limited> {
    let name = std::str::from_utf8(name).ok()?;
    let (head, tail) = name.split_once(':').unwrap_or((name, ""));
    // Digits and a plus can only have been meant as an expiry with caps.
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if head.split_once('+').is_some_and(|(digits, _)| is_number(digits)) && capped(head).is_none() {
        return None;
    }
    let (expiry, id) = match (capped(head), capped(tail)) {
        (Some(_), Some((_, caps))) if caps != Caps::default() => return None,
        (Some(expiry), _) => (expiry, tail),
        (None, Some(expiry)) => (expiry, head),
        (None, None) => return None,
    };
    Some(Limited { expires_s: expiry.0, caps: expiry.1, id: id.to_owned() })
}

/// Reads an expiry and its caps: letters in order, each with a number that begins with 1 to 9.
fn capped(text: &str) -> Option<(u64, Caps)> {
    let mut parts = text.split('+');
    let expiry = parts.next().filter(|expiry| is_expiry(expiry))?;
    let mut caps = Caps::default();
    let mut last = None;
    for part in parts {
        let (letter, digits) = part.split_at_checked(1)?;
        let place = ["a", "r", "b"].iter().position(|known| *known == letter)?;
        let is_number = digits.bytes().all(|b| b.is_ascii_digit()) && !digits.starts_with('0');
        let number: u64 = digits.parse().ok().filter(|_| is_number && last < Some(place))?;
        match place {
            0 => caps.allocations = Some(u32::try_from(number).ok()?),
            1 => caps.rate = Some(number),
            _ => caps.bytes = Some(number),
        }
        last = Some(place);
    }
    Some((expiry.parse().ok()?, caps))
}
