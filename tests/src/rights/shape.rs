//! What is wrong with the entries that lead to a page, or with its address:
//! nothing, one thing, or two at two levels.

use super::mode::{Features, Mode};
use super::space::{LARGE, LEVELS, NO_EXECUTE, PRESENT, USER, WRITABLE};
use alloc::vec::Vec;

/// Deviations from a page that allows everything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shape {
    /// Bits to flip in the entry of each level, from the page table's on.
    pub flips: [u64; LEVELS],
    /// The same for the entry of the page behind, if the access reaches it.
    pub second: Option<u64>,
    /// Bits to flip in the address.
    pub address: u64,
}

/// The levels whose entries are varied, for a page that is an entry of level
/// `size`.
struct Entries<'a> {
    mode: Mode,
    size: usize,
    features: &'a Features,
}

/// All shapes of a page that is an entry of level `size`.
pub fn all(mode: Mode, size: usize, features: &Features) -> Vec<Shape> {
    if mode == Mode::Unpaged {
        return [Shape::default()].into();
    }
    let entries = Entries {
        mode,
        size,
        features,
    };
    let mut shapes = entries.defects();
    shapes.extend(entries.bits());
    if mode.is_wide() {
        shapes.extend(addresses());
    }
    if size == 1 {
        shapes.extend(entries.across());
    }
    shapes
}

/// Every upper bit of an address, alone and with all above.
fn addresses() -> impl Iterator<Item = Shape> {
    (39..64)
        .flat_map(|bit| [1 << bit, u64::MAX << bit])
        .map(|address| Shape {
            address,
            ..Shape::default()
        })
}

impl Entries<'_> {
    /// The levels with rights of their own: in PAE mode not the highest, whose
    /// entries the CPU takes over, or refuses, when CR3 is loaded.
    fn levels(&self) -> core::ops::RangeInclusive<usize> {
        let highest = self.mode.levels() - usize::from(self.mode == Mode::Pae);
        self.size..=highest
    }

    fn one(level: usize, flip: u64) -> Shape {
        let mut shape = Shape::default();
        shape.flips[level - 1] = flip;
        shape
    }

    /// What may be wrong with the rights that an entry gives.
    fn rights(&self, level: usize) -> Vec<u64> {
        let mut rights = [PRESENT, WRITABLE, USER, WRITABLE | USER].to_vec();
        match self.mode {
            Mode::Narrow if level == 1 || self.size == 1 => {}
            // Above what the address of a 4 MiB page may have.
            Mode::Narrow => rights.push(1 << 21),
            _ => rights.extend([NO_EXECUTE, 1 << 51]),
        }
        rights
    }

    /// None, one, and two at two levels.
    fn defects(&self) -> Vec<Shape> {
        let mut shapes: Vec<Shape> = [Shape::default()].into();
        for level in self.levels() {
            for flip in self.rights(level) {
                shapes.push(Self::one(level, flip));
                for above in level + 1..=*self.levels().end() {
                    let both = self.rights(above).into_iter().map(|other| {
                        let mut both = Self::one(level, flip);
                        both.flips[above - 1] = other;
                        both
                    });
                    shapes.extend(both);
                }
            }
        }
        if self.mode == Mode::Pae {
            shapes.push(Self::one(self.mode.levels(), PRESENT));
        }
        shapes
    }

    /// Every single bit that is not part of an address.
    fn bits(&self) -> Vec<Shape> {
        let width = self.mode.entry().0 as u32 * 8;
        let mut shapes = Vec::new();
        for level in self.levels() {
            let bits = (0..width).filter(|bit| !self.leads_away(level, *bit));
            shapes.extend(bits.map(|bit| Self::one(level, 1 << bit)));
        }
        shapes
    }

    /// Whether an entry with this bit flipped leads to memory that is not ours.
    fn leads_away(&self, level: usize, bit: u32) -> bool {
        let is_page = level == self.size;
        let lowest = if is_page { self.mode.shift(level) } else { 12 };
        let (narrow, physical) = (self.mode == Mode::Narrow, self.features.physical_bits);
        if 1 << bit == LARGE {
            return level > 1 && self.has_large(level) && !(narrow && self.size == 1);
        }
        // A 4 MiB page has upper bits of its address there (PSE-36).
        let extra = narrow && level == 2 && is_page && (13..21).contains(&bit);
        extra || (lowest..if narrow { 32 } else { physical }).contains(&bit)
    }

    fn has_large(&self, level: usize) -> bool {
        level == 2 || level == 3 && self.features.gib_pages && self.mode.is_long()
    }

    /// Two bytes in two pages, each with its own rights.
    fn across(&self) -> Vec<Shape> {
        let mut flips = self.rights(1);
        flips.push(0);
        let pairs = flips.iter().flat_map(|first| {
            flips.iter().map(|second| Shape {
                second: Some(*second),
                ..Self::one(1, *first)
            })
        });
        pairs.collect()
    }
}
