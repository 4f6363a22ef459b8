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
    pub fn verify(token: &str, key: &[u8; 32], unix_s: u64) -> Option<Grant> {
        if token.len() > TOKEN_LEN_MAX {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
        let (said, signature) = bytes.split_at_checked(bytes.len().checked_sub(MAC_LEN)?)?;
        // In constant time.
        mac(key, said).verify_slice(signature).ok()?;
        let (expiry, room) = said.split_first_chunk::<EXPIRY_LEN>()?;
        let grant = Grant { room: str::from_utf8(room).ok()?.into(), expires_unix_s: u64::from_be_bytes(*expiry) };
        (unix_s < grant.expires_unix_s).then_some(grant)
    }
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
            assert_eq!(Grant::verify(&token, &KEY, 999), Some(grant(room)));
            assert_eq!(Grant::verify(&token, &KEY, 1000), None);
        }
    }

    #[test]
    fn what_was_not_signed_is_no_token() {
        let token = grant("room").sign(&KEY);
        assert_eq!(Grant::verify(&token, &[4; 32], 0), None);
        for len in 0..token.len() {
            assert_eq!(Grant::verify(&token[..len], &KEY, 0), None, "cut to {len}");
        }
        assert_eq!(Grant::verify(&format!("{token}A"), &KEY, 0), None);
        let bytes = URL_SAFE_NO_PAD.decode(&token).unwrap();
        for at in 0..bytes.len() {
            let mut bytes = bytes.clone();
            bytes[at] ^= 1;
            assert_eq!(Grant::verify(&URL_SAFE_NO_PAD.encode(bytes), &KEY, 0), None, "changed at {at}");
        }
        assert_eq!(Grant::verify(&"A".repeat(TOKEN_LEN_MAX + 1), &KEY, 0), None);
    }
}
