//! A call that may fault: the handler of the signal steps over the instruction,
//! and every register is seen as the call left it.

use core::arch::naked_asm;
use std::mem::MaybeUninit;
use std::ptr::null_mut;

use libc::{SA_SIGINFO, SIGBUS, SIGSEGV, c_int, c_void};
use underlay::Instruction;

/// RAX, RBX, RCX, RDX, RSI, RDI, R8, R9.
pub type Registers = [u64; 8];

/// Whether the call was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It returned.
    Answered,
    /// It raised a fault.
    Faulted,
}

/// Makes a call with `registers`.
///
/// # Safety
///
/// The instruction is one that the CPU knows, and what the registers point at
/// may be written. [`survive_faults`] was called.
pub unsafe fn invoke(instruction: Instruction, registers: &mut Registers) -> Ending {
    // SAFETY: the registers outlive the call; the rest is the caller's promise.
    let answered = unsafe {
        match instruction {
            Instruction::Vmcall => invoke_vmcall(registers),
            Instruction::Vmmcall => invoke_vmmcall(registers),
        }
    };
    if answered == 1 {
        Ending::Answered
    } else {
        Ending::Faulted
    }
}

/// From here on a fault of such a call ends the call, not the process.
pub fn survive_faults() {
    // SAFETY: all zeros is a valid sigaction, and the handler has the signature
    // that SA_SIGINFO asks for.
    unsafe {
        let mut action: libc::sigaction = MaybeUninit::zeroed().assume_init();
        action.sa_sigaction = step_over as *const () as usize;
        action.sa_flags = SA_SIGINFO;
        libc::sigaction(SIGSEGV, &action, null_mut());
        libc::sigaction(SIGBUS, &action, null_mut());
    }
}

/// Continues behind the instruction with "not answered" in R10. A fault of
/// anything else gets the default action when it happens again.
extern "C" fn step_over(signal: c_int, _: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: with SA_SIGINFO the kernel passes a valid `ucontext_t` that is
    // ours to change until the handler returns.
    let registers = unsafe { &mut (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs };
    let instructions = [
        &raw const call_attack_vmcall,
        &raw const call_attack_vmmcall,
    ];
    let rip = &mut registers[libc::REG_RIP as usize];
    if instructions.iter().any(|at| *at as i64 == *rip) {
        // VMCALL and VMMCALL are three bytes long.
        *rip += 3;
        registers[libc::REG_R10 as usize] = 0;
    } else {
        // SAFETY: SIG_DFL is a valid disposition of both signals.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
}

unsafe extern "C" {
    // Labels on the two instructions; never read.
    safe static call_attack_vmcall: u8;
    safe static call_attack_vmmcall: u8;
}

macro_rules! invoke {
    ($name:ident, $mnemonic:literal, $label:literal) => {
        /// Loads the registers, executes, stores them; 1 if answered. R10 is
        /// preserved by a call, and cleared by the signal handler.
        #[unsafe(naked)]
        unsafe extern "sysv64" fn $name(registers: *mut Registers) -> u64 {
            naked_asm!(
                "push rbx",
                "push rdi",
                "mov rax, [rdi]",
                "mov rbx, [rdi + 8]",
                "mov rcx, [rdi + 16]",
                "mov rdx, [rdi + 24]",
                "mov rsi, [rdi + 32]",
                "mov r8, [rdi + 48]",
                "mov r9, [rdi + 56]",
                "mov rdi, [rdi + 40]",
                "mov r10d, 1",
                concat!(".globl ", $label),
                concat!($label, ":"),
                $mnemonic,
                "xchg rdi, [rsp]",
                "mov [rdi], rax",
                "mov [rdi + 8], rbx",
                "mov [rdi + 16], rcx",
                "mov [rdi + 24], rdx",
                "mov [rdi + 32], rsi",
                "pop [rdi + 40]",
                "mov [rdi + 48], r8",
                "mov [rdi + 56], r9",
                "pop rbx",
                "mov rax, r10",
                "ret",
            )
        }
    };
}
invoke!(invoke_vmcall, "vmcall", "call_attack_vmcall");
invoke!(invoke_vmmcall, "vmmcall", "call_attack_vmmcall");
