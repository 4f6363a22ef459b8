//! Rooms on the wire: AppRTC's room server and Collider.
//!
//! The answers are those that AppRTC's own clients know, field by field. Hosts named in a
//! request (`wshpp`, `ts`) are told to the client that named them and never dialled.

mod collider;
mod hub;
mod params;
mod socket;

pub use hub::Hub;
pub use params::page_params;

use super::guard::{Caller, Problem};
use super::{Routes, Shared};
use crate::rooms::{ClientId, Limits, Occupancy, Refusal, RoomId};
use axum::Extension;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use serde_json::{Value, json};
use std::sync::Arc;

/// Bytes of the longest body.
const BODY_BYTES_MAX: usize = 64 << 10;
/// How often a fresh client id is drawn before giving up: each draw is one in 10⁸.
const DRAWS_MAX: usize = 4;

/// The parameters of a URL, decoded, in their order.
type Parameters = Vec<(String, String)>;

/// `/join`, `/message`, `/leave`, `/bye`, `/params`, `/a/`, `/ws`, `/status`, `/collider/…` and Collider's root form.
pub fn routes() -> Routes {
    Routes::new()
        .route("/join/{room}", post(join))
        .route("/message/{room}/{client}", post(message))
        .route("/leave/{room}/{client}", post(leave))
        .route("/bye/{room}/{client}", post(leave))
        .route("/params", get(params_alone))
        .route("/a/", post(analytics))
        .route("/ws", any(socket::upgrade))
        .route("/status", any(collider::status))
        .route("/collider/{*path}", any(collider::under_prefix))
        .route("/{room}/{client}", any(collider::at_root))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
}

/// How many are in a room of this name; nobody where rooms are off or the name is none.
pub fn occupancy(shared: &Shared, room: &str) -> Occupancy {
    let Some(room) = RoomId::parse(room) else { return Occupancy::default() };
    shared.signalling.occupancy(shared, &room)
}

/// Whether one more finds no seat in a room of this name.
pub fn is_full(shared: &Shared, room: &str) -> bool {
    occupancy(shared, room).is_full
}

/// Nothing here exists where rooms are off.
fn must_have_rooms(shared: &Shared) -> Result<Limits, Problem> {
    match &shared.live.load().rooms {
        Some(limits) => Ok(limits.clone()),
        None => Err(Problem::new(StatusCode::NOT_FOUND, "rooms_off", "rooms are off")),
    }
}

fn not_found() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "not_found", "there is no such page")
}

fn answer(value: &Value) -> Response {
    let kind = [(header::CONTENT_TYPE, "application/json; charset=utf-8"), (header::CACHE_CONTROL, "no-cache")];
    (kind, value.to_string()).into_response()
}

fn result(word: &str) -> Response {
    answer(&json!({ "result": word }))
}

fn body_problem(rejection: &BytesRejection) -> Problem {
    let status = rejection.status();
    match status {
        StatusCode::PAYLOAD_TOO_LARGE => Problem::new(status, "too_large", "a message is 64 KiB at most"),
        _ => Problem::new(status, "bad_request", "the body could not be read"),
    }
}

async fn join(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    Path(room): Path<String>,
    Query(query): Query<Parameters>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    must_have_rooms(&shared)?;
    let room = RoomId::parse(&room).ok_or_else(not_found)?;
    shared.signalling.admit(hub::limited(&shared.live.load(), caller.ip)).map_err(|wait| {
        let detail = "too many joins from this address; wait a little";
        Problem::too_many(wait, detail)
    })?;
    let is_loopback_room = params::value(&query, "debug") == Some("loopback");
    let (client, joined) = match seat(&shared, &room, is_loopback_room)? {
        Ok(seated) => seated,
        Err(Refusal::RoomFull) => return Ok(answer(&json!({ "result": "FULL", "params": { "messages": [] } }))),
        Err(refusal) => {
            let body = json!({ "result": "ERROR", "error": refusal.to_string(), "params": { "messages": [] } });
            return Ok((StatusCode::SERVICE_UNAVAILABLE, answer(&body)).into_response());
        }
    };
    let asked = params::Asked { caller: &caller, query: &query, user_agent: params::user_agent(&headers) };
    let mut params = params::of_room(&shared.live.load(), &asked, room.as_str());
    params.insert("client_id".into(), client.as_str().into());
    params.insert("is_initiator".into(), joined.is_initiator.to_string().into());
    params.insert("messages".into(), joined.messages.iter().map(|message| Value::from(&**message)).collect());
    Ok(answer(&json!({ "result": "SUCCESS", "params": params })))
}

type Seated = (ClientId, crate::rooms::Joined);

/// Joins by a name that nobody in the room has.
fn seat(shared: &Arc<Shared>, room: &RoomId, loopback: bool) -> Result<Result<Seated, Refusal>, Problem> {
    for _ in 0..DRAWS_MAX {
        let client = draw_client().ok_or_else(|| {
            let detail = "the system gives no random numbers";
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail)
        })?;
        let joined = hub::act(shared, |rooms, now_ms| rooms.join(now_ms, room, client.clone(), loopback));
        if joined != Err(Refusal::ClientTaken) {
            return Ok(joined.map(|joined| (client, joined)));
        }
    }
    Ok(Err(Refusal::ClientTaken))
}

/// Eight random decimal digits.
fn draw_client() -> Option<ClientId> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).ok()?;
    ClientId::parse(&format!("{:08}", u64::from_le_bytes(bytes) % 100_000_000))
}

async fn message(
    State(shared): State<Arc<Shared>>,
    Path((room, client)): Path<(String, String)>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    must_have_rooms(&shared)?;
    let room = RoomId::parse(&room).ok_or_else(not_found)?;
    let client = ClientId::parse(&client).ok_or_else(not_found)?;
    let body = body.map_err(|rejection| body_problem(&rejection))?;
    let Ok(text) = str::from_utf8(&body) else { return Ok(result("ERROR")) };
    if text.is_empty() {
        return Ok(result("ERROR"));
    }
    match hub::act(&shared, |rooms, now_ms| rooms.message(now_ms, &room, &client, text)) {
        Ok(()) => Ok(result("SUCCESS")),
        Err(Refusal::UnknownRoom) => Ok(result("UNKNOWN_ROOM")),
        Err(Refusal::UnknownClient) => Ok(result("UNKNOWN_CLIENT")),
        Err(refusal) => {
            let status = match refusal {
                Refusal::MessageTooLong => StatusCode::PAYLOAD_TOO_LARGE,
                _ => StatusCode::INTERNAL_SERVER_ERROR,
            };
            let body = json!({ "result": "ERROR", "error": refusal.to_string() });
            Ok((status, answer(&body)).into_response())
        }
    }
}

/// Empty whatever happened, as clients expect it on their way out.
async fn leave(
    State(shared): State<Arc<Shared>>,
    Path((room, client)): Path<(String, String)>,
) -> Result<Response, Problem> {
    must_have_rooms(&shared)?;
    let room = RoomId::parse(&room).ok_or_else(not_found)?;
    let client = ClientId::parse(&client).ok_or_else(not_found)?;
    hub::act(&shared, |rooms, now_ms| rooms.leave(now_ms, &room, &client));
    Ok(([(header::CACHE_CONTROL, "no-cache")], ()).into_response())
}

async fn params_alone(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    Query(query): Query<Parameters>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    must_have_rooms(&shared)?;
    let asked = params::Asked { caller: &caller, query: &query, user_agent: params::user_agent(&headers) };
    Ok(answer(&params::alone(&shared.live.load(), &asked).into()))
}

/// Takes what AppRTC's clients report about their calls, and keeps none of it.
async fn analytics(
    State(shared): State<Arc<Shared>>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    must_have_rooms(&shared)?;
    let body = body.map_err(|rejection| body_problem(&rejection))?;
    let report: Value = super::json::read(&body).unwrap_or_default();
    let event = &report["event"];
    let is_type = event["event_type"].is_number() || event["event_type"].is_string();
    let is_time = |time: &Value| time.is_number();
    let is_valid = report["type"] == "event"
        && is_time(&report["request_time_ms"])
        && is_type
        && (event["event_time_ms"].is_null() || is_time(&event["event_time_ms"]));
    Ok(result(if is_valid { "SUCCESS" } else { "INVALID_REQUEST" }))
}
