//! The guest's control registers, debug registers and MSRs.

use super::host::{EFER, S_CET_RESERVED, S_CET_TRACKER, canonical, efer_bit, has_fixed};
use super::view::View;
use super::{Rule, Section, rule};
use crate::control::{Cr0, Cr4, Efer};
use crate::vtx::control::entry;
use crate::vtx::field;

pub(super) const SECTION: Section = Section {
    title: "Checks on Guest Control Registers, Debug Registers, and MSRs",
    rules: &[CONTROL_REGISTERS, LONG_MODE, CANONICAL, DEBUG, MSRS, CET],
};

/// Bits of CR0 of which an unrestricted guest is free.
fn free(view: &View<'_>) -> u64 {
    if view.unrestricted() {
        (Cr0::PE | Cr0::PG).bits()
    } else {
        0
    }
}

const CONTROL_REGISTERS: &[Rule] = &[
    rule(
        "guest-cr0-fixed-to-1",
        field::GUEST_CR0,
        "all bits of IA32_VMX_CR0_FIXED0; an unrestricted guest needs no PE and PG",
        |v| has_fixed(v, field::GUEST_CR0, v.capabilities.cr0[0] & !free(v)),
    ),
    rule(
        "guest-cr0-fixed-to-0",
        field::GUEST_CR0,
        "only bits of IA32_VMX_CR0_FIXED1",
        |v| v.clear(field::GUEST_CR0, !v.capabilities.cr0[1] & !free(v)),
    ),
    rule(
        "guest-paging-needs-protection",
        field::GUEST_CR0,
        "PG (bit 31) only with PE (bit 0)",
        |v| !v.cr0(Cr0::PG) || v.cr0(Cr0::PE),
    ),
    rule(
        "guest-cr4-fixed-to-1",
        field::GUEST_CR4,
        "all bits of IA32_VMX_CR4_FIXED0",
        |v| has_fixed(v, field::GUEST_CR4, v.capabilities.cr4[0]),
    ),
    rule(
        "guest-cr4-fixed-to-0",
        field::GUEST_CR4,
        "only bits of IA32_VMX_CR4_FIXED1",
        |v| v.clear(field::GUEST_CR4, !v.capabilities.cr4[1]),
    ),
    rule(
        "guest-cet-needs-write-protect",
        field::GUEST_CR4,
        "CET (bit 23) only with CR0.WP",
        |v| v.clear(field::GUEST_CR4, Cr4::CET.bits()) || v.cr0(Cr0::WP),
    ),
    rule(
        "guest-cr3-width",
        field::GUEST_CR3,
        "an address within the CPU's physical-address width",
        |v| v.is_physical(field::GUEST_CR3),
    ),
];

const LONG_MODE: &[Rule] = &[
    rule(
        "guest-long-mode-needs-paging",
        field::GUEST_CR0,
        "PG (bit 31), as the guest is in IA-32e mode",
        |v| !v.long_mode() || v.cr0(Cr0::PG),
    ),
    rule(
        "guest-long-mode-needs-pae",
        field::GUEST_CR4,
        "PAE (bit 5), as the guest is in IA-32e mode",
        |v| !v.long_mode() || !v.clear(field::GUEST_CR4, Cr4::PAE.bits()),
    ),
    rule(
        "guest-pcid-needs-long-mode",
        field::GUEST_CR4,
        "PCIDE (bit 17) only in IA-32e mode",
        |v| v.long_mode() || v.clear(field::GUEST_CR4, Cr4::PCIDE.bits()),
    ),
];

const CANONICAL: &[Rule] = canonical! {
    "guest-sysenter-esp" GUEST_SYSENTER_ESP;
    "guest-sysenter-eip" GUEST_SYSENTER_EIP;
};

/// IA32_DEBUGCTL: bits that no CPU has. Intel SDM volume 4, "IA32_DEBUGCTL".
const DEBUG_CONTROL_RESERVED: u64 = !0xffc7;

const DEBUG: &[Rule] = &[
    rule(
        "guest-debug-control-reserved",
        field::GUEST_DEBUG_CONTROL,
        "bits 5 to 3 and 63 to 16 are 0",
        |v| {
            !v.entry(entry::LOAD_DEBUG)
                || v.clear(field::GUEST_DEBUG_CONTROL, DEBUG_CONTROL_RESERVED)
        },
    ),
    rule(
        "guest-dr7-reserved",
        field::GUEST_DR7,
        "bits 63 to 32 are 0",
        |v| !v.entry(entry::LOAD_DEBUG) || v.clear(field::GUEST_DR7, !0xffff_ffff),
    ),
];

/// Bits that do not exist of IA32_RTIT_CTL and IA32_LBR_CTL. Intel SDM volume
/// 3, "IA32_RTIT_CTL MSR"; volume 4, "IA32_LBR_CTL".
const TRACE_RESERVED: u64 = 1 << 18 | 1 << 23 | 7 << 28 | 0x7f << 48 | 0x7f << 57;
const LBR_RESERVED: u64 = !0x7f_000f;

const MSRS: &[Rule] = &[
    rule(
        "guest-performance-control-reserved",
        field::GUEST_PERFORMANCE_CONTROL,
        "only counters that the CPU has",
        |v| {
            let reserved = !v.capabilities.performance;
            !v.entry(entry::LOAD_PERFORMANCE) || v.clear(field::GUEST_PERFORMANCE_CONTROL, reserved)
        },
    ),
    rule(
        "guest-pat-type",
        field::GUEST_PAT,
        "eight memory types: each byte 0, 1, 4, 5, 6 or 7",
        |v| !v.entry(entry::LOAD_PAT) || v.is_pat(field::GUEST_PAT),
    ),
    rule(
        "guest-efer-reserved",
        field::GUEST_EFER,
        "only SCE, LME, LMA and NXE (bits 0, 8, 10, 11)",
        |v| !v.entry(entry::LOAD_EFER) || v.clear(field::GUEST_EFER, !EFER),
    ),
    rule(
        "guest-efer-lma",
        field::GUEST_EFER,
        "LMA (bit 10) as the control for a guest in IA-32e mode",
        |v| !v.entry(entry::LOAD_EFER) || efer_bit(v, field::GUEST_EFER, Efer::LMA, v.long_mode()),
    ),
    rule(
        "guest-efer-lme",
        field::GUEST_EFER,
        "LME (bit 8) as LMA (bit 10), as paging is on",
        |v| {
            let active = !v.clear(field::GUEST_EFER, Efer::LMA.bits());
            !v.entry(entry::LOAD_EFER)
                || !v.cr0(Cr0::PG)
                || efer_bit(v, field::GUEST_EFER, Efer::LME, active)
        },
    ),
    rule(
        "guest-bndcfgs-reserved",
        field::GUEST_BNDCFGS,
        "bits 11 to 2 are 0",
        |v| !v.entry(entry::LOAD_BNDCFGS) || v.clear(field::GUEST_BNDCFGS, 0xffc),
    ),
    rule(
        "guest-bndcfgs-canonical",
        field::GUEST_BNDCFGS,
        "a canonical address",
        |v| !v.entry(entry::LOAD_BNDCFGS) || v.canonical(field::GUEST_BNDCFGS),
    ),
    rule(
        "guest-trace-control-reserved",
        field::GUEST_TRACE_CONTROL,
        "only bits of IA32_RTIT_CTL that exist",
        |v| !v.entry(entry::LOAD_TRACE) || v.clear(field::GUEST_TRACE_CONTROL, TRACE_RESERVED),
    ),
    rule(
        "guest-lbr-control-reserved",
        field::GUEST_LBR_CONTROL,
        "only bits of IA32_LBR_CTL that exist",
        |v| !v.entry(entry::LOAD_LBR) || v.clear(field::GUEST_LBR_CONTROL, LBR_RESERVED),
    ),
    rule(
        "guest-pkrs-reserved",
        field::GUEST_PKRS,
        "bits 63 to 32 are 0",
        |v| !v.entry(entry::LOAD_PKRS) || v.clear(field::GUEST_PKRS, !0xffff_ffff),
    ),
    rule(
        "guest-user-interrupt-vector",
        field::GUEST_USER_INTERRUPT_VECTOR,
        "a vector: bits 15 to 8 are 0",
        |v| {
            !v.entry(entry::LOAD_USER_INTERRUPT_VECTOR)
                || v.clear(field::GUEST_USER_INTERRUPT_VECTOR, 0xff00)
        },
    ),
];

const CET: &[Rule] = &[
    rule(
        "guest-s-cet-reserved",
        field::GUEST_S_CET,
        "bits 9 to 6 are 0",
        |v| !v.entry(entry::LOAD_CET) || v.clear(field::GUEST_S_CET, S_CET_RESERVED),
    ),
    rule(
        "guest-s-cet-tracker",
        field::GUEST_S_CET,
        "not both of bits 10 and 11",
        |v| {
            let both = v.get(field::GUEST_S_CET) & S_CET_TRACKER == S_CET_TRACKER;
            !v.entry(entry::LOAD_CET) || !both
        },
    ),
    rule(
        "guest-s-cet-canonical",
        field::GUEST_S_CET,
        "a canonical address",
        |v| !v.entry(entry::LOAD_CET) || v.canonical(field::GUEST_S_CET),
    ),
    rule(
        "guest-ssp-aligned",
        field::GUEST_SSP,
        "bits 1 and 0 are 0",
        |v| !v.entry(entry::LOAD_CET) || v.clear(field::GUEST_SSP, 3),
    ),
    rule(
        "guest-ssp-table-canonical",
        field::GUEST_SSP_TABLE,
        "a canonical address",
        |v| !v.entry(entry::LOAD_CET) || v.canonical(field::GUEST_SSP_TABLE),
    ),
];
