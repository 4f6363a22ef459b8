//! What an operator changes under a running server, and how one that drains ends.

use super::certificate;
use super::client::{Caller, Peer, pattern};
use super::link::{Stream, Via};
use super::ports::LOOPBACK;
use super::server::Server;
use crate::wire_client::{BOB, allocate, permit, refresh};
use rustls::version::TLS13;
use serde_json::Value;

/// Has the configuration read again; the line of the log that says what came of it.
fn reload(server: &Server, outcome: &str) -> Value {
    server.signal("HUP");
    serde_json::from_str(&server.log_until(outcome)).expect("a line of the log is JSON")
}

#[test]
fn a_reload_takes_new_users_and_keeps_the_sessions_of_old_ones() {
    let server = Server::start(&["workers=2"]);
    let udp = server.addr("udp", LOOPBACK[0]);
    let (mut alice, relayed) = Caller::allocated(Via::Udp, udp);
    let peer = Peer::new(LOOPBACK[0]);
    alice.permit(&[peer.addr()]);
    let mut dave = Caller::as_user(("dave", "denim"), Via::Udp, udp);
    assert_eq!(dave.ask(allocate()).code(), 401);

    server.write(
        "turnpike.toml",
        "realm = \"example.org\"\nworkers = 1\n[relay]\nallow_loopback_peers = true\nports = \"50000-50001\"\n\
         [tls]\ncert = \"cert.pem\"\nkey = \"key.pem\"\n\
         [http]\nlisten = \"\"\nadmin_listen = \"\"\nadmin_socket = \"\"\n\
         [auth]\nusers = { dave = \"denim\" }\n[limits]\nunverified_per_second = 0\n[log]\nformat = \"json\"\n",
    );
    let line = reload(&server, "\"reloaded\"");
    assert_eq!(line["applied"], "auth.users.alice, auth.users.bob, auth.users.dave");
    let line: Value = serde_json::from_str(&server.log_until("a restart is needed")).expect("it is JSON");
    let keys = line["keys"].as_str().expect("it names them");
    assert!(keys.contains("listen.udp") && !keys.contains("auth"), "{keys}");

    let mut dave = Caller::as_user(("dave", "denim"), Via::Udp, udp);
    assert_eq!(dave.code(allocate()), 0);
    assert_eq!(alice.code(refresh(600)), 0, "her session goes on");
    peer.send(relayed, &pattern(1, 100));
    alice.receive();
    assert_eq!(Caller::new(Via::Udp, udp).ask(allocate()).code(), 401, "she does not get another");
    server.stop();
}

#[test]
fn a_faulty_configuration_is_refused_whole_and_the_old_one_stays() {
    let server = Server::start(&[]);
    let udp = server.addr("udp", LOOPBACK[0]);
    server.write("turnpike.toml", "[auth]\nusers = { eve = \"x\" }\nsecret = \"0123456789abcdef\"\n");
    server.signal("HUP");
    let line = server.log_until("reload refused");
    assert!(line.contains("the old configuration stays") && line.contains("turnpike.toml:3"), "{line}");
    assert_eq!(Caller::new(Via::Udp, udp).code(allocate()), 0);
    assert_eq!(Caller::as_user(("eve", "x"), Via::Udp, udp).ask(allocate()).code(), 401);
    server.signal("TERM");
    assert_eq!(server.wait().0.code(), Some(0));
}

#[test]
fn a_tightened_policy_ends_permissions_that_it_forbids() {
    let server = Server::start(&[]);
    let (mut alice, relayed) = Caller::allocated(Via::Udp, server.addr("udp", LOOPBACK[0]));
    let peer = Peer::new(LOOPBACK[0]);
    alice.permit(&[peer.addr()]);
    server.write(
        "turnpike.toml",
        "realm = \"example.org\"\nworkers = 1\n[http]\nlisten = \"\"\nadmin_listen = \"\"\nadmin_socket = \"\"\n\
         [auth]\nusers = { alice = \"wonderland\" }\n[limits]\nunverified_per_second = 0\n[log]\nformat = \"json\"\n",
    );
    reload(&server, "\"reloaded\"");
    peer.send(relayed, b"no more");
    assert_eq!(alice.delivered(), []);
    assert_eq!(alice.code(permit(&[peer.addr()])), 403);
    server.stop();
}

#[test]
fn a_renewed_certificate_is_presented_to_new_connections() {
    let server = Server::start(&[]);
    let tls = server.addr("tls", LOOPBACK[0]);
    let (mut old, _) = Caller::allocated(Via::Tls13, tls);
    let renewed = rcgen::generate_simple_self_signed([certificate::NAME.to_owned()]).expect("it is made");
    server.write("cert.pem", &renewed.cert.pem());
    server.write("key.pem", &renewed.signing_key.serialize_pem());
    let line = reload(&server, "\"reloaded\"");
    assert_eq!(line["applied"], "tls.cert, tls.key");
    let trusting = |chain| Stream::tls(tls, certificate::client_of(chain, &[&TLS13], &[]));
    assert!(trusting(vec![renewed.cert.der().clone()]).is_ok());
    assert!(Stream::tls(tls, certificate::client(&[&TLS13], &[])).is_err(), "the old one is gone");
    assert_eq!(old.code(refresh(600)), 0, "who was there before has noticed nothing");
    server.stop();
}

#[test]
fn limits_and_how_much_is_logged_change_too() {
    let server = Server::start(&[]);
    let udp = server.addr("udp", LOOPBACK[0]);
    let _first = Caller::allocated(Via::Udp, udp);
    let configuration = |limits: &str, level: &str| {
        format!(
            "realm = \"example.org\"\nworkers = 1\n[http]\nlisten = \"\"\nadmin_listen = \"\"\nadmin_socket = \"\"\n\
             [auth]\nusers = {{ alice = \"wonderland\", bob = \"builder\" }}\n\
             [limits]\nunverified_per_second = 0\n{limits}\n[log]\nformat = \"json\"\nlevel = \"{level}\"\n"
        )
    };
    server.write("turnpike.toml", &configuration("allocations_per_user = 1", "debug"));
    let line = reload(&server, "\"reloaded\"");
    let applied = line["applied"].as_str().expect("it names them");
    assert!(applied.contains("limits.allocations_per_user") && applied.contains("log.level"), "{applied}");
    assert_eq!(Caller::new(Via::Udp, udp).code(allocate()), 486);
    let mut bob = Caller::as_user(BOB, Via::Udp, udp);
    assert_eq!(bob.code(allocate()), 0);
    server.log_until("\"allocated\"");
    server.write("turnpike.toml", &configuration("allocations = 2", "info"));
    reload(&server, "\"reloaded\"");
    assert_eq!(Caller::as_user(BOB, Via::Udp, udp).code(allocate()), 508);
    bob.end();
    assert_eq!(Caller::new(Via::Udp, udp).code(allocate()), 0);
    server.stop();
}

#[test]
fn a_certificate_that_is_renewed_needs_no_signal() {
    let server = Server::start(&[]);
    let tls = server.addr("tls", LOOPBACK[0]);
    let renewed = rcgen::generate_simple_self_signed([certificate::NAME.to_owned()]).expect("it is made");
    server.write("cert.pem", &renewed.cert.pem());
    server.write("key.pem", &renewed.signing_key.serialize_pem());
    server.log_until("\"reloaded\"");
    let chain = vec![renewed.cert.der().clone()];
    assert!(Stream::tls(tls, certificate::client_of(chain, &[&TLS13], &[])).is_ok());
    server.stop();
}

#[test]
fn a_draining_server_refuses_the_new_and_ends_with_the_last_of_the_old() {
    let server = Server::start(&["workers=2"]);
    let udp = server.addr("udp", LOOPBACK[0]);
    let (mut first, _) = Caller::allocated(Via::Udp, udp);
    let (mut second, _) = Caller::allocated(Via::Tcp, server.addr("tcp", LOOPBACK[0]));
    server.signal("USR1");
    server.log_until("draining");
    assert_eq!(Caller::new(Via::Udp, udp).code(allocate()), 508);
    assert_eq!(first.code(refresh(600)), 0);
    first.end();
    assert_eq!(second.code(refresh(600)), 0);
    second.end();
    let (status, _) = server.wait();
    assert_eq!(status.code(), Some(0));
}
