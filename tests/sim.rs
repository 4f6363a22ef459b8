//! The simulator: many seeded worlds, each checked after every step. See `sim/mod.rs`.
//!
//! `TURNPIKE_SIM_SEEDS=N` runs seeds 0 to N - 1, `TURNPIKE_SIM_SEED=S` that one alone, and
//! `TURNPIKE_SIM_BYTES=FILE` an input of the fuzz target `server_ops`.

#[path = "sim/mod.rs"]
mod sim;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// Seeds of an ordinary run.
const SEEDS: u64 = 200;

fn replay(seed: u64) -> String {
    format!("TURNPIKE_SIM_SEED={seed} cargo test --test sim seeds")
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is not a number: {text}")))
}

#[test]
fn seeds_agree_with_the_model() {
    let seeds = match number("TURNPIKE_SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("TURNPIKE_SIM_SEEDS").unwrap_or(SEEDS),
    };
    let (next, tally) = (AtomicU64::new(seeds.start), Mutex::new(BTreeMap::new()));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if !seeds.contains(&seed) {
                        return;
                    }
                    let world = sim::run_seed(seed, replay(seed));
                    let mut tally = tally.lock().unwrap();
                    for (outcome, times) in &world.trace.tally {
                        *tally.entry(*outcome).or_insert(0u64) += times;
                    }
                }
            });
        }
    });
    let tally = tally.into_inner().unwrap();
    println!("{tally:#?}");
}
