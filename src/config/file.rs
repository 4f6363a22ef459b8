//! The configuration as it is written: every key, its type and its default, in one place.
//!
//! What a key means for the floors is decided by the parent module; here a value is only read.

use super::address::{AlternateServer, Endpoint, External, Network, RelayAddress};
use super::secret::{Password, Secret, UserName};
use super::value::{Format, Level, Micros, PortRange, Realm, Seconds, Separator, count};
use super::web::{HostName, HttpAddress, IceServer, Origin, PublicUrl, TurnUri};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Declares a table of keys with their defaults.
macro_rules! table {
    ($(#[$doc:meta])* $name:ident {
        $($(#[$key_doc:meta])* $key:ident: $type:ty = $default:expr,)*
    }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Deserialize, Serialize)]
        #[serde(default, deny_unknown_fields, expecting = "a table")]
        pub struct $name { $($(#[$key_doc])* pub $key: $type,)* }

        impl Default for $name {
            fn default() -> Self {
                $name { $($key: $default,)* }
            }
        }
    };
}

table! {
    /// A whole configuration.
    File {
        /// The realm; empty: the host's name.
        realm: Realm = Realm::default(),
        /// Relay threads; 0: one per usable core.
        #[serde(deserialize_with = "count")]
        workers: usize = 0,
        /// How long TERM waits for the last allocation; 0: not at all.
        drain_timeout: Seconds = Seconds(60),
        /// Where a draining server sends new clients.
        alternate_servers: Vec<AlternateServer> = Vec::new(),
        /// The client side.
        listen: Listen = Listen::default(),
        /// The certificate.
        tls: Tls = Tls::default(),
        /// The peer side.
        relay: Relay = Relay::default(),
        /// Who may allocate.
        auth: Auth = Auth::default(),
        /// Limits; 0: none.
        limits: Limits = Limits::default(),
        /// The side plane.
        http: Http = Http::default(),
        /// Rooms and signalling.
        rooms: Rooms = Rooms::default(),
        /// Metrics.
        metrics: Metrics = Metrics::default(),
        /// The log.
        log: Log = Log::default(),
    }
}

table! {
    /// `[listen]`: where clients reach the server. A wildcard means every local address of its
    /// family, bound one by one.
    Listen {
        /// UDP.
        udp: Vec<Endpoint> = every_address(3478),
        /// TCP.
        tcp: Vec<Endpoint> = every_address(3478),
        /// TLS over TCP.
        tls: Vec<Endpoint> = Vec::new(),
        /// DTLS over UDP; not available yet.
        dtls: Vec<Endpoint> = Vec::new(),
    }
}

/// Every local address of both families.
pub fn every_address(port: u16) -> Vec<Endpoint> {
    use std::net::{Ipv4Addr, Ipv6Addr};
    vec![Endpoint((Ipv4Addr::UNSPECIFIED, port).into()), Endpoint((Ipv6Addr::UNSPECIFIED, port).into())]
}

table! {
    /// `[tls]`: the certificate. A path is relative to the file that names it.
    Tls {
        /// PEM chain, the server's own certificate first.
        cert: String = String::new(),
        /// PEM private key; may be in the same file.
        key: String = String::new(),
    }
}

table! {
    /// `[relay]`: what peers see.
    Relay {
        /// The ports of relayed addresses.
        ports: PortRange = PortRange(49152..=65535),
        /// Local addresses to relay from; empty: the address the client reached.
        addresses: Vec<RelayAddress> = Vec::new(),
        /// Public addresses of a 1:1 NAT.
        external: Vec<External> = Vec::new(),
        /// Networks whose soft denial is lifted.
        allow_peers: Vec<Network> = Vec::new(),
        /// Networks never reached; wins over `allow_peers`.
        deny_peers: Vec<Network> = Vec::new(),
        /// Reach this host's loopback, for development.
        allow_loopback_peers: bool = false,
        /// Also take channel numbers 0x5000–0x7FFF (RFC 5766).
        wide_channels: bool = false,
        /// The longest a worker rests to let thin but frequent traffic gather. A packet waits for
        /// what is left of it, and for the round that it fills. 0: never.
        moderation_max: Micros = Micros(300),
    }
}

table! {
    /// `[auth]`: who may allocate.
    Auth {
        /// Shared secrets of the TURN REST API; the first mints, all verify.
        secrets: Vec<Secret> = Vec::new(),
        /// A file with more secrets, one a line.
        secret_file: String = String::new(),
        /// Long-term users.
        users: BTreeMap<UserName, Password> = BTreeMap::new(),
        /// A file with more users, `name:password` a line.
        users_file: String = String::new(),
        /// How long a nonce is good.
        nonce_lifetime: Seconds = Seconds(600),
        /// Longest time-limited credential taken.
        max_ttl: Seconds = Seconds(86_400),
        /// Between expiry and id in the name of a time-limited credential.
        separator: Separator = Separator(':'),
        /// An expired credential ends its allocation.
        strict_expiry: bool = false,
        /// How long an allocation may live however often it is refreshed; 0: for ever.
        max_session: Seconds = Seconds(86_400),
        /// Offer RFC 8489's password algorithms.
        rfc8489: bool = true,
        /// Ask clients to hide their names (USERHASH); for static users only.
        username_anonymity: bool = false,
        /// Who is revoked, one id a line; `auto`: in the state directory, if there is one; empty:
        /// kept in memory only.
        revocations_file: String = "auto".to_owned(),
        /// Let anyone allocate.
        anonymous: bool = false,
        /// The second switch `anonymous` needs.
        i_know_this_is_an_open_relay: bool = false,
    }
}

table! {
    /// `[limits]`: 0 is none.
    Limits {
        /// Allocations of the server.
        #[serde(deserialize_with = "count")]
        allocations: usize = 0,
        /// Allocations of one user.
        #[serde(deserialize_with = "count")]
        allocations_per_user: usize = 0,
        /// Allocations of clients from one address, or one /56 of IPv6.
        #[serde(deserialize_with = "count")]
        allocations_per_source: usize = 2000,
        /// Permissions of one allocation.
        #[serde(deserialize_with = "count")]
        permissions_per_allocation: usize = 256,
        /// Channels of one allocation.
        #[serde(deserialize_with = "count")]
        channels_per_allocation: usize = 64,
        /// Longest lifetime granted at once.
        lifetime_max: Seconds = Seconds(3600),
        /// Bytes a second of one allocation in each direction.
        #[serde(deserialize_with = "count")]
        bytes_per_second: u64 = 0,
        /// Bytes a second of the server.
        #[serde(deserialize_with = "count")]
        bytes_per_second_total: u64 = 0,
        /// Answers a second to one unverified source.
        #[serde(deserialize_with = "count")]
        unverified_per_second: u32 = 50,
    }
}

table! {
    /// `[http]`: the side plane.
    Http {
        /// The public part: credentials, rooms, pages; empty: off.
        listen: HttpAddress = HttpAddress::loopback(8080),
        /// The admin part: metrics, health, API, console; empty: off.
        admin_listen: HttpAddress = HttpAddress::loopback(9641),
        /// Its unix socket; `auto`: in the runtime directory, if there is one; empty: none.
        admin_socket: String = "auto".to_owned(),
        /// A file with the admin part's token.
        admin_token_file: String = String::new(),
        /// Who may ask for credentials.
        api_keys: Vec<Secret> = Vec::new(),
        /// Origins whose scripts may call the public part.
        cors_origins: Vec<Origin> = Vec::new(),
        /// HTTPS on `listen`, with the certificate of `[tls]`.
        tls: bool = false,
        /// HTTPS on `admin_listen`, with the certificate of `[tls]`.
        admin_tls: bool = false,
        /// HTTPS on the ports of `listen.tls` too; not available yet.
        share_tls_port: bool = false,
        /// Networks of proxies whose `X-Forwarded-` headers are believed.
        trusted_proxies: Vec<Network> = Vec::new(),
        /// The address users type, for links; empty: that of each request.
        public_url: PublicUrl = PublicUrl::default(),
        /// More names the server is reached by.
        allowed_hosts: Vec<HostName> = Vec::new(),
        /// `/turn` needs a user name.
        username_required: bool = false,
        /// How long credentials are good that ask for nothing else.
        credentials_ttl: Seconds = Seconds(86_400),
        /// What clients are told instead of the URIs that follow from `[listen]`.
        uris: Vec<TurnUri> = Vec::new(),
    }
}

table! {
    /// `[rooms]`: the room server, its signalling and the call page.
    Rooms {
        /// Whether there are rooms.
        enabled: bool = true,
        /// Clients in one room.
        #[serde(deserialize_with = "count")]
        max_clients: usize = 2,
        /// Rooms at a time.
        #[serde(deserialize_with = "count")]
        max_rooms: usize = 10_000,
        /// Messages that wait for a client that is not there yet.
        #[serde(deserialize_with = "count")]
        queue_len_max: usize = 1024,
        /// Bytes of one message.
        #[serde(deserialize_with = "count")]
        message_len_max: usize = 65_536,
        /// How long a client may be away before it has left.
        grace: Seconds = Seconds(10),
        /// What clients are told; empty: this server, with fresh credentials.
        ice_servers: Vec<IceServer> = Vec::new(),
    }
}

table! {
    /// `[metrics]`.
    Metrics {
        /// Export coturn's metric names too.
        coturn_names: bool = false,
    }
}

table! {
    /// `[log]`: to stderr.
    Log {
        /// How much.
        level: Level = Level::Info,
        /// In which form.
        format: Format = Format::Text,
        /// A line at the end of each allocation.
        allocations: bool = true,
        /// A line for each permission and channel, to audit who reached whom.
        permissions: bool = false,
    }
}
