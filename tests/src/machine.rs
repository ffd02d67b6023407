//! What the guest knows of the machine that it runs on.

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

/// Whether this is Bochs with `ignore_bad_msrs`, where an MSR that does not
/// exist reads as zero: leaf 0x40000000 is never a hypervisor's there, but the
/// MSR itself tells. See the guest `msr`.
pub const UNKNOWN_MSR: u32 = 0x0000_1fff;

/// The ranges that the firmware's memory map reports as reserved and that
/// could be Underlay's: base and size are multiples of its alignment.
///
/// # Panics
///
/// If the firmware gives no memory map.
pub fn reserved_ranges() -> alloc::vec::Vec<Range> {
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
