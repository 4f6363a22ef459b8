//! What a probe found, as `--format json` prints it: `docs/probe.md` lists every field. Pure.

use super::ask::Ask;
use super::certificate::Certificate;
use super::clock::Reading;
use super::words;
use serde::Serialize;
use std::net::SocketAddr;
use std::time::Duration;

/// The version of the JSON: fields may be added to it, none changes or goes.
const FORMAT: u32 = 1;

/// How a step went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// As it should.
    Pass,
    /// It works, and something about it is to be looked at.
    Warn,
    /// It does not work.
    Fail,
    /// It was not tried.
    #[default]
    Skip,
}

/// The steps of a trial.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// [`Steps::connect`].
    Connect,
    /// [`Steps::certificate`].
    Certificate,
    /// [`Steps::binding`].
    Binding,
    /// [`Steps::allocation`].
    Allocation,
    /// [`Steps::peer`].
    Peer,
    /// [`Steps::relay`].
    Relay,
    /// [`Steps::mtu`].
    Mtu,
    /// [`Steps::clock`].
    Clock,
}

impl Stage {
    /// Its name, which is its key in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Stage::Connect => "connect",
            Stage::Certificate => "certificate",
            Stage::Binding => "binding",
            Stage::Allocation => "allocation",
            Stage::Peer => "peer",
            Stage::Relay => "relay",
            Stage::Mtu => "mtu",
            Stage::Clock => "clock",
        }
    }
}

/// A step and what it found.
#[derive(Clone, Debug, Serialize)]
pub struct Step<T> {
    /// How it went.
    pub outcome: Outcome,
    /// Why it did not just pass.
    pub reason: Option<String>,
    /// What was found; nothing where it failed or was not tried.
    #[serde(flatten)]
    pub found: Option<T>,
}

impl<T> Default for Step<T> {
    fn default() -> Self {
        Step { outcome: Outcome::Skip, reason: None, found: None }
    }
}

impl<T> Step<T> {
    /// It went as it should.
    pub fn pass(found: T) -> Self {
        Step { outcome: Outcome::Pass, reason: None, found: Some(found) }
    }

    /// It works, and something is to be looked at.
    pub fn warn(found: Option<T>, reason: String) -> Self {
        Step { outcome: Outcome::Warn, reason: Some(reason), found }
    }

    /// It does not work.
    pub fn fail(reason: String) -> Self {
        Step { outcome: Outcome::Fail, reason: Some(reason), found: None }
    }

    /// It was not tried.
    pub fn skip(reason: impl Into<String>) -> Self {
        Step { outcome: Outcome::Skip, reason: Some(reason.into()), found: None }
    }
}

impl<T: Gist> Step<T> {
    /// In a line: what was found, then why it did not just pass.
    pub fn in_words(&self) -> String {
        let gist = self.found.as_ref().map(Gist::gist);
        gist.into_iter().chain(self.reason.clone()).collect::<Vec<_>>().join("; ")
    }
}

/// What fits the cell of a table.
pub trait Gist {
    /// The finding in a few words.
    fn gist(&self) -> String;
}

/// How a server was reached.
#[derive(Clone, Debug, Serialize)]
pub struct Connected {
    /// Until the first answer by UDP, the connection by TCP, the session by TLS, in milliseconds.
    pub ms: f64,
}

/// How a server sees the client.
#[derive(Clone, Debug, Serialize)]
pub struct Bound {
    /// Until the answer, in milliseconds.
    pub ms: f64,
    /// How often it was asked.
    pub tries: u32,
    /// The client's address and port behind every NAT.
    pub mapped: Option<SocketAddr>,
}

/// An allocation.
#[derive(Clone, Debug, Serialize)]
pub struct Allocated {
    /// Until the answer to the request with credentials, in milliseconds.
    pub ms: f64,
    /// The relayed address.
    pub relayed: SocketAddr,
    /// Its lifetime, in seconds.
    pub lifetime_s: Option<u32>,
    /// The realm of the server; none where it asks for no credentials.
    pub realm: Option<String>,
}

/// Packets both ways between an allocation and a socket of this host.
#[derive(Clone, Debug, Serialize)]
pub struct Outside {
    /// This host, as the relay sees it.
    pub address: SocketAddr,
}

/// Packets through the relay and back to this host.
#[derive(Clone, Debug, Serialize)]
pub struct RoundTrips {
    /// Between what: two allocations, or an allocation and a socket.
    pub between: Between,
    /// Packets sent, half of them in each direction.
    pub sent: u32,
    /// Those that came, whole.
    pub received: u32,
    /// The share of those that did not, 0 to 1.
    pub loss: f64,
    /// From departure to arrival, in milliseconds; none when nothing came.
    pub rtt_ms: Option<Percentiles>,
}

/// The ends of a way through the relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Between {
    /// Two allocations of the probe.
    Allocations,
    /// An allocation and a UDP socket of this host.
    Socket,
}

/// How long packets took, in milliseconds.
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Percentiles {
    pub p50: f64,
    pub p95: f64,
    pub p99: f64,
    pub max: f64,
}

/// The longest payload that comes through.
#[derive(Clone, Debug, Serialize)]
pub struct Mtu {
    /// Bytes of payload.
    pub payload_bytes: usize,
    /// Whether longer ones were not tried.
    pub at_least: bool,
    /// Whether the packets to the server were forbidden to be fragmented; if not, the figure is an estimate.
    pub unfragmented: bool,
}

/// The server's clock.
#[derive(Clone, Debug, Serialize)]
pub struct Skew {
    /// How far it is ahead of this host's, give or take a second; negative when it is behind.
    pub ahead_s: i64,
}

impl Gist for Connected {
    fn gist(&self) -> String {
        ms(self.ms)
    }
}

impl Gist for Bound {
    fn gist(&self) -> String {
        self.mapped.map_or_else(String::new, |mapped| mapped.to_string())
    }
}

impl Gist for Allocated {
    fn gist(&self) -> String {
        self.relayed.to_string()
    }
}

impl Gist for Outside {
    fn gist(&self) -> String {
        self.address.to_string()
    }
}

impl Gist for RoundTrips {
    fn gist(&self) -> String {
        let lost = format!("{} of {} lost", self.sent - self.received, self.sent);
        match &self.rtt_ms {
            Some(rtt) => format!("{lost}, {} (p95 {})", ms(rtt.p50), ms(rtt.p95)),
            None => lost,
        }
    }
}

impl Gist for Mtu {
    fn gist(&self) -> String {
        let sign = if self.at_least { "≥ " } else { "" };
        let estimate = if self.unfragmented { "" } else { " (estimate)" };
        format!("{sign}{}{estimate}", self.payload_bytes)
    }
}

impl Gist for Skew {
    fn gist(&self) -> String {
        match self.ahead_s {
            -1..=1 => "as here".to_owned(),
            ahead if ahead > 0 => format!("{ahead} s ahead"),
            behind => format!("{} s behind", -behind),
        }
    }
}

impl Gist for Certificate {
    fn gist(&self) -> String {
        format!("{} ({} d)", self.not_after, self.days_left)
    }
}

fn ms(ms: f64) -> String {
    if ms < 10.0 { format!("{ms:.2} ms") } else { format!("{ms:.0} ms") }
}

/// Milliseconds, to a microsecond.
pub fn millis(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1000.0
}

/// All steps of a trial, in the order in which they are taken.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Steps {
    /// The way to the server: an answer, a connection, a session.
    pub connect: Step<Connected>,
    /// The certificate, with TLS.
    pub certificate: Step<Certificate>,
    /// How the server sees the client.
    pub binding: Step<Bound>,
    /// An allocation.
    pub allocation: Step<Allocated>,
    /// Whether the relayed address and this host reach each other.
    pub peer: Step<Outside>,
    /// Round trips and loss through the relay.
    pub relay: Step<RoundTrips>,
    /// The longest payload.
    pub mtu: Step<Mtu>,
    /// The server's clock.
    pub clock: Step<Skew>,
}

impl Steps {
    /// Outcome and reason of each.
    pub fn all(&self) -> [(Stage, Outcome, Option<&str>); 8] {
        [
            (Stage::Connect, self.connect.outcome, self.connect.reason.as_deref()),
            (Stage::Certificate, self.certificate.outcome, self.certificate.reason.as_deref()),
            (Stage::Binding, self.binding.outcome, self.binding.reason.as_deref()),
            (Stage::Allocation, self.allocation.outcome, self.allocation.reason.as_deref()),
            (Stage::Peer, self.peer.outcome, self.peer.reason.as_deref()),
            (Stage::Relay, self.relay.outcome, self.relay.reason.as_deref()),
            (Stage::Mtu, self.mtu.outcome, self.mtu.reason.as_deref()),
            (Stage::Clock, self.clock.outcome, self.clock.reason.as_deref()),
        ]
    }

    /// Enters the server's clock, which explains a credential that was refused.
    pub fn heed(&mut self, reading: &Reading, was_refused: bool) {
        self.clock = reading.step.clone();
        if let (true, Some(why)) = (was_refused, &reading.refusal) {
            self.allocation.reason = Some(why.clone());
        }
    }
}

/// A server by one transport at one address, and how each step went.
#[derive(Clone, Debug, Serialize)]
pub struct Target {
    /// What was asked for, as a URI.
    pub uri: String,
    /// `udp`, `tcp`, `tls` or `dtls`.
    pub transport: &'static str,
    /// The address; none where the name has none.
    pub server: Option<SocketAddr>,
    /// `pass`, or `fail` where a step failed, or `skip` where nothing was tried.
    pub outcome: Outcome,
    /// What the server calls itself.
    pub software: Option<String>,
    /// The steps.
    pub steps: Steps,
    /// The name in its certificate and in messages.
    #[serde(skip)]
    pub ask: Option<Ask>,
}

impl Target {
    /// A target that was tried.
    pub fn new(ask: &Ask, server: Option<SocketAddr>, steps: Steps) -> Self {
        Target {
            uri: ask.text(),
            transport: words::transport(ask.uri.scheme),
            server,
            outcome: Outcome::Skip,
            software: None,
            steps,
            ask: Some(ask.clone()),
        }
    }

    /// A target that was not tried.
    pub fn untried(uri: &str, transport: &'static str, reason: &str) -> Self {
        let steps = Steps { connect: Step::skip(reason), ..Steps::default() };
        Target {
            uri: uri.to_owned(),
            transport,
            server: None,
            outcome: Outcome::Skip,
            software: None,
            steps,
            ask: None,
        }
    }

    /// With the worst outcome of its steps as its own.
    pub fn judged(mut self) -> Self {
        let steps = self.steps.all();
        let has = |wanted| steps.iter().any(|(_, outcome, _)| *outcome == wanted);
        self.outcome = match () {
            () if has(Outcome::Fail) => Outcome::Fail,
            () if has(Outcome::Warn) => Outcome::Warn,
            () if has(Outcome::Pass) => Outcome::Pass,
            () => Outcome::Skip,
        };
        self
    }
}

/// All that was found.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The version of this form.
    pub format: u32,
    /// Whether something was tried and no step of it failed.
    pub passed: bool,
    /// The targets, in the order in which they were asked for; those that were not tried are last.
    pub targets: Vec<Target>,
}

impl Report {
    /// Sums up.
    pub fn new(targets: Vec<Target>) -> Self {
        let has = |wanted: &[Outcome]| targets.iter().any(|target| wanted.contains(&target.outcome));
        let passed = has(&[Outcome::Pass, Outcome::Warn]) && !has(&[Outcome::Fail]);
        Report { format: FORMAT, passed, targets }
    }

    /// How many targets failed.
    pub fn failed(&self) -> usize {
        self.targets.iter().filter(|target| target.outcome == Outcome::Fail).count()
    }
}
