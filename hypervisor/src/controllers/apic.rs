//! Writes to the local APIC where there are several CPUs: INIT and start-up
//! IPIs stop here and go to the CPUs that they are for as words, see `peers`.
//! Everything else is the guest's own. They exit while `peers::watch` is on, and
//! show that the CPU lives.

use crate::emulator::{self, Device};
use crate::outcome::Outcome;
use crate::peers::{self, Peers, watch};
use crate::vm::{Cpu, Vm};
use crate::watches::Watches;
use core::marker::PhantomData;
use core::ops::Range;
use machine::{Memory, Vcpu};
use x86::apic::{Command, PAGE, X2_COMMAND, X2_COMMAND_RESERVED, X2_END_OF_INTERRUPT, register};
use x86::exit::NestedFault;
use x86::startup::Sign;
use x86::{Exception, Exit, Gpa, PAGE_SIZE};

const REGISTERS: Range<Gpa> = Gpa(PAGE)..Gpa(PAGE + PAGE_SIZE);

/// The page, and the command register of x2APIC mode.
pub fn watches<V: Vcpu, M: Memory>(watches: &mut Watches<V, M>) {
    if watches.vm.peers.are_several() {
        watches.page_writes(REGISTERS.start);
        watches.msrs(X2_COMMAND..=X2_COMMAND, false, true);
    }
}

/// Stops start-up signals of x2APIC mode.
pub fn handle<V: Vcpu, M: Memory>(vm: &Vm<M>, cpu: &mut Cpu<V>, exit: &Exit) -> Outcome {
    match *exit {
        Exit::WriteMsr {
            number: X2_COMMAND,
            value,
        } if vm.peers.are_several() && V::apic_address().x2 => {
            let outcome = x2_command(vm, cpu, value);
            serve_own(vm, cpu, outcome)
        }
        Exit::WriteMsr {
            number: X2_END_OF_INTERRUPT,
            ..
        } if vm.peers.are_several() => {
            watch::note(vm, cpu, Sign::Alive);
            Outcome::Pass
        }
        _ => Outcome::Pass,
    }
}

/// Stops start-up signals by the page.
#[inline]
pub fn handle_fault<V: Vcpu, M: Memory>(
    vm: &Vm<M>,
    cpu: &mut Cpu<V>,
    fault: NestedFault,
) -> Outcome {
    if !REGISTERS.contains(&fault.gpa) {
        return Outcome::Pass;
    }
    let mut registers = Registers::<V> {
        peers: &vm.peers,
        number: cpu.number,
        vendor: PhantomData,
    };
    let outcome = emulator::memory(vm, cpu, fault, REGISTERS, &mut registers);
    serve_own(vm, cpu, outcome)
}

/// A write that was done shows that the CPU lives, and a signal of its to itself
/// is due at once.
fn serve_own<V: Vcpu, M: Memory>(vm: &Vm<M>, cpu: &mut Cpu<V>, outcome: Outcome) -> Outcome {
    match outcome {
        Outcome::Done | Outcome::Emulated { .. } | Outcome::Again => {
            watch::note(vm, cpu, Sign::Alive);
            match peers::serve(vm, cpu) {
                Outcome::Moved => Outcome::Moved,
                _ => outcome,
            }
        }
        other => other,
    }
}

/// Takes a command of x2APIC mode.
fn x2_command<V: Vcpu, M: Memory>(vm: &Vm<M>, cpu: &mut Cpu<V>, value: u64) -> Outcome {
    if value & X2_COMMAND_RESERVED != 0 {
        return Outcome::Fault(Exception::GeneralProtection(0));
    }
    match Command::decode(value as u32, (value >> 32) as u32, true) {
        Command::Interrupt => {
            watch::note(vm, cpu, Sign::Alive);
            Outcome::Pass
        }
        Command::Nothing => Outcome::Done,
        Command::Startup(signal, destination) => {
            vm.peers.send::<V>(cpu.number, signal, destination);
            Outcome::Done
        }
    }
}

/// The registers of the CPU that runs this.
struct Registers<'a, V> {
    peers: &'a Peers,
    number: u32,
    vendor: PhantomData<V>,
}

impl<V: Vcpu> Device for Registers<'_, V> {
    fn read(&mut self, at: u64, _: u8) -> u64 {
        u64::from(V::read_apic(at as u16)) >> (8 * (at & 3))
    }

    /// Registers are aligned words; of anything else the manual promises
    /// nothing, and nothing happens. In x2APIC mode no APIC answers here. The
    /// number stays what it is, as on newer CPUs: by it CPUs call each other.
    fn write(&mut self, at: u64, size: u8, value: u64) {
        let (at, value) = (at as u16, value as u32);
        if size != 4 || !register::is_writable(at) || V::apic_address().x2 {
            return;
        }
        if at == register::COMMAND {
            let destination = V::read_apic(register::COMMAND_HIGH) >> 24;
            match Command::decode(value, destination, false) {
                Command::Interrupt => {}
                Command::Nothing => return,
                Command::Startup(signal, destination) => {
                    return self.peers.send::<V>(self.number, signal, destination);
                }
            }
        }
        V::write_apic(at, value);
        if matches!(
            at,
            register::LOGICAL_DESTINATION | register::DESTINATION_FORMAT
        ) {
            self.peers.note_address(self.number, V::apic_address());
        }
    }
}
