//! Limits, times, and how much is logged.

use super::{Conf, End, Value, parser};
use crate::config::NONCE_LIFETIME_MIN_S;
use crate::config::value::Seconds;
use crate::turn::{LIFETIME_DEFAULT_S, nonce};

/// Limits that a database may have for a realm, and their keys here.
const REALM_OPTIONS: [(&str, &str); 3] = [
    ("user-quota", "limits.allocations_per_user"),
    ("total-quota", "limits.allocations"),
    ("max-bps", "limits.bytes_per_second"),
];

/// The key that one of a realm's options is here.
pub(super) fn option_path(option: &str) -> Option<&'static str> {
    REALM_OPTIONS.iter().find(|(name, _)| *name == option).map(|&(_, path)| path)
}

impl Conf<'_> {
    /// `[limits]`, and the times of `[auth]`.
    pub(super) fn limits(&mut self) {
        for (key, path) in REALM_OPTIONS.into_iter().chain([("bps-capacity", "limits.bytes_per_second_total")]) {
            let Some(at) = self.last(key) else { continue };
            let Ok(limit) = u64::try_from(self.number(at)) else {
                self.note(at, End::NeedsYou, "it is negative: there is no limit");
                continue;
            };
            self.set(path, Value::Number(limit), &[at]);
            let text = match (key, limit) {
                (_, 0) => format!("{path}: none"),
                ("max-bps" | "bps-capacity", _) => format!("{path}: {}", rate(limit)),
                _ => path.to_owned(),
            };
            self.note(at, End::Carried, text);
        }
        self.stored_limits();
        self.nonce_lifetime();
        self.allocation_lifetime();
        for (key, seconds) in [("channel-lifetime", 600), ("permission-lifetime", 300)] {
            if let Some(at) = self.last(key)
                && !self.value(at).is_empty()
                && self.number(at) != seconds
            {
                let text = format!("it is {seconds} seconds, which clients count on (RFC 8656)");
                self.note(at, End::Dropped, text);
            }
        }
        let limited = self.on("unauthorized-ratelimit");
        if let Some(at) = self.last("unauthorized-ratelimit-rps") {
            match (limited, u64::try_from(self.number(at))) {
                (Some(_), Ok(limit)) if limit > 0 && limit <= u64::from(u32::MAX) => {
                    self.set("limits.unverified_per_second", Value::Number(limit), &[at]);
                    self.note(at, End::Carried, "limits.unverified_per_second; counts Binding answers too");
                }
                _ => self.note(at, End::Nothing, "limits.unverified_per_second stays 50"),
            }
        }
        let habit = "coturn ends no session that is refreshed";
        self.set_habit("auth.max_session", Value::Number(0), habit);
        let habit = "coturn counts allocations by user, not by where they come from";
        self.set_habit("limits.allocations_per_source", Value::Number(0), habit);
    }

    fn nonce_lifetime(&mut self) {
        let Some(at) = self.last("stale-nonce") else { return };
        let asked = if self.value(at).is_empty() { 600 } else { self.number(at) };
        let max = i64::from(nonce::LIFETIME_MAX_S);
        let min = i64::try_from(NONCE_LIFETIME_MIN_S).unwrap_or(max);
        let lifetime = if asked <= 0 { max } else { asked.clamp(min, max) };
        self.set("auth.nonce_lifetime", duration(lifetime.unsigned_abs()), &[at]);
        match lifetime == asked {
            true => self.note(at, End::Carried, "auth.nonce_lifetime"),
            false if asked > 0 && asked < min => {
                self.note(at, End::NeedsYou, format!("auth.nonce_lifetime is {min} seconds, the shortest"));
            }
            false => self.note(at, End::Safer, format!("auth.nonce_lifetime is {max} seconds, the longest")),
        }
    }

    fn allocation_lifetime(&mut self) {
        let Some(at) = self.last("max-allocate-lifetime") else { return };
        let asked = if self.value(at).is_empty() { 3600 } else { self.number(at) };
        let min = i64::from(LIFETIME_DEFAULT_S);
        let max = i64::from(u32::MAX);
        let lifetime = asked.clamp(min, max);
        self.set("limits.lifetime_max", duration(lifetime.unsigned_abs()), &[at]);
        match lifetime == asked {
            true => self.note(at, End::Carried, "limits.lifetime_max"),
            false => {
                let text = format!("limits.lifetime_max is {lifetime} seconds: clients that ask for nothing get {min}");
                self.note(at, End::NeedsYou, text);
            }
        }
    }

    /// `[log]`.
    pub(super) fn log(&mut self) {
        let (noisy, verbose) = (self.on("Verbose"), self.on("verbose"));
        let mut level = match (noisy, verbose) {
            (Some(at), _) => Some(("debug", at)),
            (None, Some(at)) => Some(("info", at)),
            (None, None) => None,
        };
        if let Some(at) = self.last("log-min-level") {
            let base = level.map_or("info", |(level, _)| level);
            let lowest = match self.value(at) {
                "debug" => Some(base),
                "info" => Some("info"),
                "warning" => Some("warn"),
                "error" => Some("error"),
                _ => None,
            };
            match lowest {
                Some(lowest) => {
                    level = Some((lowest, at));
                    self.note(at, End::Carried, format!("log.level = {lowest}"));
                }
                None => self.note(at, End::NeedsYou, "coturn knows debug, info, warning and error"),
            }
        }
        if let Some((level, at)) = level {
            self.set("log.level", Value::Text(level.into()), &[at]);
            for at in [noisy, verbose].into_iter().flatten() {
                self.note(at, End::Carried, format!("log.level = {level}"));
            }
        }
        let to_syslog = self.on("syslog");
        let log_file = self.last("log-file").filter(|&at| self.value(at) == "syslog");
        if let Some(at) = to_syslog.or(log_file) {
            self.set("log.format", Value::Text("journald".into()), &[at]);
        }
        for at in [to_syslog, log_file].into_iter().flatten() {
            self.note(at, End::Carried, "log.format = journald: to stderr, with the priorities of syslog");
        }
        for at in self.all("sock-buf-size") {
            let is_number = parser::number(self.value(at)).0 > 0;
            self.note(at, End::Nothing, if is_number { "turnpike sizes its buffers itself" } else { "it is no size" });
        }
    }
}

/// A duration as people write it.
pub(super) fn duration(seconds: u64) -> Value {
    Value::Text(Seconds(seconds).to_string())
}

/// Bytes a second as people speak of them.
fn rate(bytes: u64) -> String {
    let kilobits = bytes.saturating_mul(8) / 1000;
    match kilobits {
        0..=999 => format!("{bytes} bytes a second are {kilobits} kbit/s"),
        _ => format!("{bytes} bytes a second are {}.{} Mbit/s", kilobits / 1000, kilobits % 1000 / 100),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_told_in_bits() {
        assert_eq!(rate(64_000), "64000 bytes a second are 512 kbit/s");
        assert_eq!(rate(3_000_000), "3000000 bytes a second are 24.0 Mbit/s");
        assert_eq!(rate(u64::MAX).split(' ').next(), Some("18446744073709551615"));
    }
}
