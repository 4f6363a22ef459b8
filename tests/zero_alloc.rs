//! A relayed packet allocates nothing: the engine runs inside, on one worker, and every allocation of its thread
//! is counted.

#![allow(unsafe_code, reason = "an allocator can not be written without")]

mod wire_client;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use turnpike::engine::{self, Engine, Limits, Listen, Protocol, RelayConfig};
use turnpike::stats::Direction;
use turnpike::turn;
use turnpike::turn::Transport;
use turnpike::turn::auth::{Credentials, Secret};
use turnpike::turn::policy::PeerPolicy;
use turnpike::wire::attribute;
use wire_client::{
    ALICE, Client, Draft, REALM, Reply, SECRET, allocate, bind, binding, channel, permit, rest_password, send,
};

/// Threads that are told apart.
const THREADS_MAX: usize = 64;

/// The system's allocator, which notes for each thread how often it was asked for memory.
struct Counting;

static THREADS: AtomicUsize = AtomicUsize::new(0);
static ASKED: [AtomicU64; THREADS_MAX] = [const { AtomicU64::new(0) }; THREADS_MAX];

thread_local! {
    /// The thread's place in [`ASKED`], plus one; 0 before its first allocation.
    static PLACE: Cell<usize> = const { Cell::new(0) };
}

fn note() {
    // A thread that is ending has no locals any more, and is not counted.
    let _ = PLACE.try_with(|place| {
        if place.get() == 0 {
            place.set(THREADS.fetch_add(1, Ordering::Relaxed) + 1);
        }
        ASKED[(place.get() - 1) % THREADS_MAX].fetch_add(1, Ordering::Relaxed);
    });
}

// SAFETY: every call goes to the system's allocator with the arguments it came with; `note` allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note();
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note();
        // SAFETY: the caller keeps the contract of `alloc_zeroed`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        note();
        // SAFETY: the caller keeps the contract of `realloc`, and `ptr` came from the system's allocator.
        unsafe { System.realloc(ptr, layout, new_size) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`, and `ptr` came from the system's allocator.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How often the threads from this one on have asked for memory.
fn asked_since(first: usize) -> u64 {
    ASKED[first..].iter().map(|asked| asked.load(Ordering::Relaxed)).sum()
}

/// An engine of one worker on loopback.
fn start() -> Engine {
    let mut auth = Credentials::new(REALM);
    auth.add_user(ALICE.0, ALICE.1);
    auth.secrets = vec![Secret::new(SECRET)];
    let addr = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0);
    let engine = engine::spawn(engine::Config {
        workers: 1,
        listen: vec![Listen { addr, protocol: Protocol::Udp, required: true }],
        tls: None,
        // Below the range that the kernel gives to others.
        relay: RelayConfig { ports: 32_000..=32_767, addresses: Vec::new(), external: Vec::new() },
        moderation_max: std::time::Duration::ZERO,
        limits: Limits::default(),
        log: turnpike::bus::LogChoice::default(),
        turn: turn::Config {
            realm: REALM.into(),
            auth,
            policy: PeerPolicy { allow_loopback: true, ..PeerPolicy::default() },
            limits: turn::Limits { unverified_per_second: 0, ..turn::Limits::default() },
            ..turn::Config::default()
        },
    });
    engine.expect("the engine starts")
}

fn socket() -> UdpSocket {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("the kernel has a port");
    socket.set_read_timeout(Some(Duration::from_secs(10))).expect("a socket takes a timeout");
    socket
}

/// A client with an allocation.
struct Caller {
    socket: UdpSocket,
    account: Client,
    relayed: SocketAddr,
}

impl Caller {
    fn new(server: SocketAddr, who: (&str, &str)) -> Caller {
        let socket = socket();
        socket.connect(server).expect("loopback has a route");
        let local = socket.local_addr().expect("the socket is bound");
        let account = Client::new(Client::sender(local, server, Transport::Udp), who);
        let mut caller = Caller { socket, account, relayed: local };
        let challenge = caller.exchange(&allocate().encode());
        caller.account.learn(&challenge);
        caller.relayed = caller.ask(allocate()).address(attribute::XOR_RELAYED_ADDRESS);
        caller
    }

    fn exchange(&self, request: &[u8]) -> Reply {
        let mut room = [0; 1500];
        self.socket.send(request).expect("loopback takes a datagram");
        let len = self.socket.recv(&mut room).expect("the server answers");
        Reply::decode(&room[..len])
    }

    fn ask(&self, draft: Draft) -> Reply {
        let reply = self.exchange(&self.account.sign(draft));
        assert_eq!(reply.code(), 0);
        reply
    }
}

/// Packets of one run, each way.
const PACKETS: usize = 5_000;
/// Packets under way.
const WINDOW: usize = 25;

/// Sends one message again and again, and takes what arrives for each: `payload`, with or without a header.
fn carry(from: impl Fn(), to: &UdpSocket, payload: &[u8], packets: usize) {
    let mut room = [0; 2_000];
    for _ in 0..packets / WINDOW {
        (0..WINDOW).for_each(|_| from());
        for _ in 0..WINDOW {
            let len = to.recv(&mut room).expect("the packet arrives");
            assert!(room[..len].windows(payload.len()).any(|window| window == payload));
        }
    }
}

/// What a run does: client to peer and back in both framings, and client to client.
struct Scene {
    callers: [Caller; 2],
    peers: [UdpSocket; 2],
    payload: [u8; 160],
    /// To the first peer on a channel, to the second in a Send indication.
    to_peers: [Vec<u8>; 2],
    /// From the first client to the second on a channel, and back in an indication.
    to_callers: [Vec<u8>; 2],
}

impl Scene {
    fn new(server: SocketAddr, who: (&str, &str)) -> Scene {
        let callers = [Caller::new(server, who), Caller::new(server, who)];
        let peers = [socket(), socket()];
        let payload: [u8; 160] = std::array::from_fn(|at| at as u8);
        let addrs = peers.each_ref().map(|peer| peer.local_addr().expect("the socket is bound"));
        callers[0].ask(bind(0x4000, addrs[0]));
        callers[0].ask(permit(&[addrs[1]]));
        callers[0].ask(bind(0x4001, callers[1].relayed));
        callers[1].ask(permit(&[callers[0].relayed]));
        let to_peers = [channel(0x4000, &payload), send(addrs[1], &payload).encode()];
        let to_callers = [channel(0x4001, &payload), send(callers[0].relayed, &payload).encode()];
        Scene { callers, peers, payload, to_peers, to_callers }
    }

    fn run(&self, packets: usize) {
        let [first, second] = &self.callers;
        for (peer, message) in self.peers.iter().zip(&self.to_peers) {
            carry(|| drop(first.socket.send(message)), peer, &self.payload, packets);
            carry(|| drop(peer.send_to(&self.payload, first.relayed)), &first.socket, &self.payload, packets);
        }
        carry(|| drop(first.socket.send(&self.to_callers[0])), &second.socket, &self.payload, packets);
        carry(|| drop(second.socket.send(&self.to_callers[1])), &first.socket, &self.payload, packets);
    }
}

#[test]
fn a_relayed_packet_allocates_nothing() {
    note(); // so that this thread has its place, below those that are counted
    let first_thread = THREADS.load(Ordering::Relaxed);
    let engine = start();
    let server = engine.listening()[0].addr;
    // The second credential has caps that nothing here comes near to.
    let hour = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is right").as_secs() + 3600;
    let capped = format!("{hour}+a9+r1000000000+b1000000000000:carol");
    let scenes = [Scene::new(server, ALICE), Scene::new(server, (&capped, &rest_password(&capped)))];
    scenes.iter().for_each(|scene| scene.run(10 * WINDOW));
    let before = asked_since(first_thread);
    assert!(before > 0, "the worker's allocations are counted");
    for scene in &scenes {
        scene.run(PACKETS);
        assert_eq!(asked_since(first_thread) - before, 0, "allocations for {} packets", 6 * PACKETS);
    }
    // Nor does a stranger's question, which is answered from the buffer it came in.
    let question = binding().encode();
    let stranger = socket();
    stranger.connect(server).expect("loopback has a route");
    carry(|| drop(stranger.send(&question)), &stranger, &question[8..20], PACKETS);
    assert_eq!(asked_since(first_thread) - before, 0, "allocations for {PACKETS} Binding requests");
    // Four runs crossed the server once, two were counted on both sides of it.
    let packets = |direction| engine.stats()[0].relayed_total(direction).0;
    let relayed = packets(Direction::ToPeer) + packets(Direction::ToClient);
    assert_eq!(relayed as usize, scenes.len() * (4 + 2 * 2) * (PACKETS + 10 * WINDOW));
    // But a new client's Allocate does, so it is the worker who is counted.
    Caller::new(server, ALICE);
    assert!(asked_since(first_thread) > before);
    engine.stop();
}
