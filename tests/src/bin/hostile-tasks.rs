//! Hardware task switches in 32-bit protected mode, by every way there is, and
//! the ways in which they fail: what they load and save is what the manuals say.
//! Intel SDM volume 3, "Task Switching" and "Task Linking".
#![cfg_attr(target_os = "uefi", no_main, no_std)]

use core::arch::global_asm;
use core::mem::{offset_of, size_of, transmute};
use tests::Report;
use tests::alloc::string::String;
use tests::attempt::GP;
use tests::uefi::boot::{self, AllocateType, MemoryType};

tests::guest!(check);

/// Where everything is: below 1 MiB, at the start of a 64 KiB segment.
const BASE: u64 = 0x2_0000;
const PAGES: usize = 16;
const GDT: u64 = BASE + 0x2000;
const IDT: u64 = BASE + 0x2800;
const LDT: u64 = BASE + 0x2c00;
const TASK_A: u64 = BASE + 0x3000;
const TASK_B: u64 = BASE + 0x3100;
const TASK_16: u64 = BASE + 0x3200;
const DIRECTORY_A: u64 = BASE + 0x4000;
const DIRECTORY_B: u64 = BASE + 0x5000;
const STACK_A: u64 = BASE + 0x7000;
const STACK_B: u64 = BASE + 0x8000;

const SELECTOR_CODE: u32 = 0x10;
const SELECTOR_DATA: u32 = 0x18;
const SELECTOR_A: u16 = 0x20;
const SELECTOR_B: u16 = 0x28;
const SELECTOR_16: u16 = 0x30;
const SELECTOR_GATE: u16 = 0x38;
const SELECTOR_LDT: u16 = 0x40;
const SELECTOR_SHORT: u16 = 0x48;
const SELECTOR_ABSENT: u16 = 0x50;
const SELECTOR_CODE_AT_BASE: u16 = 0x58;
const SELECTOR_DATA_AT_BASE: u16 = 0x60;
const SELECTOR_GATE_16: u16 = 0x68;
/// The only entry of the LDT: flat data.
const SELECTOR_LOCAL: u32 = 0x04;
/// Behind the table's limit.
const SELECTOR_NONE: u32 = 0xfff8;

const BUSY: u8 = 2;
const AVAILABLE_32: u8 = 0x89;
const AVAILABLE_16: u8 = 0x81;
const NT: u32 = 1 << 14;
const CR0_TS: u32 = 1 << 3;
/// A vector without a meaning of its own.
const VECTOR: usize = 0x40;
/// Where the error code is seen, if there is one.
const ON_STACK: u32 = 0x5afe_57ac;

/// What a task finds; written by the code below in this order.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Found {
    /// EAX, ECX, EDX, EBX, ESP, EBP, ESI, EDI.
    general: [u32; 8],
    flags: u32,
    cr0: u32,
    cr3: u32,
    task: u32,
    local: u32,
    /// DS, ES, FS, GS, SS, CS.
    segments: [u32; 6],
    on_stack: u32,
    /// The rights of the tasks A, B and the 16-bit one.
    rights: [u32; 3],
    /// The back links of B and of the 16-bit one.
    links: [u32; 2],
    /// How often it was here.
    times: u32,
}

/// What the code works on, at the end of the copied block.
#[repr(C)]
#[derive(Clone, Copy)]
struct Work {
    /// In: the way there.
    trigger: u32,
    /// In: 0 for IRET, 1 for a jump to A.
    way_back: u32,
    /// In: bytes on the stack that are no frame; bytes to skip in A.
    error_size: u32,
    skip: u32,
    /// In: where the way there leads.
    target: [u16; 4],
    /// Out: the new task, and A after it.
    new: Found,
    old: Found,
    /// Out: an exception, plus one; its error code.
    vector: u32,
    error: u32,
}

unsafe extern "C" {
    static tasks_start: u8;
    static tasks_work: u8;
    static tasks_end: u8;
    static tasks_b: u8;
    static tasks_jump: u8;
    static tasks_call: u8;
    static tasks_interrupt: u8;
    static tasks_return: u8;
    static tasks_fault: u8;
    static tasks_undefined: u8;
    static tasks_breakpoint: u8;
    static tasks_vectors: u8;
}

/// A 32-bit task state. Intel SDM volume 3, "Task-State Segment (TSS)".
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Task32 {
    link: u32,
    stacks: [u32; 6],
    cr3: u32,
    eip: u32,
    flags: u32,
    general: [u32; 8],
    /// ES, CS, SS, DS, FS, GS.
    segments: [u32; 6],
    local: u32,
    trap_and_ports: u32,
}

/// A 16-bit task state. Intel SDM volume 3, "16-Bit Task-State Segment (TSS)".
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Task16 {
    link: u16,
    stacks: [u16; 6],
    ip: u16,
    flags: u16,
    general: [u16; 8],
    /// ES, CS, SS, DS.
    segments: [u16; 4],
    local: u16,
}

const PATTERN_A: [u32; 8] = [
    0xa0a0_0001,
    0xa0a0_0002,
    0xa0a0_0003,
    0xa0a0_0004,
    0,
    0xa0a0_0006,
    0xa0a0_0007,
    0xa0a0_0008,
];
const PATTERN_B: [u32; 8] = [
    0xb0b0_0001,
    0xb0b0_0002,
    0xb0b0_0003,
    0xb0b0_0004,
    STACK_B as u32 - 64,
    0xb0b0_0006,
    0xb0b0_0007,
    0xb0b0_0008,
];

/// Puts the name of the way before what is checked.
type Say<'a> = dyn Fn(&'static str) -> String + 'a;

/// One way to switch.
struct Way {
    name: &'static str,
    trigger: *const u8,
    target: u16,
    /// The vector whose gate is a task gate, if any.
    gate: Option<usize>,
    /// Whether the new task is linked to the old one.
    nests: bool,
    /// The error code that the new task finds on its stack.
    error: Option<u32>,
    /// A goes on so far behind what its task state says.
    skip: u32,
}

fn check(report: &mut Report) {
    let place = AllocateType::Address(BASE);
    if boot::allocate_pages(place, MemoryType::LOADER_CODE, PAGES).is_err() {
        return report.holds("low memory is free", false);
    }
    ways(report, SELECTOR_B);
    ways(report, SELECTOR_16);
    back_by_link(report);
    refusals(report);
    wrong_states(report);
}

fn ways(report: &mut Report, to: u16) {
    let gate = if to == SELECTOR_B {
        SELECTOR_GATE
    } else {
        SELECTOR_GATE_16
    };
    let way = |name, trigger, target, gate, nests| Way {
        name,
        trigger,
        target,
        gate,
        nests,
        error: None,
        skip: 0,
    };
    // Addresses of code only.
    let (jump, call) = (&raw const tasks_jump, &raw const tasks_call);
    let interrupt = &raw const tasks_interrupt;
    let all = [
        way("jump", jump, to, None, false),
        way("jump by a gate", jump, gate, None, false),
        way("call", call, to, None, true),
        way("call by a gate", call, gate, None, true),
        way("INT", interrupt, 0, Some(VECTOR), true),
        way("INT3", &raw const tasks_breakpoint, 0, Some(3), true),
        Way {
            skip: 2,
            ..way("#UD", &raw const tasks_undefined, 0, Some(6), true)
        },
        Way {
            skip: 6,
            error: Some(SELECTOR_NONE),
            ..way("#GP", &raw const tasks_fault, 0, Some(13), true)
        },
    ];
    for one in all {
        switch(report, &one, to);
    }
}

fn switch(report: &mut Report, way: &Way, to: u16) {
    let is_16 = to == SELECTOR_16;
    prepare();
    if let Some(vector) = way.gate {
        // A present task gate for ring 0.
        write_gate(vector, u64::from(to) << 16 | 0x8500 << 32);
    }
    let size = if is_16 { 2 } else { 4 };
    let work = run(Work {
        way_back: u32::from(!way.nests),
        error_size: if way.error.is_some() { size } else { 0 },
        skip: way.skip,
        ..work(way.trigger, way.target)
    });
    let name = if is_16 {
        "to a 16-bit task"
    } else {
        "to a 32-bit task"
    };
    let name = tests::alloc::format!("{} {name}:", way.name);
    let say = |what| tests::alloc::format!("{name} {what}");
    report.equal(say("no exception"), work.vector, 0);
    report.equal(say("the new task ran once"), work.new.times, 1);
    report.equal(say("the old one went on once"), work.old.times, 1);
    if work.new.times == 0 || work.vector != 0 {
        return;
    }
    new_task(report, &say, way, &work.new, is_16);
    old_task(report, &say, &work);
    saved(report, &say, is_16);
}

fn new_task(report: &mut Report, say: &Say<'_>, way: &Way, new: &Found, is_16: bool) {
    let pushed = if way.error.is_none() {
        0
    } else if is_16 {
        2
    } else {
        4
    };
    let mut general = PATTERN_B;
    if is_16 {
        // The upper halves are undefined.
        general = general.map(|value| value & 0xffff);
        general[4] -= BASE as u32 & 0xffff;
    }
    general[4] -= pushed;
    let mask = if is_16 { 0xffff } else { !0 };
    let found = new.general.map(|value| value & mask);
    report.equal(say("its registers come from its state"), found, general);
    let nested = if way.nests { NT } else { 0 };
    let flags = new.flags & 0x4fff;
    report.equal(say("its flags, and NT if nested"), flags, 0x46 | nested);
    report.equal(say("CR0.TS is set"), new.cr0 & CR0_TS, CR0_TS);
    let directory = if is_16 { DIRECTORY_A } else { DIRECTORY_B };
    report.equal(say("CR3"), new.cr3, directory as u32);
    let (own, busy, link) = if is_16 {
        (
            SELECTOR_16,
            [AVAILABLE_32, AVAILABLE_16 | BUSY],
            new.links[1],
        )
    } else {
        (
            SELECTOR_B,
            [AVAILABLE_32, AVAILABLE_32 | BUSY],
            new.links[0],
        )
    };
    report.equal(say("the task register"), new.task, u32::from(own));
    report.equal(say("the LDT"), new.local, u32::from(SELECTOR_LDT));
    let segments = if is_16 {
        [SELECTOR_LOCAL, SELECTOR_DATA, 0, 0]
    } else {
        [SELECTOR_LOCAL, SELECTOR_DATA, SELECTOR_DATA, SELECTOR_LOCAL]
    };
    report.equal(say("DS, ES, FS, GS"), &new.segments[..4], &segments[..]);
    let a = busy[0] | if way.nests { BUSY } else { 0 };
    report.equal(say("who is busy: the old"), new.rights[0], u32::from(a));
    let rights = new.rights[if is_16 { 2 } else { 1 }];
    report.equal(say("who is busy: the new"), rights, u32::from(busy[1]));
    let linked = if way.nests { u32::from(SELECTOR_A) } else { 0 };
    report.equal(say("the back link"), link & 0xffff, linked);
    let on_stack = way.error.unwrap_or(ON_STACK);
    let mask = if is_16 { 0xffff } else { !0 };
    report.equal(say("the error code"), new.on_stack & mask, on_stack & mask);
}

fn old_task(report: &mut Report, say: &Say<'_>, work: &Work) {
    let old = &work.old;
    let mut general = PATTERN_A;
    general[4] = STACK_A as u32;
    report.equal(say("back: registers"), old.general, general);
    report.equal(say("back: NT"), old.flags & NT, 0);
    report.equal(say("back: CR0.TS"), old.cr0 & CR0_TS, CR0_TS);
    report.equal(say("back: CR3"), old.cr3, DIRECTORY_A as u32);
    report.equal(say("back: task"), old.task, u32::from(SELECTOR_A));
    report.equal(say("back: no LDT"), old.local, 0);
    report.equal(
        say("back: DS to SS"),
        &old.segments[..5],
        &[SELECTOR_DATA; 5][..],
    );
    let rights = [AVAILABLE_32 | BUSY, AVAILABLE_32, AVAILABLE_16].map(u32::from);
    report.equal(say("back: who is busy"), old.rights, rights);
}

/// What the old task's state holds since the first switch.
fn saved(report: &mut Report, say: &Say<'_>, is_16: bool) {
    // SAFETY: the pages are ours, and the code is done.
    let (a, b, b16) = unsafe {
        (
            (TASK_A as *const Task32).read(),
            (TASK_B as *const Task32).read(),
            (TASK_16 as *const Task16).read(),
        )
    };
    let mut general = PATTERN_A;
    general[4] = STACK_A as u32;
    report.equal(say("saved: registers"), a.general, general);
    let data = SELECTOR_DATA;
    let segments = [data, SELECTOR_CODE, data, data, data, data];
    report.equal(say("saved: segments"), a.segments, segments);
    report.equal(say("saved: CR3 is not"), a.cr3, DIRECTORY_A as u32);
    // An IRET leaves NT clear in what it saves of the task that it ends.
    let flags = if is_16 { u32::from(b16.flags) } else { b.flags };
    report.equal(say("saved: the new one's NT"), flags & NT, 0);
}

/// IRET with NT set leads to the task of the back link, which must be busy.
fn back_by_link(report: &mut Report) {
    prepare();
    // SAFETY: the pages are ours.
    unsafe {
        (*(TASK_A as *mut Task32)).link = u32::from(SELECTOR_B);
        set_rights(SELECTOR_B, AVAILABLE_32 | BUSY);
    }
    let work = run(Work {
        way_back: 1,
        ..work(&raw const tasks_return, 0)
    });
    report.equal("IRET with NT: no exception", work.vector, 0);
    report.equal("IRET with NT: the linked task ran", work.new.times, 1);
    report.equal("IRET with NT: it is not nested", work.new.flags & NT, 0);
    let rights = [AVAILABLE_32, AVAILABLE_32 | BUSY].map(u32::from);
    report.equal(
        "IRET with NT: who is busy",
        &work.new.rights[..2],
        &rights[..],
    );
}

/// A switch that breaks a rule.
struct Refusal {
    name: &'static str,
    trigger: *const u8,
    target: u16,
    vector: u8,
    error: u16,
}

const TS: u8 = 10;
const NP: u8 = 11;

/// What is wrong with the way there is an exception in the old task.
fn refusals(report: &mut Report) {
    for refusal in wrong_ways() {
        prepare();
        // SAFETY: the pages are ours.
        unsafe { (*(TASK_A as *mut Task32)).link = u32::from(SELECTOR_B) };
        let work = run(work(refusal.trigger, refusal.target));
        let found = (work.vector.wrapping_sub(1), work.error);
        let expected = (u32::from(refusal.vector), u32::from(refusal.error));
        let name = refusal.name;
        report.equal(name, found, expected);
        let what = tests::alloc::format!("{name}: in the old task");
        report.equal(what, work.old.task, u32::from(SELECTOR_A));
    }
}

fn wrong_ways() -> [Refusal; 5] {
    let way = |name, trigger, target, vector, error| Refusal {
        name,
        trigger,
        target,
        vector,
        error,
    };
    // Addresses of code only.
    let (jump, call) = (&raw const tasks_jump, &raw const tasks_call);
    let iret = &raw const tasks_return;
    let (absent, short) = (SELECTOR_ABSENT, SELECTOR_SHORT);
    [
        way("a jump to a busy task", jump, SELECTOR_A, GP, SELECTOR_A),
        way("a call to a busy task", call, SELECTOR_A, GP, SELECTOR_A),
        way("a jump to an absent task", jump, absent, NP, absent),
        way(
            "a jump to a state that is too short",
            jump,
            short,
            TS,
            short,
        ),
        way("IRET to a task that is not busy", iret, 0, TS, SELECTOR_B),
    ]
}

/// What is wrong, the error code, and how it is done.
type BadState = (&'static str, u16, fn(&mut Task32));

/// What is wrong with the new task's state is an exception in the new task,
/// whose handler must be a task: the new one may have no stack yet.
fn wrong_states(report: &mut Report) {
    let none = SELECTOR_NONE as u16;
    let states: [BadState; 4] = [
        ("an LDT that is none", SELECTOR_A, |task| {
            task.local = u32::from(SELECTOR_A);
        }),
        ("an LDT behind the table", none, |task| {
            task.local = SELECTOR_NONE;
        }),
        ("code that is data", SELECTOR_DATA as u16, |task| {
            task.segments[1] = SELECTOR_DATA;
        }),
        ("data behind the table", none, |task| {
            task.segments[3] = SELECTOR_NONE;
        }),
    ];
    for (name, error, spoil) in states {
        prepare();
        write_gate(usize::from(TS), u64::from(SELECTOR_16) << 16 | 0x8500 << 32);
        // SAFETY: the pages are ours.
        unsafe { spoil(&mut *(TASK_B as *mut Task32)) };
        let work = run(Work {
            way_back: 1,
            error_size: 2,
            ..work(&raw const tasks_jump, SELECTOR_B)
        });
        let found = (work.new.times, work.new.on_stack & 0xffff);
        report.equal(name, found, (1, u32::from(error)));
        let what = tests::alloc::format!("{name}: in the new task");
        report.equal(what, work.new.links[1] & 0xffff, u32::from(SELECTOR_B));
    }
}

fn offset(symbol: *const u8) -> u64 {
    let start = &raw const tasks_start;
    // SAFETY: both are in the block of code.
    unsafe { symbol.offset_from_unsigned(start) as u64 }
}

fn work(trigger: *const u8, target: u16) -> Work {
    Work {
        trigger: (BASE + offset(trigger)) as u32,
        way_back: 0,
        error_size: 0,
        skip: 0,
        target: [0, 0, target, 0],
        new: Found::default(),
        old: Found::default(),
        vector: 0,
        error: 0,
    }
}

/// Fills the pages anew.
fn prepare() {
    let size = offset(&raw const tasks_end) as usize;
    // SAFETY: the pages are ours.
    unsafe {
        core::ptr::write_bytes(BASE as *mut u8, 0, PAGES * 4096);
        core::ptr::copy_nonoverlapping(&raw const tasks_start, BASE as *mut u8, size);
        // Both map the first 4 MiB one to one, by one large page.
        (DIRECTORY_A as *mut u32).write(0x83);
        (DIRECTORY_B as *mut u32).write(0x83);
        ((STACK_B - 64) as *mut u32).write(ON_STACK);
    }
    segments();
    for vector in 0..32 {
        let handler = BASE + offset(&raw const tasks_vectors) + vector as u64 * 8;
        let low = handler & 0xffff | u64::from(SELECTOR_CODE) << 16;
        write_gate(vector, low | 0x8e00 << 32 | (handler >> 16) << 48);
    }
    states();
}

fn segments() {
    const FLAT_CODE: u64 = 0x00cf_9b00_0000_ffff;
    const FLAT_DATA: u64 = 0x00cf_9300_0000_ffff;
    let system = |base: u64, limit: u64, rights: u8| {
        limit & 0xffff | (base & 0xff_ffff) << 16 | u64::from(rights) << 40
    };
    // Code of 32 bits, a stack of 16.
    let at_base = |flags: u64, rights: u64| 0xffff | flags << 52 | rights << 40 | BASE << 16;
    let task = size_of::<Task32>() as u64 - 1;
    let task_16 = size_of::<Task16>() as u64 - 1;
    let gate = |task: u16| u64::from(task) << 16 | 0x8500 << 32;
    let entries = [
        0,
        0x00af_9b00_0000_ffff,
        FLAT_CODE,
        FLAT_DATA,
        system(TASK_A, task, AVAILABLE_32),
        system(TASK_B, task, AVAILABLE_32),
        system(TASK_16, task_16, AVAILABLE_16),
        gate(SELECTOR_B),
        system(LDT, 7, 0x82),
        system(TASK_B, task - 1, AVAILABLE_32),
        system(TASK_B, task, AVAILABLE_32 & !0x80),
        at_base(4, 0x9b),
        at_base(0, 0x93),
        gate(SELECTOR_16),
    ];
    // SAFETY: the pages are ours.
    unsafe {
        (GDT as *mut [u64; 14]).write(entries);
        (LDT as *mut u64).write(FLAT_DATA);
    }
}

fn states() {
    let data = SELECTOR_DATA;
    let local = SELECTOR_LOCAL;
    let b = Task32 {
        cr3: DIRECTORY_B as u32,
        eip: (BASE + offset(&raw const tasks_b)) as u32,
        flags: 0x46,
        general: PATTERN_B,
        segments: [data, SELECTOR_CODE, data, local, data, local],
        local: u32::from(SELECTOR_LDT),
        trap_and_ports: 0x68 << 16,
        ..Task32::default()
    };
    let a = Task32 {
        cr3: DIRECTORY_A as u32,
        trap_and_ports: 0x68 << 16,
        ..Task32::default()
    };
    let mut general = PATTERN_B.map(|value| value as u16);
    general[4] = (STACK_B - BASE) as u16 - 64;
    let b16 = Task16 {
        ip: offset(&raw const tasks_b) as u16,
        flags: 0x46,
        general,
        segments: [
            data as u16,
            SELECTOR_CODE_AT_BASE,
            SELECTOR_DATA_AT_BASE,
            local as u16,
        ],
        local: SELECTOR_LDT,
        ..Task16::default()
    };
    // SAFETY: the pages are ours.
    unsafe {
        (TASK_A as *mut Task32).write(a);
        (TASK_B as *mut Task32).write(b);
        (TASK_16 as *mut Task16).write(b16);
    }
}

fn write_gate(vector: usize, gate: u64) {
    // SAFETY: the table is ours and has room for 0x41 gates.
    unsafe { (IDT as *mut u64).add(vector).write(gate) };
}

unsafe fn set_rights(selector: u16, rights: u8) {
    // SAFETY: the table is ours.
    unsafe { ((GDT + u64::from(selector) + 5) as *mut u8).write(rights) };
}

fn run(work: Work) -> Work {
    let at = (BASE + offset(&raw const tasks_work)) as *mut Work;
    // SAFETY: the pages are ours; the code, called at their start, comes back
    // with the machine as it was.
    unsafe {
        at.write_unaligned(work);
        let enter: unsafe extern "sysv64" fn() = transmute(BASE);
        enter();
        at.read_unaligned()
    }
}

// Down as in the guest `real-mode`, but with paging on again.
global_asm!(
    r#"
    .macro tasks_record at
    mov [\at], eax
    mov [\at + 4], ecx
    mov [\at + 8], edx
    mov [\at + 12], ebx
    mov [\at + 16], esp
    mov [\at + 20], ebp
    mov [\at + 24], esi
    mov [\at + 28], edi
    pop eax
    push eax
    mov [\at + 76], eax
    pushfd
    pop eax
    mov [\at + 32], eax
    mov eax, cr0
    mov [\at + 36], eax
    mov eax, cr3
    mov [\at + 40], eax
    xor eax, eax
    str ax
    mov [\at + 44], eax
    sldt ax
    mov [\at + 48], eax
    mov ax, ds
    mov [\at + 52], eax
    mov ax, es
    mov [\at + 56], eax
    mov ax, fs
    mov [\at + 60], eax
    mov ax, gs
    mov [\at + 64], eax
    mov ax, ss
    mov [\at + 68], eax
    mov ax, cs
    mov [\at + 72], eax
    xor eax, eax
    mov al, [{gdt} + {a} + 5]
    mov [\at + 80], eax
    mov al, [{gdt} + {b} + 5]
    mov [\at + 84], eax
    mov al, [{gdt} + {b16} + 5]
    mov [\at + 88], eax
    mov eax, [{task_b}]
    mov [\at + 92], eax
    mov eax, [{task_16}]
    mov [\at + 96], eax
    inc dword ptr [\at + 100]
    clts
    .endm

    .balign 16
    .globl tasks_start
    .globl tasks_work
    .globl tasks_end
    .globl tasks_b
    .globl tasks_jump
    .globl tasks_call
    .globl tasks_interrupt
    .globl tasks_return
    .globl tasks_fault
    .globl tasks_undefined
    .globl tasks_breakpoint
    .globl tasks_vectors
tasks_start:
    .code64
    push rbx
    push rbp
    push r12
    push r13
    push r14
    push r15
    pushfq
    cli
    mov [rip + tasks_rsp], rsp
    mov rax, cr3
    mov [rip + tasks_cr3], eax
    mov rax, cr4
    mov [rip + tasks_cr4], eax
    mov rax, cr0
    mov [rip + tasks_cr0], eax
    sgdt [rip + tasks_gdt_before]
    sidt [rip + tasks_idt_before]
    mov eax, cs
    mov [rip + tasks_cs], eax
    mov eax, ss
    mov [rip + tasks_ss], eax
    lgdt [rip + tasks_gdtr]
    push 0x10
    lea rax, [rip + tasks_32]
    push rax
    retfq

    .code32
tasks_32:
    mov eax, 0x18
    mov ds, eax
    mov es, eax
    mov fs, eax
    mov gs, eax
    mov ss, eax
    mov esp, {stack_a}
    mov eax, cr0
    and eax, 0x7fffffff
    mov cr0, eax
    mov ecx, 0xc0000080
    rdmsr
    and eax, 0xfffffeff
    wrmsr
    mov eax, 0x10
    mov cr4, eax
    mov eax, {directory_a}
    mov cr3, eax
    mov eax, cr0
    or eax, 0x80000000
    mov cr0, eax
    lidt [{base} + at_idtr]
    xor eax, eax
    lldt ax
    mov eax, {a}
    ltr ax
    mov eax, 0xa0a00001
    mov ecx, 0xa0a00002
    mov edx, 0xa0a00003
    mov ebx, 0xa0a00004
    mov ebp, 0xa0a00006
    mov esi, 0xa0a00007
    mov edi, 0xa0a00008
    jmp dword ptr [{base} + at_work]

tasks_jump:
    jmp fword ptr [{base} + at_target]
    jmp tasks_resumed
tasks_call:
    call fword ptr [{base} + at_target]
    jmp tasks_resumed
tasks_interrupt:
    int 0x40
    jmp tasks_resumed
tasks_breakpoint:
    int3
    jmp tasks_resumed
tasks_undefined:
    ud2
    jmp tasks_resumed
tasks_fault:
    mov dword ptr [{base} + at_scratch], {none}
    mov es, [{base} + at_scratch]
    jmp tasks_resumed
tasks_return:
    pushfd
    or dword ptr [esp], 0x4000
    popfd
    iretd
    jmp tasks_resumed

    // The other task. It adds what A shall skip to A's saved instruction
    // pointer, throws an error code away, and goes back.
tasks_b:
    tasks_record {base}+at_new
    mov eax, [{base} + at_work + 12]
    add [{task_a} + 32], eax
    add esp, [{base} + at_work + 8]
    cmp dword ptr [{base} + at_work + 4], 0
    jne 2f
    iretd
    jmp tasks_b
2:  .byte 0xea
    .long 0
    .short {a}
    jmp tasks_b

    // An exception that is not a task's: vector, perhaps error code.
    .balign 8
tasks_vectors:
    .set tasks_vector, 0
    .rept 32
    push tasks_vector
    jmp tasks_excepted
    .balign 8
    .set tasks_vector, tasks_vector + 1
    .endr
tasks_excepted:
    pop ebx
    inc ebx
    pop ecx
    mov eax, 0x18
    mov ds, eax
    mov [{base} + at_vector], ebx
    mov [{base} + at_vector + 4], ecx
    mov es, eax
    mov ss, eax
    mov esp, {stack_a}

tasks_resumed:
    tasks_record {base}+at_old
    pushfd
    and dword ptr [esp], 0xffffbfff
    popfd
    mov eax, cr0
    and eax, 0x7fffffff
    mov cr0, eax
    mov eax, [{base} + at_cr4]
    mov cr4, eax
    mov eax, [{base} + at_cr3]
    mov cr3, eax
    mov ecx, 0xc0000080
    rdmsr
    or eax, 0x100
    wrmsr
    mov eax, [{base} + at_cr0]
    mov cr0, eax
    .byte 0xea
    .long {base} + tasks_64 - tasks_start
    .short 0x08

    .code64
tasks_64:
    lgdt [rip + tasks_gdt_before]
    lidt [rip + tasks_idt_before]
    mov rsp, [rip + tasks_rsp]
    mov eax, [rip + tasks_cs]
    push rax
    lea rax, [rip + 2f]
    push rax
    retfq
2:  mov eax, [rip + tasks_ss]
    mov ss, eax
    mov ds, eax
    mov es, eax
    mov fs, eax
    mov gs, eax
    popfq
    pop r15
    pop r14
    pop r13
    pop r12
    pop rbp
    pop rbx
    ret

    .balign 16
tasks_gdtr:
    .short 14 * 8 - 1
    .quad {gdt}
tasks_idtr:
    .short 0x41 * 8 - 1
    .long {idt}
tasks_gdt_before:
    .fill 10, 1, 0
tasks_idt_before:
    .fill 10, 1, 0
    .balign 8
tasks_rsp:
    .quad 0
tasks_cr0:
    .long 0
tasks_cr3:
    .long 0
tasks_cr4:
    .long 0
tasks_cs:
    .long 0
tasks_ss:
    .long 0
tasks_scratch:
    .long 0
tasks_work:
    .fill {work_size}, 1, 0
tasks_end:
    .set at_cr0, tasks_cr0 - tasks_start
    .set at_cr3, tasks_cr3 - tasks_start
    .set at_cr4, tasks_cr4 - tasks_start
    .set at_idtr, tasks_idtr - tasks_start
    .set at_scratch, tasks_scratch - tasks_start
    .set at_work, tasks_work - tasks_start
    .set at_target, at_work + {target}
    .set at_new, at_work + {new}
    .set at_old, at_work + {old}
    .set at_vector, at_work + {vector}
"#,
    base = const BASE,
    gdt = const GDT,
    idt = const IDT,
    a = const SELECTOR_A,
    b = const SELECTOR_B,
    b16 = const SELECTOR_16,
    none = const SELECTOR_NONE,
    task_a = const TASK_A,
    task_b = const TASK_B,
    task_16 = const TASK_16,
    stack_a = const STACK_A,
    directory_a = const DIRECTORY_A,
    work_size = const size_of::<Work>(),
    target = const offset_of!(Work, target),
    new = const offset_of!(Work, new),
    old = const offset_of!(Work, old),
    vector = const offset_of!(Work, vector),
);
