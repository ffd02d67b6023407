//! The local APIC: its registers, and what a write to its interrupt command
//! register asks for. Intel SDM volume 3, "Interrupt Command Register (ICR)".

use crate::msr;
use crate::startup::Signal;

/// Offsets of registers in the page, and in x2APIC mode a sixteenth of that
/// from [`X2_FIRST`].
#[allow(missing_docs)]
pub mod register {
    pub const ID: u16 = 0x20;
    pub const VERSION: u16 = 0x30;
    pub const TASK_PRIORITY: u16 = 0x80;
    pub const END_OF_INTERRUPT: u16 = 0xb0;
    pub const LOGICAL_DESTINATION: u16 = 0xd0;
    pub const DESTINATION_FORMAT: u16 = 0xe0;
    pub const SPURIOUS: u16 = 0xf0;
    pub const IN_SERVICE: u16 = 0x100;
    pub const ERROR_STATUS: u16 = 0x280;
    pub const CORRECTED: u16 = 0x2f0;
    pub const COMMAND: u16 = 0x300;
    pub const COMMAND_HIGH: u16 = 0x310;
    pub const TIMER: u16 = 0x320;
    pub const THERMAL: u16 = 0x330;
    pub const PERFORMANCE: u16 = 0x340;
    pub const PIN0: u16 = 0x350;
    pub const PIN1: u16 = 0x360;
    pub const ERROR: u16 = 0x370;
    pub const INITIAL_COUNT: u16 = 0x380;
    pub const DIVIDE: u16 = 0x3e0;

    /// Whether software may write a register at this offset, other than its
    /// number. Elsewhere in the page some machines take a write for a message
    /// of a device, which could carry any signal. Intel SDM volume 3, "The
    /// Local APIC Block Diagram"; AMD APM volume 2, "Extended APIC Registers".
    pub const fn is_writable(offset: u16) -> bool {
        match offset {
            TASK_PRIORITY | END_OF_INTERRUPT | LOGICAL_DESTINATION | DESTINATION_FORMAT
            | SPURIOUS | ERROR_STATUS | CORRECTED | INITIAL_COUNT | DIVIDE => true,
            // The command, and the local vector table.
            COMMAND..=ERROR => offset.is_multiple_of(16),
            // AMD's extended registers.
            0x410..=0x420 | 0x480..=0x530 => offset.is_multiple_of(16),
            _ => false,
        }
    }
}

/// The page's address after reset.
pub const PAGE: u64 = 0xfee0_0000;
/// The first MSR of x2APIC mode.
pub const X2_FIRST: u32 = 0x800;
/// The interrupt command register as an MSR.
pub const X2_COMMAND: u32 = X2_FIRST + register::COMMAND as u32 / 16;

/// Bits of it that must be clear. Intel SDM volume 3, "ICR Operation in x2APIC
/// Mode".
pub const X2_COMMAND_RESERVED: u64 = 0xfff3_3000;
/// The register that ends an interrupt as an MSR.
pub const X2_END_OF_INTERRUPT: u32 = X2_FIRST + register::END_OF_INTERRUPT as u32 / 16;

/// IA32_APIC_BASE: the boot processor.
pub const BASE_BOOT: u64 = 1 << 8;
/// IA32_APIC_BASE: x2APIC mode.
pub const BASE_X2: u64 = 1 << 10;
/// IA32_APIC_BASE: enabled.
pub const BASE_ENABLED: u64 = 1 << 11;

/// Whether IA32_APIC_BASE says that the APIC is on, and where each is after
/// reset.
pub const fn is_usual(base: u64) -> bool {
    base & BASE_ENABLED != 0 && base & msr::APIC_BASE_ADDRESS == PAGE
}

/// A command that sends an NMI.
pub const COMMAND_NMI: u32 = 4 << 8 | LEVEL_ASSERT;
/// A command is for all CPUs but who sends it.
pub const COMMAND_TO_OTHERS: u32 = 3 << 18;
/// Spurious-interrupt vector register: the APIC takes interrupts.
pub const SPURIOUS_ENABLED: u32 = 1 << 8;
/// A command is still under way.
pub const COMMAND_BUSY: u32 = 1 << 12;
const LEVEL_ASSERT: u32 = 1 << 14;

/// For whom an interrupt is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    /// Who sends it.
    Sender,
    /// All.
    All,
    /// All but who sends it.
    Others,
    /// The CPU with this number.
    Physical(u32),
    /// Those whose logical number matches.
    Logical(u32),
}

/// What a command asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// An ordinary interrupt or an NMI.
    Interrupt,
    /// A start-up signal.
    Startup(Signal, Destination),
    /// Nothing: the end of an INIT.
    Nothing,
}

/// A local APIC's way to be addressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Address {
    /// Its number.
    pub id: u32,
    /// The logical destination register.
    pub logical: u32,
    /// The destination format register.
    pub format: u32,
    /// In x2APIC mode.
    pub x2: bool,
}

impl Command {
    /// The command in `low`, to `destination`, which is wide in x2APIC mode.
    pub const fn decode(low: u32, destination: u32, x2: bool) -> Self {
        let signal = match low >> 8 & 7 {
            5 if low & (LEVEL_ASSERT | 1 << 15) == 1 << 15 => return Self::Nothing,
            5 => Signal::Init,
            6 => Signal::Startup(low as u8),
            _ => return Self::Interrupt,
        };
        let everyone = if x2 { u32::MAX } else { 0xff };
        let destination = match low >> 18 & 3 {
            0 if destination == everyone => Destination::All,
            0 if low & 1 << 11 != 0 => Destination::Logical(destination),
            0 => Destination::Physical(destination),
            1 => Destination::Sender,
            2 => Destination::All,
            _ => Destination::Others,
        };
        Self::Startup(signal, destination)
    }
}

impl Address {
    /// Whether an interrupt of `sender` to `destination` is for this one.
    pub const fn is_meant(&self, destination: Destination, sender: bool) -> bool {
        match destination {
            Destination::Sender => sender,
            Destination::All => true,
            Destination::Others => !sender,
            Destination::Physical(id) => id == self.id,
            Destination::Logical(mask) => self.matches(mask),
        }
    }

    /// Intel SDM volume 3, "Logical Destination Mode".
    const fn matches(&self, mask: u32) -> bool {
        if self.x2 {
            let own = (self.id >> 4) << 16 | 1 << (self.id & 15);
            return own >> 16 == mask >> 16 && own & mask & 0xffff != 0;
        }
        let own = self.logical >> 24;
        if self.format >> 28 == 0xf {
            return own & mask != 0;
        }
        let same_cluster = own >> 4 == mask >> 4 || mask >> 4 == 0xf;
        same_cluster && own & mask & 0xf != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_of_kernels_are_told_apart() {
        let decode = |low| Command::decode(low, 3, false);
        let physical = Destination::Physical(3);
        assert_eq!(decode(0xc500), Command::Startup(Signal::Init, physical));
        assert_eq!(decode(0x8500), Command::Nothing);
        let startup = Signal::Startup(0x9a);
        assert_eq!(decode(0x069a), Command::Startup(startup, physical));
        assert_eq!(decode(0x469a), Command::Startup(startup, physical));
        let others = Command::Startup(startup, Destination::Others);
        assert_eq!(decode(0xc_469a), others);
        for other in [0x00fd, 0x4400, 0xc_08fb] {
            assert_eq!(decode(other), Command::Interrupt, "{other:#x}");
        }
    }

    #[test]
    fn what_is_no_register_or_a_number_is_not_written() {
        for at in [0, 0x10, register::ID, 0x30, 0x100, 0x304, 0x390, 0xff0] {
            assert!(!register::is_writable(at), "{at:#x}");
        }
        for at in [0xb0, 0x2f0, 0x300, 0x310, 0x370, 0x380, 0x3e0, 0x500] {
            assert!(register::is_writable(at), "{at:#x}");
        }
    }

    #[test]
    fn a_broadcast_is_as_wide_as_the_mode() {
        let to = |id, x2| Command::decode(0x4500, id, x2);
        let init = |destination| Command::Startup(Signal::Init, destination);
        assert_eq!(to(0xff, false), init(Destination::All));
        assert_eq!(to(0xff, true), init(Destination::Physical(0xff)));
        assert_eq!(to(u32::MAX, true), init(Destination::All));
    }

    #[test]
    fn logical_numbers_match_by_mode() {
        let flat = Address {
            id: 1,
            logical: 0x0200_0000,
            format: u32::MAX,
            x2: false,
        };
        let meant = |address: Address, mask| address.is_meant(Destination::Logical(mask), false);
        assert!(meant(flat, 0x03) && !meant(flat, 0x05));
        let cluster = Address {
            logical: 0x2100_0000,
            format: 0x0fff_ffff,
            ..flat
        };
        assert!(meant(cluster, 0x23) && meant(cluster, 0xf1));
        assert!(!meant(cluster, 0x13) && !meant(cluster, 0x22));
        let wide = Address {
            id: 0x23,
            x2: true,
            ..flat
        };
        assert!(meant(wide, 0x2_000c) && !meant(wide, 0x2_0004) && !meant(wide, 0x0008));
    }

    #[test]
    fn shorthands_count_the_sender_in_or_out() {
        let address = Address::default();
        assert!(address.is_meant(Destination::All, true));
        assert!(!address.is_meant(Destination::Others, true));
        assert!(address.is_meant(Destination::Others, false));
        assert!(!address.is_meant(Destination::Sender, false));
    }
}
