//! A translation under way: the lines, what was said about each, and what follows from them.

use super::databases::Database;
use super::keys::{self, KEYS, Key, Kind, MISSPELT};
use super::parser::{self, Line};
use super::turndb::log_of;
use super::{End, NO_LINE, Note, Reader, Setting, Value, find_file, printable};
use crate::config::document::Document;
use crate::config::fault::{Fault, nearest};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// Why a value that is in no line is there.
pub(super) const STORED: &str = "its own database holds it";

/// A translation under way.
pub(super) struct Conf<'a> {
    pub(super) sources: &'a [Document],
    pub(super) lines: Vec<Line>,
    pub(super) notes: Vec<Option<Note>>,
    pub(super) general: Vec<Note>,
    pub(super) settings: Vec<Setting>,
    pub(super) refusals: Vec<Fault>,
    pub(super) secrets: Option<Vec<String>>,
    pub(super) reader: Reader,
    pub(super) database: Option<Database>,
}

impl<'a> Conf<'a> {
    pub(super) fn new(sources: &'a [Document], lines: Vec<Line>, reader: Reader) -> Self {
        for (at, source) in sources.iter().enumerate() {
            let secret = lines.iter().filter(|line| line.source == at && keys::is_secret(&line.key));
            source.hide(secret.filter(|line| !line.value.is_empty()).map(|line| line.value_span.clone()).collect());
        }
        let notes = vec![None; lines.len()];
        let (general, settings, refusals) = (Vec::new(), Vec::new(), Vec::new());
        Conf { sources, lines, notes, general, settings, refusals, secrets: None, reader, database: None }
    }

    /// Judges what coturn judges before it acts: whether a key is known, and its value of the
    /// right kind.
    pub(super) fn judge_values(&mut self) {
        for at in 0..self.lines.len() {
            let line = self.lines[at].clone();
            let Some(key) = keys::find(&line.key) else {
                let text = match MISSPELT.iter().find(|(name, _)| *name == line.key) {
                    Some((_, meant)) => format!("coturn has no such key: {meant}"),
                    None => match meant(&line.key) {
                        Some(meant) => format!("coturn has no such key and passes over it: did you mean {meant}?"),
                        None => "coturn has no such key and passes over it".to_owned(),
                    },
                };
                self.note(at, End::NeedsYou, text);
                continue;
            };
            let fault = match (line.damage, key.kind) {
                (Some(damage), _) => Err(damage.to_owned()),
                (None, Kind::Flag) => parser::boolean(&line.value).map(drop),
                (None, Kind::Port) => parser::port(&line.value).map(drop),
                _ => Ok(()),
            };
            match fault {
                Err(what) => self.refuse(at, what, ""),
                Ok(()) if line.value.is_empty() && key.name.ends_with("-peer-ip") => {
                    self.refuse(at, "it names no address, and coturn ends here", "write an address or FIRST-LAST");
                }
                Ok(()) if line.value.is_empty() && needs_value(key) => {
                    self.note(at, End::Nothing, "it has no value");
                }
                Ok(()) => {}
            }
        }
    }

    pub(super) fn carry(&mut self) {
        let has_tls = self.certificate();
        self.realm();
        let stun_only = self.on("stun-only");
        self.open_database(stun_only.is_some());
        self.listeners(has_tls);
        self.relay();
        self.peers();
        self.accounts(stun_only);
        self.limits();
        self.say_database();
        self.alternates();
        self.log();
        self.monitoring(has_tls);
        self.defaults(has_tls);
    }

    /// Gives every line that is left what the table says about its key.
    pub(super) fn finish(&mut self) {
        for at in 0..self.lines.len() {
            let line = &self.lines[at];
            let Some(key) = keys::find(&line.key) else { continue };
            if self.notes[at].is_none() {
                let is_off = key.kind == Kind::Flag && parser::boolean(&line.value) == Ok(false);
                match (is_off, key.end) {
                    (true, _) => self.note(at, End::Nothing, "it is off, as it is without the line"),
                    (false, End::Refused) => self.refuse(at, key.says, ""),
                    (false, end) => self.note(at, end, key.says),
                }
            }
            self.remark(at, key);
        }
    }

    /// Adds to a line's note what coturn reads otherwise than its author thought.
    pub(super) fn remark(&mut self, at: usize, key: &Key) {
        let line = &self.lines[at];
        let Some(note) = &mut self.notes[at] else { return };
        let is_switched_off = key.kind == Kind::Switch && parser::boolean(&line.value) == Ok(false);
        let remark = if is_switched_off && !line.value.is_empty() {
            "coturn takes no notice of the `=false`: it is on; remove the line to turn it off"
        } else if line.ends_with_semicolon() {
            "the semicolon at the end belongs to the value"
        } else if key.kind == Kind::Number && !line.value.is_empty() && !parser::number(&line.value).1 {
            "coturn reads the digits in front and nothing else"
        } else {
            return;
        };
        note.text = if note.text.is_empty() { remark.to_owned() } else { format!("{}; {remark}", note.text) };
        if note.end < End::Dropped {
            note.end = End::NeedsYou;
        }
    }

    pub(super) fn note(&mut self, at: usize, end: End, text: impl Into<String>) {
        let line = &self.lines[at];
        let place = self.sources[line.source].place(&line.span);
        self.notes[at] = Some(Note::new(place, printable(&line.key), end, text.into()));
    }

    /// Says of the newest note about a line that a file's contents count for it.
    pub(super) fn depend(&mut self, at: usize, file: &Path, is_unread: bool) {
        let note = if at == NO_LINE { self.general.last_mut() } else { self.notes[at].as_mut() };
        if let Some(note) = note {
            note.files = vec![file.to_owned(), log_of(file)];
            note.is_unread = is_unread;
        }
    }

    /// A note about a default.
    pub(super) fn general(&mut self, key: &str, end: End, text: impl Into<String>) {
        self.general.push(Note::new(String::new(), key.to_owned(), end, text.into()));
    }

    pub(super) fn refuse(&mut self, at: usize, what: impl Into<String>, hint: &str) {
        let (line, what) = (&self.lines[at], what.into());
        let fault =
            self.sources[line.source].fault(line.value_span.clone(), format!("`{}`: {what}", printable(&line.key)));
        self.refusals.push(if hint.is_empty() { fault } else { fault.hint(hint) });
        let text = if hint.is_empty() { what } else { format!("{what}; {hint}") };
        self.note(at, End::Refused, text);
    }

    /// The lines with this key that nothing was said about yet.
    pub(super) fn all(&self, key: &str) -> Vec<usize> {
        (0..self.lines.len()).filter(|&at| self.notes[at].is_none() && self.lines[at].key == key).collect()
    }

    /// The line that counts, which is the last.
    pub(super) fn last(&mut self, key: &str) -> Option<usize> {
        let mut all = self.all(key);
        let last = all.pop()?;
        let place = self.place(last);
        for earlier in all {
            self.note(earlier, End::Nothing, format!("{place} sets it again, and the last counts"));
        }
        Some(last)
    }

    /// The line of a switch that counts, if it turns it on.
    pub(super) fn on(&mut self, key: &str) -> Option<usize> {
        let at = self.last(key)?;
        let is_switch = keys::find(key).is_some_and(|key| key.kind == Kind::Switch);
        (is_switch || parser::boolean(self.value(at)) == Ok(true)).then_some(at)
    }

    /// The line of a port that counts, and the port; 0 is one of the kernel's choice.
    pub(super) fn port(&mut self, key: &str) -> Option<(usize, u16)> {
        let at = self.last(key)?;
        parser::port(self.value(at)).ok().map(|port| (at, port))
    }

    pub(super) fn value(&self, at: usize) -> &str {
        &self.lines[at].value
    }

    /// `FILE:LINE` or `command line`.
    pub(super) fn place(&self, at: usize) -> String {
        self.sources[self.lines[at].source].place(&self.lines[at].span)
    }

    pub(super) fn set(&mut self, path: &str, value: Value, lines: &[usize]) {
        let path = path.split('.').map(str::to_owned).collect();
        self.settings.push(Setting { path, value, lines: lines.to_vec(), habit: "" });
    }

    /// Sets what coturn does without being asked.
    pub(super) fn set_habit(&mut self, path: &str, value: Value, habit: &'static str) {
        let path = path.split('.').map(str::to_owned).collect();
        self.settings.push(Setting { path, value, lines: Vec::new(), habit });
    }

    /// Sets what a database holds that a line names, or none does.
    pub(super) fn set_stored(&mut self, path: &str, value: Value, at: usize) {
        match at {
            NO_LINE => self.set_habit(path, value, STORED),
            at => self.set(path, value, &[at]),
        }
    }

    /// An address, or the one a host name has now; with what to say about a name.
    pub(super) fn address(&self, text: &str) -> Result<(IpAddr, String), String> {
        let bare = text.trim();
        let bare = bare.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(bare);
        if let Ok(ip) = bare.parse() {
            return Ok((ip, String::new()));
        }
        let is_name = bare.bytes().any(|b| b.is_ascii_alphabetic())
            && bare.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b));
        match if is_name { (self.reader.resolve)(bare) } else { None } {
            Some(ip) => Ok((ip, format!("{bare} is {ip} now"))),
            None => Err(format!("{} is not an address", printable(bare))),
        }
    }

    /// The file a path of a line means: beside the file that names it, else where coturn looks.
    pub(super) fn path(&self, at: usize) -> PathBuf {
        let line = &self.lines[at];
        let beside = self.sources[line.source].directory().join(&line.value);
        let found = if beside.is_file() { None } else { find_file(&line.value) };
        let path = found.unwrap_or(beside);
        std::path::absolute(&path).unwrap_or(path)
    }
}

/// The key that was probably meant.
fn meant(word: &str) -> Option<&'static str> {
    let names: Vec<String> = KEYS.iter().map(|key| key.name.replace('-', "_")).collect();
    let nearest = nearest(word, names.iter().map(String::as_str))?;
    let at = names.iter().position(|name| name == nearest)?;
    Some(KEYS[at].name)
}

fn needs_value(key: &Key) -> bool {
    let optional = ["stale-nonce", "max-allocate-lifetime", "channel-lifetime", "permission-lifetime"];
    match key.kind {
        Kind::Flag | Kind::Switch => false,
        Kind::Number => !optional.contains(&key.name) && key.name != "unauthorized-ratelimit-rps",
        Kind::Port => true,
        // Most of the removed keys were switches.
        Kind::Text => !keys::REMOVED.iter().any(|removed| removed.name == key.name),
    }
}
