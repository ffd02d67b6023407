//! The sandbox's page tables and descriptor tables.

use crate::linear::{PRESENT_WRITABLE, Table, Window};
use alloc::boxed::Box;
use core::arch::asm;

/// Linear address of the code page.
pub const CODE: u64 = 0x1_0000;
/// Linear address of the pages of data that follow each other.
pub const DATA: u64 = 0x2_0000;
/// How many follow each other.
pub const DATA_PAGES: u64 = 2;
/// One more, at the end of the segment that 16-bit code has for its data.
pub const LAST_DATA: u64 = 0x2_f000;

const PAGE: u64 = 4096;
const TASK_LIMIT: u64 = 103;
const USER: u64 = 1 << 2;
const PRESENT: u64 = 1;
const NO_EXECUTE: u64 = 1 << 63;

/// Pages of the window in which handlers and tables are, the same in the
/// sandbox and outside of it.
pub mod page {
    /// Handlers.
    pub const HANDLERS: usize = 0;
    /// The interrupt descriptor table.
    pub const GATES: usize = 1;
    /// The global descriptor table, and the task state.
    pub const SEGMENTS: usize = 2;
    /// The handlers' stack and state.
    pub const STATE: usize = 3;
}

/// Offset of the task state in its page.
pub const TASK_OFFSET: usize = 0x800;

/// Selectors. Their order is what SYSCALL, SYSRET, SYSENTER and SYSEXIT want.
pub mod selector {
    /// 64-bit code of ring 0.
    pub const CODE_64: u16 = 0x08;
    /// Flat data of ring 0.
    pub const DATA: u16 = 0x10;
    /// 32-bit code of ring 3.
    pub const USER_CODE_32: u16 = 0x1b;
    /// 64-bit code of ring 3.
    pub const USER_CODE_64: u16 = 0x2b;
    /// Flat data of ring 3.
    pub const USER_DATA: u16 = 0x33;
    /// 32-bit code of ring 0.
    pub const CODE_32: u16 = 0x38;
    /// 16-bit code of ring 0.
    pub const CODE_16: u16 = 0x40;
    /// 16-bit data of ring 0.
    pub const DATA_16: u16 = 0x48;
    /// 16-bit code of ring 3.
    pub const USER_CODE_16: u16 = 0x53;
    /// 16-bit data of ring 3.
    pub const USER_DATA_16: u16 = 0x5b;
    /// The task.
    pub const TASK: u16 = 0x60;
}

/// Descriptors, all marked accessed: the table cannot be written.
const SEGMENTS: [u64; 14] = [
    0,
    0x00af_9b00_0000_ffff,
    0x00cf_9300_0000_ffff,
    0x00cf_fb00_0000_ffff,
    0x00cf_f300_0000_ffff,
    0x00af_fb00_0000_ffff,
    0x00cf_f300_0000_ffff,
    0x00cf_9b00_0000_ffff,
    0x0000_9b00_0000_ffff | CODE << 16,
    0x0000_9300_0000_ffff | DATA << 16,
    0x0000_fb00_0000_ffff | CODE << 16,
    0x0000_f300_0000_ffff | DATA << 16,
    0, // the task, two words
    0,
];

/// The pages and tables.
pub struct Space {
    window: Window,
    root: Box<Table>,
    low: [Box<Table>; 3],
    code: Box<Table>,
    data: [Box<Table>; DATA_PAGES as usize],
    last: Box<Table>,
    upper: [Box<Table>; 4],
}

impl Space {
    /// Makes them, and makes the task state the CPU's.
    pub fn new() -> Self {
        let mut space = Self {
            window: Window::open(),
            root: Table::boxed(),
            low: [(); 3].map(|()| Table::boxed()),
            code: Table::boxed(),
            data: [(); DATA_PAGES as usize].map(|()| Table::boxed()),
            last: Table::boxed(),
            upper: [(); 4].map(|()| Table::boxed()),
        };
        space.link();
        space.fill_segments();
        space.fill_task();
        for index in 0..space.upper.len() {
            let entry = space.upper[index].entry();
            space.window.set(index, entry);
        }
        space.load_task();
        space.protect();
        space
    }

    /// In both sets of tables only the state can be written from here on.
    fn protect(&mut self) {
        for index in [page::HANDLERS, page::GATES, page::SEGMENTS] {
            let entry = self.upper[index].entry();
            self.window.set(index, entry & !PRESENT_WRITABLE | PRESENT);
        }
    }

    /// Makes the task state the CPU's once more, which has forgotten it.
    pub fn resume(&mut self) {
        self.fill_segments();
        let entry = self.upper[page::SEGMENTS].entry();
        self.window.set(page::SEGMENTS, entry);
        self.load_task();
        self.protect();
    }

    fn link(&mut self) {
        let [pointers, directory, pages] = &mut self.low;
        self.root.0[0] = pointers.entry() | USER;
        self.root.0[Window::SLOT as usize] = self.window.root_entry();
        pointers.0[0] = directory.entry() | USER;
        directory.0[0] = pages.entry() | USER;
        pages.0[number(CODE)] = address(&self.code) | PRESENT | USER;
        let linear = [DATA, DATA + PAGE, LAST_DATA];
        for (page, linear) in self.data.iter().chain([&self.last]).zip(linear) {
            pages.0[number(linear)] = page.entry() | USER | NO_EXECUTE;
        }
    }

    fn fill_segments(&mut self) {
        let table = &mut self.upper[page::SEGMENTS].0;
        table[..SEGMENTS.len()].copy_from_slice(&SEGMENTS);
        // An available 64-bit task state. Intel SDM volume 3, "TSS Descriptor
        // in 64-bit mode".
        let base = Window::address(page::SEGMENTS) + TASK_OFFSET as u64;
        let slot = usize::from(selector::TASK) / 8;
        let low = (base & 0xff_ffff) << 16 | (base >> 24 & 0xff) << 56;
        table[slot] = low | 0x0000_8900_0000_0000 | TASK_LIMIT;
        table[slot + 1] = base >> 32;
    }

    /// All stack pointers, of rings and of the interrupt-stack table, are the
    /// end of the state's page. Intel SDM volume 3, "64-Bit TSS Format".
    fn fill_task(&mut self) {
        let stack = Window::address(page::STATE) + PAGE;
        let table = &mut self.upper[page::SEGMENTS].0;
        let mut bytes = [0u8; 104];
        for offset in [4, 12, 20, 36, 44, 52, 60, 68, 76, 84] {
            bytes[offset..offset + 8].copy_from_slice(&stack.to_le_bytes());
        }
        // No map of ports: its offset is behind the limit.
        bytes[102..104].copy_from_slice(&104u16.to_le_bytes());
        for (index, chunk) in bytes.chunks_exact(8).enumerate() {
            let word = chunk.iter().rev().fold(0, |w, b| w << 8 | u64::from(*b));
            table[TASK_OFFSET / 8 + index] = word;
        }
    }

    /// It stays the CPU's when the sandbox is gone: firmware has no use for
    /// one, and there is no way back to none. There is no local table: after a
    /// reset the CPU has one at address 0, whose limit no instruction shows.
    fn load_task(&self) {
        let mut before = [0u8; 10];
        let own = self.segments();
        // SAFETY: the task's descriptor is good, and mapped writable; the
        // firmware's table comes back.
        unsafe {
            asm!(
                "sgdt [{before}]", "lgdt [{own}]", "ltr {task:x}", "lldt {none:x}", "lgdt [{before}]",
                before = in(reg) &mut before,
                own = in(reg) &own,
                task = in(reg) selector::TASK,
                none = in(reg) 0,
                options(nostack),
            );
        }
    }

    /// The global descriptor table, for LGDT.
    pub fn segments(&self) -> [u8; 10] {
        table_register(page::SEGMENTS, SEGMENTS.len() * 8)
    }

    /// The interrupt descriptor table, for LIDT.
    pub fn gates(&self) -> [u8; 10] {
        table_register(page::GATES, 256 * 16)
    }

    /// CR3.
    pub fn root(&self) -> u64 {
        address(&self.root)
    }

    /// The bytes of one of the upper pages.
    pub fn upper(&mut self, index: usize) -> &mut [u8] {
        bytes(&mut self.upper[index])
    }

    /// The code page.
    pub fn code(&mut self) -> &mut [u8] {
        bytes(&mut self.code)
    }

    /// The data pages, in the order of their addresses.
    pub fn data(&mut self) -> impl Iterator<Item = &mut [u64; 512]> {
        let pages = self.data.iter_mut().chain([&mut self.last]);
        pages.map(|page| &mut page.0)
    }

    /// Maps `linear`, a page that nothing else uses, to `physical`.
    pub fn map(&mut self, linear: u64, physical: Option<u64>) {
        let entry = physical.map_or(0, |at| at | PRESENT_WRITABLE | USER | NO_EXECUTE);
        self.low[2].0[number(linear)] = entry;
    }

    /// The entry for the page at `linear`.
    pub fn entry(&mut self, linear: u64) -> *mut u64 {
        &raw mut self.low[2].0[number(linear)]
    }
}

fn table_register(index: usize, size: usize) -> [u8; 10] {
    let mut bytes = [0; 10];
    bytes[..2].copy_from_slice(&(size as u16 - 1).to_le_bytes());
    bytes[2..].copy_from_slice(&Window::address(index).to_le_bytes());
    bytes
}

fn bytes(table: &mut Table) -> &mut [u8] {
    // SAFETY: a table is 4096 bytes, and any bytes are good ones.
    unsafe { core::slice::from_raw_parts_mut((&raw mut table.0).cast(), PAGE as usize) }
}

fn address(table: &Table) -> u64 {
    core::ptr::from_ref(table) as u64
}

fn number(linear: u64) -> usize {
    (linear / PAGE) as usize
}
