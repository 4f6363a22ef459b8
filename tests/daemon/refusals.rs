//! What the log says of requests that are refused: the rule that decided, and never more than it can bear.

use super::client::Caller;
use super::link::Via;
use super::ports::LOOPBACK;
use super::server::Server;
use crate::wire_client::{ALICE, BOB, allocate, permit, refresh};
use serde_json::Value;

/// The next refusal in the log.
fn refusal(server: &Server) -> Value {
    serde_json::from_str(&server.log_until("\"request refused\"")).expect("a line of the log is JSON")
}

/// Method, code and rule of a refusal.
fn decided(line: &Value) -> (&str, u64, &str) {
    let text = |field: &str| line[field].as_str().expect("the field is text");
    (text("method"), line["code"].as_u64().expect("a code"), text("rule"))
}

#[test]
fn a_refusal_is_logged_with_the_rule_that_decided() {
    let server = Server::start(&["limits.allocations_per_user=1", "relay.deny_peers=[\"9.9.9.0/24\"]"]);
    let udp = server.addr("udp", LOOPBACK[0]);
    let (mut alice, _) = Caller::allocated(Via::Udp, udp);
    for (peer, rule) in
        [("10.0.0.1:5000", "private network 10.0.0.0/8, a default"), ("9.9.9.9:5000", "9.9.9.0/24 of relay.deny_peers")]
    {
        let peer = peer.parse().expect("an address and a port");
        assert_eq!(alice.code(permit(&[peer])), 403);
        let line = refusal(&server);
        assert_eq!(decided(&line), ("create_permission", 403, rule));
        assert_eq!((&line["user"], &line["client"]), (&"alice".into(), &alice.local_addr().to_string().into()));
    }
    let mut second = Caller::new(Via::Udp, udp);
    assert_eq!(second.code(allocate()), 486);
    assert_eq!(decided(&refusal(&server)), ("allocate", 486, "limits.allocations_per_user"));
    let mut guess = Caller::as_user((BOB.0, "a guess"), Via::Udp, udp);
    assert_eq!(guess.code(allocate()), 401);
    // It takes the answer for a stale nonce and tries again.
    for _ in 0..2 {
        let line = refusal(&server);
        assert_eq!((decided(&line), &line["user"]), (("allocate", 401, "wrong password"), &"bob".into()));
    }
    let mut lost = Caller::as_user(ALICE, Via::Udp, udp);
    assert_eq!(lost.code(refresh(600)), 437);
    assert_eq!(decided(&refusal(&server)), ("refresh", 437, "allocation mismatch"));
    server.stop();
}

#[test]
fn a_flood_of_refusals_is_logged_as_a_number() {
    const REQUESTS: u64 = 200;
    let server = Server::start(&[]);
    let mut caller = Caller::new(Via::Tcp, server.addr("tcp", LOOPBACK[0]));
    for _ in 0..REQUESTS {
        assert_eq!(caller.code(refresh(600)), 437);
    }
    let (mut told, mut untold) = (0, 0);
    while told + untold < REQUESTS {
        // Both lines say `refused`, and nothing else does.
        let line: Value = serde_json::from_str(&server.log_until("refused")).expect("a line of the log is JSON");
        match line["requests"].as_u64() {
            Some(requests) => untold += requests,
            None => told += 1,
        }
    }
    assert_eq!(told + untold, REQUESTS, "none is lost");
    assert!((20..REQUESTS).contains(&told), "{told} were told one by one");
    server.stop();
}
