//! The instructions of VMX, SMX and SVM. CPUID hides all three, so they are
//! what they are on a CPU without them.

use crate::caller::Caller;
use crate::instruction;
use crate::outcome::Outcome;
use crate::vm::{Cpu, Vm};
use crate::watches::Watches;
use iced_x86::Mnemonic;
use machine::{Memory, Vcpu};
use x86::cpuid::Vendor;
use x86::{Event, Exception, Exit};

const GENERAL_PROTECTION: u8 = 13;

/// AMD-V insists on EFER.SVME, with which the CPU refuses an instruction of SVM
/// for its privilege or its operand before the exit, by #GP. Without it, it is
/// #UD. AMD APM volume 3, "VMRUN" and its neighbours, exceptions.
pub fn watches<V: Vcpu, M: Memory>(watches: &mut Watches<V, M>) {
    if watches.vendor() == Vendor::Amd {
        watches.fault(GENERAL_PROTECTION);
    }
}

/// #UD.
pub fn handle<V: Vcpu, M: Memory>(vm: &Vm<M>, cpu: &mut Cpu<V>, exit: &Exit) -> Outcome {
    let is_hidden = match exit {
        Exit::Virtualisation => true,
        Exit::Exception {
            event:
                Event {
                    vector: GENERAL_PROTECTION,
                    error: Some(0),
                    ..
                },
            ..
        } => cpu.vcpu.event().is_none() && is_of_svm(vm, &cpu.vcpu),
        _ => false,
    };
    if is_hidden {
        Outcome::Fault(Exception::InvalidOpcode)
    } else {
        Outcome::Pass
    }
}

fn is_of_svm<V: Vcpu, M: Memory>(vm: &Vm<M>, vcpu: &V) -> bool {
    let fetched = instruction::fetch(&Caller::new(vm, vcpu), vcpu);
    let decoded = fetched.ok().and_then(|fetched| fetched.instruction);
    decoded.is_some_and(|instruction| {
        matches!(
            instruction.mnemonic(),
            Mnemonic::Vmrun
                | Mnemonic::Vmload
                | Mnemonic::Vmsave
                | Mnemonic::Stgi
                | Mnemonic::Clgi
                | Mnemonic::Skinit
                | Mnemonic::Invlpga
        )
    })
}
