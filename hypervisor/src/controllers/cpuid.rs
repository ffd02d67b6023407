//! CPUID: what the CPU below says, without what the guest could not use, with
//! the leaves by which it finds the hypervisor.

use crate::outcome::Outcome;
use crate::printer::Printer;
use crate::visible::visible;
use crate::vm::{Cpu, Vm};
use abi::call;
use abi::discovery::{self, LEAF_FEATURES, LEAF_MAX, LEAF_PRINT, LEAF_RANGE_END, LEAF_SIGNATURE};
use abi::handoff::Presence;
use machine::{Memory, Vcpu};
use x86::Exit;
use x86::cpuid::{Leaf, Vendor};

/// Answers CPUID.
#[inline]
pub fn handle<V: Vcpu, M: Memory>(vm: &Vm<M>, cpu: &mut Cpu<V>, exit: &Exit) -> Outcome {
    let Exit::Cpuid { leaf, subleaf } = *exit else {
        return Outcome::Pass;
    };
    let answer = if is_ours(leaf, vm.presence) {
        presence_leaf(leaf, V::VENDOR, vm.printer.as_ref())
    } else {
        let below = cpu.vcpu.cpuid(leaf, subleaf);
        visible(leaf, subleaf, below, vm.presence, vm.features, &cpu.vcpu)
    };
    let registers = cpu.vcpu.registers_mut();
    registers.rax = u64::from(answer.eax);
    registers.rbx = u64::from(answer.ebx);
    registers.rcx = u64::from(answer.ecx);
    registers.rdx = u64::from(answer.edx);
    Outcome::Done
}

fn is_ours(leaf: u32, presence: Presence) -> bool {
    (LEAF_SIGNATURE..=LEAF_RANGE_END).contains(&leaf) && presence != Presence::Hidden
}

/// The leaves of ABI 1; those above are 0.
fn presence_leaf(leaf: u32, vendor: Vendor, printer: Option<&Printer>) -> Leaf {
    let [ebx, ecx, edx] = discovery::signature_registers();
    let instruction = match vendor {
        Vendor::Intel => discovery::FEATURE_VMCALL,
        Vendor::Amd => discovery::FEATURE_VMMCALL,
    };
    match leaf {
        LEAF_SIGNATURE => Leaf {
            eax: LEAF_MAX,
            ebx,
            ecx,
            edx,
        },
        LEAF_FEATURES => Leaf {
            eax: call::VERSION,
            ebx: instruction | printer.map_or(0, |_| discovery::FEATURE_PRINT),
            ..Leaf::default()
        },
        LEAF_PRINT => printer.map_or(Leaf::default(), |printer| Leaf {
            eax: u32::from(discovery::PRINT_PORT),
            ebx: printer.page.0 as u32,
            ecx: (printer.page.0 >> 32) as u32,
            edx: 0,
        }),
        _ => Leaf::default(),
    }
}

#[cfg(test)]
mod tests;
