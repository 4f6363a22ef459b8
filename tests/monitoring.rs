//! The dashboard and the alerts name only metrics, labels and values that a running server exports, and the
//! dashboard shows every metric there is.

mod wire_client;

#[allow(dead_code, reason = "shared with the tests of the daemon")]
#[path = "daemon/certificate.rs"]
mod certificate;
#[path = "monitoring/expression.rs"]
mod expression;
#[allow(dead_code, unused_imports, reason = "every test uses a part")]
#[path = "plane/fixture.rs"]
mod fixture;
#[allow(dead_code, reason = "shared with the tests of the daemon")]
#[path = "daemon/ports.rs"]
mod ports;
#[allow(dead_code, reason = "every test uses a part")]
#[path = "plane/wire.rs"]
mod wire;

use expression::{Exported, labels_shown, metrics_of, selectors};
use fixture::{Fixture, request};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use turnpike::http::Certificate;

/// Exported, but of no use in a picture.
const NOT_SHOWN: &[&str] = &["process_virtual_memory_bytes", "process_threads"];

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn read(name: &str) -> String {
    std::fs::read_to_string(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// What a server exports that has a certificate; without one its metric is missing.
fn exported() -> Exported {
    let fixture = Fixture::with(|live| {
        let names = vec!["turn.example.org".into()];
        live.certificate = Some(Certificate { names, issuer: "a test".into(), not_after_unix_s: 2_000_000_000 });
    });
    let answer = request(fixture.admin, "GET", "/metrics", &[], "");
    assert_eq!(answer.status, 200, "{}", answer.text());
    Exported::parse(answer.text())
}

fn dashboard() -> Value {
    serde_json::from_str(&read("etc/grafana-dashboard.json")).expect("the dashboard is JSON")
}

/// Every panel that draws something.
fn panels(dashboard: &Value) -> Vec<&Value> {
    let panels = dashboard["panels"].as_array().expect("there are panels");
    panels.iter().filter(|panel| panel["type"] != "row").collect()
}

/// Every expression of the dashboard, each with the title it stands under.
fn dashboard_expressions(dashboard: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().expect("it is text").to_owned();
    let mut found = Vec::new();
    for panel in panels(dashboard) {
        for target in panel["targets"].as_array().expect("a panel has targets") {
            found.push((text(&panel["title"]), text(&target["expr"])));
        }
    }
    for note in dashboard["annotations"]["list"].as_array().expect("there are annotations") {
        found.push((text(&note["name"]), text(&note["expr"])));
    }
    found
}

/// One alert: the lines of its rule, by their keys.
struct Alert {
    name: String,
    expr: String,
    lines: String,
}

/// Reads the rules as this file writes them: a rule begins with `- alert:`, and an expression stands on the line
/// of its key or, after `|`, on the deeper lines below.
fn alerts() -> Vec<Alert> {
    let text = read("etc/prometheus-alerts.yml");
    let mut rules: Vec<&str> = text.split("- alert: ").collect();
    rules.remove(0);
    rules.into_iter().map(alert).collect()
}

fn alert(rule: &str) -> Alert {
    let name = rule.lines().next().expect("a rule has a name").to_owned();
    let depth = |line: &str| line.len() - line.trim_start().len();
    let mut lines = rule.lines().skip_while(|line| !line.trim_start().starts_with("expr:"));
    let first = lines.next().unwrap_or_else(|| panic!("{name} has no expression"));
    let expr = match first.trim_start().trim_start_matches("expr:").trim() {
        "|" => lines.take_while(|line| depth(line) > depth(first)).collect::<Vec<_>>().join("\n"),
        inline => inline.to_owned(),
    };
    Alert { name, expr, lines: rule.to_owned() }
}

#[test]
fn the_dashboard_names_only_what_is_exported() {
    let (exported, dashboard) = (exported(), dashboard());
    let expressions = dashboard_expressions(&dashboard);
    assert!(expressions.len() > 30, "the expressions were found");
    for (title, expr) in &expressions {
        exported.check(title, expr);
    }
    for variable in dashboard["templating"]["list"].as_array().expect("there are variables") {
        // `label_values(METRIC{…}, LABEL)` asks for a label that Prometheus adds itself.
        if let Some(query) = variable["query"]["query"].as_str() {
            assert!(!metrics_of(query).is_empty(), "{query}");
            exported.check("a variable", query);
        }
    }
}

#[test]
fn the_dashboard_shows_every_metric() {
    let (exported, dashboard) = (exported(), dashboard());
    let shown: BTreeSet<String> = dashboard_expressions(&dashboard)
        .iter()
        .flat_map(|(_, expr)| metrics_of(expr))
        .map(|name| exported.family(&name).expect("checked elsewhere").to_owned())
        .collect();
    for family in exported.families() {
        let excused = NOT_SHOWN.contains(&family);
        assert_eq!(!excused, shown.contains(family), "{family} is shown, or listed as not shown, but not both");
    }
}

#[test]
fn every_panel_can_be_read() {
    let dashboard = dashboard();
    let mut ids = BTreeSet::new();
    let mut places: Vec<[u64; 4]> = Vec::new();
    for panel in dashboard["panels"].as_array().expect("there are panels") {
        let title = panel["title"].as_str().expect("a panel has a title");
        assert!(ids.insert(panel["id"].as_u64()), "{title}: ids are unique");
        let [x, y, w, h] = ["x", "y", "w", "h"].map(|key| panel["gridPos"][key].as_u64().expect("a panel has a place"));
        assert!(w > 0 && h > 0 && x + w <= 24, "{title} is on the grid");
        let covers = |other: &[u64; 4]| {
            x < other[0] + other[2] && other[0] < x + w && y < other[1] + other[3] && other[1] < y + h
        };
        assert!(!places.iter().any(covers), "{title} covers another panel");
        places.push([x, y, w, h]);
    }
    for panel in panels(&dashboard) {
        let title = panel["title"].as_str().expect("a panel has a title");
        assert!(panel["description"].as_str().is_some_and(|text| text.len() > 10), "{title} says what it shows");
        assert_eq!(panel["datasource"]["uid"], "${datasource}", "{title} asks the source that was chosen");
        let unit = &panel["fieldConfig"]["defaults"]["unit"];
        assert!(unit.is_string() || panel["options"]["yAxis"]["unit"].is_string(), "{title} has a unit");
        for target in panel["targets"].as_array().expect("a panel has targets") {
            let expr = target["expr"].as_str().expect("a target has an expression");
            let legend = target["legendFormat"].as_str().expect("a target has a legend");
            let kept = labels_shown(expr);
            for label in legend.split("{{").skip(1).filter_map(|rest| rest.split("}}").next()) {
                assert!(kept.contains(label), "{title}: `{expr}` leaves no {label} for its legend");
            }
            for selector in selectors(expr) {
                let has = |name: &str| selector.matchers.iter().any(|matcher| matcher.label == name);
                assert!(has("job") && has("instance"), "{title}: {} heeds the chosen servers", selector.metric);
            }
        }
    }
}

#[test]
fn the_alerts_name_only_what_is_exported() {
    let exported = exported();
    let alerts = alerts();
    assert!(alerts.len() > 10, "the rules were found");
    for alert in &alerts {
        assert!(!metrics_of(&alert.expr).is_empty() || alert.expr.starts_with("up{"), "{}: {}", alert.name, alert.expr);
        exported.check(&alert.name, &alert.expr);
    }
}

#[test]
fn every_alert_says_what_to_do() {
    let mut names = BTreeSet::new();
    for alert in alerts() {
        assert!(names.insert(alert.name.clone()), "{} is there once", alert.name);
        let value = |key: &str| {
            let line = alert.lines.lines().find_map(|line| line.trim_start().strip_prefix(key));
            line.unwrap_or_else(|| panic!("{} has no {key}", alert.name)).trim().to_owned()
        };
        assert!(["critical", "warning", "info"].contains(&&*value("severity:")), "{}", alert.name);
        assert!(value("for:").ends_with(['m', 'h']), "{}", alert.name);
        assert!(value("summary:").contains("$labels.instance"), "{} names the server", alert.name);
        assert!(value("description:").len() > 60, "{} says what it means and what to do", alert.name);
    }
}

/// Runs promtool, which is in the package `prometheus`.
fn promtool(arguments: &[&str], file: &Path) {
    let output =
        Command::new("promtool").args(arguments).arg(file).output().expect(
            "promtool runs: it is in the package prometheus; tests/run.sh --install installs what the tests need",
        );
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}: {said}", file.display());
}

#[test]
fn prometheus_takes_the_files() {
    promtool(&["check", "rules"], &path("etc/prometheus-alerts.yml"));
    promtool(&["check", "config"], &path("etc/prometheus-scrape.yml"));
}

/// promtool reads rules and no dashboards, so each expression becomes a rule of its own, with Grafana's variables
/// filled in.
#[test]
fn prometheus_takes_the_expressions_of_the_dashboard() {
    let mut rules = String::from("groups:\n  - name: dashboard\n    rules:\n");
    for (place, (_, expr)) in dashboard_expressions(&dashboard()).iter().enumerate() {
        let expr = expr.replace("$__rate_interval", "1m").replace("$job", ".*").replace("$instance", ".*");
        assert!(!expr.contains('$'), "{expr}: a variable nobody fills in");
        // A string of JSON is one of YAML.
        rules += &format!("      - record: panel_{place}\n        expr: {}\n", Value::from(expr));
    }
    let file = std::env::temp_dir().join(format!("turnpike-dashboard-{}.yml", std::process::id()));
    std::fs::write(&file, rules).expect("there is room for a file");
    promtool(&["check", "rules"], &file);
    std::fs::remove_file(&file).expect("the file is still there");
}

#[test]
fn alerts_fire_when_they_should_and_not_before() {
    promtool(&["test", "rules"], &path("tests/monitoring/alerts_test.yml"));
}
