//! Inputs that were made to hurt, by number: what each is answered with, and that it leaves no trace.
//!
//! Most are rows of a table, each tried on a scene of its own; what needs several steps is a test named for its
//! number. Stream framing, HTTP and faults of the system are tried elsewhere.

mod wire_client;

#[path = "hostile/credentials.rs"]
mod credentials;
#[path = "hostile/parser.rs"]
mod parser;
#[path = "hostile/relay.rs"]
mod relay;
#[path = "hostile/requests.rs"]
mod requests;

use std::collections::BTreeSet;
use turnpike::turn::{DropReason, Sender};
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

/// One input.
struct Case {
    number: u16,
    what: String,
    from: Sender,
    bytes: Vec<u8>,
    expect: Expect,
}

impl Case {
    fn new(number: u16, what: &str, from: Sender, bytes: Vec<u8>, expect: Expect) -> Self {
        Case { number, what: what.into(), from, bytes, expect }
    }
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
}

fn all_cases() -> Vec<Case> {
    let scene = Scene::new();
    let tables = [parser::cases, credentials::cases, requests::cases, relay::cases];
    tables.into_iter().flat_map(|table| table(&scene)).collect()
}

#[test]
fn every_case_is_answered_as_expected_and_leaves_no_trace() {
    for case in all_cases() {
        let what = format!("IN-{:03} {}", case.number, case.what);
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
fn every_number_of_the_core_is_tried() {
    let sources = [
        include_str!("hostile/parser.rs"),
        include_str!("hostile/credentials.rs"),
        include_str!("hostile/requests.rs"),
        include_str!("hostile/relay.rs"),
    ];
    let named =
        sources.iter().flat_map(|text| text.split("fn in_").skip(1)).filter_map(|rest| rest.get(..3)?.parse().ok());
    let tried: BTreeSet<u16> = all_cases().iter().map(|case| case.number).chain(named).collect();
    let missing: Vec<u16> = (1..=80).chain(108..=111).filter(|number| !tried.contains(number)).collect();
    assert!(missing.is_empty(), "never tried: {missing:?}");
}
