//! What the policy sees of a vCPU, whichever vendor runs it. Reading a
//! register of the guest's costs what the vendor's hardware makes it cost, so
//! each is read when somebody asks.

use crate::{guarded, instructions};
use x86::control::{Cr4, Efer, Rflags};
use x86::cpuid::{Leaf, Vendor};
use x86::walk::Paging;
use x86::{Exception, Exit, Registers};

/// How wide the code is that the guest runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CodeSize {
    /// 16 bits: real mode, virtual-8086 mode, 16-bit segments.
    Bits16,
    /// 32 bits.
    Bits32,
    /// 64 bits.
    Bits64,
}

/// A virtual CPU.
pub trait Vcpu {
    /// Whose hardware runs it.
    const VENDOR: Vendor;

    /// Runs the guest until its next exit.
    fn enter(&mut self) -> Exit;

    /// The general-purpose registers but RSP.
    fn registers(&self) -> &Registers;
    /// The same, to be changed.
    fn registers_mut(&mut self) -> &mut Registers;
    /// RIP, as an offset in CS.
    fn rip(&self) -> u64;
    /// Sets RIP.
    fn set_rip(&mut self, rip: u64);
    /// RFLAGS.
    fn rflags(&self) -> Rflags;
    /// Sets RFLAGS.
    fn set_rflags(&mut self, rflags: Rflags);
    /// The current privilege level.
    fn cpl(&self) -> u8;
    /// CR4 as the guest sees it.
    fn cr4(&self) -> Cr4;
    /// EFER as the guest sees it.
    fn efer(&self) -> Efer;
    /// Writes EFER for the guest. False: the CPU would raise #GP.
    fn set_efer(&mut self, efer: Efer) -> bool;
    /// What decides over the guest's address translation.
    fn paging(&self) -> Paging;
    /// How wide the running code is.
    fn code_size(&self) -> CodeSize;
    /// Base of CS; 0 in 64-bit mode.
    fn code_base(&self) -> u64;

    /// Bytes of the instruction that exited, where the hardware says so.
    fn instruction_length(&self) -> Option<u64>;
    /// The guest is past the instruction after STI or MOV SS.
    fn clear_interrupt_shadow(&mut self);
    /// A single-step trap is due before the next instruction.
    fn pend_single_step(&mut self);
    /// Raises `exception` in the guest when it is entered next.
    fn inject(&mut self, exception: Exception);
    /// An event was being delivered when the exit came: deliver it again.
    fn redeliver(&mut self);
    /// Whether an event was being delivered when the exit came.
    fn is_delivering(&self) -> bool;
    /// Notes that an NMI arrived that belongs to the guest.
    fn note_nmi(&mut self);
    /// The guest can take an NMI now: gives it one, if one is due.
    fn deliver_nmi(&mut self);

    /// Lets the guest write CR0.NE as it wishes: it sees `value`'s bit.
    fn shadow_cr0(&mut self, value: u64);
    /// Makes accesses to MSR `number` exit. Numbers outside the ranges that
    /// the vendor's bitmap has exit always.
    fn intercept_msr(&mut self, number: u32, read: bool, write: bool);
    /// Forgets translations that came from the nested tables.
    fn flush_nested(&mut self);
    /// Puts the vCPU into the state after INIT; a boot processor then starts
    /// at the reset vector.
    fn reset(&mut self);

    /// Breaks a rule of VM entry by row `row` of the vendor's table, tries to
    /// enter, and puts everything back.
    #[cfg(feature = "breakable")]
    fn enter_broken(&mut self, _row: usize) -> Option<x86::broken::Trial> {
        None
    }
    /// Breaks a rule of VM entry for good: the next one fails.
    #[cfg(feature = "breakable")]
    fn break_next_entry(&mut self) {}
    /// How many entries were checked before they were tried.
    #[cfg(feature = "breakable")]
    fn checked_entries(&self) -> crate::CheckedEntries {
        crate::CheckedEntries::default()
    }

    /// CPUID of the CPU below.
    fn cpuid(&self, leaf: u32, subleaf: u32) -> Leaf {
        instructions::cpuid(leaf, subleaf)
    }
    /// RDMSR of the CPU below; None where it faults.
    fn read_msr(&self, number: u32) -> Option<u64> {
        guarded::read_msr(number)
    }
    /// WRMSR of the CPU below; false where it faults. The policy passes only
    /// registers that are the guest's own and mean nothing to the hypervisor.
    fn write_msr(&mut self, number: u32, value: u64) -> bool {
        // SAFETY: the policy's contract, see above: its table of MSRs refuses
        // or freezes what could change the meaning of memory.
        unsafe { guarded::write_msr(number, value) }
    }
    /// XSETBV of the CPU below; false where it faults.
    fn set_extended_control(&mut self, index: u32, value: u64) -> bool {
        guarded::set_extended_control(index, value)
    }
    /// WBINVD.
    fn write_back_caches(&mut self) {
        instructions::write_back_caches();
    }
}
