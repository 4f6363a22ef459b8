//! What surrounds a payload between client and server. Pure.

use super::Via;
use super::client::{channel, transaction_id};
use super::pace::Rng;
use crate::wire::attribute;
use crate::wire::channel::{self as channel_frame, ChannelData, ChannelRange};
use crate::wire::padded;
use crate::wire::stun::{Class, Message, Method, Writer};
use std::io;
use std::net::SocketAddr;
use std::ops::Range;

/// Room for all that precedes a payload in a Send indication.
const HEAD_LEN_MAX: usize = 64;

/// What precedes every payload of a flow.
pub fn head(via: Via, peer: SocketAddr, payload_len: usize, rng: &mut Rng) -> io::Result<Vec<u8>> {
    match via {
        Via::Channel => Ok(channel_frame::header(channel(), payload_len).to_vec()),
        Via::Indication => send_indication(peer, payload_len, rng),
    }
}

/// Length of a payload and of what follows it, which is zeros. ChannelData is padded by streams alone, and by them.
pub fn body_len(via: Via, payload_len: usize) -> usize {
    match via {
        Via::Channel => payload_len,
        Via::Indication => padded(payload_len),
    }
}

/// A Send indication up to its payload; DATA comes last.
fn send_indication(peer: SocketAddr, payload_len: usize, rng: &mut Rng) -> io::Result<Vec<u8>> {
    let mut out = vec![0; HEAD_LEN_MAX + padded(payload_len)];
    let len = Writer::new(&mut out, Class::Indication, Method::SEND, transaction_id(rng))
        .push_xor_address(attribute::XOR_PEER_ADDRESS, peer)
        .push(attribute::DATA, &vec![0; payload_len])
        .finish()
        .map_err(|_| io::Error::other("an indication did not fit"))?;
    out.truncate(len - padded(payload_len));
    Ok(out)
}

/// Where the payload lies in what a server sent to a client, if it is framed as it was asked to be and says that it
/// comes from the peer. Behind a NAT the server knows the peer by another address: the port is what is compared.
#[inline]
pub fn unframe(message: &[u8], via: Via, peer: SocketAddr) -> Option<Range<usize>> {
    match via {
        Via::Channel => {
            let frame = ChannelData::parse(message, ChannelRange::Rfc8656).ok()?;
            (frame.number == channel()).then_some(frame.payload)
        }
        Via::Indication => {
            let message = Message::parse(message).ok()?;
            let from = attribute::xor_address(message.get(attribute::XOR_PEER_ADDRESS)?, &message.transaction_id())?;
            let wanted = message.class() == Class::Indication && message.method() == Method::DATA;
            let body = message.attributes().find(|attribute| attribute.kind == attribute::DATA)?;
            (wanted && from.port() == peer.port()).then_some(body.range)
        }
    }
}

/// Whether a message is the answer to a request: indications and ChannelData, which are all but these, are told by the
/// first byte.
#[inline]
pub fn is_answer(message: &[u8]) -> bool {
    message.first() == Some(&0x01)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9);

    #[test]
    fn a_frame_is_as_long_as_it_says() {
        let mut rng = Rng::new(1);
        for len in [24, 25, 160, 1201] {
            let mut frame = head(Via::Indication, PEER, len, &mut rng).unwrap();
            let at = frame.len();
            frame.resize(at + body_len(Via::Indication, len), 0);
            let message = Message::parse(&frame).unwrap();
            let body = message.attributes().find(|attribute| attribute.kind == attribute::DATA).unwrap();
            assert_eq!(body.range, at..at + len);
            let mut frame = head(Via::Channel, PEER, len, &mut rng).unwrap();
            frame.resize(4 + body_len(Via::Channel, len), 0);
            assert_eq!(unframe(&frame, Via::Channel, PEER), Some(4..4 + len));
        }
    }

    #[test]
    fn an_indication_is_taken_from_its_peer_alone() {
        let write = |method, port| {
            let mut out = vec![0; 128];
            let len = Writer::new(&mut out, Class::Indication, method, transaction_id(&mut Rng::new(1)))
                .push_xor_address(attribute::XOR_PEER_ADDRESS, SocketAddr::new(PEER.ip(), port))
                .push(attribute::DATA, b"payload")
                .finish();
            out.truncate(len.unwrap());
            out
        };
        assert!(unframe(&write(Method::DATA, 9), Via::Indication, PEER).is_some());
        assert!(unframe(&write(Method::DATA, 10), Via::Indication, PEER).is_none());
        assert!(unframe(&write(Method::SEND, 9), Via::Indication, PEER).is_none());
        assert!(unframe(&write(Method::DATA, 9), Via::Channel, PEER).is_none());
    }
}
