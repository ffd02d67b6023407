//! Writes to the local APIC where there are several CPUs: INIT and start-up
//! IPIs stop here and go to the CPUs that they are for as words, see `peers`.
//! Everything else is the guest's own.

use crate::emulator::{self, Device};
use crate::outcome::Outcome;
use crate::peers::{self, Peers};
use crate::vm::{Cpu, Vm};
use crate::watches::Watches;
use core::marker::PhantomData;
use core::ops::Range;
use machine::{Memory, Vcpu};
use x86::apic::{Command, PAGE, X2_COMMAND, register};
use x86::{Exit, Gpa, PAGE_SIZE};

const REGISTERS: Range<Gpa> = Gpa(PAGE)..Gpa(PAGE + PAGE_SIZE);

/// The page, and the command register of x2APIC mode.
pub fn watches<V: Vcpu, M: Memory>(watches: &mut Watches<V, M>) {
    if watches.vm.peers.are_several() {
        watches.page_writes(REGISTERS.start);
        watches.msrs(X2_COMMAND..=X2_COMMAND, false, true);
    }
}

/// Stops start-up signals. One to the sender itself is due at once.
pub fn handle<V: Vcpu, M: Memory>(vm: &Vm<M>, cpu: &mut Cpu<V>, exit: &Exit) -> Outcome {
    let outcome = match *exit {
        Exit::WriteMsr {
            number: X2_COMMAND,
            value,
        } if vm.peers.are_several() => match command::<V>(&vm.peers, cpu.number, value) {
            Command::Interrupt => Outcome::Pass,
            Command::Startup(..) | Command::Nothing => Outcome::Done,
        },
        Exit::NestedFault(fault) if REGISTERS.contains(&fault.gpa) => {
            let mut registers = Registers::<V> {
                peers: &vm.peers,
                number: cpu.number,
                vendor: PhantomData,
            };
            emulator::memory(vm, cpu, &fault, REGISTERS, &mut registers)
        }
        _ => Outcome::Pass,
    };
    match outcome {
        Outcome::Done | Outcome::Emulated { .. } => match peers::serve(vm, cpu) {
            Outcome::Moved => Outcome::Moved,
            _ => outcome,
        },
        other => other,
    }
}

/// Takes a command of x2APIC mode, where the CPU is in that mode.
fn command<V: Vcpu>(peers: &Peers, number: u32, value: u64) -> Command {
    if !V::apic_address().x2 {
        return Command::Interrupt;
    }
    let command = Command::decode(value as u32, (value >> 32) as u32, true);
    if let Command::Startup(signal, destination) = command {
        peers.send::<V>(number, signal, destination);
    }
    command
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
    /// nothing, and nothing happens. The APIC's number can only be read, as on
    /// some models: by it the other CPUs call this one. Intel SDM volume 3,
    /// "Local APIC ID".
    fn write(&mut self, at: u64, size: u8, value: u64) {
        if size != 4 || !at.is_multiple_of(16) {
            return;
        }
        let (at, value) = (at as u16, value as u32);
        if at == register::ID {
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
