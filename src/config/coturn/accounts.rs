//! Who may allocate: secrets, users, and whether anybody may.

use super::conf::STORED;
use super::limits::duration;
use super::{Conf, End, NO_LINE, Value, printable};
use crate::config::accounts::SECRETS_MAX;
use crate::config::secret::{Password, SECRET_LEN_MIN, Secret, UserName};
use crate::config::value::{Realm, SECONDS_MAX, Separator};
use std::collections::BTreeMap;

/// The users that count so far, each with its line.
pub(super) type Users = BTreeMap<String, (String, usize)>;

impl Conf<'_> {
    /// `[auth]`.
    pub(super) fn accounts(&mut self, stun_only: Option<usize>) {
        if let Some(at) = stun_only {
            self.note(at, End::Carried, "no secret and no user, so that nobody can allocate");
        }
        let is_by_secret = self.on("use-auth-secret").is_some() || !self.all("static-auth-secret").is_empty();
        let secrets = if stun_only.is_some() { self.shut("static-auth-secret") } else { self.secrets(is_by_secret) };
        let users = match (stun_only.is_some(), is_by_secret) {
            (true, _) => self.shut("user"),
            (false, true) => {
                for at in self.all("user") {
                    let text = "coturn takes no users beside a shared secret; turnpike can: add users under [auth] of a \
                                .toml file, with good passwords";
                    self.note(at, End::Dropped, text);
                }
                for at in self.flat_files() {
                    let text = "coturn takes no users beside a shared secret, and a text holds no secrets";
                    self.note(at, End::Dropped, text);
                }
                0
            }
            (false, false) => self.users(),
        };
        self.unused_accounts(is_by_secret);
        self.other_databases(is_by_secret);
        self.separator(secrets > 0);
        let is_asked = self.on("lt-cred-mech");
        self.anonymous(stun_only.is_some(), is_asked.is_some() || is_by_secret);
        let has_database = self.lines.iter().any(|line| line.key.ends_with("userdb") || line.key == "db");
        if users + secrets == 0 && stun_only.is_none() && !has_database {
            self.say_nobody(is_asked, is_by_secret);
        }
    }

    /// `realm`.
    pub(super) fn realm(&mut self) {
        let Some(at) = self.last("realm") else { return };
        match self.value(at).parse::<Realm>() {
            Ok(realm) => {
                self.set("realm", Value::Text(realm.0), &[at]);
                self.note(at, End::Carried, "realm");
            }
            Err(what) => self.refuse(at, what, "every key is made with the realm"),
        }
    }

    /// Says of a key that stun-only leaves it out.
    fn shut(&mut self, key: &str) -> usize {
        for at in self.all(key) {
            self.note(at, End::Nothing, "stun-only: nobody can allocate");
        }
        0
    }

    /// How many secrets there are.
    fn secrets(&mut self, is_by_secret: bool) -> usize {
        let mut list: Vec<(String, usize)> = Vec::new();
        for at in self.all("static-auth-secret") {
            let secret = self.value(at).to_owned();
            if list.iter().any(|(known, _)| *known == secret) {
                self.note(at, End::Nothing, "it is there twice");
            } else if list.len() == SECRETS_MAX {
                let text = format!("{SECRETS_MAX} secrets are enough for a rotation: this one is not used");
                self.note(at, End::NeedsYou, text);
            } else {
                match secret.len() {
                    len if len < SECRET_LEN_MIN => {
                        let text = format!(
                            "it is used, but a secret of {len} bytes can be guessed, and a .toml file may have none \
                             under {SECRET_LEN_MIN}: `openssl rand -base64 24` makes one"
                        );
                        self.note(at, End::NeedsYou, text);
                    }
                    _ => self.note(at, End::Carried, "auth.secrets"),
                }
                list.push((secret, at));
            }
        }
        if is_by_secret {
            self.stored_secrets(&mut list);
        }
        if let Some(at) = self.on("use-auth-secret") {
            match list.is_empty() {
                true => self.unknown_accounts(at, true),
                false => self.note(at, End::Carried, "is so as soon as there is a secret"),
            }
        }
        let count = list.len();
        if count > 0 {
            if list.iter().any(|(secret, _)| secret.parse::<Secret>().is_err()) {
                self.secrets = Some(list.iter().map(|(secret, _)| secret.clone()).collect());
            }
            self.set_list("auth.secrets", list);
            let any = "coturn takes credentials that are good for any time";
            self.set_habit("auth.max_ttl", duration(SECONDS_MAX), any);
        }
        count
    }

    /// How many users there are.
    fn users(&mut self) -> usize {
        let mut users = Users::new();
        for at in self.all("user") {
            let text = self.value(at).to_owned();
            match user(&text) {
                Ok((name, password)) => {
                    self.note(at, End::Carried, "auth.users");
                    if let Some((_, before)) = users.insert(name, (password, at)) {
                        let text = format!("{} names the user again, and the last counts", self.place(at));
                        self.note(before, End::Nothing, text);
                    }
                }
                Err(what) => self.note(at, End::NeedsYou, what),
            }
        }
        for at in self.flat_files() {
            self.flat_file(at, &mut users);
        }
        let before = users.len();
        self.stored_users(&mut users);
        if before == 0 && !users.is_empty() && self.all("lt-cred-mech").is_empty() {
            let text = "coturn lets anyone relay where neither lt-cred-mech nor a user is written; here the users of \
                        the database are asked for";
            self.general("no-auth", End::Safer, text);
        }
        let count = users.len();
        for (name, (password, at)) in users {
            let path = vec!["auth".into(), "users".into(), name];
            let (lines, habit) = if at == NO_LINE { (Vec::new(), STORED) } else { (vec![at], "") };
            self.settings.push(super::Setting { path, value: Value::Text(password), lines, habit });
        }
        count
    }

    fn separator(&mut self, has_secrets: bool) {
        let Some(at) = self.last("rest-api-separator") else { return };
        let first: String = self.value(at).chars().take(1).collect();
        match first.parse::<Separator>() {
            Ok(separator) => {
                self.set("auth.separator", Value::Text(separator.to_string()), &[at]);
                self.note(at, End::Carried, "auth.separator");
            }
            Err(what) if has_secrets => self.refuse(at, what, "names of time-limited credentials have another one"),
            Err(what) => self.note(at, End::NeedsYou, what),
        }
    }

    /// Whether anybody may relay. With another way to authenticate coturn ends, and so does this.
    fn anonymous(&mut self, stun_only: bool, is_asked: bool) {
        if let Some(at) = self.last("lt-cred-mech") {
            let off = super::parser::boolean(self.value(at)) == Ok(false);
            let text = if off { "turnpike always authenticates" } else { "is how turnpike authenticates" };
            self.note(at, if off { End::Safer } else { End::Carried }, text);
        }
        let Some(at) = self.on("no-auth") else { return };
        if stun_only {
            return self.note(at, End::Nothing, "stun-only: there is nothing to authenticate for");
        }
        if is_asked {
            let hint = "remove no-auth, so that lt-cred-mech or the secret decides";
            return self.refuse(at, "coturn does not start with it beside another way to authenticate", hint);
        }
        self.set("auth.anonymous", Value::Flag(true), &[at]);
        let text = "an open relay is abused within hours, and turnpike does not start with this alone: name users or a \
                    secret; if it is what you want, run with --set auth.i_know_this_is_an_open_relay=true";
        self.note(at, End::NeedsYou, text);
    }

    fn say_nobody(&mut self, is_asked: Option<usize>, is_by_secret: bool) {
        if self.settings.iter().any(|setting| setting.path.join(".") == "auth.anonymous") {
            return;
        }
        match is_asked {
            // The line that asks for secrets says where they are.
            _ if is_by_secret => {}
            Some(at) => self.unknown_accounts(at, false),
            None => {
                let text =
                    "coturn lets anyone relay where no user and no secret is set; here nobody can until there is one";
                self.general("no-auth", End::Safer, text);
            }
        }
    }
}

/// `name:password` as coturn takes it apart: at the first colon, blanks behind it passed over.
pub(super) fn user(text: &str) -> Result<(String, String), String> {
    let wrong = || "coturn takes no user from it: a user is written `name:password`".to_owned();
    let (name, password) = text.split_once(':').ok_or_else(wrong)?;
    let password = password.trim_start();
    let name: UserName = name.parse().map_err(|_| wrong())?;
    let read: Password = password.parse().map_err(|_| wrong())?;
    if password.starts_with("0x") && read.md5_key().is_none() {
        return Err(format!("the key of user `{}` is not 0x and 32 hexadecimal digits", printable(name.as_str())));
    }
    Ok((name.as_str().to_owned(), password.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_taken_apart_at_the_first_colon() {
        let both = |name: &str, password: &str| Ok((name.to_owned(), password.to_owned()));
        assert_eq!(user("alice:wonder:land"), both("alice", "wonder:land"));
        assert_eq!(user("alice: x "), both("alice", "x "));
        let key = "0x8493fbc53ba582fb4c044c456bdc40eb";
        assert_eq!(user(&format!("alice:{key}")), both("alice", key));
        for text in ["", "alice", "alice:", ":x", "alice:0x8493", "alice:  "] {
            assert!(user(text).is_err(), "{text}");
        }
    }
}
