//! The firmware's memory map: where memory ends, and where the hypervisor's
//! region can go.

use abi::handoff::{MEMORY_MAX, Memory};
use alloc::vec::Vec;
use core::cmp::Reverse;

/// The region lies below 4 GiB, where every firmware maps its memory.
const REGION_END: u64 = 4 << 30;

/// What a range of the map is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Memory that nobody uses.
    Free,
    /// Memory that somebody uses.
    Used,
    /// Registers of devices, or nothing.
    Other,
}

/// A range of physical addresses.
#[derive(Clone, Copy, Debug)]
pub struct Range {
    /// Its first byte.
    pub start: u64,
    /// The byte after its last.
    pub end: u64,
    /// What it is.
    pub kind: Kind,
}

/// End of the highest range that is memory.
pub fn end(map: &[Range]) -> u64 {
    let memory = map.iter().filter(|range| range.kind != Kind::Other);
    memory.map(|range| range.end).max().unwrap_or(0)
}

/// The ranges that are memory, neighbours joined, in the order of their
/// addresses. Where there are more than a handoff can name, the smallest are
/// left out: a service then cannot reach what lies there.
pub fn ranges(map: &[Range]) -> [Memory; MEMORY_MAX] {
    let memory = map.iter().filter(|range| range.kind != Kind::Other);
    let mut sorted: Vec<Memory> = memory
        .filter(|range| range.start < range.end)
        .map(|range| Memory {
            start: range.start,
            end: range.end,
        })
        .collect();
    sorted.sort_unstable_by_key(|range| range.start);
    let mut joined: Vec<Memory> = Vec::new();
    for range in sorted {
        match joined.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => joined.push(range),
        }
    }
    joined.sort_unstable_by_key(|range| Reverse(range.end - range.start));
    joined.truncate(MEMORY_MAX);
    joined.sort_unstable_by_key(|range| range.start);
    let mut ranges = [Memory::default(); MEMORY_MAX];
    for (place, range) in ranges.iter_mut().zip(joined) {
        *place = range;
    }
    ranges
}

/// Multiples of `align` where `size` bytes are free, the highest first: low
/// memory is what kernels and other loaders want for themselves. One for each
/// range, because the firmware may refuse a range for reasons of its own.
pub fn places(map: &[Range], size: u64, align: u64) -> Vec<u64> {
    let place = |range: &Range| {
        let (start, end) = usable(range, align)?;
        let base = end.checked_sub(size)?;
        (base >= start).then_some(base - base % align)
    };
    let mut places: Vec<u64> = map.iter().filter_map(place).collect();
    places.sort_unstable_by(|one, other| other.cmp(one));
    places
}

/// The most bytes that a region could have.
pub fn largest(map: &[Range], align: u64) -> u64 {
    let usable = map.iter().filter_map(|range| usable(range, align));
    let size = |(start, end): (u64, u64)| end.saturating_sub(start);
    usable.map(size).max().unwrap_or(0)
}

/// The aligned part of a free range, without address 0, which firmware keeps
/// unmapped to catch null pointers.
fn usable(range: &Range, align: u64) -> Option<(u64, u64)> {
    let start = range.start.max(1).checked_next_multiple_of(align)?;
    let end = range.end.min(REGION_END);
    let end = end - end % align;
    (range.kind == Kind::Free && start < end).then_some((start, end))
}
