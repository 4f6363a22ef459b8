//! The certificate of the servers under test, and clients that trust it alone.

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion};
use std::sync::Arc;

/// The name in the certificate.
pub const NAME: &str = "turn.example.org";
/// P-256, signed by itself, good until 2120.
pub const CERTIFICATE: &str = "\
-----BEGIN CERTIFICATE-----
MIIBaDCCAQ2gAwIBAgIUfM9kmIuSZDNvLWGV4NftZRG7ptgwCgYIKoZIzj0EAwIw
GzEZMBcGA1UEAwwQdHVybi5leGFtcGxlLm9yZzAgFw0yMDAxMDEwMDAwMDBaGA8y
MTIwMDEwMTAwMDAwMFowGzEZMBcGA1UEAwwQdHVybi5leGFtcGxlLm9yZzBZMBMG
ByqGSM49AgEGCCqGSM49AwEHA0IABK3E0yr5xKR0aKdQDVUQuZMKCcQ0QqvpXzRi
dOHnsAuiJz7Qxj+xFNrQCWzkBufN+4rG+jhzPo+Qh5arD4RvYJyjLTArMBsGA1Ud
EQQUMBKCEHR1cm4uZXhhbXBsZS5vcmcwDAYDVR0TAQH/BAIwADAKBggqhkjOPQQD
AgNJADBGAiEAgtOpaQrVKbRyVghUTcMRUtOR5s5bmfkHeacy4+bIDT4CIQC1Swnz
UbAJlL1ihRGt1gRUQklv1yG+PxEWDeUOWUXemg==
-----END CERTIFICATE-----
";
/// Its private key, of no use anywhere else.
pub const KEY: &str = "\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgvcQjQP/MsXJDak8X
eeq0Jvmd7Fb7NLzArZJ4SXEwSLGhRANCAAStxNMq+cSkdGinUA1VELmTCgnENEKr
6V80YnTh57ALoic+0MY/sRTa0Als5AbnzfuKxvo4cz6PkIeWqw+Eb2Cc
-----END PRIVATE KEY-----
";

fn chain() -> Vec<CertificateDer<'static>> {
    vec![CertificateDer::from_pem_slice(CERTIFICATE.as_bytes()).expect("the certificate is PEM")]
}

/// A client of these versions that offers these protocols by ALPN.
pub fn client(versions: &[&'static SupportedProtocolVersion], alpn: &[&[u8]]) -> Arc<ClientConfig> {
    client_of(chain(), versions, alpn)
}

/// The same, trusting another certificate.
pub fn client_of(
    trusted: Vec<CertificateDer<'static>>,
    versions: &[&'static SupportedProtocolVersion],
    alpn: &[&[u8]],
) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(trusted);
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions);
    let builder = builder.expect("the provider has these versions");
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    Arc::new(config)
}

/// A server for engines that run inside the test.
pub fn server() -> Arc<ServerConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let key = PrivateKeyDer::from_pem_slice(KEY.as_bytes()).expect("the key is PEM");
    let builder = builder.expect("the provider has the usual versions").with_no_client_auth();
    Arc::new(builder.with_single_cert(chain(), key).expect("the key is the certificate's"))
}
