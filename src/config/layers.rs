//! Documents become one configuration: each is checked alone, then later ones win key by key.
//!
//! Files come first, in the order given; environment variables win over files, `--set` over both.
//! A file of coturn's is translated first; its values are still found where they were written.

use super::coturn::{self, Note, Reader, Translation};
use super::document::{Document, Origin};
use super::fault::{Fault, nearest};
use super::file::File;
use serde::Deserialize;
use serde_json::Value as Json;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::ops::Range;
use std::path::{Path, PathBuf};
use toml::Spanned;
use toml::de::{DeTable, DeValue, ValueDeserializer};

/// What an environment variable that sets a key begins with.
const ENV_PREFIX: &str = "TURNPIKE__";

/// Whatever configures the server, unread.
#[derive(Clone, Default)]
pub struct Inputs {
    /// Files and directories, in order.
    pub files: Vec<PathBuf>,
    /// Environment variables; those that do not begin with `TURNPIKE__` are passed over.
    pub env: Vec<(OsString, OsString)>,
    /// `key.path=value`, in order.
    pub set: Vec<String>,
}

impl Inputs {
    /// Whether nothing is configured at all.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty() && self.set.is_empty() && !self.env.iter().any(|(name, _)| key_name(name).is_some())
    }
}

/// The name of a variable that sets a key.
fn key_name(name: &OsString) -> Option<&str> {
    name.to_str().filter(|name| name.starts_with(ENV_PREFIX))
}

/// Where each value of a configuration was written. A key that is not here has its default.
#[derive(Default)]
pub struct Origins {
    documents: Vec<Document>,
    spots: BTreeMap<String, Spot>,
    notes: Vec<Note>,
}

struct Spot {
    document: usize,
    value: Range<usize>,
    elements: Vec<Range<usize>>,
}

impl Origins {
    /// Where a key's value comes from: `default`, `FILE:LINE`, `env NAME` or `--set KEY`.
    pub fn of(&self, key: &str) -> String {
        match self.spots.get(key) {
            Some(spot) => self.documents[spot.document].place(&spot.value),
            None => "default".into(),
        }
    }

    /// The files that were read, and their texts.
    pub fn files(&self) -> impl Iterator<Item = (&Path, &str)> {
        self.documents.iter().filter_map(|document| Some((document.path()?, document.text())))
    }

    /// What became of the lines of coturn files.
    pub fn notes(&self) -> &[Note] {
        &self.notes
    }

    /// Whether the key was written at all.
    pub fn is_set(&self, key: &str) -> bool {
        self.spots.contains_key(key)
    }

    /// A fault in a key's value.
    pub fn fault(&self, key: &str, what: impl Into<String>) -> Fault {
        match self.spots.get(key) {
            Some(spot) => self.documents[spot.document].fault(spot.value.clone(), what),
            None => Fault::new(what).at(key),
        }
    }

    /// A fault in one element of a key's list.
    pub fn fault_in(&self, key: &str, element: usize, what: impl Into<String>) -> Fault {
        match self.spots.get(key).and_then(|spot| Some((spot, spot.elements.get(element)?))) {
            Some((spot, element)) => self.documents[spot.document].fault(element.clone(), what),
            None => self.fault(key, what),
        }
    }

    /// The files that hold a secret or a password.
    pub fn secret_files(&self) -> BTreeSet<&Path> {
        let secret = self.spots.iter().filter(|(key, _)| is_secret(key));
        secret.filter_map(|(_, spot)| self.documents[spot.document].path()).collect()
    }

    /// A path as the document that names it means it.
    pub fn path(&self, key: &str, path: &str) -> PathBuf {
        match self.spots.get(key) {
            Some(spot) => self.documents[spot.document].directory().join(path),
            None => PathBuf::from(path),
        }
    }
}

/// One configuration among those that are merged.
enum Layer {
    Written(Document),
    Translated(Box<Translation>),
}

/// Reads, checks and merges everything.
pub fn load(inputs: &Inputs) -> Result<(File, Origins), Fault> {
    let mut layers = Vec::new();
    for path in &inputs.files {
        for file in files(path)? {
            layers.push(match is_toml(&file) {
                true => Layer::Written(Document::read(&file)?),
                false => translated(coturn::file(&file, &Reader::default())?)?,
            });
        }
    }
    layers.extend(env_settings(&inputs.env)?.into_iter().map(Layer::Written));
    for assignment in &inputs.set {
        layers.push(Layer::Written(set_setting(assignment)?));
    }
    merge(layers)
}

/// Merges a translation with the environment, which wins.
pub fn load_translation(translation: Translation, env: &[(OsString, OsString)]) -> Result<(File, Origins), Fault> {
    let mut layers = vec![translated(translation)?];
    layers.extend(env_settings(env)?.into_iter().map(Layer::Written));
    merge(layers)
}

/// Reads one text, as a file of that name would be.
pub fn load_text(name: &Path, text: &str) -> Result<(File, Origins), Fault> {
    merge(vec![Layer::Written(Document::file(name, text.to_owned()))])
}

fn translated(mut translation: Translation) -> Result<Layer, Fault> {
    match translation.refusals.is_empty() {
        true => Ok(Layer::Translated(Box::new(translation))),
        false => Err(translation.refusals.swap_remove(0)),
    }
}

/// What a translation leaves behind: its values are found where they were written.
struct Source {
    /// The first of its texts.
    first: usize,
    spots: BTreeMap<String, coturn::Spot>,
    secrets: Option<Vec<super::secret::Secret>>,
}

fn merge(layers: Vec<Layer>) -> Result<(File, Origins), Fault> {
    let (mut documents, mut notes, mut sources) = (Vec::new(), Vec::new(), BTreeMap::new());
    let mut to_read = Vec::new();
    for layer in layers {
        match layer {
            Layer::Written(document) => documents.push(document),
            Layer::Translated(translation) => {
                let first = documents.len();
                let Translation { sources: texts, spots, secrets, notes: more, padded, .. } = *translation;
                notes.extend(more);
                documents.extend(texts);
                sources.insert(documents.len(), Source { first, spots, secrets });
                documents.push(Document::setting(Origin::Coturn, Vec::new(), padded));
            }
        }
        to_read.push(documents.len() - 1);
    }
    let schema = Schema::new();
    let mut merged: BTreeMap<String, (usize, Leaf<'_>)> = BTreeMap::new();
    for number in to_read {
        for leaf in schema.read(&documents[number])? {
            merged.insert(leaf.path.clone(), (number, leaf));
        }
    }
    let mut tree = DeTable::new();
    let (mut spots, mut secrets) = (BTreeMap::new(), None);
    for (path, (document, leaf)) in merged {
        let elements = leaf.value.get_ref().as_array().map_or(Vec::new(), |a| a.iter().map(Spanned::span).collect());
        let written = Spot { document, value: leaf.value.span(), elements };
        graft(&mut tree, &leaf.keys, leaf.value);
        let source = sources.get_mut(&document);
        if path == "auth.secrets" {
            secrets = source.as_ref().and_then(|source| source.secrets.clone());
        }
        spots.insert(path.clone(), source.and_then(|source| source.spot(&path)).unwrap_or(written));
    }
    // Each document was read alone before, so that a fault here could only be our own.
    let mut file = read_tree(tree).map_err(|error| Fault::new(error.message()))?;
    if let Some(secrets) = secrets {
        file.auth.secrets = secrets;
    }
    Ok((file, Origins { documents, spots, notes }))
}

impl Source {
    fn spot(&mut self, path: &str) -> Option<Spot> {
        let coturn::Spot { source, value, elements } = self.spots.remove(path)?;
        Some(Spot { document: self.first + source, value, elements })
    }
}

fn is_toml(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "toml")
}

/// A file as it is; a directory as its `*.toml` in the order of their names.
fn files(path: &Path) -> Result<Vec<PathBuf>, Fault> {
    let unreadable = |error| Fault::new(format!("the file can not be read: {error}")).at(path.display().to_string());
    if !path.metadata().map_err(unreadable)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).map_err(unreadable)? {
        let file = entry.map_err(unreadable)?.path();
        if is_toml(&file) && !file.is_dir() {
            files.push(file);
        }
    }
    if files.is_empty() {
        return Err(Fault::new("the directory holds no .toml file").at(path.display().to_string()));
    }
    files.sort();
    Ok(files)
}

/// The variables that set a key, in the order of their names.
fn env_settings(env: &[(OsString, OsString)]) -> Result<Vec<Document>, Fault> {
    let mut settings = Vec::new();
    for (name, value) in env {
        let Some(name) = key_name(name) else { continue };
        let origin = Origin::Env(name.to_owned());
        let Some(value) = value.to_str() else {
            return Err(Fault::new("the value is not UTF-8 text").at(origin.to_string()));
        };
        let path = name[ENV_PREFIX.len()..].to_lowercase().replace("__", ".");
        settings.push((name, Document::setting(origin, keys(&path), value.to_owned())));
    }
    settings.sort_by_key(|&(name, _)| name);
    Ok(settings.into_iter().map(|(_, document)| document).collect())
}

fn set_setting(assignment: &str) -> Result<Document, Fault> {
    let split = assignment.split_once('=').map(|(path, value)| (path.trim(), value));
    let Some((path, value)) = split.filter(|(path, _)| is_key_path(path)) else {
        let shown = known_part(assignment.trim());
        return Err(Fault::new("--set needs `key.path=value`").at(format!("--set {shown}").trim()));
    };
    Ok(Document::setting(Origin::Set(path.to_owned()), keys(path), value.trim().to_owned()))
}

/// As much of a text as names a key that there is: the rest may be a secret, and is not repeated.
fn known_part(text: &str) -> String {
    let schema = Schema::new();
    let mut at = &schema.0;
    let known = text.split('.').map_while(|word| {
        at = at.get(word)?;
        Some(word)
    });
    known.collect::<Vec<_>>().join(".")
}

/// Whether a text has the form of a dotted key; any user name follows `auth.users.`.
fn is_key_path(path: &str) -> bool {
    let words = path.strip_prefix("auth.users.").map_or(path, |_| "auth.users");
    words.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_.".contains(&b))
}

/// The parts of a dotted key. What follows `auth.users.` is one name, dots and all.
fn keys(path: &str) -> Vec<String> {
    match path.strip_prefix("auth.users.") {
        Some(name) => vec!["auth".into(), "users".into(), name.into()],
        None => path.split('.').map(str::to_owned).collect(),
    }
}

/// One value with the key it was written for.
struct Leaf<'a> {
    path: String,
    keys: Vec<String>,
    key: Range<usize>,
    value: Spanned<DeValue<'a>>,
}

/// The keys there are: the defaults as a tree, so that there is no second list of them.
struct Schema(Json);

/// What a walk over one document finds.
#[derive(Default)]
struct Walk<'a> {
    leaves: Vec<Leaf<'a>>,
    hidden: Vec<Range<usize>>,
    complaints: Vec<Complaint>,
}

struct Complaint {
    span: Range<usize>,
    what: String,
    advice: Advice,
}

/// What a complaint says about what to do.
enum Advice {
    None,
    Write(String),
    /// The nearest known key, which is looked for when it is this complaint that is made.
    Nearest(Vec<String>),
}

impl Schema {
    fn new() -> Self {
        Schema(serde_json::to_value(File::default()).expect("the defaults have a form in JSON"))
    }

    /// The values of one document, after everything that can be checked in it alone.
    fn read<'a>(&self, document: &'a Document) -> Result<Vec<Leaf<'a>>, Fault> {
        if document.keys().is_empty() {
            let table = DeTable::parse(document.text()).map_err(|error| self.unparsed(document, &error))?;
            return self.check(document, table.into_inner());
        }
        let nest = |value| {
            let mut table = DeTable::new();
            graft(&mut table, document.keys(), Spanned::new(0..document.text().len(), value));
            table
        };
        // A TOML value if that fits the key, else the text itself: `--set realm=7` is "7".
        let text = || DeValue::String(Cow::Borrowed(document.text()));
        match DeValue::parse(document.text()).map(Spanned::into_inner) {
            Ok(value) if !value.is_str() => {
                self.check(document, nest(value)).or_else(|fault| self.check(document, nest(text())).map_err(|_| fault))
            }
            Ok(value) => self.check(document, nest(value)),
            Err(_) => self.check(document, nest(text())),
        }
    }

    fn check<'a>(&self, document: &Document, table: DeTable<'a>) -> Result<Vec<Leaf<'a>>, Fault> {
        let mut walk = Walk::default();
        self.walk(&table, &self.0, &mut Vec::new(), &mut walk);
        document.hide(walk.hidden);
        if let Some(complaint) = walk.complaints.into_iter().min_by_key(|complaint| complaint.span.start) {
            let fault = document.fault(complaint.span, complaint.what);
            let hint = match complaint.advice {
                Advice::None => None,
                Advice::Write(hint) => Some(hint),
                Advice::Nearest(keys) => self.hint(&keys),
            };
            return Err(hint.into_iter().fold(fault, Fault::hint));
        }
        match read_tree(table) {
            Ok(_) => Ok(walk.leaves),
            Err(error) => Err(mistyped(document, &walk.leaves, &error)),
        }
    }

    fn walk<'a>(&self, table: &DeTable<'a>, known: &Json, above: &mut Vec<String>, walk: &mut Walk<'a>) {
        for (key, value) in table {
            above.push(key.get_ref().to_string());
            let expected = match known.as_object() {
                // The users' table: any name goes.
                Some(any) if any.is_empty() => Some(&Json::Null),
                Some(known) => known.get(key.get_ref().as_ref()),
                None => None,
            };
            match (expected, value.get_ref()) {
                (Some(expected @ Json::Object(_)), DeValue::Table(inner)) => self.walk(inner, expected, above, walk),
                (Some(Json::Object(_)), _) => {
                    let path = above.join(".");
                    walk.complain(key.span(), format!("`{path}` is a table"), Advice::Write(format!("write [{path}]")));
                    conceal(value, &mut walk.hidden);
                }
                (Some(_), DeValue::Table(_)) => {
                    walk.complain(key.span(), format!("`{}` is not a table", above.join(".")), Advice::None);
                    conceal(value, &mut walk.hidden);
                }
                (Some(_), _) => walk.leaf(above, key.span(), value),
                (None, _) => {
                    let what = format!("unknown key `{}`", above.join("."));
                    walk.complain(key.span(), what, Advice::Nearest(above.clone()));
                    conceal(value, &mut walk.hidden);
                }
            }
            above.pop();
        }
    }

    /// A text that is not TOML. Its values are shown only where no secret can be.
    fn unparsed(&self, document: &Document, error: &toml::de::Error) -> Fault {
        let span = error.span().unwrap_or_default();
        let (before, after) = document.text().split_at_checked(span.start).unwrap_or_default();
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let line_end = before.len() + after.find('\n').unwrap_or(after.len());
        let (key, value) = document.text()[line_start..line_end].split_once('=').unwrap_or_default();
        let header = before.lines().rev().map(str::trim).find(|line| line.starts_with('['));
        let harmless = match header {
            Some(header) => HARMLESS.iter().any(|table| header.starts_with(table)),
            None => ["realm", "workers"].contains(&key.trim()),
        };
        if !harmless {
            document.hide_values(|key| self.has(key));
        }
        let fault = document.fault(span, error.message());
        match value.trim_start().starts_with(|c: char| c.is_ascii_alphanumeric()) {
            true => fault.hint("a value needs quotes unless it is a number, true or false"),
            false => fault,
        }
    }

    /// Whether a text is a key there is, as it is written in its table or in none.
    fn has(&self, key: &str) -> bool {
        let mut tables = self.0.as_object().into_iter().flatten();
        tables.any(|(name, inner)| name == key || inner.get(key).is_some())
    }

    /// The known key that was probably meant.
    fn hint(&self, keys: &[String]) -> Option<String> {
        let (word, tables) = keys.split_last()?;
        let mut known = &self.0;
        for table in tables {
            known = known.get(table)?;
        }
        if let Some(sibling) = nearest(word, known.as_object()?.keys().map(String::as_str)) {
            return Some(format!("did you mean `{sibling}`?"));
        }
        let inner = self.0.as_object()?.iter().filter_map(|(table, keys)| Some((table, keys.as_object()?)));
        let (_, table, key) = inner
            .filter_map(|(table, keys)| Some((table, nearest(word, keys.keys().map(String::as_str))?)))
            .map(|(table, key)| (key != word, table, key))
            .min()?;
        Some(format!("did you mean `{table}.{key}`? It belongs under [{table}]"))
    }
}

impl<'a> Walk<'a> {
    fn complain(&mut self, span: Range<usize>, what: String, advice: Advice) {
        self.complaints.push(Complaint { span, what, advice });
    }

    fn leaf(&mut self, keys: &[String], key: Range<usize>, value: &Spanned<DeValue<'a>>) {
        let path = keys.join(".");
        if is_secret(&path) {
            conceal(value, &mut self.hidden);
        }
        self.leaves.push(Leaf { path, keys: keys.to_vec(), key, value: value.clone() });
    }
}

/// Whether the key's value is never shown.
fn is_secret(path: &str) -> bool {
    matches!(path, "auth.secrets" | "http.api_keys")
        || path.starts_with("auth.users.")
        || path.starts_with("rooms.ice_servers")
}

/// Hides a value, down to the strings in lists and tables. A value that is not understood may
/// be a secret under a wrong name.
fn conceal(value: &Spanned<DeValue<'_>>, hidden: &mut Vec<Range<usize>>) {
    let Range { start, end } = value.span();
    match value.get_ref() {
        DeValue::Array(elements) => elements.iter().for_each(|element| conceal(element, hidden)),
        DeValue::Table(table) => table.iter().for_each(|(key, value)| {
            hidden.push(key.span());
            conceal(value, hidden);
        }),
        DeValue::String(_) if end - start >= 2 => hidden.push(start + 1..end - 1),
        _ => hidden.push(start..end),
    }
}

fn graft<'a>(tree: &mut DeTable<'a>, keys: &[String], value: Spanned<DeValue<'a>>) {
    let Some((key, rest)) = keys.split_first() else { return };
    let name = || Spanned::new(0..0, Cow::Owned(key.clone()));
    if rest.is_empty() {
        tree.insert(name(), value);
        return;
    }
    if !tree.contains_key(key.as_str()) {
        tree.insert(name(), Spanned::new(0..0, DeValue::Table(DeTable::new())));
    }
    if let Some(DeValue::Table(inner)) = tree.get_mut(key.as_str()).map(Spanned::get_mut) {
        graft(inner, rest, value);
    }
}

fn read_tree(tree: DeTable<'_>) -> Result<File, toml::de::Error> {
    File::deserialize(ValueDeserializer::from(Spanned::new(0..0, DeValue::Table(tree))))
}

/// Tables that hold no secrets.
const HARMLESS: [&str; 5] = ["[listen]", "[tls]", "[relay]", "[limits]", "[log]"];

fn mistyped(document: &Document, leaves: &[Leaf<'_>], error: &toml::de::Error) -> Fault {
    let span = error.span().unwrap_or_default();
    let holds = |leaf: &&Leaf<'_>| leaf.key == span || leaf.value.span().contains(&span.start);
    let path = leaves.iter().find(holds).map_or("", |leaf| leaf.path.as_str());
    let mut what = error.message().replace("expected a sequence", "expected a list like [\"…\"]");
    what = what.replace("expected a boolean", "expected true or false");
    if is_secret(path) && (what.starts_with("invalid type") || what.starts_with("invalid value")) {
        // The message repeats the value.
        what =
            what.rsplit_once(", expected ").map_or("wrong type".into(), |(_, e)| format!("wrong type, expected {e}"));
    }
    document.fault(span, if path.is_empty() { what } else { format!("`{path}`: {what}") })
}
