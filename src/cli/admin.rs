//! `turnpike status`, `sessions`, `kick`, `drain`, `reload`: talk to the running server over
//! its admin socket or URL.

use super::Failure;
use super::access::{escaped, printable};
use hyper::Method;
use serde_json::Value;
use std::fmt::Write;

pub use super::access::Access;

/// Sessions asked for at a time.
const PAGE: usize = 1000;

/// `turnpike status`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  turnpike status\n  turnpike status --admin http://10.0.0.7:9641 --token-file token"
)]
pub struct Status {
    /// The server.
    #[command(flatten)]
    pub access: Access,
}

/// `turnpike sessions`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  turnpike sessions --user alice")]
pub struct Sessions {
    /// Of this user only
    #[arg(long, value_name = "USER")]
    pub user: Option<String>,
    /// Of clients with this address only
    #[arg(long, value_name = "IP")]
    pub client: Option<String>,
    /// The server.
    #[command(flatten)]
    pub access: Access,
}

/// `turnpike kick`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  turnpike kick 0-12-3\n  turnpike kick --user alice")]
pub struct Kick {
    /// The session, as `turnpike sessions` prints it
    #[arg(value_name = "ID", required_unless_present = "user")]
    pub id: Option<String>,
    /// Every session of this user
    #[arg(long, value_name = "USER", conflicts_with = "id")]
    pub user: Option<String>,
    /// The server.
    #[command(flatten)]
    pub access: Access,
}

/// `turnpike drain`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  turnpike drain\n  turnpike drain --cancel")]
pub struct Drain {
    /// Take new allocations again
    #[arg(long)]
    pub cancel: bool,
    /// The server.
    #[command(flatten)]
    pub access: Access,
}

/// `turnpike reload`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  turnpike reload")]
pub struct Reload {
    /// The server.
    #[command(flatten)]
    pub access: Access,
}

/// Prints what the server does.
pub fn status(options: &Status) -> Result<(), Failure> {
    let status = options.access.ask(Method::GET, "/api/v1/status")?;
    options.access.show(&status, status_text);
    Ok(())
}

/// Prints the sessions, all pages of them.
pub fn sessions(options: &Sessions) -> Result<(), Failure> {
    let mut all = Vec::new();
    let mut after = String::new();
    loop {
        let mut path = format!("/api/v1/sessions?limit={PAGE}");
        for (name, value) in [("user", options.user.as_deref()), ("client", options.client.as_deref())] {
            if let Some(value) = value {
                let _ = write!(path, "&{name}={}", escaped(value));
            }
        }
        if !after.is_empty() {
            let _ = write!(path, "&after={after}");
        }
        let mut page = options.access.ask(Method::GET, &path)?;
        if let Some(Value::Array(sessions)) = page.get_mut("sessions").map(Value::take) {
            all.extend(sessions);
        }
        match page["next"].as_str() {
            Some(next) => after = next.to_owned(),
            None => break,
        }
    }
    options.access.show(&Value::Array(all), sessions_text);
    Ok(())
}

/// Ends sessions.
pub fn kick(options: &Kick) -> Result<(), Failure> {
    let path = match (&options.id, &options.user) {
        (Some(id), _) => format!("/api/v1/sessions/{}", escaped(id)),
        (None, user) => format!("/api/v1/sessions?user={}", escaped(user.as_deref().unwrap_or_default())),
    };
    let answer = options.access.ask(Method::DELETE, &path)?;
    options.access.show(&answer, |answer| match answer["closed"].as_u64() {
        Some(closed) => format!("{closed} sessions ended\n"),
        None => "ended\n".into(),
    });
    Ok(())
}

/// Refuses new allocations, or takes them again.
pub fn drain(options: &Drain) -> Result<(), Failure> {
    let method = if options.cancel { Method::DELETE } else { Method::POST };
    let answer = options.access.ask(method, "/api/v1/drain")?;
    options.access.show(&answer, |answer| match options.cancel {
        true => "serving: new allocations are taken again\n".into(),
        false => format!("draining: no new allocations; {}\n", drain_end(answer)),
    });
    Ok(())
}

/// Puts a changed configuration in force.
pub fn reload(options: &Reload) -> Result<(), Failure> {
    let answer = options.access.ask(Method::POST, "/api/v1/reload")?;
    options.access.show(&answer, |answer| {
        let keys = |name: &str| {
            let keys = answer[name].as_array().into_iter().flatten().filter_map(Value::as_str);
            keys.map(printable).collect::<Vec<_>>().join(", ")
        };
        let (applied, restart) = (keys("applied"), keys("needs_restart"));
        let mut text = match applied.is_empty() {
            true => "reloaded, nothing changed\n".to_owned(),
            false => format!("reloaded: {applied}\n"),
        };
        if !restart.is_empty() {
            let _ = writeln!(text, "changed, but a restart is needed: {restart}");
        }
        text
    });
    Ok(())
}

/// When a drain ends, in words.
fn drain_end(answer: &Value) -> String {
    match answer.pointer("/drain/left_s").and_then(Value::as_u64) {
        Some(left_s) => format!("the server ends with the last one, or in {}", duration(left_s)),
        None => "the server ends with the last one".into(),
    }
}

fn status_text(status: &Value) -> String {
    let number = |pointer: &str| status.pointer(pointer).and_then(Value::as_u64).unwrap_or_default();
    let word = |pointer: &str| printable(status.pointer(pointer).and_then(Value::as_str).unwrap_or("-"));
    let state = match status["draining"].as_bool() {
        Some(true) => format!("draining, {}", drain_end(status)),
        _ => "serving".into(),
    };
    let mut text = String::new();
    let mut line = |name: &str, value: String| text.push_str(&format!("{name:<14}{value}\n"));
    line("state", state);
    line("version", word("/version"));
    line("realm", word("/realm"));
    line("uptime", duration(number("/uptime_s")));
    line("workers", number("/workers").to_string());
    let created = number("/allocations_created_total");
    line("allocations", format!("{} now, {created} since the start", number("/allocations")));
    line("permissions", number("/permissions").to_string());
    line("channels", number("/channels").to_string());
    line("ports free", number("/ports_free").to_string());
    for (name, way) in [("to peers", "to_peer"), ("to clients", "to_client")] {
        let packets = number(&format!("/relay/{way}/packets"));
        line(name, format!("{packets} packets, {}", bytes(number(&format!("/relay/{way}/bytes")))));
    }
    line("rooms", format!("{} with {} clients", number("/rooms/rooms"), number("/rooms/clients")));
    for listener in status["listening"].as_array().into_iter().flatten() {
        let word = |name: &str| printable(listener[name].as_str().unwrap_or("-"));
        line("listening", format!("{} {}", word("protocol"), word("address")));
    }
    text
}

fn sessions_text(sessions: &Value) -> String {
    let Some(sessions) = sessions.as_array().filter(|sessions| !sessions.is_empty()) else {
        return "no sessions\n".into();
    };
    let header = ["ID", "USER", "VIA", "CLIENT", "RELAYED", "AGE", "LEFT", "TO PEERS", "TO CLIENT"].map(String::from);
    let row = |session: &Value| {
        let word = |name: &str| printable(session[name].as_str().unwrap_or("-"));
        let number = |name: &str| session[name].as_u64().unwrap_or_default();
        let relayed = session["relayed"].as_array().into_iter().flatten().filter_map(Value::as_str);
        [
            word("id"),
            word("user"),
            word("transport"),
            word("client"),
            relayed.map(printable).collect::<Vec<_>>().join(" "),
            duration(number("age_s")),
            duration(number("expires_in_s")),
            bytes(session["to_peer"]["bytes"].as_u64().unwrap_or_default()),
            bytes(session["to_client"]["bytes"].as_u64().unwrap_or_default()),
        ]
    };
    let rows: Vec<_> = std::iter::once(header).chain(sessions.iter().map(row)).collect();
    columns(&rows)
}

/// Rows with their cells below each other.
pub(super) fn columns<const N: usize>(rows: &[[String; N]]) -> String {
    let mut text = String::new();
    for row in rows {
        for (at, cell) in row.iter().enumerate() {
            let width = rows.iter().map(|row| row[at].chars().count()).max().unwrap_or_default();
            match at + 1 == row.len() {
                true => text.push_str(&format!("{cell}\n")),
                false => text.push_str(&format!("{cell:<width$}  ")),
            }
        }
    }
    text
}

/// `1h5m`, `12s`.
pub(super) fn duration(seconds: u64) -> String {
    let (h, m, s) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match (h, m) {
        (0, 0) => format!("{s}s"),
        (0, _) => format!("{m}m{s}s"),
        _ => format!("{h}h{m}m"),
    }
}

/// `1.2 MB`.
pub(super) fn bytes(bytes: u64) -> String {
    let units = ["B", "kB", "MB", "GB", "TB"];
    let step = (0..units.len() - 1).find(|&step| bytes < 1000_u64.pow(step as u32 + 1)).unwrap_or(units.len() - 1);
    match step {
        0 => format!("{bytes} B"),
        _ => format!("{:.1} {}", bytes as f64 / 1000_f64.powi(step as i32), units[step]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn numbers_are_written_for_people() {
        assert_eq!([0, 59, 61, 3_661].map(duration), ["0s", "59s", "1m1s", "1h1m"]);
        assert_eq!(
            [0, 999, 1_000, 1_250_000, 5_000_000_000_000].map(bytes),
            ["0 B", "999 B", "1.0 kB", "1.2 MB", "5.0 TB"]
        );
    }

    #[test]
    fn names_from_the_network_can_not_steer_a_terminal_or_a_url() {
        let rows = sessions_text(&json!([{ "id": "0-1-2", "user": "\u{1b}[2Jx", "relayed": ["192.0.2.7:50000"] }]));
        assert!(rows.contains("\u{FFFD}[2Jx") && rows.contains("192.0.2.7:50000") && !rows.contains('\u{1b}'));
        assert_eq!(escaped("a b/c&d=é"), "a%20b%2Fc%26d%3D%C3%A9");
        assert_eq!(sessions_text(&json!([])), "no sessions\n");
    }

    #[test]
    fn a_name_with_a_line_break_forges_no_row() {
        for ending in ["\n", "\r\n", "\u{85}", "\u{2028}", "\u{2029}"] {
            let forged = format!("a{ending}FAKEROW evil");
            let rows = sessions_text(&json!([{ "id": forged, "user": forged, "relayed": [forged] }]));
            assert_eq!(rows.matches("FAKEROW").count(), 3);
            assert!(rows.lines().count() == 2 && !rows.contains(['\r', '\u{85}', '\u{2028}', '\u{2029}']), "{rows:?}");
        }
        let status = status_text(&json!({ "listening": [{ "protocol": "udp\u{9B}2J", "address": "a\nstate  evil" }] }));
        assert!(status.ends_with("listening     udp\u{FFFD}2J a\u{FFFD}state  evil\n"), "{status:?}");
    }
}
