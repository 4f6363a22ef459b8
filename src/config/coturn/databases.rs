//! coturn's databases. SQLite and the older text are read; what is in the others is turned into lines of a coturn file
//! by commands that are printed.

use super::accounts::{Users, user};
use super::limits::option_path;
use super::peers::{Entry, range};
use super::turndb::{self, Trouble, Turndb};
use super::{Conf, End, NO_LINE, Value, printable};
use crate::config::accounts::SECRETS_MAX;
use crate::config::document::read_limited;
use crate::config::secret::{Password, SECRET_LEN_MIN, UserName};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// The database in use, while what it holds finds its places.
pub(super) struct Database {
    /// The line that names it; [`NO_LINE`] for coturn's own.
    pub at: usize,
    pub path: PathBuf,
    pub rows: Turndb,
    /// What has found its place.
    pub carried: Vec<String>,
    /// What somebody has to look at.
    pub left: Vec<String>,
    /// What is as it is in coturn.
    pub same: Vec<String>,
    /// How many ranges went where.
    ranges: Vec<(&'static str, usize)>,
    /// How much more there would be to look at.
    unsaid: usize,
}

/// What somebody has to look at, one by one; the rest is counted.
const LEFT_MAX: usize = 8;

impl Database {
    /// Takes note of what became of one of its ranges.
    pub fn tell_range(&mut self, end: End, text: &str, to: &'static str) {
        match end {
            End::Carried => match self.ranges.iter_mut().find(|(known, _)| *known == to) {
                Some((_, count)) => *count += 1,
                None => self.ranges.push((to, 1)),
            },
            End::Nothing => {}
            _ => self.complain(format!("a range for {to}: {text}")),
        }
    }

    fn complain(&mut self, what: String) {
        match self.left.len() < LEFT_MAX {
            true => self.left.push(what),
            false => self.unsaid += 1,
        }
    }
}

impl Conf<'_> {
    /// Opens the SQLite database that coturn would ask: the one that is named, else its own.
    pub(super) fn open_database(&mut self, stun_only: bool) {
        let mut named: Vec<usize> = ["userdb", "db"].iter().flat_map(|key| self.all(key)).collect();
        named.sort_unstable();
        let last = named.pop();
        for earlier in named {
            let place = last.map_or_else(String::new, |last| self.place(last));
            self.note(earlier, End::Nothing, format!("{place} names another, and the last counts"));
        }
        match last {
            Some(at) if stun_only => self.note(at, End::Nothing, "stun-only: nobody can allocate"),
            Some(at) => {
                let path = self.database_path(at);
                if !is_flat(&path) {
                    self.open(at, path);
                }
            }
            None => {
                let is_elsewhere = self.lines.iter().any(|line| line.key.ends_with("-userdb"));
                let own = self.reader.databases.iter().map(Path::new).find(|path| path.exists());
                if let Some(path) = own.filter(|_| !stun_only && !is_elsewhere && !self.lines.is_empty()) {
                    self.open(NO_LINE, path.to_owned());
                }
            }
        }
    }

    fn open(&mut self, at: usize, path: PathBuf) {
        let realm = self.realm_written();
        match turndb::read(&path, &realm) {
            Ok(mut rows) => {
                let left = std::mem::take(&mut rows.left);
                let (carried, same) = (Vec::new(), Vec::new());
                self.database = Some(Database { at, path, rows, carried, left, same, ranges: Vec::new(), unsaid: 0 });
            }
            Err(trouble) => self.say_trouble(at, &path, &trouble),
        }
    }

    fn say_trouble(&mut self, at: usize, path: &Path, trouble: &Trouble) {
        let shown = printable(&path.display().to_string());
        let what = trouble.what.replace("FILE", &quoted(&shown));
        let advice = match (trouble.is_absent, trouble.is_barred) {
            (true, _) => ": what it should hold counts for nothing; name the right file, or remove the line",
            (_, true) => ": let turnpike's user read it, or run `turnpike import` as one who may",
            _ => ": what it holds counts for nothing until then",
        };
        let text = format!("{shown}: {what}{advice}");
        match at {
            NO_LINE => self.general("userdb", End::NeedsYou, format!("coturn's own database {text}")),
            at => self.note(at, End::NeedsYou, text),
        }
        // coturn's own, which nobody named, may well be none of turnpike's business.
        let is_unread = at != NO_LINE || !trouble.is_barred;
        self.depend(at, path, is_unread);
    }

    /// Says what became of the database, when everything has found its place.
    pub(super) fn say_database(&mut self) {
        let Some(database) = self.database.take() else { return };
        let Database { at, path, rows, mut carried, mut left, mut same, ranges, unsaid } = database;
        carried.extend(ranges.iter().map(|&(to, count)| format!("{to}: {}", counted(count, "range"))));
        if at == NO_LINE && carried.is_empty() && left.is_empty() && rows.others.is_empty() {
            // A package of coturn's makes one that nobody has ever used.
            return;
        }
        let realm = self.realm_written();
        if !rows.others.is_empty() {
            let others = rows.others.join(", ");
            match carried.is_empty() || rows.origins > 0 {
                true => left.push(format!("{others} are not taken: here is one realm, `{}`", printable(&realm))),
                false => same.push(format!("{others} count for other realms")),
            }
        }
        if rows.admins > 0 {
            same.push("accounts of the web interface are not read: http.admin_token_file names a token".into());
        }
        if unsaid > 0 {
            left.push(format!("and {unsaid} more like these"));
        }
        let shown = printable(&path.display().to_string());
        let own = if at == NO_LINE { "coturn's own database " } else { "" };
        let (what, mut end) = match carried.is_empty() {
            true => (format!("{own}{shown} holds nothing for realm `{}`", printable(&realm)), End::Nothing),
            false => (format!("{} of {own}{shown}", carried.join(", ")), End::Carried),
        };
        if !left.is_empty() || carried.is_empty() && at != NO_LINE {
            end = End::NeedsYou;
        }
        let text = [vec![what], left, same].concat().join("; ");
        match at {
            NO_LINE => self.general("userdb", end, text),
            at => self.note(at, end, text),
        }
        self.depend(at, &path, false);
    }

    /// Adds the secrets of the database to those of the file.
    pub(super) fn stored_secrets(&mut self, list: &mut Vec<(String, usize)>) {
        let Some(database) = &mut self.database else { return };
        let (mut taken, mut over) = (0, 0);
        for secret in std::mem::take(&mut database.rows.secrets) {
            if list.iter().any(|(known, _)| *known == *secret) {
                continue;
            }
            if list.len() == SECRETS_MAX {
                over += 1;
                continue;
            }
            if secret.len() < SECRET_LEN_MIN {
                let len = secret.len();
                database.complain(format!(
                    "one is used that has {len} bytes and can be guessed; a .toml file may have none under \
                     {SECRET_LEN_MIN}: `openssl rand -base64 24` makes one"
                ));
            }
            taken += 1;
            list.push((secret.to_string(), database.at));
        }
        if over > 0 {
            database.complain(format!("{SECRETS_MAX} secrets are enough for a rotation: {over} more are not used"));
        }
        if taken > 0 {
            database.carried.push(format!("auth.secrets: {}", counted(taken, "secret")));
        }
    }

    /// Adds the users of the database to those of the file, which win.
    pub(super) fn stored_users(&mut self, users: &mut Users) {
        let realm = self.realm_written();
        let Some(database) = &mut self.database else { return };
        let (rows, mut read) = (std::mem::take(&mut database.rows.users), 0);
        if realm.is_empty() && !rows.is_empty() {
            database.complain(format!(
                "the keys of {} are made for no realm, and clients are told one here: write realm=REALM, and give \
                 them passwords again",
                counted(rows.len(), "user")
            ));
            return;
        }
        for (name, key) in rows {
            let password = format!("0x{}", *key);
            let is_key = password.parse::<Password>().is_ok_and(|password| password.md5_key().is_some());
            match name.parse::<UserName>() {
                Ok(_) if is_key => {
                    read += 1;
                    users.entry(name).or_insert((password, database.at));
                }
                Ok(name) => {
                    let name = printable(name.as_str());
                    database.complain(format!("the key of user `{name}` is not 32 hexadecimal digits: make it anew"));
                }
                Err(what) => database.complain(what),
            }
        }
        if read > 0 {
            database.carried.push(format!("auth.users: {}", counted(read, "user")));
        }
    }

    /// Says that what the database holds does not count, as in coturn.
    pub(super) fn unused_accounts(&mut self, is_by_secret: bool) {
        let Some(database) = &mut self.database else { return };
        let (users, secrets) = (database.rows.users.len(), database.rows.secrets.len());
        match is_by_secret {
            true if users > 0 => {
                database
                    .same
                    .push(format!("beside a shared secret, no user counts: not its {}", counted(users, "user")));
            }
            false if secrets > 0 => {
                database
                    .left
                    .push(format!("without use-auth-secret, no secret counts: not its {}", counted(secrets, "secret")));
            }
            _ => {}
        }
    }

    /// The ranges of one of the two tables of peers.
    pub(super) fn stored_ranges(&mut self, denies: bool) -> Vec<Entry> {
        let is_off = self.on("no-dynamic-ip-list").is_some();
        let Some(database) = &mut self.database else { return Vec::new() };
        let rows = std::mem::take(if denies { &mut database.rows.denied } else { &mut database.rows.allowed });
        let table = if denies { "denied_peer_ip" } else { "allowed_peer_ip" };
        if is_off && !rows.is_empty() {
            database.same.push(format!("no-dynamic-ip-list: the ranges of {table} do not count"));
            return Vec::new();
        }
        let mut ranges = Vec::new();
        for row in rows {
            match range(&row) {
                Ok(range) if range.is_backward() => {
                    database.complain(format!("`{}` of {table} ends before it begins", printable(&row)));
                }
                Ok(range) => ranges.push(Entry { range, at: database.at, is_stored: true }),
                Err(what) => database.complain(format!("{} in {table}, and coturn passes over it", printable(&what))),
            }
        }
        ranges
    }

    /// What the database says of the realm's limits, which wins over the file.
    pub(super) fn stored_limits(&mut self) {
        let is_off = self.on("no-dynamic-realms").is_some();
        let Some(database) = &mut self.database else { return };
        let options = std::mem::take(&mut database.rows.options);
        if is_off && !options.is_empty() {
            database.same.push("no-dynamic-realms: the options of the realm do not count".into());
            return;
        }
        for (option, value) in options {
            let (Some(path), Some(database)) = (option_path(&option), &mut self.database) else { continue };
            let at = database.at;
            let Ok(limit) = u64::try_from(super::parser::number(&value).0) else {
                database.complain(format!("{option} of the realm is `{}`: there is no limit", printable(&value)));
                continue;
            };
            database.carried.push(format!("{path}: {limit}"));
            self.settings.retain(|setting| setting.path.join(".") != path);
            if let Some(line) = (0..self.lines.len()).rev().find(|&line| self.lines[line].key == option) {
                self.note(line, End::Nothing, format!("the database has {option}={limit} for this realm, which wins"));
            }
            self.set_stored(path, Value::Number(limit), at);
        }
    }

    /// The realm as the file has it; empty when it has none.
    fn realm_written(&self) -> String {
        let of_file = self.lines.iter().rev().find(|line| line.key == "realm");
        of_file.map_or(String::new(), |line| line.value.clone())
    }

    /// The file a line names; `~` is the home directory, as coturn has it for databases.
    fn database_path(&self, at: usize) -> PathBuf {
        match (self.value(at).strip_prefix("~/"), std::env::var_os("HOME")) {
            (Some(rest), Some(home)) => Path::new(&home).join(rest),
            _ => self.path(at),
        }
    }

    /// The lines that name an older database, a text.
    pub(super) fn flat_files(&self) -> Vec<usize> {
        let named = ["userdb", "db"].iter().flat_map(|key| self.all(key));
        named.filter(|&at| self.database.as_ref().is_none_or(|database| database.at != at)).collect()
    }

    /// Reads the older database, a text of `name:password` lines.
    pub(super) fn flat_file(&mut self, at: usize, users: &mut Users) {
        let path = self.database_path(at);
        let Some(bytes) = read(&path) else { return };
        let Ok(text) = std::str::from_utf8(&bytes) else { return };
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
        self.depend(at, &path, false);
    }

    /// Says what to do about databases that are not read.
    pub(super) fn other_databases(&mut self, is_by_secret: bool) {
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
                // The file may end without a line break.
                let commands =
                    commands.iter().map(|query| format!("`(echo; {client} \"{query}\") >> {}`", self.own_name(at)));
                let commands = commands.collect::<Vec<_>>().join(", ");
                let text = format!("turnpike reads no other database than SQLite: {commands}");
                self.note(at, End::NeedsYou, format!("{text} add what it holds to this file"));
            }
        }
        for (key, secrets, users) in [
            (
                "redis-userdb",
                "`redis-cli SMEMBERS turn/realm/REALM/secret` prints the secrets, for lines static-auth-secret=SECRET",
                "`redis-cli --scan --pattern 'turn/realm/*/user/*/key'` lists the users, `redis-cli GET` of each prints \
                 its key, for lines user=NAME:0xKEY",
            ),
            (
                "mongo-userdb",
                "`mongoexport -c turn_secret` prints the secrets, for lines static-auth-secret=SECRET",
                "`mongoexport -c turnusers_lt` prints the users, for lines user=NAME:0xHMACKEY",
            ),
        ] {
            for at in self.all(key) {
                let command = if is_by_secret { secrets } else { users };
                self.note(at, End::NeedsYou, format!("turnpike reads no other database than SQLite: {command}"));
            }
        }
    }

    /// Says of a line that asks for accounts that there are none, and where they should be.
    pub(super) fn unknown_accounts(&mut self, at: usize, is_by_secret: bool) {
        let (what, line) = match is_by_secret {
            true => ("secret", "static-auth-secret=SECRET"),
            false => ("user", "user=NAME:PASSWORD"),
        };
        let database = match &self.database {
            Some(database) => format!("none for this realm in {}", printable(&database.path.display().to_string())),
            None => "no database of coturn's that can be read".into(),
        };
        self.note(
            at,
            End::NeedsYou,
            format!("there is no {what} in this file, and {database}: nobody can allocate; add a line {line}"),
        );
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

/// `1 user`, `2 users`.
pub(super) fn counted(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

/// Whether a file is the older database, a text.
fn is_flat(path: &Path) -> bool {
    read(path).is_some_and(|bytes| {
        !turndb::is_sqlite(&bytes) && std::str::from_utf8(&bytes).is_ok_and(|text| !text.contains('\0'))
    })
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
