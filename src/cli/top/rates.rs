//! How fast a server's counters move between two looks at it.

use super::frame::View;
use crate::cli::access::printable;
use serde_json::Value;

/// Two looks at one run of a server, or one.
pub struct Rates<'a> {
    /// The earlier look, and how many seconds lie between.
    before: Option<(&'a Value, f64)>,
    now: &'a Value,
}

impl<'a> Rates<'a> {
    /// Between the looks of a view.
    pub fn of(view: &View<'a>) -> Self {
        let now = &view.now.status;
        // A server that has started anew counts from zero.
        let before = view.before.filter(|before| number(&before.status, "/uptime_s") <= number(now, "/uptime_s"));
        let before = before.map(|before| {
            let seconds = view.now.at.saturating_duration_since(before.at).as_secs_f64();
            (&before.status, seconds)
        });
        Rates { before: before.filter(|(_, seconds)| *seconds > 0.0), now }
    }

    /// Of the counter there.
    pub fn of_counter(&self, pointer: &str) -> Option<f64> {
        self.of_count(|status| status.pointer(pointer).and_then(Value::as_f64).unwrap_or_default())
    }

    /// Of allocations that end, for whatever reason.
    pub fn of_ended(&self) -> Option<f64> {
        self.of_count(|status| {
            let reasons = status["ended"].as_object().into_iter().flat_map(|reasons| reasons.values());
            reasons.filter_map(Value::as_f64).sum()
        })
    }

    /// Of requests refused, by method and code; the fastest first, without those that rest.
    pub fn of_refused(&self) -> Option<Vec<(String, f64)>> {
        let answers = self.now["requests"].as_array().map_or(&[][..], Vec::as_slice);
        let word = |answer: &Value, name: &str| printable(answer[name].as_str().unwrap_or("-"));
        let refused = answers.iter().filter(|answer| answer["code"] != "success");
        self.each(refused.map(|refused| {
            let (method, code) = (word(refused, "method"), word(refused, "code"));
            let is_it =
                move |answer: &&Value| answer["method"] == refused["method"] && answer["code"] == refused["code"];
            let count = move |status: &Value| {
                let answers = status["requests"].as_array().map_or(&[][..], Vec::as_slice);
                answers.iter().find(is_it).and_then(|answer| answer["count"].as_f64()).unwrap_or_default()
            };
            (format!("{method} {code}"), self.of_count(count))
        }))
    }

    /// Of packets dropped, by reason; the fastest first, without those that rest.
    pub fn of_dropped(&self) -> Option<Vec<(String, f64)>> {
        let reasons = self.now["dropped"].as_object().into_iter().flatten().map(|(reason, _)| reason);
        self.each(reasons.map(|reason| {
            let rate = self.of_count(|status| status["dropped"][reason].as_f64().unwrap_or_default());
            (printable(reason), rate)
        }))
    }

    fn each(&self, rates: impl Iterator<Item = (String, Option<f64>)>) -> Option<Vec<(String, f64)>> {
        self.before?;
        let moving = rates.filter_map(|(name, rate)| Some((name, rate?))).filter(|(_, rate)| *rate > 0.0);
        let mut moving: Vec<(String, f64)> = moving.collect();
        moving.sort_by(|a, b| b.1.total_cmp(&a.1));
        Some(moving)
    }

    fn of_count(&self, count: impl Fn(&Value) -> f64) -> Option<f64> {
        let (before, seconds) = self.before?;
        Some((count(self.now) - count(before)).max(0.0) / seconds)
    }
}

/// The whole number there; 0 where there is none.
pub fn number(value: &Value, pointer: &str) -> u64 {
    value.pointer(pointer).and_then(Value::as_u64).unwrap_or_default()
}

/// `0/s`, `2.5/s`, `1500/s`.
pub fn count(per_s: f64) -> String {
    match per_s {
        0.0 => "0/s".into(),
        small if small < 10.0 => format!("{small:.1}/s"),
        large => format!("{large:.0}/s"),
    }
}

/// Bytes a second as `1.5 Mbit/s`.
pub fn bits(bytes_per_s: f64) -> String {
    let units = ["bit/s", "kbit/s", "Mbit/s", "Gbit/s", "Tbit/s"];
    let (mut rate, mut unit) = (bytes_per_s * 8.0, 0);
    while rate >= 999.5 && unit + 1 < units.len() {
        (rate, unit) = (rate / 1000.0, unit + 1);
    }
    match rate < 10.0 && unit > 0 {
        true => format!("{rate:.1} {}", units[unit]),
        false => format!("{rate:.0} {}", units[unit]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_written_for_people() {
        assert_eq!([0.0, 0.25, 9.9, 10.0, 1234.5].map(count), ["0/s", "0.2/s", "9.9/s", "10/s", "1234/s"]);
        assert_eq!(
            [0.0, 12.0, 124.9, 125.0, 20_000.0, 1.25e8].map(bits),
            ["0 bit/s", "96 bit/s", "999 bit/s", "1.0 kbit/s", "160 kbit/s", "1.0 Gbit/s"]
        );
    }
}
