//! Signals to anybody. INIT never goes to the boot processor: the firmware would
//! begin anew on it.

use core::sync::atomic::Ordering;
use tests::apic::{self, ALL, LOGICAL, OTHERS, delivery};
use tests::cpu::{rdmsr, wrmsr};
use tests::random::Random;
use x86::apic::{BASE_X2, register};
use x86::msr;

/// Gives the CPU a logical number: its bit.
pub fn take_address(number: usize) {
    if apic::is_x2() {
        return;
    }
    // SAFETY: nothing else is delivered by logical numbers.
    unsafe {
        apic::write(register::LOGICAL_DESTINATION, 0x0100_0000 << number);
    }
}

/// Switches to x2APIC mode.
pub fn go_to_x2(_: usize) {
    // SAFETY: the firmware uses its APIC no more.
    unsafe { wrmsr(msr::APIC_BASE, rdmsr(msr::APIC_BASE) | BASE_X2) };
}

/// Sends INIT or a start-up IPI, from CPU `number`, or with `nmis` one of those.
pub fn send(random: &mut Random, number: usize, nmis: bool) {
    let command = match random.below(if nmis { 8 } else { 5 }) {
        0 => delivery::INIT,
        1..5 => super::STARTUP.load(Ordering::Acquire),
        _ => delivery::NMI,
    };
    let is_init = command == delivery::INIT;
    let any = u64::from(!is_init);
    let count = super::COUNT.load(Ordering::Acquire);
    let (bits, destination) = match random.below(8) {
        0..4 => (0, 1 - any + random.below(count + 1 + any)),
        4 | 5 => (LOGICAL, random.below(256) & !(1 - any)),
        6 if !is_init => (ALL, 0),
        _ if !is_init || number == 0 => (OTHERS, 0),
        _ => (0, 1),
    };
    // SAFETY: all of them come to the trampoline, or count their NMIs.
    unsafe { apic::send(command | bits, destination as u32) };
}
