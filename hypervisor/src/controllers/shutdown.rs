//! Ends of a guest: a triple fault, and an entry that fails.

use crate::outcome::Outcome;
use crate::vm::{Cpu, Vm};
use machine::{Memory, Vcpu};
use x86::control::Cr4;
use x86::exit::EntryFailure;
use x86::{Exception, Exit};

/// A triple fault resets the machine, as it does natively.
pub fn handle<V: Vcpu, M: Memory>(_: &Vm<M>, cpu: &mut Cpu<V>, exit: &Exit) -> Outcome {
    match *exit {
        Exit::TripleFault => {
            log::error!(
                "triple fault at rip {:#x}: the machine resets",
                cpu.vcpu.rip()
            );
            Outcome::Stop
        }
        // The CPU found the error in what the guest's entry loads; the guest
        // owns the machine, and is told.
        Exit::EntryFailed(EntryFailure::MachineCheck) if cpu.vcpu.cr4().contains(Cr4::MCE) => {
            Outcome::Fault(Exception::MACHINE_CHECK)
        }
        Exit::EntryFailed(_) => Outcome::Stop,
        _ => Outcome::Pass,
    }
}
