//! A vCPU on VT-x.

use super::block::{self, Vmcs};
use super::checks;
use super::child::{Beside, Own};
use super::enter::{self, Frame};
use super::setup::{self, Pointers};
use super::support::Support;
use crate::boot::{Boot, has_gib_pages, physical_bits};
use crate::checked::{CHECKS_ENTRIES, CheckedEntries};
use crate::child::boarding::{self, Seat};
use crate::memory::GuestMemory;
use crate::percpu::PerCpu;
use crate::region::Page;
use crate::vcpu::{CodeSize, Vcpu};
use crate::{guarded, instructions, percpu};
use abi::refusal::Refusal;
use core::arch::asm;
use x86::control::{Cr0, Cr4, DR6_RESET, DR7_RESET, Efer, Rflags};
use x86::cpuid::Vendor;
use x86::event;
use x86::exit::{Frequent, Kind};
use x86::msr::{DEBUG_CONTROL_BTF, LSTAR};
use x86::segment::{DEFAULT_BIG, LONG, Segment, SegmentName, TableRegister};
use x86::vtx::checks::Capabilities;
use x86::vtx::control::{entry, pin, processor, secondary};
use x86::vtx::exit::{decode, decode_access, decode_frequent};
use x86::vtx::field::{self, Fields};
use x86::walk::Paging;
use x86::{Event, Exception, Exit, Registers};

/// EPTP: tables are write-back and have four levels. Intel SDM volume 3,
/// "Extended-Page-Table Pointer (EPTP)".
pub(super) const EPTP_WALK: u64 = 6 | 3 << 3;

/// Guest activity state. Intel SDM volume 3, "Guest Non-Register State".
const ACTIVITY_HLT: u32 = 1;

pub(super) const STI_OR_MOV_SS: u32 = 0b11;
const BLOCKED_BY_NMI: u32 = 1 << 3;
const PENDING_SINGLE_STEP: u64 = 1 << 14;
const IRET_UNBLOCKED_NMIS: u64 = 1 << 12;

/// A vCPU: the guest's, of which there is one on this CPU, or a child's.
pub struct VtxCpu<const CHILD: bool = false> {
    pub(super) frame: &'static mut Frame,
    pub(super) vmcs: Vmcs,
    pub(super) msr_bitmap: &'static mut Page,
    pub(super) io_bitmaps: &'static mut [Page; 2],
    pub(super) percpu: &'static PerCpu,
    pub(super) support: Support,
    pub(super) ept_pointer: u64,
    pub(super) physical_bits: u32,
    pub(super) gib_pages: bool,
    pub(super) has_keys: bool,
    pub(super) capabilities: Capabilities,
    pub(super) checked: CheckedEntries,
    /// What children need of this CPU, if there are any.
    pub(super) seat: Option<Seat<Beside>>,
    /// What makes it a child's.
    pub(super) own: Option<Own>,
    /// Why the guest exited last, if that was no frequent exit.
    pub(super) rare_reason: u32,
}

impl VtxCpu {
    /// A vCPU in which the guest goes on where the firmware was. VMX operation
    /// is on afterwards; [`Self::leave`] ends it.
    pub fn new(boot: &mut Boot, memory: &GuestMemory, support: Support) -> Result<Self, Refusal> {
        let [vmxon, block, msr_bitmap] = boot.region.array()?;
        let io_bitmaps = boot.region.array()?;
        let frame = boot.region.place(Frame::new(boot.firmware.returning()))?;
        let vmcs = setup::start(&support, vmxon, block)?;
        let pointers = Pointers {
            msr_bitmap: core::ptr::from_ref(msr_bitmap) as u64,
            io_bitmaps: io_bitmaps.as_ptr() as u64,
            ept: memory.nested_root().0 | EPTP_WALK,
        };
        setup::fill(&vmcs, boot, &support, &pointers, frame);
        boot.percpu.set_describe(checks::describe);
        boot.percpu.set_on_nmi(open_nmi_window);
        boot.percpu.set_on_call(leave_at_once);
        let mut cpu = Self {
            frame,
            vmcs,
            msr_bitmap,
            io_bitmaps,
            percpu: boot.percpu,
            support,
            ept_pointer: pointers.ept,
            physical_bits: physical_bits(),
            gib_pages: has_gib_pages(),
            has_keys: boot.own.cr4 & Cr4::PKE.bits() != 0,
            capabilities: checks::capabilities(),
            checked: CheckedEntries::default(),
            seat: None,
            own: None,
            rare_reason: 0,
        };
        cpu.flush_nested();
        if cpu.percpu.has_nmi() {
            open_nmi_window();
        }
        Ok(cpu)
    }

    /// Ends VMX operation on this CPU.
    pub fn leave(self) {
        setup::stop();
    }
}

impl<const CHILD: bool> VtxCpu<CHILD> {
    fn window(&self, open: bool) {
        let word = self.support.processor;
        let word = if open {
            word | processor::NMI_WINDOW
        } else {
            word
        };
        self.vmcs.write(field::PROCESSOR_CONTROLS, word);
    }

    fn check_before_entry(&mut self) {
        let checked = &mut self.checked;
        checked.entries += 1;
        checks::broken(&self.vmcs, &self.capabilities, &mut |broken| {
            checked.note(&broken);
        });
    }
}

/// Runs in the NMI handler: the VMCS is current on this CPU from before the
/// handler is told of it. The interrupted code may be about to write the same
/// field, which is why it takes the NMI after that, see `deliver_nmi`.
pub(super) fn open_nmi_window() {
    // SAFETY: set as the NMI action only once a VMCS is current.
    let vmcs = unsafe { Vmcs::current() };
    let word = vmcs.read(field::PROCESSOR_CONTROLS);
    vmcs.write(field::PROCESSOR_CONTROLS, word | processor::NMI_WINDOW);
    if let Some(percpu) = percpu::current() {
        merge_behind_handler(&vmcs, percpu);
    }
}

/// Runs in the NMI handler when another CPU calls this one while the hypervisor
/// runs: the guest exits before its first instruction.
pub(super) fn leave_at_once() {
    // SAFETY: as for `open_nmi_window`.
    let vmcs = unsafe { Vmcs::current() };
    let word = vmcs.read(field::PIN_CONTROLS);
    vmcs.write(field::PREEMPTION_TIMER, 0);
    vmcs.write(field::PIN_CONTROLS, word | pin::PREEMPTION_TIMER);
}

/// An NMI that came while the guest handles one waits alone.
fn merge_behind_handler(vmcs: &Vmcs, percpu: &PerCpu) {
    if vmcs.read(field::GUEST_INTERRUPTIBILITY) & BLOCKED_BY_NMI != 0 {
        percpu.merge_nmis();
    }
}

impl<const CHILD: bool> Vcpu for VtxCpu<CHILD> {
    const VENDOR: Vendor = Vendor::Intel;
    type Child = VtxCpu<true>;

    fn settle(&mut self) {
        self.seat = Seat::new();
    }

    #[inline]
    fn enter(&mut self) -> Option<Frequent> {
        if CHECKS_ENTRIES && !self.checked.paused {
            self.check_before_entry();
        }
        // SAFETY: `new` made the VMCS current and led its host state to the
        // stub and this frame; the nested tables leave out the hypervisor.
        let reason = unsafe { enter::enter(self.frame) };
        let frequent = decode_frequent(reason);
        if frequent.is_none() {
            self.rare_reason = reason;
        }
        frequent
    }

    #[inline]
    fn access(&self) -> Option<Exit> {
        decode_access(self.rare_reason, &self.frame.registers, &self.vmcs)
    }

    fn rare_exit(&mut self) -> Exit {
        let exit = decode(self.rare_reason, &self.frame.registers, &self.vmcs);
        if let Exit::EntryFailed(failure) = exit
            && (!CHILD || boarding::may_explain())
        {
            checks::explain(&self.vmcs, &self.capabilities, failure);
        }
        exit
    }

    #[inline]
    fn registers(&self) -> &Registers {
        &self.frame.registers
    }

    #[inline]
    fn registers_mut(&mut self) -> &mut Registers {
        &mut self.frame.registers
    }

    #[inline]
    fn rip(&self) -> u64 {
        self.vmcs.read(field::GUEST_RIP)
    }

    #[inline]
    fn set_rip(&mut self, rip: u64) {
        self.vmcs.write(field::GUEST_RIP, rip);
    }

    #[inline]
    fn rflags(&self) -> Rflags {
        Rflags::from_bits_retain(self.vmcs.read(field::GUEST_RFLAGS))
    }

    fn set_rflags(&mut self, rflags: Rflags) {
        self.vmcs.write(field::GUEST_RFLAGS, rflags.bits());
    }

    fn stack_pointer(&self) -> u64 {
        self.vmcs.read(field::GUEST_RSP)
    }

    fn set_stack_pointer(&mut self, value: u64) {
        self.vmcs.write(field::GUEST_RSP, value);
    }

    fn segment(&self, name: SegmentName) -> Segment {
        self.vmcs.read_segment(block::segment_fields(name))
    }

    fn set_segment(&mut self, name: SegmentName, segment: Segment) {
        self.vmcs
            .write_segment(block::segment_fields(name), segment);
    }

    fn gdt(&self) -> TableRegister {
        TableRegister {
            base: self.vmcs.read(field::GUEST_GDTR_BASE),
            limit: self.vmcs.read(field::GUEST_GDTR_LIMIT),
        }
    }

    fn cpl(&self) -> u8 {
        let rights = self.vmcs.read(field::GUEST_SS_RIGHTS);
        Segment {
            rights,
            ..Segment::default()
        }
        .dpl()
    }

    fn cr0(&self) -> Cr0 {
        let own = self.support.cr0_fixed;
        let real = self.vmcs.read(field::GUEST_CR0) & !own;
        Cr0::from_bits_retain(real | (self.vmcs.read(field::CR0_SHADOW) & own))
    }

    #[inline]
    fn cr4(&self) -> Cr4 {
        let hidden = Cr4::from_bits_retain(self.support.cr4_fixed);
        (Cr4::from_bits_retain(self.vmcs.read(field::GUEST_CR4)) & x86::control::GUEST_CR4) - hidden
    }

    fn efer(&self) -> Efer {
        Efer::from_bits_retain(self.vmcs.read(field::GUEST_EFER))
    }

    /// Never asked: EFER is the guest's own here, the bitmap lets it through.
    fn set_efer(&mut self, _: Efer) -> bool {
        false
    }

    fn paging(&self) -> Paging {
        let (cr4, efer) = (self.cr4(), self.efer());
        let mut paging = Paging {
            cr0: Cr0::from_bits_retain(self.vmcs.read(field::GUEST_CR0)),
            cr3: self.vmcs.read(field::GUEST_CR3),
            cr4,
            efer,
            alignment_check: self.rflags().contains(Rflags::AC),
            pkru: instructions::read_pkru(self.has_keys),
            physical_bits: self.physical_bits,
            gib_pages: self.gib_pages,
            pdptes: None,
        };
        if cr4.contains(Cr4::PAE) && !efer.contains(Efer::LMA) {
            use field::{GUEST_PDPTE0, GUEST_PDPTE1, GUEST_PDPTE2, GUEST_PDPTE3};
            let fields = [GUEST_PDPTE0, GUEST_PDPTE1, GUEST_PDPTE2, GUEST_PDPTE3];
            paging.pdptes = Some(fields.map(|field| self.vmcs.read(field)));
        }
        paging
    }

    fn set_cr3(&mut self, cr3: u64, pdptes: Option<[u64; 4]>) {
        self.vmcs.write(field::GUEST_CR3, cr3);
        if let Some([first, second, third, fourth]) = pdptes {
            self.vmcs.write(field::GUEST_PDPTE0, first);
            self.vmcs.write(field::GUEST_PDPTE1, second);
            self.vmcs.write(field::GUEST_PDPTE2, third);
            self.vmcs.write(field::GUEST_PDPTE3, fourth);
        }
        // With EPT every cached translation is a combined one, and goes.
        self.flush_nested();
    }

    fn code_size(&self) -> CodeSize {
        let rights = self.vmcs.read(field::GUEST_CS_RIGHTS);
        match rights {
            rights if self.efer().contains(Efer::LMA) && rights & LONG != 0 => CodeSize::Bits64,
            rights if rights & DEFAULT_BIG != 0 => CodeSize::Bits32,
            _ => CodeSize::Bits16,
        }
    }

    #[inline]
    fn instruction_length(&self, _: Kind) -> Option<u64> {
        Some(u64::from(self.vmcs.read(field::EXIT_INSTRUCTION_LENGTH)))
    }

    #[inline]
    fn clear_interrupt_shadow(&mut self) {
        let word = self.vmcs.read(field::GUEST_INTERRUPTIBILITY);
        if word & STI_OR_MOV_SS != 0 {
            self.vmcs
                .write(field::GUEST_INTERRUPTIBILITY, word & !STI_OR_MOV_SS);
        }
    }

    fn pend_single_step(&mut self) {
        if self.vmcs.read(field::GUEST_DEBUG_CONTROL) & DEBUG_CONTROL_BTF != 0 {
            return;
        }
        let word = self.vmcs.read(field::GUEST_PENDING_DEBUG);
        self.vmcs
            .write(field::GUEST_PENDING_DEBUG, word | PENDING_SINGLE_STEP);
    }

    fn note_task_switch(&mut self) {
        let cr0 = self.vmcs.read(field::GUEST_CR0) | Cr0::TS.bits();
        self.vmcs.write(field::GUEST_CR0, cr0);
        self.vmcs.write(field::GUEST_ACTIVITY, 0);
    }

    fn block_nmis(&mut self, blocked: bool) {
        let word = self.vmcs.read(field::GUEST_INTERRUPTIBILITY) & !BLOCKED_BY_NMI;
        let bit = if blocked { BLOCKED_BY_NMI } else { 0 };
        self.vmcs.write(field::GUEST_INTERRUPTIBILITY, word | bit);
    }

    fn inject(&mut self, exception: Exception) {
        if let Exception::PageFault { address, .. } = exception {
            instructions::write_cr2(address);
        }
        let protected = self.vmcs.read(field::GUEST_CR0) & Cr0::PE.bits() != 0;
        let event = Event::from_exception(exception, protected);
        self.vmcs
            .write(field::ENTRY_EVENT_CODE, event.error.unwrap_or(0));
        self.vmcs.write(field::ENTRY_EVENT, event.word());
    }

    fn redeliver(&mut self) {
        let word = self.vmcs.read(field::VECTORING_EVENT);
        let interruptibility = self.vmcs.read(field::GUEST_INTERRUPTIBILITY);
        if word & event::VALID == 0 {
            let qualification = self.vmcs.read(field::EXIT_QUALIFICATION);
            if qualification & IRET_UNBLOCKED_NMIS != 0 {
                let blocked = interruptibility | BLOCKED_BY_NMI;
                self.vmcs.write(field::GUEST_INTERRUPTIBILITY, blocked);
            }
            return;
        }
        if event::is_nmi(word) {
            let free = interruptibility & !BLOCKED_BY_NMI;
            self.vmcs.write(field::GUEST_INTERRUPTIBILITY, free);
        }
        // Bit 12 says something else in the one word and must be 0 in the
        // other. Intel SDM volume 3, "Information for VM Exits That Occur
        // During Event Delivery".
        self.vmcs.write(field::ENTRY_EVENT, word & !(1 << 12));
        self.vmcs.write(
            field::ENTRY_EVENT_CODE,
            self.vmcs.read(field::VECTORING_EVENT_CODE),
        );
        let length = self.vmcs.read(field::EXIT_INSTRUCTION_LENGTH);
        self.vmcs.write(field::ENTRY_INSTRUCTION_LENGTH, length);
    }

    fn event(&self) -> Option<Event> {
        let code = self.vmcs.read(field::VECTORING_EVENT_CODE);
        Event::from_words(self.vmcs.read(field::VECTORING_EVENT), code)
    }

    fn note_nmi(&mut self) {
        if !self.percpu.take_call() {
            self.percpu.add_nmi();
            merge_behind_handler(&self.vmcs, self.percpu);
            self.window(true);
        }
        instructions::unblock_nmis();
    }

    /// One that ended a child's turn: all others exit from the guest.
    fn take_init(&mut self) -> bool {
        self.percpu.take_init()
    }

    /// A call that comes after this makes the next entry end again.
    fn end_call(&mut self) {
        self.vmcs.write(field::PIN_CONTROLS, self.support.pin);
    }

    /// The window is closed before the NMIs are looked at: one that arrives
    /// after that opens it again by itself.
    fn deliver_nmi(&mut self) {
        self.window(false);
        if self.percpu.take_nmi() {
            self.vmcs.write(field::ENTRY_EVENT, event::NMI);
        }
        if self.percpu.has_nmi() {
            self.window(true);
        }
    }

    fn halt(&mut self) {
        self.vmcs.write(field::GUEST_ACTIVITY, ACTIVITY_HLT);
    }

    fn debug_register(&self, number: u8) -> u64 {
        match number {
            7 => self.vmcs.read(field::GUEST_DR7),
            other if CHILD => self.kept_debug_register(other),
            other => instructions::read_debug_register(other),
        }
    }

    fn set_debug_register(&mut self, number: u8, value: u64) {
        match number {
            7 => self.vmcs.write(field::GUEST_DR7, value & 0xffff_ffff),
            other if CHILD => self.keep_debug_register(other, value),
            other => instructions::write_debug_register(other, value),
        }
    }

    fn take_machine_check(&mut self) -> bool {
        self.percpu.take_machine_check()
    }

    fn shadow_cr0(&mut self, value: u64) {
        let visible = self.vmcs.read(field::GUEST_CR0) & !self.support.cr0_fixed;
        let shadow = visible | (value & self.support.cr0_fixed);
        self.vmcs.write(field::CR0_SHADOW, shadow);
    }

    fn intercept_port(&mut self, port: u16, exits: bool) {
        let [low, high] = &mut *self.io_bitmaps;
        let page = if port < 0x8000 { low } else { high };
        page.set_bit(usize::from(port & 0x7fff), exits);
    }

    fn intercept_exception(&mut self, vector: u8, exits: bool) {
        let bit = 1 << (vector & 31);
        let word = self.vmcs.read(field::EXCEPTION_BITMAP);
        let word = if exits { word | bit } else { word & !bit };
        self.vmcs.write(field::EXCEPTION_BITMAP, word);
    }

    fn intercept_msr(&mut self, number: u32, read: bool, write: bool) {
        let bit = match number {
            0..0x2000 => number as usize,
            0xc000_0000..0xc000_2000 => (number as usize & 0x1fff) + 1024 * 8,
            _ => return,
        };
        self.msr_bitmap.set_bit(bit, read);
        self.msr_bitmap.set_bit(bit + 2048 * 8, write);
    }

    fn intercept_write_backs(&mut self, exits: bool) {
        let word = self.support.secondary;
        let word = if exits {
            word | secondary::WRITE_BACKS
        } else {
            word
        };
        self.vmcs.write(field::SECONDARY_CONTROLS, word);
    }

    fn set_system_call_entry(&mut self, value: u64) -> bool {
        // SAFETY: the hypervisor makes no system calls; the register is the
        // guest's at all times.
        unsafe { guarded::write_msr(LSTAR, value) }
    }

    fn flush_nested(&mut self) {
        const SINGLE_CONTEXT: u64 = 1;
        let descriptor = [self.ept_pointer, 0];
        let failed: u8;
        // SAFETY: VMX operation is on and the CPU has INVEPT of this type; the
        // descriptor holds a whole EPT pointer.
        unsafe {
            asm!(
                "invept {kind}, [{descriptor}]",
                "setbe {failed}",
                kind = in(reg) SINGLE_CONTEXT,
                descriptor = in(reg) &descriptor,
                failed = out(reg_byte) failed,
                options(nostack),
            );
        }
        if failed != 0 {
            crate::exceptions::stop(format_args!("INVEPT failed for {:#x}", self.ept_pointer));
        }
    }

    fn reset(&mut self) {
        self.frame.registers = Registers {
            rdx: u64::from(instructions::cpuid(x86::cpuid::FEATURES, 0).eax),
            ..Registers::default()
        };
        let kept = self.vmcs.read(field::GUEST_CR0) & (Cr0::CD | Cr0::NW).bits();
        let cr0 = kept | 1 << 4;
        self.vmcs
            .write(field::GUEST_CR0, cr0 | self.support.cr0_fixed);
        self.vmcs.write(field::CR0_SHADOW, cr0);
        self.vmcs.write(field::GUEST_CR3, 0);
        self.vmcs.write(field::GUEST_CR4, self.support.cr4_fixed);
        self.vmcs.write(field::GUEST_EFER, 0);
        let words = self.vmcs.read(field::ENTRY_CONTROLS);
        self.vmcs
            .write(field::ENTRY_CONTROLS, words & !entry::LONG_MODE);
        self.vmcs.write(field::GUEST_DR7, DR7_RESET);
        self.vmcs.write(field::GUEST_RIP, 0xfff0);
        self.vmcs.write(field::GUEST_RSP, 0);
        self.vmcs.write(field::GUEST_RFLAGS, Rflags::FIXED.bits());
        self.vmcs.write(field::GUEST_INTERRUPTIBILITY, 0);
        self.vmcs.write(field::GUEST_ACTIVITY, 0);
        self.vmcs.write(field::GUEST_PENDING_DEBUG, 0);
        self.vmcs.write(field::ENTRY_EVENT, 0);
        setup::reset_segments(&self.vmcs);
        // An NMI that arrives after that opens the window again by itself.
        self.window(false);
        while self.percpu.take_nmi() {}
        instructions::write_cr2(0);
        instructions::reset_debug_registers();
        instructions::write_debug_register(6, DR6_RESET);
        // CR0, CR3, CR4 and EFER changed without the CPU's noticing.
        self.flush_nested();
    }

    fn start_at(&mut self, page: u8) {
        let selector = u16::from(page) << 8;
        self.vmcs.write(field::GUEST_CS, selector);
        let base = u64::from(selector) << 4;
        self.vmcs.write(field::GUEST_CS_BASE, base);
        self.vmcs.write(field::GUEST_RIP, 0);
    }

    fn field(&self, number: usize) -> Option<(&'static str, Option<u64>)> {
        let (encoding, name) = *field::ALL.get(number)?;
        Some((name, self.vmcs.try_read(u64::from(encoding))))
    }

    #[cfg(feature = "breakable")]
    fn enter_broken(&mut self, row: usize) -> Option<x86::broken::Trial> {
        super::breakage::enter_broken(self.frame, &self.vmcs, &self.capabilities, row)
    }

    #[cfg(feature = "breakable")]
    fn break_next_entry(&mut self) {
        self.vmcs.write(field::VPID, 0);
    }

    #[cfg(feature = "breakable")]
    fn checked_entries(&self) -> CheckedEntries {
        self.checked
    }

    #[cfg(feature = "breakable")]
    fn pause_entry_checks(&mut self) {
        self.checked.paused = true;
    }
}

/// For the log: which CPU this is.
impl<const CHILD: bool> core::fmt::Debug for VtxCpu<CHILD> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "VtxCpu({})", percpu::number())
    }
}
