//! Operations for runs that are written by hand.

use super::message::{self as m, Class};
use super::op::{Op, Part, Twist};

/// A request of a client that does all right.
pub fn request(client: usize, method: u16, parts: Vec<Part>) -> Op {
    Op::Message { client, class: Class::Request, method, parts, twist: Twist::None, fingerprint: false }
}

/// The request that is challenged, and the one that meets the challenge.
pub fn allocate(client: usize, mut parts: Vec<Part>) -> [Op; 2] {
    parts.push(Part::Raw(m::REQUESTED_TRANSPORT, vec![17, 0, 0, 0]));
    [(); 2].map(|()| request(client, m::ALLOCATE, parts.clone()))
}

pub fn dual() -> Vec<Part> {
    vec![Part::Raw(m::ADDITIONAL_ADDRESS_FAMILY, vec![2, 0, 0, 0])]
}

pub fn channel(number: u16) -> Part {
    let [n0, n1] = number.to_be_bytes();
    Part::Raw(m::CHANNEL_NUMBER, vec![n0, n1, 0, 0])
}

pub fn lifetime(seconds: u32) -> Part {
    Part::Raw(m::LIFETIME, seconds.to_be_bytes().to_vec())
}

pub fn refresh(client: usize, seconds: u32) -> Op {
    request(client, m::REFRESH, vec![lifetime(seconds)])
}

/// A Send indication to a peer.
pub fn send(client: usize, peer: usize) -> Op {
    let parts = vec![Part::Peer(peer), Part::Payload(160)];
    Op::Message { client, class: Class::Indication, method: m::SEND, parts, twist: Twist::None, fingerprint: false }
}

/// ChannelData as its header says.
pub fn channel_data(client: usize, number: u16) -> Op {
    Op::Channel { client, number, claimed: 160, len: 160 }
}
