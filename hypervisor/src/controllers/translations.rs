//! Instructions that invalidate translations.

use crate::outcome::Outcome;
use crate::vm::{Cpu, Vm};
use machine::{Memory, Vcpu};
use x86::Exit;
use x86::exit::Instruction;

/// All translations are forgotten, which is never too few.
pub fn handle<V: Vcpu, M: Memory>(_: &Vm<M>, cpu: &mut Cpu<V>, exit: &Exit) -> Outcome {
    let Exit::Instruction(Instruction::Invlpg(_) | Instruction::Invpcid) = exit else {
        return Outcome::Pass;
    };
    cpu.vcpu.flush_nested();
    Outcome::Done
}
