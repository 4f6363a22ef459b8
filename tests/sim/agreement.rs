//! Whether what the server did is what the model expects, to the byte.

use super::act::Act;
use super::message::{self as m, Class, Reading};
use super::model::{Expected, Model, Path, Reply, path};
use turnpike::turn::{AllocationId, ClientId, Framing, LinkId, Now, Server, Verdict};
use turnpike::wire::stun::{self, TransactionId};
use turnpike::wire::{channel, padded};

/// Bytes an answer to a stranger may have, FINGERPRINT aside.
const STRANGER_LEN_MAX: usize = 100;

/// Compares; what an answer teaches the model is taken from it.
pub fn agree(server: &Server, model: &mut Model, now: Now, act: &Act<'_>, expected: &Expected) {
    match (&act.verdict, expected) {
        (Verdict::Drop(reason), Expected::Silence(reasons)) => {
            assert!(reasons.contains(reason), "dropped for {reason:?}, not for one of {reasons:?}");
        }
        (
            Verdict::ToPeer { via, peer, payload, dont_fragment },
            Expected::ToPeer { from, peer: to, payload: bytes, dont_fragment: df, own: false },
        ) => {
            assert_eq!((peer.0, *dont_fragment), (*to, *df), "to a peer");
            assert!(leaves_from(server, *via, now, *from) && act.bytes[payload.clone()] == **bytes, "{expected:?}");
        }
        (
            Verdict::ToRelay { via, from, to, payload },
            Expected::ToPeer { from: own, peer, payload: bytes, own: true, .. },
        ) => {
            assert_eq!((from.0, to.0), (*own, *peer), "in process");
            assert!(leaves_from(server, *via, now, *own) && act.bytes[payload.clone()] == **bytes, "{expected:?}");
        }
        (Verdict::ToClient { client, payload, .. }, Expected::ToClient { to, link, peer, channel }) => {
            assert_goes_to(client, to, *link);
            assert_eq!(*payload, 0..act.bytes.len(), "the whole datagram is relayed");
            assert_framed(act, *peer, *channel);
        }
        (Verdict::Reply { len, answer }, Expected::Reply(reply)) => {
            let reading = m::read(&act.out[..*len]).expect("an answer is well-formed");
            assert_eq!(answer.code, reading.code(), "the code for the counters");
            assert_reply(model, act, &reading, reply, *len);
            learn(model, now, act, &reading);
        }
        (Verdict::Indicate { client, len }, Expected::Icmp { to, link, peer, value }) => {
            assert_goes_to(client, to, *link);
            let r = m::read(&act.out[..*len]).expect("an indication is well-formed");
            assert_eq!((r.class, r.method), (Class::Indication, m::DATA_METHOD));
            let told = vec![(m::XOR_PEER_ADDRESS, m::encode_address(*peer, &r.tid)), (m::ICMP, value.to_vec())];
            assert_eq!(r.attributes, told, "an ICMP error is told as it is");
        }
        (verdict, expected) => panic!("the server: {verdict:?}\nthe model:  {expected:?}"),
    }
}

fn leaves_from(server: &Server, via: AllocationId, now: Now, from: std::net::SocketAddr) -> bool {
    let relay = server.allocation(via).and_then(|a| {
        let family = turnpike::wire::attribute::Family::of(from.ip());
        a.relay(family, now.mono_ms)
    });
    relay.is_some_and(|relay| relay.relayed.0 == from)
}

fn assert_goes_to(client: &ClientId, to: &Path, link: LinkId) {
    assert_eq!((client.addr.0, client.link), (to.0, link), "the way to the client");
}

/// Frames a peer's bytes as an engine would, for the client of `act`.
pub fn frame(framing: Framing, payload: &[u8], is_stream: bool) -> Vec<u8> {
    let mut bytes = match framing {
        Framing::ChannelData(number) => channel::header(number, payload.len()).to_vec(),
        Framing::DataIndication(peer) => {
            let mut headroom = [0xA5; stun::DATA_INDICATION_HEADER_MAX];
            stun::data_indication_header(&mut headroom, peer.0, payload.len(), TransactionId([3; 12]));
            headroom[headroom.len() - stun::data_indication_header_len(peer.0)..].to_vec()
        }
    };
    bytes.extend(payload);
    if is_stream || matches!(framing, Framing::DataIndication(_)) {
        bytes.resize(padded(bytes.len()), 0);
    }
    bytes
}

/// Reads the frame as a client would.
fn assert_framed(act: &Act<'_>, peer: std::net::SocketAddr, channel: Option<u16>) {
    let Verdict::ToClient { framing, .. } = act.verdict else { return };
    let framed = frame(framing, act.bytes, false);
    match channel {
        Some(number) => {
            let [n0, n1] = number.to_be_bytes();
            let [l0, l1] = (act.bytes.len() as u16).to_be_bytes();
            assert_eq!(framed[..4], [n0, n1, l0, l1], "ChannelData");
            assert!(framed[4..] == *act.bytes, "ChannelData carries the datagram");
        }
        None => {
            let r = m::read(&framed).expect("a Data indication is well-formed");
            assert_eq!((r.class, r.method), (Class::Indication, m::DATA_METHOD));
            assert_eq!(r.attributes[0], (m::XOR_PEER_ADDRESS, m::encode_address(peer, &r.tid)));
            assert!(r.attributes.len() == 2 && r.get(m::DATA) == Some(act.bytes), "a Data indication");
        }
    }
}

fn assert_reply(model: &Model, act: &Act<'_>, r: &Reading, expected: &Reply, len: usize) {
    let request = m::read(act.bytes).expect("only a message is answered");
    assert_eq!((r.class, r.method, r.tid), (expected.class, request.method, request.tid), "what is answered");
    assert!(expected.codes.contains(&r.code()), "code {} is not one of {:?}", r.code(), expected.codes);
    assert_eq!(r.class == Class::Error, r.code() != 0);
    let mut attributes = r.attributes.clone();
    attributes.retain(|(kind, _)| !matches!(*kind, m::ERROR_CODE | m::NONCE));
    let mut wanted = expected.attributes.clone();
    attributes.sort_unstable();
    wanted.sort_unstable();
    assert_eq!(attributes, wanted, "the attributes of the answer (left) and those expected (right)");
    let nonce = r.get(m::NONCE);
    assert_eq!(nonce.is_some(), expected.challenge, "a nonce comes with a challenge only");
    assert!(nonce.is_none_or(|nonce| nonce.starts_with(&model.nonce_prefix())), "the nonce names its features");
    match &expected.seal {
        Some((seal, key)) => assert!(r.seal() == Some(*seal) && r.is_sealed_by(key), "INV-7: sealed with {seal:?}"),
        None => {
            assert_eq!(r.seal(), None, "sealed with a key that nobody proved");
            let fingerprint = if r.fingerprint { 8 } else { 0 };
            assert!(len <= STRANGER_LEN_MAX + fingerprint, "{len} bytes for a stranger");
        }
    }
    assert_eq!(r.fingerprint, expected.fingerprint, "FINGERPRINT is answered in kind");
    assert!(expected.may_change || act.is_without_effect(), "events of a request that changes nothing");
}

fn learn(model: &mut Model, now: Now, act: &Act<'_>, r: &Reading) {
    if let (Some(nonce), Some(from)) = (r.get(m::NONCE), act.from) {
        model.learn_nonce(now, path(&from.tuple), nonce);
    }
}
