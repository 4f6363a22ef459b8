//! A translation as TOML: only what differs from the defaults, each value under a comment with
//! the lines it comes from.

use super::{End, Note, Setting, Value, parser::Line, printable};
use crate::config::document::Document;
use crate::config::secret::SECRET_LEN_MIN;
use std::fmt::Write;

/// The tables in the order they are written; the first has no header.
const TABLES: [&str; 10] = ["", "listen", "tls", "relay", "auth", "limits", "http", "metrics", "log", "auth.users"];

/// Writes settings. With `secrets`, each secret is filled up to the length TOML asks for.
pub(super) fn toml(
    sources: &[Document],
    lines: &[Line],
    settings: &[Setting],
    general: &[Note],
    secrets: Option<&[String]>,
) -> String {
    let mut text = header(sources);
    for note in general.iter().filter(|note| note.end == End::Safer) {
        let _ = writeln!(text, "# {}: {}", note.key, note.text);
    }
    for table in TABLES {
        let of_table = settings.iter().filter(|setting| setting.path[..setting.path.len() - 1].join(".") == table);
        let mut before = None;
        for (at, setting) in of_table.enumerate() {
            if at == 0 && !table.is_empty() {
                let _ = writeln!(text, "\n[{table}]");
            }
            let comment = comment(sources, lines, setting);
            // Users of one file would repeat it.
            if before.as_ref() != Some(&comment) {
                let _ = writeln!(text, "# {comment}");
            }
            before = Some(comment);
            let name = setting.path.last().map_or("", String::as_str);
            let name = if table == "auth.users" { string(name) } else { name.to_owned() };
            let _ = writeln!(text, "{name} = {}", value(setting, secrets));
        }
    }
    text
}

fn header(sources: &[Document]) -> String {
    let mut names =
        sources.iter().filter_map(|source| source.path()).map(|path| printable(&path.display().to_string()));
    let from = names.next().unwrap_or_else(|| "the command line".into());
    format!(
        "# turnpike's configuration, made from coturn's {from}.\n\
         # It may hold secrets: `chmod 600` it, and let it belong to the user turnpike runs as.\n"
    )
}

/// `turnserver.conf:3 listening-port, turnserver.conf:4 listening-ip`, or why there is no line.
fn comment(sources: &[Document], lines: &[Line], setting: &Setting) -> String {
    if setting.lines.is_empty() {
        return match setting.habit {
            "" => "as coturn has it".into(),
            habit => format!("as coturn has it: {habit}"),
        };
    }
    let mut places: Vec<(String, &str, usize)> = Vec::new();
    for line in setting.lines.iter().map(|&at| &lines[at]) {
        match places.iter_mut().find(|(_, key, _)| *key == line.key) {
            Some((_, _, more)) => *more += 1,
            None => places.push((sources[line.source].place(&line.span), &line.key, 0)),
        }
    }
    let shown = places.iter().map(|(place, key, more)| match more {
        0 => printable(&format!("{place} {key}")),
        _ => printable(&format!("{place} {key} and {more} more")),
    });
    shown.collect::<Vec<_>>().join(", ")
}

fn value(setting: &Setting, secrets: Option<&[String]>) -> String {
    match &setting.value {
        Value::Text(text) => string(text),
        Value::Number(number) => number.to_string(),
        Value::Flag(flag) => flag.to_string(),
        Value::List(list) => {
            let is_secrets = setting.path == ["auth", "secrets"] && secrets.is_some();
            let element = |(text, _): &(String, usize)| match is_secrets {
                true => string(&format!("{text:.<SECRET_LEN_MIN$}")),
                false => string(text),
            };
            let list: Vec<String> = list.iter().map(element).collect();
            match list.iter().map(String::len).sum::<usize>() > 80 {
                true => format!("[\n    {},\n]", list.join(",\n    ")),
                false => format!("[{}]", list.join(", ")),
            }
        }
    }
}

/// A basic string, on one line.
fn string(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => {
                let _ = write!(quoted, "\\u{:04x}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_string_reads_as_it_was() {
        for text in ["", "a", "a\"b\\c", "tab\tand\u{7f}\u{85}", "é€😀", "#"] {
            let read: toml::Table = toml::from_str(&format!("x = {}", string(text))).unwrap();
            assert_eq!(read["x"].as_str(), Some(text));
        }
    }
}
