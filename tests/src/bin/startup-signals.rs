//! INIT, start-up IPIs and NMIs reach the CPUs that they are for, by every kind
//! of destination: the same as natively. Then the local APIC's base is written
//! on every CPU.
#![cfg_attr(target_os = "uefi", no_main, no_std)]

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use tests::apic::{self, LOGICAL, OTHERS, delivery};
use tests::call::alive;
use tests::cpu::{self, Register, feature, rdmsr, wrmsr};
use tests::processors::{MAX, Others, nmis, number, starts, wait_until};
use tests::{Report, attempt};
use x86::apic::{BASE_ENABLED, BASE_X2, register};
use x86::msr;

tests::guest!(check);

/// How the APICs are addressed. Written by the boot processor before a start.
static MODE: AtomicU32 = AtomicU32::new(FLAT);
const FLAT: u32 = 0;
const CLUSTERS: u32 = 1;
const X2: u32 = 2;
/// At which of its starts each CPU has taken its address last.
static ADDRESSED: [AtomicU32; MAX] = [const { AtomicU32::new(0) }; MAX];
/// Rounds of each CPU that waits.
static ROUNDS: [AtomicU32; MAX] = [const { AtomicU32::new(0) }; MAX];

/// Bits of the command, destination, and whose it is, a bit each. None is the
/// boot processor's.
type Way = (&'static str, u32, u32, u32);
const FLAT_WAYS: [Way; 8] = [
    ("1", 0, 1, 0b010),
    ("2", 0, 2, 0b100),
    ("a number that nobody has", 0, 7, 0),
    ("flat 2", LOGICAL, 0x02, 0b010),
    ("flat 4", LOGICAL, 0x04, 0b100),
    ("flat 6", LOGICAL, 0x06, 0b110),
    ("a flat number that nobody has", LOGICAL, 0x40, 0),
    ("all but the sender", OTHERS, 0, 0b110),
];
const CLUSTER_WAYS: [Way; 5] = [
    ("the first in cluster 2", LOGICAL, 0x21, 0b010),
    ("the second in cluster 2", LOGICAL, 0x22, 0b100),
    ("both in cluster 2", LOGICAL, 0x23, 0b110),
    ("cluster 3, which nobody is in", LOGICAL, 0x31, 0),
    ("2, in clusters", 0, 2, 0b100),
];
const X2_WAYS: [Way; 6] = [
    ("x2APIC 1", 0, 1, 0b010),
    ("an x2APIC that is not there", 0, 7, 0),
    ("x2APIC 1 by its logical number", LOGICAL, 0x2, 0b010),
    ("both x2APICs by their logical numbers", LOGICAL, 0x6, 0b110),
    ("another cluster of x2APICs", LOGICAL, 0x1_0006, 0),
    ("all x2APICs but the sender", OTHERS, 0, 0b110),
];

fn check(report: &mut Report) {
    let others = Others::new();
    report.holds("there are two others", others.count() == 2);
    report.holds("they start", others.start(wait_addressed));
    all_ways(report, &others, FLAT, &FLAT_WAYS);
    all_ways(report, &others, CLUSTERS, &CLUSTER_WAYS);
    if alive() {
        bases(report, &others);
        renamed(report, &others);
    }
    if feature(1, Register::Ecx, 21) {
        all_ways(report, &others, X2, &X2_WAYS);
    }
    if alive() {
        report.holds("they start at the end", others.start(call));
        report.holds(
            "and call",
            others.wait() && CALLED.load(Ordering::Acquire) == 2,
        );
    }
}

/// Takes an address as `MODE` says, and waits.
fn wait_addressed(number: usize) {
    take_address(number);
    ADDRESSED[number].store(starts(number), Ordering::Release);
    wait_unaddressed(number);
}

/// Takes none.
fn wait_unaddressed(number: usize) {
    loop {
        ROUNDS[number].fetch_add(1, Ordering::AcqRel);
        core::hint::spin_loop();
    }
}

/// Waits until all others, which run, have gone some way. An emulator brings a
/// signal to a CPU when it runs that one next: a start-up IPI that is still under
/// way, and would mean nothing, starts the CPU behind the INIT that overtakes it.
fn go_on(others: &Others) -> bool {
    let rounds = |number: usize| ROUNDS[number].load(Ordering::Acquire);
    let before: [u32; MAX] = core::array::from_fn(rounds);
    let gone = |number: usize| rounds(number).wrapping_sub(before[number]) > 2;
    wait_until(|| others.numbers().all(gone))
}

fn take_address(number: usize) {
    let mode = MODE.load(Ordering::Acquire);
    // SAFETY: the APIC delivers nothing else to this CPU.
    unsafe {
        match mode {
            FLAT => {
                apic::write(register::DESTINATION_FORMAT, u32::MAX);
                apic::write(register::LOGICAL_DESTINATION, 0x0100_0000 << number);
            }
            CLUSTERS => {
                let cluster = if number == 0 { 0x10 } else { 0x20 };
                let member = if number == 2 { 2 } else { 1 };
                apic::write(register::DESTINATION_FORMAT, 0x0fff_ffff);
                apic::write(register::LOGICAL_DESTINATION, (cluster | member) << 24);
            }
            _ => wrmsr(msr::APIC_BASE, rdmsr(msr::APIC_BASE) | BASE_X2),
        }
        apic::write(register::SPURIOUS, 0x1ff);
    }
}

fn all_ways(report: &mut Report, others: &Others, mode: u32, ways: &[Way]) {
    MODE.store(mode, Ordering::Release);
    take_address(0);
    restart(report, others);
    for &(name, bits, destination, meant) in ways {
        let send = |what: u32| {
            // SAFETY: all count their NMIs, and none of these is the boot
            // processor.
            unsafe { apic::send(what | bits, destination) };
        };
        let found = observe(meant, nmis, || send(delivery::NMI));
        report.equal(format_args!("an NMI to {name}"), found, meant);
        send(delivery::INIT);
        let found = observe(meant, starts, || {
            apic::settle();
            for number in others.numbers() {
                // SAFETY: who waits for it comes to the trampoline.
                unsafe { apic::send(others.startup(), number as u32) };
            }
        });
        report.equal(format_args!("INIT to {name}"), found, meant);
        // INIT takes logical numbers away but those of x2APIC mode: from all that
        // have come after it.
        let meant = if bits == LOGICAL && mode != X2 {
            report.holds("they come without numbers", others.start(wait_unaddressed));
            0
        } else {
            meant
        };
        report.holds("and wait", go_on(others));
        others.stop();
        let found = observe(meant, starts, || send(others.startup()));
        report.equal(format_args!("a start-up IPI to {name}"), found, meant);
        restart(report, others);
    }
}

/// Those on which `count` went on by one when `act` was done; waits for those
/// in `meant`, and a little for others.
fn observe(meant: u32, count: fn(usize) -> u32, act: impl FnOnce()) -> u32 {
    let before: [u32; MAX] = core::array::from_fn(count);
    let changed = || {
        let numbers = before.iter().enumerate();
        let once = numbers.filter(|(number, before)| count(*number) == *before + 1);
        once.fold(0, |mask, (number, _)| mask | 1 << number)
    };
    act();
    wait_until(|| changed() & meant == meant);
    apic::settle();
    changed()
}

fn restart(report: &mut Report, others: &Others) {
    let is_ready = |number: usize| ADDRESSED[number].load(Ordering::Acquire) == starts(number);
    let came = others.start(wait_addressed);
    if !came || !wait_until(|| others.numbers().all(is_ready)) {
        report.holds("all come back", false);
    }
}

/// The attempts that came out right, a bit each. Written by each CPU.
static RIGHT: [AtomicU64; MAX] = [const { AtomicU64::new(0) }; MAX];

/// With several CPUs the APIC stays where it is, and on, whoever asks.
fn bases(report: &mut Report, others: &Others) {
    report.holds("they start for their bases", others.start(try_bases));
    report.holds("and are done", others.wait());
    try_bases(0);
    for (number, right) in RIGHT.iter().enumerate().take(others.count() + 1) {
        let right = right.load(Ordering::Acquire);
        report.equal(format_args!("CPU {number}: bases refused"), right, 0b1_1111);
    }
}

/// Whoever gives its APIC another number is still there for INIT and start-up
/// IPIs to all.
fn renamed(report: &mut Report, others: &Others) {
    fn rename(_: usize) {
        // SAFETY: nothing is sent to this CPU by its number.
        unsafe { apic::write(register::ID, 5 << 24) };
    }
    fn restore(own: usize) {
        // SAFETY: as above.
        unsafe { apic::write(register::ID, (own as u32) << 24) };
    }
    let renamed = others.start(rename) && others.wait();
    report.holds("others give their APICs another number", renamed);
    let restored = others.start(restore) && others.wait();
    report.holds("and start again", restored);
}

fn try_bases(own: usize) {
    // SAFETY: every CPU here has the register.
    let base = unsafe { rdmsr(msr::APIC_BASE) };
    let refused = [
        base & 0xfff | 0xfed0_0000,
        base & 0xfff,
        base & !BASE_ENABLED,
        base & !BASE_ENABLED | BASE_X2,
    ];
    let mut right = 0;
    for (bit, value) in refused.into_iter().enumerate() {
        // SAFETY: what is not refused is put back at once.
        let found = attempt(|| unsafe {
            wrmsr(msr::APIC_BASE, value);
            wrmsr(msr::APIC_BASE, base);
        });
        right |= u64::from(found.is_err()) << bit;
    }
    // SAFETY: as above.
    let same = unsafe { rdmsr(msr::APIC_BASE) } == base && number() == own;
    RIGHT[own].store(right | u64::from(same) << refused.len(), Ordering::Release);
}

/// How many have called.
static CALLED: AtomicU32 = AtomicU32::new(0);

fn call(_: usize) {
    CALLED.fetch_add(u32::from(alive()), Ordering::AcqRel);
    core::hint::black_box(cpu::cpuid(0).eax);
}
