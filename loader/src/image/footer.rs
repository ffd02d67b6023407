//! The 16 bytes after the ELF file: magic, its length and its CRC-32 (IEEE),
//! little-endian. ELF itself would not notice a sector that went bad.

use abi::handoff::{FOOTER_MAGIC, FOOTER_SIZE};
use alloc::vec::Vec;

use super::Damage;

/// An ELF file with its footer.
pub fn seal(elf: &[u8]) -> Vec<u8> {
    let mut file = elf.to_vec();
    file.extend_from_slice(&FOOTER_MAGIC);
    file.extend_from_slice(&(elf.len() as u32).to_le_bytes());
    file.extend_from_slice(&crc32fast::hash(elf).to_le_bytes());
    file
}

/// The ELF file before a footer that fits it.
pub(super) fn unseal(file: &[u8]) -> Result<&[u8], Damage> {
    let (elf, footer) = file
        .split_last_chunk::<FOOTER_SIZE>()
        .ok_or(Damage::NoFooter)?;
    let [m @ .., a, b, c, d, e, f, g, h] = *footer;
    if m != FOOTER_MAGIC {
        return Err(Damage::NoFooter);
    }
    let length = u32::from_le_bytes([a, b, c, d]);
    let stored = u32::from_le_bytes([e, f, g, h]);
    if u64::from(length) != elf.len() as u64 {
        return Err(Damage::Length {
            stored: length.into(),
            found: elf.len(),
        });
    }
    let computed = crc32fast::hash(elf);
    match computed == stored {
        true => Ok(elf),
        false => Err(Damage::Checksum { stored, computed }),
    }
}
