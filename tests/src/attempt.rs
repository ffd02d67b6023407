//! Running a piece of code that may raise an exception, and going on after it.
//!
//! While it runs, interrupts are off and the IDT is a copy of the firmware's in
//! which the exceptions that a guest provokes lead here. A fault abandons the
//! code: the stack is cut back to where it was entered.
//!
//! Each CPU that [`crate::processors`] starts can attempt something at the same
//! time: the state is found by the stack.

use crate::processors::{MAX, STACK_SHIFT, STACKS, number};
use core::arch::{asm, naked_asm};
use core::cell::UnsafeCell;
use core::fmt;
use core::mem::{MaybeUninit, offset_of};
use core::ptr::addr_of;

/// Vector of the debug exception.
pub const DB: u8 = 1;
/// Vector of the invalid-opcode exception.
pub const UD: u8 = 6;
/// Vector of the device-not-available exception.
pub const NM: u8 = 7;
/// Vector of the stack fault.
pub const SS: u8 = 12;
/// Vector of the general-protection exception.
pub const GP: u8 = 13;
/// Vector of the page fault.
pub const PF: u8 = 14;

/// An exception that ended an attempt.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// Its vector.
    pub vector: u8,
    /// Its error code; 0 if it has none.
    pub error: u32,
    /// Where it was raised.
    pub rip: u64,
    /// CR2 when it was raised: the address, if it is a page fault.
    pub cr2: u64,
}

impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            vector,
            error,
            rip,
            cr2,
        } = self;
        write!(f, "vector {vector} error {error:#x} rip {rip:#x}")?;
        if *vector == PF {
            write!(f, " cr2 {cr2:#x}")?;
        }
        Ok(())
    }
}

/// Written by `enter` (the stack) and by the handlers (the rest), read by
/// `attempt`: all on one CPU, with interrupts off.
#[repr(C)]
#[derive(Clone, Copy)]
struct State {
    stack: u64,
    vector: u64,
    error: u64,
    rip: u64,
    cr2: u64,
    idt: [[u64; 2]; 32],
}

#[repr(transparent)]
struct Shared(UnsafeCell<[State; MAX]>);
// SAFETY: each CPU uses its own, and `attempt` switches interrupts off.
unsafe impl Sync for Shared {}

/// By the CPUs' numbers.
static STATES: Shared = Shared(UnsafeCell::new(
    [State {
        stack: 0,
        vector: 0,
        error: 0,
        rip: 0,
        cr2: 0,
        idt: [[0; 2]; 32],
    }; MAX],
));

/// The state of the CPU that runs this.
fn own_state() -> *mut State {
    STATES.0.get().cast::<State>().wrapping_add(number())
}

/// The same in assembly, in RAX; RCX is lost.
macro_rules! find_own_state {
    () => {
        "lea rax, [rip + {stacks}]
        mov rcx, rsp
        sub rcx, rax
        shr rcx, {shift}
        xor eax, eax
        cmp rcx, {others}
        jae 9f
        lea rax, [rcx + 1]
        9: imul rax, rax, {size}
        lea rcx, [rip + {states}]
        add rax, rcx"
    };
}

/// Limit and base, as SIDT and LIDT want them.
#[repr(C, packed)]
struct TableRegister {
    limit: u16,
    base: u64,
}

/// Runs `f`; if it raises one of the exceptions above, returns that.
///
/// A fault skips the destructors of what `f` owns, so it should own nothing.
/// Attempts do not nest.
///
/// # Errors
///
/// The exception.
pub fn attempt<T>(f: impl FnOnce() -> T) -> Result<T, Fault> {
    let mut work = (Some(f), MaybeUninit::uninit());
    let (flags, firmware) = (interrupts_off(), load_own_idt());
    // SAFETY: `body::<T, F>` gets the pair that it was made for, which lives on
    // this frame; the IDT leads to `recover`.
    let faulted = unsafe { enter((&raw mut work).cast(), body_of(&work)) };
    // SAFETY: this is the firmware's own IDT; the flags are those from before.
    unsafe {
        asm!("lidt [{}]", in(reg) &firmware, options(readonly, nostack));
        asm!("push {}", "popfq", in(reg) flags);
    }
    if faulted == 0 {
        // SAFETY: `body` returned, so it wrote the result.
        return Ok(unsafe { work.1.assume_init() });
    }
    // SAFETY: nobody else uses the state, see its description.
    let state = unsafe { &*own_state() };
    Err(Fault {
        vector: state.vector as u8,
        error: state.error as u32,
        rip: state.rip,
        cr2: state.cr2,
    })
}

type Body = unsafe extern "sysv64" fn(*mut u8);

fn body_of<T, F: FnOnce() -> T>(_work: &(Option<F>, MaybeUninit<T>)) -> Body {
    body::<T, F>
}

unsafe extern "sysv64" fn body<T, F: FnOnce() -> T>(work: *mut u8) {
    // SAFETY: `attempt` passes the pair whose types these are.
    let (f, result) = unsafe { &mut *work.cast::<(Option<F>, MaybeUninit<T>)>() };
    if let Some(f) = f.take() {
        result.write(f());
    }
}

fn interrupts_off() -> u64 {
    let flags;
    // SAFETY: `attempt` restores the flags.
    unsafe { asm!("pushfq", "pop {}", "cli", out(reg) flags) };
    flags
}

/// Loads a copy of the firmware's IDT with our handlers; returns the
/// firmware's.
fn load_own_idt() -> TableRegister {
    let mut firmware = TableRegister { limit: 0, base: 0 };
    // SAFETY: nobody else uses the state; the firmware's IDT is readable and
    // has at least the 32 gates of exceptions.
    unsafe {
        asm!("sidt [{}]", in(reg) &mut firmware, options(nostack));
        let state = &mut *own_state();
        state.idt = *(firmware.base as *const [[u64; 2]; 32]);
        let code_segment = state.idt[0][0] & 0xffff_0000;
        for (vector, handler) in HANDLERS {
            state.idt[vector as usize] = gate(handler as *const () as u64, code_segment);
        }
        let own = TableRegister {
            limit: size_of_val(&state.idt) as u16 - 1,
            base: addr_of!(state.idt) as u64,
        };
        asm!("lidt [{}]", in(reg) &own, options(readonly, nostack));
    }
    firmware
}

/// Makes `handler` that of `vector` until the running attempt ends.
///
/// # Safety
///
/// Called inside an attempt; `handler` deals with the vector and returns by
/// IRETQ.
pub unsafe fn handle(vector: u8, handler: unsafe extern "sysv64" fn()) {
    // SAFETY: inside an attempt this is the IDT in use, and nobody else uses
    // the state.
    let state = unsafe { &mut *own_state() };
    let code_segment = state.idt[0][0] & 0xffff_0000;
    if let Some(slot) = state.idt.get_mut(usize::from(vector)) {
        *slot = gate(handler as *const () as u64, code_segment);
    }
}

/// An interrupt gate of 64-bit mode, present, for CPL 0, on the same stack.
/// Intel's manual, "64-Bit Mode IDT".
pub(crate) fn gate(handler: u64, code_segment: u64) -> [u64; 2] {
    const PRESENT_INTERRUPT_GATE: u64 = 0x8e00 << 32;
    let low = handler & 0xffff | (handler & 0xffff_0000) << 32;
    [low | code_segment | PRESENT_INTERRUPT_GATE, handler >> 32]
}

/// Saves what a called function must preserve, notes the stack, calls
/// `body(work)`; returns 0, or 1 by way of `recover`.
#[unsafe(naked)]
unsafe extern "sysv64" fn enter(work: *mut u8, body: Body) -> u64 {
    naked_asm!(
        "push rbx", "push rbp", "push r12", "push r13", "push r14", "push r15",
        "sub rsp, 8",
        find_own_state!(),
        "mov [rax + {stack}], rsp",
        "call rsi",
        "xor eax, eax",
        "add rsp, 8",
        "pop r15", "pop r14", "pop r13", "pop r12", "pop rbp", "pop rbx",
        "ret",
        states = sym STATES,
        size = const size_of::<State>(),
        stacks = sym STACKS,
        shift = const STACK_SHIFT,
        others = const MAX - 1,
        stack = const offset_of!(State, stack),
    )
}

/// Stack: vector, error code, RIP, CS, RFLAGS, RSP, SS. Notes the first three
/// and returns 1 from `enter`. The interrupt gate has cleared IF and TF.
#[unsafe(naked)]
unsafe extern "sysv64" fn recover() {
    naked_asm!(
        "cld",
        find_own_state!(),
        "pop [rax + {vector}]",
        "pop [rax + {error}]",
        "pop [rax + {rip_}]",
        "mov rcx, cr2",
        "mov [rax + {cr2}], rcx",
        "mov rsp, [rax + {stack}]",
        "mov eax, 1",
        "add rsp, 8",
        "pop r15", "pop r14", "pop r13", "pop r12", "pop rbp", "pop rbx",
        "ret",
        states = sym STATES,
        size = const size_of::<State>(),
        stacks = sym STACKS,
        shift = const STACK_SHIFT,
        others = const MAX - 1,
        stack = const offset_of!(State, stack),
        vector = const offset_of!(State, vector),
        error = const offset_of!(State, error),
        rip_ = const offset_of!(State, rip),
        cr2 = const offset_of!(State, cr2),
    )
}

macro_rules! handlers {
    ($($name:ident $vector:ident $error:literal)*) => {
        const HANDLERS: [(u8, unsafe extern "sysv64" fn()); [$($vector),*].len()] =
            [$(($vector, $name)),*];
        $(
            #[unsafe(naked)]
            unsafe extern "sysv64" fn $name() {
                naked_asm!($error, "push {}", "jmp {}", const $vector, sym recover)
            }
        )*
    };
}
handlers! {
    debug DB "push 0"
    invalid_opcode UD "push 0"
    device_not_available NM "push 0"
    stack_fault SS ""
    general_protection GP ""
    page_fault PF ""
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gate_splits_its_handler() {
        let [low, high] = gate(0x1122_3344_5566_7788, 0x0038_0000);
        assert_eq!(low, 0x5566_8e00_0038_7788);
        assert_eq!(high, 0x1122_3344);
    }

    #[test]
    fn code_that_does_not_fault_runs_on_the_stack_of_enter() {
        let mut work = (Some(|| 42), MaybeUninit::uninit());
        let body = body_of(&work);
        // SAFETY: as in `attempt`, but for the IDT, which no fault needs.
        let faulted = unsafe { enter((&raw mut work).cast(), body) };
        assert_eq!(faulted, 0);
        // SAFETY: the body has run.
        assert_eq!(unsafe { work.1.assume_init() }, 42);
    }
}
