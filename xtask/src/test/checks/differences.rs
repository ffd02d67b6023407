//! Every difference between a guest's findings with Underlay and without that
//! must be, with its reason. A difference that is not here fails its test.

use crate::machine::Machine;

/// Findings of a guest that may differ.
struct Difference {
    guest: &'static str,
    machine: Option<Machine>,
    names: Names,
    reason: &'static str,
}

/// Names of findings.
enum Names {
    /// That begin so.
    Of(&'static str),
    /// That are these numbers in hexadecimal, and those between.
    Numbers(u32, u32),
}

use Names::{Numbers, Of};

const fn on(
    machine: Option<Machine>,
    guest: &'static str,
    names: Names,
    reason: &'static str,
) -> Difference {
    Difference {
        guest,
        machine,
        names,
        reason,
    }
}

const BOTH: Option<Machine> = None;
const VTX: Option<Machine> = Some(Machine::Vtx);
const SVM: Option<Machine> = Some(Machine::Svm);

const MSR: &str = "hostile-msr";
const INSTRUCTION: &str = "hostile-vmx-svm";

const NO_CET: &str = "control-flow enforcement, which exits do not switch, is hidden";
const NO_LOWER: &str = "a hypervisor below Underlay is out of its guest's reach";
const NO_SVM: &str = "SVM is hidden, and looks locked off";
const NO_VMX: &str = "VMX is hidden, and looks locked off";
const NO_STORES: &str = "what stores to untranslated or to anybody's addresses is hidden";
const NO_STATE: &str = "what has state that exits do not switch is hidden";
const CHECKED: &str = "the emulator has no such register and takes anything for it; Underlay \
                       keeps the bits that it must";
const CALLS: &str = "this is the instruction of calls";
const SCRAP: &str = "its operand is Underlay's memory, in whose place there is a scrap page";

static DIFFERENCES: &[Difference] = &[
    on(BOTH, MSR, Numbers(0x6a0, 0x6a8), NO_CET),
    on(BOTH, MSR, Numbers(0x4000_0000, 0x4000_ffff), NO_LOWER),
    on(BOTH, MSR, Numbers(0x4b56_4d00, 0x4b56_4dff), NO_LOWER),
    on(SVM, MSR, Numbers(0xda0, 0xda0), CHECKED),
    on(SVM, MSR, Numbers(0xc001_0114, 0xc001_0114), NO_SVM),
    on(SVM, MSR, Numbers(0xc001_0117, 0xc001_0119), NO_SVM),
    on(VTX, MSR, Numbers(0x33, 0x33), CHECKED),
    on(VTX, MSR, Numbers(0x3a, 0x3a), NO_VMX),
    on(VTX, MSR, Numbers(0x9b, 0x9b), NO_VMX),
    on(VTX, MSR, Numbers(0x480, 0x493), NO_VMX),
    on(VTX, MSR, Numbers(0x1a0, 0x1a0), NO_STORES),
    on(VTX, MSR, Numbers(0x3f1, 0x3f1), NO_STORES),
    on(VTX, MSR, Numbers(0x560, 0x58f), NO_STORES),
    on(VTX, MSR, Numbers(0x600, 0x600), NO_STORES),
    on(VTX, MSR, Numbers(0x17d0, 0x17d4), NO_STORES),
    on(VTX, MSR, Numbers(0x6e1, 0x6e1), NO_STATE),
    on(VTX, MSR, Numbers(0x985, 0x98a), NO_STATE),
    on(VTX, MSR, Numbers(0x1200, 0x121f), NO_STATE),
    on(VTX, MSR, Numbers(0x14ce, 0x14cf), NO_STATE),
    on(VTX, MSR, Numbers(0x1500, 0x161f), NO_STATE),
    on(VTX, MSR, Numbers(0x982, 0x984), CHECKED),
    on(SVM, INSTRUCTION, Of("VMMCALL-"), CALLS),
    on(VTX, INSTRUCTION, Of("VMCALL-"), CALLS),
    on(VTX, INSTRUCTION, Of("cr4-13-"), NO_VMX),
    on(VTX, INSTRUCTION, Of("INVPCID-ring0-64bit"), SCRAP),
];

/// Why finding `name` of `guest` may differ, if it may.
pub fn reason(guest: &str, machine: Machine, name: &str) -> Option<&'static str> {
    let found = DIFFERENCES.iter().find(|one| {
        let here = one.machine.is_none_or(|only| only == machine);
        one.guest == guest && here && one.names.has(name)
    });
    found.map(|one| one.reason)
}

impl Names {
    fn has(&self, name: &str) -> bool {
        match *self {
            Self::Of(prefix) => name.starts_with(prefix),
            Self::Numbers(first, last) => {
                let number = u32::from_str_radix(name.trim_start_matches("0x"), 16);
                number.is_ok_and(|number| (first..=last).contains(&number))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_is_of_one_machine_and_one_guest() {
        assert!(reason(MSR, Machine::Vtx, "0x00000480").is_some());
        assert!(reason(MSR, Machine::Svm, "0x00000480").is_none());
        assert!(reason(INSTRUCTION, Machine::Vtx, "0x00000480").is_none());
        assert!(reason(MSR, Machine::Vtx, "0x00000494").is_none());
    }

    #[test]
    fn names_are_told_from_longer_ones() {
        assert!(reason(INSTRUCTION, Machine::Svm, "VMMCALL-ring3-64bit").is_some());
        assert!(reason(INSTRUCTION, Machine::Svm, "VMCALL-ring3-64bit").is_none());
    }
}
