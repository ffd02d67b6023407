//! Trying a call where nothing announced itself, and surviving: a CPU without
//! a hypervisor raises #UD, which Linux turns into SIGILL. KVM answers the other
//! vendor's instruction by rewriting it in place, which in a program's read-only
//! code becomes a page fault, and SIGSEGV.
//!
//! A signal handler steps over the one instruction that may fail, and over no
//! other. A child process would do too, but at the price of a fork of the
//! caller's whole program.

use crate::call::{Instruction, Reply};
use crate::{NotPresent, Underlay};
use core::arch::naked_asm;
use core::ffi::{c_int, c_void};
use core::mem::MaybeUninit;
use std::sync::{Mutex, PoisonError};

/// RAX, RBX, RCX, RDX, RSI, RDI, before and after.
type Registers = [u64; 6];

impl Underlay {
    /// Looks for an Underlay behind `instruction`, whatever CPUID says, by
    /// calling `ping`.
    ///
    /// # Errors
    ///
    /// [`NotPresent::Unanswered`] where the CPU has no such instruction (that
    /// is also what a hidden Underlay does), [`NotPresent::Stranger`] if the
    /// answer is not the version of our call interface.
    pub fn probe(instruction: Instruction) -> Result<Self, NotPresent> {
        // SAFETY: `ping` touches no memory. Other hypervisors know their calls
        // by numbers of their own; 1 with zero arguments is harmless in those
        // of KVM, Xen and Hyper-V, which refuse it from user programs.
        let reply = unsafe { attempt(instruction, abi::call::PING, [0; 5]) };
        match reply {
            Some(reply) if reply.rax == u64::from(abi::call::VERSION) => Ok(Self::by(instruction)),
            Some(reply) => Err(NotPresent::Stranger(reply.rax)),
            None => Err(NotPresent::Unanswered(instruction)),
        }
    }
}

/// Executes a call; `None` if the CPU raised an exception instead.
///
/// # Safety
///
/// Addresses among the arguments must suit whatever answers the call.
pub unsafe fn attempt(
    instruction: Instruction,
    number: u64,
    [rbx, rcx, rdx, rsi, rdi]: [u64; 5],
) -> Option<Reply> {
    let mut registers: Registers = [number, rbx, rcx, rdx, rsi, rdi];
    let probe = match instruction {
        Instruction::Vmcall => probe_vmcall,
        Instruction::Vmmcall => probe_vmmcall,
    };
    let answered = while_surviving(|| {
        // SAFETY: `registers` lives through the call; a #UD is stepped over by
        // the handler; the caller answers for the arguments.
        unsafe { probe(&mut registers) }
    });
    let [rax, results @ ..] = registers;
    (answered == 1).then_some(Reply { rax, results })
}

/// Runs `f` with the handler installed.
fn while_surviving<T>(f: impl FnOnce() -> T) -> T {
    // The disposition of a signal belongs to the process: one at a time.
    static INSTALLED: Mutex<()> = Mutex::new(());
    let _one = INSTALLED.lock().unwrap_or_else(PoisonError::into_inner);

    // SAFETY: zero is a valid value of every field.
    let mut ours: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
    ours.sa_sigaction = step_over as *const () as usize;
    ours.sa_flags = libc::SA_SIGINFO;
    let signals = [libc::SIGILL, libc::SIGSEGV];
    let before = signals.map(|signal| exchange(signal, &ours));
    let result = f();
    for (signal, before) in signals.into_iter().zip(&before) {
        exchange(signal, before);
    }
    result
}

/// Sets what happens at a signal; returns what happened before.
fn exchange(signal: c_int, action: &libc::sigaction) -> libc::sigaction {
    let mut before = MaybeUninit::zeroed();
    // SAFETY: `action` is the default, or what was installed before, or
    // `step_over` with the signature that SA_SIGINFO asks for. The call fails
    // for nothing but a bad signal or pointer, and zero is a valid value.
    unsafe {
        libc::sigaction(signal, action, before.as_mut_ptr());
        before.assume_init()
    }
}

/// The signal handler: continues behind the probe's instruction with "not
/// answered". Another instruction, in another thread while a probe runs, gets
/// the default action when it runs again.
extern "C" fn step_over(signal: c_int, _info: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: with SA_SIGINFO the kernel passes a valid `ucontext_t` that is
    // ours to change until the handler returns.
    let registers = unsafe { &mut (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs };
    let instructions = [
        &raw const underlay_probe_vmcall,
        &raw const underlay_probe_vmmcall,
    ];
    let rip = &mut registers[libc::REG_RIP as usize];
    if instructions.iter().any(|at| *at as i64 == *rip) {
        // VMCALL and VMMCALL are three bytes long.
        *rip += 3;
        registers[libc::REG_R8 as usize] = 0;
    } else {
        // SAFETY: SIG_DFL is a valid disposition of both signals.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
}

unsafe extern "C" {
    // Labels on the two instructions; never read.
    safe static underlay_probe_vmcall: u8;
    safe static underlay_probe_vmmcall: u8;
}

macro_rules! probe {
    ($name:ident, $mnemonic:literal, $label:literal) => {
        /// Loads the registers, executes, stores them; 1 if answered. R8 is
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
                "mov rdi, [rdi + 40]",
                "mov r8d, 1",
                concat!(".globl ", $label),
                concat!($label, ":"),
                $mnemonic,
                "xchg rdi, [rsp]",
                "mov [rdi], rax",
                "mov [rdi + 8], rbx",
                "mov [rdi + 16], rcx",
                "mov [rdi + 24], rdx",
                "mov [rdi + 32], rsi",
                "pop rsi",
                "mov [rdi + 40], rsi",
                "pop rbx",
                "mov rax, r8",
                "ret",
            )
        }
    };
}
probe!(probe_vmcall, "vmcall", "underlay_probe_vmcall");
probe!(probe_vmmcall, "vmmcall", "underlay_probe_vmmcall");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_without_underlay_survives_both_instructions() {
        for instruction in [Instruction::Vmcall, Instruction::Vmmcall] {
            let absent = Underlay::probe(instruction).err();
            assert!(
                matches!(
                    absent,
                    Some(NotPresent::Unanswered(_) | NotPresent::Stranger(_))
                ),
                "{absent:?}"
            );
        }
    }
}
