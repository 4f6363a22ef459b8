//! `turnpike revoke`: who is refused, from now on and across restarts.

use super::Failure;
use super::access::{Access, escaped, printable};
use hyper::Method;
use serde_json::{Value, json};

/// `turnpike revoke`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  turnpike revoke alice\n  turnpike revoke --list\n  turnpike revoke --undo alice")]
pub struct Options {
    /// A static user, the user id of time-limited credentials, or one whole user name
    #[arg(value_name = "ID", required_unless_present_any = ["list", "undo"])]
    pub id: Option<String>,
    /// List who is revoked
    #[arg(long, conflicts_with_all = ["id", "undo"])]
    pub list: bool,
    /// Take this one again
    #[arg(long, value_name = "ID", conflicts_with = "id")]
    pub undo: Option<String>,
    /// The server.
    #[command(flatten)]
    pub access: Access,
}

/// Revokes, lists, or takes back.
pub fn revoke(options: &Options) -> Result<(), Failure> {
    const PATH: &str = "/api/v1/revocations";
    let access = &options.access;
    if let Some(id) = &options.undo {
        let answer = access.ask(Method::DELETE, &format!("{PATH}/{}", escaped(id)))?;
        access.show(&answer, |_| format!("{} is not revoked any more\n", printable(id)));
    } else if let Some(id) = &options.id {
        let answer = access.send(Method::POST, PATH, &json!({ "id": id }))?;
        access.show(&answer, revoked_text);
    } else {
        let answer = access.ask(Method::GET, PATH)?;
        access.show(&answer, list_text);
    }
    Ok(())
}

fn revoked_text(answer: &Value) -> String {
    let ended = match answer["sessions_ended"].as_u64() {
        Some(1) => "1 session ended".into(),
        ended => format!("{} sessions ended", ended.unwrap_or_default()),
    };
    let more = match answer["partial"].as_bool() {
        Some(true) => ", and a worker has not answered yet",
        _ => "",
    };
    let kept = match answer["kept"].as_str() {
        Some("file") => "kept across restarts",
        _ => "kept in memory only: set auth.revocations_file to keep it across a restart",
    };
    format!("{} is revoked: {ended}{more}; {kept}\n", printable(answer["id"].as_str().unwrap_or_default()))
}

fn list_text(answer: &Value) -> String {
    let ids: Vec<&str> = answer["revocations"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    match ids.is_empty() {
        true => "nobody is revoked\n".into(),
        false => ids.iter().map(|id| format!("{}\n", printable(id))).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_say_what_ended_and_whether_it_is_kept() {
        let answer = json!({ "id": "alice", "sessions_ended": 1, "partial": false, "kept": "file" });
        assert_eq!(revoked_text(&answer), "alice is revoked: 1 session ended; kept across restarts\n");
        let answer = json!({ "id": "\u{1b}[2J", "sessions_ended": 0, "partial": true, "kept": "memory" });
        let text = revoked_text(&answer);
        assert!(text.starts_with("\u{FFFD}[2J is revoked: 0 sessions ended, and a worker"), "{text}");
        assert!(text.contains("memory only") && text.contains("auth.revocations_file"), "{text}");
    }

    #[test]
    fn a_list_has_one_id_a_line() {
        assert_eq!(list_text(&json!({ "revocations": [] })), "nobody is revoked\n");
        assert_eq!(list_text(&json!({ "revocations": ["a", "b c"] })), "a\nb c\n");
    }
}
