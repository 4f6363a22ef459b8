//! What every packet carries, so that the far end tells a good one from a damaged one. Pure.

use super::pace::Rng;

/// Fewest bytes of a payload: the stamp alone.
pub const PAYLOAD_LEN_MIN: usize = 24;

/// The head of a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The flow it was sent on.
    pub flow: u32,
    /// Its number among all packets of the thread that sent it.
    pub seq: u64,
    /// When it was sent, in nanoseconds of the run's clock.
    pub sent_ns: u64,
}

/// Writes a payload of at least [`PAYLOAD_LEN_MIN`] bytes: the run's tag, the stamp, and bytes that follow from both.
#[inline]
pub fn fill(out: &mut [u8], tag: u32, stamp: Stamp) {
    let (head, body) = out.split_at_mut(PAYLOAD_LEN_MIN);
    head[..4].copy_from_slice(&tag.to_be_bytes());
    head[4..8].copy_from_slice(&stamp.flow.to_be_bytes());
    head[8..16].copy_from_slice(&stamp.seq.to_be_bytes());
    head[16..24].copy_from_slice(&stamp.sent_ns.to_be_bytes());
    let mut bytes = body_of(tag, stamp);
    for chunk in body.chunks_mut(8) {
        chunk.copy_from_slice(&bytes.next_u64().to_be_bytes()[..chunk.len()]);
    }
}

/// Reads a payload that must be `len` bytes long and whole: every byte is compared with what [`fill`] wrote for this
/// run. `None` is a damaged or foreign packet.
#[inline]
pub fn check(payload: &[u8], len: usize, tag: u32) -> Option<Stamp> {
    if payload.len() != len {
        return None;
    }
    let (head, body) = payload.split_first_chunk::<PAYLOAD_LEN_MIN>()?;
    let stamp = Stamp {
        flow: u32::from_be_bytes(head[4..8].try_into().ok()?),
        seq: u64::from_be_bytes(head[8..16].try_into().ok()?),
        sent_ns: u64::from_be_bytes(head[16..24].try_into().ok()?),
    };
    let mut bytes = body_of(tag, stamp);
    let whole = head[..4] == tag.to_be_bytes()
        && body.chunks(8).all(|chunk| *chunk == bytes.next_u64().to_be_bytes()[..chunk.len()]);
    whole.then_some(stamp)
}

/// Every field of the head is in the seed, so damage to the head shows in the body too.
fn body_of(tag: u32, stamp: Stamp) -> Rng {
    let place = u64::from(tag) << 32 | u64::from(stamp.flow);
    Rng::new(place ^ stamp.seq.rotate_left(16) ^ stamp.sent_ns.rotate_left(40))
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAMP: Stamp = Stamp { flow: 3, seq: 70_000, sent_ns: 1_234_567_890 };

    #[test]
    fn a_whole_payload_gives_its_stamp_back() {
        for len in [PAYLOAD_LEN_MIN, 25, 31, 160, 1201] {
            let mut payload = vec![0; len];
            fill(&mut payload, 7, STAMP);
            assert_eq!(check(&payload, len, 7), Some(STAMP), "{len}");
            assert_eq!(check(&payload, len, 8), None, "another run's");
            assert_eq!(check(&payload[..len - 1], len, 7), None, "cut short");
        }
    }

    #[test]
    fn a_flipped_bit_anywhere_is_seen() {
        let mut payload = vec![0; 40];
        fill(&mut payload, 7, STAMP);
        for bit in 0..payload.len() * 8 {
            payload[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(check(&payload, 40, 7), None, "bit {bit}");
            payload[bit / 8] ^= 1 << (bit % 8);
        }
    }
}
