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

const DIFFERENCES: [Difference; 0] = [];

/// Why finding `name` of `guest` may differ, if it may.
pub fn reason(guest: &str, machine: Machine, name: &str) -> Option<&'static str> {
    let found = DIFFERENCES.iter().find(|one| {
        let here = one.machine.is_none_or(|only| only == machine);
        one.guest == guest && here && name.starts_with(one.prefix)
    });
    found.map(|one| one.reason)
}
