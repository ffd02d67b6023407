//! The tables and the tasks' segments, as the program finds them.

use crate::Mode;
use crate::code::offset;
use crate::layout::*;
use alloc::vec::Vec;

/// Writes a value into the pages that are ours.
pub fn put<T>(at: u64, value: T) {
    // SAFETY: all addresses here are in the pages that are ours.
    unsafe { (at as *mut T).write_unaligned(value) };
}

fn descriptor(base: u64, limit: u64, access: u64, flags: u64) -> u64 {
    let base = (base & 0xff_ffff) << 16 | (base >> 24 & 0xff) << 56;
    base | limit & 0xffff | (limit >> 16) << 48 | access << 40 | flags << 52
}

/// Writes all tables and tasks.
pub fn write(mode: Mode) {
    describe();
    gates();
    map(mode);
    tasks(mode);
}

fn describe() {
    let set = |selector: u16, descriptor: u64| put(GDT + u64::from(selector & !7), descriptor);
    set(CODE, descriptor(0, 0xf_ffff, 0x9b, 0xc));
    set(DATA, descriptor(0, 0xf_ffff, 0x93, 0xc));
    set(0x18, descriptor(0, 0xf_ffff, 0x9b, 0xa));
    for selector in (MAIN..=USER).step_by(8) {
        let (limit, access) = match selector {
            TASK_16 | ABSENT_16 => (0x2b, 0x81),
            _ => (0x67, 0x89),
        };
        set(selector, descriptor(task(selector), limit, access, 0));
    }
    set(LOCAL, descriptor(LDT, 7, 0x82, 0));
    put(LDT, descriptor(BASE, 0xffff, 0x92, 0));
    set(GATE, u64::from(TASK_16) << 16 | 0x85 << 40);
    set(LOW_CODE, descriptor(BASE, 0xffff, 0x9a, 4));
    set(LOW_DATA, descriptor(BASE, 0xffff, 0x92, 0));
    set(USER_CODE, descriptor(0, 0xf_ffff, 0xfa, 0xc));
    set(USER_DATA, descriptor(0, 0xf_ffff, 0xf2, 0xc));
    set(ABSENT, descriptor(0, 0xf_ffff, 0x12, 0xc));
}

/// Where the TSS behind `selector` is.
pub fn task(selector: u16) -> u64 {
    TASKS + u64::from(selector - MAIN) * 0x10
}

fn gates() {
    let task = |selector: u16| u64::from(selector) << 16 | 0xe5 << 40;
    put(IDT + 6 * 8, task(UNDEFINED));
    put(IDT + 10 * 8, task(INVALID));
    put(IDT + 11 * 8, task(ABSENT_16));
    put(IDT + 13 * 8, task(PROTECTION));
    put(IDT + 0x40 * 8, task(INTERRUPT));
    let handler = BASE + offset!(task_debug) as u64;
    let handler = handler & 0xffff | (handler >> 16) << 48;
    put(IDT + 8, handler | u64::from(CODE) << 16 | 0x8e << 40);
}

/// Tables that map the first MiBs to themselves, but for the window and the
/// pages of task B's TSS.
fn map(mode: Mode) {
    for (root, directory, table, sight) in [
        (ROOT, DIRECTORY, TABLE, SIGHT),
        (ROOT_A, DIRECTORY_A, TABLE_A, SIGHT_A),
    ] {
        let (size, count) = if mode == Mode::Pae {
            (8, 512)
        } else {
            (4, 1024)
        };
        let set = |page: u64, to: u64| put(table + page / 4096 * size, (to | 7) as u32);
        (0..count).for_each(|page| set(page * 4096, page * 4096));
        set(WINDOW, sight);
        set(ACROSS, FIRST_PAGE);
        set(ACROSS + 4096, SECOND_PAGE);
        if mode == Mode::Pae {
            put(root, directory | 1);
            put(directory, table | 7);
        } else {
            put(root, table | 7);
        }
        put(sight, sight as u32);
    }
}

/// What a task begins with, where it matters.
pub struct Start {
    pub selector: u16,
    pub eip: u32,
    pub eflags: u32,
    /// ES, CS, SS, DS, FS, GS.
    pub segments: [u16; 6],
    pub trap: bool,
}

const FLAT: [u16; 6] = [DATA, CODE, DATA, DATA, 0, 0];
const LOW: [u16; 6] = [DATA, LOW_CODE, LOW_DATA, DATA, 0, 0];

impl Start {
    fn new(selector: u16, offset: usize) -> Self {
        let low = matches!(selector, TASK_16 | ABSENT_16);
        let base = if low { 0 } else { BASE as u32 };
        Self {
            selector,
            eip: base + offset as u32,
            eflags: 2,
            segments: if low { LOW } else { FLAT },
            trap: false,
        }
    }

    /// Of 16 bits.
    pub fn is_low(&self) -> bool {
        self.segments == LOW
    }
}

/// All tasks but the main one.
pub fn starts() -> [Start; 12] {
    let real = (BASE >> 4) as u16;
    [
        Start {
            eflags: ARITHMETIC,
            segments: [DATA, CODE, DATA, DATA, LOCAL_DATA, 0],
            ..Start::new(TASK_A, offset!(task_a))
        },
        Start::new(TASK_B, offset!(task_b)),
        Start {
            eflags: ARITHMETIC,
            ..Start::new(TASK_16, offset!(task_16))
        },
        Start::new(UNDEFINED, offset!(task_undefined)),
        Start::new(PROTECTION, offset!(task_protection)),
        Start::new(INTERRUPT, offset!(task_interrupt)),
        Start::new(ABSENT_16, offset!(task_absent)),
        Start {
            segments: [DATA, CODE, DATA, OUTSIDE, 0, 0],
            ..Start::new(FAULTY, offset!(task_faulty))
        },
        Start::new(INVALID, offset!(task_invalid)),
        Start {
            trap: true,
            ..Start::new(TRAPPED, offset!(task_trapped))
        },
        Start {
            eip: offset!(task_real) as u32,
            eflags: 2 | VIRTUAL_8086,
            segments: [real + 1, real, real + 2, real + 3, real + 4, real + 5],
            ..Start::new(REAL, 0)
        },
        Start {
            segments: [USER_DATA, USER_CODE, USER_DATA, USER_DATA, 0, 0],
            ..Start::new(USER, offset!(task_user))
        },
    ]
}

/// What a task begins with in a general register.
pub fn general(selector: u16, number: u32) -> u32 {
    let stack = STACKS as u32 + 0x180 + u32::from(selector - MAIN) / 8 * 0x180;
    match (number, selector) {
        (4, TASK_16 | ABSENT_16) => stack - BASE as u32,
        (4, _) => stack,
        _ => u32::from(selector) << 16 | 0x8000 | number,
    }
}

/// Writes the tasks' segments. Without paging nothing of CR3 is loaded.
fn tasks(mode: Mode) {
    let root = |root: u64| match mode {
        Mode::Unpaged => 0xdead_b000,
        _ => root as u32,
    };
    put(task(MAIN) + 0x1c, root(ROOT));
    if mode != Mode::Unpaged {
        let at = ACROSS + 0x1000 - ACROSS_BEFORE;
        let low = descriptor(at, 0x67, 0x89, 0);
        put(GDT + u64::from(TASK_B), low);
    }
    for start in starts() {
        let bytes = if start.is_low() {
            task_bytes_16(&start)
        } else {
            let own = if start.selector == TASK_A {
                ROOT_A
            } else {
                ROOT
            };
            task_bytes_32(&start, root(own))
        };
        let across = start.selector == TASK_B && mode != Mode::Unpaged;
        for (byte, at) in bytes.into_iter().zip(0..) {
            match at {
                _ if !across => put(task(start.selector) + at, byte),
                0..ACROSS_BEFORE => put(FIRST_PAGE + 0x1000 - ACROSS_BEFORE + at, byte),
                _ => put(SECOND_PAGE + at - ACROSS_BEFORE, byte),
            }
        }
    }
}

/// Bytes of task B's TSS that lie in the first of its pages.
const ACROSS_BEFORE: u64 = 0x32;

fn task_bytes_32(start: &Start, cr3: u32) -> Vec<u8> {
    let mut words = [0_u32; 26];
    words[7] = cr3;
    words[8] = start.eip;
    words[9] = start.eflags;
    for number in 0..8 {
        words[10 + number as usize] = general(start.selector, number);
    }
    for (number, selector) in start.segments.into_iter().enumerate() {
        words[18 + number] = selector.into();
    }
    words[24] = if start.selector == TASK_A {
        LOCAL.into()
    } else {
        0
    };
    words[25] = start.trap.into();
    words.into_iter().flat_map(u32::to_le_bytes).collect()
}

fn task_bytes_16(start: &Start) -> Vec<u8> {
    let mut words = [0_u16; 22];
    words[7] = start.eip as u16;
    words[8] = start.eflags as u16;
    for number in 0..8 {
        words[9 + number as usize] = general(start.selector, number) as u16;
    }
    words[17..21].copy_from_slice(&start.segments[..4]);
    words.into_iter().flat_map(u16::to_le_bytes).collect()
}
