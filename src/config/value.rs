//! The plain values a configuration is made of: each is parsed once into a type that can not
//! be wrong.

use serde::de::{Deserializer, Error, Unexpected, Visitor};
use std::fmt;
use std::marker::PhantomData;
use std::ops::RangeInclusive;
use std::str::FromStr;

/// Longest realm, in characters (RFC 8489 §14.9: fewer than 128).
pub const REALM_CHARS_MAX: usize = 127;
/// Longest duration, in seconds: a hundred years.
pub const SECONDS_MAX: u64 = 100 * 365 * 86_400;
/// Longest rest of a worker, in microseconds.
pub const MICROS_MAX: u64 = 1_000;

/// A type that is written as a string.
pub trait Text: FromStr<Err = String> {
    /// What an error says was expected.
    const EXPECTED: &'static str;
    /// Whether a whole number stands for its digits.
    const NUMBERS: bool = false;
}

/// Reads a [`Text`].
pub struct TextVisitor<T>(pub PhantomData<T>);

impl<T: Text> Visitor<'_> for TextVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(T::EXPECTED)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<T, E> {
        match T::NUMBERS {
            true => self.visit_str(&number.to_string()),
            false => Err(E::invalid_type(Unexpected::Signed(number), &self)),
        }
    }
}

/// Reads types from a string and writes them as one.
macro_rules! written_as_text {
    ($($name:ident: $expected:literal $(, numbers = $numbers:literal)?;)*) => {$(
        impl $crate::config::value::Text for $name {
            const EXPECTED: &'static str = $expected;
            $(const NUMBERS: bool = $numbers;)?
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let visitor = $crate::config::value::TextVisitor::<$name>(std::marker::PhantomData);
                deserializer.deserialize_any(visitor)
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
    )*};
}
pub(super) use written_as_text;

written_as_text! {
    Realm: "a name in quotes";
    Seconds: "a duration like \"10m\", \"1h30m\" or whole seconds", numbers = true;
    Micros: "a short time like \"100us\", or 0 for none", numbers = true;
    PortRange: "a range of ports like \"49152-65535\"";
    Separator: "one character in quotes";
    Level: "one of \"off\", \"error\", \"warn\", \"info\", \"debug\", \"trace\"";
    Format: "one of \"text\", \"json\", \"journald\"";
}

/// Reads a whole number that is not negative into any unsigned type.
pub fn count<'de, D: Deserializer<'de>, T: TryFrom<u64>>(deserializer: D) -> Result<T, D::Error> {
    deserializer.deserialize_any(CountVisitor(PhantomData))
}

struct CountVisitor<T>(PhantomData<T>);

impl<T: TryFrom<u64>> Visitor<'_> for CountVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a whole number, 0 or more")
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<T, E> {
        match u64::try_from(number) {
            Ok(number) => self.visit_u64(number),
            Err(_) => Err(E::invalid_value(Unexpected::Signed(number), &self)),
        }
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<T, E> {
        T::try_from(number).map_err(|_| E::custom(format_args!("{number} is too large")))
    }
}

/// The realm of challenges; empty stands for the host's name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Realm(pub String);

impl FromStr for Realm {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.chars().count() > REALM_CHARS_MAX {
            return Err(format!("a realm has at most {REALM_CHARS_MAX} characters"));
        }
        if text.contains(|c: char| c == '"' || c == '\\' || c.is_control()) {
            return Err("a realm has no quotes, backslashes or control characters".into());
        }
        Ok(Realm(text.to_owned()))
    }
}

impl fmt::Display for Realm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A duration in whole seconds, at most [`SECONDS_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seconds(pub u64);

const UNITS: [(char, u64); 4] = [('d', 86_400), ('h', 3600), ('m', 60), ('s', 1)];

impl FromStr for Seconds {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not a duration: write \"10m\", \"1h30m\" or whole seconds");
        let long = || format!("`{text}` is longer than a hundred years");
        if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
            let seconds = text.parse().ok().filter(|&seconds| seconds <= SECONDS_MAX);
            return seconds.map(Seconds).ok_or_else(long);
        }
        let (mut rest, mut units, mut total) = (text, UNITS.as_slice(), 0_u64);
        loop {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            let unit = rest[digits..].chars().next().ok_or_else(wrong)?;
            // Each unit at most once, the larger ones first.
            let at = units.iter().position(|&(name, _)| name == unit).ok_or_else(wrong)?;
            let number: u64 = rest[..digits].parse().map_err(|_| wrong())?;
            total = number.checked_mul(units[at].1).and_then(|s| s.checked_add(total)).ok_or_else(long)?;
            units = &units[at + 1..];
            rest = &rest[digits + 1..];
            if rest.is_empty() {
                return if total <= SECONDS_MAX { Ok(Seconds(total)) } else { Err(long()) };
            }
        }
    }
}

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.write_str("0");
        }
        // "24h" reads better than "1d".
        let mut rest = self.0;
        for &(name, seconds) in &UNITS[1..] {
            if rest >= seconds {
                write!(f, "{}{name}", rest / seconds)?;
                rest %= seconds;
            }
        }
        Ok(())
    }
}

/// A short time in whole microseconds, at most [`MICROS_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Micros(pub u64);

impl FromStr for Micros {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not a short time: write \"100us\", or 0 for none");
        let (digits, micros_each) = match (text.strip_suffix("us"), text.strip_suffix("ms")) {
            (Some(digits), _) => (digits, 1),
            (None, Some(digits)) => (digits, 1_000),
            // A number without a unit could be meant as anything.
            (None, None) => return if text == "0" { Ok(Micros(0)) } else { Err(wrong()) },
        };
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(wrong());
        }
        let micros = digits.parse().ok().and_then(|number: u64| number.checked_mul(micros_each));
        let micros = micros.filter(|&micros| micros <= MICROS_MAX);
        micros.map(Micros).ok_or_else(|| format!("`{text}` is longer than {MICROS_MAX}us"))
    }
}

impl fmt::Display for Micros {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => f.write_str("0"),
            micros => write!(f, "{micros}us"),
        }
    }
}

/// The ports relayed addresses are taken from, 1024 or higher.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortRange(pub RangeInclusive<u16>);

impl FromStr for PortRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (first, last) =
            text.split_once('-').ok_or_else(|| format!("`{text}` is not a range of ports: write \"49152-65535\""))?;
        let port = |text: &str| {
            let text = text.trim();
            text.parse::<u16>().map_err(|_| format!("`{text}` is not a port: ports are 1024 to 65535 here"))
        };
        let (first, last) = (port(first)?, port(last)?);
        if first < 1024 {
            return Err(format!("relay ports start at 1024 or higher, not at {first}"));
        }
        if first > last {
            return Err(format!("the range is empty: write \"{last}-{first}\""));
        }
        Ok(PortRange(first..=last))
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.0.start(), self.0.end())
    }
}

/// What stands between the expiry and the id in the user name of a time-limited credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Separator(pub char);

impl FromStr for Separator {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.as_bytes() {
            [byte] if byte.is_ascii_graphic() && !byte.is_ascii_digit() => Ok(Separator(char::from(*byte))),
            _ => Err(format!("`{text}` is not one printable ASCII character other than a digit")),
        }
    }
}

impl fmt::Display for Separator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Declares a closed choice of words.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[$variant_doc])* $variant,)* }

        impl FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                match text {
                    $($text => Ok($name::$variant),)*
                    _ => Err(format!("`{text}` is not {}", <$name as Text>::EXPECTED)),
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $($name::$variant => $text,)* })
            }
        }
    };
}

words! {
    /// How much is logged.
    Level {
        /// Nothing.
        Off = "off",
        /// What failed.
        Error = "error",
        /// What an operator should look at.
        Warn = "warn",
        /// Start and end, of the server and of allocations.
        Info = "info",
        /// What helps to find a fault.
        Debug = "debug",
        /// Every packet.
        Trace = "trace",
    }
}

words! {
    /// How a log line looks.
    Format {
        /// For people.
        Text = "text",
        /// One JSON object a line.
        Json = "json",
        /// For systemd: a syslog priority in front, no time.
        Journald = "journald",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_written() {
        for (text, seconds, canonical) in [
            ("0", 0, "0"),
            ("90", 90, "1m30s"),
            ("10m", 600, "10m"),
            ("1h30m", 5400, "1h30m"),
            ("1d", 86_400, "24h"),
            ("1d2h3m4s", 93_784, "26h3m4s"),
            ("3153600000", SECONDS_MAX, "876000h"),
        ] {
            assert_eq!(text.parse(), Ok(Seconds(seconds)), "{text}");
            assert_eq!(Seconds(seconds).to_string(), canonical);
        }
        for text in
            ["", "m", "10x", "10 m", "1m1h", "5m5m", "-5", "1.5h", "10m3", "é", "3153600001", "99999999999999999999d"]
        {
            assert!(text.parse::<Seconds>().is_err(), "{text}");
        }
    }

    #[test]
    fn short_times_have_a_unit_and_are_short() {
        for (text, micros, canonical) in
            [("0", 0, "0"), ("0us", 0, "0"), ("100us", 100, "100us"), ("1ms", 1_000, "1000us")]
        {
            assert_eq!(text.parse(), Ok(Micros(micros)), "{text}");
            assert_eq!(Micros(micros).to_string(), canonical);
        }
        for text in ["", "us", "100", "1s", "-1us", "1.5ms", "100 us", "1001us", "2ms", "99999999999999999999us"] {
            assert!(text.parse::<Micros>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_port_range_starts_at_1024_and_is_not_empty() {
        assert_eq!("1024-65535".parse(), Ok(PortRange(1024..=65535)));
        assert_eq!("5000 - 5000".parse(), Ok(PortRange(5000..=5000)));
        for text in ["1023-65535", "49152-65536", "6000-5000", "49152", "a-b", ""] {
            assert!(text.parse::<PortRange>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_realm_has_at_most_127_characters_and_no_quotes() {
        assert!("é".repeat(REALM_CHARS_MAX).parse::<Realm>().is_ok());
        for text in ["x".repeat(REALM_CHARS_MAX + 1), "a\"b".into(), "a\\b".into(), "a\nb".into()] {
            assert!(text.parse::<Realm>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_separator_is_one_character_that_no_number_has() {
        assert_eq!(":".parse(), Ok(Separator(':')));
        for text in ["", "::", "7", " ", "é", "\n"] {
            assert!(text.parse::<Separator>().is_err(), "{text}");
        }
    }

    #[test]
    fn words_are_a_closed_choice() {
        assert_eq!("warn".parse(), Ok(Level::Warn));
        assert_eq!(Format::Journald.to_string(), "journald");
        assert!("WARN".parse::<Level>().is_err() && "xml".parse::<Format>().is_err());
    }
}
