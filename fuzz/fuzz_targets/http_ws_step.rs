//! Requests and WebSockets, as the side plane meets them.

#![no_main]

#[allow(dead_code)]
#[path = "../../tests/corpus/mod.rs"]
mod corpus;

libfuzzer_sys::fuzz_target!(|input: &[u8]| corpus::http::http_ws_step(input));
