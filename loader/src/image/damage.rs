//! What can be wrong with the hypervisor's file, a sentence each.

use core::fmt;

use abi::handoff::SEGMENTS_MAX;

/// The first thing that is wrong with the file.
// The fields are what the variant's sentence names.
#[allow(missing_docs)]
#[derive(Debug)]
pub enum Damage {
    /// It does not end in a footer.
    NoFooter,
    /// The footer belongs to a file of another length.
    Length { stored: u64, found: usize },
    /// The footer belongs to other bytes.
    Checksum { stored: u32, computed: u32 },
    /// The ELF structures do not hold together.
    NotElf(elf::ParseError),
    /// It is for another machine (`e_machine`).
    OtherMachine(u16),
    /// It has a fixed address, or wants a dynamic linker.
    NotStaticPie,
    /// It has this many loadable segments, none or too many.
    SegmentCount(usize),
    /// This segment's data or place make no sense, or it is writable and
    /// executable at once.
    BadSegment(usize),
    /// This segment has a page in common with a later one.
    SharedPage(usize),
    /// The entry point is in no executable segment.
    EntryOutside(u64),
    /// The relocation table is of another form, or not inside the file.
    RelocationTable,
    /// A relocation of this type.
    RelocationKind(u32),
    /// A relocation that would write outside the segments.
    RelocationOutside(u64),
    /// The slice to load it into is too small.
    NoRoom,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoFooter => write!(f, "it does not end in Underlay's checksum: part is missing"),
            Self::Length { stored, found } => {
                write!(
                    f,
                    "it should have {stored} bytes before its checksum and has {found}"
                )
            }
            Self::Checksum { stored, computed } => {
                write!(
                    f,
                    "its checksum is {computed:#010x} and should be {stored:#010x}"
                )
            }
            Self::NotElf(error) => write!(f, "it is not a whole ELF file ({error})"),
            Self::OtherMachine(machine) => {
                write!(f, "it is not for 64-bit x86 (ELF machine {machine})")
            }
            Self::NotStaticPie => write!(f, "it is not a static position-independent program"),
            Self::SegmentCount(count) => {
                write!(
                    f,
                    "it has {count} loadable segments, not 1 to {SEGMENTS_MAX}"
                )
            }
            Self::BadSegment(index) => write!(f, "its segment {index} makes no sense"),
            Self::SharedPage(index) => {
                write!(f, "its segment {index} shares a page with a later one")
            }
            Self::EntryOutside(entry) => {
                write!(f, "its entry point {entry:#x} is in no executable segment")
            }
            Self::RelocationTable => write!(f, "its relocation table makes no sense"),
            Self::RelocationKind(kind) => {
                write!(
                    f,
                    "it has a relocation of type {kind}, not R_X86_64_RELATIVE"
                )
            }
            Self::RelocationOutside(offset) => {
                write!(
                    f,
                    "it has a relocation outside its segments, at {offset:#x}"
                )
            }
            Self::NoRoom => write!(f, "it does not fit into the memory reserved for it"),
        }
    }
}
