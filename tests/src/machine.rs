//! What the guest knows of the machine that it runs on.

use crate::attempt;
use crate::cpu;
use alloc::vec::Vec;
use core::fmt;
use uefi::boot::MemoryType;
use uefi::mem::memory_map::MemoryMap;

/// A range of physical addresses, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// First address.
    pub base: u64,
    /// Size.
    pub size: u64,
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}-{:#x}", self.base, self.base + self.size - 1)
    }
}

/// The ranges that the firmware's memory map reports as reserved and that could
/// be Underlay's, whose base and size are multiples of 2 MiB.
///
/// # Panics
///
/// If the firmware gives no memory map.
pub fn reserved_ranges() -> Vec<Range> {
    let map = uefi::boot::memory_map(MemoryType::LOADER_DATA).expect("a memory map");
    let reserved = map
        .entries()
        .filter(|entry| entry.ty == MemoryType::RESERVED);
    let ranges = reserved.map(|entry| Range {
        base: entry.phys_start,
        size: entry.page_count * 4096,
    });
    ranges.filter_map(aligned_part).collect()
}

/// The firmware merges neighbours of one type: the aligned part inside.
fn aligned_part(range: Range) -> Option<Range> {
    const ALIGN: u64 = abi::handoff::REGION_ALIGN;
    let base = range.base.next_multiple_of(ALIGN);
    let end = (range.base + range.size) / ALIGN * ALIGN;
    let size = end.checked_sub(base).filter(|size| *size > 0)?;
    Some(Range { base, size })
}

/// Whether an MSR that does not exist reads as zero here, as in QEMU and in
/// Bochs with `ignore_bad_msrs=1`; real CPUs raise #GP.
pub fn tolerates_unknown_msrs() -> bool {
    // The last number of the first block of MSRs; no CPU has it.
    const UNKNOWN: u32 = 0x1fff;
    // SAFETY: reading changes nothing.
    attempt(|| unsafe { cpu::rdmsr(UNKNOWN) }).is_ok()
}

/// Whether the CPU checks what is written to control registers and MSRs. QEMU
/// 7.2 takes nonsense in most of them, and repeats a write of a reserved bit of
/// CR4 for ever, so that a guest cannot even try.
pub fn checks_what_is_written() -> bool {
    !is_qemu()
}

/// Whether hardware tasks are switched as CPUs do it. QEMU 7.2 raises a fault of
/// the new task at the instruction that switched, but with the new task's
/// registers; it has no debug trap flag, does not set RF in what a fault saves,
/// and lets a 16-bit task see upper halves of the registers before.
pub fn switches_tasks_exactly() -> bool {
    !is_qemu()
}

/// Whether QEMU's firmware-configuration device is here and says so.
pub fn is_qemu() -> bool {
    const SELECTOR: u16 = 0x510;
    const DATA: u16 = 0x511;
    const SIGNATURE: u16 = 0;
    // SAFETY: the firmware selects an item anew whenever it reads one.
    unsafe {
        cpu::outw(SELECTOR, SIGNATURE);
        [(); 4].map(|()| cpu::inb(DATA)) == *b"QEMU"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn the_aligned_part_of_a_merged_range_is_found() {
        let aligned = |base, size| aligned_part(Range { base, size });
        let range = |base, size| Some(Range { base, size });
        assert_eq!(aligned(4 * MIB, 2 * MIB), range(4 * MIB, 2 * MIB));
        assert_eq!(aligned(3 * MIB, 6 * MIB), range(4 * MIB, 4 * MIB));
        assert_eq!(aligned(3 * MIB, 2 * MIB), None);
        assert_eq!(aligned(0x1000, 0x1000), None);
    }
}
