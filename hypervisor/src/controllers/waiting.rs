//! Instructions by which a guest waits. None of them exits unless a controller
//! or an older CPU makes it.

use crate::outcome::Outcome;
use crate::vm::{Cpu, Vm};
use machine::{Memory, Vcpu};
use x86::Exit;
use x86::exit::Instruction;

/// HLT halts where the hardware can hold a guest halted. All others may end at
/// any time for no reason that the guest sees, so they end at once.
pub fn handle<V: Vcpu, M: Memory>(_: &Vm<M>, cpu: &mut Cpu<V>, exit: &Exit) -> Outcome {
    let Exit::Instruction(instruction) = exit else {
        return Outcome::Pass;
    };
    match instruction {
        Instruction::Hlt => cpu.vcpu.halt(),
        Instruction::Pause | Instruction::Monitor | Instruction::Mwait | Instruction::UserWait => {}
        _ => return Outcome::Pass,
    }
    Outcome::Done
}
