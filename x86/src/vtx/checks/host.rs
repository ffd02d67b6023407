//! The state that an exit loads: Intel SDM volume 3, "Checks on VMX Controls
//! and Host-State Area".

use super::view::View;
use super::{Rule, Section, rule};
use crate::control::{Cr0, Cr4, Efer};
use crate::vtx::control::exit;
use crate::vtx::field::{self, Field, W64, Width};

pub(super) const REGISTERS: Section = Section {
    title: "Checks on Host Control Registers, MSRs, and SSP",
    rules: &[CONTROL_REGISTERS, CANONICAL_REGISTERS, MSRS, CET],
};

pub(super) const SEGMENTS: Section = Section {
    title: "Checks on Host Segment and Descriptor-Table Registers",
    rules: &[SELECTORS, NULL_SELECTORS, BASES],
};

pub(super) const ADDRESS_SPACE: Section = Section {
    title: "Checks Related to Address-Space Size",
    rules: &[SIZES],
};

/// Whether a control register has the bits that are fixed to 1 (`[0]`) and none
/// of those that are fixed to 0 (`[1]`).
pub(super) fn has_fixed<W: Width>(view: &View<'_>, register: Field<W>, fixed: u64) -> bool {
    !view.get(register) & fixed == 0
}

const CONTROL_REGISTERS: &[Rule] = &[
    rule(
        "host-cr0-fixed-to-1",
        field::HOST_CR0,
        "all bits of IA32_VMX_CR0_FIXED0",
        |v| has_fixed(v, field::HOST_CR0, v.capabilities.cr0[0]),
    ),
    rule(
        "host-cr0-fixed-to-0",
        field::HOST_CR0,
        "only bits of IA32_VMX_CR0_FIXED1",
        |v| v.clear(field::HOST_CR0, !v.capabilities.cr0[1]),
    ),
    rule(
        "host-cr4-fixed-to-1",
        field::HOST_CR4,
        "all bits of IA32_VMX_CR4_FIXED0",
        |v| has_fixed(v, field::HOST_CR4, v.capabilities.cr4[0]),
    ),
    rule(
        "host-cr4-fixed-to-0",
        field::HOST_CR4,
        "only bits of IA32_VMX_CR4_FIXED1",
        |v| v.clear(field::HOST_CR4, !v.capabilities.cr4[1]),
    ),
    rule(
        "host-cet-needs-write-protect",
        field::HOST_CR4,
        "CET (bit 23) only with CR0.WP",
        |v| v.clear(field::HOST_CR4, Cr4::CET.bits()) || !v.clear(field::HOST_CR0, Cr0::WP.bits()),
    ),
    rule(
        "host-cr3-width",
        field::HOST_CR3,
        "an address within the CPU's physical-address width",
        |v| v.is_physical(field::HOST_CR3),
    ),
];

/// Rules that a field is a canonical address: name and field.
macro_rules! canonical {
    ($($name:literal $field:ident;)*) => {
        &[$(
            $crate::vtx::checks::rule(
                concat!($name, "-canonical"),
                $crate::vtx::field::$field,
                "a canonical address",
                |v| v.canonical($crate::vtx::field::$field),
            ),
        )*]
    };
}
pub(super) use canonical;

const CANONICAL_REGISTERS: &[Rule] = canonical! {
    "host-sysenter-esp" HOST_SYSENTER_ESP;
    "host-sysenter-eip" HOST_SYSENTER_EIP;
};

/// Bits of EFER that exist.
pub(super) const EFER: u64 =
    Efer::SCE.bits() | Efer::LME.bits() | Efer::LMA.bits() | Efer::NXE.bits();

/// Whether `bit` of the EFER to load is what `on` says.
pub(super) fn efer_bit(view: &View<'_>, register: Field<W64>, bit: Efer, on: bool) -> bool {
    view.clear(register, bit.bits()) != on
}

const MSRS: &[Rule] = &[
    rule(
        "host-performance-control-reserved",
        field::HOST_PERFORMANCE_CONTROL,
        "only counters that the CPU has",
        |v| {
            !v.exit(exit::LOAD_PERFORMANCE)
                || v.clear(field::HOST_PERFORMANCE_CONTROL, !v.capabilities.performance)
        },
    ),
    rule(
        "host-pat-type",
        field::HOST_PAT,
        "eight memory types: each byte 0, 1, 4, 5, 6 or 7",
        |v| !v.exit(exit::LOAD_PAT) || v.is_pat(field::HOST_PAT),
    ),
    rule(
        "host-efer-reserved",
        field::HOST_EFER,
        "only SCE, LME, LMA and NXE (bits 0, 8, 10, 11)",
        |v| !v.exit(exit::LOAD_EFER) || v.clear(field::HOST_EFER, !EFER),
    ),
    rule(
        "host-efer-lma",
        field::HOST_EFER,
        "LMA (bit 10) as the control for a 64-bit host",
        |v| !v.exit(exit::LOAD_EFER) || efer_bit(v, field::HOST_EFER, Efer::LMA, is_64_bit(v)),
    ),
    rule(
        "host-efer-lme",
        field::HOST_EFER,
        "LME (bit 8) as the control for a 64-bit host",
        |v| !v.exit(exit::LOAD_EFER) || efer_bit(v, field::HOST_EFER, Efer::LME, is_64_bit(v)),
    ),
    rule(
        "host-pkrs-reserved",
        field::HOST_PKRS,
        "bits 63 to 32 are 0",
        |v| !v.exit(exit::LOAD_PKRS) || v.clear(field::HOST_PKRS, !0xffff_ffff),
    ),
];

/// IA32_S_CET: bits 9 to 6 do not exist.
pub(super) const S_CET_RESERVED: u64 = 0xf << 6;
/// IA32_S_CET: suppress, and wait for ENDBRANCH.
pub(super) const S_CET_TRACKER: u64 = 3 << 10;

const CET: &[Rule] = &[
    rule(
        "host-s-cet-reserved",
        field::HOST_S_CET,
        "bits 9 to 6 are 0",
        |v| !v.exit(exit::LOAD_CET) || v.clear(field::HOST_S_CET, S_CET_RESERVED),
    ),
    rule(
        "host-s-cet-tracker",
        field::HOST_S_CET,
        "not both of bits 10 and 11",
        |v| {
            let both = v.get(field::HOST_S_CET) & S_CET_TRACKER == S_CET_TRACKER;
            !v.exit(exit::LOAD_CET) || !both
        },
    ),
    rule(
        "host-s-cet-canonical",
        field::HOST_S_CET,
        "a canonical address",
        |v| !v.exit(exit::LOAD_CET) || v.canonical(field::HOST_S_CET),
    ),
    rule(
        "host-ssp-aligned",
        field::HOST_SSP,
        "bits 1 and 0 are 0",
        |v| !v.exit(exit::LOAD_CET) || v.clear(field::HOST_SSP, 3),
    ),
    rule(
        "host-ssp-canonical",
        field::HOST_SSP,
        "a canonical address",
        |v| !v.exit(exit::LOAD_CET) || v.canonical(field::HOST_SSP),
    ),
    rule(
        "host-ssp-table-canonical",
        field::HOST_SSP_TABLE,
        "a canonical address",
        |v| !v.exit(exit::LOAD_CET) || v.canonical(field::HOST_SSP_TABLE),
    ),
];

/// Rules that a selector is of the GDT and of privilege level 0.
macro_rules! selectors {
    ($($name:literal $field:ident;)*) => {
        &[$(
            rule(
                concat!($name, "-rpl-and-ti"),
                field::$field,
                "RPL and TI (bits 2 to 0) are 0",
                |v| v.clear(field::$field, 7),
            ),
        )*]
    };
}

const SELECTORS: &[Rule] = selectors! {
    "host-es" HOST_ES;
    "host-cs" HOST_CS;
    "host-ss" HOST_SS;
    "host-ds" HOST_DS;
    "host-fs" HOST_FS;
    "host-gs" HOST_GS;
    "host-tr" HOST_TR;
};

const NULL_SELECTORS: &[Rule] = &[
    rule(
        "host-cs-null",
        field::HOST_CS,
        "a selector other than 0",
        |v| v.get(field::HOST_CS) != 0,
    ),
    rule(
        "host-tr-null",
        field::HOST_TR,
        "a selector other than 0",
        |v| v.get(field::HOST_TR) != 0,
    ),
    rule(
        "host-ss-null",
        field::HOST_SS,
        "a selector other than 0, as the host is not 64-bit",
        |v| is_64_bit(v) || v.get(field::HOST_SS) != 0,
    ),
];

const BASES: &[Rule] = canonical! {
    "host-fs-base" HOST_FS_BASE;
    "host-gs-base" HOST_GS_BASE;
    "host-tr-base" HOST_TR_BASE;
    "host-gdtr-base" HOST_GDTR_BASE;
    "host-idtr-base" HOST_IDTR_BASE;
};

fn is_64_bit(view: &View<'_>) -> bool {
    view.exit(exit::HOST_64_BIT)
}

/// The CPU that enters is in 64-bit mode: so is the hypervisor.
const SIZES: &[Rule] = &[
    rule(
        "host-must-be-64-bit",
        field::EXIT_CONTROLS,
        "a 64-bit host (bit 9), as the hypervisor is",
        is_64_bit,
    ),
    rule(
        "long-guest-needs-64-bit-host",
        field::ENTRY_CONTROLS,
        "IA-32e mode guest (bit 9) only with a 64-bit host",
        |v| is_64_bit(v) || !v.long_mode(),
    ),
    rule(
        "host-pcid-needs-64-bit-host",
        field::HOST_CR4,
        "PCIDE (bit 17) only with a 64-bit host",
        |v| is_64_bit(v) || v.clear(field::HOST_CR4, Cr4::PCIDE.bits()),
    ),
    rule(
        "host-rip-32-bit",
        field::HOST_RIP,
        "bits 63 to 32 are 0, as the host is not 64-bit",
        |v| is_64_bit(v) || v.clear(field::HOST_RIP, !0xffff_ffff),
    ),
    rule(
        "host-pae-for-64-bit",
        field::HOST_CR4,
        "PAE (bit 5), as the host is 64-bit",
        |v| !is_64_bit(v) || !v.clear(field::HOST_CR4, Cr4::PAE.bits()),
    ),
    rule(
        "host-rip-canonical",
        field::HOST_RIP,
        "a canonical address",
        |v| !is_64_bit(v) || v.canonical(field::HOST_RIP),
    ),
];
