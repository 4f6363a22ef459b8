//! The pages as they are served, and a relay that offers every transport on both loopback addresses.

use std::net::SocketAddr;

use serde_json::{Value, json};
use turnpike::engine::{self, Engine, Limits, Listen, Protocol, RelayConfig};
use turnpike::http::Live;
use turnpike::turn;
use turnpike::turn::auth::{Credentials, Secret};
use turnpike::turn::policy::PeerPolicy;

use crate::certificate;
use crate::fixture::Fixture;
use crate::ports::{LOOPBACK, Stretch};
use crate::wire_client::{REALM, SECRET};

/// The pages, the rooms and the relay of their calls; and for the self-test another relay, since the first has no TLS
/// and no IPv6.
pub struct House {
    /// The plane, and the relay of the calls.
    pub plane: Fixture,
    relay: Option<Engine>,
    _ports: Stretch,
}

impl House {
    /// Opens it.
    pub fn open() -> House {
        House::with(|_| ())
    }

    /// The same with another configuration.
    pub fn with(change: impl FnOnce(&mut Live)) -> House {
        let ports = Stretch::next();
        let relay = relay(&ports);
        let uris: Vec<String> = relay.listening().iter().map(uri).collect();
        let plane = Fixture::with(|live| {
            live.test_uris = uris;
            change(live);
        });
        House { plane, relay: Some(relay), _ports: ports }
    }

    /// What a program that visits it is told.
    pub fn address(&self) -> Value {
        json!({ "base": format!("http://{}", self.plane.public), "admin": format!("http://{}", self.plane.admin) })
    }
}

impl Drop for House {
    fn drop(&mut self) {
        if let Some(relay) = self.relay.take() {
            relay.stop();
        }
    }
}

fn relay(ports: &Stretch) -> Engine {
    let mut listen = Vec::new();
    for protocol in [Protocol::Udp, Protocol::Tcp, Protocol::Tls] {
        listen.extend(LOOPBACK.map(|ip| Listen { addr: SocketAddr::new(ip, 0), protocol, required: true }));
    }
    let mut auth = Credentials::new(REALM);
    auth.secrets = vec![Secret::new(SECRET)];
    engine::spawn(engine::Config {
        workers: 1,
        listen,
        tls: Some(certificate::server()),
        relay: RelayConfig { ports: ports.relay(), addresses: Vec::new(), external: Vec::new() },
        moderation_max: std::time::Duration::ZERO,
        limits: Limits::default(),
        log: turnpike::bus::LogChoice::default(),
        turn: turn::Config {
            realm: REALM.into(),
            auth,
            policy: PeerPolicy { allow_loopback: true, ..PeerPolicy::default() },
            limits: turn::Limits { unverified_per_second: 0, ..turn::Limits::default() },
            ..turn::Config::default()
        },
    })
    .expect("the engine starts")
}

fn uri(listen: &Listen) -> String {
    let addr = listen.addr;
    match listen.protocol {
        Protocol::Udp => format!("turn:{addr}?transport=udp"),
        Protocol::Tcp => format!("turn:{addr}?transport=tcp"),
        Protocol::Tls => format!("turns:{addr}?transport=tcp"),
    }
}
