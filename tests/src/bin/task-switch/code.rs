//! The code of all tasks, and of the way to them and back.

use crate::layout::*;
use crate::notes::Note;
use core::arch::global_asm;

unsafe extern "C" {
    pub static task_start: u8;
    pub static task_end: u8;
    pub static task_a: u8;
    pub static task_b: u8;
    pub static task_16: u8;
    pub static task_undefined: u8;
    pub static task_protection: u8;
    pub static task_interrupt: u8;
    pub static task_absent: u8;
    pub static task_faulty: u8;
    pub static task_invalid: u8;
    pub static task_trapped: u8;
    pub static task_real: u8;
    pub static task_user: u8;
    pub static task_debug: u8;
    pub static task_cr4: u8;
    pub static task_paging: u8;
    pub static task_rest: u8;
    pub static task_faults: u8;
    pub static task_done: u8;
}

/// Where a symbol is in the code.
macro_rules! offset {
    ($symbol:ident) => {
        (&raw const $crate::code::$symbol).addr() - (&raw const $crate::code::task_start).addr()
    };
}

pub(crate) use offset;

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
    .irp field, 0x4c, 0x50, 0x60
    mov word ptr [{TASKS} + {FAULTY} * 16 - {MAIN} * 16 + \field], {OUTSIDE}
    far_call {FAULTY}
    call note
    .endr
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
    mov word ptr [{TASKS} + {FAULTY} * 16 - {MAIN} * 16 + 0x4c], {CODE}
    mov word ptr [{TASKS} + {FAULTY} * 16 - {MAIN} * 16 + 0x50], {DATA}
    mov word ptr [{TASKS} + {FAULTY} * 16 - {MAIN} * 16 + 0x54], {DATA}
    mov word ptr [{TASKS} + {FAULTY} * 16 - {MAIN} * 16 + 0x60], 0
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
