//! Pages that a kernel keeps open to the hypervisor.

use crate::{Error, Underlay, row};

/// A buffer that is shared with the hypervisor, until it is released.
#[derive(Debug, PartialEq, Eq)]
pub struct Shared(u64);

/// Lines of the log in a shared buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Filled {
    /// Bytes of whole lines, each with a newline.
    pub bytes: u64,
    /// The number of the line to go on with.
    pub next: u64,
    /// Lines before these that were overwritten unread.
    pub lost: u64,
}

impl Underlay {
    /// Keeps `bytes` of these guest-physical pages, from `offset` in the first
    /// one on, as a buffer for further calls.
    ///
    /// # Errors
    ///
    /// [`abi::Errno::NoSpace`] if there are too many of them already,
    /// [`abi::Errno::InvalidArgument`] for more bytes than one call uses or the
    /// list has pages for.
    ///
    /// # Safety
    ///
    /// Until the buffer is released the pages must be used for nothing that
    /// would not bear a write by any call that names it.
    pub unsafe fn buffer_share(
        self,
        pages: &[u64],
        bytes: u64,
        offset: u64,
    ) -> Result<Shared, Error> {
        let list = pages.as_ptr() as u64;
        let room = (pages.len() as u64 * 4096).saturating_sub(offset);
        // What the list has no pages for is more than any call uses.
        let bytes = if bytes <= room { bytes } else { u64::MAX };
        // SAFETY: the hypervisor reads no more of the list than `bytes` need;
        // the caller answers for the pages.
        unsafe { self.ask(row::BUFFER_SHARE, [list, bytes, offset]) }.map(|[handle]| Shared(handle))
    }

    /// Gives the pages back.
    ///
    /// # Errors
    ///
    /// [`abi::Errno::InvalidArgument`] if the buffer is none of this kernel's.
    pub fn buffer_release(self, buffer: Shared) -> Result<(), Error> {
        // SAFETY: `buffer_release` takes a number and touches no memory of ours.
        unsafe { self.ask(row::BUFFER_RELEASE, [buffer.0]) }.map(|[_]| ())
    }

    /// Reads whole lines of the log into a shared buffer.
    ///
    /// # Errors
    ///
    /// [`abi::Errno::InvalidArgument`] if not even the first one fits.
    pub fn log_fill(self, buffer: &Shared, line: u64) -> Result<Filled, Error> {
        // SAFETY: what the hypervisor writes to was given to it for that by
        // `buffer_share`.
        let [bytes, next, lost] = unsafe { self.ask(row::LOG_FILL, [buffer.0, line])? };
        Ok(Filled { bytes, next, lost })
    }
}
