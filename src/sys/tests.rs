//! The system calls do what their callers are promised, on this kernel.

use super::*;
use std::net::UdpSocket;
use std::os::fd::AsFd;

#[test]
fn names_round_trip() {
    for text in ["192.0.2.1:3478", "[2001:db8::1]:1", "0.0.0.0:0", "[fe80::1%7]:9"] {
        let addr: SocketAddr = text.parse().unwrap();
        let mut name = Name::empty();
        name.set(addr);
        assert_eq!(name.get(), Some(addr));
    }
    assert_eq!(Name::empty().get(), None);
}

#[test]
fn batches_carry_datagrams_and_tell_the_truncated() {
    let (a, b) = (UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
    let to = b.local_addr().unwrap();
    let texts: [&[u8]; 3] = [b"one", b"", b"longer than the slot"];
    let datagrams = texts.iter().map(|text| Datagram { to: Some(to), parts: [text, b"", b""] });
    assert_eq!(Transmitter::new().send(a.as_fd(), true, datagrams).unwrap(), 3);
    let mut receiver = Receiver::new(4, 32, 8, 16);
    assert_eq!(receiver.recv(b.as_fd(), 1, 3).unwrap(), 3);
    assert_eq!(receiver.source(1), Some(a.local_addr().unwrap()));
    assert_eq!((receiver.datagram_len(1), &receiver.slot(1)[8..11]), (Some(3), &b"one"[..]));
    assert_eq!((receiver.datagram_len(2), receiver.datagram_len(3)), (Some(0), None));
    let empty = receiver.recv(b.as_fd(), 0, 4).unwrap_err();
    assert_eq!(empty.kind(), io::ErrorKind::WouldBlock);
}

#[test]
fn a_run_of_one_length_travels_as_one_message_and_comes_apart() {
    let (a, b) = (UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
    enable_gro(b.as_fd()).unwrap();
    let to = Some(b.local_addr().unwrap());
    // Three of six bytes and a shorter one are a train; the longer one is not of it.
    let parts: [[&[u8]; 3]; 5] = [
        [b"h1", b"one", b"."],
        [b"h2", b"two", b"."],
        [b"h3", b"six", b"."],
        [b"", b"end", b""],
        [b"head", b"alone", b""],
    ];
    let datagrams = parts.iter().map(|&parts| Datagram { to, parts });
    assert_eq!(Transmitter::new().send(a.as_fd(), true, datagrams.clone()).unwrap(), 5);
    let mut receiver = Receiver::new(8, 128, 0, 128);
    assert_eq!(receiver.recv(b.as_fd(), 0, 8).unwrap(), 2);
    assert_eq!((receiver.datagram_len(0), receiver.segment_len(0)), (Some(21), 6));
    assert_eq!(&receiver.slot(0)[..21], b"h1one.h2two.h3six.end");
    assert_eq!((receiver.datagram_len(1), receiver.segment_len(1)), (Some(9), 9));
    assert_eq!(Transmitter::new().send(a.as_fd(), false, datagrams).unwrap(), 5);
    assert_eq!(receiver.recv(b.as_fd(), 0, 8).unwrap(), 5);
    assert!((0..5).all(|slot| receiver.datagram_len(slot) == Some(receiver.segment_len(slot))));
}

#[test]
fn a_burst_comes_apart_on_a_socket_that_was_to_tell_more() {
    for (local, v6, packet) in [
        ("127.0.0.1:0", false, (libc::SOL_IP, libc::IP_PKTINFO)),
        ("[::1]:0", true, (libc::SOL_IPV6, libc::IPV6_RECVPKTINFO)),
    ] {
        let (a, b) = (UdpSocket::bind(local).unwrap(), UdpSocket::bind(local).unwrap());
        let of_any = [libc::SO_TIMESTAMP, libc::SO_TIMESTAMPNS, libc::SO_RXQ_OVFL];
        for (level, name) in of_any.map(|name| (libc::SOL_SOCKET, name)).into_iter().chain([packet]) {
            set_option(b.as_fd(), level, name, 1).unwrap();
        }
        enable_gro(b.as_fd()).unwrap();
        let to = Some(b.local_addr().unwrap());
        let train = || std::iter::repeat_n(Datagram { to, parts: [b"three", b"", b""] }, 3);
        let mut receiver = Receiver::new(1, 128, 0, 128);
        let told = |receiver: &mut Receiver| {
            assert_eq!(Transmitter::new().send(a.as_fd(), true, train()).unwrap(), 3);
            assert_eq!(receiver.recv(b.as_fd(), 0, 1).unwrap(), 1);
            (receiver.datagram_len(0), receiver.segment_len(0))
        };
        assert_eq!(told(&mut receiver), (Some(15), 15), "the burst looks like one datagram");
        refuse_ancillary(b.as_fd(), v6).unwrap();
        assert_eq!(told(&mut receiver), (Some(15), 5));
    }
}

#[test]
fn a_train_that_can_not_be_segmented_is_refused_and_says_so() {
    let (a, b) = (UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
    // Without a checksum there is nothing a card could finish.
    set_option(a.as_fd(), libc::SOL_SOCKET, libc::SO_NO_CHECK, 1).unwrap();
    let to = Some(b.local_addr().unwrap());
    let train = || std::iter::repeat_n(Datagram { to, parts: [b"x", b"", b""] }, 2);
    let refused = Transmitter::new().send(a.as_fd(), true, train()).unwrap_err();
    assert!(refuses_segments(&refused), "{refused}");
    assert_eq!(Transmitter::new().send(a.as_fd(), false, train()).unwrap(), 2);
    assert!(!refuses_segments(&io::Error::from_raw_os_error(libc::ENOBUFS)));
}

#[test]
fn a_dead_peer_is_on_the_error_queue_with_its_address() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    receive_errors(socket.as_fd(), false).unwrap();
    let dead = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    socket.send_to(b"x", dead).unwrap();
    // On loopback the ICMP error is queued before send_to returns.
    let error = next_queued_error(socket.as_fd()).unwrap();
    assert_eq!((error.peer, error.origin, error.icmp), (dead, ErrorOrigin::Icmp, (3, 3)));
    assert_eq!(next_queued_error(socket.as_fd()), None);
}

#[test]
fn this_host_has_a_loopback_address() {
    assert!(interface_addresses().unwrap().contains(&"127.0.0.1".parse().unwrap()));
}
