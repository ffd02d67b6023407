//! The matrix of rights: an access that the guest does itself and the same
//! access by a call, at every privilege level of every paging mode, with every
//! right given or not at every level of the tables. Both must come to the same:
//! done, or the same exception with the same error code and CR2; and the same
//! accessed and dirty bits.

mod case;
mod compare;
mod elsewhere;
mod layout;
mod mode;
mod operation;
mod shape;
mod space;
mod way;

pub use case::Access;

use crate::Report;
use crate::random::Random;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::vec::Vec;
use case::Matrix;
use compare::{Bench, Verdict};
use core::fmt;
use mode::{Features, Mode};
use x86::exception::page_fault::{FETCH, KEY, PRESENT, RESERVED, USER, WRITE};

/// Which part of the matrix is tried.
#[derive(Clone, Copy, Debug)]
pub struct Choice<'a> {
    /// How many cases at least, or all where there are not that many.
    pub cases: u64,
    /// What is done to pages.
    pub accesses: &'a [Access],
}

/// Mismatches that are shown.
const SHOWN: u64 = 12;

/// What the guest's own accesses came to.
#[derive(Default)]
struct Tally {
    cases: u64,
    mismatches: u64,
    done: u64,
    protection: u64,
    /// Page faults by their error code.
    page_faults: BTreeMap<u32, u64>,
}

/// Tries all modes.
pub fn check(report: &mut Report, choice: Choice) {
    let features = Features::of_this_cpu();
    report.say(format_args!("{features:?}"));
    let Some(mut bench) = Bench::new() else {
        return report.holds("low memory is free", false);
    };
    let share = share(&features, choice);
    let (mut cases, mut mismatches) = (0, 0);
    for mode in Mode::ALL {
        if !features.has(mode) {
            report.skip(mode, "not in this CPU");
            continue;
        }
        let mut tally = Tally::default();
        for size in sizes(mode, &features) {
            let matrix = Matrix::new(mode, size, &features, choice.accesses);
            tally.run(report, &mut bench, &matrix, share);
        }
        report.say(format_args!("{mode}: {tally}"));
        report.equal(format!("{mode}: mismatches"), tally.mismatches, 0);
        tally.is_rich(report, mode, &features, choice.accesses);
        cases += tally.cases;
        mismatches += tally.mismatches;
    }
    report.say(format_args!("{cases} cases, {mismatches} mismatches"));
    elsewhere::check(report, &mut bench, &features);
}

/// One case of how many is tried.
fn share(features: &Features, choice: Choice) -> u64 {
    let modes = Mode::ALL.into_iter().filter(|mode| features.has(*mode));
    let counts = modes.flat_map(|mode| {
        sizes(mode, features)
            .map(move |size| Matrix::new(mode, size, features, choice.accesses).count())
    });
    (counts.sum::<u64>() / choice.cases).max(1)
}

/// The levels whose entries can be pages.
fn sizes(mode: Mode, features: &Features) -> core::ops::RangeInclusive<usize> {
    match mode {
        Mode::Unpaged => 1..=1,
        Mode::Narrow | Mode::Pae => 1..=2,
        _ => 1..=2 + usize::from(features.gib_pages),
    }
}

/// The error codes of page faults that there must be.
fn expected(mode: Mode, features: &Features, accesses: &[Access]) -> Vec<u32> {
    let mut codes = [0, USER, PRESENT | USER].to_vec();
    // 32-bit paging has one reserved bit, and a share may not meet it.
    if mode != Mode::Narrow {
        codes.push(PRESENT | RESERVED | USER);
    }
    if accesses.contains(&Access::Write) {
        codes.extend([WRITE, WRITE | USER]);
        codes.extend([PRESENT | WRITE, PRESENT | WRITE | USER]);
        if features.smap {
            codes.push(PRESENT);
        }
        if features.keys && mode.is_long() {
            codes.extend([PRESENT | KEY | USER, PRESENT | KEY | WRITE]);
        }
    }
    if accesses.contains(&Access::Fetch) && features.smep {
        codes.extend([FETCH, FETCH | PRESENT, FETCH | PRESENT | USER]);
    }
    codes
}

impl Tally {
    /// Tries one of each `share` cases of `matrix`, drawn: a fixed one would tie
    /// settings to each other.
    fn run(&mut self, report: &mut Report, bench: &mut Bench, matrix: &Matrix, share: u64) {
        let count = matrix.count();
        for step in 0..count.div_ceil(share) {
            let number = step * share + Random::of(count, step).below(share);
            if number >= count {
                break;
            }
            let case = matrix.case(number);
            let both = bench.both(&case);
            self.count(both[0].verdict);
            if bench.agree(&case, &both) {
                continue;
            }
            self.mismatches += 1;
            if self.mismatches <= SHOWN {
                let [own, called] = both;
                report.say_to_port(format_args!(
                    "{number}: {case:x?}\n  {own:x?}\n  {called:x?}"
                ));
            }
        }
    }

    fn count(&mut self, verdict: Verdict) {
        self.cases += 1;
        match verdict {
            Verdict::Done => self.done += 1,
            Verdict::Fault { vector, error, .. } if vector == crate::attempt::PF => {
                *self.page_faults.entry(error).or_default() += 1;
            }
            _ => self.protection += 1,
        }
    }

    /// A matrix in which one kind of verdict is missing has shown less than it
    /// says.
    fn is_rich(&self, report: &mut Report, mode: Mode, features: &Features, accesses: &[Access]) {
        report.holds(format!("{mode}: accesses that are done"), self.done > 0);
        if mode == Mode::Unpaged {
            return;
        }
        let codes = expected(mode, features, accesses);
        let missing = codes
            .iter()
            .find(|code| !self.page_faults.contains_key(code));
        report.equal(
            format!("{mode}: a page fault that is missing"),
            missing,
            None,
        );
        if mode.is_wide() {
            report.holds(
                format!("{mode}: addresses that are none"),
                self.protection > 0,
            );
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            cases,
            mismatches,
            done,
            protection,
            ..
        } = self;
        write!(
            f,
            "{cases} cases, {mismatches} mismatches; {done} done, {protection} #GP"
        )?;
        for (code, count) in &self.page_faults {
            write!(f, ", {count} #PF {code:#x}")?;
        }
        Ok(())
    }
}
