//! `turnpike check`: every value in force, where it comes from, and each warning.

use super::{Configuration, Failure, host, print};
use crate::config::{Loaded, Plan, settings};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write;

/// Columns of values before their origins begin.
const ORIGIN_COLUMN: usize = 48;

/// `turnpike check`.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  turnpike check -c /etc/turnpike.toml\n  \
                        turnpike check -c /etc/turnpike.toml --format json | jq .warnings")]
pub struct Options {
    /// Where the configuration is.
    #[command(flatten)]
    pub configuration: Configuration,
    /// How to print it
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

/// How the result is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON object.
    Json,
}

/// Checks and prints.
pub fn check(options: &Options) -> Result<(), Failure> {
    let loaded = options.configuration.load()?;
    let plan = loaded.plan(&host()?)?;
    print(&match options.format {
        Format::Text => text(&loaded, &plan),
        Format::Json => format!("{:#}\n", json(&loaded, &plan)),
    });
    Ok(())
}

fn text(loaded: &Loaded, plan: &Plan) -> String {
    let mut text = String::new();
    let entries = settings::entries(loaded, &plan.realm, plan.engine.workers);
    let tables = ["", "listen", "tls", "relay", "auth", "limits", "http", "rooms", "metrics", "log"];
    for table in tables {
        if !table.is_empty() {
            let _ = writeln!(text, "\n[{table}]");
        }
        for (key, entry) in &entries {
            let (above, name) = key.split_once('.').unwrap_or(("", key));
            if above == table {
                let line = format!("{name} = {}", entry.shown());
                let _ = writeln!(text, "{line:ORIGIN_COLUMN$}  # {}", entry.origin);
            }
        }
    }
    let _ = writeln!(text, "\nlistening:");
    for listen in &plan.engine.listen {
        let _ = writeln!(text, "  {} {}", listen.protocol.name(), listen.addr);
    }
    match plan.warnings.is_empty() {
        true => text.push_str("\nno warnings\n"),
        false => text.push_str("\nwarnings:\n"),
    }
    for warning in &plan.warnings {
        let _ = writeln!(text, "  - {}", warning);
    }
    text
}

fn json(loaded: &Loaded, plan: &Plan) -> Value {
    let entries = settings::entries(loaded, &plan.realm, plan.engine.workers).into_iter();
    let values: BTreeMap<String, Value> =
        entries.map(|(key, entry)| (key, json!({ "value": entry.value, "source": entry.origin }))).collect();
    let listening = plan.engine.listen.iter();
    let listening: Vec<Value> = listening
        .map(|listen| json!({ "protocol": listen.protocol.name(), "address": listen.addr.to_string() }))
        .collect();
    json!({ "values": values, "listening": listening, "warnings": plan.warnings })
}
