//! Configurations, coturn's too, and the files they name.

#![no_main]

#[allow(dead_code)]
#[path = "../../tests/corpus/mod.rs"]
mod corpus;

libfuzzer_sys::fuzz_target!(|input: &[u8]| corpus::config::config(input));
