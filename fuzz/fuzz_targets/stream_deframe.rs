//! Frames of a stream: the same however it is cut, none too long, always on.

#![no_main]

#[allow(dead_code)]
#[path = "../../tests/sim/mod.rs"]
mod sim;

libfuzzer_sys::fuzz_target!(|input: &[u8]| sim::formats::stream_deframe(input));
