//! `/api/v1`: what the server does, as JSON, and the handles to steer it.
//!
//! What is read is read from counters and from pictures of the sessions that are some seconds old
//! at most; what steers goes to the workers at once. GET changes nothing.

mod listing;
mod revocations;
pub mod shapes;
pub mod views;

use super::admin::Admitted;
use super::guard::Problem;
use super::notices::Told;
use super::sessions::{ask, collect};
use super::{Routes, Shared, events};
use crate::bus::{Command, Reply, SessionId};
use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::routing::get;
use shapes::{
    Closed, DrainWanted, Draining, KickQuery, ProblemShape, ReloadedShape, RoomShape, SessionDetail, Sessions,
    SessionsQuery, SettingShape, Status,
};
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
/// Longest drain that may be asked for, in seconds: a week.
const DRAIN_TIMEOUT_MAX_S: u64 = 7 * 86_400;
/// Sessions that are ended at a time: their commands must not crowd out others.
const CLOSED_AT_A_TIME: usize = 128;

/// An answer in JSON.
type Answer<T> = Result<Json<T>, Problem>;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "turnpike admin API",
        description = "What the relay does, and the handles to steer it. Errors are `application/problem+json`: \
            401 without the token, 403 for one who may not ask without a token, 429 for one who was wrong too often.",
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
        .routes(routes!(revocations::list, revocations::revoke))
        .routes(routes!(revocations::restore))
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
    operation_id = "list_sessions",
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
        let detail = "`after` goes on in the order of ids; leave `sort` out";
        return Err(Problem::new(StatusCode::BAD_REQUEST, "after_and_sort", detail));
    }
    let filter = listing::Filter::new(&query)?;
    let picture = shared.watch.picture().await.ok_or_else(no_picture)?;
    Ok(Json(listing::page(&picture, &filter, limit, after, query.sort)))
}

/// One session, with its permissions and channels.
#[utoipa::path(
    get,
    path = "/api/v1/sessions/{id}",
    operation_id = "show_session",
    tag = "watch",
    params(("id" = String, Path, description = "The session's name", example = "0-12-3")),
    responses((status = 200, body = SessionDetail), (status = 404, body = ProblemShape))
)]
async fn detail(
    _: Admitted,
    State(shared): State<Arc<Shared>>,
    id: Result<Path<String>, PathRejection>,
) -> Answer<SessionDetail> {
    let id = session_id(&id.map_err(|_| no_session())?)?;
    let allocation = id.allocation;
    let detail = tell(&shared, id, |reply| Command::Session { id: allocation, reply }).await?.ok_or_else(no_session)?;
    let rates = shared.watch.latest().and_then(|picture| picture.find(id).and_then(|seen| seen.rates));
    Ok(Json(views::session_detail(detail, rates)))
}

/// Ends one session. Its client is not told; it finds out at its next request.
#[utoipa::path(
    delete,
    path = "/api/v1/sessions/{id}",
    operation_id = "end_session",
    tag = "steer",
    params(("id" = String, Path, description = "The session's name", example = "0-12-3")),
    responses((status = 204, description = "It has ended."), (status = 404, body = ProblemShape))
)]
async fn close(
    _: Admitted,
    State(shared): State<Arc<Shared>>,
    id: Result<Path<String>, PathRejection>,
) -> Result<StatusCode, Problem> {
    let id = session_id(&id.map_err(|_| no_session())?)?;
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
    operation_id = "end_sessions_of_user",
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

/// Takes no new allocation from now on. Those there are go on, and the server ends with the last.
#[utoipa::path(
    post,
    path = "/api/v1/drain",
    tag = "steer",
    request_body(content = Option<DrainWanted>, description = "Without a body there is no deadline."),
    responses((status = 202, body = Draining), (status = 400, body = ProblemShape))
)]
async fn drain(
    _: Admitted,
    State(shared): State<Arc<Shared>>,
    body: Bytes,
) -> Result<(StatusCode, Json<Draining>), Problem> {
    let wanted = match body.is_empty() {
        true => DrainWanted::default(),
        false => super::json::read(&body).map_err(|error| {
            let detail = format!("the body is not {{\"timeout\": seconds}}: {error}");
            Problem::new(StatusCode::BAD_REQUEST, "bad_request", detail)
        })?,
    };
    if wanted.timeout.is_some_and(|timeout| !(1..=DRAIN_TIMEOUT_MAX_S).contains(&timeout)) {
        let detail = format!("timeout is 1 to {DRAIN_TIMEOUT_MAX_S} seconds");
        return Err(Problem::new(StatusCode::BAD_REQUEST, "bad_timeout", detail));
    }
    let drain = shared.control.drain.clone();
    aside(move || drain(wanted.timeout)).await?;
    Ok((StatusCode::ACCEPTED, Json(views::draining(&shared))))
}

/// Takes new allocations again.
#[utoipa::path(
    delete,
    path = "/api/v1/drain",
    tag = "steer",
    responses(
        (status = 200, body = Draining),
        (status = 409, body = ProblemShape, description = "The server was told to end by a signal."),
    )
)]
async fn resume(_: Admitted, State(shared): State<Arc<Shared>>) -> Answer<Draining> {
    let resume = shared.control.resume.clone();
    match aside(move || resume()).await? {
        true => Ok(Json(views::draining(&shared))),
        false => {
            let detail = "the server was told to end by a signal (TERM): that can not be taken back";
            Err(Problem::new(StatusCode::CONFLICT, "terminating", detail))
        }
    }
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
    let reloaded = aside(move || reload()).await?;
    let reloaded =
        reloaded.map_err(|text| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "bad_configuration", text))?;
    Ok(Json(ReloadedShape { applied: reloaded.applied, needs_restart: reloaded.needs_restart }))
}

/// Rooms and who is in them.
#[utoipa::path(get, path = "/api/v1/rooms", operation_id = "list_rooms", tag = "watch", responses((status = 200, body = Vec<RoomShape>)))]
async fn rooms(_: Admitted, State(shared): State<Arc<Shared>>) -> Json<Vec<RoomShape>> {
    Json(views::rooms(&shared))
}

/// The configuration in force; secrets are hidden.
#[utoipa::path(get, path = "/api/v1/config", operation_id = "show_configuration", tag = "watch", responses((status = 200, body = Vec<SettingShape>)))]
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
#[utoipa::path(get, path = "/api/v1/notices", operation_id = "list_notices", tag = "watch", responses((status = 200, body = Vec<Told>)))]
async fn notices(_: Admitted, State(shared): State<Arc<Shared>>) -> Json<Vec<Told>> {
    Json(shared.watch.notices.lock().iter().map(|told| Told::clone(told)).collect())
}

/// Runs what may wait on a thread where nobody else waits for it.
async fn aside<T: Send + 'static>(task: impl FnOnce() -> T + Send + 'static) -> Result<T, Problem> {
    tokio::task::spawn_blocking(task).await.map_err(|error| {
        tracing::error!(%error, "a task of the admin part ended early");
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the task ended early; see the log")
    })
}

/// Tells the worker of a session and waits for its answer.
async fn tell<T: Send + 'static>(
    shared: &Shared,
    id: SessionId,
    command: impl FnOnce(Reply<T>) -> Command,
) -> Result<T, Problem> {
    let mailbox = shared.workers.mailboxes.get(usize::from(id.worker)).ok_or_else(no_session)?;
    match timeout(PATIENCE, ask(mailbox, command)).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(_)) | Err(_) => {
            let detail = format!("worker {} does not answer", id.worker);
            Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "worker_silent", detail))
        }
    }
}

fn session_id(text: &str) -> Result<SessionId, Problem> {
    text.parse().map_err(|_| no_session())
}

fn no_session() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "no_session", "there is no such session; it may have ended")
}

fn no_picture() -> Problem {
    let detail = "the workers do not show their sessions; look at /healthz";
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "no_picture", detail)
}

fn bad_query(rejection: QueryRejection) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "bad_query", rejection.body_text())
}
