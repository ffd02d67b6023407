//! What was counted.

use super::write_to;
use crate::records::Records;
use crate::{Error, Underlay, row};
use abi::record::{ExitsRecord, OddityRecord};

/// What this CPU's exits cost, a part of it.
#[derive(Clone, Debug)]
pub struct Exits<'a> {
    /// A record for each kind, from the one asked for on.
    pub records: Records<'a, ExitsRecord>,
    /// How many kinds there are.
    pub all: u64,
    /// The CPU.
    pub cpu: u32,
}

impl Underlay {
    /// Makes the hypervisor write what this CPU's exits cost to its log.
    ///
    /// # Errors
    ///
    /// Whatever the hypervisor answers with.
    pub fn statistics(self) -> Result<(), Error> {
        let mut line = 0;
        loop {
            // SAFETY: `statistics` takes a number and touches no memory of ours.
            [line] = unsafe { self.ask(row::STATISTICS, [line])? };
            if line == 0 {
                return Ok(());
            }
        }
    }

    /// Fills `buffer` with records of what this CPU's exits cost, from kind
    /// number `first` on.
    ///
    /// # Errors
    ///
    /// Whatever the hypervisor answers with.
    pub fn statistics_read(self, buffer: &mut [u8], first: u64) -> Result<Exits<'_>, Error> {
        let [address, length] = write_to(buffer);
        let arguments = [address, length, first];
        // SAFETY: the hypervisor writes at most `length` bytes into `buffer`.
        let [written, all, cpu] = unsafe { self.ask(row::STATISTICS_READ, arguments)? };
        Ok(Exits {
            records: Records::new(buffer, written),
            all,
            cpu: cpu as u32,
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

    /// Makes all that is counted of this CPU's exits 0. Returns how many had
    /// been counted.
    ///
    /// # Errors
    ///
    /// Whatever the hypervisor answers with.
    pub fn statistics_reset(self) -> Result<u64, Error> {
        // SAFETY: `statistics_reset` takes nothing and touches no memory of ours.
        unsafe { self.ask(row::STATISTICS_RESET, []) }.map(|[exits]| exits)
    }

    /// What this CPU's exits cost, each kind, and the CPU's number.
    ///
    /// # Errors
    ///
    /// Whatever the hypervisor answers with.
    #[cfg(feature = "std")]
    pub fn exits(self) -> Result<(Vec<ExitsRecord>, u32), Error> {
        let mut cpu = 0;
        let records = crate::records::all(|buffer, first| {
            let part = self.statistics_read(buffer, first)?;
            cpu = part.cpu;
            Ok((part.records, part.all))
        })?;
        Ok((records, cpu))
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
