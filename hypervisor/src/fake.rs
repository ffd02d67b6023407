//! A machine for the desk: a vCPU whose exits come from a list, and memory in
//! a map. What the policy did to them is written down.

#[path = "fake/child.rs"]
pub mod child;
#[path = "fake/exits.rs"]
pub mod exits;
#[path = "fake/locked.rs"]
pub mod locked;
#[path = "fake/memory.rs"]
mod memory;

pub use memory::FakeMemory;

use machine::{CodeSize, Lengths, Vcpu};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::AtomicU32;
use x86::apic::Address;
use x86::control::{Cr0, Cr4, Efer, Rflags};
use x86::cpuid::{Leaf, Vendor};
use x86::exit::{Frequent, Kind};
use x86::segment::{Segment, SegmentName, TableRegister};
use x86::walk::Paging;
use x86::{Event, Exception, Exit, Registers};

/// An Intel CPU.
pub type FakeVtx = FakeCpu<0>;
/// An AMD CPU without next-RIP save.
pub type FakeSvm = FakeCpu<1>;

/// What a CPU does when it is called: it gets its number.
pub type Answer = Box<dyn Fn(u32)>;

/// Who is called when all are.
pub const WHOEVER: u32 = u32::MAX;

thread_local! {
    /// Accesses to ports of this thread's machine: port, size, what is written.
    pub static PORT_LOG: RefCell<Vec<(u16, u8, Option<u32>)>> = const { RefCell::new(Vec::new()) };
    /// Registers of its local APIC.
    pub static APIC: RefCell<BTreeMap<u16, u32>> = const { RefCell::new(BTreeMap::new()) };
    /// CPUs that were called.
    pub static CALLED: RefCell<Vec<u32>> = const { RefCell::new(Vec::new()) };
    /// What they do then, where they have no threads of their own.
    pub static ANSWER: RefCell<Option<Answer>> = const { RefCell::new(None) };
}

/// A vCPU. `VENDOR` 0 is Intel, 1 AMD.
pub struct FakeCpu<const VENDOR: u8> {
    pub exits: VecDeque<Exit>,
    /// The newest.
    pub exit: Option<Exit>,
    pub registers: Registers,
    pub rip: u64,
    pub rflags: Rflags,
    pub cpl: u8,
    pub cr4: Cr4,
    pub efer: Efer,
    pub size: CodeSize,
    pub length: Option<u64>,
    pub lengths: Lengths,
    pub in_shadow: bool,
    pub single_step: bool,
    pub injected: Vec<Exception>,
    pub redelivered: u32,
    pub event: Option<Event>,
    pub rsp: u64,
    pub segments: [Segment; 8],
    pub cr0: Cr0,
    pub cr3: u64,
    pub gdt: TableRegister,
    pub task_switches: u32,
    pub nmis_blocked: Option<bool>,
    pub ports: BTreeSet<u16>,
    pub exceptions: BTreeSet<u8>,
    pub halted: bool,
    pub debug_registers: [u64; 8],
    pub machine_check: bool,
    pub init: bool,
    pub ticks: Cell<u64>,
    /// By how many they go on whenever somebody looks.
    pub pace: u64,
    pub nmis: u32,
    pub cr0_shadow: Option<u64>,
    pub msrs: BTreeMap<u32, u64>,
    pub intercepted: BTreeMap<u32, (bool, bool)>,
    pub flushes: u32,
    pub resets: u32,
    pub started: Option<u8>,
    pub written_back: u32,
    pub write_backs_exit: bool,
    pub xcr: Vec<(u32, u64)>,
    pub raised: Vec<Event>,
}

impl<const VENDOR: u8> Default for FakeCpu<VENDOR> {
    /// A kernel in 64-bit mode without paging, at an instruction of 2 bytes.
    fn default() -> Self {
        Self {
            exits: VecDeque::new(),
            exit: None,
            registers: Registers::default(),
            rip: 0x1000,
            rflags: Rflags::FIXED,
            cpl: 0,
            cr4: Cr4::empty(),
            efer: Efer::LME | Efer::LMA,
            size: CodeSize::Bits64,
            lengths: Lengths::default(),
            length: if VENDOR == 0 { Some(2) } else { None },
            in_shadow: false,
            single_step: false,
            injected: Vec::new(),
            redelivered: 0,
            event: None,
            rsp: 0x8000,
            segments: [flat(); 8],
            cr0: Cr0::PE | Cr0::PG | Cr0::WP,
            cr3: FakeMemory::ROOT,
            gdt: TableRegister::default(),
            task_switches: 0,
            nmis_blocked: None,
            ports: BTreeSet::new(),
            exceptions: BTreeSet::new(),
            halted: false,
            debug_registers: [0; 8],
            machine_check: false,
            init: false,
            ticks: Cell::new(0),
            pace: 1,
            nmis: 0,
            cr0_shadow: None,
            msrs: BTreeMap::new(),
            intercepted: BTreeMap::new(),
            flushes: 0,
            resets: 0,
            started: None,
            written_back: 0,
            write_backs_exit: false,
            xcr: Vec::new(),
            raised: Vec::new(),
        }
    }
}

/// A writable data segment over everything.
fn flat() -> Segment {
    Segment {
        selector: 0x10,
        base: 0,
        limit: 0xffff_ffff,
        rights: 0xc093,
    }
}

impl<const VENDOR: u8> Vcpu for FakeCpu<VENDOR> {
    const VENDOR: Vendor = if VENDOR == 0 {
        Vendor::Intel
    } else {
        Vendor::Amd
    };
    type Child = Self;

    /// The next exit of the list; behind its end a triple fault, which ends
    /// the loop.
    fn enter(&mut self) -> Option<Frequent> {
        let exit = self.exits.pop_front().unwrap_or(Exit::TripleFault);
        self.exit = Some(exit);
        match exit {
            Exit::Cpuid { .. } => Some(Frequent::Cpuid),
            Exit::Hypercall => Some(Frequent::Hypercall),
            Exit::ReadMsr { .. } => Some(Frequent::ReadMsr),
            _ => None,
        }
    }
    fn frequent_exit(&self, _: Frequent) -> Exit {
        self.exit.expect("the guest exited")
    }
    fn access(&self) -> Option<Exit> {
        let is_access = |exit: &Exit| matches!(exit, Exit::Port(_) | Exit::NestedFault(_));
        self.exit.filter(is_access)
    }
    fn rare_exit(&mut self) -> Exit {
        self.exit.expect("the guest exited")
    }
    fn registers(&self) -> &Registers {
        &self.registers
    }
    fn registers_mut(&mut self) -> &mut Registers {
        &mut self.registers
    }
    fn rip(&self) -> u64 {
        self.rip
    }
    fn set_rip(&mut self, rip: u64) {
        self.rip = rip;
    }
    fn rflags(&self) -> Rflags {
        self.rflags
    }
    fn set_rflags(&mut self, rflags: Rflags) {
        self.rflags = rflags;
    }
    fn stack_pointer(&self) -> u64 {
        self.rsp
    }
    fn set_stack_pointer(&mut self, value: u64) {
        self.rsp = value;
    }
    fn segment(&self, name: SegmentName) -> Segment {
        self.segments[name as usize]
    }
    fn set_segment(&mut self, name: SegmentName, segment: Segment) {
        self.segments[name as usize] = segment;
        if name == SegmentName::Ss {
            self.cpl = segment.dpl();
        }
    }
    fn gdt(&self) -> TableRegister {
        self.gdt
    }
    fn set_cr3(&mut self, cr3: u64, _: Option<[u64; 4]>) {
        self.cr3 = cr3;
    }
    fn note_task_switch(&mut self) {
        self.task_switches += 1;
    }
    fn block_nmis(&mut self, blocked: bool) {
        self.nmis_blocked = Some(blocked);
    }
    fn cpl(&self) -> u8 {
        self.cpl
    }
    fn cr0(&self) -> Cr0 {
        self.cr0
    }
    fn ticks(&self) -> u64 {
        self.ticks.replace(self.ticks.get() + self.pace)
    }
    fn cr4(&self) -> Cr4 {
        self.cr4
    }
    fn efer(&self) -> Efer {
        self.efer
    }
    fn set_efer(&mut self, efer: Efer) -> bool {
        let accepted = !efer.contains(Efer::SVME);
        if accepted {
            self.efer = efer;
        }
        accepted
    }
    /// Identity, but for the pages that `FakeMemory` calls absent.
    fn paging(&self) -> Paging {
        Paging {
            cr0: self.cr0,
            cr3: self.cr3,
            cr4: self.cr4 | Cr4::PAE,
            efer: Efer::LME | Efer::LMA | Efer::NXE,
            alignment_check: self.rflags.contains(Rflags::AC),
            pkru: 0,
            physical_bits: 40,
            gib_pages: true,
            pdptes: None,
        }
    }
    fn code_size(&self) -> CodeSize {
        self.size
    }
    fn instruction_length(&self, _: Kind) -> Option<u64> {
        self.length
    }
    fn lengths(&self) -> Option<&Lengths> {
        Some(&self.lengths)
    }
    fn lengths_mut(&mut self) -> Option<&mut Lengths> {
        Some(&mut self.lengths)
    }
    fn clear_interrupt_shadow(&mut self) {
        self.in_shadow = false;
    }
    fn pend_single_step(&mut self) {
        self.single_step = true;
    }
    fn inject(&mut self, exception: Exception) {
        self.injected.push(exception);
    }
    fn redeliver(&mut self) {
        self.redelivered += 1;
    }
    fn event(&self) -> Option<Event> {
        self.event
    }
    fn note_nmi(&mut self) {
        self.nmis += 1;
    }
    fn deliver_nmi(&mut self) {
        self.nmis = self.nmis.saturating_sub(1);
    }
    fn halt(&mut self) {
        self.halted = true;
    }
    fn debug_register(&self, number: u8) -> u64 {
        self.debug_registers[number as usize]
    }
    fn set_debug_register(&mut self, number: u8, value: u64) {
        self.debug_registers[number as usize] = value;
    }
    fn take_machine_check(&mut self) -> bool {
        core::mem::take(&mut self.machine_check)
    }
    fn hears_interrupts(&self) -> bool {
        let enabled =
            Self::read_apic(x86::apic::register::SPURIOUS) & x86::apic::SPURIOUS_ENABLED != 0;
        enabled || self.rflags.contains(Rflags::IF)
    }
    fn take_init(&mut self) -> bool {
        core::mem::take(&mut self.init)
    }
    fn read_counter(&self, number: u32) -> Option<u64> {
        self.msrs.get(&number).copied()
    }
    /// Each port answers with its number.
    fn read_port(port: u16, size: u8) -> u32 {
        PORT_LOG.with_borrow_mut(|log| log.push((port, size, None)));
        u32::from(port) & (u64::MAX >> (64 - 8 * size)) as u32
    }
    fn write_port(port: u16, size: u8, value: u32) {
        PORT_LOG.with_borrow_mut(|log| log.push((port, size, Some(value))));
    }
    fn shadow_cr0(&mut self, value: u64) {
        self.cr0_shadow = Some(value);
    }
    fn intercept_port(&mut self, port: u16, exits: bool) {
        if exits {
            self.ports.insert(port);
        } else {
            self.ports.remove(&port);
        }
    }
    fn intercept_exception(&mut self, vector: u8, exits: bool) {
        if exits {
            self.exceptions.insert(vector);
        } else {
            self.exceptions.remove(&vector);
        }
    }
    fn intercept_msr(&mut self, number: u32, read: bool, write: bool) {
        self.intercepted.insert(number, (read, write));
    }
    fn intercept_write_backs(&mut self, exits: bool) {
        self.write_backs_exit = exits;
    }
    fn set_system_call_entry(&mut self, value: u64) -> bool {
        self.write_msr(x86::msr::LSTAR, value)
    }
    fn flush_nested(&mut self) {
        self.flushes += 1;
    }
    fn reset(&mut self) {
        self.resets += 1;
    }
    fn start_at(&mut self, page: u8) {
        self.started = Some(page);
    }
    fn call(number: u32) {
        CALLED.with_borrow_mut(|called| called.push(number));
        ANSWER.with_borrow(|answer| {
            if let Some(answer) = answer {
                answer(number);
            }
        });
    }
    fn call_whoever() {
        Self::call(WHOEVER);
    }
    fn wait_for(_: &AtomicU32, _: u32) {
        std::hint::spin_loop();
    }
    fn stop_machine(why: core::fmt::Arguments) -> ! {
        panic!("{why}")
    }
    fn is_boot_processor(&self) -> bool {
        true
    }
    fn apic_address() -> Address {
        Address {
            id: Self::read_apic(x86::apic::register::ID) >> 24,
            ..Address::default()
        }
    }
    fn adopt_address() -> Address {
        Self::apic_address()
    }
    fn read_apic(offset: u16) -> u32 {
        APIC.with_borrow(|apic| apic.get(&offset).copied().unwrap_or(0))
    }
    fn write_apic(offset: u16, value: u32) {
        APIC.with_borrow_mut(|apic| apic.insert(offset, value));
    }
    fn reset_apic(&mut self) {}
    /// A CPU with every feature.
    fn cpuid(&self, _: u32, _: u32) -> Leaf {
        Leaf {
            eax: !0,
            ebx: !0,
            ecx: !0,
            edx: !0,
        }
    }
    fn read_msr(&self, number: u32) -> Option<u64> {
        self.msrs.get(&number).copied()
    }
    fn write_msr(&mut self, number: u32, value: u64) -> bool {
        self.msrs
            .get_mut(&number)
            .map(|slot| *slot = value)
            .is_some()
    }
    fn field(&self, number: usize) -> Option<(&'static str, Option<u64>)> {
        let fields = [
            ("GUEST_CR0", Some(self.cr0.bits())),
            ("GUEST_CR3", Some(self.cr3)),
            ("GUEST_SSP", None),
            ("HOST_CR3", Some(0x77)),
        ];
        fields.get(number).copied()
    }
    /// XCR0 with x87 state on, and no other register.
    fn set_extended_control(&mut self, index: u32, value: u64) -> bool {
        let accepted = index == 0 && value & 1 != 0;
        if accepted {
            self.xcr.push((index, value));
        }
        accepted
    }
    fn write_back_caches(&mut self) {
        self.written_back += 1;
    }
}
