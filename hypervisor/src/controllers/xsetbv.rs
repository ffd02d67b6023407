//! XSETBV, which VT-x does not let a guest run by itself. The hypervisor uses
//! no extended state, so XCR0 is the guest's own at all times.

use crate::outcome::Outcome;
use crate::vm::{Cpu, Vm};
use machine::{Memory, Vcpu};
use x86::{Exception, Exit};

/// Runs it with the guest's operands; the CPU decides whether they are right.
pub fn handle<V: Vcpu, M: Memory>(_: &Vm<M>, cpu: &mut Cpu<V>, exit: &Exit) -> Outcome {
    let Exit::SetExtendedControl { index, value } = *exit else {
        return Outcome::Pass;
    };
    if cpu.vcpu.set_extended_control(index, value) {
        Outcome::Done
    } else {
        Outcome::Fault(Exception::GeneralProtection(0))
    }
}
