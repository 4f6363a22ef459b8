//! A TURN client: one socket, one allocation, one request under way, and its refusals in words.

use super::link::{Link, Transport};
use super::pace::Rng;
use crate::wire::attribute::{self, PasswordAlgorithm};
use crate::wire::channel::{ChannelNumber, ChannelRange};
use crate::wire::integrity::{Key, MacKind};
use crate::wire::stun::{Class, Message, Method, TransactionId, Writer};
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use zeroize::Zeroizing;

/// After this time without an answer a request is sent again, in nanoseconds; twice as long each time.
const PATIENCE_NS: u64 = 250_000_000;
/// How often a request is sent before the client gives up: after 8 s.
pub const TRIES_MAX: u32 = 5;
/// IP protocol number of UDP, as REQUESTED-TRANSPORT carries it.
const UDP: [u8; 4] = [17, 0, 0, 0];
/// Longest request, in bytes: user name, realm and nonce are limited to some 760 bytes each.
const REQUEST_LEN_MAX: usize = 4096;

/// Whom the server knows the clients as.
#[derive(Clone, Debug)]
pub struct Account {
    /// User name.
    pub user: String,
    /// Password.
    pub password: Zeroizing<String>,
}

/// One exchange with the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Binding.
    Binding,
    /// Allocate without credentials; 401 is the answer wanted.
    Challenge,
    /// Allocate.
    Allocate,
    /// CreatePermission for the peer.
    Permit,
    /// ChannelBind for the peer.
    Bind,
    /// Refresh.
    Refresh,
    /// Refresh with lifetime 0.
    Free,
}

impl Step {
    /// What it is called in messages.
    pub const fn name(self) -> &'static str {
        match self {
            Step::Binding => "Binding",
            Step::Challenge | Step::Allocate => "Allocate",
            Step::Permit => "CreatePermission",
            Step::Bind => "ChannelBind",
            Step::Refresh | Step::Free => "Refresh",
        }
    }

    const fn method(self) -> Method {
        match self {
            Step::Binding => Method::BINDING,
            Step::Challenge | Step::Allocate => Method::ALLOCATE,
            Step::Permit => Method::CREATE_PERMISSION,
            Step::Bind => Method::CHANNEL_BIND,
            Step::Refresh | Step::Free => Method::REFRESH,
        }
    }
}

/// A client and how far it is.
#[derive(Debug)]
pub struct Client {
    /// The way to the server.
    pub link: Link,
    /// Whom it talks to through the relay.
    pub peer: SocketAddr,
    /// Its relayed address; `0.0.0.0:0` before there is one.
    pub relayed: SocketAddr,
    /// Requests that were sent again.
    pub repeated: u64,
    /// How the server sees the client, of the last answer that told it.
    pub mapped: Option<SocketAddr>,
    /// Lifetime of the allocation when it was made, in seconds.
    pub lifetime_s: Option<u32>,
    /// What the server calls itself (SOFTWARE), not made fit for a terminal.
    pub software: Option<String>,
    /// Whether the server allocated without credentials: no request carries any from then on.
    pub is_anonymous: bool,
    realm: Vec<u8>,
    nonce: Vec<u8>,
    key: Option<Key>,
    id: TransactionId,
    asked_ns: u64,
    tries: u32,
    challenged: bool,
}

/// An answer other than the one wanted; in an [`io::Error`] it reads as what a load is to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The step that it answers.
    pub step: Step,
    /// The error code; 0 when there was none to read.
    pub code: u16,
    /// Whom the step named.
    pub peer: SocketAddr,
    /// The server to use in place of this one (300).
    pub alternate: Option<SocketAddr>,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&refusal(self.step, self.code, self.peer))
    }
}

impl std::error::Error for Refused {}

/// The channel every client binds.
pub fn channel() -> ChannelNumber {
    ChannelNumber::new(ChannelRange::FIRST, ChannelRange::Rfc8656).expect("the first number is in the range")
}

/// A random transaction id.
pub fn transaction_id(rng: &mut Rng) -> TransactionId {
    let mut id = [0; 12];
    id[..8].copy_from_slice(&rng.next_u64().to_be_bytes());
    id[8..].copy_from_slice(&rng.next_u64().to_be_bytes()[..4]);
    TransactionId(id)
}

impl Client {
    /// Makes a client with a socket of its own at an address of this host, which may be unspecified.
    pub fn new(transport: &Transport, server: SocketAddr, source: IpAddr, peer: SocketAddr) -> io::Result<Self> {
        Ok(Client {
            link: Link::open(transport, server, source)?,
            peer,
            relayed: SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0),
            repeated: 0,
            mapped: None,
            lifetime_s: None,
            software: None,
            is_anonymous: false,
            realm: Vec::new(),
            nonce: Vec::new(),
            key: None,
            id: TransactionId::default(),
            asked_ns: 0,
            tries: 0,
            challenged: false,
        })
    }

    /// Whether it holds an allocation, as far as it knows.
    pub fn is_allocated(&self) -> bool {
        self.relayed.port() != 0
    }

    /// The realm of the server's challenge; empty before one came.
    pub fn realm(&self) -> &[u8] {
        &self.realm
    }

    /// How often the request under way was sent, or would have been where nothing is lost.
    pub fn tries(&self) -> u32 {
        self.tries
    }

    /// Sends the request of a step under a new transaction id.
    pub fn ask(&mut self, step: Step, now_ns: u64, account: &Account, rng: &mut Rng) -> io::Result<()> {
        self.challenged = false;
        self.ask_again(step, now_ns, account, rng)
    }

    fn ask_again(&mut self, step: Step, now_ns: u64, account: &Account, rng: &mut Rng) -> io::Result<()> {
        self.id = transaction_id(rng);
        self.tries = 0;
        self.transmit(step, now_ns, account)
    }

    /// Looks whether the answer is overdue: sends the request again where it may have been lost, and is an error after
    /// some 8 s.
    pub fn hurry(&mut self, step: Step, now_ns: u64, account: &Account) -> io::Result<()> {
        if now_ns.saturating_sub(self.asked_ns) <= PATIENCE_NS << (self.tries - 1) {
            return Ok(());
        }
        if self.tries == TRIES_MAX {
            return Err(io::Error::new(io::ErrorKind::TimedOut, format!("no answer to {}", step.name())));
        }
        if self.link.is_lossy() {
            self.repeated += 1;
            return self.transmit(step, now_ns, account);
        }
        (self.tries, self.asked_ns) = (self.tries + 1, now_ns);
        Ok(())
    }

    fn transmit(&mut self, step: Step, now_ns: u64, account: &Account) -> io::Result<()> {
        (self.tries, self.asked_ns) = (self.tries + 1, now_ns);
        let mut out = [0; REQUEST_LEN_MAX];
        let len = self.write(step, account, &mut out).ok_or_else(|| io::Error::other("a request did not fit"))?;
        // A datagram that finds no room is as one lost on the way: its answer becomes overdue.
        self.link.send(&out[..len])?;
        Ok(())
    }

    fn write(&self, step: Step, account: &Account, out: &mut [u8]) -> Option<usize> {
        let mut w = Writer::new(out, Class::Request, step.method(), self.id);
        match step {
            Step::Binding => return w.finish().ok(),
            Step::Challenge | Step::Allocate => {
                w.push(attribute::REQUESTED_TRANSPORT, &UDP);
                if self.peer.is_ipv6() {
                    let family = attribute::Family::V6.code();
                    w.push(attribute::REQUESTED_ADDRESS_FAMILY, &[family, 0, 0, 0]);
                }
                if step == Step::Challenge {
                    return w.finish().ok();
                }
            }
            Step::Permit => _ = w.push_xor_address(attribute::XOR_PEER_ADDRESS, self.peer),
            Step::Bind => {
                let [n0, n1] = channel().get().to_be_bytes();
                w.push(attribute::CHANNEL_NUMBER, &[n0, n1, 0, 0]);
                w.push_xor_address(attribute::XOR_PEER_ADDRESS, self.peer);
            }
            Step::Refresh => {}
            Step::Free => _ = w.push(attribute::LIFETIME, &[0; 4]),
        }
        if self.is_anonymous {
            return w.finish().ok();
        }
        w.push(attribute::USERNAME, account.user.as_bytes());
        w.push(attribute::REALM, &self.realm);
        w.push(attribute::NONCE, &self.nonce);
        w.push_integrity(MacKind::Sha1, self.key.as_ref()?);
        w.finish().ok()
    }

    /// Takes a message from the server. True when it is the answer that ends the step, false when it has nothing to do
    /// with the step or asked for it to be repeated; an error is any answer but the one wanted.
    pub fn hear(
        &mut self,
        step: Step,
        message: &[u8],
        now_ns: u64,
        account: &Account,
        rng: &mut Rng,
    ) -> io::Result<bool> {
        let Ok(answer) = Message::parse(message) else { return Ok(false) };
        if answer.transaction_id() != self.id || matches!(answer.class(), Class::Request | Class::Indication) {
            return Ok(false); // the answer to a request that was sent twice
        }
        match self.judge(step, &answer, account) {
            Ok(true) => Ok(true),
            Ok(false) => self.ask_again(step, now_ns, account, rng).map(|()| false),
            Err(error) => Err(error),
        }
    }

    /// True when the step is done, false when it must be asked again with the nonce just learned.
    fn judge(&mut self, step: Step, answer: &Message<'_>, account: &Account) -> io::Result<bool> {
        let code = answer.get(attribute::ERROR_CODE).and_then(attribute::error_code).unwrap_or(0);
        if let Some(software) = answer.get(attribute::SOFTWARE) {
            self.software = Some(String::from_utf8_lossy(software).into_owned());
        }
        match (step, answer.class()) {
            (Step::Challenge, Class::Error) if code == 401 => self.learn(answer, account).map(|()| true),
            (Step::Challenge, Class::Success) => {
                self.is_anonymous = true;
                self.take_allocation(answer)?;
                Err(io::Error::other("the server allocates without credentials; this load is only made with them"))
            }
            (_, Class::Error) if code == 438 && !self.challenged => {
                self.challenged = true;
                self.learn(answer, account).map(|()| false)
            }
            (_, Class::Error) => {
                let alternate = answer.get(attribute::ALTERNATE_SERVER).and_then(attribute::address);
                Err(io::Error::other(Refused { step, code, peer: self.peer, alternate }))
            }
            (Step::Binding, _) => {
                // RFC 3489's servers tell it plainly.
                let plain = || answer.get(attribute::MAPPED_ADDRESS).and_then(attribute::address);
                self.mapped = self.address(answer, attribute::XOR_MAPPED_ADDRESS).or_else(plain);
                let wrong = || io::Error::other("the answer to Binding has no mapped address");
                self.mapped.map(|_| true).ok_or_else(wrong)
            }
            (_, _) if !self.is_anonymous && !self.key.as_ref().is_some_and(|key| answer.verify_integrity(key)) => {
                Err(io::Error::other(format!("the answer to {} is not signed with the password", step.name())))
            }
            (Step::Allocate, _) => self.take_allocation(answer).map(|()| true),
            (Step::Free, _) => {
                self.relayed.set_port(0);
                Ok(true)
            }
            _ => Ok(true),
        }
    }

    /// Takes what a successful Allocate tells.
    fn take_allocation(&mut self, answer: &Message<'_>) -> io::Result<()> {
        let relayed = self.address(answer, attribute::XOR_RELAYED_ADDRESS);
        self.relayed = relayed.ok_or_else(|| io::Error::other("the answer to Allocate has no relayed address"))?;
        self.mapped = self.address(answer, attribute::XOR_MAPPED_ADDRESS).or(self.mapped);
        self.lifetime_s = answer.get(attribute::LIFETIME).and_then(attribute::lifetime);
        Ok(())
    }

    fn address(&self, answer: &Message<'_>, kind: u16) -> Option<SocketAddr> {
        attribute::xor_address(answer.get(kind)?, &self.id)
    }

    /// Takes realm and nonce of a challenge.
    fn learn(&mut self, answer: &Message<'_>, account: &Account) -> io::Result<()> {
        let lacks = |what| move || io::Error::other(format!("the server's challenge has no {what}"));
        self.nonce = answer.get(attribute::NONCE).ok_or_else(lacks("nonce"))?.to_vec();
        let realm = answer.get(attribute::REALM).ok_or_else(lacks("realm"))?;
        if self.key.is_none() || self.realm != realm {
            self.realm = realm.to_vec();
            let (user, password) = (account.user.as_bytes(), account.password.as_bytes());
            self.key = Some(Key::derive(PasswordAlgorithm::Md5, user, realm, password));
        }
        Ok(())
    }
}

/// What a refusal means and what to do about it.
fn refusal(step: Step, code: u16, peer: SocketAddr) -> String {
    let what = step.name();
    match (step, code) {
        (_, 401) => format!(
            "{what} is refused (401): the server does not take this user and password; check --user and --password, \
             or --secret, and that the clocks agree when the credential is time-limited"
        ),
        (Step::Permit | Step::Bind, 403) => format!(
            "{what} is refused (403): the server denies the peer {ip}; allow it there (turnpike: \
             relay.allow_peers = [\"{ip}\"], for loopback relay.allow_loopback_peers = true; coturn: \
             allowed-peer-ip={ip}, for loopback allow-loopback-peers) or choose another address of this host \
             with --peer IP",
            ip = peer.ip()
        ),
        (_, 403) => format!("{what} is refused (403): the server does not serve this client or this request"),
        (_, 437) => format!(
            "{what} is refused (437): the server has no allocation, or still has an older one, here; \
             --sources gives every client an address that none had before"
        ),
        (_, 440) => format!("{what} is refused (440): the server does not relay the family of {}", peer.ip()),
        (_, 442) => format!("{what} is refused (442): the server does not relay UDP"),
        (_, 486) => format!(
            "{what} is refused (486): the user has as many allocations as he may; lower --allocations, or raise \
             limits.allocations_per_user (coturn: user-quota), or wait until those of an earlier run have expired"
        ),
        (_, 508) => format!(
            "{what} is refused (508): the server has no relay port left or takes no more allocations; lower \
             --allocations, or widen relay.ports (coturn: min-port, max-port), or raise limits.allocations \
             (coturn: total-quota)"
        ),
        (_, 300) => format!("{what} is refused (300): the server sends clients to another one; name that one"),
        (_, code) => format!("{what} is refused ({code})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_what_to_do() {
        let peer = SocketAddr::from(([10, 0, 0, 5], 9));
        assert!(refusal(Step::Permit, 403, peer).contains("relay.allow_peers = [\"10.0.0.5\"]"));
        assert!(refusal(Step::Allocate, 401, peer).contains("--password"));
        assert!(refusal(Step::Allocate, 486, peer).contains("limits.allocations_per_user"));
        assert!(refusal(Step::Allocate, 508, peer).contains("relay.ports"));
        assert_eq!(refusal(Step::Refresh, 499, peer), "Refresh is refused (499)");
    }
}
