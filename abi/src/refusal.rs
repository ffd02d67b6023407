//! Why a machine cannot run Underlay: one clear sentence for the console each,
//! which names the cause and what to do.

use core::fmt;

/// A cause, with what the sentence about it needs to say.
// The fields are what the variant's sentence names in brackets.
#[allow(missing_docs)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The CPU has neither VT-x nor AMD-V, or does not show it.
    NoVirtualisation,
    /// The firmware locked VT-x off in an MSR (its number, its value).
    VtxLockedOff { value: u64 },
    /// The firmware disabled AMD-V in VM_CR (its value).
    SvmDisabled { value: u64 },
    /// VT-x without EPT, or without a kind of EPT that is needed.
    NoEpt,
    /// VT-x without unrestricted guest.
    NoUnrestrictedGuest,
    /// VT-x without VPID.
    NoVpid,
    /// VT-x without another control (the capability MSR, the bits that lack).
    NoVtxControl { msr: u64, bits: u64 },
    /// AMD-V without nested paging.
    NoNestedPaging,
    /// Memory for the hypervisor could not be had (bytes wanted, bytes given).
    TooLittleMemory { wanted: u64, given: u64 },
    /// More CPUs than are handled (enabled ones, handled ones).
    TooManyCpus { enabled: u64, handled: u64 },
    /// Loader and hypervisor are of different versions.
    VersionMismatch { loader: u64, hypervisor: u64 },
    /// Underlay, or another hypervisor that shows VMX or SVM in use, is beneath.
    AlreadyRunning,
    /// The first VM entry failed (the vendor's code, and a detail).
    EntryFailed { code: u64, detail: u64 },
    /// Another CPU could not be taken along (its number).
    NotTogether { number: u64 },
    /// The firmware switched CPUs off, which it keeps in its own code (how many).
    DisabledCpus { disabled: u64 },
    /// A local APIC is off, or not where every one is after reset
    /// (IA32_APIC_BASE).
    ApicMoved { value: u64 },
    /// A code that this version does not know.
    Other { code: u64, detail: [u64; 2] },
}

impl Refusal {
    /// The number that the hypervisor's entry point returns (never 0), and
    /// `Handoff::detail`.
    pub const fn encode(self) -> (u64, [u64; 2]) {
        match self {
            Self::NoVirtualisation => (1, [0, 0]),
            Self::VtxLockedOff { value } => (2, [value, 0]),
            Self::SvmDisabled { value } => (3, [value, 0]),
            Self::NoEpt => (4, [0, 0]),
            Self::NoUnrestrictedGuest => (5, [0, 0]),
            Self::NoVpid => (6, [0, 0]),
            Self::NoVtxControl { msr, bits } => (7, [msr, bits]),
            Self::NoNestedPaging => (8, [0, 0]),
            Self::TooLittleMemory { wanted, given } => (9, [wanted, given]),
            Self::TooManyCpus { enabled, handled } => (10, [enabled, handled]),
            Self::VersionMismatch { loader, hypervisor } => (11, [loader, hypervisor]),
            Self::AlreadyRunning => (12, [0, 0]),
            Self::EntryFailed { code, detail } => (13, [code, detail]),
            Self::NotTogether { number } => (14, [number, 0]),
            Self::DisabledCpus { disabled } => (15, [disabled, 0]),
            Self::ApicMoved { value } => (16, [value, 0]),
            Self::Other { code, detail } => (code, detail),
        }
    }

    /// The refusal behind a non-zero return value and `Handoff::detail`.
    pub const fn decode(code: u64, detail: [u64; 2]) -> Self {
        let [first, second] = detail;
        match code {
            1 => Self::NoVirtualisation,
            2 => Self::VtxLockedOff { value: first },
            3 => Self::SvmDisabled { value: first },
            4 => Self::NoEpt,
            5 => Self::NoUnrestrictedGuest,
            6 => Self::NoVpid,
            7 => Self::NoVtxControl {
                msr: first,
                bits: second,
            },
            8 => Self::NoNestedPaging,
            9 => Self::TooLittleMemory {
                wanted: first,
                given: second,
            },
            10 => Self::TooManyCpus {
                enabled: first,
                handled: second,
            },
            11 => Self::VersionMismatch {
                loader: first,
                hypervisor: second,
            },
            12 => Self::AlreadyRunning,
            13 => Self::EntryFailed {
                code: first,
                detail: second,
            },
            14 => Self::NotTogether { number: first },
            15 => Self::DisabledCpus { disabled: first },
            16 => Self::ApicMoved { value: first },
            _ => Self::Other { code, detail },
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::NoVirtualisation => write!(
                f,
                "this CPU shows neither VT-x nor AMD-V: switch virtualisation on in the firmware's set-up, or use another machine"
            ),
            Self::VtxLockedOff { value } => write!(
                f,
                "the firmware locked VT-x off (MSR 0x3a IA32_FEATURE_CONTROL = {value:#x}: bit 0 lock is set, bit 2 VMX outside SMX is clear): switch virtualisation on in its set-up"
            ),
            Self::SvmDisabled { value } => write!(
                f,
                "the firmware disabled AMD-V (MSR 0xc0010114 VM_CR = {value:#x}: bit 4 SVMDIS is set): switch SVM on in its set-up"
            ),
            Self::NoEpt => write!(
                f,
                "this CPU's VT-x lacks EPT with write-back tables of four levels and 2 MiB pages: use a CPU of 2010 or later"
            ),
            Self::NoUnrestrictedGuest => write!(
                f,
                "this CPU's VT-x lacks unrestricted guest: use a CPU of 2010 or later"
            ),
            Self::NoVpid => write!(
                f,
                "this CPU's VT-x lacks VPID with its invalidations: use a CPU of 2010 or later"
            ),
            Self::NoVtxControl { msr, bits } => write!(
                f,
                "this CPU's VT-x lacks controls that Underlay needs (capability MSR {msr:#x}, bits {bits:#x}): please report the CPU's model"
            ),
            Self::NoNestedPaging => write!(
                f,
                "this CPU's AMD-V lacks nested paging: use a CPU of 2008 or later"
            ),
            Self::TooLittleMemory { wanted, given } => write!(
                f,
                "too little memory: {} KiB wanted, {} KiB to be had: check `memory` in underlay.conf, or give the machine more",
                wanted / 1024,
                given / 1024
            ),
            Self::TooManyCpus { enabled, handled } => write!(
                f,
                "this machine has {enabled} CPUs and Underlay may have {handled}: see `cpus` in underlay.conf, or switch the others off in the firmware's set-up"
            ),
            Self::VersionMismatch { loader, hypervisor } => write!(
                f,
                "underlay.efi speaks handoff version {loader} and underlay.elf {hypervisor}: install both from the same release"
            ),
            Self::AlreadyRunning => {
                write!(f, "Underlay is beneath this machine already: nothing to do")
            }
            Self::EntryFailed { code, detail } => write!(
                f,
                "the first VM entry failed (code {code:#x}, detail {detail:#x}): please report this with the log"
            ),
            Self::NotTogether { number } => write!(
                f,
                "CPU {number} could not be taken along with the others: please report this with the log"
            ),
            Self::DisabledCpus { disabled } => write!(
                f,
                "{disabled} CPUs of this machine are switched off by its firmware but still run its code, where an operating system could take them: switch them on in its set-up, or off for good"
            ),
            Self::ApicMoved { value } => write!(
                f,
                "a CPU's local APIC is off or was moved (MSR 0x1b IA32_APIC_BASE = {value:#x}): please report the machine's model and firmware version, or leave it one CPU"
            ),
            Self::Other {
                code,
                detail: [first, second],
            } => write!(
                f,
                "the hypervisor refused with the unknown code {code} ({first:#x}, {second:#x}): install loader and hypervisor from the same release"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_decodes_to_what_encodes_it() {
        for code in 1..32 {
            let (back, detail) = Refusal::decode(code, [7, 9]).encode();
            assert_eq!(back, code);
            assert!(detail == [7, 9] || detail == [7, 0] || detail == [0, 0]);
        }
    }
}
