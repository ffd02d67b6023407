//! The disk: a block device with the registers of virtio's MMIO transport.
//! Virtual I/O Device (VIRTIO), "Virtio Over MMIO" and "Block Device".

mod request;

use crate::ram::Ram;
use anyhow::{Context, Result};
use request::Blocks;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use virtio_queue::{Queue, QueueT};

mod register {
    pub const MAGIC: u64 = 0x00;
    pub const VERSION: u64 = 0x04;
    pub const DEVICE: u64 = 0x08;
    pub const VENDOR: u64 = 0x0c;
    pub const OFFERED: u64 = 0x10;
    pub const OFFERED_SELECT: u64 = 0x14;
    pub const QUEUE_SELECT: u64 = 0x30;
    pub const QUEUE_SIZE_MAX: u64 = 0x34;
    pub const QUEUE_SIZE: u64 = 0x38;
    pub const QUEUE_READY: u64 = 0x44;
    pub const QUEUE_NOTIFY: u64 = 0x50;
    pub const INTERRUPT_STATUS: u64 = 0x60;
    pub const INTERRUPT_DONE: u64 = 0x64;
    pub const STATUS: u64 = 0x70;
    pub const DESCRIPTORS: u64 = 0x80;
    pub const AVAILABLE: u64 = 0x90;
    pub const USED: u64 = 0xa0;
    pub const CONFIG: u64 = 0x100;
    pub const CONFIG_HIGH: u64 = 0x104;
}

const MAGIC: u32 = u32::from_le_bytes(*b"virt");
const VERSION: u32 = 2;
const BLOCK_DEVICE: u32 = 2;
const VENDOR: u32 = u32::from_le_bytes(*b"ULAY");
const QUEUE_SIZE: u16 = 128;
/// A queue of it was used.
const USED: u32 = 1;

/// It can write back what it holds; it is a device of virtio's version 1.
const FEATURES: u64 = 1 << 9 | 1 << 32;

/// The disk.
pub struct Disk {
    ram: Arc<Ram>,
    blocks: Blocks,
    queue: Queue,
    is_second_half: bool,
    queue_selected: u32,
    status: u32,
    interrupt: u32,
}

impl Disk {
    /// One whose blocks are in the file `path`.
    pub fn new(path: &Path, ram: Arc<Ram>) -> Result<Self> {
        let file = File::options().read(true).write(true).open(path);
        let file = file.with_context(|| format!("--disk: {}", path.display()))?;
        Ok(Self {
            ram,
            blocks: Blocks::new(file)?,
            queue: Queue::new(QUEUE_SIZE)?,
            is_second_half: false,
            queue_selected: 0,
            status: 0,
            interrupt: 0,
        })
    }

    /// What the register at `offset` holds.
    pub fn read(&self, offset: u64) -> u32 {
        let has_queue = self.queue_selected == 0;
        match offset {
            register::MAGIC => MAGIC,
            register::VERSION => VERSION,
            register::DEVICE => BLOCK_DEVICE,
            register::VENDOR => VENDOR,
            register::OFFERED if self.is_second_half => (FEATURES >> 32) as u32,
            register::OFFERED => FEATURES as u32,
            register::QUEUE_SIZE_MAX if has_queue => QUEUE_SIZE.into(),
            register::QUEUE_READY if has_queue => self.queue.ready().into(),
            register::INTERRUPT_STATUS => self.interrupt,
            register::STATUS => self.status,
            register::CONFIG => self.blocks.count() as u32,
            register::CONFIG_HIGH => (self.blocks.count() >> 32) as u32,
            _ => 0,
        }
    }

    /// Writes it. True if the VM is to be interrupted.
    pub fn write(&mut self, offset: u64, value: u32) -> bool {
        let queue = &mut self.queue;
        let is_upper = offset & 4 != 0;
        let (low, high) = if is_upper {
            (None, Some(value))
        } else {
            (Some(value), None)
        };
        match offset {
            register::OFFERED_SELECT => self.is_second_half = value == 1,
            register::QUEUE_SELECT => self.queue_selected = value,
            register::QUEUE_NOTIFY => return self.serve(),
            register::INTERRUPT_DONE => self.interrupt &= !value,
            register::STATUS if value == 0 => self.reset(),
            register::STATUS => self.status = value,
            _ if self.queue_selected != 0 => {}
            register::QUEUE_SIZE => queue.set_size(value as u16),
            register::QUEUE_READY => queue.set_ready(value == 1),
            register::DESCRIPTORS..register::AVAILABLE => queue.set_desc_table_address(low, high),
            register::AVAILABLE..register::USED => queue.set_avail_ring_address(low, high),
            register::USED..0xb0 => queue.set_used_ring_address(low, high),
            _ => {}
        }
        false
    }

    fn reset(&mut self) {
        self.queue.reset();
        (self.status, self.interrupt) = (0, 0);
    }

    /// Does all requests that there are. One that makes no sense ends the round:
    /// what the driver wrote is all that is known of the rest.
    fn serve(&mut self) -> bool {
        let memory = &self.ram.view;
        let mut done = false;
        if !self.queue.is_valid(memory) {
            return false;
        }
        while let Some(chain) = self.queue.pop_descriptor_chain(memory) {
            let head = chain.head_index();
            let Some(written) = self.blocks.serve(memory, chain) else {
                break;
            };
            if self.queue.add_used(memory, head, written).is_err() {
                break;
            }
            done = true;
        }
        if done {
            self.interrupt |= USED;
        }
        done
    }
}
