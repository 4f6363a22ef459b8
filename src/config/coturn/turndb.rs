//! coturn's SQLite database: what it holds for one realm, read once and never written.
//!
//! What is in it may be anybody's work. Only tables of plain columns are asked, no view and nothing that is computed; no
//! more than a bounded number of rows and bytes is taken, in a bounded time; and whatever is wrong with the file is a
//! [`Trouble`].

use super::databases::counted;
use rusqlite::config::DbConfig;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, ErrorCode, OpenFlags, Params, Row};
use std::cell::Cell;
use std::fmt::Write;
use std::io::{self, ErrorKind, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;
use zeroize::Zeroizing;

/// Most users taken. A service with more is better served by time-limited credentials, which need no list.
pub const USERS_MAX: usize = 50_000;
/// Most secrets looked at.
pub const SECRETS_MAX: usize = 64;
/// Most ranges of peers taken, allowed and denied each.
pub const RANGES_MAX: usize = 4096;
/// Most options of the realm taken; coturn knows three.
const OPTIONS_MAX: usize = 64;
/// Longest value taken, in bytes; coturn's own columns have 512 at most.
const VALUE_LEN_MAX: usize = 64 << 10;
/// Most bytes taken of all values together.
const TAKEN_LEN_MAX: usize = 16 << 20;
/// Longest default of a column, in bytes; coturn's are empty. It stands for every row that is shorter than its table.
const DEFAULT_LEN_MAX: usize = 256;
/// Other realms that are named.
const REALMS_SHOWN: usize = 3;
/// Largest file read, in bytes; the log beside it the same.
const LEN_MAX: u64 = 64 << 20;
/// How long a program that writes to it may take.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long the reading may take. Every row and byte is bounded; this is for tables whose description has no end.
const READING_MAX: Duration = Duration::from_secs(20);
/// How soon a reading that takes too long is ended once more: between two queries it does not hear.
const AGAIN: Duration = Duration::from_millis(50);

/// The tables that are read.
const TABLES: [&str; 7] = [
    "turnusers_lt",
    "turn_secret",
    "denied_peer_ip",
    "allowed_peer_ip",
    "turn_realm_option",
    "turn_origin_to_realm",
    "admin_user",
];
/// How many of these, the first ones, make a database one of coturn's.
const TABLES_TELLING: usize = 4;

/// How a SQLite file begins.
const MAGIC: &[u8] = b"SQLite format 3\0";
/// Length of the header.
const HEADER_LEN: usize = 100;
/// Where the header says by 2 that changes are first written to a log of their own.
const READ_VERSION_AT: usize = 19;

/// What a database holds for one realm.
#[derive(Default)]
pub struct Turndb {
    /// Names and keys as written.
    pub users: Vec<(String, Zeroizing<String>)>,
    /// Shared secrets.
    pub secrets: Vec<Zeroizing<String>>,
    /// Ranges of peers, those for every realm too.
    pub denied: Vec<String>,
    /// Ranges of peers, those for every realm too.
    pub allowed: Vec<String>,
    /// `max-bps`, `total-quota`, `user-quota`, with their values.
    pub options: Vec<(String, String)>,
    /// What is there for other realms: `2 users (north.example)`.
    pub others: Vec<String>,
    /// What is not taken, in words.
    pub left: Vec<String>,
    /// Rows that tie an origin to a realm.
    pub origins: u64,
    /// Accounts of coturn's web interface.
    pub admins: u64,
}

/// What is wrong with a database.
#[derive(Debug)]
pub struct Trouble {
    /// In words.
    pub what: String,
    /// There is no such file.
    pub is_absent: bool,
    /// This process may not read it.
    pub is_barred: bool,
}

impl Trouble {
    fn new(what: impl Into<String>) -> Self {
        Trouble { what: what.into(), is_absent: false, is_barred: false }
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        let (is_absent, is_barred) = (error.kind() == ErrorKind::NotFound, error.kind() == ErrorKind::PermissionDenied);
        Trouble { what: format!("it can not be read: {error}"), is_absent, is_barred }
    }
}

impl From<rusqlite::Error> for Trouble {
    fn from(error: rusqlite::Error) -> Self {
        Trouble::new(match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                "another program holds it locked: try again when that is done".into()
            }
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                "it is damaged: `sqlite3 FILE .recover` shows what is left".into()
            }
            Some(ErrorCode::OperationInterrupted) => {
                format!("reading it takes longer than {} s: it is none that coturn made", READING_MAX.as_secs())
            }
            // A change that was cut off is taken back by the next who may write.
            Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen) => {
                "a change to it was not finished: open it once as its owner, `sqlite3 FILE .tables`".into()
            }
            _ => match &error {
                rusqlite::Error::SqlInputError { msg, .. } => {
                    format!("its tables are not those of coturn 4.2 or later: {msg}")
                }
                _ => format!("it can not be read: {error}"),
            },
        })
    }
}

/// Whether a file begins as SQLite's do.
pub fn is_sqlite(bytes: &[u8]) -> bool {
    bytes.starts_with(MAGIC)
}

/// The log beside a database, in which its newest changes may be.
pub fn log_of(path: &Path) -> PathBuf {
    beside(path, "-wal")
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut beside = path.as_os_str().to_owned();
    beside.push(ending);
    beside.into()
}

/// Reads what counts for a realm.
pub fn read(path: &Path, realm: &str) -> Result<Turndb, Trouble> {
    let connection = open(path)?;
    within(READING_MAX, &connection, || rows(&connection, realm))?
}

/// Does something with a database, which is told to stop when it takes longer than `max`.
fn within<T>(max: Duration, connection: &Connection, work: impl FnOnce() -> T) -> io::Result<T> {
    let reading = connection.get_interrupt_handle();
    let (done, is_done) = mpsc::channel::<()>();
    thread::scope(|scope| {
        let watch = move || {
            let mut wait = max;
            while is_done.recv_timeout(wait) == Err(RecvTimeoutError::Timeout) {
                reading.interrupt();
                wait = AGAIN;
            }
        };
        thread::Builder::new().spawn_scoped(scope, watch)?;
        // Gone with this, also in a panic, which lets the watch end.
        let _done = done;
        Ok(work())
    })
}

fn rows(connection: &Connection, realm: &str) -> Result<Turndb, Trouble> {
    // One transaction, so that no half of a change is seen.
    let transaction = connection.unchecked_transaction()?;
    let mut reading =
        Reading { connection: &transaction, tables: Vec::new(), taken: Cell::new(0), turndb: Turndb::default() };
    for table in TABLES {
        if exists(&transaction, table)? {
            judge(&transaction, table)?;
            reading.tables.push(table);
        }
    }
    if !TABLES[..TABLES_TELLING].iter().any(|table| reading.has(table)) {
        return Err(Trouble::new("it has none of coturn's tables: is it the right file?"));
    }
    reading.users(realm)?;
    reading.secrets(realm)?;
    reading.turndb.denied = reading.ranges("denied_peer_ip", realm)?;
    reading.turndb.allowed = reading.ranges("allowed_peer_ip", realm)?;
    reading.options(realm)?;
    reading.turndb.origins = reading.count("turn_origin_to_realm")?;
    reading.turndb.admins = reading.count("admin_user")?;
    match reading.taken.get() > TAKEN_LEN_MAX {
        true => Err(Trouble::new(format!("it has more than {} MiB of text for this realm", TAKEN_LEN_MAX >> 20))),
        false => Ok(reading.turndb),
    }
}

/// Opens a database so that nothing is ever written, beside it neither.
fn open(path: &Path) -> Result<Connection, Trouble> {
    let mut head = Vec::new();
    // Asked before anything is opened: to open a pipe is to wait for who writes to it.
    for (part, what) in [("", "it"), ("-wal", "the log beside it"), ("-journal", "the journal beside it")] {
        let metadata = match beside(path, part).metadata() {
            Err(error) if error.kind() == ErrorKind::NotFound && !part.is_empty() => continue,
            metadata => metadata?,
        };
        if !metadata.is_file() {
            return Err(Trouble::new(format!("{what} is not a file")));
        }
        if metadata.len() > LEN_MAX {
            return Err(Trouble::new(format!("{what} is larger than {} MiB", LEN_MAX >> 20)));
        }
    }
    std::fs::File::open(path)?.take(HEADER_LEN as u64).read_to_end(&mut head)?;
    if !is_sqlite(&head) || head.len() < HEADER_LEN {
        return Err(Trouble::new("it is neither a SQLite database nor a text of `name:password` lines"));
    }
    // To read a log, a file of shared memory is needed beside it. Without a log that can be done without.
    let has_log = log_of(path).metadata().is_ok_and(|log| log.len() > 0);
    let is_immutable = head[READ_VERSION_AT] == 2 && !has_log;
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
    let connection = Connection::open_with_flags(uri(path, is_immutable), flags)?;
    connection.busy_timeout(PATIENCE)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_VIEW, false)?;
    // Else a test for damage evaluates what a table demands of its rows.
    connection.pragma_update(None, "ignore_check_constraints", true)?;
    Ok(connection)
}

fn uri(path: &Path, is_immutable: bool) -> String {
    let mut uri = String::from("file:");
    for &byte in path.as_os_str().as_bytes() {
        match byte {
            b'/' | b'.' | b'-' | b'_' | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => uri.push(byte.into()),
            _ => {
                let _ = write!(uri, "%{byte:02x}");
            }
        }
    }
    uri.push_str(if is_immutable { "?immutable=1" } else { "?mode=ro" });
    uri
}

/// Whether there is a table of that name, not a view nor a module's.
fn exists(connection: &Connection, table: &str) -> rusqlite::Result<bool> {
    let sql = "select exists (select 1 from sqlite_master
               where type = 'table' and name = ?1 collate nocase and sql like 'create table %')";
    connection.query_row(sql, [table], |row| row.get(0))
}

/// Refuses a table that is damaged, or has columns that can make much out of little.
fn judge(connection: &Connection, table: &str) -> Result<(), Trouble> {
    // Columns that are computed are 2 and 3.
    let sql = "select count(*) from pragma_table_xinfo(?1) where hidden > 1 or length(dflt_value) > ?2";
    let odd: i64 = connection.query_row(sql, (table, DEFAULT_LEN_MAX as i64), |row| row.get(0))?;
    if odd > 0 {
        return Err(Trouble::new(format!(
            "{table} has a column that is computed or has a long default: it is none that coturn made"
        )));
    }
    let sound: String = connection.query_row(&format!("pragma quick_check({table})"), [], |row| row.get(0))?;
    match &*sound {
        "ok" => Ok(()),
        _ => Err(Trouble::new(format!("it is damaged: {}", super::printable(&sound)))),
    }
}

/// A database being read.
struct Reading<'c> {
    connection: &'c Connection,
    tables: Vec<&'static str>,
    /// Bytes of text seen.
    taken: Cell<usize>,
    turndb: Turndb,
}

impl Reading<'_> {
    fn has(&self, table: &str) -> bool {
        self.tables.contains(&table)
    }

    fn users(&mut self, realm: &str) -> Result<(), Trouble> {
        if !self.has("turnusers_lt") {
            return Ok(());
        }
        let (mut users, mut odd) = (Vec::new(), 0);
        let sql = "select name, hmackey from turnusers_lt where realm = ?1 order by name";
        let more =
            each(self.connection, sql, [realm], USERS_MAX, |row| match (self.text(row, 0), self.text(row, 1)) {
                (Some(name), Some(key)) => users.push((name.to_string(), key)),
                _ => odd += 1,
            })?;
        self.turndb.users = users;
        self.say("turnusers_lt", odd, more, USERS_MAX);
        self.others("turnusers_lt", "user", realm)
    }

    fn secrets(&mut self, realm: &str) -> Result<(), Trouble> {
        if !self.has("turn_secret") {
            return Ok(());
        }
        let (mut secrets, mut odd) = (Vec::new(), 0);
        let sql = "select value from turn_secret where realm = ?1 order by rowid";
        let more = each(self.connection, sql, [realm], SECRETS_MAX, |row| match self.text(row, 0) {
            Some(secret) => secrets.push(secret),
            None => odd += 1,
        })?;
        self.turndb.secrets = secrets;
        self.say("turn_secret", odd, more, SECRETS_MAX);
        self.others("turn_secret", "secret", realm)
    }

    /// Ranges for this realm and for every realm: coturn compares realms only where both have one.
    fn ranges(&mut self, table: &'static str, realm: &str) -> Result<Vec<String>, Trouble> {
        if !self.has(table) {
            return Ok(Vec::new());
        }
        let (mut ranges, mut odd) = (Vec::new(), 0);
        let sql = format!(
            "select ip_range from {table} where ?1 = '' or realm is null or realm in ('', ?1) order by ip_range"
        );
        let more = each(self.connection, &sql, [realm], RANGES_MAX, |row| match self.text(row, 0) {
            Some(range) => ranges.push(range.to_string()),
            None => odd += 1,
        })?;
        self.say(table, odd, more, RANGES_MAX);
        if !realm.is_empty() {
            self.others(table, "range", realm)?;
        }
        Ok(ranges)
    }

    fn options(&mut self, realm: &str) -> Result<(), Trouble> {
        if !self.has("turn_realm_option") {
            return Ok(());
        }
        let mut options = Vec::new();
        let sql = "select opt, value from turn_realm_option where realm in ('', ?1) order by realm, opt";
        each(self.connection, sql, [realm], OPTIONS_MAX, |row| {
            if let (Some(option), Some(value)) = (self.text(row, 0), self.text(row, 1)) {
                options.push((option.to_string(), value.to_string()));
            }
        })?;
        self.turndb.options = options;
        Ok(())
    }

    fn count(&self, table: &str) -> Result<u64, Trouble> {
        if !self.has(table) {
            return Ok(0);
        }
        let count: i64 = self.connection.query_row(&format!("select count(*) from {table}"), [], |row| row.get(0))?;
        Ok(count.unsigned_abs())
    }

    /// Counts the rows of other realms, and names some of these.
    fn others(&mut self, table: &str, what: &str, realm: &str) -> Result<(), Trouble> {
        let sql = format!("select count(*) from {table} where realm <> ?1 and realm <> ''");
        let count: i64 = self.connection.query_row(&sql, [realm], |row| row.get(0))?;
        let count = usize::try_from(count).unwrap_or(0);
        if count == 0 {
            return Ok(());
        }
        let mut realms = Vec::new();
        let sql = format!("select distinct realm from {table} where realm <> ?1 and realm <> '' order by realm");
        let more = each(self.connection, &sql, [realm], REALMS_SHOWN, |row| {
            realms.extend(self.text(row, 0).map(|realm| super::printable(&realm)));
        })?;
        let more = if more { " and others" } else { "" };
        self.turndb.others.push(format!("{} of {}{more}", counted(count, what), realms.join(", ")));
        Ok(())
    }

    /// A column's text, as coturn would see it, while there is room for it.
    fn text(&self, row: &Row<'_>, at: usize) -> Option<Zeroizing<String>> {
        let text = match row.get_ref(at).ok()? {
            ValueRef::Text(bytes) | ValueRef::Blob(bytes) if bytes.len() <= VALUE_LEN_MAX => {
                self.taken.set(self.taken.get() + bytes.len());
                std::str::from_utf8(bytes).ok().filter(|_| self.taken.get() <= TAKEN_LEN_MAX)?.to_owned()
            }
            ValueRef::Integer(number) => number.to_string(),
            _ => return None,
        };
        Some(Zeroizing::new(text))
    }

    fn say(&mut self, table: &str, odd: usize, more: bool, max: usize) {
        if odd > 0 {
            self.turndb.left.push(format!(
                "{} of {table} without text, or with more than {} KiB",
                counted(odd, "row"),
                VALUE_LEN_MAX >> 10
            ));
        }
        if more {
            self.turndb.left.push(format!("{table} has more than {max} rows for this realm, which are not taken"));
        }
    }
}

/// Hands over each row, at most `max` of them; whether there are more.
fn each(
    connection: &Connection,
    sql: &str,
    params: impl Params,
    max: usize,
    mut take: impl FnMut(&Row<'_>),
) -> rusqlite::Result<bool> {
    let mut statement = connection.prepare(sql)?;
    let mut rows = statement.query(params)?;
    for _ in 0..max {
        match rows.next()? {
            Some(row) => take(row),
            None => return Ok(false),
        }
    }
    Ok(rows.next()?.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_without_an_end_is_ended() {
        let connection = Connection::open_in_memory().unwrap();
        let endless = "with recursive c(x) as (values(1) union all select x + 1 from c) select count(*) from c";
        let count = || connection.query_row(endless, [], |row| row.get::<_, i64>(0));
        let trouble = Trouble::from(within(Duration::ZERO, &connection, count).unwrap().unwrap_err());
        assert!(trouble.what.contains("takes longer than 20 s"), "{}", trouble.what);
    }
}
