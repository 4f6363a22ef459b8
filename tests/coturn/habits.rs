//! What coturn accepted goes on running, aloud; what would open the relay does not.

use super::{Scratch, contents, ends, host, imported, loaded, read};
use turnpike::config::coturn::End;

/// Why a file is refused, its place without the directory.
fn refused(text: &str) -> String {
    let scratch = Scratch::new();
    let fault = match read(&scratch, text) {
        Ok(loaded) => loaded.plan(&host()).map(|_| ()).expect_err(text),
        Err(fault) => fault,
    };
    fault.to_string().replace(&format!("{}/", scratch.0.display()), "")
}

fn warnings(text: &str) -> Vec<String> {
    let scratch = Scratch::new();
    let plan = loaded(&scratch, text).plan(&host()).unwrap_or_else(|fault| panic!("{text}\n{fault}"));
    plan.warnings.iter().map(|warning| warning.replace(&format!("{}/", scratch.0.display()), "")).collect()
}

#[test]
fn values_are_found_where_they_were_written() {
    let scratch = Scratch::new();
    let loaded = loaded(&scratch, "# x\nrealm=a.b\n\nuser=alice:x\nlistening-ip=127.0.0.1\n");
    let place = |key: &str| loaded.origins.of(key).replace(&format!("{}/", scratch.0.display()), "");
    assert_eq!(place("realm"), "turnserver.conf:2");
    assert_eq!(place("auth.users.alice"), "turnserver.conf:4");
    assert_eq!(place("listen.udp"), "turnserver.conf:5");
    assert_eq!(place("auth.max_session"), "as coturn has it");
    assert_eq!(place("limits.allocations"), "default");
}

#[test]
fn a_fault_points_at_the_line_and_shows_no_secret() {
    let fault = refused("realm=x\nuser=alice:hunter2\nlistening-port = 70000\n");
    assert!(fault.starts_with("`listening-port`: this is not a port"), "{fault}");
    assert!(fault.contains("(turnserver.conf:3:18)") && fault.contains("3 | listening-port = 70000"), "{fault}");
    let fault = refused("listening-ip=192.0.2.99.1\n");
    assert!(fault.contains("192.0.2.99.1 is not an address (turnserver.conf:1:14)"), "{fault}");
}

#[test]
fn a_short_secret_runs_with_a_warning_and_is_not_imported() {
    let scratch = Scratch::new();
    let text = "static-auth-secret=north\nrealm=x\n";
    let direct = loaded(&scratch, text);
    assert_eq!(direct.file.auth.secrets[0].as_bytes(), b"north");
    let warnings = warnings(text);
    let short: Vec<_> = warnings.iter().filter(|warning| warning.contains("can be guessed")).collect();
    assert_eq!(short.len(), 1, "{warnings:?}");
    assert!(short[0].starts_with("turnserver.conf:1: static-auth-secret: needs you: it is used"), "{short:?}");
    let import = imported(&scratch, text, "4.17.1");
    let fault = import.loaded.err().expect("TOML fails closed").to_string();
    assert!(fault.contains("a secret of 5 bytes can be guessed") && fault.contains("*****"), "{fault}");
}

#[test]
fn settings_win_over_a_coturn_file_and_files_merge() {
    let scratch = Scratch::new();
    let conf = scratch.file("turnserver.conf", "static-auth-secret=north\nrealm=x\n");
    let toml = scratch.file("more.toml", "realm = \"y\"\n");
    let set = vec!["auth.secrets=[\"a secret of 24 bytes ...\"]".to_owned()];
    let inputs = turnpike::config::Inputs { files: vec![conf, toml], set, ..Default::default() };
    let loaded = turnpike::config::load(&inputs).unwrap();
    assert_eq!(loaded.file.realm.0, "y");
    assert_eq!(loaded.file.auth.secrets[0].as_bytes(), b"a secret of 24 bytes ...");
    assert_eq!(loaded.origins.of("auth.secrets"), "--set auth.secrets");
}

#[test]
fn nobody_is_let_in_unasked_and_everybody_needs_a_second_switch() {
    let fault = refused("no-auth\nrealm=x\n");
    assert!(
        fault.starts_with("anonymous = true lets anyone relay through this server (turnserver.conf:1:1)"),
        "{fault}"
    );
    for both in ["no-auth\nlt-cred-mech\n", "no-auth\nuse-auth-secret\nstatic-auth-secret=0123456789abcdef\n"] {
        assert!(refused(both).starts_with("`no-auth`: coturn does not start with it beside"), "{both}");
    }
    let scratch = Scratch::new();
    let conf = scratch.file("turnserver.conf", "no-auth\n");
    let set = vec!["auth.i_know_this_is_an_open_relay=true".to_owned()];
    let inputs = turnpike::config::Inputs { files: vec![conf], set, ..Default::default() };
    assert!(turnpike::config::load(&inputs).unwrap().plan(&host()).is_ok());
    let stun = loaded(&scratch, "no-auth\nstun-only\nuser=a:b\nstatic-auth-secret=0123456789abcdef\n").file.auth;
    assert!(!stun.anonymous && stun.users.is_empty() && stun.secrets.is_empty());
    assert!(warnings("realm=x\n").iter().any(|warning| warning.contains("coturn lets anyone relay")));
}

#[test]
fn private_peers_are_denied_and_the_line_that_allows_them_is_named() {
    let all = warnings("user=a:b\nrealm=x\n");
    let lan: Vec<_> = all.iter().filter(|warning| warning.contains("private-peers")).collect();
    assert!(lan.len() == 1 && lan[0].contains("relay.allow_peers = [\"192.168.0.0/16\"]"), "{all:?}");
    let scratch = Scratch::new();
    let relay = |text: &str| loaded(&scratch, text).file.relay;
    let texts = |list: &[turnpike::config::address::Network]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(texts(&relay("allowed-peer-ip=192.168.0.0-192.168.255.255\n").allow_peers), ["192.168.0.0/16"]);
    // A range that holds private networks by the way opens none of them.
    for wide in ["0.0.0.0-255.255.255.255", "9.0.0.0-11.255.255.255", "0.0.0.0/0", "127.0.0.1", "169.254.169.254"] {
        let text = format!("allowed-peer-ip={wide}\n");
        assert!(relay(&text).allow_peers.is_empty(), "{wide}");
        assert_eq!(ends(&imported(&scratch, &text, "4.17.1"))[0].1, End::Safer, "{wide}");
    }
    // All but one address, as a list of who may be reached.
    let only = relay("denied-peer-ip=0.0.0.0-255.255.255.255\nallowed-peer-ip=198.41.0.4\n");
    assert!(only.allow_peers.is_empty() && only.deny_peers.len() == 32, "{:?}", only.deny_peers);
    assert_eq!(texts(&relay("denied-peer-ip=10.1.2.3/8\n").deny_peers), ["10.0.0.0/8"]);
    let own = relay("denied-peer-ip=10.0.0.0/8\nexternal-ip=203.0.113.7/10.0.0.7\n");
    assert!(!own.deny_peers.iter().any(|network| network.0.contains("10.0.0.7".parse().unwrap())));
    for wrong in ["10.0.0.0-", "10.0.0.9-10.0.0.1", "ten", "10.0.0.0/33"] {
        assert!(refused(&format!("denied-peer-ip={wrong}\n")).starts_with("`denied-peer-ip`: "), "{wrong}");
    }
}

#[test]
fn without_a_certificate_tls_is_off_and_said_so() {
    let scratch = Scratch::new();
    let text = "user=a:b\nrealm=x\ncert=cert.pem\npkey=key.pem\ntls-listening-port=443\n";
    assert!(loaded(&scratch, text).file.listen.tls.is_empty());
    let all = warnings(text);
    assert!(
        all.iter().any(|warning| warning.starts_with("turnserver.conf:3: cert: needs you: TLS is off: ")),
        "{all:?}"
    );
    scratch.certificate();
    let file = loaded(&scratch, text).file;
    assert_eq!(file.listen.tls.len(), 2);
    assert_eq!(file.tls.cert, scratch.0.join("cert.pem").display().to_string());
    let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIHs\n-----END ENCRYPTED PRIVATE KEY-----\n";
    scratch.file("key.pem", encrypted);
    let import = imported(&scratch, &format!("{text}pkey-pwd=hunter2\n"), "4.17.1");
    let said: Vec<_> = ends(&import).into_iter().filter(|(line, ..)| ["3", "6"].contains(&line.as_str())).collect();
    assert!(said.iter().all(|(_, end, text)| *end == End::NeedsYou && text.contains("openssl pkey")), "{said:?}");
    assert!(loaded(&scratch, "no-tls\ncert=cert.pem\npkey=key.pem\n").file.tls.cert.is_empty());
}

#[test]
fn users_beside_a_secret_stay_as_dead_as_in_coturn() {
    let scratch = Scratch::new();
    let file = loaded(&scratch, "user=test:test\nstatic-auth-secret=0123456789abcdef\n").file;
    assert!(file.auth.users.is_empty() && file.auth.secrets.len() == 1);
    let import = imported(&scratch, "user=a:1\nuser=b\nuser=a:2\nuser=c:0x12\n", "4.17.1");
    let ends: Vec<End> = ends(&import).into_iter().take(4).map(|(_, end, _)| end).collect();
    assert_eq!(ends, [End::Nothing, End::NeedsYou, End::Carried, End::NeedsYou]);
    assert!(import.toml.contains("[auth.users]\n") && import.toml.contains("\"a\" = \"2\""), "{}", import.toml);
}

#[test]
fn a_flat_userdb_is_read_and_other_databases_are_for_their_owners_to_export() {
    let scratch = Scratch::new();
    scratch.file("users.txt", "# old\nalice:wonderland\nbob:0x8493fbc53ba582fb4c044c456bdc40eb\n");
    let text = "lt-cred-mech\nuserdb=users.txt\nuser=alice:newer\n";
    let file = loaded(&scratch, text).file;
    assert_eq!(file.auth.users.len(), 2);
    assert_eq!(file.auth.users.values().next().unwrap().as_str(), "newer");
    let import = imported(&scratch, "lt-cred-mech\npsql-userdb=\"host=db\"\n", "4.17.1");
    let (_, end, said) = &ends(&import)[1];
    assert!(*end == End::NeedsYou && said.contains("`(echo; psql -At -d 'CONNECTION' -c"), "{said}");
    assert!(said.contains("\"select 'user='||name||':0x'||hmackey from turnusers_lt\""), "{said}");
    assert!(said.contains("/turnserver.conf` add what") && !said.contains("turn_secret"), "{said}");
    // With accounts asked for and none there, the line says so.
    for (text, line) in [("lt-cred-mech\n", "user=NAME:PASSWORD"), ("use-auth-secret\n", "static-auth-secret=SECRET")] {
        let (_, end, said) = &ends(&imported(&scratch, text, "4.17.1"))[0];
        assert!(*end == End::NeedsYou && said.contains("nobody can allocate") && said.contains(line), "{said}");
    }
    let import = imported(&scratch, "use-auth-secret\nstatic-auth-secret=0123456789abcdef\ndb=users.txt\n", "4.17.1");
    assert_eq!(ends(&import)[2].1, End::Dropped);
    assert!(import.loaded.unwrap().file.auth.users.is_empty());
}

#[test]
fn the_last_line_counts_and_lists_add_up() {
    let scratch = Scratch::new();
    let import = imported(&scratch, "realm=a\nmin-port=50000\nrealm=b\nmax-bps=64k\nrelay-threads=0\n", "4.17.1");
    assert_eq!(import.loaded.as_ref().unwrap().file.realm.0, "b");
    let ends = ends(&import);
    assert!(ends[0].1 == End::Nothing && ends[0].2.contains("turnserver.conf:3 sets it again"), "{ends:?}");
    assert!(ends[3].1 == End::NeedsYou && ends[3].2.contains("digits in front"), "{ends:?}");
    assert_eq!(import.loaded.unwrap().file.workers, 1);
    let five = (0..5).map(|at| format!("static-auth-secret=a secret of 24 bytes {at:3}\n")).collect::<String>();
    assert_eq!(loaded(&scratch, &five).file.auth.secrets.len(), 4);
}

#[test]
fn names_are_resolved_where_coturn_resolves_them() {
    let scratch = Scratch::new();
    let import = imported(&scratch, "external-ip=turn.example.org\nrelay-ip=no.such.name\n", "4.17.1");
    assert!(import.toml.contains("external = [\"192.0.2.7\"]"), "{}", import.toml);
    let ends = ends(&import);
    assert!(ends[0].2.contains("turn.example.org is 192.0.2.7 now") && ends[1].1 == End::NeedsYou, "{ends:?}");
    // Clients that come by TLS are told the name too.
    let import = imported(&scratch, "alternate-server=turn.example.org:3479\n", "4.17.1");
    assert!(import.toml.contains("alternate_servers = [\"turn.example.org=192.0.2.7:3479\"]"), "{}", import.toml);
}

#[test]
fn defaults_are_those_of_the_version() {
    let scratch = Scratch::new();
    scratch.certificate();
    let text = "user=a:b\nrealm=x\ncert=cert.pem\npkey=key.pem\n";
    let keys = |version: &str| {
        let import = imported(&scratch, text, version);
        let wide = import.loaded.as_ref().unwrap().file.relay.wide_channels;
        let general: Vec<String> = import.notes.iter().filter(|n| n.place.is_empty()).map(|n| n.key.clone()).collect();
        (wide, general)
    };
    assert_eq!(keys("4.17.1"), (false, vec!["private-peers".to_owned()]));
    assert_eq!(keys("4.16.0").1, ["private-peers", "dtls"]);
    assert_eq!(keys(""), (true, vec!["private-peers".to_owned()]));
    let (wide, old) = keys("4.6.1");
    assert!(wide && old.len() == 6, "{old:?}");
}

#[test]
fn comments_in_other_encodings_and_windows_files_are_read() {
    let scratch = Scratch::new();
    let plain = contents(&loaded(&scratch, "realm=x\nuser=a:b\n"));
    let file = scratch.file("other.conf", b"\xef\xbb\xbf# \xb6\xcb\xbf\xda\r\nrealm=x\r\n\r\nuser=a:b\r\n");
    let inputs = turnpike::config::Inputs { files: vec![file], ..Default::default() };
    assert_eq!(contents(&turnpike::config::load(&inputs).unwrap()), plain);
    let file = scratch.file("other.conf", b"realm=\xb6\xcb\n");
    let inputs = turnpike::config::Inputs { files: vec![file], ..Default::default() };
    assert!(turnpike::config::load(&inputs).err().unwrap().to_string().contains("not UTF-8"));
}
