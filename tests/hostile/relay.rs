//! IN-108 to IN-111: what is to be relayed, and what only looks like it.

use crate::OnStream::Waits;
use crate::wire_client::*;
use crate::{Case, Cast, Expect, Scene};
use turnpike::turn::DropReason::{self, *};
use turnpike::turn::{Framing, Verdict};
use turnpike::wire::DATAGRAM_LEN_MAX;
use turnpike::wire::attribute;
use turnpike::wire::stun::Method;

pub fn cases(scene: &Cast) -> Vec<Case> {
    let (alice, stranger) = (scene.alice.sender, scene.stranger);
    let permitted = peer("8.8.8.8:7000");
    let full = channel(0x4000, &[7; 100]);
    let no_payload = indication(Method::SEND).with(attribute::XOR_PEER_ADDRESS, permitted).encode();
    let case =
        |number, what, from, bytes, reason: DropReason| Case::new(number, what, from, bytes, Expect::Silence(reason));
    vec![
        case(108, "100 bytes claimed and 99 there", alice, full[..103].to_vec(), Malformed).but(Waits),
        case(108, "0xFFFF bytes claimed and none there", alice, vec![0x40, 0, 0xFF, 0xFF], Malformed).but(Waits),
        case(108, "an unbound channel", alice, channel(0x4001, b"x"), NoChannel),
        case(108, "a stranger's channel data", stranger, full, NoAllocation),
        case(109, "a Send without DATA", alice, no_payload, BadIndication),
        case(109, "a stranger's Send", stranger, send(permitted, b"x").encode(), NoAllocation),
        case(
            111,
            "a spoofed Send to a peer nobody permitted",
            alice,
            send(peer("9.9.9.9:9"), b"x").encode(),
            NoPermission,
        ),
        case(
            111,
            "a spoofed Send to an address nobody may reach",
            alice,
            send(peer("127.0.0.1:22"), b"x").encode(),
            NoPermission,
        ),
    ]
}

#[test]
fn in_108_padding_is_not_relayed_and_empty_is() {
    let mut scene = Scene::new();
    let full = channel(0x4000, &[7; 100]);
    for padding in 0..4 {
        let padded = [&full[..], &vec![9; padding]].concat();
        let verdict = scene.world.relayed(&scene.alice.sender, &padded);
        assert!(matches!(verdict, Verdict::ToPeer { payload, .. } if payload == (4..104)));
    }
    let verdict = scene.world.relayed(&scene.alice.sender, &channel(0x4000, b""));
    assert!(matches!(verdict, Verdict::ToPeer { payload, .. } if payload.is_empty()));
}

#[test]
fn in_109_an_empty_send_is_sent_and_dont_fragment_is_told() {
    let mut scene = Scene::new();
    let to = peer("8.8.8.8:7000");
    let verdict = scene.world.relayed(&scene.alice.sender, &send(to, b"").encode());
    assert!(matches!(verdict, Verdict::ToPeer { payload, dont_fragment: false, .. } if payload.is_empty()));
    let long = send(to, &[7; 1600]).with(attribute::DONT_FRAGMENT, []).encode();
    let verdict = scene.world.relayed(&scene.alice.sender, &long);
    assert!(matches!(verdict, Verdict::ToPeer { payload, dont_fragment: true, .. } if payload.len() == 1600));
}

#[test]
fn in_110_a_peer_is_heard_by_its_address_while_permitted() {
    let mut scene = Scene::new();
    let heard = |scene: &mut Scene, from: &str| scene.world.hear(&scene.alice, peer(from), 9);
    assert_eq!(heard(&mut scene, "8.8.8.9:7000"), Verdict::Drop(NoPermission));
    let other_port = heard(&mut scene, "8.8.8.8:1");
    assert!(matches!(other_port, Verdict::ToClient { framing: Framing::DataIndication(_), .. }));
    scene.world.pass_ms(300_000);
    for from in ["8.8.8.8:7000", "8.8.8.8:1"] {
        assert_eq!(heard(&mut scene, from), Verdict::Drop(NoPermission), "{from}");
    }
}

#[test]
fn in_110_what_does_not_fit_its_frame_is_dropped() {
    let mut scene = Scene::new();
    let mut framed = |from: &str, len| scene.world.hear(&scene.alice, peer(from), len);
    // ChannelData is not padded on UDP; an indication is, so the longest one is 65,504.
    for (from, fits) in [("8.8.8.8:7000", DATAGRAM_LEN_MAX - 4), ("8.8.8.8:1", (DATAGRAM_LEN_MAX - 36) / 4 * 4)] {
        assert!(matches!(framed(from, fits), Verdict::ToClient { .. }), "{from}");
        assert_eq!(framed(from, fits + 1), Verdict::Drop(Oversize), "{from}");
    }
}
