//! Requests to the disk, as their descriptors say them. Virtual I/O Device
//! (VIRTIO), "Block Device", "Device Operation".

use std::fs::File;
use std::io::{Seek, SeekFrom};
use virtio_queue::desc::split::Descriptor;
use vm_memory::{Bytes, GuestMemoryMmap};

/// Bytes of a block.
const BLOCK: u64 = 512;

const READ: u32 = 0;
const WRITE: u32 = 1;
const WRITE_BACK: u32 = 4;
const NAME: u32 = 8;

const DONE: u8 = 0;
const FAILED: u8 = 1;
const UNKNOWN: u8 = 2;

/// What a driver that asks for its name is told.
const NAME_IS: &[u8; 20] = b"underlay-run\0\0\0\0\0\0\0\0";

/// The blocks of a file.
#[derive(Debug)]
pub struct Blocks {
    file: File,
    count: u64,
}

/// What a request comes to.
#[derive(Debug, PartialEq, Eq)]
struct Result {
    status: u8,
    /// Bytes that the VM finds written, beside the status.
    written: u32,
}

impl Blocks {
    /// All whole ones of `file`.
    pub fn new(file: File) -> std::io::Result<Self> {
        let count = file.metadata()?.len() / BLOCK;
        Ok(Self { file, count })
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Does one request. Gives how many bytes were written for the VM; None if it
    /// has no place for the result.
    pub fn serve(
        &mut self,
        memory: &GuestMemoryMmap,
        chain: impl Iterator<Item = Descriptor>,
    ) -> Option<u32> {
        let parts: Vec<Descriptor> = chain.collect();
        let [header, data @ .., status] = &parts[..] else {
            return None;
        };
        if header.is_write_only() || !status.is_write_only() {
            return None;
        }
        let [kind, _, low, high]: [u32; 4] = memory.read_obj(header.addr()).ok()?;
        let block = u64::from(high) << 32 | u64::from(low);
        let result = self.act(memory, kind, block, data);
        memory.write_obj(result.status, status.addr()).ok()?;
        Some(result.written + 1)
    }

    fn act(
        &mut self,
        memory: &GuestMemoryMmap,
        kind: u32,
        block: u64,
        data: &[Descriptor],
    ) -> Result {
        let writes = kind == READ || kind == NAME;
        let done = match kind {
            _ if data.iter().any(|part| part.is_write_only() != writes) => None,
            READ | WRITE => self.transfer(memory, writes, block, data),
            WRITE_BACK => self.file.sync_data().ok().map(|()| 0),
            NAME => data.first().and_then(|part| {
                let name = NAME_IS.get(..part.len().min(NAME_IS.len() as u32) as usize)?;
                memory.write_slice(name, part.addr()).ok()?;
                u32::try_from(name.len()).ok()
            }),
            _ => {
                return Result {
                    status: UNKNOWN,
                    written: 0,
                };
            }
        };
        Result {
            status: if done.is_some() { DONE } else { FAILED },
            written: done.unwrap_or(0),
        }
    }

    /// Between the file and memory; None if either has less.
    fn transfer(
        &mut self,
        memory: &GuestMemoryMmap,
        reads: bool,
        block: u64,
        data: &[Descriptor],
    ) -> Option<u32> {
        let mut all = 0u64;
        for part in data {
            all += u64::from(part.len());
        }
        let end = block.checked_add(all.div_ceil(BLOCK))?;
        if end > self.count {
            return None;
        }
        self.file.seek(SeekFrom::Start(block * BLOCK)).ok()?;
        for part in data {
            let size = part.len() as usize;
            match reads {
                true => memory.read_exact_volatile_from(part.addr(), &mut self.file, size),
                false => memory.write_all_volatile_to(part.addr(), &mut self.file, size),
            }
            .ok()?;
        }
        u32::try_from(if reads { all } else { 0 }).ok()
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use std::io::{Read, Write};
    use vm_memory::GuestAddress;

    const HEADER: u64 = 0x1000;
    const DATA: u64 = 0x2000;
    const STATUS: u64 = 0x3000;
    const FOR_THE_DEVICE: u16 = 0;
    const BY_THE_DEVICE: u16 = 2;

    /// A file of two blocks, the first of ones, the second of twos.
    pub fn blocks(name: &str) -> Blocks {
        let name = format!("underlay-run-{name}-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let options = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .clone();
        let mut file = options.open(&path).unwrap();
        std::fs::remove_file(path).unwrap();
        file.write_all(&[1; 512]).unwrap();
        file.write_all(&[2; 512]).unwrap();
        Blocks::new(file).unwrap()
    }

    fn memory() -> GuestMemoryMmap {
        GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 0x4000)]).unwrap()
    }

    fn ask(
        blocks: &mut Blocks,
        memory: &GuestMemoryMmap,
        kind: u32,
        block: u32,
        data: Descriptor,
    ) -> (Option<u32>, u8) {
        memory
            .write_obj([kind, 0, block, 0], GuestAddress(HEADER))
            .unwrap();
        memory.write_obj(0xffu8, GuestAddress(STATUS)).unwrap();
        let header = Descriptor::new(HEADER, 16, FOR_THE_DEVICE, 0);
        let status = Descriptor::new(STATUS, 1, BY_THE_DEVICE, 0);
        let written = blocks.serve(memory, [header, data, status].into_iter());
        (written, memory.read_obj(GuestAddress(STATUS)).unwrap())
    }

    #[test]
    fn blocks_are_read_and_written() {
        let (mut blocks, memory) = (blocks("rw"), memory());
        let room = Descriptor::new(DATA, 512, BY_THE_DEVICE, 0);
        assert_eq!(ask(&mut blocks, &memory, READ, 1, room), (Some(513), DONE));
        assert_eq!(memory.read_obj::<u8>(GuestAddress(DATA + 511)).unwrap(), 2);
        let given = Descriptor::new(DATA, 512, FOR_THE_DEVICE, 0);
        assert_eq!(ask(&mut blocks, &memory, WRITE, 0, given), (Some(1), DONE));
        let mut all = Vec::new();
        blocks.file.rewind().unwrap();
        blocks.file.read_to_end(&mut all).unwrap();
        assert_eq!(all, [2; 1024]);
    }

    #[test]
    fn what_is_beyond_the_disk_or_memory_fails() {
        let (mut blocks, memory) = (blocks("beyond"), memory());
        let room = Descriptor::new(DATA, 1024, BY_THE_DEVICE, 0);
        assert_eq!(ask(&mut blocks, &memory, READ, 1, room), (Some(1), FAILED));
        let nowhere = Descriptor::new(1 << 40, 512, BY_THE_DEVICE, 0);
        assert_eq!(
            ask(&mut blocks, &memory, READ, 0, nowhere),
            (Some(1), FAILED)
        );
        let wrong_way = Descriptor::new(DATA, 512, FOR_THE_DEVICE, 0);
        assert_eq!(
            ask(&mut blocks, &memory, READ, 0, wrong_way),
            (Some(1), FAILED)
        );
        assert_eq!(
            ask(&mut blocks, &memory, 77, 0, wrong_way),
            (Some(1), UNKNOWN)
        );
    }

    #[test]
    fn a_request_without_a_place_for_its_result_is_none() {
        let (mut blocks, memory) = (blocks("none"), memory());
        let header = Descriptor::new(HEADER, 16, FOR_THE_DEVICE, 0);
        assert_eq!(blocks.serve(&memory, [header].into_iter()), None);
        assert_eq!(blocks.serve(&memory, [header, header].into_iter()), None);
    }
}
