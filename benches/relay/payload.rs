//! What every packet carries, so that the far end can tell a good one from a damaged one.

/// Fewest bytes of a payload: the stamp alone.
pub const PAYLOAD_LEN_MIN: usize = 24;

/// A seeded xorshift64* generator: the same seed gives the same run.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// Begins a sequence; every seed is a good one.
    pub fn new(seed: u64) -> Self {
        // SplitMix64's finish: near seeds give unrelated states, and 0 is no fixed point.
        let mut z = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        Rng((z ^ (z >> 31)) | 1)
    }

    /// The next 64 bits.
    #[inline]
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// A number in `0..n`.
    #[inline]
    pub fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.next()) * n as u128) >> 64) as usize
    }

    /// The wait for the next of Poisson arrivals that come `mean_ns` apart on average.
    #[inline]
    pub fn gap_ns(&mut self, mean_ns: f64) -> f64 {
        let unit = ((self.next() >> 11) + 1) as f64 / (1u64 << 53) as f64;
        -unit.ln() * mean_ns
    }

    /// Puts a list into random order.
    pub fn shuffle<T>(&mut self, list: &mut [T]) {
        for i in (1..list.len()).rev() {
            list.swap(i, self.below(i + 1));
        }
    }
}

/// The head of a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The flow it was sent on.
    pub flow: u32,
    /// Its number among all packets of the run.
    pub seq: u64,
    /// When it was sent, in nanoseconds of the run's clock.
    pub sent_ns: u64,
}

/// Writes a payload: the run's tag, the stamp, and bytes that follow from both.
#[inline]
pub fn fill(out: &mut [u8], tag: u32, stamp: Stamp) {
    let (head, body) = out.split_at_mut(PAYLOAD_LEN_MIN);
    head[..4].copy_from_slice(&tag.to_be_bytes());
    head[4..8].copy_from_slice(&stamp.flow.to_be_bytes());
    head[8..16].copy_from_slice(&stamp.seq.to_be_bytes());
    head[16..24].copy_from_slice(&stamp.sent_ns.to_be_bytes());
    let mut bytes = body_of(tag, stamp);
    for chunk in body.chunks_mut(8) {
        chunk.copy_from_slice(&bytes.next().to_be_bytes()[..chunk.len()]);
    }
}

/// Reads a payload that must be `len` bytes long and whole: every byte is compared with what
/// [`fill`] wrote for this run. `None` is a damaged or foreign packet.
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
        && body.chunks(8).all(|chunk| *chunk == bytes.next().to_be_bytes()[..chunk.len()]);
    whole.then_some(stamp)
}

/// Every field of the head is in the seed, so damage to the head shows in the body too.
fn body_of(tag: u32, stamp: Stamp) -> Rng {
    let place = u64::from(tag) << 32 | u64::from(stamp.flow);
    Rng::new(place ^ stamp.seq.rotate_left(16) ^ stamp.sent_ns.rotate_left(40))
}
