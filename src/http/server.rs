//! The plane's thread: its listeners, its connections, and their limits.

use super::{Config, Part, Shared, admin, credentials, guard, metrics, public, sessions, signalling};
use axum::Router;
use axum::extract::Request;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use tokio::net::TcpListener;
use tokio::sync::watch;

/// A running plane.
#[derive(Debug)]
pub struct Plane {
    listening: Vec<(Part, SocketAddr, bool)>,
    stop: watch::Sender<bool>,
    thread: JoinHandle<()>,
}

impl Plane {
    /// Where it listens, with the ports that the kernel chose, and whether by TLS.
    pub fn listening(&self) -> &[(Part, SocketAddr, bool)] {
        &self.listening
    }

    /// Closes every connection and ends the thread.
    pub fn stop(self) {
        // The thread that does not listen any more is gone already.
        let _ = self.stop.send(true);
        if self.thread.join().is_err() {
            tracing::error!("the side plane ended by a panic");
        }
    }
}

/// Binds every address and starts the thread. An error names the address it is about.
pub fn spawn(config: Config) -> io::Result<Plane> {
    let mut listeners = Vec::new();
    for bind in &config.binds {
        let listener = std::net::TcpListener::bind(bind.addr)
            .map_err(|error| io::Error::new(error.kind(), format!("cannot listen on {}: {error}", bind.addr)))?;
        listener.set_nonblocking(true)?;
        listeners.push((listener, bind.clone()));
    }
    let listening = listeners
        .iter()
        .map(|(listener, bind)| Ok((bind.part, listener.local_addr()?, bind.tls.is_some())))
        .collect::<io::Result<Vec<_>>>()?;
    let shared = Arc::new(Shared {
        live: config.live,
        workers: config.workers,
        control: config.control,
        started: std::time::Instant::now(),
        signalling: signalling::Hub::default(),
        credentials: credentials::Desk::default(),
        watch: sessions::Watch::default(),
        counts: metrics::HttpCounts::default(),
    });
    let (stop, stopped) = watch::channel(false);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let thread = std::thread::Builder::new().name("http".into()).spawn(move || {
        runtime.block_on(async move {
            for (listener, bind) in listeners {
                let Ok(listener) = TcpListener::from_std(listener) else { continue };
                let router = match bind.part {
                    Part::Public => public::routes(),
                    Part::Admin => admin::routes(),
                }
                .with_state(shared.clone());
                tokio::spawn(accept(listener, router));
            }
            let mut stopped = stopped;
            let _ = stopped.wait_for(|stop| *stop).await;
        });
    })?;
    Ok(Plane { listening, stop, thread })
}

async fn accept(listener: TcpListener, router: Router) {
    while let Ok((stream, from)) = listener.accept().await {
        let router = router.clone().layer(axum::middleware::map_request(move |mut request: Request| async move {
            let host = request.headers().get("host").and_then(|host| host.to_str().ok()).unwrap_or("localhost");
            let origin = format!("http://{host}");
            request.extensions_mut().insert(guard::Caller { ip: Some(from.ip()), origin });
            request
        }));
        tokio::spawn(async move {
            let served = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
                .with_upgrades();
            if let Err(error) = served.await {
                tracing::debug!(%error, client = %from, "connection ended");
            }
        });
    }
}
