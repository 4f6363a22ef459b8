//! STUN messages: read, compared with a plain reader, decoded, verified, written again.

#![no_main]

#[allow(dead_code)]
#[path = "../../tests/sim/mod.rs"]
mod sim;

libfuzzer_sys::fuzz_target!(|input: &[u8]| sim::formats::stun_parse(input));
