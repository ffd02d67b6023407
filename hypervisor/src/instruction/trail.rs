//! The entries that a walk of the guest's tables went by, for who wants to know
//! later whether it would go the same way again.

use core::cell::Cell;
use machine::{Memory, Word, Words};
use x86::Gpa;
use x86::walk::Entries;

/// Memory, in which a walk leaves its trail. An entry is noted once, though a
/// walk may begin anew, and tables may be their own.
pub struct Trail<'a, M> {
    memory: &'a M,
    entries: Cell<[Option<Word>; 4]>,
    /// They are all that there were, and none changed but by the walk.
    is_whole: Cell<bool>,
}

impl<'a, M: Memory> Trail<'a, M> {
    /// No entry yet.
    pub const fn new(memory: &'a M) -> Self {
        Self {
            memory,
            entries: Cell::new([None; 4]),
            is_whole: Cell::new(true),
        }
    }

    /// The entries and `last`; None if they were too many, or none at all. What
    /// is left, after a walk that ends at a large page, is filled with `last`.
    pub fn words(&self, last: Word) -> Option<Words> {
        let [first, second, third, fourth] = self.entries.get();
        let or_last = |entry: Option<Word>| entry.unwrap_or(last);
        self.is_whole.get().then_some([
            first?,
            or_last(second),
            or_last(third),
            or_last(fourth),
            last,
        ])
    }

    /// The entry at `at` was `before`, and is `value`.
    fn note(&self, at: Gpa, before: u64, value: u64) {
        let mut entries = self.entries.get();
        let mut places = entries.iter_mut();
        let place = places
            .find(|entry| entry.is_none_or(|word| word.at() == at))
            .filter(|entry| entry.is_none_or(|word| word.value() == before));
        match (place, Word::new(self.memory, at, value)) {
            (Some(place), Some(word)) => *place = Some(word),
            _ => self.is_whole.set(false),
        }
        self.entries.set(entries);
    }
}

impl<M: Memory> Entries for Trail<'_, M> {
    fn load(&self, at: Gpa, size: u64) -> Option<u64> {
        let value = self.memory.load(at, size)?;
        self.note(at, value, value);
        Some(value)
    }

    fn exchange(&self, at: Gpa, size: u64, old: u64, new: u64) -> bool {
        let exchanged = self.memory.exchange(at, size, old, new);
        if exchanged {
            self.note(at, old, new);
        }
        exchanged
    }
}
