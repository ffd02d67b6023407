//! Lengths of instructions that exited before, for a CPU that does not say
//! them. What is kept of an instruction is what showed its length: the entries
//! of the guest's tables on the way to its code, and the code. As long as all of
//! them are what they were, another walk would end at the same bytes; whatever
//! the guest changed, on whichever CPU, is seen.

use crate::memory::Memory;
use crate::tables::{DIRECT_MAP, DIRECT_MAP_SIZE};
use core::num::NonZeroU64;
use x86::Gpa;

/// What 8 bytes of guest memory were.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Word {
    /// Where they are in the direct map, and nowhere else.
    linear: u64,
    value: NonZeroU64,
}

impl Word {
    const SIZE: u64 = size_of::<u64>() as u64;

    /// `value` at `at`; None if it is 0, or if that is not all `memory`.
    pub fn new(memory: &impl Memory, at: Gpa, value: u64) -> Option<Self> {
        memory.check(at, Self::SIZE).ok()?;
        Self::in_direct_map(at, value)
    }

    fn in_direct_map(at: Gpa, value: u64) -> Option<Self> {
        let end = at.checked_add(Self::SIZE)?;
        let value = NonZeroU64::new(value).filter(|_| end.0 <= DIRECT_MAP_SIZE)?;
        let linear = DIRECT_MAP + at.0;
        Some(Self { linear, value })
    }

    /// Where it is.
    pub const fn at(&self) -> Gpa {
        Gpa(self.linear - DIRECT_MAP)
    }

    /// Where it is in the hypervisor's linear space.
    pub(crate) const fn direct(&self) -> *const u8 {
        self.linear as *const u8
    }

    /// What was there: not 0.
    pub const fn value(&self) -> u64 {
        self.value.get()
    }
}

/// Words that show one length: four entries and the code.
pub type Words = [Word; 5];

/// How many are kept. Which one is replaced follows from the address.
const PLACES: usize = 16;

/// An instruction of 64-bit code. It begins with a cache line, because an exit
/// looks at all of it.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Known {
    rip: u64,
    cr3: u64,
    length: u64,
    words: Words,
}

/// No CR3 holds this: most of its bits are reserved.
const NO_CR3: u64 = u64::MAX;

/// The lengths that one CPU keeps, which alone writes them.
pub struct Lengths([Known; PLACES]);

impl Default for Lengths {
    fn default() -> Self {
        let nothing = Word {
            linear: DIRECT_MAP,
            value: NonZeroU64::MAX,
        };
        Self(
            [Known {
                rip: 0,
                cr3: NO_CR3,
                length: 0,
                words: [nothing; 5],
            }; PLACES],
        )
    }
}

impl Lengths {
    /// The length of the instruction of 64-bit code at `rip` in the address
    /// space of `cr3`, if it is known and `memory` still shows it. That the code
    /// may be fetched need not be asked: the CPU has just done so.
    #[inline(always)]
    pub fn find(&self, rip: u64, cr3: u64, memory: &impl Memory) -> Option<u64> {
        let known = &self.0[rip as usize % PLACES];
        if known.rip != rip || known.cr3 != cr3 {
            return None;
        }
        let words = known.words.iter();
        let difference = words.fold(0, |all, word| all | memory.difference(word));
        (difference == 0).then_some(known.length)
    }

    /// Keeps `length`, which `words` show.
    pub fn keep(&mut self, rip: u64, cr3: u64, length: u64, words: Words) {
        self.0[rip as usize % PLACES] = Known {
            rip,
            cr3,
            length,
            words,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_something_inside_the_direct_map() {
        let last = Gpa(DIRECT_MAP_SIZE - 8);
        let word = Word::in_direct_map(last, 5).expect("it is inside");
        assert_eq!((word.at(), word.value()), (last, 5));
        for (at, value) in [(Gpa(last.0 + 1), 5), (Gpa(u64::MAX), 5), (last, 0)] {
            assert_eq!(Word::in_direct_map(at, value), None, "{at:?}");
        }
    }
}
