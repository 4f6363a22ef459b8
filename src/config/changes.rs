//! What differs between two readings of a configuration, without keeping its secrets.

use super::{Loaded, settings};
use crate::http::Reloaded;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// Keys whose new values a running server takes; those that end with a dot are tables.
#[rustfmt::skip]
const LIVE: &[&str] = &[
    "drain_timeout", "alternate_servers",
    "auth.", "limits.", "tls.", "rooms.", "metrics.", "log.level", "log.allocations", "log.permissions",
    "relay.allow_peers", "relay.deny_peers", "relay.allow_loopback_peers", "relay.wide_channels",
    "http.admin_token_file", "http.api_keys", "http.cors_origins", "http.trusted_proxies", "http.public_url",
    "http.allowed_hosts", "http.username_required", "http.credentials_ttl", "http.uris",
];

/// A reading to compare with: of each key's value a salted hash.
#[derive(Clone)]
pub struct Changes {
    salt: [u8; 32],
    seen: BTreeMap<String, [u8; 32]>,
    /// The files that had something in them.
    filled: BTreeSet<PathBuf>,
}

impl Changes {
    /// Compares with this reading from now on.
    pub fn since(loaded: &Loaded) -> Self {
        let mut salt = [0; 32];
        // Without randomness the hashes could be searched by whoever reads this memory, where
        // the keys themselves lie too.
        let _ = getrandom::fill(&mut salt);
        let seen = hashes(loaded, &salt);
        Changes { salt, seen, filled: filled(loaded) }
    }

    /// A file that has nothing in it any more, as one has that is being written. To start with
    /// nothing configured is safe; to forget all users and limits while serving is an accident.
    pub fn emptied(&self, loaded: &Loaded) -> Option<PathBuf> {
        loaded
            .origins
            .files()
            .find(|(path, text)| text.is_empty() && self.filled.contains(*path))
            .map(|(path, _)| path.into())
    }

    /// What a new reading changes, and that reading to compare with next. Keys that need a
    /// restart count as changed until then.
    pub fn to(&self, loaded: &Loaded) -> (Changes, Reloaded) {
        let mut seen = hashes(loaded, &self.salt);
        let mut reloaded = Reloaded::default();
        let keys: BTreeSet<String> = self.seen.keys().chain(seen.keys()).cloned().collect();
        for key in keys {
            if self.seen.get(&key) == seen.get(&key) {
                continue;
            }
            if is_live(&key) {
                reloaded.applied.push(key);
                continue;
            }
            match self.seen.get(&key) {
                Some(old) => seen.insert(key.clone(), *old),
                None => seen.remove(&key),
            };
            reloaded.needs_restart.push(key);
        }
        (Changes { salt: self.salt, seen, filled: filled(loaded) }, reloaded)
    }
}

/// The files whose contents count, and the keys that name them.
pub fn named_files(loaded: &Loaded) -> impl Iterator<Item = (&'static str, PathBuf)> {
    let file = &loaded.file;
    let named = [
        ("auth.secret_file", &file.auth.secret_file),
        ("auth.users_file", &file.auth.users_file),
        ("tls.cert", &file.tls.cert),
        ("tls.key", &file.tls.key),
        ("http.admin_token_file", &file.http.admin_token_file),
    ];
    let named = named.into_iter().filter(|(_, path)| !path.is_empty());
    named.map(|(key, path)| (key, loaded.origins.path(key, path)))
}

fn filled(loaded: &Loaded) -> BTreeSet<PathBuf> {
    loaded.origins.files().filter(|(_, text)| !text.is_empty()).map(|(path, _)| path.into()).collect()
}

fn is_live(key: &str) -> bool {
    LIVE.iter().any(|live| if live.ends_with('.') { key.starts_with(live) } else { key == *live })
}

fn hashes(loaded: &Loaded, salt: &[u8; 32]) -> BTreeMap<String, [u8; 32]> {
    let hash = |parts: &[&[u8]]| {
        let mut hash = Sha256::new_with_prefix(salt);
        for part in parts {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        hash.finalize().into()
    };
    let (file, mut hashes) = (&loaded.file, BTreeMap::new());
    for (key, entry) in settings::entries(loaded, "", 0) {
        hashes.insert(key, hash(&[entry.value.to_string().as_bytes()]));
    }
    // Of these the values shown are only lengths.
    let secrets: Vec<&[u8]> = file.auth.secrets.iter().map(|secret| secret.as_bytes()).collect();
    hashes.insert("auth.secrets".into(), hash(&secrets));
    let keys: Vec<&[u8]> = file.http.api_keys.iter().map(|key| key.as_bytes()).collect();
    hashes.insert("http.api_keys".into(), hash(&keys));
    for (name, password) in &file.auth.users {
        hashes.insert(format!("auth.users.{name}"), hash(&[password.as_str().as_bytes()]));
    }
    let servers = file.rooms.ice_servers.iter().map(|server| serde_json::to_string(&server.0).unwrap_or_default());
    hashes.insert("rooms.ice_servers".into(), hash(&[servers.collect::<String>().as_bytes()]));
    hashes.insert("realm".into(), hash(&[file.realm.0.as_bytes()]));
    hashes.insert("workers".into(), hash(&[&file.workers.to_be_bytes()]));
    for (key, path) in named_files(loaded) {
        let contents = super::document::read_limited(&path).unwrap_or_default();
        hashes.insert(key.into(), hash(&[path.as_os_str().as_encoded_bytes(), &contents]));
    }
    hashes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::file::File;

    fn loaded(change: impl Fn(&mut File)) -> Loaded {
        let mut file = File::default();
        file.auth.secrets = vec!["0123456789abcdef".parse().unwrap()];
        change(&mut file);
        Loaded::from(file)
    }

    #[test]
    fn what_changed_is_named_and_sorted_by_whether_it_needs_a_restart() {
        let before = Changes::since(&loaded(|_| ()));
        assert_eq!(before.to(&loaded(|_| ())).1, Reloaded::default());
        let after = loaded(|file| {
            file.auth.secrets = vec!["0123456789abcdeF".parse().unwrap()];
            file.auth.users.insert("alice".parse().unwrap(), "x".parse().unwrap());
            file.workers = 3;
            file.relay.allow_peers = vec!["10.0.0.0/8".parse().unwrap()];
            file.http.listen = "127.0.0.1:1".parse().unwrap();
        });
        let (seen, reloaded) = before.to(&after);
        assert_eq!(reloaded.applied, ["auth.secrets", "auth.users", "auth.users.alice", "relay.allow_peers"]);
        assert_eq!(reloaded.needs_restart, ["http.listen", "workers"]);
        let (_, again) = seen.to(&after);
        assert!(again.applied.is_empty());
        assert_eq!(again.needs_restart, ["http.listen", "workers"], "until there is a restart");
    }

    #[test]
    fn every_live_key_exists() {
        let loaded = loaded(|_| ());
        let keys: Vec<String> = settings::entries(&loaded, "", 0).into_keys().collect();
        for live in LIVE {
            assert!(keys.iter().any(|key| is_live(key) && key.starts_with(live)), "{live}");
        }
    }
}
