//! `turnpike explain`: which rule decides about a peer, a credential or a client, where it was written, and what would
//! change it.
//!
//! The configuration is read and judged as `run` would; the decision itself is the core's, not another one made here.

mod client;
mod credential;
mod peer;

use super::check::Format;
use super::{Configuration, Failure, host, print};
use crate::config::{Loaded, Origins, Plan};
use serde_json::{Map, Value, json};
use std::fmt::Write;

/// Columns of labels before what they say begins.
const LABEL_COLUMN: usize = 9;

/// `turnpike explain`.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  turnpike explain peer 10.0.0.1 -c /etc/turnpike.toml\n  \
                        turnpike explain credential 1893456000:alice -c /etc/turnpike.toml\n  \
                        turnpike explain client 2002:c000:204::1 -c /etc/turnpike.toml")]
pub struct Options {
    /// What to explain.
    #[command(subcommand)]
    pub about: About,
}

/// What can be explained.
#[derive(clap::Subcommand)]
pub enum About {
    /// Whether clients may reach a peer, and by which rule
    #[command(after_help = "Example:\n  turnpike explain peer 10.0.0.1:5000 --user alice -c /etc/turnpike.toml")]
    Peer {
        /// The peer: 10.0.0.1, 10.0.0.1:5000 or [2001:db8::1]:5000
        #[arg(value_name = "IP[:PORT]")]
        peer: peer::Peer,
        /// Whether this one may allocate at all, too
        #[arg(long, value_name = "NAME")]
        user: Option<String>,
        /// Where and how.
        #[command(flatten)]
        shared: Shared,
    },
    /// What a user name is, and whether it is taken now
    #[command(after_help = "Example:\n  turnpike explain credential 1893456000:alice -c /etc/turnpike.toml")]
    Credential {
        /// The name as clients send it
        #[arg(value_name = "NAME")]
        name: String,
        /// The password beside it, to try it too; others on this machine can see it in the list of processes
        #[arg(long, value_name = "PASSWORD")]
        password: Option<String>,
        /// Where and how.
        #[command(flatten)]
        shared: Shared,
    },
    /// What a client's address means to the server
    #[command(after_help = "Example:\n  turnpike explain client 192.0.2.7 -c /etc/turnpike.toml")]
    Client {
        /// The address it comes from
        #[arg(value_name = "IP")]
        ip: std::net::IpAddr,
        /// Where and how.
        #[command(flatten)]
        shared: Shared,
    },
}

/// What every explanation needs.
#[derive(clap::Args)]
pub struct Shared {
    /// Where the configuration is.
    #[command(flatten)]
    pub configuration: Configuration,
    /// How to print it
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

/// What is judged by.
struct Bench<'a> {
    loaded: &'a Loaded,
    plan: &'a Plan,
}

impl Bench<'_> {
    fn origins(&self) -> &Origins {
        &self.loaded.origins
    }

    /// `relay.ports (turnpike.toml:7)`.
    fn key(&self, key: &str) -> String {
        format!("{key} ({})", self.origins().of(key))
    }

    /// Where one element of a list was written: in a coturn file each has a line of its own.
    fn place_in(&self, key: &str, element: usize) -> String {
        let place = self.origins().fault_in(key, element, "").to_string();
        let first = place.lines().next().unwrap_or_default().trim();
        match first.strip_prefix('(').and_then(|rest| rest.strip_suffix(')')) {
            Some(place) if self.origins().is_set(key) => place.to_owned(),
            _ => self.origins().of(key),
        }
    }
}

/// One decision, and why.
struct Finding {
    /// What it is about: `peer 10.0.0.1`.
    subject: String,
    /// How it was decided.
    is_allowed: bool,
    /// The decision in a word or two.
    decision: &'static str,
    /// What would turn it around and is not known here: `revoked`; else empty.
    unless: &'static str,
    /// The rule that decided.
    rule: String,
    /// Where the rule was written.
    place: String,
    /// What would change the decision; empty where nothing can.
    change: String,
    /// What else there is to know.
    facts: Vec<(&'static str, String)>,
    /// In which order rules are asked, where there are several; for programs.
    order: &'static [&'static str],
}

impl Finding {
    /// `taken`, or `taken, unless revoked`.
    fn decision(&self) -> String {
        match self.unless {
            "" => self.decision.to_owned(),
            unless => format!("{}, unless {unless}", self.decision),
        }
    }

    fn text(&self) -> String {
        let mut text = format!("{}: {}\n", self.subject, self.decision());
        let main = [("rule", &self.rule), ("where", &self.place), ("change", &self.change)];
        let facts = self.facts.iter().map(|(label, what)| (*label, what));
        for (label, what) in main.into_iter().chain(facts).filter(|(_, what)| !what.is_empty()) {
            let _ = writeln!(text, "  {label:LABEL_COLUMN$} {what}");
        }
        text
    }

    fn json(&self) -> Value {
        let facts: Map<String, Value> = self.facts.iter().map(|(label, what)| ((*label).into(), json!(what))).collect();
        json!({
            "subject": self.subject, "allowed": self.is_allowed, "decision": self.decision(), "unless": self.unless,
            "rule": self.rule, "where": self.place, "change": self.change, "facts": facts, "order": self.order,
        })
    }
}

/// Explains and prints. That something is denied is no failure.
pub fn explain(options: &Options) -> Result<(), Failure> {
    let (About::Peer { shared, .. } | About::Credential { shared, .. } | About::Client { shared, .. }) = &options.about;
    let loaded = shared.configuration.load()?;
    let plan = loaded.plan(&host()?)?;
    let bench = Bench { loaded: &loaded, plan: &plan };
    let findings = match &options.about {
        About::Peer { peer, user, .. } => {
            let user = user.as_ref().map(|name| credential::explain(&bench, name, None)).transpose()?;
            [Some(peer::explain(&bench, peer)?), user].into_iter().flatten().collect()
        }
        About::Credential { name, password, .. } => vec![credential::explain(&bench, name, password.as_deref())?],
        About::Client { ip, .. } => vec![client::explain(&bench, *ip)],
    };
    print(&match shared.format {
        Format::Text => findings.iter().map(Finding::text).collect(),
        Format::Json => match &findings[..] {
            [only] => format!("{:#}\n", only.json()),
            all => format!("{:#}\n", Value::Array(all.iter().map(Finding::json).collect())),
        },
    });
    Ok(())
}
