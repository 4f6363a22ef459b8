//! What the side plane needs, from `[http]`, `[rooms]` and `[metrics]`.

use super::document::read_limited;
use super::fault::Fault;
use super::host::Host;
use super::tls::Identity;
use super::value::Seconds;
use super::web::HttpAddress;
use super::{Accounts, Loaded, settings, uris};
use crate::engine::Listen;
use crate::http::{Bind, Certificate, Live, Mint, Network, Part};
use crate::rooms;
use crate::turn::auth::Secret;
use sha2::{Digest, Sha256};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

/// Shortest admin token, in bytes.
pub const TOKEN_LEN_MIN: usize = 16;
/// Most clients in one room.
pub const CLIENTS_PER_ROOM_MAX: usize = 64;
/// Longest message between clients, in bytes.
pub const MESSAGE_LEN_MAX: usize = 65_536;

/// A plane that is not bound yet.
#[derive(Clone)]
pub struct PlanePlan {
    /// Where it listens.
    pub binds: Vec<Bind>,
    /// Its unix socket.
    pub admin_socket: Option<PathBuf>,
    /// What a reload can change, without the URIs.
    live: Live,
    external: Vec<super::address::External>,
    uris: Vec<String>,
}

impl PlanePlan {
    /// What a reload can change; the URIs are those of these listeners unless set by hand.
    pub fn live(&self, listening: &[Listen]) -> Live {
        let mut live = self.live.clone();
        let derived = || uris::uris(listening, &self.external, &live.realm);
        live.uris = if self.uris.is_empty() { derived() } else { self.uris.clone() };
        live.test_uris = match self.uris.is_empty() {
            true => uris::of_every_family(listening, &self.external, &live.realm),
            false => self.uris.clone(),
        };
        live
    }
}

impl Loaded {
    /// What the side plane needs on this machine.
    pub(super) fn plane(
        &self,
        host: &Host,
        realm: &str,
        workers: usize,
        accounts: &Accounts,
        identity: Option<&Identity>,
    ) -> Result<PlanePlan, Fault> {
        let http = &self.file.http;
        if http.share_tls_port {
            let what = "share_tls_port is not available yet: give HTTPS a port of its own with http.listen";
            return Err(self.origins.fault("http.share_tls_port", what));
        }
        let certificate = identity.and_then(Identity::certificate);
        let mut binds = Vec::new();
        binds.extend(self.bind("http.listen", http.listen, Part::Public, ("http.tls", http.tls), identity)?);
        let admin_tls = ("http.admin_tls", http.admin_tls);
        binds.extend(self.bind("http.admin_listen", http.admin_listen, Part::Admin, admin_tls, identity)?);
        let admin_socket = match http.admin_socket.as_str() {
            "" => None,
            // Another server may have it: that one is reached there, this one by its address.
            "auto" => default_socket().filter(|path| UnixStream::connect(path).is_err()),
            path => Some(self.origins.path("http.admin_socket", path)),
        };
        Ok(PlanePlan {
            binds,
            admin_socket,
            external: self.file.relay.external.clone(),
            uris: http.uris.iter().map(ToString::to_string).collect(),
            live: Live {
                realm: realm.to_owned(),
                public_url: (!http.public_url.0.is_empty()).then(|| http.public_url.0.clone()),
                allowed_hosts: self.allowed_hosts(host, realm, certificate.as_ref()),
                cors_origins: http.cors_origins.iter().map(ToString::to_string).collect(),
                trusted_proxies: http.trusted_proxies.iter().map(|network| trusted(&network.0)).collect(),
                api_keys: http.api_keys.iter().map(|key| Sha256::digest(key.as_bytes()).into()).collect(),
                username_required: http.username_required,
                open: false,
                mint: self.mint(accounts)?,
                uris: Vec::new(),
                test_uris: Vec::new(),
                token_key: token_key(accounts),
                rooms: self.rooms()?,
                ice_servers: self.file.rooms.ice_servers.iter().map(|server| server.0.clone().into()).collect(),
                admin_token: self.admin_token()?,
                settings: settings::settings(self, realm, workers),
                certificate,
                coturn_names: self.file.metrics.coturn_names,
            },
        })
    }

    fn bind(
        &self,
        key: &str,
        address: HttpAddress,
        part: Part,
        (tls_key, tls): (&str, bool),
        identity: Option<&Identity>,
    ) -> Result<Option<Bind>, Fault> {
        let Some(addr) = address.0 else { return Ok(None) };
        let tls = match (tls, identity) {
            (false, _) => None,
            (true, Some(identity)) => {
                let config = identity.https();
                Some(config.map_err(|error| self.origins.fault(tls_key, format!("TLS can not be set up: {error}")))?)
            }
            (true, None) => {
                let fault = self.origins.fault(tls_key, format!("{key} needs a certificate for HTTPS"));
                return Err(fault.hint("name it with cert and key under [tls]"));
            }
        };
        Ok(Some(Bind { addr, part, tls }))
    }

    /// Names under which the plane may be asked: those that someone set, and the certificate's.
    fn allowed_hosts(&self, host: &Host, realm: &str, certificate: Option<&Certificate>) -> Vec<String> {
        let mut names: Vec<String> = self.file.http.allowed_hosts.iter().map(ToString::to_string).collect();
        names.extend([realm.to_ascii_lowercase(), host.name.to_ascii_lowercase()]);
        names.extend(certificate.into_iter().flat_map(|certificate| certificate.names.iter().cloned()));
        names.sort_unstable();
        names.dedup();
        names
    }

    fn mint(&self, accounts: &Accounts) -> Result<Option<Mint>, Fault> {
        let (ttl, max) = (self.file.http.credentials_ttl, self.file.auth.max_ttl);
        if ttl.0 == 0 || ttl > max && self.origins.is_set("http.credentials_ttl") {
            let what = format!("credentials_ttl is 1s to auth.max_ttl = {max}");
            return Err(self.origins.fault("http.credentials_ttl", what));
        }
        Ok(accounts.secrets.first().map(|secret| Mint {
            secret: Secret::new(secret.as_bytes()),
            separator: self.file.auth.separator.0,
            ttl_s: ttl.0.min(max.0),
            ttl_max_s: max.0,
        }))
    }

    fn rooms(&self) -> Result<Option<rooms::Limits>, Fault> {
        let rooms = &self.file.rooms;
        let fault = |key: &str, what: String| Err(self.origins.fault(key, what));
        if !(1..=CLIENTS_PER_ROOM_MAX).contains(&rooms.max_clients) {
            return fault("rooms.max_clients", format!("max_clients is 1 to {CLIENTS_PER_ROOM_MAX}"));
        }
        if !(1..=MESSAGE_LEN_MAX).contains(&rooms.message_len_max) {
            return fault("rooms.message_len_max", format!("message_len_max is 1 to {MESSAGE_LEN_MAX} bytes"));
        }
        if rooms.max_rooms == 0 || rooms.queue_len_max == 0 {
            let key = if rooms.max_rooms == 0 { "rooms.max_rooms" } else { "rooms.queue_len_max" };
            return fault(key, "this is at least 1; enabled = false turns rooms off".into());
        }
        if rooms.grace == Seconds(0) {
            return fault("rooms.grace", "grace is at least 1s: a phone that changes networks needs some".into());
        }
        Ok(rooms.enabled.then(|| rooms::Limits {
            clients_per_room: rooms.max_clients,
            rooms: rooms.max_rooms,
            queue_len: rooms.queue_len_max,
            message_bytes: rooms.message_len_max,
            grace_ms: rooms.grace.0 * 1000,
            ..rooms::Limits::default()
        }))
    }

    /// SHA-256 of the token.
    fn admin_token(&self) -> Result<Option<[u8; 32]>, Fault> {
        let (key, file) = ("http.admin_token_file", &self.file.http.admin_token_file);
        if file.is_empty() {
            return Ok(None);
        }
        let path = self.origins.path(key, file);
        let text = read_limited(&path).map_err(|error| {
            self.origins.fault(key, format!("{} can not be read: {error}", path.display())).hint("check the path")
        })?;
        let text = zeroize::Zeroizing::new(String::from_utf8_lossy(&text).into_owned());
        match token_line(&text) {
            Some(token) if token.len() >= TOKEN_LEN_MIN => Ok(Some(Sha256::digest(token.as_bytes()).into())),
            _ => Err(self
                .origins
                .fault(key, format!("{} holds no token of {TOKEN_LEN_MIN} bytes or more", path.display()))
                .hint(format!("`openssl rand -base64 24 > {}` makes one", path.display()))),
        }
    }
}

/// The token in the text of its file: the first line that is not blank or a comment.
pub fn token_line(text: &str) -> Option<&str> {
    text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'))
}

/// Where the admin socket is unless configured: the directory systemd made for the service,
/// else the user's, else the system's.
pub fn default_socket() -> Option<PathBuf> {
    let from = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let of_service = from("RUNTIME_DIRECTORY").unwrap_or_else(|| PathBuf::from("/run/turnpike"));
    match of_service.is_dir() {
        true => Some(of_service.join("admin.sock")),
        false => from("XDG_RUNTIME_DIR").filter(|path| path.is_dir()).map(|path| path.join("turnpike-admin.sock")),
    }
}

/// A key that another process with the same secret has too, so that what one signs another
/// believes.
fn token_key(accounts: &Accounts) -> [u8; 32] {
    let mut hash = Sha256::new_with_prefix(b"turnpike room token\0");
    match accounts.secrets.first() {
        Some(secret) => hash.update(secret.as_bytes()),
        None => {
            let mut random = [0; 32];
            // Without a secret no credentials are made, and a token is worth nothing.
            let _ = getrandom::fill(&mut random);
            hash.update(random);
        }
    }
    hash.finalize().into()
}

fn trusted(network: &crate::turn::policy::Cidr) -> Network {
    Network { ip: network.address(), prefix_len: network.prefix_len() }
}
