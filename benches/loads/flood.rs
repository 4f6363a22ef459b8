//! Datagrams of strangers: each from another address of this host, at a rate or as fast as they leave.
//!
//! It stays beside the benchmarks and is no part of the product. It sends to 127.0.0.0/8 only.

use serde_json::json;
use socket2::{Domain, MsgHdr, Protocol, SockAddr, SockRef, Socket, Type};
use std::io::{self, IoSlice};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};
use turnpike::load::datagrams::{Inbox, SLOTS};
use turnpike::load::link::{has_no_room, is_later};
use turnpike::load::pace::{Pace, Rng, Schedule};
use turnpike::wire::attribute::REQUESTED_TRANSPORT;
use turnpike::wire::stun::{Class, Method, TransactionId, Writer};

/// Before the first address that strangers come from.
const FIRST: Ipv4Addr = Ipv4Addr::new(127, 64, 0, 0);
/// Sockets that share the load: each has another port.
const SOCKETS: usize = 4;
/// Datagrams between two looks at the clock.
const BATCH: u32 = 32;
/// Longest datagram, in bytes.
const LEN_MAX: usize = 256;
/// The value of REQUESTED-TRANSPORT for UDP.
const UDP: [u8; 4] = [17, 0, 0, 0];

/// What strangers send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// Allocate without credentials
    Allocate,
    /// Binding
    Binding,
    /// What is no request: broken headers, lengths that lie, channels of nobody, noise
    Garbage,
    /// All of them in turn
    Mixed,
}

impl Kind {
    /// Its name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Allocate => "allocate",
            Kind::Binding => "binding",
            Kind::Garbage => "garbage",
            Kind::Mixed => "mixed",
        }
    }
}

/// A flood.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// The server, on loopback
    #[arg(long)]
    server: SocketAddr,
    /// What strangers send
    #[arg(long, value_enum)]
    kind: Kind,
    /// Datagrams a second; 0 is as many as leave
    #[arg(long)]
    rate: f64,
    /// Addresses they come from, one after the other
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..=4_000_000))]
    sources: u32,
    /// How long it goes on, in seconds
    #[arg(long)]
    seconds: f64,
    /// Of everything random
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// What was sent and what came back.
#[derive(Debug, Default)]
struct Tally {
    sent: u64,
    sent_bytes: u64,
    unsent: u64,
    answers: u64,
    answer_bytes: u64,
    answer_len_max: usize,
    idle: Duration,
}

/// Floods and prints what it counted, as JSON.
pub fn run(options: &Options) -> io::Result<()> {
    if !options.server.ip().is_loopback() || !options.server.is_ipv4() {
        return Err(io::Error::other("a flood goes to this host's own 127.0.0.0/8 only"));
    }
    let sockets: Vec<mio::net::UdpSocket> = (0..SOCKETS).map(|_| socket()).collect::<io::Result<_>>()?;
    let mut tally = Tally::default();
    let began = Instant::now();
    flood(options, &sockets, &mut tally)?;
    let seconds = began.elapsed().as_secs_f64();
    std::thread::sleep(Duration::from_millis(100));
    drain(&sockets, &mut tally, &mut Inbox::default())?;
    let report = json!({
        "kind": options.kind.name(),
        "seconds": seconds,
        "sent": tally.sent,
        "sent_bytes": tally.sent_bytes,
        "sent_per_second": tally.sent as f64 / seconds,
        "unsent": tally.unsent,
        "answers": tally.answers,
        "answer_bytes": tally.answer_bytes,
        "answer_len_max": tally.answer_len_max,
        "answers_per_second": tally.answers as f64 / seconds,
        "generator_busy": 1.0 - tally.idle.as_secs_f64() / seconds,
    });
    println!("{report}");
    Ok(())
}

fn flood(options: &Options, sockets: &[mio::net::UdpSocket], tally: &mut Tally) -> io::Result<()> {
    let (to, mut rng, began) = (SockAddr::from(options.server), Rng::new(options.seed), Instant::now());
    let now_ns = || began.elapsed().as_nanos() as u64;
    let mut schedule = (options.rate > 0.0).then(|| Schedule::new(Pace::Even, options.rate, BATCH, 0, options.seed));
    let (mut inbox, mut bytes, end_ns) = (Inbox::default(), [0; LEN_MAX], (options.seconds * 1e9) as u64);
    let mut number = 0;
    while now_ns() < end_ns {
        if schedule.as_mut().is_some_and(|schedule| schedule.take(now_ns()).is_none()) {
            let wait = schedule.as_ref().map_or(0, |schedule| schedule.wait_ns(now_ns()));
            let asleep = Instant::now();
            // Shorter waits end late.
            if wait > 2_000_000 {
                std::thread::sleep(Duration::from_nanos(wait - 1_000_000))
            } else {
                std::thread::yield_now()
            }
            tally.idle += asleep.elapsed();
            continue;
        }
        for _ in 0..BATCH {
            number += 1;
            let len = fill(options.kind, number, &mut bytes, &mut rng);
            let source = Ipv4Addr::from_bits(FIRST.to_bits() + 1 + number % options.sources);
            let socket = SockRef::from(&sockets[number as usize % SOCKETS]);
            match send(&socket, source, &to, &bytes[..len]) {
                Ok(()) => (tally.sent, tally.sent_bytes) = (tally.sent + 1, tally.sent_bytes + len as u64),
                Err(error) if has_no_room(&error) || is_later(&error) => tally.unsent += 1,
                Err(error) => return Err(error),
            }
        }
        drain(sockets, tally, &mut inbox)?;
    }
    Ok(())
}

/// A socket that takes what comes to any address of this host.
fn socket() -> io::Result<mio::net::UdpSocket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)).into())?;
    Ok(mio::net::UdpSocket::from_std(socket.into()))
}

/// Sends from an address of this host that the socket is not bound to (IP_PKTINFO).
fn send(socket: &Socket, source: Ipv4Addr, to: &SockAddr, bytes: &[u8]) -> io::Result<()> {
    // struct cmsghdr and struct in_pktinfo: the length without padding, level, type; interface, source, destination.
    const HEADER_LEN: usize = size_of::<usize>() + 8;
    let mut control = [0; HEADER_LEN + 16];
    control[..size_of::<usize>()].copy_from_slice(&(HEADER_LEN + 12).to_ne_bytes());
    control[HEADER_LEN - 8..HEADER_LEN - 4].copy_from_slice(&libc::IPPROTO_IP.to_ne_bytes());
    control[HEADER_LEN - 4..HEADER_LEN].copy_from_slice(&libc::IP_PKTINFO.to_ne_bytes());
    control[HEADER_LEN + 4..HEADER_LEN + 8].copy_from_slice(&source.octets());
    let buffers = [IoSlice::new(bytes)];
    let message = MsgHdr::new().with_addr(to).with_buffers(&buffers).with_control(&control);
    socket.sendmsg(&message, 0).map(|_| ())
}

/// Takes what has come back.
fn drain(sockets: &[mio::net::UdpSocket], tally: &mut Tally, inbox: &mut Inbox) -> io::Result<()> {
    for socket in sockets {
        loop {
            let came = inbox.read(socket, SLOTS)?;
            for answer in (0..came).flat_map(|slot| inbox.datagrams(slot)) {
                tally.answers += 1;
                tally.answer_bytes += answer.len() as u64;
                tally.answer_len_max = tally.answer_len_max.max(answer.len());
            }
            if came < SLOTS {
                break;
            }
        }
    }
    Ok(())
}

/// Writes the datagram with this number and says how long it is.
fn fill(kind: Kind, number: u32, out: &mut [u8; LEN_MAX], rng: &mut Rng) -> usize {
    match (kind, number % 3) {
        (Kind::Allocate, _) | (Kind::Mixed, 0) => request(Method::ALLOCATE, out, rng),
        (Kind::Binding, _) | (Kind::Mixed, 1) => request(Method::BINDING, out, rng),
        (Kind::Garbage, _) | (Kind::Mixed, _) => garbage(number / 3, out, rng),
    }
}

fn request(method: Method, out: &mut [u8; LEN_MAX], rng: &mut Rng) -> usize {
    let mut id = [0; 12];
    id[..8].copy_from_slice(&rng.next_u64().to_ne_bytes());
    id[8..].copy_from_slice(&rng.next_u64().to_ne_bytes()[..4]);
    let mut writer = Writer::new(out, Class::Request, method, TransactionId(id));
    if method == Method::ALLOCATE {
        writer.push(REQUESTED_TRANSPORT, &UDP);
    }
    writer.finish().expect("a request of 28 bytes fits")
}

/// Something that is no request, one way of it after the other.
fn garbage(number: u32, out: &mut [u8; LEN_MAX], rng: &mut Rng) -> usize {
    let len = 20 + rng.below(LEN_MAX - 20);
    for chunk in out.chunks_mut(8) {
        chunk.copy_from_slice(&rng.next_u64().to_ne_bytes()[..chunk.len()]);
    }
    let header = |out: &mut [u8; LEN_MAX], kind: u16, body: u16| {
        out[..2].copy_from_slice(&kind.to_be_bytes());
        out[2..4].copy_from_slice(&body.to_be_bytes());
        out[4..8].copy_from_slice(&[0x21, 0x12, 0xA4, 0x42]);
    };
    match number % 8 {
        // Of no protocol that is spoken here.
        0 => out[0] |= 0x80,
        // Shorter than any header, down to nothing.
        1 => return rng.below(20),
        // A header without the cookie.
        2 => out[..4].copy_from_slice(&[0, 1, 0, (len as u8 - 20) & 0xFC]),
        // A body that is longer than the datagram, and one that is no multiple of four.
        3 => header(out, 0x0003, 2000),
        4 => header(out, 0x0003, (len as u16 - 20) | 3),
        // Attributes that reach beyond the end.
        5 => {
            header(out, 0x0003, 16);
            out[20..24].copy_from_slice(&[0, 6, 0, 200]);
            return 36;
        }
        // An answer that nobody asked for.
        6 => {
            header(out, 0x0103, 0);
            return 20;
        }
        // A channel of nobody.
        _ => {
            out[..2].copy_from_slice(&0x4001_u16.to_be_bytes());
            out[2..4].copy_from_slice(&(len as u16 - 4).to_be_bytes());
        }
    }
    len
}
