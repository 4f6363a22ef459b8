//! coturn's versions, for defaults that changed from one to the next.

use super::{Conf, End, Value};
use std::fmt;
use std::str::FromStr;

/// A version of coturn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version([u16; 4]);

impl FromStr for Version {
    type Err = String;

    /// Reads `4.6.1`; what packagers add behind, as in `4.6.1-1+deb12u1`, is passed over.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not a version of coturn: write 4.6.1");
        let plain = text.trim().trim_start_matches('v');
        let plain = plain.split(|c: char| !c.is_ascii_digit() && c != '.').next().unwrap_or_default();
        let mut version = [0; 4];
        let parts: Vec<&str> = plain.split('.').collect();
        if !(2..=version.len()).contains(&parts.len()) {
            return Err(wrong());
        }
        for (at, part) in parts.into_iter().enumerate() {
            version[at] = part.parse().map_err(|_| wrong())?;
        }
        Ok(Version(version))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [major, minor, patch, build] = self.0;
        write!(f, "{major}.{minor}.{patch}")?;
        if build == 0 { Ok(()) } else { write!(f, ".{build}") }
    }
}

impl Version {
    fn is_before(self, major: u16, minor: u16) -> bool {
        self < Version([major, minor, 0, 0])
    }
}

impl Conf<'_> {
    /// What the coturn of that version did without being asked, and the newest does not.
    pub(super) fn defaults(&mut self, has_tls: bool) {
        self.channels();
        let Some(version) = self.reader.version else { return };
        let has = |key: &str| self.lines.iter().any(|line| line.key == key);
        let (dtls, rfc5780, cli) = (
            has_tls && !has("dtls") && !has("no-dtls"),
            !has("rfc5780") && !has("no-rfc5780"),
            !has("cli") && !has("no-cli"),
        );
        if version.is_before(4, 17) && dtls {
            let text =
                format!("coturn {version} served DTLS; there is none yet: clients of turns: connect by TLS over TCP");
            self.general("dtls", End::Dropped, text);
        }
        if version.is_before(4, 10) && cli {
            let text = "coturn before 4.10 had a telnet console; `turnpike status` and its like ask over a unix socket";
            self.general("cli", End::Nothing, text);
        }
        if version.is_before(4, 7) {
            if rfc5780 {
                let text = "coturn before 4.7 served NAT behaviour discovery; browsers never ask for it";
                self.general("rfc5780", End::Dropped, text);
            }
            self.general("tlsv1", End::Safer, "coturn before 4.7 took TLS 1.0 and 1.1; TLS 1.2 is the oldest here");
            let text = "coturn before 4.7 sent SOFTWARE and MAPPED-ADDRESS; clients need neither";
            self.general("software-attribute", End::Nothing, text);
        }
    }

    /// The channels of RFC 5766, which most coturns in use take, and older clients choose.
    fn channels(&mut self) {
        let is_written = self.lines.iter().any(|line| line.key == "rfc5766-channel-numbers");
        if let Some(at) = self.on("rfc5766-channel-numbers") {
            self.set("relay.wide_channels", Value::Flag(true), &[at]);
            self.note(at, End::Carried, "relay.wide_channels");
        } else if !is_written && self.reader.version.is_none_or(|version| version.is_before(4, 16)) {
            let habit = "before 4.16 it took channels 0x5000 to 0x7FFF, which older clients choose";
            self.set_habit("relay.wide_channels", Value::Flag(true), habit);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_and_ordered() {
        let read = |text: &str| text.parse::<Version>();
        assert!(read("4.6.1").unwrap() < read("4.6.1.1").unwrap() && read("4.10").unwrap() > read("4.9.0").unwrap());
        assert_eq!(read("4.6.1-1+deb12u1").unwrap().to_string(), "4.6.1");
        assert_eq!(read("v4.5.0.8").unwrap().to_string(), "4.5.0.8");
        for text in ["", "4", "coturn", "4.6.1.2.3", "4..1", "4.99999"] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
