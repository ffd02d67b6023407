//! The paging modes, and what this CPU has of what the rights depend on.

use crate::cpu::Register::{Ebx, Ecx, Edx};
use crate::cpu::{self, feature};
use core::fmt;
use x86::control::Cr4;

/// A paging mode, and the code that runs in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// 64-bit code with 4-level paging.
    Four,
    /// 64-bit code with 5-level paging.
    Five,
    /// 32-bit code with 4-level paging.
    Compatible,
    /// 32-bit code with 32-bit paging and physical-address extension.
    Pae,
    /// 32-bit code with 32-bit paging.
    Narrow,
    /// 32-bit code without paging.
    Unpaged,
}

impl Mode {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Four,
        Self::Five,
        Self::Compatible,
        Self::Pae,
        Self::Narrow,
        Self::Unpaged,
    ];

    /// IA-32e mode.
    pub fn is_long(self) -> bool {
        matches!(self, Self::Four | Self::Five | Self::Compatible)
    }

    /// 64-bit code.
    pub fn is_wide(self) -> bool {
        matches!(self, Self::Four | Self::Five)
    }

    /// The bits of CR4 that choose it.
    pub fn cr4(self) -> Cr4 {
        match self {
            Self::Five => Cr4::PAE | Cr4::LA57,
            Self::Four | Self::Compatible | Self::Pae => Cr4::PAE,
            Self::Narrow | Self::Unpaged => Cr4::empty(),
        }
    }

    /// How many levels of entries lead to the page and to nothing else. The
    /// highest is in a table that maps the code as well.
    pub fn levels(self) -> usize {
        match self {
            Self::Five => 5,
            Self::Four => 4,
            Self::Compatible | Self::Pae => 3,
            Self::Narrow => 2,
            Self::Unpaged => 0,
        }
    }

    /// Bytes of an entry, and how many bits of an address select one.
    pub fn entry(self) -> (u64, u32) {
        match self {
            Self::Narrow | Self::Unpaged => (4, 10),
            _ => (8, 9),
        }
    }

    /// The lowest bit of an address that selects an entry of `level`.
    pub fn shift(self, level: usize) -> u32 {
        12 + self.entry().1 * (level as u32 - 1)
    }

    /// Where linear addresses begin that the second entry of the highest level
    /// maps; the first GiB of memory is shown from there on.
    pub fn base(self) -> u64 {
        match self {
            Self::Five => 1 << 48,
            Self::Four => 1 << 39,
            Self::Compatible | Self::Pae | Self::Narrow => 1 << 30,
            Self::Unpaged => 0,
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Four => "4-level paging, 64-bit code",
            Self::Five => "5-level paging, 64-bit code",
            Self::Compatible => "4-level paging, 32-bit code",
            Self::Pae => "PAE paging",
            Self::Narrow => "32-bit paging",
            Self::Unpaged => "no paging",
        })
    }
}

/// What the CPU offers.
#[derive(Clone, Copy, Debug)]
pub struct Features {
    /// Supervisor-mode execution prevention.
    pub smep: bool,
    /// Supervisor-mode access prevention.
    pub smap: bool,
    /// Protection keys for user pages.
    pub keys: bool,
    /// 5-level paging.
    pub five: bool,
    /// Pages that cannot be executed.
    pub no_execute: bool,
    /// 1 GiB pages.
    pub gib_pages: bool,
    /// Bits of a physical address.
    pub physical_bits: u32,
}

impl Features {
    /// Those of this CPU.
    pub fn of_this_cpu() -> Self {
        let address_sizes = 0x8000_0008;
        let has_sizes = cpu::cpuid(0x8000_0000).eax >= address_sizes;
        let sizes = cpu::cpuid(address_sizes).eax;
        Self {
            smep: feature(7, Ebx, 7),
            smap: feature(7, Ebx, 20),
            keys: feature(7, Ecx, 3),
            five: feature(7, Ecx, 16),
            no_execute: feature(0x8000_0001, Edx, 20),
            gib_pages: feature(0x8000_0001, Edx, 26),
            physical_bits: if has_sizes { sizes & 0xff } else { 36 },
        }
    }

    /// Whether it has the mode.
    pub fn has(&self, mode: Mode) -> bool {
        mode != Mode::Five || self.five
    }
}
