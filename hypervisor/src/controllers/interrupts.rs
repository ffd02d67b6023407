//! NMIs, which arrive here first under VT-x and belong to the guest.

use crate::outcome::Outcome;
use crate::vm::{Cpu, Vm};
use machine::{Memory, Vcpu};
use x86::Exit;

/// Gives each to the guest as soon as it can take one.
pub fn handle<V: Vcpu, M: Memory>(_: &Vm<M>, cpu: &mut Cpu<V>, exit: &Exit) -> Outcome {
    match exit {
        Exit::Nmi => {
            cpu.vcpu.note_nmi();
            Outcome::Resume
        }
        Exit::NmiWindow => {
            cpu.vcpu.deliver_nmi();
            Outcome::Resume
        }
        _ => Outcome::Pass,
    }
}
