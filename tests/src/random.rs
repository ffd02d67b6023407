//! Random numbers that are the same in every run.

/// A generator by its seed: SplitMix64.
pub struct Random(u64);

impl Random {
    /// The generator of case `index` of a block.
    pub const fn of(block: u64, index: u64) -> Self {
        Self(block.wrapping_mul(0xd134_2543_de82_ef95) ^ index.wrapping_mul(0xa076_1d64_78bd_642f))
    }

    /// 64 bits.
    pub const fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// A number below `end`, which is small.
    pub const fn below(&mut self, end: u64) -> u64 {
        ((self.word() >> 32) * end) >> 32
    }

    /// One of `choices`; 0 if there are none.
    pub fn one_of(&mut self, choices: &[u64]) -> u64 {
        let index = self.below(choices.len() as u64) as usize;
        choices.get(index).copied().unwrap_or(0)
    }
}
