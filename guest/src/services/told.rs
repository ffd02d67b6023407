//! What there is.

use super::{read_from, write_to};
use crate::records::Records;
use crate::{Error, Underlay, row};
use abi::record::{CpuRecord, Info, ServiceRecord};
use core::ffi::CStr;

impl Underlay {
    /// The number of the service called `name`, or `None` if this hypervisor
    /// has no such service.
    ///
    /// # Errors
    ///
    /// [`abi::Errno::NameTooLong`] for more than [`abi::call::NAME_MAX`] bytes.
    pub fn resolve(self, name: &CStr) -> Result<Option<u64>, Error> {
        let [address, _] = read_from(name.to_bytes_with_nul());
        // SAFETY: the hypervisor only reads, and only up to the NUL that `CStr`
        // guarantees, within the lifetime of the borrow.
        let [number] = unsafe { self.ask(row::RESOLVE, [address])? };
        // 0 says "none", and is at once the number of `resolve` itself.
        let is_resolve = name.to_bytes() == b"resolve";
        Ok((number != 0 || is_resolve).then_some(number))
    }

    /// The cheapest call: returns the version of the call interface.
    ///
    /// # Errors
    ///
    /// Whatever the hypervisor answers with; none is expected.
    pub fn ping(self) -> Result<u32, Error> {
        // SAFETY: `ping` takes no arguments and touches no memory of ours.
        let [version] = unsafe { self.ask(row::PING, [])? };
        // The version has 32 bits; the rest of RAX is zero.
        Ok(version as u32)
    }

    /// Makes the hypervisor write its greeting to its log; returns how many
    /// greetings it has written since it started.
    ///
    /// # Errors
    ///
    /// Whatever the hypervisor answers with; none is expected.
    pub fn hello(self) -> Result<u64, Error> {
        // SAFETY: `hello` takes no arguments and touches no memory of ours.
        let [greetings] = unsafe { self.ask(row::HELLO, [])? };
        Ok(greetings)
    }

    /// Prints a byte to the log, which shows whole lines.
    ///
    /// # Errors
    ///
    /// [`abi::Errno::NoService`] unless the config says `print = on`.
    pub fn print(self, byte: u8) -> Result<(), Error> {
        // SAFETY: `print` takes a number and touches no memory of ours.
        unsafe { self.ask(row::PRINT, [byte.into()]) }.map(|[_]| ())
    }

    /// What there is beneath.
    ///
    /// # Errors
    ///
    /// Whatever the hypervisor answers with; none is expected.
    pub fn info(self) -> Result<Info, Error> {
        let mut bytes = [0; Info::SIZE];
        let [address, length] = write_to(&mut bytes);
        // SAFETY: the hypervisor writes at most `length` bytes into `bytes`.
        unsafe { self.ask(row::INFO, [address, length]) }.map(|[_]| Info::from_bytes(&bytes))
    }

    /// Fills `buffer` with records of services, from number `first` on; and
    /// says how many services there are.
    ///
    /// # Errors
    ///
    /// Whatever the hypervisor answers with; none is expected.
    pub fn list(
        self,
        buffer: &mut [u8],
        first: u64,
    ) -> Result<(Records<'_, ServiceRecord>, u64), Error> {
        let [address, length] = write_to(buffer);
        // SAFETY: the hypervisor writes at most `length` bytes into `buffer`.
        let [written, all] = unsafe { self.ask(row::LIST, [address, length, first])? };
        Ok((Records::new(buffer, written), all))
    }

    /// Fills `buffer` with records of CPUs, from number `first` on; and says how
    /// many there are, and the number of the one that calls.
    ///
    /// # Errors
    ///
    /// Whatever the hypervisor answers with.
    pub fn cpus_read(
        self,
        buffer: &mut [u8],
        first: u64,
    ) -> Result<(Records<'_, CpuRecord>, [u64; 2]), Error> {
        let [address, length] = write_to(buffer);
        let arguments = [address, length, first];
        // SAFETY: the hypervisor writes at most `length` bytes into `buffer`.
        let [written, all, here] = unsafe { self.ask(row::CPUS_READ, arguments)? };
        Ok((Records::new(buffer, written), [all, here]))
    }

    /// All CPUs.
    ///
    /// # Errors
    ///
    /// Whatever the hypervisor answers with.
    #[cfg(feature = "std")]
    pub fn cpus(self) -> Result<Vec<CpuRecord>, Error> {
        crate::records::all(|buffer, first| {
            let (records, [all, _]) = self.cpus_read(buffer, first)?;
            Ok((records, all))
        })
    }

    /// All services that the hypervisor has.
    ///
    /// # Errors
    ///
    /// Whatever the hypervisor answers with; none is expected.
    #[cfg(feature = "std")]
    pub fn services(self) -> Result<Vec<ServiceRecord>, Error> {
        crate::records::all(|buffer, first| self.list(buffer, first))
    }
}
