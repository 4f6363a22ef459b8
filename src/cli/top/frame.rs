//! One look at the server as lines of text, cut to the size of a screen. Pure: no terminal, no clock.

use super::rates::{Rates, bits, count, number};
use crate::cli::access::printable;
use crate::cli::admin::{bytes, columns, duration};
use serde_json::Value;
use std::time::Instant;

/// Columns of a user's name.
const USER_COLUMNS: usize = 24;

/// What the server said at one moment.
#[derive(Clone, Debug)]
pub struct Sample {
    /// When.
    pub at: Instant,
    /// `/api/v1/status`.
    pub status: Value,
    /// `/api/v1/sessions`, the fastest first.
    pub sessions: Value,
}

/// What is shown.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// An earlier look, for rates.
    pub before: Option<&'a Sample>,
    /// The last one.
    pub now: &'a Sample,
    /// Why there is no newer one.
    pub trouble: Option<&'a str>,
}

/// How much fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Characters beside each other.
    pub columns: usize,
    /// Lines below each other.
    pub lines: usize,
}

/// A line of the screen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// What it says.
    pub text: String,
    /// Whether it stands out.
    pub is_heading: bool,
}

/// The lines of a screen of this size, never more and never longer.
pub fn lines(view: &View, size: Size) -> Vec<Line> {
    let mut text = vec![(header(view), true)];
    let plain = |text: String| (text, false);
    text.extend(
        view.trouble.map(|why| plain(format!("no answer, trying again: {}", printable(&why.replace('\n', " "))))),
    );
    text.extend(totals(view).into_iter().map(plain));
    text.push(plain(String::new()));
    let table = sessions(&view.now.sessions);
    let listed = table.len().saturating_sub(1);
    let room = size.lines.saturating_sub(text.len() + 1);
    let total = usize::try_from(number(&view.now.sessions, "/total")).unwrap_or(usize::MAX).max(listed);
    // The last line says how many there is no room for.
    let shown = if total > room { listed.min(room.saturating_sub(1)) } else { listed };
    let mut rows = table.into_iter();
    text.extend(rows.next().map(|heading| (heading, true)));
    text.extend(rows.take(shown).map(plain));
    text.extend((total > shown).then(|| plain(format!("and {} more", total - shown))));
    text.extend(
        is_partial(&view.now.sessions).then(|| plain("a worker did not show all of its sessions in time".into())),
    );
    text.truncate(size.lines);
    let cut = |text: String| text.chars().take(size.columns).collect();
    text.into_iter().map(|(text, is_heading)| Line { text: cut(text), is_heading }).collect()
}

fn header(view: &View) -> String {
    let status = &view.now.status;
    let word = |name: &str| printable(status[name].as_str().unwrap_or("-"));
    let state = match (status["draining"].as_bool() == Some(true), status.pointer("/drain/left_s")) {
        (false, _) => "serving".to_owned(),
        (true, Some(Value::Number(left))) => {
            format!("draining, {} left", duration(left.as_u64().unwrap_or_default()))
        }
        (true, _) => "draining until the last allocation ends".to_owned(),
    };
    let workers = number(status, "/workers");
    format!(
        "turnpike {}  {}  {state}  up {}  {workers} {}",
        word("version"),
        word("realm"),
        duration(number(status, "/uptime_s")),
        if workers == 1 { "worker" } else { "workers" },
    )
}

/// The server as a whole.
fn totals(view: &View) -> Vec<String> {
    let status = &view.now.status;
    let now = |pointer: &str| number(status, pointer);
    let rates = Rates::of(view);
    let per_s = |pointer: &str| rates.of_counter(pointer).map(count).unwrap_or_else(unknown);
    let mut lines = vec![format!(
        "allocations  {} now   {} begin   {} end   {} permissions   {} channels   {} connections   {} ports free",
        now("/allocations"),
        per_s("/allocations_created_total"),
        rates.of_ended().map(count).unwrap_or_else(unknown),
        now("/permissions"),
        now("/channels"),
        now("/connections"),
        now("/ports_free"),
    )];
    for (name, way) in [("to peers", "to_peer"), ("to clients", "to_client")] {
        let (packets, volume) = (format!("/relay/{way}/packets"), format!("/relay/{way}/bytes"));
        let bits = rates.of_counter(&volume).map(bits).unwrap_or_else(unknown);
        let (sent, carried) = (now(&packets), bytes(now(&volume)));
        lines.push(format!("{name:<13}{} packets   {bits}   {sent} packets, {carried} in all", per_s(&packets)));
    }
    lines.push(format!("refused      {}", each(rates.of_refused())));
    lines.push(format!("dropped      {}", each(rates.of_dropped())));
    let cpu = rates.of_counter("/process/cpu_s");
    let cpu = cpu.map(|cores| format!("{:.0} %", cores * 100.0)).unwrap_or_else(unknown);
    lines.push(format!(
        "process      {cpu} of a core   {}   {} files   {} rooms with {} clients",
        bytes(now("/process/rss_bytes")),
        now("/process/open_fds"),
        now("/rooms/rooms"),
        now("/rooms/clients"),
    ));
    lines
}

/// `3.0/s: allocate 401 2.0/s, allocate 508 1.0/s`.
fn each(rates: Option<Vec<(String, f64)>>) -> String {
    let Some(rates) = rates else { return unknown() };
    let sum = count(rates.iter().map(|(_, rate)| rate).sum());
    let each: Vec<String> = rates.into_iter().map(|(name, rate)| format!("{name} {}", count(rate))).collect();
    if each.is_empty() { sum } else { format!("{sum}: {}", each.join(", ")) }
}

/// What stands for a rate that is not known yet.
fn unknown() -> String {
    "-".into()
}

fn is_partial(sessions: &Value) -> bool {
    sessions["partial"].as_bool() == Some(true)
}

/// The sessions, a heading before them.
fn sessions(sessions: &Value) -> Vec<String> {
    let heading = ["SESSION", "USER", "TO PEERS", "TO CLIENT", "PACKETS", "CARRIED", "AGE", "VIA", "CLIENT", "RELAYED"];
    let listed = sessions["sessions"].as_array().map_or(&[][..], Vec::as_slice);
    if listed.is_empty() {
        return vec!["no sessions".into()];
    }
    let row = |session: &Value| {
        let word = |name: &str| printable(session[name].as_str().unwrap_or("-"));
        let rate = |way: &str, what: &str| session[way][what].as_f64();
        let both = |what: &str| rate("to_peer", what).zip(rate("to_client", what)).map(|(there, back)| there + back);
        let carried = number(session, "/to_peer/bytes").saturating_add(number(session, "/to_client/bytes"));
        let relayed = session["relayed"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let way = |way: &str| rate(way, "bytes_per_s").map_or_else(unknown, bits);
        [
            word("id"),
            short(&word("user"), USER_COLUMNS),
            way("to_peer"),
            way("to_client"),
            both("packets_per_s").map_or_else(unknown, count),
            bytes(carried),
            duration(number(session, "/age_s")),
            word("transport"),
            word("client"),
            relayed.map(printable).collect::<Vec<_>>().join(" "),
        ]
    };
    let rows: Vec<_> = std::iter::once(heading.map(String::from)).chain(listed.iter().map(row)).collect();
    columns(&rows).lines().map(str::to_owned).collect()
}

/// A text of so many characters at most.
fn short(text: &str, columns: usize) -> String {
    match text.chars().count() > columns {
        true => text.chars().take(columns - 1).chain(['…']).collect(),
        false => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::time::Duration;

    const WIDE: Size = Size { columns: 200, lines: 40 };

    fn sample(at: Instant, uptime_s: u64, packets: u64) -> Sample {
        let volume = json!({ "packets": packets, "bytes": packets * 1000 });
        let status = json!({
            "version": "1.2.3", "realm": "example.org", "uptime_s": uptime_s, "draining": false, "workers": 2,
            "allocations": 1, "allocations_created_total": packets / 10, "permissions": 1, "channels": 1,
            "connections": 0, "ports_free": 9, "ended": { "expired": packets / 20 },
            "relay": { "to_peer": volume, "to_client": volume },
            "requests": [
                { "method": "allocate", "code": "401", "count": packets / 5 },
                { "method": "allocate", "code": "success", "count": packets },
            ],
            "dropped": { "no_permission": packets / 2, "no_channel": 7 },
            "process": { "rss_bytes": 1000, "cpu_s": 0.5, "open_fds": 3 }, "rooms": { "rooms": 0, "clients": 0 },
        });
        let flow = json!({ "bytes": 500, "packets_per_s": 50.0, "bytes_per_s": 1e6 });
        let sessions = json!({ "total": 1, "sessions": [{
            "id": "0-1-2", "user": "\u{1b}[2Jalice", "transport": "udp", "client": "192.0.2.7:4000",
            "relayed": ["192.0.2.1:50000"], "age_s": 61, "to_peer": flow, "to_client": flow,
        }] });
        Sample { at, status, sessions }
    }

    fn text(view: &View, size: Size) -> Vec<String> {
        lines(view, size).into_iter().map(|line| line.text).collect()
    }

    #[test]
    fn rates_are_between_two_looks() {
        let at = Instant::now();
        let (before, now) = (sample(at, 10, 0), sample(at + Duration::from_secs(2), 12, 200));
        let text = text(&View { before: Some(&before), now: &now, trouble: None }, WIDE);
        assert_eq!(text[0], "turnpike 1.2.3  example.org  serving  up 12s  2 workers");
        assert!(text[1].starts_with("allocations  1 now   10/s begin   5.0/s end"), "{}", text[1]);
        assert_eq!(text[2], "to peers     100/s packets   800 kbit/s   200 packets, 200.0 kB in all");
        assert_eq!(text[4], "refused      20/s: allocate 401 20/s");
        assert_eq!(text[5], "dropped      50/s: no_permission 50/s");
        let row = &text[9];
        assert!(row.starts_with("0-1-2    \u{FFFD}[2Jalice  8.0 Mbit/s  8.0 Mbit/s  100/s"), "{row}");
        assert!(row.ends_with("1m1s  udp  192.0.2.7:4000  192.0.2.1:50000"), "{row}");
    }

    #[test]
    fn what_a_server_calls_things_neither_steers_the_terminal_nor_makes_lines() {
        let at = Instant::now();
        let (mut before, mut now) = (sample(at, 10, 0), sample(at + Duration::from_secs(2), 12, 200));
        let evil = "evil\n\u{1B}[2J\u{9B}2J\u{2028}";
        for (sample, count) in [(&mut before, 0), (&mut now, 20)] {
            sample.status["requests"] = json!([{ "method": evil, "code": evil, "count": count }]);
            sample.status["dropped"] = json!({ evil: count });
            sample.sessions["sessions"][0]["user"] = json!(evil);
            sample.sessions["sessions"][0]["relayed"] = json!([evil]);
        }
        let clean = "evil\u{FFFD}\u{FFFD}[2J\u{FFFD}2J\u{FFFD}";
        let text = text(&View { before: Some(&before), now: &now, trouble: None }, WIDE);
        assert_eq!(text[4], format!("refused      10/s: {clean} {clean} 10/s"));
        assert_eq!(text[5], format!("dropped      10/s: {clean} 10/s"));
        assert_eq!(text.len(), 10, "one session is one row: {text:?}");
        assert!(text[9].contains(&format!("  {clean}  ")) && text[9].ends_with(clean), "{}", text[9]);
    }

    #[test]
    fn a_server_that_began_anew_has_no_rates_yet() {
        let at = Instant::now();
        let (before, now) = (sample(at, 1000, 900), sample(at + Duration::from_secs(2), 1, 200));
        let text = text(&View { before: Some(&before), now: &now, trouble: None }, WIDE);
        assert_eq!(text[2], "to peers     - packets   -   200 packets, 200.0 kB in all");
        assert_eq!(text[4], "refused      -");
    }

    #[test]
    fn a_drain_and_a_silent_server_are_told() {
        let mut now = sample(Instant::now(), 5, 0);
        now.status["draining"] = json!(true);
        let view = View { before: None, now: &now, trouble: Some("nobody\n\u{1b}there") };
        assert_eq!(text(&view, WIDE)[1], "no answer, trying again: nobody \u{FFFD}there");
        assert!(text(&view, WIDE)[0].contains("  draining until the last allocation ends  "));
        now.status["drain"] = json!({ "left_s": 45 });
        let view = View { before: None, now: &now, trouble: None };
        assert!(text(&view, WIDE)[0].contains("  draining, 45s left  "));
        now.sessions = json!({ "sessions": [] });
        let view = View { before: None, now: &now, trouble: None };
        assert_eq!(text(&view, WIDE).last().map(String::as_str), Some("no sessions"));
    }

    #[test]
    fn what_there_is_no_room_for_is_counted() {
        let mut now = sample(Instant::now(), 5, 0);
        let one = now.sessions["sessions"][0].clone();
        now.sessions = json!({ "total": 500, "partial": false, "sessions": vec![one; 200] });
        let view = View { before: None, now: &now, trouble: None };
        let text = |height| text(&view, Size { columns: 200, lines: height });
        assert_eq!((text(12).len(), text(12)[11].as_str()), (12, "and 498 more"));
        assert_eq!(text(300).last().map(String::as_str), Some("and 300 more"));
        now.sessions["partial"] = json!(true);
        now.sessions["total"] = json!(200);
        let view = View { before: None, now: &now, trouble: None };
        let lines = super::lines(&view, Size { columns: 200, lines: 300 });
        assert!(lines.last().is_some_and(|line| line.text.starts_with("a worker did not show")));
    }

    #[test]
    fn nothing_is_longer_or_higher_than_the_screen() {
        let now = sample(Instant::now(), 5, 1_000_000);
        let view = View { before: None, now: &now, trouble: Some("gone") };
        for (columns, height) in [(1, 1), (10, 3), (40, 9), (80, 24), (0, 0)] {
            let text = text(&view, Size { columns, lines: height });
            assert!(text.len() <= height && text.iter().all(|line| line.chars().count() <= columns), "{text:?}");
        }
        assert_eq!(short("0123456789", 5), "0123…");
        assert_eq!(short("01234", 5), "01234");
    }
}
