//! A driver for tests, which says whatever the test wants it to say.

use super::{Device, QUEUE_SIZE, Registers, Transport, register, status};
use crate::ram::Ram;
use std::sync::Arc;
use virtio_queue::desc::split::Descriptor;
use vm_memory::{Bytes, GuestAddress};

/// A buffer that the device reads.
pub const READ: u16 = 0;
/// One that it writes.
pub const WRITTEN: u16 = 2;
const NEXT: u16 = 1;

/// Where buffers may be.
pub const BUFFERS: u64 = 0x2_0000;
/// Where memory ends.
pub const MEMORY_END: u64 = 0x4_0000;
const QUEUES: u64 = 0x1000;
const QUEUE_BYTES: u64 = 0x2000;

/// A device with its driver.
pub struct Driver<D> {
    /// The device.
    pub transport: Transport<D>,
    /// The VM's memory.
    pub ram: Arc<Ram>,
    /// Descriptors and requests made in each queue.
    made: Vec<(u16, u16)>,
}

impl<D: Device + Send> Driver<D> {
    /// Sets `device` up as the specification wants it.
    pub fn new(device: D) -> Self {
        let ram = Arc::new(Ram::of_nobody(MEMORY_END as usize));
        let transport = Transport::new(device, ram.clone()).unwrap();
        let mut driver = Self {
            transport,
            ram,
            made: vec![(0, 0); D::QUEUES],
        };
        driver.start();
        driver
    }

    /// Does so again after a reset.
    pub fn start(&mut self) {
        self.ram
            .view
            .write_slice(&[0; 0x8000], GuestAddress(QUEUES))
            .unwrap();
        self.made.fill((0, 0));
        for part in 0..2 {
            self.set(register::OFFERED_SELECT, part);
            self.set(register::ACCEPTED_SELECT, part);
            let offered = self.get(register::OFFERED);
            self.set(register::ACCEPTED, offered);
        }
        for number in 0..D::QUEUES {
            self.set(register::QUEUE_SELECT, number as u32);
            self.set(register::QUEUE_SIZE, QUEUE_SIZE.into());
            let at = Self::queue(number) as u32;
            self.set(register::DESCRIPTORS, at);
            self.set(register::AVAILABLE, at + 0x1000);
            self.set(register::USED, at + 0x1800);
            self.set(register::QUEUE_READY, 1);
        }
        self.set(register::STATUS, status::FEATURES_OK | status::DRIVER_OK);
        assert_eq!(
            self.get(register::STATUS),
            status::FEATURES_OK | status::DRIVER_OK
        );
    }

    /// Where queue `number` is.
    pub fn queue(number: usize) -> u64 {
        QUEUES + QUEUE_BYTES * number as u64
    }

    /// Reads a register.
    pub fn get(&self, offset: u64) -> u32 {
        self.transport.read(offset) as u32
    }

    /// Writes it.
    pub fn set(&mut self, offset: u64, value: u32) -> bool {
        self.transport.write(offset, value)
    }

    /// Makes a request in queue `number`, of buffers with their address, bytes and
    /// direction.
    pub fn ask(&mut self, number: usize, buffers: &[(u64, u32, u16)]) {
        let (at, memory) = (Self::queue(number), &self.ram.view);
        let (descriptors, requests) = &mut self.made[number];
        let head = *descriptors;
        for (place, (address, bytes, direction)) in (1..).zip(buffers) {
            let next = if place < buffers.len() { NEXT } else { 0 };
            let descriptor = Descriptor::new(*address, *bytes, direction | next, *descriptors + 1);
            let slot = GuestAddress(at + 16 * u64::from(*descriptors));
            memory.write_obj(descriptor, slot).unwrap();
            *descriptors += 1;
        }
        let slot = at + 0x1004 + 2 * u64::from(*requests % QUEUE_SIZE);
        memory.write_obj(head, GuestAddress(slot)).unwrap();
        *requests += 1;
        memory
            .write_obj(*requests, GuestAddress(at + 0x1002))
            .unwrap();
    }

    /// Says that there is something new in it. True if the device interrupts.
    pub fn notify(&mut self, number: usize) -> bool {
        self.set(register::QUEUE_NOTIFY, number as u32)
    }

    /// What the device says of the requests that are done: where their buffers
    /// begin, and how many bytes were written.
    pub fn done(&self, number: usize) -> Vec<(u32, u32)> {
        let (at, memory) = (Self::queue(number) + 0x1800, &self.ram.view);
        let count: u16 = memory.read_obj(GuestAddress(at + 2)).unwrap();
        let entry = |place: u16| {
            let entry = GuestAddress(at + 4 + 8 * u64::from(place % QUEUE_SIZE));
            let [head, written]: [u32; 2] = memory.read_obj(entry).unwrap();
            (head, written)
        };
        (0..count).map(entry).collect()
    }

    /// Whether the device says that it needs a reset.
    pub fn needs_reset(&self) -> bool {
        self.get(register::STATUS) & status::NEEDS_RESET != 0
    }

    /// Fills the queues with what `random` gives, and notifies the device, which
    /// has to live on. `act` has it do what it does without being notified.
    pub fn torment(
        &mut self,
        mut random: impl FnMut() -> u64,
        mut act: impl FnMut(&mut Transport<D>),
    ) {
        for _ in 0..20_000 {
            let [choice, value, number] = [random(), random(), random() % D::QUEUES as u64];
            match choice % 8 {
                0..6 => self.scribble(number as usize, choice, value),
                6 => {
                    self.notify(number as usize);
                    act(&mut self.transport);
                }
                _ if choice >> 8 & 0x3f == 0 => {
                    self.set(choice >> 16 & 0xfc, value as u32 >> (choice >> 24 & 31));
                }
                _ => {}
            }
            if self.needs_reset() || choice >> 40 & 0xfff == 0 {
                self.set(register::STATUS, 0);
                self.start();
            }
        }
    }

    /// Writes something into a queue. Numbers are near what there is, so that some
    /// of them are right.
    fn scribble(&mut self, number: usize, choice: u64, value: u64) {
        let (at, memory) = (Self::queue(number), &self.ram.view);
        let written = match choice % 8 {
            0..4 => {
                let address = value >> (8 + (choice >> 8) % 56);
                let bytes = (value as u32) >> (choice >> 16 & 31);
                let (flags, next) = ((choice >> 24) as u16 & 7, (choice >> 32) as u16 & 0x83);
                let descriptor = Descriptor::new(address, bytes, flags, next);
                memory.write_obj(descriptor, GuestAddress(at + 16 * (choice >> 48 & 0x7f)))
            }
            4 => {
                let head = value as u16 & 0xff;
                memory.write_obj(head, GuestAddress(at + 0x1000 + 2 * (choice >> 8 & 0x7f)))
            }
            _ => {
                let count = GuestAddress(at + 0x1002);
                let more = memory.read_obj::<u16>(count).unwrap();
                memory.write_obj(more.wrapping_add(value as u16 & 3), count)
            }
        };
        written.unwrap();
    }
}
