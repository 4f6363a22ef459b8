//! What an allocation is good for: the steps of a trial behind it.

use super::desk::MESSAGES_AT_ONCE;
use super::nobody;
use super::packets::{Course, End};
use super::report::{Between, Mtu, Outcome, Outside, RoundTrips, Stage, Step};
use super::trial::{Trial, way_to};
use super::words::{self, Fault, Login};
use crate::load::client::{self, Client};
use crate::load::link::{anywhere, is_later, udp_socket};
use crate::load::uri::Scheme;
use crate::load::{Via, frame};
use crate::wire::attribute;
use crate::wire::stun::{Class, Message, Method};
use mio::net::UdpSocket;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// The port that stands for any: a permission is for an address (RFC 8656 §9).
const DISCARD: u16 = 9;
/// How long this host and the relayed address have to hear each other.
const OUTSIDE_WAIT: Duration = Duration::from_secs(2);
/// How often each of them says something.
const OUTSIDE_EVERY: Duration = Duration::from_millis(100);
/// What they say; no server takes it for STUN.
const HELLO: &[u8] = b"\xffturnpike probe";
/// Payloads up to this length are what WebRTC counts on, in bytes.
const PAYLOAD_WANTED: usize = 1200;
/// Why the relay is not tried.
const NO_PACKETS: &str = "not tried: --packets 0";

/// What came of two allocations, and the way between them; or, where nothing comes, the first client again and why.
type Paired = Result<(Step<RoundTrips>, Course), Box<(Client, Step<RoundTrips>)>>;

impl Trial<'_> {
    /// Sees whether the relayed address and a socket of this host reach each other; that socket, if they do. It is no
    /// failure of the relay if they do not: clients that are both relayed do not need it.
    pub(super) fn peer(&mut self, client: &mut Client) -> Option<UdpSocket> {
        self.began(Stage::Peer);
        let (step, socket) = match self.outside(client) {
            Ok((address, socket)) => (Step::pass(Outside { address }), Some(socket)),
            Err(step) => (step, None),
        };
        self.steps.peer = self.ended(Stage::Peer, step);
        socket
    }

    fn outside(&mut self, client: &mut Client) -> Result<(SocketAddr, UdpSocket), Step<Outside>> {
        let (server, timeout, relayed) = (self.server, self.desk.timeout, client.relayed);
        let Some(mapped) = client.mapped else {
            return Err(Step::skip("not tried: the server does not tell this host's address"));
        };
        if mapped.is_ipv4() != relayed.is_ipv4() {
            return Err(Step::skip("not tried: the relayed address is of the other family than this host's"));
        }
        client.peer = SocketAddr::new(mapped.ip(), DISCARD);
        let account = self.account.cloned().unwrap_or_else(nobody);
        self.desk.ask(client, client::Step::Permit, &account).map_err(|fault| {
            let reason = words::unpermitted_here(mapped.ip(), server, &fault, timeout);
            if fault.code() == Some(403) { Step::skip(reason) } else { Step::warn(None, reason) }
        })?;
        let gone = |fault: Fault| match fault {
            Fault::Stopped => Step::skip(words::stopped()),
            fault => Step::warn(None, words::answer("what the relay was sent", server, &fault, timeout)),
        };
        let mut socket = udp_socket(SocketAddr::new(anywhere(relayed), 0)).map_err(|error| gone(error.into()))?;
        self.desk.watch(&mut socket).map_err(|error| gone(error.into()))?;
        let heard = self.hear_outside(client, &socket).map_err(gone)?;
        client.peer = heard.map_err(|reason| Step::warn(None, reason))?;
        let heard = self.tell_outside(client, &mut socket).map_err(gone)?;
        let address = client.peer;
        if heard { Ok((address, socket)) } else { Err(Step::warn(None, words::outside_is_mute(address))) }
    }

    /// Sends to the relayed address until the client gets it, and with it the address that this host has there; or why
    /// it does not.
    fn hear_outside(&mut self, client: &mut Client, socket: &UdpSocket) -> Result<Result<SocketAddr, String>, Fault> {
        let (began, mut said) = (Instant::now(), 0);
        while began.elapsed() < OUTSIDE_WAIT.min(self.desk.timeout) {
            self.desk.go_on()?;
            if began.elapsed() >= OUTSIDE_EVERY * said {
                said += 1;
                match socket.send_to(HELLO, client.relayed) {
                    // Told by ICMP of an earlier one; the next may come through.
                    Err(error) if !is_later(&error) && error.raw_os_error() != Some(libc::ECONNREFUSED) => {
                        return Ok(Err(words::outside_has_no_way(client.relayed, &error)));
                    }
                    _ => {}
                }
            }
            client.link.flush()?;
            for _ in 0..MESSAGES_AT_ONCE {
                let Some(len) = client.link.receive(&mut self.desk.room)? else { break };
                if let Some(from) = hello_from(&self.desk.room[..len]) {
                    return Ok(Ok(from));
                }
            }
            self.desk.rest(OUTSIDE_EVERY / 5)?;
        }
        Ok(Err(words::outside_is_deaf(client.relayed)))
    }

    /// Sends to this host through the relay until it comes.
    fn tell_outside(&mut self, client: &mut Client, socket: &mut UdpSocket) -> Result<bool, Fault> {
        let (began, mut said) = (Instant::now(), 0);
        let head = frame::head(Via::Indication, client.peer, HELLO.len(), &mut self.desk.rng)?;
        let mut message = [&head, HELLO].concat();
        message.resize(head.len() + frame::body_len(Via::Indication, HELLO.len()), 0);
        while began.elapsed() < OUTSIDE_WAIT.min(self.desk.timeout) {
            self.desk.go_on()?;
            if began.elapsed() >= OUTSIDE_EVERY * said {
                said += 1;
                client.link.send(&message)?;
            }
            for _ in 0..MESSAGES_AT_ONCE {
                match socket.recv_from(&mut self.desk.room) {
                    Ok((len, _)) if &self.desk.room[..len] == HELLO => return Ok(true),
                    Ok(_) => {}
                    Err(error) if is_later(&error) => break,
                    Err(error) if error.raw_os_error() == Some(libc::ECONNREFUSED) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            self.desk.rest(OUTSIDE_EVERY / 5)?;
        }
        Ok(false)
    }

    /// Measures the relay: between two allocations, as two clients use it that are both relayed; where that does not
    /// work, between one and a socket that it reaches. The way that was measured, if there is one.
    pub(super) fn relay(&mut self, client: Client, socket: Option<UdpSocket>) -> Option<Course> {
        if self.config.packets == 0 {
            self.steps.relay = self.ended(Stage::Relay, Step::skip(NO_PACKETS));
            self.held.push(client);
            return None;
        }
        self.began(Stage::Relay);
        let address = client.peer;
        let (step, course) = match self.pair(client) {
            Ok((step, course)) => (step, Some(course)),
            Err(unpaired) => self.fall_back(*unpaired, socket.map(|socket| (socket, address))),
        };
        self.steps.relay = self.ended(Stage::Relay, step);
        course
    }

    /// Round trips between two allocations.
    fn pair(&mut self, mut first: Client) -> Paired {
        let mut second = match self.second() {
            Ok(second) => second,
            Err(step) => return Err(Box::new((first, step))),
        };
        (first.peer, second.peer) = (second.relayed, first.relayed);
        let account = self.account.cloned().unwrap_or_else(nobody);
        let bound = [&mut first, &mut second]
            .into_iter()
            .try_for_each(|client| self.desk.ask(client, client::Step::Bind, &account).map(|_| ()));
        if let Err(fault) = bound {
            let ip = second.relayed.ip();
            let reason = words::unpermitted_between(ip, self.server, &fault, self.desk.timeout);
            self.held.push(second);
            return Err(Box::new((first, self.failed(&fault, reason))));
        }
        let relayed = [first.relayed, second.relayed];
        let ends = [first, second].map(|client| End::Client(Box::new(client), Via::Channel));
        let mut course = Course::new(ends, &mut self.desk);
        let trips = course.round_trips(self.config.packets, &mut self.desk);
        let step = match trips {
            Ok(trips) if trips.received > 0 => return Ok((self.judged(trips), course)),
            Ok(trips) => {
                let reason = words::between_is_dead(relayed);
                Step { outcome: Outcome::Fail, reason: Some(reason), found: Some(trips) }
            }
            Err(fault) => self.failed(&fault, words::answer("packets", self.server, &fault, self.desk.timeout)),
        };
        let [first, second] = course.into_ends().map(End::into_client);
        self.held.extend(second);
        Err(Box::new((first.expect("both ends are clients"), step)))
    }

    /// A second client with an allocation.
    fn second(&mut self) -> Result<Client, Step<RoundTrips>> {
        let made = (|| {
            let transport = way_to(self.config, &self.ask.uri).map_err(io::Error::other)?;
            let mut client = self.desk.client(&transport, self.server)?;
            self.desk.connect(&mut client)?;
            match self.allocate(&mut client) {
                Ok(_) => Ok(client),
                Err(fault) => {
                    self.held.push(client);
                    Err(fault)
                }
            }
        })();
        made.map_err(|fault| {
            self.was_full |= fault.code() == Some(486);
            let login = Login::Password(self.account.map_or("", |account| &account.user));
            let reason = words::unallocated(login, self.server, &fault, self.desk.timeout);
            self.failed(&fault, format!("a second allocation is needed to measure the relay, and {reason}"))
        })
    }

    /// Round trips between an allocation and this host, where two allocations came to nothing.
    fn fall_back(
        &mut self,
        (mut client, why): (Client, Step<RoundTrips>),
        socket: Option<(UdpSocket, SocketAddr)>,
    ) -> (Step<RoundTrips>, Option<Course>) {
        let Some((socket, address)) = socket.filter(|_| why.outcome == Outcome::Fail) else {
            self.held.push(client);
            return (why, None);
        };
        client.peer = address;
        let relayed = client.relayed;
        let ends = [End::Client(Box::new(client), Via::Indication), End::Socket(socket, relayed)];
        let mut course = Course::new(ends, &mut self.desk);
        let step = match course.round_trips(self.config.packets, &mut self.desk) {
            Ok(trips) => {
                let mut step = self.judged(trips);
                if step.outcome == Outcome::Pass {
                    step.outcome = Outcome::Warn;
                }
                step.reason = step.reason.into_iter().chain(why.reason).reduce(|all, more| format!("{all}; {more}"));
                step
            }
            Err(fault) => self.failed(&fault, words::answer("packets", self.server, &fault, self.desk.timeout)),
        };
        (step, Some(course))
    }

    fn judged(&self, trips: RoundTrips) -> Step<RoundTrips> {
        let lost = format!("{} of {} packets were lost", trips.sent - trips.received, trips.sent);
        match trips.loss {
            0.0 => Step::pass(trips),
            loss if loss <= self.config.max_loss => Step::warn(Some(trips), lost),
            _ => {
                let by = match trips.between {
                    Between::Allocations => "between two allocations",
                    Between::Socket => "between an allocation and this host",
                };
                let reason = format!("{lost} {by}: the way to the server, or the server, is overloaded or broken");
                Step { outcome: Outcome::Fail, reason: Some(reason), found: Some(trips) }
            }
        }
    }

    pub(super) fn mtu(&mut self, mut course: Course) {
        self.began(Stage::Mtu);
        let rtt = self.steps.relay.found.as_ref().and_then(|trips| trips.rtt_ms.as_ref());
        let step = match rtt {
            None => Step::skip("not tried: nothing comes through"),
            Some(_) if self.ask.uri.scheme != Scheme::Udp => Step::skip("a stream has none of its own"),
            Some(rtt) => {
                let rtt = Duration::from_secs_f64(rtt.p95 / 1000.0);
                let found = course.longest(rtt, &mut self.desk);
                self.judged_mtu(found)
            }
        };
        self.steps.mtu = self.ended(Stage::Mtu, step);
        self.held.extend(course.into_ends().into_iter().filter_map(End::into_client));
    }

    fn judged_mtu(&self, found: Result<Option<Mtu>, Fault>) -> Step<Mtu> {
        match found {
            Ok(Some(mtu)) if mtu.payload_bytes >= PAYLOAD_WANTED => Step::pass(mtu),
            Ok(Some(mtu)) => {
                let reason = format!(
                    "payloads above {} bytes are lost, and WebRTC sends up to {PAYLOAD_WANTED}: a tunnel on the way cuts \
                     the MTU",
                    mtu.payload_bytes
                );
                Step::warn(Some(mtu), reason)
            }
            Ok(None) => Step::fail("not even payloads of 500 bytes come through".to_owned()),
            Err(fault) => self.failed(&fault, words::answer("packets", self.server, &fault, self.desk.timeout)),
        }
    }
}

/// Who sent a hello that a Data indication carries.
fn hello_from(message: &[u8]) -> Option<SocketAddr> {
    let message = Message::parse(message).ok()?;
    let is_data = message.class() == Class::Indication && message.method() == Method::DATA;
    let is_hello = is_data && message.get(attribute::DATA) == Some(HELLO);
    let from = message.get(attribute::XOR_PEER_ADDRESS).filter(|_| is_hello)?;
    attribute::xor_address(from, &message.transaction_id())
}
