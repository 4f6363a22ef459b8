//! What every client asks for: its bytes at its peer, its peer's bytes at the client, unchanged, on every
//! transport, in both families, however they are framed.

use super::client::{Caller, Delivery, Peer, pattern};
use super::link::Via;
use super::ports::LOOPBACK;
use super::server::Server;
use crate::wire_client::allocate;
use std::net::{IpAddr, SocketAddr};
use turnpike::wire::attribute;

/// Payloads that are tried: empty, unpadded, voice, the edges of an Ethernet frame, a jumbo frame, fragments.
const SIZES: [usize; 8] = [0, 1, 3, 160, 1200, 1472, 9000, 65_000];
/// The channel of the first peer.
const CHANNEL: u16 = 0x4000;

/// Sends payloads of all sizes both ways between a client and a peer, in indications and on a channel.
fn talk(caller: &mut Caller, relayed: SocketAddr, number: u16) {
    let peer = Peer::new(relayed.ip());
    caller.permit(&[peer.addr()]);
    for (seed, len) in SIZES.into_iter().enumerate() {
        caller.send_to(peer.addr(), &pattern(seed, len));
        assert_eq!(peer.receive(), (pattern(seed, len), relayed), "{len} bytes in a Send indication");
        peer.send(relayed, &pattern(seed + 1, len));
        assert_eq!(caller.receive(), Delivery::Indication(peer.addr(), pattern(seed + 1, len)));
    }
    caller.bind(number, peer.addr());
    for (seed, len) in SIZES.into_iter().enumerate() {
        caller.send_on(number, &pattern(seed + 2, len));
        assert_eq!(peer.receive(), (pattern(seed + 2, len), relayed), "{len} bytes on a channel");
        peer.send(relayed, &pattern(seed + 3, len));
        assert_eq!(caller.receive(), Delivery::Channel(number, pattern(seed + 3, len)));
    }
    // A client may go on with indications when it has a channel; what comes back is on the channel.
    caller.send_to(peer.addr(), b"once more");
    assert_eq!(peer.receive(), (b"once more".into(), relayed));
    assert_eq!(caller.delivered(), []);
    assert!(peer.is_idle());
}

/// Clients of one address of the server: one with a relayed address of each family, one with both.
fn serve(server: &Server, via: Via, ip: IpAddr) {
    let addr = server.addr(via.listener(), ip);
    for (family, wanted) in [(1, LOOPBACK[0]), (2, LOOPBACK[1])] {
        let mut caller = Caller::new(via, addr);
        let draft = allocate().with(attribute::REQUESTED_ADDRESS_FAMILY, [family, 0, 0, 0]);
        let relayed = caller.allocate(draft);
        assert_eq!(relayed.ip(), wanted, "a relayed address of the family that was asked for");
        talk(&mut caller, relayed, CHANNEL);
    }
    let mut caller = Caller::new(via, addr);
    let reply = caller.succeed(allocate().with(attribute::ADDITIONAL_ADDRESS_FAMILY, [2, 0, 0, 0]));
    let relayed = reply.addresses(attribute::XOR_RELAYED_ADDRESS);
    assert_eq!(relayed.iter().map(SocketAddr::ip).collect::<Vec<_>>(), LOOPBACK);
    for (number, relayed) in (CHANNEL..).zip(relayed) {
        talk(&mut caller, relayed, number);
    }
}

fn serve_both_families(via: Via) {
    let server = Server::start(&["workers=2"]);
    LOOPBACK.into_iter().for_each(|ip| serve(&server, via, ip));
    server.stop();
}

#[test]
fn udp_clients_reach_peers_of_both_families() {
    serve_both_families(Via::Udp);
}

#[test]
fn tcp_clients_reach_peers_of_both_families() {
    serve_both_families(Via::Tcp);
}

#[test]
fn tls_1_2_clients_reach_peers_of_both_families() {
    serve_both_families(Via::Tls12);
}

#[test]
fn tls_1_3_clients_reach_peers_of_both_families() {
    serve_both_families(Via::Tls13);
}

// RFC 8489 §6.3.1.2 (CF-10). The client's link accepts no answer from another address.
#[test]
fn an_answer_comes_from_the_address_that_was_asked() {
    let addresses = ["127.0.0.1", "127.0.0.2"].map(|ip| ip.parse::<IpAddr>().expect("an address"));
    let listen = |key: &str| format!("listen.{key}=[\"127.0.0.1:0\", \"127.0.0.2:0\"]");
    let (udp, tcp, tls) = (listen("udp"), listen("tcp"), listen("tls"));
    let server = Server::start(&["workers=2", &udp, &tcp, &tls]);
    for via in Via::ALL {
        for ip in addresses {
            let (mut caller, relayed) = Caller::allocated(via, server.addr(via.listener(), ip));
            assert_eq!(relayed.ip(), ip, "relayed from the address that the client reached");
            caller.echo();
            talk(&mut caller, relayed, CHANNEL);
        }
    }
    server.stop();
}
