//! Readers that take nothing: scrapers of the metrics and members of a room. Nobody waits for them, no packet least.

use super::sockets::HANDSHAKE;
use crate::client::{Caller, Delivery, Peer};
use crate::collider::client::Talker;
use crate::collider::limits::frame;
use crate::fixture::{Fixture, PATIENCE, Wire, Wish, request, wait_until};
use crate::link::Via;
use crate::ports::LOOPBACK;
use serde_json::Value;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use turnpike::http::Plane;

const CHANNEL: u16 = 0x4000;
/// Packets sent before the first of them is looked for.
const BURST: u64 = 16;

/// A call that goes both ways.
struct Call {
    client: Caller,
    peer: Peer,
    relayed: SocketAddr,
    sent: u64,
}

impl Call {
    fn new(fixture: &Fixture) -> Call {
        let (mut client, relayed) = Caller::allocated(Via::Udp, fixture.udp);
        let peer = Peer::new(LOOPBACK[0]);
        client.permit(&[peer.addr()]);
        client.bind(CHANNEL, peer.addr());
        Call { client, peer, relayed, sent: 0 }
    }

    /// Sends a burst there and back. A packet that is lost is a panic.
    fn burst(&mut self) {
        let burst = self.sent..self.sent + BURST;
        burst.clone().for_each(|number| self.client.send_on(CHANNEL, &number.to_be_bytes()));
        for number in burst.clone() {
            let (payload, from) = self.peer.receive();
            assert_eq!((&payload, from), (&(&number.to_be_bytes()).into(), self.relayed));
            self.peer.send(self.relayed, &payload);
        }
        for number in burst.clone() {
            assert_eq!(self.client.receive(), Delivery::Channel(CHANNEL, (&number.to_be_bytes()).into()));
        }
        self.sent = burst.end;
    }
}

// FI-26. That there is no end to what a stalled reader may wait for elsewhere shows that the admin part has its own.
#[test]
fn fifty_scrapers_that_stall_lose_no_packet_and_are_closed() {
    let hour = Duration::from_secs(3600);
    let spawn = |config| Plane::spawn_limited(config, |limits| limits.deadlines.stalled = hour);
    let fixture = Fixture::spawn(Wish::default(), |_| (), spawn);
    let mut call = Call::new(&fixture);
    let scrape = "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let mut scrapers: Vec<Wire> = (0..50).map(|_| Wire::connect_narrow(fixture.admin)).collect();
    // More answers than the kernel keeps for anybody; what is asked ahead waits with the asker.
    for scraper in &mut scrapers {
        assert!(scraper.send(scrape.repeat(900)));
        call.burst();
    }
    let end = Instant::now() + 2 * PATIENCE;
    while !scrapers.is_empty() {
        assert!(Instant::now() < end, "{} scrapers that read nothing are still there", scrapers.len());
        // Whoever was closed is told so when it writes, without reading.
        scrapers.retain_mut(|scraper| scraper.send("G"));
        call.burst();
        assert_eq!(request(fixture.admin, "GET", "/healthz", &[], "").status, 200);
    }
    assert!(call.sent > 100 * BURST, "{} packets are no load", call.sent);
}

fn status(fixture: &Fixture) -> Value {
    serde_json::from_slice(&fixture.get("/status").body).expect("the status is JSON")
}

// FI-27
#[test]
fn a_member_that_takes_nothing_is_closed_by_its_deadline_and_the_others_talk_on() {
    let stalled = Duration::from_millis(500);
    let spawn = |config| Plane::spawn_limited(config, |limits| limits.deadlines.stalled = stalled);
    let fixture = Fixture::spawn(
        Wish::default(),
        |live| live.rooms.as_mut().expect("there are rooms").clients_per_room = 4,
        spawn,
    );
    let mut frozen = Wire::connect_narrow(fixture.public);
    frozen.send(format!("{HANDSHAKE}\r\n"));
    assert_eq!(frozen.answer(false).status, 101);
    frozen.send(frame(0x81, br#"{"cmd":"register","roomid":"abc","clientid":"frozen"}"#));
    let mut members = ["1", "2"].map(|client| Talker::registered(fixture.public, "abc", client));
    let mut call = Call::new(&fixture);
    let (text, errors) = ("x".repeat(60_000), status(&fixture)["wserrors"].clone());
    wait_until("all three are there", || status(&fixture)["openws"] == 3);
    let end = Instant::now() + 3 * PATIENCE;
    let mut said = 0;
    while status(&fixture)["openws"] == 3 {
        assert!(Instant::now() < end, "{said} messages wait for one that takes none");
        // Far fewer than may wait for a socket: it is time that runs out, whenever the kernel keeps no more for it.
        for _ in 0..5 {
            let [first, second] = &mut members;
            first.send(&text);
            let start = Instant::now();
            assert_eq!(second.hear().as_ref(), Ok(&text));
            assert!(start.elapsed() < PATIENCE / 2, "nobody waits for it");
            said += 1;
        }
        call.burst();
        let pause = Instant::now() + 2 * stalled;
        while Instant::now() < pause && status(&fixture)["openws"] == 3 {
            call.burst();
        }
    }
    assert_eq!(status(&fixture)["openws"], 2);
    assert_eq!(status(&fixture)["wserrors"], errors, "it was not the length of its queue");
    members[1].send("on we go");
    assert_eq!(members[0].hear().as_deref(), Ok("on we go"));
}
