//! A child's vCPU on VT-x: a VMCS of its own, of which all but what a child may
//! have exits. Between two calls it is no CPU's: whichever loads it next finds
//! all of it in memory. Intel SDM volume 3, "Software Use of Virtual-Machine
//! Control Structures".

use super::block::Vmcs;
use super::enter::Frame;
use super::setup::{self, Pointers};
use super::support::Support;
use super::vcpu::{EPTP_WALK, STI_OR_MOV_SS, VtxCpu, leave_at_once, open_nmi_window};
use crate::checked::CheckedEntries;
use crate::child::ChildVcpu;
use crate::child::boarding::{self, Passenger};
use crate::child::extended::Unswitched;
use crate::child::memory::PoolMemory;
use crate::child::pages::{Block, Placed};
use crate::nested::Format;
use crate::region::Page;
use crate::vcpu::Vcpu;
use crate::{exceptions, instructions, percpu};
use core::arch::asm;
use x86::control::{GUEST_CR4, Rflags};
use x86::segment::{SegmentName, TableRegister};
use x86::vtx::control::{entry, processor};
use x86::vtx::field::{self, Fields};
use x86::{Event, Exit, Registers, State, event, msr};

/// The VPID of whichever child runs: whose translations it has is known.
const CHILD_VPID: u16 = 2;

/// A VMCS, the registers' frame, and three bitmaps.
const PAGES: usize = 5;

/// As on AMD-V: #DB and #AC, in whose delivery a child could stay for ever
/// without taking an interrupt, and machine checks, which are the guest's.
const EXCEPTIONS: u32 = 1 << 1 | 1 << 17 | 1 << 18;

/// MSRs that neither entries nor exits switch, and every CPU has. RDTSCP and RDPID,
/// which read IA32_TSC_AUX, are no instructions of a child's.
#[derive(Debug)]
pub(super) struct Beside;

impl Unswitched for Beside {
    const NUMBERS: &'static [u32] = &[
        msr::STAR,
        msr::STAR + 1,
        msr::STAR + 2,
        msr::STAR + 3,
        msr::KERNEL_GS_BASE,
    ];
    const FORGETS_POINTERS: bool = false;

    fn are_there() -> bool {
        true
    }
}

/// MSRs that a child may use as it likes: fields of the VMCS, and those above.
const SWITCHED: [u32; 12] = [
    msr::SYSENTER_CS,
    msr::SYSENTER_ESP,
    msr::SYSENTER_EIP,
    msr::FS_BASE,
    msr::GS_BASE,
    msr::EFER,
    msr::PAT,
    msr::STAR,
    msr::STAR + 1,
    msr::STAR + 2,
    msr::STAR + 3,
    msr::KERNEL_GS_BASE,
];

/// What an exit loads for the hypervisor: the same as after the guest's, but for
/// RSP, which leads to the vCPU's own frame.
const HOST: [u32; 20] = [
    field::HOST_CS.encoding() as u32,
    field::HOST_SS.encoding() as u32,
    field::HOST_DS.encoding() as u32,
    field::HOST_ES.encoding() as u32,
    field::HOST_FS.encoding() as u32,
    field::HOST_GS.encoding() as u32,
    field::HOST_TR.encoding() as u32,
    field::HOST_PAT.encoding() as u32,
    field::HOST_EFER.encoding() as u32,
    field::HOST_SYSENTER_CS.encoding() as u32,
    field::HOST_CR0.encoding() as u32,
    field::HOST_CR3.encoding() as u32,
    field::HOST_CR4.encoding() as u32,
    field::HOST_FS_BASE.encoding() as u32,
    field::HOST_GS_BASE.encoding() as u32,
    field::HOST_TR_BASE.encoding() as u32,
    field::HOST_GDTR_BASE.encoding() as u32,
    field::HOST_IDTR_BASE.encoding() as u32,
    field::HOST_SYSENTER_ESP.encoding() as u32,
    field::HOST_SYSENTER_EIP.encoding() as u32,
];

/// What a child's vCPU has and the guest's has not.
pub struct Own {
    passenger: Passenger<Beside>,
    /// Physical address of its VMCS.
    at: u64,
    /// That of the guest's, while this one is loaded.
    guest: u64,
    /// The CPU whose state exits load.
    host: Option<u32>,
    /// The longest turn as the preemption timer counts it.
    turn: u32,
    /// The pages that all references of the vCPU lead to. Dropped with them.
    _block: Block,
}

// SAFETY: its references lead to its own pages, which no CPU knows while it is
// not loaded; whoever has it alone may load it.
unsafe impl Send for VtxCpu<true> {}

/// Bits of DR7 that enable breakpoints.
const ENABLED: u64 = 0xff;

/// The longest turn, in ticks of the time-stamp counter. Interrupts end turns
/// earlier; but Bochs 2.7 does not look for any while a child that it entered
/// with RFLAGS.IF clear leaves it so.
const TURN: u64 = 1 << 23;

/// The same as the preemption timer counts it. Intel SDM volume 3,
/// "VMX-Preemption Timer".
fn turn() -> u32 {
    // SAFETY: a CPU with VMX has IA32_VMX_MISC.
    let misc = unsafe { instructions::read_msr(msr::VMX_MISC) };
    (TURN >> (misc & 0x1f)) as u32
}

/// Where a debug register is kept.
const fn place(number: u8) -> usize {
    if number < 4 { number as usize } else { 4 }
}

/// What a debug register holds of `value`: in DR6 the causes of a debug exception, and
/// ones where nothing is. Of those that are told by a zero a child has none. Intel SDM
/// volume 3, "Debug Status Register (DR6)".
const fn held(number: u8, value: u64) -> u64 {
    const CAUSES: u64 = 0xe00f;
    const ONES: u64 = 0xffff_0ff0;
    if number < 4 {
        value
    } else {
        value & CAUSES | ONES
    }
}

/// Makes the VMCS at `at` the current one.
#[inline(always)]
fn make_current(at: u64) {
    let failed: u8;
    // SAFETY: VMX operation is on, and the page is a VMCS of this CPU's
    // revision that is active on no other. Which is current is known to whoever
    // calls this.
    unsafe {
        asm!("vmptrld [{}]", "setbe {}", in(reg) &at, out(reg_byte) failed, options(nostack));
    }
    if failed != 0 {
        stop_without_vmcs(at);
    }
}

#[cold]
fn stop_without_vmcs(at: u64) -> ! {
    exceptions::stop(format_args!("VMPTRLD failed for {at:#x}"))
}

/// Writes all of the VMCS at `at` to memory; it is active nowhere then.
fn clear(at: u64) {
    // SAFETY: as for `make_current`; it is not used before it is loaded again.
    unsafe { asm!("vmclear [{}]", in(reg) &at, options(nostack)) };
}

fn write(encoding: u32, value: u64) {
    // SAFETY: a child's VMCS is current, and the fields of `HOST` get what the
    // guest's VMCS has on this CPU.
    unsafe {
        asm!("vmwrite {}, {}", in(reg) u64::from(encoding), in(reg) value, options(nostack));
    }
}

/// Runs in the NMI handler while a child is loaded: its turn ends at once, and
/// the guest hears of it later.
fn visit() {
    if let Some(percpu) = percpu::current() {
        percpu.visit();
    }
    leave_at_once();
}

impl VtxCpu<true> {
    fn make<const CHILD: bool>(host: &mut VtxCpu<CHILD>, memory: &PoolMemory) -> Option<Self> {
        let support = host.support.for_child()?;
        let block = Block::take(PAGES)?;
        let passenger = Passenger::new()?;
        // SAFETY: what is made of the pages lives in the vCPU, which drops the
        // block last.
        let mut region = unsafe { block.region() };
        let [vmcs] = region.array::<1>().ok()?;
        vmcs.0[..4].copy_from_slice(&support.revision.to_le_bytes());
        let at = core::ptr::from_ref(vmcs) as u64;
        clear(at);
        let io_bitmaps: &'static mut [Page; 2] = region.array().ok()?;
        let [msr_bitmap] = region.array::<1>().ok()?;
        for page in io_bitmaps.iter_mut().chain([&mut *msr_bitmap]) {
            page.0.fill(0xff);
        }
        let frame = region.place(Frame::new(Registers::default())).ok()?;
        let mut vcpu = Self {
            frame,
            // SAFETY: VMX operation is on while there is a guest; the token is
            // used while this VMCS is loaded.
            vmcs: unsafe { Vmcs::current() },
            msr_bitmap,
            io_bitmaps,
            percpu: host.percpu,
            support,
            ept_pointer: memory.root() | EPTP_WALK,
            physical_bits: host.physical_bits,
            gib_pages: host.gib_pages,
            has_keys: host.has_keys,
            capabilities: host.capabilities,
            checked: CheckedEntries::default(),
            rare_reason: 0,
            seat: None,
            own: Some(Own {
                passenger,
                at,
                guest: 0,
                host: None,
                turn: turn(),
                _block: block,
            }),
        };
        ChildVcpu::load(&mut vcpu, host);
        vcpu.fill();
        ChildVcpu::unload(&mut vcpu, host);
        Some(vcpu)
    }

    /// Everything that does not depend on the CPU.
    fn fill(&mut self) {
        let pointers = Pointers {
            msr_bitmap: core::ptr::from_ref(&*self.msr_bitmap) as u64,
            io_bitmaps: self.io_bitmaps.as_ptr() as u64,
            ept: self.ept_pointer,
        };
        let support: Support = self.support;
        setup::controls(&self.vmcs, &support, &pointers);
        self.vmcs.write(field::VPID, CHILD_VPID);
        self.vmcs.write(field::EXCEPTION_BITMAP, EXCEPTIONS);
        let fixed = support.cr0_fixed;
        self.vmcs.write(field::CR0_MASK, fixed);
        let masked = !GUEST_CR4.bits() | support.cr4_fixed;
        self.vmcs.write(field::CR4_MASK, masked);
        self.vmcs
            .write(field::HOST_RSP, self.frame.end_of_registers());
        let exit_point = super::enter::exit_point as *const () as u64;
        self.vmcs.write(field::HOST_RIP, exit_point);
        for number in SWITCHED {
            self.intercept_msr(number, false, false);
        }
        <Self as ChildVcpu<VtxCpu>>::set_state(self, &State::reset());
    }

    fn take_host(&mut self, values: [u64; HOST.len()]) {
        for (encoding, value) in HOST.into_iter().zip(values) {
            write(encoding, value);
        }
    }

    fn set_control_registers(&mut self, state: &State) {
        let (cr0_fixed, cr4_fixed) = (self.support.cr0_fixed, self.support.cr4_fixed);
        let vmcs = &self.vmcs;
        vmcs.write(field::CR0_SHADOW, state.cr0);
        vmcs.write(field::GUEST_CR0, state.cr0 | cr0_fixed);
        vmcs.write(field::GUEST_CR3, state.cr3);
        vmcs.write(field::CR4_SHADOW, state.cr4);
        vmcs.write(field::GUEST_CR4, state.cr4 | cr4_fixed);
        let efer = state.efer();
        vmcs.write(field::GUEST_EFER, efer.bits());
        let word = self.support.entry & !entry::LONG_MODE;
        let long = match efer.contains(x86::control::Efer::LMA) {
            true => entry::LONG_MODE,
            false => 0,
        };
        vmcs.write(field::ENTRY_CONTROLS, word | long);
        vmcs.write(field::GUEST_PAT, msr::PAT_RESET);
        vmcs.write(field::GUEST_DEBUG_CONTROL, 0);
        let [code, stack, instruction] = state.system_enter;
        vmcs.write(field::GUEST_SYSENTER_CS, code as u32);
        vmcs.write(field::GUEST_SYSENTER_ESP, stack);
        vmcs.write(field::GUEST_SYSENTER_EIP, instruction);
    }

    fn set_tables(&mut self, state: &State) {
        for (name, segment) in SegmentName::ALL.into_iter().zip(state.segments) {
            self.set_segment(name, segment);
        }
        self.vmcs.write(field::GUEST_GDTR_BASE, state.gdt.base);
        self.vmcs.write(field::GUEST_GDTR_LIMIT, state.gdt.limit);
        self.vmcs.write(field::GUEST_IDTR_BASE, state.idt.base);
        self.vmcs.write(field::GUEST_IDTR_LIMIT, state.idt.limit);
    }
}

impl<const CHILD: bool> VtxCpu<CHILD> {
    /// DR0 to DR3, or DR6. They are kept in memory.
    pub(super) fn kept_debug_register(&self, number: u8) -> u64 {
        let own = self.own.as_ref();
        own.map_or(0, |own| own.passenger.registers.debug[place(number)])
    }

    /// Sets them, in the CPU as well where they are there.
    pub(super) fn keep_debug_register(&mut self, number: u8, value: u64) {
        if let Some(own) = &mut self.own {
            let value = held(number, value);
            own.passenger.registers.debug[place(number)] = value;
            if own.passenger.has_debug {
                instructions::write_debug_register(number, value);
            }
        }
    }
}

impl<const CHILD: bool> ChildVcpu<VtxCpu<CHILD>> for VtxCpu<true> {
    type Memory = PoolMemory;
    type Placed<T: Send + Sync + 'static> = Placed<T>;

    fn memory(_: &VtxCpu<CHILD>) -> Option<PoolMemory> {
        boarding::memory(Format::Ept)
    }

    fn place<T: Send + Sync + 'static>(value: T) -> Option<Placed<T>> {
        Placed::new(value)
    }

    fn new(host: &mut VtxCpu<CHILD>, memory: &PoolMemory) -> Option<Self> {
        Self::make(host, memory)
    }

    /// From before its VMCS is current until the guest's is again, an NMI does
    /// what is right for either.
    #[inline(always)]
    fn load(&mut self, host: &mut VtxCpu<CHILD>) {
        let cpu = host.percpu.number;
        self.percpu = host.percpu;
        host.percpu.set_on_nmi(visit);
        host.percpu.set_on_call(visit);
        let Some(own) = &mut self.own else {
            return;
        };
        own.guest = host.vmcs.address();
        let turn = own.turn;
        let moved = own.host.replace(cpu) != Some(cpu);
        let values = moved
            .then(|| HOST.map(|encoding| host.vmcs.try_read(u64::from(encoding)).unwrap_or(0)));
        make_current(own.at);
        if let Some(values) = values {
            self.take_host(values);
        }
        self.vmcs.write(field::PREEMPTION_TIMER, turn);
        self.vmcs.write(field::PIN_CONTROLS, self.support.pin);
        if self.percpu.was_visited() {
            leave_at_once();
        }
    }

    #[inline(always)]
    fn unload(&mut self, host: &mut VtxCpu<CHILD>) {
        let Some(own) = &mut self.own else {
            return;
        };
        make_current(own.guest);
        host.percpu.set_on_nmi(open_nmi_window);
        host.percpu.set_on_call(leave_at_once);
        clear(own.at);
        if host.percpu.take_visit() {
            open_nmi_window();
            leave_at_once();
        }
    }

    #[inline(always)]
    fn board(&mut self, host: &mut VtxCpu<CHILD>, generation: u64) -> bool {
        let (Some(seat), Some(own)) = (&mut host.seat, &mut self.own) else {
            return false;
        };
        let cpu = host.percpu.number;
        // A child that has no breakpoint does not miss the registers: its own
        // accesses exit.
        let debug = self.vmcs.read(field::GUEST_DR7) & ENABLED != 0;
        if own.passenger.board(seat, cpu, generation, debug) {
            self.flush_nested();
        }
        true
    }

    #[inline(always)]
    fn alight(&mut self, host: &mut VtxCpu<CHILD>) {
        if let (Some(seat), Some(own)) = (&host.seat, &mut self.own) {
            own.passenger.alight(seat);
        }
    }

    /// Interrupts stay pending, as they are not acknowledged; an NMI and an INIT
    /// are taken by their exits.
    fn note_for_guest(&mut self, host: &VtxCpu<CHILD>, exit: &Exit) {
        match exit {
            Exit::Nmi => {
                if !host.percpu.take_call() {
                    host.percpu.add_nmi();
                }
                host.percpu.visit();
                instructions::unblock_nmis();
            }
            Exit::Init => host.percpu.note_init(),
            Exit::Exception { .. } => host.percpu.note_machine_check(),
            _ => {}
        }
    }

    fn state(&self) -> State {
        let vmcs = &self.vmcs;
        let mut debug = [0, 0, 0, 0, 0, vmcs.read(field::GUEST_DR7)];
        let (mut xcr0, mut cr2, mut system_call) = (1, 0, [0; 5]);
        if let Some(own) = &self.own {
            let registers = &own.passenger.registers;
            for (value, kept) in debug.iter_mut().zip(registers.debug) {
                *value = kept;
            }
            for (value, kept) in system_call.iter_mut().zip(registers.msrs) {
                *value = kept;
            }
            (xcr0, cr2) = (registers.xcr0, registers.cr2);
        }
        State {
            registers: self.frame.registers,
            rsp: self.stack_pointer(),
            rip: self.rip(),
            rflags: self.rflags().bits(),
            cr0: self.cr0().bits(),
            cr2,
            cr3: vmcs.read(field::GUEST_CR3),
            cr4: self.cr4().bits(),
            efer: self.efer().bits(),
            segments: SegmentName::ALL.map(|name| self.segment(name)),
            gdt: self.gdt(),
            idt: TableRegister {
                base: vmcs.read(field::GUEST_IDTR_BASE),
                limit: vmcs.read(field::GUEST_IDTR_LIMIT),
            },
            debug,
            system_call,
            system_enter: [
                u64::from(vmcs.read(field::GUEST_SYSENTER_CS)),
                vmcs.read(field::GUEST_SYSENTER_ESP),
                vmcs.read(field::GUEST_SYSENTER_EIP),
            ],
            xcr0,
        }
    }

    fn set_state(&mut self, state: &State) {
        self.frame.registers = state.registers;
        self.set_stack_pointer(state.rsp);
        self.set_rip(state.rip);
        self.vmcs
            .write(field::GUEST_RFLAGS, state.rflags | Rflags::FIXED.bits());
        self.set_control_registers(state);
        self.set_tables(state);
        let [_, _, _, _, _, dr7] = state.debug;
        self.vmcs.write(field::GUEST_DR7, dr7);
        self.vmcs.write(field::GUEST_INTERRUPTIBILITY, 0);
        self.vmcs.write(field::GUEST_ACTIVITY, 0);
        self.vmcs.write(field::GUEST_PENDING_DEBUG, 0);
        self.vmcs.write(field::ENTRY_EVENT, 0);
        if let Some(own) = &mut self.own {
            let registers = &mut own.passenger.registers;
            for (number, kept) in (0..).zip(&mut registers.debug) {
                *kept = held(number, state.debug[place(number)]);
            }
            for (kept, value) in registers.msrs.iter_mut().zip(state.system_call) {
                *kept = value;
            }
            (registers.xcr0, registers.cr2) = (state.xcr0, state.cr2);
        }
        self.flush_nested();
    }

    /// In real mode no error code is pushed, and an entry that asks for one
    /// fails.
    fn raise(&mut self, event: Event) {
        let protected = self.cr0().contains(x86::control::Cr0::PE);
        let error = event.error.filter(|_| protected);
        let event = Event { error, ..event };
        self.vmcs.write(field::ENTRY_EVENT_CODE, error.unwrap_or(0));
        self.vmcs.write(field::ENTRY_EVENT, event.word());
    }

    #[inline(always)]
    fn has_event(&self) -> bool {
        self.vmcs.read(field::ENTRY_EVENT) & event::VALID != 0
    }

    #[inline(always)]
    fn takes_interrupts(&self) -> bool {
        let shadow = self.vmcs.read(field::GUEST_INTERRUPTIBILITY) & STI_OR_MOV_SS;
        self.rflags().contains(Rflags::IF) && shadow == 0
    }

    fn await_interrupts(&mut self, wanted: bool) {
        let word = self.support.processor;
        let window = if wanted {
            processor::INTERRUPT_WINDOW
        } else {
            0
        };
        self.vmcs.write(field::PROCESSOR_CONTROLS, word | window);
    }
}
