//! `turn:` and `stun:` URIs (RFC 7064, RFC 7065).

use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs};
use std::str::FromStr;

/// How a URI says a server is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// UDP.
    Udp,
    /// TCP.
    Tcp,
    /// TLS over TCP.
    Tls,
}

/// A server, as the user names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uri {
    /// Name or address, without brackets.
    pub host: String,
    /// Port; 3478, or 5349 for TLS, unless it is given.
    pub port: u16,
    /// How it is reached.
    pub scheme: Scheme,
}

impl FromStr for Uri {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "not turn:HOST:PORT, turn:HOST:PORT?transport=tcp or turns:HOST:PORT".to_owned();
        let (scheme, rest) = text.split_once(':').ok_or_else(wrong)?;
        let secure = match scheme.to_ascii_lowercase().as_str() {
            "turn" | "stun" => false,
            "turns" | "stuns" => true,
            _ => return Err(wrong()),
        };
        let (address, query) = rest.split_once('?').unwrap_or((rest, ""));
        let scheme = match (secure, query.to_ascii_lowercase().as_str()) {
            (false, "" | "transport=udp") => Scheme::Udp,
            (false, "transport=tcp") => Scheme::Tcp,
            (true, "" | "transport=tcp") => Scheme::Tls,
            (true, "transport=udp") => return Err("DTLS is not made here; turns: goes by TLS over TCP".into()),
            _ => return Err(format!("`?{query}` is not ?transport=udp or ?transport=tcp")),
        };
        let (host, port) = match address.strip_prefix('[') {
            Some(rest) => {
                let (host, rest) = rest.split_once(']').ok_or_else(wrong)?;
                (host, if rest.is_empty() { None } else { Some(rest.strip_prefix(':').ok_or_else(wrong)?) })
            }
            None => address.split_once(':').map_or((address, None), |(host, port)| (host, Some(port))),
        };
        if host.is_empty() || host.starts_with('/') {
            return Err(wrong());
        }
        let default = if secure { 5349 } else { 3478 };
        let port = match port {
            None => default,
            Some(port) => port.parse().ok().filter(|port| *port > 0).ok_or_else(|| format!("`{port}` is no port"))?,
        };
        Ok(Uri { host: host.to_owned(), port, scheme })
    }
}

impl fmt::Display for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.scheme == Scheme::Tls { "turns" } else { "turn" };
        let query = if self.scheme == Scheme::Udp { "udp" } else { "tcp" };
        let (open, close) = if self.host.contains(':') { ("[", "]") } else { ("", "") };
        write!(f, "{scheme}:{open}{}{close}:{}?transport={query}", self.host, self.port)
    }
}

impl Uri {
    /// The first address of the host; the error is in words.
    pub fn resolve(&self) -> Result<SocketAddr, String> {
        self.resolve_all().map(|found| found[0])
    }

    /// Every address of the host, at least one; the error is in words. It waits as long as the system's resolver does.
    pub fn resolve_all(&self) -> Result<Vec<SocketAddr>, String> {
        let found = (self.host.as_str(), self.port)
            .to_socket_addrs()
            .map_err(|error| format!("{} is not found: {error}", self.host))?;
        let found: Vec<_> = found.collect();
        if found.is_empty() { Err(format!("{} has no address", self.host)) } else { Ok(found) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uri_is_read_as_the_rfc_has_it() {
        for (text, wanted) in [
            ("turn:relay.example.org", "turn:relay.example.org:3478?transport=udp"),
            ("turn:10.0.0.1:9000?transport=udp", "turn:10.0.0.1:9000?transport=udp"),
            ("TURN:10.0.0.1?transport=TCP", "turn:10.0.0.1:3478?transport=tcp"),
            ("turns:relay.example.org", "turns:relay.example.org:5349?transport=tcp"),
            ("turns:[2001:db8::1]:443?transport=tcp", "turns:[2001:db8::1]:443?transport=tcp"),
            ("stun:[::1]", "turn:[::1]:3478?transport=udp"),
        ] {
            assert_eq!(text.parse::<Uri>().map(|uri| uri.to_string()).as_deref(), Ok(wanted), "{text}");
        }
    }

    #[test]
    fn what_is_no_uri_is_refused() {
        for text in [
            "",
            "relay",
            "http://relay",
            "turn:",
            "turn://relay",
            "turn:relay:",
            "turn:relay:0",
            "turn:relay:99999",
            "turn:[::1",
            "turn:[::1]x",
            "turn:relay?transport=sctp",
            "turns:relay?transport=udp",
        ] {
            assert!(text.parse::<Uri>().is_err(), "{text}");
        }
    }
}
