//! Configurations under any text: a fault is somewhere in it, no secret shows, and what is taken reads the same again.
//! Body of the fuzz target `config`.

use super::secrets::{self, masked};
use super::words;
use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use turnpike::config::coturn::{self, End, Import, Reader};
use turnpike::config::settings::{self, Entry};
use turnpike::config::{self, Accounts, Fault, Host, Inputs, Loaded, revocations};

/// What a TOML text is called.
const NAME: &str = "fuzz.toml";
/// How much longer than its text a fault may be, in bytes.
const TALK_LEN_MAX: usize = 4096;

/// A byte that says what the rest is: TOML (0), a turnserver.conf (1), users (2), secrets (3), revocations (4), or, one
/// a line, single values (5), assignments of `--set` and of the environment (6), words of coturn's command line (7).
pub fn config(input: &[u8]) {
    let Some((&kind, bytes)) = input.split_first() else { return };
    let text = String::from_utf8_lossy(bytes);
    match kind & 7 {
        0 => native(&text),
        1 => of_coturn(bytes),
        2 => users(bytes),
        3 => shared_secrets(bytes),
        4 => revoked(bytes),
        5 => text.lines().for_each(words::read),
        6 => assignments(&text),
        _ => command_line(&text),
    }
}

/// A folder that is gone with the run.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("turnpike-corpus-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).expect("the folder is new");
        Folder(path)
    }

    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, bytes).expect("a file can be written");
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Nothing depends on it being gone.
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn host() -> Host {
    let addresses =
        ["192.0.2.7", "10.0.0.7", "127.0.0.1", "2001:db8::7", "::1"].map(|ip| ip.parse().expect("an address"));
    let (ephemeral, reserved) = (Some(32_768..=60_999), Vec::new());
    Host { name: "host.example".into(), addresses: addresses.to_vec(), cores: 2, ephemeral, reserved }
}

/// A text of ours.
fn native(text: &str) {
    let seen = see(text);
    if let Some(other) = masked(text, &secrets::of_toml(text)) {
        assert_eq!(see(&other), seen, "what is said depends on a secret");
    }
}

/// All that a user sees of a text.
fn see(text: &str) -> Vec<String> {
    let loaded = match config::load_text(Path::new(NAME), text) {
        Ok(loaded) => loaded,
        Err(fault) => return vec![placed(&fault, NAME, text)],
    };
    let entries = entries(&loaded);
    let mut seen: Vec<String> =
        entries.iter().map(|(key, entry)| format!("{key}={}@{}", entry.shown(), entry.origin)).collect();
    reads_again(&entries);
    // Files that are named are not this text's doing.
    let names_files = |(key, entry): (&String, &Entry)| {
        let is_file = key.ends_with("_file") || key.ends_with("_socket") || ["tls.cert", "tls.key"].contains(&&**key);
        is_file && entry.value != ""
    };
    if !entries.iter().any(names_files) {
        match loaded.plan(&host()) {
            Ok(plan) => seen.extend(plan.warnings),
            Err(fault) => seen.push(judged(&fault, NAME, text)),
        }
    }
    seen
}

fn entries(loaded: &Loaded) -> BTreeMap<String, Entry> {
    settings::entries(loaded, &loaded.file.realm.0, loaded.file.workers)
}

/// The values in force, written down, are the same values.
fn reads_again(entries: &BTreeMap<String, Entry>) {
    let can_be_written = |(key, entry): &(&String, &Entry)| {
        let value = entry.value.to_string();
        let is_secret = key.starts_with("auth.users") || value.contains("\"(set, ");
        !is_secret && !value.contains('{') && value != "null"
    };
    let written: Vec<_> = entries.iter().filter(can_be_written).collect();
    let lines = written.iter().map(|(key, entry)| format!("{key} = {}\n", entry.value).replace('\x7F', "\\u007f"));
    let text: String = lines.collect();
    let again = config::load_text(Path::new(NAME), &text).unwrap_or_else(|fault| panic!("{fault}\n{text}"));
    let again = self::entries(&again);
    for (key, entry) in written {
        assert_eq!(again[key].value, entry.value, "{key}");
    }
}

/// The fault's text, which names a line and column of `text`, or no more than the key of a value that nobody wrote.
fn judged(fault: &Fault, name: &str, text: &str) -> String {
    let said = fault.to_string();
    assert!(said.contains(" (") && said.len() <= 8 * text.len() + TALK_LEN_MAX, "{said}");
    if said.contains(&format!("{name}:")) { placed(fault, name, text) } else { said }
}

/// The fault's text, which names a line and column of `text`.
fn placed(fault: &Fault, name: &str, text: &str) -> String {
    let said = fault.to_string();
    let place = said.split_once(&format!("{name}:")).unwrap_or_else(|| panic!("no place: {said}")).1;
    let mut numbers = place.split(|c: char| !c.is_ascii_digit()).map(|digits| digits.parse::<usize>().ok());
    let (line, column) = (numbers.next().flatten(), numbers.next().flatten());
    let (Some(line), Some(column)) = (line, column) else { panic!("no line and column: {said}") };
    let meant = text.split('\n').nth(line.wrapping_sub(1)).unwrap_or_else(|| panic!("there is no such line: {said}"));
    assert!((1..=meant.chars().count() + 1).contains(&column), "there is no such column: {said}");
    assert!(said.len() <= 8 * text.len() + TALK_LEN_MAX, "it says too much: {said}");
    said
}

/// A text of coturn's.
fn of_coturn(bytes: &[u8]) {
    let folder = Folder::new();
    let path = folder.file("turnserver.conf", bytes);
    let read = || {
        let resolve = |name: &str| (name == "turn.example.org").then(|| IpAddr::from([192, 0, 2, 7]));
        config::import(&path, &Reader { version: None, resolve, databases: &[] }).expect("it is a short file")
    };
    let text = String::from_utf8_lossy(bytes);
    let import = read();
    check_notes(&import, &path, &text);
    let seen = see_import(&import, &path, &text);
    assert_eq!(see_import(&read(), &path, &text), seen, "it is read alike each time");
    if let Some(other) = masked(&text, &secrets::of_conf(&text)) {
        fs::write(&path, &*other).expect("a file can be written");
        assert_eq!(see_import(&read(), &path, &other), seen, "what is said depends on a secret");
    }
    match &import.loaded {
        Ok(loaded) if import.refusals.is_empty() => {
            let again = config::load_text(Path::new(NAME), &import.toml).expect("it was read just now");
            let values =
                |loaded| entries(loaded).into_iter().map(|(key, entry)| (key, entry.value)).collect::<Vec<_>>();
            assert_eq!(values(&again), values(loaded));
            reads_again(&entries(loaded));
        }
        Ok(_) => {}
        // Short secrets are taken from a file of coturn's, and from no other.
        Err(fault) => {
            let is_told = import.notes.iter().any(|note| matches!(note.end, End::NeedsYou | End::Refused));
            assert!(is_told, "nobody was told: {fault}\n{}", import.toml);
        }
    }
}

/// Each line that says something has exactly one note.
fn check_notes(import: &Import, path: &Path, text: &str) {
    let place = format!("{}:", path.display());
    let mut noted = BTreeMap::new();
    for line in import.notes.iter().filter_map(|note| note.place.strip_prefix(&place)) {
        *noted.entry(line.parse::<usize>().expect("a line has a number")).or_insert(0) += 1;
    }
    for (number, line) in text.split('\n').enumerate() {
        let bare = if number == 0 { line.trim_start_matches('\u{feff}') } else { line };
        let says = bare.trim_matches([' ', '\t', '\r', '\x0C']);
        let expected = usize::from(!says.is_empty() && !says.starts_with('#'));
        assert_eq!(
            noted.get(&(number + 1)).copied().unwrap_or(0),
            expected,
            "notes about line {}: {line:?}",
            number + 1
        );
    }
}

/// All that a user sees of an import but the TOML.
fn see_import(import: &Import, path: &Path, text: &str) -> Vec<String> {
    let mut seen: Vec<String> = Vec::new();
    for note in &import.notes {
        assert!(!note.text.contains('\n') && !note.key.contains('\n'), "a note is one line: {note:?}");
        seen.push(format!("{} {} {:?} {}", note.place, note.key, note.end, note.text));
    }
    seen.extend(coturn::warnings(&import.notes));
    let name = path.display().to_string();
    seen.extend(import.refusals.iter().map(|fault| placed(fault, &name, text)));
    match &import.loaded {
        Ok(loaded) => seen.extend(entries(loaded).into_iter().map(|(key, entry)| format!("{key}={}", entry.shown()))),
        Err(fault) => seen.push(placed(fault, "turnpike.toml", &import.toml)),
    }
    seen
}

/// The accounts of a file that a key of `[auth]` names.
fn accounts(path: &Path, key: &str) -> Result<Accounts, Fault> {
    let toml = format!("[auth]\n{key} = \"{}\"\n", path.display());
    let loaded = config::load_text(Path::new(NAME), &toml).expect("the key exists");
    Accounts::read(&loaded.file.auth, &loaded.origins)
}

/// What is said of a file of accounts, which is nothing where it is taken.
fn refusal(path: &Path, key: &str, bytes: &[u8]) -> Option<String> {
    let fault = accounts(path, key).err()?;
    let said = fault.to_string();
    let name = path.display().to_string();
    match std::str::from_utf8(bytes) {
        Ok(text) if said.contains(&format!("{name}:")) => Some(placed(&fault, &name, text)),
        _ => {
            assert!(said.contains(&name) || said.contains(NAME), "no place: {said}");
            Some(said)
        }
    }
}

fn conceals(path: &Path, key: &str, bytes: &[u8], secrets: &[std::ops::Range<usize>]) {
    let said = refusal(path, key, bytes);
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Some(other) = masked(text, secrets) else { return };
    fs::write(path, &*other).expect("a file can be written");
    assert_eq!(refusal(path, key, other.as_bytes()), said, "what is said depends on a secret");
}

/// Lines that say something, without the white space around them.
fn plain_lines(bytes: &[u8]) -> Option<Vec<&str>> {
    let lines = std::str::from_utf8(bytes).ok()?.split('\n').map(str::trim);
    Some(lines.filter(|line| !line.is_empty() && !line.starts_with('#')).collect())
}

fn users(bytes: &[u8]) {
    let folder = Folder::new();
    let path = folder.file("users", bytes);
    if let Ok(accounts) = accounts(&path, "users_file") {
        let lines = plain_lines(bytes).expect("it is text");
        assert_eq!(accounts.users.len(), lines.len(), "each line is a user");
        let mut expected: Vec<_> =
            lines.iter().map(|line| line.split_once(':').expect("a name and a password")).collect();
        expected.sort_unstable();
        assert!(accounts.users.iter().map(|(name, password)| (name.as_str(), password.as_str())).eq(expected));
    }
    conceals(&path, "users_file", bytes, &secrets::of_users(&String::from_utf8_lossy(bytes)));
}

fn shared_secrets(bytes: &[u8]) {
    let folder = Folder::new();
    let path = folder.file("secrets", bytes);
    if let Ok(accounts) = accounts(&path, "secret_file") {
        let lines = plain_lines(bytes).expect("it is text");
        assert!((1..=config::SECRETS_MAX).contains(&lines.len()) && lines.iter().all(|line| line.len() >= 16));
        assert!(accounts.secrets.iter().map(|secret| secret.as_bytes()).eq(lines.iter().map(|line| line.as_bytes())));
    }
    let all = std::iter::once(0..bytes.len());
    conceals(&path, "secret_file", bytes, &all.collect::<Vec<_>>());
}

fn revoked(bytes: &[u8]) {
    let folder = Folder::new();
    let path = folder.file("revocations", bytes);
    match revocations::read(&path) {
        Ok(ids) => {
            let mut lines = plain_lines(bytes).expect("it is text");
            lines.sort_unstable();
            lines.dedup();
            assert!(ids.iter().map(|id| id.as_str()).eq(lines));
            revocations::write(&path, &ids).expect("it can be written");
            assert_eq!(revocations::read(&path).expect("it was written just now"), ids);
        }
        Err(fault) => match std::str::from_utf8(bytes) {
            Ok(text) => drop(placed(&fault, &path.display().to_string(), text)),
            Err(_) => assert!(fault.to_string().contains(&path.display().to_string())),
        },
    }
}

/// Every other line is a variable of the environment, by the part of its name that counts.
fn assignments(text: &str) {
    let mut inputs = Inputs::default();
    for (number, line) in text.lines().enumerate() {
        match line.split_once('=') {
            Some((name, value)) if number % 2 == 1 => {
                inputs.env.push((format!("TURNPIKE__{name}").into(), value.into()));
            }
            _ => inputs.set.push(line.to_owned()),
        }
    }
    match config::load(&inputs) {
        Ok(loaded) => reads_again(&entries(&loaded)),
        Err(fault) => {
            let said = fault.to_string();
            assert!(said.contains("(--set") || said.contains("(env TURNPIKE__"), "no place: {said}");
        }
    }
}

fn command_line(text: &str) {
    let arguments: Vec<String> = text.lines().map(str::to_owned).collect();
    let Ok(flags) = coturn::flags(&arguments) else { return };
    // Written out in full they are the same.
    let long = |(key, value): &(String, String)| format!("--{key}={value}");
    let again = coturn::flags(&flags.options.iter().map(long).collect::<Vec<_>>()).expect("they were read just now");
    assert_eq!(again.options, flags.options);
    assert!(again.unknown.is_empty() && again.file.is_none() && !again.no_file);
}
