//! Damaged files: never a panic, never a line that nothing is said about.

use super::{Scratch, host, imported, reader};
use std::collections::BTreeMap;
use turnpike::config::coturn::keys::KEYS;
use turnpike::config::{self};

/// Files made of each seed.
const SEEDS: u64 = 100;

/// A file with something of everything.
const BASE: &str = "\
# turnserver.conf of a lifetime
listening-port=3478
tls-listening-port 5349
listening-ip=192.0.2.7
listening-ip=::1
relay-ip=192.0.2.7
external-ip=203.0.113.7/192.0.2.7
min-port=49152
max-port=65535
fingerprint
lt-cred-mech
user=alice:wonderland
user=bob:0x8493fbc53ba582fb4c044c456bdc40eb
use-auth-secret
static-auth-secret=a secret of 24 bytes ...
static-auth-secret=\"another secret, quoted\"
realm=example.org
total-quota=100
user-quota=10
max-bps=64000
bps-capacity=1000000
stale-nonce=600
cert=cert.pem
pkey=key.pem
cipher-list=\"DEFAULT\"

log-file=stdout
no-stdout-log
syslog=off
verbose
denied-peer-ip=10.0.0.0-10.255.255.255
denied-peer-ip=fc00::-fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff
allowed-peer-ip=10.0.0.5
aux-server=192.0.2.7:443
prometheus
prometheus-port=9641
web-admin
web-admin-ip=127.0.0.1
max-allocate-lifetime=3600
rest-api-separator=:
no-multicast-peers
no-cli
relay-threads=4
userdb=/nowhere/turndb
alternate-server=192.0.2.8:3478
";

/// SplitMix64.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }
}

fn mutated(seed: u64) -> Vec<u8> {
    let mut random = Random(seed);
    let mut bytes = BASE.as_bytes().to_vec();
    for _ in 0..1 + random.below(30) {
        let at = random.below(bytes.len());
        match random.below(9) {
            0 => drop(bytes.remove(at)),
            1 => bytes[at] = random.next() as u8,
            2 => bytes.insert(at, b"\n\r\t =\"#;:-/,.09\0"[random.below(16)]),
            3 => bytes.truncate(at.max(200)),
            4 => {
                let lines: Vec<&[u8]> = BASE.as_bytes().split(|&b| b == b'\n').collect();
                let line = lines[random.below(lines.len())];
                bytes.splice(at..at, [b"\n", line, b"\n"].concat());
            }
            5 => {
                let (key, value) = (KEYS[random.below(KEYS.len())].name, random.next() % 100_000);
                bytes.splice(at..at, format!("\n{key}={value}\n").into_bytes());
            }
            6 => {
                let (key, other) = (KEYS[random.below(KEYS.len())].name, KEYS[random.below(KEYS.len())].name);
                bytes.splice(at..at, format!("\n{key} {other}\n").into_bytes());
            }
            7 => {
                let odd = ["é", "\u{feff}", "\u{202e}", "\\", "\"\"", "2001:db8::/129", "-", "%s%n", "'", "\u{7f}"];
                bytes.splice(at..at, odd[random.below(odd.len())].bytes());
            }
            _ => {
                let long = vec![b'x'; random.below(2000)];
                bytes.splice(at..at, long);
            }
        }
    }
    bytes
}

/// The numbers of the lines that say something, counted here by other means.
fn meaningful(bytes: &[u8]) -> BTreeMap<usize, usize> {
    let text = String::from_utf8_lossy(bytes).into_owned();
    let text = text.trim_start_matches('\u{feff}');
    let says = |line: &str| {
        let line = line.trim_matches([' ', '\t', '\r', '\n', '\u{c}']);
        !line.is_empty() && !line.starts_with('#')
    };
    text.split('\n').enumerate().filter(|(_, line)| says(line)).map(|(at, _)| (at + 1, 1)).collect()
}

#[test]
fn each_line_of_a_damaged_file_has_one_note() {
    let scratch = Scratch::new();
    scratch.certificate();
    let (mut ran, mut refused) = (0, 0);
    for seed in 0..SEEDS {
        let bytes = mutated(seed);
        let file = scratch.file("turnserver.conf", &bytes);
        let import = config::import(&file, &reader("4.17.1")).unwrap();
        let mut noted = BTreeMap::new();
        for note in import.notes.iter().filter(|note| !note.place.is_empty()) {
            let line: usize = note.place.rsplit_once(':').unwrap().1.parse().unwrap();
            *noted.entry(line).or_insert(0) += 1;
            assert!(!note.text.is_empty(), "seed {seed}: {note:?}");
        }
        assert_eq!(noted, meaningful(&bytes), "seed {seed}");
        if !import.refusals.is_empty() {
            refused += 1;
            continue;
        }
        // What is not refused is a configuration, but for secrets that only a coturn file may have.
        match import.loaded {
            Ok(loaded) => {
                ran += 1;
                let _ = loaded.plan(&host());
            }
            Err(fault) => {
                assert!(fault.to_string().contains("can be guessed"), "seed {seed}: {fault}\n{}", import.toml)
            }
        }
    }
    assert!(ran > 10 && refused > 10, "{ran} of {SEEDS} ran, {refused} were refused");
}

#[test]
fn secrets_are_in_no_note_and_no_fault() {
    for seed in 0..SEEDS {
        let scratch = Scratch::new();
        let text = String::from_utf8_lossy(&mutated(seed)).replace("wonderland", "hunter2hunter2");
        let import = imported(&scratch, &text, "4.17.1");
        let said = import.notes.iter().map(|note| format!("{} {}", note.key, note.text)).collect::<String>();
        let faults: String = import.refusals.iter().map(ToString::to_string).collect();
        // A line that was cut apart may have left the secret on a line of its own, as a key.
        let is_whole = text.matches("hunter2hunter2").count() == text.matches("\nuser=alice:hunter2hunter2\n").count();
        assert!(!is_whole || !format!("{said}{faults}").contains("hunter2hunter2"), "seed {seed}");
    }
}
