//! What arrives for this CPU while a child is on it belongs to the guest: the
//! child's turn ends.

use crate::children::program::plain;
use crate::outcome::Outcome;
use crate::vm::{Cpu, Vm};
use abi::child::kind;
use machine::{Memory, Vcpu};
use x86::Exit;

/// Ends the turn. An event that was being delivered is, when the child goes on.
pub fn handle<V: Vcpu, M: Memory>(_: &Vm<M>, cpu: &mut Cpu<V>, exit: &Exit) -> Outcome {
    let kind = match exit {
        Exit::Interrupt { .. }
        | Exit::Nmi
        | Exit::NmiWindow
        | Exit::Init
        | Exit::Startup { .. }
        | Exit::PreemptionTimer
        | Exit::SystemManagement => kind::INTERRUPTED,
        Exit::InterruptWindow => kind::WINDOW,
        _ => return Outcome::Pass,
    };
    cpu.program.leave_for(exit, plain(kind));
    Outcome::Resume
}
