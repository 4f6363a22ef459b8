//! IN-028 to IN-048: names, nonces, signatures.

use crate::wire_client::*;
use crate::{Case, Cast, Expect, Scene};
use turnpike::turn::{DropReason, Transport};
use turnpike::wire::attribute::{self, PasswordAlgorithm};
use turnpike::wire::integrity::MacKind;
use turnpike::wire::stun::Method;

const SHA256: Scheme = Scheme::Rfc8489(PasswordAlgorithm::Sha256);

pub fn cases(scene: &Cast) -> Vec<Case> {
    let mut all = signatures(scene);
    all.extend(nonces(scene));
    all.extend(names(scene));
    all
}

fn signatures(scene: &Cast) -> Vec<Case> {
    let (fresh, from) = (&scene.fresh, scene.fresh.sender);
    let sha = Client { scheme: SHA256, ..fresh.clone() };
    let case = |number, what: &str, bytes, code| Case::new(number, what, from, bytes, Expect::Code(code));
    let full = fresh.introduce(allocate());
    let mut all = Vec::new();
    for method in [Method::ALLOCATE, Method::REFRESH, Method::CREATE_PERMISSION, Method::CHANNEL_BIND] {
        let bytes = request(method).encode();
        all.push(Case::new(28, "a request without integrity", scene.stranger, bytes, Expect::Code(401)));
    }
    for missing in [attribute::USERNAME, attribute::REALM, attribute::NONCE] {
        all.push(case(29, "integrity and no name, realm or nonce", fresh.seal(&full.clone().without(missing)), 400));
    }
    for len in [0, 19, 21, 32] {
        let mut bytes = full.encode();
        push(&mut bytes, attribute::MESSAGE_INTEGRITY, &vec![7; len]);
        all.push(case(30, "integrity of another length", bytes, 401));
    }
    let mut off_by_a_bit = fresh.sign(allocate());
    *off_by_a_bit.last_mut().unwrap() ^= 1;
    all.push(case(31, "integrity one bit off", off_by_a_bit, 401));
    let mut both = sha.introduce(allocate()).encode();
    push_mac(&mut both, MacKind::Sha1, &sha.key());
    push_mac(&mut both, MacKind::Sha256, &[0; 32]);
    all.push(case(39, "SHA-1 right and SHA-256 wrong", both, 401));
    for len in [16, 28] {
        let mut whole = sha.introduce(allocate()).encode();
        // What a truncating sender writes: the header counts the shorter attribute when the MAC is made.
        push_mac(&mut whole, MacKind::Sha256, &sha.key());
        let value_at = whole.len() - 32;
        let mac = whole[value_at..value_at + len].to_vec();
        whole.truncate(value_at - 4);
        push(&mut whole, attribute::MESSAGE_INTEGRITY_SHA256, &mac);
        all.push(case(40, "SHA-256 truncated", whole, 401));
    }
    let hashed = Client { hashed: true, ..sha.clone() }.introduce(allocate());
    let wrong = hashed.clone().instead(attribute::USERHASH, [9; 32]);
    all.push(case(41, "a hash nobody has", sha.seal(&wrong), 401));
    let short = hashed.instead(attribute::USERHASH, [9; 31]);
    all.push(case(41, "a hash of 31 bytes", sha.seal(&short), 400));
    all
}

fn nonces(scene: &Cast) -> Vec<Case> {
    let (fresh, from) = (&scene.fresh, scene.fresh.sender);
    let sha = Client { scheme: SHA256, ..fresh.clone() };
    let case = |number, what: &str, bytes, code| Case::new(number, what, from, bytes, Expect::Code(code));
    let with_nonce = |nonce: &[u8]| Client { nonce: nonce.to_vec(), ..fresh.clone() }.sign(allocate());
    let mut all = vec![
        case(19, "an empty name", Client { name: vec![], ..fresh.clone() }.sign(allocate()), 401),
        case(19, "an empty realm", Client { realm: vec![], ..fresh.clone() }.sign(allocate()), 401),
        case(19, "an empty nonce", with_nonce(b""), 438),
    ];
    let elsewhere = Client { sender: scene.elsewhere, ..fresh.clone() };
    let borrowed = elsewhere.sign(allocate());
    all.push(Case::new(33, "another port's nonce", elsewhere.sender, borrowed, Expect::Code(438)));
    if let Some(forged) = &scene.forged_nonce {
        all.push(case(35, "a nonce of the future", with_nonce(forged), 438));
    }
    for (len, code) in [(1, 438), (127, 438), (128, 438), (763, 438), (764, 400)] {
        let long: Vec<u8> = fresh.nonce.iter().copied().cycle().take(len).collect();
        all.push(case(36, &format!("a nonce of {len} bytes"), with_nonce(&long), code));
    }
    for features in ["AAAA", "QAAA", "wAAA", "gAAB"] {
        let mut edited = fresh.nonce.clone();
        edited[9..13].copy_from_slice(features.as_bytes());
        all.push(case(37, &format!("a cookie changed to {features}"), with_nonce(&edited), 438));
    }
    all.push(case(37, "a nonce without its cookie", with_nonce(&fresh.nonce[13..]), 438));
    let (list, chosen) = (attribute::PASSWORD_ALGORITHMS, attribute::PASSWORD_ALGORITHM);
    let full = sha.introduce(allocate());
    for (what, draft) in [
        ("a choice and no list", full.clone().without(list)),
        ("a list and no choice", full.clone().without(chosen)),
        ("a list in another order", full.clone().instead(list, [0, 1, 0, 0, 0, 2, 0, 0])),
        ("an unknown algorithm", full.clone().instead(chosen, [0, 3, 0, 0])),
        ("an algorithm with parameters", full.clone().instead(chosen, [0, 2, 0, 4, 0, 0, 0, 0])),
        ("an empty list", full.clone().instead(list, [])),
        ("an empty choice", full.clone().instead(chosen, [])),
    ] {
        all.push(case(38, what, sha.seal(&draft), 400));
    }
    all
}

fn names(scene: &Cast) -> Vec<Case> {
    let (fresh, from) = (&scene.fresh, scene.fresh.sender);
    let case = |number, what: &str, bytes, code| Case::new(number, what, from, bytes, Expect::Code(code));
    let mut all = Vec::new();
    for (what, name, code) in [
        ("513 bytes", vec![b'n'; 513], 401),
        ("763 bytes", vec![b'n'; 763], 401),
        ("764 bytes", vec![b'n'; 764], 400),
        ("invalid UTF-8", b"al\xFFice\xC0\x80".to_vec(), 401),
        ("a NUL", b"ali\0ce".to_vec(), 401),
        ("a line break", b"alice\r\nbob".to_vec(), 401),
        ("marks that turn text around", "alice\u{202E}ecila".into(), 401),
        ("SQL", b"' OR 1=1--".to_vec(), 401),
        ("a format", b"%s%n%s%n".to_vec(), 401),
    ] {
        let bytes = Client { name, ..fresh.clone() }.sign(allocate());
        all.push(case(43, &format!("a name with {what}"), bytes, code));
    }
    let abroad = Client { realm: b"turn.example.net".to_vec(), ..fresh.clone() };
    all.push(case(44, "another server's realm", abroad.sign(allocate()), 401));
    let (now, good) = (scene.unix_s, scene.unix_s + 56_000);
    for name in [
        format!("{}:a", now - 1),
        format!("{now}:a"),
        format!("+{good}:a"),
        format!(" {good}:a"),
        format!("{good} :a"),
        format!("{good:#x}:a"),
        format!("{good}{good}:a"),
        "-1:a".into(),
        ":a".into(),
        "a".into(),
        ":".into(),
        format!("{good};a"),
        format!("{good}+:a"),
        format!("{good}+a0:a"),
        format!("{good}+a4294967296:a"),
        format!("{good}+b99999999999999999999:a"),
        format!("{good}+b1+a1:a"),
        format!("{good}+a1+a1:a"),
        format!("{good}+x1:a"),
        format!("{good}+a1:{good}+b1"),
        format!("+a1:{good}+"),
    ] {
        let limited = Client { name: name.clone().into(), password: rest_password(&name).into(), ..fresh.clone() };
        all.push(case(45, &format!("the time-limited name {name:?}"), limited.sign(allocate()), 401));
    }
    // The longest that is accepted is a day.
    for end_s in [now + 86_401 + scene.lasting_s, now + 100_000_000, 9_999_999_999] {
        let name = format!("{end_s}:a");
        let limited = Client { name: name.clone().into(), password: rest_password(&name).into(), ..fresh.clone() };
        all.push(case(46, &format!("a credential until {name}"), limited.sign(allocate()), 401));
    }
    all
}

#[test]
fn in_028_a_challenge_is_short() {
    let mut scene = Scene::new();
    let state = scene.world.state();
    let reply = scene.world.answer(&scene.stranger, &allocate().encode());
    assert!(reply.bytes.len() <= 100, "{} bytes for {}", reply.bytes.len(), allocate().encode().len());
    assert!(reply.has(attribute::REALM) && reply.has(attribute::NONCE));
    assert_eq!(scene.world.state(), state);
}

#[test]
fn in_032_an_unknown_name_is_refused_like_a_wrong_password() {
    let mut scene = Scene::new();
    let refused = |scene: &mut Scene, name: &str, password: &str| {
        let client = Client { name: name.into(), password: password.into(), ..scene.fresh.clone() };
        scene.world.ask(&client, allocate())
    };
    let known = refused(&mut scene, "alice", "wrong");
    for (name, password) in [("mallory", "wrong"), ("mallory", ALICE.1), ("1893456000:a", "wrong")] {
        let unknown = refused(&mut scene, name, password);
        assert_eq!((unknown.code(), unknown.bytes.len()), (known.code(), known.bytes.len()));
        assert_eq!(unknown.bytes[20..], known.bytes[20..], "to the byte");
    }
}

#[test]
fn in_033_a_borrowed_nonce_is_replaced_by_a_fresh_one() {
    let mut scene = Scene::new();
    let mut elsewhere = Client { sender: udp("192.0.2.1:4010"), ..scene.fresh.clone() };
    let reply = scene.world.ask(&elsewhere, allocate());
    assert_eq!(reply.code(), 438);
    elsewhere.learn(&reply);
    scene.world.succeed(&elsewhere, allocate());
}

#[test]
fn in_034_a_nonce_one_second_too_old_is_438_and_the_retry_works() {
    let mut world = World::new();
    let mut alice = world.alice();
    world.pass_s(600);
    world.succeed(&alice, allocate());
    world.succeed(&alice, refresh(0));
    world.pass_s(1);
    let reply = world.ask(&alice, allocate());
    assert_eq!(reply.code(), 438);
    alice.learn(&reply);
    world.succeed(&alice, allocate());
}

#[test]
fn in_042_what_is_appended_after_the_integrity_changes_nothing() {
    let appended = [
        (attribute::LIFETIME, &[0, 0, 0, 0][..]),
        (attribute::XOR_PEER_ADDRESS, &[0, 1, 0x21, 0x12, 0x29, 0x1A, 0xAC, 0x4A]),
        (attribute::MOBILITY_TICKET, b"ticket"),
        (attribute::EVEN_PORT, &[0x80]),
        (0x7FFF, b"?"),
    ];
    for (kind, value) in appended {
        let mut scene = Scene::new();
        let signed = scene.alice.sign(refresh(1800));
        let mut longer = signed.clone();
        push(&mut longer, kind, value);
        push_fingerprint(&mut longer);
        let reply = scene.world.answer(&scene.alice.sender, &longer);
        let state = scene.world.state();
        let plain = scene.world.answer(&scene.alice.sender, &signed);
        assert_eq!(reply.number(attribute::LIFETIME), plain.number(attribute::LIFETIME), "{kind:#06x}");
        assert_eq!(scene.world.state(), state, "{kind:#06x}");
    }
}

#[test]
fn in_044_who_names_another_realm_is_told_ours() {
    let mut scene = Scene::new();
    let mut abroad = Client { realm: b"turn.example.net".to_vec(), ..scene.fresh.clone() };
    let reply = scene.world.ask(&abroad, allocate());
    assert_eq!((reply.code(), reply.get(attribute::REALM)), (401, Some(REALM.as_bytes())));
    // Told so, it comes in.
    abroad.learn(&reply);
    scene.world.succeed(&abroad, allocate());
}

#[test]
fn in_045_an_expired_credential_keeps_its_allocation_and_makes_no_other() {
    for strict in [false, true] {
        let mut world = World::with(|config| config.auth.strict_expiry = strict);
        let name = format!("{}:carol", START.unix_s + 700);
        let password = rest_password(&name);
        let mut carol = world.login(udp("192.0.2.3:4000"), (&name, &password));
        world.succeed(&carol, allocate().with(attribute::LIFETIME, 3600));
        world.pass_s(699);
        carol.learn(&world.answer(&carol.sender, &refresh(600).encode()));
        let granted_s = world.succeed(&carol, refresh(1800)).number(attribute::LIFETIME);
        assert_eq!(granted_s, Some(if strict { 1 } else { 1800 }));
        world.pass_s(1);
        assert_eq!(world.code(&carol, refresh(1800)), if strict { 401 } else { 0 });
        let second = world.login(udp("192.0.2.3:4001"), (&name, &password));
        assert_eq!(world.code(&second, allocate()), 401);
    }
}

#[test]
fn in_045_a_wall_clock_that_jumps_ends_nothing() {
    let mut scene = Scene::new();
    for unix_ms in [0, 4_102_444_800_000] {
        scene.world.unix_ms = unix_ms;
        scene.world.pass_s(1);
        scene.world.succeed(&scene.alice, refresh(600));
        assert!(matches!(scene.world.deliver(&scene.alice.sender, &channel(0x4000, b"x")), Outcome::Relayed(_)));
    }
}

#[test]
fn in_047_a_captured_allocate_is_worth_nothing_elsewhere() {
    let mut scene = Scene::new();
    let captured = scene.fresh.sign(allocate());
    let state = scene.world.state();
    for thief in ["192.0.2.1:4010", "192.0.2.66:4009", "[2001:db8::1]:4009"] {
        assert_eq!(scene.world.answer(&udp(thief), &captured).code(), 438, "{thief}");
    }
    assert_eq!(scene.world.state(), state);
}

#[test]
fn in_048_guessing_is_slowed_and_others_are_not() {
    let mut scene = Scene::new();
    let guesser = scene.world.login(scene.stranger, ("alice", "guess"));
    let mut answered = 1;
    for _ in 0..1000 {
        match scene.world.deliver(&guesser.sender, &guesser.sign(allocate())) {
            Outcome::Answer(reply) => {
                assert_eq!(reply.code(), 401);
                answered += 1;
            }
            other => assert_eq!(other, Outcome::Silence(DropReason::Unverified)),
        }
    }
    assert_eq!(answered, 200, "the burst");
    let honest = scene.world.login(udp("192.0.2.67:6666"), ALICE);
    scene.world.succeed(&honest, allocate());
    scene.world.succeed(&scene.alice, refresh(600));
    let right = Client { password: ALICE.1.into(), ..guesser.clone() };
    scene.world.succeed(&right, allocate());
    scene.world.pass_s(1);
    let later = (0..1000)
        .filter(|_| matches!(scene.world.deliver(&udp("192.0.2.66:1"), &allocate().encode()), Outcome::Answer(_)));
    assert_eq!(later.count(), 50, "a second's worth, whatever the port");
}

#[test]
fn in_048_who_has_an_allocation_or_a_connection_is_answered_always() {
    let mut scene = Scene::new();
    let neighbour = udp("192.0.2.1:9999");
    let answered = |_: &i32| matches!(scene.world.deliver(&neighbour, &allocate().encode()), Outcome::Answer(_));
    assert!((0..1000).filter(answered).count() < 1000);
    let stale = Client { nonce: b"stale".to_vec(), ..scene.alice.clone() };
    assert_eq!(scene.world.code(&stale, refresh(600)), 438);
    assert_eq!(scene.world.answer(&scene.alice.sender, &binding().encode()).code(), 0);
    for transport in [Transport::Tcp, Transport::Tls] {
        assert_eq!(scene.world.answer(&over(transport, neighbour), &allocate().encode()).code(), 401);
    }
    assert_eq!(scene.world.silence(&neighbour, &binding().encode()), DropReason::Unverified);
}
