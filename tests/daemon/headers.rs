//! The headers below UDP that relayed packets leave with, as they are on the wire.
//!
//! RFC 8656 §14 lets a server copy them from packet to packet, or have its system write its own, whatever came
//! in. turnpike does the latter: nothing a client or a peer sets travels on, but for DF when a client asks for it.

use super::client::{Caller, pattern};
use super::link::{Link, Via};
use super::ports::LOOPBACK;
use super::server::Server;
use super::untried::not_tried;
use crate::wire_client::{channel, send};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use std::io::{ErrorKind, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};
use turnpike::wire::attribute;

const CHANNEL: u16 = 0x4000;
/// How long a packet may take to be seen.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long one is waited for before it is sent again: a view of all packets loses some where there are many.
const AGAIN: Duration = Duration::from_secs(1);
/// DSCP EF with ECN CE, the two an outgoing packet must not have.
const MARKED: u32 = 0xB8 | 0x03;
/// Hops that a packet which is sent has left.
const HOPS: u32 = 7;
/// All packets, of any protocol (`ETH_P_ALL`).
const EVERY_PROTOCOL: u16 = 3;

/// A view of all packets of this machine.
struct Tap(Socket);

/// What of a packet's header somebody could have copied.
#[derive(Debug, PartialEq, Eq)]
struct Header {
    hops: u8,
    /// DSCP and ECN.
    class: u8,
    dont_fragment: bool,
}

impl Tap {
    /// Watches from now on; `None`, and a word about it, where that is not allowed.
    fn open() -> Option<Tap> {
        let protocol = Protocol::from(i32::from(EVERY_PROTOCOL.to_be()));
        match Socket::new(Domain::PACKET, Type::DGRAM, Some(protocol)) {
            Ok(socket) => {
                socket.set_read_timeout(Some(AGAIN)).expect("a socket takes its options");
                socket.set_recv_buffer_size(4 << 20).expect("a socket takes its options");
                Some(Tap(socket))
            }
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                not_tried("headers on the wire", &format!("packets are for root to see ({error})"));
                None
            }
            Err(error) => panic!("packets can not be watched: {error}"),
        }
    }

    /// The header of a packet from here to there that ends with these bytes and that `send` is to bring about.
    fn header(&mut self, (from, to): (SocketAddr, SocketAddr), end: &[u8], mut send: impl FnMut()) -> Header {
        let mut room = vec![0; 70_000];
        let (until, mut again) = (Instant::now() + PATIENCE, Instant::now());
        while Instant::now() < until {
            if Instant::now() >= again {
                send();
                again = Instant::now() + AGAIN;
            }
            let packet = self.0.read(&mut room).map(|len| &room[..len]).unwrap_or_default();
            if let Some((header, ends)) = parse(packet)
                && ends == (from, to)
                && packet.ends_with(end)
            {
                return header;
            }
        }
        panic!("no packet from {from} to {to}");
    }
}

/// A UDP packet's header and its ends.
fn parse(packet: &[u8]) -> Option<(Header, (SocketAddr, SocketAddr))> {
    let (header, rest, ips): (Header, &[u8], [IpAddr; 2]) = match packet.first()? >> 4 {
        4 if packet.get(9) == Some(&17) => {
            let ip = |at: usize| Some(IpAddr::from(Ipv4Addr::from(*packet.get(at..)?.first_chunk::<4>()?)));
            let header = Header { hops: packet[8], class: packet[1], dont_fragment: packet[6] & 0x40 != 0 };
            (header, packet.get(usize::from(packet[0] & 0x0F) * 4..)?, [ip(12)?, ip(16)?])
        }
        6 if packet.get(6) == Some(&17) => {
            let ip = |at: usize| Some(IpAddr::from(Ipv6Addr::from(*packet.get(at..)?.first_chunk::<16>()?)));
            let header = Header { hops: packet[7], class: packet[0] << 4 | packet[1] >> 4, dont_fragment: false };
            (header, packet.get(40..)?, [ip(8)?, ip(24)?])
        }
        _ => return None,
    };
    let port = |at: usize| Some(u16::from_be_bytes(*rest.get(at..)?.first_chunk::<2>()?));
    Some((header, (SocketAddr::new(ips[0], port(0)?), SocketAddr::new(ips[1], port(2)?))))
}

/// What the system gives packets of its own.
fn own(ip: IpAddr) -> Header {
    let name = if ip.is_ipv4() { "ipv4/ip_default_ttl" } else { "ipv6/conf/default/hop_limit" };
    let hops = std::fs::read_to_string(format!("/proc/sys/net/{name}")).expect("the system says it");
    Header { hops: hops.trim().parse().expect("a number"), class: 0, dont_fragment: false }
}

/// Has a socket send what must not travel on.
fn mark(socket: SockRef<'_>, ip: IpAddr) {
    match ip {
        IpAddr::V4(_) => socket.set_tos_v4(MARKED).and_then(|()| socket.set_ttl_v4(HOPS)),
        IpAddr::V6(_) => socket.set_tclass_v6(MARKED).and_then(|()| socket.set_unicast_hops_v6(HOPS)),
    }
    .expect("a socket takes its options");
}

/// A client with an allocation, whose packets are marked, and its relayed address.
fn marked_client(server: &Server, via: Via, ip: IpAddr) -> (Caller, SocketAddr) {
    let (mut caller, relayed) = Caller::allocated(via, server.addr(via.listener(), ip));
    match caller.link() {
        Link::Udp(socket, _) => mark(SockRef::from(*socket), ip),
        Link::Stream(stream, _) => mark(SockRef::from(stream.tcp()), ip),
    }
    (caller, relayed)
}

fn marked_peer(ip: IpAddr) -> UdpSocket {
    let peer = UdpSocket::bind((ip, 0)).expect("the kernel has a port");
    mark(SockRef::from(&peer), ip);
    peer
}

#[test]
fn cf_88_s14_no_header_is_copied_from_one_side_to_the_other() {
    let Some(mut tap) = Tap::open() else { return };
    let server = Server::start(&[]);
    for ip in LOOPBACK {
        let (mut caller, relayed) = marked_client(&server, Via::Udp, ip);
        let (peer, listener) = (marked_peer(ip), server.addr("udp", ip));
        let at = peer.local_addr().expect("it is bound");
        caller.permit(&[at]);
        let marked = Header { hops: HOPS as u8, class: MARKED as u8, dont_fragment: false };

        let payloads = [1, 2, 3].map(|seed| pattern(seed, 100));
        let client = caller.local_addr();
        let sent = tap.header((client, listener), &payloads[0], || caller.send_to(at, &payloads[0]));
        assert_eq!((sent.hops, sent.class), (marked.hops, marked.class), "the client's packets are marked");
        let relays = tap.header((relayed, at), &payloads[0], || caller.send_to(at, &payloads[0]));
        assert_eq!(relays, own(ip), "a Send indication's payload");
        caller.bind(CHANNEL, at);
        let relays = tap.header((relayed, at), &payloads[1], || caller.send(&channel(CHANNEL, &payloads[1])));
        assert_eq!(relays, own(ip), "channel data's payload");

        let send = || {
            peer.send_to(&payloads[2], relayed).expect("loopback takes it");
        };
        let sent = tap.header((at, relayed), &payloads[2], send);
        assert_eq!((sent.hops, sent.class), (marked.hops, marked.class), "the peer's packets are marked");
        assert_eq!(tap.header((listener, client), &payloads[2], send), own(ip), "what the client is sent");
    }
    server.stop();
}

#[test]
fn cf_90_s15_from_tcp_packets_have_no_ecn_and_no_df_unless_it_is_asked_for() {
    let Some(mut tap) = Tap::open() else { return };
    let server = Server::start(&[]);
    let ip = LOOPBACK[0];
    for via in [Via::Tcp, Via::Tls13] {
        let (mut caller, relayed) = marked_client(&server, via, ip);
        let peer = marked_peer(ip);
        let at = peer.local_addr().expect("it is bound");
        caller.permit(&[at]);
        caller.bind(CHANNEL, at);
        let asked = Header { dont_fragment: true, ..own(ip) };
        for round in 0..2 {
            let payloads = [1, 2, 3].map(|seed| pattern(10 * round + seed, 100));
            let way = (relayed, at);
            let relays = tap.header(way, &payloads[0], || caller.send(&channel(CHANNEL, &payloads[0])));
            assert_eq!(relays, own(ip), "{via:?}");
            assert_eq!(tap.header(way, &payloads[1], || caller.send_to(at, &payloads[1])), own(ip), "{via:?}");
            let message = send(at, &payloads[2]).with(attribute::DONT_FRAGMENT, []).encode();
            let relays = tap.header(way, &payloads[2], || caller.send(&message));
            assert_eq!(relays, asked, "{via:?}, with DONT-FRAGMENT");
        }
    }
    server.stop();
}
