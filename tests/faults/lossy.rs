//! A way to the server that loses, repeats, delays and reorders: every client ends with one allocation, and with none.

use super::call::{WATCHED, allow_many_files, live, metric_becomes};
use super::client::Caller;
use super::injection::{is_long, times};
use super::link::Via;
use super::ports::LOOPBACK;
use super::server::Server;
use crate::wire_client::{ALICE, Client, Draft, Reply, allocate, permit, refresh};
use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};
use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use turnpike::turn::Transport;
use turnpike::wire::attribute;

/// Of a hundred packets, so many are lost.
const LOST: u64 = 30;
/// So many arrive twice.
const REPEATED: u64 = 20;
/// So many are overtaken by later ones.
const OVERTAKEN: u64 = 25;
/// Times that a request is sent (RFC 8489 §6.2.1) before it is begun anew.
const TRIES: u32 = 7;
/// Requests begun anew before a client gives up.
const ROUNDS: usize = 10;
/// How long the next client may take to get its allocation.
const NEXT_WITHIN: Duration = Duration::from_secs(300);

/// A millisecond, or a tenth of it in the ordinary run: delays and clients' timers alike.
fn ms(number: u64) -> Duration {
    Duration::from_micros(number * if is_long() { 1_000 } else { 100 })
}

/// Numbers that a seed decides (xorshift).
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

/// The way between one client and the server. Ends once it has delivered what is under way.
struct Hop {
    front: SocketAddr,
    ends: Arc<AtomicBool>,
    thread: JoinHandle<u64>,
}

impl Hop {
    fn open(server: SocketAddr, seed: u64) -> Hop {
        let [front, back] = [0, 1].map(|_| UdpSocket::bind((LOOPBACK[0], 0)).expect("the kernel has a port"));
        let at = front.local_addr().expect("it is bound");
        back.connect(server).expect("a socket is connected");
        back.set_nonblocking(true).expect("a socket takes its options");
        front.set_read_timeout(Some(Duration::from_millis(1))).expect("a socket takes a timeout");
        let ends = Arc::new(AtomicBool::new(false));
        let ending = ends.clone();
        let thread = std::thread::spawn(move || pass(&front, &back, &ending, Chance(seed * 2 + 1)));
        Hop { front: at, ends, thread }
    }

    /// Waits until nothing is under way; how many packets were lost.
    fn end(self) -> u64 {
        self.ends.store(true, Ordering::SeqCst);
        self.thread.join().expect("the hop ends well")
    }
}

/// Carries packets until it is told to end and the last is delivered; how many it lost.
fn pass(front: &UdpSocket, back: &UdpSocket, ends: &AtomicBool, mut chance: Chance) -> u64 {
    let mut under_way: BinaryHeap<Reverse<(Instant, bool, Vec<u8>)>> = BinaryHeap::new();
    let (mut client, mut room, mut lost) = (None, [0; 2048], 0);
    while !ends.load(Ordering::SeqCst) || !under_way.is_empty() {
        let mut arrived = Vec::new();
        match front.recv_from(&mut room) {
            Ok((len, from)) => {
                client = Some(from);
                arrived.push((true, room[..len].to_vec()));
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(error) => panic!("the hop can not receive: {error}"),
        }
        while let Ok(len) = back.recv(&mut room) {
            arrived.push((false, room[..len].to_vec()));
        }
        let now = Instant::now();
        for (to_server, packet) in arrived {
            let fate = chance.below(100);
            if fate < LOST {
                lost += 1;
                continue;
            }
            let copies = if chance.below(100) < REPEATED { 2 } else { 1 };
            for _ in 0..copies {
                let overtaken = if chance.below(100) < OVERTAKEN { 200 } else { 0 };
                let delay = ms(50 + chance.below(301) + overtaken);
                under_way.push(Reverse((now + delay, to_server, packet.clone())));
            }
        }
        while under_way.peek().is_some_and(|Reverse((at, ..))| *at <= Instant::now()) {
            let Some(Reverse((_, to_server, packet))) = under_way.pop() else { break };
            match (to_server, client) {
                (true, _) => drop(back.send(&packet)),
                (false, Some(client)) => drop(front.send_to(&packet, client)),
                (false, None) => {}
            }
        }
    }
    lost
}

/// A client behind a hop, with the timers of RFC 8489.
struct Behind {
    socket: UdpSocket,
    account: Client,
    /// Relayed addresses that it was told, in whatever answer.
    relayed: BTreeSet<SocketAddr>,
}

impl Behind {
    fn new(hop: SocketAddr) -> Behind {
        let socket = UdpSocket::bind((LOOPBACK[0], 0)).expect("the kernel has a port");
        socket.connect(hop).expect("a socket is connected");
        let local = socket.local_addr().expect("it is bound");
        let account = Client::new(Client::sender(local, hop, Transport::Udp), ALICE);
        Behind { socket, account, relayed: BTreeSet::new() }
    }

    /// Sends a request until it is answered, signs it anew when it is challenged; the code, 0 for success.
    fn ask(&mut self, draft: &Draft) -> u16 {
        loop {
            let draft = draft.clone().under(Draft::new(draft.class, draft.method).id);
            let request = match self.account.nonce.is_empty() {
                true => draft.encode(),
                false => self.account.sign(draft),
            };
            let reply = self.transact(&request);
            match reply.code() {
                401 | 438 => self.account.learn(&reply),
                code => {
                    assert!(reply.is_signed_by(&self.account.key()), "{reply:?}");
                    return code;
                }
            }
        }
    }

    fn transact(&mut self, request: &[u8]) -> Reply {
        for _ in 0..ROUNDS {
            for round in 0..TRIES {
                self.socket.send(request).expect("loopback takes a datagram");
                let wait = if round + 1 == TRIES { ms(500) * 16 } else { ms(500) * (1 << round) };
                if let Some(reply) = self.answer(&request[8..20], Instant::now() + wait) {
                    return reply;
                }
            }
        }
        panic!("{} requests and no answer", TRIES as usize * ROUNDS);
    }

    /// The answer to a transaction. Answers to earlier ones come late, or again.
    fn answer(&mut self, id: &[u8], until: Instant) -> Option<Reply> {
        let mut room = [0; 2048];
        loop {
            let left = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())?;
            self.socket.set_read_timeout(Some(left.max(Duration::from_millis(1)))).expect("it takes a timeout");
            let Ok(len) = self.socket.recv(&mut room) else { continue };
            let reply = Reply::decode(&room[..len]);
            self.relayed.extend(reply.addresses(attribute::XOR_RELAYED_ADDRESS));
            if reply.id == id {
                return Some(reply);
            }
        }
    }
}

// FI-08.
#[test]
fn on_a_bad_way_every_client_ends_with_one_allocation_and_then_with_none() {
    allow_many_files();
    let clients = times(40, 200);
    let most = format!("limits.allocations={clients}");
    let server = Server::start(&["workers=2", WATCHED, &most]);
    let udp = server.addr("udp", LOOPBACK[0]);
    let ports_free = server.metric("turnpike_ports_free");
    let (there, is_there) = channel();
    // Each client has one end, and goes on when the other is dropped.
    let (hold, held): (Vec<_>, Vec<_>) = (0..clients).map(|_| channel::<()>()).unzip();
    let threads: Vec<_> = (1_u64..)
        .zip(held)
        .map(|(seed, held)| {
            let there = there.clone();
            std::thread::spawn(move || {
                let hop = Hop::open(udp, seed);
                let mut client = Behind::new(hop.front);
                assert_eq!(client.ask(&allocate()), 0, "client {seed} gets an allocation");
                assert_eq!(client.ask(&permit(&[SocketAddr::new(LOOPBACK[0], 9)])), 0);
                assert_eq!(client.ask(&refresh(600)), 0, "client {seed} still has it");
                there.send(()).expect("somebody counts");
                drop(there);
                let _ = held.recv();
                // What is asked again once it is over has nothing to end any more.
                let code = client.ask(&refresh(0));
                assert!(matches!(code, 0 | 437), "{code}");
                (client.relayed, hop.end())
            })
        })
        .collect();
    drop(there);
    // Whoever panics on the way is never there: then the last of the others is the end.
    for number in 0..clients {
        is_there.recv_timeout(NEXT_WITHIN).unwrap_or_else(|error| panic!("{number} of {clients} are there: {error}"));
    }
    assert_eq!(server.metric(&live("udp")), clients as u64, "one each");
    let mut one_more = Caller::new(Via::Udp, udp);
    assert_eq!(one_more.code(allocate()), 508, "and that is what they are charged for");
    drop(hold);
    let (mut relayed, mut lost) = (BTreeSet::new(), 0);
    for (number, thread) in threads.into_iter().enumerate() {
        let (told, lost_here) = thread.join().expect("every client comes to its end");
        assert_eq!(told.len(), 1, "client {number} is told of one relayed address: {told:?}");
        relayed.extend(told);
        lost += lost_here;
    }
    assert_eq!(relayed.len(), clients, "no two of them of the same");
    assert!(lost > clients as u64, "{lost} packets lost are no bad way");
    // The last late request has been delivered, and has made nothing.
    one_more.echo();
    metric_becomes(&server, &live("udp"), 0);
    metric_becomes(&server, "turnpike_ports_free", ports_free);
    assert_eq!(one_more.code(allocate()), 0, "the quota has come back");
    server.stop();
}
