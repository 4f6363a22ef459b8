//! What left and what came out: every payload is judged here, at the client and at the peer. Pure.

use super::frame;
use super::ledger::{Arrival, Ledger};
use super::payload::{Leg, Pattern, Stamp};
use super::report::Tally;
use super::{Mode, Via};
use std::net::SocketAddr;

/// The books of one thread.
#[derive(Debug)]
pub struct Books {
    /// Which packets are under way.
    pub ledger: Ledger,
    /// Which packets the peer has got of those that it returns.
    outward: Option<Ledger>,
    /// What was counted.
    pub tally: Tally,
    /// The payloads.
    pub pattern: Pattern,
    mode: Mode,
    via: Via,
    size: usize,
}

impl Books {
    /// Begins to count payloads of `size` bytes that are told by `tag`.
    pub fn new(mode: Mode, via: Via, size: usize, tag: u32) -> Self {
        let (ledger, tally, pattern) = (Ledger::default(), Tally::default(), Pattern::new(tag));
        let outward = (mode == Mode::Both).then(Ledger::default);
        Books { ledger, outward, tally, pattern, mode, via, size }
    }

    /// Enters the departure of the packet with the ledger's next number.
    #[inline]
    pub fn depart(&mut self) {
        self.ledger.depart();
        if let Some(outward) = &mut self.outward {
            outward.depart();
        }
    }

    /// Which way packets go that are sent.
    pub const fn leg(&self) -> Leg {
        if matches!(self.mode, Mode::ToClient) { Leg::Back } else { Leg::Out }
    }

    /// Forgets what was counted: from now on it counts.
    pub fn open(&mut self) {
        // What is wrong is wrong before, too.
        let (corrupted, duplicates) = (self.tally.corrupted, self.tally.duplicates);
        let first_corrupted = self.tally.first_corrupted.take();
        self.tally = Tally { corrupted, duplicates, first_corrupted, ..Tally::default() };
        self.ledger.open();
    }

    /// Whether a packet may come out at a client.
    const fn is_for_client(&self, leg: Leg) -> bool {
        match self.mode {
            Mode::Pair => matches!(leg, Leg::Out),
            Mode::ToClient | Mode::Both => matches!(leg, Leg::Back),
            _ => false,
        }
    }

    /// Whether a packet may come out at the peer.
    const fn is_for_peer(&self, leg: Leg) -> bool {
        matches!((self.mode, leg), (Mode::ToPeer | Mode::Both, Leg::Out))
    }

    /// The flow on which a packet sent on `from` comes out.
    const fn destination(&self, from: usize) -> usize {
        if matches!(self.mode, Mode::Pair) { partner(from) } else { from }
    }

    /// Takes what has come to the client `at`, whose peer is `peer`.
    #[inline]
    pub fn at_client(&mut self, at: usize, peer: SocketAddr, message: &[u8], now_ns: u64) {
        let payload = frame::unframe(message, self.via, peer).map(|range| &message[range]);
        match payload.and_then(|payload| self.pattern.check(payload, self.size)) {
            Some(stamp) if self.destination(stamp.flow as usize) == at && self.is_for_client(stamp.leg) => {
                self.arrive(stamp, now_ns);
            }
            Some(stamp) => self.refuse(|| format!("client {at} got packet {} of flow {}", stamp.seq, stamp.flow)),
            None => self.refuse(|| format!("client {at} got {} bytes that nobody sent", message.len())),
        }
    }

    /// Takes what has come to the peer and says whether it is to be returned, with the seal of the way back. `relayed` tells where a flow's packets
    /// come from, and whether an address is that of any.
    #[inline]
    pub fn at_peer(
        &mut self,
        payload: &[u8],
        from: SocketAddr,
        relayed: &(impl Relayed + ?Sized),
        now_ns: u64,
    ) -> bool {
        let stamp = self.pattern.check(payload, self.size);
        let is_right = |stamp: &Stamp| self.is_for_peer(stamp.leg) && relayed.is_from(stamp.flow as usize, from);
        let Some(stamp) = stamp.filter(is_right) else {
            // What strangers send to the peer's address is not the relay's doing.
            if stamp.is_some() || relayed.is_known(from) {
                self.refuse(|| format!("the peer got {} bytes from {from} that no client sent there", payload.len()));
            }
            return false;
        };
        let Some(outward) = &mut self.outward else {
            self.arrive(stamp, now_ns);
            return false;
        };
        let arrival = outward.arrive(stamp.seq);
        self.hand_on(arrival, stamp.seq)
    }

    #[inline]
    fn arrive(&mut self, stamp: Stamp, now_ns: u64) {
        let arrival = self.ledger.arrive(stamp.seq);
        if self.hand_on(arrival, stamp.seq) && self.ledger.counts(stamp.seq) {
            self.tally.latency.add(now_ns.saturating_sub(stamp.sent_ns));
        }
    }

    /// Counts what the relay handed on, each packet of a leg once, and says whether it did.
    #[inline]
    fn hand_on(&mut self, arrival: Arrival, seq: u64) -> bool {
        match arrival {
            Arrival::First => {
                self.tally.handed_on += 1;
                self.tally.delivered += u64::from(self.ledger.counts(seq));
            }
            Arrival::Again => self.tally.duplicates += 1,
            Arrival::Forgotten => {}
            Arrival::Unknown => self.refuse(|| format!("packet {seq} came and never left")),
        }
        arrival == Arrival::First
    }

    #[cold]
    fn refuse(&mut self, what: impl FnOnce() -> String) {
        self.tally.corrupted += 1;
        self.tally.first_corrupted.get_or_insert_with(what);
    }
}

/// Where packets come from that a peer gets.
pub trait Relayed {
    /// Whether packets of a flow come from there. Behind a NAT the peer sees another address than the client was told:
    /// the port is what is compared.
    fn is_from(&self, flow: usize, from: SocketAddr) -> bool;
    /// Whether packets of any flow do.
    fn is_known(&self, from: SocketAddr) -> bool;
}

/// The other one of a pair.
pub const fn partner(flow: usize) -> usize {
    flow ^ 1
}

#[cfg(test)]
mod tests {
    use super::super::payload::{PAYLOAD_LEN_MIN, STAMP_LEN};
    use super::*;

    const PEER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9);
    const SIZE: usize = 160;

    /// Flows whose packets come from the ports 1000, 1001 and so on.
    struct Ports(u16);

    impl Relayed for Ports {
        fn is_from(&self, flow: usize, from: SocketAddr) -> bool {
            flow < self.0.into() && usize::from(from.port()) == 1000 + flow
        }

        fn is_known(&self, from: SocketAddr) -> bool {
            (1000..1000 + self.0).contains(&from.port())
        }
    }

    fn packet(books: &mut Books, flow: u32) -> Vec<u8> {
        let stamp = Stamp { flow, seq: books.ledger.next_seq(), sent_ns: 100, leg: books.leg() };
        let mut payload = vec![0; SIZE];
        books.pattern.fill(&mut payload, stamp);
        books.depart();
        payload
    }

    /// As the peer returns it.
    fn returned(payload: &[u8]) -> Vec<u8> {
        let mut back = payload.to_vec();
        back[STAMP_LEN..PAYLOAD_LEN_MIN].copy_from_slice(&Pattern::seal_back(payload));
        back
    }

    fn framed(payload: &[u8]) -> Vec<u8> {
        let mut frame = frame::head(Via::Channel, PEER, payload.len(), &mut super::super::pace::Rng::new(1)).unwrap();
        frame.extend_from_slice(payload);
        frame
    }

    fn from(port: u16) -> SocketAddr {
        SocketAddr::new(PEER.ip(), port)
    }

    #[test]
    fn a_packet_there_and_back_is_two_for_the_relay_and_one_that_came() {
        let mut books = Books::new(Mode::Both, Via::Channel, SIZE, 5);
        let payload = packet(&mut books, 1);
        assert!(books.at_peer(&payload, from(1001), &Ports(2), 150));
        assert_eq!((books.tally.delivered, books.ledger.arrived()), (1, 0));
        let back = framed(&returned(&payload));
        books.at_client(1, PEER, &back, 200);
        assert_eq!((books.tally.delivered, books.ledger.arrived(), books.tally.corrupted), (2, 1, 0));
        assert_eq!(books.tally.latency.max(), 100);
    }

    #[test]
    fn a_doubled_packet_is_handed_on_once_and_returned_once() {
        let mut books = Books::new(Mode::Both, Via::Channel, SIZE, 5);
        let payload = packet(&mut books, 1);
        let back = framed(&returned(&payload));
        assert!(books.at_peer(&payload, from(1001), &Ports(2), 150));
        assert!(!books.at_peer(&payload, from(1001), &Ports(2), 150));
        assert_eq!(books.tally.duplicates, 1);
        (0..2).for_each(|_| books.at_client(1, PEER, &back, 200));
        assert_eq!((books.tally.duplicates, books.tally.corrupted), (2, 0));
        assert_eq!((books.tally.delivered, books.tally.handed_on, books.ledger.arrived()), (2, 2, 1));
    }

    #[test]
    fn a_packet_that_was_turned_round_on_the_way_is_wrong() {
        for mode in [Mode::ToPeer, Mode::ToClient, Mode::Both, Mode::Pair] {
            let mut books = Books::new(mode, Via::Channel, SIZE, 5);
            let payload = packet(&mut books, 0);
            if matches!(mode, Mode::ToClient | Mode::Pair) {
                assert!(!books.at_peer(&payload, from(1000), &Ports(2), 150));
            } else {
                books.at_client(0, PEER, &framed(&payload), 150);
            }
            assert_eq!((books.tally.corrupted, books.tally.delivered), (1, 0), "{mode:?}");
        }
    }

    #[test]
    fn what_is_damaged_misled_or_never_left_is_wrong_and_a_strangers_is_nothing() {
        let mut books = Books::new(Mode::Both, Via::Channel, SIZE, 5);
        let payload = packet(&mut books, 0);
        let mut damaged = payload.clone();
        damaged[100] ^= 1;
        assert!(!books.at_peer(&damaged, from(9999), &Ports(2), 150));
        assert_eq!(books.tally.corrupted, 0, "a stranger's");
        let wrong: [&dyn Fn(&mut Books); 5] = [
            &|books| _ = books.at_peer(&damaged, from(1000), &Ports(2), 150),
            &|books| _ = books.at_peer(&payload, from(1001), &Ports(2), 150),
            &|books| books.at_client(0, PEER, &framed(&damaged), 150),
            &|books| books.at_client(1, PEER, &framed(&returned(&payload)), 150),
            &|books| books.at_client(0, PEER, &returned(&payload), 150),
        ];
        for (at, act) in wrong.iter().enumerate() {
            act(&mut books);
            assert_eq!(books.tally.corrupted, at as u64 + 1);
        }
        assert!(books.tally.first_corrupted.is_some());
        let mut other = Books::new(Mode::Both, Via::Channel, SIZE, 5);
        other.at_client(0, PEER, &framed(&returned(&payload)), 150);
        assert_eq!(other.tally.corrupted, 1, "it never left there");
    }

    #[test]
    fn a_packet_of_a_pair_comes_out_at_the_other() {
        let mut books = Books::new(Mode::Pair, Via::Channel, SIZE, 5);
        let payload = packet(&mut books, 0);
        books.at_client(1, PEER, &framed(&payload), 150);
        assert_eq!((books.ledger.arrived(), books.tally.corrupted), (1, 0));
    }

    #[test]
    fn what_left_before_the_window_is_handed_on_in_it_and_not_counted() {
        let mut books = Books::new(Mode::ToPeer, Via::Channel, SIZE, 5);
        let payload = packet(&mut books, 0);
        books.open();
        assert!(!books.at_peer(&payload, from(1000), &Ports(1), 150));
        assert_eq!((books.tally.handed_on, books.tally.delivered, books.ledger.arrived()), (1, 0, 0));
        assert_eq!(books.tally.latency.count(), 0);
    }
}
