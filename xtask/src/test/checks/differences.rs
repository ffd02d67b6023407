//! Every difference between a guest's findings with Underlay and without that
//! must be, with its reason. A difference that is not here fails its test.

use crate::machine::Machine;

/// Findings of a guest that may differ.
struct Difference {
    guest: &'static str,
    machine: Option<Machine>,
    /// The name's beginning.
    prefix: &'static str,
    reason: &'static str,
}

const fn on(
    machine: Option<Machine>,
    guest: &'static str,
    prefix: &'static str,
    reason: &'static str,
) -> Difference {
    Difference {
        guest,
        machine,
        prefix,
        reason,
    }
}

const BOTH: Option<Machine> = None;
const VTX: Option<Machine> = Some(Machine::Vtx);
const SVM: Option<Machine> = Some(Machine::Svm);

const MSR: &str = "hostile-msr";
const NO_CET: &str = "control-flow enforcement, which exits do not switch, is hidden";
const NO_LOWER: &str = "a hypervisor below Underlay is out of its guest's reach";
const NO_SVM: &str = "SVM is hidden, and looks locked off";

const XSS: &str = "QEMU 7.2 has no such register and takes anything for it";

const DIFFERENCES: [Difference; 6] = [
    on(BOTH, MSR, "0x4000", NO_LOWER),
    on(BOTH, MSR, "0x4b564d", NO_LOWER),
    on(BOTH, MSR, "0x000006a", NO_CET),
    on(SVM, MSR, "0xc0010114", NO_SVM),
    on(SVM, MSR, "0xc001011", NO_SVM),
    on(SVM, MSR, "0x00000da0", XSS),
];

/// Why finding `name` of `guest` may differ, if it may.
pub fn reason(guest: &str, machine: Machine, name: &str) -> Option<&'static str> {
    let found = DIFFERENCES.iter().find(|one| {
        let here = one.machine.is_none_or(|only| only == machine);
        one.guest == guest && here && name.starts_with(one.prefix)
    });
    found.map(|one| one.reason)
}
