//! What a server's certificate says, and whether a browser would take it. Pure: the time is an argument.

use super::words::plain;
use crate::load::trust;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, RootCertStore};
use serde::Serialize;
use std::net::IpAddr;
use std::sync::Arc;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::time::ASN1Time;

/// Days before its end from which a certificate is worth a warning.
pub const DAYS_LEFT_MIN: i64 = 14;
/// Names told in a message.
const NAMES_MAX: usize = 5;
const DAY_S: i64 = 86_400;

/// A server's certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Certificate {
    /// Whose it is.
    pub subject: String,
    /// Who signed it.
    pub issuer: String,
    /// The names and addresses it is for.
    pub names: Vec<String>,
    /// Its first day, `YYYY-MM-DD` in UTC.
    pub not_before: String,
    /// Its last day.
    pub not_after: String,
    /// Whole days until its end; negative when that is over.
    pub days_left: i64,
    /// Whether its subject signed it.
    pub self_signed: bool,
    /// The version of TLS that was agreed on.
    pub tls: String,
}

impl Certificate {
    /// Reads the server's own, the first of its chain; `None` when that can not be read.
    pub fn read(chain: &[CertificateDer<'_>], tls: String, now: UnixTime) -> Option<Self> {
        let (_, own) = x509_parser::parse_x509_certificate(chain.first()?).ok()?;
        let validity = own.validity();
        Some(Certificate {
            subject: plain(&own.subject().to_string()),
            issuer: plain(&own.issuer().to_string()),
            names: names(&own),
            not_before: day(validity.not_before),
            not_after: day(validity.not_after),
            days_left: (validity.not_after.timestamp() - now.as_secs() as i64).div_euclid(DAY_S),
            self_signed: own.subject() == own.issuer(),
            tls,
        })
    }
}

fn names(own: &X509Certificate<'_>) -> Vec<String> {
    let named = own.subject_alternative_name().ok().flatten();
    let ip = |bytes: &[u8]| match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        _ => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
    };
    let names = named.iter().flat_map(|named| &named.value.general_names).filter_map(|name| match name {
        GeneralName::DNSName(name) => Some(plain(name)),
        GeneralName::IPAddress(bytes) => ip(bytes).map(|ip| ip.to_string()),
        _ => None,
    });
    names.collect()
}

fn day(time: ASN1Time) -> String {
    time.to_datetime().date().to_string()
}

/// Whether a certificate is to be trusted under a name: the reason against it in words, with what to do.
pub fn judge(
    own: &Certificate,
    chain: &[CertificateDer<'_>],
    name: &ServerName<'_>,
    roots: &Arc<RootCertStore>,
    now: UnixTime,
) -> Result<(), String> {
    let Some((first, rest)) = chain.split_first() else { return Err("the server has no certificate".to_owned()) };
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::clone(roots), trust::provider()).build();
    let verified = match verifier {
        Ok(verifier) => verifier.verify_server_cert(first, rest, name, &[], now).map(|_| ()),
        // No roots: nobody is trusted.
        Err(_) => Err(CertificateError::UnknownIssuer.into()),
    };
    match verified {
        Ok(()) => Ok(()),
        Err(rustls::Error::InvalidCertificate(error)) => Err(in_words(own, &error, &name.to_str(), now)),
        Err(error) => Err(format!("the certificate can not be judged: {error}")),
    }
}

fn in_words(own: &Certificate, error: &CertificateError, name: &str, now: UnixTime) -> String {
    let today = ASN1Time::from_timestamp(now.as_secs() as i64).map(day).unwrap_or_default();
    match error {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => format!(
            "the certificate expired on {}: renew it there, and have the server read it again (or set this machine's \
             clock, which says {today})",
            own.not_after
        ),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => format!(
            "the certificate is good from {} on: this machine's clock says {today}; one of the two clocks is wrong",
            own.not_before
        ),
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => format!(
            "the certificate is not for {name} but for {}: probe that name, or get a certificate that has {name}",
            listed(&own.names)
        ),
        CertificateError::Other(error) if own.self_signed && error.to_string().contains("CaUsedAsEndEntity") => {
            format!(
                "the certificate is signed by itself and says that it is an authority's ({}): get one of a public authority; \
             one that --ca FILE trusts here must be made with basicConstraints=CA:FALSE",
                own.subject
            )
        }
        _ if own.self_signed => format!(
            "the certificate is signed by itself ({}), which browsers refuse: get one of a public authority, or trust it \
             here with --ca FILE",
            own.subject
        ),
        CertificateError::UnknownIssuer => format!(
            "the certificate's issuer ({}) is not trusted here: the server's file may lack the intermediate \
             certificates (it must hold the full chain), or trust the issuer here with --ca FILE",
            own.issuer
        ),
        CertificateError::Revoked => "the certificate is revoked: get a new one".to_owned(),
        error => format!("the certificate is not as browsers want it ({error}): get a new one"),
    }
}

fn listed(names: &[String]) -> String {
    match names {
        [] => "no name at all".to_owned(),
        names if names.len() <= NAMES_MAX => names.join(", "),
        names => format!("{} and {} more", names[..NAMES_MAX].join(", "), names.len() - NAMES_MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
    use std::time::Duration;

    /// 2026-06-15 12:00:00 UTC.
    const NOW_S: u64 = 1_781_524_800;

    fn now() -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs(NOW_S))
    }

    /// An authority, and a certificate for a name that it signed, good for a range of years.
    fn signed(name: &str, years: (i32, i32)) -> (CertificateDer<'static>, CertificateDer<'static>) {
        let key = KeyPair::generate().unwrap();
        let mut root = CertificateParams::new(Vec::new()).unwrap();
        root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        root.distinguished_name.push(rcgen::DnType::CommonName, "An Authority");
        (root.not_before, root.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2040, 1, 1));
        let authority = root.self_signed(&key).unwrap();
        let mut own = CertificateParams::new(vec![name.to_owned()]).unwrap();
        (own.not_before, own.not_after) = (date_time_ymd(years.0, 6, 20), date_time_ymd(years.1, 6, 20));
        let own = own.signed_by(&KeyPair::generate().unwrap(), &Issuer::new(root, key)).unwrap();
        (authority.der().clone(), own.der().clone())
    }

    fn judged(own: &CertificateDer<'static>, roots: &[&CertificateDer<'static>], name: &str) -> Result<(), String> {
        let mut store = RootCertStore::empty();
        store.add_parsable_certificates(roots.iter().map(|root| (*root).clone()));
        let chain = [own.clone()];
        let read = Certificate::read(&chain, "TLSv1.3".to_owned(), now()).expect("it can be read");
        let name = ServerName::try_from(name.to_owned()).unwrap();
        judge(&read, &chain, &name, &Arc::new(store), now())
    }

    #[test]
    fn a_good_one_is_taken_and_told() {
        let (root, own) = signed("relay.example.org", (2025, 2026));
        assert_eq!(judged(&own, &[&root], "relay.example.org"), Ok(()));
        let told = Certificate::read(&[own], "TLSv1.3".to_owned(), now()).unwrap();
        assert_eq!(told.names, ["relay.example.org"]);
        assert_eq!((told.not_before.as_str(), told.not_after.as_str()), ("2025-06-20", "2026-06-20"));
        assert_eq!((told.days_left, told.self_signed), (4, false));
        assert!(told.issuer.contains("An Authority"), "{told:?}");
    }

    #[test]
    fn each_fault_says_what_to_do() {
        let (root, old) = signed("relay.example.org", (2024, 2025));
        let expired = judged(&old, &[&root], "relay.example.org").unwrap_err();
        assert!(expired.contains("expired on 2025-06-20: renew it") && expired.contains("2026-06-15"), "{expired}");
        let (root, early) = signed("relay.example.org", (2027, 2028));
        let early = judged(&early, &[&root], "relay.example.org").unwrap_err();
        assert!(early.contains("good from 2027-06-20 on"), "{early}");
        let (root, own) = signed("relay.example.org", (2025, 2027));
        let other = judged(&own, &[&root], "turn.example.org").unwrap_err();
        assert!(other.contains("not for turn.example.org but for relay.example.org"), "{other}");
        let unknown = judged(&own, &[], "relay.example.org").unwrap_err();
        assert!(unknown.contains("intermediate") && unknown.contains("An Authority"), "{unknown}");
        let alone = judged(&root, &[&root], "relay.example.org").unwrap_err();
        assert!(alone.contains("signed by itself and says that it is an authority's"), "{alone}");
        let key = KeyPair::generate().unwrap();
        let own = CertificateParams::new(vec!["relay.example.org".to_owned()]).unwrap().self_signed(&key).unwrap();
        let alone = judged(own.der(), &[], "relay.example.org").unwrap_err();
        assert!(alone.contains("signed by itself") && alone.contains("trust it here with --ca"), "{alone}");
        assert_eq!(judged(own.der(), &[own.der()], "relay.example.org"), Ok(()));
    }

    #[test]
    fn a_long_list_of_names_is_cut() {
        let names: Vec<String> = (0..7).map(|n| format!("n{n}")).collect();
        assert_eq!(listed(&names), "n0, n1, n2, n3, n4 and 2 more");
        assert_eq!(listed(&[]), "no name at all");
    }
}
