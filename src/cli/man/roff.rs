//! A manual page while it is written, in the language of man(7).

use std::fmt::Write;
use std::io;

/// What `clap_mangen` begins every piece with; once a page is enough.
const PREAMBLE: &str = ".ie \\n(.g .ds Aq \\(aq\n.el .ds Aq '\n";

/// A page that grows downwards.
#[derive(Debug, Default)]
pub struct Page(String);

impl Page {
    /// Adds what `piece` writes, which is man(7) already.
    pub fn take(&mut self, piece: impl FnOnce(&mut dyn io::Write) -> io::Result<()>) -> io::Result<()> {
        let mut bytes = Vec::new();
        piece(&mut bytes)?;
        let text = String::from_utf8_lossy(&bytes);
        // Two breaks around an empty line are one empty line.
        let text = text.trim_start_matches('\n').trim_start_matches(PREAMBLE).replace("\n.br\n\n.br\n", "\n.sp\n");
        self.raw(&text);
        Ok(())
    }

    /// Begins the page. It has no date: that would be the day of the build.
    pub fn title(&mut self, name: &str, section: u8, source: &str, manual: &str) {
        self.line(&format!(".TH {} {section} \"\" \"{source}\" \"{manual}\"", escaped(name)));
    }

    /// Adds lines that are man(7) already.
    pub fn raw(&mut self, text: &str) {
        self.0.push_str(text);
        if !text.ends_with('\n') {
            self.0.push('\n');
        }
    }

    /// Adds one line that is man(7) already.
    pub fn line(&mut self, line: &str) {
        self.raw(line);
    }

    /// Begins a section.
    pub fn section(&mut self, title: &str) {
        // A String takes everything that is written to it.
        let _ = writeln!(self.0, ".SH \"{}\"", escaped(title).replace('"', "\\(dq"));
    }

    /// Adds a paragraph of plain text.
    pub fn paragraph(&mut self, text: &str) {
        self.space();
        self.line(&escaped(text));
    }

    /// Adds lines that stay as they are.
    pub fn verbatim(&mut self, lines: &[&str]) {
        self.space();
        self.raw(".RS 4\n.nf");
        for line in lines {
            self.line(&escaped(line));
        }
        self.raw(".fi\n.RE");
    }

    /// Adds names, and below them what they are.
    pub fn entry(&mut self, names: &[&str], text: &str) {
        for (at, name) in names.iter().enumerate() {
            self.line(if at == 0 { ".TP" } else { ".TQ" });
            let _ = writeln!(self.0, "\\fB{}\\fR", escaped(name));
        }
        self.line(&escaped(text));
    }

    /// Adds the examples that the end of a command's help shows, if it does.
    pub fn examples(&mut self, help: &str) {
        let mut lines = help.lines().skip_while(|line| !line.starts_with("Example")).skip(1);
        let examples: Vec<&str> = lines.by_ref().take_while(|line| !line.is_empty()).collect();
        if examples.is_empty() {
            return;
        }
        self.section("EXAMPLES");
        let examples: Vec<&str> = examples.into_iter().map(|line| line.strip_prefix("  ").unwrap_or(line)).collect();
        self.verbatim(&examples);
        let rest: Vec<&str> = lines.collect();
        for paragraph in rest.join("\n").split("\n\n").map(str::trim).filter(|text| !text.is_empty()) {
            self.paragraph(&paragraph.replace('\n', " "));
        }
    }

    /// Begins a paragraph; below the title of a section that is so already.
    fn space(&mut self) {
        let last = self.0.lines().next_back().unwrap_or_default();
        if !last.starts_with(".SH") {
            self.line(".PP");
        }
    }

    /// The whole page.
    pub fn text(mut self) -> String {
        self.0.insert_str(0, PREAMBLE);
        self.0
    }
}

/// Plain text that means itself: nothing in it is a request or is made prettier than it was.
pub fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    if text.starts_with(['.', '\'']) {
        escaped.push_str("\\&");
    }
    for c in text.chars() {
        match c {
            '\\' => escaped.push_str("\\e"),
            '-' => escaped.push_str("\\-"),
            '\'' => escaped.push_str("\\(aq"),
            '`' => escaped.push_str("\\(ga"),
            '^' => escaped.push_str("\\(ha"),
            '~' => escaped.push_str("\\(ti"),
            c if c.is_ascii() => escaped.push(c),
            c => {
                let _ = write!(escaped, "\\[u{:04X}]", u32::from(c));
            }
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_means_itself() {
        assert_eq!(escaped(".SH 'a-b\\n`~^…"), "\\&.SH \\(aqa\\-b\\en\\(ga\\(ti\\(ha\\[u2026]");
        assert_eq!(escaped("'quoted'"), "\\&\\(aqquoted\\(aq");
    }

    #[test]
    fn examples_are_shown_as_they_are_and_what_follows_them_is_told() {
        let mut page = Page::default();
        page.examples("Example:\n  turnpike x     tries it\n    and more\n\nWhat it\nmeans.");
        let text = page.text();
        let expected = ".nf\nturnpike x     tries it\n  and more\n.fi\n.RE\n.PP\nWhat it means.\n";
        assert!(text.ends_with(expected), "{text}");
        let mut page = Page::default();
        page.examples("");
        assert_eq!(page.text(), PREAMBLE);
    }
}
