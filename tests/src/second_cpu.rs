//! A second CPU that the guest starts into a few lines of its own in real mode,
//! and what makes Underlay watch the APIC or call that CPU.

use crate::apic::{self, delivery};
use crate::call;
use crate::cpu::{rdmsr, wrmsr};
use uefi::boot::{self, AllocateType, MemoryType};
use x86::apic::register;

/// The number of its local APIC.
pub const NUMBER: u32 = 1;
/// How many commands [`exits_of_writes`] sends: each is one write in x2APIC mode,
/// else two.
pub const WRITES: u64 = 100;

/// Where its code is: below 1 MiB, a page that a start-up IPI can name.
const BASE: u64 = 0x2_0000;
/// Starts it there.
const STARTUP: u32 = delivery::STARTUP | (BASE >> 12) as u32;
/// A number that no APIC has: what is sent there is lost.
const NOBODY: u32 = 0x5f;
const FIXED: u32 = 0x4040;
const LSTAR: u32 = 0xc000_0082;
const MTRR_FIXED_4K_E8000: u32 = 0x26d;

/// Places its code, which is from `start` to `end` and begins a segment of real
/// mode, and returns the words within that begin at `words`. None if its page is
/// not free.
///
/// # Safety
///
/// All three are symbols of one block in this program, in this order; `words` is
/// aligned for `T`, and any bytes there are one that several CPUs may share.
pub unsafe fn place<T>(start: *const u8, words: *const u8, end: *const u8) -> Option<&'static T> {
    let place = AllocateType::Address(BASE);
    boot::allocate_pages(place, MemoryType::LOADER_CODE, 1).ok()?;
    // SAFETY: as the caller promises, and the page is ours for good.
    unsafe {
        let size = end.offset_from_unsigned(start);
        core::ptr::copy_nonoverlapping(start, BASE as *mut u8, size);
        let words = BASE as usize + words.offset_from_unsigned(start);
        Some(&*(words as *const T))
    }
}

/// Has it wait for a start-up IPI, wherever it is.
pub fn init() {
    send(delivery::INIT, NUMBER);
}

/// Sends it two start-up IPIs, as systems do.
pub fn start() {
    send(STARTUP, NUMBER);
    send(STARTUP, NUMBER);
}

/// What a kernel does first on each of its CPUs.
pub fn set_up() {
    // SAFETY: every 64-bit CPU has the register; it keeps its value.
    unsafe { wrmsr(LSTAR, rdmsr(LSTAR)) };
}

/// Memory types change, for which the hypervisor has all CPUs out of the guest:
/// also one that waits for its start-up IPI.
pub fn change_memory_types() {
    // SAFETY: the CPU has fixed MTRRs, and the firmware's flash beneath is read
    // correctly with any type.
    unsafe {
        let types = rdmsr(MTRR_FIXED_4K_E8000);
        wrmsr(MTRR_FIXED_4K_E8000, types ^ 0x05);
        wrmsr(MTRR_FIXED_4K_E8000, types);
    }
}

/// How many exits it costs to send [`WRITES`] commands to nobody: none while all
/// CPUs are up. To watch again, Underlay has all of them look.
pub fn exits_of_writes() -> u64 {
    let reset = || call::call(abi::call::STATISTICS_RESET, [0; 5]).map_or(0, |reply| reply.rax);
    reset();
    for _ in 0..WRITES {
        send(FIXED, NOBODY);
    }
    reset()
}

/// One write in x2APIC mode, else two; that an earlier command is gone is not
/// waited for, as systems do not for these.
fn send(command: u32, destination: u32) {
    // SAFETY: the second CPU has come from `place`, or waits for its first
    // start-up IPI; nobody else gets anything.
    unsafe {
        if apic::is_x2() {
            let both = u64::from(destination) << 32 | u64::from(command);
            return wrmsr(x86::apic::X2_COMMAND, both);
        }
        apic::write(register::COMMAND_HIGH, destination << 24);
        apic::write(register::COMMAND, command);
    }
}
