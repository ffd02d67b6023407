//! Bytes that anyone can compute again, by a seed and a place, and random
//! choices.

/// Words of a page.
const WORDS: usize = 512;
/// Bytes of a page.
pub const PAGE: usize = 8 * WORDS;

/// The word number `place` of `seed`.
const fn word(seed: u64, place: u64) -> u64 {
    let mixed = (seed ^ place).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^ mixed >> 29
}

/// Fills `into` with what `seed` has from page number `page` on.
pub fn fill(into: &mut [u8], seed: u64, page: usize) {
    let (chunks, _) = into.as_chunks_mut();
    for (bytes, place) in chunks.iter_mut().zip((page * WORDS) as u64..) {
        *bytes = word(seed, place).to_le_bytes();
    }
}

/// The first word, by its place, in which the two differ; both are whole pages.
/// The library's comparison goes byte by byte, for which an emulated CPU takes
/// long.
pub fn difference(found: &[u8], expected: &[u8]) -> Option<usize> {
    let (found, _) = found.as_chunks::<8>();
    let (expected, _) = expected.as_chunks::<8>();
    let differ = |(a, b): (&[u8; 8], &[u8; 8])| u64::from_le_bytes(*a) ^ u64::from_le_bytes(*b);
    let pairs = || found.iter().zip(expected);
    let any = pairs().fold(0, |any, pair| any | differ(pair));
    if any == 0 {
        return None;
    }
    pairs().position(|pair| differ(pair) != 0)
}

/// Random choices: SplitMix64.
pub struct Random(u64);

impl Random {
    /// The choices of `seed`.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// 64 bits.
    pub const fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// A number below `end`, which is neither 0 nor above 2^32.
    pub const fn below(&mut self, end: usize) -> usize {
        (((self.word() >> 32) * end as u64) >> 32) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_is_found_wherever_it_is() {
        let mut bytes = [0; 40];
        fill(&mut bytes, 7, 3);
        assert_eq!(difference(&bytes, &bytes), None);
        for at in 0..bytes.len() {
            let mut found = bytes;
            found[at] ^= 1 << (at % 8);
            assert_eq!(difference(&found, &bytes), Some(at / 8));
        }
    }

    #[test]
    fn numbers_below_an_end_reach_all_of_them() {
        let mut random = Random::new(1);
        let mut seen = [false; 5];
        for _ in 0..100 {
            seen[random.below(5)] = true;
        }
        assert_eq!(seen, [true; 5]);
    }
}
