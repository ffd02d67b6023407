//! What one operation costs, as the guest says it and as files keep it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use super::operation::{self, Operation};
use crate::machine::Machine;
use crate::paths;

/// What one operation costs on one machine.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Cost {
    /// `vtx` or `svm`.
    pub machine: String,
    /// What was done.
    pub operation: String,
    /// The least of many singles, or boots.
    pub min: u64,
    /// Their median.
    pub median: u64,
    /// The same without Underlay, where there is such a thing: the median of
    /// singles, the least of boots.
    pub native: Option<u64>,
    /// Of all three.
    pub unit: String,
}

impl Cost {
    /// Whether both are of the same operation on the same machine.
    pub fn is_of(&self, other: &Self) -> bool {
        self.machine == other.machine && self.operation == other.operation
    }

    /// Its row of the table of operations, which is there for every measured one.
    pub fn row(&self) -> Option<&'static Operation> {
        operation::named(&self.operation)
    }
}

/// What the guest on `machine` says in `output`.
pub fn read(machine: Machine, output: &str) -> Result<Vec<Cost>> {
    let lines = output.lines();
    let costs: Vec<Cost> = lines.filter_map(|line| parse(machine, line)).collect();
    ensure!(!costs.is_empty(), "the guest measured nothing");
    for cost in &costs {
        let name = &cost.operation;
        ensure!(
            cost.row().is_some(),
            "`{name}` has no row in xtask/src/bench/operation.rs"
        );
    }
    Ok(costs)
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

/// The file that keeps what was measured when somebody saved it last.
pub fn baseline_path() -> PathBuf {
    paths::workspace().join("bench/baseline.json")
}

/// What it holds; nothing at first.
pub fn baseline() -> Result<Vec<Cost>> {
    saved(&baseline_path())
}

/// The rows of the file at `path`, if there is one.
pub fn saved<T: for<'a> Deserialize<'a>>(path: &Path) -> Result<Vec<T>> {
    if !path.exists() {
        return Ok(Vec::new());
    }
    let text = fs::read_to_string(path)?;
    serde_json::from_str(&text).with_context(|| format!("in {}", paths::shown(path)))
}

/// Writes one array with a row on each line.
pub fn save<T: Serialize>(path: &Path, rows: &[T]) -> Result<()> {
    let rows: Vec<String> = rows
        .iter()
        .map(serde_json::to_string)
        .collect::<Result<_, _>>()?;
    let text = format!("[\n{}\n]\n", rows.join(",\n"));
    fs::write(path, text).with_context(|| format!("writing {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_guest_says_is_read() {
        let costs = read(Machine::Svm, "ok ping\r\ncost: ping 90 91 ticks\r\n").unwrap();
        assert_eq!((costs[0].min, costs[0].median), (90, 91));
        assert!(read(Machine::Svm, "ok ping\n").is_err());
        assert!(read(Machine::Svm, "cost: unheard-of 1 1 ticks\n").is_err());
    }
}
