//! What is left of the guest's state: descriptor tables, RIP and RFLAGS, what
//! is in no register, and the entries of PAE paging.

use super::entry_controls::{EXTERNAL_INTERRUPT, OTHER};
use super::host::canonical;
use super::view::{SS, View};
use super::{Rule, Section, rule};
use crate::control::{Cr0, Cr4, Rflags};
use crate::event;
use crate::msr::DEBUG_CONTROL_BTF;
use crate::segment::LONG;
use crate::vtx::control::{entry, pin};
use crate::vtx::field::{self, Field, W64};

pub(super) const DESCRIPTOR_TABLES: Section = Section {
    title: "Checks on Guest Descriptor-Table Registers",
    rules: &[TABLE_BASES, TABLE_LIMITS],
};

pub(super) const INSTRUCTION_POINTER: Section = Section {
    title: "Checks on Guest RIP, RFLAGS, and SSP",
    rules: &[POINTERS, FLAGS],
};

pub(super) const NON_REGISTER: Section = Section {
    title: "Checks on Guest Non-Register State",
    rules: &[ACTIVITY, INTERRUPTIBILITY, PENDING_DEBUG, LINK],
};

pub(super) const PAGE_DIRECTORY_POINTERS: Section = Section {
    title: "Checks on Guest Page-Directory-Pointer-Table Entries",
    rules: &[PDPTES],
};

const TABLE_BASES: &[Rule] = canonical! {
    "guest-gdtr-base" GUEST_GDTR_BASE;
    "guest-idtr-base" GUEST_IDTR_BASE;
};

const TABLE_LIMITS: &[Rule] = &[
    rule(
        "guest-gdtr-limit",
        field::GUEST_GDTR_LIMIT,
        "bits 31 to 16 are 0",
        |v| v.clear(field::GUEST_GDTR_LIMIT, 0xffff_0000),
    ),
    rule(
        "guest-idtr-limit",
        field::GUEST_IDTR_LIMIT,
        "bits 31 to 16 are 0",
        |v| v.clear(field::GUEST_IDTR_LIMIT, 0xffff_0000),
    ),
];

const UPPER_HALF: u64 = !0xffff_ffff;

fn is_64_bit_code(view: &View<'_>) -> bool {
    view.long_mode() && !view.clear(field::GUEST_CS_RIGHTS, u64::from(LONG))
}

const POINTERS: &[Rule] = &[
    rule(
        "guest-rip-32-bit",
        field::GUEST_RIP,
        "bits 63 to 32 are 0, as the guest is not in 64-bit mode",
        |v| is_64_bit_code(v) || v.clear(field::GUEST_RIP, UPPER_HALF),
    ),
    rule(
        "guest-rip-canonical",
        field::GUEST_RIP,
        "a canonical address",
        |v| !is_64_bit_code(v) || v.canonical(field::GUEST_RIP),
    ),
    rule(
        "guest-ssp-32-bit",
        field::GUEST_SSP,
        "bits 63 to 32 are 0, as the guest is not in 64-bit mode",
        |v| !v.entry(entry::LOAD_CET) || is_64_bit_code(v) || v.clear(field::GUEST_SSP, UPPER_HALF),
    ),
    rule(
        "guest-ssp-canonical",
        field::GUEST_SSP,
        "a canonical address",
        |v| !v.entry(entry::LOAD_CET) || !is_64_bit_code(v) || v.canonical(field::GUEST_SSP),
    ),
];

/// Bits 3, 5, 15 and from 22 on.
const RFLAGS_RESERVED: u64 = 1 << 3 | 1 << 5 | 1 << 15 | !0x3f_ffff;

const FLAGS: &[Rule] = &[
    rule(
        "guest-rflags-reserved",
        field::GUEST_RFLAGS,
        "bits 3, 5, 15 and 63 to 22 are 0",
        |v| v.clear(field::GUEST_RFLAGS, RFLAGS_RESERVED),
    ),
    rule(
        "guest-rflags-fixed",
        field::GUEST_RFLAGS,
        "bit 1 is 1",
        |v| v.rflags(Rflags::FIXED),
    ),
    rule(
        "guest-v86-in-long-mode",
        field::GUEST_RFLAGS,
        "VM (bit 17) is 0, as the guest is in IA-32e mode",
        |v| !v.virtual_8086() || !v.long_mode(),
    ),
    rule(
        "guest-v86-in-real-mode",
        field::GUEST_RFLAGS,
        "VM (bit 17) is 0, as CR0.PE is 0",
        |v| !v.virtual_8086() || v.cr0(Cr0::PE),
    ),
    rule(
        "guest-interrupt-needs-if",
        field::GUEST_RFLAGS,
        "IF (bit 9), as an external interrupt is injected",
        |v| !v.injects(EXTERNAL_INTERRUPT) || v.rflags(Rflags::IF),
    ),
];

/// Activity states.
const ACTIVE: u64 = 0;
const HALTED: u64 = 1;
const SHUTDOWN: u64 = 2;
const WAIT_FOR_SIPI: u64 = 3;

/// Interruptibility.
const BY_STI: u64 = 1 << 0;
const BY_MOV_SS: u64 = 1 << 1;
const BY_SMI: u64 = 1 << 2;
const BY_NMI: u64 = 1 << 3;
const ENCLAVE: u64 = 1 << 4;

fn activity(view: &View<'_>) -> u64 {
    view.get(field::GUEST_ACTIVITY)
}

fn blocks(view: &View<'_>, bits: u64) -> bool {
    !view.clear(field::GUEST_INTERRUPTIBILITY, bits)
}

/// Whether an event of `types` (bit n is type n) or, of exceptions, of `vectors`
/// is to be injected, or none.
fn only_injects(view: &View<'_>, types: u32, vectors: u32) -> bool {
    view.event().is_none_or(|word| {
        let kind = word & event::TYPE_MASK;
        let vector = word & 0xff;
        let wanted = kind == event::TYPE_EXCEPTION && vector < 32 && vectors >> vector & 1 != 0;
        wanted || types >> (kind >> 8) & 1 != 0
    })
}

const NMI_BIT: u32 = 1 << (event::TYPE_NMI >> 8);
const EXTERNAL_BIT: u32 = 1 << EXTERNAL_INTERRUPT;
const OTHER_BIT: u32 = 1 << (OTHER >> 8);
/// #DB and #MC.
const DEBUG_AND_CHECK: u32 = 1 << 1 | 1 << 18;
/// #MC.
const CHECK: u32 = 1 << 18;

const ACTIVITY: &[Rule] = &[
    rule(
        "guest-activity-supported",
        field::GUEST_ACTIVITY,
        "0, or a state (1 HLT, 2 shutdown, 3 wait-for-SIPI) of IA32_VMX_MISC bits 8 to 6",
        |v| match activity(v) {
            ACTIVE => true,
            state @ 1..=3 => v.capabilities.misc >> (5 + state) & 1 != 0,
            _ => false,
        },
    ),
    rule(
        "guest-halted-needs-ring-0",
        field::GUEST_ACTIVITY,
        "HLT (1) only with SS.DPL 0",
        |v| activity(v) != HALTED || v.dpl(SS) == 0,
    ),
    rule(
        "guest-activity-in-shadow",
        field::GUEST_ACTIVITY,
        "active (0), as blocking by STI or MOV SS is on",
        |v| activity(v) == ACTIVE || !blocks(v, BY_STI | BY_MOV_SS),
    ),
    rule(
        "guest-halted-event",
        field::ENTRY_EVENT,
        "an interrupt, an NMI, #DB, #MC or a pending MTF exit, as the guest is halted",
        |v| {
            let types = EXTERNAL_BIT | NMI_BIT | OTHER_BIT;
            activity(v) != HALTED || only_injects(v, types, DEBUG_AND_CHECK)
        },
    ),
    rule(
        "guest-shutdown-event",
        field::ENTRY_EVENT,
        "an NMI or #MC, as the guest is shut down",
        |v| activity(v) != SHUTDOWN || only_injects(v, NMI_BIT, CHECK),
    ),
    rule(
        "guest-waiting-event",
        field::ENTRY_EVENT,
        "nothing, as the guest waits for a SIPI",
        |v| activity(v) != WAIT_FOR_SIPI || v.event().is_none(),
    ),
    rule(
        "guest-waiting-in-smm",
        field::GUEST_ACTIVITY,
        "not wait-for-SIPI (3), as the entry is to system-management mode",
        |v| activity(v) != WAIT_FOR_SIPI || !v.entry(entry::TO_SMM),
    ),
];

const INTERRUPTIBILITY: &[Rule] = &[
    rule(
        "guest-interruptibility-reserved",
        field::GUEST_INTERRUPTIBILITY,
        "bits 31 to 5 are 0",
        |v| !blocks(v, !0x1f),
    ),
    rule(
        "guest-sti-and-mov-ss",
        field::GUEST_INTERRUPTIBILITY,
        "not both of blocking by STI (bit 0) and by MOV SS (bit 1)",
        |v| !blocks(v, BY_STI) || !blocks(v, BY_MOV_SS),
    ),
    rule(
        "guest-sti-needs-if",
        field::GUEST_INTERRUPTIBILITY,
        "no blocking by STI (bit 0), as RFLAGS.IF is 0",
        |v| !blocks(v, BY_STI) || v.rflags(Rflags::IF),
    ),
    rule(
        "guest-interrupt-in-shadow",
        field::GUEST_INTERRUPTIBILITY,
        "no blocking (bits 0 and 1), as an external interrupt is injected",
        |v| !v.injects(EXTERNAL_INTERRUPT) || !blocks(v, BY_STI | BY_MOV_SS),
    ),
    rule(
        "guest-nmi-in-mov-ss",
        field::GUEST_INTERRUPTIBILITY,
        "no blocking by MOV SS (bit 1), as an NMI is injected",
        |v| !v.injects(event::TYPE_NMI) || !blocks(v, BY_MOV_SS),
    ),
    rule(
        "guest-smi-outside-smm",
        field::GUEST_INTERRUPTIBILITY,
        "no blocking by SMI (bit 2), as the CPU is not in system-management mode",
        |v| !blocks(v, BY_SMI) || v.entry(entry::TO_SMM),
    ),
    rule(
        "guest-smi-into-smm",
        field::GUEST_INTERRUPTIBILITY,
        "blocking by SMI (bit 2), as the entry is to system-management mode",
        |v| blocks(v, BY_SMI) || !v.entry(entry::TO_SMM),
    ),
    rule(
        "guest-nmi-while-blocked",
        field::GUEST_INTERRUPTIBILITY,
        "no blocking by NMI (bit 3), as an NMI is injected and NMIs are virtual",
        |v| !v.injects(event::TYPE_NMI) || !v.pin(pin::VIRTUAL_NMIS) || !blocks(v, BY_NMI),
    ),
    rule(
        "guest-enclave-in-mov-ss",
        field::GUEST_INTERRUPTIBILITY,
        "no blocking by MOV SS (bit 1), as an enclave was interrupted (bit 4)",
        |v| !blocks(v, ENCLAVE) || !blocks(v, BY_MOV_SS),
    ),
    rule(
        "guest-enclave-supported",
        field::GUEST_INTERRUPTIBILITY,
        "no enclave interruption (bit 4), as the CPU has no SGX",
        |v| !blocks(v, ENCLAVE) || v.capabilities.has_sgx,
    ),
];

/// Pending debug exceptions. Bit 11 is a bus lock's, on CPUs that tell.
const PENDING_RESERVED: u64 = !(0xf | BUS_LOCK | ENABLED | SINGLE_STEP | RTM);
const BUS_LOCK: u64 = 1 << 11;
const SINGLE_STEP: u64 = 1 << 14;
const RTM: u64 = 1 << 16;
const ENABLED: u64 = 1 << 12;

/// The guest is between two instructions of a single step.
fn in_step(view: &View<'_>) -> bool {
    blocks(view, BY_STI | BY_MOV_SS) || activity(view) == HALTED
}

fn steps(view: &View<'_>) -> bool {
    view.rflags(Rflags::TF) && view.clear(field::GUEST_DEBUG_CONTROL, DEBUG_CONTROL_BTF)
}

fn pends(view: &View<'_>, bits: u64) -> bool {
    !view.clear(field::GUEST_PENDING_DEBUG, bits)
}

const PENDING_DEBUG: &[Rule] = &[
    rule(
        "guest-pending-debug-reserved",
        field::GUEST_PENDING_DEBUG,
        "bits 10 to 4, 13, 15 and 63 to 17 are 0",
        |v| !pends(v, PENDING_RESERVED),
    ),
    rule(
        "guest-pending-step-missing",
        field::GUEST_PENDING_DEBUG,
        "BS (bit 14), as the guest single-steps and is in a shadow or halted",
        |v| !in_step(v) || !steps(v) || pends(v, SINGLE_STEP),
    ),
    rule(
        "guest-pending-step-wrong",
        field::GUEST_PENDING_DEBUG,
        "no BS (bit 14), as the guest does not single-step and is in a shadow or halted",
        |v| !in_step(v) || steps(v) || !pends(v, SINGLE_STEP),
    ),
    rule(
        "guest-pending-rtm-supported",
        field::GUEST_PENDING_DEBUG,
        "no RTM (bit 16), which the CPU does not have",
        |v| !pends(v, RTM) || v.capabilities.has_rtm,
    ),
    rule(
        "guest-pending-rtm-alone",
        field::GUEST_PENDING_DEBUG,
        "with RTM (bit 16), bits 3 to 0, 11 and 14 are 0",
        |v| !pends(v, RTM) || !pends(v, 0xf | BUS_LOCK | SINGLE_STEP),
    ),
    rule(
        "guest-pending-rtm-enabled",
        field::GUEST_PENDING_DEBUG,
        "with RTM (bit 16), bit 12 is 1",
        |v| !pends(v, RTM) || pends(v, ENABLED),
    ),
    rule(
        "guest-pending-rtm-in-mov-ss",
        field::GUEST_PENDING_DEBUG,
        "no RTM (bit 16), as blocking by MOV SS is on",
        |v| !pends(v, RTM) || !blocks(v, BY_MOV_SS),
    ),
];

/// The link pointer leads to a VMCS, or is all ones.
fn of_link(view: &View<'_>, holds: bool) -> bool {
    view.get(field::VMCS_LINK) == u64::MAX || holds
}

const LINK: &[Rule] = &[
    rule(
        "vmcs-link-aligned",
        field::VMCS_LINK,
        "all ones, or an address whose low 12 bits are 0",
        |v| of_link(v, v.clear(field::VMCS_LINK, 0xfff)),
    ),
    rule(
        "vmcs-link-width",
        field::VMCS_LINK,
        "all ones, or an address within the CPU's physical-address width",
        |v| of_link(v, v.fits(field::VMCS_LINK)),
    ),
    rule(
        "vmcs-link-itself",
        field::VMCS_LINK,
        "all ones, or the address of another VMCS",
        |v| of_link(v, v.get(field::VMCS_LINK) != v.vmcs()),
    ),
];

/// Whether an entry of PAE paging is absent, or has no bit that does not exist.
/// Without EPT they come from memory, and VM entry looks at them there.
fn is_pdpte(view: &View<'_>, entry: Field<W64>) -> bool {
    const PRESENT: u64 = 1;
    const RESERVED: u64 = 0x1e6;
    let pae = view.cr0(Cr0::PG) && !view.clear(field::GUEST_CR4, Cr4::PAE.bits());
    let counts = pae && !view.long_mode() && view.ept() && !view.clear(entry, PRESENT);
    !counts || (view.clear(entry, RESERVED) && view.is_physical(entry))
}

macro_rules! pdptes {
    ($($name:literal $field:ident;)*) => {
        &[$(rule(
            concat!("guest-", $name, "-reserved"),
            field::$field,
            "bits 2, 1, 8 to 5 and those beyond the physical-address width are 0",
            |v| is_pdpte(v, field::$field),
        ),)*]
    };
}

const PDPTES: &[Rule] = pdptes! {
    "pdpte0" GUEST_PDPTE0;
    "pdpte1" GUEST_PDPTE1;
    "pdpte2" GUEST_PDPTE2;
    "pdpte3" GUEST_PDPTE3;
};
