//! The memory that the hypervisor lives in: of a type that operating systems
//! leave alone, at a multiple of the large-page size.
//!
//! EDK2's boot manager compares the memory of that type with what it saw at
//! earlier boots, and where it is configured to (`PcdResetOnMemoryTypeInformationChange`)
//! it restarts the machine once, before the next boot entry, when the region
//! is new. The boot after that is an ordinary one.

use core::ptr::NonNull;

use abi::Refusal;
use abi::handoff::REGION_ALIGN;
use loader::memory::{self, Range};
use uefi::boot::{self, AllocateType, MemoryType};

const PAGE: u64 = 4096;

/// Reserved memory, all zeros at first. Goes back to the firmware when dropped,
/// unless it is kept.
pub(super) struct Region {
    start: NonNull<u8>,
    size: usize,
}

impl Region {
    /// Reserves `size` bytes, a multiple of the region's alignment.
    // Asking for a place of the map, rather than for more memory than needed
    // and giving the ends back, works on a machine with little memory, too.
    pub(super) fn reserve(map: &[Range], size: u64) -> Result<Self, Refusal> {
        let refusal = Refusal::TooLittleMemory {
            wanted: size,
            given: memory::largest(map, REGION_ALIGN).min(size),
        };
        let size = usize::try_from(size).map_err(|_| refusal)?;
        let places = memory::places(map, size as u64, REGION_ALIGN);
        let mut reserved = places.into_iter().filter_map(|base| allocate(base, size));
        let start = reserved.next().ok_or(refusal)?;
        // SAFETY: the firmware just gave these bytes to us; it maps all memory
        // writable at its physical address.
        unsafe { start.write_bytes(0, size) };
        Ok(Self { start, size })
    }

    /// Physical address of the first byte.
    pub(super) fn base(&self) -> u64 {
        self.start.as_ptr() as u64
    }

    /// Size in bytes.
    pub(super) fn size(&self) -> u64 {
        self.size as u64
    }

    /// The bytes.
    pub(super) fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: the bytes are ours from `reserve` to `drop` and were set to
        // zero there; the borrow of `self` keeps the slice the only way to
        // them.
        unsafe { core::slice::from_raw_parts_mut(self.start.as_ptr(), self.size) }
    }

    /// Leaves the memory reserved for as long as the machine runs.
    pub(super) fn keep(self) {
        core::mem::forget(self);
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: `reserve` got exactly these pages, and the borrows that
        // `bytes` gave out have ended. A failure merely loses the memory.
        let _ = unsafe { boot::free_pages(self.start, self.size / PAGE as usize) };
    }
}

fn allocate(base: u64, size: usize) -> Option<NonNull<u8>> {
    let pages = size / PAGE as usize;
    boot::allocate_pages(AllocateType::Address(base), MemoryType::RESERVED, pages).ok()
}
