//! The handoff: what the loader tells the hypervisor when it calls its entry
//! point, and what the hypervisor answers.
//!
//! The loader calls `entry(&mut Handoff, role) -> u64` on every CPU, with the
//! System V calling convention, at CPL 0 in 64-bit mode, with interrupts off
//! (the loader turns them on again) and the region executable and
//! identity-mapped. The call returns once: with 0 as a guest of the hypervisor,
//! or with a [`crate::Refusal`]'s code and the machine as it was.

/// `Handoff::magic`: spells `ULAYHAND`.
pub const MAGIC: u64 = u64::from_le_bytes(*b"ULAYHAND");
/// `Handoff::version`: changes with every change of this layout.
pub const VERSION: u32 = 5;

/// The hypervisor's file is an ELF file and behind it a footer of this many
/// bytes: [`FOOTER_MAGIC`], the length of the ELF file and its CRC-32 (IEEE),
/// both as little-endian 32-bit numbers. ELF itself would not notice a sector
/// that went bad.
pub const FOOTER_SIZE: usize = 16;
/// What the footer starts with.
pub const FOOTER_MAGIC: [u8; 8] = *b"ULAYCRC1";

/// Entry point's second argument: the CPU on which the loader runs. It lays out
/// the region for all.
pub const ROLE_FIRST: u64 = 0;
/// The same: any other CPU, in any order.
pub const ROLE_OTHER: u64 = 1;

/// The most CPUs that the hypervisor handles.
pub const CPUS_MAX: u32 = 64;

/// The region's base and size are multiples of this (bytes): nested tables can
/// then leave it out with large pages around it.
pub const REGION_ALIGN: u64 = 2 << 20;

/// The most loadable segments that the hypervisor's ELF file may have.
pub const SEGMENTS_MAX: usize = 8;

/// One loadable segment of the hypervisor, for page protection: whole pages,
/// none of which is in two segments.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Segment {
    /// Offset of its first byte from the region's base, in bytes.
    pub offset: u64,
    /// Size in memory, in bytes.
    pub size: u64,
    /// ELF `p_flags`: 1 execute, 2 write, 4 read.
    pub flags: u64,
}

/// A range of memory: no device answers in it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// The first byte.
    pub start: u64,
    /// The byte after the last.
    pub end: u64,
}

/// How many ranges of memory a handoff can name.
pub const MEMORY_MAX: usize = 16;

/// Segment flag: executable.
pub const SEGMENT_EXECUTE: u64 = 1;
/// Segment flag: writable.
pub const SEGMENT_WRITE: u64 = 2;

/// `Handoff::presence`: what a guest can see of the hypervisor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Presence {
    /// The hypervisor leaves of CPUID answer; the hypervisor bit of leaf 1 is
    /// clear, because Linux takes slower locks and timers when it is set.
    #[default]
    Leaf,
    /// The leaves answer and the hypervisor bit of leaf 1 is set.
    Bit,
    /// Neither; the call instruction raises #UD.
    Hidden,
}

/// `Handoff::log_port`: where the log is written beside its ring in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogPort {
    /// The first serial port, 0x3f8.
    Com1,
    /// The second serial port, 0x2f8.
    #[default]
    Com2,
    /// The debug console of Bochs and QEMU, port 0xe9.
    Debugcon,
    /// Nowhere: the log stays in memory.
    None,
}

/// `Handoff::log_level`: the least important line that is still logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogLevel {
    /// Only what ends a machine.
    Error,
    /// And what should not happen.
    Warn,
    /// And what is worth knowing.
    #[default]
    Info,
    /// And what an engineer asks for.
    Debug,
    /// Everything.
    Trace,
}

/// `Handoff::compat`: which other hypervisor's clients programs may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compat {
    /// None.
    #[default]
    None,
    /// BitVisor's, which know no owner token: any program may call its names.
    BitVisor,
}

/// `Handoff::startup_watch`: how long writes to local APICs exit, by which INIT
/// and start-up signals stop at their sender.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StartupWatch {
    /// Until all CPUs are up, unless the machine is itself a virtual one.
    #[default]
    Auto,
    /// For as long as the machine runs.
    Always,
    /// Until all CPUs are up, and again when one may be started anew.
    UntilUp,
}

impl Compat {
    /// The value in the handoff.
    pub const fn code(self) -> u32 {
        match self {
            Self::None => 0,
            Self::BitVisor => 1,
        }
    }
}

macro_rules! code {
    ($($type:ident { $($variant:ident = $code:literal),* })*) => {$(
        impl $type {
            /// The value in the handoff.
            pub const fn code(self) -> u32 {
                match self { $(Self::$variant => $code),* }
            }
            /// The variant with this value in the handoff.
            pub const fn from_code(code: u32) -> Option<Self> {
                match code { $($code => Some(Self::$variant),)* _ => None }
            }
        }
    )*};
}
code! {
    Presence { Leaf = 0, Bit = 1, Hidden = 2 }
    LogPort { Com1 = 1, Com2 = 2, Debugcon = 3, None = 0 }
    LogLevel { Error = 1, Warn = 2, Info = 3, Debug = 4, Trace = 5 }
    StartupWatch { Auto = 0, Always = 1, UntilUp = 2 }
}

/// One of the two sets of registers by which a machine is put to sleep, as its
/// ACPI tables have it. ACPI specification, "PM1 Control Registers".
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sleep {
    /// The control register's port; 0 if there is none.
    pub control: u16,
    /// The status register's port; 0 if there is none.
    pub status: u16,
    /// Bit N is set if a sleep of type N leads back beneath the hypervisor.
    pub harmless: u32,
}

/// What the loader tells the hypervisor. Addresses are physical, sizes bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Handoff {
    /// [`MAGIC`].
    pub magic: u64,
    /// [`VERSION`].
    pub version: u32,
    /// CPUs that the firmware has enabled.
    pub cpus: u32,
    /// Reserved for the hypervisor; a multiple of [`REGION_ALIGN`].
    pub region_base: u64,
    /// Size of the region; a multiple of [`REGION_ALIGN`].
    pub region_size: u64,
    /// The loaded and relocated image fills the region's first bytes.
    pub image_size: u64,
    /// The segments of the image; unused ones have size 0.
    pub segments: [Segment; SEGMENTS_MAX],
    /// The guest's memory, as the firmware's map has it, neighbours joined.
    /// Unused places are empty ranges.
    pub memory: [Memory; MEMORY_MAX],
    /// Ticks of the time-stamp counter per second, measured by the loader.
    pub tsc_hz: u64,
    /// Time-stamp counter when the loader started.
    pub loader_tsc: u64,
    /// A [`Presence`] code.
    pub presence: u32,
    /// A [`LogPort`] code.
    pub log_port: u32,
    /// A [`LogLevel`] code.
    pub log_level: u32,
    /// 1: the ways to print are offered, see
    /// [`crate::discovery::LEAF_PRINT`]. 0: they are not.
    pub print: u32,
    /// Size of each CPU's trace, a multiple of a page. 0: exits are not traced.
    pub trace_size: u64,
    /// A [`Compat`] code.
    pub compat: u32,
    /// A [`StartupWatch`] code.
    pub startup_watch: u32,
    /// How it is put to sleep.
    pub sleep: [Sleep; 2],
    /// Memory of the guest's that children are given, behind which its owner's
    /// programs see what they gave; a multiple of [`REGION_ALIGN`].
    pub pool_base: u64,
    /// Size of the pool, a multiple of [`REGION_ALIGN`]. 0: there are no
    /// children.
    pub pool_size: u64,
    /// The owner token, R8 and R9; 0 if there is none. See
    /// [`crate::token::Token`].
    pub token: [u64; 2],
    /// Written by the hypervisor: details of a refusal, see [`crate::Refusal`].
    pub detail: [u64; 2],
}

/// Bytes that the hypervisor wants, beside its image, for everything that it
/// makes at boot. An estimate from above, shared by the loader, which must
/// reserve before the hypervisor runs, and the hypervisor, which checks it.
pub mod footprint {
    use super::REGION_ALIGN;

    const PAGE: u64 = 4096;
    /// Stacks with guard pages, control blocks, bitmaps and statistics of one
    /// CPU.
    pub const PER_CPU: u64 = 64 * PAGE;
    /// Ring of log text.
    pub const LOG: u64 = 32 * PAGE;
    /// Heap, used only while starting.
    pub const HEAP: u64 = 64 * PAGE;
    /// The hypervisor's own page tables, above those that memory size asks for.
    pub const OWN_TABLES: u64 = 24 * PAGE;
    /// Splits of nested tables that no formula covers: low memory, the region.
    pub const NESTED_SPLITS: u64 = 24 * PAGE;
    /// Pages that controllers may watch: each splits what it lies in.
    pub const WATCHED_MAX: usize = 8;
    /// A table of 2 MiB pages and one of pages for each watched page.
    const WATCHED_SPLITS: u64 = 2 * WATCHED_MAX as u64 * PAGE;

    /// Physical address bits that a 4-level nested table can map.
    pub const NESTED_BITS_MAX: u32 = 48;
    /// Without 1 GiB pages the tables cover no more than this many bits.
    pub const SMALL_PAGE_BITS_MAX: u32 = 39;

    /// Address bits that the nested tables cover.
    pub fn nested_bits(physical_bits: u32, gib_pages: bool) -> u32 {
        let most = if gib_pages {
            NESTED_BITS_MAX
        } else {
            SMALL_PAGE_BITS_MAX
        };
        physical_bits.clamp(32, most)
    }

    /// Bytes of nested tables.
    pub fn nested_tables(physical_bits: u32, gib_pages: bool, variable_mtrrs: u32) -> u64 {
        let bits = nested_bits(physical_bits, gib_pages);
        let directories_of_pointers = 1u64 << bits.saturating_sub(39);
        let directories = if gib_pages {
            0
        } else {
            1u64 << bits.saturating_sub(30)
        };
        let ranges = 2 * u64::from(variable_mtrrs);
        (1 + directories_of_pointers + directories + ranges) * PAGE + NESTED_SPLITS + WATCHED_SPLITS
    }

    /// Bytes of the hypervisor's own tables for memory up to `memory_end`.
    pub fn own_tables(memory_end: u64, gib_pages: bool) -> u64 {
        let shift = if gib_pages { 39 } else { 30 };
        OWN_TABLES + ((memory_end >> shift) + 5) * PAGE
    }

    /// Tables and control blocks of children who share a pool of `pool_size`
    /// bytes: two pages for each 2 MiB of it, and what a few children take before
    /// they have any memory. What is beyond is refused to them.
    pub fn children(pool_size: u64) -> u64 {
        match pool_size {
            0 => 0,
            bytes => (CHILDREN + bytes / 256).next_multiple_of(PAGE),
        }
    }

    /// What children take at least.
    const CHILDREN: u64 = 512 * PAGE;
    /// Where they are kept.
    const SLOTS: u64 = 64 * PAGE;

    /// Size of the region for an image of `image_size` bytes, with a trace of
    /// `trace_size` bytes on each CPU, and a pool of `pool_size` bytes.
    #[allow(clippy::too_many_arguments)]
    pub fn region(
        image_size: u64,
        cpus: u32,
        trace_size: u64,
        pool_size: u64,
        memory_end: u64,
        physical_bits: u32,
        gib_pages: bool,
        variable_mtrrs: u32,
    ) -> u64 {
        let sum = image_size.next_multiple_of(PAGE)
            + u64::from(cpus) * (PER_CPU + trace_size)
            + LOG
            + HEAP
            + children(pool_size)
            + if pool_size > 0 { SLOTS } else { 0 }
            + own_tables(memory_end, gib_pages)
            + nested_tables(physical_bits, gib_pages, variable_mtrrs);
        sum.next_multiple_of(REGION_ALIGN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::mem::{offset_of, size_of};

    #[test]
    fn the_layout_has_no_padding_and_does_not_move_by_accident() {
        assert_eq!(offset_of!(Handoff, region_base), 16);
        assert_eq!(offset_of!(Handoff, segments), 40);
        assert_eq!(offset_of!(Handoff, memory), 40 + 24 * SEGMENTS_MAX);
        assert_eq!(
            size_of::<Handoff>(),
            40 + 24 * SEGMENTS_MAX + 16 * MEMORY_MAX + 2 * 8 + 4 * 4 + 8 + 2 * 4 + 4 * 8 + 2 * 16
        );
    }

    #[test]
    fn codes_survive() {
        for code in 0..8 {
            if let Some(value) = Presence::from_code(code) {
                assert_eq!(value.code(), code);
            }
            if let Some(value) = LogPort::from_code(code) {
                assert_eq!(value.code(), code);
            }
            if let Some(value) = LogLevel::from_code(code) {
                assert_eq!(value.code(), code);
            }
            if let Some(value) = StartupWatch::from_code(code) {
                assert_eq!(value.code(), code);
            }
        }
    }

    #[test]
    fn a_small_machine_fits_into_one_large_page() {
        let region = footprint::region(400 << 10, 1, 0, 0, 1 << 30, 40, true, 8);
        assert_eq!(region, 2 << 20);
    }
}
