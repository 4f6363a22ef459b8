//! What a user name is, and whether it is taken: by the core's own reading of it.

use super::{Bench, Finding};
use crate::cli::Failure;
use crate::config::revocations;
use crate::config::value::Seconds;
use crate::turn::auth::{Caps, Credentials, Name, Proof, Refused, Revocations};
use crate::wire::attribute::PasswordAlgorithm;
use crate::wire::integrity::{Key, same};
use std::net::{IpAddr, Ipv4Addr};
use std::time::{SystemTime, UNIX_EPOCH};

/// Explains what a client with this name is told; with a password, whether that fits.
pub fn explain(bench: &Bench<'_>, name: &str, password: Option<&str>) -> Result<Finding, Failure> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let auth = &bench.plan.engine.turn.auth;
    let said = prove(auth, now, name, |_| true);
    // What it says apart from whether its time is right.
    let mut timeless = auth.clone();
    timeless.max_ttl_s = u64::MAX;
    let then = match said {
        Err(Refused::Expired(ago_s)) => now.saturating_sub(ago_s).saturating_sub(1),
        _ => now,
    };
    let proof = prove(&timeless, then, name, |_| true).ok();
    let mut facts = proof.as_ref().map(|proof| facts(bench, proof, now)).unwrap_or_default();
    let kept = revoked(bench)?;
    let is_revoked = kept.as_ref().is_some_and(|kept| auth.is_revoked(kept, name.as_bytes()));
    let (is_allowed, decision, rule, place, change) = match (&said, is_revoked) {
        _ if auth.anonymous => (
            true,
            "not asked for",
            "anonymous = true: anyone may allocate".into(),
            bench.key("auth.anonymous"),
            String::new(),
        ),
        (_, true) => {
            let change = format!("`turnpike revoke --undo` takes it off {}", bench.key("auth.revocations_file"));
            (false, "refused", "revoked".to_owned(), place_of_revocations(bench), change)
        }
        (Ok(proof), false) => accepted(bench, proof, password),
        (Err(refused), false) => refusal(bench, *refused, name),
    };
    // An operator's shell is not told the service's STATE_DIRECTORY.
    let is_unknown = kept.is_none() && !auth.anonymous;
    if is_unknown {
        let unknown = "not known here: the server keeps that list, and `turnpike revoke --list` shows it";
        facts.push(("revoked", unknown.into()));
    }
    let unless = if is_unknown && is_allowed { "revoked" } else { "" };
    let subject = format!("credential {name}");
    Ok(Finding { subject, is_allowed, decision, unless, rule, place, change, facts, order: &[] })
}

type Decision = (bool, &'static str, String, String, String);

/// Asks the core, which is told that a key fits or not.
fn prove(auth: &Credentials, unix_s: u64, name: &str, fits: impl Fn(&Key) -> bool) -> Result<Proof, Refused> {
    let verify = |key: &Key| fits(key).then_some(());
    auth.prove(unix_s, Name::Plain(name.as_bytes()), PasswordAlgorithm::Md5, verify).map(|(proof, ())| proof)
}

fn accepted(bench: &Bench<'_>, proof: &Proof, password: Option<&str>) -> Decision {
    let (auth, realm) = (&bench.plan.engine.turn.auth, &bench.plan.realm);
    let name = String::from_utf8_lossy(&proof.username).into_owned();
    let (kind, key) = match proof.expires_unix_s {
        None => (format!("a user of realm `{realm}`"), user_key(bench, &name)),
        Some(_) => ("a time-limited credential whose time is not over".to_owned(), "auth.secrets"),
    };
    let Some(password) = password else {
        let change = "its password decides: --password tries one".into();
        return (true, "known", kind, bench.origins().of(&place_key(key, &name)), change);
    };
    if proof.expires_unix_s.is_none() {
        let right = Key::derive(PasswordAlgorithm::Md5, name.as_bytes(), realm.as_bytes(), password.as_bytes());
        let place = bench.origins().of(&place_key(key, &name));
        return match same(proof.key.as_bytes(), right.as_bytes()) {
            true => (true, "taken", format!("{kind}, and the password is right"), place, String::new()),
            false => {
                let change = "the right password; a key written 0x belongs to the realm it was made for".into();
                (false, "refused", format!("{kind}, and the password is wrong"), place, change)
            }
        };
    }
    let fits = |secret: &crate::turn::auth::Secret| same(&secret.password(name.as_bytes()), password.as_bytes());
    let count = auth.secrets.len();
    match auth.secrets.iter().position(fits) {
        Some(at) => {
            let own = bench.loaded.file.auth.secrets.len();
            let place = match at.checked_sub(own) {
                None => bench.place_in("auth.secrets", at),
                Some(_) => bench.key("auth.secret_file"),
            };
            let rule = format!("{kind}, and the password is by secret {} of {count}", at + 1);
            (true, "taken", rule, place, String::new())
        }
        None => {
            let rule = format!("{kind}, but none of the {count} secrets makes this password");
            let change = "the password is base64(HMAC-SHA1(secret, name)), of the whole name as it is".into();
            (false, "refused", rule, bench.origins().of("auth.secrets"), change)
        }
    }
}

fn refusal(bench: &Bench<'_>, refused: Refused, name: &str) -> Decision {
    let auth = &bench.loaded.file.auth;
    let (rule, place, change) = match refused {
        Refused::Expired(ago_s) => {
            let change = "a new one: its time is in the name, and the password signs it".to_owned();
            (format!("it expired {} ago", span(ago_s)), "the name itself".to_owned(), change)
        }
        Refused::TooFar => {
            let change = "a shorter time when it is made, or a longer auth.max_ttl".to_owned();
            (
                format!("it is for longer than auth.max_ttl = {}", auth.max_ttl),
                bench.origins().of("auth.max_ttl"),
                change,
            )
        }
        Refused::Unknown | Refused::Password | Refused::Revoked => {
            let has_secrets = !bench.plan.engine.turn.auth.secrets.is_empty();
            let separator = auth.separator.0;
            let rule =
                match (has_secrets, name.split(separator).any(|part| part.starts_with(|c: char| c.is_ascii_digit()))) {
                    (true, _) => format!("no user of that name, and not EXPIRY{separator}ID either"),
                    (false, true) => {
                        "no user of that name; no secret is set, so that no time-limited name is taken".into()
                    }
                    (false, false) => "no user of that name".into(),
                };
            let change =
                "a user under [auth.users], or a secret under auth.secrets to make credentials with".to_owned();
            (rule, bench.key("auth.users"), change)
        }
    };
    (false, "refused", rule, place, change)
}

/// What the name says.
fn facts(bench: &Bench<'_>, proof: &Proof, now: u64) -> Vec<(&'static str, String)> {
    let mut facts = Vec::new();
    let auth = &bench.plan.engine.turn.auth;
    if let Some(expires) = proof.expires_unix_s {
        let when = match expires.checked_sub(now).filter(|&left_s| left_s > 0) {
            Some(left_s) => format!("in {}", span(left_s)),
            None => format!("{} ago", span(now.saturating_sub(expires))),
        };
        facts.push(("expires", format!("{}, {when}", utc(expires))));
        let source = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        let account = auth.account(proof, source);
        match *account == *crate::turn::auth::source_account(source) {
            true => facts.push(("user id", "none: allocations are charged to the client's network".into())),
            false => facts.push(("user id", account.into())),
        }
    }
    facts.push(("caps", caps(&proof.caps)));
    let strict = bench.loaded.file.auth.strict_expiry && proof.expires_unix_s.is_some();
    facts.push((
        "then",
        if strict { "allocations end when it expires: auth.strict_expiry".into() } else { String::new() },
    ));
    facts.retain(|(_, what)| !what.is_empty());
    facts
}

fn caps(caps: &Caps) -> String {
    let parts = [
        caps.allocations.map(|n| format!("{n} allocations at once")),
        caps.bytes_per_second.map(|n| format!("{n} bytes a second of each allocation, each way")),
        caps.bytes.map(|n| format!("{n} bytes in all, both ways together")),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// Those who are revoked, where that is kept in a file.
fn revoked(bench: &Bench<'_>) -> Result<Option<Revocations>, Failure> {
    let Some(path) = &bench.plan.revocations else { return Ok(None) };
    let mut revoked = Revocations::default();
    for id in revocations::read(path)? {
        revoked.insert(id.as_str()).map_err(|error| Failure::Other(format!("{error} ({})", path.display())))?;
    }
    Ok(Some(revoked))
}

fn place_of_revocations(bench: &Bench<'_>) -> String {
    bench.plan.revocations.as_ref().map_or_else(String::new, |path| path.display().to_string())
}

/// The key under which a user is.
fn user_key(bench: &Bench<'_>, name: &str) -> &'static str {
    let is_written = bench.loaded.file.auth.users.keys().any(|known| known.as_str() == name);
    if is_written { "auth.users" } else { "auth.users_file" }
}

fn place_key(key: &str, name: &str) -> String {
    if key == "auth.users" { format!("auth.users.{name}") } else { key.to_owned() }
}

/// `1h30m`, or `12 days` where hours no longer tell anything.
fn span(seconds: u64) -> String {
    match seconds / 86_400 {
        days if days >= 2 => format!("{days} days"),
        _ => Seconds(seconds).to_string(),
    }
}

/// `2030-01-01T00:00:00Z`.
fn utc(unix_s: u64) -> String {
    let (days, second) = (unix_s / 86_400, unix_s % 86_400);
    // Years that begin in March have their leap day at the end, and repeat every 146,097 days.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, turned) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let year = year + era * 400 + turned;
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", second / 3600, second / 60 % 60, second % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_as_dates() {
        for (unix_s, date) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_800, "2000-03-01T00:00:00Z"),
            (1_893_456_000, "2030-01-01T00:00:00Z"),
            (4_102_444_799, "2099-12-31T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
            (9_999_999_999, "2286-11-20T17:46:39Z"),
        ] {
            assert_eq!(utc(unix_s), date);
        }
    }
}
