//! What may happen next. An operation is a plain value: chosen from a seed or from a fuzzer's
//! bytes, printed in traces, and carried out by the world.

use super::chance::Choice;
use super::client::Client;
use super::message::{self as m, Class};
use super::operator;
use super::setting::{Change, OPEN_PEERS, PEERS};

/// Peers that differ from reachable ones by their port alone.
const PORTS: [usize; 5] = [12, 13, 21, 22, 1];

/// A piece of a message; what only the world knows is looked up when it is carried out.
#[derive(Clone, Debug)]
pub enum Part {
    Raw(u16, Vec<u8>),
    /// XOR-PEER-ADDRESS of a peer.
    Peer(usize),
    /// RESERVATION-TOKEN, the latest but so many.
    Token(usize),
    /// DATA of so many bytes.
    Payload(usize),
}

/// In what a message differs from the one a good client would send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Twist {
    None,
    Unsigned,
    WrongPassword,
    UnknownName,
    Neighbour,
    OldNonce,
    NeighbourNonce,
    JunkNonce,
    LongNonce,
    WithoutName,
    WithoutRealm,
    WithoutNonce,
    WrongRealm,
    OtherAlgorithm,
    NoAlgorithmList,
    WrongAlgorithmList,
    UnknownAlgorithm,
    BothSeals,
    BothSealsOneWrong,
    ShortSeal,
    UserHash,
    ShortUserHash,
    Trailing,
    Unknown,
    ManyUnknown,
    Optional,
    Misfit,
    Twice,
    Renewed,
    Expired,
    TooFar,
    SameTransaction,
}

impl Twist {
    #[rustfmt::skip]
    const ALL: &[Twist] = &[
        Twist::Unsigned, Twist::WrongPassword, Twist::UnknownName, Twist::Neighbour, Twist::OldNonce,
        Twist::NeighbourNonce, Twist::JunkNonce, Twist::LongNonce, Twist::WithoutName, Twist::WithoutRealm,
        Twist::WithoutNonce, Twist::WrongRealm, Twist::OtherAlgorithm, Twist::NoAlgorithmList,
        Twist::WrongAlgorithmList, Twist::UnknownAlgorithm, Twist::BothSeals, Twist::BothSealsOneWrong,
        Twist::ShortSeal, Twist::UserHash, Twist::ShortUserHash, Twist::Trailing, Twist::Unknown,
        Twist::ManyUnknown, Twist::Optional, Twist::Misfit, Twist::Twice, Twist::Renewed, Twist::Expired,
        Twist::TooFar, Twist::SameTransaction,
    ];
}

/// Where a client's packets come from after its address changed.
#[derive(Clone, Copy, Debug)]
pub enum Refuge {
    NextPort,
    /// A NAT has forgotten the client and gives it another port: the client does not notice.
    Unnoticed,
    /// Where it was before, unnoticed too.
    Back,
    PortZero,
    Teredo,
    SixToFour,
    /// A relayed address of this very server.
    Relayed(usize),
}

/// One thing that happens.
#[derive(Clone, Debug)]
pub enum Op {
    Message {
        client: usize,
        class: Class,
        method: u16,
        parts: Vec<Part>,
        twist: Twist,
        fingerprint: bool,
    },
    /// ChannelData of `len` bytes whose header says `claimed`.
    Channel {
        client: usize,
        number: u16,
        claimed: usize,
        len: usize,
    },
    Repeat {
        client: usize,
        back: usize,
        times: usize,
    },
    Mangle {
        client: usize,
        back: usize,
        flips: Vec<u32>,
        cut: u32,
    },
    Raw {
        client: usize,
        bytes: Vec<u8>,
    },
    Peer {
        from: usize,
        to: Place,
        len: usize,
    },
    Icmp {
        peer: usize,
        to: Place,
        kind: u8,
        code: u8,
        times: usize,
    },
    /// The moment at which something ends, or the millisecond before or after: all that may end
    /// is tried at once.
    Brink {
        nth: usize,
        side: u64,
    },
    Clock {
        ms: u64,
    },
    /// Everyone who holds an allocation refreshes it, for a long pause.
    Nap {
        ms: u64,
    },
    Wall {
        s: i64,
    },
    /// The wheel is not turned for a while: a starved worker.
    Lag,
    /// The whole machine stands still; when it goes on, time has passed.
    Suspend {
        ms: u64,
    },
    /// Somebody is cut off for a while.
    Cut {
        side: Severed,
        ms: u64,
    },
    Disconnect {
        client: usize,
    },
    Rebind {
        client: usize,
        to: Refuge,
    },
    Close {
        nth: usize,
    },
    Configure {
        change: Change,
    },
    /// Another server takes a worker's allocations over; their counters may be close to their end.
    Restart {
        worker: usize,
        counters: Option<u64>,
    },
    /// New clients are sent to the servers of a list, or taken again.
    Drain {
        order: Option<(usize, u64)>,
    },
    /// The revoked are these and no others.
    Revoke {
        whom: Whom,
    },
    /// Others have left so many bytes of an allocation's credential.
    Settle {
        nth: usize,
        bytes_left: u64,
    },
}

/// Who is cut off.
#[derive(Clone, Copy, Debug)]
pub enum Severed {
    Client(usize),
    Clients,
    Peers,
}

/// Whom an operator revokes.
#[derive(Clone, Copy, Debug)]
pub enum Whom {
    Nobody,
    /// Static users and user ids.
    Named(&'static [&'static str]),
    /// The username of a client's credential, whole.
    Client(usize),
}

/// A relayed address.
#[derive(Clone, Copy, Debug)]
pub enum Place {
    /// Of those in use, by number.
    Held(usize),
    /// The one this client was told of.
    Client(usize),
}

/// How long the pauses of a world are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    Calls,
    Minutes,
    Days,
}

/// What choosing needs to know of the world.
#[derive(Clone, Copy, Debug)]
pub struct Outlook<'a> {
    pub clients: &'a [Client],
    pub pace: Pace,
    /// Clients are sent elsewhere.
    pub is_draining: bool,
    /// Somebody is revoked.
    pub is_revoking: bool,
}

impl Op {
    /// Chooses the next operation: mostly one that leads somewhere.
    pub fn choose<C: Choice>(chance: &mut C, outlook: Outlook<'_>) -> Op {
        let client = chance.below(outlook.clients.len() as u32) as usize;
        let known = &outlook.clients[client];
        let kind = chance.below(64);
        if known.is_astray && kind < 24 {
            return Op::Rebind { client, to: Refuge::NextPort };
        }
        if !known.holds && kind < 36 && !chance.one_in(8) {
            return message(chance, client, m::ALLOCATE, known);
        }
        let method = if chance.one_in(2) { m::CHANNEL_BIND } else { m::CREATE_PERMISSION };
        match kind {
            14..=35 if known.peers.is_empty() && !chance.one_in(4) => message(chance, client, method, known),
            0..=12 => request(chance, client, known),
            13 => unusual(chance, client),
            14..=19 => send(chance, client, known),
            20..=28 => channel(chance, client, known),
            29..=35 => Op::Peer { from: familiar(chance, known), to: place(chance, client), len: length(chance) },
            36 if chance.one_in(2) => Op::Brink { nth: chance.below(8) as usize, side: u64::from(chance.below(3)) },
            37 if outlook.pace != Pace::Calls && chance.one_in(2) => {
                Op::Nap { ms: chance.pick(&[299_000, 599_000, 600_000, 900_000]) }
            }
            36..=50 => Op::Clock { ms: pause(chance, outlook.pace) },
            54 if chance.one_in(4) => settle(chance),
            51..=54 => Op::Repeat { client, back: chance.below(6) as usize, times: chance.pick(&[1, 1, 1, 12]) },
            55 => mangle(chance, client),
            56 | 57 => icmp(chance, client, known),
            58 if chance.one_in(2) => stand_still(chance, outlook.pace),
            58 => Op::Raw { client, bytes: (0..chance.below(30)).map(|_| chance.below(256) as u8).collect() },
            59 if chance.one_in(2) => {
                let counters = chance.pick(&[None, None, Some(u64::from(u32::MAX) - 2), Some(u64::MAX - 3000)]);
                Op::Restart { worker: chance.below(2) as usize, counters }
            }
            59 => Op::Wall { s: chance.pick(&[-86_400, 86_400, -1, 1, 700, 315_000_000]) },
            60 if outlook.is_draining => Op::Drain { order: None },
            60 if chance.one_in(4) => drain(chance),
            61 if outlook.is_revoking => Op::Revoke { whom: Whom::Nobody },
            61 if chance.one_in(4) => Op::Revoke { whom: whom(chance, client) },
            60 | 61 => Op::Configure { change: chance.pick(Change::ALL) },
            62 if known.holds && !chance.one_in(4) => message(chance, client, m::REFRESH, known),
            _ => leave(chance, client),
        }
    }
}

fn stand_still<C: Choice>(chance: &mut C, pace: Pace) -> Op {
    let longest = if pace == Pace::Days { 172_800_000 } else { 60_000 };
    match chance.below(4) {
        0 | 1 => Op::Lag,
        _ => Op::Suspend { ms: chance.pick(&[3000, 60_000, 60_000, longest]) },
    }
}

fn cut<C: Choice>(chance: &mut C, client: usize) -> Op {
    let side = chance.pick(&[Severed::Client(client), Severed::Client(client), Severed::Clients, Severed::Peers]);
    Op::Cut { side, ms: chance.pick(&[200, 1000, 5000, 40_000, 310_000]) }
}

fn drain<C: Choice>(chance: &mut C) -> Op {
    let list = chance.below(operator::LISTS) as usize;
    let left_ms = chance.pick(&[u64::MAX, u64::MAX, 0, 60_000, 700_500]);
    Op::Drain { order: Some((list, left_ms)) }
}

fn whom<C: Choice>(chance: &mut C, client: usize) -> Whom {
    match chance.below(4) {
        0 => Whom::Named(&["alice"]),
        1 => Whom::Named(&["bob", "carol", "mallory"]),
        2 => Whom::Named(&["erin", "old"]),
        _ => Whom::Client(client),
    }
}

fn settle<C: Choice>(chance: &mut C) -> Op {
    Op::Settle { nth: chance.below(8) as usize, bytes_left: chance.pick(&[0, 1, 300, 2000]) }
}

fn place<C: Choice>(chance: &mut C, client: usize) -> Place {
    if chance.one_in(4) { Place::Held(chance.below(8) as usize) } else { Place::Client(client) }
}

/// A peer the client has asked for before, mostly.
fn familiar<C: Choice>(chance: &mut C, known: &Client) -> usize {
    if known.peers.is_empty() || chance.one_in(6) { peer(chance) } else { chance.pick(&known.peers) }
}

fn icmp<C: Choice>(chance: &mut C, client: usize, known: &Client) -> Op {
    let kind = chance.pick(&[3, 3, 1, 1, 2, 11, 0, 4, 12]);
    let (peer, to) = (familiar(chance, known), place(chance, client));
    Op::Icmp { peer, to, kind, code: chance.below(5) as u8, times: chance.pick(&[1, 1, 12]) }
}

fn leave<C: Choice>(chance: &mut C, client: usize) -> Op {
    let nth = chance.below(8) as usize;
    let refuges = [
        Refuge::NextPort,
        Refuge::NextPort,
        Refuge::Unnoticed,
        Refuge::Unnoticed,
        Refuge::Unnoticed,
        Refuge::Back,
        Refuge::Back,
        Refuge::PortZero,
        Refuge::Teredo,
        Refuge::SixToFour,
        Refuge::Relayed(nth),
        Refuge::Relayed(nth),
    ];
    match chance.below(8) {
        0 => Op::Close { nth },
        1 | 2 => Op::Disconnect { client },
        3 => cut(chance, client),
        _ => Op::Rebind { client, to: chance.pick(&refuges) },
    }
}

/// A peer: mostly one that may be reached, sometimes another client's relayed address.
fn peer<C: Choice>(chance: &mut C) -> usize {
    match chance.below(8) {
        0 => chance.below(PEERS.len() as u32) as usize,
        1 => PEERS.len() + chance.below(8) as usize,
        _ => chance.below(OPEN_PEERS as u32) as usize,
    }
}

fn length<C: Choice>(chance: &mut C) -> usize {
    let longer = chance.one_in(8);
    chance.pick(if longer { &[1500, 65_000, 65_470, 65_507, 65_527] } else { &[0, 1, 2, 3, 4, 5, 31, 160, 500, 1200] })
}

fn pause<C: Choice>(chance: &mut C, pace: Pace) -> u64 {
    let shorter = [1, 5, 20, 50, 100, 200, 400, 500, 1000, 1000];
    let kind = chance.below(16);
    match (kind, pace) {
        (15, Pace::Days) => chance.pick(&[1_200_000, 3_600_000, 3_601_000, 7_300_000, 86_400_000]),
        (14, Pace::Minutes | Pace::Days) => chance.pick(&[299_000, 300_000, 300_001, 599_000, 600_000, 601_000]),
        (12 | 13, Pace::Minutes | Pace::Days) => chance.pick(&[29_000, 30_000, 40_000, 60_000, 120_000, 240_000]),
        (12.., _) => chance.pick(&[2000, 5000, 10_000, 20_000]),
        _ => chance.pick(&shorter),
    }
}

fn request<C: Choice>(chance: &mut C, client: usize, known: &Client) -> Op {
    let method = match chance.below(8) {
        0 => m::BINDING,
        1 => m::REFRESH,
        2..=4 => m::CREATE_PERMISSION,
        5 if chance.one_in(3) => m::ALLOCATE,
        _ => m::CHANNEL_BIND,
    };
    message(chance, client, method, known)
}

fn message<C: Choice>(chance: &mut C, client: usize, method: u16, known: &Client) -> Op {
    let twist = if chance.one_in(8) { chance.pick(Twist::ALL) } else { Twist::None };
    let parts = match method {
        m::ALLOCATE => allocate(chance),
        m::REFRESH => refresh(chance),
        m::CREATE_PERMISSION => {
            let count = chance.pick(&[1, 1, 1, 1, 1, 1, 2, 2, 3, 5, 0]);
            (0..count).map(|_| Part::Peer(peer(chance))).collect()
        }
        m::CHANNEL_BIND => channel_bind(chance, known),
        _ => Vec::new(),
    };
    Op::Message { client, class: Class::Request, method, parts, twist, fingerprint: chance.one_in(4) }
}

fn family(code: u8) -> Vec<u8> {
    vec![code, 0, 0, 0]
}

fn lifetime(seconds: u32) -> Part {
    Part::Raw(m::LIFETIME, seconds.to_be_bytes().to_vec())
}

fn allocate<C: Choice>(chance: &mut C) -> Vec<Part> {
    let transport = |protocol: u8| Part::Raw(m::REQUESTED_TRANSPORT, vec![protocol, 0, 0, 0]);
    let requested = |code| Part::Raw(m::REQUESTED_ADDRESS_FAMILY, family(code));
    let additional = |code| Part::Raw(m::ADDITIONAL_ADDRESS_FAMILY, family(code));
    let even = |reserve: bool| Part::Raw(m::EVEN_PORT, vec![if reserve { 0x80 } else { 0x7F }]);
    let mut parts = match chance.below(32) {
        0..=7 => vec![],
        8..=10 => vec![requested(2)],
        11 => vec![requested(1)],
        12..=16 => vec![additional(2)],
        17 => vec![even(false)],
        18 | 19 => vec![even(true)],
        20..=22 => vec![Part::Token(chance.below(3) as usize)],
        23 => vec![even(true), requested(2)],
        24 => vec![even(false), additional(2)],
        25 => vec![even(true), additional(2)],
        26 => vec![requested(1), additional(2)],
        27 => match chance.below(3) {
            0 => vec![Part::Token(0), even(false)],
            1 => vec![Part::Token(0), requested(1)],
            _ => vec![Part::Token(0), additional(2)],
        },
        28 => vec![additional(chance.pick(&[1, 7]))],
        29 => vec![requested(7)],
        30 => vec![Part::Raw(m::DONT_FRAGMENT, vec![])],
        _ => vec![Part::Raw(m::RESERVATION_TOKEN, vec![7; 8])],
    };
    if chance.one_in(3) {
        parts.push(lifetime(chance.pick(&[0, 1, 600, 700, 1800, 3600, 3601, u32::MAX])));
    }
    match chance.below(24) {
        0 => {}
        1 => parts.push(transport(132)),
        2 => parts.push(transport(6)),
        3 => parts.extend([transport(17), transport(6)]),
        _ => parts.push(transport(17)),
    }
    parts
}

fn refresh<C: Choice>(chance: &mut C) -> Vec<Part> {
    let mut parts = Vec::new();
    if !chance.one_in(3) {
        parts.push(lifetime(chance.pick(&[600, 700, 3600, 1, u32::MAX, 900, 0])));
    }
    if chance.one_in(2) {
        parts.push(Part::Raw(m::REQUESTED_ADDRESS_FAMILY, family(chance.pick(&[1, 1, 2, 2, 7]))));
    }
    parts
}

fn number<C: Choice>(chance: &mut C) -> u16 {
    match chance.below(12) {
        0 => chance.pick(&[0x3FFF, 0x4FFF, 0x5000, 0x7FFF, 0x8000, 0]),
        _ => 0x4000 + chance.below(4) as u16,
    }
}

fn channel_bind<C: Choice>(chance: &mut C, known: &Client) -> Vec<Part> {
    let [n0, n1] = number(chance).to_be_bytes();
    let mut parts = vec![Part::Raw(m::CHANNEL_NUMBER, vec![n0, n1, 0xFF, 0xFF])];
    parts.push(Part::Peer(familiar(chance, known)));
    match chance.below(16) {
        0 => drop(parts.remove(0)),
        1 => drop(parts.remove(1)),
        2 => parts.push(Part::Peer(peer(chance))),
        _ => {}
    }
    parts
}

fn send<C: Choice>(chance: &mut C, client: usize, known: &Client) -> Op {
    let peer = if chance.one_in(8) { chance.pick(&PORTS) } else { familiar(chance, known) };
    let mut parts = vec![Part::Peer(peer), Part::Payload(length(chance))];
    match chance.below(16) {
        0 => drop(parts.remove(0)),
        1 => drop(parts.remove(1)),
        2 => parts.push(Part::Raw(m::DONT_FRAGMENT, vec![])),
        3 => parts.extend([Part::Peer(0), Part::Payload(9)]),
        _ => {}
    }
    let twist =
        if chance.one_in(8) { chance.pick(&[Twist::Unknown, Twist::Misfit, Twist::Optional]) } else { Twist::None };
    let fingerprint = chance.one_in(8);
    Op::Message { client, class: Class::Indication, method: m::SEND, parts, twist, fingerprint }
}

fn channel<C: Choice>(chance: &mut C, client: usize, known: &Client) -> Op {
    let strange = known.channels.is_empty() || chance.one_in(8);
    let number = if strange { number(chance) } else { chance.pick(&known.channels) };
    let len = length(chance);
    let claimed = match chance.below(10) {
        0 => len + 1,
        1 => len.saturating_sub(1 + chance.below(4) as usize),
        _ => len,
    };
    Op::Channel { client, number, claimed: claimed.min(0xFFFF), len }
}

/// Messages a server has no business with, and methods nobody knows.
fn unusual<C: Choice>(chance: &mut C, client: usize) -> Op {
    let class = chance.pick(&[Class::Request, Class::Indication, Class::Success, Class::Error]);
    let method = chance.pick(&[
        m::BINDING,
        m::ALLOCATE,
        m::REFRESH,
        m::DATA_METHOD,
        m::CREATE_PERMISSION,
        m::CHANNEL_BIND,
        0x00A,
        0x0FF,
        0xFFF,
    ]);
    let twist = chance.pick(&[Twist::None, Twist::Unsigned, Twist::Unknown, Twist::ManyUnknown]);
    Op::Message { client, class, method, parts: vec![Part::Peer(0)], twist, fingerprint: chance.one_in(2) }
}

fn mangle<C: Choice>(chance: &mut C, client: usize) -> Op {
    let back = chance.below(6) as usize;
    let flips = (0..1 + chance.below(3)).map(|_| chance.below(1 << 13)).collect();
    let cut = if chance.one_in(4) { chance.below(200) } else { 0 };
    Op::Mangle { client, back, flips, cut }
}
