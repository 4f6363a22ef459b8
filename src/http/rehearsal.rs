//! One part of the plane without its thread, its listeners and its watch over the workers: it serves the streams that
//! its caller brings, as it would serve connections. For tests and fuzzers; the server has no use for it.

use super::caller::{Arrival, Source};
use super::server::{Limits, Site, requests};
use super::{Config, Part, Shared};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

/// A part of the plane with everything behind its listeners.
pub struct Rehearsal {
    site: Arc<Site>,
    /// Dropped with it, which ends what is still served.
    _stop: watch::Sender<bool>,
}

impl Rehearsal {
    /// A part with nobody in it. Where `config` would listen does not matter.
    pub fn new(config: Config, part: Part, change: impl FnOnce(&mut Limits)) -> Self {
        let mut limits = Limits::default();
        change(&mut limits);
        let (stop, stopped) = watch::channel(false);
        let shared = Arc::new(Shared::new(config.live, config.workers, config.control));
        Rehearsal { site: Site::new(part, shared, limits, stopped), _stop: stop }
    }

    /// Serves one connection from `from` to `local`, in the clear, to its end; at once where there is no place for it.
    /// What becomes of it after an upgrade is a task of the runtime that is entered.
    pub async fn serve<S>(&self, stream: S, from: SocketAddr, local: SocketAddr)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let ip = from.ip().to_canonical();
        let Some(seat) = self.site.connections.admit(Some(Source::of(ip)), Instant::now()) else { return };
        let arrival = Arrival { ip: Some(ip), local: Some(local), tls: false };
        requests(self.site.clone(), stream, arrival, seat).await;
    }
}
