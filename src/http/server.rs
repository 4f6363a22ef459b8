//! The plane's thread: its listeners, its connections, and their limits.

use super::caller::{self, Arrival, Source};
use super::connections::{self, Busy, Connections, Seat};
use super::guard::{self, Gate};
use super::intake::{Deadlines, Intake};
use super::{Config, Part, Shared, admin, public, sessions, unix};
use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use axum::http::header::CONNECTION;
use axum::http::{HeaderValue, Request, Response, StatusCode};
use axum::middleware::from_fn_with_state;
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use socket2::{Domain, Socket, Type};
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

/// How long requests under way may take when the plane stops.
const GRACE: Duration = Duration::from_secs(1);
/// How long threads that wait for something may take after that.
const THREADS_GRACE: Duration = Duration::from_millis(500);
/// First and longest pause after a failed accept.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

/// How long whoever asks the admin part may take nothing of an answer: it is in the same building.
const ADMIN_STALLED_MAX: Duration = Duration::from_secs(5);
/// How often it is said that connections can not be accepted.
const WARN_EVERY: Duration = Duration::from_secs(10);
/// Connections that wait to be accepted.
const BACKLOG: i32 = 1024;

/// What a connection may cost.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections of one part.
    pub connections: connections::Limits,
    /// Requests on one connection; the last one's answer says that it is.
    pub requests_per_connection: u32,
    /// How long things may take.
    pub deadlines: Deadlines,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            connections: connections::Limits::default(),
            requests_per_connection: 1000,
            deadlines: Deadlines::default(),
        }
    }
}

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

    /// Closes every connection and ends the thread, within two seconds.
    pub fn stop(self) {
        // The thread that does not listen any more is gone already.
        let _ = self.stop.send(true);
        if self.thread.join().is_err() {
            tracing::error!("the side plane ended by a panic");
        }
    }

    /// As [`spawn`], with other limits: for tests that can not wait for the real ones.
    #[doc(hidden)]
    pub fn spawn_limited(config: Config, change: impl FnOnce(&mut Limits)) -> io::Result<Plane> {
        let mut limits = Limits::default();
        change(&mut limits);
        spawn_with(config, limits)
    }
}

/// Binds every address and starts the thread. An error names the address it is about.
pub fn spawn(config: Config) -> io::Result<Plane> {
    spawn_with(config, Limits::default())
}

fn spawn_with(config: Config, limits: Limits) -> io::Result<Plane> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // Sockets belong to the runtime that is entered.
    let entered = runtime.enter();
    let mut doors = Vec::new();
    for bind in &config.binds {
        let listener = listen(bind.addr)
            .map_err(|error| io::Error::new(error.kind(), format!("cannot listen on {}: {error}", bind.addr)))?;
        doors.push((listener, bind.part, bind.tls.clone().map(TlsAcceptor::from)));
    }
    let listening = doors
        .iter()
        .map(|(listener, part, tls)| Ok((*part, listener.local_addr()?, tls.is_some())))
        .collect::<io::Result<Vec<_>>>()?;
    let admin_socket = config.admin_socket.map(listen_unix).transpose()?;
    drop(entered);
    let shared = Arc::new(Shared::new(config.live, config.workers, config.control));
    let (stop, stopped) = watch::channel(false);
    let thread = std::thread::Builder::new().name("http".into()).spawn(move || {
        runtime.block_on(serve(shared, limits, doors, admin_socket, stopped));
        runtime.shutdown_timeout(THREADS_GRACE);
    })?;
    Ok(Plane { listening, stop, thread })
}

type Door = (TcpListener, Part, Option<TlsAcceptor>);

fn listen(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, None)?;
    // Takes an address whose last owner's connections are still dying.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

fn listen_unix(path: PathBuf) -> io::Result<(UnixListener, unix::Owned)> {
    let (listener, owned) = unix::bind(&path)
        .map_err(|error| io::Error::new(error.kind(), format!("cannot listen on {}: {error}", path.display())))?;
    listener.set_nonblocking(true)?;
    Ok((UnixListener::from_std(listener)?, owned))
}

/// One part, as its listeners serve it.
pub(super) struct Site {
    router: Router,
    shared: Arc<Shared>,
    pub(super) connections: Arc<Connections>,
    limits: Limits,
    stopped: watch::Receiver<bool>,
}

impl Site {
    pub(super) fn new(
        part: Part,
        shared: Arc<Shared>,
        mut limits: Limits,
        stopped: watch::Receiver<bool>,
    ) -> Arc<Self> {
        if part == Part::Admin {
            limits.deadlines.stalled = limits.deadlines.stalled.min(ADMIN_STALLED_MAX);
        }
        let gate = Gate { shared: shared.clone(), part, deadlines: limits.deadlines };
        let router = match part {
            Part::Public => public::routes(),
            Part::Admin => admin::routes(),
        }
        .method_not_allowed_fallback(guard::method_not_allowed)
        .fallback(guard::not_found)
        .with_state(shared.clone())
        .layer(from_fn_with_state(gate, guard::guard));
        let connections = Connections::new(limits.connections);
        Arc::new(Site { router, shared, connections, limits, stopped })
    }
}

async fn serve(
    shared: Arc<Shared>,
    limits: Limits,
    doors: Vec<Door>,
    admin_socket: Option<(UnixListener, unix::Owned)>,
    mut stopped: watch::Receiver<bool>,
) {
    sessions::start(&shared);
    let public = Site::new(Part::Public, shared.clone(), limits, stopped.clone());
    let admin = Site::new(Part::Admin, shared.clone(), limits, stopped.clone());
    let mut accepting = Vec::new();
    for (listener, part, tls) in doors {
        let site = if part == Part::Public { &public } else { &admin };
        accepting.push(tokio::spawn(accept(site.clone(), listener, tls)));
    }
    let owned = admin_socket.map(|(listener, owned)| {
        accepting.push(tokio::spawn(accept_unix(admin.clone(), listener)));
        owned
    });
    // An error is that nobody can stop the plane any more: then it has to end, too.
    let _ = stopped.wait_for(|stop| *stop).await;
    accepting.iter().for_each(|task| task.abort());
    drop(owned);
    let answered = async {
        while public.connections.requests() + admin.connections.requests() > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    // What goes on after that is a stream, and ends with the runtime as all connections do.
    let _ = tokio::time::timeout(GRACE, answered).await;
}

async fn accept(site: Arc<Site>, listener: TcpListener, tls: Option<TlsAcceptor>) {
    let mut trouble = Trouble::default();
    loop {
        let (stream, from) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                trouble.wait(&site, &error).await;
                continue;
            }
        };
        trouble.backoff = BACKOFF.0;
        let arrival =
            Arrival { ip: Some(from.ip().to_canonical()), local: stream.local_addr().ok(), tls: tls.is_some() };
        let ip = from.ip().to_canonical();
        let is_exempt = ip.is_loopback() || caller::is_trusted(&site.shared.live.load(), ip);
        let source = (!is_exempt).then(|| Source::of(ip));
        let Some(seat) = site.connections.admit(source, Instant::now()) else {
            tracing::debug!(client = %ip, "a connection was refused: too many are busy");
            continue;
        };
        let served_by = seat.served_by();
        let task = tokio::spawn(connection(site.clone(), stream, tls.clone(), arrival, seat));
        served_by(task.abort_handle());
    }
}

async fn accept_unix(site: Arc<Site>, listener: UnixListener) {
    let mut trouble = Trouble::default();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                trouble.backoff = BACKOFF.0;
                let arrival = Arrival { ip: None, local: None, tls: false };
                let Some(seat) = site.connections.admit(None, Instant::now()) else { continue };
                let served_by = seat.served_by();
                let task = tokio::spawn(requests(site.clone(), stream, arrival, seat));
                served_by(task.abort_handle());
            }
            Err(error) => trouble.wait(&site, &error).await,
        }
    }
}

/// A listener that could not accept.
struct Trouble {
    backoff: Duration,
    warned: Option<Instant>,
}

impl Default for Trouble {
    fn default() -> Self {
        Trouble { backoff: BACKOFF.0, warned: None }
    }
}

impl Trouble {
    /// When there are no files left, the connection that was idle longest gives up its own.
    /// When none is idle, waits a little, longer each time.
    async fn wait(&mut self, site: &Site, error: &io::Error) {
        use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
        if matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted) {
            return;
        }
        if self.warned.is_none_or(|warned| warned.elapsed() >= WARN_EVERY) {
            self.warned = Some(Instant::now());
            tracing::warn!(%error, "cannot accept connections; those that are idle longest are closed");
        }
        if site.connections.close_oldest() {
            // It is closed when its task is next looked at.
            return tokio::task::yield_now().await;
        }
        tokio::time::sleep(self.backoff).await;
        self.backoff = (self.backoff * 2).min(BACKOFF.1);
    }
}

async fn connection(site: Arc<Site>, stream: TcpStream, tls: Option<TlsAcceptor>, arrival: Arrival, seat: Seat) {
    // Answers are small and whole; an error here is one of the next write, too.
    let _ = stream.set_nodelay(true);
    let Some(tls) = tls else { return requests(site, stream, arrival, seat).await };
    match tokio::time::timeout(site.limits.deadlines.handshake, tls.accept(stream)).await {
        Ok(Ok(stream)) => requests(site, stream, arrival, seat).await,
        Ok(Err(error)) => tracing::debug!(%error, client = arrival.ip.map(tracing::field::display), "no TLS"),
        Err(_) => tracing::debug!(client = arrival.ip.map(tracing::field::display), "no TLS in time"),
    }
}

/// Answers the requests of one connection.
pub(super) async fn requests<S>(site: Arc<Site>, stream: S, arrival: Arrival, seat: Seat)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let bell = seat.bell();
    let intake = Intake::new(stream, seat, site.shared.clone(), site.limits.deadlines);
    let router = TowerToHyperService::new(site.router.clone());
    let left = AtomicU32::new(site.limits.requests_per_connection);
    let service = service_fn(move |mut request: Request<Incoming>| {
        let busy = bell.busy();
        request.extensions_mut().insert(arrival);
        let is_last = left.fetch_sub(1, Ordering::Relaxed) <= 1;
        let answer = router.call(request);
        async move { answer.await.map(|answer| finish(answer, busy, is_last)) }
    });
    let mut http = hyper::server::conn::http1::Builder::new();
    // The intake has the deadlines and limits of heads.
    http.timer(TokioTimer::new()).header_read_timeout(None);
    let mut served = pin!(http.serve_connection(TokioIo::new(intake), service).with_upgrades());
    let mut stopped = site.stopped.clone();
    let ended = tokio::select! {
        ended = &mut served => ended,
        () = async { drop(stopped.wait_for(|stop| *stop).await) } => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, client = arrival.ip.map(tracing::field::display), "connection ended");
    }
}

/// The connection is busy until the last byte of the answer is on its way.
fn finish(mut answer: Response<Body>, busy: Busy, is_last: bool) -> Response<Body> {
    if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
        busy.upgraded();
        return answer;
    }
    if is_last {
        answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    answer.map(|body| Body::new(Answer { body, _busy: busy }))
}

/// A body that keeps its connection busy.
struct Answer {
    body: Body,
    _busy: Busy,
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
