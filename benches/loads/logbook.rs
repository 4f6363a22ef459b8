//! The server's log, read as a whole: how many lines of each level, and which of them nobody expects.

use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use std::{fs, io};

/// What a healthy server under these loads may warn of: what its configuration allows on purpose, and what is the
/// machine's.
const EXPECTED: [&str; 2] = ["allow_loopback_peers", "overlaps the ports the kernel gives"];

/// A log.
#[derive(Debug, Default)]
pub struct Logbook {
    /// Lines, by level.
    pub levels: BTreeMap<String, u64>,
    /// Lines of level info and below, by what they say.
    pub texts: BTreeMap<String, u64>,
    /// Lines that nobody expects, as they are: warnings, errors, and what is no line of the log.
    pub unexpected: Vec<String>,
}

impl Logbook {
    /// Reads a log of JSON lines.
    pub fn read(path: &Path) -> io::Result<Logbook> {
        let mut book = Logbook::default();
        for line in fs::read_to_string(path)?.lines() {
            let entry: Value = serde_json::from_str(line).unwrap_or_default();
            let level = entry["level"].as_str().unwrap_or("none").to_owned();
            let is_fine = matches!(&*level, "INFO" | "DEBUG" | "TRACE");
            if is_fine {
                *book.texts.entry(entry["message"].as_str().unwrap_or_default().to_owned()).or_default() += 1;
            } else if !EXPECTED.iter().any(|text| line.contains(text)) {
                book.unexpected.push(line.to_owned());
            }
            *book.levels.entry(level).or_default() += 1;
        }
        Ok(book)
    }
}
