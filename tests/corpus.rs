//! The inputs of the fuzz targets for text and streams, and their seeds (see `corpus/mod.rs`).

#[path = "corpus/mod.rs"]
mod corpus;

use corpus::folder::replay;
use std::time::Duration;

#[test]
fn the_inputs_of_config_pass() {
    replay("config", corpus::config::config);
}

#[test]
fn the_inputs_of_http_ws_step_pass() {
    replay("http_ws_step", corpus::http::http_ws_step);
}

#[test]
fn the_inputs_of_tls_stream_pass() {
    replay("tls_stream", corpus::tls::tls_stream);
}

#[test]
fn a_foreign_implementation_writes_and_reads_what_is_meant() {
    assert!(corpus::foreign_stun::check() >= 240);
}

#[test]
fn whoever_never_closes_after_the_last_answer_is_left() {
    let (linger, patience) = (Duration::from_millis(20), Duration::from_secs(10));
    for request in [&b"GET\r\n"[..], b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"] {
        assert!(corpus::plane::leaves_who_never_closes(request, linger, patience));
    }
}

/// `TURNPIKE_CORPUS_INPUT=TARGET:FILE` runs one input.
#[test]
fn one_input_replays() {
    let Ok(named) = std::env::var("TURNPIKE_CORPUS_INPUT") else { return };
    let (target, path) = named.split_once(':').expect("TURNPIKE_CORPUS_INPUT is TARGET:FILE");
    let bytes = std::fs::read(path).expect("TURNPIKE_CORPUS_INPUT names a file");
    match target {
        "config" => corpus::config::config(&bytes),
        "http_ws_step" => corpus::http::http_ws_step(&bytes),
        "tls_stream" => corpus::tls::tls_stream(&bytes),
        _ => panic!("{target} is not a target of this file"),
    }
}

#[test]
#[ignore = "writes the seeds of the fuzz targets to fuzz/corpus"]
fn write_the_seeds_of_the_fuzz_targets() {
    corpus::seeds::write();
}
