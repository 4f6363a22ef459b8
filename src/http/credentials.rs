//! Time-limited credentials for those who may have them (the TURN REST draft).
//!
//! Who may: the bearer of an API key; a page with a room token whose origin is ours or listed;
//! anyone in development. Never a stranger.

use super::caller::Source;
use super::guard::{self, Caller, Problem, Refused};
use super::lockout::{Lockouts, PerMinute};
use super::token::{Grant, NoGrant};
use super::{Live, Mint, Routes, Shared};
use crate::turn::auth::Caps;
use axum::extract::{Query, Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderMap};
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json};
use http_body_util::BodyExt;
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// Credentials a minute for one user of one API key.
pub const PER_USER_PER_MINUTE: NonZeroU32 = NonZeroU32::new(10).unwrap();
/// Credentials a minute for one source (/32, /56) that has no API key: an office behind one NAT.
pub const PER_SOURCE_PER_MINUTE: NonZeroU32 = NonZeroU32::new(30).unwrap();
/// Bytes of a user id.
pub const USER_LEN_MAX: usize = 128;
/// Most allocations that a credential can be capped at.
const ALLOCATIONS_CAP_MAX: u32 = 1_000_000;
/// Most bytes, and bytes a second: what a number of JavaScript can hold.
const BYTES_CAP_MAX: u64 = (1 << 53) - 1;
/// How long the credentials of a self-test are good, in seconds.
const TEST_TTL_S: u64 = 600;
/// How long a page may ask for credentials without joining again, in seconds.
const ROOM_TOKEN_TTL_S: u64 = 12 * 3600;
/// Whom the credentials of pages outside rooms belong to.
const PAGE_USER: &str = "page";
/// What may be asked in a query or a form, each once.
const PARAMETERS: [&str; 4] = ["service", "username", "key", "ttl"];

/// Who asked how often.
pub struct Desk {
    /// Who was wrong how often, here and at the admin part.
    pub lockouts: Lockouts,
    users: PerMinute<([u8; 32], String)>,
    sources: PerMinute<Source>,
}

impl Default for Desk {
    fn default() -> Self {
        Desk {
            lockouts: Lockouts::default(),
            users: PerMinute::new(PER_USER_PER_MINUTE),
            sources: PerMinute::new(PER_SOURCE_PER_MINUTE),
        }
    }
}

/// `/turn`, `/v1alpha/iceconfig`, `/v1/credentials`, `/v1/test`.
pub fn routes() -> Routes {
    Routes::new()
        .route("/turn", get(turn).post(turn))
        .route("/v1alpha/iceconfig", get(ice_config).post(ice_config).options(ice_config_options))
        .route("/v1/credentials", post(own))
        .route("/v1/test", get(test))
}

/// Lets the bearer ask for credentials for `ttl_s` seconds from `unix_s` on, as one of `room`;
/// an empty room is that of pages outside rooms.
pub fn room_token(live: &Live, room: &str, ttl_s: u64, unix_s: u64) -> String {
    Grant { room: room.into(), expires_unix_s: unix_s.saturating_add(ttl_s) }.sign(&live.token_key)
}

/// Where clients in a room ask for credentials: AppRTC's `ice_server_url`, with a token.
pub fn ice_server_url(live: &Live, origin: &str, room: &str) -> String {
    format!("{origin}/v1alpha/iceconfig?key={}", room_token(live, room, ROOM_TOKEN_TTL_S, now_unix_s()))
}

/// Seconds since 1970.
pub fn now_unix_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// By what someone may have credentials.
enum Right {
    /// An API key, by its digest.
    Key([u8; 32]),
    /// A token of a room.
    Room(String),
    /// Nothing is asked for.
    Open,
}

/// A credential as clients are told it.
struct Credential {
    username: String,
    password: String,
    ttl_s: u64,
    expires_unix_s: u64,
}

/// `/turn`: the TURN REST draft.
async fn turn(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Result<Response, Problem> {
    let live = shared.live.load_full();
    let headers = request.headers().clone();
    let asked = Asked::read(request).await?;
    if asked.service.as_deref().is_some_and(|service| service != "turn") {
        return Err(bad("service is turn, or not given"));
    }
    let right = right(&shared, &live, &caller, &headers, asked.key.as_deref())?;
    let user = match (asked.username, &right) {
        // Whom a room's credentials belong to is not the client's choice.
        (_, Right::Room(room)) => Some(room_user(room)),
        (user, _) => user,
    };
    if user.is_none() && live.username_required {
        // The words that clients of the first such services look for.
        let said = json!({ "error": "AppError", "message": "Must provide username." });
        return Ok(answer(said));
    }
    let credential = issue(&shared, &live, &caller, &right, Ask::of(user.as_deref(), asked.ttl_s))?;
    Ok(answer(json!({
        "username": credential.username,
        "password": credential.password,
        "ttl": credential.ttl_s,
        "uris": live.uris,
    })))
}

/// `/v1alpha/iceconfig`: as AppRTC's clients ask for it.
async fn ice_config(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Result<Response, Problem> {
    let live = shared.live.load_full();
    // Whatever the body and its type are: some clients send one, none means it.
    let asked = Asked::of_query(request.uri())?;
    let right = right(&shared, &live, &caller, request.headers(), asked.key.as_deref())?;
    if matches!(right, Right::Room(_) | Right::Open) && !live.ice_servers.is_empty() {
        return Ok(answer(json!({ "lifetimeDuration": "86400s", "iceServers": live.ice_servers })));
    }
    let user = match &right {
        Right::Room(room) => Some(room_user(room)),
        Right::Key(_) | Right::Open => asked.username,
    };
    let credential = issue(&shared, &live, &caller, &right, Ask::of(user.as_deref(), asked.ttl_s))?;
    Ok(answer(json!({
        "lifetimeDuration": format!("{}s", credential.ttl_s),
        "iceServers": ice_servers(&live, &credential),
    })))
}

async fn ice_config_options() -> Response {
    (StatusCode::NO_CONTENT, [("allow", "GET, HEAD, POST, OPTIONS")]).into_response()
}

/// What `/v1/credentials` is asked.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    user: String,
    ttl: Option<u64>,
    allocations: Option<u64>,
    bytes_per_second: Option<u64>,
    bytes: Option<u64>,
}

impl Wanted {
    /// What the credential may use. A name that holds caps can not be split at any separator.
    fn caps(&self, live: &Live) -> Result<Caps, Problem> {
        let in_range = |name: &str, cap: Option<u64>, max: u64| match cap {
            Some(cap) if !(1..=max).contains(&cap) => Err(bad(format!("{name} is 1 to {max}, or left out"))),
            cap => Ok(cap),
        };
        let allocations = in_range("allocations", self.allocations, ALLOCATIONS_CAP_MAX.into())?;
        let caps = Caps {
            allocations: allocations.and_then(|cap| u32::try_from(cap).ok()),
            bytes_per_second: in_range("bytes_per_second", self.bytes_per_second, BYTES_CAP_MAX)?,
            bytes: in_range("bytes", self.bytes, BYTES_CAP_MAX)?,
        };
        match live.mint.as_ref().map(|mint| mint.separator).filter(|&separator| !caps.can_stand_before(separator)) {
            None => Ok(caps),
            Some(separator) => {
                Err(bad(format!("caps can not be given while auth.separator is \"{separator}\": choose another one")))
            }
        }
    }
}

/// `/v1/credentials`: for the backends of applications.
async fn own(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Result<Response, Problem> {
    let live = shared.live.load_full();
    let right = match (guard::bearer(request.headers()), live.open) {
        (None, true) => Right::Open,
        (token, _) => {
            guard::authenticate(&shared, &caller, token, &live.api_keys)?;
            Right::Key(Sha256::digest(token.unwrap_or_default()).into())
        }
    };
    let body = body(request).await?;
    let wanted: Wanted = super::json::read(&body)
        .map_err(|error| bad(format!("the body is not {{\"user\": \"…\", \"ttl\": seconds}}: {error}")))?;
    let caps = wanted.caps(&live)?;
    let ask = Ask { caps, ..Ask::of(Some(&wanted.user), wanted.ttl) };
    let credential = issue(&shared, &live, &caller, &right, ask)?;
    let mut said = json!({
        "iceServers": ice_servers(&live, &credential),
        "ttl": credential.ttl_s,
        "expires": credential.expires_unix_s,
    });
    let given = [
        ("allocations", caps.allocations.map(u64::from)),
        ("bytes_per_second", caps.bytes_per_second),
        ("bytes", caps.bytes),
    ];
    for (name, cap) in given.into_iter().filter_map(|(name, cap)| Some((name, cap?))) {
        said[name] = cap.into();
    }
    Ok(answer(said))
}

/// `/v1/test`: every way to this server, and a credential to try them with.
async fn test(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Result<Response, Problem> {
    let live = shared.live.load_full();
    let asked = Asked::of_query(request.uri())?;
    let right = right(&shared, &live, &caller, request.headers(), asked.key.as_deref())?;
    let ttl_s = live.mint.as_ref().map_or(TEST_TTL_S, |mint| mint.ttl_max_s.min(TEST_TTL_S));
    let credential = issue(&shared, &live, &caller, &right, Ask::of(Some(PAGE_USER), Some(ttl_s)))?;
    let servers: Vec<Value> = live.test_uris.iter().filter_map(|uri| server(uri)).collect();
    Ok(answer(json!({
        "servers": servers,
        "username": credential.username,
        "credential": credential.password,
        "ttl": credential.ttl_s,
    })))
}

/// What is asked for in the query, and in a form.
#[derive(Debug, Default)]
struct Asked {
    service: Option<String>,
    username: Option<String>,
    key: Option<String>,
    ttl_s: Option<u64>,
    seen: Vec<String>,
}

impl Asked {
    async fn read(request: Request) -> Result<Asked, Problem> {
        let mut asked = Asked::of_query(request.uri())?;
        let kind = request.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let is_form = kind.split(';').next().is_some_and(|kind| kind.trim() == "application/x-www-form-urlencoded");
        if request.method() == Method::POST && is_form {
            let form = body(request).await?;
            let form = str::from_utf8(&form).ok().and_then(|form| format!("/?{form}").parse::<Uri>().ok());
            asked.add(&form.ok_or_else(|| bad("the form is not URL-encoded"))?)?;
        }
        Ok(asked)
    }

    fn of_query(uri: &Uri) -> Result<Asked, Problem> {
        let mut asked = Asked::default();
        asked.add(uri)?;
        Ok(asked)
    }

    /// Adds what the query of a URI says. What it says of other things is not for us.
    fn add(&mut self, uri: &Uri) -> Result<(), Problem> {
        let Query(pairs) =
            Query::<Vec<(String, String)>>::try_from_uri(uri).map_err(|_| bad("the query is not URL-encoded"))?;
        for (name, value) in pairs.into_iter().filter(|(name, _)| PARAMETERS.contains(&&**name)) {
            if self.seen.contains(&name) {
                return Err(bad(format!("{name} is given twice")));
            }
            // An empty value is none.
            let value = Some(value).filter(|value| !value.is_empty());
            match &*name {
                "service" => self.service = value,
                "username" => self.username = value,
                "key" => self.key = value,
                _ => {
                    self.ttl_s =
                        value.map(|ttl| ttl.parse().map_err(|_| bad("ttl is a number of seconds"))).transpose()?
                }
            }
            self.seen.push(name);
        }
        Ok(())
    }
}

/// By what right credentials are asked for here, if any.
fn right(
    shared: &Shared,
    live: &Live,
    caller: &Caller,
    headers: &HeaderMap,
    key: Option<&str>,
) -> Result<Right, Problem> {
    let Some(token) = guard::bearer(headers).or(key) else {
        return match live.open {
            true => Ok(Right::Open),
            false => Err(forbidden("credentials are given to those who have a key: send it as key=")),
        };
    };
    let granted = Grant::verify(token, &live.token_key, now_unix_s());
    // A token outlives its room when rooms are turned off, and is stale then.
    let granted = granted.and_then(|grant| match live.rooms.is_some() || live.open {
        true => Ok(grant),
        false => Err(NoGrant::Stale),
    });
    if let Ok(grant) = granted {
        return match guard::is_origin_allowed(live, caller, headers) {
            true => Ok(Right::Room(grant.room)),
            false => Err(forbidden("this page's origin is not listed in http.cors_origins")),
        };
    }
    let found = guard::admit(shared, caller, || {
        let is_key = live.api_keys.iter().fold(false, |found, digest| found | guard::same_token(token, digest));
        match granted {
            _ if is_key => Ok(Right::Key(Sha256::digest(token).into())),
            // In development pages of others ask too, with keys of their own.
            _ if live.open => Ok(Right::Open),
            Err(NoGrant::Stale) => Err(Refused::Stale),
            _ => Err(Refused::Wrong),
        }
    });
    found.map_err(|problem| match problem.status {
        401 => forbidden("the key is wrong, or its time is over"),
        _ => problem,
    })
}

/// The credential that is asked for.
struct Ask<'a> {
    /// Whom it is for.
    user: Option<&'a str>,
    /// For how long, in seconds.
    ttl_s: Option<u64>,
    /// What it may use.
    caps: Caps,
}

impl<'a> Ask<'a> {
    /// One without caps.
    fn of(user: Option<&'a str>, ttl_s: Option<u64>) -> Self {
        Ask { user, ttl_s, caps: Caps::default() }
    }
}

/// Makes a credential, if it is not one too many, and leaves a line about it.
fn issue(
    shared: &Shared,
    live: &Live,
    caller: &Caller,
    right: &Right,
    Ask { user, ttl_s, caps }: Ask<'_>,
) -> Result<Credential, Problem> {
    let Some(mint) = &live.mint else {
        let detail = "this server makes no credentials: set auth.secrets";
        return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "no_secret", detail));
    };
    let is_id = |user: &str| {
        let is_good = |b: u8| b.is_ascii_alphanumeric() || b"._@-".contains(&b);
        !user.is_empty() && user.len() <= USER_LEN_MAX && user.bytes().all(is_good)
    };
    if user.is_some_and(|user| !is_id(user)) {
        return Err(bad(format!("a user id is 1 to {USER_LEN_MAX} of A-Z a-z 0-9 . _ @ -")));
    }
    if user.is_some_and(|user| shared.control.revocations.is_revoked(user)) {
        return Err(Problem::new(StatusCode::FORBIDDEN, "revoked", "this user is revoked: no credential is given"));
    }
    let ttl_s = ttl_s.unwrap_or(mint.ttl_s);
    if ttl_s == 0 || ttl_s > mint.ttl_max_s {
        return Err(bad(format!("ttl is 1 to {} seconds (auth.max_ttl)", mint.ttl_max_s)));
    }
    let taken = match (right, caller.ip) {
        (Right::Key(key), _) => shared.credentials.users.take(&(*key, user.unwrap_or_default().into())),
        (Right::Room(_), Some(ip)) if !live.open => shared.credentials.sources.take(&Source::of(ip)),
        (Right::Room(_) | Right::Open, _) => Ok(()),
    };
    taken.map_err(|wait| Problem::too_many(wait, "too many credentials were asked for; wait a little"))?;
    let credential = mint.issue(user, caps, ttl_s, now_unix_s());
    tracing::info!(
        user = user.unwrap_or_default(),
        client = caller.ip.map(tracing::field::display),
        ttl_s,
        caps = (!caps.is_none()).then(|| tracing::field::display(caps)),
        "gave a credential"
    );
    Ok(credential)
}

impl Mint {
    /// `EXPIRY:USER`, or `EXPIRY` alone, with the caps behind the expiry; and its password.
    fn issue(&self, user: Option<&str>, caps: Caps, ttl_s: u64, unix_s: u64) -> Credential {
        let expires_unix_s = unix_s.saturating_add(ttl_s);
        let username = match user {
            Some(user) => format!("{expires_unix_s}{caps}{}{user}", self.separator),
            None => format!("{expires_unix_s}{caps}"),
        };
        let password = self.secret.password(username.as_bytes()).iter().map(|b| char::from(*b)).collect();
        Credential { username, password, ttl_s, expires_unix_s }
    }
}

/// `iceServers` of this server; `urls` is a list always, as mobile clients need it.
fn ice_servers(live: &Live, credential: &Credential) -> Value {
    json!([{ "urls": live.uris, "username": credential.username, "credential": credential.password }])
}

/// What a TURN URI (RFC 7065) says, in parts; `None` if it is none.
fn server(uri: &str) -> Option<Value> {
    let (scheme, rest) = uri.split_once(':')?;
    let (authority, query) = rest.split_once('?').unwrap_or((rest, "transport=udp"));
    let transport = match (scheme, query) {
        ("turns", "transport=tcp") => "tls",
        ("turn", "transport=tcp") => "tcp",
        ("turn", "transport=udp") => "udp",
        _ => return None,
    };
    let family = match super::caller::host_name(authority)?.parse::<std::net::IpAddr>() {
        Ok(std::net::IpAddr::V4(_)) => json!(4),
        Ok(std::net::IpAddr::V6(_)) => json!(6),
        // A name, which the client looks up.
        Err(_) => Value::Null,
    };
    Some(json!({ "uri": uri, "transport": transport, "family": family }))
}

fn room_user(room: &str) -> String {
    if room.is_empty() { PAGE_USER.into() } else { format!("room-{room}") }
}

fn answer(said: Value) -> Response {
    ([(CACHE_CONTROL, "no-store")], Json(said)).into_response()
}

async fn body(request: Request) -> Result<axum::body::Bytes, Problem> {
    // The guard has it complete already.
    let body = request.into_body().collect().await.map_err(|_| bad("the body is not complete"))?;
    Ok(body.to_bytes())
}

fn bad(detail: impl Into<std::borrow::Cow<'static, str>>) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "bad_request", detail)
}

fn forbidden(detail: &'static str) -> Problem {
    Problem::new(StatusCode::FORBIDDEN, "forbidden", detail)
}
