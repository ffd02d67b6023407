//! The instructions of VMX, SMX and SVM. CPUID hides all three, so they are
//! what they are on a CPU without them.

use crate::outcome::Outcome;
use crate::vm::{Cpu, Vm};
use machine::{Memory, Vcpu};
use x86::{Exception, Exit};

/// #UD.
pub fn handle<V: Vcpu, M: Memory>(_: &Vm<M>, _: &mut Cpu<V>, exit: &Exit) -> Outcome {
    let Exit::Virtualisation = exit else {
        return Outcome::Pass;
    };
    Outcome::Fault(Exception::InvalidOpcode)
}
