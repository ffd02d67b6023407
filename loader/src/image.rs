//! The hypervisor's file: checked from end to end before any memory is asked
//! for, then copied and relocated into a slice. A file that the disk or a
//! careless copy has damaged is refused with a sentence; nothing that a file
//! can hold makes this code panic or write outside the slice.

mod damage;
mod footer;
mod relocations;

use abi::handoff::{SEGMENT_EXECUTE, SEGMENT_WRITE, SEGMENTS_MAX, Segment};
use elf::ElfBytes;
use elf::abi::{EM_X86_64, ET_DYN, PT_INTERP, PT_LOAD};
use elf::endian::LittleEndian;
use elf::file::Class;
use elf::segment::ProgramHeader;

pub use damage::Damage;
pub use footer::seal;

type Elf<'a> = ElfBytes<'a, LittleEndian>;

const PAGE: u64 = 4096;
/// The most bytes that the image may take when loaded; a sane one takes half a
/// mebibyte.
pub const IMAGE_MAX: u64 = 64 << 20;

/// What the loader has to know before it reserves memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Bytes that the loaded image takes, a multiple of the page size.
    pub size: u64,
    /// Offset of the entry point.
    pub entry: u64,
    /// Whole pages of each segment; no page is in two. Unused ones are empty.
    pub segments: [Segment; SEGMENTS_MAX],
}

/// A file that passed every check.
pub struct Image<'a> {
    /// Where its pieces go.
    pub plan: Plan,
    elf: Elf<'a>,
    relocations: &'a [u8],
}

impl<'a> Image<'a> {
    /// Checks a file: the footer, the header, the segments, the entry point
    /// and the relocations.
    pub fn parse(file: &'a [u8]) -> Result<Self, Damage> {
        let elf = Elf::minimal_parse(footer::unseal(file)?).map_err(Damage::NotElf)?;
        check_header(&elf)?;
        let segments = segments(&elf)?;
        let plan = Plan {
            size: segments.iter().map(end).max().unwrap_or(0),
            entry: entry(&elf, &segments)?,
            segments,
        };
        let relocations = relocations::find(&elf)?;
        relocations::check(relocations, &segments)?;
        Ok(Self {
            plan,
            elf,
            relocations,
        })
    }

    /// Copies the image to the start of a slice of zeros that will lie at
    /// `base`, and relocates it.
    pub fn load(&self, into: &mut [u8], base: u64) -> Result<(), Damage> {
        for header in loads(&self.elf) {
            let data = self.elf.segment_data(&header).map_err(Damage::NotElf)?;
            let target = slice(into, header.p_vaddr, data.len()).ok_or(Damage::NoRoom)?;
            target.copy_from_slice(data);
        }
        relocations::apply(self.relocations, into, base)
    }
}

fn slice(bytes: &mut [u8], offset: u64, size: usize) -> Option<&mut [u8]> {
    let start = usize::try_from(offset).ok()?;
    bytes.get_mut(start..start.checked_add(size)?)
}

fn end(segment: &Segment) -> u64 {
    segment.offset + segment.size
}

fn contains(segment: &Segment, offset: u64, size: u64) -> bool {
    let last = offset.checked_add(size);
    offset >= segment.offset && last.is_some_and(|last| last <= end(segment))
}

fn check_header(elf: &Elf<'_>) -> Result<(), Damage> {
    let header = &elf.ehdr;
    if header.class != Class::ELF64 || header.e_machine != EM_X86_64 {
        return Err(Damage::OtherMachine(header.e_machine));
    }
    let interpreted = headers(elf).any(|header| header.p_type == PT_INTERP);
    if header.e_type != ET_DYN || interpreted {
        return Err(Damage::NotStaticPie);
    }
    Ok(())
}

fn headers<'a>(elf: &Elf<'a>) -> impl Iterator<Item = ProgramHeader> + use<'a> {
    elf.segments().into_iter().flat_map(|table| table.iter())
}

fn loads<'a>(elf: &Elf<'a>) -> impl Iterator<Item = ProgramHeader> + use<'a> {
    headers(elf).filter(|header| header.p_type == PT_LOAD && header.p_memsz > 0)
}

fn segments(elf: &Elf<'_>) -> Result<[Segment; SEGMENTS_MAX], Damage> {
    let mut segments = [Segment::default(); SEGMENTS_MAX];
    let count = loads(elf).count();
    if count == 0 || count > SEGMENTS_MAX {
        return Err(Damage::SegmentCount(count));
    }
    for (index, (slot, header)) in segments.iter_mut().zip(loads(elf)).enumerate() {
        *slot = pages(elf, &header).ok_or(Damage::BadSegment(index))?;
    }
    check_apart(&segments)?;
    Ok(segments)
}

/// The pages of a segment, if its data and its place make sense. The linker
/// need not align a segment, as long as it has its pages to itself: protection
/// works by the page.
fn pages(elf: &Elf<'_>, header: &ProgramHeader) -> Option<Segment> {
    let end = header.p_vaddr.checked_add(header.p_memsz)?;
    let flags = u64::from(header.p_flags & 7);
    let both = SEGMENT_WRITE | SEGMENT_EXECUTE;
    let sound = end <= IMAGE_MAX
        && header.p_filesz <= header.p_memsz
        && elf.segment_data(header).is_ok()
        && flags & both != both;
    let offset = header.p_vaddr & !(PAGE - 1);
    sound.then(|| Segment {
        offset,
        size: end.next_multiple_of(PAGE) - offset,
        flags,
    })
}

fn check_apart(segments: &[Segment; SEGMENTS_MAX]) -> Result<(), Damage> {
    for (index, one) in segments.iter().enumerate() {
        let others = segments.iter().skip(index + 1);
        let mut used = others.filter(|other| other.size > 0);
        if used.any(|other| one.offset < end(other) && other.offset < end(one)) {
            return Err(Damage::SharedPage(index));
        }
    }
    Ok(())
}

fn entry(elf: &Elf<'_>, segments: &[Segment]) -> Result<u64, Damage> {
    let entry = elf.ehdr.e_entry;
    let mut code = segments.iter().filter(|s| s.flags & SEGMENT_EXECUTE != 0);
    match code.any(|segment| contains(segment, entry, 1)) {
        true => Ok(entry),
        false => Err(Damage::EntryOutside(entry)),
    }
}
