//! Nested tables: guest-physical equals host-physical everywhere but in the
//! hypervisor's own region, which is not there until a guest touches it and
//! then shows one scrap page. Large pages where memory types allow.
//!
//! Filled in through slices and numbers alone, so the builder runs on the desk.

use crate::region::Table;
use abi::handoff::footprint::WATCHED_MAX;
use core::ops::Range;
use x86::mtrr::{MemoryType, Mtrrs};
use x86::{Hpa, PAGE_SIZE};

const LARGE: u64 = 1 << 7;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// How the two vendors write an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// EPT. Intel SDM volume 3, "The Extended Page Table Mechanism (EPT)".
    Ept,
    /// The format of ordinary tables, with the user bit: nested translations
    /// count as user accesses. AMD APM volume 2, "Nested Paging".
    Npt,
}

impl Format {
    const fn table(self) -> u64 {
        7
    }

    /// Reading, writing, executing.
    fn rights(self, entry: u64) -> [bool; 3] {
        let bit = |bit: u32| entry >> bit & 1 != 0;
        match self {
            Self::Ept => [bit(0), bit(1), bit(2)],
            Self::Npt => [bit(0), bit(0) && bit(1), bit(0) && !bit(63)],
        }
    }

    const fn page(self, kind: MemoryType) -> u64 {
        match self {
            Self::Ept => 7 | (kind as u64) << 3,
            Self::Npt => 7,
        }
    }

    /// Readable only, or writable too, uncacheable: registers of a device.
    const fn device(self, writable: bool) -> u64 {
        let write = (writable as u64) << 1;
        match self {
            Self::Ept => 1 | write | (MemoryType::Uncacheable as u64) << 3,
            Self::Npt => 5 | write,
        }
    }

    /// Readable and writable, write-back, not executable.
    const fn scrap(self) -> u64 {
        match self {
            Self::Ept => 3 | (MemoryType::WriteBack as u64) << 3,
            Self::Npt => 7 | 1 << 63,
        }
    }
}

/// What the tables are to say.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The vendor's format.
    pub format: Format,
    /// Guest-physical address bits that are mapped.
    pub bits: u32,
    /// Whether 1 GiB pages may be used.
    pub gib_pages: bool,
    /// The hypervisor's region; multiples of 2 MiB.
    pub reserved: Range<u64>,
}

/// There are not enough tables for the plan, or more watched pages than
/// [`WATCHED_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfTables;

/// The entry that decides over a guest-physical address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NestedEntry {
    /// Its level: 1 for a page of 4 KiB, 2 of 2 MiB, 3 of 1 GiB. An entry that
    /// holds nothing ends the walk at its level.
    pub level: u32,
    /// What it holds.
    pub value: u64,
    /// The guest may read there, write there, and fetch code from there.
    pub rights: [bool; 3],
}

/// The tables of one guest.
pub struct Nested {
    plan: Plan,
    /// The root is the first; entries hold physical addresses, which equal
    /// linear ones.
    pool: &'static mut [Table],
    /// Physical address of the pool's first table.
    base: Hpa,
    used: usize,
    /// A table in which each entry is `scrap_page`.
    scrap: Hpa,
    scrap_page: Hpa,
    scrap_is_open: bool,
    /// Pages that a controller watches: not mapped, wherever they are. Unused
    /// places hold an address that no page has.
    watched: [u64; WATCHED_MAX],
    /// A page of a device's registers whose writes a controller watches.
    writes_watched: u64,
    /// Whether they are let through for the time being.
    writes_through: bool,
    /// The memory types that the entries have.
    types: Mtrrs,
}

const NO_PAGE: u64 = u64::MAX;

const ROOT_LEVEL: u32 = 4;

const fn span(level: u32) -> u64 {
    PAGE_SIZE << (9 * (level - 1))
}

impl Nested {
    /// Tables for `plan` in `pool`, which lies at `base`. `scrap_table` lies
    /// at `scrap_table_at` and is filled with entries for `scrap_page`.
    pub fn new(
        plan: Plan,
        mtrrs: &Mtrrs,
        (base, pool): (Hpa, &'static mut [Table]),
        (scrap, scrap_table): (Hpa, &mut Table),
        scrap_page: Hpa,
    ) -> Result<Self, OutOfTables> {
        scrap_table.0 = [scrap_page.0 | plan.format.scrap(); 512];
        let mut nested = Self {
            plan,
            pool,
            base,
            used: 0,
            scrap,
            scrap_page,
            scrap_is_open: false,
            watched: [NO_PAGE; WATCHED_MAX],
            writes_watched: NO_PAGE,
            writes_through: false,
            types: *mtrrs,
        };
        nested.rebuild(mtrrs)?;
        Ok(nested)
    }

    /// The physical address of the root.
    pub fn root(&self) -> Hpa {
        self.base
    }

    /// The memory types that the entries have.
    pub fn types(&self) -> &Mtrrs {
        &self.types
    }

    /// How many tables are in use.
    pub fn tables(&self) -> usize {
        self.used
    }

    /// The entry that decides over the guest-physical address `at`.
    pub fn find(&self, at: u64) -> NestedEntry {
        let (mut table, mut level) = (self.base.0, ROOT_LEVEL);
        loop {
            let value = match self.is_covered(at) {
                true => self.entry_in(table, (at / span(level)) as usize & 511),
                false => 0,
            };
            if value == 0 || value & LARGE != 0 || level == 1 {
                let rights = self.plan.format.rights(value);
                return NestedEntry {
                    level,
                    value,
                    rights,
                };
            }
            (table, level) = (value & ADDRESS, level - 1);
        }
    }

    fn is_covered(&self, at: u64) -> bool {
        at >> self.plan.bits == 0
    }

    /// What a slot of the table at `table` holds. The only table outside the
    /// pool is that of the scrap page.
    fn entry_in(&self, table: u64, slot: usize) -> u64 {
        let index = (table.wrapping_sub(self.base.0) / PAGE_SIZE) as usize;
        match self.pool.get(index) {
            Some(table) => table.0.get(slot).copied().unwrap_or(0),
            None => self.scrap_page.0 | self.plan.format.scrap(),
        }
    }

    /// Builds everything anew for these memory types. The guest must not run,
    /// and its translations must be flushed afterwards. On an error nothing
    /// more than the write-back default is promised to the caller's next try.
    pub fn rebuild(&mut self, mtrrs: &Mtrrs) -> Result<(), OutOfTables> {
        self.used = 0;
        self.types = *mtrrs;
        let root = self.allocate()?;
        self.fill(root, ROOT_LEVEL, 0, mtrrs)?;
        if core::mem::take(&mut self.scrap_is_open) {
            self.open_scrap()?;
        }
        Ok(())
    }

    /// Takes the page at `at` out of the tables for good, so that every access
    /// to it exits. The guest's translations must be flushed afterwards. An
    /// error has changed nothing.
    pub fn watch(&mut self, at: u64, mtrrs: &Mtrrs) -> Result<(), OutOfTables> {
        let at = at & !(PAGE_SIZE - 1);
        if self.is_watched(at, PAGE_SIZE) {
            return Ok(());
        }
        let mut places = self.watched.iter_mut();
        let free = places.find(|place| **place == NO_PAGE);
        *free.ok_or(OutOfTables)? = at;
        let built = self.rebuild(mtrrs);
        if built.is_err() {
            for place in &mut self.watched {
                if *place == at {
                    *place = NO_PAGE;
                }
            }
            self.rebuild(mtrrs)?;
        }
        built
    }

    /// Makes the page of `at`, registers of a device, readable only: every write
    /// to it exits. There can be one such page.
    pub fn watch_writes(&mut self, at: u64, mtrrs: &Mtrrs) -> Result<(), OutOfTables> {
        let at = at & !(PAGE_SIZE - 1);
        if self.writes_watched == at {
            return Ok(());
        }
        if self.writes_watched != NO_PAGE {
            return Err(OutOfTables);
        }
        self.writes_watched = at;
        let built = self.rebuild(mtrrs);
        if built.is_err() {
            self.writes_watched = NO_PAGE;
            self.rebuild(mtrrs)?;
        }
        built
    }

    /// Lets writes to that page through, or makes them exit again: one entry
    /// changes. The guest must not run, and its translations must be flushed
    /// afterwards.
    pub fn let_writes_through(&mut self, through: bool) {
        self.writes_through = through;
        let at = self.writes_watched;
        if let Some(table) = self.table_of(1, at) {
            let entry = at | self.plan.format.device(through);
            self.set(table, (at / span(1)) as usize & 511, entry);
        }
    }

    /// Whether one of the `size` bytes at `at` is in a watched page.
    fn is_watched(&self, at: u64, size: u64) -> bool {
        let mut watched = self.watched.iter();
        watched.any(|page| at.saturating_sub(*page) < PAGE_SIZE && page.saturating_sub(at) < size)
    }

    /// Lets the guest reach the scrap page wherever it touches the region. An
    /// error leaves parts of it closed, and the next call tries again.
    pub fn open_scrap(&mut self) -> Result<(), OutOfTables> {
        if self.scrap_is_open {
            return Ok(());
        }
        let mut at = self.plan.reserved.start;
        while at < self.plan.reserved.end {
            let table = self.scrap_table(at)?;
            self.set_directory_entry(at, table | self.plan.format.table());
            at += span(2);
        }
        self.scrap_is_open = true;
        Ok(())
    }

    /// Where the table is that shows scrap in the 2 MiB at `at`: the common
    /// one, or one with holes of its own.
    fn scrap_table(&mut self, at: u64) -> Result<u64, OutOfTables> {
        if !self.is_watched(at, span(2)) {
            return Ok(self.scrap.0);
        }
        let table = self.allocate()?;
        for slot in 0..512 {
            let page = at + slot as u64 * PAGE_SIZE;
            if !self.is_watched(page, PAGE_SIZE) {
                self.set(table, slot, self.scrap_page.0 | self.plan.format.scrap());
            }
        }
        Ok(self.address_of(table))
    }

    fn allocate(&mut self) -> Result<usize, OutOfTables> {
        let index = self.used;
        let table = self.pool.get_mut(index).ok_or(OutOfTables)?;
        *table = Table::EMPTY;
        self.used += 1;
        Ok(index)
    }

    fn address_of(&self, table: usize) -> u64 {
        self.base.0 + table as u64 * PAGE_SIZE
    }

    fn index_of(&self, entry: u64) -> usize {
        ((entry & ADDRESS) - self.base.0) as usize / PAGE_SIZE as usize
    }

    fn set(&mut self, table: usize, slot: usize, entry: u64) {
        let found = self
            .pool
            .get_mut(table)
            .and_then(|table| table.0.get_mut(slot));
        if let Some(found) = found {
            *found = entry;
        }
    }

    fn fill(
        &mut self,
        table: usize,
        level: u32,
        base: u64,
        mtrrs: &Mtrrs,
    ) -> Result<(), OutOfTables> {
        for slot in 0..512 {
            let at = base + slot as u64 * span(level);
            if at >= 1 << self.plan.bits {
                break;
            }
            let entry = self.entry(level, at, mtrrs)?;
            self.set(table, slot, entry);
        }
        Ok(())
    }

    /// The entry for the `span(level)` bytes at `at`: nothing, a page, or a
    /// table of its own.
    fn entry(&mut self, level: u32, at: u64, mtrrs: &Mtrrs) -> Result<u64, OutOfTables> {
        let end = at + span(level);
        let reserved = &self.plan.reserved;
        if level == 2 && reserved.start <= at && end <= reserved.end {
            return Ok(0);
        }
        let touches_reserved = at < reserved.end && reserved.start < end;
        let touches_watched = self.is_watched(at, span(level));
        if level == 1 && touches_watched {
            return Ok(0);
        }
        let touches_read_only = (at..end).contains(&self.writes_watched);
        if level == 1 && touches_read_only {
            return Ok(at | self.plan.format.device(self.writes_through));
        }
        if !touches_reserved
            && !touches_watched
            && !touches_read_only
            && self.may_be_page(level, end)
            && let Some(kind) = self.kind(at, span(level), mtrrs)
        {
            let large = if level > 1 { LARGE } else { 0 };
            return Ok(at | self.plan.format.page(kind) | large);
        }
        let below = self.allocate()?;
        self.fill(below, level - 1, at, mtrrs)?;
        Ok(self.address_of(below) | self.plan.format.table())
    }

    fn may_be_page(&self, level: u32, end: u64) -> bool {
        let allowed = level <= 2 || (level == 3 && self.plan.gib_pages);
        allowed && end <= 1 << self.plan.bits
    }

    fn kind(&self, at: u64, size: u64, mtrrs: &Mtrrs) -> Option<MemoryType> {
        match self.plan.format {
            Format::Ept => mtrrs.of_range(at, size),
            Format::Npt => Some(MemoryType::WriteBack),
        }
    }

    /// Sets the level 2 entry for `at`, an address of the region. There is a
    /// table for it, because the region is left out at level 2 only.
    fn set_directory_entry(&mut self, at: u64, entry: u64) {
        if let Some(table) = self.table_of(2, at) {
            self.set(table, (at / span(2)) as usize & 511, entry);
        }
    }

    /// The table of `level` that covers `at`, if entries are that small there.
    fn table_of(&self, level: u32, at: u64) -> Option<usize> {
        let mut table = 0;
        for above in (level + 1..=ROOT_LEVEL).rev() {
            let slot = (at / span(above)) as usize & 511;
            let found = *self.pool.get(table)?.0.get(slot)?;
            if found == 0 || found & LARGE != 0 || !self.is_covered(at) {
                return None;
            }
            table = self.index_of(found);
        }
        Some(table)
    }
}

#[cfg(test)]
mod tests;
