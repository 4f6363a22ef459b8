//! Revocations over the API.

use super::aside;
use super::shapes::ProblemShape;
use crate::http::Shared;
use crate::http::admin::Admitted;
use crate::http::guard::Problem;
use crate::http::revocations::{IDS_LEN_MAX, Kept, Revoked, RevokedId, Unkept};
use crate::turn::auth::REVOCATIONS_MAX;
use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::ToSchema;

/// What to revoke.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Revoke)]
pub struct RevokeShape {
    /// A static user, the user id of time-limited credentials, or one whole username: one line of
    /// at most 763 bytes.
    #[schema(example = "alice")]
    id: String,
}

/// What became of it.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Revoked)]
pub struct RevokedShape {
    /// Who is revoked.
    #[schema(example = "alice")]
    id: String,
    /// How many sessions were ended.
    sessions_ended: u64,
    /// Whether more of them may end later, because a worker did not answer in time.
    partial: bool,
    /// `file`: it outlives the server; `memory`: it holds until the server ends.
    kept: Kept,
}

/// Who is revoked.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Revocations)]
pub struct RevocationsShape {
    /// The ids, in their order; 100000 at most.
    revocations: Vec<String>,
    /// `file`: they outlive the server; `memory`: they hold until the server ends.
    kept: Kept,
}

/// Refuses a user id from now on and ends its sessions. To do it again changes nothing.
#[utoipa::path(
    post,
    path = "/api/v1/revocations",
    tag = "steer",
    request_body = RevokeShape,
    responses(
        (status = 201, body = RevokedShape),
        (status = 200, body = RevokedShape, description = "It was revoked before."),
        (status = 400, body = ProblemShape),
        (status = 409, body = ProblemShape, description = "There are too many; nothing has changed."),
        (status = 500, body = ProblemShape, description = "It holds, but could not be written."),
    )
)]
pub async fn revoke(
    _: Admitted,
    State(shared): State<Arc<Shared>>,
    body: Bytes,
) -> Result<(StatusCode, Json<RevokedShape>), Problem> {
    let asked: RevokeShape = crate::http::json::read(&body).map_err(|error| {
        let detail = format!("the body is not {{\"id\": \"…\"}}: {error}");
        Problem::new(StatusCode::BAD_REQUEST, "bad_request", detail)
    })?;
    let id: RevokedId = asked.id.parse().map_err(bad_id)?;
    let (book, named) = (shared.control.revocations.clone(), id.clone());
    let revoked = aside(move || book.revoke(named)).await?.map_err(|unkept| not_revoked(&unkept, &id))?;
    let status = if revoked.is_new { StatusCode::CREATED } else { StatusCode::OK };
    let Revoked { sessions_ended, partial, kept, .. } = revoked;
    Ok((status, Json(RevokedShape { id: id.to_string(), sessions_ended, partial, kept })))
}

/// Who is revoked.
#[utoipa::path(
    get,
    path = "/api/v1/revocations",
    operation_id = "list_revocations",
    tag = "watch",
    responses((status = 200, body = RevocationsShape))
)]
pub async fn list(_: Admitted, State(shared): State<Arc<Shared>>) -> Json<RevocationsShape> {
    let (ids, kept) = shared.control.revocations.list();
    Json(RevocationsShape { revocations: ids.iter().map(ToString::to_string).collect(), kept })
}

/// Takes a user id again.
#[utoipa::path(
    delete,
    path = "/api/v1/revocations/{id}",
    tag = "steer",
    params(("id" = String, Path, description = "The id, percent-encoded", example = "alice")),
    responses(
        (status = 204, description = "It is not revoked any more."),
        (status = 404, body = ProblemShape),
        (status = 500, body = ProblemShape, description = "It holds, but could not be written."),
    )
)]
pub async fn restore(
    _: Admitted,
    State(shared): State<Arc<Shared>>,
    id: Result<Path<String>, PathRejection>,
) -> Result<StatusCode, Problem> {
    let not_there = || Problem::new(StatusCode::NOT_FOUND, "not_revoked", "this id is not revoked");
    let id: RevokedId = id.ok().and_then(|Path(id)| id.parse().ok()).ok_or_else(not_there)?;
    let (book, named) = (shared.control.revocations.clone(), id.clone());
    match aside(move || book.restore(&named)).await?.map_err(|unkept| not_restored(&unkept, &id))? {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(not_there()),
    }
}

/// Why someone is not revoked as it was asked for.
fn not_revoked(unkept: &Unkept, id: &RevokedId) -> Problem {
    match unkept {
        Unkept::Full => full(),
        Unkept::Unwritten(ended) => unwritten(format!(
            "{id} is revoked (sessions ended: {ended}), but auth.revocations_file could not be written: \
             this holds in memory only until it can; see the log"
        )),
    }
}

/// Why someone is not taken again as it was asked for.
fn not_restored(unkept: &Unkept, id: &RevokedId) -> Problem {
    match unkept {
        Unkept::Full => full(),
        Unkept::Unwritten(_) => unwritten(format!(
            "{id} is not revoked any more, but auth.revocations_file could not be written and still has it: \
             this holds in memory only until it can; see the log"
        )),
    }
}

fn full() -> Problem {
    let detail =
        format!("{REVOCATIONS_MAX} ids or {IDS_LEN_MAX} bytes of them are revoked already; take some off first");
    Problem::new(StatusCode::CONFLICT, "too_many_revocations", detail)
}

fn unwritten(detail: String) -> Problem {
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "not_kept", detail)
}

fn bad_id(what: String) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "bad_id", what)
}
