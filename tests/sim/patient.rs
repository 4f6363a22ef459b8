//! Clients that retransmit as RFC 8489 §6.2.1 says and never give up, over a network that is bad.

use super::message::{self as m, Class};
use super::network::BAD;
use super::op::{Op, Part, Twist};
use super::script::lifetime;
use super::world::World;

/// Networks tried.
const SEEDS: u64 = 12;
/// First retransmission, how often a request is sent, and how long its last one is waited for.
const RTO_MS: u64 = 500;
const SENT_MAX: u32 = 7;
const LAST_WAIT_MS: u64 = 16 * RTO_MS;
/// How often a client looks at its clock.
const LOOK_MS: u64 = 50;
/// Until then all have what they want: ten transactions that were lost altogether.
const PATIENCE_MS: u64 = 400_000;

/// A transaction under way.
#[derive(Clone, Copy, Debug)]
struct Transaction {
    id: [u8; 12],
    sent: u32,
    due_ms: u64,
}

/// What a client does next, and is about.
#[derive(Clone, Copy, Debug, Default)]
struct Patient {
    transaction: Option<Transaction>,
}

impl Patient {
    fn act(&mut self, world: &mut World, client: usize) {
        let known = &world.clients()[client];
        let answered = self.transaction.is_some_and(|transaction| known.answered.contains(&transaction.id));
        match self.transaction.filter(|_| !answered) {
            None => self.begin(world, client),
            Some(transaction) if world.now.mono_ms < transaction.due_ms => {}
            Some(transaction) if transaction.sent == SENT_MAX || known.is_stream() => self.begin(world, client),
            Some(transaction) => {
                let sent = transaction.sent + 1;
                let wait_ms = if sent == SENT_MAX { LAST_WAIT_MS } else { RTO_MS << transaction.sent };
                self.transaction = Some(Transaction { sent, due_ms: world.now.mono_ms + wait_ms, ..transaction });
                world.play([Op::Repeat { client, back: 0, times: 1 }]);
            }
        }
    }

    /// Allocates, until it knows its relayed address; one that is told that it has an allocation already, and was
    /// never told which, ends it first.
    fn begin(&mut self, world: &mut World, client: usize) {
        let known = &world.clients()[client];
        if known.holds && !known.relayed.is_empty() {
            self.transaction = None;
            return;
        }
        let (method, parts) = match known.holds {
            true => (m::REFRESH, vec![lifetime(0)]),
            false => (m::ALLOCATE, vec![Part::Raw(m::REQUESTED_TRANSPORT, vec![17, 0, 0, 0])]),
        };
        let wait_ms = if known.is_stream() { SENT_MAX.into() } else { 1 } * RTO_MS;
        world.play([Op::Message {
            client,
            class: Class::Request,
            method,
            parts,
            twist: Twist::None,
            fingerprint: true,
        }]);
        let id = world.clients()[client].sent[0][8..20].try_into().expect("twelve bytes");
        self.transaction = Some(Transaction { id, sent: 1, due_ms: world.now.mono_ms + wait_ms });
    }

    fn is_done(self, world: &World, client: usize) -> bool {
        let known = &world.clients()[client];
        self.transaction.is_none() && known.holds && !known.relayed.is_empty()
    }
}

#[test]
fn fi_08_every_client_ends_with_one_allocation_over_a_bad_network() {
    let (mut repeated, mut lost) = (0, 0);
    for seed in 0..SEEDS {
        let mut world = World::over(BAD, seed);
        let mut patients = vec![Patient::default(); world.clients().len()];
        let end_ms = world.now.mono_ms + PATIENCE_MS;
        while world.now.mono_ms < end_ms {
            for (client, patient) in patients.iter_mut().enumerate() {
                patient.act(&mut world, client);
            }
            if patients.iter().enumerate().all(|(client, patient)| patient.is_done(&world, client)) {
                break;
            }
            world.play([Op::Clock { ms: LOOK_MS }]);
        }
        // What is still under way arrives, and changes nothing.
        world.play([Op::Clock { ms: 1000 }]);
        let held: usize = world.servers.iter().map(|server| server.allocation_count()).sum();
        assert_eq!((held, world.pool.ledger.total()), (patients.len(), patients.len()), "seed {seed}");
        for client in world.clients() {
            let mut tables = world.servers.iter().flat_map(|server| server.allocations());
            let (_, own) = tables.find(|(_, a)| a.tuple == client.tuple).expect("everyone has an allocation");
            let relayed: Vec<_> = own.relays.iter().flatten().map(|relay| relay.relayed.0).collect();
            assert_eq!(relayed, client.relayed, "seed {seed}: a client knows its own address");
        }
        repeated += world.times("allocate", 0) - patients.len() as u64;
        lost += u64::from(world.times("allocate", 401) > patients.len() as u64);
        world.finish();
    }
    assert!(repeated > 0 && lost > 0, "the network is too good to show anything: {repeated}, {lost}");
}
