//! Task switches on the desk: two tasks in flat memory, of which each test
//! changes what it is about.

use crate::fake::{FakeMemory, FakeVtx};
use crate::outcome::Stop;
use crate::run::run;
use crate::vm::{Cpu, Features, Vm};
use abi::handoff::Presence;
use machine::CodeSize;
use x86::control::Rflags;
use x86::event::EventType;
use x86::exception::page_fault;
use x86::exit::{TaskSource, TaskSwitch};
use x86::segment::{Segment, SegmentName, TableRegister};
use x86::task::{TaskState, TaskWidth};
use x86::{Event, Exception, Exit, Registers};

mod faults;
mod random;

const GDT: u64 = 0x1000;
const OLD: u64 = 0x2000;
const NEW: u64 = 0x3000;
const LDT: u64 = 0x5000;
const STACK: u64 = 0xb000;

/// Selectors.
const OLD_TASK: u16 = 0x08;
const NEW_TASK: u16 = 0x10;
const CODE: u16 = 0x18;
const DATA: u16 = 0x20;
const LOCAL: u16 = 0x28;
const USER_CODE: u16 = 0x33;
const USER_DATA: u16 = 0x3b;
/// For a test's own descriptor.
const SPARE: u16 = 0x40;
const LOCAL_DATA: u16 = 0x04;

const TASK_16: u8 = 0x81;
const TASK_32: u8 = 0x89;
const BUSY: u8 = 2;
const FLAT: u32 = 0xf_ffff;

/// A descriptor with its limit in pages where that has to be.
fn descriptor(base: u64, limit: u32, access: u8) -> u64 {
    let flags = if limit == FLAT { 0xc } else { 0 };
    let base = (base & 0xff_ffff) << 16 | (base >> 24 & 0xff) << 56;
    let limit = u64::from(limit & 0xffff) | u64::from(limit >> 16) << 48;
    base | limit | u64::from(access) << 40 | flags << 52
}

/// Two tasks; the old one runs.
struct Desk {
    vm: Vm<FakeMemory>,
    vcpu: FakeVtx,
}

impl Desk {
    fn new() -> Self {
        let desk = Self {
            vm: Vm::new(FakeMemory::new(), Presence::Leaf, Features::ALL),
            vcpu: running(),
        };
        desk.describe(OLD_TASK, descriptor(OLD, 0x67, TASK_32 | BUSY));
        desk.describe(NEW_TASK, descriptor(NEW, 0x67, TASK_32));
        desk.describe(CODE, descriptor(0, FLAT, 0x9b));
        desk.describe(DATA, descriptor(0, FLAT, 0x93));
        desk.describe(LOCAL, descriptor(LDT, 0xf, 0x82));
        desk.describe(USER_CODE, descriptor(0, FLAT, 0xfa));
        desk.describe(USER_DATA, descriptor(0, FLAT, 0xf2));
        let local = descriptor(0x40_0000, FLAT, 0x93);
        desk.vm.memory.put(LDT, &local.to_le_bytes());
        desk.task(NEW, TaskWidth::Bits32, &waiting());
        desk
    }

    fn describe(&self, selector: u16, descriptor: u64) {
        let at = GDT + u64::from(selector & !7);
        self.vm.memory.put(at, &descriptor.to_le_bytes());
    }

    /// Writes a TSS.
    fn task(&self, at: u64, width: TaskWidth, state: &TaskState) {
        let mut bytes = [0; 0x68];
        state.save(width, &mut bytes);
        let ldt = match width {
            TaskWidth::Bits16 => 0x2a,
            TaskWidth::Bits32 => {
                bytes[0x1c..0x20].copy_from_slice(&state.cr3.to_le_bytes());
                bytes[0x64] = u8::from(state.trap);
                0x60
            }
        };
        bytes[ldt..ldt + 2].copy_from_slice(&state.ldt.to_le_bytes());
        self.vm.memory.put(at, &bytes[..width.size()]);
    }

    fn bytes<const SIZE: usize>(&self, at: u64) -> [u8; SIZE] {
        let all = self.vm.memory.snapshot();
        all[at as usize..][..SIZE].try_into().unwrap()
    }

    fn half(&self, at: u64) -> u16 {
        u16::from_le_bytes(self.bytes(at))
    }

    fn word(&self, at: u64) -> u32 {
        u32::from_le_bytes(self.bytes(at))
    }

    fn is_busy(&self, selector: u16) -> bool {
        let [access] = self.bytes(GDT + u64::from(selector) + 5);
        access & BUSY != 0
    }

    fn saved(&self, at: u64) -> TaskState {
        TaskState::load(TaskWidth::Bits32, &self.bytes::<0x68>(at))
    }

    /// Switches and returns what was injected.
    fn switch(&mut self, source: TaskSource, selector: u16) -> Vec<Exception> {
        let vcpu = core::mem::take(&mut self.vcpu);
        let mut cpu = Cpu::new(FakeVtx {
            exits: [switch_to(source, selector)].into(),
            ..vcpu
        });
        assert_eq!(run(&self.vm, &mut cpu), Stop::Reset);
        self.vcpu = cpu.vcpu;
        core::mem::take(&mut self.vcpu.injected)
    }

    /// Delivers `event` through a task gate to the new task.
    fn deliver(&mut self, event: Event) -> Vec<Exception> {
        self.vcpu.event = Some(event);
        self.switch(TaskSource::Gate, NEW_TASK)
    }

    fn selector(&self, name: SegmentName) -> u16 {
        self.vcpu.segments[name as usize].selector
    }
}

fn switch_to(source: TaskSource, selector: u16) -> Exit {
    Exit::TaskSwitch(TaskSwitch {
        selector,
        source,
        error: None,
    })
}

const fn event(kind: EventType, vector: u8, error: Option<u32>) -> Event {
    Event {
        kind,
        vector,
        error,
    }
}

const GENERAL_PROTECTION: Event = event(EventType::Exception, 13, Some(0x1234_5678));
const UNDEFINED: Event = event(EventType::Exception, 6, None);
const INTERRUPT: Event = event(EventType::Interrupt, 0x30, None);
const INT_N: Event = event(EventType::Software, 0x40, None);

/// What the old task has in its registers.
fn running() -> FakeVtx {
    let mut vcpu = FakeVtx {
        registers: Registers {
            rax: 0xa0,
            rbx: 0xb0,
            rdi: 0xd1,
            ..Registers::default()
        },
        rsp: 0x7000,
        rflags: Rflags::FIXED | Rflags::CF,
        size: CodeSize::Bits32,
        in_shadow: true,
        debug_registers: [0, 0, 0, 0, 0, 0, 0, 0x7ff],
        gdt: TableRegister {
            base: GDT,
            limit: 0x47,
        },
        ..FakeVtx::default()
    };
    let low = descriptor(OLD, 0x67, TASK_32 | BUSY);
    vcpu.segments[SegmentName::Tr as usize] = Segment::from_descriptor(OLD_TASK, low, 0);
    vcpu.segments[SegmentName::Cs as usize].rights = 0xc09b;
    vcpu.segments[SegmentName::Ldtr as usize] = Segment::null(0);
    for (number, segment) in vcpu.segments.iter_mut().take(6).enumerate() {
        segment.selector = 0x100 + number as u16;
    }
    vcpu
}

/// What the new task is to have in its registers.
fn waiting() -> TaskState {
    TaskState {
        cr3: FakeMemory::ROOT as u32,
        eip: 0x40_1000,
        eflags: 0x42,
        general: [1, 2, 3, 4, STACK as u32, 6, 7, 8],
        segments: [DATA, CODE, DATA, DATA, LOCAL_DATA, 0],
        ldt: LOCAL,
        trap: false,
    }
}

#[test]
fn a_jump_saves_one_task_and_loads_the_other() {
    let mut desk = Desk::new();
    assert_eq!(desk.switch(TaskSource::Jump, NEW_TASK), []);
    let saved = desk.saved(OLD);
    assert_eq!((saved.eip, saved.eflags), (0x1002, 3));
    assert_eq!(saved.general, [0xa0, 0, 0, 0xb0, 0x7000, 0, 0, 0xd1]);
    assert_eq!(saved.segments, [0x100, 0x101, 0x102, 0x103, 0x104, 0x105]);
    let vcpu = &desk.vcpu;
    assert_eq!((vcpu.rip, vcpu.rsp), (0x40_1000, STACK));
    assert_eq!(vcpu.rflags.bits(), 0x42);
    assert_eq!((vcpu.registers.rax, vcpu.registers.rdi), (1, 8));
    assert_eq!(vcpu.task_switches, 1);
    assert_eq!(vcpu.debug_registers[7], 0x6aa);
    assert_eq!(vcpu.nmis_blocked, None);
    assert!(!vcpu.in_shadow);
    let local = vcpu.segments[SegmentName::Fs as usize];
    assert_eq!((local.selector, local.base), (LOCAL_DATA, 0x40_0000));
    assert_eq!(desk.selector(SegmentName::Cs), CODE);
    assert_eq!(desk.selector(SegmentName::Tr), NEW_TASK);
    assert_eq!(vcpu.segments[SegmentName::Tr as usize].rights, 0x8b);
}

#[test]
fn a_jump_frees_the_old_task_and_links_nothing() {
    let mut desk = Desk::new();
    desk.vm.memory.put(NEW, &[0xee, 0xee]);
    desk.switch(TaskSource::Jump, NEW_TASK);
    assert!(!desk.is_busy(OLD_TASK));
    assert!(desk.is_busy(NEW_TASK));
    assert_eq!(desk.half(NEW), 0xeeee);
}

#[test]
fn a_call_nests_and_iret_returns() {
    let mut desk = Desk::new();
    desk.switch(TaskSource::Call, NEW_TASK);
    assert!(desk.is_busy(OLD_TASK) && desk.is_busy(NEW_TASK));
    assert_eq!(desk.half(NEW), OLD_TASK);
    assert!(desk.vcpu.rflags.contains(Rflags::NT));
    // What is saved of it is no task of this desk's.
    let back = TaskState {
        eip: 0x1002,
        ..waiting()
    };
    desk.task(OLD, TaskWidth::Bits32, &back);
    assert_eq!(desk.switch(TaskSource::Iret, OLD_TASK), []);
    assert!(desk.is_busy(OLD_TASK) && !desk.is_busy(NEW_TASK));
    assert_eq!(desk.vcpu.rip, 0x1002);
    assert!(!desk.vcpu.rflags.contains(Rflags::NT));
    assert_eq!(desk.saved(NEW).eflags & Rflags::NT.bits() as u32, 0);
    assert_eq!(desk.vcpu.nmis_blocked, Some(false));
}

#[test]
fn a_nested_task_stays_nested_when_another_interrupts_it() {
    let mut desk = Desk::new();
    desk.vcpu.rflags |= Rflags::NT;
    desk.switch(TaskSource::Call, NEW_TASK);
    assert_ne!(desk.saved(OLD).eflags & Rflags::NT.bits() as u32, 0);
}

#[test]
fn a_fault_through_a_gate_pushes_its_error_code_and_returns_to_the_instruction() {
    let mut desk = Desk::new();
    assert_eq!(desk.deliver(GENERAL_PROTECTION), []);
    assert_eq!(desk.saved(OLD).eip, 0x1000);
    assert_eq!(desk.vcpu.rsp, STACK - 4);
    assert_eq!(desk.word(STACK - 4), 0x1234_5678);
    assert_eq!(desk.half(NEW), OLD_TASK);
    assert!(desk.vcpu.rflags.contains(Rflags::NT));
    assert_eq!(desk.vcpu.redelivered, 0);
}

#[test]
fn what_has_no_error_code_pushes_none() {
    for (event, eip) in [(UNDEFINED, 0x1000), (INTERRUPT, 0x1000), (INT_N, 0x1002)] {
        let mut desk = Desk::new();
        assert_eq!(desk.deliver(event), []);
        assert_eq!(desk.saved(OLD).eip, eip, "{event:?}");
        assert_eq!(desk.vcpu.rsp, STACK);
    }
}

#[test]
fn the_task_of_an_nmi_is_spared_further_ones() {
    let mut desk = Desk::new();
    desk.deliver(event(EventType::Nmi, 2, None));
    assert_eq!(desk.vcpu.nmis_blocked, Some(true));
}

/// CR3, FS and GS are not in it; the upper halves of registers are ones.
#[test]
fn a_16_bit_task_has_no_more_than_the_80286_had() {
    let mut desk = Desk::new();
    let state = TaskState {
        eip: 0x1234,
        ..waiting()
    };
    desk.describe(NEW_TASK, descriptor(NEW, 0x2b, TASK_16));
    desk.task(NEW, TaskWidth::Bits16, &state);
    desk.vcpu.cr3 = FakeMemory::ROOT | 0x18;
    assert_eq!(desk.deliver(UNDEFINED), []);
    assert_eq!(desk.vcpu.cr3, FakeMemory::ROOT | 0x18);
    assert_eq!(desk.vcpu.rip, 0x1234);
    assert_eq!(desk.vcpu.registers.rax, 0xffff_0001);
    assert_eq!(desk.selector(SegmentName::Fs), 0);
    assert_eq!(desk.vcpu.segments[SegmentName::Tr as usize].rights, 0x83);
}

#[test]
fn an_error_code_is_as_wide_as_the_new_tss() {
    let mut desk = Desk::new();
    let small = descriptor(0, 0xffff, 0x93);
    desk.describe(SPARE, small);
    let mut state = waiting();
    state.segments[2] = SPARE;
    desk.describe(NEW_TASK, descriptor(NEW, 0x2b, TASK_16));
    desk.task(NEW, TaskWidth::Bits16, &state);
    desk.vm.memory.put(STACK - 4, &[0xee; 4]);
    assert_eq!(desk.deliver(GENERAL_PROTECTION), []);
    assert_eq!(desk.word(STACK - 4), 0x5678_eeee);
    assert_eq!(desk.vcpu.rsp, 0xffff_0000 | (STACK - 2));
}

#[test]
fn a_32_bit_task_brings_its_page_tables() {
    const OTHER_ROOT: u64 = 0x18_0000;
    let mut desk = Desk::new();
    let root: [u8; 4096] = desk.bytes(FakeMemory::ROOT);
    desk.vm.memory.put(OTHER_ROOT, &root);
    let state = TaskState {
        cr3: OTHER_ROOT as u32,
        ..waiting()
    };
    desk.task(NEW, TaskWidth::Bits32, &state);
    assert_eq!(desk.switch(TaskSource::Jump, NEW_TASK), []);
    assert_eq!(desk.vcpu.cr3, OTHER_ROOT);
}

#[test]
fn the_old_task_is_saved_in_its_own_form() {
    let mut desk = Desk::new();
    let low = descriptor(OLD, 0x29, TASK_16 | BUSY);
    desk.vcpu.segments[SegmentName::Tr as usize] = Segment::from_descriptor(OLD_TASK, low, 0);
    desk.vm.memory.put(OLD, &[0xee; 0x40]);
    assert_eq!(desk.switch(TaskSource::Jump, NEW_TASK), []);
    assert_eq!(desk.half(OLD + 0x0e), 0x1002);
    assert_eq!(desk.half(OLD + 0x1a), 0x7000);
    assert_eq!(desk.half(OLD + 0x28), 0x103);
    assert_eq!(desk.half(OLD + 0x0c), 0xeeee);
    assert_eq!(desk.half(OLD + 0x2a), 0xeeee);
}

#[test]
fn a_task_of_virtual_8086_mode_has_its_segments() {
    let mut desk = Desk::new();
    let state = TaskState {
        eflags: 2 | Rflags::VM.bits() as u32,
        eip: 0x100,
        segments: [0x1000, 0x2000, 0x3000, 0x4000, 0x5000, 0x6000],
        ..waiting()
    };
    desk.task(NEW, TaskWidth::Bits32, &state);
    assert_eq!(desk.switch(TaskSource::Jump, NEW_TASK), []);
    for (name, selector) in super::segments::NAMES.into_iter().zip(state.segments) {
        let segment = desk.vcpu.segments[name as usize];
        assert_eq!(segment.base, u64::from(selector) * 16);
        assert_eq!((segment.limit, segment.rights), (0xffff, 0xf3));
    }
    assert_eq!(desk.selector(SegmentName::Ldtr), LOCAL);
}

#[test]
fn a_user_task_is_checked_at_its_own_privilege_and_its_descriptors_marked() {
    let mut desk = Desk::new();
    let state = TaskState {
        segments: [USER_DATA, USER_CODE, USER_DATA, USER_DATA, 0, 0],
        ..waiting()
    };
    desk.task(NEW, TaskWidth::Bits32, &state);
    assert_eq!(desk.switch(TaskSource::Jump, NEW_TASK), []);
    assert_eq!(desk.vcpu.cpl, 3);
    assert_eq!(desk.bytes(GDT + 0x35), [0xfb]);
    assert_eq!(desk.bytes(GDT + 0x3d), [0xf3]);
}

#[test]
fn the_debug_trap_flag_traps_before_the_first_instruction() {
    let mut desk = Desk::new();
    let state = TaskState {
        trap: true,
        ..waiting()
    };
    desk.task(NEW, TaskWidth::Bits32, &state);
    assert_eq!(desk.switch(TaskSource::Jump, NEW_TASK), [Exception::Debug]);
    assert_eq!(desk.vcpu.debug_registers[6], 1 << 15);
    assert!(!desk.vcpu.rflags.contains(Rflags::RF));
}

#[test]
fn task_state_may_lie_across_pages() {
    for before in [0x10, 0x21, 0x30, 0x5f] {
        let mut desk = Desk::new();
        let (old, new) = (OLD + 0x1000 - before, 0x9000 - before);
        let low = descriptor(old, 0x67, TASK_32 | BUSY);
        desk.vcpu.segments[SegmentName::Tr as usize] = Segment::from_descriptor(OLD_TASK, low, 0);
        desk.describe(NEW_TASK, descriptor(new, 0x67, TASK_32));
        desk.task(new, TaskWidth::Bits32, &waiting());
        assert_eq!(desk.switch(TaskSource::Call, NEW_TASK), []);
        assert_eq!(desk.saved(old).general[7], 0xd1);
        assert_eq!(desk.saved(old).segments[5], 0x105);
        assert_eq!((desk.vcpu.rip, desk.vcpu.registers.rdi), (0x40_1000, 8));
        assert_eq!(desk.half(new), OLD_TASK);
    }
}

/// The link may name the task itself: it is busy, and IRET wants that.
#[test]
fn a_task_can_return_to_itself() {
    let mut desk = Desk::new();
    desk.task(OLD, TaskWidth::Bits32, &waiting());
    for (number, segment) in desk.vcpu.segments.iter_mut().take(6).enumerate() {
        segment.selector = if number == 1 { CODE } else { DATA };
    }
    assert_eq!(desk.switch(TaskSource::Iret, OLD_TASK), []);
    assert_eq!((desk.vcpu.rip, desk.vcpu.registers.rdi), (0x1002, 0xd1));
    assert!(!desk.is_busy(OLD_TASK));
}
