//! Faults that exited because a controller watches them, and that are nobody's:
//! the guest gets them.

use crate::outcome::Outcome;
use crate::vm::{Cpu, Vm};
use machine::{Memory, Vcpu};
use x86::{Exception, Exit};

/// Raises it.
pub fn handle<V: Vcpu, M: Memory>(_: &Vm<M>, _: &mut Cpu<V>, exit: &Exit) -> Outcome {
    match *exit {
        Exit::Exception { event, detail } => Outcome::Fault(Exception::from_event(event, detail)),
        _ => Outcome::Pass,
    }
}
