//! Secrets and users, from the configuration and from the files it names.

use super::document::Document;
use super::fault::Fault;
use super::file::Auth;
use super::layers::Origins;
use super::secret::{Password, Secret, UserName};
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

/// Most shared secrets: each costs every request of a time-limited user two hashes.
pub const SECRETS_MAX: usize = 4;

/// Who may allocate.
#[derive(Debug, Default)]
pub struct Accounts {
    /// Shared secrets; the first mints.
    pub secrets: Vec<Secret>,
    /// Long-term users.
    pub users: BTreeMap<UserName, Password>,
}

impl Accounts {
    /// Reads the files too; those in the configuration itself come first.
    pub fn read(auth: &Auth, origins: &Origins) -> Result<Self, Fault> {
        Ok(Accounts { secrets: secrets(auth, origins)?, users: users(auth, origins)? })
    }
}

/// Shared secrets alone.
pub fn secrets(auth: &Auth, origins: &Origins) -> Result<Vec<Secret>, Fault> {
    let too_many = format!("there are more than {SECRETS_MAX} secrets");
    if auth.secrets.len() > SECRETS_MAX {
        return Err(origins.fault_in("auth.secrets", SECRETS_MAX, too_many));
    }
    let mut secrets = auth.secrets.clone();
    if !auth.secret_file.is_empty() {
        let path = origins.path("auth.secret_file", &auth.secret_file);
        secrets.extend(secret_file(&path).map_err(|fault| named_by("auth.secret_file", origins, fault))?);
    }
    if secrets.len() > SECRETS_MAX {
        return Err(origins.fault("auth.secret_file", too_many).hint("those in auth.secrets count"));
    }
    Ok(secrets)
}

/// A file with one secret a line; blank lines and those that begin with `#` are passed over.
pub fn secret_file(path: &Path) -> Result<Vec<Secret>, Fault> {
    let document = Document::read(path)?;
    let mut secrets = Vec::new();
    for (span, line) in entries(&document) {
        secrets.push(line.parse().map_err(|what: String| concealed(&document, span, what))?);
    }
    match secrets.is_empty() {
        true => Err(Fault::new("the file holds no secret").at(path.display().to_string())),
        false => Ok(secrets),
    }
}

fn users(auth: &Auth, origins: &Origins) -> Result<BTreeMap<UserName, Password>, Fault> {
    let mut users = auth.users.clone();
    if auth.users_file.is_empty() {
        return Ok(users);
    }
    let path = origins.path("auth.users_file", &auth.users_file);
    let document = Document::read(&path).map_err(|fault| named_by("auth.users_file", origins, fault))?;
    // One that was cut to nothing would lock out everybody at the next reload; one with a comment
    // alone means nobody.
    if document.text().is_empty() {
        let fault = Fault::new("the file holds no user").at(path.display().to_string());
        return Err(named_by("auth.users_file", origins, fault));
    }
    for (span, line) in entries(&document) {
        let fault = |what: String| concealed(&document, span.clone(), what);
        let (name, password) = line.split_once(':').ok_or_else(|| fault("a user is written `name:password`".into()))?;
        let name: UserName = name.parse().map_err(fault)?;
        if users.contains_key(&name) {
            return Err(fault(format!("user `{name}` is there twice")));
        }
        users.insert(name, password.parse().map_err(fault)?);
    }
    Ok(users)
}

/// The lines that say something, without the white space around them, and where they are.
fn entries(document: &Document) -> impl Iterator<Item = (Range<usize>, &str)> {
    let mut at = 0;
    document.text().split_inclusive('\n').filter_map(move |line| {
        let start = at + (line.len() - line.trim_start().len());
        at += line.len();
        let entry = line.trim();
        let says_something = !entry.is_empty() && !entry.starts_with('#');
        says_something.then_some((start..start + entry.len(), entry))
    })
}

/// A fault in a line that is not shown.
fn concealed(document: &Document, span: Range<usize>, what: String) -> Fault {
    document.hide(std::iter::once(0..document.text().len()).collect());
    document.fault(span, what)
}

pub(super) fn named_by(key: &str, origins: &Origins, fault: Fault) -> Fault {
    fault.hint(format!("it is named by {key} ({})", origins.of(key)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Inputs, load};

    /// Reads `[auth]` from a directory with one more file.
    fn read(name: &str, file: &str, text: &str, auth: &str) -> Result<Accounts, String> {
        let directory = std::env::temp_dir().join(format!("turnpike-accounts-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(directory.join(file), text).unwrap();
        std::fs::write(directory.join("t.toml"), format!("[auth]\n{auth}\n")).unwrap();
        let loaded = load(&Inputs { files: vec![directory.join("t.toml")], ..Inputs::default() }).unwrap();
        let accounts = Accounts::read(&loaded.file.auth, &loaded.origins);
        std::fs::remove_dir_all(&directory).unwrap();
        accounts.map_err(|fault| fault.to_string().replace(&format!("{}/", directory.display()), ""))
    }

    #[test]
    fn a_secret_file_has_one_secret_a_line_and_its_secrets_come_last() {
        let text = "# rotated in May\r\n\r\n  the second secret  \r\nthe third secret\n";
        let auth = "secrets = [\"the first secret\"]\nsecret_file = \"s.txt\"";
        let accounts = read("secrets", "s.txt", text, auth).unwrap();
        let secrets: Vec<&[u8]> = accounts.secrets.iter().map(Secret::as_bytes).collect();
        assert_eq!(secrets, [&b"the first secret"[..], b"the second secret", b"the third secret"]);
    }

    #[test]
    fn a_secret_file_is_refused_without_being_shown() {
        let auth = "secret_file = \"s.txt\"";
        let refused = read("short", "s.txt", "the first secret\n  too short\n", auth).unwrap_err();
        assert!(refused.contains("(s.txt:2:3)") && !refused.contains("too short"), "{refused}");
        assert!(refused.ends_with("= it is named by auth.secret_file (t.toml:2)"), "{refused}");
        assert!(read("empty", "s.txt", "# none\n", auth).unwrap_err().starts_with("the file holds no secret (s.txt)"));
        assert!(read("gone", "x", "", auth).unwrap_err().starts_with("the file can not be read: No such file"));
        let five = "a secret of 24 bytes ...\n".repeat(SECRETS_MAX + 1);
        let refused = read("five", "s.txt", &five, auth).unwrap_err();
        assert!(refused.starts_with("there are more than 4 secrets (t.toml:2:15)"), "{refused}");
    }

    #[test]
    fn a_users_file_adds_to_the_users() {
        let auth = "users = { alice = \"1\" }\nusers_file = \"u.txt\"";
        let accounts = read("users", "u.txt", "# all\nbob:pass:word\n", auth).unwrap();
        let users = accounts.users.iter().map(|(name, password)| format!("{name} {}", password.as_str()));
        assert_eq!(users.collect::<Vec<_>>(), ["alice 1", "bob pass:word"]);
        let nobody = read("nobody", "u.txt", "# nobody\n\n", auth).unwrap();
        assert_eq!(nobody.users.len(), 1, "a comment alone means it");
        for (text, what) in [
            ("", "the file holds no user (u.txt)"),
            ("bob", "a user is written `name:password` (u.txt:1:1)"),
            ("bob:", "a password can not be empty (u.txt:1:1)"),
            (":hunter2", "a user name has 1 to 508 bytes, not 0 (u.txt:1:1)"),
            ("bob:1\nalice:hunter2", "user `alice` is there twice (u.txt:2:1)"),
        ] {
            let refused = read("refused", "u.txt", text, auth).expect_err(text);
            assert!(refused.starts_with(what) && !refused.contains("hunter2"), "{refused}");
        }
    }
}
