//! Who calls a service, and the memory that it may touch: the guest's own
//! tables are walked with the caller's rights, page by page.

use crate::failure::Failure;
use crate::vm::Vm;
use abi::Errno;
use machine::{CodeSize, Memory, Vcpu};
use x86::control::Cr0;
use x86::walk::{Denied, Entries, Intent, Paging, Translation, ordinary, walk};
use x86::{Gpa, Gva, Registers};

/// A caller: its privilege and its view of memory, as they were at the call.
pub struct Caller<'a, M> {
    memory: &'a M,
    paging: Paging,
    /// At CPL 3.
    pub user: bool,
    /// At CPL 0.
    pub kernel: bool,
    /// Called by a kernel in its name: an owner without the token.
    pub trusted: bool,
    /// A memory argument that is not accessible raises an exception; else it is
    /// an error.
    pub faults: bool,
    /// In 64-bit mode: registers count in full.
    pub wide: bool,
    /// A read marks no entry as accessed: these tables are what somebody takes
    /// for tables, and may be anything else.
    looks: bool,
}

/// Tables as one who only reads them sees them.
struct Looking<'a, M>(&'a M);

impl<M: Memory> Entries for Looking<'_, M> {
    fn load(&self, at: Gpa, size: u64) -> Option<u64> {
        self.0.load(at, size)
    }

    fn exchange(&self, _: Gpa, _: u64, _: u64, _: u64) -> bool {
        true
    }
}

impl<'a, M: Memory> Caller<'a, M> {
    /// The caller that `vcpu` stopped in.
    pub fn new<V: Vcpu>(vm: &'a Vm<M>, vcpu: &V) -> Self {
        let cpl = vcpu.cpl();
        Self {
            memory: &vm.memory,
            paging: vcpu.paging(),
            user: cpl == 3,
            kernel: cpl == 0,
            trusted: false,
            faults: cpl != 0,
            wide: vcpu.code_size() == CodeSize::Bits64,
            looks: false,
        }
    }

    /// The program in whose name this caller calls. A kernel vouches for it;
    /// nobody else gains by calling so.
    pub fn as_program(self) -> Self {
        Self {
            user: true,
            kernel: false,
            trusted: self.kernel,
            ..self
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

    /// The arguments that `registers` hold.
    pub fn arguments(&self, registers: &Registers) -> [u64; 5] {
        let Registers {
            rbx,
            rcx,
            rdx,
            rsi,
            rdi,
            ..
        } = *registers;
        [rbx, rcx, rdx, rsi, rdi].map(|register| self.argument(register))
    }

    /// The last of `length` bytes at `address`, an argument; refused if they
    /// go around the end of the address space.
    pub fn last_byte(&self, address: u64, length: usize) -> Result<u64, Failure> {
        let last = address.checked_add((length as u64).saturating_sub(1));
        let fits = last.filter(|last| self.argument(*last) == *last);
        fits.ok_or(Failure::Refused(Errno::InvalidArgument))
    }

    /// A kernel that looks at the address space whose tables begin at `root`,
    /// with this caller's paging mode. What is absent there is an error: no
    /// fault here would bring it in. Reading changes nothing there.
    pub fn space(&self, root: u64) -> Self {
        Self {
            memory: self.memory,
            paging: Paging {
                cr0: self.paging.cr0 | Cr0::WP,
                cr3: root,
                alignment_check: true,
                pkru: 0,
                pdptes: None,
                ..self.paging
            },
            user: false,
            kernel: true,
            trusted: false,
            faults: false,
            wide: self.wide,
            looks: true,
        }
    }

    /// The guest's memory.
    pub fn memory(&self) -> &'a M {
        self.memory
    }

    /// Where `gva` lies, for an access of this intent by this caller.
    #[inline(always)]
    pub fn translate(&self, gva: Gva, intent: Intent) -> Result<Translation, Denied> {
        let intent = Intent {
            user: self.user,
            ..intent
        };
        match self.looks && !intent.write {
            true => walk(&self.paging, intent, gva, &Looking(self.memory)),
            false => walk(&self.paging, intent, gva, self.memory),
        }
    }

    /// As [`Self::translate`], for an access that is permitted and needs no mark in
    /// the tables, as most are; else None, and nothing has changed.
    #[inline(always)]
    pub fn translate_at_once(&self, gva: Gva, intent: Intent) -> Option<Translation> {
        let intent = Intent {
            user: self.user,
            ..intent
        };
        ordinary(&self.paging, intent, gva, self.memory)
    }

    /// Reads from `gva` up to the end of its page or of `into`. Returns how
    /// many bytes were read.
    #[inline]
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

    #[inline(always)]
    fn fill(&self, gva: Gva, into: &mut [u8], intent: Intent) -> Result<usize, Denied> {
        let found = self.translate(gva, intent)?;
        let left = found.left.min(found.gpa.left_in_page());
        let size = (left as usize).min(into.len());
        let part = into.get_mut(..size).unwrap_or(&mut []);
        match self.memory.read(found.gpa, part) {
            Ok(()) => Ok(size),
            Err(unreachable) => Err(Denied::NoMemory(unreachable.0)),
        }
    }
}
