//! Services that tell what there is.

use super::Failure;
use crate::caller::Caller;
use abi::Errno;
use abi::call::{NAME_MAX, SERVICES};
use machine::Memory;
use x86::Gva;

/// The number of the service whose NUL-terminated name lies at `address`, or 0.
pub fn resolve<M: Memory>(caller: &Caller<M>, address: u64) -> Result<u64, Failure> {
    let mut name = [0; NAME_MAX + 1];
    let length = read_name(caller, address, &mut name)?;
    let name = name.get(..length).unwrap_or(&[]);
    let found = SERVICES
        .iter()
        .find(|service| service.name.as_bytes() == name);
    Ok(found.map_or(0, |service| service.number))
}

/// Reads up to and including the NUL, a page at a time, so that a page behind
/// the name's end is not touched. Returns the length without the NUL.
fn read_name<M: Memory>(
    caller: &Caller<M>,
    address: u64,
    name: &mut [u8; NAME_MAX + 1],
) -> Result<usize, Failure> {
    let mut read = 0;
    while read < name.len() {
        let at = Gva(caller.argument(address.wrapping_add(read as u64)));
        let rest = name.get_mut(read..).unwrap_or(&mut []);
        let size = caller
            .read_page(at, rest)
            .map_err(|denied| Failure::denied(caller, at, denied))?;
        let fresh = rest.get(..size).unwrap_or(&[]);
        if let Some(end) = fresh.iter().position(|byte| *byte == 0) {
            return Ok(read + end);
        }
        read += size;
    }
    Err(Failure::Refused(Errno::NameTooLong))
}
