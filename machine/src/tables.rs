//! The page tables that the hypervisor runs on.
//!
//! Two things are mapped, and never the same memory twice: the region, at its
//! physical addresses, each part with its own rights; and the guest's memory,
//! readable and writable, at [`DIRECT_MAP`]. Beside them the local APIC's page
//! is, which is no memory. The region is not in the direct
//! map, so that no guest address, however wrong, leads the hypervisor to
//! itself; and address 0 is mapped nowhere.

use crate::apic;
use crate::region::{Exhausted, Region, Table};
use core::ops::Range;
use x86::PAGE_SIZE;

/// Guest-physical address 0 lies here in the hypervisor's linear space.
pub const DIRECT_MAP: u64 = 0xffff_8000_0000_0000;

/// So many bytes from there are the guest's memory, or nothing. The local APIC's
/// page lies behind them.
pub const DIRECT_MAP_SIZE: u64 = 1 << 46;

const _: () = assert!(DIRECT_MAP + DIRECT_MAP_SIZE <= apic::WINDOW);

const PRESENT: u64 = 1 << 0;
const WRITABLE: u64 = 1 << 1;
/// PCD and PWT: entry 3 of the PAT, uncacheable.
const UNCACHED: u64 = 1 << 4 | 1 << 3;
const LARGE: u64 = 1 << 7;
const NO_EXECUTE: u64 = 1 << 63;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// What may be done with a part of the region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rights {
    /// Nothing: a guard page.
    None,
    /// Read.
    Read,
    /// Read and write.
    Write,
    /// Read and execute.
    Execute,
}

impl Rights {
    const fn bits(self) -> u64 {
        match self {
            Self::None => 0,
            Self::Read => PRESENT | NO_EXECUTE,
            Self::Write => PRESENT | WRITABLE | NO_EXECUTE,
            Self::Execute => PRESENT,
        }
    }
}

const fn span(level: u32) -> u64 {
    PAGE_SIZE << (9 * (level - 1))
}

/// Tables under construction.
pub struct OwnTables<'a> {
    region: &'a mut Region,
    root: &'static mut Table,
    levels: u32,
    gib_pages: bool,
}

impl<'a> OwnTables<'a> {
    /// Empty tables of as many levels as the firmware's: the number cannot be
    /// changed without leaving 64-bit mode.
    pub fn new(region: &'a mut Region, levels: u32, gib_pages: bool) -> Result<Self, Exhausted> {
        let [root] = region.tables(1)? else {
            return Err(Exhausted { wanted: 0 });
        };
        Ok(Self {
            region,
            root,
            levels,
            gib_pages,
        })
    }

    /// The region, for what is made between.
    pub fn region(&mut self) -> &mut Region {
        self.region
    }

    /// What CR3 takes.
    pub fn root(&self) -> u64 {
        core::ptr::from_ref::<Table>(self.root) as u64
    }

    /// Maps the whole region for reading and writing, at its own addresses.
    pub fn map_region(&mut self) -> Result<(), Exhausted> {
        let base = self.region.base().0;
        let pages = base..base + self.region.size();
        self.protect(pages, Rights::Write)
    }

    /// Gives the pages of `range`, which lie in the region, `rights`.
    pub fn protect(&mut self, range: Range<u64>, rights: Rights) -> Result<(), Exhausted> {
        let mut at = range.start;
        while at < range.end {
            *self.entry(at, 1)? = at | rights.bits();
            at += PAGE_SIZE;
        }
        Ok(())
    }

    /// Maps the page of a device's registers to the linear address `at`.
    pub fn map_device(&mut self, at: u64, page: u64) -> Result<(), Exhausted> {
        *self.entry(at, 1)? = page | UNCACHED | Rights::Write.bits();
        Ok(())
    }

    /// Maps guest-physical memory up to `end`, without the region.
    pub fn map_guest(&mut self, end: u64) -> Result<(), Exhausted> {
        let region = self.region.base().0..self.region.base().0 + self.region.size();
        let mut at = 0;
        while at < end {
            let whole = at % span(3) == 0 && !(at < region.end && region.start < at + span(3));
            let level = if whole && self.gib_pages { 3 } else { 2 };
            if !region.contains(&at) {
                *self.entry(DIRECT_MAP + at, level)? = at | LARGE | Rights::Write.bits();
            }
            at += span(level);
        }
        Ok(())
    }

    /// The entry of `level` for linear address `at`; tables above it are made
    /// where they lack.
    fn entry(&mut self, at: u64, level: u32) -> Result<&mut u64, Exhausted> {
        let slot = |level: u32| (at / span(level)) as usize & 511;
        let mut table: &mut Table = self.root;
        let mut depth = self.levels;
        while depth > level {
            let entry = &mut table.0[slot(depth)];
            if *entry & PRESENT == 0 {
                let [below] = self.region.tables(1)? else {
                    return Err(Exhausted { wanted: 0 });
                };
                *entry = core::ptr::from_ref::<Table>(below) as u64 | PRESENT | WRITABLE;
            }
            let below = (*entry & ADDRESS) as *mut Table;
            // SAFETY: the entry was made above, from a table that the region
            // gave to these tables alone; linear addresses of the region equal
            // physical ones; `self` is borrowed for as long as the reference.
            table = unsafe { &mut *below };
            depth -= 1;
        }
        Ok(&mut table.0[slot(level)])
    }
}
