//! A second CPU goes through INIT and start-up IPIs again and again, by the
//! local APIC's page and in x2APIC mode. It comes to its code once for each,
//! writes to the APIC exit until it has been set up and no longer, and exit
//! again when it may be taken down.
#![cfg_attr(target_os = "uefi", no_main, no_std)]

use core::arch::{asm, global_asm};
use core::sync::atomic::{AtomicU32, Ordering};
use tests::cpu::{self, feature, rdmsr, wrmsr};
use tests::processors::wait_until;
use tests::second_cpu::{self, WRITES, change_memory_types, exits_of_writes, set_up};
use tests::{Report, apic, call};

tests::guest!(check);

/// Of the register that holds its number, in the APIC's page.
const APIC_ID: u16 = 0x20;
const APIC_BASE: u32 = 0x1b;
const X2_MODE: u64 = 1 << 10;

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
    let [start, at_words, end] = [
        &raw const other_start,
        &raw const other_words,
        &raw const other_end,
    ];
    // SAFETY: the block below, whose words are atomic.
    let words = unsafe { second_cpu::place::<Words>(start, at_words, end) };
    let Some(words) = words else {
        return report.holds("low memory is free", false);
    };
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
    second_cpu::init();
    if cpu::is_intel() {
        change_memory_types();
    }
    second_cpu::start();
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
    unsafe { apic::write(APIC_ID, number << 24) };
}

fn enter_x2() {
    // SAFETY: the CPU has x2APIC mode, and the firmware's library looks which
    // mode it is in.
    unsafe { wrmsr(APIC_BASE, rdmsr(APIC_BASE) | X2_MODE) };
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
