//! Databases beside a coturn file: SQLite as coturn's own tools write it, and as accidents leave it.

use super::binary::output;
use super::mutations::Random;
use super::{Scratch, contents, ends, host, imported, loaded, reader};
use rusqlite::Connection;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use turnpike::config::coturn::{End, FILE_LEN_MAX, Import, Note, Reader, unread};
use turnpike::config::{self};

/// coturn's tables, as its turnadmin makes them.
const SCHEMA: &str = "
    create table turnusers_lt (realm varchar(127) default '', name varchar(512), hmackey char(128),
        primary key (realm, name));
    create table turn_secret (realm varchar(127) default '', value varchar(127), primary key (realm, value));
    create table allowed_peer_ip (realm varchar(127) default '', ip_range varchar(256), primary key (realm, ip_range));
    create table denied_peer_ip (realm varchar(127) default '', ip_range varchar(256), primary key (realm, ip_range));
    create table turn_origin_to_realm (origin varchar(127), realm varchar(127), primary key (origin));
    create table turn_realm_option (realm varchar(127) default '', opt varchar(32), value varchar(128),
        primary key (realm, opt));
    create table oauth_key (kid varchar(128), ikm_key varchar(256), timestamp bigint default 0,
        lifetime integer default 0, as_rs_alg varchar(64) default '', realm varchar(127) default '',
        primary key (kid));
    create table admin_user (name varchar(32), realm varchar(127), password varchar(127), primary key (name));";

const KEY: &str = "8493fbc53ba582fb4c044c456bdc40eb";

/// A database with these rows.
pub fn database(scratch: &Scratch, name: &str, rows: &str) -> PathBuf {
    let path = scratch.0.join(name);
    let connection = Connection::open(&path).unwrap();
    connection.execute_batch(SCHEMA).unwrap();
    connection.execute_batch(rows).unwrap();
    path
}

/// The note about the database of a file of one line or more that names it last.
fn of_database(import: &Import) -> &Note {
    import.notes.iter().find(|note| ["userdb", "db"].contains(&note.key.as_str())).expect("something is said about it")
}

fn texts<T: ToString>(list: &[T]) -> Vec<String> {
    list.iter().map(ToString::to_string).collect()
}

#[test]
fn what_a_database_holds_for_the_realm_counts_as_in_coturn() {
    let scratch = Scratch::new();
    let rows = format!(
        "insert into turnusers_lt values ('example.org', 'alice', '{KEY}'), ('example.org', 'bob', '{KEY}'),
            ('north.example', 'carol', '{KEY}');
         insert into denied_peer_ip values ('', '198.41.0.0-198.41.0.255'), ('example.org', '8.8.0.0/16'),
            ('north.example', '9.9.9.9');
         insert into allowed_peer_ip values (null, '192.168.0.0-192.168.255.255'), ('example.org', '8.8.8.8');
         insert into turn_realm_option values ('example.org', 'user-quota', '7'), ('north.example', 'total-quota', '9'),
            ('example.org', 'max-bps', '64000');
         insert into admin_user values ('root', '', '$5$salt$hash');"
    );
    database(&scratch, "turndb", &rows);
    let text = "lt-cred-mech\nrealm=example.org\nuser=bob:newer\nuser-quota=3\nuserdb=turndb\n";
    let import = imported(&scratch, text, "");
    let file = &import.loaded.as_ref().unwrap().file;
    let users: Vec<(&str, &str)> = file.auth.users.iter().map(|(name, key)| (name.as_str(), key.as_str())).collect();
    assert_eq!(users, [("alice", &*format!("0x{KEY}")), ("bob", "newer")], "the file wins over the database");
    assert_eq!(texts(&file.relay.allow_peers), ["192.168.0.0/16"]);
    let denied = |ip: &str| file.relay.deny_peers.iter().any(|network| network.0.contains(ip.parse().unwrap()));
    assert!(denied("198.41.0.7") && denied("8.8.4.4") && !denied("8.8.8.8") && !denied("9.9.9.9"));
    assert_eq!(
        (file.limits.allocations_per_user, file.limits.bytes_per_second, file.limits.allocations),
        (7, 64000, 0)
    );
    let note = of_database(&import);
    assert_eq!(note.end, End::Carried, "{}", note.text);
    for part in
        ["auth.users: 2 users", "relay.deny_peers: 2 ranges", "relay.allow_peers: 1 range, ", "accounts of the web"]
    {
        assert!(note.text.contains(part), "{part}: {}", note.text);
    }
    assert!(note.files.contains(&scratch.0.join("turndb")) && !note.is_unread);
    let (_, end, said) = &ends(&import)[3];
    assert!(*end == End::Nothing && said.contains("user-quota=7"), "{said}");
    // `run` reads the same, and finds it where it was named.
    let direct = loaded(&scratch, text);
    assert_eq!(contents(&direct), contents(import.loaded.as_ref().unwrap()));
    assert!(direct.origins.of("auth.users.alice").ends_with("turnserver.conf:5"));
    assert!(import.toml.contains("turnserver.conf:5 userdb\n\"alice\" = \"0x"), "{}", import.toml);
}

#[test]
fn secrets_of_a_database_count_where_secrets_are_asked_for() {
    let scratch = Scratch::new();
    let rows = format!(
        "insert into turn_secret values ('example.org', 'a secret of 24 bytes ...'), ('other', 'another secret ....');
         insert into turnusers_lt values ('example.org', 'alice', '{KEY}');"
    );
    database(&scratch, "turndb", &rows);
    let of = |text: &str| imported(&scratch, &format!("realm=example.org\n{text}db=turndb\n"), "4.17.1");
    let import = of("use-auth-secret\nstatic-auth-secret=the file's own secret\n");
    let auth = &import.loaded.as_ref().unwrap().file.auth;
    let secrets: Vec<&[u8]> = auth.secrets.iter().map(|secret| secret.as_bytes()).collect();
    assert_eq!(secrets, [&b"the file's own secret"[..], b"a secret of 24 bytes ..."], "the file's mints");
    assert!(auth.users.is_empty());
    assert!(of_database(&import).text.contains("beside a shared secret, no user counts: not its 1 user"));
    let import = of("use-auth-secret\n");
    assert_eq!(import.loaded.as_ref().unwrap().file.auth.secrets.len(), 1);
    assert_eq!(ends(&import)[1].1, End::Carried, "use-auth-secret has a secret");
    // Without the key coturn takes none of them, and so it is said.
    let import = of("lt-cred-mech\n");
    let auth = &import.loaded.as_ref().unwrap().file.auth;
    assert!(auth.secrets.is_empty() && auth.users.len() == 1);
    let note = of_database(&import);
    assert!(note.end == End::NeedsYou && note.text.contains("without use-auth-secret"), "{}", note.text);
}

#[test]
fn a_short_secret_of_a_database_runs_and_is_pointed_out() {
    let scratch = Scratch::new();
    database(&scratch, "turndb", "insert into turn_secret values ('x', 'north')");
    let text = "realm=x\nuse-auth-secret\nuserdb=turndb\n";
    assert_eq!(loaded(&scratch, text).file.auth.secrets[0].as_bytes(), b"north");
    let import = imported(&scratch, text, "4.17.1");
    let note = of_database(&import);
    assert!(note.end == End::NeedsYou && note.text.contains("5 bytes and can be guessed"), "{}", note.text);
    assert!(!note.text.contains("north"));
}

#[test]
fn what_does_not_fit_is_told() {
    let scratch = Scratch::new();
    let rows = format!(
        "insert into turnusers_lt values ('x', 'long', '{KEY}{KEY}'), ('x', 'null', null), ('x', x'ff', '{KEY}'),
            ('x', 'good', '{KEY}'), ('x', '', '{KEY}');
         insert into denied_peer_ip values ('x', 'ten'), ('x', '10.0.0.9-10.0.0.1'), ('x', '8.8.8.8');
         insert into allowed_peer_ip values ('x', '127.0.0.1');
         insert into turn_realm_option values ('x', 'total-quota', '-4');"
    );
    database(&scratch, "turndb", &rows);
    let import = imported(&scratch, "realm=x\nlt-cred-mech\nuserdb=turndb\n", "4.17.1");
    let note = of_database(&import);
    for part in [
        "the key of user `long` is not 32 hexadecimal digits",
        "2 rows of turnusers_lt without text",
        "a user name has 1 to 508 bytes, not 0",
        "`ten` is not an address in denied_peer_ip",
        "`10.0.0.9-10.0.0.1` of denied_peer_ip ends before it begins",
        "never relayed to",
        "total-quota of the realm is `-4`",
    ] {
        assert!(note.text.contains(part), "{part}: {}", note.text);
    }
    assert_eq!(note.end, End::NeedsYou);
    let file = &import.loaded.unwrap().file;
    assert_eq!((file.auth.users.len(), file.relay.deny_peers.len()), (1, 1));
}

#[test]
fn a_wrong_realm_is_named() {
    let scratch = Scratch::new();
    database(&scratch, "turndb", &format!("insert into turnusers_lt values ('north.example', 'a', '{KEY}')"));
    let import = imported(&scratch, "realm=example.org\nlt-cred-mech\nuserdb=turndb\n", "4.17.1");
    let note = of_database(&import);
    assert_eq!(note.end, End::NeedsYou);
    assert!(note.text.contains("holds nothing for realm `example.org`; 1 user of north.example"), "{}", note.text);
    // Keys of no realm fit no realm.
    database(&scratch, "bare", &format!("insert into turnusers_lt values ('', 'a', '{KEY}')"));
    let import = imported(&scratch, "lt-cred-mech\nuserdb=bare\n", "4.17.1");
    let note = of_database(&import);
    assert!(note.end == End::NeedsYou && note.text.contains("made for no realm"), "{}", note.text);
    assert!(import.loaded.unwrap().file.auth.users.is_empty());
}

#[test]
fn coturns_own_database_is_asked_where_no_other_is_named() {
    let scratch = Scratch::new();
    let path = database(&scratch, "own", &format!("insert into turnusers_lt values ('x', 'alice', '{KEY}')"));
    let path: &'static str = Box::leak(path.display().to_string().into_boxed_str());
    let places: &'static [&'static str] = Box::leak(vec!["/nowhere/turndb", path].into_boxed_slice());
    let of = |text: &str| {
        let reader = Reader { databases: places, ..reader("4.17.1") };
        config::import(&scratch.file("turnserver.conf", text), &reader).unwrap()
    };
    let import = of("realm=x\nlt-cred-mech\n");
    assert_eq!(import.loaded.as_ref().unwrap().file.auth.users.len(), 1);
    let note = of_database(&import);
    assert!(note.place.is_empty() && note.end == End::Carried, "{note:?}");
    assert!(note.text.starts_with("auth.users: 1 user of coturn's own database /"), "{}", note.text);
    assert!(import.toml.contains("as coturn has it: its own database holds it"), "{}", import.toml);
    for text in ["realm=x\nuserdb=other\n", "realm=x\npsql-userdb=\"host=db\"\n", "realm=x\nstun-only\n"] {
        assert!(of(text).loaded.unwrap().file.auth.users.is_empty(), "{text}");
    }
    let import = of("realm=y\nlt-cred-mech\n");
    assert_eq!(of_database(&import).end, End::NeedsYou);
    // Without lt-cred-mech coturn would ask nobody for a password.
    let import = of("realm=x\n");
    let open = import.notes.iter().find(|note| note.key == "no-auth").expect("the open door is spoken of");
    assert!(open.end == End::Safer && import.loaded.unwrap().file.auth.users.len() == 1, "{open:?}");
}

/// A database in a state that its reader has not chosen, and what is said of it.
fn trouble(scratch: &Scratch, name: &str) -> Note {
    let import = imported(scratch, &format!("realm=x\nlt-cred-mech\nuser=a:b\nuserdb={name}\n"), "4.17.1");
    assert!(import.refusals.is_empty() && import.loaded.as_ref().unwrap().plan(&host()).is_ok());
    let note = of_database(&import).clone();
    assert_eq!(note.end, End::NeedsYou, "{}", note.text);
    note
}

#[test]
fn a_database_that_can_not_be_read_is_a_clear_line_and_reloads_go_on_without() {
    let scratch = Scratch::new();
    let whole = std::fs::read(database(&scratch, "whole", &rows(400))).unwrap();
    scratch.file("short", &whole[..50]);
    scratch.file("cut", &whole[..whole.len() / 2]);
    let mut torn = whole.clone();
    for (at, byte) in torn.iter_mut().enumerate().skip(4096) {
        *byte ^= (at % 251) as u8;
    }
    scratch.file("torn", &torn);
    scratch.file("noise", b"SQLite format 3\0....");
    scratch.file("binary", [0, 159, 146, 150]);
    Connection::open(scratch.0.join("other")).unwrap().execute_batch("create table t (x)").unwrap();
    let old = "create table turnusers_lt (name varchar(512) primary key, hmackey char(32))";
    Connection::open(scratch.0.join("old")).unwrap().execute_batch(old).unwrap();
    // A view could be a query without an end.
    let view = "create view turnusers_lt as with recursive c(x) as (values(1) union all select x + 1 from c)
        select 'x' as realm, x as name, x as hmackey from c";
    Connection::open(scratch.0.join("view")).unwrap().execute_batch(view).unwrap();
    // Half a kilobyte could be gigabytes, and a reader of a pipe waits for its writer.
    let computed = "create table turnusers_lt (realm, name, hmackey as (hex(zeroblob(20000000))));
        insert into turnusers_lt with recursive c(n) as (values(1) union all select n + 1 from c where n < 5)
            select 'x', n from c;";
    Connection::open(scratch.0.join("computed")).unwrap().execute_batch(computed).unwrap();
    let long = "create table turnusers_lt (realm, name); insert into turnusers_lt values ('x', 'a');
        alter table turnusers_lt add column hmackey default ";
    let long = format!("{long}'{}'", "f".repeat(255));
    Connection::open(scratch.0.join("long")).unwrap().execute_batch(&long).unwrap();
    let much = "insert into turnusers_lt with recursive c(n) as (values(1) union all select n + 1 from c where n < 500)
        select 'x', n || hex(zeroblob(32000)), n from c;";
    database(&scratch, "much", much);
    assert!(Command::new("mkfifo").arg(scratch.0.join("pipe")).status().unwrap().success());
    scratch.file("beside", &whole);
    assert!(Command::new("mkfifo").arg(scratch.0.join("beside-journal")).status().unwrap().success());
    std::fs::create_dir(scratch.0.join("directory")).unwrap();
    for (name, what) in [
        ("gone", "can not be read: No such file"),
        ("short", "neither a SQLite database nor a text"),
        ("cut", "damaged"),
        ("torn", "damaged"),
        ("noise", "neither a SQLite database nor a text"),
        ("binary", "neither a SQLite database nor a text"),
        ("other", "none of coturn's tables"),
        ("old", "not those of coturn 4.2 or later: no such column: realm"),
        ("view", "none of coturn's tables"),
        ("computed", "turnusers_lt has a column that is computed"),
        ("long", "turnusers_lt has a column that is computed or has a long default"),
        ("much", "more than 16 MiB of text for this realm"),
        ("directory", "it is not a file"),
        ("pipe", "it is not a file"),
        ("beside", "the journal beside it is not a file"),
    ] {
        let note = trouble(&scratch, name);
        assert!(note.text.contains(what), "{name}: {}", note.text);
        assert!(note.is_unread, "{name}");
        assert!(unread(&[note]).unwrap().starts_with("userdb: "), "{name}");
    }
}

/// Users of realm `x`.
fn rows(users: usize) -> String {
    format!(
        "insert into turnusers_lt with recursive c(n) as (values(1) union all select n + 1 from c where n < {users})
            select 'x', 'user' || n, '{KEY}' from c;"
    )
}

/// Bytes of a database changed at random: it is read, or it is said why not, and it is left as it is.
#[test]
fn a_damaged_database_never_stops_the_reader() {
    let scratch = Scratch::new();
    let whole = std::fs::read(database(&scratch, "whole", &rows(300))).unwrap();
    let (mut read, mut refused) = (0, 0);
    for seed in 0..100 {
        let mut random = Random(seed);
        let mut bytes = whole.clone();
        for _ in 0..1 + random.below(40) {
            // Half of them where the schema is.
            let end = if random.below(2) == 0 { 4096 } else { bytes.len() };
            let at = random.below(end);
            bytes[at] = random.next() as u8;
        }
        let path = scratch.file("turndb", &bytes);
        let import = imported(&scratch, "realm=x\nlt-cred-mech\nuser=a:b\nuserdb=turndb\n", "4.17.1");
        assert!(import.loaded.is_ok() && !of_database(&import).text.is_empty(), "seed {seed}");
        let is_read = !of_database(&import).is_unread;
        (read, refused) = (read + usize::from(is_read), refused + usize::from(!is_read));
        assert!(std::fs::read(path).unwrap() == bytes, "seed {seed}: it was changed");
    }
    assert!(read > 5 && refused > 5, "{read} of 100 were read, {refused} were not");
}

#[test]
fn a_locked_database_is_said_to_be_locked() {
    let scratch = Scratch::new();
    let writer = Connection::open(database(&scratch, "turndb", &rows(1))).unwrap();
    writer.execute_batch("begin exclusive").unwrap();
    let note = trouble(&scratch, "turndb");
    assert!(note.text.contains("another program holds it locked") && note.is_unread, "{}", note.text);
    writer.execute_batch("rollback").unwrap();
    let import = imported(&scratch, "realm=x\nlt-cred-mech\nuserdb=turndb\n", "4.17.1");
    assert_eq!(import.loaded.unwrap().file.auth.users.len(), 1);
}

#[test]
fn a_change_that_was_cut_off_is_its_owners_to_take_back() {
    let scratch = Scratch::new();
    let path = database(&scratch, "live", &rows(500));
    let writer = Connection::open(&path).unwrap();
    // With next to no memory the change goes to the file before it is whole.
    writer.execute_batch("pragma cache_size = 1; begin; update turnusers_lt set name = name || 'x'").unwrap();
    for part in ["", "-journal"] {
        scratch.file(&format!("turndb{part}"), std::fs::read(scratch.0.join(format!("live{part}"))).unwrap());
    }
    let before = std::fs::read(scratch.0.join("turndb")).unwrap();
    let note = trouble(&scratch, "turndb");
    assert!(note.text.contains("a change to it was not finished") && note.is_unread, "{}", note.text);
    assert!(std::fs::read(scratch.0.join("turndb")).unwrap() == before && scratch.0.join("turndb-journal").exists());
}

#[test]
fn a_database_with_a_log_is_read_with_its_newest_changes_and_nothing_is_left_beside_it() {
    let scratch = Scratch::new();
    let path = database(&scratch, "turndb", &rows(1));
    let writer = Connection::open(&path).unwrap();
    writer.query_row("pragma journal_mode = wal", [], |_| Ok(())).unwrap();
    writer
        .execute_batch("insert into turnusers_lt values ('x', 'newest', '8493fbc53ba582fb4c044c456bdc40eb')")
        .unwrap();
    let users = || {
        let import = imported(&scratch, "realm=x\nlt-cred-mech\nuserdb=turndb\n", "4.17.1");
        import.loaded.unwrap().file.auth.users.len()
    };
    assert_eq!(users(), 2, "what is in the log counts");
    drop(writer);
    // The header says that there may be a log. None is made to find out.
    let beside = || std::fs::read_dir(&scratch.0).unwrap().filter(|e| is_beside(&e.as_ref().unwrap().path())).count();
    assert_eq!((beside(), users(), beside()), (0, 2, 0));
    let whole = std::fs::read(&path).unwrap();
    assert_eq!((whole[18], whole[19]), (2, 2));
}

fn is_beside(path: &Path) -> bool {
    path.to_string_lossy().contains("turndb-")
}

#[test]
fn what_a_table_demands_of_its_rows_is_not_evaluated() {
    let scratch = Scratch::new();
    let connection = Connection::open(scratch.0.join("turndb")).unwrap();
    let rows = rows(3);
    let sql = format!(
        "pragma ignore_check_constraints = 1; create table turnusers_lt (realm, name, hmackey, check (0)); {rows}
         insert into turnusers_lt values ('x', hex(zeroblob(32768)), '{KEY}'), ('x', hex(zeroblob(32769)), '{KEY}');"
    );
    connection.execute_batch(&sql).unwrap();
    let note = trouble(&scratch, "turndb");
    assert!(note.text.contains("auth.users: 3 users") && !note.is_unread, "{}", note.text);
    assert!(note.text.contains("1 row of turnusers_lt without text, or with more than 64 KiB"), "{}", note.text);
}

#[test]
fn a_database_is_bounded_and_a_large_one_is_read() {
    let scratch = Scratch::new();
    database(&scratch, "turndb", &rows(50_001));
    let text = "realm=x\nlt-cred-mech\nuserdb=turndb\n";
    let direct = loaded(&scratch, text);
    assert_eq!(direct.file.auth.users.len(), 50_000);
    let note = direct.origins.notes().iter().find(|note| note.key == "userdb").unwrap();
    assert!(note.end == End::NeedsYou && note.text.contains("more than 50000 rows"), "{}", note.text);
}

#[test]
fn a_toml_that_is_too_large_for_one_file_is_said_to_be() {
    let scratch = Scratch::new();
    // Long names, so that there need not be many.
    let long = "update turnusers_lt set name = name || hex(zeroblob(200))";
    database(&scratch, "turndb", &format!("{} {long}", rows(2600)));
    scratch.file("turnserver.conf", "realm=x\nlt-cred-mech\nuserdb=turndb\n");
    let (code, toml, said) = output(&scratch, &["import", "turnserver.conf"]);
    assert!(code == Some(0) && toml.len() > FILE_LEN_MAX, "{said}");
    assert!(said.contains("needs you (default) size: the TOML is larger than the 1 MiB"), "{said}");
    scratch.file("turnpike.toml", &toml);
    let (code, _, said) = output(&scratch, &["check", "-c", "turnpike.toml"]);
    assert!(code == Some(78) && said.contains("larger than 1 MiB"), "{said}");
    // As it is told: in two files.
    let half = toml.match_indices('\n').map(|(at, _)| at + 1).find(|&at| at > toml.len() / 2).unwrap();
    let second = scratch.file("b.toml", format!("[auth.users]\n{}", &toml[half..]));
    let files = vec![scratch.file("a.toml", &toml[..half]), second];
    let loaded = config::load(&config::Inputs { files, ..config::Inputs::default() }).unwrap();
    assert_eq!(loaded.file.auth.users.len(), 2600);
}

#[test]
fn switches_that_turn_tables_off_do_so() {
    let scratch = Scratch::new();
    let rows = "insert into denied_peer_ip values ('x', '8.8.8.8');
                insert into turn_realm_option values ('x', 'total-quota', '4');";
    database(&scratch, "turndb", rows);
    let of = |text: &str| {
        let text = format!("realm=x\nuser=a:b\n{text}userdb=turndb\n");
        let file = imported(&scratch, &text, "4.17.1").loaded.unwrap().file;
        (file.relay.deny_peers.len(), file.limits.allocations)
    };
    assert_eq!(of(""), (1, 4));
    assert_eq!(of("no-dynamic-ip-list\n"), (0, 4));
    assert_eq!(of("no-dynamic-realms\n"), (1, 0));
}

#[test]
fn the_last_database_counts_and_a_home_is_found() {
    let scratch = Scratch::new();
    database(&scratch, "one", &rows(1));
    database(&scratch, "two", &rows(2));
    let import = imported(&scratch, "realm=x\nlt-cred-mech\ndb=two\nuserdb=one\n", "4.17.1");
    assert!(ends(&import)[2].1 == End::Nothing && ends(&import)[3].1 == End::Carried);
    assert_eq!(import.loaded.unwrap().file.auth.users.len(), 1);
}

/// Runs coturn's tool, and takes away the log that it leaves somewhere each time.
fn turnadmin(database: &Path, arguments: &[&str]) {
    let mut command = Command::new("turnadmin");
    command.arg("-b").arg(database).args(arguments).stdout(Stdio::null()).stderr(Stdio::null());
    let spawned = command.current_dir(database.parent().unwrap()).spawn();
    let mut child = spawned.expect("turnadmin is installed, as `tests/run.sh --install` does it");
    assert!(child.wait().unwrap().success(), "{arguments:?}");
    let log = format!("turn_{}_", child.id());
    for directory in ["/var/log", "/var/tmp", "/tmp"] {
        let entries = std::fs::read_dir(directory).into_iter().flatten().map_while(Result::ok);
        for entry in entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(&log)) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// coturn's own tool writes a database; it is read without being changed.
#[test]
fn turnadmin_and_turnpike_agree() {
    let scratch = Scratch::new();
    let path = scratch.0.join("turndb");
    turnadmin(&path, &["-a", "-u", "alice", "-r", "example.org", "-p", "wonderland"]);
    turnadmin(&path, &["-s", "a secret of 24 bytes ...", "-r", "example.org"]);
    turnadmin(&path, &["-g", "-r", "example.org", "--user-quota", "10"]);
    let before = std::fs::read(&path).unwrap();
    let of =
        |text: &str| imported(&scratch, &format!("realm=example.org\n{text}\nuserdb=turndb\n"), "").loaded.unwrap();
    let users = of("lt-cred-mech").file;
    let (name, key) = users.auth.users.iter().next().unwrap();
    assert_eq!(name.as_str(), "alice");
    assert_eq!(key.as_str(), "0x72f86f2053703faa0f521ce71cfe6f59", "the key of alice:example.org:wonderland");
    assert_eq!(users.limits.allocations_per_user, 10);
    assert_eq!(of("use-auth-secret").file.auth.secrets[0].as_bytes(), b"a secret of 24 bytes ...");
    assert!(std::fs::read(&path).unwrap() == before, "the database is as it was");
}
