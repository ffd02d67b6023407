//! The ACPI tables of the VM: its vCPUs, its interrupt controllers, its serial
//! port and devices of virtio's, and how it is switched off. There is none of the hardware that
//! ACPI calls fixed, so that a kernel looks for no timers and controllers of old
//! PCs. ACPI specification, "Hardware-Reduced ACPI".

use crate::layout::{self, Place, input};
use acpi_tables::Aml;
use acpi_tables::aml::{
    Device, EISAName, IO, Interrupt, Memory32Fixed, Name, Package, ResourceTemplate, Scope, ZERO,
};
use acpi_tables::fadt::{FADTBuilder, Flags};
use acpi_tables::gas::{AccessSize, AddressSpace, GAS};
use acpi_tables::madt::{EnabledStatus, IoApic, ProcessorLocalApic};
use acpi_tables::rsdp::Rsdp;
use acpi_tables::sdt::Sdt;
use acpi_tables::xsdt::XSDT;

const OEM: [u8; 6] = *b"ULRUN ";
const OEM_TABLE: [u8; 8] = *b"UNDERLAY";
const REVISION: u32 = 1;

/// What lies at [`layout::TABLES`] in a VM with `vcpus` vCPUs and devices of
/// virtio's at these places. The table that leads to all others comes first.
pub fn all(vcpus: u8, places: &[Place]) -> Vec<u8> {
    const ROOM: u64 = 64;
    let mut behind = Vec::new();
    let mut place = |bytes: Vec<u8>| {
        let at = layout::TABLES + ROOM + behind.len() as u64;
        behind.extend(bytes);
        behind.resize(behind.len().next_multiple_of(16), 0);
        at
    };
    let dsdt = place(bytes(&dsdt(places)));
    let fadt = place(bytes(&fadt(dsdt).finalize()));
    let madt = place(bytes(&madt(vcpus)));
    let mut root = XSDT::new(OEM, OEM_TABLE, REVISION);
    root.add_entry(fadt);
    root.add_entry(madt);
    let root = place(bytes(&root));
    let mut tables = bytes(&Rsdp::new(OEM, root));
    tables.resize(ROOM as usize, 0);
    tables.extend(behind);
    tables
}

fn bytes(table: &dyn Aml) -> Vec<u8> {
    let mut bytes = Vec::new();
    table.to_aml_bytes(&mut bytes);
    bytes
}

fn port(number: u16) -> GAS {
    let size = AccessSize::ByteAccess;
    GAS::new(AddressSpace::SystemIo, 8, 0, size, number.into())
}

fn fadt(dsdt: u64) -> FADTBuilder {
    /// No VGA, no MSI, no PCI power states; no keyboard's controller by the lack
    /// of its bit.
    const NOT_THERE: u16 = 1 << 2 | 1 << 3 | 1 << 4;
    let mut fadt = FADTBuilder::new(OEM, OEM_TABLE, REVISION)
        .flag(Flags::HwReducedAcpi)
        .flag(Flags::ResetRegSup)
        .flag(Flags::Wbinvd)
        .dsdt_64(dsdt);
    fadt.iapc_boot_arch = NOT_THERE.into();
    fadt.reset_reg = port(layout::RESET);
    fadt.reset_value = 1;
    fadt.sleep_control_reg = port(layout::SLEEP_CONTROL);
    fadt.sleep_status_reg = port(layout::SLEEP_STATUS);
    fadt
}

/// ACPI specification, "Multiple APIC Description Table (MADT)".
fn madt(vcpus: u8) -> Sdt {
    const NO_OLD_CONTROLLERS: u32 = 0;
    let mut madt = Sdt::new(*b"APIC", 36, 4, OEM, OEM_TABLE, REVISION);
    madt.append_slice(&(layout::LOCAL_APIC as u32).to_le_bytes());
    madt.append_slice(&NO_OLD_CONTROLLERS.to_le_bytes());
    for number in 0..vcpus {
        let local = ProcessorLocalApic::new(number, number, EnabledStatus::Enabled);
        madt.append_slice(&bytes(&local));
    }
    let io = IoApic::new(vcpus, layout::IO_APIC as u32, 0);
    madt.append_slice(&bytes(&io));
    madt
}

fn dsdt(places: &[Place]) -> Sdt {
    let off = Package::new(vec![&ZERO; 4]);
    let mut dsdt = Sdt::new(*b"DSDT", 36, 2, OEM, OEM_TABLE, REVISION);
    dsdt.append_slice(&bytes(&Name::new("_S5_".into(), &off)));
    // A scope may be opened again and again.
    dsdt.append_slice(&serial());
    for (place, number) in places.iter().zip(0u8..) {
        dsdt.append_slice(&virtio(place, number));
    }
    dsdt
}

fn serial() -> Vec<u8> {
    let ports = IO::new(layout::SERIAL, layout::SERIAL, 1, 8);
    let interrupt = Interrupt::new(true, true, false, false, input::SERIAL.into());
    let id = EISAName::new("PNP0501");
    device("COM1", &id, 0, vec![&ports, &interrupt])
}

/// A device with registers of virtio's, by the name that Linux knows it by.
fn virtio(place: &Place, number: u8) -> Vec<u8> {
    let (at, size) = (place.registers as u32, layout::REGISTERS as u32);
    let registers = Memory32Fixed::new(true, at, size);
    let interrupt = Interrupt::new(true, true, false, false, place.input.into());
    device(
        place.name,
        &"LNRO0005",
        number,
        vec![&registers, &interrupt],
    )
}

/// Device `number` of those with the same `id`.
fn device(name: &str, id: &dyn Aml, number: u8, resources: Vec<&dyn Aml>) -> Vec<u8> {
    let [id, number, resources] = [
        Name::new("_HID".into(), id),
        Name::new("_UID".into(), &number),
        Name::new("_CRS".into(), &ResourceTemplate::new(resources)),
    ];
    let device = Device::new(name.into(), vec![&id, &number, &resources]);
    bytes(&Scope::new("_SB_".into(), vec![&device]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number<const BYTES: usize>(tables: &[u8], at: u64) -> u64 {
        let at = (at - layout::TABLES) as usize;
        let mut bytes = [0; 8];
        bytes[..BYTES].copy_from_slice(&tables[at..at + BYTES]);
        u64::from_le_bytes(bytes)
    }

    #[test]
    fn all_tables_are_found_from_the_first_and_add_up() {
        let tables = all(2, &[layout::DISK]);
        assert_eq!(&tables[..8], b"RSD PTR ");
        let root = number::<8>(&tables, layout::TABLES + 24);
        let [fadt, madt] = [36, 44].map(|at| number::<8>(&tables, root + at));
        let dsdt = number::<8>(&tables, fadt + 140);
        for (at, name) in [
            (root, b"XSDT"),
            (fadt, b"FACP"),
            (madt, b"APIC"),
            (dsdt, b"DSDT"),
        ] {
            let begin = (at - layout::TABLES) as usize;
            let length = number::<4>(&tables, at + 4) as usize;
            let table = &tables[begin..begin + length];
            assert_eq!(&table[..4], name);
            assert_eq!(
                table.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte)),
                0
            );
        }
    }

    #[test]
    fn each_vcpu_has_its_local_apic_and_each_device_is_told_of() {
        const HEADER: usize = 44;
        let madt = bytes(&madt(2));
        let [first, second] = [0, 8].map(|at| &madt[HEADER + at..HEADER + at + 8]);
        assert_eq!(
            (first, second),
            (&[0, 8, 0, 0, 1, 0, 0, 0][..], &[0, 8, 1, 1, 1, 0, 0, 0][..])
        );
        let devices = |places: &[Place]| {
            let table = bytes(&dsdt(places));
            table.windows(8).filter(|word| word == b"LNRO0005").count()
        };
        assert_eq!(devices(&[]), 0);
        assert_eq!(devices(&[layout::DISK, layout::NETWORK]), 2);
    }
}
