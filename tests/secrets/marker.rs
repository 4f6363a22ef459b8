//! Secrets that are recognised in whatever form they turn up.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// How much of a secret is too much already, in bytes: a beginning or an end of it.
const PART_LEN: usize = 12;

/// One secret.
#[derive(Clone, Debug)]
pub struct Marker {
    /// What it is.
    pub name: String,
    /// Each form, and what it is called.
    forms: BTreeMap<String, &'static str>,
}

impl Marker {
    /// A secret that is text.
    pub fn text(name: &str, secret: &str) -> Marker {
        let mut marker = Marker { name: name.to_owned(), forms: BTreeMap::new() };
        marker.add("as it is", secret);
        marker.add_encoded(secret.as_bytes());
        if secret.len() > 2 * PART_LEN {
            marker.add("its beginning", &secret[..PART_LEN]);
            marker.add("its end", &secret[secret.len() - PART_LEN..]);
        }
        marker.add("escaped", secret.escape_default().to_string());
        marker.add("in JSON", serde_json::Value::from(secret).to_string().trim_matches('"'));
        marker
    }

    /// A secret that is bytes, such as a key.
    pub fn bytes(name: &str, secret: &[u8]) -> Marker {
        let mut marker = Marker { name: name.to_owned(), forms: BTreeMap::new() };
        marker.add_encoded(secret);
        marker
    }

    fn add_encoded(&mut self, secret: &[u8]) {
        // In the middle of something longer, base64 begins at one of three places.
        for (before, odd) in [(0, 0), (1, 2), (2, 3)] {
            let text = [&[0; 2][..before], secret].concat();
            for encoded in [STANDARD_NO_PAD.encode(&text), URL_SAFE_NO_PAD.encode(&text)] {
                self.add("base64", &encoded[odd..encoded.len() - 2]);
            }
        }
        let hex = |format: fn(&mut String, u8)| {
            secret.iter().fold(String::new(), |mut text, &byte| {
                format(&mut text, byte);
                text
            })
        };
        self.add("hexadecimal", hex(|text, byte| write!(text, "{byte:02x}").expect("text grows")));
        self.add("hexadecimal", hex(|text, byte| write!(text, "{byte:02X}").expect("text grows")));
        self.add(
            "hexadecimal with colons",
            hex(|text, byte| write!(text, "{byte:02x}:").expect("text grows")).trim_matches(':'),
        );
        let percent = |byte: u8, text: &mut String, upper: bool| match byte {
            b if b.is_ascii_alphanumeric() || b"-_.~".contains(&b) => text.push(char::from(b)),
            b if upper => write!(text, "%{b:02X}").expect("text grows"),
            b => write!(text, "%{b:02x}").expect("text grows"),
        };
        for upper in [true, false] {
            let mut text = String::new();
            secret.iter().for_each(|&byte| percent(byte, &mut text, upper));
            self.add("percent-encoded", text);
        }
        let list = format!("{secret:?}");
        self.add("a list of numbers", list.trim_matches(['[', ']']));
        self.add("escaped", secret.escape_ascii().to_string());
    }

    fn add(&mut self, form: &'static str, text: impl Into<String>) {
        let text = text.into();
        // What is shorter is found everywhere.
        assert!(text.len() >= PART_LEN, "{}: `{text}` is too short to be looked for", self.name);
        self.forms.entry(text).or_insert(form);
    }

    /// The first form a text has it in: what it is called, and what stands there.
    pub fn find(&self, text: &str) -> Option<(&'static str, String)> {
        self.forms.iter().find_map(|(form, called)| {
            let at = text.find(form.as_str())?;
            let around = text[..at].chars().rev().take(80).collect::<Vec<_>>().into_iter().rev();
            let around = around.chain(text[at..].chars().take(form.chars().count() + 20)).collect();
            Some((*called, around))
        })
    }
}

#[test]
fn a_marker_is_found_in_every_form() {
    let secret = "mark/one+Kq7vX2 \"of\" many=";
    let marker = Marker::text("one", secret);
    let bytes = secret.as_bytes();
    let forms = [
        secret.to_owned(),
        "mark/one+Kq7".to_owned(),
        "X2 \"of\" many=".to_owned(),
        STANDARD_NO_PAD.encode(secret),
        STANDARD_NO_PAD.encode(format!("alice:{secret}, and more")),
        URL_SAFE_NO_PAD.encode(format!("bob:{secret}")),
        "6d61726b2f6f6e652b4b713776583220226f6622206d616e793d".to_owned(),
        "mark%2Fone%2BKq7vX2%20%22of%22%20many%3D".to_owned(),
        "mark%2fone%2bKq7vX2%20%22of%22%20many%3d".to_owned(),
        format!("Secret({bytes:?})"),
        format!("{secret:?}"),
        serde_json::json!({ "key": secret }).to_string(),
    ];
    for form in forms {
        assert!(marker.find(&format!("before {form} after")).is_some(), "{form}");
    }
    for text in ["", "mark/one+Kq", "(set, 26 bytes)", "mark many"] {
        assert_eq!(marker.find(text), None, "{text}");
    }
    let key = Marker::bytes("key", &[0x84, 0x93, 0xfb, 0xc5, 0x3b, 0xa5, 0x82, 0xfb, 0x4c, 0x04, 0x44, 0x5c]);
    for text in ["0x8493fbc53ba582fb4c04445c", "Key([132, 147, 251, 197, 59, 165, 130, 251, 76, 4, 68, 92])"] {
        assert!(key.find(text).is_some(), "{text}");
    }
}
