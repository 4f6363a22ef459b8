//! `turnpike run`: the daemon.

use super::signals::StopSignals;
use super::{Configuration, Failure, host, log};
use crate::config::{Host, Loaded, Plan};
use crate::engine::{self, Listen};
use std::io;

/// `turnpike run`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  turnpike run -c /etc/turnpike.toml --set log.level=debug")]
pub struct Options {
    /// Where the configuration is.
    #[command(flatten)]
    pub configuration: Configuration,
}

/// Serves until TERM or INT.
pub fn run(options: &Options) -> Result<(), Failure> {
    let loaded = options.configuration.load()?;
    log::start(loaded.file.log.level, loaded.file.log.format);
    let host = host()?;
    let plan = loaded.plan(&host)?;
    for warning in &plan.warnings {
        tracing::warn!("{warning}");
    }
    serve(loaded, &host, plan)
}

fn serve(loaded: Loaded, host: &Host, plan: Plan) -> Result<(), Failure> {
    let mut signals = StopSignals::register()
        .map_err(|error| Failure::Other(format!("the signals can not be taken over: {error}")))?;
    let workers = plan.engine.workers;
    let ports = plan.engine.relay.ports.clone();
    let engine = engine::spawn(plan.engine).map_err(|error| unstarted(&loaded, host, &error))?;
    // The core keeps keys; the passwords they were made from are no longer needed.
    drop(loaded);
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        realm = plan.realm,
        workers,
        listen = %listing(engine.listening()),
        relay = %format_args!("{}-{}", ports.start(), ports.end()),
        "serving"
    );
    let signal = signals.wait();
    tracing::info!(signal, "stopping");
    engine.stop();
    tracing::info!("stopped");
    Ok(())
}

/// Why the engine did not start. An address this host does not have is the configuration's
/// fault; anything else may be over at the next try.
fn unstarted(loaded: &Loaded, host: &Host, error: &io::Error) -> Failure {
    if error.kind() == io::ErrorKind::AddrNotAvailable
        && let Some(fault) = loaded.foreign_address(host)
    {
        return fault.into();
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
pub(super) fn listing(listening: &[Listen]) -> String {
    let one = |listen: &Listen| format!("{} {}", listen.protocol.name(), listen.addr);
    listening.iter().map(one).collect::<Vec<_>>().join(", ")
}
