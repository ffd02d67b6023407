//! Memory in a map.

use core::ops::Range;
use machine::nested::{NestedEntry, OutOfTables};
use machine::{Memory, Unreachable};
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use x86::Gpa;
use x86::walk::Entries;

/// Memory of 4 MiB with page tables that map it to itself as user pages; page
/// tables included, as a guest's are. The hypervisor's own is at 3 MiB.
pub struct FakeMemory {
    bytes: RefCell<Vec<u8>>,
    /// Where the policy wrote, and how many bytes.
    pub written: RefCell<Vec<(Gpa, usize)>>,
    pub scrap_opened: Cell<u32>,
    pub watched: RefCell<BTreeSet<Gpa>>,
    /// Whether writes to pages whose writes are watched go through.
    pub writes_through: Cell<bool>,
    pub followed: Cell<u32>,
    pub fits: Cell<bool>,
    /// Where the log is to be copied.
    pub log_copy: Cell<Option<(Gpa, u64)>>,
}

impl FakeMemory {
    pub const ROOT: u64 = 0x10_0000;
    const SIZE: usize = 6 << 20;
    pub const RESERVED: Range<Gpa> = Gpa(3 << 20)..Gpa(4 << 20);

    pub fn new() -> Self {
        let memory = Self {
            bytes: RefCell::new(vec![0; Self::SIZE]),
            written: RefCell::default(),
            scrap_opened: Cell::new(0),
            watched: RefCell::default(),
            writes_through: Cell::new(false),
            followed: Cell::new(0),
            fits: Cell::new(true),
            log_copy: Cell::new(None),
        };
        memory.restore();
        memory
    }

    /// Makes the page tables what they were at first.
    pub fn restore(&self) {
        self.put(Self::ROOT, &[0; 0x4000]);
        self.entry(Self::ROOT, 0x10_1000 | 7);
        self.entry(0x10_1000, 0x10_2000 | 7);
        self.entry(0x10_2000, 0x10_3000 | 7);
        self.entry(0x10_2008, 0x20_0000 | 0x87);
        for page in 0..512 {
            self.map(page * 4096);
        }
    }

    fn entry(&self, at: u64, value: u64) {
        self.put(at, &value.to_le_bytes());
    }

    /// Sets bytes, as the guest would.
    pub fn put(&self, at: u64, bytes: &[u8]) {
        let at = at as usize;
        self.bytes.borrow_mut()[at..at + bytes.len()].copy_from_slice(bytes);
    }

    /// Maps the page at linear `at` (below 2 MiB) to itself, as at first.
    pub fn map(&self, at: u64) {
        self.remap(at, at | 7);
    }

    /// Sets the page-table entry of linear `at` (below 2 MiB).
    pub fn remap(&self, at: u64, entry: u64) {
        self.entry(0x10_3000 + at / 4096 * 8, entry);
    }

    /// Makes the page at linear `at` (below 2 MiB) absent.
    pub fn unmap(&self, at: u64) {
        self.entry(0x10_3000 + at / 4096 * 8, 0);
    }

    pub fn snapshot(&self) -> Vec<u8> {
        self.bytes.borrow().clone()
    }

    fn range(&self, gpa: Gpa, size: usize) -> Result<Range<usize>, Unreachable> {
        let end = gpa.checked_add(size as u64).ok_or(Unreachable(gpa))?;
        let own = gpa < Self::RESERVED.end && Self::RESERVED.start < end;
        if own || end.0 > Self::SIZE as u64 {
            return Err(Unreachable(gpa));
        }
        Ok(gpa.0 as usize..end.0 as usize)
    }
}

impl Memory for FakeMemory {
    fn read(&self, gpa: Gpa, into: &mut [u8]) -> Result<(), Unreachable> {
        into.copy_from_slice(&self.bytes.borrow()[self.range(gpa, into.len())?]);
        Ok(())
    }
    fn write(&self, gpa: Gpa, from: &[u8]) -> Result<(), Unreachable> {
        let range = self.range(gpa, from.len())?;
        self.written.borrow_mut().push((gpa, from.len()));
        self.bytes.borrow_mut()[range].copy_from_slice(from);
        Ok(())
    }
    fn copy(&self, to: Gpa, from: Gpa, size: u64) -> Result<(), Unreachable> {
        let mut bytes = vec![0; size as usize];
        self.read(from, &mut bytes)?;
        self.write(to, &bytes)
    }
    fn check(&self, gpa: Gpa, size: u64) -> Result<(), Unreachable> {
        self.range(gpa, size as usize).map(drop)
    }
    fn reserved(&self) -> Range<Gpa> {
        Self::RESERVED
    }
    fn open_scrap(&self) -> Result<(), OutOfTables> {
        self.scrap_opened.set(self.scrap_opened.get() + 1);
        Ok(())
    }
    fn watch(&self, gpa: Gpa) -> Result<(), OutOfTables> {
        self.watched.borrow_mut().insert(gpa);
        Ok(())
    }
    fn watch_writes(&self, gpa: Gpa) -> Result<(), OutOfTables> {
        self.watched.borrow_mut().insert(gpa);
        Ok(())
    }
    fn let_writes_through(&self, through: bool) {
        self.writes_through.set(through);
    }
    fn types_changed(&self) -> bool {
        true
    }
    /// Everything is there in pages of 4 KiB, but for the hypervisor's own.
    fn nested(&self, gpa: Gpa) -> NestedEntry {
        let there = !Self::RESERVED.contains(&gpa);
        NestedEntry {
            level: if there { 1 } else { 2 },
            value: if there { gpa.page().0 | 7 } else { 0 },
            rights: [there; 3],
        }
    }
    fn copy_log(&self, buffer: Option<(Gpa, u64)>) -> Result<(), Unreachable> {
        if let Some((gpa, size)) = buffer {
            self.range(gpa, size as usize)?;
        }
        self.log_copy.set(buffer);
        Ok(())
    }
    fn follow_mtrrs(&self) -> Result<(), OutOfTables> {
        self.followed.set(self.followed.get() + 1);
        if self.fits.get() {
            Ok(())
        } else {
            Err(OutOfTables)
        }
    }
}

impl Entries for FakeMemory {
    fn load(&self, at: Gpa, size: u64) -> Option<u64> {
        let range = self.range(at, size as usize).ok()?;
        let mut word = [0; 8];
        word[..size as usize].copy_from_slice(&self.bytes.borrow()[range]);
        Some(u64::from_le_bytes(word))
    }
    fn exchange(&self, at: Gpa, size: u64, old: u64, new: u64) -> bool {
        let same = self.load(at, size) == Some(old);
        if same {
            self.put(at.0, &new.to_le_bytes()[..size as usize]);
        }
        same
    }
}
