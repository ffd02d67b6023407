//! Exits and calls of all kinds, with NMIs between.

use crate::{OVER, STEPS, signals};
use core::arch::asm;
use core::sync::atomic::Ordering;
use tests::call::call;
use tests::cpu::{cpuid, inb, rdmsr, wrmsr};
use tests::machine::reserved_ranges;
use tests::processors::MAX;
use tests::random::Random;
use tests::{attempt, uefi};

const PAGE: usize = 4096;

#[repr(align(4096))]
struct Buffers(core::cell::UnsafeCell<[[u8; PAGE]; MAX]>);
// SAFETY: each CPU has calls write to its own; nobody reads them.
unsafe impl Sync for Buffers {}
static BUFFERS: Buffers = Buffers(core::cell::UnsafeCell::new([[0; PAGE]; MAX]));
/// Where Underlay is. Written by the boot processor, which asks the firmware.
static UNDERLAY: core::sync::atomic::AtomicU64 = core::sync::atomic::AtomicU64::new(0);

/// Exits, calls and signals, until all is over.
pub fn forever(number: usize, rounds: u64) {
    if number == 0 && uefi::table::system_table_raw().is_some() {
        let found = reserved_ranges().first().map_or(0, |range| range.base);
        UNDERLAY.store(found, Ordering::Release);
    }
    signals::take_address(number);
    let life = STEPS[number].load(Ordering::Acquire);
    let mut random = Random::of(32 + number as u64, life);
    for round in 0..rounds.saturating_mul(4) {
        if OVER.load(Ordering::Acquire) {
            return;
        }
        // A fault is an answer as well.
        let _ = exit(&mut random, number);
        STEPS[number].fetch_add(1, Ordering::AcqRel);
        if round % 4 == 0 {
            signals::send(&mut random, number, true);
        }
    }
}

fn exit(random: &mut Random, number: usize) -> Result<u64, tests::Fault> {
    let word = random.word();
    match random.below(8) {
        0 => Ok(cpuid(word as u32).eax.into()),
        // SAFETY: reading changes nothing.
        1 => attempt(|| unsafe { rdmsr(word as u32 & 0xc000_1fff) }),
        // SAFETY: nobody waits for what the port holds.
        2 => Ok(unsafe { inb(0x80) }.into()),
        3 => some_call(random, number),
        4 => underlay(random),
        5 => apic_base(random),
        // SAFETY: neither instruction is there for a guest.
        6 => attempt(|| unsafe {
            asm!("vmxoff", options(nostack));
            0
        }),
        // SAFETY: as above.
        _ => attempt(|| unsafe {
            asm!("vmsave rax", in("rax") word, options(nostack));
            0
        }),
    }
}

/// Those that write, write to a page of this CPU's.
fn some_call(random: &mut Random, number: usize) -> Result<u64, tests::Fault> {
    use abi::call::{HELLO, INFO, LIST, LOG_READ, ODDITIES_READ, PING, RESOLVE, STATISTICS_READ};
    let page = BUFFERS.0.get() as u64 + (number * PAGE) as u64;
    let (at, room) = (page + random.below(64), random.below(4000));
    let (service, arguments) = match random.below(10) {
        0 => (PING, [0; 5]),
        1 => (RESOLVE, [random.word(), 0, 0, 0, 0]),
        2 => (LOG_READ, [at, room, random.below(50), 0, 0]),
        3 => (INFO, [at, room, 0, 0, 0]),
        4 => (LIST, [at, room, 0, 0, 0]),
        5 => (STATISTICS_READ, [at, room, 0, 0, 0]),
        6 => (ODDITIES_READ, [at, room, 0, 0, 0]),
        7 => (HELLO, [at, room, 0, 0, 0]),
        _ => (random.word() | 1 << 20, [(); 5].map(|()| random.word())),
    };
    call(service, arguments).map(|reply| reply.rax)
}

/// Reads and writes Underlay's memory.
fn underlay(random: &mut Random) -> Result<u64, tests::Fault> {
    let at = UNDERLAY.load(Ordering::Acquire) + random.below(1 << 20);
    // SAFETY: there is a scrap page.
    attempt(|| unsafe {
        let at = at as *mut u8;
        at.write_volatile(1);
        at.read_volatile().into()
    })
}

/// Takes the APIC away, if it can.
fn apic_base(random: &mut Random) -> Result<u64, tests::Fault> {
    // SAFETY: every CPU here has the register.
    let base = unsafe { rdmsr(x86::msr::APIC_BASE) };
    let value = base ^ random.one_of(&[1 << 11, 3 << 10, 1 << 20, 1 << 28]);
    // SAFETY: with several CPUs all of these are refused.
    attempt(|| unsafe {
        wrmsr(x86::msr::APIC_BASE, value);
        value
    })
}
