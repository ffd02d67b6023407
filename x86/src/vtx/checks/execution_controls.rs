//! VM-execution controls: Intel SDM volume 3, "Checks on VMX Controls",
//! "VM-Execution Control Fields".

use super::view::View;
use super::{Rule, Section, rule};
use crate::vtx::control::{entry, ept, exit, pin, processor, secondary, tertiary};
use crate::vtx::field::{self, Field, W32};

pub(super) const SECTION: Section = Section {
    title: "VM-Execution Control Fields",
    rules: &[
        WORDS,
        ADDRESSES,
        INTERRUPTS,
        VIRTUAL_APIC,
        NESTED_PAGING,
        NEED_EPT,
        OTHERS,
    ],
};

/// Whether the controls in `word` that must be 1 are.
pub(super) fn has_all(view: &View<'_>, word: Field<W32>, must: u32) -> bool {
    !view.get(word) & u64::from(must) == 0
}

const WORDS: &[Rule] = &[
    rule(
        "pin-controls-required",
        field::PIN_CONTROLS,
        "all bits that IA32_VMX_(TRUE_)PINBASED_CTLS requires",
        |v| has_all(v, field::PIN_CONTROLS, v.capabilities.pin.must()),
    ),
    rule(
        "pin-controls-allowed",
        field::PIN_CONTROLS,
        "only bits that IA32_VMX_(TRUE_)PINBASED_CTLS allows",
        |v| v.clear(field::PIN_CONTROLS, !u64::from(v.capabilities.pin.may())),
    ),
    rule(
        "processor-controls-required",
        field::PROCESSOR_CONTROLS,
        "all bits that IA32_VMX_(TRUE_)PROCBASED_CTLS requires",
        |v| {
            let must = v.capabilities.processor.must();
            has_all(v, field::PROCESSOR_CONTROLS, must)
        },
    ),
    rule(
        "processor-controls-allowed",
        field::PROCESSOR_CONTROLS,
        "only bits that IA32_VMX_(TRUE_)PROCBASED_CTLS allows",
        |v| {
            let may = u64::from(v.capabilities.processor.may());
            v.clear(field::PROCESSOR_CONTROLS, !may)
        },
    ),
    rule(
        "secondary-controls-required",
        field::SECONDARY_CONTROLS,
        "all bits that IA32_VMX_PROCBASED_CTLS2 requires",
        |v| {
            let must = v.capabilities.secondary.must();
            !v.processor(processor::SECONDARY) || has_all(v, field::SECONDARY_CONTROLS, must)
        },
    ),
    rule(
        "secondary-controls-allowed",
        field::SECONDARY_CONTROLS,
        "only bits that IA32_VMX_PROCBASED_CTLS2 allows",
        |v| {
            let may = u64::from(v.capabilities.secondary.may());
            !v.processor(processor::SECONDARY) || v.clear(field::SECONDARY_CONTROLS, !may)
        },
    ),
    rule(
        "tertiary-controls-allowed",
        field::TERTIARY_CONTROLS,
        "only bits that IA32_VMX_PROCBASED_CTLS3 allows",
        |v| {
            let may = v.capabilities.tertiary;
            !v.processor(processor::TERTIARY) || v.clear(field::TERTIARY_CONTROLS, !may)
        },
    ),
];

/// Two rules for the address of each structure: name, field, lowest bit that
/// may be 1, and whether VM entry looks at it.
macro_rules! addresses {
    ($($name:literal $field:ident $low:literal $used:expr;)*) => {
        &[$(
            rule(
                concat!($name, "-aligned"),
                field::$field,
                concat!("an address whose low ", $low, " bits are 0"),
                |v| {
                    let used: fn(&View<'_>) -> bool = $used;
                    !used(v) || v.clear(field::$field, (1 << $low) - 1)
                },
            ),
            rule(
                concat!($name, "-width"),
                field::$field,
                "an address within the CPU's physical-address width",
                |v| {
                    let used: fn(&View<'_>) -> bool = $used;
                    !used(v) || v.fits(field::$field)
                },
            ),
        )*]
    };
}

const ADDRESSES: &[Rule] = addresses! {
    "io-bitmap-a" IO_BITMAP_A 12 |v| v.processor(processor::IO_BITMAPS);
    "io-bitmap-b" IO_BITMAP_B 12 |v| v.processor(processor::IO_BITMAPS);
    "msr-bitmap" MSR_BITMAP 12 |v| v.processor(processor::MSR_BITMAPS);
    "virtual-apic" VIRTUAL_APIC 12 |v| v.processor(processor::TPR_SHADOW);
    "apic-access" APIC_ACCESS 12 |v| v.secondary(secondary::APIC_ACCESSES);
    "posted-interrupt-descriptor" POSTED_INTERRUPT_DESCRIPTOR 6 |v| v.pin(pin::POSTED_INTERRUPTS);
    "page-log" PAGE_LOG 12 |v| v.secondary(secondary::PAGE_LOG);
    "sub-page-pointer" SUB_PAGE_POINTER 12 |v| v.secondary(secondary::SUB_PAGE_WRITES);
    "eptp-list" EPTP_LIST 12 switches_eptp;
    "vmread-bitmap" VMREAD_BITMAP 12 |v| v.secondary(secondary::VMCS_SHADOWING);
    "vmwrite-bitmap" VMWRITE_BITMAP 12 |v| v.secondary(secondary::VMCS_SHADOWING);
    "virtualisation-exception" VIRTUALISATION_EXCEPTION 12
        |v| v.secondary(secondary::VIRTUALISATION_EXCEPTION);
    "low-pasid-directory" LOW_PASID_DIRECTORY 12 |v| v.secondary(secondary::PASID_TRANSLATION);
    "high-pasid-directory" HIGH_PASID_DIRECTORY 12 |v| v.secondary(secondary::PASID_TRANSLATION);
    "pid-pointer-table" PID_POINTER_TABLE 3 |v| v.tertiary(tertiary::IPI_VIRTUALISATION);
};

fn switches_eptp(view: &View<'_>) -> bool {
    view.secondary(secondary::VM_FUNCTIONS) && !view.clear(field::VM_FUNCTIONS, 1)
}

const INTERRUPTS: &[Rule] = &[
    rule(
        "virtual-nmis-need-nmi-exiting",
        field::PIN_CONTROLS,
        "virtual NMIs (bit 5) only with NMI exiting (bit 3)",
        |v| !v.pin(pin::VIRTUAL_NMIS) || v.pin(pin::NMI_EXITING),
    ),
    rule(
        "nmi-window-needs-virtual-nmis",
        field::PROCESSOR_CONTROLS,
        "NMI-window exiting (bit 22) only with virtual NMIs",
        |v| !v.processor(processor::NMI_WINDOW) || v.pin(pin::VIRTUAL_NMIS),
    ),
    rule(
        "posted-interrupts-need-delivery",
        field::SECONDARY_CONTROLS,
        "virtual-interrupt delivery (bit 9), as posted interrupts are on",
        |v| !v.pin(pin::POSTED_INTERRUPTS) || v.secondary(secondary::INTERRUPT_DELIVERY),
    ),
    rule(
        "posted-interrupts-need-acknowledge",
        field::EXIT_CONTROLS,
        "acknowledge interrupt on exit (bit 15), as posted interrupts are on",
        |v| !v.pin(pin::POSTED_INTERRUPTS) || v.exit(exit::ACKNOWLEDGE_INTERRUPT),
    ),
    rule(
        "posted-interrupt-vector",
        field::POSTED_INTERRUPT_VECTOR,
        "a vector: bits 15 to 8 are 0",
        |v| !v.pin(pin::POSTED_INTERRUPTS) || v.clear(field::POSTED_INTERRUPT_VECTOR, 0xff00),
    ),
    rule(
        "delivery-needs-interrupt-exiting",
        field::PIN_CONTROLS,
        "external-interrupt exiting (bit 0), as virtual-interrupt delivery is on",
        |v| !v.secondary(secondary::INTERRUPT_DELIVERY) || v.pin(pin::EXTERNAL_INTERRUPT_EXITING),
    ),
];

/// Controls that virtualise the APIC, of which `wrong` must not be used without
/// the TPR shadow.
fn needs_tpr_shadow(view: &View<'_>, wrong: u32) -> bool {
    view.processor(processor::TPR_SHADOW) || !view.secondary(wrong)
}

const VIRTUAL_APIC: &[Rule] = &[
    rule(
        "tpr-threshold-reserved",
        field::TPR_THRESHOLD,
        "a priority class: bits 31 to 4 are 0",
        |v| {
            let used = v.processor(processor::TPR_SHADOW);
            !used
                || v.secondary(secondary::INTERRUPT_DELIVERY)
                || v.clear(field::TPR_THRESHOLD, !0xf)
        },
    ),
    rule(
        "x2apic-mode-needs-tpr-shadow",
        field::SECONDARY_CONTROLS,
        "virtualise x2APIC mode (bit 4) only with the TPR shadow",
        |v| needs_tpr_shadow(v, secondary::X2APIC_MODE),
    ),
    rule(
        "apic-registers-need-tpr-shadow",
        field::SECONDARY_CONTROLS,
        "APIC-register virtualisation (bit 8) only with the TPR shadow",
        |v| needs_tpr_shadow(v, secondary::APIC_REGISTERS),
    ),
    rule(
        "interrupt-delivery-needs-tpr-shadow",
        field::SECONDARY_CONTROLS,
        "virtual-interrupt delivery (bit 9) only with the TPR shadow",
        |v| needs_tpr_shadow(v, secondary::INTERRUPT_DELIVERY),
    ),
    rule(
        "x2apic-mode-excludes-apic-accesses",
        field::SECONDARY_CONTROLS,
        "virtualise APIC accesses (bit 0) only without x2APIC mode (bit 4)",
        |v| !v.secondary(secondary::X2APIC_MODE) || !v.secondary(secondary::APIC_ACCESSES),
    ),
    rule(
        "last-pid-index",
        field::LAST_PID_INDEX,
        "a table that ends within the CPU's physical-address width",
        |v| {
            let last = v.get(field::LAST_PID_INDEX) * 8 + 7;
            let last = v.get(field::PID_POINTER_TABLE).saturating_add(last);
            !v.tertiary(tertiary::IPI_VIRTUALISATION)
                || !v.fits(field::PID_POINTER_TABLE)
                || last >> v.capabilities.physical_bits.clamp(1, 63) == 0
        },
    ),
];

/// Bits of the EPT pointer. Intel SDM volume 3, "Extended-Page-Table Pointer
/// (EPTP)".
const ACCESSED_AND_DIRTY: u64 = 1 << 6;
const SUPERVISOR_SHADOW_STACK: u64 = 1 << 7;

/// Whether the CPU's EPT has `capability`, or `bits` of the EPT pointer are 0.
fn ept_can(view: &View<'_>, capability: u64, bits: u64) -> bool {
    !view.ept()
        || view.capabilities.ept_vpid & capability != 0
        || view.clear(field::EPT_POINTER, bits)
}

const NESTED_PAGING: &[Rule] = &[
    rule(
        "eptp-memory-type",
        field::EPT_POINTER,
        "bits 2 to 0 are 0 (uncacheable) or 6 (write-back), as the CPU supports",
        |v| match v.get(field::EPT_POINTER) & 7 {
            _ if !v.ept() => true,
            0 => v.capabilities.ept_vpid & ept::UNCACHEABLE != 0,
            6 => v.capabilities.ept_vpid & ept::WRITE_BACK != 0,
            _ => false,
        },
    ),
    rule(
        "eptp-walk-length",
        field::EPT_POINTER,
        "bits 5 to 3 are 3 (four levels) or 4 (five), as the CPU supports",
        |v| match v.get(field::EPT_POINTER) >> 3 & 7 {
            _ if !v.ept() => true,
            3 => v.capabilities.ept_vpid & ept::FOUR_LEVELS != 0,
            4 => v.capabilities.ept_vpid & ept::FIVE_LEVELS != 0,
            _ => false,
        },
    ),
    rule(
        "eptp-accessed-and-dirty",
        field::EPT_POINTER,
        "bit 6 is 0, as the CPU has no accessed and dirty flags for EPT",
        |v| ept_can(v, ept::ACCESSED_AND_DIRTY, ACCESSED_AND_DIRTY),
    ),
    rule(
        "eptp-supervisor-shadow-stack",
        field::EPT_POINTER,
        "bit 7 is 0, as the CPU has no supervisor shadow-stack control",
        |v| ept_can(v, ept::SUPERVISOR_SHADOW_STACK, SUPERVISOR_SHADOW_STACK),
    ),
    rule(
        "eptp-reserved",
        field::EPT_POINTER,
        "bits 11 to 8 are 0",
        |v| !v.ept() || v.clear(field::EPT_POINTER, 0xf00),
    ),
    rule(
        "eptp-width",
        field::EPT_POINTER,
        "an address within the CPU's physical-address width",
        |v| !v.ept() || v.is_physical(field::EPT_POINTER),
    ),
    rule(
        "vpid-zero",
        field::VPID,
        "a VPID other than 0, which is the hypervisor's",
        |v| !v.secondary(secondary::VPID) || v.get(field::VPID) != 0,
    ),
];

/// Rules that a control is on only with EPT.
macro_rules! need_ept {
    ($($name:literal $field:ident $what:literal $used:expr;)*) => {
        &[$(rule(
            $name,
            field::$field,
            concat!($what, " only with EPT (bit 1 of the secondary controls)"),
            |v| {
                let used: fn(&View<'_>) -> bool = $used;
                v.ept() || !used(v)
            },
        ),)*]
    };
}

const NEED_EPT: &[Rule] = need_ept! {
    "unrestricted-guest-needs-ept" SECONDARY_CONTROLS "unrestricted guest (bit 7)"
        |v| v.unrestricted();
    "page-log-needs-ept" SECONDARY_CONTROLS "PML (bit 17)"
        |v| v.secondary(secondary::PAGE_LOG);
    "mode-based-execute-needs-ept" SECONDARY_CONTROLS "mode-based execute control (bit 22)"
        |v| v.secondary(secondary::MODE_BASED_EXECUTE);
    "sub-page-writes-need-ept" SECONDARY_CONTROLS "sub-page write permissions (bit 23)"
        |v| v.secondary(secondary::SUB_PAGE_WRITES);
    "trace-guest-physical-needs-ept" SECONDARY_CONTROLS
        "Intel PT with guest-physical addresses (bit 24)"
        |v| v.secondary(secondary::TRACE_GUEST_PHYSICAL);
    "eptp-switching-needs-ept" VM_FUNCTIONS "EPTP switching (bit 0)" switches_eptp;
    "hlat-needs-ept" TERTIARY_CONTROLS "HLAT (bit 1)" |v| v.tertiary(tertiary::HLAT);
    "paging-write-needs-ept" TERTIARY_CONTROLS "EPT paging-write control (bit 2)"
        |v| v.tertiary(tertiary::PAGING_WRITE);
    "paging-verification-needs-ept" TERTIARY_CONTROLS "guest-paging verification (bit 3)"
        |v| v.tertiary(tertiary::PAGING_VERIFICATION);
};

const OTHERS: &[Rule] = &[
    rule(
        "cr3-target-count",
        field::CR3_TARGETS,
        "at most as many as IA32_VMX_MISC bits 24 to 16 say",
        |v| v.get(field::CR3_TARGETS) <= v.capabilities.misc >> 16 & 0x1ff,
    ),
    rule(
        "vm-functions-allowed",
        field::VM_FUNCTIONS,
        "only bits that IA32_VMX_VMFUNC allows",
        |v| {
            !v.secondary(secondary::VM_FUNCTIONS)
                || v.clear(field::VM_FUNCTIONS, !v.capabilities.vm_functions)
        },
    ),
    rule(
        "tsc-multiplier-zero",
        field::TSC_MULTIPLIER,
        "a factor other than 0",
        |v| !v.secondary(secondary::TSC_SCALING) || v.get(field::TSC_MULTIPLIER) != 0,
    ),
    rule(
        "hlat-pointer-reserved",
        field::HLAT_POINTER,
        "bits 2 to 0 and 11 to 5 are 0",
        |v| !v.tertiary(tertiary::HLAT) || v.clear(field::HLAT_POINTER, 0xfe7),
    ),
    rule(
        "hlat-pointer-width",
        field::HLAT_POINTER,
        "an address within the CPU's physical-address width",
        |v| !v.tertiary(tertiary::HLAT) || v.is_physical(field::HLAT_POINTER),
    ),
    rule(
        "trace-guest-physical-needs-load",
        field::ENTRY_CONTROLS,
        "load IA32_RTIT_CTL (bit 18), as Intel PT uses guest-physical addresses",
        |v| !v.secondary(secondary::TRACE_GUEST_PHYSICAL) || v.entry(entry::LOAD_TRACE),
    ),
    rule(
        "trace-guest-physical-needs-clear",
        field::EXIT_CONTROLS,
        "clear IA32_RTIT_CTL (bit 25), as Intel PT uses guest-physical addresses",
        |v| !v.secondary(secondary::TRACE_GUEST_PHYSICAL) || v.exit(exit::CLEAR_TRACE),
    ),
];
