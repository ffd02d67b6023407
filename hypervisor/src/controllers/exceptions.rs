//! Exceptions that exited because a controller watches them, and that are
//! nobody's: the guest gets them.

use crate::outcome::Outcome;
use crate::vm::{Cpu, Vm};
use machine::{Memory, Vcpu};
use x86::{Exception, Exit};

const DEBUG: u8 = 1;

/// Raises it. The exit came before DR6 was written.
pub fn handle<V: Vcpu, M: Memory>(_: &Vm<M>, cpu: &mut Cpu<V>, exit: &Exit) -> Outcome {
    let Exit::Exception { event, detail } = *exit else {
        return Outcome::Pass;
    };
    if event.vector == DEBUG {
        let status = cpu.vcpu.debug_register(6);
        cpu.vcpu.set_debug_register(6, status | detail);
    }
    Outcome::Fault(Exception::from_event(event, detail))
}
