//! The terminal as a screen: a page of its own that goes away and leaves what was there before.

use super::frame::{Line, Size};
use std::io::{self, Write};

/// The other page, no cursor, and lines that are cut rather than continued.
const OPEN: &str = "\x1b[?1049h\x1b[?25l\x1b[?7l";
const CLOSE: &str = "\x1b[?7h\x1b[?25h\x1b[?1049l";

/// The screen while it is shown.
pub struct Screen(());

impl Screen {
    /// Takes the terminal.
    pub fn open() -> io::Result<Screen> {
        write(OPEN)?;
        Ok(Screen(()))
    }

    /// Shows these lines and nothing else. One write, so that nobody sees half of it.
    pub fn draw(&mut self, lines: &[Line]) -> io::Result<()> {
        let mut text = String::from("\x1b[H");
        for (at, line) in lines.iter().enumerate() {
            let end = if at == 0 { "" } else { "\r\n" };
            match line.is_heading {
                true => text.push_str(&format!("{end}\x1b[7m{}\x1b[K\x1b[0m", line.text)),
                false => text.push_str(&format!("{end}{}\x1b[K", line.text)),
            }
        }
        text.push_str("\x1b[J");
        write(&text)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // A terminal that is gone needs nothing back.
        let _ = write(CLOSE);
    }
}

fn write(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

impl Size {
    /// The terminal's; what `COLUMNS` and `LINES` say, or 80 by 24, where it does not tell. The last
    /// column stays free: to erase behind a full line would erase its last character.
    pub fn of_terminal() -> Size {
        let told = |name: &str, or: usize| {
            let told = std::env::var(name).ok().and_then(|text| text.parse().ok());
            told.filter(|&size| size > 0).unwrap_or(or)
        };
        let (columns, lines) = match terminal_size::terminal_size() {
            Some((columns, lines)) if columns.0 > 0 && lines.0 > 0 => (columns.0.into(), lines.0.into()),
            _ => (told("COLUMNS", 80), told("LINES", 24)),
        };
        Size { columns: columns - 1, lines }
    }
}
