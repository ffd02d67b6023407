//! A kernel's calls, whose operands change between the moment at which they are
//! looked up and that at which they are used.

use crate::flips;
use abi::Errno;
use abi::call::{self, MAY_FAULT};
use tests::Report;
use tests::alloc::boxed::Box;
use tests::attempt::{GP, PF};
use tests::call::call;
use tests::cpu::read_cr3;
use tests::linear::{PRESENT_WRITABLE, Window};
use tests::machine::reserved_ranges;
use tests::processors::Others;

pub const PAGE: usize = 4096;
const BAD: u64 = Errno::BadAddress.to_register();
const APIC: u64 = 0xfee0_0000;
const NOBODYS: u64 = 1 << 45;
/// Bytes of a copy; it straddles two pages.
const BYTES: usize = 256;
const FIRST: usize = 100;
/// What is in memory that nothing was copied to.
pub const UNTOUCHED: u8 = 0x55;

#[repr(align(4096))]
pub struct Pages(pub [[u8; PAGE]; 4]);

impl Pages {
    /// Each filled with one byte.
    pub fn filled(bytes: [u8; 4]) -> Box<Self> {
        Box::new(Self(bytes.map(|byte| [byte; PAGE])))
    }

    pub fn at(&self, page: usize) -> u64 {
        self.0[page].as_ptr() as u64
    }
}

/// Where Underlay is.
pub fn underlay() -> u64 {
    reserved_ranges().first().map_or(0, |range| range.base)
}

/// Calls, and what came of them.
#[derive(Default)]
pub struct Outcomes {
    done: u64,
    failed: u64,
    wrong: u64,
}

impl Outcomes {
    pub fn add(&mut self, succeeded: bool, right: bool) {
        self.done += u64::from(succeeded);
        self.failed += u64::from(!succeeded);
        self.wrong += u64::from(!right);
    }

    pub fn tell(self, report: &mut Report, what: &str, found: Option<[u64; 2]>) {
        let Self {
            done,
            failed,
            wrong,
        } = self;
        let [flips, others] = found.unwrap_or_default();
        report.say(format_args!(
            "{what}: {done} done, {failed} failed, {flips} changes"
        ));
        report.equal(format_args!("{what}: wrong"), wrong, 0);
        report.equal(
            format_args!("{what}: entries that somebody changed"),
            others,
            0,
        );
        let both = done > 0 && failed > 0 && flips > 100;
        report.holds(format_args!("{what}: some of each"), both);
    }
}

/// All kinds.
pub fn check(report: &mut Report, others: &Others, calls: u64) {
    let good = Pages::filled(*b"ABCD");
    let mut window = Window::open();
    window.set(0, good.at(2) | PRESENT_WRITABLE);
    window.set(1, good.at(0) | PRESENT_WRITABLE);
    let leaf = &raw mut window.pages.0[1];
    let own = underlay() | PRESENT_WRITABLE;
    let entries = [
        good.at(0) | PRESENT_WRITABLE,
        0,
        good.at(1) | PRESENT_WRITABLE,
        own,
        APIC | PRESENT_WRITABLE,
        good.at(0) | 1,
        1 << 51 | PRESENT_WRITABLE,
    ];
    let from = Window::address(1) - FIRST as u64;
    for (what, number) in [
        ("a source that changes", call::MEMORY_COPY),
        (
            "a source that changes, with faults",
            call::MEMORY_COPY | MAY_FAULT,
        ),
    ] {
        let read = |into| (number, [into, from, BYTES as u64, 0, 0]);
        reading(report, others, calls, (what, leaf, &entries), read);
    }
    let read = |into| {
        (
            call::MEMORY_READ_SPACE,
            [into, from, BYTES as u64, read_cr3(), 0],
        )
    };
    reading(
        report,
        others,
        calls,
        ("another space's", leaf, &entries),
        read,
    );
    let mut list = Box::new([good.at(2), good.at(0)]);
    let word = &raw mut list[1];
    let places = [good.at(0), good.at(1), underlay(), APIC, NOBODYS];
    let list = list.as_ptr() as u64;
    let offset = (PAGE - FIRST) as u64;
    let read = |into| {
        (
            call::MEMORY_READ_PAGES,
            [into, list, BYTES as u64, offset, 0],
        )
    };
    reading(
        report,
        others,
        calls,
        ("a list that changes", word, &places),
        read,
    );
    writing(report, others, calls, &mut window);
    names(report, others, calls);
}

/// Reads over the end of a page of Cs into one of As or Bs, by `ask`.
fn reading(
    report: &mut Report,
    others: &Others,
    calls: u64,
    (what, word, choices): (&str, *mut u64, &[u64]),
    ask: impl Fn(u64) -> (u64, [u64; 5]),
) {
    let mut outcomes = Outcomes::default();
    let mut into = Box::new([0u8; BYTES + 16]);
    let found = flips::during(others, word, choices, || {
        for _ in 0..calls {
            into.fill(UNTOUCHED);
            let (number, arguments) = ask(into.as_ptr() as u64);
            let reply = call(number, arguments);
            let (bytes, behind) = into.split_at(BYTES);
            let (first, second) = bytes.split_at(FIRST);
            let whole = |part: &[u8], byte| part.iter().all(|found| *found == byte);
            let kept = whole(behind, UNTOUCHED);
            match reply.map(|reply| reply.rax) {
                Ok(done) if done == BYTES as u64 => {
                    let right = whole(second, b'A') || whole(second, b'B');
                    outcomes.add(true, kept && whole(first, b'C') && right);
                }
                Ok(BAD) => outcomes.add(false, kept && whole(bytes, UNTOUCHED)),
                Err(fault) => {
                    let page_fault = fault.vector == PF && fault.cr2 == Window::address(1);
                    // What is no memory raises this.
                    let right = page_fault || fault.vector == GP;
                    outcomes.add(false, right && kept && whole(bytes, UNTOUCHED));
                }
                Ok(_) => outcomes.add(false, false),
            }
        }
    });
    outcomes.tell(report, what, found);
}

/// Writes over the end of a page into one of two that may be written, or one that
/// may not.
fn writing(report: &mut Report, others: &Others, calls: u64, window: &mut Window) {
    let mut pages = Pages::filled([UNTOUCHED; 4]);
    let from = Box::new([b'X'; BYTES]);
    window.set(0, pages.at(0) | PRESENT_WRITABLE);
    let leaf = &raw mut window.pages.0[1];
    let entries = [
        pages.at(1) | PRESENT_WRITABLE,
        pages.at(2) | PRESENT_WRITABLE,
        pages.at(3) | 1,
        0,
        underlay() | PRESENT_WRITABLE,
        APIC | PRESENT_WRITABLE,
    ];
    let into = Window::address(1) - FIRST as u64;
    let arguments = [into, from.as_ptr() as u64, BYTES as u64, 0, 0];
    let mut outcomes = Outcomes::default();
    let found = flips::during(others, leaf, &entries, || {
        for _ in 0..calls {
            let reply = call(call::MEMORY_COPY, arguments).map_or(BAD, |reply| reply.rax);
            let second = BYTES - FIRST;
            let mut written = [0, 1, 2, 3].map(|page| {
                let page: &mut [u8; PAGE] = &mut pages.0[page];
                let count = page.iter().filter(|byte| **byte == b'X').count();
                let kept = page.iter().all(|byte| matches!(*byte, b'X' | UNTOUCHED));
                page[..second].fill(UNTOUCHED);
                page[PAGE - FIRST..].fill(UNTOUCHED);
                if kept { count } else { usize::MAX }
            });
            written[1..3].sort_unstable();
            let done = reply == BYTES as u64;
            let right = match done {
                true => written == [FIRST, 0, second, 0],
                false => reply == BAD && written == [0; 4],
            };
            outcomes.add(done, right);
        }
    });
    outcomes.tell(report, "a target that changes", found);
}

/// A name that becomes another while it is looked up is one of them, or none.
fn names(report: &mut Report, others: &Others, calls: u64) {
    let word = |name: &[u8; 8]| u64::from_le_bytes(*name);
    let names = [
        b"ping\0\0\0\0",
        b"hello\0\0\0",
        b"list\0\0\0\0",
        b"nobodys\0",
    ]
    .map(word);
    let mut name = Box::new(names);
    let numbers = [call::PING, call::HELLO, call::LIST];
    let at = name.as_ptr() as u64;
    let mut outcomes = Outcomes::default();
    let found = flips::during(others, &raw mut name[0], &names, || {
        for _ in 0..calls {
            let number = call(call::RESOLVE, [at, 0, 0, 0, 0]).map_or(BAD, |reply| reply.rax);
            outcomes.add(number != 0, number == 0 || numbers.contains(&number));
        }
    });
    outcomes.tell(report, "a name that changes", found);
}
