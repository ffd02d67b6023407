//! INIT and start-up signals that reach the CPU itself, and calls of other
//! CPUs, which bring most of these.

use crate::oddities::Oddity;
use crate::outcome::Outcome;
use crate::peers;
use crate::vm::{Cpu, Vm};
use machine::{Memory, Vcpu};
use x86::Exit;

/// A single CPU is the boot processor: INIT sends it to the reset vector, and it
/// ignores start-up signals.
pub fn handle<V: Vcpu, M: Memory>(vm: &Vm<M>, cpu: &mut Cpu<V>, exit: &Exit) -> Outcome {
    match exit {
        Exit::Init if vm.peers.are_several() => peers::receive_init(vm, cpu),
        Exit::Init => {
            let what = format_args!("the guest's CPU starts at the reset vector");
            vm.oddities.note(Oddity::Init, what);
            cpu.vcpu.take_init();
            cpu.vcpu.reset();
            Outcome::Resume
        }
        Exit::Startup { .. } => Outcome::Resume,
        Exit::PreemptionTimer => {
            cpu.vcpu.end_call();
            peers::serve(vm, cpu)
        }
        _ => Outcome::Pass,
    }
}
