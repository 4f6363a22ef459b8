//! The certificate of TLS listeners: read, matched with its key, and refused with what to do.

use super::document::read_limited;
use super::fault::Fault;
use super::file::Tls;
use super::layers::Origins;
use crate::http::Certificate;
use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use x509_parser::extensions::GeneralName;

/// Protocols offered (RFC 7443), and the one a browser that opens the address asks for. A
/// client that offers none is served; one that offers only others is refused.
pub const ALPN: [&[u8]; 3] = [b"stun.turn", b"stun.nat-discovery", b"http/1.1"];

/// ALPN of HTTPS: HTTP/1.1 alone.
pub const ALPN_HTTP: &[u8] = b"http/1.1";

/// A certificate with its key, which can be replaced while connections use it: those that are
/// there keep the old one.
#[derive(Clone, Debug)]
pub struct Identity {
    current: Arc<ArcSwap<CertifiedKey>>,
}

impl Identity {
    /// Reads the certificate as configured; `None` without one.
    pub fn read(tls: &Tls, origins: &Origins) -> Result<Option<Self>, Fault> {
        let Some(cert) = Pem::read("tls.cert", [("tls.cert", &tls.cert), ("tls.key", &tls.key)], origins)? else {
            return Ok(None);
        };
        let Some(key) = Pem::read("tls.key", [("tls.key", &tls.key), ("tls.cert", &tls.cert)], origins)? else {
            return Ok(None);
        };
        let identity = Identity::new(cert.chain()?, key.private_key()?).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => key
                .fault(format!("the private key in {} is not that of the certificate in {}", key.name(), cert.name()))
                .hint("the first certificate of the chain is the server's own; renew both files together"),
            error => cert.fault(format!("the certificate in {} can not be used: {error}", cert.name())),
        })?;
        Ok(Some(identity))
    }

    /// A chain, the server's own certificate first, and its key.
    pub fn new(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Result<Self, rustls::Error> {
        let certified = CertifiedKey::from_der(chain, key, &provider())?;
        Ok(Identity { current: Arc::new(ArcSwap::from_pointee(certified)) })
    }

    /// From now on, presents what another identity presents.
    pub fn follow(&self, other: &Identity) {
        self.current.store(other.current.load_full());
    }

    /// For TURN over TLS.
    pub fn turn(&self) -> Result<Arc<ServerConfig>, rustls::Error> {
        self.server_config(&ALPN)
    }

    /// For HTTPS.
    pub fn https(&self) -> Result<Arc<ServerConfig>, rustls::Error> {
        self.server_config(&[ALPN_HTTP])
    }

    fn server_config(&self, alpn: &[&[u8]]) -> Result<Arc<ServerConfig>, rustls::Error> {
        let mut config = ServerConfig::builder_with_provider(Arc::new(provider()))
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(self.clone()));
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        // One ticket is enough for a client that comes back, and one message less to send.
        config.send_tls13_tickets = 1;
        Ok(Arc::new(config))
    }

    /// What the certificate says of itself; `None` when that can not be read.
    pub fn certificate(&self) -> Option<Certificate> {
        let current = self.current.load();
        let (_, own) = x509_parser::parse_x509_certificate(current.cert.first()?).ok()?;
        let names = own.subject_alternative_name().ok().flatten().map(|names| &names.value.general_names);
        let names = names.into_iter().flatten().filter_map(|name| match name {
            GeneralName::DNSName(name) => Some((*name).to_owned()),
            GeneralName::IPAddress(bytes) => match bytes.len() {
                4 => <[u8; 4]>::try_from(*bytes).ok().map(|ip| IpAddr::from(ip).to_string()),
                _ => <[u8; 16]>::try_from(*bytes).ok().map(|ip| IpAddr::from(ip).to_string()),
            },
            _ => None,
        });
        Some(Certificate {
            names: names.collect(),
            issuer: own.issuer().to_string(),
            not_after_unix_s: u64::try_from(own.validity().not_after.timestamp()).unwrap_or(0),
        })
    }
}

impl ResolvesServerCert for Identity {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load_full())
    }
}

fn provider() -> CryptoProvider {
    rustls::crypto::aws_lc_rs::default_provider()
}

/// A PEM file and the key of the configuration that leads to it.
struct Pem<'a> {
    key: &'static str,
    path: PathBuf,
    bytes: zeroize::Zeroizing<Vec<u8>>,
    origins: &'a Origins,
}

impl<'a> Pem<'a> {
    /// Reads the first file that is named: certificate and key may share one.
    fn read(purpose: &str, named: [(&'static str, &String); 2], origins: &'a Origins) -> Result<Option<Self>, Fault> {
        let Some((key, path)) = named.into_iter().find(|(_, path)| !path.is_empty()) else { return Ok(None) };
        let path = origins.path(key, path);
        match read_limited(&path) {
            Ok(bytes) => Ok(Some(Pem { key, path, bytes: bytes.into(), origins })),
            Err(error) => Err(origins
                .fault(key, format!("{purpose}: {} can not be read: {error}", path.display()))
                .hint("check the path, and that the user turnpike runs as may read the file")),
        }
    }

    fn name(&self) -> std::path::Display<'_> {
        self.path.display()
    }

    fn fault(&self, what: String) -> Fault {
        self.origins.fault(self.key, what)
    }

    fn chain(&self) -> Result<Vec<CertificateDer<'static>>, Fault> {
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&self.bytes).collect();
        let chain = chain.map_err(|error| self.fault(format!("{} is damaged: {error}", self.name())))?;
        match chain.is_empty() {
            true => Err(self.fault(format!("{} holds no PEM certificate", self.name()))),
            false => Ok(chain),
        }
    }

    fn private_key(&self) -> Result<PrivateKeyDer<'static>, Fault> {
        use rustls::pki_types::pem::Error;
        let encrypted = b"BEGIN ENCRYPTED PRIVATE KEY";
        PrivateKeyDer::from_pem_slice(&self.bytes).map_err(|error| match error {
            Error::NoItemsFound if self.bytes.windows(encrypted.len()).any(|window| window == encrypted) => self
                .fault(format!("the private key in {} is encrypted", self.name()))
                .hint(format!("`openssl pkey -in {} -out plain.pem` decrypts it", self.name())),
            Error::NoItemsFound => self
                .fault(format!("{} holds no PEM private key", self.name()))
                .hint("name the file that does in tls.key"),
            error => self.fault(format!("{} is damaged: {error}", self.name())),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Inputs, load};

    /// turn.example.org, P-256, for these tests alone.
    const CERTIFICATE: &str = "\
-----BEGIN CERTIFICATE-----
MIIBqzCCAVCgAwIBAgIUZG/jfr5rzxAw3R62qVsOMjR7e+0wCgYIKoZIzj0EAwIw
GzEZMBcGA1UEAwwQdHVybi5leGFtcGxlLm9yZzAgFw0yNjExMjEwMzA5MDFaGA8y
MTI2MTAyODAzMDkwMVowGzEZMBcGA1UEAwwQdHVybi5leGFtcGxlLm9yZzBZMBMG
ByqGSM49AgEGCCqGSM49AwEHA0IABDl2WNAE18in+M5blrlt/WlB9XJ9RYh0rSGF
AOrBKycbQs6/kNGY+/c+nLcGAXq1ROznCgO3lJJMbyeNoCIHDGWjcDBuMB0GA1Ud
DgQWBBRVhdbcZebOWIcF6ZXtd357mhgQhzAfBgNVHSMEGDAWgBRVhdbcZebOWIcF
6ZXtd357mhgQhzAPBgNVHRMBAf8EBTADAQH/MBsGA1UdEQQUMBKCEHR1cm4uZXhh
bXBsZS5vcmcwCgYIKoZIzj0EAwIDSQAwRgIhAObS1hbbRmClqHFf5go6mF5/VEd2
oiJaAn+b6+2VJdV6AiEA5ImqYD6oWPjzSAjswJYFzEvB2/p8QWvUsSo/A0Bzqoc=
-----END CERTIFICATE-----
";
    /// Its key.
    const KEY: &str = "\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg6Fb7KK409G2KYFHY
trHFSrWennN8ikJEMkWcZlJp7nuhRANCAAQ5dljQBNfIp/jOW5a5bf1pQfVyfUWI
dK0hhQDqwSsnG0LOv5DRmPv3Ppy3BgF6tUTs5woDt5SSTG8njaAiBwxl
-----END PRIVATE KEY-----
";
    /// Another one.
    const OTHER_KEY: &str = "\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgfGulgWuW5ru/M5sf
/uMfADIMuTVfrGVOzlU7DdaGZQihRANCAATKbAhJNwJWIhSGlL3R2nP3ecJg3f34
nsQvYpIZsdvFq159bsiVQXuJYHXT/NFg5k0VkeI1O+BConTfQlC/aGQ3
-----END PRIVATE KEY-----
";

    /// Loads `[tls]` from a directory with these files.
    fn read(name: &str, files: &[(&str, &str)], tls: &str) -> Result<Option<Identity>, String> {
        let directory = std::env::temp_dir().join(format!("turnpike-tls-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        for (file, text) in files {
            std::fs::write(directory.join(file), text).unwrap();
        }
        let file = directory.join("t.toml");
        std::fs::write(&file, format!("[tls]\n{tls}\n")).unwrap();
        let loaded = load(&Inputs { files: vec![file], ..Inputs::default() }).unwrap();
        let identity = Identity::read(&loaded.file.tls, &loaded.origins);
        std::fs::remove_dir_all(&directory).unwrap();
        identity.map_err(|fault| fault.to_string().replace(&format!("{}/", directory.display()), ""))
    }

    #[test]
    fn certificate_and_key_may_share_a_file_in_any_order() {
        let (cert_first, key_first) = (format!("{CERTIFICATE}{KEY}"), format!("words\n{KEY}{CERTIFICATE}"));
        let files = [("c.pem", CERTIFICATE), ("k.pem", KEY), ("ck.pem", &cert_first), ("kc.pem", &key_first)];
        for (at, tls) in [
            "cert = \"c.pem\"\nkey = \"k.pem\"",
            "cert = \"ck.pem\"",
            "cert = \"kc.pem\"\nkey = \"kc.pem\"",
            "cert = \"c.pem\"\nkey = \"ck.pem\"",
            "key = \"kc.pem\"",
        ]
        .into_iter()
        .enumerate()
        {
            let identity = read(&format!("order-{at}"), &files, tls).unwrap().expect(tls);
            let config = identity.turn().unwrap();
            assert_eq!(config.alpn_protocols, ALPN);
            assert_eq!(config.send_tls13_tickets, 1);
            assert_eq!(identity.https().unwrap().alpn_protocols, [ALPN_HTTP]);
            let certificate = identity.certificate().unwrap();
            assert_eq!(certificate.names, ["turn.example.org"]);
            assert_eq!(
                (certificate.issuer.as_str(), certificate.not_after_unix_s),
                ("CN=turn.example.org", 4_948_830_541)
            );
        }
        assert!(read("none", &[], "").unwrap().is_none());
    }

    /// A list with its length before it, in 16 bits.
    fn long(bytes: &[u8]) -> Vec<u8> {
        [&u16::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat()
    }

    /// A ClientHello for a P-256 certificate (RFC 5246 §7.4.1.2).
    fn hello(version: [u8; 2], suite: u16, compression: &[u8]) -> Vec<u8> {
        let groups = [&[0, 10][..], &long(&long(&[0, 23]))].concat();
        let signatures = [&[0, 13][..], &long(&long(&[4, 3]))].concat();
        let session_and_suites = [&[0][..], &long(&suite.to_be_bytes()), &[compression.len() as u8]].concat();
        let extensions = long(&[groups, signatures].concat());
        let body = [&version[..], &[7; 32], &session_and_suites, compression, &extensions].concat();
        [&[22, 3, 1][..], &long(&[&[1, 0][..], &long(&body)].concat())].concat()
    }

    /// What the server first says to a hello: a record.
    fn answer(config: &Arc<ServerConfig>, hello: &[u8]) -> Vec<u8> {
        let mut server = rustls::ServerConnection::new(config.clone()).unwrap();
        server.read_tls(&mut &hello[..]).unwrap();
        // An error is told to the client too.
        let _ = server.process_new_packets();
        let mut said = Vec::new();
        server.write_tls(&mut said).unwrap();
        said
    }

    #[test]
    fn no_old_version_no_weak_cipher_and_no_compression_is_agreed_to() {
        let (tls_1_2, plain) = ([3, 3], &[0][..]);
        let alert = |said: &[u8], code| assert_eq!(said, [21, 3, 3, 0, 2, 2, code]);
        let identity = read("agreed", &[("ck.pem", &format!("{CERTIFICATE}{KEY}"))], "cert = \"ck.pem\"").unwrap();
        let config = identity.unwrap().turn().unwrap();
        // All that have a name, and their neighbours.
        let suites = [0x00, 0x13, 0x56, 0xC0, 0xC1, 0xCC, 0xD0]
            .into_iter()
            .flat_map(|high: u16| (high << 8)..=(high << 8 | 0xFF));
        let agreed = suites.filter(|&suite| {
            let said = answer(&config, &hello(tls_1_2, suite, plain));
            if said[0] != 22 {
                alert(&said, 40);
            }
            said[0] == 22
        });
        // ECDHE with AES-GCM or ChaCha20.
        assert_eq!(agreed.collect::<Vec<_>>(), [0xC02B, 0xC02C, 0xCCA9]);
        for old in [[3, 0], [3, 1], [3, 2]] {
            alert(&answer(&config, &hello(old, 0xC02B, plain)), 70);
        }
        let said = answer(&config, &hello(tls_1_2, 0xC02B, &[1, 0]));
        // Headers of record and message, version, random; the session's id, and the cipher.
        let session_len = usize::from(said[5 + 4 + 2 + 32]);
        assert_eq!((said[0], said[44 + session_len..][..3].to_vec()), (22, vec![0xC0, 0x2B, 0]), "none is chosen");
        assert_eq!(answer(&config, &hello(tls_1_2, 0xC02B, &[1]))[0], 21, "nothing but compression");
    }

    #[test]
    fn what_can_not_be_used_is_refused_with_what_to_do() {
        let damaged = CERTIFICATE.replace("MIIB", "****");
        let garbage = CERTIFICATE.replace("MIIB", "AAAA");
        let files = [
            ("c.pem", CERTIFICATE),
            ("k.pem", KEY),
            ("other.pem", OTHER_KEY),
            ("damaged.pem", &damaged),
            ("garbage.pem", &garbage),
            ("encrypted.pem", "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIHs\n-----END ENCRYPTED PRIVATE KEY-----\n"),
        ];
        for (at, (cert, key, what, hint)) in [
            ("gone.pem", "k.pem", "tls.cert: gone.pem can not be read: No such file", "may read the file"),
            ("c.pem", "gone.pem", "tls.key: gone.pem can not be read: No such file", "may read the file"),
            ("k.pem", "k.pem", "k.pem holds no PEM certificate", ""),
            ("c.pem", "c.pem", "c.pem holds no PEM private key", "in tls.key"),
            (
                "c.pem",
                "encrypted.pem",
                "the private key in encrypted.pem is encrypted",
                "openssl pkey -in encrypted.pem",
            ),
            (
                "c.pem",
                "other.pem",
                "the private key in other.pem is not that of the certificate in c.pem",
                "renew both",
            ),
            ("damaged.pem", "k.pem", "damaged.pem is damaged", ""),
            ("garbage.pem", "k.pem", "the certificate in garbage.pem can not be used", ""),
        ]
        .into_iter()
        .enumerate()
        {
            let tls = format!("cert = \"{cert}\"\nkey = \"{key}\"");
            let refused = read(&format!("refused-{at}"), &files, &tls).expect_err(what);
            assert!(refused.starts_with(what) && refused.contains(hint), "{refused}");
            assert!(refused.contains("t.toml:2:8") || refused.contains("t.toml:3:7"), "{refused}");
        }
    }
}
