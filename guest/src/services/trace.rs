//! The trace of this CPU's exits.

use super::write_to;
use crate::records::Records;
use crate::{Error, Underlay, row};
use abi::record::TraceRecord;

/// Records of a trace.
#[derive(Clone, Debug)]
pub struct Traced<'a> {
    /// The records, in the order of their numbers.
    pub records: Records<'a, TraceRecord>,
    /// The number of the record to go on with.
    pub next: u64,
    /// Records before these that were overwritten unread.
    pub lost: u64,
}

/// What the service `trace` does at this command.
const WRITE: u64 = 2;

impl Underlay {
    /// Makes the hypervisor write some of this CPU's trace to the port of its
    /// log; returns how many records are left. If they do not become fewer, the
    /// port is busy, or there is none.
    ///
    /// # Errors
    ///
    /// [`abi::Errno::NoService`] where the hypervisor's config asks for none.
    pub fn trace_write(self) -> Result<u64, Error> {
        // SAFETY: `trace` takes a number and touches no memory of ours.
        unsafe { self.ask(row::TRACE, [WRITE]) }.map(|[left]| left)
    }

    /// Fills `buffer` with records from number `record` on.
    ///
    /// # Errors
    ///
    /// [`abi::Errno::NoService`] where the hypervisor's config asks for none.
    pub fn trace_read(self, buffer: &mut [u8], record: u64) -> Result<Traced<'_>, Error> {
        let [address, length] = write_to(buffer);
        let arguments = [address, length, record];
        // SAFETY: the hypervisor writes at most `length` bytes into `buffer`.
        let [written, next, lost] = unsafe { self.ask(row::TRACE_READ, arguments)? };
        Ok(Traced {
            records: Records::new(buffer, written),
            next,
            lost,
        })
    }

    /// Starts or stops the trace of this CPU's exits. Returns whether it ran.
    ///
    /// # Errors
    ///
    /// [`abi::Errno::NoService`] where the hypervisor's config asks for none.
    pub fn trace_switch(self, on: bool) -> Result<bool, Error> {
        // SAFETY: `trace_switch` takes a number and touches no memory of ours.
        unsafe { self.ask(row::TRACE_SWITCH, [on.into()]) }.map(|[before]| before != 0)
    }
}
