//! A typed function for every service, one file a family.

mod counted;
mod log;
mod memory;
mod shared;
mod shell;
mod told;
mod trace;
mod vm;

pub use counted::Exits;
pub use log::{Level, Lines};
pub use memory::Translated;
pub use shared::{Filled, Shared};
pub use shell::{Key, Said, Session};
pub use trace::Traced;

use crate::row::Row;
use crate::{Error, Underlay};

impl Underlay {
    /// Calls the service of `row`.
    ///
    /// # Safety
    ///
    /// As for [`Underlay::call`].
    unsafe fn ask<const A: usize, const R: usize>(
        self,
        row: Row<A, R>,
        arguments: [u64; A],
    ) -> Result<[u64; R], Error> {
        let mut registers = [0; 5];
        registers[..A].copy_from_slice(&arguments);
        // SAFETY: the caller's contract is the same.
        let reply = unsafe { self.call(row.0.number, registers) };
        let rax = reply.result();
        let rax = rax.map_err(|failure| Error::new(row.0, failure, &reply))?;
        let [rbx, rcx, rdx, rsi, rdi] = reply.results;
        let all = [rax, rbx, rcx, rdx, rsi, rdi];
        Ok(core::array::from_fn(|result| all[result]))
    }
}

/// Where a slice lies and how long it is, for a service that reads it.
fn read_from(bytes: &[u8]) -> [u64; 2] {
    [bytes.as_ptr() as u64, bytes.len() as u64]
}

/// The same for a service that writes there.
fn write_to(bytes: &mut [u8]) -> [u64; 2] {
    [bytes.as_mut_ptr() as u64, bytes.len() as u64]
}

#[cfg(test)]
mod tests;
