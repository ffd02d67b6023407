//! Gives the firmware the ACPI tables that OVMF lacks in Bochs, then starts the
//! loader. It says nothing unless it fails: the third serial port is the
//! guest's.
#![cfg_attr(target_os = "uefi", no_main, no_std)]

extern crate alloc;

use alloc::vec::Vec;
use tests::uefi::boot;
use tests::uefi::proto::pi::mp::MpServices;
use tests::uefi::proto::unsafe_protocol;
use tests::uefi::{Result, ResultExt, Status, StatusExt};
use tests::{chain, firmware_tables};
use uefi_raw::protocol::acpi::AcpiTableProtocol;

tests::program!(run);

/// The loader's last word, which may be that the next boot entry shall follow,
/// is the firmware's to hear.
fn run() -> Status {
    let apics = processors().expect("the processors' numbers");
    install(&firmware_tables::all(&apics)).expect("a firmware that takes tables");
    chain::start_loader().status()
}

/// The local APICs' numbers, the firmware's own processor first.
fn processors() -> Result<Vec<u8>> {
    let handle = boot::get_handle_for_protocol::<MpServices>()?;
    let services = boot::open_protocol_exclusive::<MpServices>(handle)?;
    let count = services.get_number_of_processors()?.total;
    let apic = |number| {
        let id = services.get_processor_info(number)?.processor_id;
        u8::try_from(id).map_err(|_| Status::UNSUPPORTED.into())
    };
    (0..count).map(apic).collect()
}

/// The interface by which programs give the firmware ACPI tables.
#[repr(transparent)]
#[unsafe_protocol(AcpiTableProtocol::GUID)]
struct AcpiTable(AcpiTableProtocol);

fn install(tables: &[Vec<u8>]) -> Result {
    let handle = boot::get_handle_for_protocol::<AcpiTable>()?;
    let acpi = boot::open_protocol_exclusive::<AcpiTable>(handle)?;
    for table in tables {
        let mut key = 0;
        // SAFETY: the interface is open, the table has the size that is given,
        // and the firmware copies it.
        let status = unsafe {
            (acpi.0.install_acpi_table)(&acpi.0, table.as_ptr().cast(), table.len(), &mut key)
        };
        status.to_result()?;
    }
    Ok(())
}
