//! Calls as a test makes them: every register is watched.

use crate::attempt::{Fault, attempt};
use core::arch::naked_asm;

/// The general registers except RSP, and RFLAGS: before a call, and after it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Registers {
    /// The service's number, then the result.
    pub rax: u64,
    /// RBX, RCX, RDX, RSI, RDI: arguments, then results.
    pub arguments: [u64; 5],
    /// RBP, R8 to R15: preserved.
    pub others: [u64; 9],
    /// The status flags: preserved.
    pub flags: u64,
    /// RSP after the call minus RSP before it.
    pub stack_moved: u64,
}

/// Calls with this CPU's own instruction.
///
/// # Errors
///
/// The exception that it raised.
pub fn call(number: u64, arguments: [u64; 5]) -> Result<Registers, Fault> {
    call_with(crate::cpu::is_intel(), number, arguments)
}

/// Calls with VMCALL or with VMMCALL.
///
/// # Errors
///
/// The exception that it raised.
pub fn call_with(vmcall: bool, number: u64, arguments: [u64; 5]) -> Result<Registers, Fault> {
    let mut registers = Registers {
        rax: number,
        arguments,
        others: core::array::from_fn(|i| 0x5a5a_0000_0000_0000 | i as u64),
        flags: 0x8d7, // all status flags, reserved bit 1
        stack_moved: 0,
    };
    let execute = if vmcall { vmcall_all } else { vmmcall_all };
    // SAFETY: the registers outlive the call, and the tests let services write
    // to memory of their own.
    attempt(|| unsafe { execute(&mut registers) })?;
    Ok(registers)
}

/// `ping` answers with the version of the call interface.
pub fn alive() -> bool {
    let reply = call(abi::call::PING, [0; 5]);
    reply.is_ok_and(|reply| reply.rax == u64::from(abi::call::VERSION))
}

macro_rules! call_all {
    ($name:ident, $mnemonic:literal) => {
        #[unsafe(naked)]
        unsafe extern "sysv64" fn $name(registers: *mut Registers) {
            naked_asm!(
                "push rbx",
                "push rbp",
                "push r12",
                "push r13",
                "push r14",
                "push r15",
                "push rdi",
                "push [rdi + 120]",
                "popfq",
                "mov rax, [rdi]",
                "mov rbx, [rdi + 8]",
                "mov rcx, [rdi + 16]",
                "mov rdx, [rdi + 24]",
                "mov rsi, [rdi + 32]",
                "mov rbp, [rdi + 48]",
                "mov r8, [rdi + 56]",
                "mov r9, [rdi + 64]",
                "mov r10, [rdi + 72]",
                "mov r11, [rdi + 80]",
                "mov r12, [rdi + 88]",
                "mov r13, [rdi + 96]",
                "mov r14, [rdi + 104]",
                "mov r15, [rdi + 112]",
                "mov [rdi + 128], rsp",
                "mov rdi, [rdi + 40]",
                $mnemonic,
                "xchg rdi, [rsp]",
                "mov [rdi], rax",
                "mov [rdi + 8], rbx",
                "mov [rdi + 16], rcx",
                "mov [rdi + 24], rdx",
                "mov [rdi + 32], rsi",
                "pop [rdi + 40]",
                "pushfq",
                "pop [rdi + 120]",
                "mov [rdi + 48], rbp",
                "mov [rdi + 56], r8",
                "mov [rdi + 64], r9",
                "mov [rdi + 72], r10",
                "mov [rdi + 80], r11",
                "mov [rdi + 88], r12",
                "mov [rdi + 96], r13",
                "mov [rdi + 104], r14",
                "mov [rdi + 112], r15",
                "lea rax, [rsp - 8]",
                "sub rax, [rdi + 128]",
                "mov [rdi + 128], rax",
                "pop r15",
                "pop r14",
                "pop r13",
                "pop r12",
                "pop rbp",
                "pop rbx",
                "ret",
            )
        }
    };
}
call_all!(vmcall_all, "vmcall");
call_all!(vmmcall_all, "vmmcall");
