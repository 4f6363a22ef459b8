//! RFC 8489 §9.2: the long-term credential mechanism.

use crate::wire_client::*;
use std::collections::HashSet;
use turnpike::turn::Transport;
use turnpike::wire::attribute::{self, PasswordAlgorithm};
use turnpike::wire::integrity::MacKind;
use turnpike::wire::stun::Method;

const SHA256: Scheme = Scheme::Rfc8489(PasswordAlgorithm::Sha256);
const MD5: Scheme = Scheme::Rfc8489(PasswordAlgorithm::Md5);
/// What a challenge consists of.
const CHALLENGE: [u16; 4] = [attribute::ERROR_CODE, attribute::REALM, attribute::NONCE, attribute::PASSWORD_ALGORITHMS];

/// Checks that an answer is a challenge: realm, a new nonce and the algorithms, unsigned and without a name.
fn is_challenge(reply: &Reply, code: u16) {
    assert_eq!((reply.code(), reply.kinds()), (code, CHALLENGE.to_vec()));
    assert_eq!(reply.get(attribute::REALM), Some(REALM.as_bytes()));
    assert_eq!(reply.get(attribute::PASSWORD_ALGORITHMS), Some(&[0, 2, 0, 0, 0, 1, 0, 0][..]));
}

/// Checks that an answer is an error that gives nothing to try again with.
fn is_bare(reply: &Reply, code: u16) {
    assert_eq!((reply.code(), reply.kinds()), (code, vec![attribute::ERROR_CODE]));
}

#[test]
fn cf_15_s9_2_a_nonce_begins_with_cookie_and_features() {
    for (rfc8489, anonymity, cookie) in [(true, false, "gAAA"), (true, true, "wAAA"), (false, true, "QAAA")] {
        let mut world = World::with(|config| {
            (config.nonce.rfc8489, config.nonce.anonymity) = (rfc8489, anonymity);
        });
        let alice = world.alice();
        let expected = format!("obMatJos2{cookie}");
        assert!(alice.nonce.starts_with(expected.as_bytes()), "{expected}");
        let offered = world.answer(&alice.sender, &allocate().encode()).has(attribute::PASSWORD_ALGORITHMS);
        assert_eq!(offered, rfc8489, "the algorithms are listed when the bit is set");
    }
}

#[test]
fn cf_16_s9_2_4_without_integrity_401_with_realm_and_nonce() {
    let mut world = World::new();
    let from = udp("192.0.2.1:4000");
    for method in [Method::ALLOCATE, Method::REFRESH, Method::CREATE_PERMISSION, Method::CHANNEL_BIND] {
        let named = request(method).with(attribute::USERNAME, &b"alice"[..]);
        for draft in [request(method), named] {
            is_challenge(&world.answer(&from, &draft.encode()), 401);
        }
    }
}

#[test]
fn cf_17_s9_2_4_no_two_sources_get_the_same_nonce() {
    let mut world = World::with(|config| config.limits.unverified_per_second = 0);
    let mut nonces = HashSet::new();
    for client in ["192.0.2.1", "192.0.2.2", "[2001:db8::1]"] {
        for port in 1..=50 {
            for transport in [Transport::Udp, Transport::Tcp, Transport::Tls] {
                let from = over(transport, udp(&format!("{client}:{port}")));
                assert!(nonces.insert(world.login(from, ALICE).nonce));
            }
        }
    }
    let alice = world.alice();
    let elsewhere = Client { sender: udp("192.0.2.1:4001"), ..alice };
    assert_eq!(world.code(&elsewhere, allocate()), 438, "and none is good for another");
}

#[test]
fn cf_18_s9_2_4_integrity_without_name_realm_or_nonce_is_400_and_bare() {
    let mut world = World::new();
    let alice = world.alice();
    let full = alice.introduce(allocate());
    for missing in [attribute::USERNAME, attribute::REALM, attribute::NONCE] {
        let reply = world.answer(&alice.sender, &alice.seal(&full.clone().without(missing)));
        is_bare(&reply, 400);
    }
    is_bare(&world.answer(&alice.sender, &alice.seal(&allocate())), 400);
}

#[test]
fn cf_19_s9_2_4_password_algorithms_are_both_there_and_ours_or_neither() {
    let mut world = World::new();
    let mut alice = world.alice();
    for (scheme, code) in [(Scheme::Rfc5389, 0), (MD5, 437), (SHA256, 437)] {
        alice.scheme = scheme;
        assert_eq!(world.code(&alice, allocate()), code, "{scheme:?} passes authentication");
    }
    let (list, chosen) = (attribute::PASSWORD_ALGORITHMS, attribute::PASSWORD_ALGORITHM);
    let full = alice.introduce(refresh(600));
    for (why, draft) in [
        ("no list", full.clone().without(list)),
        ("no choice", full.clone().without(chosen)),
        ("another order", full.clone().instead(list, [0, 1, 0, 0, 0, 2, 0, 0])),
        ("a shorter list", full.clone().instead(list, [0, 1, 0, 0])),
        ("a longer list", full.clone().instead(list, [0, 2, 0, 0, 0, 1, 0, 0, 0, 3, 0, 0])),
        ("an algorithm not listed", full.clone().instead(chosen, [0, 3, 0, 0])),
        ("the reserved number", full.clone().instead(chosen, [0, 0, 0, 0])),
        ("parameters", full.clone().instead(chosen, [0, 2, 0, 4, 1, 2, 3, 4])),
        ("an odd length", full.clone().instead(chosen, [0, 2, 0])),
    ] {
        let reply = world.answer(&alice.sender, &alice.seal(&draft));
        assert_eq!((reply.code(), reply.kinds().len()), (400, 1), "{why}");
    }
    assert_eq!(world.code(&alice, refresh(600)), 0);
}

#[test]
fn cf_20_s9_2_4_an_unknown_name_is_401_with_algorithms() {
    let mut world = World::with(|config| config.nonce.anonymity = true);
    let known = world.alice();
    let mut stranger = world.login(known.sender, ("mallory", ALICE.1));
    for scheme in [Scheme::Rfc5389, MD5, SHA256] {
        for hashed in [false, true] {
            (stranger.scheme, stranger.hashed) = (scheme, hashed);
            is_challenge(&world.ask(&stranger, allocate()), 401);
        }
    }
    let foreign = known.introduce(allocate()).instead(attribute::REALM, &b"example.net"[..]);
    is_challenge(&world.answer(&known.sender, &known.seal(&foreign)), 401);
}

#[test]
fn cf_21_s9_2_4_sha256_decides_when_it_is_there() {
    let mut world = World::new();
    let mut alice = world.alice();
    alice.scheme = SHA256;
    let (right, wrong) = (alice.key(), vec![0; 32]);
    for (sha1, sha256, code) in [(&wrong, &right, 0), (&right, &wrong, 401), (&wrong, &wrong, 401)] {
        let mut message = alice.introduce(allocate()).encode();
        push_mac(&mut message, MacKind::Sha1, sha1);
        push_mac(&mut message, MacKind::Sha256, sha256);
        assert_eq!(world.answer(&alice.sender, &message).code(), code);
        if code == 0 {
            assert_eq!(world.code(&alice, refresh(0)), 0);
        }
    }
}

#[test]
fn cf_22_s9_2_4_a_wrong_integrity_is_401_and_unsigned() {
    let mut world = World::new();
    let mut alice = world.allocated();
    let state = world.state();
    alice.password = b"wonderlane".to_vec();
    for scheme in [Scheme::Rfc5389, MD5, SHA256] {
        alice.scheme = scheme;
        for draft in [allocate(), refresh(0), permit(&[crate::peer4()]), bind(0x4000, crate::peer4())] {
            is_challenge(&world.ask(&alice, draft), 401);
        }
    }
    assert_eq!(world.state(), state);
}

#[test]
fn cf_23_s9_2_4_a_stale_nonce_is_438_and_the_one_it_brings_is_valid() {
    let mut world = World::new();
    let mut alice = world.allocated();
    world.succeed(&alice, refresh(3600));
    world.pass_s(600);
    world.succeed(&alice, refresh(3600));
    world.pass_s(1);
    let reply = world.ask(&alice, refresh(3600));
    is_challenge(&reply, 438);
    alice.learn(&reply);
    world.succeed(&alice, refresh(3600));
}

#[test]
fn cf_24_s9_2_4_checks_come_in_the_order_of_the_rfc() {
    let mut world = World::new();
    let mut alice = world.alice();
    world.pass_s(601);
    // Everything is wrong; each step mends what was answered.
    alice.scheme = SHA256;
    let wrong = Client { name: b"mallory".to_vec(), password: b"?".to_vec(), ..alice.clone() };
    let unsigned = world.answer(&alice.sender, &wrong.introduce(allocate()).encode());
    let nameless = wrong.introduce(allocate()).without(attribute::USERNAME).without(attribute::PASSWORD_ALGORITHM);
    let nameless = world.answer(&alice.sender, &wrong.seal(&nameless));
    let half = wrong.introduce(allocate()).without(attribute::PASSWORD_ALGORITHM);
    let half = world.answer(&alice.sender, &wrong.seal(&half));
    let unknown = world.ask(&wrong, allocate());
    let wrong = Client { password: b"?".to_vec(), ..alice.clone() };
    let forged = world.ask(&wrong, allocate());
    let stale = world.ask(&alice, allocate());
    let codes = [&unsigned, &nameless, &half, &unknown, &forged, &stale].map(Reply::code);
    assert_eq!(codes, [401, 400, 400, 401, 401, 438]);
    alice.learn(&stale);
    assert_eq!(world.code(&alice, refresh(600).with(0x7FFF, [])), 437, "whose allocation it is comes next");
    let first = allocate().without(attribute::REQUESTED_TRANSPORT).with(0x7FFF, []);
    assert_eq!(world.code(&alice, first), 420, "unknown attributes come before the method's own checks");
    world.succeed(&alice, allocate());
    let denied = permit(&[peer("127.0.0.1:1")]).with(0x7FFF, []);
    assert_eq!(world.code(&alice, denied), 420, "peers among them");
}

#[test]
fn cf_25_s9_2_4_answers_bear_the_integrity_of_their_request_and_no_credentials() {
    let mut world = World::new();
    let mut alice = world.alice();
    for (scheme, mac) in [(Scheme::Rfc5389, MacKind::Sha1), (MD5, MacKind::Sha256), (SHA256, MacKind::Sha256)] {
        alice.scheme = scheme;
        for (draft, code) in [(allocate(), 0), (allocate(), 437), (refresh(0), 0), (refresh(0), 437)] {
            let reply = world.ask(&alice, draft);
            assert_eq!((reply.code(), reply.integrity()), (code, Some(mac)), "{scheme:?}");
            assert!(reply.is_signed_by(&alice.key()));
            for kind in [attribute::USERNAME, attribute::USERHASH, attribute::REALM, attribute::NONCE] {
                assert!(!reply.has(kind), "{kind:#06x}");
            }
        }
    }
}

#[test]
fn cf_26_s9_2_2_quotes_and_trailing_nuls_are_no_part_of_the_key() {
    let mut world = World::with(|config| config.auth.add_user("\"carol\"\0", "dodo\0\0"));
    let mut carol = world.login(udp("192.0.2.3:4000"), ("carol", "dodo"));
    carol.name = b"\"carol\"\0".to_vec();
    let mut message = carol.introduce(allocate()).encode();
    let key = Client { name: b"carol".to_vec(), ..carol.clone() }.key();
    push_mac(&mut message, MacKind::Sha1, &key);
    assert_eq!(world.answer(&carol.sender, &message).code(), 0);
}

#[test]
fn cf_32_s14_3_names_of_763_bytes_are_read() {
    let name = "n".repeat(763);
    let mut world = World::with(|config| {
        config.auth.add_user(&name, "p");
        config.auth.add_user(&format!("{name}n"), "p");
    });
    let long = world.login(udp("192.0.2.1:4000"), (&name, "p"));
    assert_eq!(world.code(&long, allocate()), 0);
    let longer = Client { name: [&long.name[..], b"n"].concat(), ..long };
    assert_eq!(world.code(&longer, refresh(600)), 400);
}

#[test]
fn cf_33_s14_4_a_userhash_has_32_bytes() {
    let mut world = World::with(|config| config.nonce.anonymity = true);
    let mut alice = world.alice();
    (alice.hashed, alice.scheme) = (true, SHA256);
    assert_eq!(world.code(&alice, allocate()), 0);
    assert_eq!(world.code(&alice, refresh(600)), 0, "the hash names the allocation's user");
    let full = alice.introduce(refresh(600));
    for len in [0, 31, 33] {
        let draft = full.clone().instead(attribute::USERHASH, &vec![7; len][..]);
        is_bare(&world.answer(&alice.sender, &alice.seal(&draft)), 400);
    }
    let draft = full.instead(attribute::USERHASH, [7; 32]);
    is_challenge(&world.answer(&alice.sender, &alice.seal(&draft)), 401);
}

#[test]
fn cf_37_s14_10_realm_and_nonce_are_short_printable_text() {
    for rfc8489 in [true, false] {
        let mut world = World::with(|config| config.nonce.rfc8489 = rfc8489);
        let reply = world.answer(&udp("192.0.2.1:4000"), &allocate().encode());
        for kind in [attribute::REALM, attribute::NONCE] {
            let text = std::str::from_utf8(reply.get(kind).unwrap()).unwrap();
            assert!(!text.is_empty() && text.chars().count() < 128);
            assert!(text.chars().all(|c| c.is_ascii_graphic() && c != '"' && c != '\\'), "{text}");
        }
    }
}

#[test]
fn cf_40_s5_a_nonce_is_fresh_and_never_outlives_an_hour() {
    let mut world = World::with(|config| config.nonce.lifetime_s = 86_400);
    let mut alice = world.allocated();
    world.succeed(&alice, refresh(3600));
    let first = alice.nonce.clone();
    world.pass_s(3599);
    world.succeed(&alice, refresh(3600));
    world.pass_s(2);
    let reply = world.ask(&alice, refresh(3600));
    assert_eq!(reply.code(), 438);
    alice.learn(&reply);
    assert_ne!(alice.nonce, first);
    let mut other = World::with(|config| config.nonce.key = [8; 32]);
    assert_ne!(other.alice().nonce, first, "it depends on a random key");
}

#[test]
fn cf_41_s5_every_request_but_binding_needs_credentials() {
    let mut world = World::new();
    let alice = world.allocated();
    let state = world.state();
    for draft in [allocate(), refresh(0), permit(&[crate::peer4()]), bind(0x4000, crate::peer4())] {
        for transport in [Transport::Udp, Transport::Tcp, Transport::Tls] {
            let from = over(transport, alice.sender);
            is_challenge(&world.answer(&from, &draft.encode()), 401);
        }
    }
    assert_eq!(world.state(), state);
}

#[test]
fn cf_46_s6_the_key_is_stored_and_the_password_is_not() {
    let mut world = World::new();
    let alice = world.allocated();
    let name = "1893456000:carol";
    let password = rest_password(name);
    let carol = world.login(udp("192.0.2.3:4000"), (name, &password));
    world.succeed(&carol, allocate());
    let (state, ..) = world.state();
    let written = serde_json::to_string(&state).unwrap();
    let keys: Vec<_> = state.allocations.iter().filter_map(|a| a.key.as_ref()).map(|(_, key)| key.as_bytes()).collect();
    assert_eq!(keys, [alice.key(), carol.key()]);
    let shown = format!("{:?}{state:?}{written}", world.config);
    for secret in [ALICE.1, BOB.1, &password, std::str::from_utf8(SECRET).unwrap()] {
        assert!(!shown.contains(secret), "neither written down nor printed");
    }
}
