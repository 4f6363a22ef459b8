//! Every key coturn has or had, and what becomes of it: the one table behind `run`, `import` and
//! the page that documents them.

/// What a key's value is to coturn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// On, or off by `=false`; anything else ends coturn.
    Flag,
    /// On whatever follows: coturn ignores `=false` here.
    Switch,
    /// A port; anything else ends coturn.
    Port,
    /// A number as C reads one: the digits in front.
    Number,
    /// Anything.
    Text,
}

impl Kind {
    /// For people.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Flag => "on/off",
            Kind::Switch => "on, even with `=false`",
            Kind::Port => "port",
            Kind::Number => "number",
            Kind::Text => "text",
        }
    }
}

/// How a key ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    /// It means here what it meant there.
    Carried,
    /// turnpike does more for safety than the key asked.
    Safer,
    /// What it asks for is so anyway, or has no object here.
    Nothing,
    /// It has no effect, and that can be noticed.
    Dropped,
    /// Somebody has to decide or to move something.
    NeedsYou,
    /// The server does not start with it.
    Refused,
}

impl End {
    /// For people.
    pub const fn name(self) -> &'static str {
        match self {
            End::Carried => "carried",
            End::Safer => "safer now",
            End::Nothing => "nothing to do",
            End::Dropped => "dropped",
            End::NeedsYou => "needs you",
            End::Refused => "refused",
        }
    }
}

/// One key.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// As coturn spells it.
    pub name: &'static str,
    /// Its value.
    pub kind: Kind,
    /// How it usually ends; some values end otherwise.
    pub end: End,
    /// turnpike's keys, if there are.
    pub to: &'static str,
    /// What to know, in a clause or a sentence.
    pub says: &'static str,
}

/// The key of that name, today's or removed.
pub fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().chain(REMOVED).find(|key| key.name == name)
}

/// Whether the value of this key is never shown. What is unknown may be a secret misspelt.
pub fn is_secret(name: &str) -> bool {
    let listed = matches!(
        name,
        "static-auth-secret" | "user" | "pkey-pwd" | "cli-password" | "stateless-nonce-secret" | "redis-statsdb"
    );
    listed || (name.ends_with("-userdb") && find(name).is_some()) || find(name).is_none()
}

macro_rules! table {
    ($($name:literal $kind:ident $end:ident $to:literal $says:expr;)*) => {
        &[$(Key { name: $name, kind: Kind::$kind, end: End::$end, to: $to, says: $says },)*]
    };
}

const EXPORT: &str = "turnpike reads no other database than SQLite: `turnpike import` prints the command that adds what it holds to the file";
const REDIRECT: &str = "clients are sent there only while this server drains; coturn sends on every one: for that, share load by DNS or name several servers to the clients";
const CLI: &str =
    "there is no telnet console: `turnpike status`, `sessions`, `kick`, `drain`, `reload` ask over a unix socket";
const FILE_LOG: &str = "the log goes to stderr, where systemd or the container keeps it";

/// The keys of coturn 4.17.1, in its order.
#[rustfmt::skip]
pub const KEYS: &[Key] = table![
    "listening-device" Text NeedsYou "" "listeners are bound to addresses, not to a device: name the device's address with listening-ip";
    "listening-port" Port Carried "listen.udp, listen.tcp" "the first byte decides whether a TCP client speaks TLS, as in coturn";
    "tls-listening-port" Port Carried "listen.tls" "with a usable certificate; the same port as listening-port serves both";
    "alt-listening-port" Port Nothing "listen.udp, listen.tcp" "opened, as in coturn, only together with rfc5780, and then as one more port";
    "alt-tls-listening-port" Port Nothing "listen.tls" "opened, as in coturn, only together with rfc5780, and then as one more port";
    "tcp-proxy-port" Port NeedsYou "" "the PROXY protocol is not read: have the balancer pass addresses on as they are; the plain TCP listener stays closed, as coturn has it with this key";
    "listening-ip" Text Carried "listen.udp, listen.tcp, listen.tls" "0.0.0.0 and :: mean every address of their family; without the key, every address";
    "relay-device" Text NeedsYou "" "relay sockets are bound to addresses, not to a device: name the device's address with relay-ip";
    "relay-ip" Text Carried "relay.addresses" "local addresses to relay from";
    "external-ip" Text Carried "relay.external" "one public address, or PUBLIC/PRIVATE pairs; a public IPv4 address is never told for an IPv6 relay";
    "relay-threads" Number Carried "workers" "0 is one thread";
    "min-port" Port Carried "relay.ports" "1024 or higher";
    "max-port" Port Carried "relay.ports" "";
    "sock-buf-size" Number Nothing "" "turnpike sizes its buffers itself";
    "lt-cred-mech" Flag Carried "" "is how turnpike authenticates";
    "no-auth" Flag Refused "auth.anonymous" "an open relay is abused within hours: to run one all the same, set auth.i_know_this_is_an_open_relay = true beside it";
    "user" Text Carried "auth.users" "`name:password` or `name:0xKEY`; not beside a shared secret, where coturn ignores it";
    "userdb" Text Carried "auth.users, auth.secrets, relay.allow_peers, relay.deny_peers, limits" "a SQLite file: what it holds for the realm; or the older text of `name:password` lines. Without the key, coturn's own /var/lib/turn/turndb, where there is one";
    "db" Text Carried "auth.users, auth.secrets, relay.allow_peers, relay.deny_peers, limits" "the same as userdb";
    "psql-userdb" Text NeedsYou "" EXPORT;
    "sql-userdb" Text NeedsYou "" EXPORT;
    "mysql-userdb" Text NeedsYou "" EXPORT;
    "mongo-userdb" Text NeedsYou "" EXPORT;
    "redis-userdb" Text NeedsYou "" EXPORT;
    "redis-statsdb" Text Dropped "" "nothing is written to Redis: /metrics and the admin API's events tell what it was asked for";
    "prometheus" Switch Safer "http.admin_listen, metrics.coturn_names" "/metrics has coturn's names too, and answers this host alone until http.admin_token_file names a token";
    "prometheus-port" Port Carried "http.admin_listen" "with prometheus";
    "prometheus-address" Text Carried "http.admin_listen" "with prometheus";
    "prometheus-path" Text Dropped "" "the path is /metrics";
    "prometheus-username-labels" Switch Dropped "" "no metric has a label a user can choose: /api/v1/sessions tells users apart";
    "prometheus-tls" Flag Carried "http.admin_tls" "with the certificate of [tls]";
    "prometheus-cert" Text Dropped "" "the admin listener shows the certificate of [tls]";
    "prometheus-key" Text Dropped "" "the admin listener shows the certificate of [tls]";
    "use-auth-secret" Switch Carried "auth.secrets" "is so as soon as there is a secret";
    "static-auth-secret" Text Carried "auth.secrets" "up to four, all of which verify; one under 16 bytes is taken from a coturn file with a warning";
    "no-auth-pings" Switch Nothing "" "a database is read when it changes, and not pinged";
    "no-dynamic-ip-list" Switch Nothing "" "the ranges of peers in the database do not count then, as in coturn";
    "no-dynamic-realms" Switch Nothing "" "the limits of the realm in the database do not count then, as in coturn";
    "realm" Text Carried "realm" "keys written 0x… belong to it";
    "server-name" Text Nothing "" "is for OAuth alone";
    "oauth" Flag NeedsYou "" "OAuth tokens are not read (RFC 7635): give clients time-limited credentials";
    "user-quota" Number Carried "limits.allocations_per_user" "";
    "total-quota" Number Carried "limits.allocations" "";
    "max-bps" Number Carried "limits.bytes_per_second" "bytes a second, in coturn as well";
    "bps-capacity" Number Carried "limits.bytes_per_second_total" "bytes a second; shared fairly when they are used up, not reserved a session";
    "verbose" Flag Carried "log.level" "is info";
    "Verbose" Flag Carried "log.level" "is debug";
    "daemon" Flag Nothing "" "turnpike stays in the foreground, where systemd or a container wants it";
    "no-software-attribute" Flag Nothing "" "no SOFTWARE is sent";
    "software-attribute" Flag Dropped "" "no SOFTWARE is sent";
    "fingerprint" Flag Nothing "" "answers have a FINGERPRINT when requests have one";
    "check-origin-consistency" Flag Nothing "" "the ORIGIN attribute never became a standard";
    "no-udp" Flag Carried "listen.udp" "is empty then";
    "no-tcp" Flag Carried "listen.tcp" "is empty then";
    "no-tls" Flag Carried "listen.tls, tls" "no certificate is loaded then";
    "dtls" Flag Dropped "" "there is no DTLS yet: clients of turns: connect by TLS over TCP";
    "no-dtls" Flag Nothing "" "there is no DTLS yet";
    "no-udp-relay" Flag Refused "" "turnpike relays UDP only, so that nothing would be left: remove the line, or write stun-only";
    "no-tcp-relay" Flag Nothing "" "there are no TCP relays (RFC 6062)";
    "stale-nonce" Number Carried "auth.nonce_lifetime" "10 seconds to an hour; 0, for ever in coturn, is an hour";
    "max-allocate-lifetime" Number Carried "limits.lifetime_max" "10 minutes or more";
    "channel-lifetime" Number Nothing "" "channels live 10 minutes (RFC 8656)";
    "permission-lifetime" Number Nothing "" "permissions live 5 minutes (RFC 8656)";
    "stun-only" Flag Carried "auth" "no secret and no user is carried, so that nobody can allocate";
    "no-stun" Flag Dropped "" "Binding requests are answered, within limits.unverified_per_second";
    "cert" Text Carried "tls.cert" "without a usable certificate TLS stays off; coturn's default turn_server_cert.pem is not looked for";
    "raw-public-keys" Flag Dropped "" "clients are shown a certificate";
    "pkey" Text Carried "tls.key" "may be left out where cert names a file with both";
    "pkey-pwd" Text NeedsYou "" "an encrypted key is not read: `openssl pkey -in KEY -out PLAIN`, and name that one with pkey";
    "log-file" Text Nothing "" FILE_LOG;
    "no-stdout-log" Flag Nothing "" FILE_LOG;
    "syslog" Flag Carried "log.format" "is journald";
    "simple-log" Flag Nothing "" FILE_LOG;
    "log-min-level" Text Carried "log.level" "";
    "new-log-timestamp" Flag Nothing "" "log lines have RFC 3339 times";
    "new-log-timestamp-format" Text Nothing "" "log lines have RFC 3339 times";
    "aux-server" Text Carried "listen.udp, listen.tcp" "one more address and port";
    "udp-self-balance" Flag Nothing "" "the kernel spreads clients over the workers";
    "alternate-server" Text NeedsYou "alternate_servers" REDIRECT;
    "tls-alternate-server" Text NeedsYou "alternate_servers" "where it is the only kind: one list is for every transport, and a port for TLS alone would mislead the others";
    "tcp-alternate-server" Text NeedsYou "alternate_servers" REDIRECT;
    "udp-alternate-server" Text NeedsYou "alternate_servers" REDIRECT;
    "rest-api-separator" Text Carried "auth.separator" "its first character";
    "max-allocate-timeout" Number Nothing "" "a client that never authenticates costs no memory, and an idle connection is closed";
    "drain-min-allocations" Number Dropped "" "a drain ends with the last allocation; one by TERM also after drain_timeout, or at a second TERM";
    "no-multicast-peers" Flag Nothing "" "multicast is never relayed";
    "allow-loopback-peers" Flag Carried "relay.allow_loopback_peers" "every user reaches the services on this host's loopback then";
    "allowed-peer-ip" Text Carried "relay.allow_peers" "wins over denied-peer-ip, as in coturn; an address, FIRST-LAST, or a network";
    "denied-peer-ip" Text Carried "relay.deny_peers" "an address, FIRST-LAST, or a network";
    "cipher-list" Text Safer "" "TLS 1.2 and 1.3 with ciphers that authenticate what they encrypt, and no others";
    "pidfile" Text Nothing "" "systemd knows the process; no file is written";
    "secure-stun" Flag Dropped "" "Binding requests need no credentials: browsers have none for them";
    "CA-file" Text NeedsYou "" "clients' certificates are not asked for: TURN credentials alone decide";
    "dh-file" Text Nothing "" "key exchange is over elliptic curves";
    "proc-user" Text NeedsYou "" "start turnpike as that user: `User=` in the unit, with AmbientCapabilities=CAP_NET_BIND_SERVICE for ports below 1024";
    "proc-group" Text NeedsYou "" "start turnpike as that group: `Group=` in the unit";
    "mobility" Flag Dropped "" "MOBILITY-TICKET is not known here (RFC 8016): a client that changes networks allocates again";
    "no-cli" Flag Nothing "" "there is no telnet console";
    "cli" Flag Dropped "" CLI;
    "cli-ip" Text Nothing "" CLI;
    "cli-port" Port Nothing "" CLI;
    "cli-password" Text Nothing "" CLI;
    "web-admin" Flag Carried "http.admin_listen" "the console; it answers this host alone until http.admin_token_file names a token";
    "web-admin-ip" Text Carried "http.admin_listen" "with web-admin";
    "web-admin-port" Port Carried "http.admin_listen" "with web-admin";
    "web-admin-listen-on-workers" Flag Safer "" "the console has a listener of its own, never the ports that clients reach";
    "server-relay" Flag Safer "" "permissions are always checked (RFC 8656)";
    "cli-max-output-sessions" Number Nothing "" CLI;
    "ec-curve-name" Text Nothing "" "curves are negotiated";
    "dh566" Flag Safer "" "key exchange is over elliptic curves; this size is broken";
    "dh1066" Flag Safer "" "key exchange is over elliptic curves; this size is weak";
    "tlsv1" Flag Safer "" "TLS 1.2 is the oldest";
    "tlsv1_1" Flag Safer "" "TLS 1.2 is the oldest";
    "no-tlsv1_2" Flag Dropped "" "TLS 1.2 stays on, with authenticated ciphers only";
    "secret-key-file" Text NeedsYou "" "is for the password of a MySQL database, which turnpike does not read";
    "keep-address-family" Flag Dropped "" "a client that asks for no family gets IPv4 (RFC 8656)";
    "allocation-default-address-family" Text Dropped "" "a client that asks for no family gets IPv4 (RFC 8656)";
    "acme-redirect" Text NeedsYou "" "ACME challenges are not redirected: answer them with a web server on port 80, or by DNS";
    "log-binding" Flag Nothing "" "Binding requests are counted in /metrics, not logged";
    "no-rfc5780" Flag Nothing "" "there is no RFC 5780 here";
    "rfc5780" Switch Dropped "" "NAT behaviour discovery is not served (RFC 5780); browsers never ask for it";
    "stun-backward-compatibility" Flag Dropped "" "answers have XOR-MAPPED-ADDRESS only (RFC 8489)";
    "rfc5766-channel-numbers" Flag Carried "relay.wide_channels" "is on without the key too, unless the file is known to be for 4.16 or later";
    "rfc3489-compatibility" Flag Dropped "" "requests of RFC 3489 are not answered";
    "response-origin-only-with-rfc5780" Flag Nothing "" "RESPONSE-ORIGIN is never sent";
    "respond-http-unsupported" Flag Nothing "" "a browser that opens a TURN port is told what it is";
    "drop-invalid-packets" Flag Nothing "" "what is not STUN or TURN is dropped first";
    "drop-invalid-packets-log" Flag Nothing "" "drops are counted by reason in /metrics";
    "udp-recvmmsg" Flag Nothing "" "datagrams are received in batches";
    "udp-recvmmsg-log" Flag Nothing "" "batches are counted in /metrics";
    "udp-sendmmsg-log" Flag Nothing "" "batches are counted in /metrics";
    "udp-gso" Flag Nothing "" "datagrams are sent in batches";
    "include-reason-string" Flag Dropped "" "errors have a code and no phrase: what goes to a stranger is short";
    "multiplex-peer" Switch Dropped "" "each allocation has a port of its own: open the relay range in the firewall";
    "multiplex-peer-port" Number Nothing "" "is for multiplex-peer alone";
    "multiplex-peer-max-peers" Number Nothing "" "is for multiplex-peer alone";
    "version" Flag Nothing "" "`turnpike --version`";
    "syslog-facility" Text Nothing "" "journald knows the service by its name";
    "cpus" Number Carried "workers" "unless relay-threads is set";
    "unauthorized-ratelimit" Flag Nothing "limits.unverified_per_second" "answers to strangers are always limited, to 50 a second and address";
    "unauthorized-ratelimit-rps" Number Carried "limits.unverified_per_second" "with unauthorized-ratelimit; counts Binding answers too";
    "stateless-nonce" Flag Nothing "" "a nonce costs no memory";
    "stateless-nonce-secret" Text Dropped "" "each server makes its own nonces: a client that comes from another one is asked again, once";
];

/// Keys that coturn no longer has, and that files still have.
#[rustfmt::skip]
pub const REMOVED: &[Key] = table![
    "ne" Text Nothing "" "there is one network engine";
    "st-cred-mech" Text NeedsYou "" "short-term credentials are not for TURN (RFC 8656): give clients time-limited ones";
    "secret-ts-exp-time" Text Nothing "" "the time is in the credential itself";
    "no-loopback-peers" Text Nothing "" "loopback is never relayed";
    "sha256" Text Dropped "" "coturn's own SHA-256 mode is gone; RFC 8489's is offered to every client";
    "sha384" Text Dropped "" "coturn's own SHA-384 mode is gone; RFC 8489's SHA-256 is offered to every client";
    "sha512" Text Dropped "" "coturn's own SHA-512 mode is gone; RFC 8489's SHA-256 is offered to every client";
    "dh2066" Text Nothing "" "key exchange is over elliptic curves";
    "no-sslv2" Text Nothing "" "TLS 1.2 is the oldest";
    "no-sslv3" Text Nothing "" "TLS 1.2 is the oldest";
    "no-tlsv1" Text Nothing "" "TLS 1.2 is the oldest";
    "no-tlsv1_1" Text Nothing "" "TLS 1.2 is the oldest";
    "prod" Text Nothing "" "no version is told";
    "no-http" Text Nothing "" "a browser that opens a TURN port is shown a short page, nothing more";
    "no-stun-backward-compatibility" Text Nothing "" "answers have XOR-MAPPED-ADDRESS only (RFC 8489)";
];

/// Names that no coturn ever had, and what was meant.
pub const MISSPELT: &[(&str, &str)] = &[
    ("prometheus-no-username-labels", "it was never released; no metric has a user label"),
    ("listen-ip", "did you mean listening-ip?"),
    ("web-port", "did you mean web-admin-port?"),
    ("dtls-listening-port", "did you mean tls-listening-port?"),
];

/// The table as the documentation has it.
pub fn markdown() -> String {
    let mut text = String::new();
    for (title, keys) in [("Keys of coturn 4.17", KEYS), ("Keys that coturn removed", REMOVED)] {
        text.push_str(&format!(
            "### {title}\n\n| coturn | value | ends as | turnpike | to know |\n|---|---|---|---|---|\n"
        ));
        for key in keys {
            let to = key.to.split(", ").filter(|to| !to.is_empty()).map(|to| format!("`{to}`"));
            let to = to.collect::<Vec<_>>().join(", ");
            let kind = if std::ptr::eq(keys, REMOVED) { "" } else { key.kind.name() };
            let says = key.says.replace('|', "\\|");
            text.push_str(&format!("| `{}` | {kind} | {} | {to} | {says} |\n", key.name, key.end.name()));
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::file::File;
    use std::collections::BTreeSet;

    #[test]
    fn all_keys_are_there_once_and_lead_to_keys_that_exist() {
        assert_eq!((KEYS.len(), REMOVED.len()), (143, 15));
        let names: BTreeSet<&str> = KEYS.iter().chain(REMOVED).map(|key| key.name).collect();
        assert_eq!(names.len(), 158);
        let file = serde_json::to_value(File::default()).unwrap();
        for key in KEYS.iter().chain(REMOVED) {
            for to in key.to.split(", ").filter(|to| !to.is_empty()) {
                let pointer = format!("/{}", to.replace('.', "/"));
                assert!(file.pointer(&pointer).is_some(), "{}: {to}", key.name);
            }
            assert!(key.end != End::Carried || !key.to.is_empty() || !key.says.is_empty(), "{}", key.name);
            assert!(key.end == End::Carried || !key.says.is_empty(), "{} says nothing", key.name);
        }
    }

    #[test]
    fn secrets_are_known_as_such() {
        for name in ["user", "static-auth-secret", "mysql-userdb", "static-auth-sekret", ""] {
            assert!(is_secret(name), "{name}");
        }
        assert!(!is_secret("userdb") && !is_secret("realm") && !is_secret("no-sslv2"));
    }
}
