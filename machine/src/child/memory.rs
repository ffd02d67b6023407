//! A child's memory: the pages of the pool that were mapped into it.

use super::tables::{ADDRESS_BITS, Rights, Tables};
use super::{ChildMemory, Unmappable};
use crate::guarded;
use crate::lengths::Word;
use crate::memory::{Memory, Unreachable};
use crate::nested::{Format, NestedEntry, OutOfTables};
use crate::tables::DIRECT_MAP;
use core::ops::Range;
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use spin::Mutex;
use x86::walk::Entries;
use x86::{Gpa, PAGE_SIZE};

/// How many pages are remembered.
const KNOWN: usize = 64;

/// A page that was found, in one word, so that all vCPUs may read and write it: the
/// child's number of it, the pool's, and what the child may do. 0 is none.
#[derive(Clone, Copy)]
struct Known(u64);

impl Known {
    const READ: u64 = 1;
    const WRITE: u64 = 2;
    /// The pool lies below 4 GiB.
    const PAGE: core::ops::Range<u32> = 4..24;

    fn new(gpa: Gpa, page: u64, rights: Rights) -> Self {
        let write = if rights.write { Self::WRITE } else { 0 };
        let number = gpa.0 / PAGE_SIZE;
        Self(number << Self::PAGE.end | (page / PAGE_SIZE) << Self::PAGE.start | Self::READ | write)
    }

    /// The pool's page, if it is known that the child may access `gpa` so.
    #[inline(always)]
    fn page(self, gpa: Gpa, write: bool) -> Option<u64> {
        let needed = if write { Self::WRITE } else { Self::READ };
        let is_it = self.0 >> Self::PAGE.end == gpa.0 / PAGE_SIZE && self.0 & needed != 0;
        let number = self.0 as u32 & ((1 << Self::PAGE.end) - 1);
        is_it.then_some(u64::from(number >> Self::PAGE.start) * PAGE_SIZE)
    }
}

/// A child's memory on the real machine.
pub struct PoolMemory {
    tables: Tables,
    /// Held by who changes the tables. Who reads them needs no lock.
    changing: Mutex<()>,
    /// Pages that were found, each at the place of its number. Those that change are
    /// forgotten while no vCPU runs.
    known: [AtomicU64; KNOWN],
    pool: Range<u64>,
    generation: AtomicU64,
}

impl PoolMemory {
    /// Memory in which nothing is, of which `pool` can be mapped.
    ///
    /// # Safety
    /// The tables that the hypervisor runs on map `pool` at [`DIRECT_MAP`], and
    /// it is nothing of the hypervisor's.
    pub(crate) unsafe fn new(format: Format, pool: Range<u64>) -> Option<Self> {
        Some(Self {
            tables: Tables::new(format)?,
            changing: Mutex::new(()),
            known: [const { AtomicU64::new(0) }; KNOWN],
            pool,
            generation: AtomicU64::new(0),
        })
    }

    /// The root of the nested tables.
    pub(crate) fn root(&self) -> u64 {
        self.tables.root()
    }

    /// Where the bytes at `gpa` lie in the hypervisor's linear space, up to the
    /// end of their page, for an access that writes or not.
    #[inline(always)]
    fn direct(&self, gpa: Gpa, write: bool) -> Result<*mut u8, Unreachable> {
        let known = self.known(gpa).load(Relaxed);
        match Known(known).page(gpa, write) {
            Some(page) => Ok((DIRECT_MAP + page + gpa.page_offset()) as *mut u8),
            None => self.search(gpa, write),
        }
    }

    #[inline(never)]
    fn search(&self, gpa: Gpa, write: bool) -> Result<*mut u8, Unreachable> {
        let found = self.tables.find(gpa.0);
        let allowed = found.filter(|(_, rights)| rights.read && (rights.write || !write));
        let (page, rights) = allowed.ok_or(Unreachable(gpa))?;
        let known = Known::new(gpa, page, rights);
        self.known(gpa).store(known.0, Relaxed);
        Ok((DIRECT_MAP + page + gpa.page_offset()) as *mut u8)
    }

    fn known(&self, gpa: Gpa) -> &AtomicU64 {
        &self.known[(gpa.0 / PAGE_SIZE) as usize % KNOWN]
    }

    /// Calls `each` for every part of `size` bytes at `gpa` that lies in one
    /// page: where it is, and which of the bytes it has.
    fn parts(
        &self,
        gpa: Gpa,
        size: usize,
        write: bool,
        mut each: impl FnMut(*mut u8, Range<usize>) -> bool,
    ) -> Result<(), Unreachable> {
        let mut done = 0;
        while done < size {
            let at = gpa.checked_add(done as u64).ok_or(Unreachable(gpa))?;
            let end = size.min(done + at.left_in_page() as usize);
            if !each(self.direct(at, write)?, done..end) {
                return Err(Unreachable(at));
            }
            done = end;
        }
        Ok(())
    }
}

impl ChildMemory for PoolMemory {
    fn map(&self, at: Gpa, from: Gpa, rights: Rights) -> Result<(), Unmappable> {
        let is_page = at.page_offset() == 0 && from.page_offset() == 0;
        let in_pool =
            !rights.read || self.pool.contains(&from.0) && self.pool.end - from.0 >= PAGE_SIZE;
        if at.0 >> ADDRESS_BITS != 0 || !is_page || !in_pool {
            return Err(Unmappable::Address);
        }
        self.generation.fetch_add(1, Release);
        let _changing = self.changing.lock();
        let mapped = self.tables.map(at.0, from.0, rights);
        self.known(at).store(0, Relaxed);
        mapped.map_err(|_| Unmappable::Tables)
    }

    fn generation(&self) -> u64 {
        self.generation.load(Acquire)
    }
}

impl Memory for PoolMemory {
    fn read(&self, gpa: Gpa, into: &mut [u8]) -> Result<(), Unreachable> {
        let size = into.len();
        self.parts(gpa, size, false, |from, part| {
            let part = into.get_mut(part).unwrap_or(&mut []);
            // SAFETY: `direct` yields addresses of the direct map only, of
            // memory of the pool; nothing of Rust's lies there.
            unsafe { guarded::copy(part.as_mut_ptr(), from, part.len()) }
        })
    }

    fn write(&self, gpa: Gpa, from: &[u8]) -> Result<(), Unreachable> {
        self.parts(gpa, from.len(), true, |_, _| true)?;
        self.parts(gpa, from.len(), true, |to, part| {
            let part = from.get(part).unwrap_or(&[]);
            // SAFETY: as for `read`.
            unsafe { guarded::copy(to, part.as_ptr(), part.len()) }
        })
    }

    #[inline(always)]
    fn difference(&self, word: &Word) -> u64 {
        match self.direct(word.at(), false) {
            // SAFETY: as for `read`.
            Ok(from) => unsafe { guarded::difference(from, word.value()) },
            Err(_) => word.value(),
        }
    }

    /// No service of a child's copies.
    fn copy(&self, to: Gpa, _: Gpa, _: u64) -> Result<(), Unreachable> {
        Err(Unreachable(to))
    }

    fn check(&self, gpa: Gpa, size: u64) -> Result<(), Unreachable> {
        self.parts(gpa, size as usize, false, |_, _| true)
    }

    /// Nothing of a child's addresses is the hypervisor's.
    fn reserved(&self) -> Range<Gpa> {
        Gpa(0)..Gpa(0)
    }

    fn open_scrap(&self) -> Result<(), OutOfTables> {
        Err(OutOfTables)
    }

    fn watch(&self, _: Gpa) -> Result<(), OutOfTables> {
        Err(OutOfTables)
    }

    fn watch_writes(&self, _: Gpa) -> Result<(), OutOfTables> {
        Err(OutOfTables)
    }

    /// No write of a child's is watched.
    fn let_writes_through(&self, _: bool) {}

    fn types_changed(&self) -> bool {
        false
    }

    fn nested(&self, gpa: Gpa) -> NestedEntry {
        let found = self.tables.find(gpa.0);
        let (page, rights) = found.unwrap_or((0, Rights::default()));
        NestedEntry {
            level: 1,
            value: page,
            rights: [rights.read, rights.write, rights.execute],
        }
    }

    fn copy_log(&self, _: Option<(Gpa, u64)>) -> Result<(), Unreachable> {
        Err(Unreachable(Gpa(0)))
    }

    fn follow_mtrrs(&self) -> Result<(), OutOfTables> {
        Ok(())
    }
}

impl Entries for PoolMemory {
    fn load(&self, at: Gpa, size: u64) -> Option<u64> {
        let from = self.direct(at, false).ok()?;
        // SAFETY: as for `read`. Entries are naturally aligned: their index
        // times their size in an aligned table, and `walk` clears the low bits
        // of table addresses.
        unsafe { guarded::load(from, size) }
    }

    #[inline(always)]
    fn load_wide(&self, at: Gpa) -> u64 {
        match self.direct(at, false) {
            // SAFETY: as for `load`.
            Ok(from) => unsafe { guarded::load_or_zero(from) },
            Err(_) => 0,
        }
    }

    #[inline(always)]
    fn load_16(&self, at: Gpa) -> u128 {
        match self.direct(at, false) {
            // SAFETY: as for `load`; both words are in the page that was found.
            Ok(from) => unsafe { guarded::load_16_or_zero(from) },
            Err(_) => 0,
        }
    }

    fn exchange(&self, at: Gpa, size: u64, old: u64, new: u64) -> bool {
        let Ok(to) = self.direct(at, true) else {
            return false;
        };
        // SAFETY: as for `load`.
        unsafe { guarded::exchange(to, size, old, new) }
    }
}
