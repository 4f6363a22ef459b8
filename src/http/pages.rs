//! The web pages, embedded: landing, call, self-test and the console, with their assets.
//!
//! A file is found by its exact name in a table or it does not exist. No page has an inline
//! script or style; what a page is told stands in a data block that is never executed.

use super::guard::{Caller, Problem};
use super::{Routes, Shared, credentials, signalling};
use axum::Extension;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use rust_embed::RustEmbed;
use serde_json::{Value, json};
use std::fmt::Write;
use std::sync::Arc;

/// Bytes in a room's name.
const ROOM_NAME_MAX: usize = 64;
/// How long the self-test's token is good, in seconds.
const TEST_TOKEN_TTL_S: u64 = 600;
const ASSETS: &str = "/assets/";

/// What the public listener shows.
#[derive(RustEmbed)]
#[folder = "src/http/pages/public"]
struct Public;

/// What the admin listener shows.
#[derive(RustEmbed)]
#[folder = "src/http/pages/admin"]
struct Admin;

/// The landing page, the call page, the self-test, and their assets.
pub fn public() -> Routes {
    Routes::new()
        .route("/", get(landing))
        .route("/r/{room}", get(call))
        .route("/test", get(self_test))
        .route("/robots.txt", get(robots))
        .route("/favicon.ico", get(favicon::<Public>))
        .route("/assets/{name}", get(asset::<Public>))
}

/// The console and its assets.
pub fn admin() -> Routes {
    Routes::new()
        .route("/", get(console))
        .route("/favicon.ico", get(favicon::<Admin>))
        .route("/assets/{name}", get(asset::<Admin>))
}

async fn landing(State(shared): State<Arc<Shared>>) -> Response {
    let rooms = shared.live.load().rooms.is_some();
    page(StatusCode::OK, "index.html", &json!({ "rooms": rooms }))
}

async fn call(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    room: Result<Path<String>, PathRejection>,
    query: Result<Query<Vec<(String, String)>>, QueryRejection>,
) -> Response {
    let room = match room {
        Ok(Path(room)) if is_room_name(&room) && shared.live.load().rooms.is_some() => room,
        _ => return page(StatusCode::NOT_FOUND, "missing.html", &Value::Null),
    };
    let query = query.map(|Query(query)| query).unwrap_or_default();
    // Whoever tries the way to the relay alone takes no seat.
    let alone = query.iter().any(|(key, value)| key == "debug" && value == "loopback");
    if !alone && signalling::is_full(&shared, &room) {
        return page(StatusCode::OK, "full.html", &Value::Null);
    }
    let params = signalling::page_params(&shared, &caller, Some(&room), &query);
    page_of_room("call.html", &room, &params)
}

async fn self_test(State(shared): State<Arc<Shared>>) -> Response {
    let live = shared.live.load();
    // Where strangers may open no room they may not test the relay either: `?key=` does.
    let is_public = live.rooms.is_some() || live.open;
    let token = || credentials::room_token(&live, "", TEST_TOKEN_TTL_S, credentials::now_unix_s());
    page(StatusCode::OK, "test.html", &json!({ "key": is_public.then(token) }))
}

async fn console(headers: HeaderMap) -> Response {
    file::<Admin>("index.html", &headers).unwrap_or_else(no_such_file)
}

async fn robots() -> &'static str {
    "User-agent: *\nAllow: /$\nDisallow: /\n"
}

async fn favicon<F: RustEmbed>(headers: HeaderMap) -> Response {
    file::<F>("icon.svg", &headers).unwrap_or_else(no_such_file)
}

/// Looks the name up as it was sent: nothing is decoded, so nothing can be smuggled in.
async fn asset<F: RustEmbed>(uri: Uri, headers: HeaderMap) -> Response {
    let name = uri.path().strip_prefix(ASSETS).unwrap_or_default();
    let is_page = name.ends_with(".html");
    let found = if is_page { None } else { file::<F>(name, &headers) };
    found.unwrap_or_else(no_such_file)
}

fn no_such_file() -> Response {
    Problem::new(StatusCode::NOT_FOUND, "not_found", "there is no such file").into_response()
}

/// Whether this names a room: 1 to 64 letters, digits, `-` and `_`.
fn is_room_name(text: &str) -> bool {
    (1..=ROOM_NAME_MAX).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
}

/// A file of the table, or the word that the browser's copy is good. It asks again each time:
/// modules of two versions never meet.
fn file<F: RustEmbed>(name: &str, headers: &HeaderMap) -> Option<Response> {
    // In debug builds the files are read from disk, so the name is held to the table here.
    let found = F::iter().find(|known| known == name).and_then(|known| F::get(&known))?;
    let mut tag = String::from("\"");
    for byte in &found.metadata.sha256_hash()[..12] {
        let _ = write!(tag, "{byte:02x}");
    }
    tag.push('"');
    let known = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let fresh = known.flat_map(|value| value.split(',')).any(|value| value.trim().trim_start_matches("W/") == tag);
    let kept = [(header::ETAG, tag), (header::CACHE_CONTROL, "no-cache".to_owned())];
    if fresh {
        return Some((StatusCode::NOT_MODIFIED, kept).into_response());
    }
    let kind = [(header::CONTENT_TYPE, content_type(name))];
    Some((kept, kind, found.data).into_response())
}

fn content_type(name: &str) -> &'static str {
    match name.rsplit_once('.').map(|(_, ending)| ending) {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("json") => "application/json",
        _ => "application/octet-stream",
    }
}

/// A public page with what it is told.
fn page(status: StatusCode, name: &str, told: &Value) -> Response {
    let Some(text) = source(name) else { return StatusCode::NOT_FOUND.into_response() };
    html(status, text.replace("{{told}}", &data_block(told)))
}

/// A page about a room. AppRTC's own checks look for `roomId: 'NAME'` in it.
fn page_of_room(name: &str, room: &str, told: &Value) -> Response {
    let Some(text) = source(name) else { return StatusCode::NOT_FOUND.into_response() };
    html(StatusCode::OK, text.replace("{{room}}", room).replace("{{told}}", &data_block(told)))
}

fn source(name: &str) -> Option<String> {
    String::from_utf8(Public::get(name)?.data.into_owned()).ok()
}

/// A page holds a token or the state of a room, so nobody keeps a copy of it.
fn html(status: StatusCode, text: String) -> Response {
    let kind = [(header::CONTENT_TYPE, content_type(".html")), (header::CACHE_CONTROL, "no-store")];
    (status, kind, text).into_response()
}

/// JSON that no HTML parser takes for anything but text.
fn data_block(told: &Value) -> String {
    let mut text = String::new();
    for c in told.to_string().chars() {
        match c {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                let _ = write!(text, "\\u{:04x}", u32::from(c));
            }
            plain => text.push(plain),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_data_block_cannot_be_left() {
        let told = json!({ "a": "</script><script>alert(1)</script>", "b": "<!--", "c": "&quot;\u{2028}" });
        let text = data_block(&told);
        assert!(!text.contains(['<', '>', '&', '\u{2028}']), "{text}");
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), told);
    }

    #[test]
    fn a_room_has_a_name_of_1_to_64_plain_characters() {
        for good in ["a", "123456789", "My-room_1", &"a".repeat(64)] {
            assert!(is_room_name(good), "{good}");
        }
        for bad in ["", "a b", "é", "a/b", "a.b", "<b>", "a\0", &"a".repeat(65)] {
            assert!(!is_room_name(bad), "{bad}");
        }
    }

    #[test]
    fn only_names_of_the_table_are_files() {
        let none = HeaderMap::new();
        assert!(file::<Public>("style.css", &none).is_some());
        for name in
            ["", "/style.css", "./style.css", "../public/style.css", "%2e%2e/style.css", "style.css\0", "STYLE.CSS"]
        {
            assert!(file::<Public>(name, &none).is_none(), "{name:?}");
        }
    }

    #[test]
    fn a_file_known_to_the_browser_is_not_sent_again() {
        let first = file::<Public>("style.css", &HeaderMap::new()).unwrap();
        assert_eq!(first.status(), StatusCode::OK);
        let mut known = HeaderMap::new();
        known.insert(header::IF_NONE_MATCH, first.headers()[header::ETAG].clone());
        assert_eq!(file::<Public>("style.css", &known).unwrap().status(), StatusCode::NOT_MODIFIED);
        known.insert(header::IF_NONE_MATCH, "\"other\"".parse().unwrap());
        assert_eq!(file::<Public>("style.css", &known).unwrap().status(), StatusCode::OK);
    }

    #[test]
    fn every_file_has_a_content_type() {
        for name in Public::iter().chain(Admin::iter()) {
            assert_ne!(content_type(&name), "application/octet-stream", "{name}");
        }
    }
}
