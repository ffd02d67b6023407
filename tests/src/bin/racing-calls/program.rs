//! The same for a program at ring 3: what it may not reach faults, with the
//! address and the reason that the entry had at some moment.

use crate::copies::{Outcomes, PAGE, Pages, UNTOUCHED, underlay};
use crate::flips;
use abi::call::MEMORY_COPY;
use tests::Report;
use tests::attempt::{GP, PF};
use tests::cpu::is_intel;
use tests::processors::Others;
use tests::sandbox::{DATA, Ending, General, Place, Sandbox};

const BREAKPOINT: u8 = 3;
/// A page of the sandbox that nothing else uses.
const CHANGING: u64 = 0x4_0000;
const USER: u64 = 1 << 2;
const WRITABLE: u64 = 1 << 1;
const BYTES: u64 = 16;

/// Copies from the page that changes, and to it.
pub fn check(report: &mut Report, others: &Others, calls: u64) {
    let pages = Pages::filled([b'A', b'B', UNTOUCHED, b'S']);
    let mut sandbox = Sandbox::new();
    let entry = sandbox.entry(CHANGING);
    let entries = [
        pages.at(0) | 1 | USER,
        0,
        pages.at(1) | 1 | USER,
        pages.at(3) | 1 | WRITABLE,
        underlay() | 1 | WRITABLE | USER,
    ];
    let mut outcomes = Outcomes::default();
    let found = flips::during(others, entry, &entries, || {
        for _ in 0..calls {
            let (ending, kept) = copy(&mut sandbox, DATA, CHANGING);
            let read = sandbox.data().next().map_or(0, |word| *word);
            match ending.vector {
                BREAKPOINT => {
                    let good = [b'A', b'B'].map(|byte| u64::from_le_bytes([byte; 8]));
                    outcomes.add(true, ending.general[0] == BYTES && good.contains(&read));
                }
                _ => {
                    let right = is_fault(&ending, &[4, 5]) && kept && read == 0;
                    outcomes.add(false, right);
                }
            }
        }
    });
    outcomes.tell(report, "a program's source", found);

    let entries = [
        pages.at(2) | 1 | WRITABLE | USER,
        pages.at(3) | 1 | USER,
        pages.at(0) | 1 | WRITABLE,
        0,
        underlay() | 1 | WRITABLE | USER,
    ];
    let mut outcomes = Outcomes::default();
    let found = flips::during(others, entry, &entries, || {
        for _ in 0..calls {
            // SAFETY: the page is ours.
            unsafe { (pages.at(2) as *mut u64).write_volatile(!0) };
            let (ending, kept) = copy(&mut sandbox, CHANGING, DATA);
            // SAFETY: as above.
            let written = unsafe { (pages.at(2) as *const u64).read_volatile() };
            match ending.vector {
                BREAKPOINT => {
                    outcomes.add(true, ending.general[0] == BYTES && written == 0);
                }
                _ => {
                    let right = is_fault(&ending, &[6, 7]) && kept && written == !0;
                    outcomes.add(false, right);
                }
            }
        }
    });
    outcomes.tell(report, "a program's target", found);
    let same = [(0, b'A'), (1, b'B'), (3, b'S')];
    let kept = same
        .iter()
        .all(|(page, byte)| pages.0[*page] == [*byte; PAGE]);
    report.holds("nothing was written where it may not write", kept);
}

/// What is no memory, Underlay's for one, raises another exception.
fn is_fault(ending: &Ending, errors: &[u64]) -> bool {
    let error = ending.error.unwrap_or(0);
    let page_fault = ending.vector == PF && ending.cr2 == CHANGING;
    page_fault && errors.contains(&error) || ending.vector == GP
}

/// What became of a copy, and whether it changed no register if it faulted.
fn copy(sandbox: &mut Sandbox, into: u64, from: u64) -> (Ending, bool) {
    sandbox.data().take(2).for_each(|word| *word = 0);
    let mut general: General = [0; 16];
    general[0] = MEMORY_COPY;
    (general[3], general[1], general[2]) = (into, from, BYTES);
    let code = [0x0f, 0x01, if is_intel() { 0xc1 } else { 0xd9 }];
    let ending = sandbox.go(Place::new(true, 64), &code, &general);
    (ending, ending.general == general)
}
