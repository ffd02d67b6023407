//! The local APIC of the CPU that runs this, in either mode: interrupts to
//! other CPUs. Intel SDM volume 3, "Issuing Interprocessor Interrupts".

use crate::cpu::{inb, rdmsr, wrmsr};
use x86::apic::{BASE_X2, COMMAND_BUSY, PAGE, X2_COMMAND, X2_FIRST, register};
use x86::msr;

/// Delivery modes of the command register, asserted.
pub mod delivery {
    /// An NMI.
    pub const NMI: u32 = 0x4400;
    /// INIT.
    pub const INIT: u32 = 0x4500;
    /// A start-up IPI; its vector is the lowest byte.
    pub const STARTUP: u32 = 0x4600;
}

/// The destination is a logical one.
pub const LOGICAL: u32 = 1 << 11;
/// Shorthand: all but the sender.
pub const OTHERS: u32 = 3 << 18;
/// Shorthand: all, the sender among them.
pub const ALL: u32 = 2 << 18;

/// Whether it is in x2APIC mode.
pub fn is_x2() -> bool {
    // SAFETY: every 64-bit CPU has the register.
    unsafe { rdmsr(msr::APIC_BASE) & BASE_X2 != 0 }
}

/// Writes the register at `offset`.
///
/// # Safety
///
/// The value takes away nothing that the firmware relies on.
pub unsafe fn write(offset: u16, value: u32) {
    // SAFETY: the APIC is where it is after reset; in x2APIC mode its registers
    // are MSRs.
    unsafe {
        if is_x2() {
            wrmsr(X2_FIRST + u32::from(offset) / 16, value.into());
        } else {
            ((PAGE + u64::from(offset)) as *mut u32).write_volatile(value);
        }
    }
}

/// Reads the register at `offset`.
pub fn read(offset: u16) -> u32 {
    // SAFETY: as for `write`, and reading changes nothing.
    unsafe {
        if is_x2() {
            rdmsr(X2_FIRST + u32::from(offset) / 16) as u32
        } else {
            ((PAGE + u64::from(offset)) as *const u32).read_volatile()
        }
    }
}

/// Sends what `command` says to `destination`, which a shorthand overrides.
///
/// # Safety
///
/// Who gets it can do with it.
pub unsafe fn send(command: u32, destination: u32) {
    // SAFETY: as the caller promises.
    unsafe {
        if is_x2() {
            return wrmsr(
                X2_COMMAND,
                u64::from(destination) << 32 | u64::from(command),
            );
        }
        write(register::COMMAND_HIGH, destination << 24);
        write(register::COMMAND, command);
    }
    while read(register::COMMAND) & COMMAND_BUSY != 0 {}
}

/// Waits as long as a CPU takes to come to an INIT: emulators run CPUs in turns.
pub fn settle() {
    const POST_CODES: u16 = 0x80;
    for _ in 0..2000 {
        // SAFETY: nobody waits for what the port holds.
        let _ = unsafe { inb(POST_CODES) };
    }
}
