//! Those who have proved nothing: how long an answer they get, how many, and whom that never concerns.

use crate::wire_client::{
    ALICE, BOB, Client, Outcome, REALM, World, allocate, bind, binding, moved, over, peer, permit, push_fingerprint,
    refresh, request, udp,
};
use turnpike::turn::quota::UNVERIFIED_TOTAL_PER_SECOND;
use turnpike::turn::{DropReason, Sender, Transport, Verdict};
use turnpike::wire::stun::Method;

const HERE: &str = "192.0.2.1:4000";
const ELSEWHERE: &str = "192.0.2.2:4000";
/// Answers to one source at once: four seconds' worth.
const BURST: usize = 200;

/// The length and the code of an answer; `None` is silence.
fn answer(world: &mut World, from: &Sender, request: &[u8]) -> Option<(usize, u16)> {
    let (now, mut out) = (world.now(), [0; 1500]);
    match world.server.handle_client(now, from, request, &mut world.ports, &mut out) {
        Verdict::Reply { len, answer } => Some((len, answer.code)),
        Verdict::Drop(DropReason::Unverified) => None,
        other => panic!("an answer, or silence for want of a proof: {other:?}"),
    }
}

/// How many of so many requests are answered.
fn answered(world: &mut World, from: &Sender, request: &[u8], count: usize) -> usize {
    (0..count).filter(|_| answer(world, from, request).is_some()).count()
}

// What is sent in another's name must not be answered with much more than it took.
#[test]
fn an_answer_to_a_stranger_is_short_and_never_several_times_its_request() {
    for realm in [REALM, "turn.example.org"] {
        let mut world = World::with(|config| config.realm = realm.into());
        let from = udp(HERE);
        let here = peer("9.9.9.9:9");
        let stale = {
            let mut client = Client::new(from, ALICE);
            (client.realm, client.nonce) = (realm.into(), b"obMatJos2gAAA".to_vec());
            client
        };
        let methods = [Method::BINDING, Method::ALLOCATE, Method::REFRESH, Method::CREATE_PERMISSION];
        // No client begins with one of these, but RFC 8489 §9.2.4 has them challenged like any other.
        let bare = methods.map(|method| (request(method).encode(), 50));
        let first = [binding(), allocate(), refresh(600), permit(&[here]), bind(0x4000, here)];
        let first = first.map(|draft| (draft.encode(), 36));
        let unknown = (1..60u16).map(|n| {
            let draft = (0..n).fold(binding(), |draft, kind| draft.with(0x7F00 + kind, []));
            (draft.encode(), 36)
        });
        let signed = [stale.sign(allocate()), stale.sign(refresh(600))].map(|request| (request, 14));
        for (plain, tenths) in bare.into_iter().chain(first).chain(unknown).chain(signed) {
            for marked in [false, true] {
                let mut request = plain.clone();
                if marked {
                    push_fingerprint(&mut request);
                }
                let (len, code) = answer(&mut world, &from, &request).expect("nobody is over a limit yet");
                world.pass_s(1);
                let most = if marked { 108 } else { 100 };
                assert!(len <= most, "{len} bytes, {code} to {request:?}");
                assert!(
                    len * 10 <= request.len() * tenths,
                    "{len} bytes, {code} to the {} of {request:?}",
                    request.len()
                );
            }
        }
    }
}

#[test]
fn a_stranger_gets_so_many_answers_whatever_it_asks() {
    let from = udp(HERE);
    let forger = Client { nonce: b"a nonce".to_vec(), ..Client::new(from, (ALICE.0, "a guess")) };
    let requests = [binding().encode(), allocate().encode(), request(Method::ALLOCATE).encode()].into_iter().chain([
        binding().with(0x7FFF, []).encode(),
        forger.sign(allocate()),
        forger.sign(refresh(600)),
    ]);
    for request in requests {
        let mut world = World::new();
        assert_eq!(answered(&mut world, &from, &request, BURST), BURST);
        assert_eq!(answer(&mut world, &from, &request), None, "one more");
        // Another port is no other source, and another question no other answer.
        assert_eq!(answer(&mut world, &moved("192.0.2.1:9", from), &binding().encode()), None);
        assert!(answer(&mut world, &moved(ELSEWHERE, from), &request).is_some());
        world.pass_s(1);
        assert_eq!(answered(&mut world, &from, &request, BURST), 50);
    }
}

#[test]
fn who_has_an_allocation_or_proves_himself_is_never_limited() {
    let mut world = World::new();
    let alice = world.allocated();
    let mut bob = world.login(udp("192.0.2.1:5000"), BOB);
    while answer(&mut world, &udp("192.0.2.1:1"), &binding().encode()).is_some() {}
    // The source has used up what strangers get, and those who are none go on.
    for _ in 0..2 * BURST {
        for draft in [binding(), refresh(600), permit(&[peer("9.9.9.9:9")]), bind(0x4000, peer("9.9.9.9:9"))] {
            let is_open = draft.method == Method::BINDING;
            let request = if is_open { draft.encode() } else { alice.sign(draft) };
            assert_eq!(world.answer(&alice.sender, &request).code(), 0);
        }
        assert_eq!(world.code(&bob, refresh(600)), 437, "he has proved himself, and has no allocation");
    }
    world.succeed(&bob, allocate());
    // A nonce of yesterday is answered with a new one, and a slip with a challenge.
    world.pass_ms(599_000);
    world.succeed(&alice, refresh(3600));
    world.succeed(&bob, refresh(3600));
    world.pass_s(601);
    while answer(&mut world, &udp("192.0.2.1:1"), &binding().encode()).is_some() {}
    let challenge = world.ask(&bob, refresh(600));
    assert_eq!(challenge.code(), 438);
    bob.learn(&challenge);
    world.succeed(&bob, refresh(600));
}

#[test]
fn in_048_a_hundred_wrong_passwords_are_silenced_and_the_right_one_elsewhere_is_not() {
    for transport in Transport::ALL {
        let mut world = World::new();
        let mut guess = world.login(over(transport, udp(HERE)), (ALICE.0, "a guess"));
        let challenges = usize::from(transport == Transport::Udp);
        let guesses = |world: &mut World, guess: &Client, count: usize| {
            let request = guess.sign(allocate());
            answered(world, &guess.sender, &request, count)
        };
        assert_eq!(guesses(&mut world, &guess, BURST - challenges), BURST - challenges, "{transport:?}");
        for _ in 0..10 {
            assert_eq!(guesses(&mut world, &guess, 100), 0, "{transport:?}");
            guess.sender = moved(&format!("192.0.2.1:{}", 1 + guess.sender.tuple.client.0.port()), guess.sender);
        }
        let other = world.login(over(transport, udp(ELSEWHERE)), ALICE);
        world.succeed(&other, allocate());
        world.pass_s(1);
        assert_eq!(guesses(&mut world, &guess, 100), 50, "{transport:?}");
    }
}

// Where anyone may allocate, that proves nothing of where a datagram comes from.
#[test]
fn the_anonymous_are_strangers_until_they_have_an_allocation() {
    let mut world = World::with(|config| config.auth.anonymous = true);
    let at = |port: usize| udp(&format!("192.0.2.1:{}", 10_000 + port));
    let ask = |world: &mut World, port| world.deliver(&at(port), &allocate().encode());
    for port in 0..BURST {
        let Outcome::Answer(reply) = ask(&mut world, port) else { panic!("it is served") };
        assert_eq!(reply.code(), 0);
    }
    assert_eq!(ask(&mut world, BURST), Outcome::Silence(DropReason::Unverified));
    assert_eq!(world.server.allocation_count(), BURST);
    assert_eq!(world.answer(&at(7), &refresh(600).encode()).code(), 0);
    let Outcome::Answer(reply) = world.deliver(&over(Transport::Tcp, at(BURST)), &allocate().encode()) else {
        panic!("a connection shows where it comes from")
    };
    assert_eq!(reply.code(), 0);
}

#[test]
fn in_a_crowd_a_newcomer_gets_five_answers_a_second_and_a_client_all_of_his() {
    let mut world = World::new();
    let alice = world.allocated();
    let crowd = |n: u32| udp(&format!("11.{}.{}.{}:7", n >> 16, n >> 8 & 255, n & 255));
    for n in 0..UNVERIFIED_TOTAL_PER_SECOND as u32 {
        assert!(answer(&mut world, &crowd(n), &allocate().encode()).is_some());
    }
    for newcomer in [ELSEWHERE, "192.0.2.3:9"].map(udp) {
        assert_eq!(answered(&mut world, &newcomer, &allocate().encode(), 1_000), 5, "{newcomer:?}");
    }
    for second in 1..5 {
        world.pass_s(1);
        for n in 0..UNVERIFIED_TOTAL_PER_SECOND as u32 {
            answer(&mut world, &crowd(n), &allocate().encode());
        }
        assert_eq!(answered(&mut world, &udp(ELSEWHERE), &allocate().encode(), 100), 5, "in second {second}");
    }
    for _ in 0..100 {
        world.succeed(&alice, refresh(600));
    }
    let bob = world.login(udp("192.0.2.77:5000"), BOB);
    world.succeed(&bob, allocate());
}
