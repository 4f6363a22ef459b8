//! IN-001 to IN-027: headers, lengths, attributes.

use crate::OnStream::*;
use crate::wire_client::*;
use crate::{Case, Cast, Expect, Scene};
use turnpike::turn::DropReason::{self, *};
use turnpike::turn::Verdict;
use turnpike::wire::attribute;
use turnpike::wire::stun::{Class, Method};

/// A Binding request with some bytes put in place of others.
fn edited(edits: &[(usize, u8)]) -> Vec<u8> {
    let mut bytes = binding().encode();
    edits.iter().for_each(|&(at, byte)| bytes[at] = byte);
    bytes
}

/// A Binding request whose one attribute claims a length.
fn claiming(len: u16) -> Vec<u8> {
    let mut bytes = binding().with(0x8022, &b"four"[..]).encode();
    bytes[22..24].copy_from_slice(&len.to_be_bytes());
    bytes
}

fn with_fingerprint(draft: &Draft) -> Vec<u8> {
    let mut bytes = draft.encode();
    push_fingerprint(&mut bytes);
    bytes
}

pub fn cases(scene: &Cast) -> Vec<Case> {
    let mut all = headers(scene);
    all.extend(messages(scene));
    all.extend(attributes(scene));
    all
}

fn headers(scene: &Cast) -> Vec<Case> {
    let stranger = scene.stranger;
    let silent = |number, what: &str, bytes, reason| Case::new(number, what, stranger, bytes, Expect::Silence(reason));
    let whole = binding().encode();
    let followed = |by: &[u8]| [&whole[..], by].concat();
    let mut all = vec![
        silent(1, "nothing at all", vec![], Malformed).but(Never),
        silent(3, "no cookie", edited(&[(4, 0), (5, 0), (6, 0), (7, 0)]), Malformed).but(Closed(&[Malformed])),
        silent(4, "first bits 01: a channel nobody has", edited(&[(0, 0x40)]), NoAllocation)
            .but(Closed(&[NoAllocation, Malformed])),
        silent(4, "first bits 01, no channel", edited(&[(0, 0x50)]), Malformed).but(Closed(&[Malformed])),
        silent(4, "first bits 10", edited(&[(0, 0x80)]), Malformed).but(Closed(&[Malformed])),
        silent(4, "first bits 11", edited(&[(0, 0xC0)]), Malformed).but(Closed(&[Malformed])),
        silent(5, "a length of 3", [edited(&[(3, 3)]), vec![0; 3]].concat(), Malformed).but(Closed(&[Malformed])),
        silent(6, "a length beyond the datagram", edited(&[(3, 4)]), Malformed).but(Waits),
        silent(6, "a length short of the datagram", followed(&[0x80, 0x22, 0, 0]), Malformed).but(AnsweredThenClosed),
        silent(6, "a length of 0xFFFC in 20 bytes", edited(&[(2, 0xFF), (3, 0xFC)]), Malformed).but(Waits),
        silent(7, "one byte too many", followed(&[0]), Malformed).but(AnsweredThenWaits),
        silent(7, "three bytes too many", followed(&[0; 3]), Malformed).but(AnsweredThenWaits),
        Case::new(8, "a transaction of zeros", stranger, binding().under([0; 12]).encode(), Expect::Code(0)),
    ];
    for len in 1..whole.len() {
        all.push(silent(2, &format!("the first {len} bytes of a header"), whole[..len].to_vec(), Malformed).but(Waits));
    }
    // Bytes that a parser may take for more than there is, as many as a header and a little has.
    let attributes = binding().with(0x8022, &b"sixteen bytes!!!"[..]).encode();
    for len in 21..attributes.len() {
        let part = attributes[..len].to_vec();
        all.push(silent(2, &format!("the first {len} bytes of a message"), part, Malformed).but(Waits));
    }
    if let Some(source) = scene.port_zero {
        let silence = Expect::Silence(Source);
        all.push(Case::new(10, "from port 0", source, whole.clone(), silence));
        all.push(Case::new(10, "an Allocate from port 0", source, allocate().encode(), silence));
    }
    all
}

fn messages(scene: &Cast) -> Vec<Case> {
    let unasked = [
        (11, "a success", Draft::new(Class::Success, Method::BINDING)),
        (11, "an error", Draft::new(Class::Error, Method::ALLOCATE).with(attribute::ERROR_CODE, [0, 0, 4, 1])),
        (12, "a Binding indication", indication(Method::BINDING)),
        (13, "an unknown method", request(Method::from_bits(0x0FF))),
        (13, "the highest method whose first byte is STUN's (RFC 7983 §7)", request(Method::from_bits(0x0FE))),
        (13, "a Connect request", request(Method::CONNECT)),
        (13, "an unknown method's indication", indication(Method::from_bits(0x0FF))),
        (14, "a Data indication", send(peer("8.8.8.8:7000"), b"x")),
    ];
    let mut all = Vec::new();
    for (number, what, mut draft) in unasked {
        if draft.method == Method::SEND {
            draft.method = Method::DATA;
        }
        for from in [scene.stranger, scene.fresh.sender, scene.alice.sender] {
            all.push(Case::new(number, what, from, draft.encode(), Expect::Silence(Unexpected)));
        }
        let signed = scene.fresh.sign(draft);
        all.push(Case::new(number, what, scene.fresh.sender, signed, Expect::Silence(Unexpected)));
    }
    all
}

fn attributes(scene: &Cast) -> Vec<Case> {
    let (stranger, alice) = (scene.stranger, &scene.alice);
    let case = |number, what, bytes, expect| Case::new(number, what, stranger, bytes, expect);
    let silence = |reason: DropReason| Expect::Silence(reason);
    let mut b1 = binding().with(attribute::USERHASH, [7; 32]).with(attribute::NONCE, [b'n'; 41]);
    b1 = b1.with(attribute::REALM, &b"example.org"[..]).with(attribute::MESSAGE_INTEGRITY_SHA256, [7; 32]);
    let mut counts_itself = b1.encode();
    counts_itself[2..4].copy_from_slice(&[0, 0x9C]);
    let many = (0..200).fold(binding(), |draft, n| draft.with(0x7000 + n, []));
    let mut padded = binding().with(attribute::USERNAME, &b"alice"[..]);
    padded.padding = 0xFF;
    let mut middle = binding().encode();
    push_fingerprint(&mut middle);
    push(&mut middle, 0x7FFF, &[]);
    let mut wrong = with_fingerprint(&binding());
    wrong[27] ^= 1;
    let fingerprint = |len: usize| binding().with(attribute::FINGERPRINT, &vec![7; len][..]).encode();
    let mut all = vec![
        case(15, "a header that counts itself, as RFC 8489 B.1 prints it", counts_itself, silence(Malformed))
            .but(Waits),
        case(16, "an attribute beyond the end", claiming(5), silence(Malformed)),
        case(16, "half an attribute header", [edited(&[(3, 2)]), vec![0; 2]].concat(), silence(Malformed))
            .but(Closed(&[Malformed])),
        case(17, "an attribute of 0xFFFF bytes", claiming(0xFFFF), silence(Malformed)),
        case(18, "padding that is not zero", padded.encode(), Expect::Code(0)),
        case(20, "an unknown required attribute", binding().with(0x7FFF, []).encode(), Expect::Code(420)),
        case(21, "200 unknown required attributes", many.encode(), Expect::Code(420)),
        case(22, "an unknown optional attribute", binding().with(0xFFFF, []).encode(), Expect::Code(0)),
        case(26, "a wrong FINGERPRINT", wrong, silence(Fingerprint)),
        case(26, "FINGERPRINT in the middle", middle, Expect::Code(0)),
        case(27, "FINGERPRINT of 3 bytes", fingerprint(3), silence(Fingerprint)),
        case(27, "FINGERPRINT of 5 bytes", fingerprint(5), silence(Fingerprint)),
        case(27, "FINGERPRINT of no bytes", fingerprint(0), silence(Fingerprint)),
    ];
    for (what, value) in [
        ("family 3", &[0, 3, 0, 9, 8, 8, 8, 8][..]),
        ("7 bytes", &[0, 1, 0, 9, 8, 8, 8]),
        ("9 bytes", &[0, 1, 0, 9, 8, 8, 8, 8, 8]),
        ("IPv6 in 8 bytes", &[0, 2, 0, 9, 8, 8, 8, 8]),
        ("nothing", &[]),
    ] {
        let named = |draft: Draft| draft.instead(attribute::XOR_PEER_ADDRESS, value);
        let what = format!("a peer address of {what}");
        let permission = alice.sign(named(permit(&[])));
        let channel = alice.sign(named(bind(0x4001, peer("8.8.8.8:1"))));
        let sent = named(send(peer("8.8.8.8:1"), b"x")).encode();
        all.push(Case::new(24, &what, alice.sender, permission, Expect::Code(400)));
        all.push(Case::new(24, &what, alice.sender, channel, Expect::Code(400)));
        all.push(Case::new(24, &what, alice.sender, sent, silence(BadIndication)));
    }
    all
}

#[test]
fn in_008_a_binding_answer_has_32_bytes() {
    let mut scene = Scene::new();
    let reply = scene.world.answer(&scene.stranger, &binding().under([0; 12]).encode());
    assert_eq!((reply.bytes.len(), reply.address(attribute::XOR_MAPPED_ADDRESS)), (32, peer("192.0.2.66:6666")));
}

#[test]
fn in_009_the_longest_datagram_is_read_and_costs_nothing() {
    let mut scene = Scene::new();
    let state = scene.world.state();
    let longest = (0..16_371).fold(binding(), |draft, _| draft.with(0xFFFF, []));
    assert_eq!(longest.encode().len(), 65_504);
    assert_eq!(scene.world.answer(&scene.stranger, &longest.encode()).code(), 0);
    let named = (0..16_371).fold(binding(), |draft, _| draft.with(0x7FFF, []));
    let reply = scene.world.answer(&scene.stranger, &named.encode());
    assert_eq!((reply.code(), reply.bytes.len() <= 100), (420, true));
    assert_eq!(scene.world.state(), state);
}

#[test]
fn in_021_of_many_unknown_attributes_the_first_are_named() {
    let mut scene = Scene::new();
    let many = (0..200).fold(binding(), |draft, n| draft.with(0x7000 + n, []));
    let reply = scene.world.answer(&scene.stranger, &many.encode());
    let listed = reply.get(attribute::UNKNOWN_ATTRIBUTES).unwrap();
    let expected: Vec<u8> = (0x7000..0x701E_u16).flat_map(u16::to_be_bytes).collect();
    assert_eq!(listed, expected);
}

#[test]
fn in_023_of_two_peers_in_a_send_the_first_counts() {
    let mut scene = Scene::new();
    let doubled = send(peer("8.8.8.8:1"), b"x").with(attribute::XOR_PEER_ADDRESS, peer("9.9.9.9:9"));
    let verdict = scene.world.relayed(&scene.alice.sender, &doubled.encode());
    assert!(matches!(verdict, Verdict::ToPeer { peer: to, .. } if to.0 == peer("8.8.8.8:1")));
    let swapped = send(peer("9.9.9.9:9"), b"x").with(attribute::XOR_PEER_ADDRESS, peer("8.8.8.8:1"));
    assert_eq!(scene.world.silence(&scene.alice.sender, &swapped.encode()), NoPermission);
    let broken = indication(Method::SEND).with(attribute::XOR_PEER_ADDRESS, [0; 3]);
    let broken = broken.with(attribute::XOR_PEER_ADDRESS, peer("8.8.8.8:1")).with(attribute::DATA, &b"x"[..]);
    assert_eq!(scene.world.silence(&scene.alice.sender, &broken.encode()), BadIndication);
}

#[test]
fn in_025_the_order_of_attributes_does_not_matter() {
    let mut world = World::new();
    let alice = world.alice();
    let draft = allocate().with(attribute::LIFETIME, 900).with(attribute::DONT_FRAGMENT, []);
    let full = alice.introduce(draft);
    let count = full.attributes.len();
    let permutations: usize = (1..=count).product();
    for number in 0..permutations {
        // The digits of the number, in the factorial system, pick from what is left.
        let (mut left, mut rest) = (full.attributes.clone(), number);
        let mut shuffled = allocate();
        shuffled.attributes.clear();
        for size in (1..=count).rev() {
            shuffled.attributes.push(left.remove(rest % size));
            rest /= size;
        }
        let reply = world.answer(&alice.sender, &alice.seal(&shuffled));
        assert_eq!((reply.code(), reply.number(attribute::LIFETIME)), (0, Some(900)), "permutation {number}");
        world.succeed(&alice, refresh(0));
    }
}
