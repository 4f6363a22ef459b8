//! Ports that tests relay from: outside the kernel's own range, so that no client's or peer's socket is ever
//! among them, and never those of another test that runs at the same time.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU16, Ordering};

/// The first port used.
const FIRST: u16 = 10_000;
/// Ports of one stretch.
const STRETCH: u16 = 440;
/// Ports at the start of a stretch that are not relayed from.
const DEAD: u16 = 20;
/// Stretches there are; they end below 32768, where the kernel's range usually begins.
const STRETCHES: u16 = 50;

/// Both loopback addresses.
pub const LOOPBACK: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];

/// Ports of one test, as long as it is held.
#[derive(Debug)]
pub struct Stretch {
    first: u16,
    /// On the first port: tells other tests, in this program or another, that the stretch is taken.
    _sign: UdpSocket,
}

impl Stretch {
    /// The next one that no other test has. Where the search begins depends on the program's id.
    pub fn next() -> Stretch {
        static NEXT: AtomicU16 = AtomicU16::new(0);
        let begin = NEXT.fetch_add(1, Ordering::Relaxed).wrapping_add((std::process::id() % 1_000) as u16 * 7);
        let numbers = (0..STRETCHES).map(|step| begin.wrapping_add(step) % STRETCHES);
        let mut signs = numbers.filter_map(|number| {
            let first = FIRST + number * STRETCH;
            Some(Stretch { first, _sign: UdpSocket::bind((LOOPBACK[0], first)).ok()? })
        });
        signs.next().expect("some ports are free")
    }

    /// A port that nothing listens on.
    pub fn dead(&self, number: u16) -> u16 {
        assert!(number < DEAD - 1, "a stretch has {DEAD} dead ports, the first of which is taken");
        self.first + 1 + number
    }

    /// The ports to relay from.
    pub fn relay(&self) -> RangeInclusive<u16> {
        self.first + DEAD..=self.first + STRETCH - 1
    }

    /// The first of `count` consecutive ports to relay from that are free on both loopback addresses now.
    /// It is even.
    pub fn free(&self, count: u16) -> RangeInclusive<u16> {
        let firsts = self.relay().step_by(2);
        let mut ranges = firsts.map(|first| first..=first + count - 1);
        let found = ranges.find(|range| range.end() <= self.relay().end() && range.clone().all(is_free));
        found.expect("some ports of the stretch are free")
    }
}

/// Whether a port can be bound on both loopback addresses.
fn is_free(port: u16) -> bool {
    LOOPBACK.into_iter().all(|ip| UdpSocket::bind((ip, port)).is_ok())
}
