//! Requests: one table says for each method who may send it, whose allocation it needs, which
//! policy judges it and which quota it is charged to; one pipeline obeys the table.
//!
//! Credentials are checked before anything is said about allocations or attributes, so a
//! stranger learns nothing but the realm.

use super::allocation::Allocation;
use super::auth::{Name, Proof, Refused, Revocations};
use super::drain::Draining;
use super::nonce::{self, Judgement, Mint};
use super::policy::Denial;
use super::{AllocationId, Answer, Config, DropReason, Limit, Now, PeerAddr, Ports, Sender, Server, Verdict};
use crate::wire::attribute::{self, Family, PasswordAlgorithm};
use crate::wire::integrity::{Key, MacKind, Signer};
use crate::wire::stun::{Class, Message, Method, Overflow, Writer};

/// Longest USERNAME, REALM or NONCE that is read, in bytes (RFC 8489 §14.3, §14.9, §14.10).
pub const TEXT_LEN_MAX: usize = 763;
/// Unknown attributes named in a 420: the answer to a stranger stays within 100 bytes.
const UNKNOWN_MAX: usize = 30;

/// Who may send a method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Anyone; the answer costs no state.
    Anyone,
    /// Whoever has a credential.
    Credential,
}

/// What must be true of the 5-tuple.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ownership {
    /// Nothing.
    Any,
    /// It has no allocation, or one that this very transaction made; else 437.
    Vacant,
    /// It has an allocation (else 437) of the same user (else 441).
    Owner,
}

/// How the peers a method names are judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerCheck {
    /// It names none.
    None,
    /// By IP address; any number of peers, at least one.
    Address,
    /// By IP address and port; one peer.
    Transport,
}

/// What a method is charged to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Charge {
    /// Nothing.
    None,
    /// The account's and the server's allocations.
    Allocation,
    /// The allocation's permissions.
    Permissions,
    /// The allocation's channels and permissions.
    Channel,
}

type Handler = fn(&mut Server, &Request<'_>, &Granted, &mut dyn Ports, &mut Writer<'_>) -> Result<(), Refusal>;

/// All that is particular to a method.
#[derive(Clone, Copy)]
pub struct MethodRow {
    /// The method.
    pub method: Method,
    /// Its name in metrics and logs.
    pub name: &'static str,
    /// Who may send it.
    pub access: Access,
    /// What must be true of the 5-tuple.
    pub ownership: Ownership,
    /// How peers are judged.
    pub peers: PeerCheck,
    /// What it is charged to.
    pub charge: Charge,
    handler: Handler,
}

/// Every request this server answers.
pub const METHODS: &[MethodRow] = &[
    MethodRow {
        method: Method::BINDING,
        name: "binding",
        access: Access::Anyone,
        ownership: Ownership::Any,
        peers: PeerCheck::None,
        charge: Charge::None,
        handler: Server::binding,
    },
    MethodRow {
        method: Method::ALLOCATE,
        name: "allocate",
        access: Access::Credential,
        ownership: Ownership::Vacant,
        peers: PeerCheck::None,
        charge: Charge::Allocation,
        handler: Server::allocate,
    },
    MethodRow {
        method: Method::REFRESH,
        name: "refresh",
        access: Access::Credential,
        ownership: Ownership::Owner,
        peers: PeerCheck::None,
        charge: Charge::None,
        handler: Server::refresh,
    },
    MethodRow {
        method: Method::CREATE_PERMISSION,
        name: "create_permission",
        access: Access::Credential,
        ownership: Ownership::Owner,
        peers: PeerCheck::Address,
        charge: Charge::Permissions,
        handler: Server::create_permission,
    },
    MethodRow {
        method: Method::CHANNEL_BIND,
        name: "channel_bind",
        access: Access::Credential,
        ownership: Ownership::Owner,
        peers: PeerCheck::Transport,
        charge: Charge::Channel,
        handler: Server::channel_bind,
    },
];

/// The name of a method as metrics and logs have it.
pub fn method_name(method: Method) -> &'static str {
    METHODS.iter().find(|row| row.method == method).map_or("other", |row| row.name)
}

/// Attributes a request or Send indication may carry that must be understood.
#[rustfmt::skip]
const UNDERSTOOD: &[u16] = &[
    attribute::MAPPED_ADDRESS, attribute::USERNAME, attribute::MESSAGE_INTEGRITY, attribute::ERROR_CODE,
    attribute::UNKNOWN_ATTRIBUTES, attribute::CHANNEL_NUMBER, attribute::LIFETIME, attribute::XOR_PEER_ADDRESS,
    attribute::DATA, attribute::REALM, attribute::NONCE, attribute::XOR_RELAYED_ADDRESS,
    attribute::REQUESTED_ADDRESS_FAMILY, attribute::EVEN_PORT, attribute::REQUESTED_TRANSPORT,
    attribute::DONT_FRAGMENT, attribute::MESSAGE_INTEGRITY_SHA256, attribute::PASSWORD_ALGORITHM,
    attribute::USERHASH, attribute::XOR_MAPPED_ADDRESS, attribute::RESERVATION_TOKEN,
];

/// Whether an attribute must be understood and is not.
pub fn is_unknown_required(kind: u16) -> bool {
    attribute::is_comprehension_required(kind) && !UNDERSTOOD.contains(&kind)
}

/// A request on its way.
pub(super) struct Request<'a> {
    pub now: Now,
    pub from: &'a Sender,
    pub message: &'a Message<'a>,
    /// The live allocation on its 5-tuple.
    pub held: Option<AllocationId>,
}

impl Request<'_> {
    /// The peers it names, as the wire has them; the inner `None` is a malformed one.
    pub fn peers(&self) -> impl Iterator<Item = Option<PeerAddr>> + '_ {
        let id = self.message.transaction_id();
        let peers = self.message.attributes().filter(|a| a.kind == attribute::XOR_PEER_ADDRESS);
        peers.map(move |a| attribute::xor_address(a.value, &id).map(PeerAddr))
    }
}

/// Who a request comes from, once that is known.
#[derive(Debug)]
pub(super) struct Granted {
    /// `None` for the allocation's own user, whose key was at hand, and for the anonymous.
    pub proof: Option<Proof>,
    pub algorithm: PasswordAlgorithm,
    /// Signs the answer; `None` without credentials.
    signer: Option<Signer>,
    /// The name is the one that made the allocation on the 5-tuple.
    pub is_owner: bool,
}

/// Why a request is refused: the answer itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub code: u16,
    detail: Detail,
    /// Why the credential was not taken.
    credential: Option<Refused>,
    /// The rule of the peer policy that decided.
    denied: Option<Denial>,
    /// What else decided.
    rule: Option<&'static str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Detail {
    None,
    /// Realm, nonce and algorithms, to try again with.
    Challenge,
    /// The attributes of the request that are not understood.
    Unknown,
    /// Another server.
    Alternate,
}

impl Refusal {
    pub const fn new(code: u16) -> Self {
        Refusal { code, detail: Detail::None, credential: None, denied: None, rule: None }
    }

    /// Refused by a limit or a rule, which the operator is told: a key of the configuration, or words.
    pub const fn by(code: u16, rule: &'static str) -> Self {
        Refusal { rule: Some(rule), ..Refusal::new(code) }
    }

    /// Refused by a limit.
    pub const fn limit(limit: Limit) -> Self {
        Refusal::by(limit.code(), limit.rule())
    }

    const fn challenge(code: u16) -> Self {
        Refusal { detail: Detail::Challenge, ..Refusal::new(code) }
    }

    const fn credential(why: Refused) -> Self {
        Refusal { credential: Some(why), ..Refusal::challenge(401) }
    }

    /// 403, policy forbids the peer.
    const fn denied(rule: Denial) -> Self {
        Refusal { denied: Some(rule), ..Refusal::new(403) }
    }

    const fn answer(self, method: Method) -> Answer {
        let Refusal { code, detail: _, credential, denied, rule } = self;
        Answer { method, code, credential, denied, rule }
    }

    const UNKNOWN: Refusal = Refusal { detail: Detail::Unknown, ..Refusal::new(420) };
}

/// 400, the request is malformed.
pub(super) const BAD_REQUEST: Refusal = Refusal::new(400);
/// 437, the allocation that is needed is not there, or one is that must not be.
pub(super) const MISMATCH: Refusal = Refusal::new(437);
/// 441, another user's allocation.
const WRONG_CREDENTIALS: Refusal = Refusal::new(441);
/// 443, no relayed address of the peer's family.
pub(super) const PEER_FAMILY: Refusal = Refusal::new(443);
/// 300, another server is the one to ask (RFC 8489 §10).
pub(super) const TRY_ALTERNATE: Refusal = Refusal { detail: Detail::Alternate, ..Refusal::new(300) };

impl Server {
    /// Takes a request through its row: credentials, unknown attributes, ownership, peers,
    /// handler, signature.
    pub(super) fn handle_request(
        &mut self,
        now: Now,
        from: &Sender,
        message: &Message<'_>,
        ports: &mut dyn Ports,
        out: &mut [u8],
    ) -> Verdict {
        let Some(row) = METHODS.iter().find(|row| row.method == message.method()) else {
            return Verdict::Drop(DropReason::Unexpected); // RFC 8489 §6.3: unsupported, silently
        };
        let held =
            self.table.find(&from.tuple).filter(|&id| self.table.get(id).is_some_and(|a| a.is_live(now.mono_ms)));
        let request = Request { now, from, message, held };
        let granted = match row.access {
            Access::Anyone => Ok(None),
            Access::Credential => {
                let held = held.and_then(|id| self.table.get(id));
                authenticate(&self.config, &self.revoked, &mut self.nonces, &request, held).map(Some)
            }
        };
        let verified = held.is_some() || is_proved(&granted) || has_true_source(&request);
        if !verified
            && !self.unverified.admit(now.mono_ms, from.tuple.client.ip(), self.config.limits.unverified_per_second)
        {
            return Verdict::Drop(DropReason::Unverified);
        }
        let (outcome, signer) = match granted {
            Err(refusal) => (Err(refusal), None),
            Ok(granted) => {
                let granted = granted.unwrap_or(Granted {
                    proof: None,
                    algorithm: PasswordAlgorithm::Md5,
                    signer: None,
                    is_owner: false,
                });
                let mut writer = Writer::new(out, Class::Success, row.method, message.transaction_id());
                let outcome = self.obey(row, &request, &granted, ports, &mut writer);
                (outcome.map(|()| writer.finish().map_err(|_| Overflow)), granted.signer)
            }
        };
        let (len, answer) = match outcome {
            Ok(len) => (len.and_then(|len| seal(out, len, &signer, message)), Answer::new(row.method, 0)),
            Err(refusal) => {
                let draining = self.draining.as_ref();
                let len = refuse(&self.config, &mut self.nonces, draining, &request, refusal, &signer, out);
                (len, refusal.answer(row.method))
            }
        };
        match len {
            Ok(len) => Verdict::Reply { len, answer },
            Err(Overflow) => Verdict::Drop(DropReason::Overflow),
        }
    }

    fn obey(
        &mut self,
        row: &MethodRow,
        request: &Request<'_>,
        granted: &Granted,
        ports: &mut dyn Ports,
        writer: &mut Writer<'_>,
    ) -> Result<(), Refusal> {
        match (row.ownership, request.held) {
            (Ownership::Any, _) | (Ownership::Vacant, None) => {}
            (Ownership::Vacant, Some(id)) => return self.again(request, granted, id, writer),
            (Ownership::Owner, None) => return Err(MISMATCH),
            (Ownership::Owner, Some(_)) if !granted.is_owner => return Err(WRONG_CREDENTIALS),
            // What is over counts no more, whether the wheel has come by or not.
            (Ownership::Owner, Some(id)) => self.end_families_over(request.now, id),
        }
        if request.message.attributes().any(|a| is_unknown_required(a.kind)) {
            return Err(Refusal::UNKNOWN);
        }
        self.check_peers(row.peers, request)?;
        (row.handler)(self, request, granted, ports, writer)
    }

    /// The one door of the peer policy for requests: all peers named are well formed, of a
    /// family the allocation has, and allowed, or none is taken (RFC 8656 §10.2, §12.2).
    fn check_peers(&self, check: PeerCheck, request: &Request<'_>) -> Result<(), Refusal> {
        if check == PeerCheck::None {
            return Ok(());
        }
        let allocation = request.held.and_then(|id| self.table.get(id)).ok_or(MISMATCH)?;
        let named = || request.peers().take(if check == PeerCheck::Transport { 1 } else { usize::MAX });
        if named().next().is_none() || named().any(|peer| peer.is_none()) {
            return Err(BAD_REQUEST);
        }
        if check == PeerCheck::Transport && named().flatten().any(|peer| peer.0.port() == 0) {
            return Err(BAD_REQUEST);
        }
        if named().flatten().any(|peer| allocation.relay(peer.family(), request.now.mono_ms).is_none()) {
            return Err(PEER_FAMILY);
        }
        let policy = &self.config.policy;
        let judge = |peer: PeerAddr| match check {
            PeerCheck::Transport => policy.judge_peer(peer.0),
            _ => policy.judge(peer.ip()),
        };
        named().flatten().try_for_each(|peer| judge(peer).map(drop)).map_err(Refusal::denied)
    }
}

/// Whether a request bears the proof of a credential. That anyone may allocate proves nothing.
fn is_proved(granted: &Result<Option<Granted>, Refusal>) -> bool {
    matches!(granted, Ok(Some(granted)) if granted.signer.is_some())
}

/// Whether a request can not have been sent in another's name, and is no guess at a password: that
/// one counts, as often as it is wrong, on a stream too.
fn has_true_source(request: &Request<'_>) -> bool {
    request.from.tuple.transport.is_stream() && !request.message.has_integrity()
}

/// RFC 8489 §9.2.4, in its order.
fn authenticate(
    config: &Config,
    revoked: &Revocations,
    nonces: &mut Mint,
    request: &Request<'_>,
    held: Option<&Allocation>,
) -> Result<Granted, Refusal> {
    let message = request.message;
    if !message.has_integrity() {
        if config.auth.anonymous {
            let is_owner = held.is_some_and(|allocation| allocation.key.is_none());
            return Ok(Granted { proof: None, algorithm: PasswordAlgorithm::Md5, signer: None, is_owner });
        }
        return Err(Refusal::challenge(401));
    }
    let text = |kind| message.get(kind).filter(|value| value.len() <= TEXT_LEN_MAX);
    let name = match (text(attribute::USERNAME), message.get(attribute::USERHASH)) {
        (Some(name), _) => Name::Plain(name),
        (None, Some(hash)) => Name::Hash(hash.try_into().map_err(|_| BAD_REQUEST)?),
        (None, None) => return Err(BAD_REQUEST),
    };
    let (Some(realm), Some(nonce)) = (text(attribute::REALM), text(attribute::NONCE)) else {
        return Err(BAD_REQUEST);
    };
    let (algorithm, response_mac) = password_algorithm(message, nonce)?;
    if realm != config.realm.as_bytes() {
        return Err(Refusal::challenge(401));
    }
    let plain = config.auth.plain(name);
    let is_owner = held.is_some_and(|a| a.key.is_some() && plain.is_some_and(|name| *name == *a.account.username));
    // The allocation's own user needs no look-up, and no expiry is judged again (the REST
    // draft: expiry concerns Allocate only).
    let known = held.and_then(|a| a.key.as_ref()).filter(|(made_by, _)| is_owner && *made_by == algorithm);
    let answering = |verified: Signer, key: &Key| match verified.kind() == response_mac {
        true => verified,
        false => Signer::new(response_mac, key.as_bytes()),
    };
    let (proof, signer) = match known {
        Some((_, key)) => match message.verified_by(key) {
            Some(verified) => (None, answering(verified, key)),
            None => return Err(Refusal::credential(Refused::Password)),
        },
        None => {
            let verify = |key: &Key| message.verified_by(key);
            let proved = config.auth.prove(request.now.unix_s, name, algorithm, verify);
            let (proof, verified) = proved.map_err(Refusal::credential)?;
            let signer = answering(verified, &proof.key);
            (Some(proof), signer)
        }
    };
    // Not before the password was right: who is revoked is nobody else's business.
    let is_revoked = match held.filter(|_| is_owner) {
        Some(allocation) => allocation.is_revoked(&config.auth, revoked),
        None => plain.is_some_and(|name| config.auth.is_revoked(revoked, name)),
    };
    if is_revoked {
        return Err(Refusal::credential(Refused::Revoked));
    }
    let stale = nonces.judge(request.now, &request.from.tuple, nonce) == Judgement::Stale;
    if stale && !(is_owner && is_retransmission(request, held)) {
        return Err(Refusal::challenge(438));
    }
    Ok(Granted { proof, algorithm, signer: Some(signer), is_owner })
}

/// The key's algorithm and the kind of integrity the answer bears (RFC 8489 §9.2.4).
fn password_algorithm(message: &Message<'_>, nonce: &[u8]) -> Result<(PasswordAlgorithm, MacKind), Refusal> {
    let as_before = (PasswordAlgorithm::Md5, MacKind::Sha1);
    if !nonce::announces_algorithms(nonce) {
        return Ok(as_before);
    }
    match (message.get(attribute::PASSWORD_ALGORITHM), message.get(attribute::PASSWORD_ALGORITHMS)) {
        (None, None) => Ok(as_before),
        (Some(chosen), Some(list)) if list == PasswordAlgorithm::OFFER => {
            let algorithm = PasswordAlgorithm::decode(chosen).ok_or(BAD_REQUEST)?;
            Ok((algorithm, MacKind::Sha256))
        }
        _ => Err(BAD_REQUEST),
    }
}

/// Whether the request is the one that made the allocation, once more.
pub(super) fn is_retransmission(request: &Request<'_>, held: Option<&Allocation>) -> bool {
    request.message.method() == Method::ALLOCATE
        && held.is_some_and(|allocation| allocation.transaction == request.message.transaction_id())
}

/// Signs a message of `len` bytes that lies in `out`, and answers FINGERPRINT in kind.
fn seal(out: &mut [u8], len: usize, signer: &Option<Signer>, request: &Message<'_>) -> Result<usize, Overflow> {
    let mut writer = Writer::resume(out, len);
    if let Some(signer) = signer {
        writer.sign(signer);
    }
    if request.has_fingerprint() {
        writer.push_fingerprint();
    }
    writer.finish()
}

/// Writes an error response. No reason phrase and no SOFTWARE: what goes to a stranger is as
/// short as it can be.
fn refuse(
    config: &Config,
    nonces: &mut Mint,
    draining: Option<&Draining>,
    request: &Request<'_>,
    refusal: Refusal,
    signer: &Option<Signer>,
    out: &mut [u8],
) -> Result<usize, Overflow> {
    let message = request.message;
    let mut writer = Writer::new(out, Class::Error, message.method(), message.transaction_id());
    writer.push_error(refusal.code);
    match refusal.detail {
        Detail::None => {}
        Detail::Challenge => {
            let nonce = nonces.mint(request.now, &request.from.tuple);
            writer.push(attribute::REALM, config.realm.as_bytes()).push(attribute::NONCE, nonce.as_bytes());
            if config.nonce.rfc8489 {
                writer.push(attribute::PASSWORD_ALGORITHMS, &PasswordAlgorithm::OFFER);
            }
        }
        Detail::Unknown => {
            let mut list = [0; UNKNOWN_MAX * 2];
            let mut len = 0;
            let unknown = message.attributes().map(|a| a.kind).filter(|&kind| is_unknown_required(kind));
            for kind in unknown.take(UNKNOWN_MAX) {
                list[len..len + 2].copy_from_slice(&kind.to_be_bytes());
                len += 2;
            }
            writer.push(attribute::UNKNOWN_ATTRIBUTES, &list[..len]);
        }
        Detail::Alternate => {
            if let Some(draining) = draining {
                draining.write_alternate(&request.from.tuple, &mut writer);
            }
        }
    }
    let len = writer.finish()?;
    seal(out, len, signer, message)
}

/// The families a Refresh concerns.
pub(super) fn families(asked: Option<Family>) -> impl Iterator<Item = Family> {
    [Family::V4, Family::V6].into_iter().filter(move |&family| asked.is_none_or(|asked| asked == family))
}
