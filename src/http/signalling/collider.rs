//! Collider's HTTP form, in its own words.

use super::super::Shared;
use super::super::guard::{Caller, Problem};
use super::{hub, must_have_rooms, not_found};
use crate::rooms::{ClientId, RoomId};
use axum::Extension;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, State};
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// First words of paths that are no rooms on the root form.
const RESERVED: &[&str] = &[
    "join", "message", "leave", "bye", "r", "a", "ws", "status", "params", "turn", "v1", "v1alpha", "collider",
    "assets", "test", "api", "metrics", "healthz", "readyz",
];

type Body = Result<Bytes, BytesRejection>;

/// Any page may read these answers: they hold nothing but what the page sent.
fn plain(status: StatusCode, methods: &'static str, body: String) -> Response {
    let headers = [
        (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
        (header::ACCESS_CONTROL_ALLOW_METHODS, methods),
        (header::CONTENT_TYPE, "text/plain; charset=utf-8"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (status, headers, body).into_response()
}

/// `/status`: Collider's counters, by any method.
pub async fn status(State(shared): State<Arc<Shared>>) -> Result<Response, Problem> {
    must_have_rooms(&shared)?;
    let counts = shared.signalling.counts();
    let report = json!({
        "upsec": shared.started.elapsed().as_secs_f64(),
        "openws": counts.sockets,
        "totalws": counts.registrations_total,
        "wserrors": shared.signalling.ws_errors.load(Ordering::Relaxed),
        "httperrors": shared.signalling.http_errors.load(Ordering::Relaxed),
    });
    Ok(plain(StatusCode::OK, "GET", format!("{report}\n")))
}

/// `/collider/{room}/{client}`: where this server's own clients are sent.
pub async fn under_prefix(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    Path(path): Path<String>,
    method: Method,
    body: Body,
) -> Result<Response, Problem> {
    must_have_rooms(&shared)?;
    let names = path.split_once('/').and_then(|(room, client)| Some((RoomId::parse(room)?, ClientId::parse(client)?)));
    Ok(match names {
        Some((room, client)) => serve(&shared, &caller, (&room, &client), &method, body),
        None => refuse(&shared, StatusCode::INTERNAL_SERVER_ERROR, &format!("Invalid path: /{}", escaped(&path))),
    })
}

/// `/{room}/{client}`: where clients are sent that name this server as their Collider.
pub async fn at_root(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    Path((room, client)): Path<(String, String)>,
    method: Method,
    body: Body,
) -> Result<Response, Problem> {
    must_have_rooms(&shared)?;
    if RESERVED.contains(&room.as_str()) {
        return Err(not_found());
    }
    let room = RoomId::parse(&room).ok_or_else(not_found)?;
    let client = ClientId::parse(&client).ok_or_else(not_found)?;
    Ok(serve(&shared, &caller, (&room, &client), &method, body))
}

fn serve(
    shared: &Arc<Shared>,
    caller: &Caller,
    (room, client): (&RoomId, &ClientId),
    method: &Method,
    body: Body,
) -> Response {
    let text = match *method {
        Method::POST => match body {
            Ok(body) => body,
            Err(rejection) => return refuse(shared, rejection.status(), "Failed to read request body"),
        },
        Method::DELETE => {
            hub::act(shared, |rooms, _| rooms.delete(room, client));
            return plain(StatusCode::OK, "POST, DELETE", "OK\n".into());
        }
        _ => return plain(StatusCode::OK, "POST, DELETE", String::new()),
    };
    let source = hub::limited(&shared.live.load(), caller.ip);
    if shared.signalling.admit_as(source, room, client).is_err() {
        return refuse(shared, StatusCode::TOO_MANY_REQUESTS, "Too many clients from this address");
    }
    let failed =
        |why: &str| refuse(shared, StatusCode::INTERNAL_SERVER_ERROR, &format!("Failed to send the message: {why}"));
    match str::from_utf8(&text) {
        Ok("") => refuse(shared, StatusCode::INTERNAL_SERVER_ERROR, "Empty request body"),
        Ok(text) => match hub::act(shared, |rooms, now_ms| rooms.post(now_ms, room, client, text)) {
            Ok(()) => plain(StatusCode::OK, "POST, DELETE", "OK\n".into()),
            Err(refusal) => failed(&refusal.to_string()),
        },
        Err(_) => failed("Message is not UTF-8"),
    }
}

fn refuse(shared: &Shared, status: StatusCode, text: &str) -> Response {
    shared.signalling.http_errors.fetch_add(1, Ordering::Relaxed);
    plain(status, "POST, DELETE", format!("{text}\n"))
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&#34;").replace('\'', "&#39;")
}
