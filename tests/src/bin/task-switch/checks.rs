//! What the notes have to say.

use crate::Mode;
use crate::code::offset;
use crate::layout::*;
use crate::notes::{Note, ORDER};
use crate::tables::{Start, general, starts, task};
use alloc::format;
use alloc::vec::Vec;
use tests::Report;
use tests::machine::switches_tasks_exactly;

/// The notes of one mode, and what is found out about them.
pub struct Checks<'a> {
    pub report: &'a mut Report,
    pub mode: Mode,
    pub notes: Vec<Note>,
}

impl Checks<'_> {
    fn equal<T: PartialEq + core::fmt::Debug>(&mut self, what: &str, found: T, expected: T) {
        let mode = self.mode;
        self.report
            .equal(format!("{mode:?}: {what}"), found, expected);
    }

    fn holds(&mut self, what: &str, holds: bool) {
        self.equal(what, holds, true);
    }

    /// The first note of the task behind `selector`.
    fn first(&self, selector: u16) -> Note {
        let of = |note: &&Note| note.tr == selector.into();
        self.notes.iter().find(of).copied().unwrap_or_default()
    }
}

pub fn compare(checks: &mut Checks) {
    check_main(checks);
    starts().iter().for_each(|start| check_start(checks, start));
    check_nesting(checks);
    check_16_bit(checks);
    check_roots(checks);
    check_faults(checks);
    check_virtual_8086(checks);
    if checks.notes.len() > ORDER.len() {
        check_trap(checks);
    }
}

/// The main task finds its registers as they were, but for what every switch
/// changes.
fn check_main(checks: &mut Checks) {
    let main = |note: &&Note| note.tr == MAIN.into();
    let notes: Vec<Note> = checks.notes.iter().filter(main).copied().collect();
    let first = checks.first(MAIN);
    let same = |note: &Note| {
        let but = Note {
            cr0: note.cr0 & !TASK_SWITCHED,
            dr7: note.dr7 | 1,
            top: first.top,
            saved: first.saved,
            access: first.access,
            ..*note
        };
        but == first
    };
    let changed = notes.iter().find(|note| !same(note)).copied();
    checks.equal("the main task's registers come back", changed, None);
    checks.equal("its flags", first.eflags, ARITHMETIC);
    let switched = |note: &Note| note.cr0 & TASK_SWITCHED != 0;
    let kept = notes.iter().map(switched).collect::<Vec<_>>();
    let mut expected = alloc::vec![true; kept.len()];
    expected[0] = false;
    checks.equal("CR0.TS is set from the first switch on", kept, expected);
    let last = notes[notes.len() - 1];
    let breakpoints = (first.dr7 & 0xff, last.dr7 & 0xff);
    checks.equal("local breakpoints are off then", breakpoints, (3, 2));
}

/// A task's first note holds what its segment held.
fn check_start(checks: &mut Checks, start: &Start) {
    let selector = start.selector;
    let note = checks.first(selector);
    if note == Note::default() || selector == TRAPPED {
        return;
    }
    let pushed = match selector {
        PROTECTION | INVALID => 4,
        ABSENT_16 => 2,
        _ => 0,
    };
    let (counts, upper) = match start.is_low() {
        true if switches_tasks_exactly() => (u32::MAX, 0xffff_0000),
        true => (0xffff, 0),
        false => (u32::MAX, 0),
    };
    let mut expected = [0, 1, 2, 3, 4, 5, 6, 7].map(|number| general(selector, number));
    expected[4] -= pushed;
    let expected = expected.map(|value| value & counts | upper);
    let found = note.general.map(|value| value & counts);
    let mut segments = start.segments.map(u32::from);
    if selector == FAULTY {
        segments[3] = DATA.into();
    }
    let ldtr = if selector == TASK_A { LOCAL.into() } else { 0 };
    checks.equal(
        &format!("task {selector:#x} starts with what its segment holds"),
        (found, note.eflags, note.segments, note.ldtr),
        (expected, start.eflags | NESTED, segments, ldtr),
    );
}

/// A calls B, which returns; then B is jumped to, and jumps back.
fn check_nesting(checks: &mut Checks) {
    let busy = |note: &Note| [MAIN, TASK_A, TASK_B].map(|task| note.is_busy(task));
    let found: Vec<_> = checks.notes.iter().take(7).map(busy).collect();
    let (main, called) = ([true, false, false], [true, true, false]);
    let jumped = [false, false, true];
    let expected = [main, called, [true; 3], called, main, jumped, main];
    checks.equal(
        "tasks are busy while they run or wait",
        found,
        expected.to_vec(),
    );
    let [_, before, _, after, .., jumped, _] = checks.notes[..7] else {
        return;
    };
    checks.equal(
        "a caller's registers come back",
        after.general,
        before.general,
    );
    checks.holds("it is nested still", after.eflags & NESTED != 0);
    checks.equal("a task that is jumped to is not", jumped.eflags & NESTED, 0);
    let call = instruction(before.saved[0] - 7);
    checks.equal("behind CALL a task goes on", call[0], 0x9a);
}

/// A task of 16 bits calls one of 32, and finds its registers' lower halves.
fn check_16_bit(checks: &mut Checks) {
    let (before, after) = (checks.notes[7], checks.notes[9]);
    let lower = |note: Note| note.general.map(|value| value as u16);
    checks.equal(
        "a 16-bit caller's registers come back",
        lower(after),
        lower(before),
    );
    checks.equal(
        "with null selectors in FS and GS",
        after.segments,
        before.segments,
    );
    let busy = [MAIN, TASK_16, TASK_A].map(|task| after.is_busy(task));
    checks.equal("and its task is busy", busy, [true, true, false]);
}

/// Only a 32-bit task brings CR3 of its own.
fn check_roots(checks: &mut Checks) {
    if checks.mode == Mode::Unpaged {
        let same = checks
            .notes
            .iter()
            .all(|note| note.cr3 == ROOT as u32 || note.cr3 == 0);
        return checks.holds("CR3 stays", same);
    }
    let root = |note: &Note| (note.cr3, note.sight);
    let found: Vec<_> = checks.notes.iter().take(11).map(root).collect();
    let main = (ROOT as u32, SIGHT as u32);
    let own = (ROOT_A as u32, SIGHT_A as u32);
    let expected = [main, own, main, own, main, main, main, main, own, own, main];
    checks.equal("CR3 changes with 32-bit tasks", found, expected.to_vec());
}

/// The bytes at EIP in flat code.
fn instruction(eip: u32) -> [u8; 2] {
    // SAFETY: a task's EIP is in the pages that are ours.
    unsafe { (u64::from(eip) as *const [u8; 2]).read() }
}

fn check_faults(checks: &mut Checks) {
    let saved = |at: usize| checks.notes[at].saved;
    let (undefined, protection, interrupt) = (saved(13), saved(15), saved(17));
    let (absent, busy) = (saved(19), saved(21));
    checks.equal(
        "#UD returns to UD2",
        instruction(undefined[0]),
        [0x0f, 0x0b],
    );
    checks.equal(
        "#GP returns to MOV DS",
        instruction(protection[0]),
        [0x8e, 0x1d],
    );
    checks.equal(
        "#NP returns to MOV FS",
        instruction(absent[0]),
        [0x8e, 0x25],
    );
    checks.equal(
        "INT n returns behind it",
        instruction(interrupt[0] - 2),
        [0xcd, 0x40],
    );
    let call = instruction(busy[0])[0];
    checks.equal("CALL of a busy task returns to it", call, 0x9a);
    let flags = [undefined, protection, absent, busy].map(|saved| saved[1] | unsaid());
    checks.equal("faults resume", flags, [ARITHMETIC | RESUME; 4]);
    checks.equal("INT n does not", interrupt[1], ARITHMETIC);
    let codes = [(15, OUTSIDE), (19, ABSENT), (21, MAIN)];
    let found = codes.map(|(at, _)| checks.notes[at].top as u16);
    checks.equal("error codes", found, codes.map(|(_, code)| code));
}

/// RF, where only some faults set it in what they save: in QEMU those that
/// Underlay has raised.
fn unsaid() -> u32 {
    if switches_tasks_exactly() { 0 } else { RESUME }
}

/// What #UD in virtual-8086 mode left in that task's segment.
fn check_virtual_8086(checks: &mut Checks) {
    // SAFETY: the segment is in the pages that are ours.
    let words = unsafe { (task(REAL) as *const [u32; 26]).read() };
    let expected = offset!(task_real) as u32;
    checks.equal("EIP of virtual-8086 mode", words[8], expected);
    let flags = NESTED | VIRTUAL_8086 | RESUME | 2;
    checks.equal("its flags", words[9] | unsaid(), flags);
    let real = (BASE >> 4) as u32;
    let found = [18, 19, 20, 21, 22, 23].map(|at| words[at]);
    let expected = [real + 1, real, real + 2, real + 3, real + 4, real + 5];
    checks.equal("its segments", found, expected);
}

/// Faults in the new task, each mended by the task of #TS; then the debug trap.
fn check_trap(checks: &mut Checks) {
    const SWITCHED: u32 = 1 << 15;
    let further = checks.notes[ORDER.len()..].to_vec();
    let [faults @ .., trap, begun, _] = &further[..] else {
        return;
    };
    let codes: Vec<_> = faults.iter().step_by(3).map(|note| note.top).collect();
    let expected = alloc::vec![u32::from(OUTSIDE); codes.len()];
    checks.equal("#TS in the new task names the selector", codes, expected);
    let busy = |note: &Note| [MAIN, FAULTY, INVALID].map(|task| note.is_busy(task));
    let all = faults.iter().step_by(3).all(|note| busy(note) == [true; 3]);
    checks.holds("that task is busy then", all);
    let begins = |note: &Note| busy(note) == [true, true, false];
    let all = faults.iter().skip(1).step_by(3).all(begins);
    checks.holds("and begins when it is mended", all);
    let eip = BASE as u32 + offset!(task_trapped) as u32;
    checks.equal("the debug trap comes first", trap.top, eip);
    checks.equal("and says so in DR6", trap.dr6 & SWITCHED, SWITCHED);
    checks.equal("once", begun.dr6 & SWITCHED, 0);
    checks.equal("without RF", begun.eflags, NESTED | 2);
}
