//! RFC 8656 §9–§11: permissions, Send and Data indications, ICMP.

use crate::wire_client::*;
use crate::{peer4, peer6};
use std::net::SocketAddr;
use turnpike::turn::allocation::Account;
use turnpike::turn::{DropReason, EndReason, Event, Framing, PERMISSION_MS, RelayedAddr, Transport, Verdict};
use turnpike::wire::attribute::{self, IcmpError};
use turnpike::wire::stun::{Class, Method};

fn is_heard(world: &mut World, client: &Client, from: SocketAddr) -> bool {
    match world.hear(client, from, 1) {
        Verdict::ToClient { .. } => true,
        Verdict::Drop(DropReason::NoPermission) => false,
        other => panic!("heard or not permitted: {other:?}"),
    }
}

fn is_reached(world: &mut World, client: &Client, to: SocketAddr) -> bool {
    match world.deliver(&client.sender, &send(to, b"x").encode()) {
        Outcome::Relayed(Verdict::ToPeer { .. }) => true,
        Outcome::Silence(DropReason::NoPermission) => false,
        other => panic!("reached or not permitted: {other:?}"),
    }
}

#[test]
fn cf_67_s9_a_permission_lasts_300_seconds() {
    assert_eq!(PERMISSION_MS, 300_000);
    for draft in [permit(&[peer4()]), bind(0x4000, peer4())] {
        let mut world = World::new();
        let alice = world.allocated();
        world.succeed(&alice, refresh(3600));
        world.succeed(&alice, draft);
        world.pass_ms(299_999);
        assert!(is_heard(&mut world, &alice, peer4()) && is_reached(&mut world, &alice, peer4()));
        world.sleep_ms(1);
        assert!(!is_heard(&mut world, &alice, peer4()) && !is_reached(&mut world, &alice, peer4()));
        world.succeed(&alice, permit(&[peer4()]));
        world.pass_s(200);
        world.succeed(&alice, permit(&[peer4()]));
        world.pass_s(200);
        assert!(is_heard(&mut world, &alice, peer4()), "a refresh starts it anew");
    }
}

#[test]
fn cf_68_s9_addresses_are_matched_and_ports_are_not() {
    let mut world = World::new();
    let alice = world.dual();
    assert!(!is_heard(&mut world, &alice, peer4()));
    world.succeed(&alice, permit(&[peer4(), peer6()]));
    for heard in ["8.8.8.8:7000", "8.8.8.8:1", "8.8.8.8:65535", "[2400::1]:1"] {
        assert!(is_heard(&mut world, &alice, peer(heard)), "{heard}");
        assert!(is_reached(&mut world, &alice, peer(heard)), "{heard}");
    }
    for stranger in ["8.8.8.9:7000", "8.8.4.8:7000", "[2400::2]:7000", "[2400::1:0:0:1]:7000"] {
        assert!(!is_heard(&mut world, &alice, peer(stranger)), "{stranger}");
        assert!(!is_reached(&mut world, &alice, peer(stranger)), "{stranger}");
    }
}

#[test]
fn cf_69_s9_permissions_belong_to_one_allocation_and_end_with_it() {
    let mut world = World::new();
    let alice = world.allocated();
    let second = world.login(udp("192.0.2.1:4001"), ALICE);
    world.succeed(&second, allocate());
    world.succeed(&alice, permit(&[peer4()]));
    assert!(is_heard(&mut world, &alice, peer4()) && !is_heard(&mut world, &second, peer4()));
    world.succeed(&alice, refresh(0));
    world.succeed(&alice, allocate());
    assert!(!is_heard(&mut world, &alice, peer4()) && !is_reached(&mut world, &alice, peer4()));
}

#[test]
fn cf_70_s10_2_no_peer_or_a_malformed_one_is_400() {
    let mut world = World::new();
    let alice = world.allocated();
    let state = world.state();
    assert_eq!(world.code(&alice, permit(&[])), 400);
    let good = permit(&[peer4()]);
    for malformed in
        [&[][..], &[0, 1, 0, 0], &[0, 1, 0, 0, 1, 2, 3], &[0, 1, 0, 0, 1, 2, 3, 4, 5], &[0, 9, 0, 0, 1, 2, 3, 4]]
    {
        let after = good.clone().with(attribute::XOR_PEER_ADDRESS, malformed);
        assert_eq!(world.code(&alice, after), 400, "{malformed:?}");
    }
    assert_eq!(world.state(), state, "the good one beside it is not installed");
}

#[test]
fn cf_71_s10_2_another_family_than_the_allocations_is_443() {
    let mut world = World::new();
    let alice = world.allocated();
    let state = world.state();
    assert_eq!(world.code(&alice, permit(&[peer6()])), 443);
    assert_eq!(world.code(&alice, permit(&[peer4(), peer6()])), 443);
    assert_eq!(world.code(&alice, bind(0x4000, peer6())), 443);
    assert_eq!(world.state(), state);
    let bob = world.bob();
    world.succeed(&bob, allocate().with(attribute::REQUESTED_ADDRESS_FAMILY, [2, 0, 0, 0]));
    assert_eq!(world.code(&bob, permit(&[peer4()])), 443);
    world.succeed(&bob, permit(&[peer6()]));
    let carol = world.login(udp("192.0.2.3:4000"), ALICE);
    world.succeed(&carol, allocate().with(attribute::ADDITIONAL_ADDRESS_FAMILY, [2, 0, 0, 0]));
    world.succeed(&carol, permit(&[peer4(), peer6()]));
}

#[test]
fn cf_72_s10_2_forbidden_is_403_and_full_is_508() {
    let mut world = World::with(|config| config.limits.permissions_per_allocation = 3);
    let alice = world.allocated();
    for denied in ["127.0.0.1:1", "10.0.0.1:1", "169.254.169.254:80", "224.0.0.1:1", "0.0.0.0:1", "45.0.0.2:1"] {
        assert_eq!(world.code(&alice, permit(&[peer(denied)])), 403, "{denied}");
    }
    world.succeed(&alice, permit(&["1.1.1.1:1", "1.1.1.2:1"].map(peer)));
    let state = world.state();
    assert_eq!(world.code(&alice, permit(&["1.1.1.3:1", "1.1.1.4:1"].map(peer))), 508, "both or none");
    assert_eq!(world.state(), state);
    world.succeed(&alice, permit(&["1.1.1.3:1", "1.1.1.1:2"].map(peer)));
    assert_eq!(world.code(&alice, bind(0x4000, peer("1.1.1.4:1"))), 508);
    assert!(world.silence(&alice.sender, &channel(0x4000, b"x")) == DropReason::NoChannel);
    world.sleep_ms(PERMISSION_MS);
    world.succeed(&alice, permit(&["1.1.1.4:1", "1.1.1.5:1", "1.1.1.6:1"].map(peer)));
}

#[test]
fn cf_73_s10_2_several_peers_in_one_request_all_or_nothing() {
    let mut world = World::new();
    let alice = world.dual();
    let peers = ["1.1.1.1:0", "1.1.1.2:80", "1.1.1.1:9", "[2400::9]:1"].map(peer);
    world.succeed(&alice, permit(&peers));
    for text in ["1.1.1.1:5", "1.1.1.2:5", "[2400::9]:5"] {
        assert!(is_heard(&mut world, &alice, peer(text)), "{text}");
    }
    assert_eq!(world.code(&alice, permit(&["3.3.3.3:1", "127.0.0.1:1", "4.4.4.4:1"].map(peer))), 403);
    assert!(!is_heard(&mut world, &alice, peer("3.3.3.3:1")) && !is_heard(&mut world, &alice, peer("4.4.4.4:1")));
    let reply = world.succeed(&alice, permit(&peers));
    assert_eq!(reply.kinds(), [attribute::MESSAGE_INTEGRITY], "a success has no attributes of its own");
}

#[test]
fn cf_74_s11_2_send_needs_a_peer_data_and_a_permission_and_refreshes_nothing() {
    let mut world = World::new();
    let alice = world.allocated();
    assert_eq!(world.silence(&alice.sender, &send(peer4(), b"x").encode()), DropReason::NoPermission);
    world.succeed(&alice, permit(&[peer4()]));
    let bare = indication(Method::SEND);
    for incomplete in [
        bare.clone(),
        bare.clone().with(attribute::XOR_PEER_ADDRESS, peer4()),
        bare.clone().with(attribute::DATA, &b"x"[..]),
        bare.clone().with(attribute::XOR_PEER_ADDRESS, [0, 1, 0, 0, 8, 8, 8]).with(attribute::DATA, &b"x"[..]),
    ] {
        assert_eq!(world.silence(&alice.sender, &incomplete.encode()), DropReason::BadIndication);
    }
    for payload in [&b""[..], b"x", b"four", &[7; 1200]] {
        let message = send(peer4(), payload).encode();
        let Verdict::ToPeer { peer, payload: range, dont_fragment, .. } = world.relayed(&alice.sender, &message) else {
            panic!("relayed to a peer")
        };
        assert_eq!((peer.0, &message[range], dont_fragment), (peer4(), payload, false));
    }
    world.pass_s(299);
    assert!(is_reached(&mut world, &alice, peer4()));
    world.pass_s(1);
    assert!(!is_reached(&mut world, &alice, peer4()));
}

#[test]
fn cf_75_s11_2_dont_fragment_is_handed_on() {
    let mut world = World::new();
    let alice = world.allocated();
    world.succeed(&alice, permit(&[peer4()]));
    let message = send(peer4(), b"x").with(attribute::DONT_FRAGMENT, []).encode();
    let verdict = world.relayed(&alice.sender, &message);
    assert!(matches!(verdict, Verdict::ToPeer { dont_fragment: true, .. }));
    let stream = world.login(over(Transport::Tcp, alice.sender), ALICE);
    world.succeed(&stream, allocate());
    world.succeed(&stream, permit(&[peer4()]));
    let verdict = world.relayed(&stream.sender, &message);
    assert!(matches!(verdict, Verdict::ToPeer { dont_fragment: true, .. }));
}

#[test]
fn cf_89_s13_dont_fragment_is_ignored_where_a_family_is_translated() {
    for (client, to_ipv4, to_ipv6) in [("192.0.2.1:4000", true, false), ("[2001:db8::1]:4000", false, false)] {
        let mut world = World::new();
        let alice = world.login(udp(client), ALICE);
        world.succeed(&alice, allocate().with(attribute::ADDITIONAL_ADDRESS_FAMILY, [2, 0, 0, 0]));
        world.succeed(&alice, permit(&[peer4(), peer6()]));
        for (peer, is_heeded) in [(peer4(), to_ipv4), (peer6(), to_ipv6)] {
            let message = send(peer, b"x").with(attribute::DONT_FRAGMENT, []).encode();
            let verdict = world.relayed(&alice.sender, &message);
            let is_right = matches!(verdict, Verdict::ToPeer { dont_fragment, .. } if dont_fragment == is_heeded);
            assert!(is_right, "{client} to {peer}");
        }
    }
}

#[test]
fn cf_78_s11_5_icmp_errors_are_told_by_the_permission_of_their_destination() {
    let mut world = World::new();
    let alice = world.dual();
    let error = |kind| IcmpError { kind, code: 1, error_value: 0 };
    assert_eq!(world.icmp(&alice, peer4(), error(3)), Err(DropReason::NoPermission));
    world.succeed(&alice, bind(0x4000, peer4()));
    world.succeed(&alice, permit(&[peer6()]));
    for (to, told) in [(peer("8.8.8.8:9"), &[3, 11][..]), (peer6(), &[1, 2, 3])] {
        for kind in 0..=20 {
            let answer = world.icmp(&alice, to, error(kind));
            assert_eq!(answer.is_ok(), told.contains(&kind), "type {kind} about {to}");
            let Ok(indication) = answer else { continue };
            assert_eq!((indication.class, indication.method), (Class::Indication, Method::DATA));
            assert_eq!(indication.kinds(), [attribute::XOR_PEER_ADDRESS, attribute::ICMP], "no DATA, channel or not");
            assert_eq!(indication.address(attribute::XOR_PEER_ADDRESS), to);
        }
    }
    assert_eq!(world.icmp(&alice, peer("9.9.9.9:1"), error(3)), Err(DropReason::NoPermission));
    world.pass_ms(PERMISSION_MS);
    assert_eq!(world.icmp(&alice, peer4(), error(3)), Err(DropReason::NoPermission));
}

#[test]
fn cf_78_s11_5_ten_icmp_errors_a_second_are_told_and_no_more() {
    let mut world = World::new();
    let alice = world.allocated();
    world.succeed(&alice, permit(&[peer4()]));
    let error = IcmpError { kind: 3, code: 3, error_value: 0 };
    let mut told = || (0..100).filter(|_| world.icmp(&alice, peer4(), error).is_ok()).count();
    assert_eq!(told(), 10);
    assert_eq!(told(), 0);
    world.pass_s(1);
    assert_eq!(world.icmp(&alice, peer4(), error).map(|reply| reply.bytes.len()), Ok(20 + 12 + 12));
}

#[test]
fn cf_94_s18_13_the_icmp_attribute_has_eight_bytes() {
    let mut world = World::new();
    let alice = world.dual();
    world.succeed(&alice, permit(&[peer4(), peer6()]));
    for (to, kind, code, error_value, expected) in [
        (peer4(), 3, 3, 0, [0, 0, 3, 3, 0, 0, 0, 0]),
        (peer4(), 3, 4, 1400, [0, 0, 3, 4, 0, 0, 0x05, 0x78]),
        (peer4(), 11, 0, 0, [0, 0, 11, 0, 0, 0, 0, 0]),
        (peer6(), 2, 0, 1280, [0, 0, 2, 0, 0, 0, 0x05, 0x00]),
    ] {
        let indication = world.icmp(&alice, to, IcmpError { kind, code, error_value }).unwrap();
        assert_eq!(indication.get(attribute::ICMP), Some(&expected[..]));
    }
}

#[test]
fn cf_98_s21_3_2_who_used_which_address_for_whom_can_be_written_down() {
    let mut world = World::new();
    let alice = world.allocated();
    let (id, relayed, tuple) = (world.id(&alice), world.relay_of(&alice), alice.sender.tuple);
    world.succeed(&alice, permit(&[peer4()]));
    world.succeed(&alice, bind(0x4000, peer("9.9.9.9:9")));
    let _ = world.relayed(&alice.sender, &channel(0x4000, b"12345"));
    world.pass_s(2);
    world.succeed(&alice, refresh(0));
    let created = world.events.iter().any(|event| {
        matches!(event, Event::Created { id: i, tuple: t, relayed: [Some(r), None], .. }
            if (*i, *t, r.0) == (id, tuple, relayed))
    });
    let permitted = world.events.iter().filter_map(|event| match event {
        Event::Permitted { id: i, peer, .. } if *i == id => Some(peer.to_string()),
        _ => None,
    });
    let permitted = permitted.collect::<Vec<_>>();
    assert_eq!((created, permitted), (true, vec!["8.8.8.8".to_string(), "9.9.9.9".to_string()]));
    let Some(Event::Deleted { id: i, tuple: t, account, relayed: r, reason, traffic, age_ms }) = world.events.last()
    else {
        panic!("the end is told last")
    };
    assert_eq!((*i, *t, *reason, *age_ms), (id, tuple, EndReason::Deleted, 2000));
    assert_eq!(*r, [Some(RelayedAddr(relayed)), None]);
    assert_eq!(*account, Account { username: b"alice"[..].into(), payer: "alice".into() });
    assert_eq!((traffic.to_peer_packets, traffic.to_peer_bytes), (1, 5));
}

#[test]
fn cf_99_s21_4_tunnel_addresses_are_neither_clients_nor_peers() {
    let mut world = World::new();
    for tunnel in ["2002:808:808::1", "2001:0:4136:e378:8000:63bf:3fff:fdd2"] {
        let from = udp(&format!("[{tunnel}]:4000"));
        for draft in [allocate(), bind(0x4000, peer4()), refresh(600), binding()] {
            assert_eq!(world.silence(&from, &draft.encode()), DropReason::Source);
        }
        let alice = world.dual();
        let peer = SocketAddr::new(tunnel.parse().unwrap(), 7000);
        assert_eq!(world.code(&alice, permit(&[peer])), 403);
        assert_eq!(world.code(&alice, bind(0x4000, peer)), 403);
        assert_eq!(world.silence(&alice.sender, &send(peer, b"x").encode()), DropReason::NoPermission);
        world.succeed(&alice, refresh(0));
    }
    let mut open = World::with(|config| config.policy.allow = vec!["::/0".parse().unwrap()]);
    let alice = open.dual();
    assert_eq!(open.code(&alice, permit(&[peer("[2002:808:808::1]:1")])), 403, "no switch allows them");
}

#[test]
fn cf_100_s11_2_ports_that_are_refused_meet_silence_or_403() {
    let mut world = World::new();
    let alice = world.allocated();
    world.succeed(&alice, permit(&[peer4(), peer("45.0.0.1:1")]));
    for port in [19, 53, 123, 161, 389, 1900, 5353, 11211] {
        let reflector = SocketAddr::new(peer4().ip(), port);
        assert_eq!(world.silence(&alice.sender, &send(reflector, b"x").encode()), DropReason::PeerDenied, "{port}");
        assert_eq!(world.code(&alice, bind(0x4000, reflector)), 403, "{port}");
    }
    for port in [22, 80, 3478, 49_151] {
        let own = SocketAddr::new(peer("45.0.0.1:1").ip(), port);
        assert_eq!(world.silence(&alice.sender, &send(own, b"x").encode()), DropReason::SelfPortRefused, "{port}");
        assert_eq!(world.code(&alice, bind(0x4000, own)), 403, "{port}");
    }
    assert!(is_reached(&mut world, &alice, peer("8.8.8.8:443")));
    assert!(matches!(
        world.hear(&alice, peer("8.8.8.8:53"), 1),
        Verdict::ToClient { framing: Framing::DataIndication(_), .. }
    ));
}
