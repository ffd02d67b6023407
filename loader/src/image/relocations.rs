//! The relocations of a static PIE: the linker leaves `R_X86_64_RELATIVE`
//! alone, a 64-bit address that grows by the base.

use abi::handoff::Segment;
use elf::abi::{
    DT_JMPREL, DT_NEEDED, DT_NULL, DT_REL, DT_RELA, DT_RELAENT, DT_RELASZ, PT_DYNAMIC,
    R_X86_64_RELATIVE,
};
use elf::dynamic::{Dyn, DynamicTable};
use elf::endian::LittleEndian;
use elf::file::Class;
use elf::relocation::{Rela, RelaIterator};

use super::{Damage, Elf, contains, headers, loads, slice};

/// Packed relative relocations, which the `elf` crate does not name.
const DT_RELR: i64 = 36;
/// Bytes of one entry of the table.
const ENTRY_SIZE: u64 = 24;
/// Bytes that a relocation writes.
const WIDTH: u64 = 8;

/// The table's bytes in the file; empty if there are no relocations.
pub(super) fn find<'a>(elf: &Elf<'a>) -> Result<&'a [u8], Damage> {
    let (mut address, mut size) = (0, 0);
    for entry in dynamic(elf)? {
        match entry.d_tag {
            DT_NEEDED => return Err(Damage::NotStaticPie),
            DT_REL | DT_RELR | DT_JMPREL => return Err(Damage::RelocationTable),
            DT_RELAENT if entry.d_val() != ENTRY_SIZE => return Err(Damage::RelocationTable),
            DT_RELA => address = entry.d_ptr(),
            DT_RELASZ => size = entry.d_val(),
            _ => {}
        }
    }
    match size {
        0 => Ok(&[]),
        _ => file_bytes(elf, address, size).ok_or(Damage::RelocationTable),
    }
}

/// The entries of the dynamic section, by way of the program headers: section
/// headers may be stripped.
fn dynamic<'a>(elf: &Elf<'a>) -> Result<impl Iterator<Item = Dyn> + use<'a>, Damage> {
    let header = headers(elf).find(|header| header.p_type == PT_DYNAMIC);
    let data = match header {
        Some(header) => elf.segment_data(&header).map_err(Damage::NotElf)?,
        None => &[],
    };
    let table = DynamicTable::new(LittleEndian, Class::ELF64, data);
    Ok(table.iter().take_while(|entry| entry.d_tag != DT_NULL))
}

fn file_bytes<'a>(elf: &Elf<'a>, address: u64, size: u64) -> Option<&'a [u8]> {
    let holds = |start: u64| address >= start;
    let header = loads(elf).filter(|header| holds(header.p_vaddr));
    let header = header.max_by_key(|header| header.p_vaddr)?;
    let data = elf.segment_data(&header).ok()?;
    let start = usize::try_from(address - header.p_vaddr).ok()?;
    let size = usize::try_from(size).ok()?;
    data.get(start..start.checked_add(size)?)
}

fn entries(table: &[u8]) -> impl Iterator<Item = Rela> + '_ {
    RelaIterator::new(LittleEndian, Class::ELF64, table)
}

/// Checks that every entry is of the one kind and writes inside a segment.
pub(super) fn check(table: &[u8], segments: &[Segment]) -> Result<(), Damage> {
    if !(table.len() as u64).is_multiple_of(ENTRY_SIZE) {
        return Err(Damage::RelocationTable);
    }
    for Rela {
        r_offset, r_type, ..
    } in entries(table)
    {
        if r_type != R_X86_64_RELATIVE {
            return Err(Damage::RelocationKind(r_type));
        }
        if !segments.iter().any(|s| contains(s, r_offset, WIDTH)) {
            return Err(Damage::RelocationOutside(r_offset));
        }
    }
    Ok(())
}

/// Writes the relocated addresses.
pub(super) fn apply(table: &[u8], into: &mut [u8], base: u64) -> Result<(), Damage> {
    for relocation in entries(table) {
        let address = base.wrapping_add_signed(relocation.r_addend);
        let target = slice(into, relocation.r_offset, WIDTH as usize).ok_or(Damage::NoRoom)?;
        target.copy_from_slice(&address.to_le_bytes());
    }
    Ok(())
}
