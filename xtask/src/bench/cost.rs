//! What one operation costs, as the guest says it and as files keep it.

use serde::{Deserialize, Serialize};

use crate::machine::Machine;

/// What one operation costs on one machine.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Cost {
    /// `vtx` or `svm`.
    pub machine: String,
    /// What was done.
    pub operation: String,
    /// The least of many singles.
    pub min: u64,
    /// Their median.
    pub median: u64,
    /// The median of the same without Underlay, where there is such a thing.
    pub native: Option<u64>,
    /// Of all three.
    pub unit: String,
}

impl Cost {
    /// Whether both are of the same operation on the same machine.
    pub fn is_of(&self, other: &Self) -> bool {
        self.machine == other.machine && self.operation == other.operation
    }
}

/// What the guest on `machine` says in `output`.
pub fn read(machine: Machine, output: &str) -> Vec<Cost> {
    let lines = output.lines();
    lines.filter_map(|line| parse(machine, line)).collect()
}

/// `cost: NAME MIN MEDIAN UNIT`.
fn parse(machine: Machine, line: &str) -> Option<Cost> {
    let mut words = line.trim_end().strip_prefix("cost: ")?.split(' ');
    Some(Cost {
        machine: machine.name().to_owned(),
        operation: words.next()?.to_owned(),
        min: words.next()?.parse().ok()?,
        median: words.next()?.parse().ok()?,
        native: None,
        unit: words.next()?.to_owned(),
    })
}
