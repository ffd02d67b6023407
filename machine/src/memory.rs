//! Guest memory: the one way for the hypervisor to read and write it, and the
//! nested tables that decide what of it there is.

use crate::lengths::Word;
use crate::log::{self, LogBuffer};
use crate::nested::{Nested, NestedEntry, OutOfTables};
use crate::tables::DIRECT_MAP;
use crate::{guarded, mtrrs};
use abi::handoff::{self, MEMORY_MAX};
use core::cmp::Reverse;
use core::ops::Range;
use spin::Mutex;
use x86::walk::Entries;
use x86::{Gpa, Hpa};

/// The address is no memory that the guest itself could reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unreachable(pub Gpa);

/// Guest memory, as the policy sees it. All methods check that an address is
/// memory of the guest's.
pub trait Memory: Entries {
    /// Fills `into` from `gpa`.
    fn read(&self, gpa: Gpa, into: &mut [u8]) -> Result<(), Unreachable>;
    /// Writes `from` to `gpa`. An error has written nothing.
    fn write(&self, gpa: Gpa, from: &[u8]) -> Result<(), Unreachable>;
    /// The bits in which the 8 bytes of `word`, which were the guest's memory,
    /// differ from what they were: 0 exactly if they do not. Guest memory stays
    /// that, so the address need not be checked again.
    #[inline(always)]
    fn difference(&self, word: &Word) -> u64 {
        let now = self.load(word.at(), 8);
        now.map_or(word.value(), |now| now ^ word.value())
    }
    /// Copies `size` bytes from `from` to `to`. An error has written nothing.
    fn copy(&self, to: Gpa, from: Gpa, size: u64) -> Result<(), Unreachable>;
    /// Whether `size` bytes at `gpa` are memory of the guest's.
    fn check(&self, gpa: Gpa, size: u64) -> Result<(), Unreachable>;
    /// The hypervisor's own memory, where the guest has none.
    fn reserved(&self) -> Range<Gpa>;
    /// Lets the guest reach a scrap page where the hypervisor's memory is.
    /// Translations must be flushed afterwards.
    fn open_scrap(&self) -> Result<(), OutOfTables>;
    /// Makes every access of the guest's to the page of `gpa` exit, for good.
    /// Translations must be flushed afterwards.
    fn watch(&self, gpa: Gpa) -> Result<(), OutOfTables>;
    /// Makes every write of the guest's to the page of `gpa`, registers of a
    /// device, exit. Translations must be flushed afterwards.
    fn watch_writes(&self, gpa: Gpa) -> Result<(), OutOfTables>;
    /// Lets writes to that page through, or makes them exit again. Translations
    /// must be flushed afterwards.
    fn let_writes_through(&self, through: bool);
    /// Whether this CPU's MTRRs are on and say other types than the tables have.
    fn types_changed(&self) -> bool;
    /// The entry of the nested tables that decides over `gpa`.
    fn nested(&self, gpa: Gpa) -> NestedEntry;
    /// Has each further line of the log copied into a [`LogBuffer`] of `size`
    /// bytes at `gpa`, or into none any more.
    fn copy_log(&self, buffer: Option<(Gpa, u64)>) -> Result<(), Unreachable>;
    /// Takes up the memory types that the MTRRs have now. Translations must be
    /// flushed afterwards.
    fn follow_mtrrs(&self) -> Result<(), OutOfTables>;
}

/// The guest's memory on the real machine.
pub struct GuestMemory {
    nested: Mutex<Nested>,
    reserved: Range<Gpa>,
    /// What of all addresses is memory. The rest is devices, of which a read
    /// may change something, and holes. The largest comes first: most searches
    /// end there. Never changes.
    memory: [handoff::Memory; MEMORY_MAX],
}

impl GuestMemory {
    /// The guest's memory, but for `reserved`.
    ///
    /// # Safety
    /// The tables that the hypervisor runs on map every address of `memory`
    /// but those of `reserved` at [`DIRECT_MAP`], and `nested` leaves out
    /// `reserved`.
    pub(crate) unsafe fn new(
        nested: Nested,
        reserved: Range<Gpa>,
        mut memory: [handoff::Memory; MEMORY_MAX],
    ) -> Self {
        memory.sort_unstable_by_key(|range| Reverse(range.end.saturating_sub(range.start)));
        Self {
            nested: Mutex::new(nested),
            reserved,
            memory,
        }
    }

    /// The root of the nested tables.
    pub fn nested_root(&self) -> Hpa {
        self.nested.lock().root()
    }

    /// Where `size` bytes at `gpa` lie in the hypervisor's linear space.
    #[inline(always)]
    fn direct(&self, gpa: Gpa, size: u64) -> Result<*mut u8, Unreachable> {
        let end = gpa.checked_add(size).ok_or(Unreachable(gpa))?;
        let own = gpa < self.reserved.end && self.reserved.start < end;
        let [largest, others @ ..] = &self.memory;
        if !own && (has(largest, gpa, end) || any_has(others, gpa, end)) {
            Ok((DIRECT_MAP + gpa.0) as *mut u8)
        } else {
            Err(Unreachable(gpa))
        }
    }
}

#[cold]
fn any_has(ranges: &[handoff::Memory], start: Gpa, end: Gpa) -> bool {
    ranges.iter().any(|range| has(range, start, end))
}

#[inline]
fn has(range: &handoff::Memory, start: Gpa, end: Gpa) -> bool {
    range.start <= start.0 && end.0 <= range.end
}

impl Memory for GuestMemory {
    fn read(&self, gpa: Gpa, into: &mut [u8]) -> Result<(), Unreachable> {
        let from = self.direct(gpa, into.len() as u64)?;
        // SAFETY: `direct` yields addresses of the direct map only, which is
        // the guest's memory; nothing of Rust's lies there.
        let copied = unsafe { guarded::copy(into.as_mut_ptr(), from, into.len()) };
        copied.then_some(()).ok_or(Unreachable(gpa))
    }

    #[inline(always)]
    fn difference(&self, word: &Word) -> u64 {
        // SAFETY: a word was checked to be memory of the guest's in the direct map
        // when it was made; nothing of Rust's lies there.
        unsafe { guarded::difference(word.direct(), word.value()) }
    }

    fn write(&self, gpa: Gpa, from: &[u8]) -> Result<(), Unreachable> {
        let to = self.direct(gpa, from.len() as u64)?;
        // SAFETY: as for `read`.
        let copied = unsafe { guarded::copy(to, from.as_ptr(), from.len()) };
        copied.then_some(()).ok_or(Unreachable(gpa))
    }

    fn copy(&self, to: Gpa, from: Gpa, size: u64) -> Result<(), Unreachable> {
        let (to_direct, from) = (self.direct(to, size)?, self.direct(from, size)?);
        // SAFETY: as for `read`; a copy by instructions may overlap.
        let copied = unsafe { guarded::copy(to_direct, from, size as usize) };
        copied.then_some(()).ok_or(Unreachable(to))
    }

    #[inline]
    fn check(&self, gpa: Gpa, size: u64) -> Result<(), Unreachable> {
        self.direct(gpa, size).map(drop)
    }

    fn reserved(&self) -> Range<Gpa> {
        self.reserved.clone()
    }

    fn open_scrap(&self) -> Result<(), OutOfTables> {
        self.nested.lock().open_scrap()
    }

    fn watch(&self, gpa: Gpa) -> Result<(), OutOfTables> {
        self.nested.lock().watch(gpa.0, &mtrrs::read())
    }

    fn watch_writes(&self, gpa: Gpa) -> Result<(), OutOfTables> {
        self.nested.lock().watch_writes(gpa.0, &mtrrs::read())
    }

    fn let_writes_through(&self, through: bool) {
        self.nested.lock().let_writes_through(through);
    }

    fn types_changed(&self) -> bool {
        let now = mtrrs::read();
        now.is_on() && now != *self.nested.lock().types()
    }

    fn nested(&self, gpa: Gpa) -> NestedEntry {
        self.nested.lock().find(gpa.0)
    }

    fn copy_log(&self, buffer: Option<(Gpa, u64)>) -> Result<(), Unreachable> {
        let Some((gpa, size)) = buffer else {
            log::copy_into(None);
            return Ok(());
        };
        let at = self.direct(gpa, size)?;
        // SAFETY: `direct` yields addresses of the direct map only, which is
        // the guest's memory and stays mapped; nothing of Rust's lies there.
        log::copy_into(Some(unsafe { LogBuffer::new(at, size) }));
        Ok(())
    }

    fn follow_mtrrs(&self) -> Result<(), OutOfTables> {
        self.nested.lock().rebuild(&mtrrs::read())
    }
}

impl Entries for GuestMemory {
    #[inline(always)]
    fn load(&self, at: Gpa, size: u64) -> Option<u64> {
        let from = self.direct(at, size).ok()?;
        // SAFETY: `direct` yields addresses of the direct map only; nothing of
        // Rust's lies there.
        unsafe { guarded::load(from, size) }
    }

    #[inline(always)]
    fn load_wide(&self, at: Gpa) -> u64 {
        match self.direct(at, 8) {
            // SAFETY: as for `load`.
            Ok(from) => unsafe { guarded::load_or_zero(from) },
            Err(_) => 0,
        }
    }

    #[inline(always)]
    fn load_16(&self, at: Gpa) -> u128 {
        match self.direct(at, 16) {
            // SAFETY: as for `load`.
            Ok(from) => unsafe { guarded::load_16_or_zero(from) },
            Err(_) => 0,
        }
    }

    fn exchange(&self, at: Gpa, size: u64, old: u64, new: u64) -> bool {
        let Ok(to) = self.direct(at, size) else {
            return false;
        };
        // SAFETY: as for `load`. Entries are naturally aligned: their index times
        // their size in an aligned table, and `walk` clears the low bits of table
        // addresses.
        unsafe { guarded::exchange(to, size, old, new) }
    }
}
