//! The configuration: files, environment and command line in; what each floor needs out.
//!
//! [`load`] reads and merges, with nothing but the text in view; [`Loaded::plan`] looks at the
//! machine, reads the files that are named, and judges. Both fail closed, with the place and a
//! way out in the [`Fault`].

mod accounts;
pub mod address;
mod changes;
pub mod coturn;
mod document;
mod fault;
pub mod file;
mod host;
mod layers;
mod listeners;
mod plane;
pub mod revocations;
pub mod secret;
pub mod settings;
mod tls;
pub mod uris;
pub mod value;
mod warnings;
pub mod web;

pub use accounts::{Accounts, SECRETS_MAX, secret_file};
pub use changes::Changes;
pub use fault::Fault;
pub use host::Host;
pub use layers::{Inputs, Origins};
pub use plane::{PlanePlan, default_socket, token_line};
pub use tls::{ALPN, Identity};

use crate::bus::LogChoice;
use crate::engine::{self, WORKERS_MAX};
use crate::turn::{self, nonce, policy};
use crate::wire::channel::ChannelRange;
use file::File;
use secret::Secret;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use value::Seconds;

/// Shortest lifetime of a nonce, in seconds: below it each request would need two tries.
pub const NONCE_LIFETIME_MIN_S: u64 = 10;
/// Most servers that a draining one sends its clients to.
pub const ALTERNATES_MAX: usize = 64;

/// A configuration that was read, and where each value of it was written.
pub struct Loaded {
    /// The values.
    pub file: File,
    /// Their places.
    pub origins: Origins,
}

/// What to run.
pub struct Plan {
    /// The realm in force.
    pub realm: String,
    /// For the engine.
    pub engine: engine::Config,
    /// For the side plane.
    pub plane: PlanePlan,
    /// The certificate, if there is one.
    pub identity: Option<Identity>,
    /// What a drain does.
    pub drain: DrainPlan,
    /// The file of those who are revoked, which was read; `None`: they are kept in memory.
    pub revocations: Option<PathBuf>,
    /// Files whose contents are part of the configuration.
    pub files: Vec<PathBuf>,
    /// What an operator should know, one sentence each.
    pub warnings: Vec<String>,
}

/// What a drain does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DrainPlan {
    /// How long TERM waits for the last allocation, in seconds.
    pub timeout_s: u64,
    /// Where new clients are sent.
    pub alternates: Arc<[turn::Alternate]>,
}

/// Reads, checks and merges everything that configures the server.
pub fn load(inputs: &Inputs) -> Result<Loaded, Fault> {
    let (file, origins) = layers::load(inputs)?;
    Ok(Loaded { file, origins })
}

/// Reads one TOML text as the file of that name would be; nothing else counts and nothing is opened.
pub fn load_text(name: &Path, text: &str) -> Result<Loaded, Fault> {
    let (file, origins) = layers::load_text(name, text)?;
    Ok(Loaded { file, origins })
}

/// Reads coturn's command line, and the file it names or coturn would find; the environment wins.
pub fn load_coturn(arguments: &[String], env: &[(OsString, OsString)]) -> Result<Loaded, Fault> {
    let translation = coturn::command_line(arguments, &coturn::Reader::default())?;
    let (file, origins) = layers::load_translation(translation, env)?;
    Ok(Loaded { file, origins })
}

/// Translates a file of coturn's into TOML, which is then read like any other.
pub fn import(path: &Path, reader: &coturn::Reader) -> Result<coturn::Import, Fault> {
    let mut translation = coturn::file(path, reader)?;
    let (notes, refusals) = (std::mem::take(&mut translation.notes), std::mem::take(&mut translation.refusals));
    let loaded = load_text(Path::new("turnpike.toml"), &translation.toml);
    Ok(coturn::Import { toml: std::mem::take(&mut *translation.toml), notes, refusals, loaded })
}

impl From<File> for Loaded {
    fn from(file: File) -> Self {
        Loaded { file, origins: Origins::default() }
    }
}

impl Loaded {
    /// Judges the configuration on this machine and builds what the floors need.
    pub fn plan(&self, host: &Host) -> Result<Plan, Fault> {
        let realm = self.realm(host);
        self.judge_anonymous()?;
        let listen = self.listeners(host)?;
        let identity = Identity::read(&self.file.tls, &self.origins)?;
        let tls = identity.as_ref().map(Identity::turn).transpose();
        let tls = tls.map_err(|error| self.origins.fault("tls.cert", format!("TLS can not be set up: {error}")))?;
        let accounts = Accounts::read(&self.file.auth, &self.origins)?;
        let drain = self.drain(&listen)?;
        let key = "auth.revocations_file";
        let revocations = revocations::place(key, &self.file.auth.revocations_file, &self.origins)?;
        if let Some(path) = &revocations {
            revocations::read(path).map_err(|fault| accounts::named_by(key, &self.origins, fault))?;
        }
        let engine = engine::Config {
            workers: self.workers(host)?,
            tls,
            relay: self.relay(),
            moderation_max: Duration::from_micros(self.file.relay.moderation_max.0),
            limits: engine::Limits {
                allocations: self.file.limits.allocations,
                allocations_per_user: self.file.limits.allocations_per_user,
                allocations_per_source: self.file.limits.allocations_per_source,
                bytes_per_second_total: self.file.limits.bytes_per_second_total,
            },
            log: LogChoice { allocations: self.file.log.allocations, permissions: self.file.log.permissions },
            turn: turn::Config {
                auth: self.credentials(&realm, &accounts)?,
                nonce: self.nonce(!accounts.secrets.is_empty())?,
                policy: self.policy(),
                limits: self.limits()?,
                channels: match self.file.relay.wide_channels {
                    true => ChannelRange::Rfc5766,
                    false => ChannelRange::Rfc8656,
                },
                realm: realm.as_str().into(),
            },
            listen,
        };
        let mut warnings = coturn::warnings(self.origins.notes());
        warnings.extend(warnings::warnings(self, host, &engine.listen, &accounts));
        let plane = self.plane(host, &realm, engine.workers, &accounts, identity.as_ref())?;
        let databases = coturn::files(self.origins.notes()).map(Path::to_owned);
        let files = changes::named_files(self).map(|(_, path)| path).chain(databases).collect();
        Ok(Plan { realm, engine, plane, identity, drain, revocations, files, warnings })
    }

    /// The realm: as configured, else the host's name.
    pub fn realm(&self, host: &Host) -> String {
        match self.file.realm.0.is_empty() {
            true => host.name.clone(),
            false => self.file.realm.0.clone(),
        }
    }

    /// Every socket to open.
    pub fn listeners(&self, host: &Host) -> Result<Vec<engine::Listen>, Fault> {
        listeners::listeners(&self.file, &self.origins, host)
    }

    /// The first address that is configured by name and is not one of this host's: what is to
    /// blame when an address can not be bound.
    pub fn foreign_address(&self, host: &Host) -> Option<Fault> {
        let foreign = listeners::foreign(&self.file, host)?;
        let own: Vec<String> = host.addresses.iter().map(ToString::to_string).collect();
        let what = format!("`{}`: {} is not an address of this host", foreign.key, foreign.ip);
        let fault = self.origins.fault_in(foreign.key, foreign.element, what);
        Some(fault.hint(format!("it has {}", own.join(", "))))
    }

    /// The shared secrets, those of `secret_file` last.
    pub fn secrets(&self) -> Result<Vec<Secret>, Fault> {
        accounts::secrets(&self.file.auth, &self.origins)
    }

    fn judge_anonymous(&self) -> Result<(), Fault> {
        if !self.file.auth.anonymous || self.file.auth.i_know_this_is_an_open_relay {
            return Ok(());
        }
        Err(self
            .origins
            .fault("auth.anonymous", "anonymous = true lets anyone relay through this server")
            .hint("if that is what you want, set i_know_this_is_an_open_relay = true as well"))
    }

    fn workers(&self, host: &Host) -> Result<usize, Fault> {
        match self.file.workers {
            0 => Ok(host.cores.clamp(1, WORKERS_MAX)),
            workers if workers <= WORKERS_MAX => Ok(workers),
            _ => Err(self.origins.fault("workers", format!("there can be at most {WORKERS_MAX} workers"))),
        }
    }

    /// What a drain does. A server that clients are sent to is another one.
    fn drain(&self, listen: &[engine::Listen]) -> Result<DrainPlan, Fault> {
        let (key, servers) = ("alternate_servers", &self.file.alternate_servers);
        if servers.len() > ALTERNATES_MAX {
            let what = format!("there are more than {ALTERNATES_MAX} alternate servers");
            return Err(self.origins.fault_in(key, ALTERNATES_MAX, what));
        }
        let is_public = |ip| self.file.relay.external.iter().any(|external| external.public == ip);
        let is_self = |addr: SocketAddr| {
            listen.iter().any(|own| own.addr == addr || own.addr.port() == addr.port() && is_public(addr.ip()))
        };
        if let Some(at) = servers.iter().position(|server| is_self(server.addr)) {
            let what = format!("`{key}`: {} is this server itself", servers[at].addr);
            return Err(self.origins.fault_in(key, at, what).hint("name other servers, or none"));
        }
        let alternate =
            |server: &address::AlternateServer| turn::Alternate { addr: server.addr, domain: server.domain.clone() };
        Ok(DrainPlan { timeout_s: self.file.drain_timeout.0, alternates: servers.iter().map(alternate).collect() })
    }

    fn relay(&self) -> engine::RelayConfig {
        let relay = &self.file.relay;
        let external = relay.external.iter();
        engine::RelayConfig {
            ports: relay.ports.0.clone(),
            addresses: relay.addresses.iter().map(|address| address.0).collect(),
            external: external.map(|e| engine::External { public: e.public, private: e.private }).collect(),
        }
    }

    fn credentials(&self, realm: &str, accounts: &Accounts) -> Result<turn::auth::Credentials, Fault> {
        let auth = &self.file.auth;
        if auth.max_ttl.0 == 0 {
            let what = "max_ttl = 0 would refuse every time-limited credential";
            return Err(self.origins.fault("auth.max_ttl", what));
        }
        let mut credentials = turn::auth::Credentials::new(realm);
        credentials.secrets =
            accounts.secrets.iter().map(|secret| turn::auth::Secret::new(secret.as_bytes())).collect();
        credentials.separator = auth.separator.0;
        credentials.max_ttl_s = auth.max_ttl.0;
        credentials.strict_expiry = auth.strict_expiry;
        credentials.anonymous = auth.anonymous;
        for (name, password) in &accounts.users {
            match password.md5_key() {
                Some(key) => credentials.add_user_md5_key(name.as_str(), key),
                None => credentials.add_user(name.as_str(), password.as_str()),
            }
        }
        Ok(credentials)
    }

    fn nonce(&self, has_secrets: bool) -> Result<nonce::Config, Fault> {
        if self.file.auth.username_anonymity && has_secrets {
            let what = "username_anonymity is for static users: the hash of a time-limited name tells nothing; \
                        remove it, or auth.secrets";
            return Err(self.origins.fault("auth.username_anonymity", what));
        }
        let lifetime = self.file.auth.nonce_lifetime;
        match u32::try_from(lifetime.0) {
            Ok(lifetime_s) if lifetime.0 >= NONCE_LIFETIME_MIN_S && lifetime_s <= nonce::LIFETIME_MAX_S => {
                let auth = &self.file.auth;
                let (rfc8489, anonymity) = (auth.rfc8489, auth.username_anonymity);
                Ok(nonce::Config { lifetime_s, rfc8489, anonymity, ..nonce::Config::default() })
            }
            _ => {
                let (min, max) = (Seconds(NONCE_LIFETIME_MIN_S), Seconds(nonce::LIFETIME_MAX_S.into()));
                Err(self.origins.fault("auth.nonce_lifetime", format!("nonce_lifetime is {min} to {max}")))
            }
        }
    }

    fn policy(&self) -> policy::PeerPolicy {
        let relay = &self.file.relay;
        policy::PeerPolicy {
            allow: relay.allow_peers.iter().map(|network| network.0).collect(),
            deny: relay.deny_peers.iter().map(|network| network.0).collect(),
            allow_loopback: relay.allow_loopback_peers,
            ..policy::PeerPolicy::default()
        }
    }

    fn limits(&self) -> Result<turn::Limits, Fault> {
        let limits = &self.file.limits;
        let lifetime_max_s = match u32::try_from(limits.lifetime_max.0) {
            Ok(0) => u32::MAX,
            Ok(seconds) if seconds >= turn::LIFETIME_DEFAULT_S => seconds,
            Ok(_) => {
                let min = Seconds(turn::LIFETIME_DEFAULT_S.into());
                let what = format!("lifetime_max is at least {min}, what a client gets that asks for nothing");
                return Err(self.origins.fault("limits.lifetime_max", what));
            }
            Err(_) => return Err(self.origins.fault("limits.lifetime_max", "lifetime_max is too long")),
        };
        Ok(turn::Limits {
            permissions_per_allocation: limits.permissions_per_allocation,
            channels_per_allocation: limits.channels_per_allocation,
            lifetime_max_s,
            bytes_per_second: limits.bytes_per_second,
            unverified_per_second: limits.unverified_per_second,
            session_max_s: self.file.auth.max_session.0,
        })
    }
}
