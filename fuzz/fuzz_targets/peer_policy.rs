//! Which peers may be reached, under any lists.

#![no_main]

#[allow(dead_code)]
#[path = "../../tests/sim/mod.rs"]
mod sim;

libfuzzer_sys::fuzz_target!(|input: &[u8]| sim::peers::peer_policy(input));
