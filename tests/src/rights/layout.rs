//! The pages that all paging modes map to themselves: the way's code, its
//! descriptor tables and its state, and the few instructions that are tried.

use uefi::boot::{self, AllocateType, MemoryType};

/// Below 1 MiB, where every table can reach it with one page table.
pub const BASE: u64 = 0x2_0000;
/// How many pages.
const PAGES: usize = 7;
const PAGE: u64 = 4096;

const SEGMENTS: u64 = BASE + PAGE;
const STATE_64: u64 = SEGMENTS + 0x400;
const STATE_32: u64 = SEGMENTS + 0x500;
const GATES_64: u64 = SEGMENTS + 0x800;
const GATES_32: u64 = SEGMENTS + 0xa00;
/// The way's state; its page's end is the stack.
pub const STATE: u64 = BASE + 2 * PAGE;
/// See above.
pub const STACK: u64 = STATE + PAGE;
/// Instructions for CPL 0 to 2, and those for CPL 3.
const CODE: [u64; 2] = [STATE + PAGE, STATE + 2 * PAGE];
/// Memory that each of them may use.
const SCRATCH: [u64; 2] = [STATE + 3 * PAGE, STATE + 4 * PAGE];

/// Selector of the 64-bit code of CPL 0.
pub const CODE_64: u16 = 0x08;
/// Selectors of the tasks, whose only use is their stack of CPL 0.
pub const TASK_64: u16 = 0x70;
/// See above.
pub const TASK_32: u16 = 0x80;
const SEGMENTS_SIZE: usize = 0x88;
const TASK_LIMIT: u64 = 103;

/// The selector of code of a privilege level.
pub const fn code(level: u8, wide: bool) -> u16 {
    let first = 8 + level as u16 * 24 + if wide { 0 } else { 8 };
    first | level as u16
}

/// The selector of flat data of a privilege level.
pub const fn data(level: u8) -> u16 {
    (8 + level as u16 * 24 + 16) | level as u16
}

/// The instructions that are tried. Their bytes mean the same in 64-bit and in
/// 32-bit code; a breakpoint is behind each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Instruction {
    /// MOV AL, \[RBX\]
    Read,
    /// MOV \[RBX\], AL
    Write,
    /// MOV AX, \[RBX\]
    ReadTwo,
    /// MOV \[RBX\], AX
    WriteTwo,
    /// JMP RBX
    Fetch,
    /// The call.
    Call,
}

/// Bytes between two instructions.
const SPACING: u64 = 16;
/// INT3.
pub const BREAKPOINT: u8 = 0xcc;

impl Instruction {
    fn bytes(self) -> &'static [u8] {
        match self {
            Self::Read => &[0x8a, 0x03],
            Self::Write => &[0x88, 0x03],
            Self::ReadTwo => &[0x66, 0x8b, 0x03],
            Self::WriteTwo => &[0x66, 0x89, 0x03],
            Self::Fetch => &[0xff, 0xe3],
            Self::Call if crate::cpu::is_intel() => &[0x0f, 0x01, 0xc1],
            Self::Call => &[0x0f, 0x01, 0xd9],
        }
    }

    const ALL: [Self; 6] = [
        Self::Read,
        Self::Write,
        Self::ReadTwo,
        Self::WriteTwo,
        Self::Fetch,
        Self::Call,
    ];

    /// Where it is for a privilege level.
    pub fn place(self, level: u8) -> u64 {
        CODE[usize::from(level == 3)] + self as u64 * SPACING
    }
}

/// Memory that code of a privilege level may use in any case.
pub fn scratch(level: u8) -> u64 {
    SCRATCH[usize::from(level == 3)]
}

/// Whether the page at `at` is one for CPL 3.
pub fn is_user(at: u64) -> bool {
    at == CODE[1] || at == SCRATCH[1]
}

/// Takes the pages from the firmware, and puts the instructions into them.
/// False if they are not free.
pub fn take() -> bool {
    let place = AllocateType::Address(BASE);
    if boot::allocate_pages(place, MemoryType::LOADER_CODE, PAGES).is_err() {
        return false;
    }
    for page in CODE {
        for instruction in Instruction::ALL {
            let bytes = instruction.bytes().iter().chain(&[BREAKPOINT]);
            for (byte, at) in bytes.zip(page + instruction as u64 * SPACING..) {
                put(at, *byte);
            }
        }
    }
    true
}

fn put<T>(at: u64, value: T) {
    // SAFETY: all addresses here are in the pages that `take` took.
    unsafe { (at as *mut T).write_unaligned(value) };
}

/// Code and data of all levels; the order is that of [`code`] and [`data`].
pub fn write_segments() {
    const CODE_64: u64 = 0x00af_9b00_0000_ffff;
    const CODE_32: u64 = 0x00cf_9b00_0000_ffff;
    const DATA: u64 = 0x00cf_9300_0000_ffff;
    put(SEGMENTS, 0_u64);
    for level in 0..4_u8 {
        let privilege = u64::from(level) << 45;
        put(
            SEGMENTS + u64::from(code(level, true) & !7),
            CODE_64 | privilege,
        );
        put(
            SEGMENTS + u64::from(code(level, false) & !7),
            CODE_32 | privilege,
        );
        put(SEGMENTS + u64::from(data(level) & !7), DATA | privilege);
    }
    // The stack, and no map of ports: its offset is behind the limit. Intel
    // SDM volume 3, "Task-State Segment (TSS)" and "64-Bit TSS Format".
    for state in [STATE_64, STATE_32] {
        put(state, [0_u8; 104]);
        put(state + 4, STACK as u32);
        put(state + 102, 104_u16);
    }
    put(STATE_32 + 8, u32::from(data(0)));
}

/// Makes both tasks available: LTR marks one as busy.
pub fn write_tasks() {
    const AVAILABLE: u64 = 0x89 << 40;
    let descriptor = |state: u64| AVAILABLE | state << 16 | TASK_LIMIT;
    put(SEGMENTS + u64::from(TASK_64), descriptor(STATE_64));
    put(SEGMENTS + u64::from(TASK_64) + 8, 0_u64);
    put(SEGMENTS + u64::from(TASK_32), descriptor(STATE_32));
}

/// Interrupt gates to `stub`. Anybody may use that of the breakpoint. Intel SDM
/// volume 3, "IDT Descriptors" and "64-Bit Mode IDT".
pub fn write_gates(stub: impl Fn(u64) -> u64, long: bool) {
    for vector in 0..32 {
        let rights: u64 = if vector == 3 { 0xee } else { 0x8e };
        let handler = stub(vector);
        let selector = u64::from(code(0, long));
        let gate = handler & 0xffff | selector << 16 | rights << 40 | (handler & 0xffff_0000) << 32;
        if long {
            put(GATES_64 + vector * 16, gate);
            put(GATES_64 + vector * 16 + 8, 0_u64);
        } else {
            put(GATES_32 + vector * 8, gate);
        }
    }
}

/// For LGDT.
pub fn segments_register() -> [u8; 16] {
    table_register(SEGMENTS, SEGMENTS_SIZE)
}

/// For LIDT.
pub fn gates_register(long: bool) -> [u8; 16] {
    match long {
        true => table_register(GATES_64, 32 * 16),
        false => table_register(GATES_32, 32 * 8),
    }
}

fn table_register(base: u64, size: usize) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..2].copy_from_slice(&(size as u16 - 1).to_le_bytes());
    bytes[2..10].copy_from_slice(&base.to_le_bytes());
    bytes
}
