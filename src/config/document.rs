//! One piece of configuration as it was written: a file, an environment variable or `--set`.

use super::fault::{Excerpt, Fault};
use std::cell::OnceCell;
use std::fmt;
use std::fs::OpenOptions;
use std::io::{self, Read};
use std::ops::Range;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Largest file read, in bytes.
const FILE_LEN_MAX: u64 = 1 << 20;

/// Where a document comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A file.
    File(PathBuf),
    /// An environment variable, by its name.
    Env(String),
    /// `--set`, by the key it sets.
    Set(String),
    /// coturn's command line.
    Flags,
    /// What a coturn file leaves to coturn's defaults.
    Coturn,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::File(path) => path.display().fmt(f),
            Origin::Env(name) => write!(f, "env {name}"),
            Origin::Set(key) => write!(f, "--set {key}"),
            Origin::Flags => f.write_str("command line"),
            Origin::Coturn => f.write_str("as coturn has it"),
        }
    }
}

/// A text with its origin and the parts of it that are never shown; wiped when dropped.
pub struct Document {
    origin: Origin,
    text: Zeroizing<String>,
    keys: Vec<String>,
    hidden: OnceCell<Vec<Range<usize>>>,
    /// Where each line begins.
    lines: OnceCell<Vec<usize>>,
}

impl Document {
    /// A file's text, with nothing to hide yet.
    pub fn file(path: &Path, text: String) -> Self {
        Document::setting(Origin::File(path.to_owned()), Vec::new(), text)
    }

    /// One value for one key.
    pub fn setting(origin: Origin, keys: Vec<String>, text: String) -> Self {
        Document { origin, text: text.into(), keys, hidden: OnceCell::new(), lines: OnceCell::new() }
    }

    /// Reads a file of at most 1 MiB of UTF-8.
    pub fn read(path: &Path) -> Result<Self, Fault> {
        let place = path.display().to_string();
        let refuse = |what: String| Fault::new(what).at(place.clone());
        let bytes = read_limited(path).map_err(|error| refuse(format!("the file can not be read: {error}")))?;
        let text = String::from_utf8(bytes).map_err(|error| {
            refuse(format!("the file is not UTF-8 text: byte {}", error.utf8_error().valid_up_to()))
        })?;
        Ok(Document::file(path, text))
    }

    /// The file's path; `None` for a setting.
    pub fn path(&self) -> Option<&Path> {
        match &self.origin {
            Origin::File(path) => Some(path),
            Origin::Env(_) | Origin::Set(_) | Origin::Flags | Origin::Coturn => None,
        }
    }

    /// The text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The key a setting sets, part by part; empty for a file.
    pub fn keys(&self) -> &[String] {
        &self.keys
    }

    /// The directory that relative paths in this document start from: that of the file, else the
    /// working directory.
    pub fn directory(&self) -> &Path {
        self.path().and_then(Path::parent).unwrap_or(Path::new(""))
    }

    /// Never shows these bytes. The first call counts.
    pub fn hide(&self, hidden: Vec<Range<usize>>) {
        let _ = self.hidden.set(hidden);
    }

    /// Never shows a value: what follows the first `=` of a line, or all of a line that does not
    /// begin with a known key, as base64 ends with that sign too. For a text that was not understood.
    pub fn hide_values(&self, is_key: impl Fn(&str) -> bool) {
        let mut at = 0;
        let lines = self.text.split_inclusive('\n').map(|line| {
            let equals = line.find('=').filter(|&equals| is_key(line[..equals].trim()));
            let from = at + equals.map_or(0, |equals| equals + 1);
            at += line.len();
            from..at
        });
        self.hide(lines.collect());
    }

    /// A fault at these bytes, with the line they are on.
    pub fn fault(&self, span: Range<usize>, what: impl Into<String>) -> Fault {
        let Some(path) = self.path() else {
            return Fault::new(what).at(self.origin.to_string());
        };
        let start = self.floor(span.start);
        let (line, from) = self.line(start);
        let until = self.text[from..].find('\n').map_or(self.text.len(), |len| from + len);
        let column = self.text[from..start].chars().count();
        let marked = self.text[start..self.floor(span.end).clamp(start, until.max(start))].chars().count();
        Fault::new(what).at(format!("{}:{line}:{}", path.display(), column + 1)).excerpt(Excerpt {
            line,
            text: self.shown(from..until),
            marked: column..column + marked,
        })
    }

    /// Where these bytes are: `FILE:LINE`, `env NAME` or `--set KEY`.
    pub fn place(&self, span: &Range<usize>) -> String {
        match self.path() {
            Some(path) => format!("{}:{}", path.display(), self.line(self.floor(span.start)).0),
            None => self.origin.to_string(),
        }
    }

    /// The number of the line that `at` is on, counted from 1, and where it begins.
    fn line(&self, at: usize) -> (usize, usize) {
        let behind = |(newline, _): (usize, &str)| newline + 1;
        let lines =
            self.lines.get_or_init(|| [0].into_iter().chain(self.text.match_indices('\n').map(behind)).collect());
        let number = lines.partition_point(|&start| start <= at);
        (number, lines[number - 1])
    }

    fn floor(&self, at: usize) -> usize {
        (0..=at.min(self.text.len())).rev().find(|&at| self.text.is_char_boundary(at)).unwrap_or(0)
    }

    /// A part of the text with a star for each hidden character.
    fn shown(&self, part: Range<usize>) -> String {
        let from = part.start;
        self.text[part]
            .char_indices()
            .map(|(at, c)| match self.hidden.get().is_some_and(|hidden| within(hidden, from + at)) {
                true if !c.is_whitespace() => '*',
                _ => c,
            })
            .collect()
    }
}

/// A file's bytes, if they are no more than 1 MiB. Never waits for whoever would write to a pipe or type at a terminal.
pub fn read_limited(path: &Path) -> io::Result<Vec<u8>> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    let metadata = file.metadata()?;
    let kind = metadata.file_type();
    // The null device is a file with nothing in it.
    if !kind.is_file() && !kind.is_char_device() && !kind.is_dir() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "it is a pipe, a socket or a disk, and no file; one in /run is in memory too",
        ));
    }
    // Room for all of it: growing would leave parts of a secret behind where nobody wipes them.
    let mut bytes = Vec::with_capacity(metadata.len().min(FILE_LEN_MAX) as usize + 1);
    file.take(FILE_LEN_MAX + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > FILE_LEN_MAX {
        true => Err(io::Error::new(io::ErrorKind::FileTooLarge, "it is larger than 1 MiB")),
        false => Ok(bytes),
    }
}

fn within(hidden: &[Range<usize>], at: usize) -> bool {
    hidden.iter().any(|part| part.contains(&at))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> Document {
        Document::file(Path::new("dir/a.toml"), text.into())
    }

    #[test]
    fn a_fault_names_line_and_column_in_characters() {
        let document = file("a = 1\nrealm = \"é\" # x\n");
        let text = document.fault(14..18, "no").to_string();
        assert_eq!(text, "no (dir/a.toml:2:9)\n  |\n2 | realm = \"é\" # x\n  |         ^^^");
        assert_eq!(document.place(&(14..18)), "dir/a.toml:2");
        assert_eq!(document.directory(), Path::new("dir"));
    }

    #[test]
    fn a_fault_at_the_end_is_shown() {
        assert_eq!(file("a =").fault(3..3, "no").to_string(), "no (dir/a.toml:1:4)\n  |\n1 | a =\n  |    ^");
        assert_eq!(file("").fault(9..12, "no").to_string(), "no (dir/a.toml:1:1)\n  |\n1 | \n  | ^");
        assert!(file("a\n").fault(0..2, "no").to_string().ends_with("1 | a\n  | ^"));
    }

    #[test]
    fn what_is_hidden_is_starred() {
        let document = file("s = \"north\"\nt = \"south\"");
        document.hide(std::iter::once(5..10).collect());
        assert!(document.fault(4..11, "no").to_string().ends_with("1 | s = \"*****\"\n  |     ^^^^^^^"));
        let document = file("s = \"north\"\n\"south\"\nZWFzdA==\n");
        document.hide_values(|key| key == "s");
        assert!(document.fault(0..1, "no").to_string().contains("1 | s = *******\n"));
        assert!(document.fault(13..14, "no").to_string().contains("2 | *******\n"));
        assert!(document.fault(20..21, "no").to_string().contains("3 | ********\n"));
    }

    #[test]
    fn a_setting_has_a_name_and_no_line() {
        let keys = vec!["realm".to_string()];
        let document = Document::setting(Origin::Env("TURNPIKE__REALM".into()), keys, "north".into());
        assert_eq!(document.fault(0..5, "no").to_string(), "no (env TURNPIKE__REALM)");
    }
}
