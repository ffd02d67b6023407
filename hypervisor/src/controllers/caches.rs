//! Instructions on caches.

use crate::outcome::Outcome;
use crate::vm::{Cpu, Vm};
use machine::{Memory, Vcpu};
use x86::Exit;
use x86::exit::Instruction;

/// INVD throws away what caches have not written to memory yet: also what is
/// the hypervisor's. The guest gets WBINVD, which loses nothing.
pub fn handle<V: Vcpu, M: Memory>(_: &Vm<M>, cpu: &mut Cpu<V>, exit: &Exit) -> Outcome {
    let Exit::Instruction(Instruction::Invd | Instruction::Wbinvd) = exit else {
        return Outcome::Pass;
    };
    cpu.vcpu.write_back_caches();
    Outcome::Done
}
