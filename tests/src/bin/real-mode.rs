//! The guest goes down to 32-bit protected mode and to real mode and comes
//! back: calls, CPUID and refused MSRs work there as each mode has it, real
//! mode's faults without an error code.
#![cfg_attr(target_os = "uefi", no_main, no_std)]

use core::arch::global_asm;
use core::mem::transmute;
use tests::uefi::boot::{self, AllocateType, MemoryType};
use tests::{Report, cpu};

tests::guest!(check);

/// Where the code runs: below 1 MiB, at the start of a real-mode segment.
const BASE: u64 = 0x2_0000;
const PAGES: usize = 2;

/// What the code works on, at the end of the copied block.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Findings {
    /// In: an MSR that the hypervisor refuses.
    msr: u32,
    /// In: 0 for VMCALL, 1 for VMMCALL.
    instruction: u32,
    /// Out: EAX of `ping` in 32-bit protected mode, with rubbish in what would
    /// be RAX' upper half.
    ping_32: u32,
    /// Out: EBX of CPUID leaf 0x40000000 in real mode.
    leaf: u32,
    /// Out: EAX of `ping` in real mode.
    ping_16: u32,
    /// Out: #GP in real mode.
    faults: u32,
    /// Out: the stack pointer after all that, less the one before.
    stack: u32,
}

unsafe extern "C" {
    static real_start: u8;
    static real_findings: u8;
    static real_end: u8;
}

fn check(report: &mut Report) {
    let place = AllocateType::Address(BASE);
    if boot::allocate_pages(place, MemoryType::LOADER_CODE, PAGES).is_err() {
        return report.holds("low memory is free", false);
    }
    let intel = cpu::is_intel();
    // IA32_VMX_BASIC, or VM_HSAVE_PA: absent without VMX and SVM.
    let msr = if intel { 0x480 } else { 0xc001_0117 };
    let found = run(msr, u32::from(!intel));
    report.equal("ping in 32-bit mode", found.ping_32, abi::call::VERSION);
    report.equal("ping in real mode", found.ping_16, abi::call::VERSION);
    let [signature, ..] = abi::discovery::signature_registers();
    report.equal("CPUID in real mode", found.leaf, signature);
    report.equal(
        "a refused RDMSR in real mode raised #GP once",
        found.faults,
        1,
    );
    report.equal(
        "and left the stack as an interrupt without error code does",
        found.stack,
        0,
    );
    report.holds("64-bit mode works as before", tests::call::alive());
}

fn run(msr: u32, instruction: u32) -> Findings {
    // SAFETY: the block between the symbols is code and data of this program;
    // the two pages are ours; the code, called at their start, comes back with
    // the machine as it was.
    unsafe {
        let start = &raw const real_start;
        let size = (&raw const real_end).offset_from_unsigned(start);
        let findings = (&raw const real_findings).offset_from_unsigned(start) as u64;
        core::ptr::copy_nonoverlapping(start, BASE as *mut u8, size);
        let findings = (BASE + findings) as *mut Findings;
        (*findings).msr = msr;
        (*findings).instruction = instruction;
        let enter: unsafe extern "sysv64" fn() = transmute(BASE);
        enter();
        findings.read_volatile()
    }
}

// Down: 64-bit code, 32-bit code without paging, 16-bit code, real mode. Up:
// 32-bit code, 64-bit code. Segments 0x08 to 0x18 are flat; 0x20 and 0x28 begin
// at BASE, as real mode's do. Far jumps are spelt out. Intel SDM volume 3,
// "Switching Out of Protected Mode" and "Initializing IA-32e Mode".
global_asm!(
    r#"
    .balign 16
    .globl real_start
    .globl real_findings
    .globl real_end
real_start:
    .code64
    push rbx
    push rbp
    push r12
    push r13
    push r14
    push r15
    pushfq
    cli
    mov [rip + real_rsp], rsp
    mov rax, cr3
    mov [rip + real_cr3], eax
    mov rax, cr4
    mov [rip + real_cr4], eax
    mov rax, cr0
    mov [rip + real_cr0], eax
    sgdt [rip + real_gdt_before]
    sidt [rip + real_idt_before]
    mov eax, cs
    mov [rip + real_cs], eax
    mov eax, ss
    mov [rip + real_ss], eax
    lgdt [rip + real_gdtr]
    push 0x10
    lea rax, [rip + real_32]
    push rax
    retfq

    .code32
real_32:
    mov eax, 0x18
    mov ds, eax
    mov es, eax
    mov ss, eax
    mov eax, cr0
    and eax, 0x7fffffff
    mov cr0, eax
    mov ecx, 0xc0000080
    rdmsr
    and eax, 0xfffffeff
    wrmsr
    mov eax, 1
    cmp dword ptr [{base} + at_instruction], 0
    jne 2f
    vmcall
    jmp 3f
2:  vmmcall
3:  mov [{base} + at_ping_32], eax
    .byte 0xea
    .long real_16 - real_start
    .short 0x20

    .code16
real_16:
    mov ax, 0x28
    mov ds, ax
    mov es, ax
    mov ss, ax
    mov eax, cr0
    and al, 0xfe
    mov cr0, eax
    .byte 0xea
    .short real_mode - real_start
    .short {base} / 16
real_mode:
    mov ax, {base} / 16
    mov ds, ax
    mov es, ax
    mov ss, ax
    mov sp, 0x1ff0
    lidt [at_vectors_register]
    mov ecx, [at_msr]
    rdmsr
    mov eax, 0x40000000
    cpuid
    mov [at_leaf], ebx
    mov eax, 1
    cmp dword ptr [at_instruction], 0
    jne 2f
    vmcall
    jmp 3f
2:  vmmcall
3:  mov [at_ping_16], eax
    xor eax, eax
    mov ax, sp
    sub ax, 0x1ff0
    mov [at_stack], eax
    mov eax, cr0
    or al, 1
    mov cr0, eax
    .byte 0x66, 0xea
    .long {base} + real_back - real_start
    .short 0x10

    // A fault pushes FLAGS, CS and IP; the instruction has two bytes.
real_fault:
    inc dword ptr [at_faults]
    push bp
    mov bp, sp
    add word ptr [bp + 2], 2
    pop bp
    iret

    .code32
real_back:
    mov eax, 0x18
    mov ds, eax
    mov es, eax
    mov ss, eax
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
    .long {base} + real_64 - real_start
    .short 0x08

    .code64
real_64:
    lgdt [rip + real_gdt_before]
    lidt [rip + real_idt_before]
    mov rsp, [rip + real_rsp]
    mov eax, [rip + real_cs]
    push rax
    lea rax, [rip + 2f]
    push rax
    retfq
2:  mov eax, [rip + real_ss]
    mov ss, eax
    mov ds, eax
    mov es, eax
    popfq
    pop r15
    pop r14
    pop r13
    pop r12
    pop rbp
    pop rbx
    ret

    .balign 16
real_gdt:
    .quad 0
    .quad 0x00af9b000000ffff
    .quad 0x00cf9b000000ffff
    .quad 0x00cf93000000ffff
    .quad 0x00009b000000ffff | ({base} << 16)
    .quad 0x000093000000ffff | ({base} << 16)
real_gdtr:
    .short 47
    .quad {base} + real_gdt - real_start
real_vectors:
    .fill 26, 2, 0
    .short real_fault - real_start
    .short {base} / 16
real_vectors_register:
    .short 55
    .long {base} + real_vectors - real_start
real_gdt_before:
    .fill 10, 1, 0
real_idt_before:
    .fill 10, 1, 0
    .balign 8
real_rsp:
    .quad 0
real_cr0:
    .long 0
real_cr3:
    .long 0
real_cr4:
    .long 0
real_cs:
    .long 0
real_ss:
    .long 0
real_findings:
real_msr:
    .long 0
real_instruction:
    .long 0
real_ping_32:
    .long 0
real_leaf:
    .long 0
real_ping_16:
    .long 0
real_faults:
    .long 0
real_stack:
    .long 0
real_end:
    .set at_cr0, real_cr0 - real_start
    .set at_cr3, real_cr3 - real_start
    .set at_cr4, real_cr4 - real_start
    .set at_faults, real_faults - real_start
    .set at_instruction, real_instruction - real_start
    .set at_leaf, real_leaf - real_start
    .set at_msr, real_msr - real_start
    .set at_ping_16, real_ping_16 - real_start
    .set at_ping_32, real_ping_32 - real_start
    .set at_stack, real_stack - real_start
    .set at_vectors_register, real_vectors_register - real_start
"#,
    base = const BASE,
);
