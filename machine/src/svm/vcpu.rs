//! A vCPU on AMD-V.

mod rare;

use super::block::{IO_MAP_PAGES, MSR_MAP_PAGES, MsrMap, segment};
use super::checks;
use super::child::{self, Own};
use super::enter::{self, Frame};
use super::nmis::{Nmis, hold_for_call, hold_for_nmi};
use super::setup::{self, Pointers};
use super::support::Support;
use crate::boot::{Boot, has_gib_pages, physical_bits};
use crate::checked::{CHECKS_ENTRIES, CheckedEntries};
use crate::child::boarding::Seat;
use crate::lengths::Lengths;
use crate::memory::GuestMemory;
use crate::percpu::{PerCpu, noted};
use crate::region::Page;
use crate::vcpu::{CodeSize, Vcpu};
use crate::{guarded, instructions};
use abi::refusal::Refusal;
use core::ptr::NonNull;
use core::sync::atomic::Ordering;
use x86::control::{Cr0, Cr4, DR6_RESET, DR7_RESET, Efer, Rflags};
use x86::cpuid::Vendor;
use x86::event;
use x86::exit::{Frequent, Kind};
use x86::segment::{DEFAULT_BIG, LONG, Segment, SegmentName, TableRegister};
use x86::svm::checks::Capabilities;
use x86::svm::control::{INTERRUPT_SHADOW, TLB_FLUSH_ALL, TLB_FLUSH_GUEST, intercept4};
use x86::svm::exit::{decode_access, decode_frequent};
use x86::svm::field::FIELDS;
use x86::svm::vmcb::{Vmcb, blank};
use x86::walk::Paging;
use x86::{Event, Exception, Exit, Registers, msr};

const DR6_SINGLE_STEP: u64 = 1 << 14;

/// A vCPU: the guest's, of which there is one on this CPU, or a child's.
pub struct SvmCpu<const CHILD: bool = false> {
    pub(super) frame: &'static mut Frame,
    /// Written by the CPU while the guest runs, by the policy between: see
    /// [`Self::vmcb`].
    pub(super) vmcb: NonNull<Vmcb>,
    pub(super) msr_map: MsrMap,
    pub(super) io_map: &'static mut [Page; IO_MAP_PAGES],
    pub(super) percpu: &'static PerCpu,
    pub(super) support: Support,
    pub(super) physical_bits: u32,
    pub(super) gib_pages: bool,
    pub(super) has_keys: bool,
    pub(super) capabilities: Capabilities,
    pub(super) checked: CheckedEntries,
    pub(super) nmis: Nmis,
    /// What children need of this CPU, if there are any.
    pub(super) seat: Option<Seat<child::Beside>>,
    /// What makes it a child's.
    pub(super) own: Option<Own>,
    pub(super) lengths: Lengths,
}

impl SvmCpu {
    /// A vCPU in which the guest goes on where the firmware was. SVM is on
    /// afterwards; [`Self::leave`] ends it.
    pub fn new(boot: &mut Boot, memory: &GuestMemory, support: Support) -> Result<Self, Refusal> {
        let vmcb = boot.region.place(blank())?;
        let host = boot.region.place(blank())?;
        let save_area = boot.region.pages(1)?.as_ptr() as u64;
        let msr_map = MsrMap(boot.region.pages(MSR_MAP_PAGES)?);
        let io_map = boot.region.array()?;
        let vmcb_at = core::ptr::from_ref(vmcb) as u64;
        let host_at = core::ptr::from_ref(host) as u64;
        let frame = boot
            .region
            .place(Frame::new(boot.firmware.returning(), vmcb_at, host_at))?;
        let pointers = Pointers {
            msr_map: msr_map.0.as_ptr() as u64,
            io_map: io_map.as_ptr() as u64,
            nested_root: memory.nested_root().0,
        };
        setup::fill(vmcb, &boot.firmware, &pointers);
        setup::start(save_area, host_at);
        let block = core::ptr::from_mut(vmcb).cast();
        boot.percpu.block.store(block, Ordering::Release);
        boot.percpu.set_describe(checks::describe);
        boot.percpu.set_on_nmi(hold_for_nmi);
        boot.percpu.set_on_call(hold_for_call);
        let mut cpu = Self {
            frame,
            vmcb: NonNull::from(vmcb),
            msr_map,
            io_map,
            percpu: boot.percpu,
            support,
            physical_bits: physical_bits(),
            gib_pages: has_gib_pages(),
            has_keys: boot.own.cr4 & Cr4::PKE.bits() != 0,
            capabilities: checks::capabilities(),
            checked: CheckedEntries::default(),
            nmis: Nmis::default(),
            seat: None,
            own: None,
            lengths: Lengths::default(),
        };
        cpu.deliver_nmi();
        Ok(cpu)
    }

    /// Ends SVM on this CPU.
    pub fn leave(self) {
        setup::stop();
    }
}

impl<const CHILD: bool> Vcpu for SvmCpu<CHILD> {
    const VENDOR: Vendor = Vendor::Amd;
    type Child = SvmCpu<true>;

    fn settle(&mut self) {
        setup::save(self.frame.host());
        self.seat = Seat::new();
    }

    #[inline]
    fn enter(&mut self) -> Option<Frequent> {
        if CHECKS_ENTRIES && !self.checked.paused {
            self.check_before_entry();
        }
        // SAFETY: `new` enabled SVM and filled the VMCBs; the nested tables
        // leave out the hypervisor.
        unsafe {
            match CHILD {
                true => child::enter(self.frame),
                false => enter::enter(self.frame),
            }
        }
        decode_frequent(&self.vmcb().control)
    }

    /// Neither frequent exits nor accesses are ever the hypervisor's own affair.
    #[inline]
    fn access(&self) -> Option<Exit> {
        decode_access(&self.vmcb().control, &self.frame.registers)
    }

    fn rare_exit(&mut self) -> Exit {
        self.exited_rarely()
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
        self.vmcb().save.rip
    }

    #[inline]
    fn set_rip(&mut self, rip: u64) {
        self.vmcb_mut().save.rip = rip;
    }

    #[inline]
    fn rflags(&self) -> Rflags {
        Rflags::from_bits_retain(self.vmcb().save.rflags)
    }

    fn set_rflags(&mut self, rflags: Rflags) {
        self.vmcb_mut().save.rflags = rflags.bits();
    }

    fn stack_pointer(&self) -> u64 {
        self.vmcb().save.rsp
    }

    fn set_stack_pointer(&mut self, value: u64) {
        self.vmcb_mut().save.rsp = value;
    }

    fn segment(&self, name: SegmentName) -> Segment {
        segment(self.vmcb().save.segment(name))
    }

    fn set_segment(&mut self, name: SegmentName, segment: Segment) {
        let save = &mut self.vmcb_mut().save;
        *save.segment_mut(name) = segment.into();
        if name == SegmentName::Ss {
            save.cpl = segment.dpl();
        }
    }

    fn gdt(&self) -> TableRegister {
        let table = &self.vmcb().save.gdtr;
        TableRegister {
            base: table.base,
            limit: table.limit,
        }
    }

    fn cpl(&self) -> u8 {
        self.vmcb().save.cpl
    }

    fn cr0(&self) -> Cr0 {
        Cr0::from_bits_retain(self.vmcb().save.cr0)
    }

    #[inline]
    fn cr4(&self) -> Cr4 {
        Cr4::from_bits_retain(self.vmcb().save.cr4)
    }

    fn efer(&self) -> Efer {
        Efer::from_bits_retain(self.vmcb().save.efer) - Efer::SVME
    }

    /// The CPU's own rules, asked of the CPU itself: what it refuses to load
    /// with the guest's bits is #GP for the guest. LMA is not written, and LME
    /// not changed while paging is on. AMD APM volume 2, "Extended Feature
    /// Enable Register (EFER)".
    fn set_efer(&mut self, efer: Efer) -> bool {
        let old = self.efer();
        let paging = self.vmcb().save.cr0 & Cr0::PG.bits() != 0;
        let changes_mode = (efer ^ old).contains(Efer::LME) && paging;
        let changes_active = (efer ^ old).contains(Efer::LMA);
        if efer.contains(Efer::SVME) || changes_mode || changes_active {
            return false;
        }
        if !setup::accepts_efer(efer) {
            return false;
        }
        self.vmcb_mut().save.efer = (efer | Efer::SVME).bits();
        true
    }

    fn paging(&self) -> Paging {
        Paging {
            cr0: Cr0::from_bits_retain(self.vmcb().save.cr0),
            cr3: self.vmcb().save.cr3,
            cr4: self.cr4(),
            efer: self.efer(),
            alignment_check: self.rflags().contains(Rflags::AC),
            pkru: instructions::read_pkru(self.has_keys),
            physical_bits: self.physical_bits,
            gib_pages: self.gib_pages,
            // With nested paging the CPU reads them from memory at each walk.
            pdptes: None,
        }
    }

    #[inline]
    fn cr3(&self) -> u64 {
        self.vmcb().save.cr3
    }

    fn set_cr3(&mut self, cr3: u64, _: Option<[u64; 4]>) {
        self.vmcb_mut().save.cr3 = cr3;
        self.flush_nested();
    }

    fn code_size(&self) -> CodeSize {
        let rights = segment(&self.vmcb().save.cs).rights;
        match rights {
            rights if self.efer().contains(Efer::LMA) && rights & LONG != 0 => CodeSize::Bits64,
            rights if rights & DEFAULT_BIG != 0 => CodeSize::Bits32,
            _ => CodeSize::Bits16,
        }
    }

    /// For IN and OUT every CPU says where the next instruction is, in the
    /// second word. AMD APM volume 2, "IOIO Intercept".
    #[inline]
    fn instruction_length(&self, kind: Kind) -> Option<u64> {
        let control = &self.vmcb().control;
        let next = match kind {
            Kind::Port => control.exit_info2,
            _ if self.support.next_rip => control.next_rip,
            _ => return None,
        };
        (next != 0).then(|| next.wrapping_sub(self.rip()))
    }

    #[inline]
    fn lengths(&self) -> Option<&Lengths> {
        Some(&self.lengths)
    }

    /// A guest may change to five levels of tables without an exit: where there
    /// are five, which no CPU without next-RIP save has, nothing is kept.
    fn lengths_mut(&mut self) -> Option<&mut Lengths> {
        (self.capabilities.cr4 & Cr4::LA57.bits() == 0).then_some(&mut self.lengths)
    }

    #[inline]
    fn clear_interrupt_shadow(&mut self) {
        self.vmcb_mut().control.interrupt_shadow &= !INTERRUPT_SHADOW;
    }

    fn pend_single_step(&mut self) {
        let control = guarded::read_msr(msr::DEBUG_CONTROL).unwrap_or(0);
        if control & msr::DEBUG_CONTROL_BTF != 0 {
            return;
        }
        self.vmcb_mut().save.dr6 |= DR6_SINGLE_STEP;
        self.inject(Exception::Debug);
    }

    fn note_task_switch(&mut self) {
        self.vmcb_mut().save.cr0 |= Cr0::TS.bits();
    }

    /// Never asked: the guest's task switches do not exit here, and the CPU
    /// keeps this state by itself.
    fn block_nmis(&mut self, _: bool) {}

    fn inject(&mut self, exception: Exception) {
        if let Exception::PageFault { address, .. } = exception {
            self.vmcb_mut().save.cr2 = address;
        }
        let event = Event::from_exception(exception, self.cr0().contains(Cr0::PE));
        let code = u64::from(event.error.unwrap_or(0));
        self.vmcb_mut().control.entry_event = u64::from(event.word()) | code << 32;
    }

    /// What an instruction raises (INT n, INT3, INTO) is not delivered again:
    /// RIP still points at the instruction, which does it anew.
    fn redeliver(&mut self) {
        if self.event().is_some_and(|event| !event.is_instruction()) {
            self.vmcb_mut().control.entry_event = self.vmcb().control.exit_event;
        }
    }

    #[inline]
    fn event(&self) -> Option<Event> {
        let word = self.vmcb().control.exit_event;
        Event::from_words(word as u32, (word >> 32) as u32)
    }

    /// The NMI stayed pending behind the global interrupt flag, and went to its
    /// handler when the exit stub set that: it is noted, and was judged, already.
    fn note_nmi(&mut self) {
        self.end_call();
    }

    /// A call that comes after this holds the guest again.
    fn end_call(&mut self) {
        self.percpu.seen_to(noted::CALL);
    }

    fn take_init(&mut self) -> bool {
        self.percpu.take_init()
    }

    /// The word is cleared before the NMIs are looked at: one that arrives after
    /// that sets it again. One that cannot be given to the guest, because it
    /// handles one, waits for the end of that, and alone: a CPU holds no more
    /// back.
    fn deliver_nmi(&mut self) {
        let percpu = self.percpu;
        percpu.seen_to(noted::NMI);
        if !percpu.has_nmi() {
            return;
        }
        let injects = self.event().is_some_and(|event| !event.is_instruction());
        let (nmis, vmcb) = self.nmis_and_vmcb();
        if injects {
            percpu.hold_for(noted::BEHIND);
        } else if nmis.are_blocked(vmcb) {
            nmis.step(vmcb);
            percpu.merge_nmis();
        } else if percpu.take_nmi() {
            vmcb.control.entry_event = u64::from(event::NMI);
            nmis.begin(&mut vmcb.control);
        }
    }

    /// An NMI that waits is given to the guest behind the IRET.
    fn end_nmi_handler(&mut self) {
        let (nmis, vmcb) = self.nmis_and_vmcb();
        nmis.end(vmcb);
        if self.percpu.has_nmi() {
            self.percpu.hold_for(noted::NMI);
        }
    }

    /// AMD-V has no activity state: the guest goes on behind HLT, which a guest
    /// must expect of it anyway.
    fn halt(&mut self) {}

    fn debug_register(&self, number: u8) -> u64 {
        match number {
            6 => self.vmcb().save.dr6,
            7 => self.vmcb().save.dr7,
            other => instructions::read_debug_register(other),
        }
    }

    fn set_debug_register(&mut self, number: u8, value: u64) {
        let value = value & 0xffff_ffff;
        match number {
            6 => self.vmcb_mut().save.dr6 = value,
            7 => self.vmcb_mut().save.dr7 = value,
            other => instructions::write_debug_register(other, value),
        }
    }

    fn take_machine_check(&mut self) -> bool {
        self.percpu.take_machine_check()
    }

    /// Never asked: CR0 is the guest's own here.
    fn shadow_cr0(&mut self, _: u64) {}

    fn intercept_port(&mut self, port: u16, exits: bool) {
        let port = usize::from(port);
        if let Some(page) = self.io_map.get_mut(port / (8 * 4096)) {
            page.set_bit(port % (8 * 4096), exits);
        }
    }

    fn intercept_exception(&mut self, vector: u8, exits: bool) {
        let bit = 1 << (vector & 31);
        let word = &mut self.vmcb_mut().control.intercept_exceptions;
        *word = if exits { *word | bit } else { *word & !bit };
    }

    fn intercept_msr(&mut self, number: u32, read: bool, write: bool) {
        self.msr_map.intercept(number, read, write);
    }

    fn intercept_write_backs(&mut self, exits: bool) {
        let word = &mut self.vmcb_mut().control.intercept4;
        let bit = intercept4::WRITE_BACKS;
        *word = if exits { *word | bit } else { *word & !bit };
    }

    /// The guest's value is in the VMCB while the hypervisor runs; the CPU is
    /// asked whether it takes it.
    fn set_system_call_entry(&mut self, value: u64) -> bool {
        // SAFETY: the hypervisor makes no system calls, and the next entry
        // loads the guest's value.
        let accepted = unsafe { guarded::write_msr(msr::LSTAR, value) };
        if accepted {
            self.vmcb_mut().save.lstar = value;
        }
        accepted
    }

    fn flush_nested(&mut self) {
        self.vmcb_mut().control.tlb_control = if self.support.flush_by_asid {
            TLB_FLUSH_GUEST
        } else {
            TLB_FLUSH_ALL
        };
    }

    fn reset(&mut self) {
        self.frame.registers = Registers {
            rdx: u64::from(instructions::cpuid(x86::cpuid::FEATURES, 0).eax),
            ..Registers::default()
        };
        let save = &mut self.vmcb_mut().save;
        save.cr0 = (save.cr0 & (Cr0::CD | Cr0::NW).bits()) | 1 << 4;
        save.cr2 = 0;
        save.cr3 = 0;
        save.cr4 = 0;
        save.efer = Efer::SVME.bits();
        save.dr6 = DR6_RESET;
        save.dr7 = DR7_RESET;
        save.rip = 0xfff0;
        save.rsp = 0;
        save.rflags = Rflags::FIXED.bits();
        save.cpl = 0;
        self.vmcb_mut().control.interrupt_shadow = 0;
        self.vmcb_mut().control.entry_event = 0;
        setup::reset_segments(&mut self.vmcb_mut().save);
        let (nmis, vmcb) = self.nmis_and_vmcb();
        nmis.forget(vmcb);
        self.percpu.seen_to(noted::NMI | noted::BEHIND);
        while self.percpu.take_nmi() {}
        instructions::reset_debug_registers();
        // CR0, CR3, CR4 and EFER changed without the CPU's noticing.
        self.flush_nested();
    }

    fn start_at(&mut self, page: u8) {
        let selector = u16::from(page) << 8;
        let save = &mut self.vmcb_mut().save;
        save.cs.selector = selector;
        save.cs.base = u64::from(selector) << 4;
        save.rip = 0;
    }

    fn field(&self, number: usize) -> Option<(&'static str, Option<u64>)> {
        let (name, read) = FIELDS.get(number)?;
        Some((name, Some(read(self.vmcb()))))
    }

    #[cfg(feature = "breakable")]
    fn enter_broken(&mut self, row: usize) -> Option<x86::broken::Trial> {
        super::breakage::enter_broken(self.frame, self.vmcb, &self.capabilities, row)
    }

    #[cfg(feature = "breakable")]
    fn break_next_entry(&mut self) {
        self.vmcb_mut().control.asid = 0;
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

impl<const CHILD: bool> SvmCpu<CHILD> {
    fn nmis_and_vmcb(&mut self) -> (&mut Nmis, &mut Vmcb) {
        // SAFETY: as for `vmcb_mut`.
        (&mut self.nmis, unsafe { self.vmcb.as_mut() })
    }

    fn check_before_entry(&mut self) {
        self.checked.entries += 1;
        let mut checked = self.checked;
        checks::broken(self.vmcb(), &self.capabilities, &mut |broken| {
            checked.note(&broken);
        });
        self.checked = checked;
    }

    /// The VMCB, while the guest does not run.
    pub(super) fn vmcb(&self) -> &Vmcb {
        // SAFETY: `new` placed the VMCB, which is static and this vCPU's alone.
        // The CPU writes it in `enter` only, during which `self` is borrowed
        // mutably, so that no reference from here is alive.
        unsafe { self.vmcb.as_ref() }
    }

    /// The same, to be changed.
    pub(super) fn vmcb_mut(&mut self) -> &mut Vmcb {
        // SAFETY: as for `vmcb`, and `self` is borrowed mutably.
        unsafe { self.vmcb.as_mut() }
    }
}
