//! How this machine is put to sleep: its ACPI tables say so.

use abi::handoff::Sleep;
use acpi::address::{AddressSpace, GenericAddress};
use acpi::fadt::Fadt;
use acpi::{AcpiHandler, AcpiResult, AcpiTables, AmlTable, PhysicalMapping};
use core::ptr::NonNull;
use core::slice;
use loader::sleep::harmless;
use uefi::system;
use uefi::table::cfg::ConfigTableEntry;

use super::console::say;

/// Nothing, where there are no tables: no operating system can sleep then. One
/// may be able to read tables that this reader refuses.
pub(super) fn survey() -> [Sleep; 2] {
    let Some(root) = root() else {
        return Default::default();
    };
    // SAFETY: the firmware names this address for the tables' root, and maps all
    // memory where it is.
    let tables = unsafe { AcpiTables::from_rsdp(Identity, root) };
    tables.and_then(|tables| read(&tables)).unwrap_or_else(|error| {
        say!(
            "the ACPI tables cannot be read ({error:?}): a machine that sleeps in memory (S3) would wake without Underlay"
        );
        Default::default()
    })
}

fn root() -> Option<usize> {
    system::with_config_table(|all| {
        let of = |guid| all.iter().find(|entry| entry.guid == guid);
        let entry = of(ConfigTableEntry::ACPI2_GUID).or_else(|| of(ConfigTableEntry::ACPI_GUID));
        entry.map(|entry| entry.address as usize)
    })
}

fn read(tables: &AcpiTables<Identity>) -> AcpiResult<[Sleep; 2]> {
    let fixed = tables.find_table::<Fadt>()?;
    let code = tables.dsdt().into_iter().chain(tables.ssdts());
    let harmless = harmless(code.map(|table| body(&table)));
    let control = [
        port(fixed.pm1a_control_block().map(Some)),
        port(fixed.pm1b_control_block()),
    ];
    let status = [
        port(fixed.pm1a_event_block().map(Some)),
        port(fixed.pm1b_event_block()),
    ];
    Ok([0, 1].map(|index| Sleep {
        control: control[index],
        status: status[index],
        harmless: harmless[index].into(),
    }))
}

fn body(table: &AmlTable) -> &'static [u8] {
    // SAFETY: the table's header says how long it is, the firmware maps all
    // memory, and while the loader runs nobody changes its tables.
    unsafe { slice::from_raw_parts(table.address as *const u8, table.length as usize) }
}

/// Registers in memory are of machines that have no S3.
fn port(register: AcpiResult<Option<GenericAddress>>) -> u16 {
    let register = register.ok().flatten();
    let port = register.filter(|register| register.address_space == AddressSpace::SystemIo);
    port.and_then(|port| u16::try_from(port.address).ok())
        .unwrap_or(0)
}

/// Physical addresses are the loader's own.
#[derive(Clone)]
struct Identity;

impl AcpiHandler for Identity {
    unsafe fn map_physical_region<T>(&self, at: usize, size: usize) -> PhysicalMapping<Self, T> {
        let place = NonNull::new(at as *mut T).unwrap_or(NonNull::dangling());
        // SAFETY: the firmware maps all memory where it is, for as long as the
        // loader runs.
        unsafe { PhysicalMapping::new(at, place, size, size, Self) }
    }

    fn unmap_physical_region<T>(_: &PhysicalMapping<Self, T>) {}
}
