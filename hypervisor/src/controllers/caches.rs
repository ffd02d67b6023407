//! INVD throws away what caches have not written to memory yet: also what is
//! the hypervisor's. The guest gets WBINVD, which loses nothing.

use crate::outcome::Outcome;
use crate::vm::{Cpu, Vm};
use machine::{Memory, Vcpu};
use x86::Exit;

/// INVD as WBINVD.
pub fn handle<V: Vcpu, M: Memory>(_: &Vm<M>, cpu: &mut Cpu<V>, exit: &Exit) -> Outcome {
    let Exit::InvalidateCaches = exit else {
        return Outcome::Pass;
    };
    cpu.vcpu.write_back_caches();
    Outcome::Done
}
