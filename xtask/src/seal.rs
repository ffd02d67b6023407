//! The hypervisor's ELF file as it lies on the disk: only what is loaded, and a
//! footer with its checksum. Symbols stay in cargo's own file, for people.

use std::fs;
use std::path::Path;

use abi::handoff::FOOTER_MAGIC;
use anyhow::{Context, Result, ensure};
use elf::ElfBytes;
use elf::endian::LittleEndian;

use crate::paths;

/// Where the ELF header has the section table's offset, and its number of
/// entries with the index of the names' section. ELF-64 Object File Format,
/// "ELF Header".
const SECTIONS_OFFSET: std::ops::Range<usize> = 40..48;
const SECTIONS_COUNT: std::ops::Range<usize> = 60..64;

/// Writes the ELF file at `elf`, made ready, to `file`.
pub fn file(elf: &Path, file: &Path) -> Result<()> {
    let bytes = fs::read(elf).with_context(|| format!("reading {}", elf.display()))?;
    let bytes = without_sections(bytes).with_context(|| format!("in {}", elf.display()))?;
    paths::create_dir(&paths::underlay())?;
    fs::write(file, with_footer(bytes)?)?;
    Ok(())
}

/// The file up to the end of its last segment, with no section table.
fn without_sections(mut file: Vec<u8>) -> Result<Vec<u8>> {
    let elf = ElfBytes::<LittleEndian>::minimal_parse(&file)?;
    let segments = elf.segments().context("no program headers")?;
    let ends = segments.iter().map(|s| s.p_offset + s.p_filesz);
    let end = usize::try_from(ends.max().context("no segments")?)?;
    ensure!(
        end >= 64 && end <= file.len(),
        "a segment reaches beyond the file"
    );
    file.truncate(end);
    file[SECTIONS_OFFSET].fill(0);
    file[SECTIONS_COUNT].fill(0);
    Ok(file)
}

/// `elf` and behind it the magic, its length and its CRC-32.
fn with_footer(mut elf: Vec<u8>) -> Result<Vec<u8>> {
    let length = u32::try_from(elf.len()).context("the hypervisor's ELF file is too large")?;
    let crc = crc32fast::hash(&elf);
    elf.extend(FOOTER_MAGIC);
    elf.extend(length.to_le_bytes());
    elf.extend(crc.to_le_bytes());
    Ok(elf)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_footer_is_sixteen_bytes_with_the_known_checksum() {
        // CRC-32's published check value is that of these nine digits.
        let file = with_footer(b"123456789".to_vec()).unwrap();
        assert_eq!(&file[9..17], b"ULAYCRC1");
        assert_eq!(file[17..21], [9, 0, 0, 0]);
        assert_eq!(file[21..], 0xCBF4_3926_u32.to_le_bytes());
        assert_eq!(file.len(), 9 + 16);
    }

    #[test]
    fn a_real_program_keeps_its_segments_and_loses_the_rest() {
        let own = fs::read(std::env::current_exe().unwrap()).unwrap();
        let before = own.len();
        let stripped = without_sections(own.clone()).unwrap();
        assert!(stripped.len() < before);
        let parse = |bytes| ElfBytes::<LittleEndian>::minimal_parse(bytes).unwrap();
        let old = parse(&own);
        let new = parse(&stripped);
        assert!(new.section_headers().is_none());
        for (old, new) in old.segments().unwrap().iter().zip(new.segments().unwrap()) {
            assert_eq!(old, new);
        }
    }
}
