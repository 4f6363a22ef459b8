//! Which scripts may call: the exact list of origins, never a reflection (the Fetch standard).

use super::Live;
use super::caller::{self, Caller};
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_METHOD, HOST, ORIGIN, VARY,
};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};

/// How long a browser may keep the answer to a preflight, in seconds.
const MAX_AGE_S: &str = "600";
/// First segments of the paths that listed origins may call. Collider's own routes answer
/// everyone by themselves, as that protocol has it.
const OPEN_TO_LISTED: &[&str] = &["turn", "v1alpha", "v1", "join", "message", "leave", "bye", "params", "a"];

/// Whether listed origins may call this path.
pub fn covers(path: &str) -> bool {
    OPEN_TO_LISTED.contains(&first_segment(path))
}

/// `a` of `/a/b`.
pub fn first_segment(path: &str) -> &str {
    path.split('/').nth(1).unwrap_or_default()
}

/// The answer to a preflight; `None` if the request is none.
pub fn preflight(method: &Method, headers: &HeaderMap) -> Option<Response> {
    let is_preflight = method == Method::OPTIONS
        && headers.contains_key(ORIGIN)
        && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD);
    // Whether the origin is listed is told by `Access-Control-Allow-Origin` alone.
    let allow = [
        (ACCESS_CONTROL_ALLOW_METHODS, "GET, POST, OPTIONS"),
        (ACCESS_CONTROL_ALLOW_HEADERS, "authorization, content-type"),
        (ACCESS_CONTROL_MAX_AGE, MAX_AGE_S),
    ];
    is_preflight.then(|| (StatusCode::NO_CONTENT, allow).into_response())
}

/// Lets a listed origin read the answer.
pub fn allow(live: &Live, origin: Option<&HeaderValue>, answer: &mut HeaderMap) {
    answer.append(VARY, HeaderValue::from_static("Origin"));
    if let Some(origin) = origin.filter(|origin| is_listed(live, origin)) {
        answer.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    }
}

/// Whether a script of this page may act here: there is no `Origin` (a native client), it is
/// the plane's own, or it is listed. Behind a proxy that nobody declared, the scheme may differ:
/// the same host and port are the same page.
pub fn is_origin_allowed(live: &Live, caller: &Caller, headers: &HeaderMap) -> bool {
    let mut origins = headers.get_all(ORIGIN).iter();
    let Some(origin) = origins.next() else { return true };
    if origins.next().is_some() {
        return false;
    }
    let Ok(text) = origin.to_str() else { return false };
    is_same_host(text, &caller.origin, headers) || is_listed(live, origin)
}

fn is_same_host(text: &str, own: &str, headers: &HeaderMap) -> bool {
    let authority = caller::authority(text);
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    let host = host.map(|host| host.strip_suffix(":443").or_else(|| host.strip_suffix(":80")).unwrap_or(host));
    let is = |name: Option<&str>| name.zip(authority).is_some_and(|(name, own)| name.eq_ignore_ascii_case(own));
    is(caller::authority(own)) || is(host)
}

/// `null` is the origin of anything in a sandbox and of every file: it is never listed.
fn is_listed(live: &Live, origin: &HeaderValue) -> bool {
    origin != "null" && live.cors_origins.iter().any(|listed| origin == listed.as_str())
}
