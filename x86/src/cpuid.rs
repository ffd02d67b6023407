//! CPUID: what one leaf returns, and the leaves and bits that Underlay reads
//! or changes. Intel SDM volume 2, "CPUID"; AMD APM volume 3, "Obtaining
//! Processor Information Via the CPUID Instruction".

/// What CPUID returns for one leaf and subleaf.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Leaf {
    /// EAX.
    pub eax: u32,
    /// EBX.
    pub ebx: u32,
    /// ECX.
    pub ecx: u32,
    /// EDX.
    pub edx: u32,
}

/// The vendor of a CPU, by the way it virtualises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vendor {
    /// VT-x: Intel, and who builds compatible CPUs.
    Intel,
    /// AMD-V: AMD, and who builds compatible CPUs.
    Amd,
}

impl Vendor {
    /// The name of its virtualisation.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Intel => "VT-x",
            Self::Amd => "AMD-V",
        }
    }
}

/// Leaf 0: vendor and highest basic leaf.
pub const BASIC: u32 = 0;
/// Leaf 1: feature bits.
pub const FEATURES: u32 = 1;
/// Leaf 6: thermal and power management.
pub const POWER: u32 = 6;
/// Leaf 7: structured extended features.
pub const EXTENDED_FEATURES: u32 = 7;
/// Leaf 0xA: performance monitoring.
pub const PERFORMANCE: u32 = 0xA;
/// Leaf 0xD: extended state.
pub const EXTENDED_STATE: u32 = 0xD;
/// Leaf 0x19: key locker.
pub const KEY_LOCKER: u32 = 0x19;
/// Leaf 0x14: processor trace.
pub const PROCESSOR_TRACE: u32 = 0x14;
/// Leaf 0x1B: PCONFIG.
pub const PCONFIG: u32 = 0x1B;
/// Leaf 0x1C: architectural last-branch records.
pub const LAST_BRANCH: u32 = 0x1C;
/// Leaf 0x80000001: extended feature bits.
pub const AMD_FEATURES: u32 = 0x8000_0001;
/// Leaf 0x80000008: address widths.
pub const ADDRESS_WIDTHS: u32 = 0x8000_0008;
/// Leaf 0x8000000A: SVM.
pub const SVM: u32 = 0x8000_000A;
/// Leaf 0x8000001F: memory encryption.
pub const MEMORY_ENCRYPTION: u32 = 0x8000_001F;

/// Leaf 1 ECX: MONITOR and MWAIT.
pub const ECX1_MONITOR: u32 = 1 << 3;
/// Leaf 1 ECX: VMX.
pub const ECX1_VMX: u32 = 1 << 5;
/// Leaf 1 ECX: XSAVE.
pub const ECX1_XSAVE: u32 = 1 << 26;
/// Leaf 1 ECX: CR4.OSXSAVE as the caller sees it.
pub const ECX1_OSXSAVE: u32 = 1 << 27;
/// Leaf 1 ECX: a hypervisor is present.
pub const ECX1_HYPERVISOR: u32 = 1 << 31;
/// Leaf 1 EDX: MTRRs.
pub const EDX1_MTRR: u32 = 1 << 12;
/// Leaf 7 EBX: software guard extensions.
pub const EBX7_SGX: u32 = 1 << 2;
/// Leaf 7 EBX: restricted transactional memory.
pub const EBX7_RTM: u32 = 1 << 11;
/// Leaf 7 ECX: protection keys for user pages.
pub const ECX7_PKU: u32 = 1 << 3;
/// Leaf 7 ECX: total memory encryption.
pub const ECX7_TME: u32 = 1 << 13;
/// Leaf 7 ECX: CR4.PKE as the caller sees it.
pub const ECX7_OSPKE: u32 = 1 << 4;
/// Leaf 0x80000001 ECX: SVM.
pub const AMD_ECX_SVM: u32 = 1 << 2;
/// Leaf 0x80000001 EDX: long mode.
pub const AMD_EDX_LONG_MODE: u32 = 1 << 29;
/// Leaf 0x80000001 EDX: 1 GiB pages.
pub const AMD_EDX_GIB_PAGES: u32 = 1 << 26;
/// Leaf 0x8000000A EDX: nested paging.
pub const SVM_EDX_NESTED_PAGING: u32 = 1 << 0;
/// Leaf 0x8000000A EDX: next-RIP save.
pub const SVM_EDX_NEXT_RIP: u32 = 1 << 3;
/// Leaf 0x8000000A EDX: flush by ASID.
pub const SVM_EDX_FLUSH_BY_ASID: u32 = 1 << 6;
/// Leaf 0x8000000A EDX: decode assists.
pub const SVM_EDX_DECODE_ASSISTS: u32 = 1 << 7;
