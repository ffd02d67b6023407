//! Sleep out of which the machine would wake without the hypervisor: the guest's
//! word for it does not reach the hardware, and the machine looks as if it had
//! slept and was woken at once. A guest waits for that, Linux for ever.

use crate::emulator::{self, Device};
use crate::oddities::Oddity;
use crate::outcome::Outcome;
use crate::vm::{Cpu, Vm};
use crate::watches::Watches;
use abi::handoff::Sleep;
use core::marker::PhantomData;
use core::sync::atomic::Ordering::{AcqRel, Acquire, Release};
use machine::{Memory, Vcpu};
use x86::exit::PortAccess;

/// Both registers are words. ACPI specification, "PM1 Control Registers" and "PM1
/// Status Registers".
const SIZE: u16 = 2;
const SLEEP: u64 = 1 << 13;
const WOKEN: u64 = 1 << 15;

const fn sleep_type(control: u64) -> u32 {
    (control >> 10) as u32 & 7
}

/// The registers of a machine that can be put to sleep.
pub fn watches<V: Vcpu, M: Memory>(watches: &mut Watches<V, M>) {
    let registers = watches.vm.sleep;
    for port in registers.iter().flat_map(ports) {
        watches.ports(port..=port.saturating_add(SIZE - 1));
    }
}

/// Those that there are.
fn ports(registers: &Sleep) -> impl Iterator<Item = u16> + use<> {
    let ports = [registers.control, registers.status];
    let is_there = registers.control != 0;
    ports.into_iter().filter(move |port| is_there && *port != 0)
}

/// Lets everything else through.
#[inline(never)]
pub fn handle_port<V: Vcpu, M: Memory>(
    vm: &Vm<M>,
    cpu: &mut Cpu<V>,
    access: PortAccess,
) -> Outcome {
    let mut watched = vm.sleep.iter().flat_map(ports);
    if !watched.any(|port| meets(&access, port)) {
        return Outcome::Pass;
    }
    let mut device = Registers::<V, M> {
        vm,
        vendor: PhantomData,
    };
    emulator::port(vm, cpu, access, &mut device)
}

fn meets(access: &PortAccess, port: u16) -> bool {
    let (first, size) = (u32::from(access.port), u32::from(access.size));
    let port = u32::from(port);
    first < port + u32::from(SIZE) && port < first + size
}

struct Registers<'a, V, M> {
    vm: &'a Vm<M>,
    vendor: PhantomData<V>,
}

/// What of an access at `at` belongs to the register at `port`, as its bits.
fn of_register(value: u64, at: u64, port: u16) -> u64 {
    let port = u64::from(port);
    let value = if at < port {
        value.checked_shr((8 * (port - at)) as u32)
    } else {
        value.checked_shl((8 * (at - port)) as u32)
    };
    value.unwrap_or(0) & 0xffff
}

/// The other way round.
fn of_access(register: u64, at: u64, port: u16) -> u64 {
    let port = u64::from(port);
    let value = if at < port {
        register.checked_shl((8 * (port - at)) as u32)
    } else {
        register.checked_shr((8 * (at - port)) as u32)
    };
    value.unwrap_or(0)
}

impl<V: Vcpu, M: Memory> Registers<'_, V, M> {
    fn statuses(&self) -> impl Iterator<Item = u16> + use<V, M> {
        let sleep = self.vm.sleep;
        sleep
            .into_iter()
            .map(|one| one.status)
            .filter(|port| *port != 0)
    }

    /// The type of sleep that `value`, written at `at`, is the word for, if it must
    /// not be.
    fn refused(&self, at: u64, size: u8, value: u64) -> Option<u32> {
        let value = value & (u64::MAX >> (64 - 8 * u32::from(size.clamp(1, 8))));
        let there = self.vm.sleep.iter().filter(|one| one.control != 0);
        let mut told = there.map(|one| (of_register(value, at, one.control), one.harmless));
        let refused = told.find(|(control, harmless)| {
            control & SLEEP != 0 && harmless >> sleep_type(*control) & 1 == 0
        });
        refused.map(|(control, _)| sleep_type(control))
    }
}

impl<V: Vcpu, M: Memory> Device for Registers<'_, V, M> {
    fn read(&mut self, at: u64, size: u8) -> u64 {
        let value = u64::from(V::read_port(at as u16, size));
        if !self.vm.woken.load(Acquire) {
            return value;
        }
        self.statuses()
            .fold(value, |value, port| value | of_access(WOKEN, at, port))
    }

    fn write(&mut self, at: u64, size: u8, value: u64) {
        if let Some(refused) = self.refused(at, size, value) {
            self.vm.woken.store(true, Release);
            let what = format_args!(
                "from one of type {refused} the machine would wake without Underlay, so it looks woken at once"
            );
            return self.vm.oddities.note(Oddity::Sleep, what);
        }
        // The bit is cleared by writing it.
        if self
            .statuses()
            .any(|port| of_register(value, at, port) & WOKEN != 0)
        {
            let _ = self.vm.woken.compare_exchange(true, false, AcqRel, Acquire);
        }
        V::write_port(at as u16, size, value as u32);
    }
}

#[cfg(test)]
mod tests;
