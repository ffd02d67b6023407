//! Exits that nothing in Underlay asks for. They stand here so that each has a
//! defined end, should a CPU insist on one.

use crate::oddities::Oddity;
use crate::outcome::Outcome;
use crate::vm::{Cpu, Vm};
use machine::{Memory, Vcpu};
use x86::{Exception, Exit};

/// Events change nothing. Instructions are unknown: what cannot be done right
/// is not done at all.
pub fn handle<V: Vcpu, M: Memory>(vm: &Vm<M>, cpu: &mut Cpu<V>, exit: &Exit) -> Outcome {
    let outcome = match exit {
        Exit::Interrupt { .. }
        | Exit::InterruptWindow
        | Exit::SystemManagement
        | Exit::PreemptionTimer
        | Exit::MonitorTrap => Outcome::Resume,
        Exit::Instruction(_) | Exit::Control(_) | Exit::Debug(_) => {
            Outcome::Fault(Exception::InvalidOpcode)
        }
        _ => return Outcome::Pass,
    };
    let what = format_args!("{exit:?}, rip {:#x}", cpu.vcpu.rip());
    vm.oddities.note(Oddity::UnaskedExit, what);
    outcome
}
