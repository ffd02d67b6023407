//! VM-execution, exit and entry controls, and what a CPU allows of them.
//! Intel SDM volume 3, "VM-Execution Control Fields" and appendix "VMX
//! Capability Reporting Facility".
#![allow(missing_docs)]

use crate::msr;

/// Pin-based controls.
pub mod pin {
    pub const EXTERNAL_INTERRUPT_EXITING: u32 = 1 << 0;
    pub const NMI_EXITING: u32 = 1 << 3;
    pub const VIRTUAL_NMIS: u32 = 1 << 5;
    pub const PREEMPTION_TIMER: u32 = 1 << 6;
    pub const POSTED_INTERRUPTS: u32 = 1 << 7;
}

/// Primary processor-based controls.
pub mod processor {
    pub const INTERRUPT_WINDOW: u32 = 1 << 2;
    pub const HLT_EXITS: u32 = 1 << 7;
    pub const MWAIT_EXITS: u32 = 1 << 10;
    pub const RDPMC_EXITS: u32 = 1 << 11;
    pub const CR3_EXITS: u32 = 1 << 15 | 1 << 16;
    pub const TERTIARY: u32 = 1 << 17;
    pub const CR8_EXITS: u32 = 1 << 19 | 1 << 20;
    pub const TPR_SHADOW: u32 = 1 << 21;
    pub const NMI_WINDOW: u32 = 1 << 22;
    pub const DEBUG_EXITS: u32 = 1 << 23;
    pub const IO_BITMAPS: u32 = 1 << 25;
    pub const MONITOR_TRAP: u32 = 1 << 27;
    pub const MSR_BITMAPS: u32 = 1 << 28;
    pub const MONITOR_EXITS: u32 = 1 << 29;
    pub const SECONDARY: u32 = 1 << 31;
}

/// Secondary processor-based controls.
pub mod secondary {
    pub const APIC_ACCESSES: u32 = 1 << 0;
    pub const EPT: u32 = 1 << 1;
    pub const RDTSCP: u32 = 1 << 3;
    pub const X2APIC_MODE: u32 = 1 << 4;
    pub const VPID: u32 = 1 << 5;
    pub const WRITE_BACKS: u32 = 1 << 6;
    pub const UNRESTRICTED: u32 = 1 << 7;
    pub const APIC_REGISTERS: u32 = 1 << 8;
    pub const INTERRUPT_DELIVERY: u32 = 1 << 9;
    pub const INVPCID: u32 = 1 << 12;
    pub const VM_FUNCTIONS: u32 = 1 << 13;
    pub const VMCS_SHADOWING: u32 = 1 << 14;
    pub const PAGE_LOG: u32 = 1 << 17;
    pub const VIRTUALISATION_EXCEPTION: u32 = 1 << 18;
    pub const XSAVES: u32 = 1 << 20;
    pub const PASID_TRANSLATION: u32 = 1 << 21;
    pub const MODE_BASED_EXECUTE: u32 = 1 << 22;
    pub const SUB_PAGE_WRITES: u32 = 1 << 23;
    pub const TRACE_GUEST_PHYSICAL: u32 = 1 << 24;
    pub const TSC_SCALING: u32 = 1 << 25;
    pub const USER_WAIT: u32 = 1 << 26;
}

/// Tertiary processor-based controls.
pub mod tertiary {
    pub const HLAT: u64 = 1 << 1;
    pub const PAGING_WRITE: u64 = 1 << 2;
    pub const PAGING_VERIFICATION: u64 = 1 << 3;
    pub const IPI_VIRTUALISATION: u64 = 1 << 4;
}

/// VM-exit controls.
pub mod exit {
    pub const SAVE_DEBUG: u32 = 1 << 2;
    pub const HOST_64_BIT: u32 = 1 << 9;
    pub const LOAD_PERFORMANCE: u32 = 1 << 12;
    pub const ACKNOWLEDGE_INTERRUPT: u32 = 1 << 15;
    pub const SAVE_PAT: u32 = 1 << 18;
    pub const LOAD_PAT: u32 = 1 << 19;
    pub const SAVE_EFER: u32 = 1 << 20;
    pub const LOAD_EFER: u32 = 1 << 21;
    pub const SAVE_PREEMPTION_TIMER: u32 = 1 << 22;
    pub const CLEAR_BNDCFGS: u32 = 1 << 23;
    pub const CLEAR_TRACE: u32 = 1 << 25;
    pub const CLEAR_LBR: u32 = 1 << 26;
    pub const LOAD_CET: u32 = 1 << 28;
    pub const LOAD_PKRS: u32 = 1 << 29;
    pub const SECONDARY: u32 = 1 << 31;
}

/// VM-entry controls.
pub mod entry {
    pub const LOAD_DEBUG: u32 = 1 << 2;
    pub const LONG_MODE: u32 = 1 << 9;
    pub const TO_SMM: u32 = 1 << 10;
    pub const DEACTIVATE_DUAL_MONITOR: u32 = 1 << 11;
    pub const LOAD_PERFORMANCE: u32 = 1 << 13;
    pub const LOAD_PAT: u32 = 1 << 14;
    pub const LOAD_EFER: u32 = 1 << 15;
    pub const LOAD_BNDCFGS: u32 = 1 << 16;
    pub const LOAD_TRACE: u32 = 1 << 18;
    pub const LOAD_USER_INTERRUPT_VECTOR: u32 = 1 << 19;
    pub const LOAD_CET: u32 = 1 << 20;
    pub const LOAD_LBR: u32 = 1 << 21;
    pub const LOAD_PKRS: u32 = 1 << 22;
}

/// IA32_VMX_EPT_VPID_CAP.
pub mod ept {
    pub const FOUR_LEVELS: u64 = 1 << 6;
    pub const FIVE_LEVELS: u64 = 1 << 7;
    pub const UNCACHEABLE: u64 = 1 << 8;
    pub const WRITE_BACK: u64 = 1 << 14;
    pub const PAGES_2_MIB: u64 = 1 << 16;
    pub const PAGES_1_GIB: u64 = 1 << 17;
    pub const INVEPT: u64 = 1 << 20;
    pub const ACCESSED_AND_DIRTY: u64 = 1 << 21;
    pub const SUPERVISOR_SHADOW_STACK: u64 = 1 << 23;
    pub const INVEPT_SINGLE: u64 = 1 << 25;
    pub const INVVPID: u64 = 1 << 32;
    pub const INVVPID_SINGLE: u64 = 1 << 41;

    /// What Underlay cannot do without.
    pub const NEEDED: u64 = FOUR_LEVELS | WRITE_BACK | PAGES_2_MIB | INVEPT | INVEPT_SINGLE;
}

/// Which settings of one group of 32 controls the CPU allows: a capability
/// MSR's low half has the bits that must be 1, its high half those that may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowed {
    /// The capability MSR's number.
    pub msr: u32,
    /// Its value.
    pub value: u64,
}

/// Controls that are needed and that the CPU does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lacking {
    /// The capability MSR's number.
    pub msr: u32,
    /// The bits.
    pub bits: u32,
}

impl Allowed {
    /// Bits that must be 1.
    pub const fn must(self) -> u32 {
        self.value as u32
    }

    /// Bits that may be 1.
    pub const fn may(self) -> u32 {
        (self.value >> 32) as u32
    }

    /// The control word with all of `needed`, what the CPU has of `wanted`,
    /// what it insists on, and nothing else.
    pub const fn adjust(self, needed: u32, wanted: u32) -> Result<u32, Lacking> {
        let lacking = needed & !self.may();
        if lacking != 0 {
            return Err(Lacking {
                msr: self.msr,
                bits: lacking,
            });
        }
        Ok(needed | (wanted & self.may()) | self.must())
    }
}

/// The capability MSR that tells the truth about a group: the TRUE one where
/// IA32_VMX_BASIC bit 55 says that it exists. Only with it can CR3 exits,
/// which the plain one insists on, be switched off.
pub const fn capability(basic: u64, plain: u32) -> u32 {
    if basic & (1 << 55) == 0 {
        return plain;
    }
    match plain {
        msr::VMX_PIN_CONTROLS => msr::VMX_TRUE_PIN_CONTROLS,
        msr::VMX_PROCESSOR_CONTROLS => msr::VMX_TRUE_PROCESSOR_CONTROLS,
        msr::VMX_EXIT_CONTROLS => msr::VMX_TRUE_EXIT_CONTROLS,
        msr::VMX_ENTRY_CONTROLS => msr::VMX_TRUE_ENTRY_CONTROLS,
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// An adjusted word is one that VM entry accepts, has everything that
        /// is needed, and nothing that nobody asked for.
        #[test]
        fn adjusted_words_pass_the_entry_check(must: u32, may: u32, needed: u32, wanted: u32) {
            let may = may | must;
            let allowed = Allowed { msr: 0x482, value: u64::from(must) | u64::from(may) << 32 };
            match allowed.adjust(needed, wanted) {
                Ok(word) => {
                    prop_assert_eq!(word & must, must);
                    prop_assert_eq!(word & !may, 0);
                    prop_assert_eq!(word & needed, needed);
                    prop_assert_eq!(word & !(must | needed | wanted), 0);
                }
                Err(lacking) => {
                    prop_assert_ne!(lacking.bits, 0);
                    prop_assert_eq!(lacking.bits & may, 0);
                    prop_assert_eq!(lacking.bits & !needed, 0);
                }
            }
        }
    }

    #[test]
    fn true_capabilities_are_used_where_they_exist() {
        assert_eq!(capability(1 << 55, msr::VMX_PIN_CONTROLS), 0x48d);
        assert_eq!(capability(0, msr::VMX_PIN_CONTROLS), 0x481);
        assert_eq!(capability(1 << 55, msr::VMX_SECONDARY_CONTROLS), 0x48b);
    }
}
