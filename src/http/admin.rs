//! The admin part: metrics, health, the API, the console; and who may use it.
//!
//! With a token, whoever has it. Without one, only this machine: the unix socket, which is the
//! owner's alone, and loopback callers that no proxy and no foreign page sent. The console's files
//! and the health checks are for anyone; they hold nothing.

use super::guard::{Caller, Problem};
use super::{Routes, Shared, api, guard, health, metrics, pages};
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use std::net::IpAddr;
use std::sync::Arc;

/// Headers by which proxies say that they stand between.
const PROXY_HEADERS: [&str; 4] = ["forwarded", "x-forwarded-for", "x-real-ip", "via"];

/// Every route of the admin part.
pub fn routes() -> Routes {
    Routes::new().merge(api::routes()).merge(metrics::routes()).merge(health::routes()).merge(pages::admin())
}

/// Whoever may see and steer the server. Each route that shows or does something asks for it.
#[derive(Clone, Copy, Debug)]
pub struct Admitted(());

impl FromRequestParts<Arc<Shared>> for Admitted {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, shared: &Arc<Shared>) -> Result<Self, Problem> {
        // Notices wait in their queue until someone looks for the first time.
        let caller = parts.extensions.get::<Caller>().ok_or_else(not_local)?;
        let token = shared.live.load().admin_token;
        match (caller.ip, token) {
            // The mode of the unix socket has decided already.
            (None, _) => {}
            (Some(_), Some(token)) => guard::authenticate(shared, caller, guard::bearer(&parts.headers), &[token])?,
            (Some(ip), None) => check_local(ip, &parts.method, &parts.headers)?,
        }
        check_content(&parts.method, &parts.headers)?;
        Ok(Admitted(()))
    }
}

/// Whether it is someone on this machine who means it.
fn check_local(ip: IpAddr, method: &Method, headers: &HeaderMap) -> Result<(), Problem> {
    // Behind a proxy on this machine the whole world is a loopback caller.
    let is_proxied = PROXY_HEADERS.iter().any(|name| headers.contains_key(*name));
    if !ip.to_canonical().is_loopback() || is_proxied {
        return Err(not_local());
    }
    if is_cross_site(headers) && !is_navigation(method, headers) {
        let detail = "the request comes from a page of another site";
        return Err(Problem::new(StatusCode::FORBIDDEN, "cross_site", detail));
    }
    Ok(())
}

fn not_local() -> Problem {
    let detail = "without http.admin_token_file the admin part is for this machine alone, and not for proxies";
    Problem::new(StatusCode::FORBIDDEN, "not_local", detail)
}

/// Whether a page of another origin sent the request: browsers tell.
fn is_cross_site(headers: &HeaderMap) -> bool {
    let own = |site: &HeaderValue| site == "same-origin" || site == "none";
    let from_elsewhere = headers.get("sec-fetch-site").is_some_and(|site| !own(site));
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let is_own = |origin: &HeaderValue| {
        let authority = origin.to_str().ok().and_then(|origin| origin.split_once("://")).map(|(_, rest)| rest);
        authority.is_some() && authority == host
    };
    from_elsewhere || headers.get_all(header::ORIGIN).iter().any(|origin| !is_own(origin))
}

/// Whether someone followed a link to look at something.
fn is_navigation(method: &Method, headers: &HeaderMap) -> bool {
    method == Method::GET && headers.get("sec-fetch-mode").is_some_and(|mode| mode == "navigate")
}

/// What steers the server has a body in JSON or none: no form of a web page sends that.
fn check_content(method: &Method, headers: &HeaderMap) -> Result<(), Problem> {
    let is_empty = !headers.contains_key(header::TRANSFER_ENCODING)
        && headers.get(header::CONTENT_LENGTH).is_none_or(|len| len == "0");
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let is_json = kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"));
    if matches!(*method, Method::GET | Method::HEAD) || is_empty || is_json {
        return Ok(());
    }
    let detail = "a body must be application/json";
    Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "not_json", detail))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The code of the answer, or 200.
    fn local(ip: &str, method: Method, headers: &[(&'static str, &str)]) -> u16 {
        let ip = ip.parse().expect("an address");
        let mut map = HeaderMap::new();
        map.insert("host", HeaderValue::from_static("127.0.0.1:9641"));
        for (name, value) in headers {
            map.append(*name, value.parse().expect("a header value"));
        }
        check_local(ip, &method, &map).map_or_else(|problem| problem.status, |()| 200)
    }

    #[test]
    fn without_a_token_only_this_machine_is_let_in() {
        for (ip, status) in [
            ("127.0.0.1", 200),
            ("127.9.9.9", 200),
            ("::1", 200),
            ("::ffff:127.0.0.1", 200),
            ("192.0.2.1", 403),
            ("10.0.0.1", 403),
            ("0.0.0.0", 403),
            ("2001:db8::1", 403),
            ("::", 403),
        ] {
            assert_eq!(local(ip, Method::GET, &[]), status, "{ip}");
        }
        for name in PROXY_HEADERS {
            assert_eq!(local("127.0.0.1", Method::GET, &[(name, "127.0.0.1")]), 403, "{name}");
        }
    }

    #[test]
    fn a_foreign_page_can_neither_steer_nor_listen() {
        let asks = |method: &Method, headers: &[(&'static str, &str)]| local("127.0.0.1", method.clone(), headers);
        for method in [Method::GET, Method::POST, Method::DELETE] {
            for own in ["same-origin", "none"] {
                assert_eq!(asks(&method, &[("sec-fetch-site", own)]), 200, "{method} {own}");
            }
            assert_eq!(asks(&method, &[("origin", "http://127.0.0.1:9641")]), 200);
            for foreign in ["cross-site", "same-site", "whatever"] {
                assert_eq!(asks(&method, &[("sec-fetch-site", foreign)]), 403, "{method} {foreign}");
            }
            for foreign in
                ["null", "http://evil.example", "http://127.0.0.1:8080", "http://127.0.0.1:9641.evil.example"]
            {
                assert_eq!(asks(&method, &[("origin", foreign)]), 403, "{method} {foreign}");
            }
            let two = [("origin", "http://127.0.0.1:9641"), ("origin", "http://evil.example")];
            assert_eq!(asks(&method, &two), 403, "{method}");
        }
        let link = [("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate")];
        assert_eq!(asks(&Method::GET, &link), 200, "a link to the metrics works");
        assert_eq!(asks(&Method::POST, &link), 403, "a form does not");
    }

    #[test]
    fn a_body_is_json() {
        let check = |method: Method, headers: &[(&'static str, &'static str)]| {
            let headers = headers
                .iter()
                .map(|(name, value)| (header::HeaderName::from_static(name), HeaderValue::from_static(value)));
            check_content(&method, &headers.collect()).is_ok()
        };
        assert!(check(Method::POST, &[]));
        assert!(check(Method::POST, &[("content-length", "0"), ("content-type", "text/plain")]));
        assert!(check(Method::POST, &[("content-length", "2"), ("content-type", "application/json; charset=utf-8")]));
        assert!(!check(Method::POST, &[("content-length", "2")]));
        for kind in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "application/jsonx"] {
            assert!(!check(Method::POST, &[("content-length", "2"), ("content-type", kind)]), "{kind}");
            assert!(!check(Method::DELETE, &[("transfer-encoding", "chunked"), ("content-type", kind)]), "{kind}");
        }
    }
}
