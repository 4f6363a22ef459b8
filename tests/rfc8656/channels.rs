//! RFC 8656 §12 and §18: channels, their framing, and the formats of attributes.

use crate::wire_client::*;
use crate::{peer4, peer6};
use turnpike::turn::{CHANNEL_MS, DropReason, Framing, Verdict};
use turnpike::wire::attribute;
use turnpike::wire::channel::ChannelRange;
use turnpike::wire::stream::{Next, next_frame};
use turnpike::wire::stun::{self, Method, TransactionId};
use turnpike::wire::{Kind, classify, padded};

/// How the client is told of a peer's datagram.
fn framing(verdict: Verdict) -> Framing {
    match verdict {
        Verdict::ToClient { framing, .. } => framing,
        other => panic!("data for the client expected: {other:?}"),
    }
}

/// The channel a peer's datagram comes on, if any.
fn channel_of(world: &mut World, client: &Client, from: std::net::SocketAddr) -> Option<u16> {
    match framing(world.hear(client, from, 9)) {
        Framing::ChannelData(number) => Some(number.get()),
        Framing::DataIndication(peer) => {
            assert_eq!(peer.0, from);
            None
        }
    }
}

#[test]
fn cf_77_s11_3_channel_data_when_bound_else_an_indication_with_peer_and_data() {
    let mut world = World::new();
    let alice = world.dual();
    world.succeed(&alice, permit(&[peer4(), peer6()]));
    assert_eq!(channel_of(&mut world, &alice, peer4()), None);
    world.succeed(&alice, bind(0x4007, peer4()));
    assert_eq!(channel_of(&mut world, &alice, peer4()), Some(0x4007));
    assert_eq!(channel_of(&mut world, &alice, peer("8.8.8.8:7001")), None, "a channel is for one port");
    for (from, payload) in [(peer4(), &b"hello"[..]), (peer6(), b""), (peer6(), &[9; 1200])] {
        let mut headroom = [0xAA; stun::DATA_INDICATION_HEADER_MAX];
        stun::data_indication_header(&mut headroom, from, payload.len(), TransactionId([1; 12]));
        let header = &headroom[headroom.len() - stun::data_indication_header_len(from)..];
        let padding = vec![0; padded(payload.len()) - payload.len()];
        let indication = Reply::decode(&[header, payload, &padding].concat());
        assert_eq!(indication.kinds(), [attribute::XOR_PEER_ADDRESS, attribute::DATA]);
        assert_eq!(indication.address(attribute::XOR_PEER_ADDRESS), from);
        assert_eq!((indication.method, indication.get(attribute::DATA)), (Method::DATA, Some(payload)));
    }
}

#[test]
fn cf_79_s12_channel_numbers_are_0x4000_to_0x4fff() {
    let mut world = World::new();
    let alice = world.allocated();
    for number in [0, 0x3FFF, 0x5000, 0x7FFF, 0x8000, 0xFFFF] {
        assert_eq!(world.code(&alice, bind(number, peer4())), 400, "{number:#06x}");
    }
    world.succeed(&alice, bind(0x4000, peer4()));
    world.succeed(&alice, bind(0x4FFF, peer("8.8.8.8:7001")));
    assert!(matches!(world.relayed(&alice.sender, &channel(0x4FFF, b"x")), Verdict::ToPeer { .. }));
    let mut old = World::with(|config| config.channels = ChannelRange::Rfc5766);
    let alice = old.allocated();
    old.succeed(&alice, bind(0x7FFF, peer4()));
    assert_eq!(old.code(&alice, bind(0x8000, peer("8.8.8.8:7001"))), 400);
    assert!(matches!(old.relayed(&alice.sender, &channel(0x7FFF, b"x")), Verdict::ToPeer { .. }));
}

#[test]
fn cf_80_s12_the_first_byte_tells_the_protocol_and_all_others_are_dropped() {
    let mut world = World::new();
    let alice = world.allocated();
    for first in 0..=255 {
        let expected = match first {
            0..=3 => Kind::Stun,
            64..=79 => Kind::ChannelData,
            _ => Kind::Other,
        };
        assert_eq!(classify(&[first, 0, 0, 0], ChannelRange::Rfc8656), expected, "{first}");
        let reason = world.silence(&alice.sender, &[first, 0, 0, 0]);
        let unbound = if expected == Kind::ChannelData { DropReason::NoChannel } else { DropReason::Malformed };
        assert_eq!(reason, unbound, "{first}");
    }
}

#[test]
fn cf_81_s12_channels_and_peers_are_a_bijection_for_ten_minutes() {
    let mut world = World::new();
    let alice = world.allocated();
    let other = peer("8.8.8.8:7001");
    world.succeed(&alice, refresh(3600));
    world.succeed(&alice, bind(0x4000, peer4()));
    assert_eq!(world.code(&alice, bind(0x4000, other)), 400);
    assert_eq!(world.code(&alice, bind(0x4001, peer4())), 400);
    let bob = world.bob();
    world.succeed(&bob, allocate());
    world.succeed(&bob, bind(0x4000, other));
    world.pass_s(500);
    world.succeed(&alice, bind(0x4000, peer4()));
    world.pass_ms(CHANNEL_MS - 1);
    assert!(matches!(world.relayed(&alice.sender, &channel(0x4000, b"x")), Verdict::ToPeer { .. }), "ten more minutes");
    world.sleep_ms(1);
    assert_eq!(world.silence(&alice.sender, &channel(0x4000, b"x")), DropReason::NoChannel);
    let mut alice = alice;
    alice.learn(&world.answer(&alice.sender, &refresh(600).encode()));
    world.succeed(&alice, bind(0x4000, other));
    world.succeed(&alice, bind(0x4001, peer4()));
    assert_eq!(channel_of(&mut world, &alice, other), Some(0x4000));
    assert_eq!(channel_of(&mut world, &alice, peer4()), Some(0x4001));
}

#[test]
fn cf_82_s12_2_what_can_be_wrong_with_a_channel_bind() {
    let mut world = World::with(|config| config.limits.channels_per_allocation = 2);
    let alice = world.allocated();
    let full = bind(0x4000, peer4());
    let state = world.state();
    for (draft, code) in [
        (full.clone().without(attribute::CHANNEL_NUMBER), 400),
        (full.clone().without(attribute::XOR_PEER_ADDRESS), 400),
        (full.clone().instead(attribute::CHANNEL_NUMBER, [0x40, 0]), 400),
        (full.clone().instead(attribute::XOR_PEER_ADDRESS, [0, 1, 2]), 400),
        (bind(0x4000, peer("8.8.8.8:0")), 400),
        (bind(0x4000, peer6()), 443),
        (bind(0x4000, peer("192.168.1.1:7000")), 403),
        (bind(0x4000, peer("8.8.8.8:53")), 403),
    ] {
        assert_eq!(world.code(&alice, draft.clone()), code, "{draft:?}");
    }
    assert_eq!(world.state(), state);
    let reply = world.succeed(&alice, full.clone());
    assert_eq!(reply.kinds(), [attribute::MESSAGE_INTEGRITY], "a success has no attributes of its own");
    world.succeed(&alice, bind(0x4001, peer("8.8.8.8:2")));
    assert_eq!(world.code(&alice, bind(0x4002, peer("8.8.8.8:3"))), 508);
    world.succeed(&alice, full);
}

#[test]
fn cf_83_s12_2_a_bind_installs_and_refreshes_the_permission() {
    let mut world = World::new();
    let alice = world.allocated();
    world.succeed(&alice, bind(0x4000, peer4()));
    assert_eq!(channel_of(&mut world, &alice, peer("8.8.8.8:1")), None);
    world.pass_s(200);
    world.succeed(&alice, bind(0x4000, peer4()));
    world.pass_s(200);
    assert_eq!(channel_of(&mut world, &alice, peer4()), Some(0x4000));
    world.pass_s(100);
    let verdict = world.hear(&alice, peer4(), 1);
    assert_eq!(verdict, Verdict::Drop(DropReason::NoPermission), "a channel outlives its permission");
    assert!(matches!(world.relayed(&alice.sender, &channel(0x4000, b"x")), Verdict::ToPeer { .. }));
}

#[test]
fn cf_84_s12_2_policy_is_asked_when_a_bind_is_refreshed_too() {
    let mut world = World::new();
    let alice = world.allocated();
    world.succeed(&alice, bind(0x4000, peer4()));
    world.succeed(&alice, bind(0x4001, peer("9.9.9.9:9")));
    world.reconfigure(|config| config.policy.deny = vec!["8.8.8.0/24".parse().unwrap()]);
    assert_eq!(world.silence(&alice.sender, &channel(0x4000, b"x")), DropReason::NoChannel);
    assert_eq!(world.silence(&alice.sender, &send(peer4(), b"x").encode()), DropReason::NoPermission);
    assert_eq!(world.hear(&alice, peer4(), 1), Verdict::Drop(DropReason::NoPermission));
    assert_eq!(world.code(&alice, bind(0x4000, peer4())), 403);
    assert!(matches!(world.relayed(&alice.sender, &channel(0x4001, b"x")), Verdict::ToPeer { .. }));
    world.succeed(&alice, bind(0x4001, peer("9.9.9.9:9")));
}

#[test]
fn cf_85_s12_5_channel_data_is_padded_on_streams_and_may_be_on_udp() {
    let mut world = World::new();
    let alice = world.allocated();
    world.succeed(&alice, bind(0x4000, peer4()));
    for len in 0..9usize {
        let bare = channel(0x4000, &vec![7; len]);
        for padding in 0..4 {
            let padded = [&bare[..], &vec![0; padding]].concat();
            let verdict = world.relayed(&alice.sender, &padded);
            assert!(matches!(verdict, Verdict::ToPeer { payload, .. } if payload == (4..4 + len)));
        }
        let mut stream = bare.clone();
        stream.resize(bare.len().next_multiple_of(4), 0);
        let frame = Next::Frame { kind: Kind::ChannelData, message: 4 + len, frame: stream.len() };
        stream.extend(binding().encode());
        assert_eq!(next_frame(&stream, ChannelRange::Rfc8656), frame, "{len} bytes");
    }
}

#[test]
fn cf_86_s12_6_too_short_is_dropped_and_empty_is_sent() {
    let mut world = World::new();
    let alice = world.allocated();
    world.succeed(&alice, bind(0x4000, peer4()));
    let whole = channel(0x4000, &[7; 100]);
    for len in [4, 5, 103] {
        assert_eq!(world.silence(&alice.sender, &whole[..len]), DropReason::Malformed, "{len} of 104 bytes");
    }
    for len in 1..4 {
        assert_eq!(world.silence(&alice.sender, &whole[..len]), DropReason::Malformed);
    }
    let verdict = world.relayed(&alice.sender, &channel(0x4000, b""));
    assert!(matches!(verdict, Verdict::ToPeer { payload, .. } if payload == (4..4)));
    assert_eq!(world.silence(&alice.sender, &channel(0x4001, b"x")), DropReason::NoChannel);
    for reserved in [0x5000, 0x7FFF, 0x8000, 0xFFFF] {
        assert_eq!(world.silence(&alice.sender, &channel(reserved, b"x")), DropReason::Malformed);
    }
}

#[test]
fn cf_87_s12_6_channel_data_refreshes_neither_binding_nor_permission() {
    let mut world = World::new();
    let alice = world.allocated();
    world.succeed(&alice, refresh(3600));
    world.succeed(&alice, bind(0x4000, peer4()));
    for _ in 0..6 {
        assert!(matches!(world.relayed(&alice.sender, &channel(0x4000, b"x")), Verdict::ToPeer { .. }));
        let _ = world.hear(&alice, peer4(), 1);
        world.pass_s(100);
        let heard = matches!(world.hear(&alice, peer4(), 1), Verdict::ToClient { .. });
        assert_eq!(heard, world.mono_ms - START.mono_ms < 300_000);
    }
    assert_eq!(world.silence(&alice.sender, &channel(0x4000, b"x")), DropReason::NoChannel);
}

#[test]
fn cf_91_s18_reserved_bits_are_ignored_and_sent_as_zero() {
    let mut world = World::new();
    let alice = world.alice();
    let reply = world.succeed(
        &alice,
        request(Method::ALLOCATE)
            .with(attribute::REQUESTED_TRANSPORT, [17, 0xFF, 0xFF, 0xFF])
            .with(attribute::EVEN_PORT, [0x7F]),
    );
    assert!(!reply.has(attribute::RESERVATION_TOKEN), "only the first bit asks for a reservation");
    assert_eq!(reply.address(attribute::XOR_RELAYED_ADDRESS).port() % 2, 0);
    world.succeed(&alice, bind(0x4000, peer4()).instead(attribute::CHANNEL_NUMBER, [0x40, 0, 0xFF, 0xFF]));
    assert_eq!(channel_of(&mut world, &alice, peer4()), Some(0x4000));
}

#[test]
fn cf_92_s18_6_the_reserved_bytes_of_a_family_are_ignored() {
    let mut world = World::new();
    let alice = world.alice();
    let family = [2, 0xFF, 0xFF, 0xFF];
    let reply = world.succeed(&alice, allocate().with(attribute::REQUESTED_ADDRESS_FAMILY, family));
    assert!(reply.address(attribute::XOR_RELAYED_ADDRESS).is_ipv6());
    world.succeed(&alice, refresh(600).with(attribute::REQUESTED_ADDRESS_FAMILY, family));
    let bob = world.bob();
    let reply = world.succeed(&bob, allocate().with(attribute::ADDITIONAL_ADDRESS_FAMILY, family));
    assert_eq!(reply.addresses(attribute::XOR_RELAYED_ADDRESS).len(), 2);
}

#[test]
fn cf_93_s18_12_an_address_error_code_has_family_class_and_number() {
    let mut world = World::new();
    world.ports.addresses[1] = None;
    let alice = world.alice();
    let reply = world.succeed(&alice, allocate().with(attribute::ADDITIONAL_ADDRESS_FAMILY, [2, 0, 0, 0]));
    assert_eq!(reply.get(attribute::ADDRESS_ERROR_CODE), Some(&[0x02, 0, 4, 40][..]));
}

#[test]
fn cf_97_s21_1_6_nobody_is_told_what_software_runs() {
    // Every answer in every test passes the same check; here are one of each kind.
    let mut world = World::new();
    let alice = world.alice();
    let software = |draft: Draft| draft.with(attribute::SOFTWARE, &b"client 1.0"[..]);
    let replies = [
        world.answer(&alice.sender, &software(binding()).encode()),
        world.answer(&alice.sender, &software(allocate()).encode()),
        world.ask(&alice, software(refresh(600))),
        world.ask(&alice, software(allocate())),
        world.ask(&alice, software(refresh(600))),
    ];
    assert_eq!(replies.each_ref().map(Reply::code), [0, 401, 437, 0, 0]);
    assert!(replies.iter().all(|reply| !reply.has(attribute::SOFTWARE)));
}
