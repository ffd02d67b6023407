//! Where things are in the VM: the addresses of its devices, and of what the
//! kernel finds in memory when it starts.

/// The local APICs, each vCPU's own at the same address.
pub const LOCAL_APIC: u64 = 0xfee0_0000;
/// The I/O APIC.
pub const IO_APIC: u64 = 0xfec0_0000;
/// Bytes of each of them.
pub const REGISTERS: u64 = 0x1000;
/// A device of virtio's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its name in the ACPI tables.
    pub name: &'static str,
    /// Its registers.
    pub registers: u64,
    /// Its input of the I/O APIC.
    pub input: u8,
}

/// The disk.
pub const DISK: Place = Place {
    name: "DISK",
    registers: 0xfeb0_0000,
    input: 5,
};
/// The network device.
pub const NETWORK: Place = Place {
    name: "NET0",
    registers: DISK.registers + REGISTERS,
    input: 6,
};
/// Where memory ends at the latest: the devices are above.
pub const MEMORY_END: u64 = 0xc000_0000;

/// The serial port's eight ports.
pub const SERIAL: u16 = 0x3f8;
/// The clock's two ports.
pub const CLOCK: u16 = 0x70;
/// The second channel of the timer that PCs have. Nobody counts there, and one
/// who looks for a count must see that it stands still at 0.
pub const TIMER: u16 = 0x42;
/// The keyboard's controller, by which old systems reset the machine.
pub const KEYBOARD: u16 = 0x64;
/// Puts the machine to sleep; only the sleep of switching off is known.
pub const SLEEP_CONTROL: u16 = 0x600;
/// Says whether it woke. It never does.
pub const SLEEP_STATUS: u16 = 0x601;
/// Resets the machine.
pub const RESET: u16 = 0x602;

/// Inputs of the I/O APIC.
pub mod input {
    /// The serial port's.
    pub const SERIAL: u8 = 4;
}

/// The descriptors with which the kernel starts.
pub const DESCRIPTORS: u64 = 0x1000;
/// What the boot protocol calls the zero page.
pub const ZERO_PAGE: u64 = 0x7000;
/// The page tables with which the kernel starts: six pages.
pub const PAGE_TABLES: u64 = 0x9000;
/// The kernel's command line.
pub const COMMAND_LINE: u64 = 0x2_0000;
/// Its greatest size.
pub const COMMAND_LINE_SIZE: usize = 0x1000;
/// The first range of memory that is nobody's ends here.
pub const LOW_END: u64 = 0x9_fc00;
/// The ACPI tables.
pub const TABLES: u64 = 0xe_0000;
/// Where high memory begins, and the kernel.
pub const HIGH_BEGIN: u64 = 0x10_0000;
