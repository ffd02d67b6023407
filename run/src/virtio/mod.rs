//! A device with the registers of virtio's MMIO transport: what all kinds of
//! devices have in common. Virtual I/O Device (VIRTIO), "Virtio Over MMIO".

#[cfg(test)]
pub mod driver;
mod queue;
#[cfg(test)]
mod tests;

use crate::ram::Ram;
pub use queue::{Broken, Chain, Virtqueue};
use std::sync::Arc;
use virtio_queue::{Queue, QueueT};

mod register {
    pub const MAGIC: u64 = 0x00;
    pub const VERSION: u64 = 0x04;
    pub const DEVICE: u64 = 0x08;
    pub const VENDOR: u64 = 0x0c;
    pub const OFFERED: u64 = 0x10;
    pub const OFFERED_SELECT: u64 = 0x14;
    pub const ACCEPTED: u64 = 0x20;
    pub const ACCEPTED_SELECT: u64 = 0x24;
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
    pub const USED_END: u64 = 0xa8;
    pub const CONFIG: u64 = 0x100;
}

/// Bits of the status.
mod status {
    pub const DRIVER_OK: u32 = 1 << 2;
    pub const FEATURES_OK: u32 = 1 << 3;
    pub const NEEDS_RESET: u32 = 1 << 6;
}

/// Why it interrupts.
mod interrupt {
    pub const QUEUE_USED: u32 = 1;
    pub const CONFIG_CHANGED: u32 = 2;
}

const MAGIC: u32 = u32::from_le_bytes(*b"virt");
const VERSION: u32 = 2;
const VENDOR: u32 = u32::from_le_bytes(*b"ULAY");
/// Requests that a queue has room for.
pub const QUEUE_SIZE: u16 = 128;
/// The feature that every device of virtio's version 1 has.
const VERSION_1: u64 = 1 << 32;

/// What one kind of device does that others do not.
pub trait Device {
    /// Its kind. "Device Types".
    const KIND: u32;
    /// What it can do, beside what all can.
    const FEATURES: u64;
    /// How many queues it has.
    const QUEUES: usize;

    /// Its configuration space.
    fn config(&self) -> &[u8];

    /// The driver says that there is something new in queue `number`.
    fn notice(&mut self, number: usize, queue: &mut Virtqueue<'_>) -> Result<(), Broken>;
}

/// A device's registers, whatever its kind.
pub trait Registers: Send {
    /// What the one at `offset` holds.
    fn read(&self, offset: u64) -> u64;

    /// Writes it. True if the VM is to be interrupted.
    fn write(&mut self, offset: u64, value: u32) -> bool;
}

/// A device with its registers and queues.
pub struct Transport<D> {
    ram: Arc<Ram>,
    device: D,
    queues: Vec<Queue>,
    /// Which 32 of the offered features the driver looks at.
    offered_part: u32,
    /// Which of the accepted ones it writes.
    accepted_part: u32,
    accepted: u64,
    queue_selected: usize,
    status: u32,
    interrupt: u32,
}

impl<D: Device> Transport<D> {
    const OFFERED: u64 = D::FEATURES | VERSION_1;

    /// `device` as after a reset, in a VM with this memory.
    pub fn new(device: D, ram: Arc<Ram>) -> anyhow::Result<Self> {
        let queues = (0..D::QUEUES).map(|_| Queue::new(QUEUE_SIZE));
        Ok(Self {
            ram,
            device,
            queues: queues.collect::<Result<_, _>>()?,
            offered_part: 0,
            accepted_part: 0,
            accepted: 0,
            queue_selected: 0,
            status: 0,
            interrupt: 0,
        })
    }

    /// What is special about it.
    pub fn device(&self) -> &D {
        &self.device
    }

    /// Has the device do something with its queue `number`, unless the driver has
    /// not made it ready. Gives what `act` gives, and true if the VM is to be
    /// interrupted.
    pub fn with_queue<T>(
        &mut self,
        number: usize,
        act: impl FnOnce(&mut D, &mut Virtqueue<'_>) -> Result<T, Broken>,
    ) -> (Option<T>, bool) {
        if self.status & (status::DRIVER_OK | status::NEEDS_RESET) != status::DRIVER_OK {
            return (None, false);
        }
        let Some(queue) = self.queues.get_mut(number).filter(|queue| queue.ready()) else {
            return (None, false);
        };
        let mut queue = Virtqueue::new(queue, &self.ram.view);
        let result = queue
            .check()
            .and_then(|()| act(&mut self.device, &mut queue));
        let mut why = 0;
        if queue.interrupts() {
            why |= interrupt::QUEUE_USED;
        }
        if result.is_err() {
            self.status |= status::NEEDS_RESET;
            why |= interrupt::CONFIG_CHANGED;
        }
        self.interrupt |= why;
        (result.ok(), why != 0)
    }

    /// Up to eight bytes of the configuration space, zeros behind its end.
    fn config(&self, offset: u64) -> u64 {
        let bytes = self.device.config().iter().skip(offset as usize).take(8);
        let shifts = (0..).step_by(8);
        bytes
            .zip(shifts)
            .fold(0, |all, (byte, shift)| all | u64::from(*byte) << shift)
    }

    fn accept(&mut self, value: u32) {
        let value = u64::from(value);
        match self.accepted_part {
            0 => self.accepted = self.accepted >> 32 << 32 | value,
            1 => self.accepted = self.accepted & 0xffff_ffff | value << 32,
            _ => {}
        }
    }

    /// 0 resets the device. A driver that accepts what was not offered, or no
    /// device of version 1, does not find its "features OK".
    fn set_status(&mut self, value: u32) {
        if value == 0 {
            self.queues.iter_mut().for_each(Queue::reset);
            (self.status, self.interrupt, self.accepted) = (0, 0, 0);
            return;
        }
        let makes_sense = self.accepted & !Self::OFFERED == 0 && self.accepted & VERSION_1 != 0;
        let refused = if makes_sense { 0 } else { status::FEATURES_OK };
        self.status = value & !refused | self.status & status::NEEDS_RESET;
    }

    fn set_up_queue(&mut self, offset: u64, value: u32) {
        let Some(queue) = self.queues.get_mut(self.queue_selected) else {
            return;
        };
        let is_upper = offset & 4 != 0;
        let (low, high) = if is_upper {
            (None, Some(value))
        } else {
            (Some(value), None)
        };
        match offset {
            register::QUEUE_SIZE => queue.set_size(u16::try_from(value).unwrap_or(0)),
            register::QUEUE_READY => queue.set_ready(value == 1),
            register::DESCRIPTORS..register::AVAILABLE => queue.set_desc_table_address(low, high),
            register::AVAILABLE..register::USED => queue.set_avail_ring_address(low, high),
            register::USED..register::USED_END => queue.set_used_ring_address(low, high),
            _ => {}
        }
    }
}

impl<D: Device + Send> Registers for Transport<D> {
    fn read(&self, offset: u64) -> u64 {
        let queue = self.queues.get(self.queue_selected);
        let value = match offset {
            register::CONFIG.. => return self.config(offset - register::CONFIG),
            register::MAGIC => MAGIC,
            register::VERSION => VERSION,
            register::DEVICE => D::KIND,
            register::VENDOR => VENDOR,
            register::OFFERED if self.offered_part == 0 => Self::OFFERED as u32,
            register::OFFERED if self.offered_part == 1 => (Self::OFFERED >> 32) as u32,
            register::QUEUE_SIZE_MAX => queue.map_or(0, |queue| queue.max_size().into()),
            register::QUEUE_READY => queue.is_some_and(Queue::ready).into(),
            register::INTERRUPT_STATUS => self.interrupt,
            register::STATUS => self.status,
            _ => 0,
        };
        value.into()
    }

    fn write(&mut self, offset: u64, value: u32) -> bool {
        match offset {
            register::OFFERED_SELECT => self.offered_part = value,
            register::ACCEPTED => self.accept(value),
            register::ACCEPTED_SELECT => self.accepted_part = value,
            register::QUEUE_SELECT => self.queue_selected = value as usize,
            register::QUEUE_NOTIFY => {
                let number = value as usize;
                let notice =
                    |device: &mut D, queue: &mut Virtqueue<'_>| device.notice(number, queue);
                return self.with_queue(number, notice).1;
            }
            register::INTERRUPT_DONE => self.interrupt &= !value,
            register::STATUS => self.set_status(value),
            _ => self.set_up_queue(offset, value),
        }
        false
    }
}
