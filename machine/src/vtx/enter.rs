//! Into the guest and back. An exit returns like a call.
//!
//! The saved stack pointer of the hypervisor (HOST_RSP) is not a stack but the
//! end of the guest's register file, so that pushing is saving. Nothing can
//! use it as a stack meanwhile: interrupts are off, and exceptions and NMIs
//! have stacks of their own.

use core::arch::{asm, naked_asm};
use core::mem::offset_of;
use x86::Registers;
use x86::vtx::exit::NOT_ENTERED;
use x86::vtx::field;

/// What the stubs work on. The stubs know its layout.
#[repr(C)]
pub(crate) struct Frame {
    /// The guest's registers. Written by the stubs at exits, by the policy
    /// between them.
    pub registers: Registers,
    /// The hypervisor's stack pointer while the guest runs.
    host_rsp: u64,
}

impl Frame {
    pub(crate) const fn new(registers: Registers) -> Self {
        Self {
            registers,
            host_rsp: 0,
        }
    }

    /// What HOST_RSP must be.
    pub(crate) fn end_of_registers(&self) -> u64 {
        core::ptr::from_ref(&self.host_rsp) as u64
    }
}

const _: () = assert!(offset_of!(Frame, registers) == 0);
const _: () = assert!(offset_of!(Frame, host_rsp) == size_of::<Registers>());

/// Of VMRESUME. Intel SDM volume 3, "VM Instruction Error Numbers".
const NOT_LAUNCHED: u32 = 5;

/// Runs the guest until its next exit: the exit's reason, or [`NOT_ENTERED`].
///
/// It is part of its caller, who so saves only the registers that he has in
/// use, and no callee all that a caller might have.
///
/// # Safety
/// The VMCS is current, its host state leads to [`exit_point`] with HOST_RSP
/// at `frame`'s end of registers, and what the guest may touch by its nested
/// tables is its own.
#[inline(always)]
pub(crate) unsafe fn enter(frame: &mut Frame) -> u32 {
    let reason;
    // SAFETY: as the caller promises. The stubs leave the stack as it was; of
    // the registers that they change, the compiler keeps the two to itself that
    // are saved here.
    unsafe {
        asm!(
            "push rbx",
            "push rbp",
            "call {entry}",
            "pop rbp",
            "pop rbx",
            entry = sym entry_point,
            inout("rdi") core::ptr::from_mut(frame) => _,
            lateout("eax") reason,
            lateout("r12") _,
            lateout("r13") _,
            lateout("r14") _,
            lateout("r15") _,
            clobber_abi("sysv64"),
        );
    }
    reason
}

/// Into the guest, with the frame in RDI. Returns only if that fails;
/// otherwise [`exit_point`] returns in its place. No flag here remembers
/// whether the VMCS was launched before: VMRESUME says it, and at most once.
#[unsafe(naked)]
unsafe extern "sysv64" fn entry_point() {
    naked_asm!(
        "mov [rdi + {host_rsp}], rsp",
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
        "mov rdi, [rdi + 40]",
        "vmresume",
        // Only a failed entry comes here, on the same stack, with the guest's
        // registers; carry says that no VMCS is current.
        "jc 2f",
        "push rax",
        "mov eax, {error}",
        "vmread rax, rax",
        "cmp eax, {not_launched}",
        "pop rax",
        "jne 2f",
        "vmlaunch",
        "2: mov eax, {not_entered}",
        "ret",
        host_rsp = const offset_of!(Frame, host_rsp),
        error = const field::INSTRUCTION_ERROR.encoding(),
        not_launched = const NOT_LAUNCHED,
        not_entered = const NOT_ENTERED,
    )
}

/// HOST_RIP: where the CPU goes on after an exit, with RSP at the end of the
/// register file and the guest's values in all registers but RSP.
#[unsafe(naked)]
pub(crate) unsafe extern "sysv64" fn exit_point() {
    naked_asm!(
        "push r15",
        "push r14",
        "push r13",
        "push r12",
        "push r11",
        "push r10",
        "push r9",
        "push r8",
        "push rbp",
        "push rdi",
        "push rsi",
        "push rdx",
        "push rcx",
        "push rbx",
        "push rax",
        "mov rsp, [rsp + {host_rsp}]",
        "mov eax, {reason}",
        "vmread rax, rax",
        "ret",
        host_rsp = const offset_of!(Frame, host_rsp),
        reason = const field::EXIT_REASON.encoding(),
    )
}
