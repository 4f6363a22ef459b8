//! What a user may ask to be tried: URIs (RFC 7064, RFC 7065), or just a host. Pure.

use crate::load::uri::{Scheme, Uri};

/// What a server is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// Binding.
    Stun,
    /// A relay.
    Turn,
    /// Binding, and a relay if there is one: the user named only a host.
    Either,
}

/// A server by one transport.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// Where it is.
    pub uri: Uri,
    /// What it is asked for.
    pub service: Service,
}

impl Ask {
    /// As a URI of its scheme, with port and transport.
    pub fn text(&self) -> String {
        let text = self.uri.to_string();
        if self.service == Service::Stun { text.replacen("turn", "stun", 1) } else { text }
    }
}

/// What becomes of what a user asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// It is tried.
    Ask(Ask),
    /// It is not.
    Untried {
        /// As a URI.
        text: String,
        /// Its name in reports.
        transport: &'static str,
        /// Why.
        reason: String,
    },
}

/// Why no server is asked over DTLS.
const NO_DTLS: &str = "not tried: turnpike's client has no DTLS";

/// Reads what a user typed. A host or `HOST:PORT` stands for UDP and TCP there, and TLS at 5349.
///
/// # Errors
/// What is no URI and no host, in words.
pub fn parse(text: &str) -> Result<Vec<Asked>, String> {
    let wrong = |why: String| {
        format!(
            "{why}; write turn:HOST:PORT?transport=udp, turns:HOST, stun:HOST, stuns:HOST, or a host for all transports"
        )
    };
    let scheme = text.split_once(':').map(|(scheme, _)| scheme.to_ascii_lowercase());
    let (service, is_secure) = match scheme.as_deref() {
        Some("turn") => (Service::Turn, false),
        Some("turns") => (Service::Turn, true),
        Some("stun") => (Service::Stun, false),
        Some("stuns") => (Service::Stun, true),
        _ => return bare(text).map_err(wrong),
    };
    if is_secure && text.to_ascii_lowercase().ends_with("?transport=udp") {
        return Ok(vec![Asked::Untried { text: text.to_owned(), transport: "dtls", reason: NO_DTLS.to_owned() }]);
    }
    Ok(vec![Asked::Ask(Ask { uri: text.parse().map_err(wrong)?, service })])
}

fn bare(text: &str) -> Result<Vec<Asked>, String> {
    if text.is_empty() || text.contains(['/', '?', '@']) || text.starts_with('-') {
        return Err(format!("`{text}` is no host"));
    }
    // An IPv6 address may stand without its brackets, since it can not be taken for anything else.
    let bracketed = if text.parse::<std::net::Ipv6Addr>().is_ok() { format!("[{text}]") } else { text.to_owned() };
    let udp: Uri = format!("turn:{bracketed}").parse().map_err(|_| format!("`{text}` is no host"))?;
    let tls: Uri = Uri { port: 5349, scheme: Scheme::Tls, ..udp.clone() };
    let tcp = Uri { scheme: Scheme::Tcp, ..udp.clone() };
    let dtls = tls.to_string().replace("transport=tcp", "transport=udp");
    let mut asked: Vec<_> =
        [udp, tcp, tls].map(|uri| Asked::Ask(Ask { uri, service: Service::Either })).into_iter().collect();
    asked.push(Asked::Untried { text: dtls, transport: "dtls", reason: NO_DTLS.to_owned() });
    Ok(asked)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(text: &str) -> Vec<String> {
        let text_of = |asked: Asked| match asked {
            Asked::Ask(ask) => format!("{:?} {}", ask.service, ask.text()),
            Asked::Untried { text, transport, .. } => format!("untried {transport} {text}"),
        };
        parse(text).unwrap_or_else(|error| panic!("{text}: {error}")).into_iter().map(text_of).collect()
    }

    #[test]
    fn a_uri_stands_for_one_transport() {
        for (text, wanted) in [
            ("turn:relay.example.org", "Turn turn:relay.example.org:3478?transport=udp"),
            ("turn:relay.example.org?transport=tcp", "Turn turn:relay.example.org:3478?transport=tcp"),
            ("turns:relay.example.org:443", "Turn turns:relay.example.org:443?transport=tcp"),
            ("stun:10.0.0.1", "Stun stun:10.0.0.1:3478?transport=udp"),
            ("STUNS:[::1]", "Stun stuns:[::1]:5349?transport=tcp"),
            ("turns:relay?transport=udp", "untried dtls turns:relay?transport=udp"),
        ] {
            assert_eq!(texts(text), [wanted], "{text}");
        }
    }

    #[test]
    fn a_host_stands_for_all_of_them() {
        assert_eq!(
            texts("relay.example.org"),
            [
                "Either turn:relay.example.org:3478?transport=udp",
                "Either turn:relay.example.org:3478?transport=tcp",
                "Either turns:relay.example.org:5349?transport=tcp",
                "untried dtls turns:relay.example.org:5349?transport=udp",
            ]
        );
        assert_eq!(texts("10.0.0.1:9000")[1], "Either turn:10.0.0.1:9000?transport=tcp");
        for v6 in ["2001:db8::1", "[2001:db8::1]"] {
            assert_eq!(texts(v6)[0], "Either turn:[2001:db8::1]:3478?transport=udp");
        }
    }

    #[test]
    fn what_is_neither_is_refused_with_what_to_write() {
        for text in ["", "http://relay", "turn:", "turn:relay:0", "relay:x", "a/b", "turn:relay?transport=sctp", "--x"]
        {
            let error = parse(text).unwrap_err();
            assert!(error.contains("write turn:HOST"), "{text}: {error}");
        }
    }
}
