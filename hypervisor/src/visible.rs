//! What of the CPU's features a guest sees, and a child, which is one.

use crate::vm::Features;
use abi::handoff::Presence;
use machine::{CodeSize, Vcpu};
use x86::Registers;
use x86::control::{Cr4, HIDDEN_STATES};
use x86::cpuid::{self, Leaf, Vendor};

/// Puts `answer` where CPUID has it.
#[inline(always)]
pub fn put(answer: Leaf, registers: &mut Registers) {
    registers.rax = u64::from(answer.eax);
    registers.rbx = u64::from(answer.ebx);
    registers.rcx = u64::from(answer.ecx);
    registers.rdx = u64::from(answer.edx);
}

/// Leaves below 32 of which the guest sees something else than the CPU says.
pub const ALTERED: u32 = 1 << cpuid::FEATURES
    | 1 << cpuid::POWER
    | 1 << cpuid::EXTENDED_FEATURES
    | 1 << cpuid::EXTENDED_STATE
    | 1 << cpuid::PROCESSOR_TRACE
    | 1 << cpuid::KEY_LOCKER
    | 1 << cpuid::PCONFIG
    | 1 << cpuid::LAST_BRANCH;

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
pub const HARDWARE_FEEDBACK: u32 = 1 << 19 | 1 << 23;
/// Leaf 0x80000008 EBX.
pub const INVLPGB: u32 = 1 << 3;
/// Leaf 1 ECX: DTES64, DS-CPL, VMX, SMX, PDCM.
pub const ECX1_HIDDEN: u32 = 1 << 2 | 1 << 4 | cpuid::ECX1_VMX | 1 << 6 | 1 << 15;
/// Leaf 1 EDX: debug store.
pub const EDX1_HIDDEN: u32 = 1 << 21;
/// Leaf 7 EBX: processor trace.
pub const EBX7_HIDDEN: u32 = 1 << 25;
/// Leaf 7 ECX: CET shadow stacks, key locker, protection keys for supervisor
/// pages.
pub const ECX7_HIDDEN: u32 = 1 << 7 | 1 << 23 | 1 << 31;
/// Leaf 7 EDX: user interrupts, PCONFIG, architectural branch records, CET
/// branch tracking.
pub const EDX7_HIDDEN: u32 = 1 << 5 | 1 << 18 | 1 << 19 | 1 << 20;
/// Leaf 7 subleaf 1 EAX: LASS, FRED, NMI sources, LAM, MSR lists.
pub const EAX7_1_HIDDEN: u32 = 1 << 6 | 1 << 17 | 1 << 20 | 1 << 26 | 1 << 27;
/// Leaf 7 subleaf 1 ECX: RDMSR and WRMSRNS with an immediate.
pub const ECX7_1_HIDDEN: u32 = 1 << 5;
/// Leaf 7 subleaf 1 EDX: user-mode MSR access, UIRET's flag, CET for
/// supervisors.
pub const EDX7_1_HIDDEN: u32 = 1 << 15 | 1 << 17 | 1 << 18;
/// Leaf 0x80000001 ECX: SVM, SKINIT.
pub const AMD_ECX_HIDDEN: u32 = cpuid::AMD_ECX_SVM | 1 << 12;

/// Leaf 7 EBX: INVPCID.
pub const EBX7_INVPCID: u32 = 1 << 10;
/// Leaf 7 ECX: TPAUSE, UMONITOR, UMWAIT.
pub const ECX7_USER_WAIT: u32 = 1 << 5;
/// Leaf 7 ECX: RDPID.
pub const ECX7_RDPID: u32 = 1 << 22;
/// Leaf 0xD subleaf 1 EAX: XSAVES and XRSTORS.
pub const EAX_D1_XSAVES: u32 = 1 << 3;
/// Leaf 0x80000001 EDX: RDTSCP.
pub const AMD_EDX_RDTSCP: u32 = 1 << 27;
/// Leaf 0x80000001 EDX: SYSCALL.
pub const AMD_EDX_SYSCALL: u32 = 1 << 11;

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
