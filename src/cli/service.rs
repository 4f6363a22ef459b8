//! What a service manager is told, and the sockets it passes: systemd's protocol.
//!
//! Without a service manager nothing here does anything. One that can not be told is a warning
//! in the log: clients are served whether or not anybody watches.

mod store;
mod watchdog;

pub use store::Passed;
pub use watchdog::Watchdog;

use super::Failure;
use super::serve::Outcome;
use sd_notify::NotifyState;
use std::time::Duration;

/// Longest status, in bytes: a line of `systemctl status`.
const STATUS_LEN_MAX: usize = 400;
/// How long ending may take after a drain is over.
const END: Duration = Duration::from_secs(15);

/// Everything is bound and clients are served; `text` says where.
pub fn ready(text: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(&line(text))]);
}

/// What the server does now.
pub fn status(text: &str) {
    tell(&[NotifyState::Status(&line(text))]);
}

/// Says that the configuration is being read again, has that done, and says what came of it.
pub fn reloading(reload: impl FnOnce() -> Outcome) -> Outcome {
    // The time tells this reload's end from an earlier one's.
    let Ok(now) = NotifyState::monotonic_usec_now() else { return reload() };
    tell(&[NotifyState::Reloading, now]);
    let outcome = reload();
    match &outcome {
        Ok(_) => ready("serving by the configuration read last"),
        Err(fault) => ready(&format!("serving; the reload was refused, the old configuration stays: {fault}")),
    }
    outcome
}

/// The server ends, at the latest after `left`; the service manager is asked to wait so long.
pub fn stopping(left: Duration) {
    let wait = (left + END).as_micros();
    tell(&[NotifyState::Stopping, NotifyState::Custom(&format!("EXTEND_TIMEOUT_USEC={wait}"))]);
}

fn tell(state: &[NotifyState]) {
    let text: String = state.iter().map(|state| format!("{state}\n")).collect();
    if let Err(error) = store::send(&text, None) {
        tracing::warn!(%error, "the service manager can not be told");
    }
}

/// The first line, no longer than a status may be: a line end would begin another message.
fn line(text: &str) -> String {
    let first = text.lines().next().unwrap_or_default();
    let mut line = String::new();
    for char in first.chars().filter(|char| !char.is_control()) {
        if line.len() + char.len_utf8() > STATUS_LEN_MAX {
            break;
        }
        line.push(char);
    }
    line
}

/// Takes the sockets that the service manager passed. To be called before anything is opened.
pub fn passed() -> Result<Passed, Failure> {
    Passed::take().map_err(|error| {
        let what = format!("the sockets that were passed can not be taken over: {error} (LISTEN_FDS)");
        Failure::Other(format!("{what}; start turnpike by a service manager, or without that variable"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_one_short_line() {
        assert_eq!(line("serving"), "serving");
        assert_eq!(line("refused\n  --> turnpike.toml\nREADY=1"), "refused");
        assert_eq!(line("a\u{1b}[1mb\r"), "a[1mb");
        assert_eq!(line(&"é".repeat(STATUS_LEN_MAX)).len(), STATUS_LEN_MAX);
        assert_eq!(line(&"x".repeat(STATUS_LEN_MAX + 1)).len(), STATUS_LEN_MAX);
        assert_eq!(line(""), "");
    }
}
