//! MOV to and from debug registers.

use crate::debug;
use crate::outcome::Outcome;
use crate::vm::{Cpu, Vm};
use machine::{Memory, Vcpu};
use x86::Exit;

/// Does it.
pub fn handle<V: Vcpu, M: Memory>(_: &Vm<M>, cpu: &mut Cpu<V>, exit: &Exit) -> Outcome {
    let Exit::Debug(access) = *exit else {
        return Outcome::Pass;
    };
    debug::access(&mut cpu.vcpu, access)
}
