//! The comparison of instructions on ordinary memory with the same ones on a
//! page whose accesses a hypervisor of the breakable build emulates.

use crate::Report;
use crate::call::call;
use crate::cases::{self, AREA, Case, Layout, Random};
use crate::cpu::wrmsr;
use crate::narrow::Narrow;
use crate::native::{self, State};
use alloc::vec::Vec;
use core::arch::asm;
use uefi::boot::{self, AllocateType, MemoryType};

const MIRROR: u64 = 0xb004;
const PAGE: u64 = 4096;
const MSR_FS_BASE: u32 = 0xc000_0100;
const MSR_GS_BASE: u32 = 0xc000_0101;
/// Status flags and DF.
const CHECKED: u64 = cases::STATUS | 1 << 10;

/// Which cases are run.
#[derive(Clone, Copy, Debug)]
pub struct Choice {
    /// How many of each width of code.
    pub cases: usize,
    /// Where their numbers begin.
    pub seed: u64,
}

type Memory = [u64; AREA / 8];

/// What is left of a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Left {
    registers: [u64; 16],
    flags: u64,
    memory: Memory,
}

/// The pages: one of code, and three of memory whose middle one becomes a
/// mirror of `other`.
struct Pages {
    code: u64,
    middle: u64,
    other: u64,
    mirrored: bool,
}

impl Pages {
    fn new() -> Self {
        let place = AllocateType::MaxAddress(0x7fff_ffff);
        let pages = boot::allocate_pages(place, MemoryType::LOADER_CODE, 6);
        let first = pages.expect("six pages").as_ptr() as u64;
        Self {
            code: first,
            middle: first + 2 * PAGE,
            other: first + 5 * PAGE,
            mirrored: false,
        }
    }

    /// Where the memory behind linear address `at` is.
    fn behind(&self, at: u64) -> *mut u8 {
        let offset = at.wrapping_sub(self.middle);
        if self.mirrored && offset < PAGE {
            (self.other + offset) as *mut u8
        } else {
            at as *mut u8
        }
    }

    fn fill(&self, case: &Case) {
        for (at, word) in (case.area..).step_by(8).zip(&case.memory) {
            for (at, byte) in (at..).zip(word.to_le_bytes()) {
                // SAFETY: an area lies in the three pages.
                unsafe { self.behind(at).write_volatile(byte) };
            }
        }
    }

    fn look(&self, case: &Case) -> Memory {
        core::array::from_fn(|word| {
            let at = case.area + 8 * word as u64;
            u64::from_le_bytes(core::array::from_fn(|byte| {
                // SAFETY: as for `fill`.
                unsafe { self.behind(at + byte as u64).read_volatile() }
            }))
        })
    }
}

/// The code that runs a case, by its width.
enum Runner {
    Long,
    Narrow(Narrow),
}

impl Runner {
    fn run(&self, pages: &Pages, case: &Case) -> Left {
        let mut state = State {
            registers: case.registers,
            flags: case.flags,
            code: pages.code,
        };
        let instruction = &case.code[..case.size];
        pages.fill(case);
        // SAFETY: the page of code is ours, interrupts are off, and a case
        // touches its area alone.
        unsafe {
            match self {
                Self::Long => {
                    native::place(pages.code as *mut u8, instruction);
                    native::run(&mut state);
                }
                Self::Narrow(narrow) => {
                    narrow.place(instruction);
                    narrow.run(&mut state);
                }
            }
        }
        Left {
            registers: state.registers,
            flags: state.flags & CHECKED & !case.undefined,
            memory: pages.look(case),
        }
    }
}

fn layout(pages: &Pages, bits: u32) -> Layout {
    let long = bits == 64;
    // Near enough for 16-bit offsets, and none like another.
    let near = |number: u64| pages.middle - 0x8000 - number * 0x110;
    Layout {
        bits,
        page: pages.middle,
        code: pages.code,
        bases: core::array::from_fn(|number| near(number as u64)),
        // CS is no segment to write to.
        overrides: if long { 0b11_1111 } else { 0b11_1101 },
        selectors: true,
        split_locks: true,
    }
}

fn runner(pages: &Pages, layout: &Layout) -> Runner {
    if layout.bits == 64 {
        return Runner::Long;
    }
    let narrow = Narrow::new(layout.bits, pages.code, layout.bases);
    Runner::Narrow(narrow.expect("low memory"))
}

/// The bases of FS and GS, which narrow code sets to 0.
fn set_bases(layout: &Layout) {
    if layout.bits == 64 {
        // SAFETY: the registers exist, and the firmware does not use them.
        unsafe {
            wrmsr(MSR_FS_BASE, layout.bases[4]);
            wrmsr(MSR_GS_BASE, layout.bases[5]);
        }
    }
}

fn run_all(pages: &Pages, choice: Choice, bits: u32, mut with: impl FnMut(usize, &Case, Left)) {
    let layout = layout(pages, bits);
    let runner = runner(pages, &layout);
    set_bases(&layout);
    let mut random = Random(choice.seed ^ u64::from(bits) << 56);
    for number in 0..choice.cases {
        let case = Case::new(&mut random, layout);
        let left = runner.run(pages, &case);
        with(number, &case, left);
    }
}

/// Runs the cases natively, then on the mirror, and compares.
pub fn check(report: &mut Report, choice: Choice) {
    report.say(format_args!("{choice:?}"));
    // SAFETY: nothing in this program waits for an interrupt.
    unsafe { asm!("cli") };
    let mut pages = Pages::new();
    let mut natively = Vec::new();
    for bits in [16, 32, 64] {
        run_all(&pages, choice, bits, |_, _, left| natively.push(left));
        report.say(format_args!("{bits}-bit code ran natively"));
    }
    let reply = call(MIRROR, [pages.middle, pages.other, 0, 0, 0]);
    report.equal("mirroring a page", reply.map(|reply| reply.rax), Ok(0));
    pages.mirrored = true;
    let mut natively = natively.iter();
    for bits in [16, 32, 64] {
        let (mut ran, mut differ) = (0, 0);
        run_all(&pages, choice, bits, |number, case, left| {
            ran += 1;
            let native = natively.next().expect("as many results");
            if left != *native {
                differ += 1;
                explain(report, differ, number, case, (native, &left));
            }
        });
        report.equal(
            format_args!("{bits}-bit instructions that differ, of {ran}"),
            differ,
            0,
        );
    }
}

fn explain(
    report: &mut Report,
    differ: u32,
    number: usize,
    case: &Case,
    (native, emulated): (&Left, &Left),
) {
    if differ <= 3 {
        let code = &case.code[..case.size];
        report.say(format_args!("case {number}: {code:02x?} in {case:x?}"));
        report.say(format_args!("native   {native:x?}"));
        report.say(format_args!("emulated {emulated:x?}"));
    }
}
