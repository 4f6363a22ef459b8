//! Every key, one at a time, generated from the table; and the page that shows the table.

use super::databases::database;
use super::{Scratch, ends, imported};
use turnpike::config::coturn::End;
use turnpike::config::coturn::keys::{KEYS, Key, Kind, REMOVED, markdown};

/// A value that coturn would take.
fn sample(key: &Key) -> &'static str {
    match key.name {
        "listening-ip" | "relay-ip" | "cli-ip" | "web-admin-ip" => "127.0.0.1",
        "prometheus-address" => "192.0.2.7",
        "external-ip" => "203.0.113.7/192.0.2.7",
        "user" => "alice:wonderland",
        "static-auth-secret" => "a secret of 24 bytes ...",
        "aux-server" => "192.0.2.7:443",
        "denied-peer-ip" => "10.0.0.0-10.255.255.255",
        "allowed-peer-ip" => "192.168.7.7",
        "min-port" => "50000",
        "max-port" => "60000",
        "cert" => "cert.pem",
        "pkey" => "key.pem",
        "rest-api-separator" => ":",
        "log-min-level" => "info",
        "userdb" | "db" => "turndb",
        "alternate-server" | "udp-alternate-server" | "tcp-alternate-server" => "192.0.2.8",
        "tls-alternate-server" => "192.0.2.8:5349",
        "allocation-default-address-family" => "ipv4",
        _ => match key.kind {
            Kind::Port => "8080",
            Kind::Number => "1000",
            Kind::Text => "something",
            Kind::Flag | Kind::Switch => "",
        },
    }
}

/// What a key needs beside it to mean something.
fn company(key: &Key) -> &'static str {
    match key.name {
        "cert" => "pkey=key.pem\n",
        "pkey" => "cert=cert.pem\n",
        "tls-listening-port" => "cert=cert.pem\npkey=key.pem\n",
        "prometheus-port" | "prometheus-address" => "prometheus\n",
        "prometheus-tls" => "cert=cert.pem\npkey=key.pem\nprometheus\n",
        "web-admin-port" | "web-admin-ip" => "web-admin\n",
        "use-auth-secret" => "static-auth-secret=a secret of 24 bytes ...\n",
        "lt-cred-mech" => "user=alice:wonderland\n",
        "userdb" | "db" => "realm=x\n",
        "unauthorized-ratelimit-rps" => "unauthorized-ratelimit\n",
        _ => "",
    }
}

/// Keys whose sample ends otherwise than the table says of most values, and why.
const OTHERWISE: &[(&str, End)] = &[
    // They are not the lifetimes of the standard.
    ("channel-lifetime", End::Dropped),
    ("permission-lifetime", End::Dropped),
    // Alone it opens the relay: `run` needs a second switch, and says so.
    ("no-auth", End::NeedsYou),
];

#[test]
fn every_key_alone_ends_as_the_table_says() {
    for key in KEYS.iter().chain(REMOVED) {
        let scratch = Scratch::new();
        scratch.certificate();
        if ["userdb", "db"].contains(&key.name) {
            let row = "insert into turnusers_lt values ('x', 'alice', '8493fbc53ba582fb4c044c456bdc40eb')";
            database(&scratch, "turndb", row);
        }
        let beside = company(key);
        let value = sample(key);
        let separator = if value.is_empty() { "" } else { "=" };
        let text = format!("{beside}{}{separator}{value}\n", key.name);
        let import = imported(&scratch, &text, "4.17.1");
        let line = beside.lines().count() + 1;
        let of_line: Vec<_> = ends(&import).into_iter().filter(|(at, ..)| *at == line.to_string()).collect();
        assert_eq!(of_line.len(), 1, "{text}{of_line:?}");
        let expected = OTHERWISE.iter().find(|(name, _)| *name == key.name).map_or(key.end, |(_, end)| *end);
        assert_eq!(of_line[0].1, expected, "{text}{of_line:?}");
        assert!(!of_line[0].2.is_empty(), "{} says nothing", key.name);
        assert_eq!(expected == End::Refused, !import.refusals.is_empty(), "{text}{:?}", import.refusals);
        assert!(import.loaded.is_ok(), "{text}{}\n{:?}", import.toml, import.loaded.err());
        // What is carried is to be found in the result, where the table leads.
        let loaded = import.loaded.unwrap();
        if expected == End::Carried && !["cpus", "stun-only", "no-tls"].contains(&key.name) {
            let to = key.to.split(", ").filter(|to| !to.is_empty());
            let shown = serde_json::to_value(&loaded.file).unwrap();
            let default = serde_json::to_value(turnpike::config::file::File::default()).unwrap();
            let mut changed = to.clone().map(|to| format!("/{}", to.replace('.', "/")));
            let is_default = ["rest-api-separator", "log-min-level", "verbose"].contains(&key.name);
            let found = changed.any(|pointer| shown.pointer(&pointer) != default.pointer(&pointer));
            assert!(found || is_default || to.count() == 0, "{text}{}", import.toml);
        }
    }
}

#[test]
fn every_flag_takes_every_boolean_and_refuses_the_rest() {
    for key in KEYS.iter().filter(|key| key.kind == Kind::Flag) {
        for value in ["0", "no", "false", "off", "OFF"] {
            let scratch = Scratch::new();
            let import = imported(&scratch, &format!("{}={value}\n", key.name), "4.17.1");
            assert!(import.refusals.is_empty(), "{}={value}: {:?}", key.name, import.refusals);
            assert_ne!(ends(&import)[0].1, End::Refused, "{}={value}", key.name);
            assert!(!import.toml.contains(&format!(" {}\n", key.name)), "{}={value} is carried", key.name);
        }
        let scratch = Scratch::new();
        let import = imported(&scratch, &format!("{} maybe\n", key.name), "4.17.1");
        assert_eq!((import.refusals.len(), ends(&import)[0].1), (1, End::Refused), "{}", key.name);
    }
}

#[test]
fn switches_are_on_whatever_is_said() {
    for key in KEYS.iter().filter(|key| key.kind == Kind::Switch) {
        let scratch = Scratch::new();
        let on = imported(&scratch, &format!("{}\n", key.name), "4.17.1");
        let off = imported(&scratch, &format!("{}=false\n", key.name), "4.17.1");
        assert_eq!(on.toml, off.toml, "{}", key.name);
        let (_, end, text) = &ends(&off)[0];
        assert!(*end >= End::Dropped && text.contains("takes no notice of the `=false`"), "{}: {text}", key.name);
    }
    assert_eq!(KEYS.iter().filter(|key| key.kind == Kind::Switch).count(), 8);
}

#[test]
fn every_port_is_a_port() {
    for key in KEYS.iter().filter(|key| key.kind == Kind::Port) {
        for value in ["65536", "-1", "http", "3478;"] {
            let scratch = Scratch::new();
            let import = imported(&scratch, &format!("{}={value}\n", key.name), "4.17.1");
            assert_eq!(import.refusals.len(), 1, "{}={value}", key.name);
        }
    }
}

#[test]
fn the_page_shows_the_table_of_the_code() {
    let page = include_str!("../../docs/migrate-from-coturn.md");
    let (begin, end) = ("<!-- keys -->\n", "<!-- /keys -->\n");
    let shown = page.split(begin).nth(1).and_then(|rest| rest.split(end).next()).expect("the page has a table of keys");
    let table = markdown();
    let mut differing = shown.trim().lines().zip(table.trim().lines()).filter(|(shown, real)| shown != real);
    assert_eq!(differing.next(), None, "the page, and the code");
    assert_eq!(shown.trim().lines().count(), table.trim().lines().count());
}
