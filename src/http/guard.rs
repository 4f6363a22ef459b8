//! What stands before every handler: who asks, from where, under which name; and how errors
//! are said.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use std::borrow::Cow;
use std::net::IpAddr;

/// Who asks; an extension of every request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The client's address: the connection's, or what a trusted proxy says. `None` on the
    /// unix socket.
    pub ip: Option<IpAddr>,
    /// `scheme://host[:port]` as the client typed it, or [`super::Live::public_url`].
    pub origin: String,
}

/// An error as the API says it (RFC 9457).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The HTTP status.
    pub status: u16,
    /// A stable word for programs: `unauthorized`, `not_found`.
    pub code: &'static str,
    /// A sentence for people: what is wrong and what to do.
    pub detail: Cow<'static, str>,
}

impl Problem {
    /// An error of this status.
    pub fn new(status: StatusCode, code: &'static str, detail: impl Into<Cow<'static, str>>) -> Self {
        Problem { status: status.as_u16(), code, detail: detail.into() }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let kind = [("content-type", "application/problem+json"), ("cache-control", "no-store")];
        (status, kind, Json(self)).into_response()
    }
}
