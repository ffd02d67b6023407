//! One case both ways: what the guest's own access comes to, and what the call
//! makes of it.

use super::case::{Access, Case};
use super::layout::{self, BREAKPOINT, Instruction};
use super::mode::Mode;
use super::operation::{OUT, PAGE};
use super::space::{ACCESSED, ALL, LARGE, LEVELS, Space};
use super::way::{Ending, Start, Way};
use crate::attempt::{GP, PF};
use crate::cpu::{read_cr0, read_cr4};
use crate::machine::is_qemu;
use abi::Errno;
use abi::call::{MAY_FAULT, MEMORY_COPY, RESOLVE};
use x86::control::{Cr0, Cr4, Efer, Rflags};
use x86::exception::page_fault::{PRESENT, RESERVED};

/// Of the breakable build: fetches a byte of code as the emulator does, for no
/// call of others ever fetches.
const FETCH: u64 = 0xb005;
/// The vector of INT3, and its length.
const BREAK: u8 = 3;

/// What an access came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It was done.
    Done,
    /// An exception. The address is that of a page fault.
    Fault {
        /// The vector.
        vector: u8,
        /// The error code.
        error: u32,
        /// CR2.
        address: u64,
    },
    /// The call said -EFAULT, and where.
    BadAddress(u64),
    /// Something that must not be.
    Wrong(Ending),
}

/// A verdict, and what it left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The verdict.
    pub verdict: Verdict,
    /// The entries, those that the case has not are 0; last that of the page
    /// behind.
    pub entries: [u64; LEVELS + 1],
    /// What arrived where the access writes to.
    pub arrived: [u8; 2],
}

/// Where cases are tried.
pub struct Bench {
    way: Way,
    /// The tables.
    pub space: Space,
    cr0: Cr0,
    cr4: Cr4,
    on_qemu: bool,
}

impl Bench {
    /// Needs the pages of [`layout`]; None if they are not free.
    pub fn new() -> Option<Self> {
        if !layout::take() {
            return None;
        }
        // SAFETY: the pages were taken for it.
        let way = unsafe { Way::prepare() };
        let varied = Cr4::PSE | Cr4::PAE | Cr4::PGE | Cr4::LA57 | Cr4::SMEP | Cr4::SMAP | Cr4::PKE;
        Some(Self {
            way,
            space: Space::new(),
            on_qemu: is_qemu(),
            cr0: Cr0::from_bits_retain(read_cr0()) - (Cr0::WP | Cr0::AM | Cr0::PG),
            cr4: Cr4::from_bits_retain(read_cr4()) - varied,
        })
    }

    /// The guest's own access, and the call.
    pub fn both(&mut self, case: &Case) -> [Seen; 2] {
        [self.own(case), self.called(case)]
    }

    /// The address that a case accesses.
    pub fn linear(&self, case: &Case) -> u64 {
        (self.space.linear(case.mode) ^ case.shape.address) + case.place()
    }

    fn own(&mut self, case: &Case) -> Seen {
        self.prepare(case);
        let linear = self.linear(case);
        let out = u64::from(u16::from_le_bytes(OUT));
        let given = if case.access == Access::Write { out } else { 0 };
        let instruction = case.instruction();
        let ending = self.run(case, instruction, [given, linear, 0, 0]);
        let at = instruction.place(case.level);
        let size = if case.bytes() == 2 { 3 } else { 2 };
        let verdict = match (ending.vector, case.access) {
            // QEMU 7.2 keeps the upper half of the register.
            (BREAK, Access::Fetch) if case.seen(ending.rip) == case.seen(linear) + 1 => {
                Verdict::Done
            }
            (BREAK, _) if ending.rip == at + size + 1 => Verdict::Done,
            (_, Access::Fetch) => fault(ending),
            _ if ending.rip == at => fault(ending),
            _ => Verdict::Wrong(ending),
        };
        let register = (ending.registers[0] as u16).to_le_bytes();
        let arrived = if case.access == Access::Read {
            register
        } else {
            self.content(case)
        };
        self.seen(case, self.mended(verdict), arrived)
    }

    /// QEMU 7.2 does not say of a reserved bit that its entry was present, which
    /// it was: others are not looked at. Intel SDM volume 3, "Page-Fault
    /// Exceptions".
    fn mended(&self, verdict: Verdict) -> Verdict {
        match verdict {
            Verdict::Fault {
                vector: PF,
                error,
                address,
            } if self.on_qemu && error & RESERVED != 0 => Verdict::Fault {
                vector: PF,
                error: error | PRESENT,
                address,
            },
            other => other,
        }
    }

    /// The call alone.
    pub fn called(&mut self, case: &Case) -> Seen {
        self.prepare(case);
        let linear = self.linear(case);
        let scratch = layout::scratch(case.level);
        let (number, operands) = match case.access {
            Access::Read if case.is_by_name() => (RESOLVE, [linear, 0, 0]),
            Access::Read => (MEMORY_COPY, [scratch, linear, case.bytes()]),
            Access::Write => (MEMORY_COPY, [linear, scratch, case.bytes()]),
            Access::Fetch => (FETCH, [linear, 0, 0]),
        };
        let number = if case.may_fault {
            number | MAY_FAULT
        } else {
            number
        };
        let [first, second, third] = operands;
        let ending = self.run(case, Instruction::Call, [number, first, second, third]);
        let [rax, rbx] = ending.registers.map(|value| case.seen(value));
        let done = match number & !MAY_FAULT {
            RESOLVE => 0,
            FETCH => BREAKPOINT.into(),
            _ => case.bytes(),
        };
        let at = Instruction::Call.place(case.level);
        let bad_address = case.seen(Errno::BadAddress.to_register());
        let verdict = match ending.vector {
            BREAK if ending.rip != at + 4 => Verdict::Wrong(ending),
            BREAK if rax == done => Verdict::Done,
            BREAK if rax == bad_address => Verdict::BadAddress(rbx),
            // The call will be made again, with the same registers.
            GP | PF if [rax, rbx, ending.rip] == [number, case.seen(first), at] => fault(ending),
            _ => Verdict::Wrong(ending),
        };
        let arrived = if case.access == Access::Read {
            read(scratch)
        } else {
            self.content(case)
        };
        self.seen(case, verdict, arrived)
    }

    fn run(&mut self, case: &Case, instruction: Instruction, registers: [u64; 4]) -> Ending {
        let mut efer = self.way.efer;
        efer.set(Efer::LME, case.mode.is_long());
        efer.set(Efer::NXE, case.no_execute);
        let flags = Rflags::FIXED
            | if case.alignment_check {
                Rflags::AC
            } else {
                Rflags::empty()
            };
        let [number, operands @ ..] = registers;
        let [first, second, third] = operands.map(|operand| case.register(operand));
        let start = Start {
            control: [self.cr0(case), self.space.root(case.mode), self.cr4(case)],
            efer,
            keys: case.key_rights.map(|rights| rights << (2 * case.key)),
            level: case.level,
            wide: case.mode.is_wide(),
            flags: flags.bits(),
            rip: instruction.place(case.level),
            registers: [number, first, second, third],
        };
        // SAFETY: the space maps the pages; the access reaches our page, or
        // nothing.
        unsafe { self.way.run(&start) }
    }

    fn cr0(&self, case: &Case) -> u64 {
        let mut cr0 = self.cr0;
        cr0.set(Cr0::PG, case.mode != Mode::Unpaged);
        cr0.set(Cr0::WP, case.write_protect);
        cr0.bits()
    }

    fn cr4(&self, case: &Case) -> u64 {
        let mut cr4 = self.cr4 | case.mode.cr4();
        cr4.set(Cr4::PSE, case.large_pages);
        cr4.set(Cr4::SMEP, case.smep);
        cr4.set(Cr4::SMAP, case.smap);
        cr4.set(Cr4::PKE, case.key_rights.is_some());
        cr4.bits()
    }

    fn entry(&self, case: &Case, level: usize) -> u64 {
        let (mode, is_page) = (case.mode, level == case.size);
        let mut entry = self.space.target(mode, level, is_page) | ALL;
        if mode == Mode::Pae && level == mode.levels() {
            entry = entry & !ALL | 1;
        }
        if is_page && level > 1 {
            entry |= LARGE;
        }
        entry ^= case.shape.flips[level - 1];
        if is_page && mode.is_long() {
            entry ^ case.key << 59
        } else {
            entry
        }
    }

    /// Everything as before the access.
    fn prepare(&mut self, case: &Case) {
        for level in case.size..=case.mode.levels() {
            let slot = self.space.slot(case.mode, level);
            let entry = self.entry(case, level);
            self.space.set(slot, entry);
        }
        if let Some(flips) = case.shape.second {
            let mut entry = ((self.space.page() + PAGE) | ALL) ^ flips;
            if case.mode.is_long() {
                entry |= case.key << 59;
            }
            self.space.set(self.second(case), entry);
        }
        write(self.space.page() + case.place(), case.content());
        let scratch = if case.access == Access::Write {
            OUT
        } else {
            [0; 2]
        };
        write(layout::scratch(case.level), scratch);
    }

    fn second(&self, case: &Case) -> (u64, u64) {
        let (at, size) = self.space.slot(case.mode, 1);
        (at + size, size)
    }

    fn content(&self, case: &Case) -> [u8; 2] {
        read(self.space.page() + case.place())
    }

    fn seen(&self, case: &Case, verdict: Verdict, arrived: [u8; 2]) -> Seen {
        let mut entries = [0; LEVELS + 1];
        for level in case.size..=case.mode.levels() {
            entries[level - 1] = self.space.get(self.space.slot(case.mode, level));
        }
        // QEMU 7.2 marks an entry of PAE mode's four as accessed, where that bit is
        // reserved. Intel SDM volume 3, "PAE Paging".
        if self.on_qemu && case.mode == Mode::Pae {
            entries[case.mode.levels() - 1] &= !ACCESSED;
        }
        if case.shape.second.is_some() {
            entries[LEVELS] = self.space.get(self.second(case));
        }
        Seen {
            verdict,
            entries,
            arrived,
        }
    }

    /// Whether the call did what the guest's own access did.
    pub fn agree(&self, case: &Case, [own, called]: &[Seen; 2]) -> bool {
        let linear = self.linear(case);
        let verdicts = match (own.verdict, called.verdict) {
            (Verdict::Wrong(_), _) | (_, Verdict::Wrong(_)) => false,
            (Verdict::Fault { vector: GP, .. }, Verdict::BadAddress(at)) => at == linear,
            (Verdict::Fault { address, .. }, Verdict::BadAddress(at)) => at == address,
            (own, called) => own == called,
        };
        let asked = case.level == 0 && !case.may_fault;
        let refused = matches!(called.verdict, Verdict::BadAddress(_));
        let told = called.verdict == Verdict::Done || asked == refused;
        let arrived = [own, called]
            .iter()
            .all(|seen| seen.arrived == self.right(case, seen));
        verdicts && told && arrived && same_marks(own, called)
    }

    /// What must have arrived: what was wanted, or nothing.
    pub fn right(&self, case: &Case, seen: &Seen) -> [u8; 2] {
        match (seen.verdict, case.access) {
            (Verdict::Done, Access::Read | Access::Write) => case.delivery(),
            (_, Access::Read) => [0; 2],
            _ => case.content(),
        }
    }
}

/// Whether the accessed and dirty bits are the same. When a walk ends in a fault
/// an entry may have been marked as accessed or not, for the CPU has used it.
/// Intel SDM volume 3, "Accessed and Dirty Flags".
fn same_marks(own: &Seen, called: &Seen) -> bool {
    let free = if own.verdict == Verdict::Done {
        0
    } else {
        ACCESSED
    };
    let mut pairs = own.entries.iter().zip(&called.entries);
    pairs.all(|(own, called)| (own ^ called) & !free == 0)
}

fn fault(ending: Ending) -> Verdict {
    match ending.vector {
        GP | PF => Verdict::Fault {
            vector: ending.vector,
            error: ending.error,
            address: if ending.vector == PF { ending.cr2 } else { 0 },
        },
        _ => Verdict::Wrong(ending),
    }
}

fn write(at: u64, bytes: [u8; 2]) {
    // SAFETY: only our page, the one behind it, and scratch memory come here.
    unsafe { (at as *mut [u8; 2]).write_volatile(bytes) };
}

fn read(at: u64) -> [u8; 2] {
    // SAFETY: as for `write`.
    unsafe { (at as *const [u8; 2]).read_volatile() }
}
