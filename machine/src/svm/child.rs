//! A child's vCPU on AMD-V: a VMCB of its own, of which all but what a child may
//! have exits.

use super::block::{MSR_MAP_PAGES, MsrMap, segment};
use super::enter::{self, Frame};
use super::nmis::Nmis;
use super::setup::{self, Pointers};
use super::vcpu::SvmCpu;
use crate::checked::CheckedEntries;
use crate::child::ChildVcpu;
use crate::child::boarding::{self, Passenger};
use crate::child::extended::Unswitched;
use crate::child::memory::PoolMemory;
use crate::child::pages::{Block, Placed};
use crate::instructions;
use crate::lengths::Lengths;
use crate::nested::Format;
use crate::vcpu::Vcpu;
use core::ptr::NonNull;
use x86::control::{Efer, Rflags};
use x86::segment::{Segment, SegmentName, TableRegister};
use x86::svm::control::{
    IGNORE_PRIORITY, INTERRUPT_SHADOW, TLB_FLUSH_ALL, VIRTUAL_INTERRUPT, VIRTUAL_MASKING,
    intercept3, intercept4, intercept5,
};
use x86::svm::vmcb::{Control, VmcbSegment, blank};
use x86::{Event, Exit, Registers, State, cpuid, msr};

/// The ASID of whichever child runs: whose translations it has is known.
const CHILD_ASID: u32 = 2;

/// A control block, the registers' frame, and the two maps.
const PAGES: usize = 2 + MSR_MAP_PAGES + super::block::IO_MAP_PAGES;

/// #DB and #AC, in whose delivery a child could stay for ever without taking an
/// interrupt, and machine checks, which are the guest's.
const EXCEPTIONS: u32 = 1 << 1 | 1 << 17 | 1 << 18;

/// MSRs that VMRUN, VMLOAD and exits switch.
const SWITCHED: [u32; 10] = [
    msr::SYSENTER_CS,
    msr::SYSENTER_ESP,
    msr::SYSENTER_EIP,
    msr::FS_BASE,
    msr::GS_BASE,
    msr::STAR,
    msr::STAR + 1,
    msr::STAR + 2,
    msr::STAR + 3,
    msr::KERNEL_GS_BASE,
];

/// What is not in the VMCB: RDPID, which reads it, is no instruction that exits.
#[derive(Debug)]
pub(super) struct Beside;

/// Leaf 0x80000001 EDX and leaf 7 ECX: RDTSCP and RDPID, each of which comes with
/// IA32_TSC_AUX.
const EDX_RDTSCP: u32 = 1 << 27;
const ECX7_RDPID: u32 = 1 << 22;

impl Unswitched for Beside {
    const NUMBERS: &'static [u32] = &[msr::TSC_AUX];
    // AMD APM volume 2, "FXSAVE and FXRSTOR Instructions".
    const FORGETS_POINTERS: bool = true;

    fn are_there() -> bool {
        let amd = instructions::cpuid(cpuid::AMD_FEATURES, 0).edx;
        let extended = instructions::cpuid(cpuid::EXTENDED_FEATURES, 0).ecx;
        amd & EDX_RDTSCP != 0 || extended & ECX7_RDPID != 0
    }
}

/// What a child's vCPU has and the guest's has not.
pub struct Own {
    passenger: Passenger<Beside>,
    /// The pages that all references of the vCPU lead to. Dropped with them.
    _block: Block,
}

// SAFETY: its pointers lead to its own pages, which no CPU knows while it is not
// loaded; whoever has it alone may load it.
unsafe impl Send for SvmCpu<true> {}

/// Runs a child's vCPU until its next exit.
///
/// # Safety
/// As for [`enter::enter_child`].
pub(super) unsafe fn enter(frame: &mut Frame) {
    let own = instructions::read_cr0();
    // SAFETY: as the caller promises.
    unsafe { enter::enter_child(frame) };
    // QEMU 7.2 keeps the child's CR0 where it left long mode half entered.
    if instructions::read_cr0() != own {
        // SAFETY: what the register held.
        unsafe { instructions::write_cr0(own) };
    }
}

fn controls(control: &mut Control, pointers: &Pointers) {
    setup::controls(control, pointers);
    control.asid = CHILD_ASID;
    control.tlb_control = TLB_FLUSH_ALL;
    control.virtual_interrupt = VIRTUAL_MASKING;
    control.intercept_exceptions = EXCEPTIONS;
    control.intercept3 |= intercept3::INTR | intercept3::RDPMC | intercept3::HLT;
    control.intercept4 |= intercept4::RDTSCP
        | intercept4::WRITE_BACKS
        | intercept4::MONITOR
        | intercept4::MWAIT
        | intercept4::RDPRU;
    control.intercept5 |= intercept5::INVLPGB
        | intercept5::INVLPGB_ILLEGAL
        | intercept5::MCOMMIT
        | intercept5::TLBSYNC;
}

impl SvmCpu<true> {
    fn make<const CHILD: bool>(host: &SvmCpu<CHILD>, memory: &PoolMemory) -> Option<Self> {
        let block = Block::take(PAGES)?;
        let passenger = Passenger::new()?;
        // SAFETY: what is made of the pages lives in the vCPU, which drops the
        // block last.
        let mut region = unsafe { block.region() };
        let vmcb = region.place(blank()).ok()?;
        let mut msr_map = MsrMap(region.pages(MSR_MAP_PAGES).ok()?);
        for page in &mut *msr_map.0 {
            page.0.fill(0xff);
        }
        for number in SWITCHED {
            msr_map.intercept(number, false, false);
        }
        let io_map: &'static mut [crate::region::Page; super::block::IO_MAP_PAGES] =
            region.array().ok()?;
        for page in &mut *io_map {
            page.0.fill(0xff);
        }
        let pointers = Pointers {
            msr_map: msr_map.0.as_ptr() as u64,
            io_map: io_map.as_ptr() as u64,
            nested_root: memory.root(),
        };
        controls(&mut vmcb.control, &pointers);
        let at = core::ptr::from_ref(vmcb) as u64;
        let frame = Frame::new(Registers::default(), at, host.frame.host());
        let mut vcpu = Self {
            frame: region.place(frame).ok()?,
            vmcb: NonNull::from(vmcb),
            msr_map,
            io_map,
            percpu: host.percpu,
            support: host.support,
            physical_bits: host.physical_bits,
            gib_pages: host.gib_pages,
            has_keys: host.has_keys,
            capabilities: host.capabilities,
            checked: CheckedEntries::default(),
            nmis: Nmis::default(),
            lengths: Lengths::default(),
            seat: None,
            own: Some(Own {
                passenger,
                _block: block,
            }),
        };
        <Self as ChildVcpu<SvmCpu>>::set_state(&mut vcpu, &State::reset());
        Some(vcpu)
    }

    fn set_segments(&mut self, state: &State) {
        for (name, segment) in SegmentName::ALL.into_iter().zip(state.segments) {
            self.set_segment(name, segment);
        }
        let table = |table: TableRegister| VmcbSegment {
            limit: table.limit,
            base: table.base,
            ..VmcbSegment::default()
        };
        let save = &mut self.vmcb_mut().save;
        save.gdtr = table(state.gdt);
        save.idtr = table(state.idt);
    }

    fn segments(&self) -> [Segment; 8] {
        let save = &self.vmcb().save;
        SegmentName::ALL.map(|name| segment(save.segment(name)))
    }
}

impl<const CHILD: bool> ChildVcpu<SvmCpu<CHILD>> for SvmCpu<true> {
    type Memory = PoolMemory;
    type Placed<T: Send + Sync + 'static> = Placed<T>;

    fn memory(_: &SvmCpu<CHILD>) -> Option<PoolMemory> {
        boarding::memory(Format::Npt)
    }

    fn place<T: Send + Sync + 'static>(value: T) -> Option<Placed<T>> {
        Placed::new(value)
    }

    fn new(host: &mut SvmCpu<CHILD>, memory: &PoolMemory) -> Option<Self> {
        Self::make(host, memory)
    }

    /// A VMCB is where it is, on whatever CPU.
    #[inline(always)]
    fn load(&mut self, host: &mut SvmCpu<CHILD>) {
        self.percpu = host.percpu;
        self.frame.set_host(host.frame.host());
    }

    fn unload(&mut self, _: &mut SvmCpu<CHILD>) {}

    #[inline(always)]
    fn board(&mut self, host: &mut SvmCpu<CHILD>, generation: u64) -> bool {
        let (Some(seat), Some(own)) = (&mut host.seat, &mut self.own) else {
            return false;
        };
        let cpu = host.percpu.number;
        if own.passenger.board(seat, cpu, generation, true) {
            self.flush_nested();
        }
        true
    }

    #[inline(always)]
    fn alight(&mut self, host: &mut SvmCpu<CHILD>) {
        if let (Some(seat), Some(own)) = (&host.seat, &mut self.own) {
            own.passenger.alight(seat);
        }
    }

    /// Interrupts stay pending, and arrive again when the guest is entered. NMIs
    /// and INIT went to their handlers when the global interrupt flag was set
    /// behind the exit, which hold the guest.
    fn note_for_guest(&mut self, host: &SvmCpu<CHILD>, exit: &Exit) {
        if let Exit::Exception { .. } = exit {
            host.percpu.note_machine_check();
        }
    }

    fn state(&self) -> State {
        let save = &self.vmcb().save;
        let mut debug = [0, 0, 0, 0, save.dr6, save.dr7];
        let mut xcr0 = 1;
        if let Some(own) = &self.own {
            let registers = &own.passenger.registers;
            for (value, kept) in debug.iter_mut().zip(registers.debug).take(4) {
                *value = kept;
            }
            xcr0 = registers.xcr0;
        }
        let table = |table: &VmcbSegment| TableRegister {
            base: table.base,
            limit: table.limit,
        };
        State {
            registers: self.frame.registers,
            rsp: save.rsp,
            rip: save.rip,
            rflags: save.rflags,
            cr0: save.cr0,
            cr2: save.cr2,
            cr3: save.cr3,
            cr4: save.cr4,
            efer: save.efer & !Efer::SVME.bits(),
            segments: self.segments(),
            gdt: table(&save.gdtr),
            idt: table(&save.idtr),
            debug,
            system_call: [
                save.star,
                save.lstar,
                save.cstar,
                save.sfmask,
                save.kernel_gs_base,
            ],
            system_enter: [save.sysenter_cs, save.sysenter_esp, save.sysenter_eip],
            xcr0,
        }
    }

    fn set_state(&mut self, state: &State) {
        self.frame.registers = state.registers;
        let save = &mut self.vmcb_mut().save;
        save.rsp = state.rsp;
        save.rip = state.rip;
        save.rflags = state.rflags | Rflags::FIXED.bits();
        save.cr0 = state.cr0;
        save.cr2 = state.cr2;
        save.cr3 = state.cr3;
        save.cr4 = state.cr4;
        save.efer = (state.efer() | Efer::SVME).bits();
        save.pat = msr::PAT_RESET;
        let [_, _, _, _, dr6, dr7] = state.debug;
        (save.dr6, save.dr7) = (dr6, dr7);
        let [star, lstar, cstar, mask, gs] = state.system_call;
        (save.star, save.lstar, save.cstar) = (star, lstar, cstar);
        (save.sfmask, save.kernel_gs_base) = (mask, gs);
        let [code, stack, entry] = state.system_enter;
        (save.sysenter_cs, save.sysenter_esp, save.sysenter_eip) = (code, stack, entry);
        self.set_segments(state);
        let control = &mut self.vmcb_mut().control;
        control.interrupt_shadow = 0;
        control.entry_event = 0;
        control.exit_event = 0;
        if let Some(own) = &mut self.own {
            let registers = &mut own.passenger.registers;
            for (kept, value) in registers.debug.iter_mut().zip(state.debug).take(4) {
                *kept = value;
            }
            registers.xcr0 = state.xcr0;
        }
        self.flush_nested();
    }

    /// In real mode no error code is pushed.
    fn raise(&mut self, event: Event) {
        let protected = self.cr0().contains(x86::control::Cr0::PE);
        let error = event.error.filter(|_| protected);
        let event = Event { error, ..event };
        let code = u64::from(error.unwrap_or(0));
        self.vmcb_mut().control.entry_event = u64::from(event.word()) | code << 32;
    }

    #[inline(always)]
    fn has_event(&self) -> bool {
        let event = self.vmcb().control.entry_event;
        Event::from_words(event as u32, 0).is_some()
    }

    #[inline(always)]
    fn takes_interrupts(&self) -> bool {
        let vmcb = self.vmcb();
        let shadow = vmcb.control.interrupt_shadow & INTERRUPT_SHADOW != 0;
        self.rflags().contains(Rflags::IF) && !shadow
    }

    fn await_interrupts(&mut self, wanted: bool) {
        let control = &mut self.vmcb_mut().control;
        if wanted {
            control.virtual_interrupt |= VIRTUAL_INTERRUPT | IGNORE_PRIORITY;
            control.intercept3 |= intercept3::INTERRUPT_WINDOW;
        } else {
            control.virtual_interrupt &= !(VIRTUAL_INTERRUPT | IGNORE_PRIORITY);
            control.intercept3 &= !intercept3::INTERRUPT_WINDOW;
        }
    }
}
