//! Lines of a `turnserver.conf` as coturn's own reader takes them apart; no meaning yet.
//!
//! `key`, `key value` and `key=value`; a comment only where the line begins with `#`; blanks at
//! both ends go; quotes around the value go. Nothing here fails: what can not be used is marked.

use crate::config::document::Document;
use std::ops::Range;

/// What coturn's buffer holds of one line, in bytes.
pub const LINE_LEN_MAX: usize = 1023;

/// One line that says something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Which of the texts that were read.
    pub source: usize,
    /// Counted from 1.
    pub number: usize,
    /// The key as written.
    pub key: String,
    /// Where the whole line is.
    pub span: Range<usize>,
    /// The value; empty when there is none.
    pub value: String,
    /// Where the value is; the key's place when there is none.
    pub value_span: Range<usize>,
    /// Why coturn and turnpike would not read the same, if so.
    pub damage: Option<&'static str>,
}

impl Line {
    /// Whether the value ends with a semicolon, which coturn makes part of it.
    pub fn ends_with_semicolon(&self) -> bool {
        self.value.ends_with(';')
    }
}

/// The lines of one text that say something.
pub fn lines(source: usize, document: &Document) -> Vec<Line> {
    let mut at = 0;
    let mut lines = Vec::new();
    for (number, line) in document.text().split_inclusive('\n').enumerate() {
        let start = at;
        at += line.len();
        // Editors on Windows put a mark in front of the first line.
        let bare = if number == 0 { line.trim_start_matches('\u{feff}') } else { line };
        let start = start + (line.len() - bare.len());
        let from = start + (bare.len() - bare.trim_ascii_start().len());
        let text = bare.trim_ascii();
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        lines.push(Line { source, number: number + 1, ..one(text, from) });
    }
    lines
}

/// Takes one line apart that begins at byte `from`.
fn one(text: &str, from: usize) -> Line {
    let is_separator = |c: char| matches!(c, ' ' | '=' | '\t');
    let (key, rest) = match text.find(is_separator) {
        Some(end) => text.split_at(end),
        None => (text, ""),
    };
    let value = rest.trim_start_matches(is_separator);
    let mut value_start = from + text.len() - value.len();
    let value = match value.strip_prefix('"') {
        Some(quoted) => {
            value_start += 1;
            let quoted = quoted.trim_ascii_end();
            quoted.strip_suffix('"').unwrap_or(quoted)
        }
        None => value,
    };
    let damage = if text.len() > LINE_LEN_MAX {
        Some("it is longer than the 1023 bytes that coturn reads of a line")
    } else if text.contains('\0') {
        Some("it holds a NUL byte, where coturn stops to read")
    } else if text.contains('\u{fffd}') {
        Some("it is not UTF-8 text: save the file as UTF-8")
    } else {
        None
    };
    let value_span = if value.is_empty() { from..from + key.len() } else { value_start..value_start + value.len() };
    Line {
        source: 0,
        number: 0,
        key: key.to_owned(),
        span: from..from + text.len(),
        value: value.to_owned(),
        value_span,
        damage,
    }
}

/// A switch as coturn reads one; an error where coturn would end.
pub fn boolean(value: &str) -> Result<bool, String> {
    match value.bytes().next() {
        None | Some(b'y' | b'Y' | b't' | b'T' | b'1'..=b'9') => Ok(true),
        Some(b'0' | b'n' | b'N' | b'f' | b'F') => Ok(false),
        _ => match value {
            "on" | "ON" | "On" => Ok(true),
            "off" | "OFF" | "Off" => Ok(false),
            _ => Err("coturn takes on or off, yes or no, true or false, 1 or 0 here, and ends at anything else".into()),
        },
    }
}

/// A port as coturn reads one; an error where coturn would end. 0 stands for none.
pub fn port(value: &str) -> Result<u16, String> {
    if value.is_empty() {
        return Ok(0);
    }
    let digits = value.trim_ascii_start();
    let digits = digits.strip_prefix('+').unwrap_or(digits);
    let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    let port = if plain { digits.parse().ok() } else { None };
    port.ok_or_else(|| "this is not a port (0 to 65535), and coturn ends here".into())
}

/// A number as C's `atoi` reads it: the digits in front, 0 without any. The second part says
/// whether that was all there is.
pub fn number(value: &str) -> (i64, bool) {
    let text = value.trim_ascii_start();
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let len = digits.bytes().take_while(u8::is_ascii_digit).count();
    // What overflows is as good as the largest.
    let number = if len == 0 { 0 } else { digits[..len].parse().unwrap_or(i64::MAX) };
    (if negative { -number } else { number }, len > 0 && len == digits.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn read(text: &str) -> Vec<(String, String)> {
        let document = Document::file(Path::new("t.conf"), text.into());
        let lines = lines(0, &document);
        for line in &lines {
            assert_eq!(
                &document.text()[line.value_span.clone()],
                if line.value.is_empty() { &line.key } else { &line.value }
            );
        }
        lines.into_iter().map(|line| (line.key, line.value)).collect()
    }

    #[test]
    fn a_line_is_taken_apart_as_coturn_does() {
        for (text, key, value) in [
            ("realm", "realm", ""),
            ("realm=a.b", "realm", "a.b"),
            ("realm a.b", "realm", "a.b"),
            ("  realm\t=  a.b \t\r\n", "realm", "a.b"),
            ("realm = = a", "realm", "a"),
            ("realm=\"a b\"", "realm", "a b"),
            ("realm=\"a\"b", "realm", "a\"b"),
            ("realm=\"a", "realm", "a"),
            ("realm=a\"", "realm", "a\""),
            ("realm='a'", "realm", "'a'"),
            ("user=a:b=c d", "user", "a:b=c d"),
            ("realm=a # not a comment", "realm", "a # not a comment"),
            ("realm=a;", "realm", "a;"),
            ("=a", "", "a"),
            ("\u{feff}realm=a", "realm", "a"),
        ] {
            assert_eq!(read(text), [(key.to_owned(), value.to_owned())], "{text:?}");
        }
        assert!(read("\n  \r\n# realm=a\n   #realm\n").is_empty());
    }

    #[test]
    fn lines_know_where_they_are() {
        let document = Document::file(Path::new("t.conf"), "# x\n\n  port = 7\nfingerprint".into());
        let lines = lines(3, &document);
        assert_eq!((lines[0].source, lines[0].number, lines[0].span.clone()), (3, 3, 7..15));
        assert_eq!((lines[1].number, lines[1].value_span.clone()), (4, 16..27));
    }

    #[test]
    fn booleans_are_coturns() {
        for value in ["", "1", "9", "y", "Yes", "true", "T", "on", "On", "ON", "2x"] {
            assert_eq!(boolean(value), Ok(true), "{value}");
        }
        for value in ["0", "00", "n", "No", "false", "F", "off", "Off", "OFF", "none"] {
            assert_eq!(boolean(value), Ok(false), "{value}");
        }
        for value in ["oN", "onn", "o", "-1", "enabled", ";", "é"] {
            assert!(boolean(value).is_err(), "{value}");
        }
    }

    #[test]
    fn numbers_are_those_of_c() {
        for (value, port_read) in
            [("", Some(0)), ("0", Some(0)), ("3478", Some(3478)), ("+5", Some(5)), ("65535", Some(65535))]
        {
            assert_eq!(port(value).ok(), port_read, "{value}");
        }
        for value in ["65536", "-1", "3478;", "3478 ", "a", "0x10", "+"] {
            assert!(port(value).is_err(), "{value}");
        }
        for (value, read) in [
            ("600", (600, true)),
            (" 600", (600, true)),
            ("-5", (-5, true)),
            ("64k", (64, false)),
            ("k", (0, false)),
            ("", (0, false)),
            ("99999999999999999999", (i64::MAX, true)),
        ] {
            assert_eq!(number(value), read, "{value}");
        }
    }

    #[test]
    fn what_coturn_would_read_differently_is_marked() {
        let damage = |text: &str| lines(0, &Document::file(Path::new("t.conf"), text.into()))[0].damage;
        assert_eq!(damage(&format!("realm={}", "x".repeat(LINE_LEN_MAX - 6))), None);
        assert!(damage(&format!("realm={}", "x".repeat(LINE_LEN_MAX - 5))).is_some());
        assert!(damage("realm=a\0b").is_some() && damage("realm=\u{fffd}").is_some());
    }
}
