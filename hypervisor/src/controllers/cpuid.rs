//! CPUID: what the CPU below says, without what the guest could not use, with
//! the leaves by which it finds the hypervisor.

use crate::outcome::Outcome;
use crate::printer::Printer;
use crate::visible::{ALTERED, put, visible};
use crate::vm::{Cpu, Vm};
use abi::call;
use abi::discovery::{self, LEAF_FEATURES, LEAF_MAX, LEAF_PRINT, LEAF_RANGE_END, LEAF_SIGNATURE};
use abi::handoff::Presence;
use machine::{Memory, Vcpu};
use x86::Exit;
use x86::cpuid::{Leaf, Vendor};

/// Answers CPUID.
pub fn handle<V: Vcpu, M: Memory>(vm: &Vm<M>, cpu: &mut Cpu<V>, exit: &Exit) -> Outcome {
    let Exit::Cpuid { leaf, subleaf } = *exit else {
        return Outcome::Pass;
    };
    answer(vm, &mut cpu.vcpu, leaf, subleaf);
    Outcome::Done
}

/// Does CPUID of this leaf in the registers of `vcpu`.
#[inline(always)]
pub fn answer<V: Vcpu, M>(vm: &Vm<M>, vcpu: &mut V, leaf: u32, subleaf: u32) {
    if leaf < 32 && ALTERED >> leaf & 1 == 0 {
        put(vcpu.cpuid(leaf, subleaf), vcpu.registers_mut());
    } else {
        put(altered(vm, vcpu, leaf, subleaf), vcpu.registers_mut());
    }
}

#[inline(never)]
fn altered<V: Vcpu, M>(vm: &Vm<M>, vcpu: &V, leaf: u32, subleaf: u32) -> Leaf {
    if is_ours(leaf, vm.presence) {
        return presence_leaf(leaf, V::VENDOR, vm.printer.as_ref());
    }
    let below = vcpu.cpuid(leaf, subleaf);
    visible(leaf, subleaf, below, vm.presence, vm.features, vcpu)
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
