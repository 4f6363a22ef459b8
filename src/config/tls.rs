//! The certificate of TLS listeners: read, matched with its key, and refused with what to do.

use super::document::read_limited;
use super::fault::Fault;
use super::file::Tls;
use super::layers::Origins;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::path::PathBuf;
use std::sync::Arc;

/// Protocols offered (RFC 7443), and the one a browser that opens the address asks for. A
/// client that offers none is served; one that offers only others is refused.
pub const ALPN: [&[u8]; 3] = [b"stun.turn", b"stun.nat-discovery", b"http/1.1"];

/// TLS as configured; `None` without a certificate.
pub fn server_config(tls: &Tls, origins: &Origins) -> Result<Option<Arc<ServerConfig>>, Fault> {
    let Some(cert) = Pem::read("tls.cert", [("tls.cert", &tls.cert), ("tls.key", &tls.key)], origins)? else {
        return Ok(None);
    };
    let Some(key) = Pem::read("tls.key", [("tls.key", &tls.key), ("tls.cert", &tls.cert)], origins)? else {
        return Ok(None);
    };
    let chain = cert.chain()?;
    let private_key = key.private_key()?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(|error| cert.fault(format!("TLS can not be set up: {error}")))?
        .with_no_client_auth()
        .with_single_cert(chain, private_key);
    let mut config = config.map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => key
            .fault(format!("the private key in {} is not that of the certificate in {}", key.name(), cert.name()))
            .hint("the first certificate of the chain is the server's own; renew both files together"),
        error => cert.fault(format!("the certificate in {} can not be used: {error}", cert.name())),
    })?;
    config.alpn_protocols = ALPN.map(<[u8]>::to_vec).to_vec();
    // One ticket is enough for a client that comes back, and one message less to send.
    config.send_tls13_tickets = 1;
    Ok(Some(Arc::new(config)))
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
    fn read(name: &str, files: &[(&str, &str)], tls: &str) -> Result<Option<Arc<ServerConfig>>, String> {
        let directory = std::env::temp_dir().join(format!("turnpike-tls-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        for (file, text) in files {
            std::fs::write(directory.join(file), text).unwrap();
        }
        let file = directory.join("t.toml");
        std::fs::write(&file, format!("[tls]\n{tls}\n")).unwrap();
        let loaded = load(&Inputs { files: vec![file], ..Inputs::default() }).unwrap();
        let config = server_config(&loaded.file.tls, &loaded.origins);
        std::fs::remove_dir_all(&directory).unwrap();
        config.map_err(|fault| fault.to_string().replace(&format!("{}/", directory.display()), ""))
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
            let config = read(&format!("order-{at}"), &files, tls).unwrap().expect(tls);
            assert_eq!(config.alpn_protocols, ALPN);
            assert_eq!(config.send_tls13_tickets, 1);
        }
        assert!(read("none", &[], "").unwrap().is_none());
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
