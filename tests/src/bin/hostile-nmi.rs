//! Storms of NMIs, sent by the local APIC while the guest exits for CPUID, an
//! MSR or a port, and while it handles an NMI: each that a CPU would not merge
//! arrives, and none inside another.
#![cfg_attr(target_os = "uefi", no_main, no_std)]

use core::arch::naked_asm;
use core::sync::atomic::{AtomicU32, Ordering};
use tests::cpu::{self, cpuid, inb, rdmsr};
use tests::random::Random;
use tests::transcript::Options;
use tests::{Report, attempt};

tests::guest!(check);

const NMI: u8 = 2;
/// NMIs, or bursts, of each kind, if the command line does not say.
const ROUNDS: u64 = 1000;
/// Instructions after which an NMI that nobody handles is lost.
const PATIENCE: u32 = 10_000;

/// NMIs handled.
static HANDLED: AtomicU32 = AtomicU32::new(0);
/// Handlers under way.
static DEPTH: AtomicU32 = AtomicU32::new(0);
/// The most handlers that were under way at once.
static DEEPEST: AtomicU32 = AtomicU32::new(0);
/// NMIs that the handler shall still send to itself, all at once.
static AGAIN: AtomicU32 = AtomicU32::new(0);
/// An MSR that exits.
static WATCHED: AtomicU32 = AtomicU32::new(0);

/// The interrupt command register, and an NMI to CPU 0: see the guest `nmi`.
const COMMAND: u64 = 0xfee0_0300;
const NMI_TO_SELF: u32 = 0x4400;

fn check(report: &mut Report) {
    let watched = if cpu::is_intel() {
        x86::msr::FEATURE_CONTROL
    } else {
        x86::msr::AMD_VM_CR
    };
    WATCHED.store(watched, Ordering::Relaxed);
    let rounds = Options::of_this_guest().random(ROUNDS) as u32;
    let exits: [(&str, fn()); 4] = [
        ("CPUID", || drop_of(cpuid(0).eax)),
        ("an MSR", read_watched),
        ("a port", read_port),
        ("nothing", || {}),
    ];
    for (name, exit) in exits {
        let found = attempt(|| single(exit, rounds));
        let what = format_args!("one at a time, before {name}: none lost");
        report.equal(what, found, Ok(rounds));
    }
    for (name, exit) in exits {
        let found = attempt(|| bursts(exit, rounds));
        let holds = found.is_ok_and(|(sent, lost_bursts, extra)| {
            report.say(format_args!("of bursts with {name} {sent} were sent"));
            lost_bursts == 0 && extra == 0
        });
        let what = format_args!("bursts with {name} between: each arrives, none too often");
        report.holds(what, holds);
    }
    let found = attempt(|| in_handler(rounds));
    report.equal(
        "three sent in a handler are one after it",
        found,
        Ok(2 * rounds),
    );
    let deepest = DEEPEST.load(Ordering::Relaxed);
    report.equal("none came inside another", deepest, 1);
}

fn read_watched() {
    // SAFETY: the register exists.
    drop_of(unsafe { rdmsr(WATCHED.load(Ordering::Relaxed)) } as u32);
}

fn read_port() {
    const POST_CODES: u16 = 0x80;
    // SAFETY: nobody waits for what the port holds.
    drop_of(u32::from(unsafe { inb(POST_CODES) }));
}

/// The value is of no use, the exit is.
fn drop_of(value: u32) {
    core::hint::black_box(value);
}

fn begin() {
    // SAFETY: inside an attempt; the handler returns by IRETQ.
    unsafe { attempt::handle(NMI, handler) };
    HANDLED.store(0, Ordering::Relaxed);
}

fn send() {
    // SAFETY: the local APIC is where it is after reset.
    unsafe { (COMMAND as *mut u32).write_volatile(NMI_TO_SELF) };
}

fn handled() -> u32 {
    HANDLED.load(Ordering::Relaxed)
}

/// Waits until so many were handled, with more exits.
fn wait_for(count: u32) -> bool {
    (0..PATIENCE).any(|_| {
        cpuid(0);
        handled() >= count
    })
}

/// Each is sent when the one before was handled.
fn single(exit: fn(), rounds: u32) -> u32 {
    begin();
    for round in 1..=rounds {
        send();
        exit();
        wait_for(round);
    }
    handled()
}

/// One to eight at once, `exit` between some: at least one of each burst comes,
/// at most all. Returns how many were sent, how many bursts were lost, and how
/// many came too often.
fn bursts(exit: fn(), rounds: u32) -> (u32, u32, u32) {
    begin();
    let (mut sent, mut lost, mut extra) = (0, 0, 0);
    let mut random = Random::of(5, 0);
    for _ in 0..rounds {
        let before = handled();
        let count = 1 + random.below(8) as u32;
        for _ in 0..count {
            send();
            if random.below(2) == 0 {
                exit();
            }
        }
        sent += count;
        lost += u32::from(!wait_for(before + 1));
        for _ in 0..20 {
            cpuid(0);
        }
        extra += (handled() - before).saturating_sub(count);
    }
    (sent, lost, extra)
}

/// The handler sends three while NMIs are blocked.
fn in_handler(rounds: u32) -> u32 {
    begin();
    for round in 1..=rounds {
        AGAIN.store(3, Ordering::Relaxed);
        send();
        wait_for(2 * round);
        for _ in 0..20 {
            cpuid(0);
        }
    }
    handled()
}

/// Counts, sends itself what it is asked to, and gives the hypervisor reasons to
/// run before it returns.
#[unsafe(naked)]
unsafe extern "sysv64" fn handler() {
    naked_asm!(
        "push rax", "push rbx", "push rcx", "push rdx",
        "lock inc dword ptr [rip + {depth}]",
        "mov eax, [rip + {depth}]",
        "cmp eax, [rip + {deepest}]",
        "jbe 2f",
        "mov [rip + {deepest}], eax",
        "2: cmp dword ptr [rip + {again}], 0",
        "je 3f",
        "dec dword ptr [rip + {again}]",
        "mov eax, {command}",
        "mov dword ptr [rax], {to_self}",
        "xor eax, eax",
        "cpuid",
        "mov ecx, [rip + {watched}]",
        "rdmsr",
        "jmp 2b",
        "3: lock inc dword ptr [rip + {handled}]",
        "lock dec dword ptr [rip + {depth}]",
        "pop rdx", "pop rcx", "pop rbx", "pop rax",
        "iretq",
        depth = sym DEPTH,
        deepest = sym DEEPEST,
        again = sym AGAIN,
        watched = sym WATCHED,
        handled = sym HANDLED,
        command = const COMMAND,
        to_self = const NMI_TO_SELF,
    )
}
