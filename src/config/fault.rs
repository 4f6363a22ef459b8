//! What is wrong with a configuration, where, and what to do about it.

use std::fmt;
use std::ops::Range;

/// Longest part of a line that is shown, in characters.
const EXCERPT_CHARS_MAX: usize = 100;
/// Longest sentence, in characters: it may quote a key or a value as it was written.
const WHAT_CHARS_MAX: usize = 400;

/// A reason not to start. Its text is one sentence with the place in parentheses, then the line
/// with a caret under the fault, then a hint; it never contains a secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Fault(Box<Parts>);

#[derive(Clone, Default, PartialEq, Eq)]
struct Parts {
    what: String,
    place: Option<String>,
    excerpt: Option<Excerpt>,
    hint: Option<String>,
}

/// A line of a file and the characters of it that are meant.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Excerpt {
    /// Counted from 1.
    pub line: usize,
    pub text: String,
    /// Characters, counted from 0; may end behind the line.
    pub marked: Range<usize>,
}

impl Fault {
    /// A fault with no place.
    pub fn new(what: impl Into<String>) -> Self {
        Fault(Box::new(Parts { what: what.into(), ..Parts::default() }))
    }

    /// Says where it is.
    pub fn at(mut self, place: impl Into<String>) -> Self {
        self.0.place = Some(place.into());
        self
    }

    /// Says what may have been meant.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    pub(super) fn excerpt(mut self, excerpt: Excerpt) -> Self {
        self.0.excerpt = Some(excerpt);
        self
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.what.char_indices().nth(WHAT_CHARS_MAX) {
            Some((end, _)) => write!(f, "{}…", &self.0.what[..end])?,
            None => f.write_str(&self.0.what)?,
        }
        if let Some(place) = &self.0.place {
            write!(f, " ({place})")?;
        }
        if let Some(excerpt) = &self.0.excerpt {
            excerpt.fmt(f)?;
        }
        match (&self.0.hint, &self.0.excerpt) {
            (Some(hint), Some(excerpt)) => write!(f, "\n{:1$} = {hint}", "", excerpt.gutter()),
            (Some(hint), None) => write!(f, "\n  {hint}"),
            (None, _) => Ok(()),
        }
    }
}

impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Fault {}

impl Excerpt {
    fn gutter(&self) -> usize {
        self.line.to_string().len()
    }

    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let skipped = self.marked.start.saturating_sub(EXCERPT_CHARS_MAX / 2);
        let shown: String = self
            .text
            .chars()
            .skip(skipped)
            .take(EXCERPT_CHARS_MAX)
            // A tab is as wide as the caret's line makes it.
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect();
        let from = self.marked.start - skipped;
        let carets = self.marked.len().min(shown.chars().count().saturating_sub(from)).max(1);
        let gutter = self.gutter();
        write!(f, "\n{:gutter$} |\n{} | {shown}", "", self.line)?;
        write!(f, "\n{:gutter$} | {:from$}{:^<carets$}", "", "", "")
    }
}

/// The candidate nearest to `word` in single edits, if it is near enough to be what was meant.
pub(super) fn nearest<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase().replace('-', "_");
    let enough = (word.chars().count() / 3).max(1);
    candidates
        .map(|candidate| (edits(&word, candidate), candidate))
        .filter(|&(edits, _)| edits <= enough)
        .min()
        .map(|(_, candidate)| candidate)
}

/// Insertions, deletions, replacements and swaps of neighbours between two words.
fn edits(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(64).collect(), b.chars().take(64).collect());
    let mut before = vec![0; b.len() + 1];
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let replaced = above[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = replaced.min(above[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        before = std::mem::replace(&mut above, row);
    }
    above[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_caret_stands_under_the_fault() {
        let excerpt = Excerpt { line: 12, text: "\tports = 7".into(), marked: 9..10 };
        let fault = Fault::new("no").at("a.toml:12:10").excerpt(excerpt).hint("yes");
        let expected = "no (a.toml:12:10)\n   |\n12 |  ports = 7\n   |          ^\n   = yes";
        assert_eq!(fault.to_string(), expected);
    }

    #[test]
    fn a_long_line_is_cut_around_the_fault() {
        let excerpt = Excerpt { line: 1, text: "x".repeat(500), marked: 300..500 };
        let text = Fault::new("no").excerpt(excerpt).to_string();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[2].len(), "1 | ".len() + EXCERPT_CHARS_MAX);
        assert_eq!(lines[3].matches('^').count(), EXCERPT_CHARS_MAX / 2);
    }

    #[test]
    fn a_long_sentence_is_cut_and_its_place_is_not() {
        let text = Fault::new("é".repeat(WHAT_CHARS_MAX + 1)).at("a.toml:1:1").to_string();
        assert_eq!(text, format!("{}… (a.toml:1:1)", "é".repeat(WHAT_CHARS_MAX)));
        let text = "é".repeat(WHAT_CHARS_MAX);
        assert_eq!(Fault::new(text.clone()).to_string(), text);
    }

    #[test]
    fn the_end_of_a_line_can_be_marked() {
        let excerpt = Excerpt { line: 1, text: "a =".into(), marked: 3..3 };
        assert_eq!(Fault::new("no").excerpt(excerpt).to_string(), "no\n  |\n1 | a =\n  |    ^");
    }

    #[test]
    fn edits_are_counted() {
        for (a, b, n) in [("", "abc", 3), ("udp", "upd", 1), ("realm", "relm", 1), ("kitten", "sitting", 3)] {
            assert_eq!((edits(a, b), edits(b, a)), (n, n), "{a} {b}");
        }
        assert_eq!(nearest("nonce-lifetime", ["max_ttl", "nonce_lifetime"].into_iter()), Some("nonce_lifetime"));
        assert_eq!(nearest("http", ["listen", "log"].into_iter()), None);
    }
}
