//! Guest memory as the shell looks at it: with a kernel's rights in the
//! caller's own address space, and without a trace. No accessed bit is set.

use core::cell::Cell;
use core::fmt;
use machine::{Memory, Vcpu};
use x86::control::{Cr0, Cr4, Efer};
use x86::exception::page_fault;
use x86::walk::{Denied, Entries, Intent, Paging, Translation, walk_each};
use x86::{Gpa, Gva};

/// Levels of the deepest walk.
const LEVELS: usize = 5;

/// One look.
pub struct View<'a, M> {
    memory: &'a M,
    paging: Paging,
    /// The entries of the last walk, from the root on: where each lies, and
    /// what it holds.
    entries: [Cell<(u64, u64)>; LEVELS],
    found: Cell<usize>,
}

impl<'a, M: Memory> View<'a, M> {
    /// The address space in which `vcpu` stopped.
    pub fn new<V: Vcpu>(memory: &'a M, vcpu: &V) -> Self {
        Self {
            memory,
            paging: Paging {
                alignment_check: true,
                pkru: 0,
                ..vcpu.paging()
            },
            entries: Default::default(),
            found: Cell::new(0),
        }
    }

    /// Where `gva` lies.
    pub fn translate(&self, gva: Gva) -> Result<Translation, Denied> {
        self.found.set(0);
        walk_each(&self.paging, Intent::default(), gva, self)
    }

    /// Entry number `number` of the last walk, from the root on: its level,
    /// where it lies, what it holds.
    pub fn entry(&self, number: usize) -> Option<(usize, u64, u64)> {
        let (at, value) = self.entries.get(number)?.get();
        let level = self.top().checked_sub(number)?;
        (number < self.found.get()).then_some((level, at, value))
    }

    /// Whether addresses are translated at all.
    pub fn is_paged(&self) -> bool {
        self.paging.cr0.contains(Cr0::PG)
    }

    /// The level of the first entry that is read.
    fn top(&self) -> usize {
        let paging = &self.paging;
        let is_long = paging.efer.contains(Efer::LMA);
        match (is_long, paging.cr4.contains(Cr4::PAE)) {
            (true, _) => 4 + usize::from(paging.cr4.contains(Cr4::LA57)),
            (false, true) => 2 + usize::from(paging.pdptes.is_none()),
            (false, false) => 2,
        }
    }
}

/// Why an address leads nowhere, in words.
pub struct Why(pub Denied);

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Denied::PageFault { code, .. } if code & page_fault::PRESENT == 0 => {
                f.write_str("not present")
            }
            Denied::PageFault { .. } => f.write_str("a reserved bit is set"),
            Denied::NonCanonical(_) => f.write_str("no canonical address"),
            Denied::NoMemory(at) => write!(f, "a table at {at:#x}, where no memory is"),
            Denied::Restless(_) => f.write_str("the tables change at each look"),
        }
    }
}

impl<M: Memory> Entries for View<'_, M> {
    fn load(&self, at: Gpa, size: u64) -> Option<u64> {
        let value = self.memory.load(at, size)?;
        if let Some(place) = self.entries.get(self.found.get()) {
            place.set((at.0, value));
            self.found.set(self.found.get() + 1);
        }
        Some(value)
    }

    /// Only looks.
    fn exchange(&self, _: Gpa, _: u64, _: u64, _: u64) -> bool {
        true
    }
}
