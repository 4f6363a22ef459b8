//! One server, its ports and the time; every datagram goes through [`World::deliver`], which checks what must
//! always be true.

use super::client::{ALICE, BOB, Client, REALM, SECRET};
use super::message::{Draft, Reply, allocate, refresh};
use super::ports::FakePorts;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use turnpike::turn::allocation::{Allocation, State};
use turnpike::turn::auth::{Credentials, Secret};
use turnpike::turn::policy::{Own, PeerPolicy};
use turnpike::turn::{
    AllocationId, Answer, ClientAddr, Config, DropReason, Event, FiveTuple, Now, PeerAddr, RelayedAddr, Sender, Server,
    Transport, Verdict,
};
use turnpike::wire::attribute::{self, IcmpError};
use turnpike::wire::stun::Class;

/// The relay addresses of every world, IPv4 then IPv6.
pub const RELAY: [&str; 2] = ["45.0.0.1", "2a00::1"];
/// An address of the same host that relays nothing.
pub const LOCAL: &str = "45.0.0.2";
/// Where clients reach the server.
pub const SERVER: &str = "45.0.0.1:3478";
/// When every world begins.
pub const START: Now = Now { mono_ms: 1_000_000, unix_s: 1_893_400_000 };
/// Calls of `handle_timeout` after which an idle server must have caught up.
const TURNS_MAX: usize = 1_000;

/// What became of a datagram.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// Nothing was sent.
    Silence(DropReason),
    /// An answer to the sender.
    Answer(Reply),
    /// Application bytes go on.
    Relayed(Verdict),
}

/// The world of one test.
pub struct World {
    /// The server under test.
    pub server: Server,
    /// Its ports.
    pub ports: FakePorts,
    /// Milliseconds of the clock that never jumps.
    pub mono_ms: u64,
    /// Milliseconds of the wall clock; a test may make it jump.
    pub unix_ms: u64,
    /// All that happened, in order.
    pub events: Vec<Event>,
    /// The configuration in force.
    pub config: Config,
    /// What the operator is told of the last answer.
    pub told: Option<Answer>,
}

impl World {
    /// A world with the default limits and policy.
    pub fn new() -> Self {
        World::with(|_| {})
    }

    /// A world with another configuration.
    pub fn with(change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config { realm: REALM.into(), auth: Credentials::new(REALM), ..Config::default() };
        config.auth.add_user(ALICE.0, ALICE.1);
        config.auth.add_user(BOB.0, BOB.1);
        config.auth.secrets = vec![Secret::new(SECRET)];
        config.nonce.key = [7; 32];
        let [v4, v6] = RELAY.map(|ip| ip.parse::<IpAddr>().expect("an address"));
        let local = vec![LOCAL.parse().expect("an address")];
        let own = Own { relay: vec![v4, v6], local, ports: 49_152..=65_535 };
        config.policy = PeerPolicy { own, ..PeerPolicy::default() };
        change(&mut config);
        World {
            server: Server::new(Arc::new(config.clone()), START, 42),
            ports: FakePorts::new(v4, v6),
            mono_ms: START.mono_ms,
            unix_ms: START.unix_s * 1000,
            events: Vec::new(),
            config,
            told: None,
        }
    }

    /// Changes the configuration while the server runs.
    pub fn reconfigure(&mut self, change: impl FnOnce(&mut Config)) {
        change(&mut self.config);
        self.server.configure(self.now(), Arc::new(self.config.clone()));
        self.settle();
    }

    /// The time.
    pub fn now(&self) -> Now {
        Now { mono_ms: self.mono_ms, unix_s: self.unix_ms / 1000 }
    }

    /// Lets time pass and nothing else happen, as if the server slept.
    pub fn sleep_ms(&mut self, ms: u64) {
        self.mono_ms += ms;
        self.unix_ms += ms;
    }

    /// Lets time pass and the server free what is over.
    pub fn pass_ms(&mut self, ms: u64) {
        self.sleep_ms(ms);
        let now = self.now();
        for _ in 0..TURNS_MAX {
            self.server.handle_timeout(now);
            if self.server.next_deadline().is_none_or(|deadline_ms| deadline_ms > now.mono_ms) {
                return self.settle();
            }
        }
        panic!("the server does not catch up with its deadlines");
    }

    /// [`World::pass_ms`], in seconds.
    pub fn pass_s(&mut self, s: u64) {
        self.pass_ms(s * 1000);
    }

    /// Hands the server a datagram, whoever sent it.
    pub fn deliver(&mut self, from: &Sender, datagram: &[u8]) -> Outcome {
        // What lay in the buffer before must never show.
        let mut out = [0xAA; 1500];
        let now = self.now();
        let verdict = self.server.handle_client(now, from, datagram, &mut self.ports, &mut out);
        self.settle();
        match verdict {
            Verdict::Drop(reason) => Outcome::Silence(reason),
            Verdict::Reply { len, answer } => {
                let reply = Reply::decode(&out[..len]);
                assert!(datagram[0] & 0x01 == 0 && datagram[1] & 0x10 == 0, "only a request is answered");
                assert_eq!(reply.id, datagram[8..20], "an answer bears its request's transaction id");
                assert_eq!((reply.method, reply.code()), (answer.method, answer.code), "what is counted is sent");
                let class = if answer.code == 0 { Class::Success } else { Class::Error };
                assert_eq!(reply.class, class);
                self.told = Some(answer);
                assert!(!reply.has(attribute::SOFTWARE), "nobody is told what runs here");
                Outcome::Answer(reply)
            }
            Verdict::Indicate { .. } => panic!("no client's datagram makes an indication"),
            relayed => Outcome::Relayed(relayed),
        }
    }

    /// The answer to a datagram; panics on anything else.
    pub fn answer(&mut self, from: &Sender, datagram: &[u8]) -> Reply {
        match self.deliver(from, datagram) {
            Outcome::Answer(reply) => reply,
            other => panic!("an answer expected: {other:?}"),
        }
    }

    /// Why a datagram met silence; panics when it did not, or left a trace.
    pub fn silence(&mut self, from: &Sender, datagram: &[u8]) -> DropReason {
        let before = self.state();
        let Outcome::Silence(reason) = self.deliver(from, datagram) else { panic!("silence expected") };
        assert_eq!(self.state(), before, "what is dropped leaves no trace");
        reason
    }

    /// What is to be relayed; panics on anything else.
    pub fn relayed(&mut self, from: &Sender, datagram: &[u8]) -> Verdict {
        match self.deliver(from, datagram) {
            Outcome::Relayed(verdict) => verdict,
            other => panic!("relayed data expected: {other:?}"),
        }
    }

    /// Sends a signed request. A signature of the answer must be of the same kind and right.
    pub fn ask(&mut self, client: &Client, draft: Draft) -> Reply {
        let reply = self.answer(&client.sender, &client.sign(draft));
        if let Some(kind) = reply.integrity() {
            assert_eq!(kind, client.mac());
            assert!(reply.is_signed_by(&client.key()), "the answer is signed with the client's key");
        }
        reply
    }

    /// Sends a signed request that must succeed.
    pub fn succeed(&mut self, client: &Client, draft: Draft) -> Reply {
        let reply = self.ask(client, draft);
        assert_eq!(reply.code(), 0, "success expected");
        assert!(reply.integrity().is_some(), "a success is signed");
        reply
    }

    /// The error code of a signed request's answer, 0 for success.
    pub fn code(&mut self, client: &Client, draft: Draft) -> u16 {
        self.ask(client, draft).code()
    }

    /// A client on this 5-tuple that was challenged once.
    pub fn login(&mut self, sender: Sender, who: (&str, &str)) -> Client {
        let mut client = Client::new(sender, who);
        let challenge = self.answer(&client.sender, &refresh(600).encode());
        assert_eq!(challenge.code(), 401);
        client.learn(&challenge);
        client
    }

    /// Alice, challenged, over UDP from 192.0.2.1:4000.
    pub fn alice(&mut self) -> Client {
        self.login(udp("192.0.2.1:4000"), ALICE)
    }

    /// Bob, challenged, over UDP from 192.0.2.2:5000.
    pub fn bob(&mut self) -> Client {
        self.login(udp("192.0.2.2:5000"), BOB)
    }

    /// Alice with an IPv4 allocation.
    pub fn allocated(&mut self) -> Client {
        let alice = self.alice();
        self.succeed(&alice, allocate());
        alice
    }

    /// A user with an IPv4 allocation, over UDP from a port of 192.0.2.1.
    pub fn allocated_by(&mut self, who: (&str, &str), port: u16) -> Client {
        let client = self.login(udp(&format!("192.0.2.1:{port}")), who);
        self.succeed(&client, allocate());
        client
    }

    /// Alice with an allocation of both families.
    pub fn dual(&mut self) -> Client {
        let alice = self.alice();
        self.succeed(&alice, allocate().with(attribute::ADDITIONAL_ADDRESS_FAMILY, [2, 0, 0, 0]));
        alice
    }

    /// The allocation on a client's 5-tuple.
    pub fn find(&self, client: &Client) -> Option<(AllocationId, &Allocation)> {
        self.server.allocations().find(|(_, allocation)| allocation.tuple == client.sender.tuple)
    }

    /// The id of a client's allocation.
    pub fn id(&self, client: &Client) -> AllocationId {
        self.find(client).expect("the client has an allocation").0
    }

    /// The relayed address of a client's allocation; the IPv4 one of two.
    pub fn relay_of(&self, client: &Client) -> SocketAddr {
        let (_, allocation) = self.find(client).expect("the client has an allocation");
        allocation.relays.iter().flatten().next().expect("and a relayed address").relayed.0
    }

    /// A peer's datagram of `len` bytes arrives at a client's relayed address.
    pub fn hear(&mut self, client: &Client, from: SocketAddr, len: usize) -> Verdict {
        let id = self.id(client);
        let verdict = self.server.handle_peer(self.now(), id, PeerAddr(from), len);
        self.settle();
        verdict
    }

    /// What one client sends another through the server goes to the other, as an engine would hand it over.
    pub fn hand_over(&mut self, from: RelayedAddr, to: RelayedAddr, len: usize) -> Verdict {
        let id = self.ports.owner(to.0).expect("somebody has the relayed address");
        self.server.handle_peer(self.now(), id, PeerAddr(from.0), len)
    }

    /// An ICMP error about a packet from a client's relayed address to `peer`: the indication, or why none.
    pub fn icmp(&mut self, client: &Client, peer: SocketAddr, error: IcmpError) -> Result<Reply, DropReason> {
        let (id, mut out) = (self.id(client), [0xAA; 200]);
        match self.server.handle_icmp(self.now(), id, PeerAddr(peer), error, &mut out) {
            Verdict::Indicate { client: to, len } => {
                assert_eq!((to.link, to.addr), (client.sender.link, client.sender.tuple.client));
                Ok(Reply::decode(&out[..len]))
            }
            Verdict::Drop(reason) => Err(reason),
            other => panic!("an indication or nothing: {other:?}"),
        }
    }

    /// All that lasts: allocations, open ports, charges.
    pub fn state(&self) -> (State, usize, usize) {
        (self.server.state(), self.ports.open_count(), self.ports.ledger.total())
    }

    /// Drains the events as an engine does, and checks that ports and charges are those of the allocations.
    fn settle(&mut self) {
        while let Some(event) = self.server.poll_event() {
            match &event {
                Event::Created { id, relayed, .. } => {
                    for relayed in relayed.iter().flatten() {
                        assert_eq!(self.ports.owner(relayed.0), Some(*id), "a port was opened for its owner");
                    }
                }
                Event::Released { id, relayed, .. } => self.ports.release(*relayed, *id),
                Event::Deleted { account, tuple, .. } => {
                    self.ports.ledger.release(&account.payer, tuple.client.ip());
                }
                _ => {}
            }
            self.events.push(event);
        }
        let relays: usize = self.server.allocations().map(|(_, a)| a.relays.iter().flatten().count()).sum();
        assert_eq!(self.ports.open_count(), relays, "every open port belongs to an allocation");
        assert_eq!(self.ports.ledger.total(), self.server.allocation_count(), "every allocation is charged once");
    }
}

/// The sender of UDP datagrams at this address.
pub fn udp(client: &str) -> Sender {
    let client: SocketAddr = client.parse().expect("the test names an address and a port");
    Client::sender(client, SERVER.parse().expect("an address and a port"), Transport::Udp)
}

/// The same sender over another transport.
pub fn over(transport: Transport, sender: Sender) -> Sender {
    Sender { tuple: FiveTuple { transport, ..sender.tuple }, ..sender }
}

/// The same sender from another address.
pub fn moved(client: &str, sender: Sender) -> Sender {
    let client = ClientAddr(client.parse().expect("the test names an address and a port"));
    Sender { tuple: FiveTuple { client, ..sender.tuple }, ..sender }
}
