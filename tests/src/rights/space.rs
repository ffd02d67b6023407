//! Page tables for every paging mode: one part maps the first MiBs to
//! themselves, the other leads to the page that is tried, through entries that
//! each case writes anew.

use super::layout;
use super::mode::Mode;
use crate::linear::Table;
use alloc::boxed::Box;

/// Entry bits.
pub const PRESENT: u64 = 1 << 0;
/// See above.
pub const WRITABLE: u64 = 1 << 1;
/// See above.
pub const USER: u64 = 1 << 2;
/// See above.
pub const ACCESSED: u64 = 1 << 5;
/// See above.
pub const LARGE: u64 = 1 << 7;
/// See above.
pub const NO_EXECUTE: u64 = 1 << 63;
/// What an entry allows if a case does not change it.
pub const ALL: u64 = PRESENT | WRITABLE | USER;

/// The highest level of entries, counted from 1, the page table's.
pub const LEVELS: usize = 5;
const PAGE: u64 = 4096;

/// The tables, and the pages that are tried.
pub struct Space {
    /// Identity, from the page table to the root of 5-level paging.
    fixed: [Box<Table>; LEVELS],
    /// The same for 32-bit paging.
    fixed_narrow: [Box<Table>; 2],
    /// The four entries of PAE mode.
    pointers: Box<Table>,
    /// What leads to the page, from its page table on.
    tried: [Box<Table>; LEVELS - 1],
    pages: Box<[Table; 3]>,
}

impl Space {
    /// Makes them.
    pub fn new() -> Self {
        let table = |()| Table::boxed();
        let mut space = Self {
            fixed: [(); LEVELS].map(table),
            fixed_narrow: [(); 2].map(table),
            pointers: table(()),
            tried: [(); LEVELS - 1].map(table),
            pages: Box::new([const { Table([0; 512]) }; 3]),
        };
        space.link();
        space
    }

    fn link(&mut self) {
        for level in 1..LEVELS {
            self.fixed[level].0[0] = self.fixed[level - 1].entry() | ALL;
        }
        let entry = |page: u64| match layout::is_user(page * PAGE) {
            true => (page * PAGE) | ALL,
            false => (page * PAGE) | PRESENT | WRITABLE,
        };
        for page in 0..512 {
            self.fixed[0].0[page as usize] = entry(page);
            // Two narrow entries in a word; the rest is not used.
            self.fixed_narrow[0].0[page as usize] = entry(2 * page) | entry(2 * page + 1) << 32;
        }
        self.fixed_narrow[1].0[0] = self.fixed_narrow[0].entry() | ALL;
        self.pointers.0[0] = self.fixed[1].entry() & !ALL | PRESENT;
    }

    /// What CR3 holds.
    pub fn root(&self, mode: Mode) -> u64 {
        let root = match mode {
            Mode::Five => &self.fixed[4],
            Mode::Four | Mode::Compatible => &self.fixed[3],
            Mode::Pae => &self.pointers,
            Mode::Narrow | Mode::Unpaged => &self.fixed_narrow[1],
        };
        address(root)
    }

    /// The page that is tried; one more follows it, with the entry behind its
    /// own in the same table.
    pub fn page(&self) -> u64 {
        let first = core::ptr::from_ref(&self.pages[0]) as u64;
        let last_of_table = first / PAGE % 512 == 511;
        first + if last_of_table { PAGE } else { 0 }
    }

    /// The linear address of the page.
    pub fn linear(&self, mode: Mode) -> u64 {
        mode.base() + self.page()
    }

    /// Where an entry of `level` points, if it is the page's own or if not.
    pub fn target(&self, mode: Mode, level: usize, is_page: bool) -> u64 {
        match is_page {
            true => self.page() >> mode.shift(level) << mode.shift(level),
            false => address(&self.tried[level - 2]),
        }
    }

    /// Where the entry of `level` is, and how many bytes it has.
    pub fn slot(&self, mode: Mode, level: usize) -> (u64, u64) {
        let (size, bits) = mode.entry();
        let index = self.linear(mode) >> mode.shift(level) & ((1 << bits) - 1);
        let table = match level == mode.levels() {
            true => self.root_of_tried(mode),
            false => address(&self.tried[level - 1]),
        };
        (table + index * size, size)
    }

    /// The table in which the two parts meet.
    fn root_of_tried(&self, mode: Mode) -> u64 {
        match mode {
            Mode::Compatible => address(&self.fixed[2]),
            _ => self.root(mode),
        }
    }

    /// Writes an entry.
    pub fn set(&mut self, slot: (u64, u64), entry: u64) {
        let (at, size) = slot;
        // SAFETY: slots lie in our tables; the CPU reads them behind the
        // compiler's back.
        unsafe {
            match size {
                8 => (at as *mut u64).write_volatile(entry),
                _ => (at as *mut u32).write_volatile(entry as u32),
            }
        }
    }

    /// Reads it.
    pub fn get(&self, slot: (u64, u64)) -> u64 {
        let (at, size) = slot;
        // SAFETY: as for `set`.
        unsafe {
            match size {
                8 => (at as *const u64).read_volatile(),
                _ => (at as *const u32).read_volatile().into(),
            }
        }
    }
}

fn address(table: &Table) -> u64 {
    core::ptr::from_ref(table) as u64
}
