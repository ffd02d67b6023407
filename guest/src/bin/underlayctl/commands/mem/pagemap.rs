//! Where the pages of a process lie, as Linux tells root. Linux,
//! "Examining Process Page Tables".

use crate::trouble::Trouble;
use abi::call::TRANSFER_MAX;
use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;

/// Bytes of a page.
pub const PAGE: u64 = 4096;

const ENTRY: u64 = 8;
const PRESENT: u64 = 1 << 63;
const EXCLUSIVE: u64 = 1 << 56;
const FRAME: u64 = (1 << 55) - 1;

/// Pages of a process, one behind the other.
#[derive(Debug, PartialEq, Eq)]
pub struct Frames {
    /// Their guest-physical addresses.
    pub pages: Vec<u64>,
    /// The address of the first one that others use, too.
    pub shared: Option<u64>,
}

/// The pages of process `pid` in which `bytes` at `address` lie: those that one
/// call can use, up to the first that is absent.
pub fn frames(pid: u64, address: u64, bytes: usize) -> Result<Frames, Trouble> {
    let path = format!("/proc/{pid}/pagemap");
    let map = File::open(&path).map_err(|error| match error.kind() {
        ErrorKind::NotFound => Trouble::other(format!("there is no process {pid}")),
        ErrorKind::PermissionDenied => Trouble::other(format!("{path}: run this as root")),
        _ => Trouble::file(&path, &error),
    })?;
    let end = address.saturating_add(bytes.clamp(1, TRANSFER_MAX) as u64);
    let count = (end.div_ceil(PAGE) - address / PAGE) as usize;
    let mut entries = vec![0; count * ENTRY as usize];
    // What lies beyond a process' last address has no entries.
    let read = (address / PAGE)
        .checked_mul(ENTRY)
        .and_then(|at| map.read_at(&mut entries, at).ok());
    entries.truncate(read.unwrap_or(0));
    let (entries, _) = entries.as_chunks();
    let entries: Vec<u64> = entries.iter().copied().map(u64::from_le_bytes).collect();
    decode(&entries, address).map_err(|absent| match absent {
        Absent::Page => Trouble::other(format!(
            "nothing of process {pid} is in memory at {address:#x}: it is not mapped, not touched yet, or swapped out"
        )),
        Absent::Number => Trouble::other(format!("{path} hides the pages' addresses: run this as root")),
    })
}

#[derive(Debug, PartialEq, Eq)]
enum Absent {
    Page,
    Number,
}

fn decode(entries: &[u64], address: u64) -> Result<Frames, Absent> {
    let present: Vec<u64> = entries
        .iter()
        .copied()
        .take_while(|entry| entry & PRESENT != 0)
        .collect();
    let first = present.first().ok_or(Absent::Page)?;
    if first & FRAME == 0 {
        return Err(Absent::Number);
    }
    let shared = present.iter().position(|entry| entry & EXCLUSIVE == 0);
    Ok(Frames {
        pages: present.iter().map(|entry| (entry & FRAME) * PAGE).collect(),
        shared: shared.map(|number| (address / PAGE + number as u64) * PAGE),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: u64 = PRESENT | EXCLUSIVE;

    #[test]
    fn pages_are_taken_up_to_the_first_that_is_absent() {
        let frames = decode(&[OWN | 5, OWN | 3, 9, OWN | 4], 0x1234).unwrap();
        assert_eq!(frames.pages, [0x5000, 0x3000]);
        assert_eq!(frames.shared, None);
        assert_eq!(decode(&[9, OWN | 4], 0), Err(Absent::Page));
        assert_eq!(decode(&[], 0), Err(Absent::Page));
    }

    #[test]
    fn a_page_that_others_use_is_named() {
        let frames = decode(&[OWN | 5, PRESENT | 3], 0x1234).unwrap();
        assert_eq!(frames.shared, Some(0x2000));
    }

    #[test]
    fn who_is_not_root_sees_no_addresses() {
        assert_eq!(decode(&[OWN], 0), Err(Absent::Number));
    }

    #[test]
    fn a_process_that_is_not_there_is_named() {
        let trouble = frames(u64::MAX, 0, 1).unwrap_err();
        assert!(format!("{trouble:?}").contains("no process"), "{trouble:?}");
    }

    #[test]
    fn what_is_beyond_all_addresses_is_absent() {
        let own = u64::from(std::process::id());
        for address in [0, 1 << 63, u64::MAX] {
            assert!(frames(own, address, 100).is_err(), "{address:#x}");
        }
    }
}
