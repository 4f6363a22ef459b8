//! coturn's configuration as its users meet it: files of well-known guides, every key, the command line, and
//! files that somebody damaged.

mod wire_client;

#[path = "coturn/binary.rs"]
mod binary;
#[path = "coturn/databases.rs"]
mod databases;
#[path = "coturn/guides.rs"]
mod guides;
#[path = "coturn/habits.rs"]
mod habits;
#[path = "coturn/keys.rs"]
mod keys;
#[path = "coturn/mutations.rs"]
mod mutations;
#[path = "coturn/pages.rs"]
mod pages;
#[path = "coturn/values.rs"]
mod values;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use turnpike::config::coturn::{End, Import, Reader};
use turnpike::config::{self, Host, Inputs, Loaded};

/// A directory of one test, gone with it.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("coturn-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::create_dir_all(&path).unwrap();
        Scratch(path)
    }

    fn file(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        use std::os::unix::fs::PermissionsExt;
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    /// A certificate and its key.
    fn certificate(&self) {
        let made = rcgen::generate_simple_self_signed(vec!["turn.example.org".to_owned()]).unwrap();
        self.file("cert.pem", made.cert.pem());
        self.file("key.pem", made.signing_key.serialize_pem());
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn host() -> Host {
    Host {
        name: "host.example".into(),
        addresses: ["192.0.2.7", "10.0.0.7", "127.0.0.1", "2001:db8::7", "::1"].map(|ip| ip.parse().unwrap()).to_vec(),
        cores: 3,
        ephemeral: None,
        reserved: Vec::new(),
    }
}

/// Reads as for a version, or for an unknown one. One name is known here, and no database of this
/// machine: tests ask no name server.
fn reader(version: &str) -> Reader {
    let resolve = |name: &str| (name == "turn.example.org").then(|| IpAddr::from([192, 0, 2, 7]));
    Reader { version: (!version.is_empty()).then(|| version.parse().unwrap()), resolve, databases: &[] }
}

fn imported(scratch: &Scratch, text: &str, version: &str) -> Import {
    config::import(&scratch.file("turnserver.conf", text), &reader(version)).unwrap()
}

/// A file as `run` would read it.
fn read(scratch: &Scratch, text: &str) -> Result<Loaded, config::Fault> {
    let file = scratch.file("turnserver.conf", text);
    config::load(&Inputs { files: vec![file], ..Inputs::default() })
}

fn loaded(scratch: &Scratch, text: &str) -> Loaded {
    read(scratch, text).unwrap_or_else(|fault| panic!("{text}\n{fault}"))
}

/// How each line of a text ended, with what was said.
fn ends(import: &Import) -> Vec<(String, End, String)> {
    let at = |place: &str| place.rsplit_once(':').map_or(String::new(), |(_, line)| line.to_owned());
    import.notes.iter().map(|note| (at(&note.place), note.end, note.text.clone())).collect()
}

/// Everything a configuration says, secrets included, to compare two of them.
fn contents(loaded: &Loaded) -> String {
    let mut text = format!("{:#}", serde_json::to_value(&loaded.file).unwrap());
    for secret in &loaded.file.auth.secrets {
        text.push_str(&format!("\nsecret {}", secret.as_bytes().escape_ascii()));
    }
    for (name, password) in &loaded.file.auth.users {
        text.push_str(&format!("\nuser {name} {}", password.as_str()));
    }
    text
}
