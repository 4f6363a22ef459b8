//! Where the secrets of a text are, found the plain way; and the same text with others.
//!
//! Whatever is said about a text must be said of the other one too: then nothing of a secret shows, however it is said.

use std::borrow::Cow;
use std::ops::Range;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// The text with other secrets of the same shape in these places; `None` if there are none to change. Equal ones stay
/// equal, hexadecimal ones hexadecimal.
pub fn masked(text: &str, secrets: &[Range<usize>]) -> Option<String> {
    let mut other = text.as_bytes().to_vec();
    for secret in secrets {
        other[secret.clone()].iter_mut().for_each(|byte| *byte = turned(*byte));
    }
    let other = String::from_utf8(other).expect("only ASCII has changed, into ASCII");
    (other != text).then_some(other)
}

/// Another byte of the same kind. `0` and `x`, which begin a key in place of a password, stay.
fn turned(byte: u8) -> u8 {
    let within = |first: u8, last: u8| first + (byte - first + 1) % (last - first + 1);
    match byte {
        b'1'..=b'9' => within(b'1', b'9'),
        b'a'..=b'f' => within(b'a', b'f'),
        b'g'..=b'w' => within(b'g', b'w'),
        b'y'..=b'z' => within(b'y', b'z'),
        b'A'..=b'F' => within(b'A', b'F'),
        b'G'..=b'W' => within(b'G', b'W'),
        b'Y'..=b'Z' => within(b'Y', b'Z'),
        other => other,
    }
}

/// The strings of secret keys; in a text that is not TOML, what is quoted where a secret may be.
pub fn of_toml(text: &str) -> Vec<Range<usize>> {
    let mut secrets = Vec::new();
    match DeTable::parse(text) {
        Ok(table) => walk(table.get_ref(), &mut Vec::new(), &mut secrets),
        Err(_) => guess(text, &mut secrets),
    }
    // What an escape stands for is not in its letters.
    secrets.retain(|secret| !text[secret.clone()].contains('\\'));
    secrets
}

fn walk<'a>(table: &DeTable<'a>, above: &mut Vec<Cow<'a, str>>, secrets: &mut Vec<Range<usize>>) {
    for (key, value) in table {
        above.push(key.get_ref().clone());
        let path: Vec<&str> = above.iter().map(|part| &**part).collect();
        match (&path[..], value.get_ref()) {
            (["auth", "secrets"] | ["http", "api_keys"] | ["auth", "users", _], _) => strings(value, secrets),
            (["rooms", "ice_servers"], DeValue::Array(servers)) => {
                let servers = servers.iter().filter_map(|server| server.get_ref().as_table());
                let credentials =
                    servers.flat_map(|server| server.iter().filter(|(key, _)| key.get_ref() == "credential"));
                credentials.for_each(|(_, value)| strings(value, secrets));
            }
            (_, DeValue::Table(inner)) => walk(inner, above, secrets),
            _ => {}
        }
        above.pop();
    }
}

fn strings(value: &Spanned<DeValue<'_>>, secrets: &mut Vec<Range<usize>>) {
    match value.get_ref() {
        DeValue::Array(elements) => elements.iter().for_each(|element| strings(element, secrets)),
        DeValue::Table(table) => table.values().for_each(|value| strings(value, secrets)),
        DeValue::String(_) => secrets.push(value.span()),
        _ => {}
    }
}

/// What stands between the first two quotes behind a `=`, below `[auth]`, `[auth.users]`, `[http]` and `[rooms]`.
fn guess(text: &str, secrets: &mut Vec<Range<usize>>) {
    if text.contains("\"\"\"") || text.contains("'''") {
        return;
    }
    let (mut at, mut counts) = (0, false);
    for line in text.split_inclusive('\n') {
        if line.trim().starts_with('[') {
            counts = ["[auth]", "[auth.users]", "[http]", "[rooms]"].contains(&line.trim());
        }
        let behind = |from: usize, c: char| line[from..].find(c).map(|found| from + found + 1);
        let quoted =
            behind(0, '=').and_then(|equals| behind(equals, '"')).and_then(|open| Some((open, behind(open, '"')?)));
        if let (true, Some((open, close))) = (counts, quoted) {
            secrets.push(at + open..at + close - 1);
        }
        at += line.len();
    }
}

/// The values of coturn's secret keys, and the passwords of its users.
pub fn of_conf(text: &str) -> Vec<Range<usize>> {
    let (mut at, mut secrets) = (0, Vec::new());
    for line in text.split_inclusive('\n') {
        let key_start = line.len() - line.trim_start_matches(['\u{feff}', ' ', '\t', '\r', '\x0C']).len();
        let key_len = line[key_start..].find([' ', '=', '\t', '\r', '\n', '\x0C']).unwrap_or(line.len() - key_start);
        let value = key_start + key_len;
        let password = line[value..].find(':').map_or(value, |colon| value + colon);
        match &line[key_start..value] {
            "static-auth-secret" | "pkey-pwd" | "cli-password" | "stateless-nonce-secret" => {
                secrets.push(at + value..at + line.len());
            }
            "user" => secrets.push(at + password..at + line.len()),
            _ => {}
        }
        at += line.len();
    }
    secrets
}

/// The passwords of a file of users; whole lines where there is no colon.
pub fn of_users(text: &str) -> Vec<Range<usize>> {
    let mut at = 0;
    let lines = text.split_inclusive('\n').map(|line| {
        let from = at + line.find(':').unwrap_or(0);
        at += line.len();
        from..at
    });
    lines.collect()
}
