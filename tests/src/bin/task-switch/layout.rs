//! Where everything lies, and what selects it.

/// Everything lies below 1 MiB, where virtual-8086 mode can reach it.
pub const BASE: u64 = 0x2_0000;
pub const PAGES: usize = 20;

pub const GDT: u64 = BASE + 0x2000;
pub const IDT: u64 = BASE + 0x2800;
pub const LDT: u64 = BASE + 0x2c00;
pub const TASKS: u64 = BASE + 0x3000;
/// The tables of all tasks but one, and those of that one.
pub const ROOT: u64 = BASE + 0x4000;
pub const ROOT_A: u64 = BASE + 0x5000;
pub const DIRECTORY: u64 = BASE + 0x6000;
pub const DIRECTORY_A: u64 = BASE + 0x7000;
pub const TABLE: u64 = BASE + 0x8000;
pub const TABLE_A: u64 = BASE + 0x9000;
/// What the window shows, to the others and to A.
pub const SIGHT: u64 = BASE + 0xa000;
pub const SIGHT_A: u64 = BASE + 0xb000;
/// The two pages of task B's TSS, in the wrong order.
pub const SECOND_PAGE: u64 = BASE + 0xc000;
pub const FIRST_PAGE: u64 = BASE + 0xd000;
pub const STACKS: u64 = BASE + 0xe000;
pub const NOTES: u64 = BASE + 0x1_0000;

/// Linear addresses that the tables map elsewhere.
pub const WINDOW: u64 = 0x18_0000;
pub const ACROSS: u64 = 0x19_0000;

/// Selectors.
pub const CODE: u16 = 0x08;
pub const DATA: u16 = 0x10;
pub const MAIN: u16 = 0x20;
pub const TASK_A: u16 = 0x28;
pub const TASK_B: u16 = 0x30;
pub const TASK_16: u16 = 0x38;
pub const UNDEFINED: u16 = 0x40;
pub const PROTECTION: u16 = 0x48;
pub const INTERRUPT: u16 = 0x50;
pub const ABSENT_16: u16 = 0x58;
pub const FAULTY: u16 = 0x60;
pub const INVALID: u16 = 0x68;
pub const TRAPPED: u16 = 0x70;
pub const REAL: u16 = 0x78;
pub const USER: u16 = 0x80;
pub const LOCAL: u16 = 0x88;
pub const GATE: u16 = 0x90;
pub const LOW_CODE: u16 = 0x98;
pub const LOW_DATA: u16 = 0xa0;
pub const USER_CODE: u16 = 0xab;
pub const USER_DATA: u16 = 0xb3;
pub const ABSENT: u16 = 0xb8;
pub const LOCAL_DATA: u16 = 0x04;
/// Beyond the GDT.
pub const OUTSIDE: u16 = 0x7f8;

pub const NESTED: u32 = 1 << 14;
pub const RESUME: u32 = 1 << 16;
pub const VIRTUAL_8086: u32 = 1 << 17;
pub const ARITHMETIC: u32 = 0x8d7;
pub const TASK_SWITCHED: u32 = 1 << 3;
