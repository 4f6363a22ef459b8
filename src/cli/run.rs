//! `turnpike run`: the daemon.

use super::serve::{Outcome, Service, Unstarted, plane_failure};
use super::{Configuration, Failure, host, log, service};
use crate::config::{Changes, Host, Identity, Loaded, coturn};
use crate::engine::Listen;
use crate::http::Part;
use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::time::{SystemTime, UNIX_EPOCH};

/// `turnpike run`.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  turnpike run -c /etc/turnpike.toml --set log.level=debug")]
pub struct Options {
    /// Where the configuration is.
    #[command(flatten)]
    pub configuration: Configuration,
}

/// Serves until INT or the end of a drain, such as TERM begins.
pub fn run(options: &Options) -> Result<(), Failure> {
    let passed = service::passed()?;
    let loaded = options.configuration.load()?;
    let _log = log::start(loaded.file.log.level, loaded.file.log.format);
    let host = host()?;
    let plan = loaded.plan(&host)?;
    let mut told = BTreeSet::new();
    warn(&plan.warnings, &mut told);
    let (realm, workers, ports) = (plan.realm.clone(), plan.engine.workers, plan.engine.relay.ports.clone());
    let mut changes = Changes::since(&loaded);
    let (inheritance, store) = passed.adopt(&plan.engine.listen, plan.engine.workers)?;
    let mut service = Service::start(plan, Vec::new(), false, inheritance).map_err(|error| match error {
        Unstarted::Relay(error) => unstarted(&loaded, &host, &error),
        Unstarted::Plane(error) => {
            plane_failure(&error, "change listen or admin_listen under [http], \"\" turns one off")
        }
    })?;
    // The core keeps keys; the passwords they were made from are no longer needed.
    drop(loaded);
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        realm,
        workers,
        listen = %listing(service.listening()),
        relay = %format_args!("{}-{}", ports.start(), ports.end()),
        http = %plane_listing(service.plane(), Part::Public),
        admin = %plane_listing(service.plane(), Part::Admin),
        "serving"
    );
    store.keep(service.take_kept());
    service::ready(&format!("serving: {}", listing(service.listening())));
    service.serve(|service| service::reloading(|| reload(service, options, &realm, &mut changes, &mut told)));
    Ok(())
}

/// Logs the warnings that the reading before did not have, and remembers them all.
fn warn(warnings: &[String], told: &mut BTreeSet<String>) {
    for warning in warnings.iter().filter(|&warning| !told.contains(warning)) {
        tracing::warn!("{warning}");
    }
    *told = warnings.iter().cloned().collect();
}

/// Reads the configuration again and puts in force what can be. The realm stays: every key is
/// made with it.
fn reload(
    service: &Service,
    options: &Options,
    realm: &str,
    changes: &mut Changes,
    told: &mut BTreeSet<String>,
) -> Outcome {
    let text = |failure: Failure| failure.to_string();
    let mut loaded = options.configuration.load().map_err(|fault| fault.to_string())?;
    if let Some(file) = changes.emptied(&loaded) {
        return Err(format!("the file is empty, as one is that is being written ({})", file.display()));
    }
    if let Some(what) = coturn::unread(loaded.origins.notes()) {
        return Err(what);
    }
    let (seen, reloaded) = changes.to(&loaded);
    loaded.file.realm = realm.parse()?;
    let level = loaded.file.log.level;
    let plan = loaded.plan(&host().map_err(text)?).map_err(|fault| fault.to_string())?;
    if has_expired(plan.identity.as_ref()) && !service.has_expired() {
        let fault = loaded.origins.fault("tls.cert", "the certificate has expired, and the one before has not");
        return Err(fault.hint("renew it; until then the one before is presented").to_string());
    }
    warn(&plan.warnings, told);
    super::log::set_level(level);
    service.follow(plan);
    *changes = seen;
    Ok(reloaded)
}

/// Whether the certificate of an identity is over.
pub(super) fn has_expired(identity: Option<&Identity>) -> bool {
    let certificate = identity.and_then(Identity::certificate);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    certificate.is_some_and(|certificate| certificate.not_after_unix_s <= now.as_secs())
}

/// Why the engine did not start. Any of it may be over at the next try, as an address that moves
/// between hosts comes to this one.
fn unstarted(loaded: &Loaded, host: &Host, error: &io::Error) -> Failure {
    if error.kind() == io::ErrorKind::AddrNotAvailable
        && let Some(fault) = loaded.foreign_address(host)
    {
        return Failure::Other(fault.to_string());
    }
    let advice = match error.kind() {
        io::ErrorKind::AddrInUse => "; another server has the port: stop it, or change [listen]",
        io::ErrorKind::PermissionDenied => {
            "; ports below 1024 need CAP_NET_BIND_SERVICE: choose others in [listen] or grant it"
        }
        _ => "",
    };
    Failure::Other(format!("the relay can not start: {error}{advice}"))
}

/// `udp 192.0.2.7:3478, tcp 192.0.2.7:3478`.
fn listing(listening: &[Listen]) -> String {
    let one = |listen: &Listen| format!("{} {}", listen.protocol.name(), listen.addr);
    listening.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// `http://127.0.0.1:8080`, or `off`.
fn plane_listing(plane: &[(Part, SocketAddr, bool)], part: Part) -> String {
    let of_part = plane.iter().filter(|(of, ..)| *of == part);
    let urls: Vec<String> = of_part.map(|(_, addr, tls)| url(*addr, *tls)).collect();
    if urls.is_empty() { "off".into() } else { urls.join(", ") }
}

/// `http://127.0.0.1:8080`.
pub(super) fn url(addr: SocketAddr, tls: bool) -> String {
    format!("{}://{addr}", if tls { "https" } else { "http" })
}
