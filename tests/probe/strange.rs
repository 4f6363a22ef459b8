//! Against what is no server, or less of one than it seems; and what is no question.

use super::ports::LOOPBACK;
use super::runs::{Scratch, probe, run};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::time::{SystemTime, UNIX_EPOCH};
use turnpike::wire::attribute;
use turnpike::wire::stun::{Class, Message, Method, Writer};

/// A server that answers as long as the program runs: what it makes of each datagram is sent back.
fn answering(answer: impl Fn(&Message<'_>, SocketAddr, &mut [u8]) -> Option<usize> + Send + 'static) -> SocketAddr {
    let socket = UdpSocket::bind((LOOPBACK[0], 0)).expect("the kernel has a free port");
    let addr = socket.local_addr().expect("it has an address");
    std::thread::spawn(move || {
        let (mut datagram, mut out) = ([0; 2048], [0; 2048]);
        while let Ok((len, from)) = socket.recv_from(&mut datagram) {
            let written = Message::parse(&datagram[..len]).ok().and_then(|message| answer(&message, from, &mut out));
            if let Some(len) = written {
                let _ = socket.send_to(&out[..len], from);
            }
        }
    });
    addr
}

fn bound(message: &Message<'_>, from: SocketAddr, out: &mut [u8]) -> Option<usize> {
    if message.method() != Method::BINDING {
        return None;
    }
    Writer::new(out, Class::Success, Method::BINDING, message.transaction_id())
        .push(attribute::SOFTWARE, b"small\x1b[31m stun")
        .push_xor_address(attribute::XOR_MAPPED_ADDRESS, from)
        .finish()
        .ok()
}

#[test]
fn a_server_that_only_does_stun() {
    let server = answering(bound);
    let stun = probe(&[&format!("stun:{server}")]);
    assert_eq!(stun.code, Some(0), "{}", stun.printed);
    let report = stun.report();
    assert_eq!(report["targets"][0]["software"], "small[31m stun", "what a server calls itself moves no cursor");
    stun.expect("allocation", "skip", &["asks for no relay"]);

    let turn = probe(&[&format!("turn:{server}"), "--user", "a", "--password", "b", "--timeout", "1s"]);
    assert_eq!(turn.code, Some(1));
    turn.expect("binding", "pass", &[]);
    turn.expect("allocation", "fail", &["no answer to Allocate", " tries and 1 s", "STUN alone"]);
}

#[test]
fn a_server_that_never_stops_talking_does_not_keep_the_probe() {
    let listener = TcpListener::bind((LOOPBACK[0], 0)).unwrap();
    let addr = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        // Empty ChannelData, thousands at a write: there is always another one to read.
        let chatter = [0x40, 0, 0, 0].repeat(1 << 14);
        for mut stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn({
                let chatter = chatter.clone();
                move || while stream.write_all(&chatter).is_ok() {}
            });
        }
    });
    let run = probe(&[&format!("turn:{addr}?transport=tcp"), "--timeout", "1s"]);
    assert_eq!(run.code, Some(1));
    run.expect("connect", "pass", &[]);
    run.expect("binding", "warn", &["no answer to Binding", " 1 s"]);
    run.expect("allocation", "fail", &["no answer to Allocate", " 1 s"]);
}

#[test]
fn a_server_that_refuses_everything() {
    for (code, word) in
        [(486, "limits.allocations_per_user"), (508, "relay.ports"), (403, "does not serve"), (300, "another one")]
    {
        let server = answering(move |message, from, out| match message.method() {
            Method::BINDING => bound(message, from, out),
            method => Writer::new(out, Class::Error, method, message.transaction_id()).push_error(code).finish().ok(),
        });
        let run = probe(&[&format!("turn:{server}"), "--user", "a", "--password", "b"]);
        assert_eq!(run.code, Some(1));
        run.expect("allocation", "fail", &[&format!("({code})"), word]);
    }
}

/// What a server answers to a credential whose clock is so many seconds ahead: it challenges, and refuses what is over.
fn ahead(message: &Message<'_>, ahead_s: i64, out: &mut [u8]) -> Option<usize> {
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64;
    let user = message.get(attribute::USERNAME).and_then(|user| std::str::from_utf8(user).ok());
    let ends_s: Option<i64> = user.and_then(|user| user.split_once(':')).and_then(|(ends, _)| ends.parse().ok());
    let is_good = ends_s.is_some_and(|ends_s| ends_s > now_s + ahead_s);
    let code = if is_good { 437 } else { 401 };
    Writer::new(out, Class::Error, message.method(), message.transaction_id())
        .push_error(code)
        .push(attribute::REALM, b"example.org")
        .push(attribute::NONCE, b"nonce")
        .finish()
        .ok()
}

#[test]
fn a_wrong_clock_is_told_from_a_wrong_secret() {
    for (ahead_s, words) in [
        (7200, ["2 h ahead of this machine's", "set both by NTP"]),
        (-120, ["2 min behind this machine's", "good for 2 min longer"]),
    ] {
        let server = answering(move |message, from, out| match message.method() {
            Method::BINDING => bound(message, from, out),
            _ => ahead(message, ahead_s, out),
        });
        let run = probe(&[&format!("turn:{server}"), "--secret", "any"]);
        run.expect("clock", "warn", &words);
        let told_s = run.steps(0)["clock"]["ahead_s"].as_i64().expect("it is measured");
        assert!((told_s - ahead_s).abs() <= 2, "{told_s} s, not {ahead_s} s");
        if ahead_s > 0 {
            run.expect("allocation", "fail", &["(401)", words[0], "set both by NTP"]);
        }
    }
}

#[test]
fn nothing_there_and_somebody_who_says_nothing() {
    // Each port is taken by the other protocol, so that nobody else listens there.
    let (tcp, udp) = (TcpListener::bind((LOOPBACK[0], 0)).unwrap(), UdpSocket::bind((LOOPBACK[0], 0)).unwrap());
    let by_udp = probe(&[&format!("turn:{}", tcp.local_addr().unwrap())]);
    assert_eq!(by_udp.code, Some(1));
    by_udp.expect("connect", "fail", &["nothing listens at this port by UDP"]);
    let by_tcp = probe(&[&format!("turn:{}?transport=tcp", udp.local_addr().unwrap())]);
    by_tcp.expect("connect", "fail", &["nothing listens at this port by TCP"]);
    let silent = probe(&[&format!("stun:{}", udp.local_addr().unwrap()), "--timeout", "1s"]);
    assert_eq!(silent.code, Some(1));
    silent.expect("connect", "fail", &[" tries: a firewall drops UDP, or nothing listens there"]);
}

#[test]
fn a_port_that_speaks_something_else() {
    let listener = TcpListener::bind((LOOPBACK[0], 0)).unwrap();
    let addr = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(b"HTTP/1.0 400 Bad Request\r\n\r\n");
        }
    });
    let tls = probe(&[&format!("turns:{addr}"), "--insecure"]);
    tls.expect("connect", "fail", &["answers, but not by TLS"]);
    let tcp = probe(&[&format!("turn:{addr}?transport=tcp")]);
    tcp.expect("connect", "pass", &[]);
    tcp.expect("binding", "fail", &["closed the connection (it may speak another protocol here)"]);
}

#[test]
fn what_can_not_be_asked_is_said_before_anything_is() {
    let scratch = Scratch::new();
    let empty = scratch.file("empty", "\n");
    for (arguments, code, words) in [
        (&["http://relay"][..], 2, "write turn:HOST"),
        (&["turn:127.0.0.1", "--user", "alice"], 1, "alice has no password: give --password-file"),
        (&["turn:127.0.0.1", "--user", "alice", "--password-file", &empty], 1, "is empty"),
        (&["turn:127.0.0.1", "--password", "x"], 1, "a password needs its --user"),
        (&["turn:127.0.0.1", "--user", "a", "--password-file", "x", "--secret-file", "y"], 2, "cannot be used with"),
        (&["turn:127.0.0.1", "--secret-file", "/nowhere/secret"], 1, "/nowhere/secret can not be read"),
        (&["turn:127.0.0.1", "--timeout", "0"], 1, "--timeout is 1 s to 7 s"),
        (&["turn:127.0.0.1", "--max-loss", "2"], 1, "--max-loss is between 0 and 1"),
        (&["turn:127.0.0.1", "--packets", "1001"], 2, "1001"),
        (&["turns:127.0.0.1?transport=udp"], 1, "nothing could be tried"),
        (&["turn:127.0.0.1", "-6"], 1, "1 of 1 failed"),
    ] {
        let run = run(arguments);
        assert_eq!(run.code, Some(code), "{arguments:?}: {}", run.said);
        assert!(run.said.contains(words), "{arguments:?}: {}", run.said);
    }
}
