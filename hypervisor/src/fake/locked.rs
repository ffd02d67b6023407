//! Memory that several threads can have for a machine's.

use super::FakeMemory;
use core::ops::Range;
use machine::nested::{NestedEntry, OutOfTables};
use machine::{Memory, Unreachable};
use std::sync::{Mutex, MutexGuard};
use x86::Gpa;
use x86::walk::Entries;

/// Memory that one thread reaches at a time.
pub struct Locked(Mutex<FakeMemory>);

impl Default for Locked {
    fn default() -> Self {
        Self(Mutex::new(FakeMemory::new()))
    }
}

impl Locked {
    /// The memory, for this thread alone.
    pub fn lock(&self) -> MutexGuard<'_, FakeMemory> {
        self.0.lock().expect("no thread fails with it")
    }
}

impl Entries for Locked {
    fn load(&self, at: Gpa, size: u64) -> Option<u64> {
        self.lock().load(at, size)
    }
    fn exchange(&self, at: Gpa, size: u64, old: u64, new: u64) -> bool {
        self.lock().exchange(at, size, old, new)
    }
}

impl Memory for Locked {
    fn read(&self, gpa: Gpa, into: &mut [u8]) -> Result<(), Unreachable> {
        self.lock().read(gpa, into)
    }
    fn write(&self, gpa: Gpa, from: &[u8]) -> Result<(), Unreachable> {
        self.lock().write(gpa, from)
    }
    fn copy(&self, to: Gpa, from: Gpa, size: u64) -> Result<(), Unreachable> {
        self.lock().copy(to, from, size)
    }
    fn check(&self, gpa: Gpa, size: u64) -> Result<(), Unreachable> {
        self.lock().check(gpa, size)
    }
    fn reserved(&self) -> Range<Gpa> {
        FakeMemory::RESERVED
    }
    fn open_scrap(&self) -> Result<(), OutOfTables> {
        self.lock().open_scrap()
    }
    fn watch(&self, gpa: Gpa) -> Result<(), OutOfTables> {
        self.lock().watch(gpa)
    }
    fn watch_writes(&self, gpa: Gpa) -> Result<(), OutOfTables> {
        self.lock().watch_writes(gpa)
    }
    fn let_writes_through(&self, through: bool) {
        self.lock().let_writes_through(through);
    }
    fn types_changed(&self) -> bool {
        self.lock().types_changed()
    }
    fn nested(&self, gpa: Gpa) -> NestedEntry {
        self.lock().nested(gpa)
    }
    fn copy_log(&self, buffer: Option<(Gpa, u64)>) -> Result<(), Unreachable> {
        self.lock().copy_log(buffer)
    }
    fn follow_mtrrs(&self) -> Result<(), OutOfTables> {
        self.lock().follow_mtrrs()
    }
}
