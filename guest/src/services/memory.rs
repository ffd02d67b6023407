//! Copies: between memory of this program's, and to and from other memory of
//! the guest's. One call moves at most [`abi::call::TRANSFER_MAX`] bytes and
//! says how many; a loop moves more.
//!
//! Reading is safe whatever the address is: the hypervisor reaches no device's
//! registers, and refuses what is not there. Writing is not: what lies there
//! may be this very program.

use super::{read_from, write_to};
use crate::{Error, Underlay, row};

const PAGE: u64 = 4096;

/// Where a linear address lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Translated {
    /// The guest-physical address.
    pub physical: u64,
    /// How many bytes of its page begin there.
    pub left: u64,
}

impl Underlay {
    /// Copies as much of `from` as `into` has room for. Returns how many bytes
    /// were copied.
    ///
    /// # Errors
    ///
    /// Whatever the hypervisor answers with; none is expected.
    pub fn memory_copy(self, into: &mut [u8], from: &[u8]) -> Result<usize, Error> {
        let ([to, room], [from, length]) = (write_to(into), read_from(from));
        let arguments = [to, from, room.min(length)];
        // SAFETY: the hypervisor writes at most the third argument's bytes,
        // which both slices have.
        unsafe { self.ask(row::MEMORY_COPY, arguments) }.map(|[done]| done as usize)
    }

    /// Reads guest-physical memory at `from`. Returns how many bytes were read.
    ///
    /// # Errors
    ///
    /// [`abi::Errno::BadAddress`] where no memory is.
    pub fn memory_read_physical(self, into: &mut [u8], from: u64) -> Result<usize, Error> {
        let [buffer, length] = write_to(into);
        let arguments = [buffer, from, length];
        // SAFETY: the hypervisor writes at most `length` bytes into `into`.
        unsafe { self.ask(row::MEMORY_READ_PHYSICAL, arguments) }.map(|[done]| done as usize)
    }

    /// Writes guest-physical memory at `into`. Returns how many bytes were
    /// written.
    ///
    /// # Errors
    ///
    /// [`abi::Errno::BadAddress`] where no memory is.
    ///
    /// # Safety
    ///
    /// Whatever lies there must bear it.
    pub unsafe fn memory_write_physical(self, into: u64, from: &[u8]) -> Result<usize, Error> {
        let [buffer, length] = read_from(from);
        let arguments = [buffer, into, length];
        // SAFETY: the hypervisor reads at most `length` bytes of `from`; the
        // caller answers for what it writes.
        unsafe { self.ask(row::MEMORY_WRITE_PHYSICAL, arguments) }.map(|[done]| done as usize)
    }

    /// Reads guest-physical pages, from `offset` in the first one on. Returns
    /// how many bytes were read, at most what the pages have.
    ///
    /// # Errors
    ///
    /// [`abi::Errno::BadAddress`] for a page that is no memory.
    pub fn memory_read_pages(
        self,
        into: &mut [u8],
        pages: &[u64],
        offset: u64,
    ) -> Result<usize, Error> {
        let [buffer, length] = write_to(into);
        let list = pages.as_ptr() as u64;
        let arguments = [buffer, list, length.min(room(pages, offset)), offset];
        // SAFETY: the hypervisor writes at most `length` bytes into `into`, and
        // reads no more of the list than that needs, which `pages` has.
        unsafe { self.ask(row::MEMORY_READ_PAGES, arguments) }.map(|[done]| done as usize)
    }

    /// Writes guest-physical pages, from `offset` in the first one on. Returns
    /// how many bytes were written, at most what the pages have.
    ///
    /// # Errors
    ///
    /// [`abi::Errno::BadAddress`] for a page that is no memory.
    ///
    /// # Safety
    ///
    /// Whatever lies there must bear it.
    pub unsafe fn memory_write_pages(
        self,
        pages: &[u64],
        offset: u64,
        from: &[u8],
    ) -> Result<usize, Error> {
        let [buffer, length] = read_from(from);
        let list = pages.as_ptr() as u64;
        let arguments = [buffer, list, length.min(room(pages, offset)), offset];
        // SAFETY: the hypervisor reads at most `length` bytes of `from` and no
        // more of the list than that needs; the caller answers for the pages.
        unsafe { self.ask(row::MEMORY_WRITE_PAGES, arguments) }.map(|[done]| done as usize)
    }

    /// Reads at the linear address `from` of the address space whose tables
    /// begin at `root`. Returns how many bytes were read.
    ///
    /// # Errors
    ///
    /// [`abi::Errno::BadAddress`] for what is absent there.
    pub fn memory_read_space(self, into: &mut [u8], from: u64, root: u64) -> Result<usize, Error> {
        let [buffer, length] = write_to(into);
        let arguments = [buffer, from, length, root];
        // SAFETY: the hypervisor writes at most `length` bytes into `into`.
        unsafe { self.ask(row::MEMORY_READ_SPACE, arguments) }.map(|[done]| done as usize)
    }

    /// Writes at the linear address `into` of the address space whose tables
    /// begin at `root`. Returns how many bytes were written.
    ///
    /// # Errors
    ///
    /// [`abi::Errno::BadAddress`] for what is absent or read-only there.
    ///
    /// # Safety
    ///
    /// Whatever lies there must bear it.
    pub unsafe fn memory_write_space(
        self,
        into: u64,
        root: u64,
        from: &[u8],
    ) -> Result<usize, Error> {
        let [buffer, length] = read_from(from);
        let arguments = [buffer, into, length, root];
        // SAFETY: the hypervisor reads at most `length` bytes of `from`; the
        // caller answers for what it writes.
        unsafe { self.ask(row::MEMORY_WRITE_SPACE, arguments) }.map(|[done]| done as usize)
    }

    /// Where the linear address `address` lies in the address space whose
    /// tables begin at `root`.
    ///
    /// # Errors
    ///
    /// [`abi::Errno::BadAddress`] for what is absent there.
    pub fn memory_translate(self, address: u64, root: u64) -> Result<Translated, Error> {
        // SAFETY: `memory_translate` takes numbers and writes nothing.
        let [physical, left] = unsafe { self.ask(row::MEMORY_TRANSLATE, [address, root])? };
        Ok(Translated { physical, left })
    }
}

/// Bytes that `pages` have behind `offset` in the first one.
fn room(pages: &[u64], offset: u64) -> u64 {
    (pages.len() as u64 * PAGE).saturating_sub(offset)
}

#[cfg(test)]
mod tests {
    use super::room;

    #[test]
    fn no_more_bytes_are_asked_for_than_the_list_has_pages_for() {
        assert_eq!(room(&[1, 2], 0), 8192);
        assert_eq!(room(&[1, 2], 4096 + 1), 4095);
        assert_eq!(room(&[1], u64::MAX), 0);
        assert_eq!(room(&[], 0), 0);
    }
}
