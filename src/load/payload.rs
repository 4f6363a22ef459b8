//! What every packet carries, so that the far end tells a good one from a damaged one. Pure.

use super::SIZE_MAX;
use super::pace::Rng;

/// Fewest bytes of a payload: the stamp and its seal.
pub const PAYLOAD_LEN_MIN: usize = STAMP_LEN + SEAL_LEN;
/// Bytes of tag and stamp, which begin a payload.
pub const STAMP_LEN: usize = 24;
/// Bytes of the seal, which follows the stamp.
pub const SEAL_LEN: usize = 8;
/// Places in the pattern at which a body may begin; a power of two. Few, so that it stays in the nearest cache.
const STARTS: u64 = 4096;

/// Which way a packet goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leg {
    /// From a client to its peer.
    Out,
    /// From a peer to its client.
    Back,
}

/// The head of a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The flow it was sent on.
    pub flow: u32,
    /// Its number among all packets of the thread that sent it.
    pub seq: u64,
    /// When it was sent, in nanoseconds of the run's clock.
    pub sent_ns: u64,
    /// Which way it goes: a seal of the way back is the inverse of that of the way out.
    pub leg: Leg,
}

/// The payloads of one thread of a run: tag, stamp, a seal over both, and a stretch of random bytes that the seal
/// chooses. Writing one is a copy and checking one a comparison, so that neither is what limits a load.
#[derive(Debug)]
pub struct Pattern {
    tag: u32,
    bytes: Box<[u8]>,
}

impl Pattern {
    /// Payloads that are told from any others by `tag`.
    pub fn new(tag: u32) -> Self {
        let (mut rng, mut bytes) = (Rng::new(tag.into()), vec![0; STARTS as usize + SIZE_MAX]);
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&rng.next_u64().to_be_bytes()[..chunk.len()]);
        }
        Pattern { tag, bytes: bytes.into_boxed_slice() }
    }

    /// Writes a payload of [`PAYLOAD_LEN_MIN`] to [`SIZE_MAX`] bytes.
    #[inline]
    pub fn fill(&self, out: &mut [u8], stamp: Stamp) {
        let (head, body) = out.split_at_mut(STAMP_LEN);
        head[..4].copy_from_slice(&self.tag.to_be_bytes());
        head[4..8].copy_from_slice(&stamp.flow.to_be_bytes());
        head[8..16].copy_from_slice(&stamp.seq.to_be_bytes());
        head[16..24].copy_from_slice(&stamp.sent_ns.to_be_bytes());
        let seal = self.seal(stamp);
        let (first, rest) = body.split_at_mut(SEAL_LEN);
        first.copy_from_slice(&if stamp.leg == Leg::Back { !seal } else { seal }.to_be_bytes());
        rest.copy_from_slice(self.stretch(seal, rest.len()));
    }

    /// Reads a payload that must be `len` bytes long and whole: every byte is compared with what [`Pattern::fill`]
    /// wrote. `None` is a damaged or foreign packet.
    #[inline]
    pub fn check(&self, payload: &[u8], len: usize) -> Option<Stamp> {
        if payload.len() != len {
            return None;
        }
        let (head, body) = payload.split_first_chunk::<STAMP_LEN>()?;
        let (sealed, rest) = body.split_first_chunk::<SEAL_LEN>()?;
        let mut stamp = Stamp {
            flow: u32::from_be_bytes(head[4..8].try_into().ok()?),
            seq: u64::from_be_bytes(head[8..16].try_into().ok()?),
            sent_ns: u64::from_be_bytes(head[16..24].try_into().ok()?),
            leg: Leg::Out,
        };
        let (seal, sealed) = (self.seal(stamp), u64::from_be_bytes(*sealed));
        if sealed == !seal {
            stamp.leg = Leg::Back;
        }
        let whole = head[..4] == self.tag.to_be_bytes()
            && (sealed == seal || sealed == !seal)
            && *rest == *self.stretch(seal, rest.len());
        whole.then_some(stamp)
    }

    /// The seal of the other leg for a payload that is whole: nothing else differs on the way back.
    #[inline]
    pub fn seal_back(payload: &[u8]) -> [u8; SEAL_LEN] {
        let mut seal = [0; SEAL_LEN];
        seal.copy_from_slice(&payload[STAMP_LEN..PAYLOAD_LEN_MIN]);
        seal.map(|byte| !byte)
    }

    /// Every field of the head is in it, so damage to the head shows.
    fn seal(&self, stamp: Stamp) -> u64 {
        let place = u64::from(self.tag) << 32 | u64::from(stamp.flow);
        Rng::new(place ^ stamp.seq.rotate_left(16) ^ stamp.sent_ns.rotate_left(40)).next_u64()
    }

    fn stretch(&self, seal: u64, len: usize) -> &[u8] {
        let start = (seal % STARTS) as usize;
        &self.bytes[start..start + len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAMP: Stamp = Stamp { flow: 3, seq: 70_000, sent_ns: 1_234_567_890, leg: Leg::Out };

    #[test]
    fn a_whole_payload_gives_its_stamp_back() {
        let (own, other) = (Pattern::new(7), Pattern::new(8));
        for len in [PAYLOAD_LEN_MIN, 33, 160, 1201, SIZE_MAX] {
            let mut payload = vec![0; len];
            own.fill(&mut payload, STAMP);
            assert_eq!(own.check(&payload, len), Some(STAMP), "{len}");
            assert_eq!(other.check(&payload, len), None, "another run's");
            assert_eq!(own.check(&payload[..len - 1], len), None, "cut short");
        }
    }

    #[test]
    fn a_flipped_bit_anywhere_is_seen() {
        let pattern = Pattern::new(7);
        for len in [PAYLOAD_LEN_MIN, 40, 160] {
            let mut payload = vec![0; len];
            pattern.fill(&mut payload, STAMP);
            for bit in 0..len * 8 {
                payload[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(pattern.check(&payload, len), None, "bit {bit}");
                payload[bit / 8] ^= 1 << (bit % 8);
            }
        }
    }

    #[test]
    fn a_returned_payload_differs_in_its_seal_alone() {
        let pattern = Pattern::new(7);
        let [mut out, mut back] = [[0; 160]; 2];
        pattern.fill(&mut out, STAMP);
        pattern.fill(&mut back, Stamp { leg: Leg::Back, ..STAMP });
        assert_eq!(pattern.check(&back, 160), Some(Stamp { leg: Leg::Back, ..STAMP }));
        let seal = Pattern::seal_back(&out);
        out[STAMP_LEN..PAYLOAD_LEN_MIN].copy_from_slice(&seal);
        assert_eq!(out, back);
    }

    #[test]
    fn bytes_that_are_those_of_another_packet_are_seen() {
        let pattern = Pattern::new(7);
        let [mut one, mut next] = [[0; 160]; 2];
        pattern.fill(&mut one, STAMP);
        pattern.fill(&mut next, Stamp { seq: STAMP.seq + 1, ..STAMP });
        for cut in STAMP_LEN..152 {
            let mixed = [&one[..cut], &next[cut..]].concat();
            assert_eq!(pattern.check(&mixed, 160), None, "cut at {cut}");
        }
    }
}
