//! Writes to control registers that touch a bit which the hypervisor keeps.

use crate::outcome::Outcome;
use crate::vm::{Cpu, Vm};
use machine::{Memory, Vcpu};
use x86::exit::{ControlAccess, RegisterAccess};
use x86::{Exception, Exit};

/// CR0: only NE is kept, because VMX insists on it; the guest sees it as it
/// wrote it. The write is not emulated: once the shadow agrees, the guest runs
/// the instruction again, and the CPU applies its own rules to all other bits.
///
/// CR4: the bits that are kept belong to features that CPUID hides, so that
/// setting one is what it is on a CPU without them.
pub fn handle<V: Vcpu, M: Memory>(_: &Vm<M>, cpu: &mut Cpu<V>, exit: &Exit) -> Outcome {
    let Exit::Control(ControlAccess::Move(access)) = *exit else {
        return Outcome::Pass;
    };
    match access {
        RegisterAccess {
            register: 0,
            write: true,
            general: Some(general),
        } => {
            let value = cpu.vcpu.general(general);
            cpu.vcpu.shadow_cr0(value);
            Outcome::Resume
        }
        RegisterAccess {
            register: 4,
            write: true,
            ..
        } => Outcome::Fault(Exception::GeneralProtection(0)),
        _ => Outcome::Pass,
    }
}
