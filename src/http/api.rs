//! `/api/v1`: what the server does, as JSON, and the handles to steer it.
//!
//! What is read is read from counters and from pictures of the sessions that are some seconds old
//! at most; what steers goes to the workers at once. GET changes nothing.

pub mod shapes;
pub mod views;

use super::admin::Admitted;
use super::guard::Problem;
use super::notices::Told;
use super::sessions::{Picture, Seen, ask, collect};
use super::{Routes, Shared, events};
use crate::bus::{Command, Session, SessionId};
use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use shapes::{
    Closed, Draining, KickQuery, ProblemShape, ReloadedShape, RoomShape, SessionDetail, Sessions, SessionsQuery,
    SettingShape, Sort, Status,
};
use std::cmp::Reverse;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;
use utoipa::OpenApi;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// Sessions in a list unless asked otherwise.
const LIMIT_DEFAULT: usize = 200;
/// Sessions in a list at most.
const LIMIT_MAX: usize = 1000;
/// How long a worker may take to obey.
const PATIENCE: Duration = Duration::from_secs(2);
/// Sessions that are ended at a time: their commands must not crowd out others.
const CLOSED_AT_A_TIME: usize = 128;

/// An answer in JSON.
type Answer<T> = Result<Json<T>, Problem>;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "turnpike admin API",
        description = "What the relay does, and the handles to steer it. Errors are `application/problem+json`.",
    ),
    components(schemas(Told, shapes::Fastest, ProblemShape)),
    security(("token" = []), ()),
    tags(
        (name = "watch", description = "What the server does."),
        (name = "steer", description = "What it shall do."),
    )
)]
struct Document;

/// Every route of the API.
pub fn routes() -> Routes {
    let (routes, mut document) = OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(status))
        .routes(routes!(list, close_all))
        .routes(routes!(detail, close))
        .routes(routes!(drain, resume))
        .routes(routes!(reload))
        .routes(routes!(rooms))
        .routes(routes!(config))
        .routes(routes!(notices))
        .routes(routes!(events::events))
        .split_for_parts();
    document.info.version = env!("CARGO_PKG_VERSION").into();
    let token = HttpBuilder::new().scheme(HttpAuthScheme::Bearer);
    let token = token.description(Some("The token of http.admin_token_file. Not needed on the unix socket."));
    let components = document.components.get_or_insert_default();
    components.add_security_scheme("token", SecurityScheme::Http(token.build()));
    let document = Arc::new(document);
    let show = move |_: Admitted| async move { Json(document.as_ref().clone()) };
    routes.route("/api/v1/openapi.json", get(show)).layer(axum::middleware::map_response(not_stored))
}

/// Answers are of the moment and not for everyone.
async fn not_stored(mut answer: axum::response::Response) -> axum::response::Response {
    answer.headers_mut().insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
    answer
}

/// What the server does, in figures.
#[utoipa::path(get, path = "/api/v1/status", tag = "watch", responses((status = 200, body = Status)))]
async fn status(_: Admitted, State(shared): State<Arc<Shared>>) -> Json<Status> {
    Json(views::status(&shared))
}

/// Sessions, filtered, in the order of their ids page by page, or the first ones in another order.
#[utoipa::path(
    get,
    path = "/api/v1/sessions",
    tag = "watch",
    params(SessionsQuery),
    responses((status = 200, body = Sessions), (status = 400, body = ProblemShape))
)]
async fn list(
    _: Admitted,
    State(shared): State<Arc<Shared>>,
    query: Result<Query<SessionsQuery>, QueryRejection>,
) -> Answer<Sessions> {
    let Query(query) = query.map_err(bad_query)?;
    let limit = query.limit.unwrap_or(LIMIT_DEFAULT).min(LIMIT_MAX);
    let after = query.after.as_deref().map(session_id).transpose()?;
    if after.is_some() && query.sort.is_some() {
        let detail = "`after` goes on in the order of ids; leave `sort` out.";
        return Err(Problem::new(StatusCode::BAD_REQUEST, "after_and_sort", detail));
    }
    let filter = Filter::new(&query)?;
    let picture = shared.watch.picture().await.ok_or_else(no_picture)?;
    Ok(Json(page(&picture, &filter, limit, after, query.sort)))
}

fn page(picture: &Picture, filter: &Filter, limit: usize, after: Option<SessionId>, sort: Option<Sort>) -> Sessions {
    let mut matching: Vec<&Seen> = picture.sessions.iter().filter(|seen| filter.admits(&seen.session)).collect();
    let total = matching.len();
    match sort {
        None => matching.retain(|seen| after.is_none_or(|after| seen.session.id > after)),
        Some(Sort::Age) => matching.sort_by_key(|seen| Reverse(seen.session.age_ms)),
        Some(Sort::Bytes) => {
            matching.sort_by_key(|seen| Reverse(seen.volumes().iter().map(|volume| volume.bytes).sum::<u64>()));
        }
        Some(Sort::Rate) => {
            matching.sort_by_key(|seen| Reverse(seen.rates.map_or(0, |rates| rates.bytes_per_s() as u64)));
        }
    }
    let is_more = sort.is_none() && matching.len() > limit;
    matching.truncate(limit);
    let next = matching.last().filter(|_| is_more).map(|seen| seen.session.id.to_string());
    let sessions = matching.into_iter().map(views::session).collect();
    Sessions { sessions, total, next, partial: picture.is_partial }
}

/// Which sessions are asked for.
#[derive(Default)]
struct Filter {
    user: Option<String>,
    client: Option<Place>,
    transport: Option<String>,
    relayed: Option<Place>,
}

/// An address, with or without its port.
#[derive(Clone, Copy)]
enum Place {
    Ip(IpAddr),
    Socket(SocketAddr),
}

impl Place {
    fn parse(text: &str) -> Result<Self, Problem> {
        let socket = || text.parse().map(Place::Socket);
        text.parse().map(Place::Ip).or_else(|_| socket()).map_err(|_| {
            let detail = format!("`{text}` is neither an address nor an address and port.");
            Problem::new(StatusCode::BAD_REQUEST, "bad_address", detail)
        })
    }

    fn is(self, addr: SocketAddr) -> bool {
        match self {
            Place::Ip(ip) => addr.ip() == ip,
            Place::Socket(socket) => addr == socket,
        }
    }
}

impl Filter {
    fn new(query: &SessionsQuery) -> Result<Self, Problem> {
        let place = |text: &Option<String>| text.as_deref().map(Place::parse).transpose();
        Ok(Filter {
            user: query.user.clone(),
            client: place(&query.client)?,
            transport: query.transport.clone(),
            relayed: place(&query.relayed)?,
        })
    }

    fn admits(&self, session: &Session) -> bool {
        let account = &session.account;
        let is_user = |user: &String| *account.payer == **user || *account.username == *user.as_bytes();
        let is_relayed = |place: Place| session.relayed.iter().flatten().any(|relayed| place.is(relayed.0));
        self.user.as_ref().is_none_or(is_user)
            && self.client.is_none_or(|place| place.is(session.tuple.client.0))
            && self.transport.as_ref().is_none_or(|name| *name == session.tuple.transport.name())
            && self.relayed.is_none_or(is_relayed)
    }
}

/// One session, with its permissions and channels.
#[utoipa::path(
    get,
    path = "/api/v1/sessions/{id}",
    tag = "watch",
    params(("id" = String, Path, description = "The session's name", example = "0-12-3")),
    responses((status = 200, body = SessionDetail), (status = 404, body = ProblemShape))
)]
async fn detail(_: Admitted, State(shared): State<Arc<Shared>>, Path(id): Path<String>) -> Answer<SessionDetail> {
    let id = session_id(&id)?;
    let allocation = id.allocation;
    let detail = tell(&shared, id, |reply| Command::Session { id: allocation, reply }).await?.ok_or_else(no_session)?;
    let rates = shared.watch.latest().and_then(|picture| picture.find(id).and_then(|seen| seen.rates));
    Ok(Json(views::session_detail(detail, rates)))
}

/// Ends one session. Its client is not told; it finds out at its next request.
#[utoipa::path(
    delete,
    path = "/api/v1/sessions/{id}",
    tag = "steer",
    params(("id" = String, Path, description = "The session's name", example = "0-12-3")),
    responses((status = 204, description = "It has ended."), (status = 404, body = ProblemShape))
)]
async fn close(_: Admitted, State(shared): State<Arc<Shared>>, Path(id): Path<String>) -> Result<StatusCode, Problem> {
    let id = session_id(&id)?;
    let allocation = id.allocation;
    match tell(&shared, id, |reply| Command::Close { id: allocation, reply }).await? {
        true => {
            tracing::info!(session = %id, "ended by the operator");
            Ok(StatusCode::NO_CONTENT)
        }
        false => Err(no_session()),
    }
}

/// Ends every session of an account. One that begins meanwhile is not ended.
#[utoipa::path(
    delete,
    path = "/api/v1/sessions",
    tag = "steer",
    params(KickQuery),
    responses((status = 200, body = Closed), (status = 400, body = ProblemShape))
)]
async fn close_all(
    _: Admitted,
    State(shared): State<Arc<Shared>>,
    query: Result<Query<KickQuery>, QueryRejection>,
) -> Answer<Closed> {
    let Query(KickQuery { user }) = query.map_err(bad_query)?;
    let (sessions, mut partial) = collect(&shared.workers).await;
    let ids: Vec<SessionId> = sessions.iter().filter(|s| *s.account.payer == *user).map(|s| s.id).collect();
    let mut closed = 0;
    for ids in ids.chunks(CLOSED_AT_A_TIME) {
        let each = ids.iter().map(|&id| {
            let allocation = id.allocation;
            tell(&shared, id, move |reply| Command::Close { id: allocation, reply })
        });
        let answers = futures_util::future::join_all(each).await;
        closed += answers.iter().filter(|answer| matches!(answer, Ok(true))).count();
        if answers.iter().any(Result::is_err) {
            partial = true;
            break;
        }
    }
    tracing::info!(user, closed, "sessions ended by the operator");
    Ok(Json(Closed { closed, partial }))
}

/// Takes no new allocation from now on. Those there are go on.
#[utoipa::path(post, path = "/api/v1/drain", tag = "steer", responses((status = 202, body = Draining)))]
async fn drain(_: Admitted, State(shared): State<Arc<Shared>>) -> impl IntoResponse {
    (shared.control.drain)(true);
    (StatusCode::ACCEPTED, Json(Draining { draining: true }))
}

/// Takes new allocations again.
#[utoipa::path(delete, path = "/api/v1/drain", tag = "steer", responses((status = 200, body = Draining)))]
async fn resume(_: Admitted, State(shared): State<Arc<Shared>>) -> Json<Draining> {
    (shared.control.drain)(false);
    Json(Draining { draining: false })
}

/// Reads the configuration again and puts it in force. A faulty one changes nothing.
#[utoipa::path(
    post,
    path = "/api/v1/reload",
    tag = "steer",
    responses((status = 200, body = ReloadedShape), (status = 422, body = ProblemShape))
)]
async fn reload(_: Admitted, State(shared): State<Arc<Shared>>) -> Answer<ReloadedShape> {
    let reload = shared.control.reload.clone();
    let reloaded = tokio::task::spawn_blocking(move || reload()).await.map_err(|_| {
        let detail = "The reload ended early; see the log.";
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "reload", detail)
    })?;
    let reloaded = reloaded
        .map_err(|text| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "bad_configuration", text))?;
    Ok(Json(ReloadedShape { applied: reloaded.applied, needs_restart: reloaded.needs_restart }))
}

/// Rooms and who is in them.
#[utoipa::path(get, path = "/api/v1/rooms", tag = "watch", responses((status = 200, body = Vec<RoomShape>)))]
async fn rooms(_: Admitted, State(shared): State<Arc<Shared>>) -> Json<Vec<RoomShape>> {
    Json(views::rooms(&shared))
}

/// The configuration in force; secrets are hidden.
#[utoipa::path(get, path = "/api/v1/config", tag = "watch", responses((status = 200, body = Vec<SettingShape>)))]
async fn config(_: Admitted, State(shared): State<Arc<Shared>>) -> Json<Vec<SettingShape>> {
    let live = shared.live.load();
    let setting = |setting: &super::Setting| SettingShape {
        key: setting.key.clone(),
        value: setting.value.clone(),
        origin: setting.origin.clone(),
    };
    Json(live.settings.iter().map(setting).collect())
}

/// The last notices, 256 at most, the oldest first.
#[utoipa::path(get, path = "/api/v1/notices", tag = "watch", responses((status = 200, body = Vec<Told>)))]
async fn notices(_: Admitted, State(shared): State<Arc<Shared>>) -> Json<Vec<Told>> {
    Json(shared.watch.notices.lock().iter().map(|told| Told::clone(told)).collect())
}

/// Tells the worker of a session and waits for its answer.
async fn tell<T: Send + 'static>(
    shared: &Shared,
    id: SessionId,
    command: impl FnOnce(crate::bus::Reply<T>) -> Command,
) -> Result<T, Problem> {
    let mailbox = shared.workers.mailboxes.get(usize::from(id.worker)).ok_or_else(no_session)?;
    match timeout(PATIENCE, ask(mailbox, command)).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(_)) | Err(_) => {
            let detail = format!("Worker {} does not answer.", id.worker);
            Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "worker_silent", detail))
        }
    }
}

fn session_id(text: &str) -> Result<SessionId, Problem> {
    text.parse().map_err(|_| no_session())
}

fn no_session() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "no_session", "There is no such session; it may have ended.")
}

fn no_picture() -> Problem {
    let detail = "The workers do not show their sessions; try again, and look at /healthz.";
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "no_picture", detail)
}

fn bad_query(rejection: QueryRejection) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "bad_query", rejection.body_text())
}
