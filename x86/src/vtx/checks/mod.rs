//! The rules that a VM entry checks, as tables: what a failed entry broke, by
//! name. The manual's order is kept, section by section. Intel SDM volume 3,
//! "VM Entries".
//!
//! Not checked is what needs memory beside the VMCS: the TPR threshold against
//! the virtual TPR, the revision of a VMCS that the link pointer names, and
//! PDPTEs that come from memory because EPT is off.

pub mod breakages;
mod capabilities;
mod entry_controls;
mod execution_controls;
mod exit_controls;
mod guest_registers;
mod guest_segments;
mod guest_state;
mod host;
mod snapshot;
mod view;

use super::field::{self, Field, Width};
use crate::Broken;
pub use capabilities::Capabilities;
pub use snapshot::Snapshot;
use view::View;

/// One rule: a row of a section's table.
struct Rule {
    name: &'static str,
    /// Encoding of the field that is shown.
    field: u64,
    right: &'static str,
    holds: fn(&View<'_>) -> bool,
}

const fn rule<W: Width, D>(
    name: &'static str,
    field: Field<W, D>,
    right: &'static str,
    holds: fn(&View<'_>) -> bool,
) -> Rule {
    Rule {
        name,
        field: field.encoding(),
        right,
        holds,
    }
}

/// A section of the manual with its rules, in tables.
struct Section {
    title: &'static str,
    rules: &'static [&'static [Rule]],
}

const SECTIONS: &[Section] = &[
    execution_controls::SECTION,
    exit_controls::SECTION,
    entry_controls::SECTION,
    host::REGISTERS,
    host::SEGMENTS,
    host::ADDRESS_SPACE,
    guest_registers::SECTION,
    guest_segments::SECTION,
    guest_state::DESCRIPTOR_TABLES,
    guest_state::INSTRUCTION_POINTER,
    guest_state::NON_REGISTER,
    guest_state::PAGE_DIRECTORY_POINTERS,
];

fn rules() -> impl Iterator<Item = (&'static Rule, &'static str)> {
    SECTIONS.iter().flat_map(|section| {
        let rules = section.rules.iter().copied().flatten();
        rules.map(|rule| (rule, section.title))
    })
}

/// How many rules there are.
pub fn count() -> usize {
    rules().count()
}

/// The name of rule `number`, as [`Broken`] counts them.
pub fn rule_name(number: usize) -> Option<&'static str> {
    rules().nth(number).map(|(rule, _)| rule.name)
}

/// Names every rule that `snapshot` breaks on a CPU with `capabilities`.
pub fn check(snapshot: &Snapshot, capabilities: &Capabilities, broken: &mut dyn FnMut(Broken)) {
    let view = View::new(snapshot, capabilities);
    for (number, (rule, section)) in rules().enumerate() {
        if (rule.holds)(&view) {
            continue;
        }
        broken(Broken {
            number,
            rule: rule.name,
            field: field::name(rule.field),
            value: snapshot.value(rule.field),
            right: rule.right,
            section,
        });
    }
}

#[cfg(test)]
mod tests;
