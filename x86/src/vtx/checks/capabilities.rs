//! What this CPU allows in a VMCS, and which fields its VMCS has.

use crate::cpuid::{self, Leaf};
use crate::msr;
use crate::vtx::control::{Allowed, capability, entry, exit, pin, processor, secondary, tertiary};
use crate::vtx::field;

/// What VM entry's rules depend on beside the VMCS.
#[derive(Clone, Copy, Debug)]
pub struct Capabilities {
    /// IA32_VMX_BASIC.
    pub basic: u64,
    /// Pin-based controls.
    pub pin: Allowed,
    /// Primary processor-based controls.
    pub processor: Allowed,
    /// Secondary processor-based controls.
    pub secondary: Allowed,
    /// Tertiary processor-based controls that may be 1.
    pub tertiary: u64,
    /// VM-exit controls.
    pub exit: Allowed,
    /// Secondary VM-exit controls that may be 1.
    pub secondary_exit: u64,
    /// VM-entry controls.
    pub entry: Allowed,
    /// IA32_VMX_MISC.
    pub misc: u64,
    /// Bits of CR0 that are fixed to 1, and those that may be 1.
    pub cr0: [u64; 2],
    /// The same of CR4.
    pub cr4: [u64; 2],
    /// IA32_VMX_EPT_VPID_CAP.
    pub ept_vpid: u64,
    /// IA32_VMX_VMFUNC.
    pub vm_functions: u64,
    /// Bits of a physical address.
    pub physical_bits: u32,
    /// Bits of a linear address.
    pub linear_bits: u32,
    /// Bits of IA32_PERF_GLOBAL_CTRL that exist.
    pub performance: u64,
    /// The CPU has restricted transactional memory.
    pub has_rtm: bool,
    /// The CPU has SGX.
    pub has_sgx: bool,
}

impl Capabilities {
    /// Asks the CPU: `rdmsr` for MSRs, which are read only where they exist,
    /// and `ask` for leaves of CPUID.
    pub fn read(rdmsr: &mut dyn FnMut(u32) -> u64, ask: &dyn Fn(u32, u32) -> Leaf) -> Self {
        let basic = rdmsr(msr::VMX_BASIC);
        let mut allowed = |plain| {
            let msr = capability(basic, plain);
            let value = rdmsr(msr);
            Allowed { msr, value }
        };
        let pin = allowed(msr::VMX_PIN_CONTROLS);
        let processor = allowed(msr::VMX_PROCESSOR_CONTROLS);
        let exit = allowed(msr::VMX_EXIT_CONTROLS);
        let entry = allowed(msr::VMX_ENTRY_CONTROLS);
        let mut only = |exists: bool, number| if exists { rdmsr(number) } else { 0 };
        let has_secondary = processor.may() & processor::SECONDARY != 0;
        let secondary = Allowed {
            msr: msr::VMX_SECONDARY_CONTROLS,
            value: only(has_secondary, msr::VMX_SECONDARY_CONTROLS),
        };
        let has_tertiary = processor.may() & processor::TERTIARY != 0;
        let has_secondary_exit = exit.may() & exit::SECONDARY != 0;
        let has_functions = secondary.may() & secondary::VM_FUNCTIONS != 0;
        let nested = secondary.may() & (secondary::EPT | secondary::VPID) != 0;
        let widths = ask(cpuid::ADDRESS_WIDTHS, 0).eax;
        let features = ask(cpuid::EXTENDED_FEATURES, 0).ebx;
        Self {
            basic,
            pin,
            processor,
            secondary,
            tertiary: only(has_tertiary, msr::VMX_TERTIARY_CONTROLS),
            exit,
            secondary_exit: only(has_secondary_exit, msr::VMX_SECONDARY_EXIT_CONTROLS),
            entry,
            misc: only(true, msr::VMX_MISC),
            cr0: [msr::VMX_CR0_FIXED0, msr::VMX_CR0_FIXED1].map(|number| only(true, number)),
            cr4: [msr::VMX_CR4_FIXED0, msr::VMX_CR4_FIXED1].map(|number| only(true, number)),
            ept_vpid: only(nested, msr::VMX_EPT_VPID),
            vm_functions: only(has_functions, msr::VMX_VM_FUNCTIONS),
            physical_bits: widths & 0xff,
            linear_bits: widths >> 8 & 0xff,
            performance: performance_bits(ask(cpuid::PERFORMANCE, 0)),
            has_rtm: features & cpuid::EBX7_RTM != 0,
            has_sgx: features & cpuid::EBX7_SGX != 0,
        }
    }

    /// Whether this CPU's VMCS has the field of this encoding: reading one that
    /// it lacks fails.
    pub fn has_field(&self, encoding: u64) -> bool {
        let mut needs = OPTIONAL.iter().filter(|row| row.0 == encoding).peekable();
        needs.peek().is_none() || needs.any(|(_, need)| self.allows(*need))
    }

    fn allows(&self, need: Need) -> bool {
        match need {
            Need::Pin(bits) => self.pin.may() & bits != 0,
            Need::Processor(bits) => self.processor.may() & bits != 0,
            Need::Secondary(bits) => self.secondary.may() & bits != 0,
            Need::Tertiary(bits) => self.tertiary & bits != 0,
            Need::Exit(bits) => self.exit.may() & bits != 0,
            Need::Entry(bits) => self.entry.may() & bits != 0,
        }
    }
}

/// Counters by number, fixed counters from bit 32 on, and the metrics' bit.
/// Intel SDM volume 2, "CPUID", leaf 0AH.
fn performance_bits(leaf: Leaf) -> u64 {
    let general = (1u64 << (leaf.eax >> 8 & 0x1f)) - 1;
    let fixed = (1u64 << (leaf.edx & 0x1f)) - 1;
    general | (fixed & 0xffff) << 32 | 1 << 48
}

/// A control that must be allowed, so that a field exists.
#[derive(Clone, Copy)]
enum Need {
    Pin(u32),
    Processor(u32),
    Secondary(u32),
    Tertiary(u64),
    Exit(u32),
    Entry(u32),
}

/// Fields that not every CPU has, each with the control that brings it; of two
/// rows for one field either is enough. Intel SDM volume 3, appendix "Field
/// Encoding in VMCS".
const OPTIONAL: &[(u64, Need)] = &[
    (field::VPID.encoding(), Need::Secondary(secondary::VPID)),
    (
        field::POSTED_INTERRUPT_VECTOR.encoding(),
        Need::Pin(pin::POSTED_INTERRUPTS),
    ),
    (
        field::LAST_PID_INDEX.encoding(),
        Need::Tertiary(tertiary::IPI_VIRTUALISATION),
    ),
    (
        field::GUEST_USER_INTERRUPT_VECTOR.encoding(),
        Need::Entry(entry::LOAD_USER_INTERRUPT_VECTOR),
    ),
    (
        field::MSR_BITMAP.encoding(),
        Need::Processor(processor::MSR_BITMAPS),
    ),
    (
        field::PAGE_LOG.encoding(),
        Need::Secondary(secondary::PAGE_LOG),
    ),
    (
        field::VIRTUAL_APIC.encoding(),
        Need::Processor(processor::TPR_SHADOW),
    ),
    (
        field::APIC_ACCESS.encoding(),
        Need::Secondary(secondary::APIC_ACCESSES),
    ),
    (
        field::POSTED_INTERRUPT_DESCRIPTOR.encoding(),
        Need::Pin(pin::POSTED_INTERRUPTS),
    ),
    (
        field::VM_FUNCTIONS.encoding(),
        Need::Secondary(secondary::VM_FUNCTIONS),
    ),
    (
        field::EPT_POINTER.encoding(),
        Need::Secondary(secondary::EPT),
    ),
    (
        field::EPTP_LIST.encoding(),
        Need::Secondary(secondary::VM_FUNCTIONS),
    ),
    (
        field::VMREAD_BITMAP.encoding(),
        Need::Secondary(secondary::VMCS_SHADOWING),
    ),
    (
        field::VMWRITE_BITMAP.encoding(),
        Need::Secondary(secondary::VMCS_SHADOWING),
    ),
    (
        field::VIRTUALISATION_EXCEPTION.encoding(),
        Need::Secondary(secondary::VIRTUALISATION_EXCEPTION),
    ),
    (
        field::XSS_EXITING_BITMAP.encoding(),
        Need::Secondary(secondary::XSAVES),
    ),
    (
        field::SUB_PAGE_POINTER.encoding(),
        Need::Secondary(secondary::SUB_PAGE_WRITES),
    ),
    (
        field::TSC_MULTIPLIER.encoding(),
        Need::Secondary(secondary::TSC_SCALING),
    ),
    (
        field::TERTIARY_CONTROLS.encoding(),
        Need::Processor(processor::TERTIARY),
    ),
    (
        field::LOW_PASID_DIRECTORY.encoding(),
        Need::Secondary(secondary::PASID_TRANSLATION),
    ),
    (
        field::HIGH_PASID_DIRECTORY.encoding(),
        Need::Secondary(secondary::PASID_TRANSLATION),
    ),
    (
        field::HLAT_POINTER.encoding(),
        Need::Tertiary(tertiary::HLAT),
    ),
    (
        field::PID_POINTER_TABLE.encoding(),
        Need::Tertiary(tertiary::IPI_VIRTUALISATION),
    ),
    (
        field::SECONDARY_EXIT_CONTROLS.encoding(),
        Need::Exit(exit::SECONDARY),
    ),
    (field::GUEST_PAT.encoding(), Need::Entry(entry::LOAD_PAT)),
    (field::GUEST_PAT.encoding(), Need::Exit(exit::SAVE_PAT)),
    (field::GUEST_EFER.encoding(), Need::Entry(entry::LOAD_EFER)),
    (field::GUEST_EFER.encoding(), Need::Exit(exit::SAVE_EFER)),
    (
        field::GUEST_PERFORMANCE_CONTROL.encoding(),
        Need::Entry(entry::LOAD_PERFORMANCE),
    ),
    (
        field::GUEST_PDPTE0.encoding(),
        Need::Secondary(secondary::EPT),
    ),
    (
        field::GUEST_PDPTE1.encoding(),
        Need::Secondary(secondary::EPT),
    ),
    (
        field::GUEST_PDPTE2.encoding(),
        Need::Secondary(secondary::EPT),
    ),
    (
        field::GUEST_PDPTE3.encoding(),
        Need::Secondary(secondary::EPT),
    ),
    (
        field::GUEST_BNDCFGS.encoding(),
        Need::Entry(entry::LOAD_BNDCFGS),
    ),
    (
        field::GUEST_BNDCFGS.encoding(),
        Need::Exit(exit::CLEAR_BNDCFGS),
    ),
    (
        field::GUEST_TRACE_CONTROL.encoding(),
        Need::Entry(entry::LOAD_TRACE),
    ),
    (
        field::GUEST_TRACE_CONTROL.encoding(),
        Need::Exit(exit::CLEAR_TRACE),
    ),
    (
        field::GUEST_LBR_CONTROL.encoding(),
        Need::Entry(entry::LOAD_LBR),
    ),
    (
        field::GUEST_LBR_CONTROL.encoding(),
        Need::Exit(exit::CLEAR_LBR),
    ),
    (field::GUEST_PKRS.encoding(), Need::Entry(entry::LOAD_PKRS)),
    (field::HOST_PAT.encoding(), Need::Exit(exit::LOAD_PAT)),
    (field::HOST_EFER.encoding(), Need::Exit(exit::LOAD_EFER)),
    (
        field::HOST_PERFORMANCE_CONTROL.encoding(),
        Need::Exit(exit::LOAD_PERFORMANCE),
    ),
    (field::HOST_PKRS.encoding(), Need::Exit(exit::LOAD_PKRS)),
    (
        field::TPR_THRESHOLD.encoding(),
        Need::Processor(processor::TPR_SHADOW),
    ),
    (
        field::SECONDARY_CONTROLS.encoding(),
        Need::Processor(processor::SECONDARY),
    ),
    (field::GUEST_S_CET.encoding(), Need::Entry(entry::LOAD_CET)),
    (field::GUEST_SSP.encoding(), Need::Entry(entry::LOAD_CET)),
    (
        field::GUEST_SSP_TABLE.encoding(),
        Need::Entry(entry::LOAD_CET),
    ),
    (field::HOST_S_CET.encoding(), Need::Exit(exit::LOAD_CET)),
    (field::HOST_SSP.encoding(), Need::Exit(exit::LOAD_CET)),
    (field::HOST_SSP_TABLE.encoding(), Need::Exit(exit::LOAD_CET)),
];
