//! Memory of the process, mapped and unmapped.

use std::io;
use std::os::fd::RawFd;
use std::ptr::null_mut;

use libc::{
    MADV_PAGEOUT, MAP_ANONYMOUS, MAP_FAILED, MAP_FIXED, MAP_PRIVATE, MREMAP_DONTUNMAP,
    MREMAP_FIXED, MREMAP_MAYMOVE, PROT_READ, PROT_WRITE, c_int, c_void,
};

use crate::Failed;
use crate::pattern::PAGE;

const ANONYMOUS: c_int = MAP_PRIVATE | MAP_ANONYMOUS;

/// Whole pages that belong to this value alone.
pub struct Mapping {
    at: usize,
    pages: usize,
}

impl Mapping {
    /// Fresh pages of zeros; with `flags` other than `MAP_PRIVATE` shared with
    /// processes that are forked later.
    pub fn new(pages: usize, flags: c_int) -> Result<Self, Failed> {
        let flags = flags | MAP_ANONYMOUS;
        // SAFETY: a new anonymous mapping touches nothing that exists.
        let at = unsafe {
            let protection = PROT_READ | PROT_WRITE;
            libc::mmap(null_mut(), pages * PAGE, protection, flags, -1, 0)
        };
        check("mmap", at != MAP_FAILED)?;
        let at = at as usize;
        Ok(Self { at, pages })
    }

    /// Its first address.
    pub const fn address(&self) -> usize {
        self.at
    }

    /// Its bytes, as they are.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: the mapping lives as long as `self` and is readable. Others
        // change it only while no reference is held: this process by a call,
        // other processes not at all.
        unsafe { std::slice::from_raw_parts(self.at as *const u8, self.pages * PAGE) }
    }

    /// The bytes of `pages` of its pages from number `first` on.
    pub fn pages(&self, first: usize, pages: usize) -> &[u8] {
        &self.bytes()[first * PAGE..(first + pages) * PAGE]
    }

    /// `length` of its bytes from number `at` on, to be changed.
    pub fn bytes_mut(&mut self, at: usize, length: usize) -> &mut [u8] {
        assert!(at + length <= self.pages * PAGE);
        // SAFETY: as above; the mapping is writable, and borrowed for so long.
        unsafe { std::slice::from_raw_parts_mut((self.at + at) as *mut u8, length) }
    }

    fn part(&self, first: usize, pages: usize) -> usize {
        assert!(first + pages <= self.pages);
        self.at + first * PAGE
    }

    /// Replaces pages by those of a file from its byte `offset` on.
    pub fn map_file(
        &mut self,
        [first, pages]: [usize; 2],
        flags: c_int,
        file: RawFd,
        offset: usize,
    ) -> Result<(), Failed> {
        let at = self.part(first, pages) as *mut _;
        let flags = flags | MAP_FIXED;
        // SAFETY: replaces pages of this mapping, to which no reference is
        // held, by others that are as readable and writable.
        let done = unsafe {
            let protection = PROT_READ | PROT_WRITE;
            libc::mmap(at, pages * PAGE, protection, flags, file, offset as _)
        };
        check("mmap of a file", done != MAP_FAILED)
    }

    /// Moves pages of `from`, from its number `first` on, to the start of what
    /// begins at page `to` here. Fresh ones are there instead: a hole could become
    /// somebody else's, who would lose it with `from`.
    pub fn take(
        &mut self,
        [to, pages]: [usize; 2],
        from: &mut Self,
        first: usize,
    ) -> Result<(), Failed> {
        let (old, new) = (from.part(first, pages), self.part(to, pages));
        let size = pages * PAGE;
        let flags = MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP;
        // SAFETY: both ranges belong to the two mappings, to which no reference
        // is held, and do so afterwards.
        let done =
            unsafe { libc::mremap(old as *mut c_void, size, size, flags, new as *mut c_void) };
        check("mremap", done != MAP_FAILED)
    }

    /// Advises the kernel about pages.
    pub fn advise(&self, first: usize, pages: usize, advice: c_int) -> Result<(), Failed> {
        let at = self.part(first, pages);
        // SAFETY: no advice that this program gives changes what is in the
        // pages.
        let done = unsafe { libc::madvise(at as *mut _, pages * PAGE, advice) };
        check("madvise", done == 0)
    }

    /// Asks the kernel to write pages to the swap file now.
    pub fn swap_out(&self, first: usize, pages: usize) -> Result<(), Failed> {
        self.advise(first, pages, MADV_PAGEOUT)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the range is ours, and no reference into it is left. If it
        // stays, only memory is lost.
        unsafe { libc::munmap(self.at as *mut _, self.pages * PAGE) };
    }
}

/// An error that names what the system refused, and why, unless `good`.
pub fn check(what: &str, good: bool) -> Result<(), Failed> {
    if good {
        Ok(())
    } else {
        Err(format!("{what}: {}", io::Error::last_os_error()))
    }
}

/// Private pages.
pub fn private(pages: usize) -> Result<Mapping, Failed> {
    Mapping::new(pages, ANONYMOUS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use libc::MAP_FIXED_NOREPLACE;

    #[test]
    fn where_pages_were_taken_from_nobody_else_gets_a_place() {
        let (mut from, mut to) = (private(3).unwrap(), private(3).unwrap());
        from.bytes_mut(PAGE, PAGE).fill(7);
        to.take([2, 1], &mut from, 1).unwrap();
        assert!(to.pages(2, 1).iter().all(|byte| *byte == 7));
        let hole = (from.address() + PAGE) as *mut _;
        let flags = ANONYMOUS | MAP_FIXED_NOREPLACE;
        // SAFETY: takes a place only where nothing is.
        let taken = unsafe { libc::mmap(hole, PAGE, PROT_READ, flags, -1, 0) };
        assert_eq!(taken, MAP_FAILED);
        assert!(from.pages(1, 1).iter().all(|byte| *byte == 0));
    }
}
