//! CPUID: what the CPU below says, without what the guest could not use, with
//! the leaves by which it finds the hypervisor.

use crate::outcome::Outcome;
use crate::printer::Printer;
use crate::vm::{Cpu, Features, Vm};
use abi::call;
use abi::discovery::{self, LEAF_FEATURES, LEAF_MAX, LEAF_PRINT, LEAF_RANGE_END, LEAF_SIGNATURE};
use abi::handoff::Presence;
use machine::{CodeSize, Memory, Vcpu};
use x86::control::{Cr4, HIDDEN_STATES};
use x86::cpuid::{self, Leaf, Vendor};
use x86::{Exit, Registers};

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

#[inline(always)]
fn put(answer: Leaf, registers: &mut Registers) {
    registers.rax = u64::from(answer.eax);
    registers.rbx = u64::from(answer.ebx);
    registers.rcx = u64::from(answer.ecx);
    registers.rdx = u64::from(answer.edx);
}

/// Leaves below 32 of which the guest sees something else than the CPU says.
const ALTERED: u32 = 1 << cpuid::FEATURES
    | 1 << cpuid::POWER
    | 1 << cpuid::EXTENDED_FEATURES
    | 1 << cpuid::EXTENDED_STATE
    | 1 << cpuid::PROCESSOR_TRACE
    | 1 << cpuid::KEY_LOCKER
    | 1 << cpuid::PCONFIG
    | 1 << cpuid::LAST_BRANCH;

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

/// What a guest sees of a leaf of the CPU below.
///
/// Hidden is what would need the hypervisor's help and does not have it: VMX,
/// SMX and SVM; what stores to addresses that nested paging does not translate
/// or that belong to whoever runs (debug store and its sampling, processor
/// trace, hardware feedback); state that exits do not switch (CET, protection
/// keys for supervisor pages, user interrupts, architectural branch records,
/// FRED, key locker); forms of addresses that the page walk does not know (LAM, LASS);
/// memory encryption; INVLPGB and PCONFIG, which need controls.
#[inline]
pub fn visible<V: Vcpu>(
    leaf: u32,
    subleaf: u32,
    below: Leaf,
    presence: Presence,
    features: Features,
    vcpu: &V,
) -> Leaf {
    match leaf {
        cpuid::FEATURES => basic_features(below, presence, vcpu.cr4()),
        cpuid::EXTENDED_FEATURES => extended_features(subleaf, below, features, vcpu),
        cpuid::POWER => Leaf {
            eax: below.eax & !HARDWARE_FEEDBACK,
            ..below
        },
        cpuid::EXTENDED_STATE => extended_state(subleaf, below, features),
        cpuid::AMD_FEATURES => amd_features(below, features, vcpu),
        cpuid::ADDRESS_WIDTHS => Leaf {
            ebx: below.ebx & !INVLPGB,
            ..below
        },
        cpuid::PROCESSOR_TRACE
        | cpuid::KEY_LOCKER
        | cpuid::PCONFIG
        | cpuid::LAST_BRANCH
        | cpuid::SVM
        | cpuid::MEMORY_ENCRYPTION => Leaf::default(),
        _ => below,
    }
}

/// Leaf 6 EAX: hardware feedback and thread director.
const HARDWARE_FEEDBACK: u32 = 1 << 19 | 1 << 23;
/// Leaf 0x80000008 EBX.
const INVLPGB: u32 = 1 << 3;
/// Leaf 1 ECX: DTES64, DS-CPL, VMX, SMX, PDCM.
const ECX1_HIDDEN: u32 = 1 << 2 | 1 << 4 | cpuid::ECX1_VMX | 1 << 6 | 1 << 15;
/// Leaf 1 EDX: debug store.
const EDX1_HIDDEN: u32 = 1 << 21;
/// Leaf 7 EBX: processor trace.
const EBX7_HIDDEN: u32 = 1 << 25;
/// Leaf 7 ECX: CET shadow stacks, key locker, protection keys for supervisor
/// pages.
const ECX7_HIDDEN: u32 = 1 << 7 | 1 << 23 | 1 << 31;
/// Leaf 7 EDX: user interrupts, PCONFIG, architectural branch records, CET
/// branch tracking.
const EDX7_HIDDEN: u32 = 1 << 5 | 1 << 18 | 1 << 19 | 1 << 20;
/// Leaf 7 subleaf 1 EAX: LASS, FRED, NMI sources, LAM, MSR lists.
const EAX7_1_HIDDEN: u32 = 1 << 6 | 1 << 17 | 1 << 20 | 1 << 26 | 1 << 27;
/// Leaf 7 subleaf 1 ECX: RDMSR and WRMSRNS with an immediate.
const ECX7_1_HIDDEN: u32 = 1 << 5;
/// Leaf 7 subleaf 1 EDX: user-mode MSR access, UIRET's flag, CET for
/// supervisors.
const EDX7_1_HIDDEN: u32 = 1 << 15 | 1 << 17 | 1 << 18;
/// Leaf 0x80000001 ECX: SVM, SKINIT.
const AMD_ECX_HIDDEN: u32 = cpuid::AMD_ECX_SVM | 1 << 12;

const EBX7_INVPCID: u32 = 1 << 10;
const ECX7_USER_WAIT: u32 = 1 << 5;
const ECX7_RDPID: u32 = 1 << 22;
const EAX_D1_XSAVES: u32 = 1 << 3;
const AMD_EDX_RDTSCP: u32 = 1 << 27;
const AMD_EDX_SYSCALL: u32 = 1 << 11;

/// `bit` unless `usable`.
const fn unless(usable: bool, bit: u32) -> u32 {
    if usable { 0 } else { bit }
}

/// OSXSAVE mirrors the guest's CR4, not the hypervisor's in which CPUID ran.
fn basic_features(below: Leaf, presence: Presence, cr4: Cr4) -> Leaf {
    let mut ecx = below.ecx & !ECX1_HIDDEN & !cpuid::ECX1_OSXSAVE;
    if cr4.contains(Cr4::OSXSAVE) {
        ecx |= cpuid::ECX1_OSXSAVE;
    }
    if presence == Presence::Bit {
        ecx |= cpuid::ECX1_HYPERVISOR;
    }
    Leaf {
        ecx,
        edx: below.edx & !EDX1_HIDDEN,
        ..below
    }
}

/// OSPKE mirrors the guest's CR4.
fn extended_features<V: Vcpu>(subleaf: u32, below: Leaf, features: Features, vcpu: &V) -> Leaf {
    match subleaf {
        0 => {
            let mut ecx = below.ecx
                & !ECX7_HIDDEN
                & !cpuid::ECX7_OSPKE
                & !unless(features.user_wait, ECX7_USER_WAIT)
                & !unless(features.rdtscp, ECX7_RDPID);
            if vcpu.cr4().contains(Cr4::PKE) {
                ecx |= cpuid::ECX7_OSPKE;
            }
            let ebx = below.ebx & !EBX7_HIDDEN & !unless(features.invpcid, EBX7_INVPCID);
            Leaf {
                ebx,
                ecx,
                edx: below.edx & !EDX7_HIDDEN,
                ..below
            }
        }
        1 => Leaf {
            eax: below.eax & !EAX7_1_HIDDEN,
            ecx: below.ecx & !ECX7_1_HIDDEN,
            edx: below.edx & !EDX7_1_HIDDEN,
            ..below
        },
        _ => below,
    }
}

/// Sizes follow XCR0 and XSS, which are the guest's own at all times.
fn extended_state(subleaf: u32, below: Leaf, features: Features) -> Leaf {
    match subleaf {
        1 => Leaf {
            eax: below.eax & !unless(features.xsaves, EAX_D1_XSAVES),
            ecx: below.ecx & !HIDDEN_STATES,
            ..below
        },
        2..32 if HIDDEN_STATES >> subleaf & 1 != 0 => Leaf::default(),
        _ => below,
    }
}

/// Intel's CPUs show SYSCALL to 64-bit code only, and CPUID ran in 64-bit code
/// of the hypervisor's. Intel SDM volume 2, "CPUID".
fn amd_features<V: Vcpu>(below: Leaf, features: Features, vcpu: &V) -> Leaf {
    let shows_syscall = V::VENDOR == Vendor::Amd || vcpu.code_size() == CodeSize::Bits64;
    Leaf {
        ecx: below.ecx & !AMD_ECX_HIDDEN,
        edx: below.edx
            & !unless(features.rdtscp, AMD_EDX_RDTSCP)
            & !unless(shows_syscall, AMD_EDX_SYSCALL),
        ..below
    }
}

#[cfg(test)]
mod tests;
