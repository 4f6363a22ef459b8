//! What the core costs by itself, without a kernel: `cargo bench --bench core`.
//!
//! Parsing, writing and signing of `wire`, the verdicts of `turn` over 1000 allocations, nonces,
//! and the expiry wheel over 5000 keys. Figures are times on one core with warm caches.

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use std::hint::black_box;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use turnpike::turn::auth::Credentials;
use turnpike::turn::expiry::Wheel;
use turnpike::turn::nonce::{self, Judgement, Mint};
use turnpike::turn::{
    AllocationId, ClientAddr, Config, FiveTuple, LinkId, Now, Opened, PeerAddr, PortAsk, PortError, Ports, RelayedAddr,
    Sender, Server, Transport, Verdict,
};
use turnpike::wire::attribute::{self, PasswordAlgorithm};
use turnpike::wire::channel::{self, ChannelData, ChannelNumber, ChannelRange};
use turnpike::wire::integrity::{Key, MacKind};
use turnpike::wire::stun::{
    Class, DATA_INDICATION_HEADER_MAX, Message, Method, TransactionId, Writer, data_indication_header,
};

const ALLOCATIONS: u32 = 1000;
const KEYS: u32 = 5000;
const PAYLOAD: [u8; 160] = [0x5A; 160];
const USER: &str = "bench";
const REALM: &str = "bench.example";
const NOW: Now = Now { mono_ms: 1_000_000, unix_s: 1_800_000_000 };
const ID: TransactionId = TransactionId(*b"twelve bytes");

fn key(algorithm: PasswordAlgorithm) -> Key {
    Key::derive(algorithm, USER.as_bytes(), REALM.as_bytes(), b"password")
}

fn peer() -> SocketAddr {
    "198.18.0.9:40000".parse().expect("an address")
}

fn number() -> ChannelNumber {
    ChannelNumber::new(ChannelRange::FIRST, ChannelRange::Rfc8656).expect("a channel number")
}

fn channel_data() -> Vec<u8> {
    [&channel::header(number(), PAYLOAD.len())[..], &PAYLOAD].concat()
}

/// A message of these attributes, signed unless it is an indication.
fn message(class: Class, method: Method, mac: Option<MacKind>, attributes: &[(u16, &[u8])]) -> Vec<u8> {
    let mut out = vec![0; 512];
    let mut writer = Writer::new(&mut out, class, method, ID);
    for (kind, value) in attributes {
        writer.push(*kind, value);
    }
    match mac {
        Some(MacKind::Sha1) => _ = writer.push_integrity(MacKind::Sha1, &key(PasswordAlgorithm::Md5)),
        Some(MacKind::Sha256) => _ = writer.push_integrity(MacKind::Sha256, &key(PasswordAlgorithm::Sha256)),
        None => {}
    }
    let len = writer.finish().expect("512 bytes hold every message here");
    out.truncate(len);
    out
}

fn xor_peer() -> [u8; 8] {
    let mut value = [0; attribute::ADDRESS_LEN_MAX];
    let len = attribute::encode_xor_address(peer(), &ID, &mut value);
    value[..len].try_into().expect("an IPv4 address takes 8 bytes")
}

/// Attributes of a usual signed request of a client.
fn credentials(nonce: &[u8]) -> [(u16, &[u8]); 3] {
    [(attribute::USERNAME, USER.as_bytes()), (attribute::REALM, REALM.as_bytes()), (attribute::NONCE, nonce)]
}

fn wire(c: &mut Criterion) {
    let nonce = [b'n'; nonce::NONCE_LEN_MAX];
    let refresh = message(Class::Request, Method::REFRESH, Some(MacKind::Sha1), &credentials(&nonce));
    let modern = message(Class::Request, Method::REFRESH, Some(MacKind::Sha256), &credentials(&nonce));
    let send = [(attribute::XOR_PEER_ADDRESS, &xor_peer()[..]), (attribute::DATA, &PAYLOAD)];
    let send = message(Class::Indication, Method::SEND, None, &send);
    let mut check = [0; 64];
    let mut writer = Writer::new(&mut check, Class::Request, Method::BINDING, ID);
    let len = writer.push(attribute::SOFTWARE, b"bench").push_fingerprint().finish().expect("64 bytes hold it");
    let (md5, sha256) = (key(PasswordAlgorithm::Md5), key(PasswordAlgorithm::Sha256));
    let (frame, peer) = (channel_data(), peer());

    let mut group = c.benchmark_group("wire");
    group.bench_function("parse_channel_data", |b| {
        b.iter(|| ChannelData::parse(black_box(&frame), ChannelRange::Rfc8656));
    });
    group.bench_function("parse_send_indication", |b| b.iter(|| Message::parse(black_box(&send)).is_ok()));
    group.bench_function("parse_refresh", |b| b.iter(|| Message::parse(black_box(&refresh)).is_ok()));
    group.bench_function("parse_fingerprint", |b| b.iter(|| Message::parse(black_box(&check[..len])).is_ok()));
    let parsed = Message::parse(&refresh).expect("our own message");
    assert!(parsed.verify_integrity(&md5));
    group.bench_function("verify_sha1", |b| b.iter(|| parsed.verify_integrity(black_box(&md5))));
    let parsed = Message::parse(&modern).expect("our own message");
    assert!(parsed.verify_integrity(&sha256));
    group.bench_function("verify_sha256", |b| b.iter(|| parsed.verify_integrity(black_box(&sha256))));
    let mut out = [0; 256];
    group.bench_function("write_binding_success", |b| {
        b.iter(|| {
            Writer::new(&mut out, Class::Success, Method::BINDING, black_box(ID))
                .push_xor_address(attribute::XOR_MAPPED_ADDRESS, black_box(peer))
                .finish()
        });
    });
    group.bench_function("write_refresh_success_sha1", |b| {
        b.iter(|| {
            Writer::new(&mut out, Class::Success, Method::REFRESH, black_box(ID))
                .push(attribute::LIFETIME, &600u32.to_be_bytes())
                .push_integrity(MacKind::Sha1, &md5)
                .finish()
        });
    });
    let parsed = Message::parse(&refresh).expect("our own message");
    group.bench_function("verify_and_answer_sha1", |b| {
        b.iter(|| {
            let signer = parsed.verified_by(black_box(&md5)).expect("our own key");
            Writer::new(&mut out, Class::Success, Method::REFRESH, black_box(ID))
                .push(attribute::LIFETIME, &600u32.to_be_bytes())
                .sign(&signer)
                .finish()
        });
    });
    let mut headroom = [0; DATA_INDICATION_HEADER_MAX];
    group.bench_function("write_data_indication_header", |b| {
        b.iter(|| data_indication_header(&mut headroom, black_box(peer), PAYLOAD.len(), ID));
    });
    group.finish();
}

/// Ports without sockets: always one more.
struct Paper(u32);

impl Ports for Paper {
    fn open(&mut self, _now: Now, _ask: &PortAsk<'_>) -> Result<Opened, PortError> {
        self.0 += 1;
        let ip = Ipv4Addr::from_bits(0xC612_0100 + (self.0 >> 14));
        let relayed = RelayedAddr(SocketAddr::new(ip.into(), 49152 + (self.0 & 0x3FFF) as u16));
        Ok(Opened { relayed, token: None })
    }

    fn is_relayed(&self, _addr: SocketAddr) -> bool {
        false
    }
}

/// A server with allocations, and what it takes to talk to it.
struct House {
    server: Server,
    config: Arc<Config>,
    ports: Paper,
    out: [u8; 1024],
}

impl House {
    fn new() -> Self {
        let mut auth = Credentials::new(REALM);
        auth.add_user(USER, "password");
        let mut config = Config { realm: REALM.into(), auth, ..Config::default() };
        config.limits.unverified_per_second = 0;
        let allow = "198.18.0.0/15".parse().expect("a block");
        config.policy.allow.push(allow);
        let config = Arc::new(config);
        House { server: Server::new(config.clone(), NOW, 1), config, ports: Paper(0), out: [0; 1024] }
    }

    /// The path of a client, by number.
    fn sender(client: u32) -> Sender {
        let addr = SocketAddr::new(Ipv4Addr::from_bits(0x0B00_0000 + client).into(), 50_000);
        let server = "198.18.1.1:3478".parse().expect("an address");
        let tuple = FiveTuple { client: ClientAddr(addr), server, transport: Transport::Udp };
        Sender { tuple, link: LinkId(0) }
    }

    /// A signed request as this client would send it.
    fn request(&self, client: u32, method: Method, attributes: &[(u16, &[u8])]) -> Vec<u8> {
        let nonce = nonce::mint(&self.config.nonce, NOW, &Self::sender(client).tuple);
        let all = [attributes, &credentials(nonce.as_bytes())].concat();
        message(Class::Request, method, Some(MacKind::Sha1), &all)
    }

    fn handle(&mut self, client: u32, datagram: &[u8]) -> Verdict {
        let verdict = self.server.handle_client(NOW, &Self::sender(client), datagram, &mut self.ports, &mut self.out);
        // Nobody else reads the events; kept, they would be the memory of the whole run.
        while self.server.poll_event().is_some() {}
        verdict
    }

    /// Handles a request that must succeed.
    fn succeed(&mut self, client: u32, request: &[u8]) {
        match self.handle(client, request) {
            Verdict::Reply { answer, .. } if answer.code == 0 => {}
            other => panic!("client {client} met {other:?}"),
        }
    }

    fn allocate(&mut self, client: u32) {
        let allocate = self.request(client, Method::ALLOCATE, &[(attribute::REQUESTED_TRANSPORT, &[17, 0, 0, 0])]);
        self.succeed(client, &allocate);
    }

    /// Gives every client an allocation and a permission, and a channel if so wanted.
    fn furnish(&mut self, channels: bool) -> Vec<AllocationId> {
        for client in 0..ALLOCATIONS {
            self.allocate(client);
            let to = (attribute::XOR_PEER_ADDRESS, &xor_peer()[..]);
            let permit = self.request(client, Method::CREATE_PERMISSION, &[to]);
            self.succeed(client, &permit);
            if channels {
                let [n0, n1] = number().get().to_be_bytes();
                let bind = [(attribute::CHANNEL_NUMBER, &[n0, n1, 0, 0][..]), to];
                let bind = self.request(client, Method::CHANNEL_BIND, &bind);
                self.succeed(client, &bind);
            }
        }
        self.server.allocations().map(|(id, _)| id).collect()
    }
}

/// A different client for every packet, in an order the prefetcher can not guess.
fn stride(client: &mut u32) -> u32 {
    *client = (*client + 617) % ALLOCATIONS;
    *client
}

fn relayed(c: &mut Criterion) {
    let mut group = c.benchmark_group("turn");
    let (mut house, mut client, peer) = (House::new(), 0, PeerAddr(peer()));
    let ids = house.furnish(true);
    let senders: Vec<Sender> = (0..ALLOCATIONS).map(House::sender).collect();
    let send = [(attribute::XOR_PEER_ADDRESS, &xor_peer()[..]), (attribute::DATA, &PAYLOAD)];
    let send = message(Class::Indication, Method::SEND, None, &send);
    for (name, datagram) in [("channel_data_to_peer", channel_data()), ("send_to_peer", send)] {
        assert!(matches!(house.handle(1, &datagram), Verdict::ToPeer { .. }));
        group.bench_function(name, |b| {
            b.iter(|| {
                let from = &senders[stride(&mut client) as usize];
                house.server.handle_client(NOW, from, black_box(&datagram), &mut house.ports, &mut house.out)
            });
        });
    }
    group.bench_function("peer_to_channel", |b| {
        b.iter(|| {
            let via = ids[stride(&mut client) as usize];
            house.server.handle_peer(NOW, via, black_box(peer), PAYLOAD.len())
        });
    });
    let mut house = House::new();
    let ids = house.furnish(false);
    group.bench_function("peer_to_data_indication", |b| {
        b.iter(|| {
            let via = ids[stride(&mut client) as usize];
            house.server.handle_peer(NOW, via, black_box(peer), PAYLOAD.len())
        });
    });
    group.finish();
}

fn requests(c: &mut Criterion) {
    let mut group = c.benchmark_group("turn");
    let mut house = House::new();
    house.furnish(true);
    let binding = message(Class::Request, Method::BINDING, None, &[]);
    group.bench_function("binding", |b| b.iter(|| house.handle(1, black_box(&binding))));
    let stranger = message(Class::Request, Method::ALLOCATE, None, &[(attribute::REQUESTED_TRANSPORT, &[17, 0, 0, 0])]);
    group.bench_function("challenge", |b| b.iter(|| house.handle(ALLOCATIONS, black_box(&stranger))));
    // What they cost must not tell which users there are.
    let mut wrong = house.request(ALLOCATIONS, Method::ALLOCATE, &[(attribute::REQUESTED_TRANSPORT, &[17, 0, 0, 0])]);
    *wrong.last_mut().expect("it ends with its signature") ^= 1;
    let mut unknown = wrong.clone();
    let name = unknown.windows(USER.len()).position(|bytes| bytes == USER.as_bytes()).expect("it bears a name");
    unknown[name] ^= 1;
    for (name, request) in [("refuse_wrong_password", wrong), ("refuse_unknown_user", unknown)] {
        assert!(matches!(house.handle(ALLOCATIONS, &request), Verdict::Reply { answer, .. } if answer.code == 401));
        group.bench_function(name, |b| b.iter(|| house.handle(ALLOCATIONS, black_box(&request))));
    }
    let refresh = house.request(1, Method::REFRESH, &[(attribute::LIFETIME, &600u32.to_be_bytes())]);
    group.bench_function("refresh", |b| b.iter(|| house.succeed(1, black_box(&refresh))));
    let permit = house.request(1, Method::CREATE_PERMISSION, &[(attribute::XOR_PEER_ADDRESS, &xor_peer())]);
    group.bench_function("create_permission", |b| b.iter(|| house.succeed(1, black_box(&permit))));

    // An allocation made and freed, by a client that has never had one.
    let mut client = ALLOCATIONS;
    let mut fresh = |house: &House| {
        client += 1;
        let allocate = house.request(client, Method::ALLOCATE, &[(attribute::REQUESTED_TRANSPORT, &[17, 0, 0, 0])]);
        let free = house.request(client, Method::REFRESH, &[(attribute::LIFETIME, &[0; 4])]);
        (client, allocate, free)
    };
    let house = std::cell::RefCell::new(house);
    group.bench_function("allocate_and_free", |b| {
        b.iter_batched(
            || fresh(&house.borrow()),
            |(client, allocate, free)| {
                let mut house = house.borrow_mut();
                house.succeed(client, &allocate);
                house.succeed(client, &free);
            },
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

fn nonces(c: &mut Criterion) {
    let mut mint = Mint::new(&nonce::Config::default());
    let tuple = House::sender(1).tuple;
    let nonce = mint.mint(NOW, &tuple);
    assert_eq!(mint.judge(NOW, &tuple, nonce.as_bytes()), Judgement::Valid);
    let mut group = c.benchmark_group("nonce");
    group.bench_function("mint", |b| b.iter(|| mint.mint(NOW, black_box(&tuple))));
    group.bench_function("judge", |b| b.iter(|| mint.judge(NOW, &tuple, black_box(nonce.as_bytes()))));
    group.finish();
}

fn expiry(c: &mut Criterion) {
    let full = || {
        let mut wheel = Wheel::new(0);
        (0..KEYS).for_each(|key| wheel.arm(key, 1000 + u64::from(key) * 120));
        wheel
    };
    let mut group = c.benchmark_group("wheel");
    let (mut wheel, mut key) = (full(), 0);
    group.bench_function("move", |b| {
        b.iter(|| {
            key = (key + 617) % KEYS;
            wheel.arm(key, black_box(600_000));
        });
    });
    group.bench_function("expire_5000", |b| {
        b.iter_batched_ref(full, |wheel| while wheel.pop(black_box(700_000)).is_some() {}, BatchSize::LargeInput);
    });
    group.finish();
}

criterion_group!(benches, wire, relayed, requests, nonces, expiry);
criterion_main!(benches);
