//! Room tokens: what lets a page of this server ask for credentials without an API key.
//!
//! A token is the base64url of expiry, room and HMAC-SHA256. It is in a URL that clients are
//! told (`ice_server_url`), because clients of AppRTC can carry it nowhere else.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// Bytes of the expiry, seconds since 1970.
const EXPIRY_LEN: usize = 8;
/// Bytes of the signature.
const MAC_LEN: usize = 32;
/// Characters of a token; no room's name is as long.
const TOKEN_LEN_MAX: usize = 512;
/// How far ahead a token may end at most, and how long ago it may have ended to still be
/// taken for one of ours, in seconds.
const PLAUSIBLE_S: u64 = 7 * 86_400;
/// Signed with each token, so that the key's signatures of anything else are no tokens.
const LABEL: &[u8] = b"turnpike room token v1";

/// What a token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The room; empty for the pages that are in none.
    pub room: String,
    /// Until when, in seconds since 1970.
    pub expires_unix_s: u64,
}

/// Why a text is no token that counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoGrant {
    /// It has the form of a token, but its time is over, or its key is from before a restart. A page that
    /// stayed open sends such; nobody guesses 256 bits.
    Stale,
    /// It is something else.
    Foreign,
}

impl Grant {
    /// Signs it.
    pub fn sign(&self, key: &[u8; 32]) -> String {
        let mut token = self.expires_unix_s.to_be_bytes().to_vec();
        token.extend_from_slice(self.room.as_bytes());
        let mac = mac(key, &token).finalize().into_bytes();
        token.extend_from_slice(&mac);
        URL_SAFE_NO_PAD.encode(token)
    }

    /// Reads a token that is signed by this key and has not expired.
    pub fn verify(token: &str, key: &[u8; 32], unix_s: u64) -> Result<Grant, NoGrant> {
        let bytes = decode(token).ok_or(NoGrant::Foreign)?;
        let (said, signature) = bytes.split_at(bytes.len() - MAC_LEN);
        let (expiry, room) = said.split_first_chunk::<EXPIRY_LEN>().ok_or(NoGrant::Foreign)?;
        let expires_unix_s = u64::from_be_bytes(*expiry);
        // In constant time.
        let is_signed = mac(key, said).verify_slice(signature).is_ok();
        match str::from_utf8(room) {
            Ok(room) if is_signed && unix_s < expires_unix_s => Ok(Grant { room: room.into(), expires_unix_s }),
            _ if expires_unix_s.abs_diff(unix_s) < PLAUSIBLE_S => Err(NoGrant::Stale),
            _ => Err(NoGrant::Foreign),
        }
    }
}

/// The bytes of a token, of which there are enough for its parts.
fn decode(token: &str) -> Option<Vec<u8>> {
    let bytes = URL_SAFE_NO_PAD.decode(token).ok().filter(|_| token.len() <= TOKEN_LEN_MAX)?;
    (bytes.len() >= EXPIRY_LEN + MAC_LEN).then_some(bytes)
}

fn mac(key: &[u8; 32], said: &[u8]) -> Hmac<Sha256> {
    // HMAC fills a key up to its block with zeros.
    let mut block = [0; 64];
    block[..key.len()].copy_from_slice(key);
    Hmac::<Sha256>::new(&block.into()).chain_update(LABEL).chain_update(said)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: [u8; 32] = [3; 32];

    fn grant(room: &str) -> Grant {
        Grant { room: room.into(), expires_unix_s: 1000 }
    }

    #[test]
    fn a_token_says_its_room_until_it_expires() {
        for room in ["", "a", "A_room-1", "raum ü"] {
            let token = grant(room).sign(&KEY);
            assert_eq!(Grant::verify(&token, &KEY, 999), Ok(grant(room)));
            assert_eq!(Grant::verify(&token, &KEY, 1000), Err(NoGrant::Stale));
            assert_eq!(Grant::verify(&token, &KEY, 1000 + PLAUSIBLE_S), Err(NoGrant::Foreign), "long ago");
            assert_eq!(Grant::verify(&token, &[4; 32], 999), Err(NoGrant::Stale), "from before a restart");
        }
    }

    #[test]
    fn what_was_not_signed_is_no_token() {
        let token = grant("room").sign(&KEY);
        for len in 0..token.len() {
            assert!(Grant::verify(&token[..len], &KEY, 0).is_err(), "cut to {len}");
        }
        assert!(Grant::verify(&format!("{token}A"), &KEY, 0).is_err());
        let bytes = URL_SAFE_NO_PAD.decode(&token).unwrap();
        for at in 0..bytes.len() {
            let mut bytes = bytes.clone();
            bytes[at] ^= 1;
            assert!(Grant::verify(&URL_SAFE_NO_PAD.encode(bytes), &KEY, 0).is_err(), "changed at {at}");
        }
    }

    #[test]
    fn a_guess_is_foreign() {
        let longest = URL_SAFE_NO_PAD.encode([0; TOKEN_LEN_MAX / 4 * 3]);
        assert_eq!(longest.len(), TOKEN_LEN_MAX);
        assert_eq!(Grant::verify(&longest, &KEY, 0), Err(NoGrant::Stale));
        assert_eq!(Grant::verify(&format!("{longest}AAAA"), &KEY, 0), Err(NoGrant::Foreign));
        let now_s = 1_800_000_000;
        for guess in ["", "secret", "a-key-of-some-application", &"A".repeat(60), "%%%"] {
            assert_eq!(Grant::verify(guess, &KEY, now_s), Err(NoGrant::Foreign), "{guess}");
        }
    }
}
