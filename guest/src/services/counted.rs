//! What was counted.

use super::write_to;
use crate::records::Records;
use crate::{Error, Underlay, row};
use abi::record::{ExitsRecord, OddityRecord};

/// What the exits of a CPU cost, a part of it.
#[derive(Clone, Debug)]
pub struct Exits<'a> {
    /// A record for each kind, from the one asked for on.
    pub records: Records<'a, ExitsRecord>,
    /// How many kinds there are.
    pub all: u64,
}

impl Underlay {
    /// Makes the hypervisor write what the exits of CPU `cpu` cost to its log.
    ///
    /// # Errors
    ///
    /// [`abi::Errno::InvalidArgument`] if there is no such CPU.
    pub fn statistics(self, cpu: u32) -> Result<(), Error> {
        let mut line = 0;
        loop {
            // SAFETY: `statistics` takes numbers and touches no memory of ours.
            [line] = unsafe { self.ask(row::STATISTICS, [line, cpu.into()])? };
            if line == 0 {
                return Ok(());
            }
        }
    }

    /// Fills `buffer` with records of what the exits of CPU `cpu` cost, from kind
    /// number `first` on.
    ///
    /// # Errors
    ///
    /// [`abi::Errno::InvalidArgument`] if there is no such CPU.
    pub fn statistics_read(
        self,
        buffer: &mut [u8],
        first: u64,
        cpu: u32,
    ) -> Result<Exits<'_>, Error> {
        let [address, length] = write_to(buffer);
        let arguments = [address, length, first, cpu.into()];
        // SAFETY: the hypervisor writes at most `length` bytes into `buffer`.
        let [written, all, _] = unsafe { self.ask(row::STATISTICS_READ, arguments)? };
        Ok(Exits {
            records: Records::new(buffer, written),
            all,
        })
    }

    /// Fills `buffer` with records of what no ordinary system does, from kind
    /// number `first` on; and says how many kinds there are.
    ///
    /// # Errors
    ///
    /// Whatever the hypervisor answers with.
    pub fn oddities_read(
        self,
        buffer: &mut [u8],
        first: u64,
    ) -> Result<(Records<'_, OddityRecord>, u64), Error> {
        let [address, length] = write_to(buffer);
        let arguments = [address, length, first];
        // SAFETY: the hypervisor writes at most `length` bytes into `buffer`.
        let [written, all] = unsafe { self.ask(row::ODDITIES_READ, arguments)? };
        Ok((Records::new(buffer, written), all))
    }

    /// Makes all that is counted of the exits of CPU `cpu` 0. Returns how many had
    /// been counted.
    ///
    /// # Errors
    ///
    /// [`abi::Errno::InvalidArgument`] if there is no such CPU.
    pub fn statistics_reset(self, cpu: u32) -> Result<u64, Error> {
        // SAFETY: `statistics_reset` takes a number and touches no memory of ours.
        unsafe { self.ask(row::STATISTICS_RESET, [cpu.into()]) }.map(|[exits]| exits)
    }

    /// What the exits of CPU `cpu` cost, each kind.
    ///
    /// # Errors
    ///
    /// [`abi::Errno::InvalidArgument`] if there is no such CPU.
    #[cfg(feature = "std")]
    pub fn exits(self, cpu: u32) -> Result<Vec<ExitsRecord>, Error> {
        crate::records::all(|buffer, first| {
            let part = self.statistics_read(buffer, first, cpu)?;
            Ok((part.records, part.all))
        })
    }

    /// How often each odd thing happened.
    ///
    /// # Errors
    ///
    /// Whatever the hypervisor answers with.
    #[cfg(feature = "std")]
    pub fn oddities(self) -> Result<Vec<OddityRecord>, Error> {
        crate::records::all(|buffer, first| self.oddities_read(buffer, first))
    }
}
