//! All that was said and written, and what must not be in it.

use super::marker::Marker;
use std::fs;
use std::path::Path;

/// One text, and where it was found.
struct Text {
    place: String,
    text: String,
    /// The markers it was asked for, by name.
    asked: Vec<String>,
}

/// What programs said while they knew secrets.
#[derive(Default)]
pub struct Heard {
    texts: Vec<Text>,
    markers: Vec<Marker>,
}

impl Heard {
    /// Looks for this secret too.
    pub fn knows(&mut self, marker: Marker) {
        self.markers.push(marker);
    }

    /// Looks for a password too: as it is, and as the keys that are made of it.
    pub fn knows_user(&mut self, name: &str, password: &str) {
        let what = format!("the password of {name}");
        self.knows(Marker::text(&what, password));
        let text = [name, crate::wire_client::REALM, password].join(":");
        let md5: [u8; 16] = <md5::Md5 as md5::Digest>::digest(&text).into();
        let sha256: [u8; 32] = <sha2::Sha256 as sha2::Digest>::digest(&text).into();
        self.knows(Marker::bytes(&format!("{what}, as MD5"), &md5));
        self.knows(Marker::bytes(&format!("{what}, as SHA-256"), &sha256));
    }

    /// Something was said.
    pub fn said(&mut self, place: impl Into<String>, text: impl AsRef<[u8]>) {
        self.answered(place, text, &[]);
    }

    /// Something was said to who asked for these secrets, by their names.
    pub fn answered(&mut self, place: impl Into<String>, text: impl AsRef<[u8]>, asked: &[&str]) {
        let text = String::from_utf8_lossy(text.as_ref()).into_owned();
        let asked = asked.iter().map(|&name| name.to_owned()).collect();
        self.texts.push(Text { place: place.into(), text, asked });
    }

    /// The files of a folder were written, but for these.
    pub fn written(&mut self, folder: &Path, given: &[&str]) {
        for entry in fs::read_dir(folder).expect("the folder is there") {
            let entry = entry.expect("an entry");
            let name = entry.file_name().to_string_lossy().into_owned();
            if !given.contains(&&*name) && entry.path().is_file() {
                self.said(format!("the file {name}"), fs::read(entry.path()).expect("the file can be read"));
            }
        }
    }

    /// Every leak there is: which secret, where, in which form.
    pub fn leaks(&self) -> Vec<String> {
        let mut leaks = Vec::new();
        for Text { place, text, asked } in &self.texts {
            for marker in self.markers.iter().filter(|marker| !asked.contains(&marker.name)) {
                if let Some((form, around)) = marker.find(text) {
                    leaks.push(format!("{} is in {place}, {form}: …{around}…", marker.name));
                }
            }
        }
        leaks
    }

    /// Fails where a secret was told, and where one was not told to who asked for it.
    pub fn judge(&self) {
        let said: usize = self.texts.iter().map(|text| text.text.len()).sum();
        assert!(said > 0 && !self.markers.is_empty(), "something was said, and something is looked for");
        let leaks = self.leaks();
        assert!(leaks.is_empty(), "{} leaks:\n{}", leaks.len(), leaks.join("\n"));
        for Text { place, text, asked } in &self.texts {
            for name in asked {
                let mut named = self.markers.iter().filter(|marker| marker.name == *name);
                let marker = named.next().unwrap_or_else(|| panic!("nothing is called {name}"));
                assert!(marker.find(text).is_some(), "{name} is the answer of {place}, and is not in it: {text}");
            }
        }
    }
}

#[test]
fn a_leak_is_named_and_an_answer_that_is_missing_too() {
    let mut heard = Heard::default();
    heard.knows(Marker::text("the first", "mark/first+Kq7vX2/one"));
    heard.knows_user("alice", "mark/alice+wonderland");
    heard.answered("an answer", "key=mark/first+Kq7vX2/one", &["the first"]);
    heard.judge();
    heard.said("the log", "key=mark/first+Kq7vX2/one");
    heard.said("another log", "key d9bb0cd13d45b9e0e70ee9d1b6bd3b6d");
    let leaks = heard.leaks();
    assert!(leaks.len() == 1 && leaks[0].starts_with("the first is in the log, as it is: "), "{leaks:?}");
    let key: [u8; 16] = <md5::Md5 as md5::Digest>::digest("alice:example.org:mark/alice+wonderland").into();
    heard.said("a picture", format!("{key:?}"));
    assert!(heard.leaks()[1].starts_with("the password of alice, as MD5 is in a picture"), "{:?}", heard.leaks());
}
