//! Values of single keys, as they arrive under turnpike's: a table to be read.

use super::{Scratch, ends, imported, loaded, read};
use serde_json::{Value, json};
use turnpike::config::coturn::End;

/// A text, one of turnpike's keys, and what it holds then.
fn cases() -> Vec<(&'static str, &'static str, Value)> {
    let every = |port: u16| json!([format!("0.0.0.0:{port}"), format!("[::]:{port}")]);
    vec![
        ("listening-port=3479", "listen/udp", every(3479)),
        ("listening-port=3479", "listen/tcp", every(3479)),
        ("listening-ip=::", "listen/udp", json!(["[::]:3478"])),
        (
            "listening-ip=[2001:db8::7]\nlistening-ip=192.0.2.7",
            "listen/udp",
            json!(["[2001:db8::7]:3478", "192.0.2.7:3478"]),
        ),
        ("listening-ip=192.0.2.7\nlistening-ip=192.0.2.7", "listen/tcp", json!(["192.0.2.7:3478"])),
        ("no-udp", "listen/udp", json!([])),
        ("no-tcp", "listen/tcp", json!([])),
        ("no-udp=0", "listen/udp", every(3478)),
        // The PROXY protocol's port stands in for all of TCP.
        ("tcp-proxy-port=5000", "listen/tcp", json!([])),
        ("aux-server=192.0.2.7:80\naux-server=[2001:db8::7]:80\nno-tcp", "listen/tcp", json!([])),
        ("listening-ip=192.0.2.7\naux-server=192.0.2.7:80", "listen/udp", json!(["192.0.2.7:3478", "192.0.2.7:80"])),
        // coturn opens the second port for RFC 5780 alone.
        ("alt-listening-port=3479", "listen/udp", every(3478)),
        (
            "listening-ip=192.0.2.7\nrfc5780\nalt-listening-port=3479",
            "listen/udp",
            json!(["192.0.2.7:3478", "192.0.2.7:3479"]),
        ),
        ("relay-ip=192.0.2.7\nrelay-ip=2001:db8::7", "relay/addresses", json!(["192.0.2.7", "2001:db8::7"])),
        ("relay-ip=0.0.0.0", "relay/addresses", json!([])),
        ("external-ip=203.0.113.7", "relay/external", json!(["203.0.113.7"])),
        ("external-ip=203.0.113.7\nexternal-ip=203.0.113.8", "relay/external", json!(["203.0.113.7"])),
        ("external-ip=203.0.113.7\nexternal-ip=2001:db8::9", "relay/external", json!(["203.0.113.7", "2001:db8::9"])),
        (
            "external-ip=203.0.113.7/10.0.0.7\nexternal-ip=203.0.113.8/10.0.0.8",
            "relay/external",
            json!(["203.0.113.7/10.0.0.7", "203.0.113.8/10.0.0.8"]),
        ),
        ("min-port=50000", "relay/ports", json!("50000-65535")),
        ("max-port=50000", "relay/ports", json!("49152-50000")),
        ("min-port=500\nmax-port=5000", "relay/ports", json!("1024-5000")),
        ("alternate-server=192.0.2.8", "alternate_servers", json!(["192.0.2.8:3478"])),
        (
            "alternate-server=[2001:db8::8]:3479\nudp-alternate-server=192.0.2.9:3480\ntcp-alternate-server=192.0.2.8",
            "alternate_servers",
            json!(["[2001:db8::8]:3479", "192.0.2.9:3480", "192.0.2.8:3478"]),
        ),
        ("alternate-server=2001:db8::8", "alternate_servers", json!(["[2001:db8::8]:3478"])),
        ("tls-alternate-server=192.0.2.8", "alternate_servers", json!(["192.0.2.8:5349"])),
        (
            "tls-alternate-server=192.0.2.9:443\nalternate-server=192.0.2.8:3478",
            "alternate_servers",
            json!(["192.0.2.8:3478"]),
        ),
        ("alternate-server=192.0.2.8\ntcp-alternate-server=192.0.2.8", "alternate_servers", json!(["192.0.2.8:3478"])),
        (
            "listening-ip=192.0.2.7\nalternate-server=192.0.2.7\nalternate-server=192.0.2.7:3479",
            "alternate_servers",
            json!(["192.0.2.7:3479"]),
        ),
        (
            "external-ip=192.0.2.8/10.0.0.7\nlistening-port=443\nalternate-server=192.0.2.8:443",
            "alternate_servers",
            json!([]),
        ),
        ("alternate-server=192.0.2.8:turn\nalternate-server=0.0.0.0", "alternate_servers", json!([])),
        ("relay-threads=0", "workers", json!(1)),
        ("relay-threads=1000", "workers", json!(128)),
        ("cpus=4", "workers", json!(4)),
        ("cpus=4\nrelay-threads=2", "workers", json!(2)),
        ("cpus=0", "workers", json!(0)),
        ("stale-nonce", "auth/nonce_lifetime", json!("10m")),
        ("stale-nonce=1", "auth/nonce_lifetime", json!("10s")),
        ("stale-nonce=0", "auth/nonce_lifetime", json!("1h")),
        ("stale-nonce=86400", "auth/nonce_lifetime", json!("1h")),
        ("max-allocate-lifetime=60", "limits/lifetime_max", json!("10m")),
        ("max-allocate-lifetime", "limits/lifetime_max", json!("1h")),
        ("max-bps=-1", "limits/bytes_per_second", json!(0)),
        ("max-bps=3000000", "limits/bytes_per_second", json!(3_000_000)),
        ("rest-api-separator=|x", "auth/separator", json!("|")),
        ("unauthorized-ratelimit-rps=5", "limits/unverified_per_second", json!(50)),
        ("unauthorized-ratelimit\nunauthorized-ratelimit-rps=5", "limits/unverified_per_second", json!(5)),
        ("verbose", "log/level", json!("info")),
        ("Verbose\nverbose=0", "log/level", json!("debug")),
        ("Verbose\nlog-min-level=warning", "log/level", json!("warn")),
        ("log-min-level=error", "log/level", json!("error")),
        ("log-file=syslog", "log/format", json!("journald")),
        ("log-file=/var/log/turn.log", "log/format", json!("text")),
        ("prometheus", "http/admin_listen", json!("0.0.0.0:9641")),
        ("prometheus-port=9000", "http/admin_listen", json!("")),
        ("web-admin", "http/admin_listen", json!("127.0.0.1:8080")),
        ("web-admin\nno-tls", "http/admin_listen", json!("")),
        ("web-admin\nweb-admin-ip=192.0.2.7\nweb-admin-port=8443", "http/admin_listen", json!("192.0.2.7:8443")),
        ("web-admin\nprometheus", "http/admin_listen", json!("0.0.0.0:9641")),
        ("prometheus-tls\ncert=cert.pem\npkey=key.pem", "http/admin_tls", json!(true)),
        ("prometheus-tls", "http/admin_tls", json!(false)),
        ("prometheus-tls=0", "http/admin_listen", json!("")),
        ("cert=cert.pem\npkey=key.pem", "listen/tls", every(5349)),
        ("cert=cert.pem\npkey=key.pem\nno-tls", "listen/tls", json!([])),
        ("cert=cert.pem\npkey=key.pem\nno-tls=0", "listen/tls", every(5349)),
        ("cert=cert.pem\npkey=key.pem\ntls-listening-port=3478", "listen/tcp", json!([])),
        ("cert=cert.pem\npkey=key.pem\naux-server=192.0.2.7:5349", "listen/tcp", every(3478)),
        ("rfc5766-channel-numbers=0", "relay/wide_channels", json!(false)),
    ]
}

#[test]
fn values_arrive_where_they_belong() {
    let scratch = Scratch::new();
    scratch.certificate();
    for (text, key, expected) in cases() {
        let file = serde_json::to_value(&loaded(&scratch, text).file).unwrap();
        assert_eq!(file.pointer(&format!("/{key}")), Some(&expected), "{text}");
    }
}

#[test]
fn what_can_not_be_meant_is_refused() {
    let scratch = Scratch::new();
    for (text, what) in [
        ("min-port=60000\nmax-port=50000", "`max-port`: the relay ports 60000-50000 are none"),
        ("max-port=1000", "`max-port`: the relay ports 49152-1000 are none"),
        ("listening-ip=eth0", "`listening-ip`: eth0 is not an address"),
        ("realm=a\\b", "`realm`: a realm has no quotes"),
        ("rest-api-separator=7\nstatic-auth-secret=0123456789abcdef", "`rest-api-separator`: `7` is not one printable"),
        ("no-udp-relay", "`no-udp-relay`: turnpike relays UDP only"),
        ("denied-peer-ip", "`denied-peer-ip`: it names no address"),
        ("allowed-peer-ip=x", "`allowed-peer-ip`: `x` is not an address"),
    ] {
        let fault = read(&scratch, text).err().unwrap_or_else(|| panic!("{text}")).to_string();
        assert!(fault.starts_with(what), "{text}: {fault}");
    }
}

#[test]
fn what_is_put_right_is_said() {
    let scratch = Scratch::new();
    for (text, end) in [
        ("min-port=500", End::Safer),
        ("stale-nonce=0", End::Safer),
        ("stale-nonce=1", End::NeedsYou),
        ("max-allocate-lifetime=60", End::NeedsYou),
        ("max-bps=-1", End::NeedsYou),
        ("relay-ip=0.0.0.0", End::NeedsYou),
        ("aux-server=192.0.2.7", End::NeedsYou),
        ("log-min-level=loud", End::NeedsYou),
        ("alternate-server=192.0.2.8", End::NeedsYou),
        ("alternate-server=192.0.2.8:70000", End::NeedsYou),
        ("alternate-server=no.such.name", End::NeedsYou),
        ("realm=x;", End::NeedsYou),
        ("listening_port=3478", End::NeedsYou),
        ("listen-ip=192.0.2.7", End::NeedsYou),
        ("Realm=x", End::NeedsYou),
        ("relay-threads=2 # two", End::NeedsYou),
        ("channel-lifetime=600", End::Nothing),
        ("tlsv1", End::Safer),
        ("tlsv1=0", End::Nothing),
        ("no-loopback-peers", End::Nothing),
    ] {
        let ends = ends(&imported(&scratch, text, "4.17.1"));
        assert_eq!(ends[0].1, end, "{text}: {}", ends[0].2);
    }
}
