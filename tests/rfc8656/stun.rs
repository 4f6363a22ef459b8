//! RFC 8489: what is a message, what is answered, and with what.

use crate::peer4;
use crate::wire_client::*;
use turnpike::turn::{DropReason, Framing, Transport, Verdict};
use turnpike::wire::attribute;
use turnpike::wire::integrity::MacKind;
use turnpike::wire::stun::{Class, Method};

/// A comprehension-required attribute nobody knows.
const UNKNOWN: u16 = 0x7FFF;

#[test]
fn cf_01_s6_3_what_is_no_request_for_a_server_meets_silence() {
    let mut world = World::new();
    let alice = world.allocated();
    let good = binding().encode();
    let edit = |at: usize, value: u8| {
        let mut edited = good.clone();
        edited[at] = value;
        edited
    };
    for (why, bytes) in [
        ("the first two bits", edit(0, 0x80)),
        ("the cookie", edit(4, 0x22)),
        ("a length that is no multiple of four", edit(3, 1)),
        ("a length beyond the bytes", edit(3, 4)),
        ("a length short of the bytes", edit(2, 0).into_iter().chain([0; 4]).collect()),
        ("an unknown method", request(Method::from_bits(0x0FF)).encode()),
        ("a method of RFC 6062", request(Method::CONNECT).encode()),
        ("a request of a method of indications", request(Method::SEND).encode()),
        ("an indication of a method of requests", indication(Method::ALLOCATE).encode()),
        ("an indication only servers send", indication(Method::DATA).encode()),
        ("a success nobody waits for", Draft::new(Class::Success, Method::BINDING).encode()),
        ("an error nobody waits for", Draft::new(Class::Error, Method::BINDING).encode()),
    ] {
        let reason = world.silence(&alice.sender, &bytes);
        assert!(matches!(reason, DropReason::Malformed | DropReason::Unexpected), "{why}: {reason:?}");
    }
    assert_eq!(world.answer(&alice.sender, &good).code(), 0);
}

#[test]
fn cf_02_s6_3_a_wrong_fingerprint_is_discarded() {
    let mut world = World::new();
    let mut message = binding().encode();
    push_fingerprint(&mut message);
    let from = udp("192.0.2.1:4000");
    assert!(world.answer(&from, &message).has(attribute::FINGERPRINT), "it is answered in kind");
    for at in [0, 8, message.len() - 1] {
        let mut edited = message.clone();
        edited[at] ^= 0x02;
        assert_eq!(world.silence(&from, &edited), DropReason::Fingerprint, "byte {at}");
    }
}

#[test]
fn cf_03_s6_3_optional_and_unexpected_attributes_are_ignored() {
    let mut world = World::new();
    let alice = world.alice();
    for kind in [0x8000, 0x8022, 0x8030, 0xC001, 0xFFFF] {
        let reply = world.answer(&alice.sender, &binding().with(kind, &b"whatever"[..]).encode());
        assert_eq!(reply.code(), 0, "optional {kind:#06x}");
    }
    let unexpected = [attribute::XOR_PEER_ADDRESS, attribute::CHANNEL_NUMBER, attribute::DATA, attribute::ERROR_CODE];
    for kind in unexpected {
        let reply = world.answer(&alice.sender, &binding().with(kind, &b"odd"[..]).encode());
        assert_eq!(reply.code(), 0, "known but unexpected {kind:#06x}");
    }
    let asked = allocate().with(attribute::MOBILITY_TICKET, []).with(attribute::CHANNEL_NUMBER, [0; 4]);
    let reply = world.succeed(&alice, asked);
    assert!(!reply.has(attribute::MOBILITY_TICKET));
}

#[test]
fn cf_04_s6_3_1_unknown_required_attributes_are_listed() {
    let mut world = World::new();
    let from = udp("192.0.2.1:4000");
    let asked = binding().with(UNKNOWN, []).with(0x8ABC, []).with(0x0002, [1; 4]).with(0x0024, [0; 4]);
    let reply = world.answer(&from, &asked.encode());
    assert_eq!(reply.code(), 420);
    let listed = [UNKNOWN.to_be_bytes(), [0x00, 0x02], [0x00, 0x24]].concat();
    assert_eq!(reply.get(attribute::UNKNOWN_ATTRIBUTES), Some(&listed[..]));

    let alice = world.allocated();
    let reply = world.ask(&alice, refresh(600).with(UNKNOWN, []));
    assert_eq!((reply.code(), reply.integrity()), (420, Some(MacKind::Sha1)));
    assert_eq!(reply.get(attribute::UNKNOWN_ATTRIBUTES), Some(&UNKNOWN.to_be_bytes()[..]));
}

#[test]
fn cf_05_s6_3_1_retransmissions_leave_the_same_state() {
    let mut world = World::new();
    let alice = world.alice();
    let even = allocate().with(attribute::EVEN_PORT, [0x80]);
    let requests = [even, permit(&[peer4()]), bind(0x4000, peer4()), refresh(1200)].map(|draft| alice.sign(draft));
    for request in &requests {
        let first = world.answer(&alice.sender, request);
        let state = world.state();
        let second = world.answer(&alice.sender, request);
        assert_eq!((first.code(), &first), (0, &second), "the answer is the same, byte for byte");
        assert_eq!(world.state(), state, "and so is the state");
    }
    let end = alice.sign(refresh(0));
    assert_eq!(world.answer(&alice.sender, &end).code(), 0);
    assert_eq!(world.answer(&alice.sender, &end).code(), 437, "which a client takes for success (RFC 8656 §8.3)");
    assert_eq!(world.server.allocation_count(), 0);
}

#[test]
fn cf_06_s6_3_1_strangers_leave_no_state() {
    let mut world = World::with(|config| config.limits.unverified_per_second = 0);
    let empty = world.state();
    for port in 1..=1000 {
        let from = udp(&format!("192.0.2.1:{port}"));
        for draft in [binding(), allocate(), refresh(600), permit(&[peer4()]), bind(0x4000, peer4())] {
            let code = world.answer(&from, &draft.encode()).code();
            assert_eq!(code, if draft.method == Method::BINDING { 0 } else { 401 });
        }
    }
    assert_eq!(world.state(), empty);
    assert!(world.events.is_empty());
}

#[test]
fn cf_07_s6_3_1_1_every_error_says_its_code() {
    let mut world = World::new();
    let alice = world.alice();
    let unsigned = world.answer(&alice.sender, &allocate().encode());
    let nameless = alice.introduce(allocate()).without(attribute::USERNAME);
    let replies = [
        unsigned,
        world.answer(&alice.sender, &alice.seal(&nameless)),
        world.answer(&alice.sender, &binding().with(UNKNOWN, []).encode()),
        world.ask(&alice, refresh(600)),
        world.ask(&alice, allocate().instead(attribute::REQUESTED_TRANSPORT, [6, 0, 0, 0])),
    ];
    for (reply, code) in replies.iter().zip([401, 400, 420, 437, 442]) {
        assert_eq!((reply.class, reply.code()), (Class::Error, code));
        assert_eq!(reply.kinds()[0], attribute::ERROR_CODE);
    }
}

#[test]
fn cf_09_s6_3_1_1_a_binding_answer_tells_the_source() {
    let mut world = World::new();
    for client in ["192.0.2.1:4000", "[2001:db8::77]:65535", "10.1.2.3:1"] {
        let reply = world.answer(&udp(client), &binding().encode());
        assert_eq!(reply.kinds(), [attribute::XOR_MAPPED_ADDRESS]);
        assert_eq!(reply.address(attribute::XOR_MAPPED_ADDRESS), peer(client));
    }
}

#[test]
fn cf_11_s6_3_2_an_indication_is_never_answered() {
    let mut world = World::new();
    let alice = world.allocated();
    world.succeed(&alice, permit(&[peer4()]));
    let unknown = send(peer4(), b"x").with(UNKNOWN, []).encode();
    assert_eq!(world.silence(&alice.sender, &unknown), DropReason::BadIndication);
    let bound = indication(Method::BINDING);
    assert_eq!(world.silence(&alice.sender, &bound.encode()), DropReason::Unexpected);
    assert_eq!(world.silence(&alice.sender, &bound.with(UNKNOWN, []).encode()), DropReason::Unexpected);
    let optional = send(peer4(), b"x").with(0xFFFF, []).encode();
    assert!(matches!(world.relayed(&alice.sender, &optional), Verdict::ToPeer { .. }));
}

#[test]
fn cf_14_s9_what_follows_the_integrity_is_ignored() {
    let mut world = World::new();
    let mut alice = world.alice();
    for scheme in [Scheme::Rfc5389, Scheme::Rfc8489(attribute::PasswordAlgorithm::Sha256)] {
        alice.scheme = scheme;
        world.succeed(&alice, allocate());
        // After the integrity an attribute is neither obeyed, nor missed, nor unknown.
        for (kind, value) in [(attribute::LIFETIME, &[0; 4][..]), (UNKNOWN, &[]), (attribute::USERNAME, b"bob")] {
            let mut message = alice.sign(request(Method::REFRESH));
            push(&mut message, kind, value);
            push_fingerprint(&mut message);
            let reply = world.answer(&alice.sender, &message);
            assert_eq!((reply.code(), reply.number(attribute::LIFETIME)), (0, Some(600)), "{kind:#06x}");
        }
        let mut message = alice.sign(request(Method::CREATE_PERMISSION));
        let permission = permit(&[peer4()]).encode();
        push(&mut message, attribute::XOR_PEER_ADDRESS, &permission[24..]);
        assert_eq!(world.answer(&alice.sender, &message).code(), 400, "no peer that counts");
        world.succeed(&alice, refresh(0));
    }
}

#[test]
fn cf_14_s9_sha256_may_follow_sha1_and_then_decides() {
    let mut world = World::new();
    let alice = world.allocated();
    let mut message = alice.introduce(refresh(1200)).encode();
    push_mac(&mut message, MacKind::Sha1, &alice.key());
    push(&mut message, attribute::LIFETIME, &0u32.to_be_bytes());
    push_mac(&mut message, MacKind::Sha256, &alice.key());
    push(&mut message, attribute::LIFETIME, &0u32.to_be_bytes());
    push_fingerprint(&mut message);
    let reply = world.answer(&alice.sender, &message);
    assert_eq!((reply.code(), reply.number(attribute::LIFETIME)), (0, Some(1200)));
}

#[test]
fn cf_28_s11_classic_stun_is_never_answered() {
    let mut world = World::new();
    let alice = world.allocated();
    let mut classic = binding().encode();
    classic[4..8].copy_from_slice(b"3489");
    let mut indication = indication(Method::BINDING).encode();
    indication[4..8].copy_from_slice(b"3489");
    for transport in [Transport::Udp, Transport::Tcp, Transport::Tls] {
        for message in [&classic, &indication] {
            let from = over(transport, alice.sender);
            assert_eq!(world.silence(&from, message), DropReason::Malformed);
        }
    }
}

#[test]
fn cf_29_s12_binding_needs_neither_credentials_nor_fingerprint() {
    let mut world = World::new();
    let mut alice = world.alice();
    for transport in [Transport::Udp, Transport::Tcp, Transport::Tls] {
        let from = over(transport, alice.sender);
        let reply = world.answer(&from, &binding().encode());
        assert_eq!((reply.code(), reply.has(attribute::FINGERPRINT)), (0, false));
    }
    alice.password = b"wrong".to_vec();
    let reply = world.ask(&alice, binding());
    assert_eq!((reply.code(), reply.integrity()), (0, None), "credentials are not looked at");
}

#[test]
fn cf_30_s14_padding_is_ignored_and_the_first_of_a_kind_counts() {
    let mut world = World::new();
    let alice = world.alice();
    let mut sloppy = allocate().with(attribute::EVEN_PORT, [0x00]).with(attribute::SOFTWARE, &b"abcde"[..]);
    sloppy.padding = 0x20;
    world.succeed(&alice, sloppy);
    let other = peer("9.9.9.9:9");
    let twice = refresh(900).with(attribute::LIFETIME, 0);
    assert_eq!(world.succeed(&alice, twice).number(attribute::LIFETIME), Some(900));
    world.succeed(&alice, bind(0x4000, peer4()).with(attribute::CHANNEL_NUMBER, [0x40, 1, 0, 0]));
    world.succeed(&alice, bind(0x4001, other).with(attribute::XOR_PEER_ADDRESS, peer4()));
    let doubled = send(peer4(), b"first").with(attribute::XOR_PEER_ADDRESS, other).with(attribute::DATA, &b"2"[..]);
    let message = doubled.encode();
    let Verdict::ToPeer { peer: to, payload, .. } = world.relayed(&alice.sender, &message) else { panic!() };
    assert_eq!((to.0, &message[payload]), (peer4(), &b"first"[..]));
    let framing = |verdict| match verdict {
        Verdict::ToClient { framing: Framing::ChannelData(number), .. } => number.get(),
        other => panic!("channel data expected: {other:?}"),
    };
    assert_eq!(framing(world.hear(&alice, peer4(), 1)), 0x4000);
    assert_eq!(framing(world.hear(&alice, other, 1)), 0x4001);
}

#[test]
fn cf_31_s14_1_addresses_have_their_familys_length_and_a_byte_to_ignore() {
    let mut world = World::new();
    let alice = world.dual();
    let encoded = |address| permit(&[address]).under(*b"abcdefghijkl").encode()[24..].to_vec();
    let ask = |world: &mut World, value: &[u8]| {
        let draft = request(Method::CREATE_PERMISSION).under(*b"abcdefghijkl");
        world.code(&alice, draft.with(attribute::XOR_PEER_ADDRESS, value))
    };
    for address in [peer4(), crate::peer6()] {
        let good = encoded(address);
        assert_eq!(ask(&mut world, &good), 0);
        assert_eq!(ask(&mut world, &[&[0xFF], &good[1..]].concat()), 0, "the first byte is ignored");
        assert_eq!(ask(&mut world, &[&[0, 3], &good[2..]].concat()), 400, "no such family");
        assert_eq!(ask(&mut world, &[&[0, good[1] ^ 3], &good[2..]].concat()), 400, "the other family's length");
        assert_eq!(ask(&mut world, &good[..good.len() - 1]), 400);
        assert_eq!(ask(&mut world, &[&good[..], &[0]].concat()), 400);
    }
}

#[test]
fn cf_34_s14_5_integrity_is_computed_as_if_it_were_last_and_never_truncated() {
    let mut world = World::new();
    let mut alice = world.alice();
    alice.fingerprint = true;
    world.succeed(&alice, allocate());
    alice.scheme = Scheme::Rfc8489(attribute::PasswordAlgorithm::Sha256);
    world.succeed(&alice, refresh(600));
    let full = alice.introduce(refresh(600));
    for len in [0, 12, 16, 28, 31, 36] {
        let mut message = full.encode();
        push_mac(&mut message, MacKind::Sha256, &alice.key());
        let mut mac = message.split_off(message.len() - 36).split_off(4);
        mac.resize(len, 0);
        push(&mut message, attribute::MESSAGE_INTEGRITY_SHA256, &mac);
        assert_eq!(world.answer(&alice.sender, &message).code(), 401, "{len} bytes");
    }
    alice.scheme = Scheme::Rfc5389;
    for len in [0, 16, 19, 21, 32] {
        let mut message = alice.introduce(refresh(600)).encode();
        push(&mut message, attribute::MESSAGE_INTEGRITY, &vec![0; len]);
        assert_eq!(world.answer(&alice.sender, &message).code(), 401, "{len} bytes");
    }
}

#[test]
fn cf_35_s14_7_fingerprint_is_last_and_answered_in_kind() {
    let mut world = World::new();
    let mut alice = world.alice();
    assert!(!world.ask(&alice, allocate()).has(attribute::FINGERPRINT));
    alice.fingerprint = true;
    let kinds = world.ask(&alice, refresh(600)).kinds();
    assert_eq!(kinds, [attribute::LIFETIME, attribute::MESSAGE_INTEGRITY, attribute::FINGERPRINT]);
    let mut challenged = allocate().encode();
    push_fingerprint(&mut challenged);
    let reply = world.answer(&udp("192.0.2.1:4001"), &challenged);
    assert_eq!(reply.kinds().last(), Some(&attribute::FINGERPRINT));
    let mut early = binding().encode();
    push_fingerprint(&mut early);
    push(&mut early, UNKNOWN, &[]);
    let reply = world.answer(&alice.sender, &early);
    assert_eq!(reply.code(), 0, "what follows FINGERPRINT is not read");
}

#[test]
fn cf_36_s14_8_error_codes_are_class_and_number_without_a_phrase() {
    let mut world = World::new();
    let from = udp("192.0.2.1:4000");
    let reply = world.answer(&from, &allocate().encode());
    assert_eq!(reply.get(attribute::ERROR_CODE), Some(&[0, 0, 4, 1][..]));
    let reply = world.answer(&from, &binding().with(UNKNOWN, []).encode());
    assert_eq!(reply.get(attribute::ERROR_CODE), Some(&[0, 0, 4, 20][..]));
}

#[test]
fn cf_121_what_rfc_5780_asks_for_is_unknown() {
    let mut world = World::new();
    let from = udp("192.0.2.1:4000");
    for kind in [attribute::CHANGE_REQUEST, attribute::RESPONSE_PORT, attribute::PADDING] {
        let reply = world.answer(&from, &binding().with(kind, [0; 4]).encode());
        assert_eq!((reply.code(), reply.get(attribute::UNKNOWN_ATTRIBUTES)), (420, Some(&kind.to_be_bytes()[..])));
    }
    let kinds = world.answer(&from, &binding().encode()).kinds();
    assert!(!kinds.contains(&attribute::OTHER_ADDRESS) && !kinds.contains(&attribute::RESPONSE_ORIGIN));
}

#[test]
fn cf_125_an_access_token_of_rfc_7635_is_unknown() {
    const ACCESS_TOKEN: u16 = 0x001B;
    let mut world = World::new();
    let alice = world.alice();
    let reply = world.ask(&alice, allocate().with(ACCESS_TOKEN, [0; 64]));
    assert_eq!((reply.code(), reply.get(attribute::UNKNOWN_ATTRIBUTES)), (420, Some(&[0x00, 0x1B][..])));
    let unsigned = world.answer(&alice.sender, &allocate().with(ACCESS_TOKEN, [0; 64]).encode());
    assert_eq!(unsigned.code(), 401, "and not looked at before the signature");
}
