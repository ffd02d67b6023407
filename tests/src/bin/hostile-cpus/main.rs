//! Every CPU at once tries what no guest should, with a seed of its own: random
//! strings of bytes in the sandbox, and exits and calls of all kinds. In the
//! middle they send INIT, start-up IPIs and NMIs to each other and to
//! themselves, by every kind of destination. Afterwards all of them start, and
//! call.
#![cfg_attr(target_os = "uefi", no_main, no_std)]

mod exits;
mod signals;
mod strings;

use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use tests::Report;
use tests::call::alive;
use tests::cpu::{Register, feature};
use tests::processors::{MAX, Others, nmis, starts};
use tests::transcript::Options;

tests::guest!(check);

/// Strings on each CPU, if the command line does not say.
const RANDOM: u64 = 600;

/// The boot processor is done, and nobody sends any more.
static OVER: AtomicBool = AtomicBool::new(false);
/// The command that starts one.
static STARTUP: AtomicU32 = AtomicU32::new(0);
/// How many others there are.
static COUNT: AtomicU64 = AtomicU64::new(0);
/// What each CPU did in all its lives. Written by that CPU.
static STEPS: [AtomicU64; MAX] = [const { AtomicU64::new(0) }; MAX];

fn check(report: &mut Report) {
    let rounds = Options::of_this_guest().random(RANDOM);
    let others = Others::new();
    report.holds("there are others", others.count() > 0);
    STARTUP.store(others.startup(), Ordering::Release);
    COUNT.store(others.count() as u64, Ordering::Release);
    strings::check(report, &others, rounds);
    let strings: Phase = ("strings", strings::forever, |own| {
        strings::forever(own, u64::MAX)
    });
    let exits: Phase = ("exits", exits::forever, |own| exits::forever(own, u64::MAX));
    phase(report, &others, rounds, strings);
    phase(report, &others, rounds, exits);
    if feature(1, Register::Ecx, 21) {
        signals::go_to_x2(0);
        report.say(format_args!("in x2APIC mode:"));
        phase(report, &others, rounds, strings);
        phase(report, &others, rounds, exits);
    }
}

/// A name, what the boot processor does for so many rounds, and what the others
/// do as long as signals let them.
type Phase = (&'static str, fn(usize, u64), fn(usize));

fn phase(report: &mut Report, others: &Others, rounds: u64, (name, work, work_of_others): Phase) {
    let count = |of: fn(usize) -> u32| others.numbers().map(of).sum::<u32>();
    let steps = || others.numbers().map(|n| STEPS[n].load(Ordering::Acquire));
    let (before, steps_before) = (count(starts), steps().sum::<u64>());
    OVER.store(false, Ordering::Release);
    // The firmware's console has its clock, and is left alone meanwhile.
    let came = others.start(work_of_others);
    work(0, rounds);
    OVER.store(true, Ordering::Release);
    others.stop();
    report.holds(format_args!("{name}: others start"), came);
    report.say(format_args!(
        "{name}: {} starts, {} steps on others, {} and {} NMIs",
        count(starts) - before,
        steps().sum::<u64>() - steps_before,
        nmis(0),
        count(nmis),
    ));
    report.holds(format_args!("{name}: this one calls"), alive());
    CALLED.store(0, Ordering::Release);
    let came = others.start(call) && others.wait();
    report.holds(format_args!("{name}: all others start again"), came);
    let called = CALLED.load(Ordering::Acquire);
    report.equal(format_args!("{name}: and call"), called, others.count());
    others.stop();
}

/// Others that have called.
static CALLED: AtomicUsize = AtomicUsize::new(0);

fn call(_: usize) {
    CALLED.fetch_add(usize::from(alive()), Ordering::AcqRel);
}
