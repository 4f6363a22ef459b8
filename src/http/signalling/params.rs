//! What AppRTC's clients are told before a call: names and types as AppRTC has them.

use super::super::guard::Caller;
use super::super::{Live, Shared, credentials};
use super::Parameters;
use axum::http::{HeaderMap, header};
use serde_json::{Map, Value, json};
use std::fmt::Write;

/// What a camera is asked for by `hd`.
const HD: [&str; 2] = ["minWidth=1280", "minHeight=720"];

/// Who asks for parameters, and how.
pub struct Asked<'a> {
    /// The caller.
    pub caller: &'a Caller,
    /// The URL's parameters.
    pub query: &'a Parameters,
    /// The client, as it names itself.
    pub user_agent: &'a str,
}

/// The first value of this name.
pub fn value<'a>(query: &'a [(String, String)], name: &str) -> Option<&'a str> {
    query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
}

/// The client's name for itself; clients without one are welcome.
pub fn user_agent(headers: &HeaderMap) -> &str {
    headers.get(header::USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or_default()
}

/// What `/params` answers, and with a room what its page is told: `room_id` and `room_link` too.
pub fn page_params(shared: &Shared, caller: &Caller, room: Option<&str>, query: &[(String, String)]) -> Value {
    let query = query.to_vec();
    let asked = Asked { caller, query: &query, user_agent: "" };
    let live = shared.live.load();
    match room {
        Some(room) => of_room(&live, &asked, room).into(),
        None => alone(&live, &asked).into(),
    }
}

/// The parameters of a room: those of every room, its name and its link.
pub fn of_room(live: &Live, asked: &Asked, room: &str) -> Map<String, Value> {
    let mut params = parameters(live, asked, room);
    params.insert("room_id".into(), room.into());
    params.insert("room_link".into(), room_link(asked, room).into());
    params
}

/// The parameters of no room in particular.
pub fn alone(live: &Live, asked: &Asked) -> Map<String, Value> {
    parameters(live, asked, "")
}

fn parameters(live: &Live, asked: &Asked, room: &str) -> Map<String, Value> {
    let text = |name| value(asked.query, name).unwrap_or_default();
    let is_loopback = text("debug") == "loopback";
    let (wss_url, wss_post_url) = signalling_urls(asked);
    let mut warnings = Vec::new();
    let media = media_constraints(asked, &mut warnings);
    if !text("minre").is_empty() || !text("maxre").is_empty() {
        warnings
            .push(r#"The "minre" and "maxre" parameters are no longer supported. Use "video" instead."#.to_string());
    }
    let ice_server_url = ice_server_url(live, asked, room);
    let script = if is_loopback { r#"<script src="/js/loopback.js"></script>"# } else { "" };
    let params = json!({
        "header_message": "",
        "error_messages": [],
        "warning_messages": warnings,
        "is_loopback": is_loopback.to_string(),
        "pc_config": pc_config(live, text("it")).to_string(),
        "pc_constraints": pc_constraints(asked, is_loopback).to_string(),
        "offer_options": "{}",
        "media_constraints": media.to_string(),
        "turn_url": turn_url(&ice_server_url, room),
        "turn_transports": text("tt"),
        "ice_server_url": ice_server_url,
        "ice_server_transports": text("tt"),
        "include_loopback_js": script,
        "wss_url": wss_url,
        "wss_post_url": wss_post_url,
        "bypass_join_confirmation": "false",
        "version_info": "null",
    });
    match params {
        Value::Object(params) => params,
        _ => Map::new(),
    }
}

/// Where the WebSocket is, and where to post beside it.
fn signalling_urls(asked: &Asked) -> (String, String) {
    let wstls = value(asked.query, "wstls").unwrap_or_default();
    let (scheme, authority) = asked.caller.origin.split_once("://").unwrap_or(("http", &asked.caller.origin));
    match value(asked.query, "wshpp").filter(|host| !host.is_empty()) {
        Some(host) if wstls == "false" => (format!("ws://{host}/ws"), format!("http://{host}")),
        Some(host) => (format!("wss://{host}/ws"), format!("https://{host}")),
        None => {
            let is_tls = match wstls {
                "true" => true,
                "false" => false,
                _ => scheme == "https",
            };
            let s = if is_tls { "s" } else { "" };
            (format!("ws{s}://{authority}/ws"), format!("http{s}://{authority}/collider"))
        }
    }
}

/// Where clients ask for ICE servers: here, with a token of this room; or at `ts`, which gets no
/// token of ours.
fn ice_server_url(live: &Live, asked: &Asked, room: &str) -> String {
    let key = value(asked.query, "apikey").map(percent_encoded);
    let base = value(asked.query, "ts").map(|base| base.trim_end_matches('/'));
    match (base, key) {
        (Some(""), _) => String::new(),
        (Some(base), key) if base != asked.caller.origin => {
            format!("{base}/v1alpha/iceconfig?key={}", key.unwrap_or_default())
        }
        (_, Some(key)) => format!("{}/v1alpha/iceconfig?key={key}", asked.caller.origin),
        (_, None) => credentials::ice_server_url(live, &asked.caller.origin, room),
    }
}

/// Where clients of 2015 ask instead, with the same key; without this name they do not start.
fn turn_url(ice_server_url: &str, room: &str) -> String {
    let user = if room.is_empty() { "page" } else { room };
    match ice_server_url.split_once("/v1alpha/iceconfig?key=") {
        Some((base, key)) => format!("{base}/turn?service=turn&username={user}&key={key}"),
        None => String::new(),
    }
}

fn pc_config(live: &Live, transports: &str) -> Value {
    let mut config = json!({
        "iceServers": live.ice_servers,
        "bundlePolicy": "max-bundle",
        "rtcpMuxPolicy": "require",
    });
    if !transports.is_empty() {
        // Old clients read the first name, browsers the second.
        config["iceTransports"] = transports.into();
        config["iceTransportPolicy"] = transports.into();
    }
    config
}

fn pc_constraints(asked: &Asked, is_loopback: bool) -> Value {
    let dtls = if is_loopback { Some("false") } else { value(asked.query, "dtls") };
    let wanted = [
        (dtls, "DtlsSrtpKeyAgreement"),
        (value(asked.query, "dscp"), "googDscp"),
        (value(asked.query, "ipv6"), "googIPv6"),
    ];
    let optional = wanted.into_iter().filter_map(|(wish, constraint)| match wish?.to_ascii_lowercase().as_str() {
        "true" => Some(json!({ constraint: true })),
        "false" => Some(json!({ constraint: false })),
        _ => None,
    });
    json!({ "optional": optional.collect::<Vec<_>>() })
}

fn media_constraints(asked: &Asked, warnings: &mut Vec<String>) -> Value {
    let text = |name| value(asked.query, name).unwrap_or_default();
    let (hd, video) = (text("hd").to_ascii_lowercase(), text("video"));
    if !hd.is_empty() && !video.is_empty() {
        warnings.push(format!(r#"The "hd" parameter has overridden video={video}"#));
    }
    let is_desktop_chrome = asked.user_agent.contains("Chrome") && !asked.user_agent.contains("Android");
    let video = if hd == "true" {
        track_constraints(&HD.map(|size| format!("mandatory:{size}")).join(","))
    } else if hd.is_empty() && video.is_empty() && is_desktop_chrome {
        track_constraints(&HD.map(|size| format!("optional:{size}")).join(","))
    } else {
        track_constraints(video)
    };
    let mut constraints = json!({ "audio": track_constraints(text("audio")), "video": video });
    if !text("firefox_fake_device").is_empty() {
        constraints["fake"] = true.into();
    }
    constraints
}

/// Reads `[mandatory:|optional:]key=value,…`; what is malformed is left out.
fn track_constraints(text: &str) -> Value {
    match text.to_ascii_lowercase().as_str() {
        "" | "true" => return true.into(),
        "false" => return false.into(),
        _ => {}
    }
    let (mut mandatory, mut optional) = (Map::new(), Vec::new());
    for part in text.split(',') {
        let (is_mandatory, pair) = match part.split(':').collect::<Vec<_>>()[..] {
            [kind, pair] => (kind == "mandatory", pair),
            [.., pair] => (!part.starts_with("goog"), pair),
            [] => continue,
        };
        let [key, value] = pair.split('=').collect::<Vec<_>>()[..] else { continue };
        if is_mandatory {
            mandatory.insert(key.into(), value.into());
        } else {
            optional.push(json!({ key: value }));
        }
    }
    json!({ "mandatory": mandatory, "optional": optional })
}

/// The link to share: the page's address with all parameters it was asked with.
fn room_link(asked: &Asked, room: &str) -> String {
    let origin = match asked.caller.origin.strip_prefix("http://") {
        // Behind a proxy that ends TLS and does not say so.
        Some(authority) if value(asked.query, "wstls") == Some("true") => format!("https://{authority}"),
        _ => asked.caller.origin.clone(),
    };
    let mut link = format!("{origin}/r/{room}");
    for (at, (name, value)) in asked.query.iter().enumerate() {
        if asked.query[..at].iter().all(|(earlier, _)| earlier != name) {
            let mark = if link.contains('?') { '&' } else { '?' };
            // Writing to a string cannot fail.
            let _ = write!(link, "{mark}{}={}", escaped(name), escaped(value));
        }
    }
    link
}

/// Safe in a page, as AppRTC escapes it, and in a link too.
fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#x27;"),
            '%' | '#' | '+' | '\\' | '`' | ' ' => push_encoded(&mut safe, c),
            c if c.is_control() || !c.is_ascii() => push_encoded(&mut safe, c),
            c => safe.push(c),
        }
    }
    safe
}

fn percent_encoded(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            'A'..='Z' | 'a'..='z' | '0'..='9' | '-' | '_' | '.' | '~' => safe.push(c),
            c => push_encoded(&mut safe, c),
        }
    }
    safe
}

fn push_encoded(text: &mut String, c: char) {
    for byte in c.encode_utf8(&mut [0; 4]).bytes() {
        let _ = write!(text, "%{byte:02X}");
    }
}
