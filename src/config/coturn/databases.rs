//! coturn's databases. The older one, a text, is read; what is in the others is turned into lines
//! of a coturn file by commands that are printed.

use super::accounts::{Users, user};
use super::{Conf, End, printable};
use crate::config::document::read_limited;
use std::path::Path;
use zeroize::Zeroizing;

/// coturn's own database, where `turnadmin` writes.
const DATABASE: &str = "/var/lib/turn/turndb";
/// How a SQLite file begins.
const SQLITE: &[u8] = b"SQLite format 3\0";

impl Conf<'_> {
    /// Reads the older database, a text of `name:password` lines; anything else is left for
    /// [`Conf::databases`] to speak of.
    pub(super) fn flat_file(&mut self, at: usize, users: &mut Users) {
        let path = self.path(at);
        let Some(bytes) = read(&path) else { return };
        let Ok(text) = std::str::from_utf8(&bytes) else { return };
        if bytes.starts_with(SQLITE) || text.contains('\0') {
            return;
        }
        let (mut read, mut unread) = (0, Vec::new());
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            match user(line) {
                Ok((name, password)) => {
                    read += 1;
                    users.entry(name).or_insert((password, at));
                }
                Err(_) => unread.push(number + 1),
            }
        }
        let place = path.display();
        match unread.first() {
            None => self.note(at, End::Carried, format!("auth.users: the {read} users of {place}")),
            Some(first) => {
                let text = format!(
                    "{read} users of {place} are read, {} lines are not `name:password`, the first is line {first}",
                    unread.len()
                );
                self.note(at, End::NeedsYou, text);
            }
        }
    }

    /// Says what to do about databases.
    pub(super) fn databases(&mut self, is_by_secret: bool) {
        for key in ["userdb", "db"] {
            for at in self.all(key) {
                let path = self.path(at);
                match read(&path).is_some_and(|bytes| !bytes.starts_with(SQLITE)) {
                    true if is_by_secret => {
                        let text = "coturn takes no users beside a shared secret, and a text holds no secrets";
                        self.note(at, End::Dropped, text);
                    }
                    _ => {
                        let command = self.sqlite(at, &path.display().to_string(), is_by_secret);
                        self.note(at, End::NeedsYou, format!("turnpike reads no database: {command}"));
                    }
                }
            }
        }
        for key in ["psql-userdb", "sql-userdb", "mysql-userdb"] {
            for at in self.all(key) {
                let is_mysql = key == "mysql-userdb";
                let client = if is_mysql { "mysql -N DATABASE -e" } else { "psql -At -d 'CONNECTION' -c" };
                // Each has its own way to join texts.
                let join = |first: &str, column: &str| match is_mysql {
                    true => format!("concat('{first}',{column})"),
                    false => format!("'{first}'||{column}"),
                };
                let commands = queries(is_by_secret, join, is_mysql);
                let commands =
                    commands.iter().map(|query| format!("`(echo; {client} \"{query}\") >> {}`", self.own_name(at)));
                let text = format!("turnpike reads no database: {}", commands.collect::<Vec<_>>().join(", "));
                self.note(at, End::NeedsYou, format!("{text} add what it holds to this file"));
            }
        }
        for at in self.all("redis-userdb") {
            let text = match is_by_secret {
                true => {
                    "`redis-cli SMEMBERS turn/realm/REALM/secret` prints the secrets, for lines static-auth-secret=SECRET"
                }
                false => {
                    "`redis-cli --scan --pattern 'turn/realm/*/user/*/key'` lists the users, `redis-cli GET` of each \
                     prints its key, for lines user=NAME:0xKEY"
                }
            };
            self.note(at, End::NeedsYou, format!("turnpike reads no database: {text}"));
        }
        for at in self.all("mongo-userdb") {
            let text = match is_by_secret {
                true => "`mongoexport -c turn_secret` prints the secrets, for lines static-auth-secret=SECRET",
                false => "`mongoexport -c turnusers_lt` prints the users, for lines user=NAME:0xHMACKEY",
            };
            self.note(at, End::NeedsYou, format!("turnpike reads no database: {text}"));
        }
    }

    /// Says of a line that asks for accounts, where the file has none, where they are.
    pub(super) fn unknown_accounts(&mut self, at: usize, is_by_secret: bool) {
        let what = if is_by_secret { "no secret" } else { "no user" };
        let command = self.sqlite(at, DATABASE, is_by_secret);
        let text = format!("there is {what} in this file, and turnpike does not read coturn's database: {command}");
        self.note(at, End::NeedsYou, text);
    }

    /// The command that adds what a SQLite database holds to the file of a line.
    fn sqlite(&self, at: usize, database: &str, is_by_secret: bool) -> String {
        let join = |first: &str, column: &str| format!("'{first}'||{column}");
        let queries = queries(is_by_secret, join, false).join("; ");
        let (database, file) = (quoted(database), self.own_name(at));
        // The file may end without a line break.
        format!("`(echo; sqlite3 {database} \"{queries}\") >> {file}` adds what it holds to this file")
    }

    /// The name of the file of a line, for a shell.
    fn own_name(&self, at: usize) -> String {
        let path = self.sources[self.lines[at].source].path();
        path.map_or("turnserver.conf".into(), |path| quoted(&path.display().to_string()))
    }
}

/// The queries that print lines of a coturn file: users or secrets, since coturn takes no users
/// beside a secret, and peers.
fn queries(is_by_secret: bool, join: impl Fn(&str, &str) -> String, is_mysql: bool) -> Vec<String> {
    let user = if is_mysql { "concat(name,':0x',hmackey)" } else { "name||':0x'||hmackey" };
    let accounts = match is_by_secret {
        true => format!("select {} from turn_secret", join("static-auth-secret=", "value")),
        false => format!("select {} from turnusers_lt", join("user=", user)),
    };
    let peers = ["denied", "allowed"]
        .map(|which| format!("select {} from {which}_peer_ip", join(&format!("{which}-peer-ip="), "ip_range")));
    [vec![accounts], peers.to_vec()].concat()
}

/// A regular file's bytes, if there are not too many.
fn read(path: &Path) -> Option<Zeroizing<Vec<u8>>> {
    if path.is_file() { read_limited(path).ok().map(Zeroizing::new) } else { None }
}

/// A word for a shell.
fn quoted(word: &str) -> String {
    let is_plain = word.bytes().all(|b| b.is_ascii_alphanumeric() || b"/._-+".contains(&b));
    match is_plain {
        true => word.to_owned(),
        false => format!("'{}'", printable(word).replace('\'', "'\\''")),
    }
}
