//! NMIs, which arrive here first and belong to the guest unless another CPU
//! calls by one, and machine checks that hit the hypervisor.

use crate::outcome::Outcome;
use crate::peers;
use crate::vm::{Cpu, Vm};
use machine::{Memory, Vcpu};
use x86::control::Cr4;
use x86::exit::Instruction;
use x86::{Exception, Exit};

/// Gives each to the guest as soon as it can take one.
pub fn handle<V: Vcpu, M: Memory>(vm: &Vm<M>, cpu: &mut Cpu<V>, exit: &Exit) -> Outcome {
    match exit {
        Exit::Nmi => {
            cpu.vcpu.note_nmi();
            peers::serve(vm, cpu)
        }
        Exit::Instruction(Instruction::Iret) => {
            cpu.vcpu.end_nmi_handler();
            Outcome::Resume
        }
        Exit::NmiWindow if cpu.vcpu.take_machine_check() => machine_check(cpu),
        Exit::NmiWindow => {
            cpu.vcpu.deliver_nmi();
            Outcome::Resume
        }
        _ => Outcome::Pass,
    }
}

/// A guest that does not want machine checks is shut down by one, as natively.
/// The window stays open for NMIs that wait.
fn machine_check<V: Vcpu>(cpu: &Cpu<V>) -> Outcome {
    if cpu.vcpu.cr4().contains(Cr4::MCE) {
        Outcome::Fault(Exception::MACHINE_CHECK)
    } else {
        Outcome::Stop
    }
}
