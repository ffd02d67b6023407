//! A ring of numbered lines of words in memory that one CPU writes and any CPU
//! reads: nobody waits, and a reader knows exactly how many lines it missed.
//!
//! The first word of a line says what is in it: 2n + 1 while line number n is
//! being written, 2n + 2 when it is whole. A reader that finds the same word
//! before and after it read the rest has read one line and no mixture. The rest
//! is stored with release and loaded with acquire: who sees a word of a later
//! line then also sees that the first word has moved on. On x86 both are plain
//! MOVs.

use core::sync::atomic::{AtomicU64, Ordering};

/// A word that several CPUs can reach.
pub trait Word: Default {
    /// Reads it.
    fn load(&self, order: Ordering) -> u64;
    /// Writes it.
    fn store(&self, value: u64, order: Ordering);
}

impl Word for AtomicU64 {
    #[inline]
    fn load(&self, order: Ordering) -> u64 {
        self.load(order)
    }
    #[inline]
    fn store(&self, value: u64, order: Ordering) {
        self.store(value, order);
    }
}

/// The ring. A line has `LINE` words, of which the first is the ring's own.
pub struct Ring<'a, const LINE: usize, W = AtomicU64> {
    lines: &'a [[W; LINE]],
    /// The number of the next line. Stored by the writer alone.
    next: W,
}

/// What became of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// It was read.
    Whole,
    /// It is not there yet.
    NotYet,
    /// It has been overwritten.
    Lost,
}

impl<'a, const LINE: usize, W: Word> Ring<'a, LINE, W> {
    /// A ring in `lines`, which are zero; it uses a power of two of them.
    pub fn new(lines: &'a [[W; LINE]]) -> Self {
        let used = lines.len().checked_ilog2().map_or(0, |bits| 1 << bits);
        Self {
            lines: lines.get(..used).unwrap_or(&[]),
            next: W::default(),
        }
    }

    /// Lines that it holds.
    pub fn capacity(&self) -> u64 {
        self.lines.len() as u64
    }

    /// The number of the next line.
    pub fn next(&self) -> u64 {
        self.next.load(Ordering::Acquire)
    }

    /// Writes the next line. Only one CPU may do that.
    #[inline]
    pub fn write(&self, content: &[u64]) {
        let number = self.next.load(Ordering::Relaxed);
        let Some((state, words)) = self.line(number) else {
            return;
        };
        state.store(2 * number + 1, Ordering::Relaxed);
        for (word, value) in words.iter().zip(content) {
            word.store(*value, Ordering::Release);
        }
        state.store(2 * number + 2, Ordering::Release);
        self.next.store(number + 1, Ordering::Release);
    }

    /// Reads line `number`; unless it is whole, `content` means nothing.
    pub fn read(&self, number: u64, content: &mut [u64]) -> Reading {
        let Some((state, words)) = self.line(number) else {
            return Reading::NotYet;
        };
        let whole = 2 * number + 2;
        let before = state.load(Ordering::Acquire);
        if before < whole {
            return Reading::NotYet;
        }
        for (value, word) in content.iter_mut().zip(words) {
            *value = word.load(Ordering::Acquire);
        }
        if before == whole && state.load(Ordering::Relaxed) == whole {
            Reading::Whole
        } else {
            Reading::Lost
        }
    }

    #[inline]
    fn line(&self, number: u64) -> Option<(&W, &[W])> {
        let mask = self.lines.len().wrapping_sub(1) as u64;
        self.lines.get((number & mask) as usize)?.split_first()
    }
}

/// A place in a ring up to which somebody has read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reader {
    /// The number of the next line to read.
    pub next: u64,
    /// Lines before it that were overwritten unread.
    pub lost: u64,
}

impl Reader {
    /// Reads the next line that is there; false if there is none.
    pub fn read<const LINE: usize, W: Word>(
        &mut self,
        ring: &Ring<'_, LINE, W>,
        content: &mut [u64],
    ) -> bool {
        loop {
            match ring.read(self.next, content) {
                Reading::Whole => {
                    self.next += 1;
                    return true;
                }
                Reading::NotYet => return false,
                Reading::Lost => self.skip(ring),
            }
        }
    }

    /// Goes on at the oldest line that may still be there.
    fn skip<const LINE: usize, W: Word>(&mut self, ring: &Ring<'_, LINE, W>) {
        let oldest = ring.next().saturating_sub(ring.capacity());
        let next = oldest.max(self.next + 1);
        self.lost += next - self.next;
        self.next = next;
    }
}

#[cfg(test)]
mod tests;
