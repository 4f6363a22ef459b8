//! What a client's address means to the server.

use super::{Bench, Finding};
use crate::turn::auth::source_account;
use crate::turn::policy::refused_source;
use std::net::IpAddr;

/// Explains what somebody who comes from this address meets.
pub fn explain(bench: &Bench<'_>, ip: IpAddr) -> Finding {
    let subject = format!("client {ip}");
    let mut facts = vec![
        ("listeners", listeners(bench, ip)),
        ("strangers", strangers(bench, ip)),
        ("account", format!("credentials without a user id are charged to `{}`", source_account(ip))),
        ("admin", admin(bench, ip)),
        ("proxy", proxy(bench, ip)),
    ];
    facts.retain(|(_, what)| !what.is_empty());
    match refused_source(ip) {
        Some(tunnel) => Finding {
            subject,
            is_allowed: false,
            decision: "dropped",
            unless: "",
            rule: format!("{tunnel}: no client may come through a tunnel like that (RFC 8656 §21.4)"),
            place: "default".into(),
            change: "nothing: this can not be configured away".into(),
            facts,
            order: &[],
        },
        None => Finding {
            subject,
            is_allowed: true,
            decision: "served",
            unless: "",
            rule: "no rule refuses clients by their address; credentials decide".into(),
            place: "default".into(),
            change: "a firewall in front: there is no list of clients".into(),
            facts,
            order: &[],
        },
    }
}

fn listeners(bench: &Bench<'_>, ip: IpAddr) -> String {
    let of_family = bench.plan.engine.listen.iter().filter(|listen| listen.addr.is_ipv4() == ip.is_ipv4());
    // Only this host itself comes from loopback, and only to loopback.
    let reached = of_family.filter(|listen| ip.is_loopback() || !listen.addr.ip().is_loopback());
    let reached: Vec<String> = reached.map(|listen| format!("{} {}", listen.protocol.name(), listen.addr)).collect();
    match reached.is_empty() {
        true => "none that it could reach: see [listen]".into(),
        false => reached.join(", "),
    }
}

fn strangers(bench: &Bench<'_>, ip: IpAddr) -> String {
    let (limit, key) = (bench.plan.engine.turn.limits.unverified_per_second, "limits.unverified_per_second");
    let source = if ip.is_ipv4() { "this address" } else { "its /56" };
    match limit {
        0 => format!("before it has proved itself {source} gets any number of answers: {}", bench.key(key)),
        _ => format!("before it has proved itself {source} gets {limit} answers a second, {}", bench.key(key)),
    }
}

fn admin(bench: &Bench<'_>, ip: IpAddr) -> String {
    let http = &bench.loaded.file.http;
    match (http.admin_listen.0, http.admin_token_file.is_empty()) {
        (None, _) => format!("off: {}", bench.key("http.admin_listen")),
        (Some(_), false) => format!("with the token of {}", bench.key("http.admin_token_file")),
        (Some(_), true) if ip.to_canonical().is_loopback() => "answers without a token, but not through a proxy".into(),
        (Some(_), true) => "refused: without http.admin_token_file it is for this host's loopback alone".into(),
    }
}

fn proxy(bench: &Bench<'_>, ip: IpAddr) -> String {
    let proxies = &bench.loaded.file.http.trusted_proxies;
    match proxies.iter().position(|network| network.0.contains(ip)) {
        Some(at) => {
            let (network, place) = (&proxies[at], bench.place_in("http.trusted_proxies", at));
            format!("its X-Forwarded- headers are believed: {network} of http.trusted_proxies ({place})")
        }
        None => String::new(),
    }
}
