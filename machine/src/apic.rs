//! The local APIC of the CPU that runs this. It is the guest's; the hypervisor
//! writes to it what a guest's watched write says, and sends NMIs to call other
//! CPUs.

use crate::instructions::{read_msr, write_msr};
use x86::apic::{
    Address, BASE_ENABLED, BASE_X2, COMMAND_BUSY, COMMAND_NMI, PAGE, X2_COMMAND, X2_FIRST, register,
};
use x86::msr;

/// Where the hypervisor's own tables map [`x86::apic::PAGE`].
pub(crate) const WINDOW: u64 = 0xffff_c000_0000_0000;

/// Looks at a command under way before it is given up. Intel SDM volume 3,
/// "Interrupt Command Register (ICR)": a few are enough.
const PATIENCE: u32 = 100_000;

/// Whether it is in x2APIC mode.
pub fn is_x2() -> bool {
    // SAFETY: every CPU on which several can be has IA32_APIC_BASE.
    unsafe { read_msr(msr::APIC_BASE) & BASE_X2 != 0 }
}

/// Whether its registers are where the hypervisor looks for them: a guest with
/// one CPU may switch it off, or move it.
pub(crate) fn is_reachable() -> bool {
    // SAFETY: as for `is_x2`.
    let base = unsafe { read_msr(msr::APIC_BASE) };
    base & BASE_ENABLED != 0 && (base & BASE_X2 != 0 || base & !0xfff == PAGE)
}

/// Reads the register at `offset` of the page.
pub fn read(offset: u16) -> u32 {
    let at = (WINDOW + u64::from(offset & 0xff0)) as *const u32;
    // SAFETY: the own tables map the APIC's page here, uncached; its registers
    // are aligned words, and reading one changes nothing.
    unsafe { at.read_volatile() }
}

/// Writes the register at `offset` of the page, for the guest.
pub fn write(offset: u16, value: u32) {
    let at = (WINDOW + u64::from(offset & 0xff0)) as *mut u32;
    // SAFETY: as for `read`. The guest owns the APIC, and interrupts are off in
    // the hypervisor; NMIs have their handler.
    unsafe { at.write_volatile(value) };
}

/// Whether this is the boot processor.
pub fn is_boot_processor() -> bool {
    // SAFETY: as for `is_x2`.
    unsafe { read_msr(msr::APIC_BASE) & x86::apic::BASE_BOOT != 0 }
}

/// How it is addressed.
pub fn address() -> Address {
    if is_x2() {
        // SAFETY: in x2APIC mode the register is an MSR.
        let id = unsafe { read_msr(X2_FIRST + u32::from(register::ID) / 16) };
        return Address {
            id: id as u32,
            x2: true,
            ..Address::default()
        };
    }
    Address {
        id: read(register::ID) >> 24,
        logical: read(register::LOGICAL_DESTINATION),
        format: read(register::DESTINATION_FORMAT),
        x2: false,
    }
}

/// Sends an NMI to the CPU whose APIC has number `id`. The guest may be between
/// its two writes to the command register: the upper half is put back.
pub(crate) fn send_nmi(id: u32) -> Result<(), Busy> {
    if is_x2() {
        let command = u64::from(id) << 32 | u64::from(COMMAND_NMI);
        // SAFETY: in x2APIC mode the register exists; the target has a handler
        // for NMIs, or leaves its guest for one.
        unsafe { write_msr(X2_COMMAND, command) };
        return Ok(());
    }
    wait_until_sent()?;
    let high = read(register::COMMAND_HIGH);
    write(register::COMMAND_HIGH, id << 24);
    write(register::COMMAND, COMMAND_NMI);
    let sent = wait_until_sent();
    write(register::COMMAND_HIGH, high);
    sent
}

/// A command that was given up: another one would be lost, or take its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Busy;

fn wait_until_sent() -> Result<(), Busy> {
    for _ in 0..PATIENCE {
        if read(register::COMMAND) & COMMAND_BUSY == 0 {
            return Ok(());
        }
        core::hint::spin_loop();
    }
    Err(Busy)
}

/// Puts the registers into their state after INIT, as far as writing can.
/// Intel SDM volume 3, "Local APIC State After It Receives an INIT Reset".
pub fn reset() {
    const MASKED: u32 = 1 << 16;
    if is_x2() {
        return reset_x2(MASKED);
    }
    for entry in LOCAL_ENTRIES {
        write(entry, MASKED);
    }
    write(register::INITIAL_COUNT, 0);
    write(register::TASK_PRIORITY, 0);
    for _ in 0..256 {
        let served = (0..8).any(|word| read(register::IN_SERVICE + 16 * word) != 0);
        if !served {
            break;
        }
        write(register::END_OF_INTERRUPT, 0);
    }
    write(register::LOGICAL_DESTINATION, 0);
    write(register::DESTINATION_FORMAT, u32::MAX);
    write(register::SPURIOUS, 0xff);
}

const LOCAL_ENTRIES: [u16; 6] = [
    register::TIMER,
    register::THERMAL,
    register::PERFORMANCE,
    register::PIN0,
    register::PIN1,
    register::ERROR,
];

/// The thermal and performance entries may lack.
fn reset_x2(masked: u32) {
    let number = |offset: u16| X2_FIRST + u32::from(offset) / 16;
    let set = |offset, value: u32| {
        // SAFETY: the guest owns the APIC; a register that lacks faults, which
        // is caught.
        unsafe { crate::guarded::write_msr(number(offset), u64::from(value)) }
    };
    for entry in LOCAL_ENTRIES {
        set(entry, masked);
    }
    set(register::INITIAL_COUNT, 0);
    set(register::TASK_PRIORITY, 0);
    for _ in 0..256 {
        let read = |word: u16| crate::guarded::read_msr(number(register::IN_SERVICE + 16 * word));
        let served = (0..8).any(|word| read(word).unwrap_or(0) != 0);
        if !served {
            break;
        }
        set(register::END_OF_INTERRUPT, 0);
    }
    set(register::SPURIOUS, 0xff);
}
