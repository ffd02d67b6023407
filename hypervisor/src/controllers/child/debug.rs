//! Debug registers of a child. Where its accesses to them exit, they are in the CPU
//! only while its DR7 enables a breakpoint, which is looked at when a turn begins.

use crate::children::program::plain;
use crate::debug;
use crate::outcome::Outcome;
use crate::vm::{Cpu, Vm};
use abi::child::kind;
use machine::{Memory, Vcpu};
use x86::Exit;

/// Does the access. Another turn begins behind a write to DR7, or DR5, which is the
/// same or does not exist.
pub fn handle<V: Vcpu, M: Memory>(_: &Vm<M>, cpu: &mut Cpu<V>, exit: &Exit) -> Outcome {
    let Exit::Debug(access) = *exit else {
        return Outcome::Pass;
    };
    let outcome = debug::access(&mut cpu.vcpu, access);
    if access.write && matches!(access.register, 5 | 7) && outcome == Outcome::Done {
        cpu.program.tell(plain(kind::INTERRUPTED));
    }
    outcome
}
