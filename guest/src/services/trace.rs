//! The trace of a CPU's exits.

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
    /// Makes the hypervisor write some of the trace of CPU `cpu` to the port of
    /// its log; returns how many records are left. If they do not become fewer,
    /// the port is busy, or there is none.
    ///
    /// # Errors
    ///
    /// [`abi::Errno::NoService`] where the hypervisor's config asks for none,
    /// [`abi::Errno::InvalidArgument`] if there is no such CPU.
    pub fn trace_write(self, cpu: u32) -> Result<u64, Error> {
        // SAFETY: `trace` takes numbers and touches no memory of ours.
        unsafe { self.ask(row::TRACE, [WRITE, cpu.into()]) }.map(|[left]| left)
    }

    /// Fills `buffer` with records of CPU `cpu` from number `record` on.
    ///
    /// # Errors
    ///
    /// [`abi::Errno::NoService`] where the hypervisor's config asks for none,
    /// [`abi::Errno::InvalidArgument`] if there is no such CPU.
    pub fn trace_read(self, buffer: &mut [u8], record: u64, cpu: u32) -> Result<Traced<'_>, Error> {
        let [address, length] = write_to(buffer);
        let arguments = [address, length, record, cpu.into()];
        // SAFETY: the hypervisor writes at most `length` bytes into `buffer`.
        let [written, next, lost] = unsafe { self.ask(row::TRACE_READ, arguments)? };
        Ok(Traced {
            records: Records::new(buffer, written),
            next,
            lost,
        })
    }

    /// Starts or stops the trace of the exits of CPU `cpu`. Returns whether it
    /// ran.
    ///
    /// # Errors
    ///
    /// [`abi::Errno::NoService`] where the hypervisor's config asks for none,
    /// [`abi::Errno::InvalidArgument`] if there is no such CPU.
    pub fn trace_switch(self, on: bool, cpu: u32) -> Result<bool, Error> {
        // SAFETY: `trace_switch` takes numbers and touches no memory of ours.
        unsafe { self.ask(row::TRACE_SWITCH, [on.into(), cpu.into()]) }.map(|[before]| before != 0)
    }
}
