//! Inputs that were made to hurt, by number: what each is answered with, and that it leaves no trace.
//!
//! Most are rows of a table, each tried on a scene of its own in the core, and again over the real sockets of the
//! real binary; what needs several steps is a test named for its number. HTTP and faults of the system are tried
//! elsewhere.

mod wire_client;

#[path = "hostile/absent.rs"]
mod absent;
#[allow(dead_code, reason = "shared with the tests of the daemon")]
#[path = "daemon/certificate.rs"]
mod certificate;
#[allow(dead_code, reason = "shared with the tests of the daemon")]
#[path = "daemon/client.rs"]
mod client;
#[path = "hostile/connections.rs"]
mod connections;
#[path = "hostile/credentials.rs"]
mod credentials;
/// What the plane's tests know under this name.
mod fixture {
    pub use super::link::PATIENCE;
}
#[path = "hostile/framing.rs"]
mod framing;
#[allow(dead_code, reason = "shared with the tests of the daemon")]
#[path = "daemon/link.rs"]
mod link;
#[path = "hostile/live.rs"]
mod live;
#[path = "hostile/mutants.rs"]
mod mutants;
#[path = "hostile/parser.rs"]
mod parser;
#[allow(dead_code, reason = "shared with the tests of the daemon")]
#[path = "daemon/ports.rs"]
mod ports;
#[path = "hostile/records.rs"]
mod records;
#[path = "hostile/relay.rs"]
mod relay;
#[path = "hostile/requests.rs"]
mod requests;
#[allow(dead_code, reason = "shared with the tests of the daemon")]
#[path = "daemon/server.rs"]
mod server;
#[path = "hostile/sockets.rs"]
mod sockets;
#[allow(dead_code, reason = "shared with the tests of the plane")]
#[path = "plane/wire.rs"]
mod wire;

use std::collections::BTreeSet;
use std::net::IpAddr;
use turnpike::turn::{DropReason, Now, Sender, nonce};
use turnpike::wire::attribute;
use wire_client::*;

/// Longest answer to a stranger over UDP, in bytes, when its request had no FINGERPRINT.
const STRANGER_ANSWER_MAX: usize = 100;

/// What must come of an input.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Expect {
    /// Nothing, for this reason.
    Silence(DropReason),
    /// An answer with this error code, 0 for success.
    Code(u16),
}

/// What comes of the same bytes on a stream.
#[derive(Clone, Copy, Debug, PartialEq)]
enum OnStream {
    /// What comes of a datagram, and the connection goes on.
    Same,
    /// The connection ends without an answer; what was dropped, and why.
    Closed(&'static [DropReason]),
    /// They begin with a request, which is answered; then the connection ends.
    AnsweredThenClosed,
    /// They begin with a request, which is answered; the rest may be the start of a message.
    AnsweredThenWaits,
    /// They may be the start of a message.
    Waits,
    /// They can not come on a stream, or mean something else there.
    Never,
}

/// One input.
struct Case {
    number: u16,
    what: String,
    from: Sender,
    bytes: Vec<u8>,
    expect: Expect,
    stream: OnStream,
}

impl Case {
    fn new(number: u16, what: &str, from: Sender, bytes: Vec<u8>, expect: Expect) -> Self {
        Case { number, what: what.into(), from, bytes, expect, stream: OnStream::Same }
    }

    /// The same input, of which something else comes on a stream.
    fn but(self, stream: OnStream) -> Self {
        Case { stream, ..self }
    }

    /// The number and what it is.
    fn title(&self) -> String {
        format!("IN-{:03} {}", self.number, self.what)
    }
}

/// Who sends the inputs, and what else they are made of; in the core's world and over sockets.
struct Cast {
    alice: Client,
    fresh: Client,
    stranger: Sender,
    /// Where a client is that has seen the nonce of `fresh`.
    elsewhere: Sender,
    /// A source that only a world without sockets has.
    port_zero: Option<Sender>,
    /// A nonce of the right key for a time to come; only the core's key is known.
    forged_nonce: Option<Vec<u8>>,
    /// The time in seconds of the Unix epoch.
    unix_s: u64,
    /// How long the inputs have to stay what they are, in seconds.
    lasting_s: u64,
    /// Addresses that the server relays from.
    relays: Vec<IpAddr>,
}

/// The same cast for every case: the worlds are equal to the last nonce, so a message made in one fits all.
struct Scene {
    world: World,
    /// Has allocations of both families, a permission for 8.8.8.8 and channel 0x4000 to its port 7000.
    alice: Client,
    /// Was challenged and has no allocation.
    fresh: Client,
    /// Has sent nothing yet.
    stranger: Sender,
}

impl Scene {
    fn new() -> Self {
        let mut world = World::new();
        let alice = world.dual();
        world.succeed(&alice, bind(0x4000, peer("8.8.8.8:7000")));
        let fresh = world.login(udp("192.0.2.1:4009"), ALICE);
        Scene { world, alice, fresh, stranger: udp("192.0.2.66:6666") }
    }

    fn cast(&self) -> Cast {
        let future = Now { mono_ms: START.mono_ms + 5_000, ..START };
        let forged = nonce::mint(&self.world.config.nonce, future, &self.fresh.sender.tuple);
        Cast {
            alice: self.alice.clone(),
            fresh: self.fresh.clone(),
            stranger: self.stranger,
            elsewhere: udp("192.0.2.1:4010"),
            port_zero: Some(udp("192.0.2.66:0")),
            forged_nonce: Some(forged.as_bytes().to_vec()),
            unix_s: START.unix_s,
            lasting_s: 0,
            relays: RELAY.map(|ip| ip.parse().expect("an address")).into(),
        }
    }
}

/// The whole table for this cast.
fn all_cases(cast: &Cast) -> Vec<Case> {
    let tables = [parser::cases, credentials::cases, requests::cases, absent::cases, relay::cases];
    tables.into_iter().flat_map(|table| table(cast)).collect()
}

#[test]
fn every_case_is_answered_as_expected_and_leaves_no_trace() {
    for case in all_cases(&Scene::new().cast()) {
        let what = case.title();
        let mut scene = Scene::new();
        let before = scene.world.state();
        let outcome = scene.world.deliver(&case.from, &case.bytes);
        let came = match &outcome {
            Outcome::Silence(reason) => Expect::Silence(*reason),
            Outcome::Answer(reply) => Expect::Code(reply.code()),
            Outcome::Relayed(verdict) => panic!("{what}: relayed as {verdict:?}"),
        };
        assert_eq!(came, case.expect, "{what}");
        if case.from == scene.stranger || came != Expect::Code(0) {
            assert_eq!(scene.world.state(), before, "{what}: nothing has changed");
        }
        if let (Outcome::Answer(reply), true) = (outcome, case.from == scene.stranger) {
            let max = STRANGER_ANSWER_MAX + 8 * usize::from(reply.has(attribute::FINGERPRINT));
            assert!(reply.bytes.len() <= max, "{what}: {} bytes to a stranger", reply.bytes.len());
        }
    }
}

#[test]
fn every_number_is_tried() {
    let sources = [
        include_str!("hostile/parser.rs"),
        include_str!("hostile/credentials.rs"),
        include_str!("hostile/requests.rs"),
        include_str!("hostile/relay.rs"),
        include_str!("hostile/absent.rs"),
        include_str!("hostile/framing.rs"),
        include_str!("hostile/records.rs"),
        include_str!("hostile/connections.rs"),
    ];
    let named =
        sources.iter().flat_map(|text| text.split("in_").skip(1)).filter_map(|rest| rest.get(..3)?.parse().ok());
    let tried: BTreeSet<u16> = all_cases(&Scene::new().cast()).iter().map(|case| case.number).chain(named).collect();
    let missing: Vec<u16> = (1..=111).filter(|number| !tried.contains(number)).collect();
    assert!(missing.is_empty(), "never tried: {missing:?}");
}
