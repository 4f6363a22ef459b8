//! Keys, MESSAGE-INTEGRITY, FINGERPRINT and the hashes of credentials
//! (RFC 8489 §9.2.2, §14.4–14.7; the TURN REST draft).
//!
//! Comparisons are in constant time; keys are wiped when dropped and never printed.

use super::attribute::{self, PasswordAlgorithm};
use super::stun::{ATTRIBUTE_HEADER_LEN, HEADER_LEN};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::KeyInit;
use hmac::block_api::HmacCore;
use hmac::digest::block_api::{Buffer, BufferKindUser, FixedOutputCore, UpdateCore};
use hmac::digest::block_buffer::Eager;
use md5::Md5;
use sha1::Sha1;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroize;

/// Longest key, in bytes.
const KEY_LEN_MAX: usize = 32;

/// A long-term key: 16 bytes from MD5 or 32 from SHA-256. What a server keeps in place of
/// the password (RFC 8656 §6).
#[derive(Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(from = "Vec<u8>", into = "Vec<u8>")]
pub struct Key {
    bytes: [u8; KEY_LEN_MAX],
    len: u8,
}

impl Key {
    /// A key given as bytes; what is beyond 32 bytes is cut off.
    pub fn from_bytes(key: &[u8]) -> Self {
        let len = key.len().min(KEY_LEN_MAX);
        let mut bytes = [0; KEY_LEN_MAX];
        bytes[..len].copy_from_slice(&key[..len]);
        Key { bytes, len: len as u8 }
    }

    /// Derives the key of `username:realm:password` (RFC 8489 §9.2.2, §18.5.1). Quotes and
    /// trailing NULs are removed; the strings are otherwise taken as the bytes they are.
    pub fn derive(algorithm: PasswordAlgorithm, username: &[u8], realm: &[u8], password: &[u8]) -> Self {
        let (username, realm) = (trim(username), trim(realm));
        let password = trim_nul(password);
        match algorithm {
            PasswordAlgorithm::Md5 => Key::from_bytes(&digest::<Md5>(username, realm, password)),
            PasswordAlgorithm::Sha256 => Key::from_bytes(&digest::<Sha256>(username, realm, password)),
        }
    }

    /// The key's bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

impl From<Vec<u8>> for Key {
    fn from(bytes: Vec<u8>) -> Self {
        Key::from_bytes(&bytes)
    }
}

impl From<Key> for Vec<u8> {
    fn from(key: Key) -> Self {
        key.as_bytes().to_vec()
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        self.bytes.zeroize();
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Key({} bytes)", self.len)
    }
}

fn trim(text: &[u8]) -> &[u8] {
    let text = trim_nul(text);
    text.strip_prefix(b"\"").and_then(|t| t.strip_suffix(b"\"")).unwrap_or(text)
}

fn trim_nul(text: &[u8]) -> &[u8] {
    let end = text.iter().rposition(|&b| b != 0).map_or(0, |last| last + 1);
    &text[..end]
}

fn digest<D: Digest>(username: &[u8], realm: &[u8], password: &[u8]) -> hmac::digest::Output<D> {
    let mut hash = D::new();
    for part in [username, b":", realm, b":", password] {
        hash.update(part);
    }
    hash.finalize()
}

/// USERHASH: SHA-256 of `username:realm` (RFC 8489 §14.4).
pub fn userhash(username: &[u8], realm: &[u8]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(username);
    hash.update(b":");
    hash.update(realm);
    hash.finalize().into()
}

/// Length of a TURN REST password: 20 bytes in base64.
pub const REST_PASSWORD_LEN: usize = 28;

/// The password of a time-limited credential: base64(HMAC-SHA1(secret, username)).
pub fn rest_password(secret: &[u8], username: &[u8]) -> [u8; REST_PASSWORD_LEN] {
    let mac = Signer::new(MacKind::Sha1, secret).mac(&[username]);
    let mut out = [0; REST_PASSWORD_LEN];
    let len = STANDARD
        .encode_slice(&mac[..MacKind::Sha1.len()], &mut out)
        .expect("28 characters hold the base64 of 20 bytes");
    debug_assert_eq!(len, REST_PASSWORD_LEN);
    out
}

/// HMAC-SHA256 over several pieces, for values only the server itself reads.
pub fn hmac_sha256(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    Signer::new(MacKind::Sha256, key).mac(parts)
}

/// Compares secrets without telling by time where they differ.
pub fn same(a: &[u8], b: &[u8]) -> bool {
    a.ct_eq(b).into()
}

/// Which integrity attribute a message uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MacKind {
    /// MESSAGE-INTEGRITY, 20 bytes.
    Sha1,
    /// MESSAGE-INTEGRITY-SHA256, 32 bytes in TURN.
    Sha256,
}

impl MacKind {
    /// The attribute that carries it.
    pub const fn attribute(self) -> u16 {
        match self {
            MacKind::Sha1 => attribute::MESSAGE_INTEGRITY,
            MacKind::Sha256 => attribute::MESSAGE_INTEGRITY_SHA256,
        }
    }

    /// Bytes of its value.
    pub const fn len(self) -> usize {
        match self {
            MacKind::Sha1 => 20,
            MacKind::Sha256 => 32,
        }
    }

    /// Never; a MAC has bytes.
    pub const fn is_empty(self) -> bool {
        false
    }
}

/// A key made ready for MACs of one kind: what depends on the key alone is computed once.
#[derive(Clone)]
pub struct Signer(Keyed);

#[derive(Clone)]
enum Keyed {
    Sha1(HmacCore<Sha1>),
    Sha256(HmacCore<Sha256>),
}

impl Signer {
    /// A signer with a key of any length.
    pub fn new(kind: MacKind, key: &[u8]) -> Self {
        fn keyed<M: KeyInit>(key: &[u8]) -> M {
            M::new_from_slice(key).expect("HMAC takes a key of any length")
        }
        Signer(match kind {
            MacKind::Sha1 => Keyed::Sha1(keyed(key)),
            MacKind::Sha256 => Keyed::Sha256(keyed(key)),
        })
    }

    /// The kind of its MACs.
    pub const fn kind(&self) -> MacKind {
        match self.0 {
            Keyed::Sha1(_) => MacKind::Sha1,
            Keyed::Sha256(_) => MacKind::Sha256,
        }
    }

    /// The MAC over several pieces; bytes beyond the kind's length are zero.
    pub fn mac(&self, parts: &[&[u8]]) -> [u8; 32] {
        fn run<C>(mut core: C, parts: &[&[u8]]) -> [u8; 32]
        where
            C: UpdateCore + FixedOutputCore + BufferKindUser<BufferKind = Eager>,
        {
            let mut buffer = Buffer::<C>::default();
            for part in parts {
                buffer.digest_blocks(part, |blocks| core.update_blocks(blocks));
            }
            let mut tag = Default::default();
            core.finalize_fixed_core(&mut buffer, &mut tag);
            let mut out = [0; 32];
            out[..tag.len()].copy_from_slice(&tag);
            out
        }
        match &self.0 {
            Keyed::Sha1(core) => run(core.clone(), parts),
            Keyed::Sha256(core) => run(core.clone(), parts),
        }
    }

    /// The MAC of a message whose integrity attribute begins at `at`: over everything before
    /// it, with the header's length set to the attribute's end (RFC 8489 §14.5, §14.6).
    pub(super) fn mac_of_message(&self, message: &[u8], at: usize) -> [u8; 32] {
        let end = at + ATTRIBUTE_HEADER_LEN + self.kind().len();
        let length = ((end - HEADER_LEN) as u16).to_be_bytes();
        self.mac(&[&message[..2], &length, &message[4..at]])
    }

    /// Whether the integrity attribute at `at`, of this signer's kind, is right.
    pub(super) fn verify(&self, message: &[u8], at: usize) -> bool {
        let len = usize::from(u16::from_be_bytes([message[at + 2], message[at + 3]]));
        if len != self.kind().len() {
            return false;
        }
        let claimed = &message[at + ATTRIBUTE_HEADER_LEN..][..len];
        same(&self.mac_of_message(message, at)[..len], claimed)
    }
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Signer({:?})", self.kind())
    }
}

/// FINGERPRINT's value for an attribute at `at`: CRC-32 of what precedes it, with the header's
/// length set to the attribute's end, XOR 0x5354554E (RFC 8489 §14.7).
pub(super) fn fingerprint(message: &[u8], at: usize) -> [u8; 4] {
    let length = ((at + 8 - HEADER_LEN) as u16).to_be_bytes();
    let mut crc = crc32fast::Hasher::new();
    crc.update(&message[..2]);
    crc.update(&length);
    crc.update(&message[4..at]);
    (crc.finalize() ^ 0x5354_554E).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|b| format!("{b:02x}")).collect()
    }

    #[test]
    fn keys_are_those_of_the_rfc() {
        let md5 = Key::derive(PasswordAlgorithm::Md5, b"user", b"realm", b"pass");
        assert_eq!(hex(md5.as_bytes()), "8493fbc53ba582fb4c044c456bdc40eb");
        let sha = Key::derive(PasswordAlgorithm::Sha256, b"user", b"realm", b"pass");
        assert!(hex(sha.as_bytes()).starts_with("07e93411") && hex(sha.as_bytes()).ends_with("251b"));
        let quoted = Key::derive(PasswordAlgorithm::Md5, b"\"user\"\0", b"\"realm\"", b"pass\0\0");
        assert_eq!(quoted, md5);
    }

    #[test]
    fn a_rest_password_is_the_drafts() {
        assert_eq!(&rest_password(b"north", b"1893456000:alice"), b"MME/7rvfb/gOjpkB59+7AxlCLvk=");
    }

    #[test]
    fn a_key_is_not_printed() {
        assert_eq!(format!("{:?}", Key::from_bytes(b"secret")), "Key(6 bytes)");
    }
}
