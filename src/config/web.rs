//! What `[http]` and `[rooms]` are made of. An error names the form that is meant.

use super::value::written_as_text;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::str::FromStr;

written_as_text! {
    HttpAddress: "an address and port like \"127.0.0.1:8080\", or \"\" for off";
    Origin: "an origin like \"https://app.example.org\"";
    PublicUrl: "an address like \"https://call.example.org\"";
    HostName: "a host name like \"call.example.org\"";
    TurnUri: "a URI like \"turn:turn.example.org:3478?transport=udp\"";
}

/// Where a part of the side plane listens, if at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HttpAddress(pub Option<SocketAddr>);

impl HttpAddress {
    /// A port of the IPv4 loopback.
    pub const fn loopback(port: u16) -> Self {
        HttpAddress(Some(SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), port)))
    }
}

impl FromStr for HttpAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "" => Ok(HttpAddress(None)),
            "off" => Err("write \"\" for off".into()),
            text => text.parse().map(|super::address::Endpoint(address)| HttpAddress(Some(address))),
        }
    }
}

impl fmt::Display for HttpAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |address| address.fmt(f))
    }
}

/// `scheme://host[:port]` as a browser writes it in `Origin`: lower case, no default port, no
/// slash at the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin(pub String);

impl FromStr for Origin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        origin(text).map(Origin)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn origin(text: &str) -> Result<String, String> {
    if text == "*" {
        return Err("\"*\" would let every web site in: list the origins that may".into());
    }
    let wrong = || format!("`{text}` is not an origin: write \"https://app.example.org\", with a port if there is one");
    let (scheme, rest) = text.split_once("://").ok_or_else(wrong)?;
    let default_port = match scheme {
        "https" => 443,
        "http" => 80,
        _ => return Err(wrong()),
    };
    if rest.contains(['/', '?', '#', '@']) {
        return Err(format!("`{text}` has more than an origin: write \"{scheme}://{}\"", host_part(rest)));
    }
    let (host, port) = match rest.rsplit_once(':').filter(|(host, _)| !host.contains(':') || host.ends_with(']')) {
        Some((host, port)) => (host, Some(port.parse::<u16>().map_err(|_| wrong())?)),
        None => (rest, None),
    };
    let is_ipv6 = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .is_some_and(|ip| ip.parse::<std::net::Ipv6Addr>().is_ok());
    if !is_ipv6 && !is_host_name(host) {
        return Err(wrong());
    }
    let port = port.filter(|&port| port != default_port).map_or_else(String::new, |port| format!(":{port}"));
    Ok(format!("{scheme}://{}{port}", host.to_ascii_lowercase()))
}

fn host_part(rest: &str) -> &str {
    let rest = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    rest.split(['/', '?', '#']).next().unwrap_or_default()
}

fn is_host_name(text: &str) -> bool {
    let is_label = |label: &str| {
        !label.is_empty() && label.len() <= 63 && label.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
    };
    text.len() <= 253 && text.split('.').all(is_label)
}

/// The address users type, without a slash at the end; empty: unknown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PublicUrl(pub String);

impl FromStr for PublicUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "" => Ok(PublicUrl::default()),
            text => origin(text.strip_suffix('/').unwrap_or(text)).map(PublicUrl),
        }
    }
}

impl fmt::Display for PublicUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A name without scheme and port, in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostName(pub String);

impl FromStr for HostName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match is_host_name(text) {
            true => Ok(HostName(text.to_ascii_lowercase())),
            false => Err(format!("`{text}` is not a host name: write \"call.example.org\", without scheme and port")),
        }
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A STUN or TURN URI (RFC 7064, RFC 7065).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TurnUri(pub String);

impl FromStr for TurnUri {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (scheme, rest) = text.split_once(':').unwrap_or_default();
        let rest = ["?transport=udp", "?transport=tcp"].iter().find_map(|end| rest.strip_suffix(end)).unwrap_or(rest);
        let good = !rest.is_empty()
            && rest.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._:[]".contains(&b))
            && matches!(scheme, "turn" | "turns" | "stun" | "stuns");
        match good {
            true => Ok(TurnUri(text.to_owned())),
            false => Err(format!("`{text}` is not a TURN URI: write \"turn:turn.example.org:3478?transport=udp\"")),
        }
    }
}

impl fmt::Display for TurnUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An entry of a browser's `iceServers`; `urls` is always a list. What is serialized is for the
/// operator: the credential is not in it.
#[derive(Clone, PartialEq, Eq)]
pub struct IceServer(pub Map<String, Value>);

impl Serialize for IceServer {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut shown = self.0.clone();
        if let Some(credential) = shown.get_mut("credential") {
            *credential = format!("(set, {} bytes)", credential.as_str().map_or(0, str::len)).into();
        }
        shown.serialize(serializer)
    }
}

impl fmt::Debug for IceServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IceServer({:?})", self.0.get("urls"))
    }
}

impl<'de> Deserialize<'de> for IceServer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let server = Map::<String, Value>::deserialize(deserializer)?;
        ice_server(server).map(IceServer).map_err(serde::de::Error::custom)
    }
}

fn ice_server(server: Map<String, Value>) -> Result<Map<String, Value>, String> {
    let form = "write { urls = [\"turn:…\"], username = \"…\", credential = \"…\" }";
    let mut read = Map::new();
    for (key, value) in server {
        let value = match (key.as_str(), value) {
            ("urls", Value::String(url)) => Value::from(vec![url]),
            ("urls", Value::Array(urls)) if !urls.is_empty() && urls.iter().all(Value::is_string) => Value::Array(urls),
            ("username" | "credential", Value::String(text)) => Value::String(text),
            ("urls" | "username" | "credential", _) => return Err(format!("`{key}` of an ICE server: {form}")),
            _ => return Err(format!("an ICE server has no `{key}`: {form}")),
        };
        read.insert(key, value);
    }
    match read.contains_key("urls") {
        true => Ok(read),
        false => Err(format!("an ICE server needs `urls`: {form}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_written_as_browsers_do() {
        for (text, origin) in [
            ("https://App.Example.org", "https://app.example.org"),
            ("https://a.b:443", "https://a.b"),
            ("http://a.b:80", "http://a.b"),
            ("http://a.b:443", "http://a.b:443"),
            ("http://localhost:3000", "http://localhost:3000"),
            ("https://[2001:db8::7]:8443", "https://[2001:db8::7]:8443"),
            ("https://192.0.2.7", "https://192.0.2.7"),
        ] {
            assert_eq!(text.parse(), Ok(Origin(origin.into())));
        }
        for (text, hint) in [
            ("*", "list the origins"),
            ("null", "not an origin"),
            ("app.example.org", "not an origin"),
            ("ftp://a.b", "not an origin"),
            ("https://a.b/", "write \"https://a.b\""),
            ("https://u@a.b/x", "write \"https://a.b\""),
            ("https://a b", "not an origin"),
            ("https://a.b:x", "not an origin"),
            ("https://", "not an origin"),
            ("https://[::g]", "not an origin"),
        ] {
            let refused = text.parse::<Origin>().unwrap_err();
            assert!(refused.contains(hint), "{refused}");
        }
        assert_eq!("https://a.b/".parse(), Ok(PublicUrl("https://a.b".into())));
        assert!("https://a.b/x".parse::<PublicUrl>().is_err());
    }

    #[test]
    fn addresses_names_and_uris_are_checked() {
        assert_eq!("".parse(), Ok(HttpAddress(None)));
        assert_eq!("[::1]:0".parse(), Ok(HttpAddress(Some("[::1]:0".parse().unwrap()))));
        assert!("off".parse::<HttpAddress>().unwrap_err().contains("\"\""));
        assert!("8080".parse::<HttpAddress>().is_err());
        assert_eq!("Call.example.org".parse(), Ok(HostName("call.example.org".into())));
        assert!("call.example.org:80".parse::<HostName>().is_err() && "https://x".parse::<HostName>().is_err());
        for uri in ["turn:a.b:3478?transport=udp", "turns:a.b", "stun:192.0.2.7", "turn:[::1]:1?transport=tcp"] {
            assert!(uri.parse::<TurnUri>().is_ok(), "{uri}");
        }
        for uri in ["", "turn:", "http:a.b", "turn:a.b?transport=sctp", "turn:a b"] {
            assert!(uri.parse::<TurnUri>().is_err(), "{uri}");
        }
    }

    #[test]
    fn an_ice_server_has_a_list_of_urls() {
        let read = |text: &str| toml::from_str::<IceServer>(text).map(|server| Value::Object(server.0).to_string());
        let one = "urls = \"turn:a\"\nusername = \"u\"\ncredential = \"c\"";
        assert_eq!(read(one).unwrap(), r#"{"credential":"c","urls":["turn:a"],"username":"u"}"#);
        assert_eq!(read("urls = [\"a\", \"b\"]").unwrap(), r#"{"urls":["a","b"]}"#);
        for text in [
            "",
            "username = \"u\"",
            "urls = []",
            "urls = [1]",
            "urls = \"a\"\nurl = \"b\"",
            "urls = \"a\"\nusername = 1",
        ] {
            assert!(read(text).unwrap_err().to_string().contains("credential = "), "{text}");
        }
    }
}
