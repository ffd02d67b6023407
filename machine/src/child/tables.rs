//! The nested tables of a child: nothing is there but what was mapped, in pages
//! of 4 KiB.

use super::pages::Block;
use crate::nested::Format;
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use x86::PAGE_SIZE;
use x86::mtrr::MemoryType;

const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
const ENTRIES: usize = 512;
const ROOT_LEVEL: u32 = 4;
/// Reading, writing and executing of everything below.
const TABLE: u64 = 7;

/// Bits of an address that four levels translate.
pub const ADDRESS_BITS: u32 = 48;

/// What a child may do with a page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rights {
    /// Read it. Nothing else goes without.
    pub read: bool,
    /// Write it.
    pub write: bool,
    /// Run code in it.
    pub execute: bool,
}

impl Rights {
    /// The entry for the page at `at`, or nothing. EPT: write-back, whatever the
    /// child's own memory types say, so that the guest's view and the child's of
    /// the same memory agree. Intel SDM volume 3, "EPT and Memory Typing"; AMD
    /// APM volume 2, "Nested Paging".
    fn entry(self, format: Format, at: u64) -> u64 {
        const IGNORE_PAT: u64 = 1 << 6;
        let bit = |given: bool, bit: u32| u64::from(given) << bit;
        match (self.read, format) {
            (false, _) => 0,
            (true, Format::Ept) => {
                let kind = (MemoryType::WriteBack as u64) << 3 | IGNORE_PAT;
                at | 1 | bit(self.write, 1) | bit(self.execute, 2) | kind
            }
            (true, Format::Npt) => at | 5 | bit(self.write, 1) | bit(!self.execute, 63),
        }
    }

    fn of(format: Format, entry: u64) -> Self {
        let bit = |bit: u32| entry >> bit & 1 != 0;
        match format {
            Format::Ept => Self {
                read: bit(0),
                write: bit(1),
                execute: bit(2),
            },
            Format::Npt => Self {
                read: bit(0),
                write: bit(1),
                execute: !bit(63),
            },
        }
    }
}

/// No page is left for another table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exhausted;

/// The tables. They own their pages.
#[derive(Debug)]
pub struct Tables {
    format: Format,
    root: u64,
}

const fn slot(at: u64, level: u32) -> usize {
    (at >> (12 + 9 * (level - 1))) as usize % ENTRIES
}

/// An entry of a page that a [`Block`] was given up for.
///
/// # Safety
/// `table` is such a page, of tables that live as long as the reference does.
/// Everybody but the CPU's own walks reaches it by atomics.
#[inline(always)]
unsafe fn entry<'a>(table: u64, slot: usize) -> &'a AtomicU64 {
    let place = (table as *mut u64).wrapping_add(slot % ENTRIES);
    // SAFETY: aligned and within the page, as the caller promises.
    unsafe { AtomicU64::from_ptr(place) }
}

impl Tables {
    /// Tables in which nothing is.
    pub fn new(format: Format) -> Option<Self> {
        let root = Block::take(1)?.forget();
        Some(Self { format, root })
    }

    /// The physical address of the root.
    pub fn root(&self) -> u64 {
        self.root
    }

    /// Shows the page at `from` where the child has `at`, below
    /// 2^[`ADDRESS_BITS`], or nothing. The child does not run, and nobody else does
    /// this meanwhile: a table that both make would be lost.
    pub fn map(&self, at: u64, from: u64, rights: Rights) -> Result<(), Exhausted> {
        let mut table = self.root;
        for level in (2..=ROOT_LEVEL).rev() {
            // SAFETY: `table` is the root, or an entry's that was made below.
            let place = unsafe { entry(table, slot(at, level)) };
            let found = place.load(Relaxed);
            table = if found != 0 {
                found & ADDRESS
            } else if !rights.read {
                return Ok(());
            } else {
                let below = Block::take(1).ok_or(Exhausted)?.forget();
                // Whoever finds the table finds it empty.
                place.store(below | TABLE, Release);
                below
            };
        }
        let value = rights.entry(self.format, from & ADDRESS);
        // SAFETY: as above.
        unsafe { entry(table, slot(at, 1)) }.store(value, Relaxed);
        Ok(())
    }

    /// The page that the child has at `at`, and what it may do with it.
    #[inline]
    pub fn find(&self, at: u64) -> Option<(u64, Rights)> {
        if at >> ADDRESS_BITS != 0 {
            return None;
        }
        let mut table = self.root;
        for level in (1..=ROOT_LEVEL).rev() {
            // SAFETY: as for `map`: tables are given back only with the last one.
            let found = unsafe { entry(table, slot(at, level)) }.load(Acquire);
            if found == 0 {
                return None;
            }
            if level == 1 {
                let page = found & ADDRESS;
                return Some((page, Rights::of(self.format, found)));
            }
            table = found & ADDRESS;
        }
        None
    }
}

impl Drop for Tables {
    fn drop(&mut self) {
        release(self.root, ROOT_LEVEL);
    }
}

/// Gives back a table and all below it.
fn release(table: u64, level: u32) {
    if level > 1 {
        for slot in 0..ENTRIES {
            // SAFETY: no CPU walks tables whose owner is dropped.
            let below = unsafe { entry(table, slot) }.load(Acquire) & ADDRESS;
            if below != 0 {
                release(below, level - 1);
            }
        }
    }
    // SAFETY: each table was given up once, and hangs in one place.
    drop(unsafe { Block::remember(table) });
}

/// Bytes of a page.
pub const PAGE: u64 = PAGE_SIZE;

#[cfg(test)]
mod tests;
