//! What the policy sees of a vCPU, whichever vendor runs it. Reading a
//! register of the guest's costs what the vendor's hardware makes it cost, so
//! each is read when somebody asks.

use crate::child::ChildVcpu;
use crate::lengths::Lengths;
use crate::{apic, exceptions, guarded, instructions, percpu};
use core::sync::atomic::AtomicU32;
use x86::apic::Address;
use x86::control::{Cr0, Cr4, Efer, Rflags};
use x86::cpuid::{Leaf, Vendor};
use x86::exit::{Frequent, Kind};
use x86::segment::{Segment, SegmentName, TableRegister};
use x86::walk::Paging;
use x86::{Event, Exception, Exit, Registers};

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

impl CodeSize {
    /// The number of bits.
    pub const fn bits(self) -> u8 {
        match self {
            Self::Bits16 => 16,
            Self::Bits32 => 32,
            Self::Bits64 => 64,
        }
    }
}

/// A virtual CPU.
pub trait Vcpu: Sized + 'static {
    /// Whose hardware runs it.
    const VENDOR: Vendor;
    /// What runs beneath it: the vCPU of a child.
    type Child: ChildVcpu<Self>;

    /// The hypervisor's descriptors on this CPU are complete: what exits load
    /// follows them.
    fn settle(&mut self) {}

    /// Runs the guest until its next exit. Frequent ones are told at once;
    /// of others [`Self::access`] or else [`Self::rare_exit`] tells.
    fn enter(&mut self) -> Option<Frequent>;
    /// The exit that `enter` told, as long as the registers are what they were.
    #[inline(always)]
    fn frequent_exit(&self, frequent: Frequent) -> Exit {
        frequent.exit(self.registers())
    }
    /// The exit of which `enter` told nothing, if it is an access that a device
    /// may be waiting for.
    fn access(&self) -> Option<Exit> {
        None
    }
    /// The exit of which `enter` told nothing. Asked once.
    fn rare_exit(&mut self) -> Exit;

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
    /// RSP.
    fn stack_pointer(&self) -> u64;
    /// Sets RSP.
    fn set_stack_pointer(&mut self, value: u64);
    /// A segment register with its hidden part.
    fn segment(&self, name: SegmentName) -> Segment;
    /// Sets a segment register with its hidden part. Of SS it sets the current
    /// privilege level too.
    fn set_segment(&mut self, name: SegmentName, segment: Segment);
    /// GDTR.
    fn gdt(&self) -> TableRegister;
    /// The current privilege level.
    fn cpl(&self) -> u8;
    /// CR0 as the guest sees it.
    fn cr0(&self) -> Cr0;
    /// CR4 as the guest sees it.
    fn cr4(&self) -> Cr4;
    /// EFER as the guest sees it.
    fn efer(&self) -> Efer;
    /// Writes EFER for the guest. False: the CPU would raise #GP.
    fn set_efer(&mut self, efer: Efer) -> bool;
    /// What decides over the guest's address translation.
    fn paging(&self) -> Paging;
    /// Loads CR3, and in PAE mode the entries that the CPU keeps beside it.
    fn set_cr3(&mut self, cr3: u64, pdptes: Option<[u64; 4]>);
    /// CR3.
    fn cr3(&self) -> u64 {
        self.paging().cr3
    }
    /// How wide the running code is.
    fn code_size(&self) -> CodeSize;

    /// Bytes of the instruction that exited, as one of `kind`, where the hardware
    /// says so.
    fn instruction_length(&self, kind: Kind) -> Option<u64>;
    /// Lengths that were found before, where the hardware may not say them.
    fn lengths(&self) -> Option<&Lengths> {
        None
    }
    /// The same, to keep one that was found; None where nothing may be kept.
    fn lengths_mut(&mut self) -> Option<&mut Lengths> {
        None
    }
    /// The guest is past the instruction after STI or MOV SS.
    fn clear_interrupt_shadow(&mut self);
    /// A single-step trap is due before the next instruction.
    fn pend_single_step(&mut self);
    /// What a task switch does beside loading registers: CR0.TS is set, and the
    /// CPU is awake.
    fn note_task_switch(&mut self);
    /// Whether further NMIs wait until the guest runs IRET.
    fn block_nmis(&mut self, blocked: bool);
    /// Raises `exception` in the guest when it is entered next.
    fn inject(&mut self, exception: Exception);
    /// An event was being delivered when the exit came: deliver it again.
    fn redeliver(&mut self);
    /// The event that was being delivered when the exit came.
    fn event(&self) -> Option<Event>;
    /// An NMI arrived: one that belongs to the guest is noted, one by which
    /// another CPU calls this one is taken.
    fn note_nmi(&mut self);
    /// An INIT that hit the hypervisor and is for this CPU: true once for each.
    fn take_init(&mut self) -> bool {
        false
    }
    /// The guest was made to exit by a call that came while the hypervisor ran.
    fn end_call(&mut self) {}
    /// The guest is about to leave its NMI handler.
    fn end_nmi_handler(&mut self) {}
    /// The guest can take an NMI now: gives it one, if one is due.
    fn deliver_nmi(&mut self);

    /// Lets the guest write CR0.NE as it wishes: it sees `value`'s bit.
    fn shadow_cr0(&mut self, value: u64);
    /// Makes accesses to `port` exit, or not.
    fn intercept_port(&mut self, port: u16, exits: bool);
    /// Makes the exception with this vector exit, or not.
    fn intercept_exception(&mut self, vector: u8, exits: bool);
    /// Makes accesses to MSR `number` exit. Numbers outside the ranges that
    /// the vendor's bitmap has exit always.
    fn intercept_msr(&mut self, number: u32, read: bool, write: bool);
    /// Makes WBINVD and WBNOINVD exit, or not.
    fn intercept_write_backs(&mut self, exits: bool);
    /// Writes IA32_LSTAR, the entry for system calls, for the guest. False: the
    /// CPU would raise #GP.
    fn set_system_call_entry(&mut self, value: u64) -> bool;
    /// Forgets translations that came from the nested tables.
    fn flush_nested(&mut self);
    /// Puts the vCPU into the state after INIT; a boot processor then starts
    /// at the reset vector.
    fn reset(&mut self);
    /// After a reset: starts at this page, as a start-up IPI says.
    fn start_at(&mut self, page: u8);

    /// Makes CPU `number` leave its guest soon, and look around.
    fn call(number: u32) {
        percpu::call(number);
    }
    /// The same for all others, where one did not come: by a way that does not
    /// ask for their numbers.
    fn call_whoever() {
        percpu::call_whoever();
    }
    /// Waits until `bell` is not `seen` any more, or for less: whoever changes
    /// it ends the wait.
    fn wait_for(bell: &AtomicU32, seen: u32) {
        guarded::wait_for(bell, seen);
    }
    /// Stops this machine, with a report that names the reason.
    fn stop_machine(why: core::fmt::Arguments) -> ! {
        exceptions::stop(why)
    }
    /// Whether the CPU below is the boot processor.
    fn is_boot_processor(&self) -> bool {
        apic::is_boot_processor()
    }
    /// How this CPU's local APIC is addressed.
    fn apic_address() -> Address {
        apic::address()
    }
    /// The same, and how it is called from now on.
    fn adopt_address() -> Address {
        percpu::adopt_address()
    }
    /// Reads a register of the local APIC, by its offset in the page.
    fn read_apic(offset: u16) -> u32 {
        apic::read(offset)
    }
    /// Writes a register of the local APIC, for the guest.
    fn write_apic(offset: u16, value: u32) {
        apic::write(offset, value);
    }
    /// Whether an interrupt could reach the guest here: one that has halted else
    /// waits for an NMI or a start-up signal.
    fn hears_interrupts(&self) -> bool {
        self.rflags().contains(Rflags::IF) || apic::takes_interrupts()
    }
    /// Puts the local APIC into its state after INIT.
    fn reset_apic(&mut self) {
        apic::reset();
    }

    /// The general-purpose register with an instruction's number for it, see
    /// [`Registers::general`].
    fn general(&self, number: u8) -> u64 {
        let found = self.registers().general(number);
        found.unwrap_or_else(|| self.stack_pointer())
    }
    /// Sets that register.
    fn set_general(&mut self, number: u8, value: u64) {
        match self.registers_mut().general_mut(number) {
            Some(register) => *register = value,
            None => self.set_stack_pointer(value),
        }
    }
    /// The time-stamp counter of the CPU below.
    #[inline]
    fn ticks(&self) -> u64 {
        instructions::read_tsc()
    }
    /// HLT was done for the guest: where the hardware can hold it there, it
    /// waits for an interrupt when it is entered; else it goes on at once.
    fn halt(&mut self);
    /// DR0 to DR3, DR6 or DR7 as the guest sees it.
    fn debug_register(&self, number: u8) -> u64;
    /// Sets that register. The upper half of DR6 and DR7 must be 0.
    fn set_debug_register(&mut self, number: u8, value: u64);
    /// A machine check that hit the hypervisor and belongs to the guest, too:
    /// true once for each.
    fn take_machine_check(&mut self) -> bool;

    /// Field number `number` of the VMCS or VMCB, counted from 0: its name, and
    /// what it holds if this CPU has it. None behind the last one.
    fn field(&self, number: usize) -> Option<(&'static str, Option<u64>)>;

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
    /// Checks no more entries.
    #[cfg(feature = "breakable")]
    fn pause_entry_checks(&mut self) {}

    /// CPUID of the CPU below.
    fn cpuid(&self, leaf: u32, subleaf: u32) -> Leaf {
        instructions::cpuid(leaf, subleaf)
    }
    /// RDMSR of the CPU below; None where it faults.
    fn read_msr(&self, number: u32) -> Option<u64> {
        guarded::read_msr(number)
    }
    /// RDPMC of the CPU below; None where it faults.
    fn read_counter(&self, number: u32) -> Option<u64> {
        guarded::read_counter(number)
    }
    /// IN of `size` bytes (1, 2 or 4), for the guest.
    fn read_port(port: u16, size: u8) -> u32 {
        // SAFETY: the guest's own access, which exited only because a
        // controller watches the port: it may as well have gone through.
        unsafe { instructions::read_port_sized(port, size) }
    }
    /// OUT of `size` bytes (1, 2 or 4), for the guest.
    fn write_port(port: u16, size: u8, value: u32) {
        // SAFETY: as for `read_port`.
        unsafe { instructions::write_port_sized(port, size, value) };
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
