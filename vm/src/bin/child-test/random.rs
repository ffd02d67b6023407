//! Random numbers that are the same in every run.

/// A source of them. Steele and others, "Fast Splittable Pseudorandom Number
/// Generators".
pub struct Random(u64);

impl Random {
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let word = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ word >> 31
    }

    /// One below `end`.
    pub const fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// One that programs are likely to get wrong: small, at an edge, or any.
    pub const fn odd(&mut self) -> u64 {
        match self.below(6) {
            0 => self.below(16),
            1 => self.below(16) << 12,
            2 => !self.below(16),
            3 => 1 << self.below(64),
            4 => self.next() & 0xffff_ffff,
            _ => self.next(),
        }
    }
}
