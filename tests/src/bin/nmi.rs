//! NMIs reach the guest, each once, and not while it handles one. Under VT-x
//! they leave the guest first, so this is the hypervisor's work.
#![cfg_attr(target_os = "uefi", no_main, no_std)]

use core::arch::naked_asm;
use core::sync::atomic::{AtomicU32, Ordering};
use tests::cpu::{self, cpuid, feature, rdmsr};
use tests::transcript::Options;
use tests::{Report, attempt};

tests::guest!(check);

const NMI: u8 = 2;
/// NMIs of each kind, if the command line does not say.
const ROUNDS: u64 = 100;

/// NMIs handled.
static HANDLED: AtomicU32 = AtomicU32::new(0);
/// Handlers under way.
static DEPTH: AtomicU32 = AtomicU32::new(0);
/// The most handlers that were under way at once.
static DEEPEST: AtomicU32 = AtomicU32::new(0);
/// NMIs that the handler shall still send to itself.
static AGAIN: AtomicU32 = AtomicU32::new(0);

/// Where the local APIC's interrupt command register is.
const COMMAND: u64 = 0xfee0_0300;
/// An NMI to the CPU in the register's upper half, which is 0, the boot
/// processor. Intel SDM volume 3, "Interrupt Command Register (ICR)". (Bochs
/// makes of the shorthand for oneself an ordinary interrupt.)
const NMI_TO_SELF: u32 = 0x4400;

fn check(report: &mut Report) {
    // SAFETY: every CPU here has a local APIC.
    let base = unsafe { rdmsr(0x1b) };
    report.equal(
        "the local APIC is where it is after reset",
        base & 0xffff_f000,
        0xfee0_0000,
    );
    report.holds(
        "and not in x2APIC mode",
        base & 1 << 10 == 0 && feature(1, cpu::Register::Edx, 9),
    );
    let id = cpuid(1).ebx >> 24;
    report.equal("its number is 0, as the command register says", id, 0);
    let rounds = Options::of_this_guest().random(ROUNDS) as u32;
    let single = attempt(|| send_and_wait(0, rounds));
    report.equal("one NMI after another", single, Ok(rounds));
    report.equal("none nested", DEEPEST.load(Ordering::Relaxed), 1);
    let double = attempt(|| send_and_wait(1, rounds));
    report.equal(
        "an NMI sent in the handler comes after it",
        double,
        Ok(2 * rounds),
    );
    report.equal("and not inside it", DEEPEST.load(Ordering::Relaxed), 1);
}

/// Sends NMIs, each of which makes the handler send `again` more, and returns
/// how many were handled. CPUID leaves the guest between.
fn send_and_wait(again: u32, rounds: u32) -> u32 {
    // SAFETY: inside an attempt; the handler returns by IRETQ.
    unsafe { attempt::handle(NMI, handler) };
    HANDLED.store(0, Ordering::Relaxed);
    for round in 1..=rounds {
        AGAIN.store(again, Ordering::Relaxed);
        // SAFETY: the local APIC is there, see above.
        unsafe { (COMMAND as *mut u32).write_volatile(NMI_TO_SELF) };
        for _ in 0..10_000 {
            if HANDLED.load(Ordering::Relaxed) >= round * (1 + again) {
                break;
            }
            cpuid(0);
        }
    }
    HANDLED.load(Ordering::Relaxed)
}

/// Counts, sends itself another NMI if asked to, and gives the hypervisor
/// reasons to run before it returns.
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
        "xor eax, eax",
        "cpuid",
        "3: lock inc dword ptr [rip + {handled}]",
        "lock dec dword ptr [rip + {depth}]",
        "pop rdx", "pop rcx", "pop rbx", "pop rax",
        "iretq",
        depth = sym DEPTH,
        deepest = sym DEEPEST,
        again = sym AGAIN,
        handled = sym HANDLED,
        command = const COMMAND,
        to_self = const NMI_TO_SELF,
    )
}
