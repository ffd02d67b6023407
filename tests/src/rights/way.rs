//! The way to one instruction at any privilege level of any paging mode, and
//! back: the program leaves long mode, takes the control registers that a case
//! wants, and whatever vector ends the instruction leads home.

use super::layout::{self, BASE, CODE_64, STACK, STATE, TASK_32, TASK_64};
use crate::cpu::rdmsr;
use core::arch::global_asm;
use core::mem::{offset_of, transmute};
use x86::control::Efer;
use x86::msr::EFER;

/// What a run starts with.
#[derive(Clone, Copy, Debug)]
pub struct Start {
    /// CR0, CR3, CR4.
    pub control: [u64; 3],
    /// EFER, but for LMA. It costs an exit under AMD-V, so it is written only
    /// where it differs.
    pub efer: Efer,
    /// PKRU, where CR4 has the keys on.
    pub keys: Option<u32>,
    /// The privilege level.
    pub level: u8,
    /// Of 64-bit code, or else of 32.
    pub wide: bool,
    /// RFLAGS.
    pub flags: u64,
    /// The instruction pointer.
    pub rip: u64,
    /// RAX, RBX, RCX, RDX.
    pub registers: [u64; 4],
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ending {
    /// The vector.
    pub vector: u8,
    /// Its error code, 0 if it has none.
    pub error: u32,
    /// Where.
    pub rip: u64,
    /// CR2.
    pub cr2: u64,
    /// RAX and RBX.
    pub registers: [u64; 2],
}

/// Written by `run` and by the code below, one after the other.
#[repr(C)]
struct State {
    control: [u64; 3],
    efer: u64,
    has_keys: u64,
    keys: u64,
    rip: u64,
    code: u64,
    data: u64,
    flags: u64,
    registers: [u64; 4],
    left_at: u64,
    left_cr2: u64,
    left_registers: [u64; 2],
    outer_control: [u64; 3],
    outer_efer: u64,
    outer_stack: u64,
    outer_code: u64,
    outer_data: u64,
    segments: [u8; 16],
    gates_64: [u8; 16],
    gates_32: [u8; 16],
    outer_segments: [u8; 16],
    outer_gates: [u8; 16],
}

unsafe extern "C" {
    static rights_start: u8;
    static rights_stubs_64: u8;
    static rights_stubs_32: u8;
    static rights_end: u8;
}

/// Bytes of a stub.
const STUB: u64 = 7;
/// Vectors with an error code. Intel SDM volume 3, "Exception and Interrupt
/// Reference".
const WITH_ERROR: u32 = 1 << 8 | 0x1f << 10 | 1 << 17;

/// The way, ready to go.
pub struct Way {
    /// The program's own, but for LMA.
    pub efer: Efer,
}

impl Way {
    /// Puts code and tables into the pages of [`layout`], which are the
    /// caller's to give.
    ///
    /// # Safety
    ///
    /// Nobody else uses them.
    pub unsafe fn prepare() -> Self {
        // SAFETY: the block between the symbols is code of this program, and
        // as the caller promises.
        unsafe {
            let start = &raw const rights_start;
            let size = (&raw const rights_end).offset_from_unsigned(start);
            core::ptr::copy_nonoverlapping(start, BASE as *mut u8, size);
        }
        let stubs = |symbol: *const u8| {
            let offset = symbol.addr() - (&raw const rights_start).addr();
            move |vector: u64| BASE + offset as u64 + vector * STUB
        };
        layout::write_segments();
        layout::write_gates(stubs(&raw const rights_stubs_64), true);
        layout::write_gates(stubs(&raw const rights_stubs_32), false);
        // SAFETY: as the caller promises.
        let state = unsafe { &mut *(STATE as *mut State) };
        state.segments = layout::segments_register();
        state.gates_64 = layout::gates_register(true);
        state.gates_32 = layout::gates_register(false);
        // SAFETY: every 64-bit CPU has the register.
        let efer = unsafe { rdmsr(EFER) };
        Self {
            efer: Efer::from_bits_retain(efer) - Efer::LMA,
        }
    }

    /// Goes there and comes back.
    ///
    /// # Safety
    ///
    /// The tables behind CR3 map the pages of [`layout`] to themselves, and
    /// what runs touches nothing but what the caller can spare.
    pub unsafe fn run(&mut self, start: &Start) -> Ending {
        layout::write_tasks();
        // SAFETY: `prepare` made it.
        let state = unsafe { &mut *(STATE as *mut State) };
        state.control = start.control;
        state.efer = start.efer.bits();
        state.outer_efer = self.efer.bits();
        state.has_keys = start.keys.is_some().into();
        state.keys = start.keys.unwrap_or(0).into();
        state.rip = start.rip;
        state.flags = start.flags;
        state.code = layout::code(start.level, start.wide).into();
        state.data = layout::data(start.level).into();
        state.registers = start.registers;
        state.left_registers = [0; 2];
        // SAFETY: the code at BASE comes back with the machine as it was; what
        // it does otherwise is as the caller promises.
        unsafe {
            let enter: unsafe extern "sysv64" fn() = transmute(BASE);
            enter();
        }
        // SAFETY: only the code wrote it meanwhile.
        let state = unsafe { &*(STATE as *const State) };
        Self::ending(state, start.efer.contains(Efer::LME))
    }

    /// Reads what the CPU pushed: words of 64 bits in long mode, of 32 else.
    fn ending(state: &State, long: bool) -> Ending {
        let word = |index: u64| {
            let at = state.left_at + index * if long { 8 } else { 4 };
            // SAFETY: the handlers' stack ends well behind these few words.
            unsafe {
                match long {
                    true => (at as *const u64).read_volatile(),
                    false => (at as *const u32).read_volatile().into(),
                }
            }
        };
        let vector = word(0) as u8;
        let has_error = WITH_ERROR >> vector & 1 != 0;
        Ending {
            vector,
            error: if has_error { word(1) as u32 } else { 0 },
            rip: word(1 + u64::from(has_error)),
            cr2: state.left_cr2,
            registers: state.left_registers,
        }
    }
}

// Down: 64-bit code, 32-bit code without paging, then paging as the case has it.
// Up the same way. PAE and LME change so that LME is never on without PAE: with
// paging off that is allowed, but QEMU 7.2 then leaves CR0 as it is at #VMEXIT.
// Far jumps are spelt out. Intel SDM volume 3, "Switching Out of IA-32e Mode
// Operation" and "Initializing IA-32e Mode".
global_asm!(
    r#"
    .balign 16
    .globl rights_start, rights_stubs_64, rights_stubs_32, rights_end
rights_start:
    .code64
    push rbx
    push rbp
    push r12
    push r13
    push r14
    push r15
    pushfq
    cli
    mov [{state} + {outer_stack}], rsp
    mov rax, cr0
    mov [{state} + {outer_control}], rax
    mov rax, cr3
    mov [{state} + {outer_control} + 8], rax
    mov rax, cr4
    mov [{state} + {outer_control} + 16], rax
    sgdt [{state} + {outer_segments}]
    sidt [{state} + {outer_gates}]
    mov eax, cs
    mov [{state} + {outer_code}], rax
    mov eax, ss
    mov [{state} + {outer_data}], rax
    lgdt [{state} + {segments}]
    push 0x10
    lea rax, [rip + rights_down]
    push rax
    retfq

    .code32
rights_down:
    mov eax, 0x18
    mov ds, eax
    mov es, eax
    mov ss, eax
    mov esp, {stack}
    mov eax, cr0
    and eax, 0x7fffffff
    mov cr0, eax
    mov eax, [{state} + {efer}]
    cmp eax, [{state} + {outer_efer}]
    je 2f
    mov ecx, 0xc0000080
    xor edx, edx
    wrmsr
2:
    mov eax, [{state} + {control} + 16]
    mov cr4, eax
    mov eax, [{state} + {control} + 8]
    mov cr3, eax
    mov eax, [{state} + {control}]
    mov cr0, eax
    jmp 2f
2:  cmp dword ptr [{state} + {has_keys}], 0
    je 3f
    xor ecx, ecx
    xor edx, edx
    mov eax, [{state} + {keys}]
    wrpkru
3:  test dword ptr [{state} + {efer}], {long_mode}
    jz 4f
    .byte 0xea
    .long {base} + rights_inside - rights_start
    .short {code_64}
4:  lidt [{state} + {gates_32}]
    mov eax, {task_32}
    ltr ax
    mov eax, [{state} + {data}]
    mov ds, eax
    mov es, eax
    test byte ptr [{state} + {code}], 3
    jz 5f
    push eax
    push {stack}
5:  push dword ptr [{state} + {flags}]
    push dword ptr [{state} + {code}]
    push dword ptr [{state} + {rip_}]
    mov eax, [{state} + {registers}]
    mov ebx, [{state} + {registers} + 8]
    mov ecx, [{state} + {registers} + 16]
    mov edx, [{state} + {registers} + 24]
    iretd

    .code64
rights_inside:
    lidt [{state} + {gates_64}]
    mov eax, {task_64}
    ltr ax
    mov eax, [{state} + {data}]
    mov ds, eax
    mov es, eax
    push rax
    push {stack}
    push [{state} + {flags}]
    push [{state} + {code}]
    push [{state} + {rip_}]
    mov rax, [{state} + {registers}]
    mov rbx, [{state} + {registers} + 8]
    mov rcx, [{state} + {registers} + 16]
    mov rdx, [{state} + {registers} + 24]
    iretq

    .macro rights_stubs common
    .set rights_vector, 0
    .rept 32
    // PUSH of the vector, JMP to the common part.
    .byte 0x6a, rights_vector, 0xe9
    .long \common - . - 4
    .set rights_vector, rights_vector + 1
    .endr
    .endm
rights_stubs_64:
    rights_stubs rights_left_64
rights_stubs_32:
    rights_stubs rights_left_32

rights_left_64:
    mov [{state} + {left_registers}], rax
    mov [{state} + {left_registers} + 8], rbx
    mov [{state} + {left_at}], rsp
    mov rax, cr2
    mov [{state} + {left_cr2}], rax
    push 0x10
    lea rax, [rip + rights_back]
    push rax
    retfq

    .code32
rights_left_32:
    mov [{state} + {left_registers}], eax
    mov [{state} + {left_registers} + 8], ebx
    mov [{state} + {left_at}], esp
    mov eax, cr2
    mov [{state} + {left_cr2}], eax
rights_back:
    mov eax, 0x18
    mov ds, eax
    mov es, eax
    mov ss, eax
    mov eax, cr0
    and eax, 0x7fffffff
    mov cr0, eax
    mov eax, [{state} + {outer_control} + 16]
    mov cr4, eax
    mov eax, [{state} + {outer_control} + 8]
    mov cr3, eax
    mov eax, [{state} + {outer_efer}]
    cmp eax, [{state} + {efer}]
    je 2f
    mov ecx, 0xc0000080
    xor edx, edx
    wrmsr
2:
    mov eax, [{state} + {outer_control}]
    mov cr0, eax
    .byte 0xea
    .long {base} + rights_up - rights_start
    .short {code_64}

    .code64
rights_up:
    lgdt [{state} + {outer_segments}]
    lidt [{state} + {outer_gates}]
    mov rsp, [{state} + {outer_stack}]
    push [{state} + {outer_code}]
    lea rax, [rip + 2f]
    push rax
    retfq
2:  mov eax, [{state} + {outer_data}]
    mov ss, eax
    mov ds, eax
    mov es, eax
    mov fs, eax
    mov gs, eax
    popfq
    pop r15
    pop r14
    pop r13
    pop r12
    pop rbp
    pop rbx
    ret
rights_end:
"#,
    base = const BASE,
    state = const STATE,
    stack = const STACK,
    code_64 = const CODE_64,
    task_32 = const TASK_32,
    task_64 = const TASK_64,
    long_mode = const Efer::LME.bits(),
    control = const offset_of!(State, control),
    efer = const offset_of!(State, efer),
    has_keys = const offset_of!(State, has_keys),
    keys = const offset_of!(State, keys),
    rip_ = const offset_of!(State, rip),
    code = const offset_of!(State, code),
    data = const offset_of!(State, data),
    flags = const offset_of!(State, flags),
    registers = const offset_of!(State, registers),
    left_at = const offset_of!(State, left_at),
    left_cr2 = const offset_of!(State, left_cr2),
    left_registers = const offset_of!(State, left_registers),
    outer_control = const offset_of!(State, outer_control),
    outer_efer = const offset_of!(State, outer_efer),
    outer_stack = const offset_of!(State, outer_stack),
    outer_code = const offset_of!(State, outer_code),
    outer_data = const offset_of!(State, outer_data),
    segments = const offset_of!(State, segments),
    gates_64 = const offset_of!(State, gates_64),
    gates_32 = const offset_of!(State, gates_32),
    outer_segments = const offset_of!(State, outer_segments),
    outer_gates = const offset_of!(State, outer_gates),
);
