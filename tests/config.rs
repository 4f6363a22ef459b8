//! The configuration as a user meets it: what is read, in which order, and how it is refused.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use turnpike::config::{self, Host, Inputs, Loaded, Plan};
use turnpike::wire::channel::ChannelRange;

const SECRET: &str = "a secret of 24 bytes ...";

/// A directory of its own that goes when the test does.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("config-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::create_dir_all(&path).unwrap();
        Scratch(path)
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        mode(&path, 0o600);
        path
    }
}

fn mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn host() -> Host {
    Host {
        name: "host.example".into(),
        addresses: ["192.0.2.7", "127.0.0.1", "2001:db8::7", "::1"].map(|ip| ip.parse().unwrap()).to_vec(),
        cores: 3,
        ephemeral: None,
        reserved: Vec::new(),
    }
}

fn inputs(files: &[&Path], env: &[(&str, &str)], set: &[&str]) -> Inputs {
    Inputs {
        files: files.iter().map(|path| path.to_path_buf()).collect(),
        env: env.iter().map(|&(name, value)| (OsString::from(name), OsString::from(value))).collect(),
        set: set.iter().map(ToString::to_string).collect(),
    }
}

fn loaded(text: &str) -> (Scratch, Loaded) {
    let scratch = Scratch::new();
    let file = scratch.file("t.toml", text);
    let loaded = config::load(&inputs(&[&file], &[], &[])).unwrap_or_else(|fault| panic!("{text}\n{fault}"));
    (scratch, loaded)
}

fn planned(text: &str) -> Plan {
    let (_scratch, loaded) = loaded(text);
    loaded.plan(&host()).unwrap_or_else(|fault| panic!("{text}\n{fault}"))
}

/// Why a text is refused, with the directory of the file left out.
fn refused(text: &str) -> String {
    let scratch = Scratch::new();
    let file = scratch.file("t.toml", text);
    let read = config::load(&inputs(&[&file], &[], &[]));
    let fault = read.and_then(|loaded| loaded.plan(&host()).map(|_| ())).expect_err(text);
    fault.to_string().replace(&format!("{}/", scratch.0.display()), "")
}

fn refused_settings(env: &[(&str, &str)], set: &[&str]) -> String {
    let read = config::load(&inputs(&[], env, set));
    read.and_then(|loaded| loaded.plan(&host()).map(|_| ())).expect_err("refused").to_string()
}

#[test]
fn an_unknown_key_is_refused_with_line_column_caret_and_the_nearest_key() {
    let lines =
        ["unknown key `listen.upd` (t.toml:4:3)", "  |", "4 |   upd = []", "  |   ^^^", "  = did you mean `udp`?"];
    assert_eq!(refused("realm = \"é\"\n\n[listen]\n  upd = []\n"), lines.join("\n"));
}

#[test]
fn a_key_in_the_wrong_table_is_sent_to_the_right_one() {
    let text = refused("secrets = [\"a secret of 24 bytes ...\"]");
    assert!(text.ends_with("= did you mean `auth.secrets`? It belongs under [auth]"), "{text}");
    assert!(refused("[relay]\nnonce-lifetime = 1").contains("did you mean `auth.nonce_lifetime`?"));
    assert!(refused("[lisen]\nudp = []").contains("did you mean `listen`?"));
    let text = refused("[entirely_different]\nx = 1");
    assert!(
        text.starts_with("unknown key `entirely_different` (t.toml:1:2)") && !text.contains("did you mean"),
        "{text}"
    );
}

#[test]
fn the_first_fault_of_a_file_is_reported() {
    assert!(refused("zzz = 1\naaa = 2\n").starts_with("unknown key `zzz` (t.toml:1:1)"));
}

#[test]
fn a_table_and_a_value_are_not_mixed_up() {
    assert!(refused("listen = 5").starts_with("`listen` is a table (t.toml:1:1)"));
    assert!(refused("[[listen]]\nudp = []").starts_with("`listen` is a table"));
    assert!(refused("[realm]\nname = \"x\"").starts_with("`realm` is not a table (t.toml:1:2)"));
    assert!(refused("[auth.users.alice]\npassword = \"x\"").starts_with("`auth.users.alice` is not a table"));
}

#[test]
fn a_wrong_type_or_value_is_refused_where_it_stands() {
    for (text, what) in [
        (
            "[auth]\nnonce_lifetime = \"10 minutes\"",
            "`auth.nonce_lifetime`: `10 minutes` is not a duration: write \"10m\", \"1h30m\" or \
             whole seconds (t.toml:2:18)",
        ),
        (
            "[auth]\nnonce_lifetime = true",
            "`auth.nonce_lifetime`: invalid type: boolean `true`, expected a duration like \"10m\", \
             \"1h30m\" or whole seconds (t.toml:2:18)",
        ),
        (
            "[relay]\ndeny_peers = [\"10.0.0.0/8\",\n  \"10.0.0.0/33\"]",
            "`relay.deny_peers`: the prefix of `10.0.0.0/33` is longer than the address (t.toml:3:3)",
        ),
        (
            "[relay]\nallow_peers = [\"10.0.0.1/8\"]",
            "`relay.allow_peers`: `10.0.0.1/8` has bits set behind its prefix: write \"10.0.0.0/8\", or the \
             address alone (t.toml:2:16)",
        ),
        ("[listen]\nudp = [\"0.0.0.0:65536\"]", "`listen.udp`: 65536 is not a port: ports are 1 to 65535 (t.toml:2:8)"),
        (
            "[listen]\nudp = \"0.0.0.0:3478\"",
            "`listen.udp`: invalid type: string \"0.0.0.0:3478\", expected a list like [\"…\"] (t.toml:2:7)",
        ),
        (
            "[relay]\nports = \"49152-65536\"",
            "`relay.ports`: `65536` is not a port: ports are 1024 to 65535 here (t.toml:2:9)",
        ),
        ("[relay]\nports = \"80-90\"", "`relay.ports`: relay ports start at 1024 or higher, not at 80 (t.toml:2:9)"),
        (
            "[relay]\nexternal = [\"203.0.113.7/::1\"]",
            "`relay.external`: `203.0.113.7/::1` mixes IPv4 and IPv6 (t.toml:2:13)",
        ),
        (
            "[limits]\nallocations = -1",
            "`limits.allocations`: invalid value: integer `-1`, expected a whole number, 0 or more (t.toml:2:15)",
        ),
        (
            "[limits]\nunverified_per_second = 4294967296",
            "`limits.unverified_per_second`: 4294967296 is too large (t.toml:2:25)",
        ),
        (
            "[log]\nlevel = \"loud\"",
            "`log.level`: `loud` is not one of \"off\", \"error\", \"warn\", \"info\", \"debug\", \
             \"trace\" (t.toml:2:9)",
        ),
        ("workers = 129", "there can be at most 128 workers (t.toml:1:11)"),
        ("[auth]\nnonce_lifetime = 9", "nonce_lifetime is 10s to 1h (t.toml:2:18)"),
        ("[auth]\nnonce_lifetime = \"1h1s\"", "nonce_lifetime is 10s to 1h (t.toml:2:18)"),
        ("[auth]\nmax_ttl = 0", "max_ttl = 0 would refuse every time-limited credential (t.toml:2:11)"),
        (
            "[auth]\nseparator = \"::\"",
            "`auth.separator`: `::` is not one printable ASCII character other than a digit (t.toml:2:13)",
        ),
        (
            "[limits]\nlifetime_max = \"9m59s\"",
            "lifetime_max is at least 10m, what a client gets that asks for nothing (t.toml:2:16)",
        ),
        (
            "alternate_servers = [\"203.0.113.9:3478\", \"192.0.2.7:3478\"]",
            "`alternate_servers`: 192.0.2.7:3478 is this server itself (t.toml:1:42)",
        ),
        (
            "alternate_servers = [\"203.0.113.7:3478\"]\n[relay]\nexternal = [\"203.0.113.7\"]",
            "`alternate_servers`: 203.0.113.7:3478 is this server itself (t.toml:1:22)",
        ),
        (
            "alternate_servers = [\"turn2.example.org\"]",
            "`alternate_servers`: `turn2.example.org` is not an address and port: write \"0.0.0.0:3478\" or \
             \"[::]:3478\" (t.toml:1:22)",
        ),
        ("[auth]\nrevocations_file = \"nowhere/list\"", "nowhere is not a directory (t.toml:2:20)"),
        ("[listen]\ndtls = [\"0.0.0.0:5349\"]", "DTLS is not available yet: leave listen.dtls empty (t.toml:2:8)"),
        ("[listen]\ntls = [\"0.0.0.0:5349\"]", "listen.tls needs a certificate (t.toml:2:7)"),
        ("realm = \"a\"\nrealm = \"b\"", "duplicate key (t.toml:2:1)"),
    ] {
        let refusal = refused(text);
        assert_eq!(refusal.lines().next(), Some(what), "{text}");
        assert!(refusal.contains('^'), "{refusal}");
    }
}

// FI-32: a resolver that is slow or lies has no part in this server.
#[test]
fn no_address_is_a_name_that_somebody_would_have_to_look_up() {
    for (table, key, value) in [
        ("listen", "udp", "[\"localhost:3478\"]"),
        ("listen", "tcp", "[\"turn.example.org:3478\"]"),
        ("listen", "tls", "[\"turn.example.org:5349\"]"),
        ("relay", "addresses", "[\"turn.example.org\"]"),
        ("relay", "external", "[\"turn.example.org\"]"),
        ("relay", "allow_peers", "[\"turn.example.org\"]"),
        ("relay", "deny_peers", "[\"localhost\"]"),
        ("http", "listen", "\"localhost:8080\""),
        ("http", "admin_listen", "\"localhost:9641\""),
        ("http", "trusted_proxies", "[\"proxy.example.org\"]"),
    ] {
        let refusal = refused(&format!("[{table}]\n{key} = {value}\n"));
        assert!(refusal.starts_with(&format!("`{table}.{key}`: `")) && refusal.contains("(t.toml:2:"), "{refusal}");
        assert!(refusal.contains(" is not a"), "{refusal}");
    }
}

#[test]
fn a_text_that_is_not_toml_is_refused_with_a_hint() {
    let expected = [
        "(t.toml:2:9)",
        "  |",
        "2 | ports = 49152-65535",
        "  |         ^^^^^^^^^^^",
        "  = a value needs quotes unless it is a number, true or false",
    ]
    .join("\n");
    let text = refused("[relay]\nports = 49152-65535\n");
    assert!(text.ends_with(&expected), "{text}");
}

#[test]
fn a_secret_is_never_shown() {
    for text in [
        "[auth]\nsecrets = [\"hunter2\"]",
        "[auth]\nsecrets = \"hunter2\"",
        "[auth]\nsecrets = [\"hunter2]",
        "[auth]\nsecrets = [\n  \"hunter2\n]",
        "auth.secrets = hunter2",
        "auth = { secrets = [\"hunter2 is long enough\"], max_ttl = true }",
        "secrets = [\"hunter2\"]",
        "static-auth-secret = \"hunter2\"",
        "[auth]\nsecret = \"hunter2\"",
        "[auth]\nusers = \"alice:hunter2\"",
        "[auth.users]\nalice = [\"hunter2\"]",
        "[auth.users]\nalice = { password = \"hunter2\" }",
        "[auth.users]\nalice = hunter2",
        "[auth.users]\nbob = \"hunter2\" # fine\nalice = \"\"",
    ] {
        let refusal = refused(text);
        assert!(!refusal.contains("hunter2") && refusal.contains("t.toml:"), "{text}\n{refusal}");
    }
    for set in ["auth.secrets=[\"hunter2\"]", "auth.secrets=hunter2", "auth.secret=hunter2", "auth.users=hunter2"] {
        let refusal = refused_settings(&[], &[set]);
        assert!(!refusal.contains("hunter2") && refusal.contains("(--set auth."), "{set}\n{refusal}");
    }
}

#[test]
fn a_short_secret_is_refused_where_it_stands() {
    let text = refused("[auth]\nsecrets = [\"a secret of 24 bytes ...\", \"15 bytes ......\"]");
    assert!(text.starts_with("`auth.secrets`: a secret of 15 bytes can be guessed: 16 or more are needed"), "{text}");
    assert!(text.contains("(t.toml:2:40)"), "{text}");
}

#[test]
fn a_file_with_secrets_is_better_not_read_by_everyone() {
    let (scratch, loaded) = loaded(&format!("[auth]\nsecrets = [\"{SECRET}\"]"));
    let warned = || {
        loaded.plan(&host()).map(|plan| plan.warnings.iter().any(|w| w.starts_with("any user of this host can read")))
    };
    assert!(!warned().unwrap());
    mode(&scratch.0.join("t.toml"), 0o644);
    assert!(warned().unwrap());
}

#[test]
fn there_are_at_most_four_secrets() {
    let list = |n: usize| format!("[auth]\nsecrets = [{}]", vec![format!("\"{SECRET}\""); n].join(", "));
    assert_eq!(planned(&list(4)).engine.turn.auth.secrets.len(), 4);
    assert!(refused(&list(5)).starts_with("there are more than 4 secrets (t.toml:2:"));
}

#[test]
fn there_are_at_most_64_alternate_servers() {
    let servers = |count| format!("alternate_servers = {:?}\n", vec!["203.0.113.7:3478"; count]);
    assert_eq!(planned(&servers(64)).drain.alternates.len(), 64);
    assert!(refused(&servers(65)).starts_with("there are more than 64 alternate servers (t.toml:1:"));
}

#[test]
fn an_open_relay_needs_two_switches_and_warns() {
    let text = refused("[auth]\nanonymous = true");
    assert!(text.starts_with("anonymous = true lets anyone relay through this server (t.toml:2:13)"), "{text}");
    assert!(text.ends_with("set i_know_this_is_an_open_relay = true as well"), "{text}");
    let plan = planned("[auth]\nanonymous = true\ni_know_this_is_an_open_relay = true");
    assert!(plan.engine.turn.auth.anonymous);
    assert!(plan.warnings.iter().any(|warning| warning.starts_with("this is an open relay")), "{:?}", plan.warnings);
    assert!(!planned("[auth]\ni_know_this_is_an_open_relay = true").engine.turn.auth.anonymous);
}

#[test]
fn the_defaults_are_those_of_the_documentation() {
    let plan = planned("");
    let turn = &plan.engine.turn;
    assert_eq!((plan.realm.as_str(), plan.engine.workers), ("host.example", 3));
    assert_eq!((turn.nonce.lifetime_s, turn.nonce.rfc8489), (600, true));
    assert_eq!((turn.auth.max_ttl_s, turn.auth.separator), (86_400, ':'));
    assert_eq!((turn.limits.lifetime_max_s, turn.limits.session_max_s), (3600, 86_400));
    assert_eq!((turn.limits.permissions_per_allocation, turn.limits.channels_per_allocation), (256, 64));
    assert_eq!((turn.limits.bytes_per_second, turn.limits.unverified_per_second), (0, 50));
    assert_eq!(turn.channels, ChannelRange::Rfc8656);
    assert_eq!(plan.engine.relay.ports, 49152..=65535);
    assert!(plan.engine.tls.is_none() && !turn.policy.allow_loopback);
    assert_eq!((plan.drain.timeout_s, plan.drain.alternates.len()), (60, 0));
    assert_eq!((plan.engine.log.allocations, plan.engine.log.permissions), (true, false));
    assert_eq!(plan.engine.listen.len(), 8);
    // RFC 8656 §4.1; TLS listens nowhere until it has a certificate.
    assert!(plan.engine.listen.iter().all(|listen| listen.addr.port() == 3478), "{:?}", plan.engine.listen);
    assert!(plan.warnings.iter().any(|warning| warning.contains("there is no secret and no user")));
}

#[test]
fn what_is_configured_reaches_the_floors() {
    let plan = planned(&format!(
        "realm = \"turn.example.org\"\nworkers = 2\ndrain_timeout = \"5m\"\n\
         alternate_servers = [\"203.0.113.7:5349\", \"turn2.example.org=203.0.113.9:3478\"]\n\
         [listen]\nudp = [\"192.0.2.7:3478\"]\ntcp = []\n\
         [relay]\nports = \"50000-50999\"\naddresses = [\"192.0.2.7\"]\nexternal = [\"203.0.113.7/192.0.2.7\"]\n\
         allow_peers = [\"10.0.0.0/8\"]\ndeny_peers = [\"10.1.0.0/16\", \"10.2.3.4\"]\nwide_channels = true\n\
         moderation_max = \"250us\"\n\
         [auth]\nsecrets = [\"{SECRET}\"]\nusers = {{ alice = \"wonderland\" }}\nmax_session = 0\n\
         rfc8489 = false\nstrict_expiry = true\nseparator = \"-\"\n\
         [limits]\nallocations = 7\nallocations_per_user = 3\nlifetime_max = 0\nbytes_per_second_total = 1000000\n\
         [log]\nallocations = false\npermissions = true\n"
    ));
    assert_eq!(plan.drain.timeout_s, 300);
    let alternates = plan.drain.alternates.iter().map(|server| (server.addr.to_string(), server.domain.as_deref()));
    let expected = [("203.0.113.7:5349", None), ("203.0.113.9:3478", Some("turn2.example.org"))];
    assert!(alternates.eq(expected.map(|(addr, domain)| (addr.to_owned(), domain))), "{:?}", plan.drain);
    assert!(!plan.engine.log.allocations && plan.engine.log.permissions);
    let (engine, turn) = (&plan.engine, &plan.engine.turn);
    assert_eq!((&*turn.realm, engine.workers), ("turn.example.org", 2));
    assert_eq!(engine.listen[0].addr, "192.0.2.7:3478".parse::<SocketAddr>().unwrap());
    assert!(engine.listen.len() == 1 && engine.listen[0].required);
    assert_eq!((engine.relay.ports.clone(), engine.relay.addresses.len()), (50000..=50999, 1));
    assert_eq!(engine.relay.external[0].private, Some("192.0.2.7".parse().unwrap()));
    assert_eq!(engine.moderation_max, std::time::Duration::from_micros(250));
    assert_eq!((turn.policy.allow.len(), turn.policy.deny.len()), (1, 2));
    assert_eq!((turn.auth.secrets.len(), turn.auth.user_count()), (1, 1));
    assert!(turn.auth.strict_expiry && !turn.nonce.rfc8489 && turn.auth.separator == '-');
    assert_eq!((engine.limits.allocations, engine.limits.allocations_per_user), (7, 3));
    assert_eq!(engine.limits.bytes_per_second_total, 1_000_000);
    assert_eq!((turn.limits.lifetime_max_s, turn.limits.session_max_s), (u32::MAX, 0));
    assert_eq!(turn.channels, ChannelRange::Rfc5766);
    assert_eq!(plan.warnings, Vec::<String>::new());
}

#[test]
fn later_files_win_key_by_key_and_users_merge_by_name() {
    let scratch = Scratch::new();
    let a = "realm = \"a\"\n[relay]\nports = \"2000-2999\"\ndeny_peers = [\"10.0.0.0/8\"]\n\
             [auth.users]\nalice = \"1\"\nbob = \"2\"\n";
    let a = scratch.file("a.toml", a);
    let b = scratch.file("b.toml", "[relay]\ndeny_peers = []\n[auth]\nusers = { bob = \"22\", \"c.d\" = \"3\" }\n");
    let loaded = config::load(&inputs(&[&a, &b], &[], &[])).unwrap();
    assert_eq!(loaded.file.realm.to_string(), "a");
    assert_eq!(loaded.file.relay.ports.to_string(), "2000-2999");
    assert!(loaded.file.relay.deny_peers.is_empty());
    let users = loaded.file.auth.users.iter().map(|(name, password)| format!("{name}={}", password.as_str()));
    assert_eq!(users.collect::<Vec<_>>(), ["alice=1", "bob=22", "c.d=3"]);
    assert_eq!(loaded.origins.of("auth.users.bob"), format!("{}:4", b.display()));
    assert_eq!(loaded.origins.of("auth.users.alice"), format!("{}:6", a.display()));
    assert_eq!(loaded.origins.of("relay.deny_peers"), format!("{}:2", b.display()));
    assert_eq!(loaded.origins.of("workers"), "default");
}

#[test]
fn a_fault_in_a_value_that_loses_is_still_a_fault() {
    let scratch = Scratch::new();
    let a = scratch.file("a.toml", "workers = \"many\"\n");
    let b = scratch.file("b.toml", "workers = 1\n");
    let fault = config::load(&inputs(&[&a, &b], &[], &["workers=2"])).err().unwrap().to_string();
    assert!(fault.contains("a.toml:1:11"), "{fault}");
}

#[test]
fn a_directory_is_its_toml_files_in_the_order_of_their_names() {
    let scratch = Scratch::new();
    scratch.file("20.toml", "realm = \"twenty\"");
    scratch.file("10.toml", "realm = \"ten\"\nworkers = 1");
    scratch.file("30.toml.bak", "realm = ");
    scratch.file("notes.txt", "not a configuration");
    let loaded = config::load(&inputs(&[&scratch.0], &[], &[])).unwrap();
    assert_eq!((loaded.file.realm.to_string().as_str(), loaded.file.workers), ("twenty", 1));
    let empty = Scratch::new();
    let fault = config::load(&inputs(&[&empty.0], &[], &[])).err().unwrap().to_string();
    assert!(fault.starts_with("the directory holds no .toml file ("), "{fault}");
}

#[test]
fn the_environment_wins_over_files_and_set_over_both() {
    let scratch = Scratch::new();
    let file = scratch.file("t.toml", "realm = \"file\"\nworkers = 1\n[log]\nlevel = \"warn\"\n");
    let env = [("TURNPIKE__REALM", "env"), ("TURNPIKE__LOG__LEVEL", "debug"), ("TURNPIKE_HOME", "x"), ("PATH", "y")];
    let loaded = config::load(&inputs(&[&file], &env, &["realm=set", "realm=later"])).unwrap();
    assert_eq!(loaded.file.realm.to_string(), "later");
    assert_eq!(loaded.file.log.level.to_string(), "debug");
    assert_eq!(loaded.origins.of("realm"), "--set realm");
    assert_eq!(loaded.origins.of("log.level"), "env TURNPIKE__LOG__LEVEL");
    assert_eq!(loaded.origins.of("workers"), format!("{}:2", file.display()));
}

#[test]
fn a_setting_is_a_toml_value_or_else_text() {
    let set = [
        "realm=7",
        "relay.ports=5000-6000",
        "listen.udp=[\"127.0.0.1:0\"]",
        "relay.allow_loopback_peers=true",
        "auth.users.Alice.B=1234",
        "auth.nonce_lifetime=60",
        "auth.secret_file=",
    ];
    let env = [("TURNPIKE__AUTH__SECRETS", "[\"a secret of 24 bytes ...\"]"), ("TURNPIKE__auth__Users__BOB", "x=y")];
    let file = config::load(&inputs(&[], &env, &set)).unwrap().file;
    assert_eq!((file.realm.to_string().as_str(), file.relay.ports.to_string().as_str()), ("7", "5000-6000"));
    assert_eq!((file.listen.udp.len(), file.relay.allow_loopback_peers), (1, true));
    let users: Vec<String> = file.auth.users.keys().map(ToString::to_string).collect();
    assert_eq!((users, file.auth.nonce_lifetime.0), (vec!["Alice.B".into(), "bob".into()], 60));
    assert_eq!((file.auth.secrets.len(), file.auth.secret_file.as_str()), (1, ""));
}

#[test]
fn a_wrong_setting_is_refused_by_its_name() {
    let env = [("TURNPIKE__LISTEN__UPD", "[]")];
    assert_eq!(
        refused_settings(&env, &[]),
        "unknown key `listen.upd` (env TURNPIKE__LISTEN__UPD)\n  did you mean `udp`?"
    );
    assert!(refused_settings(&[("TURNPIKE__", "x")], &[]).starts_with("unknown key `` (env TURNPIKE__)"));
    let text = refused_settings(&[], &["workers=some"]);
    assert_eq!(text, "`workers`: invalid type: string \"some\", expected a whole number, 0 or more (--set workers)");
    assert_eq!(refused_settings(&[], &["workers"]), "--set needs `key.path=value` (--set workers)");
    let shown = "--set needs `key.path=value` (--set auth.secrets)";
    assert_eq!(refused_settings(&[], &["auth.secrets"]), shown);
    // What stands where a key should may be a secret.
    for secret in ["auth.secrets north-star-0123456", "auth.secrets: [\"north-star\"]", "auth.north.star.0123456"] {
        assert_eq!(refused_settings(&[], &[secret]), "--set needs `key.path=value` (--set auth)");
    }
    assert!(refused_settings(&[], &["workers=129"]).ends_with("(--set workers)"));
    // One setting sets one key, whatever is in it.
    assert!(refused_settings(&[], &["workers=1\nrealm = \"x\""]).contains("`workers`"));
}

#[test]
fn a_file_of_another_ending_is_coturns_and_what_is_no_text_is_refused() {
    let scratch = Scratch::new();
    let conf = scratch.file("turnserver.conf", "listening-port=3478\n");
    let loaded = config::load(&inputs(&[&conf], &[], &[])).unwrap();
    assert!(loaded.origins.of("realm") == "default" && loaded.file.http.listen.0.is_none());
    let missing = scratch.0.join("missing.toml");
    let fault = config::load(&inputs(&[&missing], &[], &[])).err().unwrap().to_string();
    assert!(fault.starts_with("the file can not be read: No such file") && fault.contains("missing.toml"), "{fault}");
    let latin = scratch.0.join("latin.toml");
    std::fs::write(&latin, b"realm = \"\xe9\"").unwrap();
    let fault = config::load(&inputs(&[&latin], &[], &[])).err().unwrap().to_string();
    assert!(fault.starts_with("the file is not UTF-8 text: byte 9"), "{fault}");
}

#[test]
fn an_address_of_another_host_can_be_blamed() {
    let (_scratch, loaded) = loaded("[listen]\nudp = [\"127.0.0.1:1\", \"192.0.2.99:3478\"]\n");
    let fault = loaded.foreign_address(&host()).unwrap().to_string();
    assert!(fault.starts_with("`listen.udp`: 192.0.2.99 is not an address of this host ("), "{fault}");
    assert!(fault.contains("t.toml:2:23)") && fault.contains("it has 192.0.2.7, 127.0.0.1"), "{fault}");
    let warnings = loaded.plan(&host()).map(|plan| plan.warnings).unwrap();
    assert!(warnings.iter().any(|warning| warning.contains("192.0.2.99 is not an address of this host now")));
}

/// `etc/turnpike.toml`, as it is and with every key active.
fn sample() -> (String, String) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("etc/turnpike.toml");
    let text = std::fs::read_to_string(path).unwrap();
    let is_key = |line: &str| {
        line.split_once(" = ")
            .is_some_and(|(key, _)| key.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'))
    };
    let active = text.lines().map(|line| match line.strip_prefix("# ") {
        Some(key) if is_key(key) => key,
        _ => line,
    });
    let active = active.map(|line| format!("{line}\n")).collect();
    (text, active)
}

#[test]
fn the_sample_loads_as_it_is() {
    let (text, _) = sample();
    let plan = planned(&text);
    assert_eq!(plan.engine.relay.ports, 49152..=65535);
}

#[test]
fn the_sample_names_every_key_with_its_default() {
    let (_, active) = sample();
    let (_scratch, loaded) = loaded(&active);
    let defaults = serde_json::to_value(config::file::File::default()).unwrap();
    assert_eq!(serde_json::to_value(&loaded.file).unwrap(), defaults);
    let written: toml::Table = active.parse().unwrap();
    for (name, value) in defaults.as_object().unwrap() {
        let written = written.get(name).unwrap_or_else(|| panic!("`{name}` is missing"));
        for key in value.as_object().into_iter().flat_map(|table| table.keys()) {
            assert!(written.get(key).is_some(), "`{name}.{key}` is missing");
        }
    }
    assert!(loaded.plan(&host()).is_ok());
}

#[test]
fn hidden_names_are_for_static_users() {
    let plan = planned("[auth]\nusers = { alice = \"wonderland\" }\nusername_anonymity = true\n");
    assert!(plan.engine.turn.nonce.anonymity && plan.engine.turn.nonce.rfc8489);
    let text = refused(&format!("[auth]\nsecrets = [\"{SECRET}\"]\nusername_anonymity = true\n"));
    assert!(text.contains("username_anonymity is for static users") && text.contains("t.toml:3:"), "{text}");
}

#[test]
fn who_is_revoked_is_read_and_a_faulty_list_stops_the_start() {
    let scratch = Scratch::new();
    let plan = |list: &str| {
        scratch.file("list", list);
        let file = scratch.file("t.toml", "[auth]\nrevocations_file = \"list\"\n");
        let loaded = config::load(&inputs(&[&file], &[], &[])).unwrap();
        loaded.plan(&host()).map_err(|fault| fault.to_string().replace(&format!("{}/", scratch.0.display()), ""))
    };
    assert_eq!(plan("alice\n# bob\n").map(|plan| plan.revocations).unwrap(), Some(scratch.0.join("list")));
    let fault = plan(&format!("alice\n{}\n", "x".repeat(764))).err().unwrap();
    assert!(fault.starts_with("an id has 1 to 763 bytes, not 764 (list:2:1)"), "{fault}");
    assert!(fault.contains("it is named by auth.revocations_file (t.toml:2)"), "{fault}");
    assert_eq!(planned("[auth]\nrevocations_file = \"\"\n").revocations, None);
}
