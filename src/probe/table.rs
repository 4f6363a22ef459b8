//! A report as people read it: a table, then what is to be said about it. Pure.

use super::ask::Service;
use super::report::{Gist, Outcome, Report, Stage, Step, Target};
use std::fmt::Write;

/// Between two columns.
const GUTTER: &str = "   ";

/// Whether words are coloured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colours {
    /// As terminals show them.
    On,
    /// Plain text.
    Off,
}

impl Colours {
    fn paint(self, outcome: Outcome, text: &str) -> String {
        let code = match outcome {
            Outcome::Pass => 32,
            Outcome::Warn => 33,
            Outcome::Fail => 31,
            Outcome::Skip => 2,
        };
        match self {
            Colours::On => format!("\x1b[{code}m{text}\x1b[0m"),
            Colours::Off => text.to_owned(),
        }
    }
}

/// The report as text.
pub fn text(report: &Report, colours: Colours) -> String {
    let rows: Vec<_> = report.targets.iter().map(row).collect();
    let used = |column: &usize| rows.iter().any(|row| row[*column] != "-");
    let columns: Vec<usize> = (0..HEAD.len()).filter(used).collect();
    let width = |column: usize| {
        rows.iter()
            .map(|row| row[column].as_str())
            .chain([HEAD[column]])
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or(0)
    };
    let mut out = line(&columns, &HEAD, width);
    for (target, row) in report.targets.iter().zip(&rows) {
        let cells: Vec<&str> = row.iter().map(String::as_str).collect();
        let line = line(&columns, &cells, width);
        // Painted behind the alignment, which counts characters.
        out.push_str(&line.replacen(cells[0], &colours.paint(target.outcome, cells[0]), 1));
    }
    for target in &report.targets {
        remarks(&mut out, target, colours);
    }
    let _ = writeln!(out, "\n{}", sum(report));
    out
}

const HEAD: [&str; 9] = ["RESULT", "SERVER", "CONNECT", "MAPPED", "RELAYED", "RELAY", "MTU", "CERTIFICATE", "CLOCK"];

fn row(target: &Target) -> [String; 9] {
    let steps = &target.steps;
    [
        word(target.outcome).to_owned(),
        name(target),
        cell(&steps.connect),
        cell(&steps.binding),
        cell(&steps.allocation),
        cell(&steps.relay),
        cell(&steps.mtu),
        cell(&steps.certificate),
        cell(&steps.clock),
    ]
}

/// A target by transport and address, or by its URI where it has none.
pub fn name(target: &Target) -> String {
    match target.server {
        Some(server) => format!("{} {server}", target.transport),
        None => target.uri.clone(),
    }
}

/// The word for an outcome.
pub const fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Pass => "pass",
        Outcome::Warn => "warn",
        Outcome::Fail => "FAIL",
        Outcome::Skip => "skip",
    }
}

fn cell<T: Gist>(step: &Step<T>) -> String {
    let gist = step.found.as_ref().map(Gist::gist).filter(|gist| !gist.is_empty());
    match (step.outcome, gist) {
        (Outcome::Fail, None) => "FAIL".to_owned(),
        (Outcome::Warn, None) => "warn".to_owned(),
        (_, None) => "-".to_owned(),
        (Outcome::Fail, Some(gist)) => format!("FAIL {gist}"),
        (_, Some(gist)) => gist,
    }
}

fn line(columns: &[usize], cells: &[&str], width: impl Fn(usize) -> usize) -> String {
    let mut line = String::new();
    for &column in columns {
        let cell = cells[column];
        let padding = width(column) - cell.chars().count();
        let _ = write!(line, "{cell}{:padding$}{GUTTER}", "");
    }
    format!("{}\n", line.trim_end())
}

/// Every reason of a target, under its name.
fn remarks(out: &mut String, target: &Target, colours: Colours) {
    let steps = target.steps.all();
    // That a stream has no MTU is known to whoever looks for it, and that no relay was asked for to who asked.
    let is_stun = target.ask.as_ref().is_some_and(|ask| ask.service == Service::Stun);
    let is_said = |stage: Stage, outcome: Outcome| match (stage, outcome) {
        (Stage::Mtu, Outcome::Skip) => false,
        (Stage::Allocation, Outcome::Skip) => !is_stun,
        _ => true,
    };
    let said: Vec<_> = steps
        .iter()
        .filter(|(stage, outcome, _)| is_said(*stage, *outcome))
        .filter_map(|(stage, outcome, reason)| reason.map(|reason| (stage, outcome, reason)))
        .collect();
    if said.is_empty() {
        return;
    }
    let _ = writeln!(out, "\n{}", name(target));
    for (stage, outcome, reason) in said {
        let _ = writeln!(out, "  {} {}: {reason}", colours.paint(*outcome, word(*outcome)), stage.name());
    }
}

fn sum(report: &Report) -> String {
    let count = |wanted| report.targets.iter().filter(|target| target.outcome == wanted).count();
    let (pass, warn, fail, skip) =
        (count(Outcome::Pass), count(Outcome::Warn), count(Outcome::Fail), count(Outcome::Skip));
    let mut parts = vec![format!("{} of {} work", pass + warn, pass + warn + fail)];
    if warn > 0 {
        parts.push(format!("{warn} with a warning"));
    }
    if skip > 0 {
        parts.push(format!("{skip} not tried"));
    }
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::super::ask::{Asked, parse};
    use super::super::report::{Allocated, Between, Bound, Connected, Mtu, Percentiles, RoundTrips, Steps};
    use super::*;
    use serde_json::{Value, json};
    use std::net::SocketAddr;

    fn good() -> Target {
        let Asked::Ask(ask) = parse("turn:relay.example.org").unwrap().remove(0) else { panic!("it is tried") };
        let addr = |port| SocketAddr::from(([203, 0, 113, 5], port));
        let rtt_ms = Some(Percentiles { p50: 12.5, p95: 14.0, p99: 15.0, max: 20.5 });
        let steps = Steps {
            connect: Step::pass(Connected { ms: 1.5 }),
            binding: Step::pass(Bound { ms: 1.5, tries: 1, mapped: Some(addr(40_000)) }),
            allocation: Step::pass(Allocated {
                ms: 2.5,
                relayed: addr(50_000),
                lifetime_s: Some(600),
                realm: Some("example.org".to_owned()),
            }),
            relay: Step::pass(RoundTrips { between: Between::Allocations, sent: 50, received: 50, loss: 0.0, rtt_ms }),
            mtu: Step::pass(Mtu { payload_bytes: 1468, at_least: false, unfragmented: true }),
            ..Steps::default()
        };
        Target::new(&ask, Some(addr(3478)), steps).judged()
    }

    fn bad() -> Target {
        let Asked::Ask(ask) = parse("turn:[::1]?transport=tcp").unwrap().remove(0) else { panic!("it is tried") };
        let steps = Steps { connect: Step::fail("refused".to_owned()), ..Steps::default() };
        Target::new(&ask, Some("[::1]:3478".parse().unwrap()), steps).judged()
    }

    #[test]
    fn columns_are_aligned_and_empty_ones_left_out() {
        let untried = Target::untried("turns:x?transport=udp", "dtls", "not tried: no DTLS");
        let report = Report::new(vec![good(), bad(), untried]);
        let shown = text(&report, Colours::Off);
        let (table, remarks) = shown.split_once("\n\n").unwrap();
        let lines: Vec<Vec<char>> = table.lines().map(|line| line.chars().collect()).collect();
        let head: String = lines[0].iter().collect();
        assert_eq!(
            head.split_whitespace().collect::<Vec<_>>(),
            ["RESULT", "SERVER", "CONNECT", "MAPPED", "RELAYED", "RELAY", "MTU"]
        );
        for title in head.split_whitespace() {
            let at = head.find(&format!(" {title}")).map_or(0, |at| at + 1);
            for line in &lines[1..] {
                assert!(line.get(at).is_none_or(|c| *c != ' '), "{title} begins elsewhere in {shown}");
                assert!(at == 0 || line.get(at - 1).is_none_or(|c| *c == ' '), "{title} begins elsewhere in {shown}");
            }
        }
        assert!(table.contains("0 of 50 lost, 12 ms (p95 14 ms)   1468"), "{shown}");
        assert_eq!(
            remarks,
            "tcp [::1]:3478\n  FAIL connect: refused\n\nturns:x?transport=udp\n  skip connect: not tried: no DTLS\n\n\
             1 of 2 work, 1 not tried\n"
        );
    }

    #[test]
    fn colours_change_no_column() {
        let report = Report::new(vec![good(), bad()]);
        let painted = text(&report, Colours::On);
        assert!(painted.contains("\x1b[31mFAIL\x1b[0m"), "{painted:?}");
        let mut plain = painted;
        for code in [32, 33, 31, 2, 0] {
            plain = plain.replace(&format!("\x1b[{code}m"), "");
        }
        assert_eq!(plain, text(&report, Colours::Off));
    }

    #[test]
    fn the_json_is_as_documented() {
        let report = json!(Report::new(vec![good(), bad()]));
        assert_eq!((&report["format"], &report["passed"]), (&json!(1), &json!(false)));
        let [good, bad] = &report["targets"].as_array().unwrap()[..] else { panic!("there are two") };
        assert_eq!(good["uri"], "turn:relay.example.org:3478?transport=udp");
        assert_eq!(
            (&good["transport"], &good["server"], &good["outcome"]),
            (&json!("udp"), &json!("203.0.113.5:3478"), &json!("pass"))
        );
        let steps = &good["steps"];
        assert_eq!(steps["connect"], json!({"outcome": "pass", "reason": null, "ms": 1.5}));
        assert_eq!(steps["binding"]["mapped"], "203.0.113.5:40000");
        assert_eq!(steps["allocation"]["lifetime_s"], 600);
        assert_eq!(steps["relay"]["rtt_ms"], json!({"p50": 12.5, "p95": 14.0, "p99": 15.0, "max": 20.5}));
        assert_eq!(steps["relay"]["between"], "allocations");
        assert_eq!(
            steps["mtu"],
            json!({"outcome": "pass", "reason": null, "payload_bytes": 1468, "at_least": false, "unfragmented": true})
        );
        assert_eq!(steps["clock"], json!({"outcome": "skip", "reason": null}));
        assert_eq!(bad["steps"]["connect"], json!({"outcome": "fail", "reason": "refused"}));
        assert_eq!(bad["outcome"], "fail");
        assert_eq!(good["software"], Value::Null);
    }

    #[test]
    fn nothing_tried_is_nothing_passed() {
        assert!(!Report::new(vec![Target::untried("turns:x?transport=udp", "dtls", "no DTLS")]).passed);
        assert!(Report::new(vec![good()]).passed);
        assert!(!Report::new(vec![good(), bad()]).passed);
    }
}
