//! A copy of the log in the guest's memory, laid out as BitVisor's clients want
//! it: 32 bits that count the bytes to be read, then a ring of text. The log
//! adds to the count what it writes, the guest takes away what it reads.
//!
//! A guest that gives the memory to somebody else damages nothing but itself:
//! the address was found to be its own, and what is there is only ever taken
//! for a count.

use crate::guarded;
use core::ops::Range;

/// Bytes of the count.
const COUNT: u64 = 4;
/// How often the count is looked at anew because the guest changed it.
const ATTEMPTS: u32 = 8;

/// Where the copy lies, and how far it is.
pub struct LogBuffer {
    /// The linear address of the count.
    at: u64,
    ring: Positions,
}

/// Where in a ring of text the next byte goes.
#[derive(Clone, Copy, Debug)]
struct Positions {
    size: u64,
    next: u64,
}

impl LogBuffer {
    /// An empty one of `size` bytes at `at`.
    ///
    /// # Safety
    /// The bytes are mapped for good, and no memory of Rust's: others may
    /// change them at any time. `at` is a multiple of 4.
    pub(crate) unsafe fn new(at: *mut u8, size: u64) -> Self {
        let size = size.saturating_sub(COUNT);
        Self {
            at: at as u64,
            ring: Positions { size, next: 0 },
        }
    }

    /// Adds `line` and a newline; where there is no room for all of it, nothing.
    pub(crate) fn add_line(&mut self, line: &[u8]) {
        let length = line.len() as u64 + 1;
        let count = self.count();
        if count.is_some_and(|count| self.ring.has_room(count, length)) {
            self.put(line);
            self.put(b"\n");
            self.add_to_count(length);
        }
    }

    fn put(&mut self, text: &[u8]) {
        let length = text.len() as u64;
        for (position, part) in self.ring.places(length) {
            let from = text.get(part).unwrap_or(&[]);
            let to = (self.at + COUNT + position) as *mut u8;
            // SAFETY: by the promise to `new`; `places` stays within the ring.
            unsafe { guarded::copy(to, from.as_ptr(), from.len()) };
        }
        self.ring.advance(length);
    }

    fn count(&self) -> Option<u64> {
        // SAFETY: by the promise to `new`; the count is aligned.
        unsafe { guarded::load(self.at as *const u8, COUNT) }
    }

    /// The guest may be taking from the count at the same time.
    fn add_to_count(&self, length: u64) {
        for _ in 0..ATTEMPTS {
            let Some(old) = self.count() else { return };
            let new = old.wrapping_add(length) & 0xffff_ffff;
            // SAFETY: as for `count`.
            if unsafe { guarded::exchange(self.at as *mut u8, COUNT, old, new) } {
                return;
            }
        }
    }
}

impl Positions {
    /// Whether `length` more bytes fit beside `count` that nobody has read.
    fn has_room(self, count: u64, length: u64) -> bool {
        length <= self.size.saturating_sub(count)
    }

    /// The positions of the next `length` bytes, which fit: each with the range
    /// of them that goes there.
    fn places(self, length: u64) -> [(u64, Range<usize>); 2] {
        let first = length.min(self.size - self.next);
        [
            (self.next, 0..first as usize),
            (0, first as usize..length as usize),
        ]
    }

    fn advance(&mut self, length: u64) {
        self.next = (self.next + length) % self.size.max(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_goes_around_the_ring_and_never_beyond() {
        let mut ring = Positions { size: 10, next: 0 };
        let mut bytes = [b'.'; 10];
        for (text, wanted) in [
            ("abcdefg", "abcdefg..."),
            ("hijkl", "klcdefghij"),
            ("0123456789", "8901234567"),
        ] {
            for (at, part) in ring.places(text.len() as u64) {
                bytes[at as usize..][..part.len()].copy_from_slice(&text.as_bytes()[part]);
            }
            ring.advance(text.len() as u64);
            assert_eq!(bytes, wanted.as_bytes());
        }
    }

    #[test]
    fn nothing_is_written_over_what_nobody_has_read() {
        let ring = Positions { size: 10, next: 3 };
        assert!(ring.has_room(0, 10) && ring.has_room(9, 1));
        assert!(!ring.has_room(0, 11) && !ring.has_room(9, 2));
        assert!(!ring.has_room(0xffff_ffff, 1));
        let none = Positions { size: 0, next: 0 };
        assert!(!none.has_room(0, 1));
    }
}
