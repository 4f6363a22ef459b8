//! What stands before every handler: who asks, from where, under which name; and how errors
//! are said.

use super::caller::{Arrival, Source, host_name};
use super::intake::Deadlines;
use super::{Live, Part, Shared, body, cors};
use axum::Json;
use axum::extract::{MatchedPath, Request, State};
use axum::http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HOST, HeaderName, ORIGIN, RETRY_AFTER, TRANSFER_ENCODING,
    UPGRADE, WWW_AUTHENTICATE,
};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use subtle::ConstantTimeEq;

pub use super::caller::Caller;
pub use super::cors::is_origin_allowed;

/// Paths of the admin part that hold nothing to steal: orchestrators ask there by names of their own.
const NAMELESS_PATHS: [&str; 2] = ["/healthz", "/readyz"];

/// What every answer bears: scripts and styles of this server alone, in no foreign frame.
/// `connect-src 'self'` covers WebSockets of the same host and port.
pub const SECURITY_HEADERS: [(HeaderName, &str); 6] = [
    (
        HeaderName::from_static("content-security-policy"),
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:; \
         connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    ),
    (HeaderName::from_static("x-content-type-options"), "nosniff"),
    (HeaderName::from_static("referrer-policy"), "no-referrer"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (
        HeaderName::from_static("permissions-policy"),
        "camera=(self), microphone=(self), display-capture=(self), fullscreen=(self), geolocation=()",
    ),
];

/// An error as the API says it (RFC 9457).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The HTTP status.
    pub status: u16,
    /// A stable word for programs: `unauthorized`, `not_found`.
    pub code: &'static str,
    /// A sentence for people: what is wrong and what to do.
    pub detail: Cow<'static, str>,
    /// When to come again, in seconds from now.
    #[serde(skip)]
    retry_after_s: Option<u64>,
}

impl Problem {
    /// An error of this status.
    pub fn new(status: StatusCode, code: &'static str, detail: impl Into<Cow<'static, str>>) -> Self {
        Problem { status: status.as_u16(), code, detail: detail.into(), retry_after_s: None }
    }

    /// Too often; `wait` is how long until it is not.
    pub fn too_many(wait: Duration, detail: impl Into<Cow<'static, str>>) -> Self {
        let retry_after_s = Some(wait.as_secs() + u64::from(wait.subsec_nanos() > 0));
        Problem { retry_after_s, ..Problem::new(StatusCode::TOO_MANY_REQUESTS, "too_many_requests", detail) }
    }

    fn unauthorized(detail: &'static str) -> Self {
        Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", detail)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let kind = [(CONTENT_TYPE, "application/problem+json"), (CACHE_CONTROL, "no-store")];
        let retry_after = self.retry_after_s.map(|seconds| [(RETRY_AFTER, HeaderValue::from(seconds))]);
        let authenticate = (status == StatusCode::UNAUTHORIZED).then_some([(WWW_AUTHENTICATE, "Bearer")]);
        let mut response = (status, kind, Json(self)).into_response();
        response.headers_mut().extend(retry_after.into_iter().flatten());
        response
            .headers_mut()
            .extend(authenticate.into_iter().flatten().map(|(name, value)| (name, HeaderValue::from_static(value))));
        response
    }
}

/// Whether this is the token of the digest; in constant time.
pub fn same_token(given: &str, digest: &[u8; 32]) -> bool {
    Sha256::digest(given).as_slice().ct_eq(digest).into()
}

/// The token of `Authorization: Bearer TOKEN`.
pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

/// Whether `token` is one of those with these digests. A source that is wrong too often is locked
/// out for a while; to say nothing is not to be wrong.
pub fn authenticate(
    shared: &Shared,
    caller: &Caller,
    token: Option<&str>,
    digests: &[[u8; 32]],
) -> Result<(), Problem> {
    admit(shared, caller, || {
        let token = token.ok_or(Refused::Missing)?;
        // Each is compared, so that time does not tell which one came close.
        let found = digests.iter().fold(false, |found, digest| found | same_token(token, digest));
        if found { Ok(()) } else { Err(Refused::Wrong) }
    })
}

/// Why a token did not do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// There is none.
    Missing,
    /// It was right once.
    Stale,
    /// It is wrong.
    Wrong,
}

/// Runs a check of some token, unless the source was wrong too often lately.
pub fn admit<T>(shared: &Shared, caller: &Caller, check: impl FnOnce() -> Result<T, Refused>) -> Result<T, Problem> {
    let lockouts = &shared.credentials.lockouts;
    let source = caller.ip.map(Source::of);
    let now = Instant::now();
    if let Some(Err(wait)) = source.map(|source| lockouts.check(source, now)) {
        return Err(Problem::too_many(wait, "too many wrong tokens or keys came from this address; wait a little"));
    }
    // To be right does not make up for having been wrong: whoever has one token could guess another for ever.
    check().map_err(|refused| match refused {
        Refused::Missing => Problem::unauthorized("send the token as Authorization: Bearer TOKEN"),
        Refused::Stale => Problem::unauthorized("the time of the token is over"),
        Refused::Wrong => {
            if let Some(source) = source {
                lockouts.fail(source, now);
            }
            tracing::info!(client = caller.ip.map(tracing::field::display), "a wrong token or key was refused");
            Problem::unauthorized("the token or key is wrong")
        }
    })
}

/// What the guard of one part knows.
#[derive(Clone)]
pub struct Gate {
    /// All that the plane shares.
    pub shared: Arc<Shared>,
    /// Which part it stands before.
    pub part: Part,
    /// How long a body may take.
    pub deadlines: Deadlines,
}

/// Stands before every handler of a part.
pub async fn guard(State(gate): State<Gate>, request: Request, next: Next) -> Response {
    let live = gate.shared.live.load_full();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let origin = request.headers().get(ORIGIN).cloned();
    let has_cors = gate.part == Part::Public && cors::covers(request.uri().path());
    // What follows such a head on the connection was not looked at: nothing may follow.
    let is_last = request.headers().contains_key(UPGRADE) || request.headers().contains_key(TRANSFER_ENCODING);
    let mut response = match pass(&gate, &live, request, has_cors).await {
        Ok((request, None)) => next.run(request).await,
        Ok((_, Some(answer))) => answer,
        Err(problem) => problem.into_response(),
    };
    let status = response.status();
    let headers = response.headers_mut();
    for (name, value) in SECURITY_HEADERS {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    if has_cors {
        cors::allow(&live, origin.as_ref(), headers);
    }
    let is_cut = matches!(status, StatusCode::PAYLOAD_TOO_LARGE | StatusCode::REQUEST_TIMEOUT);
    if is_cut || is_last && status != StatusCode::SWITCHING_PROTOCOLS {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    gate.shared.counts.count(route.as_ref().map_or("other", MatchedPath::as_str), status.as_u16());
    response
}

/// The request as its handler gets it: with its caller, and its body complete. Or an answer
/// that needs no handler.
async fn pass(
    gate: &Gate,
    live: &Live,
    mut request: Request,
    has_cors: bool,
) -> Result<(Request, Option<Response>), Problem> {
    let Some(arrival) = request.extensions().get::<Arrival>().copied() else {
        return Err(Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the connection is not known"));
    };
    let (caller, host) = Caller::new(live, &arrival, request.headers());
    if arrival.ip.is_some() && !(gate.part == Part::Admin && NAMELESS_PATHS.contains(&request.uri().path())) {
        check_host(gate.part, live, &host, request.uri(), request.headers())?;
    }
    if has_cors && let Some(answer) = cors::preflight(request.method(), request.headers()) {
        return Ok((request, Some(answer)));
    }
    request.extensions_mut().insert(caller);
    Ok((body::complete(request, gate.deadlines).await?, None))
}

/// A name that leads here without being ours may be an attacker's, who rebinds it in the DNS to
/// reach what only this host can.
fn check_host(part: Part, live: &Live, host: &str, uri: &Uri, headers: &HeaderMap) -> Result<(), Problem> {
    let bad = |detail| Err(Problem::new(StatusCode::BAD_REQUEST, "bad_request", detail));
    if let (Some(authority), Some(host)) = (uri.authority(), headers.get(HOST))
        && !authority.as_str().as_bytes().eq_ignore_ascii_case(host.as_bytes())
    {
        return bad("the request line and Host name different hosts");
    }
    let Some(name) = host_name(host) else { return bad("Host is not a host and a port") };
    let is_own = || {
        let public = live.public_url.as_deref().and_then(super::caller::authority).and_then(host_name);
        part == Part::Public && public.is_some_and(|public| public.eq_ignore_ascii_case(name))
    };
    let is_listed = || live.allowed_hosts.iter().any(|host| host == name);
    if name == "localhost" || name.parse::<IpAddr>().is_ok() || is_listed() || is_own() {
        return Ok(());
    }
    let detail = match part {
        Part::Public => {
            format!("this server is not known as {name}: add it to http.allowed_hosts, or set http.public_url")
        }
        Part::Admin => format!("this server is not known as {name}: add it to http.allowed_hosts"),
    };
    Err(Problem::new(StatusCode::MISDIRECTED_REQUEST, "misdirected_request", detail))
}

/// What no route is for.
pub async fn not_found() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "not_found", "there is nothing at this path")
}

/// What the route is not for; `Allow` says what it is for.
pub async fn method_not_allowed() -> Problem {
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "this path does not take this method")
}
