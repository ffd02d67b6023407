//! Exceptions that hit the hypervisor itself: guarded instructions go on, NMIs
//! and machine checks that can be survived are noted for the guest, and everything else is a bug that is reported as
//! fully as can be before this machine stops.

use crate::instructions::{halt_forever, read_cr2, read_cr3};
use crate::log::LastWords;
use crate::{backtrace, guarded, percpu};
use core::arch::naked_asm;
use core::fmt::Write;
use core::hint::spin_loop;
use core::sync::atomic::{AtomicU32, Ordering};
use x86_64::VirtAddr;
use x86_64::structures::gdt::SegmentSelector;
use x86_64::structures::idt::{EntryOptions, InterruptDescriptorTable};

const NMI: u64 = 2;
const MACHINE_CHECK: u64 = 18;
/// #SX: an INIT that AMD-V redirects, see `svm/setup`.
const SECURITY: u64 = 30;

/// Stacks of the TSS, by what runs on them: an exception can hit the entry
/// stub while its stack pointer is not a stack, so each kind that can gets one.
const NMI_STACK: Option<u16> = Some(0);
const DOUBLE_FAULT_STACK: Option<u16> = Some(1);
const MACHINE_CHECK_STACK: Option<u16> = Some(2);
const FAULT_STACK: Option<u16> = Some(3);
/// The one in use. #SX comes at any time, within other handlers and itself; it
/// is AMD-V's, whose stub has the global interrupt flag clear.
const HERE: Option<u16> = None;

/// Which handlers have stacks of their own. The others run on the one in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stacks {
    /// None, until there is a TSS to name those.
    None,
    /// All but that of NMIs. Under AMD-V none comes where there is no stack, and
    /// #SX, which may interrupt their handler, lets the next one in when it
    /// returns.
    AllButNmi,
    /// All.
    All,
}

impl Stacks {
    fn have(self, stack: u16) -> bool {
        match self {
            Self::None => false,
            Self::AllButNmi => Some(stack) != NMI_STACK,
            Self::All => true,
        }
    }
}

/// What the stubs push, lowest address first.
#[repr(C)]
pub(crate) struct Frame {
    registers: x86::Registers,
    vector: u64,
    error: u64,
    rip: u64,
    cs: u64,
    rflags: u64,
    rsp: u64,
    ss: u64,
}

/// A stub: pushes what the CPU did not, and hands the frame on.
macro_rules! stub {
    ($name:ident, $vector:literal, $($error:literal)?) => {
        #[unsafe(naked)]
        extern "C" fn $name() {
            naked_asm!(
                $($error,)?
                concat!("push ", $vector),
                "jmp {common}",
                common = sym common,
            )
        }
    };
}

#[unsafe(naked)]
extern "C" fn common() {
    naked_asm!(
        "push r15", "push r14", "push r13", "push r12", "push r11", "push r10", "push r9",
        "push r8", "push rbp", "push rdi", "push rsi", "push rdx", "push rcx", "push rbx",
        "push rax",
        "cld",
        "mov rdi, rsp",
        // The frame has 22 words on a stack that the CPU aligned to 16 bytes.
        "call {handle}",
        "pop rax", "pop rbx", "pop rcx", "pop rdx", "pop rsi", "pop rdi", "pop rbp", "pop r8",
        "pop r9", "pop r10", "pop r11", "pop r12", "pop r13", "pop r14", "pop r15",
        "add rsp, 16",
        "iretq",
        handle = sym handle,
    )
}

macro_rules! vectors {
    ($($vector:literal $field:ident $stub:ident $stack:ident $($error:literal)?;)*) => {
        $(stub!($stub, $vector, $($error)?);)*

        /// Fills `idt` with the handlers, which run in `code`.
        pub(crate) fn fill(
            idt: &mut InterruptDescriptorTable,
            code: SegmentSelector,
            stacks: Stacks,
        ) {
            $(
                let at = VirtAddr::new($stub as *const () as u64);
                // SAFETY: the stub handles its vector and returns by IRETQ.
                let options = unsafe { idt.$field.set_handler_addr(at) };
                settle(options, code, $stack.filter(|stack| stacks.have(*stack)));
            )*
        }

        const NAMES: &[(u64, &str)] = &[$(($vector, stringify!($field))),*];
    };
}

fn settle(options: &mut EntryOptions, code: SegmentSelector, stack: Option<u16>) {
    // SAFETY: `code` is the flat 64-bit code segment of the same CPU's GDT, and
    // the TSS has a stack for each number used here.
    unsafe {
        options.set_code_selector(code);
        if let Some(stack) = stack {
            options.set_stack_index(stack);
        }
    };
}

vectors! {
    0 divide_error stub_0 FAULT_STACK "push 0";
    1 debug stub_1 FAULT_STACK "push 0";
    2 non_maskable_interrupt stub_2 NMI_STACK "push 0";
    3 breakpoint stub_3 FAULT_STACK "push 0";
    4 overflow stub_4 FAULT_STACK "push 0";
    5 bound_range_exceeded stub_5 FAULT_STACK "push 0";
    6 invalid_opcode stub_6 FAULT_STACK "push 0";
    7 device_not_available stub_7 FAULT_STACK "push 0";
    8 double_fault stub_8 DOUBLE_FAULT_STACK;
    10 invalid_tss stub_10 FAULT_STACK;
    11 segment_not_present stub_11 FAULT_STACK;
    12 stack_segment_fault stub_12 FAULT_STACK;
    13 general_protection_fault stub_13 FAULT_STACK;
    14 page_fault stub_14 FAULT_STACK;
    16 x87_floating_point stub_16 FAULT_STACK "push 0";
    17 alignment_check stub_17 FAULT_STACK;
    18 machine_check stub_18 MACHINE_CHECK_STACK "push 0";
    19 simd_floating_point stub_19 FAULT_STACK "push 0";
    20 virtualization stub_20 FAULT_STACK "push 0";
    21 cp_protection_exception stub_21 FAULT_STACK;
    28 hv_injection_exception stub_28 FAULT_STACK "push 0";
    29 vmm_communication_exception stub_29 FAULT_STACK;
    30 security_exception stub_30 HERE;
}

extern "C" fn handle(frame: &mut Frame) {
    if frame.vector == NMI {
        if let Some(percpu) = percpu::current() {
            percpu.note_nmi();
        }
        return;
    }
    if frame.vector == SECURITY {
        if let Some(percpu) = percpu::current() {
            percpu.note_init();
        }
        return;
    }
    if frame.vector == MACHINE_CHECK && survives() {
        return;
    }
    match guarded::resume_after(frame.rip) {
        // The access to the guest's memory did not happen, and the guest is to
        // hear why.
        Some(resume) if frame.vector == MACHINE_CHECK => {
            if let Some(percpu) = percpu::current() {
                percpu.note_machine_check();
            }
            frame.rip = resume;
        }
        Some(resume) => frame.rip = resume,
        None => report(frame),
    }
}

/// A machine check after which the interrupted code can go on is the guest's
/// to handle: it owns the machine. Intel SDM volume 3, "IA32_MCG_STATUS MSR".
fn survives() -> bool {
    const RESTART_IP_VALID: u64 = 1;
    let status = guarded::read_msr(x86::msr::MCG_STATUS).unwrap_or(0);
    match percpu::current() {
        Some(percpu) if status & RESTART_IP_VALID != 0 => {
            percpu.note_machine_check();
            true
        }
        _ => false,
    }
}

/// The number of the CPU that is to say where its guest was, or [`NOBODY`].
/// Written by the CPU that failed, and taken back by the one that has said it.
static TURN: AtomicU32 = AtomicU32::new(NOBODY);
const NOBODY: u32 = u32::MAX;

/// Looks at a CPU whose turn it is before it is given up: about a second.
const PATIENCE: u32 = 50_000_000;

/// Another CPU has failed, and this machine is stopped. Each CPU says where its
/// guest was when it is its turn, so that nobody's words mix.
pub(crate) fn stop_with_others() -> ! {
    let own = percpu::number();
    while TURN.load(Ordering::Acquire) != own {
        spin_loop();
    }
    let mut out = LastWords::new();
    let _ = writeln!(out, "cpu {own} was stopped");
    if let Some(percpu) = percpu::current() {
        percpu.describe(&mut out);
    }
    // It is somebody else's where this one took too long: an error is nothing.
    let _ = TURN.compare_exchange(own, NOBODY, Ordering::AcqRel, Ordering::Acquire);
    halt_forever();
}

/// Lets the others say where their guests were, one after the other.
fn hear_others(out: &mut LastWords) {
    for number in percpu::others() {
        TURN.store(number, Ordering::Release);
        let mut looks = 0..PATIENCE;
        let answered = looks.any(|_| {
            spin_loop();
            TURN.load(Ordering::Acquire) == NOBODY
        });
        if !answered {
            let _ = writeln!(out, "cpu {number} does not answer");
        }
    }
}

fn report(frame: &Frame) -> ! {
    if percpu::fail() {
        let mut out = LastWords::new();
        // Writing cannot fail, and there is nobody left to tell.
        let _ = describe(frame, &mut out);
        conclude(&mut out, frame.registers.rbp, frame.rip);
    }
    halt_forever()
}

fn describe(frame: &Frame, out: &mut LastWords) -> core::fmt::Result {
    let name = NAMES
        .iter()
        .find(|row| row.0 == frame.vector)
        .map_or("unknown", |row| row.1);
    let number = percpu::number();
    writeln!(
        out,
        "\nUNDERLAY STOPS: exception {} ({name}) in the hypervisor",
        frame.vector
    )?;
    writeln!(
        out,
        "cpu {number} error {:#x} rip {:#x} ({}) rsp {:#x} rflags {:#x} cr2 {:#x} cr3 {:#x}",
        frame.error,
        frame.rip,
        backtrace::Place(frame.rip),
        frame.rsp,
        frame.rflags,
        read_cr2(),
        read_cr3()
    )?;
    let r = &frame.registers;
    writeln!(
        out,
        "rax {:016x} rbx {:016x} rcx {:016x} rdx {:016x}",
        r.rax, r.rbx, r.rcx, r.rdx
    )?;
    writeln!(
        out,
        "rsi {:016x} rdi {:016x} rbp {:016x} r8  {:016x}",
        r.rsi, r.rdi, r.rbp, r.r8
    )?;
    writeln!(
        out,
        "r9  {:016x} r10 {:016x} r11 {:016x} r12 {:016x}",
        r.r9, r.r10, r.r11, r.r12
    )?;
    writeln!(
        out,
        "r13 {:016x} r14 {:016x} r15 {:016x}",
        r.r13, r.r14, r.r15
    )
}

fn conclude(out: &mut LastWords, frame_pointer: u64, rip: u64) {
    let _ = writeln!(out, "cpu {} has failed", percpu::number());
    if let Some(percpu) = percpu::current() {
        percpu.describe(out);
    }
    backtrace::write(out, frame_pointer, rip);
    hear_others(out);
    let _ = writeln!(out, "This machine is stopped; the guest cannot go on.");
}

/// Reports a panic of the hypervisor and stops this machine.
pub fn panic(info: &core::panic::PanicInfo) -> ! {
    if percpu::fail() {
        let mut out = LastWords::new();
        let _ = writeln!(out, "\nUNDERLAY STOPS: {info}");
        conclude(&mut out, backtrace::frame_pointer(), 0);
    }
    halt_forever()
}

/// Stops this machine, with a report that names the reason.
pub fn stop(why: core::fmt::Arguments) -> ! {
    if percpu::fail() {
        let mut out = LastWords::new();
        let _ = writeln!(out, "\nUNDERLAY STOPS: {why}");
        conclude(&mut out, backtrace::frame_pointer(), 0);
    }
    halt_forever()
}
