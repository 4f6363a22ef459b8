//! The documented sample configuration, read as what it documents.
//!
//! The sample is comments in a strict form: what a key does stands above it, its default is its
//! value, an empty line ends an entry, and a `[table]` may have its purpose beside it.

use super::roff::Page;

/// Writes the keys of a sample and what they do.
pub fn write(sample: &str, page: &mut Page) {
    // The first line is the title, which a page has already.
    let mut lines = sample.lines().skip_while(|line| line.starts_with("# ")).peekable();
    let mut seen_key = false;
    while let Some(line) = lines.next() {
        if line.starts_with('[') {
            let (table, purpose) = line.split_once('#').unwrap_or((line, ""));
            page.section(table.trim());
            if !purpose.trim().is_empty() {
                page.paragraph(purpose.trim());
            }
        } else if line.starts_with('#') {
            let mut entry = Entry::default();
            entry.push(line);
            while let Some(line) = lines.next_if(|line| line.starts_with('#')) {
                entry.push(line);
            }
            if !entry.keys.is_empty() && !seen_key {
                seen_key = true;
                page.section("TOP LEVEL");
            }
            entry.write(page);
        }
    }
}

/// Lines of the sample that stand together.
#[derive(Default)]
struct Entry<'a> {
    text: Vec<&'a str>,
    keys: Vec<&'a str>,
}

impl<'a> Entry<'a> {
    fn push(&mut self, line: &'a str) {
        let line = line.strip_prefix('#').unwrap_or(line);
        let line = line.strip_prefix(' ').unwrap_or(line);
        match is_key(line) {
            true => self.keys.push(line),
            false => self.text.push(line),
        }
    }

    fn write(&self, page: &mut Page) {
        if !self.keys.is_empty() {
            return page.entry(&self.keys, &self.text.join(" "));
        }
        // Prose, in which what is indented stays as it is.
        for block in self.text.chunk_by(|a, b| is_indented(a) == is_indented(b) && !a.is_empty() && !b.is_empty()) {
            match block {
                [first, ..] if is_indented(first) => page.verbatim(block),
                [first, ..] if !first.is_empty() => page.paragraph(&block.join(" ")),
                _ => {}
            }
        }
    }
}

fn is_indented(line: &str) -> bool {
    line.starts_with("  ")
}

/// Whether a line sets a key: `name = value`.
fn is_key(line: &str) -> bool {
    let is_name = |key: &str| key.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    line.split_once(" = ").is_some_and(|(key, _)| !key.is_empty() && is_name(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_stand_above_what_they_do() {
        let mut page = Page::default();
        write(
            "# Title.\n#\n# All of it.\n#\n#   turnpike run\n#\n# More.\n\n# One.\n# a = 1\n\n[t]   # Two.\n\n# Both\n# of them.\n# b = \"x\"\n# c = []\n",
            &mut page,
        );
        let text = page.text();
        let expected = ".PP\nAll of it.\n.PP\n.RS 4\n.nf\n  turnpike run\n.fi\n.RE\n.PP\nMore.\n\
                        .SH \"TOP LEVEL\"\n.TP\n\\fBa = 1\\fR\nOne.\n.SH \"[t]\"\nTwo.\n\
                        .TP\n\\fBb = \"x\"\\fR\n.TQ\n\\fBc = []\\fR\nBoth of them.\n";
        assert!(text.ends_with(expected), "{text}");
    }
}
