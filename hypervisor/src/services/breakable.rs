//! Services that break the hypervisor: only in the build with the feature
//! `breakable`, for the tests of how it fails.

use super::Failure;
use abi::Errno;
use machine::breakable;

/// The first number; the others follow.
const FIRST: u64 = 0xb000;

/// Serves what is not in the table.
#[allow(clippy::panic)]
pub fn serve(number: u64) -> Result<u64, Failure> {
    match number.wrapping_sub(FIRST) {
        0 => Ok(breakable::forbidden_accesses()),
        1 => {
            breakable::execute_data();
            Ok(0)
        }
        2 => Ok(breakable::exhaust_stack(0)),
        3 => panic!("as the test asked"),
        _ => Err(Failure::Refused(Errno::NoService)),
    }
}
