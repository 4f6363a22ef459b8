//! Where a run's choices come from: a seed, or the bytes a fuzzer has made.

/// A source of choices. The same source gives the same choices.
pub trait Choice {
    /// A number below `n`; 0 when `n` is 0 or nothing is left to choose from.
    fn below(&mut self, n: u32) -> u32;

    /// Whether every later choice would be 0.
    fn is_over(&self) -> bool;

    /// True once in `n` times.
    fn one_in(&mut self, n: u32) -> bool {
        self.below(n) == n - 1
    }

    /// One of a list that is not empty.
    fn pick<T: Copy>(&mut self, list: &[T]) -> T
    where
        Self: Sized,
    {
        list[self.below(list.len() as u32) as usize]
    }
}

/// Choices from a seed, without end (splitmix64).
#[derive(Clone, Debug)]
pub struct Seeded(u64);

impl Seeded {
    /// All that follows depends on `seed` only.
    pub fn new(seed: u64) -> Self {
        Seeded(seed)
    }

    /// Any number.
    pub fn any(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}

impl Choice for Seeded {
    fn below(&mut self, n: u32) -> u32 {
        ((u128::from(self.any()) * u128::from(n)) >> 64) as u32
    }

    fn is_over(&self) -> bool {
        false
    }
}

/// Choices from bytes: one, two or four of them each, as `n` needs. A fuzzer that changes a
/// byte changes one choice.
#[derive(Clone, Debug)]
pub struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    /// Reads from the front.
    pub fn new(bytes: &'a [u8]) -> Self {
        Bytes(bytes)
    }
}

impl Choice for Bytes<'_> {
    fn below(&mut self, n: u32) -> u32 {
        let len = match n {
            0 | 1 => return 0,
            2..=0x100 => 1,
            0x101..=0x1_0000 => 2,
            _ => 4,
        };
        let (head, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        head.iter().fold(0, |value: u32, &byte| value << 8 | u32::from(byte)) % n
    }

    fn is_over(&self) -> bool {
        self.0.is_empty()
    }
}
