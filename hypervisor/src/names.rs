//! Services by their names. Each name has a place of its own in a table, which
//! its hash leads to, so that what is asked for is compared with one at most.

use abi::call::SERVICES;

const WORDS: usize = 3;
/// Bytes of a [`Name`].
const BYTES: usize = 8 * WORDS;

/// A name in words, with zeros behind: a comparison of few words is one of all
/// bytes.
#[derive(Clone, Copy, Debug)]
pub struct Name([u64; WORDS]);

impl Name {
    /// Room for the longest name of a service and its NUL.
    pub const ROOM: [u8; BYTES] = [0; BYTES];

    /// What stands before the first NUL in `text`, and its length.
    #[inline]
    pub fn before_nul(text: &[u8; BYTES]) -> Option<(Self, usize)> {
        let [first, second, third] = words(text);
        if let Some(bits) = bits_before_nul(first) {
            return Some((Self([lowest(first, bits), 0, 0]), bits / 8));
        }
        if let Some(bits) = bits_before_nul(second) {
            return Some((Self([first, lowest(second, bits), 0]), 8 + bits / 8));
        }
        let bits = bits_before_nul(third)?;
        Some((Self([first, second, lowest(third, bits)]), 16 + bits / 8))
    }

    /// Of a service.
    const fn of(name: &str) -> Self {
        let mut text = Self::ROOM;
        assert!(name.len() < BYTES, "the name of a service is too long");
        let (start, _) = text.split_at_mut(name.len());
        start.copy_from_slice(name.as_bytes());
        Self(words(&text))
    }

    /// Its place in a table of [`PLACES`].
    #[inline]
    const fn hash(&self, multiplier: u64) -> usize {
        let [first, second, third] = self.0;
        let hash = first.wrapping_mul(multiplier) ^ second;
        let hash = hash.wrapping_mul(multiplier) ^ third;
        (hash.wrapping_mul(multiplier) >> (64 - PLACES.ilog2())) as usize
    }
}

#[inline]
const fn words(text: &[u8; BYTES]) -> [u64; WORDS] {
    let mut words = [0; WORDS];
    let (mut left, mut bytes) = (words.as_mut_slice(), text.as_slice());
    while let ([word, others @ ..], Some((first, rest))) = (left, bytes.split_first_chunk()) {
        *word = u64::from_le_bytes(*first);
        (left, bytes) = (others, rest);
    }
    words
}

/// How many bits of `word` stand below its lowest byte that is 0.
#[inline]
fn bits_before_nul(word: u64) -> Option<usize> {
    const LOWEST: u64 = u64::from_le_bytes([1; 8]);
    // Taking 1 from each byte sets the highest bit of one that is 0. Others that
    // are marked so have it set themselves, or stand above a 0.
    let marks = word.wrapping_sub(LOWEST) & !word & (LOWEST << 7);
    (marks != 0).then(|| marks.trailing_zeros() as usize - 7)
}

/// The lowest `bits` of `word`.
#[inline]
fn lowest(word: u64, bits: usize) -> u64 {
    word & ((1 << bits) - 1)
}

/// The number of the service with this name.
#[inline]
pub fn number(name: &Name) -> Option<u64> {
    let row = *ROWS.get(name.hash(MULTIPLIER))?;
    let (found, number) = NAMES.get(usize::from(row))?;
    let mut words = found.0.iter().zip(name.0);
    words.all(|(one, other)| *one == other).then_some(*number)
}

/// Names of all services, and their numbers.
const NAMES: &[(Name, u64)] = &names();
/// Places for names: enough for a multiplier to be found soon.
const PLACES: usize = 256;
/// In a place that no name has.
const NOBODY: u8 = u8::MAX;
/// By which no two names have the same place.
const MULTIPLIER: u64 = multiplier();
/// By place: where in [`NAMES`] its name stands.
static ROWS: [u8; PLACES] = match rows(MULTIPLIER) {
    Some(rows) => rows,
    None => [NOBODY; PLACES],
};

const fn names() -> [(Name, u64); SERVICES.len()] {
    let mut names = [(Name([0; WORDS]), 0); SERVICES.len()];
    let (mut left, mut services) = (names.as_mut_slice(), SERVICES);
    while let ([name, others @ ..], [service, rest @ ..]) = (left, services) {
        *name = (Name::of(service.name), service.number);
        (left, services) = (others, rest);
    }
    names
}

const fn multiplier() -> u64 {
    // Any odd number whose bits are as good as random is a beginning.
    let mut multiplier = 0x9e37_79b9_7f4a_7c15;
    while rows(multiplier).is_none() {
        multiplier += 2;
    }
    multiplier
}

/// What [`ROWS`] are with this multiplier, or None if two names have the same
/// place.
const fn rows(multiplier: u64) -> Option<[u8; PLACES]> {
    let mut rows = [NOBODY; PLACES];
    let (mut names, mut row) = (NAMES, 0);
    while let [(name, _), rest @ ..] = names {
        match rows.split_at_mut(name.hash(multiplier)) {
            (_, [place, ..]) if *place == NOBODY => *place = row,
            _ => return None,
        }
        (names, row) = (rest, row + 1);
    }
    Some(rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(name: &[u8]) -> [u8; BYTES] {
        let mut text = [b'x'; BYTES];
        text[..name.len()].copy_from_slice(name);
        text[name.len()] = 0;
        text
    }

    #[test]
    fn each_service_has_its_name() {
        for service in SERVICES {
            let found = Name::before_nul(&text(service.name.as_bytes()));
            let (name, length) = found.expect("it ends");
            assert_eq!(length, service.name.len());
            assert_eq!(number(&name), Some(service.number), "{}", service.name);
        }
    }

    proptest! {
        #[test]
        fn a_name_ends_at_the_first_nul(text: [u8; BYTES], sparse in prop::array::uniform24(0u8..3)) {
            for text in [text, sparse] {
                let wanted = text.iter().position(|byte| *byte == 0);
                let found = Name::before_nul(&text);
                prop_assert_eq!(found.map(|found| found.1), wanted);
                if let Some((Name(words), length)) = found {
                    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
                    prop_assert_eq!(&bytes[..length], &text[..length]);
                    prop_assert!(bytes[length..].iter().all(|byte| *byte == 0));
                }
            }
        }

        /// Others have none, were they ever so like one.
        #[test]
        fn who_is_no_service_has_no_number(row in 0..SERVICES.len(), at in 0usize..BYTES - 1, byte: u8) {
            let name = SERVICES[row].name.as_bytes();
            let mut changed = text(name);
            changed[at] = byte;
            if let Some((found, length)) = Name::before_nul(&changed) {
                let same = SERVICES.iter().find(|service| service.name.as_bytes() == &changed[..length]);
                prop_assert_eq!(number(&found), same.map(|service| service.number));
            }
        }
    }
}
