//! Tests that need more than one boot, by the name in the table's `check`.

mod broken_entries;
mod differences;
mod no_periodic_exits;
mod same_as_native;
mod soak;
pub mod transcript;
mod whole_trace;

use anyhow::{Result, bail};

use super::case::Bench;
use super::table::Row;
use crate::machine::Machine;

/// Runs the check called `name`.
pub fn run(name: &str, bench: &Bench, row: &Row, machine: Machine) -> Result<()> {
    match name {
        "costs" => crate::bench::check(bench, row, machine),
        "broken-entries" => broken_entries::run(bench, row, machine),
        "no-periodic-exits" => no_periodic_exits::run(bench, row, machine),
        "whole-trace" => whole_trace::run(bench, row, machine),
        "same-as-native" => same_as_native::run(bench, row, machine),
        "soak" => soak::run(bench, row, machine),
        _ => bail!("there is no check called `{name}` in xtask/src/test/checks"),
    }
}
