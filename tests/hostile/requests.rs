//! IN-049 to IN-080: requests of a user who is known and means harm.

use crate::wire_client::*;
use crate::{Case, Cast, Expect, Scene};
use turnpike::turn::{DropReason, RESERVATION_MS, Transport, Verdict};
use turnpike::wire::attribute;
use turnpike::wire::stun::Method;

/// Peers by number, each in the forms that have been forgotten somewhere; none may ever be reached.
const NEVER: &[(u16, &[&str])] = &[
    (61, &["0.0.0.0", "0.1.2.3"]),
    (62, &["127.0.0.1", "127.255.255.254"]),
    (63, &["169.254.169.254", "168.63.129.16", "100.100.100.200", "192.0.0.192"]),
    (65, &["224.0.0.1", "239.255.255.250", "255.255.255.255", "240.0.0.1"]),
    (66, &["::", "::1"]),
    (67, &["::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:8.8.8.8"]),
    (68, &["::127.0.0.1", "::ffff:0:127.0.0.1"]),
    (69, &["64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1"]),
    (70, &["2002:7f00:1::1", "2002:808:808::1"]),
    (71, &["2001:0:4136:e378:8000:63bf:3fff:fdd2"]),
    (72, &["fe80::1", "fec0::1", "ff02::1", "fd00:ec2::254"]),
    (73, &["2001:db8::1", "3fff::1", "5f00::1", "100::1"]),
];
/// Peers that only `allow_peers` opens.
const PRIVATE: &[(u16, &[&str])] =
    &[(64, &["10.0.0.1", "172.31.255.255", "192.168.1.1", "100.64.0.1"]), (72, &["fd12::1"])];
/// Neighbours of closed ranges.
const OPEN: &[&str] = &["172.32.0.1", "100.128.0.1", "100.63.255.255"];

fn at(ip: &str) -> std::net::SocketAddr {
    std::net::SocketAddr::new(ip.parse().expect("the table has addresses"), 7000)
}

pub fn cases(scene: &Cast) -> Vec<Case> {
    let mut all = allocates(scene);
    all.extend(others(scene));
    all.extend(peers(scene));
    all
}

fn allocates(scene: &Cast) -> Vec<Case> {
    let (transport, even) = (attribute::REQUESTED_TRANSPORT, attribute::EVEN_PORT);
    let (requested, additional) = (attribute::REQUESTED_ADDRESS_FAMILY, attribute::ADDITIONAL_ADDRESS_FAMILY);
    let (token, lifetime) = (attribute::RESERVATION_TOKEN, attribute::LIFETIME);
    let (v4, v6) = ([1, 0, 0, 0], [2, 0, 0, 0]);
    let plain = allocate;
    let reserved = || allocate().with(token, *b"12345678");
    [
        (49, "no REQUESTED-TRANSPORT", plain().without(transport), 400),
        (49, "REQUESTED-TRANSPORT of 3 bytes", plain().instead(transport, [17, 0, 0]), 400),
        (49, "REQUESTED-TRANSPORT of 5 bytes", plain().instead(transport, [17, 0, 0, 0, 0]), 400),
        (49, "SCTP", plain().instead(transport, [132, 0, 0, 0]), 442),
        (49, "TCP, over UDP", plain().instead(transport, [6, 0, 0, 0]), 442),
        (50, "UDP, then SCTP", plain().with(transport, [132, 0, 0, 0]), 0),
        (50, "SCTP, then UDP", plain().instead(transport, [132, 0, 0, 0]).with(transport, [17, 0, 0, 0]), 442),
        (51, "both family attributes", plain().with(requested, v4).with(additional, v6), 400),
        (51, "IPv4 as the additional family", plain().with(additional, v4), 400),
        (51, "family 7", plain().with(requested, [7, 0, 0, 0]), 440),
        (51, "family of no bytes", plain().with(requested, []), 400),
        (52, "a token and EVEN-PORT", reserved().with(even, [0]), 400),
        (52, "a token and a requested family", reserved().with(requested, v4), 400),
        (52, "a token and an additional family", reserved().with(additional, v6), 400),
        (52, "an unknown token", reserved(), 508),
        (52, "a token of 7 bytes", plain().with(token, [1; 7]), 400),
        (53, "a reservation for two families", plain().with(even, [0x80]).with(additional, v6), 400),
        (53, "EVEN-PORT of no bytes", plain().with(even, []), 400),
        (53, "EVEN-PORT of 2 bytes", plain().with(even, [0, 0]), 400),
        (54, "LIFETIME of 3 bytes", plain().with(lifetime, [0, 0, 9]), 400),
    ]
    .map(|(number, what, draft, code)| {
        Case::new(number, what, scene.fresh.sender, scene.fresh.sign(draft), Expect::Code(code))
    })
    .into()
}

fn others(scene: &Cast) -> Vec<Case> {
    let good = peer("8.8.8.8:7000");
    let fresh = [refresh(600), refresh(0), permit(&[good]), bind(0x4000, good)]
        .map(|draft| (57, "without an allocation", &scene.fresh, draft, 437));
    let alice = &scene.alice;
    let asked = [
        (55, "a second Allocate", alice, allocate(), 437),
        (60, "no peer", alice, permit(&[]), 400),
        (60, "a good peer and a denied one", alice, permit(&[peer("9.9.9.9:9"), peer("127.0.0.1:1")]), 403),
        (78, "peer port 0", alice, bind(0x4001, peer("9.9.9.9:0")), 400),
        (80, "channel 0x3FFF", alice, bind(0x3FFF, peer("9.9.9.9:9")), 400),
        (80, "channel 0x5000", alice, bind(0x5000, peer("9.9.9.9:9")), 400),
        (80, "channel 0x7FFF", alice, bind(0x7FFF, peer("9.9.9.9:9")), 400),
        (80, "channel 0", alice, bind(0, peer("9.9.9.9:9")), 400),
        (80, "a bound channel for another peer", alice, bind(0x4000, peer("9.9.9.9:9")), 400),
        (80, "a bound peer on another channel", alice, bind(0x4001, good), 400),
        (80, "the same pair again", alice, bind(0x4000, good), 0),
    ];
    let case = |(number, what, client, draft, code): (u16, &str, &Client, Draft, u16)| {
        Case::new(number, what, client.sender, client.sign(draft), Expect::Code(code))
    };
    let mut all: Vec<Case> = fresh.into_iter().chain(asked).map(case).collect();
    let sent = send(peer("8.8.8.8:0"), b"x").encode();
    all.push(Case::new(78, "a Send to port 0", alice.sender, sent, Expect::Silence(DropReason::BadIndication)));
    all
}

fn peers(scene: &Cast) -> Vec<Case> {
    let alice = &scene.alice;
    let ask =
        |number, what: &str, draft, code| Case::new(number, what, alice.sender, alice.sign(draft), Expect::Code(code));
    let mut all = Vec::new();
    for &(number, ips) in NEVER.iter().chain(PRIVATE) {
        // A server that relays from such an address reaches its own clients there.
        for ip in ips.iter().filter(|ip| !scene.relays.contains(&at(ip).ip())) {
            all.push(ask(number, ip, permit(&[at(ip)]), 403));
            all.push(ask(74, ip, bind(0x4001, at(ip)), 403));
            let sent = send(at(ip), b"x").encode();
            all.push(Case::new(74, ip, alice.sender, sent, Expect::Silence(DropReason::NoPermission)));
        }
    }
    for ip in OPEN {
        all.push(ask(64, ip, permit(&[at(ip)]), 0));
        all.push(ask(64, ip, bind(0x4001, at(ip)), 0));
    }
    all
}

#[test]
fn in_052_a_token_is_good_once_and_for_half_a_minute() {
    let mut scene = Scene::new();
    let reserve = allocate().with(attribute::EVEN_PORT, [0x80]);
    let reply = scene.world.succeed(&scene.fresh, reserve.clone());
    let redeem = |reply: &Reply| allocate().with(attribute::RESERVATION_TOKEN, reply.get(0x0022).unwrap());
    let others: Vec<Client> = (1..=3).map(|port| scene.world.login(udp(&format!("192.0.2.7:{port}")), BOB)).collect();
    scene.world.succeed(&others[0], redeem(&reply));
    assert_eq!(scene.world.code(&others[1], redeem(&reply)), 508, "used");
    let reply = scene.world.succeed(&others[1], reserve);
    scene.world.pass_ms(RESERVATION_MS);
    assert_eq!(scene.world.code(&others[2], redeem(&reply)), 508, "over");
}

#[test]
fn in_054_a_lifetime_is_never_below_the_default_nor_above_the_maximum() {
    let mut scene = Scene::new();
    for (asked, granted) in [(0, 600), (1, 600), (u32::MAX, 3600)] {
        let reply = scene.world.succeed(&scene.fresh, allocate().with(attribute::LIFETIME, asked));
        assert_eq!(reply.number(attribute::LIFETIME), Some(granted));
        scene.world.succeed(&scene.fresh, refresh(0));
    }
}

#[test]
fn in_055_anothers_5_tuple_is_taken_only_as_far_as_the_password_goes() {
    let mut scene = Scene::new();
    let bob = scene.world.login(scene.alice.sender, BOB);
    let state = scene.world.state();
    assert_eq!(scene.world.code(&bob, allocate()), 437);
    let guesser = Client { password: b"guess".to_vec(), ..bob };
    assert_eq!(scene.world.code(&guesser, allocate()), 401, "a stranger learns nothing of the allocation");
    assert_eq!(scene.world.state(), state);
}

#[test]
fn in_056_a_thousand_copies_make_one_allocation() {
    let mut scene = Scene::new();
    let message = scene.fresh.sign(allocate());
    let first = scene.world.answer(&scene.fresh.sender, &message);
    let state = scene.world.state();
    for _ in 0..1000 {
        assert_eq!(scene.world.answer(&scene.fresh.sender, &message), first);
    }
    assert_eq!(scene.world.state(), state);
}

#[test]
fn in_056_a_copy_that_comes_after_the_end_makes_none() {
    let mut scene = Scene::new();
    let message = scene.fresh.sign(allocate());
    assert_eq!(scene.world.answer(&scene.fresh.sender, &message).code(), 0);
    scene.world.succeed(&scene.fresh, refresh(0));
    let state = scene.world.state();
    for late_ms in [0, 20_000, 19_999] {
        scene.world.pass_ms(late_ms);
        assert_eq!(scene.world.answer(&scene.fresh.sender, &message).code(), 437);
    }
    assert_eq!(scene.world.state(), state);
    scene.world.succeed(&scene.fresh, allocate());
}

#[test]
fn in_058_anothers_allocation_is_not_refreshed_and_not_deleted() {
    let mut scene = Scene::new();
    let bob = scene.world.login(scene.alice.sender, BOB);
    let state = scene.world.state();
    for draft in [refresh(0), refresh(600), permit(&[peer("9.9.9.9:9")]), bind(0x4001, peer("9.9.9.9:9"))] {
        assert_eq!(scene.world.code(&bob, draft), 441);
    }
    assert_eq!(scene.world.state(), state);
}

#[test]
fn in_059_in_060_a_family_that_is_not_held_is_443_and_nothing_is_installed() {
    let mut scene = Scene::new();
    scene.world.succeed(&scene.fresh, allocate());
    let state = scene.world.state();
    for draft in [
        refresh(600).with(attribute::REQUESTED_ADDRESS_FAMILY, [2, 0, 0, 0]),
        permit(&[peer("9.9.9.9:9"), peer("[2400::1]:9")]),
        bind(0x4000, peer("[2400::1]:9")),
    ] {
        assert_eq!(scene.world.code(&scene.fresh, draft), 443);
    }
    assert_eq!(scene.world.state(), state);
}

#[test]
fn in_064_private_networks_open_by_name_and_nothing_else_does() {
    let mut world =
        World::with(|config| config.policy.allow = ["0.0.0.0/0", "::/0"].map(|c| c.parse().unwrap()).into());
    let alice = world.dual();
    for (_, ips) in PRIVATE {
        for ip in *ips {
            assert_eq!(world.code(&alice, permit(&[at(ip)])), 0, "{ip}");
        }
    }
    for (_, ips) in NEVER {
        for ip in *ips {
            assert_eq!(world.code(&alice, permit(&[at(ip)])), 403, "{ip}");
        }
    }
}

#[test]
fn in_074_a_reload_ends_what_it_forbids() {
    let mut world = World::with(|config| {
        config.policy.allow = ["10.0.0.0/8", "fc00::/7"].map(|c| c.parse().unwrap()).into();
        config.policy.allow_loopback = true;
    });
    let alice = world.dual();
    let lost = ["10.0.0.1", "fd12::1", "127.0.0.1"];
    for (number, ip) in (0x4000..).zip(lost) {
        world.succeed(&alice, bind(number, at(ip)));
    }
    world.reconfigure(|config| {
        config.policy.allow.clear();
        config.policy.allow_loopback = false;
    });
    for (number, ip) in (0x4000..).zip(lost) {
        assert_eq!(world.silence(&alice.sender, &send(at(ip), b"x").encode()), DropReason::NoPermission, "{ip}");
        assert_eq!(world.silence(&alice.sender, &channel(number, b"x")), DropReason::NoChannel, "{ip}");
        assert_eq!(world.hear(&alice, at(ip), 1), Verdict::Drop(DropReason::NoPermission), "{ip}");
        assert_eq!(world.code(&alice, permit(&[at(ip)])), 403, "{ip}");
        assert_eq!(world.code(&alice, bind(number, at(ip))), 403, "{ip}");
    }
}

#[test]
fn in_075_the_servers_own_ports_are_not_reached() {
    let mut scene = Scene::new();
    let own = |port: u16| std::net::SocketAddr::new(RELAY[0].parse().unwrap(), port);
    scene.world.succeed(&scene.alice, permit(&[own(0)]));
    for port in [22, 3478, 9641, 49_151] {
        let sent = send(own(port), b"x").encode();
        assert_eq!(scene.world.silence(&scene.alice.sender, &sent), DropReason::SelfPortRefused);
        assert_eq!(scene.world.code(&scene.alice, bind(0x4001, own(port))), 403);
    }
    let local = std::net::SocketAddr::new(LOCAL.parse().unwrap(), 50_000);
    assert_eq!(scene.world.code(&scene.alice, permit(&[local])), 403, "nor any other address of the host");
}

#[test]
fn in_076_two_clients_of_one_server_reach_each_other() {
    let mut scene = Scene::new();
    let bob = scene.world.bob();
    scene.world.succeed(&bob, allocate());
    let (a, b) = (scene.world.relay_of(&scene.alice), scene.world.relay_of(&bob));
    scene.world.succeed(&scene.alice, permit(&[b]));
    let message = send(b, b"hello").encode();
    let Verdict::ToRelay { via, from, to, payload } = scene.world.relayed(&scene.alice.sender, &message) else {
        panic!("delivered in process")
    };
    assert_eq!((via, from.0, to.0, payload.len()), (scene.world.id(&scene.alice), a, b, 5));
    assert_eq!(scene.world.hand_over(from, to, 5), Verdict::Drop(DropReason::NoPermission), "bob has not agreed");
    scene.world.succeed(&bob, bind(0x4000, a));
    let Verdict::ToClient { via, client, .. } = scene.world.hand_over(from, to, 5) else { panic!("to bob") };
    assert_eq!((via, client.addr), (scene.world.id(&bob), bob.sender.tuple.client));
    let back = scene.world.relayed(&bob.sender, &channel(0x4000, b"hi"));
    assert!(matches!(back, Verdict::ToRelay { from, to, .. } if (from.0, to.0) == (b, a)));
}

#[test]
fn in_077_no_client_comes_from_a_relayed_port() {
    let mut scene = Scene::new();
    let relayed = scene.world.relay_of(&scene.alice);
    for transport in [Transport::Udp, Transport::Tcp] {
        let looped = scene.world.login(over(transport, udp(&relayed.to_string())), ALICE);
        assert_eq!(scene.world.code(&looped, allocate()), 403);
    }
}

#[test]
fn in_079_one_permission_or_channel_too_many_is_508_and_the_others_go_on() {
    let mut world = World::new();
    let alice = world.allocated();
    let nth = |n: u32| std::net::SocketAddr::from(((0x0101_0000 + n).to_be_bytes(), 7000));
    for n in 0..256 {
        world.succeed(&alice, permit(&[nth(n)]));
    }
    assert_eq!(world.code(&alice, permit(&[nth(256)])), 508);
    for n in 0..64 {
        world.succeed(&alice, bind(0x4000 + n as u16, nth(n)));
    }
    assert_eq!(world.code(&alice, bind(0x4040, nth(64))), 508);
    for n in 0..256 {
        let verdict = world.relayed(&alice.sender, &send(nth(n), b"x").encode());
        assert!(matches!(verdict, Verdict::ToPeer { .. }));
        assert!(matches!(world.hear(&alice, nth(n), 1), Verdict::ToClient { .. }));
    }
    world.succeed(&alice, bind(0x4000, nth(0)));
    world.succeed(&alice, permit(&[nth(255)]));
}

#[test]
fn in_080_a_request_of_many_peers_is_one_request() {
    let mut world = World::new();
    let alice = world.allocated();
    let state = world.state();
    let flood = (0..5_000u32).map(|n| std::net::SocketAddr::from(((0x0101_0000 + n).to_be_bytes(), 1)));
    let draft = flood.fold(request(Method::CREATE_PERMISSION), |d, peer| d.with(attribute::XOR_PEER_ADDRESS, peer));
    assert_eq!(world.code(&alice, draft), 508);
    assert_eq!(world.state(), state);
}
