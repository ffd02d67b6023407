//! The way into the sandbox and out of it: one copy of the code below, mapped
//! at one address on both sides, and the state that it works on.

use super::tables::{Space, page, selector};
use super::{Ending, General, Place, RSP};
use crate::cpu::{rdmsr, read_cr0, write_cr0, wrmsr};
use crate::linear::Window;
use core::arch::global_asm;
use core::mem::{offset_of, transmute};

/// What a run starts with.
pub(super) struct Entry {
    /// Where.
    pub place: Place,
    /// The general registers.
    pub general: General,
    /// The instruction pointer.
    pub rip: u64,
    /// The flags.
    pub flags: u64,
}

/// At the start of the state's page; its end is the handlers' stack.
#[repr(C, align(16))]
struct State {
    general: General,
    /// Loaded beside the other registers of FPU and SSE, which are as after reset.
    mxcsr: u64,
    frame: [u64; 5],
    data: u64,
    inner_root: u64,
    outer_root: u64,
    outer_stack: u64,
    outer_code: u64,
    outer_data: u64,
    left_at: u64,
    cr2: u64,
    dr6: u64,
    inner_segments: [u8; 16],
    inner_gates: [u8; 16],
    outer_segments: [u8; 16],
    outer_gates: [u8; 16],
}

unsafe extern "C" {
    static hatch_start: u8;
    static hatch_leave: u8;
    static hatch_end: u8;
}

/// Bytes of a stub.
const STUB: usize = 10;

/// See above.
pub(super) struct Hatch {
    state: *mut State,
    inner_root: u64,
    timer: u32,
    cr0: u64,
    msrs: [u64; OWN_MSRS.len()],
    masks: [u8; 2],
}

const MXCSR_AFTER_RESET: u64 = 0x1f80;
const STAR: u32 = 0xc000_0081;
const LSTAR: u32 = 0xc000_0082;
const CSTAR: u32 = 0xc000_0083;
const SFMASK: u32 = 0xc000_0084;
const EFER: u32 = 0xc000_0080;
const EFER_SCE: u64 = 1;
const EFER_NXE: u64 = 1 << 11;
const CR0_WP: u64 = 1 << 16;
const CR0_AM: u64 = 1 << 18;

/// MSRs that lead out of an instruction, and what the sandbox has in them:
/// SYSCALL and SYSENTER go to a breakpoint in the code page.
const OWN_MSRS: [(u32, u64); 7] = [
    (STAR, 0x0018_0008_0000_0000 | LANDING),
    (LSTAR, LANDING),
    (CSTAR, LANDING),
    (SFMASK, 0),
    (x86::msr::SYSENTER_CS, selector::CODE_64 as u64),
    (x86::msr::SYSENTER_ESP, super::DATA + 0x700),
    (x86::msr::SYSENTER_EIP, LANDING),
];
const LANDING: u64 = super::CODE + 0x80;

impl Hatch {
    /// Fills the upper pages of `space`, and makes the CPU ready.
    pub fn new(space: &mut Space) -> Self {
        place_code(space.upper(page::HANDLERS));
        place_gates(space.upper(page::GATES));
        let state: *mut State = space.upper(page::STATE).as_mut_ptr().cast();
        let (segments, gates, root) = (space.segments(), space.gates(), space.root());
        // SAFETY: the page is the state's, aligned, and all zeros are a state.
        unsafe {
            let state = &mut *state;
            state.inner_root = root;
            state.inner_segments[..10].copy_from_slice(&segments);
            state.inner_gates[..10].copy_from_slice(&gates);
            state.mxcsr = MXCSR_AFTER_RESET;
        }
        let mut hatch = Self {
            state,
            inner_root: root,
            timer: 0,
            cr0: read_cr0(),
            msrs: [0; OWN_MSRS.len()],
            masks: [0; 2],
        };
        hatch.prepare();
        hatch
    }

    /// Gives the CPU what the code in the sandbox relies on.
    pub fn prepare(&mut self) {
        // SAFETY: these registers exist in every 64-bit CPU, and `drop` puts
        // them back. No interrupt comes meanwhile: a string may enable them, and
        // so does the firmware whenever memory is taken from it.
        unsafe {
            write_cr0(self.cr0 | CR0_WP | CR0_AM);
            wrmsr(EFER, rdmsr(EFER) | EFER_SCE | EFER_NXE);
            for ((number, own), before) in OWN_MSRS.iter().zip(&mut self.msrs) {
                *before = rdmsr(*number);
                wrmsr(*number, *own);
            }
            self.timer = TIMER.read_volatile();
            TIMER.write_volatile(self.timer | TIMER_MASKED);
            self.masks = PIC_MASKS.map(|port| crate::cpu::inb(port));
            for port in PIC_MASKS {
                crate::cpu::outb(port, 0xff);
            }
        }
    }

    /// Runs what `entry` says.
    pub fn run(&mut self, entry: &Entry) -> Ending {
        let (code, data) = selectors(entry.place);
        // SAFETY: the state is ours; the code of the hatch is mapped at the
        // window's first page, and comes back with the machine as it was.
        unsafe {
            let state = &mut *self.state;
            state.general = entry.general;
            let stack = entry.general[RSP];
            state.frame = [
                entry.rip,
                u64::from(code),
                entry.flags,
                stack,
                u64::from(data),
            ];
            state.data = u64::from(data);
            let enter: unsafe extern "sysv64" fn() = transmute(Window::address(page::HANDLERS));
            enter();
            self.ending()
        }
    }

    /// Reads what the handlers left on their stack: below its end the CPU's
    /// frame, perhaps with an error code, a vector, and 15 registers.
    fn ending(&self) -> Ending {
        const PUSHED: usize = 15;
        const FRAME: usize = 5;
        let base = Window::address(page::STATE);
        // SAFETY: the handlers are done.
        let state = unsafe { &*self.state };
        let left_at = ((state.left_at - base) / 8) as usize;
        let page: *const u64 = self.state.cast();
        // SAFETY: all within the page.
        let at = |index: usize| unsafe { page.add(left_at + index).read_volatile() };
        let has_error = 512 - left_at > PUSHED + 1 + FRAME;
        let frame = PUSHED + 1 + usize::from(has_error);
        let order = [14, 13, 12, 11, usize::MAX, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0];
        let general = order.map(|index| match index {
            usize::MAX => at(frame + 3),
            index => self.without_root(at(index)),
        });
        Ending {
            vector: at(PUSHED) as u8,
            error: has_error.then(|| at(PUSHED + 1)),
            general,
            frame: [at(frame), at(frame + 1), at(frame + 2), at(frame + 4)],
            cr2: state.cr2,
            dr6: state.dr6,
        }
    }

    /// Where the page tables are differs from run to run.
    fn without_root(&self, value: u64) -> u64 {
        if value == self.inner_root {
            0x00c3_00c3
        } else {
            value
        }
    }
}

/// The local APIC's timer, where it is after reset.
const TIMER: *mut u32 = 0xfee0_0320 as *mut u32;
const TIMER_MASKED: u32 = 1 << 16;
/// The masks of both interrupt controllers.
const PIC_MASKS: [u16; 2] = [0x21, 0xa1];

impl Drop for Hatch {
    fn drop(&mut self) {
        // SAFETY: the values from before.
        unsafe {
            write_cr0(self.cr0);
            for ((number, _), before) in OWN_MSRS.iter().zip(&self.msrs) {
                wrmsr(*number, *before);
            }
            for (port, mask) in PIC_MASKS.iter().zip(self.masks) {
                crate::cpu::outb(*port, mask);
            }
            TIMER.write_volatile(self.timer);
        }
    }
}

const fn selectors(place: Place) -> (u16, u16) {
    match (place.user, place.bits) {
        (false, 64) => (selector::CODE_64, selector::DATA),
        (false, 32) => (selector::CODE_32, selector::DATA),
        (false, _) => (selector::CODE_16, selector::DATA_16),
        (true, 64) => (selector::USER_CODE_64, selector::USER_DATA),
        (true, 32) => (selector::USER_CODE_32, selector::USER_DATA),
        (true, _) => (selector::USER_CODE_16, selector::USER_DATA_16),
    }
}

/// Copies the code to the start of the page, and puts a stub for each vector at
/// its end.
fn place_code(page: &mut [u8]) {
    // SAFETY: the block between the symbols is code of this program.
    let (code, leave) = unsafe {
        let start = &raw const hatch_start;
        let size = (&raw const hatch_end).offset_from_unsigned(start);
        let leave = (&raw const hatch_leave).offset_from_unsigned(start);
        (core::slice::from_raw_parts(start, size), leave)
    };
    page[..code.len()].copy_from_slice(code);
    for vector in 0..256usize {
        let at = stub(vector);
        // PUSH of the vector, JMP to the common part.
        page[at] = 0x68;
        page[at + 1..at + 5].copy_from_slice(&(vector as u32).to_le_bytes());
        page[at + 5] = 0xe9;
        let distance = (leave as i32) - (at + STUB) as i32;
        page[at + 6..at + STUB].copy_from_slice(&distance.to_le_bytes());
    }
}

const fn stub(vector: usize) -> usize {
    4096 - (256 - vector) * STUB
}

/// Interrupt gates on the first stack of the interrupt-stack table; the
/// breakpoint and the overflow trap may be called from ring 3. Intel SDM
/// volume 3, "64-Bit Mode IDT".
fn place_gates(gates: &mut [u8]) {
    for (vector, gate) in gates.chunks_exact_mut(16).enumerate() {
        let handler = Window::address(page::HANDLERS) + stub(vector) as u64;
        let rights: u64 = if matches!(vector, 3 | 4) {
            0xee01
        } else {
            0x8e01
        };
        let low = handler & 0xffff
            | u64::from(selector::CODE_64) << 16
            | rights << 32
            | (handler & 0xffff_0000) << 32;
        gate[..8].copy_from_slice(&low.to_le_bytes());
        gate[8..].copy_from_slice(&(handler >> 32).to_le_bytes());
    }
}

// The registers of FPU and SSE are cleared without FXRSTOR: QEMU 7.2 disturbs
// another CPU by that. The state is three pages on. The outer stack is not mapped
// inside, and the inner one is the handlers'.
global_asm!(
    r#"
    .balign 4096
    .globl hatch_start
    .globl hatch_leave
    .globl hatch_end
hatch_start:
    .set hatch_state, hatch_start + 0x3000
    pushfq
    cli
    push rbx
    push rbp
    push r12
    push r13
    push r14
    push r15
    mov [rip + hatch_state + {outer_stack}], rsp
    mov rax, cr3
    mov [rip + hatch_state + {outer_root}], rax
    sgdt [rip + hatch_state + {outer_segments}]
    sidt [rip + hatch_state + {outer_gates}]
    mov eax, cs
    mov [rip + hatch_state + {outer_code}], rax
    mov eax, ss
    mov [rip + hatch_state + {outer_data}], rax
    fninit
    .rept 8
    fldz
    .endr
    fninit
    ldmxcsr [rip + hatch_state + {mxcsr}]
    xorps xmm0, xmm0
    xorps xmm1, xmm1
    xorps xmm2, xmm2
    xorps xmm3, xmm3
    xorps xmm4, xmm4
    xorps xmm5, xmm5
    xorps xmm6, xmm6
    xorps xmm7, xmm7
    xorps xmm8, xmm8
    xorps xmm9, xmm9
    xorps xmm10, xmm10
    xorps xmm11, xmm11
    xorps xmm12, xmm12
    xorps xmm13, xmm13
    xorps xmm14, xmm14
    xorps xmm15, xmm15
    mov rax, [rip + hatch_state + {inner_root}]
    mov cr3, rax
    xor eax, eax
    mov cr2, rax
    mov eax, 0xffff0ff0
    mov dr6, rax
    lgdt [rip + hatch_state + {inner_segments}]
    lidt [rip + hatch_state + {inner_gates}]
    mov eax, [rip + hatch_state + {data}]
    mov ds, eax
    mov es, eax
    mov fs, eax
    mov gs, eax
    lea rsp, [rip + hatch_state + {frame}]
    mov rax, [rip + hatch_state + {general}]
    mov rcx, [rip + hatch_state + {general} + 8]
    mov rdx, [rip + hatch_state + {general} + 16]
    mov rbx, [rip + hatch_state + {general} + 24]
    mov rbp, [rip + hatch_state + {general} + 40]
    mov rsi, [rip + hatch_state + {general} + 48]
    mov rdi, [rip + hatch_state + {general} + 56]
    mov r8, [rip + hatch_state + {general} + 64]
    mov r9, [rip + hatch_state + {general} + 72]
    mov r10, [rip + hatch_state + {general} + 80]
    mov r11, [rip + hatch_state + {general} + 88]
    mov r12, [rip + hatch_state + {general} + 96]
    mov r13, [rip + hatch_state + {general} + 104]
    mov r14, [rip + hatch_state + {general} + 112]
    mov r15, [rip + hatch_state + {general} + 120]
    iretq
hatch_leave:
    push rax
    push rcx
    push rdx
    push rbx
    push rbp
    push rsi
    push rdi
    push r8
    push r9
    push r10
    push r11
    push r12
    push r13
    push r14
    push r15
    cld
    mov [rip + hatch_state + {left_at}], rsp
    mov rax, cr2
    mov [rip + hatch_state + {cr2}], rax
    mov rax, dr6
    mov [rip + hatch_state + {dr6}], rax
    mov rax, [rip + hatch_state + {outer_root}]
    mov cr3, rax
    lgdt [rip + hatch_state + {outer_segments}]
    lidt [rip + hatch_state + {outer_gates}]
    mov eax, [rip + hatch_state + {outer_data}]
    mov ss, eax
    mov ds, eax
    mov es, eax
    mov fs, eax
    mov gs, eax
    mov rsp, [rip + hatch_state + {outer_stack}]
    push [rip + hatch_state + {outer_code}]
    lea rax, [rip + 2f]
    push rax
    retfq
2:  pop r15
    pop r14
    pop r13
    pop r12
    pop rbp
    pop rbx
    popfq
    ret
hatch_end:
"#,
    outer_stack = const offset_of!(State, outer_stack),
    outer_root = const offset_of!(State, outer_root),
    outer_segments = const offset_of!(State, outer_segments),
    outer_gates = const offset_of!(State, outer_gates),
    outer_code = const offset_of!(State, outer_code),
    outer_data = const offset_of!(State, outer_data),
    inner_root = const offset_of!(State, inner_root),
    inner_segments = const offset_of!(State, inner_segments),
    inner_gates = const offset_of!(State, inner_gates),
    data = const offset_of!(State, data),
    frame = const offset_of!(State, frame),
    general = const offset_of!(State, general),
    mxcsr = const offset_of!(State, mxcsr),
    left_at = const offset_of!(State, left_at),
    cr2 = const offset_of!(State, cr2),
    dr6 = const offset_of!(State, dr6),
);
