//! One instruction of any kind, in ring 0 or 3 and in 64-, 32- or 16-bit code,
//! without harm to the program that tries it.
//!
//! It runs on page tables of its own, in which nothing is mapped but a page of
//! code that cannot be written, three pages of data that cannot be executed,
//! and the few pages that catch it: descriptor tables that cannot be written,
//! and handlers on a stack that only they use. Every vector leads back here,
//! the single step or a breakpoint behind the instruction at the latest.
//!
//! 32- and 16-bit code is that of compatibility mode: the handlers stay 64-bit
//! code, and the mode decides about the instruction alone.

mod hatch;
mod refused;
mod tables;

pub use refused::{is_uncertain, refused};
pub use tables::{CODE, DATA, DATA_PAGES, LAST_DATA};

use crate::random::Random;
use hatch::{Entry, Hatch};
use tables::Space;

/// Where an instruction is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Ring 3, or else 0.
    pub user: bool,
    /// 64, 32 or 16.
    pub bits: u8,
}

impl Place {
    /// All six.
    pub const ALL: [Self; 6] = [
        Self::new(false, 64),
        Self::new(false, 32),
        Self::new(false, 16),
        Self::new(true, 64),
        Self::new(true, 32),
        Self::new(true, 16),
    ];

    /// Ring 3 if `user`, and the size of code.
    pub const fn new(user: bool, bits: u8) -> Self {
        Self { user, bits }
    }

    /// What its code adds to the instruction pointer to get a linear address.
    pub const fn code_base(self) -> u64 {
        if self.bits == 16 { CODE } else { 0 }
    }

    /// The same of its data.
    pub const fn data_base(self) -> u64 {
        if self.bits == 16 { DATA } else { 0 }
    }
}

impl core::fmt::Display for Place {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "ring{}-{}bit", if self.user { 3 } else { 0 }, self.bits)
    }
}

/// The general registers in the order of their numbers; RSP among them.
pub type General = [u64; 16];

/// Number of RSP.
pub const RSP: usize = 4;

/// What became of an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ending {
    /// The vector that ended it.
    pub vector: u8,
    /// Its error code, if it had one.
    pub error: Option<u64>,
    /// The general registers.
    pub general: General,
    /// RIP, CS, RFLAGS, SS.
    pub frame: [u64; 4],
    /// CR2, zero before.
    pub cr2: u64,
    /// DR6, the value of a reset before.
    pub dr6: u64,
}

impl Ending {
    /// All of it that the manuals define: CR2 and DR6 only where the vector
    /// gives them a meaning.
    pub fn words(&self) -> impl Iterator<Item = u64> {
        let cr2 = if self.vector == PAGE_FAULT {
            self.cr2
        } else {
            0
        };
        let dr6 = if self.vector == DEBUG { self.dr6 } else { 0 };
        let error = self.error.unwrap_or(u64::MAX);
        let first = [u64::from(self.vector), error, cr2, dr6];
        first.into_iter().chain(self.frame).chain(self.general)
    }
}

const DEBUG: u8 = 1;
const PAGE_FAULT: u8 = 14;
/// The trap flag.
const TF: u64 = 1 << 8;
/// Reserved bit 1.
const FLAGS: u64 = 2;
/// INT3, wherever there is no instruction.
const BREAKPOINT: u8 = 0xcc;

/// The sandbox. While it is there no device interrupts, and some MSRs and CR0
/// are its own.
pub struct Sandbox {
    space: Space,
    hatch: Hatch,
    written: usize,
}

impl Sandbox {
    /// Makes one.
    pub fn new() -> Self {
        let mut space = Space::new();
        let hatch = Hatch::new(&mut space);
        let mut sandbox = Self {
            space,
            hatch,
            written: 0,
        };
        sandbox.space.code().fill(BREAKPOINT);
        sandbox
    }

    /// Makes it the CPU's again, after an INIT.
    pub fn resume(&mut self) {
        self.space.resume();
        self.hatch.prepare();
    }

    /// The pages of data as words.
    pub fn data(&mut self) -> impl Iterator<Item = &mut u64> {
        self.space.data().flatten()
    }

    /// Maps linear page `page` of the sandbox, which nothing else uses, to
    /// `physical`; for rings 0 and 3, writable, not executable.
    pub fn map(&mut self, page: u64, physical: Option<u64>) {
        self.space.map(page, physical);
    }

    /// The page-table entry that maps `page`, one of the lowest 512 of the
    /// sandbox, for another CPU to change.
    pub fn entry(&mut self, page: u64) -> *mut u64 {
        self.space.entry(page)
    }

    /// Runs the instruction at the start of `code`, which is short, and no
    /// other one, unless it inhibits the single step.
    pub fn step(&mut self, place: Place, code: &[u8], general: &General) -> Ending {
        self.run(place, code, general, FLAGS | TF)
    }

    /// Runs `code` to the breakpoint behind it, or whatever comes before.
    pub fn go(&mut self, place: Place, code: &[u8], general: &General) -> Ending {
        self.run(place, code, general, FLAGS)
    }

    fn run(&mut self, place: Place, code: &[u8], general: &General, flags: u64) -> Ending {
        let page = self.space.code();
        let at = &mut page[CODE_OFFSET..];
        let before = self.written.max(code.len());
        at[..before].fill(BREAKPOINT);
        at[..code.len()].copy_from_slice(code);
        self.written = code.len();
        let rip = CODE - place.code_base() + CODE_OFFSET as u64;
        self.hatch.run(&Entry {
            place,
            general: *general,
            rip,
            flags,
        })
    }
}

impl Default for Sandbox {
    fn default() -> Self {
        Self::new()
    }
}

/// Where in its page the instruction is: jumps both ways stay in the page.
pub const CODE_OFFSET: usize = 0x400;

/// Registers for a case: mostly pointers to what is mapped, numbers that are
/// small, odd or random, and a stack.
pub fn general(random: &mut Random, place: Place) -> General {
    let base = place.data_base();
    let mut registers = [(); 16].map(|()| match random.below(8) {
        0..4 => DATA - base + random.below(DATA_PAGES * 0x1000),
        4 => random.below(16),
        5 => CODE - place.code_base() + random.below(0x1000),
        6 => random.one_of(&ODD),
        _ => random.word(),
    });
    registers[RSP] = DATA - base + 0x800;
    if place.bits != 64 {
        registers = registers.map(|value| value & 0xffff_ffff);
    }
    registers
}

/// Ends of ranges, and addresses that are not canonical.
const ODD: [u64; 8] = [
    u64::MAX,
    0x7fff_ffff_ffff_fff8,
    0x8000_0000_0000_0000,
    0x0000_7fff_ffff_fffd,
    0xffff_8000_0000_0000,
    0xffff_fffe,
    0x8000_0000,
    LAST_DATA + 0xffe,
];
