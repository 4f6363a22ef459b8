//! IN-125: more connections than there may be, of one source and of all, and who stays.

use crate::fixture::{Fixture, PATIENCE, Wire, Wish, request};
use crate::limits::NOWHERE;
use crate::namespace::{is_alone, run};
use std::net::{IpAddr, SocketAddr};
use std::process::Command;
use std::time::Instant;
use turnpike::http::{Part, Plane};

/// A connection on which a request was answered.
fn used(addr: SocketAddr) -> Wire {
    let mut wire = Wire::connect(addr);
    assert_eq!(wire.ask("GET", NOWHERE, &[], "").status, 404);
    wire
}

/// Whether a connection still takes a request.
fn is_open(wire: &mut Wire) -> bool {
    wire.send(format!("GET {NOWHERE} HTTP/1.1\r\nHost: localhost\r\n\r\n")) && wire.try_answer(false).is_some()
}

/// Fills a part with connections that stay idle, and sees who is left and how soon others are answered.
fn crowd(fixture: &Fixture, addr: SocketAddr, count: usize, total: usize) {
    let mut idle: Vec<Wire> = (0..count).map(|_| used(addr)).collect();
    for (addr, path) in [(fixture.public, "/robots.txt"), (fixture.admin, "/healthz"), (fixture.admin, "/metrics")] {
        let start = Instant::now();
        assert_eq!(request(addr, "GET", path, &[], "").status, 200, "{path}");
        assert!(start.elapsed() < PATIENCE / 2, "{path} after {:?}", start.elapsed());
    }
    // The scrapes above took places of the oldest, too.
    assert!((0..20).all(|at| !is_open(&mut idle[at])), "the oldest made room");
    assert!((1..20).all(|back| is_open(&mut idle[count - back])), "the youngest stay");
    let open = idle.iter_mut().filter_map(|wire| is_open(wire).then_some(())).count();
    // The requests above were connections too.
    assert!((total - 3..=total).contains(&open), "{open} of {total}");
}

#[test]
fn a_thousand_idle_connections_make_room_and_both_parts_answer() {
    const TOTAL: usize = 200;
    let spawn = |config| Plane::spawn_limited(config, |limits| limits.connections.total = TOTAL);
    let fixture = Fixture::spawn(Wish::default(), |_| (), spawn);
    crowd(&fixture, fixture.public, 1000, TOTAL);
    crowd(&fixture, fixture.admin, 1000, TOTAL);
}

#[test]
#[ignore = "ten thousand connections; `cargo test --test plane -- --ignored ten_thousand` as root"]
fn ten_thousand_idle_connections_make_room_and_both_parts_answer() {
    // Both ends are this process.
    let pid = std::process::id().to_string();
    let raised = Command::new("prlimit").args(["--pid", &pid, "--nofile=20000:20000"]).status();
    assert!(raised.expect("prlimit is there (util-linux)").success(), "20,000 files may be open");
    let fixture = Fixture::start();
    crowd(&fixture, fixture.public, 10_000, 4096);
}

// Connections of this host itself are not counted by source, so that it takes another network to see it.
#[test]
fn a_source_has_64_connections_and_the_next_costs_its_own_oldest() {
    if !is_alone("hostile::crowds::a_source_has_64_connections_and_the_next_costs_its_own_oldest", &["ip"]) {
        return;
    }
    let [here, other] = [[198, 51, 100, 1], [198, 51, 100, 2]].map(IpAddr::from);
    for ip in [here, other] {
        run(&["ip", "address", "add", &ip.to_string(), "dev", "lo"]);
    }
    let wish = Wish { public: vec![SocketAddr::new(here, 0)], ..Wish::default() };
    let fixture = Fixture::wish(wish, |_| ());
    let listening = fixture.plane().listening().iter();
    let addr = listening.map(|(part, addr, _)| (*part, *addr)).find(|(_, addr)| addr.ip() == here);
    let (part, addr) = addr.expect("it listens there");
    assert_eq!(part, Part::Public);
    let from = |ip| {
        let mut wire = Wire::connect_from(ip, addr);
        assert_eq!(wire.ask("GET", NOWHERE, &[], "").status, 404);
        wire
    };
    let mut neighbour = from(other);
    let mut idle: Vec<Wire> = (0..64).map(|_| from(here)).collect();
    assert!(idle.iter_mut().all(is_open), "64 are none too many");
    let mut next = from(here);
    assert!(!is_open(&mut idle[0]), "one more costs the one that was idle longest");
    assert!(idle[1..].iter_mut().all(is_open) && is_open(&mut next) && is_open(&mut neighbour));
    // With a request under way on each, there is none that could make room.
    idle[0] = next;
    for wire in &mut idle {
        let head = format!("POST {NOWHERE} HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n");
        wire.send(format!("{head}Content-Length: 1\r\n\r\n"));
        assert_eq!((wire.line(), wire.line()), ("HTTP/1.1 100 Continue".into(), String::new()));
    }
    let mut refused = Wire::connect_from(here, addr);
    assert!(refused.is_closed());
    assert!(is_open(&mut from(other)), "others are not concerned");
    assert_eq!(request(fixture.public, "GET", "/robots.txt", &[], "").status, 200);
    for wire in &mut idle {
        wire.send("a");
        assert_eq!(wire.answer(false).status, 404);
    }
}
