//! A message that bytes describe, written and read twice.

#![no_main]

#[allow(dead_code)]
#[path = "../../tests/sim/mod.rs"]
mod sim;

libfuzzer_sys::fuzz_target!(|input: &[u8]| sim::roundtrip::stun_roundtrip(input));
