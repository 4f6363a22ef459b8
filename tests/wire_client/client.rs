//! A client: where it is, who it says it is, and what it was last challenged with (RFC 8489 §9.2.3).

use super::message::{Draft, Reply, push_fingerprint, push_mac};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use md5::Md5;
use sha1::Sha1;
use sha2::{Digest, Sha256};
use std::net::SocketAddr;
use turnpike::turn::{ClientAddr, FiveTuple, LinkId, Sender, Transport};
use turnpike::wire::attribute::{self, PasswordAlgorithm};
use turnpike::wire::integrity::MacKind;

/// The realm of every world.
pub const REALM: &str = "example.org";
/// A user of every world: name and password.
pub const ALICE: (&str, &str) = ("alice", "wonderland");
/// Another one.
pub const BOB: (&str, &str) = ("bob", "hodcarrier");
/// The shared secret of every world's time-limited credentials.
pub const SECRET: &[u8] = b"sixteen bytes or more";

/// How a client proves itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// As RFC 5389 has it: MD5 and MESSAGE-INTEGRITY, whatever is offered.
    Rfc5389,
    /// With PASSWORD-ALGORITHMS, PASSWORD-ALGORITHM and MESSAGE-INTEGRITY-SHA256.
    Rfc8489(PasswordAlgorithm),
}

/// One client.
#[derive(Clone, Debug)]
pub struct Client {
    /// Where its datagrams come from.
    pub sender: Sender,
    /// Its name.
    pub name: Vec<u8>,
    /// Its password.
    pub password: Vec<u8>,
    /// The realm it was told.
    pub realm: Vec<u8>,
    /// The nonce it was told.
    pub nonce: Vec<u8>,
    /// How it proves itself.
    pub scheme: Scheme,
    /// It sends USERHASH in place of USERNAME.
    pub hashed: bool,
    /// It ends its messages with FINGERPRINT.
    pub fingerprint: bool,
}

impl Client {
    /// A client that knows the realm but no nonce yet.
    pub fn new(sender: Sender, (name, password): (&str, &str)) -> Self {
        Client {
            sender,
            name: name.into(),
            password: password.into(),
            realm: REALM.into(),
            nonce: Vec::new(),
            scheme: Scheme::Rfc5389,
            hashed: false,
            fingerprint: false,
        }
    }

    /// The sender at this address, to this server.
    pub fn sender(client: SocketAddr, server: SocketAddr, transport: Transport) -> Sender {
        let link = LinkId(u64::from(client.port()));
        Sender { tuple: FiveTuple { client: ClientAddr(client), server, transport }, link }
    }

    /// The key of its credentials (RFC 8489 §18.5.1).
    pub fn key(&self) -> Vec<u8> {
        let text = [&self.name[..], &self.realm, &self.password].join(&b':');
        match self.algorithm() {
            PasswordAlgorithm::Md5 => Md5::digest(&text).to_vec(),
            PasswordAlgorithm::Sha256 => Sha256::digest(&text).to_vec(),
        }
    }

    fn algorithm(&self) -> PasswordAlgorithm {
        match self.scheme {
            Scheme::Rfc5389 => PasswordAlgorithm::Md5,
            Scheme::Rfc8489(algorithm) => algorithm,
        }
    }

    /// The integrity attribute it uses and expects.
    pub fn mac(&self) -> MacKind {
        match self.scheme {
            Scheme::Rfc5389 => MacKind::Sha1,
            Scheme::Rfc8489(_) => MacKind::Sha256,
        }
    }

    /// Adds name, realm, nonce and algorithms to a message.
    pub fn introduce(&self, draft: Draft) -> Draft {
        let draft = match self.hashed {
            false => draft.with(attribute::USERNAME, &self.name[..]),
            true => {
                let hash = Sha256::digest([&self.name[..], &self.realm].join(&b':'));
                draft.with(attribute::USERHASH, &hash[..])
            }
        };
        let draft = draft.with(attribute::REALM, &self.realm[..]).with(attribute::NONCE, &self.nonce[..]);
        match self.scheme {
            Scheme::Rfc5389 => draft,
            Scheme::Rfc8489(algorithm) => draft
                .with(attribute::PASSWORD_ALGORITHMS, [0, 2, 0, 0, 0, 1, 0, 0])
                .with(attribute::PASSWORD_ALGORITHM, algorithm.encode()),
        }
    }

    /// Encodes a message that names the client, and signs it.
    pub fn sign(&self, draft: Draft) -> Vec<u8> {
        self.seal(&self.introduce(draft))
    }

    /// Encodes and signs a message as it is.
    pub fn seal(&self, draft: &Draft) -> Vec<u8> {
        let mut message = draft.encode();
        push_mac(&mut message, self.mac(), &self.key());
        if self.fingerprint {
            push_fingerprint(&mut message);
        }
        message
    }

    /// Takes realm and nonce from a challenge.
    pub fn learn(&mut self, challenge: &Reply) {
        self.realm = challenge.get(attribute::REALM).expect("a challenge has a realm").to_vec();
        self.nonce = challenge.get(attribute::NONCE).expect("a challenge has a nonce").to_vec();
    }
}

/// The password of a time-limited name under [`SECRET`].
pub fn rest_password(name: &str) -> String {
    let mac = Hmac::<Sha1>::new_from_slice(SECRET).expect("HMAC takes a key of any length");
    STANDARD.encode(mac.chain_update(name).finalize().into_bytes())
}

/// An address from its text.
pub fn peer(text: &str) -> SocketAddr {
    text.parse().expect("the test names an address and a port")
}
