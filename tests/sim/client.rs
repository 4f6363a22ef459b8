//! A client: what it knows of the server, and how it writes what it is told to.

use super::message::{self as m, Algorithm, Build, Class, Reading, Seal};
use super::op::{Part, Twist};
use super::setting::{PEERS, REALM, SERVER, Setting, addr};
use std::collections::VecDeque;
use std::net::SocketAddr;
use turnpike::turn::{ClientAddr, FiveTuple, LinkId, Sender, Transport};

/// Datagrams a client remembers, to send them again.
const REMEMBERED: usize = 8;
/// Peers and channels a client makes use of.
const FAMILIAR: usize = 5;
/// The clients of a world, at the start: two behind one address, streams, both families.
#[rustfmt::skip]
const CLIENTS: &[(&str, Transport)] = &[
    ("5.5.5.1:4001", Transport::Udp), ("5.5.5.1:4002", Transport::Udp), ("5.5.6.1:4001", Transport::Tcp),
    ("[2400:5::1]:4001", Transport::Udp), ("[2400:5::2]:4001", Transport::Tls), ("5.5.7.1:4004", Transport::Udp),
];

/// A name and its password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential {
    pub name: Vec<u8>,
    pub password: Vec<u8>,
}

impl Credential {
    /// Sorts of time-limited credentials; the last one has caps that nobody can read.
    pub const LIMITED_KINDS: u32 = 10;

    /// The credential of the `kind`th sort: static users first, then time-limited ones that
    /// expire `ttl_s` from now.
    pub fn mint(setting: &Setting, kind: usize, unix_s: u64, ttl_s: i64) -> Credential {
        if let Some(user) = setting.users.get(kind) {
            return Credential { name: user.name.to_vec(), password: user.password.to_vec() };
        }
        let expires = unix_s.saturating_add_signed(ttl_s);
        let name = match kind - setting.users.len() {
            0 => format!("{expires}:carol"),
            1 => format!("dave:{expires}"),
            2 => format!("{expires}"),
            3 => format!("{expires}:alice"),
            4 => format!("{expires}+a1+r2000+b1500:erin"),
            5 => format!("erin:{expires}+b200"),
            6 => format!("{expires}+a2:5550100"),
            7 => format!("{expires}+a1"),
            8 => format!("5550100+a0:{expires}"),
            _ => format!("{expires}+b900+a1:mallory"),
        };
        let secret = setting.secrets.last().copied().unwrap_or(b"no secret at all");
        Credential { password: m::rest_password(secret, name.as_bytes()), name: name.into_bytes() }
    }
}

/// What the world tells a client that writes a message.
#[derive(Debug)]
pub struct Surroundings<'a> {
    pub held: &'a [SocketAddr],
    pub tokens: &'a [[u8; 8]],
    pub neighbour: (Credential, Vec<u8>),
    pub setting: &'a Setting,
    pub unix_s: u64,
}

impl Surroundings<'_> {
    /// The address of a peer by number: the list's, then held relayed addresses.
    pub fn peer(&self, number: usize) -> SocketAddr {
        match number.checked_sub(PEERS.len()) {
            Some(past) if !self.held.is_empty() => self.held[past % self.held.len()],
            Some(past) => addr(PEERS[past % PEERS.len()]),
            None => addr(PEERS[number]),
        }
    }
}

/// One client.
#[derive(Clone, Debug)]
pub struct Client {
    pub tuple: FiveTuple,
    pub link: LinkId,
    pub kind: usize,
    pub credential: Credential,
    pub algorithm: Option<Algorithm>,
    /// Nonces it was given, the newest last.
    pub nonces: Vec<Vec<u8>>,
    pub sent: VecDeque<Vec<u8>>,
    pub holds: bool,
    /// Peers it may reach, by number, and channels it has bound; the newest last.
    pub peers: Vec<usize>,
    pub channels: Vec<u16>,
    /// Peers and channels of requests that are not answered yet.
    asked: VecDeque<([u8; 12], Vec<usize>, Vec<u16>)>,
    /// How often it was refused since it was last let in.
    pub refused: usize,
    /// Its relayed addresses.
    pub relayed: Vec<SocketAddr>,
    /// It comes from where it will be refused.
    pub is_astray: bool,
    /// Where it came from before that changed unnoticed.
    pub former: Option<SocketAddr>,
    /// Transactions it has had an answer to, the newest last.
    pub answered: VecDeque<[u8; 12]>,
    /// What it asks once more as soon as it is told a nonce for it: transaction, method, parts.
    pub pending: Option<([u8; 12], u16, Vec<Part>)>,
    transactions: u64,
    number: u8,
}

impl Client {
    /// All clients of a world; each knows a credential and nothing else.
    pub fn all(credential: &Credential) -> Vec<Client> {
        let client = |(number, &(address, transport)): (usize, &(&str, Transport))| Client {
            tuple: tuple(addr(address), transport),
            link: LinkId(number as u64),
            kind: 0,
            credential: credential.clone(),
            algorithm: None,
            nonces: Vec::new(),
            sent: VecDeque::new(),
            holds: false,
            peers: Vec::new(),
            channels: Vec::new(),
            asked: VecDeque::new(),
            refused: 0,
            relayed: Vec::new(),
            is_astray: false,
            former: None,
            answered: VecDeque::new(),
            pending: None,
            transactions: 0,
            number: number as u8,
        };
        CLIENTS.iter().enumerate().map(client).collect()
    }

    pub fn sender(&self) -> Sender {
        Sender { tuple: self.tuple, link: self.link }
    }

    pub fn is_stream(&self) -> bool {
        self.tuple.transport.is_stream()
    }

    /// Comes from elsewhere from now on: another 5-tuple, another connection.
    pub fn move_to(&mut self, address: SocketAddr) {
        self.tuple = tuple(address, self.tuple.transport);
        self.link = LinkId(self.link.0 + 100);
        self.holds = false;
        self.peers.clear();
        self.channels.clear();
    }

    /// Comes from elsewhere and does not know: it goes on as if its allocation were still its own.
    pub fn drift_to(&mut self, address: SocketAddr) {
        self.former = Some(self.tuple.client.0);
        self.tuple = tuple(address, self.tuple.transport);
    }

    pub fn remember(&mut self, bytes: Vec<u8>) {
        self.sent.push_front(bytes);
        self.sent.truncate(REMEMBERED);
    }

    /// Takes in an answer.
    pub fn learn(&mut self, answer: &Reading) {
        self.answered.push_back(answer.tid);
        if self.answered.len() > REMEMBERED {
            self.answered.pop_front();
        }
        if let Some(nonce) = answer.get(m::NONCE) {
            self.nonces.push(nonce.to_vec());
        }
        self.refused = if answer.code() == 401 { self.refused + 1 } else { 0 };
        match (answer.method, answer.code()) {
            (m::ALLOCATE, 0) => {
                self.holds = true;
                let relayed = answer.all(m::XOR_RELAYED_ADDRESS).filter_map(|value| answer.address(value));
                self.relayed = relayed.collect();
            }
            (m::REFRESH, 0) => self.holds = answer.get(m::LIFETIME) != Some(&[0; 4]),
            (m::CREATE_PERMISSION | m::CHANNEL_BIND, 0) => self.note(answer.tid),
            (_, 437) => self.holds = answer.method == m::ALLOCATE,
            _ => {}
        }
    }

    /// Remembers what it was granted, to make use of it.
    fn note(&mut self, tid: [u8; 12]) {
        let Some((_, peers, channels)) = self.asked.iter().find(|asked| asked.0 == tid) else { return };
        self.peers.extend(peers);
        self.channels.extend(channels);
        let (peers, channels) =
            (self.peers.len().saturating_sub(FAMILIAR), self.channels.len().saturating_sub(FAMILIAR));
        self.peers.drain(..peers);
        self.channels.drain(..channels);
    }

    fn transaction(&mut self, twist: Twist) -> [u8; 12] {
        if twist != Twist::SameTransaction {
            self.transactions += 1;
        }
        let mut tid = [self.number; 12];
        tid[4..].copy_from_slice(&self.transactions.to_be_bytes());
        tid
    }

    /// Writes a message.
    pub fn write(
        &mut self,
        around: &Surroundings<'_>,
        class: Class,
        method: u16,
        parts: &[Part],
        twist: Twist,
        fingerprint: bool,
    ) -> Vec<u8> {
        let tid = self.transaction(twist);
        let mut build = Build::new(class, method, tid);
        if class == Class::Request {
            self.ask(tid, parts);
        }
        for part in parts {
            let first = part.is_misfit_candidate();
            write_part(&mut build, around, part, twist == Twist::Misfit && first);
            if twist == Twist::Twice {
                write_part(&mut build, around, part, false);
            }
        }
        match twist {
            Twist::Unknown => build.push(0x7FFF, &[1, 2, 3]),
            Twist::ManyUnknown => (0..40).for_each(|kind| build.push(0x7F00 + kind, &[])),
            Twist::Optional => build.push(0xFFFF, b"never mind"),
            _ => {}
        }
        if class == Class::Request && method != m::BINDING && twist != Twist::Unsigned {
            self.sign(&mut build, around, twist);
        }
        if twist == Twist::Trailing {
            build.push(m::LIFETIME, &[0; 4]);
            build.push(0x7FFF, &[]);
        }
        if fingerprint {
            build.push_fingerprint();
        }
        build.done()
    }

    /// Remembers what it asks for, until it is granted.
    fn ask(&mut self, tid: [u8; 12], parts: &[Part]) {
        let (mut peers, mut channels) = (Vec::new(), Vec::new());
        for part in parts {
            match part {
                Part::Peer(number) => peers.push(*number),
                Part::Raw(m::CHANNEL_NUMBER, value) => channels.push(u16::from_be_bytes([value[0], value[1]])),
                _ => {}
            }
        }
        self.asked.push_front((tid, peers, channels));
        self.asked.truncate(REMEMBERED);
    }

    fn credential_for(&mut self, around: &Surroundings<'_>, twist: Twist) -> Credential {
        let mint = |kind, ttl_s| Credential::mint(around.setting, kind, around.unix_s, ttl_s);
        match twist {
            Twist::Neighbour => around.neighbour.0.clone(),
            Twist::WrongPassword => Credential { password: b"guess".to_vec(), ..self.credential.clone() },
            Twist::UnknownName => Credential { name: b"' OR 1=1--%s%n\0\xFF".to_vec(), password: b"x".to_vec() },
            Twist::Expired => mint(3, -1),
            Twist::TooFar => mint(3, 86_401),
            Twist::Renewed => {
                self.credential = mint(self.kind, 3600);
                self.credential.clone()
            }
            _ => self.credential.clone(),
        }
    }

    fn sign(&mut self, build: &mut Build, around: &Surroundings<'_>, twist: Twist) {
        let nonce = match twist {
            Twist::OldNonce => self.nonces.first().cloned(),
            Twist::NeighbourNonce => Some(around.neighbour.1.clone()),
            Twist::JunkNonce => Some(b"obMatJos2gAAAjunkjunkjunkjunkjunkjunk".to_vec()),
            Twist::LongNonce => Some(vec![b'n'; 764]),
            _ => self.nonces.last().cloned(),
        };
        let Some(nonce) = nonce else { return }; // the first request is not signed
        let credential = self.credential_for(around, twist);
        match twist {
            Twist::WithoutName => {}
            Twist::UserHash => build.push(m::USERHASH, &m::userhash(&credential.name, REALM)),
            Twist::ShortUserHash => build.push(m::USERHASH, &[1; 31]),
            _ => build.push(m::USERNAME, &credential.name),
        }
        match twist {
            Twist::WithoutRealm => {}
            Twist::WrongRealm => build.push(m::REALM, b"example.com"),
            _ => build.push(m::REALM, REALM),
        }
        if twist != Twist::WithoutNonce {
            build.push(m::NONCE, &nonce);
        }
        let algorithm = self.choose_algorithm(twist, &nonce);
        write_algorithm(build, twist, algorithm);
        seal(build, twist, algorithm, &credential);
    }

    /// Which algorithm it names; none when the server's nonce offers none.
    fn choose_algorithm(&self, twist: Twist, nonce: &[u8]) -> Option<Algorithm> {
        let offered = nonce.starts_with(b"obMatJos2g") || nonce.starts_with(b"obMatJos2w");
        match (twist, self.algorithm) {
            _ if !offered => None,
            (Twist::OtherAlgorithm, Some(Algorithm::Sha256)) => Some(Algorithm::Md5),
            (Twist::OtherAlgorithm, _) => Some(Algorithm::Sha256),
            (_, algorithm) => algorithm,
        }
    }
}

fn tuple(client: SocketAddr, transport: Transport) -> FiveTuple {
    FiveTuple { client: ClientAddr(client), server: addr(SERVER[usize::from(client.is_ipv6())]), transport }
}

impl Part {
    fn is_misfit_candidate(&self) -> bool {
        matches!(self, Part::Raw(..) | Part::Peer(_) | Part::Token(_))
    }
}

fn write_part(build: &mut Build, around: &Surroundings<'_>, part: &Part, misfit: bool) {
    let (kind, mut value) = match part {
        Part::Raw(kind, value) => (*kind, value.clone()),
        Part::Peer(number) => (m::XOR_PEER_ADDRESS, build.encode(around.peer(*number))),
        Part::Token(back) => {
            let token = around.tokens.iter().rev().nth(*back).copied();
            (m::RESERVATION_TOKEN, token.unwrap_or([9; 8]).to_vec())
        }
        Part::Payload(len) => (m::DATA, payload(*len)),
    };
    if misfit {
        value.push(0);
    }
    build.push(kind, &value);
}

/// Bytes that differ from their neighbours, so that an offset that is wrong shows.
pub fn payload(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 7 + len) as u8).collect()
}

fn write_algorithm(build: &mut Build, twist: Twist, algorithm: Option<Algorithm>) {
    let number = match algorithm {
        None => return,
        Some(Algorithm::Md5) => 1,
        Some(Algorithm::Sha256) => 2,
    };
    match twist {
        Twist::NoAlgorithmList => {}
        Twist::WrongAlgorithmList => build.push(m::PASSWORD_ALGORITHMS, &[0, 1, 0, 0]),
        _ => build.push(m::PASSWORD_ALGORITHMS, &m::ALGORITHMS),
    }
    match twist {
        Twist::UnknownAlgorithm => build.push(m::PASSWORD_ALGORITHM, &[0, 3, 0, 0]),
        _ => build.push(m::PASSWORD_ALGORITHM, &[0, number, 0, 0]),
    }
}

fn seal(build: &mut Build, twist: Twist, algorithm: Option<Algorithm>, credential: &Credential) {
    let key = m::long_term_key(algorithm.unwrap_or(Algorithm::Md5), &credential.name, REALM, &credential.password);
    match (twist, algorithm) {
        (Twist::ShortSeal, _) => build.push(m::MESSAGE_INTEGRITY, &[1; 19]),
        (Twist::BothSeals | Twist::BothSealsOneWrong, _) => {
            let deciding: &[u8] = if twist == Twist::BothSeals { &key } else { b"another" };
            build.sign(Seal::Sha1, &key);
            build.sign(Seal::Sha256, deciding);
        }
        (_, None) => build.sign(Seal::Sha1, &key),
        (_, Some(_)) => build.sign(Seal::Sha256, &key),
    }
}
