//! The disk. Virtual I/O Device (VIRTIO), "Block Device".

mod request;

use crate::virtio::{Broken, Device, Virtqueue};
use anyhow::{Context, Result};
use request::Blocks;
use std::fs::File;
use std::path::Path;

/// The disk.
pub struct Disk {
    blocks: Blocks,
    /// How many there are, in little-endian order.
    capacity: [u8; 8],
}

impl Disk {
    /// One whose blocks are in the file `path`.
    pub fn new(path: &Path) -> Result<Self> {
        let file = File::options().read(true).write(true).open(path);
        let file = file.with_context(|| format!("--disk: {}", path.display()))?;
        let blocks = Blocks::new(file)?;
        Ok(Self {
            capacity: blocks.count().to_le_bytes(),
            blocks,
        })
    }
}

impl Device for Disk {
    const KIND: u32 = 2;
    /// It can write back what it holds.
    const FEATURES: u64 = 1 << 9;
    const QUEUES: usize = 1;

    fn config(&self) -> &[u8] {
        &self.capacity
    }

    /// A request without a place for its result is none.
    fn notice(&mut self, _: usize, queue: &mut Virtqueue<'_>) -> Result<(), Broken> {
        for chain in queue.take_all()? {
            let head = chain.head_index();
            let written = self.blocks.serve(queue.memory(), chain);
            queue.done(head, written.ok_or(Broken)?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::virtio::driver::{BUFFERS, Driver, READ, WRITTEN};
    use vm_memory::{Bytes, GuestAddress};

    fn disk(name: &str) -> Disk {
        let blocks = request::tests::blocks(name);
        Disk {
            capacity: blocks.count().to_le_bytes(),
            blocks,
        }
    }

    #[test]
    fn a_request_gives_what_the_file_holds() {
        let mut driver = Driver::new(disk("driver"));
        assert_eq!(driver.get(0x100), 2);
        let memory = &driver.ram.view;
        memory
            .write_obj([0, 0, 1, 0_u32], GuestAddress(BUFFERS))
            .unwrap();
        let (data, status) = (BUFFERS + 0x1000, BUFFERS + 0x2000);
        let buffers = [
            (BUFFERS, 16, READ),
            (data, 512, WRITTEN),
            (status, 1, WRITTEN),
        ];
        driver.ask(0, &buffers);
        assert!(driver.notify(0));
        assert_eq!(driver.done(0), [(0, 513)]);
        let mut read = [0; 512];
        let memory = &driver.ram.view;
        memory.read_slice(&mut read, GuestAddress(data)).unwrap();
        assert_eq!(read, [2; 512]);
    }

    #[test]
    fn a_request_without_a_place_for_its_result_needs_a_reset() {
        let mut driver = Driver::new(disk("reset"));
        driver.ask(0, &[(BUFFERS, 16, READ)]);
        assert!(driver.notify(0) && driver.needs_reset());
        assert_eq!(driver.done(0), []);
    }

    #[test]
    fn no_driver_ends_this_program() {
        let mut state = 1;
        let mut driver = Driver::new(disk("torment"));
        driver.torment(|| crate::devices::tests::random(&mut state), |_| {});
    }
}
