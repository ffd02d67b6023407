//! The rules that VMRUN checks, as a table: what a failed entry broke, by name.
//! AMD APM volume 2, "VMRUN Instruction", "Canonicalization and Consistency
//! Checks".
//!
//! Not checked is that nested paging needs paging in the hypervisor, which is
//! always on.

use super::control::{NESTED_PAGING, intercept4};
use super::vmcb::Vmcb;
use crate::Broken;
use crate::control::{Cr0, Cr4, Efer};
use crate::cpuid::{self, Leaf};
use crate::event;

/// What the rules depend on beside the VMCB.
#[derive(Clone, Copy, Debug)]
pub struct Capabilities {
    /// Bits of a physical address.
    pub physical_bits: u32,
    /// The CPU has long mode.
    pub long_mode: bool,
    /// Bits of CR4 that the CPU has.
    pub cr4: u64,
}

impl Capabilities {
    /// Asks the CPU.
    pub fn read(ask: &dyn Fn(u32, u32) -> Leaf) -> Self {
        let features = ask(cpuid::FEATURES, 0);
        let extended = ask(cpuid::EXTENDED_FEATURES, 0);
        let mut cr4 = ALWAYS.bits();
        for (bit, register, feature) in [
            (Cr4::PCIDE, features.ecx, 17),
            (Cr4::OSXSAVE, features.ecx, 26),
            (Cr4::FSGSBASE, extended.ebx, 0),
            (Cr4::SMEP, extended.ebx, 7),
            (Cr4::SMAP, extended.ebx, 20),
            (Cr4::UMIP, extended.ecx, 2),
            (Cr4::PKE, extended.ecx, 3),
            (Cr4::CET, extended.ecx, 7),
            (Cr4::LA57, extended.ecx, 16),
        ] {
            cr4 |= if register >> feature & 1 != 0 {
                bit.bits()
            } else {
                0
            };
        }
        Self {
            physical_bits: ask(cpuid::ADDRESS_WIDTHS, 0).eax & 0xff,
            long_mode: ask(cpuid::AMD_FEATURES, 0).edx & cpuid::AMD_EDX_LONG_MODE != 0,
            cr4,
        }
    }
}

/// Bits of CR4 that every CPU with SVM has.
const ALWAYS: Cr4 = Cr4::VME
    .union(Cr4::PVI)
    .union(Cr4::TSD)
    .union(Cr4::DE)
    .union(Cr4::PSE)
    .union(Cr4::PAE)
    .union(Cr4::MCE)
    .union(Cr4::PGE)
    .union(Cr4::PCE)
    .union(Cr4::OSFXSR)
    .union(Cr4::OSXMMEXCPT);

/// Bits of EFER that some CPU has. AMD APM volume 2, "Extended Feature Enable
/// Register (EFER)".
const EFER: u64 = 0x36_fd01;

struct Rule {
    name: &'static str,
    field: &'static str,
    value: fn(&Vmcb) -> u64,
    right: &'static str,
    holds: fn(&Vmcb, &Capabilities) -> bool,
}

macro_rules! rules {
    ($($name:literal $area:ident.$field:ident $right:literal $holds:expr;)*) => {
        &[$(Rule {
            name: $name,
            field: concat!(stringify!($area), ".", stringify!($field)),
            value: |vmcb| u64::from(vmcb.$area.$field),
            right: $right,
            holds: $holds,
        },)*]
    };
}

const SECTION: &str = "VMRUN Instruction, Canonicalization and Consistency Checks";

const RULES: &[Rule] = rules! {
    "vmrun-intercept" control.intercept4 "the intercept of VMRUN (bit 0)"
        |v, _| v.control.intercept4 & intercept4::VMRUN != 0;
    "asid-zero" control.asid "an ASID other than 0, which is the hypervisor's"
        |v, _| v.control.asid != 0;
    "io-map-width" control.io_map "12 KiB within the CPU's physical-address width"
        |v, cpu| ends_within(v.control.io_map, 3, cpu);
    "msr-map-width" control.msr_map "8 KiB within the CPU's physical-address width"
        |v, cpu| ends_within(v.control.msr_map, 2, cpu);
    "nested-cr3-width" control.nested_cr3 "an address within the CPU's physical-address width"
        |v, cpu| !is_nested(v) || ends_within(v.control.nested_cr3, 1, cpu);
    "pat-type" save.pat "eight memory types: each byte 0, 1, 4, 5, 6 or 7"
        |v, _| !is_nested(v) || v.save.pat.to_le_bytes().iter().all(|t| matches!(t, 0 | 1 | 4..=7));
    "event-type" control.entry_event "type (bits 10 to 8) 0, 2, 3 or 4"
        |v, _| event(v).is_none_or(|(kind, _)| matches!(kind, 0 | 2..=4));
    "event-exception-vector" control.entry_event "for an exception a vector of at most 31, not 2"
        |v, _| event(v).is_none_or(|(kind, vector)| kind != 3 || (vector < 32 && vector != 2));
    "efer-svme" save.efer "SVME (bit 12)"
        |v, _| v.save.efer & Efer::SVME.bits() != 0;
    "efer-reserved" save.efer "only bits of EFER that exist"
        |v, _| v.save.efer & !EFER == 0;
    "efer-long-mode" save.efer "neither LME nor LMA, as the CPU has no long mode"
        |v, cpu| cpu.long_mode || v.save.efer & (Efer::LME | Efer::LMA).bits() == 0;
    "cr0-upper-half" save.cr0 "bits 63 to 32 are 0"
        |v, _| v.save.cr0 >> 32 == 0;
    "cr0-nw-without-cd" save.cr0 "NW (bit 29) only with CD (bit 30)"
        |v, _| !has_cr0(v, Cr0::NW) || has_cr0(v, Cr0::CD);
    "cr3-reserved" save.cr3 "in long mode, no bit beyond the physical-address width"
        |v, cpu| !is_long(v) || v.save.cr3 >> cpu.physical_bits.clamp(1, 63) == 0;
    "cr4-reserved" save.cr4 "only bits of CR4 that the CPU has"
        |v, cpu| v.save.cr4 & !cpu.cr4 == 0;
    "cr4-cet-needs-write-protect" save.cr4 "CET (bit 23) only with CR0.WP"
        |v, _| v.save.cr4 & Cr4::CET.bits() == 0 || has_cr0(v, Cr0::WP);
    "dr6-upper-half" save.dr6 "bits 63 to 32 are 0"
        |v, _| v.save.dr6 >> 32 == 0;
    "dr7-upper-half" save.dr7 "bits 63 to 32 are 0"
        |v, _| v.save.dr7 >> 32 == 0;
    "long-mode-needs-pae" save.cr4 "PAE (bit 5), as LME and PG are 1"
        |v, _| !is_long(v) || v.save.cr4 & Cr4::PAE.bits() != 0;
    "long-mode-needs-protection" save.cr0 "PE (bit 0), as LME and PG are 1"
        |v, _| !is_long(v) || has_cr0(v, Cr0::PE);
    "code-long-and-big" save.cr4 "CS without both L and D, as the guest is in long mode"
        |v, _| {
            let both = v.save.cs.attributes & CODE_LONG_AND_BIG == CODE_LONG_AND_BIG;
            !is_long(v) || v.save.cr4 & Cr4::PAE.bits() == 0 || !both
        };
};

/// L and D of a segment's attributes.
const CODE_LONG_AND_BIG: u16 = 3 << 9;

fn is_nested(vmcb: &Vmcb) -> bool {
    vmcb.control.nested_control & NESTED_PAGING != 0
}

fn has_cr0(vmcb: &Vmcb, bit: Cr0) -> bool {
    vmcb.save.cr0 & bit.bits() != 0
}

/// Long mode is on as soon as paging is.
fn is_long(vmcb: &Vmcb) -> bool {
    vmcb.save.efer & Efer::LME.bits() != 0 && has_cr0(vmcb, Cr0::PG)
}

/// Type and vector of the event to inject.
fn event(vmcb: &Vmcb) -> Option<(u64, u64)> {
    let word = vmcb.control.entry_event;
    (word & u64::from(event::VALID) != 0).then_some((word >> 8 & 7, word & 0xff))
}

/// Whether `pages` pages from `address` on exist; its low bits do not count.
fn ends_within(address: u64, pages: u64, cpu: &Capabilities) -> bool {
    let last = (address | 0xfff).checked_add((pages - 1) * 0x1000);
    last.is_some_and(|last| last >> cpu.physical_bits.clamp(1, 63) == 0)
}

/// Names every rule that `vmcb` breaks on a CPU with `capabilities`.
pub fn check(vmcb: &Vmcb, capabilities: &Capabilities, broken: &mut dyn FnMut(Broken)) {
    for (number, rule) in RULES.iter().enumerate() {
        if !(rule.holds)(vmcb, capabilities) {
            broken(Broken {
                number,
                rule: rule.name,
                field: rule.field,
                value: (rule.value)(vmcb),
                right: rule.right,
                section: SECTION,
            });
        }
    }
}

/// The name of rule `number`, as [`Broken`] counts them.
pub fn rule_name(number: usize) -> Option<&'static str> {
    RULES.get(number).map(|rule| rule.name)
}

/// A rule, what to change so that it is broken, and who refuses that.
#[derive(Clone, Copy, Debug)]
pub struct Breakage {
    /// The rule.
    pub rule: &'static str,
    /// Breaks it.
    pub change: fn(&mut Vmcb),
    /// QEMU 7.2 refuses it.
    pub qemu: bool,
    /// What Bochs 2.7 says when it refuses it, if it does.
    pub bochs: Option<&'static str>,
}

macro_rules! breakages {
    ($($rule:literal $change:expr, qemu $qemu:literal, bochs $bochs:expr;)*) => {
        &[$(Breakage { rule: $rule, change: $change, qemu: $qemu, bochs: $bochs },)*]
    };
}

/// An address that no CPU has.
const WIDE: u64 = 1 << 52;

/// Each rule broken singly, in a guest in 64-bit mode.
pub const BREAKAGES: &[Breakage] = breakages! {
    "vmrun-intercept" |v| v.control.intercept4 &= !intercept4::VMRUN,
        qemu true, bochs Some("VMRUN intercept bit is not set");
    "asid-zero" |v| v.control.asid = 0,
        qemu true, bochs Some("attempt to run guest with host ASID");
    "io-map-width" |v| v.control.io_map = WIDE,
        qemu true, bochs Some("invalid IOPM Base Address");
    "msr-map-width" |v| v.control.msr_map = WIDE,
        qemu true, bochs Some("invalid MSRPM Base Address");
    "nested-cr3-width" |v| v.control.nested_cr3 |= WIDE,
        qemu false, bochs Some("NCR3 reserved bits set");
    "pat-type" |v| v.save.pat = 2,
        qemu false, bochs Some("invalid memory type in guest PAT_MSR");
    "event-type" |v| v.control.entry_event = u64::from(event::VALID) | 1 << 8,
        qemu false, bochs None;
    "event-exception-vector" |v| v.control.entry_event = u64::from(event::VALID) | 3 << 8 | 2,
        qemu false, bochs None;
    "efer-svme" |v| v.save.efer &= !Efer::SVME.bits(),
        qemu true, bochs Some("Guest EFER.SVME = 0");
    "efer-reserved" |v| v.save.efer |= 1 << 40,
        qemu true, bochs Some("Guest EFER[63:32] is not zero");
    "efer-reserved" |v| v.save.efer |= 1 << 1,
        qemu true, bochs Some("Guest EFER reserved bits set");
    "cr0-upper-half" |v| v.save.cr0 |= 1 << 32,
        qemu true, bochs Some("Guest CR0[63:32] is not zero");
    "cr0-nw-without-cd" |v| v.save.cr0 = v.save.cr0 & !Cr0::CD.bits() | Cr0::NW.bits(),
        qemu true, bochs None;
    "cr3-reserved" |v| v.save.cr3 |= WIDE,
        qemu true, bochs None;
    "cr4-reserved" |v| v.save.cr4 |= 1 << 40,
        qemu true, bochs Some("Guest CR4[63:32] is not zero");
    "cr4-reserved" |v| v.save.cr4 |= 1 << 15,
        qemu true, bochs Some("Guest CR4 reserved bits set");
    "dr6-upper-half" |v| v.save.dr6 |= 1 << 32,
        qemu true, bochs Some("Guest DR6[63:32] is not zero");
    "dr7-upper-half" |v| v.save.dr7 |= 1 << 32,
        qemu true, bochs Some("Guest DR7[63:32] is not zero");
    "long-mode-needs-pae" |v| v.save.cr4 &= !Cr4::PAE.bits(),
        qemu true, bochs None;
    "long-mode-needs-protection" |v| v.save.cr0 &= !Cr0::PE.bits(),
        qemu true, bochs None;
    "code-long-and-big" |v| v.save.cs.attributes |= CODE_LONG_AND_BIG,
        qemu true, bochs Some("VMCB CS.D_B/L mismatch");
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segment::Segment;
    use crate::svm::vmcb::blank;
    use std::collections::BTreeSet;

    const CPU: Capabilities = Capabilities {
        physical_bits: 40,
        long_mode: true,
        cr4: 0x7ff | 1 << 23,
    };

    fn good() -> Vmcb {
        let mut vmcb = blank();
        vmcb.control.intercept4 = intercept4::VMRUN;
        vmcb.control.asid = 1;
        vmcb.control.nested_control = NESTED_PAGING;
        vmcb.control.nested_cr3 = 0x2000;
        vmcb.save.pat = 0x0007_0406_0007_0406;
        vmcb.save.efer = 0x1d01;
        vmcb.save.cr0 = 0x8001_0033;
        vmcb.save.cr4 = 0x660;
        vmcb.save.dr6 = 0xffff_0ff0;
        vmcb.save.dr7 = 0x400;
        vmcb.save.cs = Segment::from_descriptor(0x38, 0x00af_9b00_0000_ffff, 0).into();
        vmcb
    }

    fn broken_by(vmcb: &Vmcb, cpu: &Capabilities) -> Vec<Broken> {
        let mut found = Vec::new();
        check(vmcb, cpu, &mut |broken| found.push(broken));
        found
    }

    #[test]
    fn good_states_break_nothing() {
        assert_eq!(broken_by(&good(), &CPU), []);
        let mut real = good();
        real.save.cr0 = 0x10;
        real.save.efer = Efer::SVME.bits();
        real.save.cr4 = 0;
        assert_eq!(broken_by(&real, &CPU), []);
    }

    #[test]
    fn each_rule_is_broken_singly() {
        for row in BREAKAGES {
            let mut vmcb = good();
            (row.change)(&mut vmcb);
            let broken = broken_by(&vmcb, &CPU);
            let names: Vec<_> = broken.iter().map(|broken| broken.rule).collect();
            assert_eq!(names, [row.rule]);
        }
    }

    #[test]
    fn every_rule_has_a_breakage_that_a_cpu_like_ours_can_have() {
        let broken: BTreeSet<_> = BREAKAGES.iter().map(|row| row.rule).collect();
        let all: BTreeSet<_> = RULES.iter().map(|rule| rule.name).collect();
        let rest: Vec<_> = all.difference(&broken).copied().collect();
        assert_eq!(rest, ["cr4-cet-needs-write-protect", "efer-long-mode"]);
        assert_eq!(all.len(), RULES.len());
    }

    #[test]
    fn rules_of_other_cpus() {
        let mut vmcb = good();
        vmcb.save.cr4 |= Cr4::CET.bits();
        assert_eq!(broken_by(&vmcb, &CPU), []);
        vmcb.save.cr0 &= !Cr0::WP.bits();
        assert_eq!(
            broken_by(&vmcb, &CPU)[0].rule,
            "cr4-cet-needs-write-protect"
        );
        let old = Capabilities {
            long_mode: false,
            ..CPU
        };
        assert_eq!(broken_by(&good(), &old)[0].rule, "efer-long-mode");
    }

    #[test]
    fn the_maps_end_within_the_width() {
        for (address, whole) in [((1 << 40) - 0x3000, true), ((1 << 40) - 0x2000, false)] {
            let mut vmcb = good();
            vmcb.control.io_map = address;
            assert_eq!(broken_by(&vmcb, &CPU).is_empty(), whole, "{address:#x}");
        }
    }
}
