//! CPUID of a child: what the guest sees, without what a child has not.

use crate::children::program::{Answer, plain};
use crate::outcome::Outcome;
use crate::visible::{ALTERED, put, visible};
use crate::vm::{Cpu, Vm};
use abi::child::{entry, kind};
use abi::record::VmExit;
use machine::{Memory, Vcpu};
use x86::cpuid::{self, Leaf};
use x86::{Exception, Exit};

/// Leaf 1 ECX: MONITOR, x2APIC, the deadline timer.
const ECX1_HIDDEN: u32 = 1 << 3 | 1 << 21 | 1 << 24;
/// Leaf 1 ECX: the program may offer things at the leaves from here on.
const HYPERVISOR_LEAVES: core::ops::RangeInclusive<u32> = 0x4000_0000..=0x4fff_ffff;
/// Leaf 1 EDX: machine checks, MTRRs.
const EDX1_HIDDEN: u32 = 1 << 7 | 1 << 12 | 1 << 14;
/// Leaf 7 EBX: TSC_ADJUST, SGX, the resource director.
const EBX7_HIDDEN: u32 = 1 << 1 | 1 << 2 | 1 << 12 | 1 << 15;
/// Leaf 7 EDX: what is controlled by MSRs that a child has not.
const EDX7_HIDDEN: u32 = 0b111_1111 << 26;
/// Leaf 0xD subleaf 1 EAX: XFD.
const EAX_D1_HIDDEN: u32 = 1 << 4;

/// Answers it, or has the program do so if it asked for that.
pub fn handle<V: Vcpu, M: Memory>(vm: &Vm<M>, cpu: &mut Cpu<V>, exit: &Exit) -> Outcome {
    let Exit::Cpuid { leaf, subleaf } = *exit else {
        return Outcome::Pass;
    };
    let answer = match cpu.program.answer.take() {
        Some(Answer::Values(values)) => {
            let [eax, ebx, ecx, edx] = values.map(|value| value as u32);
            Leaf { eax, ebx, ecx, edx }
        }
        Some(Answer::Fault) => return Outcome::Fault(Exception::GeneralProtection(0)),
        None if cpu.program.wants(entry::CPUID) => {
            let Leaf { eax, ebx, ecx, edx } = policy(vm, cpu, leaf, subleaf);
            let record = VmExit {
                data: u64::from(leaf),
                values: [subleaf, eax, ebx, ecx, edx].map(u64::from),
                ..plain(kind::CPUID)
            };
            cpu.program.ask(exit, record);
            return Outcome::HandUp;
        }
        None => policy(vm, cpu, leaf, subleaf),
    };
    put(answer, cpu.vcpu.registers_mut());
    Outcome::Done
}

/// Does CPUID of a leaf that a child sees as it is, unless its program wants to.
#[inline(always)]
pub fn answer_at_once<V: Vcpu>(cpu: &mut Cpu<V>, leaf: u32, subleaf: u32) -> bool {
    const HIDDEN: u32 = ALTERED | 1 << cpuid::PERFORMANCE;
    let is_plain = leaf < 32 && HIDDEN >> leaf & 1 == 0 && !cpu.program.wants(entry::CPUID);
    if is_plain {
        put(cpu.vcpu.cpuid(leaf, subleaf), cpu.vcpu.registers_mut());
    }
    is_plain
}

fn policy<V: Vcpu, M>(vm: &Vm<M>, cpu: &Cpu<V>, leaf: u32, subleaf: u32) -> Leaf {
    if HYPERVISOR_LEAVES.contains(&leaf) {
        return Leaf::default();
    }
    let below = cpu.vcpu.cpuid(leaf, subleaf);
    let seen = visible(leaf, subleaf, below, vm.presence, vm.features, &cpu.vcpu);
    match (leaf, subleaf) {
        (cpuid::FEATURES, _) => Leaf {
            ecx: seen.ecx & !ECX1_HIDDEN,
            edx: seen.edx & !EDX1_HIDDEN,
            ..seen
        },
        (cpuid::EXTENDED_FEATURES, 0) => Leaf {
            ebx: seen.ebx & !EBX7_HIDDEN,
            edx: seen.edx & !EDX7_HIDDEN,
            ..seen
        },
        (cpuid::EXTENDED_STATE, 1) => Leaf {
            eax: seen.eax & !EAX_D1_HIDDEN,
            ..seen
        },
        (cpuid::POWER | cpuid::PERFORMANCE, _) => Leaf::default(),
        _ => seen,
    }
}
