//! The kernel's read-only data, as root can read it.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;

use call_load::Failed;

const SYMBOLS: &str = "/proc/kallsyms";
/// An ELF file whose segments are the kernel's memory.
const MEMORY: &str = "/proc/kcore";

/// Where the constants are.
pub struct Constants {
    /// Their first linear address.
    pub address: u64,
    size: u64,
    /// The same in the file.
    offset: u64,
}

impl Constants {
    /// Finds them by the kernel's own names.
    pub fn find() -> Result<Self, Failed> {
        let symbols = fs::read_to_string(SYMBOLS).map_err(|e| format!("{SYMBOLS}: {e}"))?;
        let symbol = |name: &str| {
            let mut lines = symbols.lines().map(|line| line.split(' '));
            let value = lines.find_map(|mut words| {
                let (value, _) = (words.next()?, words.next()?);
                (words.next() == Some(name)).then_some(value)
            });
            let value = value.and_then(|text| u64::from_str_radix(text, 16).ok());
            value.ok_or_else(|| format!("the kernel has no {name}"))
        };
        let (address, end) = (symbol("__start_rodata")?, symbol("__end_rodata")?);
        Ok(Self {
            address,
            size: end - address,
            offset: offset_of(address)?,
        })
    }

    /// A sum of them all.
    pub fn sum(&self) -> Result<u64, Failed> {
        let mut bytes = vec![0; self.size as usize];
        let file = open()?;
        let done = file.read_exact_at(&mut bytes, self.offset);
        done.map_err(|error| format!("{MEMORY}: {error}"))?;
        let (words, _) = bytes.as_chunks();
        Ok(words.iter().fold(0, |sum: u64, word| {
            sum.rotate_left(5).wrapping_add(u64::from_le_bytes(*word))
        }))
    }
}

fn open() -> Result<File, Failed> {
    File::open(MEMORY).map_err(|error| format!("{MEMORY}: {error}"))
}

/// Where in the file the byte at `address` is: the ELF format's program
/// headers, whose place, size and count are in the file's header.
fn offset_of(address: u64) -> Result<u64, Failed> {
    const HEADER: usize = 64;
    const PROGRAM_HEADER: usize = 56;
    const MOST: usize = 64;
    let file = open()?;
    let mut head = vec![0; HEADER + MOST * PROGRAM_HEADER];
    let read = file.read_at(&mut head, 0);
    let read = read.map_err(|error| format!("{MEMORY}: {error}"))?;
    let word = |at: usize| {
        let bytes = head.get(at..at + 8).and_then(|bytes| bytes.try_into().ok());
        bytes.map_or(0, u64::from_le_bytes)
    };
    let rows = (HEADER..read).step_by(PROGRAM_HEADER);
    let segments = rows.map(|at| [word(at + 8), word(at + 16), word(at + 32)]);
    let mut found = segments.filter(|[_, base, size]| address.wrapping_sub(*base) < *size);
    let found = found
        .next()
        .map(|[offset, base, _]| offset + (address - base));
    found.ok_or_else(|| format!("{MEMORY} does not have {address:#x}"))
}
