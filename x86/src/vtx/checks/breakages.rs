//! Each rule broken singly: what to change in a good VMCS so that this rule,
//! and as few others as can be, is broken. The unit tests make every change on
//! the desk. Rows with Bochs' words are also made for real, in the VMCS of a
//! running guest by the breakable build, and Bochs must refuse the entry in
//! these words. Bochs 2.7 does not check the other rules, does not have the
//! field, or looks at another rule first.

use crate::control::{Cr0, Cr4, Efer, Rflags};
use crate::event::{ERROR_CODE, TYPE_EXCEPTION, TYPE_NMI, VALID};
use crate::vtx::control::{entry, exit, pin, processor, secondary, tertiary};
use crate::vtx::field::{self, Field, Width};

/// A change of one field: bits to clear, then bits to set.
#[derive(Clone, Copy, Debug)]
pub struct Change {
    /// The field's encoding.
    pub field: u64,
    clear: u64,
    set: u64,
}

impl Change {
    /// The field's value after the change.
    pub const fn of(self, value: u64) -> u64 {
        value & !self.clear | self.set
    }
}

/// The good state that a row changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Base {
    /// A guest in 64-bit mode.
    Long,
    /// A guest in 32-bit mode with PAE paging.
    Pae,
    /// A guest in virtual-8086 mode.
    Virtual8086,
    /// A guest in real mode.
    Real,
}

/// One row.
#[derive(Clone, Copy, Debug)]
pub struct Breakage {
    /// The rule that it breaks.
    pub rule: &'static str,
    /// Rules that cannot but be broken too.
    pub also: &'static [&'static str],
    /// The state that is changed.
    pub base: Base,
    /// On a CPU without the optional parts.
    pub lean: bool,
    /// The changes.
    pub changes: &'static [Change],
    /// What Bochs says, if it checks the rule.
    pub bochs: Option<&'static str>,
}

impl Breakage {
    const fn bochs(mut self, words: &'static str) -> Self {
        self.bochs = Some(words);
        self
    }
    const fn also(mut self, rules: &'static [&'static str]) -> Self {
        self.also = rules;
        self
    }
    const fn on(mut self, base: Base) -> Self {
        self.base = base;
        self
    }
    const fn lean(mut self) -> Self {
        self.lean = true;
        self
    }
}

const fn breaks(rule: &'static str, changes: &'static [Change]) -> Breakage {
    Breakage {
        rule,
        also: &[],
        base: Base::Long,
        lean: false,
        changes,
        bochs: None,
    }
}

const fn set<W: Width>(field: Field<W>, set: u64) -> Change {
    Change {
        field: field.encoding(),
        clear: 0,
        set,
    }
}

const fn clear<W: Width>(field: Field<W>, clear: u64) -> Change {
    Change {
        field: field.encoding(),
        clear,
        set: 0,
    }
}

const fn put<W: Width>(field: Field<W>, set: u64) -> Change {
    Change {
        field: field.encoding(),
        clear: !0,
        set,
    }
}

const fn swap<W: Width>(field: Field<W>, clear: u64, set: u64) -> Change {
    Change {
        field: field.encoding(),
        clear,
        set,
    }
}

const fn pin(bits: u32) -> Change {
    set(field::PIN_CONTROLS, bits as u64)
}
const fn processor(bits: u32) -> Change {
    set(field::PROCESSOR_CONTROLS, bits as u64)
}
const fn secondary(bits: u32) -> Change {
    set(field::SECONDARY_CONTROLS, bits as u64)
}
const fn entry(bits: u32) -> Change {
    set(field::ENTRY_CONTROLS, bits as u64)
}
const fn exit(bits: u32) -> Change {
    set(field::EXIT_CONTROLS, bits as u64)
}
const fn without(bits: u32) -> Change {
    clear(field::SECONDARY_CONTROLS, bits as u64)
}
const fn event(word: u32) -> Change {
    put(field::ENTRY_EVENT, (VALID | word) as u64)
}

/// An address that no CPU has.
const WIDE: u64 = 1 << 52;
/// An address that is not canonical.
const ODD: u64 = 1 << 63;
/// The last 16 bytes that a CPU with 40-bit addresses, which Bochs is and the
/// desk's, can address.
const LAST: u64 = (1 << 40) - 16;

const TPR_SHADOW: [Change; 3] = [
    processor(processor::TPR_SHADOW),
    put(field::VIRTUAL_APIC, 0),
    put(field::TPR_THRESHOLD, 0),
];
const NO_EPT: Change = without(secondary::EPT | secondary::UNRESTRICTED);
const RESTRICTED: Change = without(secondary::UNRESTRICTED);
const NO_64_BIT_HOST: Change = clear(field::EXIT_CONTROLS, exit::HOST_64_BIT as u64);
const CONFORMING: Change = set(field::GUEST_CS_RIGHTS, 1 << 2);

/// Every breakage.
pub fn all() -> impl Iterator<Item = &'static Breakage> {
    let tables = [
        EXECUTION,
        APIC,
        NESTED_PAGING,
        EXIT_AND_ENTRY,
        EVENTS,
        HOST,
        HOST_ADDRESS_SPACE,
        GUEST_REGISTERS,
        SEGMENT_REGISTERS,
        DATA_SEGMENTS,
        SYSTEM_SEGMENTS,
        VIRTUAL_8086,
        STATE,
        NON_REGISTER,
        PENDING_DEBUG,
    ];
    tables.into_iter().flatten()
}

/// Those that Bochs refuses, in its order and ours.
pub fn for_real() -> impl Iterator<Item = &'static Breakage> {
    all().filter(|row| row.bochs.is_some())
}

const EXECUTION: &[Breakage] = &[
    breaks(
        "pin-controls-required",
        &[clear(field::PIN_CONTROLS, 1 << 1)],
    )
    .bochs("pin-based controls allowed 0-settings"),
    breaks("pin-controls-allowed", &[pin(1 << 31)]).bochs("pin-based controls allowed 1-settings"),
    breaks(
        "processor-controls-required",
        &[clear(field::PROCESSOR_CONTROLS, 1 << 1)],
    )
    .bochs("proc-based controls allowed 0-settings"),
    breaks("processor-controls-allowed", &[processor(1 << 0)])
        .bochs("proc-based controls allowed 1-settings"),
    breaks("secondary-controls-required", &[without(1 << 28)]),
    breaks("secondary-controls-allowed", &[secondary(1 << 31)])
        .bochs("secondary controls allowed 1-settings"),
    breaks(
        "tertiary-controls-allowed",
        &[
            processor(processor::TERTIARY),
            put(field::TERTIARY_CONTROLS, 1 << 40),
        ],
    ),
    breaks("cr3-target-count", &[put(field::CR3_TARGETS, 5)]).bochs("too may CR3 targets"),
    breaks(
        "io-bitmap-a-aligned",
        &[processor(processor::IO_BITMAPS), put(field::IO_BITMAP_A, 1)],
    )
    .bochs("I/O bitmap A phy addr malformed"),
    breaks(
        "io-bitmap-a-width",
        &[
            processor(processor::IO_BITMAPS),
            put(field::IO_BITMAP_A, WIDE),
        ],
    )
    .bochs("I/O bitmap A phy addr malformed"),
    breaks(
        "io-bitmap-b-aligned",
        &[
            processor(processor::IO_BITMAPS),
            put(field::IO_BITMAP_A, 0),
            put(field::IO_BITMAP_B, 1),
        ],
    )
    .bochs("I/O bitmap B phy addr malformed"),
    breaks(
        "io-bitmap-b-width",
        &[
            processor(processor::IO_BITMAPS),
            put(field::IO_BITMAP_A, 0),
            put(field::IO_BITMAP_B, WIDE),
        ],
    )
    .bochs("I/O bitmap B phy addr malformed"),
    breaks("msr-bitmap-aligned", &[set(field::MSR_BITMAP, 1)])
        .bochs("MSR bitmap phy addr malformed"),
    breaks("msr-bitmap-width", &[set(field::MSR_BITMAP, WIDE)])
        .bochs("MSR bitmap phy addr malformed"),
    breaks(
        "vmread-bitmap-aligned",
        &[
            secondary(secondary::VMCS_SHADOWING),
            put(field::VMREAD_BITMAP, 1),
            put(field::VMWRITE_BITMAP, 0),
        ],
    )
    .bochs("VMREAD bitmap phy addr malformed"),
    breaks(
        "vmread-bitmap-width",
        &[
            secondary(secondary::VMCS_SHADOWING),
            put(field::VMREAD_BITMAP, WIDE),
            put(field::VMWRITE_BITMAP, 0),
        ],
    )
    .bochs("VMREAD bitmap phy addr malformed"),
    breaks(
        "vmwrite-bitmap-aligned",
        &[
            secondary(secondary::VMCS_SHADOWING),
            put(field::VMREAD_BITMAP, 0),
            put(field::VMWRITE_BITMAP, 1),
        ],
    )
    .bochs("VMWRITE bitmap phy addr malformed"),
    breaks(
        "vmwrite-bitmap-width",
        &[
            secondary(secondary::VMCS_SHADOWING),
            put(field::VMREAD_BITMAP, 0),
            put(field::VMWRITE_BITMAP, WIDE),
        ],
    )
    .bochs("VMWRITE bitmap phy addr malformed"),
    breaks(
        "virtualisation-exception-aligned",
        &[
            secondary(secondary::VIRTUALISATION_EXCEPTION),
            put(field::VIRTUALISATION_EXCEPTION, 1),
        ],
    )
    .bochs("broken #VE information address"),
    breaks(
        "virtualisation-exception-width",
        &[
            secondary(secondary::VIRTUALISATION_EXCEPTION),
            put(field::VIRTUALISATION_EXCEPTION, WIDE),
        ],
    )
    .bochs("broken #VE information address"),
    breaks(
        "low-pasid-directory-aligned",
        &[
            secondary(secondary::PASID_TRANSLATION),
            put(field::LOW_PASID_DIRECTORY, 1),
        ],
    ),
    breaks(
        "low-pasid-directory-width",
        &[
            secondary(secondary::PASID_TRANSLATION),
            put(field::LOW_PASID_DIRECTORY, WIDE),
        ],
    ),
    breaks(
        "high-pasid-directory-aligned",
        &[
            secondary(secondary::PASID_TRANSLATION),
            put(field::HIGH_PASID_DIRECTORY, 1),
        ],
    ),
    breaks(
        "high-pasid-directory-width",
        &[
            secondary(secondary::PASID_TRANSLATION),
            put(field::HIGH_PASID_DIRECTORY, WIDE),
        ],
    ),
    breaks(
        "virtual-nmis-need-nmi-exiting",
        &[clear(field::PIN_CONTROLS, pin::NMI_EXITING as u64)],
    )
    .bochs("misconfigured virtual NMI control"),
    breaks(
        "nmi-window-needs-virtual-nmis",
        &[
            clear(field::PIN_CONTROLS, pin::VIRTUAL_NMIS as u64),
            processor(processor::NMI_WINDOW),
        ],
    )
    .bochs("misconfigured virtual NMI control"),
    breaks(
        "vm-functions-allowed",
        &[
            secondary(secondary::VM_FUNCTIONS),
            put(field::VM_FUNCTIONS, 1 << 5),
        ],
    )
    .bochs("VM Functions control reserved bits set"),
    breaks(
        "tsc-multiplier-zero",
        &[
            secondary(secondary::TSC_SCALING),
            put(field::TSC_MULTIPLIER, 0),
        ],
    )
    .bochs("TSC multiplier should be non zero"),
    breaks(
        "trace-guest-physical-needs-load",
        &[
            secondary(secondary::TRACE_GUEST_PHYSICAL),
            exit(exit::CLEAR_TRACE),
        ],
    ),
    breaks(
        "trace-guest-physical-needs-clear",
        &[
            secondary(secondary::TRACE_GUEST_PHYSICAL),
            entry(entry::LOAD_TRACE),
        ],
    ),
];

const POSTED: [Change; 6] = [
    pin(pin::POSTED_INTERRUPTS | pin::EXTERNAL_INTERRUPT_EXITING),
    secondary(secondary::INTERRUPT_DELIVERY),
    exit(exit::ACKNOWLEDGE_INTERRUPT),
    TPR_SHADOW[0],
    TPR_SHADOW[1],
    TPR_SHADOW[2],
];

/// [`POSTED`] with one change more.
const fn posted(change: Change) -> [Change; 7] {
    let [a, b, c, d, e, f] = POSTED;
    [a, b, c, d, e, f, change]
}

const fn tpr(change: Change) -> [Change; 4] {
    let [a, b, c] = TPR_SHADOW;
    [a, b, c, change]
}

const APIC: &[Breakage] = &[
    breaks("virtual-apic-aligned", &tpr(put(field::VIRTUAL_APIC, 1)))
        .bochs("virtual apic phy addr malformed"),
    breaks("virtual-apic-width", &tpr(put(field::VIRTUAL_APIC, WIDE)))
        .bochs("virtual apic phy addr malformed"),
    breaks(
        "apic-access-aligned",
        &[
            secondary(secondary::APIC_ACCESSES),
            put(field::APIC_ACCESS, 1),
        ],
    )
    .bochs("apic access page phy addr malformed"),
    breaks(
        "apic-access-width",
        &[
            secondary(secondary::APIC_ACCESSES),
            put(field::APIC_ACCESS, WIDE),
        ],
    )
    .bochs("apic access page phy addr malformed"),
    breaks(
        "posted-interrupt-descriptor-aligned",
        &posted(put(field::POSTED_INTERRUPT_DESCRIPTOR, 1)),
    ),
    breaks(
        "posted-interrupt-descriptor-width",
        &posted(put(field::POSTED_INTERRUPT_DESCRIPTOR, WIDE)),
    ),
    breaks(
        "posted-interrupts-need-delivery",
        &posted(without(secondary::INTERRUPT_DELIVERY)),
    ),
    breaks(
        "posted-interrupts-need-acknowledge",
        &posted(clear(
            field::EXIT_CONTROLS,
            exit::ACKNOWLEDGE_INTERRUPT as u64,
        )),
    ),
    breaks(
        "posted-interrupt-vector",
        &posted(put(field::POSTED_INTERRUPT_VECTOR, 0x100)),
    ),
    breaks(
        "delivery-needs-interrupt-exiting",
        &tpr(secondary(secondary::INTERRUPT_DELIVERY)),
    )
    .bochs("virtual interrupt delivery must be set together with external interrupt exiting"),
    breaks(
        "tpr-threshold-reserved",
        &tpr(put(field::TPR_THRESHOLD, 0x10)),
    )
    .bochs("TPR threshold too big"),
    breaks(
        "x2apic-mode-needs-tpr-shadow",
        &[secondary(secondary::X2APIC_MODE)],
    )
    .bochs("apic virtualization is enabled without TPR shadow"),
    breaks(
        "apic-registers-need-tpr-shadow",
        &[secondary(secondary::APIC_REGISTERS)],
    )
    .bochs("apic virtualization is enabled without TPR shadow"),
    breaks(
        "interrupt-delivery-needs-tpr-shadow",
        &[
            secondary(secondary::INTERRUPT_DELIVERY),
            pin(pin::EXTERNAL_INTERRUPT_EXITING),
        ],
    )
    .bochs("apic virtualization is enabled without TPR shadow"),
    breaks(
        "x2apic-mode-excludes-apic-accesses",
        &[
            TPR_SHADOW[0],
            TPR_SHADOW[1],
            TPR_SHADOW[2],
            secondary(secondary::X2APIC_MODE | secondary::APIC_ACCESSES),
            put(field::APIC_ACCESS, 0),
        ],
    )
    .bochs("virtualize X2APIC mode enabled together with APIC access virtualization"),
    breaks(
        "pid-pointer-table-aligned",
        &[IPI[0], IPI[1], put(field::PID_POINTER_TABLE, 1)],
    ),
    breaks(
        "pid-pointer-table-width",
        &[IPI[0], IPI[1], put(field::PID_POINTER_TABLE, WIDE)],
    ),
    breaks(
        "last-pid-index",
        &[
            IPI[0],
            IPI[1],
            put(field::PID_POINTER_TABLE, LAST + 8),
            put(field::LAST_PID_INDEX, 1),
        ],
    ),
];

const IPI: [Change; 2] = [
    processor(processor::TERTIARY),
    set(field::TERTIARY_CONTROLS, tertiary::IPI_VIRTUALISATION),
];
const HLAT: [Change; 2] = [
    processor(processor::TERTIARY),
    set(field::TERTIARY_CONTROLS, tertiary::HLAT),
];

const NESTED_PAGING: &[Breakage] = &[
    breaks("eptp-memory-type", &[swap(field::EPT_POINTER, 7, 1)]).bochs("invalid EPTPTR value"),
    breaks("eptp-walk-length", &[swap(field::EPT_POINTER, 0x38, 0x10)])
        .bochs("invalid EPTPTR value"),
    breaks(
        "eptp-accessed-and-dirty",
        &[set(field::EPT_POINTER, 1 << 6)],
    )
    .lean(),
    breaks(
        "eptp-supervisor-shadow-stack",
        &[set(field::EPT_POINTER, 1 << 7)],
    )
    .lean()
    .bochs("invalid EPTPTR value"),
    breaks("eptp-reserved", &[set(field::EPT_POINTER, 1 << 8)]).bochs("invalid EPTPTR value"),
    breaks("eptp-width", &[set(field::EPT_POINTER, WIDE)]).bochs("invalid EPTPTR value"),
    breaks("vpid-zero", &[put(field::VPID, 0)]).bochs("guest VPID == 0"),
    breaks("unrestricted-guest-needs-ept", &[without(secondary::EPT)])
        .bochs("unrestricted guest without EPT"),
    breaks(
        "page-log-needs-ept",
        &[
            NO_EPT,
            secondary(secondary::PAGE_LOG),
            put(field::PAGE_LOG, 0),
        ],
    )
    .bochs("PML is enabled without EPT"),
    breaks(
        "page-log-aligned",
        &[secondary(secondary::PAGE_LOG), put(field::PAGE_LOG, 1)],
    )
    .bochs("PML base phy addr malformed"),
    breaks(
        "page-log-width",
        &[secondary(secondary::PAGE_LOG), put(field::PAGE_LOG, WIDE)],
    )
    .bochs("PML base phy addr malformed"),
    breaks(
        "mode-based-execute-needs-ept",
        &[NO_EPT, secondary(secondary::MODE_BASED_EXECUTE)],
    ),
    breaks(
        "sub-page-writes-need-ept",
        &[NO_EPT, secondary(secondary::SUB_PAGE_WRITES)],
    ),
    breaks(
        "sub-page-pointer-aligned",
        &[
            secondary(secondary::SUB_PAGE_WRITES),
            put(field::SUB_PAGE_POINTER, 1),
        ],
    ),
    breaks(
        "sub-page-pointer-width",
        &[
            secondary(secondary::SUB_PAGE_WRITES),
            put(field::SUB_PAGE_POINTER, WIDE),
        ],
    ),
    breaks(
        "trace-guest-physical-needs-ept",
        &[
            NO_EPT,
            secondary(secondary::TRACE_GUEST_PHYSICAL),
            entry(entry::LOAD_TRACE),
            exit(exit::CLEAR_TRACE),
        ],
    ),
    breaks(
        "eptp-switching-needs-ept",
        &[
            NO_EPT,
            secondary(secondary::VM_FUNCTIONS),
            put(field::VM_FUNCTIONS, 1),
            put(field::EPTP_LIST, 0),
        ],
    )
    .bochs("EPTP-SWITCHING: EPT disabled"),
    breaks(
        "eptp-list-aligned",
        &[
            secondary(secondary::VM_FUNCTIONS),
            put(field::VM_FUNCTIONS, 1),
            put(field::EPTP_LIST, 1),
        ],
    )
    .bochs("eptp list phy addr malformed"),
    breaks(
        "eptp-list-width",
        &[
            secondary(secondary::VM_FUNCTIONS),
            put(field::VM_FUNCTIONS, 1),
            put(field::EPTP_LIST, WIDE),
        ],
    )
    .bochs("eptp list phy addr malformed"),
    breaks("hlat-needs-ept", &[NO_EPT, HLAT[0], HLAT[1]]),
    breaks(
        "paging-write-needs-ept",
        &[
            NO_EPT,
            processor(processor::TERTIARY),
            set(field::TERTIARY_CONTROLS, tertiary::PAGING_WRITE),
        ],
    ),
    breaks(
        "paging-verification-needs-ept",
        &[
            NO_EPT,
            processor(processor::TERTIARY),
            set(field::TERTIARY_CONTROLS, tertiary::PAGING_VERIFICATION),
        ],
    ),
    breaks(
        "hlat-pointer-reserved",
        &[HLAT[0], HLAT[1], put(field::HLAT_POINTER, 1)],
    ),
    breaks(
        "hlat-pointer-width",
        &[HLAT[0], HLAT[1], put(field::HLAT_POINTER, WIDE)],
    ),
];

/// Three rows for each list of MSRs.
macro_rules! msr_areas {
    ($($name:literal $area:ident $count:ident $words:literal;)* => $($more:expr,)*) => {
        &[
            $($more,)*
            $(
                breaks(
                    concat!($name, "-aligned"),
                    &[put(field::$count, 1), put(field::$area, 8)],
                )
                .bochs(concat!($words, " addr malformed")),
                breaks(
                    concat!($name, "-width"),
                    &[put(field::$count, 1), put(field::$area, WIDE)],
                )
                .bochs(concat!($words, " addr malformed")),
                breaks(
                    concat!($name, "-end"),
                    &[put(field::$count, 2), put(field::$area, LAST)],
                )
                .bochs(concat!($words, " addr too high")),
            )*
        ]
    };
}

const EXIT_AND_ENTRY: &[Breakage] = msr_areas! {
    "exit-msr-store-area" EXIT_MSR_STORE_AREA EXIT_MSR_STORES "VMEXIT CTRL: msr store";
    "exit-msr-load-area" EXIT_MSR_LOAD_AREA EXIT_MSR_LOADS "VMEXIT CTRL: msr load";
    "entry-msr-load-area" ENTRY_MSR_LOAD_AREA ENTRY_MSR_LOADS "VMENTRY CTRL: msr load";
    =>
    breaks("exit-controls-required", &[clear(field::EXIT_CONTROLS, 1)])
        .bochs("vmexit controls allowed 0-settings"),
    breaks("exit-controls-allowed", &[exit(1 << 27)])
        .bochs("vmexit controls allowed 1-settings"),
    breaks(
        "secondary-exit-controls-allowed",
        &[exit(exit::SECONDARY), put(field::SECONDARY_EXIT_CONTROLS, 1 << 40)],
    ),
    breaks("save-timer-needs-timer", &[exit(exit::SAVE_PREEMPTION_TIMER)])
        .bochs("save_VMX_preemption_timer VMEXIT control is set"),
    breaks("entry-controls-required", &[clear(field::ENTRY_CONTROLS, 1)])
        .bochs("vmentry controls allowed 0-settings"),
    breaks("entry-controls-allowed", &[entry(1 << 31)])
        .bochs("vmentry controls allowed 1-settings"),
    breaks("entry-to-smm-outside-smm", &[entry(entry::TO_SMM)])
        .also(&["guest-smi-into-smm"]),
    breaks("dual-monitor-outside-smm", &[entry(entry::DEACTIVATE_DUAL_MONITOR)])
        .bochs("VMENTRY from outside SMM with dual-monitor treatment enabled"),
    breaks(
        "smm-and-dual-monitor",
        &[entry(entry::TO_SMM | entry::DEACTIVATE_DUAL_MONITOR)],
    )
    .also(&[
        "entry-to-smm-outside-smm",
        "dual-monitor-outside-smm",
        "guest-smi-into-smm",
    ])
    .bochs("VMENTRY from outside SMM with dual-monitor treatment enabled"),
};

const GENERAL_PROTECTION: u32 = TYPE_EXCEPTION | 13;
const INVALID_OPCODE: u32 = TYPE_EXCEPTION | 6;

const EVENTS: &[Breakage] = &[
    breaks("event-type-reserved", &[event(1 << 8)]).bochs("bad injected event type"),
    breaks("event-nmi-vector", &[event(TYPE_NMI | 3)]).bochs("bad injected event vector"),
    breaks("event-exception-vector", &[event(TYPE_EXCEPTION | 32)])
        .bochs("bad injected event vector"),
    breaks("event-other-vector", &[event(7 << 8 | 1)]),
    breaks(
        "event-code-not-for-this-type",
        &[
            event(TYPE_NMI | ERROR_CODE | 2),
            put(field::ENTRY_EVENT_CODE, 0),
            put(field::GUEST_INTERRUPTIBILITY, 0),
        ],
    )
    .bochs("broken error code"),
    breaks(
        "event-code-not-in-real-mode",
        &[
            event(GENERAL_PROTECTION | ERROR_CODE),
            put(field::ENTRY_EVENT_CODE, 0),
        ],
    )
    .on(Base::Real),
    breaks(
        "event-code-not-for-this-vector",
        &[
            event(INVALID_OPCODE | ERROR_CODE),
            put(field::ENTRY_EVENT_CODE, 0),
        ],
    )
    .bochs("broken error code"),
    breaks("event-code-missing", &[event(GENERAL_PROTECTION)]).bochs("broken error code"),
    breaks("event-reserved", &[event(INVALID_OPCODE | 1 << 12)])
        .bochs("broken interruption info field"),
    breaks(
        "event-code-reserved",
        &[
            event(GENERAL_PROTECTION | ERROR_CODE),
            put(field::ENTRY_EVENT_CODE, 1 << 16),
        ],
    )
    .bochs("bad error code"),
    breaks(
        "event-instruction-length",
        &[
            event(4 << 8 | 0x80),
            put(field::ENTRY_INSTRUCTION_LENGTH, 16),
        ],
    )
    .bochs("bad injected event instr length"),
];

/// A row for each of `fields`: the same change breaks the rule of this name.
macro_rules! each {
    ($($name:literal $field:ident $change:expr, $words:literal;)* => $($more:expr,)*) => {
        &[
            $($more,)*
            $(breaks($name, &[$change(field::$field)]).bochs($words),)*
        ]
    };
}

const fn odd<W: Width>(field: Field<W>) -> Change {
    put(field, ODD)
}

const fn rpl_1<W: Width>(field: Field<W>) -> Change {
    set(field, 1)
}

const HOST: &[Breakage] = each! {
    "host-sysenter-esp-canonical" HOST_SYSENTER_ESP odd, "host SYSENTER_ESP_MSR non canonical";
    "host-sysenter-eip-canonical" HOST_SYSENTER_EIP odd, "host SYSENTER_EIP_MSR non canonical";
    "host-es-rpl-and-ti" HOST_ES rpl_1, "host segreg 0 TI/RPL != 0";
    "host-cs-rpl-and-ti" HOST_CS rpl_1, "host segreg 1 TI/RPL != 0";
    "host-ss-rpl-and-ti" HOST_SS rpl_1, "host segreg 2 TI/RPL != 0";
    "host-ds-rpl-and-ti" HOST_DS rpl_1, "host segreg 3 TI/RPL != 0";
    "host-fs-rpl-and-ti" HOST_FS rpl_1, "host segreg 4 TI/RPL != 0";
    "host-gs-rpl-and-ti" HOST_GS rpl_1, "host segreg 5 TI/RPL != 0";
    "host-tr-rpl-and-ti" HOST_TR rpl_1, "invalid host TR selector";
    "host-fs-base-canonical" HOST_FS_BASE odd, "host FS BASE non canonical";
    "host-gs-base-canonical" HOST_GS_BASE odd, "host GS BASE non canonical";
    "host-tr-base-canonical" HOST_TR_BASE odd, "host TR BASE non canonical";
    "host-gdtr-base-canonical" HOST_GDTR_BASE odd, "host GDTR BASE non canonical";
    "host-idtr-base-canonical" HOST_IDTR_BASE odd, "host IDTR BASE non canonical";
    "host-rip-canonical" HOST_RIP odd, "host RIP non-canonical";
    =>
    breaks("host-cr0-fixed-to-1", &[clear(field::HOST_CR0, Cr0::NE.bits())])
        .bochs("host state invalid CR0"),
    breaks("host-cr0-fixed-to-0", &[set(field::HOST_CR0, 1 << 32)])
        .bochs("host state invalid CR0"),
    breaks("host-cr4-fixed-to-1", &[clear(field::HOST_CR4, Cr4::VMXE.bits())])
        .bochs("host state invalid CR4"),
    breaks("host-cr4-fixed-to-0", &[set(field::HOST_CR4, 1 << 40)])
        .bochs("host state invalid CR4"),
    breaks(
        "host-cet-needs-write-protect",
        &[
            set(field::HOST_CR4, Cr4::CET.bits()),
            clear(field::HOST_CR0, Cr0::WP.bits()),
        ],
    ),
    breaks("host-cr3-width", &[set(field::HOST_CR3, WIDE)]).bochs("host state invalid CR3"),
    breaks(
        "host-performance-control-reserved",
        &[exit(exit::LOAD_PERFORMANCE), put(field::HOST_PERFORMANCE_CONTROL, 1 << 20)],
    ),
    breaks("host-pat-type", &[swap(field::HOST_PAT, 0xff, 2)])
        .bochs("invalid Memory Type in host MSR_PAT"),
    breaks("host-efer-reserved", &[set(field::HOST_EFER, 1 << 1)])
        .bochs("host EFER reserved bits set"),
    breaks("host-efer-lma", &[clear(field::HOST_EFER, Efer::LMA.bits())])
        .bochs("inconsistent value"),
    breaks("host-efer-lme", &[clear(field::HOST_EFER, Efer::LME.bits())])
        .bochs("inconsistent value"),
    breaks("host-pkrs-reserved", &[exit(exit::LOAD_PKRS), put(field::HOST_PKRS, 1 << 32)]),
    breaks("host-s-cet-reserved", &[exit(exit::LOAD_CET), put(field::HOST_S_CET, 1 << 6)]),
    breaks("host-s-cet-tracker", &[exit(exit::LOAD_CET), put(field::HOST_S_CET, 3 << 10)]),
    breaks("host-s-cet-canonical", &[exit(exit::LOAD_CET), put(field::HOST_S_CET, ODD)]),
    breaks("host-ssp-aligned", &[exit(exit::LOAD_CET), put(field::HOST_SSP, 1)]),
    breaks("host-ssp-canonical", &[exit(exit::LOAD_CET), put(field::HOST_SSP, ODD)]),
    breaks("host-ssp-table-canonical", &[exit(exit::LOAD_CET), put(field::HOST_SSP_TABLE, ODD)]),
    breaks("host-cs-null", &[put(field::HOST_CS, 0)]).bochs("host CS selector 0"),
    breaks("host-tr-null", &[put(field::HOST_TR, 0)]).bochs("invalid host TR selector"),
    breaks("host-pae-for-64-bit", &[clear(field::HOST_CR4, Cr4::PAE.bits())])
        .bochs("host CR4.PAE=0 with x86-64 host"),
};

/// What a 32-bit host breaks beside the rule that there is none.
const OF_32_BIT_HOST: &[&str] = &[
    "host-must-be-64-bit",
    "host-efer-lma",
    "host-efer-lme",
    "long-guest-needs-64-bit-host",
];

const HOST_ADDRESS_SPACE: &[Breakage] = &[
    breaks("host-must-be-64-bit", &[NO_64_BIT_HOST])
        .also(&[
            "host-efer-lma",
            "host-efer-lme",
            "long-guest-needs-64-bit-host",
        ])
        .bochs("x86-64 host control invalid on VMENTRY"),
    breaks("long-guest-needs-64-bit-host", &[NO_64_BIT_HOST]).also(&[
        "host-must-be-64-bit",
        "host-efer-lma",
        "host-efer-lme",
    ]),
    breaks("host-ss-null", &[NO_64_BIT_HOST, put(field::HOST_SS, 0)]).also(OF_32_BIT_HOST),
    breaks(
        "host-pcid-needs-64-bit-host",
        &[NO_64_BIT_HOST, set(field::HOST_CR4, Cr4::PCIDE.bits())],
    )
    .also(OF_32_BIT_HOST),
    breaks(
        "host-rip-32-bit",
        &[NO_64_BIT_HOST, set(field::HOST_RIP, 1 << 32)],
    )
    .also(OF_32_BIT_HOST),
];

const GUEST_REGISTERS: &[Breakage] = each! {
    "guest-sysenter-esp-canonical" GUEST_SYSENTER_ESP odd, "guest SYSENTER_ESP_MSR non canonical";
    "guest-sysenter-eip-canonical" GUEST_SYSENTER_EIP odd, "guest SYSENTER_EIP_MSR non canonical";
    =>
    breaks("guest-cr0-fixed-to-1", &[clear(field::GUEST_CR0, Cr0::NE.bits())])
        .bochs("guest invalid CR0"),
    breaks("guest-cr0-fixed-to-0", &[set(field::GUEST_CR0, 1 << 32)]).bochs("guest invalid CR0"),
    breaks("guest-paging-needs-protection", &[clear(field::GUEST_CR0, Cr0::PE.bits())])
        .bochs("unrestricted guest CR0.PG without CR0.PE"),
    breaks("guest-cr4-fixed-to-1", &[clear(field::GUEST_CR4, Cr4::VMXE.bits())])
        .bochs("guest invalid CR4"),
    breaks("guest-cr4-fixed-to-0", &[set(field::GUEST_CR4, 1 << 40)]).bochs("guest invalid CR4"),
    breaks(
        "guest-cet-needs-write-protect",
        &[
            set(field::GUEST_CR4, Cr4::CET.bits()),
            clear(field::GUEST_CR0, Cr0::WP.bits()),
        ],
    ),
    breaks("guest-cr3-width", &[set(field::GUEST_CR3, WIDE)]).bochs("guest invalid CR3"),
    breaks("guest-long-mode-needs-paging", &[clear(field::GUEST_CR0, Cr0::PG.bits())]),
    breaks("guest-long-mode-needs-pae", &[clear(field::GUEST_CR4, Cr4::PAE.bits())])
        .bochs("guest CR4.PAE=0 in x86-64 mode"),
    breaks("guest-pcid-needs-long-mode", &[set(field::GUEST_CR4, Cr4::PCIDE.bits())])
        .on(Base::Pae),
    breaks("guest-debug-control-reserved", &[set(field::GUEST_DEBUG_CONTROL, 1 << 20)]),
    breaks("guest-dr7-reserved", &[set(field::GUEST_DR7, 1 << 32)]).bochs("guest invalid DR7"),
    breaks(
        "guest-performance-control-reserved",
        &[entry(entry::LOAD_PERFORMANCE), put(field::GUEST_PERFORMANCE_CONTROL, 1 << 20)],
    ),
    breaks("guest-pat-type", &[swap(field::GUEST_PAT, 0xff, 2)])
        .bochs("invalid Memory Type in guest MSR_PAT"),
    breaks("guest-efer-reserved", &[set(field::GUEST_EFER, 1 << 1)])
        .bochs("guest EFER reserved bits set"),
    breaks(
        "guest-efer-lma",
        &[clear(field::GUEST_EFER, Efer::LMA.bits() | Efer::LME.bits())],
    )
    .bochs("guest EFER.LMA doesn't match x86_64_guest"),
    breaks("guest-efer-lme", &[clear(field::GUEST_EFER, Efer::LME.bits())])
        .bochs("inconsistent value"),
    breaks(
        "guest-bndcfgs-reserved",
        &[entry(entry::LOAD_BNDCFGS), put(field::GUEST_BNDCFGS, 1 << 2)],
    ),
    breaks(
        "guest-bndcfgs-canonical",
        &[entry(entry::LOAD_BNDCFGS), put(field::GUEST_BNDCFGS, ODD)],
    ),
    breaks(
        "guest-trace-control-reserved",
        &[entry(entry::LOAD_TRACE), put(field::GUEST_TRACE_CONTROL, 1 << 18)],
    ),
    breaks(
        "guest-lbr-control-reserved",
        &[entry(entry::LOAD_LBR), put(field::GUEST_LBR_CONTROL, 1 << 4)],
    ),
    breaks("guest-pkrs-reserved", &[entry(entry::LOAD_PKRS), put(field::GUEST_PKRS, 1 << 32)]),
    breaks(
        "guest-user-interrupt-vector",
        &[
            entry(entry::LOAD_USER_INTERRUPT_VECTOR),
            put(field::GUEST_USER_INTERRUPT_VECTOR, 0x100),
        ],
    ),
    breaks("guest-s-cet-reserved", &[entry(entry::LOAD_CET), put(field::GUEST_S_CET, 1 << 6)]),
    breaks("guest-s-cet-tracker", &[entry(entry::LOAD_CET), put(field::GUEST_S_CET, 3 << 10)]),
    breaks("guest-s-cet-canonical", &[entry(entry::LOAD_CET), put(field::GUEST_S_CET, ODD)]),
    breaks("guest-ssp-aligned", &[entry(entry::LOAD_CET), put(field::GUEST_SSP, 1)]),
    breaks(
        "guest-ssp-table-canonical",
        &[entry(entry::LOAD_CET), put(field::GUEST_SSP_TABLE, ODD)],
    ),
};

const fn high<W: Width>(field: Field<W>) -> Change {
    set(field, 1 << 32)
}

/// An LDT at 0.
const LDT: [Change; 3] = [
    put(field::GUEST_LDTR_RIGHTS, 0x82),
    put(field::GUEST_LDTR_LIMIT, 0xff),
    put(field::GUEST_LDTR, 8),
];

const SEGMENT_REGISTERS: &[Breakage] = each! {
    "guest-tr-base-canonical" GUEST_TR_BASE odd, "guest TR.BASE non canonical";
    "guest-fs-base-canonical" GUEST_FS_BASE odd, "guest FS.BASE non canonical";
    "guest-gs-base-canonical" GUEST_GS_BASE odd, "guest GS.BASE non canonical";
    "guest-cs-base-32-bit" GUEST_CS_BASE high, "guest CS.BASE > 32 bit";
    "guest-ss-base-32-bit" GUEST_SS_BASE high, "guest SS.BASE > 32 bit";
    "guest-ds-base-32-bit" GUEST_DS_BASE high, "guest DS.BASE > 32 bit";
    "guest-es-base-32-bit" GUEST_ES_BASE high, "guest ES.BASE > 32 bit";
    =>
    breaks("guest-tr-ti", &[set(field::GUEST_TR, 4)]).bochs("guest TR.TI set"),
    breaks("guest-ldtr-ti", &[LDT[0], LDT[1], put(field::GUEST_LDTR, 4)])
        .bochs("guest LDTR.TI set"),
    breaks("guest-ldtr-base-canonical", &[LDT[0], LDT[1], LDT[2], put(field::GUEST_LDTR_BASE, ODD)])
        .bochs("guest LDTR.BASE non canonical"),
    breaks("guest-ldtr-type", &[LDT[1], LDT[2], put(field::GUEST_LDTR_RIGHTS, 0x83)])
        .bochs("guest incorrect LDTR type"),
    breaks("guest-tr-type", &[clear(field::GUEST_TR_RIGHTS, 8)]).bochs("guest incorrect TR type"),
    breaks("guest-tr-unusable", &[set(field::GUEST_TR_RIGHTS, 1 << 16)]).bochs("guest TR invalid"),
    breaks(
        "guest-ss-rpl",
        &[
            RESTRICTED,
            CONFORMING,
            set(field::GUEST_SS, 1),
            set(field::GUEST_SS_RIGHTS, 1 << 5),
        ],
    )
    .bochs("guest CS.RPL != SS.RPL"),
    breaks("guest-cs-type", &[swap(field::GUEST_CS_RIGHTS, 0xf, 8)]).bochs("guest CS.TYPE"),
    breaks("guest-cs-dpl-data", &[swap(field::GUEST_CS_RIGHTS, 0xf, 0x23)])
        .bochs("unrestricted guest CS.DPL != 0"),
    breaks("guest-cs-dpl-nonconforming", &[set(field::GUEST_CS_RIGHTS, 1 << 5)])
        .bochs("guest non-conforming CS.RPL <> CS.DPL"),
    breaks("guest-cs-dpl-conforming", &[CONFORMING, set(field::GUEST_CS_RIGHTS, 1 << 5)])
        .bochs("CS.RPL < CS.DPL"),
    breaks("guest-cs-long-and-big", &[set(field::GUEST_CS_RIGHTS, 1 << 14)])
        .bochs("x86_64 guest wrong CS.D_B/L"),
    breaks("guest-ss-type", &[swap(field::GUEST_SS_RIGHTS, 0xf, 1)]).bochs("guest SS.TYPE"),
    breaks(
        "guest-ss-dpl-is-rpl",
        &[RESTRICTED, CONFORMING, set(field::GUEST_SS_RIGHTS, 1 << 5)],
    )
    .bochs("guest SS.RPL <> SS.DPL"),
    breaks(
        "guest-ss-dpl-zero",
        &[
            swap(field::GUEST_CS_RIGHTS, 0xf, 3),
            set(field::GUEST_SS_RIGHTS, 1 << 5),
        ],
    )
    .bochs("unrestricted guest SS.DPL != 0"),
};

/// Six rows for the rights of each code or data segment, `$more` of data
/// segments alone.
macro_rules! data_segments {
    (
        $($name:literal $upper:literal $rights:ident $limit:ident;)*
        data
        $($data:literal $data_upper:literal $selector:ident $data_rights:ident;)*
    ) => {
        &[
            $(
                breaks(concat!("guest-", $name, "-s"), &[clear(field::$rights, 1 << 4)])
                    .bochs(concat!("guest ", $upper, " not segment")),
                breaks(concat!("guest-", $name, "-present"), &[clear(field::$rights, 1 << 7)])
                    .bochs(concat!("guest ", $upper, " not present")),
                breaks(
                    concat!("guest-", $name, "-rights-reserved-low"),
                    &[set(field::$rights, 1 << 8)],
                )
                .bochs(concat!("guest ", $upper, ".AR/LIMIT malformed")),
                breaks(
                    concat!("guest-", $name, "-rights-reserved-high"),
                    &[set(field::$rights, 1 << 20)],
                )
                .bochs(concat!("guest ", $upper, ".AR/LIMIT malformed")),
                breaks(
                    concat!("guest-", $name, "-granularity-bytes"),
                    &[clear(field::$limit, 1)],
                )
                .bochs(concat!("guest ", $upper, ".AR/LIMIT malformed")),
                breaks(
                    concat!("guest-", $name, "-granularity-pages"),
                    &[clear(field::$rights, 1 << 15)],
                )
                .bochs(concat!("guest ", $upper, ".AR/LIMIT malformed")),
            )*
            $(
                breaks(concat!("guest-", $data, "-accessed"), &[clear(field::$data_rights, 1)])
                    .bochs(concat!("guest ", $data_upper, " not ACCESSED")),
                breaks(
                    concat!("guest-", $data, "-readable"),
                    &[swap(field::$data_rights, 0xf, 9)],
                )
                .bochs(concat!("CODE segment ", $data_upper, " not READABLE")),
                breaks(
                    concat!("guest-", $data, "-dpl"),
                    &[RESTRICTED, set(field::$selector, 3)],
                )
                .bochs(concat!(
                    "guest non-conforming ", $data_upper, ".RPL < ", $data_upper, ".DPL"
                )),
            )*
        ]
    };
}

const DATA_SEGMENTS: &[Breakage] = data_segments! {
    "cs" "CS" GUEST_CS_RIGHTS GUEST_CS_LIMIT;
    "ss" "SS" GUEST_SS_RIGHTS GUEST_SS_LIMIT;
    "ds" "DS" GUEST_DS_RIGHTS GUEST_DS_LIMIT;
    "es" "ES" GUEST_ES_RIGHTS GUEST_ES_LIMIT;
    "fs" "FS" GUEST_FS_RIGHTS GUEST_FS_LIMIT;
    "gs" "GS" GUEST_GS_RIGHTS GUEST_GS_LIMIT;
    data
    "ds" "DS" GUEST_DS GUEST_DS_RIGHTS;
    "es" "ES" GUEST_ES GUEST_ES_RIGHTS;
    "fs" "FS" GUEST_FS GUEST_FS_RIGHTS;
    "gs" "GS" GUEST_GS GUEST_GS_RIGHTS;
};

/// Six rows for LDTR and for TR. `$good` makes the register usable.
macro_rules! system_segments {
    ($($name:literal $upper:literal $rights:ident $limit:ident $good:literal;)*) => {
        &[$(
            breaks(concat!("guest-", $name, "-s"), &[
                put(field::$limit, 0xff),
                put(field::$rights, $good | 1 << 4),
            ])
            .bochs(concat!("guest ", $upper, " is not system segment")),
            breaks(concat!("guest-", $name, "-present"), &[
                put(field::$limit, 0xff),
                put(field::$rights, $good & !0x80),
            ])
            .bochs(concat!("guest ", $upper, " not present")),
            breaks(concat!("guest-", $name, "-rights-reserved-low"), &[
                put(field::$limit, 0xff),
                put(field::$rights, $good | 1 << 8),
            ])
            .bochs(concat!("guest ", $upper, ".AR/LIMIT malformed")),
            breaks(concat!("guest-", $name, "-rights-reserved-high"), &[
                put(field::$limit, 0xff),
                put(field::$rights, $good | 1 << 20),
            ])
            .bochs(concat!("guest ", $upper, ".AR/LIMIT malformed")),
            breaks(concat!("guest-", $name, "-granularity-bytes"), &[
                put(field::$limit, 0xff),
                put(field::$rights, $good | 1 << 15),
            ])
            .bochs(concat!("guest ", $upper, ".AR/LIMIT malformed")),
            breaks(concat!("guest-", $name, "-granularity-pages"), &[
                put(field::$limit, 0x10_0fff),
                put(field::$rights, $good),
            ])
            .bochs(concat!("guest ", $upper, ".AR/LIMIT malformed")),
        )*]
    };
}

const SYSTEM_SEGMENTS: &[Breakage] = system_segments! {
    "ldtr" "LDTR" GUEST_LDTR_RIGHTS GUEST_LDTR_LIMIT 0x82;
    "tr" "TR" GUEST_TR_RIGHTS GUEST_TR_LIMIT 0x8b;
};

/// Three rows for each segment of a guest in virtual-8086 mode.
macro_rules! virtual_8086 {
    ($($name:literal $base:ident $limit:ident $rights:ident;)*) => {
        &[$(
            breaks(concat!("guest-", $name, "-base-v86"), &[set(field::$base, 1)])
                .on(Base::Virtual8086),
            breaks(concat!("guest-", $name, "-limit-v86"), &[put(field::$limit, 0xfff)])
                .on(Base::Virtual8086),
            breaks(concat!("guest-", $name, "-rights-v86"), &[put(field::$rights, 0x93)])
                .on(Base::Virtual8086),
        )*]
    };
}

const VIRTUAL_8086: &[Breakage] = virtual_8086! {
    "es" GUEST_ES_BASE GUEST_ES_LIMIT GUEST_ES_RIGHTS;
    "cs" GUEST_CS_BASE GUEST_CS_LIMIT GUEST_CS_RIGHTS;
    "ss" GUEST_SS_BASE GUEST_SS_LIMIT GUEST_SS_RIGHTS;
    "ds" GUEST_DS_BASE GUEST_DS_LIMIT GUEST_DS_RIGHTS;
    "fs" GUEST_FS_BASE GUEST_FS_LIMIT GUEST_FS_RIGHTS;
    "gs" GUEST_GS_BASE GUEST_GS_LIMIT GUEST_GS_RIGHTS;
};

const NO_IF: Change = clear(field::GUEST_RFLAGS, Rflags::IF.bits());
const IF: Change = set(field::GUEST_RFLAGS, Rflags::IF.bits());
const EXTERNAL: u32 = 0x20;

const STATE: &[Breakage] = each! {
    "guest-gdtr-base-canonical" GUEST_GDTR_BASE odd, "BASE non canonical";
    "guest-idtr-base-canonical" GUEST_IDTR_BASE odd, "BASE non canonical";
    =>
    breaks("guest-gdtr-limit", &[set(field::GUEST_GDTR_LIMIT, 1 << 16)])
        .bochs("guest GDTR/IDTR limit > 0xFFFF"),
    breaks("guest-idtr-limit", &[set(field::GUEST_IDTR_LIMIT, 1 << 16)])
        .bochs("guest GDTR/IDTR limit > 0xFFFF"),
    breaks(
        "guest-rip-32-bit",
        &[clear(field::GUEST_CS_RIGHTS, 1 << 13), set(field::GUEST_RIP, 1 << 32)],
    )
    .bochs("guest RIP > 32 bit"),
    breaks("guest-rip-canonical", &[put(field::GUEST_RIP, ODD)]),
    breaks(
        "guest-ssp-32-bit",
        &[entry(entry::LOAD_CET), put(field::GUEST_SSP, 1 << 32)],
    )
    .on(Base::Pae),
    breaks("guest-ssp-canonical", &[entry(entry::LOAD_CET), put(field::GUEST_SSP, ODD)]),
    breaks("guest-rflags-reserved", &[set(field::GUEST_RFLAGS, 1 << 3)])
        .bochs("RFLAGS reserved bits are set"),
    breaks("guest-rflags-fixed", &[clear(field::GUEST_RFLAGS, 1 << 1)])
        .bochs("RFLAGS[1] cleared"),
    breaks(
        "guest-v86-in-long-mode",
        &[
            entry(entry::LONG_MODE),
            put(field::GUEST_EFER, Efer::LMA.bits() | Efer::LME.bits()),
            set(field::GUEST_CR4, Cr4::PAE.bits()),
        ],
    )
    .on(Base::Virtual8086),
    breaks(
        "guest-v86-in-real-mode",
        &[clear(field::GUEST_CR0, Cr0::PE.bits() | Cr0::PG.bits())],
    )
    .on(Base::Virtual8086),
    breaks(
        "guest-interrupt-needs-if",
        &[event(EXTERNAL), NO_IF, put(field::GUEST_INTERRUPTIBILITY, 0)],
    )
    .bochs("interrupts blocked when injecting external interrupt"),
    breaks("guest-pdpte0-reserved", &[set(field::GUEST_PDPTE0, 1 << 1)]).on(Base::Pae),
    breaks("guest-pdpte1-reserved", &[set(field::GUEST_PDPTE1, 1 << 5)]).on(Base::Pae),
    breaks("guest-pdpte2-reserved", &[set(field::GUEST_PDPTE2, WIDE)]).on(Base::Pae),
    breaks("guest-pdpte3-reserved", &[set(field::GUEST_PDPTE3, 1 << 8)]).on(Base::Pae),
};

const fn activity(state: u64) -> Change {
    put(field::GUEST_ACTIVITY, state)
}
const fn blocking(bits: u64) -> Change {
    put(field::GUEST_INTERRUPTIBILITY, bits)
}

const NON_REGISTER: &[Breakage] = &[
    breaks("guest-activity-supported", &[activity(4)]).bochs("guest activity state 4"),
    breaks(
        "guest-halted-needs-ring-0",
        &[activity(1), CONFORMING, set(field::GUEST_SS_RIGHTS, 3 << 5)],
    )
    .bochs("guest HLT state with SS.DPL=3"),
    breaks("guest-activity-in-shadow", &[activity(1), blocking(2)])
        .bochs("interruptibility state broken when entering non active CPU state"),
    breaks("guest-halted-event", &[activity(1), event(INVALID_OPCODE)]),
    breaks(
        "guest-shutdown-event",
        &[activity(2), event(INVALID_OPCODE)],
    )
    .bochs("Only NMI or #MC guest interruption is allowed when entering shutdown state"),
    breaks("guest-waiting-event", &[activity(3), event(INVALID_OPCODE)])
        .bochs("No guest interruptions are allowed when entering Wait-For-Sipi state"),
    breaks("guest-waiting-in-smm", &[activity(3), entry(entry::TO_SMM)])
        .also(&["entry-to-smm-outside-smm", "guest-smi-into-smm"]),
    breaks(
        "guest-interruptibility-reserved",
        &[set(field::GUEST_INTERRUPTIBILITY, 1 << 5)],
    )
    .bochs("guest interruptibility state broken"),
    breaks("guest-sti-and-mov-ss", &[IF, blocking(3)]).bochs("guest interruptibility state broken"),
    breaks("guest-sti-needs-if", &[NO_IF, blocking(1)])
        .bochs("guest interrupts can't be blocked by STI when EFLAGS.IF = 0"),
    breaks(
        "guest-interrupt-in-shadow",
        &[IF, event(EXTERNAL), blocking(2)],
    )
    .bochs("interrupts blocked when injecting external interrupt"),
    breaks("guest-nmi-in-mov-ss", &[event(TYPE_NMI | 2), blocking(2)])
        .bochs("interrupts blocked when injecting NMI"),
    breaks("guest-smi-outside-smm", &[blocking(4)]).bochs("SMI blocked when not in SMM mode"),
    breaks("guest-smi-into-smm", &[entry(entry::TO_SMM)])
        .also(&["entry-to-smm-outside-smm"])
        .bochs("VMCS SMM guest should block SMI"),
    breaks(
        "guest-nmi-while-blocked",
        &[event(TYPE_NMI | 2), blocking(8)],
    ),
    breaks("guest-enclave-in-mov-ss", &[blocking(0x12)]),
    breaks("guest-enclave-supported", &[blocking(0x10)])
        .lean()
        .bochs("guest interruptibility state broken"),
    breaks("vmcs-link-aligned", &[put(field::VMCS_LINK, 1)]).bochs("link pointer malformed"),
    breaks("vmcs-link-width", &[put(field::VMCS_LINK, WIDE)]).bochs("link pointer malformed"),
    breaks("vmcs-link-itself", &[put(field::VMCS_LINK, DESK_VMCS)]),
];

/// Where the desk's VMCS is.
pub const DESK_VMCS: u64 = 0x5000;

const TF: Change = set(field::GUEST_RFLAGS, Rflags::TF.bits());
const NO_TF: Change = clear(field::GUEST_RFLAGS, Rflags::TF.bits());
const BS: u64 = 1 << 14;
const ENABLED: u64 = 1 << 12;
const RTM: u64 = 1 << 16;

const fn pending(bits: u64) -> Change {
    put(field::GUEST_PENDING_DEBUG, bits)
}

const PENDING_DEBUG: &[Breakage] = &[
    breaks("guest-pending-debug-reserved", &[pending(1 << 4)]).bochs("guest tmpDR6 reserved bits"),
    breaks("guest-pending-step-missing", &[TF, blocking(2), pending(0)]),
    breaks(
        "guest-pending-step-wrong",
        &[NO_TF, blocking(2), pending(BS)],
    ),
    breaks("guest-pending-rtm-supported", &[pending(RTM | ENABLED)]).lean(),
    breaks("guest-pending-rtm-alone", &[pending(RTM | ENABLED | 1)]),
    breaks("guest-pending-rtm-enabled", &[pending(RTM)]),
    breaks(
        "guest-pending-rtm-in-mov-ss",
        &[pending(RTM | ENABLED), blocking(2)],
    ),
];
