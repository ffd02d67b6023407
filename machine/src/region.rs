//! The pages that the loader reserved: the hypervisor's image first, then what
//! is handed out here, once, while starting. Nothing is ever given back.

use core::sync::atomic::AtomicU64;
use x86::{Hpa, PAGE_SIZE};

/// One page of memory.
#[repr(C, align(4096))]
pub struct Page(pub [u8; PAGE_SIZE as usize]);

impl Page {
    /// Sets or clears the bit with this number in a page that is a bitmap.
    pub fn set_bit(&mut self, number: usize, value: bool) {
        if let Some(byte) = self.0.get_mut(number / 8) {
            let bit = 1 << (number % 8);
            *byte = if value { *byte | bit } else { *byte & !bit };
        }
    }
}

/// The region did not suffice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exhausted {
    /// Bytes that were wanted in all when it ended.
    pub wanted: u64,
}

/// The rest of the region, from which pages are taken upwards.
#[derive(Debug)]
pub struct Region {
    base: u64,
    next: u64,
    end: u64,
}

impl Region {
    /// The region at `base` whose first `used` bytes are the image.
    ///
    /// # Safety
    /// The bytes from `base + used` to `base + size` are memory that nobody
    /// else uses, now or later, identity-mapped in the firmware's tables.
    pub unsafe fn new(base: u64, size: u64, used: u64) -> Self {
        Self {
            base,
            next: base + used.next_multiple_of(PAGE_SIZE),
            end: base + size,
        }
    }

    /// Where the region begins.
    pub fn base(&self) -> Hpa {
        Hpa(self.base)
    }

    /// Bytes of the region, used or not.
    pub fn size(&self) -> u64 {
        self.end - self.base
    }

    /// Bytes that are used.
    pub fn used(&self) -> u64 {
        self.next - self.base
    }

    /// Gives `size` of the fresh bytes to a region of their own.
    pub fn split(&mut self, size: u64) -> Result<Self, Exhausted> {
        let pages = self.pages((size / PAGE_SIZE) as usize)?;
        let next = pages.as_ptr() as u64;
        Ok(Self {
            base: self.base,
            next,
            end: next + size,
        })
    }

    /// `count` fresh pages, full of zeros.
    pub fn pages(&mut self, count: usize) -> Result<&'static mut [Page], Exhausted> {
        let bytes = count as u64 * PAGE_SIZE;
        let after = self.next.saturating_add(bytes);
        if after > self.end {
            return Err(Exhausted {
                wanted: after - self.base,
            });
        }
        let first = self.next as *mut Page;
        self.next = after;
        // SAFETY: `new`'s caller vouches for this memory; the bump above makes
        // sure that it is handed out only once; zeros are a valid Page, and
        // linear addresses equal physical ones in every table used here.
        unsafe {
            first.write_bytes(0, count);
            Ok(core::slice::from_raw_parts_mut(first, count))
        }
    }

    /// `N` fresh pages, each to be used for itself.
    pub fn array<const N: usize>(&mut self) -> Result<&'static mut [Page; N], Exhausted> {
        let wanted = self.used() + N as u64 * PAGE_SIZE;
        let pages = self.pages(N)?;
        pages.try_into().map_err(|_| Exhausted { wanted })
    }

    /// `size` fresh bytes, a multiple of a page, full of zeros.
    pub fn bytes(&mut self, size: u64) -> Result<&'static mut [u8], Exhausted> {
        let pages = self.pages((size / PAGE_SIZE) as usize)?;
        // SAFETY: a Page is bytes without padding, and the slice is unique.
        Ok(unsafe {
            core::slice::from_raw_parts_mut(pages.as_mut_ptr().cast(), size_of_val(pages))
        })
    }

    /// `size` fresh bytes, a multiple of a page, as words that are 0.
    pub fn words(&mut self, size: u64) -> Result<&'static [AtomicU64], Exhausted> {
        let bytes = self.bytes(size)?;
        let count = bytes.len() / size_of::<AtomicU64>();
        // SAFETY: pages are aligned for words, any bytes are a valid word, and
        // the unique slice is given up for this one.
        Ok(unsafe { core::slice::from_raw_parts(bytes.as_mut_ptr().cast(), count) })
    }

    /// A value of its own, in fresh pages.
    pub fn place<T>(&mut self, value: T) -> Result<&'static mut T, Exhausted> {
        const { assert!(align_of::<T>() <= PAGE_SIZE as usize) };
        let pages = self.pages(size_of::<T>().div_ceil(PAGE_SIZE as usize).max(1))?;
        let slot = pages.as_mut_ptr().cast::<T>();
        // SAFETY: the pages are large and aligned enough and nobody else has
        // them; writing makes them a valid T.
        unsafe {
            slot.write(value);
            Ok(&mut *slot)
        }
    }

    /// Fresh pages as tables of 512 entries.
    pub fn tables(&mut self, count: usize) -> Result<&'static mut [Table], Exhausted> {
        let pages = self.pages(count)?;
        // SAFETY: a Table is as large and as aligned as a Page, and any bits
        // are valid in both.
        Ok(unsafe { core::slice::from_raw_parts_mut(pages.as_mut_ptr().cast(), count) })
    }
}

/// A page of 512 entries.
#[repr(C, align(4096))]
#[derive(Clone, Copy)]
pub struct Table(pub [u64; 512]);

impl Table {
    /// A table in which nothing is present.
    pub const EMPTY: Self = Self([0; 512]);
}
