//! What one CPU changes for all is in force on the others, and costs them
//! nothing: memory types that each writes for itself, one after another or each
//! something else, while the other reads memory and gets NMIs; a page that is
//! taken away; and the clock, which all have in common.
#![cfg_attr(target_os = "uefi", no_main, no_std)]

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tests::alloc::boxed::Box;
use tests::apic::{self, delivery};
use tests::call::{alive, call};
use tests::cpu::{cpuid, rdmsr, wrmsr};
use tests::processors::{MAX, Others, nmis, ticks, wait_until};
use tests::random::Random;
use tests::transcript::Options;
use tests::{Report, attempt};
use x86::msr::{MTRR_CAPABILITIES, MTRR_DEFAULT_TYPE, MTRR_VARIABLE_BASE};

tests::guest!(check);

/// Rounds, if the command line does not say.
const RANDOM: u64 = 300;

/// The boot processor is done.
static OVER: AtomicBool = AtomicBool::new(false);
/// What each CPU found wrong. Written by it.
static WRONG: [AtomicU64; MAX] = [const { AtomicU64::new(0) }; MAX];
/// What each has done. Written by it.
static STEPS: [AtomicU64; MAX] = [const { AtomicU64::new(0) }; MAX];

fn check(report: &mut Report) {
    let rounds = Options::of_this_guest().random(RANDOM);
    let others = Others::new();
    report.holds("there is another CPU", others.count() > 0);
    clock(report, &others, rounds);
    one_type_for_all(report, &others);
    types_of_each(report, &others, rounds);
    nmis_between(report, &others, rounds);
    taken_away(report, &others);
    others.stop();
    report.holds("ping answers at the end", alive());
}

/// Has the others do `work` while this one does `own`, and tells what was wrong.
fn both(report: &mut Report, others: &Others, what: &str, work: fn(usize), own: impl FnOnce()) {
    OVER.store(false, Ordering::Release);
    for number in 0..MAX {
        WRONG[number].store(0, Ordering::Release);
        STEPS[number].store(0, Ordering::Release);
    }
    let came = others.start(work);
    own();
    OVER.store(true, Ordering::Release);
    let done = came && others.wait();
    report.holds(format_args!("{what}: others come, and end"), done);
    for number in 0..=others.count() {
        let [wrong, steps] = [&WRONG, &STEPS].map(|all| all[number].load(Ordering::Acquire));
        report.equal(
            format_args!("{what}: wrong in {steps} steps of CPU {number}"),
            wrong,
            0,
        );
    }
}

fn is_over() -> bool {
    OVER.load(Ordering::Acquire)
}

fn note(number: usize, right: bool) {
    STEPS[number].fetch_add(1, Ordering::AcqRel);
    WRONG[number].fetch_add(u64::from(!right), Ordering::AcqRel);
}

/// The latest time that any CPU has read.
static LATEST: AtomicU64 = AtomicU64::new(0);

/// No CPU reads a time before one that another has told it of.
fn clock(report: &mut Report, others: &Others, rounds: u64) {
    fn look(number: usize, round: u64) {
        let told = LATEST.load(Ordering::Acquire);
        let now = ticks();
        note(number, now >= told);
        LATEST.fetch_max(now, Ordering::AcqRel);
        if round.is_multiple_of(4) {
            cpuid(0);
        }
    }
    let all = |number| {
        (0..)
            .take_while(|_| !is_over())
            .for_each(|n| look(number, n))
    };
    both(report, others, "the clock", all, || {
        (0..10 * rounds).for_each(|n| look(0, n));
    });
}

/// The variable range that is written: the last.
fn last_range() -> u32 {
    // SAFETY: every CPU here has MTRRs.
    let count = unsafe { rdmsr(MTRR_CAPABILITIES) } as u32 & 0xff;
    MTRR_VARIABLE_BASE + 2 * (count - 1)
}

/// Where nothing is, in the hole below 4 GiB, and 2 MiB of it.
const HOLE: u64 = 0xd000_0000;
const MASK: u64 = 0xf_ffe0_0000 | 1 << 11;
const WRITE_COMBINING: u64 = 1;
const ENABLED: u64 = 1 << 11;
/// CPUs that wait for the others at each step of the protocol.
static ARRIVED: AtomicU64 = AtomicU64::new(0);

fn meet(step: u64, all: u64) {
    ARRIVED.fetch_add(1, Ordering::AcqRel);
    while ARRIVED.load(Ordering::Acquire) < step * all {
        core::hint::spin_loop();
    }
}

/// All CPUs write the same range, in step. Intel SDM volume 3, "MTRR
/// Considerations in MP Systems".
fn one_type_for_all(report: &mut Report, others: &Others) {
    static ALL: AtomicU64 = AtomicU64::new(0);
    fn write(number: usize) {
        let all = ALL.load(Ordering::Acquire);
        let range = last_range();
        meet(1, all);
        // SAFETY: the range is where nothing is, and comes back.
        unsafe {
            let default = rdmsr(MTRR_DEFAULT_TYPE);
            let before = [rdmsr(range), rdmsr(range + 1)];
            wrmsr(MTRR_DEFAULT_TYPE, default & !ENABLED);
            wrmsr(range, HOLE | WRITE_COMBINING);
            wrmsr(range + 1, MASK);
            wrmsr(MTRR_DEFAULT_TYPE, default);
            meet(2, all);
            let found = [rdmsr(range), rdmsr(range + 1), rdmsr(MTRR_DEFAULT_TYPE)];
            note(number, found == [HOLE | WRITE_COMBINING, MASK, default]);
            meet(3, all);
            wrmsr(range + 1, before[1]);
            wrmsr(range, before[0]);
            note(number, [rdmsr(range), rdmsr(range + 1)] == before);
        }
    }
    ALL.store(others.count() as u64 + 1, Ordering::Release);
    ARRIVED.store(0, Ordering::Release);
    both(report, others, "one type for all", write, || write(0));
}

/// Words that the others read meanwhile, far apart.
const WORDS: u64 = 1024;

/// Each CPU writes other types, good ones and bad ones, and reads memory.
fn types_of_each(report: &mut Report, others: &Others, rounds: u64) {
    static MEMORY: AtomicU64 = AtomicU64::new(0);
    fn disturb(number: usize, rounds: u64) {
        let range = last_range();
        let mut random = Random::of(14, number as u64);
        // SAFETY: reads registers that every CPU here has.
        let before = unsafe { [range, range + 1, MTRR_DEFAULT_TYPE].map(|number| rdmsr(number)) };
        for _ in 0..rounds {
            if is_over() && number > 0 {
                break;
            }
            let base = random.word() & 0x3fff_f000 | random.below(8);
            let mask = !0 << (12 + random.below(16)) & 0xf_ffff_f000 | random.below(2) << 11;
            let default = before[2] & !ENABLED | random.below(2) << 11;
            // SAFETY: memory of any type is memory; what was there comes back.
            let _ = attempt(|| unsafe {
                wrmsr(MTRR_DEFAULT_TYPE, default);
                wrmsr(range, base);
                wrmsr(range + 1, mask);
                wrmsr(MTRR_DEFAULT_TYPE, before[2]);
            });
            let at = MEMORY.load(Ordering::Acquire) as *const u64;
            let right = (0..WORDS).step_by(64).all(|word| {
                // SAFETY: the memory is there until all are done.
                unsafe { at.add(word as usize * 512).read_volatile() == word }
            });
            note(number, right);
        }
        // SAFETY: the values from before.
        unsafe {
            wrmsr(range + 1, before[1]);
            wrmsr(range, before[0]);
            wrmsr(MTRR_DEFAULT_TYPE, before[2]);
        }
    }
    let mut memory = tests::alloc::vec![0u64; WORDS as usize * 512];
    (0..WORDS).for_each(|word| memory[word as usize * 512] = word);
    MEMORY.store(memory.as_ptr() as u64, Ordering::Release);
    let all = |number| disturb(number, u64::MAX);
    both(report, others, "types of each", all, || {
        disturb(0, rounds / 60)
    });
    core::hint::black_box(memory);
}

/// NMIs of the guest's, sent just before the CPU is called out of it.
fn nmis_between(report: &mut Report, others: &Others, rounds: u64) {
    fn run(number: usize) {
        while !is_over() {
            note(number, true);
        }
    }
    both(report, others, "NMIs", run, || {
        let range = last_range();
        // SAFETY: reads a register.
        let mask = unsafe { rdmsr(range + 1) };
        for _ in 0..rounds / 30 {
            let before = nmis(1);
            // SAFETY: the other CPU counts its NMIs; the range is off.
            unsafe {
                apic::send(delivery::NMI, 1);
                wrmsr(range + 1, mask ^ 1 << 20);
                wrmsr(range + 1, mask);
            }
            note(0, wait_until(|| nmis(1) == before + 1));
        }
    });
}

/// The breakable build's service that has every access to one page emulated, on
/// another.
const MIRROR: u64 = 0xb004;
static PAGE: AtomicU64 = AtomicU64::new(0);
static RETURNED: AtomicBool = AtomicBool::new(false);

#[repr(align(4096))]
struct Page([u64; 512]);

/// Once the call is back, the other CPU sees the other page, and nothing of the
/// one that it has been reading all the time.
fn taken_away(report: &mut Report, others: &Others) {
    const OLD: u64 = 0x01d;
    const NEW: u64 = 0x4e3;
    fn read(number: usize) {
        let at = PAGE.load(Ordering::Acquire) as *const u64;
        while !is_over() {
            let returned = RETURNED.load(Ordering::Acquire);
            // SAFETY: the page is there until all are done.
            let found = unsafe { at.read_volatile() };
            note(number, found == NEW || !returned && found == OLD);
        }
    }
    let pages = [OLD, NEW].map(|word| Box::new(Page([word; 512])));
    let [old, new] = pages.each_ref().map(|page| page.0.as_ptr() as u64);
    PAGE.store(old, Ordering::Release);
    RETURNED.store(false, Ordering::Release);
    let mut reply = Ok(u64::MAX);
    both(report, others, "a page taken away", read, || {
        wait_until(|| STEPS[1].load(Ordering::Acquire) > 10_000);
        reply = call(MIRROR, [old, new, 0, 0, 0]).map(|reply| reply.rax);
        RETURNED.store(reply == Ok(0), Ordering::Release);
        let steps = STEPS[1].load(Ordering::Acquire);
        wait_until(|| STEPS[1].load(Ordering::Acquire) > steps + 100);
    });
    if reply == Ok(abi::Errno::NoService.to_register()) {
        return report.skip("a page taken away", "this build has no such service");
    }
    report.equal("the page was taken away", reply, Ok(0));
    // It stays the mirror.
    core::mem::forget(pages);
}
