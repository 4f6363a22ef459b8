//! The keys in force, one by one: to print, to show, and to tell what a reload changes.

use super::Loaded;
use crate::http::Setting;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// One value in force.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The value; secrets only as their lengths.
    pub value: Value,
    /// Where it was written.
    pub origin: String,
}

impl Entry {
    /// The value as the file would have it.
    pub fn shown(&self) -> String {
        shown(&self.value)
    }
}

/// Every key with its value, those the machine decides filled in.
pub fn entries(loaded: &Loaded, realm: &str, workers: usize) -> BTreeMap<String, Entry> {
    let mut entries = BTreeMap::new();
    let file = serde_json::to_value(&loaded.file).unwrap_or_default();
    flatten(String::new(), file, &mut |key, value| {
        let origin = loaded.origins.of(&key);
        entries.insert(key, Entry { value, origin });
    });
    let decided = [("realm", json!(realm)), ("workers", json!(workers))];
    for (key, value) in decided {
        if let Some(entry) = entries.get_mut(key) {
            entry.value = value;
        }
    }
    entries
}

/// The same for the console.
pub fn settings(loaded: &Loaded, realm: &str, workers: usize) -> Vec<Setting> {
    let entries = entries(loaded, realm, workers).into_iter();
    entries.map(|(key, entry)| Setting { key, value: entry.shown(), origin: entry.origin }).collect()
}

fn flatten(key: String, value: Value, add: &mut impl FnMut(String, Value)) {
    match value {
        Value::Object(table) if !table.is_empty() => {
            for (name, value) in table {
                flatten(if key.is_empty() { name } else { format!("{key}.{name}") }, value, add);
            }
        }
        value => add(key, value),
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) if text.starts_with("(set, ") => text.clone(),
        Value::Array(values) => format!("[{}]", values.iter().map(shown).collect::<Vec<_>>().join(", ")),
        other => other.to_string(),
    }
}
