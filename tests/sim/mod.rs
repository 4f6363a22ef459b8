//! A seeded world for the protocol core: clients, peers and two workers with one pool of ports and one ledger, over a
//! network that loses, repeats, delays, reorders and falls apart, with NATs that forget, on a clock that nobody waits
//! for and that jumps.
//!
//! After every step a naive reference model must agree, the events replayed must equal the
//! tables, and the invariants must hold. The same seed gives the same run.

pub mod chance;
pub mod world;

// [whole package] tests/mutants.sh leaves this out: bodies of fuzz targets may need more than the two pure floors.
#[cfg(test)]
pub mod corpus;
pub mod formats;
pub mod peers;
pub mod roundtrip;
// [pure floors]

#[cfg(test)]
mod found;
#[cfg(test)]
mod patient;
#[cfg(test)]
mod script;
#[cfg(test)]
mod stories;

mod act;
mod agreement;
mod client;
mod invariant;
mod message;
mod mirror;
mod model;
mod network;
mod op;
mod operator;
mod policy;
mod pool;
mod setting;
mod trace;

use chance::{Bytes, Choice, Seeded};
use world::World;

/// Steps of a run from a seed.
pub const STEPS: usize = 300;
/// Steps of a run from bytes, however many there are.
const STEPS_MAX: usize = 400;

/// Runs the world of a seed to its end.
pub fn run_seed(seed: u64, replay: String) -> World {
    let mut world = World::new(seed, replay);
    let mut choice = Seeded::new(!seed);
    (0..STEPS).for_each(|_| world.step(&mut choice));
    world.finish();
    world
}

/// Runs the world of a seed twice, step by step, and returns the hash of what happened.
#[cfg(test)]
pub fn run_twice(seed: u64, replay: String) -> u64 {
    let mut worlds = [World::new(seed, replay.clone()), World::new(seed, replay)];
    let mut choices = [Seeded::new(!seed), Seeded::new(!seed)];
    for _ in 0..STEPS {
        worlds.iter_mut().zip(&mut choices).for_each(|(world, choice)| world.step(choice));
        invariant::inv_11_the_same_again(&worlds[0], &worlds[1]);
    }
    worlds[0].trace.hash()
}

/// Runs the world that bytes describe: two for its setting, the rest for what happens.
pub fn run_bytes(bytes: &[u8], replay: String) -> World {
    run_choice(&mut Bytes::new(bytes), STEPS_MAX, replay)
}

/// Runs the world of these choices, until they or the steps are over.
pub fn run_choice(choice: &mut impl Choice, steps: usize, replay: String) -> World {
    let mut world = World::new(u64::from(choice.below(0x1_0000)), replay);
    for _ in 0..steps {
        if choice.is_over() {
            break;
        }
        world.step(choice);
    }
    world.finish();
    world
}
