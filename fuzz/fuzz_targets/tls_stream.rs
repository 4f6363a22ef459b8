//! Connections by TCP and TLS, in any pieces.

#![no_main]

#[allow(dead_code)]
#[path = "../../tests/corpus/mod.rs"]
mod corpus;

libfuzzer_sys::fuzz_target!(|input: &[u8]| corpus::tls::tls_stream(input));
