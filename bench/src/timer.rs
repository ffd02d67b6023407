//! Many singles of one operation, in the sandbox: pages of 4 KiB, no interrupts.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::arch::global_asm;
use core::slice;
use tests::sandbox::{CODE, CODE_OFFSET, Ending, General, Place, Sandbox};

/// Singles of one operation.
const SINGLES: usize = 1000;
const PAGE: u64 = 4096;
/// Where the sandbox maps what the timer adds.
const TIMES: u64 = 0x3_0000;
/// A page for [`Timer::map`].
pub const DEVICE: u64 = 0x4_0000;

/// Registers of an operation: RAX, RBX, RCX, RDX, RSI, RDI.
pub type Registers = [u64; 6];
const NUMBERS: [usize; 6] = [0, 3, 1, 2, 6, 7];

/// The times, as the sandbox's code writes them, and behind them the registers
/// that it reads.
#[repr(C, align(4096))]
struct Times([u64; 1024]);

/// A sandbox with room for the times.
pub struct Timer {
    sandbox: Sandbox,
    times: Box<Times>,
    /// What the empty pair of clock readings costs, by ring.
    empty: [u64; 2],
}

/// What singles cost, in ticks, without the two clock readings.
#[derive(Clone, Copy)]
pub struct Cost {
    /// The least.
    pub min: u64,
    /// The median.
    pub median: u64,
}

impl Timer {
    /// Makes one.
    pub fn new() -> Self {
        let mut timer = Self {
            sandbox: Sandbox::new(),
            times: Box::new(Times([0; 1024])),
            empty: [0; 2],
        };
        let times = core::ptr::from_ref(&*timer.times) as u64;
        for page in 0..size_of::<Times>() as u64 / PAGE {
            let physical = Some(times + page * PAGE);
            timer.sandbox.map(TIMES + page * PAGE, physical);
        }
        timer.empty = [false, true].map(|user| timer.singles(user, &[], [0; 6]).min);
        timer
    }

    /// Maps [`DEVICE`] to `physical`.
    pub fn map(&mut self, physical: u64) {
        self.sandbox.map(DEVICE, Some(physical));
    }

    /// Puts `bytes` to the start of the data.
    pub fn place(&mut self, bytes: [u8; 8]) {
        if let Some(first) = self.sandbox.data().next() {
            *first = u64::from_le_bytes(bytes);
        }
    }

    /// `instruction` once, to see what it does.
    pub fn once(&mut self, user: bool, instruction: &[u8], registers: Registers) -> Ending {
        let mut general: General = [0; 16];
        for (number, value) in NUMBERS.iter().zip(registers) {
            general[*number] = value;
        }
        self.sandbox.go(Place::new(user, 64), instruction, &general)
    }

    /// What `instruction` costs in ring 3 if `user`, else 0.
    pub fn cost(&mut self, user: bool, instruction: &[u8], registers: Registers) -> Cost {
        let Cost { min, median } = self.singles(user, instruction, registers);
        let empty = self.empty[usize::from(user)];
        Cost {
            min: min.saturating_sub(empty),
            median: median.saturating_sub(empty),
        }
    }

    fn singles(&mut self, user: bool, instruction: &[u8], registers: Registers) -> Cost {
        // SAFETY: the symbols are the ends of the code below.
        let [before, after] = unsafe {
            let part = |start: &u8, end: &u8| {
                let length = core::ptr::from_ref(end).offset_from_unsigned(start);
                slice::from_raw_parts(start, length)
            };
            [
                part(&timer_before, &timer_between),
                part(&timer_between, &timer_end),
            ]
        };
        let code: Vec<u8> = [before, instruction, after].concat();
        for (word, value) in self.times.0[SINGLES..].iter_mut().zip(registers) {
            *word = value;
        }
        let mut general: General = [0; 16];
        general[11] = CODE + CODE_OFFSET as u64;
        general[12] = TIMES;
        general[13] = SINGLES as u64;
        general[15] = TIMES + (SINGLES * size_of::<u64>()) as u64;
        self.sandbox.go(Place::new(user, 64), &code, &general);
        let mut times = self.times.0[..SINGLES].to_vec();
        times.sort_unstable();
        Cost {
            min: times[0],
            median: times[SINGLES / 2],
        }
    }
}

unsafe extern "C" {
    static timer_before: u8;
    static timer_between: u8;
    static timer_end: u8;
}

// R11 is where the code begins, R12 where the next time goes, R13 how many are
// left, R15 where the registers of the operation are.
global_asm!(
    "timer_before:",
    "rdtsc",
    "shl rdx, 32",
    "or rax, rdx",
    "mov r14, rax",
    "mov rax, [r15]",
    "mov rbx, [r15 + 8]",
    "mov rcx, [r15 + 16]",
    "mov rdx, [r15 + 24]",
    "mov rsi, [r15 + 32]",
    "mov rdi, [r15 + 40]",
    "timer_between:",
    "rdtsc",
    "shl rdx, 32",
    "or rax, rdx",
    "sub rax, r14",
    "mov [r12], rax",
    "add r12, 8",
    "dec r13",
    "jz 2f",
    "jmp r11",
    "2:",
    "timer_end:",
);
