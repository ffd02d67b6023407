//! Why the guest stopped running: vendor-neutral, with plain payloads. Values
//! that nobody knows survive as they are.

use crate::{Gpa, Gva};

/// One exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// CPUID.
    Cpuid {
        /// EAX.
        leaf: u32,
        /// ECX.
        subleaf: u32,
    },
    /// The call instruction: VMCALL or VMMCALL.
    Hypercall,
    /// RDMSR.
    ReadMsr {
        /// ECX.
        number: u32,
    },
    /// WRMSR.
    WriteMsr {
        /// ECX.
        number: u32,
        /// EDX:EAX.
        value: u64,
    },
    /// XSETBV.
    SetExtendedControl {
        /// ECX.
        index: u32,
        /// EDX:EAX.
        value: u64,
    },
    /// MOV to a control register that changes a bit the hypervisor keeps.
    WriteControl {
        /// Which control register.
        register: u8,
        /// What the guest wants to write.
        value: u64,
    },
    /// An access that the nested tables do not allow.
    NestedFault(NestedFault),
    /// INVD.
    InvalidateCaches,
    /// An instruction that is unknown to a CPU without VMX, SMX, TDX, SVM, or
    /// another feature that is hidden.
    Virtualisation,
    /// A switch to another hardware task, outside 64-bit mode.
    TaskSwitch {
        /// The task's selector.
        selector: u16,
    },
    /// A non-maskable interrupt arrived while the guest ran.
    Nmi,
    /// The guest can take an NMI now.
    NmiWindow,
    /// An INIT signal.
    Init,
    /// A start-up IPI, with its vector.
    Startup {
        /// The page at which the CPU starts.
        vector: u8,
    },
    /// A triple fault, or on AMD a shutdown.
    TripleFault,
    /// The VM entry failed: no guest instruction ran.
    EntryFailed(EntryFailure),
    /// A reason that is not decoded (yet), as the hardware gave it.
    Other {
        /// Exit reason or EXITCODE.
        reason: u64,
        /// Exit qualification or EXITINFO1.
        detail: u64,
    },
}

/// How memory was accessed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// A data write.
    pub write: bool,
    /// An instruction fetch.
    pub fetch: bool,
}

/// An access that the nested tables do not allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NestedFault {
    /// The guest-physical address.
    pub gpa: Gpa,
    /// The linear address, where the hardware gives it.
    pub gva: Option<Gva>,
    /// The access.
    pub access: Access,
    /// The access was to the guest's own page tables.
    pub walk: bool,
}

/// Why a VM entry failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryFailure {
    /// VT-x: VMLAUNCH or VMRESUME failed with this VM-instruction error.
    Instruction(u32),
    /// The guest state broke a rule (VT-x: exit qualification; AMD-V: 0).
    GuestState(u64),
    /// An MSR of the load list could not be loaded (its index).
    MsrLoad(u64),
    /// A machine check happened during the entry.
    MachineCheck,
}

/// How many kinds of exits there are, for counters.
pub const KINDS: usize = 17;

impl Exit {
    /// A small number for the kind of exit, below [`KINDS`], for counters.
    #[inline]
    pub const fn kind(&self) -> usize {
        match self {
            Self::Cpuid { .. } => 0,
            Self::Hypercall => 1,
            Self::ReadMsr { .. } => 2,
            Self::WriteMsr { .. } => 3,
            Self::SetExtendedControl { .. } => 4,
            Self::WriteControl { .. } => 5,
            Self::NestedFault(_) => 6,
            Self::InvalidateCaches => 7,
            Self::Virtualisation => 8,
            Self::Nmi => 9,
            Self::NmiWindow => 10,
            Self::Init => 11,
            Self::Startup { .. } => 12,
            Self::TripleFault => 13,
            Self::EntryFailed(_) => 14,
            Self::Other { .. } => 15,
            Self::TaskSwitch { .. } => 16,
        }
    }
}

/// Names of the kinds, in the order of [`Exit::kind`].
pub const KIND_NAMES: [&str; KINDS] = [
    "cpuid",
    "hypercall",
    "rdmsr",
    "wrmsr",
    "xsetbv",
    "mov-cr",
    "nested-fault",
    "invd",
    "vmx-svm",
    "nmi",
    "nmi-window",
    "init",
    "startup",
    "triple-fault",
    "entry-failed",
    "other",
    "task-switch",
];

#[cfg(test)]
mod tests {
    use super::*;

    /// A kind beyond the counters would be counted nowhere.
    #[test]
    fn every_kind_has_a_counter_of_its_own() {
        let fault = NestedFault {
            gpa: Gpa(0),
            gva: None,
            access: Access::default(),
            walk: false,
        };
        let all = [
            Exit::Cpuid {
                leaf: 0,
                subleaf: 0,
            },
            Exit::Hypercall,
            Exit::ReadMsr { number: 0 },
            Exit::WriteMsr {
                number: 0,
                value: 0,
            },
            Exit::SetExtendedControl { index: 0, value: 0 },
            Exit::WriteControl {
                register: 0,
                value: 0,
            },
            Exit::NestedFault(fault),
            Exit::InvalidateCaches,
            Exit::Virtualisation,
            Exit::Nmi,
            Exit::NmiWindow,
            Exit::Init,
            Exit::Startup { vector: 0 },
            Exit::TripleFault,
            Exit::EntryFailed(EntryFailure::MachineCheck),
            Exit::Other {
                reason: 0,
                detail: 0,
            },
            Exit::TaskSwitch { selector: 0 },
        ];
        let kinds: Vec<usize> = all.iter().map(Exit::kind).collect();
        assert_eq!(kinds, (0..KINDS).collect::<Vec<_>>());
    }
}
