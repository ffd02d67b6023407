//! Into the guest and back. An exit returns like a call.
//!
//! While the guest runs, the hypervisor's stack pointer is not a stack but the
//! end of the guest's register file, so that pushing is saving. Nothing can
//! use it as a stack meanwhile: the global interrupt flag is clear around the
//! guest, and exceptions have stacks of their own.
//!
//! Elsewhere in the hypervisor that flag is set: NMIs are told apart as they
//! come, and nothing is held back while it works or waits. Its handlers note in
//! a word what the guest must not be entered before, and the word is looked at
//! behind CLGI, when nothing can change it any more.

use crate::percpu::PerCpu;
use core::arch::{asm, naked_asm};
use core::mem::offset_of;
use x86::Registers;
use x86::svm::control::TLB_KEEP;
use x86::svm::exit::code::HELD;
use x86::svm::vmcb::{ENTRY_EVENT_OFFSET, EXIT_CODE_OFFSET, RAX_OFFSET, TLB_CONTROL_OFFSET};

/// What the stub works on. The stub knows its layout.
#[repr(C)]
pub(crate) struct Frame {
    /// The guest's registers. Written by the stub at exits, by the policy
    /// between them. RAX is in the VMCB while the guest runs.
    pub registers: Registers,
    /// The hypervisor's stack pointer while the guest runs.
    host_rsp: u64,
    /// Physical address of the guest's VMCB; equals the linear one.
    vmcb: u64,
    /// Physical address of a VMCB with what VMLOAD loads for the hypervisor:
    /// TR, GS and the like, which VMRUN leaves alone.
    host_vmcb: u64,
}

impl Frame {
    pub(crate) const fn new(registers: Registers, vmcb: u64, host_vmcb: u64) -> Self {
        Self {
            registers,
            host_rsp: 0,
            vmcb,
            host_vmcb,
        }
    }
}

const _: () = assert!(offset_of!(Frame, registers) == 0);
const _: () = assert!(offset_of!(Frame, host_rsp) == size_of::<Registers>());

impl Frame {
    /// The same for another CPU.
    pub(crate) fn set_host(&mut self, host_vmcb: u64) {
        self.host_vmcb = host_vmcb;
    }

    /// Where what VMLOAD loads for the hypervisor is.
    pub(crate) fn host(&self) -> u64 {
        self.host_vmcb
    }
}

/// Runs the guest until its next exit. Where something was noted it is not
/// entered, and the exit is [`HELD`]: nothing else in the VMCB changed then.
///
/// It is part of its caller, who so saves only the registers that he has in
/// use, and no callee all that a caller might have.
///
/// # Safety
/// SVM is enabled with a host save area, interrupts are off, GS leads to this
/// CPU's block, both VMCBs are there, and what the guest may touch by its nested
/// tables is its own.
#[inline(always)]
pub(crate) unsafe fn enter(frame: &mut Frame) {
    // SAFETY: as the caller promises; the flag is set again afterwards.
    unsafe {
        asm!("clgi", options(nostack));
        enter_held(frame);
        asm!("stgi", options(nostack));
    }
}

/// The same for a child. Physical interrupts make it exit whatever its own flag
/// says: with virtual masking the hypervisor's flag counts, which is set
/// meanwhile. They stay pending, as the global interrupt flag is clear for as long
/// as that one is set. AMD APM volume 2, "Virtualizing RFLAGS.IF".
///
/// # Safety
/// As for [`enter`].
pub(crate) unsafe fn enter_child(frame: &mut Frame) {
    // SAFETY: as the caller promises; both flags are as before afterwards.
    unsafe {
        asm!("clgi", "sti", options(nostack));
        enter_held(frame);
        asm!("cli", "stgi", options(nostack));
    }
}

/// # Safety
/// As for [`enter`], and the global interrupt flag is clear.
#[inline(always)]
unsafe fn enter_held(frame: &mut Frame) {
    // SAFETY: as the caller promises. The stub leaves the stack as it was; of
    // the registers that it changes, the compiler keeps the two to itself that
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
            lateout("r12") _,
            lateout("r13") _,
            lateout("r14") _,
            lateout("r15") _,
            clobber_abi("sysv64"),
        );
    }
}

/// Into the guest, with the frame in RDI, and back.
#[unsafe(naked)]
unsafe extern "sysv64" fn entry_point() {
    naked_asm!(
        "mov [rdi + {host_rsp}], rsp",
        "mov rax, [rdi + {vmcb}]",
        "cmp byte ptr gs:[{noted}], 0",
        "jne 2f",
        "mov rcx, [rdi]",
        "mov [rax + {rax}], rcx",
        "vmload rax",
        "lea rsp, [rdi + {host_rsp}]",
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
        "vmrun rax",
        // RAX and RSP are the hypervisor's again, the rest is the guest's.
        "vmsave rax",
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
        "push qword ptr [rax + {rax}]",
        // What was asked of this entry is not asked of the next.
        "mov byte ptr [rax + {tlb_control}], {keep}",
        "mov qword ptr [rax + {entry_event}], 0",
        "mov rax, [rsp + {host_vmcb}]",
        "vmload rax",
        "mov rsp, [rsp + {host_rsp}]",
        "ret",
        "2: mov ecx, {held}",
        "mov [rax + {exit_code}], rcx",
        "ret",
        noted = const offset_of!(PerCpu, noted),
        held = const HELD,
        exit_code = const EXIT_CODE_OFFSET,
        host_rsp = const offset_of!(Frame, host_rsp),
        vmcb = const offset_of!(Frame, vmcb),
        host_vmcb = const offset_of!(Frame, host_vmcb),
        rax = const RAX_OFFSET,
        tlb_control = const TLB_CONTROL_OFFSET,
        keep = const TLB_KEEP,
        entry_event = const ENTRY_EVENT_OFFSET,
    )
}
