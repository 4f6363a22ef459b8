//! One TLS session: records in, records out.
//!
//! What comes and what goes lies in the caller's buffers; the session holds its keys and the
//! start of a record that is not whole yet.

use rustls::{ServerConfig, ServerConnection};
use std::io::{ErrorKind, Read, Write};
use std::sync::Arc;

/// Longest record with its header, in bytes, rounded up (RFC 8446 §5.2, RFC 5246 §6.2.3).
pub const RECORD_MAX: usize = 20 << 10;
/// What may be sealed at once, in bytes: the longest frame, and its records' overhead.
const SEALED_MAX: usize = 128 << 10;

/// What there was in the records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opened {
    /// Bytes of plaintext.
    pub len: usize,
    /// The other side has ended the session, or has broken it.
    pub over: bool,
    /// It has broken it.
    pub broken: bool,
}

/// The session can not seal anything, now or ever again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unsealed;

/// The server's end of a TLS session.
pub struct Session(ServerConnection);

impl Session {
    /// A session that waits for its first record.
    pub fn new(config: Arc<ServerConfig>) -> Result<Self, rustls::Error> {
        let mut connection = ServerConnection::new(config)?;
        connection.set_buffer_limit(Some(SEALED_MAX));
        Ok(Session(connection))
    }

    /// Whether the handshake is not done.
    pub fn is_handshaking(&self) -> bool {
        self.0.is_handshaking()
    }

    /// Opens `records` into `room`, which must be longer by [`RECORD_MAX`], and puts what the
    /// session has to say behind `out`.
    pub fn open(&mut self, mut records: &[u8], room: &mut [u8], out: &mut Vec<u8>) -> Opened {
        let mut opened = Opened { len: 0, over: false, broken: false };
        while !records.is_empty() && !opened.over {
            // It takes a few kilobytes at a time, and none after the session's end.
            opened.broken = match self.0.read_tls(&mut records) {
                Ok(0) | Err(_) => true,
                Ok(_) => self.0.process_new_packets().is_err(),
            };
            opened.over = opened.broken || self.read(room, &mut opened.len);
        }
        self.flush(out); // also the alert that says why it is over
        opened
    }

    /// Puts the plaintext there is into `room` and says whether it was the last.
    fn read(&mut self, room: &mut [u8], len: &mut usize) -> bool {
        loop {
            match self.0.reader().read(&mut room[*len..]) {
                Ok(0) => return true,
                Ok(new) => *len += new,
                Err(error) => return error.kind() != ErrorKind::WouldBlock,
            }
        }
    }

    /// Replaces the plaintext at the end of `out`, from `at` on, by the records that carry it:
    /// one, if it fits. When that fails, the plaintext is taken away.
    pub fn seal(&mut self, out: &mut Vec<u8>, at: usize) -> Result<(), Unsealed> {
        // Before the handshake is done it would be kept, which nobody needs.
        let sealed = !self.0.is_handshaking() && self.0.writer().write_all(&out[at..]).is_ok();
        out.truncate(at);
        self.flush(out);
        if sealed { Ok(()) } else { Err(Unsealed) }
    }

    /// Puts `close_notify` behind `out`.
    pub fn close(&mut self, out: &mut Vec<u8>) {
        self.0.send_close_notify();
        self.flush(out);
    }

    /// Puts what the session has to say behind `out`.
    fn flush(&mut self, out: &mut Vec<u8>) {
        while self.0.wants_write() {
            if self.0.write_tls(out).is_err() {
                return; // never: a vector takes everything
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::pki_types::{PrivateKeyDer, ServerName};
    use rustls::version::{TLS12, TLS13};
    use rustls::{ClientConfig, ClientConnection, RootCertStore, SupportedProtocolVersion, crypto::aws_lc_rs};
    use std::io::{Read, Write};

    const VERSIONS: [&SupportedProtocolVersion; 2] = [&TLS12, &TLS13];

    /// A session and its client, and what the session has opened so far.
    struct Pair {
        session: Session,
        client: ClientConnection,
        opened: Vec<u8>,
        over: bool,
    }

    /// A server's configuration, and what a client must trust to talk to it.
    fn server() -> (Arc<ServerConfig>, RootCertStore) {
        let own = rcgen::generate_simple_self_signed(["turn.example".to_owned()]).unwrap();
        let key = PrivateKeyDer::try_from(own.signing_key.serialize_der()).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(own.cert.der().clone()).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![own.cert.der().clone()], key)
            .unwrap();
        (Arc::new(config), roots)
    }

    impl Pair {
        fn new(version: &'static SupportedProtocolVersion) -> Self {
            let (server, roots) = server();
            let client = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
                .with_protocol_versions(&[version])
                .unwrap()
                .with_root_certificates(roots)
                .with_no_client_auth();
            let name = ServerName::try_from("turn.example").unwrap();
            let session = Session::new(server).unwrap();
            let client = ClientConnection::new(Arc::new(client), name).unwrap();
            Pair { session, client, opened: Vec::new(), over: false }
        }

        /// A pair whose handshake is done.
        fn connected(version: &'static SupportedProtocolVersion) -> Self {
            let mut pair = Pair::new(version);
            while pair.session.is_handshaking() || pair.client.is_handshaking() {
                pair.carry(usize::MAX);
            }
            pair.carry(usize::MAX);
            pair
        }

        /// Takes records to the session and hands what it says to the client.
        fn deliver(&mut self, records: &[u8]) {
            let (mut room, mut out) = (vec![0; records.len() + RECORD_MAX], Vec::new());
            let opened = self.session.open(records, &mut room, &mut out);
            self.opened.extend_from_slice(&room[..opened.len]);
            self.over |= opened.over;
            self.answer(&out);
        }

        /// Takes what the client has to say to the session, so many bytes at a time.
        fn carry(&mut self, piece: usize) {
            let mut records = Vec::new();
            while self.client.wants_write() {
                self.client.write_tls(&mut records).unwrap();
            }
            for piece in records.chunks(piece) {
                self.deliver(piece);
            }
        }

        /// Hands the session's records to the client and returns what it opens.
        fn answer(&mut self, mut records: &[u8]) -> Vec<u8> {
            let mut plain = Vec::new();
            while !records.is_empty() {
                self.client.read_tls(&mut records).unwrap();
                self.client.process_new_packets().unwrap();
                let _ = self.client.reader().read_to_end(&mut plain); // would block at the end
            }
            plain
        }

        /// What the client gets of a plaintext that the session seals, and in how many records.
        fn seal(&mut self, plain: &[u8]) -> (Vec<u8>, usize) {
            let mut out = [b"what was there", plain].concat();
            let at = out.len() - plain.len();
            self.session.seal(&mut out, at).unwrap();
            assert_eq!(&out[..at], b"what was there");
            let (mut records, mut rest) = (0, &out[at..]);
            while let [_, _, _, high, low, body @ ..] = rest {
                records += 1;
                rest = &body[usize::from(u16::from_be_bytes([*high, *low]))..];
            }
            (self.answer(&out[at..]), records)
        }
    }

    #[test]
    fn records_are_opened_however_they_are_cut() {
        for (version, piece) in VERSIONS.into_iter().flat_map(|v| [(v, 1), (v, 7), (v, 600), (v, usize::MAX)]) {
            let mut pair = Pair::new(version);
            for _ in 0..4 {
                pair.carry(piece);
            }
            assert!(!pair.session.is_handshaking(), "{version:?} in pieces of {piece}");
            for text in ["one", " and ", "two"] {
                pair.client.writer().write_all(text.as_bytes()).unwrap();
            }
            pair.carry(piece);
            assert_eq!((pair.opened.as_slice(), pair.over), (&b"one and two"[..], false));
        }
    }

    #[test]
    fn a_plaintext_is_sealed_into_one_record_if_that_takes_it() {
        for version in VERSIONS {
            let mut pair = Pair::connected(version);
            for (len, records) in [(1, 1), (164, 1), (16 << 10, 1), ((16 << 10) + 1, 2), (65_540, 5)] {
                let plain: Vec<u8> = (0..len).map(|i| i as u8).collect();
                assert!(pair.seal(&plain) == (plain, records), "{version:?}: {len} bytes");
            }
        }
    }

    #[test]
    fn new_keys_are_answered_with_new_keys() {
        let mut pair = Pair::connected(&TLS13);
        for _ in 0..3 {
            pair.client.refresh_traffic_keys().unwrap();
            pair.client.writer().write_all(b"question").unwrap();
            pair.carry(usize::MAX);
            assert_eq!(std::mem::take(&mut pair.opened), b"question");
            assert_eq!(pair.seal(b"answer").0, b"answer");
        }
        assert!(!pair.over);
    }

    #[test]
    fn what_comes_before_the_end_is_opened_and_the_end_is_told() {
        for version in VERSIONS {
            let mut pair = Pair::connected(version);
            pair.client.writer().write_all(b"last words").unwrap();
            pair.client.send_close_notify();
            pair.carry(usize::MAX);
            assert_eq!((pair.opened.as_slice(), pair.over), (&b"last words"[..], true));
            assert_eq!(pair.seal(b"answer").0, b"answer");
            let mut out = Vec::new();
            pair.session.close(&mut out);
            pair.answer(&out);
            assert_eq!(pair.client.reader().read(&mut [0]).unwrap(), 0, "the client is told the end too");
        }
    }

    #[test]
    fn a_broken_hello_is_answered_with_an_alert() {
        let (mut session, mut out) = (Session::new(server().0).unwrap(), Vec::new());
        let opened = session.open(&[0x16, 3, 1, 0, 4, 1, 0, 0, 0], &mut [0; RECORD_MAX], &mut out);
        assert_eq!(opened, Opened { len: 0, over: true, broken: true });
        assert_eq!(out[0], 0x15);
    }

    #[test]
    fn a_handshake_message_without_an_end_is_not_waited_for() {
        let (mut session, mut out) = (Session::new(server().0).unwrap(), Vec::new());
        let mut record = vec![0; 5 + (16 << 10)];
        record[..5].copy_from_slice(&[0x16, 3, 1, 0x40, 0]);
        record[5..9].copy_from_slice(&[1, 0xFF, 0xFF, 0xFF]);
        let mut taken = 0;
        while !session.open(&record, &mut vec![0; record.len() + RECORD_MAX], &mut out).over {
            taken += record.len();
            assert!(taken <= 64 << 10);
            record[5..9].fill(0);
        }
        assert_eq!(session.seal(&mut b"plain".to_vec(), 0), Err(Unsealed));
    }
}
