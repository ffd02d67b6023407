//! What controllers declare that they need to see. Nothing else exits: the
//! vendors' bitmaps and the nested tables follow from these declarations.

use crate::vm::Vm;
use core::ops::RangeInclusive;
use machine::nested::OutOfTables;
use machine::{Memory, Vcpu};
use x86::Gpa;
use x86::cpuid::Vendor;

/// Takes the declarations for one vCPU, before it runs.
pub struct Watches<'a, V, M> {
    /// The guest, for what depends on how it was configured.
    pub vm: &'a Vm<M>,
    vcpu: &'a mut V,
    outcome: Result<(), OutOfTables>,
}

impl<'a, V: Vcpu, M: Memory> Watches<'a, V, M> {
    /// Nothing is declared yet.
    pub fn new(vm: &'a Vm<M>, vcpu: &'a mut V) -> Self {
        Self {
            vm,
            vcpu,
            outcome: Ok(()),
        }
    }

    /// Whose hardware it is.
    pub const fn vendor(&self) -> Vendor {
        V::VENDOR
    }

    /// Accesses to these ports exit: also those that only overlap with them.
    pub fn ports(&mut self, ports: RangeInclusive<u16>) {
        for port in ports {
            self.vcpu.intercept_port(port, true);
        }
    }

    /// Reads, writes or both of these MSRs exit. Numbers outside the ranges
    /// that the vendor's bitmap has exit always.
    pub fn msrs(&mut self, numbers: RangeInclusive<u32>, read: bool, write: bool) {
        for number in numbers {
            self.vcpu.intercept_msr(number, read, write);
        }
    }

    /// Accesses to the page of `gpa` exit, on every vCPU of the guest.
    pub fn page(&mut self, gpa: Gpa) {
        let watched = self.vm.memory.watch(gpa);
        self.outcome = self.outcome.and(watched);
    }

    /// Writes to the page of `gpa`, registers of a device, exit, on every vCPU
    /// of the guest.
    pub fn page_writes(&mut self, gpa: Gpa) {
        let watched = self.vm.memory.watch_writes(gpa);
        self.outcome = self.outcome.and(watched);
    }

    /// WBINVD and WBNOINVD exit.
    pub fn write_backs(&mut self) {
        self.vcpu.intercept_write_backs(true);
    }

    /// The fault with this vector exits before the guest sees it. Who watches
    /// one passes on what is not its own: `exceptions` raises it. Traps (#DB,
    /// #BP, #OF) are not faults: raised again, they would not come behind
    /// their instruction, so they are never watched.
    pub fn fault(&mut self, vector: u8) {
        if !matches!(vector, 1 | 3 | 4) {
            self.vcpu.intercept_exception(vector, true);
        }
    }

    /// Whether everything that was declared can be watched.
    pub fn finish(self) -> Result<(), OutOfTables> {
        self.vcpu.flush_nested();
        self.outcome
    }
}
