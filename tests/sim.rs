//! The simulator: many seeded worlds, each checked after every step (see `sim/mod.rs`), and the
//! inputs of the fuzz targets, which share its operations.
//!
//! An ordinary run takes 200 seeds; before a release it is 20,000, some minutes:
//! `TURNPIKE_SIM_SEEDS=20000 cargo test --release --test sim seeds_agree -- --nocapture`.
//! `TURNPIKE_SIM_SEEDS=N` runs the seeds 0 to N - 1, `TURNPIKE_SIM_SEED=S` that one alone, and
//! `TURNPIKE_SIM_BYTES=FILE` one input of the fuzz target `server_ops`.

#[path = "sim/mod.rs"]
mod sim;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// Seeds of an ordinary run.
const SEEDS: u64 = 200;

/// What an ordinary run must come upon, or it tests less than it says.
#[rustfmt::skip]
const REACHED: &[(&str, &[u16])] = &[
    ("binding", &[0, 420]),
    ("allocate", &[0, 300, 400, 401, 403, 420, 437, 438, 440, 442, 486, 508]),
    ("refresh", &[0, 400, 401, 420, 437, 438, 441, 443]),
    ("create_permission", &[0, 400, 401, 403, 420, 437, 438, 441, 443, 508]),
    ("channel_bind", &[0, 400, 401, 403, 420, 437, 438, 441, 443, 508]),
    ("to_peer", &[0]), ("to_client", &[0]), ("to_relay", &[0]), ("indicate", &[0]),
    ("malformed", &[0]), ("fingerprint", &[0]), ("unexpected", &[0]), ("source", &[0]),
    ("no_allocation", &[0]), ("no_channel", &[0]), ("no_permission", &[0]), ("peer_denied", &[0]),
    ("parcel", &[0]), ("token_elsewhere", &[0]),
    ("quota_user", &[0]), ("quota_source", &[0]), ("quota_credential", &[0]), ("quota_total", &[0]),
    ("bad_indication", &[0]), ("bandwidth", &[0]), ("credential_used_up", &[0]), ("unverified", &[0]), ("icmp_rate", &[0]), ("oversize", &[0]),
];

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
    let run = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if !seeds.contains(&seed) {
                return;
            }
            let world = sim::run_seed(seed, replay(seed));
            let mut tally = tally.lock().expect("nobody panics with the lock");
            for (outcome, times) in &world.trace.tally {
                *tally.entry(*outcome).or_insert(0u64) += times;
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(run);
        }
    });
    let tally = tally.into_inner().expect("nobody panics with the lock");
    println!("{tally:?}");
    // Two sources in one place of 16,384: worlds of it there are few, unless strangers are not limited at all.
    let forgotten = tally.get(&("forgotten", 0)).copied().unwrap_or(0);
    assert!(forgotten <= 1 + (seeds.end - seeds.start) / 1000, "{forgotten} worlds forgot a stranger");
    if seeds.end - seeds.start >= SEEDS {
        for (name, codes) in REACHED {
            for code in *codes {
                assert!(tally.contains_key(&(*name, *code)), "no seed comes upon {name} {code}");
            }
        }
    }
}

/// INV-11: the same seed, input and clock give the same output, to the byte, after every step.
#[test]
fn the_same_seed_gives_the_same_run() {
    let hashes: Vec<_> = (0..8).map(|seed| sim::run_twice(seed, replay(seed))).collect();
    assert!(hashes.windows(2).all(|pair| pair[0] != pair[1]), "another seed is another run");
}

// [whole package] tests/mutants.sh leaves this out.

#[test]
fn the_inputs_of_the_fuzz_targets_pass() {
    for (target, body) in sim::corpus::TARGETS {
        sim::corpus::folder::replay(target, *body);
    }
}

#[test]
fn one_input_of_server_ops_replays() {
    if let Ok(path) = std::env::var("TURNPIKE_SIM_BYTES") {
        let bytes = std::fs::read(&path).expect("TURNPIKE_SIM_BYTES names a file");
        drop(sim::run_bytes(&bytes, format!("TURNPIKE_SIM_BYTES={path} cargo test --test sim one_input")));
    }
}

#[test]
#[ignore = "writes the seeds of the fuzz targets to fuzz/corpus"]
fn write_the_seeds_of_the_fuzz_targets() {
    sim::corpus::write();
}

// [pure floors]
