//! The local APIC of the CPU that runs this. It is the guest's; the hypervisor
//! writes to it what a guest's watched write says, and sends NMIs to call other
//! CPUs.

use crate::guarded;
use crate::instructions::{read_msr, write_msr};
use x86::apic::{
    Address, BASE_ENABLED, BASE_X2, COMMAND_BUSY, COMMAND_NMI, COMMAND_TO_OTHERS, SPURIOUS_ENABLED,
    X2_COMMAND, X2_FIRST, is_usual, register,
};
use x86::msr;

/// Where the hypervisor's own tables map [`x86::apic::PAGE`].
pub(crate) const WINDOW: u64 = 0xffff_c000_0000_0000;

/// Looks at a command under way before it is given up. Intel SDM volume 3,
/// "Interrupt Command Register (ICR)": a few are enough.
const PATIENCE: u32 = 100_000;

/// IA32_APIC_BASE.
pub fn base() -> u64 {
    // SAFETY: every CPU on which several can be has it.
    unsafe { read_msr(msr::APIC_BASE) }
}

/// Whether it is in x2APIC mode.
pub fn is_x2() -> bool {
    base() & BASE_X2 != 0
}

/// Whether its registers are where the hypervisor looks for them: a guest with
/// one CPU may switch it off, or move it.
pub(crate) fn is_reachable() -> bool {
    let base = base();
    is_usual(base) || (base & BASE_ENABLED != 0 && base & BASE_X2 != 0)
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
    base() & x86::apic::BASE_BOOT != 0
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

/// Whether its software has switched it on to take interrupts. Intel SDM volume 3,
/// "Local APIC State After It Has Been Software Disabled".
pub fn takes_interrupts() -> bool {
    let read = if is_x2() { read_x2 } else { read };
    read(register::SPURIOUS) & SPURIOUS_ENABLED != 0
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

/// Sends an NMI to all other CPUs, whatever their numbers.
pub(crate) fn send_nmi_to_others() -> Result<(), Busy> {
    if is_x2() {
        // SAFETY: as for `send_nmi`.
        unsafe { write_msr(X2_COMMAND, u64::from(COMMAND_NMI | COMMAND_TO_OTHERS)) };
        return Ok(());
    }
    wait_until_sent()?;
    write(register::COMMAND, COMMAND_NMI | COMMAND_TO_OTHERS);
    wait_until_sent()
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

/// Puts the registers into their state after INIT, as far as writing can: what is
/// pending stays so, and the end of a level interrupt is told to the I/O APICs.
/// Intel SDM volume 3, "Local APIC State After It Receives an INIT Reset".
pub fn reset() {
    if is_x2() {
        return reset_by(read_x2, write_x2);
    }
    reset_by(read, write);
    write(register::LOGICAL_DESTINATION, 0);
    write(register::DESTINATION_FORMAT, u32::MAX);
}

fn reset_by(read: impl Fn(u16) -> u32, write: impl Fn(u16, u32)) {
    const MASKED: u32 = 1 << 16;
    let last_entry = read(register::VERSION) >> 16 & 0xff;
    for (number, entry) in (0..).zip(LOCAL_ENTRIES) {
        if number <= last_entry {
            write(entry, MASKED);
        }
    }
    write(register::INITIAL_COUNT, 0);
    write(register::DIVIDE, 0);
    write(register::TASK_PRIORITY, 0);
    let serves = || (0..8).any(|word| read(register::IN_SERVICE + 16 * word) != 0);
    for _ in (0..256).take_while(|_| serves()) {
        write(register::END_OF_INTERRUPT, 0);
    }
    write(register::SPURIOUS, 0xff);
    // The first write shows the errors so far, the second those since.
    write(register::ERROR_STATUS, 0);
    write(register::ERROR_STATUS, 0);
}

/// The local vector table in the order in which it grew: the version register
/// says how far it goes.
const LOCAL_ENTRIES: [u16; 7] = [
    register::TIMER,
    register::PIN0,
    register::PIN1,
    register::ERROR,
    register::PERFORMANCE,
    register::THERMAL,
    register::CORRECTED,
];

fn number_x2(offset: u16) -> u32 {
    X2_FIRST + u32::from(offset) / 16
}

fn read_x2(offset: u16) -> u32 {
    guarded::read_msr(number_x2(offset)).unwrap_or(0) as u32
}

fn write_x2(offset: u16, value: u32) {
    // SAFETY: the guest owns the APIC; a register that lacks faults, which is
    // caught.
    unsafe { guarded::write_msr(number_x2(offset), u64::from(value)) };
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use std::collections::BTreeMap;

    const MASKED: u32 = 1 << 16;

    /// What a reset leaves in registers that were all in use, by an APIC whose
    /// version register is `version`, with two interrupts in service.
    fn after_reset(version: u32) -> BTreeMap<u16, u32> {
        let page = RefCell::new(BTreeMap::new());
        let served = RefCell::new(2);
        reset_by(
            |at| match at {
                register::VERSION => version,
                register::IN_SERVICE => *served.borrow(),
                _ => 0,
            },
            |at, value| {
                if at == register::END_OF_INTERRUPT {
                    *served.borrow_mut() -= 1;
                }
                page.borrow_mut().insert(at, value);
            },
        );
        assert_eq!(*served.borrow(), 0);
        page.into_inner()
    }

    #[test]
    fn everything_is_masked_and_nothing_in_service_after_a_reset() {
        let after = after_reset(0x6_0015);
        for entry in [0x2f0, 0x320, 0x330, 0x340, 0x350, 0x360, 0x370] {
            assert_eq!(after[&entry], MASKED, "{entry:#x}");
        }
        for zero in [register::DIVIDE, register::ERROR_STATUS, 0x380, 0x80] {
            assert_eq!(after[&zero], 0, "{zero:#x}");
        }
        assert_eq!(after[&register::SPURIOUS], 0xff);
    }

    #[test]
    fn entries_that_the_apic_lacks_are_left_alone() {
        let after = after_reset(0x3_0010);
        for lacks in [0x2f0, 0x330, 0x340] {
            assert!(!after.contains_key(&lacks), "{lacks:#x}");
        }
        assert_eq!(after[&register::ERROR], MASKED);
    }
}
