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
    fn read(
        purpose: &str,
        named: [(&'static str, &String); 2],
        origins: &'a Origins,
    ) -> Result<Option<Self>, Fault> {
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
