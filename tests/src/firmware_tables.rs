//! The ACPI tables that OVMF would give an operating system in QEMU, for Bochs
//! with the chipset i440FX: without them Linux has one CPU, no I/O APIC and no
//! power-off there, and shows no table of Underlay's.
//!
//! Addresses in the tables stay 0 for the firmware to fill in.

use acpi_tables::Aml;
use acpi_tables::aml::{
    AddressSpace, AddressSpaceCacheable, Device, EISAName, IO, Name, ONE, Package, PackageBuilder,
    ResourceTemplate, Scope, ZERO,
};
use acpi_tables::facs::FACS;
use acpi_tables::fadt::{FADTBuilder, Flags};
use acpi_tables::madt::{EnabledStatus, IoApic, ProcessorLocalApic};
use acpi_tables::sdt::Sdt;
use alloc::vec;
use alloc::vec::Vec;

const OEM: [u8; 6] = *b"ULTEST";
const OEM_TABLE: [u8; 8] = *b"FIXTURE ";
const OEM_REVISION: u32 = 1;

/// The interrupt of the chipset's power management: of the ISA bus, but level.
const SCI: u8 = 10;

/// FACS, DSDT, FADT and MADT for a machine whose processors have the local
/// APICs `apics`.
pub fn all(apics: &[u8]) -> [Vec<u8>; 4] {
    [
        bytes(&FACS::new()),
        bytes(&dsdt()),
        bytes(&fadt().finalize()),
        bytes(&madt(apics)),
    ]
}

fn bytes(table: &dyn Aml) -> Vec<u8> {
    let mut bytes = Vec::new();
    table.to_aml_bytes(&mut bytes);
    bytes
}

/// The power management of the PIIX4, where OVMF puts it. Its SCI is on from
/// the start, so no port switches ACPI on. No register of the century is named:
/// OVMF would take it up by setting the clock anew, and Bochs 2.7 puts that back
/// by an hour at each setting.
fn fadt() -> FADTBuilder {
    const EVENTS: u32 = 0xb000;
    const CONTROL: u32 = EVENTS + 4;
    const TIMER: u32 = EVENTS + 8;
    /// More microseconds than a state of a CPU may take to leave: there is none.
    const NO_C2: u16 = 101;
    const NO_C3: u16 = 1001;
    /// Devices of the ISA bus, and the keyboard's controller among them.
    const LEGACY: u16 = 0b11;
    let mut fadt = FADTBuilder::new(OEM, OEM_TABLE, OEM_REVISION)
        .flag(Flags::Wbinvd)
        .flag(Flags::ProcC1)
        .flag(Flags::SlpButton)
        .flag(Flags::FixRtc);
    fadt.sci_int = u16::from(SCI).into();
    fadt.pm1a_evt_blk = EVENTS.into();
    fadt.pm1_evt_len = 4;
    fadt.pm1a_cnt_blk = CONTROL.into();
    fadt.pm1_cnt_len = 2;
    fadt.pm_tmr_blk = TIMER.into();
    fadt.pm_tmr_len = 4;
    fadt.p_lvl2_lat = NO_C2.into();
    fadt.p_lvl3_lat = NO_C3.into();
    fadt.iapc_boot_arch = LEGACY.into();
    fadt
}

/// The local APICs, the I/O APIC, and how the interrupts of the ISA bus reach
/// it. The crate's own MADT has no overrides and no NMIs. ACPI specification,
/// "Multiple APIC Description Table (MADT)".
fn madt(apics: &[u8]) -> Sdt {
    const LOCAL_APIC: u32 = 0xfee0_0000;
    const IO_APIC: u32 = 0xfec0_0000;
    const PCAT_COMPAT: u32 = 1;
    /// Type 2, bus 0: timer to the third input, edge and high as on the bus.
    const TIMER_OVERRIDE: [u8; 10] = [2, 10, 0, 0, 2, 0, 0, 0, 0, 0];
    /// Active high, by level.
    const SCI_OVERRIDE: [u8; 10] = [2, 10, 0, SCI, SCI, 0, 0, 0, 0b1101, 0];
    /// Type 4: input LINT1 of all processors.
    const NMI: [u8; 6] = [4, 6, 0xff, 0, 0, 1];
    let mut madt = Sdt::new(*b"APIC", 36, 3, OEM, OEM_TABLE, OEM_REVISION);
    madt.append_slice(&LOCAL_APIC.to_le_bytes());
    madt.append_slice(&PCAT_COMPAT.to_le_bytes());
    for (number, apic) in (0..).zip(apics) {
        let local = ProcessorLocalApic::new(number, *apic, EnabledStatus::Enabled);
        madt.append_slice(&bytes(&local));
    }
    // Bochs numbers it behind the local ones.
    let free = apics.iter().max().map_or(0, |last| last.wrapping_add(1));
    madt.append_slice(&bytes(&IoApic::new(free, IO_APIC, 0)));
    for entry in [&TIMER_OVERRIDE[..], &SCI_OVERRIDE, &NMI] {
        madt.append_slice(entry);
    }
    madt
}

/// Sleep, power-off, and the PCI bus with what its bridge passes on: all ports but its
/// own, and memory between the RAM's end and the APICs.
fn dsdt() -> Sdt {
    const UNCACHED: AddressSpaceCacheable = AddressSpaceCacheable::NotCacheable;
    let windows: [&dyn Aml; 6] = [
        &AddressSpace::new_bus_number(0_u16, 0xff),
        &IO::new(0xcf8, 0xcf8, 1, 8),
        &AddressSpace::new_io(0_u16, 0xcf7, None),
        &AddressSpace::new_io(0xd00_u16, 0xffff, None),
        &AddressSpace::new_memory(UNCACHED, true, 0xa_0000_u32, 0xb_ffff, None),
        &AddressSpace::new_memory(UNCACHED, true, 0xc000_0000_u32, 0xfebf_ffff, None),
    ];
    let windows = ResourceTemplate::new(windows.to_vec());
    let pci: [&dyn Aml; 4] = [
        &Name::new("_HID".into(), &EISAName::new("PNP0A03")),
        &Name::new("_UID".into(), &ZERO),
        &Name::new("_CRS".into(), &windows),
        &Name::new("_PRT".into(), &interrupts()),
    ];
    let pci = Device::new("PCI0".into(), pci.to_vec());
    let power_off = Package::new(vec![&ZERO; 4]);
    let sleep: [&dyn Aml; 4] = [&ONE, &ONE, &ZERO, &ZERO];
    let sleep = Package::new(sleep.to_vec());
    let mut dsdt = Sdt::new(*b"DSDT", 36, 2, OEM, OEM_TABLE, OEM_REVISION);
    dsdt.append_slice(&bytes(&Name::new("_S3_".into(), &sleep)));
    dsdt.append_slice(&bytes(&Name::new("_S5_".into(), &power_off)));
    dsdt.append_slice(&bytes(&Scope::new("_SB_".into(), vec![&pci])));
    dsdt
}

/// Each device's four pins lead to four inputs behind those of the ISA bus, the
/// next device's to the same shifted by one. ACPI specification, "_PRT (PCI
/// Routing Table)".
fn interrupts() -> PackageBuilder {
    const DEVICES: u32 = 8;
    const PINS: u32 = 4;
    const FIRST_INPUT: u32 = 16;
    let mut routes = PackageBuilder::new();
    for device in 0..DEVICES {
        for pin in 0..PINS {
            let any_function = device << 16 | 0xffff;
            let input = FIRST_INPUT + (device + pin + PINS - 1) % PINS;
            routes.add_element(&Package::new(vec![&any_function, &pin, &ZERO, &input]));
        }
    }
    routes
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: usize = 36;

    #[test]
    fn headers_are_what_acpi_wants() {
        let [facs, others @ ..] = all(&[0]);
        assert_eq!(&facs[..4], b"FACS");
        for (table, signature) in others.iter().zip([b"DSDT", b"FACP", b"APIC"]) {
            assert_eq!(&table[..4], signature);
            let length = u32::from_le_bytes(table[4..8].try_into().unwrap());
            assert_eq!(length as usize, table.len());
            let sum = table.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
            assert_eq!(sum, 0, "{signature:?}");
        }
    }

    /// Type, length and the rest of each entry of the MADT.
    fn entries(apics: &[u8]) -> Vec<Vec<u8>> {
        let madt = bytes(&madt(apics));
        let mut rest = &madt[HEADER + 8..];
        let mut entries = Vec::new();
        while let [_, length, ..] = *rest {
            let (entry, behind) = rest.split_at(length.into());
            entries.push(entry.to_vec());
            rest = behind;
        }
        entries
    }

    #[test]
    fn each_processor_has_its_entry() {
        let entries = entries(&[0, 2, 4]);
        let local: Vec<_> = entries.iter().filter(|entry| entry[0] == 0).collect();
        let found: Vec<_> = local
            .iter()
            .map(|entry| (entry[2], entry[3], entry[4]))
            .collect();
        assert_eq!(found, [(0, 0, 1), (1, 2, 1), (2, 4, 1)]);
    }

    #[test]
    fn the_io_apic_has_a_number_of_its_own() {
        let entries = entries(&[0, 2, 1]);
        let io: Vec<_> = entries.iter().filter(|entry| entry[0] == 1).collect();
        assert_eq!(io.len(), 1);
        assert_eq!(io[0][2], 3);
    }
}
