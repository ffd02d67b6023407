//! INIT and start-up signals. One CPU is handled so far: the boot processor,
//! which INIT sends to the reset vector.

use crate::oddities::Oddity;
use crate::outcome::Outcome;
use crate::vm::{Cpu, Vm};
use machine::{Memory, Vcpu};
use x86::Exit;

/// Resets the vCPU on INIT; a boot processor ignores start-up signals.
pub fn handle<V: Vcpu, M: Memory>(vm: &Vm<M>, cpu: &mut Cpu<V>, exit: &Exit) -> Outcome {
    match exit {
        Exit::Init => {
            let what = format_args!("the guest's CPU starts at the reset vector");
            vm.oddities.note(Oddity::Init, what);
            cpu.vcpu.reset();
            Outcome::Resume
        }
        Exit::Startup { .. } => Outcome::Resume,
        _ => Outcome::Pass,
    }
}
