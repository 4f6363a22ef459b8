//! One server by one transport: its steps in order, each with what it found or why it failed.

use super::ask::{Ask, Service};
use super::certificate::{self, Certificate, DAYS_LEFT_MIN};
use super::desk::Desk;
use super::report::{Allocated, Bound, Connected, Gist, Outcome, Stage, Step, Steps, Target, millis};
use super::words::{self, Fault, Login};
use super::{Config, Identity, Progress, nobody};
use crate::load::client::{self, Account, Client};
use crate::load::link::Transport;
use crate::load::trust;
use crate::load::uri::{Scheme, Uri};
use rustls::ClientConfig;
use rustls::pki_types::{ServerName, UnixTime};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

/// A trial that was made.
pub struct Ran {
    /// What it found.
    pub target: Target,
    /// Whether the server asked for credentials.
    pub was_challenged: bool,
    /// Whether it refused those that it got.
    pub was_refused: bool,
    /// Whether the user had as many allocations as it may (486), of which trials beside this one may hold some.
    pub was_full: bool,
}

/// A trial under way.
pub struct Trial<'a> {
    pub(super) config: &'a Config,
    pub(super) account: Option<&'a Account>,
    at: usize,
    pub(super) ask: &'a Ask,
    pub(super) server: SocketAddr,
    tell: &'a dyn Fn(Progress),
    pub(super) desk: Desk<'a>,
    pub(super) steps: Steps,
    was_challenged: bool,
    was_refused: bool,
    pub(super) was_full: bool,
    software: Option<String>,
    /// Clients whose allocations are given back at the end.
    pub(super) held: Vec<Client>,
}

/// The first way to a server. Any certificate is taken: it is judged behind the handshake, before anything is asked, to
/// say all that is wrong with it.
fn first_way_to(uri: &Uri) -> Result<Transport, String> {
    transport(uri, trust::anybody)
}

/// Another way to a server whose certificate was found good, or is not to matter.
pub fn way_to(config: &Config, uri: &Uri) -> Result<Transport, String> {
    let only = || trust::only(Arc::clone(&config.roots));
    if config.insecure { first_way_to(uri) } else { transport(uri, only) }
}

fn transport(uri: &Uri, tls: impl FnOnce() -> Result<Arc<ClientConfig>, String>) -> Result<Transport, String> {
    Ok(match uri.scheme {
        Scheme::Udp => Transport::Udp,
        Scheme::Tcp => Transport::Tcp,
        Scheme::Tls => Transport::Tls(tls()?, name_of(uri)?),
    })
}

fn name_of(uri: &Uri) -> Result<ServerName<'static>, String> {
    ServerName::try_from(uri.host.clone()).map_err(|_| format!("{} is no name that a certificate can have", uri.host))
}

impl<'a> Trial<'a> {
    /// Prepares the trial with the number `at`.
    pub fn new(
        config: &'a Config,
        account: Option<&'a Account>,
        stop: &'a AtomicBool,
        at: usize,
        ask: &'a Ask,
        server: SocketAddr,
        tell: &'a dyn Fn(Progress),
    ) -> io::Result<Self> {
        Ok(Trial {
            config,
            account,
            at,
            ask,
            server,
            tell,
            desk: Desk::new(config.timeout, stop)?,
            steps: Steps::default(),
            was_challenged: false,
            was_refused: false,
            was_full: false,
            software: None,
            held: Vec::new(),
        })
    }

    /// Takes every step and gives back what was allocated.
    pub fn run(mut self) -> io::Result<Ran> {
        let _ = self.walk();
        let account = self.account.cloned().unwrap_or_else(nobody);
        for client in &mut self.held {
            self.desk.free(client, &account);
        }
        let mut target = Target::new(self.ask, Some(self.server), self.steps);
        target.software = self.software.as_deref().map(words::plain);
        let (was_challenged, was_refused, was_full) = (self.was_challenged, self.was_refused, self.was_full);
        Ok(Ran { target, was_challenged, was_refused, was_full })
    }

    /// The steps; `None` behind the first without which there is no next.
    fn walk(&mut self) -> Option<()> {
        let mut client = self.connect()?;
        let goes_on = self.binding(&mut client);
        self.software = client.software.take();
        if !goes_on {
            return None;
        }
        if self.ask.service == Service::Stun {
            self.steps.allocation = Step::skip("a stun: URI asks for no relay");
            return None;
        }
        let is_allocated = self.allocation(&mut client);
        if !is_allocated {
            self.held.push(client);
            return None;
        }
        let socket = self.peer(&mut client);
        let course = self.relay(client, socket)?;
        self.mtu(course);
        Some(())
    }

    pub(super) fn began(&self, stage: Stage) {
        (self.tell)(Progress::Began(self.at, stage));
    }

    pub(super) fn ended<T: Gist>(&self, stage: Stage, step: Step<T>) -> Step<T> {
        (self.tell)(Progress::Ended(self.at, stage, step.outcome, step.in_words()));
        step
    }

    fn unreached<T>(&self, fault: &Fault) -> Step<T> {
        let reason = words::unreached(self.ask.uri.scheme, self.server, fault, self.desk.timeout);
        let here = |code| [libc::ENETUNREACH, libc::EADDRNOTAVAIL].contains(&code);
        match fault {
            Fault::Stopped => Step::skip(words::stopped()),
            // That this host has no IPv6, say, tells nothing about the server.
            Fault::Io(error) if error.raw_os_error().is_some_and(here) => Step::skip(reason),
            _ => Step::fail(reason),
        }
    }

    pub(super) fn failed<T>(&self, fault: &Fault, reason: String) -> Step<T> {
        if matches!(fault, Fault::Stopped) { Step::skip(words::stopped()) } else { Step::fail(reason) }
    }

    /// A way to the server that stands, behind a certificate that is trusted. By UDP it stands with the first answer,
    /// which is [`Trial::binding`]'s.
    fn connect(&mut self) -> Option<Client> {
        self.began(Stage::Connect);
        let began = Instant::now();
        let opened = first_way_to(&self.ask.uri).map_err(|reason| Fault::Io(io::Error::other(reason)));
        let opened = opened.and_then(|transport| self.desk.client(&transport, self.server));
        let connected = opened.and_then(|mut client| self.desk.connect(&mut client).map(|()| client));
        let client = match connected {
            Ok(client) => client,
            Err(fault) => {
                self.steps.connect = self.ended(Stage::Connect, self.unreached(&fault));
                return None;
            }
        };
        if self.ask.uri.scheme != Scheme::Udp {
            let ms = millis(began.elapsed());
            self.steps.connect = self.ended(Stage::Connect, Step::pass(Connected { ms }));
        }
        if let Some(judged) = self.certificate(&client) {
            self.steps.certificate = self.ended(Stage::Certificate, judged);
        }
        (self.steps.certificate.outcome != Outcome::Fail).then_some(client)
    }

    fn certificate(&self, client: &Client) -> Option<Step<Certificate>> {
        let session = client.link.session()?;
        let chain = session.peer_certificates().unwrap_or_default();
        let version = session.protocol_version().map_or_else(String::new, |version| format!("{version:?}"));
        let Some(own) = Certificate::read(chain, version.replace('_', "."), UnixTime::now()) else {
            return Some(Step::fail("the server's certificate can not be read".to_owned()));
        };
        let name = name_of(&self.ask.uri).ok()?;
        let judged = certificate::judge(&own, chain, &name, &self.config.roots, UnixTime::now());
        Some(match judged {
            Ok(()) if own.days_left < DAYS_LEFT_MIN => {
                let reason = format!("the certificate ends in {} days: renew it there", own.days_left);
                Step::warn(Some(own), reason)
            }
            Ok(()) => Step::pass(own),
            Err(reason) if self.config.insecure => Step::warn(Some(own), reason),
            Err(reason) => {
                let reason = format!("{reason}; --insecure goes on in spite of it");
                Step { outcome: Outcome::Fail, reason: Some(reason), found: Some(own) }
            }
        })
    }

    /// Asks how the server sees the client; whether there is a way to go on.
    fn binding(&mut self, client: &mut Client) -> bool {
        let is_udp = self.ask.uri.scheme == Scheme::Udp;
        if !is_udp {
            self.began(Stage::Binding);
        }
        let fault = match self.desk.ask(client, client::Step::Binding, &nobody()) {
            Ok(took) => {
                let bound = Bound { ms: millis(took), tries: client.tries(), mapped: client.mapped };
                if is_udp {
                    self.steps.connect = self.ended(Stage::Connect, Step::pass(Connected { ms: bound.ms }));
                }
                self.steps.binding = self.ended(Stage::Binding, Step::pass(bound));
                return true;
            }
            Err(fault) => fault,
        };
        // A server may relay and not answer Binding, as coturn does with no-stun.
        let may_relay = self.ask.service != Service::Stun && matches!(fault, Fault::Silence { .. } | Fault::Refused(_));
        let began = Instant::now();
        let account = self.account.cloned().unwrap_or_else(nobody);
        // One that asks for no credentials allocates at once.
        let mut relays =
            || is_answer(&self.desk.ask(client, client::Step::Challenge, &account)) || client.is_allocated();
        if may_relay && (!is_udp || relays()) {
            if is_udp {
                let ms = millis(began.elapsed());
                self.steps.connect = self.ended(Stage::Connect, Step::pass(Connected { ms }));
            }
            let reason = words::answer("Binding", self.server, &fault, self.desk.timeout);
            self.steps.binding = self.ended(Stage::Binding, Step::warn(None, reason));
            return true;
        }
        if is_udp {
            self.steps.connect = self.ended(Stage::Connect, self.unreached(&fault));
        } else {
            let reason = words::answer("Binding", self.server, &fault, self.desk.timeout);
            self.steps.binding = self.ended(Stage::Binding, self.failed(&fault, reason));
        }
        false
    }

    /// Leads a client to an allocation and says how long the request with credentials took. A server that asks for none
    /// has answered the first.
    pub(super) fn allocate(&mut self, client: &mut Client) -> Result<Duration, Fault> {
        let nobody = nobody();
        let account = self.account.unwrap_or(&nobody);
        let began = Instant::now();
        if client.is_allocated() {
            return Ok(began.elapsed());
        }
        match self.desk.ask(client, client::Step::Challenge, account) {
            Err(_) if client.is_anonymous => return Ok(began.elapsed()),
            challenged => _ = challenged?,
        }
        self.was_challenged = true;
        if self.account.is_none() {
            return Ok(began.elapsed());
        }
        match self.desk.ask(client, client::Step::Allocate, account) {
            // It relays IPv4 alone, by which it is no less a relay.
            Err(Fault::Refused(refused)) if refused.code == 440 && client.peer.is_ipv6() => {
                client.peer = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0);
                self.desk.ask(client, client::Step::Allocate, account)
            }
            result => result,
        }
    }

    /// Makes an allocation; whether there is one.
    fn allocation(&mut self, client: &mut Client) -> bool {
        self.began(Stage::Allocation);
        let done = self.allocate(client);
        let realm = words::plain(&String::from_utf8_lossy(client.realm()));
        let step = match done {
            Ok(took) if client.is_allocated() => {
                let (relayed, lifetime_s) = (client.relayed, client.lifetime_s);
                let realm = Some(realm).filter(|_| !client.is_anonymous);
                let allocated = Allocated { ms: millis(took), relayed, lifetime_s, realm };
                if client.is_anonymous {
                    let reason = "the server allocates without credentials: anybody may relay through it".to_owned();
                    Step::warn(Some(allocated), reason)
                } else if words::is_public(self.server.ip()) && !words::is_public(relayed.ip()) {
                    Step::warn(Some(allocated), words::private_relay(relayed))
                } else {
                    Step::pass(allocated)
                }
            }
            Ok(_) => Step::skip(format!(
                "a relay is there (realm {realm}), for those with credentials: give --user and --password, or --secret"
            )),
            Err(fault) => {
                self.was_refused = self.was_challenged && matches!(fault.code(), Some(401 | 441));
                self.was_full = fault.code() == Some(486);
                let login = match (&self.config.identity, self.account) {
                    (Some(Identity::Minted { .. }), _) => Login::Secret,
                    (_, account) => Login::Password(account.map_or("", |account| &account.user)),
                };
                let reason = words::unallocated(login, self.server, &fault, self.desk.timeout);
                if self.ask.service == Service::Either && self.account.is_none() {
                    Step::skip(format!("no relay: {reason}"))
                } else {
                    self.failed(&fault, reason)
                }
            }
        };
        self.steps.allocation = self.ended(Stage::Allocation, step);
        client.is_allocated()
    }
}

/// Whether a server answered, however.
fn is_answer(asked: &Result<Duration, Fault>) -> bool {
    matches!(asked, Ok(_) | Err(Fault::Refused(_)))
}
