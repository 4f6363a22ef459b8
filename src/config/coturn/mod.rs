//! coturn's `turnserver.conf`, and its command line, as turnpike's configuration.
//!
//! What coturn accepted goes on running, with one note a line; what would open the relay to
//! everyone or to private networks is refused or made safe, and said so. No line is lost: each
//! has exactly one [`Note`]. The result is TOML, the same that `import` prints, so that a file
//! behaves alike before and after it is imported.

mod accounts;
mod alternates;
mod conf;
mod databases;
mod flags;
pub mod keys;
mod limits;
mod monitoring;
mod network;
mod parser;
mod peers;
mod tls;
mod turndb;
mod version;
mod write;

pub use flags::{Flags, flags};
pub use keys::End;
pub use version::Version;

use super::document::{Document, Origin, read_limited};
use super::fault::Fault;
use super::secret::Secret;
use conf::Conf;
use parser::Line;
use std::collections::BTreeMap;
use std::net::{IpAddr, ToSocketAddrs};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;
use zeroize::{Zeroize, Zeroizing};

/// Where coturn looks for a file that is named by a relative path.
const SEARCH_DIRECTORIES: [&str; 15] = [
    "./",
    "./turnserver/",
    "./coturn/",
    "./etc/",
    "./etc/turnserver/",
    "./etc/coturn/",
    "../etc/",
    "../etc/turnserver/",
    "../etc/coturn/",
    "/etc/",
    "/etc/turnserver/",
    "/etc/coturn/",
    "/usr/local/etc/",
    "/usr/local/etc/turnserver/",
    "/usr/local/etc/coturn/",
];

/// Where coturn keeps its database unless told otherwise: Debian's place, then its own.
const DATABASES: [&str; 3] = ["/var/lib/turn/turndb", "/var/db/turndb", "/usr/local/var/db/turndb"];

/// Longest TOML that is read of one file, in bytes.
pub const FILE_LEN_MAX: usize = 1 << 20;

/// How long the system may look for the address of a host name.
const RESOLVE_MAX: Duration = Duration::from_secs(5);

/// Stands for a line where a default has none.
const NO_LINE: usize = usize::MAX;

/// How a coturn configuration is to be read.
#[derive(Clone, Copy, Debug)]
pub struct Reader {
    /// The coturn it was written for, if that is known; decides defaults that changed.
    pub version: Option<Version>,
    /// Finds the address of a host name: coturn takes names where turnpike takes addresses.
    pub resolve: fn(&str) -> Option<IpAddr>,
    /// Where coturn keeps its own database, asked when the file names none; the first that exists.
    pub databases: &'static [&'static str],
}

impl Default for Reader {
    fn default() -> Self {
        Reader { version: None, resolve: system_resolve, databases: &DATABASES }
    }
}

/// The system's resolver has no limit of time, so one that does not answer is left behind.
fn system_resolve(name: &str) -> Option<IpAddr> {
    let (found, answer) = mpsc::channel();
    let name = name.to_owned();
    let ask = move || (name.as_str(), 0).to_socket_addrs().ok()?.next().map(|address| address.ip());
    thread::Builder::new().spawn(move || _ = found.send(ask())).ok()?;
    answer.recv_timeout(RESOLVE_MAX).ok()?
}

/// What became of one line, or of a default of coturn's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// `FILE:LINE` or `command line`; empty for a default.
    pub place: String,
    /// The key as written; for a default, a word for it.
    pub key: String,
    /// How it ended.
    pub end: End,
    /// Why, or where to.
    pub text: String,
    /// Files beside the configuration whose contents count, and are worth watching.
    pub files: Vec<PathBuf>,
    /// What such a file holds could not be read: a server that runs does better to go on with what it has.
    pub is_unread: bool,
}

impl Note {
    /// A note about no line.
    pub fn about(key: &str, end: End, text: &str) -> Self {
        Note::new(String::new(), key.to_owned(), end, text.to_owned())
    }

    fn new(place: String, key: String, end: End, text: String) -> Self {
        Note { place, key, end, text, files: Vec::new(), is_unread: false }
    }
}

/// A value for turnpike.
#[derive(Clone, Debug)]
enum Value {
    Text(String),
    Number(u64),
    Flag(bool),
    /// Each with the line it comes from.
    List(Vec<(String, usize)>),
}

impl Zeroize for Value {
    fn zeroize(&mut self) {
        match self {
            Value::Text(text) => text.zeroize(),
            Value::List(list) => list.iter_mut().for_each(|(text, _)| text.zeroize()),
            Value::Number(_) | Value::Flag(_) => {}
        }
    }
}

/// One of turnpike's keys with its value.
#[derive(Clone, Debug)]
struct Setting {
    path: Vec<String>,
    value: Value,
    /// The lines it comes from.
    lines: Vec<usize>,
    /// What to know about a value that no line asks for.
    habit: &'static str,
}

/// Where a value was written: which text, all of it, and each element of a list.
pub(super) struct Spot {
    pub source: usize,
    pub value: Range<usize>,
    pub elements: Vec<Range<usize>>,
}

/// A configuration of coturn's, translated.
pub struct Translation {
    /// The texts it was read from.
    pub(super) sources: Vec<Document>,
    /// Where turnpike's keys were written; those that follow coturn's defaults are not here.
    pub(super) spots: BTreeMap<String, Spot>,
    /// The secrets, when some are shorter than TOML may have.
    pub(super) secrets: Option<Vec<Secret>>,
    /// One a line, in order, then those about defaults.
    pub notes: Vec<Note>,
    /// Why it can not run.
    pub refusals: Vec<Fault>,
    /// As TOML, for people.
    pub toml: Zeroizing<String>,
    /// As TOML in which short secrets are filled up.
    pub(super) padded: String,
}

/// A file of coturn's as TOML.
pub struct Import {
    /// The TOML.
    pub toml: String,
    /// What became of each line.
    pub notes: Vec<Note>,
    /// Why the file can not run at all.
    pub refusals: Vec<Fault>,
    /// The TOML, read.
    pub loaded: Result<super::Loaded, Fault>,
}

/// Translates one file.
pub(super) fn file(path: &Path, reader: &Reader) -> Result<Translation, Fault> {
    Ok(translate(vec![document(path)?], reader))
}

/// Translates a command line and the file it names, or that coturn would find.
pub(super) fn command_line(arguments: &[String], reader: &Reader) -> Result<Translation, Fault> {
    let flags = flags(arguments).map_err(|what| {
        Fault::new(what).at(Origin::Flags.to_string()).hint("options are those of coturn's turnserver")
    })?;
    let mut sources = Vec::new();
    if !flags.no_file {
        let name = flags.file.as_deref().unwrap_or("turnserver.conf");
        match find_file(name) {
            Some(path) => sources.push(document(&path)?),
            None if flags.file.is_none() => {}
            None => return Err(Fault::new("the file can not be found").at(name)),
        }
    }
    sources.push(flags_document(&flags.options));
    let mut translation = translate(sources, reader);
    translation.notes.extend(flags.unknown.iter().map(|word| {
        let text = "coturn has no use for it and passes over it";
        Note::new(Origin::Flags.to_string(), printable(word), End::NeedsYou, text.into())
    }));
    Ok(translation)
}

/// Reads the text of a coturn file. It need not be UTF-8: comments in other encodings are fine.
fn document(path: &Path) -> Result<Document, Fault> {
    if path.extension().is_some_and(|extension| extension == "toml") {
        let fault = Fault::new("this is turnpike's own kind of file").at(path.display().to_string());
        return Err(fault.hint("a configuration of coturn's has any other ending; `turnpike run -c` reads both"));
    }
    let unreadable = |error| Fault::new(format!("the file can not be read: {error}")).at(path.display().to_string());
    let bytes = Zeroizing::new(read_limited(path).map_err(unreadable)?);
    Ok(Document::file(path, String::from_utf8_lossy(&bytes).into_owned()))
}

/// The command line's options as a text with one a line.
fn flags_document(flags: &[(String, String)]) -> Document {
    let lines = flags.iter().map(|(key, value)| match value.is_empty() {
        true => format!("{key}\n"),
        false => format!("{key}={value}\n"),
    });
    Document::setting(Origin::Flags, Vec::new(), lines.collect())
}

/// The file coturn would take for this name: as it is, else the first of its directories that
/// has one.
pub fn find_file(name: &str) -> Option<PathBuf> {
    let direct = Path::new(name);
    if direct.is_absolute() || direct.is_file() {
        return direct.is_file().then(|| direct.to_owned());
    }
    SEARCH_DIRECTORIES.iter().map(|directory| Path::new(directory).join(name)).find(|path| path.is_file())
}

/// Translates texts of which later ones win, as coturn's command line wins over its file.
fn translate(sources: Vec<Document>, reader: &Reader) -> Translation {
    let lines = sources.iter().enumerate().flat_map(|(at, source)| parser::lines(at, source)).collect();
    let mut conf = Conf::new(&sources, lines, *reader);
    conf.judge_values();
    conf.carry();
    conf.finish();
    let Conf { mut lines, notes, general, mut settings, refusals, secrets, .. } = conf;
    let secrets = secrets.map(Zeroizing::new);
    let spots = spots(&lines, &settings);
    let toml = write::toml(&sources, &lines, &settings, &general, None).into();
    let padded = write::toml(&sources, &lines, &settings, &general, secrets.as_ref().map(|secrets| &secrets[..]));
    let notes = notes.into_iter().flatten().chain(general).collect();
    lines.iter_mut().for_each(|line| line.value.zeroize());
    settings.iter_mut().for_each(|setting| setting.value.zeroize());
    let secrets = secrets.map(|secrets| secrets.iter().map(|secret| Secret::of_coturn(secret)).collect());
    Translation { spots, secrets, notes, refusals, toml, padded, sources }
}

fn spots(lines: &[Line], settings: &[Setting]) -> BTreeMap<String, Spot> {
    let is_of = |line: Option<&Line>, source| line.is_some_and(|line| line.source == source);
    let mut spots = BTreeMap::new();
    for setting in settings {
        let Some(&first) = setting.lines.first() else { continue };
        let (source, value) = (lines[first].source, lines[first].value_span.clone());
        let elements = match &setting.value {
            Value::List(elements) if elements.iter().all(|&(_, at)| is_of(lines.get(at), source)) => {
                elements.iter().map(|&(_, at)| lines[at].value_span.clone()).collect()
            }
            _ => Vec::new(),
        };
        spots.insert(setting.path.join("."), Spot { source, value, elements });
    }
    spots
}

/// What `run` and `check` say about the notes: one sentence each where something changed, and
/// one for all lines with which nothing is to be done.
pub fn warnings(notes: &[Note]) -> Vec<String> {
    let (mut warnings, mut nothing) = (Vec::new(), Vec::new());
    for note in notes {
        let place = if note.place.is_empty() { "coturn's defaults".to_owned() } else { note.place.clone() };
        match note.end {
            End::Carried | End::Refused => {}
            End::Nothing => {
                if !nothing.contains(&note.key.as_str()) {
                    nothing.push(&note.key);
                }
            }
            end => warnings.push(format!("{place}: {}: {}: {}", note.key, end.name(), note.text)),
        }
    }
    if !nothing.is_empty() {
        warnings.push(format!(
            "nothing to do for coturn's {}; `turnpike import` says why",
            nothing.iter().map(|key| printable(key)).collect::<Vec<_>>().join(", ")
        ));
    }
    warnings
}

/// The files beside the configuration whose contents count: databases, and the logs of their newest changes.
pub fn files(notes: &[Note]) -> impl Iterator<Item = &Path> {
    notes.iter().flat_map(|note| &note.files).map(PathBuf::as_path)
}

/// Why a server that runs should not take this reading: something could not be read, and would be forgotten.
pub fn unread(notes: &[Note]) -> Option<String> {
    let note = notes.iter().find(|note| note.is_unread)?;
    let place = if note.place.is_empty() { "coturn's defaults" } else { &note.place };
    Some(format!("{}: {} ({place})", note.key, note.text))
}

/// Without control characters, and not endless.
fn printable(text: &str) -> String {
    text.chars().take(200).map(|c| if c.is_control() { '?' } else { c }).collect()
}
