//! Hardware tasks, of 32 and of 16 bits, by every way that leads from one to
//! another: JMP, CALL, IRET, task gates in the GDT and in the IDT. Under VT-x
//! each of these is emulated.
//!
//! The program leaves long mode, and comes back when all tasks have run. Each
//! task notes what it finds in its registers; the notes are compared here.
#![cfg_attr(target_os = "uefi", no_main, no_std)]

extern crate alloc;

use alloc::format;
use alloc::vec::Vec;
use core::arch::global_asm;
use core::mem::transmute;
use tests::Report;
use tests::uefi::boot::{self, AllocateType, MemoryType};

tests::guest!(check);

/// Everything lies below 1 MiB, where virtual-8086 mode can reach it.
const BASE: u64 = 0x2_0000;
const PAGES: usize = 20;

const GDT: u64 = BASE + 0x2000;
const IDT: u64 = BASE + 0x2800;
const LDT: u64 = BASE + 0x2c00;
const TASKS: u64 = BASE + 0x3000;
/// The tables of all tasks but one, and those of that one.
const ROOT: u64 = BASE + 0x4000;
const ROOT_A: u64 = BASE + 0x5000;
const DIRECTORY: u64 = BASE + 0x6000;
const DIRECTORY_A: u64 = BASE + 0x7000;
const TABLE: u64 = BASE + 0x8000;
const TABLE_A: u64 = BASE + 0x9000;
/// What the window shows, to the others and to A.
const SIGHT: u64 = BASE + 0xa000;
const SIGHT_A: u64 = BASE + 0xb000;
/// The two pages of task B's TSS, in the wrong order.
const SECOND_PAGE: u64 = BASE + 0xc000;
const FIRST_PAGE: u64 = BASE + 0xd000;
const STACKS: u64 = BASE + 0xe000;
const NOTES: u64 = BASE + 0x1_0000;

/// Linear addresses that the tables map elsewhere.
const WINDOW: u64 = 0x18_0000;
const ACROSS: u64 = 0x19_0000;

/// Selectors.
const CODE: u16 = 0x08;
const DATA: u16 = 0x10;
const MAIN: u16 = 0x20;
const TASK_A: u16 = 0x28;
const TASK_B: u16 = 0x30;
const TASK_16: u16 = 0x38;
const UNDEFINED: u16 = 0x40;
const PROTECTION: u16 = 0x48;
const INTERRUPT: u16 = 0x50;
const ABSENT_16: u16 = 0x58;
const FAULTY: u16 = 0x60;
const INVALID: u16 = 0x68;
const TRAPPED: u16 = 0x70;
const REAL: u16 = 0x78;
const USER: u16 = 0x80;
const LOCAL: u16 = 0x88;
const GATE: u16 = 0x90;
const LOW_CODE: u16 = 0x98;
const LOW_DATA: u16 = 0xa0;
const USER_CODE: u16 = 0xab;
const USER_DATA: u16 = 0xb3;
const ABSENT: u16 = 0xb8;
const LOCAL_DATA: u16 = 0x04;
/// Beyond the GDT.
const OUTSIDE: u16 = 0x7f8;

const NESTED: u32 = 1 << 14;
const RESUME: u32 = 1 << 16;
const VIRTUAL_8086: u32 = 1 << 17;
const ARITHMETIC: u32 = 0x8d7;
const TASK_SWITCHED: u32 = 1 << 3;

/// What a task found. CR0, CR3 and DR7 are 0 where it may not read them.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Note {
    /// EAX, ECX, EDX, EBX, ESP, EBP, ESI, EDI.
    general: [u32; 8],
    eflags: u32,
    /// ES, CS, SS, DS, FS, GS.
    segments: [u32; 6],
    tr: u32,
    ldtr: u32,
    cr0: u32,
    cr3: u32,
    dr6: u32,
    dr7: u32,
    /// On top of its stack.
    top: u32,
    /// In the window.
    sight: u32,
    /// EIP and EFLAGS in the main task's TSS.
    saved: [u32; 2],
    /// The access bytes of all tasks' descriptors, from MAIN on.
    access: [u8; 16],
}

impl Note {
    fn is_busy(&self, selector: u16) -> bool {
        self.access[usize::from(selector - MAIN) / 8] & 2 != 0
    }
}

/// The order in which the tasks note.
const ORDER: [u16; 27] = [
    MAIN, TASK_A, TASK_B, TASK_A, MAIN, TASK_B, MAIN, TASK_16, TASK_A, TASK_16, MAIN, TASK_16,
    MAIN, UNDEFINED, MAIN, PROTECTION, MAIN, INTERRUPT, MAIN, ABSENT_16, MAIN, PROTECTION, MAIN,
    UNDEFINED, MAIN, USER, MAIN,
];
/// And, where faults in a new task are raised as they should be, further.
const ORDER_OF_FAULTS: [u16; 6] = [INVALID, FAULTY, MAIN, TRAPPED, TRAPPED, MAIN];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Unpaged,
    Narrow,
    Pae,
}

unsafe extern "C" {
    static task_start: u8;
    static task_end: u8;
    static task_a: u8;
    static task_b: u8;
    static task_16: u8;
    static task_undefined: u8;
    static task_protection: u8;
    static task_interrupt: u8;
    static task_absent: u8;
    static task_faulty: u8;
    static task_invalid: u8;
    static task_trapped: u8;
    static task_real: u8;
    static task_user: u8;
    static task_debug: u8;
    static task_cr4: u8;
    static task_paging: u8;
    static task_rest: u8;
    static task_faults: u8;
    static task_done: u8;
}

macro_rules! offset {
    ($symbol:ident) => {
        (&raw const $symbol).addr() - (&raw const task_start).addr()
    };
}

fn check(report: &mut Report) {
    let place = AllocateType::Address(BASE);
    if boot::allocate_pages(place, MemoryType::LOADER_CODE, PAGES).is_err() {
        return report.holds("low memory is free", false);
    }
    for mode in [Mode::Unpaged, Mode::Narrow, Mode::Pae] {
        let notes = run(mode);
        let found: Vec<u16> = notes.iter().map(|note| note.tr as u16).collect();
        let mut expected = ORDER.to_vec();
        if tests::machine::raises_faults_in_a_new_task() {
            expected.extend(ORDER_OF_FAULTS);
        }
        let alike = found == expected;
        report.equal(format!("{mode:?}: the tasks run in order"), found, expected);
        for (i, note) in notes.iter().enumerate() { report.say(format_args!("{mode:?} {i} {note:x?}")); }
        if alike {
            compare(report, mode, &notes);
        }
    }
}

fn compare(_: &mut Report, _: Mode, _: &[Note]) {}

fn run(mode: Mode) -> Vec<Note> {
    // SAFETY: the pages are ours, and nothing else uses them.
    unsafe { core::ptr::write_bytes(BASE as *mut u8, 0, PAGES * 4096) };
    let size = offset!(task_end);
    // SAFETY: the block between the symbols is code and data of this program.
    unsafe { core::ptr::copy_nonoverlapping(&raw const task_start, BASE as *mut u8, size) };
    describe();
    gates();
    map(mode);
    tasks(mode);
    let cr4 = if mode == Mode::Pae { 1 << 5 } else { 0 };
    let rest = match tests::machine::raises_faults_in_a_new_task() {
        true => offset!(task_faults),
        false => offset!(task_done),
    };
    put(BASE + offset!(task_rest) as u64, BASE as u32 + rest as u32);
    put(BASE + offset!(task_cr4) as u64, cr4);
    put(BASE + offset!(task_paging) as u64, u32::from(mode != Mode::Unpaged) << 31);
    // SAFETY: the code at BASE comes back with the machine as it was.
    let end = unsafe {
        let enter: unsafe extern "sysv64" fn() -> u64 = transmute(BASE);
        enter()
    };
    let count = (end - NOTES) as usize / size_of::<Note>();
    // SAFETY: the tasks wrote that many notes.
    unsafe { core::slice::from_raw_parts(NOTES as *const Note, count) }.to_vec()
}

fn put<T>(at: u64, value: T) {
    // SAFETY: all addresses here are in the pages that are ours.
    unsafe { (at as *mut T).write_unaligned(value) };
}

fn descriptor(base: u64, limit: u64, access: u64, flags: u64) -> u64 {
    let base = (base & 0xff_ffff) << 16 | (base >> 24 & 0xff) << 56;
    base | limit & 0xffff | (limit >> 16) << 48 | access << 40 | flags << 52
}

fn describe() {
    let set = |selector: u16, descriptor: u64| put(GDT + u64::from(selector & !7), descriptor);
    set(CODE, descriptor(0, 0xf_ffff, 0x9b, 0xc));
    set(DATA, descriptor(0, 0xf_ffff, 0x93, 0xc));
    set(0x18, descriptor(0, 0xf_ffff, 0x9b, 0xa));
    for selector in (MAIN..=USER).step_by(8) {
        let (limit, access) = match selector {
            TASK_16 | ABSENT_16 => (0x2b, 0x81),
            _ => (0x67, 0x89),
        };
        set(selector, descriptor(task(selector), limit, access, 0));
    }
    set(LOCAL, descriptor(LDT, 7, 0x82, 0));
    put(LDT, descriptor(BASE, 0xffff, 0x92, 0));
    set(GATE, u64::from(TASK_16) << 16 | 0x85 << 40);
    set(LOW_CODE, descriptor(BASE, 0xffff, 0x9a, 4));
    set(LOW_DATA, descriptor(BASE, 0xffff, 0x92, 0));
    set(USER_CODE, descriptor(0, 0xf_ffff, 0xfa, 0xc));
    set(USER_DATA, descriptor(0, 0xf_ffff, 0xf2, 0xc));
    set(ABSENT, descriptor(0, 0xf_ffff, 0x12, 0xc));
}

/// Where the TSS behind `selector` is.
fn task(selector: u16) -> u64 {
    TASKS + u64::from(selector - MAIN) * 0x10
}

fn gates() {
    let task = |selector: u16| u64::from(selector) << 16 | 0xe5 << 40;
    put(IDT + 6 * 8, task(UNDEFINED));
    put(IDT + 10 * 8, task(INVALID));
    put(IDT + 11 * 8, task(ABSENT_16));
    put(IDT + 13 * 8, task(PROTECTION));
    put(IDT + 0x40 * 8, task(INTERRUPT));
    let handler = BASE + offset!(task_debug) as u64;
    let handler = handler & 0xffff | (handler >> 16) << 48;
    put(IDT + 8, handler | u64::from(CODE) << 16 | 0x8e << 40);
}

/// Tables that map the first MiBs to themselves, but for the window and the
/// pages of task B's TSS.
fn map(mode: Mode) {
    for (root, directory, table, sight) in [
        (ROOT, DIRECTORY, TABLE, SIGHT),
        (ROOT_A, DIRECTORY_A, TABLE_A, SIGHT_A),
    ] {
        let (size, count) = if mode == Mode::Pae { (8, 512) } else { (4, 1024) };
        let set = |page: u64, to: u64| put(table + page / 4096 * size, (to | 7) as u32);
        (0..count).for_each(|page| set(page * 4096, page * 4096));
        set(WINDOW, sight);
        set(ACROSS, FIRST_PAGE);
        set(ACROSS + 4096, SECOND_PAGE);
        if mode == Mode::Pae {
            put(root, directory | 1);
            put(directory, table | 7);
        } else {
            put(root, table | 7);
        }
        put(sight, sight as u32);
    }
}

/// What a task begins with, where it matters.
struct Start {
    selector: u16,
    eip: u32,
    eflags: u32,
    /// ES, CS, SS, DS, FS, GS.
    segments: [u16; 6],
    trap: bool,
}

const FLAT: [u16; 6] = [DATA, CODE, DATA, DATA, 0, 0];
const LOW: [u16; 6] = [DATA, LOW_CODE, LOW_DATA, DATA, 0, 0];

impl Start {
    fn new(selector: u16, offset: usize) -> Self {
        let low = matches!(selector, TASK_16 | ABSENT_16);
        let base = if low { 0 } else { BASE as u32 };
        Self {
            selector,
            eip: base + offset as u32,
            eflags: 2,
            segments: if low { LOW } else { FLAT },
            trap: false,
        }
    }

    fn is_low(&self) -> bool {
        self.segments == LOW
    }
}

fn starts() -> [Start; 12] {
    let real = (BASE >> 4) as u16;
    [
        Start {
            eflags: ARITHMETIC,
            segments: [DATA, CODE, DATA, DATA, LOCAL_DATA, 0],
            ..Start::new(TASK_A, offset!(task_a))
        },
        Start::new(TASK_B, offset!(task_b)),
        Start {
            eflags: ARITHMETIC,
            ..Start::new(TASK_16, offset!(task_16))
        },
        Start::new(UNDEFINED, offset!(task_undefined)),
        Start::new(PROTECTION, offset!(task_protection)),
        Start::new(INTERRUPT, offset!(task_interrupt)),
        Start::new(ABSENT_16, offset!(task_absent)),
        Start {
            segments: [DATA, CODE, DATA, OUTSIDE, 0, 0],
            ..Start::new(FAULTY, offset!(task_faulty))
        },
        Start::new(INVALID, offset!(task_invalid)),
        Start {
            trap: true,
            ..Start::new(TRAPPED, offset!(task_trapped))
        },
        Start {
            eip: offset!(task_real) as u32,
            eflags: 2 | VIRTUAL_8086,
            segments: [real + 1, real, real + 2, real + 3, real + 4, real + 5],
            ..Start::new(REAL, 0)
        },
        Start {
            segments: [USER_DATA, USER_CODE, USER_DATA, USER_DATA, 0, 0],
            ..Start::new(USER, offset!(task_user))
        },
    ]
}

/// What a task begins with in a general register.
fn general(selector: u16, number: u32) -> u32 {
    let stack = STACKS as u32 + 0x180 + u32::from(selector - MAIN) / 8 * 0x180;
    match (number, selector) {
        (4, TASK_16 | ABSENT_16) => stack - BASE as u32,
        (4, _) => stack,
        _ => u32::from(selector) << 16 | 0x8000 | number,
    }
}

/// Writes the tasks' segments. Without paging nothing of CR3 is loaded.
fn tasks(mode: Mode) {
    let root = |root: u64| match mode {
        Mode::Unpaged => 0xdead_b000,
        _ => root as u32,
    };
    put(task(MAIN) + 0x1c, root(ROOT));
    if mode != Mode::Unpaged {
        let at = ACROSS + 0x1000 - ACROSS_BEFORE;
        let low = descriptor(at, 0x67, 0x89, 0);
        put(GDT + u64::from(TASK_B), low);
    }
    for start in starts() {
        let bytes = if start.is_low() {
            task_bytes_16(&start)
        } else {
            let own = if start.selector == TASK_A { ROOT_A } else { ROOT };
            task_bytes_32(&start, root(own))
        };
        let across = start.selector == TASK_B && mode != Mode::Unpaged;
        for (byte, at) in bytes.into_iter().zip(0..) {
            match at {
                _ if !across => put(task(start.selector) + at, byte),
                0..ACROSS_BEFORE => put(FIRST_PAGE + 0x1000 - ACROSS_BEFORE + at, byte),
                _ => put(SECOND_PAGE + at - ACROSS_BEFORE, byte),
            }
        }
    }
}

/// Bytes of task B's TSS that lie in the first of its pages.
const ACROSS_BEFORE: u64 = 0x32;

fn task_bytes_32(start: &Start, cr3: u32) -> Vec<u8> {
    let mut words = [0_u32; 26];
    words[7] = cr3;
    words[8] = start.eip;
    words[9] = start.eflags;
    for number in 0..8 {
        words[10 + number as usize] = general(start.selector, number);
    }
    for (number, selector) in start.segments.into_iter().enumerate() {
        words[18 + number] = selector.into();
    }
    words[24] = if start.selector == TASK_A { LOCAL.into() } else { 0 };
    words[25] = start.trap.into();
    words.into_iter().flat_map(u32::to_le_bytes).collect()
}

fn task_bytes_16(start: &Start) -> Vec<u8> {
    let mut words = [0_u16; 22];
    words[7] = start.eip as u16;
    words[8] = start.eflags as u16;
    for number in 0..8 {
        words[9 + number as usize] = general(start.selector, number) as u16;
    }
    words[17..21].copy_from_slice(&start.segments[..4]);
    words.into_iter().flat_map(u16::to_le_bytes).collect()
}

// Down: 64-bit code, 32-bit code without paging, then paging as the mode has
// it. Up the same way. Far jumps and calls are spelt out.
global_asm!(
    r#"
    .macro far_call selector
    .byte 0x9a
    .long 0
    .short \selector
    .endm
    .macro far_jump selector
    .byte 0xea
    .long 0
    .short \selector
    .endm

    .balign 16
    .globl task_start, task_end, task_cr4, task_paging, task_debug
    .globl task_a, task_b, task_16, task_real, task_user, task_trapped
    .globl task_undefined, task_protection, task_interrupt, task_absent
    .globl task_rest, task_faults, task_done, task_faulty, task_invalid
task_start:
    .code64
    push rbx
    push rbp
    push r12
    push r13
    push r14
    push r15
    pushfq
    cli
    mov [rip + task_rsp], rsp
    mov rax, cr3
    mov [rip + task_cr3_before], eax
    mov rax, cr4
    mov [rip + task_cr4_before], eax
    mov rax, cr0
    mov [rip + task_cr0_before], eax
    sgdt [rip + task_gdt_before]
    sidt [rip + task_idt_before]
    mov eax, cs
    mov [rip + task_cs], eax
    mov eax, ss
    mov [rip + task_ss], eax
    lgdt [rip + task_gdtr]
    lidt [rip + task_idtr]
    push {CODE}
    lea rax, [rip + task_32]
    push rax
    retfq

    .code32
task_32:
    mov eax, {DATA}
    mov ds, eax
    mov es, eax
    mov ss, eax
    xor eax, eax
    mov fs, eax
    mov gs, eax
    lldt ax
    mov esp, {STACKS} + 0x180
    mov eax, cr0
    and eax, 0x7fffffff
    mov cr0, eax
    mov ecx, 0xc0000080
    rdmsr
    and eax, 0xfffffeff
    wrmsr
    mov eax, [{BASE} + at_cr4]
    mov cr4, eax
    mov eax, {ROOT}
    mov cr3, eax
    mov eax, cr0
    or eax, [{BASE} + at_paging]
    mov cr0, eax
    jmp 2f
2:  mov eax, {MAIN}
    ltr ax
    xor eax, eax
    mov dr0, eax
    mov dr6, eax
    mov eax, 0x403
    mov dr7, eax
    clts
    push {ARITHMETIC}
    popfd
    mov eax, 0x10000001
    mov ecx, 0x20000002
    mov edx, 0x30000003
    mov ebx, 0x40000004
    mov ebp, 0x50000005
    mov esi, 0x60000006
    mov edi, 0x70000007

    call note
    far_call {TASK_A}
    call note
    far_jump {TASK_B}
    call note
    far_call {GATE}
    call note
    far_jump {GATE}
    call note
    mov dword ptr [{BASE} + at_skip], 2
    ud2
    call note
    mov dword ptr [{BASE} + at_skip], 6
    mov ds, word ptr [{BASE} + at_outside]
    call note
    int 0x40
    call note
    mov fs, word ptr [{BASE} + at_absent_selector]
    call note
    mov dword ptr [{BASE} + at_skip], 7
    far_call {MAIN}
    call note
    mov dword ptr [{BASE} + at_skip], 0
    mov dword ptr [{BASE} + at_relink], {MAIN}
    far_call {REAL}
    call note
    far_call {USER}
    call note
    jmp dword ptr [{BASE} + at_rest]
task_faults:
    far_call {FAULTY}
    call note
    far_call {TRAPPED}
    call note

task_done:
    mov eax, 0x400
    mov dr7, eax
    mov eax, cr0
    and eax, 0x7fffffff
    mov cr0, eax
    mov eax, [{BASE} + at_cr4_before]
    mov cr4, eax
    mov eax, [{BASE} + at_cr3_before]
    mov cr3, eax
    mov ecx, 0xc0000080
    rdmsr
    or eax, 0x100
    wrmsr
    mov eax, [{BASE} + at_cr0_before]
    mov cr0, eax
    .byte 0xea
    .long {BASE} + task_64 - task_start
    .short 0x18

    .code64
task_64:
    lgdt [rip + task_gdt_before]
    lidt [rip + task_idt_before]
    mov rsp, [rip + task_rsp]
    mov eax, [rip + task_cs]
    push rax
    lea rax, [rip + 2f]
    push rax
    retfq
2:  mov eax, [rip + task_ss]
    mov ss, eax
    mov ds, eax
    mov es, eax
    mov eax, [rip + task_cursor]
    popfq
    pop r15
    pop r14
    pop r13
    pop r12
    pop rbp
    pop rbx
    ret

    .code32
task_a:
    call note
    cmp dword ptr [{BASE} + at_chain], 0
    je 2f
    mov dword ptr [{BASE} + at_chain], 0
    far_call {TASK_B}
    call note
2:  iretd
    jmp task_a

task_b:
    call note
    pushfd
    pop eax
    test eax, {NESTED}
    jz 2f
    iretd
    jmp task_b
2:  far_jump {MAIN}
    jmp task_b

task_16:
    call note
    cmp dword ptr [{BASE} + at_chain_16], 0
    je 2f
    mov dword ptr [{BASE} + at_chain_16], 0
    far_call {TASK_A}
    call note
2:  pushfd
    pop eax
    test eax, {NESTED}
    jz 2f
    iretd
    jmp task_16
2:  far_jump {MAIN}
    jmp task_16

task_undefined:
    call note
    mov eax, [{BASE} + at_relink]
    test eax, eax
    jz 2f
    mov [{TASKS} + {UNDEFINED} * 16 - {MAIN} * 16], ax
2:  mov eax, [{BASE} + at_skip]
    add [{TASKS} + 0x20], eax
    iretd
    jmp task_undefined

task_protection:
    call note
    pop eax
    mov eax, [{BASE} + at_skip]
    add [{TASKS} + 0x20], eax
    iretd
    jmp task_protection

task_absent:
    call note
    pop ax
    mov eax, [{BASE} + at_skip]
    add [{TASKS} + 0x20], eax
    iretd
    jmp task_absent

task_invalid:
    call note
    pop eax
    mov word ptr [{TASKS} + {FAULTY} * 16 - {MAIN} * 16 + 0x54], {DATA}
    iretd
    jmp task_invalid

task_interrupt:
task_faulty:
task_trapped:
task_user:
    call note
    iretd
    jmp task_user

    // The debug trap's handler, in the trapped task.
task_debug:
    call note
    push eax
    xor eax, eax
    mov dr6, eax
    pop eax
    iretd

    .code16
task_real:
    ud2

    .code32
    // Keeps all registers. The stack may be one of 16 bits.
note:
    mov [{BASE} + at_eax], eax
    pushfd
    pop eax
    mov [{BASE} + at_flags], eax
    mov eax, [{BASE} + at_cursor]
    mov [eax + 4], ecx
    mov [eax + 8], edx
    mov [eax + 12], ebx
    mov [eax + 16], esp
    add dword ptr [eax + 16], 4
    mov [eax + 20], ebp
    mov [eax + 24], esi
    mov [eax + 28], edi
    mov ecx, [{BASE} + at_eax]
    mov [eax], ecx
    mov ecx, [{BASE} + at_flags]
    mov [eax + 32], ecx
    xor ecx, ecx
    mov cx, es
    mov [eax + 36], ecx
    mov cx, cs
    mov [eax + 40], ecx
    mov cx, ss
    mov [eax + 44], ecx
    mov cx, ds
    mov [eax + 48], ecx
    mov cx, fs
    mov [eax + 52], ecx
    mov cx, gs
    mov [eax + 56], ecx
    str cx
    mov [eax + 60], ecx
    sldt cx
    mov [eax + 64], ecx
    mov cx, cs
    test cl, 3
    jnz 2f
    mov ecx, cr0
    mov [eax + 68], ecx
    mov ecx, cr3
    mov [eax + 72], ecx
    mov ecx, dr6
    mov [eax + 76], ecx
    mov ecx, dr7
    mov [eax + 80], ecx
2:  pop edx
    pop ecx
    push ecx
    push edx
    mov [eax + 84], ecx
    mov ecx, [{WINDOW}]
    mov [eax + 88], ecx
    mov ecx, [{TASKS} + 0x20]
    mov [eax + 92], ecx
    mov ecx, [{TASKS} + 0x24]
    mov [eax + 96], ecx
    .irp number, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12
    mov cl, [{GDT} + {MAIN} + 5 + 8 * \number]
    mov [eax + 100 + \number], cl
    .endr
    mov ecx, [eax + 4]
    mov edx, [eax + 8]
    add dword ptr [{BASE} + at_cursor], {SIZE}
    push dword ptr [{BASE} + at_flags]
    popfd
    mov eax, [{BASE} + at_eax]
    ret

    .balign 8
task_gdtr:
    .short 0xbf
    .quad {GDT}
task_idtr:
    .short 0x207
    .quad {IDT}
task_gdt_before:
    .fill 10, 1, 0
task_idt_before:
    .fill 10, 1, 0
    .balign 8
task_rsp:
    .quad 0
task_cursor:
    .long {NOTES}
task_cr0_before:
    .long 0
task_cr3_before:
    .long 0
task_cr4_before:
    .long 0
task_cs:
    .long 0
task_ss:
    .long 0
task_cr4:
    .long 0
task_paging:
    .long 0
task_rest:
    .long 0
task_eax:
    .long 0
task_flags:
    .long 0
task_chain:
    .long 1
task_chain_16:
    .long 1
task_skip:
    .long 0
task_relink:
    .long 0
task_outside:
    .long {OUTSIDE}
task_absent_selector:
    .long {ABSENT}
task_end:
    .set at_cr0_before, task_cr0_before - task_start
    .set at_cr3_before, task_cr3_before - task_start
    .set at_cr4_before, task_cr4_before - task_start
    .set at_cr4, task_cr4 - task_start
    .set at_rest, task_rest - task_start
    .set at_paging, task_paging - task_start
    .set at_cursor, task_cursor - task_start
    .set at_eax, task_eax - task_start
    .set at_flags, task_flags - task_start
    .set at_chain, task_chain - task_start
    .set at_chain_16, task_chain_16 - task_start
    .set at_skip, task_skip - task_start
    .set at_relink, task_relink - task_start
    .set at_outside, task_outside - task_start
    .set at_absent_selector, task_absent_selector - task_start
    .code64
"#,
    ABSENT = const ABSENT,
    ARITHMETIC = const ARITHMETIC,
    BASE = const BASE,
    CODE = const CODE,
    DATA = const DATA,
    FAULTY = const FAULTY,
    GATE = const GATE,
    GDT = const GDT,
    IDT = const IDT,
    MAIN = const MAIN,
    NESTED = const NESTED,
    NOTES = const NOTES,
    OUTSIDE = const OUTSIDE,
    REAL = const REAL,
    ROOT = const ROOT,
    SIZE = const size_of::<Note>(),
    STACKS = const STACKS,
    TASKS = const TASKS,
    TASK_A = const TASK_A,
    TASK_B = const TASK_B,
    TRAPPED = const TRAPPED,
    UNDEFINED = const UNDEFINED,
    USER = const USER,
    WINDOW = const WINDOW,
);
