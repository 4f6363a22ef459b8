//! `turnpike explain` as its users meet it: the rule that decides, where it was written, and what would change it.

use base64::Engine;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha1::Sha1;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// A configuration with a rule of each kind. Each test reads the lines by their numbers.
const TOML: &str = r#"realm = "example.org"
[listen]
udp = ["127.0.0.1:0", "[::1]:0"]
tcp = []
[relay]
addresses = ["192.0.2.7"]
external = ["203.0.113.7/192.0.2.7"]
ports = "50000-50010"
allow_peers = [
    "192.168.7.0/24",
    "10.2.0.0/16",
]
deny_peers = ["8.8.0.0/16", "10.2.3.0/24"]
[auth]
secrets = ["the first secret", "the second secret"]
users = { alice = "wonderland" }
max_ttl = "2h"
revocations_file = "revoked"
[http]
listen = ""
admin_listen = "127.0.0.1:0"
trusted_proxies = ["198.41.0.4"]
"#;

/// A directory of one test, gone with it.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("explain-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::create_dir_all(&path).unwrap();
        std::fs::write(path.join("t.toml"), TOML).unwrap();
        Scratch(path)
    }

    /// What the command prints, and its exit code.
    fn run(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_turnpike"));
        command.arg("explain").args(arguments).current_dir(&self.0).stdin(Stdio::null());
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy().into_owned();
            if name.starts_with("TURNPIKE_") || name == "STATE_DIRECTORY" {
                command.env_remove(name);
            }
        }
        let output = command.output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    }

    /// The answer as JSON.
    fn json(&self, arguments: &[&str]) -> Value {
        let (code, shown, said) = self.run(&[arguments, &["-c", "t.toml", "--format", "json"]].concat());
        assert_eq!(code, Some(0), "{arguments:?}: {said}");
        serde_json::from_str(&shown).unwrap_or_else(|error| panic!("{error}: {shown}"))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// The password that a secret gives a name, by the draft's own words.
fn password(secret: &str, name: &str) -> String {
    let mut mac = Hmac::<Sha1>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(name.as_bytes());
    base64::engine::general_purpose::STANDARD.encode(mac.finalize().into_bytes())
}

fn text<'a>(answer: &'a Value, key: &str) -> &'a str {
    answer[key].as_str().unwrap_or_else(|| panic!("{key}: {answer}"))
}

#[test]
fn a_peer_is_explained_by_the_rule_that_decides() {
    let scratch = Scratch::new();
    for (peer, allowed, rule, place, change) in [
        (
            "10.0.0.1",
            false,
            "private network 10.0.0.0/8, a default",
            "default",
            "relay.allow_peers = [\"10.0.0.0/8\"] allows all of it, [\"10.0.0.1/32\"] this address alone",
        ),
        ("192.168.7.9:5000", true, "192.168.7.0/24 of relay.allow_peers, over private", "t.toml:10:5", "without"),
        ("10.2.0.1", true, "10.2.0.0/16 of relay.allow_peers, over private", "t.toml:11:5", "relay.deny_peers"),
        ("10.2.3.4", false, "10.2.3.0/24 of relay.deny_peers", "t.toml:13:29", "does not win over it"),
        ("8.8.8.8", false, "8.8.0.0/16 of relay.deny_peers", "t.toml:13:15", "without that entry"),
        ("9.9.9.9:5000", true, "no rule denies it", "default", "relay.deny_peers = [\"9.9.9.9/32\"] denies it"),
        ("9.9.9.9:53", false, "port 53, of services that reflect traffic", "default", "nothing"),
        ("169.254.169.254", false, "link-local and cloud metadata", "default", "can not be configured away"),
        ("::1", false, "unspecified, loopback, IPv4-compatible ::/96", "default", "allow_loopback_peers = true"),
        ("::ffff:10.0.0.1", false, "IPv4-mapped", "default", "can not be configured away"),
        ("203.0.113.7:50010", true, "this server relays from it", "relay.addresses (t.toml:6)", ""),
        ("192.0.2.7:22", false, "on a port outside relay.ports", "relay.ports (t.toml:8)", ""),
        (
            "2400::5efe:10.0.0.1",
            false,
            "a tunnel (ISATAP) to 10.0.0.1",
            "default",
            "what changes it for 10.0.0.1: relay.allow_peers = [\"10.0.0.0/8\"]",
        ),
        ("2400::5efe:8.8.8.8", false, "a tunnel (ISATAP) to 8.8.8.8", "t.toml:13:15", "(8.8.0.0/16 of relay.deny"),
        ("[2400::5efe:9.9.9.9]:5000", true, "no rule denies it", "default", ""),
    ] {
        let answer = scratch.json(&["peer", peer]);
        assert_eq!(answer["allowed"], allowed, "{answer}");
        assert!(text(&answer, "rule").starts_with(rule) || text(&answer, "rule").ends_with(rule), "{peer}: {answer}");
        assert_eq!(text(&answer, "where"), place, "{peer}");
        assert!(text(&answer, "change").contains(change), "{peer}: {answer}");
        assert_eq!((&answer["order"][0], &answer["order"][1]), (&json!("hard default denials"), &json!("deny_peers")));
    }
    // No relayed address of that family, whatever the policy says.
    let answer = scratch.json(&["peer", "2400::1"]);
    assert!(answer["allowed"] == true && text(&answer["facts"], "also").contains("443"), "{answer}");
}

#[test]
fn a_peer_is_explained_in_a_few_lines_for_people() {
    let scratch = Scratch::new();
    let (code, shown, said) = scratch.run(&["peer", "10.0.0.1", "--user", "alice", "-c", "t.toml"]);
    assert_eq!(code, Some(0), "{said}");
    let lines: Vec<&str> = shown.lines().collect();
    assert_eq!(lines[0], "peer 10.0.0.1: denied");
    assert_eq!(lines[1], "  rule      private network 10.0.0.0/8, a default");
    assert!(lines.contains(&"credential alice: known"), "{shown}");
    assert!(!shown.contains("wonderland"));
}

#[test]
fn a_credential_is_explained_without_and_with_its_password() {
    let scratch = Scratch::new();
    let credential = |name: &str, password: Option<&str>| {
        let tried = password.map(|password| vec!["--password", password]).unwrap_or_default();
        scratch.json(&[vec!["credential", name], tried].concat())
    };
    let answer = credential("alice", None);
    assert_eq!((text(&answer, "decision"), text(&answer, "where")), ("known", "t.toml:16"));
    assert_eq!(text(&credential("alice", Some("wonderland")), "decision"), "taken");
    assert!(text(&credential("alice", Some("other")), "rule").ends_with("the password is wrong"));
    assert!(text(&credential("bob", None), "rule").starts_with("no user of that name, and not EXPIRY:ID"));

    let name = format!("{}+a2+r125000+b1000000000:carol", now() + 3600);
    let answer = credential(&name, None);
    assert_eq!(text(&answer, "decision"), "known");
    assert_eq!(text(&answer["facts"], "user id"), "carol");
    assert!(text(&answer["facts"], "expires").contains("Z, in "), "{answer}");
    let caps = text(&answer["facts"], "caps");
    assert!(caps.contains("2 allocations at once") && caps.ends_with("1000000000 bytes in all, both ways together"));
    for (secret, number, place) in [("the first secret", 1, "t.toml:15:12"), ("the second secret", 2, "t.toml:15:32")] {
        let answer = credential(&name, Some(&password(secret, &name)));
        assert!(text(&answer, "rule").ends_with(&format!("by secret {number} of 2")), "{answer}");
        assert_eq!((answer["allowed"].as_bool(), text(&answer, "where")), (Some(true), place));
        assert!(!answer.to_string().contains(secret));
    }
    let answer = credential(&name, Some(&password("another secret", &name)));
    assert!(answer["allowed"] == false && text(&answer, "rule").contains("none of the 2 secrets"), "{answer}");

    let answer = credential(&format!("{}:carol", now() - 90), None);
    assert!(text(&answer, "rule").starts_with("it expired 1m3"), "{answer}");
    assert!(text(&answer["facts"], "expires").contains(" ago") && text(&answer["facts"], "user id") == "carol");
    let answer = credential(&format!("{}:carol", now() - 3 * 86_400), None);
    assert_eq!(text(&answer, "rule"), "it expired 3 days ago");
    let answer = credential(&format!("{}:carol", now() + 86_400), None);
    assert_eq!((text(&answer, "where"), answer["allowed"].as_bool()), ("t.toml:17", Some(false)));
    assert!(text(&answer, "rule").contains("auth.max_ttl = 2h"), "{answer}");
    let answer = credential(&(now() + 60).to_string(), None);
    assert!(text(&answer["facts"], "user id").starts_with("none: "), "{answer}");
    let answer = credential(&format!("{}+a0:carol", now() + 60), None);
    assert_eq!(answer["allowed"], false, "caps that are none: {answer}");
}

#[test]
fn a_revoked_credential_is_refused_whatever_else_it_is() {
    let scratch = Scratch::new();
    std::fs::write(scratch.0.join("revoked"), "carol\nalice\n").unwrap();
    for name in ["alice".to_owned(), format!("{}:carol", now() + 60), format!("{}:carol", now() - 60)] {
        let answer = scratch.json(&["credential", &name]);
        assert_eq!((answer["allowed"].as_bool(), text(&answer, "rule")), (Some(false), "revoked"), "{answer}");
        assert!(text(&answer, "where").ends_with("revoked"), "{answer}");
    }
    assert_eq!(scratch.json(&["credential", &format!("{}:dave", now() + 60)])["allowed"], true);
}

#[test]
fn a_credential_whose_revocation_is_not_known_here_is_taken_only_unless_revoked() {
    let scratch = Scratch::new();
    for kept in ["auto", ""] {
        let toml = TOML.replace("revocations_file = \"revoked\"", &format!("revocations_file = \"{kept}\""));
        std::fs::write(scratch.0.join("t.toml"), toml).unwrap();
        let answer = scratch.json(&["credential", "alice", "--password", "wonderland"]);
        assert_eq!((text(&answer, "decision"), text(&answer, "unless")), ("taken, unless revoked", "revoked"));
        assert!(text(&answer["facts"], "revoked").contains("`turnpike revoke --list`"), "{answer}");
        let (_, shown, said) = scratch.run(&["credential", "alice", "-c", "t.toml"]);
        assert!(shown.starts_with("credential alice: known, unless revoked\n"), "{shown}{said}");
        let answer = scratch.json(&["credential", "bob"]);
        assert_eq!((text(&answer, "decision"), text(&answer, "unless")), ("refused", ""));
    }
}

#[test]
fn a_clients_address_is_explained() {
    let scratch = Scratch::new();
    let answer = scratch.json(&["client", "2002:c000:204::1"]);
    assert!(answer["allowed"] == false && text(&answer, "rule").starts_with("6to4 2002::/16: "), "{answer}");
    let answer = scratch.json(&["client", "2001:0:4136:e378::1"]);
    assert!(answer["allowed"] == false && text(&answer, "rule").starts_with("Teredo"), "{answer}");
    let answer = scratch.json(&["client", "198.41.0.4"]);
    assert_eq!(answer["allowed"], true);
    assert_eq!(text(&answer["facts"], "listeners"), "none that it could reach: see [listen]");
    assert!(text(&answer["facts"], "strangers").contains("50 answers a second"), "{answer}");
    assert!(text(&answer["facts"], "account").ends_with("`ip 198.41.0.0/24`"), "{answer}");
    assert!(text(&answer["facts"], "admin").starts_with("refused: "), "{answer}");
    assert!(text(&answer["facts"], "proxy").ends_with("http.trusted_proxies (t.toml:22:20)"), "{answer}");
    let answer = scratch.json(&["client", "127.0.0.1"]);
    assert_eq!(text(&answer["facts"], "listeners"), "udp 127.0.0.1:0");
    assert!(text(&answer["facts"], "admin").starts_with("answers without a token"), "{answer}");
}

#[test]
fn a_line_of_a_coturn_file_is_found() {
    let scratch = Scratch::new();
    let conf = "realm=x\nuser=a:b\nlistening-ip=127.0.0.1\ndenied-peer-ip=8.8.8.0-8.8.8.255\ndenied-peer-ip=9.9.9.9\n";
    std::fs::write(scratch.0.join("turnserver.conf"), conf).unwrap();
    for (peer, place) in [("8.8.8.8", "turnserver.conf:4:16"), ("9.9.9.9", "turnserver.conf:5:16")] {
        let (code, shown, said) = scratch.run(&["peer", peer, "-c", "turnserver.conf"]);
        assert_eq!(code, Some(0), "{said}");
        assert!(shown.contains(&format!("  where     {place}\n")), "{shown}");
    }
}

#[test]
fn what_is_no_question_is_refused() {
    let scratch = Scratch::new();
    for (arguments, code, what) in [
        (&["peer", "ten", "-c", "t.toml"][..], 2, "write 10.0.0.1, 10.0.0.1:5000 or [2001:db8::1]:5000"),
        (&["client", "10.0.0.1:5", "-c", "t.toml"], 2, "invalid"),
        (&["peer", "10.0.0.1", "-c", "gone.toml"], 78, "gone.toml"),
        (&["peer", "10.0.0.1"], 78, "no configuration is given"),
    ] {
        let (ended, _, said) = scratch.run(arguments);
        assert!(ended == Some(code) && said.contains(what), "{arguments:?}: {said}");
    }
}
