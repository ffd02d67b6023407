//! Into the guest and back. An exit returns like a call.
//!
//! The saved stack pointer of the hypervisor (HOST_RSP) is not a stack but the
//! end of the guest's register file, so that pushing is saving. Nothing can
//! use it as a stack meanwhile: interrupts are off, and exceptions and NMIs
//! have stacks of their own.

use core::arch::naked_asm;
use core::mem::offset_of;
use x86::Registers;

/// What the stubs work on. The stubs know its layout.
#[repr(C)]
pub(crate) struct Frame {
    /// The guest's registers. Written by the stubs at exits, by the policy
    /// between them.
    pub registers: Registers,
    /// The hypervisor's stack pointer while the guest runs.
    host_rsp: u64,
    /// 1 once the VMCS was launched: it must be resumed from then on.
    launched: u64,
}

impl Frame {
    pub(crate) const fn new(registers: Registers) -> Self {
        Self {
            registers,
            host_rsp: 0,
            launched: 0,
        }
    }

    /// The VMCS was cleared: it must be launched next.
    pub(crate) fn forget_launch(&mut self) {
        self.launched = 0;
    }

    /// What HOST_RSP must be.
    pub(crate) fn end_of_registers(&self) -> u64 {
        core::ptr::from_ref(&self.host_rsp) as u64
    }
}

const _: () = assert!(offset_of!(Frame, registers) == 0);
const _: () = assert!(offset_of!(Frame, host_rsp) == size_of::<Registers>());

/// Runs the guest until its next exit: 0. Or the entry fails: 1 with an error
/// number in the VMCS, 2 without a current VMCS.
///
/// # Safety
/// The VMCS is current, its host state leads to [`exit_point`] with HOST_RSP
/// at `frame`'s end of registers, and what the guest may touch by its nested
/// tables is its own.
#[unsafe(naked)]
pub(crate) unsafe extern "sysv64" fn enter(frame: *mut Frame) -> u64 {
    naked_asm!(
        "push rbx",
        "push rbp",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        "push rdi",
        "mov [rdi + {host_rsp}], rsp",
        "cmp qword ptr [rdi + {launched}], 0",
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
        "je 2f",
        "vmresume",
        "jmp 3f",
        "2: vmlaunch",
        // Only a failed entry comes here, on the same stack: carry says that
        // no VMCS was current.
        "3: mov eax, 1",
        "adc eax, 0",
        "pop rdi",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbp",
        "pop rbx",
        "ret",
        host_rsp = const offset_of!(Frame, host_rsp),
        launched = const offset_of!(Frame, launched),
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
        "pop rdi",
        "mov qword ptr [rdi + {launched}], 1",
        "xor eax, eax",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbp",
        "pop rbx",
        "ret",
        host_rsp = const offset_of!(Frame, host_rsp),
        launched = const offset_of!(Frame, launched),
    )
}
