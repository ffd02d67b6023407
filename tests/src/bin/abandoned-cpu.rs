//! A second CPU is up and halts for good, as before kexec: interrupts off, its
//! APIC as after INIT. Then another system begins on the first, which is the
//! owner of all memory now. The second CPU must not run on, whatever Underlay has
//! it look at meanwhile, until it is started again.
#![cfg_attr(target_os = "uefi", no_main, no_std)]

use core::arch::{asm, global_asm};
use core::sync::atomic::{AtomicU32, Ordering};
use tests::cpu::{self, rdmsr, wrmsr};
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
const LSTAR: u32 = 0xc000_0082;
const MTRR_FIXED_4K_E8000: u32 = 0x26d;

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
    let place = AllocateType::Address(BASE);
    if boot::allocate_pages(place, MemoryType::LOADER_CODE, 1).is_err() {
        return report.holds("low memory is free", false);
    }
    let words = copy();
    // The firmware's timer would write to the APIC, too.
    // SAFETY: nothing here waits for an interrupt.
    unsafe { asm!("cli") };
    begin_system();
    for number in 1..=3 {
        words.halt.store(0, Ordering::SeqCst);
        send(INIT);
        send(STARTUP);
        send(STARTUP);
        let starts = || words.starts.load(Ordering::SeqCst);
        let started = wait_until(400_000_000, || starts() == number);
        report.holds(format_args!("start {number}"), started);
        let quiet = wait_until(1_000_000, || exits_of_writes() < WRITES);
        report.holds(format_args!("nobody watches after start {number}"), quiet);
        words.halt.store(1, Ordering::SeqCst);
        let halts = || words.halts.load(Ordering::SeqCst) == number;
        let halted = wait_until(400_000_000, halts);
        report.holds(format_args!("it halts after start {number}"), halted);
        write_caches_back();
        begin_system();
        if cpu::is_intel() {
            change_memory_types();
        }
        let runs_on = wait_until(20_000_000, || words.wakes.load(Ordering::SeqCst) != 0);
        report.holds(
            format_args!("it stays halted after start {number}"),
            !runs_on,
        );
        report.equal(format_args!("starts so far: {number}"), starts(), number);
    }
    report.holds("calls work as before", call::alive());
}

/// What a kernel does first on its first CPU.
fn begin_system() {
    // SAFETY: every 64-bit CPU has the register; it keeps its value.
    unsafe { wrmsr(LSTAR, rdmsr(LSTAR)) };
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

/// Memory types change, for which the hypervisor has all CPUs out of the guest.
fn change_memory_types() {
    // SAFETY: the CPU has fixed MTRRs, and the firmware's flash beneath is read
    // correctly with any type.
    unsafe {
        let types = rdmsr(MTRR_FIXED_4K_E8000);
        wrmsr(MTRR_FIXED_4K_E8000, types ^ 0x05);
        wrmsr(MTRR_FIXED_4K_E8000, types);
    }
}

const WRITES: u64 = 100;

/// How many exits it costs to write to the APIC as often. While all CPUs are up
/// it costs none, and to watch again Underlay has all of them look.
fn exits_of_writes() -> u64 {
    let reset = || call::call(abi::call::STATISTICS_RESET, [0; 5]).map_or(0, |reply| reply.rax);
    reset();
    for _ in 0..WRITES {
        write(0x310, OTHER << 24);
    }
    reset()
}

fn wait_until(looks: u32, done: impl Fn() -> bool) -> bool {
    (0..looks).any(|_| done())
}

/// Sends the command to the other CPU.
fn send(command: u32) {
    write(0x310, OTHER << 24);
    write(0x300, command);
}

/// Writes a register of the APIC.
fn write(offset: u64, value: u32) {
    // SAFETY: the APIC's page is where it is after reset, and the firmware does
    // nothing meanwhile.
    unsafe { ((0xfee0_0000 + offset) as *mut u32).write_volatile(value) };
}

fn copy() -> &'static Words {
    // SAFETY: the block between the symbols is code and words of this program,
    // and the page is ours for good.
    unsafe {
        let start = &raw const left_start;
        let size = (&raw const left_end).offset_from_unsigned(start);
        let words = (&raw const left_words).offset_from_unsigned(start);
        core::ptr::copy_nonoverlapping(start, BASE as *mut u8, size);
        &*((BASE as usize + words) as *const Words)
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
