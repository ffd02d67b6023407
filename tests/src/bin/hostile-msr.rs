//! Every MSR number of the architectural ranges, and random ones, read and
//! written. Each that does not behave as one that does not exist is a finding,
//! to be the same as without Underlay.
#![cfg_attr(target_os = "uefi", no_main, no_std)]

use core::fmt;
use core::ops::RangeInclusive;
use tests::cpu::{rdmsr, wrmsr};
use tests::random::Random;
use tests::transcript::{Options, Transcript};
use tests::{Fault, Report, attempt};
use x86::msr;

tests::guest!(check);

/// Random numbers, if the command line does not say.
const RANDOM: u64 = 20_000;
const BLOCK: u64 = 10_000;

const RANGES: [RangeInclusive<u32>; 3] = [
    0..=0x1fff,
    0xc000_0000..=0xc000_1fff,
    0xc001_0000..=0xc001_1fff,
];
/// What hypervisors use, and the numbers next to every range that exists.
const SAMPLES: [u32; 16] = [
    0x0000_2000,
    0x3fff_ffff,
    0x4000_0000,
    0x4000_0001,
    0x4000_0070,
    0x4000_0fff,
    0x4000_1000,
    0x4b56_4d00,
    0x7fff_ffff,
    0x8000_0000,
    0xbfff_ffff,
    0xc000_2000,
    0xc000_ffff,
    0xc001_2000,
    0xffff_fffe,
    0xffff_ffff,
];
/// Numbers of which random ones keep clear: Underlay hides them, where both
/// emulators read zero.
const OF_HYPERVISORS: [RangeInclusive<u32>; 2] =
    [0x4000_0000..=0x4000_ffff, 0x4b56_4d00..=0x4b56_4dff];

/// What is not written at all, and why.
const NOT_WRITTEN: [(RangeInclusive<u32>, &str); 5] = [
    (msr::TSC..=msr::TSC, "the clock"),
    (0x3b..=0x3b, "moves the clock"),
    (0x79..=0x79, "loads microcode"),
    (0x6e0..=0x6e0, "arms the timer"),
    (
        msr::AMD_PATCH_LOADER..=msr::AMD_PATCH_LOADER,
        "loads microcode",
    ),
];
/// Where only what was read is written, and why: natively another value takes
/// away what this program stands on.
const NOT_CHANGED: [(RangeInclusive<u32>, &str); 10] = [
    (msr::APIC_BASE..=msr::APIC_BASE, "moves the local APIC"),
    (
        msr::FEATURE_CONTROL..=msr::FEATURE_CONTROL,
        "locks until the next reset",
    ),
    (
        msr::MISC_ENABLE..=msr::MISC_ENABLE,
        "switches execute-disable and CPUID leaves off",
    ),
    (msr::DEBUG_CONTROL..=msr::DEBUG_CONTROL, "traps on branches"),
    (0x200..=0x2ff, "memory types, the program's own too"),
    (msr::EFER..=msr::EFER, "is the mode that it runs in"),
    (0xc001_0010..=0xc001_0010, "how memory is routed"),
    (0xc001_0015..=0xc001_001d, "how memory is routed"),
    (0xc001_0058..=0xc001_0058, "moves the configuration space"),
    (
        0xc001_0111..=0xc001_0119,
        "where system management lives, and locks",
    ),
];

fn check(report: &mut Report) {
    let options = Options::of_this_guest();
    let unknown = Outcome::of(0x1fff, 0x1234_5678_9abc_def0);
    report.say(format_args!("an unknown one: {unknown}"));
    let mut known = 0;
    for number in RANGES.into_iter().flatten().chain(SAMPLES) {
        let value = Random::of(1, u64::from(number)).word();
        let outcome = Outcome::of(number, value);
        if outcome != unknown {
            report.say_to_port(format_args!("finding {number:#010x} {outcome}"));
            known += 1;
        }
    }
    report.say(format_args!("{known} are unlike it"));
    report.holds("some exist", known > 10);
    random(report, &options);
    report.holds("the guest goes on", true);
}

fn random(report: &mut Report, options: &Options) {
    let all = options.random(RANDOM);
    for first in (0..all).step_by(BLOCK as usize) {
        let mut block = Transcript::block(options, format_args!("random{}", first / BLOCK));
        for index in first..(first + BLOCK).min(all) {
            let mut random = Random::of(2, index);
            let (number, value) = (random.word() as u32, random.word());
            if OF_HYPERVISORS.iter().any(|range| range.contains(&number)) {
                continue;
            }
            let outcome = Outcome::of(number, value);
            block.case(report, index, [outcome.word()], || {
                tests::alloc::format!("{number:#x} {outcome}")
            });
        }
        block.end(report);
    }
}

/// What became of the accesses to an MSR, in this order.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Outcome {
    /// The value; none if it is another one at once.
    read: Result<Option<u64>, Fault>,
    /// Writing what was read.
    same: Option<Result<(), Fault>>,
    /// Writing something random.
    other: Option<Result<(), Fault>>,
}

impl Outcome {
    fn of(number: u32, value: u64) -> Self {
        let is_in = |list: &[(RangeInclusive<u32>, &str)]| {
            list.iter().any(|(range, _)| range.contains(&number))
        };
        let first = read(number);
        let writes = !is_in(&NOT_WRITTEN);
        let changes = writes && !is_in(&NOT_CHANGED);
        let same = writes.then(|| first.and_then(|value| write(number, value)));
        let other = changes.then(|| write(number, value));
        if let Ok(before) = first
            && changes
        {
            let _ = write(number, before);
        }
        Self {
            read: first.map(|first| (read(number) == Ok(first)).then_some(first)),
            same,
            other,
        }
    }

    fn word(&self) -> u64 {
        let code = |done: &Option<Result<(), Fault>>| match done {
            None => 0,
            Some(Ok(())) => 1,
            Some(Err(fault)) => 2 | u64::from(fault.vector) << 4 | u64::from(fault.error) << 12,
        };
        let read = self.read.map(|_| ());
        code(&Some(read)) ^ code(&self.same).rotate_left(20) ^ code(&self.other).rotate_left(40)
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.read {
            Ok(Some(value)) => write!(f, "read {value:#x}")?,
            Ok(None) => f.write_str("read changing")?,
            Err(fault) => write!(f, "read #{} ({:#x})", fault.vector, fault.error)?,
        }
        for (name, done) in [("same", &self.same), ("other", &self.other)] {
            match done {
                None => write!(f, ", {name} not tried")?,
                Some(Ok(())) => write!(f, ", {name} ok")?,
                Some(Err(fault)) => write!(f, ", {name} #{} ({:#x})", fault.vector, fault.error)?,
            }
        }
        Ok(())
    }
}

fn read(number: u32) -> Result<u64, Fault> {
    // SAFETY: reading changes nothing.
    without_place(attempt(|| unsafe { rdmsr(number) }))
}

fn write(number: u32, value: u64) -> Result<(), Fault> {
    // SAFETY: the lists above name what must not be written; anything else is
    // put back before compiled code relies on it.
    without_place(attempt(|| unsafe { wrmsr(number, value) }))
}

/// Where the instruction is and what CR2 holds do not matter.
fn without_place<T>(found: Result<T, Fault>) -> Result<T, Fault> {
    found.map_err(|fault| Fault {
        rip: 0,
        cr2: 0,
        ..fault
    })
}
