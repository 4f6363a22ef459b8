//! A drain on a running engine: every worker sends new clients elsewhere, by every transport.

use super::client::{Caller, Peer};
use super::inside::Inside;
use super::link::Via;
use super::ports::LOOPBACK;
use crate::wire_client::{allocate, binding, refresh};
use std::time::{Duration, Instant};
use turnpike::bus::Command;
use turnpike::turn::{Alternate, Drain};
use turnpike::wire::attribute;

/// Clients that are tried, so that some come to each worker.
const CALLERS: usize = 12;
const PATIENCE: Duration = Duration::from_secs(10);

/// The addresses of the alternates, as they are on the wire.
const V4: [u8; 8] = [0, 1, 0x0D, 0x96, 203, 0, 113, 9];
const V6: [u8; 20] = [0, 2, 0x0D, 0x96, 0x20, 1, 0x0D, 0xB8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9];

#[test]
fn every_worker_sends_new_clients_elsewhere_and_serves_on_those_it_has() {
    let inside = Inside::of(2);
    let peer = Peer::new(LOOPBACK[0]);
    let mut old = Via::ALL.map(|via| Caller::allocated(via, inside.addr(via, LOOPBACK[0])));
    let alternate = |addr: &str| Alternate {
        addr: addr.parse().expect("an address and a port"),
        domain: Some("turn2.example.org".into()),
    };
    let alternates = [alternate("203.0.113.9:3478"), alternate("[2001:db8::9]:3478")];
    let drain = Drain { alternates: alternates.into(), left_ms: 120_000 };
    assert!(inside.workers().tell_all(|| Command::Drain(Some(drain.clone()))));
    for (caller, relayed) in &mut old {
        let end = Instant::now() + PATIENCE;
        while caller.succeed(refresh(600)).number(attribute::LIFETIME) == Some(600) {
            assert!(Instant::now() < end, "lifetimes do not end with the drain");
        }
        caller.permit(&[peer.addr()]);
        caller.send_to(peer.addr(), b"still here");
        assert_eq!(peer.receive(), (b"still here".into(), *relayed));
    }
    for via in Via::ALL {
        for (ip, expected) in [(LOOPBACK[0], &V4[..]), (LOOPBACK[1], &V6[..])] {
            for _ in 0..CALLERS {
                let mut new = Caller::new(via, inside.addr(via, ip));
                let reply = new.ask(allocate());
                assert_eq!((reply.code(), reply.get(attribute::ALTERNATE_SERVER)), (300, Some(expected)));
                let domain = reply.get(attribute::ALTERNATE_DOMAIN);
                assert_eq!(domain.is_some(), matches!(via, Via::Tls12 | Via::Tls13), "{via:?}");
            }
        }
    }
    assert!(inside.workers().tell_all(|| Command::Drain(None)));
    let mut new = Caller::new(Via::Udp, inside.addr(Via::Udp, LOOPBACK[0]));
    let end = Instant::now() + PATIENCE;
    while new.code(allocate()) != 0 {
        assert!(Instant::now() < end, "the drain does not end");
    }
    assert_eq!(new.exchange(&binding().encode()).code(), 0);
}
