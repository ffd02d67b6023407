//! The owner token: made from the firmware's or the CPU's random numbers, and
//! published in an ACPI table.

use super::protocol;
use abi::token::Token;
use core::arch::x86_64::{__cpuid, _rdrand64_step};
use uefi::boot::{self, SearchType};
use uefi::proto::rng::Rng;
use uefi::proto::unsafe_protocol;
use uefi::{Identify, Result, StatusExt};
use uefi_raw::protocol::acpi::AcpiTableProtocol;

/// A fresh token, or none where nothing here is random enough: better no owner
/// than one whom anybody can guess.
pub(super) fn make() -> Token {
    let mut bytes = [0; 16];
    let firmware = match from_firmware(&mut bytes) {
        Ok(()) => Token::from_random(words(bytes)),
        Err(_) => Token::NONE,
    };
    match firmware {
        Token::NONE => from_cpu().unwrap_or(Token::NONE),
        token => token,
    }
}

fn words(bytes: [u8; 16]) -> [u64; 2] {
    let all = u128::from_le_bytes(bytes);
    [all as u64, (all >> 64) as u64]
}

fn from_firmware(bytes: &mut [u8]) -> Result {
    let handle = boot::get_handle_for_protocol::<Rng>()?;
    protocol::open::<Rng>(handle)?.get_rng(None, bytes)
}

/// RDRAND may have nothing for a moment. Intel SDM volume 1, "RDRAND".
fn from_cpu() -> Option<Token> {
    const ECX_RDRAND: u32 = 1 << 30;
    const TRIES: usize = 10;
    if __cpuid(1).ecx & ECX_RDRAND == 0 {
        return None;
    }
    let word = || {
        let mut word = 0;
        // SAFETY: CPUID says that the instruction is there.
        let mut tries = (0..TRIES).map(|_| unsafe { _rdrand64_step(&mut word) });
        let found = tries.any(|done| done == 1);
        drop(tries);
        found.then_some(word)
    };
    Some(Token::from_random([word()?, word()?]))
}

/// The interface by which programs give the firmware ACPI tables.
#[repr(transparent)]
#[unsafe_protocol(AcpiTableProtocol::GUID)]
struct AcpiTable(AcpiTableProtocol);

/// Publishes `token`. The firmware copies the table.
pub(super) fn publish(token: Token) -> Result {
    let handles = boot::locate_handle_buffer(SearchType::ByProtocol(&AcpiTable::GUID))?;
    let handle = handles.first().ok_or(uefi::Status::NOT_FOUND)?;
    let acpi = protocol::open::<AcpiTable>(*handle)?;
    let table = token.table();
    let mut key = 0;
    // SAFETY: the interface is open, the table has the size that is given, and
    // the firmware keeps no pointer to it.
    let status = unsafe {
        (acpi.0.install_acpi_table)(&acpi.0, table.as_ptr().cast(), table.len(), &mut key)
    };
    status.to_result()
}
