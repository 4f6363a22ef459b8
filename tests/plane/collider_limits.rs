//! What a socket may do, at each limit and one beyond.

use super::super::fixture::{Fixture, Wire, wait_until};
use super::client::Talker;
use super::status;
use serde_json::json;
use std::io::Write;
use tungstenite::Message;
use turnpike::http::Network;

/// Bytes of the longest frame.
const FRAME_MAX: usize = 64 << 10;

fn of_len(len: usize) -> String {
    let frame = |text: &str| json!({ "cmd": "send", "msg": text }).to_string();
    frame(&"x".repeat(len - frame("").len()))
}

/// A masked frame of a client, with a mask of zeros.
pub fn frame(first_byte: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first_byte];
    match payload.len() {
        len @ 0..126 => bytes.push(0x80 | len as u8),
        len => {
            bytes.push(0x80 | 126);
            bytes.extend(u16::try_from(len).expect("it is short").to_be_bytes());
        }
    }
    bytes.extend([0; 4]);
    bytes.extend(payload);
    bytes
}

#[test]
fn a_frame_is_64_kib_and_not_a_byte_more() {
    let fixture = Fixture::start();
    let mut a = Talker::registered(fixture.public, "abc", "1");
    let mut b = Talker::registered(fixture.public, "abc", "2");
    a.write(Message::text(of_len(FRAME_MAX)));
    assert!(b.hear().unwrap().len() > FRAME_MAX - 64);
    a.write(Message::text(of_len(FRAME_MAX + 1)));
    assert_eq!(a.refused(), ("Message too long".into(), Some(1009)));
    assert_eq!(b.drain(), Vec::<String>::new());
    // In pieces, too.
    let mut c = Talker::open(fixture.public);
    let half = of_len(FRAME_MAX + 1);
    let (start, end) = half.as_bytes().split_at(FRAME_MAX / 2);
    c.raw().write_all(&[frame(0x01, start), frame(0x80, end)].concat()).unwrap();
    assert_eq!(c.refused().1, Some(1009));
}

#[test]
fn what_is_far_too_long_ends_the_socket_before_it_is_read() {
    let fixture = Fixture::start();
    let mut talker = Talker::open(fixture.public);
    // A frame that says it is 2⁴⁰ bytes long.
    let mut head = vec![0x81, 0xff];
    head.extend((1u64 << 40).to_be_bytes());
    head.extend([0; 4]);
    talker.raw().write_all(&head).unwrap();
    assert_eq!(talker.ended(), Some(1009));
}

#[test]
fn frames_that_no_client_may_send_end_the_socket() {
    let fixture = Fixture::start();
    let unmasked = vec![0x81, 0x02, b'{', b'}'];
    let cases: [(&str, Vec<u8>, u16); 9] = [
        ("unmasked", unmasked, 1002),
        ("a reserved bit", frame(0xc1, b"{}"), 1002),
        ("a reserved opcode", frame(0x83, b"{}"), 1002),
        ("a reserved control opcode", frame(0x8b, b"{}"), 1002),
        ("a ping that is too long", frame(0x89, &[0; 126]), 1002),
        ("a ping in pieces", frame(0x09, b"x"), 1002),
        ("a continuation of nothing", frame(0x80, b"{}"), 1002),
        ("a new message inside another", [frame(0x01, b"{"), frame(0x81, b"}")].concat(), 1002),
        ("text that is none", frame(0x81, b"\"\xff\""), 1007),
    ];
    for (what, bytes, code) in cases {
        let mut talker = Talker::open(fixture.public);
        talker.raw().write_all(&bytes).unwrap();
        assert_eq!(talker.ended(), Some(code), "{what}");
    }
}

#[test]
fn a_ping_of_125_bytes_is_answered() {
    let fixture = Fixture::start();
    assert!(Talker::open(fixture.public).ping(&[7; 125]));
}

#[test]
fn a_socket_that_does_not_register_in_time_is_closed() {
    let fixture = Fixture::with(|live| live.rooms.as_mut().unwrap().grace_ms = 200);
    let mut idle = Talker::open(fixture.public);
    assert_eq!(idle.ended(), Some(1008));
    let mut unsure = Talker::open(fixture.public);
    // Nor does talking of something else help.
    assert_eq!(unsure.drain(), Vec::<String>::new());
    assert_eq!(unsure.ended(), Some(1008));
}

#[test]
fn sockets_are_pinged_and_those_that_answer_stay() {
    let fixture = Fixture::with(|live| {
        let limits = live.rooms.as_mut().unwrap();
        (limits.ping_ms, limits.silence_ms) = (100, 1_000);
    });
    let mut talker = Talker::registered(fixture.public, "abc", "1");
    let _silent = Talker::registered(fixture.public, "abc", "2");
    assert_eq!(status(&fixture)["openws"], 2);
    // Twice as long as one may be silent.
    (0..20).for_each(|_| talker.answer_ping());
    assert_eq!(status(&fixture)["openws"], 1, "one of them answered");
    assert!(talker.ping(b"still here"));
}

#[test]
fn a_reader_too_slow_is_closed_and_the_room_goes_on() {
    let fixture = Fixture::with(|live| live.rooms.as_mut().unwrap().clients_per_room = 3);
    let mut slow = Talker::registered(fixture.public, "abc", "slow");
    let mut quick = Talker::registered(fixture.public, "abc", "quick");
    let errors = status(&fixture)["wserrors"].clone();
    let text = "x".repeat(60_000);
    let mut wire = Wire::connect(fixture.public);
    let mut said = 0;
    // The kernel holds some megabytes for it.
    while status(&fixture)["wserrors"] == errors {
        assert!(said < 900, "{said} messages of 60 kB wait for one that does not read");
        assert_eq!(wire.ask("POST", "/collider/abc/poster", &[], &text).status, 200, "nobody waits for it");
        assert_eq!(quick.hear().as_ref(), Ok(&text));
        said += 1;
    }
    assert_eq!(slow.ended(), Some(1013));
    quick.send("on we go");
    assert_eq!(quick.drain(), Vec::<String>::new());
}

#[test]
fn a_source_has_twenty_sockets() {
    let proxy = Network { ip: [127, 0, 0, 1].into(), prefix_len: 32 };
    let fixture = Fixture::with(|live| live.trusted_proxies = vec![proxy]);
    let open = |source| Talker::open_with(fixture.public, &[("X-Forwarded-For", source)]);
    let mut sockets: Vec<_> = (0..20).map(|_| open("192.0.2.1").expect("it is one of twenty")).collect();
    assert_eq!(open("192.0.2.1").err(), Some(429));
    assert_eq!(open("2001:db8:0:ff::1").err(), None);
    sockets.pop().expect("there are twenty").close(1000);
    wait_until("the place is free again", || open("192.0.2.1").is_ok());
    let here: Vec<_> = (0..21).map(|_| Talker::open(fixture.public)).collect();
    assert_eq!(here.len(), 21, "the proxy itself may have more");
}

#[test]
fn a_source_takes_sixty_seats_a_minute_by_any_protocol() {
    let proxy = Network { ip: [127, 0, 0, 1].into(), prefix_len: 32 };
    let fixture = Fixture::with(|live| live.trusted_proxies = vec![proxy]);
    let from = |source| [("X-Forwarded-For", source)];
    let mut wire = Wire::connect(fixture.public);
    let mut post = |room: usize| wire.ask("POST", &format!("/collider/room{room}/1"), &from("192.0.2.1"), "x").status;
    (0..60).for_each(|room| assert_eq!(post(room), 200, "{room}"));
    // A second gives one back.
    let refused = (100..110).filter(|room| post(*room) == 429).count();
    assert!(refused >= 5, "{refused} of ten");
    assert_eq!(post(0), 200, "who has its seat may talk");
    let register = |room: usize, source| {
        let mut talker = Talker::open_with(fixture.public, &from(source)).expect("it is one of twenty");
        talker.say(&json!({ "cmd": "register", "roomid": format!("room{room}"), "clientid": "1" }));
        talker.say(&json!({ "cmd": "is it so?" }));
        (talker.hear().expect_err("nobody says anything"), talker)
    };
    assert_eq!(register(0, "192.0.2.1").0, super::UNEXPECTED, "who has its seat may come to it");
    assert_eq!(register(300, "192.0.2.2").0, super::UNEXPECTED, "others are not concerned");
    let outcomes: Vec<_> = (200..210).map(|room| register(room, "192.0.2.1")).collect();
    let refused = outcomes.iter().filter(|(error, _)| error == "Too many registrations").count();
    assert!(refused >= 5, "{refused} of ten");
}

#[test]
fn a_socket_says_a_hundred_things_at_once_and_not_many_more() {
    let fixture = Fixture::start();
    let mut a = Talker::open(fixture.public);
    a.say(&json!({ "cmd": "register", "roomid": "abc", "clientid": "1" }));
    (0..98).for_each(|n| a.send(&n.to_string()));
    assert_eq!(a.drain(), Vec::<String>::new());
    let mut flooded = Talker::open(fixture.public);
    let frame = Message::text(json!({ "cmd": "?" }).to_string());
    // Fifty a second come back, and these take no second.
    let said = (0..300).take_while(|_| flooded.try_write(frame.clone())).count();
    assert!(said >= 100);
    loop {
        match flooded.hear() {
            Err(error) if error == super::UNEXPECTED => {}
            other => break assert_eq!(other, Err("Too many messages".into())),
        }
    }
    assert_eq!(flooded.ended(), Some(1008));
}

#[test]
fn a_client_that_lost_its_network_gets_its_seat_back_from_its_dead_socket() {
    let fixture = Fixture::start();
    // It neither reads nor closes: its phone went to another network.
    let _dead = Talker::registered(fixture.public, "abc", "1");
    let mut peer = Talker::registered(fixture.public, "abc", "2");
    let (mut attempts, mut again) = (0, None);
    wait_until("the dead socket is given up", || {
        attempts += 1;
        let mut talker = Talker::open(fixture.public);
        talker.say(&json!({ "cmd": "register", "roomid": "abc", "clientid": "1" }));
        talker.say(&json!({ "cmd": "is it so?" }));
        let heard = talker.hear().expect_err("nobody says anything yet");
        if heard == super::UNEXPECTED {
            again = Some(talker);
        } else {
            assert_eq!(heard, "Duplicated registration");
        }
        again.is_some()
    });
    assert!(attempts > 1, "a socket that may live is not given up at once");
    peer.send("for the new one");
    assert_eq!(again.unwrap().hear().as_deref(), Ok("for the new one"));
}
