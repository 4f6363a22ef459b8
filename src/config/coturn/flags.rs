//! coturn's command line, taken apart as `getopt_long` does.

use super::keys::{KEYS, Kind};

/// The short options, each with the key it stands for; a colon asks for a value.
#[rustfmt::skip]
const SHORT: &[(char, &str, bool)] = &[
    ('d', "listening-device", true), ('p', "listening-port", true), ('L', "listening-ip", true),
    ('E', "relay-ip", true), ('X', "external-ip", true), ('i', "relay-device", true),
    ('m', "relay-threads", true), ('l', "log-file", true), ('r', "realm", true), ('u', "user", true),
    ('b', "userdb", true), ('B', "bps-capacity", true), ('e', "psql-userdb", true),
    ('M', "mysql-userdb", true), ('J', "mongo-userdb", true), ('N', "redis-userdb", true),
    ('O', "redis-statsdb", true), ('q', "user-quota", true), ('Q', "total-quota", true),
    ('s', "max-bps", true), ('C', "rest-api-separator", true), ('K', "keep-address-family", true),
    ('A', "allocation-default-address-family", true),
    ('v', "verbose", false), ('V', "Verbose", false), ('o', "daemon", false), ('f', "fingerprint", false),
    ('z', "no-auth", false), ('a', "lt-cred-mech", false), ('S', "stun-only", false),
];

/// Keys whose number may be left out.
const OPTIONAL_NUMBERS: [&str; 5] =
    ["stale-nonce", "max-allocate-lifetime", "channel-lifetime", "permission-lifetime", "unauthorized-ratelimit-rps"];

/// A command line of coturn's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// The file named by `-c`.
    pub file: Option<String>,
    /// `-n`: no file at all.
    pub no_file: bool,
    /// `-h`: only help is asked for.
    pub help: bool,
    /// `--version`: only that is asked for.
    pub version: bool,
    /// Keys and their values, empty for none, in order.
    pub options: Vec<(String, String)>,
    /// What is no option at all; coturn complains of it and goes on.
    pub unknown: Vec<String>,
}

/// Takes a command line apart; an error where coturn prints its usage and ends.
pub fn flags(arguments: &[String]) -> Result<Flags, String> {
    let mut flags = Flags::default();
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        if argument == "--" {
            flags.unknown.extend(rest.by_ref().cloned());
        } else if let Some(long) = argument.strip_prefix("--") {
            let (name, value) = match long.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (long, None),
            };
            let name = long_name(name)?;
            if name == "version" {
                flags.version = true;
                continue;
            }
            let value = match value {
                Some(value) => value,
                None if wants_value(name) => rest.next().cloned().ok_or_else(|| format!("--{name} needs a value"))?,
                None => String::new(),
            };
            flags.options.push((name.to_owned(), on_one_line(name, value)?));
        } else if argument.len() > 1 && argument.starts_with('-') {
            short(&argument[1..], &mut rest, &mut flags)?;
        } else {
            flags.unknown.push(argument.clone());
        }
    }
    Ok(flags)
}

/// One word of short options; the first that wants a value takes what is left of the word, or
/// the next word.
fn short<'a>(word: &str, rest: &mut impl Iterator<Item = &'a String>, flags: &mut Flags) -> Result<(), String> {
    for (at, letter) in word.char_indices() {
        let mut value = || {
            let left = &word[at + letter.len_utf8()..];
            match left.is_empty() {
                false => Ok(left.to_owned()),
                true => rest.next().cloned().ok_or_else(|| format!("-{letter} needs a value")),
            }
        };
        match letter {
            'n' => flags.no_file = true,
            'h' => flags.help = true,
            'c' => {
                flags.file = Some(value()?);
                return Ok(());
            }
            _ => {
                let Some(&(_, name, wants)) = SHORT.iter().find(|(short, ..)| *short == letter) else {
                    return Err(format!("-{letter} is not an option of coturn's"));
                };
                let given = if wants { value()? } else { String::new() };
                flags.options.push((name.to_owned(), on_one_line(name, given)?));
                if wants {
                    return Ok(());
                }
            }
        }
    }
    Ok(())
}

/// The key of that name, or the only one that begins so.
fn long_name(name: &str) -> Result<&'static str, String> {
    if let Some(key) = KEYS.iter().find(|key| key.name == name) {
        return Ok(key.name);
    }
    let begin: Vec<&str> = KEYS.iter().map(|key| key.name).filter(|key| key.starts_with(name)).collect();
    match begin[..] {
        [only] if !name.is_empty() => Ok(only),
        [] | [_] => match super::keys::REMOVED.iter().find(|key| key.name == name) {
            Some(removed) => Ok(removed.name),
            None => Err(format!("--{name} is not an option of coturn's")),
        },
        _ => Err(format!("--{name} can be any of --{}", begin.join(", --"))),
    }
}

/// Whether the next word is the value of an option that has none behind a `=`.
fn wants_value(name: &str) -> bool {
    KEYS.iter().find(|key| key.name == name).is_some_and(|key| match key.kind {
        Kind::Flag | Kind::Switch => false,
        Kind::Number => !OPTIONAL_NUMBERS.contains(&name),
        Kind::Port | Kind::Text => true,
    })
}

/// A value goes into a text of lines, and none of coturn's has more than one.
fn on_one_line(name: &str, value: String) -> Result<String, String> {
    match value.contains(['\n', '\r']) {
        true => Err(format!("the value of {name} has more than one line")),
        false => Ok(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Flags, String> {
        flags(&line.split(' ').filter(|word| !word.is_empty()).map(str::to_owned).collect::<Vec<_>>())
    }

    fn options(line: &str) -> Vec<String> {
        let flags = read(line).unwrap_or_else(|error| panic!("{line}: {error}"));
        flags.options.into_iter().map(|(key, value)| format!("{key}={value}")).collect()
    }

    #[test]
    fn options_are_taken_apart_as_getopt_does() {
        assert_eq!(
            options("-L 192.0.2.7 -a -u user:pass -r realm -f -v"),
            ["listening-ip=192.0.2.7", "lt-cred-mech=", "user=user:pass", "realm=realm", "fingerprint=", "verbose="]
        );
        assert_eq!(options("-afL192.0.2.7"), ["lt-cred-mech=", "fingerprint=", "listening-ip=192.0.2.7"]);
        assert_eq!(
            options("--realm=a=b --min-port 5000 --no-tls --stale-nonce --no-cli=0 --use-auth"),
            ["realm=a=b", "min-port=5000", "no-tls=", "stale-nonce=", "no-cli=0", "use-auth-secret="]
        );
        assert_eq!(options("--no-sslv3 --user a:-b"), ["no-sslv3=", "user=a:-b"]);
    }

    #[test]
    fn what_is_no_option_for_a_file() {
        let flags = read("-n -c /etc/t.conf stray -- -v").unwrap();
        assert_eq!((flags.file.as_deref(), flags.no_file), (Some("/etc/t.conf"), true));
        assert_eq!((flags.unknown, flags.options), (vec!["stray".to_owned(), "-v".to_owned()], Vec::new()));
        assert!(read("-h").unwrap().help && read("--version").unwrap().version);
    }

    #[test]
    fn where_coturn_ends_is_an_error() {
        for (line, what) in [
            ("-L", "-L needs a value"),
            ("--realm", "--realm needs a value"),
            ("-y", "-y is not an option"),
            ("--reelm=x", "--reelm is not an option"),
            ("--no-t", "--no-t can be any of --no-tcp, --no-tls"),
            ("--", ""),
        ] {
            match read(line) {
                Err(error) => assert!(!what.is_empty() && error.starts_with(what), "{line}: {error}"),
                Ok(_) => assert_eq!(what, "", "{line}"),
            }
        }
        assert!(flags(&["--realm=a\nno-auth".to_owned()]).is_err());
    }
}
