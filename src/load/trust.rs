//! Whose certificate a client takes.

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ConfigBuilder, DigitallySignedStruct, RootCertStore, SignatureScheme, WantsVerifier};
use std::path::Path;
use std::sync::Arc;

/// Where distributions keep the certificates that everybody trusts.
const TRUSTED: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// A client that takes certificates which lead to these roots.
pub fn only(roots: impl Into<Arc<RootCertStore>>) -> Result<Arc<ClientConfig>, String> {
    Ok(Arc::new(builder(&provider())?.with_root_certificates(roots).with_no_client_auth()))
}

/// A client that takes any certificate whose key the server has.
pub fn anybody() -> Result<Arc<ClientConfig>, String> {
    let provider = provider();
    let any = Arc::new(AnyCertificate(Arc::clone(&provider)));
    let builder = builder(&provider)?.dangerous().with_custom_certificate_verifier(any);
    Ok(Arc::new(builder.with_no_client_auth()))
}

/// The cryptography of every client.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn builder(provider: &Arc<CryptoProvider>) -> Result<ConfigBuilder<ClientConfig, WantsVerifier>, String> {
    let builder = ClientConfig::builder_with_provider(Arc::clone(provider));
    builder.with_safe_default_protocol_versions().map_err(|error| format!("TLS: {error}"))
}

/// The certificates of a PEM file, or those that this system trusts; the error is in words.
pub fn roots(file: Option<&Path>) -> Result<RootCertStore, String> {
    let system = || TRUSTED.iter().map(Path::new).find(|path| path.exists());
    let path = file.or_else(system).ok_or("this system's trusted certificates are not found: name them with --ca")?;
    let failed = |error| format!("{} can not be read: {error}", path.display());
    let certificates = CertificateDer::pem_file_iter(path).map_err(failed)?;
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certificates.collect::<Result<Vec<_>, _>>().map_err(failed)?);
    if roots.is_empty() { Err(format!("{} has no certificate", path.display())) } else { Ok(roots) }
}

/// Takes any certificate whose key the server has.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
