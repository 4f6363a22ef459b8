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

fn named_by(key: &str, origins: &Origins, fault: Fault) -> Fault {
    fault.hint(format!("it is named by {key} ({})", origins.of(key)))
}
