//! As much of PromQL and of Prometheus's text format as the dashboard and the alerts use.

use std::collections::{BTreeMap, BTreeSet};

/// Labels that Prometheus adds when it scrapes.
const ADDED: [&str; 2] = ["job", "instance"];
/// Label values that depend on what was asked for, so no fresh server shows them all.
const OPEN_LABELS: [&str; 1] = ["route"];
/// What a histogram's series are called beyond its own name.
const SUFFIXES: [&str; 3] = ["_bucket", "_sum", "_count"];
/// Words before a list of labels in parentheses.
const BEFORE_LABELS: [&str; 6] = ["by", "without", "on", "ignoring", "group_left", "group_right"];

/// `label="value"` in an expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Matcher {
    pub label: String,
    pub operator: String,
    pub value: String,
}

/// `metric{…}` in an expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selector {
    pub metric: String,
    pub matchers: Vec<Matcher>,
}

/// What a server exports: by series name, each label and its values.
pub struct Exported {
    families: BTreeSet<String>,
    series: BTreeMap<String, BTreeMap<String, BTreeSet<String>>>,
}

impl Exported {
    /// Reads an answer of `/metrics`.
    pub fn parse(text: &str) -> Exported {
        let mut exported = Exported { families: BTreeSet::new(), series: BTreeMap::new() };
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                exported.families.insert(rest.split(' ').next().expect("a type has a name").to_owned());
            } else if !line.starts_with('#') && !line.is_empty() {
                let found = selectors(line).pop().unwrap_or_else(|| panic!("`{line}` is a series"));
                let labels = exported.series.entry(found.metric).or_default();
                for matcher in found.matchers {
                    labels.entry(matcher.label).or_default().insert(matcher.value);
                }
            }
        }
        assert!(exported.families.len() > 20, "the metrics were found");
        exported
    }

    /// The name of every family.
    pub fn families(&self) -> impl Iterator<Item = &str> {
        self.families.iter().map(String::as_str)
    }

    /// The family a series belongs to.
    pub fn family(&self, series: &str) -> Option<&str> {
        let stems = SUFFIXES.iter().filter_map(|suffix| series.strip_suffix(suffix));
        std::iter::once(series).chain(stems).find_map(|name| self.families.get(name)).map(String::as_str)
    }

    /// Panics unless every metric, label and label value in an expression is exported.
    pub fn check(&self, what: &str, expr: &str) {
        let mut labels: BTreeSet<&str> = ADDED.into();
        for metric in metrics_of(expr) {
            let known = self.series.get(&metric).unwrap_or_else(|| panic!("{what}: no {metric} is exported"));
            labels.extend(known.keys().map(String::as_str));
        }
        for selector in selectors(expr).iter().filter(|selector| is_ours(&selector.metric)) {
            selector.matchers.iter().for_each(|matcher| self.check_matcher(what, &selector.metric, matcher));
        }
        for label in grouped(expr) {
            assert!(labels.contains(&*label), "{what}: nothing in `{expr}` has a label {label}");
        }
    }

    fn check_matcher(&self, what: &str, metric: &str, matcher: &Matcher) {
        let Matcher { label, value, .. } = matcher;
        if ADDED.contains(&&**label) {
            return;
        }
        let values = self.series[metric].get(label).unwrap_or_else(|| panic!("{what}: {metric} has no label {label}"));
        // A pattern with more than alternatives in it stands for what is not known before.
        let is_plain = |value: &str| value.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        for value in value.split('|').filter(|value| is_plain(value)) {
            let known = OPEN_LABELS.contains(&&**label) || values.contains(value);
            assert!(known, "{what}: {metric} has no {label}=\"{value}\", but {values:?}");
        }
    }
}

fn is_ours(name: &str) -> bool {
    name.starts_with("turnpike_") || name.starts_with("process_")
}

/// The names of this server's series in an expression.
pub fn metrics_of(expr: &str) -> BTreeSet<String> {
    selectors(expr).into_iter().map(|selector| selector.metric).filter(|name| is_ours(name)).collect()
}

/// Every name in an expression that may be a metric, with what stands in braces behind it.
pub fn selectors(expr: &str) -> Vec<Selector> {
    let mut found = Vec::new();
    let mut rest = expr;
    while let Some(start) = rest.find(|c: char| is_name(c) || c == '"') {
        rest = &rest[start..];
        if let Some(quoted) = rest.strip_prefix('"') {
            rest = quoted.split_once('"').expect("a quote ends").1;
            continue;
        }
        let end = rest.find(|c: char| !is_name(c)).unwrap_or(rest.len());
        let (name, behind) = rest.split_at(end);
        rest = behind;
        let matchers = match behind.strip_prefix('{') {
            Some(inside) => {
                let (matchers, behind) = braces(inside);
                rest = behind;
                matchers
            }
            None => Vec::new(),
        };
        if is_ours(name) || !matchers.is_empty() {
            found.push(Selector { metric: name.to_owned(), matchers });
        }
    }
    found
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == ':'
}

/// Reads what stands between braces; returns it and what comes behind them.
fn braces(mut inside: &str) -> (Vec<Matcher>, &str) {
    let mut matchers = Vec::new();
    loop {
        inside = inside.trim_start_matches([',', ' ', '\n']);
        if let Some(behind) = inside.strip_prefix('}') {
            return (matchers, behind);
        }
        let (label, behind) = inside.split_at(inside.find(|c| !is_name(c)).expect("a matcher has an operator"));
        let (operator, behind) = behind.split_once('"').expect("a matcher has a value");
        let (value, behind) = behind.split_once('"').expect("a value ends");
        assert!(["=", "!=", "=~", "!~"].contains(&operator), "`{operator}` compares");
        matchers.push(Matcher { label: label.into(), operator: operator.into(), value: value.into() });
        inside = behind;
    }
}

/// The labels that an expression groups or joins by.
fn grouped(expr: &str) -> BTreeSet<String> {
    let mut labels = BTreeSet::new();
    for word in BEFORE_LABELS {
        for (start, _) in expr.match_indices(word) {
            let whole = !expr[..start].ends_with(is_name);
            let behind = expr[start + word.len()..].trim_start();
            let list = behind.strip_prefix('(').filter(|_| whole).and_then(|list| list.split(')').next());
            labels.extend(list.into_iter().flat_map(|list| list.split(',')).map(|label| label.trim().to_owned()));
        }
    }
    labels.remove("");
    labels
}

/// The labels that are left on the result of an expression: those it groups by, or, if it does not, those that
/// Prometheus adds.
pub fn labels_shown(expr: &str) -> BTreeSet<String> {
    let labels = grouped(expr);
    let aggregates = ["sum", "min", "max", "count", "avg"].iter().any(|word| expr.contains(&format!("{word}(")));
    if labels.is_empty() && !aggregates { ADDED.map(str::to_owned).into() } else { labels }
}

#[test]
fn expressions_are_read() {
    let expr = "sum by (code, le) (rate(turnpike_a_total{code!~\"x|y\", job=~\"$job\"}[5m])) / on (job) process_b > 0";
    let names: Vec<String> = metrics_of(expr).into_iter().collect();
    assert_eq!(names, ["process_b", "turnpike_a_total"]);
    let matchers = &selectors(expr)[0].matchers;
    assert_eq!((&*matchers[0].label, &*matchers[0].operator, &*matchers[0].value), ("code", "!~", "x|y"));
    assert_eq!(matchers[1].label, "job");
    assert_eq!(grouped(expr).into_iter().collect::<Vec<_>>(), ["code", "job", "le"]);
    assert_eq!(labels_shown("rate(process_b[5m])").into_iter().collect::<Vec<_>>(), ["instance", "job"]);
    assert!(labels_shown("sum(process_b)").is_empty());
}

#[test]
#[should_panic(expected = "no turnpike_nothing is exported")]
fn an_unknown_metric_is_found() {
    sample().check("a test", "rate(turnpike_nothing[5m])");
}

#[test]
#[should_panic(expected = "has no label colour")]
fn an_unknown_label_is_found() {
    sample().check("a test", "turnpike_0{colour=\"red\"}");
}

#[test]
#[should_panic(expected = "has no reason=\"boredom\"")]
fn an_unknown_value_is_found() {
    sample().check("a test", "turnpike_0{reason=~\"full|boredom\"}");
}

#[test]
#[should_panic(expected = "has a label shape")]
fn an_unknown_grouping_is_found() {
    sample().check("a test", "sum by (shape) (turnpike_0)");
}

fn sample() -> Exported {
    let text: String =
        (0..30).map(|n| format!("# TYPE turnpike_{n} counter\nturnpike_{n}{{reason=\"full\"}} 1\n")).collect();
    let exported = Exported::parse(&text);
    exported.check("a test", "sum by (reason, job) (turnpike_0{reason=\"full\", instance=\"a\"})");
    exported
}
