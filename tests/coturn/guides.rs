//! Files that set-up guides hand out, and what they mean here.

use super::{Scratch, contents, host, imported, loaded};
use turnpike::config::file::File;
use turnpike::config::settings;

/// As blogs on AppRTC have it: devices, a NAT, static users, everything else by default.
const CLASSIC: &str = "listening-device=eth0\nlistening-ip=10.0.0.7\nlistening-port=3478\ntls-listening-port=5349\n\
     relay-device=eth0\nrelay-ip=10.0.0.7\nexternal-ip=203.0.113.7\nrelay-threads=50\nlt-cred-mech\n\
     cert=cert.pem\npkey=key.pem\npidfile=\"/var/run/turnserver.pid\"\nmin-port=49152\nmax-port=65535\n\
     user=alice:wonderland\nuser=bob:0x8493fbc53ba582fb4c044c456bdc40eb\nrealm=example.org\ncli-password=qwerty\n\
     fingerprint\nno-loopback-peers\nno-multicast-peers\nmobility\nVerbose\nstale-nonce\n";

/// As Matrix's Synapse documents it: a shared secret, private networks denied, one host allowed.
const MATRIX: &str = "use-auth-secret\nstatic-auth-secret=n0t8f9wqhpz5hk2qk1c7\nrealm=turn.matrix.example.org\n\
     # VoIP traffic is all UDP.\nno-tcp-relay\n\
     denied-peer-ip=10.0.0.0-10.255.255.255\ndenied-peer-ip=192.168.0.0-192.168.255.255\n\
     denied-peer-ip=172.16.0.0-172.31.255.255\nno-multicast-peers\ndenied-peer-ip=0.0.0.0-0.255.255.255\n\
     denied-peer-ip=240.0.0.0-255.255.255.255\nallowed-peer-ip=10.0.0.1\nuser-quota=12\ntotal-quota=1200\n";

/// As Nextcloud Talk has it: everything on port 443 and by TLS.
const BEHIND_443: &str = "listening-port=443\ntls-listening-port=443\nfingerprint\nuse-auth-secret\n\
     static-auth-secret=\"0123456789abcdef0123\"\nrealm=turn.example.org\ntotal-quota=0\nbps-capacity=0\n\
     stale-nonce=0\ncert=cert.pem\npkey=key.pem\n\
     cipher-list=\"ECDHE-RSA-AES256-GCM-SHA512:DHE-RSA-AES256-GCM-SHA512\"\nno-tlsv1\nno-tlsv1_1\nno-tcp-relay\n\
     no-cli\nno-rfc5780\nno-stun-backward-compatibility\nresponse-origin-only-with-rfc5780\nsyslog\n\
     log-file=/dev/null\n";

/// As coturn's own documentation for monitoring has it.
const PROMETHEUS: &str = "lt-cred-mech\nuser=a:b\nrealm=x\nprometheus\nprometheus-port=9100\nprometheus-address=127.0.0.1\n\
     web-admin\nweb-admin-port=8081\nmax-bps=64000\nbps-capacity=1000000\nno-udp\naux-server=192.0.2.7:80\n\
     rest-api-separator=|\nallow-loopback-peers\nmax-allocate-lifetime=7200\n\
     unauthorized-ratelimit\nunauthorized-ratelimit-rps=20\nrfc5766-channel-numbers\n";

/// As Jitsi's package writes it.
const JITSI: &str = "use-auth-secret\nkeep-address-family\nstatic-auth-secret=kQ4pN8vW2xT6aB3d\nrealm=meet.example.org\n\
    cert=cert.pem\npkey=key.pem\nno-multicast-peers\nno-cli\nno-loopback-peers\nno-tcp-relay\nno-tcp\n\
    listening-port=3478\ntls-listening-port=5349\nno-tlsv1\nno-tlsv1_1\n\
    # https://ssl-config.mozilla.org/#server=haproxy\n\
    cipher-list=ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-CHACHA20-POLY1305\n\
    # without it there are errors when running on Ubuntu 20.04\ndh2066\n\
    denied-peer-ip=0.0.0.0-0.255.255.255\ndenied-peer-ip=10.0.0.0-10.255.255.255\n\
    denied-peer-ip=100.64.0.0-100.127.255.255\ndenied-peer-ip=127.0.0.0-127.255.255.255\n\
    denied-peer-ip=169.254.0.0-169.254.255.255\ndenied-peer-ip=127.0.0.0-127.255.255.255\n\
    denied-peer-ip=172.16.0.0-172.31.255.255\ndenied-peer-ip=192.168.0.0-192.168.255.255\n\
    denied-peer-ip=fc00::-fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff\ndenied-peer-ip=::1\nsyslog\n";

/// As BigBlueButton documents it.
const BIG_BLUE_BUTTON: &str = "listening-port=3478\ntls-listening-port=443\nlistening-ip=192.0.2.7\n\
    relay-ip=192.0.2.7\nexternal-ip=203.0.113.7/192.0.2.7\nmin-port=32769\nmax-port=65535\nverbose\nfingerprint\n\
    lt-cred-mech\nuse-auth-secret\nstatic-auth-secret=0f4f1c1b7d3d5a4e9d2c\nrealm=example.org\ncert=cert.pem\n\
    pkey=key.pem\ncipher-list=\"ECDHE-RSA-AES256-GCM-SHA384:DHE-RSA-AES256-GCM-SHA384\"\nno-tlsv1\nno-tlsv1_1\n\
    no-sslv2\nno-sslv3\nlog-file=/var/log/turnserver.log\nsimple-log\nkeep-address-family\nno-rfc5780\n\
    response-origin-only-with-rfc5780\nno-stun-backward-compatibility\nmobility\n";

/// Every file, for what holds for all of them.
pub const FILES: [(&str, &str); 6] = [
    ("classic", CLASSIC),
    ("matrix", MATRIX),
    ("behind 443", BEHIND_443),
    ("prometheus", PROMETHEUS),
    ("jitsi", JITSI),
    ("big blue button", BIG_BLUE_BUTTON),
];

fn texts<T: ToString>(list: &[T]) -> Vec<String> {
    list.iter().map(ToString::to_string).collect()
}

/// Reads a file, and shows that importing it first changes nothing.
fn both_ways(text: &str) -> File {
    let scratch = Scratch::new();
    scratch.certificate();
    let direct = loaded(&scratch, text);
    let import = imported(&scratch, text, "");
    let loaded = import.loaded.unwrap_or_else(|fault| panic!("{}\n{fault}", import.toml));
    assert_eq!(contents(&direct), contents(&loaded), "{}", import.toml);
    let plans = [&direct, &loaded].map(|loaded| {
        let plan = loaded.plan(&host()).unwrap_or_else(|fault| panic!("{text}\n{fault}"));
        let turn = &plan.engine.turn;
        let auth = (turn.auth.user_count(), &turn.auth.secrets, turn.auth.separator, turn.auth.max_ttl_s);
        let shown = settings::entries(loaded, &plan.realm, plan.engine.workers).into_iter();
        let shown: Vec<_> = shown.map(|(key, entry)| (key, entry.value)).collect();
        format!(
            "{} {:?} {:?} {:?} {:?} {:?} {auth:?} {:?} {:?} {shown:?}",
            plan.realm,
            plan.engine.listen,
            plan.engine.relay,
            turn.policy,
            turn.limits,
            turn.channels,
            plan.drain,
            plan.identity.is_some(),
        )
    });
    assert_eq!(plans[0], plans[1]);
    direct.file
}

#[test]
fn the_classic_of_webrtc_tutorials() {
    let file = both_ways(CLASSIC);
    assert_eq!(texts(&file.listen.udp), ["10.0.0.7:3478"]);
    assert_eq!(texts(&file.listen.tcp), ["10.0.0.7:3478"]);
    assert_eq!(texts(&file.listen.tls), ["10.0.0.7:5349"]);
    assert_eq!(texts(&file.relay.addresses), ["10.0.0.7"]);
    assert_eq!(texts(&file.relay.external), ["203.0.113.7"]);
    assert_eq!((file.workers, file.realm.0.as_str()), (50, "example.org"));
    let users: Vec<&str> = file.auth.users.keys().map(|name| name.as_str()).collect();
    assert_eq!(users, ["alice", "bob"]);
    assert!(file.auth.users.values().last().unwrap().md5_key().is_some());
    assert!(file.auth.secrets.is_empty() && !file.auth.anonymous);
    assert_eq!(file.log.level.to_string(), "debug");
    assert_eq!((file.http.listen.0, file.http.admin_listen.0), (None, None));
}

#[test]
fn the_one_of_matrix() {
    let file = both_ways(MATRIX);
    assert_eq!(texts(&file.relay.allow_peers), ["10.0.0.1/32"]);
    assert_eq!(file.auth.secrets[0].as_bytes(), b"n0t8f9wqhpz5hk2qk1c7");
    assert_eq!((file.limits.allocations_per_user, file.limits.allocations), (12, 1200));
    let ip = |text: &str| text.parse::<std::net::IpAddr>().unwrap();
    let denied = |text: &str| file.relay.deny_peers.iter().any(|network| network.0.contains(ip(text)));
    assert!(denied("10.0.0.0") && denied("10.0.0.2") && denied("10.255.255.255") && denied("192.168.7.7"));
    assert!(!denied("10.0.0.1") && !denied("9.255.255.255") && !denied("11.0.0.0") && denied("255.255.255.255"));
    assert!(file.listen.tls.is_empty());
}

#[test]
fn the_one_behind_443() {
    let file = both_ways(BEHIND_443);
    assert_eq!(texts(&file.listen.udp), ["0.0.0.0:443", "[::]:443"]);
    assert!(file.listen.tcp.is_empty(), "one listener serves clients with TLS and without");
    assert_eq!(texts(&file.listen.tls), ["0.0.0.0:443", "[::]:443"]);
    assert_eq!(file.auth.nonce_lifetime.0, 3600);
    assert_eq!(file.log.format.to_string(), "journald");
    assert_eq!(file.auth.max_ttl.0, 100 * 365 * 86_400, "coturn takes credentials of any length");
}

#[test]
fn the_one_with_prometheus() {
    let file = both_ways(PROMETHEUS);
    assert_eq!(file.http.admin_listen.to_string(), "127.0.0.1:9100");
    assert!(file.metrics.coturn_names && !file.http.admin_tls);
    assert_eq!((file.limits.bytes_per_second, file.limits.bytes_per_second_total), (64_000, 1_000_000));
    assert!(file.listen.udp.is_empty());
    assert_eq!(texts(&file.listen.tcp), ["0.0.0.0:3478", "[::]:3478", "192.0.2.7:80"]);
    assert_eq!((file.auth.separator.0, file.limits.lifetime_max.0), ('|', 7200));
    assert_eq!(file.limits.unverified_per_second, 20);
    assert!(file.relay.allow_loopback_peers && file.relay.wide_channels);
}

/// Defaults that are not those of a native file.
#[test]
fn an_empty_file_is_coturn_without_its_open_door() {
    let file = both_ways("# nothing\n");
    assert!(!file.auth.anonymous && file.auth.users.is_empty() && file.auth.secrets.is_empty());
    assert_eq!(texts(&file.listen.udp), ["0.0.0.0:3478", "[::]:3478"]);
    assert_eq!((file.auth.max_session.0, file.http.listen.0), (0, None));
    assert!(file.relay.wide_channels, "most coturns in use take them");
}

#[test]
fn the_one_of_jitsi() {
    let file = both_ways(JITSI);
    assert!(file.listen.tcp.is_empty() && file.listen.udp.len() == 2 && file.listen.tls.len() == 2);
    assert_eq!(file.log.format.to_string(), "journald");
    // What the defaults deny is denied again, and the repeated line counts once.
    assert_eq!(file.relay.deny_peers.len(), 9);
}

#[test]
fn the_one_of_big_blue_button() {
    let file = both_ways(BIG_BLUE_BUTTON);
    assert_eq!(texts(&file.listen.tls), ["192.0.2.7:443"]);
    assert_eq!(texts(&file.relay.external), ["203.0.113.7/192.0.2.7"]);
    assert_eq!(file.relay.ports.to_string(), "32769-65535");
    assert!(file.auth.users.is_empty() && file.auth.secrets.len() == 1);
}
