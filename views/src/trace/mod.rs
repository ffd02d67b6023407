//! A trace of exits, and what is missing from it.

pub mod json;
pub mod list;
pub mod summary;

use std::collections::BTreeMap;

use abi::report::Record;

/// The trace of every CPU.
#[derive(Debug, Default)]
pub struct Trace<'a> {
    /// By their numbers.
    pub cpus: BTreeMap<u32, Cpu<'a>>,
}

/// The trace of one CPU.
#[derive(Debug, Default)]
pub struct Cpu<'a> {
    /// Ticks a second; 0 if nobody says it.
    pub hz: u64,
    /// In the order of their numbers.
    pub records: Vec<Record<'a>>,
    /// Records before the last one that the hypervisor overwrote before
    /// somebody asked for them.
    pub overwritten: u64,
    /// Records that it wrote and that did not arrive whole.
    pub damaged: u64,
}
