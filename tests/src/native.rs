//! Running one instruction on the CPU with all registers given: in 64-bit mode,
//! by a program of UEFI's or of the developer's own system.

use core::arch::naked_asm;
use core::cell::UnsafeCell;
use core::mem::offset_of;

/// Registers before the instruction, and after it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// General registers by their numbers in instructions.
    pub registers: [u64; 16],
    /// RFLAGS.
    pub flags: u64,
    /// Where the instruction is.
    pub code: u64,
}

/// Bytes of what [`place`] puts behind an instruction.
const WAY_BACK: usize = 14;

/// Written and read by `enter` and `leave`.
#[repr(C)]
struct Away {
    stack: u64,
    state: u64,
    code: u64,
    rdi: u64,
}

#[repr(transparent)]
struct Shared(UnsafeCell<Away>);
// SAFETY: `run` demands that nobody else runs it.
unsafe impl Sync for Shared {}

static AWAY: Shared = Shared(UnsafeCell::new(Away {
    stack: 0,
    state: 0,
    code: 0,
    rdi: 0,
}));

/// Puts `instruction` and the way back behind it to `at`.
///
/// # Safety
///
/// There are 32 bytes at `at` which nobody else uses.
pub unsafe fn place(at: *mut u8, instruction: &[u8]) {
    let mut way_back = [0xff, 0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    way_back[6..].copy_from_slice(&(leave as *const () as u64).to_le_bytes());
    // SAFETY: an instruction has at most 15 bytes.
    unsafe {
        at.copy_from_nonoverlapping(instruction.as_ptr(), instruction.len());
        let behind = at.add(instruction.len());
        behind.copy_from_nonoverlapping(way_back.as_ptr(), WAY_BACK);
    }
}

/// Runs what was [`place`]d at `state.code`.
///
/// # Safety
///
/// The instruction does not fault, is no jump, and touches no memory but what
/// the caller can spare. No interrupt needs the stack meanwhile, and nobody else
/// runs this.
pub unsafe fn run(state: &mut State) {
    // SAFETY: as the caller promises.
    unsafe { enter(state) };
}

#[unsafe(naked)]
unsafe extern "sysv64" fn enter(state: *mut State) {
    naked_asm!(
        "push rbx", "push rbp", "push r12", "push r13", "push r14", "push r15",
        "mov [rip + {away} + {stack}], rsp",
        "mov [rip + {away} + {state}], rdi",
        "mov rax, [rdi + {code}]",
        "mov [rip + {away} + {away_code}], rax",
        "push [rdi + {flags}]",
        "popfq",
        "mov rax, [rdi]",
        "mov rcx, [rdi + 8]",
        "mov rdx, [rdi + 16]",
        "mov rbx, [rdi + 24]",
        "mov rsp, [rdi + 32]",
        "mov rbp, [rdi + 40]",
        "mov rsi, [rdi + 48]",
        "mov r8, [rdi + 64]",
        "mov r9, [rdi + 72]",
        "mov r10, [rdi + 80]",
        "mov r11, [rdi + 88]",
        "mov r12, [rdi + 96]",
        "mov r13, [rdi + 104]",
        "mov r14, [rdi + 112]",
        "mov r15, [rdi + 120]",
        "mov rdi, [rdi + 56]",
        "jmp [rip + {away} + {away_code}]",
        away = sym AWAY,
        stack = const offset_of!(Away, stack),
        state = const offset_of!(Away, state),
        away_code = const offset_of!(Away, code),
        code = const offset_of!(State, code),
        flags = const offset_of!(State, flags),
    )
}

#[unsafe(naked)]
unsafe extern "sysv64" fn leave() {
    naked_asm!(
        "mov [rip + {away} + {rdi}], rdi",
        "mov rdi, [rip + {away} + {state}]",
        "mov [rdi], rax",
        "mov [rdi + 8], rcx",
        "mov [rdi + 16], rdx",
        "mov [rdi + 24], rbx",
        "mov [rdi + 32], rsp",
        "mov [rdi + 40], rbp",
        "mov [rdi + 48], rsi",
        "mov rax, [rip + {away} + {rdi}]",
        "mov [rdi + 56], rax",
        "mov [rdi + 64], r8",
        "mov [rdi + 72], r9",
        "mov [rdi + 80], r10",
        "mov [rdi + 88], r11",
        "mov [rdi + 96], r12",
        "mov [rdi + 104], r13",
        "mov [rdi + 112], r14",
        "mov [rdi + 120], r15",
        "mov rsp, [rip + {away} + {stack}]",
        "pushfq",
        "pop [rdi + {flags}]",
        "cld",
        "pop r15", "pop r14", "pop r13", "pop r12", "pop rbp", "pop rbx",
        "ret",
        away = sym AWAY,
        stack = const offset_of!(Away, stack),
        state = const offset_of!(Away, state),
        rdi = const offset_of!(Away, rdi),
        flags = const offset_of!(State, flags),
    )
}
