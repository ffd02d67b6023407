//! Who calls a service, and the memory that it may touch: the guest's own
//! tables are walked with the caller's rights, page by page.

use crate::vm::Vm;
use machine::{CodeSize, Memory, Vcpu};
use x86::walk::{Denied, Intent, Paging, Translation, walk};
use x86::{Gva, PAGE_SIZE};

/// A caller: its privilege and its view of memory, as they were at the call.
pub struct Caller<'a, M> {
    memory: &'a M,
    paging: Paging,
    /// At CPL 3.
    pub user: bool,
    /// In 64-bit mode: registers count in full.
    pub wide: bool,
}

impl<'a, M: Memory> Caller<'a, M> {
    /// The caller that `vcpu` stopped in.
    pub fn new<V: Vcpu>(vm: &'a Vm<M>, vcpu: &V) -> Self {
        Self {
            memory: &vm.memory,
            paging: vcpu.paging(),
            user: vcpu.cpl() == 3,
            wide: vcpu.code_size() == CodeSize::Bits64,
        }
    }

    /// An argument as the caller means it.
    pub fn argument(&self, register: u64) -> u64 {
        if self.wide {
            register
        } else {
            register & 0xffff_ffff
        }
    }

    /// The guest's memory.
    pub fn memory(&self) -> &'a M {
        self.memory
    }

    /// Where `gva` lies, for an access of this intent by this caller.
    pub fn translate(&self, gva: Gva, intent: Intent) -> Result<Translation, Denied> {
        walk(
            &self.paging,
            Intent {
                user: self.user,
                ..intent
            },
            gva,
            self.memory,
        )
    }

    /// Reads from `gva` up to the end of its page or of `into`. Returns how
    /// many bytes were read.
    pub fn read_page(&self, gva: Gva, into: &mut [u8]) -> Result<usize, Denied> {
        self.fill(gva, into, Intent::default())
    }

    /// Reads code at `gva`, as [`Self::read_page`] reads data.
    pub fn fetch_page(&self, gva: Gva, into: &mut [u8]) -> Result<usize, Denied> {
        self.fill(
            gva,
            into,
            Intent {
                fetch: true,
                ..Intent::default()
            },
        )
    }

    fn fill(&self, gva: Gva, into: &mut [u8], intent: Intent) -> Result<usize, Denied> {
        let found = self.translate(gva, intent)?;
        let left = found.left.min(PAGE_SIZE - found.gpa.page_offset());
        let size = (left as usize).min(into.len());
        let part = into.get_mut(..size).unwrap_or(&mut []);
        match self.memory.read(found.gpa, part) {
            Ok(()) => Ok(size),
            Err(unreachable) => Err(Denied::NoMemory(unreachable.0)),
        }
    }
}
