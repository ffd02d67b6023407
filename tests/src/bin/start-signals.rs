//! A second CPU goes through INIT and start-up IPIs again and again, by the
//! local APIC's page and in x2APIC mode. It comes to its code once for each,
//! writes to the APIC exit until it has been set up and no longer, and exit
//! again when it may be taken down.
#![cfg_attr(target_os = "uefi", no_main, no_std)]

use core::arch::{asm, global_asm};
use core::sync::atomic::{AtomicU32, Ordering};
use tests::cpu::{self, feature, rdmsr, wrmsr};
use tests::uefi::boot::{self, AllocateType, MemoryType};
use tests::{Report, call};

tests::guest!(check);

/// Where the other CPU's code and words are: below 1 MiB, a page that a start-up
/// IPI can name.
const BASE: u64 = 0x2_0000;
const STARTUP: u32 = 0x4600 | (BASE >> 12) as u32;
const INIT: u32 = 0x4500;
/// The number of the other CPU's local APIC.
const OTHER: u32 = 1;
/// One that no CPU has: what is sent there is lost.
const NOBODY: u32 = 0x5f;
const FIXED: u32 = 0x4040;

const APIC_BASE: u32 = 0x1b;
const X2_MODE: u64 = 1 << 10;
const LSTAR: u32 = 0xc000_0082;
const X2_COMMAND: u32 = 0x830;
const MTRR_FIXED_4K_E8000: u32 = 0x26d;

/// The words that both CPUs use, at the end of the copied block.
#[repr(C)]
struct Words {
    /// How often the other CPU came to its code, and set itself up.
    starts: AtomicU32,
    /// It shall have its caches written back, and halt.
    stop: AtomicU32,
    /// How often it has.
    stops: AtomicU32,
    /// It shall enter x2APIC mode when it starts.
    x2: AtomicU32,
}

unsafe extern "C" {
    static other_start: u8;
    static other_words: u8;
    static other_end: u8;
}

fn check(report: &mut Report) {
    let place = AllocateType::Address(BASE);
    if boot::allocate_pages(place, MemoryType::LOADER_CODE, 1).is_err() {
        return report.holds("low memory is free", false);
    }
    let words = copy();
    // The firmware's timer would write to the APIC, too.
    // SAFETY: nothing here waits for an interrupt.
    unsafe { asm!("cli") };
    set_up();
    round(report, words, "first", 1);
    round(report, words, "second, under another number", 2);
    number_apic(0);
    if feature(1, cpu::Register::Ecx, 21) {
        enter_x2();
        words.x2.store(1, Ordering::SeqCst);
        round(report, words, "first in x2APIC mode", 3);
        round(report, words, "second in x2APIC mode", 4);
    }
    report.holds("calls work as before", call::alive());
}

/// The other CPU is started, runs, and is about to halt.
fn round(report: &mut Report, words: &Words, name: &str, number: u32) {
    words.stop.store(0, Ordering::SeqCst);
    send(INIT, OTHER);
    if cpu::is_intel() {
        change_memory_types();
    }
    send(STARTUP, OTHER);
    send(STARTUP, OTHER);
    let started = wait_until(|| words.starts.load(Ordering::SeqCst) >= number);
    report.holds(format_args!("it starts: {name}"), started);
    let quiet = wait_until(|| exits_of_writes() < WRITES);
    report.holds(format_args!("then writes exit no more: {name}"), quiet);
    if number == 2 {
        number_apic(0x0a);
    }
    words.stop.store(1, Ordering::SeqCst);
    let stopped = wait_until(|| words.stops.load(Ordering::SeqCst) == number);
    report.holds(format_args!("it is about to halt: {name}"), stopped);
    let watched = exits_of_writes() >= WRITES;
    report.holds(format_args!("and writes exit: {name}"), watched);
    let starts = words.starts.load(Ordering::SeqCst);
    report.equal(format_args!("starts so far: {name}"), starts, number);
}

/// Gives this CPU's APIC another number, where the hardware takes that. The
/// hypervisor, which calls CPUs by their numbers, is not asked.
fn number_apic(number: u32) {
    // SAFETY: the register is there when the CPU is not in x2APIC mode, and the
    // firmware's is put back before it gets any interrupt.
    unsafe { (0xfee0_0020 as *mut u32).write_volatile(number << 24) };
}

const WRITES: u64 = 100;

/// How many exits it costs to write to the APIC as often.
fn exits_of_writes() -> u64 {
    let reset = || call::call(abi::call::STATISTICS_RESET, [0; 5]).map_or(0, |reply| reply.rax);
    reset();
    for _ in 0..WRITES {
        send(FIXED, NOBODY);
    }
    reset()
}

/// Waits for at most some seconds.
fn wait_until(done: impl Fn() -> bool) -> bool {
    (0..400_000_000).any(|_| done())
}

/// What a kernel does first on each of its CPUs.
fn set_up() {
    // SAFETY: every 64-bit CPU has the register; it keeps its value.
    unsafe { wrmsr(LSTAR, rdmsr(LSTAR)) };
}

fn enter_x2() {
    // SAFETY: the CPU has x2APIC mode, and the firmware's library looks which
    // mode it is in.
    unsafe { wrmsr(APIC_BASE, rdmsr(APIC_BASE) | X2_MODE) };
}

/// Memory types change, for which the hypervisor has all CPUs out of the guest:
/// also one that waits for its start-up IPI.
fn change_memory_types() {
    // SAFETY: the CPU has fixed MTRRs, and the firmware's flash beneath is read
    // correctly with any type.
    unsafe {
        let types = rdmsr(MTRR_FIXED_4K_E8000);
        wrmsr(MTRR_FIXED_4K_E8000, types ^ 0x05);
        wrmsr(MTRR_FIXED_4K_E8000, types);
    }
}

fn send(command: u32, destination: u32) {
    // SAFETY: in x2APIC mode the register is an MSR, else it is two words in the
    // APIC's page, which is where it is after reset.
    unsafe {
        if rdmsr(APIC_BASE) & X2_MODE != 0 {
            return wrmsr(
                X2_COMMAND,
                u64::from(destination) << 32 | u64::from(command),
            );
        }
        (0xfee0_0310 as *mut u32).write_volatile(destination << 24);
        (0xfee0_0300 as *mut u32).write_volatile(command);
    }
}

fn copy() -> &'static Words {
    // SAFETY: the block between the symbols is code and words of this program,
    // and the page is ours for good.
    unsafe {
        let start = &raw const other_start;
        let size = (&raw const other_end).offset_from_unsigned(start);
        let words = (&raw const other_words).offset_from_unsigned(start);
        core::ptr::copy_nonoverlapping(start, BASE as *mut u8, size);
        &*((BASE as usize + words) as *const Words)
    }
}

// Runs in real mode, in the segment that begins with it.
global_asm!(
    r#"
    .code16
    .global other_start
    .global other_words
    .global other_end
other_start:
    mov ax, cs
    mov ds, ax
    cmp dword ptr [at_x2], 0
    je 2f
    mov ecx, 0x1b
    rdmsr
    or eax, 0x400
    wrmsr
2:  mov ecx, 0xc0000082
    xor eax, eax
    xor edx, edx
    wrmsr
    lock inc dword ptr [at_starts]
3:  pause
    cmp dword ptr [at_stop], 0
    je 3b
    wbinvd
    lock inc dword ptr [at_stops]
4:  hlt
    jmp 4b

    .balign 16
other_words:
    .zero 16
other_end:
    .set at_starts, other_words - other_start
    .set at_stop, at_starts + 4
    .set at_stops, at_starts + 8
    .set at_x2, at_starts + 12
    .code64
"#
);
