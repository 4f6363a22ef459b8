//! ChannelData: read as the format says, and written back.

#![no_main]

#[allow(dead_code)]
#[path = "../../tests/sim/mod.rs"]
mod sim;

libfuzzer_sys::fuzz_target!(|input: &[u8]| sim::formats::channel_data(input));
