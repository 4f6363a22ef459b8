//! The simulator under a fuzzer's choices: every step is compared with the model.

#![no_main]

#[allow(dead_code)]
#[path = "../../tests/sim/mod.rs"]
mod sim;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let replay = String::from("TURNPIKE_SIM_BYTES=<the artifact> cargo test --test sim one_input");
    drop(sim::run_bytes(input, replay));
});
