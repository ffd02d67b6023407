//! A second CPU is up and halts for good, as before kexec: interrupts off, its
//! APIC as after INIT. Then another system begins on the first, which is the
//! owner of all memory now. The second CPU must not run on, whatever Underlay has
//! it look at meanwhile, until it is started again.
#![cfg_attr(target_os = "uefi", no_main, no_std)]

use core::arch::{asm, global_asm};
use core::sync::atomic::{AtomicU32, Ordering};
use tests::processors::wait_until;
use tests::second_cpu::{self, WRITES, change_memory_types, exits_of_writes, set_up};
use tests::{Report, call, cpu};

tests::guest!(check);

/// The words that both CPUs use, at the end of the copied block.
#[repr(C)]
struct Words {
    /// How often the other CPU came to its code.
    starts: AtomicU32,
    /// It shall halt.
    halt: AtomicU32,
    /// How often it was about to.
    halts: AtomicU32,
    /// How often it ran on behind its HLT.
    wakes: AtomicU32,
}

unsafe extern "C" {
    static left_start: u8;
    static left_words: u8;
    static left_end: u8;
}

fn check(report: &mut Report) {
    let [start, at_words, end] = [
        &raw const left_start,
        &raw const left_words,
        &raw const left_end,
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
    for number in 1..=3 {
        words.halt.store(0, Ordering::SeqCst);
        second_cpu::init();
        second_cpu::start();
        let starts = || words.starts.load(Ordering::SeqCst);
        let started = wait_until(|| starts() == number);
        report.holds(format_args!("start {number}"), started);
        let quiet = wait_until(|| exits_of_writes() < WRITES);
        report.holds(format_args!("nobody watches after start {number}"), quiet);
        words.halt.store(1, Ordering::SeqCst);
        let halts = || words.halts.load(Ordering::SeqCst) == number;
        let halted = wait_until(halts);
        report.holds(format_args!("it halts after start {number}"), halted);
        write_caches_back();
        set_up();
        if cpu::is_intel() {
            change_memory_types();
        }
        let runs_on = (0..20_000_000).any(|_| words.wakes.load(Ordering::SeqCst) != 0);
        report.holds(
            format_args!("it stays halted after start {number}"),
            !runs_on,
        );
        report.equal(format_args!("starts so far: {number}"), starts(), number);
    }
    report.holds("calls work as before", call::alive());
}

/// What a kernel does before that: it turns caches off to change memory types.
fn write_caches_back() {
    const CACHE_DISABLE: u64 = 1 << 30;
    // SAFETY: memory stays what it is, but for its speed.
    unsafe {
        asm!(
            "mov {old}, cr0",
            "mov {off}, {old}",
            "or {off}, {bit}",
            "mov cr0, {off}",
            "wbinvd",
            "mov cr0, {old}",
            bit = in(reg) CACHE_DISABLE,
            old = out(reg) _,
            off = out(reg) _,
        );
    }
}

// Runs in real mode, in the segment that begins with it, with interrupts off.
global_asm!(
    r#"
    .code16
    .global left_start
    .global left_words
    .global left_end
left_start:
    mov ax, cs
    mov ds, ax
    mov ecx, 0xc0000082
    xor eax, eax
    xor edx, edx
    wrmsr
    lock inc dword ptr [at_left_starts]
2:  pause
    cmp dword ptr [at_left_halt], 0
    je 2b
    lock inc dword ptr [at_left_halts]
3:  hlt
    lock inc dword ptr [at_left_wakes]
    jmp 3b

    .balign 16
left_words:
    .zero 16
left_end:
    .set at_left_starts, left_words - left_start
    .set at_left_halt, at_left_starts + 4
    .set at_left_halts, at_left_starts + 8
    .set at_left_wakes, at_left_starts + 12
    .code64
"#
);
